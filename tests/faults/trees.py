"""Feed random trees of rubbish, mutated listings and contest files to the check and the listing.

    python tests/faults/trees.py [--trees 400] [--seed 0] [--folder FOLDER]

Each tree is a data root with whatever lies beside images on people's disks: files of other
programs, empty, cut and hidden ones, links that lead out, in circles or nowhere, pipes, folders in
folders, names with blanks, accents, newlines and bytes that are no text. Beside it lies a contest
file, and every third tree has listings in place of folders; text is mutated as `fuzz` does. Good
ends are two: a right listing (each row is a file of the tree under its class, and no whole image is
missing), or errors that each name something of the tree or a parameter. A traceback is none.

Prints what became of the trees, and as its last line JSON: `trees`, `trees_unhandled`.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import yaml
from fuzz import OF_TEXT, Watched, picture

from fgvc_utils.contest.listing import LISTING_ENDINGS, list_images, spelt_out
from fgvc_utils.contest.parameters import ParameterError

NAMES = ["a", "0012", "épine", "e\u0301pine", "a b", "x" * 200, ".hidden", "@eaDir", "__MACOSX"]
NAMES += ["a\nb", "semi;colon", '"quoted"', "$HOME", "~", "..a", "con", "🌷", "-rf", "%20", "a.jpg"]
FILES = ["Thumbs.db", "desktop.ini", ".DS_Store", "a.crdownload", "labels.csv", "README", "b.txt"]
FILES += ["1.jpg", "2.JPG", "3.png", "4", "é.jpg", "a b.jpeg", "._1.jpg", "a\tb.jpg", "1.jpg.part"]
SIDES = ["train", "./train", "train/", "../train", ".", "", "gone", "test", "~", "$GONE"]
# Classes that each tree has.
SURE = {"oak", "rose"}
# The check loads torch, which maps more than it holds.
LIMIT_SECONDS = 120
MEMORY_BYTES = 24 * 2**30
# Words of which each error must hold one, where it names no file: parameters, and the contest file.
PARAMETERS = ("train", "test", "data_root", "outputs", "_column", "section", "01_noise", "stage")


def _name(draw: random.Random, names: list[str]) -> bytes:
    if draw.random() < 0.04:
        return draw.choice((b"\xff\xfe", b"caf\xe9.jpg", b"\x80"))
    return draw.choice(names).encode()


def _fill(folder: bytes, draw: random.Random, whole: bytes, depth: int) -> None:
    """Put files, links, pipes and folders into a folder."""
    for _ in range(draw.choice((0, 1, 2, 4, 6))):
        place = os.path.join(folder, _name(draw, FILES))
        if os.path.lexists(place):
            continue
        what = draw.random()
        if what < 0.05:
            inside, outside = (b"gone", os.path.basename(place), b"whole.jpg"), (b"/etc/hostname",)
            target = draw.choice(inside * 5 + outside + (b".", b".."))
            os.symlink(target, place)
        elif what < 0.07:
            os.mkfifo(place)
        else:
            content = draw.choice((whole, whole, whole, b"", whole[:99], b"<html>", b"\0" * 40))
            with open(place, "wb") as file:
                file.write(content)
    for _ in range(draw.choice((0, 0, 1, 2)) if depth < 3 else 0):
        place = os.path.join(folder, _name(draw, NAMES))
        if not os.path.lexists(place):
            os.mkdir(place)
            _fill(place, draw, whole, depth + 1)


def make_tree(folder: Path, seed: int, number: int) -> Path:
    """Draw the tree of this seed and number into a new folder; returns its contest file."""
    import io

    draw, out = random.Random(f"tree {seed} {number}"), io.BytesIO()
    picture(number).save(out, "JPEG")
    whole, root = out.getvalue(), folder / "data"
    for side in ("train", "test"):
        if draw.random() < 0.95:
            (root / side).mkdir(parents=True)
    root.mkdir(parents=True, exist_ok=True)
    if (root / "train").is_dir():
        stray = draw.random() < 0.1
        for name in [*draw.sample(NAMES, draw.choice((0, 1, 2, 4))), *sorted(SURE)]:
            (root / "train" / name).mkdir(exist_ok=True)
            _fill(os.fsencode(root / "train" / name), draw, whole, 1)
            (root / "train" / name / "whole.jpg").write_bytes(whole)
        if stray:
            _fill(os.fsencode(root / "train"), draw, whole, 3)
    if (root / "test").is_dir():
        _fill(os.fsencode(root / "test"), draw, whole, 1)
    train, test = "train", "test" if draw.random() < 0.8 else ""
    if draw.random() < 0.3:
        train, test = draw.choice(SIDES), draw.choice(("test", *SIDES))
    if number % 3 == 0:
        train = _listing(root, draw)
    shared = {"run": "tree", "data_root": str(root), "outputs": str(folder / "outputs")}
    # To ask is the usual way, and ends nearly each such tree before its listing is looked at.
    others = draw.choice(("leave_out", "leave_out", "read", "ask"))
    noise = {"train": train, "test": test, "folds": 2, "other_files": others}
    stages: dict = {"01_noise": noise}
    text = yaml.safe_dump(shared | stages, allow_unicode=True).encode()
    if draw.random() < 0.3:
        text = draw.choice(OF_TEXT)(bytearray(text), draw, [whole])
    # Whatever became of it, nothing outside the folder is written or read.
    contest = folder / "contest.yaml"
    contest.write_bytes(text)
    return contest


def _listing(root: Path, draw: random.Random) -> str:
    """Write a listing of the tree's files, often mutated; returns its name."""
    rows = ["path,label"]
    for file in sorted(os.fsencode(file) for file in (root / "train").rglob("*")):
        name = os.path.relpath(file, os.fsencode(root)).decode("utf-8", "replace")
        rows.append(",".join('"' + s.replace('"', '""') + '"' for s in (name, draw.choice(NAMES))))
    data = "\n".join(rows).encode("utf-8", "replace")
    if draw.random() < 0.7 and len(data) > 20:
        data = draw.choice(OF_TEXT)(bytearray(data), draw, [b"\xff\xd8\xff\xe0"])
    (root / "train.csv").write_bytes(data)
    return "train.csv"


