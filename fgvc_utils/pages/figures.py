"""Figures of a run as rows for a page: models, ensembles, steps, parameters, submissions."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.answers.submission import LOG_COLUMNS, current_submission, read_log
from fgvc_utils.contest.journal import Journal
from fgvc_utils.core.files import read_json
from fgvc_utils.core.intervals import wilson
from fgvc_utils.core.naming import first_few
from fgvc_utils.pages.runs import Run
from fgvc_utils.training.floors import read_floors

# Where a run lies; shown once, at the head of its page.
PLACES = ("contest", "run", "outputs", "data_root")
ENSEMBLE, SUBMIT = "30_ensemble", "40_submit"
# Sections of the report with parts of their own in a page.
RULES, LEVELS = "rules", "levels"
# So many steps are named where several have one parameter.
STEPS = 4
# So much of an error of a notebook is shown.
LONGEST_ERROR = 400


def model_rows(run: Run, floors: Mapping[str, float]) -> list[dict]:
    """Each model and each ensemble on held-out images, the best first.

    Parameters
    ----------
    run : Run
        The run.
    floors : mapping of str to float
        Those of `floors`.

    Returns
    -------
    list of dict
        A row each: `name`; `kind`, model or ensemble; `top1`, `low`, `high` (shares, None where no
        image is held out) and `n`; `floor`, the top-1 of the probe of its backbone, and `below`,
        whether it is below that; `backbone`, `table` and `teachers`; `voted`, whether 30 has taken
        it.
    """
    ensemble = run.figures(ENSEMBLE)
    n = int(ensemble.get("held_out") or 0)
    single = ensemble.get("single", {})
    rows = []
    for name, own in _trained(run).items():
        top1, images = own.get("top1"), int(own.get("held_out") or 0)
        if name in single:
            top1, images = single[name], n
        floor = floors.get(name)
        rows.append(
            _row(name, "model", top1, images)
            | {
                "floor": floor,
                "below": floor is not None and top1 is not None and top1 < floor,
                "backbone": own.get("backbone", ""),
                "table": own.get("table", ""),
                "teachers": own.get("teachers") or [],
                "voted": name in single if ensemble else None,
            }
        )
    further = {name: top1 for name, top1 in single.items() if name not in {r["name"] for r in rows}}
    rows += [_row(name, "model", top1, n) | {"voted": True} for name, top1 in further.items()]
    ways = ensemble.get("ensembles", {})
    rows += [_row(name, "ensemble", top1, n) for name, top1 in ways.items()]
    return sorted(rows, key=lambda row: (row["top1"] is None, -(row["top1"] or 0), row["name"]))


def _row(name: str, kind: str, top1: float | None, n: int) -> dict:
    known = top1 is not None and n > 0 and not math.isnan(top1)
    low, high = wilson(round(top1 * n), n) if known else (None, None)
    return {
        "name": name,
        "kind": kind,
        "top1": top1 if known else None,
        "low": low,
        "high": high,
    } | {
        "n": n,
        "floor": None,
        "below": False,
        "backbone": "",
        "table": "",
        "teachers": [],
        "voted": None,
    }


def _trained(run: Run) -> dict[str, dict[str, Any]]:
    """The figures of the models that 10 and 20 made, by the model's name."""
    models = ("10_train-", "20_distill-")
    found = {}
    for section in run.report:
        if section.startswith(models):
            found[section.partition("-")[2]] = run.figures(section)
    there = sorted(done.parent.name for done in run.folder.glob("models/*/done.json"))
    return found | {name: {} for name in there if name not in found}


def floors(run: Run) -> dict[str, float]:
    """Top-1 of the probe of each network's backbone, of those that have one."""
    folders = sorted(done.parent for done in run.folder.glob("models/*/done.json"))
    # Of a contest's parameters it asks for the folder alone.
    found = read_floors(run, folders)  # type: ignore[arg-type]
    return {name: floor.top1 for name, floor in found.items()}


def spans(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """From where to where a scale of intervals goes, as shares in steps of a tenth."""
    ends = [row[end] for row in rows for end in ("low", "high", "floor") if row[end] is not None]
    if not ends:
        return 0.0, 1.0
    low, high = math.floor(min(ends) * 10) / 10, math.ceil(max(ends) * 10) / 10
    return low, max(high, low + 0.1)


def step_rows(run: Run, named: Sequence[str], to_run: Sequence[str]) -> list[dict]:
    """The steps of a run: what each does, whether it is done, how long it took.

    Parameters
    ----------
    run : Run
        The run.
    named : sequence of str
        The names of the contest's steps, in order; where none are given, those that left something.
    to_run : sequence of str
        The names of those that are still to run, as far as that is known.

    Returns
    -------
    list of dict
        A row each: `name`, `does`, `state` (done, to come, failed, not finished, to run again),
        `error`, `notebook` (whether an executed one is there), `seconds`, `share` of the longest,
        `time` when it was done.
    """
    longest = max(run.seconds.values(), default=0.0)
    rows = []
    for name in run.steps(named):
        there = name in run.executed
        error = _error_of(run.folder / f"{name}.ipynb") if there and name not in run.stamps else ""
        seconds = run.seconds.get(name)
        rows.append(
            {
                "name": name,
                "does": run.facts(name).does,
                "state": _state(run, name, to_run, there, error),
                "error": error,
                "notebook": there,
                "seconds": seconds,
                "share": seconds / longest if seconds and longest else 0.0,
                "time": _time_of(run.folder / "stages" / f"{name}.json"),
            }
        )
    return rows


def _state(run: Run, name: str, to_run: Sequence[str], there: bool, error: str) -> str:
    if name in run.stamps:
        return "to run again" if name in to_run else "done"
    if error:
        return "failed"
    # By hand, without the pipeline, or cut off.
    return "no stamp" if there else "to come"


def _error_of(notebook: Path) -> str:
    """What a cell of an executed notebook failed with, empty where none did."""
    try:
        cells = read_json(notebook)["cells"]
        errors = [o for cell in cells for o in cell.get("outputs", []) if o.get("ename")]
        text = f"{errors[-1]['ename']}: {errors[-1]['evalue']}" if errors else ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return "the executed notebook cannot be read"
    return text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]}…"


