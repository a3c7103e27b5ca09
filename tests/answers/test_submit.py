"""The cells of 40_submit, one after the other, on a small run that is made by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from notebook_cells import run_cells
from PIL import Image

from fgvc_utils.answers.submission import read_log
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.contest.tables import leave_out, new_table, write_table
from fgvc_utils.jobs import results
from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store
from fgvc_utils.jobs.results import scores_of_all
from fgvc_utils.pipeline.checking import check
from fgvc_utils.pipeline.contest_file import read_contest
from fgvc_utils.pipeline.stamps import inputs_of

NOTEBOOK = PROJECT / "notebooks" / "40_submit.ipynb"
CLASSES = ["0012", "7", "NA", "gone"]
# Two test images a class are known; the scores put five of six into the first one.
TEST = {
    "t1": [0.9, 0.1, 0.0, 0.0],
    "t2": [0.8, 0.1, 0.1, 0.0],
    "t3": [0.6, 0.4, 0.0, 0.0],
    "t4": [0.5, 0.3, 0.2, 0.0],
    "t5": [0.4, 0.2, 0.3, 0.1],
    "t6": [0.0, 0.1, 0.9, 0.0],
}
BALANCED = ["0012", "0012", "7", "7", "NA", "NA"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run with three test classes of two images, an emptied class and an unread test image."""
    monkeypatch.setenv("FGVC_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "mine").mkdir(parents=True)
    train = [(f"train-{n}", CLASSES[n % 4]) for n in range(24)]
    rows = [(name, f"train/{label}/{name}.jpg", "train", label) for name, label in train]
    rows += [(name, f"test/{name}.jpg", "test", "") for name in TEST]
    columns = ["image_id", "path", "split", "given"]
    images = pd.DataFrame(rows, columns=columns).astype(object)
    table = new_table(images)
    table = leave_out(table, table["given"] == "gone", "04_lowq", "small_class")
    folder = tmp_path / "outputs" / "mine"
    write_table(table, folder / "tables" / "04_lowq.parquet")
    cache = tmp_path / "outputs" / "cache"
    cache.mkdir(parents=True)
    Image.new("RGB", (32, 32), "green").save(cache / "a.jpg")
    inventory = pd.DataFrame({"image_id": images["image_id"], "cached": "a.jpg"})
    inventory.to_parquet(folder / "tables" / "inventory.parquet")
    random = np.random.default_rng(0)
    held_out = {name: random.random(4) + 2 * (np.array(CLASSES) == c) for name, c in train[:16]}
    store(folder / "ensemble" / "vote", TEST | held_out)
    return folder


def store(folder, scores):
    writer = ShardWriter(folder, 0, list(scores))
    writer.write("scores", 0, np.array(list(scores.values()), np.float32))
    writer.close()
    finish_store(folder, CLASSES, 1)


def execute(run, again=False, **parameters):
    """Run the notebook's code cells; returns what they printed and their names."""
    given = {"run": "mine", "outputs": str(run.parent), "data_root": "mine", "resamples": 3}
    return run_cells(NOTEBOOK, given | parameters, again=again)


def submitted(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "cap", "slack": 1.0},
        {"rule": "sinkhorn", "repair": True},
        {"rule": "exact"},
    ],
    ids=lambda settings: settings["rule"],
)
def test_known_counts_balance_the_answers(run, settings):
    printed, names = execute(run, known_count=2, **settings)
    assert submitted(run / "submission.csv")["class"].tolist() == BALANCED
    assert "could not be read" not in printed and "3 of 4 classes have train images" in printed
    assert f"→ {settings['rule']}: " in printed
    assert "classes are known: 2 images a class" in printed and "by 12 held-out images" in printed
    assert "the estimated shares differ from these by" in printed
    assert "held-out images that do have these shares" in printed
    assert f"{settings['rule']} against plain, if the test set is as assumed" in printed
    assert set(names.gained["target"]) == {"as assumed", "as estimated"}
    assert names.shown["caption"].tolist()[0] in ("0012\n→ 7", "0012\n→ NA")
    report = json.loads((run / "report.json").read_text())["40_submit"]
    assert report["changed"] == len(names.moved) == 3 and report["file"] == "submission.csv"
    assert set(report["gain"]) == {"as assumed", "as estimated"}


def test_plain_says_what_the_cap_would_bring(run):
    printed, _ = execute(run, rule="plain")
    expected = ["0012"] * 5 + ["NA"]
    assert submitted(run / "submission.csv")["class"].tolist() == expected
    assert "balancing is a bet that they are equal" in printed and "cap against plain" in printed


