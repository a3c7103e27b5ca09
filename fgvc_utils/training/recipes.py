"""The jobs of 10 and 20: a recipe's fit, and the smaller jobs around it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fgvc_utils.contest import decoded
from fgvc_utils.contest.config import Network
from fgvc_utils.contest.inventory import cache_folder
from fgvc_utils.core.files import read_json, require_space
from fgvc_utils.core.intervals import wilson
from fgvc_utils.core.processes import processors
from fgvc_utils.jobs.records import TUNED, WEIGHTS, Distillation, Job, Recipe, read_job
from fgvc_utils.jobs.results import read_logits
from fgvc_utils.jobs.rows import Rows, fitted_images
from fgvc_utils.training.changes import switched_on
from fgvc_utils.training.resizing import resizings


def training_job(
    cfg: Any,
    name: str,
    classes: list[str],
    *,
    teachers: Sequence[Path] = (),
    teacher_weight: float = 0.0,
    soft_labels: str = "",
) -> Job:
    """Return the job of 10_train or 20_distill.

    Its recipe, distillation and network are taken from the parameters by name; see
    `jobs.records`.

    Parameters
    ----------
    cfg : TrainParams or DistillParams
        The notebook's parameters.
    name : str
        The model's name; the job lies in `models/<name>` of the run.
    classes : list of str
        What it learns, in the order of its logits.
    teachers : sequence of Path
        Folders of the models that teach it.
    teacher_weight : float
        Share of the teachers in its loss, 0 to 1; the labels have the rest.
    soft_labels : str
        The store of what images teach in place of their label; empty for none.
    """
    folder = cfg.folder / "models" / name
    shared = {*Recipe.model_fields, *Distillation.model_fields, *Network.model_fields, "seed"}
    own = cfg.model_dump(include=shared)
    if not teachers:
        own["teacher_views"] = 0
    if cfg.start:
        # All weights are the earlier model's.
        start_weights = cfg.folder / "models" / cfg.start / WEIGHTS
        own |= {"weights": "none", "start_weights": str(start_weights)}
    return Job(
        **own,
        name=name,
        folder=str(folder),
        rows=str(folder / "rows.parquet"),
        classes=classes,
        fit="full",
        augmentation=switched_on(cfg),
        teachers=[str(teacher / "predictions") for teacher in teachers],
        teacher_weight=teacher_weight,
        soft_labels=soft_labels,
        keep=["logits", "features", *(["augmented"] if cfg.feature_views else [])],
        augmented_views=cfg.feature_views,
    )


def decode(cfg: Any, jobs: Sequence[Rows]) -> list[Rows]:
    """Decode once what jobs read in each epoch: what they train on and what is held out.

    Prints whether it did.

    Parameters
    ----------
    cfg : TrainParams or DistillParams
        Names the cache, and with `decoded_gb` the most GB of disk that decoded pictures of all
        sides may take. Where they would take more, the jobs decode JPEGs each time.
    jobs : sequence of (Job, DataFrame)
        The jobs and their rows.

    Returns
    -------
    list of (Job, DataFrame)
        The same, the jobs reading what was decoded.

    Raises
    ------
    files.NotEnoughSpace
        An OSError, where the disk has less free than that takes.
    """
    if not cfg.decoded_gb:
        print("decoded_gb is 0: the JPEGs of the cache are decoded in each epoch")
        return list(jobs)
    cache = cache_folder(cfg)
    wanted: dict[tuple[int, str], set[str]] = {}
    jobs = list(jobs)
    # A head sees no pictures, whatever networks its features are of.
    shown = [(job, rows) for job, rows in jobs if job.fit != "head"]
    how = resizings(job.backbone for job, _ in shown)
    for job, rows in shown:
        interpolation, squash = how[job.backbone]
        cropped = rows["fit"] | rows["predict"] if job.augmented_views > 1 else rows["fit"]
        crops = wanted.setdefault((job.train_side, interpolation), set())
        crops.update(rows.loc[cropped, "file"])
        if not squash:
            centres = wanted.setdefault((job.test_side, interpolation), set())
            centres.update(rows.loc[rows["validate"], "file"])
    files = {kind: sorted(names) for kind, names in wanted.items() if names}
    needed = sum(decoded.needed_bytes(names, cache, *kind) for kind, names in files.items()) / 1e9
    sides = " and ".join(f"{side} px" for side in dict.fromkeys(side for side, _ in files))
    there = decoded.bytes_there(cache) / 1e9
    if there + needed > cfg.decoded_gb:
        print(
            f"decoded pictures of {sides} would take {needed:.1f} GB beside {there:.1f} GB that "
            f"are there, decoded_gb allows {cfg.decoded_gb:g}: the JPEGs of the cache are decoded "
            f"in each epoch. Pictures of sizes that are not used any more lie in {cache}/decoded"
        )
        return list(jobs)
    for kind, names in files.items():
        decoded.decode_once(names, cache, *kind, processes=processors())
    print(f"pictures are read decoded, at {sides}; {needed:.2f} GB of them are new")
    return [(job.model_copy(update={"decoded": str(cache)}), rows) for job, rows in jobs]


def view_jobs(student: Job, rows: pd.DataFrame, teachers: Sequence[Path]) -> list[Rows]:
    """Return jobs by which each teacher predicts the random views that the student will see.

    The student's recipe, size and seed make the views, so teacher and student see the same
    pictures. The student's `teachers` are then the stores of these jobs.

    Parameters
    ----------
    student : Job
        The job that learns.
    rows : DataFrame
        Its rows.
    teachers : sequence of Path
        Folders of the models that teach it.

    Raises
    ------
    files.NotEnoughSpace
        An OSError, where the disk has less free than their predictions take.

    References
    ----------
    Beyer et al., Knowledge distillation: a good teacher is patient and consistent, CVPR 2022.
    """
    jobs = []
    for teacher in teachers:
        own = read_job(teacher / "job.json")
        folder = Path(student.folder) / "views" / teacher.name
        job = student.elsewhere(
            folder,
            f"{student.name}: views of {teacher.name}",
            **as_trained(own),
            backbone=own.backbone,
            balance=own.balance,
            keep_prior=own.keep_prior,
            keep_empty=own.keep_empty,
            keep=["views"],
            keep_weights=False,
            teachers=[],
            teacher_weight=own.teacher_weight,
        )
        # Its own train images stay marked: from them follow its classes, and what it may not teach.
        known = fitted_images(teacher)
        seen = rows.assign(fit=rows["image_id"].isin(known), validate=False, predict=rows["fit"])
        jobs.append((job, seen))
    logits = len(student.classes) * np.dtype(np.float16).itemsize * student.teacher_views
    require_space(
        Path(student.folder),
        len(teachers) * int(rows["fit"].sum()) * logits,
        f"predictions of {len(teachers)} teachers on {student.teacher_views} views",
        "or set teacher_views lower or name fewer teachers",
    )
    return jobs


def as_trained(job: Job) -> dict[str, Any]:
    """Return the changes by which a job predicts with the network that `job` trained."""
    trained = str(Path(job.folder) / WEIGHTS)
    # Where that network began counts no more, what it ends with does.
    began = {"start": "", "start_weights": "", "start_head": "random", "probe": ""}
    last = {name: getattr(job, name) for name in ("classifier", "arcface_centres", "arcface_scale")}
    changes = {"fit": "none", "weights": "none", "trained": trained, "tuned_share": 1.0}
    return changes | began | last


def rate_sweeps(job: Job, rows: pd.DataFrame, steps: int) -> dict[str, Rows]:
    """Return a learning-rate range test of each optimiser of a training job, by its name.

    Parameters
    ----------
    job : Job
        The training job.
    rows : DataFrame
        Its rows.
    steps : int
        Of each test; with 0 there is none.

    References
    ----------
    Smith, Cyclical learning rates for training neural networks, WACV 2017.
    """
    sweeps = {}
    tried = ("radam", "sgd") if job.optimiser == "radam+sgd" else (job.optimiser,)
    for optimiser in tried if steps else ():
        sweep = job.elsewhere(
            Path(job.folder) / "rates" / optimiser,
            f"{job.name}: rates for {optimiser}",
            optimiser=optimiser,
            rate_sweep_steps=steps,
            keep=[],
            keep_weights=False,
        )
        sweeps[optimiser] = sweep, rows
    return sweeps


def read_rate_sweep(job: Job) -> tuple[pd.DataFrame, float]:
    """Return a range test's rates and losses, a row a step (lr, loss), and the rate it suggests."""
    suggested = read_json(Path(job.folder) / "done.json")["figures"]["suggested"]
    return pd.read_csv(Path(job.folder) / "rates.csv"), suggested


