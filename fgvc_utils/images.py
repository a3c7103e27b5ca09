"""Decode whatever the web sends, once: a cache of upright RGB JPEGs of one size.

Everything after the cache reads plain JPEGs, so odd files are handled here and nowhere else.
"""

import hashlib
import io
import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from fgvc_utils import copies
from fgvc_utils.files import whole_file

CACHE_QUALITY = 95
LARGEST_PIXELS = 120_000_000


class UnreadableImage(ValueError):
    """A file that cannot be decoded as a whole picture."""


def decode(data: bytes) -> tuple[np.ndarray, str]:
    """Decode a file's bytes into an upright picture.

    Returns uint8 of shape (height, width, 3) and how the file stores it: Pillow's mode (`RGB`, `L`,
    `P`, `CMYK`, `RGBA` …), with ` animated` where it has several frames (the first is taken) and
    ` rotated` where EXIF turns it. Transparency is laid on white.

    Raises UnreadableImage with the reason: empty, not an image, cut short, or too large.
    """
    if not data:
        raise UnreadableImage("empty file")
    try:
        with warnings.catch_warnings():
            # A file over Pillow's own limit is judged by LARGEST_PIXELS instead; the other
            # warnings are of broken EXIF or palettes, which do not hinder decoding.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > LARGEST_PIXELS:
                    raise UnreadableImage(f"too large: {image.width} × {image.height} pixels")
                stored_as = image.mode
                if getattr(image, "n_frames", 1) > 1:
                    stored_as += " animated"
                if image.getexif().get(0x0112, 1) != 1:
                    stored_as += " rotated"
                image.load()
                upright = ImageOps.exif_transpose(image)
                return np.asarray(_on_white(upright)), stored_as
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        start = data[:40].decode("ascii", "replace").strip()
        raise UnreadableImage(f"not an image, it starts with {start!r}") from error
    except Exception as error:
        # Pillow's plugins raise almost anything on broken input; the file is listed, not used.
        raise UnreadableImage(f"{type(error).__name__} {error}".strip()) from error


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode in ("I", "I;16", "I;16B", "F"):
        grey = np.asarray(image, dtype=np.float64)
        spread = max(float(grey.max() - grey.min()), 1e-9)
        return Image.fromarray(np.uint8(255 * (grey - grey.min()) / spread)).convert("RGB")
    return image.convert("RGB")


def is_three_channel(stored_as: pd.Series) -> pd.Series:
    """Whether files are plain colour pictures, from what `decode` says of them."""
    return stored_as.str.split(" ").str[0].isin(["RGB", "YCbCr"])


def shrink(picture: np.ndarray, shorter_side: int) -> np.ndarray:
    """Resize uint8 (height, width, 3) so that its shorter side is `shorter_side`; never enlarge."""
    height, width = picture.shape[:2]
    scale = shorter_side / min(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def read_cached(path: Path) -> np.ndarray:
    """Read a picture of the cache as uint8 (height, width, 3)."""
    return simplejpeg.decode_jpeg(Path(path).read_bytes(), colorspace="RGB")


def _take_in(path: str, *, root: Path, cache: Path, side: int) -> dict:
    """Decode one raw image into the cache; the row says what it is or why it cannot be read."""
    row = {"path": path, "cached": "", "digest": "", "stored_as": "", "error": ""}
    row |= {"look": "", "look_mirrored": "", "colours": "", "width": 0, "height": 0}
    try:
        data = (root / path).read_bytes()
    except OSError as error:
        return row | {"error": f"cannot be opened: {error.strerror}"}
    row["digest"] = hashlib.sha256(data).hexdigest()
    # The name holds content and size, so a changed image or another size never meets an old file.
    name = f"{side}/{row['digest'][:2]}/{row['digest'][2:32]}.jpg"
    try:
        picture, row["stored_as"] = decode(data)
    except UnreadableImage as error:
        return row | {"error": str(error)}
    row["height"], row["width"] = picture.shape[:2]
    small = shrink(picture, side)
    if not (cache / name).is_file():
        jpeg = simplejpeg.encode_jpeg(
            np.ascontiguousarray(small), quality=CACHE_QUALITY, colorsubsampling="444"
        )
        with whole_file(cache / name) as temporary:
            temporary.write_bytes(jpeg)
    return row | {"cached": name, **copies.looks(Image.fromarray(small))}


def take_in(
    images: pd.DataFrame, root: Path, cache: Path, side: int, *, processes: int = 1
) -> pd.DataFrame:
    """Decode all raw images into the cache and say what each one is.

    `images` has the columns image_id and path (relative to `root`). The cache gets JPEGs whose
    shorter side is at most `side` px. Shows a progress bar.

    Returns a row an image in the same order: image_id, path, `cached` (relative to the cache, empty
    where unreadable), `digest` (SHA-256 of the raw bytes), `stored_as`, `error`, what
    `copies.looks` says of the decoded picture, and width and height in px of the raw one.
    """
    from tqdm import tqdm

    job = partial(_take_in, root=Path(root), cache=Path(cache), side=side)
    # Spawned: a notebook's kernel has threads, and a fork copies their locks in whatever state.
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    with pool, tqdm(total=len(images), desc="reading images", mininterval=5, ncols=80) as bar:
        rows = []
        for row in pool.map(job, images["path"], chunksize=16):
            rows.append(row)
            bar.update()
    taken = pd.DataFrame(rows)
    taken.insert(0, "image_id", images["image_id"].to_numpy())
    return taken
