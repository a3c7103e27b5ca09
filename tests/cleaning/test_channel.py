"""The channel between true and given labels, against labels drawn through a known one."""

import numpy as np
import pytest

from fgvc_utils.cleaning import bars, channel

CLASSES = 12


def drawn(images, trust, sisters, seed=0, noise=0.0):
    """Labels drawn through a channel, and what networks of known calibration say of the images.

    Of the wrong labels, the share `sisters` is that of the next class. The networks' logits are the
    true ones, so a sharpness of 1 is right.
    """
    random = np.random.default_rng(seed)
    shown = random.integers(0, CLASSES, images)
    shown[random.random(images) < noise] = CLASSES
    # Of normal scores with a shift of their variance, the softmax is the posterior.
    logits = random.normal(size=(images, CLASSES + 1)) * 2
    logits[np.arange(images), shown] += 2**2
    logits[:, CLASSES] -= 50 * (noise == 0)
    predicted = np.exp(logits - logits.max(1, keepdims=True))
    predicted /= predicted.sum(1, keepdims=True)
    others = (shown + random.integers(1, CLASSES, images)) % CLASSES
    wrong = np.where(random.random(images) < sisters, (shown + 1) % CLASSES, others)
    right = (random.random(images) < trust) & (shown < CLASSES)
    anything = random.integers(0, CLASSES, images)
    labels = np.where(shown == CLASSES, anything, np.where(right, shown, wrong))
    return labels, shown, predicted.astype(np.float32)


def in_columns(labels, predicted, width=CLASSES + 1):
    """Columns and values as a posterior has them: the label, then the likeliest."""
    top = np.argsort(-predicted, axis=1, kind="stable")[:, :width]
    columns = np.concatenate([labels[:, None], top], axis=1).astype(np.int32)
    return columns, np.take_along_axis(predicted, columns.astype(int), axis=1)


def estimated(labels, predicted, **given):
    columns, values = in_columns(labels, predicted)
    likelihood = lambda rows, power: values[rows] ** power  # noqa: E731
    found, posterior = channel.estimate(labels, columns, likelihood, CLASSES, **given)
    return found, posterior, columns


@pytest.mark.parametrize("trust", [0.6, 0.9, 0.99])
def test_the_trust_and_the_sharpness_are_found(trust):
    labels, shown, predicted = drawn(4000, trust, 0.0)
    soft = predicted**0.5 / (predicted**0.5).sum(1, keepdims=True)
    found, _, _ = estimated(labels, soft, believed=shown)
    assert found.trust == pytest.approx(trust, abs=0.04)
    assert found.sharpness == pytest.approx(2, abs=0.3)
    np.testing.assert_allclose(found.right, trust, atol=0.08)


def test_images_of_no_class_say_nothing_of_the_trust():
    labels, shown, predicted = drawn(4000, 0.8, 0.0, noise=0.3)
    found, _, _ = estimated(labels, predicted, believed=shown)
    assert found.trust == pytest.approx(0.8, abs=0.06)


def test_a_class_with_worse_labels_is_told():
    labels, shown, predicted = drawn(6000, 0.9, 0.0)
    random = np.random.default_rng(1)
    labels[(shown != 3) & (random.random(6000) < 0.1)] = 3
    found, _, _ = estimated(labels, predicted, believed=shown)
    really = [(shown == labels)[labels == label].mean() for label in range(CLASSES)]
    np.testing.assert_allclose(found.right, really, atol=0.07)
    assert found.right.argmin() == 3


def test_labels_that_go_to_a_sister_are_found_better_where_pairs_are_learnt():
    labels, shown, predicted = drawn(4000, 0.7, 1.0)
    found, posterior, columns = estimated(labels, predicted, sharpness=1.0)
    rows = np.arange(len(labels))
    alike = channel.Channel(found.trust, 1.0, CLASSES)
    values = np.take_along_axis(predicted, columns.astype(int), 1) * alike.of(columns, labels)
    right = lambda values: (columns[rows, values.argmax(1)] == shown).mean()  # noqa: E731
    assert right(posterior) > right(values) + 0.02
    assert found.trust == pytest.approx(0.7, abs=0.03)
    sister = np.array(
        [[label, (label - 1) % CLASSES, (label + 5) % CLASSES] for label in range(12)]
    )
    given = found.of(sister.astype(np.int32), np.arange(CLASSES))
    assert (given[:, 1] > 5 * given[:, 2]).all()


