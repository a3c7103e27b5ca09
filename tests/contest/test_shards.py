"""Files that hold many pictures are refused with the command that takes them apart, and it does."""

import io
import json
import shlex
import tarfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fgvc_utils.contest import convert, shards
from fgvc_utils.contest.listing import list_all


def picture(number, kind="JPEG"):
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 9, 3), number, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def archive(place, samples):
    place.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(place, "w") as written:
        for name, data in samples:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            written.addfile(member, io.BytesIO(data))


def of_hub(place, labels, names=("rose", "tulip"), image=None):
    """A Parquet file as `datasets` pushes it to the hub."""
    noted = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
    table = pa.table(
        {
            "image": image
            or [{"bytes": picture(n), "path": f"{n}.jpg"} for n, _ in enumerate(labels)],
            "label": labels,
            "place": ["Bern"] * len(labels),
        }
    )
    place.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({b"huggingface": json.dumps(noted)}), place)


@pytest.fixture
def webdataset(tmp_path):
    for shard in range(2):
        samples = [
            part
            for n in range(2)
            for part in (
                (f"{n:04d}.jpg", picture(10 * shard + n)),
                (f"{n:04d}.cls", str(n).encode()),
                (f"{n:04d}.json", b'{"who": "ann", "n": 3, "deep": {}}'),
            )
        ]
        archive(tmp_path / f"shards/train-{shard:03d}.tar", samples)
    return tmp_path


@pytest.mark.parametrize("source", ["shards", "shards/train-{000..001}.tar", "shards/*.tar"])
def test_webdataset_is_refused_with_a_command_that_works(webdataset, source):
    with pytest.raises(ValueError, match="holds 2 files of kind WebDataset") as refused:
        list_all(webdataset, source, "")
    command = shlex.split(str(refused.value).split("`")[1])
    assert command[:3] == ["python", "-m", "fgvc_utils.contest.convert"]
    assert "then set train: train.csv" in str(refused.value)
    assert convert.main(command[3:]) == 0
    images = list_all(webdataset, "train.csv", "").images
    assert images["given"].tolist() == ["0", "1", "0", "1"]
    # Shards number their samples anew, so each has a folder.
    assert images["path"].tolist()[::3] == [
        "train_images/train-000/0000.jpg",
        "train_images/train-001/0001.jpg",
    ]
    assert (webdataset / images["path"].iloc[3]).read_bytes() == picture(11)
    said = pd.read_csv(webdataset / "train.csv", dtype=str)
    assert said[["key", "who", "n"]].iloc[0].tolist() == ["0000", "ann", "3"]


def test_parquet_of_the_hub_is_refused_with_a_command_that_works(tmp_path):
    of_hub(tmp_path / "data/train-00000-of-00001.parquet", [0, 1, 1])
    of_hub(tmp_path / "data/test-00000-of-00001.parquet", [-1, -1])
    (tmp_path / "own.csv").write_text("path,label\na.jpg,x\n")
    for side in ("data", "data/train-00000-of-00001.parquet"):
        with pytest.raises(ValueError, match="of kind Parquet with the pictures inside") as refused:
            list_all(tmp_path, side, "")
    with pytest.raises(ValueError, match="then set test: test.csv"):
        list_all(tmp_path, "own.csv", "data")
    assert convert.main([str(tmp_path / "data"), str(tmp_path)]) == 0
    images = list_all(tmp_path, "train.csv", "test.csv").images
    assert images["given"].tolist() == ["rose", "tulip", "tulip", "", ""]
    assert (tmp_path / "train_images/2.jpg").read_bytes() == picture(2)
    said = pd.read_csv(tmp_path / "train.csv", dtype=str)
    assert said[["place", "label_index"]].iloc[1].tolist() == ["Bern", "1"]
    assert str(tmp_path) in str(refused.value)


def test_converting_again_changes_nothing_and_never_writes_over_another_picture(tmp_path, capsys):
    of_hub(tmp_path / "train.parquet", [0, 1])
    given = [str(tmp_path / "train.parquet"), str(tmp_path / "out")]
    assert convert.main(given) == 0
    before = (tmp_path / "out/train.csv").read_bytes()
    stamp = (tmp_path / "out/train_images/0.jpg").stat().st_mtime_ns
    assert convert.main(given) == 0
    assert (tmp_path / "out/train.csv").read_bytes() == before
    assert (tmp_path / "out/train_images/0.jpg").stat().st_mtime_ns == stamp
    (tmp_path / "out/train_images/1.jpg").write_bytes(b"mine")
    assert convert.main(given) == 2
    assert "1.jpg is another picture" in capsys.readouterr().err
    assert (tmp_path / "out/train_images/1.jpg").read_bytes() == b"mine"


