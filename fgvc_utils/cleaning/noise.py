"""The two-class noise model of 01: learn from picks, score every image, feed back what is sure."""

import time
from collections.abc import Callable

import pandas as pd

from fgvc_utils.cleaning import rules
from fgvc_utils.cleaning.fits import cleaning_job
from fgvc_utils.cleaning.ledger import ledger_row
from fgvc_utils.cleaning.params import NoiseParams, Round
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.results import read_probabilities
from fgvc_utils.jobs.rows import Rows, job_rows
from fgvc_utils.jobs.running import run_jobs

Runner = Callable[[list[Rows], NoiseParams, str], None]


def noise_rounds(
    cfg: NoiseParams,
    name: str,
    table: pd.DataFrame,
    inventory: pd.DataFrame,
    features: Job,
    picks: pd.Series,
    run: Runner = run_jobs,
) -> tuple[pd.Series, list[dict]]:
    """Train, score and feed back until new noise is rare or `cfg.max_rounds` are done.

    A batch is as large as `cfg.global_batch`, or as there are picks where those are fewer.

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
    features
        The job whose store holds the frozen features.
    picks
        Text by image_id, `noise`, `normal` or empty, for every image that is judged.
    run
        Carries jobs out; by default it launches them.

    Returns
    -------
    probability : pd.Series
        p(noise) by image_id, 0 to 1.
    rounds : list of dict
        A ledger row a round.

    Raises
    ------
    ValueError
        The picks lack a kind.
    """
    for kind in ("noise", "normal"):
        if not (picks == kind).any():
            raise ValueError(f"the noise model needs picks of both kinds: no image is {kind!r}")
    asked = table["image_id"].isin(picks.index).set_axis(table["image_id"])
    rounds: list[dict] = []
    before = pd.Series(False, index=picks.index)
    while True:
        started = time.monotonic()
        number = len(rounds) + 1
        target = picks.reindex(table["image_id"], fill_value="")
        job = cleaning_job(
            cfg,
            name,
            f"round-{number}",
            ["noise", "normal"],
            [features],
            recipe=Round(optimiser="radam"),
            seed=cfg.seed + number - 1,
        )
        batch = min(job.global_batch, int((target != "").sum()))
        if batch < job.global_batch:
            job = job.model_copy(update={"global_batch": batch, "micro_batch": batch})
        rows = job_rows(inventory, target=target, fit=target != "", predict=asked)
        run([(job, rows)], cfg, name)
        probability = read_probabilities([job], picks.index)["noise"]
        grown = rules.feed_back(picks, probability, cfg.threshold, cfg.normal_threshold)
        flagged = probability > cfg.threshold
        new = int(((grown == "noise") & (picks == "")).sum())
        rounds.append(ledger_row(number, "noise model", ~before, ~flagged, started, new=new))
        picks, before = grown, flagged
        if new < cfg.stop_share * len(picks) or number == cfg.max_rounds:
            return probability, rounds


def hand_picks(decided: pd.Series, judged: pd.Index, others: pd.Index) -> pd.Series:
    """What a person picked, for images that are judged and for others that were decided on.

    Parameters
    ----------
    decided
        A person's decisions, text by image_id.
    judged, others
        Image ids; of `others` those without a pick are left out.

    Returns
    -------
    pd.Series
        Text by image_id: `noise`, `normal` or empty.
    """
    picked = decided[decided.isin(["noise", "normal"])]
    return picked.reindex(judged.append(others.intersection(picked.index)), fill_value="")


def require_picks(wanted: bool, picks: pd.Series) -> None:
    """Stop where a review is wanted and nobody has picked noise and normal images.

    Parameters
    ----------
    wanted
        Whether a review is wanted.
    picks
        A person's picks, text by image_id: `noise`, `normal` or empty.

    Raises
    ------
    RuntimeError
        A kind is missing; the message says what to do.
    """
    missing = {"noise", "normal"} - set(picks)
    if wanted and missing:
        raise RuntimeError(
            f"nobody has picked {' or '.join(sorted(missing))} images and `require_review` is on: "
            "pick some in this notebook in JupyterLab, or set require_review: false"
        )
