"""Which images a contest has: a folder a class, or a listing with path and label."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import pandas as pd

from fgvc_utils.contest import listings, shards
from fgvc_utils.contest.file_states import state_of
from fgvc_utils.contest.listings import LISTING_ENDINGS, Columns
from fgvc_utils.contest.places import below_root, expanded
from fgvc_utils.contest.rubbish import NO_IMAGE, is_other, rubbish
from fgvc_utils.contest.walking import Visited, walk
from fgvc_utils.core.files import file_digest

# Control characters, separators of lines, and what Python makes of bytes that are not UTF-8.
NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


# What becomes of files that are no images by their names.
ASK, LEAVE_OUT, READ = "ask", "leave_out", "read"
OtherFiles = Literal["ask", "leave_out", "read"]


class Listed(NamedTuple):
    """What was found.

    Attributes
    ----------
    images : pd.DataFrame
        A row an image: the text columns image_id, path, split and given.
    left_out : pd.DataFrame
        A row a file or folder (whose path ends in `/`) that is none: columns path and reason.
    """

    images: pd.DataFrame
    left_out: pd.DataFrame


def list_images(
    root: Path,
    train: str,
    test: str,
    *,
    path_column: str = "path",
    label_column: str = "label",
    id_column: str = "",
    other_files: OtherFiles = LEAVE_OUT,
) -> pd.DataFrame:
    """List all images of a contest; the `images` of `list_all`, which says what is raised."""
    columns = Columns(path_column, label_column, id_column)
    return list_all(root, train, test, columns, other_files).images


def list_all(
    root: Path,
    train: str,
    test: str,
    columns: Columns = Columns(),  # noqa: B008
    other_files: OtherFiles = LEAVE_OUT,
) -> Listed:
    """List all images of a contest, train before test, each in the order of its paths.

    A file whose name is no text (bytes that are not UTF-8, control characters) is listed with those
    spelt out, as `\\xff` or `\\n`, and cannot be opened under that name.

    Parameters
    ----------
    root
        The data root.
    train, test
        Relative to `root`: a folder (train: one folder a class, its name is the label) or a listing
        ending in .csv, .parquet, .json, .jsonl or .txt. `test` may be empty.
    columns
        Those of the listings, and where the files lie that they name; by default relative to
        `root` too.
    other_files
        What becomes of files that are no images by their names, such as labels.csv: `leave_out`,
        `read` (they are listed as images), or `ask` (an error that names one of them). Known
        rubbish, such as Thumbs.db, is always left out of folders; a listing that names it is asked
        about as the others are.

    Returns
    -------
    Listed
        Labels stay as they are written: `0012` stays `0012`. An image id belongs to one image of a
        side. Where some stand in both sides, the paths of the train images are their ids.

    Raises
    ------
    FileNotFoundError or ValueError
        Naming the file, folder or column that is wrong: a place outside the data root, a link to a
        folder, a class that comes in two spellings of one name, a class name that holds control
        characters, an image that appears twice.
    """
    sides = [(train, "train"), *([(test, "test")] if test else [])]
    found = [list_side(root, source, split, columns, other_files) for source, split in sides]
    left_out = pd.concat([side.left_out for side in found], ignore_index=True)
    return Listed(together([side.images for side in found]), left_out)


def together(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """The sides of a contest as one listing; raises ValueError as `list_all` does."""
    images = pd.concat(parts, ignore_index=True)
    if len(shared_ids(parts)):
        # A submission names test images, so theirs stay.
        train = images["split"] == "train"
        images["image_id"] = images["image_id"].where(~train, images["path"])
    _check_once(images, "train and test")
    return images.astype(object)


def shared_ids(parts: list[pd.DataFrame]) -> pd.Series:
    """The ids that stand in both sides of a contest, for images of different paths."""
    if len(parts) < 2:
        return pd.Series([], dtype=object)
    train, test = (part[["image_id", "path"]] for part in parts)
    both = train.merge(test, on="image_id")
    return both.loc[both["path_x"] != both["path_y"], "image_id"]


def _check_once(images: pd.DataFrame, where: str) -> None:
    for column, what in (("path", "path"), ("image_id", "image id")):
        both = images[column][images[column].duplicated()]
        if len(both):
            rows = images[images[column] == both.iloc[0]]
            raise ValueError(
                f"{where}: {what} {both.iloc[0]!r} is listed {len(rows)} times, under the label(s) "
                f"{sorted(set(rows['given']))}; list each image once"
            )


def check_labels(labels: Iterable[str], where: str) -> None:
    """Check that class names can be written to files, and stay distinct there.

    Parameters
    ----------
    labels
        The class names.
    where
        Where they come from, for the error.

    Raises
    ------
    ValueError
        Naming the place and a class that holds control characters, or two classes that differ only
        in how Unicode composes their letters (`é` as one sign, or as e and an accent).
    """
    seen: dict[str, str] = {}
    for label in labels:
        _check_label(label, where)
        other = seen.setdefault(unicodedata.normalize("NFC", label), label)
        if other != label:
            raise ValueError(
                f"{where}: the class {label!r} comes in two Unicode spellings that look the same, "
                f"{ascii(other)} and {ascii(label)}; rename one of them, or write a listing that "
                "gives both the same label"
            )


def _check_label(label: str, where: str) -> None:
    if not is_text(label):
        raise ValueError(
            f"{where}: the class {spelt_out(label)!r} holds control characters or bytes that are "
            "no text; rename it"
        )


def is_text(name: str) -> bool:
    """Whether a name is plain text: valid Unicode without control characters."""
    return not NO_TEXT.search(name)


def spelt_out(name: str) -> str:
    """A name with what is no text spelt out, so that it can be shown and kept."""
    return NO_TEXT.sub(lambda found: _spelt(found[0]), name)


def _spelt(sign: str) -> str:
    if "\udc80" <= sign <= "\udcff":
        # How Python keeps a byte of a file's name that is not UTF-8.
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return sign.encode("unicode_escape").decode("ascii")


def inside(root: Path, name: str) -> Path:
    """The place of a file or folder below the data root, with links followed.

    Raises
    ------
    ValueError
        Where the name, or a link, leads out of the root.
    """
    root = Path(os.path.realpath(root))
    try:
        place = Path(os.path.realpath(expanded(name, root)))
    except ValueError as error:
        raise ValueError(f"{spelt_out(name)!r} is no name of a file ({error})") from None
    if place != root and root not in place.parents:
        raise ValueError(
            f"{spelt_out(name)!r} leads to {place}, outside the data root {root}; put it there, or "
            "set data_root to a folder that holds both train and test images"
        )
    return place


def listing_digest(
    root: Path,
    sides: list[str],
    columns: Columns = Columns(),  # noqa: B008
) -> str:
    """A short text that changes with the files of the given folders or listings.

    It does where a file comes, goes, or has another size, time or inode (see `file_states`), also
    where that leaves its content as it was.

    Parameters
    ----------
    root
        The data root.
    sides
        Folders and listings, relative to it: of the train images, then of the test images.
    columns
        The listings' columns, and where the files lie that they name.
    """
    import hashlib

    digest = hashlib.sha256()
    for side, split in zip(sides, ("train", "test"), strict=False):
        place = Path(root) / below_root(root, side)
        if place.is_file():
            digest.update(f"{side} {file_digest(place)}".encode())
            paths: Iterable[str] = _named_paths(root, place, split, columns)
        else:
            paths = _all_files(root, place)
        for path in paths:
            line = f"{path} {state_of(os.path.join(root, path))}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _all_files(root: Path, place: Path) -> Iterator[str]:
    """The paths of all files below a folder, in order."""
    for folder, folders, names in os.walk(place):
        folders.sort()
        below = os.path.relpath(folder, root)
        yield from (f"{below}/{name}" for name in sorted(names))


def _named_paths(root: Path, place: Path, split: str, columns: Columns) -> Iterable[str]:
    """The paths that a listing names; none where it cannot be read, which is said elsewhere."""
    try:
        named = listings.read_table(place, split, columns).frame[columns.paths]
        return listings.named_files(root, split, columns, [str(name) for name in named])
    except (OSError, ValueError, KeyError):
        return []


def list_side(
    root: Path,
    source: str,
    split: str,
    columns: Columns = Columns(),  # noqa: B008
    other_files: OtherFiles = LEAVE_OUT,
) -> Listed:
    """The images of one side, and what lies beside them.

    Parameters
    ----------
    root, columns, other_files
        As for `list_all`, which also says what is raised.
    source
        The side's folder or listing, relative to `root`.
    split
        Which side it is: `train` or `test`.
    """
    try:
        source = below_root(root, source)
        inside(root, source)
    except ValueError as error:
        raise ValueError(f"{split}: {error}") from None
    place = Path(root) / source
    if place.is_dir():
        images, left_out = _of_folder(root, place, split, other_files)
    elif place.suffix.lower() in LISTING_ENDINGS:
        images, left_out = _of_listing(root, place, split, columns, other_files)
    else:
        shards.refuse(place, split, source, Path(root))
        raise FileNotFoundError(
            f"{split}: {place} is neither a folder nor a listing (.csv, .parquet, .json or .txt); "
            f"set the parameter {split} to one, relative to the data root {root}{_holds(root)}"
        )
    if images.empty:
        beside = f", but {len(left_out)} files or folders that are none" if len(left_out) else ""
        such = f", such as {left_out['path'].iloc[0]!r}" if len(left_out) else ""
        raise ValueError(f"{split}: {place} holds no image{beside}{such}")
    _check_once(images, f"{split}: {place}")
    if split == "train":
        check_labels(images["given"].unique(), f"train: {place}")
    return Listed(images, left_out)


def _of_folder(root: Path, place: Path, split: str, other_files: OtherFiles) -> Listed:
    """The images of a folder; one that holds files of many pictures is refused with what to do."""
    try:
        found = _walk(root, place, split, other_files)
    except ValueError:
        shards.refuse(place, split, root=Path(root))
        raise
    if found.images.empty:
        shards.refuse(place, split, root=Path(root))
    return found


def _of_listing(
    root: Path, place: Path, split: str, columns: Columns, other_files: OtherFiles
) -> Listed:
    """The images that a listing names, and those that it names in vain."""
    images, unlabelled = _read_listing(root, place, split, columns)
    images, others = _without_others(images, place, split, other_files)
    return Listed(images, pd.concat([unlabelled, others], ignore_index=True))


def _frame_left_out(rows: Iterable[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["path", "reason"], dtype=object)


def _ask(others: list[str], where: str) -> ValueError:
    """The question about files that are no images by their names."""
    what = "file is no image by its name" if len(others) == 1 else "files are no images by name"
    return ValueError(
        f"{where}: {len(others)} {what}, such as {others[0]!r}; set other_files to leave_out, so "
        "that such files are left out and listed, or to read where they are images after all, or "
        "move them away"
    )


def _without_others(
    images: pd.DataFrame, place: Path, split: str, other_files: OtherFiles
) -> Listed:
    """A listing without the rows that are no images by their names."""
    reasons = [_why_none(path.rpartition("/")[2]) for path in images["path"]]
    odd = pd.Series(reasons, images.index, dtype=object)
    others = images.loc[odd != "", "path"].tolist()
    if not others or other_files == READ:
        return Listed(images, _frame_left_out([]))
    if other_files == ASK:
        raise _ask(others, f"{split}: {place}")
    left_out = _frame_left_out(zip(others, odd[odd != ""], strict=True))
    return Listed(images[odd == ""].reset_index(drop=True), left_out)


def _why_none(name: str) -> str:
    """Why a file that a listing names is no image by its name; empty where it may be one."""
    # A listing names each file on purpose: one that is hidden may be an image, `._1.jpg` is not.
    hidden = name.startswith(".") and not name.startswith("._") and "." in name[1:]
    return ("" if hidden else rubbish(name)) or (NO_IMAGE if is_other(name) else "")


def _walk(root: Path, place: Path, split: str, other_files: OtherFiles) -> Listed:
    rows: list[tuple[str, str, str, str]] = []
    left_out: list[tuple[str, str]] = []
    stray: list[str] = []
    others: list[str] = []
    # Of a place in the data root, which a listing's paths are relative to.
    start = place.relative_to(root).as_posix()
    start = "" if start == "." else f"{start}/"
    try:
        for visited in walk(place):
            _refuse_links(visited, split)
            prefix = start + visited.below
            left_out += [(spelt_out(f"{prefix}{name}/"), why) for name, why in visited.left_out]
            label = visited.below.partition("/")[0] if split == "train" else ""
            _check_label(label, f"train: {place}")
            for name, why in visited.files:
                path = spelt_out(f"{prefix}{name}")
                if why and why != NO_IMAGE:
                    left_out.append((path, why))
                elif why and other_files != READ:
                    others.append(path)
                elif split == "train" and not label:
                    stray.append(path)
                else:
                    rows.append((path, path, split, label))
    except OSError as error:
        raise ValueError(
            f"{spelt_out(str(error.filename))} cannot be listed: {error.strerror}; give yourself "
            "the right to read it"
        ) from error
    if others and other_files == ASK:
        raise _ask(others, f"{split}: {place}")
    if stray:
        more = f" (and {len(stray) - 1} more)" if len(stray) > 1 else ""
        raise ValueError(
            f"train: {stray[0]}{more} lies beside the class folders; "
            "every train image must lie in a folder named after its class"
            f"{listings.listing_instead(root, place.relative_to(root).as_posix())}"
        )
    left_out += [(path, NO_IMAGE) for path in others]
    images = pd.DataFrame(rows, columns=["image_id", "path", "split", "given"], dtype=object)
    return Listed(images, _frame_left_out(sorted(left_out)))


def _refuse_links(visited: Visited, split: str) -> None:
    """Raise ValueError naming a link to a folder in one that was entered."""
    for name in visited.links[:1]:
        raise ValueError(
            f"{split}: {spelt_out(os.path.join(visited.folder, name))} is a link to a folder; such "
            "links are not followed, they may go round in a circle: put the folder itself there, "
            "or write a listing"
        )


def _holds(root: Path) -> str:
    """What a data root holds, as a hint where something else was looked for."""
    names = sorted(name for name in os.listdir(root) if not name.startswith("."))
    shown = ", ".join(spelt_out(name) for name in names[:5]) + (", …" if len(names) > 5 else "")
    return f", which holds {shown or 'nothing'}"


def _read_listing(root: Path, place: Path, split: str, columns: Columns) -> Listed:
    if not place.is_file():
        raise FileNotFoundError(f"{split}: the listing {place} is not there")
    shards.refuse(place, split, root=Path(root))
    frame, left_out = listings.read_table(place, split, columns)
    wanted = {"path_column": columns.paths}
    wanted |= {"label_column": columns.labels} if split == "train" else {}
    wanted |= {"id_column": columns.ids} if columns.ids else {}
    for parameter, column in wanted.items():
        if column not in frame:
            raise ValueError(
                f"{place} has no column {column!r}; it has {', '.join(map(str, frame.columns))}: "
                f"name one of them as {parameter}"
                + (listings.columns_hint(place, root, frame) if column == columns.labels else "")
            )
        _check_column(place, frame[column])
    if folder := columns.folder(split):
        inside(root, folder)
    paths = listings.named_files(root, split, columns, frame[columns.paths].tolist())
    _check_paths(place, paths)
    ids = frame[columns.ids].to_numpy(dtype=object) if columns.ids else paths
    images = pd.DataFrame(
        {
            "image_id": ids,
            "path": paths,
            "split": split,
            "given": frame[columns.labels].to_numpy(dtype=object) if split == "train" else "",
        },
        dtype=object,
    )
    without = listings.named_files(root, split, columns, [path for path, _ in left_out])
    reasons = [reason for _, reason in left_out]
    return Listed(images, _frame_left_out(zip(without, reasons, strict=True)))


def _check_column(place: Path, values: pd.Series) -> None:
    """Raise ValueError where a column that is needed holds what is no text, or none."""
    column = values.name
    odd = [value for value in values if not isinstance(value, str)][:1]
    if odd:
        raise ValueError(
            f"{place}: column {column!r} holds {odd[0]!r}, which is not text; store ids, paths "
            "and labels as strings, or a class such as 0012 is lost"
        )
    empty = values.index[values == ""]
    if len(empty):
        raise ValueError(f"{place}: column {column!r} is empty in row {empty[0] + 1}")
    unwritable = values.index[~values.map(is_text)]
    if len(unwritable):
        value = spelt_out(values[unwritable[0]])
        raise ValueError(
            f"{place}: column {column!r} holds control characters in row {unwritable[0] + 1}: "
            f"{value!r}; rename it"
        )


def _check_paths(place: Path, paths: Iterable[str]) -> None:
    """Raise ValueError naming the first path of a listing that leads out of the data root."""
    for row, path in enumerate(paths, 1):
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts:
            raise ValueError(
                f"{place}: the path {path!r} in row {row} leads out of the data root; paths are "
                "relative to it, such as 'train/rose/1.jpg'"
            )
