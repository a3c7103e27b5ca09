"""A contest file: YAML with values that all stages share and a section a stage.

Counts in no digest.
"""

import ast
import copy
import functools
import os
import re
import reprlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fgvc_utils.contest import machines
from fgvc_utils.contest.parameters import ParameterError, near_name
from fgvc_utils.contest.places import NOTEBOOKS, PROJECT, expanded
from fgvc_utils.core.files import read_json
from fgvc_utils.core.reading import UnreadableFile, read_text

# The name of the block of the contest's own rules.
RULES_BLOCK = "rules"


class _UniqueKeys(yaml.SafeLoader):
    """A YAML loader that refuses a key that appears twice; YAML itself keeps the last one."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict:
    seen: set[str] = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key.value, str):
            raise ParameterError(f"line {line}: a list or a mapping where a name must be")
        if key.value in seen:
            raise ParameterError(f"line {line}: {key.value!r} appears twice")
        seen.add(key.value)
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


# Numbers that mean the same to everybody.
PLAIN_NUMBER = re.compile(
    r"[-+]?(0|[1-9][0-9]*)|[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
    re.IGNORECASE,
)


def _plain_number(loader: _UniqueKeys, node: yaml.ScalarNode) -> int | float:
    """A number; YAML 1.1 reads 010 as 8, 0x1F as 31, 1_000 as 1000 and 12:30:00 as 45000."""
    whole = node.tag == "tag:yaml.org,2002:int"
    value = loader.construct_yaml_int(node) if whole else loader.construct_yaml_float(node)
    if not PLAIN_NUMBER.fullmatch(node.value):
        raise ParameterError(
            f"line {node.start_mark.line + 1}: YAML reads {node.value} as the number {value}; "
            f"write a number in plain decimal digits, or '{node.value}' in quotes where it is text"
        )
    return value


def _no_date(loader: _UniqueKeys, node: yaml.ScalarNode) -> None:
    raise ParameterError(
        f"line {node.start_mark.line + 1}: YAML reads {node.value} as a date, which no parameter "
        f"is; write '{node.value}' in quotes where it is text"
    )


_UniqueKeys.add_constructor("tag:yaml.org,2002:int", _plain_number)
_UniqueKeys.add_constructor("tag:yaml.org,2002:float", _plain_number)
_UniqueKeys.add_constructor("tag:yaml.org,2002:timestamp", _no_date)
_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> Any:
    """A YAML file as plain data.

    Raises
    ------
    ParameterError
        Naming the file, where it is not valid YAML, a key appears twice, or a number or a date is
        written so that YAML reads something else.
    """
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


def stage_names() -> list[str]:
    """The names of all stages in their order: those of the notebooks."""
    return sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def parameters_cell(notebook: dict[str, Any]) -> dict[str, Any]:
    """The cell of a notebook, as its file has it, that papermill knows as `parameters`."""
    return next(c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", []))


def notebook_defaults(stage: str) -> dict[str, Any]:
    """The values in the parameters cell of a stage's notebook, by name.

    Parameters whose default is in their record, such as those of the hardware in `machines`,
    are not among them.
    """
    path = NOTEBOOKS / f"{stage}.ipynb"
    return copy.deepcopy(_parameters_cell(path, path.stat().st_mtime_ns))


@functools.lru_cache(maxsize=64)
def _parameters_cell(path: Path, changed: int) -> dict[str, Any]:
    source = "".join(parameters_cell(read_json(path))["source"])
    return {
        node.target.id: ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign)
    }


def find_contest(contest: str) -> Path | None:
    """The contest file that a notebook's `contest` names, None where it is empty.

    A notebook's working folder depends on who runs it, so a relative path lies in the project.

    Raises
    ------
    ParameterError
        Where there is no such file.
    """
    if not contest:
        return None
    try:
        path = expanded(contest, PROJECT)
    except ValueError as error:
        raise ParameterError(f"contest: {error}") from None
    if not os.path.isfile(path):
        raise ParameterError(
            f"contest = {contest!r}: {path} is not there; contest files lie in params/, a relative "
            'path lies in the project, and contest = "" takes no file'
        )
    return path


def shown_path(path: Path) -> str:
    """A contest file as a notebook's `contest` names it: relative where it lies in the project."""
    path = expanded(str(path)).absolute()
    return str(path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path)


