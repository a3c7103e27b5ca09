"""Files as the web sends them: colour profiles, and what is called .jpg and is none.

Drawn for tests, for a page of the docs and for a benchmark.
"""

import gzip
import itertools
import struct
import zlib

import numpy as np
from PIL import Image

# Red, green and blue of some colour spaces as XYZ of D50, and the gamma; 0 is the curve of sRGB.
SPACES = {
    "sRGB": ((0.43607, 0.22249, 0.01392, 0.38515, 0.71687, 0.09708, 0.14307, 0.06061, 0.71410), 0),
    "Display P3": (
        (0.51512, 0.24120, -0.00105, 0.29198, 0.69225, 0.04189, 0.15710, 0.06657, 0.78407),
        0,
    ),
    "Adobe RGB (1998)": (
        (0.60974, 0.31111, 0.01947, 0.20528, 0.62567, 0.06087, 0.14919, 0.06322, 0.74457),
        563,
    ),
    "ProPhoto RGB": (
        (0.79767, 0.28804, 0.0, 0.13519, 0.71187, 0.0, 0.03134, 0.00009, 0.82491),
        461,
    ),
}
GREYS = {"Grey gamma 2.8": 717}
WHITE = (0.9642, 1.0, 0.8249)
PROFILES = (*SPACES, *GREYS, "CMYK")


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture of all colours, with a little grain."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    grain = random.integers(-4, 5, smooth.shape)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def profile(name: str) -> bytes:
    """A small colour profile, one of PROFILES.

    References
    ----------
    ICC.1:2001-04, File format for color profiles, 2001.
    """
    tags = {b"desc": _text(name), b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(WHITE)}
    if name == "CMYK":
        return _profile(b"prtr", b"CMYK", b"Lab ", tags | {b"A2B0": _inks()})
    if name in GREYS:
        return _profile(b"mntr", b"GRAY", b"XYZ ", tags | {b"kTRC": _curve(GREYS[name])})
    colours, gamma = SPACES[name]
    for number, colour in enumerate((b"r", b"g", b"b")):
        tags[colour + b"XYZ"] = _xyz(colours[3 * number : 3 * number + 3])
        tags[colour + b"TRC"] = _curve(gamma)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def _profile(kind: bytes, colours: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    at = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI", at + len(body), b"\0\0\0\0", 0x02400000)
    header += kind + colours + connection + struct.pack(">6H", 2001, 4, 1, 0, 0, 0) + b"acsp"
    header = header.ljust(68, b"\0") + struct.pack(">3i", *(round(v * 65536) for v in WHITE))
    return header.ljust(128, b"\0") + table + body


def _text(text: str) -> bytes:
    data = text.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(data)) + data + bytes(78)


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(gamma: int) -> bytes:
    """A tone curve: a gamma in 1/256, or that of sRGB as a table."""
    if gamma:
        return b"curv\0\0\0\0" + struct.pack(">IH", 1, gamma)
    at = np.linspace(0, 1, 1024)
    light = np.where(at <= 0.04045, at / 12.92, ((at + 0.055) / 1.055) ** 2.4)
    return (
        b"curv\0\0\0\0" + struct.pack(">I", 1024) + np.round(light * 65535).astype(">u2").tobytes()
    )


def _inks() -> bytes:
    """The colours of four inks and their mixtures as Lab, duller than a screen's."""
    straight = bytes(range(256))
    corners = []
    for inks in itertools.product((0, 1), repeat=4):
        left = (1 - np.array(inks[:3])) * (1 - inks[3])
        red, green, blue = 0.08 + 0.85 * left
        light = 0.3 * red + 0.59 * green + 0.11 * blue
        corners += [
            round(255 * light),
            128 + round(70 * (red - green)),
            128 + round(70 * (light - blue)),
        ]
    matrix = struct.pack(">9i", *(65536 * (at % 4 == 0) for at in range(9)))
    sizes = bytes((4, 3, 2, 0))
    return b"mft1\0\0\0\0" + sizes + matrix + straight * 4 + bytes(corners) + straight * 3


