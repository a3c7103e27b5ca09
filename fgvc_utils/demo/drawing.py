"""The demo set: a small web-like fine-grained contest, drawn on the spot, its truth known.

`python -m fgvc_utils.demo FOLDER` draws look-alike species in genera with the noise of the web in
known shares. The folder holds

- `train/*/*.jpg`, a folder `000`… for each class, and `train.csv` (path, label), which names the
  classes; the ending is always `.jpg`, the content not always
- `test/*.jpg` and `sample_submission.csv` (path, class)
- `truth/train.csv` (path, given, kind, true, stored_as), `truth/test.csv` (path, class) and
  `truth/classes.csv` (class, look, coarse): for scoring alone
- `demo.json`: the parameters it was drawn with
"""

import argparse
import csv
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from fgvc_utils.core.files import read_json, write_json
from fgvc_utils.demo.art import GENERA, draw_lifeless, draw_subject

# Raised when the same parameters give other pictures, so that an older folder is not taken for it.
VERSION = 2

# A set that is drawn in about a second, with every kind of noise in it.
TINY = {
    "genera": 3,
    "species_per_genus": 2,
    "train_images": 120,
    "test_images": 24,
    "side": 64,
    "chaotic": 0.05,
    "chaotic_classes": 2,
    "corrupt": 0.025,
    "stored_oddly": 0.2,
}

# The first words of the classes' names, in the order of their folders: sorted names are in the
# order of the folders, and the name of a class tells its group but not what it looks like.
EPITHETS = (
    *("Alpine", "Arctic", "Atlantic", "Balkan", "Baltic", "Bohemian", "Boreal", "Carpathian"),
    *("Caspian", "Coastal", "Common", "Desert", "Dwarf", "Eastern", "Forest", "Giant"),
    *("Highland", "Iberian", "Imperial", "Island", "Lesser", "Lowland", "Marsh", "Meadow"),
    *("Mountain", "Northern", "Pacific", "Prairie", "River", "Royal", "Siberian", "Southern"),
    *("Steppe", "Tundra", "Valley", "Western"),
)
CHAOTIC = "Wild finds"

# A process needs half a second to start: fewer images than this are drawn sooner without.
WORTH_A_PROCESS = 300

CORRUPT = ("truncated", "empty", "html")
# How files that are not plain three-channel JPEG are stored; noise has more logos and scans.
ODD_NOISE = {"L": 0.44, "P": 0.21, "RGBA": 0.13, "CMYK": 0.11, "EXIF": 0.11}
ODD_OTHERS = {"L": 0.43, "EXIF": 0.17, "P": 0.13, "CMYK": 0.12, "RGBA": 0.1, "animated": 0.05}


class Item(NamedTuple):
    """One file to draw: where it goes, what the truth says, and what is seen on it."""

    path: str
    given: str
    kind: str
    true: str
    stored_as: str
    stream: tuple[int, ...]
    genus: int = -1
    species: int = -1
    late: bool = False
    copy_of: str = ""
    exact: bool = False


