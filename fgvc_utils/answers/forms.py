"""How a contest's file looks: what stands beside each image, the lines, the packing; and back.

A form is an entry of `FORMS`, a packing one of `PACKINGS`.
"""

import csv
import gzip
import io
import itertools
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
import pandas as pd

from fgvc_utils.answers.transport import blocks
from fgvc_utils.core.reading import refused_by_name


class Answers(NamedTuple):
    """What is answered for the images, in the order of the file's lines.

    Attributes
    ----------
    chosen : np.ndarray
        Int (images,): the place of each image's class among all classes.
    scores : np.ndarray or None
        Float32 (images, classes): what ranks the further classes, or the probabilities; a form that
        writes one class needs none.
    """

    chosen: np.ndarray
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class Layout:
    """How a file looks.

    Attributes
    ----------
    form : str
        An entry of `FORMS`.
    image : str
        The head line's name for the image.
    answer : tuple of str
        The head line's names for what stands beside it.
    classes : dict of str to str
        From each class, in the contest's order, to its text in the file.
    header : bool
        Whether there is a head line.
    separator : str
        Between fields: a character, or a character and a blank.
    image_place : int
        The number of the field that names the image.
    top : int
        How many classes an image gets at most, of the form that ranks them.
    top_separator : str
        Between these; where it is that of the fields, each class is a field of its own.
    column_classes : tuple of str
        The classes in the order of their columns, of the form that has a column a class.
    decimals : int
        Of a probability.
    packing : str
        An entry of `PACKINGS`.
    inner_name : str
        What the file is called within a ZIP.
    """

    form: str = "class"
    image: str = "path"
    answer: tuple[str, ...] = ("class",)
    classes: dict[str, str] = field(default_factory=dict)
    header: bool = True
    separator: str = ","
    image_place: int = 0
    top: int = 1
    top_separator: str = " "
    column_classes: tuple[str, ...] = ()
    decimals: int = 6
    packing: str = "none"
    inner_name: str = "submission.csv"

    @property
    def head(self) -> list[str]:
        """The fields of the head line."""
        return placed(self.image, list(self.answer), self.image_place)


def placed(image: str, beside: list[str], place: int) -> list[str]:
    """The fields of a line: the image's at its place among the others."""
    return [*beside[:place], image, *beside[place:]]


def _one_class(answers: Answers, layout: Layout) -> Iterator[list[str]]:
    texts = list(layout.classes.values())
    return ([texts[place]] for place in answers.chosen)


def _best_classes(answers: Answers, layout: Layout) -> Iterator[list[str]]:
    texts = list(layout.classes.values())
    for ranked in ranks(answers, layout.top):
        for row in ranked:
            named = [texts[place] for place in row]
            split = layout.top_separator == layout.separator
            yield named if split else [layout.top_separator.join(named)]


def _probabilities(answers: Answers, layout: Layout) -> Iterator[list[str]]:
    # A column of no known class has the place -1.
    order = pd.Index(list(layout.classes)).get_indexer(list(layout.column_classes))
    one = f"%.{layout.decimals}f"
    for rows in blocks(answers.scores):
        for row in (answers.scores[rows][:, order] * (order >= 0)).tolist():
            yield [one % value for value in row]


def ranks(answers: Answers, top: int) -> Iterator[np.ndarray]:
    """Rank the best classes of each image, a block of images at a time.

    The class that was chosen comes first, whatever its score; the others follow by score, of equal
    ones the first.

    Parameters
    ----------
    answers : Answers
        With scores.
    top : int
        How many classes, at most as many as there are.

    Returns
    -------
    Iterator of np.ndarray
        Int64 (images of the block, top).
    """
    for rows in blocks(answers.scores):
        scores = answers.scores[rows].astype(np.float64)
        chosen = np.asarray(answers.chosen)[rows]
        scores[np.arange(len(scores)), chosen] = np.inf
        yield np.argsort(-scores, axis=1, kind="stable")[:, :top]


def _read_one(fields: list[list[str]], layout: Layout) -> pd.DataFrame:
    return pd.DataFrame([_classes_of(row[:1], layout) for row in fields])


def _read_ranked(fields: list[list[str]], layout: Layout) -> pd.DataFrame:
    split = layout.top_separator == layout.separator
    rows = fields if split else [row[0].split(layout.top_separator) for row in fields]
    return pd.DataFrame([_classes_of(row, layout) for row in rows])


def _read_probabilities(fields: list[list[str]], layout: Layout) -> pd.DataFrame:
    found = pd.DataFrame(fields, columns=list(layout.column_classes)).astype(float)
    return found[list(layout.classes)]


