"""Which run is meant: by its folder, by its name in outputs/, or by its contest file."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from fgvc_utils.contest.contest_file import notebook_defaults, read_contest_file, stage_names
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.contest.places import PROJECT, expanded
from fgvc_utils.core.files import read_json
from fgvc_utils.core.project import command_line

ENDINGS = (".yaml", ".yml")
# One of these is in the folder of every run.
LEFT = ("report.json", "stages", "tables")


class NoRun(ParameterError):
    """There is no such run; the message names what was looked for and says what to do."""


class FoundRun(NamedTuple):
    """A run's folder, and the contest file that names it; None where that was not what named it."""

    folder: Path
    contest: Path | None


def locate_run(named: str | Path) -> FoundRun:
    """Find a run by its folder, by its name or by its contest file.

    Parameters
    ----------
    named : str or Path
        A folder, such as outputs/demo; or the name of a run in outputs/; or a contest file, such as
        params/demo.yaml, or its name there. A relative one lies where the caller stands or, if not
        there, in the project.

    Raises
    ------
    NoRun
        Lists the places that were looked at, and the runs that are there.
    ParameterError
        The contest file is not right.
    """
    name = str(named)
    homes = list(dict.fromkeys([Path("outputs").absolute(), PROJECT / "outputs"]))
    try:
        direct = [expanded(name).absolute(), expanded(name, PROJECT)]
    except ValueError as error:
        raise NoRun(f"the run {name!r}: {error}") from None
    is_file = Path(name).suffix.lower() in ENDINGS
    for place in direct if is_file else ():
        if place.is_file():
            return FoundRun(_run_of(place, name), place)
    places = list(dict.fromkeys([*direct, *(home / name for home in homes)]))
    for place in places:
        if is_run(place):
            return FoundRun(place, None)
    # As `fgvc run` takes it.
    known = PROJECT / "params" / f"{name}.yaml"
    if Path(name).name == name and known.is_file():
        return FoundRun(_run_of(known, name), known)
    if is_file:
        raise NoRun(f"the contest file {name} is not there; contest files lie in params/")
    runs = sorted({each.name for home in homes for each in _folders(home) if is_run(each)})
    listed = "\n  ".join(str(place) for place in places)
    raise NoRun(
        f"{name!r} is no run: no {LEFT[0]}, {LEFT[2]} or {LEFT[1]} in\n  {listed}\n"
        "Give a run's folder, its contest file, or the name of one in outputs/ "
        f"({', '.join(runs) or 'none there'})."
    )


def _run_of(path: Path, name: str) -> Path:
    """The folder of the run that a contest file names; `name` is what the user calls the file."""
    named = notebook_defaults(stage_names()[0]) | read_contest_file(path).shared
    folder = expanded(named["outputs"], PROJECT) / str(named["run"])
    if not is_run(folder):
        first = command_line("run", name)
        raise NoRun(f"{name} names the run {folder}, which has left nothing yet: {first} first")
    return folder


def stamped_parameters(stamp: Path) -> dict[str, Any]:
    """The parameters that a step was done with, by its stamp; empty where there is none."""
    return read_json(stamp).get("parameters", {}) if stamp.is_file() else {}


def is_run(folder: Path) -> bool:
    """Whether a folder holds what a run leaves."""
    return any(os.path.exists(folder / name) for name in LEFT)


def _folders(home: Path) -> Iterable[Path]:
    return (each for each in sorted(home.iterdir()) if each.is_dir()) if home.is_dir() else ()
