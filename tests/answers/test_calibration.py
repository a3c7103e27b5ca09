"""Temperature and class bias: planted ones are found, and no image judges what it fitted."""

import numpy as np
import pytest

from fgvc_utils.answers.calibration import (
    KINDS,
    Calibration,
    compared,
    crossed,
    fit_calibration,
    tried,
)
from fgvc_utils.core.intervals import wilson

COUNT, CLASSES = 12_000, 4
TEMPERATURE, BIAS = 2.5, np.array([0.8, 0.2, -0.4, -0.6])


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def planted():
    """Scores, labels drawn from the true probabilities, and these: the scores know neither."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (COUNT, CLASSES))
    true = softmax(logits)
    labels = (random.random((COUNT, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(max=CLASSES - 1)
    # Any multiple of probabilities, as votes are.
    scores = 3 * softmax((logits - BIAS) * TEMPERATURE)
    return scores.astype(np.float32), labels, true


def test_a_planted_temperature_and_bias_are_found(planted):
    scores, labels, true = planted
    found = fit_calibration(scores, labels, "bias")
    assert found.temperature == pytest.approx(TEMPERATURE, rel=0.06)
    np.testing.assert_allclose(found.bias - found.bias.mean(), BIAS, atol=0.1)
    np.testing.assert_allclose(found.applied(scores), true, atol=0.03)


def test_a_temperature_alone_keeps_each_top_class_and_finds_its_least_loss(planted):
    scores, labels, _ = planted
    found = fit_calibration(scores, labels, "temperature")
    assert not found.bias.any() and 1.5 < found.temperature < 4
    assert (found.applied(scores).argmax(axis=1) == scores.argmax(axis=1)).all()

    def loss(temperature):
        shares = Calibration(temperature, np.zeros(CLASSES)).applied(scores)
        return -np.log(shares[np.arange(COUNT), labels]).mean()

    assert loss(found.temperature) < min(loss(found.temperature * f) for f in (0.95, 1.05))


def test_no_calibration_is_the_scores_brought_to_a_sum_of_one(planted):
    scores, labels, _ = planted
    expected = scores / scores.sum(axis=1, keepdims=True)
    got = fit_calibration(scores, labels, "none").applied(scores)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


def test_few_images_a_class_move_a_bias_little(planted):
    scores, labels, _ = planted
    few = fit_calibration(scores[:8], labels[:8], "bias")
    assert np.abs(few.bias).max() < 0.7 and np.isfinite(few.temperature)


def test_each_half_is_judged_by_what_the_other_fitted(planted):
    scores, labels, _ = (part[:600] for part in planted)
    half = np.arange(600) % 3 == 0
    own = crossed(scores, labels, half, "bias")
    np.testing.assert_array_equal(
        own.for_half.bias, fit_calibration(scores[~half], labels[~half], "bias").bias
    )
    np.testing.assert_array_equal(own.for_test.bias, fit_calibration(scores, labels, "bias").bias)
    # An image of the half changes what judges the rest, and nothing that judges the half.
    other = np.where(half, (labels + 1) % CLASSES, labels)
    again = crossed(scores, other, half, "bias")
    np.testing.assert_array_equal(again.for_half.bias, own.for_half.bias)
    assert not np.array_equal(again.for_rest.bias, own.for_rest.bias)


def test_the_table_shows_what_each_kind_would_bring(planted):
    scores, labels, _ = (part[:3000] for part in planted)
    half = np.arange(3000) % 2 == 0
    table = compared(scores, labels, half, tried(scores, labels, half, "none"))
    assert table.index.tolist() == list(KINDS) and table["n"].eq(3000).all()
    assert table["log loss"].is_monotonic_decreasing and table.loc["none", "temperature"] == 1
    plain = (scores.argmax(axis=1) == labels).mean()
    assert table.loc[["none", "temperature"], "top1"].tolist() == pytest.approx([plain] * 2)
    assert table.loc["bias", "top1"] > plain
    assert table.loc["none", ["low", "high"]].tolist() == pytest.approx(
        wilson(round(plain * 3000), 3000)
    )
    assert (table["loss_low"] < table["log loss"]).all()
    assert (table["loss_high"] > table["log loss"]).all()


def test_an_empty_half_fits_nothing_and_says_so_where_a_calibration_is_wanted(planted):
    scores, labels, _ = (part[:20] for part in planted)
    half = np.zeros(20, dtype=bool)
    assert tried(scores, labels, half, "none") == {}
    with pytest.raises(ValueError, match="a half is empty: set calibration to 'none'"):
        tried(scores, labels, half, "bias")
