"""Around and inside the ranks of torch elastic: environment, signals, logs, and how one failed.

Counts in no digest.
"""

import faulthandler
import importlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from fgvc_utils.core import heartbeat
from fgvc_utils.core.processes import LESS_MEMORY, die_with, of_memory

# How long a rank gets to end after a signal before it is killed.
SHUTDOWN_SECONDS = 5

# How long a rank that lost its connection waits for the rank that died to be found first.
ECHO_SECONDS = 3
TAIL_LINES = 30
DEATH = "death.txt"
BEAT = "beat"
STACKS = "stacks.txt"

# What a rank prints where it is when it gets this signal, and how long that may take.
SHOW_STACKS = signal.SIGUSR1
STACKS_SECONDS = 2

# How tracebacks name it: CUDA, the CPU's allocator, Python, a loader process.
OUT_OF_MEMORY = ("OutOfMemoryError", "can't allocate memory", "MemoryError", "signal: Killed")


class RankFailed(RuntimeError):
    """A rank failed; the message holds its number and its traceback, or how it died.

    Attributes
    ----------
    rank
        The global rank.
    """

    def __init__(self, message: str, rank: int):
        super().__init__(message)
        self.rank = rank


def run_rank(entry: str, launch_file: str, threads: int, launcher: int) -> None:
    """What torch elastic starts in each rank: tie it to its launcher, then call the entry.

    Parameters
    ----------
    entry
        `module:function`, called with `launch_file`.
    launch_file
        The path of `launch.json`.
    threads
        CPU threads of torch.
    launcher
        Process id of the launcher, whose death ends this process.
    """
    die_with(launcher)
    _bind_children()
    _show_life()
    if sys.platform == "linux":
        # A spawned process spawns in its turn: each loader process would import torch anew.
        multiprocessing.set_start_method("fork", force=True)
    signal.signal(signal.SIGINT, _interrupted)
    import torch

    torch.set_num_threads(threads)
    module, _, function = entry.partition(":")
    try:
        getattr(importlib.import_module(module), function)(launch_file)
    except SystemExit as error:
        # torch elastic would wait for ever for a rank that leaves like this with code 0.
        raise RuntimeError(f"{entry} called sys.exit({error.code!r})") from error
    except Exception as error:
        if _is_echo(repr(error)):
            # Another rank has died; wait, so that the launcher finds that one and not this.
            time.sleep(ECHO_SECONDS)
        raise


def _show_life() -> None:
    """Begin the heartbeat, and say on a signal where this rank is, beside its logs."""
    place = Path(os.environ["TORCHELASTIC_ERROR_FILE"]).parent
    # Left open: the handler writes to it, whatever state Python is in by then.
    stacks = open(place / STACKS, "w", encoding="utf-8")
    faulthandler.register(SHOW_STACKS, file=stacks, all_threads=True)
    heartbeat.start(place / BEAT)


def _bind_children() -> None:
    """Tie the loader processes that this rank will fork to it, as it is tied to its launcher.

    torch has them look for their parent, but one that was still starting when its parent was
    killed takes process 1 for it and waits for ever.
    """
    forking: dict[str, int] = {}
    # The system means by a parent the thread that forked, and other threads end early.
    main = threading.main_thread().ident

    def before() -> None:
        forking["parent"] = os.getpid()

    def in_child() -> None:
        if threading.get_ident() == main:
            die_with(forking["parent"])

    os.register_at_fork(before=before, after_in_child=in_child)


