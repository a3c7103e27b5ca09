"""A contest's submission: what it calls the images, the checked file, and the list of all files."""

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from fgvc_utils.core.files import whole_file
from fgvc_utils.core.reading import read_csv
from fgvc_utils.core.spreadsheet import escaped, is_formula, unescaped

FILE = "submission.csv"
LOG = "submissions.csv"
LOG_COLUMNS = (
    "time",
    "file",
    "sha256",
    "rule",
    "settings",
    "scores",
    "scores_sha256",
    "images",
    "changed",
    "cap",
    "prior",
)

# What a submission may call an image: from the rows of a label table to text.
IMAGE_NAMES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "path": lambda rows: rows["path"],
    "name": lambda rows: rows["path"].map(lambda path: Path(path).name),
    "stem": lambda rows: rows["path"].map(lambda path: Path(path).stem),
    "image_id": lambda rows: rows["image_id"],
}

# For the record of parameters.
ImageColumn = Literal[tuple(IMAGE_NAMES)]


def submission_ids(table: pd.DataFrame, image_column: str) -> pd.Series:
    """Find what a submission calls the test images.

    Parameters
    ----------
    table : pd.DataFrame
        A label table.
    image_column : str
        An entry of `IMAGE_NAMES`.

    Returns
    -------
    pd.Series
        Text, a value a test image, in the table's order.

    Raises
    ------
    ValueError
        There is no test image, or two would share a name.
    """
    test = table[table["split"] == "test"]
    if test.empty:
        raise ValueError("the label table lists no test image; name their folder in 01: test")
    names = IMAGE_NAMES[image_column](test)
    if names.duplicated().any():
        twice = names[names.duplicated()].iloc[0]
        raise ValueError(f"image_column {image_column}: two test images are called {twice!r}")
    return names


def submission_text(
    names: pd.Series,
    labels: pd.Series,
    classes: list[str],
    columns: list[str],
    allow_formulas: bool = False,
) -> str:
    """Check a submission and make the contest's file of it: a row a test image, text as it is.

    Parameters
    ----------
    names : pd.Series
        What the contest calls the test images, text; see `submission_ids`.
    labels : pd.Series
        Their classes, text, with the index of `names` in any order.
    classes : list of str
        All classes of the contest.
    columns : list of str
        The names of the two columns, image and class.
    allow_formulas : bool
        Whether to write values that a spreadsheet would run. The contest wants its names as they
        are, so they cannot be escaped.

    Returns
    -------
    str
        CSV with a header, lines ended by a line feed.

    Raises
    ------
    ValueError
        There is no image, an image appears twice or has no name, an image lacks a class, a class is
        unknown, a value is not text, the columns are not two, or a spreadsheet would take a value
        for a formula and run it.
    """
    if len(columns) != 2 or columns[0] == columns[1] or not all(columns):
        raise ValueError(f"columns {columns}: give two different names, for image and class")
    if not len(names):
        raise ValueError("there is no test image to submit")
    if len(names) != len(labels):
        raise ValueError(f"{len(names)} test images but {len(labels)} classes for them")
    lacking = names.index[~names.index.isin(labels.index)]
    if len(lacking):
        raise ValueError(f"the test image {lacking[0]!r} has no class")
    for what, values in (("image", names), ("class", labels)):
        odd = [value for value in values if not isinstance(value, str) or not value]
        if odd:
            raise ValueError(f"{what} {odd[0]!r} is not text; ids and classes are, as '0012' is")
    if names.duplicated().any():
        twice = names[names.duplicated()].iloc[0]
        raise ValueError(f"the test image {twice!r} is in more than one row")
    strangers = set(labels) - set(classes)
    if strangers:
        raise ValueError(f"class {sorted(strangers)[0]!r} is not one of the contest's")
    if not allow_formulas:
        refuse_formulas((*columns, *names, *labels))
    frame = pd.DataFrame({columns[0]: names, columns[1]: labels[names.index]})
    return frame.to_csv(index=False, lineterminator="\n")


