"""Jobs carried out for real: on one process and two, cut off and taken up, done and done again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_jobs import CLASSES, draw_pictures, small_job

from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.failures import RankFailed
from fgvc_utils.hardware.launch import launch
from fgvc_utils.hardware.plan import Hardware
from fgvc_utils.hardware.progress import Progress, read_events
from fgvc_utils.jobs.done import is_done, job_digest
from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training import backbones, balance
from fgvc_utils.training.callbacks import Steps
from fgvc_utils.training.feed import GlobalBatches
from fgvc_utils.training.fitting import fit
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import MASKED, new_network
from fgvc_utils.training.worker import carry_out

# Running statistics belong to the process that saw the pictures; all other tensors are alike.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
TWO = Hardware(processes=2, threads=1, device="cpu", timeout_minutes=3)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


def alone(job: Job, rows: pd.DataFrame, progress: Progress | None = None) -> Job:
    """Carry a job out in this process."""
    write_job(job, rows)
    carry_out(job, Processes(), progress or Progress(None))
    return job


def weights(job: Job) -> dict[str, torch.Tensor]:
    return load_file(Path(job.folder) / "weights.safetensors")


def steps(job: Job) -> list[dict[str, torch.Tensor]]:
    return [load_file(file) for file in sorted((Path(job.folder) / "steps").glob("*.safetensors"))]


def difference(one: dict, other: dict) -> float:
    """Largest difference of two networks' parameters."""
    assert one.keys() == other.keys()
    names = [name for name in one if not name.endswith(STATISTICS)]
    return max(float((one[name] - other[name]).abs().max()) for name in names)


# --- one process and two -----------------------------------------------------------------------


def both_ways(folder: Path, rows: pd.DataFrame, **changes: object) -> dict:
    """The same fits on one process and on two: a pair of jobs for each kind of network."""
    networks = {"plain": "test_convnext", "norm": "test_efficientnet"}
    made = {
        name: [small_job(folder / f"{name}-{n}", backbone=backbone, **changes) for n in (1, 2)]
        for name, backbone in networks.items()
    }
    files = [[write_job(job, rows) for job in pair] for pair in made.values()]
    torch.set_num_threads(1)
    for one, _ in made.values():
        carry_out(one, Processes(), Progress(None))
    launch([two for _, two in files], folder / "launch", TWO)
    return {name: tuple(pair) for name, pair in made.items()}


@pytest.fixture(scope="module")
def pairs(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The same fits as 1 process × 16 × 2 and as 2 processes × 16 × 1."""
    held = rows.assign(validate=np.arange(len(rows)) % 5 == 0)
    held["fit"] = ~held["validate"]
    kept = {"keep_every_step": True, "keep": ["logits", "features"]}
    rates = {"layer_decay": 0.8, "head_lr_scale": 2.0, "warm_up": 0.2, "clip_norm": 1.0}
    kept |= {"swa_epochs": 2, "tuned_share": 0.9}
    return both_ways(tmp_path_factory.mktemp("pairs"), held, epochs=3, **kept, **rates)


@pytest.fixture(scope="module")
def large_pairs(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Ten steps of 256 images, as 1 process × 64 × 4 and as 2 processes × 64 × 2."""
    again = rows.iloc[np.arange(512) % len(rows)].reset_index(drop=True)
    again["image_id"] = [f"{n:03d}" for n in range(len(again))]
    cut = {"global_batch": 256, "micro_batch": 64, "keep_every_step": True, "keep": []}
    return both_ways(tmp_path_factory.mktemp("large"), again, epochs=5, **cut)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "norm"])
def test_two_processes_take_the_steps_of_one_that_accumulates(pairs: dict, name: str):
    one, two = (steps(job) for job in pairs[name])
    assert len(one) == len(two) == 15
    # The steps are steps: the weights leave their start by far more than the two differ.
    assert difference(one[0], one[9]) > 1e-3
    assert [difference(a, b) < 1e-5 for a, b in zip(one, two, strict=True)][:10] == [True] * 10
    logs = [pd.read_csv(Path(job.folder) / "log.csv") for job in pairs[name]]
    np.testing.assert_allclose(logs[0]["train_loss"], logs[1]["train_loss"], atol=1e-5)
    assert (logs[0]["n"] == 40).all() and (logs[1]["n"] == 40).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "norm"])
