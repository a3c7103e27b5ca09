"""What a network has to beat: the probe of its own backbone, on the same images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fgvc_utils.contest.config import Shared
from fgvc_utils.core.files import read_json
from fgvc_utils.jobs.features import VIEWS
from fgvc_utils.jobs.predictions import is_whole
from fgvc_utils.jobs.records import DONE, Job, read_job
from fgvc_utils.jobs.rows import Rows, judged_images, read_rows
from fgvc_utils.jobs.running import work_folder
from fgvc_utils.training.probes import MOST_STEPS, is_probe

# The middle of the decays that 10_train tries of a probe.
DECAY = 0.01
ADVICE = (
    "try start_head: probe, a lower base_lr, freeze_statistics: true or a larger size, or let the "
    "probe itself be a model (fit: probe)"
)


class Floor(NamedTuple):
    """How the probe of a network's backbone fares on the network's held-out images.

    Attributes
    ----------
    top1 : float
        Its share of right answers, 0 to 1.
    n : int
        The number of images.
    """

    top1: float
    n: int


def floor_jobs(cfg: Shared, models: Sequence[Path]) -> dict[str, Rows]:
    """Return the fits of the probes that networks are measured by, by the network's name.

    Such a probe learns from the labelled images that its network learned from, on the stored
    features of the same backbone and weights, and is judged by the same images. None is fitted
    where the run has a probe of that backbone as a model, where no features are stored, and where
    no image is held out.

    Parameters
    ----------
    cfg : Shared
        Names the run.
    models : sequence of Path
        The models' folders.
    """
    jobs, stored = {}, _stored_features(cfg)
    networks, probes = _networks_and_probes(models)
    for model, job in networks.items():
        features = stored.get((job.backbone, _first_weights(job)))
        if features is None or _own_probe(job, probes):
            continue
        rows = read_rows(job)
        if not rows["validate"].any():
            continue
        folder = work_folder(cfg, "floors", model)
        probe = Job(
            name=f"probe of {model}'s backbone",
            folder=folder,
            rows=f"{folder}/rows.parquet",
            classes=job.classes,
            fit="head",
            size=features.size,
            test_ratio=features.test_ratio,
            stores=[str(features.store)],
            train_views=list(VIEWS),
            test_views=list(VIEWS),
            optimiser="lbfgs",
            epochs=MOST_STEPS,
            weight_decay=DECAY,
            balance=job.balance,
            keep_prior=job.keep_prior,
            keep_empty=job.keep_empty,
            soft_labels=job.soft_labels,
            keep=[],
            keep_weights=False,
        )
        # A student's images of the test set have no label.
        fit = rows["fit"] & (rows["target"] != "")
        jobs[model] = probe, rows.assign(fit=fit, predict=False)
    return jobs


def read_floors(cfg: Shared, models: Sequence[Path]) -> dict[str, Floor]:
    """Return the probes' figures by network, those of networks alone that have one.

    Parameters
    ----------
    cfg : Shared
        Names the run; the jobs of `floor_jobs` are done.
    models : sequence of Path
        The models' folders.
    """
    found = {}
    networks, probes = _networks_and_probes(models)
    for model, job in networks.items():
        probe = _own_probe(job, probes) or Path(work_folder(cfg, "floors", model))
        figures = read_json(probe / DONE)["figures"] if (probe / DONE).is_file() else {}
        if figures.get("n"):
            found[model] = Floor(figures["top1"], int(figures["n"]))
    return found


def beside_floor(top1: float, floor: Floor | None) -> dict[str, float | str | None]:
    """Return what a table shows of a network's probe: `probe`, its top-1, and `below probe`."""
    if floor is None:
        return {"probe": None, "below probe": None}
    return {"probe": floor.top1, "below probe": "yes" if top1 < floor.top1 else "no"}


def with_floors(table: pd.DataFrame, floors: Mapping[str, Floor]) -> pd.DataFrame:
    """Return a table by model, which has their top1, with the columns of `beside_floor`."""
    beside = [beside_floor(top1, floors.get(name)) for name, top1 in table["top1"].items()]
    return table.join(pd.DataFrame(beside, index=table.index, columns=["probe", "below probe"]))


def said_of_floors(floors: Mapping[str, Floor], top1: Mapping[str, float]) -> str:
    """Return in words which networks are below the probe of their backbone, and what to try.

    Parameters
    ----------
    floors : mapping of str to Floor
        Those of `read_floors`.
    top1 : mapping of str to float
        Each network's held-out top-1, by name; one that was judged on nothing is no number.
    """
    below = [
        f"{name} ({share:.1%} against {floors[name].top1:.1%} of {floors[name].n})"
        for name, share in top1.items()
        if name in floors and share < floors[name].top1
    ]
    unknown = [name for name, share in top1.items() if name not in floors and share == share]
    lines = [f"below the probe of its own backbone: {', '.join(below)}; {ADVICE}"] if below else []
    if unknown:
        lines.append(
            f"no probe to measure {', '.join(unknown)} by: the run holds no features of that "
            "backbone with those weights; a section of 10_train with fit: probe makes them"
        )
    return "\n".join(lines)


def _networks_and_probes(models: Sequence[Path]) -> tuple[dict[str, Job], dict[str, Job]]:
    """The models that are networks, by name, and those that are probes."""
    jobs = {model.name: read_job(model / "job.json") for model in models}
    probes = {name: job for name, job in jobs.items() if is_probe(job)}
    return {name: job for name, job in jobs.items() if name not in probes}, probes


def _first_weights(job: Job) -> str:
    """Where the weights came from that a network began with, or those that it began from."""
    while job.start_weights:
        job = read_job(Path(job.start_weights).parent / "job.json")
    return job.weights


def _stored_features(cfg: Shared) -> dict[tuple[str, str], Job]:
    """The features of the run by their network and its weights, of several sizes the largest."""
    files = sorted((cfg.folder / "features").glob("*/job.json"))
    jobs = [job for job in map(read_job, files) if is_whole(job.store)]
    return {(job.backbone, job.weights): job for job in sorted(jobs, key=lambda job: job.size)}


def _own_probe(job: Job, probes: Mapping[str, Job]) -> Path | None:
    """The probe of a network's backbone that is a model, judged by the same images, if any."""
    folders = [Path(probe.folder) for probe in probes.values() if probe.backbone == job.backbone]
    judged = judged_images(Path(job.folder)) if folders else set()
    return next((f for f in folders if judged and judged_images(f) == judged), None)
