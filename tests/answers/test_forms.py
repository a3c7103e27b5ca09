"""The forms of a submission: real ones byte for byte, and each of them written and read back."""

import gzip
import itertools
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fgvc_utils.answers.answering import scores_for, settings_text
from fgvc_utils.answers.assignment import Rule, assign
from fgvc_utils.answers.forms import (
    FORMS,
    PACKINGS,
    Layout,
    as_data,
    described,
    first_lines,
    from_data,
    read_file,
)
from fgvc_utils.answers.names import IMAGE_NAMES, ClassSpelling, image_names, spelt_classes
from fgvc_utils.answers.planned import plan_of
from fgvc_utils.answers.submission import checked_lines, keep_submission
from fgvc_utils.contest.contest_file import notebook_defaults
from fgvc_utils.core.reading import UnreadableFile


def settings(**changes):
    """The parameters of 40 that say how the file looks, at their defaults but for some."""
    return SimpleNamespace(**(notebook_defaults("40_submit") | {"rule": "plain"} | changes))


def rows(paths):
    ids = [f"id{n}" for n in range(len(paths))]
    frame = pd.DataFrame({"image_id": ids, "path": paths, "split": "test"}, dtype=object)
    frame.loc[len(frame)] = ["train", "train/x/1.jpg", "train"]
    return frame


def written(folder, cfg, table, classes, scores, root=None):
    """Write a file from scores (images, classes) as 40 does; returns its place and its plan."""
    plan = plan_of(cfg, table, classes, root)
    scores, rule = np.array(scores, np.float32), Rule(cfg.rule)
    prior = np.full(len(classes), 1 / len(classes))
    labels = pd.Series(np.array(classes)[assign(scores, rule, prior)], plan.images.to_numpy())
    ranking = scores_for(plan, rule, scores, classes, prior)
    lines = checked_lines(plan.layout, plan.names, labels, ranking)
    path, _ = keep_submission(folder, lines, {}, plan.layout.packing, plan.layout.inner_name)
    return path, plan


# Three real forms, each from its contest's own rules.


def test_aic_2026_no_head_line_four_digits_in_a_zip(tmp_path):
    cfg = settings(header=False, image_column="name", packing="zip", class_names="number")
    cfg.class_digits = 4
    table = rows(["test/0a1.jpg", "test/0b2.jpg"])
    path, _ = written(tmp_path, cfg, table, ["0", "1", "499"], [[0, 1, 0], [0, 0, 1]])
    assert path.name == "submission.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["submission.csv"] and archive.testzip() is None
        assert archive.read("submission.csv") == b"0a1.jpg,0001\n0b2.jpg,0499\n"


def test_kaggle_top_five_separated_by_blanks_in_the_order_of_the_sample(tmp_path):
    # As Kaggle's Humpback Whale Identification has it: MAP@5, the columns Image and Id.
    classes = ["new_whale", "w_1287fbc", "w_1eafe46", "w_7554f44", "w_98baff9", "w_9"]
    guess = "new_whale w_1287fbc w_98baff9 w_7554f44 w_1eafe46"
    (tmp_path / "sample_submission.csv").write_text(
        f"Image,Id\n00029b3a.jpg,{guess}\n0003c693.jpg,{guess}\n"
    )
    table = rows(["test/0003c693.jpg", "test/00029b3a.jpg"])
    scores = [[0.3, 0.05, 0.1, 0.4, 0, 0.15], [0, 0.1, 0.2, 0.3, 0.35, 0.05]]
    path, plan = written(tmp_path / "run", settings(), table, classes, scores, tmp_path)
    assert path.read_bytes() == (
        b"Image,Id\n"
        b"00029b3a.jpg,w_98baff9 w_7554f44 w_1eafe46 w_1287fbc w_9\n"
        b"0003c693.jpg,w_7554f44 new_whale w_9 w_1eafe46 w_1287fbc\n"
    )
    assert "not in that of the test images" in plan.text and "images by their name" in plan.text
    assert plan.notes == []


def test_probabilities_a_column_a_class_as_the_sample_has_them(tmp_path):
    # As Kaggle's National Data Science Bowl has it: log loss, the column image and one a class.
    (tmp_path / "sample_submission.csv").write_text(
        "image,rose,ash,elm\n1.jpg,.3,.3,.4\n10.jpg,0,0,1\n"
    )
    table = rows(["test/1.jpg", "test/10.jpg"])
    scores = [[0.5, 0.25, 0.25], [3, 1, 0]]
    path, _ = written(tmp_path / "run", settings(), table, ["ash", "elm", "rose"], scores, tmp_path)
    assert path.read_bytes() == (
        b"image,rose,ash,elm\n1.jpg,0.250000,0.500000,0.250000\n10.jpg,0.000000,0.750000,0.250000\n"
    )


# Every form, written and read back.

