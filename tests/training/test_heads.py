"""Layers on stored features."""

import pytest
import torch

from fgvc_utils.training.heads import Head, ModelConvolution, Standardise


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_standardise_brings_train_features_to_mean_0_and_deviation_1():
    features = torch.randn(200, 6) * torch.tensor([1.0, 5, 0.1, 2, 3, 0]) + 4
    out = Standardise(features)(features)
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(out.std(dim=0)[:5], torch.ones(5), atol=1e-4, rtol=0)
    assert out.isfinite().all() and Standardise(features)(features.half()).dtype == torch.float32


@pytest.mark.parametrize(
    ("widths", "along", "out_width"),
    [
        ([8] * 5, "models", 4),
        ([8] * 7, "models", 4 * 3),
        ([8, 8], "models", 4),
        ([8, 12, 10], "models", 4),
        ([8] * 5, "features", 2 * 8),
        ([8, 12], "features", 8),
    ],
)
def test_the_convolution_halves_what_it_should(widths, along, out_width):
    mixer = ModelConvolution(widths, along)
    assert mixer(torch.randn(3, sum(widths))).shape == (3, mixer.out_width) == (3, out_width)


def test_along_models_it_is_one_linear_map_of_all_models_features():
    mixer = ModelConvolution([4] * 5, "models").eval()
    features = torch.randn(3, 20)
    weight = mixer.convolution.weight  # (2 channels, 4 features, 5 models)
    by_hand = torch.einsum("bmf,cfm->bc", features.reshape(3, 5, 4), weight)
    by_hand = (by_hand + mixer.convolution.bias) / (1 + mixer.norm.eps) ** 0.5
    torch.testing.assert_close(mixer(features), by_hand)


def test_with_all_channels_and_equal_weights_it_is_the_mean_of_the_models_layers():
    """Of equally wide features: no BatchNorm, a kernel over all models, weights of 1 / models."""
    models, width = 4, 6
    mixer = ModelConvolution([width] * models, "models", channels=width, norm=False)
    assert mixer.convolution.kernel_size == (models,) and mixer.out_width == width
    with torch.no_grad():
        mixer.convolution.weight.copy_(torch.eye(width)[:, :, None].expand(-1, -1, models) / models)
        mixer.convolution.bias.zero_()
    layer = torch.nn.Linear(width, 3)
    features = torch.randn(5, models * width)
    mean = torch.stack([layer(part) for part in features.split(width, dim=1)]).mean(dim=0)
    torch.testing.assert_close(layer(mixer(features)), mean)


def test_one_model_alone_under_the_convolution_is_itself():
    mixer = ModelConvolution([6], "models", channels=6, norm=False)
    with torch.no_grad():
        mixer.convolution.weight.copy_(torch.eye(6)[:, :, None])
        mixer.convolution.bias.zero_()
    features = torch.randn(5, 6)
    torch.testing.assert_close(mixer(features), features)


@pytest.mark.parametrize("kind", ["linear", "convolution", "convolution-along"])
def test_a_head_starts_from_no_opinion_and_learns(kind):
    features = torch.randn(60, 20)
    labels = (features[:, 0] > 0).long()
    head = Head(features, [10, 10], 2, kind)
    assert torch.equal(head(features), torch.zeros(60, 2))
    assert head.get_classifier().out_features == 2
    optimiser = torch.optim.Adam(head.parameters(), 0.02)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(head(features), labels).backward()
        optimiser.step()
    assert (head.eval()(features).argmax(dim=1) == labels).float().mean() > 0.9
