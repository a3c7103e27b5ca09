"""From a judgement to the table, and to what a person is asked."""

import numpy as np
import pandas as pd

from fgvc_utils.cleaning import posterior
from fgvc_utils.cleaning.crossing import Crossing
from fgvc_utils.cleaning.rounds import Posteriors
from fgvc_utils.jobs.reduction import Reduced


def judged_and_none(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Which images a posterior judges, and which ones teach it what shows no class (both boolean).

    Judged is every train image that 01 let pass, those that a later rule left out too, save what a
    person left out. What 01 left out as noise, by rule or by hand, teaches "none of the classes".
    """
    train, dropped = table["split"] == "train", table["status"] == "drop"
    by_hand = dropped & table["reason"].str.startswith("human:")
    in_first = dropped & (table["stage"] == "01_noise")
    none = train & in_first & table["reason"].str.contains("noise")
    return train & ~in_first & ~by_hand, none


def confirmed_classes(table: pd.DataFrame) -> pd.Series:
    """The class that a person confirmed or set for an image, else empty; by the table's index."""
    said = (table["status"] == "keep") & table["reason"].str.startswith("human:")
    return table["label"].where(said, "")


def decisions(crossing: Crossing, learnt: Posteriors) -> pd.DataFrame:
    """What `posterior.decide` says of the images asked, by image_id.

    Columns given, suggested (a class name, or empty where the image shows none), best, sure, own,
    none and verdict.
    """
    asked = crossing.table.loc[crossing.asked]
    classes = learnt.said.classes
    numbers = pd.Index(classes).get_indexer(asked["given"])
    value = learnt.of(asked["image_id"])
    decided = posterior.decide(value, numbers, len(classes) - 1, crossing.cfg.relabel_bar)
    decided.insert(0, "given", asked["given"].to_numpy())
    decided.insert(1, "suggested", np.array([*classes[:-1], ""], object)[decided["best"]])
    return decided.set_index(asked["image_id"].to_numpy())


def apply(table: pd.DataFrame, decided: pd.DataFrame, name: str, relabel: bool) -> pd.DataFrame:
    """Put the decisions into the table; without `relabel` a better label is only suggested.

    An image that an earlier stage left out returns where its label turns out to be right or, with
    `relabel`, where another class is sure.
    """
    table = table.copy()
    rows = table.index[table["image_id"].isin(decided.index)]
    verdict = decided.loc[table.loc[rows, "image_id"]].set_axis(rows)
    table.loc[rows, "suggested"] = verdict["suggested"]
    table.loc[rows, "score"] = verdict["sure"].astype(float)
    taken = verdict["verdict"] == "relabel" if relabel else verdict["verdict"] == "never"
    table.loc[rows[taken], "label"] = verdict.loc[taken, "suggested"]
    untouched = verdict["verdict"].eq("keep") & table.loc[rows, "status"].eq("keep")
    stays = verdict["verdict"].eq("keep") | taken
    table.loc[rows, "status"] = np.where(stays, "keep", "drop")
    reason = np.select(
        [taken, stays, verdict["suggested"] == ""],
        ["label: taken from the posterior", "label: returned by its posterior", "label: no class"],
        "label: another class is likelier",
    )
    changed = rows[~untouched]
    table.loc[changed, "stage"] = name
    table.loc[changed, "reason"] = pd.Series(reason, rows)[changed]
    return table


def rank_verdict(crossing: Crossing, said: Reduced, kept: pd.Series) -> pd.DataFrame:
    """The decision by rank in the form of `decisions`: what is not kept is dropped.

    `sure` is the probability of the best class and `own` that of the label, by the network that
    judged the image last. These networks do not know "none of the classes"; how unsure they are of
    any stands for it.
    """
    asked = crossing.table.loc[crossing.asked]
    said = said.of(asked["image_id"])
    best = said.top_classes[:, 0]
    verdict = pd.DataFrame(
        {
            "given": asked["given"].to_numpy(),
            "suggested": np.array(said.classes, object)[best],
            "best": best,
            "sure": said.top_probabilities[:, 0].astype(np.float32),
            "own": said.label_probability.astype(np.float32),
            "none": 1 - said.top_probabilities[:, 0].astype(np.float32),
            "verdict": np.where(kept[asked.index], "keep", "drop"),
        },
        index=said.image_ids,
    )
    return verdict.astype({"verdict": object})
