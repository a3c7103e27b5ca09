"""Contests as people have them: bare names beside a folder, COCO, iNaturalist, other JSON."""

import json

import pandas as pd
import pytest

from fgvc_utils.contest.listing import list_all, listing_digest
from fgvc_utils.contest.listings import Columns, where_instead


def put(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def paths(root, train="train.csv", test="", **columns):
    return list_all(root, train, test, Columns(**columns)).images["path"].tolist()


@pytest.fixture
def kaggle(tmp_path):
    """Bare names in train.csv and a sample submission, two folders of images beside them."""
    put(tmp_path, "train_images/a.jpg", "train_images/b.JPG", "test_images/a.jpg")
    (tmp_path / "train.csv").write_text("image_id,label\na.jpg,0\nb.jpg,1\n")
    (tmp_path / "sample_submission.csv").write_text("image_id,label\na.jpg,0\n")
    return tmp_path


FOLDERS = {"paths": "image_id", "train_images": "train_images", "test_images": "test_images"}


def test_bare_names_beside_a_folder(kaggle):
    images = list_all(kaggle, "train.csv", "sample_submission.csv", Columns(**FOLDERS)).images
    # Case does not count where it leaves one file.
    assert images["path"].tolist() == [
        "train_images/a.jpg",
        "train_images/b.JPG",
        "test_images/a.jpg",
    ]
    assert images["image_id"].tolist() == images["path"].tolist()
    assert images["given"].tolist() == ["0", "1", ""]


def test_names_without_an_ending(tmp_path):
    put(tmp_path, "train/1.jpg", "train/10.jpg", "train/10.txt", "train/2.png")
    (tmp_path / "train.csv").write_text("path,label\n1,x\n10,y\n2,y\n")
    found = ["train/1.jpg", "train/10.jpg", "train/2.png"]
    assert paths(tmp_path, train_images="train") == found
    # An ending is taken at its word, but for names that have it.
    (tmp_path / "train.csv").write_text("path,label\n1,x\n10.jpg,y\n3,y\n")
    found = ["train/1.jpg", "train/10.jpg", "train/3.jpg"]
    assert paths(tmp_path, train_images="train", ending=".jpg") == found
    (tmp_path / "train.csv").write_text("path,label\ntrain/1,x\n")
    assert paths(tmp_path, ending=".jpg") == ["train/1.jpg"]


def test_names_in_folders_of_their_own(tmp_path):
    put(tmp_path, "images/0/a/1.jpg", "images/1/b/2.jpg", "images/1/c/2.png")
    (tmp_path / "train.csv").write_text("path,label\n1.jpg,x\nimages/1/c/2.png,y\n1/b/2,z\n")
    found = ["images/0/a/1.jpg", "images/1/c/2.png", "images/1/b/2.jpg"]
    assert paths(tmp_path, train_images="images") == found
    assert paths(tmp_path, train_images="./images/") == found
    (tmp_path / "train.csv").write_text("path,label\n2,x\n")
    with pytest.raises(ValueError, match="'2' of the listing is both '1/b/2.jpg' and '1/c/2.png'"):
        paths(tmp_path, train_images="images")


def test_a_file_that_is_nowhere_keeps_its_place_in_the_listing(kaggle):
    (kaggle / "train.csv").write_text("image_id,label\na.jpg,0\ngone.jpg,1\n")
    listed = list_all(kaggle, "train.csv", "", Columns(**FOLDERS)).images
    assert listed["path"].tolist() == ["train_images/a.jpg", "train_images/gone.jpg"]


@pytest.mark.parametrize("name", ["../out.jpg", "/etc/passwd", "x/../../out.jpg"])
def test_names_stay_within_the_data_root(kaggle, name):
    (kaggle / "train.csv").write_text(f"image_id,label\n{name},0\n")
    with pytest.raises(ValueError, match="leads out of the data root"):
        list_all(kaggle, "train.csv", "", Columns(**FOLDERS))


def test_a_folder_of_images_that_is_not_there_or_elsewhere(kaggle, tmp_path_factory):
    with pytest.raises(ValueError, match="train_images: .*trian is no folder; name the one"):
        paths(kaggle, paths="image_id", train_images="trian")
    (kaggle / "link").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(ValueError, match="'link' leads to .* outside the data root"):
        paths(kaggle, paths="image_id", train_images="link")


def test_where_the_files_of_a_listing_lie_instead(kaggle):
    assert where_instead(kaggle, "a.jpg") == ("test_images/a.jpg", "test_images", "")
    put(kaggle, "x/y/3/4.webp")
    assert where_instead(kaggle, "3/4") == ("x/y/3/4.webp", "x/y", ".webp")
    assert where_instead(kaggle, "nowhere.jpg") == ("", "", "")


def test_the_digest_follows_the_files_that_names_mean(kaggle):
    columns = Columns(**FOLDERS)
    before = listing_digest(kaggle, ["train.csv", "sample_submission.csv"], columns)
    (kaggle / "train_images/b.JPG").write_bytes(b"other")
    changed = listing_digest(kaggle, ["train.csv", "sample_submission.csv"], columns)
    (kaggle / "test_images/a.jpg").write_bytes(b"other, too")
    again = listing_digest(kaggle, ["train.csv", "sample_submission.csv"], columns)
    assert len({before, changed, again}) == 3


def test_images_beside_a_listing_without_folders_a_class(kaggle):
    with pytest.raises(ValueError, match=r"train.csv says the classes: .* train_images: train_im"):
        list_all(kaggle, "train_images", "")


CATEGORIES = [{"id": n, "name": f"Rosa {n}", "genus": "Rosa"} for n in (7, 12)]
COCO = {
    "info": {"year": 2026},
    "images": [{"id": n, "file_name": f"train/{n}.jpg", "width": 9} for n in range(5)],
    "annotations": [
        {"id": 0, "image_id": 0, "category_id": 7, "bbox": [0, 0, 2, 2]},
        {"id": 1, "image_id": 1, "category_id": 12},
        # Two boxes of one class are one label, two classes are none.
        {"id": 2, "image_id": 2, "category_id": 12},
        {"id": 3, "image_id": 2, "category_id": 12},
        {"id": 4, "image_id": 3, "category_id": 12},
        {"id": 5, "image_id": 3, "category_id": 7},
    ],
    "categories": CATEGORIES,
}


def coco(root, data=COCO, name="train.json"):
    (root / name).write_text(json.dumps(data))
    return root


def test_coco_takes_the_categories_number_as_text(tmp_path):
    images, left_out = list_all(coco(tmp_path), "train.json", "")
    assert images["path"].tolist() == ["train/0.jpg", "train/1.jpg", "train/2.jpg"]
    assert images["given"].tolist() == ["7", "12", "12"]
    assert dict(left_out.to_numpy().tolist()) == {
        "train/3.jpg": "has several labels in train.json (12, 7)",
        "train/4.jpg": "has no label in train.json",
    }


def test_coco_by_name_with_ids_and_a_folder(tmp_path):
    put(tmp_path, "pictures/train/0.jpg")
    columns = Columns(labels="name", ids="id", train_images="pictures")
    images, left_out = list_all(coco(tmp_path), "train.json", "", columns)
    assert images["image_id"].tolist() == ["0", "1", "2"]
    assert images["given"].tolist() == ["Rosa 7", "Rosa 12", "Rosa 12"]
    assert images["path"].tolist()[0] == "pictures/train/0.jpg"
    assert left_out["path"].tolist() == ["pictures/train/3.jpg", "pictures/train/4.jpg"]


def test_the_test_side_of_inaturalist_has_no_annotations(tmp_path):
    coco(tmp_path, {"images": [{"id": 3, "file_name": "test/3.jpg"}]}, "test.json")
    images = list_all(coco(tmp_path), "train.json", "test.json").images
    assert images.loc[images["split"] == "test", "path"].tolist() == ["test/3.jpg"]


@pytest.mark.parametrize(
    ("change", "columns", "message"),
    [
        ({"categories": CATEGORIES[:1]}, {}, "names the category 12, which is not among"),
        ({"annotations": [{"image_id": 0}]}, {}, "annotation 1 lacks image_id or category_id"),
        ({"images": [{"id": 0, "file": "x"}]}, {}, "has no 'file_name'; it has id, file: name"),
        ({}, {"ids": "photo"}, "has no 'photo'; .* as id_column"),
        ({}, {"labels": "nome"}, "have no 'nome'; they have id, name, genus: .* label_column"),
        ({}, {"labels": "genus"}, "two categories have the genus 'Rosa'"),
    ],
)
def test_what_is_wrong_with_coco_is_named(tmp_path, change, columns, message):
    with pytest.raises(ValueError, match=message):
        list_all(coco(tmp_path, COCO | change), "train.json", "", Columns(**columns))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", [{"path": "x/1.jpg", "label": 3}, {"path": "x/2.jpg", "label": "0012"}]),
        ("a.json", {"x/1.jpg": 3, "x/2.jpg": "0012"}),
        ("a.json", {"3": ["x/1.jpg"], "0012": ["x/2.jpg"]}),
        ("a.jsonl", [{"path": "x/1.jpg", "label": 3}, {"path": "x/2.jpg", "label": "0012"}]),
    ],
    ids=["records", "name to label", "label to names", "lines"],
)
def test_other_forms_of_json(tmp_path, name, data):
    lines = [json.dumps(each) for each in data] if name.endswith("l") else [json.dumps(data)]
    (tmp_path / name).write_text("\n".join(lines))
    images = list_all(tmp_path, name, "").images
    assert images[["path", "given"]].to_numpy().tolist() == [["x/1.jpg", "3"], ["x/2.jpg", "0012"]]


@pytest.mark.parametrize("text", ["{", "[]", "{}", "7", '{"a": {"b": 1}}'])
def test_json_that_is_no_listing_is_refused_by_name(tmp_path, text):
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(ValueError, match=r"train\.json"):
        list_all(tmp_path, "train.json", "")


def test_a_field_that_json_lacks_is_named_with_those_it_has(tmp_path):
    (tmp_path / "train.json").write_text('[{"file": "a.jpg", "label": "x"}]')
    with pytest.raises(ValueError, match="has no column 'path'; it has label, file: name one"):
        list_all(tmp_path, "train.json", "")


def test_a_listing_as_before_is_read_as_before(tmp_path):
    frame = pd.DataFrame({"path": ["a.jpg", "b"], "label": ["0012", "7"]})
    frame.to_parquet(tmp_path / "train.parquet")
    assert paths(tmp_path, "train.parquet") == ["a.jpg", "b"]
