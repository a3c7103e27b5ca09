"""A view is one entry; rounds, decisions and the planted check take it from there alone."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from small_crossing import CROSS, SETTINGS, Small

from fgvc_utils.cleaning import views
from fgvc_utils.cleaning.judging import judge_labels
from fgvc_utils.cleaning.neighbours import nearest
from fgvc_utils.cleaning.params import CrossParams
from fgvc_utils.cleaning.planting import planted_check, planted_errors
from fgvc_utils.cleaning.verdicts import judged_and_none
from fgvc_utils.contest import tables
from fgvc_utils.contest.parameters import NotNegative, ParameterError
from fgvc_utils.jobs.results import read_features
from fgvc_utils.pipeline.checks.room import memory_needed


class Neighbours:
    """The labels of the nearest images.

    A view as a newcomer would add it: each of them has one vote.
    """

    def __init__(self):
        self.cases = []

    def __call__(self, case, columns):
        self.cases.append(case)
        vectors, _ = read_features(case.features[0], case.predictions.image_ids)
        near = case.labels[nearest(vectors, case.groups, 5)]
        votes = (near[:, :, None] == columns[:, None, :]).sum(axis=1)
        return ((1 + votes) / (5 + len(case.predictions.classes))).astype(np.float32)


class Weighed(CrossParams):
    """The record with the parameter of the new view, as `ViewParams` makes it of the entry."""

    nearest_weight: NotNegative = 0.0


@pytest.fixture
def neighbours(monkeypatch):
    view = views.View(
        weight="nearest_weight",
        parameters={"nearest_weight": (NotNegative, 0.0)},
        likelihood=Neighbours(),
        needs_features=True,
        held_bytes=10,
    )
    monkeypatch.setattr(views, "VIEWS", (*views.VIEWS, view))
    return view


def judged(small, record, **changes):
    """A judgement by posterior and its planted check."""
    table = tables.leave_out(small.table, small.is_noise, "01_noise", "noise")
    asked, none = judged_and_none(table)
    changes = {"rule": "posterior", "posterior_rounds": 1} | changes
    cross = small.cross(table, asked, record, **changes)
    judgement = judge_labels(cross, none, pd.Series("", table.index))
    errors = planted_errors(cross, judgement.learnt, none)
    return judgement, planted_check(errors, cross.cfg)


@pytest.fixture
def small(tmp_path):
    return Small(tmp_path)


def test_a_view_counts_in_every_round_and_in_the_planted_check(small, neighbours):
    judgement, _ = judged(small, Weighed, nearest_weight=0.5)
    *rounds, targets, value = neighbours.likelihood.cases
    assert len(rounds) == len(judgement.rounds) == 2
    given = pd.Series(small.table["given"].to_numpy(), small.table["image_id"])
    for number, case in enumerate(neighbours.likelihood.cases):
        names = np.array(case.predictions.classes, object)[case.labels]
        flipped = (names != given[case.predictions.image_ids]).mean()
        # The planted check judges planted labels alone, and the rounds the real ones.
        assert flipped == 0 if number < len(rounds) else 0.1 < flipped <= 0.2
    # Noise that 01 left out teaches in the rounds and in the targets, and is asked nothing after.
    assert [(case.known >= 0).sum() for case in rounds] == [24, 24]
    assert (targets.known >= 0).sum() == 24 and not (value.known >= 0).any()


def test_a_view_that_is_off_changes_nothing_and_is_not_asked(small, neighbours, monkeypatch):
    with_it = judged(small, Weighed)
    monkeypatch.setattr(views, "VIEWS", views.VIEWS[:-1])
    without = judged(small, CrossParams)
    assert not neighbours.likelihood.cases
    pd.testing.assert_frame_equal(with_it[0].verdict, without[0].verdict)
    assert with_it[1][1] == without[1][1]


def test_a_views_likelihood_counts_to_the_power_of_its_weight(small, neighbours):
    judgement, _ = judged(small, Weighed, nearest_weight=0.5)
    case = neighbours.likelihood.cases[0]
    alone = views.label_posterior(
        views.Case(**vars(case) | {"cfg": case.cfg.model_copy(update={"nearest_weight": 0.0})})
    )
    together = views.label_posterior(case)
    factor = neighbours.likelihood(case, alone.columns) ** 0.5
    by_hand = alone.values * factor
    by_hand /= by_hand.sum(axis=1, keepdims=True)
    free = case.known < 0
    np.testing.assert_allclose(together.values[free], by_hand[free], rtol=1e-4)


def test_what_the_notebook_shows_of_the_views(neighbours):
    cfg = SimpleNamespace(trust=0.2, sharpness=1.5, nearest_weight=0.5)
    assert views.described(cfg)["parameter"].tolist() == ["trust", "sharpness", "nearest_weight"]
    assert views.described(cfg).index[-1] == "The labels of the nearest images"
    cfg.nearest_weight = 0.0
    assert len(views.described(cfg)) == 2


def test_a_view_that_reads_features_needs_heads(neighbours):
    whole = {"fit": "full", "optimiser": "radam", "rounds": [{"optimiser": "radam"}]}
    Weighed(**SETTINGS | CROSS | whole, outputs="nowhere")
    with pytest.raises(ParameterError, match="nearest_weight reads features, which fit: full"):
        Weighed(**SETTINGS | CROSS | whole, outputs="nowhere", nearest_weight=0.5)


def test_the_check_counts_the_memory_of_a_view(neighbours, monkeypatch):
    monkeypatch.setattr("fgvc_utils.pipeline.checks.room.feature_width", lambda name: 100)
    steps, images = [], range(7)
    for weight in (0.0, 0.5):
        cfg = Weighed(**SETTINGS | CROSS, outputs="nowhere", nearest_weight=weight)
        steps.append(SimpleNamespace(stage="03_fine", name=f"weight {weight}", cfg=cfg))
    contest = SimpleNamespace(steps=steps, images=images, count=lambda split: 3)
    assert memory_needed(contest) == {"weight 0.0": 7 * 100 * 6, "weight 0.5": 7 * 100 * 10}


def test_parameters_of_the_views_are_those_of_the_record():
    for view in views.VIEWS:
        assert view.weight in view.parameters
        assert set(view.parameters) <= set(views.ViewParams.model_fields)
        assert set(view.parameters) <= set(CrossParams.model_fields)
