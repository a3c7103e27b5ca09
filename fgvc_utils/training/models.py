"""The trained models of a run: which there are, what they learnt from, how they compare."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.contest_file import find_contest, notebook_defaults, read_contest_file
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.core.files import read_json
from fgvc_utils.core.intervals import wilson
from fgvc_utils.jobs.predictions import Store, same_classes
from fgvc_utils.jobs.records import Job, read_job
from fgvc_utils.jobs.rows import fitted_images
from fgvc_utils.training.changes import CHANGES
from fgvc_utils.training.floors import beside_floor, read_floors, said_of_floors
from fgvc_utils.training.params import DistillParams
from fgvc_utils.training.probes import is_probe

# The stages that make models: from labels, and from other models.
TRAINED, DISTILLED = "10_train", "20_distill"

# Fields of a job that the table of models always shows, and those that make no other network.
ALWAYS_SHOWN = {"backbone", "size", "teachers", "balance", "mix", "epochs"}

NO_RECIPE = {"name", "folder", "rows", "classes", "stores", "augmentation"} | {
    "keep", "reduce_to", "augmented_views", "keep_weights", "keep_every_step", "decoded",
    "test_time", "renew_statistics", "start_weights", "probe",
}  # fmt: skip


# Columns of the table of models that are left out where they are empty.
MAY_LACK = ("probe", "below probe", "table", "seen by teachers")

# Fields that only a layer on stored features has, and those of them and others that make a probe.
OF_HEADS = {"train_views", "test_views", "head"}
OF_PROBES = ("train_views", "weight_decay", "test_ratio", "keep_prior", "keep_empty", "seed")


def trained_models(cfg: Shared, names: Sequence[str] = ()) -> list[Path]:
    """Return the folders of the models that are done, sorted by name.

    Parameters
    ----------
    cfg : Shared
        Names the run.
    names : sequence of str
        The models asked for; empty for all.

    Raises
    ------
    FileNotFoundError
        Naming a model that is not there, or saying that none is.
    """
    models = cfg.folder / "models"
    found = sorted(done.parent for done in models.glob("*/done.json"))
    missing = set(names) - {folder.name for folder in found}
    if missing or not found:
        what = f"model {sorted(missing)[0]!r}" if missing else "a model"
        raise FileNotFoundError(f"{models} holds no finished {what}: run 10_train for it first")
    return [folder for folder in found if not names or folder.name in names]


def contest_models(cfg: Shared, *, students: bool = True) -> list[str]:
    """Return the names of the models that the contest file makes, in its order.

    Parameters
    ----------
    cfg : Shared
        Names the contest file and the run.
    students : bool
        Whether those that learn from other models are among them.

    Returns
    -------
    list of str
        Empty where there is no contest file, where it is that of another run, and where it makes no
        model: then a run has no other models than those that lie there.
    """
    path = find_contest(cfg.contest)
    file = read_contest_file(path) if path else None
    if file is None or file.shared.get("run", notebook_defaults(TRAINED)["run"]) != cfg.run:
        return []
    return [name for stage in (TRAINED, DISTILLED)[: 1 + students] for name in file.names(stage)]


def models_asked(cfg: Shared, named: Sequence[str] = (), also: Sequence[str] = ()) -> list[Path]:
    """Return the folders of the models that are asked for an answer, sorted by name.

    A model of an earlier contest file, or one that was trained by hand, may lie beside them; it is
    asked where it is named.

    Parameters
    ----------
    cfg : Shared
        Names the contest file and the run.
    named : sequence of str
        The models that the stage names; empty for all that the contest file makes and, where that
        makes none, all that are there.
    also : sequence of str
        Further ones, where `named` is empty.

    Raises
    ------
    FileNotFoundError
        Naming a model that is named and not there, or saying that none is.
    """
    made = [] if named else contest_models(cfg)
    if not made:
        return trained_models(cfg, named)
    there = [folder.name for folder in trained_models(cfg)]
    found = [name for name in dict.fromkeys([*made, *also]) if name in there or name in also]
    return trained_models(cfg, found or made)


def models_beside(cfg: Shared, asked: Sequence[str]) -> list[str]:
    """Return the names of the finished models of the run that are not among those asked."""
    return [folder.name for folder in trained_models(cfg) if folder.name not in asked]


def said_of_asked(cfg: Shared, asked: Sequence[str], named: Sequence[str] = ()) -> str:
    """Return in words which models are not asked though they lie there, and which are not there.

    Parameters
    ----------
    cfg : Shared
        Names the contest file and the run.
    asked : sequence of str
        The names of the models that are asked.
    named : sequence of str
        Those that the stage names, as for `models_asked`.
    """
    others, lines = models_beside(cfg, asked), []
    made = [] if named else contest_models(cfg)
    missing = [name for name in made if name not in (*asked, *others)]
    if others:
        lines.append(_not_asked(others, "vote", "models", named))
    if missing:
        lines.append(f"not there yet, though the contest file makes them: {', '.join(missing)}")
    return "\n".join(lines) or "every model that lies in models/ is asked"


def _not_asked(others: Sequence[str], to_do: str, parameter: str, named: Sequence[str]) -> str:
    why = f"`{parameter}` does not name" if named else "the contest file does not make"
    return (
        f"not asked, though they lie in models/: {', '.join(others)}; {why} them. To let one "
        f"{to_do}, name it in `{parameter}`"
    )


def teachers(cfg: DistillParams) -> list[Path]:
    """Return the folders of a student's teachers: the named models, or all that 10_train made.

    These are the ones that the contest file makes, where it makes any. Other students teach only
    where they are named. With `teacher_views` a probe, which no picture
    can be shown to, is left out, and a line is printed.

    Raises
    ------
    ParameterError
        Where the student has the name of one of them, or of a model of 10_train, which it would
        replace; or where `teacher_views` is to show pictures to a probe that is named, or to
        nobody.
    FileNotFoundError
        Where one of them, or every model, is missing.
    """
    taught = [folder.name for folder in trained_models(cfg) if not is_student(folder)]
    if cfg.name in (*taught, *cfg.teachers):
        raise ParameterError(
            f"name {cfg.name!r} is that of a model of 10_train or of a teacher; give the student "
            "its own"
        )
    made = [name for name in contest_models(cfg, students=False) if name in taught]
    others = [name for name in taught if made and name not in made]
    if others and not cfg.teachers:
        print(_not_asked(others, "teach", "teachers", cfg.teachers))
    found = trained_models(cfg, cfg.teachers or made or taught)
    probes = [folder for folder in found if is_probe(read_job(folder / "job.json"))]
    if not cfg.teacher_views or not probes:
        return found
    names = ", ".join(folder.name for folder in probes)
    if cfg.teachers or len(probes) == len(found):
        raise ParameterError(
            f"teacher_views shows pictures to the teachers, and {names} is a probe, which reads "
            "stored features: name networks as teachers, or set teacher_views to 0"
        )
    print(f"teacher_views shows pictures to the teachers: without {names}, a probe sees none")
    return [folder for folder in found if folder not in probes]


def is_student(folder: Path) -> bool:
    """Return whether the model in a folder learnt from teachers."""
    return bool(read_job(folder / "job.json").teachers)


def mean_probabilities(models: Sequence[Path], image_ids: pd.Series) -> pd.DataFrame:
    """Return the mean of the models' softmax.

    Parameters
    ----------
    models : sequence of Path
        Their folders.
    image_ids : sequence of str
        The images asked for.

    Returns
    -------
    DataFrame of float32
        A row an image, indexed by image_id in the order given, a column a class.

    Raises
    ------
    ValueError
        Where the models know different classes.
    KeyError
        Where one has not predicted an image.
    """
    stores = [Store(folder / "predictions") for folder in models]
    classes = same_classes(stores)
    mean = sum(store.probabilities(image_ids) for store in stores) / len(stores)
    return pd.DataFrame(mean, index=pd.Index(image_ids, dtype=object), columns=classes)


def taught_cleanly(teachers: Sequence[Path], image_ids: pd.Series) -> pd.Series:
    """Whether at least one teacher was not trained on an image, boolean, by `image_ids`' index."""
    clean = pd.Series(False, index=image_ids.index)
    for teacher in teachers:
        clean |= ~image_ids.isin(fitted_images(teacher))
    return clean


