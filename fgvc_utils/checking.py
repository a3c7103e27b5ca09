"""The check of a whole contest, before anything runs: what would stop it hours later, found now.

All problems are found at once, each with what to do about it. Errors stop a run; warnings are what
a person should know. It takes seconds, also with half a million files: files are listed, and as
many of them are opened as a few seconds allow.
"""

import os
import shutil
import tempfile
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from fgvc_utils import (
    assignment,
    backbones,
    config,
    images,
    label_shift,
    listing,
    stage,
    submission,
    tables,
)
from fgvc_utils.cleaning import apply_decisions
from fgvc_utils.files import SPARE_BYTES, in_gigabytes, nearest_existing, read_json
from fgvc_utils.journal import Journal
from fgvc_utils.predictions import INDEX
from fgvc_utils.reading import read_csv

# How long images are opened, train and test together, and how long a listing's paths are sought.
LOOK_SECONDS = 4.0
SEARCH_SECONDS = 5.0
# Bytes a pixel of the cache's JPEGs (quality 95, full colour) and height × width / side² of photos,
# where no image was looked at.
JPEG_BYTES = 0.5
ASPECT = 1.4
SAMPLE_FILE = "sample_submission.csv"
# So many of several like problems are named, the others counted.
NAMED = 3


@dataclass
class Findings:
    """What a check found: texts, one a problem; `facts` are what it counted on the way."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)

    def text(self) -> str:
        """All of it in lines: facts, then warnings, then errors."""
        lines = list(self.facts)
        lines += [f"warning: {text}" for text in self.warnings]
        lines += [f"to mend before a run: {text}" for text in self.errors]
        return "\n".join(lines)


class Contest:
    """The steps of a contest with what several checks need of it."""

    def __init__(self, steps: Sequence[Any], look_seconds: float) -> None:
        self.steps = list(steps)
        self.look_seconds = look_seconds
        self.folder: Path = steps[0].cfg.folder
        self.root: Path | None = None
        # All images with image_id, path, split, given; None where they cannot be listed.
        self.images: pd.DataFrame | None = None
        # Bytes of a cached JPEG, by a look at some images.
        self.jpeg_bytes = 0.0

    def of(self, *stages: str) -> list[Any]:
        """The steps of some stages, in order."""
        return [step for step in self.steps if step.stage in stages]

    def count(self, split: str) -> int:
        """How many images a split has, 0 where they cannot be listed."""
        return 0 if self.images is None else int((self.images["split"] == split).sum())

    @property
    def classes(self) -> list[str]:
        """All class names, sorted."""
        train = self.images["split"] == "train"
        return sorted(set(self.images.loc[train, "given"]))

    @property
    def folds(self) -> int:
        """Into how many folds 01 cuts the train images, 0 where it is no part of the contest."""
        return next((step.cfg.folds for step in self.of("01_noise")), 0)


def check(steps: Sequence[Any], look_seconds: float = LOOK_SECONDS) -> Findings:
    """Check the steps of a contest: each has a stage, a name, its parameters (cfg) and a stamp.

    Nothing is written but a temporary file in the folder of results, which goes at once.
    """
    contest, found = Contest(steps, look_seconds), Findings()
    parts: list[Callable[[Contest, Findings], None]] = [
        _places,
        _listing,
        _class_names,
        _look,
        _networks,
        _batches,
        _folds,
        _made_before,
        _journals,
        _submission,
        _prior,
        _room,
        _memory,
        _device,
    ]
    for part in parts:
        part(contest, found)
    return found


def _named(values: Sequence[str]) -> str:
    """The first few of some names, and how many more there are."""
    shown = ", ".join(repr(value) for value in values[:NAMED])
    return shown + (f" and {len(values) - NAMED} more" if len(values) > NAMED else "")


# Folders.


def _places(contest: Contest, found: Findings) -> None:
    """The data root is there, and the folder of results can be written to."""
    try:
        contest.root = config.data_root(contest.steps[0].cfg.data_root)
    except FileNotFoundError as error:
        found.errors.append(str(error))
    there = nearest_existing(contest.folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        found.errors.append(
            f"outputs: {there} cannot be written to ({error.strerror}); set `outputs` to a folder "
            "that can"
        )
    for step in contest.of("01_noise") if contest.root else ():
        for side in (step.cfg.train, step.cfg.test):
            if side and (contest.root / side).resolve() in contest.folder.resolve().parents:
                found.errors.append(
                    f"outputs: {contest.folder} lies among the images of {side}; set `outputs` to "
                    "a folder elsewhere"
                )


def _listing(contest: Contest, found: Findings) -> None:
    """Folders and listings can be read, all images are there, none stands twice."""
    if contest.root is None:
        return
    steps = contest.of("01_noise")
    if not steps:
        contest.images = _images_of_tables(contest, found)
        return
    cfg, parts = steps[0].cfg, []
    for split, source in (("train", cfg.train), ("test", cfg.test)):
        if not source:
            continue
        try:
            columns = (cfg.path_column, cfg.label_column, cfg.id_column)
            parts.append(listing.list_side(contest.root, source, split, *columns))
        except (ValueError, OSError) as error:
            found.errors.append(f"01_noise: {error}")
            continue
        if Path(source).suffix.lower() in listing.LISTING_ENDINGS:
            _paths_there(contest, parts[-1], source, found)
        else:
            _left_out_folders(contest.root / source, split, found)
            if split == "train":
                _inner_folders(parts[-1], source, found)
    if not cfg.test and contest.of("40_submit"):
        found.errors.append("01_noise: test is empty, but 40_submit needs test images: name them")
    try:
        together = listing.together(parts) if parts else None
    except ValueError as error:
        found.errors.append(f"01_noise: {error}")
        return
    # With one side missing, its own error is said; the rest is not judged by half the images.
    if together is not None and len(parts) == 1 + bool(cfg.test):
        contest.images = together


def _images_of_tables(contest: Contest, found: Findings) -> pd.DataFrame | None:
    """The images as the tables of an earlier run list them, where 01 is no part of the contest."""
    for name in ("01_noise", "02_coarse", "03_fine", "04_lowq"):
        path = contest.steps[0].cfg.table_path(name)
        if path.is_file():
            try:
                return tables.read_table(path)
            except ValueError as error:
                found.errors.append(str(error))
    return None


def _paths_there(contest: Contest, part: pd.DataFrame, source: str, found: Findings) -> None:
    """The files that a listing names are there; a random part of them where that takes long."""
    paths = part["path"].sample(frac=1, random_state=0)
    began, looked, missing = time.monotonic(), 0, []
    for path in paths:
        looked += 1
        if not os.path.exists(contest.root / path):
            missing.append(path)
        if looked % 100 == 0 and time.monotonic() - began > SEARCH_SECONDS:
            break
    if not missing:
        return
    first = min(missing)
    text = (
        f"01_noise: {len(missing)} of {looked} paths of {source} that were looked for are not "
        f"below {contest.root}, such as {first!r}{_near(contest.root, first)}"
    )
    if len(missing) == looked:
        found.errors.append(f"{text}; write them relative to the data root, or name path_column")
    else:
        found.warnings.append(f"{text}; 01 lists them as unreadable and goes on without them")


def _near(root: Path, path: str) -> str:
    """A hint where a path is there in another spelling."""
    place = root / path
    for form in ("NFC", "NFD"):
        if (root / unicodedata.normalize(form, path)).exists():
            return f", which is there in another Unicode spelling ({form})"
    if place.is_symlink():
        return ", a link that leads nowhere"
    if not place.parent.is_dir():
        return ""
    wanted = place.name.casefold()
    other = next((name for name in os.listdir(place.parent) if name.casefold() == wanted), None)
    return f", but {other!r} is there" if other else ""


def _left_out_folders(place: Path, split: str, found: Findings) -> None:
    """Class folders that hold nothing, and what is left out because its name begins with a dot."""
    with os.scandir(place) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    hidden = [e.name for e in inside if e.name.startswith(".") and e.is_dir()]
    if hidden:
        found.warnings.append(
            f"{split}: folders whose name begins with a dot are left out: {_named(hidden)}"
        )
    if split == "train":
        folders = [e for e in inside if e.is_dir() and not e.name.startswith(".")]
        empty = [entry.name for entry in folders if not any(os.scandir(entry.path))]
        if empty:
            found.warnings.append(
                f"train: class folders without any image are no classes: {_named(empty)}"
            )


def _inner_folders(part: pd.DataFrame, source: str, found: Findings) -> None:
    """Folders within class folders, such as species within a genus, which are no classes."""
    inner = part[part["path"].str.count("/") > len(Path(source).parts) + 1]
    if len(inner):
        first = inner.iloc[0]
        found.warnings.append(
            f"train: {len(inner)} images lie in folders within class folders, first "
            f"{first['path']!r}, whose class is {first['given']!r}; where the inner folders are "
            "the classes, bring them up, or write a listing"
        )


# Classes.


def _class_names(contest: Contest, found: Findings) -> None:
    """There are classes to tell apart, with images to tell them by."""
    if contest.images is None:
        return
    train = contest.images[contest.images["split"] == "train"]
    sizes = train["given"].value_counts()
    found.facts.append(
        f"{len(train)} train images under {len(sizes)} classes of {sizes.min()} to {sizes.max()} "
        f"images, {contest.count('test')} test images"
    )
    if len(sizes) < 2:
        found.errors.append(
            f"train: all {len(train)} images are of one class, {sizes.index[0]!r}; a contest needs "
            "at least two: is train the folder above the class folders?"
        )
    if contest.folds > len(train):
        found.errors.append(
            f"01_noise: {len(train)} train images cannot be cut into {contest.folds} folds; set "
            "folds lower or bring more images"
        )
    single = sizes.index[sizes == 1].tolist()
    if single and len(sizes) > 1:
        found.warnings.append(
            f"{len(single)} of {len(sizes)} classes have one image, which nothing can be held "
            f"against: {_named(sorted(single))}"
        )
    alike: dict[str, list[str]] = {}
    for name in sorted(sizes.index):
        alike.setdefault(" ".join(name.split()).casefold(), []).append(name)
    twins = [names for names in alike.values() if len(names) > 1]
    if twins:
        found.warnings.append(
            f"{len(twins)} class names differ in nothing but case or blanks, first "
            f"{_named(twins[0])}; they are different classes here"
        )


# Images.


def _look(contest: Contest, found: Findings) -> None:
    """Open images of both splits, drawn at random, as many as the time allows.

    Where 01 is done it has opened all of them.
    """
    steps = [step for step in contest.of("01_noise") if not step.stamp.is_file()]
    if contest.images is None or not contest.look_seconds or not steps:
        return
    side = steps[0].cfg.cache_side
    sizes: list[int] = []
    for split in ("train", "test"):
        paths = contest.images.loc[contest.images["split"] == split, "path"]
        if not len(paths):
            continue
        reasons, looked = _open_some(contest, paths, side, sizes)
        if not reasons:
            continue
        first = min(reasons)
        text = (
            f"{split}: {len(reasons)} of {looked} images that were opened cannot be read, such as "
            f"{first} ({reasons[first]})"
        )
        if len(reasons) == looked:
            found.errors.append(f"{text}; not one can: are these images?")
        else:
            found.warnings.append(f"{text}; 01 lists all of them with their reason")
    contest.jpeg_bytes = float(np.mean(sizes)) if sizes else 0.0


def _open_some(
    contest: Contest, paths: pd.Series, side: int, sizes: list[int]
) -> tuple[dict[str, str], int]:
    """Decode images at random for half of the look; gives path → reason, and how many it were."""
    import simplejpeg

    began, looked, reasons = time.monotonic(), 0, {}
    for path in paths.sample(frac=1, random_state=0):
        if looked and time.monotonic() - began > contest.look_seconds / 2:
            break
        looked += 1
        try:
            data, _ = images.read_raw(contest.root, path)
            small, *_ = images.decode_small(data, side)
        except images.UnreadableImage as error:
            reasons[path] = str(error)
            continue
        jpeg = simplejpeg.encode_jpeg(
            np.ascontiguousarray(small), quality=images.CACHE_QUALITY, colorsubsampling="444"
        )
        sizes.append(len(jpeg))
    return reasons, looked


# Networks and batches.


def _networks(contest: Contest, found: Findings) -> None:
    """Backbones are known, their weights are there and fit, and pictures are large enough."""
    unfit: dict[str, list[str]] = {}
    hub: dict[str, None] = {}
    for step in contest.steps:
        cfg = step.cfg
        if not hasattr(cfg, "backbone"):
            continue
        for name in _backbones(cfg):
            if problem := _network_problem(name, cfg.weights):
                unfit.setdefault(problem, []).append(step.name)
            elif cfg.weights == "hub" and not _on_this_machine(name):
                hub[name] = None
        _picture_sizes(contest, step, found)
    found.errors += [f"{', '.join(names)}: {problem}" for problem, names in unfit.items()]
    if hub:
        found.warnings.append(
            f"weights hub of {_named(list(hub))} are not on this machine yet: they are downloaded "
            "when they are first used, which needs a connection"
        )


def _backbones(cfg: Any) -> list[str]:
    """All networks of a stage, each once."""
    named = [cfg.backbone, *getattr(cfg, "further_backbones", [])]
    named += [name for recipe in getattr(cfg, "rounds", []) for name in recipe.backbones]
    return list(dict.fromkeys(named))


@cache
def _network_problem(name: str, weights: str) -> str:
    try:
        backbones.check_network(name, weights)
        backbones.check_weights_file(name, weights)
    except ValueError as error:
        return str(error)
    return ""


def _on_this_machine(name: str) -> bool:
    """Whether timm's own weights were downloaded before; true where that cannot be told."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    pretrained = timm.get_pretrained_cfg(name)
    source = getattr(pretrained, "hf_hub_id", None)
    if not source:
        return True
    files = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(source, file), str) for file in files)


