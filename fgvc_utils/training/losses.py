"""Losses on soft targets."""

import torch
import torch.nn.functional as F


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


class Objective(torch.nn.Module):
    """The loss of a job: cross-entropy on the labels, distillation, or a weighted sum of both.

    Targets are float (batch, classes), or (batch, 2 × classes) with the teacher's probabilities in
    the second half where `teacher_weight` is above 0.

    Parameters
    ----------
    smoothing : float
        Label smoothing of the cross-entropy.
    teacher_weight : float
        Share of the distillation, 0 to 1.
    temperature : float
        Of the distillation.
    """

    def __init__(self, smoothing: float, teacher_weight: float, temperature: float) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.teacher_weight = teacher_weight
        self.temperature = temperature

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch, a scalar."""
        if not self.teacher_weight:
            return soft_cross_entropy(logits, targets, self.smoothing)
        labels, teacher = targets.chunk(2, dim=1)
        taught = distillation(logits, teacher, self.temperature)
        if self.teacher_weight == 1:
            return taught
        labelled = soft_cross_entropy(logits, labels, self.smoothing)
        return self.teacher_weight * taught + (1 - self.teacher_weight) * labelled
