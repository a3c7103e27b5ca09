"""Run a contest file: stage after stage through papermill, skipping what is done.

    python -m fgvc_utils.pipeline params/demo.yaml [--from STAGE] [--only STAGE] [--dry-run]
    python -m fgvc_utils.pipeline params/demo.yaml --check

Before anything runs, the whole contest is checked: every name, type and range, the images and their
classes, networks and weights, what stages take from each other, room and memory (`checking`).
"""

import argparse
import ast
import hashlib
import json
import reprlib
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml

from fgvc_utils import config
from fgvc_utils.files import file_digest, read_json, write_json
from fgvc_utils.listing import listing_digest
from fgvc_utils.reading import UnreadableFile, read_text

NOTEBOOKS = config.PROJECT / "notebooks"
# Which stages' results a stage reads, by the table or folder they leave.
TABLE_BEFORE = {"02_coarse": "01_noise", "03_fine": "02_coarse", "04_lowq": "03_fine"}
JOURNALS = {
    "01_noise": ["01_noise", "01_audit"],
    "02_coarse": ["02_coarse"],
    "03_fine": ["02_coarse", "03_fine"],
    "04_lowq": ["04_lowq"],
}


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
        raise config.ParameterError(f"{path}, section {stage}: {error}") from None
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
        print(found.text(), flush=True)
    return found.errors


def inputs_of(step: Step) -> dict[str, str]:
    """What a step's result hangs on beside its parameters: digests by name."""
    folder, cfg = step.cfg.folder, step.cfg
    files = [NOTEBOOKS / f"{step.stage}.ipynb"]
    files += [cfg.journal(name) for name in JOURNALS.get(step.stage, [])]
    if step.stage in TABLE_BEFORE:
        files.append(cfg.table_path(TABLE_BEFORE[step.stage]))
    elif step.stage != "01_noise":
        files.append(cfg.table_path(cfg.table))
        if step.stage in ("10_train", "20_distill"):
            files.append(cfg.table_path(cfg.fold_table))
    if step.stage == "20_distill":
        files += [model / "done.json" for model in _models(folder, cfg.teachers, students=False)]
    if step.stage == "30_ensemble":
        files += [model / "done.json" for model in _models(folder, cfg.models, students=True)]
    if step.stage == "40_submit":
        files.append(folder / "stages" / "30_ensemble.json")
        files += [config.data_root(cfg.data_root) / cfg.prior] if cfg.prior else []
    digests = {_short(file): _digest(file) for file in files if file.is_file()}
    if step.stage == "01_noise":
        root = config.data_root(cfg.data_root)
        digests["images"] = listing_digest(root, [side for side in (cfg.train, cfg.test) if side])
    return digests


def _models(folder: Path, named: list[str], *, students: bool) -> list[Path]:
    """The finished models of a run: the named ones, or all, with or without those that were taught.

    Students teach only where they are named, so one that is done makes no other one stale.
    """
    found = sorted(done.parent for done in (folder / "models").glob("*/done.json"))
    if named:
        return [model for model in found if model.name in named]
    return [m for m in found if students or not read_json(m / "job.json")["teachers"]]


def _digest(file: Path) -> str:
    if file.suffix != ".ipynb":
        return file_digest(file)
    # What a person saw or ran in JupyterLab does not change what the notebook does.
    cells = nbformat.read(file, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def _short(file: Path) -> str:
    return "/".join(file.parts[-2:])


def why(step: Step) -> str:
    """Why a step has to run, or an empty text where it is done."""
    if not step.stamp.is_file():
        return "not done yet"
    done = read_json(step.stamp)
    now = step.cfg.model_dump(mode="json")
    changed = [name for name in now if done["parameters"].get(name) != now[name]]
    # How the machine is used does not change the result.
    changed = [
        name for name in changed if name not in ("threads", "workers", "outputs", "decoded_gb")
    ]
    if changed:
        return f"changed: {', '.join(changed)}"
    inputs = inputs_of(step)
    other = [
        n for n in inputs.keys() | done["inputs"].keys() if inputs.get(n) != done["inputs"].get(n)
    ]
    return f"changed: {', '.join(sorted(other))}" if other else ""


def execute(step: Step) -> None:
    """Run one notebook; its executed copy and then its stamp are written.

    Raises papermill's PapermillExecutionError where a cell fails; the copy shows the cell.
    """
    import papermill

    step.output.parent.mkdir(parents=True, exist_ok=True)
    step.stamp.unlink(missing_ok=True)
    inputs = inputs_of(step)
    papermill.execute_notebook(
        NOTEBOOKS / f"{step.stage}.ipynb",
        step.output,
        parameters=step.cfg.model_dump(mode="json"),
        cwd=NOTEBOOKS,
        kernel_name="python3",
        progress_bar=False,
        log_output=False,
        stdout_file=sys.stdout,
        stderr_file=sys.stderr,
        store_widget_state=False,
    )
    write_json({"parameters": step.cfg.model_dump(mode="json"), "inputs": inputs}, step.stamp)


def choose(steps: list[Step], first: str | None, only: str | None) -> list[tuple[Step, str]]:
    """The steps with the reason to run each, empty where it is skipped.

    `only` runs that stage alone, `first` that stage and all after it, whether done or not.
    """
    _check_names(steps, first, only)
    return [(step, _reason(step, first, only)) for step in steps]


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


def run(path: Path, first: str | None, only: str | None, dry: bool) -> int:
    """Run a contest file, or only say what would run; returns the exit code."""
    steps = read_contest(path)
    problems = say_check(steps)
    if not dry and problems:
        return 2
    if dry:
        print_plan(choose(steps, first, only))
        return 0
    _check_names(steps, first, only)
    started = time.monotonic()
    for number, step in enumerate(steps, 1):
        # Asked only now: the steps before it may have changed what it reads.
        reason = _reason(step, first, only)
        head = f"[{number}/{len(steps)}] {step.name}"
        if not reason:
            print(f"{head}: done before", flush=True)
            continue
        print(f"{head}: {reason}", flush=True)
        began = time.monotonic()
        execute(step)
        print(f"{head}: {_minutes(time.monotonic() - began)}", flush=True)
    print(f"finished in {_minutes(time.monotonic() - started)}: {steps[0].cfg.folder}")
    print(summary(steps))
    return 0


def print_plan(chosen: list[tuple[Step, str]]) -> None:
    """Say what each step would do, why, and with which parameters beside the shared ones."""
    for step, reason in chosen:
        print(f"{step.name}: {'run, ' + reason if reason else 'skip, done before'}")
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
    """The command line; returns 0, or 2 for bad input and 1 for a notebook that failed."""
    parser = argparse.ArgumentParser(prog="python -m fgvc_utils.pipeline", description=__doc__)
    parser.add_argument("contest", type=Path, help="the contest file, params/<contest>.yaml")
    parser.add_argument("--from", dest="first", help="run this stage and all after it anew")
    parser.add_argument("--only", help="run this stage alone, anew")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and why")
    parser.add_argument("--check", action="store_true", help="only look for what would stop it")
    options = parser.parse_args(arguments)
    if options.first and options.only:
        parser.error("--from and --only exclude each other")
    # papermill's own imports warn of things that are theirs to mend.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    from papermill.exceptions import PapermillExecutionError

    try:
        if options.check:
            return 2 if say_check(read_contest(options.contest)) else 0
        return run(options.contest, options.first, options.only, options.dry_run)
    except config.ParameterError as error:
        print(error, file=sys.stderr)
        return 2
    except PapermillExecutionError as error:
        print(f"{error}\nThe executed notebook shows the cell that failed.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; call again to go on where it stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