def _picture_sizes(contest: Contest, step: Any, found: Findings) -> None:
    """The cache holds pictures as large as a stage looks at."""
    for first in contest.of("01_noise"):
        ratios = [getattr(step.cfg, name, 1.0) for name in ("train_ratio", "test_ratio")]
        wanted = round(step.cfg.size * max(ratios))
        if wanted > first.cfg.cache_side:
            found.warnings.append(
                f"{step.name}: looks at pictures of {wanted} px, but cache_side keeps "
                f"{first.cfg.cache_side}, so they are enlarged; set cache_side to at least {wanted}"
            )


def _batches(contest: Contest, found: Findings) -> None:
    """Each global batch can be cut up, and there are as many images as it takes."""
    train, uncut = contest.count("train"), {}
    for step in contest.steps:
        cfg = step.cfg
        if not hasattr(cfg, "global_batch"):
            continue
        try:
            config.accumulation(cfg.global_batch, cfg.micro_batch, cfg.processes * cfg.nodes)
        except config.ParameterError as error:
            uncut.setdefault(str(error), []).append(step.name)
        if not train or step.stage not in ("10_train", "20_distill", "30_ensemble"):
            continue
        labelled = train
        if cfg.held_out_fold >= 0 and contest.folds:
            labelled = train - train // contest.folds
        unlabelled = contest.count("test") if getattr(cfg, "variant", "") == "A" else 0
        if cfg.global_batch > labelled + unlabelled:
            found.errors.append(
                f"{step.name}: global_batch {cfg.global_batch} is larger than the "
                f"{labelled + unlabelled} images that it can learn from at most; make it smaller"
            )
    found.errors += [f"{', '.join(names)}: {problem}" for problem, names in uncut.items()]


