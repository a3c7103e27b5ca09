"""How far a share that was counted on a sample can be trusted."""

from statistics import NormalDist


def wilson(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of a share that was counted on a sample.

    Parameters
    ----------
    hits
        How many of the draws count.
    n
        How many draws there are, 1 or more.
    confidence
        The probability that such an interval holds the true share.

    Returns
    -------
    tuple of float
        Its lower and its upper end, from 0 to 1.

    References
    ----------
    Wilson, Probable inference, the law of succession, and statistical inference, JASA, 1927.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(
    only_one: float, only_other: float, n: float, confidence: float = 0.95
) -> tuple[float, float, float]:
    """The difference of two shares that were counted on the same sample, and its interval.

    Parameters
    ----------
    only_one
        How many of the draws count for the first and not for the second; where that is not known
        of a draw, the number that is expected.
    only_other
        How many count for the second alone.
    n
        How many draws there are, above 0.
    confidence
        The probability that such an interval holds the true difference.

    Returns
    -------
    tuple of float
        The first share less the second, the lower and the upper end, from -1 to 1.

    References
    ----------
    Bonett, Price, Adjusted Wald confidence interval for a difference of binomial proportions based
    on paired data, Journal of Educational and Behavioral Statistics 37, 2012.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    one, other = (only_one + 1) / (n + 2), (only_other + 1) / (n + 2)
    middle = one - other
    half = z * ((one + other - middle * middle) / (n + 2)) ** 0.5
    return (only_one - only_other) / n, max(-1.0, middle - half), min(1.0, middle + half)
