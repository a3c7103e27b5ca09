"""The weights that a fit keeps: those it ended with, their mean over epochs, or a share of them."""

import torch
from torch import nn

from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.records import TUNED, Job
from fgvc_utils.training.held_out import evaluate, held_out_batches
from fgvc_utils.training.material import Material
from fgvc_utils.training.renewing import renew_statistics
from fgvc_utils.training.starting import interpolate, keep_weights


def finish(
    job: Job,
    material: Material,
    network: nn.Module,
    began: dict[str, torch.Tensor],
    processes: Processes,
    progress: Progress,
) -> dict[str, float]:
    """Make of the network that a fit ended with the one that is kept.

    A mean over several epochs takes its BatchNorm statistics anew, unless they are frozen. Where
    the share of the tuned weights is below 1, the tuned ones are written beside those that are
    kept.

    Parameters
    ----------
    job, material
        The job and its rows.
    network : nn.Module
        The last one, or the mean over the last epochs; changed in place.
    began : dict
        The tensors that the fit began with, by name; only where a share of them is kept.
    processes, progress
        This process and its peers, which all call this, and where figures are reported.

    Returns
    -------
    dict
        The figures of `held_out.evaluate`, where the network is another one than was judged at the
        end of the last epoch and images are held out; otherwise empty.
    """
    if job.swa_epochs > 1 and not job.freeze_statistics:
        renew_statistics(job, material, network, processes, progress)
    if job.tuned_share < 1:
        if processes.first and job.keep_weights:
            keep_weights(job, network, TUNED)
        interpolate(network, began, job.tuned_share)
    if job.swa_epochs < 2 and job.tuned_share == 1:
        return {}
    return judged(job, material, network, processes)


def begun(job: Job, material: Material, network: nn.Module, processes: Processes) -> list[dict]:
    """The history of a fit of no epoch: one record, with the figures of what it began with."""
    return [{"epoch": 0, **judged(job, material, network, processes)}]


def judged(
    job: Job, material: Material, network: nn.Module, processes: Processes
) -> dict[str, float]:
    """The figures of held-out images; empty where there are none."""
    held_out = held_out_batches(material, processes)
    return {} if held_out is None else evaluate(network, held_out, job, material, processes)
