"""Where the time of a run goes beside its jobs, and the same with a fresh start a launch.

    python benchmarks/overhead.py [params/demo.yaml] [--work FOLDER]
    python benchmarks/overhead.py --read outputs/demo [--before outputs/other]

Runs a contest twice, each in a run folder of its own below FOLDER (default: a temporary folder that
is removed): as it is, and with `warm_ranks: false`, which starts the ranks anew for every launch as
the kit once did. With `--read` it tells of finished runs and runs nothing. The demo's images are
drawn by `python -m fgvc_utils.demo data/demo`.

A line a step, in seconds: *kernel*, from the start of the notebook to its first cell; *imports*,
the cells until the parameters are read; *ranks*, from the call of each launch until rank 0 begins
its work; *jobs*, what they themselves took; *rest*, everything else of the notebook, such as
decoding, tables, plots and the kernel's end. The line *pipeline* is what lies between and around
the notebooks: the check, stamps and, where the whole run was measured, the pipeline's own start.
The *hand-over* is from the call of a launch to the first step of its first job, as a median; once
warm is without the first launch of the run. Launches without a step, such as passes that only
predict, have none.

Times of launches are in `launches/<stage>/times.jsonl` of the run, those of cells in the executed
notebooks. Of a run that was interrupted the last call of each step is told.

The last line is JSON: `seconds` of the run, `jobs_seconds`, `handover_s` (the median once warm),
`share_outside_jobs`, and `before`, the same four of the run with a fresh start a launch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from fgvc_utils.contest.contest_file import read_yaml
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.core.files import read_json

PARTS = ["kernel", "imports", "ranks", "jobs", "rest"]
# The cell after which a notebook knows its parameters.
READS = ".read(globals()"


class Notebook(NamedTuple):
    """When an executed notebook ran, in seconds since 1970, and what it took until it began."""

    name: str
    began: float
    ended: float
    kernel: float
    imports: float


def executed(path: Path) -> Notebook:
    """Read the times of an executed notebook.

    Raises
    ------
    ValueError
        Where it has none, or did not come to its end.
    """
    notebook = read_json(path)
    times = notebook["metadata"].get("papermill", {})
    if not times.get("end_time"):
        raise ValueError(f"{path} did not come to its end; finish the run first")
    began, cells = _seconds(times["start_time"]), notebook["cells"]
    first = _seconds(cells[0]["metadata"]["papermill"]["start_time"])
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    reading = next(n for n, cell in enumerate(code) if READS in "".join(cell["source"]))
    imports = sum(cell["metadata"]["papermill"]["duration"] for cell in code[: reading + 1])
    return Notebook(path.stem, began, _seconds(times["end_time"]), first - began, imports)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def launches_of(run: Path) -> list[dict[str, Any]]:
    """What each launch of a run says of its times, in the order in which they began."""
    lines = [
        json.loads(line)
        for file in run.glob("launches/*/times.jsonl")
        for line in file.read_text("utf-8").splitlines()
    ]
    return sorted(lines, key=lambda launch: launch["began"])


def waited(launch: dict[str, Any]) -> float:
    """Seconds that a launch waited for its ranks."""
    taken = launch["taken"]
    return (launch["ended"] if taken is None else taken) - launch["began"]


def table_of(
    notebooks: Sequence[Notebook], launches: Sequence[dict[str, Any]], whole: float | None = None
) -> pd.DataFrame:
    """A line a step, with the line `pipeline` last: seconds by part, launches, and hand-over.

    Parameters
    ----------
    notebooks
        The executed notebooks, in order.
    launches
        All launches; those outside the times of the notebooks, of calls before, do not count.
    whole
        Seconds of the whole run by the clock; without them it goes from the first notebook's start
        to the last one's end.
    """
    rows = []
    for each in notebooks:
        own = [launch for launch in launches if each.began <= launch["began"] <= each.ended]
        row = {
            "step": each.name,
            "kernel": each.kernel,
            "imports": each.imports,
            "ranks": sum(map(waited, own)),
            "jobs": sum(launch["jobs_seconds"] for launch in own),
        }
        seconds = each.ended - each.began
        rest = seconds - sum(row[part] for part in PARTS[:-1])
        row |= {"rest": rest, "seconds": seconds, "launches": len(own)}
        rows.append(row | {"handover": median_handover(own)})
    table = pd.DataFrame(rows).set_index("step")
    if whole is None:
        whole = notebooks[-1].ended - notebooks[0].began
    around = whole - table["seconds"].sum()
    zeros = dict.fromkeys([*PARTS, "launches"], 0)
    table.loc["pipeline"] = zeros | {"rest": around, "seconds": around, "handover": None}
    return table.astype({"launches": int})


def median_handover(launches: Sequence[dict[str, Any]]) -> float | None:
    """The median of the seconds from call to first step; None where no launch has a step."""
    seconds = [each["first_step"] - each["began"] for each in launches if each["first_step"]]
    return statistics.median(seconds) if seconds else None


def figures_of(table: pd.DataFrame, launches: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """The four figures of a run."""
    seconds, jobs = table["seconds"].sum(), table["jobs"].sum()
    warm = median_handover(launches[1:])
    return {
        "seconds": round(float(seconds), 1),
        "jobs_seconds": round(float(jobs), 1),
        "handover_s": None if warm is None else round(warm, 3),
        "share_outside_jobs": round(float(1 - jobs / seconds), 3),
    }


def told(run: Path, title: str, whole: float | None = None) -> dict[str, float | None]:
    """Print the table of a finished run; returns its figures.

    Raises
    ------
    ValueError
        Where it is not finished, or its launches left no times.
    """
    paths = [run / f"{path.stem}.ipynb" for path in sorted((run / "stages").glob("*.json"))]
    notebooks = sorted(map(executed, filter(Path.is_file, paths)), key=lambda each: each.began)
    if not notebooks:
        raise ValueError(f"{run} has no finished step")
    first, last = notebooks[0].began, notebooks[-1].ended
    launches = [each for each in launches_of(run) if first <= each["began"] <= last]
    if not launches:
        raise ValueError(f"{run}: its launches left no times.jsonl; run it anew")
    table = table_of(notebooks, launches, whole)
    figures = figures_of(table, launches)
    total = table[[*PARTS, "seconds", "launches"]].sum()
    shown = pd.concat([table, total.to_frame("together").T.assign(handover=None)])
    shown["launches"] = shown["launches"].astype(int)
    print(f"\n{title}: {run}")
    print(shown.to_string(float_format="{:.2f}".format, na_rep="-"))
    every, warm = median_handover(launches), figures["handover_s"]
    print(
        f"outside of jobs {figures['share_outside_jobs']:.1%}; median hand-over of "
        f"{sum(bool(each['first_step']) for each in launches)} launches with a step "
        f"{_in_words(every)}, once warm {_in_words(warm)}; longest wait for ranks "
        f"{max(map(waited, launches)):.2f} s"
    )
    return figures


def _in_words(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds:.2f} s"


def run_contest(
    contest: Path, work: Path, name: str, changes: dict[str, Any]
) -> tuple[Path, float]:
    """Run a contest in a folder of its own; returns that folder and the seconds.

    Raises
    ------
    RuntimeError
        Where it fails, or was run there before.
    """
    if (work / name).exists():
        raise RuntimeError(f"{work / name} is there already; give --work another folder")
    file = work / f"{name}.yaml"
    given = read_yaml(contest) | {"run": name, "outputs": str(work)} | changes
    file.write_text(yaml.safe_dump(given, sort_keys=False), "utf-8")
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "fgvc_utils.pipeline", str(file)], cwd=PROJECT)
    if done.returncode:
        raise RuntimeError(f"the run {name} of {contest} failed")
    return work / name, time.monotonic() - began


def main() -> None:
    """Print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description="Where the time of a run goes beside its jobs.")
    parser.add_argument("contest", type=Path, nargs="?", default=PROJECT / "params/demo.yaml")
    parser.add_argument("--work", type=Path, help="folder of the runs; default: a temporary one")
    parser.add_argument("--read", type=Path, help="tell of this finished run, and run nothing")
    parser.add_argument("--before", type=Path, help="with --read: the run to compare it with")
    options = parser.parse_args()
    print(f"{os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f} before the start", flush=True)
    try:
        if options.read:
            figures = told(options.read, "the run")
            before = told(options.before, "before") if options.before else None
        else:
            with tempfile.TemporaryDirectory() as temporary:
                work = options.work or Path(temporary)
                work.mkdir(parents=True, exist_ok=True)
                contest = options.contest.absolute()
                warm = run_contest(contest, work.absolute(), "warm", {"warm_ranks": True})
                fresh = run_contest(contest, work.absolute(), "fresh", {"warm_ranks": False})
                figures = told(warm[0], "warm ranks", warm[1])
                before = told(fresh[0], "a fresh start a launch", fresh[1])
    except (ValueError, RuntimeError) as error:
        sys.exit(str(error))
    print(json.dumps(figures | {"before": before}))


if __name__ == "__main__":
    main()
