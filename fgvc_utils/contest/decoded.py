"""Pictures of the cache, decoded and resized once: raw pixels that a reader maps into memory.

Decoding a JPEG and resizing it costs more than everything that augmentation adds, and comes again
in every epoch. Raw pixels of one size take about ten times the room on disk, and nothing to read.

Below the cache, `decoded/<side>/` (where another interpolation than bilinear resized them,
`decoded/<side>-<interpolation>/`) holds shards: `shard-<name>.bin`, the pixels of some pictures one
after another, and `shard-<name>.parquet`, written after it, which says where each lies. The name
follows from the pictures it holds, so several runs may add to one folder, even at once.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import simplejpeg
from PIL import Image

from fgvc_utils.contest.decoding import cut_middle, middle
from fgvc_utils.contest.images import read_cached
from fgvc_utils.core.files import require_space, time_in, whole_file
from fgvc_utils.core.processes import tied_pool
from fgvc_utils.core.reading import UnreadableFile, read_parquet

LARGEST_SHARD = 512 * 2**20
SMALLEST_SHARD = 16 * 2**20
# Bytes that hold the header of a JPEG of the cache, which has no EXIF data.
HEADER = 4096
# A part of a shard that nobody wrote to for so long was left by a process that was killed.
LEFT_AFTER = 3600

COLUMNS = ["file", "offset", "height", "width"]

BILINEAR = "bilinear"
RESAMPLING = {BILINEAR: Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def decoded_folder(cache: Path, side: int, interpolation: str = BILINEAR) -> Path:
    """Where the decoded pictures of one shorter side lie, resized by `bilinear` or `bicubic`."""
    name = str(side) if interpolation == BILINEAR else f"{side}-{interpolation}"
    return Path(cache) / "decoded" / name


def resized(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width once the shorter side is `side`; torchvision's `Resize` rounds this way.

    Of a strip the middle counts.
    """
    height, width = middle(height, width)
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def resize(picture: np.ndarray, side: int, interpolation: str = BILINEAR) -> np.ndarray:
    """Resize uint8 (height, width, 3) so that its shorter side is `side`, enlarging too.

    With antialiasing: torchvision's `v2.Resize(side, interpolation, antialias=True)` of the uint8
    tensor gives the same to one grey level.
    """
    height, width = resized(*picture.shape[:2], side)
    picture = cut_middle(picture)
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), RESAMPLING[interpolation]))


def needed_bytes(
    files: Sequence[str], cache: Path, side: int, interpolation: str = BILINEAR
) -> int:
    """Bytes that `decode_once` would add to the disk for these files; exact.

    Reads the headers of the JPEGs that are not decoded yet.

    Parameters
    ----------
    files, cache, side, interpolation
        As for `decode_once`.

    Raises
    ------
    ValueError or FileNotFoundError
        Naming a file that lies outside the cache, is gone or is no JPEG.
    """
    missing = _missing(files, decoded_folder(cache, side, interpolation))
    return int(_byte_counts(missing, Path(cache), side).sum())


def decode_once(
    files: Sequence[str],
    cache: Path,
    side: int,
    interpolation: str = BILINEAR,
    *,
    processes: int = 1,
) -> Path:
    """Decode pictures of the cache and keep their pixels at one size; returns the folder.

    Only what is not there yet is decoded, so an interrupted call goes on where it stopped;
    half-written shards are ignored. Shows a progress bar.

    Parameters
    ----------
    files
        JPEGs below `cache`, absolute or relative to it.
    cache
        The folder of cached pictures.
    side
        The shorter side in px; in training round(ratio × size).
    interpolation
        `bilinear` or `bicubic`, by which they are resized.
    processes
        How many processes decode.

    Returns
    -------
    Path
        The folder of the decoded pictures, which `Decoded` reads.

    Raises
    ------
    ValueError or FileNotFoundError
        Before any work, naming a file that lies outside the cache, is gone or is no JPEG.
    NotEnoughSpace
        An OSError: the disk has not the space.
    """
    from tqdm import tqdm

    cache = Path(cache)
    folder = decoded_folder(cache, side, interpolation)
    missing = _missing(files, folder)
    sizes = _byte_counts(missing, cache, side)
    require_space(
        folder,
        int(sizes.sum()),
        f"{len(missing)} decoded pictures of {side} px",
        "put the cache on a larger disk, or train from the JPEGs without decoding them first",
    )
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    pieces = _cut(missing, sizes, processes)
    job = partial(_write_shard, cache=cache, side=side, interpolation=interpolation)
    if not missing:
        return folder
    with tqdm(total=len(missing), desc="decoding", mininterval=5, ncols=80) as bar:
        for done in _each(job, pieces, processes):
            bar.update(done)
    return folder


