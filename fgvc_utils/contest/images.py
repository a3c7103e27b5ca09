"""The cache of the raw images: upright RGB JPEGs of one size, each decoded once.

Everything after the cache reads plain JPEGs.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
import pandas as pd
import simplejpeg
from PIL import Image

from fgvc_utils.contest import copies, file_states
from fgvc_utils.contest.decoding import UnreadableImage, read_picture
from fgvc_utils.core.files import in_gigabytes, require_space, whole_file
from fgvc_utils.core.processes import tied_pool
from fgvc_utils.core.reading import UnreadableFile, read_parquet

CACHE_QUALITY = 95
LARGEST_BYTES = 512 * 2**20
# Images whose small pictures are weighed before the others are read, and what is added for chance.
SAMPLE = 64
SAMPLE_MARGIN = 1.1
DISK_BLOCK = 4096
# Images that a process gets at once.
CHUNK = 16
# Finished rows that are kept in one file, and the version of their meaning: raise it with a change
# of what a row says of the same file.
KEPT_TOGETHER = 1000
ROWS_VERSION = 3


def read_cached(path: Path) -> np.ndarray:
    """Read a picture of the cache as uint8 (height, width, 3)."""
    return simplejpeg.decode_jpeg(Path(path).read_bytes(), colorspace="RGB")


def read_raw(root: Path, path: str) -> tuple[bytes, os.stat_result]:
    """The bytes of a raw image below `root`, and its `os.stat` from before it was read.

    A pipe or a device is never waited for.

    Parameters
    ----------
    root
        The folder of raw images.
    path
        The image's path below it.

    Raises
    ------
    UnreadableImage
        It cannot be opened, is no plain file, lies outside `root` (a link may lead there) or is
        larger than LARGEST_BYTES.
    """
    place = os.path.join(root, path)
    real_root = os.path.realpath(root)
    try:
        # A name that no text can hold is listed with its odd bytes spelt out, and is not found.
        real = os.path.realpath(place)
        if os.path.commonpath([real, real_root]) != real_root:
            raise UnreadableImage(f"lies outside the data root, at {real}: copy it into it")
        if not S_ISREG(os.stat(place).st_mode):
            raise UnreadableImage("is no plain file, but a folder, a pipe or a device")
        with open(place, "rb") as file:
            stat = os.fstat(file.fileno())
            if stat.st_size > LARGEST_BYTES:
                raise UnreadableImage(f"too large: {in_gigabytes(stat.st_size)}")
            return file.read(LARGEST_BYTES + 1), stat
    except (OSError, ValueError) as error:
        if isinstance(error, UnreadableImage):
            raise
        reason = getattr(error, "strerror", "") or str(error)
        spelt = " (its name holds bytes that are no text; rename it)" if "\\" in path else ""
        raise UnreadableImage(f"cannot be opened: {reason}{spelt}") from error


def _row(path: str) -> dict:
    """The row of an image that was not read."""
    row = {"path": path, "cached": "", "digest": "", "stored_as": "", "error": "", "note": ""}
    row |= {"look": "", "look_mirrored": "", "colours": "", "width": 0, "height": 0}
    row |= dict.fromkeys([*file_states.STATE, file_states.LOOKED], -1)
    return row | {"written": 0, "cached_bytes": 0}


def _take_in(path: str, *, root: Path, cache: Path, side: int) -> dict:
    """Decode one raw image into the cache; the row says what it is or why it cannot be read."""
    row = _row(path)
    try:
        data, stat = read_raw(root, path)
    except UnreadableImage as error:
        return row | {"error": str(error)}
    row |= zip(file_states.STATE, file_states.as_state(stat), strict=True)
    row[file_states.LOOKED] = time.time_ns()
    row["digest"] = hashlib.sha256(data).hexdigest()
    try:
        picture = read_picture(data, side)
    except UnreadableImage as error:
        return row | {"error": str(error)}
    row |= {"stored_as": picture.stored_as, "error": picture.lacks, "note": picture.note}
    row["height"], row["width"] = picture.size
    # The name holds content, size and the decoding, so none of them changed meets an old file.
    version = f"-{picture.version}" if picture.version > 1 else ""
    name = f"{side}/{row['digest'][:2]}/{row['digest'][2:32]}{version}.jpg"
    if not _is_whole_jpeg(cache / name):
        jpeg = simplejpeg.encode_jpeg(
            np.ascontiguousarray(picture.pixels), quality=CACHE_QUALITY, colorsubsampling="444"
        )
        with whole_file(cache / name) as temporary:
            temporary.write_bytes(jpeg)
        row["written"] = -(-len(jpeg) // DISK_BLOCK) * DISK_BLOCK
    row["cached_bytes"] = (cache / name).stat().st_size
    if picture.lacks:
        # Half a picture is predicted where it is a test image, and is nobody's copy.
        return row | {"cached": name}
    return row | {"cached": name, **copies.hashes(Image.fromarray(picture.pixels))}


def take_in(
    images: pd.DataFrame, root: Path, cache: Path, side: int, *, processes: int = 1
) -> pd.DataFrame:
    """Decode all raw images into the cache and say what each one is.

    What is finished is kept below the cache, so an interrupted call goes on where it stopped and a
    repeated one decodes only files that are new or hold another content (see `file_states`); files
    that could not be read are tried again. Shows a progress bar.

    Parameters
    ----------
    images
        A row an image: columns image_id and path, relative to `root`.
    root
        The folder of raw images.
    cache
        The folder that gets the JPEGs.
    side
        The longest that a cached picture's shorter side may be, in px.
    processes
        How many processes read.

    Returns
    -------
    pd.DataFrame
        A row an image in the same order: image_id, path, `cached` (relative to the cache, empty
        where unreadable), `digest` (SHA-256 of the raw bytes), `stored_as`, `error`, the columns of
        `copies.hashes` of the decoded picture, and width and height in px of the raw one.

    Raises
    ------
    NotEnoughSpace
        An OSError, once a sample of the images shows that the cache would outgrow its disk.
    """
    from tqdm import tqdm

    root, cache = Path(root), Path(cache)
    paths = pd.Index(images["path"], dtype=object)
    folder = _rows_folder(root, cache, side)
    finished = _finished(paths, root, cache, folder)
    todo = paths.difference(pd.Index(finished["path"], dtype=object), sort=False)
    sample = todo[:: max(1, len(todo) // SAMPLE)]
    rest = todo.difference(sample, sort=False)
    job = partial(_take_in, root=root, cache=cache, side=side)
    bar = tqdm(total=paths.nunique(), desc="reading images", mininterval=5, ncols=80)
    with Readers(processes) as pool, bar:
        bar.update(len(finished))
        rows = _each(pool, job, sample, folder, bar)
        if len(rest):
            expected = np.mean([row["written"] for row in rows]) * len(rest)
            require_space(
                cache,
                round(SAMPLE_MARGIN * expected),
                f"{len(rest)} pictures of at most {side} px",
                "or choose a smaller cache_side or, for `outputs`, a larger disk",
            )
            rows += _each(pool, job, rest, folder, bar)
    frames = [frame for frame in (finished, pd.DataFrame(rows)) if len(frame)]
    taken = pd.concat(frames) if frames else finished
    taken = taken.set_index("path", drop=False).loc[paths].reset_index(drop=True)
    own = [*file_states.STATE, file_states.LOOKED, "written", "cached_bytes"]
    taken = taken.drop(columns=own, errors="ignore")
    taken.insert(0, "image_id", images["image_id"].to_numpy())
    return taken


class Readers:
    """Processes that take images in; one that dies of its image takes nothing else with it.

    A decoder may crash on a file that nobody foresaw, or be ended for the memory that it took. Then
    the next images are read one by one, and the one that ends its process is listed as such.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Readers":
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def rows(self, job: Callable[[str], dict], paths: Sequence[str]) -> Iterator[dict]:
        """What `job` says of each path, in their order."""
        paths, done = list(paths), 0
        while done < len(paths):
            try:
                for row in self._begun(self.processes).map(job, paths[done:], chunksize=CHUNK):
                    done += 1
                    yield row
            except BrokenProcessPool:
                # Whichever process died, its images are among these, or further on.
                self._end()
                some = paths[done : done + CHUNK * self.processes]
                for path in some:
                    done += 1
                    yield self._alone(job, path)
                self._end()

    def _alone(self, job: Callable[[str], dict], path: str) -> dict:
        try:
            return self._begun(1).submit(job, path).result()
        except BrokenProcessPool:
            self._end()
            return _row(path) | {"error": "its decoder crashed, or took too much memory"}

    def _begun(self, processes: int) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = tied_pool(processes)
        return self._pool

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool = None


