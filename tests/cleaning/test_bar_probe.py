"""What a bar does to the next head: known answers where wrong or right labels are left out."""

import json

import numpy as np
import pandas as pd
import pytest
from small_crossing import Small, here

from fgvc_utils.cleaning import bar_probe as module
from fgvc_utils.cleaning.bar_probe import EVERYTHING, LIKELIEST, bar_probe, bars_tried
from fgvc_utils.cleaning.channel import Channel
from fgvc_utils.cleaning.posterior import NONE, SparsePosterior
from fgvc_utils.cleaning.rounds import Posteriors
from fgvc_utils.contest import tables
from fgvc_utils.jobs import predictions
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.reduction import Reduced

CLASSES = ["ant", "bee", "cat", "dog"]
EACH, WIDTH = 60, 24
SIZES = (EACH,) * len(CLASSES)
KEEP = pd.DataFrame({"keep_bar": [0.05, 0.5], "recall": [0.1, 0.9], "precision": [np.nan, 1.0]})
SET = {"keep_bar": 0.5, "relabel_bar": 0.7}


class Clusters(Small):
    """Overlapping clusters, a share of them under any other label."""

    def __init__(self, folder, wrong=0.0, sizes=SIZES, stores=1, seed=0):
        random = np.random.default_rng(seed)
        shown = np.repeat(np.arange(len(sizes)), sizes)
        centres = random.normal(size=(len(sizes), WIDTH))
        astray = (random.random(len(shown)) < wrong) * random.integers(1, len(sizes), len(shown))
        given = (shown + astray) % len(sizes)
        ids = [f"{number:03d}" for number in range(len(shown))]
        listed = pd.DataFrame({"image_id": ids, "path": ids, "split": "train"})
        self.classes = CLASSES[: len(sizes)]
        names = np.array(self.classes, object)
        self.table = tables.new_table(listed.assign(given=names[given]).astype(object))
        self.inventory = pd.DataFrame({"image_id": ids, "file": ids, "cached": ids})
        self.shown, self.given, self.outputs = shown, given, folder
        self.networks = [
            Job(
                name=f"drawn-{n}", folder=str(folder / f"drawn-{n}"), rows="", classes=[],
                fit="none", backbone=f"drawn-{n}",
            )
            for n in range(stores)
        ]  # fmt: skip
        self.features = self.networks[0]
        features = centres[shown] + random.normal(size=(len(shown), WIDTH)) * 1.2
        for job in self.networks:
            writer = predictions.ShardWriter(job.store, 0, ids)
            for kind in ("features", "mirror"):
                jitter = random.normal(size=features.shape) * 0.1
                writer.write(kind, 0, (features + jitter).astype(np.float16))
            writer.close()
            predictions.finish_store(job.store, [], 1)

    def crossing(self, table=None, **changes):
        """A crossing that notes which jobs it is asked for and which of them it carries out."""
        table = self.table if table is None else table
        asked = tables.kept(table)
        settings = {"rule": "posterior", "lbfgs_steps": 40, "weight_decay": 0.01} | changes
        made = self.cross(table, asked, **settings)
        made.features, made.jobs = self.networks, []
        made.run = lambda jobs, cfg, name: (made.jobs.append(jobs), here(jobs, cfg, name))
        return made

    def believing(self, best, sure):
        """Posteriors: `sure` for a class an image, what is left evenly for the other classes."""
        count = len(self.classes)
        columns = np.tile(np.arange(count, dtype=np.int32), (len(best), 1))
        rest = (1 - sure) / (count - 1)
        values = np.where(columns == best[:, None], sure[:, None], rest[:, None])
        return self.learnt(columns, values.astype(np.float32))

    def learnt(self, columns, values):
        ids = pd.Index(self.table["image_id"], dtype=object)
        nothing = np.zeros(len(ids), np.float16)
        found = Reduced(
            ids, [*self.classes, NONE], columns, values.astype(np.float16), nothing, nothing
        )
        channel = Channel(0.9, 1.0, len(self.classes))
        return Posteriors(SparsePosterior(columns, values), found, [], channel)

    def truth(self, sure=0.97):
        return self.believing(self.shown, np.full(len(self.shown), sure))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    return Clusters(tmp_path_factory.mktemp("noisy"), wrong=0.45)


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    return Clusters(tmp_path_factory.mktemp("right"))


