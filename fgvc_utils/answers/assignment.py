"""From scores to classes: one entry a rule, what they share, caps and exact assignment.

Scores are float (images, classes), finite and not negative: the vote of 30, or probabilities. All
rules work on blocks of rows; beside the scores they hold at most one array of their size (float32).
"""

import heapq
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from fgvc_utils.answers.transport import blocks, class_potentials, log_probabilities, top1

# Pairs of image and slot that `assign_exact` takes; its matrix of float64 then needs 320 MB.
EXACT_PAIRS = 40_000_000


class Rule(NamedTuple):
    """A rule with its settings; it ignores those that its entry of `RULES` does not name.

    Attributes
    ----------
    name : str
        The entry of `RULES`.
    slack : float
        The cap of a class is this times its count, 1 or more.
    regularisation : float
        How soft the transport is, above 0; see `class_potentials`.
    pull : float
        How far the classes are moved to the prior, 0 to 1; see `class_potentials`.
    repair : bool
        Whether the counts of the prior are met to the image at the end.
    """

    name: str
    slack: float = 1.25
    regularisation: float = 1.0
    pull: float = 1.0
    repair: bool = False


def _plain(scores: np.ndarray, rule: Rule, prior: np.ndarray, caps: Any) -> np.ndarray:
    return top1(scores)


def _capped(scores: np.ndarray, rule: Rule, prior: np.ndarray, caps: Any) -> np.ndarray:
    caps = class_caps(prior, len(scores), rule.slack) if caps is None else caps
    return assign_capped(scores, caps)


def _transported(scores: np.ndarray, rule: Rule, prior: np.ndarray, caps: Any) -> np.ndarray:
    plain, counts = top1(scores), apportion(prior, len(scores))
    if _met(plain, counts) or (not rule.pull and not rule.repair):
        return plain
    logs = log_probabilities(scores)
    found = class_potentials(logs, prior, rule.regularisation, rule.pull).values
    if not rule.repair:
        return top1(logs, found)
    # A class without a share has no slot, so its potential of minus infinity is not needed.
    logs += np.where(np.isfinite(found), found, 0).astype(np.float32)
    return assign_capped(logs, counts)


def _exact(scores: np.ndarray, rule: Rule, prior: np.ndarray, caps: Any) -> np.ndarray:
    plain, counts = top1(scores), apportion(prior, len(scores))
    if _met(plain, counts):
        return plain
    _check_size(len(scores), int(counts.sum()))
    return assign_exact(log_probabilities(scores), counts)


def _met(labels: np.ndarray, counts: np.ndarray) -> bool:
    """Whether the classes have their counts already, so that the prior binds nothing."""
    return bool((np.bincount(labels, minlength=len(counts)) == counts).all())


def _own_probabilities(scores: np.ndarray, rule: Rule, prior: np.ndarray) -> np.ndarray:
    return _normalised(log_probabilities(scores))


def _corrected(scores: np.ndarray, rule: Rule, prior: np.ndarray) -> np.ndarray:
    logs = log_probabilities(scores)
    found = class_potentials(logs, prior, rule.regularisation, rule.pull).values
    logs += found.astype(np.float32)
    return _normalised(logs)


def _normalised(logs: np.ndarray) -> np.ndarray:
    """From log-probabilities to probabilities whose sum is one, in place."""
    for rows in blocks(logs):
        block = np.exp(logs[rows] - logs[rows].max(axis=1, keepdims=True))
        logs[rows] = block / block.sum(axis=1, keepdims=True)
    return logs


class RuleEntry(NamedTuple):
    """An entry of `RULES`.

    Attributes
    ----------
    caption : str
        What it does, for people.
    assign : Callable
        From scores, the `Rule`, the prior and caps as in `assign`, to int64 (images,).
    settings : tuple of str
        The fields of `Rule`, each also a parameter of 40, that it uses.
    balances : bool
        Whether the prior makes a difference.
    capped : bool
        Whether it takes a cap on each class.
    most_compared : float
        It is left out of comparisons on more images, which ask for it many times.
    probabilities : Callable or None
        From scores, the `Rule` and the prior to probabilities, float32 (images, classes), each row
        of the sum 1; None where it gives classes alone.
    """

    caption: str
    assign: Callable[[np.ndarray, Rule, np.ndarray, Any], np.ndarray]
    settings: tuple[str, ...] = ()
    balances: bool = True
    capped: bool = False
    most_compared: float = math.inf
    probabilities: Callable[[np.ndarray, Rule, np.ndarray], np.ndarray] | None = None


