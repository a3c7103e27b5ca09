"""How a picture is prepared: the size trick, and the random changes of the recipe.

Everything works on uint8 tensors of shape (3, height, width), on any device, and draws from torch's
global random numbers of the CPU, so a caller that seeds them per image gets the same picture in any
process and, but for rounding, on any device. On a device all pictures of a batch that a change
concerns are changed together, save where each gets a size or operations of its own (paste, low
resolution, RandAugment, AugMix) or is made on the CPU (JPEG).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
import torch
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fgvc_utils.contest.decoding import middle
from fgvc_utils.training.colour import ColourJitter
from fgvc_utils.training.policies import AugMix, RandAugment
from fgvc_utils.training.random_change import RandomChange, by_group, onto
from fgvc_utils.training.resizing import PLAIN, Resizing

Transform = Callable[[torch.Tensor], torch.Tensor]

# The least share of a picture that random erasing covers, and the range of height over width of the
# rectangle: torchvision's.
LEAST_ERASED, ERASED_SIDES = 0.02, (0.3, 3.3)


def to_tensor(picture: np.ndarray) -> torch.Tensor:
    """Turn a picture from uint8 (height, width, 3) to uint8 (3, height, width), without a copy."""
    return torch.from_numpy(picture).permute(2, 0, 1)


def resize(side: int, resizing: Resizing, *, squash: bool = False) -> Transform:
    """Return what resizes a picture, with antialiasing; of a strip only the middle.

    Parameters
    ----------
    side : int
        The shorter side of what comes out, px; with `squash` both.
    resizing : Resizing
        Names the interpolation.
    squash : bool
        Whether the aspect is given up.
    """
    interpolation = v2.InterpolationMode(resizing.interpolation)
    if squash:
        return v2.Resize([side, side], interpolation, antialias=True)
    return v2.Compose([middle_of, v2.Resize(side, interpolation, antialias=True)])


def middle_of(picture: torch.Tensor) -> torch.Tensor:
    """Return a picture (3, height, width), of a strip only the middle.

    Cut before it is enlarged: a line of one pixel would take gigabytes.
    """
    sides = middle(*picture.shape[-2:])
    return picture if sides == picture.shape[-2:] else F.center_crop(picture, list(sides))


def test_view(size: int, ratio: float, resizing: Resizing = PLAIN) -> Transform:
    """Return the view that is predicted: the centre crop of a resized picture.

    Parameters
    ----------
    size : int
        Side of the crop, px.
    ratio : float
        Shorter side of the resized picture / size; 1.35 in the original.
    resizing : Resizing
        How it is resized, of the network that looks at it.

    References
    ----------
    Touvron et al., Fixing the train-test resolution discrepancy, NeurIPS 2019.
    """
    resized = resize(round(size * ratio), resizing, squash=resizing.squash)
    return v2.Compose([resized, v2.CenterCrop(size)])


def train_view(
    size: int,
    ratio: float,
    random_crop: bool = True,
    smallest: float = 0.0,
    stretch: float = 1.333,
    resizing: Resizing = PLAIN,
) -> Transform:
    """Return the view that is trained on: a random crop of a resized picture.

    Parameters
    ----------
    size : int
        Side of the crop, px.
    ratio : float
        Shorter side of the resized picture / size; 1.15 in the original.
    random_crop : bool
        Whether the crop is random; else it is the centre.
    smallest : float
        Above 0 the crop is of a random size too, and is resized: the least share of the resized
        picture's area that it may have.
    stretch : float
        How far from a square such a crop may be: its longest side over the other one.
    resizing : Resizing
        How it is resized, of the network that looks at it.

    References
    ----------
    Szegedy et al., Going deeper with convolutions, CVPR 2015, for crops of a random size.
    """
    if random_crop and smallest:
        shape = {"scale": (smallest, 1.0), "ratio": (1 / stretch, stretch)}
        how = v2.InterpolationMode(resizing.interpolation)
        crop = v2.RandomResizedCrop(size, **shape, interpolation=how, antialias=True)
    else:
        crop = v2.RandomCrop(size) if random_crop else v2.CenterCrop(size)
    return v2.Compose([resize(round(size * ratio), resizing), crop])


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


class Mirror(RandomChange):
    """Exchange left and right."""

    def draw(self, height: int, width: int) -> bool:
        return True

    def apply(self, picture: torch.Tensor, drawn: bool) -> torch.Tensor:
        return picture.flip(-1)

    def apply_to_batch(self, pictures: torch.Tensor, drawn: list[bool]) -> torch.Tensor:
        return pictures.flip(-1)


class QuarterTurn(RandomChange):
    """Turn by 90, 180 or 270 degrees, each as likely."""

    def draw(self, height: int, width: int) -> int:
        return int(torch.randint(1, 4, ()))

    def apply(self, picture: torch.Tensor, drawn: int) -> torch.Tensor:
        return torch.rot90(picture, drawn, dims=(-2, -1))

    def apply_to_batch(self, pictures: torch.Tensor, drawn: list[int]) -> torch.Tensor:
        return by_group(pictures, drawn, lambda group, turns: self.apply(group, turns[0]))


class RandomQuality(RandomChange):
    """Shrink to a random share of the size between low and high, then enlarge again.

    The original shrinks 380 px to 150–190 px: shares of 0.395 to 0.5.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def draw(self, height: int, width: int) -> list[int]:
        share = _uniform(self.low, self.high)
        return [max(1, round(side * share)) for side in (height, width)]

    def apply(self, picture: torch.Tensor, drawn: list[int]) -> torch.Tensor:
        small = F.resize(picture, drawn, antialias=True)
        return F.resize(small, list(picture.shape[1:]), antialias=True)


