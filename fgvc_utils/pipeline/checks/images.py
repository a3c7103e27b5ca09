"""Checks of folders, listings, classes and image files."""

import os
import shlex
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fgvc_utils.contest import decoding, images, listing, listings, tables
from fgvc_utils.contest.places import below_root, data_root
from fgvc_utils.contest.rubbish import rubbish_folder
from fgvc_utils.core.files import unusable
from fgvc_utils.core.naming import first_quoted
from fgvc_utils.pipeline import seen_files
from fgvc_utils.pipeline.checks.findings import Contest, Findings
from fgvc_utils.pipeline.stages import STAGES, making

# How long images are opened, train and test together, and how long a listing's paths are sought.
SAMPLE_SECONDS = 4.0
SEARCH_SECONDS = 5.0
# Images are compared with each other from so many on, and at most so many.
FEW_HASHES, ENOUGH_HASHES = 5, 1000
# From this share of one picture on something went wrong when the images were fetched.
NEARLY_ALL = 0.8
# So many missing files of a listing are looked for elsewhere.
SOUGHT = 20
# How long contents are compared with those of the last run.
COMPARE_SECONDS = 5.0


def check_places(contest: Contest, found: Findings) -> None:
    """The data root is there, and the folder of results can be written to."""
    try:
        contest.root = data_root(contest.steps[0].cfg.data_root)
    except FileNotFoundError as error:
        # Scores alone are enough to write an answer again.
        answers = all(STAGES[step.stage].makes == "submission" for step in contest.steps)
        (found.warnings if answers else found.errors).append(str(error))
    found.errors += unusable(contest.folder)
    for step in contest.of("01_noise") if contest.root else ():
        cfg = step.cfg
        for side in (cfg.train, cfg.test, cfg.train_images, cfg.test_images):
            if side and (contest.root / side).resolve() in contest.folder.resolve().parents:
                found.errors.append(
                    f"outputs: {contest.folder} lies among the images of {side}; set `outputs` to "
                    "a folder elsewhere"
                )


def check_listing(contest: Contest, found: Findings) -> None:
    """Folders and listings can be read, all images are there, none appears twice."""
    steps = contest.of("01_noise")
    if not steps:
        contest.images = _images_of_tables(contest, found)
    if not steps or contest.root is None:
        return
    cfg, parts = steps[0].cfg, []
    columns = listings.columns_of(cfg)
    for split, source in (("train", cfg.train), ("test", cfg.test)):
        if not source:
            if split == "train":
                found.errors.append("01_noise: train is empty: name a folder or a listing")
            continue
        try:
            source = below_root(contest.root, source)
            side = listing.list_side(contest.root, source, split, columns, cfg.other_files)
        except (ValueError, OSError) as error:
            found.errors.append(f"01_noise: {error}")
            continue
        parts.append(side.images)
        _beside(side.left_out, split, found)
        if columns.folder(split) and (contest.root / source).is_dir():
            found.warnings.append(
                f"01_noise: {split}_images is set, but {split} is a folder itself, {source!r}: it "
                f"counts for a listing alone; name that as {split}"
            )
        if Path(source).suffix.lower() in listings.LISTING_ENDINGS:
            _paths_there(contest, side.images, source, found)
        elif split == "train":
            _empty_folders(contest.root / source, side.images, found)
            _inner_folders(contest.root, side.images, source, found)
    if not cfg.test and contest.of("40_submit"):
        found.errors.append("01_noise: test is empty, but 40_submit needs test images: name them")
    try:
        together = listing.together(parts) if parts else None
    except ValueError as error:
        found.errors.append(f"01_noise: {error}")
        return
    # With one side missing, its own error is listed; the rest is not judged by half the images.
    if together is not None and len(parts) == 1 + bool(cfg.test):
        contest.images = together
        if shared := listing.shared_ids(parts).tolist():
            found.facts.append(
                f"01_noise: {len(shared)} ids stand in both train and test, such as "
                f"{shared[0]!r}; test images keep theirs, train images are known by their paths"
            )
        contest.changed = _since_last_run(steps[0], found)


def _since_last_run(step: Any, found: Findings) -> list[str]:
    """What came, went and changed since 01 read its files; returns the paths that changed."""
    if not step.stamp.is_file() or (changes := seen_files.changes(step, COMPARE_SECONDS)) is None:
        return []
    found.warnings += [f"since the last run of 01_noise: {text}" for text in changes.texts()]
    if changes.unsure:
        found.facts.append(
            f"{changes.unsure} files have other times than at the last run of 01_noise; it runs "
            "again if their content is another"
        )
    return changes.changed


