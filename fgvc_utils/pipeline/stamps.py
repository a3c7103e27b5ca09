"""When a step is done: its stamp says what it read, by which code, and what it wrote."""

from pathlib import Path

import nbformat

from fgvc_utils.answers.submission import current_submission
from fgvc_utils.contest import machines
from fgvc_utils.contest.listing import listing_digest
from fgvc_utils.contest.places import NOTEBOOKS, data_root
from fgvc_utils.core.files import file_digest, read_json, write_json
from fgvc_utils.jobs import sources
from fgvc_utils.jobs.done import accept_job_code, result_of
from fgvc_utils.jobs.predictions import INDEX, is_whole
from fgvc_utils.pipeline.contest_file import Step
from fgvc_utils.pipeline.stages import TABLE_BEFORE

JOURNALS = {
    "01_noise": ["01_noise", "01_audit"],
    "02_coarse": ["02_coarse"],
    "03_fine": ["02_coarse", "03_fine"],
    "04_lowq": ["04_lowq"],
}


# Where a run lies and how its machine is used: neither changes what comes out. What lies below the
# data root is an input of its own.
WHEREABOUTS = {"contest", "run", "outputs", "data_root", "decoded_gb"} | machines.NAMES


# So many changes are named, the rest is counted.
NAMED = 4


def inputs_of(step: Step) -> dict[str, str]:
    """What a step's result hangs on beside its parameters and its code: digests by name."""
    folder, cfg = step.cfg.folder, step.cfg
    files = [cfg.journal(name) for name in JOURNALS.get(step.stage, [])]
    files += [cfg.table_path(table) for table in tables_before(step)]
    if step.stage not in ("01_noise", "40_submit"):
        # Which pictures the cache holds of the images, and of what size.
        files.append(cfg.table_path("inventory"))
    models: list[Path] = []
    if step.stage == "20_distill":
        models = _models(folder, cfg.teachers, students=False)
    if step.stage == "30_ensemble":
        models = _models(folder, cfg.models, students=True)
    if step.stage == "40_submit":
        files.append(folder / "ensemble" / cfg.ensemble / INDEX)
    digests = _digests(files, folder) | {f"models/{m.name}": result_of(m) for m in models}
    if step.stage == "40_submit" and cfg.prior:
        root = data_root(cfg.data_root)
        digests |= _digests([root / cfg.prior], root)
    if step.stage == "01_noise":
        root = data_root(cfg.data_root)
        digests["images"] = listing_digest(root, [side for side in (cfg.train, cfg.test) if side])
    return digests


def results_of(step: Step) -> dict[str, str]:
    """What a step leaves for the others and is there: digests by name."""
    folder, cfg = step.cfg.folder, step.cfg
    if step.stage in JOURNALS:
        files = [cfg.table_path(step.stage)]
        files += [cfg.table_path("inventory")] if step.stage == "01_noise" else []
    elif step.stage == "30_ensemble":
        vote = folder / "ensemble" / "vote"
        files = [vote / INDEX] if is_whole(vote) else []
    elif step.stage == "40_submit":
        files = [current_submission(folder)]
    else:
        model = result_of(folder / "models" / cfg.name)
        return {f"models/{cfg.name}": model} if model else {}
    return _digests(files, folder)


def tables_before(step: Step) -> list[str]:
    """The stages whose tables a step reads, each once; none for the first."""
    if step.stage == "01_noise":
        return []
    if step.stage in TABLE_BEFORE:
        return [TABLE_BEFORE[step.stage]]
    return list(dict.fromkeys([step.cfg.table, getattr(step.cfg, "fold_table", step.cfg.table)]))


def _models(folder: Path, named: list[str], *, students: bool) -> list[Path]:
    """The finished models of a run: the named ones, or all, with or without those that were taught.

    Students teach only where they are named, so one that is done makes no other one stale.
    """
    found = sorted(done.parent for done in (folder / "models").glob("*/done.json"))
    if named:
        return [model for model in found if model.name in named]
    return [m for m in found if students or not read_json(m / "job.json")["teachers"]]


def _digests(files: list[Path], folder: Path) -> dict[str, str]:
    """Digests of those files that are there, by their names below the folder."""
    there = [file for file in files if file.is_file()]
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in there}


def code_of(stage: str) -> dict[str, str]:
    """What of a notebook's cells and of the package a stage's results hang on: digests by name.

    The parameters cell is not among it: the values that were taken stand beside it.
    """
    notebook = nbformat.read(NOTEBOOKS / f"{stage}.ipynb", as_version=4)
    cells = [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
    ]
    return sources.reached_from("\n".join(cells))


def why(step: Step) -> str:
    """Why a step has to run, or an empty text where it is done."""
    if not step.stamp.is_file():
        return "not done yet"
    done = read_json(step.stamp)
    now = step.cfg.model_dump(mode="json")
    before = done["parameters"]
    names = [n for n in now if n not in WHEREABOUTS and before.get(n) != now[n]]
    names += sources.changed(done["inputs"], inputs_of(step))
    reasons = [f"changed: {some_of(names)}"] if names else []
    if code := sources.changed(done.get("code", {}), code_of(step.stage)):
        reasons.append(f"changed code: {some_of(code)}")
    if not reasons:
        written, there = done.get("results", {}), results_of(step)
        gone = sorted(written.keys() - there.keys())
        other = sources.changed(written, there)
        if gone:
            reasons.append(f"gone: {some_of(gone)}")
        elif other:
            reasons.append(f"written by something else since: {some_of(other)}")
    return "; ".join(reasons)


def some_of(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def other_versions(step: Step) -> str:
    """Which packages a done step was made with that are here in another version, or empty."""
    made = read_json(step.stamp).get("versions", {}) if step.stamp.is_file() else {}
    now = sources.versions()
    return ", ".join(f"{name} {made[name]}" for name in made if made[name] != now.get(name))


def accept_code(steps: list[Step]) -> list[str]:
    """Take jobs and steps for done that only their code makes stale; returns their names.

    For whoever knows that a change of code leaves the results as they are.
    """
    accepted = accept_job_code(steps[0].cfg.folder)
    for step in steps:
        if step.stamp.is_file():
            stamp = read_json(step.stamp)
            if sources.changed(stamp.get("code", {}), code_of(step.stage)):
                write_json(stamp | {"code": code_of(step.stage)}, step.stamp)
                accepted.append(step.name)
    return accepted
