"""The rules of the cleaning stages on tables and scores: picks, folds, decisions of people.

Nothing here trains or shows anything.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from fgvc_utils.contest.journal import followed_from, read_shown
from fgvc_utils.contest.tables import HUMAN, KEPT, decided_by_person

# A person's decision → the code of its cause in the table, and the same in words.
HUMAN_CAUSES = {
    "keep": ("confirmed", "human: kept"),
    "normal": ("normal", "human: kept"),
    "drop": ("dropped", "human: drop"),
    "noise": ("noise", "human: noise"),
    "relabel": ("relabelled", "human: relabelled"),
}


def bootstrap_set(odd: pd.Series, least: int, most: float) -> tuple[pd.Series, bool]:
    """The images that a person picks noise from, and whether picks may be proposed among them.

    Noise is commoner among the images that are not three-channel only where they are the exception:
    in a contest of X-ray pictures or of cut-outs all of them are.

    Parameters
    ----------
    odd
        The images that are not three-channel, boolean by image_id.
    least
        With fewer odd images than this all images are candidates.
    most
        With a larger share of odd images than this too, 0 to 1.

    Returns
    -------
    bootstrap : pd.Series
        Boolean by image_id.
    proposes : bool
        Whether the odd images are enough, and few enough to mean anything.
    """
    proposes = bool(odd.sum() >= least and odd.mean() <= most)
    return odd if proposes else odd | True, proposes


def propose_picks(
    disorder: pd.Series, bootstrap: pd.Series, noise_share: float, normal_share: float
) -> pd.Series:
    """Stand-in for the hand picks of the bootstrap set where nobody has picked yet.

    Of the bootstrap set the most disordered share is proposed as noise and the least disordered
    share as normal; the doubtful ones between stay unpicked. (By hand the original picked about 10
    % noise and 70 % normal; a score needs a wider gap between the two, for the share of noise is
    not known.)

    Parameters
    ----------
    disorder
        `neighbours.label_disorder` by image_id.
    bootstrap
        The images that are proposed from, boolean by image_id.
    noise_share, normal_share
        Shares of the bootstrap set, 0 to 1.

    Returns
    -------
    pd.Series
        Text by image_id: `noise`, `normal` or empty.

    Raises
    ------
    ValueError
        The two shares overlap, or the bootstrap set gives no pick of a kind.
    """
    if noise_share + normal_share > 1:
        raise ValueError("propose_noise and propose_normal add up to more than 1; lower one")
    ranked = disorder[bootstrap].sort_values(ascending=False, kind="stable").index
    noise = round(len(ranked) * noise_share)
    normal = round(len(ranked) * normal_share)
    if not noise or not normal:
        raise ValueError(
            f"only {len(ranked)} images are not three-channel, too few to propose picks from; "
            "pick some images in the gallery, or raise propose_noise and propose_normal"
        )
    picks = pd.Series("", index=disorder.index, dtype=object)
    picks[ranked[:noise]] = "noise"
    picks[ranked[len(ranked) - normal :]] = "normal"
    return picks


def confirm_noise(
    flagged: pd.Series, agreement: pd.Series, most: float, picks: pd.Series | None = None
) -> pd.Series:
    """Which flags of a noise model hold where no person's picks taught it.

    A picture of nothing comes under any label, so its neighbours seldom have its own. Where the
    flagged images find their label among their neighbours too often, the model learnt something
    else than noise, and no flag holds. Else they hold, but for images that agree with their
    neighbours as well as the images that were not flagged.

    Picks were proposed by how their neighbours disagree, so they say nothing of what the model
    learnt: it is judged by the other images.

    Parameters
    ----------
    flagged
        Boolean by image_id.
    agreement
        `neighbours.label_agreement` by image_id.
    most
        At most so many times as often as the others may flagged images find their label nearby.
    picks
        The proposed picks that taught the model, text by image_id; empty where there is none.

    Returns
    -------
    pd.Series
        Boolean, by the index of `flagged`.
    """
    if not flagged.any() or flagged.all():
        return flagged & False
    judging = flagged | True if picks is None else picks == ""
    found = agreement[flagged & judging].mean()
    # Without a flag beyond the picks the model says nothing that was not put into it.
    if not found <= most * agreement[~flagged & judging].mean():
        return flagged & False
    others = agreement[~flagged].mean()
    return flagged & (agreement <= others)


def feed_back(
    picks: pd.Series, probability: pd.Series, threshold: float, normal_threshold: float
) -> pd.Series:
    """Add what the noise model is sure of to the picks it learns from next.

    Images that are surely noise join the noise; the surest normal ones join the normal, as many as
    make the two sides keep their proportion. Existing picks stay.

    Parameters
    ----------
    picks
        Text by image_id: `noise`, `normal` or empty.
    probability
        p(noise) by image_id, 0 to 1.
    threshold, normal_threshold
        Surely noise is what lies over the one, surely normal what lies under the other.

    Returns
    -------
    pd.Series
        Picks of the same form.
    """
    grown = picks.copy()
    free = picks == ""
    new_noise = free & (probability > threshold)
    grown[new_noise] = "noise"
    per_noise = (picks == "normal").sum() / max(1, (picks == "noise").sum())
    wanted = round(new_noise.sum() * per_noise)
    sure = probability[free & (probability < normal_threshold)]
    grown[sure.sort_values(kind="stable").index[:wanted]] = "normal"
    return grown


def cut_folds(labels: pd.Series, groups: pd.Series, folds: int, seed: int) -> pd.Series:
    """Cut images into folds of equal size, each class spread evenly, a group in one fold.

    Each class deals its groups to the folds in turn, in a drawn order, and goes on where the class
    before it stopped. The order of the images does not matter.

    Parameters
    ----------
    labels
        The class of each image.
    groups
        Images of one group are copies of each other; same index as the labels.
    folds
        How many folds.
    seed
        What the order follows from.

    Returns
    -------
    pd.Series
        The fold of each image, int64 by the same index.
    """
    frame = pd.DataFrame({"label": labels, "group": groups})
    # By the images' names, so that neither their order nor what a group is called matters.
    heads = frame.sort_index(kind="stable").drop_duplicates("group")
    drawn = heads.iloc[np.random.default_rng(seed).permutation(len(heads))]
    dealt = drawn.sort_values("label", kind="stable")
    fold_of = pd.Series(np.arange(len(dealt)) % folds, index=dealt["group"].to_numpy())
    return frame["group"].map(fold_of).astype("int64")


def steady_folds(
    before: pd.DataFrame,
    was_asked: pd.Series,
    table: pd.DataFrame,
    asked: pd.Series,
    folds: int,
    seed: int,
) -> pd.Series:
    """Cut the images asked into folds so that a person's decision moves no other image.

    The folds are cut by the table that the stage before left. An image that only a decision brings
    in joins its copies, or takes a fold of its own drawing.

    Parameters
    ----------
    before, table
        The label table without the stage's decisions, and with them.
    was_asked, asked
        The images asked by each, boolean by image_id.
    folds, seed
        As for `cut_folds`.

    Returns
    -------
    pd.Series
        The fold by image_id, int64; -1 where neither asks.
    """
    first = before.loc[was_asked]
    fold = cut_folds(first["label"], first["group"], folds, seed)
    late = table.loc[asked & ~was_asked]
    of_group = dict(zip(first["group"], fold, strict=True))
    drawn = cut_folds(late["label"], late["group"], folds, seed)
    joined = late["group"].map(of_group).fillna(drawn).astype("int64")
    return pd.concat([fold, joined]).reindex(table.index, fill_value=-1)


def apply_decisions(table: pd.DataFrame, decisions: pd.DataFrame, stage: str) -> pd.DataFrame:
    """Put a person's decisions into the table; they beat every rule.

    What followed from a copy does not beat what a person decided in an earlier stage.

    Parameters
    ----------
    table
        The label table; it stays as it is.
    decisions
        By image_id: columns decision (`keep`, `drop`, `relabel`, `noise`, `normal`), label and,
        where they come from a journal, shown. Those on test images do not count.
    stage
        The stage that the person decided in.

    Notes
    -----
    Decisions on images or classes that the table does not have stay in the journal and change
    nothing; `unused_decisions` lists them.
    """
    table = table.copy()
    decisions = decisions.drop(unused_decisions(table, decisions).index)
    row_of = pd.Series(table.index, index=table["image_id"])
    train, earlier = table["split"] == "train", decided_by_person(table)
    for image_id, decision in decisions.iterrows():
        row = row_of[image_id]
        if not train[row] or decision["decision"] not in HUMAN_CAUSES:
            continue
        what, label = decision["decision"], decision["label"]
        source = followed_from(decision.get("shown", ""))
        if source and earlier[row] and table.loc[row, "stage"] != stage:
            continue
        cause, reason = HUMAN_CAUSES[what]
        reason += f", as its copy {source}" if source else ""
        status = "keep" if cause in KEPT else "drop"
        columns = ["status", "stage", "by", "cause", "reason"]
        table.loc[row, columns] = [status, stage, HUMAN, cause, reason]
        if what == "keep":
            # The label that was shown is the one the image came with.
            table.loc[row, "label"] = table.loc[row, "given"]
        elif what == "relabel":
            table.loc[row, "label"] = label
    return table


def unused_decisions(table: pd.DataFrame, decisions: pd.DataFrame) -> pd.DataFrame:
    """The decisions on images that the contest does not have, or no longer has.

    Parameters
    ----------
    table
        The label table.
    decisions
        As for `apply_decisions`.

    Returns
    -------
    pd.DataFrame
        The rows that change nothing: columns decision, label and why. Among them are images that
        come under a class that is gone.
    """
    gone = ~decisions.index.isin(table["image_id"])
    classes = set(table["given"])
    nameless = (decisions["decision"] == "relabel") & ~decisions["label"].isin(classes)
    why = np.where(gone, "the contest does not have the image", "the contest has no such class")
    unused = gone | nameless.to_numpy(bool)
    return decisions[["decision", "label"]].assign(why=why)[unused]


def told_unused(
    table: pd.DataFrame, decisions: pd.DataFrame, outdated: pd.DataFrame | None = None
) -> list[pd.DataFrame]:
    """The `unused_decisions` as tables to show, none or one; how many there are is printed.

    So is how many are `outdated`, as from `Journal.outdated`: a further table.
    """
    unused, found = unused_decisions(table, decisions), []
    if len(unused):
        print(
            f"{len(unused)} of {len(decisions)} decisions change nothing; they stay in the journal"
        )
        found.append(unused)
    if outdated is not None and len(outdated):
        print(
            f"{len(outdated)} decisions no longer count, since picture or label is another; "
            "they stay in the journal: look at these images again"
        )
        found.append(outdated)
    return found


def of_the_table(table: pd.DataFrame, image_ids: Iterable[str]) -> list[str]:
    """Those of some images that a table has, in their order."""
    known = set(table["image_id"])
    return [image for image in image_ids if image in known]


def decisions_against_rule(decisions: pd.DataFrame) -> pd.DataFrame:
    """What people decided on images, beside what the rule had decided when they looked.

    Parameters
    ----------
    decisions
        As from `Journal.latest`, whose `shown` is as `journal.shown_text` writes it.

    Returns
    -------
    pd.DataFrame
        A row a verdict of the rule (`keep`, `drop`, `relabel`), a column a decision of a person,
        where `relabel` with another class than the first suggestion counts as `another class`.
        Cells count images; empty where nobody looked.
    """
    if decisions.empty:
        return pd.DataFrame()
    seen = [read_shown(text) for text in decisions["shown"]]
    rule = pd.Series([verdict for verdict, _ in seen], decisions.index)
    known = rule.isin(["keep", "drop", "relabel"])
    if not known.any():
        return pd.DataFrame()
    theirs = decisions["decision"].astype(object)
    first = pd.Series([likely for _, likely in seen], decisions.index)
    other = [not a.startswith(b) for a, b in zip(first, decisions["label"], strict=True)]
    theirs[(theirs == "relabel") & np.array(other)] = "another class"
    return pd.crosstab(rule[known].rename("by the rule"), theirs[known].rename("by a person"))
