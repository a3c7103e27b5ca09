"""The pictures that an export takes: which file of each image, its split, its label and a name."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from fgvc_utils.contest import formats, tables
from fgvc_utils.core.naming import first_quoted
from fgvc_utils.core.processes import processors
from fgvc_utils.sharing.runs import FinishedRun

# The endings that torchvision takes for those of images; what is within a file its reader sees.
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
TRAIN, VALIDATION, TEST = "train", "validation", "test"
# Bytes in which a format is recognised.
HEAD = 64
# The longest name of a file that all usual file systems have, bytes.
LONGEST = 255


@dataclass(frozen=True)
class Options:
    """What is the same for all formats of an export.

    Attributes
    ----------
    pictures : str
        `raw`: the files as they came; `prepared`: those of the cache, upright RGB JPEGs.
    copy : bool
        Pictures are copied where they would be linked.
    fold : int
        The fold whose kept images are the split `validation`; -1 for none.
    formulas : bool
        Texts that a spreadsheet would run are written to CSV files as they are.
    """

    pictures: Literal["raw", "prepared"] = "raw"
    copy: bool = False
    fold: int = -1
    formulas: bool = False


def split_of(table: pd.DataFrame, fold: int) -> pd.Series:
    """Return the split of each image by image_id; empty for one that is left out."""
    split = pd.Series("", table.index, dtype=object)
    split[table["split"] == "test"] = TEST
    split[tables.kept(table)] = TRAIN
    if fold >= 0:
        split[tables.kept(table) & (table["fold"] == fold)] = VALIDATION
    return split


def exported_pictures(run: FinishedRun, options: Options) -> pd.DataFrame:
    """Return the kept train images and the test images, each with the file that stands for it.

    A file that Pillow cannot read by itself, or of which a part is missing, is stood for by its
    picture in the cache. Test images that cannot be read at all are left out; a line is printed of
    both.

    Parameters
    ----------
    run : FinishedRun
        The run.
    options : Options
        Of the export.

    Returns
    -------
    DataFrame
        By image_id: image_id, path (below the data root), split, label (empty for test images),
        place, the absolute path of the file, and name, the file's own with an ending of images.

    Raises
    ------
    ValueError
        The fold is none of the table.
    FileNotFoundError
        Raw images are gone; names the first ones.
    """
    table, inventory = run.table, run.inventory
    folds = sorted(set(table.loc[tables.kept(table), "fold"]))
    if options.fold >= 0 and options.fold not in folds:
        raise ValueError(f"fold {options.fold}: the folds of {run.table_name} are {folds}")
    split = split_of(table, options.fold)
    cached = inventory["file"].reindex(table.index).fillna("")
    asked = table.index[(split != "") & (cached != "")]
    unread = int(((split != "") & (cached == "")).sum())
    if unread:
        print(f"{unread} images cannot be read and are in no format with pictures")
    found = table.loc[asked, ["image_id", "path", "label"]].assign(split=split[asked])
    found["place"] = cached[asked]
    if options.pictures == "raw":
        raw = [os.path.join(run.root, path) for path in found["path"]]
        whole = (inventory.loc[asked, "error"] == "").to_numpy() & _plain(raw)
        found["place"] = found["place"].where(~whole, pd.Series(raw, asked, dtype=object))
        if not whole.all():
            print(
                f"{int((~whole).sum())} images are given as their prepared pictures: other tools "
                "cannot read their files, or a part of them is missing"
            )
    prepared = found["place"] == cached[asked]
    named = zip(found["path"], prepared, strict=True)
    found["name"] = [name_of_picture(path, prepared=each) for path, each in named]
    return found


def _plain(places: list[str]) -> pd.Series:
    """Whether files are of formats that Pillow reads by itself, boolean array."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(32, 4 * processors())) as pool:
        heads = list(pool.map(_head, places))
    gone = [place for place, head in zip(places, heads, strict=True) if head is None]
    if gone:
        raise FileNotFoundError(
            f"{len(gone)} of {len(places)} raw images are gone, first {first_quoted(gone, 1)}: put "
            "them back, give --data-root where they lie elsewhere by now, or take the prepared "
            "pictures of the cache: --pictures prepared"
        )
    return pd.Series([bool(formats.name_of(head)) for head in heads], dtype=bool).to_numpy()


def _head(place: str) -> bytes | None:
    try:
        with open(place, "rb") as file:
            return file.read(HEAD)
    except OSError:
        return None


def name_of_picture(path: str, *, prepared: bool) -> str:
    """Return the name of a picture's file: its own, with an ending that says that it is an image.

    Parameters
    ----------
    path : str
        Of the image.
    prepared : bool
        Whether it is a JPEG of the cache.
    """
    name = path.rpartition("/")[2]
    ending = os.path.splitext(name)[1].lower()
    if ending not in (ENDINGS[:2] if prepared else ENDINGS):
        name += ENDINGS[0]
    # Other tools leave out what is hidden.
    name = f"_{name}" if name.startswith(".") else name
    return _marked(name, path) if len(name.encode()) > LONGEST else name


def _marked(name: str, path: str) -> str:
    """A name with some signs of the digest of its path, and short enough for a file."""
    stem, ending = os.path.splitext(name)
    mark = "-" + hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    room = LONGEST - len(mark) - len(ending.encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + mark + ending


def distinct(names: Iterable[str], paths: Iterable[str]) -> list[str]:
    """Return names of which no two are the same, also where capitals count for nothing.

    Of several images of one name each gets some signs of the digest of its path.
    """
    names, paths = list(names), list(paths)
    low = pd.Series([name.lower() for name in names], dtype=object)
    twice = low.duplicated(keep=False).tolist()
    return [
        _marked(name, path) if again else name
        for name, path, again in zip(names, paths, twice, strict=True)
    ]


def bytes_of(places: Iterable[str]) -> list[int]:
    """Return the sizes of files, bytes."""
    return [Path(place).stat().st_size for place in places]
