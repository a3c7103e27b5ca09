"""What reaches the network, in an order that any number of processes shares."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset, Sampler

from fgvc_utils.contest.decoded import Decoded
from fgvc_utils.contest.images import read_cached
from fgvc_utils.jobs.predictions import Store, softmax
from fgvc_utils.jobs.soft_targets import CLASSES, PROBABILITIES
from fgvc_utils.training import augment

Item = tuple[int, int]

# Streams of random numbers that must not repeat each other.
CROP, CHANGES, MIX = range(3)


def image_keys(image_ids: Sequence[str]) -> np.ndarray:
    """Return a number for each image, from which its random draws follow; its id alone decides.

    Parameters
    ----------
    image_ids : sequence of str
        The images.

    Returns
    -------
    ndarray of int64 (images,)
        Not negative; the order of the images is kept.
    """
    ids = np.asarray(image_ids, dtype=object)
    return (pd.util.hash_array(ids, categorize=False) >> np.uint64(1)).astype(np.int64)


def item_seed(seed: int, epoch: int, key: int, stream: int = CROP) -> int:
    """Return the seed of one image in one epoch, the same in whichever process it is drawn.

    Parameters
    ----------
    seed, epoch : int
        Of the job.
    key : int
        The image's number, see `image_keys`.
    stream : int
        CROP, CHANGES or MIX.
    """
    drawn = np.random.SeedSequence([seed, epoch, key, stream]).generate_state(1, np.uint64)
    return int(drawn[0] >> 1)


def _seed_cpu(seed: int) -> None:
    # torch.manual_seed would seed the accelerators too, whose dropout is not to follow an image.
    torch.default_generator.manual_seed(seed)


def stack(pictures: list[torch.Tensor]) -> torch.Tensor:
    """Stack pictures to a batch whose colours lie side by side in memory.

    They come so from the decoder and the network takes them so (`channels_last`): turning the
    colours outwards and back would cost more than the crop.

    Parameters
    ----------
    pictures : list of Tensor
        uint8 (3, height, width) each.

    Returns
    -------
    Tensor
        uint8 (batch, 3, height, width).
    """
    return torch.stack([picture.permute(1, 2, 0) for picture in pictures]).permute(0, 3, 1, 2)


class GlobalBatches(Sampler[list[Item]]):
    """Each epoch's optimiser steps, cut up over processes and micro-batches.

    The order of `rows` is drawn by seed and epoch alone. Step s takes the next processes × micro ×
    accumulate rows; micro-batch a of process r takes the piece a × processes + r of them. So any
    split of a global batch into equal micro-batches sees the same pieces. What does not fill a last
    step is left to the other epochs, whose order is another.

    Yields lists of (epoch, row). Set `epoch` before each pass.

    Parameters
    ----------
    rows : ndarray of int
        The rows that an epoch takes.
    micro : int
        Images of a micro-batch.
    accumulate : int
        Micro-batches of a process in a step.
    processes, rank : int
        How many processes there are, and which this is.
    seed : int
        Of the job.
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

    @property
    def images(self) -> int:
        """Images an epoch, over all processes."""
        return self.steps * self.micro * self.accumulate * self.processes

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[list[Item]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.rows)
        for number in range(len(self)):
            start = (number * self.processes + self.rank) * self.micro
            yield [(self.epoch, int(row)) for row in order[start : start + self.micro]]


