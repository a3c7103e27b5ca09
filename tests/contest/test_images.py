"""Whatever the web sends is decoded upright, or listed with its reason."""

import io
import os
import shutil
from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fgvc_utils.contest import copies, decoding, images
from fgvc_utils.contest.decoding import UnreadableImage, decode
from fgvc_utils.contest.listing import list_images
from fgvc_utils.contest.places import data_root
from fgvc_utils.core import files, processes


def photo(width=48, height=32, seed=0):
    """A smooth picture, red at the left and blue at the right, with some blobs."""
    random = np.random.default_rng(seed)
    blobs = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    picture = np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC)).copy()
    picture[:, : width // 4] = (230, 20, 20)
    picture[:, -(width // 4) :] = (20, 20, 230)
    return Image.fromarray(picture)


def saved(image, form, **settings):
    out = io.BytesIO()
    image.save(out, form, **settings)
    return out.getvalue()


@pytest.mark.parametrize(
    ("mode", "form", "stored_as"),
    [
        ("RGB", "JPEG", "RGB"),
        ("RGB", "PNG", "RGB"),
        ("RGB", "WEBP", "RGB"),
        ("L", "JPEG", "L"),
        ("P", "PNG", "P"),
        ("CMYK", "JPEG", "CMYK"),
    ],
)
def test_colour_forms(mode, form, stored_as):
    source = photo()
    stored = source.quantize(256) if mode == "P" else source.convert(mode)
    picture, found = decode(saved(stored, form))
    assert found == stored_as and picture.shape == (32, 48, 3) and picture.dtype == np.uint8
    wanted = source.convert("L").convert("RGB") if mode == "L" else source
    error = np.abs(picture.astype(int) - np.asarray(wanted).astype(int)).mean()
    assert error < 16, f"{mode} {form} is {error:.1f} grey levels off"


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 4, 8))
    picture, stored_as = decode(saved(image, "PNG"))
    assert stored_as == "RGBA"
    assert picture[0, 0].tolist() == [255, 255, 255] and picture[0, 7].tolist() == [200, 0, 0]


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 1), (8, 3)])
def test_exif_rotation_is_undone(orientation, turns):
    source = np.asarray(photo())
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(np.rot90(source, turns)), "PNG", exif=exif)
    picture, stored_as = decode(data)
    assert stored_as == "RGB rotated" and np.array_equal(picture, source)


def test_the_first_frame_of_an_animation_is_taken():
    frames = [Image.new("P", (8, 6), 0), Image.new("P", (8, 6), 1)]
    for frame in frames:
        frame.putpalette([250, 0, 0, 0, 250, 0])
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    picture, stored_as = decode(data)
    assert stored_as == "P animated" and (picture == [250, 0, 0]).all()


def test_16_bit_grey_spans_the_whole_range():
    grey = np.linspace(1000, 60000, 12 * 10).reshape(10, 12).astype(np.uint16)
    picture, stored_as = decode(saved(Image.fromarray(grey), "PNG"))
    assert stored_as.startswith("I") and picture.shape == (10, 12, 3)
    assert picture.min() == 0 and picture.max() == 255
    assert (np.diff(picture[:, :, 0].ravel().astype(int)) >= 0).all()


