"""Fit a layer on stored features by L-BFGS: a convex problem has one answer and needs no rate."""

from collections.abc import Callable

import torch
from torch import nn

from fgvc_utils.core import heartbeat
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.training.stored import Resident

HISTORY = 10
FLAT = 1e-5


def fit_layer(
    network: nn.Module,
    blocks: Resident,
    objective: nn.Module,
    weight_decay: float,
    steps: int,
    processes: Processes,
    after: Callable[[int], None] = lambda evaluations: None,
) -> dict[str, float]:
    """Minimise the mean objective + weight_decay / 2 × squared weights over all processes' blocks.

    L-BFGS with a strong Wolfe line search. Every process takes the same steps. Biases are not
    decayed, frozen parameters stay.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    blocks : Resident
        This process's features (block, width) and targets (block, classes) on its device, passed
        over again at each evaluation.
    objective : nn.Module
        The mean loss of logits and targets.
    weight_decay : float
        See above.
    steps : int
        At most so many; fewer where no gradient exceeds 1e-5.
    processes : Processes
        This process and its peers.
    after : callable
        Called after each evaluation with their number.

    Returns
    -------
    dict
        `train_loss`, the mean objective without the decay, and `evaluations`, their number.

    References
    ----------
    Liu and Nocedal, On the limited memory BFGS method for large scale optimization, 1989.
    """
    device = processes.device
    free = [parameter for parameter in network.parameters() if parameter.requires_grad]
    count = processes.total([blocks.count])[0]
    optimiser = torch.optim.LBFGS(
        free,
        max_iter=steps,
        history_size=HISTORY,
        tolerance_grad=FLAT,
        line_search_fn="strong_wolfe",
    )
    figures = {"train_loss": float("nan"), "evaluations": 0}

    def evaluate() -> torch.Tensor:
        optimiser.zero_grad(set_to_none=False)
        total = torch.zeros((), device=device)
        for features, targets in blocks:
            heartbeat.beat()
            share = len(features) / count
            loss = objective(network(features), targets) * share
            loss.backward()
            total += loss.detach()
        # Free parameters have a gradient from the first block on, unless there was no block.
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in free]
        processes.sum_up([total, *gradients])
        figures["train_loss"] = float(total)
        figures["evaluations"] += 1
        for parameter, gradient in zip(free, gradients, strict=True):
            if parameter.ndim > 1:
                total += 0.5 * weight_decay * parameter.detach().square().sum()
                gradient += weight_decay * parameter.detach()
            parameter.grad = gradient
        after(figures["evaluations"])
        return total

    optimiser.step(evaluate)
    return figures
