"""A job to a fitted network: fastai's Learner in each process, with a few callbacks of ours."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.optim import SGDW
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

with warnings.catch_warnings():
    # fastai's own imports warn of torch.jit and of a pandas option; neither is ours to mend.
    warnings.filterwarnings("ignore", message=".*torch.jit.*")
    warnings.filterwarnings("ignore", message=".*chained_assignment.*")
    from fastai.callback.core import Callback, CancelBatchException, CancelFitException
    from fastai.callback.schedule import valley
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

from fgvc_utils import augment, backbones, balance
from fgvc_utils.config import accumulation
from fgvc_utils.convex import fit_layer
from fgvc_utils.decoded import Decoded, decoded_folder
from fgvc_utils.distributed import Processes
from fgvc_utils.feed import (
    AllViews,
    Changes,
    GlobalBatches,
    InTurn,
    Pictures,
    StoredFeatures,
    Targets,
    as_it_is,
    image_keys,
)
from fgvc_utils.files import whole_file
from fgvc_utils.heads import Head
from fgvc_utils.jobs import Job, fitted_images, job_digest
from fgvc_utils.losses import Objective
from fgvc_utils.predictions import Store, label_ranks, same_classes
from fgvc_utils.progress import Progress

STANDARDISE_ROWS = 20_000
LAST = "last.pt"
# The logit of a class that nothing was learnt of.
MASKED = -1e4
# Between these rates a sweep looks for the one to train with.
SWEEP_LOW, SWEEP_HIGH = 1e-5, 1.0
# A sweep ends when the loss is so many times its lowest.
SWEEP_STOP = 3.0
# fastai's settings of optimisers that take all weights in a few calls, where its own take them one
# by one, which a GPU waits for. Weight decay is decoupled in all (Loshchilov and Hutter, 2019).
FASTAI = {"betas": (0.9, 0.99), "eps": 1e-5}
RADAM = partial(torch.optim.RAdam, decoupled_weight_decay=True, **FASTAI)
ADAM = partial(torch.optim.AdamW, **FASTAI)


class PictureNetwork(nn.Module):
    """A timm network that takes pictures as they are stored: (batch, 3, size, size) in 0–255."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body.to(memory_format=torch.channels_last)
        mean, deviation = backbones.normalisation(body)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(deviation).view(3, 1, 1) * 255))

    def _normalised(self, pictures: torch.Tensor) -> torch.Tensor:
        floats = (pictures.float() - self.mean) * self.scale
        return floats.contiguous(memory_format=torch.channels_last)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Logits (batch, classes)."""
        return self.body(self._normalised(pictures))

    def features_and_logits(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Penultimate features (batch, width) and logits (batch, classes)."""
        return backbones.features_and_logits(self.body, self._normalised(pictures))

    def get_classifier(self) -> nn.Linear:
        """The last layer."""
        return self.body.get_classifier()


def decoded_pictures(cache: str, side: int) -> Decoded | None:
    """The decoded pictures of one side in a cache, if there are any."""
    folder = decoded_folder(Path(cache), side)
    return Decoded(folder) if cache and folder.is_dir() else None


