"""Contests as people have them: bare names beside a folder, COCO, iNaturalist, other JSON."""

import json
import shlex

import pandas as pd
import pytest

from fgvc_utils.contest import convert
from fgvc_utils.contest.class_names import read_names
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
    there = ("train_images/a.jpg", "train_images", "")
    assert where_instead(kaggle, "train", ["a.jpg"]) == there
    assert where_instead(kaggle, "test", ["a.jpg"])[0] == "test_images/a.jpg"
    # Most names count for more than the folder's.
    assert where_instead(kaggle, "test", ["a.jpg", "b.JPG"]) == there
    put(kaggle, "x/y/3/4.webp")
    assert where_instead(kaggle, "train", ["3/4"]) == ("x/y/3/4.webp", "x/y", ".webp")
    assert where_instead(kaggle, "train", ["nowhere.jpg"]) == ("", "", "")


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


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("n01/a b.JPEG 0\nn02/c.JPEG 12\n", [["n01/a b.JPEG", "0"], ["n02/c.JPEG", "12"]]),
        ("102 707-320\n003 Boeing 737-N\n", [["102", "707-320"], ["003", "Boeing 737-N"]]),
        ("a b.jpg\tdog rose\n\nc.jpg\tlily\n", [["a b.jpg", "dog rose"], ["c.jpg", "lily"]]),
        ("apple_pie/10\nsushi/11\n", [["apple_pie/10", "apple_pie"], ["sushi/11", "sushi"]]),
    ],
    ids=["ImageNet", "Aircraft", "tabs", "Food-101"],
)
def test_lines_of_text(tmp_path, lines, found):
    (tmp_path / "train.txt").write_text(lines)
    images = list_all(tmp_path, "train.txt", "").images
    assert images[["path", "given"]].to_numpy().tolist() == found
    # A test side may be a list of names.
    (tmp_path / "test.txt").write_text("t/1.jpg\nt/2.jpg\n")
    images = list_all(tmp_path, "train.txt", "test.txt").images
    assert images["path"].tolist()[2:] == ["t/1.jpg", "t/2.jpg"]


def test_a_train_list_of_bare_names_has_no_labels(tmp_path):
    (tmp_path / "train.txt").write_text("1.jpg\n2.jpg\n")
    with pytest.raises(ValueError, match="column 'label' is empty in row 1"):
        list_all(tmp_path, "train.txt", "")


def test_a_column_a_class_is_refused_with_a_command_that_works(tmp_path):
    text = "image_id,healthy,rust,scab\nTrain_0,0,1,0\nTrain_1,1,0,0\nTrain_2,1,1,0\n"
    (tmp_path / "train.csv").write_text(text)
    columns = Columns(paths="image_id")
    with pytest.raises(ValueError, match="where healthy, rust are classes") as refused:
        list_all(tmp_path, "train.csv", "", columns)
    command = shlex.split(str(refused.value).split("`")[1])
    assert convert.main(command[3:]) == 0
    images = list_all(tmp_path, "train_labels.csv", "", columns).images
    assert images[["path", "given"]].to_numpy().tolist() == [
        ["Train_0", "rust"],
        ["Train_1", "healthy"],
    ]
    assert (tmp_path / "left_out.csv").read_text() == "image,reason\nTrain_2,2 classes\n"
    assert (tmp_path / "train.csv").read_text() == text


# What only lies otherwise is listed, and stays where it is.


def test_folders_in_folders(tmp_path, capsys):
    put(tmp_path, "train/Rosaceae/Rosa/canina/1.jpg", "train/Rosaceae/Rosa/arvensis/2.jpg")
    put(tmp_path, "train/Fabaceae/Vicia/cracca/3.jpg", "train/Fabaceae/Lotus/arvensis/4.jpg")
    put(tmp_path, "train/Fabaceae/Vicia/cracca/Thumbs.db", "train/Fabaceae/Vicia/cracca/notes.txt")
    assert convert.main([str(tmp_path / "train"), str(tmp_path)]) == 0
    images = list_all(tmp_path, "train.csv", "").images
    assert images.set_index("path")["given"].to_dict() == {
        "train/Rosaceae/Rosa/canina/1.jpg": "canina",
        "train/Rosaceae/Rosa/arvensis/2.jpg": "Rosaceae Rosa arvensis",
        "train/Fabaceae/Vicia/cracca/3.jpg": "cracca",
        "train/Fabaceae/Lotus/arvensis/4.jpg": "Fabaceae Lotus arvensis",
    }
    names = read_names(tmp_path / "classes.csv", sorted(set(images["given"])))
    # Of the genera one has two classes.
    assert list(names) == ["class", "name", "group", "group 2"]
    assert names.set_index("class").loc["cracca"].tolist() == ["cracca", "Vicia", "Fabaceae"]
    # Again it writes the same; another listing of that name stays.
    assert convert.main([str(tmp_path / "train"), str(tmp_path)]) == 0
    (tmp_path / "train.csv").write_text("mine")
    assert convert.main([str(tmp_path / "train"), str(tmp_path)]) == 2
    assert (tmp_path / "train.csv").read_text() == "mine"
    assert "is there already, with another content" in capsys.readouterr().err
    assert convert.main([str(tmp_path / "train"), str(tmp_path / "other")]) == 2
    assert "lies outside" in capsys.readouterr().err


def test_cub_and_nabirds(tmp_path):
    put(tmp_path, "CUB/images/001.Albatross/a.jpg", "CUB/images/002.Auk/b.jpg")
    for name, text in {
        "images": "1 001.Albatross/a.jpg\n2 002.Auk/b.jpg\n3 002.Auk/c d.jpg\n",
        "image_class_labels": "1 1\n2 2\n3 2\n",
        "train_test_split": "1 1\n2 1\n3 0\n",
        "classes": "1 001.Albatross\n2 Little Auk\n8 Seabirds\n9 Birds\n",
        "hierarchy": "1 8\n2 8\n8 9\n",
    }.items():
        (tmp_path / f"CUB/{name}.txt").write_text(text)
    assert convert.main([str(tmp_path / "CUB"), str(tmp_path)]) == 0
    images = list_all(tmp_path, "train.csv", "test.csv", Columns(ids="image_id")).images
    assert images[["image_id", "path", "given"]].to_numpy().tolist() == [
        ["1", "CUB/images/001.Albatross/a.jpg", "1"],
        ["2", "CUB/images/002.Auk/b.jpg", "2"],
        ["3", "CUB/images/002.Auk/c d.jpg", ""],
    ]
    classes = pd.read_csv(tmp_path / "classes.csv", dtype=str)
    assert classes.to_numpy().tolist() == [
        ["1", "001.Albatross", "Seabirds"],
        ["2", "Little Auk", "Seabirds"],
    ]
    (tmp_path / "CUB/image_class_labels.txt").write_text("1 1\n2 2\n")
    with pytest.raises(ValueError, match="says nothing of the image '3'"):
        convert.convert([str(tmp_path / "CUB")], tmp_path)
