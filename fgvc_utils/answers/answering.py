"""Small steps of 40: who could not be read, what a form needs of the scores, what is noted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fgvc_utils.answers.assignment import RULES, Rule
from fgvc_utils.answers.forms import FORMS, as_data, described
from fgvc_utils.answers.planned import USUAL_COLUMNS, Plan
from fgvc_utils.contest.beside import copies, files_folder
from fgvc_utils.contest.places import below_root
from fgvc_utils.jobs.predictions import Store

# How a file looks where nothing is asked for: submissions.csv needs no word of it.
USUAL = f"head line {','.join(USUAL_COLUMNS)!r}, one class"


def unread(plan: Plan, inventory: pd.DataFrame | None, store: Store) -> list[str]:
    """Find the images that no model could see, for which scores may be lacking.

    Parameters
    ----------
    plan : Plan
        The submission's.
    inventory : pd.DataFrame or None
        What 01 found in the files; where it is not there, an image without scores was not read.
    store : Store
        The scores.

    Returns
    -------
    list of str
        Their ids, in the order of `plan.images`; those that are missing last.

    Raises
    ------
    KeyError
        Naming an image that the inventory does not know.
    """
    there = plan.images[~plan.images.isin(plan.missing)]
    if inventory is None:
        return [*there[~there.isin(store.image_ids)], *plan.missing]
    strangers = there[~there.isin(inventory.index)]
    if len(strangers):
        raise KeyError(
            f"the inventory has no row of image {strangers.iloc[0]!r}: run 01_noise again"
        )
    return [*there[(inventory.loc[there, "cached"] == "").to_numpy()], *plan.missing]


def pictures(inventory: pd.DataFrame | None, image_ids: Sequence[str], most: int = 100) -> list:
    """Find the pictures of images; empty text where one is elsewhere, or beyond the first `most`.

    Parameters
    ----------
    inventory : pd.DataFrame or None
        With `file`, the place of each picture.
    image_ids : sequence of str
        The images.
    most : int
        So many are looked for.
    """
    files = pd.Series(dtype=object) if inventory is None else inventory["file"]
    found = files.reindex(list(image_ids)[:most]).fillna("")
    shown = [file if file and Path(file).is_file() else "" for file in found]
    return shown + [""] * (len(image_ids) - len(shown))


def prior_file(cfg: Any) -> Path | None:
    """The file of the prior: in the data root, or the run's copy where the images are elsewhere."""
    if not cfg.prior:
        return None
    folder = files_folder(cfg) or copies(cfg)
    return folder / below_root(folder, cfg.prior)


def scores_for(
    plan: Plan, rule: Rule, scores: np.ndarray, classes: Sequence[str], prior: np.ndarray
) -> pd.DataFrame | None:
    """Make of the scores what the form of a submission needs beside each image's class.

    Parameters
    ----------
    plan : Plan
        The submission's.
    rule : Rule
        The rule that answers.
    scores : np.ndarray
        Float32 (images, classes left), in the order of `plan.images`.
    classes : sequence of str
        The classes that are left.
    prior : np.ndarray
        Float (classes left,): their shares; the probabilities of an image that nobody saw.

    Returns
    -------
    pd.DataFrame or None
        A row an image, a column a class that is left; None where one class is written.
    """
    form = FORMS[plan.layout.form]
    if form.ranks:
        values = scores
    elif form.probabilities:
        seen = scores.any(axis=1)
        values = np.tile((prior / prior.sum()).astype(np.float32), (len(scores), 1))
        if seen.any():
            values[seen] = RULES[rule.name].probabilities(scores[seen], rule, prior)
    else:
        return None
    return pd.DataFrame(values, index=plan.images.to_numpy(), columns=list(classes))


def settings_text(cfg: Any, plan: Plan) -> str:
    """The settings that a submission was made with, for the list of submissions."""
    used = [f"{name} {getattr(cfg, name)}" for name in RULES[cfg.rule].settings]
    form = described(plan.layout)
    return ", ".join(used + ([] if form == USUAL else [form]))


def figures_of(cfg: Any, plan: Plan) -> dict[str, Any]:
    """What a report says of the form: the layout as plain data, the sample, who is missing."""
    return {
        "form": as_data(plan.layout),
        "class_names": {n: getattr(cfg, n) for n in ("class_names", "class_digits", "first_class")},
        "missing_images": len(plan.missing),
        "surplus_images": plan.surplus,
    }
