"""Processes that end with the one that started them, and deaths for want of memory.

Counts in no digest.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

LESS_MEMORY = "lower micro_batch, workers or processes, or end what else takes memory"

# prctl(2), Linux only; looked up here because a process that was just forked should not.
PARENT_DEATH_SIGNAL = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda *_: 0


def tied_pool(processes: int) -> ProcessPoolExecutor:
    """A pool of processes that end with this one, however it ends.

    They are spawned, since a notebook's kernel has threads and a fork copies their locks as they
    are; and tied, since they would wait for ever for work from a process that was killed.

    Parameters
    ----------
    processes
        How many.
    """
    return ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=die_with,
        initargs=(os.getpid(),),
    )


def die_with(parent: int) -> None:
    """Have the system kill this process when its parent dies, wherever it hangs by then."""
    _prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def memory_kills() -> int | None:
    """How many processes the system has killed because memory ran out; None where it is unknown."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text("ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return None


def of_memory(before: int | None) -> str:
    """Whether a process that was killed since `before` was killed for memory, and what helps."""
    now = memory_kills()
    if before is not None and now is not None and now > before:
        return f" because memory ran out, as the system has counted; {LESS_MEMORY}"
    return f", perhaps because memory ran out; if so, {LESS_MEMORY}"


def processors() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0))


def loader_workers(device: str, workers: int, ranks: int) -> int:
    """Processes that prepare pictures for a rank; -1 chooses.

    On a CPU they would only take the cores of the training itself; on CUDA the machine's cores are
    shared among its ranks, one of each for the rank itself.

    Parameters
    ----------
    device
        `cpu` or `cuda`.
    workers
        As the parameter says.
    ranks
        Ranks of this machine.
    """
    if workers >= 0:
        return workers
    return max(1, processors() // ranks - 1) if device == "cuda" else 0
