"""What a fit does around fastai's loop: steps and rates, processes, shorter floats, averages."""

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch
from timm.optim import SGDW
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

with warnings.catch_warnings():
    # fastai's own imports warn of torch.jit and of a pandas option; neither is ours to mend.
    warnings.filterwarnings("ignore", message=".*torch.jit.*")
    warnings.filterwarnings("ignore", message=".*chained_assignment.*")
    from fastai.callback.core import Callback, CancelBatchException, CancelFitException
    from fastai.optimizer import OptimWrapper

from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.jobs.records import Job
from fgvc_utils.training.backbones import batch_norms
from fgvc_utils.training.feed import GlobalBatches
from fgvc_utils.training.parameter_groups import SCALE, parameter_groups

# Between these rates a sweep looks for the one to train with.
SWEEP_LOW, SWEEP_HIGH = 1e-5, 1.0
# A sweep ends when the loss is so many times its lowest.
SWEEP_STOP = 3.0
# fastai's settings of optimisers that take all weights in a few calls, where its own take them one
# by one, which a GPU waits for. Weight decay is decoupled in all (Loshchilov and Hutter, Decoupled
# weight decay regularization, ICLR 2019).
FASTAI = {"betas": (0.9, 0.99), "eps": 1e-5}
RADAM = partial(torch.optim.RAdam, decoupled_weight_decay=True, **FASTAI)
ADAMW = partial(torch.optim.AdamW, **FASTAI)
# On CUDA a step of this one is one call for all weights. torch has no such RAdam, and no such SGD
# with decoupled decay; theirs are a few calls each, which torch and timm choose there themselves.
FUSED_ADAMW = partial(ADAMW, fused=True)


def plain_network(model: nn.Module) -> nn.Module:
    """Return the network itself, out of DistributedDataParallel and what torch.compile made."""
    for inner in ("module", "_orig_mod"):
        model = getattr(model, inner, model)
    return model


class Distributed(Callback):
    """Wrap the network in DistributedDataParallel while it trains, and only then."""

    order = -20

    def __init__(self, processes: Processes) -> None:
        self.processes = processes

    def before_fit(self) -> None:
        devices = [self.processes.device] if self.processes.device.type == "cuda" else None
        self.plain = self.learn.model
        self.learn.model = DistributedDataParallel(self.plain, device_ids=devices)

    def after_train(self) -> None:
        # Each step starts from the first process's BatchNorm statistics and adds each one's own
        # pictures; after the last step all take the first one's again.
        self.processes.share_first(self.plain.buffers())

    def after_fit(self) -> None:
        self.learn.model = self.plain


class Steps(Callback):
    """Micro-batches to optimiser steps: accumulation, warm-up, one cosine, RAdam and then SGD.

    A step's loss is the mean over its micro-batches and processes, and gradients travel between
    processes only at the last of them. There they are clipped, where the job says so, to a norm
    over all weights.

    Parameters
    ----------
    job : Job
        Names the optimiser, its rates, the warm-up, the norm of gradients and the epochs.
    batches : GlobalBatches
        The epoch's order, which says how many micro-batches make a step.
    device : torch.device, optional
        Where the network is; the CPU by default.

    References
    ----------
    Liu et al., On the variance of the adaptive learning rate and beyond (RAdam), ICLR 2020.
    Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts (the cosine), ICLR
    2017. Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1 hour, 2017, for the
    warm-up. Pascanu et al., On the difficulty of training recurrent neural networks, ICML 2013, for
    clipping.
    """

    order = 10

    def __init__(
        self, job: Job, batches: GlobalBatches, device: torch.device | None = None
    ) -> None:
        self.job, self.batches = job, batches
        self.device = device or torch.device("cpu")
        self.total = batches.steps * job.epochs
        self.warm = round(self.total * job.warm_up)
        self.rate = 0.0
        self.switch = self.total
        if job.optimiser == "radam+sgd":
            self.switch = round(self.total * job.radam_share)
        self.done = 0

    def optimiser(self, step: int) -> tuple[Callable, float]:
        """Return the optimiser that takes a step, and its highest rate."""
        sgd = partial(SGDW, momentum=self.job.momentum)
        if self.job.optimiser == "radam+sgd":
            return (RADAM, self.job.radam_lr) if step < self.switch else (sgd, self.job.base_lr)
        adamw = FUSED_ADAMW if self.device.type == "cuda" else ADAMW
        return {"radam": RADAM, "sgd": sgd, "adamw": adamw}[self.job.optimiser], self.job.base_lr

    def rate_of(self, step: int) -> float:
        """Return the learning rate of a step: a linear warm-up, then one cosine to zero."""
        _, highest = self.optimiser(step)
        if step < self.warm:
            return float(highest * (step + 1) / (self.warm + 1))
        angle = np.pi * (step - self.warm) / (self.total - self.warm)
        return float(highest * 0.5 * (1 + np.cos(angle)))

    def make_optimiser(self, network: nn.Module) -> OptimWrapper:
        """Return the optimiser of a network for the step that comes next."""
        kind, rate = self.optimiser(self.done)
        groups = parameter_groups(plain_network(network), self.job)
        return OptimWrapper(groups, kind, lr=rate, weight_decay=self.job.weight_decay)

    def set_rate(self, rate: float) -> None:
        """Give each group of weights its share of a rate."""
        self.rate = rate
        groups = self.learn.opt.opt.param_groups
        self.learn.opt.set_hypers(lr=[rate * group.get(SCALE, 1.0) for group in groups])

    def before_train(self) -> None:
        self.batches.epoch = self.epoch
        # Dropout is drawn anew each epoch, so that a resumed fit goes on as the first would have.
        torch.manual_seed(hash((self.job.seed, self.epoch, self.batches.rank)) & 0x7FFFFFFF)

    def before_batch(self) -> None:
        if not self.training:
            return
        if self.iter % self.batches.accumulate == 0:
            if self.done == self.switch and self.done:
                self.learn.opt = self.make_optimiser(self.learn.model)
            self.set_rate(self.rate_of(self.done))
        self.last_of_step = (self.iter + 1) % self.batches.accumulate == 0
        self.quiet = ExitStack()
        if not self.last_of_step and isinstance(self.learn.model, DistributedDataParallel):
            self.quiet.enter_context(self.learn.model.no_sync())

    def after_loss(self) -> None:
        if self.training:
            self.learn.loss_grad = self.learn.loss_grad / self.batches.accumulate

    def before_step(self) -> None:
        if not self.last_of_step:
            raise CancelBatchException
        if self.job.clip_norm:
            nn.utils.clip_grad_norm_(self.learn.model.parameters(), self.job.clip_norm)
        self.done += 1

    def after_batch(self) -> None:
        if self.training:
            self.quiet.close()


