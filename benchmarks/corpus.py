"""Thousands of odd files: is each used or listed, how long and how much memory, which colours?

    python benchmarks/corpus.py

Draws formats × modes × profiles × orientations × faults, and large pictures of most formats. Each
file is read as 01 reads it, in one process whose peak of memory is told; time is that of the
processor, since other work may share the machine. Whole files are compared with what Pillow and
LittleCMS (ImageCms) make of them, white behind.
"""

import argparse
import io
import itertools
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps

from fgvc_utils.contest.decoding import UnreadableImage, decode, read_picture
from fgvc_utils.demo import web

SIDE = 260
SLOWEST, MOST_MEMORY, FURTHEST = 2.0, 1000, 2
# What Pillow writes of each format.
MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "L", "RGBA", "LA", "P", "1", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
    "TIFF": ("RGB", "L", "RGBA", "CMYK", "P", "1", "I;16", "LAB", "F"),
    "GIF": ("P", "L"),
    "BMP": ("RGB", "L", "P", "1"),
    "JPEG2000": ("RGB", "L", "RGBA", "LA"),
    "PPM": ("RGB", "L", "1"),
    "ICO": ("RGBA",),
}
TAKES_PROFILE = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF")
TURNS = (1, 2, 3, 4, 5, 6, 7, 8)


def _end_gone(data: bytes) -> bytes:
    return data[:-2]


FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "zeros behind": lambda data: data + bytes(3000),
    "ZIP behind": lambda data: data + b"PK\3\4" + b"\xff\xda\0\0" * 400,
    "two bytes short": _end_gone,
    "half": lambda data: data[: len(data) // 2],
    "half, zeros": lambda data: data[: len(data) // 2].ljust(len(data), b"\0"),
    "tenth": lambda data: data[: len(data) // 10],
    "hole": lambda data: data[: len(data) // 2] + bytes(60) + data[len(data) // 2 + 60 :],
    "front gone": lambda data: data[20:],
}
SIZES = {"plain": (120, 90), "row": (400, 1), "column": (2, 900), "dot": (1, 1)}


class Case(NamedTuple):
    """One file: what it is called, how it is made, and whether its colours are compared."""

    name: str
    make: Callable[[], bytes]
    compared: bool


def of_mode(mode: str, size: tuple[int, int]) -> Image.Image:
    """The same photo in some mode."""
    image = web.photo(*size)
    if mode in ("I;16", "F"):
        grey = np.asarray(image.convert("L"))
        return Image.fromarray(
            grey.astype(np.uint16) * 200 if mode == "I;16" else grey / np.float32(9)
        )
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(Image.linear_gradient("L").resize(size))
        return image
    return image.quantize(64) if mode == "P" else image.convert(mode)


def saved(form: str, mode: str, size: tuple[int, int], profile: str, turn: int, **more) -> bytes:
    """A file of a format, mode, size, profile and orientation."""
    out, settings = io.BytesIO(), dict(more)
    if profile:
        settings["icc_profile"] = web.profile(profile)
    if turn != 1:
        settings["exif"] = Image.Exif()
        settings["exif"][0x0112] = turn
    of_mode(mode, size).save(out, form, **settings)
    return out.getvalue()


def cases() -> Iterator[Case]:
    """All files but the large ones."""
    for form, modes in MODES.items():
        profiles = ("", *web.PROFILES) if form in TAKES_PROFILE else ("",)
        turns = TURNS if form in ("JPEG", "PNG", "WEBP", "TIFF") else (1,)
        for mode, profile, turn in itertools.product(modes, profiles, turns):
            for fault, spoil in FAULTS.items():
                # All faults where the rest is plain, and all turns and profiles where no fault is.
                if fault != "none" and turn not in (1, 6):
                    continue
                compared = fault == "none" and mode not in ("I;16", "F", "LAB")

                def make(form=form, mode=mode, profile=profile, turn=turn, spoil=spoil) -> bytes:
                    return spoil(saved(form, mode, SIZES["plain"], profile, turn))

                name = f"{form} {mode} {profile or 'no profile'} turn {turn}, {fault}"
                yield Case(name, make, compared)
        for mode, (shape, size) in itertools.product(modes, SIZES.items()):
            if form != "ICO":
                yield Case(
                    f"{form} {mode} {shape}",
                    lambda form=form, mode=mode, size=size: saved(form, mode, size, "", 1),
                    mode not in ("I;16", "F", "LAB"),
                )
    for fault, spoil in FAULTS.items():
        for settings in ({"progressive": True}, {"restart_marker_blocks": 2}, {"subsampling": 0}):
            yield Case(
                f"JPEG {settings} {fault}",
                lambda s=settings, spoil=spoil: spoil(
                    saved("JPEG", "RGB", SIZES["plain"], "", 1, **s)
                ),
                fault == "none",
            )
    for name, (_, data) in web.STRANGERS.items():
        yield Case(f"stranger: {name}", lambda data=data: data, False)
    random = np.random.default_rng(0)
    for depth, kind in itertools.product((1, 2, 4, 8, 16), (0, 2, 4, 6)):
        if depth < 8 and kind:
            continue
        colours = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
        rows = random.integers(0, 2**depth, (90, 120, colours))
        rows = rows[..., 0] if kind == 0 else rows
        keys = (None, rows[0, 0]) if kind in (0, 2) else (None,)
        for number, key in enumerate(keys):
            yield Case(
                f"PNG of {depth} bits, colour type {kind}, key {number}",
                lambda r=rows, d=depth, k=kind, key=key: web.png(r, d, k, key),
                False,
            )


def large() -> Iterator[Case]:
    """Pictures of many pixels, each format near the most that is read of it."""
    for form, mode, size, more in (
        ("JPEG", "RGB", (11_000, 10_000), {}),
        ("JPEG", "RGB", (8_000, 7_000), {"progressive": True}),
        ("JPEG", "L", (9_000, 8_000), {}),
        ("JPEG", "CMYK", (6_000, 5_000), {}),
        ("PNG", "RGB", (7_000, 6_000), {"compress_level": 1}),
        ("PNG", "RGBA", (6_000, 5_000), {"compress_level": 1}),
        ("PNG", "RGB", (90, 70_000), {"compress_level": 1}),
        ("PNG", "RGB", (1, 2_000_000), {"compress_level": 1}),
        ("TIFF", "RGB", (7_000, 6_000), {}),
        ("WEBP", "RGB", (5_000, 4_000), {"quality": 50, "method": 0}),
        ("AVIF", "RGB", (4_000, 3_000), {"speed": 10}),
        ("BMP", "RGB", (7_000, 6_000), {}),
        ("GIF", "P", (5_000, 4_000), {}),
        ("JPEG2000", "RGB", (2_000, 1_500), {}),
    ):
        for turn in (1, 6) if form == "JPEG" else (1,):
            yield Case(
                f"large {form} {mode} {size[0]} × {size[1]} turn {turn} {more}",
                lambda f=form, m=mode, s=size, t=turn, k=more: flat(f, m, s, t, **k),
                False,
            )


def flat(form: str, mode: str, size: tuple[int, int], turn: int, **more) -> bytes:
    """A large file, of repeated tiles, which are quickly drawn."""
    tile = np.asarray(web.photo(250, 250))
    times = (-(-size[1] // 250), -(-size[0] // 250), 1)
    image = Image.fromarray(np.tile(tile, times)[: size[1], : size[0]]).convert(mode)
    out = io.BytesIO()
    if turn != 1:
        more["exif"] = Image.Exif()
        more["exif"][0x0112] = turn
    image.save(out, form, **more)
    return out.getvalue()


def reference(data: bytes) -> np.ndarray:
    """What a viewer that honours profiles shows, by Pillow and ImageCms."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    profile = image.info.get("icc_profile")
    clear = image.mode in ("RGBA", "LA") or "transparency" in image.info
    alpha = image.convert("RGBA").getchannel("A") if clear else None
    if profile:
        image = _by_profile(image, profile) or image
    rgb = image.convert("RGB")
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    return np.asarray(rgb)


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = opened.profile.xcolor_space.strip()
    grey = image.mode in ("1", "L", "LA")
    if (space == "CMYK") != (image.mode == "CMYK") or (space == "GRAY" and not grey):
        return None
    mode = {"GRAY": "L"}.get(space, space)
    srgb = ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image.convert(mode), opened, srgb, outputMode="RGB")


def read_all(which: str) -> None:
    """Read the files, in this process; prints a line of JSON each."""
    for case in cases() if which == "small" else large():
        try:
            data = case.make()
        except (OSError, ValueError, KeyError) as error:
            print(json.dumps({"name": case.name, "not_drawn": str(error)}), flush=True)
            continue
        if which == "large":
            _alone(case.name, data)
            continue
        print(json.dumps({"name": case.name, **measured(data, case.compared)}), flush=True)


def measured(data: bytes, compared: bool) -> dict:
    """What becomes of a file, in how long, and how far its colours lie from the reference's."""
    began, row = time.process_time(), {"error": "", "note": "", "part": False}
    try:
        picture = read_picture(data, SIDE)
        row |= {"error": picture.lacks, "note": picture.note, "part": bool(picture.lacks)}
    except UnreadableImage as error:
        row["error"] = str(error)
    row["seconds"] = time.process_time() - began
    row["memory"] = _peak()
    if compared and not row["error"]:
        apart = decode(data)[0].astype(int) - reference(data)
        row["apart"] = int(np.abs(apart).max())
    return row


def _peak() -> int:
    """The most memory that this process had, in MB; that of getrusage holds its parent's too."""
    (line,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(line) // 1024


ALONE = """
import json, sys
from benchmarks.corpus import measured
print(json.dumps({"name": sys.argv[1], **measured(sys.stdin.buffer.read(), False)}))
"""


def _alone(name: str, data: bytes) -> None:
    """Read a large file in a process of its own, whose peak of memory is that of the reading."""
    subprocess.run([sys.executable, "-c", ALONE, name], input=data, check=True)


def report(rows: list[dict]) -> str:
    """The figures that are asked for, and what does not keep to them."""
    drawn = [row for row in rows if "not_drawn" not in row]
    kinds = Counter(
        "used in part"
        if r["part"]
        else "listed"
        if r["error"]
        else "noted"
        if r["note"]
        else "used"
        for r in drawn
    )
    compared = [row["apart"] for row in drawn if "apart" in row]
    slow, much = (max(drawn, key=lambda row, k=k: row[k]) for k in ("seconds", "memory"))
    lines = [
        f"{len(drawn)} files: {dict(kinds)}; {len(rows) - len(drawn)} that Pillow cannot write",
        f"slowest {slow['seconds']:.2f} s ({slow['name']}); most memory {much['memory']} MB "
        f"({much['name']})",
        f"colours of {len(compared)} whole files at most {max(compared)} of 255 from the reference",
    ]
    for row in drawn:
        far = row.get("apart", 0) > FURTHEST
        if far or row["seconds"] > SLOWEST or row["memory"] > MOST_MEMORY:
            lines.append(f"beyond the bounds: {row}")
    return "\n".join(lines)


def main() -> int:
    """Read small and large files, each kind in processes of its own, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("small", "large"), help="print rows alone")
    options = parser.parse_args()
    if options.part:
        read_all(options.part)
        return 0
    rows = []
    for part in ("small", "large"):
        command = [sys.executable, "-m", "benchmarks.corpus", "--part", part]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows += [json.loads(line) for line in done.stdout.splitlines()]
    print(report(rows))
    return "beyond" in report(rows)


if __name__ == "__main__":
    sys.exit(main())