RULES: dict[str, RuleEntry] = {
    "plain": RuleEntry(
        caption="each image's best class; the prior makes no difference",
        assign=_plain,
        balances=False,
        probabilities=_own_probabilities,
    ),
    "cap": RuleEntry(
        caption="all pairs of image and class in order of score; an image whose class is full goes "
        "to its next best class with room",
        assign=_capped,
        settings=("slack",),
        capped=True,
    ),
    "sinkhorn": RuleEntry(
        caption="the best class of log-probability + class potential, which brings the classes "
        "near the prior",
        assign=_transported,
        settings=("regularisation", "pull", "repair"),
        probabilities=_corrected,
    ),
    "exact": RuleEntry(
        caption="the likeliest assignment that meets the counts, for some thousand images",
        assign=_exact,
        # More images take seconds each time.
        most_compared=1000,
    ),
}

# For the record of parameters.
RuleName = Literal[tuple(RULES)]


def rule_of(cfg: Any, name: str = "") -> Rule:
    """Read a rule with the settings that it uses from the parameters of 40.

    Parameters
    ----------
    cfg : SubmitParams
        Parameters of 40.
    name : str
        The entry of `RULES`; the parameter `rule` where none is given.
    """
    name = name or cfg.rule
    return Rule(name, **{setting: getattr(cfg, setting) for setting in RULES[name].settings})


def assign(
    scores: np.ndarray, rule: Rule, prior: np.ndarray, caps: np.ndarray | int | None = None
) -> np.ndarray:
    """Give each image one class by a rule.

    Where plain top-1 meets the counts of the prior already, sinkhorn and exact leave it as it is.
    So does sinkhorn without pull. With `repair` sinkhorn's sums of log-probability and potential
    are assigned greedily (`assign_capped`) under the counts of `apportion`, which then hold.

    Parameters
    ----------
    scores : np.ndarray
        Float (images, classes), finite and not negative.
    rule : Rule
        An entry of `RULES` with its settings.
    prior : np.ndarray
        Float (classes,): the share of each class in the test set, as far as it is known.
    caps : np.ndarray or int, optional
        Of a capped rule: the most images of each class, or of all; `class_caps` of the prior where
        none are given.

    Returns
    -------
    np.ndarray
        Int64 (images,).

    Raises
    ------
    ValueError
        Scores are negative or not finite, caps or counts do not cover the images, or there are too
        many images for the rule.
    """
    _check(scores)
    return RULES[rule.name].assign(scores, rule, prior, caps)


def _check(scores: np.ndarray) -> None:
    for rows in blocks(scores):
        smallest, largest = scores[rows].min(), scores[rows].max()
        if not (0 <= smallest and largest < math.inf):
            raise ValueError(
                f"scores reach from {smallest} to {largest}; the rules take scores that are not "
                "negative and finite, such as votes and probabilities"
            )


def apportion(prior: np.ndarray, images: int) -> np.ndarray:
    """Turn shares into whole counts of images by the largest remainders.

    Parameters
    ----------
    prior : np.ndarray
        Float (classes,); it need not sum to 1.
    images : int
        What the counts sum to.

    Returns
    -------
    np.ndarray
        Int64 (classes,). Of equal remainders those of earlier classes are rounded up.
    """
    exact = prior / prior.sum() * images
    # A share such as 1/3 of 9 must not be floored to 2 for its last bit.
    counts = np.floor(exact + 1e-9).astype(np.int64)
    most = np.argsort(-np.round(exact - counts, 9), kind="stable")
    counts[most[: images - counts.sum()]] += 1
    return counts


