"""The cleaned labels as Parquet files with their pictures, which Hugging Face `datasets` reads.

They are written by pyarrow alone; `datasets.load_dataset(FOLDER)` finds the splits by the names of
the files and what a column means by the schema's metadata.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from fgvc_utils.core.files import require_space
from fgvc_utils.sharing.pictures import TEST, Options, bytes_of, exported_pictures
from fgvc_utils.sharing.runs import FinishedRun

# Bytes of pictures in a file, and in what a reader takes at once.
SHARD = 500 * 10**6
ROW_GROUP = 30 * 10**6
# Columns beside the picture and its class.
TEXTS = ("image_id", "path", "given", "by", "cause", "group")
UNLABELLED = -1


def write_parquet_pictures(run: FinishedRun, options: Options, folder: Path) -> int:
    """Write `data/<split>-….parquet`, and a card, README.md, which names splits and features.

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
        How many pictures there are; test images have the label -1.

    Raises
    ------
    FileNotFoundError
        Raw images are gone.
    NotEnoughSpace
        The disk has less space than the pictures take.
    """
    found = exported_pictures(run, options)
    found["bytes"] = bytes_of(found["place"])
    require_space(
        folder,
        int(found["bytes"].sum()),
        f"{len(found)} pictures as Parquet",
        "export the prepared pictures, by --pictures prepared, or name the other formats alone",
    )
    schema = _schema(run.classes)
    known = run.table.loc[found.index, ["given", "by", "cause", "group", "fold"]]
    found = found.join(known)
    number = {name: place for place, name in enumerate(run.classes)}
    labels = found["label"].map(number).where(found["split"] != TEST, UNLABELLED)
    found["label"] = labels.astype("int64")
    sizes = {}
    for split, rows in found.groupby("split", sort=True):
        shards = _cut(rows, SHARD)
        for place, shard in enumerate(shards):
            file = folder / "data" / f"{split}-{place:05d}-of-{len(shards):05d}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            _write(shard, schema, file)
        sizes[str(split)] = len(rows)
    (folder / "README.md").write_text(_card(run, sizes), "utf-8")
    return len(found)


def _features(classes: list[str]) -> dict[str, dict]:
    """The columns as `datasets` describes them."""
    text = {"dtype": "string", "_type": "Value"}
    return {
        "image": {"_type": "Image"},
        "label": {"names": classes, "_type": "ClassLabel"},
        **dict.fromkeys(TEXTS, text),
        "fold": {"dtype": "int64", "_type": "Value"},
    }


def _schema(classes: list[str]) -> pa.Schema:
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [("image", picture), ("label", pa.int64())]
    fields += [(name, pa.string()) for name in TEXTS]
    described = json.dumps({"info": {"features": _features(classes)}})
    return pa.schema([*fields, ("fold", pa.int64())]).with_metadata({"huggingface": described})


def _cut(rows: pd.DataFrame, size: int) -> list[pd.DataFrame]:
    """Rows in pieces of about so many bytes of pictures, each of at least one."""
    ends = rows["bytes"].cumsum().to_numpy()
    piece = (ends - rows["bytes"].to_numpy()) // size
    return [part for _, part in rows.groupby(piece, sort=True)]


def _write(rows: pd.DataFrame, schema: pa.Schema, file: Path) -> None:
    with pq.ParquetWriter(file, schema, compression="none") as writer:
        for part in _cut(rows, ROW_GROUP):
            # One group at a time: a file of half a gigabyte never lies in memory as a whole.
            writer.write_table(pa.table(dict(_columns(part)), schema=schema), len(part))


def _columns(rows: pd.DataFrame) -> Iterator[tuple[str, list]]:
    files = zip(rows["place"], rows["name"], strict=True)
    yield "image", [{"bytes": Path(place).read_bytes(), "path": name} for place, name in files]
    yield "label", rows["label"].tolist()
    for name in TEXTS:
        yield name, rows[name].tolist()
    yield "fold", rows["fold"].astype(np.int64).tolist()


def _card(run: FinishedRun, sizes: dict[str, int]) -> str:
    """A card in the form of Hugging Face: splits in its head, and what is what below."""
    files = [{"split": split, "path": f"data/{split}-*"} for split in sizes]
    head = {"configs": [{"config_name": "default", "data_files": files}]}
    head |= {"task_categories": ["image-classification"], "pretty_name": run.cfg.run}
    counts = "\n".join(f"| {split} | {count} |" for split, count in sizes.items())
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n"
        f"# {run.cfg.run}: cleaned labels\n\n"
        f"The kept images of the table {run.table_name} under the labels in force, "
        f"{len(run.classes)} classes. `given` is the label an image came with, `by` who decided "
        "(web: as it came), `cause` why, `group` is shared by copies of a picture. "
        "Test images have the label -1.\n\n"
        f"| split | images |\n|---|---|\n{counts}\n\n"
        '```python\nimport datasets\n\nsplits = datasets.load_dataset("this folder")\n```\n'
    )
