"""Crossed jobs: heads of many folds, each begun as that of all images."""

import numpy as np
import pandas as pd
import pytest
from support.small_crossing import CLASSES, WIDTH, Small

from fgvc_utils.cleaning.params import Round
from fgvc_utils.contest import tables
from fgvc_utils.jobs.done import why_not_done
from fgvc_utils.jobs.records import read_job
from fgvc_utils.jobs.rows import job_rows, read_rows
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training import crossed


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return Small(tmp_path_factory.mktemp("crossed"))


def judged(small, table, name, folds, in_one, weight_decay=0.05):
    """Dense out-of-fold probabilities of all images, by jobs of their own or in one."""
    asked = tables.kept(table)
    number = "head_folds" if in_one else "folds"
    cross = small.cross(
        table, asked, rule="posterior", weight_decay=weight_decay, **{number: folds}
    )
    cross.fold = pd.Series(np.arange(len(table)) % folds, table.index)
    cross.top = len(CLASSES)
    found = cross.judge(name, Round(), asked, crossed=True, by_head_folds=in_one)
    return found.of(table.loc[asked.to_numpy(), "image_id"]).dense()


def test_crossed_heads_predict_what_heads_of_their_own_do(small):
    apart = judged(small, small.table, "apart", 6, False)
    together = judged(small, small.table, "together", 6, True)
    # The one trains on both views of an image, the other on their mean.
    assert np.abs(apart - together).mean() < 0.02
    assert (apart.argmax(axis=1) == together.argmax(axis=1)).mean() > 0.95


def test_a_head_has_forgotten_the_images_of_its_fold(small):
    # Labels that the pictures do not explain: whoever has seen them knows them, nobody else can.
    table = small.table.copy()
    table["label"] = np.random.default_rng(0).choice(CLASSES, len(table))
    numbers = table["label"].map(CLASSES.index).to_numpy()
    own = np.arange(len(table)), numbers
    crossed = judged(small, table, "forgotten", 20, True, weight_decay=0.001)
    apart = judged(small, table, "never seen", 20, False, weight_decay=0.001)
    assert (apart.argmax(axis=1) == numbers).mean() < 0.4
    assert (crossed.argmax(axis=1) == numbers).mean() < 0.4
    assert crossed[own].mean() < apart[own].mean() + 0.05


def test_a_class_that_only_its_own_fold_teaches_is_not_predicted(small):
    table = small.table.copy()
    table.loc[:, "label"] = np.where(np.arange(len(table)) % 5 == 0, "ant", "bee")
    found = judged(small, table, "alone", 5, True)
    assert (found[::5, 0] == 0).all() and (found[1::5, 0] > 0).any()


def crossed_job(small, name):
    cross = small.cross(small.table, tables.kept(small.table), rule="posterior", head_folds=4)
    cross.judge(name, Round(), cross.asked, crossed=True, by_head_folds=True)
    job = read_job(small.outputs / "small" / "work" / "03_fine" / name / "job.json")
    return job, read_rows(job)


def test_other_folds_make_a_crossed_job_another_one(small, capsys):
    job, rows = crossed_job(small, "digest")
    assert rows["fold"].nunique() == 4 and not why_not_done(job)
    write_job(job, rows.assign(fold=rows["fold"].to_numpy()[::-1]))
    assert "is done anew" in capsys.readouterr().out and why_not_done(job)


@pytest.mark.parametrize(
    "changes",
    [{"optimiser": "sgd"}, {"label_smoothing": 0.1}, {"keep": ["logits"]}, {"crossed": False}],
)
def test_what_cannot_be_crossed_is_refused(small, changes):
    job, rows = crossed_job(small, "refused")
    with pytest.raises(ValueError, match="crossed"):
        write_job(job.model_copy(update=changes), rows)


def test_a_crossed_job_without_folds_is_refused(small):
    job, rows = crossed_job(small, "refused")
    with pytest.raises(ValueError, match="column fold"):
        write_job(job, rows.drop(columns="fold"))


def test_images_of_one_fold_cannot_be_crossed(small):
    cross = small.cross(small.table, tables.kept(small.table), rule="posterior", head_folds=4)
    cross.fold = cross.fold * 0
    with pytest.raises(ValueError, match="all images that teach are of one fold"):
        cross.judge("one", Round(), cross.asked, crossed=True, by_head_folds=True)


def test_folds_are_named_by_image(small):
    fold = pd.Series(0, small.table["image_id"].iloc[1:])
    with pytest.raises(ValueError, match=r"column fold has no value for image '000'"):
        job_rows(small.inventory, predict=True, fold=fold)


def test_a_head_learns_the_same_from_the_space_that_its_images_span(small, monkeypatch):
    few = small.table.copy()
    few["status"] = np.where(np.arange(len(few)) % 12, "drop", "keep")
    spans = []
    monkeypatch.setattr(
        crossed, "in_their_span", lambda head, features: spans.append(tuple(features.shape))
    )
    plain = judged(small, few, "plain", 5, True)
    monkeypatch.undo()
    spanned = judged(small, few, "spanned", 5, True)
    assert spans == [(12, WIDTH)]
    np.testing.assert_allclose(spanned, plain, atol=2e-3)
