"""The contest's file, and the list of all files that were written."""

import gzip
import os
import re
import zipfile
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from fgvc_utils.answers import submission
from fgvc_utils.answers.forms import Layout
from fgvc_utils.answers.submission import (
    checked_lines,
    current_submission,
    keep_submission,
    read_log,
)
from fgvc_utils.core.files import NotEnoughSpace

COLUMNS = ("image", "category")


def layout(classes, columns=COLUMNS):
    return Layout(image=columns[0], answer=(columns[1],), classes={name: name for name in classes})


def text(names, labels, classes, columns=COLUMNS, **options):
    return "".join(checked_lines(layout(classes, columns), names, labels, **options))


def test_the_file_has_the_contests_columns_and_text_labels():
    names, labels = pd.Series(["007", "8, a"]), pd.Series(["0012", "NA"])
    written = text(names, labels, ["0012", "NA"])
    assert written == 'image,category\n007,0012\n"8, a",NA\n'


@pytest.mark.parametrize(
    ("names", "labels", "says"),
    [
        (["1", "2"], ["7", "rose"], "class 'rose' is not one of the contest's"),
        (["1", "2"], ["7"], "2 test images but 1 classes"),
        (["1", "1"], ["7", "7"], "test image '1' is in more than one row"),
        ([1, 2], ["7", "7"], "image 1 is not text"),
        (["1", "2"], ["7", 7], "class 7 is not text"),
        (["1", "2"], ["7", None], "class None is not text"),
        (["1", ""], ["7", "7"], "image '' is not text"),
        ([], [], "no test image to submit"),
    ],
)
def test_what_the_contest_would_not_take_is_refused(names, labels, says):
    names, labels = pd.Series(names, dtype=object), pd.Series(labels, dtype=object)
    with pytest.raises(ValueError, match=says):
        text(names, labels, ["0012", "7"])


def test_scores_are_asked_for_and_probabilities_are_probabilities():
    names, labels = pd.Series(["1"], ["a"]), pd.Series(["7"], ["a"])
    wide = Layout(
        "probabilities", "id", ("7", "8"), {"7": "7", "8": "8"}, column_classes=("7", "8")
    )
    with pytest.raises(ValueError, match="form probabilities needs the scores of all classes"):
        checked_lines(wide, names, labels)
    for values in ([0.9, 0.3], [1.5, -0.5]):
        scores = pd.DataFrame([values], ["a"], ["7", "8"])
        with pytest.raises(ValueError, match="their sum is 1"):
            checked_lines(wide, names, labels, scores)
    # A class that takes no part has none.
    scores = pd.DataFrame([[1.0]], ["a"], ["8"])
    assert list(checked_lines(wide, names, labels, scores))[1] == "1,0.000000,1.000000\n"


@pytest.mark.parametrize(
    ("names", "labels", "columns", "named"),
    [
        (["=cmd|' /C calc'!A0", "2"], ["7", "7"], COLUMNS, "1 .* first .=cmd"),
        (["-1.jpg", "@2"], ["7", "7"], COLUMNS, "2 .* first .-1.jpg"),
        (["1", "2"], ["+x", "7"], COLUMNS, "1 .* first '\\+x"),
        (["1", "2"], ["7", "7"], ["image", "=class"], "1 .* '=class"),
    ],
)
def test_names_that_a_spreadsheet_would_run_are_written_only_where_that_is_wanted(
    names, labels, columns, named
):
    names, labels = pd.Series(names), pd.Series(labels)
    classes = ["7", "+x"]
    with pytest.raises(ValueError, match=f"would run {named}.*allow_formulas"):
        text(names, labels, classes, columns)
    written = text(names, labels, classes, columns, allow_formulas=True)
    assert names[0] in written and labels[0] in written
    assert "'-" not in written and "'+" not in written


def test_the_list_is_escaped_for_spreadsheets_and_read_back_as_it_was(tmp_path):
    facts = {"settings": "=HYPERLINK(1)", "prior": "-shares.csv", "scores": "a;=b", "cap": -1}
    keep_submission(tmp_path, "a\n", facts)
    written = (tmp_path / "submissions.csv").read_text()
    assert "'=HYPERLINK(1),a;'=b" in written and "'-shares.csv" in written
    log = read_log(tmp_path).iloc[0]
    assert {name: log[name] for name in facts} == facts | {"cap": "-1"}


def test_a_different_submission_gets_a_name_of_its_own(tmp_path):
    assert current_submission(tmp_path) == tmp_path / "submission.csv"
    facts = {"rule": "cap", "settings": "slack 1.25, so", "cap": 3, "images": 2, "changed": 0}
    written = [keep_submission(tmp_path, text, facts) for text in ("a\n", "b\n", "c\n")]
    names = ["submission.csv", "submission-002.csv", "submission-003.csv"]
    assert written == [(tmp_path / name, True) for name in names]
    assert [(tmp_path / name).read_text() for name in names] == ["a\n", "b\n", "c\n"]
    log = read_log(tmp_path)
    assert log["file"].tolist() == names and set(log["cap"]) == {"3"} and set(log["prior"]) == {""}
    assert set(log["settings"]) == {"slack 1.25, so"}
    assert log["sha256"].nunique() == 3
    ago = datetime.now(UTC) - datetime.fromisoformat(log["time"].iloc[-1])
    assert timedelta(seconds=-1) < ago < timedelta(minutes=1)
    assert current_submission(tmp_path) == tmp_path / "submission-003.csv"


