"""The nearest of many images by cosine similarity, in bounded memory.

Up to some ten thousand images all pairs are compared. Of more, the images are cut into cells of
like ones, and each image is compared with those of the cells that are nearest to it; how many cells
that takes, and what share of the true neighbours it finds, is measured on a sample.

References
----------
Jégou, Douze and Schmid, Product quantization for nearest neighbor search, 2011: inverted files.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fgvc_utils.cleaning.vectors import Rows, in_blocks

# Up to so many images all pairs are compared.
EXACT = 30_000
# Rows whose similarities are computed at once, and the most similarities, which bound the memory.
BLOCK = 2048
SIMILARITIES = 2**26
# The most cells that an image is compared with, and the share of true neighbours that is enough.
MOST_CELLS = 32
ENOUGH = 0.98
# Images whose true neighbours are looked up, and images a cell that cells are learnt from.
SAMPLE = 512
LEARNT_FROM = 32


@dataclass(frozen=True)
class Near:
    """The nearest images of each image, the nearest first.

    Attributes
    ----------
    rows
        Row numbers, int64 (images, count).
    likeness
        Cosine similarities, float32 (images, count); -inf where only copies were left.
    recall
        The share of true neighbours that is among them, 0 to 1, by a sample; 1 where all pairs were
        compared.
    """

    rows: np.ndarray
    likeness: np.ndarray
    recall: float = 1.0


def search(vectors: Rows, groups: np.ndarray, count: int, exact: int = EXACT) -> Near:
    """The nearest images of each image by cosine similarity, copies of itself left out.

    Parameters
    ----------
    vectors
        Unit vectors, float32 (images, width), read in blocks.
    groups
        Images of one group are copies of each other, (images,).
    count
        How many neighbours an image gets.
    exact
        Up to so many images all pairs are compared.

    Raises
    ------
    ValueError
        There are not more images than neighbours.
    """
    if count >= len(vectors):
        raise ValueError(f"neighbours {count} needs more than {len(vectors)} images; lower it")
    codes = pd.factorize(groups)[0]
    if len(vectors) <= exact:
        return _of_all_pairs(vectors[:], codes, count)
    cells = cut_cells(vectors)
    sample = sample_rows(len(vectors))
    true = _nearest_of(vectors, sample, codes, count).rows.ravel()
    one = np.repeat(sample, count)
    number, recall = cells.enough(one[true >= 0], true[true >= 0])
    best = _Best(len(vectors), count)
    for members, chunks in cells.visits(number):
        block = vectors[members]
        for rows in chunks:
            likeness = vectors[rows] @ block.T
            likeness[codes[rows][:, None] == codes[members]] = -np.inf
            best.add(rows, members, likeness)
    # Where the cells held little but copies.
    lacking = np.flatnonzero(~np.isfinite(best.likeness).all(axis=1))
    if len(lacking):
        found = _nearest_of(vectors, lacking, codes, count)
        nobody = found.rows < 0
        best.rows[lacking] = np.where(nobody, lacking[:, None], found.rows)
        best.likeness[lacking] = found.likeness
    print(
        f"nearest of {len(vectors)} images: each is compared with {number} of {len(cells)} cells, "
        f"which hold {recall:.1%} of the true neighbours of {len(sample)} images"
    )
    return best.sorted(recall)


def sample_rows(images: int) -> np.ndarray:
    """The images that a recall is measured on, evenly spread."""
    return np.linspace(0, images - 1, min(SAMPLE, images)).astype(np.int64)


def _of_all_pairs(unit: np.ndarray, codes: np.ndarray, count: int) -> Near:
    found, likest = [], []
    rows = max(1, min(BLOCK, SIMILARITIES // len(unit)))
    for start in range(0, len(unit), rows):
        block = slice(start, start + rows)
        likeness = unit[block] @ unit.T
        likeness[codes[block][:, None] == codes[None, :]] = -np.inf
        top = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(likeness, top, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        found.append(np.take_along_axis(top, order, axis=1))
        likest.append(np.take_along_axis(values, order, axis=1))
    return Near(np.concatenate(found), np.concatenate(likest))


def _nearest_of(vectors: Rows, asked: np.ndarray, codes: np.ndarray, count: int) -> Near:
    """The nearest of all images to some of them, by comparing all."""
    best = _Best(len(asked), count)
    for start in range(0, len(asked), BLOCK):
        mine = slice(start, start + BLOCK)
        own = vectors[asked[mine]]
        for block, others in in_blocks(vectors, BLOCK):
            likeness = own @ others.T
            likeness[codes[asked[mine]][:, None] == codes[block]] = -np.inf
            places = np.arange(len(asked))[mine]
            best.add(places, np.arange(block.start, block.stop), likeness)
    return best.sorted(1.0)


class _Best:
    """The nearest images that were seen so far: `rows` and `likeness`, in no order."""

    def __init__(self, images: int, count: int) -> None:
        self.rows = np.full((images, count), -1, np.int64)
        self.likeness = np.full((images, count), -np.inf, np.float32)

    def add(self, at: np.ndarray, others: np.ndarray, likeness: np.ndarray) -> None:
        """Let images `at` see `others`; likeness is (at, others)."""
        count = self.rows.shape[1]
        nearer = likeness.max(axis=1) > self.likeness[at].min(axis=1)
        at, likeness = at[nearer], likeness[nearer]
        kept = min(count, likeness.shape[1])
        top = np.argpartition(likeness, -kept, axis=1)[:, -kept:]
        values = np.take_along_axis(likeness, top, axis=1)
        values = np.concatenate([self.likeness[at], values], axis=1)
        rows = np.concatenate([self.rows[at], others[top]], axis=1)
        best = np.argpartition(values, -count, axis=1)[:, -count:]
        self.rows[at] = np.take_along_axis(rows, best, axis=1)
        self.likeness[at] = np.take_along_axis(values, best, axis=1)

    def sorted(self, recall: float) -> Near:
        """What was found, the nearest first."""
        order = np.argsort(-self.likeness, axis=1, kind="stable")
        rows = np.take_along_axis(self.rows, order, axis=1)
        return Near(rows, np.take_along_axis(self.likeness, order, axis=1), recall)


@dataclass(frozen=True)
class Cells:
    """Images cut into cells of like ones.

    Attributes
    ----------
    nearest
        The cells nearest to each image, its own first, int32 (images, at most `MOST_CELLS`).
    members
        The rows of the images, cell by cell, int64 (images,).
    starts
        Where each cell begins among them, int64 (cells + 1,).
    """

    nearest: np.ndarray
    members: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def enough(
        self, one: np.ndarray, other: np.ndarray, share: float = ENOUGH
    ) -> tuple[int, float]:
        """How many cells an image must be compared with for a share of known pairs to meet.

        Parameters
        ----------
        one, other
            Rows of pairs, int64 (pairs,): `one` is compared with the cells nearest to it.
        share
            The share of the pairs that is enough, 0 to 1.

        Returns
        -------
        number : int
            Of cells; all that are known where those are not enough.
        share : float
            Of the pairs that meet.
        """
        met = self.nearest[one] == self.nearest[other, :1]
        shares = np.cumsum(met.sum(axis=0)) / max(1, len(one))
        number = min(int(np.searchsorted(shares, share)), len(shares) - 1)
        return number + 1, float(shares[number]) if len(one) else 1.0

    def visits(self, number: int) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Each cell's rows with the rows that are compared with them, in chunks.

        Parameters
        ----------
        number
            How many of its nearest cells an image is compared with; first all with their own.
        """
        for part in (self.nearest[:, :1], self.nearest[:, 1:number]):
            width = part.shape[1]
            order = np.argsort(part, axis=None, kind="stable")
            starts = np.searchsorted(part.ravel()[order], np.arange(len(self) + 1))
            for cell in range(len(self) if width else 0):
                members = self.members[self.starts[cell] : self.starts[cell + 1]]
                rows = order[starts[cell] : starts[cell + 1]] // width
                if len(members) and len(rows):
                    size = max(1, min(BLOCK, SIMILARITIES // len(members)))
                    yield members, np.split(rows, np.arange(size, len(rows), size))


def cut_cells(vectors: Rows) -> Cells:
    """Cut images into cells by k-means, about one and a half times the square root of their number.

    References
    ----------
    Sculley, Web-scale k-means clustering, 2010: the fit on small batches.
    """
    from sklearn.cluster import MiniBatchKMeans

    count = max(1, round(1.5 * np.sqrt(len(vectors))))
    random = np.random.default_rng(0)
    sample = np.sort(
        random.choice(len(vectors), min(len(vectors), LEARNT_FROM * count), replace=False)
    )
    fit = MiniBatchKMeans(
        count, init="random", n_init=1, batch_size=4 * BLOCK, max_iter=10, random_state=0
    ).fit(vectors[sample])
    centres = fit.cluster_centers_.astype(np.float32)
    most = min(MOST_CELLS, count)
    nearest = np.empty((len(vectors), most), np.int32)
    for block, rows in in_blocks(vectors, BLOCK):
        # Half the squared distance with its sign turned, without what is the same for all cells.
        closeness = rows @ centres.T - (centres**2).sum(axis=1) / 2
        top = np.argpartition(-closeness, most - 1, axis=1)[:, :most]
        order = np.argsort(-np.take_along_axis(closeness, top, axis=1), axis=1, kind="stable")
        nearest[block] = np.take_along_axis(top, order, axis=1)
    own = nearest[:, 0]
    members = np.argsort(own, kind="stable")
    return Cells(nearest, members, np.searchsorted(own[members], np.arange(count + 1)))


def whole(images: int) -> Cells:
    """One cell of all images, for sets of which all pairs can be compared."""
    return Cells(np.zeros((images, 1), np.int32), np.arange(images), np.array([0, images]))
