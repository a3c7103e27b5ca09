"""Cross-training of 02 and 03: networks that judge images they never saw, round after round.

A round is a few jobs in one launch. What the rule by rank or by posterior makes of the predictions
is what the next round learns from.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from fgvc_utils.cleaning.channel import Channel
from fgvc_utils.cleaning.fits import cleaning_job
from fgvc_utils.cleaning.ledger import ledger_row
from fgvc_utils.cleaning.params import CrossParams, Round
from fgvc_utils.cleaning.views import Case
from fgvc_utils.contest.config import networks_of
from fgvc_utils.contest.places import as_folder_name
from fgvc_utils.contest.tables import classes_of
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.reduction import TOP, Reduced, read_reduced
from fgvc_utils.jobs.rows import Rows, job_rows
from fgvc_utils.jobs.running import run_jobs


@dataclass
class Crossing:
    """What all rounds of a stage share.

    Parameters
    ----------
    cfg
        The stage's parameters.
    name
        The stage.
    table
        The label table.
    inventory
        What 01 noted of each file.
    asked
        The images that are judged, boolean by image_id.
    fold
        The fold whose network judges each image, int by image_id.
    features
        The jobs whose stores heads learn from.
    run
        Carries jobs out; by default it launches them.
    top
        How many of the largest probabilities of an image are kept.
    apart
        The predictions of each network alone that belong to the latest ones, where a view asks for
        them.
    """

    cfg: CrossParams
    name: str
    table: pd.DataFrame
    inventory: pd.DataFrame
    asked: pd.Series
    fold: pd.Series
    features: list[Job] = field(default_factory=list)
    run: Callable[[list[Rows], CrossParams, str], None] = run_jobs
    top: int = TOP
    apart: list[Reduced] = field(default_factory=list)

    def judge(
        self,
        name: str,
        recipe: Round,
        fit: pd.Series,
        *,
        crossed: bool,
        predict: pd.Series | None = None,
        teacher: Path | None = None,
        target: pd.Series | None = None,
        label: pd.Series | None = None,
        classes: Sequence[str] | None = None,
        by_head_folds: bool = False,
    ) -> Reduced:
        """Train on some rows and predict others.

        Parameters
        ----------
        name
            What the round's jobs are called.
        recipe
            How they train.
        fit
            The rows they learn from, boolean by image_id.
        crossed
            Whether a job a fold learns from the other folds. Else one job predicts what it does
            not learn from.
        predict
            The rows that are predicted, boolean; by default all that are asked.
        teacher
            A store of probabilities that are the targets in place of the labels.
        target
            The class that an image teaches, text; by default the label in force.
        label
            The class that an image is judged under, text; by default the label in force.
        classes
            The classes; by default those of the table.
        by_head_folds
            Whether one job fits the heads of all folds, where it crosses.

        Returns
        -------
        Reduced
            The predictions of the images, in the table's order.
        """
        target = self.table["label"] if target is None else target
        predict = self.asked if predict is None else predict
        pieces = [("", fit, predict & ~fit)]
        in_one = crossed and by_head_folds
        if in_one:
            pieces = [("", fit, predict)]
        elif crossed:
            numbers = sorted(set(self.fold[predict]))
            pieces = [
                (f"-fold-{k}", fit & (self.fold != k), predict & (self.fold == k)) for k in numbers
            ]
        parts = [
            [
                (
                    cleaning_job(
                        self.cfg,
                        self.name,
                        name + suffix + alone,
                        list(classes or classes_of(self.table)),
                        self.features,
                        recipe=each,
                        teacher=teacher,
                        seed=self.cfg.seed + recipe.seed,
                        reduce_to=self.top,
                        crossed=in_one,
                    ),
                    job_rows(
                        self.inventory,
                        target=target,
                        label=self.table["label"] if label is None else label,
                        fit=learnt_from,
                        predict=judged,
                        fold=self.fold if in_one else None,
                    ),
                )
                for suffix, learnt_from, judged in pieces
            ]
            for alone, each in [("", recipe), *recipes_apart(self.cfg, recipe).items()]
        ]
        self.run([job for part in parts for job in part], self.cfg, self.name)
        judged = pd.concat([each[each].index.to_series() for _, _, each in pieces])
        image_ids = self.table["image_id"][self.table["image_id"].isin(judged)]
        together, *self.apart = [
            read_reduced([Store(job.store) for job, _ in part], image_ids) for part in parts
        ]
        return together

    def case(
        self,
        predictions: Reduced,
        labels: np.ndarray,
        known: np.ndarray,
        channel: Channel | None = None,
        believed: np.ndarray | None = None,
    ) -> Case:
        """What the views are asked about the images of some predictions.

        Parameters
        ----------
        predictions
            Out-of-fold predictions, a row an image, judged under `labels`.
        labels, known
            As in `Case`, int (images,) in the order of the predictions.
        channel, believed
            As in `Case`, where they are known already.
        """
        groups = self.table.loc[predictions.image_ids, "group"].to_numpy()
        fold = self.fold.loc[predictions.image_ids].to_numpy()
        apart = [alone.of(predictions.image_ids) for alone in self.apart]
        return Case(
            self.cfg,
            predictions,
            labels,
            known,
            groups,
            fold,
            self.features,
            channel,
            believed,
            apart,
        )


def recipes_apart(cfg: CrossParams, recipe: Round) -> dict[str, Round]:
    """A recipe for each network alone, by the end of its jobs' names; none where no view asks."""
    if cfg.rule != "posterior" or not cfg.networks_apart:
        return {}
    names = {network.backbone for network in networks_of(cfg)}
    return {
        f"-{as_folder_name(name)}": recipe.model_copy(update={"backbones": [name]})
        for name in sorted(names)
    }


