"""The audit of 01: how much noise is left among the images that stay, from a random sample."""

from collections import Counter
from collections.abc import Mapping


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
