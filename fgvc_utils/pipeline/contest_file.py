"""A contest file as steps: each a notebook with its checked parameters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgvc_utils.contest.config import Shared, from_file
from fgvc_utils.contest.contest_file import find_contest, notebook_defaults, read_contest_file
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.contest.presets import preset_values
from fgvc_utils.pipeline.stages import STAGES, making


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
        """Written when the step is done: what it depends on."""
        return self.cfg.stamp(self.name)


def read_contest(path: Path) -> list[Step]:
    """Read and check a contest file; returns its steps in order.

    The file holds the values that all stages share, then a section a stage; a stage that runs
    several times holds a list of sections, each with its own `name`. A stage that is not named
    does not run.

    Raises
    ------
    ParameterError
        Naming the file, the section and the parameter.
    """
    file = read_contest_file(path)
    steps = []
    for stage, sections in file.sections.items():
        for section in sections:
            cfg = from_file(STAGES[stage].parameters, file, stage, section)
            name = f"{stage}-{cfg.name}" if stage in file.listed else stage
            steps.append(Step(stage, name, cfg))
    names = [step.name for step in steps]
    for name in names:
        if names.count(name) > 1:
            raise ParameterError(f"{path}: {name} appears twice; give each its own name")
    models = [step.cfg.name for step in steps if step.stage in making("model")]
    for name in models:
        if models.count(name) > 1:
            raise ParameterError(
                f"{path}: two models are called {name!r}; "
                f"{' and '.join(making('model'))} share models/"
            )
    if not steps:
        raise ParameterError(f"{path} names no stage")
    return steps


def injected(step: Step) -> dict[str, Any]:
    """The parameters that papermill sets so that the notebook's record is the step's.

    Returns
    -------
    dict
        Plain data by name: the contest file, the name that chooses a section, what differs from
        the notebook's default, and what neither the file nor a default gives.
    """
    record, own = STAGES[step.stage].parameters, step.cfg.model_dump(mode="json")
    defaults = notebook_defaults(step.stage)
    usual = record(**defaults).model_dump(mode="json")
    # Values of the step's own preset are found again where the notebook takes that preset.
    named = {name: own[name] for name in ("preset",) if name in own}
    there = usual | preset_values(own.get("preset"), record.model_fields)
    given: dict[str, Any] = {}
    if path := find_contest(step.cfg.contest):
        file = read_contest_file(path)
        section = file.section(step.stage, own.get("name"))
        given = file.values(section, record.model_fields)
        there = from_file(record, file, step.stage, section | named).model_dump(mode="json")
    there |= {name: given.get(name, usual[name]) for name in named}
    return {
        name: value
        for name, value in own.items()
        if name in ("contest", "name")
        or value != there[name]
        or (name in defaults and value != usual[name])
    }
