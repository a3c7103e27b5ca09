"""Copies of one picture under labels that contradict each other: which are no evidence at all.

A picture that says "this photo is no longer available" comes under any label. Its copies teach no
class, and networks that learn from them put them all into one. A photo of which most copies agree
is another thing: 02 and 03 settle its strays.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from fgvc_utils.contest import tables

CAUSE = "copies"
# Under so many labels no right one can be told; two may be sister classes, which 02 and 03 settle.
MANY_LABELS = 3
# In a contest of two classes: so many copies.
MANY_COPIES = 6
# A share of copies under a label that its class reaches this often by its size says nothing.
BY_CHANCE = 0.05
# Pictures are one where their grey values correlate so much, at this side, mirrored or not.
ALIKE, SIDE = 0.9, 32
# Grey values, of 255: a picture that varies less is blank; blank ones are one up to this.
BLANK, SAME_GREY = 2.0, 8.0
# Copies of one group that its usual picture is made of.
USUAL_OF = 101
COLUMNS = ["copies", "labels", "mostly", "share", "out"]


def contested(table: pd.DataFrame, readable: pd.Series, least: float) -> pd.DataFrame:
    """Groups of copies that came under several labels, those that say the least first.

    Parameters
    ----------
    table
        The label table with its groups.
    readable
        The train images that can be read, boolean by image_id.
    least
        The share of copies under one label from which on a group says something, 0 to 1; at 0 every
        group does.

    Returns
    -------
    pd.DataFrame
        A row a group, indexed by it: `copies` and `labels` (counts), `mostly` (its most frequent
        label), `share` (of its copies under that label) and `out` (boolean): whether it is no
        evidence for any class. It is none where it has many labels, and no more than `least` of the
        copies, or no more than the size of that class makes likely, are under one.
    """
    from scipy.stats import binom

    train = table.loc[readable, ["group", "given"]]
    shared = train[train["group"].duplicated(keep=False)]
    counts = shared.groupby(["group", "given"], sort=False).size().rename("count").reset_index()
    counts = counts[counts["group"].duplicated(keep=False)]
    if counts.empty:
        return pd.DataFrame({name: [] for name in COLUMNS}).astype({"out": bool})
    ranked = counts.sort_values(["group", "count", "given"], ascending=[True, False, True])
    by_group = ranked.groupby("group", sort=False)
    found = pd.DataFrame(
        {
            "copies": by_group["count"].sum(),
            "labels": by_group.size(),
            "mostly": by_group["given"].first(),
        }
    )
    most = by_group["count"].first()
    found["share"] = most / found["copies"]
    # A picture counts once for the size of its class.
    once = train.drop_duplicates(["group", "given"])["given"].value_counts(normalize=True)
    usual = once.reindex(found["mostly"]).to_numpy()
    chance = binom.sf(most.to_numpy() - 1, found["copies"].to_numpy(), usual)
    classes = train["given"].nunique()
    many = (found["labels"] >= MANY_LABELS) | (
        (found["labels"] == classes) & (found["copies"] >= MANY_COPIES)
    )
    says_little = (found["share"] <= least) | (chance > BY_CHANCE)
    found["out"] = many & says_little & (least > 0)
    order = ["out", "share", "copies"]
    return found.sort_values(order, ascending=[False, True, False], kind="stable")


def leave_out(
    table: pd.DataFrame, inventory: pd.DataFrame, readable: pd.Series, least: float, stage: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leave out copies that are no evidence for any class.

    Copies of copies are one group, so what is only near its usual picture is taken out of it first:
    pictures that differ are never left out for being under many labels.

    Parameters
    ----------
    table, readable, least
        As for `contested`.
    inventory
        Where each picture lies: `file`, by image_id.
    stage
        The stage that leaves them out.

    Returns
    -------
    table : pd.DataFrame
        A copy, with these images dropped.
    found : pd.DataFrame
        As from `contested`; `shown` is a picture of each group.

    Raises
    ------
    ValueError
        All train images show one picture.
    """
    groups = table.loc[readable, "group"]
    if len(groups) > 1 and groups.nunique() == 1:
        raise ValueError(
            f"all {len(groups)} train images that can be read show one picture, such as "
            f"{table.loc[groups.index[0], 'path']!r}: nothing can be learnt from them; look at the "
            "files below the data root"
        )
    found = contested(table, readable, least)
    members = table.loc[readable & table["group"].isin(found.index[found["out"]])]
    near = pd.Series(False, table.index)
    for _, ids in members.groupby("group")["image_id"]:
        strays = ids[~one_picture(inventory.loc[ids, "file"].tolist())]
        near[strays] = True
    if near.any():
        found = contested(table, readable & ~near, least)
    out = readable & ~near & table["group"].isin(found.index[found["out"]])
    found["shown"] = (
        table.loc[readable & ~near].drop_duplicates("group").set_index("group")["image_id"]
    )
    rows = found.reindex(table["group"]).set_axis(table.index)
    reason = pd.Series("", table.index)
    reason[out] = [
        f"copies: {copies:.0f} of one picture under {labels:.0f} labels, {share:.0%} agree"
        for copies, labels, share in rows.loc[out, ["copies", "labels", "share"]].to_numpy(object)
    ]
    return tables.leave_out(table, out, stage, CAUSE, reason), found


def one_picture(files: Sequence[str]) -> np.ndarray:
    """Which of some pictures show what most of them show, boolean (files,).

    Parameters
    ----------
    files
        Pictures that hashes take for copies of copies.
    """
    grey = np.stack([_grey(file) for file in files])
    turned = grey[:, :, ::-1]
    first = grey[0]
    upright = np.where(
        (_likeness(grey, first) >= _likeness(turned, first))[:, None, None], grey, turned
    )
    usual = np.median(upright[:USUAL_OF], axis=0)
    return np.maximum(_likeness(grey, usual), _likeness(turned, usual)) >= ALIKE


def _grey(file: str) -> np.ndarray:
    """A picture's grey values, float32 (SIDE, SIDE)."""
    with Image.open(file) as picture:
        picture.draft("L", (2 * SIDE, 2 * SIDE))
        small = ImageOps.grayscale(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def _likeness(pictures: np.ndarray, one: np.ndarray) -> np.ndarray:
    """The correlation of pictures with one, float (pictures,); of blank ones 1 or 0."""
    flat, other = pictures.reshape(len(pictures), -1), one.ravel()
    apart, across = flat - flat.mean(axis=1, keepdims=True), other - other.mean()
    spread, width = apart.std(axis=1), across.std()
    if width < BLANK:
        same = np.abs(flat.mean(axis=1) - other.mean()) <= SAME_GREY
        return (same & (spread < 2 * BLANK)).astype(float)
    return (apart @ across) / (len(other) * np.maximum(spread, BLANK) * width)


def in_words(found: pd.DataFrame) -> str:
    """How many groups of copies contradict themselves, and what becomes of them, in a sentence.

    Parameters
    ----------
    found
        As from `leave_out`.
    """
    text = f"{found['copies'].sum():.0f} train images are copies under different labels"
    out = found[found["out"]]
    if len(out):
        text += (
            f"; {out['copies'].sum():.0f} of them, in {len(out)} groups, are left out: under many "
            f"labels, of which the most frequent has {out['share'].mean():.0%} of a group"
        )
    return text


def ordered(conflicts: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Copies under different labels, those whose group says the least first.

    Parameters
    ----------
    conflicts
        As from `copies.conflicts`.
    found
        As from `leave_out`.
    """
    place = found.index.get_indexer(conflicts["group"])
    return conflicts.iloc[np.argsort(place, kind="stable")]
