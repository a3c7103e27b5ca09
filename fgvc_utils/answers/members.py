"""The jobs that make members of an ensemble: test views, soups, layers."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from fgvc_utils.answers.params import EnsembleParams
from fgvc_utils.answers.seen import require_unseen
from fgvc_utils.answers.ways import LAYERS
from fgvc_utils.core.files import read_json
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import Job, read_job
from fgvc_utils.jobs.rows import Rows, read_rows
from fgvc_utils.jobs.running import run_jobs, work_folder
from fgvc_utils.jobs.views import TEST_VIEWS
from fgvc_utils.training.averaging import average_weights, greedy_soup
from fgvc_utils.training.probes import is_probe
from fgvc_utils.training.recipes import as_trained


def view_job(model: Path, view: str, image_ids: pd.Series) -> Rows:
    """Let a model predict images by the crops of a test view, without training.

    The log of the mean softmax lies in `views-of-test/<view>` beside the model.

    Parameters
    ----------
    model : Path
        A model's folder.
    view : str
        An entry of `TEST_VIEWS`.
    image_ids : pd.Series
        The images, text.

    Raises
    ------
    FileNotFoundError
        The model keeps no weights.
    KeyError
        The model has no row of an image; names the first one.
    """
    job = read_job(model / "job.json")
    if not (model / "weights.safetensors").is_file():
        raise FileNotFoundError(
            f"{model} keeps no weights.safetensors, and test_views {view!r} needs them: train it "
            "again or set test_views to 'centre'"
        )
    rows = read_rows(job)
    strangers = set(image_ids) - set(rows["image_id"])
    if strangers:
        raise KeyError(f"model {model.name!r} has no row of image {sorted(strangers)[0]!r}")
    predicting = job.elsewhere(
        model / "views-of-test" / view,
        f"{job.name}: {view} at test",
        **as_trained(job),
        test_time=view,
        keep=["logits"],
        keep_weights=False,
        rate_sweep_steps=0,
    )
    # Its own train images stay marked: they say which classes it knows.
    asked = rows.assign(validate=False, predict=rows["image_id"].isin(set(image_ids)))
    return predicting, asked[asked["fit"] | asked["predict"]]


# Fields of a job that models must share for their weights to be averaged.
ALIKE = ("backbone", "size", "classes", "balance", "keep_prior", "keep_empty", "teacher_weight")
ALIKE += ("classifier", "arcface_centres", "arcface_scale")


def soup_job(folder: Path, models: Sequence[Path], labels: pd.Series) -> Rows:
    """Make the job of a network whose weights are the mean of several models'.

    Nothing is trained. Its train images are all that any of the models was trained on: the
    statistics of its BatchNorm are taken anew from them. It predicts and keeps what the first model
    does.

    Parameters
    ----------
    folder : Path
        Of the new model; the mean lies in `average` there.
    models : sequence of Path
        Folders of two or more models.
    labels : pd.Series
        The class of each held-out image that judges it, by image id.

    Raises
    ------
    ValueError
        Two models differ in a field of `ALIKE` (names both and the field), or one was trained on an
        image of `labels`.
    KeyError
        No model has a row of an image of `labels`, which is named.

    References
    ----------
    Wortsman et al., Model soups, ICML 2022.
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
    target = rows["image_id"].map(labels).where(judged, rows["target"])
    predict = rows["image_id"].isin(predicted)
    rows = rows.assign(target=target, validate=judged, predict=predict).sort_values("image_id")
    soup = jobs[0].elsewhere(folder, f"soup {folder.name}", **changes)
    return soup, rows.reset_index(drop=True)