def refuse_formulas(values: Iterable[str]) -> None:
    """Refuse a submission of which a spreadsheet would run a value.

    Raises
    ------
    ValueError
        There is such a value; names the first one.
    """
    found = {value for value in values if is_formula(value)}
    if found:
        raise ValueError(
            f"a spreadsheet would run {len(found)} of the names as formulas, first "
            f"{sorted(found)[0]!r}, and the contest wants its names as they are: set "
            "allow_formulas: true in 40_submit to write them, and open the file in no spreadsheet"
        )


def keep_submission(folder: Path, text: str, facts: Mapping[str, Any]) -> tuple[Path, bool]:
    """Write a submission beside the earlier ones and list it in `submissions.csv`.

    The first file is submission.csv, a different one submission-002.csv, and so on: no file is ever
    replaced, and a text that some file has already is not written again.

    Parameters
    ----------
    folder : Path
        The run's.
    text : str
        That of `submission_text`.
    facts : Mapping[str, Any]
        What the list says of it: any of `LOG_COLUMNS` but time, file and sha256.

    Returns
    -------
    tuple of Path and bool
        The file, and whether it is new.

    Raises
    ------
    ValueError
        The list has no column for a fact, or submissions.csv is no such list.

    Notes
    -----
    The list has a line for each file: the time (ISO 8601, UTC), the file's name, its SHA-256, and
    the facts. Its last line is the submission in force (`current_submission`), so an earlier file
    that comes out again gets a further line, unless it is in force already. Both files are written
    whole; old lines stay as they are. In the list a `'` is put before what a spreadsheet would take
    for a formula; `read_log` takes it away.
    """
    folder = Path(folder)
    strangers = set(facts) - set(LOG_COLUMNS)
    if strangers:
        raise ValueError(f"{LOG} has no column {sorted(strangers)[0]!r}")
    earlier = read_log(folder)
    content = text.encode("utf-8")
    path = _place(folder, content, earlier)
    new = not path.exists()
    if new:
        with whole_file(path) as temporary:
            temporary.write_bytes(content)
    if new or earlier.empty or earlier["file"].iloc[-1] != path.name:
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "file": path.name}
        line |= {"sha256": hashlib.sha256(content).hexdigest()}
        _append(folder / LOG, line | dict(facts))
    return path, new


def _place(folder: Path, content: bytes, earlier: pd.DataFrame) -> Path:
    """The file that holds the content, or the first name that is free.

    A name that the list gives to another content is not free, even where its file is gone.
    """
    listed = dict(zip(earlier["file"], earlier["sha256"], strict=True))
    own = hashlib.sha256(content).hexdigest()
    number, path = 1, folder / FILE
    while listed.get(path.name, own) != own or (path.exists() and path.read_bytes() != content):
        number += 1
        path = folder / f"submission-{number:03d}.csv"
    return path


def _append(log: Path, line: Mapping[str, Any]) -> None:
    """The list with one line more; the old bytes come first, untouched."""
    old = log.read_bytes() if log.exists() else b""
    added = io.StringIO()
    if old and not old.endswith(b"\n"):
        added.write("\n")
    writer = csv.DictWriter(added, LOG_COLUMNS, restval="", lineterminator="\n")
    if not old:
        writer.writeheader()
    writer.writerow({name: escaped(str(value)) for name, value in line.items()})
    with whole_file(log) as temporary:
        temporary.write_bytes(old + added.getvalue().encode("utf-8"))


def read_log(folder: Path) -> pd.DataFrame:
    """Read the list of a run's submissions.

    Parameters
    ----------
    folder : Path
        The run's.

    Returns
    -------
    pd.DataFrame
        `LOG_COLUMNS`, all text, oldest first; empty where there is no submission yet.

    Raises
    ------
    ValueError
        submissions.csv has other columns.
    """
    path = Path(folder) / LOG
    if not path.is_file() or not path.stat().st_size:
        return pd.DataFrame(columns=list(LOG_COLUMNS), dtype=str)
    log = read_csv(path)
    if tuple(log) != LOG_COLUMNS:
        raise ValueError(
            f"{path} has the columns {', '.join(log)}, not {', '.join(LOG_COLUMNS)}; "
            "move it away, and the next submission begins a new one"
        )
    return log.map(unescaped)


def current_submission(folder: Path) -> Path:
    """Find the submission in force: the newest of the list, else submission.csv."""
    log = read_log(folder)
    return Path(folder) / (FILE if log.empty else log["file"].iloc[-1])
