"""Images are found in folders or listings, their labels as text."""

import pandas as pd
import pytest

from fgvc_utils.contest.listing import list_images, listing_digest


def put(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


@pytest.fixture
def folders(tmp_path):
    put(tmp_path, "train/0012/b.jpg", "train/0012/a.jpg", "train/7/deep/c.jpg", "test/1.jpg")
    put(tmp_path, "train/.DS_Store", "train/0012/.hidden", "train/.cache/x.jpg", "test/0.jpg")
    return tmp_path


def test_a_folder_a_class(folders):
    images = list_images(folders, "train", "test")
    assert images.columns.tolist() == ["image_id", "path", "split", "given"]
    assert images["path"].tolist() == [
        "train/0012/a.jpg",
        "train/0012/b.jpg",
        "train/7/deep/c.jpg",
        "test/0.jpg",
        "test/1.jpg",
    ]
    assert images["given"].tolist() == ["0012", "0012", "7", "", ""]
    assert images["split"].tolist() == ["train"] * 3 + ["test"] * 2
    assert (images["image_id"] == images["path"]).all()
    assert len(list_images(folders, "train", "")) == 3


def test_a_stray_file_beside_the_classes_is_named(folders):
    put(folders, "train/readme.txt")
    with pytest.raises(ValueError, match="train/readme.txt lies beside the class folders"):
        list_images(folders, "train", "test")


@pytest.mark.parametrize("source", ["trian", "train/0012/a.jpg"])
def test_a_source_that_is_no_folder_and_no_listing(folders, source):
    with pytest.raises(FileNotFoundError, match=f"train: .*{source} is neither a folder nor"):
        list_images(folders, source, "test")


def test_an_empty_folder(folders):
    (folders / "empty").mkdir()
    with pytest.raises(ValueError, match="test: .*empty holds no image"):
        list_images(folders, "train", "empty")


def test_csv_keeps_0012_and_its_own_ids(tmp_path):
    (tmp_path / "train.csv").write_text("id,path,label\n007,a.jpg,0012\n1e5,b.jpg,NA\n")
    (tmp_path / "test.csv").write_text("id,path\n8,c.jpg\n")
    images = list_images(tmp_path, "train.csv", "test.csv", id_column="id")
    assert images["image_id"].tolist() == ["007", "1e5", "8"]
    assert images["given"].tolist() == ["0012", "NA", ""]
    plain = list_images(tmp_path, "train.csv", "test.csv")
    assert plain["image_id"].tolist() == ["a.jpg", "b.jpg", "c.jpg"]


def test_parquet_with_text_labels_and_own_column_names(tmp_path):
    frame = pd.DataFrame({"file": ["a.jpg", "b.jpg"], "species": ["0012", "7"]})
    frame.to_parquet(tmp_path / "train.parquet")
    images = list_images(tmp_path, "train.parquet", "", path_column="file", label_column="species")
    assert images["given"].tolist() == ["0012", "7"]


def test_parquet_with_numbers_for_labels_is_an_error(tmp_path):
    pd.DataFrame({"path": ["a.jpg"], "label": [12]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="train.parquet: column 'label' holds 12, .* not text"):
        list_images(tmp_path, "train.parquet", "")


def test_missing_listing_missing_column_and_empty_value(tmp_path):
    with pytest.raises(FileNotFoundError, match="the listing .*train.csv is not there"):
        list_images(tmp_path, "train.csv", "")
    (tmp_path / "train.csv").write_text("path,class\na.jpg,1\n")
    with pytest.raises(
        ValueError, match="has no column 'label'; it has path, class: name one .* label_column"
    ):
        list_images(tmp_path, "train.csv", "")
    (tmp_path / "train.csv").write_text("path,label\na.jpg,1\nb.jpg,\n")
    with pytest.raises(ValueError, match="column 'label' is empty in row 2"):
        list_images(tmp_path, "train.csv", "")


def test_one_path_under_two_labels_is_named_with_both(tmp_path):
    (tmp_path / "train.csv").write_text("path,label\na.jpg,rose\nb.jpg,x\na.jpg,tulip\n")
    with pytest.raises(ValueError, match=r"'a.jpg' is listed 2 times.*\['rose', 'tulip'\]"):
        list_images(tmp_path, "train.csv", "")


def test_one_id_for_two_images_is_named(tmp_path):
    (tmp_path / "train.csv").write_text("id,path,label\n1,a.jpg,x\n1,b.jpg,x\n")
    with pytest.raises(ValueError, match="image id '1' is listed 2 times"):
        list_images(tmp_path, "train.csv", "", id_column="id")


def test_the_digest_changes_when_a_file_comes_or_goes(folders):
    sides = ["train", "test"]
    before = listing_digest(folders, sides)
    assert listing_digest(folders, sides) == before
    put(folders, "train/7/new.jpg")
    after = listing_digest(folders, sides)
    (folders / "train/7/new.jpg").unlink()
    assert after != before and listing_digest(folders, sides) == before
