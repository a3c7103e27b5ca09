"""What is known of the classes of the test set, and whether balancing to it would pay.

A class prior is the share of each class: float64 (classes,), not negative, its sum 1.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from fgvc_utils.answers.assignment import (
    Rule,
    apportion,
    assign,
    blocks,
    class_potentials,
    log_probabilities,
    top1,
)
from fgvc_utils.core.reading import read_csv

AMOUNTS = ("share", "count")
# Shares as people write them, rounded, may miss 1 by so much.
ROUNDING = 0.01
# A resample is no larger: its scores under thousands of classes must fit beside all others.
MOST_IMAGES = 20_000
# Exact assignment of more images takes seconds, and a comparison asks for it many times.
EXACT_IMAGES = 1000
WORTH = ["target", "rule", "top1", "plain", "difference", "low", "high"]


class Estimate(NamedTuple):
    """What `estimate_prior` found, after how many steps, and its last change (sum of shares)."""

    prior: np.ndarray
    steps: int
    change: float


class Belief(NamedTuple):
    """What is taken for the classes of the test set, and where it comes from."""

    prior: np.ndarray
    known: bool
    text: str


def belief(
    classes: Sequence[str], left: np.ndarray, *, known_count: int = 0, file: Path | None = None
) -> Belief:
    """The prior of the classes that are left, by a known count a class, a file, or a bet.

    `left` boolean (classes,). Raises as `read_prior` and `among` do.
    """
    if file is not None:
        text = f"known from {Path(file).name}"
        return Belief(among(read_prior(file, classes), left), True, text)
    if known_count:
        return Belief(equal_prior(int(left.sum())), True, f"known: {known_count} images a class")
    text = "not known, so balancing is a bet that they are equal"
    return Belief(equal_prior(int(left.sum())), False, text)


def equal_prior(classes: int) -> np.ndarray:
    """The same share for each class."""
    return np.full(classes, 1 / classes)


def read_prior(path: Path, classes: Sequence[str]) -> np.ndarray:
    """Read a class prior from a CSV file with the columns class and share, or class and count.

    Every class stands once, in any order. Raises FileNotFoundError, or ValueError naming the file
    and the class: a column is missing, a class is unknown, missing or stands twice, an amount is no
    number or negative, no class has any, or shares do not sum to 1 (within ROUNDING).
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
        raise ValueError(f"prior {path}: class {twice.iloc[0]!r} stands in more than one row")
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
    """The prior of the classes that are left, boolean (classes,): the others' shares fall to them.

    Raises ValueError where none that is left has a share.
    """
    if not prior[left].sum():
        raise ValueError("the prior gives a share to none of the classes that are left")
    return prior[left] / prior[left].sum()


