"""Decoded pictures are those of the cache, resized as torchvision does; what is there stays."""

import os
import pickle
import time
from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
import simplejpeg
import torch
from PIL import Image
from torchvision.transforms import v2

from fgvc_utils.contest import decoded, images
from fgvc_utils.contest.decoded import Decoded, decode_once, needed_bytes
from fgvc_utils.core import files

SIZES = [(30, 40), (40, 30), (64, 97), (33, 33), (20, 90), (50, 21)]
Usage = namedtuple("Usage", "total used free")


def write_picture(path, height, width, seed=0):
    random = np.random.default_rng(seed)
    blobs = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    picture = np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(simplejpeg.encode_jpeg(picture, quality=95, colorsubsampling="444"))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def names(cache):
    """Pictures of the cache, by their names in it."""
    names = [f"260/{number:02x}/{number:030x}.jpg" for number in range(len(SIZES))]
    for number, name in enumerate(names):
        write_picture(cache / name, *SIZES[number], seed=number)
    return names


def shards(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*")}


@pytest.mark.parametrize("side", [24, 33, 51])
def test_pictures_are_those_that_torchvision_resizes(cache, names, side):
    reader = Decoded(decode_once(names, cache, side))
    assert len(reader) == len(names)
    for name in names:
        picture = reader.read(name)
        cached = torch.from_numpy(images.read_cached(cache / name).copy()).permute(2, 0, 1)
        wanted = v2.Resize(side, antialias=True)(cached).permute(1, 2, 0).numpy()
        assert picture.dtype == np.uint8 and picture.shape == wanted.shape
        assert np.abs(picture.astype(int) - wanted.astype(int)).max() <= 1
        assert min(picture.shape[:2]) == side


def test_files_are_named_absolutely_or_within_the_cache(cache, names):
    absolute = [str(cache / name) for name in names]
    reader = Decoded(decode_once(absolute, cache, 24))
    assert names[2] in reader and absolute[2] in reader and cache / names[2] in reader
    assert np.array_equal(reader.read(names[2]), reader.read(absolute[2]))
    assert needed_bytes(names, cache, 24) == 0


def test_a_picture_that_is_not_there_is_named(cache, names):
    reader = Decoded(decode_once(names[:2], cache, 24))
    for stranger in (names[2], "short.jpg", "x" * 200, "/elsewhere/a.jpg", ""):
        assert stranger not in reader
        with pytest.raises(KeyError, match="holds no picture of " + stranger):
            reader.read(stranger)
    nothing = Decoded(decode_once([], cache, 25))
    assert len(nothing) == 0 and names[0] not in nothing
    with pytest.raises(FileNotFoundError, match="run decode_once"):
        Decoded(cache / "decoded" / "26")


def test_a_picture_cannot_be_written_to(cache, names):
    picture = Decoded(decode_once(names, cache, 24)).read(names[0])
    with pytest.raises(ValueError, match="read-only"):
        picture[0, 0] = 0


def test_a_later_call_writes_only_what_is_missing(cache, names):
    folder = decode_once(names[:3], cache, 24)
    first = shards(folder)
    assert decode_once(names[:3][::-1] * 2, cache, 24) == folder and shards(folder) == first
    decode_once(names, cache, 24)
    later = shards(folder)
    assert first.items() < later.items() and len(later) == 4
    whole = Decoded(decode_once(names, cache.parent / "cache", 24))
    assert len(whole) == len(names)
    added = pd.concat(pd.read_parquet(folder / name) for name in later if name.endswith("parquet"))
    assert sorted(added["file"]) == sorted(names)


def test_the_needed_bytes_are_those_written(cache, names):
    needed = needed_bytes(names, cache, 24)
    folder = decode_once(names, cache, 24)
    assert needed == sum(path.stat().st_size for path in folder.glob("*.bin")) > 0


def test_shards_are_of_bounded_size(cache, names, monkeypatch):
    monkeypatch.setattr(decoded, "SMALLEST_SHARD", 1)
    monkeypatch.setattr(decoded, "LARGEST_SHARD", 6000)
    folder = decode_once(names, cache, 24)
    sizes = [path.stat().st_size for path in folder.glob("*.bin")]
    # One picture is larger than the bound: it has a shard of its own.
    assert len(sizes) > 2 and sorted(sizes)[-2] <= 6000
    reader = Decoded(folder)
    for name in names:
        alone = decoded.resize(images.read_cached(cache / name), 24)
        assert np.array_equal(reader.read(name), alone)


def test_two_processes_write_what_one_does(cache, names, monkeypatch):
    monkeypatch.setattr(decoded, "SMALLEST_SHARD", 1)
    one = Decoded(decode_once(names, cache, 24))
    alone = [one.read(name).copy() for name in names]
    for path in one.folder.iterdir():
        path.unlink()
    two = Decoded(decode_once(names, cache, 24, processes=2))
    assert len(list(two.folder.glob("*.bin"))) > 2
    assert all(np.array_equal(two.read(n), a) for n, a in zip(names, alone, strict=True))


def test_half_written_shards_are_ignored_and_replaced(cache, names):
    folder = decode_once(names[:3], cache, 24)
    wanted = [Decoded(folder).read(name).copy() for name in names[:3]]
    data = next(folder.glob("*.bin"))
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    assert names[0] not in Decoded(folder)
    decode_once(names[:3], cache, 24)
    assert data.read_bytes() == whole
    data.with_suffix(".parquet").unlink()
    assert names[0] not in Decoded(folder)
    reader = Decoded(decode_once(names[:3], cache, 24))
    assert all(np.array_equal(reader.read(n), w) for n, w in zip(names, wanted, strict=False))


def test_an_interrupted_call_keeps_its_finished_shards(cache, names, monkeypatch):
    monkeypatch.setattr(decoded, "SMALLEST_SHARD", 1)
    monkeypatch.setattr(decoded, "LARGEST_SHARD", 1)
    real = decoded.read_cached

    def interrupted(path):
        if path == cache / names[4]:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(decoded, "read_cached", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decode_once(names, cache, 24)
    folder = decoded.decoded_folder(cache, 24)
    done = shards(folder)
    assert len(Decoded(folder)) == 4 and not list(folder.glob(".*"))
    monkeypatch.setattr(decoded, "read_cached", real)
    assert len(Decoded(decode_once(names, cache, 24))) == 6
    assert done.items() < shards(folder).items()


def test_what_a_killed_process_left_goes_once_it_is_old(cache, names):
    folder = decode_once(names[:1], cache, 24)
    old = [folder / ".shard-ab.17.part.bin", folder / "shard-cd.bin"]
    young = [folder / ".shard-ef.18.part.bin", folder / "shard-01.bin"]
    for path in old + young:
        path.write_bytes(b"half")
    for path in old:
        os.utime(path, (time.time() - 7200,) * 2)
    decode_once(names[:2], cache, 24)
    assert not any(path.exists() for path in old) and all(path.exists() for path in young)
    assert len(Decoded(folder)) == 2


def test_a_shard_whose_index_the_disk_lost_is_decoded_anew(cache, names):
    folder = decode_once(names[:3], cache, 24)
    (index,) = folder.glob("shard-*.parquet")
    index.write_bytes(b"")
    assert len(Decoded(folder)) == 0
    assert len(Decoded(decode_once(names[:3], cache, 24))) == 3 and index.stat().st_size


def test_a_full_disk_is_said_before_any_work(cache, names, monkeypatch):
    usage = Usage(10**12, 0, files.SPARE_BYTES + 1000)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(files.NotEnoughSpace, match="6 decoded pictures of 24 px need 0.00 GB") as e:
        decode_once(names, cache, 24)
    assert str(decoded.decoded_folder(cache, 24)) in str(e.value) and "larger disk" in str(e.value)
    assert not decoded.decoded_folder(cache, 24).exists()


def test_files_that_are_off_are_named_before_any_work(cache, names, tmp_path):
    write_picture(tmp_path / "other.jpg", 20, 20)
    with pytest.raises(ValueError, match="other.jpg does not lie in the cache"):
        decode_once([*names, str(tmp_path / "other.jpg")], cache, 24)
    with pytest.raises(FileNotFoundError, match="gone.jpg"):
        decode_once([*names, "260/gone.jpg"], cache, 24)
    (cache / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="bad.jpg is no JPEG of the cache"):
        decode_once([*names, "bad.jpg"], cache, 24)
    assert not decoded.decoded_folder(cache, 24).exists()
    jpeg = (cache / names[0]).read_bytes()
    (cache / "cut.jpg").write_bytes(jpeg[: len(jpeg) * 2 // 3])
    with pytest.raises(ValueError, match="cut.jpg cannot be decoded"):
        decode_once([*names, "cut.jpg"], cache, 24)
    assert not list(decoded.decoded_folder(cache, 24).glob("*"))


def test_a_reader_travels_to_another_process_without_its_pixels(cache, names):
    reader = Decoded(decode_once(names, cache, 300))
    unread = pickle.dumps(reader)
    picture = reader.read(names[0])
    pickled = pickle.dumps(reader)
    assert len(unread) < 1000 and len(pickled) < 5000 < picture.nbytes
    assert np.array_equal(pickle.loads(pickled).read(names[0]), picture)
    assert np.array_equal(pickle.loads(unread).read(names[0]), picture)
