"""Agreement of reviewers against tables computed by hand and by scikit-learn, and disputes."""

import numpy as np
import pytest

from fgvc_utils.contest.journal import COPY_OF, SETTLES
from fgvc_utils.looking import reviewers
from fgvc_utils.looking.reviewers import agreement, cohens_kappa, disputes


def test_kappa_of_a_table_by_hand():
    """Agreement .7, by chance .5; the variance is (.10972 + .10188 - .01) / (.5² × 50)."""
    found = cohens_kappa(np.array([[20, 5], [10, 15]]))
    reach = 1.959964 * np.sqrt(0.2016 / 12.5)
    assert found == pytest.approx((0.4, 0.4 - reach, 0.4 + reach), abs=1e-6)
    narrower = cohens_kappa(np.array([[20, 5], [10, 15]]), confidence=0.5)
    assert found.low < narrower.low < 0.4 < narrower.high < found.high


def test_kappa_is_that_of_scikit_learn():
    from sklearn.metrics import cohen_kappa_score

    random = np.random.default_rng(0)
    one = random.integers(0, 4, 200)
    other = np.where(random.random(200) < 0.6, one, random.integers(0, 4, 200))
    counts = np.zeros((4, 4), int)
    np.add.at(counts, (one, other), 1)
    assert cohens_kappa(counts).value == pytest.approx(cohen_kappa_score(one, other))


def test_the_interval_holds_the_true_kappa_as_often_as_it_says():
    """Agreement beyond chance on 60 % of the items: over many draws about 95 of 100 hold it."""
    random, hits = np.random.default_rng(1), 0
    for _ in range(400):
        one = random.integers(0, 3, 150)
        other = np.where(random.random(150) < 0.6, one, random.integers(0, 3, 150))
        counts = np.zeros((3, 3), int)
        np.add.at(counts, (one, other), 1)
        found = cohens_kappa(counts)
        hits += found.low < 0.6 < found.high
    assert 0.92 < hits / 400 < 0.98


def test_kappa_at_its_ends():
    always = cohens_kappa(np.diag([5, 5]))
    # Ten of ten: Wilson's interval of the share begins at 10 / (10 + 1.96²).
    assert always == pytest.approx((1, (10 / (10 + 1.959964**2) - 0.5) / 0.5, 1))
    assert cohens_kappa(np.diag([500, 500])).low > 0.98
    assert cohens_kappa(np.array([[0, 5], [5, 0]])).value == -1
    for nothing_to_say in (np.diag([9, 0]), np.zeros((2, 2), int)):
        assert np.isnan(cohens_kappa(nothing_to_say)).all()


def decide(journal, who, text, first=0):
    """A letter an item from `first` on: k keep, d drop, x and y another class, a dot none."""
    for number, letter in enumerate(text, first):
        if letter != ".":
            decision = {"k": "keep", "d": "drop"}.get(letter, "relabel")
            label = letter if decision == "relabel" else ""
            journal.append(f"{number}", decision, label, reviewer=who)


def test_agreement_of_each_two(journal):
    decide(journal, "ann", "kkkddxx.")
    decide(journal, "bob", "kkdddxy.")
    decide(journal, "eve", ".......k")
    decide(journal, "dan", "k.......")
    table = agreement(journal)
    assert table.index.tolist() == ["ann, bob", "ann, dan", "bob, dan"]
    assert table.loc["ann, bob", "in common"] == 7
    assert table.loc["ann, bob", "alike"] == pytest.approx(5 / 7)
    # By chance 3·2 + 2·3 + 2·1 of 49.
    assert table.loc["ann, bob", "kappa"] == pytest.approx((5 / 7 - 14 / 49) / (1 - 14 / 49))
    assert np.isnan(table.loc["ann, dan", "kappa"])


def test_only_own_looks_count_for_agreement(journal):
    decide(journal, "ann", "kd")
    decide(journal, "bob", "kk")
    journal.append("1", "drop", shown=f"x{SETTLES}ann: drop, bob: keep", reviewer="dan")
    journal.append("5", "keep", shown=COPY_OF + "0", reviewer="ann")
    journal.append("5", "keep", shown=COPY_OF + "0", reviewer="bob")
    assert agreement(journal)["in common"].to_dict() == {"ann, bob": 2}


def test_disputes_say_what_counts_today(journal):
    assert disputes(journal).empty and agreement(journal).empty and not reviewers.shown(journal)
    decide(journal, "ann", "kkkk")
    decide(journal, "bob", "kdxd")
    decide(journal, "dan", ".k..")
    table = disputes(journal)
    assert table.index.tolist() == ["1", "2", "3"]
    assert table.columns.tolist() == ["ann", "bob", "dan", "counts today"]
    assert table.loc["1"].tolist() == ["keep", "drop", "keep", "keep"]
    assert table.loc["2"].tolist() == ["keep", "relabel → x", "", reviewers.NOBODY]
    in_force = journal.latest()["decision"].to_dict()
    assert in_force == {"0": "keep", "1": "keep"}
    journal.append("3", "drop", shown=f"x{SETTLES}ann: keep, bob: drop", reviewer="dan")
    assert disputes(journal).index.tolist() == ["1", "2"]
    assert len(reviewers.shown(journal)) == 4
