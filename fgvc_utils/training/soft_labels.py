"""What the cleaning is unsure of, taught as it is: posteriors in place of labels (10_train).

An image that is a class with a probability of .6 teaches .6 of it, and what 03 left out because no
class is sure enough teaches what it may be.

References
----------
Dempster, Laird and Rubin, Maximum likelihood from incomplete data via the EM algorithm, 1977: the
posteriors are the expectation, and a model that learns from them is one more maximisation.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fgvc_utils.contest import tables
from fgvc_utils.contest.posteriors import ENDING, JUDGED, read_posteriors
from fgvc_utils.contest.tables import RULE
from fgvc_utils.jobs.soft_targets import write_targets
from fgvc_utils.training.params import TrainParams

# An image teaches where it is likelier to show a class that is left than none.
LEAST = 0.5
WIDTH = 20
# Labels that a decision about a whole class gave.
OF_CLASSES = ("merged", "swapped")


@dataclass(frozen=True)
class Teaching:
    """What a model learns from where it learns from posteriors.

    Parameters
    ----------
    table
        The label table, in which images that 03 left out for a label that is not believed are kept
        under their likeliest class, where they teach what they may be.
    store
        The store that a job reads as its `soft_labels`; empty where all teach their label.
    said
        In words, what teaches how.
    """

    table: pd.DataFrame
    store: str
    said: str


def what_teaches(cfg: TrainParams, table: pd.DataFrame) -> Teaching:
    """What a model of 10_train learns from: labels, or 03's posteriors where `soft_labels` asks.

    A label that a person set or confirmed, and one that a decision about its class gave, is taught
    as it is. Classes without any image left are not taught.

    Parameters
    ----------
    cfg
        The notebook's parameters.
    table
        The label table that the model learns from.

    Raises
    ------
    ValueError
        The posteriors are not those of the table: they name other images.
    """
    file = cfg.table_path(JUDGED + ENDING)
    if why := _why_labels(cfg, file):
        return Teaching(table, "", f"Every image teaches its label: {why}.")
    rows, unsure = _of_classes_left(read_posteriors(file), table, file), _unsure(table)
    total = rows.groupby("image_id")["probability"].sum().reindex(table.index, fill_value=0.0)
    soft = (_kept_softly(table) | unsure) & (total >= LEAST)
    rows = rows[rows["image_id"].isin(table.index[soft])]
    if rows.empty:
        return Teaching(table, "", "Every image teaches its label: none has a posterior to teach.")
    store = cfg.folder / "models" / cfg.name / "soft-labels" / "predictions"
    _write(store, tables.classes_of(table), rows)
    back = table.index[soft & unsure]
    by_label = int((tables.kept(table) & ~soft).sum())
    return Teaching(
        _brought_back(table, back, rows),
        str(store),
        f"{soft.sum() - len(back)} images teach the posterior of their class, {by_label} their "
        f"label, and {len(back)} that 03 left out, of no class sure enough, what they may be.",
    )


def _why_labels(cfg: TrainParams, file: Path) -> str:
    """Why all images teach their label; empty where some teach their posterior."""
    if not cfg.soft_labels:
        return "soft_labels is off"
    if not cfg.reads_posteriors:
        return f"soft labels are those of 03, not of {cfg.table}"
    return "" if file.is_file() else f"03 left no {file.name}, as it does by rule posterior"


def _of_classes_left(rows: pd.DataFrame, table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The rows of the classes that have a kept image; a row of a stranger is refused."""
    if strangers := set(rows["image_id"]) - set(table["image_id"]):
        raise ValueError(
            f"{file} knows image {min(strangers)!r}, which is in no row of the label table: run "
            "the notebook 03_fine again, and those after it"
        )
    return rows[rows["class"].isin(set(table.loc[tables.kept(table), "label"]))]


def _brought_back(table: pd.DataFrame, images: pd.Index, rows: pd.DataFrame) -> pd.DataFrame:
    """A copy of the table in which some images are kept, under their likeliest class."""
    likeliest = rows.drop_duplicates("image_id").set_index("image_id")["class"]
    table = table.copy()
    table.loc[images, "status"] = "keep"
    table.loc[images, "label"] = likeliest.reindex(images)
    return table


def _kept_softly(table: pd.DataFrame) -> pd.Series:
    """Kept images whose label nobody set: no person, and no decision about the class."""
    of_class = table["cause"].isin(OF_CLASSES)
    return tables.kept(table) & ~tables.decided_by_person(table) & ~of_class


def _unsure(table: pd.DataFrame) -> pd.Series:
    """Images that 03's rule left out since no class is sure enough, boolean by image_id."""
    by_rule = (table["status"] == "drop") & (table["by"] == RULE)
    return by_rule & (table["stage"] == JUDGED) & (table["cause"] == "label")


def _write(store: Path, classes: list[str], rows: pd.DataFrame) -> None:
    """Write soft targets, each image's adding up to 1."""
    place = rows.groupby("image_id", sort=False).cumcount().to_numpy()
    rows, place = rows[place < WIDTH], place[place < WIDTH]
    number, image_ids = pd.factorize(rows["image_id"])
    width = int(place.max(initial=0)) + 1
    columns = np.zeros((len(image_ids), width), np.int32)
    values = np.zeros((len(image_ids), width), np.float32)
    columns[number, place] = pd.Index(classes).get_indexer(rows["class"])
    values[number, place] = rows["probability"]
    values /= np.maximum(values.sum(axis=1, keepdims=True), 1e-30)
    write_targets(store, classes, list(image_ids), columns, values)
