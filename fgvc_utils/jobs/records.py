"""A job: one fit and its predictions, as plain data."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fgvc_utils.contest.parameters import Count, CountOrZero, NotNegative, Positive, Ratio, Share
from fgvc_utils.core.files import read_json
from fgvc_utils.core.reading import refused_by_name
from fgvc_utils.jobs.views import TestView

# Where a job reads and writes; what lies there counts, not where it lies.
PLACES = ("folder", "rows", "trained", "start_weights", "probe", "decoded", "soft_labels")
LISTS_OF_PLACES = ("stores", "teachers")

# What a job may leave for others, below its folder.
WEIGHTS = "weights.safetensors"
# the weights that a fit ended with, where it keeps others
TUNED = "tuned.safetensors"
RATES = "rates.csv"
PREDICTIONS = "predictions"
DONE = "done.json"

# A share that may not be the whole.
Part = Annotated[float, Field(ge=0, lt=1)]
# The longest side of a crop over its other one.
Stretch = Annotated[float, Field(ge=1, le=4)]
# The name of a model, or none.
StartName = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$", max_length=100)]


class Recipe(BaseModel):
    """How a network is trained and shown its pictures.

    Type and range of each setting are declared here alone: the parameters of 10_train and
    20_distill are made of these fields, and their jobs take them over by name. A default is
    neutral: what it stands for changes nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    random_crop: bool = True
    # above 0 a random crop is of a random size too: the least share of the area that it may have
    crop_smallest: Share = 0.0
    crop_stretch: Stretch = 1.333
    train_ratio: Ratio = 1.15
    test_ratio: Ratio = 1.35
    # the name of an earlier model of the run from which the fit begins, its classifier too
    start: StartName = ""
    # probe: the classifier begins as one that was fitted on the features of the frozen network
    start_head: Literal["random", "probe"] = "random"
    # 0 where it begins from an earlier model, which it then is
    epochs: CountOrZero = 1
    # radam+sgd: RAdam for `radam_share` of the steps, then SGD
    optimiser: Literal["radam+sgd", "adamw", "radam", "sgd"] = "radam+sgd"
    base_lr: Positive = 0.001
    radam_lr: Positive = 0.001
    radam_share: Share = 0.15
    momentum: Share = 0.9
    # share of the steps in which the rate rises from 0, before its cosine
    warm_up: Part = 0.0
    # the classifier's rate over that of the layer before it
    head_lr_scale: Positive = 1.0
    # each layer's rate over that of the next one towards the classifier
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    # the longest that a step's gradient may be, over all weights; 0 for any
    clip_norm: NotNegative = 0.0
    # BatchNorm uses and keeps the running statistics that the network came with
    freeze_statistics: bool = False
    weight_decay: NotNegative = 0.0
    # whether biases and the weights of norms are decayed too
    decay_norms: bool = True
    label_smoothing: Part = 0.0
    # of the labels: soft cross-entropy, or generalised cross-entropy with its `gce_q`
    loss: Literal["cross-entropy", "gce"] = "cross-entropy"
    gce_q: Annotated[float, Field(gt=0, le=1)] = 0.7
    # weights are averaged over the steps with this decay, 0 for not at all
    ema_decay: Part = 0.0
    # the weights are the mean of those at the end of the last so many epochs, 0 for the last ones
    swa_epochs: CountOrZero = 0
    # share of the tuned weights in those that are kept; the rest are those the fit began with
    tuned_share: Share = 1.0
    dropout: Part = 0.0
    drop_path: Part = 0.0
    global_batch: Count = 32
    # 0: the largest that fits in memory
    micro_batch: CountOrZero = 32
    # auto: bfloat16 on CUDA, float32 on the CPU
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    # above 0 the layers of attention and MLPs learn by adapters of this inner width
    lora_rank: CountOrZero = 0
    # the adapters' product is multiplied by lora_alpha / lora_rank
    lora_alpha: Positive = 16.0
    # torch.compile of the network for the fit
    compile: bool = False
    # who makes random changes: those that prepare pictures, or the device where the network is
    changes_on: Literal["workers", "device"] = "workers"
    balance: Literal["none", "oversample", "prior"] = "none"
    keep_prior: bool = False
    keep_empty: bool = False
    # a network's last layer: fully connected, or scaled cosines trained with a margin
    classifier: Literal["linear", "arcface"] = "linear"
    # centres of each class
    arcface_centres: Annotated[int, Field(ge=1, le=16)] = 3
    # an angle, rad
    arcface_margin: Share = 0.3
    # of the cosines
    arcface_scale: Positive = 30.0
    # a `training.changes.MixKind`
    mix: str = "none"
    mix_probability: Share = 0.5
    mix_alpha: Positive = 1.0
    # that of Mixup where it takes turns with CutMix
    mixup_alpha: Positive = 0.2


