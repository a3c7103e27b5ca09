"""Run a contest file: stage after stage through papermill, skipping what is done.

    python -m fgvc_utils.pipeline params/demo.yaml [--from STAGE] [--only STAGE] [--dry-run]
        [--accept-code]
    python -m fgvc_utils.pipeline params/demo.yaml --check

Before anything runs, the whole contest is checked: every name, type and range, the images and their
classes, networks and weights, what stages take from each other, room and memory (`checking`).

A step is done when its stamp says so: what it read, with which parameters and by which code, and
what it wrote. Where any of that is another, it runs again; one pipeline runs in a run's folder.
"""

import argparse
import ast
import reprlib
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml

from fgvc_utils import config, sources
from fgvc_utils.files import file_digest, read_json, remove_leftovers, write_json
from fgvc_utils.jobs import accept_job_code, result_of
from fgvc_utils.kernels import KernelDied, run_notebook
from fgvc_utils.listing import listing_digest
from fgvc_utils.locks import Held, only_one
from fgvc_utils.predictions import INDEX, is_whole
from fgvc_utils.reading import UnreadableFile, read_text
from fgvc_utils.submission import current_submission

NOTEBOOKS = config.PROJECT / "notebooks"
JOURNALS = {
    "01_noise": ["01_noise", "01_audit"],
    "02_coarse": ["02_coarse"],
    "03_fine": ["02_coarse", "03_fine"],
    "04_lowq": ["04_lowq"],
}
# Where a run lies and how its machine is used: neither changes what comes out. What lies below the
# data root is an input of its own.
WHEREABOUTS = {"run", "outputs", "data_root", "processes", "nodes", "node_rank", "rendezvous"}
WHEREABOUTS |= {"device", "threads", "workers", "decoded_gb"}
# So many changes are named, the rest is counted.
NAMED = 4


@dataclass(frozen=True)
class Step:
    """One notebook with its checked parameters; `name` is the executed copy's name."""

    stage: str
    name: str
    cfg: config.Shared

    @property
    def output(self) -> Path:
        """The executed notebook."""
        return self.cfg.folder / f"{self.name}.ipynb"

    @property
    def stamp(self) -> Path:
        """Written when the step is done: what it hung on."""
        return self.cfg.folder / "stages" / f"{self.name}.json"


class _UniqueKeys(yaml.SafeLoader):
    """A YAML loader that refuses a key that stands twice; YAML itself keeps the last one."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict:
    keys = [key.value for key, _ in node.value]
    for key in keys:
        if not isinstance(key, str):
            raise config.ParameterError(
                f"line {node.start_mark.line + 1}: a list or a mapping stands where a name must"
            )
        if keys.count(key) > 1:
            raise config.ParameterError(f"line {node.start_mark.line + 1}: {key!r} stands twice")
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> Any:
    """A YAML file as plain data; raises ParameterError naming the file where it is not valid."""
    try:
        return yaml.load(read_text(path), _UniqueKeys)
    except config.ParameterError as error:
        raise config.ParameterError(f"{path}, {error}") from None
    except UnreadableFile as error:
        raise config.ParameterError(str(error)) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        # Dates and numbers that are none, and brackets without end, raise what Python raises.
        hint = "; indent with spaces, not with tabs" if "'\\t'" in str(error) else ""
        raise config.ParameterError(f"{path} is not valid YAML: {error}{hint}") from None


def notebook_defaults(stage: str) -> dict[str, Any]:
    """The literals of a notebook's parameters cell, by name."""
    notebook = nbformat.read(NOTEBOOKS / f"{stage}.ipynb", as_version=4)
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    return {
        node.target.id: ast.literal_eval(node.value)
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.AnnAssign)
    }


