"""The drawn demo set: layout, shares, determinism, odd files, refusals."""

import csv
import hashlib
import inspect
import io
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from fgvc_utils.demo import drawing
from fgvc_utils.demo.art import GENERA, LIFELESS_PICTURES, Pen, draw_lifeless
from fgvc_utils.demo.drawing import TINY, draw_demo


def rows(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def defaults() -> dict:
    known = inspect.signature(draw_demo).parameters
    return {name: p.default for name, p in known.items() if name not in ("folder", "processes")}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "tiny"
    draw_demo(folder, **TINY)
    return folder


@pytest.fixture(scope="module")
def train(tiny):
    return rows(tiny / "truth/train.csv")


def test_layout(tiny, train):
    assert sorted(p.name for p in tiny.iterdir()) == [
        "demo.json",
        "sample_submission.csv",
        "test",
        "train",
        "train.csv",
        "truth",
    ]
    on_disk = {str(p.relative_to(tiny)) for p in (tiny / "train").rglob("*") if p.is_file()}
    assert on_disk == {row["path"] for row in train}
    assert list(train[0]) == ["path", "given", "kind", "true", "stored_as"]
    for row in train:
        assert re.fullmatch(r"train/\d{3}/[0-9a-f]{12}\.jpg", row["path"])
    assert rows(tiny / "train.csv") == [
        {"path": row["path"], "label": row["given"]} for row in train
    ]
    assert len({row["path"].split("/")[2] for row in train}) == len(train)
    folders = sorted(p.name for p in (tiny / "train").iterdir())
    assert folders == [f"{k:03d}" for k in range(8)]
    name_of = {row["path"].split("/")[1]: row["given"] for row in train}
    classes = rows(tiny / "truth/classes.csv")
    assert [row["class"] for row in classes] == [name_of[folder] for folder in folders[:6]]
    assert list(Counter(row["coarse"] for row in classes).values()) == [2, 2, 2]
    assert len({row["look"] for row in classes}) == 6


def test_kinds_come_in_the_shares_asked_for(train):
    kinds = Counter(row["kind"] for row in train)
    assert kinds == {
        "noise": 18,
        "coarse": 12,
        "fine": 12,
        "chaotic": 6,
        "duplicate": 3,
        "corrupt": 3,
        "ok": 66,
    }


def test_truth_says_what_each_kind_means(tiny, train):
    coarse = {row["class"]: row["coarse"] for row in rows(tiny / "truth/classes.csv")}
    for row in train:
        given, true = row["given"], row["true"]
        match row["kind"]:
            case "ok" | "corrupt":
                assert given == true
            case "noise":
                assert given in coarse and true == ""
            case "fine":
                assert given != true and coarse[given] == coarse[true]
            case "coarse":
                assert coarse[given] != coarse[true]
            case "duplicate":
                assert given != true and true in coarse
            case "chaotic":
                assert given.startswith("Wild finds") and (true == "" or true in coarse)


def test_the_default_set_has_a_long_tail_and_the_promised_shares():
    train, test, classes = drawing.plan(defaults())
    assert (len(train), len(test), len(classes)) == (1000, 360, 36)
    good = Counter(item.given for item in train if item.kind == "ok")
    assert len(good) == 36 and min(good.values()) >= 10
    assert 4 <= max(good.values()) / min(good.values()) <= 5
    kinds = Counter(item.kind for item in train)
    assert kinds["noise"] == 150 and kinds["coarse"] == kinds["fine"] == 100
    assert kinds["duplicate"] == 25 and kinds["corrupt"] == 6 and kinds["chaotic"] == 30
    odd = [i for i in train if i.stored_as != "RGB" and i.kind not in ("corrupt", "duplicate")]
    assert len(odd) == 115
    assert sum(item.kind == "noise" for item in odd) == 60
    ways = {item.stored_as for item in odd}
    assert ways == {"L", "P", "CMYK", "RGBA", "EXIF", "animated"}


def test_names_stand_in_the_order_of_the_folders_and_tell_the_group():
    """So that a class has the same number whether it is called by its folder or by its name."""
    train, test, classes = drawing.plan(defaults())
    name_of = {item.path.split("/")[1]: item.given for item in train}
    names = [name_of[folder] for folder in sorted(name_of)]
    assert len(set(names)) == len(names) == 39 and names == sorted(names)
    assert [row["class"] for row in classes] == names[:36]
    assert {item.true for item in test} == set(names[:36])
    for row in classes:
        # "Alpine flower" is one of the flowers, such as the "pointed flower".
        assert row["class"].split()[1] == row["look"].split()[-1]
    genera = defaults() | {"genera": 2, "test_images": 8, "chaotic_classes": 0, "chaotic": 0}
    _, _, few = drawing.plan(genera)
    assert [row["class"].split()[0] for row in few] == list(drawing.EPITHETS[:8])


def test_there_is_a_name_for_each_species():
    most = len(GENERA) * max(len(genus.species) for genus in GENERA)
    assert len(set(drawing.EPITHETS)) == len(drawing.EPITHETS) >= most
    assert [*drawing.EPITHETS, drawing.CHAOTIC] == sorted([*drawing.EPITHETS, drawing.CHAOTIC])


def test_the_test_images_are_equal_in_classes(tiny):
    answers = rows(tiny / "truth/test.csv")
    assert set(Counter(row["class"] for row in answers).values()) == {4}
    assert [row["class"] for row in answers] != sorted(row["class"] for row in answers)
    form = rows(tiny / "sample_submission.csv")
    assert list(form[0]) == ["path", "class"]
    assert [row["path"] for row in form] == [row["path"] for row in answers]
    assert {row["class"] for row in form} == {rows(tiny / "truth/classes.csv")[0]["class"]}
    for row in answers:
        with Image.open(tiny / row["path"]) as image:
            assert image.format == "JPEG" and image.mode == "RGB"
            assert 0.9 * 64 <= min(image.size) <= 1.15 * 64


def test_odd_files_are_odd_and_the_others_are_not(tiny, train):
    seen = Counter()
    for row in train:
        stored = row["stored_as"]
        seen[stored] += 1
        if row["kind"] == "corrupt":
            continue
        with Image.open(tiny / row["path"]) as image:
            if stored == "animated":
                assert image.format == "GIF" and image.n_frames == 3
            elif stored == "EXIF":
                assert image.mode == "RGB" and image.getexif()[0x0112] in (3, 6, 8)
            else:
                assert image.mode == stored and not image.getexif()
            image.load()
            if stored == "RGBA":
                assert image.getchannel("A").getextrema() == (0, 255)
    assert set(seen) >= {"RGB", "L", "P", "CMYK", "RGBA", "EXIF", "animated"}


def test_a_turned_file_shows_its_picture_upright():
    """Brightness falls from left to right before storing, and again once the tag is heeded."""
    ramp = np.tile(np.linspace(255, 0, 60, dtype=np.uint8), (40, 1))
    image = Image.fromarray(ramp).convert("RGB")
    for seed in range(8):
        data = drawing.store(image, "EXIF", 90, np.random.default_rng(seed))
        with Image.open(io.BytesIO(data)) as stored:
            upright = np.asarray(ImageOps.exif_transpose(stored).convert("L"), float)
        assert upright.shape == (40, 60)
        assert np.abs(upright - ramp).max() < 12


def test_corrupt_files_cannot_be_read(tiny, train, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    corrupt = [row for row in train if row["kind"] == "corrupt"]
    assert {row["stored_as"] for row in corrupt} == {"truncated", "empty", "html"}
    for row in corrupt:
        with pytest.raises(OSError), Image.open(tiny / row["path"]) as image:
            image.load()


def small(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image).convert("RGB").resize((32, 32))
    return np.asarray(image, float)


def test_duplicates_show_their_source(tiny, train):
    good = [row for row in train if row["kind"] == "ok"]
    exact = 0
    for row in (row for row in train if row["kind"] == "duplicate"):
        same = [other for other in good if other["true"] == row["true"]]
        copy = small(tiny / row["path"])
        far = sorted(np.abs(copy - small(tiny / other["path"])).mean() for other in same)
        assert far[0] < 8 and far[0] < 0.5 * far[1]
        data = (tiny / row["path"]).read_bytes()
        exact += any(data == (tiny / other["path"]).read_bytes() for other in same)
    assert exact == 2


def test_another_seed_draws_another_set(tmp_path):
    few = {"genera": 2, "species_per_genus": 2, "train_images": 40, "test_images": 4, "side": 48}
    for seed in (1, 2):
        draw_demo(tmp_path / str(seed), **few, chaotic=0, chaotic_classes=0, seed=seed)
    first, second = (digests(tmp_path / name) for name in ("1", "2"))
    # The form of a submission is the same, and so may be the names of the classes.
    shared = set(first.values()) & set(second.values())
    assert len(first) == len(second) == 50 and len(shared) <= 2


def test_a_finished_set_is_left_alone(tiny):
    before = {p: p.stat().st_mtime_ns for p in tiny.rglob("*")}
    draw_demo(tiny, **TINY)
    assert {p: p.stat().st_mtime_ns for p in tiny.rglob("*")} == before
    with pytest.raises(FileExistsError, match="other parameters"):
        draw_demo(tiny, **TINY, seed=5)
    assert {p: p.stat().st_mtime_ns for p in tiny.rglob("*")} == before
    assert json.loads((tiny / "demo.json").read_text())["parameters"]["side"] == 64


def test_a_foreign_folder_is_never_overwritten(tmp_path, capsys):
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "mine.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match="left alone"):
        draw_demo(foreign, **TINY)
    (foreign / "demo.json").write_text('{"version": 1}')
    with pytest.raises(FileExistsError, match="left alone"):
        draw_demo(foreign, **TINY)
    file = tmp_path / "file"
    file.write_text("a file")
    with pytest.raises(FileExistsError, match="left alone"):
        draw_demo(file, **TINY)
    assert drawing.main([str(foreign), "--tiny"]) == 2
    assert "left alone" in capsys.readouterr().err
    assert (foreign / "mine.txt").read_text() == "keep me"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "photos"]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    drawn = []

    def fail(item, folder, side):
        drawn.append(item)
        if len(drawn) == 30:
            raise OSError("disk full")

    monkeypatch.setattr(drawing, "draw_item", fail)
    with pytest.raises(OSError, match="disk full"):
        draw_demo(tmp_path / "set", **TINY)
    assert len(drawn) == 30 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("genera", 1, ValueError),
        ("genera", 10, ValueError),
        ("genera", 2.0, TypeError),
        ("species_per_genus", 5, ValueError),
        ("test_images", 25, ValueError),
        ("train_images", 20, ValueError),
        ("train_images", "120", TypeError),
        ("side", 8, ValueError),
        ("seed", -1, ValueError),
        ("seed", True, TypeError),
        ("noise", 1.2, ValueError),
        ("noise", 0.9, ValueError),
        ("fine", float("nan"), ValueError),
        ("chaotic_classes", 9, ValueError),
        ("chaotic_classes", 0, ValueError),
        ("duplicate", 0.45, ValueError),
        ("imbalance", 0.5, ValueError),
        ("processes", 0, ValueError),
    ],
)
def test_parameters_out_of_range_are_named(tmp_path, name, value, error):
    with pytest.raises(error, match=name):
        draw_demo(tmp_path / "set", **{**TINY, name: value})
    assert not list(tmp_path.iterdir())


