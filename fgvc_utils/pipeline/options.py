"""What the run of a contest takes on its command line, apart from what it takes to load to run it.

Counts in no digest.
"""

import argparse


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run to a command line."""
    parser.add_argument(
        "--from", dest="first", metavar="STAGE", help="run this stage and all after it anew"
    )
    parser.add_argument("--only", metavar="STAGE", help="run this stage alone, anew")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and why")
    parser.add_argument("--check", action="store_true", help="only look for what would stop it")
    parser.add_argument(
        "--accept-code",
        action="store_true",
        help="take what is done for done although the package's code changed since",
    )
    parser.add_argument(
        "--node-rank",
        type=int,
        metavar="N",
        help="above 0: work, as another of its machines, for the run that node 0 executes",
    )
