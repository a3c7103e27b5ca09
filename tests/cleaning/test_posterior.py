"""Posteriors of labels against sums done by hand, decisions, value of a review, planted errors."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_crossing import CROSS, SETTINGS

from fgvc_utils.cleaning import deciding, planting, posterior, views
from fgvc_utils.cleaning.params import CrossParams
from fgvc_utils.cleaning.posterior import SparsePosterior
from fgvc_utils.jobs.reduction import Reduced, reduce_block


def reduced(predicted, labels, top=99):
    predicted = np.asarray(predicted, np.float32)
    ids = pd.Index([str(n) for n in range(len(predicted))], dtype=object)
    classes = [*map(str, range(predicted.shape[1] - 1)), posterior.NONE]
    return Reduced(ids, classes, **reduce_block(predicted, np.asarray(labels), top))


def settings(trust=0.2, sharpness=1.5, relabel_bar=0.7):
    changes = {"trust": trust, "sharpness": sharpness, "relabel_bar": relabel_bar}
    return CrossParams(**SETTINGS | CROSS | changes, outputs="nowhere")


def weighed(predictions, labels, trust, sharpness, known=None):
    labels = np.asarray(labels)
    known = np.full(len(labels), -1) if known is None else known
    nothing = np.zeros(len(labels), int)
    cfg = settings(trust, sharpness)
    case = views.Case(cfg, predictions, labels, known, nothing, nothing, [])
    return views.label_posterior(case)


def sparse(value, labels):
    """All columns of a posterior (images, classes + 1), the label's first."""
    value = np.asarray(value, np.float32)
    own = np.asarray(labels)[:, None]
    others = np.where(np.arange(value.shape[1]) == own, 0, value)
    columns = np.broadcast_to(np.arange(value.shape[1]), value.shape)
    return SparsePosterior(
        np.hstack([own, columns]), np.hstack([np.take_along_axis(value, own, 1), others])
    )


def dense(value, width):
    out = np.zeros((len(value), width))
    np.add.at(out, (np.arange(len(value))[:, None], value.columns), value.values)
    return out


def full_posterior(predicted, labels, trust, sharpness):
    """The definition, over all classes."""
    classes = predicted.shape[1] - 1
    value = predicted**sharpness * (1 - trust) / classes
    value[:, classes] = predicted[:, classes] ** sharpness / classes
    rows = np.arange(len(labels))
    value[rows, labels] = predicted[rows, labels] ** sharpness * trust
    return value / value.sum(axis=1, keepdims=True)


def test_the_posterior_is_bayes_rule():
    predicted = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    labels = np.array([1, 0])
    got = weighed(reduced(predicted, labels), labels, trust=0.4, sharpness=1)
    # Two classes: a label is right with 0.4, each class gets (1 - 0.4) / 2 besides, none 1 / 2.
    by_hand = np.array([[0.6 * 0.3, 0.3 * 0.4, 0.1 * 0.5], [0.2 * 0.4, 0.5 * 0.3, 0.3 * 0.5]])
    by_hand /= by_hand.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(dense(got, 3), by_hand, rtol=2e-3)
    np.testing.assert_allclose(got.of(labels), by_hand[[0, 1], labels], rtol=2e-3)


def test_sharpness_is_a_power():
    squared = weighed(reduced([[0.5, 0.3, 0.2]], [0]), [0], 0.4, 2)
    by_hand = np.array([0.25 * 0.4, 0.09 * 0.3, 0.04 * 0.5])
    np.testing.assert_allclose(dense(squared, 3)[0], by_hand / by_hand.sum(), rtol=2e-3)


@pytest.mark.parametrize("top", [5, 13])
def test_the_top_gives_the_posterior_over_all_classes(top):
    random = np.random.default_rng(0)
    predicted, labels = random.dirichlet(np.full(13, 0.3), 200), random.integers(0, 12, 200)
    got = weighed(reduced(predicted, labels, top), labels, 0.2, 1.5)
    full = full_posterior(predicted, labels, 0.2, 1.5)
    own = np.abs(got.of(labels) - full[np.arange(200), labels])
    assert own.max() < 3e-3 if top == 13 else own.mean() < 0.01
    assert (got.best() == full.argmax(axis=1)).mean() > 0.98
    np.testing.assert_allclose(got.values.sum(axis=1), 1, rtol=1e-5)


def test_the_mean_of_posteriors_is_class_by_class():
    random = np.random.default_rng(1)
    labels = random.integers(0, 6, 50)
    values = [random.dirichlet(np.full(7, 0.5), 50).astype(np.float32) for _ in range(3)]
    together = posterior.mean([sparse(value, labels) for value in values])
    np.testing.assert_allclose(dense(together, 7), np.mean(values, axis=0), atol=1e-6)
    assert (together.best() == np.mean(values, axis=0).argmax(axis=1)).all()
    one = posterior.mean([sparse(values[0], labels)])
    np.testing.assert_allclose(dense(one, 7), values[0], atol=1e-6)


def test_the_mean_of_different_classes_keeps_the_likeliest():
    predicted = [np.array([[0.5, 0.3, 0.2, 0, 0]]), np.array([[0, 0, 0.2, 0.7, 0.1]])]
    narrow = [
        SparsePosterior(np.array([[0, 1, 2]]), predicted[0][:, :3].astype(np.float32)),
        SparsePosterior(np.array([[3, 2, 4]]), predicted[1][:, [3, 2, 4]].astype(np.float32)),
    ]
    together = posterior.mean(narrow)
    assert together.columns.tolist() == [[3, 0, 2]]
    np.testing.assert_allclose(together.values, [np.array([0.35, 0.25, 0.2]) / 0.8], rtol=1e-6)
    sure = posterior.mean([one.fixed(np.array([1])) for one in narrow])
    assert sure.best().tolist() == [1] and sure.values.max() == 1


