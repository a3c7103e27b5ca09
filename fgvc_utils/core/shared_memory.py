"""Shared memory, through which processes pass arrays; containers often have only 64 MB of it.

Counts in no digest.
"""

import os
import shutil
from multiprocessing import get_context
from pathlib import Path

FOLDER = Path("/dev/shm")
# Batches that each process which prepares pictures may be ahead.
AHEAD = 4


def free_bytes() -> int | None:
    """Shared memory that is free, in bytes; None where the system has no such folder."""
    try:
        return shutil.disk_usage(FOLDER).free
    except OSError:
        return None


def lacks() -> str:
    """What keeps processes from having anything in common here, in words; empty where nothing does.

    Their locks lie in shared memory too, and without one no process of pictures could be started.
    """
    try:
        get_context("spawn").Lock()
    except OSError as error:
        return f"{FOLDER} cannot be used ({error.strerror or error})"
    return ""


def needed_bytes(workers: int, batch_bytes: int) -> int:
    """What the batches of a process's workers take at most, the one in use included."""
    return (workers * AHEAD + 1) * batch_bytes if workers else 0


def suffices(workers: int, batch_bytes: int) -> bool:
    """Whether the workers of this process can pass their batches through shared memory.

    What is free is shared among the ranks of this machine. Where too little is free, a worker
    would wait for ever or be killed.

    Parameters
    ----------
    workers : int
        Processes that prepare pictures for this one.
    batch_bytes : int
        Size of a batch.
    """
    free, ranks = free_bytes(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return free is None or needed_bytes(workers, batch_bytes) <= free // ranks
