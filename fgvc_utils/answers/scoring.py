"""How well ways do on held-out images, how they differ, and what each adds to the vote."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fgvc_utils.answers.ensembling import VOTE, Judged
from fgvc_utils.core.intervals import wilson


def best_first(top1: Mapping[str, float]) -> list[str]:
    """Order names by their held-out top-1, best first; equal ones by name."""
    return sorted(top1, key=lambda name: (-top1[name], name))


def score_table(hits: pd.DataFrame) -> pd.DataFrame:
    """Tabulate top-1 with its 95 % interval, the best first.

    Parameters
    ----------
    hits : pd.DataFrame
        Boolean, a row an image, a column a way.

    Returns
    -------
    pd.DataFrame
        By way: top1, low, high (shares; missing where there is no image) and n, the number of
        images.

    References
    ----------
    Wilson, Probable inference, the law of succession, and statistical inference, Journal of the
    American Statistical Association 22, 1927.
    """
    n, rows = len(hits), {}
    for name in hits:
        count = int(hits[name].sum())
        rows[name] = (count / n, *wilson(count, n)) if n else (np.nan,) * 3
    found = pd.DataFrame.from_dict(rows, orient="index", columns=["top1", "low", "high"])
    return found.assign(n=n).sort_values("top1", ascending=False, kind="stable")


def error_correlation(hits: pd.DataFrame) -> pd.DataFrame:
    """Correlate the mistakes of ways (phi, -1 to 1): the lower, the more two add to each other.

    Parameters
    ----------
    hits : pd.DataFrame
        Boolean, a row an image, a column a way.

    Returns
    -------
    pd.DataFrame
        Float, ways × ways; missing for one that never or always errs.
    """
    return (~hits).astype(float).corr()


def agreement(answers: pd.DataFrame) -> pd.DataFrame:
    """Share of images to which two ways give the same answer.

    Parameters
    ----------
    answers : pd.DataFrame
        The best classes, a row an image, a column a way.

    Returns
    -------
    pd.DataFrame
        Float, ways × ways; missing where there is no image.
    """
    return pd.DataFrame(
        {a: {b: (answers[a] == answers[b]).mean() for b in answers} for a in answers}
    )


def contributions(judged: Judged) -> pd.DataFrame:
    """Measure what each voter and member adds: top-1 of the vote less its top-1 without that one.

    Parameters
    ----------
    judged : Judged
        That of `judge` or `judge_parts`, with a vote.

    Returns
    -------
    pd.DataFrame
        By name: kind (member or voter), contribution (-1 to 1), and saved and lost, the numbers of
        images that are right only with it and only without it. The largest contribution first.
    """
    hits, names, rows = judged.hits[VOTE], [], []
    for (kind, name), others in judged.hits_left_out.items():
        saved, lost = int((hits & ~others).sum()), int((others & ~hits).sum())
        rows.append((kind, (saved - lost) / max(1, len(hits)), saved, lost))
        names.append(name)
    found = pd.DataFrame(rows, index=names, columns=["kind", "contribution", "saved", "lost"])
    order = ["kind", "contribution"]
    return found.sort_values(order, ascending=[True, False], kind="stable")


def halves(keys: Sequence[str]) -> np.ndarray:
    """Cut images in two by their keys alone, as evenly as distinct keys allow.

    Images of one key, such as a group of near duplicates, are in one half. The order of the images
    makes no difference.

    Parameters
    ----------
    keys : sequence of str
        One an image.

    Returns
    -------
    np.ndarray
        Boolean (images,): whether an image is in the second half.
    """
    distinct = sorted(set(keys), key=lambda key: (zlib.crc32(str(key).encode()), key))
    second = set(distinct[1::2])
    return np.array([key in second for key in keys], dtype=bool)


def crossfitted_choice(hits: pd.DataFrame, half: np.ndarray) -> float:
    """Judge the choice of the best way: chosen on one half of the images, judged on the other.

    The best of several on the images that chose it looks better than it is; this does not. Of equal
    ones the first is chosen.

    Parameters
    ----------
    hits : pd.DataFrame
        Boolean, a row an image, a column a way.
    half : np.ndarray
        Boolean (images,): which half an image is in.

    Returns
    -------
    float
        Top-1, 0 to 1; NaN where a half is empty.
    """
    if not len(half) or half.all() or not half.any():
        return float("nan")
    right = 0
    for chooses in (half, ~half):
        best = hits.loc[chooses].mean().idxmax()
        right += int(hits.loc[~chooses, best].sum())
    return right / len(hits)
