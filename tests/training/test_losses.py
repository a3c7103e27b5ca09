"""Losses by identities."""

import pytest
import torch
from torch.nn import functional as F

from fgvc_utils.training.losses import Objective, distillation, soft_cross_entropy


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
