"""The check says of each way in which a contest may lie what was found and what to set."""

import json
import shlex

import numpy as np
import pytest
import yaml
from PIL import Image

from fgvc_utils.contest import convert
from fgvc_utils.pipeline.checking import check
from fgvc_utils.pipeline.contest_file import read_contest
from fgvc_utils.pipeline.stamps import inputs_of


@pytest.fixture
def root(tmp_path):
    """Two folders of images that no class folder holds, with listings of bare names."""
    root = tmp_path / "mine"
    random = np.random.default_rng(0)
    for side, count in (("train", 6), ("test", 3)):
        (root / f"{side}_images").mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(root / f"{side}_images" / f"{number}.jpg")
    rows = "".join(f"{number},{number % 2}\n" for number in range(6))
    (root / "train.csv").write_text(f"id,label\n{rows}")
    return root


@pytest.fixture
def steps(tmp_path, root):
    def of(**parameters):
        shared = {"run": "x", "data_root": str(root), "outputs": str(tmp_path / "outputs")}
        (tmp_path / "c.yaml").write_text(
            yaml.safe_dump(shared | {"01_noise": {"folds": 2} | parameters})
        )
        return read_contest(tmp_path / "c.yaml")

    return of


@pytest.fixture
def found(steps):
    return lambda **parameters: check(steps(**parameters), sample_seconds=0)


KAGGLE = {"train": "train.csv", "test": "test_images", "path_column": "id"}


def test_where_bare_names_lie_and_how_they_end_is_said_as_parameters(found, root):
    [error] = found(**KAGGLE).errors
    assert "6 of 6 paths of train.csv" in error
    # The test images have the same names.
    said = "'train_images/0.jpg' is there: set train_images: train_images and image_ending: .jpg;"
    assert said in error
    result = found(**KAGGLE, train_images="train_images", image_ending=".jpg")
    assert not result.errors and "6 train images under 2 classes" in result.facts[0]


def test_a_folder_of_images_beside_a_folder_of_classes_counts_for_nothing(found, root):
    result = found(**KAGGLE, train_images="train_images", test_images="test_images")
    assert not result.errors
    [warning] = result.warnings
    assert "test_images is set, but test is a folder itself, 'test_images'" in warning


def test_names_are_counted_and_lacking_ones_listed(found, root):
    given = KAGGLE | {"train_images": "train_images"}
    (root / "names.json").write_text('{"0": "rose", "1": "lily"}')
    assert (
        "names.json: 2 of 2 classes have a name" in found(**given, class_names="names.json").facts
    )
    (root / "names.json").write_text('{"0": "rose", "7": "lily"}')
    warnings = found(**given, class_names="names.json").warnings
    assert warnings == ["names.json: 1 of 2 classes have a name, not '1'"]
    (root / "names.json").write_text('{"a": "b"}')
    [error] = found(**given, class_names="names.json").errors
    assert "no column of" in error
    [error] = found(**given, class_names="gone.csv").errors
    assert "gone.csv is not there" in error
    [error] = found(**given, class_levels=["genus"]).errors
    assert "class_levels names ['genus'], but nothing says what classes are called" in error


def coco(root, genus="Rosa"):
    images = [{"id": n, "file_name": f"train_images/{n}.jpg"} for n in range(6)]
    annotations = [{"image_id": n, "category_id": n % 3} for n in range(5)]
    annotations += [{"image_id": n, "category_id": 3} for n in (0, 1)]
    categories = [{"id": n, "name": f"n{n}", "genus": genus if n < 2 else "X"} for n in range(4)]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (root / "train.json").write_text(json.dumps(data))


def test_coco_in_the_check(found, steps, root):
    coco(root)
    result = found(train="train.json", test="test_images")
    assert not result.errors
    assert "train.json: 3 of 3 classes have a name; groups: 2 of genus" in result.facts
    # Those with several labels are one warning, whatever the labels are.
    assert [text for text in result.warnings if "left out" in text] == [
        "train: 2 files or folders are left out (has several labels in train.json): "
        "'train_images/0.jpg', 'train_images/1.jpg'",
        "train: 1 files or folders are left out (has no label in train.json): 'train_images/5.jpg'",
    ]
    [step] = steps(train="train.json", test="test_images")
    before = inputs_of(step)
    coco(root, "Lilium")
    after = inputs_of(step)
    assert {name for name in after if after[name] != before.get(name)} >= {"train.json"}


def test_a_file_of_names_is_an_input(steps, root):
    (root / "names.json").write_text('{"0": "rose"}')
    given = KAGGLE | {"train_images": "train_images", "class_names": "names.json"}
    [step] = steps(**given)
    before = inputs_of(step)
    (root / "names.json").write_text('{"0": "lily"}')
    after = inputs_of(step)
    assert [name for name in after if after[name] != before[name]] == ["names.json"]


def test_folders_in_folders_come_with_the_command_that_lists_them(found, root):
    for genus, species in (("Rosa", "canina"), ("Rosa", "gallica"), ("Lilium", "martagon")):
        place = root / "tree" / genus / species
        place.mkdir(parents=True)
        (place / "1.jpg").write_bytes((root / "train_images/1.jpg").read_bytes())
    [warning] = [w for w in found(train="tree", test="test_images").warnings if "within" in w]
    command = shlex.split(warning.split("`")[1])
    (root / "train.csv").unlink()
    assert convert.main(command[3:]) == 0
    result = found(train="train.csv", test="test_images", class_names="classes.csv")
    assert not result.errors
    assert "classes.csv: 3 of 3 classes have a name; groups: 2 of group" in result.facts