def test_two_processes_take_the_steps_of_one_at_a_large_batch(
    large_pairs: dict, name: str, record_property: Callable[[str, object], None]
):
    """Four gradients are added in another order on two processes, which is all that differs."""
    one, two = (steps(job) for job in large_pairs[name])
    assert len(one) == len(two) == 10
    assert difference(one[0], one[9]) > 1e-3
    assert max(difference(a, b) for a, b in zip(one, two, strict=True)) < 1e-5
    logs = [pd.read_csv(Path(job.folder) / "log.csv") for job in large_pairs[name]]
    np.testing.assert_allclose(logs[0]["train_loss"], logs[1]["train_loss"], atol=1e-5)
    # BatchNorm averages over the images of one process: no equality is asked for, only told.
    running = [key for key in one[9] if key.endswith(("running_mean", "running_var"))]
    if running:
        apart = max(float((one[9][key] - two[9][key]).abs().max()) for key in running)
        record_property("largest difference of running statistics", apart)
        print(f"{name}: running statistics differ by at most {apart:.3g}")


@pytest.mark.slow
def test_two_processes_predict_every_image_in_its_place(pairs: dict, rows: pd.DataFrame):
    one, two = (Store(job.store) for job in pairs["plain"])
    ids = rows["image_id"].tolist()[::-1]
    assert sorted(one.image_ids) == sorted(two.image_ids) == sorted(ids)
    assert one.classes == two.classes == CLASSES
    assert len(list(two.folder.glob("shard-*"))) == 2
    for kind in ("logits", "features"):
        ours, theirs = one.read(kind, ids), two.read(kind, ids)
        assert ours.dtype == np.float16 and np.ptp(ours.astype(float), axis=0).max() > 0.1
        np.testing.assert_allclose(ours.astype(float), theirs.astype(float), atol=1e-2)


@pytest.mark.slow
def test_every_process_predicts_with_the_weights_that_are_kept(pairs: dict):
    """With BatchNorm too, whose running statistics each process gathers from its own pictures."""
    job = pairs["norm"][1]
    material = Material(job)
    network = new_network(job, material)
    network.load_state_dict(weights(job))
    pictures, _ = material.test_set().__getitems__([(0, n) for n in range(len(material.ids))])
    with torch.no_grad():
        logits = network.eval()(pictures)
    seen = Store(job.store).read("logits", material.ids).astype(np.float32)
    np.testing.assert_allclose(seen, logits.numpy(), atol=1e-2)


@pytest.mark.slow
def test_fewer_images_than_processes_and_a_batch_that_cannot_be_cut(
    rows: pd.DataFrame, tmp_path: Path
):
    rows = rows[:96]
    few = rows.assign(predict=rows.index == 7)
    job = small_job(tmp_path / "few", epochs=1, micro_batch=16)
    odd = small_job(tmp_path / "odd", epochs=1, global_batch=48)
    files = [write_job(job, few), write_job(odd, rows)]
    text = "global_batch 48 is not a multiple of processes × micro_batch = 2 × 16 = 32"
    with pytest.raises(RankFailed, match=text):
        launch(files, tmp_path / "launch", TWO)
    store = Store(job.store)
    assert list(store.image_ids) == ["007"] and store.read("logits", ["007"]).shape == (1, 4)
    assert is_done(job) and not is_done(odd)


def test_a_global_batch_that_does_not_divide_is_named(rows: pd.DataFrame, tmp_path: Path):
    job = small_job(tmp_path, global_batch=40)
    text = "global_batch 40 is not a multiple of processes × micro_batch = 1 × 16 = 16"
    with pytest.raises(ValueError, match=text):
        alone(job, rows)
    with pytest.raises(ValueError, match="global_batch 400 is larger than its 200 train images"):
        write_job(small_job(tmp_path, global_batch=400), rows)


# --- cut off and taken up ----------------------------------------------------------------------

# Dropout and random changes: a fit that is taken up has to draw what the first would have drawn.
RESUMED = {
    "epochs": 4,
    "radam_share": 0.6,
    "dropout": 0.3,
    "augmentation": {"flip_probability": 0.5, "colour_jitter": 0.3},
    "momentum": 0.9,
    "weight_decay": 0.01,
}


class PowerCut(Progress):
    """Fails in the middle of an epoch."""

    def __init__(self, step: int) -> None:
        super().__init__(None)
        self.at = step

    def step(self, job: str, done: int, total: int, what: str = "") -> None:
        if done == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("backbone", "cut"), [("test_convnext", 11), ("test_efficientnet", 7)])
