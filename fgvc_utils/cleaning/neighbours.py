"""Nearest images, and how far labels agree among them: noise in 01, muddled classes in 04."""

import numpy as np
import pandas as pd

from fgvc_utils.cleaning.search import search
from fgvc_utils.cleaning.vectors import UnitVectors


def nearest(features: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """The nearest images of each image by cosine similarity, copies of itself left out.

    Of many images the true neighbours are found but for a share that is printed; see `search`.

    Parameters
    ----------
    features
        Features of a network, float (images, width).
    groups
        Images of one group are copies of each other, (images,).
    count
        How many neighbours an image gets.

    Returns
    -------
    np.ndarray
        Row numbers, int64 (images, count), the nearest first.

    Raises
    ------
    ValueError
        There are not more images than neighbours.
    """
    return search(UnitVectors([features]), groups, count).rows


def label_disorder(neighbours: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How little an image's surroundings agree on a label.

    The entropy of the neighbours' given labels over its largest possible value, averaged over the
    image's neighbours. A picture of nothing of the contest's kind comes under any class, so it lies
    where labels of all kinds meet; a picture of a class, even a mislabelled one, lies where its own
    and its sister classes prevail.

    Parameters
    ----------
    neighbours
        Row numbers, int (images, count), as from `nearest`.
    labels
        The given labels, (images,).

    Returns
    -------
    np.ndarray
        float64 (images,): 0 where all neighbours agree, 1 where no two do.
    """
    near = labels[neighbours]
    same = (near[:, :, None] == near[:, None, :]).sum(axis=2)
    # Each of n equal labels adds log(n / k) / k, so the mean over neighbours is the entropy.
    count = near.shape[1]
    entropy = -np.log(same / count).mean(axis=1) / np.log(count)
    return entropy[neighbours].mean(axis=1)


def label_agreement(neighbours: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The share of an image's neighbours that have its own label: float64 (images,), 0 to 1.

    Parameters are those of `label_disorder`.
    """
    return (labels[neighbours] == labels[:, None]).mean(axis=1)


def class_agreement(
    neighbours: np.ndarray, labels: np.ndarray, considered: np.ndarray
) -> pd.DataFrame:
    """How far each class's images agree on a subject.

    Parameters
    ----------
    neighbours
        Row numbers, int (images, count), as from `nearest`.
    labels
        The given labels, (images,).
    considered
        The images that are judged, boolean (images,).

    Returns
    -------
    pd.DataFrame
        A row a class, index `label`. `agreement` is the mean share of an image's neighbours with
        the image's own label, of at most class size - 1 neighbours; NaN for a class of one image,
        which has nothing to agree with. `images` counts.
    """
    frame = pd.DataFrame({"label": labels, "row": np.arange(len(labels))})[considered]
    rows = []
    for label, members in frame.groupby("label")["row"]:
        usable = min(neighbours.shape[1], len(members) - 1)
        near = labels[neighbours[members.to_numpy()][:, :usable]] if usable else None
        agreement = float((near == label).mean()) if usable else float("nan")
        rows.append((label, len(members), agreement))
    return pd.DataFrame(rows, columns=["label", "images", "agreement"]).set_index("label")
