"""Probes: a convex fit with a known answer, its decay, and 10_train's cells on tiny pictures."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from notebook_cells import run_cells
from sklearn.linear_model import LogisticRegression
from small_jobs import CLASSES, draw_pictures, small_job

from fgvc_utils.contest import tables
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.contest.tables import new_table, write_table
from fgvc_utils.core.files import write_json
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs import running
from fgvc_utils.jobs.features import feature_job
from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store, softmax
from fgvc_utils.jobs.records import Job, as_written, read_job
from fgvc_utils.jobs.rows import read_rows
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training.models import model_table, teachers
from fgvc_utils.training.probes import best_decay, decay_jobs, probe_job, read_decays
from fgvc_utils.training.refits import put_away, refit_job, refits_of
from fgvc_utils.training.worker import carry_out

IDS = [f"image-{n:02d}" for n in range(90)]
LABELS = np.array([0] * 45 + [1] * 30 + [2] * 15)
WIDTHS = {"one": 5, "two": 3}
VIEWS = ["features", "mirror"]
DECAY = 0.01


def store(folder: Path, width: int, seed: int) -> tuple[Job, None]:
    """Features of IDS under two views, whose first columns tell something of the class."""
    random = np.random.default_rng(seed)
    writer = ShardWriter(folder / "predictions", 0, IDS)
    for view in VIEWS:
        values = random.normal(0, 1, (len(IDS), width)) * np.arange(1, width + 1) + 4
        values[:, 0] += LABELS
        writer.write(view, 0, values.astype(np.float16))
    writer.close()
    finish_store(folder / "predictions", [], 1)
    job = Job(
        name=folder.name, folder=str(folder), rows="", classes=[], fit="none", backbone=folder.name
    )
    return job, None


@pytest.fixture
def features(tmp_path):
    return [store(tmp_path / name, width, n) for n, (name, width) in enumerate(WIDTHS.items())]


@pytest.fixture
def rows():
    fold = np.arange(len(IDS)) % 3
    labels = [CLASSES[label] for label in LABELS]
    made = pd.DataFrame({"image_id": IDS, "file": "", "target": labels, "label": ""})
    return made.assign(fit=fold > 0, validate=fold == 0, predict=True)


def parameters(folder, **changes):
    given = {
        "folder": folder, "size": 32, "test_ratio": 1.0, "probe_views": VIEWS, "balance": "none",
        "keep_prior": False, "keep_empty": False, "seed": 0, "probe_decays": [1e-3, 0.1, 1e-3, 9.0],
    }  # fmt: skip
    return SimpleNamespace(**given | changes)


def run(job, rows):
    write_job(job, rows)
    carry_out(job, Processes(), Progress(None))
    return Store(job.store) if job.keep else None


def by_scikit_learn(features, rows, shown, fixed=0.0):
    """Mean logits of both views of all images, by scikit-learn's fit of the same objective."""
    views = [
        np.concatenate([Store(job.store).read(v) for job, _ in features], axis=1) for v in VIEWS
    ]
    views = [view.astype(np.float64) for view in views]
    plain = views[0][rows["fit"]]
    views = [(view - plain.mean(axis=0)) / plain.std(axis=0, ddof=1) for view in views]
    x = np.concatenate([view[shown] for view in views])
    model = LogisticRegression(C=1 / (DECAY * len(x)), tol=1e-8, max_iter=5000)
    model.fit(x, np.tile(LABELS[shown], 2))
    return sum(model.decision_function(view) for view in views) / 2


def test_a_probe_is_the_logistic_regression_of_scikit_learn(tmp_path, features, rows):
    job = probe_job(parameters(tmp_path), "probe", CLASSES[:3], features, DECAY)
    made = run(job, rows)
    expected = by_scikit_learn(features, rows, np.flatnonzero(rows["fit"]))
    np.testing.assert_allclose(made.probabilities(IDS), softmax(expected), atol=2e-3)
    assert made.read("features").shape == (90, sum(WIDTHS.values())) and job.backbone == "one + two"
    # What is judged is what is predicted: the mean of the views.
    judged = json.loads((tmp_path / "models/probe/done.json").read_text())["figures"]
    held_out = rows["validate"].to_numpy()
    right = expected[held_out].argmax(axis=1) == LABELS[held_out]
    assert judged["n"] == 30 and judged["top1"] == pytest.approx(right.mean())


