"""A contest's sample submission: how it looks, and how its images are called."""

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from fgvc_utils.answers.forms import read_fields, unpacked
from fgvc_utils.core.reading import UnreadableFile

SEPARATORS = (",", "\t", ";", "|", " ")


class Sample(NamedTuple):
    """A sample submission as it stands in its file.

    Attributes
    ----------
    path : Path
        The file.
    separator : str
        Between its fields.
    rows : list of list of str
        All lines, a head line among them where there is one; all of one width.
    """

    path: Path
    separator: str
    rows: list[list[str]]

    def column(self, place: int, head: bool) -> list[str]:
        """The values of a column, below its head where there is one."""
        return [row[place] for row in self.rows[int(head) :]]


class Matched(NamedTuple):
    """Which images a sample names, and where.

    Attributes
    ----------
    place : int
        The column that names images.
    kind : str
        How: the key of the names that fit best.
    header : bool
        Whether the first line is a head line.
    ids : list of str
        The images it names, in its order.
    """

    place: int
    kind: str
    header: bool
    ids: list[str]


def read_sample(path: Path) -> Sample:
    """Read a sample submission, packed or plain; its separator is found.

    Raises
    ------
    UnreadableFile
        Naming the file: it is empty or spoilt, or its lines are of different widths.
    """
    text = unpacked(path)
    if "\0" in text:
        raise UnreadableFile(f"{path} holds NUL bytes; write it anew")
    problem = ""
    for separator in SEPARATORS:
        try:
            rows = read_fields(text, separator)
        except csv.Error as error:
            problem = problem or f"{error}; is a double quote not closed?"
            continue
        if not rows:
            raise UnreadableFile(f"{path} is empty")
        widths = [len(row) for row in rows]
        if len(set(widths)) == 1 and widths[0] > 1:
            blank = separator != " " and all(field[:1] == " " for row in rows for field in row[1:])
            if blank:
                separator, rows = f"{separator} ", read_fields(text, f"{separator} ")
            return Sample(Path(path), separator, rows)
        if max(widths) > 1 and not problem:
            odd = next(n for n, width in enumerate(widths) if width != widths[0])
            problem = f"line {odd + 1} has {widths[odd]} fields, the first one {widths[0]}"
    raise UnreadableFile(
        f"{path} is no sample submission: {problem or 'it has one column, no image and class'}; "
        'set sample: "" where it is none'
    )


def names_by_stem(sample: Sample, stems: pd.Series) -> pd.Series:
    """What a sample calls images whose files have another folder or ending than it says.

    Parameters
    ----------
    sample : Sample
        The sample.
    stems : pd.Series
        The names of the images' files without folder and ending, by image.

    Raises
    ------
    ValueError
        Two of its images have one name so.
    """
    column = max(
        _columns(sample).values(),
        key=lambda values: len({PurePosixPath(value).stem for value in values} & set(stems)),
    )
    by_stem = {PurePosixPath(value).stem: value for value in column}
    if len(by_stem) < len(column):
        raise ValueError(f"{sample.path.name}: two images differ in folder or ending alone")
    return stems.map(lambda stem: by_stem.get(stem, stem))


def _columns(sample: Sample) -> dict[int, set[str]]:
    """The values of the columns that may name images: the first two and the last one."""
    last = len(sample.rows[0]) - 1
    return {place: {row[place] for row in sample.rows} for place in sorted({0, min(1, last), last})}


def match_images(sample: Sample, kinds: dict[str, Callable[[], pd.Series]]) -> Matched:
    """Find the column that names images, and which way of naming them fits it best.

    Parameters
    ----------
    sample : Sample
        The sample.
    kinds : dict of str to callable
        Ways of naming the test images, the one that is asked for first: each gives their names, or
        raises ValueError where it cannot name them.

    Raises
    ------
    ValueError
        No column fits, or one image is named twice.
    """
    columns = _columns(sample)
    found: list[tuple[int, int, str, set[str]]] = []
    for kind, names_of in kinds.items():
        try:
            names = set(names_of())
        except ValueError:
            continue
        found += [(len(names & values), place, kind, names) for place, values in columns.items()]
        if found[-1][0] == len(names) or found[-len(columns)][0] == len(names):
            break
    # The first of equal ones: the way that is asked for, the column on the left.
    hits, place, kind, names = max(found, key=lambda each: each[0], default=(0, 0, "", set()))
    if not hits:
        raise ValueError(
            f"{sample.path.name}: none of its values, such as {sample.rows[-1][0]!r}, is what a "
            f"test image is called by {', '.join(kinds)}; set image_column and names_file, or "
            'sample: "" where this is not the contest\'s sample'
        )
    header = _is_head(sample.rows, place, names)
    ids = sample.column(place, header)
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(f"{sample.path.name} names the image {twice[0]!r} more than once; mend it")
    return Matched(place, kind, header, ids)


