"""`cluster/slurm.sbatch` on a real Slurm of two nodes on this machine, with a stand-in that starts
at once in place of the pipeline: what it is given, how it ends, what starts it again.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import slurm
import slurm_stand_in

from fgvc_utils.contest.places import PROJECT

SCRIPT = "cluster/slurm.sbatch"


class Job:
    """The script in the queue, with the stand-in."""

    def __init__(self, cluster: slurm.Cluster, folder: Path, *options: str) -> None:
        self.cluster, self.folder, self.log = cluster, folder, folder / "job.log"
        python = folder / "python"
        program = shlex.join([sys.executable, slurm_stand_in.__file__])
        python.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        python.chmod(0o700)
        cluster.environment |= {"PYTHON": str(python), "STAND_IN": str(folder)}
        options = (f"--output={self.log}", *options)
        self.number = cluster.run("sbatch", "--parsable", *options, SCRIPT, "params/x.yaml").strip()

    def machines(self, start: int = 0, seconds: float = 60) -> list[dict]:
        """What the two machines of a start were given, once both have begun."""
        files = [self.folder / f"start-{start}-machine-{rank}.json" for rank in (0, 1)]
        slurm.wait_for(lambda: all(file.exists() for file in files), seconds, self.told)
        return [json.loads(file.read_text()) for file in files]

    def end(self, *states: str, seconds: float = 120) -> str:
        """Wait for the job's end in one of the states; its exit code and signal."""
        return self.cluster.wait(self.number, *states, seconds=seconds)["ExitCode"]

    def told(self) -> str:
        log = self.log.read_text() if self.log.exists() else "no log"
        return f"{self.cluster.job(self.number)}\n{log}\n{self.cluster.logs()}"


@pytest.fixture
def submit(cluster: slurm.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(PROJECT)
    jobs = []

    def one(*options: str) -> Job:
        jobs.append(Job(cluster, tmp_path, *options))
        return jobs[-1]

    yield one
    for job in jobs:
        cluster.run("scancel", job.number, check=False)
    slurm.wait_for(lambda: not cluster.run("squeue", "-h"), 60, cluster.told)


@pytest.mark.slow
def test_slurm_runs_a_task_on_each_of_two_nodes(cluster: slurm.Cluster):
    said = cluster.run("srun", "-N2", "sh", "-c", 'echo "$SLURMD_NODENAME $(hostname)"')
    assert sorted(said.splitlines()) == [f"{node} {os.uname().nodename}" for node in slurm.NODES]


@pytest.mark.slow
def test_slurm_listens_on_the_loopback_alone(cluster: slurm.Cluster, tmp_path: Path):
    command = ["srun", "-N2", "sh", "-c", "touch $SLURM_PROCID; sleep 60"]
    with subprocess.Popen(command, env=cluster.environment, cwd=tmp_path) as srun:
        slurm.wait_for(lambda: {"0", "1"} <= set(os.listdir(tmp_path)), 60, cluster.told)
        ears = [(each.name(), listening(each)) for each in cluster.processes()]
        srun.terminate()
    assert {"slurmctld", "slurmd", "srun"} <= {name for name, addresses in ears if addresses}
    assert set().union(*(addresses for _, addresses in ears)) == {"127.0.0.1"}, ears


def listening(process: psutil.Process) -> set[str]:
    connections = process.net_connections("inet")
    return {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}


@pytest.mark.slow
def test_each_node_runs_one_command_with_torchrun_s_variables(submit):
    job = submit()
    first, second = job.machines()
    port = str(20000 + int(job.number) % 10000)
    common = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"given": ["-m", "fgvc_utils.pipeline", "params/x.yaml"]}
    for rank, seen in enumerate((first, second)):
        assert seen.items() >= (common | {"RANK": str(rank)}).items()
    (job.folder / "finish").write_text("0")
    assert job.end("COMPLETED") == "0:0"


@pytest.mark.slow
def test_the_job_s_exit_code_is_the_run_s(submit):
    job = submit()
    job.machines()
    (job.folder / "finish").write_text("3")
    assert job.end("FAILED") == "3:0", job.told()


@pytest.mark.slow
@pytest.mark.parametrize("machine", [0, 1])
def test_a_machine_that_dies_ends_the_others_and_the_job(submit, machine: int):
    job = submit()
    processes = [psutil.Process(seen["pid"]) for seen in job.machines()]
    processes[machine].send_signal(signal.SIGKILL)
    # The larger code of the two counts: the other machine ends by itself, or by Slurm's SIGTERM.
    assert job.end("FAILED") in ("137:0", "143:0"), job.told()
    assert f"task {machine}: Killed" in job.log.read_text()
    assert not any(each.is_running() for each in processes)


@pytest.mark.slow
def test_scancel_leaves_no_process(submit):
    job = submit()
    processes = [psutil.Process(seen["pid"]) for seen in job.machines()]
    job.cluster.run("scancel", job.number)
    job.end("CANCELLED")
    assert not any(each.is_running() for each in processes)


@pytest.mark.slow
def test_before_the_time_limit_the_run_is_interrupted(submit):
    job = submit("--time=1")
    job.machines()
    assert job.end("FAILED", seconds=120) == "130:0", job.told()
    # The signal finds one of the two first; the other may end by the loss of the first.
    assert "interrupted" in job.log.read_text()


@pytest.mark.slow
def test_after_a_lost_node_the_job_starts_anew(
    submit, cluster: slurm.Cluster, monkeypatch: pytest.MonkeyPatch
):
    # As long as the script waits by itself is not needed here.
    monkeypatch.setitem(cluster.environment, "SLURM_WAIT", "5")
    job = submit()
    job.machines()
    job.cluster.lose_node("n2")
    again = "a node does not answer: the job goes back into the queue"
    slurm.wait_for(lambda: again in job.log.read_text(), 180, job.told)
    assert "machine 1 is lost" in job.log.read_text()
    job.cluster.start_node("n2")
    job.cluster.wait(job.number, "PENDING", seconds=180)
    # By itself it begins some minutes later.
    job.cluster.run("scontrol", "update", f"jobid={job.number}", "starttime=now")
    assert len(job.machines(start=1)) == 2
    (job.folder / "finish").write_text("0")
    assert job.end("COMPLETED") == "0:0"
    assert starts(job) == ["start 1", "start 2"]


def starts(job: Job) -> list[str]:
    """The starts that the log tells of: a job that was requeued adds to it."""
    lines = job.log.read_text().splitlines()
    return [line.rpartition(", ")[2] for line in lines if line.startswith("job ")]


@pytest.mark.slow
def test_without_a_contest_file_it_says_how_to_call_it(cluster: slurm.Cluster, tmp_path: Path):
    log = tmp_path / "job.log"
    number = cluster.run("sbatch", "--parsable", f"--output={log}", str(PROJECT / SCRIPT)).strip()
    cluster.wait(number, "FAILED")
    assert "name the contest file: sbatch cluster/slurm.sbatch params/x.yaml" in log.read_text()
