"""The rows of a job: which images it learns from, is judged by and predicts."""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.core.files import whole_file
from fgvc_utils.core.reading import read_parquet
from fgvc_utils.jobs.records import Job

Rows = tuple[Job, pd.DataFrame]


def job_rows(
    inventory: pd.DataFrame,
    *,
    target: pd.Series | str = "",
    label: pd.Series | str = "",
    fit: pd.Series | bool = False,
    validate: pd.Series | bool = False,
    predict: pd.Series | bool = False,
    fold: pd.Series | None = None,
) -> pd.DataFrame:
    """Rows of a job: the readable images that have any part in it, in the inventory's order.

    Parameters
    ----------
    inventory
        A row an image with image_id, file and cached, as `read_inventory` gives it.
    target, label
        The class to learn, and the class that reduced predictions are compared with, as text.
    fit, validate, predict
        Whether an image is trained on, judges the fit, is predicted (boolean). Like `target` and
        `label`, each is one value for all images, or a Series indexed by image_id that names every
        image of the inventory once, in any order.
    fold
        Of a crossed job: the fold of each image, int by image_id, as above.

    Returns
    -------
    pd.DataFrame
        The columns ROW_COLUMNS, and `fold` where one is given.

    Raises
    ------
    ValueError
        Naming the column and the image where a Series lacks an image, has one that the inventory
        does not know, or has one twice.
    """
    ids = pd.Index(inventory["image_id"], dtype=object)
    given = {"target": target, "label": label, "fit": fit, "validate": validate, "predict": predict}
    given |= {} if fold is None else {FOLD: fold}
    columns = {name: _by_image(name, value, ids) for name, value in given.items()}
    rows = pd.DataFrame(
        {"image_id": ids.to_numpy(), "file": inventory["file"].to_numpy(), **columns}
    )
    readable = (inventory["cached"] != "").to_numpy()
    return rows[readable & (rows["fit"] | rows["validate"] | rows["predict"])]


def _by_image(name: str, value: Any, ids: pd.Index) -> Any:
    """The values of a Series in the order of some image ids; a single value stays as it is."""
    if not isinstance(value, pd.Series) or value.index.equals(ids):
        return value.to_numpy() if isinstance(value, pd.Series) else value
    twice = value.index[value.index.duplicated()]
    if len(twice):
        raise ValueError(f"column {name} names image {twice[0]!r} twice")
    strangers = value.index[~value.index.isin(ids)]
    if len(strangers):
        raise ValueError(
            f"column {name} names image {strangers[0]!r}, which the inventory does not know; index "
            "it by image_id, as the columns of a label table are"
        )
    missing = ids[~ids.isin(value.index)]
    if len(missing):
        raise ValueError(f"column {name} has no value for image {missing[0]!r}")
    return value.loc[ids].to_numpy()


ROW_COLUMNS = ("image_id", "file", "target", "label", "fit", "validate", "predict")
# the column that the rows of a crossed job have beside these
FOLD = "fold"


def columns_of(rows: pd.DataFrame) -> list[str]:
    """The columns of a job's rows that count."""
    return [*ROW_COLUMNS, *([FOLD] if FOLD in rows else [])]


def write_rows(rows: pd.DataFrame, path: Path) -> None:
    """Write a job's rows, their pictures named relative to the folder of the rows."""
    rows = rows[columns_of(rows)]
    shared, rest = _shared_folder(rows["file"])
    if os.path.isabs(shared):
        rows = rows.assign(file=f"{os.path.relpath(shared, path.absolute().parent)}/" + rest)
    with whole_file(path) as temporary:
        rows.to_parquet(temporary, index=False)


def read_rows(job: Job) -> pd.DataFrame:
    """The rows of a job, as `columns_of`; `file` is a picture's absolute path."""
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


def in_cache(file: str) -> str:
    """The name of a picture wherever its cache lies, which names pictures by size and content."""
    return "/".join(file.split("/")[-3:])


def fitted_images(folder: Path) -> set[str]:
    """Ids of the images that the job in a folder was fitted on."""
    return _marked(folder, "fit")


def judged_images(folder: Path) -> set[str]:
    """Ids of the images that judged the job in a folder while it was fitted."""
    return _marked(folder, "validate")


def _marked(folder: Path, column: str) -> set[str]:
    rows = read_parquet(folder / "rows.parquet", "make that model again", ["image_id", column])
    return set(rows.loc[rows[column], "image_id"])
