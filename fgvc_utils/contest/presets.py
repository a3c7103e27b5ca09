"""Presets: recipes with a name, which a contest file or a notebook takes by `preset`.

Each is a file of names with values in `params/presets/`; whoever takes one may differ from it. What
is set in a notebook's cell or by papermill beats the contest file, which beats the preset, which
beats the notebook's default.

Counts in no digest.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from fgvc_utils.contest.contest_file import notebook_defaults, read_yaml, shown_path, stage_names
from fgvc_utils.contest.parameters import ParameterError, near_name
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.core.project import SHIPPED

PRESETS = PROJECT / "params" / "presets"
# Those that came with the kit; one of the project's own goes before one of the same name here.
SHIPPED_PRESETS = SHIPPED / "params" / "presets"
# A preset is a recipe for any data: not what a run or a model is called, nor where it lies.
NO_RECIPE = {"contest", "run", "name", "seed", "data_root", "outputs", "preset"}


def preset_names() -> list[str]:
    """The presets that are there."""
    return sorted(preset_files())


def preset_files(kind: str = "") -> dict[str, Path]:
    """The file of each preset, by its name.

    Parameters
    ----------
    kind : str
        The folder below the presets; empty for recipes.
    """
    homes = (SHIPPED_PRESETS / kind, PRESETS / kind)
    return {path.stem: path for home in homes for path in home.glob("*.yaml")}


def preset_values(name: Any, fields: Collection[str]) -> dict[str, Any]:
    """The values of a preset that are among `fields`, by name.

    Parameters
    ----------
    name : str
        Of the preset; empty for none. What is no text gives nothing: the stage's record refuses it.
    fields : collection of str
        The parameters of the stage that takes it.

    Raises
    ------
    ParameterError
        Naming those that are there, where this one is not; naming its file, where that holds
        another thing than names of recipe parameters with values.
    """
    if not name or not isinstance(name, str):
        return {}
    there = preset_names()
    if name not in there:
        raise ParameterError(
            f"preset {name!r} is not there; there are {', '.join(there)}, files of "
            f"{shown_path(PRESETS)}/, where one of your own may lie{near_name(name, there)}"
        )
    path = preset_files()[name]
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ParameterError(f"{shown_path(path)} holds no names with values")
    known = _recipe_parameters()
    for stranger in sorted(set(values) - known):
        what = "is no parameter of a stage that takes presets; check the spelling"
        if stranger in NO_RECIPE:
            what = "is no part of a recipe; set it in the contest file"
        raise ParameterError(f"{shown_path(path)}: {stranger!r} {what}{near_name(stranger, known)}")
    return {key: value for key, value in values.items() if key in fields}


def said_preset(name: Any) -> str:
    """A preset and its file in words, to end a phrase; empty for none."""
    file = preset_files().get(name)
    return f", preset {name!r} ({shown_path(file)})" if file else ""


def _recipe_parameters() -> set[str]:
    """The parameters of all stages that take presets, but for what is no recipe."""
    taking = [own for stage in stage_names() if "preset" in (own := notebook_defaults(stage))]
    return {name for own in taking for name in own} - NO_RECIPE
