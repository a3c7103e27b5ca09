"""Which class each image gets: against the greedy and the best, and where nothing binds."""

import itertools
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from fgvc_utils.answers import assignment, transport
from fgvc_utils.answers.assignment import RULES as ENTRIES
from fgvc_utils.answers.assignment import (
    Rule,
    apportion,
    assign,
    assign_capped,
    assign_exact,
    cap_for,
    caps_for,
    changed,
    class_caps,
    rule_of,
)
from fgvc_utils.answers.params import SubmitParams
from fgvc_utils.answers.transport import class_potentials, log_probabilities, top1

RULES = [
    Rule("cap", slack=1.0),
    Rule("sinkhorn"),
    Rule("sinkhorn", regularisation=0.1),
    Rule("sinkhorn", repair=True),
    Rule("exact"),
]
BALANCING = pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(map(str, rule)))


def greedy(scores, caps):
    """All pairs by falling score, then image, then class."""
    images, classes = scores.shape
    pairs = [(-scores[i, c], i, c) for i in range(images) for c in range(classes)]
    room, out = list(np.broadcast_to(caps, classes)), [-1] * images
    for _, image, label in sorted(pairs):
        if out[image] < 0 and room[label]:
            out[image] = label
            room[label] -= 1
    return out


def simulated(seed, images=60, classes=6, signal=3.0, bias=1.0):
    """Probabilities of a biased classifier on a test set of equal classes, and the truth."""
    random = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    logits = random.normal(size=(images, classes)) + random.normal(0, bias, classes)
    logits[np.arange(images), labels] += signal
    scores = np.exp(logits)
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(150))
def test_assign_capped_is_the_greedy_over_all_pairs(seed, monkeypatch):
    random = np.random.default_rng(seed)
    # Blocks of a row or two, so that their edges are met.
    monkeypatch.setattr(transport, "BLOCK", int(random.integers(1, 20)))
    images, classes = random.integers(1, 25), random.integers(1, 7)
    # Few distinct values, so that ties are common in half of the problems.
    scores = random.random((images, classes)).astype([np.float16, np.float32, np.float64][seed % 3])
    scores = np.round(scores, 1) if seed % 2 else scores
    cap = -(-images // classes) + int(random.integers(0, 2))
    if seed % 5 == 0:  # a cap for each class, some of them closed
        cap = random.multinomial(images + 2, random.dirichlet(np.ones(classes)))
    got = assign_capped(scores, cap)
    assert got.tolist() == greedy(scores, cap)
    assert (np.bincount(got, minlength=classes) <= cap).all()


def test_equal_rows_fill_the_classes_one_after_the_other():
    scores = np.tile([0.5, 0.3, 0.2], (6, 1))
    assert assign_capped(scores, 2).tolist() == [0, 0, 1, 1, 2, 2]
    assert assign_capped(np.zeros((4, 2)), np.array([1, 3])).tolist() == [0, 1, 1, 1]


def test_caps_that_do_not_cover_the_images_are_refused():
    with pytest.raises(ValueError, match="caps of 6 images in all do not cover the 7 images"):
        assign_capped(np.zeros((7, 3)), 2)


@pytest.mark.parametrize("seed", range(20))
def test_exact_assignment_is_the_best_of_all(seed):
    random = np.random.default_rng(seed)
    scores, counts = random.random((5, 3)), np.array([2, 2, 1])
    best = max(
        scores[np.arange(5), list(labels)].sum()
        for labels in itertools.product(range(3), repeat=5)
        if (np.bincount(labels, minlength=3) <= counts).all()
    )
    got = assign_exact(scores, counts)
    assert (np.bincount(got, minlength=3) <= counts).all()
    assert scores[np.arange(5), got].sum() == pytest.approx(best)


def test_exact_assignment_refuses_what_is_too_large_and_says_what_to_take(monkeypatch):
    monkeypatch.setattr(assignment, "EXACT_PAIRS", 99)
    with pytest.raises(ValueError, match="rule exact: 10 images × 10 slots.*99.*sinkhorn.*repair"):
        assign(np.eye(10), Rule("exact"), np.arange(1, 11))
    with pytest.raises(ValueError, match="counts of 3 in all do not cover the 4 images"):
        assign_exact(np.zeros((4, 2)), np.array([1, 2]))


@BALANCING
@pytest.mark.parametrize("seed", range(5))
def test_it_is_top_1_where_plain_meets_the_prior_already(rule, seed):
    scores, _ = simulated(seed)
    plain = scores.argmax(axis=1)
    prior = np.bincount(plain, minlength=6) / len(plain)
    assert (assign(scores, rule, prior) == plain).all()


@BALANCING
def test_it_is_something_else_where_the_prior_binds(rule):
    scores, _ = simulated(0)
    assert (assign(scores, rule, np.ones(6)) != scores.argmax(axis=1)).any()


def test_it_is_top_1_under_a_cap_larger_than_the_set_and_without_pull():
    scores, _ = simulated(1)
    plain = scores.argmax(axis=1)
    equal = np.ones(6)
    assert (assign_capped(scores, len(scores)) == plain).all()
    assert (assign(scores, Rule("cap"), equal, caps=len(scores)) == plain).all()
    assert (assign(scores, Rule("sinkhorn", pull=0.0), equal) == plain).all()
    assert (assign(scores, Rule("plain"), np.arange(6)) == plain).all()


@pytest.mark.parametrize("seed", range(10))
def test_sinkhorn_and_exact_agree_where_classes_are_well_apart(seed):
    logs = np.random.default_rng(seed).normal(size=(60, 6))
    labels = np.arange(60) % 6
    logs[np.arange(60), labels] += 14
    # Plain top-1 takes all images for the first class.
    scores = np.exp(logs + [25, 0, 0, 0, 0, 0])
    exact = assign(scores, Rule("exact"), np.ones(6))
    assert (exact == labels).all() and not scores.argmax(axis=1).any()
    for repair in (False, True):
        rule = Rule("sinkhorn", regularisation=0.05, repair=repair)
        assert (assign(scores, rule, np.ones(6)) == exact).all()


@pytest.mark.parametrize("prior", [np.ones(6), np.arange(1, 7), np.array([0, 1, 1, 2, 0, 2])])
def test_the_plan_of_sinkhorn_has_the_prior_as_its_class_shares(prior, monkeypatch):
    monkeypatch.setattr(transport, "BLOCK", 40)
    logs = log_probabilities(simulated(2)[0])
    for regularisation in (1.0, 0.3):
        found = class_potentials(logs, prior, regularisation, tolerance=1e-5)
        z = (logs + found.values) / regularisation
        plan = np.exp(z - z.max(axis=1, keepdims=True))
        plan /= plan.sum(axis=1, keepdims=True)
        assert np.abs(plan.mean(axis=0) - prior / prior.sum()).sum() < 2e-5
        assert found.error < 1e-5 and 1 < found.sweeps < 600


def test_a_weaker_pull_lies_between_plain_and_the_prior():
    logs = log_probabilities(simulated(3, bias=2.0)[0])

    def distance(pull):
        found = class_potentials(logs, np.ones(6), pull=pull).values
        plan = np.exp(logs + found)
        plan /= plan.sum(axis=1, keepdims=True)
        return np.abs(plan.mean(axis=0) - 1 / 6).sum()

    assert distance(1.0) < distance(0.6) < distance(0.2) < distance(0.0)


def test_classes_without_a_share_get_no_image_and_repair_meets_the_counts():
    scores, _ = simulated(4)
    prior = np.array([0, 1, 1, 1, 1, 2])
    for rule in RULES:
        assert 0 not in assign(scores, rule, prior)
    for rule in (Rule("sinkhorn", repair=True), Rule("exact")):
        got = np.bincount(assign(scores, rule, prior), minlength=6)
        assert got.tolist() == [0, 10, 10, 10, 10, 20]


def test_images_that_nobody_could_read_go_where_room_is_left():
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.0, 0.0], [0.0, 0.0]], np.float32)
    for rule in (Rule("cap", slack=1.0), Rule("sinkhorn", repair=True), Rule("exact")):
        assert assign(scores, rule, np.ones(2)).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("value", [-1.0, np.inf, np.nan])