def test_labels_may_be_others_than_those_judged():
    predicted, other = np.array([[0.6, 0.3, 0.1]]), np.array([1])
    read = reduced(predicted, [0])
    read = replace(read, label_probability=read.probability_of(other))
    got = weighed(read, other, 0.4, 1)
    np.testing.assert_allclose(dense(got, 3), full_posterior(predicted, other, 0.4, 1), rtol=3e-3)


@pytest.mark.parametrize(("labels", "trust"), [([2], 0.5), ([-1], 0.5), ([0], 1.0)])
def test_wrong_labels_and_trust_are_refused(labels, trust):
    predictions = reduced(np.full((1, 3), 1 / 3), [0])
    with pytest.raises(ValueError, match="labels must lie|trust = 1.0"):
        weighed(predictions, labels, trust, 1)


def test_a_known_class_is_certain():
    known, equal = np.array([-1, 2, 3]), np.full((3, 4), 0.25)
    fixed = sparse(equal, [0, 0, 0]).fixed(known)
    assert dense(fixed, 4).tolist() == [[0.25] * 4, [0, 0, 1, 0], [0, 0, 0, 1]]
    got = weighed(reduced(equal, [0, 0, 0]), [0, 0, 0], 0.5, 1, known)
    assert got.best().tolist()[1:] == [2, 3] and got.values.max(axis=1).tolist()[1:] == [1, 1]


def test_decide():
    value = np.array([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.3, 0.5, 0.2], [0.1, 0.1, 0.8]])
    labels = np.zeros(4, int)
    decided = deciding.decide(sparse(value, labels), labels, 2, settings(relabel_bar=0.7))
    assert decided["verdict"].tolist() == ["keep", "relabel", "drop", "drop"]
    assert decided["best"].tolist() == [0, 1, 1, 2]
    np.testing.assert_allclose(decided["own"], [0.6, 0.1, 0.3, 0.1], rtol=1e-6)
    np.testing.assert_allclose(decided["none"], [0.1, 0.1, 0.2, 0.8], rtol=1e-6)


def test_a_look_pays_where_it_is_likely_to_change_what_is_taught():
    rows = [("drop", 0.65, 0.1), ("drop", 0.3, 0.25), ("relabel", 0.95, 0.0), ("drop", 0.9, 0.9)]
    frame = pd.DataFrame(rows, columns=["verdict", "sure", "none"])
    by_hand = [0.9 * 0.675, 0.75 * 0.85, 0.05, 0.1 * 0.55]
    np.testing.assert_allclose(deciding.review_value(frame), by_hand)


def test_planted_errors_are_errors_of_both_kinds():
    random = np.random.default_rng(0)
    value = random.dirichlet(np.ones(6), 400)
    labels = value[:, :5].argmax(axis=1)
    planted = planting.plant_errors(labels, sparse(value, labels), 5, 0.25, 0.5, seed=3)
    changed = np.flatnonzero(planted.labels != labels)
    assert changed.tolist() == planted.rows.tolist() and len(changed) == 100
    without_own = value[:, :5].copy()
    without_own[np.arange(400), labels] = -1
    sister = (without_own.argmax(axis=1) == planted.labels)[changed].mean()
    # Half are sisters by choice, and of the other half one in four by chance.
    assert 0.5 < sister < 0.75


def test_a_planted_error_is_never_the_likely_truth_of_a_wrong_label():
    value, labels = np.tile([0.1, 0.7, 0.15, 0.05], (50, 1)), np.zeros(50, int)
    planted = planting.plant_errors(labels, sparse(value, labels), 3, 1.0, 0.5, seed=0)
    assert set(planted.labels) == {2}


def test_a_drawn_class_is_any_but_two():
    random = np.random.default_rng(0)
    own, barred = np.repeat([1, 3, 0, 4], 500), np.repeat([3, 1, -1, 0], 500)
    drawn = planting._any_but(own, barred, 5, random).reshape(4, 500)
    assert [sorted(set(row)) for row in drawn] == [[0, 2, 4], [0, 2, 4], [1, 2, 3, 4], [1, 2, 3]]


def test_two_classes_leave_no_room_for_an_error_where_the_other_is_likelier():
    value, labels = np.tile([0.2, 0.7, 0.1], (20, 1)), np.zeros(20, int)
    planted = planting.plant_errors(labels, sparse(value, labels), 2, 1.0, 0.5, seed=0)
    assert not len(planted.rows) and (planted.labels == 0).all()


def test_the_table_recovers_what_was_built_in():
    """Wrong labels in a known share, doubts of right and wrong ones from known distributions."""
    random = np.random.default_rng(1)
    n, share = 40_000, 0.3
    wrong = random.random(n) < share
    planted = random.random(n) < 0.2
    doubt = np.where(wrong | planted, random.beta(5, 1, n), random.beta(1, 8, n))
    table = planting.planted_table(doubt, planted).set_index("threshold")
    assert table["wrong_share"].iloc[0] == pytest.approx(share, abs=0.02)
    for threshold in (0.2, 0.5, 0.8):
        flagged = doubt[~planted] > threshold
        true_precision = wrong[~planted][flagged].mean()
        assert table.loc[threshold, "precision"] == pytest.approx(true_precision, abs=0.03)
    estimate = planting.planted_estimate(doubt > 0.2, planted, table["wrong_share"].iloc[0])
    fine = ((doubt > 0.2) & ~wrong & ~planted).sum()
    assert estimate["fine"] == pytest.approx(fine, rel=0.2)


def test_nothing_planted_is_refused():
    with pytest.raises(ValueError, match="planted_share"):
        planting.planted_table(np.zeros(4), np.zeros(4, bool))
