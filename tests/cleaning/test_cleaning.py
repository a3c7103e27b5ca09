"""The cleaning loops against known answers."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy

from fgvc_utils.cleaning import audit, neighbours, rules, search
from fgvc_utils.contest import tables


def test_nearest_is_brute_force_without_copies(monkeypatch):
    monkeypatch.setattr(search, "BLOCK", 7)
    random = np.random.default_rng(0)
    features, groups = random.normal(size=(40, 6)), random.integers(0, 25, 40).astype(str)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    likeness = unit @ unit.T
    likeness[groups[:, None] == groups[None, :]] = -np.inf
    assert (neighbours.nearest(features, groups, 5) == np.argsort(-likeness)[:, :5]).all()
    with pytest.raises(ValueError, match="neighbours 40 needs more than 40 images"):
        neighbours.nearest(features, groups, 40)


def closed_circles(labels, size=5):
    """Circles of `size` images, each image's neighbours the others of its own circle."""
    rows = np.arange(len(labels)).reshape(-1, size)
    near = [np.delete(circle, place) for circle in rows for place in range(size)]
    return np.array(near), np.array(list(labels))


def test_label_disorder_is_0_where_all_agree_and_1_where_no_two_do():
    got = neighbours.label_disorder(*closed_circles("aaaaabcdef"))
    np.testing.assert_allclose(got, [0] * 5 + [1] * 5, atol=1e-12)


def test_label_disorder_is_the_mean_entropy_of_the_surroundings():
    near, labels = closed_circles("aaabcabbbb")
    near[0] = [5, 6, 7, 1]
    counts = [np.unique(labels[row], return_counts=True)[1] for row in near]
    own = np.array([entropy(count / 4) / np.log(4) for count in counts])
    expected = [own[row].mean() for row in near]
    np.testing.assert_allclose(neighbours.label_disorder(near, labels), expected, atol=1e-12)


def test_label_agreement():
    labels = np.array(list("aab"))
    near = np.array([[1, 2], [0, 2], [0, 1]])
    assert neighbours.label_agreement(near, labels).tolist() == [0.5, 0.5, 0]


def test_propose_picks_takes_the_ends_of_the_bootstrap_set():
    disorder = pd.Series(np.linspace(0, 1, 20), index=[f"i{n:02d}" for n in range(20)])
    bootstrap = pd.Series([n % 2 == 0 for n in range(20)], index=disorder.index)
    picks = rules.propose_picks(disorder, bootstrap, 0.2, 0.5)
    assert picks.index[picks == "noise"].tolist() == ["i16", "i18"]
    assert picks.index[picks == "normal"].tolist() == ["i00", "i02", "i04", "i06", "i08"]
    with pytest.raises(ValueError, match="add up to more than 1"):
        rules.propose_picks(disorder, bootstrap, 0.6, 0.5)
    with pytest.raises(ValueError, match="only 0 images are not three-channel"):
        rules.propose_picks(disorder, bootstrap & False, 0.2, 0.5)


def test_noise_that_nobody_taught_must_come_under_any_label():
    flagged = pd.Series([True] * 4 + [False] * 6)
    agreement = pd.Series([0.0, 0.1, 0.0, 0.7, 0.6, 0.5, 0.6, 0.7, 0.5, 0.7])
    held = rules.confirm_noise(flagged, agreement, 0.5)
    assert held.tolist() == [True] * 3 + [False] * 7
    # Flagged images that agree with their neighbours half as well as the others are no noise.
    assert not rules.confirm_noise(flagged, agreement + 0.5 * flagged, 0.5).any()
    assert not rules.confirm_noise(flagged & False, agreement, 0.5).any()
    assert not rules.confirm_noise(flagged | True, agreement, 0.5).any()


def test_feed_back_keeps_picks_and_their_proportion():
    picks = pd.Series(["noise", "normal", "normal", "", "", "", "", "", ""])
    probability = pd.Series([0.0, 1.0, 1.0, 0.95, 0.9, 0.01, 0.03, 0.02, 0.5])
    grown = rules.feed_back(picks, probability, 0.9, 0.1)
    assert grown.tolist() == ["noise", "normal", "normal", "noise", "", "normal", "", "normal", ""]
    assert rules.feed_back(grown, probability * 0 + 0.5, 0.9, 0.1).equals(grown)


