"""Stored features as what a head learns from: read from the disk in blocks, never whole."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from fgvc_utils.jobs.predictions import Store
from fgvc_utils.training.feed import Item, Targets, item_seed

# Bytes of blocks that are kept where the device is the CPU.
KEPT_ON_CPU = 2**28
# Rows of a block: with 5,000 classes its targets take 80 MB.
BLOCK = 4096


class SideBySide:
    """One array of several stores, side by side: `array[rows]` reads those rows alone.

    Parameters
    ----------
    stores : sequence of Store
        Of each the array is taken, in this order.
    kind : str
        Its name, such as `features`.
    image_ids : sequence of str
        The images in the order of the rows.

    Raises
    ------
    KeyError
        Naming an image or an array that a store does not hold.
    """

    def __init__(self, stores: Sequence[Store], kind: str, image_ids: Sequence[str]) -> None:
        self.stores, self.kind = list(stores), kind
        self.places = [store.rows_of(image_ids) for store in stores]
        # An array that is not there is to be named now, not within a fit.
        self[np.arange(min(1, len(image_ids)))]

    def __len__(self) -> int:
        return len(self.places[0])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return some rows, (rows, sum of widths)."""
        parts = [
            store.read_rows(self.kind, places[rows])
            for store, places in zip(self.stores, self.places, strict=True)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class MeanView:
    """The mean of several views of the same images: `array[rows]`, float32 (rows, width).

    Attributes
    ----------
    views : sequence of SideBySide
        Of one shape.
    """

    views: Sequence[SideBySide]

    def __len__(self) -> int:
        return len(self.views[0])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return some rows."""
        return np.mean([view[rows].astype(np.float32) for view in self.views], axis=0)


@dataclass
class StoredFeatures(Dataset):
    """Stored features, a view drawn at random for each image, with their targets.

    Attributes
    ----------
    views : list of SideBySide, MeanView or ndarray
        Float (images, width), all of one shape.
    targets : Targets or Tensor
        Gives float32 (rows, classes) of rows.
    seed : int
        Of the job.
    """

    views: list[SideBySide] | list[MeanView] | list[np.ndarray]
    targets: Targets | torch.Tensor
    seed: int

    def __len__(self) -> int:
        return len(self.views[0])

    def __getitems__(self, items: list[Item]) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch of the given (epoch, row) items: features (batch, width) and targets."""
        rows = np.array([row for _, row in items])
        epoch, first = items[0]
        drawn = np.random.default_rng(item_seed(self.seed, epoch, first))
        which = drawn.integers(len(self.views), size=len(rows))
        order = [np.flatnonzero(which == view) for view in range(len(self.views))]
        parts = [view[rows[mine]] for view, mine in zip(self.views, order, strict=True)]
        picked = np.concatenate(parts)[np.argsort(np.concatenate(order))]
        return torch.from_numpy(picked), self.targets[rows]


@dataclass
class AllViews:
    """Blocks of stored features with their targets: each row under every view, in their order.

    Yields features (block, width) and targets (block, classes); may be passed over many times.
    """

    stored: StoredFeatures
    rows: np.ndarray
    size: int = BLOCK

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(self.rows), self.size):
            rows = self.rows[start : start + self.size]
            targets = self.stored.targets[rows]
            for view in self.stored.views:
                yield torch.from_numpy(view[rows]), targets

    @property
    def count(self) -> int:
        """Rows of all blocks together."""
        return len(self.rows) * len(self.stored.views)


class Resident:
    """Blocks on a device, kept there from the first pass on as far as its memory allows.

    Parameters
    ----------
    blocks : AllViews
        Passed over many times, always the same.
    device : torch.device
        Where they go.
    most_bytes : int, optional
        Of what is kept; by default half of a GPU's free memory, and a quarter of a gigabyte on a
        CPU, whose files lie in the same memory.
    prepare : callable, optional
        Of features on the device to features; what is kept is prepared once.
    """

    def __init__(
        self,
        blocks: AllViews,
        device: torch.device,
        most_bytes: int | None = None,
        prepare: Callable[[torch.Tensor], torch.Tensor] = lambda features: features,
    ) -> None:
        self.blocks, self.device, self.prepare = blocks, device, prepare
        if most_bytes is None:
            cuda = device.type == "cuda"
            most_bytes = torch.cuda.mem_get_info(device)[0] // 2 if cuda else KEPT_ON_CPU
        self.most_bytes = most_bytes
        self.kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.whole = False

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self.whole:
            yield from self.kept
            return
        kept, used = [], 0
        for features, targets in self.blocks:
            there = self.prepare(features.to(self.device)), targets.to(self.device)
            used += sum(tensor.nbytes for tensor in there)
            if used <= self.most_bytes:
                kept.append(there)
            else:
                kept.clear()
            yield there
        self.whole = used <= self.most_bytes
        self.kept = kept
        if not self.whole:
            self.most_bytes = 0

    @property
    def count(self) -> int:
        """Rows of all blocks together."""
        return self.blocks.count