def trained_on(models: Sequence[Path], image_ids: Sequence[str]) -> pd.Series:
    """Return whether any of some models was trained on an image, boolean by image id."""
    ids = pd.Index(image_ids, dtype=object)
    seen = pd.Series(False, index=ids)
    for model in models:
        seen |= ids.isin(fitted_images(model))
    return seen


def top1_line(right: pd.Series) -> str:
    """Return top-1 with its number of images and its 95 % interval (Wilson 1927), as text.

    Parameters
    ----------
    right : Series of bool
        Whether the first class is right, an entry an image; at least one.
    """
    low, high = wilson(int(right.sum()), len(right))
    return f"top-1 {right.mean():.1%} of {len(right)}, 95 % interval {low:.1%} to {high:.1%}"


def model_table(cfg: Shared) -> pd.DataFrame:
    """Compare all trained models of the run: how they do, how they differ, what they cost.

    Prints how many parameters are the same for all, and which networks are below the probe of
    their own backbone.

    Returns
    -------
    DataFrame
        A row a model, the best first. Columns: model; top1 of the held-out images with low and
        high, its 95 % interval (Wilson 1927), and n, their number; probe, the top-1 of a probe of
        the network's backbone, and below probe, yes where that is higher (see `floors`); backbone,
        size, table (where the report has it), learns from, seen by teachers (held-out images that a
        student's teachers were trained on, which flatter it), balance, mix and epochs; every other
        parameter in which the models differ; seconds, and the mean images_per_second and waiting of
        the epochs where the log has them. What was not measured is missing.
    """
    folders = trained_models(cfg)
    jobs = [read_job(folder / "job.json") for folder in folders]
    parameters = pd.DataFrame([_parameters(job) for job in jobs], dtype=object)
    # As text: lists are compared too. A strength that a model lacks belongs to a change that it has
    # off, whose switch is the difference.
    differ = [name for name in parameters if parameters[name].dropna().map(repr).nunique() > 1]
    if same := parameters.shape[1] - len(differ):
        print(f"{same} more parameters are the same for all; job.json beside each model holds them")
    recorded, floors = _recorded(cfg), read_floors(cfg, folders)
    rows = []
    for folder, job, own in zip(folders, jobs, parameters.to_dict("records"), strict=True):
        done = read_json(folder / "done.json")
        row = {"model": folder.name, **_judged(done["figures"])}
        row |= beside_floor(row["top1"], floors.get(folder.name))
        report = recorded.get(folder.name, {})
        row |= {"backbone": job.backbone, "size": job.size, "table": report.get("table")}
        row |= {
            "learns from": _learns_from(job),
            "seen by teachers": report.get("seen_by_teachers"),
        }
        fitted = {"mix": job.mix, "epochs": job.epochs}
        row |= {"balance": job.balance} | (dict.fromkeys(fitted) if is_probe(job) else fitted)
        row |= {name: own[name] for name in differ}
        rows.append(row | {"seconds": done["seconds"], **_throughput(folder / "log.csv")})
    found = pd.DataFrame(rows)
    found["epochs"] = found["epochs"].astype("Int64")
    networks = found[[not is_probe(job) for job in jobs]].set_index("model")["top1"]
    if said := said_of_floors(floors, networks.to_dict()):
        print(said)
    found = found.drop(columns=[name for name in MAY_LACK if found[name].isna().all()])
    return found.sort_values(["top1", "model"], ascending=[False, True], ignore_index=True)


def _parameters(job: Job) -> dict[str, Any]:
    """What of a job may make a difference, besides what the table of models always shows."""
    if is_probe(job):
        return {"fit": "probe"} | {name: getattr(job, name) for name in OF_PROBES}
    switches = {change.switch: 0.0 for change in CHANGES}
    settings = job.model_dump() | switches | job.augmentation
    settings |= {"fit": "network"}
    unshown = ALWAYS_SHOWN | NO_RECIPE | OF_HEADS
    return {name: value for name, value in settings.items() if name not in unshown}


def _learns_from(job: Job) -> str:
    """The names of a student's teachers, and the labels unless the teachers alone count."""
    taught = [Path(teacher).parent.name for teacher in job.teachers]
    return " + ".join(taught if job.teacher_weight == 1 else ["labels", *taught])


def _recorded(cfg: Shared) -> dict[str, dict]:
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
    """Means over the epochs of the columns on speed that a log has."""
    log = pd.read_csv(log_file) if log_file.is_file() else pd.DataFrame()
    return {name: log[name].mean() for name in ("images_per_second", "waiting") if name in log}