def test_a_probe_that_oversamples_learns_from_rare_classes_more_often(tmp_path, features, rows):
    rows = rows.assign(fit=rows["fit"] & ~((LABELS == 2) & (np.arange(90) % 2 == 0)))
    cfg = parameters(tmp_path, balance="oversample")
    made = run(probe_job(cfg, "probe", CLASSES[:3], features, DECAY), rows)
    of_class = [np.flatnonzero(rows["fit"] & (LABELS == label)) for label in range(3)]
    assert len(of_class[2]) * 2 == len(of_class[0]) / 3, "each of them is shown twice"
    shown = np.concatenate([*of_class, of_class[2]])
    expected = softmax(by_scikit_learn(features, rows, shown))
    np.testing.assert_allclose(made.probabilities(IDS), expected, atol=2e-3)


def test_the_prior_is_learned_with_and_left_out_of_predictions(tmp_path, features, rows):
    cfg = parameters(tmp_path, balance="prior")
    out = run(probe_job(cfg, "without", CLASSES[:3], features, DECAY), rows).read("logits")
    cfg = parameters(tmp_path, balance="prior", keep_prior=True)
    kept = run(probe_job(cfg, "kept", CLASSES[:3], features, DECAY), rows).read("logits")
    share = np.bincount(LABELS[rows["fit"]]) / rows["fit"].sum()
    difference = (kept - out).astype(float)
    np.testing.assert_allclose(difference, np.tile(np.log(share), (90, 1)), atol=0.01)


@pytest.mark.parametrize("held_out", [True, False])
def test_the_decay_is_chosen_by_images_that_were_left_out(tmp_path, features, rows, held_out):
    folds = pd.DataFrame({"image_id": IDS, "fold": np.arange(90) % 3})
    if not held_out:
        rows = rows.assign(fit=True, validate=False)
    cfg = parameters(tmp_path)
    probe = probe_job(cfg, "probe", CLASSES[:3], features, DECAY)
    tried = decay_jobs(cfg, probe, rows, folds)
    assert list(tried) == [1e-3, 0.1, 9.0]
    for fits in tried.values():
        assert len(fits) == (1 if held_out else 3)
        for job, own in fits:
            run(job, own)
            assert not (own["fit"] & own["validate"]).any()
    fared = read_decays(tried)
    assert fared["n"].tolist() == [30 if held_out else 90] * 3
    # So much decay leaves nothing learned but how frequent the classes are.
    assert fared["loss"].idxmax() == 2 and best_decay(fared) in (1e-3, 0.1)


def test_of_equal_decays_the_least_loss_is_taken():
    fared = pd.DataFrame({"decay": [1, 2, 3], "top1": [0.5, 0.6, 0.6], "loss": [1.0, 3.0, 2.0]})
    assert best_decay(fared) == 3


def test_features_of_another_ratio_or_other_weights_leave_those_that_are_there(tmp_path):
    inventory = pd.DataFrame({"image_id": ["a"], "file": ["a.jpg"], "cached": ["a.jpg"]})

    def asked(**changes):
        given = {"folder": tmp_path, "backbone": "net", "weights": "none", "size": 32}
        job, rows = feature_job(
            SimpleNamespace(**given | {"test_ratio": 1.15} | changes), inventory
        )
        write_job(job, rows)
        return Path(job.folder).name

    assert asked() == "net-32" and asked(test_ratio=1.35) == "net-32-ratio-1.35-none"
    assert asked(weights="hub") == "net-32-ratio-1.15-hub" and asked() == "net-32"


