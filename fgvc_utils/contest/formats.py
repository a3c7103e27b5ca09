"""Files by their right name: what a file is, whatever its ending says, and how to convert it."""

import re
from collections.abc import Callable

# What lies at the beginning of a file that some reader of pictures here takes.
READ = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"RIFF....WEBP", "WebP"),
    (rb"BM", "BMP"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"\0\0\x01\0", "icon (ICO)"),
    (rb"P[1-7]\s", "PNM"),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "TIFF"),
)
MAGICK = "convert it to JPEG or PNG, such as by ImageMagick: `magick NAME photo.jpg`"
HEIF = (
    "convert it to JPEG, such as by `heif-convert NAME photo.jpg`, or install the package "
    "pillow-heif, by which it is read here"
)
JXL = (
    "convert it to PNG, such as by `djxl NAME photo.png`, or install the package "
    "pillow-jxl-plugin, by which it is read here"
)
RAW = "develop it to JPEG, such as by darktable, RawTherapee or `dcraw -e` (the camera's preview)"
FRAME = "take a frame out of it, such as by `ffmpeg -i NAME -frames:v 1 photo.png`"
DRAW = "draw it, such as by Inkscape: `inkscape NAME --export-filename=photo.png`"
PAGE = "draw its page, such as by `pdftoppm -png NAME page`"
UNPACK = "unpack it and list the images that it holds"
AGAIN = "download the image again"

# Beginning, name and what to do, the first that fits. A dot in a pattern is any byte.
OTHERS = (
    (rb"....ftyp(heic|heix|heim|heis|hevc|hevx|hevm|hevs|mif1|msf1)", "HEIC (HEIF)", HEIF),
    (rb"....ftypcrx ", "a camera's raw file (Canon CR3)", RAW),
    (rb"....ftypqt  |....(moov|mdat|wide)", "a film (QuickTime)", FRAME),
    (rb"....ftyp", "a film (MP4)", FRAME),
    (rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a", "JPEG XL", JXL),
    (rb"II\xbc\x01", "JPEG XR", MAGICK),
    (rb"\xff\xd8\xff\xf7", "JPEG-LS", MAGICK),
    (rb"8BP[SB]", "a Photoshop file (PSD)", MAGICK),
    (rb"gimp xcf", "a GIMP file (XCF)", MAGICK),
    (rb"%PDF", "PDF", PAGE),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript", MAGICK),
    (rb"FUJIFILMCCD-RAW", "a camera's raw file (Fujifilm RAF)", RAW),
    (rb"II\*\0....CR|......HEAPCCDR", "a camera's raw file (Canon)", RAW),
    (rb"IIR[OS]|MMOR", "a camera's raw file (Olympus ORF)", RAW),
    (rb"IIU\0", "a camera's raw file (Panasonic RW2)", RAW),
    (rb"FOVb|\0MRM", "a camera's raw file", RAW),
    (rb"v/1\x01", "OpenEXR", MAGICK),
    (rb"#\?RADIANCE|#\?RGBE", "Radiance HDR", MAGICK),
    (rb"DDS ", "DDS", MAGICK),
    (rb"qoif", "QOI", MAGICK),
    (rb"BPG\xfb", "BPG", "convert it to PNG, such as by `bpgdec -o photo.png NAME`"),
    (rb"FLIF", "FLIF", "convert it to PNG, such as by `flif -d NAME photo.png`"),
    (rb"AT&TFORM", "DjVu", "draw its page, such as by `ddjvu -format=tiff NAME page.tiff`"),
    (rb"icns", "an Apple icon (ICNS)", MAGICK),
    (rb"\0\0\x02\0", "a cursor (CUR)", MAGICK),
    (rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", "a Windows metafile", DRAW),
    (rb".{128}DICM", "DICOM", MAGICK),
    (rb"SIMPLE  =", "FITS", MAGICK),
    (rb"RIFF....AVI |\x1aE\xdf\xa3|FLV\x01|OggS|\0\0\x01[\xb3\xba]", "a film", FRAME),
    (rb"RIFF....WAVE|ID3|fLaC", "a sound file", AGAIN),
    (rb"PK\x03\x04|PK\x05\x06", "a ZIP archive (or an Office document)", UNPACK),
    (rb"\x1f\x8b", "packed by gzip", UNPACK),
    (rb"7z\xbc\xaf|Rar!|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd", "an archive", UNPACK),
    (
        rb"\0\x05\x16[\0\x07]",
        "what macOS keeps beside a file (AppleDouble), not the image",
        "delete it",
    ),
    (
        rb"version https://git-lfs",
        "a pointer of Git LFS, not the image",
        "fetch it: `git lfs pull`",
    ),
    (rb"data:image/", "an image written as text (a data URI)", "decode its base64 to a file"),
    (rb"MZ|\x7fELF", "a program", AGAIN),
)
# Of texts, after white space and a byte order mark.
TEXTS = (
    (rb"<svg|<\?xml.*<svg|<!--.*<svg", "a drawing (SVG)", DRAW),
    (rb"<!doctype html|<html|<head|<body|<!--.*<html|<\?xml.*<html", "a web page", AGAIN),
    (rb"<\?xml|<", "XML", AGAIN),
    (rb"[{\[]", "JSON", AGAIN),
)
# The program that a hint names is given this in the place of the file.
PLACE = "NAME"


def name_of(data: bytes) -> str:
    """The name of the format that a file's beginning says, of those read here; empty otherwise."""
    if re.match(rb"....ftyp", data, re.DOTALL) and b"avi" in data[8:40]:
        return "AVIF"
    fits = (name for start, name in READ if re.match(start, data, re.DOTALL))
    return next(fits, "")


def stranger(data: bytes) -> str:
    """What a file is that no reader takes, and what to do; empty where its beginning says nothing.

    Parameters
    ----------
    data
        The file's bytes.
    """
    if not data.strip(b"\0"):
        return f"nothing but {len(data)} zero bytes: {AGAIN}"
    if name_of(data) == "AVIF":
        return ""
    said = _first(OTHERS, data, lambda start, text: re.match(start, text, re.DOTALL))
    if said:
        return said
    text = _plain(data[:2000])
    return _first(TEXTS, text, lambda start, text: re.match(start, text, re.DOTALL | re.IGNORECASE))


def _first(
    table: tuple[tuple[bytes, str, str], ...], data: bytes, fits: Callable[[bytes, bytes], object]
) -> str:
    for start, name, hint in table:
        if fits(start, data):
            return f"{name}: {hint.replace(PLACE, 'the-file')}"
    return ""


def _plain(data: bytes) -> bytes:
    """The text of a file, whatever of the usual encodings it has, without what comes before it."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = data.decode("utf-16", "replace").encode()
    return data.removeprefix(b"\xef\xbb\xbf").lstrip()
