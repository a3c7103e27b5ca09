"""From a job to a fitted network: fastai's Learner in each process, resumed, judged and kept."""

import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn

with warnings.catch_warnings():
    # fastai's own imports warn of torch.jit and of a pandas option; neither is ours to mend.
    warnings.filterwarnings("ignore", message=".*torch.jit.*")
    warnings.filterwarnings("ignore", message=".*chained_assignment.*")
    from fastai.callback.core import Callback
    from fastai.callback.schedule import valley
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner

from fgvc_utils.contest.parameters import accumulation
from fgvc_utils.core import heartbeat
from fgvc_utils.core.files import whole_file
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.records import Job
from fgvc_utils.training import balance
from fgvc_utils.training.autotune import autotune, pays
from fgvc_utils.training.callbacks import (
    Autocast,
    Average,
    Distributed,
    EpochMean,
    FrozenStatistics,
    KeepStatistics,
    RateSweep,
    Steps,
    plain_network,
)
from fgvc_utils.training.compiling import compiled
from fgvc_utils.training.convex import fit_layer
from fgvc_utils.training.feed import GlobalBatches
from fgvc_utils.training.finishing import begun, finish
from fgvc_utils.training.held_out import evaluate, held_out_batches
from fgvc_utils.training.loading import OnDevice, loader
from fgvc_utils.training.lora import merged
from fgvc_utils.training.losses import objective_of
from fgvc_utils.training.material import Material
from fgvc_utils.training.micro_batches import largest_micro_batch
from fgvc_utils.training.networks import autocast_dtype
from fgvc_utils.training.starting import copied, keep_weights
from fgvc_utils.training.stored import AllViews, Resident
from fgvc_utils.training.weights import read_state

LAST = "last.pt"
# The weight of a step's own loss in the smoothed losses of a rate sweep.
SWEEP_WEIGHT = 0.1


class Account(Callback):
    """Progress, the learning curve, and the last epoch's state for a fit that is cut off."""

    order = 60

    def __init__(
        self,
        job: Job,
        steps: Steps,
        material: Material,
        processes: Processes,
        progress: Progress,
        average: Average | EpochMean | None = None,
    ) -> None:
        self.job, self.steps, self.material, self.average = job, steps, material, average
        self.held_out = held_out_batches(material, processes)
        self.processes, self.progress = processes, progress
        self.history: list[dict] = []
        self.start_epoch = 0
        self.trace: list[dict[str, torch.Tensor]] = []

    @property
    def last_file(self) -> Path:
        """Where the last epoch's state lies."""
        return Path(self.job.folder) / LAST

    def take_up(self) -> None:
        """Go on where an earlier fit of the same job by the same code was cut off."""
        if not self.last_file.is_file():
            return
        try:
            last = read_state(self.last_file, "it is left out, and the fit starts anew")
        except ValueError as error:
            self.progress.note(self.job.name, str(error))
            return
        if (last["digest"], last.get("code")) != (self.material.digest, self.material.code):
            return
        plain_network(self.learn.model).load_state_dict(last["network"])
        if self.average is not None:
            self.average.restore(last["average"])
        self.steps.done = last["steps"]
        self.learn.opt = self.steps.make_optimiser(self.learn.model)
        self.learn.opt.load_state_dict(last["optimiser"])
        self.history, self.start_epoch = last["history"], last["epoch"] + 1
        self.progress.note(self.job.name, f"goes on after epoch {self.start_epoch}")

    def before_train(self) -> None:
        self.losses = torch.zeros((), dtype=torch.float64, device=self.processes.device)
        self.started = time.monotonic()
        self.waited_before = self.learn.dls.train.waited

    def after_batch(self) -> None:
        heartbeat.beat()
        if not self.training:
            return
        # Summed where it lies: reading it each time would make a GPU wait for the CPU.
        self.losses += self.learn.loss.detach()
        if self.steps.last_of_step:
            what = f"epoch {self.epoch + 1}/{self.job.epochs}"
            self.progress.step(self.job.name, self.steps.done, self.steps.total, what)
            if self.job.keep_every_step:
                state = plain_network(self.learn.model).state_dict()
                self.trace.append({name: tensor.clone() for name, tensor in state.items()})

    def after_train(self) -> None:
        self.seconds = time.monotonic() - self.started
        self.waited = self.learn.dls.train.waited - self.waited_before

    def after_epoch(self) -> None:
        if self.epoch < self.start_epoch:
            return
        plain = plain_network(self.learn.model)
        batches = self.steps.batches
        # Adding up the losses ends the wait for the device, so the seconds are taken after it.
        loss_sum, count = self.processes.total([float(self.losses), len(batches)])
        seconds = max(self.seconds, time.monotonic() - self.started)
        figures = {"train_loss": loss_sum / count}
        # The sum over all processes: where it is no number, all of them stop here.
        check_loss(figures["train_loss"], self.job, self.epoch + 1)
        judged = plain
        if isinstance(self.average, Average):
            judged = self.average.network
            # Each process averages its own BatchNorm statistics; one network is judged and kept.
            self.processes.share_first(judged.buffers())
        if self.held_out is not None:
            figures |= evaluate(judged, self.held_out, self.job, self.material, self.processes)
            plain.train()
        figures |= {
            "lr": self.steps.rate,
            "images_per_second": batches.images / seconds,
            "waiting": self.waited / seconds,
            "seconds": seconds,
        }
        if not self.job.micro_batch:
            figures["micro_batch"] = batches.micro
        self.history.append({"epoch": self.epoch + 1, **figures})
        # A layer's epoch takes milliseconds: its last one is enough to read.
        if self.job.fit == "full" or self.epoch + 1 == self.job.epochs:
            what = f"epoch {self.epoch + 1}/{self.job.epochs}"
            self.progress.figures(self.job.name, what, **figures)
        if self.processes.first and self.job.fit == "full":
            self._keep_last(plain)

    def _keep_last(self, network: nn.Module) -> None:
        state = {
            "digest": self.material.digest,
            "code": self.material.code,
            "epoch": self.epoch,
            "steps": self.steps.done,
            "network": network.state_dict(),
            "average": {} if self.average is None else self.average.state(),
            "optimiser": self.learn.opt.state_dict(),
            "history": self.history,
        }
        with whole_file(self.last_file) as temporary:
            torch.save(state, temporary)


