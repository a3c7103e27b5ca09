"""The posterior of each image's class, as sparse arrays.

Arrays come in, arrays go out; nothing here trains.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The class of images that show no class of the contest. No folder can have this name.
NONE = "none/of the classes"


@dataclass(frozen=True)
class SparsePosterior:
    """The posterior of each image's likely classes: a row an image.

    A row's values add up to 1. A class that appears twice in a row counts once: all its values but
    one are 0.

    Parameters
    ----------
    columns
        Class numbers, int32 (images, width); the number of classes stands for "none of them".
    values
        Their posteriors, float32 (images, width), 0 to 1.
    """

    columns: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.columns)

    def best(self) -> np.ndarray:
        """The likeliest class of each image, int32 (images,)."""
        return self.columns[np.arange(len(self)), self.values.argmax(axis=1)]

    def of(self, labels: np.ndarray) -> np.ndarray:
        """The posterior of one class an image, float32 (images,); `labels` int (images,)."""
        return (self.values * (self.columns == labels[:, None])).sum(axis=1)

    def rows(self, which: np.ndarray) -> "SparsePosterior":
        """Some rows, by number or boolean."""
        return SparsePosterior(self.columns[which], self.values[which])

    def fixed(self, known: np.ndarray) -> "SparsePosterior":
        """The same with certainty where the class is known.

        A person's decision and the noise model's outrank the evidence.

        Parameters
        ----------
        known
            Class numbers, int (images,); -1 where the class is not known.
        """
        columns, values = self.columns.copy(), self.values.copy()
        sure = np.flatnonzero(known >= 0)
        values[sure] = 0
        columns[sure, 0], values[sure, 0] = known[sure], 1
        return SparsePosterior(columns, values)


def mean(posteriors: Sequence[SparsePosterior]) -> SparsePosterior:
    """The mean of several posteriors of the same images, class by class.

    Rounds whose folds were cut in different ways err in different places; their mean errs less.

    Parameters
    ----------
    posteriors
        One or more, with the same images in the same order.

    Returns
    -------
    SparsePosterior
        As wide as the widest of them: the likeliest classes of each row.

    References
    ----------
    Breiman, Bagging predictors, 1996.
    """
    if len(posteriors) == 1:
        return posteriors[0]
    columns = np.concatenate([one.columns for one in posteriors], axis=1)
    values = np.concatenate([one.values for one in posteriors], axis=1) / len(posteriors)
    order = np.argsort(columns, axis=1, kind="stable")
    columns = np.take_along_axis(columns, order, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    # A class that stands several times in a row gathers in its last place.
    for place in range(1, columns.shape[1]):
        same = columns[:, place] == columns[:, place - 1]
        values[same, place] += values[same, place - 1]
        values[same, place - 1] = 0
    width = max(one.columns.shape[1] for one in posteriors)
    largest = np.argsort(-values, axis=1, kind="stable")[:, :width]
    values = np.take_along_axis(values, largest, axis=1)
    return SparsePosterior(
        np.take_along_axis(columns, largest, axis=1),
        values / np.maximum(values.sum(axis=1, keepdims=True), 1e-30),
    )