def test_a_fit_that_failed_goes_on_after_its_last_whole_epoch(
    rows: pd.DataFrame, tmp_path: Path, backbone: str, cut: int
):
    """Three steps an epoch; RAdam hands over to SGD after step 7."""
    rows = rows[:100]
    through = alone(small_job(tmp_path / "through", backbone=backbone, **RESUMED), rows)
    job = small_job(tmp_path / "cut", backbone=backbone, **RESUMED)
    with pytest.raises(KeyboardInterrupt):
        alone(job, rows, PowerCut(cut))
    assert not is_done(job)
    progress = Progress(tmp_path / "events.jsonl")
    alone(job, rows, progress)
    events, _ = read_events(progress.path)
    whole = (cut - 1) // 3
    assert events[0]["text"] == f"goes on after epoch {whole}"
    assert [e["text"] for e in events if e["event"] == "figures"] == [
        f"epoch {n}/4" for n in range(whole + 1, 5)
    ]
    assert weights(job).keys() == weights(through).keys()
    for name, tensor in weights(through).items():
        assert torch.equal(weights(job)[name], tensor), name
    logs = [pd.read_csv(Path(j.folder) / "log.csv") for j in (through, job)]
    times = ["seconds", "waiting", "images_per_second"]
    pd.testing.assert_frame_equal(*(log.drop(columns=times) for log in logs))
    assert not (Path(job.folder) / "last.pt").exists()


@pytest.mark.slow
def test_a_fit_whose_process_was_killed_goes_on(rows: pd.DataFrame, tmp_path: Path):
    rows, settings = rows[:96], RESUMED | {"epochs": 8}
    through = alone(small_job(tmp_path / "through", **settings), rows)
    job = small_job(tmp_path / "killed", **settings)
    script = (
        "import sys; from fgvc_utils.hardware.launch import Hardware, launch\n"
        "if __name__ == '__main__':\n"
        "    launch(sys.argv[1:2], sys.argv[2], Hardware(device='cpu', threads=1))\n"
    )
    (tmp_path / "start.py").write_text(script)
    command = [sys.executable, str(tmp_path / "start.py"), str(write_job(job, rows))]
    with subprocess.Popen([*command, str(tmp_path / "launch")]) as process:
        last, events = Path(job.folder) / "last.pt", tmp_path / "launch" / "events.jsonl"
        while process.poll() is None and not last.is_file():
            time.sleep(0.01)
        ended_before = process.poll()
        os.kill(process.pid, signal.SIGKILL)
    assert ended_before is None
    # The rank dies with its launcher; what it last wrote is whole.
    time.sleep(1)
    assert not (Path(job.folder) / "weights.safetensors").exists() and not is_done(job)
    launch(command[2:], tmp_path / "launch", Hardware(device="cpu", threads=1))
    notes = [e["text"] for e in read_events(events)[0] if e["event"] == "note"]
    assert len(notes) == 1 and notes[0].startswith("goes on after epoch ")
    for name, tensor in weights(through).items():
        assert torch.equal(weights(job)[name], tensor), name


def test_the_state_of_another_job_is_not_taken_up(rows: pd.DataFrame, tmp_path: Path):
    rows = rows[:64]
    job = small_job(tmp_path / "job")
    with pytest.raises(KeyboardInterrupt):
        alone(job, rows, PowerCut(3))
    other = small_job(tmp_path / "job", base_lr=0.02)
    through = alone(small_job(tmp_path / "through", base_lr=0.02), rows)
    alone(other, rows)
    assert difference(weights(other), weights(through)) == 0


# --- the optimisers ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["radam", "sgd", "adamw"])
def test_the_optimisers_step_as_those_of_fastai(kind: str, tmp_path: Path):
    """Ten steps on a small layer, with momentum and decoupled weight decay."""
    from fastai.optimizer import SGD, Adam, RAdam

    job = small_job(tmp_path, optimiser=kind, base_lr=0.05, momentum=0.8, weight_decay=0.1)
    peers = {
        "radam": partial(RAdam, lr=0.05, wd=0.1),
        "sgd": partial(SGD, lr=0.05, mom=0.8, wd=0.1),
        "adamw": partial(Adam, lr=0.05, wd=0.1),
    }
    torch.manual_seed(0)
    inputs, targets = torch.randn(64, 5), torch.randn(64, 3)
    ours, theirs = (torch.nn.Linear(5, 3) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    start = ours.weight.detach().clone()
    steps = Steps(job, GlobalBatches(np.arange(320), 32, 1, 1, 0, seed=0))
    optimisers = steps.make_optimiser(ours), peers[kind](theirs.parameters())
    for _ in range(10):
        for layer, optimiser in zip((ours, theirs), optimisers, strict=True):
            torch.nn.functional.mse_loss(layer(inputs), targets).backward()
            optimiser.step()
            optimiser.zero_grad()
    assert float((ours.weight.detach() - start).abs().max()) > 0.05
    # torch's RAdam adds eps before it corrects the bias of the second moment, fastai's after it.
    near = 2e-4 if kind == "radam" else 1e-6
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=0, atol=near)


