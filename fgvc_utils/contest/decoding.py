"""Decode whatever the web sends: one file's bytes into an upright RGB picture.

Odd files are handled here and nowhere else.
"""

import io
import re
import warnings
from functools import cache

import numpy as np
import pandas as pd
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

LARGEST_PIXELS = 120_000_000
# A progressive JPEG of a camera or an editor has about ten scans; each costs a pass over the whole
# picture, so that a few kilobytes of scans could take hours.
MOST_SCANS = 100
# Pixels that are converted at once, so that a large picture is never there twice in full.
BAND_PIXELS = 4_000_000
# What a browser shows, and a few more. Others are left out: some of Pillow's readers start another
# program (PostScript), some take any bytes for a picture (TGA has no mark at its beginning).
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "JPEG2000", "ICO", "PPM")


class UnreadableImage(ValueError):
    """A file that cannot be decoded as a whole picture."""


def decode(data: bytes) -> tuple[np.ndarray, str]:
    """Decode a file's bytes into an upright picture; transparency is laid on white.

    Returns
    -------
    picture : np.ndarray
        uint8 (height, width, 3), RGB.
    stored_as : str
        How the file stores it: Pillow's mode (`RGB`, `L`, `P`, `CMYK`, `RGBA` …), followed by
        "animated" where it has several frames (the first is taken) and by "rotated" where EXIF
        turns it.

    Raises
    ------
    UnreadableImage
        With the reason: empty, not an image, cut short, or too large.
    """
    picture, stored_as, _ = _decode(data, None)
    return picture, stored_as


def decode_small(data: bytes, shorter_side: int) -> tuple[np.ndarray, str, tuple[int, int]]:
    """Decode as `decode` does and shrink as `shrink` does, the faster the larger the picture.

    A JPEG of at least four times the size is decoded at a half, a quarter or an eighth, still twice
    as large as wanted or more: on average that moves a shrunk picture by less than one grey level.

    Parameters
    ----------
    data
        The file's bytes.
    shorter_side
        The longest that the shorter side may be, in px.

    Returns
    -------
    picture : np.ndarray
        uint8 (height, width, 3), RGB, shrunk.
    stored_as : str
        How the file stores it, as from `decode`.
    size : tuple of int
        Height and width of the whole picture, in px.

    Raises
    ------
    UnreadableImage
        As `decode` does.
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
