"""Decode whatever the web sends, once: a cache of upright RGB JPEGs of one size.

Everything after the cache reads plain JPEGs, so odd files are handled here and nowhere else.
"""

import hashlib
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
import pandas as pd
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from fgvc_utils.contest import copies
from fgvc_utils.core.files import in_gigabytes, require_space, whole_file
from fgvc_utils.core.processes import tied_pool
from fgvc_utils.core.reading import UnreadableFile, read_parquet

CACHE_QUALITY = 95
LARGEST_PIXELS = 120_000_000
LARGEST_BYTES = 512 * 2**20
# A progressive JPEG of a camera or an editor has about ten scans; each costs a pass over the whole
# picture, so that a few kilobytes of scans could take hours.
MOST_SCANS = 100
# Pixels that are converted at once, so that a large picture is never there twice in full.
BAND_PIXELS = 4_000_000
# What a browser shows, and a few more. Others are left out: some of Pillow's readers start another
# program (PostScript), some take any bytes for a picture (TGA has no mark at its beginning).
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "JPEG2000", "ICO", "PPM")
# Images whose small pictures are weighed before the others are read, and what is added for chance.
SAMPLE = 64
SAMPLE_MARGIN = 1.1
DISK_BLOCK = 4096
# Images that a process gets at once.
CHUNK = 16
# Finished rows that are kept in one file, and the version of their meaning: raise it with a change
# of what a row says of the same file.
KEPT_TOGETHER = 1000
ROWS_VERSION = 2


class UnreadableImage(ValueError):
    """A file that cannot be decoded as a whole picture."""


def decode(data: bytes) -> tuple[np.ndarray, str]:
    """Decode a file's bytes into an upright picture.

    Returns uint8 of shape (height, width, 3) and how the file stores it: Pillow's mode (`RGB`, `L`,
    `P`, `CMYK`, `RGBA` …), with ` animated` where it has several frames (the first is taken) and
    ` rotated` where EXIF turns it. Transparency is laid on white.

    Raises UnreadableImage with the reason: empty, not an image, cut short, or too large.
    """
    picture, stored_as, _ = _decode(data, None)
    return picture, stored_as


def decode_small(data: bytes, shorter_side: int) -> tuple[np.ndarray, str, tuple[int, int]]:
    """Decode as `decode` does and shrink as `shrink` does, the faster the larger the picture.

    A JPEG of at least four times the size is decoded at a half, a quarter or an eighth, still twice
    as large as wanted or more: on average that moves a shrunk picture by less than one grey level.

    Returns the small picture, how the file stores it, and height and width of the whole, in px.
    """
    picture, stored_as, size = _decode(data, shorter_side)
    return _resize(picture, _shrunk(*size, shorter_side)), stored_as, size


def _decode(data: bytes, shorter_side: int | None) -> tuple[np.ndarray, str, tuple[int, int]]:
    """A picture that may be smaller, how it is stored, and height and width of the whole."""
    if not data:
        raise UnreadableImage("empty file")
    try:
        with warnings.catch_warnings():
            # The warnings are of sizes below LARGEST_PIXELS, and of broken EXIF or palettes, which
            # do not hinder decoding.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                if image.width * image.height > LARGEST_PIXELS:
                    raise UnreadableImage(f"too large: {image.width} × {image.height} pixels")
                if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MOST_SCANS:
                    raise UnreadableImage(f"a JPEG of more than {MOST_SCANS} scans")
                stored_as = image.mode
                # Asked this way the frames of a GIF are not counted, which may be a million.
                if getattr(image, "is_animated", False):
                    stored_as += " animated"
                if image.getexif().get(0x0112, 1) != 1:
                    stored_as += " rotated"
                if image.format == "JPEG" and stored_as == "RGB":
                    picture = _plain_jpeg(data, image.height, image.width, shorter_side)
                    if picture is not None:
                        return picture, stored_as, (image.height, image.width)
                return _upright(image, stored_as, shorter_side)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        # Pillow's own limit comes first; its text holds the number of pixels.
        pixels = re.search(r"\d+", str(error))
        raise UnreadableImage(f"too large: {int(pixels[0]):,} pixels") from error
    except UnidentifiedImageError as error:
        start = data[:40].decode("ascii", "replace").strip()
        raise UnreadableImage(f"not an image, it starts with {start!r}") from error
    except Exception as error:
        # Pillow's plugins raise almost anything on broken input; the file is listed, not used.
        reason = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise UnreadableImage(reason) from error