def ratio_sweep(jobs: Sequence[Job], labels: pd.Series) -> pd.DataFrame:
    """Return the top-1 of jobs of `ratio_job`, a row a ratio.

    Parameters
    ----------
    jobs : sequence of Job
        They are done.
    labels : Series of str
        The held-out images' classes, by image_id.

    Returns
    -------
    DataFrame
        Columns ratio, top1, and low and high, its 95 % interval.

    References
    ----------
    Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    return _swept(jobs, labels, "ratio", [job.test_ratio for job in jobs])


def share_sweep(jobs: Sequence[Job], labels: pd.Series) -> pd.DataFrame:
    """Return the top-1 of jobs of `share_job`, a row a share, as `ratio_sweep` does of ratios."""
    return _swept(jobs, labels, "share", [job.tuned_share for job in jobs])


def _swept(
    jobs: Sequence[Job], labels: pd.Series, name: str, values: Sequence[float]
) -> pd.DataFrame:
    swept = []
    for job, value in zip(jobs, values, strict=True):
        predicted = read_logits([job], labels.index).idxmax(axis=1)
        hits = int((predicted == labels).sum())
        low, high = wilson(hits, len(labels))
        swept.append((value, hits / len(labels), low, high))
    return pd.DataFrame(swept, columns=[name, "top1", "low", "high"])


def ratio_job(job: Job, rows: pd.DataFrame, ratio: float) -> Rows:
    """Return the job that predicts the held-out images by a job's network at another test ratio.

    Parameters
    ----------
    job, rows
        The job whose network is taken, and its rows.
    ratio
        Side of the test picture over the network's input side.

    References
    ----------
    Touvron et al., Fixing the train-test resolution discrepancy, NeurIPS 2019.
    """
    changes = as_trained(job) | {"test_ratio": ratio}
    return _tried(job, rows, f"ratios/{ratio:g}", f"{job.name} at test ratio {ratio:g}", changes)


def share_job(job: Job, rows: pd.DataFrame, share: float) -> Rows:
    """Return the job that predicts the held-out images with another share of the tuned weights.

    Parameters
    ----------
    job, rows
        The job whose network is taken, and its rows.
    share
        Of the tuned weights, 0 to 1; the rest are those that the fit began with.

    References
    ----------
    Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022.
    """
    # A fit that keeps a share itself leaves the tuned weights beside.
    tuned = WEIGHTS if job.tuned_share == 1 else TUNED
    changes = {"fit": "none", "trained": str(Path(job.folder) / tuned), "tuned_share": share}
    return _tried(job, rows, f"shares/{share:g}", f"{job.name} with tuned share {share:g}", changes)


def _tried(job: Job, rows: pd.DataFrame, place: str, name: str, changes: dict[str, Any]) -> Rows:
    """The job that predicts the held-out images alone by what another one trained."""
    kept = {"keep": ["logits"], "keep_weights": False}
    tried = job.elsewhere(Path(job.folder) / place, name, **changes, **kept)
    return tried, rows.assign(predict=rows["validate"])
