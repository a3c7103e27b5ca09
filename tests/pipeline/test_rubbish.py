"""Rubbish in: each ends in a clear error, or in a row that says what is wrong, and in no hang."""

import io
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import unicodedata
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fgvc_utils.contest import colours, decoded, decoding, images, tables
from fgvc_utils.contest.decoding import UnreadableImage, decode_small
from fgvc_utils.contest.images import read_raw
from fgvc_utils.contest.inventory import inventory_path, read_inventory
from fgvc_utils.contest.listing import inside, list_images, listing_digest, spelt_out
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.core import files
from fgvc_utils.core.reading import UnreadableFile, read_csv, read_parquet
from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store
from fgvc_utils.jobs.records import Job, read_job
from fgvc_utils.pipeline.contest_file import read_contest
from fgvc_utils.training import averaging


def picture(form="JPEG", size=(48, 32), mode="RGB", **settings):
    out = io.BytesIO()
    Image.new(mode, size, 90).save(out, form, **settings)
    return out.getvalue()


@pytest.fixture
def root(tmp_path):
    """A data root of two classes and a test image."""
    for path in ("train/rose/1.jpg", "train/tulip/2.jpg", "test/3.jpg"):
        (tmp_path / "raw" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / path).write_bytes(picture())
    return tmp_path / "raw"


def reasons(root, paths, tmp_path):
    """What `take_in` says of some files, by path."""
    cache = tmp_path / "cache"
    return {path: images._take_in(path, root=root, cache=cache, side=32)["error"] for path in paths}


# Files that are no plain files.


def test_a_pipe_a_socket_a_folder_and_a_device_are_listed_without_waiting(root, tmp_path):
    os.mkfifo(root / "pipe.jpg")
    (root / "folder.jpg").mkdir()
    # The name of a socket may be no longer than about a hundred bytes.
    place = os.open(root, os.O_RDONLY)
    socket.socket(socket.AF_UNIX).bind(f"/proc/self/fd/{place}/socket.jpg")
    os.close(place)
    names = ["pipe.jpg", "folder.jpg", "socket.jpg"]
    for name, said in reasons(root, names, tmp_path).items():
        assert said == "is no plain file, but a folder, a pipe or a device", name


def test_links_that_lead_nowhere_round_in_a_circle_or_out_of_the_root_are_listed(root, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(picture())
    os.symlink("gone.jpg", root / "dangling.jpg")
    os.symlink("circle.jpg", root / "circle.jpg")
    os.symlink(tmp_path / "secret.jpg", root / "out.jpg")
    os.symlink("/dev/zero", root / "zero.jpg")
    os.symlink("train/rose/1.jpg", root / "within.jpg")
    names = ["dangling.jpg", "circle.jpg", "out.jpg", "zero.jpg", "within.jpg"]
    said = reasons(root, names, tmp_path)
    assert said["dangling.jpg"] == "cannot be opened: No such file or directory"
    assert said["circle.jpg"] == "cannot be opened: Too many levels of symbolic links"
    assert said["out.jpg"].startswith("lies outside the data root, at ")
    assert said["zero.jpg"].startswith("lies outside the data root, at /dev/zero")
    assert said["within.jpg"] == ""


def test_a_data_root_that_is_a_link_itself_is_no_way_out(root, tmp_path):
    os.symlink(root, tmp_path / "link")
    assert read_raw(tmp_path / "link", "train/rose/1.jpg")[0] == picture()
    assert len(list_images(tmp_path / "link", "train", "test")) == 3


def test_a_file_that_may_not_be_read_and_an_empty_one_are_listed(root, tmp_path):
    (root / "empty.jpg").write_bytes(b"")
    (root / "closed.jpg").write_bytes(picture())
    (root / "closed.jpg").chmod(0)
    said = reasons(root, ["empty.jpg", "closed.jpg", "a\0b.jpg"], tmp_path)
    assert said["empty.jpg"] == "empty file"
    assert said["a\0b.jpg"].startswith("cannot be opened: ")
    # Root may read whatever the bits say.
    assert said["closed.jpg"] == ("" if os.getuid() == 0 else "cannot be opened: Permission denied")


def test_a_file_too_large_to_be_a_picture_is_not_read(root, tmp_path, monkeypatch):
    with open(root / "film.jpg", "wb") as file:
        file.truncate(40 * 2**30)
    assert reasons(root, ["film.jpg"], tmp_path)["film.jpg"] == "too large: 42.95 GB"


def crash_on(path):
    """Stands in for the reading of an image: one kills its process, as a crash would."""
    if path == "17":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"path": path, "error": ""}


