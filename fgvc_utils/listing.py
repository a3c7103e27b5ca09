"""Which images a contest has: a folder a class, or a CSV or Parquet listing with path and label."""

import os
from pathlib import Path

import pandas as pd

from fgvc_utils.files import file_digest

LISTING_ENDINGS = (".csv", ".parquet")


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

    `train` and `test` are relative to `root`: a folder (train: one folder a class, its name is the
    label) or a listing ending in .csv or .parquet, whose paths are relative to `root` too. `test`
    may be empty.

    Returns the string columns image_id, path, split, given. The id is `id_column` of a listing, or
    the path where none is named. Labels are text: `0012` stays `0012`.

    Raises FileNotFoundError or ValueError naming the file, folder or column that is off.
    """
    parts = [_one_side(root, train, "train", path_column, label_column, id_column)]
    if test:
        parts.append(_one_side(root, test, "test", path_column, label_column, id_column))
    images = pd.concat(parts, ignore_index=True)
    for column, what in (("path", "path"), ("image_id", "image id")):
        both = images[column][images[column].duplicated()]
        if len(both):
            rows = images[images[column] == both.iloc[0]]
            raise ValueError(
                f"{what} {both.iloc[0]!r} is listed {len(rows)} times, under the label(s) "
                f"{sorted(set(rows['given']))}; list each image once"
            )
    return images.astype(object)


def listing_digest(root: Path, sides: list[str]) -> str:
    """A short text that changes when a file below the given folders or listings comes or goes."""
    import hashlib

    digest = hashlib.sha256()
    for side in sides:
        place = Path(root) / side
        if place.is_file():
            digest.update(f"{side} {file_digest(place)}".encode())
            continue
        for folder, folders, names in os.walk(place):
            folders.sort()
            for name in sorted(names):
                size = os.stat(os.path.join(folder, name), follow_symlinks=False).st_size
                digest.update(f"{os.path.relpath(folder, root)}/{name} {size}\n".encode())
    return digest.hexdigest()


def _one_side(
    root: Path, source: str, split: str, path_column: str, label_column: str, id_column: str
) -> pd.DataFrame:
    place = Path(root) / source
    if place.is_dir():
        found = _walk(root, place, split)
    elif place.suffix.lower() in LISTING_ENDINGS:
        found = _read_listing(place, split, path_column, label_column, id_column)
    else:
        raise FileNotFoundError(
            f"{split}: {place} is neither a folder nor a .csv or .parquet listing; "
            f"set the parameter {split} to one, relative to the data root {root}"
        )
    if found.empty:
        raise ValueError(f"{split}: {place} holds no image")
    return found


def _walk(root: Path, place: Path, split: str) -> pd.DataFrame:
    rows = []
    stray = []
    for folder, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(folder).relative_to(place)
        label = inside.parts[0] if inside.parts and split == "train" else ""
        for name in sorted(names):
            if name.startswith("."):
                continue
            path = (Path(folder) / name).relative_to(root).as_posix()
            if split == "train" and not label:
                stray.append(path)
            else:
                rows.append((path, path, split, label))
    if stray:
        raise ValueError(
            f"train: {stray[0]} (and {len(stray) - 1} more) lies beside the class folders; "
            "every train image must lie in a folder named after its class"
        )
    return pd.DataFrame(rows, columns=["image_id", "path", "split", "given"])


def _read_listing(
    place: Path, split: str, path_column: str, label_column: str, id_column: str
) -> pd.DataFrame:
    if not place.is_file():
        raise FileNotFoundError(f"{split}: the listing {place} is not there")
    if place.suffix.lower() == ".csv":
        # All text: pandas would read the class 0012 as the number 12.
        frame = pd.read_csv(place, dtype=str, keep_default_na=False)
    else:
        frame = pd.read_parquet(place)
    wanted = [path_column] + ([label_column] if split == "train" else [])
    wanted += [id_column] if id_column else []
    for column in wanted:
        if column not in frame:
            raise ValueError(
                f"{place} has no column {column!r}; it has {', '.join(map(str, frame.columns))}"
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
    return pd.DataFrame(
        {
            "image_id": frame[id_column or path_column].to_numpy(dtype=object),
            "path": frame[path_column].to_numpy(dtype=object),
            "split": split,
            "given": frame[label_column].to_numpy(dtype=object) if split == "train" else "",
        }
    )
