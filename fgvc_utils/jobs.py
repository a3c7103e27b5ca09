"""A job: a small typed record of what to fit and what to predict, and where to write it.

A notebook makes jobs, `launch` hands their files to the processes, `fitting` carries them out.

A job is done when `done.json` in its folder says so: what it hung on, by which code it was carried
out, and what it left. Files name each other relative to the job's folder and digests are of
contents, so a run that is moved, to another machine too, stays done.
"""

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from fgvc_utils.config import weights_file
from fgvc_utils.files import file_digest, read_json, whole_file, write_json
from fgvc_utils.predictions import INDEX, is_whole
from fgvc_utils.reading import read_parquet, refused_by_name
from fgvc_utils.sources import Definition, changed, reached

# Where a job reads and writes; what lies there tells, not where it lies.
PLACES = ("folder", "rows", "trained", "decoded")
LISTS_OF_PLACES = ("stores", "teachers")
# Decoded pictures are the same to a grey level wherever they are read.
NO_PART = {*PLACES, *LISTS_OF_PLACES, "weights"}
# What a job may leave for others, below its folder.
WEIGHTS = "weights.safetensors"
RATES = "rates.csv"
PREDICTIONS = "predictions"
DONE = "done.json"
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
        return Path(self.folder) / PREDICTIONS

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
    _write_rows(rows, Path(job.rows))
    write_json(_as_written(job), job.job_file)
    done = Path(job.folder) / DONE
    if done.is_file() and (reason := why_not_done(job)):
        print(f"{job.name}: is done anew, {reason}")
        # Figures of other rows must not be taken for this job's, whatever happens before it ends.
        done.unlink()
    return job.job_file


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


def _as_written(job: Job) -> dict[str, Any]:
    """A job as its file has it: places relative to its folder."""
    told, folder = job.model_dump(mode="json"), Path(job.folder).absolute()
    for name in PLACES:
        if told[name]:
            told[name] = os.path.relpath(told[name], folder)
    for name in LISTS_OF_PLACES:
        told[name] = [os.path.relpath(place, folder) for place in told[name]]
    return told


def _write_rows(rows: pd.DataFrame, path: Path) -> None:
    """Write a job's rows, their pictures named relative to the folder of the rows."""
    rows = rows[list(ROW_COLUMNS)]
    shared, rest = _shared_folder(rows["file"])
    if os.path.isabs(shared):
        rows = rows.assign(file=f"{os.path.relpath(shared, path.absolute().parent)}/" + rest)
    with whole_file(path) as temporary:
        rows.to_parquet(temporary, index=False)


def read_rows(job: Job) -> pd.DataFrame:
    """The rows of a job, ROW_COLUMNS; `file` is a picture's absolute path."""
    rows = read_parquet(Path(job.rows), "make that model again")
    # Put together once for all of them: half a million paths take their time.
    shared, rest = _shared_folder(rows["file"])
    if not shared:
        return rows
    folder = os.path.normpath(Path(job.rows).absolute().parent / shared)
    return rows.assign(file=os.path.join(folder, "") + rest)


def _shared_folder(files: pd.Series) -> tuple[str, pd.Series]:
    """The folder below which all files lie, with its slash, and their names in it.

    Empty where they share none.
    """
    if files.empty:
        return "", files
    # All texts begin as the first and the last do.
    prefix = os.path.commonprefix([files.min(), files.max()])
    shared = prefix[: prefix.rfind("/") + 1]
    return shared, files.str[len(shared) :]


def fitted_images(folder: Path) -> set[str]:
    """Ids of the images that the job in a folder was fitted on."""
    rows = read_parquet(folder / "rows.parquet", "make that model again", ["image_id", "fit"])
    return set(rows.loc[rows["fit"], "image_id"])


def job_digest(job: Job) -> str:
    """What a job's result hangs on: its record, its rows, the stores and weights it reads."""
    digest = hashlib.sha256(job.model_dump_json(exclude=NO_PART).encode())
    weights = weights_file(job.weights)
    digest.update((file_digest(weights) if weights else job.weights).encode())
    stat = os.stat(job.rows)
    digest.update(_rows_digest(job.rows, stat.st_mtime_ns, stat.st_ino, stat.st_size).encode())
    for read in [*job.stores, *job.teachers, *([job.trained] if job.trained else [])]:
        digest.update(result_of(Path(read).parent).encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=64)
