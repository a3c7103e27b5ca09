"""Feed mutated files to the decoder and the readers of tables: each is used, or refused by name.

    python tests/faults/fuzz.py [--inputs 2400] [--seed 0] [--folder FOLDER]

Whole files of many formats (drawn here, and some photos of grocery-web where that set is there) are
mutated: bits flipped, ends cut off, blocks inserted, deleted, zeroed or repeated, the head of one
format spliced before another, fields of width and height changed, chunks deleted; text gets quotes,
NULs, other encodings, other separators. Each input goes to a process of its own kind that is
watched: one that crashes, hangs for LIMIT_SECONDS or asks for more than MEMORY_BYTES is found, and
so is the input that did it. Good ends are two: the input is used, or it is listed or refused with
an error of this kit that names the file. The inputs that end otherwise are kept in the folder.

Prints a table by kind, and as its last line JSON: `fuzz_inputs`, `fuzz_unhandled`.
"""

import argparse
import io
import json
import multiprocessing
import os
import random
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fgvc_utils.contest import images, tables
from fgvc_utils.contest.journal import Journal
from fgvc_utils.contest.listing import list_images
from fgvc_utils.contest.places import PROJECT, data_root

LIMIT_SECONDS = 30
MEMORY_BYTES = 3 * 2**30
SIDE = 64
# Of all inputs; the decoder has the most formats.
SHARES = {"image": 12, "listing.csv": 3, "listing.parquet": 2, "table.parquet": 3, "journal.csv": 2}
SHARES |= {"contest.yaml": 2}
REAL_PHOTOS = 24


# What is mutated.


