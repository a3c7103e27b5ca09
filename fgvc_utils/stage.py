"""What every notebook does at its edges: find the run's files, make jobs of rows, launch them."""

import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fgvc_utils import config, decoded
from fgvc_utils.averaging import average_weights, greedy_soup
from fgvc_utils.ensembling import require_unseen
from fgvc_utils.files import read_json, require_space, whole_file
from fgvc_utils.intervals import wilson
from fgvc_utils.jobs import Job, fitted_images, is_done, read_job, read_rows, write_job
from fgvc_utils.launch import Hardware, launch
from fgvc_utils.locks import only_one
from fgvc_utils.predictions import BLOCK, Store, same_classes, softmax
from fgvc_utils.reading import read_parquet
from fgvc_utils.spreadsheet import escaped, unescaped

# Tables in notebooks show names as they are; a class called `$x_1$` is no formula.
pd.set_option("display.html.use_mathjax", False)

Rows = tuple[Job, pd.DataFrame]
# Fields of a job that the table of models always shows, and those that make no other network.
ALWAYS_SHOWN = {"backbone", "size", "teachers", "balance", "mix", "epochs"}
NO_RECIPE = {"name", "folder", "rows", "classes", "stores", "augmentation"} | {
    "keep", "reduce_to", "augmented_views", "keep_weights", "keep_every_step", "decoded",
    "test_time", "renew_statistics",
}  # fmt: skip


def hardware(cfg: config.Shared) -> Hardware:
    """The launch settings of a stage's parameters."""
    return Hardware(
        processes=cfg.processes,
        nodes=cfg.nodes,
        node_rank=cfg.node_rank,
        rendezvous=cfg.rendezvous,
        threads=cfg.threads,
        device=cfg.device,
        workers=cfg.workers,
    )


def raw_images(cfg: config.Shared) -> Path:
    """The contest's folder of raw images."""
    return config.data_root(cfg.data_root)


def cache_folder(cfg: config.Shared) -> Path:
    """Where decoded pictures are kept: beside the runs, so that several runs share them."""
    return cfg.folder.parent / "cache"


def picture_folders(cfg: config.Shared) -> list[Path]:
    """The folders that a gallery may show pictures from: the cache and the raw images."""
    return [cache_folder(cfg), raw_images(cfg)]


def processors() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0))


def inventory_path(cfg: config.Shared) -> Path:
    """Where 01 writes what each file is: stored form, digest, place in the cache, error."""
    return cfg.folder / "tables" / "inventory.parquet"


def read_inventory(cfg: config.Shared) -> pd.DataFrame:
    """The inventory of all files with `file`, the absolute path in the cache.

    Raises FileNotFoundError naming the notebook to run, or the cache where it was cleared, and
    ValueError where the file is spoilt or no image at all could be read.
    """
    path = inventory_path(cfg)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: run the notebook 01_noise first")
    inventory = read_parquet(path, "run the notebook 01_noise again")
    lacking = {"image_id", "cached"} - set(inventory)
    if lacking:
        raise ValueError(f"{path} lacks the column {min(lacking)}: run the notebook 01_noise again")
    inventory = inventory.astype({"image_id": object})
    inventory["file"] = cached_files(cfg, inventory)
    if not len(inventory) or (inventory["file"] == "").all():
        why = inventory["error"].iloc[0] if len(inventory) and "error" in inventory else "unknown"
        raise ValueError(
            f"{path}: none of its {len(inventory)} images could be read, the first one: {why}; "
            "look at the files below the data root, then run the notebook 01_noise again"
        )
    first = inventory.loc[inventory["file"] != "", "file"].iloc[0]
    if not Path(first).is_file():
        raise FileNotFoundError(f"{first} is gone from the cache: run the notebook 01_noise again")
    return inventory


def cached_files(cfg: config.Shared, inventory: pd.DataFrame) -> pd.Series:
    """Each image's absolute path in the cache, empty where it could not be read."""
    cached = inventory["cached"]
    return (str(cache_folder(cfg)) + "/" + cached).where(cached != "", "")


