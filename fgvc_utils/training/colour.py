"""Random brightness, contrast and saturation in one pass over the pixels.

Each of the three is a linear map of a pixel's colours, so any order of them is one. torchvision's
ColorJitter takes them one by one, with some fifteen passes: at 380 px more time than all the rest
of the recipe.
"""

import math
from functools import cache

import torch

# ITU-R 601-2 luma, as in Pillow and torchvision.
GREY = (0.299, 0.587, 0.114)
# So many pixels make a row of the matrix product: three columns alone leave it idle.
TOGETHER = 8


class ColourJitter:
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

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        order = torch.randperm(3).tolist()
        factors = [max(0.0, 1 + self.strength * (2 * u - 1)) for u in torch.rand(3).tolist()]
        kinds = ("brightness", "contrast", "saturation")
        return adjust(picture, [(kinds[place], factors[place]) for place in order])


def adjust(picture: torch.Tensor, steps: list[tuple[str, float]]) -> torch.Tensor:
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
    # Half a level more, for what follows cuts off the decimals; by way of int16, for torch has no
    # fast way from float to uint8.
    whole = changed.add_(offset + 0.5).clamp_(0, 255).to(torch.int16).to(torch.uint8)
    return whole.reshape(height, width, 3).permute(2, 0, 1)


@cache
def _matrices(group: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For rows of so many pixels: what leaves them, what makes them grey, and the mean grey."""
    grey = torch.tensor(GREY)
    to_grey = torch.block_diag(*[grey[:, None].expand(3, 3)] * group)
    parts = torch.eye(3 * group), to_grey, grey.repeat(group) / group
    return tuple(part.to(device) for part in parts)


def _fused(
    steps: list[tuple[str, float]], mean: torch.Tensor
) -> tuple[float, float, torch.Tensor | float]:
    """The steps as one: colour × its share + grey of the pixel × its share + an offset.

    `mean`, the mean grey, is a scalar that stays on its device: reading it would wait for it.
    """
    colour, greyness, offset = 1.0, 0.0, 0.0
    for kind, factor in steps:
        if kind == "saturation":
            greyness = factor * greyness + (1 - factor) * (colour + greyness)
            colour = factor * colour
            continue
        grey_now = (colour + greyness) * mean + offset
        colour, greyness, offset = factor * colour, factor * greyness, factor * offset
        if kind == "contrast":
            offset += (1 - factor) * grey_now
    return colour, greyness, offset
