"""Features of images as unit vectors, read in blocks: what cosine similarity is computed from."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from fgvc_utils.jobs.predictions import BLOCK, Store


class Rows(Protocol):
    """What rows of features are read from: an array, a memory map, or `StoredRows`."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray: ...


class StoredRows:
    """The features of some images in a store; what is not asked for stays on the disk.

    Parameters
    ----------
    store
        The store of `features`.
    image_ids
        The images, in the order of the rows.

    Raises
    ------
    KeyError
        Naming an image that the store does not hold.
    """

    def __init__(self, store: Store, image_ids: Sequence[str]) -> None:
        self.store, self.places = store, store.rows_of(image_ids)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Return some rows, (rows, width)."""
        return self.store.read_rows("features", self.places[rows])


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1 in the same directions, float (rows, width); zeros stay zeros."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


class UnitVectors:
    """Features of one or more networks as unit vectors; `vectors[rows]` is float32 (rows, width).

    The product of two of them is the mean of the networks' cosine similarities.

    Parameters
    ----------
    networks
        The features of each network, float (images, width of the network).
    centred
        Whether each network's mean is taken off first: of features that are not negative all
        cosines are large.
    """

    def __init__(self, networks: Sequence[Rows], centred: bool = False) -> None:
        self.networks = list(networks)
        self.means = [mean_row(rows) if centred else None for rows in self.networks]

    def __len__(self) -> int:
        return len(self.networks[0])

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        parts = []
        for network, mean in zip(self.networks, self.means, strict=True):
            part = network[rows].astype(np.float32)
            if mean is not None:
                part -= mean
            parts.append(unit_rows(part))
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts, axis=1) / np.float32(np.sqrt(len(parts)))


def stored_vectors(
    stores: Sequence[Store], image_ids: Sequence[str], centred: bool = False
) -> UnitVectors:
    """The features of images in the stores of some networks, as unit vectors in their order."""
    return UnitVectors([StoredRows(store, image_ids) for store in stores], centred)


def mean_row(rows: Rows) -> np.ndarray:
    """The mean of all rows, float32 (width,)."""
    total = sum(block.sum(axis=0, dtype=np.float64) for _, block in in_blocks(rows))
    return (total / max(1, len(rows))).astype(np.float32)


def in_blocks(rows: Rows, size: int = BLOCK):
    """Pairs of a slice and the rows in it, one block after another."""
    for start in range(0, len(rows), size):
        block = slice(start, min(start + size, len(rows)))
        yield block, rows[block]
