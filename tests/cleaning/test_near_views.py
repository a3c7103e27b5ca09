"""Neighbours and class means as views: known answers, and whose labels have a say."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_crossing import CROSS, SETTINGS, Small

from fgvc_utils.cleaning import near_views, views
from fgvc_utils.cleaning.crossing import recipes_apart
from fgvc_utils.cleaning.judging import judge_labels
from fgvc_utils.cleaning.params import CrossParams, Round
from fgvc_utils.cleaning.planting import planted_errors
from fgvc_utils.cleaning.search import Near
from fgvc_utils.cleaning.vectors import UnitVectors, stored_vectors
from fgvc_utils.cleaning.verdicts import judged_and_none
from fgvc_utils.contest import tables
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.jobs import predictions
from fgvc_utils.jobs.reduction import Reduced

CLASSES = 4
NEW = {
    "neighbours": {"neighbour_votes": 1.0},
    "prototypes": {"prototypes": 1.0},
}


@pytest.fixture
def small(tmp_path):
    return Small(tmp_path)


def case_of(small, **changes):
    """All images of four clusters and a cloud of noise; the heads say nothing of them."""
    table, count = small.table, len(small.table)
    names = ["ant", "bee", "cat", "dog", "none"]
    even = np.full((count, 5), 0.2, np.float16)
    evenly = Reduced(
        pd.Index(table["image_id"], dtype=object),
        names,
        np.tile(np.arange(5, dtype=np.int32), (count, 1)),
        even,
        np.zeros(count, np.int32),
        even[:, 0],
    )
    labels = table["given"].map(names.index).to_numpy()
    known = np.where(small.is_noise, CLASSES, -1)
    cfg = CrossParams(**SETTINGS | CROSS | {"outputs": "nowhere"} | changes)
    groups = table["image_id"].to_numpy()
    return views.Case(cfg, evenly, labels, known, groups, np.arange(count) % 3, [small.features])


def true_of(small):
    """The class that each image shows; that of noise is none."""
    names = ["ant", "bee", "cat", "dog", ""]
    return small.true.map(names.index).to_numpy()


@pytest.mark.parametrize("name", NEW)
def test_a_view_finds_the_class_of_mislabelled_images(small, name):
    case, true = case_of(small, **NEW[name]), true_of(small)
    columns = case.predictions.top_classes
    found = getattr(views, name)(case, columns)
    assert found.dtype == np.float32 and found.shape == columns.shape and (found >= 0).all()
    wrong = small.is_wrong.to_numpy()
    assert wrong.sum() == 20 and (found[wrong].argmax(axis=1) == true[wrong]).all()
    # Together with the label, which is right in five of six cases.
    posterior = views.label_posterior(replace(case, known=np.full(len(true), -1)))
    shown = true < CLASSES
    assert (posterior.best() == true)[shown].mean() > 0.95


def test_noise_votes_for_none(small):
    case = case_of(small, neighbour_votes=1.0)
    noise = small.is_noise.to_numpy()
    found = views.neighbours(case, case.predictions.top_classes)
    assert (found[noise].argmax(axis=1) == CLASSES).all()
    nothing_known = replace(case, known=np.full(len(noise), -1))
    assert (views.neighbours(nothing_known, case.predictions.top_classes)[:, -1] == 1).all()


@pytest.mark.parametrize("name", NEW)
def test_what_a_person_confirmed_counts_in_place_of_the_label(small, name):
    case, columns = case_of(small, **NEW[name]), np.tile(np.arange(5, dtype=np.int32), (144, 1))
    true, wrong = true_of(small), small.is_wrong.to_numpy()
    told = replace(case, known=np.where(wrong, true, case.known))
    right = replace(case, labels=np.where(wrong, true, case.labels))
    view = getattr(views, name)
    np.testing.assert_array_equal(view(told, columns), view(right, columns))
    assert (view(told, columns) != view(case, columns)).any()


def test_no_image_and_no_copy_of_it_votes_on_it(small):
    case = case_of(small, neighbour_votes=1.0)
    columns = case.predictions.top_classes
    groups = case.groups.copy()
    groups[:6] = "copies"
    case = replace(case, groups=groups)
    other = case.labels.copy()
    # The sizes of the classes, which count in the votes, stay as they are.
    other[:6] = np.roll(other[:6], 1)
    assert (other != case.labels).sum() == 2
    before = views.neighbours(case, columns)
    after = views.neighbours(replace(case, labels=other), columns)
    np.testing.assert_array_equal(before[:6], after[:6])
    assert (before[6:30] != after[6:30]).any()


def test_a_class_mean_is_of_other_folds(small):
    case = case_of(small, prototypes=1.0)
    stores = [predictions.Store(job.store) for job in case.features]
    vectors = stored_vectors(stores, case.predictions.image_ids, centred=True)
    rows, other = np.arange(len(case.labels)), case.labels.copy()
    mine = case.fold == 1
    other[mine] = 3 - other[mine]
    before = near_views.cosines_to_means(vectors, case.taught, case.fold, CLASSES)(rows)
    changed = replace(case, labels=other)
    after = near_views.cosines_to_means(vectors, changed.taught, case.fold, CLASSES)(rows)
    np.testing.assert_array_equal(before[mine], after[mine])
    assert (before[~mine] != after[~mine]).any()


def test_a_class_mean_hardly_heeds_strangers():
    random = np.random.default_rng(0)
    own, stranger = np.eye(8)[0], np.eye(8)[1]
    features = np.concatenate([np.tile(own, (60, 1)), np.tile(stranger - own, (40, 1))])
    features += random.normal(size=features.shape) * 0.05
    vectors = UnitVectors([features.astype(np.float32)])
    taught, all_of_them = np.zeros(100, int), np.ones(100, bool)
    mean = near_views.class_means(vectors, taught, all_of_them, 2)
    plain = vectors[:].mean(axis=0)
    assert mean[0] @ own > 0.99 > plain @ own / np.linalg.norm(plain)
    assert (mean[1] == 0).all()


def test_votes_fade_and_count_by_the_size_of_their_class():
    near = Near(
        np.array([[1, 2], [0, 2], [0, 1]]),
        np.array([[0.9, 0.7], [0.9, -np.inf], [-np.inf, -np.inf]], np.float32),
    )
    columns = np.tile(np.arange(3, dtype=np.int32), (3, 1))
    found = near_views.votes(near, np.array([0, 1, 2]), columns, 2)
    # Both classes have one image and so has "none", which makes each vote count as it is.
    expected = [[1, 2, 1 + np.exp(-1)], [2, 1, 1], [1, 1, 1]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    many = near_views.votes(near, np.array([0, 0, 1]), columns, 2)
    usual = 1.5
    np.testing.assert_allclose(many[0, 0], 1 + 2 * usual / (2 + usual), rtol=1e-5)


def test_the_temperature_is_that_of_the_labels():
    random = np.random.default_rng(0)
    scores = random.uniform(-1, 1, (4000, 6)).astype(np.float32)
    chances = np.exp(scores / 0.2)
    chances /= chances.sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) > random.random((4000, 1))).argmax(axis=1)
    assert near_views.fitted_temperature(scores, labels) == pytest.approx(0.2, rel=0.1)
    assert near_views.fitted_temperature(scores[:0], labels[:0]) == 1
    columns = np.tile(np.arange(7, dtype=np.int32), (4000, 1))
    found = near_views.calibrated(lambda rows: scores[rows], labels, columns, 6)
    np.testing.assert_allclose(found[:, :6].sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found[:, 6], 1 / 6, rtol=1e-5)


def test_one_search_serves_all_rounds(small, monkeypatch):
    calls = []
    real = near_views.search
    monkeypatch.setattr(near_views, "search", lambda *given: calls.append(1) or real(*given))
    case = case_of(small, neighbour_votes=1.0)
    for labels in (case.labels, case.labels[::-1]):
        views.neighbours(replace(case, labels=labels), case.predictions.top_classes)
    assert len(calls) == 1
    few = replace(case, cfg=case.cfg.model_copy(update={"neighbour_count": 500}))
    assert views.neighbours(few, case.predictions.top_classes).shape == (144, 5)


@pytest.mark.parametrize("changes", NEW.values())
def test_views_of_features_need_heads(changes):
    whole = {"fit": "full", "optimiser": "radam", "rounds": [{"optimiser": "radam"}]}
    with pytest.raises(ParameterError, match=f"{next(iter(changes))} reads features"):
        CrossParams(**SETTINGS | CROSS | whole | changes, outputs="nowhere")


def test_networks_apart_must_agree():
    names = ["ant", "bee", "cat", "none"]

    def network(*top):
        classes, shares = zip(*top, strict=True)
        return Reduced(
            pd.Index(["one"]),
            names,
            np.array([classes], np.int32),
            np.array([shares], np.float16),
            np.zeros(1, np.int32),
            np.zeros(1, np.float16),
        )

    columns = np.array([[2, 0, 1, 3]], np.int32)
    apart = [network((0, 0.5), (1, 0.25)), network((1, 0.5), (2, 0.5))]
    found = near_views.pooled(apart, columns)
    # The first leaves 0.25 to two classes, the second nothing to two.
    least = near_views.LEAST_PROBABILITY
    shares = [[0.125, 0.5], [0.5, least], [0.25, 0.5], [0.125, least]]
    np.testing.assert_allclose(found[0], np.sqrt(np.prod(shares, axis=1)), rtol=1e-3)
    np.testing.assert_allclose(near_views.pooled(apart[:1], columns)[0, 1], 0.5, rtol=1e-3)


def second_network(small, folder):
    """Another network's features of the same images: of them the first two clusters are one."""
    rows = np.load(small.features.store / "shard-00000" / "features.npy").astype(np.float32)
    true = true_of(small)
    rows[true == 1] += rows[true == 0].mean(axis=0) - rows[true == 1].mean(axis=0)
    ids = small.table["image_id"].tolist()
    job = small.features.model_copy(update={"backbone": "second", "folder": str(folder)})
    writer = predictions.ShardWriter(job.store, 0, ids)
    for kind in ("features", "mirror"):
        writer.write(kind, 0, rows.astype(np.float16))
    writer.close()
    predictions.finish_store(job.store, [], 1)
    return job