def read_contest(path: Path) -> list[Step]:
    """Read and check a contest file; returns its steps in order.

    The file holds the values that all stages share, then a section a stage; a stage that runs
    several times holds a list of sections, each with its own `name`. A stage that is not named
    does not run.

    Raises ParameterError naming the file, the section and the parameter.
    """
    path = Path(path)
    if not path.is_file():
        raise config.ParameterError(f"{path} is not there; contest files lie in params/")
    contest = read_yaml(path)
    if not isinstance(contest, dict):
        raise config.ParameterError(f"{path} holds no parameters")
    shared = {key: value for key, value in contest.items() if key not in config.STAGES}
    known = {name for stage in config.STAGES for name in notebook_defaults(stage)}
    strangers = sorted(set(map(str, shared)) - known)
    if strangers:
        raise config.ParameterError(
            f"{path}: {strangers[0]!r} is neither a stage ({', '.join(config.STAGES)}) nor a "
            "parameter of any; check the spelling"
            f"{config.near_name(strangers[0], [*config.STAGES, *sorted(known)])}"
        )
    steps = []
    for stage in config.STAGES:
        if stage not in contest:
            continue
        sections = contest[stage] if isinstance(contest[stage], list) else [contest[stage] or {}]
        for section in sections:
            steps.append(_step(path, stage, section, shared, many=isinstance(contest[stage], list)))
    names = [step.name for step in steps]
    for name in names:
        if names.count(name) > 1:
            raise config.ParameterError(f"{path}: {name} stands twice; give each its own name")
    models = [step.cfg.name for step in steps if step.stage in ("10_train", "20_distill")]
    for name in models:
        if models.count(name) > 1:
            raise config.ParameterError(
                f"{path}: two models are called {name!r}; 10_train and 20_distill share models/"
            )
    if not steps:
        raise config.ParameterError(f"{path} names no stage")
    return steps


def _step(path: Path, stage: str, section: Any, shared: dict, *, many: bool) -> Step:
    if not isinstance(section, dict) or not all(isinstance(name, str) for name in section):
        shown = reprlib.repr(section)
        raise config.ParameterError(f"{path}: section {stage} is {shown}, not names with values")
    defaults = notebook_defaults(stage)
    given = {key: value for key, value in shared.items() if key in defaults}
    try:
        cfg = config.STAGES[stage](**(defaults | given | section))
    except config.ParameterError as error:
        which = f", {section['name']!r}" if many and "name" in section else ""
        raise config.ParameterError(f"{path}, section {stage}{which}: {error}") from None
    return Step(stage, f"{stage}-{cfg.name}" if many else stage, cfg)


def check(steps: list[Step]) -> list[str]:
    """What would stop the contest later, found now: one text a problem, none when all is well."""
    from fgvc_utils import checking

    return checking.check(steps).errors


def say_check(steps: list[Step]) -> list[str]:
    """Check the whole contest and print what was found; returns the problems."""
    from fgvc_utils import checking

    found = checking.check(steps)
    if found.errors:
        said = f"The contest cannot run: {len(found.errors)} to mend"
        print(f"{found.text()}\n{said}", file=sys.stderr, flush=True)
    else:
        print(f"{found.text()}\nNothing was found that would stop the contest", flush=True)
    return found.errors


def inputs_of(step: Step) -> dict[str, str]:
    """What a step's result hangs on beside its parameters and its code: digests by name."""
    folder, cfg = step.cfg.folder, step.cfg
    files = [cfg.journal(name) for name in JOURNALS.get(step.stage, [])]
    files += [cfg.table_path(table) for table in _tables_before(step)]
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
        root = config.data_root(cfg.data_root)
        digests |= _digests([root / cfg.prior], root)
    if step.stage == "01_noise":
        root = config.data_root(cfg.data_root)
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


def _tables_before(step: Step) -> list[str]:
    """The stages whose tables a step reads, each once; none for the first."""
    if step.stage == "01_noise":
        return []
    if step.stage in config.TABLE_BEFORE:
        return [config.TABLE_BEFORE[step.stage]]
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
    reasons = [f"changed: {_listed(names)}"] if names else []
    if code := sources.changed(done.get("code", {}), code_of(step.stage)):
        reasons.append(f"changed code: {_listed(code)}")
    if not reasons:
        written, there = done.get("results", {}), results_of(step)
        gone = sorted(written.keys() - there.keys())
        other = sources.changed(written, there)
        if gone:
            reasons.append(f"gone: {_listed(gone)}")
        elif other:
            reasons.append(f"written by something else since: {_listed(other)}")
    return "; ".join(reasons)


