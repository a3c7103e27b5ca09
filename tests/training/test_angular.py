"""The classifier of angles: what it predicts, its margin in the loss, and fits that have one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import load_file
from small_jobs import CLASSES, draw_pictures, small_job
from torch.nn import functional as F

from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.launch import launch
from fgvc_utils.hardware.plan import Hardware
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training import backbones, balance
from fgvc_utils.training.angular import AngularClassifier, AngularMargin, set_angular
from fgvc_utils.training.averaging import average_weights
from fgvc_utils.training.fitting import LAST, Account
from fgvc_utils.training.losses import Objective, objective_of
from fgvc_utils.training.recipes import as_trained, view_jobs
from fgvc_utils.training.worker import carry_out

pytestmark = pytest.mark.usefixtures("one_thread")
ARCFACE = {"classifier": "arcface", "arcface_centres": 2, "arcface_scale": 16.0}


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> pd.DataFrame:
    drawn = draw_pictures(tmp_path_factory.mktemp("pictures"), 96)
    held = np.arange(len(drawn)) % 3 == 0
    return drawn.assign(fit=~held, validate=held)


def carried_out(rows, folder, **changes):
    job = small_job(folder, **(ARCFACE | changes))
    write_job(job, rows)
    carry_out(job, Processes(), Progress(None))
    return job


def weights(job):
    return load_file(Path(job.folder) / "weights.safetensors")


def logits(job):
    return Store(job.store).read("logits").astype(np.float32)


def margined(cosines, targets, margin, scale=1.0, prior=None):
    """Scaled cosines with a margin, from cosines (batch, classes) as they are."""
    classifier = AngularClassifier(2, cosines.shape[1], 1, scale)
    prior = torch.zeros(cosines.shape[1]) if prior is None else prior
    backbones.freeze_bias(classifier, prior)
    return AngularMargin(margin, classifier)(scale * cosines + prior, targets)


# --- the classifier ----------------------------------------------------------------------------


def test_one_centre_without_a_margin_is_the_plain_cosine_classifier():
    torch.manual_seed(0)
    classifier, features = AngularClassifier(6, 4, 1, 20.0), torch.randn(5, 6)
    centres = classifier.centres[:, 0]
    plain = 20 * F.cosine_similarity(features[:, None], centres[None], dim=2)
    torch.testing.assert_close(classifier(features), plain)
    targets = F.one_hot(torch.tensor([0, 1, 2, 3, 0]), 4).float()
    loss = Objective(0.1, 0.0, 1.0, margin=AngularMargin(0.0, classifier))(plain, targets)
    torch.testing.assert_close(loss, F.cross_entropy(plain, targets, label_smoothing=0.1))


def test_the_nearest_of_several_centres_counts_and_alone_learns():
    classifier = AngularClassifier(2, 2, 2, 3.0)
    with torch.no_grad():
        classifier.centres.copy_(torch.tensor([[[1.0, 0], [0, 5.0]], [[-1.0, 0], [0, -2.0]]]))
    out = classifier(torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(out, torch.tensor([[2.4, -1.8]]))
    out[0, 0].backward()
    assert (classifier.centres.grad[0, 0] == 0).all() and (classifier.centres.grad[0, 1] != 0).any()


def test_cosines_keep_their_digits_in_shorter_floats():
    torch.manual_seed(0)
    classifier, features = AngularClassifier(64, 4, 3, 30.0), torch.randn(8, 64)
    with torch.autocast("cpu", torch.bfloat16):
        out = classifier(features)
    assert out.dtype == torch.float32 and torch.equal(out, classifier(features))


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet", "test_resnet"])
def test_it_takes_the_last_layers_place_in_any_network(name):
    torch.manual_seed(0)
    body = backbones.create_network(name, "none", 5, size=32).eval()
    set_angular(body, 3, 10.0)
    pictures = torch.randn(2, 3, 160, 160) if name == "test_vit" else torch.randn(2, 3, 64, 64)
    if name == "test_vit":
        body = timm.create_model(name, num_classes=5).eval()
        set_angular(body, 3, 10.0)
    features, out = backbones.features_and_logits(body, pictures)
    torch.testing.assert_close(body(pictures), out)
    torch.testing.assert_close(body.get_classifier()(features), out)
    assert out.shape == (2, 5) and out.abs().max() <= 10


def test_a_network_whose_last_layer_is_another_is_refused():
    with torch.device("meta"):
        body = timm.create_model("deit_tiny_distilled_patch16_224")
    with pytest.raises(ValueError, match="deit_tiny_distilled.* has another kind; set classifier"):
        set_angular(body, 1, 30.0)


# --- the margin --------------------------------------------------------------------------------


def test_the_margin_turns_a_label_away_and_leaves_the_other_classes():
    angles = torch.tensor([[0.3, 1.2, 2.0], [1.0, 0.4, 2.5]])
    targets = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])
    out = margined(angles.cos(), targets, 0.5, scale=12.0)
    torch.testing.assert_close(out, 12 * (angles + 0.5 * targets).cos(), atol=1e-4, rtol=0)


def test_the_margin_of_a_mixed_picture_goes_by_the_shares_of_its_classes():
    angles = torch.tensor([[0.9, 1.2, 2.0]])
    out = margined(angles.cos(), torch.tensor([[0.7, 0.3, 0.0]]), 0.4)
    expected = torch.tensor([[0.9 + 0.28, 1.2 + 0.12, 2.0]]).cos()
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(margined(angles.cos(), torch.zeros(1, 3), 0.4), angles.cos())


def test_with_a_margin_the_cosine_falls_all_the_way_round_and_has_a_slope():
    cosines = torch.linspace(1, -1, 201, requires_grad=True)
    out = margined(cosines[:, None], torch.ones(201, 1), 0.5)[:, 0]
    assert (out.diff() < 0).all() and out.max().item() == pytest.approx(np.cos(0.5), abs=1e-3)
    out.sum().backward()
    assert cosines.grad.isfinite().all() and (cosines.grad >= 0).all()


def test_a_frozen_prior_stays_outside_the_angle():
    prior = torch.tensor([-1.0, -3.0])
    cosines, targets = torch.tensor([[0.5, 0.2]]), torch.tensor([[0.0, 1.0]])
    without = margined(cosines, targets, 0.3, 10.0)
    torch.testing.assert_close(margined(cosines, targets, 0.3, 10.0, prior), without + prior)


def test_a_margin_makes_the_loss_of_labels_larger_and_not_that_of_teachers(tmp_path):
    torch.manual_seed(0)
    job = small_job(tmp_path, **ARCFACE, arcface_margin=0.4, teacher_weight=0.5)
    network = torch.nn.Sequential(AngularClassifier(8, 4, 2, 16.0))
    network.get_classifier = lambda: network[0]
    targets = F.one_hot(torch.arange(4), 4).float()
    both = torch.cat([targets, targets.roll(1, dims=0)], dim=1)
    out = network(torch.randn(4, 8))

    def loss(**changes):
        changed = job.model_copy(update=changes)
        given = both if changed.teacher_weight else targets
        return objective_of(changed, network)(out, given).item()

    for weight, more in ((0.0, True), (0.5, True), (1.0, False)):
        with_it = loss(teacher_weight=weight)
        without = loss(teacher_weight=weight, arcface_margin=0.0)
        assert (with_it > without + 0.1) == more
        assert with_it >= without
    assert loss(teacher_weight=0.0, loss="gce") != loss(teacher_weight=0.0)


# --- fits --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(rows, tmp_path_factory):
    """A fit with a margin, a frozen prior and averaged weights."""
    few = rows.assign(fit=rows["fit"] & ((rows["target"] != "dog") | (rows.index % 8 == 3)))
    folder = tmp_path_factory.mktemp("fits") / "arc"
    kept = {"keep": ["logits", "features"], "ema_decay": 0.5, "balance": "prior", "seed": 5}
    return few, carried_out(few, folder, epochs=12, optimiser="adamw", base_lr=0.003, **kept)


def test_it_learns_and_predicts_cosines_of_the_nearest_centre(trained):
    rows, job = trained
    log = pd.read_csv(Path(job.folder) / "log.csv")
    assert log["train_loss"].iloc[-1] < log["train_loss"].iloc[0]
    state, store = weights(job), Store(job.store)
    out, features = logits(job), torch.from_numpy(store.read("features").astype(np.float32))
    centres = F.normalize(state["body.head.fc.centres"], dim=2)
    cosines = torch.einsum("bw,ckw->bck", F.normalize(features), centres).amax(dim=2)
    # Neither margin nor prior is in what is predicted.
    np.testing.assert_allclose(out, 16 * cosines.numpy(), atol=0.05)
    counts = rows.loc[rows["fit"], "target"].value_counts()[CLASSES]
    prior = torch.from_numpy(balance.log_prior(counts.to_numpy()))
    assert torch.equal(state["body.head.fc.bias"], prior) and counts["dog"] < counts["ant"]
    right = out.argmax(axis=1) == [CLASSES.index(target) for target in rows["target"]]
    assert right[rows["fit"]].mean() > 0.5


def test_the_trained_network_predicts_the_same_again_and_teaches(trained, tmp_path):
    rows, job = trained
    again = job.elsewhere(tmp_path / "again", "again", **as_trained(job))
    write_job(again, rows)
    carry_out(again, Processes(), Progress(None))
    np.testing.assert_array_equal(logits(again), logits(job))
    student = small_job(tmp_path / "student", teacher_weight=1.0, teacher_views=1)
    [(views, seen)] = view_jobs(student, rows, [Path(job.folder)])
    write_job(views, seen)
    carry_out(views, Processes(), Progress(None))
    said = Store(views.store).read("view-0").astype(np.float32)
    assert np.isfinite(said).all() and np.abs(said).max() <= 16.05


def test_weights_of_angles_are_averaged_among_themselves_alone(trained, rows, tmp_path):
    _, job = trained
    file = Path(job.folder) / "weights.safetensors"
    mean = load_file(average_weights([file, file], tmp_path / "mean"))
    assert all(torch.equal(mean[name], tensor) for name, tensor in weights(job).items())
    linear = carried_out(rows, tmp_path / "linear", classifier="linear", epochs=1, keep=[])
    with pytest.raises(ValueError, match="differ in the tensor 'body.head.fc"):
        average_weights([file, Path(linear.folder) / "weights.safetensors"], tmp_path / "no")


def test_a_fit_that_was_cut_off_ends_in_the_same_weights(rows, tmp_path, monkeypatch):
    changes = {"epochs": 3, "keep": [], "ema_decay": 0.5, "loss": "gce"}
    whole = carried_out(rows, tmp_path / "whole", **changes)
    keep_last = Account._keep_last

    def cut(account, network):
        keep_last(account, network)
        if account.epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Account, "_keep_last", cut)
    with pytest.raises(KeyboardInterrupt):
        carried_out(rows, tmp_path / "cut", **changes)
    monkeypatch.undo()
    assert (tmp_path / "cut" / LAST).is_file()
    resumed = carried_out(rows, tmp_path / "cut", **changes)
    assert all(torch.equal(weights(resumed)[n], t) for n, t in weights(whole).items())


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(rows, tmp_path):
    one, two = (
        small_job(tmp_path / str(n), **ARCFACE, loss="gce", keep=["logits"]) for n in (1, 2)
    )
    files = [write_job(job, rows) for job in (one, two)]
    carry_out(one, Processes(), Progress(None))
    hardware = Hardware(processes=2, threads=1, device="cpu", timeout_minutes=3)
    launch([files[1]], tmp_path / "launch", hardware)
    apart = [(weights(two)[n] - t).abs().max().item() for n, t in weights(one).items()]
    assert max(apart) < 1e-4