def test_each_network_alone_judges_in_the_rounds_and_in_the_planted_check(small, monkeypatch):
    table = tables.leave_out(small.table, small.is_noise, "01_noise", "noise")
    asked, none = judged_and_none(table)
    given = {"rule": "posterior", "posterior_rounds": 1, "further_backbones": ["second"]}
    cases, real = [], near_views.pooled
    monkeypatch.setattr(
        near_views, "pooled", lambda apart, columns: cases.append(apart) or real(apart, columns)
    )
    cross = small.cross(table, asked, **given, networks_apart=0.5)
    cross.features.append(second_network(small, small.outputs / "second"))
    judgement = judge_labels(cross, none, pd.Series("", table.index))
    planted_errors(cross, judgement.learnt, none)
    sizes = [[len(one) for one in apart] for apart in cases]
    assert sizes == [[144, 144]] * 3 + [[120, 120]]
    # Fits of both networks and of each, in three folds, and no more names than fits.
    folders = sorted(path.name for path in (small.outputs / "small" / "work" / "03_fine").iterdir())
    assert "posterior-0-fold-0-drawn" in folders and "posterior-0-fold-0-second" in folders
    drawn, second = cases[0]
    true = true_of(small)[drawn.image_ids.astype(int)]
    alike = true < 2
    sure = [one.top_probabilities[alike, 0].astype(float).mean() for one in (drawn, second)]
    assert sure[0] > sure[1] + 0.1
    verdict, image = judgement.verdict, judgement.verdict.index
    right = verdict["suggested"].to_numpy() == small.true[image].to_numpy()
    assert right.mean() > 0.9


def test_without_the_view_no_network_is_fitted_alone(small):
    table = tables.leave_out(small.table, small.is_noise, "01_noise", "noise")
    asked, none = judged_and_none(table)
    cross = small.cross(table, asked, rule="posterior", posterior_rounds=1)
    judge_labels(cross, none, pd.Series("", table.index))
    assert cross.apart == []
    by_rank = cross.cfg.model_copy(update={"rule": "rank", "networks_apart": 1.0})
    assert recipes_apart(by_rank, Round()) == {}


def test_of_many_classes_no_more_scores_are_fitted_to_than_of_few(monkeypatch):
    monkeypatch.setattr(near_views, "FITTED_SCORES", 2**12)
    monkeypatch.setattr(near_views, "CACHED", 2**8)
    random, asked = np.random.default_rng(0), []
    classes = 2**6
    labels = random.integers(0, classes, 2500)

    def scores(rows):
        asked.append(len(rows))
        return np.zeros((len(rows), classes), np.float32)

    columns = np.stack([labels[:2], [classes, classes]], axis=1)
    found = near_views.calibrated(scores, labels, columns, classes)
    assert asked[0] * classes <= near_views.FITTED_SCORES
    np.testing.assert_allclose(found, 1 / classes, rtol=1e-4)