def test_an_image_that_crashes_its_decoder_is_listed_and_the_others_are_read(monkeypatch):
    monkeypatch.setattr(images, "CHUNK", 5)
    paths = [str(number) for number in range(24)]
    with images.Readers(2) as readers:
        rows = list(readers.rows(crash_on, paths))
    assert [row["path"] for row in rows] == paths
    crashed = [row for row in rows if row["error"]]
    assert [row["path"] for row in crashed] == ["17"]
    assert crashed[0]["error"] == "its decoder crashed, or took too much memory"
    assert set(crashed[0]) == set(images._row("17"))


# Pictures that are larger than they look.


def png(width, height, depth=1, colours=0, rows=b""):
    """A PNG of few bytes: its header and some compressed rows."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_decompression_bomb_is_refused_by_its_header(monkeypatch):
    bomb = png(30_000, 30_000, rows=bytes(30_000 * 3_751))
    assert len(bomb) < 200_000
    for size, said in (
        (30_000, "too large: 900,000,000 pixels"),
        (11_000, "too large: 11000 ×"),
    ):
        with pytest.raises(UnreadableImage, match=said):
            decode_small(png(size, size), 260)


def test_a_jpeg_of_a_thousand_scans_is_refused():
    data = picture(progressive=True)
    scans = data.count(b"\xff\xda")
    assert 1 < scans < 20 and decode_small(data, 16)[2] == (32, 48)
    with pytest.raises(UnreadableImage, match="more than 100 scans"):
        decode_small(data[:-2] + b"\xff\xda\0\0" * 1000 + data[-2:], 16)


def test_a_picture_of_30000_pixels_is_used_in_its_middle():
    for form in ("JPEG", "PNG"):
        small, stored_as, size = decode_small(picture(form, (30_000, 200)), 64)
        assert size == (200, 30_000) and small.shape == (64, 64 * 30, 3) and stored_as == "RGB"
    assert decode_small(picture("JPEG", (30_000, 1)), 64)[0].shape == (1, 30, 3)


def test_a_large_picture_is_decoded_in_little_more_than_its_own_memory():
    """Of 60 million pixels: 240 MB as Pillow holds them, which is what Pillow needs at least."""
    script = (
        "import io, resource\nfrom PIL import Image\n"
        "from fgvc_utils.contest.decoding import decode_small\n"
        "out = io.BytesIO()\n"
        "Image.new('RGBA', (10_000, 6_000), (9, 99, 30, 200)).save(out, 'PNG', compress_level=1)\n"
        "data = out.getvalue()\ndel out\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "small, _, size = decode_small(data, 260)\n"
        "assert size == (6_000, 10_000) and small.shape == (260, 433, 3)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # The peak before holds the picture that was saved, 240 MB; a second one as large may be added.
    assert int(done.stdout) < 300


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "1", "I;16", "CMYK"])
def test_a_picture_in_bands_is_the_picture_as_a_whole(mode, monkeypatch):
    random = np.random.default_rng(0)
    source = Image.fromarray(random.integers(0, 256, (61, 83, 4), dtype=np.uint8), "RGBA")
    if mode == "I;16":
        source = Image.fromarray(random.integers(0, 60_000, (61, 83)).astype(np.uint16))
    source = source if mode in ("RGBA", "I;16") else source.convert("RGB").convert(mode)
    out = io.BytesIO()
    source.save(out, "TIFF" if mode in ("CMYK", "LA") else "PNG")
    whole = decoding.decode(out.getvalue())
    monkeypatch.setattr(colours, "BAND_PIXELS", 83 * 7)
    banded = decoding.decode(out.getvalue())
    assert np.array_equal(whole[0], banded[0]) and whole[1] == banded[1]
    # At half the size, seven rows at once would cut through a pair.
    stored = Image.open(io.BytesIO(out.getvalue()))
    how = colours.prepare(stored)
    small = decoding._in_bands(stored, 2, how, colours.grey_range(stored, how))
    assert small.shape == (31, 42, 3)


def test_an_animation_is_not_counted_frame_by_frame():
    frames = [Image.new("P", (8, 8), number) for number in range(50)]
    out = io.BytesIO()
    frames[0].putpalette(list(range(150)))
    for frame in frames:
        frame.putpalette(list(range(150)))
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    began = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    # A million empty frames.
    bomb = out.getvalue()[:-1] + b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x4c\1\0" * 1_000_000 + b"\x3b"
    assert decode_small(bomb, 8)[1] == "P animated"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - began < 2


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\0\0\2" + bytes(9) + b"\4\0\4\0\x18\0" + bytes(48),
    ],
    ids=["PostScript", "SVG", "TGA"],
)
def test_files_whose_readers_start_programs_or_take_any_bytes_are_no_images(data):
    with pytest.raises(UnreadableImage, match="not an image"):
        decode_small(data, 16)


# Names.


def test_a_file_whose_name_is_no_text_is_listed_and_the_others_are_used(root, tmp_path):
    for name in (b"x\xff.jpg", b"two\nlines.jpg"):
        (root / "train/rose" / os.fsdecode(name)).write_bytes(picture())
    listed = list_images(root, "train", "test")
    odd = [r"train/rose/two\nlines.jpg", r"train/rose/x\xff.jpg"]
    assert set(odd) < set(listed["path"]) and len(listed) == 5
    said = reasons(root, listed["path"], tmp_path)
    assert [path for path, error in said.items() if error] == odd
    assert all("its name holds bytes that are no text; rename it" in said[path] for path in odd)
    tables.write_table(tables.new_table(listed), tmp_path / "01_noise.parquet")
    assert len(listing_digest(root, ["train", "test"])) == 64


@pytest.mark.parametrize("name", [b"x\xff", b"two\nlines", b"bell\x07"])
def test_a_class_whose_name_is_no_text_is_refused(root, name):
    folder = root / "train" / os.fsdecode(name)
    folder.mkdir()
    (folder / "1.jpg").write_bytes(picture())
    said = re.escape(repr(spelt_out(os.fsdecode(name))))
    with pytest.raises(ValueError, match=f"the class {said} holds control characters"):
        list_images(root, "train", "test")


def test_one_class_in_two_unicode_spellings_is_refused(root):
    for form in ("NFC", "NFD"):
        folder = root / "train" / unicodedata.normalize(form, "épine")
        folder.mkdir()
        (folder / "1.jpg").write_bytes(picture())
    with pytest.raises(ValueError, match="two Unicode spellings .* rename one"):
        list_images(root, "train", "test")


@pytest.mark.parametrize(
    "name",
    ["a b", "con", "x..", "-rf", "=1+1", "🌷", "épine", 'q"q', "a,b", "日本", "x" * 200, "%s"],
)
def test_any_class_name_that_is_text_stays_as_it_is(root, tmp_path, name):
    (root / "train" / name).mkdir()
    (root / "train" / name / "1.jpg").write_bytes(picture())
    listed = list_images(root, "train", "test")
    assert name in set(listed["given"])
    assert not any(reasons(root, listed["path"], tmp_path).values())
    path = tmp_path / "01_noise.parquet"
    tables.write_table(tables.new_table(listed), path)
    assert tables.classes_of(tables.read_table(path)) == sorted([name, "rose", "tulip"])


# Places outside the data root.


@pytest.mark.parametrize("place", ["..", "../../etc", "/etc", "link", "train/../../raw2"])
def test_a_side_that_leads_out_of_the_data_root_is_refused(root, place):
    os.symlink("/etc", root / "link")
    with pytest.raises(ValueError, match="train: .* outside the data root"):
        list_images(root, place, "test")
    with pytest.raises(ValueError, match="test: .* outside the data root"):
        list_images(root, "train", place)
    assert inside(root, "train/../test") == root.resolve() / "test"


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/passwd", "train/../../x.jpg"])
def test_a_path_of_a_listing_that_leads_out_is_refused_with_its_row(root, path):
    (root / "train.csv").write_text(f"path,label\ntrain/rose/1.jpg,rose\n{path},rose\n")
    with pytest.raises(ValueError, match=f"the path '{path}' in row 2 leads out"):
        list_images(root, "train.csv", "")


def test_a_link_to_a_folder_is_refused_and_not_left_out_in_silence(root, tmp_path):
    os.symlink("..", root / "train/rose/round")
    with pytest.raises(ValueError, match="train/rose/round is a link to a folder"):
        list_images(root, "train", "test")


# Tables.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; its first line must name the columns"),
        ("path,label\né.jpg,x\n".encode("latin-1"), "is not UTF-8 text, first in line 2"),
        ("path,label\na.jpg,x\n".encode("utf-16"), "is not UTF-8 text, first in line 1"),
        (b"path;label\na.jpg;x\n", "separated by semicolons"),
        (b"path\tlabel\na.jpg\tx\n", "separated by tabs"),
        (b"path,label\na.jpg,x\nb,c.jpg,x\n", "line 3 has 3 fields, the header 2"),
        (b"path,label\na.jpg,x,y\nb.jpg,x,y\n", "line 2 has 3 fields, the header 2"),
        (b"path,label\na.jpg\n", "line 2 has 1 fields, the header 2"),
        (b"path,label\na\0.jpg,x\n", "line 2 holds a NUL byte"),
        (b'path,label\n"a.jpg,x\nb.jpg,y\n', "is a double quote not closed"),
        (b"path,label,label\na.jpg,x,y\n", "column 'label' appears twice"),
        (b"path,label\n" + b"a" * 200_000 + b",x\n", "field larger than field limit"),
        (b'path,label\n"a\nb.jpg",x\n', "column 'path' holds control characters in row 1"),
        (b"path,label\na.jpg,\x07\n", "column 'label' holds control characters in row 1"),
        (b"path,label\n", "holds no image"),
    ],
)
def test_a_listing_that_is_no_clean_csv_is_refused_with_its_name(root, content, said):
    (root / "train.csv").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        list_images(root, "train.csv", "")
    assert "train.csv" in str(caught.value)


def test_a_byte_order_mark_windows_line_ends_quotes_and_empty_lines_are_read(tmp_path):
    (tmp_path / "x.csv").write_bytes(b'\xef\xbb\xbf"path","label"\r\n\r\n"a,""b"".jpg",NA\r\n')
    assert read_csv(tmp_path / "x.csv").to_dict("records") == [{"path": 'a,"b".jpg', "label": "NA"}]


def test_a_parquet_file_that_is_cut_or_none_is_refused_with_its_name(root, tmp_path):
    frame = pd.DataFrame({"path": ["train/rose/1.jpg"], "label": ["rose"]})
    frame.to_parquet(root / "train.parquet")
    whole = (root / "train.parquet").read_bytes()
    for content in (b"", whole[:-5], whole[: len(whole) // 2], b"path,label\n", whole[:4] * 30):
        (root / "train.parquet").write_bytes(content)
        with pytest.raises(UnreadableFile, match="train.parquet cannot be read as a Parquet file"):
            list_images(root, "train.parquet", "")
    (tmp_path / "02_coarse.parquet").write_bytes(whole[:-5])
    with pytest.raises(UnreadableFile, match="run the notebook 02_coarse again"):
        tables.read_table(tmp_path / "02_coarse.parquet")
    with pytest.raises(FileNotFoundError):
        read_parquet(tmp_path / "gone.parquet")


def test_spoilt_rows_of_an_interrupted_call_are_read_anew(root, tmp_path, monkeypatch):
    listed = list_images(root, "train", "test")
    first = images.take_in(listed, root, tmp_path / "cache", 32)
    for part in (tmp_path / "cache").glob("rows/*/part-*.parquet"):
        part.write_bytes(part.read_bytes()[:-7])
    pd.testing.assert_frame_equal(images.take_in(listed, root, tmp_path / "cache", 32), first)


# What a run wrote, spoilt later.


@pytest.fixture
def store(tmp_path):
    """A finished store of two images and three classes."""
    writer = ShardWriter(tmp_path / "store", 0, ["a", "b"])
    writer.write("logits", 0, np.zeros((2, 3), np.float16))
    writer.close()
    finish_store(tmp_path / "store", ["x", "y", "z"], 1)
    return tmp_path / "store"


@pytest.mark.parametrize(
    "name", ["index.json", "shard-00000/ids.parquet", "shard-00000/logits.npy"]
)
def test_predictions_that_are_cut_are_refused_with_the_file_named(store, name):
    assert Store(store).read("logits").shape == (2, 3)
    (store / name).write_bytes((store / name).read_bytes()[:-3])
    said = "cannot be read as .* run the notebook" if name == "index.json" else "is gone or has not"
    with pytest.raises(ValueError, match=f"{name} {said}"):
        Store(store)


def test_an_inventory_of_no_readable_image_says_so(tmp_path, monkeypatch):
    cfg = type("Cfg", (), {"folder": tmp_path / "outputs" / "a"})
    rows = pd.DataFrame({"image_id": ["a"], "cached": [""], "error": ["empty file"]})
    path = inventory_path(cfg)
    path.parent.mkdir(parents=True)
    rows.to_parquet(path)
    with pytest.raises(ValueError, match="none of its 1 images could be read, .* empty file"):
        read_inventory(cfg)
    rows.drop(columns="cached").to_parquet(path)
    with pytest.raises(ValueError, match="lacks the column cached: run the notebook 01_noise"):
        read_inventory(cfg)


def test_a_job_that_is_none_and_json_in_another_encoding_are_refused_with_the_file_named(tmp_path):
    (tmp_path / "job.json").write_text('{"name": "a"}')
    with pytest.raises(UnreadableFile, match="job.json cannot be read as a job"):
        read_job(tmp_path / "job.json")
    (tmp_path / "report.json").write_bytes('{"é": 1}'.encode("latin-1"))
    with pytest.raises(ValueError, match="report.json is not valid JSON"):
        files.read_json(tmp_path / "report.json")


def test_an_index_of_decoded_pictures_that_is_cut_counts_for_nothing(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "a.jpg").write_bytes(picture(size=(40, 40)))
    folder = decoded.decode_once(["a.jpg"], cache, 20)
    index = next(folder.glob("*.parquet"))
    index.write_bytes(index.read_bytes()[:-3])
    assert "a.jpg" not in decoded.Decoded(folder)
    assert "a.jpg" in decoded.Decoded(decoded.decode_once(["a.jpg"], cache, 20))


# Weights of other networks.


def other_weights(folder, kind):
    """A file of weights that does not fit test_efficientnet with the classes a and b."""
    import torch
    from safetensors.torch import save_file

    from fgvc_utils.training.backbones import create_network

    file = folder / "weights.safetensors"
    if kind == "cut":
        save_file({"a": torch.zeros(99)}, file)
        file.write_bytes(file.read_bytes()[:-50])
    elif kind == "another network":
        save_file(create_network("test_vit", "none", 2).state_dict(), file)
    elif kind == "another width":
        state = create_network("test_efficientnet", "none", 2).state_dict()
        save_file(state | {"conv_stem.weight": torch.zeros(1, 3, 3, 3)}, file)
    else:
        file = file.with_suffix(".pth")
        torch.save({"rubbish": [1], "nested": {"state_dict": {}}, "code": print}[kind], file)
    return file


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cut", "was not loaded: it is damaged"),
        ("another network", "tensors missing, .* they are of another network"),
        ("another width", r"conv_stem.weight is of shape \(1, 3, 3, 3\), not"),
        ("rubbish", "holds a list, not named tensors"),
        ("nested", "do not fit: [0-9]+ tensors missing"),
        ("code", "was not loaded: it is damaged, or would run code"),
    ],
)
def test_weights_of_another_network_are_refused_with_the_file_named(tmp_path, kind, said):
    from fgvc_utils.training.backbones import create_network

    file = other_weights(tmp_path, kind)
    with pytest.raises(ValueError, match=f"{file.name}.* {said}"):
        create_network("test_efficientnet", str(file), 2)


def test_a_model_of_other_classes_of_another_network_or_of_no_kit_is_refused(tmp_path):
    import torch
    from safetensors.torch import save_file

    from fgvc_utils.training.backbones import create_network
    from fgvc_utils.training.networks import PictureNetwork
    from fgvc_utils.training.starting import load_model

    file = tmp_path / "weights.safetensors"
    job = Job(name="j", folder="", rows="", classes=["a", "b"], fit="none", trained=str(file))
    job = job.model_copy(update={"backbone": "test_efficientnet"})
    network = PictureNetwork(create_network("test_efficientnet", "none", 2))
    for state, told, said in (
        ({"x": torch.zeros(1)}, None, "does not say which classes"),
        ({"x": torch.zeros(1)}, {"classes": "a\nc"}, "trained for 2 other classes"),
        ({"x": torch.zeros(1)}, {"classes": "a\nb"}, "it is of another network"),
    ):
        save_file(state, file, metadata=told)
        with pytest.raises(ValueError, match=f"weights.safetensors .*{said}"):
            load_model(network, file, job)
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(UnreadableFile, match="train the model again"):
        load_model(network, file, job)
    with pytest.raises(UnreadableFile, match="train that model again"):
        averaging.average_weights([file], tmp_path)


# A disk that is full.


def on_a_full_disk(folder, script, limit):
    """What a piece of Python says where no file may be longer than `limit` bytes."""
    head = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nfolder = Path(sys.argv[1])\n"
    )
    full = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    lines = script.split("---\n")
    code = head + lines[0] + full + lines[1]
    return subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=False
    )


def test_a_file_that_finds_no_room_is_named_and_leaves_nothing_behind(tmp_path):
    script = (
        "from fgvc_utils.core.files import whole_file\n---\n"
        "with whole_file(folder / 'a.bin') as temporary:\n    temporary.write_bytes(bytes(9000))\n"
    )
    done = on_a_full_disk(tmp_path, script, 4000)
    assert "NotEnoughSpace" in done.stderr.splitlines()[-1], done.stderr
    assert re.search("a.bin could not be written .* are free there: free some space", done.stderr)
    assert not list(tmp_path.iterdir())


def test_predictions_that_find_no_room_say_how_much_they_need_and_kill_no_process(tmp_path):
    script = (
        "import numpy as np\nfrom fgvc_utils.jobs.predictions import ShardWriter\n"
        "writer = ShardWriter(folder, 0, ['a'] * 5_000_000)\n---\n"
        "writer.write('logits', 0, np.zeros((9, 8), np.float16))\n"
    )
    done = on_a_full_disk(tmp_path, script, 4000)
    assert done.returncode == 1, "a signal would be negative"
    assert re.search("logits.npy.part of 0.08 GB could not be written", done.stderr), done.stderr
    assert not list(tmp_path.glob("*/logits*"))


# Contest files.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"run: a\n10_train:\n\tepochs: 3\n", "is not valid YAML: .* not with tabs"),
        ("run: é\n10_train:\n".encode("latin-1"), "is not UTF-8 text, first in line 1"),
        (b"[" * 5000, "is not valid YAML: .*recursion"),
        (b"? [a]\n: b\n10_train:\n", "line 1: a list or a mapping where a name must be"),
        (b"run: a\n10_train:\n  1: 2\n", "section 10_train is .1: 2., not names with values"),
        (b"run: 2024-99-99\n10_train:\n", "line 1: YAML reads 2024-99-99 as a date"),
        (b"run: a\n10_train:\n  size: " + b"9" * 5000, "is not valid YAML: Exceeds the limit"),
        (b"run: &a [*a]\n10_train:\n", "is not valid YAML: .*recursive"),
        (b"run: !!python/object/apply:os.system ['x']\n10_train:\n", "is not valid YAML"),
        (b"run: a\0\n", "is not valid YAML: unacceptable character"),
        (b"run: a\n10_train:\n  size: 64\n  size: 96\n", "line 4: 'size' appears twice"),
    ],
)
def test_a_contest_file_that_is_no_clean_yaml_is_refused_with_its_name(tmp_path, content, said):
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(ParameterError, match=f"(?s)mine.yaml.*{said}"):
        read_contest(tmp_path / "mine.yaml")


def test_a_bit_that_changed_in_a_table_is_found_where_it_still_looks_like_one(tmp_path, root):
    table = tables.new_table(list_images(root, "train", "test"))
    path = tmp_path / "01_noise.parquet"
    tables.write_table(table, path)
    whole = path.read_bytes()
    # Stored as it is, not packed: the first class name stands there in clear.
    at = whole.index(b"rose/1.jpg")
    path.write_bytes(whole[:at] + b"nose/1.jpg" + whole[at + 10 :])
    with pytest.raises(UnreadableFile, match="01_noise.parquet .* CRC checksum"):
        tables.read_table(path)


def test_a_parquet_file_whose_text_is_no_utf8_is_refused_with_its_name(root):
    path = root / "train.parquet"
    pd.DataFrame({"path": ["train/rose/1.jpg"], "label": ["rose"]}).to_parquet(path)
    path.write_bytes(path.read_bytes().replace(b"train/rose/1.jpg", b"train/\xffose/1.jpg"))
    with pytest.raises(UnreadableFile, match="train.parquet cannot be read .* UTF8"):
        list_images(root, "train.parquet", "")
