"""The members of an ensemble and the jobs that make them: views, soups, layers."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from fgvc_utils.answers.ensembling import require_unseen
from fgvc_utils.answers.params import EnsembleParams
from fgvc_utils.core.files import read_json
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import Job, read_job
from fgvc_utils.jobs.rows import Rows, read_rows
from fgvc_utils.jobs.running import run_jobs, work_folder
from fgvc_utils.training.averaging import average_weights, greedy_soup
from fgvc_utils.training.recipes import as_trained


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
    model that was trained on an image of `labels`; KeyError naming an image of `labels` that no
    model has a row of.
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
    strangers = labels.index[~labels.index.isin(rows["image_id"])]
    if len(strangers):
        raise KeyError(f"no model of {folder.name!r} has a row of image {strangers[0]!r}")
    judged = rows["image_id"].isin(labels.index)
    told = rows["image_id"].map(labels).where(judged, rows["target"])
    predict = rows["image_id"].isin(predicted)
    rows = rows.assign(target=told, validate=judged, predict=predict).sort_values("image_id")
    soup = jobs[0].elsewhere(folder, f"soup {folder.name}", **changes)
    return soup, rows.reset_index(drop=True)


def soups(
    cfg: EnsembleParams,
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
    cfg: EnsembleParams, stage: str, folder: Path, models: list[Path], labels: pd.Series
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
    cfg: EnsembleParams, stage: str, members: dict[str, Path], image_ids: pd.Series
) -> dict[str, Path]:
    """The stores of the members' test-time views, by member; none where the centre is enough."""
    if cfg.test_views == "centre":
        return {}
    jobs = {name: view_job(folder, cfg.test_views, image_ids) for name, folder in members.items()}
    run_jobs(list(jobs.values()), cfg, stage)
    return {name: job.store for name, (job, _) in jobs.items()}


def layer_jobs(
    cfg: EnsembleParams,
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
