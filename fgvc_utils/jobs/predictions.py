"""Predictions of networks on disk: logits, features and top-k, by image id.

A store is a folder. Every process that predicts writes a shard of its own; `index.json`, written
last, makes the store whole. Arrays are memory-mapped, so a reader takes only the rows it asks for.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fgvc_utils.core import heartbeat
from fgvc_utils.core.files import file_digest, full_disk_named, read_json, whole_file, write_json
from fgvc_utils.core.reading import read_parquet, refused_by_name

BLOCK = 4096
INDEX = "index.json"
SHARD = "shard.json"
AGAIN = "delete its folder and run the notebook that predicts again"


class ShardWriter:
    """Write one process's part of a store, in bounded memory.

    Arrays named by kind grow block by block; rows are in the order of `image_ids`. From here on
    the store is not whole, whatever it was before.
    """

    def __init__(self, folder: Path, shard: int, image_ids: Sequence[str]) -> None:
        self.folder = Path(folder) / _shard_name(shard)
        self.folder.mkdir(parents=True, exist_ok=True)
        (Path(folder) / INDEX).unlink(missing_ok=True)
        self.image_ids = list(image_ids)
        self._open: dict[str, np.memmap] = {}

    def write(self, kind: str, start: int, block: np.ndarray) -> None:
        """Put rows start … start + len(block) of an array; the first block fixes width and type.

        Space for the whole array is taken with the first block.

        Parameters
        ----------
        kind
            The array's name, such as `logits`.
        start
            The row that the block begins at.
        block
            Rows of the array, (rows, …), of any dtype.

        Raises
        ------
        NotEnoughSpace
            The disk has less; nothing of the array is left behind.
        """
        if kind not in self._open:
            shape = (len(self.image_ids), *block.shape[1:])
            path = self.folder / f"{kind}.npy.part"
            self._open[kind] = _reserved(path, block.dtype, shape)
        self._open[kind][start : start + len(block)] = block

    def close(self) -> None:
        """Flush the arrays, give them their names and write the image ids and all their digests."""
        files = {}
        for kind, array in self._open.items():
            array.flush()
            file = self.folder / f"{kind}.npy"
            (self.folder / f"{kind}.npy.part").replace(file)
            heartbeat.beat()
            files[file.name] = {"bytes": file.stat().st_size, "sha256": file_digest(file)}
        self._open = {}
        with whole_file(self.folder / "ids.parquet") as temporary:
            pd.DataFrame({"image_id": pd.Series(self.image_ids, dtype=object)}).to_parquet(
                temporary, index=False
            )
        # Of the ids themselves: what else a Parquet file holds differs from version to version.
        ids = hashlib.sha256("\n".join(self.image_ids).encode()).hexdigest()
        size = (self.folder / "ids.parquet").stat().st_size
        write_json(files | {"ids.parquet": {"bytes": size, "sha256": ids}}, self.folder / SHARD)


def _reserved(path: Path, kind: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """A new array on the disk, all its space taken.

    Without that a map's file has holes, and to write into one on a full disk kills the process.
    """
    try:
        with full_disk_named(path, math.prod(shape) * kind.itemsize):
            array = np.lib.format.open_memmap(path, "w+", kind, shape)
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return array


def finish_store(folder: Path, classes: Sequence[str], shards: int) -> None:
    """Declare a store whole: called once, after every process closed its shard.

    Its index then holds size and digest of every file.

    Parameters
    ----------
    folder
        The store.
    classes
        The classes of its logits or probabilities, in the order of their columns.
    shards
        How many there are.

    Raises
    ------
    FileNotFoundError
        Naming a shard that was not closed.
    """
    names = [_shard_name(number) for number in range(shards)]
    of = {name: read_json(Path(folder) / name / SHARD) for name in names}
    files = {f"{name}/{file}": each for name in names for file, each in sorted(of[name].items())}
    index = {"classes": list(classes), "shards": shards, "files": files}
    write_json(index, Path(folder) / INDEX)


def is_whole(folder: Path) -> bool:
    """Whether a store is finished and its files have the sizes that they were written with."""
    index = Path(folder) / INDEX
    return index.is_file() and not _cut_file(Path(folder), read_json(index))


def _cut_file(folder: Path, index: dict) -> str:
    """The first file of a store that is gone or has another size than the index says, or empty."""
    for name, written in index.get("files", {}).items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != written["bytes"]:
            return name
    return ""


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}"


class Store:
    """Read a store.

    Attributes
    ----------
    folder
        Where it lies.
    classes
        The classes of its logits or probabilities, in the order of their columns.
    image_ids
        The images that it holds, in stored order.

    Raises
    ------
    FileNotFoundError, ValueError
        Naming a folder that is not whole, or an image that is in it twice.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / INDEX).is_file():
            raise FileNotFoundError(f"{self.folder} holds no finished predictions")
        with refused_by_name(self.folder / INDEX, "the index of predictions", AGAIN):
            index = read_json(self.folder / INDEX)
            self.classes: list[str] = list(index["classes"])
            self._shards = [self.folder / _shard_name(number) for number in range(index["shards"])]
            cut = _cut_file(self.folder, index)
        if cut:
            raise ValueError(
                f"{self.folder / cut} is gone or has not the size it was written with: delete "
                f"{self.folder / INDEX} and run its stage again"
            )
        ids = [_ids_of(shard / "ids.parquet") for shard in self._shards]
        self._starts = np.cumsum([0] + [len(part) for part in ids])
        self.image_ids = pd.Index(pd.concat(ids, ignore_index=True).astype(object))
        self._arrays: dict[str, list[np.ndarray]] = {}
        self._kinds: list[str] | None = None
        if self.image_ids.has_duplicates:
            twice = self.image_ids[self.image_ids.duplicated()][0]
            raise ValueError(f"{self.folder} holds image {twice!r} twice")

    def kinds(self) -> list[str]:
        """Names of the arrays that are there."""
        if self._kinds is None:
            self._kinds = sorted(path.stem for path in self._shards[0].glob("*.npy"))
        return self._kinds

    def read(self, kind: str, image_ids: Sequence[str] | None = None) -> np.ndarray:
        """Rows of one array.

        Parameters
        ----------
        kind
            The array's name, such as `logits`.
        image_ids
            The images asked for; all by default.

        Returns
        -------
        ndarray (images, …)
            In the order of `image_ids`, else in stored order; the dtype it was written with.

        Raises
        ------
        KeyError
            Naming the first image, or the kind, that the store does not hold.
        """
        if image_ids is None:
            return np.concatenate(self._mapped(kind))
        return self.read_rows(kind, self.rows_of(image_ids))

    def rows_of(self, image_ids: Sequence[str]) -> np.ndarray:
        """The rows of images in the store, int64; raises KeyError naming one that does not."""
        rows = self.image_ids.get_indexer(pd.Index(image_ids, dtype=object))
        if (rows < 0).any():
            stranger = list(image_ids)[int(np.argmax(rows < 0))]
            raise KeyError(f"{self.folder} has no row of image {stranger!r}")
        return rows

    def read_rows(self, kind: str, rows: np.ndarray) -> np.ndarray:
        """Some rows of one array, by their places in the store."""
        arrays = self._mapped(kind)
        if len(arrays) == 1:
            return np.asarray(arrays[0])[rows]
        out = np.empty((len(rows), *arrays[0].shape[1:]), arrays[0].dtype)
        which = np.searchsorted(self._starts, rows, side="right") - 1
        for number, array in enumerate(arrays):
            mine = which == number
            out[mine] = array[rows[mine] - self._starts[number]]
        return out

    def digest(self, kind: str) -> str:
        """SHA-256 of the classes, the image ids and one array, as 64 hexadecimal digits."""
        arrays = self._mapped(kind)
        head = [self.classes, self.image_ids.tolist(), str(arrays[0].dtype), arrays[0].shape[1:]]
        digest = hashlib.sha256(json.dumps(head).encode())
        for array in arrays:
            for start in range(0, len(array), BLOCK):
                digest.update(array[start : start + BLOCK].tobytes())
        return digest.hexdigest()

    def _mapped(self, kind: str) -> list[np.ndarray]:
        if kind not in self._arrays:
            paths = [shard / f"{kind}.npy" for shard in self._shards]
            if not all(path.is_file() for path in paths):
                raise KeyError(f"{self.folder} holds no {kind}; it holds {', '.join(self.kinds())}")
            self._arrays[kind] = [_mapped_file(path) for path in paths]
        return self._arrays[kind]

    def __getstate__(self) -> dict:
        # A memory map that is pickled for another process would travel as a whole array.
        return self.__dict__ | {"_arrays": {}}

    def probabilities(
        self, image_ids: Sequence[str] | None = None, temperature: float = 1.0
    ) -> np.ndarray:
        """Softmax of the logits over the classes, float32 (images, classes)."""
        return softmax(self.read("logits", image_ids).astype(np.float32) / temperature)