def _box(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand + bytes(400)


# What is called .jpg and is none: what an error says of it, and the beginning of such a file.
STRANGERS: dict[str, tuple[str, bytes]] = {
    "HEIC of a phone": ("HEIC", _box(b"heic")),
    "HEIF of several pictures": ("HEIC", _box(b"mif1")),
    "JPEG XL": ("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99)),
    "JPEG XL, bare": ("JPEG XL", b"\xff\x0a" + b"\x7f" * 99),
    "JPEG XR": ("JPEG XR", b"II\xbc\x01" + b"\x08" * 99),
    "PSD": ("Photoshop", b"8BPS\0\1" + bytes(99)),
    "XCF": ("GIMP", b"gimp xcf v011\0" + bytes(99)),
    "SVG": ("SVG", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'),
    "SVG, packed": ("gzip", gzip.compress(b"<svg/>", mtime=0)),
    "PDF": ("PDF", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj"),
    "PostScript": ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
    "Canon CR3": ("Canon CR3", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(99)),
    "Canon CR2": ("raw file", b"II*\0\x10\0\0\0CR\2\0" + b"\xff" * 99),
    "Fujifilm RAF": ("Fujifilm", b"FUJIFILMCCD-RAW 0201" + bytes(99)),
    "Olympus ORF": ("Olympus", b"IIRO\x08\0\0\0" + bytes(99)),
    "Panasonic RW2": ("Panasonic", b"IIU\0\x18\0\0\0" + bytes(99)),
    "film (MP4)": ("film", b"\0\0\0\x18ftypisom\0\0\2\0isomavc1" + bytes(99)),
    "film (QuickTime)": ("film", b"\0\0\0\x14ftypqt  \0\0\2\0qt  " + bytes(99)),
    "film (AVI)": ("film", b"RIFF\x10\0\0\0AVI LIST" + bytes(99)),
    "film (WebM)": ("film", b"\x1a\x45\xdf\xa3\x9fB\x86\x81\1" + bytes(99)),
    "ZIP": ("ZIP", b"PK\3\4\x14\0\0\0\x08\0" + bytes(99)),
    "web page": ("web page", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"),
    "web page in UTF-16": ("web page", "\ufeff<html><body>gone".encode("utf-16-le")),
    "web page after a comment": ("web page", b"\xef\xbb\xbf\n<!-- cached -->\n<html lang='en'>"),
    "XML of a store": ("XML", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"),
    "JSON": ("JSON", b'{"error": "not found"}'),
    "text": ("it starts with", b"Not Found"),
    "data URI": ("data URI", b"data:image/jpeg;base64,/9j/4AAQSkZJRg=="),
    "Git LFS": ("git lfs pull", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "AppleDouble": ("macOS", b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(60)),
    "zeros": ("zero bytes", bytes(4096)),
    "DICOM": ("DICOM", bytes(128) + b"DICM" + bytes(60)),
    "OpenEXR": ("OpenEXR", b"v/1\x01\2\0\0\0channels" + bytes(60)),
    "QOI": ("QOI", b"qoif\0\0\0\1\0\0\0\1\3\0" + bytes(9)),
    "DDS": ("DDS", b"DDS \x7c\0\0\0" + bytes(99)),
    "DjVu": ("DjVu", b"AT&TFORM\0\0\0\x08DJVU" + bytes(60)),
    "7z": ("archive", b"7z\xbc\xaf\x27\x1c\0\4" + bytes(60)),
    "program": ("program", b"MZ\x90\0\3\0\0\0" + bytes(99)),
    "nothing": ("empty file", b""),
}


def png(rows: np.ndarray, depth: int, kind: int, key: int | np.ndarray | None = None) -> bytes:
    """A PNG that Pillow cannot write: deep, of few bits, or with a transparent colour.

    Parameters
    ----------
    rows
        Values as they are stored, integer (height, width) or (height, width, colours).
    depth, kind
        Bits a value, and the colour type: 0 grey, 2 RGB, 4 grey with alpha, 6 RGB with alpha.
    key
        The colour that is transparent, one value a colour.

    References
    ----------
    ISO/IEC 15948:2004, Portable Network Graphics, 2004.
    """
    rows = np.asarray(rows)
    height, width = rows.shape[:2]
    if depth < 8:
        bits = np.unpackbits(rows.astype("u1")[..., None], axis=-1)[..., -depth:]
        packed = np.packbits(bits.reshape(height, -1), axis=1)
    else:
        packed = rows.astype(f">u{depth // 8}")
    body = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    clear = b"" if key is None else _chunk(b"tRNS", np.atleast_1d(key).astype(">u2").tobytes())
    data = _chunk(b"IHDR", header) + clear + _chunk(b"IDAT", zlib.compress(body))
    return b"\x89PNG\r\n\x1a\n" + data + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