CLASSES = ["12", "3", "7", "9"]
SCORES = [[0.1, 0.2, 0.3, 0.4], [0.5, 0.3, 0.15, 0.05], [0.25, 0.3, 0.2, 0.25]]
CASES = [
    *itertools.product(FORMS, [True, False], [",", "\t", ";"], PACKINGS, ["text"], [" "]),
    *itertools.product(FORMS, [True, False], [" ", ", "], ["none"], ["number", "index"], ["|"]),
    *itertools.product(["top"], [False], [",", "\t"], ["zip"], ["index"], [",", "\t"]),
]


@pytest.mark.parametrize(("form", "header", "separator", "packing", "kind", "between"), CASES)
def test_every_form_is_read_back(tmp_path, form, header, separator, packing, kind, between):
    cfg = settings(form=form, header=header, separator=separator, packing=packing)
    cfg.class_names, cfg.class_digits, cfg.first_class = kind, 3 * (kind == "number"), 1
    cfg.top_separator, cfg.top = between, 3
    if form == "top" and between == separator:
        cfg.columns = ["image", "first", "second", "third"]
    table = rows(["test/a b.jpg", 'test/x,"y".jpg', "test/z;1.jpg"])
    path, plan = written(tmp_path, cfg, table, CLASSES, SCORES)
    assert path.name == "submission" + PACKINGS[packing].ending
    spelt = spelt_classes(CLASSES, ClassSpelling(kind, cfg.class_digits, 1))
    layout = from_data(as_data(plan.layout), spelt)
    assert layout == plan.layout
    back = read_file(path, layout)
    assert back.index.tolist() == table["path"].tolist()[:3]
    if form == "probabilities":
        assert back.columns.tolist() == CLASSES
        assert back.to_numpy() == pytest.approx(np.array(SCORES), abs=1e-6)
    else:
        ranked = [["9", "7", "3"], ["12", "3", "7"], ["3", "12", "9"]]
        assert back.to_numpy().tolist() == [row[: 3 if form == "top" else 1] for row in ranked]


def test_a_file_that_is_spoilt_or_of_another_form_is_named(tmp_path):
    path = tmp_path / "submission.zip"
    path.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(UnreadableFile, match="submission.zip"):
        read_file(path, Layout())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "a")
        archive.writestr("b.csv", "b")
    with pytest.raises(UnreadableFile, match="it holds 2 files"):
        read_file(path, Layout())
    plain = tmp_path / "submission.csv"
    plain.write_text("path,class\n1,rose\n")
    with pytest.raises(UnreadableFile, match="'rose' is none of the classes"):
        read_file(plain, Layout(classes={"7": "7"}))


def test_the_chosen_class_comes_first_and_ties_keep_the_order(tmp_path):
    cfg = settings(form="top", top=3, rule="cap")
    table = rows(["test/1.jpg", "test/2.jpg", "test/3.jpg"])
    # A cap of one image a class sends the second and the third image elsewhere.
    scores = [[0.9, 0.05, 0.05], [0.8, 0.2, 0.0], [0.6, 0.3, 0.1]]
    plan = plan_of(cfg, table, ["a", "b", "c"], None)
    labels = pd.Series(["a", "b", "c"], plan.images.to_numpy())
    ranking = pd.DataFrame(scores, plan.images.to_numpy(), ["a", "b", "c"])
    lines = list(checked_lines(plan.layout, plan.names, labels, ranking))
    assert [line.split(",")[1] for line in lines[1:]] == ["a b c\n", "b a c\n", "c a b\n"]


def test_sinkhorn_gives_probabilities_that_meet_the_prior(tmp_path):
    plan = plan_of(
        settings(form="probabilities", rule="sinkhorn"), rows(["1", "2", "3"]), ["a", "b"], None
    )
    scores = np.array([[0.9, 0.1], [0.7, 0.3], [0, 0]], np.float32)
    prior = np.array([0.5, 0.5])
    found = scores_for(plan, Rule("sinkhorn"), scores, ["a", "b"], prior).to_numpy()
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert found.mean(axis=0) == pytest.approx(prior, abs=1e-2)
    assert found[0, 0] > found[1, 0] and found[1, 0] < 0.5
    # Nobody saw the last one.
    assert found[2] == pytest.approx(prior)


# Names.


def test_what_images_are_called_and_their_clashes():
    test = rows(["test/x/img_007.b.jpg", "test/c_12.png"]).iloc[:2]
    expected = {
        "path": ["test/x/img_007.b.jpg", "test/c_12.png"],
        "name": ["img_007.b.jpg", "c_12.png"],
        "stem": ["img_007.b", "c_12"],
        "number": ["7", "12"],
        "inner_path": ["x/img_007.b.jpg", "c_12.png"],
        "image_id": ["id0", "id1"],
    }
    assert set(expected) == set(IMAGE_NAMES)
    for column, names in expected.items():
        assert image_names(test, column).tolist() == names
    for paths, column, twice in (
        (["test/1.jpg", "test/1.png"], "stem", "'1'"),
        (["test/x/1.jpg", "test/y/1.jpg"], "name", "'1.jpg'"),
        (["test/a1.jpg", "test/b01.jpg"], "number", "'1'"),
    ):
        with pytest.raises(ValueError, match=f"image_column {column}: two test images .* {twice}"):
            image_names(rows(paths), column)
    with pytest.raises(ValueError, match="image_column number: .*'test/rose.jpg' holds no number"):
        image_names(rows(["test/rose.jpg"]), "number")
    with pytest.raises(ValueError, match="lists no test image"):
        plan_of(settings(), rows(["test/1.jpg"]).iloc[1:], ["a"], None)


