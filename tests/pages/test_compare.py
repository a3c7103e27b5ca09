"""Two runs beside each other: what differs, in words and on a page."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from page_run import CLASSES, write_run

from fgvc_utils.answers.forms import Answers as FormAnswers
from fgvc_utils.answers.forms import FileLines, Layout, as_data
from fgvc_utils.answers.names import ClassSpelling, spelt_classes
from fgvc_utils.answers.submission import keep_submission
from fgvc_utils.compare import main
from fgvc_utils.core.intervals import paired_difference
from fgvc_utils.pages import comparing
from fgvc_utils.pages.compare_page import compare, in_words
from fgvc_utils.pages.runs import Run, StageFacts


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two runs beside their cache, written once."""
    folder = tmp_path_factory.mktemp("written")
    changed = {"dropped": (4, 6), "relabelled": (7,), "answers": [0, 1, 2, 2, 1, 2]}
    write_run(folder / "one")
    write_run(folder / "two", seed=1, right=6, **changed)
    return folder


@pytest.fixture
def two(written, tmp_path):
    folder = shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return Run(folder / "one"), Run(folder / "two")


def test_images_that_changed_sides_are_counted_and_listed(two):
    found = comparing.sides(*two, "03_fine")
    assert found.index[found["side"] == comparing.ONLY_ONE].tolist() == ["train/06.jpg"]
    assert found.index[found["side"] == comparing.ONLY_OTHER].tolist() == ["train/03.jpg"]
    moved = found.index[found["side"] == comparing.OTHER_LABEL].tolist()
    assert moved == ["train/05.jpg", "train/07.jpg"]
    first, third = comparing.stage_rows(*two)
    assert (first["only_one"], first["only_other"], first["other_label"]) == (0, 0, 0)
    assert (third["only_one"], third["only_other"], third["other_label"]) == (1, 1, 2)


def test_parameters_that_differ_are_named_with_both_values(two):
    rows = comparing.parameters(*two)
    assert [(row["name"], row["one"], row["other"]) for row in rows] == [("seed", 0, 1)]
    assert rows[0]["step"] == "01_noise, 03_fine, 10_train-one, 30_ensemble and 1 more"


def test_a_parameter_that_came_later_was_as_its_default_is(two):
    one, other = two
    other.stamps["03_fine"]["parameters"]["settled"] = 0.1
    facts = {"03_fine": StageFacts("", {"settled": 0.1})}
    known = Run(one.folder, facts)
    assert "settled" not in [row["name"] for row in comparing.parameters(known, other)]
    other.stamps["03_fine"]["parameters"]["settled"] = 0.2
    row = next(row for row in comparing.parameters(known, other) if row["name"] == "settled")
    assert (row["one"], row["other"]) == (0.1, 0.2)


def test_models_are_compared_on_the_images_that_both_held_out(two):
    rows = {row["name"]: row for row in comparing.pairs(*two)}
    one = rows["one"]
    assert (one["n"], one["gained"], one["lost"]) == (6, 2, 0)
    assert one["difference"] == pytest.approx(2 / 6) and one["low"] < 2 / 6 < one["high"]
    assert rows["vote"]["difference"] == 0 and rows["the best single model: one"]["n"] == 6


def test_images_under_other_labels_or_of_other_folds_judge_nobody():
    one = pd.DataFrame({"truth": ["a", "a", "b"], "answer": ["a", "b", "b"]}, index=[1, 2, 3])
    other = pd.DataFrame({"truth": ["a", "c", "b"], "answer": ["b", "c", "b"]}, index=[1, 2, 4])
    row = comparing.paired("x", one, other)
    assert (row["n"], row["gained"], row["lost"], row["apart"]) == (1, 0, 1, 3)
    alone = comparing.paired("x", one, other.loc[[4]])
    assert alone["n"] == 0 and alone["difference"] is None


def test_the_best_single_model_is_chosen_among_those_that_the_same_images_judge():
    def answered(hits, images):
        return pd.DataFrame({"truth": 1, "answer": [int(n < hits) for n in images]}, index=images)

    found = {
        "vote": answered(3, range(4)),
        "a": answered(2, range(4)),
        "b": answered(3, range(4)),
        "easy": answered(9, range(4, 8)),
    }
    assert comparing._best(found) == "b"
    assert comparing._best({"vote": found["vote"]}) == ""


def test_answers_that_differ_are_read_from_the_files_in_force(two):
    found = comparing.answers(*two)
    assert (found["one"], found["images"], len(found["differ"])) == ("submission.csv", 6, 1)
    assert found["differ"].loc["test/03.jpg"].tolist() == ["ant", "cat"]


@pytest.mark.parametrize("named", ["{n:02d}.jpg", "{n:02d}", "test/{n:02d}.jpg"])
def test_a_file_may_call_images_by_path_name_or_stem(two, named):
    one, other = two
    lines = [f"{named.format(n=n)},{'bee' if n else 'cat'}" for n in range(6)]
    (one.folder / "submission.csv").write_text("\n".join(["id,label", *lines]))
    found = comparing.answers(Run(one.folder), other)
    assert (found["one"], found["images"]) == ("submission.csv", 6)
    assert found["differ"].loc["test/00.jpg"].tolist() == ["cat", "ant"]


