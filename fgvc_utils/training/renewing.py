"""BatchNorm statistics of a network whose weights came from elsewhere, such as an average."""

import time

import numpy as np
import torch
from torch import nn

from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.records import Job
from fgvc_utils.training.autotune import autotune, pays, shapes_of
from fgvc_utils.training.backbones import batch_norms
from fgvc_utils.training.feed import InTurn
from fgvc_utils.training.held_out import evaluate, held_out_batches
from fgvc_utils.training.loading import OnDevice, loader
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import autocast_dtype
from fgvc_utils.training.starting import keep_weights

BATCH = 64


def renewed(
    job: Job, material: Material, network: nn.Module, processes: Processes, progress: Progress
) -> dict:
    """Take statistics anew, judge the network on held-out images, keep its weights.

    The job's weights.safetensors then hold the new statistics.

    Returns
    -------
    dict
        What `renew_statistics` returns, and where there are held-out images the figures of
        `fitting.evaluate`.
    """
    network = network.to(processes.device)
    figures = renew_statistics(job, material, network, processes, progress)
    if len(material.validate_rows):
        held_out = held_out_batches(material, processes)
        figures |= {"epoch": 0, **evaluate(network, held_out, job, material, processes)}
    if processes.first and job.keep_weights:
        keep_weights(job, network)
    return figures


@torch.no_grad()
def renew_statistics(
    job: Job, material: Material, network: nn.Module, processes: Processes, progress: Progress
) -> dict[str, float]:
    """Set BatchNorm's running means and variances to those over the job's train images.

    One pass over the train views, shuffled, without CutMix or Mixup. Means and mean squares are
    pooled over the batches, each weighing as many images as it has. A network without BatchNorm
    stays as it is.

    Parameters
    ----------
    job, material
        The job and its train images.
    network
        The network, changed in place.
    processes
        The processes over which the images are shared out.
    progress
        Where each batch is noted.

    Returns
    -------
    dict
        `seconds`, and `waiting`, the share of them in which this process waited for pictures; empty
        where there is nothing to renew.

    References
    ----------
    Izmailov et al., Averaging weights leads to wider optima and better generalization, UAI 2018,
    who do so after averaging weights.
    """
    norms = [norm for norm in batch_norms(network) if norm.track_running_stats]
    if not norms:
        return {}
    began = time.monotonic()
    network.eval()
    momentums = [norm.momentum for norm in norms]
    sums = [torch.zeros(2, norm.num_features, device=processes.device) for norm in norms]
    for norm in norms:
        # The running figures are then those of the last batch alone.
        norm.train()
        norm.momentum = 1.0
    # Stored in order of class, a batch would hold few classes; a batch of one has no variance.
    shuffled = np.random.default_rng(job.seed).permutation(material.fit_rows)
    rows, seen = processes.share(shuffled), 0
    rows = rows[:-1] if len(rows) % BATCH == 1 else rows
    dtype = autocast_dtype(job.precision, processes.device)
    loaded = loader(material.train_pictures(), InTurn(rows, BATCH), processes)
    batches = OnDevice(loaded, processes.device, targets_too=False)
    with autotune(pays(len(batches), shapes_of(len(rows), BATCH))):
        for pictures, _ in batches:
            with torch.autocast(processes.device.type, dtype, enabled=dtype is not None):
                network(pictures)
            for total, norm in zip(sums, norms, strict=True):
                mean = norm.running_mean
                total += len(pictures) * torch.stack([mean, norm.running_var + mean.square()])
            seen += len(pictures)
            progress.step(job.name, seen, len(rows), "BatchNorm statistics")
    processes.sum_up(sums)
    count = processes.total([seen])[0]
    for norm, momentum, total in zip(norms, momentums, sums, strict=True):
        mean, square = total / count
        norm.running_mean.copy_(mean)
        norm.running_var.copy_((square - mean.square()).clamp(min=0))
        norm.momentum = momentum
    network.eval()
    seconds = time.monotonic() - began
    return {"waiting": batches.waited / seconds, "seconds": seconds}