def _classes_of(texts: Sequence[str], layout: Layout) -> list[str]:
    named = {text: name for name, text in layout.classes.items()}
    strange = [text for text in texts if text not in named]
    if strange:
        raise ValueError(f"{strange[0]!r} is none of the classes")
    return [named[text] for text in texts]


class Form(NamedTuple):
    """An entry of `FORMS`.

    Attributes
    ----------
    caption : str
        What stands beside an image, for people.
    fields : Callable
        From answers and a layout to the fields beside each image.
    read : Callable
        From the fields beside all images, and the layout, back to a frame: a row an image; classes
        by rank in columns 0, 1, …, or a column a class with its probability.
    ranks : bool
        Whether it needs scores that rank the classes.
    probabilities : bool
        Whether it needs probabilities.
    """

    caption: str
    fields: Callable[[Answers, Layout], Iterator[list[str]]]
    read: Callable[[list[list[str]], Layout], pd.DataFrame]
    ranks: bool = False
    probabilities: bool = False


FORMS: dict[str, Form] = {
    "class": Form("one class", _one_class, _read_one),
    "top": Form("the best classes, best first", _best_classes, _read_ranked, ranks=True),
    "probabilities": Form(
        "a column a class with its probability",
        _probabilities,
        _read_probabilities,
        probabilities=True,
    ),
}

# For the record of parameters.
FormName = Literal[("auto", *FORMS)]


@dataclass(frozen=True)
class FileLines:
    """The lines of a file, each with its end; they can be gone through again and again.

    Attributes
    ----------
    layout : Layout
        How it looks.
    names : sequence of str
        What the contest calls the images, in the order of the lines.
    answers : Answers
        In the same order.
    """

    layout: Layout
    names: Sequence[str]
    answers: Answers

    def __iter__(self) -> Iterator[str]:
        layout = self.layout
        if layout.header:
            yield _line(layout.head, layout.separator)
        beside = FORMS[layout.form].fields(self.answers, layout)
        for name, fields in zip(self.names, beside, strict=True):
            yield _line(placed(name, fields, layout.image_place), layout.separator)


def _line(fields: Sequence[str], separator: str) -> str:
    line = separator.join(fields)
    # Nothing in it needs quotes, as in nearly all lines.
    if line.count(separator[0]) == len(fields) - 1 and not any(mark in line for mark in '"\r\n'):
        return f"{line}\n"
    return separator.join(_quoted(each, separator) for each in fields) + "\n"


def _quoted(text: str, separator: str) -> str:
    """A field, in double quotes where it holds what would end it."""
    if separator[0] in text or '"' in text or "\n" in text or "\r" in text:
        return '"' + text.replace('"', '""') + '"'
    return text


# Packing. The same content gives the same bytes: neither a time nor the file's own name is in it.


def _store(plain: BinaryIO, packed: BinaryIO, inner: str) -> None:
    shutil.copyfileobj(plain, packed)


def _compress(plain: BinaryIO, packed: BinaryIO, inner: str) -> None:
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
        shutil.copyfileobj(plain, file)


def _zip(plain: BinaryIO, packed: BinaryIO, inner: str) -> None:
    entry = zipfile.ZipInfo(inner, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    # A plain file that all may read, as Unix has it.
    entry.create_system, entry.external_attr = 3, 0o100644 << 16
    # So that a large file gets the fields that it needs, and a small one none.
    entry.file_size = plain.seek(0, io.SEEK_END)
    plain.seek(0)
    with zipfile.ZipFile(packed, "w") as archive, archive.open(entry, "w") as file:
        shutil.copyfileobj(plain, file)


def _open_zip(path: Path) -> BinaryIO:
    with zipfile.ZipFile(path) as archive:
        inner = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(inner) != 1:
            raise ValueError(f"it holds {len(inner)} files, not one")
        # It stays open until what is read of it is closed.
        return archive.open(inner[0])


class Packing(NamedTuple):
    """An entry of `PACKINGS`.

    Attributes
    ----------
    caption : str
        What it is, for people.
    ending : str
        How the file's name ends.
    pack : Callable
        Writes what an open file holds into another one, under the inner name where there is one.
    opened : Callable
        Opens a packed file for reading what is in it, bytes.
    """

    caption: str
    ending: str
    pack: Callable[[BinaryIO, BinaryIO, str], None]
    opened: Callable[[Path], BinaryIO]


PACKINGS: dict[str, Packing] = {
    "none": Packing("plain", ".csv", _store, lambda path: open(path, "rb")),
    "gzip": Packing("gzip", ".csv.gz", _compress, lambda path: gzip.open(path, "rb")),
    "zip": Packing("ZIP", ".zip", _zip, _open_zip),
}

# For the record of parameters.
PackingName = Literal[tuple(PACKINGS)]


def packing_of(path: Path) -> Packing:
    """The packing of a file, by how its name ends."""
    ends = {".gz": "gzip", ".zip": "zip"}
    return PACKINGS[ends.get(Path(path).suffix.lower(), "none")]


def unpacked(path: Path) -> str:
    """The text of a file that may be packed as gzip or ZIP.

    Raises
    ------
    UnreadableFile
        Naming the file: it is spoilt, its archive holds more than one file, or it is no UTF-8.
    """
    with refused_by_name(path, "a CSV file, plain or packed", "save it as UTF-8, or unpack it"):
        with packing_of(path).opened(path) as file:
            return file.read().decode("utf-8-sig")


def read_fields(text: str, separator: str) -> list[list[str]]:
    """Cut a text into lines of fields; raises csv.Error where a quote is not closed."""
    blank = separator.endswith(" ") and len(separator) > 1
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator[0],
        strict=True,
        skipinitialspace=blank,
    )
    # In a column a class nearly all values are equal: each is kept once.
    once: dict[str, str] = {}
    return [[once.setdefault(each, each) for each in fields] for fields in reader if fields]


