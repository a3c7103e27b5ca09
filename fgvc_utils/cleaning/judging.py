"""The judgement of labels by the networks of other folds: by rank, or by posterior."""

import time
from dataclasses import dataclass, field, replace

import pandas as pd

from fgvc_utils.cleaning.bars import keep_bar_of, relabel_bar_of
from fgvc_utils.cleaning.crossing import Crossing, pull_back, within
from fgvc_utils.cleaning.ledger import ledger_row
from fgvc_utils.cleaning.params import Round
from fgvc_utils.cleaning.planting import PlantedErrors, planted_bars, planted_errors
from fgvc_utils.cleaning.rounds import Posteriors, posterior_rounds
from fgvc_utils.cleaning.verdicts import (
    asked_images,
    confirmed_classes,
    decisions,
    judged_and_none,
    rank_verdict,
)
from fgvc_utils.contest import tables
from fgvc_utils.jobs.reduction import Reduced


@dataclass
class Judgement:
    """What a stage decides on the images asked.

    Parameters
    ----------
    verdict
        A row an image, as from `verdicts.decisions`.
    rounds
        A ledger row a round.
    returned
        What came back last, boolean by image_id.
    positive, predictions
        What the rule by rank goes on from; None by posterior.
    learnt
        What the rule by posterior goes on from; None by rank.
    errors
        The planted errors by which the bars were chosen; None where they are set.
    bars
        The bars of the decision that differ from the parameters.
    """

    verdict: pd.DataFrame
    rounds: list[dict]
    returned: pd.Series
    positive: pd.Series | None = None
    predictions: Reduced | None = None
    learnt: Posteriors | None = None
    errors: PlantedErrors | None = None
    bars: dict[str, float] = field(default_factory=dict)


def judge_labels(
    crossing: Crossing, none: pd.Series, known: pd.Series, earlier: Judgement | None = None
) -> Judgement:
    """Judge the labels of the images asked by the stage's rule, `rank` or `posterior`.

    The only image of a class stays under its label: no other image could teach a network to confirm
    it.

    Parameters
    ----------
    crossing
        The cross-training of the stage.
    none
        The images that 01 left out as noise, boolean by image_id.
    known
        The class that a person has set or confirmed, else empty; text by image_id.
    earlier
        A judgement that the rule goes on from: what a person has confirmed since teaches the rounds
        that follow.

    Raises
    ------
    ValueError
        No image is asked.
    """
    if not crossing.asked.any():
        raise ValueError(
            f"no image is left for {crossing.name} to judge: look at what the stages before it "
            "left out, and why"
        )
    only = only_of_their_class(crossing.table, crossing.asked)
    known = known.where(~only | (known != ""), crossing.table["given"])
    if crossing.cfg.rule == "rank":
        return _judge_by_rank(crossing, known != "", earlier)
    before = tables.kept(crossing.table) if earlier is None else _kept_by(crossing, earlier)
    learnt = posterior_rounds(crossing, before, none, known, earlier and earlier.learnt)
    errors, bars = earlier and earlier.errors, earlier.bars if earlier else {}
    if crossing.cfg.bars == "planted" and errors is None:
        errors = planted_errors(crossing, learnt, none)
        bars = chosen_bars(errors)
    verdict = decisions(crossing, learnt, crossing.cfg.model_copy(update=bars))
    was_out = crossing.asked & ~before
    stays = verdict.index[verdict["verdict"] != "drop"]
    returned = was_out & crossing.table["image_id"].isin(stays)
    return Judgement(verdict, learnt.rounds, returned, learnt=learnt, errors=errors, bars=bars)


def chosen_bars(errors: PlantedErrors) -> dict[str, float]:
    """The parameters `keep_bar` and `relabel_bar` that are best for these images."""
    keep, relabel = planted_bars(errors)
    return {"keep_bar": keep_bar_of(keep), "relabel_bar": relabel_bar_of(relabel)}


def only_of_their_class(table: pd.DataFrame, asked: pd.Series) -> pd.Series:
    """Which of the images asked have no other image, copies aside, under their label (boolean)."""
    groups = table.loc[asked].groupby("label")["group"].nunique()
    return asked & table["label"].map(groups).eq(1)


def _kept_by(crossing: Crossing, judgement: Judgement) -> pd.Series:
    stays = judgement.verdict.index[judgement.verdict["verdict"] != "drop"]
    return crossing.asked & crossing.table["image_id"].isin(stays)


def _judge_by_rank(
    crossing: Crossing, confirmed: pd.Series, earlier: Judgement | None
) -> Judgement:
    cfg, asked = crossing.cfg, crossing.asked
    if earlier is None:
        started = time.monotonic()
        predictions = crossing.judge("fold", Round(), asked, crossed=True)
        positive = asked & (within(predictions, crossing.table, cfg.top) | confirmed)
        rounds = [ledger_row(0, f"{cfg.folds} folds", asked[asked], positive[asked], started)]
    else:
        predictions, rounds = earlier.predictions, earlier.rounds
        positive = asked & (earlier.positive | confirmed)
    positive, predictions, more, returned = pull_back(
        crossing, positive, confirmed, predictions, rounds_before=rounds[-1]["round"]
    )
    verdict = rank_verdict(crossing, predictions, positive)
    return Judgement(verdict, [*rounds, *more], returned, positive, predictions)


def once_more(crossing: Crossing, table: pd.DataFrame, earlier: Judgement) -> Judgement:
    """Go on from a judgement, with what a person has decided since in the table.

    Parameters
    ----------
    crossing
        The cross-training, as the earlier judgement took it.
    table
        The label table with the decisions in it.
    earlier
        The judgement to go on from.
    """
    _, none = judged_and_none(table)
    asked = crossing.asked & asked_images(table, crossing.cfg.rule)
    again = replace(crossing, table=table, asked=asked)
    return judge_labels(again, none, confirmed_classes(table), earlier)
