"""Where a fit begins and which of its weights it keeps: the ends are exactly the ends."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import load_file
from small_jobs import CLASSES, draw_pictures, small_job
from timm.layers import resample_abs_pos_embed
from torch import nn

from fgvc_utils.core.files import read_json
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.done import is_done, why_not_done
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.rows import Rows
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training import balance
from fgvc_utils.training.callbacks import batch_norms
from fgvc_utils.training.first_heads import begin_with_best, probe_jobs, probe_table
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import PictureNetwork, new_network
from fgvc_utils.training.recipes import share_job, share_sweep
from fgvc_utils.training.starting import resized
from fgvc_utils.training.worker import carry_out

pytestmark = pytest.mark.usefixtures("one_thread")
NORM = "test_efficientnet"
KINDS = ["test_convnext", NORM, "test_vit"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    drawn = draw_pictures(tmp_path_factory.mktemp("pictures"), 96)
    held = np.arange(len(drawn)) % 3 == 0
    return drawn.assign(fit=~held, validate=held)


def done(job: Job, rows: pd.DataFrame, progress: Progress | None = None) -> Job:
    write_job(job, rows)
    carry_out(job, Processes(), progress or Progress(None))
    return job


def fitted(rows: pd.DataFrame, folder: Path, **changes: object) -> Job:
    return done(small_job(folder, **({"keep": ["logits"]} | changes)), rows)


def weights(job: Job, name: str = "weights") -> dict[str, torch.Tensor]:
    return load_file(Path(job.folder) / f"{name}.safetensors")


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def log(job: Job) -> pd.DataFrame:
    return pd.read_csv(Path(job.folder) / "log.csv")


def begun(job: Job, rows: pd.DataFrame) -> nn.Module:
    """The network of a job before its first step."""
    write_job(job, rows)
    return new_network(job, Material(job))


def pictures(job: Job) -> torch.Tensor:
    material = Material(job)
    seen, _ = material.test_set().__getitems__([(0, row) for row in range(len(material.ids))])
    return seen


# --- the classifier begins as a probe ------------------------------------------------------------


def probed(rows: pd.DataFrame, job: Job, decays: tuple[float, ...] = (0.01,)) -> list[Rows]:
    found = probe_jobs(job, rows, decays)
    for each, own in found:
        done(each, own)
    return found


@pytest.mark.parametrize(
    ("backbone", "kind"),
    [("test_convnext", "none"), (NORM, "prior"), (NORM, "none"), ("test_vit", "none")],
)
def test_a_fit_begins_with_the_logits_of_its_probe(rows, tmp_path, backbone, kind):
    """In evaluation, and with frozen statistics in training too."""
    skewed = rows[(rows["target"] != CLASSES[0]) | (np.arange(len(rows)) % 2 == 0)]
    job = small_job(tmp_path / "fit", backbone=backbone, start_head="probe", balance=kind)
    found = probed(skewed, job)
    job = begin_with_best(job, probe_table(found))
    network = begun(job, skewed).eval()
    probe, own = found[1]
    head = new_network(probe, Material(probe))
    head.load_state_dict(weights(probe))
    seen = pictures(job)
    with torch.no_grad():
        features, logits = network.features_and_logits(seen)
        expected = head.eval()(features)
        assert float(expected.std()) > 0.1, "the probe tells nothing apart"
        torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)
        network.train()
        for norm in batch_norms(network):
            norm.eval()
        torch.testing.assert_close(network(seen), expected, atol=1e-3, rtol=0)
    if kind == "prior":
        prior = torch.from_numpy(balance.log_prior(Material(job).counts))
        assert torch.equal(network.get_classifier().bias, prior.float())
        assert not network.get_classifier().bias.requires_grad
    # The probe is judged as the network is that begins with it.
    nothing = small_job(tmp_path / "judged", backbone=backbone, balance=kind, fit="none")
    nothing = done(nothing.model_copy(update={"probe": job.probe}), skewed)
    held = skewed[skewed["validate"]]
    said = Store(nothing.store).read("logits", held["image_id"]).astype(np.float32)
    if kind == "none":
        right = np.array(CLASSES)[said.argmax(axis=1)] == held["target"]
        figures = read_json(Path(probe.folder) / "done.json")["figures"]
        assert right.mean() == pytest.approx(figures["top1"], abs=0.04)


def test_one_scale_serves_all_channels_of_a_probe(rows, tmp_path):
    job = small_job(tmp_path / "fit", start_head="probe")
    probe, _ = probed(rows, job)[1]
    state = weights(probe)
    assert state["0.scale"].unique().numel() == 1 and not state["0.mean"].any()
    features = Store(Path(probe.stores[0])).read("features").astype(float)
    assert np.square(features).mean() ** -0.5 == pytest.approx(float(state["0.scale"][0]), rel=0.1)


def test_held_out_images_choose_among_the_decays(rows, tmp_path):
    job = small_job(tmp_path / "fit", start_head="probe")
    found = probed(rows, job, (1e-3, 1e3))
    table = probe_table(found)
    assert table["decay"].tolist() == [1e-3, 1e3] and table["n"].tolist() == [32, 32]
    assert table["top1"][0] > table["top1"][1]
    assert begin_with_best(job, table).probe == table["weights"][0]
    assert Path(table["weights"][0]).parent.name == "decay-0.001"
    every = rows.assign(fit=True, validate=False)
    other = small_job(tmp_path / "every", start_head="probe")
    assert probe_table(probed(every, other, (1e3, 1e-3)))["decay"].tolist() == [1e3, 1e-3]


def test_a_fit_that_begins_with_a_probe_depends_on_it(rows, tmp_path):
    job = small_job(tmp_path / "fit", start_head="probe", epochs=1)
    with pytest.raises(ValueError, match="start_head is probe, but it names none"):
        write_job(job, rows)
    table = probe_table(probed(rows, job, (1e-3, 1e3)))
    with_one = done(begin_with_best(job, table), rows)
    assert is_done(with_one)
    other = with_one.model_copy(update={"probe": table["weights"][1]})
    assert why_not_done(other) == "its parameters, its rows or what it reads changed"
    student = small_job(tmp_path / "fit", classes=["x", "y"], probe=table["weights"][0])
    with pytest.raises(ValueError, match="was trained for 4 other classes"):
        begun(student, rows.assign(target="x"))


def test_a_probe_learns_from_teachers_where_the_fit_does(rows, tmp_path):
    teacher = fitted(rows, tmp_path / "teacher", epochs=4, base_lr=0.05)
    taught = {"teachers": [str(teacher.store)], "teacher_weight": 1.0, "temperature": 2.0}
    job = small_job(tmp_path / "student", start_head="probe", **taught)
    unlabelled = rows.assign(fit=True, target=rows["target"].where(rows["validate"], ""))
    found = probed(unlabelled, job)
    network = begun(begin_with_best(job, probe_table(found)), unlabelled).eval()
    with torch.no_grad():
        own = (network(pictures(job)) / 2).softmax(dim=1)
    said = torch.from_numpy(Store(teacher.store).probabilities(rows["image_id"], 2.0))
    even = torch.full_like(said, 0.25)
    assert (own - said).abs().mean() < (even - said).abs().mean() / 2


# --- which weights are kept ----------------------------------------------------------------------


def test_tuned_shares_of_0_and_1_are_the_two_ends(rows, tmp_path):
    recipe = {"backbone": NORM, "epochs": 1}
    plain = fitted(rows, tmp_path / "plain", **recipe)
    start = {name: tensor.clone() for name, tensor in begun(plain, rows).state_dict().items()}
    ends = {share: fitted(rows, tmp_path / str(share), tuned_share=share, **recipe)
            for share in (0.0, 0.25, 1.0)}  # fmt: skip
    assert same(weights(ends[1.0]), weights(plain))
    floats = [name for name, tensor in start.items() if tensor.is_floating_point()]
    assert all(torch.equal(weights(ends[0.0])[name], start[name]) for name in floats)
    for share in (0.0, 0.25):
        assert same(weights(ends[share], "tuned"), weights(plain))
    assert not (tmp_path / "1.0" / "tuned.safetensors").exists()
    between = weights(ends[0.25])
    for name in floats:
        expected = 0.25 * weights(plain)[name] + 0.75 * start[name]
        torch.testing.assert_close(between[name], expected)
    # What is judged is what predicts.
    job = ends[0.25]
    held = rows[rows["validate"]]
    said = Store(job.store).read("logits", held["image_id"])
    right = np.array(CLASSES)[said.argmax(axis=1)] == held["target"]
    assert log(job)["top1"].iloc[-1] == pytest.approx(right.mean())


@pytest.mark.parametrize("kept", [1.0, 0.5])
def test_shares_are_tried_without_training(rows, tmp_path, kept):
    """From whatever share the fit itself keeps, with a probe and a start of its own."""
    first = fitted(rows, tmp_path / "first", epochs=1)
    started = {"start": "first", "start_weights": f"{first.folder}/weights.safetensors"}
    job = fitted(rows, tmp_path / "fit", epochs=2, tuned_share=kept, base_lr=0.05, **started)
    tried = []
    for share in (0.0, 0.5, 1.0):
        other, own = share_job(job, rows, share)
        tried.append(done(other, own))
    held = rows.loc[rows["validate"], "image_id"]
    said = [Store(each.store).read("logits", held) for each in tried]
    begins = Store(first.store).read("logits", held)
    own = Store(job.store).read("logits", held)
    np.testing.assert_allclose(said[0], begins, atol=2e-3)
    np.testing.assert_allclose(said[2 if kept == 1 else 1], own, atol=2e-3)
    assert np.abs(said[0].astype(float) - said[2]).max() > 0.05
    labels = rows[rows["validate"]].set_index("image_id")["target"]
    swept = share_sweep(tried, labels)
    assert swept["share"].tolist() == [0.0, 0.5, 1.0] and swept["top1"].between(0, 1).all()


def epoch_ends(job: Job) -> list[dict[str, torch.Tensor]]:
    """The weights at the end of each epoch of two steps."""
    files = sorted((Path(job.folder) / "steps").glob("*.safetensors"))
    return [load_file(file) for file in files[1::2]]


def test_the_mean_over_one_epoch_is_that_epoch(rows, tmp_path):
    plain = fitted(rows, tmp_path / "plain", backbone=NORM)
    one = fitted(rows, tmp_path / "one", backbone=NORM, swa_epochs=1)
    assert same(weights(plain), weights(one))
    assert log(plain)["top1"].equals(log(one)["top1"])


@pytest.mark.parametrize("frozen", [False, True])
def test_the_weights_are_the_mean_over_the_last_epochs(rows, tmp_path, frozen):
    recipe = {"backbone": NORM, "epochs": 3, "keep_every_step": True, "freeze_statistics": frozen}
    job = fitted(rows, tmp_path / "mean", swa_epochs=2, **recipe)
    ends, state = epoch_ends(job), weights(job)
    _, *last = ends
    for name, tensor in state.items():
        mean = torch.stack([end[name].float() for end in last]).mean(dim=0)
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(tensor, mean)
        elif "running" in name:
            # Taken anew of the train images, or as they came.
            assert torch.equal(tensor, ends[0][name]) == frozen
    held = rows[rows["validate"]]
    said = Store(job.store).read("logits", held["image_id"])
    right = np.array(CLASSES)[said.argmax(axis=1)] == held["target"]
    assert log(job)["top1"].iloc[-1] == pytest.approx(right.mean())


class PowerCut(Progress):
    """Ends the process's work, as it were, at the first sign of an event."""

    def __init__(self, what: str) -> None:
        super().__init__(None)
        self.what = what

    def step(self, job: str, done: int, total: int, what: str = "") -> None:
        if self.what in what:
            raise KeyboardInterrupt