@pytest.mark.parametrize("relabel", [True, False])
def test_leaving_wrong_labels_out_or_putting_them_right_makes_both_figures_rise(noisy, relabel):
    probe = bar_probe(noisy.crossing(relabel=relabel), noisy.truth(), SET)
    everything, now = probe.curve.loc[EVERYTHING], probe.curve.loc["0.5"]
    assert now["by_labels_low"] > 0 and now["by_posterior_low"] > 0
    assert "Both say that cleaning at this bar helps" in probe.text()
    outside = (noisy.given != noisy.shown).mean()
    share = now["relabelled" if relabel else "left_out"]
    assert share == pytest.approx(outside, abs=0.05)
    assert now["left_out" if relabel else "relabelled"] == 0
    assert everything["left_out"] == everything["relabelled"] == 0
    assert everything["by_labels_more"] == everything["by_posterior_more"] == 0
    # The truth is known here: the expected top-1 is that of the classes shown.
    assert 0.85 < now["by_posterior"] <= 0.97
    assert probe.curve.index[probe.curve["in_force"]].tolist() == ["0.5"]
    (shown,) = probe.tables(KEEP)
    assert shown.loc["0.5", "planted recall"] == 0.9 and np.isnan(
        shown.loc["0.7", "planted recall"]
    )
    more = f"{100 * now['by_labels_more']:+.1f}"
    assert shown.loc["0.5", "by_labels, points more"].startswith(more)
    assert shown.loc[EVERYTHING, "by_labels, points more"] == ""


def test_leaving_right_labels_out_makes_both_figures_fall(right):
    learnt = right.believing(right.shown, np.where(right.shown < 2, 0.8, 0.97))
    probe = bar_probe(right.crossing(), learnt, SET | {"keep_bar": 0.9, "relabel_bar": 0.95})
    curve = probe.curve
    assert curve.loc["0.9", "left_out"] == pytest.approx(0.5, abs=0.02)
    # Half of the images are under a class that no head knows any more.
    assert curve.loc["0.9", "by_labels_more"] == pytest.approx(-0.5, abs=0.05)
    assert curve.loc["0.9", "by_labels_high"] < 0 and curve.loc["0.9", "by_posterior_high"] < 0
    lower = curve.loc[["0.1", "0.3", "0.5", "0.7"]]
    assert (lower[["left_out", "by_labels_more", "by_posterior_more"]] == 0).all(axis=None)
    assert "Both say that cleaning at this bar harms" in probe.text()
    likeliest = bar_probe(right.crossing(), learnt, SET | {"keep_bar": 0.0})
    assert likeliest.curve.loc[LIKELIEST, "by_labels_more"] == 0
    assert "all that the heads may learn from stays as it is" in likeliest.text()


def test_what_the_rounds_believe_wrongly_is_contradicted_by_the_labels(right):
    believed = np.where(right.shown == 0, 1, right.shown)
    probe = bar_probe(right.crossing(), right.believing(believed, np.full(len(believed), 0.9)), SET)
    now = probe.curve.loc["0.5"]
    assert now["relabelled"] == pytest.approx(0.25, abs=0.02)
    assert now["by_labels_high"] < 0 < now["by_posterior_low"]
    assert "They contradict each other" in probe.text()


def test_all_bars_are_measured_on_the_same_images_and_nobody_learns_from_them(noisy):
    table = noisy.table.copy()
    table.loc[table.index[1::2], "group"] = table["group"].to_numpy()[::2]
    cross = noisy.crossing(table)
    fold = cross.fold.copy()
    probe = bar_probe(cross, noisy.truth(), SET)
    (jobs,) = cross.jobs
    measured = {tuple(rows.loc[rows["predict"], "image_id"]) for _, rows in jobs}
    assert len(measured) == 1 and len(next(iter(measured))) == probe.images
    held_out = list(measured.pop())
    # Copies count once, and lie in no head's material.
    assert not table.loc[held_out, "group"].duplicated().any()
    for _, rows in jobs:
        learnt_from = rows.loc[rows["fit"], "image_id"]
        assert not set(table.loc[learnt_from, "group"]) & set(table.loc[held_out, "group"])
    pd.testing.assert_series_equal(cross.fold, fold)
    # Wrong labels are among them in their share: the set is not made easier.
    wrong = pd.Series(noisy.given != noisy.shown, table.index)
    assert wrong[held_out].mean() == pytest.approx(wrong.mean(), abs=0.15)


