"""The registry of ensemble ways, and what ways answer, against sums worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fgvc_utils.answers import ways
from fgvc_utils.answers.params import EnsembleParams
from fgvc_utils.answers.ways import (
    COMBINATIONS,
    LAYERS,
    Combination,
    Way,
    admit,
    answers,
    combined,
    fit_weights,
    mean_of,
    member_sets,
    voters,
    without,
)

EQUAL = {"a": 0.5, "b": 0.5}


def test_entries_are_switched_on_by_parameters_and_called_by_names_of_their_own():
    fields = EnsembleParams.model_fields
    for entry in COMBINATIONS.values():
        assert entry.sizes in fields and (not entry.weights or entry.weights in fields)
        assert entry.name.format(3) != entry.name.format(4)
    for entry in LAYERS.values():
        assert entry.models in fields and (not entry.votes or entry.votes in fields)
    names = [entry.name for entry in (*COMBINATIONS.values(), *LAYERS.values())]
    assert len(set(names)) == len(names)
    assert not COMBINATIONS.keys() & LAYERS.keys()


def test_results_of_earlier_runs_are_found_in_the_folders_of_their_layers():
    assert list(LAYERS) == [
        "features-layer-random-views",
        "features-layer-test-views",
        "convolution-over-models",
        "convolution-along-features",
    ]


def test_member_sets_hold_the_best_and_stand_once():
    ranked = ["c", "a", "b"]
    assert member_sets(ranked, [15, 9, 2, 2, 1]) == [("c", "a", "b"), ("c", "a"), ("c",)]
    assert member_sets([], [3]) == [] == member_sets(ranked, [0])


def test_a_mean_of_equals_is_each_of_them_and_weights_weigh():
    one = np.float32([[0.75, 0.25]])
    two = np.float32([[0.25, 0.75]])
    assert np.array_equal(mean_of([one] * 4), one)
    assert np.array_equal(mean_of([one, one], [0.25, 0.75]), one)
    assert np.array_equal(mean_of([one, two], [0.25, 0.75]), np.float32([[0.375, 0.625]]))
    with pytest.raises(ValueError, match="shorter"):
        mean_of([one, two], [1.0])


def test_admitted_members_enter_with_the_mean_weight_of_the_others():
    way = admit(Way("w", {"a": 0.6, "b": 0.4}, votes=False), ["c"])
    assert way.weights == pytest.approx({"a": 0.4, "b": 0.8 / 3, "c": 1 / 3})
    assert not way.votes and admit(way, []) is way


def test_a_way_without_a_member_keeps_its_kind_and_its_sum():
    way = Way("w", {"a": 0.5, "b": 0.3, "c": 0.2}, "other", votes=False)
    left = without(way, "a")
    assert left.weights == pytest.approx({"b": 0.6, "c": 0.4})
    assert (left.name, left.kind, left.votes) == ("w", "other", False)
    assert without(Way("w", {"a": 1.0}), "a") is None
    assert without(Way("w", {"a": 1.0, "b": 0.0}), "a") is None


def test_ways_are_identical_only_by_the_same_members_weights_and_kind():
    one, two = Way("one", EQUAL), Way("two", dict(reversed(EQUAL.items())))
    assert voters([one, two, Way("three", {"a": 1.0})]) == ["one", "three"]
    assert voters([one, two._replace(kind="other")]) == ["one", "two"]
    assert voters([one._replace(votes=False), two]) == ["two"]
    # One member alone is itself, whatever combines it.
    assert voters([Way("x", {"a": 1.0}), Way("y", {"a": 1.0}, "other")]) == ["x"]


@pytest.mark.parametrize("layer", LAYERS.values(), ids=list(LAYERS))
def test_a_layer_votes_unless_its_parameter_says_no(layer):
    off = SimpleNamespace(vote_convolution=False)
    on = SimpleNamespace(vote_convolution=True)
    (way,) = ways.layer_ways(on, [layer.name])
    assert way.votes and way.weights == {layer.name: 1.0} and LAYERS[way.kind] is layer
    assert ways.layer_ways(off, [layer.name])[0].votes == (not layer.votes)
    assert layer.caption in ways.described(way)


def geometric(probabilities, weights):
    """The normalised geometric mean, which the registry does not have."""
    logs = sum(w * np.log(p) for p, w in zip(probabilities, weights, strict=True))
    return np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)


def test_a_further_entry_answers_votes_and_is_left_out_like_the_others(monkeypatch):
    entry = Combination("geometric_models", "geometric mean of {}", "a caption", geometric)
    monkeypatch.setitem(COMBINATIONS, "geometric", entry)
    cfg = SimpleNamespace(mean_sizes=[2, 1], mean_weights="equal", geometric_models=2)
    made = combined(cfg, ["a", "b", "c"], pd.DataFrame(), pd.Series(dtype=bool))
    assert [way.name for way in made] == ["mean of 2", "mean of 1", "geometric mean of 2"]
    assert voters(made) == [way.name for way in made]
    block = {"a": np.float32([[0.9, 0.1]]), "b": np.float32([[0.2, 0.8]])}
    results = answers(block, made)
    assert results["mean of 2"] == pytest.approx(np.array([[0.55, 0.45]]))
    assert results["geometric mean of 2"] == pytest.approx(np.array([[0.6, 0.4]]))
    assert without(made[2], "a").kind == "geometric"
    assert ways.described(made[2]) == "geometric mean of 2: a caption"
    # What a report holds of a way is the whole of it.
    assert [Way(**way._asdict()) for way in made] == made
    off = SimpleNamespace(**vars(cfg) | {"geometric_models": 0})
    assert len(combined(off, ["a", "b"], pd.DataFrame(), pd.Series(dtype=bool))) == 2


def test_weights_of_all_ways_stand_in_one_table_of_numbers():
    table = ways.weight_table([Way("one", EQUAL), Way("two", {"a": 1.0})])
    assert table.to_dict() == {"one": EQUAL, "two": {"a": 1.0, "b": 0.0}}
    assert set(table.dtypes.map(str)) == {"float64"} and ways.weight_table([]).empty


def test_a_result_that_is_alone_stays_a_probability():
    alone = np.random.default_rng(0).dirichlet(np.ones(4), 9).astype(np.float32)
    np.testing.assert_array_equal(ways.vote([alone]), alone)


def test_votes_come_before_the_mean_and_the_mean_breaks_ties():
    one = np.float32([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0]])
    two = np.float32([[0.4, 0.6, 0.0], [0.0, 0.3, 0.7]])
    three = np.float32([[0.4, 0.6, 0.0], [0.1, 0.8, 0.1]])
    mean = mean_of([one, two, three])
    np.testing.assert_allclose(mean[0], [1.7 / 3, 1.3 / 3, 0], rtol=1e-6)
    score = ways.vote([one, two, three])
    np.testing.assert_allclose(score[0], [1 + 1.7 / 3, 2 + 1.3 / 3, 0], rtol=1e-6)
    assert mean[0].argmax() == 0 and score[0].argmax() == 1
    assert score[1].argmax() == 1, "one vote each: the mean decides"


def test_weights_are_the_minimum_of_a_convex_loss():
    random = np.random.default_rng(1)
    own = random.dirichlet([1, 1, 1, 1], 400)[:, :3]
    found = fit_weights(own)
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    best = np.log(own @ found).mean()
    for other in random.dirichlet([1, 1, 1], 200):
        assert np.log(own @ other).mean() <= best + 1e-6
    worse = np.column_stack([own[:, 0], own[:, 0] / 2])
    np.testing.assert_allclose(fit_weights(worse), [1, 0], atol=1e-3)
    same = np.column_stack([own[:, 0]] * 4)
    np.testing.assert_allclose(fit_weights(same), [0.25] * 4)
    with pytest.raises(ValueError, match="there is none"):
        fit_weights(np.zeros((0, 2)))


def test_weights_are_fitted_on_the_chosen_images_only():
    own = pd.DataFrame({"a": [0.9, 0.9, 0.1, 0.1], "b": [0.1, 0.1, 0.9, 0.9], "c": [0.5] * 4})
    cfg = SimpleNamespace(mean_sizes=[2], mean_weights="fitted")
    # By id, whatever the order.
    chosen = pd.Series([False, False, True, True], [3, 2, 1, 0])
    (first,) = combined(cfg, ["a", "b", "c"], own, chosen)
    assert first.weights["a"] > 0.99 and list(first.weights) == ["a", "b"]
    (second,) = combined(cfg, ["a", "b", "c"], own, ~chosen)
    assert second.weights["b"] > 0.99
