"""The kit's training loop beside a bare PyTorch loop, on batches that lie ready in memory.

`python benchmarks/train_step.py [--device cuda] [--backbone NAME --size 224] [--batch 32]
[--accumulate 1] [--precision bfloat16] [--steps 2] [--blocks 16] [--seeds 0 1 2] [--compile]
[--autotune]` trains the same network twice from the same weights: by `fitting.fit` (fastai's
Learner and the kit's callbacks) and by a loop of forward, loss, backward and step. Both take the
same batches, uint8 in the host's memory (pinned for a GPU), the same soft targets with label
smoothing 0.2, RAdam for the first half and SGD with decoupled weight decay for the second, one
cosine over all.

First their losses are compared step by step: a benchmark of two loops that do other work says
nothing. Then they take turns, a block of steps each, because other work may run on the machine; the
share is the median over these pairs of blocks, its 95 % interval a bootstrap over them. The first
pair of each optimiser is warm-up and is left out. `--compile` compiles the kit's network and leaves
the bare loop as it is; `--autotune` has cuDNN try all its ways, for both.

Without `--backbone`: on a CPU (two threads) tf_efficientnet_lite0 at 128 px, and test_efficientnet
at 48 px, whose network is so small that the loop's own work shows; on a GPU tf_efficientnet_b4 at
380 px in bfloat16. Last line: JSON of the first case, with all of them in `cases`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
from allocator import keep_memory
from scipy.stats import bootstrap
from timm.optim import SGDW
from torch import nn
from torch.utils.data import Dataset

from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress, read_events
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training import fitting
from fgvc_utils.training.autotune import autotune
from fgvc_utils.training.feed import Item
from fgvc_utils.training.fitting import fit
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import new_network

CLASSES = [f"class {number:04d}" for number in range(1000)]
DISTINCT = 4
# RAdam adapts from its sixth step on.
CHECKED_STEPS = 20
# Share by which the losses of a step may differ: a GPU does not add up in one order, and a network
# that has only begun to learn makes much of it.
AGREES = {"cpu": 1e-4, "cuda": 5e-2}
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """What is trained, and how."""

    device: str
    backbone: str
    size: int
    batch: int
    accumulate: int
    precision: str
    compile: bool = False
    autotune: bool = False


def job_of(case: Case, folder: Path, seed: int, steps: int, epochs: int) -> Job:
    """The case as a job of `epochs` epochs of `steps` optimiser steps each, written to a folder."""
    images = case.batch * case.accumulate
    job = Job(
        name=case.backbone,
        folder=str(folder),
        rows=str(folder / "rows.parquet"),
        classes=CLASSES,
        fit="full",
        backbone=case.backbone,
        size=case.size,
        precision=case.precision,
        compile=case.compile,
        # The batches in memory are ready; a GPU has nothing to change in them.
        changes_on="workers",
        epochs=epochs,
        optimiser="radam+sgd",
        base_lr=0.01,
        radam_lr=0.001,
        radam_share=0.5,
        weight_decay=0.0001,
        label_smoothing=0.2,
        global_batch=images,
        micro_batch=case.batch,
        seed=seed,
        keep=[],
        keep_weights=False,
    )
    rows = pd.DataFrame({"image_id": [str(number) for number in range(steps * images)]})
    rows["target"] = [CLASSES[number % len(CLASSES)] for number in range(len(rows))]
    rows = rows.assign(file="", label="", fit=True, validate=False, predict=False)
    write_job(job, rows)
    return job


class InMemory(Material):
    """A job's rows, fed from a few batches that lie ready instead of from its pictures."""

    def __init__(self, job: Job, pin: bool, before: Callable[[], None] = lambda: None) -> None:
        super().__init__(job)
        self.before = before
        drawn = torch.Generator().manual_seed(job.seed)
        shape = (job.micro_batch, job.size, job.size, 3)
        self.batches: list[Batch] = []
        for _ in range(DISTINCT):
            # In memory they lie as `feed.stack` leaves them.
            pictures = torch.randint(0, 256, shape, dtype=torch.uint8, generator=drawn)
            pictures = pictures.permute(0, 3, 1, 2)
            labels = torch.randint(0, len(job.classes), shape[:1], generator=drawn)
            targets = nn.functional.one_hot(labels, len(job.classes)).float()
            whole = (pictures, targets)
            self.batches.append(tuple(t.pin_memory() for t in whole) if pin else whole)

    def train_set(self, **how: object) -> Dataset:
        """The ready batches in turn, whichever rows are asked for and however."""
        return ReadyBatches(self.batches, self.before)


class ReadyBatches(Dataset):
    """Gives whole batches in turn, and calls `before` ahead of each."""

    def __init__(self, batches: list[Batch], before: Callable[[], None]) -> None:
        self.batches, self.before, self.given = batches, before, 0

    def __getitems__(self, items: list[Item]) -> Batch:
        """The next batch."""
        self.before()
        self.given += 1
        return self.batches[(self.given - 1) % len(self.batches)]


