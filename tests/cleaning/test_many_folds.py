"""Rounds by posterior whose heads are crossed over many folds in one job."""

import numpy as np
import pandas as pd
import pytest
from support.small_crossing import Small

from fgvc_utils.cleaning.judging import judge_labels
from fgvc_utils.cleaning.planting import planted_check, planted_errors
from fgvc_utils.cleaning.rounds import posterior_rounds
from fgvc_utils.cleaning.verdicts import judged_and_none
from fgvc_utils.contest import tables


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return Small(tmp_path_factory.mktemp("folds"))


@pytest.fixture(scope="module")
def after_noise(small):
    return tables.leave_out(small.table, small.is_noise, "01_noise", "noise")


def posterior_of(small, table, **changes):
    """The posterior of each image's own label after the rounds, by image_id."""
    asked, none = judged_and_none(table)
    cross = small.cross(table, asked, rule="posterior", **changes)
    nobody = pd.Series("", index=asked.index)
    learnt = posterior_rounds(cross, tables.kept(table), none, nobody)
    rows = table.loc[asked, "image_id"]
    numbers = table.loc[asked, "given"].map(learnt.predictions.classes.index).to_numpy()
    return pd.Series(learnt.of(rows).of(numbers), rows.to_numpy()), cross


def test_many_folds_find_the_wrong_labels_and_the_planted_ones(small, after_noise):
    asked, none = judged_and_none(after_noise)
    cross = small.cross(after_noise, asked, rule="posterior", head_folds=12)
    judgement = judge_labels(cross, none, pd.Series("", after_noise.index))
    wrong = small.is_wrong[judgement.verdict.index]
    flagged = judgement.verdict["verdict"] != "keep"
    assert flagged[wrong].mean() > 0.9 and flagged[~wrong].mean() < 0.05
    _, figures = planted_check(planted_errors(cross, judgement.learnt, none), cross.cfg)
    assert figures["recall"] > 0.8
    work = small.outputs / "small" / "work" / "03_fine"
    jobs = sorted(path.name for path in work.iterdir() if not path.name.startswith("targets"))
    assert jobs == ["planted", "posterior-0", "posterior-1", "posterior-2"]


def test_with_more_folds_the_seed_matters_less(small, after_noise):
    apart = {}
    for number in (2, 40):
        of = [
            posterior_of(small, after_noise, head_folds=number, posterior_rounds=1, seed=seed)[0]
            for seed in (0, 1)
        ]
        apart[number] = np.abs(of[0] - of[1]).mean()
    assert apart[40] < apart[2] / 2


def test_the_order_of_the_images_changes_no_posterior(small, after_noise):
    turned = after_noise.iloc[::-1]
    own, cross = posterior_of(small, after_noise, head_folds=12, posterior_rounds=1)
    other, again = posterior_of(small, turned, head_folds=12, posterior_rounds=1)
    assert cross.fold[turned.index].equals(again.fold)
    np.testing.assert_allclose(own, other[own.index], atol=5e-3)


@pytest.mark.parametrize("changes", [{"optimiser": "sgd"}, {"head_folds": 0}, {"head_folds": 1}])
def test_elsewhere_the_folds_have_fits_of_their_own(small, after_noise, changes):
    settings = {"head_folds": 12, "folds": 3, "posterior_rounds": 0} | changes
    asked, none = judged_and_none(after_noise)
    cross = small.cross(after_noise, asked, rule="posterior", epochs=1, **settings)
    assert not cross.cfg.in_one_job
    posterior_rounds(cross, tables.kept(after_noise), none, pd.Series("", index=asked.index))
    assert cross.fold.nunique() == 3