def check_loss(loss: float, job: Job, epoch: int) -> None:
    """Stop a job whose loss is no number any more.

    Raises
    ------
    FloatingPointError
        Naming the job and the epoch.
    """
    if not np.isfinite(loss):
        raise FloatingPointError(
            f"the loss of job {job.name} is no number after epoch {epoch}; lower its rates"
        )


def fit(
    job: Job, material: Material, network: nn.Module, processes: Processes, progress: Progress
) -> tuple[nn.Module, list[dict]]:
    """Train a network as the job says.

    Parameters
    ----------
    job : Job
        One that fits: by steps, or at once by L-BFGS; or one that only sweeps rates, whose losses
        it keeps in `rates.csv`.
    material : Material
        Its rows.
    network : nn.Module
        As `networks.new_network` makes it.
    processes : Processes
        This process and its peers, which all call this.
    progress : Progress
        Where figures and steps are reported.

    Returns
    -------
    network : nn.Module
        The trained one, or the average of its weights.
    history : list of dict
        Figures, a record an epoch. A sweep has one, with the rate that fastai's `valley` suggests.

    Raises
    ------
    ParameterError
        Where the global batch cannot be cut up.
    MemoryError
        Where `micro_batch` is 0 and not even one picture fits in memory.
    FloatingPointError
        Where the loss is no number any more.
    """
    if job.rate_sweep_steps:
        return network, _sweep_rates(job, material, network, processes, progress)
    if job.whole_batch:
        network, history = _fit_at_once(job, material, network, processes, progress)
    else:
        network, history = _fit_by_steps(job, material, network, processes, progress)
    if processes.first:
        _keep_fit(job, network, history)
    return network, history


def _fit_at_once(
    job: Job, material: Material, network: nn.Module, processes: Processes, progress: Progress
) -> tuple[nn.Module, list[dict]]:
    network = network.to(processes.device)
    views = AllViews(material.train_set(), processes.share(_shown_rows(job, material)))
    # Features are standardised once; the layers after that learn.
    standardise, *layers = network
    blocks = Resident(views, processes.device, prepare=standardise)
    objective = objective_of(job, plain_network(network))

    def after(evaluations: int) -> None:
        # A line search may evaluate several times a step.
        done = min(evaluations, job.epochs)
        progress.step(job.name, done, job.epochs, "evaluations")

    figures = fit_layer(
        nn.Sequential(*layers), blocks, objective, job.weight_decay, job.epochs, processes, after
    )
    check_loss(figures["train_loss"], job, 1)
    held_out = held_out_batches(material, processes)
    if held_out is not None:
        figures |= evaluate(network, held_out, job, material, processes)
    progress.figures(job.name, f"{figures['evaluations']} evaluations", **figures)
    return network, [{"epoch": 1, **figures}]


def _shown_rows(job: Job, material: Material) -> np.ndarray:
    """The rows that are shown in an epoch, those of rare classes more than once if asked for."""
    rows = material.fit_rows
    if job.balance == "oversample":
        rows = rows[balance.oversample(material.labels[rows], seed=job.seed)]
    return rows


def _batches(
    job: Job, material: Material, network: nn.Module, processes: Processes, progress: Progress
) -> GlobalBatches:
    cut = accumulation(job.global_batch, job.micro_batch, processes.count)
    if not job.micro_batch:
        micro = largest_micro_batch(job, network, processes)
        progress.note(job.name, f"takes {micro} images at once")
        cut = accumulation(job.global_batch, micro, processes.count)
    rows = _shown_rows(job, material)
    return GlobalBatches(
        rows, cut.micro_batch, cut.steps, processes.count, processes.rank, job.seed
    )