@pytest.mark.parametrize("what", ["epoch 4/4", "BatchNorm statistics"])
def test_a_mean_and_a_share_survive_a_cut(rows, tmp_path, what):
    recipe = {"backbone": NORM, "epochs": 4, "swa_epochs": 3, "tuned_share": 0.7}
    through = fitted(rows, tmp_path / "through", **recipe)
    job = small_job(tmp_path / "cut", keep=["logits"], **recipe)
    with pytest.raises(KeyboardInterrupt):
        done(job, rows, PowerCut(what))
    done(job, rows)
    assert same(weights(through), weights(job))
    assert log(through)["top1"].equals(log(job)["top1"])


def test_what_cannot_be_kept_together_is_refused(rows, tmp_path):
    with pytest.raises(ValueError, match="ema_decay and swa_epochs exclude each other"):
        write_job(small_job(tmp_path, ema_decay=0.9, swa_epochs=1), rows)
    with pytest.raises(ValueError, match="swa_epochs 3 are more than its epochs 2"):
        write_job(small_job(tmp_path, epochs=2, swa_epochs=3), rows)
    with pytest.raises(ValueError, match="epochs may be 0 only where it has a start"):
        write_job(small_job(tmp_path, epochs=0), rows)


# --- a fit begins from an earlier model ----------------------------------------------------------


