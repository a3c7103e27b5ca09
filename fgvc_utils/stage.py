"""What every notebook does at its edges: find the run's files, make jobs of rows, launch them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fgvc_utils import config
from fgvc_utils.files import whole_file
from fgvc_utils.jobs import Job, is_done, write_job
from fgvc_utils.launch import Hardware, launch
from fgvc_utils.predictions import Store, label_ranks, softmax


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


def processors() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0))


def inventory_path(cfg: config.Shared) -> Path:
    """Where 01 writes what each file is: stored form, digest, place in the cache, error."""
    return cfg.folder / "tables" / "inventory.parquet"


def read_inventory(cfg: config.Shared) -> pd.DataFrame:
    """The inventory of all files with `file`, the absolute path in the cache.

    Raises FileNotFoundError naming the notebook to run, or the cache where it was cleared.
    """
    path = inventory_path(cfg)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: run the notebook 01_noise first")
    inventory = pd.read_parquet(path).astype({"image_id": object})
    readable = inventory["cached"] != ""
    inventory["file"] = (str(cache_folder(cfg)) + "/" + inventory["cached"]).where(readable, "")
    first = inventory.loc[readable, "file"].iloc[0]
    if not Path(first).is_file():
        raise FileNotFoundError(f"{first} is gone from the cache: run the notebook 01_noise again")
    return inventory


def job_rows(inventory: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    """Rows of a job: readable images that have any part in it.

    `columns` are values or Series in the order of the inventory's rows: target (text), fit,
    validate, predict (boolean); missing ones are empty or false.
    """
    rows = pd.DataFrame(
        {"image_id": inventory["image_id"].to_numpy(), "file": inventory["file"].to_numpy()}
    )
    for name, default in (("target", ""), ("fit", False), ("validate", False), ("predict", False)):
        value = columns.get(name, default)
        rows[name] = value.to_numpy() if isinstance(value, pd.Series) else value
    readable = (inventory["cached"] != "").to_numpy()
    return rows[readable & (rows["fit"] | rows["validate"] | rows["predict"])]


def run_jobs(jobs: list[tuple[Job, pd.DataFrame]], cfg: config.Shared, stage: str) -> None:
    """Write the jobs with their rows and launch those that are not done; shows progress.

    Raises what `launch` raises, first of all a rank's own traceback.
    """
    files = [write_job(job, rows) for job, rows in jobs]
    open_files = [file for (job, _), file in zip(jobs, files, strict=True) if not is_done(job)]
    for job, _ in jobs:
        if is_done(job):
            print(f"{job.name}: done before")
    if open_files:
        launch(open_files, cfg.folder / "launches" / stage, hardware(cfg))


def work_folder(cfg: config.Shared, stage: str, name: str) -> str:
    """Where a stage's jobs write, by name."""
    return str(cfg.folder / "work" / stage / name)


def feature_job(cfg: Any, inventory: pd.DataFrame) -> tuple[Job, pd.DataFrame]:
    """Frozen features of all readable images, and of their mirror images.

    `cfg` has backbone, weights, size and test_ratio. Stages that ask for the same network and size
    get the same job, so the features are computed once a run.
    """
    folder = cfg.folder / "features" / f"{cfg.backbone}-{cfg.size}"
    job = Job(
        name=f"features {cfg.backbone} at {cfg.size} px",
        folder=str(folder),
        rows=str(folder / "rows.parquet"),
        classes=[],
        fit="none",
        backbone=cfg.backbone,
        weights=cfg.weights,
        size=cfg.size,
        test_ratio=cfg.test_ratio,
        keep=["features", "mirror"],
        keep_weights=False,
    )
    return job, job_rows(inventory, predict=True)


def cleaning_job(
    cfg: Any,
    stage: str,
    name: str,
    classes: list[str],
    features: Job,
    *,
    optimiser: str = "radam",
    views: tuple[str, ...] = ("features",),
    seed: int = 0,
) -> Job:
    """One fit of a cleaning stage: a head on frozen features, or the whole network.

    `cfg.fit` decides; `views` are the feature views a head draws from, and a whole network mirrors
    its pictures at random where there are several. Nothing but the logits is kept.
    """
    folder = work_folder(cfg, stage, name)
    return Job(
        name=f"{stage} {name}",
        folder=folder,
        rows=f"{folder}/rows.parquet",
        classes=classes,
        fit=cfg.fit,
        backbone=cfg.backbone if cfg.fit == "full" else "",
        weights=cfg.weights if cfg.fit == "full" else "none",
        size=cfg.size,
        test_ratio=cfg.test_ratio,
        stores=[str(features.store)] if cfg.fit == "head" else [],
        train_views=list(views),
        augmentation={"flip_probability": 0.5} if len(views) > 1 else {},
        epochs=cfg.epochs,
        optimiser=optimiser,
        base_lr=cfg.rate if optimiser != "sgd" else cfg.sgd_rate,
        global_batch=cfg.global_batch,
        micro_batch=cfg.micro_batch,
        weight_decay=cfg.weight_decay,
        keep=["logits"],
        keep_weights=False,
        seed=seed,
    )


