"""A contest's submission: the checked file, and the list of all files."""

import csv
import hashlib
import io
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fgvc_utils.answers.forms import FORMS, PACKINGS, Answers, FileLines, Layout
from fgvc_utils.core.files import file_digest, full_disk_named, whole_file
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

# How files of any packing may be called.
ENDINGS = tuple(packing.ending for packing in PACKINGS.values())


def checked_lines(
    layout: Layout,
    names: pd.Series,
    labels: pd.Series,
    scores: pd.DataFrame | None = None,
    allow_formulas: bool = False,
) -> FileLines:
    """Check a submission and make the lines of the contest's file: one an image, text as it is.

    Parameters
    ----------
    layout : Layout
        How the file looks; see `planned`.
    names : pd.Series
        What the contest calls the images, text, in the order of the file, by image id.
    labels : pd.Series
        Their classes, text, with the index of `names` in any order.
    scores : pd.DataFrame, optional
        What a form beyond one class needs: a row an image, indexed alike, a column a class; see
        `forms.Form`.
    allow_formulas : bool
        Whether to write values that a spreadsheet would run. The contest wants its names as they
        are, so they cannot be escaped.

    Returns
    -------
    FileLines
        The lines with their ends, a line feed.

    Raises
    ------
    ValueError
        There is no image, an image appears twice or has no name, an image lacks a class, a class is
        unknown, a value is not text, scores are needed and not there, probabilities are none, or a
        spreadsheet would take a value for a formula and run it.
    """
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
    strangers = set(labels) - set(layout.classes)
    if strangers:
        raise ValueError(f"class {sorted(strangers)[0]!r} is not one of the contest's")
    if not allow_formulas:
        refuse_formulas(texts_of(layout, names, set(labels)))
    answers = _answers(layout, labels[names.index], scores)
    return FileLines(layout, names.tolist(), answers)


def texts_of(layout: Layout, names: Iterable[str], labels: Collection[str]) -> list[str]:
    """All text of a file: its head, its images, and the classes that may be in it."""
    form = FORMS[layout.form]
    # Of many classes all may be written, in their columns or by rank.
    used = layout.classes if form.ranks or form.probabilities else labels
    head = layout.head if layout.header else []
    return [*head, *names, *(layout.classes[label] for label in used)]


def _answers(layout: Layout, labels: pd.Series, scores: pd.DataFrame | None) -> Answers:
    """The answers in the order of the lines, and of the classes in the layout."""
    form, classes = FORMS[layout.form], list(layout.classes)
    chosen = pd.Index(classes).get_indexer(labels)
    if not form.ranks and not form.probabilities:
        return Answers(chosen)
    if scores is None:
        raise ValueError(f"the form {layout.form} needs the scores of all classes")
    # A class that takes no part stands behind all others, with no probability.
    values = scores.reindex(index=labels.index, columns=classes, fill_value=0).to_numpy(np.float32)
    if form.probabilities:
        sums = values.sum(axis=1, dtype=np.float64)
        if not (values.min() >= 0 and np.abs(sums - 1).max() < 1e-3):
            raise ValueError("probabilities are not negative, and their sum is 1 for each image")
    return Answers(chosen, values)


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


def keep_submission(
    folder: Path,
    lines: str | Iterable[str],
    facts: Mapping[str, Any],
    packing: str = "none",
    inner_name: str = FILE,
) -> tuple[Path, bool]:
    """Write a submission beside the earlier ones and list it in `submissions.csv`.

    The first file is submission.csv (or submission.csv.gz, submission.zip), a different one
    submission-002.csv, and so on: no file is ever replaced, and a content that some file has
    already is not written again.

    Parameters
    ----------
    folder : Path
        The run's.
    lines : str or iterable of str
        The content, at once or line by line; see `checked_lines`.
    facts : Mapping[str, Any]
        What the list says of it: any of `LOG_COLUMNS` but time, file and sha256.
    packing : str
        An entry of `forms.PACKINGS`.
    inner_name : str
        The file's name within a ZIP.

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
    folder.mkdir(parents=True, exist_ok=True)
    # Nobody sees these files; they go when they are closed, or when the process ends.
    hidden = tempfile.TemporaryFile(dir=folder), tempfile.TemporaryFile(dir=folder)
    with full_disk_named(folder / FILE), hidden[0] as plain, hidden[1] as packed:
        for line in [lines] if isinstance(lines, str) else lines:
            plain.write(line.encode("utf-8"))
        plain.seek(0)
        PACKINGS[packing].pack(plain, packed, inner_name)
        packed.seek(0)
        own = hashlib.file_digest(packed, "sha256").hexdigest()
        path = _place(folder, own, PACKINGS[packing].ending, earlier)
        new = not path.exists()
        if new:
            packed.seek(0)
            with whole_file(path) as temporary, open(temporary, "wb") as file:
                shutil.copyfileobj(packed, file)
    if new or earlier.empty or earlier["file"].iloc[-1] != path.name:
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "file": path.name}
        line |= {"sha256": own}
        _append(folder / LOG, line | dict(facts))
    return path, new


def _place(folder: Path, own: str, ending: str, earlier: pd.DataFrame) -> Path:
    """The file that holds the content of a digest, or the first name that is free.

    A name that the list gives to another content is not free, even where its file is gone; nor is
    one whose number a file of another packing has.
    """
    listed = dict(zip(earlier["file"], earlier["sha256"], strict=True))
    stem, number = Path(FILE).stem, 1
    while True:
        path = folder / f"{stem}{ending}"
        names = [f"{stem}{each}" for each in ENDINGS]
        taken = {(name, listed[name]) for name in names if name in listed}
        taken |= {(name, file_digest(folder / name)) for name in names if (folder / name).exists()}
        if taken <= {(path.name, own)}:
            return path
        number += 1
        stem = f"{Path(FILE).stem}-{number:03d}"


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