def bytes_there(cache: Path) -> int:
    """Bytes of all decoded pictures of a cache, of whatever side."""
    return sum(file.stat().st_size for file in Path(cache).glob("decoded/*/shard-*.bin"))


class Decoded:
    """Read decoded pictures of one side; `folder` is what `decode_once` returned.

    Knows the pictures that are there when it is first asked for one. Nothing is read before that,
    and what is pickled for another process is the list of pictures, never their pixels.

    Raises
    ------
    FileNotFoundError
        Where the folder is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder} holds no decoded pictures: run decode_once")
        self._cache = self.folder.absolute().parent.parent
        self._files: np.ndarray | None = None
        self._maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        self._open()
        return len(self._files)

    def __contains__(self, file: str) -> bool:
        return self._place(file) >= 0

    def read(self, file: str) -> np.ndarray:
        """A picture as uint8 (height, width, 3): a view into the map, which cannot be written to.

        Parameters
        ----------
        file
            A JPEG of the cache, absolute or relative to the cache.

        Raises
        ------
        KeyError
            Naming the file and the folder, where it was not decoded.
        """
        place = self._place(file)
        if place < 0:
            raise KeyError(f"{self.folder} holds no picture of {file}; decode it by decode_once")
        shard, start = int(self._shard[place]), int(self._offset[place])
        height, width = self._shape[place].tolist()
        if shard not in self._maps:
            # A plain view of the map: slicing a memmap costs more than the map saves.
            mapped = np.memmap(self.folder / f"{self._names[shard]}.bin", np.uint8, "r")
            self._maps[shard] = mapped.view(np.ndarray)
        return self._maps[shard][start : start + height * width * 3].reshape(height, width, 3)

    def _place(self, file: str) -> int:
        self._open()
        name = _relative(file, self._cache).encode()
        if not len(self._files) or len(name) > self._files.itemsize:
            return -1
        # Of the array's own type: else the whole array is converted for each search.
        wanted = np.array(name, self._files.dtype)
        place = int(np.searchsorted(self._files, wanted))
        there = place < len(self._files) and self._files[place] == wanted
        return place if there else -1

    def _open(self) -> None:
        """Sorted arrays, not a dict: half a million pictures take 30 MB in each process."""
        if self._files is not None:
            return
        indices = list(_whole_shards(self.folder))
        self._names = [path.stem for path, _ in indices]
        index = _joined([index for _, index in indices])
        files = index["file"].to_numpy(object).astype(bytes)
        order = np.argsort(files, kind="stable")
        shards = np.repeat(np.arange(len(indices), dtype=np.int32), [len(i) for _, i in indices])
        self._shard = shards[order]
        self._offset = index["offset"].to_numpy(np.int64)[order]
        self._shape = index[["height", "width"]].to_numpy(np.int32)[order]
        self._files = files[order]

    def __getstate__(self) -> dict:
        # A memory map that is pickled for another process would travel as a whole array.
        return self.__dict__ | {"_maps": {}}


def _relative(file: str, cache: Path) -> str:
    """A file's name within the cache; an absolute one that lies elsewhere stays as it is."""
    return str(file).removeprefix(f"{cache}{os.sep}")


