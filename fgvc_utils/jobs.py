"""A job: a small typed record of what to fit and what to predict, and where to write it.

A notebook makes jobs, `launch` hands their files to the processes, `fitting` carries them out.
"""

import hashlib
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from fgvc_utils.files import file_digest, read_json, whole_file, write_json
from fgvc_utils.reading import read_parquet, refused_by_name

ROW_COLUMNS = ("image_id", "file", "target", "label", "fit", "validate", "predict")


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
    # what logits are of: the centre, its mirror image too, or five crops and their mirror images
    test_time: Literal["centre", "flip", "crops"] = "centre"
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
        return Path(self.folder) / "predictions"

    def elsewhere(self, folder: Path, name: str, **changes: Any) -> "Job":
        """This job under another name, its files in another folder, with further changes."""
        own = {"name": name, "folder": str(folder), "rows": str(folder / "rows.parquet")}
        return self.model_copy(update=own | changes)

    @property
    def job_file(self) -> Path:
        """Where the job itself is written."""
        return Path(self.folder) / "job.json"


def write_job(job: Job, rows: pd.DataFrame) -> Path:
    """Write a job and its rows, checked; returns the job's file.

    Raises ValueError naming the column, the image or the class that is off.
    """
    missing = [column for column in ROW_COLUMNS if column not in rows]
    if missing:
        raise ValueError(f"job {job.name}: its rows lack the column(s) {', '.join(missing)}")
    told = rows[rows["fit"] | rows["validate"]]
    strangers = (
        set(told["target"]) - set(job.classes) - ({""} if job.teacher_weight == 1 else set())
    )
    if strangers:
        raise ValueError(
            f"job {job.name}: target {sorted(strangers)[0]!r} is not among its classes"
        )
    if "reduced" in job.keep:
        unknown = set(rows.loc[rows["predict"], "label"]) - set(job.classes)
        if unknown:
            raise ValueError(f"job {job.name}: label {sorted(unknown)[0]!r} is not a class of it")
    if job.fit != "none" and not rows["fit"].any():
        raise ValueError(f"job {job.name}: no image is left to fit")
    if job.optimiser == "lbfgs" and job.fit == "full":
        raise ValueError(f"job {job.name}: lbfgs fits a head; give a whole network another one")
    if not job.whole_batch and job.global_batch > rows["fit"].sum():
        raise ValueError(
            f"job {job.name}: global_batch {job.global_batch} is larger than its "
            f"{int(rows['fit'].sum())} train images; make global_batch smaller"
        )
    with whole_file(Path(job.rows)) as temporary:
        rows[list(ROW_COLUMNS)].to_parquet(temporary, index=False)
    write_json(job.model_dump(mode="json"), job.job_file)
    if not is_done(job):
        # Figures of other rows must not be taken for this job's, whatever happens before it ends.
        (Path(job.folder) / "done.json").unlink(missing_ok=True)
    return job.job_file


def read_job(path: Path) -> Job:
    """Read a job file; raises ValueError naming it where it is no job."""
    with refused_by_name(path, "a job", "delete its folder and run its notebook again"):
        return Job(**read_json(path))


def fitted_images(folder: Path) -> set[str]:
    """Ids of the images that the job in a folder was fitted on."""
    rows = read_parquet(folder / "rows.parquet", "make that model again", ["image_id", "fit"])
    return set(rows.loc[rows["fit"], "image_id"])


def job_digest(job: Job) -> str:
    """What a job's result hangs on: its record, its rows, the stores and weights it reads."""
    # Decoded pictures are the same to a grey level wherever they are read.
    digest = hashlib.sha256(job.model_dump_json(exclude={"decoded"}).encode())
    digest.update(file_digest(Path(job.rows)).encode())
    for result in [*job.stores, *job.teachers, *([job.trained] if job.trained else [])]:
        done = Path(result).parent / "done.json"
        digest.update(done.read_bytes() if done.is_file() else b"")
    return digest.hexdigest()


def is_done(job: Job) -> bool:
    """Whether this very job was carried out before, with the same rows and the same stores."""
    done = Path(job.folder) / "done.json"
    return done.is_file() and read_json(done)["digest"] == job_digest(job)


def mark_done(job: Job, digest: str, seconds: float, figures: dict) -> None:
    """Say that a job is carried out; written last. `digest` is that of what it read."""
    write_json(
        {"digest": digest, "seconds": round(seconds, 1), "figures": figures},
        Path(job.folder) / "done.json",
    )
