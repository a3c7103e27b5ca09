"""Losses on soft targets."""

import torch
import torch.nn.functional as F
from torch import nn

from fgvc_utils.jobs.records import Job
from fgvc_utils.training.angular import AngularMargin


def soft_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Return the mean cross-entropy against probabilities.

    Parameters
    ----------
    logits : Tensor
        Float (batch, classes).
    targets : Tensor
        Probabilities, float (batch, classes).
    smoothing : float
        Share of the uniform distribution in the targets (label smoothing).

    Returns
    -------
    Tensor
        A scalar.

    References
    ----------
    Szegedy et al., Rethinking the Inception architecture for computer vision, CVPR 2016.
    """
    return F.cross_entropy(logits, targets, label_smoothing=smoothing)


def generalised_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, q: float, smoothing: float = 0.0
) -> torch.Tensor:
    """Return the mean of (1 - p^q) / q, with p the probability of an image's class.

    For q to 0 it becomes cross-entropy; for q = 1 it is half the mean absolute error, which wrong
    labels lead astray least and which learns most slowly. Several classes of a target count in
    their shares.

    Parameters
    ----------
    logits : Tensor
        Float (batch, classes).
    targets : Tensor
        Probabilities, float (batch, classes).
    q : float
        Above 0, at most 1.
    smoothing : float
        Share of the uniform distribution in the targets (label smoothing).

    Returns
    -------
    Tensor
        A scalar.

    References
    ----------
    Zhang and Sabuncu, Generalized cross entropy loss for training deep neural networks with noisy
    labels, NeurIPS 2018.
    """
    smoothed = (1 - smoothing) * targets + smoothing / targets.shape[1]
    # By the logarithm: neither a small p nor a small q loses its digits.
    losses = -torch.expm1(q * logits.log_softmax(dim=1)) / q
    return (smoothed * losses).sum(dim=1).mean()


def distillation(
    logits: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Return the Kullback-Leibler divergence from a teacher's probabilities.

    Summed over the classes, averaged over the batch, times the temperature squared, which keeps the
    size of the gradient independent of it.

    Parameters
    ----------
    logits : Tensor
        Float (batch, classes), of the student.
    teacher : Tensor
        Probabilities, float (batch, classes), taken at the same temperature.
    temperature : float
        By which the student's logits are divided.

    Returns
    -------
    Tensor
        A scalar.

    References
    ----------
    Hinton et al., Distilling the knowledge in a neural network, 2015.
    """
    own = F.log_softmax(logits / temperature, dim=1)
    return F.kl_div(own, teacher, reduction="batchmean") * temperature**2


class Objective(nn.Module):
    """The loss of a job: that of the labels, distillation, or a weighted sum of both.

    Targets are float (batch, classes), or (batch, 2 × classes) with the teacher's probabilities in
    the second half where `teacher_weight` is above 0.

    Parameters
    ----------
    smoothing : float
        Label smoothing of the loss of the labels.
    teacher_weight : float
        Share of the distillation, 0 to 1.
    temperature : float
        Of the distillation.
    q : float
        Of generalised cross-entropy; 0 for cross-entropy.
    margin : nn.Module, optional
        Changes the logits by the targets, for the loss of the labels alone.
    """

    def __init__(
        self,
        smoothing: float,
        teacher_weight: float,
        temperature: float,
        q: float = 0.0,
        margin: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.teacher_weight = teacher_weight
        self.temperature = temperature
        self.q = q
        self.margin = margin

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch, a scalar."""
        if not self.teacher_weight:
            return self._labelled(logits, targets)
        labels, teacher = targets.chunk(2, dim=1)
        taught = distillation(logits, teacher, self.temperature)
        if self.teacher_weight == 1:
            return taught
        labelled = self._labelled(logits, labels)
        return self.teacher_weight * taught + (1 - self.teacher_weight) * labelled

    def _labelled(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.margin is not None:
            logits = self.margin(logits, labels)
        if self.q:
            return generalised_cross_entropy(logits, labels, self.q, self.smoothing)
        return soft_cross_entropy(logits, labels, self.smoothing)


def objective_of(job: Job, network: nn.Module) -> Objective:
    """Return the loss of a job.

    Parameters
    ----------
    job : Job
        The fit.
    network : nn.Module
        That it trains, as it is when it starts: a classifier of angles has its margin.
    """
    angular = job.fit == "full" and job.classifier == "arcface"
    margin = AngularMargin(job.arcface_margin, network.get_classifier()) if angular else None
    q = job.gce_q if job.loss == "gce" else 0.0
    return Objective(job.label_smoothing, job.teacher_weight, job.temperature, q, margin)
