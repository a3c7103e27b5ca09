"""A contest on a real Slurm of two nodes on this machine: cancelled, a rank killed, a node lost.

In the end its results are, to the byte, those of a run without a cluster.
"""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import slurm
import yaml
from tiny_contest import environment

from fgvc_utils.contest.places import PROJECT
from fgvc_utils.core.files import file_digest
from fgvc_utils.demo.drawing import TINY, draw_demo
from fgvc_utils.jobs.done import result_of

# Enough for three ends in the middle of a fit.
EPOCHS = 48
SMALL = {"global_batch": 8, "micro_batch": 4}
CONTEST = {
    "run": "tiny",
    "data_root": "tiny",
    "device": "cpu",
    # Sums of floats depend on the number of threads.
    "threads": 1,
    "cache_side": 88,
    "test_ratios": [],
    "feature_views": 1,
    "01_noise": {**SMALL, "size": 64, "epochs": 3, "max_rounds": 1, "train": "train.csv"},
    "10_train": {
        **SMALL,
        "name": "one",
        "table": "01_noise",
        "fold_table": "01_noise",
        "backbone": "test_efficientnet",
        "weights": "none",
        "size": 64,
        "epochs": EPOCHS,
        "mix": "none",
    },
    "30_ensemble": {**SMALL, "table": "01_noise", "plain_models": 0, "epochs": 3},
    "40_submit": {"table": "01_noise", "known_count": 4},
}


def write_contest(folder: Path, name: str, **parameters: int) -> Path:
    file = folder / f"{name}.yaml"
    contest = CONTEST | parameters | {"outputs": str(folder / name)}
    file.write_text(yaml.safe_dump(contest, sort_keys=False))
    return file


def outcome(run: Path) -> dict[str, str]:
    """Digests of tables, scores, weights and the submission."""
    files = [*sorted((run / "tables").glob("*.parquet")), run / "submission.csv"]
    files += [run / "ensemble/vote/index.json"]
    told = {file.relative_to(run).as_posix(): file_digest(file) for file in files}
    return told | {"model": result_of(run / "models/one")}


class Submitted:
    """The contest in the queue, and what its log tells."""

    def __init__(self, cluster: slurm.Cluster, contest: Path) -> None:
        self.cluster, self.began = cluster, time.monotonic()
        pattern = contest.parent / "slurm-%j.log"
        command = ["sbatch", "--parsable", f"--output={pattern}", "cluster/slurm.sbatch"]
        self.number = cluster.run(*command, str(contest)).strip()
        self.log = contest.parent / f"slurm-{self.number}.log"
        self.say("submitted")

    def say(self, what: str) -> None:
        print(f"{time.monotonic() - self.began:5.0f} s  job {self.number}: {what}", flush=True)

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def told(self) -> str:
        return f"{self.cluster.job(self.number)}\n{self.text()}\n{self.cluster.logs()}"

    def comes(self, what: Callable[[], bool], name: str, seconds: float = 240) -> None:
        """Wait for something, while the job runs."""

        def come() -> bool:
            state = self.cluster.job(self.number)["JobState"]
            assert state in ("PENDING", "RUNNING", "COMPLETING"), self.told()
            return what()

        slurm.wait_for(come, seconds, self.told)
        self.say(name)

    def epochs(self) -> list[int]:
        """The epochs that the log tells of, in the order of their lines."""
        return [int(number) for number in re.findall(rf"epoch (\d+)/{EPOCHS} ", self.text())]

    def comes_to_epoch(self, least: int) -> None:
        self.comes(lambda: max(self.epochs(), default=0) >= least, f"epoch {least} of {EPOCHS}")

    def ends(self, *states: str, seconds: float = 240) -> str:
        found = self.cluster.wait(self.number, *states, seconds=seconds)
        self.say(f"{found['JobState']}, exit code {found['ExitCode']}")
        return found["ExitCode"]

    def rank_of(self, node: str) -> psutil.Process:
        """The rank of a node, which the command there has started."""
        here = self.cluster.tasks(node)
        commands = [each for each in here if "fgvc_utils.pipeline" in each.cmdline()]
        parents = {each.pid for each in commands}
        (rank,) = [each for each in commands if each.ppid() in parents]
        return rank


@pytest.mark.slow
@pytest.mark.long
def test_a_contest_on_two_nodes_ends_as_without_a_cluster(
    cluster: slurm.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(PROJECT)
    draw_demo(tmp_path / "data" / "tiny", **TINY)
    cluster.environment |= {"PYTHON": sys.executable, "FGVC_DATA": str(tmp_path / "data")}
    contest = write_contest(tmp_path, "cluster", processes=1)

    # Cancelled in the middle of a fit.
    first = Submitted(cluster, contest)
    first.comes_to_epoch(4)
    cluster.run("scancel", first.number)
    first.ends("CANCELLED")
    assert cluster.tasks() == []

    # A rank of the other node is killed.
    second = Submitted(cluster, contest)
    second.comes_to_epoch(16)
    second.rank_of("n2").send_signal(signal.SIGKILL)
    second.say("the rank of n2 is killed")
    assert second.ends("FAILED") == "1:0", second.told()
    assert "rank 1 was ended by SIGKILL" in second.text()
    assert min(second.epochs()) > 4, "it goes on after the last whole epoch"

    # The other node is lost: the job goes back into the queue, and on when there are two again.
    third = Submitted(cluster, contest)
    third.comes_to_epoch(28)
    cluster.lose_node("n2")
    third.say("n2 is lost")
    third.comes(lambda: "goes back into the queue" in third.text(), "back in the queue")
    assert re.search(r"node 1 \(.*\) was lost", third.text()), third.told()
    before = third.epochs()
    cluster.start_node("n2")
    cluster.wait(third.number, "PENDING")
    # By itself it begins some minutes later.
    cluster.run("scontrol", "update", f"jobid={third.number}", "starttime=now")
    assert third.ends("COMPLETED") == "0:0", third.told()
    assert third.epochs() == list(range(min(before), EPOCHS + 1)) and min(before) > 16

    alone = write_contest(tmp_path, "alone", processes=2)
    command = [sys.executable, "-m", "fgvc_utils.pipeline", str(alone)]
    done = subprocess.run(
        command, env=environment(tmp_path), cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcome(tmp_path / "cluster/tiny") == outcome(tmp_path / "alone/tiny")
