"""When cuDNN tries all its ways for a convolution, and when it takes the one that it knows of."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# So many batches of one shape earn the trial back. On one H100 it took a minute for
# tf_efficientnet_b4 at 380 px in batches of 32, 720 batches' time, and the gain is taken to be a
# tenth of it.
EARNED_BACK = 7_500


def pays(batches: int, shapes: int = 1) -> bool:
    """Return whether cuDNN's trial of all its ways pays for some work.

    Parameters
    ----------
    batches : int
        Batches that a process computes.
    shapes : int
        How many shapes they have among them: each is tried anew.
    """
    return batches >= EARNED_BACK * max(shapes, 1)


def shapes_of(images: int, batch: int) -> int:
    """Return how many shapes the batches of some images have: the last one may be smaller."""
    return int(images >= batch) + int(images % batch > 0)


@contextmanager
def autotune(on: bool) -> Iterator[None]:
    """Switch cuDNN's trial on or off for a block; afterwards it is as it was.

    Both ways are to be said: importing fastai switches it on wherever there is a GPU.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = on
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
