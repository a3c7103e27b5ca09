"""When a step is done: its stamp says what it read, by which code, and what it wrote."""

from pathlib import Path
from typing import Any

from fgvc_utils.answers.submission import current_submission
from fgvc_utils.contest import machines
from fgvc_utils.contest.beside import files_folder
from fgvc_utils.contest.contest_file import RULES_BLOCK, notebook_defaults, parameters_cell
from fgvc_utils.contest.contest_rules import rules_digest
from fgvc_utils.contest.listing import listing_digest
from fgvc_utils.contest.listings import columns_of
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.contest.places import NOTEBOOKS, below_root, data_root
from fgvc_utils.contest.posteriors import ENDING
from fgvc_utils.core.files import file_digest, read_json, write_json
from fgvc_utils.core.naming import first_few
from fgvc_utils.core.reading import read_note
from fgvc_utils.jobs import sources
from fgvc_utils.jobs.done import accept_job_code, result_of
from fgvc_utils.jobs.predictions import INDEX, is_whole
from fgvc_utils.pipeline import seen_files
from fgvc_utils.pipeline.contest_file import Step
from fgvc_utils.pipeline.stages import STAGES, vote_folder
from fgvc_utils.training.refits import FOLDER as REFIT

# Where a run lies and how its machine is used: neither changes what comes out. What lies below the
# data root is an input of its own, and what a preset sets is among the parameters.
WHEREABOUTS = {"contest", "run", "outputs", "data_root", "decoded_gb", "preset"} | machines.NAMES

# The images that a stage lists, among what it reads.
IMAGES = "images"

# What a stamp must have, and what later versions of the kit added.
STAMPED, ADDED = ("parameters", "inputs"), ("code", "results", "versions")

# So many changes are named, the rest is counted.
NAMED = 4


def inputs_of(step: Step) -> dict[str, str]:
    """What a step's result depends on beside its parameters and its code: digests by name.

    Raises
    ------
    FileNotFoundError
        Where the contest's folder is not there.
    """
    stage, cfg = STAGES[step.stage], step.cfg
    folder = cfg.folder
    files = [cfg.journal(name) for name in stage.journals]
    files += [cfg.table_path(table) for table in stage.tables_read(cfg)]
    files += [cfg.table_path(judged + ENDING) for judged in stage.posteriors_read(cfg)]
    if stage.reads_pictures:
        # Which pictures the cache holds of the images, and of what size.
        files.append(cfg.table_path("inventory"))
    if stage.vote_parameter:
        files.append(vote_folder(folder, getattr(cfg, stage.vote_parameter)) / INDEX)
    digests = _digests(files, folder)
    if stage.model_parameters:
        models = _models(folder, stage.models_named(cfg), students=stage.takes_students)
        for model in models:
            # Refits answer in a vote; they teach nobody.
            refitted = _model_digests(model) if stage.makes == "vote" else {}
            digests |= {f"models/{model.name}": result_of(model)} | refitted
    if start := stage.start_named(cfg):
        digests[f"models/{start}"] = result_of(folder / "models" / start)
    if stage.makes == "submission" and (rules := rules_digest(cfg.contest)):
        # It says how the run kept them.
        digests[RULES_BLOCK] = rules
    # Where the images are elsewhere, the run's own copies stand for the contest's files.
    if stage.files_named(cfg) and (root := files_folder(cfg)):
        digests |= _digests([root / below_root(root, n) for n in stage.files_named(cfg)], root)
    if stage.lists_images:
        root = data_root(cfg.data_root)
        sides = [side for side in (cfg.train, cfg.test) if side]
        # Beside the images it says what classes are called.
        digests |= _digests(
            [root / below_root(root, side) for side in sides if side.endswith(".json")], root
        )
        digests[IMAGES] = listing_digest(root, sides, columns_of(cfg))
    return digests


def results_of(step: Step) -> dict[str, str]:
    """What a step leaves for the others and is there: digests by name."""
    stage, folder, cfg = STAGES[step.stage], step.cfg.folder, step.cfg
    files: list[Path] = []
    if stage.makes == "model":
        return _model_digests(folder / "models" / cfg.name)
    if stage.makes == "table":
        files = [cfg.table_path(step.stage)]
        files += [cfg.table_path("inventory")] if stage.lists_images else []
    elif stage.makes == "vote":
        files = [vote_folder(folder) / INDEX] if is_whole(vote_folder(folder)) else []
    else:
        files = [current_submission(folder)]
    return _digests(files, folder)


def _models(folder: Path, named: list[str], *, students: bool) -> list[Path]:
    """The finished models of a run: the named ones, or all, with or without students.

    Students teach only where they are named, so one that is done makes no other one stale.
    """
    found = sorted(done.parent for done in (folder / "models").glob("*/done.json"))
    if named:
        return [model for model in found if model.name in named]
    return [m for m in found if students or not read_json(m / "job.json")["teachers"]]