# ------------------------------------------------------------------------------------- the plan


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers that sum to `total`, in proportion to `weights` (largest remainder)."""
    quota = np.asarray(weights, float) / np.sum(weights) * total
    counts = np.floor(quota).astype(int)
    for k in np.argsort(counts - quota, kind="stable")[: total - counts.sum()]:
        counts[k] += 1
    return counts.tolist()


def class_sizes(total: int, classes: int, imbalance: float) -> list[int]:
    """A long tail: sizes that sum to `total`, the largest about `imbalance` times the smallest."""
    rank = np.linspace(1, 0, classes)
    return apportion(total, 1 + (imbalance - 1) * rank**5)


def file_name(stream: tuple[int, ...]) -> str:
    """A name like a content hash, which says nothing of what is in the file."""
    return hashlib.sha256(repr(stream).encode()).hexdigest()[:12] + ".jpg"


def kind_counts(p: dict) -> dict[str, int]:
    """How many train images of each kind the parameters ask for; `ok` is what is left."""
    noisy = ("noise", "coarse", "fine", "chaotic", "duplicate", "corrupt")
    counts = {kind: round(p[kind] * p["train_images"]) for kind in noisy}
    return {"ok": p["train_images"] - sum(counts.values()), **counts}


def plan(p: dict) -> tuple[list[Item], list[Item], list[dict]]:
    """Train items, test items and the rows of classes.csv for checked parameters."""
    rng = np.random.default_rng([p["seed"], 0])
    per_genus, n = p["species_per_genus"], p["genera"] * p["species_per_genus"]
    # Labels are shuffled over the species, so that neighbours in the list are no relatives.
    species_of = rng.permutation(n)
    genus_code = rng.permutation(p["genera"])
    counts = kind_counts(p)
    sizes = rng.permutation(class_sizes(counts["ok"], n, p["imbalance"]))
    share = sizes / sizes.sum()

    def genus(label: int) -> int:
        return int(species_of[label]) // per_genus

    def other(label: int, same_genus: bool) -> int:
        fits = [k for k in range(n) if k != label and (genus(k) == genus(label)) == same_genus]
        return int(rng.choice(fits))

    names = [f"{EPITHETS[label]} {GENERA[genus(label)].name}" for label in range(n)]
    names += [f"{CHAOTIC} {k + 1:03d}" for k in range(p["chaotic_classes"])]

    drawn: list[tuple[int, str, int]] = []  # given, kind, true (-1: nothing living)
    for label in range(n):
        drawn += [(label, "ok", label)] * int(sizes[label])
    for kind in ("noise", "coarse", "fine", "corrupt"):
        for label in rng.choice(n, counts[kind], p=share).tolist():
            true = {"noise": -1, "corrupt": label}.get(kind)
            drawn.append((label, kind, other(label, kind == "fine") if true is None else true))
    for k in range(counts["chaotic"]):
        true = -1 if rng.random() < 0.35 else int(rng.integers(n))
        drawn.append((n + k % p["chaotic_classes"], "chaotic", true))
    stored = _stored(rng, [kind for _, kind, _ in drawn], p)

    def item(index: int, given: int, kind: str, true: int, how: str) -> Item:
        stream = (p["seed"], 1, index)
        seen = (-1, -1) if true < 0 else divmod(int(species_of[true]), per_genus)
        path = f"train/{given:03d}/{file_name(stream)}"
        return Item(path, names[given], kind, "" if true < 0 else names[true], how, stream, *seen)

    train = [item(k, *row, stored[k]) for k, row in enumerate(drawn)]
    sources = rng.choice(counts["ok"], counts["duplicate"], replace=False).tolist()
    for k, source in enumerate(sources):
        true = drawn[source][2]
        wrong = other(true, same_genus=bool(k % 3 == 0))
        # Every second copy keeps its bytes, and with them the way it is stored.
        how = train[source].stored_as if k % 2 == 0 else "RGB"
        copy = item(len(train), wrong, "duplicate", true, how)
        train.append(copy._replace(copy_of=train[source].path, exact=k % 2 == 0))

    labels = rng.permutation(np.repeat(np.arange(n), p["test_images"] // n)).tolist()
    test = []
    for k, label in enumerate(labels):
        seen = divmod(int(species_of[label]), per_genus)
        path = f"test/{k:05d}.jpg"
        test.append(Item(path, "", "ok", names[label], "RGB", (p["seed"], 2, k), *seen, late=True))
    classes = [
        {
            "class": names[label],
            "look": GENERA[genus(label)].species[species_of[label] % per_genus][0],
            "coarse": f"{genus_code[genus(label)]:03d}",
        }
        for label in range(n)
    ]
    return train, test, classes


def _stored(rng: np.random.Generator, kinds: list[str], p: dict) -> list[str]:
    """How each drawn file is stored: `RGB` for most, the odd ways in the shares asked for."""
    stored = ["RGB"] * len(kinds)
    corrupt = [k for k, kind in enumerate(kinds) if kind == "corrupt"]
    for k, place in enumerate(corrupt):
        stored[place] = CORRUPT[k % len(CORRUPT)]
    noise = [k for k, kind in enumerate(kinds) if kind == "noise"]
    others = [k for k, kind in enumerate(kinds) if kind not in ("noise", "corrupt")]
    odd = round(p["stored_oddly"] * p["train_images"])
    odd_noise = min(odd, round(p["stored_oddly_noise"] * len(noise)))
    for places, number, ways in (
        (noise, odd_noise, ODD_NOISE),
        (others, min(odd - odd_noise, len(others)), ODD_OTHERS),
    ):
        chosen = rng.choice(places, number, replace=False).tolist() if number else []
        hows = np.repeat(list(ways), apportion(number, list(ways.values()))).tolist()
        for place, how in zip(chosen, hows, strict=True):
            stored[place] = how
    return stored


# ---------------------------------------------------------------------------- drawing and storing


def store(image: Image.Image, stored_as: str, quality: int, rng: np.random.Generator) -> bytes:
    """The bytes of an RGB image, stored in one of the ways that the web stores images."""
    out = io.BytesIO()
    if stored_as == "L" or stored_as == "CMYK":
        image.convert(stored_as).save(out, "JPEG", quality=quality)
    elif stored_as == "P":
        few = image.quantize(int(rng.choice([16, 64, 256])))
        few.save(out, "GIF" if rng.random() < 0.5 else "PNG")
    elif stored_as == "RGBA":
        cut = Image.new("L", image.size, 0)
        edge, radius = rng.uniform(0, 0.03, 2) * image.width, rng.uniform(0, 0.25) * image.width
        box = (edge[0], edge[1], image.width - edge[0], image.height - edge[1])
        ImageDraw.Draw(cut).rounded_rectangle(box, radius, fill=255)
        image.putalpha(cut)
        image.save(out, "PNG")
    elif stored_as == "EXIF":
        orientation, turn = [
            (3, Image.Transpose.ROTATE_180),
            (6, Image.Transpose.ROTATE_90),
            (8, Image.Transpose.ROTATE_270),
        ][rng.integers(3)]
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.transpose(turn).save(out, "JPEG", quality=quality, exif=exif)
    elif stored_as == "animated":
        step = max(1, image.width // 40)
        frames = [image.transform(image.size, 0, (1, 0, k * step, 0, 1, 0)) for k in range(3)]
        few = [frame.quantize(64) for frame in frames]
        few[0].save(out, "GIF", save_all=True, append_images=few[1:], duration=120, loop=0)
    else:
        image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def draw_item(item: Item, folder: Path, side: int) -> None:
    """Draw one file into the folder; it depends on nothing but the item and the side."""
    rng = np.random.default_rng(item.stream)
    if item.genus < 0:
        image = draw_lifeless(rng, side)
    else:
        image = draw_subject(rng, item.genus, item.species, side, item.late)
    quality = int(rng.integers(86, 96) if item.late else rng.integers(66, 94))
    if item.stored_as == "empty":
        data = b""
    elif item.stored_as == "html":
        data = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>\n"
        data += b"<h1>Not Found</h1><p>The image was moved or deleted.</p></body></html>\n"
    elif item.stored_as == "truncated":
        data = store(image, "RGB", quality, rng)
        data = data[: int(len(data) * rng.uniform(0.3, 0.6))]
    else:
        data = store(image, item.stored_as, quality, rng)
    (folder / item.path).write_bytes(data)


def copy_item(item: Item, folder: Path) -> None:
    """Store a duplicate: the same bytes, or a smaller image encoded anew as plain RGB."""
    data = (folder / item.copy_of).read_bytes()
    if not item.exact:
        rng = np.random.default_rng(item.stream)
        image = Image.open(io.BytesIO(data)).convert("RGB")
        factor = rng.uniform(0.7, 0.95)
        size = (round(image.width * factor), round(image.height * factor))
        image = image.resize(size, Image.Resampling.LANCZOS)
        data = store(image, "RGB", int(rng.integers(55, 80)), rng)
    (folder / item.path).write_bytes(data)


def _write_rows(path: Path, columns: Sequence[str], rows: Sequence[dict]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _draw_all(folder: Path, p: dict, processes: int) -> None:
    train, test, classes = plan(p)
    for name in {"test", "truth", *(Path(item.path).parent for item in train)}:
        (folder / name).mkdir(parents=True)
    fresh = [item for item in train if not item.copy_of] + test
    draw = partial(draw_item, folder=folder, side=p["side"])
    if processes > 1 and len(fresh) > WORTH_A_PROCESS:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            for _ in pool.map(draw, fresh, chunksize=20):
                pass
    else:
        for item in fresh:
            draw(item)
    for item in train:
        if item.copy_of:
            copy_item(item, folder)
    rows = sorted((item._asdict() for item in train), key=lambda row: row["path"])
    listed = [{"path": row["path"], "label": row["given"]} for row in rows]
    _write_rows(folder / "train.csv", ("path", "label"), listed)
    columns = ("path", "given", "kind", "true", "stored_as")
    _write_rows(folder / "truth/train.csv", columns, rows)
    answers = [{"path": item.path, "class": item.true} for item in test]
    _write_rows(folder / "truth/test.csv", ("path", "class"), answers)
    _write_rows(folder / "truth/classes.csv", ("class", "look", "coarse"), classes)
    form = [{"path": item.path, "class": classes[0]["class"]} for item in test]
    _write_rows(folder / "sample_submission.csv", ("path", "class"), form)
    write_json(_record(p), folder / "demo.json")


# ------------------------------------------------------------------------------------ parameters


def _record(p: dict) -> dict:
    return {"drawn_by": "fgvc_utils.demo", "version": VERSION, "parameters": p}


def _check(p: dict) -> None:
    """Raise TypeError or ValueError that names the parameter, before anything is drawn."""
    most = min(len(genus.species) for genus in GENERA)
    whole = {
        "genera": (2, len(GENERA)),
        "species_per_genus": (2, most),
        "train_images": (1, 1_000_000),
        "test_images": (1, 1_000_000),
        "side": (32, 1024),
        "seed": (0, 2**63 - 1),
        "chaotic_classes": (0, 100),
    }
    shares = ("noise", "coarse", "fine", "chaotic", "duplicate", "corrupt")
    shares += ("stored_oddly", "stored_oddly_noise")
    ranges = {**whole, **dict.fromkeys(shares, (0, 1)), "imbalance": (1, 100)}
    for name, (low, high) in ranges.items():
        kinds = int if name in whole else (int, float)
        if isinstance(p[name], bool) or not isinstance(p[name], kinds):
            wanted = "a whole number" if name in whole else "a number"
            raise TypeError(f"{name} must be {wanted}, not {p[name]!r}")
        if not low <= p[name] <= high:
            raise ValueError(f"{name} must lie within {low} and {high}, not {p[name]}")
    species = p["genera"] * p["species_per_genus"]
    if p["test_images"] % species:
        raise ValueError(
            f"test_images must be a multiple of the {species} species "
            f"(genera x species_per_genus), not {p['test_images']}"
        )
    counts = kind_counts(p)
    if counts["ok"] < 1:
        raise ValueError("noise, coarse, fine, chaotic, duplicate and corrupt must sum to under 1")
    if counts["duplicate"] > counts["ok"]:
        raise ValueError("duplicate asks for more copies than there are good images: lower it")
    smallest = min(class_sizes(counts["ok"], species, p["imbalance"]))
    if smallest < 2:
        raise ValueError(
            f"train_images = {p['train_images']} leaves the smallest class {smallest} good images "
            "where it needs 2: raise train_images or lower imbalance or the shares of noise"
        )
    if (counts["chaotic"] > 0) != (p["chaotic_classes"] > 0) or (
        counts["chaotic"] < 2 * p["chaotic_classes"]
    ):
        raise ValueError(
            f"chaotic_classes = {p['chaotic_classes']} needs two images a class, and the share "
            f"chaotic = {p['chaotic']} gives {counts['chaotic']} in all: change one of them"
        )


def _is_finished(folder: Path, p: dict) -> bool:
    """Whether the set with these parameters lies there; raises where anything else does."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    note = folder / "demo.json"
    record = read_json(note) if note.is_file() else None
    if not isinstance(record, dict) or record.get("drawn_by") != "fgvc_utils.demo":
        raise FileExistsError(
            f"{folder} exists and is no demo set, so it is left alone: name another folder"
        )
    # Compared as JSON says it: 1 and 1.0 are the same share.
    if record != json.loads(json.dumps(_record(p))):
        raise FileExistsError(
            f"{folder} holds a demo set drawn with other parameters (see {note}), so it is left "
            "alone: name another folder, or delete this one and draw again"
        )
    return True


