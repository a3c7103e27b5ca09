"""The images of whole classes as arrays, and which classes are near each other."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from fgvc_utils.cleaning.vectors import unit_rows
from fgvc_utils.contest.tables import HUMAN, decided_by_person, kept


@dataclass(frozen=True)
class Seen:
    """The images that are looked at, all arrays in one order; classes are numbers.

    Parameters
    ----------
    features
        Float (images, width).
    ids, groups
        The image ids and the groups of copies.
    names
        The name of each class.
    given
        The labels that the images came with, int (images,); -1 where a person left an image out.
    label
        The labels in force, int (images,); -1 where an image is left out.
    suggested
        The class that 02 or 03 found likeliest, int (images,); -1 where it found none.
    by_hand
        Which labels in force a person set or confirmed, boolean (images,).
    came_under, stands_under
        Row numbers by `given` and by `label`, an array a class.
    """

    features: np.ndarray
    ids: np.ndarray
    groups: np.ndarray
    names: list[str]
    given: np.ndarray
    label: np.ndarray
    suggested: np.ndarray
    by_hand: np.ndarray
    came_under: list[np.ndarray]
    stands_under: list[np.ndarray]

    @classmethod
    def of(cls, features: np.ndarray, table: pd.DataFrame) -> "Seen":
        """The images of a label table; those that a person left out are of no class."""
        out = ((table["status"] == "drop") & (table["by"] == HUMAN)).to_numpy()
        in_force = kept(table).to_numpy()
        names = pd.Index(sorted(set(table["given"])))
        given = np.where(out, -1, names.get_indexer(table["given"]))
        label = np.where(in_force, names.get_indexer(table["label"]), -1)
        return cls(
            features,
            table["image_id"].to_numpy(object),
            table["group"].to_numpy(object),
            names.tolist(),
            given,
            label,
            names.get_indexer(table["suggested"]),
            in_force & decided_by_person(table).to_numpy(),
            _rows_by_class(given, len(names)),
            _rows_by_class(label, len(names)),
        )

    def of_pair(self, one: int, other: int) -> np.ndarray:
        """Rows of what came under one of two classes and shows one of them, whichever it is.

        Where nothing was suggested of any image, all that came under them.
        """
        rows = np.concatenate([self.came_under[one], self.came_under[other]])
        shows = np.isin(self.suggested[rows], [one, other])
        return rows[shows | self.nothing_suggested]

    @cached_property
    def nothing_suggested(self) -> bool:
        """Whether 02 and 03 suggested no class of any image."""
        return bool(self.suggested.max(initial=-1) < 0)


def _rows_by_class(codes: np.ndarray, classes: int) -> list[np.ndarray]:
    order = np.argsort(codes, kind="stable")
    cuts = np.searchsorted(codes[order], np.arange(classes + 1))
    return [order[start:end] for start, end in zip(cuts[:-1], cuts[1:], strict=True)]


def likely_pairs(centres: np.ndarray, count: int) -> list[tuple[int, int]]:
    """The pairs of classes of which one is among the nearest of the other.

    Parameters
    ----------
    centres
        The mean of each class, float (classes, width).
    count
        How many nearest classes each class is paired with.

    Returns
    -------
    list of (int, int)
        Class numbers, the lower first, each pair once, sorted.
    """
    unit = unit_rows(centres - centres.mean(axis=0))
    count = min(count, len(unit) - 1)
    pairs: set[tuple[int, int]] = set()
    for start in range(0, len(unit) if count > 0 else 0, 1024):
        likeness = unit[start : start + 1024] @ unit.T
        rows = np.arange(len(likeness))
        likeness[rows, start + rows] = -np.inf
        near = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
        pairs |= {
            (min(start + row, int(other)), max(start + row, int(other)))
            for row, others in zip(rows.tolist(), near, strict=True)
            for other in others
        }
    return sorted(pairs)
