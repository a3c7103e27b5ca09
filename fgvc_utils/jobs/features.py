"""The jobs that compute frozen features: the same for every stage that asks for the same ones."""

from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.contest.config import FurtherNetwork, features_folder, networks_of
from fgvc_utils.contest.places import as_folder_name
from fgvc_utils.core.files import read_json
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.rows import Rows, job_rows

# What a feature job keeps of each picture: its features, and those of its mirror image.
VIEWS = ("features", "mirror")


def feature_job(cfg: Any, inventory: pd.DataFrame, network: FurtherNetwork | None = None) -> Rows:
    """The job that computes frozen features of all readable images and their mirror images.

    Stages that ask for the same network, weights, size and ratio get the same job, so the features
    are computed once a run.

    Parameters
    ----------
    cfg
        A stage's parameters, with backbone, weights, size and test_ratio.
    inventory
        What 01 noted of each file.
    network
        The network with its weights and size; by default that of the parameters.
    """
    network = network or networks_of(cfg)[0]
    folder = features_folder(cfg, network)
    if _is_other(folder, cfg.test_ratio, network.weights):
        # Others read what lies there.
        source = as_folder_name(Path(network.weights).stem or "none")
        folder = folder.with_name(f"{folder.name}-ratio-{cfg.test_ratio:g}-{source}")
    job = Job(
        name=f"features {network.backbone} at {network.size} px",
        folder=str(folder),
        rows=str(folder / "rows.parquet"),
        classes=[],
        fit="none",
        backbone=network.backbone,
        weights=network.weights,
        size=network.size,
        test_ratio=cfg.test_ratio,
        keep=list(VIEWS),
        keep_weights=False,
    )
    return job, job_rows(inventory, predict=True)


def _is_other(folder: Path, test_ratio: float, weights: str) -> bool:
    """Whether the features in a folder are of another ratio or other weights."""
    file = folder / "job.json"
    if not file.is_file():
        return False
    job = read_json(file)
    return (job["test_ratio"], job["weights"]) != (test_ratio, weights)
