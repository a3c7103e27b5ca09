"""Scores a block of rows at a time: best classes, log-probabilities, transport to a class prior."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Elements of a block of rows: a few megabytes, so that the steps on a block stay in the cache.
BLOCK = 2**20
# Probabilities below this one are taken for it, so that their logarithm is finite.
SMALLEST = 1e-20


def blocks(scores: np.ndarray) -> Iterator[slice]:
    """Cut the rows of scores into blocks that are small enough to be worked on in the cache."""
    step = max(1, BLOCK // scores.shape[1])
    return (slice(start, start + step) for start in range(0, len(scores), step))


def top1(scores: np.ndarray, offset: np.ndarray | None = None) -> np.ndarray:
    """Find the best class of each image, the first of equal ones.

    Parameters
    ----------
    scores : np.ndarray
        Float (images, classes).
    offset : np.ndarray, optional
        Float (classes,), added to the scores first, in the scores' own type.

    Returns
    -------
    np.ndarray
        Int64 (images,).
    """
    added = None if offset is None else offset.astype(scores.dtype)
    best = np.empty(len(scores), dtype=np.int64)
    for rows in blocks(scores):
        block = scores[rows] if added is None else scores[rows] + added
        best[rows] = block.argmax(axis=1)
    return best


def log_probabilities(scores: np.ndarray) -> np.ndarray:
    """Take the logarithm of scores / their sum over the classes.

    Votes + mean probability become the mean of the voters' answers and the mean probability. An
    image without any score has the same probability for all classes.

    Parameters
    ----------
    scores : np.ndarray
        Float (images, classes), not negative.

    Returns
    -------
    np.ndarray
        Float32 (images, classes), at least the logarithm of about `SMALLEST`.
    """
    logs = np.empty(scores.shape, dtype=np.float32)
    for rows in blocks(scores):
        block = np.maximum(scores[rows], SMALLEST, dtype=np.float32)
        block /= block.sum(axis=1, keepdims=True)
        np.log(block, out=logs[rows])
    return logs


class Potentials(NamedTuple):
    """What `class_potentials` found.

    Attributes
    ----------
    values : np.ndarray
        Float64 (classes,).
    sweeps : int
        How many sweeps over the scores it took.
    error : float
        Sum of the absolute changes of the classes' shares in the last sweep.
    """

    values: np.ndarray
    sweeps: int
    error: float


def class_potentials(
    logs: np.ndarray,
    prior: np.ndarray,
    regularisation: float = 1.0,
    pull: float = 1.0,
    *,
    tolerance: float = 1e-3,
    most_sweeps: int = 300,
) -> Potentials:
    """Find what to add to each class's log-probabilities so that the images fit a class prior.

    Optimal transport of the images, each of mass 1 / images, to the classes, each of mass `prior`,
    with entropic regularisation: the plan is softmax((logs + potential) / regularisation) over the
    classes, and its mean over the images is the prior. With regularisation 1 that is the posterior
    corrected to the prior; the smaller it is, the nearer to exact assignment, and the more sweeps
    it takes. Below 1 it is halved step by step from 1, each step starting from the last.

    Parameters
    ----------
    logs : np.ndarray
        Float32 (images, classes), read a block of rows at a time.
    prior : np.ndarray
        Float (classes,); it need not sum to 1. A class whose share is 0 gets minus infinity.
    regularisation : float
        Above 0.
    pull : float
        0 to 1. Below 1 the classes may miss the prior at a price, the Kullback-Leibler divergence
        times regularisation × pull / (1 - pull); at 0 all potentials are 0.
    tolerance : float
        Sweeps end when the column sums are within this of where they should be (sum of absolute
        shares).
    most_sweeps : int
        The most sweeps at each step.

    Returns
    -------
    Potentials
        The potentials, and how they were reached.

    Notes
    -----
    Of the plan only the column sums are kept. POT's `ot.sinkhorn` returns the whole plan, which at
    100,000 images and 5,000 classes is 4 GB of float64 beside as much for its costs and its kernel,
    and its lazy solvers make their costs from points under a metric, which scores are not. So the
    sweeps are written here.

    References
    ----------
    Cuturi, Sinkhorn distances, NIPS 2013. Schmitzer, Stabilized sparse scaling algorithms for
    entropy regularized transport problems, SIAM J. Sci. Comput. 2019. Chizat et al., Scaling
    algorithms for unbalanced optimal transport problems, Math. Comp. 2018.
    """
    prior = np.asarray(prior, dtype=np.float64) / np.sum(prior)
    open_ = prior > 0
    values = np.where(open_, 0.0, -np.inf)
    if not pull:
        return Potentials(np.zeros(len(prior)), 0, 0.0)
    steps = [regularisation]
    while steps[0] < 1:
        steps.insert(0, min(1.0, 2 * steps[0]))
    sweeps = 0
    for step in steps:
        # The steps on the way need not be close: they only prepare the last one.
        close = tolerance if step == regularisation else max(tolerance, 0.05)
        error, last = math.inf, sweeps + most_sweeps
        while error > close and sweeps < last:
            shares = _class_shares(logs, values, step)[open_]
            wanted = values[open_] + step * (np.log(prior[open_]) - np.log(shares))
            change = pull * wanted - values[open_]
            values[open_] += change
            error = float((prior[open_] * np.abs(change)).sum() / step)
            sweeps += 1
    return Potentials(values, sweeps, error)


def _class_shares(logs: np.ndarray, potentials: np.ndarray, regularisation: float) -> np.ndarray:
    """The mean over the images of the plan's rows, float64 (classes,), never quite 0."""
    added = potentials.astype(np.float32)
    total = np.zeros(logs.shape[1])
    for rows in blocks(logs):
        plan = logs[rows] + added
        plan -= plan.max(axis=1, keepdims=True)
        if regularisation != 1:
            plan /= np.float32(regularisation)
        np.exp(plan, out=plan)
        total += (1 / plan.sum(axis=1)) @ plan
    # A class that no image comes near has underflown; its potential rises step by step.
    return np.maximum(total / len(logs), 1e-30)
