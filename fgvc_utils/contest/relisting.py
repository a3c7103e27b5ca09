"""Listings of images that lie otherwise: folders in folders, one column a class, CUB's text files.

Images stay where they are; a listing says of each where it lies and what its class is, and
classes.csv what the classes are called and which groups they fall into.

Counts in no digest.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fgvc_utils.contest.rubbish import is_other, rubbish, rubbish_folder
from fgvc_utils.core.files import whole_file
from fgvc_utils.core.reading import UnreadableFile, read_csv, read_text

# The text files of CUB-200-2011 and NABirds: an id and what belongs to it a line.
IMAGES, LABELS, NAMES = "images.txt", "image_class_labels.txt", "classes.txt"
SPLIT, PARENTS = "train_test_split.txt", "hierarchy.txt"
GROUP = "group"
# So many enclosing folders, or parents, become levels.
MOST_LEVELS = 6
YES, NO = {"1", "1.0", "true"}, {"0", "0.0", "false", ""}


class Relisted(NamedTuple):
    """Tables by the names of their files, and what none of them has: (image, reason)."""

    tables: dict[str, pd.DataFrame]
    left_out: list[tuple[str, str]]


def fits(source: Path) -> bool:
    """Whether `relist` knows what lies there."""
    return source.suffix.lower() == ".csv" or _is_cub(source) or source.is_dir()


def relist(source: Path, root: Path, split: str) -> Relisted:
    """Make listings of what lies otherwise; nothing is written.

    Parameters
    ----------
    source
        A CSV file with a column a class; a folder with CUB's text files; or a folder of folders,
        whose innermost ones are the classes.
    root
        The data root, to which paths are relative.
    split
        Which side a CSV file or a folder is.

    Raises
    ------
    ValueError
        Naming the file or folder and what is wrong with it.
    """
    if source.suffix.lower() == ".csv":
        return _of_columns(source)
    below = os.path.relpath(os.path.realpath(source), os.path.realpath(root))
    if below.startswith(".."):
        raise ValueError(
            f"{source} lies outside {root}: paths of a listing are relative to the data root, so "
            "name a folder that holds the images"
        )
    prefix = "" if below == "." else f"{below}/"
    return _of_cub(source, prefix) if _is_cub(source) else _of_tree(source, prefix, split)


def write(found: Relisted, root: Path) -> list[Path]:
    """Write the tables, each whole; returns where.

    Raises
    ------
    ValueError
        Another file of that name is there; nothing was written.
    """
    tables = dict(found.tables)
    if found.left_out:
        tables["left_out.csv"] = pd.DataFrame(found.left_out, columns=["image", "reason"])
    texts = {Path(root) / name: table.to_csv(index=False) for name, table in tables.items()}
    for place, text in texts.items():
        refuse_other(place, text)
    for place, text in texts.items():
        with whole_file(place) as temporary:
            temporary.write_text(text, "utf-8", newline="")
    return list(texts)


def refuse_other(place: Path, text: str) -> None:
    """Raise ValueError where a file with another content has the name of one to be written."""
    if place.is_file() and place.read_bytes() != text.encode("utf-8"):
        raise ValueError(
            f"{place} is there already, with another content; it stays as it is: write into "
            "another folder, or move it away"
        )


# A column a class.


def one_hot(frame: pd.DataFrame) -> list[str]:
    """The columns that say of each class whether it is the image's; empty where there are none."""
    yes_or_no = [name for name in frame if set(frame[name].str.lower()) <= YES | NO]
    found = [name for name in yes_or_no if set(frame[name].str.lower()) & YES]
    return found if len(found) > 1 else []


def _of_columns(source: Path) -> Relisted:
    frame = read_csv(source)
    classes = one_hot(frame)
    if not classes:
        raise UnreadableFile(
            f"{source} has no columns of 0 and 1, one a class; it is a listing already if one "
            "column holds the class: name it as label_column"
        )
    is_it = frame[classes].apply(lambda column: column.str.lower().isin(YES))
    count = is_it.sum(axis=1)
    listing = frame.drop(columns=classes).assign(label=is_it.idxmax(axis=1))
    names = frame.drop(columns=classes).iloc[:, 0] if len(frame.columns) > len(classes) else count
    left_out = [
        (str(name), "no class" if number == 0 else f"{number} classes")
        for name, number in zip(names, count, strict=True)
        if number != 1
    ]
    return Relisted({f"{source.stem}_labels.csv": listing[count == 1]}, left_out)