class InTurn(Sampler[list[Item]]):
    """Rows in their order, in batches of at most `size`: for predicting.

    Yields lists of (epoch, row); `epoch` chooses the random numbers where the pictures are changed
    at random.
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

    Attributes
    ----------
    labels : ndarray of int (images,)
        Class numbers, -1 where an image has none.
    classes : int
        How many classes there are.
    teachers : sequence of Store
        Each holds `logits`, or `target_classes` with `target_probabilities`.
    places : sequence of ndarray of int (images,)
        For each teacher the rows of its store; -1 where it does not teach an image.
    temperature : float
        By which the teachers' logits are divided.
    soft : Store, optional
        Holds the soft labels of some images: `target_classes` with `target_probabilities`.
    soft_places : ndarray of int (images,), optional
        The rows of that store; -1 where an image teaches its label.
    """

    labels: np.ndarray
    classes: int
    teachers: Sequence[Store] = ()
    places: Sequence[np.ndarray] = ()
    temperature: float = 1.0
    soft: Store | None = None
    soft_places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Sequence[int]) -> torch.Tensor:
        """Return labels, float32 (rows, classes), and beside them the teachers' mean."""
        return self.of_view(rows, "logits")

    def of_view(self, rows: Sequence[int], kind: str) -> torch.Tensor:
        """Return the same, with the array `kind` of the teachers' stores as what they predict."""
        by_label = self._by_label(rows)
        if not self.teachers:
            return torch.from_numpy(by_label)
        taught, counts = np.zeros_like(by_label), np.zeros((len(by_label), 1), np.float32)
        for teacher, place in zip(self.teachers, self.places, strict=True):
            there = np.flatnonzero(place[rows] >= 0)
            taught[there] += self._probabilities(teacher, place[rows][there], kind)
            counts[there] += 1
        taught /= np.maximum(counts, 1)
        return torch.from_numpy(np.concatenate([by_label, taught], axis=1))

    def _by_label(self, rows: Sequence[int]) -> np.ndarray:
        """One-hot labels, float32 (rows, classes), and soft ones where an image has one."""
        labels = self.labels[rows]
        found = np.zeros((len(labels), self.classes), np.float32)
        known = np.flatnonzero(labels >= 0)
        found[known, labels[known]] = 1
        if self.soft is not None:
            places = self.soft_places[rows]
            there = np.flatnonzero(places >= 0)
            found[there] = self._soft_targets(self.soft, places[there])
        return found

    def _probabilities(self, teacher: Store, places: np.ndarray, kind: str) -> np.ndarray:
        if kind in teacher.kinds():
            logits = teacher.read_rows(kind, places).astype(np.float32)
            return softmax(logits / self.temperature)
        return self._soft_targets(teacher, places)

    def _soft_targets(self, store: Store, places: np.ndarray) -> np.ndarray:
        dense = np.zeros((len(places), self.classes), np.float32)
        columns = store.read_rows(CLASSES, places)
        values = store.read_rows(PROBABILITIES, places).astype(np.float32)
        # A class may appear twice in a row, its other value being nothing.
        np.add.at(dense, (np.arange(len(places))[:, None], columns), values)
        return dense / dense.sum(axis=1, keepdims=True)


