"""RandAugment and AugMix: torchvision's, each picture with draws of its own.

torchvision draws as it changes the pixels. Here one number is drawn, and all else follows from it,
so that the same happens to a picture in a worker and on the device that trains.
"""

from typing import Any

import torch
from torch import nn
from torchvision.transforms import v2

from fgvc_utils.training.random_change import RandomChange

# The grey of what a picture that was moved leaves free.
FILL = [128, 128, 128]
MOST_SEED = 2**63 - 1


class _Policy(RandomChange):
    """A policy of torchvision, which draws from torch's global random numbers of the CPU."""

    def __init__(self, policy: nn.Module) -> None:
        self.policy = policy

    def draw(self, height: int, width: int) -> int:
        return int(torch.randint(MOST_SEED, ()))

    def apply(self, picture: torch.Tensor, drawn: int) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(drawn)
            return self.policy(picture)


class RandAugment(_Policy):
    """Make some operations one after the other, each drawn from fourteen, all equally strong.

    They are shear, shift and turn, brightness, saturation, contrast and sharpness, fewer grey
    levels, solarisation, automatic contrast, equalisation, and none.

    Parameters
    ----------
    strength : float
        0 to 30, torchvision's magnitude; rounded.
    operations : float
        How many.

    References
    ----------
    Cubuk et al., RandAugment: practical automated data augmentation with a reduced search space,
    NeurIPS 2020.
    """

    def __init__(self, strength: float, operations: float) -> None:
        super().__init__(
            v2.RandAugment(int(operations), round(strength), interpolation="bilinear", fill=FILL)
        )


class _DrawnOnTheCpu(v2.AugMix):
    """AugMix whose shares are drawn on the CPU too, as all else is, wherever the picture is."""

    def _sample_dirichlet(self, params: torch.Tensor) -> Any:
        return super()._sample_dirichlet(params.cpu()).to(params.device)


class AugMix(_Policy):
    """Mix a picture with three chains of one to three operations each, in random shares.

    Parameters
    ----------
    strength : float
        1 to 10, the severity of the operations; rounded.

    References
    ----------
    Hendrycks et al., AugMix: a simple data processing method to improve robustness and uncertainty,
    ICLR 2020.
    """

    def __init__(self, strength: float) -> None:
        super().__init__(_DrawnOnTheCpu(round(strength), interpolation="bilinear", fill=FILL))
