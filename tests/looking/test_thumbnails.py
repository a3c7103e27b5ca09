"""Thumbnails: their size, what cannot be shown, and what is kept."""

import io

import numpy as np
import pytest
from PIL import Image
from small_candidates import photos

from fgvc_utils.looking import thumbnails
from fgvc_utils.looking.thumbnails import Thumbnails, thumbnail


def test_sizes_and_contents(tmp_path):
    photos(tmp_path)
    jpeg, problem = Thumbnails().jpeg(tmp_path / "0003.jpg", 64)
    photo = Image.open(io.BytesIO(jpeg))
    assert problem == "" and photo.format == "JPEG" and photo.size == (64, 32)
    assert abs(np.asarray(photo).mean() - 90) < 3


def test_missing_and_damaged_photos_are_named(tmp_path):
    photos(tmp_path)
    (tmp_path / "0000.jpg").unlink()
    whole = (tmp_path / "0001.jpg").read_bytes()
    (tmp_path / "0001.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "0002.jpg").write_text("<html>not found</html>")
    kept = Thumbnails()
    told = [kept.jpeg(tmp_path / f"000{number}.jpg", 64) for number in range(4)]
    assert [problem for _, problem in told] == ["missing", "unreadable", "unreadable", ""]
    assert [bool(jpeg) for jpeg, _ in told] == [False, False, False, True]
    with pytest.raises(OSError):
        thumbnail(tmp_path / "0002.jpg", 64)


def test_photo_is_upright_and_rgb_whatever_its_mode(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("CMYK", (400, 200)).save(tmp_path / "turned.jpg", exif=exif)
    photo = thumbnail(tmp_path / "turned.jpg", 100)
    assert photo.mode == "RGB" and photo.size == (50, 100)


def test_the_latest_are_kept_up_to_a_limit(tmp_path, monkeypatch):
    paths = photos(tmp_path)["image"].tolist()
    size = len(Thumbnails().jpeg(paths[0], 64)[0])
    made = []
    real = thumbnails.thumbnail
    monkeypatch.setattr(
        thumbnails, "thumbnail", lambda path, side: made.append(path) or real(path, side)
    )
    kept = Thumbnails(kept_bytes=3 * size + size // 2)
    for path in [*paths[:3], paths[0], paths[3], paths[0], paths[1]]:
        kept.jpeg(path, 64)
    # The fourth pushed the oldest out, which was asked for again.
    assert made == [*paths[:4], paths[1]]
