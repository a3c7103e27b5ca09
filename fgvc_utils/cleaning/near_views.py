"""What the images around an image and the means of the classes say of its class.

Functions of arrays; the views that call them are entries of `views.VIEWS`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from fgvc_utils.cleaning.search import Near, search
from fgvc_utils.cleaning.vectors import UnitVectors, in_blocks, stored_vectors, unit_rows
from fgvc_utils.jobs.predictions import BLOCK, INDEX, Store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.reduction import Reduced

# By how much a neighbour's cosine must be lower for its vote to count e times less.
FADING = 0.2
# One vote for each class in advance: ten neighbours are no proof.
IN_ADVANCE = 1.0
# How often the members of a class are weighed anew, and the images a temperature is fitted to.
WEIGHINGS = 3
FITTED_TO = 4096
# Of thousands of classes fewer images say as much: so many scores are fitted to at most.
FITTED_SCORES = 2**24
# Scores that are worked on at once, so that they stay in the processor's cache.
CACHED = 2**18
# What a network leaves to a class at least: half precision rounds to nothing.
LEAST_PROBABILITY = 1e-5


def near_images(
    jobs: Sequence[Job], image_ids: Sequence[str], groups: np.ndarray, count: int
) -> Near:
    """The nearest images by the features of all networks, copies left out.

    Labels have no part in it, so what one round has found serves the next ones.

    Parameters
    ----------
    jobs
        The jobs whose stores hold the features.
    image_ids
        The images.
    groups
        Images of one group are copies of each other, (images,).
    count
        How many neighbours an image gets, fewer where there are not so many other images.
    """
    stores = tuple((job.store, (job.store / INDEX).stat().st_mtime_ns) for job in jobs)
    count = min(count, len(image_ids) - 1)
    return _near_images(stores, tuple(image_ids), tuple(groups), count)


# The rounds ask about one set of images, the planted check about another.
@lru_cache(maxsize=2)
def _near_images(
    stores: tuple[tuple[Path, int], ...], image_ids: tuple, groups: tuple, count: int
) -> Near:
    """The same by what tells one search from another: stores, each with the time of its writing."""
    vectors = stored_vectors([Store(folder) for folder, _ in stores], list(image_ids))
    return search(vectors, np.array(groups, dtype=object), count)


def votes(near: Near, voters: np.ndarray, columns: np.ndarray, classes: int) -> np.ndarray:
    """How likely the neighbours' classes are, for each class that an image may show.

    A neighbour's vote fades with its distance from the nearest one. A large class has more images
    anywhere, so votes count by the size of their class: twice for the rarest ones. One vote for
    each class stands there in advance.

    Parameters
    ----------
    near
        The neighbours of each image.
    voters
        The class that each image votes for, int (images,); the number of classes stands for "none
        of them".
    columns
        Class numbers, int32 (images, width).
    classes
        How many classes there are.

    Returns
    -------
    np.ndarray
        float32 (images, width), positive.

    References
    ----------
    Wu et al., Unsupervised feature learning via non-parametric instance discrimination, 2018: votes
    by exponential weight.
    """
    # -inf is a copy, where there were too few other images; it has no vote.
    nearest = np.where(np.isfinite(near.likeness[:, :1]), near.likeness[:, :1], 0)
    weight = np.exp((near.likeness - nearest) / FADING)
    sizes = np.bincount(voters, minlength=classes + 1)
    usual = sizes[:classes].mean()
    rarity = (2 * usual / (sizes + usual)).astype(np.float32)
    found = np.zeros(columns.shape, np.float32)
    for place in range(near.rows.shape[1]):
        vote = voters[near.rows[:, place]]
        found += weight[:, place, None] * (vote[:, None] == columns)
    return IN_ADVANCE + found * rarity[columns]


def class_means(
    vectors: UnitVectors, taught: np.ndarray, teaches: np.ndarray, classes: int
) -> np.ndarray:
    """The mean of each class with little weight for images that are unlike it, as unit vectors.

    The members of a class are weighed by their cosine to its mean, if that is positive, and the
    mean is taken again, a few times.

    Parameters
    ----------
    vectors
        The images, unit vectors.
    taught
        The class that each image teaches, int (images,); the number of classes teaches none.
    teaches
        The images that count, boolean (images,).
    classes
        How many classes there are.

    Returns
    -------
    np.ndarray
        float32 (classes, width); zeros for a class that no image teaches.

    References
    ----------
    Huber, Robust estimation of a location parameter, 1964: means by iterated weights.
    """
    from scipy.sparse import csr_array

    teaches = teaches & (taught < classes)
    means = None
    for _ in range(1 + WEIGHINGS):
        total = 0.0
        for rows in np.array_split(np.flatnonzero(teaches), 1 + teaches.sum() // BLOCK):
            block, own = vectors[rows], taught[rows]
            weight = np.ones(len(rows), np.float32)
            if means is not None:
                weight = np.maximum((block * means[own]).sum(axis=1), 0)
            shares = csr_array((weight, (own, np.arange(len(rows)))), shape=(classes, len(rows)))
            total = total + shares @ block
        means = unit_rows(total)
    return means


def cosines_to_means(
    vectors: UnitVectors, taught: np.ndarray, fold: np.ndarray, classes: int
) -> Callable[[np.ndarray], np.ndarray]:
    """The cosine of images to the means of the classes, which other folds' images make.

    Parameters
    ----------
    vectors, taught, classes
        As for `class_means`.
    fold
        The fold of each image, int (images,).

    Returns
    -------
    callable
        Takes row numbers and returns float32 (rows, classes).
    """
    means = {
        int(number): class_means(vectors, taught, fold != number, classes)
        for number in np.unique(fold)
    }

    def cosines(rows: np.ndarray) -> np.ndarray:
        block, own = vectors[rows], fold[rows]
        found = np.empty((len(rows), classes), np.float32)
        for number in np.unique(own):
            found[own == number] = block[own == number] @ means[int(number)].T
        return found

    return cosines


def calibrated(
    scores: Callable[[np.ndarray], np.ndarray],
    labels: np.ndarray,
    columns: np.ndarray,
    classes: int,
) -> np.ndarray:
    """The softmax of scores, at the temperature at which it predicts the labels best.

    An image of none of the classes may look like any: to it the scores give the same as to a class
    on average.

    Parameters
    ----------
    scores
        Takes row numbers and returns float32 (rows, classes).
    labels
        The labels, int (images,); the number of classes stands for "none of them".
    columns
        Class numbers, int32 (images, width).
    classes
        How many classes there are.

    Returns
    -------
    np.ndarray
        float32 (images, width), 0 to 1.

    References
    ----------
    Guo et al., On calibration of modern neural networks, 2017: temperature scaling.
    """
    shown = np.flatnonzero(labels < classes)
    most = max(1, min(FITTED_TO, FITTED_SCORES // classes))
    sample = shown[:: max(1, -(-len(shown) // most))]
    temperature = fitted_temperature(scores(sample), labels[sample])
    found = np.empty(columns.shape, np.float32)
    for block, wanted in in_blocks(columns):
        there = scores(np.arange(block.start, block.stop))
        some = np.exp(_log_softmax_of(there, np.minimum(wanted, classes - 1), temperature))
        found[block] = np.where(wanted < classes, some, np.float32(1 / classes))
    return found


def pooled(apart: Sequence[Reduced], columns: np.ndarray) -> np.ndarray:
    """The geometric mean of the probabilities of several networks.

    A class that one of them finds unlikely has little left, so they must agree on it.

    Parameters
    ----------
    apart
        The predictions of each network, of the same images.
    columns
        Class numbers, int32 (images, width).

    Returns
    -------
    np.ndarray
        float32 (images, width), 0 to 1.

    References
    ----------
    Genest and Zidek, Combining probability distributions, 1986: the logarithmic opinion pool.
    """
    total = np.zeros(columns.shape, np.float32)
    for each in apart:
        own = np.stack([each.probability_of(column) for column in columns.T], axis=1)
        total += np.log(np.maximum(own, LEAST_PROBABILITY), dtype=np.float32)
    return np.exp(total / len(apart))


def fitted_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which the softmax of scores gives labels the largest likelihood.

    Parameters
    ----------
    scores
        Cosines, float32 (images, classes).
    labels
        int (images,).

    Returns
    -------
    float
        Between 0.001 and 1; 1 where there is no image.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        return 1.0

    def loss(power: float) -> float:
        own = _log_softmax_of(scores, labels[:, None], np.exp(power))
        return -float(own.mean(dtype=np.float64))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(1e-3), 0.0), method="bounded").x))


def _log_softmax_of(scores: np.ndarray, columns: np.ndarray, temperature: float) -> np.ndarray:
    """Some columns of the logarithm of softmax(scores / temperature), as wide as `columns`."""
    step, parts = max(1, CACHED // scores.shape[1]), []
    for start in range(0, len(scores), step):
        shifted = scores[start : start + step] / temperature
        shifted -= shifted.max(axis=1, keepdims=True)
        total = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        own = np.take_along_axis(shifted, columns[start : start + step], axis=1)
        parts.append(own - total)
    return np.concatenate(parts)
