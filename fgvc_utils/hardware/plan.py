"""What a launch is, as plain data: the machines and processes it runs on, its jobs, its files.

Counts in no digest.
"""

import dataclasses
import hashlib
import os
from pathlib import Path

from fgvc_utils.core.files import read_json

PACKAGE = Path(__file__).resolve().parents[1]
DEVICES = ("auto", "cpu", "cuda")


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What a launch runs on.

    Parameters
    ----------
    processes
        Ranks a node; on CUDA one a GPU.
    nodes
        How many machines; node 0 runs the notebook.
    rendezvous
        `host:port` on node 0 that the other nodes can reach, port 0 for any free one; empty for
        one node.
    threads
        CPU threads a rank; 0 shares the cores among the ranks.
    device
        `cpu`, `cuda`, or `auto` for CUDA where there is one.
    timeout_minutes
        How long a launch waits for nodes that have not joined; the worker uses it for its
        collective operations too.
    workers
        Processes a rank that prepare pictures. With 0 the rank prepares them itself, -1 does so on
        a CPU and shares the cores among the ranks on CUDA.
    hang_minutes
        A rank that shows no progress for so long is ended, and the launch fails; 0 never ends one.
    warm
        Whether ranks are kept ready for the next launch; else all starts anew for each.
    stay
        Whether ranks take launch after launch on one machine's CPU too.

    Raises
    ------
    ValueError
        Naming the parameter that cannot be.
    """

    processes: int = 1
    nodes: int = 1
    rendezvous: str = ""
    threads: int = 0
    device: str = "auto"
    timeout_minutes: float = 30
    workers: int = -1
    hang_minutes: float = 30
    warm: bool = True
    stay: bool = False

    def __post_init__(self) -> None:
        for name, least in (("processes", 1), ("nodes", 1), ("threads", 0), ("workers", -1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}; give a whole number of at least {least}")
        if self.device not in DEVICES:
            raise ValueError(f"device is {self.device!r}; give one of {', '.join(DEVICES)}")
        if not self.timeout_minutes > 0:
            raise ValueError(f"timeout_minutes is {self.timeout_minutes!r}; give more than 0")
        if not self.hang_minutes >= 0:
            raise ValueError(f"hang_minutes is {self.hang_minutes!r}; give 0 or more")
        if self.nodes > 1:
            self.endpoint()

    def endpoint(self) -> tuple[str, int]:
        """Host and port of the rendezvous; on one node the loopback and any free port (0)."""
        if self.nodes == 1:
            return "127.0.0.1", 0
        host, _, port = self.rendezvous.rpartition(":")
        if not host or not port.isdecimal() or not int(port) < 2**16:
            raise ValueError(
                f"rendezvous is {self.rendezvous!r} with nodes = {self.nodes}; give 'host:port', "
                "an address of node 0 that the other nodes reach and a free port, "
                "such as '192.168.0.10:29500'"
            )
        return host, int(port)

    @property
    def ranks(self) -> int:
        """Ranks of all machines together."""
        return self.processes * self.nodes

    @property
    def stays(self) -> bool:
        """Whether ranks take launch after launch, as a device and a network are dear to enter.

        On one machine's CPU each launch has fresh ranks, forked from a warm process in no time.
        """
        return self.stay or self.device == "cuda" or self.nodes > 1

    @property
    def keeps(self) -> bool:
        """Whether launches share a server; other machines have joined that one alone."""
        return self.warm or self.nodes > 1

    def same_ranks(self, other: "Hardware") -> bool:
        """Whether ranks that were started for another launch's hardware do for this one's."""
        names = ("processes", "nodes", "rendezvous", "threads", "device", "stay")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def threads_per_rank(self) -> int:
        """`threads`, or this node's usable cores shared among its ranks (at least one each)."""
        return self.threads or max(1, len(os.sched_getaffinity(0)) // self.processes)


@dataclasses.dataclass(frozen=True)
class Launch:
    """A launch, as `launch.json` hands it to the ranks and to the other nodes.

    Attributes
    ----------
    name
        Unique.
    jobs
        Absolute paths of the job files, in order.
    events
        The file that rank 0 writes its progress to.
    logs
        The folder of this launch's logs, with a folder a rank.
    entry
        `module:function`, called in each rank with the path of `launch.json`.
    hardware
        What it runs on.
    """

    name: str
    jobs: tuple[str, ...]
    events: str
    logs: str
    entry: str
    hardware: Hardware


def code_stamp() -> str:
    """What the package's files are now: another where one was changed since."""
    files = sorted(PACKAGE.rglob("*.py"))
    states = [(file.as_posix(), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    return hashlib.sha256(repr(states).encode()).hexdigest()


def read_launch(path: Path | str) -> Launch:
    """Read `launch.json`; raises ValueError naming the file where it is not a launch."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; launch again to write it")
    try:
        fields = read_json(path)
        fields["jobs"] = tuple(fields["jobs"])
        fields["hardware"] = Hardware(**fields["hardware"])
        return Launch(**fields)
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is not a launch file ({error}); launch again to rewrite"
        ) from None