def _each(
    pool: Readers, job: Callable[[str], dict], paths: pd.Index, folder: Path, bar: Any
) -> list[dict]:
    """The rows of all paths, in their order; what is finished is kept, whatever stops the work."""
    rows: list[dict] = []
    kept = 0
    try:
        for row in pool.rows(job, paths):
            rows.append(row)
            bar.update()
            if len(rows) - kept == KEPT_TOGETHER:
                _keep(rows[kept:], folder)
                kept = len(rows)
    finally:
        _keep(rows[kept:], folder)
    return rows


def _rows_folder(root: Path, cache: Path, side: int) -> Path:
    """Where the finished rows of one folder of raw images and one side are kept."""
    root_digest = hashlib.sha256(str(root.absolute()).encode()).hexdigest()
    return cache / "rows" / f"{side}-{root_digest[:16]}-v{ROWS_VERSION}"


def _keep(rows: list[dict], folder: Path) -> None:
    """Write finished rows as one part, named by what it holds; errors are not kept."""
    good = [row for row in rows if not row["error"]]
    if not good:
        return
    digest = hashlib.sha256(
        "\n".join(f"{row['path']} {row['digest']} {_when(row)}" for row in good).encode()
    )
    with whole_file(folder / f"part-{digest.hexdigest()[:16]}.parquet") as temporary:
        pd.DataFrame(good).to_parquet(temporary, index=False)