class ScaledPaste(RandomChange):
    """Shrink by a random factor from `smallest` on, paste at a random place on a grey canvas."""

    def __init__(self, smallest: float) -> None:
        self.smallest = smallest

    def draw(self, height: int, width: int) -> tuple[int, int, int, int]:
        scale = _uniform(self.smallest, 1.0)
        small_height, small_width = max(1, round(height * scale)), max(1, round(width * scale))
        top = int(torch.randint(0, height - small_height + 1, ()))
        left = int(torch.randint(0, width - small_width + 1, ()))
        return top, left, small_height, small_width

    def apply(self, picture: torch.Tensor, drawn: tuple[int, int, int, int]) -> torch.Tensor:
        top, left, height, width = drawn
        canvas = torch.full_like(picture, 128)
        small = F.resize(picture, [height, width], antialias=True)
        canvas[:, top : top + height, left : left + width] = small
        return canvas


class LossyJpeg(RandomChange):
    """Encode as JPEG of a random quality between low and high, and decode again."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = int(low), int(high)

    def draw(self, height: int, width: int) -> int:
        return int(torch.randint(self.low, self.high + 1, ()))

    def apply(self, picture: torch.Tensor, drawn: int) -> torch.Tensor:
        pixels = np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy())
        return to_tensor(_saved(pixels, drawn)).to(picture.device)

    def apply_to_batch(self, pictures: torch.Tensor, drawn: list[int]) -> torch.Tensor:
        # All of them come over at once: each copy to the host waits for the device.
        pixels = pictures.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        saved = np.stack([_saved(*each) for each in zip(pixels, drawn, strict=True)])
        return onto(torch.from_numpy(saved), pictures.device).permute(0, 3, 1, 2)


def _saved(pixels: np.ndarray, quality: int) -> np.ndarray:
    """A picture as it comes out of a JPEG file, uint8 (height, width, 3)."""
    jpeg = simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling="420")
    return simplejpeg.decode_jpeg(jpeg)


class GridShuffle(RandomChange):
    """Cut into n × n tiles and shuffle them, n from 2 to `most`.

    Tiles are equal; where the size does not divide, the rest at the right and bottom stays.
    """

    def __init__(self, most: float) -> None:
        self.most = int(most)

    def draw(self, height: int, width: int) -> tuple[int, list[int]]:
        n = int(torch.randint(2, self.most + 1, ()))
        return n, torch.randperm(n * n).tolist()

    def apply(self, picture: torch.Tensor, drawn: tuple[int, list[int]]) -> torch.Tensor:
        n, places = drawn
        height, width = picture.shape[1] // n, picture.shape[2] // n
        out = picture.clone()
        for place, source in enumerate(places):
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

    def apply_to_batch(
        self, pictures: torch.Tensor, drawn: list[tuple[int, list[int]]]
    ) -> torch.Tensor:
        numbers, places = zip(*drawn, strict=True)
        return by_group(pictures, numbers, _shuffled, places)


def _shuffled(pictures: torch.Tensor, numbers: list[int], places: list[list[int]]) -> torch.Tensor:
    """Pictures of one number of tiles a side, each picture's tiles in its own order."""
    n = numbers[0]
    height, width = pictures.shape[2] // n, pictures.shape[3] // n
    inner = pictures[:, :, : n * height, : n * width]
    tiles = inner.unflatten(2, (n, height)).unflatten(4, (n, width)).permute(0, 2, 4, 1, 3, 5)
    order = onto(torch.tensor(places), pictures.device)
    which = torch.arange(len(pictures), device=pictures.device)[:, None]
    moved = tiles.flatten(1, 2)[which, order].unflatten(1, (n, n)).permute(0, 3, 1, 4, 2, 5)
    out = pictures.clone()
    out[:, :, : n * height, : n * width] = moved.flatten(4, 5).flatten(2, 3)
    return out


class RandomErasing(RandomChange):
    """Cover a rectangle at a random place with grey.

    Parameters
    ----------
    largest : float
        The most of the picture's area that it covers; it covers at least LEAST_ERASED.

    References
    ----------
    Zhong et al., Random erasing data augmentation, AAAI 2020.
    """

    def __init__(self, largest: float) -> None:
        self.largest = largest

    def draw(self, height: int, width: int) -> tuple[int, int, int, int]:
        there, scale = torch.empty(3, height, width, device="meta"), (LEAST_ERASED, self.largest)
        *place, _ = transforms.RandomErasing.get_params(there, scale, ERASED_SIDES, [128.0])
        # Where ten tries found no rectangle that fits, it gives the whole picture for none.
        return (0, 0, 0, 0) if place[2:] == [height, width] else tuple(place)

    def apply(self, picture: torch.Tensor, drawn: tuple[int, int, int, int]) -> torch.Tensor:
        return self.apply_to_batch(picture[None], [drawn])[0]

    def apply_to_batch(
        self, pictures: torch.Tensor, drawn: list[tuple[int, int, int, int]]
    ) -> torch.Tensor:
        out = pictures.clone()
        for picture, (top, left, height, width) in zip(out, drawn, strict=True):
            picture[:, top : top + height, left : left + width] = 128
        return out