def soups(
    cfg: EnsembleParams,
    stage: str,
    ranked: Sequence[Path],
    labels: pd.Series,
    single: Mapping[str, float],
) -> dict[str, Path]:
    """Make the soups that the parameters ask for, one of each kind of network.

    Models are of one kind where they share what weights must share. A kind with a single model
    makes none, probes enter none, and a soup that does worse on held-out images than each of its
    models is left out. Soups lie in `soups`, not among the models, which other notebooks take.
    Prints what is in each.

    Parameters
    ----------
    cfg : EnsembleParams
        `soup`: `none`; `uniform` takes all models of a kind; `greedy` those that do not lower the
        held-out top-1 of the soup so far.
    stage : str
        The stage that asks, for its launches.
    ranked : sequence of Path
        Folders of models that saw no image of `labels`, the best first.
    labels : pd.Series
        The class of each held-out image, by image id.
    single : Mapping[str, float]
        Held-out top-1 of each model, by name.

    Returns
    -------
    dict of str to Path
        Name → folder of each soup.
    """
    made, kinds = {}, {}
    for model in ranked if cfg.soup != "none" else ():
        job = read_job(model / "job.json")
        if is_probe(job):
            continue
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
    """The models of a greedy soup; each soup that is tried is a job of its own."""
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
    """Predict images by the members' test view, where that is more than the centre.

    Parameters
    ----------
    cfg : EnsembleParams
        `test_views` is an entry of `TEST_VIEWS`.
    stage : str
        The stage that asks, for its launches.
    members : dict of str to Path
        Name → folder of each model.
    image_ids : pd.Series
        The images, text.

    Returns
    -------
    dict of str to Path
        Name → store of logits; empty where the view is a single crop, which models predict anyway.
        A probe has none: it keeps to the views of its features.

    Raises
    ------
    FileNotFoundError, KeyError
        As `view_job` does.
    """
    if TEST_VIEWS[cfg.test_views].crops == 1:
        return {}
    probes = [name for name, folder in members.items() if is_probe(read_job(folder / "job.json"))]
    if probes:
        print(
            f"test_views {cfg.test_views} is for networks; at their own views stay "
            f"{', '.join(probes)}"
        )
    jobs = {
        name: view_job(folder, cfg.test_views, image_ids)
        for name, folder in members.items()
        if name not in probes
    }
    run_jobs(list(jobs.values()), cfg, stage)
    return {name: job.store for name, (job, _) in jobs.items()}


def _random_views(model: Path) -> set[str]:
    """The arrays of features of randomly changed views that a model keeps."""
    kinds = Store(model / "predictions").kinds()
    return {kind for kind in kinds if kind.startswith("augmented")}


def layer_jobs(
    cfg: EnsembleParams,
    stage: str,
    members: dict[str, Path],
    ranked: list[str],
    classes: list[str],
    judged: Sequence[str] = (),
) -> dict[str, Job]:
    """Make the jobs that train layers on several models' features.

    A layer on random views takes the best of those members that keep any, and the views that all
    of these keep. Where no member keeps any the way is left out; a line is printed of both.

    Parameters
    ----------
    cfg : EnsembleParams
        Which layers of `LAYERS` there are, of how many models, and how they are trained.
    stage : str
        The stage that asks: the jobs lie in its work folder.
    members : dict of str to Path
        Name → folder of each model.
    ranked : list of str
        Members, the best first.
    classes : list of str
        All class names, sorted.
    judged : sequence of str
        Ids of the images that are to judge the ensemble.

    Returns
    -------
    dict of str to Job
        Name of the layer → its job.

    Raises
    ------
    ValueError
        A member was trained on an image of `judged`; names it.
    """
    require_unseen({name: members[name] for name in ranked}, judged)
    jobs = {}
    for key, layer in LAYERS.items():
        count = getattr(cfg, layer.models)
        if not count or not ranked:
            continue
        chosen, views = ranked[:count], ["features"]
        if layer.random_views:
            keeping = {model: _random_views(members[model]) for model in ranked}
            chosen = [model for model in ranked if keeping[model]][:count]
            if not chosen:
                print(
                    f"{layer.name}: left out, its models keep no random views (feature_views is 0)"
                )
                continue
            if without := [model for model in ranked[:count] if not keeping[model]]:
                print(f"{layer.name}: without {', '.join(without)}, which keep no random views")
            views = sorted(set.intersection(*(keeping[model] for model in chosen)))
        stores = [members[model] / "predictions" for model in chosen]
        folder = work_folder(cfg, stage, key)
        jobs[layer.name] = Job(
            name=layer.name,
            folder=folder,
            rows=f"{folder}/rows.parquet",
            classes=classes,
            fit="head",
            stores=[str(store) for store in stores],
            train_views=views,
            head=layer.head,
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