def _interrupted(number: int, frame: object) -> None:
    """Interrupt once: the process group and the launcher both send the signal.

    A second KeyboardInterrupt would only break off what the first one cleans up.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _is_echo(text: str) -> bool:
    """Whether an error only says that another rank went away."""
    signs = (
        "Connection closed by peer",
        "Connection reset by peer",
        "Broken pipe",
        "remote process exited",
    )
    return any(sign in text for sign in signs)


def import_torch() -> None:
    """Import what the launcher needs of torch; an interrupt meanwhile is raised afterwards.

    torch cannot be imported again in a process in which its import was broken off.
    """
    with late_interrupt():
        import torch.distributed.launcher.api  # noqa: F401


@contextmanager
def late_interrupt() -> Iterator[None]:
    """Hold an interrupt back until the block has ended (in the main thread; others get none)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = []
    before = signal.signal(signal.SIGINT, lambda *_: came.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the block; all variables are as before when it ends."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        # torch elastic leaves variables of its own behind.
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def signal_handlers() -> Iterator[None]:
    """Give back the handlers that torch elastic replaces (it does so in the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Send the launcher's own messages to a file: in a cell they would bury the traceback."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The two loggers that torch gives handlers of their own (to stderr).
    loggers = [logging.getLogger(name) for name in ("torch", "torch.distributed")]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        handler.close()


def rank_logs(folder: Path) -> Any:
    """Where the ranks print, for torch elastic: `rank-<n>/stdout.log` and `stderr.log`.

    An error of a rank is kept beside them in `error.json`; `n` is the global rank.
    """
    from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs

    class RankLogs(LogsSpecs):
        root_log_dir = str(folder)

        def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
            places = {local: folder / f"rank-{env['RANK']}" for local, env in envs.items()}
            for local, place in places.items():
                place.mkdir(parents=True)
                envs[local]["TORCHELASTIC_ERROR_FILE"] = str(place / "error.json")
            return LogsDest(
                stdouts={local: str(place / "stdout.log") for local, place in places.items()},
                stderrs={local: str(place / "stderr.log") for local, place in places.items()},
                error_files={local: str(place / "error.json") for local, place in places.items()},
            )

    return RankLogs()


def end_ranks(left: set[multiprocessing.Process]) -> None:
    """Kill ranks that an interrupt in the wrong moment has left, and what they have started."""
    for rank in left:
        family: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(rank.pid).children(recursive=True)
        rank.kill()
        rank.join(SHUTDOWN_SECONDS)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()


class Watch:
    """Ends ranks of this node that show no progress for `minutes`; with 0 it ends none.

    A thread that looks at their heartbeats: a hanging rank may be deaf to all but SIGKILL, and the
    launcher itself waits inside torch.
    """

    def __init__(self, logs: Path, minutes: float) -> None:
        self.logs, self.seconds = logs, 60 * minutes
        self.message, self.rank = "", -1
        self._stop = threading.Event()
        self._seen: dict[Path, tuple[int, float]] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        if self.seconds:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self.seconds:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(min(1.0, self.seconds / 4)):
            if late := self._late():
                self._end(late)
                return

    def _late(self) -> list[tuple[float, Path, psutil.Process]]:
        """This node's ranks that are late: since how many seconds, the longest first."""
        late, now = [], time.monotonic()
        for beat in self.logs.glob(f"rank-*/{BEAT}"):
            with suppress(OSError, ValueError, psutil.NoSuchProcess):
                changed = beat.stat().st_mtime_ns
                # By this process's own clock: that of a shared file system may be another.
                before, since = self._seen.get(beat, (0, now))
                if changed != before:
                    self._seen[beat] = changed, now
                elif now - since > self.seconds:
                    process = psutil.Process(int(beat.read_text("ascii")))
                    if process.ppid() == os.getpid() and process.is_running():
                        late.append((now - since, beat.parent, process))
        return sorted(late, key=lambda each: each[0], reverse=True)

    def _end(self, late: list[tuple[float, Path, psutil.Process]]) -> None:
        for _, _, process in late:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(SHOW_STACKS)
        time.sleep(STACKS_SECONDS)
        # The first to stop is the cause; the others wait for it.
        seconds, place, _ = late[0]
        self.rank = _number(place)
        parts = [
            f"rank {self.rank} hung: it showed no progress for {seconds:.0f} s, so all ranks were "
            "ended. Where it waits for something slow, give the launch more hang_minutes."
        ]
        for _, each, _ in late:
            stacks = (each / STACKS).read_text("utf-8", errors="replace").strip()
            parts.append(f"Where rank {_number(each)} was:\n{stacks or '(it did not answer)'}")
        self.message = "\n\n".join(parts)
        for _, _, process in late:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def rank_failed(rank: int, exitcode: int, logs: Path, kills: int | None = None) -> RankFailed:
    """The error to raise where torch elastic found that `rank` ended with `exitcode`.

    Parameters
    ----------
    rank
        The global rank.
    exitcode
        Of its process; negative where a signal ended it.
    logs
        The folder of `rank_logs`, on several nodes shared by all of them.
    kills
        `memory_kills` before the ranks were started.
    """
    tracebacks = _tracebacks(logs)
    if rank not in tracebacks:
        message = f"rank {rank} {_death(exitcode, kills)}\n\n{_tail(logs, rank)}"
        # For the launchers of other nodes, which see no more than a lost connection.
        (_place(logs, rank) / DEATH).write_text(message, "utf-8")
        return RankFailed(message, rank)
    if _is_echo(tracebacks[rank]):
        for death in sorted(logs.glob(f"rank-*/{DEATH}")):
            return RankFailed(death.read_text("utf-8"), _number(death.parent))
        causes = [other for other, text in tracebacks.items() if not _is_echo(text)]
        rank = causes[0] if causes else rank
    text = tracebacks[rank]
    hint = "\nThe rank at the other end died first: see the other nodes." if _is_echo(text) else ""
    if any(sign in text for sign in OUT_OF_MEMORY):
        hint += f"\nMemory ran out: {LESS_MEMORY}."
    last_line = text.strip().splitlines()[-1]
    message = f"rank {rank} failed: {last_line}\n\n{text}{hint}\nIts output: {_place(logs, rank)}"
    return RankFailed(message, rank)


def _tracebacks(logs: Path) -> dict[int, str]:
    """Tracebacks by rank, the first error first."""
    files = sorted(logs.glob("rank-*/error.json"), key=lambda file: file.stat().st_mtime_ns)
    found = {}
    for file in files:
        # A rank that was ended while it wrote its error leaves half a file.
        with suppress(ValueError, KeyError, TypeError):
            error = json.loads(file.read_text("utf-8"))["message"]
            found[_number(file.parent)] = error["extraInfo"]["py_callstack"]
    return found


def _death(exitcode: int, kills: int | None) -> str:
    if exitcode >= 0:
        return f"ended with exit code {exitcode} and left no traceback."
    name = signal.Signals(-exitcode).name
    return f"was ended by {name}{of_memory(kills) if name == 'SIGKILL' else ''}."


def _tail(logs: Path, rank: int) -> str:
    parts = []
    for name in ("stdout.log", "stderr.log"):
        file = _place(logs, rank) / name
        if not file.exists():
            continue
        lines = file.read_text("utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        parts.append("\n".join([f"The end of {file}:", *(lines or ["(empty)"])]))
    return "\n\n".join(parts)


def _place(logs: Path, rank: int) -> Path:
    return logs / f"rank-{rank}"


def _number(place: Path) -> int:
    return int(place.name.removeprefix("rank-"))