@dataclass
class Changes:
    """The random changes of a batch: of its pictures, then CutMix or Mixup of the batch.

    The same on a worker's CPU and, but for rounding, on the device that trains: all draws are from
    the CPU's random numbers, seeded by epoch and image.

    Attributes
    ----------
    change : RandomChanges
        Of the single pictures.
    seed : int
        Of the job.
    mix, mix_probability, mix_alpha, mixup_alpha : str, float, float, float
        As `augment.mix_batch` takes them.
    """

    change: augment.RandomChanges
    seed: int
    mix: str = "none"
    mix_probability: float = 0.0
    mix_alpha: float = 1.0
    mixup_alpha: float = 0.2

    def __call__(
        self, pictures: Sequence[torch.Tensor], targets: torch.Tensor, items: Sequence[Item]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change the pictures of a batch one by one, as a worker does.

        Parameters
        ----------
        pictures : sequence of Tensor
            uint8 (3, size, size) each.
        targets : Tensor
            float (batch, width).
        items : sequence of (epoch, key)
            Of each picture, from which its random numbers follow.

        Returns
        -------
        tuple of Tensor
            uint8 (batch, 3, size, size) and float (batch, width).
        """
        with torch.random.fork_rng(devices=[]):
            changed = [
                self.one(picture, *item) for picture, item in zip(pictures, items, strict=True)
            ]
            return self._mixed(stack(changed), targets, items[0])

    def of_batch(
        self, pictures: torch.Tensor, targets: torch.Tensor, items: Sequence[Item]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change a whole batch where it is, uint8 (batch, 3, size, size), by the same draws."""
        with torch.random.fork_rng(devices=[]):
            drawn = [self._drawn(pictures.shape[2:], *item) for item in items]
            changed = self.change.apply_to_batch(pictures, drawn)
            return self._mixed(changed, targets, items[0])

    def _drawn(self, sides: Sequence[int], epoch: int, key: int) -> list:
        _seed_cpu(item_seed(self.seed, epoch, key, CHANGES))
        return self.change.draw(*sides)

    def _mixed(
        self, pictures: torch.Tensor, targets: torch.Tensor, first: Item
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # Seeded by the batch's first image: every image of it takes part in the mix.
        _seed_cpu(item_seed(self.seed, *first, MIX))
        alphas = self.mix_alpha, self.mixup_alpha
        return augment.mix_batch(pictures, targets, self.mix, self.mix_probability, *alphas)

    def one(self, picture: torch.Tensor, epoch: int, key: int) -> torch.Tensor:
        """Return one picture, changed; seeds the CPU's random numbers."""
        _seed_cpu(item_seed(self.seed, epoch, key, CHANGES))
        return self.change(picture)


@dataclass
class Pictures(Dataset):
    """Pictures of the cache, prepared one by one, with their targets.

    An item is a batch's list of (epoch, row); it gives uint8 (batch, 3, size, size) and float32
    (batch, width). Random numbers are seeded per image, so neither worker processes nor other
    images change a picture.

    Attributes
    ----------
    files : list of str
        Paths of cached JPEGs.
    targets : Targets or Tensor
        Gives float32 (rows, width) of a list of rows.
    view : Transform
        Cuts a picture out.
    seed : int
        Of the job.
    changes : Changes, optional
        Alter what is cut out.
    changes_later : bool
        Leave the changes to the device that trains: epochs and keys, int64 (batch, 2), then stand
        between pictures and targets.
    views : int
        Above 0 the epochs repeat so many random views, which teachers have predicted too: of view n
        their stores hold the array `view-n`.
    keys : ndarray of int64 (images,), optional
        By which an image's random numbers are seeded, see `image_keys`; without them by its row.
    decoded : Decoded, optional
        Where pictures are read and not decoded; its side is to be that of the view.
    """

    files: list[str]
    targets: Targets | torch.Tensor | None
    view: augment.Transform
    seed: int
    changes: Changes | None = None
    changes_later: bool = False
    views: int = 0
    keys: np.ndarray | None = None
    decoded: Decoded | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitems__(self, items: list[Item]) -> tuple[torch.Tensor, ...]:
        """The batch of the given (epoch, row) items."""
        if self.views:
            items = [(epoch % self.views, row) for epoch, row in items]
        with torch.random.fork_rng(devices=[]):
            pictures = [self.picture(*item) for item in items]
        targets = self._targets(items)
        if self.changes is None:
            return stack(pictures), targets
        keyed = [(epoch, self._key(row)) for epoch, row in items]
        if self.changes_later:
            return stack(pictures), torch.tensor(keyed), targets
        return self.changes(pictures, targets, keyed)

    def picture(self, epoch: int, row: int) -> torch.Tensor:
        """One picture as `view` cuts it, uint8 (3, size, size); seeds the CPU's random numbers."""
        _seed_cpu(item_seed(self.seed, epoch, self._key(row)))
        return self.view(self._whole(self.files[row]))

    def _whole(self, file: str) -> torch.Tensor:
        if self.decoded is None or file not in self.decoded:
            return augment.to_tensor(read_cached(file))
        with warnings.catch_warnings():
            # A map that cannot be written to: a view only reads it, and the batch is a copy.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return augment.to_tensor(self.decoded.read(file))

    def _key(self, row: int) -> int:
        return row if self.keys is None else int(self.keys[row])

    def _targets(self, items: list[Item]) -> torch.Tensor:
        rows = [row for _, row in items]
        if not self.views:
            return self.targets[rows]
        # All images of a batch are of one epoch.
        return self.targets.of_view(rows, f"view-{items[0][0]}")


def as_it_is(batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Return the batch: there is nothing to collate, for the data sets give whole batches."""
    return batch


def as_arrays(batch: tuple[torch.Tensor, ...]) -> tuple[np.ndarray, ...]:
    """Return the batch as NumPy arrays, pictures (batch, height, width, 3) as they lie in memory.

    A tensor that a worker gives away goes through shared memory, an array through a pipe.
    """
    return tuple((t.movedim(1, -1) if t.ndim == 4 else t).numpy() for t in batch)


def from_arrays(batch: tuple[np.ndarray, ...]) -> tuple[torch.Tensor, ...]:
    """Return what `as_arrays` was given, in the same memory layout."""
    tensors = map(torch.from_numpy, batch)
    return tuple(t.movedim(-1, 1) if t.ndim == 4 else t for t in tensors)
