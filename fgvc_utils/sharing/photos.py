"""New photos, in any folder tree or named one by one, decoded as the images of a contest are."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from fgvc_utils.contest.images import take_in
from fgvc_utils.contest.listing import spelt_out
from fgvc_utils.contest.places import expanded
from fgvc_utils.contest.walking import walk
from fgvc_utils.core.processes import processors

COLUMNS = ["photo", "place", "reason"]
LINK = "a link to a folder: name that folder itself"
# So few photos are decoded by one process.
FEW = 64


def find_photos(named: Sequence[str | Path]) -> pd.DataFrame:
    """List photos: each file that is named, and all below each folder that is named.

    A file that is named is taken whatever it is called. Below a folder, links to folders are not
    followed.

    Parameters
    ----------
    named : sequence of str or Path
        Files and folders.

    Returns
    -------
    DataFrame
        A row a file, in order, each file once: photo, its name (below the folder, where one folder
        is all that is named); place, its absolute path; reason, why it is left out, empty for a
        photo.

    Raises
    ------
    FileNotFoundError
        Naming what is not there, or a folder without a photo.
    """
    rows: list[tuple[str, str, str]] = []
    alone = len(named) == 1
    for each in named:
        try:
            place = expanded(str(each))
        except ValueError as error:
            raise FileNotFoundError(str(error)) from None
        if place.is_dir():
            rows += _below(place, "" if alone else str(each))
        elif os.path.lexists(place):
            rows.append((str(each), str(place.absolute()), ""))
        else:
            raise FileNotFoundError(f"{each} is not there: name photos, or folders of photos")
    found = pd.DataFrame(rows, columns=COLUMNS, dtype=object).drop_duplicates("place")
    if not (found["reason"] == "").any():
        such = f", but {len(found)} files that are none" if len(found) else ""
        raise FileNotFoundError(f"{', '.join(map(str, named))}: no photo there{such}")
    return found.reset_index(drop=True)


def _below(top: Path, prefix: str) -> Iterator[tuple[str, str, str]]:
    """The files below a folder, in order."""
    for visited in walk(top):
        inner = os.path.normpath(os.path.join(prefix, visited.below)) if prefix else visited.below
        start = f"{inner.rstrip('/')}/" if inner not in ("", ".") else ""
        folders = visited.left_out + [(name, LINK) for name in visited.links]
        found = [(f"{name}/", name, why) for name, why in sorted(folders)]
        found += [(name, name, why) for name, why in visited.files]
        here = os.path.abspath(visited.folder)
        for shown, name, why in found:
            yield f"{start}{shown}", os.path.join(here, name), why


def prepared(photos: pd.DataFrame, cache: Path, side: int) -> pd.DataFrame:
    """Decode photos as 01 decodes a contest's images.

    Parameters
    ----------
    photos : DataFrame
        With the column place.
    cache : Path
        A folder that gets their pictures.
    side : int
        The longest that a picture's shorter side may be, px.

    Returns
    -------
    DataFrame
        A row a photo, by the index of `photos`: image_id, the row's number as text; file, its
        picture, empty where it cannot be read; error, why, or what is missing of it; note, what is
        odd.
    """
    # From the root of all files on: photos may lie anywhere, also where links lead.
    paths = [spelt_out(place).lstrip("/") for place in photos["place"]]
    listed = pd.DataFrame({"image_id": [str(row) for row in photos.index], "path": paths})
    with main_left_alone():
        count = processors() if len(photos) > FEW else 1
        taken = take_in(listed, Path("/"), cache, side, processes=count)
    there = taken["cached"] != ""
    taken["file"] = (f"{cache}/" + taken["cached"]).where(there, "")
    return taken[["image_id", "file", "error", "note"]].set_axis(photos.index)


@contextmanager
def main_left_alone() -> Iterator[None]:
    """Have processes that are started not import the script that runs.

    They would run it once more where it does not guard itself by `if __name__ == "__main__"`, and
    what they do here needs nothing of it.
    """
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    try:
        if "__file__" in kept:
            del main.__file__
        main.__spec__ = None
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)
