"""The step from a notebook to the ranks: jobs are written and those not done are launched."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.parameters import accumulation
from fgvc_utils.core.files import write_json
from fgvc_utils.core.locks import only_one
from fgvc_utils.hardware.launch import launch, start
from fgvc_utils.hardware.plan import Hardware
from fgvc_utils.jobs.done import is_done, why_not_done
from fgvc_utils.jobs.records import DONE, Job, as_written
from fgvc_utils.jobs.rows import FOLD, ROW_COLUMNS, Rows, write_rows

# What the ranks are asked that is no job, in the folder of its launch.
REQUEST = "request.json"


def hardware(cfg: Shared) -> Hardware:
    """The launch settings of a stage's parameters."""
    return Hardware(
        processes=cfg.processes,
        nodes=cfg.nodes,
        rendezvous=cfg.rendezvous,
        threads=cfg.threads,
        device=cfg.device,
        workers=cfg.workers,
        warm=cfg.warm_ranks,
    )


def start_ranks(cfg: Shared) -> None:
    """Have the ranks made ready while the notebook reads its tables; returns at once.

    Where the pipeline runs the notebook they are ready already.

    Raises
    ------
    ValueError
        More processes than GPUs, or a rendezvous that cannot be.
    """
    start(hardware(cfg), cfg.folder)


def run_jobs(
    jobs: list[Rows],
    cfg: Shared,
    stage: str,
    picture: Callable[[list[dict]], Any] | None = None,
) -> None:
    """Write the jobs with their rows and launch those that are not done; shows progress.

    Parameters
    ----------
    jobs
        Each job with its rows.
    cfg
        The stage's parameters.
    stage
        The launch's files lie in `launches/<stage>` of the run.
    picture
        Such as `plots.live_curves`: makes a figure of the epochs so far, which is shown in the cell
        and kept up to date.

    Raises
    ------
    ParameterError
        A global batch cannot be cut up among the processes.
    ValueError
        Rows are wrong; see `write_job`.
    Held
        Another launch works on one of the jobs.
    RankFailed
        With a rank's own traceback; what else `launch` raises comes through too.
    """
    for job, _ in jobs:
        if not job.whole_batch:
            accumulation(job.global_batch, job.micro_batch, cfg.processes * cfg.nodes)
    with ExitStack() as held:
        for job, _ in jobs:
            # Before a file is written: what another launch reads must stay as it is.
            held.enter_context(_only_launch(job))
        files = [write_job(job, rows) for job, rows in jobs]
        done = [is_done(job) for job, _ in jobs]
        for (job, _), is_there in zip(jobs, done, strict=True):
            if is_there:
                print(f"{job.name}: done before")
        if open_files := [file for file, is_there in zip(files, done, strict=True) if not is_there]:
            folder = cfg.folder / "launches" / stage
            launch(open_files, folder, hardware(cfg), picture=picture, meet=cfg.folder)


def ask_ranks(entry: str, request: dict[str, Any], cfg: Shared, stage: str) -> None:
    """Have the ranks do something small that is no job, but needs what they have loaded.

    Parameters
    ----------
    entry
        `module:function` that each rank calls with the path of `launch.json`; the launch's only
        job is the file of the request.
    request
        Plain data.
    cfg
        The stage's parameters.
    stage
        The launch's files lie in `launches/<stage>` of the run.

    Raises
    ------
    RankFailed
        With a rank's own traceback; what else `launch` raises comes through too.
    """
    folder = cfg.folder / "launches" / stage
    file = folder / REQUEST
    write_json(request, file)
    launch([file], folder, hardware(cfg), entry=entry, meet=cfg.folder, shown=False)


def _only_launch(job: Job) -> AbstractContextManager[None]:
    return only_one(
        Path(job.folder) / ".job.lock",
        f"job {job.name}: another launch works on it in {job.folder}",
        "wait for it, or end it",
    )


def work_folder(cfg: Shared, stage: str, name: str) -> str:
    """Where a stage's jobs write, by name."""
    return str(cfg.folder / "work" / stage / name)


def write_job(job: Job, rows: pd.DataFrame) -> Path:
    """Write a job and its rows, checked; returns the job's file.

    Where the job was done before and is so no more, it prints why.

    Parameters
    ----------
    job
        The job.
    rows
        Its rows, with the columns ROW_COLUMNS, as `job_rows` makes them.

    Raises
    ------
    ValueError
        Naming the job and the column, the class or the setting that is wrong.
    """
    missing = [column for column in ROW_COLUMNS if column not in rows]
    if missing:
        raise ValueError(f"job {job.name}: its rows lack the column(s) {', '.join(missing)}")
    taught = rows[rows["fit"] | rows["validate"]]
    strangers = (
        set(taught["target"]) - set(job.classes) - ({""} if job.teacher_weight == 1 else set())
    )
    if strangers:
        raise ValueError(
            f"job {job.name}: target {sorted(strangers)[0]!r} is not among its classes"
        )
    if "reduced" in job.keep:
        unknown = set(rows.loc[rows["predict"], "label"]) - set(job.classes)
        if unknown:
            raise ValueError(f"job {job.name}: label {sorted(unknown)[0]!r} is not a class of it")
    if job.fit != "none" and not rows["fit"].any():
        raise ValueError(f"job {job.name}: no image is left to fit")
    fits = job.fit == "head" and job.optimiser == "lbfgs" and not job.label_smoothing
    if job.crossed and not (fits and job.keep == ["reduced"]):
        raise ValueError(
            f"job {job.name}: only heads by lbfgs, without label smoothing, are crossed, and only "
            "reduced predictions are kept of them"
        )
    if job.crossed != (FOLD in rows):
        raise ValueError(f"job {job.name}: rows have a column {FOLD} where a job is crossed")
    if job.optimiser == "lbfgs" and job.fit == "full":
        raise ValueError(f"job {job.name}: lbfgs fits a head; give a whole network another one")
    if job.compile and job.gradient_checkpointing:
        raise ValueError(
            f"job {job.name}: compile and gradient_checkpointing exclude each other: switch one off"
        )
    _check_beginning_and_end(job)
    if not job.whole_batch and job.global_batch > rows["fit"].sum():
        raise ValueError(
            f"job {job.name}: global_batch {job.global_batch} is larger than its "
            f"{int(rows['fit'].sum())} train images; make global_batch smaller"
        )
    write_rows(rows, Path(job.rows))
    write_json(as_written(job), job.job_file)
    done = Path(job.folder) / DONE
    if done.is_file() and (reason := why_not_done(job)):
        print(f"{job.name}: is done anew, {reason}")
        # Figures of other rows must not be taken for this job's, whatever happens before it ends.
        done.unlink()
    return job.job_file


def _check_beginning_and_end(job: Job) -> None:
    """Raise ValueError where what a fit begins with or keeps cannot be."""
    if job.ema_decay and job.swa_epochs:
        raise ValueError(f"job {job.name}: ema_decay and swa_epochs exclude each other: set one 0")
    if job.fit == "none":
        return
    if job.swa_epochs > job.epochs:
        raise ValueError(
            f"job {job.name}: swa_epochs {job.swa_epochs} are more than its epochs {job.epochs}"
        )
    if not job.epochs and not job.start_weights:
        raise ValueError(f"job {job.name}: epochs may be 0 only where it has a start")
    if job.start_weights and not (Path(job.start_weights).parent / DONE).is_file():
        raise ValueError(
            f"job {job.name}: the model {job.start!r} that it starts from is not there; train that "
            "one first"
        )
    if job.start_head == "probe" and not job.probe:
        raise ValueError(f"job {job.name}: start_head is probe, but it names none")
