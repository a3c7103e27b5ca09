"""The nearest of many images: cells beside all pairs, copies left out, what a search remembers."""

import numpy as np
import pytest

from fgvc_utils.cleaning import search
from fgvc_utils.cleaning.vectors import UnitVectors


def clusters(images=3000, width=16, clusters=60, seed=0):
    """Features in clusters, as those of classes are."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(clusters, width)) * 2
    own = random.integers(clusters, size=images)
    return (centres[own] + random.normal(size=(images, width))).astype(np.float16)


def test_cells_find_what_all_pairs_find(capsys, monkeypatch):
    monkeypatch.setattr(search, "BLOCK", 500)
    vectors, groups = UnitVectors([clusters()]), np.arange(3000) // 3
    true = search.search(vectors, groups, 8)
    found = search.search(vectors, groups, 8, exact=1000)
    pairs = zip(true.rows, found.rows, strict=True)
    same = np.mean([len(np.intersect1d(*pair)) for pair in pairs]) / 8
    assert true.recall == 1 and not (groups[found.rows] == groups[:, None]).any()
    # What is said of a sample holds for all.
    assert found.recall > 0.97 and abs(same - found.recall) < 0.02
    assert (np.diff(found.likeness, axis=1) <= 0).all()
    product = (vectors[:] * vectors[found.rows[:, 0]]).sum(axis=1)
    np.testing.assert_allclose(found.likeness[:, 0], product, atol=1e-5)
    said = capsys.readouterr().out
    assert f"of {round(1.5 * 3000**0.5)} cells" in said and f"{found.recall:.1%}" in said


def test_a_cell_of_copies_alone_finds_neighbours_elsewhere():
    features = clusters()
    features[:500] = features[0]
    groups = np.arange(3000)
    groups[:500] = 0
    true = search.search(UnitVectors([features]), groups, 4)
    found = search.search(UnitVectors([features]), groups, 4, exact=1000)
    assert set(found.rows[7]) == set(true.rows[7]) and found.rows[:500].min() >= 500


def test_where_all_images_are_copies_none_is_a_neighbour():
    found = search.search(UnitVectors([clusters()]), np.zeros(3000), 2, exact=1000)
    assert np.isneginf(found.likeness).all() and (found.rows == np.arange(3000)[:, None]).all()


def test_networks_weigh_the_same_however_large_their_features_are():
    one, other = clusters(50, 8), clusters(50, 12, seed=1) * 100
    product = UnitVectors([one, other])[:] @ UnitVectors([one, other])[:].T
    apart = [UnitVectors([each])[:] @ UnitVectors([each])[:].T for each in (one, other)]
    np.testing.assert_allclose(product, np.mean(apart, axis=0), atol=1e-5)
    centred = UnitVectors([one], centred=True)
    by_hand = one.astype(np.float32) - one.astype(np.float32).mean(axis=0)
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    np.testing.assert_allclose(centred[np.array([3, 1])], by_hand[[3, 1]], atol=1e-5)


@pytest.mark.parametrize("exact", [10, 1000])
def test_more_neighbours_than_images(exact):
    with pytest.raises(ValueError, match="neighbours 50 needs more than 50 images"):
        search.search(UnitVectors([clusters(50)]), np.arange(50), 50, exact)