def job_rows(inventory: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    """Rows of a job: readable images that have any part in it.

    `columns` are values or Series in the order of the inventory's rows: target and label (text),
    fit, validate, predict (boolean); missing ones are empty or false.
    """
    rows = pd.DataFrame(
        {"image_id": inventory["image_id"].to_numpy(), "file": inventory["file"].to_numpy()}
    )
    defaults = {"target": "", "label": "", "fit": False, "validate": False, "predict": False}
    for name, default in defaults.items():
        value = columns.get(name, default)
        rows[name] = value.to_numpy() if isinstance(value, pd.Series) else value
    readable = (inventory["cached"] != "").to_numpy()
    return rows[readable & (rows["fit"] | rows["validate"] | rows["predict"])]


def run_jobs(
    jobs: list[Rows],
    cfg: config.Shared,
    stage: str,
    picture: Callable[[list[dict]], Any] | None = None,
) -> None:
    """Write the jobs with their rows and launch those that are not done; shows progress.

    `picture`, such as `plots.live_curves`, makes a figure of the epochs so far; it is shown in the
    cell and kept up to date.

    Raises ParameterError where a global batch cannot be cut up, ValueError where rows are off,
    locks.Held where another launch works on one of the jobs, and what `launch` raises, first of all
    a rank's own traceback.
    """
    for job, _ in jobs:
        if not job.whole_batch:
            config.accumulation(job.global_batch, job.micro_batch, cfg.processes * cfg.nodes)
    with ExitStack() as held:
        for job, _ in jobs:
            # Before a file is written: what another launch reads must stay as it is.
            held.enter_context(_only_launch(job))
        files = [write_job(job, rows) for job, rows in jobs]
        done = [is_done(job) for job, _ in jobs]
        for (job, _), is_there in zip(jobs, done, strict=True):
            if is_there:
                print(f"{job.name}: done before")
        if open_files := [file for file, is_there in zip(files, done, strict=True) if not is_there]:
            launch(open_files, cfg.folder / "launches" / stage, hardware(cfg), picture=picture)


def _only_launch(job: Job) -> AbstractContextManager[None]:
    return only_one(
        Path(job.folder) / ".job.lock",
        f"job {job.name}: another launch works on it in {job.folder}",
        "wait for it, or end it",
    )


def work_folder(cfg: config.Shared, stage: str, name: str) -> str:
    """Where a stage's jobs write, by name."""
    return str(cfg.folder / "work" / stage / name)


def feature_job(cfg: Any, inventory: pd.DataFrame, backbone: str = "") -> Rows:
    """Frozen features of all readable images, and of their mirror images.

    `cfg` has backbone (taken where none is named), weights, size and test_ratio. Stages that ask
    for the same network and size get the same job, so the features are computed once a run.
    """
    backbone = backbone or cfg.backbone
    folder = cfg.folder / "features" / f"{backbone}-{cfg.size}"
    job = Job(
        name=f"features {backbone} at {cfg.size} px",
        folder=str(folder),
        rows=str(folder / "rows.parquet"),
        classes=[],
        fit="none",
        backbone=backbone,
        weights=cfg.weights,
        size=cfg.size,
        test_ratio=cfg.test_ratio,
        keep=["features", "mirror"],
        keep_weights=False,
    )
    return job, job_rows(inventory, predict=True)


def feature_jobs(cfg: config.CrossParams, inventory: pd.DataFrame) -> list[Rows]:
    """The features of all backbones that a stage's heads learn from; none where `fit` is full."""
    if cfg.fit == "full":
        return []
    return [feature_job(cfg, inventory, name) for name in (cfg.backbone, *cfg.further_backbones)]


def cleaning_job(
    cfg: Any,
    stage: str,
    name: str,
    classes: list[str],
    features: Sequence[Job],
    *,
    recipe: config.Round | None = None,
    teacher: Path | None = None,
    seed: int = 0,
    reduce_to: int = 0,
) -> Job:
    """One fit of a cleaning stage: a head on frozen features, or the whole network.

    `cfg.fit` decides. `features` are the jobs whose stores a head reads side by side; a recipe may
    name some of their backbones, or the one network that is trained whole. With `teacher`, a store
    of probabilities, those are the targets in place of the labels. Nothing is kept but the logits,
    or with `reduce_to` the so many largest probabilities and how the label fares.
    """
    recipe = recipe or config.Round()
    folder = work_folder(cfg, stage, name)
    used = [job for job in features if not recipe.backbones or job.backbone in recipe.backbones]
    whole = cfg.fit == "full"
    optimiser = recipe.optimiser or cfg.optimiser
    own_rate = cfg.sgd_rate if optimiser == "sgd" else cfg.rate
    views = ["features", "mirror"] if recipe.mirror else ["features"]
    return Job(
        name=f"{stage} {name}",
        folder=folder,
        rows=f"{folder}/rows.parquet",
        classes=classes,
        fit=cfg.fit,
        backbone=(recipe.backbones or [cfg.backbone])[0] if whole else "",
        weights=cfg.weights if whole else "none",
        size=cfg.size,
        test_ratio=cfg.test_ratio,
        stores=[] if whole else [str(job.store) for job in used],
        train_views=views,
        test_views=views,
        augmentation={
            "flip_probability": 0.5 if recipe.mirror else 0.0,
            "colour_jitter": recipe.colour_jitter,
        },
        epochs=cfg.lbfgs_steps if optimiser == "lbfgs" else cfg.epochs,
        optimiser=optimiser,
        base_lr=recipe.rate or own_rate,
        global_batch=cfg.global_batch,
        micro_batch=cfg.micro_batch,
        weight_decay=cfg.weight_decay,
        teachers=[str(teacher)] if teacher else [],
        teacher_weight=1.0 if teacher else 0.0,
        # Without the prior a network doubts most labels of the tail, right or wrong.
        balance="prior",
        keep=["reduced"] if reduce_to else ["logits"],
        reduce_to=reduce_to,
        keep_weights=False,
        seed=seed,
    )


def read_logits(jobs: list[Job], image_ids: pd.Series) -> pd.DataFrame:
    """Logits of the jobs that predicted each image, a row an image that any of them predicted.

    Indexed by image_id in the order of `image_ids`, a column a class.
    """
    parts, wanted = [], pd.Index(image_ids, dtype=object)
    for job in jobs:
        store = Store(job.store)
        # Only what is asked for: all images under all classes may be larger than the memory.
        known = wanted[wanted.isin(store.image_ids)]
        logits = store.read("logits", known)
        parts.append(pd.DataFrame(logits, index=known, columns=store.classes))
    together = parts[0] if len(parts) == 1 else pd.concat(parts)
    return together.loc[wanted[wanted.isin(together.index)]]


def ledger_row(
    number: int, recipe: str, before: pd.Series, now: pd.Series, started: float, **more: object
) -> dict:
    """A row of the ledger: which images (boolean, one index) are kept now and were before.

    `started` is the round's start by `time.monotonic`, in seconds.
    """
    return {
        "round": number,
        "recipe": recipe,
        "kept": int(now.sum()),
        "returned": int((now & ~before).sum()),
        "left_out": int((~now).sum()),
        "agreement": round(float((now == before).mean()), 4),
        "seconds": round(time.monotonic() - started, 1),
        **more,
    }


def _columns(rounds: list[dict]) -> list[str]:
    """The ledger's columns, also where no round was made."""
    usual = ["round", "recipe", "kept", "returned", "left_out", "agreement", "seconds"]
    return list(dict.fromkeys(["stage", *usual, *(name for row in rounds for name in row)]))


def write_ledger(cfg: config.Shared, stage: str, rounds: list[dict]) -> pd.DataFrame:
    """Put a stage's rounds into `ledger.csv`, leaving the other stages' rows as they are."""
    path = cfg.folder / "ledger.csv"
    ledger = pd.DataFrame([{"stage": stage, **row} for row in rounds], columns=_columns(rounds))
    if path.is_file():
        others = _of_text(pd.read_csv(path, dtype={"stage": str}), unescaped)
        ledger = pd.concat([others[others["stage"] != stage], ledger], ignore_index=True)
    ledger = ledger.sort_values("stage", kind="stable")
    with whole_file(path) as temporary:
        _of_text(ledger, escaped).to_csv(temporary, index=False)
    return ledger[ledger["stage"] == stage].reset_index(drop=True)


def _of_text(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The table with its text changed, its numbers as they are."""
    return table.map(lambda value: change(value) if isinstance(value, str) else value)


def trained_models(cfg: config.Shared, names: Sequence[str] = ()) -> list[Path]:
    """Folders of the models that are done: the named ones, or all, by name.

    Raises FileNotFoundError naming a model that is not there, or saying that none is.
    """
    models = cfg.folder / "models"
    found = sorted(done.parent for done in models.glob("*/done.json"))
    missing = set(names) - {folder.name for folder in found}
    if missing or not found:
        what = f"model {sorted(missing)[0]!r}" if missing else "a model"
        raise FileNotFoundError(f"{models} holds no finished {what}: run 10_train for it first")
    return [folder for folder in found if not names or folder.name in names]


def teachers(cfg: config.DistillParams) -> list[Path]:
    """Folders of a student's teachers: the named models, or all that 10_train made.

    Other students teach only where they are named. Raises ParameterError where the student has the
    name of one of them, or of a model of 10_train, which it would replace.
    """
    taught = [folder.name for folder in trained_models(cfg) if not _is_student(folder)]
    if cfg.name in (*taught, *cfg.teachers):
        raise config.ParameterError(
            f"name {cfg.name!r} is that of a model of 10_train or of a teacher; give the student "
            "its own"
        )
    return trained_models(cfg, cfg.teachers or taught)


def _is_student(folder: Path) -> bool:
    return bool(read_job(folder / "job.json").teachers)


def mean_probabilities(models: Sequence[Path], image_ids: pd.Series) -> pd.DataFrame:
    """Mean of the models' softmax, float32: a row an image, a column a class.

    Raises ValueError where the models know different classes, KeyError where one does not know an
    image.
    """
    stores = [Store(folder / "predictions") for folder in models]
    classes = same_classes(stores)
    mean = sum(store.probabilities(image_ids) for store in stores) / len(stores)
    return pd.DataFrame(mean, index=pd.Index(image_ids, dtype=object), columns=classes)


def training_job(
    cfg: Any,
    name: str,
    classes: list[str],
    *,
    teachers: Sequence[Path] = (),
    teacher_weight: float = 0.0,
) -> Job:
    """The job of 10_train and 20_distill from a recipe's parameters."""
    folder = cfg.folder / "models" / name
    augmentation = (
        "colour_jitter", "flip_probability", "quarter_turn_probability", "quality_probability",
        "quality_low", "quality_high", "jpeg_probability", "jpeg_low", "jpeg_high",
        "paste_probability", "paste_smallest", "shuffle_probability", "shuffle_most",
    )  # fmt: skip
    same = (
        "backbone", "weights", "size", "random_crop", "train_ratio", "test_ratio", "dropout",
        "drop_path", "precision", "gradient_checkpointing", "changes_on", "epochs", "base_lr",
        "radam_lr", "radam_share", "momentum", "weight_decay", "label_smoothing", "ema_decay",
        "global_batch", "micro_batch", "balance", "keep_prior", "keep_empty", "mix",
        "mix_probability", "mix_alpha", "seed",
    )  # fmt: skip
    return Job(
        name=name,
        folder=str(folder),
        rows=str(folder / "rows.parquet"),
        classes=classes,
        fit="full",
        optimiser="radam+sgd",
        augmentation={setting: getattr(cfg, setting) for setting in augmentation},
        teachers=[str(teacher / "predictions") for teacher in teachers],
        teacher_weight=teacher_weight,
        temperature=getattr(cfg, "temperature", 1.0),
        teacher_views=getattr(cfg, "teacher_views", 0) if teachers else 0,
        fold_clean=getattr(cfg, "fold_clean", False),
        keep=["logits", "features", *(["augmented"] if cfg.feature_views else [])],
        augmented_views=cfg.feature_views,
        **{field: getattr(cfg, field) for field in same},
    )


def decode(cfg: Any, jobs: Sequence[Rows]) -> list[Rows]:
    """Decode what jobs read again and again once, so that no epoch does it; the jobs read it there.

    That is what they train on and what is held out; what is read once stays as it is. Where all
    decoded pictures of the cache would take more than `cfg.decoded_gb` of disk, in GB, the jobs
    decode the cache's JPEGs each time. Says which. Raises `files.NotEnoughSpace`, an OSError, where
    the disk has less room than that.
    """
    if not cfg.decoded_gb:
        print("decoded_gb is 0: the JPEGs of the cache are decoded in each epoch")
        return list(jobs)
    cache = cache_folder(cfg)
    wanted: dict[int, set[str]] = {}
    for job, rows in jobs:
        cropped = rows["fit"] | rows["predict"] if job.augmented_views > 1 else rows["fit"]
        wanted.setdefault(job.train_side, set()).update(rows.loc[cropped, "file"])
        wanted.setdefault(job.test_side, set()).update(rows.loc[rows["validate"], "file"])
    files = {side: sorted(names) for side, names in wanted.items() if names}
    needed = sum(decoded.needed_bytes(names, cache, side) for side, names in files.items()) / 1e9
    sides = " and ".join(f"{side} px" for side in files)
    there = decoded.bytes_there(cache) / 1e9
    if there + needed > cfg.decoded_gb:
        print(
            f"decoded pictures of {sides} would take {needed:.1f} GB beside {there:.1f} GB that "
            f"are there, decoded_gb allows {cfg.decoded_gb:g}: the JPEGs of the cache are decoded "
            f"in each epoch. Pictures of sizes that are not used any more lie in {cache}/decoded"
        )
        return list(jobs)
    for side, names in files.items():
        decoded.decode_once(names, cache, side, processes=processors())
    print(f"pictures are read decoded, at {sides}; {needed:.2f} GB of them are new")
    return [(job.model_copy(update={"decoded": str(cache)}), rows) for job, rows in jobs]


def view_jobs(student: Job, rows: pd.DataFrame, teachers: Sequence[Path]) -> list[Rows]:
    """Let each teacher speak of the very random views that the student will see, no training.

    `rows` are the student's; its recipe, size and seed make the views, so that teacher and student
    agree on them (Beyer et al., Knowledge distillation: a good teacher is patient and consistent,
    CVPR 2022). The student's `teachers` are then the stores of these jobs.
    """
    jobs = []
    for teacher in teachers:
        own = read_job(teacher / "job.json")
        folder = Path(student.folder) / "views" / teacher.name
        job = student.elsewhere(
            folder,
            f"{student.name}: views of {teacher.name}",
            **as_trained(own),
            backbone=own.backbone,
            balance=own.balance,
            keep_prior=own.keep_prior,
            keep_empty=own.keep_empty,
            keep=["views"],
            keep_weights=False,
            teachers=[],
            teacher_weight=own.teacher_weight,
        )
        # Its own train images stay marked: which classes it knows, and whom it may not teach.
        known = fitted_images(teacher)
        seen = rows.assign(fit=rows["image_id"].isin(known), validate=False, predict=rows["fit"])
        jobs.append((job, seen))
    logits = len(student.classes) * np.dtype(np.float16).itemsize * student.teacher_views
    require_space(
        Path(student.folder),
        len(teachers) * int(rows["fit"].sum()) * logits,
        f"the word of {len(teachers)} teachers on {student.teacher_views} views",
        "or set teacher_views lower or name fewer teachers",
    )
    return jobs


def taught_cleanly(teachers: Sequence[Path], image_ids: pd.Series) -> pd.Series:
    """Whether at least one teacher was not trained on an image, boolean, in the images' order."""
    clean = np.zeros(len(image_ids), dtype=bool)
    for teacher in teachers:
        clean |= ~image_ids.isin(fitted_images(teacher)).to_numpy()
    return pd.Series(clean, index=image_ids.index)


def as_trained(job: Job) -> dict[str, Any]:
    """What to change in a job to let the network that `job` trained predict without training."""
    trained = str(Path(job.folder) / "weights.safetensors")
    return {"fit": "none", "weights": "none", "trained": trained}


def rate_sweeps(job: Job, rows: pd.DataFrame, steps: int) -> dict[str, Rows]:
    """A range test of each optimiser of a training job, by its name; none with 0 steps."""
    sweeps = {}
    for optimiser in ("radam", "sgd") if steps else ():
        sweep = job.elsewhere(
            Path(job.folder) / "rates" / optimiser,
            f"{job.name}: rates for {optimiser}",
            optimiser=optimiser,
            rate_sweep_steps=steps,
            keep=[],
            keep_weights=False,
        )
        sweeps[optimiser] = sweep, rows
    return sweeps


def read_rate_sweep(job: Job) -> tuple[pd.DataFrame, float]:
    """A range test's rates and losses, a row a step (lr, loss), and the rate it suggests."""
    suggested = read_json(Path(job.folder) / "done.json")["figures"]["suggested"]
    return pd.read_csv(Path(job.folder) / "rates.csv"), suggested


def ratio_sweep(jobs: Sequence[Job], labels: pd.Series) -> pd.DataFrame:
    """Top-1 of `ratio_job`s on the images of `labels` (by image id), a row a ratio.

    Columns ratio, top1, and low and high, its 95 % interval (Wilson 1927).
    """
    swept = []
    for job in jobs:
        said = read_logits([job], labels.index).idxmax(axis=1)
        hits = int((said == labels).sum())
        low, high = wilson(hits, len(labels))
        swept.append((job.test_ratio, hits / len(labels), low, high))
    return pd.DataFrame(swept, columns=["ratio", "top1", "low", "high"])


def ratio_job(job: Job, rows: pd.DataFrame, ratio: float) -> Rows:
    """The held-out images, predicted by a job's network at another test ratio."""
    tried = job.elsewhere(
        Path(job.folder) / "ratios" / f"{ratio:g}",
        f"{job.name} at test ratio {ratio:g}",
        **as_trained(job),
        test_ratio=ratio,
        keep=["logits"],
        keep_weights=False,
    )
    return tried, rows.assign(predict=rows["validate"])


def view_job(model: Path, kind: str, image_ids: pd.Series) -> Rows:
    """Several test-time views of images, predicted by a model, no training; `kind` as in Job.

    Their logits, the log of the mean softmax, lie in `views-of-test/<kind>` beside the model.
    Raises FileNotFoundError where the model keeps no weights, KeyError naming an image that it
    has no row of.
    """
    job = read_job(model / "job.json")
    if not (model / "weights.safetensors").is_file():
        raise FileNotFoundError(
            f"{model} keeps no weights.safetensors, and test_views {kind!r} needs them: train it "
            "again or set test_views to 'centre'"
        )
    rows = read_rows(job)
    strangers = set(image_ids) - set(rows["image_id"])
    if strangers:
        raise KeyError(f"model {model.name!r} has no row of image {sorted(strangers)[0]!r}")
    views = job.elsewhere(
        model / "views-of-test" / kind,
        f"{job.name}: {kind} at test",
        **as_trained(job),
        test_time=kind,
        keep=["logits"],
        keep_weights=False,
        rate_sweep_steps=0,
    )
    # Its own train images stay marked: they say which classes it knows.
    asked = rows.assign(validate=False, predict=rows["image_id"].isin(set(image_ids)))
    return views, asked[asked["fit"] | asked["predict"]]


# What models must share for their weights to be averaged into one network.
ALIKE = ("backbone", "size", "classes", "balance", "keep_prior", "keep_empty", "teacher_weight")


def soup_job(folder: Path, models: Sequence[Path], labels: pd.Series) -> Rows:
    """The network whose weights are the mean of several models', no training but of BatchNorm.

    `folder` is the new model's; the mean lies in `average` there. Its train images are all that
    any of the models was trained on: its BatchNorm statistics are taken anew from them. `labels`,
    class by image id, are the held-out images that judge it. It predicts and keeps what the first
    model does. Raises ValueError naming two models that differ in what they must share, and a
    model that was trained on an image of `labels`.
    """
    require_unseen({model.name: model for model in models}, labels.index)
    jobs = [read_job(model / "job.json") for model in models]
    for model, job in zip(models[1:], jobs[1:], strict=True):
        unlike = [field for field in ALIKE if getattr(job, field) != getattr(jobs[0], field)]
        if unlike:
            raise ValueError(
                f"models {models[0].name!r} and {model.name!r} differ in {unlike[0]}, so their "
                "weights cannot be averaged"
            )
    average = average_weights(
        [model / "weights.safetensors" for model in models], folder / "average"
    )
    changes = as_trained(jobs[0]) | {
        "trained": str(average),
        "renew_statistics": True,
        "teachers": [],
        "fold_clean": False,
        "keep_every_step": False,
    }
    rows = pd.concat([read_rows(job) for job in jobs])
    predicted = set(rows.loc[rows["predict"], "image_id"])
    # An image's row is that of a model that was trained on it, if one was.
    rows = rows.sort_values("fit", ascending=False, kind="stable").drop_duplicates("image_id")
    judged = rows["image_id"].isin(labels.index)
    told = rows["image_id"].map(labels).where(judged, rows["target"])
    predict = rows["image_id"].isin(predicted)
    rows = rows.assign(target=told, validate=judged, predict=predict).sort_values("image_id")
    soup = jobs[0].elsewhere(folder, f"soup {folder.name}", **changes)
    return soup, rows.reset_index(drop=True)


def soups(
    cfg: config.EnsembleParams,
    stage: str,
    ranked: Sequence[Path],
    labels: pd.Series,
    single: Mapping[str, float],
) -> dict[str, Path]:
    """Folders of the run's soups by name, one for each kind of network; none without `cfg.soup`.

    `ranked` are models that saw no image of `labels`, best first. They are soups of those that
    share what weights must share; `greedy` ones of those that do not lower the held-out top-1 of
    the soup so far. Kinds of network that have one model make none, and a soup that does worse on
    held-out images than each of its models, whose top-1 `single` tells, is left out. They lie in
    `soups`, not among the models, which other notebooks take.
    """
    made, kinds = {}, {}
    for model in ranked if cfg.soup != "none" else ():
        job = read_job(model / "job.json")
        kinds.setdefault(repr([getattr(job, field) for field in ALIKE]), []).append(model)
    for number, models in enumerate(kinds.values(), start=1):
        name = f"soup-{number}"
        folder = cfg.folder / "soups" / name
        if len(models) > 1 and cfg.soup == "greedy":
            models = _greedy(cfg, stage, folder, models, labels)
        if len(models) < 2:
            print(f"{name}: left out, no two models of {models[0].name}'s kind go together")
            continue
        print(f"{name}: the mean of {', '.join(model.name for model in models)}")
        run_jobs([soup_job(folder, models, labels)], cfg, stage)
        top1 = read_json(folder / "done.json")["figures"].get("top1", math.inf)
        if top1 < min(single[model.name] for model in models):
            print(f"{name}: left out, its held-out top-1 of {top1:.4f} is below each of theirs")
            continue
        made[name] = folder
    return made


def _greedy(
    cfg: config.EnsembleParams, stage: str, folder: Path, models: list[Path], labels: pd.Series
) -> list[Path]:
    by_name = {model.name: model for model in models}

    def score(names: tuple[str, ...]) -> float:
        # Named by their digest: a path of fifteen names may be longer than a disk allows.
        tried = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
        job, rows = soup_job(folder / "tried" / tried, [by_name[n] for n in names], labels)
        run_jobs([(job.model_copy(update={"keep": [], "keep_weights": False}), rows)], cfg, stage)
        return read_json(Path(job.folder) / "done.json")["figures"]["top1"]

    return [by_name[name] for name in greedy_soup(list(by_name), score)]


def view_stores(
    cfg: config.EnsembleParams, stage: str, members: dict[str, Path], image_ids: pd.Series
) -> dict[str, Path]:
    """The stores of the members' test-time views, by member; none where the centre is enough."""
    if cfg.test_views == "centre":
        return {}
    jobs = {name: view_job(folder, cfg.test_views, image_ids) for name, folder in members.items()}
    run_jobs(list(jobs.values()), cfg, stage)
    return {name: job.store for name, (job, _) in jobs.items()}


def layer_jobs(
    cfg: config.EnsembleParams,
    stage: str,
    members: dict[str, Path],
    ranked: list[str],
    classes: list[str],
    judged: Sequence[str] = (),
) -> dict[str, Job]:
    """The jobs that train a layer on several models' features, by the name of the way.

    The random views are those that every member of the way keeps; without any the way is left
    out, and the cell says so. Raises ValueError naming a model of a way that was trained on
    `judged`, the images that are to judge the ensemble.
    """
    require_unseen({name: members[name] for name in ranked}, judged)
    wanted = {
        "features + layer, random views": (cfg.augmented_models, "linear"),
        "features + layer, test views": (cfg.plain_models, "linear"),
        "convolution over models": (cfg.convolution_models, "convolution"),
        "convolution along features": (cfg.convolution_models, "convolution-along"),
    }
    jobs = {}
    for name, (count, head) in wanted.items():
        stores = [members[model] / "predictions" for model in ranked[:count]]
        if not stores:
            continue
        views = ["features"]
        if "random" in name:
            kinds = [set(Store(store).kinds()) for store in stores]
            views = sorted(k for k in set.intersection(*kinds) if k.startswith("augmented"))
            if not views:
                print(f"{name}: left out, its models keep no random views (feature_views is 0)")
                continue
        folder = work_folder(cfg, stage, name.replace(" ", "-").replace(",", "").replace("+-", ""))
        jobs[name] = Job(
            name=name,
            folder=folder,
            rows=f"{folder}/rows.parquet",
            classes=classes,
            fit="head",
            stores=[str(store) for store in stores],
            train_views=views,
            head=head,
            epochs=cfg.epochs,
            optimiser="radam",
            base_lr=cfg.rate,
            weight_decay=cfg.weight_decay,
            label_smoothing=cfg.label_smoothing,
            global_batch=cfg.global_batch,
            micro_batch=cfg.micro_batch,
            keep=["logits"],
            seed=cfg.seed,
        )
    return jobs


def model_table(cfg: config.Shared) -> pd.DataFrame:
    """All trained models of the run, the best first: how they do, how they differ, what they cost.

    A row a model. Columns: model; top1 of the held-out images with low and high, its 95 % interval
    (Wilson 1927), and n, their number; backbone, size, table (where the report tells it), learns
    from, seen by teachers (held-out images that a student's teachers were trained on, which flatter
    it), balance, mix and epochs; every other parameter in which the models differ; seconds, and
    the mean images_per_second and waiting of the epochs where the log has them. What was not
    measured is missing. Prints how many parameters are the same for all.
    """
    folders = trained_models(cfg)
    jobs = [read_job(folder / "job.json") for folder in folders]
    parameters = pd.DataFrame([_parameters(job) for job in jobs], dtype=object)
    # As text: lists are compared too, and a parameter that one model lacks is a difference.
    differ = [name for name in parameters if parameters[name].map(repr).nunique() > 1]
    if same := parameters.shape[1] - len(differ):
        print(f"{same} more parameters are the same for all; job.json beside each model holds them")
    recorded = _recorded(cfg)
    rows = []
    for folder, job, own in zip(folders, jobs, parameters.to_dict("records"), strict=True):
        done = read_json(folder / "done.json")
        row = {"model": folder.name, **_judged(done["figures"])}
        told = recorded.get(folder.name, {})
        row |= {"backbone": job.backbone, "size": job.size, "table": told.get("table")}
        row |= {"learns from": _learns_from(job), "seen by teachers": told.get("seen_by_teachers")}
        row |= {"balance": job.balance, "mix": job.mix, "epochs": job.epochs}
        row |= {name: own[name] for name in differ}
        rows.append(row | {"seconds": done["seconds"], **_throughput(folder / "log.csv")})
    found = pd.DataFrame(rows)
    empty = [name for name in ("table", "seen by teachers") if found[name].isna().all()]
    found = found.drop(columns=empty)
    return found.sort_values(["top1", "model"], ascending=[False, True], ignore_index=True)


def _parameters(job: Job) -> dict[str, Any]:
    """What of a job may make a difference, besides what the table of models always shows."""
    told = job.model_dump() | job.augmentation
    return {name: value for name, value in told.items() if name not in ALWAYS_SHOWN | NO_RECIPE}


def _learns_from(job: Job) -> str:
    """The names of a student's teachers, with the labels unless these have no say."""
    taught = [Path(teacher).parent.name for teacher in job.teachers]
    return " + ".join(taught if job.teacher_weight == 1 else ["labels", *taught])


def _recorded(cfg: config.Shared) -> dict[str, dict]:
    """Model → what its notebook wrote into the report."""
    report = read_json(cfg.report) if cfg.report.is_file() else {}
    return {section.partition("-")[2]: figures for section, figures in report.items()}


def _judged(figures: dict) -> dict[str, float]:
    """Top-1 of the held-out images with its interval; all NaN where no fold is held out."""
    if not figures.get("n"):
        return dict.fromkeys(("top1", "low", "high", "n"), math.nan)
    top1, n = figures["top1"], int(figures["n"])
    low, high = wilson(round(top1 * n), n)
    return {"top1": top1, "low": low, "high": high, "n": n}


def _throughput(log_file: Path) -> dict[str, float]:
    """Means over the epochs of what a log tells of its speed."""
    log = pd.read_csv(log_file) if log_file.is_file() else pd.DataFrame()
    return {name: log[name].mean() for name in ("images_per_second", "waiting") if name in log}


def scores_of_all(
    store: Store, image_ids: pd.Series, classes: np.ndarray | None = None
) -> np.ndarray:
    """Scores of the images, float32 (images, classes); zeros for those that nobody could read.

    `classes`, boolean, chooses columns. Read a block of rows at a time, so that there is never more
    than one array of this size.
    """
    chosen = np.ones(len(store.classes), dtype=bool) if classes is None else classes
    known = np.flatnonzero(image_ids.isin(store.image_ids))
    places = store.rows_of(image_ids.iloc[known])
    scores = np.zeros((len(image_ids), int(chosen.sum())), np.float32)
    for start in range(0, len(known), BLOCK):
        part = slice(start, start + BLOCK)
        scores[known[part]] = store.read_rows("scores", places[part])[:, chosen]
    return scores


def read_features(job: Job, image_ids: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """Plain features, float16 (images, width), and the image ids they belong to, in order."""
    return Store(job.store).read("features", image_ids), pd.Index(image_ids, dtype=object)


def read_probabilities(jobs: list[Job], image_ids: pd.Series) -> pd.DataFrame:
    """Softmax of `read_logits`."""
    return as_probabilities(read_logits(jobs, image_ids))


def as_probabilities(logits: pd.DataFrame) -> pd.DataFrame:
    """Softmax of logits, float32: a row an image, a column a class."""
    values = softmax(logits.to_numpy(dtype=np.float32))
    return pd.DataFrame(values, index=logits.index, columns=logits.columns)