# Folders in folders.


def _of_tree(source: Path, prefix: str, split: str) -> Relisted:
    """Each folder that holds images is a class, those around it are its groups."""
    rows: list[tuple[str, tuple[str, ...]]] = []
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not rubbish_folder(name))
        inner = Path(folder).relative_to(source).parts
        rows += [
            ("/".join([*inner, name]), inner)
            for name in sorted(names)
            if inner and not rubbish(name) and not is_other(name)
        ]
    if not rows:
        raise ValueError(f"{source} has no images in folders")
    of_class = {inner: inner[-1] for _, inner in rows}
    taken = pd.Series(list(of_class.values())).value_counts()
    labels = {inner: n if taken[n] == 1 else " ".join(inner) for inner, n in of_class.items()}
    listing = pd.DataFrame(
        [(f"{prefix}{path}", labels[inner]) for path, inner in rows], columns=["path", "label"]
    )
    chains = {labels[inner]: list(inner[-2::-1]) for inner in labels}
    names = {labels[inner]: inner[-1].replace("_", " ") for inner in labels}
    return Relisted({f"{split}.csv": listing, "classes.csv": _classes(names, chains)}, [])


def _classes(names: dict[str, str], chains: dict[str, list[str]]) -> pd.DataFrame:
    """What classes are called, and their groups from the nearest to the widest."""
    depth = min(max(map(len, chains.values()), default=0), MOST_LEVELS)
    levels = [GROUP if number == 0 else f"{GROUP} {number + 1}" for number in range(depth)]
    rows = [
        {"class": label, "name": name} | dict(zip(levels, chains[label], strict=False))
        for label, name in names.items()
    ]
    return pd.DataFrame(rows, columns=["class", "name", *levels], dtype=object).fillna("")


# CUB and NABirds.


def _is_cub(source: Path) -> bool:
    return (source / IMAGES).is_file() and (source / LABELS).is_file()


def _of_cub(source: Path, prefix: str) -> Relisted:
    paths, labels = _pairs(source / IMAGES), _pairs(source / LABELS)
    lacking = sorted(paths.keys() - labels.keys())
    if lacking:
        raise UnreadableFile(f"{source / LABELS} says nothing of the image {lacking[0]!r}")
    sides = _pairs(source / SPLIT) if (source / SPLIT).is_file() else {}
    folder = "images/" if (source / "images").is_dir() else ""
    rows = [(f"{prefix}{folder}{path}", labels[image], image) for image, path in paths.items()]
    listing = pd.DataFrame(rows, columns=["path", "label", "image_id"])
    is_train = listing["image_id"].map(lambda image: sides.get(image, "1") == "1")
    tables = {"train.csv": listing[is_train], "test.csv": listing[~is_train]}
    if (source / NAMES).is_file():
        names = _pairs(source / NAMES)
        parents = _pairs(source / PARENTS) if (source / PARENTS).is_file() else {}
        used = {label: names.get(label, label) for label in sorted(set(labels.values()))}
        chains = {label: [names.get(p, p) for p in _above(label, parents)] for label in used}
        tables["classes.csv"] = _classes(used, chains)
    return Relisted({name: table for name, table in tables.items() if len(table)}, [])


def _pairs(place: Path) -> dict[str, str]:
    """What a text file says of each id: the first word of a line and the rest of it."""
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(place).splitlines(), 1):
        key, _, value = line.strip().partition(" ")
        if line.strip() and not value:
            raise UnreadableFile(f"{place}: line {number} has no two words: {line!r}")
        if line.strip():
            found[key] = value.strip()
    return found


def _above(label: str, parents: dict[str, str]) -> Sequence[str]:
    """The parents of a class, the nearest first; the root, which all have, is left out."""
    found: list[str] = []
    while label in parents and parents[label] not in found:
        label = parents[label]
        found.append(label)
    return found[:-1]
