"""The audit of 01: how much noise is left among the images that stay, from a random sample."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping

import pandas as pd


def audit_sample(
    stays: pd.DataFrame, count: int, seed: int, looked: Collection[str]
) -> pd.DataFrame:
    """A random sample of the images that stay, which is nearly the same where some come or go.

    Each image draws a number of its own and those with the smallest ones are the sample, so an
    image that comes takes the place of one other at most. An audit that was begun on a sample that
    was drawn by its rows is gone on with.

    Parameters
    ----------
    stays
        The rows of the label table that stay.
    count
        How many images.
    seed
        What the numbers follow from.
    looked
        The images that were audited so far.
    """
    count = min(count, len(stays))
    drawn = [hashlib.sha256(f"{seed} {image}".encode()).digest() for image in stays["image_id"]]
    order = pd.Series(drawn, stays.index, dtype=object).sort_values(kind="stable").index
    samples = [stays.loc[order[:count]], stays.sample(count, random_state=seed)]
    return max(samples, key=lambda sample: int(sample["image_id"].isin(looked).sum()))


def audit_interval(noise: int, sampled: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided interval of the share of noise, from a random sample.

    With no noise among 299 images the one-sided 95 % bound is 1 %; the two-sided one is 1.2 %.

    Parameters
    ----------
    noise
        How many images of the sample are noise.
    sampled
        How many were looked at.
    confidence
        How often such an interval holds the true share, 0 to 1.

    Returns
    -------
    low, high : float
        Shares, 0 to 1.

    References
    ----------
    Clopper and Pearson, The use of confidence or fiducial limits, 1934: the exact interval.
    """
    from scipy.stats import binomtest

    interval = binomtest(noise, sampled).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def audit_bound(noise: int, sampled: int, confidence: float = 0.95) -> float:
    """One-sided exact upper bound of the share of noise, 0 to 1; 1 where nobody has looked.

    Parameters
    ----------
    noise
        Images of the sample that are noise.
    sampled
        Images of the sample.
    confidence
        How surely the share is below the bound, 0 to 1.

    References
    ----------
    Clopper and Pearson, The use of confidence or fiducial limits, 1934: the exact interval.
    """
    from scipy.stats import binomtest

    if not sampled:
        return 1.0
    test = binomtest(noise, sampled, alternative="less")
    return float(test.proportion_ci(confidence, method="exact").high)


def audit_summary(decisions: Mapping[str, str]) -> str:
    """What an audit says of the noise that is left, in a line.

    Parameters
    ----------
    decisions
        Item → `noise` or `normal`.
    """
    sampled, found = len(decisions), sum(what == "noise" for what in decisions.values())
    if not sampled:
        return "nobody has reviewed the sample: the residual noise is unknown"
    low, high = audit_interval(found, sampled)
    return (
        f"{sampled} images, {found} noise; residual noise {low:.1%} to {high:.1%} (95 %), "
        f"one-sided bound {audit_bound(found, sampled):.1%}"
    )


def count_decisions(decisions: Mapping[str, str]) -> str:
    """How many of each decision there are, such as `40 noise, 35 normal`."""
    counted = Counter(decisions.values())
    return ", ".join(f"{count} {name}" for name, count in sorted(counted.items()))
