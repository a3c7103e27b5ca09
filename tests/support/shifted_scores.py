"""Simulated classifiers of images whose classes are not equal."""

import numpy as np

from fgvc_utils.answers.assignment import apportion

SHIFTED = np.array([0.55, 0.25, 0.1, 0.06, 0.04])


def classified(prior, images=4000, seed=0, signal=2.5):
    """Calibrated probabilities under equal classes, of images that follow `prior`; the labels."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(len(prior)), apportion(prior, images)))
    logits = random.normal(size=(images, len(prior)))
    logits[np.arange(images), labels] += signal
    scores = np.exp(signal * logits)
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32), labels


def biased(seed=0):
    """Held-out images of a long tail under a classifier that learnt its bias."""
    scores, labels = classified(SHIFTED, 600, seed, signal=1.5)
    scores = scores * SHIFTED.astype(np.float32)
    return scores / scores.sum(axis=1, keepdims=True), labels
