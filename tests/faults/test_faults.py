"""The runs into faults themselves: what counts as lost, and one kill from beginning to end."""

import importlib
import json
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny_contest import run_pipeline

HERE = Path(__file__).parent


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
    """The module that runs all of them."""
    spec = importlib.util.spec_from_file_location("all_faults", HERE / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FINE = {
    "kills": {"kills": 27, "same_submission": True, "differences": [], "orphans": 0},
    "fuzz": {"fuzz_inputs": 2400, "fuzz_unhandled": 0, "used": 3},
    "trees": {"trees": 400, "trees_unhandled": 0, "used": 5},
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
        "trees": 400,
        "trees_unhandled": 0,
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
        {"trees": {"trees_unhandled": 1}},
        {"decisions": {"decisions_lost": 1}},
    ],
)
def test_whatever_is_lost_fails_the_whole(whole, monkeypatch, tmp_path, capsys, changes):
    code, figures = told(whole, monkeypatch, tmp_path, capsys, **changes)
    assert code == 1 and set(figures) == {key for keys in whole.COUNTED.values() for key in keys}


def test_moments_are_drawn_for_every_step_and_way(faults, tmp_path):
    kills = faults("kills")
    expected = {"01_noise": 30.0, "40_submit": 5.0}
    count = len(kills.WAYS)
    chain = kills.Chain(tmp_path / "c.yaml", tmp_path, tmp_path, expected, count, 0)
    for step, work in expected.items():
        waits = chain.waits[step]
        # Together they stay within the step's work, so that every one comes before its end.
        assert len(waits) == count and min(waits) >= 0 and sum(waits) <= work
    assert sorted(chain.ways["01_noise"]) == sorted(kills.WAYS)
    assert "rank" not in chain.ways["40_submit"], "40 launches nothing"
    assert {"04_lowq", "40_submit"} == set(kills.WITHOUT_RANKS) <= kills.CONTEST.keys()
    again = kills.Chain(tmp_path / "c.yaml", tmp_path, tmp_path, expected, count, 0)
    assert (again.waits, again.ways) == (chain.waits, chain.ways)


@pytest.fixture
def call(faults, tmp_path):
    """The module of the kills, and a function that starts the pipeline on a contest of 01 alone."""
    kills = faults("kills")
    kills.draw_demo(tmp_path / "data" / "tiny", **kills.TINY)
    later = ("test_ratios", "feature_views")
    shared = {k: v for k, v in kills.CONTEST.items() if not k[0].isdigit() and k not in later}
    kills.CONTEST = shared | {"01_noise": kills.CONTEST["01_noise"]}
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
def test_a_run_that_was_interrupted_and_killed_goes_on_to_the_same_table(call, tmp_path):
    kills, start = call
    # Meanwhile, on the other core.
    with ThreadPoolExecutor(1) as beside:
        alone = kills.write_contest(tmp_path, "alone")
        left_alone = beside.submit(kills.run_through, alone, tmp_path / "data")
        interrupt_and_kill(start)
        left_alone.result()
    killed = (tmp_path / "out/tiny/tables/01_noise.parquet").read_bytes()
    assert (tmp_path / "alone/tiny/tables/01_noise.parquet").read_bytes() == killed
    # Moved to another place, what is done stays done.
    (tmp_path / "alone").rename(tmp_path / "elsewhere")
    kills.write_contest(tmp_path, "elsewhere")
    plan = run_pipeline(tmp_path, "--dry-run", file="elsewhere.yaml")
    assert "\n01_noise: skip, done before" in plan.stdout, plan.stdout + plan.stderr


def interrupt_and_kill(start):
    """Interrupt a run, kill it when it goes on, and let it come to its end."""
    first = start()
    wait_for(first.ranks)
    # A second pipeline says who holds the run, and disturbs it in nothing. The first one stands
    # still meanwhile: it could be done before the second one has begun.
    first.process.send_signal(signal.SIGSTOP)
    said, code = drained(start())
    assert code == 2 and f"(process {first.process.pid} on " in said
    first.process.send_signal(signal.SIGINT)
    first.process.send_signal(signal.SIGCONT)
    said, code = drained(first)
    assert code == 130 and "interrupted in 01_noise" in said, said[-3000:]
    assert first.left() == []

    second = start()
    wait_for(second.ranks)
    second.process.kill()
    assert second.left() == [], "kernel and ranks end with the pipeline"

    said, code = drained(start())
    assert code == 0, said[-3000:]


@pytest.mark.slow
def test_a_rank_or_a_kernel_that_is_killed_is_told(call):
    _, start = call
    first = start()
    (rank,) = wait_for(first.ranks)
    rank.kill()
    said, code = drained(first)
    assert code == 1 and "rank 0 was ended by SIGKILL" in said, said[-3000:]
    assert first.left() == []

    second = start()
    (kernel,) = wait_for(lambda: second.ranks() and second.kernels())
    kernel.kill()
    said, code = drained(second)
    assert code == 1 and "the kernel of 01_noise.ipynb died" in said, said[-3000:]
    assert "lower micro_batch" in said and "Traceback" not in said
    assert second.left() == []
