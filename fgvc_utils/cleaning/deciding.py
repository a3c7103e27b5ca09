"""From posteriors to decisions: which label is kept, replaced or not believed."""

from typing import Literal

import numpy as np
import pandas as pd

from fgvc_utils.cleaning.posterior import SparsePosterior
from fgvc_utils.contest.parameters import Parameters, Share


class DecisionParams(Parameters):
    """The parameters of `decide` and of what follows from it."""

    relabel: bool
    relabel_bar: Share
    keep_bar: Share = 0.0
    bars: Literal["set", "planted"] = "set"


def decide(
    posterior: SparsePosterior, labels: np.ndarray, classes: int, cfg: DecisionParams
) -> pd.DataFrame:
    """What becomes of each image, given the posterior of its class.

    Parameters
    ----------
    posterior
        A row an image.
    labels
        The labels the images came with, int (images,).
    classes
        The number of classes; as a class number it stands for "none of them".
    cfg
        The settings of the decision.

    Returns
    -------
    pd.DataFrame
        A row an image. `best` (int) is the likeliest class and `sure` its posterior, `own` the
        posterior of the image's own label, `none` that of "none of them" (float32, 0 to 1).
        `verdict` is `keep` where the own label is believed: where it is the likeliest, or, with
        `cfg.keep_bar` above 0, where its posterior is that large. Else it is `relabel` where
        another class is surer than `cfg.relabel_bar`, and `drop` where none is.
    """
    best = posterior.best()
    sure = posterior.values.max(axis=1)
    own = posterior.of(labels)
    kept = own >= cfg.keep_bar if cfg.keep_bar else best == labels
    replaced = (best < classes) & (best != labels) & (sure > cfg.relabel_bar)
    verdict = np.select([kept, replaced], ["keep", "relabel"], "drop").astype(object)
    none = posterior.of(np.full(len(labels), classes))
    return pd.DataFrame({"best": best, "sure": sure, "own": own, "none": none, "verdict": verdict})


def review_value(decision: pd.DataFrame) -> np.ndarray:
    """How much is gained when a person reviews an image: the larger, the more.

    It is how likely the review is to change what the image teaches. A dropped image teaches
    nothing, so a review changes that if the image shows any class; a relabelled one, if it shows
    another than was taken. Among dropped ones, what the networks know half teaches them half as
    much.

    Parameters
    ----------
    decision
        As from `decide`: columns sure, none and verdict.

    Returns
    -------
    np.ndarray
        float64 (images,), 0 to 1.

    References
    ----------
    Lewis and Gale, A sequential algorithm for training text classifiers (uncertainty sampling),
    1994.
    """
    shows_one = 1 - decision["none"].to_numpy(dtype=np.float64)
    sure = decision["sure"].to_numpy(dtype=np.float64)
    dropped = (decision["verdict"] == "drop").to_numpy()
    return np.where(dropped, shows_one * (1 - sure / 2), 1 - sure)