def _folds(contest: Contest, found: Findings) -> None:
    """A fold that is held out is one that 01 cuts."""
    for step in contest.steps:
        fold = getattr(step.cfg, "held_out_fold", -1)
        if contest.folds and fold >= contest.folds:
            found.errors.append(
                f"{step.name}: held_out_fold {fold}, but 01_noise cuts the folds 0 to "
                f"{contest.folds - 1}; name one of them, or raise folds"
            )


# What stages take from each other.


def _made_before(contest: Contest, found: Findings) -> None:
    """Tables, models and votes that a stage names are there or are made by a stage before it."""
    made: set[str] = set()
    models = {done.parent.name for done in contest.folder.glob("models/*/done.json")}
    old = dict.fromkeys(sorted(models))
    for step in contest.steps:
        cfg = step.cfg
        _tables_there(step, made, found)
        if step.stage in ("01_noise", *config.TABLE_BEFORE):
            made.add(step.stage)
        if step.stage in ("10_train", "20_distill"):
            old.pop(cfg.name, None)
        if step.stage == "20_distill":
            _models_there(step, "teachers", models, found)
        if step.stage in ("10_train", "20_distill"):
            models.add(cfg.name)
        if step.stage == "30_ensemble":
            _models_there(step, "models", models, found)
            _models_there(step, "seen_models", models, found)
            made.add("vote")
        if step.stage == "40_submit":
            _vote_there(step, made, found)
    _same_classes(contest, list(old), found)


