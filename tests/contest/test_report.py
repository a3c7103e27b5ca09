"""The report of a run, and how a notebook ends."""

import json

import pandas as pd
import pytest

from fgvc_utils.answers.params import SubmitParams
from fgvc_utils.cleaning.params import LowQualityParams
from fgvc_utils.contest import tables
from fgvc_utils.contest.contest_file import notebook_defaults
from fgvc_utils.contest.report import finish, summary, update_report
from fgvc_utils.training.params import TrainParams


def parameters(record, stage, folder):
    return record(**(notebook_defaults(stage) | {"outputs": str(folder), "run": "mine"}))


@pytest.fixture
def table():
    """Three train images under two classes, one left out with its class, and a test image."""
    images = pd.DataFrame(
        {
            "image_id": ["a", "b", "c", "t"],
            "path": ["train/x/a.jpg", "train/x/b.jpg", "train/y/c.jpg", "test/t.jpg"],
            "split": ["train", "train", "train", "test"],
            "given": ["x", "x", "y", ""],
        }
    ).astype(object)
    made = tables.new_table(images)
    return tables.leave_out(made, made["given"] == "y", "04_lowq", "small_class")


def test_a_report_keeps_its_other_sections(tmp_path):
    path = tmp_path / "report.json"
    update_report(path, "10_train", {"top1": 0.5})
    update_report(path, "01_noise", {"noise": 3})
    update_report(path, "10_train", {"top1": 0.6})
    assert json.loads(path.read_text()) == {"01_noise": {"noise": 3}, "10_train": {"top1": 0.6}}
    assert summary(path).splitlines() == ["  01_noise: noise 3", "  10_train: top1 0.600"]
    path.write_text("{")
    with pytest.raises(ValueError, match="report.json is not valid JSON"):
        update_report(path, "10_train", {})


def test_a_cleaning_notebook_ends_with_its_table_its_figures_and_a_line(tmp_path, table, capsys):
    cfg = parameters(LowQualityParams, "04_lowq", tmp_path)
    counted = finish(cfg, "04_lowq", {"judged_classes": 2}, table)
    written = tables.read_table(cfg.table_path("04_lowq"))
    pd.testing.assert_frame_equal(written, table, check_dtype=False)
    (section,) = json.loads(cfg.report.read_text()).items()
    figures = {"judged_classes": 2, "kept": 2, "emptied_classes": ["y"]}
    assert section == ("04_lowq", figures)
    assert counted["images"].sum() == 3
    said = capsys.readouterr().out
    assert said == (
        "tables/04_lowq.parquet: 2 of 3 train images kept; classes without any image: y\n"
    )


def test_a_table_that_breaks_its_promises_is_not_written(tmp_path, table):
    cfg = parameters(LowQualityParams, "04_lowq", tmp_path)
    with pytest.raises(ValueError, match="column status"):
        finish(cfg, "04_lowq", {}, table.assign(status="gone"))
    assert not cfg.table_path("04_lowq").exists() and not cfg.report.exists()


def test_figures_of_a_model_stand_under_its_name(tmp_path):
    cfg = parameters(TrainParams, "10_train", tmp_path)
    assert finish(cfg, "10_train", {"top1": 0.5}) is None
    finish(parameters(SubmitParams, "40_submit", tmp_path), "40_submit", {"images": 4})
    assert list(json.loads(cfg.report.read_text())) == ["10_train-lite0", "40_submit"]