def _listed(names: list[str]) -> str:
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


def execute(step: Step) -> None:
    """Run one notebook; its executed copy and then its stamp are written.

    Raises papermill's PapermillExecutionError where a cell fails (the copy shows the cell) and
    kernels.KernelDied.
    """
    step.stamp.unlink(missing_ok=True)
    parameters = step.cfg.model_dump(mode="json")
    # Taken before the work: what changes meanwhile makes the step stale, and is not missed.
    stamp = {"parameters": parameters, "inputs": inputs_of(step), "code": code_of(step.stage)}
    run_notebook(NOTEBOOKS / f"{step.stage}.ipynb", step.output, parameters)
    stamp |= {"results": results_of(step), "versions": sources.versions()}
    write_json(stamp, step.stamp)


@dataclass(frozen=True)
class Planned:
    """What would become of a step: why it runs, empty where it is skipped.

    Not `sure` is a step that is done as things are now, and reads what another one writes anew: it
    runs unless that comes out as before.
    """

    step: Step
    reason: str
    sure: bool = True


def plan(steps: list[Step], first: str | None, only: str | None) -> list[Planned]:
    """What would become of each step, those after a change included.

    `only` runs that stage alone, `first` that stage and all after it, whether done or not.
    """
    _check_names(steps, first, only)
    planned: list[Planned] = []
    for step in steps:
        reason, sure = _reason(step, first, only), True
        anew = [p.step.name for p in planned if p.reason and _reads(step, p.step)]
        if not reason and anew and not only:
            reason, sure = f"it reads what {_listed(anew)} writes anew", False
        planned.append(Planned(step, reason, sure))
    return planned


def _reads(step: Step, earlier: Step) -> bool:
    """Whether a step reads what an earlier one writes."""
    cfg = step.cfg
    if earlier.stage in _tables_before(step):
        return True
    if earlier.stage == "01_noise":
        return step.stage != "40_submit"
    if earlier.stage == "30_ensemble":
        return step.stage == "40_submit"
    if step.stage == "20_distill":
        taught = earlier.stage == "10_train" if not cfg.teachers else True
        return taught and getattr(earlier.cfg, "name", "") in (cfg.teachers or [earlier.cfg.name])
    if step.stage == "30_ensemble" and earlier.stage in ("10_train", "20_distill"):
        return not cfg.models or earlier.cfg.name in cfg.models
    return False


def _check_names(steps: list[Step], first: str | None, only: str | None) -> None:
    stages = [step.stage for step in steps]
    for name in (first, only):
        if name and name not in stages:
            raise config.ParameterError(
                f"no stage {name!r} in this contest; it has {', '.join(dict.fromkeys(stages))}"
            )


def _reason(step: Step, first: str | None, only: str | None) -> str:
    if only:
        return "asked for" if step.stage == only else ""
    if first and step.stage >= first:
        return "asked for"
    return why(step)


def summary(steps: list[Step]) -> str:
    """The figures of the run's report in a few lines."""
    path = steps[0].cfg.report
    if not path.is_file():
        return ""
    lines = []
    for section, figures in read_json(path).items():
        shown = [
            f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
            for name, value in figures.items()
            if isinstance(value, int | float | str) and not isinstance(value, bool)
        ]
        lines.append(f"  {section}: {', '.join(shown)}")
    return "\n".join(lines)


