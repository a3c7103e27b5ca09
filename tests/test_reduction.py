"""Reduced stores against the full probabilities they came from."""

import numpy as np
import pytest

from fgvc_utils import posterior, reduction
from fgvc_utils.predictions import label_ranks

CLASSES = [f"{n:03d}" for n in range(12)] + [posterior.NONE]


@pytest.fixture
def said():
    random = np.random.default_rng(0)
    return random.dirichlet(np.full(13, 0.3), 200).astype(np.float32), random.integers(0, 12, 200)


def blocks(probability, labels, size=37):
    for start in range(0, len(labels), size):
        yield probability[start : start + size], labels[start : start + size]


def test_a_reduced_store_holds_top_ranks_and_shares(said, tmp_path):
    probability, labels = said
    ids = [f"i{n}" for n in range(200)]
    store = reduction.reduce_stream(blocks(*said), tmp_path / "store", ids, CLASSES, top=4)
    order = np.argsort(-probability, axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(store.read("top_classes"), order)
    np.testing.assert_array_equal(store.read("label_rank"), label_ranks(probability, labels))
    own = probability[np.arange(200), labels]
    np.testing.assert_allclose(store.read("label_probability"), own, rtol=1e-3, atol=1e-6)


def test_a_top_larger_than_the_classes_keeps_them_all(said):
    assert reduction.reduce_block(*said, top=99)["top_classes"].shape == (200, 13)


def test_the_posterior_from_all_classes_is_the_full_one(said, tmp_path):
    probability, labels = said
    store = reduction.reduce_stream(
        blocks(*said), tmp_path / "s", list(map(str, range(200))), CLASSES, 13
    )
    own, best, sure = reduction.posterior_of_labels(store, labels, trust=0.2, sharpness=1.5)
    full = posterior.label_posterior(probability, labels, 0.2, 1.5)
    np.testing.assert_allclose(own, full[np.arange(200), labels], atol=2e-3)
    np.testing.assert_allclose(sure, full.max(axis=1), atol=2e-3)
    assert (best == full.argmax(axis=1)).mean() > 0.99


def test_the_posterior_from_the_top_is_near_the_full_one(said, tmp_path):
    probability, labels = said
    store = reduction.reduce_stream(
        blocks(*said), tmp_path / "s", list(map(str, range(200))), CLASSES, 5
    )
    own, _, _ = reduction.posterior_of_labels(store, labels, trust=0.2, sharpness=1.5)
    full = posterior.label_posterior(probability, labels, 0.2, 1.5)
    assert np.abs(own - full[np.arange(200), labels]).mean() < 0.01


def test_too_few_and_too_many_rows_are_refused(said, tmp_path):
    for count in (199, 201):
        with pytest.raises(ValueError, match="image ids"):
            reduction.reduce_stream(
                blocks(*said), tmp_path / "s", [str(n) for n in range(count)], CLASSES
            )
