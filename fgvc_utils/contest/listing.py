"""Which images a contest has: a folder a class, or a CSV or Parquet listing with path and label."""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from fgvc_utils.contest.places import below_root, expanded
from fgvc_utils.core.files import file_digest
from fgvc_utils.core.reading import read_csv, read_parquet

LISTING_ENDINGS = (".csv", ".parquet")
# Control characters, separators of lines, and what Python makes of bytes that are not UTF-8.
NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def list_images(
    root: Path,
    train: str,
    test: str,
    *,
    path_column: str = "path",
    label_column: str = "label",
    id_column: str = "",
) -> pd.DataFrame:
    """List all images of a contest, train before test, each in the order of its paths.

    A file whose name is no text (bytes that are not UTF-8, control characters) is listed with those
    spelt out, as `\\xff` or `\\n`, and cannot be opened under that name.

    Parameters
    ----------
    root
        The data root.
    train, test
        Relative to `root`: a folder (train: one folder a class, its name is the label) or a listing
        ending in .csv or .parquet, whose paths are relative to `root` too. `test` may be empty.
    path_column, label_column
        The listings' columns of paths and of labels.
    id_column
        The listings' column of image ids; where it is empty the path is the id.

    Returns
    -------
    pd.DataFrame
        A row an image: the text columns image_id, path, split and given. Labels stay as they are
        written: `0012` stays `0012`.

    Raises
    ------
    FileNotFoundError or ValueError
        Naming the file, folder or column that is wrong: a place outside the data root, a link to a
        folder, a class that comes in two spellings of one name, a class name that holds control
        characters, an image that appears twice.
    """
    columns = (path_column, label_column, id_column)
    parts = [list_side(root, train, "train", *columns)]
    if test:
        parts.append(list_side(root, test, "test", *columns))
    return together(parts)


def together(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """The sides of a contest as one listing; raises ValueError as `list_images` does."""
    images = pd.concat(parts, ignore_index=True)
    _check_once(images, "train and test")
    return images.astype(object)


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


def listing_digest(root: Path, sides: list[str]) -> str:
    """A short text that changes when a file below the given folders or listings comes or goes."""
    import hashlib

    digest = hashlib.sha256()
    for side in sides:
        place = Path(root) / below_root(root, side)
        if place.is_file():
            digest.update(f"{side} {file_digest(place)}".encode())
            continue
        for folder, folders, names in os.walk(place):
            folders.sort()
            for name in sorted(names):
                size = os.stat(os.path.join(folder, name), follow_symlinks=False).st_size
                line = f"{os.path.relpath(folder, root)}/{name} {size}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def list_side(
    root: Path, source: str, split: str, path_column: str, label_column: str, id_column: str
) -> pd.DataFrame:
    """The images of one side.

    Parameters
    ----------
    root, path_column, label_column, id_column
        As for `list_images`.
    source
        The side's folder or listing, relative to `root`.
    split
        Which side it is: `train` or `test`.

    Returns
    -------
    pd.DataFrame
        As from `list_images`, which also says what is raised.
    """
    try:
        source = below_root(root, source)
        inside(root, source)
    except ValueError as error:
        raise ValueError(f"{split}: {error}") from None
    place = Path(root) / source
    if place.is_dir():
        found = _walk(root, place, split)
    elif place.suffix.lower() in LISTING_ENDINGS:
        found = _read_listing(place, split, path_column, label_column, id_column)
    else:
        raise FileNotFoundError(
            f"{split}: {place} is neither a folder nor a .csv or .parquet listing; "
            f"set the parameter {split} to one, relative to the data root {root}{_holds(root)}"
        )
    if found.empty:
        raise ValueError(f"{split}: {place} holds no image")
    _check_once(found, f"{split}: {place}")
    if split == "train":
        check_labels(found["given"].unique(), f"train: {place}")
    return found