def _when(row: dict) -> list[int]:
    return [row[name] for name in (*file_states.STATE, file_states.LOOKED)]


def _finished(paths: pd.Index, root: Path, cache: Path, folder: Path) -> pd.DataFrame:
    """The kept rows of those paths whose files did not change and whose pictures are there."""
    parts = [part for file in sorted(folder.glob("part-*.parquet")) for part in _kept_part(file)]
    if not parts:
        return pd.DataFrame({"path": pd.Series([], dtype=object)})
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[rows["path"].isin(paths)].reset_index(drop=True)
    # Rows of an earlier version lack some, which puts them in doubt.
    rows[file_states.CLOCKS] = rows.reindex(columns=file_states.CLOCKS).fillna(-1).astype("int64")
    there = [_size(cache / c) == n for c, n in rows[["cached", "cached_bytes"]].to_numpy()]
    rows = rows[np.array(there, bool)].reset_index(drop=True)
    now = file_states.states(root, rows["path"])
    codes = file_states.compared(rows, now)
    same = rows[codes == file_states.SAME].drop_duplicates("path")
    # An image has a row for each content that it ever had.
    doubtful = (codes == file_states.DOUBT) & ~rows["path"].isin(same["path"]).to_numpy()
    rows, now = rows[doubtful], now[doubtful]
    held = file_states.settled(root, rows, now, codes[doubtful]) == file_states.SAME
    states = [*file_states.STATE, file_states.LOOKED]
    found = rows[held].assign(**now.loc[held, states]).drop_duplicates("path")
    _keep(found.to_dict("records"), folder)
    return pd.concat([same, found]) if len(found) else same


def _kept_part(file: Path) -> list[pd.DataFrame]:
    """One part of the kept rows; nothing where the file is spoilt, so that its images are read."""
    try:
        part = read_parquet(file)
    except UnreadableFile:
        return []
    whole = {"path", "cached", "bytes", "mtime_ns", "error"} <= set(part)
    return [part] if whole else []


def _is_whole_jpeg(path: Path) -> bool:
    """Whether there is a JPEG that ends as JPEGs do: a cut one does not."""
    with suppress(OSError), open(path, "rb") as file:
        file.seek(-2, os.SEEK_END)
        return file.read() == b"\xff\xd9"
    return False


def _size(path: Path) -> int:
    """Size in bytes; -1 where there is no such file."""
    return file_states.state_of(path)[0]
