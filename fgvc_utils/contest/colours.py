"""The colours of a picture as sRGB: its profile, deep greys, transparency on white."""

import io
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms

# Pixels that are converted at once, so that a large picture is never there twice in full.
BAND_PIXELS = 4_000_000
GREY_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
# Grey of 16 bits with transparency: Pillow would keep the upper 8 bits alone.
DEEP_GREY_ALPHA = "LA;16B"
# A profile that moves no colour further than this, of 255, is taken to be sRGB.
SAME_COLOUR = 2
# What a key of a PNG's transparency is multiplied with, as Pillow multiplies the pixels.
KEY_SCALE = {"L;2": 85, "L;4": 17}
BROKEN = "its colour profile is broken and was ignored"
FOREIGN = "its colour profile is of another kind of colours and was ignored"


class Colours(NamedTuple):
    """How the colours of one open file become sRGB.

    Attributes
    ----------
    profile
        The file's colour profile (ICC); empty where it has none.
    deep_alpha
        Whether it is opened as raw bytes of a 16-bit grey with a 16-bit alpha.
    scaled_key
        Whether the colour that is transparent was brought to the depth of the pixels.
    """

    profile: bytes
    deep_alpha: bool
    scaled_key: bool


def prepare(image: Image.Image) -> Colours:
    """Look at an open file before its pixels are loaded, and have them loaded in full depth."""
    raw = image.tile[0][3] if image.tile else ""
    raw = raw[0] if isinstance(raw, tuple) and raw else raw
    scaled = _scale_key(image, raw)
    deep = image.format == "PNG" and raw == DEEP_GREY_ALPHA
    if deep:
        # Its four bytes a pixel, as they are, in the place of four colours.
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
    return Colours(image.info.get("icc_profile") or b"", deep, scaled)


def _scale_key(image: Image.Image, raw: Any) -> bool:
    """Bring the colour that a PNG names as transparent to the depth of the pixels."""
    key = image.info.get("transparency")
    if raw in KEY_SCALE and isinstance(key, int):
        image.info["transparency"] = key * KEY_SCALE[raw]
        return True
    if raw == "RGB;16B" and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)
        return True
    return False


def changes(image: Image.Image, colours: Colours) -> tuple[bool, str]:
    """Whether Pillow alone would give other colours, and what is wrong with the profile."""
    if image.mode in GREY_MODES or colours.deep_alpha:
        return colours.deep_alpha or "transparency" in image.info, ""
    if not colours.profile:
        return colours.scaled_key, ""
    transform, note = _to_srgb(colours.profile, image.mode)
    return transform is not None or colours.scaled_key, note


def grey_range(image: Image.Image, colours: Colours) -> tuple[float, float]:
    """The darkest grey of a picture of deep greys, and how far the brightest lies above it."""
    if image.mode not in GREY_MODES and not colours.deep_alpha:
        return 0.0, 1.0
    ends = []
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        grey = _deep_grey(np.asarray(band), colours)
        ends += [float(grey.min()), float(grey.max())]
    return min(ends), max(max(ends) - min(ends), 1e-9)


def _deep_grey(values: np.ndarray, colours: Colours) -> np.ndarray:
    """Greys as float64; what is no number, or infinite, is 0."""
    if colours.deep_alpha:
        values = values[..., 0] * 256.0 + values[..., 1]
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def to_rgb(image: Image.Image, colours: Colours, greys: tuple[float, float]) -> Image.Image:
    """A loaded picture, or a band of one, in sRGB on white.

    Parameters
    ----------
    image
        In any mode of Pillow's.
    colours
        What `prepare` found.
    greys
        What `grey_range` gives for the whole picture.
    """
    if image.mode in GREY_MODES or colours.deep_alpha:
        return _deep_on_white(image, colours, greys)
    srgb = _to_srgb(colours.profile, image.mode).transform if colours.profile else None
    if image.mode == "LAB":
        return _lab_to_srgb().apply(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = _rgba(image)
        if srgb is not None:
            changed = _apply(srgb, rgba.convert("L" if srgb.inputMode == "L" else "RGB"))
            changed.putalpha(rgba.getchannel("A"))
            rgba = changed
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB") if srgb is None else _apply(srgb, image)


def _rgba(image: Image.Image) -> Image.Image:
    """With the colours and the transparency apart, whatever way they are kept in."""
    straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
    return (image.convert(straight) if straight else image).convert("RGBA")


def _deep_on_white(image: Image.Image, colours: Colours, greys: tuple[float, float]) -> Image.Image:
    values = np.asarray(image)
    darkest, spread = greys
    grey = np.uint8(255 * ((_deep_grey(values, colours) - darkest) / spread))
    shown = Image.fromarray(grey)
    if colours.deep_alpha:
        mask = Image.fromarray(np.ascontiguousarray(values[..., 2]))
    elif "transparency" in image.info:
        mask = Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype("u1"))
    else:
        return shown.convert("RGB")
    return Image.composite(shown, Image.new("L", shown.size, 255), mask).convert("RGB")


class _ToSrgb(NamedTuple):
    transform: ImageCms.ImageCmsTransform | None
    note: str


def plain_to_srgb(picture: np.ndarray, profile: bytes) -> tuple[np.ndarray, bool, str]:
    """A decoded RGB picture in sRGB, whether that changes it, and what is wrong with its profile.

    Changes the picture in place.
    """
    if not profile:
        return picture, False, ""
    transform, note = _to_srgb(profile, "RGB")
    if transform is None:
        return picture, False, note
    rows = max(1, BAND_PIXELS // picture.shape[1])
    for top in range(0, len(picture), rows):
        band = Image.fromarray(picture[top : top + rows])
        picture[top : top + rows] = np.asarray(_apply(transform, band))
    return picture, True, note


def _apply(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    wanted = transform.inputMode
    return transform.apply(image if image.mode == wanted else image.convert(wanted))


@lru_cache(maxsize=32)
def _to_srgb(profile: bytes, mode: str) -> _ToSrgb:
    """What brings pictures of one mode from a profile to sRGB: nothing where it is sRGB."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = opened.profile.xcolor_space.strip()
        fitting = {"CMYK": ("CMYK",), "LAB": ()}.get(mode, ("RGB", "GRAY"))
        grey = mode in ("1", "L", "LA", "La")
        if space not in fitting or (space == "GRAY" and not grey):
            return _ToSrgb(None, FOREIGN)
        taken = {"GRAY": "L"}.get(space, space)
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(opened, srgb, taken, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return _ToSrgb(None, BROKEN)
    return _ToSrgb(None if _changes_nothing(transform) else transform, "")


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a transform leaves colours where they are, tried on a grid of them."""
    if transform.inputMode == "CMYK":
        return False
    grey = np.arange(256, dtype=np.uint8)
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    colours = np.concatenate([np.repeat(grey[None, :, None], 3, axis=2), grid], axis=1)
    if transform.inputMode == "L":
        colours = colours[:, :256]
    shown = np.asarray(_apply(transform, Image.fromarray(np.ascontiguousarray(colours))))
    return bool(np.abs(shown.astype(int) - colours).max() <= SAME_COLOUR)


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
