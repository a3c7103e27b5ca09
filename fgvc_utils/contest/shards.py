"""Files that hold many pictures each: WebDataset's archives, Parquet and Arrow of `datasets`.

Stages read one file an image, so such a set is taken apart once, by `convert`. Here it is seen
what a file is, and said which command takes it apart.

Counts in no digest.
"""

import re
import shlex
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fgvc_utils.core.reading import UnreadableFile

WEBDATASET, PARQUET, ARROW = "WebDataset", "Parquet", "Arrow"
KINDS = {
    ".tar": WEBDATASET,
    ".tar.gz": WEBDATASET,
    ".tgz": WEBDATASET,
    ".parquet": PARQUET,
    ".arrow": ARROW,
}
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar", ".tar.bz2", ".tar.xz")
PICTURES = frozenset(
    "jpg jpeg png webp bmp gif tif tiff jp2 avif heic heif jxl ppm pgm img".split()
)
# What a sample of WebDataset has beside its picture.
BESIDE = frozenset("cls txt json label class".split())
# So many members of an archive are looked at to see what it holds.
LOOKED = 20
SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing")


def kind_of(place: Path) -> str:
    """Which kind of shard a file is by its ending; empty for none."""
    name = place.name.lower()
    return next((kind for ending, kind in KINDS.items() if name.endswith(ending)), "")


def holds_pictures(place: Path) -> bool:
    """Whether a file is a shard: its beginning is looked at, and no picture is read."""
    kind = kind_of(place)
    try:
        if kind == WEBDATASET:
            return _is_webdataset(place)
        if kind in (PARQUET, ARROW):
            return bool(picture_columns(schema_of(place)))
    except (OSError, ValueError, tarfile.TarError):
        return False
    return False


def _is_webdataset(place: Path) -> bool:
    """Whether an archive has pictures with something of the same name beside them."""
    endings: dict[str, set[str]] = {}
    with tarfile.open(place) as archive:
        for number, member in enumerate(archive):
            if number >= LOOKED:
                break
            if member.isfile():
                key, ending = split_name(member.name)
                endings.setdefault(key, set()).add(ending.rpartition(".")[2])
    return any(found & PICTURES and found & BESIDE for found in endings.values())


def split_name(name: str) -> tuple[str, str]:
    """A member's name as key and ending: all after the first dot of its last part is the ending."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def schema_of(place: Path) -> Any:
    """The columns and types of a Parquet or Arrow file; no row is read."""
    import pyarrow
    import pyarrow.parquet

    if kind_of(place) == PARQUET:
        return pyarrow.parquet.read_schema(place)
    with pyarrow.OSFile(str(place)) as file:
        return open_arrow(file).schema


def open_arrow(file: Any) -> Any:
    """A reader of an Arrow file, as `datasets` writes (a stream), or with a table of contents."""
    import pyarrow

    try:
        return pyarrow.ipc.open_stream(file)
    except pyarrow.ArrowInvalid:
        file.seek(0)
        return pyarrow.ipc.open_file(file)


def picture_columns(schema: Any) -> list[str]:
    """The columns that hold pictures as bytes, or as bytes and path, the form of `datasets`."""
    import pyarrow.types as types

    def is_bytes(kind: Any) -> bool:
        return types.is_binary(kind) or types.is_large_binary(kind)

    return [
        field.name
        for field in schema
        if is_bytes(field.type)
        or (
            types.is_struct(field.type)
            and field.type.get_field_index("bytes") >= 0
            and is_bytes(field.type.field("bytes").type)
        )
    ]


def shards_in(place: Path) -> list[Path]:
    """The shards of a folder and of the folders in it, in order; none where it holds no such."""
    files = sorted([*place.glob("*"), *place.glob("*/*")])
    found = [file for file in files if kind_of(file) and file.is_file()]
    # What one of a kind is the others are too.
    kinds = {kind_of(file): file for file in reversed(found)}
    are = {kind for kind, file in kinds.items() if holds_pictures(file)}
    return [file for file in found if kind_of(file) in are]


def named(root: Path, source: str) -> list[Path]:
    """The files that a name with `*`, `?` or `{000..012}` means, in order."""
    found: list[Path] = []
    for pattern in _spelt_out(source):
        if any(sign in pattern for sign in "*?["):
            found += sorted(Path(root).glob(pattern))
        elif (Path(root) / pattern).is_file():
            found.append(Path(root) / pattern)
    return found


def _spelt_out(pattern: str) -> Iterable[str]:
    """A pattern with `{000..012}` as one a number."""
    span = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if not span:
        return [pattern]
    first, last = span.groups()
    numbers = (str(n).zfill(len(first)) for n in range(int(first), int(last) + 1))
    return [
        each
        for number in numbers
        for each in _spelt_out(pattern[: span.start()] + number + pattern[span.end() :])
    ]


def split_of(place: Path, usual: str) -> str:
    """The split that a shard's name begins with, or that its folder is called; else `usual`."""
    found = re.match(rf"({'|'.join(SPLITS)})(?![a-z])", place.name.lower())
    if found:
        return found[1]
    folder = place.parent.name.lower()
    return folder if folder in SPLITS else usual


def refuse(place: Path, split: str, source: str = "", root: Path | None = None) -> None:
    """Raise where a side of a contest consists of shards or of an archive.

    Parameters
    ----------
    place
        A file or a folder, whether there or not.
    split
        The side: `train` or `test`.
    source, root
        What the side's parameter says, and the data root; without them `place` is taken.

    Raises
    ------
    UnreadableFile
        With the command that takes it apart.
    """
    if place.is_dir():
        found = shards_in(place)
    elif place.is_file():
        found = [place] if holds_pictures(place) else []
    else:
        found = [file for file in named(root or place.parent, source) if holds_pictures(file)]
    if found:
        raise UnreadableFile(_advice(place, found, split, root or place.parent))
    name = place.name.lower()
    if place.is_file() and name.endswith(ARCHIVES):
        how = (
            f"python -m zipfile -e {shlex.quote(str(place))}"
            if name.endswith(".zip")
            else f"tar -xf {shlex.quote(str(place))} -C"
        )
        raise UnreadableFile(
            f"{split}: {place} is an archive; unpack it, such as by `{how} "
            f"{shlex.quote(str(place.parent))}`, and set {split} to the folder that comes of it"
        )


def _advice(place: Path, found: list[Path], split: str, root: Path) -> str:
    given = place if place.is_dir() or place.is_file() else found[0].parent
    command = ["python", "-m", "fgvc_utils.contest.convert", str(given), str(root)]
    splits = list(dict.fromkeys(split_of(each, split) for each in found))
    if split != "train" and not any(split_of(each, "") for each in found):
        command += ["--split", split]
    shown = shlex.join(command)
    lists = ", ".join(f"{each}.csv" for each in splits)
    what = f"holds {len(found)} files" if len(found) > 1 else "is a file"
    return (
        f"{split}: {place} {what} of kind {kind_of(found[0])} with the pictures inside; take them "
        f"out by `{shown}`, which writes them and {lists} beside them, then set "
        f"{split}: {split if split in splits else splits[0]}.csv"
    )