def from_model(model: Job, **changes: object) -> dict[str, object]:
    file = f"{model.folder}/weights.safetensors"
    same_network = {"backbone": model.backbone, "start": model.name, "start_weights": file}
    return same_network | changes


@pytest.mark.parametrize("backbone", KINDS)
def test_a_start_without_an_epoch_is_the_model_itself(rows, tmp_path, backbone):
    first = fitted(rows, tmp_path / "first", backbone=backbone, epochs=1)
    second = fitted(rows, tmp_path / "second", **from_model(first, epochs=0, seed=9))
    assert same(weights(first), weights(second))
    said = [Store(job.store).read("logits") for job in (first, second)]
    assert np.array_equal(*said)
    figures = read_json(Path(second.folder) / "done.json")["figures"]
    assert figures["epoch"] == 0 and figures["top1"] == log(first)["top1"].iloc[-1]
    assert log(second)["train_loss"].isna().all() and len(log(second)) == 1


def test_a_start_at_another_size_resizes_positions_alone(rows, tmp_path):
    first = fitted(rows, tmp_path / "first", backbone="test_vit", epochs=1)
    second = small_job(tmp_path / "second", **from_model(first, size=48, epochs=1))
    state, before = begun(second, rows).state_dict(), weights(first)
    name = "body.pos_embed"
    assert state[name].shape[1] - before[name].shape[1] == 9 - 4
    expected = resample_abs_pos_embed(before[name], [3, 3], [2, 2])
    torch.testing.assert_close(state[name], expected)
    others = {key: tensor for key, tensor in state.items() if key != name}
    assert same(others, {key: before[key] for key in others})
    done(second, rows)
    assert is_done(second) and log(second)["top1"].notna().all()
    # The content of the model that it begins from counts.
    done(first.model_copy(update={"seed": 5}), rows)
    assert why_not_done(second) == "its parameters, its rows or what it reads changed"


