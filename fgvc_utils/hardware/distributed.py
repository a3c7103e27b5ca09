"""The processes of one launch, as a job sees them; one process alone needs no group."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from fgvc_utils.core.processes import loader_workers


@dataclass(frozen=True)
class Processes:
    """This process among all of a launch.

    Attributes
    ----------
    rank
        Its global rank.
    count
        How many processes the launch has.
    device
        Where it computes.
    workers
        How many processes prepare pictures for it.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")
    workers: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """This process's part of some rows; the parts together are all rows, none twice."""
        return np.array_split(rows, self.count)[self.rank]

    def total(self, values: list[float]) -> list[float]:
        """Sum numbers over all processes; every process gets the sums."""
        if self.count == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def sum_up(self, tensors: Iterable[torch.Tensor]) -> None:
        """Sum tensors over all processes, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def share_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every process the tensors of the first, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.count > 1:
            dist.barrier()


def workers_of(device: str, workers: int) -> int:
    """Processes that prepare pictures for this one; see `core.processes.loader_workers`."""
    return loader_workers(device, workers, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


class Meeting(NamedTuple):
    """Where the processes of a launch meet, as its supervisor says.

    Attributes
    ----------
    store
        Host and port of the store; None where a process is alone.
    listener
        In rank 0 the number of the open socket there, of which the store becomes the owner.
    stays
        Whether the group is kept for the launches to come.
    """

    store: tuple[str, int] | None = None
    listener: int | None = None
    stays: bool = False


_meeting = Meeting()


def enter(store: tuple[str, int] | None, listener: int | None, stays: bool) -> None:
    """Note where this process will meet its peers; see `Meeting`."""
    global _meeting
    _meeting = Meeting(tuple(store) if store else None, listener, stays)


@contextmanager
def joined(device: str, workers: int, timeout_minutes: float) -> Iterator[Processes]:
    """Join the group of this launch's processes.

    It is left again when the block ends, unless this process stays for other launches: they find
    it as it is. After an error there are none, for the supervisor ends all processes of the group.

    Parameters
    ----------
    device
        `cpu` or `cuda`.
    workers
        As in `workers_of`.
    timeout_minutes
        How long collective operations wait for the others.
    """
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    place = torch.device("cpu")
    if device == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(place)
    if count > 1 and not dist.is_initialized():
        _join("nccl" if device == "cuda" else "gloo", rank, count, timeout_minutes)
    try:
        yield Processes(rank, count, place, workers_of(place.type, workers))
    finally:
        # In a process that stays and has failed, peers that wait for it are freed by its end.
        if count > 1 and not _meeting.stays:
            dist.destroy_process_group()


def _join(backend: str, rank: int, count: int, timeout_minutes: float) -> None:
    """Make the group. By itself torch would have its store listen on all addresses."""
    host, port = _meeting.store
    timeout = timedelta(minutes=timeout_minutes)
    own = {} if rank else {"master_listen_fd": _meeting.listener}
    store = dist.TCPStore(
        host,
        port,
        count,
        is_master=rank == 0,
        timeout=timeout,
        wait_for_workers=False,
        **own,
    )
    dist.init_process_group(backend, timeout=timeout, store=store, rank=rank, world_size=count)