def _images_of_tables(contest: Contest, found: Findings) -> pd.DataFrame | None:
    """The images as the tables of an earlier run list them, where 01 is no part of the contest."""
    for name in making("table"):
        path = contest.steps[0].cfg.table_path(name)
        if path.is_file():
            try:
                return tables.read_table(path)
            except ValueError as error:
                found.errors.append(str(error))
    return None


def _paths_there(contest: Contest, part: pd.DataFrame, source: str, found: Findings) -> None:
    """The files that a listing names are there; a random part of them where that takes long."""
    paths = part["path"].sample(frac=1, random_state=0)
    began, looked, missing = time.monotonic(), 0, []
    for path in paths:
        looked += 1
        if not os.path.exists(contest.root / path):
            missing.append(path)
        if looked % 100 == 0 and time.monotonic() - began > SEARCH_SECONDS:
            break
    if not missing:
        return
    first = min(missing)
    text = (
        f"01_noise: {len(missing)} of {looked} paths of {source} that were looked for are not "
        f"below {contest.root}, such as {first!r}{_near(contest.root, first)}"
    )
    found.add_bad(
        text + _elsewhere(contest.root, part["split"].iloc[0], missing),
        every=len(missing) == looked,
        if_every="write them relative to the data root, or name path_column",
        if_some="01 lists them as unreadable and goes on without them",
    )


def _elsewhere(root: Path, split: str, missing: list[str]) -> str:
    """A hint where files lie in a folder that the listing leaves out, or have an ending."""
    place, folder, ending = listings.where_instead(root, split, sorted(missing)[:SOUGHT])
    if not place:
        return ""
    settings = [f"{split}_images: {folder}"] if folder else []
    settings += [f"image_ending: {ending}"] if ending else []
    return f", but {place!r} is there: set {' and '.join(settings)}"


def _near(root: Path, path: str) -> str:
    """A hint where a path is there in another spelling."""
    place = root / path
    for form in ("NFC", "NFD"):
        if (root / unicodedata.normalize(form, path)).exists():
            return f", which is there in another Unicode spelling ({form})"
    if "\\" in path and (root / path.replace("\\", "/")).exists():
        return ", which is there with / in place of \\"
    if place.is_symlink():
        return ", a link that leads nowhere"
    if not place.parent.is_dir():
        return ""
    wanted = place.name.casefold()
    other = next((name for name in os.listdir(place.parent) if name.casefold() == wanted), None)
    return f", but {other!r} is there" if other else ""


def _beside(left_out: pd.DataFrame, split: str, found: Findings) -> None:
    """What lies beside the images and is left out, by the reason; 01 lists all of it."""
    # In brackets is what is another for each.
    kinds = left_out["reason"].str.replace(r" \(.*\)$", "", regex=True)
    for reason, paths in left_out.groupby(kinds, sort=False)["path"]:
        found.warnings.append(
            f"{split}: {len(paths)} files or folders are left out ({reason}): "
            f"{first_quoted(paths.tolist())}"
        )


def _empty_folders(place: Path, images: pd.DataFrame, found: Findings) -> None:
    """Class folders without any image."""
    with os.scandir(place) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not rubbish_folder(e.name))
    empty = sorted(set(names) - set(images["given"]))
    if empty:
        found.warnings.append(
            f"train: class folders without any image are no classes: {first_quoted(empty)}"
        )


def _inner_folders(root: Path, part: pd.DataFrame, source: str, found: Findings) -> None:
    """Folders within class folders, such as species within a genus, which are no classes."""
    inner = part[part["path"].str.count("/") > len(Path(source).parts) + 1]
    if len(inner):
        first = inner.iloc[0]
        given = shlex.join([str(root / source), str(root)])
        found.warnings.append(
            f"train: {len(inner)} images lie in folders within class folders, first "
            f"{first['path']!r}, whose class is {first['given']!r}; where the inner folders are "
            f"the classes, `python -m fgvc_utils.contest.convert {given}` lists them so; "
            " then set train: train.csv and class_names: classes.csv"
        )