class RateSweep(Steps):
    """Steps at rates that rise from SWEEP_LOW to SWEEP_HIGH, each with its loss.

    It ends early where the loss is SWEEP_STOP times the lowest, or no number.

    References
    ----------
    Smith, Cyclical learning rates for training neural networks, WACV 2017: the range test.
    """

    def __init__(self, job: Job, batches: GlobalBatches, processes: Processes) -> None:
        super().__init__(job, batches, processes.device)
        # One optimiser for the whole of the sweep.
        self.total = self.switch = job.rate_sweep_steps
        self.processes = processes
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.sum = 0.0

    def rate_of(self, step: int) -> float:
        """Return the learning rate of a step, on a logarithmic scale."""
        return float(SWEEP_LOW * (SWEEP_HIGH / SWEEP_LOW) ** (step / max(1, self.total - 1)))

    def after_loss(self) -> None:
        super().after_loss()
        self.sum += float(self.learn.loss.detach()) / self.batches.accumulate

    def before_step(self) -> None:
        super().before_step()
        loss = self.processes.total([self.sum / self.processes.count])[0]
        self.sum = 0.0
        self.rates.append(self.rate)
        self.losses.append(loss)
        lowest = min(self.losses)
        if not np.isfinite(loss) or loss > SWEEP_STOP * lowest or self.done >= self.total:
            raise CancelFitException


class Autocast(Callback):
    """Forward and loss in a shorter float, weights and gradients in float32."""

    order = 20

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype

    def before_batch(self) -> None:
        self.context = torch.autocast(self.device, self.dtype)
        self.context.__enter__()

    def after_pred(self) -> None:
        self.learn.pred = self.learn.pred.float()

    def after_loss(self) -> None:
        self.context.__exit__(None, None, None)


class KeepStatistics(Callback):
    """Let BatchNorm see each picture once where activations are computed anew.

    Gradient checkpointing repeats forward passes within the backward one; without this each would
    move the running statistics a second time.
    """

    def before_backward(self) -> None:
        self.momentums = {module: module.momentum for module in batch_norms(self.learn.model)}
        for module in self.momentums:
            module.momentum = 0.0

    def after_backward(self) -> None:
        for module, momentum in self.momentums.items():
            module.momentum = momentum


class FrozenStatistics(Callback):
    """Let BatchNorm use and keep the running statistics that the network came with."""

    # After fastai has set the network to training, which it does once an epoch.
    order = 15

    def before_train(self) -> None:
        for module in batch_norms(self.learn.model):
            module.eval()


class Average(Callback):
    """The exponential moving average of the weights over the steps.

    timm's, with its warm-up, so that a short fit is not dominated by its first weights.

    References
    ----------
    Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992.
    """

    order = 55

    def __init__(self, network: nn.Module, decay: float, steps: Steps) -> None:
        self.average = ModelEmaV3(network, decay=decay, use_warmup=True)
        self.steps = steps

    @property
    def network(self) -> nn.Module:
        """The averaged network."""
        return self.average.module

    def state(self) -> dict[str, torch.Tensor]:
        """Return what a fit that goes on needs of it."""
        return self.network.state_dict()

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what `state` gave."""
        self.network.load_state_dict(state)

    def after_batch(self) -> None:
        if self.training and self.steps.last_of_step:
            self.average.update(plain_network(self.learn.model), step=self.steps.done)


class EpochMean(Callback):
    """The mean of the weights at the end of each of the last epochs: torch's own.

    Its BatchNorm statistics are those of the last epoch, so they are to be taken anew.

    References
    ----------
    Izmailov et al., Averaging weights leads to wider optima and better generalization, UAI 2018
    (SWA).
    """

    order = 55

    def __init__(self, network: nn.Module, first: int) -> None:
        self.mean = AveragedModel(network)
        # Counted from 0; a fit that goes on passes over the epochs that it has.
        self.first = first

    @property
    def network(self) -> nn.Module:
        """The network of the mean."""
        return self.mean.module

    def state(self) -> dict[str, torch.Tensor]:
        """Return what a fit that goes on needs of it."""
        return self.mean.state_dict()

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what `state` gave."""
        self.mean.load_state_dict(state)

    def after_epoch(self) -> None:
        if self.epoch >= max(self.first, self.learn.account.start_epoch):
            self.mean.update_parameters(plain_network(self.learn.model))
