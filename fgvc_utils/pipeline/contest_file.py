"""A contest file: YAML with a section a stage, read and checked, as steps."""

import ast
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml

from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.parameters import ParameterError, near_name
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.core.reading import UnreadableFile, read_text
from fgvc_utils.pipeline.stages import STAGES

NOTEBOOKS = PROJECT / "notebooks"


@dataclass(frozen=True)
class Step:
    """One notebook with its checked parameters; `name` is the executed copy's name."""

    stage: str
    name: str
    cfg: Shared

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
            raise ParameterError(
                f"line {node.start_mark.line + 1}: a list or a mapping stands where a name must"
            )
        if keys.count(key) > 1:
            raise ParameterError(f"line {node.start_mark.line + 1}: {key!r} stands twice")
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> Any:
    """A YAML file as plain data; raises ParameterError naming the file where it is not valid."""
    try:
        return yaml.load(read_text(path), _UniqueKeys)
    except ParameterError as error:
        raise ParameterError(f"{path}, {error}") from None
    except UnreadableFile as error:
        raise ParameterError(str(error)) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        # Dates and numbers that are none, and brackets without end, raise what Python raises.
        hint = "; indent with spaces, not with tabs" if "'\\t'" in str(error) else ""
        raise ParameterError(f"{path} is not valid YAML: {error}{hint}") from None


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
        raise ParameterError(f"{path} is not there; contest files lie in params/")
    contest = read_yaml(path)
    if not isinstance(contest, dict):
        raise ParameterError(f"{path} holds no parameters")
    shared = {key: value for key, value in contest.items() if key not in STAGES}
    known = {name for stage in STAGES for name in notebook_defaults(stage)}
    strangers = sorted(set(map(str, shared)) - known)
    if strangers:
        raise ParameterError(
            f"{path}: {strangers[0]!r} is neither a stage ({', '.join(STAGES)}) nor a "
            "parameter of any; check the spelling"
            f"{near_name(strangers[0], [*STAGES, *sorted(known)])}"
        )
    steps = []
    for stage in STAGES:
        if stage not in contest:
            continue
        sections = contest[stage] if isinstance(contest[stage], list) else [contest[stage] or {}]
        for section in sections:
            steps.append(_step(path, stage, section, shared, many=isinstance(contest[stage], list)))
    names = [step.name for step in steps]
    for name in names:
        if names.count(name) > 1:
            raise ParameterError(f"{path}: {name} stands twice; give each its own name")
    models = [step.cfg.name for step in steps if step.stage in ("10_train", "20_distill")]
    for name in models:
        if models.count(name) > 1:
            raise ParameterError(
                f"{path}: two models are called {name!r}; 10_train and 20_distill share models/"
            )
    if not steps:
        raise ParameterError(f"{path} names no stage")
    return steps


def _step(path: Path, stage: str, section: Any, shared: dict, *, many: bool) -> Step:
    if not isinstance(section, dict) or not all(isinstance(name, str) for name in section):
        shown = reprlib.repr(section)
        raise ParameterError(f"{path}: section {stage} is {shown}, not names with values")
    defaults = notebook_defaults(stage)
    given = {key: value for key, value in shared.items() if key in defaults}
    try:
        cfg = STAGES[stage](**(defaults | given | section))
    except ParameterError as error:
        which = f", {section['name']!r}" if many and "name" in section else ""
        raise ParameterError(f"{path}, section {stage}{which}: {error}") from None
    return Step(stage, f"{stage}-{cfg.name}" if many else stage, cfg)
