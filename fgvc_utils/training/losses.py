"""Losses on soft targets."""

import torch
import torch.nn.functional as F


def soft_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Mean cross-entropy of logits (batch, classes) against probabilities (batch, classes).

    Label smoothing (Szegedy et al., 2016) mixes the targets with the uniform distribution.
    """
    return F.cross_entropy(logits, targets, label_smoothing=smoothing)


def distillation(
    logits: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Kullback-Leibler divergence from the teacher's probabilities (Hinton et al., 2015).

    `teacher` (batch, classes) are probabilities taken at the same temperature. Summed over the
    classes, averaged over the batch, times the temperature squared, which keeps the size of the
    gradient independent of it.
    """
    own = F.log_softmax(logits / temperature, dim=1)
    return F.kl_div(own, teacher, reduction="batchmean") * temperature**2


class Objective(torch.nn.Module):
    """The loss of a job: cross-entropy on the labels, distillation, or a weighted sum of both.

    Targets are float (batch, classes), or (batch, 2 × classes) with the teacher's probabilities in
    the second half where `teacher_weight` is above 0.
    """

    def __init__(self, smoothing: float, teacher_weight: float, temperature: float) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.teacher_weight = teacher_weight
        self.temperature = temperature

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean loss of a batch, a scalar."""
        if not self.teacher_weight:
            return soft_cross_entropy(logits, targets, self.smoothing)
        labels, teacher = targets.chunk(2, dim=1)
        taught = distillation(logits, teacher, self.temperature)
        if self.teacher_weight == 1:
            return taught
        told = soft_cross_entropy(logits, labels, self.smoothing)
        return self.teacher_weight * taught + (1 - self.teacher_weight) * told
