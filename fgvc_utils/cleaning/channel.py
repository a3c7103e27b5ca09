"""How the web makes labels: how many are right, and which class is taken for which.

A label is right with some probability, the trust; otherwise it is that of another class, and some
pairs of classes are taken for each other more often than others. Networks that never saw an image
say how likely each class is, sharpened by a power. All of it is estimated so that the labels become
likely: no truth is read.

Arrays come in, arrays go out; nothing here trains.

References
----------
Bootkrajang and Kabán, Label-noise robust logistic regression and its applications, 2012: a channel
between true and given labels.
Dempster, Laird and Rubin, Maximum likelihood from incomplete data via the EM algorithm, 1977.
Guo et al., On calibration of modern neural networks, 2017: one power for all probabilities.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Neither all labels are right nor none: evidence must be able to win.
LEAST, MOST = 0.02, 0.998
# Labels that go astray evenly weigh as much as so many of one class that went where they went.
PAIR_PRIOR = 10.0
SHARPNESSES = (0.5, 4.0)
START, STEPS, CLOSE = 0.7, 100, 1e-4
# So many images say as much of the sharpness as all of them.
SAMPLE = 50_000
# What an image that is believed to show a class beyond the columns counts.
UNSEEN = 1e-3


@dataclass(frozen=True)
class Pairs:
    """How often images of one class came under the label of another.

    Parameters
    ----------
    keys
        True class · number of classes + label, for the pairs that occur, ascending, int64.
    counts
        Expected number of images of each of these pairs, float64.
    totals
        Expected number of a class's images that came under another label, float64 (classes + 1,).
    """

    keys: np.ndarray
    counts: np.ndarray
    totals: np.ndarray

    def of(self, columns: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
        """The counts of images' pairs, float64 (images, width)."""
        if not len(self.keys):
            return np.zeros(columns.shape)
        wanted = columns.astype(np.int64) * classes + labels[:, None]
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[places] == wanted, self.counts[places], 0.0)