def draw_demo(
    folder: Path | str,
    *,
    genera: int = 9,
    species_per_genus: int = 4,
    train_images: int = 1000,
    test_images: int = 360,
    side: int = 192,
    seed: int = 0,
    noise: float = 0.15,
    coarse: float = 0.10,
    fine: float = 0.10,
    chaotic: float = 0.03,
    chaotic_classes: int = 3,
    duplicate: float = 0.025,
    corrupt: float = 0.006,
    stored_oddly: float = 0.115,
    stored_oddly_noise: float = 0.4,
    imbalance: float = 4.5,
    processes: int = 2,
) -> None:
    """Draw the demo set into `folder`, whole or not at all.

    The same parameters give the same bytes with the same versions of NumPy and Pillow, however
    many processes draw. A set that is already there with the same parameters is left as it is.

    Parameters
    ----------
    genera, species_per_genus
        2…9 and 2…4; the classes of the test set are their product.
    train_images, test_images
        Files in all; test_images is a multiple of the number of species.
    side
        Length in pixels of about the shorter side of an image.
    noise, coarse, fine, chaotic, duplicate, corrupt
        Shares of the train images: nothing living is seen; the label of another genus; the label
        of a sister species; images of all kinds in classes that mean nothing; a second copy under
        a wrong label; files that cannot be read. The rest has its right label.
    chaotic_classes
        Labels beyond the species, over which the chaotic images are spread.
    stored_oddly, stored_oddly_noise
        Share of the train images that are no plain three-channel file, and the share of the noise
        images that is among them. Copies come on top of that.
    imbalance
        Images of the largest class over those of the smallest, rightly labelled ones counted.
    processes
        At most this many draw at once.

    Raises
    ------
    TypeError, ValueError
        A parameter is of the wrong type or out of range; the message names it.
    FileExistsError
        The folder holds something else; nothing in it was touched.
    """
    p = {k: v for k, v in locals().items() if k not in ("folder", "processes")}
    _check(p)
    if isinstance(processes, bool) or not isinstance(processes, int) or processes < 1:
        raise ValueError(f"processes must be a whole number from 1 up, not {processes!r}")
    folder = Path(folder).resolve()
    if _is_finished(folder, p):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        part.chmod(0o755)
        _draw_all(part, p, processes)
        try:
            os.rename(part, folder)
        except OSError:
            # Someone else may have drawn the same set in the meantime.
            if not _is_finished(folder, p):
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 when the set is there, 2 with a message when it cannot be drawn."""
    parser = argparse.ArgumentParser(prog="python -m fgvc_utils.demo", description="Draw the demo.")
    parser.add_argument("folder", type=Path, help="where the set goes; new, empty or a demo set")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws another set")
    parser.add_argument("--tiny", action="store_true", help="6 species, 120 and 24 small images")
    given = parser.parse_args(arguments)
    try:
        draw_demo(given.folder, seed=given.seed, **(TINY if given.tiny else {}))
    except (ValueError, FileExistsError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    print(f"The demo set lies in {given.folder}")
    return 0
