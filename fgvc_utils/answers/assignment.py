"""From scores to classes: plain top-1, a cap, transport to a class prior, exact assignment.

Scores are float (images, classes), finite and not negative: the vote of 30, or probabilities. All
rules work on blocks of rows; beside the scores they hold at most one array of their size (float32).
"""

import heapq
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

# Elements of a block of rows: a few megabytes, so that the steps on a block stay in the cache.
BLOCK = 2**20
# Pairs of image and slot that `assign_exact` takes; its matrix of float64 then needs 320 MB.
EXACT_PAIRS = 40_000_000
# Probabilities below this one are taken for it, so that their logarithm is finite.
SMALLEST = 1e-20


class Rule(NamedTuple):
    """A rule by name, and its settings; a rule that has no use for a setting ignores it.

    `slack` belongs to cap; `regularisation`, `pull` and `repair` belong to sinkhorn (see
    `class_potentials` and `assign`).
    """

    name: Literal["plain", "cap", "sinkhorn", "exact"]
    slack: float = 1.25
    regularisation: float = 1.0
    pull: float = 1.0
    repair: bool = False


class Potentials(NamedTuple):
    """What `class_potentials` found: float64 (classes,), after how many sweeps, how close."""

    values: np.ndarray
    sweeps: int
    error: float


def assign(
    scores: np.ndarray, rule: Rule, prior: np.ndarray, caps: np.ndarray | int | None = None
) -> np.ndarray:
    """Give each image one class by a rule. Returns int64 (images,).

    `prior` float (classes,) is the share of each class in the test set, as far as it is known.

    - plain: the best class of each image; the prior has no say.
    - cap: `assign_capped` on the scores; `caps` default to `class_caps` of the prior.
    - sinkhorn: the best class of log-probability + class potential. The classes then come near the
      prior and not to the image; with `repair` the same sums are assigned greedily
      (`assign_capped`) under the counts of `apportion`, which then hold exactly.
    - exact: `assign_exact` of the log-probabilities under the counts of `apportion`.

    Where plain top-1 meets the counts already, the prior binds nothing: sinkhorn and exact leave it
    as it is. So does sinkhorn without pull. Raises ValueError for scores that are negative or not
    finite, and what `assign_capped` and `assign_exact` raise.
    """
    _check(scores)
    plain = top1(scores)
    if rule.name == "plain":
        return plain
    if rule.name == "cap":
        caps = class_caps(prior, len(scores), rule.slack) if caps is None else caps
        return assign_capped(scores, caps)
    counts = apportion(prior, len(scores))
    unbound = (np.bincount(plain, minlength=scores.shape[1]) == counts).all()
    if unbound or (rule.name == "sinkhorn" and not rule.pull and not rule.repair):
        return plain
    if rule.name == "exact":
        _check_size(len(scores), int(counts.sum()))
        return assign_exact(log_probabilities(scores), counts)
    logs = log_probabilities(scores)
    found = class_potentials(logs, prior, rule.regularisation, rule.pull).values
    if not rule.repair:
        return top1(logs, found)
    # A class without a share has no slot, so its potential of minus infinity is not needed.
    logs += np.where(np.isfinite(found), found, 0).astype(np.float32)
    return assign_capped(logs, counts)


def _check(scores: np.ndarray) -> None:
    for rows in blocks(scores):
        smallest, largest = scores[rows].min(), scores[rows].max()
        if not (0 <= smallest and largest < math.inf):
            raise ValueError(
                f"scores reach from {smallest} to {largest}; the rules take scores that are not "
                "negative and finite, such as votes and probabilities"
            )


