"""A job: one fit and its predictions, as plain data."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from fgvc_utils.core.files import read_json
from fgvc_utils.core.reading import refused_by_name
from fgvc_utils.jobs.views import TestView

# Where a job reads and writes; what lies there tells, not where it lies.
PLACES = ("folder", "rows", "trained", "decoded")


LISTS_OF_PLACES = ("stores", "teachers")


# What a job may leave for others, below its folder.
WEIGHTS = "weights.safetensors"


RATES = "rates.csv"


PREDICTIONS = "predictions"


DONE = "done.json"


class Job(BaseModel):
    """One fit and its predictions.

    `rows` is a parquet file with a row an image: image_id, file (a picture of the cache), target
    (a class name to learn, or empty), label (the class name that reduced predictions are held
    against, or empty), and the booleans fit, validate and predict.

    `fit` is `none` (the network as it comes, or as `trained` has it), `full` (all its weights are
    trained on pictures) or `head` (a layer is trained on the features that `stores` hold). A step's
    batch is global_batch, cut by processes × micro_batch into what each accumulates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    folder: str
    rows: str
    classes: list[str]
    fit: Literal["none", "full", "head"]
    # the network
    backbone: str = ""
    weights: str = "none"
    size: int = 224
    random_crop: bool = True
    train_ratio: float = 1.15
    test_ratio: float = 1.35
    # the crops whose mean probability the logits are of, an entry of TEST_VIEWS
    test_time: TestView = "centre"
    dropout: float = 0.0
    drop_path: float = 0.0
    # the weights.safetensors of another job: what it learned, its classifier too
    trained: str = ""
    # BatchNorm statistics are taken anew from the train images before anything is predicted
    renew_statistics: bool = False
    # auto: bfloat16 on CUDA, float32 on the CPU
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    # a head: the feature stores it reads, side by side, and the views it may draw from
    stores: list[str] = []
    train_views: list[str] = ["features"]
    test_views: list[str] = ["features"]
    head: Literal["linear", "convolution", "convolution-along"] = "linear"
    # optimisation
    epochs: int = 1
    # lbfgs fits a linear head on all its rows and views at once; epochs are its most steps
    optimiser: Literal["radam", "sgd", "adam", "radam+sgd", "lbfgs"] = "radam"
    base_lr: float = 0.001
    radam_lr: float = 0.001
    radam_share: float = 0.15
    momentum: float = 0.9
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    # weights are averaged over the steps with this decay, 0 for not at all
    ema_decay: float = 0.0
    # above 0 the job only tries rates, from low to high in so many steps, and keeps their losses
    rate_sweep_steps: int = 0
    global_batch: int = 32
    micro_batch: int = 32
    balance: Literal["none", "oversample", "prior"] = "none"
    keep_prior: bool = False
    keep_empty: bool = False
    # the cache whose decoded pictures are read where they are there, else its JPEGs are decoded
    decoded: str = ""
    augmentation: dict[str, float] = {}
    mix: Literal["none", "cutmix", "mixup"] = "none"
    mix_probability: float = 0.5
    mix_alpha: float = 1.0
    # where random changes are made: by those that prepare pictures, or where the network is
    changes_on: Literal["workers", "device"] = "workers"
    # distillation
    teachers: list[str] = []
    teacher_weight: float = 0.0
    temperature: float = 1.0
    # above 0 the epochs repeat so many random views, and teachers speak of the very same ones
    teacher_views: int = 0
    # no teacher speaks of an image that it was trained on
    fold_clean: bool = False
    seed: int = 0
    # what is written: kinds of arrays
    keep: list[Literal["logits", "reduced", "features", "mirror", "augmented", "views"]] = [
        "logits"
    ]
    reduce_to: int = 10
    augmented_views: int = 0
    keep_weights: bool = True
    keep_every_step: bool = False

    @property
    def whole_batch(self) -> bool:
        """Whether all images make one batch, so that batch sizes have no say."""
        return self.fit == "none" or self.optimiser == "lbfgs"

    @property
    def train_side(self) -> int:
        """Shorter side of the pictures that training crops from, px."""
        return round(self.size * self.train_ratio)

    @property
    def test_side(self) -> int:
        """Shorter side of the pictures whose centre is predicted, px."""
        return round(self.size * self.test_ratio)

    @property
    def store(self) -> Path:
        """The folder of this job's predictions."""
        return Path(self.folder) / PREDICTIONS

    def elsewhere(self, folder: Path, name: str, **changes: Any) -> "Job":
        """This job under another name, its files in another folder, with further changes."""
        own = {"name": name, "folder": str(folder), "rows": str(folder / "rows.parquet")}
        return self.model_copy(update=own | changes)

    @property
    def job_file(self) -> Path:
        """Where the job itself is written."""
        return Path(self.folder) / "job.json"


def read_job(path: Path) -> Job:
    """Read a job file; what it names lies relative to it.

    Raises ValueError naming the file where it is no job.
    """
    with refused_by_name(path, "a job", "delete its folder and run its notebook again"):
        told, folder = read_json(path), Path(path).absolute().parent
        for name in PLACES:
            if told.get(name):
                told[name] = os.path.normpath(folder / told[name])
        for name in LISTS_OF_PLACES:
            told[name] = [os.path.normpath(folder / place) for place in told.get(name, [])]
        return Job(**told)


def as_written(job: Job) -> dict[str, Any]:
    """A job as its file has it: places relative to its folder."""
    told, folder = job.model_dump(mode="json"), Path(job.folder).absolute()
    for name in PLACES:
        if told[name]:
            told[name] = os.path.relpath(told[name], folder)
    for name in LISTS_OF_PLACES:
        told[name] = [os.path.relpath(place, folder) for place in told[name]]
    return told
