"""What all random changes of pictures have in common: draws first, then work on the pixels."""

from collections.abc import Callable, Sequence
from typing import Any

import torch


class RandomChange:
    """A random change of pictures.

    What happens to a picture is drawn on the CPU before a pixel is touched, so that a batch may be
    changed at once although each of its pictures follows its own seed.
    """

    def draw(self, height: int, width: int) -> Any:
        """Draw from torch's global random numbers of the CPU what happens to one picture.

        Parameters
        ----------
        height, width : int
            Of the picture, px.

        Returns
        -------
        object
            Not None.
        """
        raise NotImplementedError

    def apply(self, picture: torch.Tensor, drawn: Any) -> torch.Tensor:
        """Change one picture as it was drawn.

        Parameters
        ----------
        picture : Tensor
            uint8 (3, height, width); it stays as it is.
        drawn : object
            What `draw` gave.

        Returns
        -------
        Tensor
            Of the same shape and type.
        """
        raise NotImplementedError

    def apply_to_batch(self, pictures: torch.Tensor, drawn: list[Any]) -> torch.Tensor:
        """Change pictures of one size, uint8 (pictures, 3, height, width): here one by one."""
        changed = [self.apply(*each) for each in zip(pictures, drawn, strict=True)]
        return torch.stack(changed)

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        """Change one picture at random."""
        return self.apply(picture, self.draw(*picture.shape[1:]))


def onto(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Send a tensor of the host's to a device, without waiting for the device's other work."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def by_group(
    pictures: torch.Tensor,
    groups: Sequence[int],
    change: Callable[..., torch.Tensor],
    *more: Sequence[Any],
) -> torch.Tensor:
    """Change those pictures together that are of one group.

    Parameters
    ----------
    pictures : Tensor
        uint8 (pictures, 3, height, width).
    groups : sequence of int
        Of each picture.
    change : callable
        Takes the pictures of a group and the lists of their numbers and of `more`.
    *more : sequence
        Further lists with an entry a picture.
    """
    out = torch.empty_like(pictures)
    for group in sorted(set(groups)):
        rows = [row for row, each in enumerate(groups) if each == group]
        which = onto(torch.tensor(rows), pictures.device)
        lists = [[each[row] for row in rows] for each in (groups, *more)]
        out[which] = change(pictures[which], *lists)
    return out
