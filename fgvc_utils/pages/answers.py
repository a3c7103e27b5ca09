"""What a run answers for the test images: by its submission in force, else by its scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fgvc_utils.answers.forms import from_data, read_file
from fgvc_utils.answers.names import IMAGE_NAMES, ClassSpelling, spelt_classes
from fgvc_utils.answers.submission import current_submission
from fgvc_utils.core.reading import read_csv
from fgvc_utils.jobs.predictions import BLOCK, Store, is_whole
from fgvc_utils.pages.figures import SUBMIT
from fgvc_utils.pages.runs import Run


class Answers(NamedTuple):
    """The class of each test image by image_id, and where that was read."""

    classes: pd.Series
    source: str


def answers_in_force(run: Run) -> Answers:
    """The class of each test image in the submission in force.

    The file is read as the report says that it was written; one of which it says nothing, as two
    columns of image and class. Where it cannot be read, or is not there, the answers are the best
    classes of the scores of 30, before any balancing.

    Parameters
    ----------
    run : Run
        The run.

    Raises
    ------
    FileNotFoundError
        The run has neither.
    """
    path = current_submission(run.folder)
    of_file = _of_file(run, path) if path.is_file() else None
    if of_file is not None:
        return Answers(of_file, path.name)
    folder = run.folder / "ensemble" / str(run.parameters(SUBMIT).get("ensemble", "vote"))
    if not is_whole(folder):
        raise FileNotFoundError(f"{run.folder} holds no submission and no scores: run 40_submit")
    return Answers(_of_scores(run, Store(folder)), f"the best class of {folder.name}'s scores")


def _of_file(run: Run, path: Path) -> pd.Series | None:
    """The best class that a file gives to each test image; None where it cannot be read.

    What the file calls an image is what matches.
    """
    if not run.tables:
        return None
    table = run.last_table
    classes = sorted(set(table.loc[table["split"] == "train", "given"]))
    try:
        told = run.figures(SUBMIT)
        if told.get("file") == path.name and "form" in told:
            best = _of_form(path, told, classes)
        else:
            best = _of_two_columns(path)
    except (ValueError, OSError, KeyError, TypeError):
        return None
    test = table[table["split"] == "test"]
    for called in IMAGE_NAMES.values():
        names = called(test)
        found = best.reindex(names.to_numpy()).set_axis(test.index).astype(object)
        if names.is_unique and found.notna().any() and set(found.dropna()) <= set(classes):
            return found
    return None


def _of_form(path: Path, told: Mapping[str, Any], classes: list[str]) -> pd.Series:
    """The best class of each image by a file of the form that the report tells."""
    spelt = spelt_classes(classes, ClassSpelling(*told.get("class_names", {}).values()))
    layout = from_data(told["form"], spelt)
    rows = read_file(path, layout)
    best = rows.idxmax(axis=1) if layout.form == "probabilities" else rows[0]
    return best[~best.index.duplicated()]


def _of_two_columns(path: Path) -> pd.Series:
    """The class of each image by a file of two columns."""
    rows = read_csv(path)
    image, label = rows.columns
    return rows.drop_duplicates(image).set_index(image)[label]


def _of_scores(run: Run, store: Store) -> pd.Series:
    table = run.last_table
    test = table.index[(table["split"] == "test") & table.index.isin(store.image_ids)]
    rows = store.rows_of(test)
    best = np.zeros(len(rows), dtype=np.int64)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        best[part] = store.read_rows("scores", rows[part]).argmax(axis=1)
    return pd.Series(np.array(store.classes, dtype=object)[best], test, dtype=object)