def _tables_of(step: Any) -> list[str]:
    """The tables that a stage reads, each once."""
    named = [getattr(step.cfg, name, "") for name in ("table", "fold_table")]
    before = config.TABLE_BEFORE.get(step.stage)
    return list(dict.fromkeys([before] if before else [name for name in named if name]))


def _tables_there(step: Any, made: set[str], found: Findings) -> None:
    for wanted in _tables_of(step):
        if wanted in made:
            continue
        try:
            tables.read_table(step.cfg.table_path(wanted))
        except FileNotFoundError:
            found.errors.append(
                f"{step.name}: its table {wanted} is not there and no stage before it makes it; "
                f"put {wanted} into the contest file"
                + (", or name another table" if step.stage not in config.TABLE_BEFORE else "")
            )
        except ValueError as error:
            found.errors.append(f"{step.name}: {error}")


def _models_there(step: Any, parameter: str, models: set[str], found: Findings) -> None:
    named = getattr(step.cfg, parameter)
    missing = [name for name in named if name not in models]
    if missing:
        found.errors.append(
            f"{step.name}: {parameter} names {_named(missing)}, which no stage before it makes and "
            f"outputs does not hold; there are {_named(sorted(models)) or 'none'}"
        )
    elif not models and parameter != "seen_models":
        found.errors.append(
            f"{step.name}: no stage before it makes a model and outputs holds none; put 10_train "
            "into the contest file"
        )


