"""What a JPEG is made of: its scans, where it ends, and whether all of it is there."""

import re
from typing import NamedTuple

import simplejpeg

END = b"\xff\xd9"
# The next marker within coded data, where a 0xFF of the data is followed by 0, and restarts count
# as data.
NEXT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
COEFFICIENTS = 64
# What a decoder reports where coded data stop too early.
CUT, NO_END = "premature end of data segment", "Premature end of JPEG file"
# What it reports of files whose pixels are right all the same.
HARMLESS = ("extraneous bytes", "Invalid SOS parameters", "Inconsistent progression")


class Structure(NamedTuple):
    """What the markers of a JPEG say, without a look at its pixels.

    Attributes
    ----------
    scans
        How many scans there are, of the picture itself: not of a thumbnail, nor of what lies
        behind the end marker.
    every_scan
        Whether they bring each colour to its last bit, as those of a whole picture do.
    progressive
        Whether the picture comes in passes over all of it.
    """

    scans: int
    every_scan: bool
    progressive: bool


def structure(data: bytes) -> Structure:
    """Walk from marker to marker up to the end marker, or as far as the file goes.

    References
    ----------
    ITU-T T.81, Information technology: Digital compression and coding of continuous-tone still
    images, 1992, annexes B and G.
    """
    scans, progressive = 0, False
    # For each colour the bit that each coefficient was brought to; 0 is the last one.
    bits: dict[int, list[int]] = {}
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] == 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker == 0xD9:
            break
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        body = at + 4
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            progressive = marker in (0xC2, 0xC6, 0xCA, 0xCE)
            colours = data[body + 6 : at : 3] if body + 5 < len(data) else b""
            bits = {colour: [COEFFICIENTS] * COEFFICIENTS for colour in colours}
        if marker == 0xDA:
            scans += 1
            _count(data[body:at], bits, progressive)
            found = NEXT.search(data, at)
            at = found.start() if found else len(data)
    every = bool(bits) and not any(map(any, bits.values()))
    return Structure(scans, every, progressive)


def _count(header: bytes, bits: dict[int, list[int]], progressive: bool) -> None:
    """Note which coefficients of which colours a scan brings, by its header."""
    count = header[0] if header else 0
    if len(header) < 4 + 2 * count:
        return
    first, last, low = 0, COEFFICIENTS - 1, 0
    if progressive:
        first, last, low = header[1 + 2 * count], header[2 + 2 * count], header[3 + 2 * count] & 15
    for colour in header[1 : 1 + 2 * count : 2]:
        levels = bits.setdefault(colour, [COEFFICIENTS] * COEFFICIENTS)
        levels[first : last + 1] = [low] * len(levels[first : last + 1])


def complaint(data: bytes, mode: str) -> str:
    """What a strict decoder finds wrong with the coded data; empty where nothing is.

    Parameters
    ----------
    data
        The file's bytes.
    mode
        Pillow's mode of the picture.
    """
    colours = {"L": "GRAY", "CMYK": "CMYK"}.get(mode, "RGB")
    try:
        # The smallest picture: all coded data are read, and little else is done.
        simplejpeg.decode_jpeg(data, colours, min_height=1, min_width=1)
    except ValueError as error:
        return str(error)
    return ""