class Builder(NamedTuple):
    """What makes a random change, and the settings that it takes in this order.

    One that takes its own switch changes each picture; the others are made with the probability
    that their switch is.
    """

    make: Callable[..., RandomChange]
    takes: tuple[str, ...] = ()


# Switch → what makes the change, in the order of `changes.CHANGES`, which says what each is.
BUILDERS = {
    "flip_probability": Builder(Mirror),
    "quarter_turn_probability": Builder(QuarterTurn),
    "paste_probability": Builder(ScaledPaste, ("paste_smallest",)),
    "shuffle_probability": Builder(GridShuffle, ("shuffle_most",)),
    "colour_jitter": Builder(ColourJitter, ("colour_jitter",)),
    "rand_augment_strength": Builder(
        RandAugment, ("rand_augment_strength", "rand_augment_operations")
    ),
    "augmix_probability": Builder(AugMix, ("augmix_strength",)),
    "quality_probability": Builder(RandomQuality, ("quality_low", "quality_high")),
    "jpeg_probability": Builder(LossyJpeg, ("jpeg_low", "jpeg_high")),
    "erasing_probability": Builder(RandomErasing, ("erasing_largest",)),
}


def _made(share: float | None) -> bool:
    """Draw whether a change is made, by its probability; one without is always made."""
    return share is None or bool(torch.rand(1) < share)


class RandomChanges:
    """Random changes one after the other, of a picture or of a whole batch.

    Parameters
    ----------
    steps : sequence of (float or None, RandomChange)
        Each with the probability that it is made at all; None for one that is always made.
    """

    def __init__(self, steps: Sequence[tuple[float | None, RandomChange]]) -> None:
        self.steps = list(steps)

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        """Change one picture, uint8 (3, height, width)."""
        for share, change in self.steps:
            if _made(share):
                picture = change(picture)
        return picture

    def draw(self, height: int, width: int) -> list[Any]:
        """Draw what happens to a square picture: an entry a change, None where it is not made."""
        return [
            change.draw(height, width) if _made(share) else None for share, change in self.steps
        ]

    def apply_to_batch(self, pictures: torch.Tensor, drawn: Sequence[list[Any]]) -> torch.Tensor:
        """Change a batch, on the device where it is.

        Parameters
        ----------
        pictures : Tensor
            uint8 (batch, 3, size, size); they stay as they are.
        drawn : sequence of list
            What `draw` gave for each of them.
        """
        pictures = pictures.clone()
        for place, (_, change) in enumerate(self.steps):
            rows = [row for row, each in enumerate(drawn) if each[place] is not None]
            if rows:
                which = onto(torch.tensor(rows), pictures.device)
                chosen = [drawn[row][place] for row in rows]
                pictures[which] = change.apply_to_batch(pictures[which], chosen)
        return pictures


def random_changes(settings: Mapping[str, float]) -> RandomChanges:
    """Return all random changes that some settings switch on, one after the other.

    Parameters
    ----------
    settings : mapping
        Parameter → value, as in a job's `augmentation`. A change whose switch is missing or 0 is
        off.

    Raises
    ------
    ValueError
        Naming a setting that no change has.
    """
    known = {name for switch, builder in BUILDERS.items() for name in (switch, *builder.takes)}
    if strangers := sorted(settings.keys() - known):
        raise ValueError(f"no random change takes {strangers[0]!r}; it is not in augment.BUILDERS")
    steps = []
    for switch, builder in BUILDERS.items():
        if settings.get(switch, 0) > 0:
            change = builder.make(*(settings[name] for name in builder.takes))
            steps.append((None if switch in builder.takes else settings[switch], change))
    return RandomChanges(steps)


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
    mixup_alpha: float = 0.2,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix the pictures of a batch, and their targets in the same proportion, by CutMix or Mixup.

    Parameters
    ----------
    pictures : Tensor
        uint8 (batch, 3, height, width).
    targets : Tensor
        float (batch, classes).
    kind : str
        A key of `MIXERS`, several joined by `+`, of which each batch gets one, or `none`.
    probability : float
        With which the batch is mixed at all.
    alpha : float
        Both parameters of the beta distribution from which the proportion is drawn.
    mixup_alpha : float
        The same of Mixup where it is one of several kinds.

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
    kinds = kind.split("+")
    if len(kinds) > 1:
        kind = kinds[int(torch.randint(len(kinds), ()))]
        alpha = mixup_alpha if kind == "mixup" else alpha
    return MIXERS[kind](pictures, targets, alpha)
