"""The cleaned labels as a folder of links that torchvision's ImageFolder reads.

`imagefolder/train/<class>/…` (and `validation/`, where a fold is given) and `test/unlabelled/…`.
"""

import os
import re
import shutil
from pathlib import Path

import pandas as pd

from fgvc_utils.contest.places import as_folder_name
from fgvc_utils.contest.rubbish import rubbish_folder
from fgvc_utils.core.files import require_space
from fgvc_utils.sharing.pictures import TEST, Options, bytes_of, distinct, exported_pictures
from fgvc_utils.sharing.runs import FinishedRun

# Bytes that a class's folder may have in its name.
LONGEST = 150
UNLABELLED = "unlabelled"


def class_folders(classes: list[str]) -> dict[str, str]:
    """Return the name of each class's folder: its own, where a folder can be called so.

    Parameters
    ----------
    classes : list of str
        All classes.
    """
    # With a slash no name counts as one that a folder can have.
    names = [name if _can_be(name) else as_folder_name(f"/{name}") for name in classes]
    return dict(zip(classes, distinct(names, classes), strict=True))


def _can_be(name: str) -> bool:
    plain = name not in ("", ".", "..") and not re.search(r"[/\\\x00-\x1f\x7f]", name)
    fits = len(name.encode("utf-8", "surrogateescape")) <= LONGEST
    return plain and fits and name == name.strip() and not rubbish_folder(name)


def write_folders(run: FinishedRun, options: Options, folder: Path) -> int:
    """Write the folders, and `classes.csv`: folder, class, its number, and images of each split.

    Classes without any image have no folder, since readers refuse empty ones; torchvision numbers
    those that are there.

    Parameters
    ----------
    run : FinishedRun
        The run.
    options : Options
        Of the export.
    folder : Path
        Where they go.

    Returns
    -------
    int
        How many pictures there are.

    Raises
    ------
    FileNotFoundError
        Raw images are gone.
    NotEnoughSpace
        Pictures are to be copied, and the disk has less space than they take.
    OSError
        The file system has no links; says what to do.
    """
    found = exported_pictures(run, options)
    if options.copy:
        size = sum(bytes_of(found["place"]))
        require_space(folder, size, f"copies of {len(found)} pictures", "or export links")
    own = class_folders(run.classes)
    found["folder"] = found["label"].map(own).where(found["split"] != TEST, UNLABELLED)
    for (split, name), rows in found.groupby(["split", "folder"], sort=True):
        place = folder / split / name
        place.mkdir(parents=True)
        names = distinct(rows["name"], rows["path"])
        for target, link in zip(rows["place"], names, strict=True):
            put(target, place / link, copy=options.copy)
    counts = found[found["split"] != TEST].pivot_table(
        index="label", columns="split", values="image_id", aggfunc="size", fill_value=0
    )
    listed = pd.DataFrame({"folder": own.values(), "class": own.keys()}, index=list(own))
    listed["class_index"] = range(len(own))
    listed = listed.join(counts).fillna(0).astype(dict.fromkeys(counts, int))
    listed.to_csv(folder / "classes.csv", index=False)
    return len(found)


def put(target: str, link: Path, *, copy: bool) -> None:
    """Make a link to a file, or a copy of it; raises OSError that says what to do."""
    if copy:
        shutil.copyfile(target, link)
        return
    try:
        os.symlink(target, link)
    except OSError as error:
        raise OSError(
            f"{link} cannot be made a link ({error.strerror}): this file system may have none; "
            "export copies, by --copy, or to another disk, by --to"
        ) from error