def test_audit_bounds():
    assert audit.audit_bound(0, 299) == pytest.approx(1 - 0.05 ** (1 / 299))
    assert audit.audit_bound(0, 299) < 0.01 < audit.audit_bound(0, 298)
    assert audit.audit_bound(0, 0) == 1
    low, high = audit.audit_interval(0, 299)
    assert low == 0 and high == pytest.approx(1 - 0.025 ** (1 / 299))
    low, high = audit.audit_interval(5, 100)
    assert low < 0.05 < high and audit.audit_bound(5, 100) < high


def test_cut_folds_spreads_classes_and_keeps_groups_together():
    random = np.random.default_rng(1)
    labels = pd.Series(np.repeat(list("abcd"), [50, 23, 11, 5]))
    groups = pd.Series([f"g{n}" for n in range(len(labels))])
    alone = rules.cut_folds(labels, groups, 5, seed=3)
    for _, folds in alone.groupby(labels):
        counts = np.bincount(folds, minlength=5)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(alone)
    assert len(sizes) == 5 and sizes.max() - sizes.min() <= 1
    assert alone.equals(rules.cut_folds(labels, groups, 5, seed=3))
    assert not alone.equals(rules.cut_folds(labels, groups, 5, seed=4))
    copied = pd.Series([f"g{n}" for n in random.integers(0, 60, len(labels))])
    folds = rules.cut_folds(labels, copied, 5, seed=3)
    assert (folds.groupby(copied).nunique() == 1).all() and set(folds) == set(range(5))


def test_the_order_of_the_images_and_the_names_of_groups_change_no_fold():
    random = np.random.default_rng(2)
    labels = pd.Series(random.choice(list("abc"), 80))
    groups = pd.Series(random.integers(0, 50, 80))
    folds = rules.cut_folds(labels, groups, 5, seed=3)
    order = random.permutation(80)
    again = rules.cut_folds(labels[order], 1000 - groups[order], 5, seed=3)
    assert again.sort_index().equals(folds)


def small_table():
    ids = ["a", "b", "c", "d", "t"]
    split = ["train"] * 4 + ["test"]
    given = ["x", "x", "y", "y", ""]
    listing = pd.DataFrame({"image_id": ids, "path": ids, "split": split, "given": given})
    table = tables.new_table(listing)
    return tables.leave_out(table, table["image_id"] == "a", "02_coarse", "label", "rank 9")


def decisions(*rows):
    frame = pd.DataFrame(rows, columns=["image_id", "decision", "label"])
    return frame.set_index("image_id")


def test_a_person_beats_a_rule_and_test_images_are_never_touched():
    before = small_table()
    rows = [("a", "keep", ""), ("b", "drop", ""), ("c", "relabel", "x"), ("t", "drop", "")]
    after = rules.apply_decisions(before, decisions(*rows), "03_fine").set_index("image_id")
    assert after.loc["a", ["status", "by", "cause"]].tolist() == ["keep", "human", "confirmed"]
    assert after.loc["b", ["status", "stage", "by"]].tolist() == ["drop", "03_fine", "human"]
    assert after.loc["c", ["label", "given", "status"]].tolist() == ["x", "y", "keep"]
    old = before.set_index("image_id")
    assert after.loc[["d", "t"]].equals(old.loc[["d", "t"]])
    tables.check_table(after.reset_index(), "after")


def test_what_followed_from_a_copy_beats_rules_but_no_earlier_person():
    made = decisions(("b", "drop", ""), ("c", "keep", "")).assign(shown=["↳ copy of a", "p 0.5"])
    after = rules.apply_decisions(small_table(), made, "02_coarse").set_index("image_id")
    assert after.loc["b", ["status", "by", "cause"]].tolist() == ["drop", "human", "dropped"]
    assert after.loc["b", "reason"] == "human: drop, as its copy a"
    later = decisions(("b", "keep", ""), ("c", "drop", "")).assign(shown="↳ copy of a")
    again = rules.apply_decisions(after.reset_index(), later, "02_coarse")
    assert again["status"].tolist()[1:3] == ["keep", "drop"]
    other = rules.apply_decisions(after.reset_index(), later, "03_fine")
    assert other["status"].tolist()[1:3] == ["drop", "keep"]