def test_scores_that_are_no_scores_are_refused(value):
    with pytest.raises(ValueError, match="scores reach from"):
        assign(np.array([[0.5, value]]), Rule("plain"), np.ones(2))


def test_log_probabilities_of_votes():
    votes = np.array([[2.5, 0.5], [0.0, 0.0], [1.0, 0.0]])
    logs = log_probabilities(votes)
    assert logs.dtype == np.float32 and np.isfinite(logs).all()
    assert np.exp(logs) == pytest.approx(np.array([[5 / 6, 1 / 6], [0.5, 0.5], [1, 0]]))


def test_apportion_keeps_the_sum_and_the_largest_remainders():
    assert apportion(np.array([1, 1, 1]), 9).tolist() == [3, 3, 3]
    assert apportion(np.array([1, 1, 1]), 10).tolist() == [4, 3, 3]
    assert apportion(np.array([0.5, 0.3, 0.2]), 7).tolist() == [4, 2, 1]
    assert apportion(np.array([0.0, 1.0]), 3).tolist() == [0, 3]
    assert apportion(np.full(4999, 1 / 4999), 100_000).sum() == 100_000


def test_caps_are_the_slack_times_the_share():
    assert set(class_caps(np.full(5000, 1 / 5000), 100_000, 1.25)) == {25}
    assert class_caps(np.array([3, 1, 0]), 10, 1.0).tolist() == [8, 3, 0]