def _joined(indices: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(indices, ignore_index=True) if indices else pd.DataFrame(columns=COLUMNS)


def _whole_shards(folder: Path) -> Iterator[tuple[Path, pd.DataFrame]]:
    """The shards whose data are all there: the path and the table of each index."""
    for path in sorted(folder.glob("shard-*.parquet")):
        data = path.with_suffix(".bin")
        try:
            index = read_parquet(path)
        except (OSError, UnreadableFile):
            # Not written by whole_file, or the disk lost it: what it tells of is decoded anew.
            continue
        if data.is_file() and data.stat().st_size == _length(index):
            yield path, index


def _length(index: pd.DataFrame) -> int:
    return int((index["height"].astype(np.int64) * index["width"] * 3).sum())


def _missing(files: Sequence[str], folder: Path) -> list[str]:
    """Names within the cache that have no decoded picture yet, each once, in their order."""
    cache = folder.absolute().parent.parent
    names = pd.Index([_relative(file, cache) for file in files], dtype=object).unique()
    strangers = [name for name in names if os.path.isabs(name)]
    if strangers:
        raise ValueError(f"{strangers[0]} does not lie in the cache {cache}; name its own JPEGs")
    indices = [index for _, index in _whole_shards(folder)]
    there = _joined(indices)["file"].astype(object)
    return names[~names.isin(there)].tolist()


def _byte_counts(names: list[str], cache: Path, side: int) -> np.ndarray:
    """Bytes of each decoded picture, int64, from the headers of the JPEGs."""
    from tqdm import tqdm

    bar = tqdm(names, "reading sizes", mininterval=5, delay=5, ncols=80, leave=False)
    return np.array([_byte_count(cache / name, side) for name in bar], np.int64)


def _byte_count(path: Path, side: int) -> int:
    with open(path, "rb") as file:
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(file.read(HEADER))
        except ValueError as error:
            raise ValueError(
                f"{path} is no JPEG of the cache ({error}); delete it and run 01_noise again"
            ) from error
    height, width = resized(height, width, side)
    return height * width * 3


def _cut(names: list[str], sizes: np.ndarray, processes: int) -> list[list[str]]:
    """Cut into pieces of bounded size, some for each process, each of at least one picture."""
    bound = int(sizes.sum()) // (4 * processes)
    bound = max(SMALLEST_SHARD, min(LARGEST_SHARD, bound))
    pieces: list[list[str]] = []
    room = 0
    for name, size in zip(names, sizes.tolist(), strict=True):
        if size > room:
            pieces.append([])
            room = bound
        pieces[-1].append(name)
        room -= size
    return pieces


def _write_shard(names: list[str], *, cache: Path, side: int, interpolation: str) -> int:
    """Write one shard, the index after its data; gives the number of its pictures."""
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    data = decoded_folder(cache, side, interpolation) / f"shard-{digest[:16]}.bin"
    rows = []
    offset = 0
    with whole_file(data) as temporary, open(temporary, "wb") as out:
        for name in names:
            picture = np.ascontiguousarray(resize(_decode(cache / name), side, interpolation))
            height, width = picture.shape[:2]
            rows.append((name, offset, height, width))
            offset += out.write(picture)
    with whole_file(data.with_suffix(".parquet")) as temporary:
        pd.DataFrame(rows, columns=COLUMNS).to_parquet(temporary, index=False)
    return len(names)


def _decode(path: Path) -> np.ndarray:
    try:
        return read_cached(path)
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be decoded ({error}); delete it and run 01_noise again"
        ) from error


def _each(
    job: Callable[[list[str]], int], pieces: list[list[str]], processes: int
) -> Iterable[int]:
    """What `job` gives for each piece, in any number of spawned processes."""
    if processes == 1 or len(pieces) < 2:
        yield from map(job, pieces)
        return
    with tied_pool(min(processes, len(pieces))) as pool:
        yield from pool.map(job, pieces)


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left: parts of files, and data without their index.

    An index without all its data goes too. What was written to of late may be another run's work.
    """
    now = time_in(folder)
    for path in [*folder.glob(".shard-*.part.*"), *folder.glob("shard-*.bin")]:
        named = path.name.startswith("shard-") and path.with_suffix(".parquet").is_file()
        with suppress(FileNotFoundError):
            if not named and now - path.stat().st_mtime > LEFT_AFTER:
                path.unlink()
    # Listed before they are judged: another run's newest shard must not look like a broken one.
    indices = list(folder.glob("shard-*.parquet"))
    whole = {path for path, _ in _whole_shards(folder)}
    for path in indices:
        if path not in whole:
            path.unlink(missing_ok=True)
            path.with_suffix(".bin").unlink(missing_ok=True)
