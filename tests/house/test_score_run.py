"""The score of a run, on tiny runs whose figures can be counted by hand."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from fgvc_utils.answers.forms import Layout, as_data
from fgvc_utils.answers.submission import checked_lines, keep_submission
from fgvc_utils.contest.tables import classes_of, leave_out, new_table, read_table, write_table

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "score_run.py"
spec = importlib.util.spec_from_file_location("score_run", SCRIPT)
score_run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(score_run)

# path, given, kind, true: what the run below does to it stands behind
TRAIN = [
    ("train/00/a.jpg", "00", "ok", "00"),
    ("train/00/b.jpg", "00", "ok", "00"),  # left out by 02, wrongly
    ("train/00/c.jpg", "00", "noise", ""),  # left out by 01
    ("train/00/d.jpg", "00", "noise", ""),  # stays
    ("train/01/e.jpg", "01", "ok", "01"),
    ("train/01/f.jpg", "01", "ok", "01"),
    ("train/01/g.jpg", "01", "fine", "00"),  # relabelled by 03, rightly
    ("train/01/h.jpg", "01", "coarse", "00"),  # left out by 02
    ("train/NA/i.jpg", "NA", "corrupt", "NA"),  # left out by 01
]
TEST = [(f"test/{k}.jpg", label) for k, label in enumerate(["00", "00", "01", "NA"])]
SUBMITTED = ["00", "01", "01", "NA"]  # three of four are right


def make_run(folder: Path, call=lambda path: path, changes: bool = True) -> tuple[Path, Path]:
    truth, run = folder / "truth", folder / "run"
    truth.mkdir()
    run.mkdir()
    train = pd.DataFrame(TRAIN, columns=["path", "given", "kind", "true"])
    train.assign(stored_as="RGB").to_csv(truth / "train.csv", index=False)
    pd.DataFrame(TEST, columns=["path", "class"]).to_csv(truth / "test.csv", index=False)
    images = pd.DataFrame(
        [(path, path, "train", given) for path, given, _, _ in TRAIN]
        + [(path, path, "test", "") for path, _ in TEST],
        columns=["image_id", "path", "split", "given"],
    ).astype(object)
    # Rows in another order than the truth: they are matched by path, not by place.
    table = new_table(images).iloc[::-1].reset_index(drop=True)
    if changes:
        for stage, cause, names in (("01_noise", "noise", "ci"), ("02_coarse", "label", "bh")):
            hit = table["path"].map(lambda p, names=names: Path(p).stem in names)
            table = leave_out(table, hit, stage, cause)
        g = table["path"] == "train/01/g.jpg"
        columns = ["label", "stage", "by", "cause"]
        table.loc[g, columns] = ["00", "03_fine", "human", "relabelled"]
    write_table(table, run / "tables" / "04_lowq.parquet")
    answers = [(call(path), label) for (path, _), label in zip(TEST, SUBMITTED, strict=True)]
    answers = pd.DataFrame(answers[::-1], columns=["file", "label"])
    answers.to_csv(run / "submission.csv", index=False)
    return run, truth


def test_figures(tmp_path):
    figures, text = score_run.score_run(*make_run(tmp_path))
    assert figures["top1"] == 0.75 and figures["n_test"] == 4
    # Wilson's interval of 3 in 4, by his formula with z = 1.959964
    assert figures["top1_interval"] == [0.3006, 0.9544]
    # Flagged: b c g h i; not ok: c d g h i.
    assert figures["precision"] == figures["recall"] == figures["f1"] == 0.8
    assert figures["dropped"] == {"ok": 0.25, "noise": 0.5, "fine": 0, "coarse": 1, "corrupt": 1}
    # Kept: a d e f g, of which d shows nothing.
    assert figures["kept"] == {"n": 5, "right": 0.8}
    lines = [line.split() for line in text.splitlines()]
    assert ["01_noise", "2", "1.000", "0", "-"] in lines
    assert ["02_coarse", "2", "0.500", "0", "-"] in lines
    assert ["03_fine", "0", "-", "1", "1.000"] in lines
    assert ["noise", "2", "0.500", "0.000"] in lines


def test_nothing_flagged(tmp_path):
    figures, text = score_run.score_run(*make_run(tmp_path, changes=False))
    assert (figures["precision"], figures["recall"], figures["f1"]) == (None, 0, 0)
    assert figures["kept"] == {"n": 9, "right": round(5 / 9, 4)}
    assert "No image was flagged." in text


@pytest.mark.parametrize("call", [lambda p: Path(p).name, lambda p: Path(p).stem])
def test_images_by_name_or_stem(tmp_path, call):
    figures, _ = score_run.score_run(*make_run(tmp_path, call))
    assert figures["top1"] == 0.75


def test_command_line(tmp_path):
    run, truth = make_run(tmp_path)
    (run / "report.json").write_text('{"10_train": {"epochs": 3}}')
    command = [sys.executable, SCRIPT, run, truth, "--report"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    last = json.loads(done.stdout.splitlines()[-1])
    wanted = {"top1", "precision", "recall", "f1", "dropped", "n_test", "top1_interval", "kept"}
    assert set(last) == wanted | {"submission"} and last["submission"] == "submission.csv"
    report = json.loads((run / "report.json").read_text())
    assert report == {"10_train": {"epochs": 3}, "score": last}


def test_a_packed_file_of_probabilities_is_scored_by_the_form_that_the_report_tells(tmp_path):
    run, truth = make_run(tmp_path)
    classes = {name: name for name in classes_of(read_table(run / score_run.TABLE))}
    wide = {"image": "id", "answer": tuple(classes), "column_classes": tuple(classes)}
    layout = Layout("probabilities", classes=classes, header=False, packing="zip", **wide)
    names = pd.Series([Path(path).stem for path, _ in TEST])
    scores = pd.get_dummies(pd.Series(SUBMITTED)).astype(float)
    lines = checked_lines(layout, names, pd.Series(SUBMITTED), scores)
    path, _ = keep_submission(run, lines, {}, "zip")
    told = {"file": path.name, "form": as_data(layout)}
    told["class_names"] = {"class_names": "text", "class_digits": 0, "first_class": 0}
    (run / "report.json").write_text(json.dumps({"40_submit": told}))
    figures, _ = score_run.score_run(run, truth)
    assert figures["top1"] == 0.75 and figures["submission"] == "submission-002.zip"


def test_the_submission_in_force_is_scored_unless_another_one_is_named(tmp_path, capsys):
    run, truth = make_run(tmp_path)
    worse = (run / "submission.csv").read_text().replace("0.jpg,00", "0.jpg,NA")
    keep_submission(run, worse, {"rule": "cap"})
    figures, text = score_run.score_run(run, truth)
    assert figures["top1"] == 0.5 and figures["submission"] == "submission-002.csv"
    assert "submission-002.csv: top-1 0.5000" in text
    for name in ("submission.csv", str(run / "submission.csv")):
        assert score_run.main([str(run), str(truth), "--submission", name]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["top1"] == 0.75
    assert score_run.main([str(run), str(truth), "--submission", "submission-009.csv"]) == 2
    assert "submission-009.csv is not there" in capsys.readouterr().err
    (run / "submission-002.csv").unlink()
    with pytest.raises(FileNotFoundError, match="submission-002.csv is not there"):
        score_run.score_run(run, truth)


def test_report_is_left_alone_unless_asked(tmp_path):
    run, truth = make_run(tmp_path)
    assert score_run.main([str(run), str(truth)]) == 0
    assert not (run / "report.json").exists()


def drop_column(path: Path, column: str) -> None:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.drop(columns=column).to_csv(path, index=False)


def keep_rows(path: Path, rows: slice) -> None:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.iloc[rows].to_csv(path, index=False)


def repeat_rows(path: Path) -> None:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    pd.concat([frame, frame]).to_csv(path, index=False)


def drop_table_column(path: Path) -> None:
    pd.read_parquet(path).drop(columns="label").to_parquet(path)


def change_given(path: Path) -> None:
    path.write_text(path.read_text().replace("train/00/a.jpg,00", "train/00/a.jpg,01"))


@pytest.mark.parametrize(
    ("spoil", "file", "says"),
    [
        (Path.unlink, "run/submission.csv", "submission.csv is not there"),
        (Path.unlink, "run/tables/04_lowq.parquet", "04_lowq.parquet is not there"),
        (Path.unlink, "truth/train.csv", "train.csv is not there"),
        (Path.unlink, "truth/test.csv", "test.csv is not there"),
        (lambda p: drop_column(p, "kind"), "truth/train.csv", "lacks the column.*kind"),
        (lambda p: drop_column(p, "class"), "truth/test.csv", "lacks the column.*class"),
        (lambda p: drop_column(p, "label"), "run/submission.csv", "not an image and a class"),
        (drop_table_column, "run/tables/04_lowq.parquet", "lacks the column.*label"),
        (lambda p: keep_rows(p, slice(1, None)), "run/submission.csv", "lacks 'test/3.jpg'"),
        (lambda p: keep_rows(p, slice(1, None)), "truth/test.csv", "unknown 'test/0.jpg'"),
        (lambda p: keep_rows(p, slice(0)), "truth/test.csv", "has no rows"),
        (repeat_rows, "run/submission.csv", "more than once"),
        (repeat_rows, "truth/train.csv", "more than one row"),
        (lambda p: keep_rows(p, slice(1, None)), "truth/train.csv", "truth does not know"),
        (change_given, "truth/train.csv", "column given says '00'"),
        (lambda p: p.write_text(""), "run/submission.csv", "cannot be read"),
    ],
)
def test_refusals(tmp_path, capsys, spoil, file, says):
    run, truth = make_run(tmp_path)
    spoil(tmp_path / file)
    with pytest.raises((FileNotFoundError, ValueError), match=says):
        score_run.score_run(run, truth)
    assert score_run.main([str(run), str(truth), "--report"]) == 2
    assert "score_run: " in capsys.readouterr().err
    assert not (run / "report.json").exists()
