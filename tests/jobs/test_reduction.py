"""Reduced stores against the full probabilities they came from."""

import numpy as np
import pytest

from fgvc_utils.cleaning import posterior
from fgvc_utils.jobs import reduction
from fgvc_utils.jobs.predictions import label_ranks

CLASSES = [f"{n:03d}" for n in range(12)] + [posterior.NONE]


@pytest.fixture
def predicted():
    random = np.random.default_rng(0)
    return random.dirichlet(np.full(13, 0.3), 200).astype(np.float32), random.integers(0, 12, 200)


def blocks(probability, labels, size=37):
    for start in range(0, len(labels), size):
        yield probability[start : start + size], labels[start : start + size]


def test_a_reduced_store_holds_top_ranks_and_shares(predicted, tmp_path):
    probability, labels = predicted
    ids = [f"i{n}" for n in range(200)]
    store = reduction.reduce_stream(blocks(*predicted), tmp_path / "store", ids, CLASSES, top=4)
    order = np.argsort(-probability, axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(store.read("top_classes"), order)
    np.testing.assert_array_equal(store.read("label_rank"), label_ranks(probability, labels))
    own = probability[np.arange(200), labels]
    np.testing.assert_allclose(store.read("label_probability"), own, rtol=1e-3, atol=1e-6)


def test_a_top_larger_than_the_classes_keeps_them_all(predicted):
    assert reduction.reduce_block(*predicted, top=99)["top_classes"].shape == (200, 13)


def test_rows_are_taken_put_together_and_replaced(predicted, tmp_path):
    ids = [f"i{n}" for n in range(200)]
    halves = [
        reduction.reduce_stream([(p, y)], tmp_path / str(n), part, CLASSES, 13)
        for n, (p, y, part) in enumerate(
            [
                (predicted[0][:100], predicted[1][:100], ids[:100]),
                (predicted[0][100:], predicted[1][100:], ids[100:]),
            ]
        )
    ]
    read = reduction.read_reduced(halves, ["i150", "i3"])
    assert read.image_ids.tolist() == ["i150", "i3"] and len(read) == 2
    np.testing.assert_allclose(read.dense(), predicted[0][[150, 3]], atol=1e-3)
    with pytest.raises(KeyError, match="image 'i4'"):
        read.of(["i3", "i4"])
    everything = reduction.read_reduced(halves, ids)
    rolled = reduction.reduce_stream(
        [(predicted[0][[5]], predicted[1][[3]])], tmp_path / "later", ["i3"], CLASSES, 13
    )
    later = everything.updated(reduction.read_reduced([rolled], ["i3"]))
    np.testing.assert_allclose(later.of(["i3"]).dense()[0], predicted[0][5], atol=1e-3)
    np.testing.assert_allclose(later.of(["i4"]).dense()[0], predicted[0][4], atol=1e-3)


def test_the_probability_of_another_label_is_exact_in_the_top_and_bounded_outside(
    predicted, tmp_path
):
    probability, labels = predicted
    ids = list(map(str, range(200)))
    store = reduction.reduce_stream([predicted], tmp_path / "s", ids, CLASSES, 4)
    read = reduction.read_reduced([store], ids)
    for place in range(13):
        asked = np.argsort(-probability, axis=1, kind="stable")[:, place]
        true = probability[np.arange(200), asked]
        got = read.probability_of(asked)
        if place < 4:
            np.testing.assert_allclose(got, true, rtol=1e-3, atol=1e-6)
        else:
            assert (got <= read.top_probabilities[:, -1]).all()


def test_too_few_and_too_many_rows_are_refused(predicted, tmp_path):
    for count in (199, 201):
        with pytest.raises(ValueError, match="image ids"):
            reduction.reduce_stream(
                blocks(*predicted), tmp_path / "s", [str(n) for n in range(count)], CLASSES
            )
