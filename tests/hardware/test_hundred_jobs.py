"""A hundred jobs on warm ranks, with failures between them: results and memory of fresh ones."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from small_jobs import draw_pictures, small_job

from fgvc_utils.hardware.failures import RankFailed
from fgvc_utils.hardware.launch import end, launch
from fgvc_utils.hardware.plan import Hardware
from fgvc_utils.jobs.done import is_done
from fgvc_utils.jobs.running import write_job

COUNT = 100
FAILS, INTERRUPTED, KILLED = 30, 50, 70
# Of the server after the tenth job; a leak of a network's weights a job would be fifty times that.
GROWS_AT_MOST = 20e6


def _job(folder: Path, number: int):
    return small_job(folder / f"job-{number:03d}", seed=number, epochs=1)


def _weights(job) -> bytes:
    return (Path(job.folder) / "weights.safetensors").read_bytes()


def _memory(stay: bool) -> float:
    """Memory of the server, and of ranks that stay, in bytes."""
    total = 0
    for process in psutil.Process().children():
        if "hardware.server" in " ".join(process.cmdline()):
            kept = process.children() if stay else []
            total += sum(each.memory_info().rss for each in [process, *kept])
    return total


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("stay", [False, True], ids=["forked", "staying"])
def test_a_hundred_jobs(tmp_path: Path, stay: bool):
    end()
    rows = draw_pictures(tmp_path / "pictures", 32)
    hardware = Hardware(processes=1, threads=1, device="cpu", stay=stay)
    files = {number: str(write_job(_job(tmp_path, number), rows)) for number in range(COUNT)}
    memory: list[float] = []
    for number, file in files.items():
        folder = tmp_path / "launch"
        if number == FAILS:
            broken = tmp_path / "broken.json"
            broken.write_text(json.dumps({"rank": 0}))
            with pytest.raises(RankFailed, match="thrown on purpose by rank 0"):
                launch([broken], folder, hardware, entry="launch_workers:fail")
        if number in (INTERRUPTED, KILLED):
            victim = os.getpid() if number == INTERRUPTED else "rank"
            with _meanwhile(victim, tmp_path):
                error = KeyboardInterrupt if number == INTERRUPTED else RankFailed
                with pytest.raises(error):
                    launch([file], folder, hardware, entry="launch_workers:hang")
        launch([file], folder, hardware)
        memory.append(_memory(stay))
    end()
    assert all(is_done(_job(tmp_path, number)) for number in files)
    assert max(memory[-20:]) - max(memory[5:15]) < GROWS_AT_MOST, memory
    alone = tmp_path / "alone"
    for number in (0, FAILS, INTERRUPTED, KILLED, COUNT - 1):
        fresh = _job(alone, number)
        cold = Hardware(processes=1, threads=1, device="cpu", warm=False)
        launch([write_job(fresh, rows)], tmp_path / "alone-launch", cold)
        assert _weights(fresh) == _weights(_job(tmp_path, number)), number


class _meanwhile:
    """Another process that sends a signal: SIGINT to this one, or SIGKILL to its rank."""

    def __init__(self, victim: int | str, folder: Path):
        self.victim, self.folder = victim, folder

    def __enter__(self) -> None:
        launched = self.folder / "launch" / "processes-0.json"
        launched.unlink(missing_ok=True)
        code = (
            "import json, os, sys, time\n"
            "while not os.path.exists(sys.argv[1]) or not os.path.getsize(sys.argv[1]):\n"
            "    time.sleep(0.01)\n"
            "(rank,) = json.load(open(sys.argv[1]))\n"
            "victim = rank if sys.argv[2] == 'rank' else int(sys.argv[2])\n"
            "os.kill(victim, int(sys.argv[3]))\n"
        )
        number = signal.SIGKILL if self.victim == "rank" else signal.SIGINT
        command = [sys.executable, "-c", code, str(launched), str(self.victim), str(int(number))]
        self.process = subprocess.Popen(command)

    def __exit__(self, *_: object) -> None:
        self.process.wait(30)