def blocks(scores: np.ndarray) -> Iterator[slice]:
    """Blocks of rows that are small enough to be worked on in the cache."""
    step = max(1, BLOCK // scores.shape[1])
    return (slice(start, start + step) for start in range(0, len(scores), step))


def top1(scores: np.ndarray, offset: np.ndarray | None = None) -> np.ndarray:
    """The best class of each image, the first of equal ones: int64 (images,).

    `offset` float (classes,) is added to the scores first, in the scores' own type.
    """
    added = None if offset is None else offset.astype(scores.dtype)
    best = np.empty(len(scores), dtype=np.int64)
    for rows in blocks(scores):
        block = scores[rows] if added is None else scores[rows] + added
        best[rows] = block.argmax(axis=1)
    return best


def log_probabilities(scores: np.ndarray) -> np.ndarray:
    """Logarithm of scores / their sum over the classes, float32 (images, classes).

    Votes + mean probability become the mean of the voters' answers and the mean probability. An
    image without any score has the same probability for all classes.
    """
    logs = np.empty(scores.shape, dtype=np.float32)
    for rows in blocks(scores):
        block = np.maximum(scores[rows], SMALLEST, dtype=np.float32)
        block /= block.sum(axis=1, keepdims=True)
        np.log(block, out=logs[rows])
    return logs


def apportion(prior: np.ndarray, images: int) -> np.ndarray:
    """Whole counts of images a class by the largest remainders, int64 (classes,); they sum up.

    `prior` float (classes,) need not sum to 1. Equal remainders go by class.
    """
    exact = prior / prior.sum() * images
    # A share such as 1/3 of 9 must not be floored to 2 for its last bit.
    counts = np.floor(exact + 1e-9).astype(np.int64)
    most = np.argsort(-np.round(exact - counts, 9), kind="stable")
    counts[most[: images - counts.sum()]] += 1
    return counts


def class_caps(prior: np.ndarray, images: int, slack: float) -> np.ndarray:
    """The most images of each class: ceil(slack × its share of the images), int64 (classes,)."""
    return np.ceil(slack * prior / prior.sum() * images - 1e-9).astype(np.int64)


def cap_for(known_count: int, images: int, classes: int, slack: float) -> int:
    """The most images a class takes: ceil(slack × the known count of images a class).

    `known_count` 0 means equal classes of unknown size: images / classes. Raises ValueError where
    cap × classes does not cover the images.
    """
    cap = math.ceil(slack * (known_count or images / classes))
    if cap * classes < images:
        raise ValueError(
            f"a cap of {cap} on {classes} classes covers {cap * classes} of {images} test images; "
            "raise known_count or slack, or use the rule plain"
        )
    return cap


def covering(cap: int, images: int, classes_left: int) -> int:
    """The cap, raised to what the classes that are left need to cover all images.

    Classes that cleaning emptied take no image, so their share falls to the others.
    """
    return max(cap, math.ceil(images / classes_left))


def assign_capped(scores: np.ndarray, cap: int | np.ndarray) -> np.ndarray:
    """Give each image one class, a class at most its cap of images, the surest pairs first.

    All (image, class) pairs are taken in order of score; an image whose class is full goes to its
    next best class with room. `scores` float (images, classes), finite; `cap` is one number or int
    (classes,). Equal scores go by image, then by class. Returns int64 (images,). Raises ValueError
    where the caps do not cover the images.

    Only the best pair left of each image waits in a heap. When its class has filled, the next one
    is looked up in the image's row among the classes with room, so no row is ever sorted.
    """
    room = np.broadcast_to(np.asarray(cap, dtype=np.int64), scores.shape[1]).tolist()
    if sum(room) < len(scores):
        raise ValueError(f"caps of {sum(room)} images in all do not cover the {len(scores)} images")
    # Added to a row, it leaves open classes as they are and puts full ones last.
    closed = np.where(np.array(room) > 0, 0, -np.inf).astype(scores.dtype)
    assigned = np.full(len(scores), -1, dtype=np.int64)
    best = top1(scores, closed)
    values = scores[np.arange(len(scores)), best]
    waiting = list(zip((-values).tolist(), range(len(scores)), best.tolist(), strict=True))
    heapq.heapify(waiting)
    while waiting:
        _, image, label = waiting[0]
        if room[label]:
            room[label] -= 1
            if not room[label]:
                closed[label] = -np.inf
            assigned[image] = label
            heapq.heappop(waiting)
        else:
            row = scores[image]
            label = int((row + closed).argmax())
            heapq.heapreplace(waiting, (-float(row[label]), image, label))
    return assigned


def class_potentials(
    logs: np.ndarray,
    prior: np.ndarray,
    regularisation: float = 1.0,
    pull: float = 1.0,
    *,
    tolerance: float = 1e-3,
    most_sweeps: int = 300,
) -> Potentials:
    """What to add to each class's log-probabilities so that the images fit a class prior.

    Optimal transport of the images, each of mass 1 / images, to the classes, each of mass `prior`
    float (classes,), by entropic regularisation (Cuturi, Sinkhorn distances, NIPS 2013): the plan
    is softmax((logs + potential) / regularisation) over the classes, and its mean over the images
    is the prior. With regularisation 1 that is the posterior corrected to the prior; the smaller
    it is, the nearer to exact assignment, and the more sweeps it takes. Below 1 it is halved step
    by step from 1, each step starting from the last (Schmitzer, Stabilized sparse scaling
    algorithms for entropy regularized transport problems, SIAM J. Sci. Comput. 2019).

    `pull` below 1 lets the classes miss the prior at a price, the Kullback-Leibler divergence times
    regularisation × pull / (1 - pull) (Chizat et al., Scaling algorithms for unbalanced optimal
    transport problems, Math. Comp. 2018); 0 leaves all potentials at 0. A class whose share is 0
    gets minus infinity.

    `logs` float32 (images, classes) is read a block of rows at a time, and of the plan only the
    column sums are kept. POT's `ot.sinkhorn` returns the whole plan, which at 100,000 images and
    5,000 classes is 4 GB of float64 beside as much for its costs and its kernel, and its lazy
    solvers make their costs from points under a metric, which scores are not. So the sweeps are
    written here. They end when the column sums are within `tolerance` of where they should be
    (sum of absolute shares), or after `most_sweeps` at each step.
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


def assign_exact(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The assignment with the largest sum of scores, a class at most its count of images.

    `scores` float (images, classes), `counts` int (classes,); each class stands as often as it has
    room in a linear assignment problem (scipy's `linear_sum_assignment`; Crouse, On implementing
    2D rectangular assignment algorithms, IEEE Trans. Aerosp. Electron. Syst. 2016). Returns int64
    (images,). Raises ValueError where the counts do not cover the images, or where images × slots
    is more than EXACT_PAIRS.
    """
    counts = np.minimum(counts, len(scores))
    if counts.sum() < len(scores):
        raise ValueError(f"counts of {counts.sum()} in all do not cover the {len(scores)} images")
    _check_size(len(scores), int(counts.sum()))
    slots = np.repeat(np.arange(len(counts)), counts)
    _, taken = linear_sum_assignment(scores[:, slots], maximize=True)
    return slots[taken].astype(np.int64)


def _check_size(images: int, slots: int) -> None:
    if images * slots > EXACT_PAIRS:
        raise ValueError(
            f"rule exact: {images:,} images × {slots:,} slots are more than the {EXACT_PAIRS:,} "
            "pairs that it solves; take the rule sinkhorn, whose switch repair also meets the "
            "counts to the image, or cap"
        )


def changed(
    scores: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Images that got another class and the score that each lost, the largest losses first.

    `before` and `after` are int (images,). Returns int64 and float (changed images,).
    """
    rows = np.flatnonzero(before != after)
    lost = scores[rows, before[rows]] - scores[rows, after[rows]]
    order = np.argsort(-lost, kind="stable")
    return rows[order], lost[order]