class Material:
    """A job's rows with their targets, and the data sets over them."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.rows = pd.read_parquet(job.rows)
        index = {name: number for number, name in enumerate(job.classes)}
        self.labels = np.array([index.get(target, -1) for target in self.rows["target"]])
        self.judged = np.array([index.get(label, -1) for label in self.rows["label"]])
        self.fit_rows = np.flatnonzero(self.rows["fit"])
        self.validate_rows = np.flatnonzero(self.rows["validate"])
        self.predict_rows = np.flatnonzero(self.rows["predict"])
        self.counts = np.bincount(
            self.labels[self.fit_rows][self.labels[self.fit_rows] >= 0],
            minlength=len(job.classes),
        )
        self.ids = self.rows["image_id"].tolist()
        self.stores = [Store(Path(store)) for store in job.stores]
        # Taken before the work: what is read now is what the result will hang on.
        self.digest = job_digest(job)
        self.told = Targets(self.labels, len(job.classes))

    @property
    def masked(self) -> torch.Tensor:
        """Classes that are not predicted, boolean (classes,): those without a train image.

        None where the job keeps them, or learns from teachers alone, who may know them.
        """
        job = self.job
        learned = job.fit != "none" or job.trained
        masks = learned and job.teacher_weight < 1 and not job.keep_empty
        return torch.from_numpy((self.counts == 0) & bool(masks))

    def targets(self) -> Targets:
        """What each row teaches: its label and, where the job has teachers, their word."""
        classes, teachers = self.job.classes, []
        if self.job.teacher_weight:
            teachers = [Store(Path(store)) for store in self.job.teachers]
            if same_classes(teachers) != classes:
                raise ValueError(
                    f"the teachers of job {self.job.name} know other classes than it does"
                )
        # Only the images that are fitted have a teacher's word; the others keep zeros.
        places = []
        for teacher in teachers:
            place = np.full(len(self.ids), -1)
            spoken = self.fit_rows
            if self.job.fold_clean:
                fitted = fitted_images(teacher.folder.parent)
                spoken = spoken[[self.ids[row] not in fitted for row in spoken]]
            place[spoken] = teacher.rows_of([self.ids[row] for row in spoken])
            places.append(place)
        if teachers and (np.max(places, axis=0)[self.fit_rows] < 0).any():
            silent = self.fit_rows[np.max(places, axis=0)[self.fit_rows] < 0]
            raise ValueError(
                f"job {self.job.name}: every teacher was trained on {len(silent)} of its images, "
                f"first {self.ids[silent[0]]!r}, and fold_clean forbids that they teach them; "
                "give teachers that held out other folds"
            )
        return Targets(self.labels, len(classes), teachers, places, self.job.temperature)

    def train_pictures(self, *, mix: bool = False, later: bool = False) -> Pictures:
        """Pictures of all rows as they are trained on: cropped, and changed now or later."""
        job = self.job
        view = augment.train_view(job.size, job.train_ratio, job.random_crop)
        pictures = self._pictures(view, job.train_side)
        return replace(pictures, changes=self.changes(mix=mix), changes_later=later)

    def test_pictures(self, *, mirrored: bool = False) -> Pictures:
        """Pictures of all rows as they are predicted, or their mirror images."""
        view = augment.test_view(self.job.size, self.job.test_ratio)
        if mirrored:
            view = v2.Compose([view, v2.RandomHorizontalFlip(1.0)])
        return self._pictures(view, self.job.test_side)

    def _pictures(self, view: augment.Transform, side: int) -> Pictures:
        files = self.rows["file"].tolist()
        return Pictures(
            files,
            self.told,
            view,
            self.job.seed,
            keys=image_keys(self.ids),
            decoded=decoded_pictures(self.job.decoded, side),
        )

    def changes(self, *, mix: bool = False) -> Changes:
        """All random changes of the job; `mix` adds its CutMix or Mixup."""
        job = self.job
        return Changes(
            augment.random_changes(job.augmentation),
            job.seed,
            job.mix if mix else "none",
            job.mix_probability,
            job.mix_alpha,
        )

    def features(self, views: list[str]) -> StoredFeatures:
        """Stored features of all rows, the stores side by side, one array a view."""
        arrays = [
            np.concatenate([store.read(view, self.ids) for store in self.stores], axis=1)
            for view in views
        ]
        return StoredFeatures(arrays, self.told, self.job.seed)

    def train_set(self, *, changes_later: bool = False) -> Dataset:
        """What the job learns from; its random changes may be left to the device that trains."""
        if self.job.fit == "head":
            return replace(self.features(self.job.train_views), targets=self.targets())
        pictures = self.train_pictures(mix=True, later=changes_later)
        return replace(pictures, targets=self.targets(), views=self.job.teacher_views)

    def test_set(self, view: str = "features") -> Dataset:
        """The same rows as they are shown when predicting; a head takes one of its views."""
        if self.job.fit == "head":
            return self.features([view])
        return self.test_pictures()


def new_network(job: Job, material: Material) -> nn.Module:
    """The network of a job, before it learns: the same in every process, from the job's seed."""
    torch.manual_seed(job.seed)
    if job.fit != "head":
        network = PictureNetwork(
            backbones.create_network(
                job.backbone,
                job.weights,
                len(job.classes),
                size=job.size,
                dropout=job.dropout,
                drop_path=job.drop_path,
                gradient_checkpointing=job.gradient_checkpointing,
            )
        )
        if job.trained:
            load_trained(network, job)
    else:
        widths = [store.read("features", material.ids[:1]).shape[1] for store in material.stores]
        rows = material.fit_rows[:: max(1, len(material.fit_rows) // STANDARDISE_ROWS)]
        ids = [material.ids[row] for row in rows]
        train = np.concatenate([store.read("features", ids) for store in material.stores], axis=1)
        network = Head(
            torch.from_numpy(train).float(), widths, len(job.classes), job.head, job.dropout
        )
    if job.balance == "prior" and job.fit != "none":
        bias = torch.from_numpy(balance.log_prior(material.counts))
        backbones.freeze_bias(network.get_classifier(), bias)
    return network


def load_trained(network: nn.Module, job: Job) -> None:
    """Give a network all that another job learned, its classifier too.

    Raises ValueError naming the file where it was trained for other classes or does not fit.
    """
    with safe_open(job.trained, framework="pt") as file:
        classes = file.metadata()["classes"].split("\n")
    if classes != job.classes:
        raise ValueError(
            f"{job.trained} was trained for {len(classes)} other classes than job {job.name} knows"
        )
    try:
        network.load_state_dict(load_file(job.trained))
    except RuntimeError as error:
        raise ValueError(f"{job.trained} does not fit {job.backbone}: {error}") from error


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """What forward passes are computed in; None leaves them in float32.

    `auto` is bfloat16 on CUDA. On a CPU without matrix units for it bfloat16 takes twice as long.
    """
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" else "float32"
    return torch.bfloat16 if precision == "bfloat16" else None


def loader(dataset: Dataset, batches: object, processes: Processes) -> DataLoader:
    """A torch loader that takes whole batches from the data set."""
    workers = processes.workers if isinstance(dataset, Pictures) else 0
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=as_it_is,
        pin_memory=processes.device.type == "cuda",
        # Started once: new workers an epoch would leave the device waiting at each one's start.
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
    )


class OnDevice:
    """A loader's batches, on their way to a device while it still works on the ones before.

    Left to fastai, each copy would wait for all the work before it. With `changes` the random
    changes are made there, from the epochs and keys that stand between pictures and targets.
    """

    def __init__(
        self, batches: DataLoader, device: torch.device, changes: Changes | None = None
    ) -> None:
        self.batches, self.device, self.changes = batches, device, changes

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        for pictures, *keyed, targets in self.batches:
            batch = [t.to(self.device, non_blocking=True) for t in (pictures, targets)]
            yield batch if self.changes is None else self.changes(*batch, keyed[0].tolist())


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
    """Micro-batches to optimiser steps: accumulation, one cosine over all, RAdam and then SGD.

    A step's loss is the mean over its micro-batches and processes, and gradients travel between
    processes only at the last of them.
    """

    order = 10

    def __init__(self, job: Job, batches: GlobalBatches) -> None:
        self.job, self.batches = job, batches
        self.total = batches.steps * job.epochs
        self.rate = 0.0
        self.switch = self.total
        if job.optimiser == "radam+sgd":
            self.switch = round(self.total * job.radam_share)
        self.done = 0

    def optimiser(self, step: int) -> tuple[Callable, float]:
        """Which optimiser takes a step, and its highest rate."""
        sgd = partial(SGDW, momentum=self.job.momentum)
        if self.job.optimiser == "radam+sgd":
            return (RADAM, self.job.radam_lr) if step < self.switch else (sgd, self.job.base_lr)
        return {"radam": RADAM, "sgd": sgd, "adam": ADAM}[self.job.optimiser], self.job.base_lr

    def rate_of(self, step: int) -> float:
        """The learning rate of a step: one cosine over all of them, to zero."""
        _, highest = self.optimiser(step)
        return float(highest * 0.5 * (1 + np.cos(np.pi * step / self.total)))

    def make_optimiser(self, parameters: list) -> OptimWrapper:
        """The optimiser for the step that comes next."""
        kind, rate = self.optimiser(self.done)
        return OptimWrapper(parameters, kind, lr=rate, weight_decay=self.job.weight_decay)

    def before_train(self) -> None:
        self.batches.epoch = self.epoch
        # Dropout is drawn anew each epoch, so that a resumed fit goes on as the first would have.
        torch.manual_seed(hash((self.job.seed, self.epoch, self.batches.rank)) & 0x7FFFFFFF)

    def before_batch(self) -> None:
        if not self.training:
            return
        if self.iter % self.batches.accumulate == 0:
            if self.done == self.switch and self.done:
                self.learn.opt = self.make_optimiser(self.learn.splitter(self.learn.model))
            self.rate = self.rate_of(self.done)
            self.learn.opt.set_hypers(lr=self.rate)
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
        self.done += 1

    def after_batch(self) -> None:
        if self.training:
            self.quiet.close()


class RateSweep(Steps):
    """Steps at rates that rise from SWEEP_LOW to SWEEP_HIGH, each with its loss.

    The learning-rate range test (Smith, Cyclical learning rates for training neural networks,
    2017). It ends early where the loss is SWEEP_STOP times the lowest, or no number.
    """

    def __init__(self, job: Job, batches: GlobalBatches, processes: Processes) -> None:
        super().__init__(job, batches)
        # One optimiser for the whole of the sweep.
        self.total = self.switch = job.rate_sweep_steps
        self.processes = processes
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.sum = 0.0

    def rate_of(self, step: int) -> float:
        """The learning rate of a step, on a logarithmic scale."""
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

    def smoothed(self) -> np.ndarray:
        """The losses, averaged with a decay of 0.9 and freed of the start's bias."""
        weights, smooth = 0.0, []
        mean = 0.0
        for loss in self.losses:
            mean, weights = 0.9 * mean + 0.1 * loss, 0.9 * weights + 0.1
            smooth.append(mean / weights)
        return np.array(smooth)


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
        self.momentums = {
            module: module.momentum
            for module in self.learn.model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
        }
        for module in self.momentums:
            module.momentum = 0.0

    def after_backward(self) -> None:
        for module, momentum in self.momentums.items():
            module.momentum = momentum


class Average(Callback):
    """The exponential moving average of the weights over the steps (Polyak and Juditsky, 1992).

    timm's, with its warm-up, so that a short fit is not dominated by its first weights.
    """

    order = 55

    def __init__(self, network: nn.Module, decay: float, steps: Steps) -> None:
        self.average = ModelEmaV3(network, decay=decay, use_warmup=True)
        self.steps = steps

    @property
    def network(self) -> nn.Module:
        """The averaged network."""
        return self.average.module

    def after_batch(self) -> None:
        if self.training and self.steps.last_of_step:
            plain = getattr(self.learn.model, "module", self.learn.model)
            self.average.update(plain, step=self.steps.done)


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
        average: Average | None = None,
    ) -> None:
        self.job, self.steps, self.material, self.average = job, steps, material, average
        self.held_out = _held_out(material, processes)
        self.processes, self.progress = processes, progress
        self.history: list[dict] = []
        self.start_epoch = 0
        self.trace: list[dict[str, torch.Tensor]] = []

    @property
    def last_file(self) -> Path:
        """Where the last epoch's state lies."""
        return Path(self.job.folder) / LAST

    def take_up(self) -> None:
        """Take up the fit where an earlier one of the very same job was cut off."""
        if not self.last_file.is_file():
            return
        last = torch.load(self.last_file, map_location="cpu", weights_only=True)
        if last["digest"] != self.material.digest:
            return
        self.learn.model.load_state_dict(last["network"])
        if self.average is not None:
            self.average.network.load_state_dict(last["average"])
        self.steps.done = last["steps"]
        self.learn.opt = self.steps.make_optimiser(self.learn.splitter(self.learn.model))
        self.learn.opt.load_state_dict(last["optimiser"])
        self.history, self.start_epoch = last["history"], last["epoch"] + 1
        self.progress.note(self.job.name, f"goes on after epoch {self.start_epoch}")

    def before_train(self) -> None:
        self.losses = torch.zeros((), dtype=torch.float64, device=self.processes.device)
        self.started = self.free_since = time.monotonic()
        self.waited = 0.0

    def before_batch(self) -> None:
        if self.training:
            self.waited += time.monotonic() - self.free_since

    def after_batch(self) -> None:
        if not self.training:
            return
        # Summed where it lies: reading it each time would make a GPU wait for the CPU.
        self.losses += self.learn.loss.detach()
        if self.steps.last_of_step:
            what = f"epoch {self.epoch + 1}/{self.job.epochs}"
            self.progress.step(self.job.name, self.steps.done, self.steps.total, what)
            if self.job.keep_every_step:
                state = self.learn.model.state_dict()
                self.trace.append({k.removeprefix("module."): v.clone() for k, v in state.items()})
        self.free_since = time.monotonic()

    def after_train(self) -> None:
        self.seconds = time.monotonic() - self.started

    def after_epoch(self) -> None:
        if self.epoch < self.start_epoch:
            return
        plain = getattr(self.learn.model, "module", self.learn.model)
        batches = self.steps.batches
        # Adding up the losses ends the wait for the device, so the seconds are taken after it.
        loss_sum, count = self.processes.total([float(self.losses), len(batches)])
        seconds = max(self.seconds, time.monotonic() - self.started)
        figures = {"train_loss": loss_sum / count}
        # The sum over all processes: where it is no number, all of them stop here.
        check_loss(figures["train_loss"], self.job, self.epoch + 1)
        if self.average is not None:
            # Each process averages its own BatchNorm statistics; one network is judged and kept.
            self.processes.share_first(self.average.network.buffers())
        if self.held_out is not None:
            judged = plain if self.average is None else self.average.network
            figures |= evaluate(judged, self.held_out, self.job, self.material, self.processes)
            plain.train()
        figures |= {
            "lr": self.steps.rate,
            "images_per_second": batches.images / seconds,
            "waiting": self.waited / seconds,
            "seconds": seconds,
        }
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
            "epoch": self.epoch,
            "steps": self.steps.done,
            "network": network.state_dict(),
            "average": {} if self.average is None else self.average.network.state_dict(),
            "optimiser": self.learn.opt.state_dict(),
            "history": self.history,
        }
        with whole_file(self.last_file) as temporary:
            torch.save(state, temporary)


