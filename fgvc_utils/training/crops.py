"""Several crops of one picture, side by side, for prediction."""

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fgvc_utils.jobs.views import View
from fgvc_utils.training.augment import Transform, resize
from fgvc_utils.training.resizing import PLAIN, Resizing


class Crops:
    """The crops of a view, one behind the other in the channels, the mirror images last.

    Parameters
    ----------
    view : View
        An entry of `TEST_VIEWS`.
    size : int
        Side of a crop, px; no side of a picture may be shorter.
    """

    def __init__(self, view: View, size: int) -> None:
        self.view, self.size = view, size

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        """Cut the crops out: uint8 (3, height, width) to (3 × crops, size, size)."""
        height, width = (side - self.size for side in picture.shape[-2:])
        crops = [
            F.crop(picture, round(down * height), round(right * width), self.size, self.size)
            for down, right in self.view.places
        ]
        if self.view.mirrored:
            crops += [F.hflip(crop) for crop in crops]
        return torch.cat(crops)


def resized_crops(view: View, size: int, ratio: float, resizing: Resizing = PLAIN) -> Transform:
    """Resize a picture once, and cut the crops of a view out of it.

    Parameters
    ----------
    view : View
        An entry of `TEST_VIEWS`.
    size : int
        Side of a crop, px.
    ratio : float
        The resized picture's shorter side, in sizes.
    resizing : Resizing
        How it is resized, of the network that looks at it.

    Returns
    -------
    Transform
        From uint8 (3, height, width) to uint8 (3 × crops, size, size).
    """
    resized = resize(round(size * ratio), resizing, squash=resizing.squash)
    return v2.Compose([resized, Crops(view, size)])
