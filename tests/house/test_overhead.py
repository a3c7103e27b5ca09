"""Where the time of a run goes, on executed notebooks and times that can be added by hand."""

import importlib.util
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "overhead.py"
spec = importlib.util.spec_from_file_location("overhead", SCRIPT)
overhead = importlib.util.module_from_spec(spec)
spec.loader.exec_module(overhead)

BEGAN = 1_800_000_000.0


def at(seconds):
    return datetime.fromtimestamp(BEGAN + seconds, UTC).isoformat()


def notebook(began, ended, kernel=0.5):
    """A notebook whose cells begin `kernel` seconds after it and read its parameters in 1 s."""

    def cell(kind, source, start, duration):
        times = {"start_time": at(start), "duration": duration}
        return {"cell_type": kind, "source": [source], "metadata": {"papermill": times}}

    start = began + kernel
    cells = [
        cell("markdown", "# What it is", start, 0.0),
        cell("code", "import numpy as np", start, 0.75),
        cell("code", "seed: int = 0", start + 0.75, 0.125),
        cell("code", 'cfg = Params.read(globals(), "01_noise")', start + 0.875, 0.125),
        cell("code", "run_jobs(jobs, cfg, STAGE)", start + 1, ended - start - 1),
    ]
    times = {"start_time": at(began), "end_time": None if ended is None else at(ended)}
    return {"metadata": {"papermill": times}, "cells": cells}


def launch(began, taken, first_step, ended, jobs_seconds):
    def moment(seconds):
        return None if seconds is None else BEGAN + seconds

    return {
        "launch": f"launch-{began}",
        "began": moment(began),
        "taken": moment(taken),
        "first_step": moment(first_step),
        "ended": moment(ended),
        "jobs": 1,
        "jobs_seconds": jobs_seconds,
        "server": 0.0,
    }


@pytest.fixture
def run(tmp_path):
    """A run of two steps, of which the first had been interrupted before."""
    (tmp_path / "stages").mkdir()
    for name, (began, ended) in {"01_noise": (100, 130), "40_submit": (131, 135)}.items():
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(notebook(began, ended)))
        (tmp_path / "stages" / f"{name}.json").write_text("{}")
    lines = {
        "01_noise": [
            launch(50, 51, 52, 60, 9.0),  # of the call that was interrupted
            launch(102, 106, 107, 112, 5.0),
            launch(113, 113.25, 113.5, 118, 4.0),
        ],
        # Another launch of the same step: it predicts, so there is no first step.
        "01_noise-views": [launch(120, 120.5, None, 125, 4.0), launch(126, None, None, 127, 0.0)],
    }
    for name, launches in lines.items():
        folder = tmp_path / "launches" / name
        folder.mkdir(parents=True)
        (folder / "times.jsonl").write_text("".join(json.dumps(one) + "\n" for one in launches))
    return tmp_path


def test_every_second_of_a_run_is_counted_once(run):
    notebooks = [overhead.executed(run / f"{name}.ipynb") for name in ("01_noise", "40_submit")]
    launches = overhead.launches_of(run)
    table = overhead.table_of(notebooks, launches, whole=40.0)
    first = table.loc["01_noise"]
    # Waits of 4, .25 and .5 s, and of a launch that ended before its ranks began.
    assert first[overhead.PARTS].tolist() == pytest.approx([0.5, 1.0, 5.75, 13.0, 9.75])
    assert first["launches"] == 4 and first["seconds"] == pytest.approx(30)
    assert first["handover"] == pytest.approx((5 + 0.5) / 2)
    assert table.loc["40_submit", "rest"] == pytest.approx(4 - 1.5)
    assert table.loc["pipeline", "rest"] == pytest.approx(40 - 34)
    assert table["seconds"].sum() == pytest.approx(40)
    assert table[overhead.PARTS].to_numpy().sum() == pytest.approx(40)


def test_the_last_line_has_the_figures_of_both_runs(run):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--read", str(run), "--before", str(run)],
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    # The launch of the call that was interrupted counts in nothing.
    assert figures.pop("before") == figures
    assert figures == {
        "seconds": 35.0,
        "jobs_seconds": 13.0,
        "handover_s": 0.5,
        "share_outside_jobs": round(1 - 13 / 35, 3),
    }
    assert "2 launches with a step 2.75 s, once warm 0.50 s" in done.stdout


def test_a_run_that_is_not_finished_or_left_no_times_is_refused(run):
    for file in run.glob("launches/*/times.jsonl"):
        file.unlink()
    with pytest.raises(ValueError, match="left no times"):
        overhead.told(run, "a run")
    unfinished = notebook(100, 130)
    unfinished["metadata"]["papermill"]["end_time"] = None
    (run / "40_submit.ipynb").write_text(json.dumps(unfinished))
    with pytest.raises(ValueError, match="40_submit.ipynb did not come to its end"):
        overhead.told(run, "a run")
