"""What a submission calls images and classes: an entry a way; names must stay apart."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import pandas as pd

from fgvc_utils.core.reading import read_csv, read_parquet


def _number(path: str) -> str:
    found = re.findall(r"[0-9]+", PurePosixPath(path).stem)
    if not found:
        raise ValueError(f"image_column number: the name of the image {path!r} holds no number")
    return str(int(found[-1]))


# What a submission may call an image: from the rows of a label table to text.
IMAGE_NAMES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "path": lambda rows: rows["path"],
    "name": lambda rows: rows["path"].map(lambda path: PurePosixPath(path).name),
    "stem": lambda rows: rows["path"].map(lambda path: PurePosixPath(path).stem),
    # The last number in the file's name, without leading zeros: 12 for test/img_0012.jpg.
    "number": lambda rows: rows["path"].map(_number),
    # The path without its first folder: a/1.jpg for test/a/1.jpg.
    "inner_path": lambda rows: rows["path"].map(lambda path: path.partition("/")[2] or path),
    "image_id": lambda rows: rows["image_id"],
}


class ClassSpelling(NamedTuple):
    """How a submission writes classes.

    Attributes
    ----------
    kind : str
        An entry of `CLASS_NAMES`.
    digits : int
        A number has leading zeros up to so many digits; 0 has none.
    first : int
        The index of the first class.
    """

    kind: str = "text"
    digits: int = 0
    first: int = 0


def _as_text(classes: Sequence[str], spelling: ClassSpelling) -> list[str]:
    return list(classes)


def _as_number(classes: Sequence[str], spelling: ClassSpelling) -> list[str]:
    odd = [name for name in classes if not re.fullmatch(r"[0-9]+", name)]
    if odd:
        raise ValueError(
            f"class_names number: the class {odd[0]!r} is no whole number; set class_names to text "
            "or index"
        )
    return [str(int(name)).zfill(spelling.digits) for name in classes]


def _as_index(classes: Sequence[str], spelling: ClassSpelling) -> list[str]:
    places = range(spelling.first, spelling.first + len(classes))
    return [str(place).zfill(spelling.digits) for place in places]


# How a submission may write the classes: from all classes, sorted as text, to text.
CLASS_NAMES: dict[str, Callable[[Sequence[str], ClassSpelling], list[str]]] = {
    "text": _as_text,
    "number": _as_number,
    "index": _as_index,
}

# For the record of parameters.
ClassNames = Literal[tuple(CLASS_NAMES)]


def spelt_classes(classes: Sequence[str], spelling: ClassSpelling) -> dict[str, str]:
    """Spell the classes as a submission writes them.

    Parameters
    ----------
    classes : sequence of str
        All classes of the contest, sorted as text.
    spelling : ClassSpelling
        How.

    Returns
    -------
    dict of str to str
        From each class to its text, in the order given.

    Raises
    ------
    ValueError
        A class cannot be spelt so, or two would be spelt alike.
    """
    spelt = dict(zip(classes, CLASS_NAMES[spelling.kind](classes, spelling), strict=True))
    first: dict[str, str] = {}
    for name, text in spelt.items():
        other = first.setdefault(text, name)
        if other != name:
            raise ValueError(
                f"class_names {spelling.kind}: the classes {other!r} and {name!r} would both be "
                f"written as {text!r}; set class_names to text or index"
            )
    return spelt


def other_spelling(wanted: set[str], classes: Sequence[str], used: ClassSpelling) -> str:
    """Find another spelling that gives some texts, as settings in words; empty where none does.

    Parameters
    ----------
    wanted : set of str
        What a sample calls classes.
    classes : sequence of str
        All classes of the contest, sorted.
    used : ClassSpelling
        The one that does not fit.
    """
    digits = len(min(wanted, key=len)) if wanted else 0
    tries = [ClassSpelling("text"), ClassSpelling("number"), ClassSpelling("number", digits)]
    tries += [ClassSpelling("index", *each) for each in ((0, 0), (0, 1), (digits, 0), (digits, 1))]
    for spelling in tries:
        try:
            fits = spelling != used and wanted <= set(spelt_classes(classes, spelling).values())
        except ValueError:
            continue
        if fits:
            texts = [f"class_names: {spelling.kind}"]
            texts += [f"class_digits: {spelling.digits}"] if spelling.digits else []
            texts += ["first_class: 1"] if spelling.first else []
            return ", ".join(texts)
    return ""


def image_names(test: pd.DataFrame, image_column: str, listing: Path | None = None) -> pd.Series:
    """Find what a submission calls images.

    Parameters
    ----------
    test : pd.DataFrame
        Rows of a label table or a listing, with image_id and path.
    image_column : str
        An entry of `IMAGE_NAMES`, or the name of a column of `listing`.
    listing : Path, optional
        A CSV or Parquet file that has a row for each image.

    Returns
    -------
    pd.Series
        Text, a value an image, with the rows' index.

    Raises
    ------
    FileNotFoundError, ValueError
        Two images would share a name; or the listing cannot be read, lacks the column, or has no
        row of an image.
    """
    if listing is None:
        names = IMAGE_NAMES[image_column](test)
    else:
        names = _listed_names(test, image_column, Path(listing))
    if names.duplicated().any():
        twice = names[names.duplicated()].iloc[0]
        raise ValueError(f"image_column {image_column}: two test images are called {twice!r}")
    return names


def _listed_names(test: pd.DataFrame, column: str, listing: Path) -> pd.Series:
    """The values of a listing's column, its rows found by path, id or name of the image."""
    if not listing.is_file():
        raise FileNotFoundError(f"names_file: {listing} is not there")
    rows = read_parquet(listing) if listing.suffix.lower() == ".parquet" else read_csv(listing)
    if column not in rows:
        raise ValueError(
            f"names_file: {listing} has no column {column!r}; it has "
            f"{', '.join(map(str, rows.columns))}: name one of them as image_column"
        )
    odd = [value for value in rows[column] if not isinstance(value, str) or not value]
    if odd:
        raise ValueError(
            f"names_file: {listing}: column {column!r} holds {odd[0]!r}, which is no text; store "
            "names as text"
        )
    closest: tuple[int, str, str] = (-1, "", "")
    for key in rows.columns:
        keys = rows[key].astype(str)
        for kind in ("path", "image_id", "inner_path", "name", "stem"):
            wanted = IMAGE_NAMES[kind](test)
            there = wanted.isin(set(keys))
            if there.all() and wanted.is_unique and not keys[keys.isin(wanted)].duplicated().any():
                return wanted.map(dict(zip(keys, rows[column], strict=True)))
            if not there.all():
                lacking = wanted[~there].iloc[0]
                closest = max(closest, (int(there.sum()), str(key), lacking))
    found, key, lacking = closest
    raise ValueError(
        f"names_file: {listing} does not tell the {len(test)} test images apart by path, image_id, "
        f"name or stem; its column {key!r} comes nearest with {found} of them and lacks {lacking!r}"
    )