def test_decisions_outlive_images_and_classes_and_the_others_count(capsys):
    before = small_table()
    rows = [("z", "keep", ""), ("b", "drop", ""), ("a", "relabel", "rose"), ("z2", "relabel", "x")]
    made = decisions(*rows)
    after = rules.apply_decisions(before, made, "03_fine").set_index("image_id")
    assert after.loc["b", ["status", "by"]].tolist() == ["drop", "human"]
    assert after.drop("b").equals(before.set_index("image_id").drop("b"))
    (unused,) = rules.told_unused(before, made)
    assert unused.index.tolist() == ["z", "a", "z2"] and unused["why"].ne("").all()
    assert "3 of 4 decisions change nothing; they stay in the journal" in capsys.readouterr().out
    assert rules.told_unused(before, made.loc[["b"]]) == []
    assert rules.of_the_table(before, ["z", "b", "a"]) == ["b", "a"]
    nobody = made.iloc[:0]
    assert rules.apply_decisions(before, nobody, "03_fine").equals(before)


def test_class_agreement():
    labels = np.array(list("aaabbbc"))
    near = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 4, 1], [0, 1, 2], [1, 0, 3]])
    near = np.vstack([near, [0, 1, 2]])
    found = neighbours.class_agreement(near, labels, np.full(7, True))
    assert found["images"].to_dict() == {"a": 3, "b": 3, "c": 1}
    assert found.loc["a", "agreement"] == 1
    assert found.loc["b", "agreement"] == pytest.approx(1 / 6)
    assert np.isnan(found.loc["c", "agreement"])


def test_keeping_a_label_undoes_a_relabel():
    listed = pd.DataFrame({"image_id": ["a", "b"], "path": ["a", "b"], "split": "train"})
    table = tables.new_table(listed.assign(given=["x", "y"]).astype(object))
    table.loc["a", ["label", "stage", "by", "cause"]] = ["y", "03_fine", "rule", "relabelled"]
    made = pd.DataFrame({"decision": ["keep"], "label": [""]}, index=["a"])
    kept = rules.apply_decisions(table, made, "03_fine")
    assert kept.loc["a", ["label", "by", "cause"]].tolist() == ["x", "human", "confirmed"]


def test_the_summary_of_an_audit():
    assert "unknown" in audit.audit_summary({})
    line = audit.audit_summary({"a": "normal", "b": "noise", **dict.fromkeys("cdefgh", "normal")})
    low, high = audit.audit_interval(1, 8)
    assert line.startswith(f"8 images, 1 noise; residual noise {low:.1%} to {high:.1%}")
    assert f"{audit.audit_bound(1, 8):.1%}" in line
    assert audit.count_decisions({"a": "noise", "b": "normal", "c": "noise"}) == (
        "2 noise, 1 normal"
    )


def test_decisions_beside_what_the_rule_had_decided():
    made = [
        ("drop", "keep", "", "drop: rose  p 0.40 → lily 0.50, fern 0.30"),
        ("drop", "relabel", "lily", "drop: rose  p 0.40 → lily 0.50, fern 0.30"),
        ("drop", "relabel", "fern", "drop: rose  p 0.40 → lily 0.50, fern 0.30"),
        ("relabel", "relabel", "lily", "relabel: rose  p 0.90 → lily 0.90"),
        ("relabel", "drop", "", "relabel: rose  p 0.90 → lily 0.90"),
        ("", "keep", "", "an older journal"),
    ]
    decided = pd.DataFrame(made, columns=["rule", "decision", "label", "shown"])
    table = rules.decisions_against_rule(decided)
    assert table.loc["drop"].to_dict() == {
        "another class": 1, "drop": 0, "keep": 1, "relabel": 1,
    }  # fmt: skip
    assert table.loc["relabel"].to_dict() == {
        "another class": 0, "drop": 1, "keep": 0, "relabel": 1,
    }  # fmt: skip
    assert rules.decisions_against_rule(decided.head(0)).empty
    assert rules.decisions_against_rule(decided.tail(1)).empty
