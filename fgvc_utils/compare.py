"""Compare two runs: `python -m fgvc_utils.compare outputs/a outputs/b`; see `pages.compare_page`.

What differs in parameters, tables, models and answers is printed in short, and written as a page
with pictures that needs neither a server nor a network.
"""

import argparse
import sys
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    options = argparse.ArgumentParser(
        prog="fgvc compare",
        description="Say how a second run differs from a first one, and write a page of it.",
    )
    options.add_argument("one", help="the first run: its folder, its name in outputs/, or its file")
    options.add_argument("other", help="the second run")
    options.add_argument(
        "-o",
        "--output",
        type=Path,
        help="the page; by default compare-<first>.html in the second run's folder",
    )
    return options


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 0, or 2 where there is nothing to compare or to write to."""
    options = parser().parse_args(arguments)
    from fgvc_utils.core.output import exit_code

    return exit_code(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> None:
    # After the options, so that --help is quick.
    from fgvc_utils.pages.compare_page import compare, in_words, write_comparison
    from fgvc_utils.pages.runs import find_run
    from fgvc_utils.pipeline.run_page import stage_facts

    facts = stage_facts()
    one, other = find_run(options.one, facts), find_run(options.other, facts)
    path = options.output or other.folder / f"compare-{one.name}.html"
    if path.is_dir():
        path = path / f"compare-{one.name}-{other.name}.html"
    found = compare(one, other)
    try:
        write_comparison(one, other, found, path)
    except OSError as error:
        why = error.strerror or error
        raise OSError(f"the page {path} cannot be written: {why}; name another by -o") from error
    print(f"{in_words(one, other, found)}\npage: {path}")


if __name__ == "__main__":
    sys.exit(main())
