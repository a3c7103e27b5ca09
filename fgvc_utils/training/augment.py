"""How a picture is prepared: the size trick, and the random changes of the recipe.

Everything works on uint8 tensors of shape (3, height, width), on any device, and draws from torch's
global random numbers of the CPU, so a caller that seeds them per image gets the same picture in any
process and, but for rounding, on any device.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fgvc_utils.training.colour import ColourJitter

Transform = Callable[[torch.Tensor], torch.Tensor]


def to_tensor(picture: np.ndarray) -> torch.Tensor:
    """Turn a picture from uint8 (height, width, 3) to uint8 (3, height, width), without a copy."""
    return torch.from_numpy(picture).permute(2, 0, 1)


def test_view(size: int, ratio: float) -> Transform:
    """Return the view that is predicted: the centre crop of a resized picture.

    Parameters
    ----------
    size : int
        Side of the crop, px.
    ratio : float
        Shorter side of the resized picture / size; 1.35 in the original.

    References
    ----------
    Touvron et al., Fixing the train-test resolution discrepancy, NeurIPS 2019.
    """
    return v2.Compose([v2.Resize(round(size * ratio), antialias=True), v2.CenterCrop(size)])


def train_view(size: int, ratio: float, random_crop: bool = True) -> Transform:
    """Return the view that is trained on: a random crop of a resized picture.

    Parameters
    ----------
    size : int
        Side of the crop, px.
    ratio : float
        Shorter side of the resized picture / size; 1.15 in the original.
    random_crop : bool
        Whether the crop is random; else it is the centre.
    """
    crop = v2.RandomCrop(size) if random_crop else v2.CenterCrop(size)
    return v2.Compose([v2.Resize(round(size * ratio), antialias=True), crop])


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


class QuarterTurn:
    """Turn by 90, 180 or 270 degrees, each as likely."""

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        turns = int(torch.randint(1, 4, ()))
        return torch.rot90(picture, turns, dims=(1, 2))


class RandomQuality:
    """Shrink to a random share of the size between low and high, then enlarge again.

    The original shrinks 380 px to 150–190 px: shares of 0.395 to 0.5.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        size = list(picture.shape[1:])
        share = _uniform(self.low, self.high)
        small = [max(1, round(side * share)) for side in size]
        return F.resize(F.resize(picture, small, antialias=True), size, antialias=True)


class ScaledPaste:
    """Shrink by a random factor from `smallest` on, paste at a random place on a grey canvas."""

    def __init__(self, smallest: float) -> None:
        self.smallest = smallest

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        height, width = picture.shape[1:]
        scale = _uniform(self.smallest, 1.0)
        small_height, small_width = max(1, round(height * scale)), max(1, round(width * scale))
        small = F.resize(picture, [small_height, small_width], antialias=True)
        canvas = torch.full_like(picture, 128)
        top = int(torch.randint(0, height - small_height + 1, ()))
        left = int(torch.randint(0, width - small_width + 1, ()))
        canvas[:, top : top + small_height, left : left + small_width] = small
        return canvas


