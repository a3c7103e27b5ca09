"""Batches on their way to a device and results on their way back, while the device works."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fgvc_utils.core import shared_memory
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.training.feed import Changes, Item, Pictures, as_arrays, as_it_is, from_arrays

T = TypeVar("T")


def loader(dataset: Dataset, batches: object, processes: Processes) -> DataLoader:
    """Return a torch loader that takes whole batches from a data set.

    Parameters
    ----------
    dataset : Dataset
        Whose items are batches. Pictures are prepared by the workers of `processes`.
    batches : Sampler
        The lists of items.
    processes : Processes
        This process and its peers.
    """
    # A worker prepares whole batches, so more of them than batches would start for nothing.
    workers = min(processes.workers, len(batches)) if isinstance(dataset, Pictures) else 0
    shares = not workers or shared_memory.suffices(workers, _batch_bytes(dataset, batches))
    kind = DataLoader if shares else ThroughPipes
    return kind(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=as_it_is if shares else as_arrays,
        pin_memory=processes.device.type == "cuda",
        # Started once: new workers an epoch would leave the device waiting at each one's start.
        persistent_workers=workers > 0,
        prefetch_factor=shared_memory.AHEAD if workers else None,
    )


def _batch_bytes(dataset: Pictures, batches: Iterable[list[Item]]) -> int:
    """The size of a batch's pictures."""
    items = next(iter(batches), [])
    with torch.random.fork_rng(devices=[]):
        return len(items) * dataset.picture(*items[0]).nbytes if items else 0


class ThroughPipes(DataLoader):
    """A loader whose workers need no shared memory: they give arrays, which go through pipes."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        for batch in super().__iter__():
            yield from_arrays(batch)


class OnDevice:
    """A loader's batches, on their way to a device while it still works on the ones before.

    They go over as they are stored (pictures as bytes), from pinned memory and on a stream of their
    own: nothing in the process that trains waits for it. With `changes` the random changes are made
    there too, from the epochs and keys that stand between pictures and targets.

    Parameters
    ----------
    batches : DataLoader
        Gives (pictures, targets), or (pictures, keys, targets) where `changes` are to be made.
    device : torch.device
        Where they go.
    changes : Changes, optional
        Are made there.
    targets_too : bool
        Whether targets go over; otherwise they stay in the host's memory.

    Attributes
    ----------
    waited : float
        Seconds that whoever takes the batches has waited for the loader, over all passes.
    """

    def __init__(
        self,
        batches: DataLoader,
        device: torch.device,
        changes: Changes | None = None,
        *,
        targets_too: bool = True,
    ) -> None:
        self.batches, self.device, self.changes = batches, device, changes
        self.targets_too = targets_too
        self.waited = 0.0
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        began, source = time.monotonic(), iter(self.batches)
        while (batch := next(source, None)) is not None:
            self.waited += time.monotonic() - began
            yield self._sent(*batch)
            began = time.monotonic()

    def _sent(self, pictures: torch.Tensor, *rest: torch.Tensor) -> list[torch.Tensor]:
        *keyed, targets = rest
        if self._stream is None:
            return self._there(pictures, keyed, targets)
        with torch.cuda.stream(self._stream):
            there = self._there(pictures, keyed, targets)
        working = torch.cuda.current_stream(self.device)
        working.wait_stream(self._stream)
        for tensor in there:
            if tensor.is_cuda:
                # Its memory is not given to a later batch before the work on it is done.
                tensor.record_stream(working)
        return there

    def _there(
        self, pictures: torch.Tensor, keyed: list[torch.Tensor], targets: torch.Tensor
    ) -> list[torch.Tensor]:
        pictures = pictures.to(self.device, non_blocking=True)
        if self.targets_too:
            targets = targets.to(self.device, non_blocking=True)
        if self.changes is None:
            return [pictures, targets]
        return list(self.changes.of_batch(pictures, targets, keyed[0].tolist()))


class Fetched:
    """Tensors on their way from a device to the host's memory.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        They are copied when the device has computed them; nothing waits for that.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = {name: t.to("cpu", non_blocking=True) for name, t in tensors.items()}
        self._sent = None
        if any(tensor.is_cuda for tensor in tensors.values()):
            self._sent = torch.cuda.Event()
            self._sent.record()

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors in the host's memory, once they are there."""
        if self._sent is not None:
            self._sent.synchronize()
        return self._tensors

    def arrays(self) -> dict[str, np.ndarray]:
        """The same as arrays."""
        return {name: tensor.numpy() for name, tensor in self.tensors().items()}


def one_behind(items: Iterable[T]) -> Iterator[T]:
    """Give items in their order, each one only after the next one was begun.

    What fetches an item then waits while the device already works on the next.

    Parameters
    ----------
    items : iterable
        Each is begun when it is asked for.
    """
    held: list[T] = []
    for item in items:
        held.append(item)
        if len(held) > 1:
            yield held.pop(0)
    yield from held