def run(
    path: Path, first: str | None, only: str | None, dry: bool, accepts_code: bool = False
) -> int:
    """Run a contest file, or only say what would run; returns the exit code.

    With `accepts_code` what only its code makes stale is taken for done first; see `accept_code`.
    """
    steps = read_contest(path)
    _check_names(steps, first, only)
    # What comes after the one stage that runs may be mended later.
    problems = say_check([step for step in steps if not only or step.stage <= only])
    if not dry and problems:
        return 2
    if dry:
        print_plan(plan(steps, first, only))
        return 0
    folder = steps[0].cfg.folder
    what = f"another pipeline works on the run {folder.name!r} in {folder.parent}"
    advice = "wait for it, end it, or give this contest another `run`"
    with only_one(folder / ".pipeline.lock", what, advice):
        if left := remove_leftovers(folder):
            print(f"{len(left)} files that were cut off half-written are removed")
        for name in accept_code(steps) if accepts_code else ():
            print(f"{name}: done, with code that changed since")
        return _run_steps(steps, first, only)


def _run_steps(steps: list[Step], first: str | None, only: str | None) -> int:
    started = time.monotonic()
    for number, step in enumerate(steps, 1):
        # Asked only now: the steps before it may have changed what it reads.
        reason = _reason(step, first, only)
        head = f"[{number}/{len(steps)}] {step.name}"
        if not reason:
            other = other_versions(step)
            print(f"{head}: done before{f', with {other}' if other else ''}", flush=True)
            continue
        print(f"{head}: {reason}", flush=True)
        began = time.monotonic()
        execute(step)
        print(f"{head}: {_minutes(time.monotonic() - began)}", flush=True)
    print(f"finished in {_minutes(time.monotonic() - started)}: {steps[0].cfg.folder}")
    print(summary(steps))
    return 0


def print_plan(planned: list[Planned]) -> None:
    """Say what each step would do, why, and with which parameters beside the shared ones."""
    for step, reason, sure in ((p.step, p.reason, p.sure) for p in planned):
        what = "run" if sure else "may run"
        print(f"{step.name}: {f'{what}, {reason}' if reason else 'skip, done before'}")
        if not reason and (other := other_versions(step)):
            print(f"    it was made with {other}; --from {step.stage} makes it anew")
        own = step.cfg.model_dump(mode="json").items()
        print("   ", ", ".join(f"{k}={v!r}" for k, v in own if k not in config.Shared.model_fields))
        if hasattr(step.cfg, "global_batch"):
            cfg = step.cfg
            try:
                cut = config.accumulation(
                    cfg.global_batch, cfg.micro_batch, cfg.processes * cfg.nodes
                )
                print(
                    f"    a step of {cfg.global_batch} = {cut.processes} processes × "
                    f"{cut.micro_batch} images × {cut.steps} accumulated"
                )
            except config.ParameterError as error:
                print(f"    {error}")


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 0, 1 for a notebook that failed, 2 for bad input or a held run."""
    parser = argparse.ArgumentParser(prog="python -m fgvc_utils.pipeline", description=__doc__)
    parser.add_argument("contest", type=Path, help="the contest file, params/<contest>.yaml")
    parser.add_argument("--from", dest="first", help="run this stage and all after it anew")
    parser.add_argument("--only", help="run this stage alone, anew")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and why")
    parser.add_argument("--check", action="store_true", help="only look for what would stop it")
    parser.add_argument(
        "--accept-code",
        action="store_true",
        help="take what is done for done although the package's code changed since",
    )
    options = parser.parse_args(arguments)
    if options.first and options.only:
        parser.error("--from and --only exclude each other")
    # papermill's own imports warn of things that are theirs to mend.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    from papermill.exceptions import PapermillExecutionError

    try:
        if options.check:
            return 2 if say_check(read_contest(options.contest)) else 0
        return run(
            options.contest, options.first, options.only, options.dry_run, options.accept_code
        )
    except (config.ParameterError, Held) as error:
        print(error, file=sys.stderr)
        return 2
    except PapermillExecutionError as error:
        print(f"{error}\nThe executed notebook shows the cell that failed.", file=sys.stderr)
        return 1
    except KernelDied as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; call again to go on where it stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