@pytest.fixture
def contest(tmp_path, monkeypatch):
    """A run as 04 leaves it, on tiny pictures; jobs run in this process."""
    monkeypatch.setenv("FGVC_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "mine").mkdir(parents=True)
    folder = tmp_path / "outputs" / "mine"
    drawn = draw_pictures(tmp_path / "outputs/cache", 60)
    train = np.arange(60) < 48
    images = drawn[["image_id"]].assign(
        path=drawn["image_id"], split=np.where(train, "train", "test"),
        given=drawn["target"].where(train, ""),
    ).astype(object)  # fmt: skip
    table = new_table(images)
    table["fold"] = np.where(train, np.arange(60) // 4 % 3, -1)
    write_table(table, folder / "tables" / "04_lowq.parquet")
    files = pd.Series(drawn["file"]).map(lambda file: Path(file).name)
    inventory = pd.DataFrame({"image_id": drawn["image_id"], "cached": files, "path": ""})
    inventory.to_parquet(folder / "tables" / "inventory.parquet")

    def here(jobs, cfg, stage, picture=None):
        for job, rows in jobs:
            write_job(job, rows)
            carry_out(job, Processes(), Progress(None))

    monkeypatch.setattr(running, "run_jobs", here)
    return folder


def train(contest, **parameters):
    given = {"run": "mine", "outputs": str(contest.parent), "data_root": "mine", "name": "probe"}
    given |= {"fit": "probe", "backbone": "test_convnext", "weights": "none", "size": 32}
    given |= {"test_ratio": 1.0, "rate_sweep_steps": 6}
    return run_cells(PROJECT / "notebooks/10_train.ipynb", given | parameters, again=True)


def test_10_train_makes_a_probe_a_model_like_any_other(contest):
    printed, names = train(contest, refit=True)
    job = read_job(contest / "models/probe/job.json")
    assert job.fit == "head" and job.weight_decay == names.decay in names.cfg.probe_decays
    assert Store(job.store).kinds() == ["features", "logits"]
    assert len(Store(job.store).image_ids) == 60
    assert "the fit is a probe" in printed and "no rates were tried" in printed
    table = model_table(names.cfg)
    assert table.loc[0, "model"] == "probe" and table.loc[0, "n"] == 16
    assert table.loc[0, ["mix", "epochs"]].isna().all() and table.loc[0, "backbone"] == job.backbone

    # The last fit knows all 48 train images, answers for the 12 of the test set, and is no model.
    rows = read_rows(names.again)
    assert rows["fit"].sum() == 48 and not rows["validate"].any()
    assert len(Store(names.again.store).image_ids) == 12 == rows["predict"].sum()
    assert read_rows(job)["fit"].sum() == 32 and len(table) == 1
    assert names.again.weight_decay == job.weight_decay
    model = {"probe": contest / "models/probe"}
    assert refits_of(model) == {"probe": contest / "models/probe/refit"}
    put_away(job)
    assert refits_of(model) == {}
    whole = tables.hold_out(names.label_table, names.folds, -1)
    refit_job(job, names.inventory, names.label_table, whole, unlabelled=False)
    assert refits_of(model), "it is there again where it is asked for again"


def test_pictures_are_shown_to_no_teacher_that_is_a_probe(tmp_path, features, capsys):
    probe = probe_job(parameters(tmp_path), "probe", CLASSES, features, DECAY)
    for job in (probe, small_job(tmp_path / "models/network")):
        write_json(as_written(job), job.job_file)
        write_json({}, Path(job.folder) / "done.json")

    def asked(*named, views=2):
        given = {"folder": tmp_path, "name": "student", "teachers": list(named)}
        cfg = SimpleNamespace(**given, teacher_views=views, contest="")
        return [folder.name for folder in teachers(cfg)]

    assert asked(views=0) == ["network", "probe"] and asked() == ["network"]
    assert "without probe, a probe sees none" in capsys.readouterr().out
    with pytest.raises(ParameterError, match="probe is a probe, which reads stored features"):
        asked("probe", "network")
    Path(tmp_path / "models/network/done.json").unlink()
    with pytest.raises(ParameterError, match="name networks as teachers"):
        asked()


def test_a_model_that_the_contest_file_does_not_make_teaches_where_it_is_named(tmp_path, capsys):
    for name in ("one", "two", "left"):
        job = small_job(tmp_path / "models" / name)
        write_json(as_written(job), job.job_file)
        write_json({}, Path(job.folder) / "done.json")
    file = tmp_path / "mine.yaml"
    file.write_text("run: mine\n10_train: [{name: one}, {name: two}]\n20_distill: {name: s}\n")

    def asked(*named):
        given = {"folder": tmp_path, "name": "s", "teachers": list(named), "teacher_views": 0}
        cfg = SimpleNamespace(**given, contest=str(file), run="mine")
        return [folder.name for folder in teachers(cfg)]

    assert asked() == ["one", "two"]
    assert "not asked, though they lie in models/: left; the contest" in capsys.readouterr().out
    assert asked("left", "two") == ["left", "two"]
    file.write_text("run: mine\n20_distill: {name: s}\n")
    assert asked() == ["left", "one", "two"], "it makes none, so all there are"