def _learner(
    job: Job,
    material: Material,
    network: nn.Module,
    steps: Steps,
    processes: Processes,
    callbacks: list[Callback],
) -> Learner:
    """A fastai Learner over the job's train images, with the callbacks that every fit has."""
    later = job.fit == "full" and job.changes_on == "device"
    batches = loader(material.train_set(changes_later=later), steps.batches, processes)
    changes = material.changes(mix=True) if later else None
    train = OnDevice(batches, processes.device, changes)
    callbacks = [steps, *callbacks]
    if processes.count > 1:
        callbacks.append(Distributed(processes))
    if job.gradient_checkpointing:
        callbacks.append(KeepStatistics())
    if job.freeze_statistics:
        callbacks.append(FrozenStatistics())
    dtype = autocast_dtype(job.precision, processes.device)
    if dtype is not None:
        callbacks.append(Autocast(processes.device.type, dtype))
    objective = objective_of(job, plain_network(network))
    loaders = DataLoaders(train, [], path=Path(job.folder))
    learner = Learner(loaders, network, objective, cbs=callbacks, path=Path(job.folder))
    # Account does what these two would do, for processes and notebooks alike.
    learner.remove_cbs([c for c in learner.cbs if c.name in ("recorder", "progress")])
    learner.opt = steps.make_optimiser(network)
    return learner


def _fit_by_steps(
    job: Job, material: Material, network: nn.Module, processes: Processes, progress: Progress
) -> tuple[nn.Module, list[dict]]:
    network = network.to(processes.device)
    began = copied(merged(network)) if job.tuned_share < 1 else {}
    if not job.epochs:
        network = merged(network)
        return network, begun(job, material, network, processes)
    batches = _batches(job, material, network, processes, progress)
    steps = Steps(job, batches, processes.device)
    average = _average(job, network, steps)
    account = Account(job, steps, material, processes, progress, average)
    callbacks = [account] if average is None else [account, average]
    trained = network
    if job.compile and job.fit == "full":
        trained = compiled(job, network, batches.micro, processes, progress)
    learner = _learner(job, material, trained, steps, processes, callbacks)
    account.take_up()
    left = (job.epochs - account.start_epoch) * len(batches)
    with learner.no_logging(), autotune(pays(left)):
        learner.fit(job.epochs, start_epoch=account.start_epoch)
    if processes.first:
        _keep_trace(job, account)
    if average is not None:
        network = average.network
    network = merged(network)
    *earlier, last = account.history
    if figures := finish(job, material, network, began, processes, progress):
        last = last | figures
        progress.figures(job.name, "weights that are kept", **figures)
    return network, [*earlier, last]


def _average(job: Job, network: nn.Module, steps: Steps) -> Average | EpochMean | None:
    if job.swa_epochs:
        return EpochMean(network, job.epochs - job.swa_epochs)
    return Average(network, job.ema_decay, steps) if job.ema_decay else None


def _sweep_rates(
    job: Job, material: Material, network: nn.Module, processes: Processes, progress: Progress
) -> list[dict]:
    network = network.to(processes.device)
    sweep = RateSweep(job, _batches(job, material, network, processes, progress), processes)
    learner = _learner(job, material, network, sweep, processes, [])
    epochs = -(-job.rate_sweep_steps // sweep.batches.steps)
    with learner.no_logging(), autotune(pays(epochs * len(sweep.batches))):
        learner.fit(epochs)
    check_loss(sweep.losses[0], job, 1)
    tried = pd.DataFrame({"lr": sweep.rates, "loss": sweep.losses})
    # Only the last loss, which ended the sweep, may be no number.
    usable = tried[np.isfinite(tried["loss"])]
    rates, smooth = usable["lr"], usable["loss"].ewm(alpha=SWEEP_WEIGHT).mean()
    suggested, _ = valley(rates.tolist(), smooth.tolist(), len(rates))
    if processes.first:
        with whole_file(Path(job.folder) / "rates.csv") as temporary:
            tried.to_csv(temporary, index=False)
    figures = {"suggested": suggested, "train_loss": float(smooth.min())}
    progress.figures(job.name, f"{len(rates)} steps", **figures)
    return [{"epoch": 1, **figures}]


def _keep_fit(job: Job, network: nn.Module, history: list[dict]) -> None:
    folder = Path(job.folder)
    log = pd.DataFrame(history)
    if "train_loss" not in log:
        # Of a fit of no epoch.
        log["train_loss"] = np.nan
    with whole_file(folder / "log.csv") as temporary:
        log.to_csv(temporary, index=False)
    if job.keep_weights:
        keep_weights(job, network)


def _keep_trace(job: Job, account: Account) -> None:
    for number, state in enumerate(account.trace):
        with whole_file(Path(job.folder) / "steps" / f"{number:05d}.safetensors") as temporary:
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
