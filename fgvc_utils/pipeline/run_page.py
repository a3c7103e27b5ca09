"""The page of a run after each of its steps, and by hand for a run that is there.

    python -m fgvc_utils.pipeline.run_page outputs/demo

The page is `index.html` in the run's folder; see `pages.run_page`.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from fgvc_utils.contest.contest_file import notebook_defaults
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.core.naming import in_line
from fgvc_utils.pages.runs import PAGE, Run, StageFacts, find_run
from fgvc_utils.pipeline.contest_file import Step
from fgvc_utils.pipeline.stages import STAGES


def stage_facts() -> dict[str, StageFacts]:
    """What pages say of each stage: its line, and the parameters that it usually has."""
    facts = {}
    for name, stage in STAGES.items():
        usual = stage.parameters(**notebook_defaults(name)).model_dump(mode="json")
        facts[name] = StageFacts(stage.does, usual)
    return facts


def write_page(folder: Path, named: Sequence[str] = (), to_run: Iterable[str] = ()) -> Path:
    """Write the page of a run; the arguments are those of `pages.run_page.write_page`."""
    from fgvc_utils.pages import run_page

    return run_page.write_page(Run(folder, stage_facts()), named, list(to_run))


def keep_page(steps: Sequence[Step], to_run: Iterable[str] = ()) -> str:
    """Write the page of a run that goes on, whatever becomes of the page.

    Parameters
    ----------
    steps : sequence of Step
        All steps of the contest.
    to_run : iterable of str
        The names of those that are still to run.

    Returns
    -------
    str
        What to tell: empty, or why there is no new page.
    """
    try:
        write_page(steps[0].cfg.folder, [step.name for step in steps], to_run)
    # A page is for reading. Hours of work must not end for it, whatever it met.
    except Exception as error:
        why = in_line(f"{type(error).__name__}: {error}")
        return f"the run's page, {PAGE}, could not be written ({why}); the run goes on"
    return ""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 0, or 2 where a folder is no run or cannot be written."""
    parser = argparse.ArgumentParser(
        prog="python -m fgvc_utils.pipeline.run_page",
        description="Write the page of a run, index.html in its folder, as the run is now.",
    )
    parser.add_argument("run", nargs="+", help="a run's folder, its name in outputs/, or its file")
    options = parser.parse_args(arguments)
    try:
        for run in [find_run(name) for name in options.run]:
            print(write_page(run.folder))
    except ParameterError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        why = error.strerror or error
        print(f"the page in {run.folder} cannot be written: {why}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