def check_class_names(contest: Contest, found: Findings) -> None:
    """There are classes to tell apart, with images to tell them by."""
    if contest.images is None:
        return
    train = contest.images[contest.images["split"] == "train"]
    sizes = train["given"].value_counts()
    found.facts.append(
        f"{len(train)} train images under {len(sizes)} classes of {sizes.min()} to {sizes.max()} "
        f"images, {contest.count('test')} test images"
    )
    if len(sizes) < 2:
        found.errors.append(
            f"train: all {len(train)} images are of one class, {sizes.index[0]!r}; a contest needs "
            "at least two: is train the folder above the class folders?"
        )
    if contest.folds > len(train):
        found.errors.append(
            f"01_noise: {len(train)} train images cannot be cut into {contest.folds} folds; set "
            "folds lower or bring more images"
        )
    single = sizes.index[sizes == 1].tolist()
    if single and len(sizes) > 1:
        found.warnings.append(
            f"{len(single)} of {len(sizes)} classes have one image, with nothing to compare "
            f"it with: {first_quoted(sorted(single))}"
        )
    alike: dict[str, list[str]] = {}
    for name in sorted(sizes.index):
        alike.setdefault(" ".join(name.split()).casefold(), []).append(name)
    twins = [names for names in alike.values() if len(names) > 1]
    if twins:
        found.warnings.append(
            f"{len(twins)} class names differ in nothing but case or blanks, first "
            f"{first_quoted(twins[0])}; they are different classes here"
        )


def look_at_images(contest: Contest, found: Findings) -> None:
    """Open images of both splits, drawn at random, as many as the time allows.

    Where 01 is done it has opened all of them.
    """
    steps = [step for step in contest.of("01_noise") if not step.stamp.is_file()]
    if contest.images is None or not contest.sample_seconds or not steps:
        return
    side = steps[0].cfg.cache_side
    sizes: list[int] = []
    for split in ("train", "test"):
        paths = contest.images.loc[contest.images["split"] == split, "path"]
        if not len(paths):
            continue
        reasons, looked, shown = _open_some(contest, paths, side, sizes)
        _one_picture(shown, split, steps[0].cfg.copy_distance, found)
        if not reasons:
            continue
        first = min(reasons)
        text = (
            f"{split}: {len(reasons)} of {looked} images that were opened cannot be read, such as "
            f"{first} ({reasons[first]})"
        )
        found.add_bad(
            text,
            every=len(reasons) == looked,
            if_every="not one could be read: are these images?",
            if_some="01 lists all of them with their reason",
        )
    contest.jpeg_bytes = float(np.mean(sizes)) if sizes else 0.0


def _open_some(
    contest: Contest, paths: pd.Series, side: int, sizes: list[int]
) -> tuple[dict[str, str], int, pd.DataFrame]:
    """Decode random images for half of the time.

    Gives path → reason, how many were tried, and the hashes of those that were read.
    """
    import simplejpeg
    from PIL import Image

    from fgvc_utils.contest import copies

    began, looked, reasons = time.monotonic(), 0, {}
    shown: list[dict[str, str]] = []
    for path in paths.sample(frac=1, random_state=0):
        if looked and time.monotonic() - began > contest.sample_seconds / 2:
            break
        looked += 1
        try:
            data, _ = images.read_raw(contest.root, path)
            small, *_ = decoding.decode_small(data, side)
        except decoding.UnreadableImage as error:
            reasons[path] = str(error)
            continue
        jpeg = simplejpeg.encode_jpeg(
            np.ascontiguousarray(small), quality=images.CACHE_QUALITY, colorsubsampling="444"
        )
        sizes.append(len(jpeg))
        if len(shown) < ENOUGH_HASHES:
            shown.append({"image_id": path, **copies.hashes(Image.fromarray(small))})
    return reasons, looked, pd.DataFrame(shown)


def _one_picture(shown: pd.DataFrame, split: str, distance: int, found: Findings) -> None:
    """Whether (nearly) all images that were opened show one and the same picture."""
    from fgvc_utils.contest import copies

    if len(shown) < FEW_HASHES:
        return
    groups = copies.groups(shown, distance)
    first, count = groups.value_counts().index[0], int(groups.value_counts().iloc[0])
    if count < NEARLY_ALL * len(shown):
        return
    found.warnings.append(
        f"{split}: {count} of {len(shown)} images that were compared show one picture, such as "
        f"{first!r}: is it that of an error, in place of the images? Nothing can be learnt from "
        "copies of one picture; look at the files below the data root"
    )
