"""Colours change as torchvision changes them, in one pass."""

import itertools

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fgvc_utils.training import colour

KINDS = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
}


def picture(height, width, low=60, high=180):
    """Mid-tones: no order of small changes reaches black or white."""
    torch.manual_seed(0)
    return torch.randint(low, high, (3, height, width), dtype=torch.uint8)


@pytest.mark.parametrize("order", list(itertools.permutations(KINDS)), ids="-".join)
@pytest.mark.parametrize("size", [(16, 24), (7, 9), (6, 2)])
def test_any_order_gives_what_torchvision_gives_but_for_rounding(order, size):
    factors = {"brightness": 1.2, "contrast": 0.85, "saturation": 1.15}
    source = picture(*size)
    # On floats, which are not cut off to whole levels between the steps.
    wanted = source / 255
    for kind in order:
        wanted = KINDS[kind](wanted, factors[kind])
    found = colour.adjust(source, [(kind, factors[kind]) for kind in order])
    assert found.dtype == torch.uint8 and found.shape == source.shape
    assert (found - 255 * wanted).abs().max() <= 0.51
    assert (found.int() - source.int()).abs().max() > 10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 2.0])
def test_one_change_is_torchvisions_even_at_black_and_white(kind, factor):
    source = picture(16, 24, 0, 256)
    wanted = KINDS[kind](source, factor)
    found = colour.adjust(source, [(kind, factor)])
    assert (found.int() - wanted.int()).abs().max() <= 1


def test_nothing_changes_without_steps_and_at_strength_0():
    source = picture(8, 12, 0, 256)
    assert torch.equal(colour.adjust(source, []), source)
    assert torch.equal(colour.ColourJitter(0.0)(source), source)


def test_memory_order_does_not_matter_and_the_source_stays():
    source = picture(16, 24)
    kept = source.clone()
    steps = [("contrast", 0.5), ("saturation", 2.0)]
    inner = source.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(colour.adjust(source, steps), colour.adjust(inner, steps))
    turned = colour.adjust(torch.rot90(inner, 1, (1, 2)), steps)
    assert torch.equal(torch.rot90(turned, -1, (1, 2)), colour.adjust(source, steps))
    assert torch.equal(source, kept)


def test_draws_follow_the_seed_and_spread_as_torchvisions():
    source = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    jitter = colour.ColourJitter(0.2)
    torch.manual_seed(5)
    one = jitter(source)
    torch.manual_seed(5)
    assert torch.equal(jitter(source), one)
    # Of a plain grey picture only the brightness can change.
    ours = torch.tensor([jitter(source)[0, 0, 0] for _ in range(400)]).float()
    theirs = v2.ColorJitter(0.2, 0.2, 0.2)
    other = torch.tensor([theirs(source)[0, 0, 0] for _ in range(400)]).float()
    assert 80 <= ours.min() < 84 and 116 < ours.max() <= 120
    assert abs(ours.mean() - other.mean()) < 3 and abs(ours.std() - other.std()) < 1.5


@pytest.mark.parametrize("size", [(16, 24), (7, 9), (64, 64)])
def test_a_batch_gives_what_its_pictures_give_but_for_a_grey_level(size):
    torch.manual_seed(0)
    batch = torch.randint(0, 256, (12, 3, *size), dtype=torch.uint8)
    steps = [colour.ColourJitter(0.8).draw(*size) for _ in batch]
    steps[3] = [("saturation", 0.0), ("contrast", 0.0), ("brightness", 2.0)]
    found = colour.adjust_batch(batch, steps)
    wanted = torch.stack([colour.adjust(*each) for each in zip(batch, steps, strict=True)])
    assert found.dtype == torch.uint8 and found.shape == batch.shape
    apart = (found.int() - wanted.int()).abs()
    assert apart.max() <= 1 and (apart > 0).float().mean() < 1e-3
    assert (wanted.int() - batch.int()).abs().float().mean() > 5