def pull_back(
    crossing: Crossing,
    positive: pd.Series,
    confirmed: pd.Series,
    predictions: Reduced,
    rounds_before: int = 0,
) -> tuple[pd.Series, Reduced, list[dict], pd.Series]:
    """Let those negatives return whose label a network finds that learnt from the positives.

    Each round takes the next recipe of `cfg.rounds`, until nothing returns or `cfg.max_rounds` are
    done. Positives stay, unless `cfg.recheck_positives`: then every round is crossed and judges
    them too.

    Parameters
    ----------
    crossing
        The cross-training of the stage.
    positive
        The images whose label is believed so far, boolean by image_id.
    confirmed
        The images whose label a person has confirmed; they always stay. Boolean.
    predictions
        The latest prediction of each image so far.
    rounds_before
        How many rounds there were already.

    Returns
    -------
    positive : pd.Series
        The images whose label is believed now.
    predictions : Reduced
        The latest prediction of each image.
    rounds : list of dict
        A ledger row a round.
    returned : pd.Series
        What returned last, boolean by image_id.
    """
    cfg, asked = crossing.cfg, crossing.asked
    rounds: list[dict] = []
    returned = asked & False
    for number in range(rounds_before + 1, rounds_before + cfg.max_rounds + 1):
        negative = asked & ~positive
        if not negative.any() or not positive.any():
            break
        started = time.monotonic()
        recipe = cfg.rounds[(number - 1) % len(cfg.rounds)]
        latest = crossing.judge(
            f"pull-back-{number}",
            recipe,
            positive,
            crossed=cfg.recheck_positives,
            predict=asked if cfg.recheck_positives else negative,
        )
        found = within(latest, crossing.table, cfg.top)
        predictions = predictions.updated(latest)
        now = (found if cfg.recheck_positives else positive | found) | (confirmed & asked)
        returned = now & ~positive
        rounds.append(ledger_row(number, recipe.text(), positive[asked], now[asked], started))
        left_again = bool((positive & ~now).any())
        positive = now
        if not returned.any() and not left_again:
            break
    return positive, predictions, rounds, returned


def within(predictions: Reduced, table: pd.DataFrame, top: int) -> pd.Series:
    """Whether each row's label is among its best classes.

    Parameters
    ----------
    predictions
        Predictions of some of the table's images.
    table
        The label table.
    top
        How many classes count as the best. As many as there are classes would let everything pass,
        so at most all but one count.

    Returns
    -------
    pd.Series
        Boolean by image_id; false where an image was not predicted.
    """
    ranks = pd.Series(predictions.label_rank, predictions.image_ids)
    top = min(top, len(predictions.classes) - 1)
    return ranks.reindex(table["image_id"]).rename_axis(None) < top