def _vote_there(step: Any, made: set[str], found: Findings) -> None:
    name = step.cfg.ensemble
    if name not in made and not (step.cfg.folder / "ensemble" / name / INDEX).is_file():
        found.errors.append(
            f"{step.name}: ensemble {name!r} is not there and no stage before it makes it; put "
            "30_ensemble into the contest file, which makes 'vote'"
        )


def _same_classes(contest: Contest, old: list[str], found: Findings) -> None:
    """Models of earlier runs that enter the ensemble know the classes of the contest."""
    if contest.images is None:
        return
    classes = contest.classes
    for step in contest.of("30_ensemble"):
        for name in [name for name in old if not step.cfg.models or name in step.cfg.models]:
            try:
                known = read_json(contest.folder / "models" / name / "job.json")["classes"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                found.errors.append(f"{step.name}: model {name!r} has no job.json to read: {error}")
                continue
            if known != classes:
                odd = sorted(set(known) ^ set(classes))
                found.errors.append(
                    f"{step.name}: model {name!r} of an earlier run was trained for other classes "
                    f"({len(known)}, not {len(classes)}; first {_named(odd[:1])}); name the "
                    "models that it shall take, or choose another `run`"
                )


def _journals(contest: Contest, found: Findings) -> None:
    """The journals are journals, and they decide on images and classes of this contest."""
    table = None if contest.images is None else tables.new_table(contest.images)
    for name in ("01_noise", "01_audit", "02_coarse", "03_fine", "04_lowq"):
        journal = Journal(contest.steps[0].cfg.journal(name))
        try:
            decided = journal.latest()
        except (ValueError, OSError) as error:
            found.errors.append(str(error))
            continue
        if cut := journal.cut_lines():
            found.warnings.append(
                f"{journal.path}: {len(cut)} lines do not count, first line {cut[0].number}: "
                f"{cut[0].reason}; decide on it anew"
            )
        if table is None or decided.empty:
            continue
        try:
            if name == "04_lowq":
                _known_classes(journal, decided, contest.classes)
            else:
                apply_decisions(table, decided, name)
        except ValueError as error:
            found.errors.append(str(error))


def _known_classes(journal: Journal, decided: pd.DataFrame, classes: list[str]) -> None:
    strangers = sorted(set(decided.index) - set(classes))
    if strangers:
        raise ValueError(
            f"{journal.path} decides on the class {strangers[0]!r}, which the contest does not "
            "have; is this journal of another contest?"
        )


# The submission.


def _submission(contest: Contest, found: Findings) -> None:
    """The test images have the names that a submission needs, and the classes have room for all."""
    if contest.images is None or not contest.count("test"):
        return
    for step in contest.of("40_submit"):
        cfg, count, classes = step.cfg, contest.count("test"), contest.classes
        try:
            names = submission.submission_ids(contest.images, cfg.image_column)
            _like_the_sample(contest, step, names, found)
        except ValueError as error:
            found.errors.append(f"{step.name}: {error}; choose another image_column")
            names = pd.Series([], dtype=object)
        try:
            if not cfg.allow_formulas:
                submission.refuse_formulas([*cfg.columns, *names, *classes])
        except ValueError as error:
            found.errors.append(f"{step.name}: {error}")
        try:
            if cfg.rule == "cap" and not cfg.prior:
                assignment.cap_for(cfg.known_count, count, len(classes), cfg.slack)
        except ValueError as error:
            found.errors.append(f"{step.name}: {error}")
        expected = cfg.known_count * len(classes)
        if expected and abs(expected - count) > 0.1 * count:
            found.warnings.append(
                f"{step.name}: known_count {cfg.known_count} × {len(classes)} classes are "
                f"{expected} test images, but there are {count}; is it right?"
            )


def _like_the_sample(contest: Contest, step: Any, names: pd.Series, found: Findings) -> None:
    """Where the contest's own sample lies beside the images, the submission will look like it."""
    path = contest.root / SAMPLE_FILE
    if not path.is_file():
        return
    try:
        sample = read_csv(path)
    except ValueError as error:
        found.warnings.append(f"{step.name}: {error}")
        return
    if list(sample) != list(step.cfg.columns):
        found.warnings.append(
            f"{step.name}: columns {step.cfg.columns} are not those of {path.name}, {list(sample)}"
        )
    if sample.shape[1] < 2:
        return
    apart = sorted(set(sample.iloc[:, 0]) ^ set(names))
    if apart:
        found.warnings.append(
            f"{step.name}: {path.name} and the test images differ in {len(apart)} names, first "
            f"{apart[0]!r}; is image_column {step.cfg.image_column!r} what the contest calls an "
            f"image, as in {sample.iloc[0, 0]!r}?"
        )
    unknown = sorted(set(sample.iloc[:, 1]) - set(contest.classes) - {""})
    if unknown:
        found.warnings.append(
            f"{step.name}: {path.name} names {len(unknown)} classes that no train image has, first "
            f"{unknown[0]!r}; is label_column the right one?"
        )


def _prior(contest: Contest, found: Findings) -> None:
    """A prior's file can be read and gives each class its share."""
    for step in contest.of("40_submit"):
        if not step.cfg.prior or contest.root is None:
            continue
        try:
            place = listing.inside(contest.root, step.cfg.prior)
            classes = contest.classes if contest.images is not None else []
            if classes or not place.is_file():
                label_shift.read_prior(place, classes)
        except (ValueError, OSError) as error:
            found.errors.append(f"{step.name}: {error}")


# Room and memory.


def room_needed(contest: Contest) -> dict[str, int]:
    """What the steps that are not done will write, in bytes, by what it is; a rough estimate.

    Pictures count by those that were looked at; logits, features and scores by their arrays.
    """
    total, test = len(contest.images), contest.count("test")
    classes, half = len(contest.classes), np.dtype(np.float16).itemsize
    needed: dict[str, int] = {}

    def add(what: str, size: float) -> None:
        needed[what] = needed.get(what, 0) + round(size)

    decoded: dict[int, int] = {}
    for step in contest.steps:
        cfg = step.cfg
        if step.stamp.is_file():
            continue
        if step.stage == "01_noise":
            jpeg = contest.jpeg_bytes or JPEG_BYTES * ASPECT * cfg.cache_side**2
            add("the cache of pictures", total * jpeg)
        if step.stage in ("01_noise", "02_coarse", "03_fine") and cfg.fit == "head":
            for name in _backbones(cfg):
                # Of the picture and its mirror image.
                add("features", total * 2 * half * _width(name))
        if step.stage in ("10_train", "20_distill"):
            values = classes + _width(cfg.backbone) * (1 + cfg.feature_views)
            add("predictions of models", total * half * values)
            teachers = len(getattr(cfg, "teachers", [])) or len(contest.of("10_train"))
            views = getattr(cfg, "teacher_views", 0)
            add("teachers' word on views", teachers * views * total * half * classes)
            for ratio in (cfg.train_ratio, cfg.test_ratio) if cfg.decoded_gb else ():
                side = round(cfg.size * ratio)
                decoded[side] = round(total * 3 * ASPECT * side**2)
            largest = cfg.decoded_gb * 1e9
            needed["decoded pictures"] = round(min(sum(decoded.values()), largest))
        if step.stage == "30_ensemble":
            add("scores", 2 * test * classes * 4)
    return {what: size for what, size in needed.items() if size}


@cache
def _width(backbone: str) -> int:
    """Features of a network before its classifier."""
    try:
        return backbones.bare_network(backbone).num_features
    except (RuntimeError, ValueError, TypeError):
        # No such network, which is an error of its own.
        return 1280


def _room(contest: Contest, found: Findings) -> None:
    """The disk has room for what the run writes."""
    if contest.images is None:
        return
    needed = room_needed(contest)
    total = sum(needed.values())
    free = shutil.disk_usage(nearest_existing(contest.folder)).free
    parts = ", ".join(f"{what} {in_gigabytes(size)}" for what, size in needed.items())
    text = (
        f"about {in_gigabytes(total)} are needed below {contest.folder.parent}"
        f"{f' ({parts})' if parts else ''}, {in_gigabytes(free)} are free"
    )
    found.facts.append(text)
    if total and total + SPARE_BYTES > free:
        found.errors.append(
            f"outputs: {text}, of which {in_gigabytes(SPARE_BYTES)} must stay: free some, set "
            "`outputs` to a larger disk, or choose a smaller cache_side, decoded_gb or "
            "feature_views"
        )


def memory_needed(contest: Contest) -> dict[str, int]:
    """The most that single steps hold in memory, in bytes, by step; rough, without training."""
    total, test, needed = len(contest.images), contest.count("test"), {}
    for step in contest.steps:
        if step.stage in ("01_noise", "02_coarse", "03_fine") and step.cfg.fit == "head":
            width = sum(_width(name) for name in _backbones(step.cfg))
            # Two views in half precision, once in full while they are standardised.
            needed[step.name] = total * width * (2 * 2 + 4)
        if step.stage == "40_submit":
            # Scores, and their copy while they are balanced.
            needed[step.name] = 2 * 4 * test * len(contest.classes)
    return needed


def _memory(contest: Contest, found: Findings) -> None:
    if contest.images is None:
        return
    available = psutil.virtual_memory().available
    for name, size in memory_needed(contest).items():
        if size > available:
            found.warnings.append(
                f"{name}: it needs about {in_gigabytes(size)} of memory, and "
                f"{in_gigabytes(available)} are available: name fewer backbones, end other "
                "programs, or take a larger machine"
            )


def _device(contest: Contest, found: Findings) -> None:
    """The machine has what the parameters ask for."""
    problems: dict[str, None] = {}
    for step in contest.steps:
        try:
            stage.hardware(step.cfg)
        except ValueError as error:
            problems[str(error)] = None
        if step.cfg.device != "cpu":
            if problem := _gpu_problem(step.cfg.device, step.cfg.processes):
                problems[problem] = None
    found.errors += list(problems)


def _gpu_problem(device: str, processes: int) -> str:
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if processes <= gpus or (gpus == 0 and device == "auto"):
        return ""
    return (
        f"device {device} with processes {processes}, but this machine has {gpus} CUDA GPUs: set "
        f"{f'processes to at most {gpus} or ' if gpus else ''}device to cpu or auto"
    )
