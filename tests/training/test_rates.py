"""Rates and groups of weights: what neutral settings leave alone, and what the others change."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small_jobs import draw_pictures, small_job

from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training.callbacks import Steps
from fgvc_utils.training.feed import GlobalBatches
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import new_network
from fgvc_utils.training.parameter_groups import parameter_groups
from fgvc_utils.training.worker import carry_out

pytestmark = pytest.mark.usefixtures("one_thread")
NORM = "test_efficientnet"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    drawn = draw_pictures(tmp_path_factory.mktemp("pictures"), 96)
    held = np.arange(len(drawn)) % 3 == 0
    return drawn.assign(fit=~held, validate=held)


def carried_out(rows: pd.DataFrame, folder: Path, **changes: object) -> Job:
    job = small_job(folder, **({"keep": []} | changes))
    write_job(job, rows)
    carry_out(job, Processes(), Progress(None))
    return job


def fresh(rows: pd.DataFrame, folder: Path, **changes: object) -> tuple[Job, torch.nn.Module]:
    job = small_job(folder, **changes)
    write_job(job, rows)
    return job, new_network(job, Material(job))


def weights(job: Job) -> dict[str, torch.Tensor]:
    return load_file(Path(job.folder) / "weights.safetensors")


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def steps(job: Job, of_epoch: int = 10) -> Steps:
    return Steps(job, GlobalBatches(np.arange(32 * of_epoch), 32, 1, 1, 0, seed=0))


def test_the_cosine_without_warm_up_is_as_it_was(tmp_path):
    taken = steps(small_job(tmp_path, optimiser="sgd", base_lr=0.3, epochs=3))
    rates = [taken.rate_of(step) for step in range(30)]
    assert rates == [float(0.3 * 0.5 * (1 + np.cos(np.pi * step / 30))) for step in range(30)]


def test_a_warm_up_rises_evenly_and_ends_where_the_cosine_begins(tmp_path):
    taken = steps(small_job(tmp_path, optimiser="adamw", base_lr=0.3, epochs=2, warm_up=0.25))
    rates = [taken.rate_of(step) for step in range(20)]
    np.testing.assert_allclose(np.diff(rates[:6]), 0.3 / 6)
    assert rates[0] == pytest.approx(0.3 / 6) and rates[5] == 0.3 == max(rates)
    assert rates[5:] == sorted(rates[5:], reverse=True) and rates[19] < 0.01


@pytest.mark.parametrize("backbone", ["test_convnext", "test_vit", NORM])
def test_one_rate_is_one_list_of_weights_and_a_decay_groups_all_of_them(rows, tmp_path, backbone):
    job, network = fresh(rows, tmp_path, backbone=backbone, weight_decay=0.1)
    plain = parameter_groups(network, job)
    assert [id(each) for each in plain] == [id(each) for each in network.parameters()]
    decayed = job.model_copy(update={"layer_decay": 0.5, "head_lr_scale": 7.0})
    groups = parameter_groups(network, decayed)
    grouped = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(grouped) == sorted(id(each) for each in plain), "each weight once"
    assert {group["weight_decay"] for group in groups} == {0.1}
    of = {id(weight): group["lr_scale"] for group in groups for weight in group["params"]}
    first = of[id(next(network.body.parameters()))]
    assert first == min(of.values()) < 0.3
    head = {of[id(weight)] for weight in network.get_classifier().parameters()}
    assert head == {7.0} and max(set(of.values()) - head) <= 1.0
    # Powers of the decay, and nothing else.
    powers = np.log2([scale for scale in of.values() if scale != 7.0])
    np.testing.assert_allclose(powers, np.round(powers))


@pytest.mark.parametrize("backbone", ["test_convnext", "test_vit", NORM])
@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_norms_and_biases_may_go_undecayed(rows, tmp_path, backbone, layer_decay):
    settings = {"weight_decay": 0.1, "decay_norms": False, "layer_decay": layer_decay}
    job, network = fresh(rows, tmp_path, backbone=backbone, **settings)
    groups = parameter_groups(network, job)
    undecayed = [w for group in groups if not group["weight_decay"] for w in group["params"]]
    decayed = [w for group in groups if group["weight_decay"] for w in group["params"]]
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}
    assert len(undecayed) + len(decayed) == len(list(network.parameters()))
    assert all(weight.ndim > 1 for weight in decayed)
    extra = {id(weight) for name, weight in network.body.named_parameters() if "pos_emb" in name}
    assert all(weight.ndim <= 1 or id(weight) in extra | cls(network) for weight in undecayed)


def cls(network: torch.nn.Module) -> set[int]:
    """Single tokens of a ViT, which timm does not decay either."""
    named = network.body.named_parameters()
    return {id(weight) for name, weight in named if name in ("cls_token", "reg_token")}


def test_groups_of_one_rate_train_as_no_groups_do(rows, tmp_path):
    """A scale so near 1 that only the grouping differs."""
    recipe = {"optimiser": "adamw", "weight_decay": 0.1}
    plain = carried_out(rows, tmp_path / "plain", **recipe)
    grouped = carried_out(rows, tmp_path / "grouped", head_lr_scale=1 + 1e-12, **recipe)
    one, other = weights(plain), weights(grouped)
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-6


def test_layers_far_from_the_classifier_move_less(rows, tmp_path):
    recipe = {"optimiser": "sgd", "epochs": 1}
    _, network = fresh(rows, tmp_path / "start", **recipe)
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    moved = {}
    for decay in (1.0, 0.1):
        job = carried_out(rows, tmp_path / str(decay), layer_decay=decay, **recipe)
        state = weights(job)
        moved[decay] = {n: float((state[n] - start[n]).norm()) for n in start}
    assert moved[0.1]["body.stem.0.weight"] < moved[1.0]["body.stem.0.weight"] / 100
    assert moved[0.1]["body.head.fc.weight"] > moved[1.0]["body.head.fc.weight"] / 2


@pytest.mark.parametrize("backbone", ["test_convnext", NORM])
def test_neutral_settings_change_no_bit(rows, tmp_path, backbone):
    neutral = {"warm_up": 0.0, "clip_norm": 0.0, "layer_decay": 1.0, "head_lr_scale": 1.0}
    neutral |= {"freeze_statistics": False, "decay_norms": True}
    recipe = {"backbone": backbone, "weight_decay": 0.01}
    plain = carried_out(rows, tmp_path / "plain", **recipe)
    # A gradient that is never so long is not clipped, and is divided by nothing.
    unclipped = carried_out(rows, tmp_path / "unclipped", **(recipe | neutral | {"clip_norm": 1e9}))
    assert same(weights(plain), weights(unclipped))


def test_a_clipped_gradient_takes_a_shorter_step(rows, tmp_path):
    recipe = {"optimiser": "sgd", "momentum": 0.0, "epochs": 1, "keep_every_step": True}
    _, network = fresh(rows, tmp_path / "start", **recipe)
    start = dict(network.named_parameters())
    job = carried_out(rows, tmp_path / "clipped", clip_norm=0.01, **recipe)
    after = load_file(Path(job.folder) / "steps" / "00000.safetensors")
    moved = torch.cat([(after[name] - start[name].detach()).flatten() for name in start]).norm()
    # The rate times the norm.
    torch.testing.assert_close(moved, torch.tensor(0.01 * 0.01), rtol=2e-2, atol=0)


def test_frozen_statistics_stay_and_the_weights_learn(rows, tmp_path):
    recipe = {"backbone": NORM, "epochs": 1}
    _, network = fresh(rows, tmp_path / "start", **recipe)
    start = network.state_dict()
    frozen = weights(carried_out(rows, tmp_path / "frozen", freeze_statistics=True, **recipe))
    free = weights(carried_out(rows, tmp_path / "free", **recipe))
    statistics = [name for name in start if "running" in name or "num_batches" in name]
    assert statistics and all(torch.equal(frozen[name], start[name]) for name in statistics)
    assert not any(torch.equal(free[name], start[name]) for name in statistics)
    assert not torch.equal(frozen["body.conv_stem.weight"], start["body.conv_stem.weight"])


class PowerCut(Progress):
    """Fails in the middle of the third epoch."""

    def step(self, job: str, done: int, total: int, what: str = "") -> None:
        if what == "epoch 3/4":
            raise KeyboardInterrupt


def test_a_fit_in_groups_that_was_cut_off_ends_in_the_same_weights(rows, tmp_path):
    recipe = {"epochs": 4, "optimiser": "adamw", "layer_decay": 0.7, "head_lr_scale": 5.0}
    recipe |= {"decay_norms": False, "weight_decay": 0.1, "warm_up": 0.3, "clip_norm": 0.5}
    recipe |= {"backbone": NORM, "freeze_statistics": True}
    through = carried_out(rows, tmp_path / "through", **recipe)
    job = small_job(tmp_path / "cut", keep=[], **recipe)
    write_job(job, rows)
    with pytest.raises(KeyboardInterrupt):
        carry_out(job, Processes(), PowerCut(None))
    carry_out(job, Processes(), Progress(None))
    assert same(weights(through), weights(job))
