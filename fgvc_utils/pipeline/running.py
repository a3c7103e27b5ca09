"""Run a contest file: stage after stage through papermill, skipping what is done.

    python -m fgvc_utils.pipeline params/demo.yaml [--from STAGE] [--only STAGE] [--dry-run]
    python -m fgvc_utils.pipeline params/demo.yaml [--check] [--accept-code] [--node-rank N]

Before anything runs, the whole contest is checked: every name, type and range, the images and their
classes, networks and weights, what stages take from each other, room and memory (`checking`).

A step is done when its stamp says so: what it read, with which parameters and by which code, and
what it wrote. Where any of that is another, it runs again; one pipeline runs in a run's folder.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.contest.places import NOTEBOOKS
from fgvc_utils.contest.report import summary
from fgvc_utils.core.files import remove_leftovers, write_json
from fgvc_utils.core.locks import Held, only_one
from fgvc_utils.jobs import sources
from fgvc_utils.pipeline import interrupts, seen_files
from fgvc_utils.pipeline.contest_file import Step, injected, read_contest
from fgvc_utils.pipeline.kernels import NotebookFailed, run_notebook
from fgvc_utils.pipeline.machines import (
    Ranks,
    join_run,
    on_machines,
    place_of_this,
    warm_ranks,
)
from fgvc_utils.pipeline.options import add_run_options
from fgvc_utils.pipeline.plan import (
    DONE,
    check_stage_names,
    plan,
    print_plan,
    reason_to_run,
    why_skipped,
)
from fgvc_utils.pipeline.progress import RunProgress, say, shown
from fgvc_utils.pipeline.run_page import PAGE, keep_page
from fgvc_utils.pipeline.stages import STAGES
from fgvc_utils.pipeline.stamps import accept_code, code_of, inputs_of, other_versions, results_of


def print_check(steps: list[Step]) -> bool:
    """Check the whole contest and print what was found; returns whether it can run."""
    from fgvc_utils.pipeline.checking import check

    found = check(steps)
    if found.errors:
        last = f"The contest cannot run: {len(found.errors)} to mend"
    else:
        last = "Nothing was found that would stop the contest"
    stream = sys.stderr if found.errors else sys.stdout
    print(f"{found.text()}\n{last}", file=stream, flush=True)
    return not found.errors


def execute(step: Step) -> None:
    """Run one notebook; its executed copy and then its stamp are written.

    Where the contest file changed meanwhile in what it sets for the step there is no stamp: the
    notebook may have read either state, so the next call runs it again.

    Raises
    ------
    kernels.NotebookFailed
        Where a cell fails, which the copy shows, or where the kernel ended on its own.
    """
    step.stamp.unlink(missing_ok=True)
    parameters = step.cfg.model_dump(mode="json")
    # Taken before the work: what changes meanwhile makes the step stale, and is not missed.
    stamp = {"parameters": parameters, "inputs": inputs_of(step), "code": code_of(step.stage)}
    given = injected(step)
    lists = STAGES[step.stage].lists_images
    seen = seen_files.look(step.cfg) if lists else None
    run_notebook(NOTEBOOKS / f"{step.stage}.ipynb", step.output, given)
    if lists:
        seen_files.keep(step, seen)
    stamp |= {"results": results_of(step), "versions": sources.versions()}
    if injected(step) == given:
        write_json(stamp, step.stamp)
    else:
        print(f"{step.name}: {step.cfg.contest} changed meanwhile; the next call runs it again")


def run(
    path: Path,
    first: str | None,
    only: str | None,
    dry: bool,
    accepts_code: bool = False,
    node_rank: int | None = None,
) -> int:
    """Run a contest file, or only print what would run.

    Parameters
    ----------
    path : Path
        The contest file.
    first, only : str, optional
        Run this stage and all after it, or this one alone, whether done or not.
    dry : bool
        Print the plan and run nothing.
    accepts_code : bool
        Take what only its code makes stale for done first; see `accept_code`.
    node_rank : int, optional
        Above 0 this machine works for the run of another one, until that ends.

    Returns
    -------
    int
        The exit code: 0, or 2 where the check found what would stop the contest.

    Raises
    ------
    ParameterError, locks.Held
        Bad input, or another pipeline works on the run.
    """
    place = place_of_this(node_rank)
    steps = on_machines(read_contest(path), place)
    check_stage_names(steps, first, only)
    if place and (place.node or place.stands_by):
        return join_run(steps, place)
    # What comes after the one stage that runs may be mended later.
    checked = [step for step in steps if not only or step.stage <= only]
    if dry:
        print_check(checked)
        print_plan(plan(steps, first, only))
        return 0
    with warm_ranks(trusted=place is not None) as ranks:
        ranks.start_early(steps)
        if not print_check(checked):
            return 2
        _run_alone(steps, first, only, accepts_code, ranks)
        ranks.well = True
    return 0


def _run_alone(
    steps: list[Step], first: str | None, only: str | None, accepts_code: bool, ranks: Ranks
) -> None:
    """Run the steps while no other pipeline may."""
    folder = steps[0].cfg.folder
    what = f"another pipeline works on the run {folder.name!r} in {folder.parent}"
    advice = "wait for it, end it, or give this contest another `run`"
    with only_one(folder / ".pipeline.lock", what, advice):
        if left := remove_leftovers(folder):
            print(f"{len(left)} files that were cut off half-written are removed")
        for name in accept_code(steps) if accepts_code else ():
            print(f"{name}: done, with code that changed since")
        ranks.open(steps)
        _run_steps(steps, first, only, ranks)


def _run_steps(steps: list[Step], first: str | None, only: str | None, ranks: Ranks) -> None:
    folder = steps[0].cfg.folder
    progress = RunProgress(steps, [p.step.name for p in plan(steps, first, only) if p.reason])
    with shown(progress):
        for number, step in enumerate(steps, 1):
            # Asked only now: the steps before it may have changed what it reads.
            reason = reason_to_run(step, first, only)
            head = f"[{number}/{len(steps)}] {step.name}"
            if not reason:
                progress.skip(step)
                skipped = why_skipped(step, only)
                if skipped == DONE:
                    seen_files.remember(step)
                    other = other_versions(step)
                    skipped += f", with {other}" if other else ""
                say(folder, f"{head}: {skipped}")
                continue
            # One that was cut off before takes less than it would as a whole.
            whole = step.stamp.is_file() or not step.output.is_file()
            interrupts.doing = f"in {step.name}"
            progress.begin(step)
            say(folder, f"{head}: {reason}")
            ranks.start(step.cfg)
            try:
                execute(step)
            except NotebookFailed:
                _page(steps, progress)
                raise
            took = _minutes(progress.end(step, whole=whole))
            say(folder, ", ".join(filter(None, [f"{head}: {took}", progress.left()])))
            _page(steps, progress)
    # Else the last step has written it. What was done before may be by hand, or by another version.
    if not reason:
        _page(steps, progress)
    say(folder, f"finished in {_minutes(time.monotonic() - progress.began)}: {folder / PAGE}")
    print(summary(steps[0].cfg.report))


def _page(steps: list[Step], progress: RunProgress) -> None:
    """Write the run's page, which a failed step is on too; where that fails, say so."""
    if wrong := keep_page(steps, progress.to_run):
        say(steps[0].cfg.folder, wrong)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 0, 1 for a notebook that failed, 2 for bad input or a held run."""
    parser = argparse.ArgumentParser(prog="python -m fgvc_utils.pipeline", description=__doc__)
    parser.add_argument("contest", type=Path, help="the contest file, params/<contest>.yaml")
    add_run_options(parser)
    return carry_out(parser.parse_args(arguments))


def carry_out(options: argparse.Namespace) -> int:
    """Do what a command line asks for, as `add_run_options` and its `contest` say; see `main`."""
    if options.first and options.only:
        print("--from and --only exclude each other", file=sys.stderr)
        return 2
    # papermill's own imports warn of things that are theirs to mend.
    warnings.filterwarnings("ignore", category=DeprecationWarning)

    try:
        if options.check:
            return 0 if print_check(read_contest(options.contest)) else 2
        return run(
            options.contest,
            options.first,
            options.only,
            options.dry_run,
            options.accept_code,
            options.node_rank,
        )
    except (ParameterError, Held) as error:
        print(error, file=sys.stderr)
        return 2
    except NotebookFailed as error:
        print(error, file=sys.stderr)
        return 1