def _upright(
    image: Image.Image, stored_as: str, shorter_side: int | None
) -> tuple[np.ndarray, str, tuple[int, int]]:
    """What Pillow makes of an open file, turned as EXIF says; smaller where that is enough."""
    image.load()
    turn = image.getexif().get(0x0112, 1)
    height, width = image.height, image.width
    picture = _in_bands(image, _fitting_factor(height, width, shorter_side))
    if turn == 1:
        return picture, stored_as, (height, width)
    upright = Image.fromarray(picture)
    upright.getexif()[0x0112] = turn
    picture = np.asarray(ImageOps.exif_transpose(upright))
    size = (width, height) if turn in (5, 6, 7, 8) else (height, width)
    return picture, stored_as, size


def _fitting_factor(height: int, width: int, shorter_side: int | None) -> int:
    """The largest of 1, 2, 4 and 8 that leaves a picture twice as large as it is wanted."""
    fitting = [f for f in (2, 4, 8) if shorter_side and min(height, width) // f >= 2 * shorter_side]
    return max(fitting, default=1)


def _in_bands(image: Image.Image, factor: int) -> np.ndarray:
    """A loaded picture as uint8 (height, width, 3) on white, at 1/factor of its size.

    Band by band: the conversion of a whole one would take several times its memory.
    """
    greys = _grey_range(image) if image.mode in GREY_MODES else (0.0, 1.0)
    rows = max(factor, BAND_PIXELS // image.width // factor * factor)
    bands = []
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        bands.append(np.asarray(_on_white(band, greys).reduce(factor)))
    return bands[0] if len(bands) == 1 else np.concatenate(bands)


@cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow can read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _plain_jpeg(
    data: bytes, height: int, width: int, shorter_side: int | None
) -> np.ndarray | None:
    """Decode a colour JPEG without Pillow, which gives the same pixels in twice the time.

    None where anything about it is odd: Pillow then says whether it can be read.
    """
    # Only these factors are plain means of neighbours; others shift the colours.
    factor = _fitting_factor(height, width, shorter_side)
    try:
        return simplejpeg.decode_jpeg(
            data, colorspace="RGB", min_height=-(-height // factor), min_width=-(-width // factor)
        )
    except ValueError:
        return None


GREY_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def _grey_range(image: Image.Image) -> tuple[float, float]:
    """The darkest grey of a picture of deep greys, and how far the brightest lies above it."""
    ends = []
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        grey = _finite(np.asarray(band))
        ends += [float(grey.min()), float(grey.max())]
    return min(ends), max(max(ends) - min(ends), 1e-9)


def _finite(grey: np.ndarray) -> np.ndarray:
    """Greys as float64; what is no number, or infinite, is 0."""
    return np.nan_to_num(grey.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _on_white(image: Image.Image, greys: tuple[float, float]) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode in GREY_MODES:
        darkest, spread = greys
        grey = (_finite(np.asarray(image)) - darkest) / spread
        return Image.fromarray(np.uint8(255 * grey)).convert("RGB")
    return image.convert("RGB")


def is_three_channel(stored_as: pd.Series) -> pd.Series:
    """Whether files are plain colour pictures, from what `decode` says of them."""
    return stored_as.str.split(" ").str[0].isin(["RGB", "YCbCr"])


def shrink(picture: np.ndarray, shorter_side: int) -> np.ndarray:
    """Resize uint8 (height, width, 3) so that its shorter side is `shorter_side`; never enlarge."""
    return _resize(picture, _shrunk(*picture.shape[:2], shorter_side))


def _shrunk(height: int, width: int, shorter_side: int) -> tuple[int, int]:
    """Height and width once the shorter side is at most `shorter_side`."""
    scale = shorter_side / min(height, width)
    if scale >= 1:
        return height, width
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if picture.shape[:2] == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC))


def read_cached(path: Path) -> np.ndarray:
    """Read a picture of the cache as uint8 (height, width, 3)."""
    return simplejpeg.decode_jpeg(Path(path).read_bytes(), colorspace="RGB")


def read_raw(root: Path, path: str) -> tuple[bytes, os.stat_result]:
    """The bytes of a raw image below `root`, and its `os.stat` from before it was read.

    Raises UnreadableImage where it cannot be opened, is no plain file, lies outside `root` (a link
    may lead there) or is larger than LARGEST_BYTES. A pipe or a device is never waited for.
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
    row = {"path": path, "cached": "", "digest": "", "stored_as": "", "error": ""}
    row |= {"look": "", "look_mirrored": "", "colours": "", "width": 0, "height": 0}
    return row | {"bytes": -1, "mtime_ns": -1, "written": 0, "cached_bytes": 0}


def _take_in(path: str, *, root: Path, cache: Path, side: int) -> dict:
    """Decode one raw image into the cache; the row says what it is or why it cannot be read."""
    row = _row(path)
    try:
        data, stat = read_raw(root, path)
    except UnreadableImage as error:
        return row | {"error": str(error)}
    row |= {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    row["digest"] = hashlib.sha256(data).hexdigest()
    # The name holds content and size, so a changed image or another size never meets an old file.
    name = f"{side}/{row['digest'][:2]}/{row['digest'][2:32]}.jpg"
    try:
        small, row["stored_as"], (row["height"], row["width"]) = decode_small(data, side)
    except UnreadableImage as error:
        return row | {"error": str(error)}
    if not _is_whole_jpeg(cache / name):
        jpeg = simplejpeg.encode_jpeg(
            np.ascontiguousarray(small), quality=CACHE_QUALITY, colorsubsampling="444"
        )
        with whole_file(cache / name) as temporary:
            temporary.write_bytes(jpeg)
        row["written"] = -(-len(jpeg) // DISK_BLOCK) * DISK_BLOCK
    row["cached_bytes"] = (cache / name).stat().st_size
    return row | {"cached": name, **copies.hashes(Image.fromarray(small))}


def take_in(
    images: pd.DataFrame, root: Path, cache: Path, side: int, *, processes: int = 1
) -> pd.DataFrame:
    """Decode all raw images into the cache and say what each one is.

    `images` has the columns image_id and path (relative to `root`). The cache gets JPEGs whose
    shorter side is at most `side` px. What is finished is kept below the cache, so an interrupted
    call goes on where it stopped and a repeated one reads only files that are new, or whose size or
    time of change is another; files that could not be read are tried again. Shows a progress bar.

    Returns a row an image in the same order: image_id, path, `cached` (relative to the cache, empty
    where unreadable), `digest` (SHA-256 of the raw bytes), `stored_as`, `error`, what
    `copies.hashes` says of the decoded picture, and width and height in px of the raw one.

    Raises `files.NotEnoughSpace`, an OSError, once a sample of the images says that the cache would
    outgrow its disk.
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
    taken = taken.drop(columns=["bytes", "mtime_ns", "written", "cached_bytes"], errors="ignore")
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
        "\n".join(f"{row['path']} {row['digest']} {row['mtime_ns']}" for row in good).encode()
    )
    with whole_file(folder / f"part-{digest.hexdigest()[:16]}.parquet") as temporary:
        pd.DataFrame(good).to_parquet(temporary, index=False)


def _finished(paths: pd.Index, root: Path, cache: Path, folder: Path) -> pd.DataFrame:
    """The kept rows of those paths whose files did not change and whose pictures are there."""
    parts = [part for file in sorted(folder.glob("part-*.parquet")) for part in _kept_part(file)]
    if not parts:
        return pd.DataFrame({"path": pd.Series([], dtype=object)})
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[rows["path"].isin(paths)]
    kept = rows[["path", "cached", "cached_bytes", "bytes", "mtime_ns"]].to_numpy()
    same = [
        _stamp(root / path) == stamp and _stamp(cache / cached)[:1] == [size]
        for path, cached, size, *stamp in kept
    ]
    return rows[np.array(same, bool)].drop_duplicates("path")


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


def _stamp(path: Path) -> list[int]:
    """Size in bytes and time of the last change in ns; empty where there is no such file."""
    try:
        stat = os.stat(path)
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]
