"""A real Slurm on this machine for a test: munge, a controller and two nodes, n1 and n2.

    with slurm.cluster(folder) as cluster:
        cluster.run("srun", "-N2", "hostname")

Everything lies in a folder of its own with own ports and an own key, and listens on 127.0.0.1
alone; the machine's own Slurm and munge, where it has them, are not touched. Both nodes are this
machine, so their jobs share its cores, its memory and its loopback.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil

from fgvc_utils.core.processes import die_with

NODES = ("n1", "n2")
# Debian names the packages slurmctld, slurmd, slurm-client and munge.
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue", "scontrol")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
# Else they listen on every address of the machine.
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=5
SlurmdTimeout=300
MinJobAge=3600
# Else the ports that jobs choose by their number are the same in every test.
FirstJobId={first}
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""
START_SECONDS = 60
END_SECONDS = 20


def unavailable() -> str | None:
    """Why Slurm cannot be started here, None where it can."""
    if os.geteuid() != 0:
        return "not root, as whom alone slurmd starts the tasks of others"
    os.environ["PATH"] = with_sbin(os.environ["PATH"])
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return (
            f"{', '.join(missing)} not installed "
            "(Debian: apt-get install slurmctld slurmd slurm-client munge)"
        )
    return None


def with_sbin(path: str) -> str:
    """A PATH on which the daemons are found too."""
    return path if "/usr/sbin" in path.split(":") else f"{path}:/usr/sbin"


class Cluster:
    """A Slurm that runs.

    Parameters
    ----------
    folder : Path
        Where its configuration, its logs and its state lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, psutil.Popen] = {}
        # The variable also marks all that the daemons start.
        conf = {"SLURM_CONF": str(folder / "slurm.conf")}
        # What a surrounding job of another Slurm has set must not reach this one.
        outside = {name: v for name, v in os.environ.items() if not name.startswith("SLURM")}
        self.environment = outside | conf

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's commands and return what it printed.

        Raises RuntimeError with its messages where it fails.
        """
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def job(self, number: int | str) -> dict[str, str]:
        """What the controller knows of a job, as `scontrol show job` names it."""
        words = self.run("scontrol", "show", "job", str(number)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, number: int | str, *states: str, seconds: float = 300) -> dict[str, str]:
        """Wait until a job is in one of the states; raises TimeoutError with its state."""
        found: dict[str, str] = {}

        def come() -> bool:
            found.update(self.job(number))
            return found["JobState"] in states

        wait_for(come, seconds, lambda: f"job {number} is {found}")
        return found

    def nodes(self) -> dict[str, str]:
        """The state of each node."""
        printed = self.run("sinfo", "-h", "-N", "-o", "%N %T")
        return dict(line.split() for line in printed.splitlines())

    def processes(self) -> list[psutil.Process]:
        """All processes that the daemons have started, themselves included."""
        mark = self.environment["SLURM_CONF"]
        return [each for each in psutil.process_iter() if _variable(each, "SLURM_CONF") == mark]

    def tasks(self, node: str = "") -> list[psutil.Process]:
        """What jobs run, with all that it has started: on a node, or on both."""
        return [each for each in self.processes() if node_of(each) in ((node,) if node else NODES)]

    def logs(self) -> str:
        """The ends of the daemons' logs, for the message of a test that fails."""
        parts = []
        for file in sorted(self.folder.glob("*.log")):
            lines = file.read_text("utf-8", errors="replace").splitlines()[-15:]
            parts.append("\n".join([f"--- {file.name}", *lines]))
        return "\n".join(parts)

    def start_node(self, name: str) -> None:
        """Start slurmd of a node."""
        self._start(f"slurmd-{name}", "slurmd", "-D", "-N", name)

    def lose_node(self, name: str) -> None:
        """End a node as a power cut does: slurmd and all that it has started, at once."""
        lost = self.daemons.pop(f"slurmd-{name}")
        tasks = self.tasks(name)
        # What serves a step shows no node in its environment, but it is the parent of its tasks.
        steps = {each.parent() for each in tasks if each.ppid() > 1} - {None, *tasks}
        # Those that could still report an end come first.
        family = [lost, *(each for each in steps if each.name() == "slurmstepd"), *tasks]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        lost.wait(END_SECONDS)

    def _start(self, name: str, *command: str) -> None:
        output = open(self.folder / f"{name}.out", "ab")
        with output:
            self.daemons[name] = psutil.Popen(
                command,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=partial(die_with, os.getpid()),
            )

    def start(self) -> None:
        """Start the daemons and wait until both nodes are idle."""
        self._start("munged", *_munged(self.folder))
        wait_for((self.folder / "munge.socket").exists, START_SECONDS, self.told)
        self._start("slurmctld", "slurmctld", "-D", "-c")
        for name in NODES:
            self.start_node(name)
        wait_for(self._idle, START_SECONDS, self.told)

    def told(self) -> str:
        """What the daemons printed and logged."""
        outs = [file.read_text("utf-8", "replace") for file in self.folder.glob("*.out")]
        return "\n".join([*outs, self.logs()])

    def _idle(self) -> bool:
        if ended := [name for name, one in self.daemons.items() if one.poll() is not None]:
            raise RuntimeError(f"{', '.join(ended)} ended at once: {self.told()}")
        with suppress(RuntimeError):
            return self.nodes() == dict.fromkeys(NODES, "idle")
        return False

    def end(self) -> None:
        """End all jobs, then the daemons, the controller first and munge last."""
        with suppress(RuntimeError, subprocess.TimeoutExpired):
            self.run("scancel", "--me", check=False)
            wait_for(lambda: not self.run("squeue", "-h"), END_SECONDS, str)
        for name in sorted(self.daemons, key=lambda name: (name == "munged", name)):
            daemon = self.daemons[name]
            with suppress(psutil.NoSuchProcess):
                daemon.terminate()
            try:
                daemon.wait(END_SECONDS)
            except psutil.TimeoutExpired:
                daemon.kill()
                daemon.wait(END_SECONDS)
        for process in self.processes():
            if process.pid != os.getpid():
                with suppress(psutil.NoSuchProcess):
                    process.kill()


def node_of(process: psutil.Process) -> str:
    """The node on which a task runs; empty for what is no task."""
    return _variable(process, "SLURMD_NODENAME")


def _variable(process: psutil.Process, name: str) -> str:
    """A variable of the environment that a process was started with, or empty."""
    try:
        return process.environ().get(name, "")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start Slurm in `folder`, which must be empty and have a short path; ends it afterwards.

    Raises RuntimeError or TimeoutError with the daemons' messages where it does not start.
    """
    folder = Path(folder)
    (folder / "state").mkdir(parents=True)
    key = folder / "munge.key"
    key.touch(mode=0o400)
    key.write_bytes(os.urandom(1024))
    first = 1 + os.getpid() % 9000
    conf = CONF.format(host=socket.gethostname(), folder=folder, ports=_free_ports(3), first=first)
    (folder / "slurm.conf").write_text(conf)
    running = Cluster(folder)
    try:
        running.start()
        yield running
    finally:
        running.end()


def wait_for(true: Callable[[], bool], seconds: float, told: Callable[[], str]) -> None:
    """Wait until something holds; raises TimeoutError with what `told` says then."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come within {seconds} s: {told()}")
        time.sleep(0.2)


def _munged(folder: Path) -> list[str]:
    places = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
    places |= {"log-file": "munged.log", "seed-file": "munged.seed"}
    options = [f"--{option}={folder / name}" for option, name in places.items()]
    # A folder that others may write to, such as /tmp, is refused without it.
    return ["munged", "--foreground", "--force", *options]


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
