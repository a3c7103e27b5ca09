"""The cells of 04, in this process: what is found, decided and written of whole classes."""

import json

import numpy as np
import pandas as pd
import pytest
from notebook_cells import run_cells
from PIL import Image
from test_classes import EACH, clusters, everything

from fgvc_utils.contest import tables
from fgvc_utils.contest.journal import Journal
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.core.files import read_json
from fgvc_utils.jobs import results, running

NOTEBOOK = PROJECT / "notebooks" / "04_lowq.ipynb"
# `bea` is a second name of bee, and nearly half of fox shows cat.
SHOWS = everything() + ["bee"] * 40 + ["cat"] * 36
GIVEN = everything() + ["bea"] * 40 + ["fox"] * 36


@pytest.fixture
def run_04(tmp_path, monkeypatch):
    """Runs the notebook on features that are there, with some parameters set."""
    ids = [f"{number:04d}" for number in range(len(GIVEN))]
    listed = pd.DataFrame({"image_id": ids, "path": ids, "split": "train", "given": GIVEN})
    table = tables.new_table(listed.astype(object))
    features = pd.Series(list(clusters(SHOWS)), ids)
    folder = tmp_path / "small"
    tables.write_table(table, folder / "tables/03_fine.parquet")
    (tmp_path / "cache").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "cache/one.jpg")
    inventory = pd.DataFrame({"image_id": ids, "cached": "one.jpg", "error": ""})
    inventory.to_parquet(folder / "tables/inventory.parquet")
    monkeypatch.setattr(running, "run_jobs", lambda *_: None)
    monkeypatch.setattr(
        results, "read_features", lambda _, wanted: (np.stack(features[wanted]), wanted)
    )
    shared = {"run": "small", "outputs": str(tmp_path), "data_root": str(tmp_path)}

    def run(**more):
        printed, names = run_cells(NOTEBOOK, shared | more)
        after = tables.read_table(folder / "tables/04_lowq.parquet")
        return printed, names, after, read_json(folder / "report.json")["04_lowq"]

    run.journal = Journal(folder / "decisions/04_classes.csv")
    run.before, run.folder = table, folder
    return run


def changed(before, after):
    return after[(before["label"] != after["label"]) | (before["status"] != after["status"])]


def test_findings_are_shown_and_nothing_happens_without_a_decision(run_04):
    printed, names, after, report = run_04()
    assert changed(run_04.before, after).empty and not run_04.journal.path.exists()
    shown = names.findings.review.candidates
    assert [json.loads(item)[:2] for item in shown["item"]] == [["pair", "bea"], ["part", "fox"]]
    assert [len(images) for images in shown["image"]] == [10, 10]
    assert shown["caption"][0].startswith("one: bea (40, 5 shown) | bee (40, 5 shown)\ngiven one")
    assert shown["suggested"].tolist() == ["", "cat"]
    assert report["findings"] == {"one": 1, "two": 1} and report["class_decisions"] == []
    assert "2 findings on whole classes; 0 decisions" in printed


def test_what_a_person_decides_is_in_the_next_table_and_can_be_undone(run_04):
    _, names, *_ = run_04()
    findings = names.findings.review
    findings.decide([0], "merge")
    findings.decide([1], "relabel", suggestion=1)
    assert run_04.journal.read()["reviewer"].all() and run_04.journal.read()["time"].all()
    _, names, after, report = run_04()
    moved = changed(run_04.before, after)
    assert set(moved["by"]) == {"human"} and set(moved["cause"]) == {"merged", "relabelled"}
    assert (after.loc[after["given"] == "bee", "label"] == "bea").all()
    assert len(moved) == pytest.approx(EACH + 36, abs=3)
    assert tables.emptied_classes(after) == ["bee"]
    told = [(each["decision"], each["by"]) for each in report["class_decisions"]]
    assert told == [("merge bee into bea", "human"), ("split fox, a part to cat", "human")]
    assert names.findings.review.decided == 2, "what was decided is found again"
    names.findings.review.decide([0], "leave")
    run_04.journal.append(names.findings.review.items[1], "leave", reviewer="eve")
    names.findings.review.decide([1], "leave")
    _, _, after, _ = run_04()
    assert changed(run_04.before, after).empty


def test_the_contest_file_decides_where_no_person_did_and_its_classes_are_not_dropped(run_04):
    stated = [{"merge": ["bee", "bea"], "into": "bee"}, {"split": "fox"}]
    _, names, after, _ = run_04(class_decisions=stated, drop_below=1.0, kept_below=1.0)
    assert set(after.loc[after["given"] == "bea", "label"]) == {"bee"}
    assert set(after.loc[after["cause"] == "split", "by"]) == {"rule"}
    kept = after[tables.kept(after)]
    assert {"bee", "fox"} <= set(kept["label"])


def test_an_unknown_class_is_named_before_any_work(run_04, monkeypatch):
    monkeypatch.setattr(running, "run_jobs", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(ValueError, match="class_decisions: swap bee and ox: .* no class 'ox'"):
        run_04(class_decisions=[{"swap": ["bee", "ox"]}])
    with pytest.raises(ValueError, match="class_decisions"):
        run_04(class_decisions=[{"merge": ["bee", "bea"]}])


def test_a_review_that_is_required_asks_for_the_findings_too(run_04):
    with pytest.raises(RuntimeError, match="One subject or two.* 2 of 2 candidates"):
        run_04(require_review=True, small_class=1)
    run_04(require_review=True, small_class=1, compared_classes=0)


def test_a_decision_on_a_part_outlives_the_image_that_stands_for_it(run_04):
    _, names, *_ = run_04()
    names.findings.review.decide([1], "relabel", suggestion=1)
    _, _, with_all, _ = run_04()
    item = names.findings.review.items[1]
    image = json.loads(item)[2]
    folder = run_04.folder
    left = run_04.before[run_04.before["image_id"] != image]
    tables.write_table(left, folder / "tables/03_fine.parquet")
    printed, names, after, report = run_04()
    assert "change nothing" not in printed
    assert [each["decision"] for each in report["class_decisions"]] == ["split fox, a part to cat"]
    moved = set(changed(left, after)["image_id"])
    before = set(changed(run_04.before, with_all)["image_id"]) - {image}
    assert len(moved ^ before) <= 2, "the same part goes"
    review = names.findings.review
    assert item in review.items and review.is_decided(review.position[item])
    assert review.left == 1, "it is not asked for again"