def _walk(root: Path, place: Path, split: str) -> pd.DataFrame:
    rows = []
    stray = []
    for folder, folders, names in os.walk(place, onerror=_say_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            link = os.path.join(folder, name)
            if os.path.islink(link):
                raise ValueError(
                    f"{split}: {spelt_out(link)} is a link to a folder; such links are not "
                    "followed, they may go round in a circle: put the folder itself there, or "
                    "write a listing"
                )
        inner = Path(folder).relative_to(place)
        # Once a folder: paths of half a million files are costly to put together one by one.
        below = Path(folder).relative_to(root).as_posix()
        prefix = "" if below == "." else f"{below}/"
        label = inner.parts[0] if inner.parts and split == "train" else ""
        _check_label(label, f"train: {place}")
        for name in sorted(names):
            if name.startswith("."):
                continue
            path = spelt_out(f"{prefix}{name}")
            if split == "train" and not label:
                stray.append(path)
            else:
                rows.append((path, path, split, label))
    if stray:
        others = f" (and {len(stray) - 1} more)" if len(stray) > 1 else ""
        raise ValueError(
            f"train: {stray[0]}{others} lies beside the class folders; "
            "every train image must lie in a folder named after its class"
        )
    return pd.DataFrame(rows, columns=["image_id", "path", "split", "given"])


def _holds(root: Path) -> str:
    """What a data root holds, as a hint where something else was looked for."""
    names = sorted(name for name in os.listdir(root) if not name.startswith("."))
    shown = ", ".join(spelt_out(name) for name in names[:5]) + (", …" if len(names) > 5 else "")
    return f", which holds {shown or 'nothing'}"


def _say_folder(error: OSError) -> None:
    """A folder that cannot be listed would otherwise look like an empty one."""
    raise ValueError(
        f"{spelt_out(str(error.filename))} cannot be listed: {error.strerror}; give yourself the "
        "right to read it"
    ) from error


def _read_listing(
    place: Path, split: str, path_column: str, label_column: str, id_column: str
) -> pd.DataFrame:
    if not place.is_file():
        raise FileNotFoundError(f"{split}: the listing {place} is not there")
    if place.suffix.lower() == ".csv":
        frame = read_csv(place)
    else:
        frame = read_parquet(place)
    wanted = {"path_column": path_column}
    wanted |= {"label_column": label_column} if split == "train" else {}
    wanted |= {"id_column": id_column} if id_column else {}
    for parameter, column in wanted.items():
        if column not in frame:
            raise ValueError(
                f"{place} has no column {column!r}; it has {', '.join(map(str, frame.columns))}: "
                f"name one of them as {parameter}"
            )
        odd = [value for value in frame[column] if not isinstance(value, str)][:1]
        if odd:
            raise ValueError(
                f"{place}: column {column!r} holds {odd[0]!r}, which is not text; store ids, paths "
                "and labels as strings, or a class such as 0012 is lost"
            )
        empty = frame.index[frame[column] == ""]
        if len(empty):
            raise ValueError(f"{place}: column {column!r} is empty in row {empty[0] + 1}")
        unwritable = frame.index[~frame[column].map(is_text)]
        if len(unwritable):
            value = spelt_out(frame[column][unwritable[0]])
            raise ValueError(
                f"{place}: column {column!r} holds control characters in row {unwritable[0] + 1}: "
                f"{value!r}; rename it"
            )
    _check_paths(place, frame[path_column])
    return pd.DataFrame(
        {
            "image_id": frame[id_column or path_column].to_numpy(dtype=object),
            "path": frame[path_column].to_numpy(dtype=object),
            "split": split,
            "given": frame[label_column].to_numpy(dtype=object) if split == "train" else "",
        }
    )


def _check_paths(place: Path, paths: pd.Series) -> None:
    """Raise ValueError naming the first path of a listing that leads out of the data root."""
    for row, path in enumerate(paths, 1):
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts:
            raise ValueError(
                f"{place}: the path {path!r} in row {row} leads out of the data root; paths are "
                "relative to it, such as 'train/rose/1.jpg'"
            )
