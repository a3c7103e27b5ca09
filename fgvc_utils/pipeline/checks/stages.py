"""Checks of what stages take from each other: tables, models, votes, decisions."""

from typing import Any

import pandas as pd

from fgvc_utils.cleaning.class_decisions import (
    CLASS_JOURNAL,
    NOBODY,
    check_decisions,
    in_force,
)
from fgvc_utils.cleaning.class_decisions import unused as unused_on_classes
from fgvc_utils.cleaning.rules import unused_decisions
from fgvc_utils.contest import tables
from fgvc_utils.contest.journal import Journal
from fgvc_utils.core.files import read_json
from fgvc_utils.core.naming import first_quoted
from fgvc_utils.jobs.predictions import INDEX
from fgvc_utils.jobs.records import DONE, read_job
from fgvc_utils.pipeline.checks.findings import Contest, Findings
from fgvc_utils.pipeline.stages import STAGES, VOTE, making, vote_folder


def check_made_before(contest: Contest, found: Findings) -> None:
    """Tables, models and votes that a stage names are there or are made by a stage before it."""
    made: set[str] = set()
    models = {done.parent.name for done in contest.folder.glob("models/*/done.json")}
    old = dict.fromkeys(sorted(models))
    for step in contest.steps:
        stage = STAGES[step.stage]
        _tables_there(step, made, found)
        for parameter in stage.model_parameters:
            _models_there(step, parameter, models, found)
        if start := stage.start_named(step.cfg):
            _start_there(contest, step, start, found)
        if stage.vote_parameter:
            _vote_there(step, getattr(step.cfg, stage.vote_parameter), made, found)
        if stage.makes == "table":
            made.add(step.stage)
        elif stage.makes == "model":
            old.pop(step.cfg.name, None)
            models.add(step.cfg.name)
        elif stage.makes == "vote":
            made.add(VOTE)
    _same_classes(contest, list(old), found)


def _tables_there(step: Any, made: set[str], found: Findings) -> None:
    stage = STAGES[step.stage]
    for wanted in stage.tables_read(step.cfg):
        if wanted in made:
            continue
        try:
            tables.read_table(step.cfg.table_path(wanted))
        except FileNotFoundError:
            found.errors.append(
                f"{step.name}: its table {wanted} is not there and no stage before it makes it; "
                f"put {wanted} into the contest file"
                + (", or name another table" if stage.table_parameters else "")
            )
        except ValueError as error:
            found.errors.append(f"{step.name}: {error}")


def _models_there(step: Any, parameter: str, models: set[str], found: Findings) -> None:
    named = getattr(step.cfg, parameter)
    missing = [name for name in named if name not in models]
    if missing:
        found.errors.append(
            f"{step.name}: {parameter} names {first_quoted(missing)}, which no stage before it "
            f"makes and outputs does not hold; there are {first_quoted(sorted(models)) or 'none'}"
        )
    elif not models and parameter == STAGES[step.stage].model_parameters[0]:
        found.errors.append(
            f"{step.name}: no stage before it makes a model and outputs holds none; put "
            f"{making('model')[0]} into the contest file"
        )


def _start_there(contest: Contest, step: Any, start: str, found: Findings) -> None:
    """The model that a fit begins from is made before it, of the same network."""
    makers = [s for s in contest.steps if STAGES[s.stage].makes == "model" and s.cfg.name == start]
    there = contest.folder / "models" / start
    before = contest.steps[: contest.steps.index(step)]
    if makers and makers[0] not in before:
        found.errors.append(
            f"{step.name}: start names {start!r}, which {makers[0].name} makes after it; put that "
            "before it, or begin from another model"
        )
        return
    if not makers and not (there / DONE).is_file():
        found.errors.append(
            f"{step.name}: start names {start!r}, which no stage before it makes and outputs does "
            "not hold; put it into the contest file before this one"
        )
        return
    own = makers[0].cfg if makers else read_job(there / "job.json")
    backbone = own.backbone
    if getattr(own, "fit", "") in ("probe", "head"):
        found.errors.append(
            f"{step.name}: start names {start!r}, a probe, which is no network; set start_head to "
            "probe in place of it"
        )
    elif backbone != step.cfg.backbone:
        found.errors.append(
            f"{step.name}: start names {start!r}, whose backbone is {backbone}; a fit begins from "
            f"a model of its own, {step.cfg.backbone}"
        )