def _model_digests(model: Path) -> dict[str, str]:
    """Digests of what a model and its refit left, by name; of those that are whole."""
    found = {f"models/{model.name}": result_of(model)}
    found[f"models/{model.name}/{REFIT}"] = result_of(model / REFIT)
    return {name: digest for name, digest in found.items() if digest}


def _digests(files: list[Path], folder: Path) -> dict[str, str]:
    """Digests of those files that are there, by their names below the folder."""
    there = [file for file in files if file.is_file()]
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in there}


def code_of(stage: str) -> dict[str, str]:
    """What of a notebook's cells and of the package a stage's results depend on: digests by name.

    The parameters cell is not among it: the values that were taken are beside it. Nor is what
    only shows; see `jobs.sources`.
    """
    notebook = read_json(NOTEBOOKS / f"{stage}.ipynb")
    parameters = parameters_cell(notebook)
    cells = [
        "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and cell is not parameters
    ]
    return sources.reached_from("\n".join(cells))


def read_stamp(step: Step) -> tuple[dict[str, Any], str]:
    """What a step's stamp says, and what is wrong with it.

    Returns
    -------
    stamp : dict
        Empty where something is wrong.
    wrong : str
        Why the step does not count as done, in words; empty where the stamp can be relied on.
    """
    file = f"its stamp {step.stamp.parent.name}/{step.stamp.name}"
    if not step.stamp.is_file():
        return {}, "not done yet"
    stamp, wrong = read_note(step.stamp, STAMPED, (*STAMPED, *ADDED))
    return ({}, f"{file} {wrong}") if wrong else (stamp, "")


def why(step: Step) -> str:
    """Why a step has to run, or an empty text where it is done."""
    done, wrong = read_stamp(step)
    if wrong:
        return wrong
    names = changed_parameters(step, done["parameters"])
    names += changed_inputs(step, done["inputs"])
    reasons = [f"changed: {first_few(names, NAMED)}"] if names else []
    if code := sources.changed(done.get("code", {}), code_of(step.stage)):
        reasons.append(f"changed code: {first_few(code, NAMED)}")
    if not reasons:
        written, there = done.get("results", {}), results_of(step)
        gone = sorted(written.keys() - there.keys())
        other = sources.changed(written, there)
        # A submission's name is its own; all else that a step makes keeps its name.
        instead = sorted(there.keys() - written.keys())
        if gone and instead:
            reasons.append(f"{instead[0]} is in force instead of {gone[0]}")
        elif gone:
            reasons.append(f"gone: {first_few(gone, NAMED)}")
        elif other:
            reasons.append(f"written by something else since: {first_few(other, NAMED)}")
    return "; ".join(reasons)


def changed_inputs(step: Step, before: dict[str, str]) -> list[str]:
    """What a step reads that is other than a stamp says; of its images, what came of them."""
    names = sources.changed(before, inputs_of(step))
    found = seen_files.changes(step) if STAGES[step.stage].lists_images else None
    if found is None:
        return names
    # By content: files may have been copied, or touched, since.
    others = [name for name in names if name != IMAGES]
    return others + ([f"{IMAGES} ({'; '.join(found.texts())})"] if found.texts() else [])


def changed_parameters(step: Step, before: dict[str, Any]) -> list[str]:
    """The parameters that are other than a stamp says, in the record's order.

    One that the stamp does not know, or a field within one, came later: it was as the notebook's
    default is, which leaves results as they were. One that the stage no longer has does not count.
    """
    record, now = STAGES[step.stage].parameters, step.cfg.model_dump(mode="json")
    usual = notebook_defaults(step.stage)
    known = {name: value for name, value in before.items() if name in record.model_fields}
    try:
        # Through the record, so that fields within parameters take their defaults too.
        then = record(**(usual | known)).model_dump(mode="json")
    except ParameterError:
        then = record(**usual).model_dump(mode="json") | known
    return [name for name in now if name not in WHEREABOUTS and then[name] != now[name]]


def other_versions(step: Step) -> str:
    """Which packages a done step was made with that are here in another version, or empty."""
    made = read_stamp(step)[0].get("versions", {})
    now = sources.versions()
    return ", ".join(f"{name} {made[name]}" for name in made if made[name] != now.get(name))


def accept_code(steps: list[Step]) -> list[str]:
    """Take jobs and steps for done that only their code makes stale; returns their names.

    For whoever knows that a change of code leaves the results as they are.
    """
    accepted = accept_job_code(steps[0].cfg.folder)
    for step in steps:
        stamp, wrong = read_stamp(step)
        if not wrong and sources.changed(stamp.get("code", {}), code_of(step.stage)):
            write_json(stamp | {"code": code_of(step.stage)}, step.stamp)
            accepted.append(step.name)
    return accepted