def take(kind: str, contest: Path) -> str:
    """Check one contest as a user does; gives `used` or `listed`, else what is wrong."""
    from fgvc_utils.pipeline.checking import check
    from fgvc_utils.pipeline.contest_file import read_contest

    try:
        steps = read_contest(contest)
    except ParameterError as error:
        return "listed" if contest.name in str(error) else f"names nothing: {error}"
    cfg = steps[0].cfg
    if not str(cfg.outputs).startswith(str(contest.parent)):
        # A mutation sent it elsewhere, where nothing is to be looked at.
        return "listed"
    errors = check(steps, sample_seconds=0.1).errors
    drawn = {spelt_out(n) for _, folders, files in os.walk(contest.parent) for n in folders + files}
    for error in errors:
        if not any(word in error for word in PARAMETERS) and not any(n in error for n in drawn):
            return f"an error that names nothing: {error[:300]}"
    noise = next((step.cfg for step in steps if step.stage == "01_noise"), None)
    if errors or noise is None:
        return "listed"
    return _rightly(contest.parent / "data", noise)


def _rightly(root: Path, cfg: object) -> str:
    """Whether the listing of a contest without errors is right."""
    names = ("path_column", "label_column", "id_column", "other_files")
    given = {name: getattr(cfg, name) for name in names}
    found = list_images(root, cfg.train, cfg.test, **given)
    there = {}
    for folder, _, names in os.walk(root):
        for name in names:
            below = os.path.relpath(os.path.join(folder, name), root)
            there[spelt_out(below)] = below
    if not cfg.train.endswith(LISTING_ENDINGS):
        side = os.path.normpath(cfg.train)
        strangers = [path for path in found["path"] if path not in there]
        if strangers:
            return f"a row that is no file of the tree: {strangers[0]!r}"
        train = found[found["split"] == "train"]
        for path, label in zip(train["path"], train["given"], strict=True):
            if os.path.relpath(there[path], side).split("/")[0] != label:
                return f"a row of another class: {path!r} as {label!r}"
        listed = set(train["path"])
        for path, name in there.items():
            inner = os.path.relpath(name, side).split("/")
            # What a program left out by its name lies in a folder that is no class.
            classes = set(train["given"]) | (SURE if side == "train" else set())
            if inner[-1] == "whole.jpg" and inner[0] in classes and len(inner) == 2:
                if path not in listed:
                    return f"a whole image is missing: {path!r}"
    return "used"


def run(folder: Path, seed: int, trees: int = 400, *, first: int = 0) -> dict:
    """Make and check so many trees, from number `first` on.

    Prints each that ended neither way; these are kept in `folder`. Returns `trees`,
    `trees_unhandled`, `used` and `listed`.
    """
    folder, ends = Path(folder), Counter()
    folder.mkdir(parents=True, exist_ok=True)
    watched = Watched(folder, take, LIMIT_SECONDS, MEMORY_BYTES)
    for number in range(first, first + trees):
        place = folder / f"{number:06d}"
        contest = make_tree(place, seed, number)
        end = watched.take("tree", contest)
        if end not in ("used", "listed"):
            print(f"{place}: {end}", flush=True)
            end = "unhandled"
        else:
            shutil.rmtree(os.fsencode(place))
        ends[end] += 1
    watched.close()
    print(", ".join(f"{end} {ends[end]}" for end in ("used", "listed", "unhandled")))
    figures = {"trees": trees, "trees_unhandled": ends["unhandled"]}
    return figures | {"used": ends["used"], "listed": ends["listed"]}


def main() -> int:
    """The command line; returns 1 where a tree ended neither way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trees", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first tree")
    parser.add_argument("--folder", type=Path, help="where trees lie; a temporary one by default")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="trees-"))
    figures = run(folder, given.seed, given.trees, first=given.first)
    print(json.dumps({name: figures[name] for name in ("trees", "trees_unhandled")}))
    return int(figures["trees_unhandled"] > 0)


if __name__ == "__main__":
    sys.exit(main())