def test_files_that_are_no_whole_picture(monkeypatch):
    with pytest.raises(UnreadableImage, match="empty file"):
        decode(b"")
    with pytest.raises(UnreadableImage, match="not an image, it starts with '<!DOCTYPE html>"):
        decode(b"<!DOCTYPE html><p>gone</p>")
    whole = saved(photo(200, 200), "JPEG")
    with pytest.raises(UnreadableImage, match="truncated"):
        decode(whole[: len(whole) // 2])
    monkeypatch.setattr(decoding, "LARGEST_PIXELS", 1000)
    with pytest.raises(UnreadableImage, match="too large: 48 × 32"):
        decode(saved(photo(), "PNG"))


def test_shrink_keeps_the_aspect_and_never_enlarges():
    picture = np.asarray(photo(48, 32))
    assert decoding.shrink(picture, 16).shape == (16, 24, 3)
    assert decoding.shrink(picture, 64) is picture


def test_three_channel():
    stored = pd.Series(["RGB", "RGB rotated", "L", "P animated", "CMYK", "RGBA"])
    assert decoding.is_three_channel(stored).tolist() == [True, True, False, False, False, False]


def test_take_in_fills_the_cache_and_lists_errors_the_same_way_twice(tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    jpeg = saved(photo(96, 64), "JPEG", quality=95)
    files = {
        "a.jpg": jpeg,
        "b.jpg": jpeg,
        "c.jpg": saved(photo(48, 32), "JPEG", quality=95),
        "d.jpg": saved(photo(96, 64, seed=5).convert("L"), "JPEG"),
        "e.jpg": b"",
        "f.jpg": jpeg[: len(jpeg) // 2],
    }
    for name, data in files.items():
        (root / name).write_bytes(data)
    listing = pd.DataFrame({"image_id": [*"abcdefg"], "path": [*files, "gone.jpg"]})
    taken = images.take_in(listing, root, tmp_path / "cache", 32)
    again = images.take_in(listing, root, tmp_path / "other", 32)
    pd.testing.assert_frame_equal(taken, again)
    assert taken["image_id"].tolist() == [*"abcdefg"]
    good = taken[taken["error"] == ""]
    assert good["image_id"].tolist() == [*"abcd"]
    for row in good.itertuples():
        cached = images.read_cached(tmp_path / "cache" / row.cached)
        assert cached.shape == (32, 48, 3)
        assert cached.tobytes() == images.read_cached(tmp_path / "other" / row.cached).tobytes()
    assert taken["cached"][0] == taken["cached"][1] and taken["stored_as"][3] == "L"
    assert taken[["height", "width"]].iloc[0].tolist() == [64, 96]
    assert taken["error"][4] == "empty file" and "truncated" in taken["error"][5]
    assert taken["error"][6].startswith("cannot be opened")
    assert {name: (root / name).read_bytes() for name in files} == files
    groups = copies.groups(taken, 2)
    assert groups.tolist() == ["a", "a", "a", "d", "e", "f", "g"]


@pytest.fixture
def listing(tmp_path):
    """Twelve photos in tmp_path/raw, one of which is cut short."""
    (tmp_path / "raw").mkdir()
    for number in range(12):
        data = saved(photo(96, 64, seed=number), "JPEG", quality=95)
        (tmp_path / "raw" / f"{number}.jpg").write_bytes(data[:500] if number == 7 else data)
    names = [str(number) for number in range(12)]
    return pd.DataFrame({"image_id": names, "path": [f"{name}.jpg" for name in names]})


def overwrite(path, data, *, later):
    """Other bytes of the same length, with the same time of change or a later one."""
    stat = path.stat()
    path.write_bytes(data.ljust(stat.st_size, b"x")[: stat.st_size])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + (10**9 if later else 0)))


def test_a_repeated_call_reads_only_what_changed(tmp_path, listing):
    root, cache = tmp_path / "raw", tmp_path / "cache"
    first = images.take_in(listing, root, cache, 32)
    assert first.loc[first["error"] != "", "image_id"].tolist() == ["7"]
    overwrite(root / "2.jpg", b"changed", later=False)
    overwrite(root / "3.jpg", b"changed", later=True)
    os.utime(root / "4.jpg")
    (root / "7.jpg").write_bytes(saved(photo(48, 32), "JPEG", quality=95))
    (cache / first["cached"][5]).unlink()
    second = images.take_in(listing[::-1], root, cache, 32)[::-1].reset_index(drop=True)
    changed = [2, 3, 7]
    pd.testing.assert_frame_equal(second.drop(changed), first.drop(changed))
    assert all("it starts with 'changed" in second["error"][number] for number in (2, 3))
    assert second["error"][7] == "" and second["width"][7] == 48
    assert (cache / first["cached"][5]).is_file()


def test_another_folder_or_size_is_read_anew(tmp_path, listing):
    root, cache = tmp_path / "raw", tmp_path / "cache"
    images.take_in(listing, root, cache, 32)
    overwrite(root / "2.jpg", b"changed", later=False)
    other = images.take_in(listing, root, cache, 40)
    assert "not an image" in other["error"][2] and other["cached"][1].startswith("40/")
    shutil.copytree(root, tmp_path / "copy")
    assert "not an image" in images.take_in(listing, tmp_path / "copy", cache, 32)["error"][2]


class OneProcess:
    """A pool that works in this process and is interrupted at one image."""

    stop_at = ""

    def __init__(self, processes, **options):
        pass

    def shutdown(self, cancel_futures):
        pass

    def map(self, job, paths, chunksize):
        for path in paths:
            if path == self.stop_at:
                raise KeyboardInterrupt
            yield job(path)


def test_an_interrupted_call_goes_on_where_it_stopped(tmp_path, listing, monkeypatch):
    root, cache = tmp_path / "raw", tmp_path / "cache"
    wanted = images.take_in(listing, root, tmp_path / "other", 32)
    monkeypatch.setattr(processes, "ProcessPoolExecutor", OneProcess)
    monkeypatch.setattr(images, "SAMPLE", 3)
    monkeypatch.setattr(images, "KEPT_TOGETHER", 2)
    monkeypatch.setattr(OneProcess, "stop_at", "10.jpg")
    with pytest.raises(KeyboardInterrupt):
        images.take_in(listing, root, cache, 32)
    read = []
    real = decoding.read_picture
    monkeypatch.setattr(images, "read_picture", lambda *a: read.append(a) or real(*a))
    monkeypatch.setattr(OneProcess, "stop_at", "")
    taken = images.take_in(listing, root, cache, 32)
    pd.testing.assert_frame_equal(taken, wanted)
    # Two were left, and the one that is cut short is tried again.
    assert len(read) == 3


def test_what_the_disk_lost_of_a_cache_is_read_again(tmp_path, listing):
    root, cache = tmp_path / "raw", tmp_path / "cache"
    wanted = images.take_in(listing, root, cache, 32)
    before = {path: path.read_bytes() for path in cache.rglob("*.jpg")}
    cut, emptied = sorted(before)[:2]
    cut.write_bytes(before[cut][:-20])
    emptied.write_bytes(b"")
    (part, *_) = (cache / "rows").rglob("part-*.parquet")
    for broken in (None, part):
        if broken:
            broken.write_bytes(b"PAR1")
        pd.testing.assert_frame_equal(images.take_in(listing, root, cache, 32), wanted)
        assert {path: path.read_bytes() for path in cache.rglob("*.jpg")} == before


def test_a_disk_too_small_for_the_cache_is_said_after_a_sample(tmp_path, listing, monkeypatch):
    usage = namedtuple("Usage", "total used free")(10**12, 0, files.SPARE_BYTES + 30_000)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda place: usage)
    monkeypatch.setattr(images, "SAMPLE", 3)
    monkeypatch.setattr(processes, "ProcessPoolExecutor", OneProcess)
    root, cache = tmp_path / "raw", tmp_path / "cache"
    with pytest.raises(files.NotEnoughSpace, match="9 pictures of at most 32 px need 0.00 GB"):
        images.take_in(listing, root, cache, 32)
    assert len(list(cache.glob("32/*/*.jpg"))) == 3


def by_pillow(data, monkeypatch):
    """What decode says without the fast way: the picture, or the reason."""
    with monkeypatch.context() as changed:
        changed.setattr(decoding, "_plain_jpeg", lambda *rest: None)
        return said_of(data)


def said_of(data):
    try:
        picture, stored_as = decode(data)
    except UnreadableImage as error:
        return str(error)
    return picture.shape, picture.tobytes(), stored_as


@pytest.mark.parametrize("settings", [{}, {"subsampling": 0}, {"progressive": True}])
def test_jpegs_are_decoded_to_the_bytes_that_pillow_gives(settings, monkeypatch):
    for width, height in [(90, 71), (64, 64), (17, 200), (1, 1)]:
        data = saved(photo(width, height), "JPEG", quality=80, **settings)
        assert said_of(data) == by_pillow(data, monkeypatch)
        used = decoding._plain_jpeg(data, height, width, None)
        assert used is not None, "the fast way is the one that is tested"


@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"restart_marker_blocks": 4}])
def test_a_jpeg_cut_anywhere_is_judged_as_pillow_judges(settings, monkeypatch):
    whole = saved(photo(90, 71), "JPEG", quality=80, **settings)
    for length in [*range(2, len(whole), 97), len(whole) - 2, len(whole) - 1]:
        assert said_of(whole[:length]) == by_pillow(whole[:length], monkeypatch), length
    with pytest.raises(UnreadableImage, match="truncated"):
        decoding.decode_small(whole[: len(whole) - 40], 8)
    spoilt = whole[: len(whole) // 2] + bytes(50) + whole[len(whole) // 2 + 50 :]
    assert said_of(spoilt) == by_pillow(spoilt, monkeypatch)


@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_large_jpeg_is_decoded_at_a_part_of_its_size_and_looks_the_same(subsampling):
    source = photo(803, 601)
    data = saved(source, "JPEG", quality=90, subsampling=subsampling)
    whole = decoding.shrink(decode(data)[0], 64)
    small, stored_as, size = decoding.decode_small(data, 64)
    assert decoding._plain_jpeg(data, 601, 803, 64).shape == (151, 201, 3)
    assert size == (601, 803) and stored_as == "RGB" and small.shape == whole.shape
    assert np.abs(small.astype(int) - whole.astype(int)).mean() < 1
    # Less than four times the size: nothing is decoded smaller.
    assert np.array_equal(
        decoding.decode_small(data, 160)[0], decoding.shrink(decode(data)[0], 160)
    )


def test_real_files_of_the_web():
    try:
        root = data_root("grocery-web")
    except FileNotFoundError as error:
        pytest.skip(f"grocery-web is not here: {error}")
    paths = list_images(root, "train", "test")["path"]
    found = {}
    for path in paths[:600:3]:
        try:
            picture, stored_as = decode((root / path).read_bytes())
        except UnreadableImage as error:
            stored_as = f"error: {error}"
        else:
            assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        found[stored_as] = found.get(stored_as, 0) + 1
    assert found["RGB"] > 100 and {"L", "P", "CMYK"} <= set(found), found
