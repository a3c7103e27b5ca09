"""The switches of a recipe do what they say: one small fit beside another that differs in one."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small_jobs import CLASSES, WHOLE, draw_pictures, small_job

from fgvc_utils.core.files import read_json
from fgvc_utils.hardware.distributed import Processes, workers_of
from fgvc_utils.hardware.progress import Progress, read_events
from fgvc_utils.jobs.done import is_done, job_digest
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.results import read_logits
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training import backbones
from fgvc_utils.training.material import Material
from fgvc_utils.training.models import taught_cleanly
from fgvc_utils.training.networks import autocast_dtype, new_network
from fgvc_utils.training.recipes import (
    decode,
    rate_sweeps,
    ratio_job,
    ratio_sweep,
    read_rate_sweep,
    view_jobs,
)
from fgvc_utils.training.starting import load_model
from fgvc_utils.training.worker import carry_out

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    drawn = draw_pictures(tmp_path_factory.mktemp("pictures"), 96)
    held = np.arange(len(drawn)) % 3 == 0
    return drawn.assign(fit=~held, validate=held)


def carried_out(rows: pd.DataFrame, folder: Path, **changes: object) -> Job:
    """Carry a small job out in this process."""
    job = small_job(folder, **({"size": 32} | changes))
    write_job(job, rows)
    carry_out(job, Processes(), Progress(None))
    return job


def weights(job: Job) -> dict[str, torch.Tensor]:
    return load_file(Path(job.folder) / "weights.safetensors")


def log(job: Job) -> pd.DataFrame:
    return pd.read_csv(Path(job.folder) / "log.csv")


def furthest(one: dict, other: dict) -> float:
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


def test_changes_on_the_device_train_the_same_network_as_changes_in_the_workers(rows, tmp_path):
    recipe = {"augmentation": WHOLE, "mix": "cutmix", "mix_probability": 0.7}
    made = {
        on: carried_out(rows, tmp_path / on, changes_on=on, **recipe)
        for on in ("workers", "device")
    }
    plain = carried_out(rows, tmp_path / "plain")
    assert furthest(weights(made["workers"]), weights(made["device"])) == 0
    assert furthest(weights(made["workers"]), weights(plain)) > 1e-4


def test_the_wait_for_pictures_is_measured_wherever_they_are_read(rows, tmp_path):
    kept = {"keep": ["logits", "features", "augmented"], "augmented_views": 2}
    job = carried_out(rows, tmp_path / "fit", backbone="test_efficientnet", epochs=1, **kept)
    done = read_json(tmp_path / "fit" / "done.json")
    predicting = done["predicting"]
    assert 0 < predicting["waiting"] < 1 and 0 < predicting["seconds"] <= done["seconds"] + 0.05
    # The test view and two more views of each image.
    images = 3 * len(rows) / predicting["seconds"]
    assert predicting["images_per_second"] == pytest.approx(images)
    assert 0 < log(job)["waiting"].iloc[0] < 1
    renewed = carried_out(
        rows, tmp_path / "renewed", backbone="test_efficientnet", fit="none", keep=[],
        trained=str(tmp_path / "fit" / "weights.safetensors"), renew_statistics=True,
    )  # fmt: skip
    done = read_json(Path(renewed.folder) / "done.json")
    assert 0 < done["figures"]["waiting"] < 1 and done["figures"]["n"] == 32
    assert done["predicting"] == {}


def test_auto_is_the_shorter_float_where_the_device_gains():
    assert autocast_dtype("auto", torch.device("cpu")) is None
    assert autocast_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert autocast_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    assert autocast_dtype("float32", torch.device("cuda")) is None


def test_the_average_of_the_weights_is_kept_and_judged(rows, tmp_path):
    plain = carried_out(rows, tmp_path / "plain", keep_every_step=True)
    averaged = carried_out(rows, tmp_path / "ema", keep_every_step=True, ema_decay=0.6)
    steps = [load_file(f) for f in sorted((tmp_path / "ema" / "steps").glob("*"))]
    trained = [load_file(f) for f in sorted((tmp_path / "plain" / "steps").glob("*"))]
    assert furthest(steps[-1], trained[-1]) == 0, "averaging must not change the training"
    # By hand: after step n (from 1) the decay is 0 for the first, then 1 - n^(-2/3), at most 0.6.
    name = "body.head.fc.weight"
    mean = steps[0][name]
    for number, state in enumerate(steps[1:], start=2):
        decay = min(0.6, 1 - number ** (-2 / 3))
        mean = decay * mean + (1 - decay) * state[name]
    assert name in weights(averaged)
    torch.testing.assert_close(weights(averaged)[name], mean, atol=1e-6, rtol=1e-5)
    assert (log(plain)["loss"] != log(averaged)["loss"]).any()
    np.testing.assert_allclose(log(plain)["train_loss"], log(averaged)["train_loss"])


@pytest.mark.parametrize("backbone", ["test_convnext", "test_efficientnet"])
def test_gradient_checkpointing_changes_memory_alone(rows, tmp_path, backbone):
    with_it, without = (
        carried_out(
            rows, tmp_path / str(on), backbone=backbone, epochs=1, gradient_checkpointing=on
        )
        for on in (True, False)
    )
    one, other = weights(with_it), weights(without)
    # Batches are counted twice, which nothing reads.
    names = [name for name in one if "num_batches" not in name]
    assert furthest({n: one[n] for n in names}, {n: other[n] for n in names}) < 1e-6


def test_a_log_tells_throughput_waiting_and_rate(rows, tmp_path):
    told = log(carried_out(rows, tmp_path / "a", epochs=3))
    assert (told["images_per_second"] > 0).all() and told["waiting"].between(0, 1).all()
    # 64 images are two steps of 32 an epoch; a cosine over all six steps.
    expected = [0.01 * (1 + np.cos(np.pi * step / 6)) / 2 for step in (3, 5)]
    np.testing.assert_allclose(told["lr"][1:], expected)
    seconds = told["seconds"]
    np.testing.assert_allclose(told["images_per_second"] * seconds, 64)


def test_a_rate_sweep_tries_rising_rates_and_suggests_one_between(rows, tmp_path):
    job = carried_out(
        rows, tmp_path / "sweep", optimiser="sgd", rate_sweep_steps=40, keep=[], keep_weights=False
    )
    sweep = pd.read_csv(tmp_path / "sweep" / "rates.csv")
    assert sweep["lr"].is_monotonic_increasing and 10 < len(sweep) <= 40
    assert sweep["lr"].iloc[0] == pytest.approx(1e-5)
    ratio = sweep["lr"].iloc[1] / sweep["lr"].iloc[0]
    np.testing.assert_allclose(sweep["lr"].iloc[1:].to_numpy() / sweep["lr"].iloc[:-1], ratio)
    assert sweep["loss"].min() < sweep["loss"].iloc[0] - 0.05, "no rate learned anything"
    done = read_json(tmp_path / "sweep" / "done.json")
    assert sweep["lr"].min() < done["figures"]["suggested"] < sweep["lr"].max()
    assert not (Path(job.folder) / "weights.safetensors").exists()


class PowerCut(Progress):
    """Ends the process's work, as it were, at the first sign of an event."""

    def __init__(self, job: str, what: str) -> None:
        super().__init__(None)
        self.job, self.what = job, what

    def step(self, job: str, done: int, total: int, what: str = "") -> None:
        if job == self.job and self.what in what:
            raise KeyboardInterrupt