class Distillation(BaseModel):
    """How a network learns from teachers: what 20_distill has beside the recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: Positive = 1.0
    # above 0 the epochs repeat so many random views, and teachers predict the same ones
    teacher_views: CountOrZero = 0
    # no teacher teaches an image that it was trained on
    fold_clean: bool = False


class Job(Recipe, Distillation):
    """One fit and its predictions: a recipe, what it is applied to, and what is kept of it.

    A default is neutral by contract: a job that leaves a field at it is the job it was before there
    was that field. Whoever needs another value gives it where the job is made.
    """

    # what people and messages call it
    name: str
    # its results and its own file lie here
    folder: str
    # a parquet file with a row an image: see `rows.ROW_COLUMNS`
    rows: str
    # the classes that it tells apart, in the order of its logits
    classes: list[str]
    # none: the network as it comes, or as `trained` has it; full: all its weights are trained on
    # pictures; head: a layer is trained on the features that `stores` hold
    fit: Literal["none", "full", "head"]
    # the network, a name of timm; of a head the networks of its features, or empty
    backbone: str = ""
    # where the network's weights come from: none, hub, package, or a file
    weights: str = "none"
    # side of the square pictures that the network sees, px
    size: int = 224
    # the crops whose mean probability the logits are of, an entry of TEST_VIEWS
    test_time: TestView = "centre"
    # the weights.safetensors of another job: what it learned, its classifier too
    trained: str = ""
    # the weights.safetensors of the model that `start` names
    start_weights: str = ""
    # the weights.safetensors of a linear head on this network's features; see `start_head`
    probe: str = ""
    # BatchNorm statistics are taken anew from the train images before anything is predicted
    renew_statistics: bool = False
    # the folders of features that a head reads, side by side
    stores: list[str] = []
    # the arrays of those stores that a head draws its train images from
    train_views: list[str] = ["features"]
    # the arrays of those stores whose mean probability a head predicts
    test_views: list[str] = ["features"]
    # a head's form: one layer, or a convolution over the stores or along their features
    head: Literal["linear", "convolution", "convolution-along"] = "linear"
    # one scale for each channel of the features, or one for all of them and their mean as it is
    head_scale: Literal["channel", "common"] = "channel"
    # lbfgs fits a linear head on all its rows and views at once; epochs are its most steps
    optimiser: Literal["radam", "sgd", "adamw", "radam+sgd", "lbfgs"] = "radam"
    # a head a fold of the column `fold` of its rows: it learns from the other folds and predicts
    # this one; each begins as a head that learnt from all of them
    crossed: bool = False
    # above 0 the job only tries rates, from low to high in so many steps, and keeps their losses
    rate_sweep_steps: int = 0
    # the cache whose decoded pictures are read where they are there, else its JPEGs are decoded
    decoded: str = ""
    # the random changes that are switched on, with their strengths: see `training.changes`
    augmentation: dict[str, float] = {}
    # a store of soft targets, which some of the images teach in place of their label
    soft_labels: str = ""
    # the folders of predictions that teach it
    teachers: list[str] = []
    # share of the teachers in the loss, 0 to 1; the labels have the rest
    teacher_weight: float = 0.0
    # all its random numbers follow from it
    seed: int = 0
    # the kinds of arrays that are written of each image that is predicted
    keep: list[Literal["logits", "reduced", "features", "mirror", "augmented", "views"]] = [
        "logits"
    ]
    # of reduced predictions: how many of the largest probabilities are kept
    reduce_to: int = 10
    # how many random views of each image have their features written
    augmented_views: int = 0
    # the weights are written, for other jobs to read
    keep_weights: bool = True
    # the state is written after each step, not only after each epoch
    keep_every_step: bool = False

    @property
    def whole_batch(self) -> bool:
        """Whether all images make one batch, so that batch sizes do not count."""
        return self.fit == "none" or self.optimiser == "lbfgs"

    @property
    def several_crops(self) -> bool:
        """Whether a picture is predicted by more than its centre."""
        return self.test_time != "centre"

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
    """Read a job file.

    Parameters
    ----------
    path : Path
        The file; places that it names lie relative to it.

    Returns
    -------
    Job
        The job, its places absolute.

    Raises
    ------
    ValueError
        Naming the file, where it holds no job.
    """
    with refused_by_name(path, "a job", "delete its folder and run its notebook again"):
        fields, folder = read_json(path), Path(path).absolute().parent
        for name in PLACES:
            if fields.get(name):
                fields[name] = os.path.normpath(folder / fields[name])
        for name in LISTS_OF_PLACES:
            fields[name] = [os.path.normpath(folder / place) for place in fields.get(name, [])]
        return Job(**fields)


def as_written(job: Job) -> dict[str, Any]:
    """Return a job as its file has it: places relative to its folder."""
    fields, folder = job.model_dump(mode="json"), Path(job.folder).absolute()
    for name in PLACES:
        if fields[name]:
            fields[name] = os.path.relpath(fields[name], folder)
    for name in LISTS_OF_PLACES:
        fields[name] = [os.path.relpath(place, folder) for place in fields[name]]
    return fields