def _rows_digest(path: str, *file: int) -> str:
    """A digest of what rows say, wherever their pictures lie and whoever wrote the file.

    `file` tells a file from the one that was there before.

    Of a picture's path the last three parts count: a cache names pictures by size and content.
    """
    rows = read_parquet(Path(path), "run its notebook again")
    digest = hashlib.sha256()
    for column in ROW_COLUMNS:
        values = rows[column]
        if column == "file":
            values = values.map(lambda file: "/".join(file.split("/")[-3:]))
        told = values.to_numpy().tobytes() if values.dtype == bool else "\n".join(values).encode()
        digest.update(f"{column} {len(told)}\n".encode() + told)
    return digest.hexdigest()


def job_code(job: Job) -> dict[str, str]:
    """What of the package's code a job's result hangs on; see `sources.reached`."""
    order = Definition("worker", "carry_out")
    roots = [order, Definition("material", "Material"), Definition("networks", "new_network")]
    roots.append(Definition("predicting", "predict"))
    if job.fit != "none":
        roots.append(Definition("fitting", "fit"))
    if job.renew_statistics:
        roots.append(Definition("renewing", "renewed"))
    return reached(roots, stop=[order])


def why_not_done(job: Job) -> str:
    """Why a job has to be carried out, or an empty text where it is done."""
    file = Path(job.folder) / DONE
    if not file.is_file():
        return "not done yet"
    done = read_json(file)
    if done["digest"] != job_digest(job):
        return "its parameters, its rows or what it reads changed"
    if code := changed(done.get("code", {}), job_code(job)):
        more = f" and {len(code) - 3} more" if len(code) > 3 else ""
        return f"changed code: {', '.join(code[:3])}{more}"
    if cut := _cut(Path(job.folder), done):
        return f"{cut} is gone or was cut"
    return "its predictions are gone" if job.keep and not is_whole(job.store) else ""


def _cut(folder: Path, done: dict) -> str:
    """What of the things that a job left is not there as it was left, or empty."""
    for name, told in done.get("left", {}).items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != told["bytes"]:
            return name
        if path.name == INDEX and not is_whole(path.parent):
            return PREDICTIONS
    return ""


def is_done(job: Job) -> bool:
    """Whether this very job was carried out before by this very code, and what it left is there."""
    return not why_not_done(job)


def result_of(folder: Path) -> str:
    """A digest of what the job in a folder left for others; empty where it is not done or was cut.

    It is of the content: a job that is carried out anew and leaves the same makes no other one
    stale.
    """
    file = Path(folder) / DONE
    done = read_json(file) if file.is_file() else {}
    return "" if _cut(Path(folder), done) else done.get("result", "")


def mark_done(
    job: Job, digest: str, seconds: float, figures: dict, code: dict[str, str] | None = None
) -> None:
    """Say that a job is carried out; written last.

    `digest` is that of what it read, `code` that by which it was carried out (the present one where
    none is given), both taken before the work.
    """
    folder, left = Path(job.folder), {}
    for name in (WEIGHTS, RATES, f"{PREDICTIONS}/{INDEX}"):
        if (folder / name).is_file():
            size = (folder / name).stat().st_size
            left[name] = {"bytes": size, "sha256": file_digest(folder / name)}
    contents = {name: told["sha256"] for name, told in left.items()}
    write_json(
        {
            "digest": digest,
            "result": hashlib.sha256(json.dumps(contents).encode()).hexdigest(),
            "left": left,
            "seconds": round(seconds, 1),
            "figures": figures,
            "code": job_code(job) if code is None else code,
        },
        folder / DONE,
    )


def accept_job_code(folder: Path) -> list[str]:
    """Take all jobs below a folder for done that only their code makes stale; returns their names.

    For whoever knows that a change of code leaves the results as they are.
    """
    accepted = []
    for file in sorted(Path(folder).rglob(DONE)):
        if not (file.parent / "job.json").is_file():
            continue
        job, done = read_job(file.parent / "job.json"), read_json(file)
        code = job_code(job)
        if done["digest"] == job_digest(job) and changed(done.get("code", {}), code):
            write_json(done | {"code": code}, file)
            accepted.append(job.name)
    return accepted
