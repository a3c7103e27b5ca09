"""The page of a run: what it says, what it needs, what a spoilt file costs."""

import json
import re
import shutil

import pytest
from page_run import write_run

from fgvc_utils.contest.journal import Journal
from fgvc_utils.contest.runs import NoRun
from fgvc_utils.pages import figures, funnel
from fgvc_utils.pages.photos import Photos
from fgvc_utils.pages.run_page import came_in, photos_by_cause, write_page
from fgvc_utils.pages.runs import Run, StageFacts, find_run, stage_of

NASTY = '<img src=x onerror="document.title=1">&"\u202e{{ 7*7 }}'


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run's folder with its cache beside it, written once."""
    return write_run(tmp_path_factory.mktemp("written") / "mine").parent


@pytest.fixture
def run(written, tmp_path):
    return Run(shutil.copytree(written, tmp_path, dirs_exist_ok=True) / "mine")


def text_of(page):
    """What a reader sees, without tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.read_text("utf-8").split("<body>")[1]))


def test_the_page_tells_the_run_from_listing_to_submission(run):
    text = text_of(write_page(run))
    assert "18 train images under 3 classes" in text and "and 6 test images" in text
    assert "empty file" in text and "2 files beside them are no images" in text
    assert "03_fine 17 2 0 1 15" in text
    assert "66.7 % 30.0 % to 90.3 % 6" in text and "vote ensemble 83.3 %" in text
    assert "submission.csv in force" in text and "test/00.jpg,ant" in text
    assert "83.3 % held-out top-1 of the vote" in text and "66.7 % of one, the best single" in text
    assert "Together 1 min 10 s" in text
    assert "This cannot be shown" not in text


def test_the_funnel_adds_up_to_all_train_images(run):
    first, third = funnel.funnel(run)
    assert (first["train"], first["before"], first["left_out"], first["kept"]) == (18, 18, 1, 17)
    assert (third["before"], third["left_out"], third["kept"], third["relabelled"]) == (
        17,
        2,
        15,
        1,
    )
    table = run.table("03_fine")
    train = table[table["split"] == "train"]
    out = funnel.causes(train[train["status"] != "keep"])
    assert {row["cause"]: row["images"] for row in out} == {"label": 2, "unreadable": 1}
    assert sum(row["images"] for row in out) + third["kept"] == first["train"]


def test_images_that_return_are_told_from_those_that_stay(run):
    table = run.table("03_fine")
    back = table.assign(status="keep", cause="", by="web", stage="")
    back.drop(columns=[]).to_parquet(run.folder / "tables" / "04_lowq.parquet", index=False)
    last = funnel.funnel(run)[-1]
    assert (last["before"], last["returned"], last["left_out"], last["kept"]) == (15, 3, 0, 18)


def test_a_table_of_an_earlier_state_of_the_stage_before_is_told(run):
    assert [row["others"] for row in funnel.funnel(run)] == [0, 0]
    third = run.table("03_fine")
    third.to_parquet(run.folder / "tables" / "04_lowq.parquet", index=False)
    now = third.assign(status=third["status"].mask(third["cause"] == "label", "keep"))
    now.to_parquet(run.folder / "tables" / "03_fine.parquet", index=False)
    assert funnel.funnel(Run(run.folder))[-1]["others"] == 2
    text = text_of(write_page(Run(run.folder)))
    assert "2 images in the table of 04_lowq were left out by an earlier state" in text


def test_the_page_needs_nothing_beside_it(run):
    html = write_page(run).read_text("utf-8")
    assert "<script" not in html and "http://" not in html and "https://" not in html
    assert re.findall(r'(?:src|srcset)="(?!data:)', html) == []
    assert re.findall(r"url\(|@import", html) == []
    assert "default-src 'none'" in html
    for target in re.findall(r'href="([^"#]+)"', html):
        assert target.startswith("data:") or (run.folder / target).is_file(), target


def test_names_are_text_and_never_markup(tmp_path):
    run = Run(write_run(tmp_path / "mine", classes=sorted([NASTY, "bee", "cat"])))
    html = write_page(run).read_text("utf-8")
    assert "<img src=x" not in html and "49" not in text_of(run.folder / "index.html").split()
    assert "\u202e" not in html
    assert "&lt;img src=x" in html


def test_photos_say_what_became_of_an_image(run):
    shown = {each["cause"]: each for each in photos_by_cause(run, Photos([run]))}
    assert set(shown) == {"label", "relabelled"}
    (moved,) = shown["relabelled"]["photos"]
    assert moved["caption"] == ["cat", "→ ant"] and moved["fate"] == "relabelled"
    assert moved["source"].startswith("data:image/jpeg;base64,")
    assert [each["fate"] for each in shown["label"]["photos"]] == ["left-out"] * 2


def test_a_picture_that_is_gone_is_said_and_the_raw_one_is_taken(run, tmp_path, monkeypatch):
    for file in (tmp_path / "cache" / "64").iterdir():
        file.rename(tmp_path / file.name)
    assert Photos([run]).of("train/03.jpg")["missing"] == "no picture"
    raw = tmp_path / "data" / "small" / "train"
    raw.mkdir(parents=True)
    (tmp_path / "03.jpg").rename(raw / "03.jpg")
    monkeypatch.setenv("FGVC_DATA", str(tmp_path / "data"))
    assert Photos([Run(run.folder)]).of("train/03.jpg")["source"]


def test_no_photo_is_shown_from_outside_of_the_contest(run, tmp_path):
    outside = tmp_path / "cache" / "64" / "03.jpg"
    outside = outside.rename(tmp_path / "secret.jpg")
    (tmp_path / "cache" / "64" / "03.jpg").symlink_to(outside)
    shown = Photos([run]).of("train/03.jpg")
    assert not shown["source"] and shown["missing"].startswith("not shown: outside")


def test_parameters_that_differ_from_the_defaults_are_named_once(run):
    facts = {
        "01_noise": StageFacts("lists", {"cache_side": 260, "seed": 1}),
        "03_fine": StageFacts("judges", {"relabel_bar": 0.9, "seed": 1}),
    }
    rows = figures.changed_from_defaults(Run(run.folder, facts))
    assert [(row["step"], row["name"], row["value"], row["default"]) for row in rows] == [
        ("01_noise", "cache_side", 64, 260),
        ("01_noise, 03_fine", "seed", 0, 1),
    ]


def test_a_model_below_the_probe_of_its_backbone_is_marked(run):
    one = next(row for row in figures.model_rows(run, {"one": 0.9}) if row["name"] == "one")
    assert one["below"] and one["floor"] == 0.9 and one["voted"]
    one = next(row for row in figures.model_rows(run, {"one": 0.5}) if row["name"] == "one")
    assert not one["below"]


def test_steps_that_failed_are_to_come_or_were_run_by_hand_are_told_apart(run):
    failed = {"outputs": [{"output_type": "error", "ename": "ValueError", "evalue": "no room"}]}
    (run.folder / "04_lowq.ipynb").write_text(json.dumps({"cells": [failed]}))
    (run.folder / "02_coarse.ipynb").write_text(json.dumps({"cells": []}))
    named = ["01_noise", "02_coarse", "03_fine", "04_lowq", "10_train-one", "20_distill"]
    rows = figures.step_rows(Run(run.folder), named, ["03_fine"])
    assert {row["name"]: row["state"] for row in rows} == {
        "01_noise": "done",
        "02_coarse": "no stamp",
        "03_fine": "to run again",
        "04_lowq": "failed",
        "10_train-one": "done",
        "20_distill": "to come",
        "30_ensemble": "done",
        "40_submit": "done",
    }
    page = text_of(write_page(Run(run.folder), named, ["03_fine"]))
    assert "04_lowq failed: ValueError: no room" in page


@pytest.mark.parametrize(
    "name",
    [
        *("report.json", "ledger.csv", "seconds.json", "submissions.csv", "submission.csv"),
        *("tables/01_noise.parquet", "tables/inventory.parquet", "stages/03_fine.json"),
        *("stages/01_noise.json", "models/one/job.json", "03_fine.ipynb"),
    ],
)
@pytest.mark.parametrize("content", [None, b"[1, 2]", b"\xff{"])
def test_a_spoilt_file_costs_its_part_of_the_page_and_no_other(run, name, content):
    path = run.folder / name
    path.unlink() if content is None else path.write_bytes(content)
    text = text_of(write_page(Run(run.folder)))
    assert "All figures of the report" in text and "Steps, times and notebooks" in text


def test_an_empty_folder_has_a_page_that_says_so(tmp_path):
    (tmp_path / "new").mkdir()
    text = text_of(write_page(Run(tmp_path / "new"), ["01_noise"], ["01_noise"]))
    assert "Nothing yet" in text and "0 of 1 steps done" in text and "to come" in text


def test_what_people_decided_is_counted(run):
    journal = Journal(run.folder / "decisions" / "03_fine.csv")
    journal.append("train/03.jpg", "keep", reviewer="ann")
    journal.append("train/04.jpg", "drop", reviewer="ann")
    journal.append("train/04.jpg", "keep", reviewer="bob")
    (row,) = figures.decision_rows(run)
    assert (row["people"], row["disputed"], row["decisions"]) == (["ann", "bob"], 1, {"keep": 1})


def test_the_sections_of_the_report_that_no_part_knows_are_shown_too(run):
    report = json.loads((run.folder / "report.json").read_text())
    report["rules"] = {"train_on_test": {"allowed": False, "kept": True}}
    report["99_other"] = {"found": {"a": 0.123456}}
    (run.folder / "report.json").write_text(json.dumps(report))
    text = text_of(write_page(Run(run.folder)))
    assert "train on test allowed no, kept yes" in text and "found a 0.1235" in text


def test_rules_are_shown_with_what_shows_that_they_were_kept(run):
    rules = [
        {"rule": "ensembles", "allowed": False, "kept": True, "evidence": "one set of weights"},
        {"rule": "hand_cleaning", "allowed": False, "kept": None, "evidence": "no journal"},
        {"rule": "train_on_test", "allowed": False, "kept": False, "evidence": "3 test images"},
    ]
    report = json.loads((run.folder / "report.json").read_text())
    report["levels"] = {"vote class": 0.5, "vote genus": 0.75}
    report["rules"] = {"preset": "aic2026", "verdict": "1 of 3 kept", "rules": rules}
    (run.folder / "report.json").write_text(json.dumps(report))
    text = text_of(write_page(Run(run.folder)))
    assert (
        "preset aic2026 verdict 1 of 3 kept" in text
        and "ensembles no yes one set of weights" in text
    )
    assert "vote genus 75.0 %" in text
    assert "hand_cleaning no not known" in text and "train_on_test no no 3 test images" in text


def test_classes_are_called_by_their_names_where_01_found_some(run):
    (run.folder / "tables" / "classes.csv").write_text(
        "class,name,family\nant,Formica rufa,x\nbee,Apis,y\ncat,Apis,z\n"
    )
    text = text_of(write_page(Run(run.folder)))
    assert "→ Formica rufa" in text and "Apis (cat) :" in text and "→ ant" not in text


def test_came_in_counts_files_that_cannot_be_read(run):
    came = came_in(run)
    assert (came["train"], came["test"], came["classes"], came["unreadable_count"]) == (18, 6, 3, 1)
    assert came["unreadable"] == [{"path": "train/00.jpg", "error": "empty file"}]


def test_a_run_is_found_by_folder_or_name_and_another_folder_is_refused(run, monkeypatch):
    monkeypatch.chdir(run.folder.parent)
    (run.folder.parent / "outputs").mkdir()
    run.folder.rename(run.folder.parent / "outputs" / "mine")
    assert find_run("mine").folder == find_run("outputs/mine").folder
    with pytest.raises(NoRun, match=r"'cache' is no run(.|\n)*\(.*mine.*\)"):
        find_run("cache")
    with pytest.raises(NoRun, match="NO_SUCH"):
        find_run("$NO_SUCH_FOLDER/x")


def test_a_run_is_found_by_its_contest_file_too(run, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"run: mine\noutputs: {tmp_path}\n01_noise:\n")
    assert find_run(str(file)).folder == run.folder
    file.write_text(f"run: later\noutputs: {tmp_path}\n01_noise:\n")
    with pytest.raises(NoRun, match="later, which has left nothing yet"):
        find_run(str(file))
    file.write_text("runn: mine\n")
    with pytest.raises(ValueError, match="'runn' is neither"):
        find_run(str(file))


def test_a_step_knows_its_stage():
    assert stage_of("10_train-b0") == "10_train" and stage_of("03_fine") == "03_fine"
    assert stage_of("98_unknown") == "98_unknown"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.123456, "0.1235"), (3.0, "3"), (True, "yes"), (None, ""), ([1, 0.5], "1, 0.5")],
)
def test_values_are_shown_in_short(value, shown):
    assert figures.plain(value) == shown


def test_times_are_said_as_people_say_them():
    said = [figures.duration(seconds) for seconds in (None, 42, 323, 11100)]
    assert said == ["", "42 s", "5 min 23 s", "3 h 05 min"]
