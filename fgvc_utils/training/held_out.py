"""How a network is judged by images that it did not learn from, over all processes."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from fgvc_utils.core import heartbeat
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.jobs.predictions import label_ranks
from fgvc_utils.jobs.records import Job
from fgvc_utils.training.autotune import autotune
from fgvc_utils.training.feed import InTurn
from fgvc_utils.training.loading import Fetched, OnDevice, loader, one_behind
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import MASKED, autocast_dtype, without_prior

BATCH = 64


class HeldOut(NamedTuple):
    """Batches of held-out images, each under every view that is predicted.

    Attributes
    ----------
    views : list of OnDevice
        One a view, of the same images in the same order.
    device : torch.device
        Where they go.
    """

    views: list[OnDevice]
    device: torch.device

    def batches(self) -> Iterator[tuple[list[torch.Tensor], torch.Tensor]]:
        """Of each batch what every view shows, and its targets."""
        for shown in zip(*self.views, strict=True):
            yield [view for view, _ in shown], shown[0][1]


def held_out_batches(material: Material, processes: Processes) -> HeldOut | None:
    """Return this process's share of the held-out images; None where there is none at all."""
    if not len(material.validate_rows):
        return None
    mine = InTurn(processes.share(material.validate_rows), BATCH)
    views = [
        OnDevice(loader(shown, mine, processes), processes.device, targets_too=False)
        for shown in material.test_sets()
    ]
    return HeldOut(views, processes.device)


@torch.no_grad()
def evaluate(
    network: nn.Module, batches: HeldOut, job: Job, material: Material, processes: Processes
) -> dict[str, float]:
    """Judge a network on held-out images, over all processes.

    Parameters
    ----------
    network : nn.Module
        Which is set to evaluation.
    batches : HeldOut
        This process's share, as `held_out_batches` gives it; each image is counted once over all
        processes.
    job, material, processes
        The job, its rows and this process.

    Returns
    -------
    dict
        `top1` and `top5` of what would be predicted, `loss`, the cross-entropy without label
        smoothing, and `n`, the number of images.
    """
    network.eval()
    empty = material.masked
    sums = [0.0, 0.0, 0.0, 0.0]
    # A held-out pass is short beside its fit: a trial of its shapes would not be earned back.
    with autotune(False):
        for fetched, targets in one_behind(_judged(network, batches, job)):
            logits = fetched.tensors()["logits"]
            labels = targets[:, : logits.shape[1]]
            loss = nn.functional.cross_entropy(logits, labels)
            masked = logits.masked_fill(empty, MASKED)
            ranks = label_ranks(masked.numpy(), labels.argmax(dim=1).numpy())
            for place, value in enumerate((len(ranks), (ranks == 0).sum(), (ranks < 5).sum())):
                sums[place] += float(value)
            sums[3] += float(loss) * len(ranks)
    count, first, five, loss = processes.total(sums)
    return {"top1": first / count, "top5": five / count, "loss": loss / count, "n": count}


def _judged(
    network: nn.Module, batches: HeldOut, job: Job
) -> Iterator[tuple[Fetched, torch.Tensor]]:
    """Logits of each batch on their way back, and its targets in the host's memory."""
    dtype = autocast_dtype(job.precision, batches.device)
    for views, targets in batches.batches():
        heartbeat.beat()
        with torch.autocast(batches.device.type, dtype, enabled=dtype is not None):
            by_view = [network(view) for view in views]
        by_view = [without_prior(logits.float(), network, job) for logits in by_view]
        yield Fetched({"logits": sum(by_view) / len(by_view)}), targets
