"""What the noise looks like, of posteriors made by hand."""

import numpy as np
import pandas as pd
import pytest

from fgvc_utils.cleaning.channel import Channel
from fgvc_utils.cleaning.label_noise import label_noise
from fgvc_utils.cleaning.posterior import NONE, SparsePosterior
from fgvc_utils.cleaning.rounds import Posteriors
from fgvc_utils.jobs.reduction import Reduced


def learnt(shown: list[int], labels: list[int], classes: int) -> Posteriors:
    """Posteriors that are sure of one class an image; `classes` stands for none."""
    columns = np.array([labels, shown], np.int32).T
    values = np.array([[0, 1]] * len(labels), np.float32)
    ids = pd.Index([str(n) for n in range(len(labels))], dtype=object)
    zeros = np.zeros(len(labels), np.float32)
    predictions = Reduced(ids, [*map(str, range(classes)), NONE], columns, values, zeros, zeros)
    return Posteriors(SparsePosterior(columns, values), predictions, [], Channel(0.5, 1.5, classes))


def noise_of(shown: list[int], labels: list[int], classes: int):
    ids = [str(n) for n in range(len(labels))]
    return label_noise(learnt(shown, labels, classes), ids, [str(n) for n in labels])


def test_sisters_stand_out_from_labels_that_went_anywhere():
    labels = [0] * 20 + [1] * 20 + [2] * 10
    # Six images of class 3 under label 0, six under label 1 of six classes, two show nothing.
    shown = [0] * 14 + [3] * 6 + [1] * 14 + [4, 5, 6, 7, 8, 9] + [2] * 8 + [10, 10]
    found = noise_of(shown, labels, 10)
    assert found.wrong == pytest.approx(14 / 50)
    assert found.another_class == pytest.approx(12 / 50)
    assert found.none == pytest.approx(2 / 50)
    assert found.in_pairs == pytest.approx(0.5)
    assert found.pairs.to_dict("records") == [{"label": "0", "class": "3", "images": 6.0}]
    assert found.classes["right"].tolist() == pytest.approx([0.7, 0.7, 0.8])
    assert "**28% of these labels are wrong**: 24% of the images show another" in found.text()
    assert "50% lie in one pair of classes" in found.text()


def test_labels_that_are_right_say_so():
    found = noise_of([0] * 9 + [1] * 3, [0] * 9 + [1] * 3, 2)
    assert found.wrong == 0 and not len(found.pairs) and np.isnan(found.in_pairs)
    assert "**0.0% of these labels are wrong**" in found.text()
    # The share of right labels is said of classes with enough images.
    assert found.classes["label"].tolist() == ["0"]


def test_nothing_is_said_of_no_image():
    with pytest.raises(ValueError, match="no image was judged"):
        noise_of([], [], 2)
