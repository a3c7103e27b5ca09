"""Scores, differences, halves and contributions against figures worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from fgvc_utils.answers import scoring
from fgvc_utils.answers.ensembling import Judged


def test_best_first_is_by_name_where_scores_are_equal():
    assert scoring.best_first({"b": 0.5, "c": 0.9, "a": 0.5}) == ["c", "a", "b"]


def test_scores_have_intervals_and_errors_a_correlation():
    hits = pd.DataFrame(
        {"a": [True, True, False, False], "b": [False, False, True, True], "c": [True] * 4}
    )
    table = scoring.score_table(hits)
    assert table.index.tolist() == ["c", "a", "b"] and (table["n"] == 4).all()
    assert table.loc["a", "top1"] == 0.5
    assert table.loc["a", "low"] == pytest.approx(0.15, abs=0.005)
    assert table.loc["a", "high"] == pytest.approx(0.85, abs=0.005)
    correlation = scoring.error_correlation(hits)
    assert correlation.loc["a", "b"] == -1 and correlation.loc["a", "a"] == 1
    assert np.isnan(correlation.loc["a", "c"])
    assert scoring.score_table(hits.iloc[:0])["top1"].isna().all()


def test_agreement_is_the_share_of_equal_answers():
    answers = pd.DataFrame({"a": [0, 1, 2, 2], "b": [0, 1, 1, 2], "c": [1, 0, 0, 0]})
    table = scoring.agreement(answers)
    assert table.loc["a", "b"] == table.loc["b", "a"] == 0.75
    assert table.loc["a", "c"] == 0 and (np.diag(table) == 1).all()


def test_a_contribution_is_read_from_what_was_left_out_and_from_no_name():
    columns = [("voter", "vote without b"), ("voter", "b"), ("member", "member b")]
    left_out = pd.DataFrame([[0, 1, 0], [0, 0, 0], [1, 1, 0]])
    judged = Judged(
        answers=pd.DataFrame({"vote": [0, 0, 1]}),
        own=pd.DataFrame({"vote": [0.5] * 3}),
        left_out=left_out.set_axis(pd.MultiIndex.from_tuples(columns), axis=1),
        labels=np.array([0, 0, 0], np.int32),
    )
    found = scoring.contributions(judged)
    assert found.index.tolist() == ["member b", "b", "vote without b"]
    assert found["kind"].tolist() == ["member", "voter", "voter"]
    assert found["saved"].tolist() == [0, 1, 0] and found["lost"].tolist() == [1, 0, 0]
    assert found["contribution"].tolist() == pytest.approx([-1 / 3, 1 / 3, 0])


def test_near_duplicates_are_in_one_half():
    groups = [f"g{n // 3}" for n in range(60)]
    half = scoring.halves(groups)
    assert half.sum() == 30 and (np.ptp(half.reshape(20, 3).astype(int), axis=1) == 0).all()


def test_halves_depend_on_the_ids_alone():
    ids = [f"n{n}" for n in range(101)]
    half = dict(zip(ids, scoring.halves(ids), strict=True))
    assert sum(half.values()) == 50
    assert dict(zip(ids[::-1], scoring.halves(ids[::-1]), strict=True)) == half


def test_a_choice_is_judged_where_it_was_not_made():
    hits = pd.DataFrame({"a": [True, True, False, False], "b": [False, False, True, True]})
    half = np.array([True, True, False, False])
    assert scoring.crossfitted_choice(hits, half) == 0, "each is best where it chose itself"
    assert scoring.crossfitted_choice(hits, np.array([True, False, True, False])) == 0.5
    assert np.isnan(scoring.crossfitted_choice(hits, np.ones(4, dtype=bool)))
