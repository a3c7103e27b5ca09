"""Bring a set of images into a form that stages read: one file an image, and a listing.

    python -m fgvc_utils.contest.convert SOURCE… FOLDER [--split NAME]

FOLDER becomes the contest's data root; what lies there already stays. Sources are only read.

WebDataset's .tar files, Parquet and Arrow files of `datasets`, a folder of them, or a name with `*`
or `{000..012}`: a split becomes FOLDER/<split>_images/…, the bytes as they are, and the listing
FOLDER/<split>.csv with path, label and whatever else is said of each image. What cannot be taken
out, or has no label, is listed with its reason in <split>_left_out.csv.

A folder of folders in folders (family/genus/species/1.jpg), a folder with CUB's or NABirds' text
files, or a CSV file with a column a class: a listing alone, the images stay where they are, and
classes.csv with what the classes are called and their groups.

Counts in no digest.
"""

import argparse
import json
import os
import sys
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pandas as pd
from tqdm import tqdm

from fgvc_utils.contest import formats, relisting, shards
from fgvc_utils.core.files import whole_file
from fgvc_utils.core.naming import first_few

LABELS = ("label", "class", "cls", "category", "species", "fine_label", "target")
ENDINGS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "WebP": "webp", "BMP": "bmp", "AVIF": "avif"}
ENDINGS |= {"JPEG 2000": "jp2", "TIFF": "tif", "PNM": "ppm"}
ROWS = 64
NO_PICTURE, NO_LABEL = "no picture inside", "no label"


