"""Two ways to meet a long tail."""

import numpy as np

from fgvc_utils.training.balance import log_prior, oversample


def test_oversample_lifts_small_classes_to_a_third():
    labels = np.repeat([0, 1, 2, 3], [30, 12, 3, 1])
    rows = oversample(labels, 1 / 3, seed=1)
    assert np.bincount(labels[rows]).tolist() == [30, 12, 10, 10]
    times = np.bincount(rows, minlength=len(labels))
    assert times.min() == 1
    assert set(times[labels == 2]) == {3, 4}, "a class's images are repeated in turn"
    assert (rows == oversample(labels, 1 / 3, seed=1)).all()
    assert any((rows != oversample(labels, 1 / 3, seed=seed)).any() for seed in range(2, 6))


def test_log_prior_is_the_log_of_the_floored_shares():
    prior = log_prior(np.array([6, 3, 0]))
    np.testing.assert_allclose(np.exp(prior), [0.6, 0.3, 0.1], rtol=1e-6)
    assert prior.dtype == np.float32