@pytest.mark.parametrize("key", ["test/{}.jpg", "{}.jpg", "{}"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_listings_column_names_the_images(tmp_path, key, ending):
    listing = pd.DataFrame({"file": [key.format(n) for n in (3, 1, 2)], "code": ["c", "a", "b"]})
    if ending == "csv":
        listing.to_csv(tmp_path / "test.csv", index=False)
    else:
        listing.to_parquet(tmp_path / "test.parquet")
    cfg = settings(names_file=f"test.{ending}", image_column="code")
    plan = plan_of(cfg, rows(["test/1.jpg", "test/2.jpg"]), ["a"], tmp_path)
    assert plan.names.tolist() == ["a", "b"]
    cfg.image_column = "id"
    with pytest.raises(ValueError, match="no column 'id'; it has file, code: .* as image_column"):
        plan_of(cfg, rows(["test/1.jpg"]), ["a"], tmp_path)
    cfg.image_column = "code"
    with pytest.raises(ValueError, match="names_file: .* comes nearest with 1 .* lacks"):
        plan_of(cfg, rows(["test/1.jpg", "test/9.jpg"]), ["a"], tmp_path)
    cfg.names_file = "none.csv"
    with pytest.raises(FileNotFoundError, match="names_file: .*none.csv is not there"):
        plan_of(cfg, rows(["test/1.jpg"]), ["a"], tmp_path)


def test_classes_as_text_number_and_index():
    assert spelt_classes(["0012", "7"], ClassSpelling()) == {"0012": "0012", "7": "7"}
    assert spelt_classes(["0012", "7"], ClassSpelling("number", 3)) == {"0012": "012", "7": "007"}
    assert spelt_classes(["0012", "7"], ClassSpelling("number")) == {"0012": "12", "7": "7"}
    assert spelt_classes(["a", "b"], ClassSpelling("index", 0, 1)) == {"a": "1", "b": "2"}
    assert spelt_classes(["a", "b"], ClassSpelling("index", 4)) == {"a": "0000", "b": "0001"}
    with pytest.raises(ValueError, match="class_names number: the class 'rose' is no whole number"):
        spelt_classes(["rose"], ClassSpelling("number"))
    with pytest.raises(ValueError, match="'07' and '7' would both be written as '7'"):
        spelt_classes(["07", "7"], ClassSpelling("number"))


@pytest.mark.parametrize(
    ("changes", "classes", "says"),
    [
        (
            {"form": "probabilities", "rule": "cap"},
            ["a"],
            "the rule cap gives .* plain or sinkhorn",
        ),
        ({"form": "top", "top": 3}, ["a", "b"], "top 3: there are only 2 classes"),
        (
            {"form": "top", "top": 1},
            ["big tit"],
            "top_separator ' ' is part of the class 'big tit'",
        ),
        ({"columns": ["a", "b", "c"]}, ["a"], "the file has 2 columns"),
        (
            {"form": "top", "top": 2, "top_separator": ","},
            ["a", "b"],
            "columns .* the file has 3 columns",
        ),
        ({"class_names": "number"}, ["a"], "class_names number"),
        ({"sample": "form.csv"}, ["a"], "sample: .*form.csv is not there"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path, changes, classes, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        plan_of(settings(**changes), rows(["test/1.jpg"]), classes, tmp_path)


# What is said of a file.


def test_a_file_is_said_in_words_and_shown_by_its_first_lines(tmp_path):
    assert described(Layout()) == "head line 'path,class', one class"
    wide = Layout("probabilities", "id", tuple("abcdefgh"), separator=";", packing="gzip")
    text = "head line 'id;a;b;c;…;h', a column a class with its probability"
    assert described(wide) == f"{text}, fields separated by ';', gzip"
    cfg = settings(header=False, packing="zip", inner_name="a.csv")
    plan = plan_of(cfg, rows(["test/1.jpg"]), ["a"], None)
    assert settings_text(cfg, plan) == "no head line, one class, ZIP with a.csv inside"
    usual = settings()
    assert settings_text(usual, plan_of(usual, rows(["test/1.jpg"]), ["a"], None)) == ""
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n" * 7 + b"x" * 300 + b"\n"))
    assert first_lines(tmp_path / "a.csv.gz", 2) == "a,b\na,b\n… and 6 lines more"
    assert first_lines(tmp_path / "a.csv.gz", 8).endswith("x …")
