"""Run the kit into faults: kills over a whole run, mutated files and trees, two writers' decisions.

`python tests/faults [--folder FOLDER] [--seed 0]` runs `kills`, `fuzz`, `trees` and `decisions` of
this folder one after the other, each of which can be called alone too, and prints their reports.
The last line is JSON with `kills`, `same_submission`, `fuzz_inputs`, `fuzz_unhandled`, `trees`,
`trees_unhandled`, `decisions` and `decisions_lost`. The exit code is 1 where something was lost or
a run did not come to its end. It takes about half an hour on two cores.
"""

import argparse
import importlib
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path

# Module → what it counts, and which of it must be there or be none.
COUNTED = {
    "kills": ("kills", "same_submission"),
    "fuzz": ("fuzz_inputs", "fuzz_unhandled"),
    "trees": ("trees", "trees_unhandled"),
    "decisions": ("decisions", "decisions_lost"),
}
MUST_BE_NONE = ("differences", "orphans", "leftovers", "fuzz_unhandled", "decisions_lost")
MUST_BE_NONE += ("decisions_doubled", "trees_unhandled")


def what_was_lost(figures: dict) -> list[str]:
    """Names of the figures of one run that say that something was lost."""
    lost = [name for name in MUST_BE_NONE if figures.get(name)]
    return lost + [name for name, value in figures.items() if value is False]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 1 where something was lost."""
    parser = argparse.ArgumentParser(prog="python tests/faults", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to work; else in a temporary folder")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    counted, failed = {}, False
    with tempfile.TemporaryDirectory() as temporary:
        for name, keys in COUNTED.items():
            folder = (given.folder or Path(temporary)) / name
            folder.mkdir(parents=True, exist_ok=True)
            print(f"--- {name}", flush=True)
            started, figures = time.monotonic(), {}
            try:
                figures = importlib.import_module(name).run(folder, given.seed)
            except Exception:
                # The others are run all the same; the whole has failed.
                traceback.print_exc()
                failed = True
            lost = what_was_lost(figures)
            failed |= bool(lost)
            counted |= {key: figures.get(key) for key in keys}
            took = time.monotonic() - started
            print(f"{name}: {took:.0f} s, lost: {', '.join(lost) or 'nothing'}", flush=True)
    print(json.dumps(counted))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