def _is_head(rows: Sequence[Sequence[str]], place: int, names: set[str]) -> bool:
    """Whether the first line names columns: no test image, nor a file such as the next line's."""
    ending = PurePosixPath(rows[0][place]).suffix
    alike = len(rows) > 1 and ending and ending == PurePosixPath(rows[1][place]).suffix
    return rows[0][place] not in names and not alike


class Shown(NamedTuple):
    """What a sample shows beside its images.

    Attributes
    ----------
    form : str
        The form that it has, empty where that cannot be told.
    top : int
        How many classes an image gets.
    split : bool
        Whether each of them is a field of its own.
    column_classes : tuple of str
        The classes in the order of their columns, where it has one a class.
    problem : str
        What does not fit the contest's classes, for people; empty where all fits.
    """

    form: str
    top: int = 1
    split: bool = False
    column_classes: tuple[str, ...] = ()
    problem: str = ""


def look_beside(
    sample: Sample, matched: Matched, classes: dict[str, str], top_separator: str
) -> Shown:
    """Tell what a sample shows beside its images.

    Parameters
    ----------
    sample : Sample
        The sample.
    matched : Matched
        Where its images are named.
    classes : dict of str to str
        From each class to its text in the file.
    top_separator : str
        What stands between classes within a field.
    """
    places = [place for place in range(len(sample.rows[0])) if place != matched.place]
    named = {text: name for name, text in classes.items()}
    if len(places) == 1:
        return _one_field(sample.column(places[0], matched.header), set(named), top_separator)
    heads = [sample.rows[0][place] for place in places]
    if matched.header and set(heads) == set(named):
        return Shown("probabilities", column_classes=tuple(named[text] for text in heads))
    unknown = set(heads) - set(named)
    if matched.header and set(named) < set(heads) and not unknown & set(classes):
        return Shown(
            "probabilities",
            column_classes=tuple(named.get(text, text) for text in heads),
            problem=f"no train image has {len(unknown)} of its classes, first "
            f"{min(unknown)!r}: their probability is 0",
        )
    values = {row[place] for row in sample.rows[int(matched.header) :] for place in places}
    if values <= set(named):
        return Shown("top", top=len(places), split=True)
    if not matched.header and len(places) == len(named):
        return Shown("probabilities", column_classes=tuple(classes))
    if matched.header and len(set(heads) & set(named)) * 2 > len(named):
        return Shown("", problem=_columns_apart(heads, named))
    return Shown(
        "",
        top=len(places),
        split=True,
        problem=f"its {len(places)} columns beside the image, {_few(heads)}, are not the classes",
    )


def _one_field(values: Sequence[str], known: set[str], separator: str) -> Shown:
    strange = sorted(set(values) - known - {""})
    parts = [value.split(separator) for value in values]
    most = max(map(len, parts), default=1)
    pieces = {piece for part in parts for piece in part} - known - {""}
    if strange and most > 1 and not pieces:
        return Shown("top", top=most)
    if not strange:
        return Shown("class")
    if most > 1 and all(len(part) == most for part in parts) and most <= len(known):
        # Several pieces in each line; were these names of classes, some would be known.
        return Shown("", top=most, problem=f"its classes, such as {strange[0]!r}, are unknown")
    return Shown(
        "class",
        problem=f"it names {len(strange)} classes that no train image has, first {strange[0]!r}",
    )


def _columns_apart(heads: Sequence[str], named: dict[str, str]) -> str:
    lacking = [text for text in named if text not in set(heads)]
    strange = [text for text in heads if text not in named]
    texts = []
    if lacking:
        texts.append(f"it has no column for {len(lacking)} classes, first {lacking[0]!r}")
    if strange:
        texts.append(f"{len(strange)} of its columns are no class, first {strange[0]!r}")
    return "; ".join(texts)


def _few(texts: Sequence[str]) -> str:
    return ", ".join(map(repr, texts[:3])) + (", …" if len(texts) > 3 else "")