def test_what_cannot_be_taken_out_is_listed_with_its_reason(tmp_path):
    image = [{"bytes": picture(0), "path": "a/x.jpg"}, {"bytes": None, "path": "y.jpg"}]
    image += [{"bytes": picture(2), "path": "b/x.jpg"}, {"bytes": picture(3, "PNG"), "path": None}]
    of_hub(tmp_path / "train.parquet", [0, 1, 1, None], image=image)
    convert.convert([str(tmp_path / "train.parquet")], tmp_path)
    # Two files of one name, and one without, which has an ending by its content.
    assert sorted(p.name for p in (tmp_path / "train_images").iterdir()) == ["x-2.jpg", "x.jpg"]
    left = pd.read_csv(tmp_path / "train_left_out.csv", dtype=str)
    assert left["reason"].tolist() == ["no picture inside", "no label"]
    assert left["image"].iloc[1].endswith("train.parquet: 0000003.png")


def test_arrow_as_datasets_saves_it(tmp_path):
    table = pa.table({"img": [picture(n) for n in range(70)], "cls": ["x", "y"] * 35})
    with pa.OSFile(str(tmp_path / "data.arrow"), "wb") as file:
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    found = convert.convert([str(tmp_path / "data.arrow")], tmp_path / "out", "valid")
    assert list(found) == ["valid"] and found["valid"]["label"].tolist() == ["x", "y"] * 35
    assert (tmp_path / "out/valid_images/0000069.jpg").read_bytes() == picture(69)


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out"])
def test_a_sample_cannot_leave_the_folder(tmp_path, name, capsys):
    archive(tmp_path / "in/train.tar", [(f"{name}.jpg", picture(0)), (f"{name}.cls", b"1")])
    assert convert.main([str(tmp_path / "in/train.tar"), str(tmp_path / "to")]) == 2
    assert "leads out of the folder" in capsys.readouterr().err
    assert not list(tmp_path.rglob("out.jpg"))


def test_a_label_column_that_nobody_can_guess_is_asked_for(tmp_path, capsys):
    table = pa.table({"image": [picture(0)], "what": ["x"], "who": ["ann"]})
    pq.write_table(table, tmp_path / "train.parquet")
    given = [str(tmp_path / "train.parquet"), str(tmp_path / "out")]
    assert convert.main(given) == 2
    assert "It has what, who: name it by --label" in capsys.readouterr().err
    assert convert.main([*given, "--label", "what"]) == 0
    assert convert.main([*given, "--label", "what", "--image", "who"]) == 2


def test_a_plain_archive_is_no_shard(tmp_path):
    archive(tmp_path / "train.tar", [("train/rose/1.jpg", picture(0))])
    assert not shards.holds_pictures(tmp_path / "train.tar")
    with pytest.raises(ValueError, match="is an archive; unpack it, such as by `tar -xf"):
        list_all(tmp_path, "train.tar", "")
    (tmp_path / "train.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="python -m zipfile -e .*train.zip"):
        list_all(tmp_path, "train.zip", "")


@pytest.mark.parametrize("name", ["x.tar", "x.parquet", "x.arrow"])
def test_a_spoilt_shard_is_no_crash(tmp_path, name, capsys):
    (tmp_path / name).write_bytes(b"nothing")
    assert not shards.holds_pictures(tmp_path / name)
    assert convert.main([str(tmp_path / name), str(tmp_path)]) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("test.tar", "test"),
        ("validation_3.arrow", "validation"),
        ("valid/0001.tar", "valid"),
        ("training_set.tar", "training"),
        ("trainee.tar", "mine"),
        ("shard-0.tar", "mine"),
        ("test_photos/shard-0.tar", "mine"),
    ],
)
def test_the_split_is_in_the_name_of_file_or_folder(tmp_path, place, split):
    assert shards.split_of(tmp_path / "x" / place, "mine") == split


def test_what_the_library_datasets_writes_is_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["rose", "tulip"])}
    )
    rows = {
        "image": [{"bytes": picture(n, "PNG"), "path": None} for n in range(3)],
        "label": [0, 1, 1],
    }
    made = datasets.Dataset.from_dict(rows, features=features)
    made.to_parquet(tmp_path / "data/train-00000-of-00001.parquet")
    made.save_to_disk(tmp_path / "saved/train")
    for source in ("data", "saved"):
        with pytest.raises(ValueError, match="with the pictures inside; take them out"):
            list_all(tmp_path, source, "")
        found = convert.convert([str(tmp_path / source)], tmp_path / "out" / source)
        assert found["train"]["label"].tolist() == ["rose", "tulip", "tulip"]
        images = list_all(tmp_path / "out" / source, "train.csv", "").images
        place = tmp_path / "out" / source / images["path"].iloc[2]
        assert place.suffix == ".png" and place.read_bytes() == picture(2, "PNG")
