"""What a person is asked of a judgement: which images, in which order, with what suggestions."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fgvc_utils.cleaning import posterior
from fgvc_utils.cleaning.judging import Judgement


def review_order(verdict: pd.DataFrame, seen: Sequence[str], share: float) -> tuple[list[str], int]:
    """The images not kept as they came, by the worth of a look, and how many are asked for.

    `seen` are those that somebody has decided on already; they stand first, so that they can be
    seen and changed, and count towards the `share` of the negatives that is asked for.
    """
    known = set(seen)
    doubtful = verdict[verdict["verdict"] != "keep"]
    by_worth = doubtful.index[np.argsort(-posterior.worth(doubtful), kind="stable")]
    fresh = [image for image in by_worth if image not in known]
    wanted = round((len(seen) + len(fresh)) * share)
    return [*seen, *fresh], max(wanted, len(seen))


def suggestions(
    judgement: Judgement, image_ids: Sequence[str], count: int = 5
) -> dict[str, list[tuple[str, float]]]:
    """What images may show: image_id → (class, probability), the likeliest first.

    "None of the classes" is not among them; the probabilities are what is left beside it. Images
    that the judgement does not know are left out.
    """
    said = judgement.said if judgement.learnt is None else judgement.learnt.said
    known = [image for image in image_ids if image in said.image_ids]
    if judgement.learnt is None:
        told = said.of(known)
        columns, values = told.top_classes, told.top_probabilities
    else:
        told = judgement.learnt.of(known)
        columns, values = told.columns, told.values
    names = np.array(said.classes, object)
    order = np.argsort(-values.astype(np.float32), axis=1, kind="stable")[:, : count + 1]
    columns = np.take_along_axis(columns, order, axis=1)
    values = np.take_along_axis(values, order, axis=1).astype(float)
    found = {}
    for image, found_names, shares in zip(known, names[columns], values, strict=True):
        pairs = [(name, share) for name, share in zip(found_names, shares, strict=True) if share]
        found[image] = [pair for pair in pairs if pair[0] != posterior.NONE][:count]
    return found
