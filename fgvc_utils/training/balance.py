"""Two ways to meet a long tail: show rare classes more often, or tell the network the prior."""

import math

import numpy as np


def oversample(labels: np.ndarray, share: float = 1 / 3, seed: int = 0) -> np.ndarray:
    """Row numbers in which each class stands at least `share` times as often as the largest.

    `labels` int (images,). Every row stands at least once; the rows of a small class are repeated
    in turn, and which of them stand once more is drawn by `seed`. Returns int64.
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
    """Log of the class priors, counts floored at one: float32 (classes,).

    As the classifier's frozen bias while training, and left out when predicting for a test set of
    equal classes, this is logit adjustment (Menon et al., Long-tail learning via logit adjustment,
    ICLR 2021).
    """
    floored = np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    return np.log(floored / floored.sum()).astype(np.float32)
