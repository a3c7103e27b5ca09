"""One walk below a folder, for the images of a contest and for new photos."""

import os

import pandas as pd
import pytest

from fgvc_utils.contest import walking
from fgvc_utils.contest.listing import list_images, list_side
from fgvc_utils.contest.rubbish import HIDDEN, NO_IMAGE, OF_A_SYSTEM
from fgvc_utils.contest.walking import walk
from fgvc_utils.sharing.photos import LINK, find_photos


@pytest.fixture
def folder(tmp_path):
    """Images of two classes, with what lies beside them."""
    for name in ("b/2.jpg", "b/1.jpg", "b/notes.txt", "a/deep/3.jpg", "a/.hid.jpg", ".git/x"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).write_bytes(b"1")
    return tmp_path / "train"


def test_folders_come_in_order_with_what_is_none_and_why(folder):
    (folder / "a" / "round").symlink_to(folder)
    seen = {each.below: each for each in walk(folder)}
    assert list(seen) == ["", "a/", "a/deep/", "b/"]
    assert seen[""].left_out == [(".git", HIDDEN)] and seen[""].files == []
    assert seen["a/"].links == ["round"] and seen["a/"].files == [(".hid.jpg", HIDDEN)]
    assert seen["b/"].files == [("1.jpg", ""), ("2.jpg", ""), ("notes.txt", NO_IMAGE)]
    assert os.path.samefile(seen["b/"].folder, folder / "b")


def test_a_contest_and_new_photos_leave_out_the_same_for_the_same_reason(folder):
    (folder / "b" / "@eaDir").mkdir()
    photos = find_photos([folder])
    images, left_out = list_side(folder.parent, "train", "train")
    taken = photos["reason"] == ""
    assert [f"train/{name}" for name in photos.loc[taken, "photo"]] == images["path"].tolist()
    others = dict(zip("train/" + photos["photo"], photos["reason"], strict=True))
    assert dict(left_out.itertuples(index=False)).items() <= others.items()
    assert others["train/b/@eaDir/"] == OF_A_SYSTEM and len(left_out) == 4


def test_a_link_stops_a_contest_and_is_a_line_among_photos(folder):
    (folder / "b" / "round").symlink_to(folder)
    with pytest.raises(ValueError, match="train/b/round is a link to a folder"):
        list_images(folder.parent, "train", "")
    photos = find_photos([folder]).set_index("photo")
    assert photos.loc["b/round/", "reason"] == LINK


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    def refused(top, onerror):
        onerror(PermissionError(13, "Permission denied", str(folder / "b")))
        return iter(())

    monkeypatch.setattr(walking.os, "walk", refused)
    with pytest.raises(ValueError, match="train/b cannot be listed: Permission denied; give"):
        list_images(folder.parent, "train", "")
    with pytest.raises(PermissionError, match="train/b"):
        find_photos([folder])


def test_a_photo_is_called_as_it_was_named(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "one.jpg").write_bytes(b"1")
    photos = find_photos(["train/b", "one.jpg", "./train/a/"])
    assert photos.loc[photos["reason"] == "", "photo"].tolist() == [
        "train/b/1.jpg", "train/b/2.jpg", "one.jpg", "train/a/deep/3.jpg",
    ]  # fmt: skip
    assert pd.Series(photos["place"]).map(os.path.exists).all()
