"""Images are found in folders or listings, their labels as text."""

import os

import pandas as pd
import pytest

from fgvc_utils.contest.listing import list_all, list_images, listing_digest
from fgvc_utils.contest.rubbish import is_other, rubbish, rubbish_folder


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
    put(folders, "train/stray.jpg")
    with pytest.raises(ValueError, match="train/stray.jpg lies beside the class folders"):
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


def test_ids_are_unique_within_a_side_alone(tmp_path):
    (tmp_path / "train.csv").write_text("id,path,label\n1,a.jpg,x\n2,b.jpg,y\n")
    (tmp_path / "test.csv").write_text("id,path\n2,c.jpg\n3,d.jpg\n")
    images = list_images(tmp_path, "train.csv", "test.csv", id_column="id")
    # A submission names test images by their ids.
    assert images["image_id"].tolist() == ["a.jpg", "b.jpg", "2", "3"]
    (tmp_path / "test.csv").write_text("id,path\n3,a.jpg\n")
    with pytest.raises(ValueError, match="train and test: path 'a.jpg' is listed 2 times"):
        list_images(tmp_path, "train.csv", "test.csv", id_column="id")


RUBBISH = [
    "Thumbs.db",
    "desktop.ini",
    "3.jpg.crdownload",
    "4.jpg.part",
    "~$5.jpg",
    "6.jpg~",
    "._7.jpg",
]
RUBBISH += ["a.aria2", "b.TMP", "c.jpg:Zone.Identifier", "Icon\r", ".DS_Store", "d.lnk"]
FOLDERS = [
    "@eaDir",
    "__MACOSX",
    "#recycle",
    "$RECYCLE.BIN",
    ".ipynb_checkpoints",
    ".git",
    "lost+found",
]
OTHER = [
    "labels.csv",
    "notes.txt",
    "a.json",
    "page.HTML",
    "all.zip",
    "film.mp4",
    "README",
    "1.jpg.gz",
]
# As images from the web are called.
IMAGES = [
    "1.jpg",
    "2.JPEG",
    "photo",
    "3.php",
    "4.jpg?w=300",
    "a.b",
    "5.jpg!d",
    "0123abcd",
    "part",
    "x.gif",
]


@pytest.mark.parametrize("source", ["folder", "listing"])
def test_rubbish_is_left_out_and_what_is_no_image_by_name_is_asked_about(tmp_path, source):
    put(tmp_path, *(f"train/a/{name}" for name in [*IMAGES, *RUBBISH]))
    put(tmp_path, *(f"train/{name}/a/1.jpg" for name in FOLDERS), "train/Thumbs.db")
    put(tmp_path, *(f"test/{name}" for name in [*IMAGES, *OTHER]))
    if source == "listing":
        odd = [f"test/{name}" for name in [*IMAGES, *OTHER]]
        (tmp_path / "test.csv").write_text("path\n" + "\n".join(odd) + "\n")
    test = "test" if source == "folder" else "test.csv"
    with pytest.raises(ValueError, match=r"test: .*8 files .* set other_files to leave_out"):
        list_all(tmp_path, "train", test, other_files="ask")
    images, left_out = list_all(tmp_path, "train", test, other_files="leave_out")
    assert images["given"].unique().tolist() == ["a", ""]
    assert sorted(images["path"]) == sorted(
        f"{side}/{n}" for side in ("train/a", "test") for n in IMAGES
    )
    names = left_out["path"].str.removesuffix("/").str.rpartition("/")[2].str.replace("\\r", "\r")
    assert sorted(names) == sorted([*RUBBISH, *FOLDERS, *OTHER, "Thumbs.db"])
    assert left_out["reason"].ne("").all()
    read = list_all(tmp_path, "train", test, other_files="read").images
    assert len(read) == len(images) + len(OTHER)


def test_a_listing_that_names_rubbish_is_asked_about(tmp_path):
    named = ["a/1.jpg", "a/._1.jpg", "a/.2.jpg", "a/Thumbs.db", ".b/3.jpg", "a/.DS_Store"]
    (tmp_path / "train.csv").write_text("path,label\n" + "".join(f"{n},x\n" for n in named))
    with pytest.raises(ValueError, match="train: .*3 files are no images .*'a/._1.jpg'"):
        list_all(tmp_path, "train.csv", "", other_files="ask")
    kept = list_images(tmp_path, "train.csv", "")["path"].tolist()
    assert kept == ["a/1.jpg", "a/.2.jpg", ".b/3.jpg"]


def test_names_alone_say_what_is_no_image():
    assert all(map(rubbish, RUBBISH)) and all(map(rubbish_folder, FOLDERS))
    assert all(map(is_other, OTHER))
    assert not any(rubbish(name) or is_other(name) for name in IMAGES)
    assert not any(map(rubbish_folder, ["a", "eaDir", "0012", "tmp", "recycle"]))


def test_a_side_of_rubbish_alone_holds_no_image(folders):
    put(folders, "junk/Thumbs.db", "junk/x.part")
    with pytest.raises(ValueError, match="holds no image, but 2 files .*'junk/Thumbs.db'"):
        list_images(folders, "train", "junk")


def test_a_link_that_goes_round_is_a_row_and_one_of_a_left_out_folder_is_none(folders):
    os.symlink("round.jpg", folders / "test/round.jpg")
    os.symlink("..", folders / "test/@eaDir")
    assert "test/round.jpg" in set(list_images(folders, "train", "test")["path"])
    assert listing_digest(folders, ["train", "test"])


@pytest.fixture
def four(tmp_path):
    """A listing of four files, the last of which is not there yet."""
    put(tmp_path, "img/a.bmp", "img/b.bmp", "img/c.bmp")
    lines = "".join(f"img/{name}.bmp,x\n" for name in "abcd")
    (tmp_path / "train.csv").write_text("path,label\n" + lines)
    return tmp_path


def _in_place(path):
    stat = path.stat()
    with open(path, "r+b") as file:
        file.write(b"X")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _replace(path):
    path.with_name("new").write_bytes(b"x" * path.stat().st_size)
    path.with_name("new").rename(path)


def _swap(path):
    other, between = path.with_name("b.bmp"), path.with_name("between")
    for file in (path, other):
        os.utime(file, ns=(10**18, 10**18))
    path.rename(between)
    other.rename(path)
    between.rename(other)


@pytest.mark.parametrize("source", ["img", "train.csv"])
@pytest.mark.parametrize(
    "change",
    [_in_place, _replace, _swap, lambda p: p.unlink(), lambda p: put(p.parent, "d.bmp")],
    ids=["in place", "replaced", "swapped", "gone", "came"],
)
def test_the_digest_sees_every_change_of_a_file(four, source, change):
    before = listing_digest(four, [source])
    assert listing_digest(four, [source]) == before
    change(four / "img/a.bmp")
    assert listing_digest(four, [source]) != before


def test_the_digest_changes_when_a_file_comes_or_goes(folders):
    sides = ["train", "test"]
    before = listing_digest(folders, sides)
    assert listing_digest(folders, sides) == before
    put(folders, "train/7/new.jpg")
    after = listing_digest(folders, sides)
    (folders / "train/7/new.jpg").unlink()
    assert after != before and listing_digest(folders, sides) == before