def test_bars_at_which_the_same_stays_share_a_fit_and_what_is_done_is_not_done_again(tmp_path):
    right = Clusters(tmp_path)
    cross = right.crossing()
    probe = bar_probe(cross, right.truth(1.0), SET)
    assert [len(jobs) for jobs in cross.jobs] == [1]
    assert (probe.curve["by_labels"] == probe.curve["by_labels"].iloc[0]).all()
    done = [job for jobs in cross.jobs for job, _ in jobs]
    before = {job.name: (job.store.parent / "done.json").stat().st_mtime_ns for job in done}
    again = bar_probe(right.crossing(), right.truth(1.0), SET)
    pd.testing.assert_frame_equal(again.curve, probe.curve)
    assert before == {j.name: (j.store.parent / "done.json").stat().st_mtime_ns for j in done}


def test_at_most_seven_fits(noisy):
    random = np.random.default_rng(1)
    learnt = noisy.believing(noisy.shown, random.uniform(0.3, 1, len(noisy.shown)))
    for keep_bar, count in ((0.0, 7), (0.5, 6), (0.42, 7)):
        cross = noisy.crossing(lbfgs_steps=2)
        probe = bar_probe(cross, learnt, SET | {"keep_bar": keep_bar})
        assert len(cross.jobs[0]) <= count == len(probe.curve)
        assert probe.curve["in_force"].sum() == 1
    assert bars_tried(0.42) == [0.1, 0.3, 0.42, 0.5, 0.7, 0.9]
    assert bars_tried(0.0)[-1] == 0.0


def test_whole_networks_are_not_trained_for_it(right):
    cross = right.crossing(fit="full", optimiser="sgd")
    probe = bar_probe(cross, right.truth(), SET)
    assert not cross.jobs and probe.tables(KEEP) == [] and probe.figures() == {}
    assert "is not measured: with `fit: full`" in probe.text() and "\n" not in probe.text()


def test_the_held_out_fold_is_none_of_the_many_folds_of_heads(right):
    few = bar_probe(right.crossing(), right.truth(), SET)
    many = bar_probe(right.crossing(head_folds=40), right.truth(), SET)
    assert few.images == many.images == 80


def test_several_networks_are_read_side_by_side(tmp_path):
    two = Clusters(tmp_path, wrong=0.3, stores=2)
    cross = two.crossing(backbone="drawn-0", further_backbones=["drawn-1"], networks_apart=1.0)
    probe = bar_probe(cross, two.truth(), SET)
    assert all(len(job.stores) == 2 for job, _ in cross.jobs[0]) and probe.images == 80


def test_a_class_of_one_image_and_folds_without_a_class(tmp_path):
    few = Clusters(tmp_path, sizes=(1, 5, 2))
    probe = bar_probe(few.crossing(folds=5), few.truth(), SET)
    assert 1 <= probe.images <= 2 and not probe.curve["by_labels"].isna().any()
    assert probe.text() and len(probe.tables(KEEP)[0]) == len(probe.curve)


@pytest.mark.parametrize("sizes", [(1,), (1, 1), (2, 1)])
def test_hardly_any_images_are_told_and_nothing_fails(tmp_path, sizes):
    few = Clusters(tmp_path, sizes=(*sizes, 1))
    probe = bar_probe(few.crossing(folds=2), few.truth(), SET)
    assert isinstance(probe.text(), str)
    alone = few.table.assign(group=few.table["group"].iloc[0])
    probe = bar_probe(few.crossing(alone, folds=2), few.truth(), SET)
    assert "too few images" in probe.text()


