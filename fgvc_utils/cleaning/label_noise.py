"""What the noise in the labels looks like: how much, in which classes, and between which.

Arrays and frames come in, frames and sentences go out; nothing here trains.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fgvc_utils.cleaning.rounds import Posteriors

# One class is taken for another where so many images are expected to say so, and so many times more
# than if the wrong labels of a class were spread evenly over the others.
LEAST_IMAGES, TIMES_EVEN = 2.0, 5.0
# The share of right labels is said of classes with so many images.
ENOUGH = 8


@dataclass(frozen=True)
class LabelNoise:
    """Figures of the labels that the images came with, as the posteriors expect them.

    Parameters
    ----------
    another_class, none
        The shares of images that show another class, and none of the classes, 0 to 1.
    in_pairs
        The share of `another_class` in pairs of which one is taken for the other, 0 to 1; NaN
        where no image shows another class.
    pairs
        These pairs, most images first: columns label, class and images (expected number).
    classes
        A row a label with enough images, the least right first: columns label, images and right
        (the share of its labels expected to be right).
    """

    another_class: float
    none: float
    in_pairs: float
    pairs: pd.DataFrame
    classes: pd.DataFrame

    @property
    def wrong(self) -> float:
        """The share of labels that are wrong, 0 to 1."""
        return self.another_class + self.none

    def text(self) -> str:
        """The figures in two sentences."""
        first = (
            f"About **{_percent(self.wrong)} of these labels are wrong**: "
            f"{_percent(self.another_class)} of the images show another class, "
            f"{_percent(self.none)} none of the classes."
        )
        if not len(self.pairs):
            return f"{first} No class stands out as taken for another."
        number = "one pair" if len(self.pairs) == 1 else f"{len(self.pairs)} pairs"
        return (
            f"{first} Of the labels of another class {_percent(self.in_pairs)} lie in {number} of "
            "classes of which one is taken for the other; the rest went anywhere."
        )


def label_noise(learnt: Posteriors, image_ids: Sequence[str], given: Sequence[str]) -> LabelNoise:
    """What the posteriors expect of the labels that images came with.

    Parameters
    ----------
    learnt
        What the rounds learnt.
    image_ids
        The images that were judged.
    given
        Their labels, class names, in the same order.

    Raises
    ------
    ValueError
        No image was judged.
    """
    if not len(image_ids):
        raise ValueError("no image was judged: nothing can be said of the labels")
    names = np.array(learnt.predictions.classes, object)
    none = len(names) - 1
    labels = pd.Index(names).get_indexer(given)
    posterior = learnt.of(image_ids)
    shows_none = (posterior.values * (posterior.columns == none)).sum(axis=1)
    right = posterior.of(labels)
    expected = _expected_pairs(posterior.columns, posterior.values, labels, none)
    another = expected["images"].sum()
    pairs = expected[_stand_out(expected, none)].sort_values(
        "images", ascending=False, kind="stable", ignore_index=True
    )
    shares = pd.DataFrame({"label": labels, "right": right}).groupby("label")["right"]
    classes = shares.agg(["size", "mean"]).set_axis(["images", "right"], axis=1).reset_index()
    classes = classes[classes["images"] >= ENOUGH].sort_values("right", kind="stable")
    return LabelNoise(
        another_class=float(another / len(labels)),
        none=float(shows_none.mean()),
        in_pairs=float(pairs["images"].sum() / another) if another else float("nan"),
        pairs=pairs.assign(label=names[pairs["label"]], **{"class": names[pairs["class"]]}),
        classes=classes.assign(label=names[classes["label"]]).reset_index(drop=True),
    )


def _expected_pairs(
    columns: np.ndarray, values: np.ndarray, labels: np.ndarray, none: int
) -> pd.DataFrame:
    """How many images under each label show each other class: columns label, class, images."""
    other = (columns != labels[:, None]) & (columns != none) & (values > 0)
    rows, places = np.nonzero(other)
    found = pd.DataFrame(
        {
            "label": labels[rows],
            "class": columns[rows, places],
            "images": values[rows, places].astype(float),
        }
    )
    return found.groupby(["label", "class"], as_index=False)["images"].sum()


def _stand_out(expected: pd.DataFrame, classes: int) -> pd.Series:
    even = expected.groupby("label")["images"].transform("sum") / max(classes - 1, 1)
    return (expected["images"] >= LEAST_IMAGES) & (expected["images"] > TIMES_EVEN * even)


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"
