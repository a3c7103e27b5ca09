"""Losses by identities."""

import pytest
import torch
from torch.nn import functional as F

from fgvc_utils.training.losses import (
    Objective,
    distillation,
    generalised_cross_entropy,
    soft_cross_entropy,
)


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 5, generator=random)
    labels = torch.randint(5, (6,), generator=random)
    teacher = torch.randn(6, 5, generator=random)
    return logits, labels, F.one_hot(labels, 5).float(), teacher


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_on_hard_labels_it_is_cross_entropy(batch, smoothing):
    logits, labels, targets, _ = batch
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(soft_cross_entropy(logits, targets, smoothing), expected)
    torch.testing.assert_close(Objective(smoothing, 0.0, 1.0)(logits, targets), expected)


def test_smoothing_mixes_with_the_uniform_distribution(batch):
    logits, _, targets, _ = batch
    mixed = 0.8 * targets + 0.2 / 5
    torch.testing.assert_close(
        soft_cross_entropy(logits, targets, 0.2), soft_cross_entropy(logits, mixed)
    )


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_distillation_is_zero_on_itself_and_positive_else(batch, temperature):
    logits, _, _, teacher = batch
    own = (logits / temperature).softmax(dim=1)
    assert abs(distillation(logits, own, temperature).item()) < 1e-5
    probabilities = (teacher / temperature).softmax(dim=1)
    by_hand = (probabilities * (probabilities.log() - own.log())).sum(dim=1).mean()
    got = distillation(logits, probabilities, temperature)
    torch.testing.assert_close(got, by_hand * temperature**2)
    assert got > 0


def test_weights_0_half_and_1(batch):
    logits, _, targets, teacher = batch
    probabilities = (teacher / 2).softmax(dim=1)
    both = torch.cat([targets, probabilities], dim=1)
    told = soft_cross_entropy(logits, targets, 0.1)
    taught = distillation(logits, probabilities, 2.0)
    torch.testing.assert_close(Objective(0.1, 0.5, 2.0)(logits, both), (told + taught) / 2)
    torch.testing.assert_close(Objective(0.1, 1.0, 2.0)(logits, both), taught)


def soft(batch):
    """Targets of mixed pictures."""
    _, labels, targets, _ = batch
    return 0.7 * targets + 0.3 * targets.roll(1, dims=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_small_q_gives_cross_entropy(batch, smoothing):
    logits, targets = batch[0], soft(batch)
    limit = soft_cross_entropy(logits, targets, smoothing)
    far = [
        (generalised_cross_entropy(logits, targets, q, smoothing) - limit).abs().item()
        for q in (0.3, 1e-2, 1e-5)
    ]
    assert far[0] > far[1] > far[2] and far[2] < 1e-4
    torch.testing.assert_close(Objective(smoothing, 0.0, 1.0, 0.0)(logits, targets), limit)


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_q_of_one_is_half_the_mean_absolute_error_of_each_class(batch, labels):
    logits, targets = batch[0], batch[2] if labels == "hard" else soft(batch)
    # The error against each class as if it were the label, in the shares of the target.
    of_class = (torch.eye(5)[None] - logits.softmax(dim=1)[:, None]).abs().sum(dim=2)
    expected = (targets * of_class).sum(dim=1).mean() / 2
    torch.testing.assert_close(generalised_cross_entropy(logits, targets, 1.0), expected)


def test_a_larger_q_is_led_astray_less_by_a_label_that_the_network_finds_unlikely(batch):
    logits = torch.tensor([[6.0, 0.0, 0.0]], requires_grad=True)
    wrong, slopes = torch.tensor([[0.0, 1.0, 0.0]]), []
    for q in (0.1, 0.4, 0.7, 1.0):
        (slope,) = torch.autograd.grad(generalised_cross_entropy(logits, wrong, q), logits)
        slopes.append(slope.abs().max().item())
    assert slopes == sorted(slopes, reverse=True) and slopes[0] > 50 * slopes[-1]


def test_generalised_cross_entropy_stays_a_number_where_a_class_is_impossible():
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = generalised_cross_entropy(logits, torch.tensor([[0.0, 1.0]]), 0.5)
    loss.backward()
    assert loss.item() == pytest.approx(2.0) and logits.grad.isfinite().all()


def test_teachers_and_generalised_cross_entropy_share_the_loss(batch):
    logits, _, targets, teacher = batch
    probabilities = (teacher / 2).softmax(dim=1)
    both = torch.cat([targets, probabilities], dim=1)
    told = generalised_cross_entropy(logits, targets, 0.6, 0.1)
    taught = distillation(logits, probabilities, 2.0)
    torch.testing.assert_close(
        Objective(0.1, 0.25, 2.0, 0.6)(logits, both), told * 0.75 + taught / 4
    )