def _ids_of(path: Path) -> pd.Series:
    return read_parquet(path, AGAIN)["image_id"]


def _mapped_file(path: Path) -> np.ndarray:
    with refused_by_name(path, "predictions", AGAIN):
        return np.load(path, mmap_mode="r", allow_pickle=False)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax along the last axis, safe for large values."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def label_ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes are scored above each image's own label: 0 means top-1.

    Ties count against the label, so a network that gives all classes the same finds no label.

    Parameters
    ----------
    logits
        Float (images, classes).
    labels
        Int (images,), columns of the logits.

    Returns
    -------
    ndarray, int32 (images,)
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    return ((logits >= own).sum(axis=1) - 1).astype(np.int32)


def same_classes(stores: Sequence[Store]) -> list[str]:
    """The class list that all stores share.

    Raises
    ------
    ValueError
        Naming two stores that differ, and the first class that only one has or that is
        elsewhere.
    """
    for store in stores[1:]:
        if store.classes != stores[0].classes:
            raise ValueError(
                f"{stores[0].folder} and {store.folder} differ in their classes "
                f"({len(stores[0].classes)} and {len(store.classes)}), first in "
                f"{_first_other_class(stores[0].classes, store.classes)!r}; train them on one "
                "contest"
            )
    return stores[0].classes


def _first_other_class(one: list[str], other: list[str]) -> str:
    """The first class that two different lists do not share, else the first that moved."""
    shared = set(one) & set(other)
    alone = [name for name in (*one, *other) if name not in shared]
    moved = [a for a, b in zip(one, other, strict=False) if a != b]
    return (alone or moved or one or other)[0]
