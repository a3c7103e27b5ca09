"""Heads of many folds in one job: each begins as the head of all images and forgets its fold.

The more folds there are, the less it matters how they are cut: each image is predicted by a head
that learnt from nearly all others. Fitted from nothing, so many heads would take as many times
longer; a head that begins as that of all images has little to unlearn.
"""

import copy
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.predictions import ShardWriter, finish_store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.reduction import reduce_block
from fgvc_utils.training import balance
from fgvc_utils.training.backbones import freeze_bias
from fgvc_utils.training.convex import fit_layer
from fgvc_utils.training.fitting import check_loss
from fgvc_utils.training.heads import Head
from fgvc_utils.training.losses import objective_of
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import MASKED, without_prior
from fgvc_utils.training.stored import BLOCK, AllViews, MeanView, Resident

# Steps in which a head forgets its fold. After so many the probabilities of that fold's images are
# within .01 of those of a head that was fitted to the end, where the head of all images is .3 off.
FORGETTING_STEPS = 12


class WithoutFold:
    """Blocks of features and targets in which the rows of one fold teach nothing.

    Parameters
    ----------
    blocks : Resident
        Of all rows.
    folds : ndarray of int (rows,)
        The fold of each row of this process, in the order of the blocks.
    fold : int
        The fold that is left out.
    """

    def __init__(self, blocks: Resident, folds: np.ndarray, fold: int) -> None:
        self.blocks = blocks
        self.teaches = torch.from_numpy(folds != fold).to(blocks.device)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        start = 0
        for features, targets in self.blocks:
            yield features, targets * self.teaches[start : start + len(targets), None]
            start += len(targets)

    @property
    def count(self) -> int:
        """Rows that teach."""
        return int(self.teaches.sum())


def cross(
    job: Job, material: Material, network: nn.Module, processes: Processes, progress: Progress
) -> dict[str, float]:
    """Fit a head on all images, then one without each fold, and predict the fold by it.

    An image's views count by their mean: to a linear head it says what they say, in a part of the
    time. Features are standardised by all images that teach, which reads no label of them.

    Parameters
    ----------
    job : Job
        A crossed one: its rows have a column `fold`.
    material : Material
        Its rows.
    network : nn.Module
        A linear `Head`, as `networks.new_network` makes it; becomes that of all images.
    processes : Processes
        This process and its peers, which all call this.
    progress : Progress
        Where steps are reported.

    Returns
    -------
    dict
        `train_loss` and `evaluations` of the head of all images, and `folds`, how many there were.

    Raises
    ------
    FloatingPointError
        Where the loss is no number any more.
    ValueError
        Where no image is left to teach a fold's head.

    References
    ----------
    Rad and Maleki, A scalable estimate of the out-of-sample prediction error via approximate
    leave-one-out cross-validation, 2020: predictions without an image from the fit on all images,
    by a few steps from there.
    """
    started = time.monotonic()
    network = network.to(processes.device)
    mine = processes.share(material.fit_rows)
    stored = material.train_set()
    shown = replace(stored, views=[MeanView(stored.views)])
    if processes.count == 1 and len(mine) < network.get_classifier().in_features:
        in_their_span(network, torch.from_numpy(shown.views[0][mine]).to(processes.device))
    prepare, *layers = network
    blocks = Resident(AllViews(shown, mine), processes.device, prepare=prepare)
    objective = objective_of(job, network)
    figures = fit_layer(
        nn.Sequential(*layers), blocks, objective, job.weight_decay, job.epochs, processes
    )
    check_loss(figures["train_loss"], job, 1)
    of_predicted = material.folds[material.predict_rows]
    folds = np.unique(of_predicted)
    parts = [processes.share(material.predict_rows[of_predicted == fold]) for fold in folds]
    writer = ShardWriter(
        job.store, processes.rank, [material.ids[row] for row in np.concatenate(parts)]
    )
    start, seen = 0, MeanView(material.features(job.test_views).views)
    for number, (fold, rows) in enumerate(zip(folds, parts, strict=True)):
        head, empty = _begun(job, material, network, fold)
        others = WithoutFold(blocks, material.folds[mine], fold)
        layers = nn.Sequential(*list(head)[1:])
        fit_layer(layers, others, objective, job.weight_decay, FORGETTING_STEPS, processes)
        for values, block in _predicted(job, head, seen, rows, empty, processes.device):
            labels = material.judged[block]
            for name, array in reduce_block(values, labels, job.reduce_to).items():
                writer.write(name, start, array)
            start += len(labels)
        progress.step(job.name, number + 1, len(folds), "folds")
    writer.close()
    processes.wait()
    if processes.first:
        # A process that had no image has no array either.
        most = max((of_predicted == fold).sum() for fold in folds)
        finish_store(job.store, job.classes, max(1, min(processes.count, int(most))))
    figures |= {"folds": len(folds)}
    progress.figures(job.name, f"{len(folds)} folds", seconds=time.monotonic() - started, **figures)
    return figures


def in_their_span(head: Head, features: torch.Tensor) -> None:
    """Let a head learn from coordinates in the space that its images span, fewer than features.

    An L2 penalty leaves a linear layer no weight outside that space, so the head learns what it
    would have learnt, in less time.

    Parameters
    ----------
    head : Head
        A linear one that has learnt nothing yet; changed in place.
    features : Tensor
        Of all images that teach, float (images, width), fewer than the width.

    References
    ----------
    Schölkopf, Herbrich and Smola, A generalized representer theorem, 2001.
    """
    standardise, last = head[0], head.get_classifier()
    axes = torch.linalg.qr(standardise(features).T)[0]
    onto = nn.Linear(*axes.shape, bias=False, device=axes.device)
    onto.weight = nn.Parameter(axes.T.contiguous(), requires_grad=False)
    layer = nn.Linear(axes.shape[1], last.out_features, device=axes.device)
    nn.init.zeros_(layer.weight)
    layer.bias = last.bias
    head[0], head[-1] = nn.Sequential(standardise, onto), layer


def _begun(
    job: Job, material: Material, network: nn.Module, fold: int
) -> tuple[nn.Module, torch.Tensor]:
    """A copy of the head of all images with the prior of those outside a fold, to go on from.

    Beside it, which classes no image outside the fold teaches, boolean (classes,); none where
    teachers alone teach, who may know them.
    """
    outside = material.fit_rows[material.folds[material.fit_rows] != fold]
    if not len(outside):
        raise ValueError(f"job {job.name}: all images that teach are of one fold")
    labels = material.labels[outside]
    counts = np.bincount(labels[labels >= 0], minlength=len(job.classes))
    # What prepares features is as wide as they are, and learns nothing: all heads share it.
    head = copy.deepcopy(network, {id(network[0]): network[0]})
    if job.balance == "prior":
        freeze_bias(head.get_classifier(), torch.from_numpy(balance.log_prior(counts)))
    return head, torch.from_numpy((counts == 0) & (job.teacher_weight < 1))


@torch.no_grad()
def _predicted(
    job: Job,
    head: nn.Module,
    seen: MeanView,
    rows: np.ndarray,
    empty: torch.Tensor,
    device: torch.device,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of probabilities, float32 (block, classes), with the rows that they are of."""
    head, empty = head.eval(), empty.to(device)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        logits = head(torch.from_numpy(seen[block]).to(device))
        values = without_prior(logits, head, job).masked_fill(empty, MASKED).softmax(dim=1)
        yield values.float().cpu().numpy(), block