@pytest.mark.parametrize("form", ["class", "top", "probabilities"])
def test_a_file_of_any_form_is_read_as_the_report_says(two, form):
    one, other = two
    spelling = {"class_names": "index", "class_digits": 4, "first_class": 1}
    classes = spelt_classes(CLASSES, ClassSpelling(*spelling.values()))
    columns = tuple(CLASSES) if form == "probabilities" else ()
    head = tuple(classes.values()) if columns else ("class",)
    layout = Layout(
        form=form,
        answer=head,
        classes=classes,
        header=False,
        top=2,
        top_separator=" ",
        column_classes=columns,
        packing="zip",
        inner_name="answer.csv",
    )
    chosen = np.array([2, 1, 2, 0, 1, 2])
    scores = np.full((6, 3), 0.1, np.float32)
    scores[np.arange(6), chosen] = 0.8
    names = [f"{n:02d}" for n in range(6)]
    lines = FileLines(layout, names, FormAnswers(chosen, scores))
    facts = {"rule": "plain"}
    path, _ = keep_submission(one.folder, lines, facts, "zip", "answer.csv")
    told = {"file": path.name, "form": as_data(layout), "class_names": spelling}
    report = one.report | {"40_submit": told}
    (one.folder / "report.json").write_text(json.dumps(report))
    found = comparing.answers(Run(one.folder), other)
    assert (found["one"], found["images"]) == (path.name, 6)
    assert found["differ"].loc["test/00.jpg"].tolist() == ["cat", "ant"]


def test_without_a_file_of_two_columns_the_scores_answer(two):
    one, other = two
    (one.folder / "submission.csv").write_bytes(b"PK\3\4 no CSV")
    found = comparing.answers(Run(one.folder), other)
    assert found["one"] == "the best class of vote's scores" and found["images"] == 6


def test_images_that_one_run_alone_lists_are_counted(two):
    one, other = two
    table = other.table("01_noise")
    path = other.folder / "tables/01_noise.parquet"
    table[table.index != "train/09.jpg"].to_parquet(path, index=False)
    assert comparing.listed_apart(one, other) == {"one": ["train/09.jpg"], "other": []}
    assert comparing.stage_rows(one, other)[0]["images"] == 17


def test_other_code_and_versions_are_told(two):
    one, other = two
    one.stamps["03_fine"] |= {"code": {"a": "1", "b": "2"}, "versions": {"torch": "2.14"}}
    other.stamps["03_fine"] |= {"code": {"a": "1", "b": "3", "c": "4"}}
    rows = {row["what"]: row for row in comparing.made_with(one, other)}
    assert "code of 03_fine, 2 differ" in rows and "2.14" in rows["torch"]["one"]


def test_the_command_writes_a_page_and_says_the_same_in_short(two, capsys):
    one, other = (str(run.folder) for run in two)
    assert main([one, other]) == 0
    said = capsys.readouterr().out
    assert "03_fine: 15 and 15 of 18 images kept; 1 in one alone, 1 in two alone, 2 under" in said
    assert "one: 66.7 % and 100.0 %, +33.3 points" in said
    assert "answers: 1 of 6 test images differ" in said
    page = two[1].folder / "compare-one.html"
    assert said.rstrip().endswith(f"page: {page}")
    html = page.read_text("utf-8")
    assert "This cannot be shown" not in html and html.count("data:image/jpeg") >= 4
    assert "<script" not in html and not re.findall(r'(?:src|href)="(?!data:|#)', html)


def test_a_run_compared_with_its_like_shows_no_difference(two, tmp_path, capsys):
    like = shutil.copytree(two[0].folder, tmp_path / "elsewhere" / "one")
    assert main([str(two[0].folder), str(like), "-o", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "parameters: 0 differ" in said and "answers: 0 of 6" in said
    # Of one name, so they are called by the folders in which they differ.
    assert f"0 in {tmp_path.name}/one alone, 0 in elsewhere/one alone" in said
    assert (tmp_path / "compare-one-one.html").is_file()


def test_a_page_that_cannot_be_written_is_named(two, capsys):
    one, other = (str(run.folder) for run in two)
    assert main([one, other, "-o", "/proc/none/x.html"]) == 2
    assert "the page /proc/none/x.html cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("which", ["twice", "strangers", "early", "nothing"])
def test_runs_that_cannot_be_compared_are_refused_in_a_line(two, tmp_path, capsys, which):
    one, other = (run.folder for run in two)
    wanted = {"twice": "named twice", "strangers": "share no train image", "early": "no table"}
    if which == "twice":
        other = one
    elif which == "strangers":
        for name in ("01_noise", "03_fine"):
            path = other / f"tables/{name}.parquet"
            table = pd.read_parquet(path)
            table["image_id"] = "other/" + table["image_id"]
            table.to_parquet(path, index=False)
    elif which == "early":
        for path in (other / "tables").glob("*.parquet"):
            path.unlink()
    else:
        other = tmp_path / "nowhere"
    assert main([str(one), str(other)]) == 2
    assert wanted.get(which, "is no run") in capsys.readouterr().err


@pytest.mark.parametrize("name", ["report.json", "submission.csv", "models/one/rows.parquet"])
def test_a_spoilt_file_costs_its_part_and_is_named(two, name):
    one, other = two
    (one.folder / name).write_bytes(b"\xff{")
    found = compare(Run(one.folder), other)
    assert len([each for each in found.values() if each.error]) <= 1
    assert "03_fine: 15 and 15 of 18" in in_words(one, other, found)


def test_the_paired_interval_is_the_published_one():
    # Bonett and Price (2012): (f12 + 1) and (f21 + 1) over n + 2.
    difference, low, high = paired_difference(9, 3, 50)
    assert difference == pytest.approx(0.12)
    one, other, z = 10 / 52, 4 / 52, 1.959964
    half = z * ((one + other - (one - other) ** 2) / 52) ** 0.5
    assert (low, high) == (pytest.approx(one - other - half), pytest.approx(one - other + half))
    back = paired_difference(3, 9, 50)
    assert back == (pytest.approx(-difference), pytest.approx(-high), pytest.approx(-low))
    assert paired_difference(0, 0, 1)[1] < 0 < paired_difference(0, 0, 1)[2]
