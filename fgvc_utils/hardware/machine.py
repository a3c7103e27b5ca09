"""The ranks of one machine: started, given launches, watched and ended.

Counts in no digest.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from fgvc_utils.core.processes import die_with, memory_kills
from fgvc_utils.hardware import failures
from fgvc_utils.hardware.network import interface_towards
from fgvc_utils.hardware.plan import Hardware
from fgvc_utils.hardware.rank import BEAT, SHOW_STACKS, STACKS, place_of, preload, serve
from fgvc_utils.hardware.wire import Closed, Wire, listen, pair

# How long a rank gets to end after an interrupt before it is killed.
SHUTDOWN_SECONDS = 3
# How long a rank that hangs may take to say where it is.
STACKS_SECONDS = 2
# How long a server whose run is over tells so to machines that join late.
LATE_SECONDS = 60.0
# Where the machines of a run meet when there is but one.
HERE = "127.0.0.1"


class Rank:
    """A process of this machine, as its supervisor sees it.

    Attributes
    ----------
    number
        The global rank.
    busy, launch
        Whether it carries out a launch, and the name of its last one.
    """

    def __init__(self, number: int, wire: Wire, process: Any):
        self.number, self.wire, self.process = number, wire, process
        self.busy = False
        self.launch = ""
        self.place: Path | None = None
        self.beat = (0, 0.0)

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs; this also has the system forget its end."""
        if isinstance(self.process, subprocess.Popen):
            return self.process.poll()
        return self.process.exitcode

    def signal(self, number: signal.Signals) -> None:
        """Send a signal where it still runs."""
        if self.code is None:
            os.kill(self.process.pid, number)

    def silent_for(self) -> float:
        """Seconds since the last sign of life; by this machine's clock, not the file system's."""
        with suppress(OSError):
            changed = (self.place / BEAT).stat().st_mtime_ns
            if changed != self.beat[0]:
                self.beat = changed, time.monotonic()
        return time.monotonic() - self.beat[1]