def test_where_a_bar_leaves_too_little_it_says_so(right):
    learnt = right.believing(right.shown, np.full(len(right.shown), 0.6))
    probe = bar_probe(right.crossing(), learnt, SET | {"keep_bar": 0.9, "relabel_bar": 1.0})
    assert probe.curve.loc["0.9", "learns"] == 0
    assert np.isnan(probe.curve.loc["0.9", "by_labels"]) and probe.curve.loc["0.5", "learns"] > 0
    assert "Too little stays at the bar in force" in probe.text()
    figures = json.loads(json.dumps(probe.figures(), allow_nan=False))
    assert figures["bars"]["0.9"]["by_labels"] is None
    assert figures["bars"]["0.5"]["by_labels"] == round(probe.curve.loc["0.5", "by_labels"], 4)
    # By steps a fit also needs one batch.
    cross = right.crossing(optimiser="sgd", global_batch=1000)
    assert "too few images" in bar_probe(cross, learnt, SET).text() and not cross.jobs


def test_images_of_none_of_the_classes_count_for_no_head(right):
    nobody = np.zeros((len(right.shown), 1), np.float32)
    columns = np.full((len(right.shown), 2), len(right.classes), np.int32)
    columns[:, 1] = right.shown
    shows = np.where(np.arange(len(right.shown)) % 3 == 0, 0.0, 1.0)[:, None].astype(np.float32)
    learnt = right.learnt(columns, np.concatenate([1 - shows, shows], axis=1) + nobody)
    probe = bar_probe(right.crossing(), learnt, SET)
    assert probe.curve.loc["0.5", "left_out"] == pytest.approx(1 / 3, abs=0.03)
    assert probe.curve.loc["0.5", "by_posterior"] > 0.9
    none = right.learnt(columns[:, :1], nobody + 1)
    assert bar_probe(right.crossing(), none, SET).curve["by_posterior"].isna().all()


def test_what_a_person_confirmed_is_a_label_and_stays_at_every_bar(noisy):
    table = noisy.table.copy()
    wrong = noisy.given != noisy.shown
    names = np.array(noisy.classes, object)
    table.loc[wrong, "label"] = names[noisy.shown[wrong]]
    table.loc[wrong, ["stage", "by", "cause"]] = ["03_fine", "human", "relabelled"]
    learnt = noisy.truth()
    learnt.posterior = learnt.posterior.fixed(np.where(wrong, noisy.shown, -1))
    cross = noisy.crossing(table)
    probe = bar_probe(cross, learnt, SET)
    # With all wrong labels put right by hand no bar changes anything.
    assert len(cross.jobs[0]) == 1 and (probe.curve[["left_out", "relabelled"]] == 0).all(axis=None)
    assert probe.curve["by_labels"].min() > 0.9
    dropped = Posteriors(
        learnt.posterior.rows(slice(9, None)),
        learnt.predictions.of(learnt.predictions.image_ids[9:]), [], learnt.channel,
    )  # fmt: skip
    fewer = bar_probe(noisy.crossing(table), dropped, SET)
    assert fewer.curve.loc[EVERYTHING, "learns"] + fewer.images == len(table) - 9


@pytest.mark.parametrize(
    ("labels", "posteriors", "said"),
    [
        (1, 1, "Both say that cleaning at this bar helps"),
        (-1, -1, "Both say that cleaning at this bar harms"),
        (0, 0, "Neither tells"),
        (-1, 1, "contradict"),
        (1, -1, "contradict"),
        (0, 1, "By the posteriors alone cleaning at this bar helps"),
        (1, 0, "By the labels alone cleaning at this bar helps"),
        (-1, 0, "By the labels alone cleaning at this bar harms"),
        (0, -1, "By the posteriors alone cleaning at this bar harms"),
    ],
)
def test_what_two_intervals_say_together(labels, posteriors, said):
    ends = {-1: (-0.3, -0.1), 0: (-0.1, 0.1), 1: (0.1, 0.3)}
    row = pd.Series(
        dict(zip(("by_labels_low", "by_labels_high"), ends[labels], strict=True))
        | dict(zip(("by_posterior_low", "by_posterior_high"), ends[posteriors], strict=True))
    )
    assert said in module._conclusion(row)
