"""Whether balancing pays: on held-out images, by probabilities alone, and in a sentence."""

import numpy as np
import pandas as pd
import pytest
from shifted_scores import SHIFTED, biased

from fgvc_utils.answers.assignment import RULES as ENTRIES
from fgvc_utils.answers.assignment import Rule
from fgvc_utils.answers.gains import gain, gain_by_probabilities, gain_on_held_out, verdict
from fgvc_utils.answers.label_shift import draw, equal_prior, implicit_prior

RULES = {"cap": Rule("cap", slack=1.0), "sinkhorn": Rule("sinkhorn"), "exact": Rule("exact")}


def test_balancing_pays_where_the_classes_are_equal_and_costs_where_they_are_not():
    scores, labels = biased()
    targets = {"as assumed": equal_prior(5), "as it was": SHIFTED}
    found = gain_on_held_out(
        scores, labels, RULES, equal_prior(5), targets, resamples=12, seed=0
    ).set_index(["target", "rule"])
    assert len(found) == 6
    for rule in RULES:
        assert found.loc[("as assumed", rule), "low"] > 0
        assert found.loc[("as it was", rule), "high"] < 0
    row = found.iloc[0]
    assert row["top1"] - row["plain"] == pytest.approx(row["difference"])
    assert row["low"] <= row["difference"] <= row["high"]
    text = verdict(found.reset_index(), "cap")
    assert text.startswith("cap against plain, if the test set is as assumed: +")
    assert text.endswith("it pays only where the test set is as assumed.")


def test_classes_without_a_held_out_image_take_no_part():
    scores, labels = biased()
    padded = np.concatenate([np.full((len(scores), 1), 0.5, np.float32), scores], axis=1)
    both = [
        gain_on_held_out(
            s, y, RULES, equal_prior(n), {"equal": equal_prior(n)}, resamples=2, seed=3
        )
        for s, y, n in ((scores, labels, 5), (padded, labels + 1, 6))
    ]
    pd.testing.assert_frame_equal(*both)


def test_probabilities_alone_say_the_same():
    scores, labels = biased(1)
    source = implicit_prior(scores, labels)
    # The test set: equal classes, which the biased scores do not know of.
    rows = draw(labels, equal_prior(5), 600, np.random.default_rng(1))
    targets = {"equal": equal_prior(5), "as learnt": source}
    found = gain_by_probabilities(scores[rows], RULES, equal_prior(5), targets, source)
    found = found.set_index(["target", "rule"])
    plain = (scores[rows].argmax(axis=1) == labels[rows]).mean()
    assert found.loc[("equal", "sinkhorn"), "plain"] == pytest.approx(plain, abs=0.05)
    for rule in RULES:
        assert found.loc[("equal", rule), "low"] > 0
        assert found.loc[("as learnt", rule), "high"] < 0
        # No answer is likelier than the likeliest one.
        assert found.loc[("as learnt", rule), "difference"] < 0


def test_held_out_images_are_preferred_and_no_resamples_leave_it_out():
    scores, labels = biased()
    equal = equal_prior(5)
    shared = {"rules": {"cap": Rule("cap")}, "assumed": equal, "targets": {"equal": equal}}
    shared |= {"source": equal, "seed": 0}
    by_images = gain(scores, scores, labels, resamples=3, **shared)
    again = gain_on_held_out(
        scores, labels, shared["rules"], equal, shared["targets"], resamples=3, seed=0
    )
    pd.testing.assert_frame_equal(by_images, again)
    alone = gain(scores, scores[:0], labels[:0], resamples=3, **shared)
    assert alone["rule"].tolist() == ["cap"]
    assert alone["difference"].iloc[0] != by_images["difference"].iloc[0]
    assert gain(scores, scores, labels, resamples=0, **shared).empty


def test_a_verdict_tells_small_differences_from_none():
    def table(*gains):
        names = ["equal", "estimated"]
        return pd.DataFrame(
            [
                (t, "cap", 0.5, 0.5, g, g - 0.01, g + 0.01)
                for t, g in zip(names, gains, strict=True)
            ],
            columns=["target", "rule", "top1", "plain", "difference", "low", "high"],
        )

    ends = {
        (0.02, 0.03): "it pays in each case.",
        (0.0, 0.0): "these images show no difference.",
        (-0.02, 0.0): "it does not pay.",
        (0.02, 0.0): "in the other these images show no difference.",
        (0.02, -0.02): "it pays only where the test set is equal.",
    }
    for gains, end in ends.items():
        assert verdict(table(*gains), "cap").endswith(end)
    assert verdict(table(0.0, 0.0), "exact") == "Nothing is compared for the rule exact."


def test_a_rule_that_takes_long_is_not_compared_on_many_images(monkeypatch):
    scores, labels = biased()
    equal = equal_prior(5)
    slow = ENTRIES["exact"]._replace(most_compared=len(scores) - 1)
    monkeypatch.setitem(ENTRIES, "exact", slow)
    shared = {"rules": RULES, "assumed": equal, "targets": {"equal": equal}}
    found = gain_on_held_out(scores, labels, **shared, resamples=2, seed=0)
    assert found["rule"].tolist() == ["cap", "sinkhorn"]
    found = gain_by_probabilities(scores, **shared, source=equal)
    assert sorted(found["rule"]) == ["cap", "sinkhorn"]