def estimate_prior(
    scores: np.ndarray, source: np.ndarray, *, tolerance: float = 1e-4, most_steps: int = 200
) -> Estimate:
    """Estimate the class prior of unlabelled images by expectation-maximisation.

    Saerens, Latinne and Decaestecker (Adjusting the outputs of a classifier to new a priori
    probabilities, Neural Computation 2002): the posteriors of a classifier that learnt under the
    prior `source` are corrected to the present estimate, their mean is the next one, from `source`
    on until it changes by less than `tolerance` (sum of absolute shares). It holds as far as the
    scores are calibrated. `source` must be positive, as that of `implicit_prior` is.

    `scores` float (images, classes), not negative, any multiple of probabilities in each row; rows
    of zeros have no say. They are read a block of rows at a time.
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


def chance_distance(
    held_out: np.ndarray,
    labels: np.ndarray,
    assumed: np.ndarray,
    source: np.ndarray,
    images: int,
    seed: int,
) -> float:
    """How far `estimate_prior` comes from a prior that is right: half the sum of differences, 0–1.

    As many held-out images as the test set has (at most MOST_IMAGES) are drawn to `assumed`. With
    few images a class the estimate follows chance, so only a distance well above this one says that
    the test set is not as assumed. Classes without a held-out image take no part.
    """
    there = np.bincount(labels, minlength=len(assumed)) > 0
    prior, labels = among(assumed, there), (np.cumsum(there) - 1)[labels]
    rows = draw(labels, prior, min(images, MOST_IMAGES), np.random.default_rng(seed))
    found = estimate_prior(held_out[rows][:, there], among(source, there))
    return distance(found.prior, prior)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """The share of images by which two class priors differ (total variation), 0 to 1."""
    return float(np.abs(one - other).sum() / 2)


def implicit_prior(held_out: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The class prior that a model's scores stand for, from held-out images and their labels.

    A model that learnt under a balanced sampler, or whose prior was taken out, does not stand for
    the shares of its train images. Here each class gets the potential with which the mean
    probabilities of the held-out images are the shares of their labels (`class_potentials`); what
    it corrects for is the model's own prior. It is the bias of bias-corrected calibration
    (Alexandari et al., Maximum likelihood with bias-corrected calibration is hard-to-beat at label
    shift adaptation, ICML 2020). Half an image is added to each class, so that none has no share.

    `held_out` float (images, classes), `labels` int (images,).
    """
    shares = np.bincount(labels, minlength=held_out.shape[1]) + 0.5
    shares /= shares.sum()
    potentials = class_potentials(log_probabilities(held_out), shares).values
    prior = shares * np.exp(potentials.min() - potentials)
    return prior / prior.sum()


def draw(
    labels: np.ndarray, prior: np.ndarray, images: int, random: np.random.Generator
) -> np.ndarray:
    """Draw images so that their classes follow a prior: row numbers, int64 (images,).

    Class by class with replacement, in the counts of `apportion`. Raises ValueError where a class
    with a share has no image.
    """
    counts = apportion(prior, images)
    lacking = np.flatnonzero((counts > 0) & (np.bincount(labels, minlength=len(prior)) == 0))
    if len(lacking):
        raise ValueError(f"class number {lacking[0]} has a share but no image to draw")
    drawn = [random.choice(np.flatnonzero(labels == c), counts[c]) for c in np.flatnonzero(counts)]
    return np.concatenate(drawn)


