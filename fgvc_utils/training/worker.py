"""What runs in each rank: read the launch, carry out its jobs."""

import importlib
import shutil
import time
from pathlib import Path

from fgvc_utils.hardware.distributed import Processes, joined
from fgvc_utils.hardware.plan import read_launch
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.done import is_done, mark_done
from fgvc_utils.jobs.records import Job, read_job
from fgvc_utils.jobs.sources import Definition, reached
from fgvc_utils.training.crossed import cross
from fgvc_utils.training.fitting import LAST, fit
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import new_network
from fgvc_utils.training.predicting import predict
from fgvc_utils.training.renewing import renewed


def warm() -> None:
    """Do once what each job would do: read the package's code, import what pandas imports late."""
    for name in ("pyarrow.parquet", "pyarrow.dataset", "pyarrow.pandas_compat"):
        importlib.import_module(name)
    reached([Definition("training.worker", "carry_out")])


def run(launch_file: str) -> None:
    """Carry out the jobs of a launch file, one after another, in this process and its peers."""
    launch = read_launch(launch_file)
    hardware = launch.hardware
    with joined(hardware.device, hardware.workers, hardware.timeout_minutes) as processes:
        progress = Progress(launch.events if processes.first else None)
        for file in launch.jobs:
            carry_out(read_job(file), processes, progress)


def carry_out(job: Job, processes: Processes, progress: Progress) -> None:
    """Fit and predict one job, unless it was done before with the same rows and stores.

    Parameters
    ----------
    job : Job
        As its file has it; its rows are written.
    processes : Processes
        This process and its peers, which all call this.
    progress : Progress
        Where figures and steps are reported.
    """
    started = time.monotonic()
    if is_done(job):
        progress.finished(job.name, 0)
        return
    # Nobody may clear the old results while a peer still asks whether they are there.
    processes.wait()
    if processes.first:
        # Cut off from here on, the job is not done, whatever it was before.
        (Path(job.folder) / "done.json").unlink(missing_ok=True)
        shutil.rmtree(job.store, ignore_errors=True)
    processes.wait()
    material = Material(job)
    network = new_network(job, material)
    history: list[dict] = []
    predicting: dict[str, float] = {}
    if job.crossed:
        history = [cross(job, material, network, processes, progress)]
    elif job.fit != "none":
        network, history = fit(job, material, network, processes, progress)
    if job.renew_statistics:
        history = [renewed(job, material, network, processes, progress)]
    if job.keep and not job.crossed:
        predicting = predict(job, material, network, processes, progress)
    seconds = time.monotonic() - started
    if processes.first:
        figures = history[-1] if history else {}
        mark_done(job, material.digest, seconds, figures, material.code, predicting)
        # The last epoch's state serves until here, should the predictions be cut off.
        (Path(job.folder) / LAST).unlink(missing_ok=True)
    processes.wait()
    progress.finished(job.name, seconds)
