"""The table of models: how they do, how they differ, what they cost. Model folders made up here."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from small_jobs import small_job

from fgvc_utils.core.files import write_json
from fgvc_utils.jobs.rows import write_rows
from fgvc_utils.training.models import model_table, top1_line, trained_on


def make_model(folder, name, figures, seconds, log=None, **job):
    """A model's folder as a fit leaves it, without weights and predictions."""
    made = small_job(folder / "models" / name, **job)
    write_json(made.model_dump(mode="json"), made.job_file)
    done = {"digest": "", "seconds": seconds, "figures": figures}
    write_json(done, folder / "models" / name / "done.json")
    pd.DataFrame({"epoch": [1, 2]} | (log or {})).to_csv(
        folder / "models" / name / "log.csv", index=False
    )
    return made


@pytest.fixture
def run(tmp_path):
    """A run with two models of one recipe but for rate and flips, and a student of one of them."""
    fast = {"images_per_second": [100, 200], "waiting": [0.3, 0.1]}
    flips = {"flip_probability": 0.5, "colour_jitter": 0.2}
    told = {"train_loss": 1.0, "top1": 0.7, "n": 10.0}
    one = make_model(tmp_path, "one", told, 60.0, fast, augmentation=flips)
    told = {"train_loss": 1.0, "top1": 0.8, "n": 10.0}
    changed = {"base_lr": 0.02, "augmentation": flips | {"flip_probability": 0.0}, "keep": []}
    make_model(tmp_path, "two-b", told, 90.0, **changed)
    teachers = [f"{one.folder}/predictions"]
    student = {"teachers": teachers, "teacher_weight": 0.5, "augmentation": flips}
    make_model(tmp_path, "student", {"train_loss": 1.0}, 30.0, **student)
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"01_noise": {}, "10_train-two-b": {"table": "03_fine"}}))
    return SimpleNamespace(folder=tmp_path, report=report)


def test_the_best_model_comes_first_with_its_interval(run):
    table = model_table(run)
    assert table["model"].tolist() == ["two-b", "one", "student"]
    assert table["top1"].tolist()[:2] == [0.8, 0.7] and table["n"].tolist()[:2] == [10, 10]
    # Wilson's interval of 8 in 10.
    assert table.loc[0, "low"] == pytest.approx(0.4902, abs=5e-4)
    assert table.loc[0, "high"] == pytest.approx(0.9433, abs=5e-4)
    # The student was judged on nothing.
    assert table.loc[2, ["top1", "low", "high", "n"]].isna().all()


def test_only_the_parameters_that_differ_have_columns(run, capsys):
    table = model_table(run).set_index("model")
    differ = {"base_lr", "flip_probability", "teacher_weight"}
    always = {"top1", "low", "high", "n", "backbone", "size", "table", "learns from"}
    always |= {"balance", "mix", "epochs", "seconds", "images_per_second", "waiting"}
    assert set(table.columns) == always | differ
    assert table["base_lr"].to_dict() == {"two-b": 0.02, "one": 0.01, "student": 0.01}
    assert table["flip_probability"].to_dict() == {"two-b": 0, "one": 0.5, "student": 0.5}
    said = capsys.readouterr().out
    assert "parameters are the same for all" in said and said.count("\n") == 2
    assert "no probe to measure one, two-b by" in said


def test_speed_teachers_and_label_tables_are_told(run):
    table = model_table(run).set_index("model")
    assert table.loc["one", ["images_per_second", "waiting"]].tolist() == [150, 0.2]
    assert math.isnan(table.loc["two-b", "waiting"])
    assert table["seconds"].to_dict() == {"two-b": 90, "one": 60, "student": 30}
    assert table["learns from"].to_dict() == {
        "two-b": "labels",
        "one": "labels",
        "student": "labels + one",
    }
    assert table.loc["two-b", "table"] == "03_fine"


def test_one_model_without_a_report_shows_no_parameter_twice(tmp_path):
    make_model(tmp_path, "alone", {"train_loss": 1.0}, 1.0)
    table = model_table(SimpleNamespace(folder=tmp_path, report=tmp_path / "report.json"))
    assert len(table) == 1 and "table" not in table
    assert table[["top1", "low", "high", "n"]].isna().all(axis=None)
    assert "base_lr" not in table and table.columns.is_unique


def test_top1_is_told_with_its_number_and_interval():
    right = pd.Series([True] * 8 + [False] * 2)
    assert top1_line(right) == "top-1 80.0% of 10, 95 % interval 49.0% to 94.3%"


def test_images_that_any_model_was_trained_on(tmp_path):
    rows = pd.DataFrame({"image_id": list("abc"), "file": "", "target": "", "label": ""})
    rows = rows.assign(validate=False, predict=True)
    folders = []
    for name, fitted in (("one", "a"), ("two", "c")):
        made = make_model(tmp_path, name, {}, 1.0)
        write_rows(rows.assign(fit=rows["image_id"] == fitted), Path(made.rows))
        folders.append(Path(made.folder))
    assert trained_on(folders, ["c", "b", "a"]).to_dict() == {"c": True, "b": False, "a": True}
    assert trained_on(folders, []).empty and not trained_on([], ["a"]).any()