def worth(
    scores: np.ndarray,
    held_out: np.ndarray,
    labels: np.ndarray,
    rules: Mapping[str, Rule],
    assumed: np.ndarray,
    targets: Mapping[str, np.ndarray],
    source: np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """What balancing brings: by held-out images where there are any, else by the probabilities.

    `scores` are those of the test images, `held_out` and `labels` those of the held-out ones; see
    `worth_on_held_out` and `worth_by_probabilities`. With 0 resamples the table is empty.
    """
    if not resamples:
        return pd.DataFrame(columns=WORTH)
    if len(labels):
        return worth_on_held_out(
            held_out, labels, rules, assumed, targets, resamples=resamples, seed=seed
        )
    return worth_by_probabilities(scores, rules, assumed, targets, source)


def worth_on_held_out(
    scores: np.ndarray,
    labels: np.ndarray,
    rules: Mapping[str, Rule],
    assumed: np.ndarray,
    targets: Mapping[str, np.ndarray],
    *,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Whether a rule beats plain top-1 on held-out images drawn as the test set may be.

    The rules believe the prior `assumed`; the images are drawn to each of `targets`, by name, as
    often as `resamples` says, so one sees what a rule brings where its belief holds and where it
    does not. `scores` float (images, classes), `labels` int (images,). Classes without a held-out
    image take no part. A resample has as many images as are held out, at most MOST_IMAGES; exact
    is left out above EXACT_IMAGES.

    Returns a row a target and rule: top1 and plain, the means over the resamples, their difference,
    and low and high, between which 95 % of the resamples' paired differences lie.
    """
    there = np.bincount(labels, minlength=scores.shape[1]) > 0
    # Choosing columns copies, which thousands of classes had better be spared.
    scores = scores if there.all() else scores[:, there]
    labels = (np.cumsum(there) - 1)[labels]
    images = min(len(labels), MOST_IMAGES)
    compared = {k: r for k, r in rules.items() if r.name != "exact" or images <= EXACT_IMAGES}
    random = np.random.default_rng(seed)
    rows = []
    for target, prior in targets.items():
        plain, gains = [], {name: [] for name in compared}
        for _ in range(resamples):
            drawn = draw(labels, among(prior, there), images, random)
            said, truth = scores[drawn], labels[drawn]
            plain.append((top1(said) == truth).mean())
            for name, rule in compared.items():
                right = assign(said, rule, among(assumed, there)) == truth
                gains[name].append(right.mean() - plain[-1])
        for name, gain in gains.items():
            low, high = np.percentile(gain, [2.5, 97.5])
            top = np.mean(plain) + np.mean(gain)
            rows.append((target, name, top, np.mean(plain), np.mean(gain), low, high))
    return pd.DataFrame(rows, columns=WORTH)


def worth_by_probabilities(
    scores: np.ndarray,
    rules: Mapping[str, Rule],
    assumed: np.ndarray,
    targets: Mapping[str, np.ndarray],
    source: np.ndarray,
) -> pd.DataFrame:
    """The same table where no image is held out, by the probabilities of the test images alone.

    An image is right with its probability, corrected from the prior `source` to the target
    (Saerens et al. 2002); low and high are the 95 % interval of the difference when the truth is
    drawn from these probabilities (normal approximation). This trusts the model's calibration.
    """
    plain = top1(scores)
    everything = np.arange(len(scores))
    rows = []
    for name, rule in rules.items():
        if rule.name == "exact" and len(scores) > EXACT_IMAGES:
            continue
        chosen = assign(scores, rule, assumed)
        moved = chosen != plain
        for target, prior in targets.items():
            weights = prior / source
            fits = np.concatenate([scores[r] @ weights.astype(np.float32) for r in blocks(scores)])
            # Where nothing is known of an image, the target is all there is.
            known = fits > 0
            fits = np.where(known, fits, 1)
            before, after = (
                np.where(known, scores[everything, said] * weights[said] / fits, prior[said])
                for said in (plain, chosen)
            )
            gain = float((after - before).mean())
            # One image brings 1, -1 or 0; one that did not move, nothing.
            spread = np.where(moved, after + before - (after - before) ** 2, 0)
            half = 1.96 * float(np.sqrt(spread.sum())) / len(scores)
            rows.append((target, name, after.mean(), before.mean(), gain, gain - half, gain + half))
    found = pd.DataFrame(rows, columns=WORTH)
    order = {target: place for place, target in enumerate(targets)}
    return found.sort_values("target", key=lambda t: t.map(order), kind="stable", ignore_index=True)


def verdict(table: pd.DataFrame, rule: str) -> str:
    """What a table of `worth` says of one rule, in one sentence."""
    of_rule = table[table["rule"] == rule]
    if of_rule.empty:
        return f"Nothing is compared for the rule {rule}."
    told = [
        f"{row.target}: {100 * row.difference:+.1f} points of top-1 "
        f"({100 * row.low:+.1f} to {100 * row.high:+.1f})"
        for row in of_rule.itertuples()
    ]
    better, worse = (of_rule["low"] > 0), (of_rule["high"] < 0)
    if better.all():
        end = "it pays in each case"
    elif better.any() and worse.any():
        end = f"it pays only where the test set is {of_rule.loc[better, 'target'].iloc[0]}"
    elif worse.any():
        end = "it does not pay"
    elif better.any():
        end = "it pays in one case, and makes no difference in the other that these images can tell"
    else:
        end = "no difference that these images can tell"
    return f"{rule} against plain, if the test set is {'; '.join(told)}: {end}."
