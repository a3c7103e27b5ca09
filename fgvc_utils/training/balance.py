"""Two ways to meet a long tail: show rare classes more often, or give the network the prior."""

import math

import numpy as np


def oversample(labels: np.ndarray, share: float = 1 / 3, seed: int = 0) -> np.ndarray:
    """Return rows in which each class occurs at least `share` times as often as the largest.

    Parameters
    ----------
    labels : ndarray of int (images,)
        Class numbers.
    share : float
        See above.
    seed : int
        Draws which rows of a small class occur once more than the others.

    Returns
    -------
    ndarray of int64
        Row numbers: every row at least once, those of a small class repeated in turn.
    """
    rows = np.arange(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    least = math.ceil(counts.max() * share)
    random = np.random.default_rng(seed)
    extra = [
        np.resize(random.permutation(rows[labels == label]), least - count)
        for label, count in zip(classes, counts, strict=True)
        if count < least
    ]
    return np.concatenate([rows, *extra])


def log_prior(counts: np.ndarray) -> np.ndarray:
    """Return the log of the class priors.

    As the classifier's frozen bias while training, and left out when predicting for a test set of
    equal classes, this is logit adjustment.

    Parameters
    ----------
    counts : ndarray of int (classes,)
        Images of each class, floored at one.

    Returns
    -------
    ndarray of float32 (classes,)
        Their exponentials sum to 1.

    References
    ----------
    Menon et al., Long-tail learning via logit adjustment, ICLR 2021.
    """
    floored = np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    return np.log(floored / floored.sum()).astype(np.float32)