def class_caps(prior: np.ndarray, images: int, slack: float) -> np.ndarray:
    """Compute the most images of each class: ceil(slack × its share of the images).

    Parameters
    ----------
    prior : np.ndarray
        Float (classes,); it need not sum to 1.
    images : int
        How many there are.
    slack : float
        1 or more.

    Returns
    -------
    np.ndarray
        Int64 (classes,).
    """
    return np.ceil(slack * prior / prior.sum() * images - 1e-9).astype(np.int64)


def cap_for(known_count: int, images: int, classes: int, slack: float) -> int:
    """Compute the most images that a class takes: ceil(slack × the known count of a class).

    Parameters
    ----------
    known_count : int
        Known images a class; 0 means equal classes of unknown size: images / classes.
    images, classes : int
        How many there are.
    slack : float
        1 or more.

    Raises
    ------
    ValueError
        cap × classes does not cover the images.
    """
    cap = math.ceil(slack * (known_count or images / classes))
    if cap * classes < images:
        raise ValueError(
            f"a cap of {cap} on {classes} classes covers {cap * classes} of {images} test images; "
            "raise known_count or slack, or use the rule plain"
        )
    return cap


def caps_for(
    rule: Rule,
    prior: np.ndarray,
    images: int,
    *,
    classes: int,
    known_count: int = 0,
    by_prior: bool = False,
) -> np.ndarray | int:
    """Find the caps of a rule for `assign`.

    Parameters
    ----------
    rule : Rule
        With its slack.
    prior : np.ndarray
        Float (classes left,): the shares of the classes that take part.
    images : int
        How many test images there are.
    classes : int
        All classes of the contest, with those that cleaning emptied.
    known_count : int
        Known test images a class; 0: not known.
    by_prior : bool
        Whether the prior is known class by class, so that each gets a cap of its own.

    Returns
    -------
    np.ndarray or int
        Int64 (classes left,) by the prior; else one number, raised where the classes left would not
        cover the images; 0 for a rule without caps.

    Raises
    ------
    ValueError
        One cap for all classes does not cover the images.
    """
    if not RULES[rule.name].capped:
        return 0
    if by_prior:
        return class_caps(prior, images, rule.slack)
    # Emptied classes take no image, so their share falls to the others.
    cap = cap_for(known_count, images, classes, rule.slack)
    return max(cap, math.ceil(images / len(prior)))


def assign_capped(scores: np.ndarray, cap: int | np.ndarray) -> np.ndarray:
    """Give each image one class, a class at most its cap of images, the surest pairs first.

    All (image, class) pairs are taken in order of score; an image whose class is full goes to its
    next best class with room. Equal scores go by image, then by class.

    Parameters
    ----------
    scores : np.ndarray
        Float (images, classes), finite.
    cap : int or np.ndarray
        One number, or int (classes,).

    Returns
    -------
    np.ndarray
        Int64 (images,).

    Raises
    ------
    ValueError
        The caps do not cover the images.

    Notes
    -----
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


def assign_exact(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Find the assignment with the largest sum of scores, a class at most its count of images.

    Each class is a column as often as it has room in a linear assignment problem (scipy's
    `linear_sum_assignment`).

    Parameters
    ----------
    scores : np.ndarray
        Float (images, classes), finite.
    counts : np.ndarray
        Int (classes,).

    Returns
    -------
    np.ndarray
        Int64 (images,).

    Raises
    ------
    ValueError
        The counts do not cover the images, or images × slots is more than `EXACT_PAIRS`.

    References
    ----------
    Crouse, On implementing 2D rectangular assignment algorithms, IEEE Transactions on Aerospace
    and Electronic Systems 52, 2016.
    """
    # Heavy, and every kernel of 30 and 40 and the pipeline load this module.
    from scipy.optimize import linear_sum_assignment

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


def changed(scores: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Find the images that got another class, those that lost most score first.

    Parameters
    ----------
    scores : np.ndarray
        Float (images, classes).
    before, after : np.ndarray
        Int (images,): the classes.

    Returns
    -------
    np.ndarray
        Row numbers, int64 (changed images,).
    """
    rows = np.flatnonzero(before != after)
    lost = scores[rows, before[rows]] - scores[rows, after[rows]]
    return rows[np.argsort(-lost, kind="stable")]
