"""How a picture is prepared: the size trick, and the random changes of the recipe.

Everything works on uint8 tensors of shape (3, height, width), on any device, and draws from torch's
global random numbers of the CPU, so a caller that seeds them per image gets the same picture in any
process and, but for rounding, on any device.
"""

from collections.abc import Callable

import numpy as np
import simplejpeg
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fgvc_utils.training.colour import ColourJitter

Transform = Callable[[torch.Tensor], torch.Tensor]


def to_tensor(picture: np.ndarray) -> torch.Tensor:
    """uint8 (height, width, 3) to uint8 (3, height, width), without a copy."""
    return torch.from_numpy(picture).permute(2, 0, 1)


def test_view(size: int, ratio: float) -> Transform:
    """Shorter side to ratio × size (1.35 in the original), then the centre crop of size."""
    return v2.Compose([v2.Resize(round(size * ratio), antialias=True), v2.CenterCrop(size)])


def train_view(size: int, ratio: float, random_crop: bool = True) -> Transform:
    """Shorter side to ratio × size (1.15 in the original), then a random crop of size.

    Without `random_crop` the centre is cut out.
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

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        quality = int(torch.randint(self.low, self.high + 1, ()))
        pixels = np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy())
        jpeg = simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling="420")
        return to_tensor(simplejpeg.decode_jpeg(jpeg)).to(picture.device)


class GridShuffle:
    """Cut into n × n tiles and shuffle them, n from 2 to `most`.

    Tiles are equal; where the size does not divide, the rest at the right and bottom stays.
    """

    def __init__(self, most: int) -> None:
        self.most = most

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


def random_changes(settings: dict[str, float]) -> Transform:
    """All random changes that `settings` switches on, each with its own probability or strength.

    Known settings, off where missing or 0: flip_probability, quarter_turn_probability,
    colour_jitter (strength of brightness, contrast and saturation), paste_probability with
    paste_smallest, shuffle_probability with shuffle_most, quality_probability with quality_low and
    quality_high, jpeg_probability with jpeg_low and jpeg_high. Geometry comes before colour, and
    what a web site does to a photo (shrinking, JPEG) comes last, as it does in life.
    """

    def on(name: str) -> bool:
        return settings.get(name, 0) > 0

    steps: list[Transform] = []

    def sometimes(name: str, step: Transform) -> None:
        steps.append(v2.RandomApply([v2.Lambda(step)], p=settings[name]))

    if on("flip_probability"):
        steps.append(v2.RandomHorizontalFlip(settings["flip_probability"]))
    if on("quarter_turn_probability"):
        sometimes("quarter_turn_probability", QuarterTurn())
    if on("paste_probability"):
        sometimes("paste_probability", ScaledPaste(settings["paste_smallest"]))
    if on("shuffle_probability"):
        sometimes("shuffle_probability", GridShuffle(int(settings["shuffle_most"])))
    if on("colour_jitter"):
        strength = settings["colour_jitter"]
        steps.append(ColourJitter(strength))
    if on("quality_probability"):
        quality = RandomQuality(settings["quality_low"], settings["quality_high"])
        sometimes("quality_probability", quality)
    if on("jpeg_probability"):
        sometimes(
            "jpeg_probability", LossyJpeg(int(settings["jpeg_low"]), int(settings["jpeg_high"]))
        )
    return v2.Compose(steps) if steps else v2.Identity()


def mix_batch(
    pictures: torch.Tensor,
    targets: torch.Tensor,
    kind: str,
    probability: float,
    alpha: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """CutMix (Yun et al., 2019) or Mixup (Zhang et al., 2018) of a batch.

    `pictures` uint8 (batch, 3, height, width), `targets` float (batch, classes): mixed in the same
    proportion, which is drawn from a beta distribution with both parameters `alpha`. With
    probability 1 - `probability`, and for kind `none`, nothing changes.
    """
    if kind == "none" or torch.rand(()).item() >= probability:
        return pictures, targets
    mixer = {"cutmix": v2.CutMix, "mixup": v2.MixUp}[kind](
        alpha=alpha, num_classes=targets.shape[1]
    )
    if kind == "cutmix":
        return mixer(pictures, targets)
    mixed, targets = mixer(pictures.float(), targets)
    return mixed.round_().to(pictures.dtype), targets
