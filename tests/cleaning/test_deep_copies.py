"""Near copies by features: which groups are joined, in cells as over all pairs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fgvc_utils.cleaning import search
from fgvc_utils.cleaning.deep_copies import linked, with_deep_copies
from fgvc_utils.cleaning.vectors import UnitVectors
from fgvc_utils.contest import copies, tables
from fgvc_utils.jobs import predictions


def pictures(count=8, width=12, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width))


def stored(folder, ids, features):
    """A job whose store holds the features of some images."""
    writer = predictions.ShardWriter(folder, 0, ids)
    writer.write("features", 0, features.astype(np.float16))
    writer.close()
    predictions.finish_store(folder, [], 1)
    return SimpleNamespace(store=folder)


@pytest.fixture
def contest(tmp_path):
    """Ten images: 1 is nearly 0 under another label, 8 of the test nearly 2; 9 cannot be read."""
    features = pictures(9)
    features[1] = features[0] * 3 + 0.01
    features[8] = features[2] * 0.5 - 0.01
    ids = [f"i{n}" for n in range(10)]
    given = ["ant", "bee", "ant", "bee", "ant", "bee", "ant", "bee", "", ""]
    split = ["train"] * 8 + ["test", "train"]
    listed = pd.DataFrame({"image_id": ids, "path": ids, "split": split, "given": given})
    table = tables.new_table(listed.astype(object))
    return table, stored(tmp_path / "predictions", ids[:9], features)


def test_images_with_nearly_the_same_features_are_one_group(contest):
    table, features = contest
    assert table["group"].tolist() == table["image_id"].tolist()
    group = with_deep_copies(table, features, 0.97)
    expected = table["image_id"].replace({"i1": "i0", "i8": "i2"})
    assert group.tolist() == expected.tolist() and group.index.equals(table.index)
    # From here on they are what copies by their hashes are.
    table["group"] = group
    assert copies.conflicts(table)["image_id"].tolist() == ["i0", "i1"]
    assert set(copies.across(table)["image_id"]) == {"i2", "i8"}
    assert with_deep_copies(table, features, 0.97).equals(table["group"])


def test_groups_of_hashes_stay_together_and_join_as_a_whole(contest):
    table, features = contest
    table.loc[table.index[[1, 5, 9]], "group"] = "i1"
    group = with_deep_copies(table, features, 0.97)
    assert group.iloc[[0, 1, 5, 9]].tolist() == ["i0"] * 4
    assert group.iloc[[3, 4, 6, 7]].tolist() == ["i3", "i4", "i6", "i7"]


def test_a_threshold_that_no_pair_reaches_changes_nothing(contest):
    table, features = contest
    pd.testing.assert_series_equal(with_deep_copies(table, features, 1.0), table["group"])


def components(pairs, count):
    pairs = np.concatenate([np.zeros((2, 0), int), *pairs], axis=1)
    graph = coo_array((np.ones(pairs.shape[1]), pairs), shape=(count, count))
    return connected_components(graph, directed=False)[1], pairs.shape[1]


def test_cells_join_what_all_pairs_join(capsys, monkeypatch):
    monkeypatch.setattr(search, "BLOCK", 300)
    random = np.random.default_rng(0)
    sources = pictures(1500, 16)
    # Copies of two thirds, and copies of the copies of some.
    features = np.concatenate([sources, sources[:1000] + random.normal(size=(1000, 16)) * 0.1])
    features = np.concatenate([features, features[2200:] + random.normal(size=(300, 16)) * 0.1])
    vectors, codes = UnitVectors([features]), np.arange(len(features))
    likeness = vectors[:] @ vectors[:].T >= 0.97
    true = connected_components(coo_array(likeness), directed=False)[1]
    whole, _ = components(linked(vectors, codes, 0.97), len(codes))
    np.testing.assert_array_equal(whole, true)
    cut, _ = components(linked(vectors, codes, 0.97, exact=1000), len(codes))
    # The cells may leave a pair apart, but join no other.
    assert len(np.unique(true)) < 2000
    assert len(np.unique(true)) <= len(np.unique(cut)) < 1.02 * len(np.unique(true))
    assert len(np.unique(np.stack([true, cut]), axis=1).T) == len(np.unique(cut))
    assert f"near copies of {search.SAMPLE} images" in capsys.readouterr().out


def test_a_thousand_equal_images_are_joined_by_few_pairs():
    features = np.concatenate([np.tile(pictures(1), (1000, 1)), pictures(20, seed=1)])
    joined, pairs = components(linked(UnitVectors([features]), np.arange(1020), 0.97), 1020)
    assert len(np.unique(joined)) == 21 and pairs <= 2 * 1020


def test_pairs_that_were_groups_before_are_not_joined_again():
    features = np.tile(pictures(1), (50, 1))
    assert list(linked(UnitVectors([features]), np.zeros(50, int), 0.97)) == []
