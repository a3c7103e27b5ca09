"""The cells of 40_submit, one after the other, on a small run that is made by hand."""

import json
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
from notebook_cells import run_cells
from PIL import Image

from fgvc_utils.answers.forms import from_data, read_file
from fgvc_utils.answers.names import ClassSpelling, spelt_classes
from fgvc_utils.answers.submission import current_submission, read_log
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


def reread(run):
    """The submission in force, read back by what the report says of its form."""
    told = json.loads((run / "report.json").read_text())["40_submit"]
    classes = spelt_classes(CLASSES, ClassSpelling(*told["class_names"].values()))
    return read_file(current_submission(run), from_data(told["form"], classes))


def test_a_zip_without_a_head_line_is_written_shown_and_read_back(run):
    printed, _ = execute(
        run,
        rule="plain",
        header=False,
        image_column="stem",
        class_names="index",
        class_digits=4,
        packing="zip",
        inner_name="pred.csv",
    )
    assert "6 images: no head line, one class, ZIP with pred.csv inside" in printed
    lines = "".join(f"t{number},0000\n" for number in range(1, 6))
    assert f"submission.zip\n{lines}… and 1 lines more" in printed
    with zipfile.ZipFile(run / "submission.zip") as archive:
        assert archive.read("pred.csv").decode().splitlines()[-1] == "t6,0002"
    assert reread(run)[0].tolist() == ["0012"] * 5 + ["NA"]
    (said,) = read_log(run)["settings"]
    assert said == "no head line, one class, ZIP with pred.csv inside"


def test_the_best_classes_begin_with_the_balanced_one(run):
    execute(run, rule="cap", slack=1.0, known_count=2, form="top", top=4)
    found = reread(run)
    assert found[0].tolist() == BALANCED
    # Who was moved comes next under its best class; the class without images stands last.
    assert found.loc["test/t3.jpg"].tolist() == ["7", "0012", "NA", "gone"]


def test_probabilities_and_an_image_that_nobody_saw(run):
    store(run / "ensemble" / "other", {k: v for k, v in TEST.items() if k != "t2"})
    inventory = pd.read_parquet(run / "tables" / "inventory.parquet")
    inventory.loc[inventory["image_id"] == "t2", "cached"] = ""
    inventory.to_parquet(run / "tables" / "inventory.parquet")
    with pytest.raises(ValueError, match="the rule cap gives each image one class"):
        execute(run, form="probabilities")
    assert not (run / "submission.csv").exists()
    execute(run, form="probabilities", rule="plain", ensemble="other")
    found = reread(run)
    assert found.columns.tolist() == CLASSES and (found["gone"] == 0).all()
    assert found.to_numpy().sum(axis=1) == pytest.approx(1, abs=2e-6)
    assert found.loc["test/t1.jpg"].tolist() == pytest.approx([0.9, 0.1, 0, 0], abs=1e-6)
    assert found.loc["test/t2.jpg"].tolist()[:3] == pytest.approx([1 / 3] * 3, abs=1e-6)


def test_a_sample_with_an_image_that_is_gone_and_without_one_that_is_there(run, tmp_path):
    text = "id,cat\n" + "".join(f"{name}.jpg,7\n" for name in ("t6", "t9", "t1", "t2", "t3", "t4"))
    (tmp_path / "data" / "mine" / "sample_submission.csv").write_text(text)
    printed, _ = execute(run, rule="cap", slack=1.0, known_count=2)
    assert "are not among the test images, first 't9.jpg'" in printed
    assert "1 test images are not in sample_submission.csv, first 't5.jpg'" in printed
    written = submitted(run / "submission.csv")
    assert written["id"].tolist() == ["t6.jpg", "t9.jpg", "t1.jpg", "t2.jpg", "t3.jpg", "t4.jpg"]
    # Each class has its two; the one that nobody saw takes what is left.
    assert written["cat"].tolist() == ["NA", "NA", "0012", "0012", "7", "7"]
    report = json.loads((run / "report.json").read_text())["40_submit"]
    assert report["missing_images"] == report["surplus_images"] == 1 and report["images"] == 6


def test_scores_alone_write_the_same_file_where_the_pictures_are_elsewhere(run, tmp_path):
    root = tmp_path / "data" / "mine"
    (root / "prior.csv").write_text("class,count\n0012,4\n7,0\nNA,2\ngone,0\n")
    names = "".join(f"{name},7\n" for name in reversed(TEST))
    (root / "sample_submission.csv").write_text(f"id,cat\n{names}")
    how = {"rule": "cap", "slack": 1.0, "prior": "prior.csv"}
    execute(run, **how)
    before = (run / "submission.csv").read_bytes()
    assert before.startswith(b"id,cat\nt6,NA\n")
    contest = tmp_path / "mine.yaml"
    lines = f"run: mine\noutputs: {run.parent}\ndata_root: mine\n40_submit: {{prior: prior.csv}}\n"
    contest.write_text(lines)
    (step,) = read_contest(contest)
    inputs = inputs_of(step)
    shutil.rmtree(root)
    shutil.rmtree(run.parent / "cache")
    printed, names = execute(run, **how)
    assert (run / "submission.csv").read_bytes() == before and "the same as before" in printed
    assert names.shown.empty and "its picture may be elsewhere" in printed
    # What the step read is what it was, and the check does not ask for pictures.
    assert inputs_of(step) == inputs and "sample_submission.csv" in inputs
    found = check([step])
    assert found.errors == []
    root.parent.rmdir()
    found = check([step])
    assert found.errors == [] and "no such folder" in found.warnings[0]
    # Not even the inventory is needed.
    (run / "tables" / "inventory.parquet").unlink()
    execute(run, **how)
    assert (run / "submission.csv").read_bytes() == before


def test_an_image_that_the_inventory_does_not_know_is_named(run):
    inventory = pd.read_parquet(run / "tables" / "inventory.parquet")
    inventory[inventory["image_id"] != "t3"].to_parquet(run / "tables" / "inventory.parquet")
    with pytest.raises(KeyError, match="no row of image 't3': run 01_noise again"):
        execute(run)


def test_a_run_that_never_saw_the_contests_folder_says_so(run, tmp_path):
    shutil.rmtree(tmp_path / "data")
    printed, _ = execute(run, rule="plain")
    assert "the contest's folder is not there, so no sample was looked at" in printed
    with pytest.raises(FileNotFoundError, match="prior.csv is not there"):
        execute(run, prior="prior.csv")


def test_scores_of_all_are_aligned_whatever_the_block(run, monkeypatch):
    monkeypatch.setattr(results, "BLOCK", 2)
    opened = Store(run / "ensemble" / "vote")
    asked = pd.Series(["t5", "nobody", "t1", "t6"], index=[9, 3, 4, 1], dtype=object)
    left = np.array([True, False, True, True])
    scores = scores_of_all(opened, asked, left, unread=["nobody"])
    expected = [[0.4, 0.3, 0.1], [0, 0, 0], [0.9, 0, 0], [0, 0.9, 0]]
    assert scores == pytest.approx(np.array(expected)) and scores.dtype == np.float32
