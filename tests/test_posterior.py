"""Posteriors of labels against sums done by hand, decisions, worth of looks, planted errors."""

import numpy as np
import pandas as pd
import pytest

from fgvc_utils import posterior


def test_the_posterior_is_bayes_rule():
    said = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    labels = np.array([1, 0])
    got = posterior.label_posterior(said, labels, trust=0.4, sharpness=1)
    # Two classes: a label is right with 0.4, each class gets (1 - 0.4) / 2 besides, none 1 / 2.
    by_hand = np.array([[0.6 * 0.3, 0.3 * 0.4, 0.1 * 0.5], [0.2 * 0.4, 0.5 * 0.3, 0.3 * 0.5]])
    np.testing.assert_allclose(got, by_hand / by_hand.sum(axis=1, keepdims=True), rtol=1e-6)


def test_sharpness_is_a_power():
    said = np.array([[0.5, 0.3, 0.2]])
    squared = posterior.label_posterior(said, np.array([0]), 0.4, 2)
    by_hand = np.array([0.25 * 0.4, 0.09 * 0.3, 0.04 * 0.5])
    np.testing.assert_allclose(squared[0], by_hand / by_hand.sum(), rtol=1e-6)


@pytest.mark.parametrize(("labels", "trust"), [([2], 0.5), ([-1], 0.5), ([0], 1.0)])
def test_wrong_labels_and_trust_are_refused(labels, trust):
    with pytest.raises(ValueError, match="labels must lie|trust is"):
        posterior.label_posterior(np.full((1, 3), 1 / 3), np.array(labels), trust, 1)


def test_a_known_class_is_certain():
    fixed = posterior.fix(np.full((3, 4), 0.25), np.array([-1, 2, 3]))
    assert fixed.tolist() == [[0.25] * 4, [0, 0, 1, 0], [0, 0, 0, 1]]


def test_decide():
    value = np.array([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.3, 0.5, 0.2], [0.1, 0.1, 0.8]])
    decided = posterior.decide(value, np.zeros(4, int), relabel_bar=0.7)
    assert decided["verdict"].tolist() == ["keep", "relabel", "drop", "drop"]
    assert decided["best"].tolist() == [0, 1, 1, 2]
    np.testing.assert_allclose(decided["own"], [0.6, 0.1, 0.3, 0.1])


def test_a_look_pays_where_a_class_is_likely_and_unsure():
    rows = [("drop", "a", 0.65), ("drop", "a", 0.3), ("relabel", "b", 0.95), ("drop", "", 0.9)]
    frame = pd.DataFrame(rows, columns=["verdict", "suggested", "sure"])
    assert np.argsort(-posterior.worth(frame)).tolist()[:2] == [0, 1]


def test_planted_errors_are_errors_of_both_kinds():
    random = np.random.default_rng(0)
    value = random.dirichlet(np.ones(6), 400)
    labels = value[:, :5].argmax(axis=1)
    planted = posterior.plant_errors(labels, value, 0.25, 0.5, seed=3)
    changed = np.flatnonzero(planted.labels != labels)
    assert changed.tolist() == planted.rows.tolist() and len(changed) == 100
    without_own = value[:, :5].copy()
    without_own[np.arange(400), labels] = -1
    sister = (without_own.argmax(axis=1) == planted.labels)[changed].mean()
    # Half are sisters by choice, and of the other half one in four by chance.
    assert 0.5 < sister < 0.75


def test_a_planted_error_is_never_the_likely_truth_of_a_wrong_label():
    value = np.tile([0.1, 0.7, 0.15, 0.05], (50, 1))
    planted = posterior.plant_errors(np.zeros(50, int), value, 1.0, 0.5, seed=0)
    assert set(planted.labels) == {2}


def test_the_table_recovers_what_was_built_in():
    """Wrong labels in a known share, doubts of right and wrong ones from known distributions."""
    random = np.random.default_rng(1)
    n, share = 40_000, 0.3
    wrong = random.random(n) < share
    planted = random.random(n) < 0.2
    doubt = np.where(wrong | planted, random.beta(5, 1, n), random.beta(1, 8, n))
    table = posterior.planted_table(doubt, planted).set_index("threshold")
    assert table["wrong_share"].iloc[0] == pytest.approx(share, abs=0.02)
    for threshold in (0.2, 0.5, 0.8):
        flagged = doubt[~planted] > threshold
        true_precision = wrong[~planted][flagged].mean()
        assert table.loc[threshold, "precision"] == pytest.approx(true_precision, abs=0.03)
    estimate = posterior.planted_estimate(doubt > 0.2, planted, table["wrong_share"].iloc[0])
    fine = ((doubt > 0.2) & ~wrong & ~planted).sum()
    assert estimate["fine"] == pytest.approx(fine, rel=0.2)


def test_nothing_planted_is_refused():
    with pytest.raises(ValueError, match="planted_share"):
        posterior.planted_table(np.zeros(4), np.zeros(4, bool))