@pytest.mark.parametrize("what", ["epoch 3/4", "predicting"])
def test_an_averaged_and_mixed_fit_that_was_cut_off_ends_in_the_same_weights(rows, tmp_path, what):
    recipe = {"epochs": 4, "ema_decay": 0.6, "mix": "cutmix", "augmentation": WHOLE}
    recipe |= {"backbone": "test_efficientnet", "dropout": 0.2}
    through = carried_out(rows, tmp_path / "through", **recipe)
    job = small_job(tmp_path / "cut", **recipe)
    write_job(job, rows)
    with pytest.raises(KeyboardInterrupt):
        carry_out(job, Processes(), PowerCut(job.name, what))
    noted = Progress(tmp_path / "events.jsonl")
    carry_out(job, Processes(), noted)
    events, _ = read_events(noted.path)
    assert events[0]["text"] == f"goes on after epoch {4 if what == 'predicting' else 2}"
    assert furthest(weights(job), weights(through)) == 0
    said = [Store(one.store).read("logits") for one in (job, through)]
    assert np.array_equal(*said)
    assert not (tmp_path / "cut" / "last.pt").exists()


def test_a_loss_that_is_no_number_ends_the_fit_at_once(rows, tmp_path):
    job = small_job(tmp_path / "wild", epochs=5, base_lr=1e12, radam_lr=1e12)
    write_job(job, rows)
    noted = Progress(tmp_path / "events.jsonl")
    with pytest.raises(FloatingPointError, match="is no number after epoch [12]; lower its rates"):
        carry_out(job, Processes(), noted)
    assert not is_done(job)