class Machine:
    """The ranks of this machine. All calls return at once, but for `end`, which takes seconds.

    Parameters
    ----------
    node
        This machine's number.
    modules
        What ranks import before their first launch.
    close_in_rank
        Called in a rank that was forked: closes what is the supervisor's alone.
    """

    def __init__(
        self,
        node: int,
        modules: Sequence[str],
        close_in_rank: Callable[[], None] = lambda: None,
    ):
        self.node, self.modules, self._close_in_rank = node, list(modules), close_in_rank
        self.ranks: list[Rank] = []
        self._listener: Any = None
        self._hang_seconds = 0.0
        self._kills: int | None = None
        self._preloaded = False

    def preload(self) -> bool:
        """Import what forked ranks need; false where that was done before. Takes seconds."""
        first, self._preloaded = not self._preloaded, True
        if first:
            _preload_without_cuda(self.modules)
        return first

    def open_store(self, hardware: Hardware) -> tuple[str, int] | None:
        """Open the socket where the ranks will meet, on node 0; its host and port."""
        if hardware.ranks == 1:
            return None
        host = HERE if hardware.nodes == 1 else hardware.endpoint()[0]
        self._listener = listen(host, 0)
        return host, self._listener.getsockname()[1]

    def start(self, hardware: Hardware, store: tuple[str, int] | None) -> None:
        """Start this machine's ranks, after those before were ended.

        Parameters
        ----------
        hardware
            Of the launches to come; its device is cpu or cuda.
        store
            Where the ranks meet; None for a rank alone.
        """
        self._kills = memory_kills()
        if hardware.device == "cpu":
            self.preload()
        for local in range(hardware.processes):
            settings = self._settings(hardware, store, local)
            start = _spawned if hardware.device == "cuda" else self._forked
            here, there = pair()
            process = start(settings, here, there)
            there.socket.close()
            self.ranks.append(Rank(int(settings["environment"]["RANK"]), here, process))
        # Rank 0 has it.
        self._close_listener()

    def give(self, name: str, launch_file: str, logs: str, hang_minutes: float) -> None:
        """Have the ranks carry out a launch.

        Parameters
        ----------
        name, launch_file, logs
            The launch's name, its file, and the folder of its logs.
        hang_minutes
            See `Hardware`.
        """
        self._hang_seconds, self._kills = 60 * hang_minutes, memory_kills()
        for rank in self.ranks:
            rank.busy, rank.launch, rank.place = True, name, place_of(logs, rank.number)
            rank.beat = 0, time.monotonic()
            # One that has ended is found by `events`.
            with suppress(Closed):
                rank.wire.send(launch=launch_file)

    def sockets(self) -> list[Wire]:
        """What to wait on before `events` is called."""
        return [rank.wire for rank in self.ranks if not rank.wire.closed]

    def events(self) -> list[dict[str, Any]]:
        """What happened since the last call.

        Returns
        -------
        list of dict
            `rank`, `launch`, the name of the one it worked on, and either `begun`, `done`, or
            `failed`: how it failed or died, as text. With `echo` the cause is likely another rank.
        """
        events = []
        for rank in list(self.ranks):
            ended = rank.code is not None
            for message in rank.wire.take():
                events.append(_of(rank) | self._understood(rank, message))
            if ended:
                self.ranks.remove(rank)
                rank.wire.close()
                if rank.code == 0 and not rank.busy:
                    continue
                place = rank.place if rank.busy else None
                text = failures.of_death(rank.number, rank.code, place, self._kills)
                events.append(_of(rank) | {"failed": text})
        if self._hang_seconds:
            events += self._hanging()
        return events

    def _understood(self, rank: Rank, message: dict[str, Any]) -> dict[str, Any]:
        if "failed" in message:
            rank.busy = False
            text = failures.of_traceback(rank.number, message["failed"], rank.place)
            return message | {"failed": text}
        rank.busy = rank.busy and "done" not in message
        return message

    def _hanging(self) -> list[dict[str, Any]]:
        late = [(rank.silent_for(), rank) for rank in self.ranks if rank.busy]
        late = [each for each in late if each[0] > self._hang_seconds]
        if not late:
            return []
        # The first to stop is the cause; the others wait for it.
        late.sort(key=lambda each: each[0], reverse=True)
        for _, rank in late:
            rank.signal(SHOW_STACKS)
        time.sleep(STACKS_SECONDS)
        stacks = {rank.number: _read(rank.place / STACKS) for _, rank in late}
        seconds, first = late[0]
        self._hang_seconds = 0.0
        text = failures.of_hang(first.number, seconds, stacks)
        return [_of(first) | {"failed": text}]

    def release(self) -> None:
        """Let ranks that have no work end by themselves."""
        self._hang_seconds = 0.0
        for rank in self.ranks:
            rank.wire.close()

    def end(self) -> None:
        """End all ranks: by an interrupt, after which files are whole, and then by force."""
        self._hang_seconds = 0.0
        families = [_family(rank) for rank in self.ranks]
        for rank in self.ranks:
            rank.signal(signal.SIGINT)
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        while time.monotonic() < deadline and any(rank.code is None for rank in self.ranks):
            time.sleep(0.01)
        for rank, family in zip(self.ranks, families, strict=True):
            rank.signal(signal.SIGKILL)
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            while rank.code is None:
                time.sleep(0.01)
            rank.wire.close()
        self.ranks = []
        self._close_listener()

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _settings(
        self, hardware: Hardware, store: tuple[str, int] | None, local: int
    ) -> dict[str, Any]:
        rank = self.node * hardware.processes + local
        variables = {
            "RANK": str(rank),
            "WORLD_SIZE": str(hardware.ranks),
            "LOCAL_RANK": str(local),
            "LOCAL_WORLD_SIZE": str(hardware.processes),
            "GROUP_RANK": str(self.node),
            "OMP_NUM_THREADS": str(hardware.threads_per_rank()),
        }
        if interface := interface_towards(store[0]) if store else None:
            for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                variables[name] = os.environ.get(name, interface)
        return {
            "parent": os.getpid(),
            "environment": variables,
            "threads": hardware.threads_per_rank(),
            "preload": self.modules,
            "store": store,
            "listener": self._listener.fileno() if self._listener and rank == 0 else None,
            "stays": hardware.stays,
            "device": hardware.device,
        }

    def _forked(self, settings: dict[str, Any], here: Wire, there: Wire) -> Any:
        def run() -> None:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            here.socket.close()
            for rank in self.ranks:
                rank.wire.socket.close()
            self._close_in_rank()
            if settings["listener"] is not None:
                self._listener.detach()
            else:
                self._close_listener()
            os._exit(serve(there, settings))

        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
        return process


def _of(rank: Rank) -> dict[str, Any]:
    return {"rank": rank.number, "launch": rank.launch}


def _spawned(settings: dict[str, Any], here: Wire, there: Wire) -> subprocess.Popen:
    """A process of its own: one that was forked could not use CUDA once a library has asked it."""
    passed = [there.fileno()]
    if settings["listener"] is not None:
        passed.append(settings["listener"])
    parent = os.getpid()
    process = subprocess.Popen(
        [sys.executable, "-m", "fgvc_utils.hardware.rank", str(there.fileno())],
        env=os.environ | settings["environment"],
        pass_fds=passed,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: die_with(parent),
    )
    here.send(**settings)
    return process


def _preload_without_cuda(modules: Sequence[str]) -> None:
    """Import what ranks on a CPU need, to be forked; some libraries would open CUDA meanwhile."""
    name, before = "CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ[name] = ""
    try:
        preload(modules)
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _family(rank: Rank) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(rank.process.pid).children(recursive=True)
    return []


def _read(file: Path) -> str:
    with suppress(OSError):
        return file.read_text("utf-8", errors="replace")
    return ""