def test_a_prior_from_a_file_is_taken_and_is_an_input_of_the_step(run, tmp_path):
    prior = tmp_path / "data" / "mine" / "prior.csv"
    prior.write_text("class,count\n0012,4\n7,0\nNA,2\ngone,0\n")
    printed, _ = execute(run, rule="cap", slack=1.0, prior="prior.csv")
    assert submitted(run / "submission.csv")["class"].tolist() == ["0012"] * 4 + ["NA"] * 2
    assert "known from prior.csv" in printed
    contest = tmp_path / "mine.yaml"
    contest.write_text(
        f"run: mine\noutputs: {run.parent}\ndata_root: mine\n40_submit: {{prior: prior.csv}}\n"
    )
    (step,) = read_contest(contest)
    before = inputs_of(step)
    assert check([step]).errors == []
    prior.write_text("class,count\n0012,1\n7,1\nNA,1\ngone,0\n")
    after = inputs_of(step)
    assert [name for name in before if before[name] != after[name]] == ["prior.csv"]
    prior.unlink()
    (problem,) = check([step]).errors
    assert "40_submit: prior" in problem and "prior.csv is not there" in problem


def test_another_rule_writes_another_file_and_the_list_tells_them_apart(run):
    execute(run, rule="plain")
    execute(run, rule="cap", slack=1.0)
    printed, _ = execute(run, rule="cap", slack=1.0)
    assert "the same as before" in printed
    log = read_log(run)
    assert log["file"].tolist() == ["submission.csv", "submission-002.csv"]
    assert log["rule"].tolist() == ["plain", "cap"] and log["changed"].tolist() == ["0", "3"]
    assert log["settings"].tolist() == ["", "slack 1.0"] and log["cap"].tolist() == ["0", "2"]
    assert set(log["scores_sha256"]) == {Store(run / "ensemble/vote").digest("scores")}


def test_every_cell_may_be_run_again_and_nothing_is_submitted_twice(run):
    execute(run, again=True, rule="cap", slack=1.0, known_count=2)
    printed, _ = execute(run, rule="cap", slack=1.0, known_count=2)
    assert "the same as before" in printed and len(read_log(run)) == 1
    assert sorted(path.name for path in run.glob("submission*")) == [
        "submission.csv",
        "submissions.csv",
    ]


def test_without_held_out_images_the_probabilities_stand_in(run):
    store(run / "ensemble" / "other", {k: v for k, v in TEST.items() if k != "t2"})
    with pytest.raises(KeyError, match="has no row of image 't2'"):
        execute(run, ensemble="other", rule="cap", slack=1.0)
    inventory = pd.read_parquet(run / "tables" / "inventory.parquet")
    unread = inventory["image_id"] == "t2"
    inventory.assign(cached=inventory["cached"].mask(unread, "")).to_parquet(
        run / "tables" / "inventory.parquet"
    )
    printed, _ = execute(run, ensemble="other", rule="cap", slack=1.0)
    assert (
        "1 of them could not be read" in printed and "by the test images' probabilities" in printed
    )
    assert set(submitted(run / "submission.csv")["path"]) == {f"test/{name}.jpg" for name in TEST}
    assert read_log(run)["scores"].tolist() == ["other"]


def test_a_comparison_can_be_left_out(run):
    printed, names = execute(run, resamples=0)
    assert names.gained.empty and "Nothing is compared" in printed
    assert "held-out images\n" not in printed, "what is not compared is compared by no images"


def test_two_beliefs_at_once_are_refused_before_any_work(run):
    with pytest.raises(ParameterError, match="known_count and prior"):
        execute(run, known_count=2, prior="prior.csv")
    assert not (run / "submission.csv").exists()


def test_scores_of_all_are_aligned_whatever_the_block(run, monkeypatch):
    monkeypatch.setattr(results, "BLOCK", 2)
    opened = Store(run / "ensemble" / "vote")
    asked = pd.Series(["t5", "nobody", "t1", "t6"], index=[9, 3, 4, 1], dtype=object)
    left = np.array([True, False, True, True])
    scores = scores_of_all(opened, asked, left, unread=["nobody"])
    expected = [[0.4, 0.3, 0.1], [0, 0, 0], [0.9, 0, 0], [0, 0.9, 0]]
    assert scores == pytest.approx(np.array(expected)) and scores.dtype == np.float32
