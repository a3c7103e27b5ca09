"""Combine what several models say: means, votes, and which members an ensemble has."""

from collections.abc import Mapping, Sequence

import numpy as np


def best_first(held_out_top1: Mapping[str, float]) -> list[str]:
    """Model names by their held-out top-1, best first; equal ones by name."""
    return sorted(held_out_top1, key=lambda name: (-held_out_top1[name], name))


def member_sets(ranked: Sequence[str], sizes: Sequence[int]) -> list[tuple[str, ...]]:
    """The best models of each size, as many as there are; equal sets stand once."""
    sets = [tuple(ranked[:size]) for size in sizes]
    return list(dict.fromkeys(members for members in sets if members))


def mean_of(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of softmax outputs, float32 (images, classes)."""
    total = np.zeros_like(probabilities[0], dtype=np.float32)
    for each in probabilities:
        total += each
    return total / len(probabilities)


def vote(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Votes of several results for the classes, ties broken by their mean probability.

    Each result gives one vote to its best class. The score is votes + mean probability, float32
    (images, classes), so its order is by votes first: a mean never reaches a whole vote unless all
    agree.
    """
    score = mean_of(probabilities)
    for each in probabilities:
        score[np.arange(len(each)), each.argmax(axis=1)] += 1
    return score


def top1(scores: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose best-scored class is their label."""
    return float((scores.argmax(axis=1) == labels).mean())