class BareLoop:
    """What one writes by hand: forward, loss, backward, step, and the rate of the cosine."""

    def __init__(self, job: Job, material: InMemory, device: torch.device) -> None:
        self.job, self.batches, self.device = job, material.batches, device
        self.network = new_network(job, material).to(device).train()
        self.loss = nn.CrossEntropyLoss(label_smoothing=job.label_smoothing)
        self.accumulate = job.global_batch // job.micro_batch
        self.total = job.epochs * len(material.fit_rows) // job.global_batch
        self.done = self.given = 0

    def _optimiser(self) -> tuple[torch.optim.Optimizer, float]:
        decay, parameters = self.job.weight_decay, self.network.parameters()
        if self.done == 0:
            rate = self.job.radam_lr
            kind, more = torch.optim.RAdam, {"betas": (0.9, 0.99), "eps": 1e-5}
            more["decoupled_weight_decay"] = True
        else:
            rate = self.job.base_lr
            kind, more = SGDW, {"momentum": self.job.momentum}
        return kind(parameters, lr=rate, weight_decay=decay, **more), rate

    def run(self, steps: int) -> list[torch.Tensor]:
        """Take so many steps; the mean loss of each, float32 scalars on the device."""
        losses = []
        for _ in range(steps):
            if self.done in (0, round(self.total * self.job.radam_share)):
                self.optimiser, self.rate = self._optimiser()
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate * 0.5 * (1 + np.cos(np.pi * self.done / self.total))
            losses.append(sum(self._micro_batch() for _ in range(self.accumulate)))
            self.optimiser.step()
            self.optimiser.zero_grad()
            self.done += 1
        return losses

    def _micro_batch(self) -> torch.Tensor:
        pictures, targets = self.batches[self.given % len(self.batches)]
        pictures = pictures.to(self.device, non_blocking=True)
        targets = targets.to(self.device, non_blocking=True)
        self.given += 1
        enabled = self.job.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled):
            logits = self.network(pictures)
        loss = self.loss(logits.float(), targets) / self.accumulate
        loss.backward()
        return loss.detach()


def largest_difference(case: Case, folder: Path, seed: int) -> float:
    """Largest share by which the two loops' losses of a step differ, over both optimisers.

    Raises ArithmeticError where they do not do the same work.
    """
    # Epochs of one step: the history of a fit then has a loss for each step.
    job = job_of(case, folder, seed, steps=1, epochs=CHECKED_STEPS)
    device = torch.device(case.device)
    material = InMemory(job, case.device == "cuda")
    bare = BareLoop(job, material, device)
    _, history = fit(
        job, material, new_network(job, material), Processes(device=device), Progress(None)
    )
    ours = np.array([epoch["train_loss"] for epoch in history])
    theirs = np.array([float(loss) for loss in bare.run(CHECKED_STEPS)])
    found = float(np.abs(ours / theirs - 1).max())
    if found > AGREES[case.device]:
        raise ArithmeticError(f"the loops do other work: losses {ours} and bare {theirs}")
    return found


class Turns:
    """Times the fit that calls it ahead of each micro-batch, and the bare loop between its blocks.

    `ours` and `bare` are seconds a block.
    """

    def __init__(self, micro_batches: int, steps: int) -> None:
        self.micro_batches, self.steps = micro_batches, steps
        self.loop: BareLoop | None = None
        self.ours: list[float] = []
        self.bare: list[float] = []
        self.seen = 0

    def __call__(self) -> None:
        if self.seen % self.micro_batches == 0:
            if self.seen:
                self.ours.append(self._now() - self.started)
                started = self._now()
                self.loop.run(self.steps)
                self.bare.append(self._now() - started)
            self.started = self._now()
        self.seen += 1

    def _now(self) -> float:
        if self.loop.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def time_blocks(case: Case, folder: Path, seed: int, steps: int, blocks: int) -> pd.DataFrame:
    """Seconds a block of each loop in turn, with the optimiser of each; warm-up is left out."""
    # The first micro-batch of one step more ends the last block before the epoch's end does.
    job = job_of(case, folder, seed, steps * blocks + 1, epochs=1)
    turns = Turns(steps * case.accumulate, steps)
    material = InMemory(job, case.device == "cuda", turns)
    device = torch.device(case.device)
    turns.loop = BareLoop(job, material, device)
    events = Progress(folder / "events.jsonl")
    fit(job, material, new_network(job, material), Processes(device=device), events)
    notes = [event["text"] for event in read_events(events.path)[0] if event["event"] == "note"]
    if notes:
        raise RuntimeError(f"the fit is not the one that was asked for: {notes[0]}")
    half = blocks // 2
    names = ["RAdam"] * half + ["SGD"] * half
    table = pd.DataFrame({"seed": seed, "optimiser": names, "ours": turns.ours, "bare": turns.bare})
    return table.drop(index=[0, half])


