"""Decode whatever the web sends: one file's bytes into an upright sRGB picture.

Odd files are handled here, in `formats` (what is no picture), `jpeg` (what is missing of one) and
`colours`, and nowhere else.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import simplejpeg
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from fgvc_utils.contest import colours, formats, jpeg

LARGEST_PIXELS = 120_000_000
# Some decoders hold a picture several times in full: so many pixels take 1 GB with them.
LARGEST_OF = {"WEBP": 40_000_000, "AVIF": 40_000_000, "JPEG2000": 25_000_000, "TIFF": 60_000_000}
# Above so many pixels a JPEG is decoded smaller where that is enough, also by Pillow.
LARGE_JPEG = 50_000_000
# A progressive JPEG of a camera or an editor has about ten scans; each costs a pass over the whole
# picture, so that a few kilobytes of scans could take hours.
MOST_SCANS = 100
# A picture that is longer, in shorter sides, is used in its middle: a network sees squares, and
# would be given a strip of gigabytes where its shorter side is brought to a square's.
LONGEST = 30
# A JPEG of the cache holds no more pixels a side.
LONGEST_JPEG = 65_500
# What a browser shows, and a few more. Others are left out: some of Pillow's readers start another
# program (PostScript), some take any bytes for a picture (TGA has no mark at its beginning).
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "JPEG2000", "ICO", "PPM")
# Packages that teach Pillow further formats, where they are there: the format, and what to call.
ADDED = {"pillow_heif": ("HEIF", "register_heif_opener"), "pillow_jxl": ("JXL", "")}
# The version of the decoding that honours profiles, cuts strips and takes parts of pictures.
NEWEST = 2
NO_END = "its end marker is missing; all of the picture is there"


class UnreadableImage(ValueError):
    """A file that cannot be decoded as a whole picture."""


class Picture(NamedTuple):
    """What is in a file.

    Attributes
    ----------
    pixels : np.ndarray
        uint8 (height, width, 3), sRGB, upright.
    stored_as : str
        How the file stores it: Pillow's mode (`RGB`, `L`, `P`, `CMYK`, `RGBA` …), followed by
        "animated" where it has several frames (the first is taken) and by "rotated" where EXIF
        turns it.
    size : tuple of int
        Height and width of the whole picture, in px.
    note : str
        What is odd about a file that is used all the same; empty where nothing is.
    lacks : str
        What is missing, where these are the pixels of a part of the picture alone; else empty.
    version : int
        Of the decoding, the first that gave these pixels: it tells them from those in a cache that
        an earlier one made.
    """

    pixels: np.ndarray
    stored_as: str
    size: tuple[int, int]
    note: str = ""
    lacks: str = ""
    version: int = 1


def decode(data: bytes) -> tuple[np.ndarray, str]:
    """Decode a file's bytes into an upright picture; transparency is laid on white.

    Returns
    -------
    picture : np.ndarray
        uint8 (height, width, 3), sRGB.
    stored_as : str
        How the file stores it, see `Picture`.

    Raises
    ------
    UnreadableImage
        With the reason: empty, not an image, cut short, or too large.
    """
    picture = _whole(_decode(data, None))
    return picture.pixels, picture.stored_as


def decode_small(data: bytes, shorter_side: int) -> tuple[np.ndarray, str, tuple[int, int]]:
    """Decode as `decode` does and shrink as `shrink` does, the faster the larger the picture.

    As `read_picture`; returns pixels, stored_as and size.

    Raises
    ------
    UnreadableImage
        As `decode` does.
    """
    picture = _whole(read_picture(data, shorter_side))
    return picture.pixels, picture.stored_as, picture.size


def read_picture(data: bytes, shorter_side: int | None = None) -> Picture:
    """Decode what there is of a picture: a part of it, where a part is missing.

    Parameters
    ----------
    data
        The file's bytes.
    shorter_side
        The longest that the shorter side may be, in px; without it the picture stays as it is.
        A JPEG of at least four times the size is then decoded at a half, a quarter or an eighth,
        still twice as large as wanted or more: on average that moves a shrunk picture by less than
        one grey level. And of a picture that is longer than LONGEST shorter sides the middle is
        taken.

    Raises
    ------
    UnreadableImage
        With the reason: empty, not an image, nothing of it is there, or too large.
    """
    picture = _decode(data, shorter_side)
    if shorter_side is None:
        return picture
    rows, columns = picture.pixels.shape[:2]
    if not picture.lacks:
        height, width = picture.size
        rows, columns = middle(height, width, shorter_side)
        if (rows, columns) != picture.size:
            said = f"a strip of {width} × {height} px: its middle {columns} × {rows} px is used"
            note = "; ".join(filter(None, (picture.note, said)))
            picture = picture._replace(note=note, version=NEWEST)
    small = _resize(picture.pixels, _shrunk(rows, columns, shorter_side))
    return picture._replace(pixels=small)


def middle(height: int, width: int, shorter_side: int | None = None) -> tuple[int, int]:
    """Height and width of what is used of a picture: all of it, but for the ends of a strip.

    Parameters
    ----------
    height, width
        Of the picture, in px.
    shorter_side
        Where the picture is to be cached, the longest that its shorter side is there, in px.
    """
    shorter = min(height, width)
    longest = LONGEST * shorter
    if shorter_side:
        longest = min(longest, int(LONGEST_JPEG * max(1.0, shorter / shorter_side)))
    return min(height, longest), min(width, longest)


def cut_middle(picture: np.ndarray, shorter_side: int | None = None) -> np.ndarray:
    """What `middle` says of a picture (height, width, …), as a view of it."""
    height, width = picture.shape[:2]
    rows, columns = middle(height, width, shorter_side)
    top, left = (height - rows) // 2, (width - columns) // 2
    return picture[top : top + rows, left : left + columns]


def _whole(picture: Picture) -> Picture:
    if picture.lacks:
        raise UnreadableImage(picture.lacks)
    return picture


def _decode(data: bytes, shorter_side: int | None) -> Picture:
    """A picture that may be smaller than it says."""
    if not data:
        raise UnreadableImage("empty file")
    try:
        with warnings.catch_warnings():
            # The warnings are of sizes below LARGEST_PIXELS, and of broken EXIF or palettes, which
            # do not hinder decoding.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                return _read(image, data, shorter_side)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        # Pillow's own limit comes first; its text holds the number of pixels.
        pixels = re.search(r"\d+", str(error))
        raise UnreadableImage(f"too large: {int(pixels[0]):,} pixels") from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(_no_image(data)) from error
    except Exception as error:
        # Pillow's plugins raise almost anything on broken input; the file is listed, not used.
        known = "" if isinstance(error, MemoryError) else formats.name_of(data)
        reason = f"a broken {known}: {_in_words(error)}" if known else _in_words(error)
        raise UnreadableImage(reason[:200]) from error


def _no_image(data: bytes) -> str:
    """What a file is that Pillow cannot open."""
    stranger = formats.stranger(data)
    start = data[:40].decode("ascii", "replace").strip()
    if stranger:
        # The start of a text says more than a name, that of other files says nothing.
        shown = f", it starts with {start!r}" if start.isprintable() and start.isascii() else ""
        return (
            f"not an image{shown}: {stranger}" if shown else f"not an image read here: {stranger}"
        )
    known = formats.name_of(data)
    if known:
        return f"a broken {known}, cut short or of a rare kind: download it again"
    return f"not an image, it starts with {start!r}"


def _in_words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:200]


def _read(image: Image.Image, data: bytes, shorter_side: int | None) -> Picture:
    """The picture of an open file."""
    kind = "JPEG" if image.format == "MPO" else image.format
    if image.width * image.height > LARGEST_OF.get(kind, LARGEST_PIXELS):
        raise UnreadableImage(f"too large: {image.width} × {image.height} pixels")
    # Most files have few such bytes; only the others are looked at closely.
    if kind == "JPEG" and data.count(b"\xff\xda") > MOST_SCANS:
        if jpeg.structure(data).scans > MOST_SCANS:
            raise UnreadableImage(f"a JPEG of more than {MOST_SCANS} scans")
    # Before EXIF is asked for, which may load the pixels.
    how = colours.prepare(image)
    stored_as = image.mode
    # Asked this way the frames of a GIF are not counted, which may be a million.
    if _asked(lambda: getattr(image, "is_animated", False), False):
        stored_as += " animated"
    if _turn(image) != 1:
        stored_as += " rotated"
    if image.format == "JPEG" and stored_as == "RGB":
        pixels = _plain_jpeg(data, image.height, image.width, shorter_side)
        if pixels is not None:
            if shorter_side:
                pixels = cut_middle(pixels, shorter_side)
            profile = image.info.get("icc_profile") or b""
            pixels, changed, said = colours.plain_to_srgb(pixels, profile)
            size, version = (image.height, image.width), NEWEST if changed else 1
            return Picture(pixels, stored_as, size, said, version=version)
    if kind == "JPEG":
        return _odd_jpeg(image, data, stored_as, shorter_side)
    try:
        picture = _upright(image, how, stored_as, shorter_side)
    except (MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:
        return _part(data, stored_as, shorter_side, error)
    if kind == "PNG" and b"IEND" not in data:
        picture = picture._replace(note="; ".join(filter(None, (picture.note, NO_END))))
    return picture


def _asked(question: Callable[[], Any], otherwise: Any) -> Any:
    """What a reader says of what stands around the pixels; broken data there cost no picture."""
    try:
        return question()
    except Exception:
        return otherwise


def _turn(image: Image.Image) -> int:
    """How EXIF turns a picture, 1 to 8; 1 where it says nothing of sense."""
    turn = _asked(lambda: image.getexif().get(0x0112, 1), 1)
    return turn if turn in range(2, 9) else 1


def _odd_jpeg(image: Image.Image, data: bytes, stored_as: str, shorter_side: int | None) -> Picture:
    """A JPEG that is not plain: of other colours, turned, in several pictures or damaged."""
    wrong, lacks, note = jpeg.complaint(data, image.mode), "", ""
    if jpeg.NO_END in wrong:
        # Zeros at the end are the part of a download that never came.
        data = data.rstrip(b"\0").removesuffix(b"\xff") + jpeg.END
        wrong = jpeg.complaint(data, image.mode)
        scans = jpeg.structure(data)
        note = NO_END
        if scans.progressive and not scans.every_scan:
            lacks = "truncated: the last scans of a progressive JPEG are missing"
        elif not scans.every_scan:
            lacks = "truncated: some of its scans are missing"
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
    if jpeg.CUT in wrong:
        lacks = lacks or "truncated"
    elif wrong and not any(text in wrong for text in jpeg.HARMLESS) and stored_as == "RGB":
        note = f"damaged: {wrong}"[:200]
    try:
        how = colours.prepare(image)
        picture = _upright(image, how, stored_as, shorter_side, part=bool(lacks))
    except (MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:
        return _part(data, stored_as, shorter_side, error)
    if lacks:
        return picture._replace(lacks=_with_share(lacks, picture), version=NEWEST)
    return picture._replace(note="; ".join(filter(None, (note, picture.note))))


def _part(data: bytes, stored_as: str, shorter_side: int | None, error: Exception) -> Picture:
    """What there is of a picture that cannot be decoded to its end."""
    try:
        with _what_is_there(), Image.open(io.BytesIO(data), formats=_formats()) as image:
            how = colours.prepare(image)
            picture = _upright(image, how, stored_as, shorter_side, part=True)
    except UnreadableImage:
        raise
    except Exception:
        raise UnreadableImage(_in_words(error)) from error
    reason = "truncated" if "truncated" in str(error) else f"damaged ({_in_words(error)})"
    return picture._replace(lacks=_with_share(reason, picture), version=NEWEST)


def _with_share(reason: str, picture: Picture) -> str:
    """The reason, with the share of the picture that is there."""
    share = picture.pixels.shape[0] * picture.pixels.shape[1] / np.prod(picture.size)
    return f"{reason}, about {share:.0%} of it can be seen" if share < 0.995 else reason


@contextmanager
def _what_is_there() -> Iterator[None]:
    """Have Pillow decode as much as there is."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _upright(
    image: Image.Image,
    how: colours.Colours,
    stored_as: str,
    shorter_side: int | None,
    *,
    part: bool = False,
) -> Picture:
    """What Pillow makes of an open file, turned as EXIF says; smaller where that is enough."""
    height, width = image.height, image.width
    factor, version = _fitting_factor(height, width, shorter_side), 1
    if image.format in ("JPEG", "MPO") and factor > 1 and height * width > LARGE_JPEG:
        image.draft(None, (width // factor, height // factor))
        factor, version = 1, NEWEST
    image.load()
    # A TIFF is turned as it is loaded.
    turned = image.format == "TIFF" and (image.height, image.width) != (height, width)
    height, width = (width, height) if turned else (height, width)
    turn = _turn(image)
    changed, said = colours.changes(image, how)
    said, version = _preview(image) or said, NEWEST if changed else version
    greys = colours.grey_range(image, how)
    if shorter_side:
        rows, columns = middle(image.height, image.width, shorter_side)
        top, left = (image.height - rows) // 2, (image.width - columns) // 2
        if (rows, columns) != (image.height, image.width):
            image = image.crop((left, top, left + columns, top + rows))
    picture = _in_bands(image, factor, how, greys)
    if part:
        picture = _without_rest(picture)
    if turn != 1:
        upright = Image.fromarray(picture)
        upright.getexif()[0x0112] = turn
        picture = np.asarray(ImageOps.exif_transpose(upright))
        height, width = (width, height) if turn in (5, 6, 7, 8) else (height, width)
    return Picture(picture, stored_as, (height, width), said, version=version)


def _preview(image: Image.Image) -> str:
    """Whether the first picture of a TIFF is the small preview of a camera's raw file."""
    if image.format != "TIFF":
        return ""
    tags = image.tag_v2
    raw = 50706 in tags or (_asked(lambda: tags.get(254, 0) & 1, 0) and 330 in tags)
    said = "a camera's raw file, of which the small preview is used: develop it to JPEG"
    return said if raw else ""


def _without_rest(picture: np.ndarray) -> np.ndarray:
    """A picture without the rows at its end that hold one colour: they were never decoded."""
    other = np.flatnonzero((picture != picture[-1:, -1:]).any(axis=(1, 2)))
    if not len(other):
        raise UnreadableImage("truncated: nothing of the picture is there")
    return picture[: other[-1] + 1]


def _fitting_factor(height: int, width: int, shorter_side: int | None) -> int:
    """The largest of 1, 2, 4 and 8 that leaves a picture twice as large as it is wanted."""
    fitting = [f for f in (2, 4, 8) if shorter_side and min(height, width) // f >= 2 * shorter_side]
    return max(fitting, default=1)


def _in_bands(
    image: Image.Image, factor: int, how: colours.Colours, greys: tuple[float, float]
) -> np.ndarray:
    """A loaded picture as uint8 (height, width, 3) on white, at 1/factor of its size.

    Band by band: the conversion of a whole one would take several times its memory.
    """
    rows = max(factor, colours.BAND_PIXELS // image.width // factor * factor)
    tall, wide = -(-image.height // factor), -(-image.width // factor)
    picture = np.empty((tall, wide, 3), np.uint8)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        small = np.asarray(colours.to_rgb(band, how, greys).reduce(factor))
        picture[top // factor : top // factor + len(small)] = small
    return picture


@cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow can read, and those that a package adds to it."""
    Image.init()
    added = []
    for module, (name, register) in ADDED.items():
        try:
            package = import_module(module)
            if register:
                getattr(package, register)()
            added.append(name)
        except (ImportError, AttributeError):
            continue
    return tuple(name for name in (*FORMATS, *added) if name in Image.OPEN)


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