class Sample(NamedTuple):
    """A picture as a shard holds it; `name` has an ending, `data` is None where there is none."""

    name: str
    data: bytes | None
    label: str
    said: dict[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m fgvc_utils.contest.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sources", nargs="+", help="files, folders, or names with * or {000..012}")
    parser.add_argument("folder", type=Path, help="where pictures and listings are written")
    parser.add_argument("--split", default="train", help="of files whose names do not say it")
    parser.add_argument("--label", default="", help="the column or field that holds the class")
    parser.add_argument("--image", default="", help="the column that holds the pictures")
    given = parser.parse_args(arguments)
    try:
        convert(given.sources, given.folder, given.split, given.label, given.image)
    except (ValueError, OSError, EOFError, zlib.error, tarfile.TarError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def convert(
    sources: Sequence[str], folder: Path, split: str = "train", label: str = "", image: str = ""
) -> dict[str, pd.DataFrame]:
    """Take the pictures out of shards, or list those that lie otherwise; see `relisting`.

    Called again it writes the same; pictures that are there stay.

    Parameters
    ----------
    sources
        Files, folders, or names with `*` or `{000..012}`.
    folder
        Where they are written.
    split
        Of files whose names, and whose folders' names, begin with no split.
    label, image
        The columns, or the field of WebDataset's json; found by their names and types where empty.

    Returns
    -------
    dict
        Split → its listing; of images that lie otherwise the name of a table → the table.

    Raises
    ------
    ValueError
        Nothing to take apart, or no label column; names the file and what it has. Also where
        another picture, or another listing, lies under a name that is to be written.
    """
    others = [Path(source) for source in sources if _lies_otherwise(Path(source))]
    listings = {}
    for other in others:
        found = relisting.relist(other, folder, split)
        for place in relisting.write(found, folder):
            print(f"written: {place}")
        listings |= found.tables
    files = _files_of([source for source in sources if Path(source) not in others])
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(shards.split_of(file, split), []).append(file)
    names = _folder_names(files)
    for each, of_split in by_split.items():
        rows, left_out = [], []
        for file in tqdm(of_split, each, mininterval=5, delay=5, ncols=80):
            below = f"{each}_images/{names[file]}" if len(of_split) > 1 else f"{each}_images"
            for sample in _samples(file, label, image, each):
                why = _why_not(sample, each)
                if why:
                    left_out.append((f"{file}: {sample.name}", why))
                    continue
                path = f"{below}/{sample.name}"
                _write(Path(folder) / path, sample.data)
                rows.append({"path": path, "label": sample.label} | sample.said)
        listings[each] = _write_listing(folder, each, rows, left_out)
    return listings


def _lies_otherwise(source: Path) -> bool:
    if source.is_dir():
        return not shards.shards_in(source)
    return source.is_file() and relisting.fits(source)


def _files_of(sources: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for source in sources:
        place = Path(source)
        if place.is_dir():
            files = shards.shards_in(place)
        elif place.is_file():
            files = [place]
        else:
            above = Path(place.anchor or ".")
            files = shards.named(above, str(place.relative_to(above)) if place.anchor else source)
        strangers = [file for file in files if not shards.holds_pictures(file)]
        if strangers or not files:
            what = f"{strangers[0]} holds" if strangers else f"{source} names"
            raise ValueError(
                f"{what} no pictures with labels: wanted are WebDataset's .tar files (each picture "
                "beside a .cls, .json or .txt of its name), .parquet and .arrow files with a "
                "column of pictures, folders of images in folders, or a .csv with a column a class"
            )
        found += files
    return list(dict.fromkeys(found))


def _folder_names(files: Sequence[Path]) -> dict[Path, str]:
    """A folder for each shard, named as it is, so that equal names inside never meet."""
    names, taken = {}, set()
    for file in files:
        stem = file.name[: -len(next(e for e in shards.KINDS if file.name.lower().endswith(e)))]
        name = stem if stem not in taken else f"{file.parent.name}-{stem}"
        while name in taken:
            name += "-again"
        taken.add(name)
        names[file] = name
    return names


def _why_not(sample: Sample, split: str) -> str:
    if not sample.data:
        return NO_PICTURE
    return NO_LABEL if not sample.label and not split.startswith("test") else ""


def _write(place: Path, data: bytes) -> None:
    """Write a picture whole, or leave the one that is there."""
    if place.is_file():
        if place.read_bytes() != data:
            raise ValueError(f"{place} is another picture; convert into an empty folder")
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{os.getpid()}.part")
    temporary.write_bytes(data)
    temporary.replace(place)


def _write_listing(
    folder: Path, split: str, rows: list[dict[str, str]], left_out: list[tuple[str, str]]
) -> pd.DataFrame:
    listing = pd.DataFrame(rows, dtype=object).fillna("")
    if listing.empty:
        such = f", such as {': '.join(left_out[0])}" if left_out else ""
        raise ValueError(f"{split}: no picture could be taken out{such}")
    text = listing.to_csv(index=False)
    relisting.refuse_other(Path(folder) / f"{split}.csv", text)
    with whole_file(Path(folder) / f"{split}.csv") as temporary:
        temporary.write_text(text, "utf-8", newline="")
    classes = listing["label"].replace("", None).nunique()
    print(f"{len(listing)} pictures of {classes} classes: {Path(folder) / f'{split}.csv'}")
    if left_out:
        place = Path(folder) / f"{split}_left_out.csv"
        with whole_file(place) as temporary:
            pd.DataFrame(left_out, columns=["image", "reason"]).to_csv(temporary, index=False)
        reasons = first_few(sorted({why for _, why in left_out}))
        print(f"{len(left_out)} were left out ({reasons}): {place}")
    return listing


def _samples(file: Path, label: str, image: str, split: str) -> Iterator[Sample]:
    of_archive = shards.kind_of(file) == shards.WEBDATASET
    found = _of_archive(file, label) if of_archive else _of_table(file, label, image, split)
    taken: set[str] = set()
    for number, sample in enumerate(found):
        name = sample.name or f"{number:07d}"
        if sample.data and "." not in PurePosixPath(name).name:
            name += f".{_ending(sample.data)}"
        if name.casefold() in taken:
            stem, dot, ending = name.rpartition(".")
            name = f"{stem}-{number}{dot}{ending}"
        taken.add(name.casefold())
        yield sample._replace(name=name)


def _ending(data: bytes) -> str:
    return ENDINGS.get(formats.name_of(data[:64]), "img")


# WebDataset.


def _of_archive(file: Path, label: str) -> Iterator[Sample]:
    """The samples of an archive: members of one name that follow each other."""
    key, parts = None, {}
    with tarfile.open(file) as archive:
        for member in archive:
            if not member.isfile():
                continue
            own, ending = shards.split_name(member.name)
            if own != key and parts:
                yield _sample(file, key, parts, label)
                parts = {}
            key = own
            parts[ending] = archive.extractfile(member).read()
    if parts:
        yield _sample(file, key, parts, label)


def _sample(file: Path, key: str, parts: dict[str, bytes], label: str) -> Sample:
    pure = PurePosixPath(key)
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"{file}: the name {key!r} leads out of the folder; nothing is written")
    picture = next((e for e in parts if e.rpartition(".")[2] in shards.PICTURES), "")
    said = _fields(file, key, parts["json"]) if "json" in parts else {}
    text = next(
        (parts[e].decode("utf-8").strip() for e in ("cls", "label", "class") if e in parts), ""
    )
    if label:
        text = said.get(label, "")
    text = text or next((said[name] for name in LABELS if said.get(name)), "")
    if not text and "json" not in parts and "txt" in parts:
        text = _text(parts["txt"])
    said = {name: value for name, value in said.items() if name not in ("path", "label")}
    name = f"{key.removeprefix('./')}.{picture}" if picture else key
    return Sample(name, parts.get(picture), text, {"key": key} | said)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").strip()


def _fields(file: Path, key: str, data: bytes) -> dict[str, str]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{file}: {key}.json is no valid JSON ({error})") from None
    return _plain(found) if isinstance(found, dict) else {}


def _plain(record: dict[str, Any]) -> dict[str, str]:
    """The numbers and texts of a record, as text."""
    return {
        str(name): str(value)
        for name, value in record.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    }


# Parquet and Arrow.


def _of_table(file: Path, label: str, image: str, split: str) -> Iterator[Sample]:
    schema = shards.schema_of(file)
    pictures, column = shards.picture_columns(schema), label or _label_column(schema)
    if image and image not in pictures:
        raise ValueError(f"{file}: {image!r} holds no pictures; {first_few(pictures)} do")
    if column not in schema.names and (label or not split.startswith("test")):
        others = [name for name in schema.names if name not in pictures]
        raise ValueError(
            f"{file}: which column is the class? It has {', '.join(others) or 'none'}: name it "
            "by --label"
        )
    image = image or pictures[0]
    names = _class_names(schema, column)
    for row in _rows(
        file, [name for name in schema.names if name == image or name not in pictures]
    ):
        stored = row.pop(image)
        stored = stored if isinstance(stored, dict) else {"bytes": stored}
        value = row.pop(column, None)
        said = {name: each for name, each in _plain(row).items() if name not in ("path", "label")}
        if names and isinstance(value, int):
            said |= {"label_index": str(value)}
        name = PurePosixPath(str(stored.get("path") or "").replace("\\", "/")).name
        name = "" if name in (".", "..") else name
        yield Sample(name, stored.get("bytes"), _label(value, names), said)


def _label(value: Any, names: list[str]) -> str:
    """The class that a value of a label column means; empty where it is none, or several."""
    if isinstance(value, list):
        return _label(value[0], names) if len(value) == 1 else ""
    if isinstance(value, int) and names:
        # The hub's test sets have -1 in the place of a label.
        return names[value] if 0 <= value < len(names) else ""
    return "" if value is None else str(value).strip()


def _label_column(schema: Any) -> str:
    named = [name for name in LABELS if name in schema.names]
    return named[0] if named else ""


def _class_names(schema: Any, column: str) -> list[str]:
    """What the numbers of a label column mean, as `datasets` notes it beside the schema."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return list(noted["info"]["features"][column]["names"])
    except (ValueError, KeyError, TypeError):
        return []


def _rows(file: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of a file, a few at a time."""
    import pyarrow
    import pyarrow.parquet

    if shards.kind_of(file) == shards.PARQUET:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(ROWS, columns=columns):
            yield from batch.to_pylist()
        return
    with pyarrow.OSFile(str(file)) as source:
        reader = shards.open_arrow(source)
        stream = hasattr(reader, "read_next_batch")
        batches = reader if stream else map(reader.get_batch, range(reader.num_record_batches))
        for batch in batches:
            for start in range(0, batch.num_rows, ROWS):
                yield from batch.select(columns).slice(start, ROWS).to_pylist()


if __name__ == "__main__":
    sys.exit(main())