def test_a_single_surprise_makes_no_pair():
    # All labels are right but one, and each image would be judged by its own surprise alone.
    predicted = np.full((240, CLASSES + 1), 1e-4, np.float32)
    shown = np.arange(240) % CLASSES
    predicted[np.arange(240), shown] = 1
    labels = shown.copy()
    predicted[0, 7] = 0.9
    _, posterior, _ = estimated(labels, predicted, sharpness=1.0)
    assert posterior[0, 0] > 0.98


def test_networks_that_learnt_the_noise_are_told_by_what_is_believed():
    # They say how often a class's images come under each label, so all labels look right to them.
    random = np.random.default_rng(0)
    shown = random.integers(0, CLASSES, 3000)
    labels = np.where(random.random(3000) < 0.7, shown, (shown + 1) % CLASSES)
    predicted = np.full((3000, CLASSES + 1), 1e-3, np.float32)
    predicted[np.arange(3000), shown] = 0.7
    predicted[np.arange(3000), (shown + 1) % CLASSES] = 0.3
    by_labels, *_ = estimated(labels, predicted)
    found, *_ = estimated(labels, predicted, believed=shown)
    assert by_labels.trust > 0.95 and by_labels.sharpness < 1.2
    assert found.trust == pytest.approx(0.7, abs=0.05)


def test_what_is_given_is_not_estimated():
    labels, _, predicted = drawn(500, 0.7, 0.5)
    found, posterior, columns = estimated(labels, predicted, trust=0.2, sharpness=1.5)
    assert (found.trust, found.sharpness, found.pairs) == (0.2, 1.5, None)
    values = np.take_along_axis(predicted, columns.astype(int), 1) ** 1.5
    values *= channel.Channel(0.2, 1.5, CLASSES).of(columns, labels)
    np.testing.assert_allclose(
        posterior, values / values.sum(1, keepdims=True), rtol=1e-4, atol=1e-9
    )


def test_a_fixed_channel_spreads_wrong_labels_evenly():
    columns = np.array([[2, 0, 2, 3]], np.int32)
    given = channel.Channel(0.4, 1.0, 3).of(columns, np.array([2]))
    np.testing.assert_allclose(given, [[0.4, 0.6 / 3, 0, 1 / 3]], rtol=1e-6)


def test_on_right_labels_the_bar_lies_low_and_on_wrong_ones_it_catches_them():
    random = np.random.default_rng(0)
    planted = np.arange(2000) < 200
    own = np.where(planted, random.beta(1, 6, 2000), random.beta(9, 1, 2000))
    clean = bars.keep_curve(own, planted, wrong_share=0.0)
    assert bars.keep_bar_of(clean) == clean["keep_bar"].min()
    assert (clean["gain"] <= 0).all()
    noisy = own.copy()
    noisy[200:900] = random.beta(1, 6, 700)
    curve = bars.keep_curve(noisy, planted, wrong_share=700 / 1800)
    at = curve.set_index("keep_bar").loc[bars.keep_bar_of(curve)]
    assert 0.3 <= bars.keep_bar_of(curve) <= 0.7
    assert at["precision"] > 0.9 and at["right_lost"] < 0.05
    # What it says without truth is near what is true of the images that were not planted.
    out = noisy[200:] < bars.keep_bar_of(curve)
    assert at["precision"] == pytest.approx(out[:700].sum() / out.sum(), abs=0.03)


def test_no_planted_errors_is_an_error():
    with pytest.raises(ValueError, match="raise planted_share"):
        bars.keep_curve(np.ones(3), np.zeros(3, bool), 0.1)


def test_the_relabel_bar_rises_with_the_price_of_wrong_labels():
    before, labels = np.zeros(100, int), np.ones(100, int)
    sure = np.linspace(0.41, 0.99, 100)
    best = np.where(sure > 0.75, 0, 2)
    curve = bars.relabel_curve(sure, best, labels, before, classes=3)
    assert bars.relabel_bar_of(curve) == 0.8
    nothing = bars.relabel_curve(sure, np.full(100, 2), labels, before, classes=3)
    assert bars.relabel_bar_of(nothing) == 0.95
    none = bars.relabel_curve(sure, np.full(100, 3), labels, before, classes=3)
    assert (none["relabelled"] == 0).all()