def test_the_same_submission_again_writes_nothing(tmp_path):
    def found():
        return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}

    first, _ = keep_submission(tmp_path, "a\n", {"rule": "cap"})
    before = found()
    assert keep_submission(tmp_path, "a\n", {"rule": "plain"}) == (first, False)
    assert found() == before


def test_an_earlier_submission_that_comes_out_again_is_in_force_again(tmp_path):
    for text in ("a\n", "b\n", "a\n"):
        path, new = keep_submission(tmp_path, text, {})
    assert path == tmp_path / "submission.csv" == current_submission(tmp_path) and not new
    log = read_log(tmp_path)
    assert log["file"].tolist() == ["submission.csv", "submission-002.csv", "submission.csv"]
    assert sorted(os.listdir(tmp_path)) == [
        "submission-002.csv",
        "submission.csv",
        "submissions.csv",
    ]


def test_a_submission_from_before_the_list_is_never_replaced(tmp_path):
    (tmp_path / "submission.csv").write_text("old\n")
    keep_submission(tmp_path, "new\n", {})
    assert (tmp_path / "submission.csv").read_text() == "old\n"
    assert current_submission(tmp_path).read_text() == "new\n"


def test_a_name_is_not_given_twice_even_where_its_file_is_gone(tmp_path):
    keep_submission(tmp_path, "a\n", {})
    (tmp_path / "submission.csv").unlink()
    assert keep_submission(tmp_path, "b\n", {}) == (tmp_path / "submission-002.csv", True)
    # Its own content may come back.
    assert keep_submission(tmp_path, "a\n", {}) == (tmp_path / "submission.csv", True)
    assert current_submission(tmp_path).read_text() == "a\n"


def test_old_lines_stay_byte_for_byte(tmp_path):
    keep_submission(tmp_path, "a\n", {})
    log = tmp_path / "submissions.csv"
    # As an editor may leave it: quoted, and without a last line end.
    edited = re.sub("submission.csv", '"submission.csv"', log.read_text()).rstrip("\n")
    log.write_text(edited)
    keep_submission(tmp_path, "b\n", {})
    assert log.read_text().startswith(edited + "\n")
    assert read_log(tmp_path)["file"].tolist() == ["submission.csv", "submission-002.csv"]


def test_a_foreign_list_is_named_before_anything_is_written(tmp_path):
    (tmp_path / "submissions.csv").write_text("mine\n1\n")
    with pytest.raises(ValueError, match="submissions.csv has the columns mine, not time, file"):
        keep_submission(tmp_path, "a\n", {})
    assert os.listdir(tmp_path) == ["submissions.csv"]
    with pytest.raises(ValueError, match="no column 'colour'"):
        keep_submission(tmp_path / "other", "a\n", {"colour": 1})


def test_a_list_that_cannot_be_written_keeps_its_lines(tmp_path, monkeypatch):
    keep_submission(tmp_path, "a\n", {})
    before = (tmp_path / "submissions.csv").read_bytes()

    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(submission.csv, "DictWriter", full)
    with pytest.raises(OSError, match="no space"):
        keep_submission(tmp_path, "b\n", {})
    assert (tmp_path / "submissions.csv").read_bytes() == before
    monkeypatch.undo()
    # The file is there and the list does not know it: the next call lists it.
    keep_submission(tmp_path, "b\n", {})
    assert current_submission(tmp_path) == tmp_path / "submission-002.csv"


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(submission.PACKINGS, "zip", submission.PACKINGS["zip"]._replace(pack=full))
    with pytest.raises(NotEnoughSpace, match="submission.csv could not be written"):
        keep_submission(tmp_path, "a\n", {}, "zip")
    assert os.listdir(tmp_path) == []


def test_another_packing_gets_a_number_of_its_own_and_the_same_content_comes_out_once(tmp_path):
    for packing, name in (
        ("none", "submission.csv"),
        ("zip", "submission-002.zip"),
        ("gzip", "submission-003.csv.gz"),
        ("zip", "submission-002.zip"),
    ):
        path, _ = keep_submission(tmp_path, ["a,b\n", "1,2\n"], {}, packing, "answer.csv")
        assert path == tmp_path / name == current_submission(tmp_path)
    again, new = keep_submission(tmp_path / "other", "a,b\n1,2\n", {}, "zip", "answer.csv")
    assert new and again.name == "submission.zip"
    assert again.read_bytes() == (tmp_path / "submission-002.zip").read_bytes()
    with zipfile.ZipFile(again) as archive:
        assert archive.namelist() == ["answer.csv"] and archive.read("answer.csv") == b"a,b\n1,2\n"
    assert gzip.decompress((tmp_path / "submission-003.csv.gz").read_bytes()) == b"a,b\n1,2\n"
    assert not list(tmp_path.glob(".*"))
