"""What a person is asked: which images, in which order, with what suggestions."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fgvc_utils.cleaning.deciding import review_value
from fgvc_utils.cleaning.judging import Judgement
from fgvc_utils.cleaning.posterior import NONE


def review_order(
    verdict: pd.DataFrame, seen: Sequence[str], share: float, new: Sequence[str] = ()
) -> tuple[list[str], int]:
    """The images not kept as they came, those first where a review changes most.

    Parameters
    ----------
    verdict
        The decisions by image_id, as from `verdicts.decisions`.
    seen
        Images that somebody has decided on already. They come first, so that they can be seen and
        changed.
    share
        The share of the images that is asked for, 0 to 1.
    new
        Images that came since people began to decide. The same share of them is asked for, at least
        one, however many others were decided on.

    Returns
    -------
    order : list of str
        The image ids.
    wanted : int
        How many of them, from the first on, are asked for: at least those that were seen.
    """
    known = set(seen)
    doubtful = verdict[verdict["verdict"] != "keep"]
    ranked = doubtful.index[np.argsort(-review_value(doubtful), kind="stable")]
    fresh = [image for image in ranked if image not in known]
    came = set(new) if seen else set()
    first = [image for image in fresh if image in came]
    first = first[: math.ceil(len(first) * share)]
    rest = [image for image in fresh if image not in set(first)]
    wanted = round((len(seen) + len(fresh)) * share)
    return [*seen, *first, *rest], max(wanted, len(seen) + len(first))


def suggestions(
    judgement: Judgement, image_ids: Sequence[str], count: int = 5
) -> dict[str, list[tuple[str, float]]]:
    """The classes that images may show, the likeliest first.

    Parameters
    ----------
    judgement
        The judgement of the stage.
    image_ids
        The images; those that were not judged are left out.
    count
        At most so many classes an image.

    Returns
    -------
    dict
        image_id → (class, probability) pairs. "None of the classes" is not among them; the
        probabilities are what is left beside it.
    """
    learnt = judgement.learnt
    predictions = judgement.predictions if learnt is None else learnt.predictions
    known = [image for image in image_ids if image in predictions.image_ids]
    if learnt is None:
        rows = predictions.of(known)
        columns, values = rows.top_classes, rows.top_probabilities
    else:
        rows = learnt.of(known)
        columns, values = rows.columns, rows.values
    names = np.array(predictions.classes, object)
    order = np.argsort(-values.astype(np.float32), axis=1, kind="stable")[:, : count + 1]
    columns = np.take_along_axis(columns, order, axis=1)
    values = np.take_along_axis(values, order, axis=1).astype(float)
    found = {}
    for image, found_names, shares in zip(known, names[columns], values, strict=True):
        pairs = [(name, share) for name, share in zip(found_names, shares, strict=True) if share]
        found[image] = [pair for pair in pairs if pair[0] != NONE][:count]
    return found