class LossyJpeg:
    """Encode as JPEG of a random quality between low and high, and decode again."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = int(low), int(high)

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        quality = int(torch.randint(self.low, self.high + 1, ()))
        pixels = np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy())
        jpeg = simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling="420")
        return to_tensor(simplejpeg.decode_jpeg(jpeg)).to(picture.device)


class GridShuffle:
    """Cut into n × n tiles and shuffle them, n from 2 to `most`.

    Tiles are equal; where the size does not divide, the rest at the right and bottom stays.
    """

    def __init__(self, most: float) -> None:
        self.most = int(most)

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        n = int(torch.randint(2, self.most + 1, ()))
        height, width = picture.shape[1] // n, picture.shape[2] // n
        out = picture.clone()
        for place, source in enumerate(torch.randperm(n * n).tolist()):
            row, column = divmod(place, n)
            from_row, from_column = divmod(source, n)
            out[:, row * height : (row + 1) * height, column * width : (column + 1) * width] = (
                picture[
                    :,
                    from_row * height : (from_row + 1) * height,
                    from_column * width : (from_column + 1) * width,
                ]
            )
        return out


class Builder(NamedTuple):
    """What makes a random change, and the settings that it takes in this order.

    One that takes its own switch draws by itself whether it changes a picture, or changes each; the
    others are drawn by the probability that their switch is.
    """

    make: Callable[..., Transform]
    takes: tuple[str, ...] = ()


# Switch → what makes the change, in the order of `changes.CHANGES`, which says what each is.
BUILDERS = {
    "flip_probability": Builder(v2.RandomHorizontalFlip, ("flip_probability",)),
    "quarter_turn_probability": Builder(QuarterTurn),
    "paste_probability": Builder(ScaledPaste, ("paste_smallest",)),
    "shuffle_probability": Builder(GridShuffle, ("shuffle_most",)),
    "colour_jitter": Builder(ColourJitter, ("colour_jitter",)),
    "quality_probability": Builder(RandomQuality, ("quality_low", "quality_high")),
    "jpeg_probability": Builder(LossyJpeg, ("jpeg_low", "jpeg_high")),
}


def random_changes(settings: Mapping[str, float]) -> Transform:
    """Return all random changes that some settings switch on, one after the other.

    Parameters
    ----------
    settings : mapping
        Parameter → value, as in a job's `augmentation`. A change whose switch is missing or 0 is
        off.

    Returns
    -------
    Transform
        Of uint8 (3, height, width) to the same.

    Raises
    ------
    ValueError
        Naming a setting that no change has.
    """
    known = {name for switch, builder in BUILDERS.items() for name in (switch, *builder.takes)}
    if strangers := sorted(settings.keys() - known):
        raise ValueError(f"no random change takes {strangers[0]!r}; it is not in augment.BUILDERS")
    steps: list[Transform] = []
    for switch, builder in BUILDERS.items():
        if settings.get(switch, 0) > 0:
            step = builder.make(*(settings[name] for name in builder.takes))
            if switch not in builder.takes:
                step = v2.RandomApply([v2.Lambda(step)], p=settings[switch])
            steps.append(step)
    return v2.Compose(steps) if steps else v2.Identity()


def _cut_mix(
    pictures: torch.Tensor, targets: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return v2.CutMix(alpha=alpha, num_classes=targets.shape[1])(pictures, targets)


def _mix_up(
    pictures: torch.Tensor, targets: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    mixer = v2.MixUp(alpha=alpha, num_classes=targets.shape[1])
    mixed, targets = mixer(pictures.float(), targets)
    return mixed.round_().to(pictures.dtype), targets


# Kind → what mixes a batch, for `changes.MIXES`.
MIXERS = {"cutmix": _cut_mix, "mixup": _mix_up}


def mix_batch(
    pictures: torch.Tensor,
    targets: torch.Tensor,
    kind: str,
    probability: float,
    alpha: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix the pictures of a batch, and their targets in the same proportion, by CutMix or Mixup.

    Parameters
    ----------
    pictures : Tensor
        uint8 (batch, 3, height, width).
    targets : Tensor
        float (batch, classes).
    kind : str
        A key of `MIXERS`, or `none`.
    probability : float
        With which the batch is mixed at all.
    alpha : float
        Both parameters of the beta distribution from which the proportion is drawn.

    Returns
    -------
    tuple of Tensor
        Pictures and targets, of the same shapes and types.

    References
    ----------
    Yun et al., CutMix: regularization strategy to train strong classifiers with localizable
    features, ICCV 2019. Zhang et al., mixup: beyond empirical risk minimization, ICLR 2018.
    """
    if kind == "none" or torch.rand(()).item() >= probability:
        return pictures, targets
    return MIXERS[kind](pictures, targets, alpha)