def test_cap_for():
    assert cap_for(20, 100_000, 5000, 1.25) == 25
    assert cap_for(0, 100, 8, 1.0) == 13
    with pytest.raises(ValueError, match="a cap of 2 on 3 classes covers 6 of 7 test images"):
        cap_for(2, 7, 3, 1.0)


def test_caps_for_a_rule_are_one_number_one_a_class_or_none():
    equal, cap = np.full(4, 1 / 4), Rule("cap", slack=1.25)
    assert caps_for(cap, equal, 16, classes=4, known_count=4) == 5
    # The classes left must cover what the emptied ones do not take.
    assert caps_for(cap, equal, 24, classes=6, known_count=4) == 6
    assert caps_for(cap, equal, 24, classes=6) == 6
    by_class = caps_for(cap, np.array([3, 1, 0]), 8, classes=4, by_prior=True)
    assert by_class.tolist() == [8, 3, 0]
    assert caps_for(Rule("sinkhorn"), equal, 24, classes=6, known_count=1) == 0
    with pytest.raises(ValueError, match="a cap of 2 on 4 classes covers 8 of 16"):
        caps_for(cap, equal, 16, classes=4, known_count=1)


def test_entries_name_settings_that_are_fields_and_parameters():
    assert get_args(SubmitParams.model_fields["rule"].annotation) == tuple(ENTRIES)
    for name, entry in ENTRIES.items():
        assert set(entry.settings) <= set(Rule._fields) & set(SubmitParams.model_fields)
        cfg = SimpleNamespace(rule=name, **dict.fromkeys(entry.settings, 0.5))
        assert (
            rule_of(cfg) == rule_of(cfg, name) == Rule(name, **dict.fromkeys(entry.settings, 0.5))
        )


@BALANCING
def test_a_rule_uses_the_settings_that_its_entry_names_and_no_other(rule):
    scores, _ = simulated(0)
    used = ENTRIES[rule.name].settings
    others = {"slack": 3.0, "regularisation": 0.3, "pull": 0.2, "repair": True}
    ignored = rule._replace(**{n: v for n, v in others.items() if n not in used})
    assert (assign(scores, ignored, np.ones(6)) == assign(scores, rule, np.ones(6))).all()


def test_only_a_rule_that_does_not_balance_ignores_the_prior():
    scores, _ = simulated(0)
    for name, entry in ENTRIES.items():
        one, other = (
            assign(scores, Rule(name), np.array(prior)) for prior in ([1] * 6, [9, 1, 1, 1, 1, 1])
        )
        assert (one != other).any() == entry.balances


def test_top_1_takes_the_first_of_equal_classes(monkeypatch):
    monkeypatch.setattr(transport, "BLOCK", 3)
    scores = np.array([[1, 1, 0], [0, 2, 2], [0, 0, 1]], np.float32)
    assert top1(scores).tolist() == [0, 1, 2]
    assert top1(scores, np.array([0, 0, 0.5])).tolist() == [0, 2, 2]


def test_changed_images_come_by_the_score_they_lost():
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
    rows = changed(scores, np.array([0, 0, 1, 0]), np.array([1, 0, 0, 1]))
    assert rows.tolist() == [0, 2, 3]