def _vote_there(step: Any, name: str, made: set[str], found: Findings) -> None:
    if name not in made and not (vote_folder(step.cfg.folder, name) / INDEX).is_file():
        found.errors.append(
            f"{step.name}: ensemble {name!r} is not there and no stage before it makes it; put "
            f"{making('vote')[0]} into the contest file, which makes {VOTE!r}"
        )


def _same_classes(contest: Contest, old: list[str], found: Findings) -> None:
    """Models of earlier runs that enter the ensemble know the classes of the contest."""
    if contest.images is None:
        return
    classes = contest.classes
    for step in contest.of(*making("vote")):
        named = STAGES[step.stage].models_named(step.cfg)
        others = [name for name in old if named and name not in named]
        if others:
            found.facts.append(
                f"{step.name}: {first_quoted(others)} of an earlier run lie in models/ and are not "
                "asked; to let one vote, name it in `models`"
            )
        for name in [name for name in old if name not in others]:
            try:
                known = read_json(contest.folder / "models" / name / "job.json")["classes"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                found.errors.append(f"{step.name}: model {name!r} has no job.json to read: {error}")
                continue
            if known != classes:
                odd = sorted(set(known) ^ set(classes))
                found.errors.append(
                    f"{step.name}: model {name!r} of an earlier run was trained for other classes "
                    f"({len(known)}, not {len(classes)}; first {first_quoted(odd[:1])}); name the "
                    "models that it shall take, or choose another `run`"
                )


def check_journals(contest: Contest, found: Findings) -> None:
    """The journals are journals; what they decide on is there, or is said to be not."""
    table = None if contest.images is None else tables.new_table(contest.images)
    for name, decides_on in [(n, s.decides_on) for s in STAGES.values() for n in s.journals]:
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
            if name == CLASS_JOURNAL:
                unused = unused_on_classes(decided, table).index
            elif decides_on == "classes":
                unused = decided.index[~decided.index.isin(contest.classes)]
            else:
                unused = unused_decisions(table, decided).index
        except ValueError as error:
            found.errors.append(f"{journal.path}: {error}")
            continue
        if len(unused):
            found.warnings.append(_unused(journal, list(unused), len(decided)))
        if decides_on == "images":
            _changed_since(contest, journal, decided, found)


def _unused(journal: Journal, unused: list[str], count: int) -> str:
    """Decisions on what the contest does not have."""
    other = "; is this journal of another contest?" if len(unused) == count else ""
    return (
        f"{journal.path}: {len(unused)} of {count} decisions are on images or classes that the "
        f"contest does not have, such as {first_quoted(unused)}; they stay in the journal and "
        f"change nothing{other}"
    )


def _changed_since(
    contest: Contest, journal: Journal, decided: pd.DataFrame, found: Findings
) -> None:
    """Decisions on images whose files hold another content since the last run."""
    paths = contest.images.set_index("image_id")["path"].reindex(decided.index)
    changed = decided.index[paths.isin(contest.changed)]
    if len(changed):
        found.warnings.append(
            f"{journal.path}: {len(changed)} decisions are on images whose files changed since "
            f"the last run, such as {first_quoted(list(changed))}; where 01 finds another picture "
            "they no longer count: look at these images again"
        )


def check_class_decisions(contest: Contest, found: Findings) -> None:
    """What the contest file decides on classes names classes and images of the contest."""
    for step in contest.of("04_lowq") if contest.images is not None else ():
        decided = in_force(step.cfg.class_decisions, NOBODY)
        try:
            check_decisions(decided, contest.classes, f"{step.name}: class_decisions")
        except ValueError as error:
            found.errors.append(str(error))
        images = set(contest.images["image_id"])
        for each in decided:
            if each.part and each.part not in images:
                found.errors.append(
                    f"{step.name}: class_decisions: {each.text}: the contest has no image "
                    f"{each.part!r}; name another one of that part as `part`"
                )
