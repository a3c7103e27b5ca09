"""Means, votes and members against answers worked out by hand."""

import numpy as np

from fgvc_utils.ensembling import best_first, mean_of, member_sets, top1, vote


def test_best_first_and_member_sets():
    ranked = best_first({"b": 0.5, "c": 0.9, "a": 0.5})
    assert ranked == ["c", "a", "b"]
    assert member_sets(ranked, [15, 9, 2, 2, 1]) == [("c", "a", "b"), ("c", "a"), ("c",)]
    assert member_sets([], [3]) == []


def test_votes_come_before_the_mean_and_the_mean_breaks_ties():
    one = np.float32([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0]])
    two = np.float32([[0.4, 0.6, 0.0], [0.0, 0.3, 0.7]])
    three = np.float32([[0.4, 0.6, 0.0], [0.1, 0.8, 0.1]])
    mean = mean_of([one, two, three])
    np.testing.assert_allclose(mean[0], [1.7 / 3, 1.3 / 3, 0], rtol=1e-6)
    score = vote([one, two, three])
    np.testing.assert_allclose(score[0], [1 + 1.7 / 3, 2 + 1.3 / 3, 0], rtol=1e-6)
    assert mean[0].argmax() == 0 and score[0].argmax() == 1
    assert score[1].argmax() == 1, "one vote each: the mean decides"
    assert top1(score, np.array([1, 0])) == 0.5