@dataclass(frozen=True)
class ContestFile:
    """What a contest file holds: values that all stages share, and sections by stage."""

    path: Path
    shared: dict[str, Any]
    sections: dict[str, list[dict[str, Any]]]
    # Stages whose sections are in a list.
    listed: frozenset[str]
    # The block of the contest's own rules as it is written; see `contest_rules`.
    rules: Any = None

    def section(self, stage: str, name: str | None = None) -> dict[str, Any]:
        """The section of a stage, empty where it has none.

        Of several the one called `name` is taken, without a name the first one. Where no section
        is called so, none is taken.
        """
        named = self._named(stage)
        if name is not None and "name" in notebook_defaults(stage):
            named = [(own, section) for own, section in named if own == name]
        return named[0][1] if named else {}

    def where(self, stage: str, name: str | None = None) -> str:
        """Which section a notebook's parameters come from, in words; see `section`."""
        names = [own for own, _ in self._named(stage)]
        if not names:
            return f"no section {stage}: its shared values and the notebook's defaults"
        if "name" not in notebook_defaults(stage):
            return f"section {stage}"
        shown = ", ".join(map(str, names))
        if name is not None and name not in names:
            return (
                f"no section of {stage} is named {name!r} (there are {shown}): a "
                "further model, by its shared values and the notebook's defaults"
            )
        if name is not None:
            return f"section {stage} {name!r}"
        return f"section {stage} {names[0]!r}" + (f", the first of {shown}" if names[1:] else "")

    def step_names(self) -> list[str]:
        """What the steps of the contest are called, in order: by stage, and by name if several."""
        return [
            f"{stage}-{name}" if stage in self.listed else stage
            for stage in self.sections
            for name, _ in self._named(stage)
        ]

    def names(self, stage: str) -> list[str]:
        """What the sections of a stage that runs several times are called, in order."""
        return [str(name) for name, _ in self._named(stage)]

    def _named(self, stage: str) -> list[tuple[Any, dict[str, Any]]]:
        """The sections of a stage, each with its name: the notebook's where it gives none."""
        usual = notebook_defaults(stage).get("name")
        return [(section.get("name", usual), section) for section in self.sections.get(stage, [])]

    def values(self, section: dict[str, Any], fields: Collection[str]) -> dict[str, Any]:
        """A section's values, before them those shared values that are among `fields`."""
        return {name: value for name, value in self.shared.items() if name in fields} | section


def read_contest_file(path: Path) -> ContestFile:
    """Read a contest file and check its form and its names.

    Raises
    ------
    ParameterError
        Naming the file and what is wrong with it: no file, no YAML, an unknown name, a section
        that holds no names with values.
    """
    try:
        path = expanded(str(path))
    except ValueError as error:
        raise ParameterError(f"the contest file: {error}") from None
    if not path.is_file():
        raise ParameterError(f"{path} is not there; contest files lie in params/")
    contest = read_yaml(path)
    if not isinstance(contest, dict):
        raise ParameterError(f"{path} holds no parameters")
    stages = stage_names()
    rules = contest.pop(RULES_BLOCK, None)
    shared = {key: value for key, value in contest.items() if key not in stages}
    known = {name for stage in stages for name in notebook_defaults(stage)} | machines.NAMES
    strangers = sorted(set(map(str, shared)) - (known - {"contest"}))
    if strangers:
        raise ParameterError(
            f"{path}: {strangers[0]!r} is neither a stage ({', '.join(stages)}) nor a "
            "parameter of any; check the spelling"
            f"{near_name(strangers[0], [*stages, RULES_BLOCK, *sorted(known)])}"
        )
    sections, listed = {}, set()
    for stage in stages:
        if stage not in contest:
            continue
        given = contest[stage]
        if isinstance(given, list):
            listed.add(stage)
            if "name" not in notebook_defaults(stage):
                raise ParameterError(
                    f"{path}: {stage} runs once, so its section is names with values, no list"
                )
        sections[stage] = given if isinstance(given, list) else [given or {}]
        for section in sections[stage]:
            if not isinstance(section, dict) or not all(isinstance(n, str) for n in section):
                raise ParameterError(
                    f"{path}: section {stage} is {reprlib.repr(section)}, not names with values"
                )
            if "contest" in section:
                raise ParameterError(f"{path}, section {stage}: a contest file names no contest")
    return ContestFile(path, shared, sections, frozenset(listed), rules)
