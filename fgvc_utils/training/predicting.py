"""A network to a store: logits and features of a job's rows, in bounded memory."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.predictions import ShardWriter, finish_store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.reduction import reduce_block
from fgvc_utils.training import augment
from fgvc_utils.training.feed import InTurn
from fgvc_utils.training.fitting import loader
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import MASKED, PictureNetwork, autocast_dtype, without_prior

BATCH = 64


@torch.no_grad()
def predict(
    job: Job, material: Material, network: nn.Module, processes: Processes, progress: Progress
) -> None:
    """Write what the job keeps of its rows: arrays `logits`, `features`, `mirror`, `augmented-0` …

    Arrays are float16: logits (images, classes), features (images, width) of the test view, of its
    mirror image, and of views changed at random like those of training; `view-0` … are logits of
    the views that a student with the same seed and recipe sees in its epochs. `reduced` stands for
    the arrays of `reduction`: the job's largest probabilities and how each image's label fares.
    Classes without a train image get a logit of -10,000 unless the job keeps them; the frozen prior
    is taken out unless the job keeps it. Several test-time views of a picture are averaged as
    probabilities: `logits` are then the log of the mean softmax; `features` stay the centre's.
    """
    network = network.to(processes.device).eval()
    masked = material.masked.to(processes.device)
    rows = processes.share(material.predict_rows)
    writer = ShardWriter(job.store, processes.rank, [material.ids[row] for row in rows])
    passes = _passes(job, material)
    total, done = len(rows) * len(passes), 0
    for kind, datasets, epoch in passes:
        views = [loader(dataset, InTurn(rows, BATCH, epoch), processes) for dataset in datasets]
        for start, batches in _counted(zip(*views, strict=True)):
            crops = [crop for batch, _ in batches for crop in _crops(network, batch)]
            said = [_both(network, crop.to(processes.device), job.precision) for crop in crops]
            features, spoken = said[0][0], [logits for _, logits in said]
            if kind.startswith("view-") or (not kind and {"logits", "reduced"} & set(job.keep)):
                spoken = [without_prior(each, network, job) for each in spoken]
                spoken = [each.masked_fill(masked, MASKED) for each in spoken]
            # A head's views are averaged as logits, a picture's as probabilities.
            logits = sum(spoken) / len(spoken) if job.fit == "head" else log_mean_softmax(spoken)
            if not kind and "logits" in job.keep:
                writer.write("logits", start, logits.cpu().numpy().astype(np.float16))
            if not kind and "reduced" in job.keep:
                labels = material.judged[rows[start : start + len(logits)]]
                values = logits.softmax(dim=1).cpu().numpy()
                for name, array in reduce_block(values, labels, job.reduce_to).items():
                    writer.write(name, start, array)
            if kind.startswith("view-"):
                writer.write(kind, start, logits.cpu().numpy().astype(np.float16))
            elif kind or "features" in job.keep:
                writer.write(kind or "features", start, features.cpu().numpy().astype(np.float16))
            done += len(logits)
            progress.step(job.name, done, total, f"predicting {kind}".strip())
    writer.close()
    processes.wait()
    if processes.first:
        # A process that had no image left has no array either.
        shards = max(1, min(processes.count, len(material.predict_rows)))
        finish_store(Path(job.store), job.classes, shards)


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
    """What is predicted: a head's test views, whose logits are averaged, or the one test view."""
    if job.fit == "head":
        return [material.test_set(view) for view in job.test_views]
    if job.test_time != "centre":
        view = augment.test_views(job.test_time, job.size, job.test_ratio)
        return [replace(material.test_pictures(), view=view)]
    return [material.test_set()]


def _crops(network: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The views that stand side by side in the channels of a batch; a head has but one."""
    return batch.split(3, dim=1) if isinstance(network, PictureNetwork) else (batch,)


def log_mean_softmax(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Log of the mean softmax of several views, (batch, classes); one view's logits stay."""
    if len(logits) == 1:
        return logits[0]
    spoken = torch.stack([each.log_softmax(dim=1) for each in logits])
    return spoken.logsumexp(dim=0) - math.log(len(logits))


def _counted(views: Iterable[tuple]) -> Iterator[tuple[int, tuple]]:
    start = 0
    for batches in views:
        yield start, batches
        start += len(batches[0][0])


def _both(
    network: nn.Module, batch: torch.Tensor, precision: str
) -> tuple[torch.Tensor, torch.Tensor]:
    dtype = autocast_dtype(precision, batch.device)
    with torch.autocast(batch.device.type, dtype, enabled=dtype is not None):
        if isinstance(network, PictureNetwork):
            features, logits = network.features_and_logits(batch)
        else:
            features, logits = batch, network(batch)
    return features.float(), logits.float()