def test_a_gpu_takes_the_fused_optimiser_where_torch_has_one(tmp_path: Path):
    batches = GlobalBatches(np.arange(320), 32, 1, 1, 0, seed=0)
    fused = {}
    for kind in ("radam", "sgd", "adamw"):
        for device in ("cpu", "cuda"):
            job = small_job(tmp_path, optimiser=kind)
            optimiser, _ = Steps(job, batches, torch.device(device)).optimiser(0)
            made = optimiser([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
            fused[kind, device] = bool(made.defaults.get("fused"))
    assert [each for each, on in fused.items() if on] == [("adamw", "cuda")]


# --- done, and done again ----------------------------------------------------------------------


def test_a_done_job_is_not_done_again_until_its_rows_change(rows: pd.DataFrame, tmp_path: Path):
    rows = rows[:96]
    job = alone(small_job(tmp_path, epochs=1), rows)
    figures = json.loads((tmp_path / "done.json").read_text())["figures"]
    assert figures["epoch"] == 1 and is_done(job)
    file = tmp_path / "weights.safetensors"
    before = file.stat().st_mtime_ns
    alone(job, rows)
    assert file.stat().st_mtime_ns == before
    fewer = rows.assign(fit=rows.index < 64)
    write_job(job, fewer)
    assert not is_done(job)
    alone(job, fewer)
    assert file.stat().st_mtime_ns > before and is_done(job)


def test_a_job_that_was_broken_off_is_not_taken_for_the_one_before(
    rows: pd.DataFrame, tmp_path: Path
):
    """Back at the first rows, the first run's results are gone: they have to be made again."""
    rows = rows[:96]
    job = alone(small_job(tmp_path, epochs=1), rows)
    with pytest.raises(KeyboardInterrupt):
        alone(job, rows.assign(fit=rows.index < 64), PowerCut(2))
    write_job(job, rows)
    assert not is_done(job)
    alone(job, rows)
    assert len(Store(job.store).image_ids) == len(rows)


# --- heads on stored features ------------------------------------------------------------------


def stored_toy(folder: Path) -> tuple[pd.DataFrame, Path]:
    """Three clouds of features, of unlike size, and as many images of each to predict."""
    random = np.random.default_rng(0)
    sizes, centres = [120, 60, 20], np.eye(3, 6) * 3
    labels = np.repeat(np.arange(3), sizes)
    test = np.repeat(np.arange(3), 40)
    features = centres[np.r_[labels, test]] + random.normal(0, 0.5, (320, 6))
    ids = [f"i{n}" for n in range(320)]
    writer = ShardWriter(folder, 0, ids)
    writer.write("features", 0, features.astype(np.float16))
    writer.close()
    finish_store(folder, [], 1)
    rows = pd.DataFrame({"image_id": ids, "file": ""})
    rows["target"] = [CLASSES[n] for n in np.r_[labels, test]]
    rows["fit"] = np.arange(320) < 200
    return rows.assign(label="", validate=~rows["fit"], predict=~rows["fit"]), folder


def head_job(folder: Path, store: Path, **changes: object) -> Job:
    given = {"fit": "head", "backbone": "", "stores": [str(store)], "optimiser": "adamw"}
    return small_job(folder, **(given | {"epochs": 15, "base_lr": 0.02} | changes))


@pytest.mark.parametrize("kind", ["none", "oversample", "prior"])
def test_a_head_learns_what_can_be_told_apart(tmp_path: Path, kind: str):
    rows, store = stored_toy(tmp_path / "features" / "predictions")
    job = alone(head_job(tmp_path / "head", store, balance=kind), rows)
    test = rows[rows["predict"]]
    logits = Store(job.store).read("logits", test["image_id"])
    assert (logits.argmax(axis=1) == [CLASSES.index(t) for t in test["target"]]).mean() > 0.95
    # No picture of the last class was fitted: it cannot be told.
    assert (logits[:, 3] == MASKED).all()
    log = pd.read_csv(Path(job.folder) / "log.csv")
    assert len(log) == 15 and log["train_loss"].iloc[-1] < log["train_loss"].iloc[0] / 3
    assert log["top1"].iloc[-1] > 0.95 and (log["n"] == 120).all()


def test_lbfgs_finds_the_one_answer_of_a_convex_fit(tmp_path: Path):
    """The same weights as scikit-learn's logistic regression with the same penalty."""
    from sklearn.linear_model import LogisticRegression

    rows, folder = stored_toy(tmp_path / "features" / "predictions")
    changes = {"optimiser": "lbfgs", "epochs": 200, "weight_decay": 0.1, "keep_empty": True}
    job = alone(head_job(tmp_path / "head", folder, classes=CLASSES[:3], **changes), rows)
    store = Store(folder)
    fit_rows, test = rows[rows["fit"]], rows[rows["predict"]]
    train = store.read("features", fit_rows["image_id"]).astype(np.float64)
    held = store.read("features", test["image_id"]).astype(np.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0, ddof=1)
    # scikit-learn's penalty is on the sum of the losses, ours on their mean.
    peer = LogisticRegression(C=1 / (0.1 * len(train)), tol=1e-8, max_iter=1000)
    peer.fit((train - mean) / deviation, fit_rows["target"])
    expected = peer.predict_proba((held - mean) / deviation)
    ours = Store(job.store).probabilities(test["image_id"])
    np.testing.assert_allclose(ours, expected, atol=3e-3)
    assert pd.read_csv(Path(job.folder) / "log.csv")["top1"].item() > 0.95


@pytest.mark.slow
def test_two_processes_fit_a_head_as_one_does(tmp_path: Path):
    rows, folder = stored_toy(tmp_path / "features" / "predictions")
    changes = {"optimiser": "lbfgs", "epochs": 30, "weight_decay": 0.1, "balance": "prior"}
    one = alone(head_job(tmp_path / "one", folder, **changes), rows)
    two = head_job(tmp_path / "two", folder, **changes)
    launch([write_job(two, rows)], tmp_path / "launch", TWO)
    assert difference(weights(one), weights(two)) < 1e-4
    ids = rows.loc[rows["predict"], "image_id"]
    ours, theirs = (Store(job.store).read("logits", ids).astype(float) for job in (one, two))
    np.testing.assert_allclose(ours, theirs, atol=1e-2)


def test_lbfgs_fits_no_whole_network(tmp_path: Path):
    with pytest.raises(ValueError, match="lbfgs fits a head"):
        write_job(small_job(tmp_path / "a", optimiser="lbfgs"), draw_pictures(tmp_path / "p", 8))


def test_a_head_takes_the_loss_that_its_job_names(tmp_path: Path):
    rows, store = stored_toy(tmp_path / "features" / "predictions")
    made = {
        loss: alone(head_job(tmp_path / loss, store, optimiser="lbfgs", loss=loss, gce_q=1), rows)
        for loss in ("cross-entropy", "gce")
    }
    logs = {name: pd.read_csv(Path(job.folder) / "log.csv") for name, job in made.items()}
    loss = {name: log["train_loss"].iloc[-1] for name, log in logs.items()}
    # Of a class that it is nearly sure of, -log p is just above 1 - p.
    assert 0 < loss["gce"] < loss["cross-entropy"] < 0.3
    assert difference(weights(made["gce"]), weights(made["cross-entropy"])) > 0.01


def test_a_heads_test_views_are_averaged(tmp_path: Path):
    rows, folder = stored_toy(tmp_path / "features" / "predictions")
    store = Store(folder)
    views = {"features": store.read("features"), "mirror": store.read("features")[:, ::-1]}
    both = tmp_path / "both" / "predictions"
    writer = ShardWriter(both, 0, store.image_ids.tolist())
    for kind, array in views.items():
        writer.write(kind, 0, np.ascontiguousarray(array))
    writer.close()
    finish_store(both, [], 1)
    said = {}
    for name in ("features", "mirror", "features mirror"):
        changes = {"optimiser": "lbfgs", "test_views": name.split(), "train_views": list(views)}
        job = alone(head_job(tmp_path / name.replace(" ", "-"), both, **changes), rows)
        said[name] = Store(job.store).read("logits").astype(np.float32)[:, :3]
    mean = (said["features"] + said["mirror"]) / 2
    np.testing.assert_allclose(said["features mirror"], mean, atol=0.01)
    assert np.abs(said["features"] - said["mirror"]).max() > 0.1


def test_the_prior_is_frozen_while_training_and_left_out_when_predicting(tmp_path: Path):
    rows, store = stored_toy(tmp_path / "features" / "predictions")
    prior = torch.from_numpy(balance.log_prior(np.array([120, 60, 20, 0])))
    assert torch.equal(prior.argsort(descending=True), torch.arange(4))
    job = head_job(tmp_path / "out", store, balance="prior", keep_empty=True, epochs=3)
    write_job(job, rows)
    material = Material(job)
    network, _ = fit(job, material, new_network(job, material), Processes(), Progress(None))
    assert torch.equal(network.get_classifier().bias, prior)
    assert network.get_classifier().weight.abs().max() > 0.01
    alone(job, rows)
    kept = alone(job.model_copy(update={"keep_prior": True, "folder": str(tmp_path / "in")}), rows)
    out, held = (Store(j.store).read("logits").astype(np.float32) for j in (job, kept))
    np.testing.assert_allclose(held - out, np.tile(prior.numpy(), (120, 1)), atol=0.02)


# --- backbones ---------------------------------------------------------------------------------


def test_packaged_weights_give_features():
    torch.manual_seed(0)
    network = backbones.create_network("tf_efficientnet_lite0", "package", 5).eval()
    fresh = backbones.create_network("tf_efficientnet_lite0", "none", 5).eval()
    assert not torch.equal(network.conv_stem.weight, fresh.conv_stem.weight)
    with torch.no_grad():
        features, logits = backbones.features_and_logits(network, torch.randn(2, 3, 64, 64))
    assert features.shape == (2, 1280) and logits.shape == (2, 5)
    assert features.isfinite().all() and features.std() > 0.01


def test_a_file_of_weights_is_loaded_but_for_the_classifier(tmp_path: Path):
    torch.manual_seed(0)
    first = backbones.create_network("test_efficientnet", "none", 3)
    save_file(first.state_dict(), tmp_path / "three.safetensors")
    torch.save(first.state_dict(), tmp_path / "three.pth")
    for file in ("three.safetensors", "three.pth"):
        second = backbones.create_network("test_efficientnet", str(tmp_path / file), 7)
        assert torch.equal(first.conv_stem.weight, second.conv_stem.weight)
        assert second.get_classifier().out_features == 7


def test_weights_of_the_hub_that_cannot_be_reached_say_what_else_to_give(monkeypatch):
    def unreachable(*args, **kwargs):
        raise FileNotFoundError("not in the local cache")

    monkeypatch.setattr(backbones.timm, "create_model", unreachable)
    with pytest.raises(ValueError, match="hub of 'test_vit' could not be downloaded .* package or"):
        backbones.create_network("test_vit", "hub", 3)
    with pytest.raises(FileNotFoundError):
        backbones.create_network("test_vit", "none", 3)


def test_backbones_and_weights_that_cannot_be_had_are_named(tmp_path: Path):
    cases = [
        ("efficientnet_b99", "none", "backbone 'efficientnet_b99' is no timm network; some near"),
        (
            "test_vit",
            "package",
            "weights 'package' exist for .*, not for 'test_vit'; set weights to hub",
        ),
        ("efficientnetb0", "none", "some near it: efficientnet_b0"),
        ("?", "none", "'\\?' is no timm network; timm.list_models"),
        ("test_vit", "absent.pth", "weights 'absent.pth': give none, hub, package, or an existing"),
    ]
    for name, given, text in cases:
        with pytest.raises(ValueError, match=text):
            backbones.create_network(name, given, 3)
    other = backbones.create_network("test_convnext", "none", 3)
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"do not fit: \d+ tensors missing, \d+ unknown"):
        backbones.create_network("test_efficientnet", str(tmp_path / "other.safetensors"), 3)


def test_a_job_s_digest_hangs_on_the_stores_it_reads(tmp_path: Path):
    rows, store = stored_toy(tmp_path / "features" / "predictions")
    job = head_job(tmp_path / "head", store)
    write_job(job, rows)
    before = job_digest(job)
    (tmp_path / "features" / "done.json").write_text('{"result": "1"}')
    assert job_digest(job) != before


def test_a_network_made_for_one_size_of_picture_takes_the_jobs_size():
    network = backbones.create_network("test_vit", "none", 5, size=64).eval()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
