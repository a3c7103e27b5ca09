"""What reaches the network: pictures or stored features, in an order that any number of processes
shares.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from fgvc_utils import augment
from fgvc_utils.images import read_cached
from fgvc_utils.predictions import Store, softmax

Item = tuple[int, int]


def item_seed(seed: int, epoch: int, row: int) -> int:
    """One seed an image and epoch, whichever process draws it."""
    return int(np.random.SeedSequence([seed, epoch, row]).generate_state(1, np.uint64)[0] >> 1)


class GlobalBatches(Sampler[list[Item]]):
    """Each epoch's optimiser steps, cut up over processes and micro-batches.

    The order of `rows` is drawn by seed and epoch alone. Step s takes the next processes × micro ×
    accumulate rows; micro-batch a of process r takes the piece a × processes + r of them. So any
    split of a global batch into equal micro-batches sees the same pieces. What does not fill a last
    step is left to the other epochs, whose order is another.

    Yields lists of (epoch, row). Set `epoch` before each pass.
    """

    def __init__(
        self, rows: np.ndarray, micro: int, accumulate: int, processes: int, rank: int, seed: int
    ) -> None:
        self.rows, self.micro, self.accumulate = rows, micro, accumulate
        self.processes, self.rank, self.seed = processes, rank, seed
        self.epoch = 0

    @property
    def steps(self) -> int:
        """Optimiser steps an epoch."""
        return len(self.rows) // (self.micro * self.accumulate * self.processes)

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[list[Item]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.rows)
        for number in range(len(self)):
            start = (number * self.processes + self.rank) * self.micro
            yield [(self.epoch, int(row)) for row in order[start : start + self.micro]]


class InTurn(Sampler[list[Item]]):
    """Rows in their order, in batches of at most `size`: for predicting.

    `epoch` chooses the random numbers where the pictures are changed at random.
    """

    def __init__(self, rows: np.ndarray, size: int, epoch: int = 0) -> None:
        self.rows, self.size, self.epoch = rows, size, epoch

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __iter__(self) -> Iterator[list[Item]]:
        for start in range(0, len(self.rows), self.size):
            yield [(self.epoch, int(row)) for row in self.rows[start : start + self.size]]


@dataclass
class Targets:
    """What images teach, made dense a batch at a time: one array of all would not fit in memory.

    `labels` int (images,), -1 where there is none, are numbers of `classes` classes. Each of
    `teachers` holds `logits`, or `target_classes` with `target_probabilities`, at the rows that its
    array of `places`, int (images,), names; -1 where it has no word on an image.
    """

    labels: np.ndarray
    classes: int
    teachers: Sequence[Store] = ()
    places: Sequence[np.ndarray] = ()
    temperature: float = 1.0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Sequence[int]) -> torch.Tensor:
        """float32 (rows, classes): one-hot labels; beside them the teachers' mean, if any."""
        labels = self.labels[rows]
        told = np.zeros((len(labels), self.classes), np.float32)
        known = np.flatnonzero(labels >= 0)
        told[known, labels[known]] = 1
        if not self.teachers:
            return torch.from_numpy(told)
        taught = np.zeros_like(told)
        for teacher, place in zip(self.teachers, self.places, strict=True):
            there = np.flatnonzero(place[rows] >= 0)
            taught[there] += self._word(teacher, place[rows][there]) / len(self.teachers)
        return torch.from_numpy(np.concatenate([told, taught], axis=1))

    def _word(self, teacher: Store, places: np.ndarray) -> np.ndarray:
        if "logits" in teacher.kinds():
            logits = teacher.read_rows("logits", places).astype(np.float32)
            return softmax(logits / self.temperature)
        word = np.zeros((len(places), self.classes), np.float32)
        columns = teacher.read_rows("target_classes", places)
        values = teacher.read_rows("target_probabilities", places).astype(np.float32)
        # A class may stand twice in a row, its other value being nothing.
        np.add.at(word, (np.arange(len(places))[:, None], columns), values)
        return word / word.sum(axis=1, keepdims=True)


@dataclass
class Pictures(Dataset):
    """Pictures of the cache, prepared one by one, with their targets.

    `files` are paths of cached JPEGs; `targets` gives float32 (rows, width) of a list of rows. An
    item is a batch's list
    of (epoch, row); it gives uint8 (batch, 3, size, size) and float32 (batch, width). Random
    numbers are seeded per image, so the number of worker processes does not change the pictures.
    """

    files: list[str]
    targets: Targets | torch.Tensor | None
    view: augment.Transform
    seed: int
    mix: str = "none"
    mix_probability: float = 0.0

    def __len__(self) -> int:
        return len(self.files)

    def __getitems__(self, items: list[Item]) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch of the given (epoch, row) items."""
        with torch.random.fork_rng(devices=[]):
            pictures = torch.stack([self.picture(*item) for item in items])
            targets = self.targets[[row for _, row in items]]
            if self.mix == "none":
                return pictures, targets
            # Seeded by the batch's first image: every image of it takes part in the mix.
            torch.manual_seed(item_seed(self.seed + 1, *items[0]))
            return augment.mix_batch(pictures.float(), targets, self.mix, self.mix_probability)

    def picture(self, epoch: int, row: int) -> torch.Tensor:
        """One prepared picture, uint8 (3, size, size); seeds torch's global random numbers."""
        torch.manual_seed(item_seed(self.seed, epoch, row))
        return self.view(augment.to_tensor(read_cached(self.files[row])))


@dataclass
class StoredFeatures(Dataset):
    """Stored features, a view drawn at random for each image, with their targets.

    `views` holds float arrays (images, width), all of one shape; `targets` gives float32 (rows,
    classes) of rows.
    """

    views: list[np.ndarray]
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
        picked = np.stack([self.views[w][r] for w, r in zip(which, rows, strict=True)])
        return torch.from_numpy(picked), self.targets[rows]


@dataclass
class AllViews:
    """Blocks of stored features with their targets: each row under every view, in their order.

    Yields features (block, width) and targets (block, classes); may be passed over many times.
    """

    stored: StoredFeatures
    rows: np.ndarray
    size: int = 4096

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(self.rows), self.size):
            rows = self.rows[start : start + self.size]
            targets = self.stored.targets[rows]
            for view in self.stored.views:
                yield torch.from_numpy(view[rows]), targets


def as_it_is(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Collate nothing: the data sets give whole batches."""
    return batch
