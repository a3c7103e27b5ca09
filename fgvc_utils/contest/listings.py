"""Listings: CSV, Parquet, JSON or text files that name images, and where these lie."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pandas as pd

from fgvc_utils.contest import annotations, relisting, shards
from fgvc_utils.contest.places import below_root
from fgvc_utils.contest.rubbish import is_other
from fgvc_utils.core.naming import first_few
from fgvc_utils.core.reading import read_csv, read_parquet, read_text

LISTING_ENDINGS = (".csv", ".parquet", ".json", ".jsonl", ".txt")


class Columns(NamedTuple):
    """What listings hold, and where the files lie that they name.

    Attributes
    ----------
    paths, labels, ids
        Columns, or fields of JSON; where `ids` is empty the path is an image's id.
    train_images, test_images
        The folders below the data root that hold what the listing of a side names; empty where
        paths are relative to the data root.
    ending
        Added to names that do not end in it, such as `.jpg`.
    """

    paths: str = "path"
    labels: str = "label"
    ids: str = ""
    train_images: str = ""
    test_images: str = ""
    ending: str = ""

    def folder(self, split: str) -> str:
        """The folder of what the listing of a side names; empty for the data root."""
        return self.train_images if split == "train" else self.test_images


def columns_of(cfg: Any) -> Columns:
    """The columns that the parameters of 01 name."""
    return Columns(
        cfg.path_column,
        cfg.label_column,
        cfg.id_column,
        cfg.train_images,
        cfg.test_images,
        cfg.image_ending,
    )


class Table(NamedTuple):
    """A listing as it is written.

    Attributes
    ----------
    frame : pd.DataFrame
        A row an image, with at least the columns that are asked for, where the listing has them.
    left_out : list of (path, reason)
        Images that it names and that have no label, or several.
    """

    frame: pd.DataFrame
    left_out: list[tuple[str, str]]


def read_table(place: Path, split: str, columns: Columns) -> Table:
    """Read a listing.

    Parameters
    ----------
    place
        The file.
    split
        `train`, where each image needs a label, or `test`.
    columns
        What is looked for in it.

    Raises
    ------
    ValueError
        Naming the file and what is wrong with it; where it holds the pictures themselves, with the
        command that takes them out.
    """
    kind = place.suffix.lower()
    if kind in (".json", ".jsonl"):
        return Table(*annotations.read(place, split, columns.paths, columns.labels, columns.ids))
    if kind == ".csv":
        return Table(read_csv(place), [])
    if kind == ".txt":
        return Table(_read_lines(place, columns), [])
    shards.refuse(place, split)
    return Table(read_parquet(place), [])


def _read_lines(place: Path, columns: Columns) -> pd.DataFrame:
    """A text file with an image a line: its name and its label, apart by a tab or a blank.

    Names may hold blanks where the labels are numbers, labels may where they are not. Without
    labels, the folder of a name is its label.
    """
    lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
    tabs = all("\t" in line for line in lines)
    from_end = [line.rpartition("\t" if tabs else " ") for line in lines]
    if not tabs and all(label.isdecimal() and name for name, _, label in from_end):
        pairs = [(name.strip(), label) for name, _, label in from_end]
    else:
        parts = [line.partition("\t" if tabs else " ") for line in lines]
        pairs = [(name.strip(), label.strip()) for name, _, label in parts]
    if not any(label for _, label in pairs):
        pairs = [(name, name.rpartition("/")[0].rpartition("/")[2]) for name, _ in pairs]
    return pd.DataFrame(pairs, columns=[columns.paths, columns.labels], dtype=object)


def columns_hint(place: Path, root: Path, frame: pd.DataFrame) -> str:
    """A hint where a listing without a column of labels has a column a class instead."""
    texts = frame.map(lambda value: value if isinstance(value, str) else "?")
    if not len(frame) or not (found := relisting.one_hot(texts)):
        return ""
    command = shlex.join(["python", "-m", "fgvc_utils.contest.convert", str(place), str(root)])
    return (
        f"; where {first_few(found)} are classes, `{command}` writes {place.stem}_labels.csv, "
        "which has such a column"
    )


def named_files(root: Path, split: str, columns: Columns, names: Sequence[str]) -> list[str]:
    """Where the files that a listing names lie, as paths below the data root.

    With a folder, a name is first taken as a path in it. Where there is no such file, one of this
    name is looked for in all folders below it, without regard to case; a name without the ending
    of an image may have any.

    Parameters
    ----------
    root
        The data root.
    split
        The listing's side.
    columns
        Its folder and ending.
    names
        As the listing has them.

    Returns
    -------
    list of str
        A path a name. A file that was not found has the path that it would have in the folder.

    Raises
    ------
    ValueError
        The folder is not there, or a name fits several files.
    """
    ending, folder = columns.ending, columns.folder(split)
    folder = below_root(root, folder).removeprefix("./").rstrip("/") if folder else ""
    if ending:
        names = [name if name.endswith(ending) else f"{name}{ending}" for name in names]
    if not folder:
        return list(names)
    place = Path(root) / folder
    if not place.is_dir():
        raise ValueError(
            f"{split}_images: {place} is no folder; name the one that holds the files of the "
            f"listing, relative to the data root {root}"
        )
    files = _Files(place, folder, f"{split}_images")
    return [files.path_of(name) for name in names]


class _Files:
    """The files below a folder, found by path, by name, or by name without its ending."""

    def __init__(self, place: Path, folder: str, parameter: str) -> None:
        self._folder, self._parameter = folder, parameter
        self._paths = set(_files_below(place))
        self._named: dict[str, list[str]] | None = None

    def path_of(self, name: str) -> str:
        """The path below the data root of what a listing names."""
        inner = name.removeprefix("./").removeprefix(f"{self._folder}/")
        for path in (name, inner):
            if path in self._paths:
                return f"{self._folder}/{path}"
        found = [] if ".." in PurePosixPath(name).parts else self._like(inner)
        if len(found) > 1:
            raise ValueError(
                f"{self._parameter}: {name!r} of the listing is both {found[0]!r} and "
                f"{found[1]!r} in {self._folder!r}; write paths into the listing that tell them "
                "apart, or set image_ending"
            )
        return name if name.startswith("/") else f"{self._folder}/{found[0] if found else inner}"

    def _like(self, name: str) -> list[str]:
        """The files that a name may mean, where there is none of just this path."""
        if self._named is None:
            self._named = {}
            for path in sorted(self._paths):
                key = _key(path)
                self._named.setdefault(key, []).append(path)
                if stem := "" if is_other(key) else key.rpartition(".")[0]:
                    self._named.setdefault(stem, []).append(path)
        found = self._named.get(_key(name), [])
        folder = name.rpartition("/")[0]
        # A name with a folder says where it lies, if not how it ends.
        return [path for path in found if not folder or path.rpartition("/")[0] == folder]


def _key(path: str) -> str:
    return path.rpartition("/")[2].casefold()


def _files_below(place: Path) -> list[str]:
    """The paths of all files below a folder, relative to it."""
    found = []
    for folder, _, names in os.walk(place):
        below = os.path.relpath(folder, place)
        prefix = "" if below == "." else f"{below}/"
        found += [f"{prefix}{name}" for name in names]
    return found


def where_instead(root: Path, split: str, names: Sequence[str]) -> tuple[str, str, str]:
    """Where files that a listing names lie instead, if they are somewhere below the data root.

    Looks in the folders of the data root and in theirs, no deeper. Of several folders the one that
    has most of the names counts, then the one that is called as the side is.

    Parameters
    ----------
    root
        The data root.
    split
        The listing's side.
    names
        Some names of the listing, the first one to be found.

    Returns
    -------
    tuple of str
        The path of the first name that is there, the folder that the listing leaves out, and the
        ending; empty where none was found.
    """
    best: tuple[tuple[int, bool], tuple[str, str, str]] = ((0, False), ("", "", ""))
    for folder in ["", *_folders(Path(root), 2)]:
        hits = _hits(Path(root), folder, names)
        worth = (len(hits), folder.startswith(split))
        if hits and worth > best[0]:
            best = (worth, (hits[0][0], folder, hits[0][1]))
    return best[1]


def _hits(root: Path, folder: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """The paths below the data root of what names mean in a folder, and the endings they lack."""
    there: dict[PurePosixPath, list[str]] = {}
    found = []
    for name in names:
        above, last = PurePosixPath(name).parent, PurePosixPath(name).name
        if above not in there:
            there[above] = _names(root / folder / above)
        if (hit := _name_in(there[above], last)) is not None:
            path = (PurePosixPath(folder) / above / hit).as_posix()
            found.append((path, hit.removeprefix(last)))
    return found


def _name_in(there: Sequence[str], name: str) -> str | None:
    """The file of a folder that has a name, or has it but for its ending."""
    if name in there:
        return name
    return next((e for e in there if e.rpartition(".")[0] == name and not is_other(e)), None)


def listing_instead(root: Path, source: str) -> str:
    """A hint at the listings of a data root, where a folder of images has no folder a class."""
    names = [name for name in _names(Path(root)) if name.lower().endswith(LISTING_ENDINGS)]
    if not names:
        return ""
    return (
        f"; where {first_few(names)} says the classes: set train to it, and train_images: {source}"
    )


def _names(place: Path) -> list[str]:
    try:
        return sorted(os.listdir(place))
    except OSError:
        return []


def _folders(root: Path, depth: int) -> list[str]:
    found, level = [], [""]
    for _ in range(depth):
        level = [
            f"{above}/{name}".strip("/")
            for above in level
            for name in _names(root / above)[:1000]
            if (root / above / name).is_dir()
        ]
        found += level
    return found
