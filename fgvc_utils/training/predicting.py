"""Predictions of a network: logits and features of a job's rows, written in bounded memory."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.predictions import ShardWriter, finish_store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.reduction import reduce_block
from fgvc_utils.jobs.views import TEST_VIEWS
from fgvc_utils.training.autotune import autotune, pays, shapes_of
from fgvc_utils.training.crops import resized_crops
from fgvc_utils.training.feed import InTurn
from fgvc_utils.training.loading import Fetched, OnDevice, loader, one_behind
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import MASKED, PictureNetwork, autocast_dtype, without_prior
from fgvc_utils.training.resizing import resizing_of

BATCH = 64


@torch.no_grad()
def predict(
    job: Job, material: Material, network: nn.Module, processes: Processes, progress: Progress
) -> dict[str, float]:
    """Write what the job keeps of its rows into its store; the same call on every process.

    Classes without a train image get a logit of -10,000 unless the job keeps them; the frozen prior
    is taken out unless the job keeps it. Where `test_time`, an entry of `TEST_VIEWS`, has several
    crops, `logits` are the log of their mean softmax, and `features` those of the centre.

    Parameters
    ----------
    job : Job
        What to keep: see Notes.
    material : Material
        The job's rows and pictures or stored features.
    network : nn.Module
        A network of pictures, or a head on stored features; it is moved to the processes' device.
    processes : Processes
        Which share of the rows this process takes, and on what device.
    progress : Progress
        Told after each batch.

    Returns
    -------
    dict
        `seconds`, `images_per_second` over all processes, every view counted, and `waiting`, the
        share of the time in which this process waited for pictures or stored features.

    Raises
    ------
    OSError
        A picture or a store cannot be read, or the store cannot be written.

    Notes
    -----
    All arrays are float16. `logits` (images, classes) and `features` (images, width) are of the
    test view, `mirror` are features of its mirror image, `augmented-0` … features of views changed
    at random like those of training, and `view-0` … logits of the views that a student with the
    same seed and recipe sees in its epochs. `reduced` stands for the arrays of `reduction`: the
    largest probabilities, and how each image's label fares.
    """
    network = network.to(processes.device).eval()
    masked = material.masked.to(processes.device)
    began, waited = time.monotonic(), 0.0
    rows = processes.share(material.predict_rows)
    writer = ShardWriter(job.store, processes.rank, [material.ids[row] for row in rows])
    passes = _passes(job, material)
    total, done = len(rows) * len(passes), 0
    batches = len(passes) * math.ceil(len(rows) / BATCH)
    with autotune(pays(batches, shapes_of(len(rows), BATCH))):
        for kind, datasets, epoch in passes:
            views = [
                _on_their_way(each, InTurn(rows, BATCH, epoch), processes) for each in datasets
            ]
            computed = _computed(job, network, masked, kind, zip(*views, strict=True))
            start = 0
            # The device computes a batch while the one before is fetched and written.
            for fetched in one_behind(computed):
                arrays = fetched.arrays()
                count = len(next(iter(arrays.values())))
                if (values := arrays.pop("reduced", None)) is not None:
                    labels = material.judged[rows[start : start + count]]
                    arrays |= reduce_block(values, labels, job.reduce_to)
                for name, array in arrays.items():
                    writer.write(name, start, array)
                start += count
                done += count
                progress.step(job.name, done, total, f"predicting {kind}".strip())
            waited += sum(view.waited for view in views)
    writer.close()
    processes.wait()
    if processes.first:
        # A process that had no image left has no array either.
        shards = max(1, min(processes.count, len(material.predict_rows)))
        finish_store(Path(job.store), job.classes, shards)
    seconds = time.monotonic() - began
    return {
        "images_per_second": len(material.predict_rows) * len(passes) / seconds,
        "waiting": waited / seconds,
        "seconds": seconds,
    }


def _on_their_way(dataset: Dataset, batches: InTurn, processes: Processes) -> OnDevice:
    return OnDevice(loader(dataset, batches, processes), processes.device, targets_too=False)


def _computed(
    job: Job, network: nn.Module, masked: torch.Tensor, kind: str, views: Iterable[tuple]
) -> Iterator[Fetched]:
    """What a pass writes of each batch, by its name; `reduced` are probabilities yet to reduce."""
    kept = set(job.keep)
    if kind:
        kept = {"logits"} if kind.startswith("view-") else {"features"}
    for batches in views:
        crops = [crop for pictures, _ in batches for crop in _crops(network, pictures)]
        outputs = [_both(network, crop, job.precision) for crop in crops]
        written = {}
        if kept & {"logits", "reduced"}:
            by_crop = [without_prior(logits, network, job) for _, logits in outputs]
            by_crop = [each.masked_fill(masked, MASKED) for each in by_crop]
            # A head's views are averaged as logits, a picture's as probabilities.
            logits = sum(by_crop) / len(by_crop) if job.fit == "head" else log_mean_softmax(by_crop)
            if "logits" in kept:
                written[kind or "logits"] = logits.half()
            if "reduced" in kept:
                written["reduced"] = logits.softmax(dim=1)
        if "features" in kept:
            written[kind or "features"] = outputs[0][0].half()
        yield Fetched(written)


def _passes(job: Job, material: Material) -> list[tuple[str, list[object], int]]:
    """What is predicted one after the other: its name, the data sets, the epoch that seeds them."""
    passes: list[tuple[str, list[object], int]] = []
    if set(job.keep) & {"logits", "reduced", "features"}:
        passes.append(("", _test_sets(job, material), 0))
    if "mirror" in job.keep:
        passes.append(("mirror", [material.test_pictures(mirrored=True)], 0))
    if {"augmented", "views"} & set(job.keep):
        changed = [material.train_pictures()]
        if "augmented" in job.keep:
            names = range(job.augmented_views)
            passes += [(f"augmented-{n}", changed, job.epochs + n) for n in names]
        if "views" in job.keep:
            passes += [(f"view-{n}", changed, n) for n in range(job.teacher_views)]
    return passes


def _test_sets(job: Job, material: Material) -> list[object]:
    """The data sets of the test view: several of a head, whose logits are averaged, else one."""
    if job.fit == "head":
        return [material.test_set(view) for view in job.test_views]
    return [_several_crops(job, material) if job.several_crops else material.test_set()]


def _several_crops(job: Job, material: Material) -> object:
    view = TEST_VIEWS[job.test_time]
    crops = resized_crops(view, job.size, job.test_ratio, resizing_of(job.backbone))
    return replace(material.test_pictures(), view=crops)


def _crops(network: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The crops that lie behind each other in the channels of a batch; a head has but one."""
    return batch.split(3, dim=1) if isinstance(network, PictureNetwork) else (batch,)


def log_mean_softmax(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Take the log of the mean softmax of several crops.

    Parameters
    ----------
    logits : sequence of torch.Tensor
        Float (batch, classes) each, one a crop.

    Returns
    -------
    torch.Tensor
        Float (batch, classes); where there is one crop, its logits as they are.
    """
    if len(logits) == 1:
        return logits[0]
    stacked = torch.stack([each.log_softmax(dim=1) for each in logits])
    return stacked.logsumexp(dim=0) - math.log(len(logits))


def _both(
    network: nn.Module, batch: torch.Tensor, precision: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and logits of a batch, float32."""
    dtype = autocast_dtype(precision, batch.device)
    with torch.autocast(batch.device.type, dtype, enabled=dtype is not None):
        if isinstance(network, PictureNetwork):
            features, logits = network.features_and_logits(batch)
        else:
            features, logits = batch, network(batch)
    return features.float(), logits.float()
