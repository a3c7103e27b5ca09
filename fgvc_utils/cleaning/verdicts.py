"""From a judgement to the label table."""

import numpy as np
import pandas as pd

from fgvc_utils.cleaning.crossing import Crossing
from fgvc_utils.cleaning.deciding import DecisionParams, decide
from fgvc_utils.cleaning.rounds import Posteriors, of_judged
from fgvc_utils.contest import posteriors, tables
from fgvc_utils.contest.tables import HUMAN, RULE, decided_by_person
from fgvc_utils.jobs.reduction import Reduced

FIRST = "01_noise"


def judged_and_none(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Which images a posterior judges, and which ones teach it what shows no class.

    Judged is every train image that 01 did not leave out, those that a later rule left out too,
    save what a person left out. What 01 left out as noise, by rule or by hand, teaches "none of the
    classes"; what it could not read teaches nothing.

    Returns
    -------
    judged, none : pd.Series
        Boolean by image_id.
    """
    train, dropped = table["split"] == "train", table["status"] == "drop"
    by_hand = dropped & (table["by"] == HUMAN)
    in_first = dropped & (table["stage"] == FIRST)
    none = train & in_first & (table["cause"] == "noise")
    return train & ~in_first & ~by_hand, none


def asked_images(table: pd.DataFrame, rule: str) -> pd.Series:
    """The images that a stage judges by a rule, `rank` or `posterior`; boolean by image_id.

    By rank the kept ones; by posterior all that `judged_and_none` gives as judged.
    """
    return tables.kept(table) if rule == "rank" else judged_and_none(table)[0]


def confirmed_classes(table: pd.DataFrame) -> pd.Series:
    """The class that a person confirmed or set for an image, else empty; by image_id."""
    confirmed = (table["status"] == "keep") & decided_by_person(table)
    return table["label"].where(confirmed, "")


def decisions(
    crossing: Crossing, learnt: Posteriors, cfg: DecisionParams | None = None
) -> pd.DataFrame:
    """What `decide` makes of the images asked.

    Parameters
    ----------
    crossing, learnt
        The cross-training, and what its rounds learnt.
    cfg
        The decision; by default the stage's parameters.

    Returns
    -------
    pd.DataFrame
        By image_id: columns given, suggested (a class name, or empty where the image shows none),
        best, sure, own, none and verdict; see `deciding.decide`.
    """
    asked = crossing.table.loc[crossing.asked]
    classes = learnt.predictions.classes
    numbers = pd.Index(classes).get_indexer(asked["given"])
    decided = decide(learnt.of(asked["image_id"]), numbers, len(classes) - 1, cfg or crossing.cfg)
    decided.insert(0, "given", asked["given"].to_numpy())
    decided.insert(1, "suggested", np.array([*classes[:-1], ""], object)[decided["best"]])
    return decided.set_index(asked["image_id"].to_numpy())


def leave_posteriors(crossing: Crossing, learnt: Posteriors | None) -> None:
    """Write the posteriors of the images asked beside the stage's table; see `posteriors`.

    Where the stage judged by rank there are none, and those of an earlier run are removed.
    """
    file = crossing.cfg.table_path(f"{crossing.name}{posteriors.ENDING}")
    if learnt is None:
        file.unlink(missing_ok=True)
        return
    judged = of_judged(crossing, learnt)
    rows = learnt.named(judged.table.loc[judged.asked, "image_id"])
    posteriors.write_posteriors(rows, file)


def apply(table: pd.DataFrame, decided: pd.DataFrame, name: str, relabel: bool) -> pd.DataFrame:
    """Put a stage's decisions into the table.

    An image that an earlier stage left out returns where its label turns out to be right or, with
    `relabel`, where another class is sure. What a person decided stays as it is: also that an
    image is no noise, which does not keep its label, but no rule leaves it out as showing no class.

    Parameters
    ----------
    table
        The label table; it stays as it is.
    decided
        The decisions, as from `decisions` or `rank_verdict`.
    name
        The stage.
    relabel
        Whether a better label is taken, and not suggested alone.
    """
    table = table.copy()
    rows = table.index[table["image_id"].isin(decided.index)]
    verdict = decided.loc[table.loc[rows, "image_id"]].set_axis(rows)
    table.loc[rows, "suggested"] = verdict["suggested"]
    table.loc[rows, "score"] = verdict["sure"].astype(float)
    no_noise = (table.loc[rows, "by"] == HUMAN) & (verdict["suggested"] == "")
    open_to_rules = ~decided_by_person(table.loc[rows]) & ~no_noise
    rows, verdict = rows[open_to_rules], verdict[open_to_rules]
    taken = verdict["verdict"].eq("relabel") & relabel
    table.loc[rows[taken], "label"] = verdict.loc[taken, "suggested"]
    untouched = verdict["verdict"].eq("keep") & table.loc[rows, "status"].eq("keep")
    stays = verdict["verdict"].eq("keep") | taken
    table.loc[rows, "status"] = np.where(stays, "keep", "drop")
    what = [taken, stays, verdict["suggested"] == ""]
    cause = np.select(what, ["relabelled", "returned", "no_class"], "label")
    reason = np.select(
        what,
        ["label: taken from the posterior", "label: returned by its posterior", "label: no class"],
        "label: another class is likelier",
    )
    changed = rows[~untouched]
    table.loc[changed, ["stage", "by"]] = [name, RULE]
    table.loc[changed, "cause"] = pd.Series(cause, rows)[changed]
    table.loc[changed, "reason"] = pd.Series(reason, rows)[changed]
    return table


def rank_verdict(crossing: Crossing, predictions: Reduced, kept: pd.Series) -> pd.DataFrame:
    """The decision by rank in the form of `decisions`: what is not kept is dropped.

    These networks do not know "none of the classes"; how unsure they are of any stands for it.

    Parameters
    ----------
    crossing
        The cross-training of the stage.
    predictions
        The latest prediction of each image asked.
    kept
        The images whose label is believed, boolean by image_id.

    Returns
    -------
    pd.DataFrame
        As from `decisions`; `sure` is the probability of the best class and `own` that of the
        label.
    """
    asked = crossing.table.loc[crossing.asked]
    predictions = predictions.of(asked["image_id"])
    best = predictions.top_classes[:, 0]
    verdict = pd.DataFrame(
        {
            "given": asked["given"].to_numpy(),
            "suggested": np.array(predictions.classes, object)[best],
            "best": best,
            "sure": predictions.top_probabilities[:, 0].astype(np.float32),
            "own": predictions.label_probability.astype(np.float32),
            "none": 1 - predictions.top_probabilities[:, 0].astype(np.float32),
            "verdict": np.where(kept[asked.index], "keep", "drop"),
        },
        index=predictions.image_ids,
    )
    return verdict.astype({"verdict": object})
