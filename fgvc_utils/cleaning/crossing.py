"""Cross-training of 02 and 03: networks that judge images they never saw, round after round.

A round is a few jobs in one launch. The networks' word on each image goes to the rules of
`cleaning` and `posterior`; what they decide is what the next round learns from.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from fgvc_utils.cleaning.fits import cleaning_job
from fgvc_utils.cleaning.ledger import ledger_row
from fgvc_utils.cleaning.params import CrossParams, Round
from fgvc_utils.contest.tables import classes_of
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.reduction import TOP, Reduced, read_reduced
from fgvc_utils.jobs.rows import Rows, job_rows
from fgvc_utils.jobs.running import run_jobs


@dataclass
class Crossing:
    """What all rounds of a stage share.

    `table` is the label table; `asked` (boolean, by image_id) are the images that are judged;
    `fold` (int, by image_id) says who judges them; `features` are the stores that heads learn
    from. `run` carries jobs out: by default it launches them. Of each image's probabilities the
    `top` largest are kept.
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
    ) -> Reduced:
        """Train on the rows `fit` and predict `predict` (all that are asked, by default).

        Crossed, a job a fold learns from the other folds; else one job predicts what it does not
        learn from. `target` is what an image teaches and `label` what it is judged under; both are
        the label in force by default. Returns what was said of the images, in the table's order.
        """
        target = self.table["label"] if target is None else target
        predict = self.asked if predict is None else predict
        pieces = [("", fit, predict & ~fit)]
        if crossed:
            numbers = sorted(set(self.fold[predict]))
            pieces = [
                (f"-fold-{k}", fit & (self.fold != k), predict & (self.fold == k)) for k in numbers
            ]
        jobs = [
            (
                cleaning_job(
                    self.cfg,
                    self.name,
                    name + suffix,
                    list(classes or classes_of(self.table)),
                    self.features,
                    recipe=recipe,
                    teacher=teacher,
                    seed=self.cfg.seed + recipe.seed,
                    reduce_to=self.top,
                ),
                job_rows(
                    self.inventory,
                    target=target,
                    label=self.table["label"] if label is None else label,
                    fit=learnt_from,
                    predict=judged,
                ),
            )
            for suffix, learnt_from, judged in pieces
        ]
        self.run(jobs, self.cfg, self.name)
        judged = pd.concat([each[each].index.to_series() for _, _, each in pieces])
        said = self.table["image_id"][self.table["image_id"].isin(judged)]
        return read_reduced([Store(job.store) for job, _ in jobs], said)


def pull_back(
    crossing: Crossing,
    positive: pd.Series,
    confirmed: pd.Series,
    said: Reduced,
    rounds_before: int = 0,
) -> tuple[pd.Series, Reduced, list[dict], pd.Series]:
    """Let those negatives return whose label a network finds that learnt from the positives.

    Each round takes the next recipe of `cfg.rounds`, until nothing returns or `cfg.max_rounds` are
    done. Positives stay, unless `cfg.recheck_positives`: then every round is crossed and judges
    them too. `confirmed` are the images whose label a person has confirmed; they always stay.
    `said` is the networks' word so far.

    Returns the positives, the latest word on each image, a ledger row a round, and what returned
    last (boolean), by the table's index.
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
        verdict = crossing.judge(
            f"pull-back-{number}",
            recipe,
            positive,
            crossed=cfg.recheck_positives,
            predict=asked if cfg.recheck_positives else negative,
        )
        found = within(verdict, crossing.table, cfg.top)
        said = said.updated(verdict)
        now = (found if cfg.recheck_positives else positive | found) | (confirmed & asked)
        returned = now & ~positive
        rounds.append(ledger_row(number, recipe.text(), positive[asked], now[asked], started))
        left_again = bool((positive & ~now).any())
        positive = now
        if not returned.any() and not left_again:
            break
    return positive, said, rounds, returned


def within(said: Reduced, table: pd.DataFrame, top: int) -> pd.Series:
    """Whether each row's label is among its `top` best classes; false where nobody judged it.

    A `top` that reaches the number of classes would let everything pass, so at most all classes
    but one count.
    """
    ranks = pd.Series(said.label_rank, said.image_ids)
    top = min(top, len(said.classes) - 1)
    return ranks.reindex(table["image_id"]).rename_axis(None) < top