def check_loss(loss: float, job: Job, epoch: int) -> None:
    """Raise FloatingPointError where the loss is no number any more."""
    if not np.isfinite(loss):
        raise FloatingPointError(
            f"the loss of job {job.name} is no number after epoch {epoch}; lower its rates"
        )


def without_prior(logits: torch.Tensor, network: nn.Module, job: Job) -> torch.Tensor:
    """Logits (batch, classes) without the frozen log prior, unless the job keeps it."""
    if job.balance == "prior" and not job.keep_prior:
        return logits - network.get_classifier().bias
    return logits


@torch.no_grad()
def evaluate(
    network: nn.Module, batches: DataLoader, job: Job, material: Material, processes: Processes
) -> dict[str, float]:
    """Held-out loss, top-1 and top-5 of what would be predicted, over all processes.

    Each image is counted once. The loss is the cross-entropy without label smoothing.
    """
    network.eval()
    dtype = autocast_dtype(job.precision, processes.device)
    sums = [0.0, 0.0, 0.0, 0.0]
    for pictures, targets in batches:
        with torch.autocast(processes.device.type, dtype, enabled=dtype is not None):
            logits = network(pictures.to(processes.device))
        logits = without_prior(logits.float(), network, job).cpu()
        told = targets[:, : logits.shape[1]]
        loss = nn.functional.cross_entropy(logits, told)
        masked = logits.masked_fill(material.masked, MASKED)
        ranks = label_ranks(masked.numpy(), told.argmax(dim=1).numpy())
        for place, value in enumerate((len(ranks), (ranks == 0).sum(), (ranks < 5).sum())):
            sums[place] += float(value)
        sums[3] += float(loss) * len(ranks)
    count, first, five, loss = processes.total(sums)
    return {"top1": first / count, "top5": five / count, "loss": loss / count, "n": count}


