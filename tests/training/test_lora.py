"""Adapters change nothing before they learn, reach every layer they should, and leave no trace."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_jobs import draw_pictures, small_job
from tiny_networks import tiny
from torch import nn

from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training import backbones, lora
from fgvc_utils.training.fitting import Account
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import new_network
from fgvc_utils.training.worker import carry_out

pytestmark = pytest.mark.usefixtures("one_thread")
# Attention takes its weights in different ways in them.
ADAPTED = ["clip", "siglip", "dinov3", "eva02", "swinv2", "beit", "dinov3 convnext"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    drawn = draw_pictures(tmp_path_factory.mktemp("pictures"), 64)
    held = np.arange(len(drawn)) % 4 == 0
    return drawn.assign(fit=~held, validate=held)


def fitted(folder: Path, rows, **changes):
    given = {"backbone": "test_vit", "optimiser": "adamw", "keep": ["logits"], "epochs": 1}
    job = small_job(folder, **(given | changes))
    write_job(job, rows)
    carry_out(job, Processes(), Progress(None))
    return load_file(folder / "weights.safetensors")


def network_of(name: str, size: int) -> nn.Module:
    torch.manual_seed(0)
    network = backbones.create_network(name, "none", 3, size=size)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


@pytest.mark.parametrize("family", ADAPTED)
def test_adapters_change_nothing_until_they_learn_and_are_merged_without_a_trace(family, tmp_path):
    name, size = tiny(tmp_path / "net", family)
    network = network_of(name, size)
    names, pictures = list(network.state_dict()), torch.randn(2, 3, size, size)
    with torch.no_grad():
        plain = network(pictures)
    lora.add_adapters(network, name, 2, 8.0)
    with torch.no_grad():
        torch.testing.assert_close(network(pictures), plain, atol=1e-5, rtol=1e-5)
    learning = {n: p for n, p in network.named_parameters() if p.requires_grad}
    head = {id(p) for p in network.get_classifier().parameters()}
    assert all(".lora_" in n or id(p) in head for n, p in learning.items())
    optimiser = torch.optim.SGD(learning.values(), lr=0.05)
    for _ in range(2):
        optimiser.zero_grad()
        network(pictures).square().sum().backward()
        optimiser.step()
    # None is passed by: a network of several processes would wait for its gradient for ever.
    assert all(p.grad is not None and p.grad.any() for p in learning.values())
    merged = lora.merged(network)
    assert list(merged.state_dict()) == names
    with torch.no_grad():
        learnt = network(pictures)
        torch.testing.assert_close(merged(pictures), learnt, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(learnt, plain, atol=1e-3)
    fresh = network_of(name, size)
    fresh.load_state_dict(merged.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(fresh(pictures), learnt, atol=1e-4, rtol=1e-4)


def test_a_fit_by_adapters_leaves_a_plain_network_that_predicts_as_it_did(tmp_path, rows):
    written = fitted(tmp_path / "lora", rows, lora_rank=2, ema_decay=0.5)
    begun = new_network(
        small_job(tmp_path / "lora", backbone="test_vit"),
        Material(small_job(tmp_path / "lora", backbone="test_vit")),
    )
    assert written.keys() == begun.state_dict().keys()
    moved = {n for n, tensor in begun.state_dict().items() if not torch.equal(tensor, written[n])}
    # Attention, MLPs and the classifier alone.
    layers = {f"{name}.weight" for name in lora.adapted_layers(begun)}
    assert moved == layers | {"body.head.weight", "body.head.bias"}
    again = small_job(
        tmp_path / "again", backbone="test_vit", fit="none", keep=["logits"],
        trained=str(tmp_path / "lora" / "weights.safetensors"),
    )  # fmt: skip
    write_job(again, rows)
    carry_out(again, Processes(), Progress(None))
    ids = rows["image_id"].tolist()
    logits = [Store(tmp_path / n / "predictions").read("logits", ids) for n in ("lora", "again")]
    np.testing.assert_allclose(*[each.astype(np.float32) for each in logits], atol=2e-2)


def test_rank_0_is_the_plain_fit_and_a_share_of_0_what_it_began_with(tmp_path, rows):
    plain = fitted(tmp_path / "plain", rows)
    none = fitted(tmp_path / "none", rows, lora_rank=0, lora_alpha=3.0)
    assert all(torch.equal(plain[name], none[name]) for name in plain)
    began = fitted(tmp_path / "began", rows, lora_rank=2, tuned_share=0.0)
    fresh = small_job(tmp_path / "began", backbone="test_vit")
    network = new_network(fresh, Material(fresh)).state_dict()
    assert all(torch.equal(network[name], began[name]) for name in network)


def test_a_fit_by_adapters_that_is_cut_off_ends_as_it_would_have(tmp_path, rows, monkeypatch):
    settings = {"lora_rank": 2, "epochs": 2, "ema_decay": 0.9}
    whole = fitted(tmp_path / "whole", rows, **settings)
    keep = Account._keep_last

    def cut(self, network):
        keep(self, network)
        raise KeyboardInterrupt

    monkeypatch.setattr(Account, "_keep_last", cut)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "cut", rows, **settings)
    monkeypatch.undo()
    ended = fitted(tmp_path / "cut", rows, **settings)
    assert all(torch.equal(whole[name], ended[name]) for name in whole)


def test_a_network_without_such_layers_says_so():
    with pytest.raises(ValueError, match="lora_rank: 'test_efficientnet' has no fully connected"):
        network = backbones.create_network("test_efficientnet", "none", 3)
        lora.add_adapters(network, "test_efficientnet", 4, 8.0)