def picture(seed: int = 0, size: tuple[int, int] = (90, 71)) -> Image.Image:
    """A smooth picture of some colours."""
    draw = np.random.default_rng(seed)
    blobs = Image.fromarray(draw.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return blobs.resize(size, Image.Resampling.BICUBIC)


def whole_images() -> list[bytes]:
    """Files of every format that the decoder takes, and some real photos of the web."""
    source, exif = picture(), Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray((np.asarray(source.convert("L")).astype(np.uint16)) * 257)
    frames = {"save_all": True, "append_images": [picture(1), picture(2)]}
    forms = [
        (source, "JPEG", {}),
        (source, "JPEG", {"progressive": True, "exif": exif}),
        (source, "JPEG", {"restart_marker_blocks": 4, "subsampling": 0}),
        (source.convert("L"), "JPEG", {}),
        (source.convert("CMYK"), "JPEG", {}),
        (source, "PNG", {}),
        (source.quantize(16), "PNG", {"transparency": 3}),
        (source.convert("RGBA"), "PNG", {}),
        (deep, "PNG", {}),
        (source.convert("1"), "PNG", {}),
        (source.quantize(16), "GIF", {}),
        (source, "GIF", frames),
        (source, "WEBP", {}),
        (source.convert("RGBA"), "WEBP", {"lossless": True}),
        (source, "WEBP", frames),
        (source, "BMP", {}),
        (source.quantize(16), "BMP", {}),
        (source, "TIFF", {}),
        (deep, "TIFF", {"compression": "tiff_deflate"}),
        (source, "TIFF", {"compression": "tiff_lzw"}),
        (source, "TIFF", {"compression": "jpeg"}),
        (source, "ICO", {"sizes": [(64, 64)]}),
        (source, "PPM", {}),
        (source, "JPEG2000", {}),
        (source, "AVIF", {}),
    ]
    found = []
    for image, form, settings in forms:
        out = io.BytesIO()
        try:
            image.save(out, form, **settings)
        except (KeyError, OSError):
            # This Pillow was built without the format.
            continue
        found.append(out.getvalue())
    return found + _real_photos()


def _real_photos() -> list[bytes]:
    try:
        root = data_root("grocery-web")
    except FileNotFoundError:
        return []
    files = sorted(file for file in (root / "train").rglob("*") if file.is_file())
    some = files[:: max(1, len(files) // REAL_PHOTOS)]
    return [data for data in (file.read_bytes() for file in some) if 0 < len(data) < 200_000]


def whole_texts(folder: Path) -> dict[str, list[bytes]]:
    """A whole file of each kind of table, and contest files."""
    rows = [(f"train/{label}/{n}.jpg", label) for label in ("0012", "épine", "a b") for n in "123"]
    listed = pd.DataFrame(rows, columns=["path", "label"])
    for path in listed["path"]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"")
    table = tables.new_table(list_images(folder, "train", ""))
    many = pd.concat([listed.assign(path=f"{n}/" + listed["path"]) for n in range(60)])
    parquet = []
    checked = {"write_page_checksum": True}
    for frame, settings in ((table, {}), (table, checked | {"compression": "zstd"}), (many, {})):
        out = io.BytesIO()
        frame.to_parquet(out, index=False, **settings)
        parquet.append(out.getvalue())
    journal = Journal(folder / "whole.csv")
    for number, (path, label) in enumerate(rows):
        what = ("keep", "drop", "relabel", "undo")[number % 4]
        journal.append(path, what, label if what == "relabel" else "", 'a "shown", p .9', "Ann, B.")
    quoted = '"path","label","note"\r\n"train/0012/1.jpg","a, ""b""","x\ny"\r\n'
    contests = [file.read_bytes() for file in sorted((PROJECT / "params").glob("*.yaml"))]
    return {
        "listing.csv": [listed.to_csv(index=False).encode(), many.to_csv(index=False).encode()]
        + [quoted.encode("utf-8-sig")],
        "listing.parquet": parquet[2:] + parquet[:1],
        "table.parquet": parquet[:2],
        "journal.csv": [journal.path.read_bytes()],
        "contest.yaml": contests,
    }


# How it is mutated.


def flip_bits(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    for _ in range(draw.choice((1, 1, 2, 5, 30))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def flip_bits_of_the_head(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    for _ in range(draw.choice((1, 2, 5))):
        data[draw.randrange(min(len(data), 80))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(data)


def cut_off(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    return bytes(data[: draw.choice((draw.randrange(len(data)), len(data) - draw.randrange(1, 9)))])


def insert_block(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    at, block = draw.randrange(len(data)), draw.randbytes(draw.choice((1, 4, 64, 4096)))
    return bytes(data[:at] + block + data[at:])


def delete_block(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    at = draw.randrange(len(data))
    return bytes(data[:at] + data[at + draw.choice((1, 4, 64, 1024)) :])


def zero_block(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    at = draw.randrange(len(data))
    block = data[at : at + draw.choice((4, 64, 1024))]
    return bytes(data[:at] + bytes(len(block)) + data[at + len(block) :])


def repeat_block(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    at = draw.randrange(len(data))
    block = data[at : at + draw.choice((2, 16, 200))]
    return bytes(data[:at] + block * draw.choice((2, 50, 2000)) + data[at:])


def splice_heads(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    other = draw.choice(others)
    head = other[: draw.choice((4, 16, 40, len(other) // 2 + 1))]
    return head + bytes(data[draw.choice((0, len(head))) :])


def change_size(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    """Other fields of width and height, of those formats where they lie at a known place."""
    value = draw.choice((0, 1, 2, 255, 3000, 10_900, 30_000, 65_535))
    if data[:2] == b"\xff\xd8":
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            if (at := data.find(marker)) > 0 and len(data) > at + 9:
                at += 5 + draw.choice((0, 2))
                data[at : at + 2] = struct.pack(">H", value)
                return bytes(data)
    if data[:4] == b"\x89PNG" and len(data) > 33:
        at = 16 + draw.choice((0, 4))
        data[at : at + 4] = struct.pack(">I", draw.choice((value, 2**31 - 1)))
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
        return bytes(data)
    at = {b"GI": 6, b"BM": 18, b"RI": 24}.get(bytes(data[:2]), 4) + draw.choice((0, 2))
    data[at : at + 2] = struct.pack("<H", value)
    return bytes(data)


def change_a_chunk(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    """Delete, double or spoil one chunk of a PNG, its checksum made right again; else a block."""
    if data[:4] != b"\x89PNG":
        return draw.choice((delete_block, repeat_block))(data, draw, others)
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        chunks.append((bytes(data[at + 4 : at + 8]), bytearray(data[at + 8 : at + 8 + length])))
        at += 12 + length
    which = draw.randrange(len(chunks))
    kind, body = chunks[which]
    if body and (how := draw.randrange(4)) > 1:
        body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
    elif not body or how == 0:
        del chunks[which]
    else:
        chunks.insert(which, (kind, body))
    out = bytes(data[:8])
    for name, part in chunks:
        out += struct.pack(">I", len(part)) + name + bytes(part)
        out += struct.pack(">I", zlib.crc32(name + bytes(part)))
    return out


Mutation = Callable[[bytearray, random.Random, list[bytes]], bytes]
OF_BYTES: list[Mutation] = [flip_bits, flip_bits_of_the_head, cut_off, insert_block, delete_block]
OF_BYTES += [zero_block, repeat_block, splice_heads]
OF_IMAGES: list[Mutation] = [*OF_BYTES, change_size, change_size, change_a_chunk]

SIGNS = [
    '"',
    "'",
    "\0",
    ",",
    ";",
    "\t",
    "\r",
    "\n",
    "\ufeff",
    "\u2028",
    "é",
    "é",
    "🌷",
    "\x7f",
    "[",
    "{",
]
SIGNS += ["&a ", "*a", "!!python/name:os.system ", ": ", "- ", "#", "%", "\\", "<<: ", "? ", "| "]
SIGNS += ["../", "/", "0x", "1e999", ".nan", "2024-99-99", "null", "~", "9" * 5000, "[" * 3000]


def insert_signs(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    for _ in range(draw.choice((1, 1, 3, 20))):
        at = draw.randrange(len(data) + 1)
        data = data[:at] + draw.choice(SIGNS).encode() + data[at:]
    return bytes(data)


def other_encoding(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    name = draw.choice(("latin-1", "utf-16", "utf-16-le", "utf-8-sig", "utf-32", "cp437"))
    return bytes(data).decode("utf-8", "replace").encode(name, "replace")


def other_lines(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    lines = bytes(data).split(b"\n")
    how = draw.randrange(4)
    if how == 0:
        draw.shuffle(lines)
    elif how == 1:
        lines.insert(draw.randrange(len(lines)), draw.choice(lines))
    elif how == 2:
        del lines[draw.randrange(len(lines))]
    return draw.choice((b"\n", b"\r\n", b"\r", b"\n\n")).join(lines)


def other_separators(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    old = draw.choice((b",", b'"', b":", b" ", b"\n"))
    return bytes(data).replace(old, draw.choice((b";", b"\t", b"", b",,", b'"', b"|")))


def a_long_field(data: bytearray, draw: random.Random, others: list[bytes]) -> bytes:
    at = draw.randrange(len(data))
    return bytes(data[:at]) + b"x" * draw.choice((5000, 200_000)) + bytes(data[at:])


OF_TEXT: list[Mutation] = [insert_signs, insert_signs, other_encoding, other_lines]
OF_TEXT += [other_separators, a_long_field, *OF_BYTES]


def kind_of(number: int) -> str:
    """The kind of an input, by its number: the shares come round in turn."""
    kinds = [kind for kind, share in SHARES.items() for _ in range(share)]
    return kinds[number % len(kinds)]


def make_input(corpus: dict[str, list[bytes]], seed: int, number: int) -> tuple[bytes, str]:
    """The bytes of one input, and how they were mutated; the same for the same seed."""
    kind = kind_of(number)
    draw = random.Random(f"{seed} {number}")
    text = kind.endswith((".csv", ".yaml"))
    ways = OF_TEXT if text else OF_IMAGES if kind == "image" else OF_BYTES
    data, told = draw.choice(corpus[kind]), []
    others = corpus[kind] + corpus["image"][:3]
    for _ in range(draw.choice((1, 1, 2))):
        if data:
            way = draw.choice(ways)
            told.append(way.__name__)
            data = way(bytearray(data), draw, others)
    return data, " + ".join(told)


# What is done with it.


def take(kind: str, file: Path) -> str:
    """Read one input as the kit does; gives `used` or `listed`, else what is wrong."""
    if kind == "image":
        return _take_image(file)
    readers = {
        "listing.csv": lambda: list_images(file.parent, file.name, ""),
        "listing.parquet": lambda: list_images(file.parent, file.name, ""),
        "table.parquet": lambda: tables.classes_of(tables.read_table(file)),
        "journal.csv": lambda: (Journal(file).latest(), Journal(file).disagreements()),
        "contest.yaml": lambda: _read_contest(file),
    }
    try:
        readers[kind]()
    except (ValueError, FileNotFoundError) as error:
        # An error of this kit names the file and says more than that.
        if file.name in str(error) and len(str(error)) > len(str(file)) + 10:
            return "listed"
        return f"an error that does not name the file: {type(error).__name__}: {str(error)[:300]}"
    return "used"


def _read_contest(file: Path) -> None:
    from fgvc_utils.pipeline.contest_file import read_contest

    read_contest(file)


def _take_image(file: Path) -> str:
    row = images._take_in(file.name, root=file.parent, cache=file.parent / "cache", side=SIDE)
    if not row["error"]:
        cached = file.parent / "cache" / row["cached"]
        height, width = images.read_cached(cached).shape[:2]
        cached.unlink()
        fits = min(height, width) <= SIDE and row["width"] > 0 and row["look"]
        return "used" if fits else f"used, but its row is odd: {row}"
    if row["error"].startswith("MemoryError"):
        return f"out of memory: {row['error']}"
    return "listed"


Taker = Callable[[str, Path], str]


def work(pipe: Connection, folder: Path, taker: Taker, memory: int) -> None:
    """Take inputs, one at a time, until there is no more; runs in a process of its own."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    # Libraries say a lot of broken files; what counts is what the reader makes of it.
    os.dup2(os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    for kind, file in iter(pipe.recv, None):
        try:
            pipe.send(taker(kind, file))
        except BaseException as error:
            pipe.send(f"{type(error).__name__}: {str(error)[:300]}")


class Watched:
    """A process that takes inputs and is begun anew where one of them kills or holds it."""

    def __init__(
        self,
        folder: Path,
        taker: Taker = take,
        limit: float = LIMIT_SECONDS,
        memory: int = MEMORY_BYTES,
    ) -> None:
        self.folder, self.taker, self.limit, self.memory = folder, taker, limit, memory
        self.process: multiprocessing.Process | None = None

    def take(self, kind: str, file: Path) -> str:
        """What became of one input, whatever it does to the process."""
        if self.process is None:
            self._begin()
        try:
            self.pipe.send((kind, file))
            if self.pipe.poll(self.limit):
                return self.pipe.recv()
            self.process.kill()
            self._end()
            return f"hung for {self.limit} s"
        except (EOFError, OSError):
            return f"killed its process: exit code {self._end()}"

    def _begin(self) -> None:
        # Spawned: a fork would have this process's threads' locks in whatever state.
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        given = (other, self.folder, self.taker, self.memory)
        self.process = context.Process(target=work, args=given, daemon=True)
        self.process.start()
        other.close()

    def _end(self) -> int | None:
        """Wait for the process, which ends by itself or was killed; gives its exit code."""
        self.process.join(self.limit)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        code, self.process = self.process.exitcode, None
        self.pipe.close()
        return code

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.pipe.send(None)
            self._end()


def run(folder: Path, seed: int, inputs: int = 2400, *, first: int = 0) -> dict:
    """Make and take so many inputs, from number `first` on, in a folder that may be empty.

    Prints a table by kind, and each input that was neither used nor listed; these are kept in
    `folder`, named by their number. Returns `fuzz_inputs`, `fuzz_unhandled` and, by kind, `used`
    and `listed`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    corpus = {"image": whole_images(), **whole_texts(folder / "whole")}
    ends: Counter[tuple[str, str]] = Counter()
    slowest, watched, began = (0.0, ""), Watched(folder), time.monotonic()
    for number in range(first, first + inputs):
        kind = kind_of(number)
        data, how = make_input(corpus, seed, number)
        file = folder / f"{number:06d}-{kind if '.' in kind else kind + '.jpg'}"
        file.write_bytes(data)
        started = time.monotonic()
        end = watched.take(kind, file)
        slowest = max(slowest, (time.monotonic() - started, f"{file.name} ({how})"))
        if end in ("used", "listed"):
            file.unlink()
        else:
            print(f"{file} ({how}): {end}", flush=True)
            end = "unhandled"
        ends[kind, end] += 1
    watched.close()
    print(f"{'kind':<16} {'inputs':>7} {'used':>6} {'listed':>7} {'unhandled':>10}")
    for kind in SHARES:
        counts = [ends[kind, end] for end in ("used", "listed", "unhandled")]
        print(f"{kind:<16} {sum(counts):>7} {counts[0]:>6} {counts[1]:>7} {counts[2]:>10}")
    print(f"slowest: {slowest[0]:.1f} s, {slowest[1]}; {time.monotonic() - began:.0f} s in all")
    unhandled = sum(count for (_, end), count in ends.items() if end == "unhandled")
    return {
        "fuzz_inputs": inputs,
        "fuzz_unhandled": unhandled,
        "used": {kind: ends[kind, "used"] for kind in SHARES},
        "listed": {kind: ends[kind, "listed"] for kind in SHARES},
    }


def main() -> int:
    """The command line; returns 1 where an input was neither used nor listed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--folder", type=Path, help="where inputs lie; a temporary one by default")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    figures = run(folder, given.seed, given.inputs, first=given.first)
    print(json.dumps({name: figures[name] for name in ("fuzz_inputs", "fuzz_unhandled")}))
    return int(figures["fuzz_unhandled"] > 0)


if __name__ == "__main__":
    sys.exit(main())
