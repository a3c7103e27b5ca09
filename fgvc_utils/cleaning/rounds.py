"""Rounds of posteriors: expectation-maximisation with the expectation out of fold."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fgvc_utils.cleaning import posterior, rules
from fgvc_utils.cleaning.channel import Channel
from fgvc_utils.cleaning.crossing import Crossing
from fgvc_utils.cleaning.deciding import decide
from fgvc_utils.cleaning.ledger import ledger_row
from fgvc_utils.cleaning.params import CrossParams, Round
from fgvc_utils.cleaning.posterior import SparsePosterior
from fgvc_utils.cleaning.views import judged
from fgvc_utils.contest.posteriors import posterior_rows
from fgvc_utils.contest.tables import classes_of
from fgvc_utils.jobs.reduction import Reduced
from fgvc_utils.jobs.running import work_folder
from fgvc_utils.jobs.soft_targets import write_targets

# Networks that learnt from labels predict labels, not classes: by them all labels look right. Where
# trust is estimated, labels therefore count little in the rounds that only teach: this trust and
# sharpness. It is estimated in the rounds that decide, and never by the networks of the first two,
# which learnt from the labels as they came and from what these made of them.
DOUBTFUL, DOUBTFUL_LEAST = (0.2, 1.5), 2
# Cuts of one round take their seeds so far apart that no round's meets another's.
CUT_SEEDS = 100_000


@dataclass
class Posteriors:
    """What `posterior_rounds` learnt.

    Parameters
    ----------
    posterior
        The posterior of each image, in the order of the predictions.
    predictions
        The predictions of the last round.
    rounds
        A ledger row a round.
    channel
        How far the last round trusted labels and networks.
    """

    posterior: SparsePosterior
    predictions: Reduced
    rounds: list[dict]
    channel: Channel

    def of(self, image_ids: Sequence[str]) -> SparsePosterior:
        """The posterior of some images, in their order; raises KeyError naming a stranger."""
        return self.posterior.rows(self.predictions.rows_of(image_ids))

    def named(self, image_ids: Sequence[str]) -> pd.DataFrame:
        """The same as rows of an image and class; see `contest.posteriors`."""
        known, classes = self.of(image_ids), self.predictions.classes[:-1]
        return posterior_rows(image_ids, classes, known.columns, known.values)


def of_judged(crossing: Crossing, learnt: Posteriors) -> Crossing:
    """The same cross-training without images asked that the rounds no longer judged.

    A person who works on in a notebook may have dropped some since the stage began.
    """
    judged = crossing.table["image_id"].isin(learnt.predictions.image_ids)
    return replace(crossing, asked=crossing.asked & judged)


def posterior_rounds(
    crossing: Crossing,
    teaches: pd.Series,
    none: pd.Series,
    known: pd.Series,
    earlier: Posteriors | None = None,
) -> Posteriors:
    """The posterior of each image's class by expectation-maximisation, out of fold.

    First some images teach their label in force; then every image teaches its posterior, for
    at most `cfg.posterior_rounds` rounds, the folds cut anew each time, in `cfg.cuts` ways whose
    mean counts. Each round teaches the next; what counts is the mean of the last
    `cfg.averaged_rounds` that learnt from posteriors. The rounds end before that where fewer than
    `cfg.settled` of the verdicts changed.

    Parameters
    ----------
    crossing
        The cross-training of the stage; its folds are cut anew.
    teaches
        The images that teach in the first round, boolean by image_id.
    none
        The images that 01 left out as noise; they teach that they show no class. Boolean.
    known
        The class that a person has set or confirmed, else empty; no posterior overrules it.
    earlier
        Posteriors that the rounds go on from.

    Returns
    -------
    Posteriors
        Of the images asked and of `none`.

    References
    ----------
    Dempster, Laird and Rubin, Maximum likelihood from incomplete data via the EM algorithm, 1977.
    """
    cfg, table = crossing.cfg, crossing.table
    classes = [*classes_of(table), posterior.NONE]
    number_of = {name: number for number, name in enumerate(classes)}
    everyone = crossing.asked | none
    row_ids = table.loc[everyone, "image_id"]
    sure = known.mask(none & (known == ""), posterior.NONE)
    sure_numbers = sure[row_ids.index].map(lambda name: number_of.get(name, -1)).to_numpy()
    given = table.loc[row_ids.index, "given"].map(number_of).to_numpy()
    taught, names = pd.Series("", index=table.index), np.array(classes, object)
    taught[row_ids.index] = names[np.where(sure_numbers >= 0, sure_numbers, given)]
    fit, teacher = (teaches | none | (known != "")), None
    rounds: list[dict] = list(earlier.rounds) if earlier else []
    before = teaches[crossing.asked]
    current = earlier.of(row_ids).fixed(sure_numbers) if earlier else None
    latest: list[SparsePosterior] = []
    first, last = len(rounds), None
    rows = Judged(row_ids, given, sure_numbers)
    for number in range(first, first + cfg.posterior_rounds + (not first)):
        started = time.monotonic()
        if current is not None:
            teacher = targets_folder(crossing, str(number))
            write_targets(teacher, classes, row_ids, current.columns, current.values)
            taught = taught.copy()
            taught[row_ids.index] = names[current.best()]
            fit = everyone
        found, predictions, channel = _judged_in_cuts(
            crossing,
            number,
            rows,
            current=current,
            fit=fit,
            predict=everyone,
            teacher=teacher,
            target=taught,
            classes=classes,
        )
        current = posterior.mean(found)
        # Networks that learnt from the labels as they came know less than all later ones, and what
        # is estimated does not mix with what is not.
        starts_anew = number in (0, 1, doubtful_rounds(cfg))
        latest = [*([] if starts_anew else latest), current][-cfg.averaged_rounds :]
        together = posterior.mean(latest)
        verdict = decide(together, given, len(classes) - 1, cfg)["verdict"]
        verdict = verdict.set_axis(row_ids.index)[crossing.asked[crossing.asked].index]
        kept = verdict != "drop"
        changed = float("nan") if last is None else round(float((verdict != last).mean()), 4)
        what = "labels" if not number else "posteriors"
        rounds.append(
            ledger_row(
                number,
                f"{what} as targets",
                before,
                kept,
                started,
                relabelled=int((verdict == "relabel").sum()),
                trust=round(channel.trust, 3),
                sharpness=round(channel.sharpness, 2),
                changed=changed,
            )
        )
        before, last = kept, verdict
        # The first round that learns from posteriors takes over much, and so does the first that
        # estimates trust: they say nothing of the end.
        if number > max(1, doubtful_rounds(cfg)) and changed < cfg.settled:
            break
    return Posteriors(together, predictions, rounds, channel)


@dataclass(frozen=True)
class Judged:
    """The images of all rounds: ids, class numbers of their labels, and what is known of them."""

    image_ids: pd.Series
    given: np.ndarray
    known: np.ndarray


def _judged_in_cuts(
    crossing: Crossing,
    number: int,
    rows: Judged,
    *,
    current: SparsePosterior | None,
    fit: pd.Series,
    classes: Sequence[str],
    **taught: Any,
) -> tuple[list[SparsePosterior], Reduced, Channel]:
    """A round's posteriors, one a cut into folds; the last one's predictions and channel."""
    cfg, found = crossing.cfg, []
    doubtful = None
    if number < doubtful_rounds(cfg):
        doubtful = Channel(cfg.trust or DOUBTFUL[0], cfg.sharpness or DOUBTFUL[1], len(classes) - 1)
    believed = (
        None if current is None else np.where(current.values.max(axis=1) > 0.5, current.best(), -1)
    )
    for cut in range(cfg.cuts):
        crossing.fold = recut(crossing, number, cut)
        predictions = crossing.judge(
            f"posterior-{number}" + (f"-cut-{cut}" if cut else ""),
            Round(seed=number + CUT_SEEDS * cut),
            fit,
            crossed=True,
            label=crossing.table["given"],
            classes=classes,
            by_head_folds=cfg.in_one_job,
            **taught,
        ).of(rows.image_ids)
        case = crossing.case(predictions, rows.given, rows.known, doubtful, believed)
        one, channel = judged(case)
        found.append(one)
    return found, predictions, channel


def settled_text(rounds: Sequence[dict], settled: float) -> str:
    """Whether the rounds came to an end by themselves, in a sentence.

    Parameters
    ----------
    rounds
        The ledger's rows of rounds by posterior.
    settled
        The parameter: the share of verdicts below which a round changed nothing to speak of.
    """
    changed = rounds[-1].get("changed", float("nan"))
    if not changed >= 0:
        return "One round says nothing of whether more would change the verdicts."
    last = f"The last round changed {changed:.1%} of the verdicts"
    if not settled:
        return f"{last}."
    if changed < settled:
        return f"{last}, fewer than {settled:.1%}: the rounds have settled."
    return f"{last}, not fewer than {settled:.1%}: they have not settled. Raise posterior_rounds."


def doubtful_rounds(cfg: CrossParams) -> int:
    """The number of rounds in which labels count little, where trust or sharpness is estimated.

    All but those whose mean decides, the round that learns from the labels counted.
    """
    if cfg.trust and cfg.sharpness:
        return 0
    return max(DOUBTFUL_LEAST, cfg.posterior_rounds + 1 - cfg.averaged_rounds)


def recut(crossing: Crossing, number: int, cut: int = 0, folds: int = 0) -> pd.Series:
    """The folds of another round, and of another cut in it; int by image_id, -1 for test images.

    They are cut anew, so that an image does not stay with the same others. There are as many as
    the rounds by posterior have, or so many as are named.
    """
    table, cfg = crossing.table, crossing.cfg
    train = table["split"] == "train"
    seed = cfg.seed + 1000 + number + CUT_SEEDS * cut
    folds = folds or (cfg.head_folds if cfg.in_one_job else cfg.folds)
    fold = rules.cut_folds(table.loc[train, "given"], table.loc[train, "group"], folds, seed)
    return fold.reindex(table.index, fill_value=-1)


def targets_folder(crossing: Crossing, name: str) -> Path:
    """Where the soft targets of a round lie."""
    return Path(work_folder(crossing.cfg, crossing.name, f"targets-{name}")) / "predictions"
