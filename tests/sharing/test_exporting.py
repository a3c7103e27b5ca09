"""Exports of cleaned labels: read back by the tools that they are for."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_run import CLASSES, TESTS, lines_below
from torchvision.datasets import ImageFolder

from fgvc_utils import export as command
from fgvc_utils.contest import tables
from fgvc_utils.contest.journal import Journal
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.sharing.exporting import FORMATS, export_run
from fgvc_utils.sharing.folders import class_folders
from fgvc_utils.sharing.labels import label_issues
from fgvc_utils.sharing.pictures import Options, distinct, name_of_picture
from fgvc_utils.sharing.runs import find_run
from fgvc_utils.sharing.written import LIST

LEFT_OUT = {"train/0/2/broken.jpg", "train/last.webp", "train/1/0/5.jpg", "train/1/3/5.jpg"}


@pytest.fixture(scope="module")
def out(made, tmp_path_factory):
    """All formats, exported once; fold 1 validates."""
    folder = tmp_path_factory.mktemp("exported")
    export_run(find_run(made.folder, data_root=made.data_root), to=folder, options=Options(fold=1))
    return folder


def test_labels_are_the_table(run, out):
    read = pd.read_csv(out / "csv" / "labels.csv", keep_default_na=False, dtype=str)
    read = read.set_index("image_id")
    assert read.index.tolist() == run.table["image_id"].tolist()
    assert read["path"].tolist() == run.table["path"].tolist()
    assert read.loc["train/0/0/0.jpg", ["given", "label", "by", "cause"]].tolist() == [
        "'=cat", "dog", "rule", "relabelled",
    ]  # fmt: skip
    numbers = read.loc[read["split"] == "train", "class_index"].astype(int)
    assert [CLASSES[n] for n in numbers] == run.table.loc[numbers.index, "label"].tolist()
    assert set(read.index[read["used_as"] == ""]) == LEFT_OUT
    assert set(read.loc["train/0/2/broken.jpg", ["status", "cause"]]) == {"drop", "unreadable"}
    assert read.loc["train/0/2/broken.jpg", "error"]


def test_formulas_stay_where_they_are_wanted(run, tmp_path):
    export_run(run, ["csv"], tmp_path, Options(formulas=True))
    read = pd.read_csv(tmp_path / "csv" / "labels.csv", keep_default_na=False)
    assert read["given"].tolist() == run.table["given"].tolist()


def test_torchvision_reads_the_folders(run, out):
    kept = run.table[tables.kept(run.table)]
    listed = pd.read_csv(out / "imagefolder" / "classes.csv", keep_default_na=False)
    named = dict(zip(listed["folder"], listed["class"], strict=True))
    assert listed["class"].tolist() == CLASSES
    seen = []
    for split in ("train", "validation"):
        folder = ImageFolder(out / "imagefolder" / split)
        for row in range(len(folder)):
            picture, number = folder[row]
            assert picture.mode == "RGB" and picture.size == (64, 54)
            real = Path(os.path.realpath(folder.samples[row][0])).relative_to(run.root)
            seen.append((str(real), named[folder.classes[number]], split))
    seen = pd.DataFrame(seen, columns=["path", "label", "split"]).set_index("path")
    assert sorted(seen.index) == sorted(kept["path"])
    assert seen["label"].loc[kept["path"]].tolist() == kept["label"].tolist()
    assert set(seen.index[seen["split"] == "validation"]) == set(kept["path"][kept["fold"] == 1])
    assert len(ImageFolder(out / "imagefolder" / "test")) == TESTS
    assert listed.set_index("class").loc["empty", ["train", "validation"]].tolist() == [0, 0]


def test_datasets_reads_the_pictures(run, out, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    read = datasets.load_dataset(str(out / "huggingface"), cache_dir=str(tmp_path))
    assert set(read) == {"train", "validation", "test"}
    assert read["train"].features["label"].names == CLASSES
    rows = pd.concat([read[split].remove_columns("image").to_pandas() for split in read])
    rows = rows.set_index("image_id")
    kept = run.table[tables.kept(run.table)]
    assert set(rows.index) == {*kept.index, *run.table.index[run.table["split"] == "test"]}
    labels = rows["label"].loc[kept.index]
    assert [CLASSES[number] for number in labels] == kept["label"].tolist()
    assert set(read["test"]["label"]) == {-1} and len(read["test"]) == TESTS
    first = read["train"][0]
    assert first["image"].size == (64, 54)
    pictures = read["train"].cast_column("image", datasets.Image(decode=False))
    content = (run.root / first["path"]).read_bytes()
    assert pictures[0]["image"]["bytes"] == content


def test_large_sets_are_cut_into_files_and_groups(run, tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    from fgvc_utils.sharing import parquet

    monkeypatch.setattr(parquet, "SHARD", 20_000)
    monkeypatch.setattr(parquet, "ROW_GROUP", 5_000)
    export_run(run, ["huggingface"], tmp_path)
    files = sorted((tmp_path / "huggingface" / "data").glob("train-*.parquet"))
    assert len(files) > 2 and files[-1].name.endswith(f"-of-{len(files):05d}.parquet")
    parts = [pq.ParquetFile(file) for file in files]
    assert max(part.num_row_groups for part in parts) > 1
    assert sum(part.metadata.num_rows for part in parts) == tables.kept(run.table).sum()


@pytest.mark.parametrize("pictures", ["raw", "prepared"])
def test_fiftyone_s_form(run, tmp_path, pictures):
    export_run(run, ["fiftyone"], tmp_path, Options(pictures=pictures))
    folder = tmp_path / "fiftyone"
    content = json.loads((folder / "labels.json").read_text())
    assert content["classes"] == CLASSES
    found = content["labels"]
    places = [key if os.path.isabs(key) else folder / "data" / f"{key}.jpg" for key in found]
    assert all(os.path.isfile(place) for place in places)
    assert len(found) == len(run.table) - 1
    known = {label["attributes"]["image_id"]: label for label in found.values() if label}
    assert known["train/0/0/0.jpg"]["label"] == "dog"
    assert known["train/0/0/0.jpg"]["confidence"] == pytest.approx(0.9)
    assert known["train/1/3/5.jpg"]["attributes"]["tags"] == ["drop"]
    assert sum(label is None for label in found.values()) == TESTS


def test_fiftyone_reads_it(run, out):
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    importer = importers.FiftyOneImageClassificationDatasetImporter(str(out / "fiftyone"))
    with importer:
        read = {path: label and label.label for path, _, label in importer}
    table = run.table[run.table["path"] != "train/0/2/broken.jpg"]
    labels = table["label"].where(table["split"] == "train", None)
    assert read == {f"{run.root}/{path}": label for path, label in zip(table["path"], labels)}  # noqa: B905


def test_issues_have_the_columns_of_datalab(run, out):
    read = pd.read_csv(out / "issues" / "issues.csv").set_index("image_id")
    kinds = ("label", "outlier", "near_duplicate")
    for kind in kinds:
        assert read[f"is_{kind}_issue"].dtype == bool
        assert read[f"{kind}_score"].dropna().between(0, 1).all()
    assert {"given_label", "predicted_label", "near_duplicate_sets"} <= set(read)
    assert (run.table.loc[read.index, "split"] == "train").all()
    flagged = set(read.index[read["is_label_issue"]])
    assert flagged == {"train/0/0/0.jpg", "train/last.webp", "train/1/3/5.jpg"}
    # Nine tenths speak for another class than the given one.
    assert read.loc["train/0/0/0.jpg", "label_score"] == pytest.approx(0.1)
    assert read.loc["train/0/0/2.jpg", "label_score"] == pytest.approx(0.9)
    assert read.index[read["is_outlier_issue"]].tolist() == ["train/1/0/5.jpg"]
    assert np.isnan(read.loc["train/1/0/5.jpg", "label_score"])
    one, two = "train/0/0/2.jpg", "train/1/0/1.jpg"
    assert set(read.index[read["is_near_duplicate_issue"]]) == {one, two}
    place = read.index.get_loc(two)
    assert json.loads(read.loc[one, "near_duplicate_sets"]) == [place]
    assert label_issues(run).loc[two, "near_duplicate_sets"] == [read.index.get_loc(one)]


def test_cleanlab_s_own_names(run):
    pytest.importorskip("cleanlab")
    from cleanlab.datalab.internal.issue_manager_factory import REGISTRY
    from cleanlab.datalab.internal.task import Task

    known = {
        f"{name}_score" for name in ("label", "outlier", "near_duplicate")
        if name in REGISTRY[Task.CLASSIFICATION]
    }  # fmt: skip
    assert known == {name for name in label_issues(run) if name.endswith("_score")}


def test_decisions_go_along(made, tmp_path):
    shutil.copytree(made.folder / "tables", tmp_path / "outputs" / "small" / "tables")
    run = find_run(tmp_path / "outputs" / "small")
    journal = Journal(run.cfg.journal("03_fine"))
    journal.append("train/0/0/0.jpg", "relabel", "=cat", reviewer="ann")
    journal.append("train/0/0/0.jpg", "keep", reviewer="ann")
    export_run(run, ["decisions"], tmp_path / "out")
    folder = tmp_path / "out" / "decisions"
    every, counting = (
        pd.read_csv(folder / f"{name}.csv", keep_default_na=False)
        for name in ("decisions", "decisions_in_force")
    )
    assert every["decision"].tolist() == ["relabel", "keep"]
    assert every["label"].tolist() == ["'=cat", ""] and set(every["stage"]) == {"03_fine"}
    assert counting[["item", "decision"]].to_numpy().tolist() == [["train/0/0/0.jpg", "keep"]]


def test_later_decisions_are_said(made, tmp_path, capsys):
    folder = tmp_path / "outputs" / "small"
    shutil.copytree(made.folder / "tables", folder / "tables")
    run = find_run(folder)
    os.utime(run.cfg.table_path("04_lowq"), (1, 1))
    Journal(run.cfg.journal("03_fine")).append("train/0/0/0.jpg", "keep", reviewer="ann")
    export_run(run, ["decisions"], tmp_path / "out")
    assert "decided since in 03_fine" in capsys.readouterr().out


def test_an_export_replaces_its_own_and_nothing_else(run, tmp_path):
    export_run(run, ["imagefolder"], tmp_path)
    folder = tmp_path / "imagefolder"
    before = lines_below(folder)
    raw = lines_below(run.root)
    export_run(run, ["imagefolder"], tmp_path, Options(pictures="prepared", copy=True))
    assert lines_below(folder) != before and not any(p.is_symlink() for p in folder.rglob("*"))
    mine = folder / "train" / "dog" / "mine.jpg"
    mine.write_text("a person's")
    now = lines_below(folder)
    with pytest.raises(FileExistsError, match="train/dog/mine.jpg"):
        export_run(run, ["csv", "imagefolder"], tmp_path)
    assert lines_below(folder) == now and mine.read_text() == "a person's"
    assert not (tmp_path / "csv").exists()
    mine.unlink()
    export_run(run, ["imagefolder"], tmp_path)
    assert lines_below(folder) == before and lines_below(run.root) == raw
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.json", "imagefolder"]


def test_a_folder_of_somebody_else_s_is_left_alone(run, tmp_path):
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "labels.csv").write_text("mine")
    with pytest.raises(FileExistsError, match="labels.csv.*--to"):
        export_run(run, ["csv"], tmp_path)
    assert (tmp_path / "csv" / "labels.csv").read_text() == "mine"


def test_an_export_that_fails_leaves_the_earlier_one(run, tmp_path, monkeypatch):
    export_run(run, ["csv"], tmp_path)
    before = (tmp_path / "csv" / LIST).read_text()

    def fails(run, options, folder):
        (folder / "half.csv").write_text("half")
        raise OSError("the disk is full")

    monkeypatch.setitem(FORMATS, "csv", FORMATS["csv"]._replace(write=fails))
    with pytest.raises(OSError, match="full"):
        export_run(run, ["csv"], tmp_path)
    assert (tmp_path / "csv" / LIST).read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["csv", "export.json"]


def test_raw_images_that_are_gone_are_named(made, tmp_path):
    moved = find_run(made.folder, data_root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="--data-root.*--pictures prepared"):
        export_run(moved, ["imagefolder"], tmp_path / "out")
    export_run(moved, ["imagefolder"], tmp_path / "out", Options(pictures="prepared"))
    folder = ImageFolder(tmp_path / "out" / "imagefolder" / "train")
    assert {min(folder[row][0].size) for row in range(len(folder))} == {40}


def test_names_that_folders_cannot_have():
    names = ["a/b", "..", ".hidden", "CON", "con", " x", "x", "y" * 300, "a-b", "Größe", "@eaDir"]
    folders = class_folders(names)
    assert len({folder.lower() for folder in folders.values()}) == len(names)
    assert all("/" not in each and len(each.encode()) < 256 for each in folders.values())
    assert folders["x"] == "x" and folders["Größe"] == "Größe" and folders["a-b"] == "a-b"
    assert not any(each.startswith((".", "@", " ")) for each in folders.values())


def test_names_of_files_say_that_they_are_images():
    for path, prepared, name in (
        ("a/b.JPG", False, "b.JPG"),
        ("a/moving.gif", False, "moving.gif.jpg"),
        ("a/none", False, "none.jpg"),
        ("a/p.png", True, "p.png.jpg"),
        ("a/.x.jpg", False, "_.x.jpg"),
    ):
        assert name_of_picture(path, prepared=prepared) == name
    assert len(name_of_picture("n" * 254, prepared=False).encode()) <= 255
    assert len(set(distinct(["a.jpg", "A.jpg", "b.jpg"], ["1/a.jpg", "2/A.jpg", "b.jpg"]))) == 3
    assert distinct(["b.jpg"], ["x/b.jpg"]) == ["b.jpg"]


def test_what_is_asked_wrongly_is_named(run, made, tmp_path, capsys):
    with pytest.raises(ParameterError, match="'coco'; there are csv"):
        export_run(run, ["coco"], tmp_path)
    with pytest.raises(ValueError, match="fold 7"):
        export_run(run, ["imagefolder"], tmp_path, Options(fold=7))
    for asked, said in (
        ([str(tmp_path / "x.yaml")], "x.yaml is not there"),
        ([str(made.folder), "--table", "03_fine"], "03_fine.parquet is not there"),
        ([str(made.folder), "--table", "05"], "label tables are"),
        ([str(made.folder), "csv", "--model", "one"], "--model is for the format onnx"),
        ([str(made.folder), "onnx", "--to", str(tmp_path)], "one of one, probe"),
    ):
        assert command.main(asked) == 2
        assert said in capsys.readouterr().err


def test_a_contest_file_names_its_run(made, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"run: small\noutputs: {made.folder.parent}\ndata_root: {made.data_root}\n01_noise:\n"
    )
    assert command.main([str(file), "csv", "issues", "--to", str(tmp_path / "out")]) == 0
    assert {"csv", "issues", "export.json"} == {p.name for p in (tmp_path / "out").iterdir()}
    assert "labels.csv" in capsys.readouterr().out


def test_a_run_s_name_in_outputs_names_it(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(made.folder.parent.parent)
    assert made.folder.parent.name == "outputs"
    asked = ["small", "csv", "--data-root", made.data_root, "--to", str(tmp_path / "out")]
    assert command.main(asked) == 0
    assert "labels.csv" in capsys.readouterr().out


def test_the_help_names_every_format():
    text = command.parser().format_help()
    assert [name for name in FORMATS if f"\n  {name} " not in text] == []
