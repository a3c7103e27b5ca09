"""The jobs by which a fit's classifier begins as a probe of its frozen network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.core.files import read_json
from fgvc_utils.core.intervals import wilson
from fgvc_utils.jobs.records import DONE, WEIGHTS, Job
from fgvc_utils.jobs.rows import Rows

# The most steps of L-BFGS; it ends earlier where the gradient is flat.
STEPS = 300
# The fields that a probe shares with the fit: what it learns, and what it sees.
SAME_TARGETS = ("label_smoothing", "balance", "keep_prior", "keep_empty", "teachers")
SAME_TARGETS += ("teacher_weight", "temperature", "fold_clean", "soft_labels")
SAME_PICTURES = ("backbone", "weights", "start", "start_weights", "size", "test_ratio", "decoded")


def probe_jobs(job: Job, rows: pd.DataFrame, decays: Sequence[float]) -> list[Rows]:
    """Return the jobs that fit linear heads on the features of a job's network before it learns.

    The first one computes features of the images that are learnt from and held out, at the job's
    size, with their mirror images; each further one fits a head on them, by the job's own loss,
    with one of the weight decays. They are to be carried out in this order.

    Parameters
    ----------
    job : Job
        The fit that is to begin with a head; its teachers are those whose predictions of the test
        view teach it.
    rows : DataFrame
        Its rows.
    decays : sequence of float
        Weight decays, of a layer on features that are divided by the root of their mean square.
    """
    if not decays:
        raise ValueError(f"job {job.name}: start_head probe needs a decay in start_head_decays")
    seen = rows[rows["fit"] | rows["validate"]].assign(predict=False)
    features = _beside(
        job,
        "features",
        f"{job.name}: features",
        fit="none",
        seed=job.seed,
        precision=job.precision,
        keep=["features", "mirror"],
        keep_weights=False,
        **_fields(job, SAME_PICTURES),
    )
    # Labels may change; the features stay.
    shown = seen.assign(predict=True, fit=False, validate=False, target="", label="")
    probes = [
        _beside(
            job,
            f"decay-{decay:g}",
            f"{job.name}: probe, decay {decay:g}",
            fit="head",
            stores=[str(features.store)],
            train_views=["features", "mirror"],
            head_scale="common",
            optimiser="lbfgs",
            epochs=STEPS,
            weight_decay=decay,
            keep=[],
            **_fields(job, SAME_TARGETS),
        )
        for decay in decays
    ]
    return [(features, shown), *((probe, seen) for probe in probes)]


def _fields(job: Job, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(job, name) for name in names}


def _beside(job: Job, folder: str, name: str, **fields: Any) -> Job:
    place = Path(job.folder) / "probe" / folder
    own = {"folder": str(place), "rows": str(place / "rows.parquet"), "classes": job.classes}
    return Job(name=name, **own, **fields)


def probe_table(jobs: Sequence[Rows]) -> pd.DataFrame:
    """Compare the probes of `probe_jobs`, which are done.

    Returns
    -------
    DataFrame
        A row a probe: decay, top1 of the held-out images with low and high, its 95 % interval
        (Wilson 1927), n, their number, loss, their cross-entropy, train_loss, and weights, the
        file. The first has the least loss, which separates decays that differ by no more than a few
        images. Where no image is held out, the order is that of the decays, and the columns from
        top1 to loss are missing.
    """
    table = []
    for job, _ in jobs:
        if job.fit != "head":
            continue
        figures = read_json(Path(job.folder) / DONE)["figures"]
        row = {"decay": job.weight_decay, "weights": str(Path(job.folder) / WEIGHTS)}
        if "top1" in figures:
            top1, n = figures["top1"], int(figures["n"])
            low, high = wilson(round(top1 * n), n)
            row |= {"top1": top1, "low": low, "high": high, "n": n, "loss": figures["loss"]}
        table.append(row | {"train_loss": figures["train_loss"]})
    found = pd.DataFrame(table)
    if "top1" not in found:
        return found
    return found.sort_values("loss", ignore_index=True)


def begin_with_best(job: Job, probes: pd.DataFrame) -> Job:
    """Return a job whose classifier begins as the first probe of a table of `probe_table`."""
    return job.model_copy(update={"probe": probes["weights"].iloc[0]})
