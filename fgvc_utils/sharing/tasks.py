"""Finished jobs, asked for further images: which networks and heads an answer needs, in order."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from fgvc_utils.core.reading import read_parquet
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import WEIGHTS, Job, read_job
from fgvc_utils.jobs.rows import write_rows
from fgvc_utils.training.heads import Head
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import new_network
from fgvc_utils.training.predicting import predict
from fgvc_utils.training.probes import is_probe
from fgvc_utils.training.recipes import as_trained
from fgvc_utils.training.weights import read_state

AGAIN = "train that model again"
# What a job that asks a finished one has of its own.
ASKED: dict[str, Any] = {
    "keep_weights": False,
    "renew_statistics": False,
    "rate_sweep_steps": 0,
    "augmented_views": 0,
    "decoded": "",
    "teachers": [],
    "fold_clean": False,
}


class Task:
    """A finished job whose network or head is to see further images.

    Parameters
    ----------
    folder : Path
        The job's.

    Attributes
    ----------
    job : Job
        The job as it was done.
    keep : set of str
        The arrays that are wanted of it.
    reads : list of Path
        Of a head: the folders of the jobs whose arrays it reads, side by side.

    Raises
    ------
    FileNotFoundError
        It keeps no weights; says what to do.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.job = read_job(self.folder / "job.json")
        self.keep: set[str] = set()
        self.reads = [Path(store).parent for store in self.job.stores]
        frozen = self.job.fit == "none" and not self.job.trained
        self.trained = (self.folder / WEIGHTS).is_file()
        if not self.trained and not frozen:
            raise FileNotFoundError(f"{self.folder} keeps no {WEIGHTS}: {AGAIN}")
        self._counts: np.ndarray | None = None

    @property
    def counts(self) -> np.ndarray:
        """Train images of each class, int (classes,): what it never saw it does not answer."""
        if self._counts is None:
            rows = read_parquet(Path(self.job.rows), AGAIN, ["target", "fit"])
            fitted = rows.loc[rows["fit"], "target"].value_counts()
            self._counts = fitted.reindex(self.job.classes, fill_value=0).to_numpy()
        return self._counts

    def asked(self, folder: Path, stores: list[str], view: str) -> Job:
        """The job that shows further images to what this one trained.

        Parameters
        ----------
        folder : Path
            Where its arrays go.
        stores : list of str
            Of a head: the arrays of these images.
        view : str
            An entry of `TEST_VIEWS`, for a network's logits.
        """
        head = is_probe(self.job)
        changes = as_trained(self.job) if self.trained and not head else {}
        changes |= {"keep": sorted(self.keep), "stores": stores}
        changes |= {"test_time": view} if "logits" in self.keep and not head else {}
        return self.job.elsewhere(folder, self.job.name, **(ASKED | changes))

    def network(self, job: Job, material: Material) -> nn.Module:
        """What sees the images: a network of pictures, or a head on the arrays of others."""
        return (
            trained_head(self.folder, job, material.stores)
            if job.stores
            else new_network(job, material)
        )


def trained_head(folder: Path, job: Job, stores: list[Store]) -> nn.Module:
    """Return the head that a job trained.

    Parameters
    ----------
    folder : Path
        Of the job that trained it.
    job : Job
        Which has its form.
    stores : list of Store
        Any whose arrays are as wide as those that it learnt from.
    """
    view = job.test_views[0]
    widths = [store.read_rows(view, np.arange(0)).shape[1] for store in stores]
    return head_of(folder, job, widths)


def head_of(folder: Path, job: Job, widths: list[int]) -> nn.Module:
    """The same from the widths of the features that it reads."""
    scale = job.head_scale == "common"
    # Its mean and its scale are among the weights.
    train = torch.zeros(2, sum(widths))
    head = Head(train, widths, len(job.classes), job.head, job.dropout, scale)
    state = read_state(folder / WEIGHTS, AGAIN)
    try:
        head.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{folder / WEIGHTS} does not fit its job ({error}): {AGAIN}") from error
    return head.eval()


class Asked:
    """Several finished jobs and all that they read of others, to be shown further images.

    Parameters
    ----------
    wanted : mapping of Path to iterable of str
        Folder of a job → the arrays that are wanted of it, such as `logits`.
    view : str
        The view by which networks see images, an entry of `TEST_VIEWS`.

    Raises
    ------
    FileNotFoundError, UnreadableFile
        A job is gone, spoilt or keeps no weights.
    """

    def __init__(self, wanted: Mapping[Path, Iterable[str]], view: str = "centre") -> None:
        self.view = view
        # In an order in which each comes after what it reads.
        self.tasks: dict[Path, Task] = {}
        for folder, kinds in wanted.items():
            self._want(Path(folder), set(kinds))

    def _want(self, folder: Path, kinds: set[str]) -> None:
        folder = folder.resolve()
        task = self.tasks.pop(folder, None) or Task(folder)
        for read in task.reads:
            self._want(read, set(task.job.test_views))
        task.keep |= kinds
        self.tasks[folder] = task

    def show(self, images: pd.DataFrame, folder: Path, processes: Processes) -> dict[Path, Path]:
        """Show images to all of them.

        Parameters
        ----------
        images : DataFrame
            Columns image_id and file, a picture of a cache.
        folder : Path
            Where the arrays go.
        processes : Processes
            This process, and the device.

        Returns
        -------
        dict of Path to Path
            Folder of a job → the folder whose `predictions` are its arrays of these images.
        """
        rows = images[["image_id", "file"]].assign(
            target="", label="", fit=False, validate=False, predict=True
        )
        made: dict[Path, Path] = {}
        for number, (own, task) in enumerate(self._in_order()):
            place = folder / f"{number:03d}"
            shutil.rmtree(place, ignore_errors=True)
            stores = [str(made[read.resolve()] / "predictions") for read in task.reads]
            job = task.asked(place, stores, self.view)
            write_rows(rows, Path(job.rows))
            material = Material(job)
            # The classes that it answers are those that it was trained on.
            material.counts = task.counts
            predict(job, material, task.network(job, material), processes, Progress(None))
            made[own] = place
        return made

    def _in_order(self) -> Iterable[tuple[Path, Task]]:
        left, done = dict(self.tasks), set()
        while left:
            ready = [f for f, t in left.items() if {r.resolve() for r in t.reads} <= done]
            for folder in ready:
                yield folder, left.pop(folder)
                done.add(folder)
