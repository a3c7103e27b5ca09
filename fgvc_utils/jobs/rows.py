"""The rows of a job: which images it learns from, is judged by and predicts."""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.core.files import whole_file
from fgvc_utils.core.reading import read_parquet
from fgvc_utils.jobs.records import Job

Rows = tuple[Job, pd.DataFrame]


def job_rows(inventory: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    """Rows of a job: readable images that have any part in it.

    `columns` are values or Series in the order of the inventory's rows: target and label (text),
    fit, validate, predict (boolean); missing ones are empty or false.
    """
    rows = pd.DataFrame(
        {"image_id": inventory["image_id"].to_numpy(), "file": inventory["file"].to_numpy()}
    )
    defaults = {"target": "", "label": "", "fit": False, "validate": False, "predict": False}
    for name, default in defaults.items():
        value = columns.get(name, default)
        rows[name] = value.to_numpy() if isinstance(value, pd.Series) else value
    readable = (inventory["cached"] != "").to_numpy()
    return rows[readable & (rows["fit"] | rows["validate"] | rows["predict"])]


ROW_COLUMNS = ("image_id", "file", "target", "label", "fit", "validate", "predict")


def write_rows(rows: pd.DataFrame, path: Path) -> None:
    """Write a job's rows, their pictures named relative to the folder of the rows."""
    rows = rows[list(ROW_COLUMNS)]
    shared, rest = _shared_folder(rows["file"])
    if os.path.isabs(shared):
        rows = rows.assign(file=f"{os.path.relpath(shared, path.absolute().parent)}/" + rest)
    with whole_file(path) as temporary:
        rows.to_parquet(temporary, index=False)


def read_rows(job: Job) -> pd.DataFrame:
    """The rows of a job, ROW_COLUMNS; `file` is a picture's absolute path."""
    rows = read_parquet(Path(job.rows), "make that model again")
    # Put together once for all of them: half a million paths take their time.
    shared, rest = _shared_folder(rows["file"])
    if not shared:
        return rows
    folder = os.path.normpath(Path(job.rows).absolute().parent / shared)
    return rows.assign(file=os.path.join(folder, "") + rest)


def _shared_folder(files: pd.Series) -> tuple[str, pd.Series]:
    """The folder below which all files lie, with its slash, and their names in it.

    Empty where they share none.
    """
    if files.empty:
        return "", files
    # All texts begin as the first and the last do.
    prefix = os.path.commonprefix([files.min(), files.max()])
    shared = prefix[: prefix.rfind("/") + 1]
    return shared, files.str[len(shared) :]


def fitted_images(folder: Path) -> set[str]:
    """Ids of the images that the job in a folder was fitted on."""
    rows = read_parquet(folder / "rows.parquet", "make that model again", ["image_id", "fit"])
    return set(rows.loc[rows["fit"], "image_id"])