def test_the_command_draws_the_same_bytes_with_two_processes(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(drawing, "WORTH_A_PROCESS", 0)
    assert drawing.main([str(tmp_path / "set"), "--tiny"]) == 0
    assert str(tmp_path / "set") in capsys.readouterr().out
    assert digests(tmp_path / "set") == digests(tiny)


@pytest.mark.parametrize("genus", range(len(GENERA)), ids=[g.name for g in GENERA])
def test_sister_species_look_different_in_the_same_pose(genus):
    """The same generator gives the same colours: what differs is the species' detail."""
    drawn = []
    for _, traits in GENERA[genus].species:
        pen = Pen((120, 120), np.diag([40.0, 40.0]), (60, 60))
        GENERA[genus].draw(pen, np.random.default_rng(7), **traits)
        seen = np.asarray(pen.mask)
        # A subject fills a good part of its frame and leaves the corners to the background.
        assert 0.05 < (seen > 0).mean() < 0.8
        drawn.append(np.asarray(pen.colour, float))
    for k, picture in enumerate(drawn):
        for other in drawn[:k]:
            changed = np.abs(picture - other).max(2) > 16
            assert changed.sum() > 60


def test_every_kind_of_lifeless_picture_is_drawn():
    for kind in set(LIFELESS_PICTURES):
        image = kind(np.random.default_rng(3), 80, 64)
        assert image.mode == "RGB" and image.size == (80, 64)
    image = draw_lifeless(np.random.default_rng(4), 64)
    assert image.mode == "RGB" and 58 <= min(image.size) <= 74
