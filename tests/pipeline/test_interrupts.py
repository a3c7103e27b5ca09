"""Ctrl-C, at whatever moment, ends a run with two lines and leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress

import psutil
import pytest
from tiny_contest import PROJECT, TINY_CONTEST, environment, make_contest

# A variable that every process of a run inherits, so that none can hide.
MARK = "FGVC_INTERRUPT_TEST"


class Call:
    """A call of the pipeline on a contest, as a shell starts it: in its own process group."""

    def __init__(self, folder):
        self.mark, self.said = uuid.uuid4().hex, folder / "said"
        with open(self.said, "wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fgvc_utils.pipeline", str(folder / "tiny.yaml")],
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=environment(folder) | {MARK: self.mark},
                cwd=PROJECT,
                start_new_session=True,
            )

    def running(self):
        """The processes of this call that run, wherever they hang by now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def has_loaded(self, library):
        with suppress(OSError), open(f"/proc/{self.process.pid}/maps", encoding="utf-8") as maps:
            return library in maps.read()
        return False


@pytest.fixture
def call(tmp_path):
    """A function that calls the pipeline on a contest of 01 alone."""
    calls = []

    def start():
        calls.append(Call(tmp_path))
        return calls[-1]

    yield start
    for each in calls:
        for process in each.running():
            process.kill()


def wait_for(found, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come")


def ends(call, number=signal.SIGINT, to_all=True):
    """Send the signal; returns the exit code and what was said after it, once nothing runs."""
    before = call.said.stat().st_size
    (os.killpg if to_all else os.kill)(call.process.pid, number)
    code = call.process.wait(60)
    assert call.running() == []
    return code, call.said.read_bytes()[before:].decode().splitlines()


def test_an_interrupt_during_the_imports_says_what_to_do(call):
    each = call()
    # The first library that it loads.
    wait_for(lambda: each.has_loaded("psutil"))
    code, said = ends(each)
    assert code == 130
    assert said == ["interrupted; what is done is kept", "call again to go on where it stopped"]


@pytest.mark.slow
def test_an_interrupt_at_any_moment_ends_all_with_two_lines(tmp_path, call):
    shared = {key: value for key, value in TINY_CONTEST.items() if not key[0].isdigit()}
    shared.pop("test_ratios")
    folder = make_contest(tmp_path, shared | {"01_noise": TINY_CONTEST["01_noise"]})
    events = folder / "outputs/tiny/launches/01_noise/events.jsonl"

    during_the_check = call()
    wait_for(lambda: during_the_check.has_loaded("libtorch_cpu"))
    code, said = ends(during_the_check)
    assert (code, said[0]) == (130, "interrupted; what is done is kept") and len(said) == 2

    def kernels(each):
        return [p for p in each.running() if "ipykernel_launcher" in " ".join(p.cmdline())]

    with_a_kernel = call()
    wait_for(lambda: kernels(with_a_kernel))
    code, said = ends(with_a_kernel)
    assert (code, said[0]) == (130, "interrupted in 01_noise; what is done is kept")
    assert len(said) == 2, said

    while_ranks_start = call()
    wait_for(events.exists)
    code, said = ends(while_ranks_start)
    assert code == 130 and len(said) == 2, said

    while_ranks_work = call()
    wait_for(lambda: b'"step"' in events.read_bytes())
    code, said = ends(while_ranks_work, signal.SIGTERM, to_all=False)
    assert (code, said[0]) == (143, "ended by SIGTERM in 01_noise; what is done is kept")
    assert len(said) == 2, said