def summary(rows: pd.DataFrame, images: int) -> dict:
    """Images a second, medians over blocks; ours as a share of bare, with its 95 % interval."""
    share = (rows["bare"] / rows["ours"]).to_numpy()
    drawn = bootstrap((share,), np.median, method="percentile", rng=0).confidence_interval
    return {
        "ours": round(images / float(rows["ours"].median()), 2),
        "bare": round(images / float(rows["bare"].median()), 2),
        "share_of_bare": round(float(np.median(share)), 4),
        "interval": [round(float(drawn.low), 4), round(float(drawn.high), 4)],
        "n": len(rows),
    }


def measure(case: Case, options: argparse.Namespace) -> dict:
    """Check and time one case on all seeds; print its table, return its figures."""
    differences, tables = [], []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            # A fit as short as this one would leave cuDNN's trial off.
            with mock.patch.object(fitting, "pays", return_value=case.autotune):
                with autotune(case.autotune):
                    differences.append(largest_difference(case, folder / "check", seed))
                tables.append(
                    time_blocks(case, folder / "timed", seed, options.steps, options.blocks)
                )
    rows = pd.concat(tables)
    images = case.batch * case.accumulate * options.steps
    found = {name: summary(part, images) for name, part in rows.groupby("optimiser")}
    found["both"] = summary(rows, images)
    print(
        f"\n{case.backbone} at {case.size} px, {case.batch} × {case.accumulate} images a step, "
        f"{case.precision}, {case.device}{', compiled' if case.compile else ''}"
        f"{', cuDNN tries all' if case.autotune else ''}; losses agree to {max(differences):.1e}"
    )
    print(f"{'':<8}{'ours':>10}{'bare':>10}  images/s{'share':>9}   95 % interval   pairs")
    for name, each in found.items():
        low, high = each["interval"]
        print(
            f"{name:<8}{each['ours']:>10.1f}{each['bare']:>10.1f}{each['share_of_bare']:>19.3f}"
            f"   {low:.3f} to {high:.3f}{each['n']:>8}",
            flush=True,
        )
    return (
        asdict(case)
        | found.pop("both")
        | {
            "seeds": len(options.seeds),
            "by_optimiser": found,
            "loss_difference": max(differences),
        }
    )


def cases_of(options: argparse.Namespace) -> list[Case]:
    """The cases asked for, or those of the device."""
    cuda = options.device == "cuda"
    named = [("tf_efficientnet_b4", 380, 32)]
    if not cuda:
        named = [("tf_efficientnet_lite0", 128, 16), ("test_efficientnet", 48, 32)]
    if options.backbone:
        named = [(options.backbone, 224, 32)]
    precision = options.precision or ("bfloat16" if cuda else "float32")
    return [
        Case(
            device=options.device,
            backbone=backbone,
            size=options.size or size,
            batch=options.batch or batch,
            accumulate=options.accumulate,
            precision=precision,
            compile=options.compile,
            autotune=options.autotune,
        )
        for backbone, size, batch in named
    ]


def arguments() -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=list(AGREES), help="by default a GPU if there is")
    parser.add_argument("--backbone", help="a timm network, without weights")
    parser.add_argument("--size", type=int, help="px")
    parser.add_argument("--batch", type=int, help="images a micro-batch")
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches a step")
    parser.add_argument("--precision", choices=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, help="optimiser steps a block: 2, or 10 on a GPU")
    parser.add_argument("--blocks", type=int, default=16, help="of each loop and seed; even")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile for the kit's network"
    )
    parser.add_argument("--autotune", action="store_true", help="cuDNN tries all its ways")
    options = parser.parse_args()
    if options.blocks < 6 or options.blocks % 2:
        parser.error(f"--blocks is {options.blocks}; give an even number of at least 6")
    there = torch.cuda.is_available()
    if options.device == "cuda" and not there:
        parser.error("--device is cuda, but torch sees no CUDA GPU here; give cpu")
    options.device = options.device or ("cuda" if there else "cpu")
    # Short turns, so that other work on the cores meets both loops; on a GPU each turn ends in a
    # wait for the device, which would hide what a loop gains by running ahead of it.
    options.steps = options.steps or (10 if options.device == "cuda" else 2)
    return options


def main() -> None:
    keep_memory()
    options = arguments()
    torch.set_num_threads(2)
    found = [measure(case, options) for case in cases_of(options)]
    owed = []
    if options.device == "cpu":
        owed = ["tf_efficientnet_b4 at 380 px in bfloat16 on a GPU"]
        print(f"\nOwed, not measured here: {owed[0]}")
    print(json.dumps(found[0] | {"owed": owed, "cases": found}))


if __name__ == "__main__":
    main()