@pytest.mark.parametrize(
    ("backbone", "small", "large"),
    [
        ("test_vit", 32, 48),
        ("eva02_tiny_patch14_224", 28, 42),
        ("coatnet_pico_rw_224", 64, 96),
        ("swin_tiny_patch4_window7_224", 224, 192),
    ],
)
def test_positions_of_their_own_size_stay_and_others_fit(backbone, small, large):
    made = [
        PictureNetwork(timm.create_model(backbone, img_size=side, num_classes=2))
        for side in (small, large)
    ]
    states = [network.state_dict() for network in made]
    assert resized(states[0], made[0], "it") is states[0]
    fitting = resized(states[0], made[1], "it")
    made[1].load_state_dict(fitting)
    there = resized(fitting, made[1], "it")
    assert there is fitting
    unlike = [name for name in fitting if fitting[name].shape != states[0][name].shape]
    assert all("pos" in name for name in unlike)
    assert all(fitting[name] is states[0][name] for name in fitting if name not in unlike)


def test_a_start_that_does_not_fit_is_named(rows, tmp_path):
    first = fitted(rows, tmp_path / "first", epochs=1, keep=[])
    other = from_model(first, backbone=NORM)
    with pytest.raises(ValueError, match="does not fit test_efficientnet: it is of another"):
        begun(small_job(tmp_path / "other", **other), rows)
    renamed = rows.replace({"target": {CLASSES[-1]: "eel"}})
    wrong = from_model(first, classes=[*CLASSES[:-1], "eel"])
    with pytest.raises(ValueError, match="was trained for 4 other classes"):
        begun(small_job(tmp_path / "classes", **wrong), renamed)
    levit = [timm.create_model("levit_128s", img_size=side) for side in (64, 96)]
    with pytest.raises(ValueError, match="cannot be resized"):
        resized(levit[0].state_dict(), levit[1], "levit")
