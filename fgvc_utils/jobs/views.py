"""The views that a picture may be tested by, as plain data: one entry a view."""

from typing import Literal, NamedTuple

Place = tuple[float, float]
CENTRE: Place = (0.5, 0.5)
CORNERS: tuple[Place, ...] = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))


class View(NamedTuple):
    """Which crops of a resized picture are predicted; their probabilities are averaged.

    Attributes
    ----------
    caption : str
        What it is, for people.
    places : tuple of (float, float)
        Where each square crop is cut: how much of the free height lies above it and of the free
        width left of it, 0 to 1. The first one is the centre, whose features are kept.
    mirrored : bool
        Whether the mirror image of each crop is predicted too.
    """

    caption: str
    places: tuple[Place, ...] = (CENTRE,)
    mirrored: bool = False

    @property
    def crops(self) -> int:
        """How many crops a picture is predicted by."""
        return len(self.places) * (1 + self.mirrored)


TEST_VIEWS = {
    "centre": View(caption="the centre crop"),
    "flip": View(caption="the centre crop and its mirror image", mirrored=True),
    # Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012.
    "crops": View(
        caption="the centre, the four corners, and the mirror images of all five",
        places=(CENTRE, *CORNERS),
        mirrored=True,
    ),
}

# For the records of jobs and of parameters.
TestView = Literal[tuple(TEST_VIEWS)]