@pytest.mark.parametrize("keep_prior", [False, True])
def test_a_model_is_judged_by_what_it_predicts(rows, tmp_path, keep_prior):
    skewed = rows[(rows["target"] != CLASSES[0]) | (np.arange(len(rows)) % 3 == 0)]
    job = carried_out(
        skewed, tmp_path / "a", balance="prior", keep_prior=keep_prior, epochs=1, seed=5
    )
    held = skewed[skewed["validate"]].set_index("image_id")["target"]
    said = read_logits([job], held.index).idxmax(axis=1)
    assert log(job)["top1"].iloc[-1] == pytest.approx((said == held).mean())


def test_new_rows_make_a_finished_job_unfinished(rows, tmp_path):
    job = carried_out(rows, tmp_path / "a", epochs=1)
    assert is_done(job)
    write_job(job, rows)
    assert is_done(job), "the same rows leave it as it is"
    write_job(job, rows.assign(fit=rows["fit"] & (rows["target"] != CLASSES[0])))
    assert not (tmp_path / "a" / "done.json").exists()


# --- a trained network, looked at again --------------------------------------------------------


@pytest.fixture(scope="module")
def teacher(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return carried_out(rows, tmp_path_factory.mktemp("teacher") / "t", epochs=3, balance="prior")


def again(teacher: Job, **changes: object) -> dict:
    """The same network without training."""
    same = teacher.model_dump(exclude={"name", "folder", "rows", "fit"})
    return same | {"fit": "none", "trained": f"{teacher.folder}/weights.safetensors"} | changes


def test_a_trained_network_says_the_same_when_it_is_asked_again(rows, teacher, tmp_path):
    same = carried_out(rows, tmp_path / "same", **again(teacher))
    said = [Store(job.store).read("logits").astype(float) for job in (teacher, same)]
    np.testing.assert_allclose(said[0], said[1], atol=2e-3)
    wider = carried_out(rows, tmp_path / "wider", **again(teacher, test_ratio=1.0))
    assert np.abs(Store(wider.store).read("logits") - said[0]).max() > 0.01


def test_a_network_of_other_classes_or_shape_is_named(rows, teacher, tmp_path):
    others = [*CLASSES[:-1], "eel"]
    renamed = rows.replace({"target": {CLASSES[-1]: "eel"}})
    with pytest.raises(ValueError, match="was trained for 4 other classes"):
        carried_out(renamed, tmp_path / "a", **again(teacher, classes=others))
    with pytest.raises(ValueError, match="does not fit test_efficientnet"):
        carried_out(rows, tmp_path / "b", **again(teacher, backbone="test_efficientnet"))


def test_a_student_learns_what_its_teachers_say_of_the_very_view(rows, teacher, tmp_path):
    recipe = {"augmentation": WHOLE, "teacher_views": 2, "seed": 7}
    student = small_job(tmp_path / "student", teacher_weight=1.0, **recipe)
    # Images that the student does not fit stand between those that it does.
    ((views, seen),) = view_jobs(student, rows, [Path(teacher.folder)])
    assert (views.seed, views.balance, views.fit) == (7, "prior", "none")
    assert seen["predict"].equals(rows["fit"]) and seen["fit"].equals(rows["fit"])
    assert views.weights == "none", "all weights are the teacher's"
    write_job(views, seen.iloc[::-1])
    carry_out(views, Processes(), Progress(None))
    assert Store(views.store).kinds() == ["view-0", "view-1"]
    student = student.model_copy(update={"teachers": [str(views.store)]})
    write_job(student, rows)
    material, network = material_and_network(student, again(teacher)["trained"])
    pictures = material.train_set()
    fitted = material.fit_rows[:8]
    for epoch in (0, 1, 2):
        batch, targets = pictures.__getitems__([(epoch, int(row)) for row in fitted])
        own = network(batch).softmax(dim=1)
        # What the teacher says of this view is what it was recorded to say.
        torch.testing.assert_close(targets[:, len(CLASSES) :], own, atol=2e-3, rtol=0)
    other, _ = pictures.__getitems__([(1, int(row)) for row in fitted])
    assert (network(other).softmax(dim=1) - own).abs().max() > 2e-2
    carry_out(student, Processes(), Progress(None))
    assert np.isfinite(log(student)["train_loss"]).all()


def material_and_network(job: Job, file: str) -> tuple:
    material = Material(job)
    network = new_network(job, material)
    load_model(network, Path(file), job)
    # The frozen prior is left out when a teacher speaks.
    backbones.freeze_bias(network.get_classifier(), torch.zeros(len(CLASSES)))
    return material, network.eval()


def test_images_that_some_teacher_did_not_train_on_are_taught_cleanly(rows, teacher):
    clean = taught_cleanly([Path(teacher.folder)], rows["image_id"])
    assert clean.tolist() == (~rows["fit"]).tolist()
    assert not taught_cleanly([], rows["image_id"]).any()


def test_a_trained_network_is_held_against_other_test_ratios(rows, teacher):
    job, held = ratio_job(teacher, rows, 1.0)
    write_job(job, held)
    carry_out(job, Processes(), Progress(None))
    store = Store(job.store)
    assert store.image_ids.tolist() == rows.loc[rows["validate"], "image_id"].tolist()
    ids = store.image_ids
    assert np.abs(store.read("logits") - Store(teacher.store).read("logits", ids)).max() > 0.01


def test_no_image_is_taught_by_a_teacher_that_trained_on_it(rows, tmp_path):
    folds = np.arange(len(rows)) % 2
    teachers = [
        carried_out(
            rows.assign(fit=folds != fold, validate=folds == fold),
            tmp_path / f"fold-{fold}",
            epochs=1,
            seed=fold,
        )
        for fold in (0, 1)
    ]
    stores = [Store(job.store) for job in teachers]
    wanted = {"teachers": [str(job.store) for job in teachers], "teacher_weight": 1.0}
    student = small_job(tmp_path / "student", fold_clean=True, **wanted)
    write_job(student, rows.assign(fit=True, validate=False))
    word = Material(student).targets()[list(range(len(rows)))][:, len(CLASSES) :].numpy()
    for fold, store in enumerate(stores):
        mine = np.flatnonzero(folds == fold)
        ids = rows["image_id"].iloc[mine]
        np.testing.assert_allclose(word[mine], store.probabilities(ids), atol=1e-5)
    alone = student.model_copy(update={"teachers": wanted["teachers"][:1]})
    write_job(alone, rows.assign(fit=True, validate=False))
    with pytest.raises(ValueError, match="every teacher was trained on 48 of its images"):
        Material(alone).targets()


# --- decoded once ------------------------------------------------------------------------------


class Decoding:
    """As much of a stage's parameters as decoding asks for."""

    def __init__(self, folder: Path, decoded_gb: float) -> None:
        self.folder, self.decoded_gb = folder / "run", decoded_gb


def in_cache(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The same rows with their pictures copied to where a run in the folder has its cache."""
    (folder / "cache").mkdir()
    files = [shutil.copy(file, folder / "cache") for file in rows["file"]]
    return rows.assign(file=files)


def test_a_job_trains_alike_from_decoded_pictures_and_from_jpegs(rows, tmp_path, capsys):
    rows = rows.assign(predict=rows["validate"])
    cached = in_cache(rows, tmp_path)
    job = small_job(tmp_path / "decoded", epochs=1, keep=["logits"])
    [(job, own)] = decode(Decoding(tmp_path, 1), [(job, cached)])
    assert "pictures are read decoded, at 37 px and 43 px" in capsys.readouterr().out
    assert Path(job.decoded) == tmp_path / "cache"
    write_job(job, own)
    # Nothing but the decoded pictures can be read.
    for file in cached["file"]:
        Path(file).unlink()
    carry_out(job, Processes(), Progress(None))
    plain = carried_out(rows, tmp_path / "jpegs", epochs=1, keep=["logits"])
    said = [Store(one.store).read("logits").astype(float) for one in (job, plain)]
    assert np.corrcoef(said[0].ravel(), said[1].ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("allowed", "told"), [(0, "decoded_gb is 0"), (1e-6, "decoded_gb allows 1e-06")]
)
def test_more_than_is_allowed_is_not_decoded(rows, tmp_path, capsys, allowed, told):
    job, cached = small_job(tmp_path / "a"), in_cache(rows, tmp_path)
    assert decode(Decoding(tmp_path, allowed), [(job, cached)])[0][0].decoded == ""
    assert told in capsys.readouterr().out
    assert not (tmp_path / "cache" / "decoded").exists()


def test_where_pictures_lie_decoded_does_not_make_another_job(rows, tmp_path):
    job = small_job(tmp_path / "a")
    write_job(job, rows)
    assert job_digest(job) == job_digest(job.model_copy(update={"decoded": "elsewhere"}))


# --- how the notebook sets up its sweeps -------------------------------------------------------


def test_rates_are_swept_for_each_optimiser_apart(rows, tmp_path):
    job = small_job(tmp_path / "a")
    assert rate_sweeps(job, rows, 0) == {}
    sweeps = rate_sweeps(job, rows, 12)
    assert list(sweeps) == ["radam", "sgd"]
    sweep, own = sweeps["sgd"]
    write_job(sweep, own)
    carry_out(sweep, Processes(), Progress(None))
    tried, suggested = read_rate_sweep(sweep)
    assert len(tried) == 12 and tried["lr"].min() < suggested < tried["lr"].max()


def test_top_1_by_ratio_comes_with_its_interval(rows, teacher):
    job, held = ratio_job(teacher, rows, 1.2)
    write_job(job, held)
    carry_out(job, Processes(), Progress(None))
    labels = held[held["validate"]].set_index("image_id")["target"]
    swept = ratio_sweep([job], labels)
    right = read_logits([job], labels.index).idxmax(axis=1) == labels
    assert swept["ratio"].tolist() == [1.2] and swept["top1"].tolist() == [right.mean()]
    assert swept["low"][0] < right.mean() < swept["high"][0] or right.all()
    assert ratio_sweep([], labels).empty


def test_workers_are_chosen_for_the_device(monkeypatch):
    assert workers_of("cpu", -1) == 0 and workers_of("cuda", 3) == 3 and workers_of("cpu", 2) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(32)))
    assert workers_of("cuda", -1) == 7
