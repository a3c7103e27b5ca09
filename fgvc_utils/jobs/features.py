"""The jobs that compute frozen features: the same for every stage that asks for the same ones."""

from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.core.files import read_json
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.rows import Rows, job_rows

# What a feature job keeps of each picture: its features, and those of its mirror image.
VIEWS = ("features", "mirror")


def feature_job(cfg: Any, inventory: pd.DataFrame, backbone: str = "") -> Rows:
    """The job that computes frozen features of all readable images and their mirror images.

    Stages that ask for the same network, weights, size and ratio get the same job, so the features
    are computed once a run.

    Parameters
    ----------
    cfg
        A stage's parameters, with backbone, weights, size and test_ratio.
    inventory
        What 01 noted of each file.
    backbone
        The network, by its timm name; by default that of the parameters.
    """
    backbone = backbone or cfg.backbone
    folder = cfg.folder / "features" / f"{backbone}-{cfg.size}"
    if _is_other(folder, cfg):
        # Others read what lies there.
        folder = folder.with_name(f"{folder.name}-ratio-{cfg.test_ratio:g}-{_source(cfg.weights)}")
    job = Job(
        name=f"features {backbone} at {cfg.size} px",
        folder=str(folder),
        rows=str(folder / "rows.parquet"),
        classes=[],
        fit="none",
        backbone=backbone,
        weights=cfg.weights,
        size=cfg.size,
        test_ratio=cfg.test_ratio,
        keep=list(VIEWS),
        keep_weights=False,
    )
    return job, job_rows(inventory, predict=True)


def _is_other(folder: Path, cfg: Any) -> bool:
    """Whether the features in a folder are of another ratio or other weights."""
    file = folder / "job.json"
    if not file.is_file():
        return False
    job = read_json(file)
    return (job["test_ratio"], job["weights"]) != (cfg.test_ratio, cfg.weights)


def _source(weights: str) -> str:
    """Where weights come from, as a part of a folder's name."""
    return Path(weights).stem if weights else "none"
