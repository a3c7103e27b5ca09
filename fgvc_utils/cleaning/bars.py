"""Where the bars of a decision lie for these images: chosen by planted errors, with no truth.

A bar is as good as what it brings: a wrong label that is left out is a gain, a right one that goes
with it a loss, and a label that is put in the wrong place is worse than none.

Arrays and frames come in, frames and numbers go out; nothing here trains.
"""

import numpy as np
import pandas as pd

KEEP_BARS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
RELABEL_BARS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
# A wrong label teaches something wrong; an image that is left out teaches nothing.
COST_OF_WRONG_LABEL = 2.0


def right_share(flagged: np.ndarray, recall: np.ndarray, wrong_share: float) -> np.ndarray:
    """The share of the images that are flagged though their label is right.

    What is flagged beyond the wrong ones that are found. The planted errors may be easier to find
    than the real ones, so it is never below 0.

    Parameters
    ----------
    flagged
        The shares of the images that were not planted that are flagged, 0 to 1.
    recall
        The shares of planted errors that are flagged, 0 to 1.
    wrong_share
        The share of the labels that were wrong before, 0 to 1.
    """
    return np.maximum(flagged - wrong_share * recall, 0)


def keep_curve(own: np.ndarray, planted: np.ndarray, wrong_share: float) -> pd.DataFrame:
    """What leaving out below a posterior of the label brings, learnt from planted errors.

    Parameters
    ----------
    own
        The posterior of the label that each image is judged under, float (images,), 0 to 1.
    planted
        The images whose label was flipped, boolean (images,).
    wrong_share
        The share of the labels that were wrong before, 0 to 1.

    Returns
    -------
    pd.DataFrame
        A row a bar. Columns keep_bar, left_out (share of the images that were not planted), recall
        (share of planted errors that are left out), precision, right_lost (share of right labels
        that are left out) and gain (wrong labels left out less right ones lost, as a share of the
        images that were not planted).

    Raises
    ------
    ValueError
        Nothing was planted.
    """
    if not planted.any():
        raise ValueError("no planted errors to learn from; raise planted_share")
    bars = np.array(KEEP_BARS)
    recall = np.array([(own[planted] < bar).mean() for bar in bars])
    left_out = np.array([(own[~planted] < bar).mean() for bar in bars])
    right = right_share(left_out, recall, wrong_share)
    wrong = left_out - right
    return pd.DataFrame(
        {
            "keep_bar": bars,
            "left_out": left_out,
            "recall": recall,
            "precision": np.where(left_out > 0, wrong / np.maximum(left_out, 1e-9), np.nan),
            "right_lost": right / max(1 - wrong_share, 1e-9),
            "gain": wrong - right,
        }
    )


def keep_bar_of(curve: pd.DataFrame) -> float:
    """The bar of the largest gain, of equal ones the lowest: it leaves out least."""
    return float(curve["keep_bar"].iloc[curve["gain"].to_numpy().argmax()])


def relabel_curve(
    sure: np.ndarray, best: np.ndarray, labels: np.ndarray, before: np.ndarray, classes: int
) -> pd.DataFrame:
    """What taking the likeliest class brings, learnt from planted errors alone.

    Parameters
    ----------
    sure, best
        The posterior of the likeliest class and that class, float and int (errors,).
    labels, before
        The label that was planted and the one that was there, int (errors,).
    classes
        The number of classes; as a class number it stands for "none of them".

    Returns
    -------
    pd.DataFrame
        A row a bar. Columns relabel_bar, relabelled (share of the errors), right (share of these
        that get the label back that was there) and gain (right ones less twice the wrong ones, as
        a share of the errors).
    """
    other = (best != labels) & (best < classes)
    right = best == before
    rows = []
    for bar in RELABEL_BARS:
        taken = other & (sure > bar)
        good = float((taken & right).mean()) if len(taken) else 0.0
        share = float(taken.mean()) if len(taken) else 0.0
        gain = good - COST_OF_WRONG_LABEL * (share - good)
        rows.append((bar, share, good / share if share else np.nan, gain))
    return pd.DataFrame(rows, columns=["relabel_bar", "relabelled", "right", "gain"])


def relabel_bar_of(curve: pd.DataFrame) -> float:
    """The bar of the largest gain, of equal ones the highest: it changes least."""
    gain = curve["gain"].to_numpy()
    return float(curve["relabel_bar"].iloc[np.flatnonzero(gain == gain.max())[-1]])
