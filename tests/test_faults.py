"""The runs into faults themselves: what counts as lost, and one kill from beginning to end."""

import importlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent / "faults"


@pytest.fixture
def faults(monkeypatch):
    """Import a module of the folder by name, as a call of the folder does."""
    monkeypatch.syspath_prepend(HERE)
    yield importlib.import_module
    for name in ("kills", "fuzz", "decisions", "__main__"):
        module = sys.modules.get(name)
        if module is not None and str(HERE) in (getattr(module, "__file__", None) or ""):
            del sys.modules[name]


@pytest.fixture
def whole(faults):
    """The module that runs all three."""
    spec = importlib.util.spec_from_file_location("all_faults", HERE / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FINE = {
    "kills": {"kills": 27, "same_submission": True, "differences": [], "orphans": 0},
    "fuzz": {"fuzz_inputs": 2400, "fuzz_unhandled": 0, "used": 3},
    "decisions": {"decisions": 10_000, "decisions_lost": 0, "kills": 24},
}


def told(whole, monkeypatch, tmp_path, capsys, **changes):
    """Exit code and last line of a run whose parts say what is given."""
    given = {name: FINE[name] | changes.get(name, {}) for name in FINE}

    class Module:
        def __init__(self, name):
            self.name = name

        def run(self, folder, seed):
            if "raises" in given[self.name]:
                raise RuntimeError("it hangs")
            return given[self.name]

    monkeypatch.setattr(whole.importlib, "import_module", Module)
    code = whole.main(["--folder", str(tmp_path)])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_last_line_has_the_six_figures(whole, monkeypatch, tmp_path, capsys):
    code, figures = told(whole, monkeypatch, tmp_path, capsys)
    assert code == 0
    assert figures == {
        "kills": 27,
        "same_submission": True,
        "fuzz_inputs": 2400,
        "fuzz_unhandled": 0,
        "decisions": 10_000,
        "decisions_lost": 0,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"kills": {"same_submission": False}},
        {"kills": {"orphans": 1}},
        {"kills": {"differences": ["tables/01_noise.parquet"]}},
        {"kills": {"raises": True}},
        {"fuzz": {"fuzz_unhandled": 1}},
        {"decisions": {"decisions_lost": 1}},
    ],
)
def test_whatever_is_lost_fails_the_whole(whole, monkeypatch, tmp_path, capsys, changes):
    code, figures = told(whole, monkeypatch, tmp_path, capsys, **changes)
    assert code == 1 and set(figures) == {key for keys in whole.COUNTED.values() for key in keys}


def test_moments_are_drawn_for_every_step_and_way_the_latest_first(faults, tmp_path):
    kills = faults("kills")
    expected = {"01_noise": 30.0, "40_submit": 5.0}
    chain = kills.Chain(tmp_path / "c.yaml", tmp_path, tmp_path, expected, 4, 0)
    assert all(m == sorted(m) and len(m) == 4 for m in chain.moments.values())
    assert all(0 <= m <= 5 for m in chain.moments["40_submit"])
    assert sorted(chain.ways["01_noise"]) == sorted(kills.WAYS)
    assert "rank" not in chain.ways["40_submit"], "40 launches nothing"
    again = kills.Chain(tmp_path / "c.yaml", tmp_path, tmp_path, expected, 4, 0)
    assert (again.moments, again.ways) == (chain.moments, chain.ways)


@pytest.fixture
def call(faults, tmp_path):
    """Start the pipeline on the first stages of the tiny contest; a function of a step's name.

    Returns the module, the call, and what it has begun with.
    """
    kills = faults("kills")
    kills.draw_demo(tmp_path / "data" / "tiny", **kills.TINY)
    stages = {"01_noise", "02_coarse"}
    short = {k: v for k, v in kills.CONTEST.items() if k in stages or not k[0].isdigit()}
    short["02_coarse"] = {**short["02_coarse"], "planted_share": 0.0}
    short.pop("test_ratios"), short.pop("feature_views")
    kills.CONTEST = short
    contest, calls = kills.write_contest(tmp_path, "out"), []

    def start():
        calls.append(kills.Pipeline(contest, tmp_path / "data"))
        return calls[-1]

    yield kills, start
    for each in calls:
        for process in each.marked():
            process.kill()


def wait_for(found, seconds=120):
    """The first true answer of `found`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(0.05)
    raise AssertionError("it did not come")


def drained(call):
    """All lines of a call that comes to its end, and its exit code."""
    while call.next_line(300) is not None:
        pass
    return "\n".join(call.lines), call.process.wait(60)


@pytest.mark.slow
def test_ctrl_c_ends_kernel_and_ranks_and_a_killed_run_goes_on_to_the_same_table(call, tmp_path):
    kills, start = call
    first = start()
    wait_for(first.ranks)
    # A second pipeline says who holds the run, and disturbs it in nothing.
    said, code = drained(start())
    assert code == 2 and f"(process {first.process.pid} on " in said
    first.process.send_signal(signal.SIGINT)
    said, code = drained(first)
    assert code == 130 and "interrupted; call again" in said, said[-3000:]
    assert first.left() == []

    second = start()
    (rank,) = wait_for(second.ranks)
    rank.kill()
    said, code = drained(second)
    assert code == 1 and "rank 0 was ended by SIGKILL" in said
    assert second.left() == []

    third = start()
    (kernel,) = wait_for(lambda: third.ranks() and third.kernels())
    kernel.kill()
    said, code = drained(third)
    assert code == 1 and "the kernel of 01_noise.ipynb died" in said and "Traceback" not in said
    assert third.left() == []

    fourth = start()
    wait_for(fourth.ranks)
    psutil.Process(fourth.process.pid).kill()
    assert fourth.left() == []

    said, code = drained(start())
    assert code == 0, said[-3000:]
    killed = (tmp_path / "out/tiny/tables/02_coarse.parquet").read_bytes()
    kills.run_through(kills.write_contest(tmp_path, "alone"), tmp_path / "data")
    assert (tmp_path / "alone/tiny/tables/02_coarse.parquet").read_bytes() == killed

    # Moved to another place, what is done stays done.
    (tmp_path / "alone").rename(tmp_path / "elsewhere")
    command = [sys.executable, "-m", "fgvc_utils.pipeline", "--dry-run"]
    moved = kills.write_contest(tmp_path, "elsewhere")
    environment = kills.os.environ | {"FGVC_DATA": str(tmp_path / "data")}
    plan = subprocess.run(
        [*command, str(moved)], capture_output=True, text=True, cwd=kills.PROJECT, env=environment
    )
    assert plan.stdout.count("skip, done before") == 2, plan.stdout + plan.stderr
    # And its jobs, should a stage run again there.
    again = kills.Pipeline(moved, tmp_path / "data")
    assert drained(again)[1] == 0