def read_file(path: Path, layout: Layout) -> pd.DataFrame:
    """Read a submission back.

    Parameters
    ----------
    path : Path
        The file, packed or plain.
    layout : Layout
        How it looks.

    Returns
    -------
    pd.DataFrame
        Indexed by what the file calls the images, in its order. Its columns are 0, 1, … with
        classes by rank, or the classes with their probabilities.

    Raises
    ------
    ValueError
        Naming the file: it cannot be read, or holds what is none of the classes.
    """
    text = unpacked(path)
    with refused_by_name(path, "a submission of this form", "write it anew"):
        rows = read_fields(text, layout.separator)[int(layout.header) :]
        names = [row.pop(layout.image_place) for row in rows]
        return FORMS[layout.form].read(rows, layout).set_axis(pd.Index(names, dtype=object))


def first_lines(path: Path, count: int = 5, width: int = 160) -> str:
    """The first lines of a submission as they stand in it, for people.

    Parameters
    ----------
    path : Path
        The file, packed or plain.
    count : int
        So many lines.
    width : int
        A longer line is cut.
    """
    with packing_of(path).opened(path) as file:
        lines = [line.decode("utf-8").rstrip("\n") for line in itertools.islice(file, count)]
        more = sum(1 for _ in file)
    shown = [line if len(line) <= width else f"{line[:width]} …" for line in lines]
    return "\n".join(shown + ([f"… and {more} lines more"] if more > 0 else []))


def described(layout: Layout) -> str:
    """How a file looks, in words."""
    beside = FORMS[layout.form].caption
    if layout.form == "top":
        split = layout.top_separator == layout.separator
        by = "each a field" if split else f"separated by {layout.top_separator!r}"
        beside = f"the {layout.top} best classes, {by}"
    texts = [
        f"head line {layout.separator.join(shown_few(layout.head))!r}"
        if layout.header
        else "no head line",
        beside,
    ]
    texts += [] if layout.separator == "," else [f"fields separated by {layout.separator!r}"]
    packing = PACKINGS[layout.packing]
    within = f" with {layout.inner_name} inside" if layout.packing == "zip" else ""
    return ", ".join(texts + ([] if layout.packing == "none" else [f"{packing.caption}{within}"]))


def shown_few(names: Sequence[str]) -> list[str]:
    """A few names, and dots for the rest."""
    return list(names) if len(names) <= 6 else [*names[:4], "…", names[-1]]


def as_data(layout: Layout) -> dict[str, Any]:
    """A layout as plain data, for a report; the classes' texts alone are not in it."""
    values = {name: getattr(layout, name) for name in layout.__dataclass_fields__}
    del values["classes"]
    values["answer"] = list(layout.answer)
    # In the usual order, columns that are the classes need not be named.
    usual = layout.column_classes == tuple(layout.classes)
    values["column_classes"] = [] if usual else list(layout.column_classes)
    if layout.form == "probabilities":
        values["answer"] = []
    return values


def from_data(values: dict[str, Any], classes: dict[str, str]) -> Layout:
    """The layout that `as_data` has put into a report.

    Parameters
    ----------
    values : dict
        What `as_data` gave.
    classes : dict of str to str
        From each class to its text; see `names.spelt_classes`.
    """
    columns, answer = tuple(values["column_classes"]), tuple(values["answer"])
    if values["form"] == "probabilities":
        columns = columns or tuple(classes)
        answer = tuple(classes.get(name, name) for name in columns)
    return Layout(**(values | {"classes": classes, "column_classes": columns, "answer": answer}))
