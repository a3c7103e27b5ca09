"""What classes are called comes from a CSV or JSON file of many forms, and their groups too."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from fgvc_utils.contest import class_names
from fgvc_utils.contest.class_names import levels_of, read_names, said_of, told_apart

CLASSES = ["0007", "0012", "0100"]
CALLED = ["rose", "tulip", "lily"]


def written(root, data, name="names.json"):
    text = data if isinstance(data, str) else json.dumps(data)
    (root / name).write_text(text, "utf-8")
    return root / name


@pytest.mark.parametrize(
    "data",
    [
        dict(zip(CLASSES, CALLED, strict=True)),
        dict(zip(CALLED, CLASSES, strict=True)),
        # Numbers without their zeros, as JSON of a contest often has them.
        {"7": "rose", "12": "tulip", "100": "lily"},
        {"rose": 7, "tulip": 12, "lily": 100},
        {one: {"name": name, "count": 3} for one, name in zip(CLASSES, CALLED, strict=True)},
        [{"id": int(one), "n": 1, "label_name": n} for one, n in zip(CLASSES, CALLED, strict=True)],
        {
            "categories": [
                {"id": int(one), "name": n, "supercategory": "plant"}
                for one, n in zip(CLASSES, CALLED, strict=True)
            ]
        },
        {"categories": [{"id": one, "name": n} for one, n in zip(CLASSES, CALLED, strict=True)]},
    ],
    ids=["id to name", "name to id", "numbers", "name to number", "records by id", "records"]
    + ["coco by number", "coco"],
)
def test_every_form_of_json(tmp_path, data):
    found = read_names(written(tmp_path, data), CLASSES)
    assert found.to_numpy().tolist() == [list(pair) for pair in zip(CLASSES, CALLED, strict=True)]
    assert list(found) == ["class", "name"]


def test_a_list_of_names_counts_from_zero(tmp_path):
    found = read_names(written(tmp_path, ["rose", "tulip", "lily"]), ["0", "1", "2"])
    assert found["name"].tolist() == CALLED
    # Names that are the classes themselves say nothing new.
    found = read_names(written(tmp_path, ["rose", "tulip"]), ["rose", "tulip"])
    assert found["class"].tolist() == ["rose", "tulip"]


def test_csv_with_levels(tmp_path):
    place = written(
        tmp_path,
        "id,genus,common_name,family,note\n0012,Tulipa,tulip,Liliaceae,x\n0007,Rosa,rose,,x\n"
        "0100,Lilium,lily,Liliaceae,x\n0500,Other,other,Otheraceae,x\n",
        "classes.csv",
    )
    found = read_names(place, CLASSES)
    assert found["class"].tolist() == CLASSES and found["name"].tolist() == CALLED
    # Each class is its own genus, which is no level; a class without a family is its own.
    assert list(found) == ["class", "name", "family"]
    assert levels_of(found)["family"].tolist() == ["rose", "Liliaceae", "Liliaceae"]
    assert list(read_names(place, CLASSES, ["genus", "note"]))[2:] == ["genus", "note"]
    assert said_of(found, [*CLASSES, "9"]).startswith("3 of 4 classes have a name, not '9'; groups")


def test_the_names_may_stand_in_the_listing_of_the_images(tmp_path):
    rows = "\n".join(f"{n}.jpg,{n % 2},{('rose', 'tulip')[n % 2]}" for n in range(6))
    place = written(tmp_path, f"path,label,species\n{rows}\n", "train.csv")
    assert read_names(place, ["0", "1"])["name"].tolist() == ["rose", "tulip"]


def test_biology_has_a_level_called_class(tmp_path):
    cats = [{"id": n, "name": f"n{n}", "class": "Aves" if n < 2 else "Insecta"} for n in range(3)]
    found = read_names(written(tmp_path, {"categories": cats}), ["0", "1", "2"])
    assert list(found) == ["class", "name", "class level"]


@pytest.mark.parametrize(
    ("data", "levels", "message"),
    [
        ({"a": "rose"}, [], "no column of .* holds a class, such as '0007'; it has key, value"),
        ("class,name\n0007,rose\n0007,tulip\n", [], "calls the class '0007' both 'rose' and"),
        ("class,name,genus\n0007,rose,R\n", ["tribe"], "class_levels: .* no 'tribe' .*; it has"),
        ("class,name,g\n0007,x,R\n0007,x,S\n0012,y,S\n", ["g"], "in two groups of 'g'"),
        ("{", [], "no valid JSON"),
        (7, [], "says of no class what it is called"),
        ('class,name\n0007,"ro\x07se"\n', [], "control characters"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, data, levels, message):
    csv = isinstance(data, str) and "," in data
    place = written(tmp_path, data, "names.csv" if csv else "names.json")
    with pytest.raises(ValueError, match=message):
        read_names(place, CLASSES, levels)


def test_a_file_that_is_not_there_or_of_another_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match="class_names: .*none.csv is not there"):
        read_names(tmp_path / "none.csv", CLASSES)
    with pytest.raises(ValueError, match=r"neither a \.csv nor a \.json"):
        read_names(written(tmp_path, "x", "names.txt"), CLASSES)


def test_two_classes_of_one_name_are_told_apart():
    known = pd.DataFrame({"class": ["1", "2", "3", "4"], "name": ["rose", "rose", "4", "lily"]})
    assert told_apart(known) == {"1": "rose (1)", "2": "rose (2)", "3": "4 (3)", "4": "lily"}


def test_what_is_known_is_kept_with_the_run_and_goes_with_the_parameter(tmp_path):
    cfg = SimpleNamespace(
        folder=tmp_path / "out", class_names="names.json", class_levels=[], label_column="label"
    )
    cfg.train = "train"
    listed = pd.DataFrame({"split": ["train", "test"], "given": ["0007", ""]})
    assert class_names.known_names(cfg).empty
    written(tmp_path, {"0007": "rose"})
    found = class_names.take_in(cfg, tmp_path, listed)
    assert class_names.known_names(cfg).equals(found) and found["name"].tolist() == ["rose"]
    cfg.class_names = ""
    assert class_names.take_in(cfg, tmp_path, listed).empty
    assert class_names.known_names(cfg).empty
    # A train listing in COCO's form says it by itself.
    coco = {"images": [], "categories": [{"id": 7, "name": "rose"}]}
    written(tmp_path, coco, "train.json")
    cfg.train = "train.json"
    assert class_names.take_in(cfg, tmp_path, listed)["name"].tolist() == ["rose"]
    cfg.class_names = "../names.json"
    with pytest.raises(ValueError, match="outside the data root"):
        class_names.take_in(cfg, tmp_path, listed)
