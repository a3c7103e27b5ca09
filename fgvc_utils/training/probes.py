"""The probe: a logistic regression on stored features of frozen networks, a model like any other.

References
----------
Kumar et al., Fine-tuning can distort pretrained features and underperform out-of-distribution,
ICLR 2022: on images of another kind than the train images a probe can beat a fine-tuned network.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from fgvc_utils.contest.config import FurtherNetwork, completed
from fgvc_utils.core.files import read_json
from fgvc_utils.core.intervals import wilson
from fgvc_utils.jobs.features import feature_job
from fgvc_utils.jobs.records import DONE, Job
from fgvc_utils.jobs.rows import Rows
from fgvc_utils.training.params import TrainParams

# L-BFGS ends earlier where no gradient is left.
MOST_STEPS = 200
# Between the names of the networks whose features a probe joins.
JOINED = " + "

Tried = dict[float, list[Rows]]


def frozen_networks(cfg: TrainParams) -> list[FurtherNetwork]:
    """Return the networks whose features a probe joins, each once."""
    return list(dict.fromkeys(completed(cfg, cfg.probe_backbones or [cfg.backbone])))


def probe_features(cfg: TrainParams, inventory: pd.DataFrame) -> list[Rows]:
    """Return the jobs of the features that a probe reads, one a network.

    What an earlier stage stored of the same network, weights, size and ratio is the same job.

    Parameters
    ----------
    cfg : TrainParams
        Names the networks.
    inventory : DataFrame
        What 01 noted of each file.
    """
    return [feature_job(cfg, inventory, network) for network in frozen_networks(cfg)]


def probe_job(
    cfg: TrainParams,
    name: str,
    classes: list[str],
    features: Sequence[Rows],
    decay: float,
    soft_labels: str = "",
) -> Job:
    """Return the job of a probe: a layer on the features of all networks side by side.

    It is fitted on all views of the parameters at once and predicts their mean logits. It minimises
    the mean cross-entropy + decay / 2 × squared weights on standardised features; biases are free.

    Parameters
    ----------
    cfg : TrainParams
        The notebook's parameters.
    name : str
        The model's name; the job lies in `models/<name>` of the run.
    classes : list of str
        What it learns, in the order of its logits.
    features : sequence of (Job, DataFrame)
        Those of `probe_features`.
    decay : float
        See above.
    soft_labels : str
        The store of what images teach in place of their label; empty for none.
    """
    folder = cfg.folder / "models" / name
    return Job(
        name=name,
        folder=str(folder),
        rows=str(folder / "rows.parquet"),
        classes=classes,
        fit="head",
        backbone=JOINED.join(job.backbone for job, _ in features),
        size=cfg.size,
        test_ratio=cfg.test_ratio,
        stores=[str(job.store) for job, _ in features],
        train_views=cfg.probe_views,
        test_views=cfg.probe_views,
        optimiser="lbfgs",
        epochs=MOST_STEPS,
        weight_decay=decay,
        balance=cfg.balance,
        keep_prior=cfg.keep_prior,
        keep_empty=cfg.keep_empty,
        soft_labels=soft_labels,
        keep=["logits", "features"],
        seed=cfg.seed,
    )


def decay_jobs(cfg: TrainParams, probe: Job, rows: pd.DataFrame, folds: pd.DataFrame) -> Tried:
    """Return the fits by which a probe's decay is chosen, by the decay.

    Held-out images judge each decay. Where none is held out it is a cross-validation: each fold is
    left out once.

    Parameters
    ----------
    cfg : TrainParams
        Its `probe_decays` are tried.
    probe : Job
        The probe, with any decay.
    rows : DataFrame
        Its rows.
    folds : DataFrame
        The label table whose folds are taken.
    """
    cut = {"": rows}
    if not rows["validate"].any():
        fold = rows["image_id"].map(folds.set_index("image_id")["fold"])
        used = sorted(fold[rows["fit"]].unique())
        cut = {
            f"-fold-{number}": rows.assign(
                fit=rows["fit"] & (fold != number), validate=rows["fit"] & (fold == number)
            )
            for number in used
        }
    tried: Tried = {}
    for decay in dict.fromkeys(cfg.probe_decays):
        for part, of_part in cut.items():
            job = probe.elsewhere(
                Path(probe.folder) / "decays" / f"{decay:g}{part}",
                f"{probe.name}: decay {decay:g}{part.replace('-', ' ')}",
                weight_decay=decay,
                keep=[],
                keep_weights=False,
            )
            tried.setdefault(decay, []).append((job, of_part.assign(predict=False)))
    return tried


def read_decays(tried: Mapping[float, Sequence[Rows]]) -> pd.DataFrame:
    """Return how each decay fared on the images that were left out, all its fits together.

    Returns
    -------
    DataFrame
        A row a decay, in the order tried: decay, top1 with low and high, its 95 % interval (Wilson
        1927), loss, the cross-entropy, and n, the number of images.
    """
    found = []
    for decay, fits in tried.items():
        judged = [read_json(Path(job.folder) / DONE)["figures"] for job, _ in fits]
        n = int(sum(figures["n"] for figures in judged))
        top1, loss = (
            sum(each[what] * each["n"] for each in judged) / n for what in ("top1", "loss")
        )
        found.append((decay, top1, *wilson(round(top1 * n), n), loss, n))
    return pd.DataFrame(found, columns=["decay", "top1", "low", "high", "loss", "n"])


def best_decay(fared: pd.DataFrame) -> float:
    """Return the decay of the highest top-1 in `read_decays`' frame; of equals, the least loss."""
    best = fared.sort_values(["top1", "loss"], ascending=[False, True], kind="stable")
    return float(best["decay"].iloc[0])


def is_probe(job: Job) -> bool:
    """Return whether a model is a layer on stored features, which no picture can be shown to."""
    return job.fit == "head"


def backbones_of(job: Job) -> list[str]:
    """Return the networks of a model: one, or those whose features a probe joins."""
    return job.backbone.split(JOINED)