def fit(
    job: Job, material: Material, network: nn.Module, processes: Processes, progress: Progress
) -> tuple[nn.Module, list[dict]]:
    """Train the network as the job says; returns it and a record an epoch.

    A job that sweeps rates keeps their losses in `rates.csv`; its record has the rate that fastai's
    `valley` suggests.

    Raises ParameterError where the global batch cannot be cut up, FloatingPointError where the
    loss is no number any more.
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
    blocks = AllViews(material.train_set(), processes.share(material.fit_rows))
    objective = Objective(job.label_smoothing, job.teacher_weight, job.temperature)
    figures = fit_layer(network, blocks, objective, job.weight_decay, job.epochs, processes)
    check_loss(figures["train_loss"], job, 1)
    held_out = _held_out(material, processes)
    if held_out is not None:
        figures |= evaluate(network, held_out, job, material, processes)
    progress.figures(job.name, f"{figures['evaluations']} evaluations", **figures)
    return network, [{"epoch": 1, **figures}]


def _held_out(material: Material, processes: Processes) -> DataLoader | None:
    if not len(material.validate_rows):
        return None
    mine = InTurn(processes.share(material.validate_rows), 64)
    return loader(material.test_set(), mine, processes)


def _batches(job: Job, material: Material, processes: Processes) -> GlobalBatches:
    cut = accumulation(job.global_batch, job.micro_batch, processes.count)
    rows = material.fit_rows
    if job.balance == "oversample":
        rows = rows[balance.oversample(material.labels[rows], seed=job.seed)]
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
    dtype = autocast_dtype(job.precision, processes.device)
    if dtype is not None:
        callbacks.append(Autocast(processes.device.type, dtype))
    objective = Objective(job.label_smoothing, job.teacher_weight, job.temperature)
    loaders = DataLoaders(train, [], path=Path(job.folder))
    learner = Learner(
        loaders, network, objective, cbs=callbacks, path=Path(job.folder), wd=job.weight_decay
    )
    # Account does what these two would do, for processes and notebooks alike.
    learner.remove_cbs([c for c in learner.cbs if c.name in ("recorder", "progress")])
    learner.opt = steps.make_optimiser(learner.splitter(network))
    return learner


def _fit_by_steps(
    job: Job, material: Material, network: nn.Module, processes: Processes, progress: Progress
) -> tuple[nn.Module, list[dict]]:
    network = network.to(processes.device)
    steps = Steps(job, _batches(job, material, processes))
    average = Average(network, job.ema_decay, steps) if job.ema_decay else None
    account = Account(job, steps, material, processes, progress, average)
    callbacks = [account] if average is None else [account, average]
    learner = _learner(job, material, network, steps, processes, callbacks)
    account.take_up()
    with learner.no_logging():
        learner.fit(job.epochs, start_epoch=account.start_epoch)
    if processes.first:
        _keep_trace(job, account)
    if average is not None:
        network = average.network
    return network, account.history


def _sweep_rates(
    job: Job, material: Material, network: nn.Module, processes: Processes, progress: Progress
) -> list[dict]:
    network = network.to(processes.device)
    sweep = RateSweep(job, _batches(job, material, processes), processes)
    learner = _learner(job, material, network, sweep, processes, [])
    epochs = -(-job.rate_sweep_steps // sweep.batches.steps)
    with learner.no_logging():
        learner.fit(epochs)
    check_loss(sweep.losses[0], job, 1)
    smooth = sweep.smoothed()
    usable = np.isfinite(smooth)
    rates, smooth = np.array(sweep.rates)[usable], smooth[usable]
    suggested, _ = valley(rates.tolist(), smooth.tolist(), len(rates))
    if processes.first:
        with whole_file(Path(job.folder) / "rates.csv") as temporary:
            tried = {"lr": sweep.rates, "loss": sweep.losses}
            pd.DataFrame(tried).to_csv(temporary, index=False)
    figures = {"suggested": suggested, "train_loss": float(smooth.min())}
    progress.figures(job.name, f"{len(rates)} steps", **figures)
    return [{"epoch": 1, **figures}]


def _keep_fit(job: Job, network: nn.Module, history: list[dict]) -> None:
    folder = Path(job.folder)
    with whole_file(folder / "log.csv") as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)
    if job.keep_weights:
        state = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
        classes = "\n".join(job.classes)
        with whole_file(folder / "weights.safetensors") as temporary:
            save_file(state, temporary, metadata={"classes": classes, "backbone": job.backbone})


def _keep_trace(job: Job, account: Account) -> None:
    for number, state in enumerate(account.trace):
        with whole_file(Path(job.folder) / "steps" / f"{number:05d}.safetensors") as temporary:
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
