"""The cells of 30_ensemble, one after the other, on a small run that is made by hand."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from notebook_cells import run_cells

from fgvc_utils.answers import members
from fgvc_utils.answers.ways import Way, fit_weights
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.contest.tables import new_table, write_table
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs import running
from fgvc_utils.jobs.done import job_digest, mark_done
from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training.worker import carry_out

NOTEBOOK = PROJECT / "notebooks" / "30_ensemble.ipynb"
CLASSES = ["0012", "7", "NA"]
TRAIN, TEST = [f"train-{n}" for n in range(60)], [f"test-{n}" for n in range(20)]
LABELS = {image: CLASSES[n % 3] for n, image in enumerate(TRAIN)}
HELD_OUT = TRAIN[:24]
# How far a model's logits are from the truth: the last one remembers what it was trained on.
NOISE = {"good": 0.8, "fair": 1.5, "poor": 3.0, "cheat": 0.0}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with four finished models, one of which was trained on the held-out fold too."""
    monkeypatch.setenv("FGVC_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "mine").mkdir(parents=True)
    rows = [(name, f"train/{name}.jpg", "train", LABELS[name]) for name in TRAIN]
    rows += [(name, f"test/{name}.jpg", "test", "") for name in TEST]
    columns = ["image_id", "path", "split", "given"]
    images = pd.DataFrame(rows, columns=columns).astype(object)
    table = new_table(images)
    table["fold"] = np.where(images["image_id"].isin(HELD_OUT), 0, 1)
    table.loc[table["split"] == "test", "fold"] = -1
    folder = tmp_path / "outputs" / "mine"
    write_table(table, folder / "tables" / "04_lowq.parquet")
    cache = tmp_path / "outputs" / "cache"
    cache.mkdir(parents=True)
    (cache / "a.jpg").write_bytes(b"never decoded here")
    inventory = pd.DataFrame({"image_id": images["image_id"], "cached": "a.jpg"})
    inventory.to_parquet(folder / "tables" / "inventory.parquet")
    for seed, name in enumerate(NOISE):
        finished_model(folder / "models" / name, images["image_id"], NOISE[name], seed)
    for module in (running, members):
        monkeypatch.setattr(module, "run_jobs", run_here)
    return folder


def finished_model(
    folder: Path,
    ids: pd.Series,
    noise: float,
    seed: int,
    classes: list[str] = CLASSES,
    kinds: tuple[str, ...] = ("logits", "features", "augmented-0"),
    predicted: list[str] | None = None,
    **changes: object,
) -> None:
    random = np.random.default_rng(seed)
    truth = np.array([CLASSES.index(LABELS.get(image, CLASSES[hash_of(image)])) for image in ids])
    logits = 3 * np.eye(3)[truth] + random.normal(0, noise, (len(ids), 3))
    shown = ids.isin(ids if predicted is None else predicted)
    writer = ShardWriter(folder / "predictions", 0, ids[shown].tolist())
    for kind in kinds:
        writer.write(kind, 0, logits[shown].astype(np.float16))
    writer.close()
    finish_store(folder / "predictions", classes, 1)
    rows = pd.DataFrame({"image_id": ids, "file": "", "target": ids.map(LABELS).fillna("")})
    fit = ids.isin(TRAIN) & (~ids.isin(HELD_OUT) | (folder.name in ("cheat", "refit")))
    rows = rows.assign(label="", fit=fit, validate=False, predict=shown)
    job = Job(
        name=folder.name, folder=str(folder), rows=str(folder / "rows.parquet"), classes=CLASSES,
        **{"fit": "full", "global_batch": 4, "micro_batch": 4} | changes,
    )  # fmt: skip
    write_job(job, rows)
    mark_done(job, job_digest(job), 1.0, {})


def hash_of(image: str) -> int:
    """The class of a test image, which no table holds."""
    return int(image.partition("-")[2]) % 3


def run_here(jobs: list, cfg: object, stage_name: str, picture: object = None) -> None:
    """In place of a launch: the same jobs in this process."""
    for job, rows in jobs:
        write_job(job, rows)
        carry_out(job, Processes(), Progress(None))


def execute(run: Path, again: bool = False, **parameters: object) -> tuple[str, SimpleNamespace]:
    """Run the notebook's code cells; returns what they printed and their names."""
    given = {"run": "mine", "outputs": str(run.parent), "data_root": "mine", "mean_sizes": [3, 2]}
    given |= {"epochs": 3, "global_batch": 12, "micro_batch": 12, "rate": 0.05}
    return run_cells(NOTEBOOK, given | parameters, again=again)


def test_a_model_that_saw_the_held_out_fold_is_named_and_neither_ranks_nor_votes(run):
    printed, names = execute(run, convolution_models=3)
    assert "left out, trained on held-out images: cheat" in printed
    assert set(names.ranked) == {"good", "fair", "poor"}
    assert names.saw.loc["cheat", "trained on"] == len(HELD_OUT)
    report = json.loads((run / "report.json").read_text())["30_ensemble"]
    assert report["left_out"] == ["cheat"] and report["voters"] == 4
    assert report["held_out"] == 24 and "cheat" not in report["single"]
    assert set(report["ensembles"]) == {
        "mean of 3", "mean of 2", "features + layer, random views",
        "features + layer, test views", "convolution over models",
        "convolution along features", "vote",
    }  # fmt: skip
    assert set(names.added["kind"]) == {"voter", "member"} and len(names.added) == 4 + 3
    # The whole of each way stands in the report.
    assert [Way(**way) for way in report["ways"]] == names.parts[-1].ways


def test_the_scores_are_the_vote_of_what_the_models_and_layers_predicted(run):
    printed, names = execute(run)
    store = Store(run / "ensemble" / "vote")
    assert set(store.image_ids) == {*HELD_OUT, *TEST} and store.classes == CLASSES
    asked = [*TEST, *HELD_OUT]
    single = {n: Store(run / "models" / n / "predictions").probabilities(asked) for n in NOISE}
    layers = [Store(job.store).probabilities(asked) for job in names.layers.values()]
    means = [np.mean([single[n] for n in names.ranked[:count]], axis=0) for count in (3, 2)]
    results = [*means, *layers]
    votes = sum(np.eye(3)[result.argmax(axis=1)] for result in results)
    expected = votes + np.mean(results, axis=0)
    np.testing.assert_allclose(store.read("scores", asked), expected, rtol=1e-5, atol=1e-6)
    truth = [CLASSES.index(LABELS[image]) for image in HELD_OUT]
    top1 = (expected[len(TEST) :].argmax(axis=1) == truth).mean()
    assert names.scores.loc["vote", "top1"] == pytest.approx(top1)


def test_a_model_admitted_by_its_name_answers_for_test_images_only(run):
    printed, names = execute(run, seen_models=["cheat"], augmented_models=0, plain_models=0)
    assert "admitted to the means of test images only: cheat" in printed
    assert set(names.ranked) == {"good", "fair", "poor"}
    assert names.for_test[0].name == "mean of 3"
    assert names.for_test[0].weights == pytest.approx(dict.fromkeys(NOISE, 0.25))
    assert "cheat" not in names.for_half[0].weights
    without = execute(run, augmented_models=0, plain_models=0)[1]
    assert names.scores.equals(without.scores), "no held-out figure is one of it"


def test_fitted_weights_are_those_of_the_other_half(run):
    printed, names = execute(run, mean_weights="fitted", augmented_models=0, plain_models=0)
    three = [part[0].weights for part in (names.for_half, names.for_rest, names.for_test)]
    for weights in three:
        assert sum(weights.values()) == pytest.approx(1) and weights["good"] > weights["poor"]
    assert three[0] != three[1] != three[2]
    # What answers for one half was fitted on the other.
    (answered,) = names.parts[:1]
    own = names.alone.own.drop(index=answered.image_ids)
    again = fit_weights(own[list(three[0])].to_numpy())
    np.testing.assert_allclose(list(three[0].values()), again)


def test_without_a_held_out_fold_all_models_are_members_and_nothing_is_judged(run):
    printed, names = execute(run, held_out_fold=-1, augmented_models=0, plain_models=0)
    assert names.ranked == sorted(NOISE) and names.asked.judged == []
    assert "chosen on one half" not in printed
    assert "left out, trained on held-out images: none" in printed
    assert Store(run / "ensemble" / "vote").image_ids.tolist() == TEST


def test_models_of_another_contest_are_named(run):
    ids = pd.Series([*TRAIN, *TEST])
    finished_model(run / "models" / "other", ids, 1.0, 9, ["0012", "7", "none"])
    with pytest.raises(ValueError, match="other/predictions differ in their classes .*'NA'"):
        execute(run)


def test_a_soup_is_one_more_member(run, monkeypatch):
    ids = pd.Series([*TRAIN, *TEST])
    folder = run / "soups" / "soup-1"
    finished_model(folder, ids, 0.5, 7)
    monkeypatch.setattr(members, "soups", lambda *_: {"soup-1": folder})
    _, names = execute(run, soup="uniform", mean_sizes=[4], plain_models=0)
    assert set(names.ranked) == {"good", "fair", "poor", "soup-1"}
    assert [way.name for way in names.for_test] == ["mean of 4"]
    assert set(names.for_test[0].weights) == set(names.ranked)
    assert str(folder / "predictions") in next(iter(names.layers.values())).stores


def test_a_probe_is_a_member_without_random_views_other_views_and_soups(run, capsys):
    ids, kinds = pd.Series([*TRAIN, *TEST]), ("logits", "features")
    probe = {"fit": "head", "optimiser": "lbfgs"}
    for seed, name in enumerate(("a-probe", "b-probe")):
        finished_model(run / "models" / name, ids, 0.1, seed, kinds=kinds, **probe)
    printed, names = execute(run, augmented_models=3, plain_models=2, mean_sizes=[5])
    assert {"a-probe", "b-probe"} == set(names.ranked[:2]) <= set(names.for_test[0].weights)
    assert "random views: without" in printed
    by_random, by_test = (job.stores for job in names.layers.values())
    assert [Path(store).parent.name for store in by_random] == ["good", "fair", "poor"]
    assert [Path(store).parent.name for store in by_test] == names.ranked[:2]
    cfg = names.cfg.model_copy(update={"test_views": "flip", "soup": "uniform"})
    probes = {name: run / "models" / name for name in ("a-probe", "b-probe")}
    assert members.view_stores(cfg, "30_ensemble", probes, ids) == {}
    assert "at their own views stay a-probe, b-probe" in capsys.readouterr().out
    assert members.soups(cfg, "30_ensemble", list(probes.values()), names.asked.truth, {}) == {}


def test_a_refit_answers_for_test_images_and_moves_no_held_out_figure(run, capsys):
    before = execute(run, mean_weights="fitted", mean_sizes=[3])[1]
    once = Store(run / "ensemble/vote").read("scores", [*HELD_OUT, *TEST])
    ids, refit = pd.Series([*TRAIN, *TEST]), run / "models/good/refit"
    finished_model(refit, ids, 3.0, 99, kinds=("logits",), predicted=TEST)
    printed, after = execute(run, mean_weights="fitted", mean_sizes=[3])
    assert "which answers for test images: good;" in printed
    assert after.floored["refit"].to_dict() == {"good": True, "fair": False, "poor": False}
    assert after.scores.equals(before.scores) and after.alone.own.equals(before.alone.own)
    again = Store(run / "ensemble/vote").read("scores", [*HELD_OUT, *TEST])
    np.testing.assert_array_equal(again[: len(HELD_OUT)], once[: len(HELD_OUT)])
    of_refit = Store(refit / "predictions").probabilities(TEST)
    (_, block), = after.of_models.blocks(TEST, ["good"])  # fmt: skip
    np.testing.assert_allclose(block["good"], of_refit, rtol=1e-6)
    read = [Path(store).parent for job in after.layers.values() for store in job.stores]
    assert refit not in read and run / "models/good" in read
    assert json.loads((run / "report.json").read_text())["30_ensemble"]["refitted"] == ["good"]


def test_a_refit_of_another_recipe_or_of_images_that_it_saw_is_not_taken(run):
    ids, refit = pd.Series([*TRAIN, *TEST]), run / "models/good/refit"
    finished_model(refit, ids, 1.0, 99, kinds=("logits",), predicted=TEST, epochs=7)
    printed, names = execute(run, augmented_models=0, plain_models=0)
    assert "the refit of good is left out: its epochs is another one" in printed
    assert names.refits == {}
    finished_model(refit, ids, 1.0, 99, kinds=("logits",))
    with pytest.raises(ValueError, match="predicted image 'train-0', on which it was fitted"):
        execute(run, augmented_models=0, plain_models=0)


def test_a_calibration_changes_the_scores_that_40_gets_crosswise(run):
    plain = execute(run, augmented_models=0, plain_models=0)[1]
    assert plain.brought.index.tolist() == ["none", "temperature", "bias"]
    votes = Store(run / "ensemble/vote").read("scores", [*HELD_OUT, *TEST])
    printed, names = execute(run, augmented_models=0, plain_models=0, calibration="bias")
    assert "calibration that is used: bias" in printed
    assert names.brought.equals(plain.brought) and names.scores.equals(plain.scores)
    store = Store(run / "ensemble/vote")
    first, second, test = (part.image_ids for part in names.parts)
    for ids, own in zip((first, second, test), names.fitted["bias"], strict=True):
        rows = [[*HELD_OUT, *TEST].index(image) for image in ids]
        expected = own.applied(votes[rows])
        np.testing.assert_allclose(store.read("scores", ids), expected, rtol=1e-5)
    report = json.loads((run / "report.json").read_text())["30_ensemble"]
    assert report["calibration"]["bias"]["n"] == len(HELD_OUT)


def test_the_convolution_votes_where_its_parameter_says_so(run):
    without = execute(run, convolution_models=2, plain_models=0)[1]
    assert "convolution over models" not in without.voting
    votes = execute(run, convolution_models=2, plain_models=0, vote_convolution=True)[1]
    assert {"convolution over models", "convolution along features"} <= set(votes.voting)


def contest_of(run: Path, *names: str, of: str = "mine") -> str:
    """A contest file of the run that makes some models; its path."""
    file = run.parent / "mine.yaml"
    models = [{"name": name} for name in names]
    stages = {"10_train": models} if models else {"40_submit": {}}
    file.write_text(yaml.safe_dump({"run": of, "outputs": str(run.parent)} | stages))
    return str(file)


def test_what_the_contest_file_makes_votes_and_what_else_lies_there_is_named(run):
    plain = {"augmented_models": 0, "plain_models": 0}
    file = contest_of(run, "good", "poor", "later")
    printed, names = execute(run, contest=file, **plain)
    assert set(names.folders) == {"good", "poor"}
    assert "not asked, though they lie in models/: cheat, fair; the contest file" in printed
    assert "not there yet, though the contest file makes them: later" in printed
    report = json.loads((run / "report.json").read_text())["30_ensemble"]
    assert report["members"] == ["good", "poor"] and report["not_asked"] == ["cheat", "fair"]
    printed, names = execute(run, contest=file, models=["fair", "good"], **plain)
    assert set(names.folders) == {"fair", "good"}
    assert "not asked, though they lie in models/: cheat, poor; `models` does not" in printed
    _, names = execute(run, contest=file, seen_models=["cheat"], **plain)
    assert names.admitted == ["cheat"], "one that is admitted by its name is asked"


def test_where_the_contest_file_makes_no_model_or_is_of_another_run_all_are_asked(run):
    plain = {"augmented_models": 0, "plain_models": 0}
    for file in (contest_of(run), contest_of(run, "good", of="other")):
        printed, names = execute(run, contest=file, **plain)
        assert set(names.folders) == set(NOISE)
        assert "every model that lies in models/ is asked" in printed
    with pytest.raises(FileNotFoundError, match="no finished model 'later'"):
        execute(run, contest=contest_of(run, "later"), **plain)


def test_every_cell_may_be_run_again(run):
    once = execute(run, mean_weights="fitted", seen_models=["cheat"])[1]
    report = json.loads((run / "report.json").read_text())
    scores = Store(run / "ensemble" / "vote").digest("scores")
    more = execute(run, again=True, mean_weights="fitted", seen_models=["cheat"])[1]
    assert json.loads((run / "report.json").read_text()) == report
    assert Store(run / "ensemble" / "vote").digest("scores") == scores
    assert more.scores.equals(once.scores) and more.added.equals(once.added)
