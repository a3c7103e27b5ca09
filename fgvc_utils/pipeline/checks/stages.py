"""Checks of what stages take from each other: tables, models, votes, decisions."""

from typing import Any

import pandas as pd

from fgvc_utils.cleaning.rules import apply_decisions
from fgvc_utils.contest import tables
from fgvc_utils.contest.journal import Journal
from fgvc_utils.core.files import read_json
from fgvc_utils.jobs.predictions import INDEX
from fgvc_utils.pipeline.checks.findings import Contest, Findings, first_few
from fgvc_utils.pipeline.stages import TABLE_BEFORE


def check_made_before(contest: Contest, found: Findings) -> None:
    """Tables, models and votes that a stage names are there or are made by a stage before it."""
    made: set[str] = set()
    models = {done.parent.name for done in contest.folder.glob("models/*/done.json")}
    old = dict.fromkeys(sorted(models))
    for step in contest.steps:
        cfg = step.cfg
        _tables_there(step, made, found)
        if step.stage in ("01_noise", *TABLE_BEFORE):
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
    before = TABLE_BEFORE.get(step.stage)
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
                + (", or name another table" if step.stage not in TABLE_BEFORE else "")
            )
        except ValueError as error:
            found.errors.append(f"{step.name}: {error}")


def _models_there(step: Any, parameter: str, models: set[str], found: Findings) -> None:
    named = getattr(step.cfg, parameter)
    missing = [name for name in named if name not in models]
    if missing:
        found.errors.append(
            f"{step.name}: {parameter} names {first_few(missing)}, which no stage before it makes "
            f"and outputs does not hold; there are {first_few(sorted(models)) or 'none'}"
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
                    f"({len(known)}, not {len(classes)}; first {first_few(odd[:1])}); name the "
                    "models that it shall take, or choose another `run`"
                )


def check_journals(contest: Contest, found: Findings) -> None:
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
