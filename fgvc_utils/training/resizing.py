"""How the pictures of a network are resized: as those were that its weights come from.

Loads no torch before it is asked, so that a notebook may import it.
"""

import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from fgvc_utils.contest.decoded import BILINEAR, RESAMPLING
from fgvc_utils.core.processes import tied_pool

# timm names bicubic for most of these too. All figures of the kit were measured with bilinear, and
# a network that is trained here learns from the pictures that it gets.
KEPT_BILINEAR = "tf_efficientnet"


class Resizing(NamedTuple):
    """How a picture is resized before it is cropped.

    Attributes
    ----------
    interpolation : str
        `bilinear` or `bicubic`, with antialiasing.
    squash : bool
        Whether the view that is predicted is resized to a square, whatever its aspect. The view
        that is trained on keeps the aspect, as in timm.
    """

    interpolation: str = BILINEAR
    squash: bool = False


PLAIN = Resizing()


def resizing_of(backbone: str) -> Resizing:
    """Return how a network's pictures are resized, by timm's configuration of it.

    The family `tf_efficientnet` keeps bilinear.

    Parameters
    ----------
    backbone : str
        The network's name; empty for a head, which sees no pictures.

    Raises
    ------
    ValueError
        Where there is no such network, or its configuration could not be downloaded.
    """
    if not backbone or backbone.startswith(KEPT_BILINEAR):
        return PLAIN
    return _of_timm(backbone)


@lru_cache
def _of_timm(backbone: str) -> Resizing:
    from fgvc_utils.training.catalogue import described

    config = described(backbone).config
    known = config.interpolation if config.interpolation in RESAMPLING else "bicubic"
    return Resizing(known, config.crop_mode == "squash")


def resizings(backbones: Iterable[str]) -> dict[str, Resizing]:
    """Return the same of several networks, asked in a process of its own where torch is not loaded.

    Parameters
    ----------
    backbones : iterable of str
        Their names.
    """
    names = list(dict.fromkeys(backbones))
    if "torch" in sys.modules or all(not n or n.startswith(KEPT_BILINEAR) for n in names):
        return {name: resizing_of(name) for name in names}
    with tied_pool(1) as pool:
        return dict(zip(names, pool.map(resizing_of, names), strict=True))
