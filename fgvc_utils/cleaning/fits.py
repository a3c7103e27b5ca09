"""The jobs of the cleaning stages: frozen features, and fits on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.cleaning.params import CrossParams, Round
from fgvc_utils.contest.config import networks_of
from fgvc_utils.jobs.features import feature_job
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.rows import Rows
from fgvc_utils.jobs.running import work_folder


def feature_jobs(cfg: CrossParams, inventory: pd.DataFrame) -> list[Rows]:
    """The features of all backbones that a stage's heads learn from; none where `fit` is full."""
    if cfg.fit == "full":
        return []
    return [feature_job(cfg, inventory, network) for network in networks_of(cfg)]


def cleaning_job(
    cfg: Any,
    stage: str,
    name: str,
    classes: list[str],
    features: Sequence[Job],
    *,
    recipe: Round | None = None,
    teacher: Path | None = None,
    seed: int = 0,
    reduce_to: int = 0,
    crossed: bool = False,
) -> Job:
    """One fit of a cleaning stage: a head on frozen features, or the whole network.

    `cfg.fit` decides which. Nothing is kept but the predictions.

    Parameters
    ----------
    cfg
        The stage's parameters, with the fields of `params.Features`.
    stage, name
        The stage and what the job is called in it.
    classes
        The classes, in the order of the predictions' columns.
    features
        The jobs whose stores a head reads side by side.
    recipe
        How it trains. It may name some of the backbones, or the one network that is trained whole.
    teacher
        A store of probabilities that are the targets in place of the labels.
    seed
        What the job's random numbers follow from.
    reduce_to
        How many of an image's largest probabilities are kept, beside how its label fares; 0 keeps
        all logits.
    crossed
        Whether it fits a head a fold of its rows and predicts each fold by the head without it.
    """
    recipe = recipe or Round()
    folder = work_folder(cfg, stage, name)
    used = [job for job in features if not recipe.backbones or job.backbone in recipe.backbones]
    whole = cfg.fit == "full"
    optimiser = recipe.optimiser or cfg.optimiser
    own_rate = cfg.sgd_rate if optimiser == "sgd" else cfg.rate
    views = ["features", "mirror"] if recipe.mirror else ["features"]
    return Job(
        name=f"{stage} {name}",
        folder=folder,
        rows=f"{folder}/rows.parquet",
        classes=classes,
        fit=cfg.fit,
        backbone=(recipe.backbones or [cfg.backbone])[0] if whole else "",
        weights=cfg.weights if whole else "none",
        size=cfg.size,
        test_ratio=cfg.test_ratio,
        stores=[] if whole else [str(job.store) for job in used],
        train_views=views,
        test_views=views,
        augmentation={
            "flip_probability": 0.5 if recipe.mirror else 0.0,
            "colour_jitter": recipe.colour_jitter,
        },
        epochs=cfg.lbfgs_steps if optimiser == "lbfgs" else cfg.epochs,
        optimiser=optimiser,
        base_lr=recipe.rate or own_rate,
        global_batch=cfg.global_batch,
        micro_batch=cfg.micro_batch,
        weight_decay=cfg.weight_decay,
        teachers=[str(teacher)] if teacher else [],
        teacher_weight=1.0 if teacher else 0.0,
        # Without the prior a network doubts most labels of the tail, right or wrong.
        balance="prior",
        keep=["reduced"] if reduce_to else ["logits"],
        reduce_to=reduce_to,
        keep_weights=False,
        crossed=crossed,
        seed=seed,
    )