def read_logits(jobs: list[Job], image_ids: pd.Series) -> pd.DataFrame:
    """Logits of the jobs that predicted each image, a row an image that any of them predicted.

    Indexed by image_id in the order of `image_ids`, a column a class.
    """
    parts = []
    for job in jobs:
        store = Store(job.store)
        frame = pd.DataFrame(store.read("logits"), index=store.image_ids, columns=store.classes)
        parts.append(frame)
    together = pd.concat(parts)
    return together.loc[[image for image in image_ids if image in together.index]]


def write_ledger(cfg: config.Shared, stage: str, rounds: list[dict]) -> pd.DataFrame:
    """Put a stage's rounds into `ledger.csv`, leaving the other stages' rows as they are."""
    path = cfg.folder / "ledger.csv"
    ledger = pd.DataFrame([{"stage": stage, **row} for row in rounds])
    if path.is_file():
        others = pd.read_csv(path, dtype={"stage": str})
        ledger = pd.concat([others[others["stage"] != stage], ledger], ignore_index=True)
    ledger = ledger.sort_values("stage", kind="stable")
    with whole_file(path) as temporary:
        ledger.to_csv(temporary, index=False)
    return ledger[ledger["stage"] == stage].reset_index(drop=True)


def trained_models(cfg: config.Shared) -> list[Path]:
    """Folders of the models that are done, by name."""
    return sorted(done.parent for done in (cfg.folder / "models").glob("*/done.json"))


def read_features(job: Job, image_ids: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """Plain features, float16 (images, width), and the image ids they belong to, in order."""
    return Store(job.store).read("features", image_ids), pd.Index(image_ids, dtype=object)


def read_probabilities(jobs: list[Job], image_ids: pd.Series) -> pd.DataFrame:
    """Softmax of `read_logits`."""
    logits = read_logits(jobs, image_ids)
    values = softmax(logits.to_numpy(dtype=np.float32))
    return pd.DataFrame(values, index=logits.index, columns=logits.columns)


def ranks_of_labels(logits: pd.DataFrame, table: pd.DataFrame) -> pd.Series:
    """The rank of each image's label in force among its logits, by image_id: 0 means top-1."""
    label = table.set_index("image_id").loc[logits.index, "label"]
    numbers = logits.columns.get_indexer(label)
    return pd.Series(label_ranks(logits.to_numpy(), numbers), index=logits.index)


def suggestions(logits: pd.DataFrame, image_ids: pd.Series) -> pd.DataFrame:
    """The best class of each image (suggested) and its probability (score), by image_id."""
    picked = logits.loc[list(image_ids)]
    values = softmax(picked.to_numpy(dtype=np.float32))
    best = picked.columns.to_numpy()[values.argmax(axis=1)]
    return pd.DataFrame({"suggested": best, "score": values.max(axis=1)}, index=picked.index)


def candidates(
    table: pd.DataFrame,
    inventory: pd.DataFrame,
    scores: pd.Series,
    score_name: str,
    *,
    looks: int | None = None,
) -> pd.DataFrame:
    """What a gallery shows: the images of `scores` in its order, at most `looks` of them.

    Columns item, image (in the cache), caption (label, suggestion and score) and suggested.
    """
    first = scores.iloc[:looks]
    rows = table.set_index("image_id").loc[first.index]
    files = inventory.set_index("image_id").loc[first.index, "file"]
    caption = rows["label"].where(
        rows["suggested"] == "", rows["label"] + " → " + rows["suggested"]
    )
    caption = caption + first.map(lambda value: f"  {score_name} {value:.2f}").to_numpy()
    shown = {"item": first.index, "image": files, "caption": caption}
    return pd.DataFrame(shown | {"suggested": rows["suggested"]}).reset_index(drop=True)
