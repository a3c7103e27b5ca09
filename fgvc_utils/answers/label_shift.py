"""What is known of the classes of the test set, and what their scores imply.

A class prior is the share of each class: float64 (classes,), not negative, its sum 1.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from fgvc_utils.answers.assignment import apportion
from fgvc_utils.answers.transport import blocks, class_potentials, log_probabilities
from fgvc_utils.core.reading import read_csv

AMOUNTS = ("share", "count")
# Shares as people write them, rounded, may miss 1 by so much.
ROUNDING = 0.01
# A resample is no larger: its scores under thousands of classes must fit beside all others.
MOST_IMAGES = 20_000


class Estimate(NamedTuple):
    """What `estimate_prior` found.

    Attributes
    ----------
    prior : np.ndarray
        Float64 (classes,), its sum 1.
    steps : int
        How many steps it took.
    change : float
        Sum of the absolute changes of the shares in the last step.
    """

    prior: np.ndarray
    steps: int
    change: float


class Belief(NamedTuple):
    """What is taken for the classes of the test set.

    Attributes
    ----------
    prior : np.ndarray
        Float64 (classes left,), its sum 1.
    text : str
        Where it comes from, for people.
    """

    prior: np.ndarray
    text: str


def belief(
    classes: Sequence[str], left: np.ndarray, *, known_count: int = 0, file: Path | None = None
) -> Belief:
    """Take the prior of the classes that are left from a file, a known count a class, or a bet.

    Parameters
    ----------
    classes : sequence of str
        All class names.
    left : np.ndarray
        Boolean (classes,): those that cleaning left images of.
    known_count : int
        Known test images a class; 0: not known.
    file : Path, optional
        A CSV file as `read_prior` takes.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_prior` and `among` do.
    """
    if file is not None:
        text = f"known from {Path(file).name}"
        return Belief(among(read_prior(file, classes), left), text)
    if known_count:
        return Belief(equal_prior(int(left.sum())), f"known: {known_count} images a class")
    text = "not known, so balancing is a bet that they are equal"
    return Belief(equal_prior(int(left.sum())), text)


def equal_prior(classes: int) -> np.ndarray:
    """Give each class the same share: float64 (classes,)."""
    return np.full(classes, 1 / classes)


def read_prior(path: Path, classes: Sequence[str]) -> np.ndarray:
    """Read a class prior from a CSV file with the columns class and share, or class and count.

    Parameters
    ----------
    path : Path
        The file; every class once, in any order.
    classes : sequence of str
        All class names.

    Returns
    -------
    np.ndarray
        Float64 (classes,), its sum 1, in the order of `classes`.

    Raises
    ------
    FileNotFoundError
        The file is not there.
    ValueError
        A column is missing, a class is unknown, missing or appears twice, an amount is no number or
        negative, no class has any, or shares do not sum to 1 (within `ROUNDING`). Names the file
        and the class.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"prior {path} is not there: a CSV file of class and share or count"
        )
    frame = read_csv(path)
    amounts = [name for name in AMOUNTS if name in frame]
    if "class" not in frame or len(amounts) != 1:
        raise ValueError(
            f"prior {path} has the columns {', '.join(frame)}; it needs class, and either share or "
            "count"
        )
    twice = frame["class"][frame["class"].duplicated()]
    if len(twice):
        raise ValueError(f"prior {path}: class {twice.iloc[0]!r} is in more than one row")
    unknown = sorted(set(frame["class"]) - set(classes))
    if unknown:
        raise ValueError(f"prior {path}: class {unknown[0]!r} is not one of the contest's")
    missing = sorted(set(classes) - set(frame["class"]))
    if missing:
        raise ValueError(
            f"prior {path} lacks class {missing[0]!r} ({len(missing)} in all); give each class a "
            "row, with 0 where the test set has none of it"
        )
    values = pd.to_numeric(frame[amounts[0]], errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(wrong):
        row = frame.iloc[wrong[0]]
        raise ValueError(
            f"prior {path}: {amounts[0]} {row[amounts[0]]!r} of class {row['class']!r} is not a "
            "number from 0 up"
        )
    total = values.sum()
    if not total or (amounts == ["share"] and abs(total - 1) > ROUNDING):
        raise ValueError(
            f"prior {path}: the column {amounts[0]} sums to {total:g}; shares sum to 1, and "
            "numbers of images go into a column count"
        )
    found = pd.Series(values / total, index=frame["class"])
    return found.loc[list(classes)].to_numpy()


def among(prior: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Keep the prior of the classes that are left; the others' shares fall to them.

    Parameters
    ----------
    prior : np.ndarray
        Float (classes,).
    left : np.ndarray
        Boolean (classes,).

    Returns
    -------
    np.ndarray
        Float (classes left,), its sum 1.

    Raises
    ------
    ValueError
        No class that is left has a share.
    """
    if not prior[left].sum():
        raise ValueError("the prior gives a share to none of the classes that are left")
    return prior[left] / prior[left].sum()


def estimate_prior(
    scores: np.ndarray, source: np.ndarray, *, tolerance: float = 1e-4, most_steps: int = 200
) -> Estimate:
    """Estimate the class prior of unlabelled images by expectation-maximisation.

    The posteriors of a classifier that learnt under the prior `source` are corrected to the present
    estimate, and their mean is the next one. It holds as far as the scores are calibrated.

    Parameters
    ----------
    scores : np.ndarray
        Float (images, classes), not negative, any multiple of probabilities in each row; rows of
        zeros are ignored. Read a block of rows at a time.
    source : np.ndarray
        Float64 (classes,), positive, as that of `implicit_prior` is; the first estimate.
    tolerance : float
        It ends when the estimate changes by less (sum of absolute shares).
    most_steps : int
        The most steps.

    Raises
    ------
    ValueError
        No image has a score.

    References
    ----------
    Saerens, Latinne and Decaestecker, Adjusting the outputs of a classifier to new a priori
    probabilities, Neural Computation 14, 2002.
    """
    prior = source.copy()
    change, steps = np.inf, 0
    while change > tolerance and steps < most_steps:
        weights = prior / source
        total, images = np.zeros(len(prior)), 0
        for rows in blocks(scores):
            block = scores[rows]
            fits = block @ weights.astype(np.float32)
            known = fits > 0
            total += np.divide(1, fits, out=np.zeros_like(fits), where=known) @ block
            images += known.sum()
        if not images:
            raise ValueError("no image has a score, so the classes cannot be estimated")
        following = weights * total
        following /= following.sum()
        change, steps = float(np.abs(following - prior).sum()), steps + 1
        prior = following
    return Estimate(prior, steps, change)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Measure the share of images by which two class priors differ (total variation), 0 to 1."""
    return float(np.abs(one - other).sum() / 2)


def implicit_prior(held_out: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Find the class prior that a model's scores stand for, from held-out images.

    A model that learnt under a balanced sampler, or whose prior was taken out, does not stand for
    the shares of its train images. Here each class gets the potential with which the mean
    probabilities of the held-out images are the shares of their labels (`class_potentials`); what
    it corrects for is the model's own prior. It is the bias of bias-corrected calibration. Half an
    image is added to each class, so that every class has a share.

    Parameters
    ----------
    held_out : np.ndarray
        Float (images, classes): scores.
    labels : np.ndarray
        Int (images,): the classes.

    Returns
    -------
    np.ndarray
        Float64 (classes,), positive, its sum 1.

    References
    ----------
    Alexandari et al., Maximum likelihood with bias-corrected calibration is hard-to-beat at label
    shift adaptation, ICML 2020.
    """
    shares = np.bincount(labels, minlength=held_out.shape[1]) + 0.5
    shares /= shares.sum()
    potentials = class_potentials(log_probabilities(held_out), shares).values
    prior = shares * np.exp(potentials.min() - potentials)
    return prior / prior.sum()


def draw(
    labels: np.ndarray, prior: np.ndarray, images: int, random: np.random.Generator
) -> np.ndarray:
    """Draw images so that their classes follow a prior, with replacement.

    Parameters
    ----------
    labels : np.ndarray
        Int (images there,): the classes.
    prior : np.ndarray
        Float (classes,); `apportion` makes counts of it.
    images : int
        How many to draw.
    random : np.random.Generator
        Where the chance comes from.

    Returns
    -------
    np.ndarray
        Row numbers, int64 (images,), class by class.

    Raises
    ------
    ValueError
        A class with a share has no image.
    """
    counts = apportion(prior, images)
    lacking = np.flatnonzero((counts > 0) & (np.bincount(labels, minlength=len(prior)) == 0))
    if len(lacking):
        raise ValueError(f"class number {lacking[0]} has a share but no image to draw")
    # The images of each class side by side, found once for all classes.
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(len(prior) + 1))
    drawn = [random.choice(order[ends[c] : ends[c + 1]], counts[c]) for c in np.flatnonzero(counts)]
    return np.concatenate(drawn)


def chance_distance(
    held_out: np.ndarray,
    labels: np.ndarray,
    assumed: np.ndarray,
    source: np.ndarray,
    images: int,
    seed: int,
) -> float:
    """Measure how far chance alone moves `estimate_prior` from a prior that is right.

    Held-out images are drawn to `assumed`. With few images a class the estimate follows chance, so
    only a distance well above this one says that the test set is not as assumed. Classes without a
    held-out image take no part.

    Parameters
    ----------
    held_out : np.ndarray
        Float (held-out images, classes): scores.
    labels : np.ndarray
        Int (held-out images,): the classes.
    assumed : np.ndarray
        Float (classes,): the prior that is drawn to.
    source : np.ndarray
        Float64 (classes,): the prior that the scores stand for.
    images : int
        How many are drawn, as many as the test set has; at most `MOST_IMAGES` are.
    seed : int
        Of the draw.

    Returns
    -------
    float
        The `distance`, 0 to 1; NaN where it cannot be told: the prior gives the classes of the
        held-out images nothing, or none of these images has a score for one of them, as where each
        class has one image, so that no network has learnt a class that is held out.
    """
    there = np.bincount(labels, minlength=len(assumed)) > 0
    if not assumed[there].sum():
        return float("nan")
    prior, labels = among(assumed, there), (np.cumsum(there) - 1)[labels]
    rows = draw(labels, prior, min(images, MOST_IMAGES), np.random.default_rng(seed))
    drawn = held_out[rows][:, there]
    if not (drawn > 0).any():
        return float("nan")
    found = estimate_prior(drawn, among(source, there))
    return distance(found.prior, prior)
