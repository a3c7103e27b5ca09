"""Random brightness, contrast and saturation in one pass over the pixels.

Each of the three is a linear map of a pixel's colours, so any order of them is one. torchvision's
ColorJitter takes them one by one, with some fifteen passes: at 380 px more time than all the rest
of the recipe.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from fgvc_utils.training.random_change import RandomChange, onto

# ITU-R 601-2 luma, as in Pillow and torchvision.
GREY = (0.299, 0.587, 0.114)
# So many pixels make a row of the matrix product: three columns alone leave it idle.
TOGETHER = 8


Steps = list[tuple[str, float]]


class ColourJitter(RandomChange):
    """Change brightness, contrast and saturation by factors from 1 - strength to 1 + strength.

    Takes and gives uint8 (3, height, width), on any device; draws order and factors from torch's
    global random numbers of the CPU. As torchvision's `v2.ColorJitter`, but nothing is rounded or
    cut off at black and white between the three, only in the end.

    Parameters
    ----------
    strength : float
        0 to 1.
    """

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def draw(self, height: int, width: int) -> Steps:
        order = torch.randperm(3).tolist()
        factors = [max(0.0, 1 + self.strength * (2 * u - 1)) for u in torch.rand(3).tolist()]
        kinds = ("brightness", "contrast", "saturation")
        return [(kinds[place], factors[place]) for place in order]

    def apply(self, picture: torch.Tensor, drawn: Steps) -> torch.Tensor:
        return adjust(picture, drawn)

    def apply_to_batch(self, pictures: torch.Tensor, drawn: list[Steps]) -> torch.Tensor:
        return adjust_batch(pictures, drawn)


def adjust(picture: torch.Tensor, steps: Steps) -> torch.Tensor:
    """Change a picture's brightness, contrast and saturation.

    Parameters
    ----------
    picture : Tensor
        uint8 (3, height, width).
    steps : list of (str, float)
        In their order: `brightness`, `contrast` or `saturation` and its factor. At the factor 1
        nothing changes; at 0 brightness gives black, contrast the mean grey, saturation a grey
        picture.

    Returns
    -------
    Tensor
        uint8 (3, height, width), its colours side by side in memory.
    """
    height, width = picture.shape[1:]
    group = math.gcd(height * width, TOGETHER)
    pixels = picture.permute(1, 2, 0).reshape(-1, 3 * group).float()
    same, to_grey, weights = _matrices(group, pixels.device)
    colour, greyness, offset = _fused(steps, pixels.mean(0) @ weights)
    changed = pixels @ (colour * same + greyness * to_grey)
    return _whole(changed, offset).reshape(height, width, 3).permute(2, 0, 1)


def adjust_batch(pictures: torch.Tensor, steps: Sequence[Steps]) -> torch.Tensor:
    """Change each picture of a batch by its own steps: `adjust` of all of them at once.

    Parameters
    ----------
    pictures : Tensor
        uint8 (batch, 3, height, width).
    steps : sequence of list of (str, float)
        Of each picture, as `adjust` takes them; all as many.

    Returns
    -------
    Tensor
        uint8 (batch, 3, height, width). A value may be another one than `adjust` gives by one grey
        level, where sums are rounded the other way.
    """
    batch, _, height, width = pictures.shape
    group = math.gcd(height * width, TOGETHER)
    pixels = pictures.permute(0, 2, 3, 1).reshape(batch, -1, 3 * group).float()
    same, to_grey, weights = _matrices(group, pixels.device)
    colour, greyness, offset = _fused_batch(steps, pixels.mean(1) @ weights)
    mixed = colour[:, None, None] * same + greyness[:, None, None] * to_grey
    changed = _whole(torch.bmm(pixels, mixed), offset[:, None, None])
    return changed.reshape(batch, height, width, 3).permute(0, 3, 1, 2)


def _whole(changed: torch.Tensor, offset: torch.Tensor | float) -> torch.Tensor:
    """Values of pixels with the offset as whole grey levels."""
    # Half a level more, for what follows cuts off the decimals; by way of int16, for torch has no
    # fast way from float to uint8.
    return changed.add_(offset + 0.5).clamp_(0, 255).to(torch.int16).to(torch.uint8)


@cache
def _matrices(group: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For rows of so many pixels: what leaves them, what makes them grey, and the mean grey."""
    grey = torch.tensor(GREY)
    to_grey = torch.block_diag(*[grey[:, None].expand(3, 3)] * group)
    parts = torch.eye(3 * group), to_grey, grey.repeat(group) / group
    return tuple(part.to(device) for part in parts)


def _fused(steps: Steps, mean: torch.Tensor) -> tuple[float, float, torch.Tensor | float]:
    """The steps as one: colour × its share + grey of the pixel × its share + an offset.

    `mean`, the mean grey, is a scalar that stays on its device: reading it would wait for it.
    """
    colour, greyness, offset = 1.0, 0.0, 0.0
    for kind, factor in steps:
        if kind != "saturation":
            grey_now = (colour + greyness) * mean + offset
            offset = factor * offset
            if kind == "contrast":
                offset += (1 - factor) * grey_now
        colour, greyness = _shares(kind, factor, colour, greyness)
    return colour, greyness, offset


def _shares(kind: str, factor: float, colour: float, greyness: float) -> tuple[float, float]:
    """The shares of colour and grey after one more step."""
    if kind == "saturation":
        return factor * colour, factor * greyness + (1 - factor) * (colour + greyness)
    return factor * colour, factor * greyness


def _fused_batch(
    steps: Sequence[Steps], mean: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same for the pictures of a batch, float32 (batch,) each, and `mean` too."""
    # Of each step and picture: the sum of both shares before it, what the offset is multiplied by,
    # and the share of the mean grey that is added to it.
    table = np.empty((len(steps[0]), 3, len(steps)))
    shares = np.tile([[1.0], [0.0]], len(steps))
    for picture, own in enumerate(steps):
        for place, (kind, factor) in enumerate(own):
            table[place, 0, picture] = shares[:, picture].sum()
            table[place, 1, picture] = 1.0 if kind == "saturation" else factor
            table[place, 2, picture] = 1 - factor if kind == "contrast" else 0.0
            shares[:, picture] = _shares(kind, factor, *shares[:, picture])
    there = onto(torch.from_numpy(np.concatenate([*table, shares])).float(), mean.device)
    offset = torch.zeros_like(mean)
    for before, factor, added in there[:-2].unflatten(0, (-1, 3)):
        offset = factor * offset + added * (before * mean + offset)
    return there[-2], there[-1], offset
