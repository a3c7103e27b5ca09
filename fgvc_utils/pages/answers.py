"""What a run answers for the test images: by its submission in force, else by its scores."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from fgvc_utils.answers.submission import current_submission
from fgvc_utils.core.reading import read_csv
from fgvc_utils.jobs.predictions import BLOCK, Store, is_whole
from fgvc_utils.pages.figures import SUBMIT
from fgvc_utils.pages.runs import Run

# What a file may call an image, the likeliest first: from paths and ids to text.
NAMES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "path": lambda rows: rows["path"],
    "name": lambda rows: rows["path"].map(lambda path: Path(path).name),
    "stem": lambda rows: rows["path"].map(lambda path: Path(path).stem),
    "image_id": lambda rows: rows["image_id"],
}


class Answers(NamedTuple):
    """The class of each test image by image_id, and where that was read."""

    classes: pd.Series
    source: str


def answers_in_force(run: Run) -> Answers:
    """The class of each test image in the submission in force.

    Where the file is not the two columns of image and class in plain CSV, or is not there, it is
    the best class of the scores of 30, before any balancing.

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
    """The classes that a file of two columns gives to test images; None where it is no such file.

    What the file calls an image is what matches.
    """
    try:
        rows = read_csv(path)
    except (ValueError, OSError):
        return None
    if rows.shape[1] != 2 or not run.tables:
        return None
    table = run.last_table
    classes = set(table.loc[table["split"] == "train", "given"])
    test = table[table["split"] == "test"]
    of_name = rows.drop_duplicates(rows.columns[0]).set_index(rows.columns[0])[rows.columns[1]]
    for called in NAMES.values():
        names = called(test)
        found = of_name.reindex(names.to_numpy()).set_axis(test.index).astype(object)
        if names.is_unique and found.notna().any() and set(found.dropna()) <= classes:
            return found
    return None


def _of_scores(run: Run, store: Store) -> pd.Series:
    table = run.last_table
    test = table.index[(table["split"] == "test") & table.index.isin(store.image_ids)]
    rows = store.rows_of(test)
    best = np.zeros(len(rows), dtype=np.int64)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        best[part] = store.read_rows("scores", rows[part]).argmax(axis=1)
    return pd.Series(np.array(store.classes, dtype=object)[best], test, dtype=object)