@dataclass(frozen=True)
class Channel:
    """How the web makes a label of a class.

    Parameters
    ----------
    trust
        The probability that an image of a class comes under that class, 0 to 1.
    sharpness
        The power of the networks' probabilities.
    classes
        The number of classes.
    pairs
        Which classes come under which labels; None where all wrong labels are alike.
    right
        The mean posterior of the labels of each class, float64 (classes,), NaN where there is no
        image; None where nothing was estimated.
    """

    trust: float
    sharpness: float
    classes: int
    pairs: Pairs | None = None
    right: np.ndarray | None = None

    def of(self, columns: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """How likely each image's label is, if the image showed one of some classes.

        Parameters
        ----------
        columns
            Class numbers, int32 (images, width), the label first; the number of classes stands for
            "none of them", which comes under any label. The label counts in its first column alone.
        labels
            The labels, int (images,).

        Returns
        -------
        np.ndarray
            float32 (images, width).
        """
        astray = np.full(columns.shape, 1 / self.classes)
        if self.pairs is not None:
            counts = self.pairs.of(columns, labels, self.classes)
            astray = _astray(counts, self.pairs.totals[columns], self.classes)
        return _given_class(columns, labels, self.trust, astray, self.classes)


def estimate(
    labels: np.ndarray,
    columns: np.ndarray,
    likelihood: Callable[[np.ndarray, float], np.ndarray],
    classes: int,
    trust: float | None = None,
    sharpness: float | None = None,
    believed: np.ndarray | None = None,
) -> tuple[Channel, np.ndarray]:
    """The channel that makes the labels likely, and what it says of each image.

    The sharpness is calibrated: with it the networks are as sure as they are right about the
    classes that are believed so far.

    The trust is the mean posterior of the labels that the images came with, among the images that
    show a class. A pair of classes that images were taken for in the posteriors becomes likelier,
    but never by the image itself that is judged: a single surprise is no habit. One trust serves
    all classes: with a value for each, weak networks talk themselves into classes that are all
    right and others that are all wrong.

    Parameters
    ----------
    labels
        The labels, int (images,).
    columns
        As in `Channel.of`.
    likelihood
        Takes rows (image numbers) and a sharpness; returns how likely their pictures are for each
        of their columns, not negative, float32 (rows, width), up to one factor a row.
    classes
        The number of classes.
    trust, sharpness
        What is given and not estimated; wrong labels are then all alike where trust is given.
    believed
        The class that each image is believed to show, int (images,), -1 where none is; by default
        its label.

    Returns
    -------
    channel : Channel
        With what was given.
    posterior : np.ndarray
        float32 (images, width); a row adds up to 1.
    """
    if sharpness is None:
        sharpness = _calibrated(
            labels if believed is None else believed, columns, labels, likelihood
        )
    shown = _shares(likelihood(np.arange(len(labels)), sharpness), columns, labels)
    if trust is not None:
        channel = Channel(trust, sharpness, classes)
        return channel, _normal(shown * channel.of(columns, labels))
    return _expectation_maximisation(labels, columns, shown, classes, sharpness)


def _given_class(
    columns: np.ndarray,
    labels: np.ndarray,
    trust: float,
    astray: np.ndarray,
    classes: int,
) -> np.ndarray:
    values = np.where(columns == classes, 1 / classes, (1 - trust) * astray).astype(np.float32)
    values[:, 0] = trust
    values[:, 1:][columns[:, 1:] == labels[:, None]] = 0
    return values


def _astray(counts: np.ndarray, totals: np.ndarray, classes: int) -> np.ndarray:
    """The share of a class's wrong labels that a label gets: what was seen, drawn to even ones."""
    return (counts + PAIR_PRIOR / classes) / (totals + PAIR_PRIOR)


def _normal(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(values.sum(axis=1, keepdims=True), 1e-30)


def _shares(likelihood: np.ndarray, columns: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What the pictures alone say: the classes' shares, the label counted once."""
    values = likelihood.astype(np.float32)
    values[:, 1:][columns[:, 1:] == labels[:, None]] = 0
    return _normal(values)


def _expectation_maximisation(
    labels: np.ndarray, columns: np.ndarray, shown: np.ndarray, classes: int, sharpness: float
) -> tuple[Channel, np.ndarray]:
    keys, places = np.unique(
        columns.astype(np.int64) * classes + labels[:, None], return_inverse=True
    )
    places = places.reshape(columns.shape)
    true_class = keys // classes
    none = columns == classes
    # A label's own column is no pair, and neither is an image of none.
    astray_columns = ~none
    astray_columns[:, 0] = False
    counts, totals = np.zeros(len(keys)), np.zeros(classes + 1)
    own_part = np.zeros(columns.shape, np.float32)
    trust = START
    for _ in range(STEPS):
        others = np.maximum(counts[places] - own_part, 0)
        of_class = np.maximum(totals[columns] - own_part, 0)
        given = _given_class(columns, labels, trust, _astray(others, of_class, classes), classes)
        value = _normal(shown * given)
        own_part = value * astray_columns
        counts = np.bincount(places.ravel(), own_part.ravel(), minlength=len(keys))
        totals = np.bincount(true_class, counts, minlength=classes + 1)
        right, some = value[:, 0], 1 - (value * none).sum(axis=1)
        before, trust = trust, float(np.clip(right.sum() / max(some.sum(), 1e-9), LEAST, MOST))
        if abs(trust - before) < CLOSE:
            break
    images = np.bincount(labels, minlength=classes)
    with np.errstate(invalid="ignore"):
        of_label = np.bincount(labels, right, minlength=classes) / images
    seen = counts > 0
    pairs = Pairs(keys[seen], counts[seen], totals)
    return Channel(trust, sharpness, classes, pairs, of_label), value


def _calibrated(
    believed: np.ndarray,
    columns: np.ndarray,
    labels: np.ndarray,
    likelihood: Callable[[np.ndarray, float], np.ndarray],
) -> float:
    """The sharpness by which the networks are as sure as they are right about what is believed."""
    from scipy.optimize import minimize_scalar

    judged = np.flatnonzero(believed >= 0)
    rows = judged[np.linspace(0, len(judged) - 1, min(len(judged), SAMPLE)).astype(int)]
    few, own_label = columns[rows], labels[rows]
    meant = few == believed[rows][:, None]
    # The label stands in two columns, of which one counts.
    meant[:, 1:] &= few[:, 1:] != own_label[:, None]

    def surprise(sharpness: float) -> float:
        shown = (_shares(likelihood(rows, sharpness), few, own_label) * meant).sum(axis=1)
        return -float(np.log(np.maximum(shown, UNSEEN)).mean())

    found = minimize_scalar(surprise, bounds=SHARPNESSES, method="bounded", options={"xatol": 0.02})
    return round(float(found.x), 2)