def _time_of(path: Path) -> str:
    if not path.is_file():
        return ""
    return in_minutes(datetime.fromtimestamp(path.stat().st_mtime, UTC))


def in_minutes(time: datetime) -> str:
    """A time to the minute, in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 42 s, 5 min 23 s, 3 h 05 min; empty where they are not known."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def changed_from_defaults(run: Run) -> list[dict]:
    """The parameters of the steps that differ from the notebook's defaults.

    Returns
    -------
    list of dict
        A row each: `step`, or several of them, `name`, `value` and `default`.
    """
    rows = []
    for step in run.stamps:
        usual = run.facts(step).usual
        for name, value in sorted(run.parameters(step).items()):
            if name not in (*PLACES, "name") and name in usual and value != usual[name]:
                rows.append({"step": step, "name": name, "value": value, "default": usual[name]})
    return of_several_steps(rows)


def versions(run: Run) -> dict[str, str]:
    """The packages that the steps were made with; several versions of one are told apart."""
    found: dict[str, set[str]] = {}
    for stamp in run.stamps.values():
        for name, version in stamp.get("versions", {}).items():
            found.setdefault(name, set()).add(str(version))
    return {name: " and ".join(sorted(found[name])) for name in sorted(found)}


def of_several_steps(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make one row of those that differ in their `step` alone; they stand where the first stood."""
    found: list[tuple[dict[str, Any], list[str]]] = []
    for row in rows:
        rest = {name: value for name, value in row.items() if name != "step"}
        steps = next((steps for before, steps in found if before == rest), None)
        if steps is None:
            found.append((rest, [row["step"]]))
        else:
            steps.append(row["step"])
    return [{"step": first_few(steps, STEPS)} | rest for rest, steps in found]


def rules_of(run: Run) -> dict[str, Any]:
    """How the contest's rules were kept, as the report's section `rules` says it.

    Returns
    -------
    dict
        `rules`, a row each: `rule`, `allowed`, `kept` (None where it is not known), `binds` and
        `evidence`; and `said`, what else the section says, by name. Empty without a section.
    """
    section = run.report.get(RULES)
    if not isinstance(section, Mapping):
        return {"rules": [], "said": {RULES: section}} if section else {}
    listed = section.get("rules")
    listed = listed if isinstance(listed, list) else []
    rows = [
        {
            "rule": each.get("rule", ""),
            "allowed": each.get("allowed"),
            "kept": each.get("kept"),
            "binds": each.get("binds", True),
            "evidence": each.get("evidence", ""),
        }
        for each in listed
    ]
    said = {name: value for name, value in section.items() if name != "rules" or not rows}
    return {"rules": rows, "said": {name: value for name, value in said.items() if value}}


def level_rows(run: Run) -> dict[str, float]:
    """Top-1 at each level of a hierarchy, by model or vote and level, as the report has it."""
    return {name: value for name, value in run.figures(LEVELS).items() if value is not None}


def submission_rows(run: Run) -> list[dict]:
    """The submissions of a run, oldest first, with `in_force` of the one that counts."""
    log = read_log(run.folder)
    rows = [{str(name): value for name, value in row.items()} for row in log.to_dict("records")]
    current = current_submission(run.folder)
    if not rows and current.is_file():
        rows = [dict.fromkeys(LOG_COLUMNS, "") | {"file": current.name}]
    for number, row in enumerate(rows):
        row["in_force"] = number == len(rows) - 1
        row["there"] = (run.folder / str(row["file"])).is_file()
    return rows


def decision_rows(run: Run) -> list[dict]:
    """What people decided, by journal: `journal`, `decisions` by kind, `people`, `disputed`."""
    rows = []
    for path in sorted((run.folder / "decisions").glob("*.csv")):
        journal = Journal(path)
        latest = journal.latest()
        counted = latest["decision"].value_counts()
        rows.append(
            {
                "journal": path.name,
                "decisions": {str(name): int(count) for name, count in counted.items()},
                "items": len(latest),
                "people": sorted(set(journal.read()["reviewer"]) - {""}),
                "disputed": int(journal.disagreements()["item"].nunique()),
            }
        )
    return rows


def ledger_tables(run: Run) -> list[tuple[str, list[str], list[list[Any]]]]:
    """The ledger by stage: the stage, its columns, and its rounds."""
    path = run.folder / "ledger.csv"
    if not path.is_file():
        return []
    ledger = pd.read_csv(path, dtype={"stage": str})
    found = []
    for stage, rows in ledger.groupby("stage", sort=True):
        rows = rows.drop(columns="stage").dropna(axis=1, how="all")
        found.append(
            (str(stage), list(rows), [_plain(row) for row in rows.itertuples(index=False)])
        )
    return found


def _plain(row: Sequence[Any]) -> list[Any]:
    """Values as they are read: whole numbers whole, missing ones empty."""
    return [plain(value) for value in row]


def plain(value: Any) -> Any:
    """One value as a page shows it: numbers short, lists and records in one line."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if value == round(value) and abs(value) < 1e9 else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(plain(each)) for each in value)
    return value
