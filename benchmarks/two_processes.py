"""Train the same job as one process and as two that accumulate half as often, and compare.

`python benchmarks/two_processes.py [--epochs 5] [--folder FOLDER]` draws the tiny demo set, fits a
network without and one with BatchNorm both ways on the CPU, and prints how far their weights are
apart after 1, 5 and 10 steps, and their loss an epoch: first 1 × 16 × 2 against 2 × 16 × 1
(processes × micro-batch × accumulation), then large batches, 1 × 64 × 4 against 2 × 64 × 2, on the
same images repeated. The last line is JSON; the large batches are its key `large_batch`.

Every micro-batch is the same in both, so the parameters agree but for the order in which floats are
added: two gradients have one sum, four may have several. BatchNorm's running statistics do not
agree: two processes keep those of the first one's pictures.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.torch import load_file

from fgvc_utils.contest.images import take_in
from fgvc_utils.demo.drawing import TINY, draw_demo
from fgvc_utils.hardware.launch import launch
from fgvc_utils.hardware.plan import Hardware
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.running import write_job

NETWORKS = {"without BatchNorm": "test_convnext", "with BatchNorm": "test_efficientnet"}
PROCESSES = (1, 2)
STEPS = (1, 5, 10)
SIZE = 48
LARGE_ROWS = 512
STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Cut:
    """Images of a step, and how many of them a process takes at once."""

    step: int
    micro: int

    def __str__(self) -> str:
        one, two = (f"{n} × {self.micro} × {self.step // self.micro // n}" for n in PROCESSES)
        return f"{one} against {two}"


SMALL, LARGE = Cut(32, 16), Cut(256, 64)


def draw_rows(folder: Path) -> pd.DataFrame:
    """Draw the demo set and take it into a cache: rows of a job with all readable train images."""
    root = folder / "demo"
    draw_demo(root, **TINY)
    paths = sorted(path.relative_to(root).as_posix() for path in root.glob("train/*/*"))
    images = pd.DataFrame({"image_id": paths, "path": paths})
    taken = take_in(images, root, folder / "cache", TINY["side"])
    readable = taken[taken["cached"] != ""]
    rows = pd.DataFrame({"image_id": readable["image_id"]})
    rows["file"] = [str(folder / "cache" / name) for name in readable["cached"]]
    rows["target"] = [path.split("/")[1] for path in readable["path"]]
    return rows.assign(label="", fit=True, validate=False, predict=False)


def repeated(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The rows again and again until there are `count`, each under an id of its own."""
    more = rows.iloc[np.arange(count) % len(rows)].reset_index(drop=True)
    return more.assign(image_id=[f"{n}:{image}" for n, image in enumerate(more["image_id"])])


def fit_job(folder: Path, backbone: str, classes: list[str], epochs: int, cut: Cut) -> Job:
    """A whole network, half its steps RAdam and half SGD; every step's weights are kept."""
    return Job(
        name=folder.name,
        folder=str(folder),
        rows=str(folder / "rows.parquet"),
        classes=classes,
        fit="full",
        backbone=backbone,
        size=SIZE,
        epochs=epochs,
        optimiser="radam+sgd",
        base_lr=0.01,
        radam_lr=0.002,
        radam_share=0.5,
        global_batch=cut.step,
        micro_batch=cut.micro,
        keep=[],
        keep_every_step=True,
    )


def run(folder: Path, rows: pd.DataFrame, epochs: int, cut: Cut) -> dict[str, list[Job]]:
    """Fit each network both ways; the jobs by network, one process first."""
    classes = sorted(rows["target"].unique())
    jobs = {
        what: [
            fit_job(folder / f"{backbone}-{n}", backbone, classes, epochs, cut) for n in PROCESSES
        ]
        for what, backbone in NETWORKS.items()
    }
    for place, processes in enumerate(PROCESSES):
        files = [write_job(pair[place], rows) for pair in jobs.values()]
        # A thread each: their number changes the order in which floats are added.
        hardware = Hardware(processes=processes, threads=1, device="cpu")
        launch(files, folder / f"launch-{processes}", hardware)
    return jobs


def differences(pair: list[Job], step: int) -> dict[str, float]:
    """Largest absolute difference after a step: of parameters, and of running statistics."""
    name = f"steps/{step - 1:05d}.safetensors"
    one, two = (load_file(Path(job.folder) / name) for job in pair)
    largest = {"parameters": 0.0, "running statistics": 0.0}
    for key, tensor in one.items():
        if tensor.is_floating_point():
            kind = "running statistics" if key.endswith(STATISTICS) else "parameters"
            largest[kind] = max(largest[kind], float((tensor - two[key]).abs().max()))
    return largest


def losses(job: Job) -> list[float]:
    """Mean train loss of each epoch."""
    return pd.read_csv(Path(job.folder) / "log.csv")["train_loss"].tolist()


def report(jobs: dict[str, list[Job]], cut: Cut) -> dict:
    """Print the tables; returns their figures."""
    figures: dict = {"differences": {}, "losses": {}}
    print(f"\nLargest difference of weights, {cut}")
    print(f"{'network':<20}{'step':>5}{'parameters':>14}{'running statistics':>22}")
    for what, pair in jobs.items():
        found = {step: differences(pair, step) for step in STEPS}
        for step, each in found.items():
            parameters, statistics = each.values()
            print(f"{what:<20}{step:>5}{parameters:>14.2e}{statistics:>22.2e}")
        figures["differences"][what] = found
        figures["losses"][what] = dict(zip(PROCESSES, map(losses, pair), strict=True))
    print(f"\nLoss of the network with BatchNorm, {cut}")
    print(f"{'epoch':<8}{'1 process':>12}{'2 processes':>14}{'difference':>14}")
    curves = figures["losses"]["with BatchNorm"].values()
    for epoch, (one, two) in enumerate(zip(*curves, strict=True), start=1):
        print(f"{epoch:<8}{one:>12.6f}{two:>14.6f}{two - one:>14.1e}")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5, help="two steps each, or more")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        rows = draw_rows(folder)
        large = repeated(rows, LARGE_ROWS)
        per_epoch = min(len(rows) // SMALL.step, len(large) // LARGE.step)
        if per_epoch * options.epochs < max(STEPS):
            parser.error(f"--epochs {options.epochs} of {per_epoch} steps: {max(STEPS)} are needed")
        figures = report(run(folder / "small", rows, options.epochs, SMALL), SMALL)
        figures["large_batch"] = report(run(folder / "large", large, options.epochs, LARGE), LARGE)
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
