"""Which folder is the project: where contest files, images and results of a user lie.

In a checkout of the kit it is the checkout. Where the kit is installed as a package it is the
folder that `fgvc init` has laid out, known by a file of the name `MARK`. Nothing is imported here
but the standard library, so that a command can ask before it loads anything.

Counts in no digest.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

# The variable that names the project; what is set there goes first.
VARIABLE = "FGVC_PROJECT"
MARK = "fgvc-project.json"

# Set by the command `fgvc`, for itself and all that it starts.
CALLED = "FGVC_CALLED"

PACKAGE = Path(__file__).resolve().parents[1]
SOURCE = PACKAGE.parent
IS_CHECKOUT = (SOURCE / "pyproject.toml").is_file() and (SOURCE / "notebooks").is_dir()
# What comes with the kit beside its code: notebooks/ and params/. A wheel has them in the package.
SHIPPED = SOURCE if IS_CHECKOUT else PACKAGE / "shipped"


def project_above(place: Path) -> Path | None:
    """The project in which a folder lies, None where it lies in none."""
    place = Path(os.path.realpath(place))
    for folder in (place, *place.parents):
        if (folder / MARK).is_file() or (IS_CHECKOUT and folder == SOURCE):
            return folder
    return None


def find_project() -> Path:
    """The project of this process.

    It is what the variable names; otherwise the one in which the process was started; otherwise
    the checkout; otherwise the working folder.
    """
    if named := os.environ.get(VARIABLE):
        return Path(os.path.realpath(os.path.expanduser(os.path.expandvars(named))))
    here = SOURCE
    # The working folder may have been deleted.
    with suppress(OSError):
        here = Path.cwd()
    return project_above(here) or (SOURCE if IS_CHECKOUT else here)


def take_project_of(arguments: Iterable[str]) -> None:
    """Let the first file or folder of a command line that lies in a project decide on the project.

    It holds for this process and all that it starts, unless the variable is set already.

    Parameters
    ----------
    arguments : iterable of str
        Of the command line. To be called before `contest.places` is imported, which asks once.
    """
    if os.environ.get(VARIABLE):
        return
    for text in arguments:
        place = Path(os.path.expanduser(os.path.expandvars(text)))
        if text.startswith("-") or not os.path.exists(place):
            continue
        if project := project_above(place if place.is_dir() else place.parent):
            os.environ[VARIABLE] = str(project)
            return


def by_make() -> bool:
    """Whether the user works by `make`: in the checkout, save where they call `fgvc` themselves."""
    if not IS_CHECKOUT or find_project() != SOURCE:
        return False
    # Set by make for what it calls, which is `fgvc` too.
    return "MAKELEVEL" in os.environ or CALLED not in os.environ


def command_line(task: str, contest: str = "", options: str = "") -> str:
    """What the user is to call: `make run CONTEST=… ARGS='…'`, or `fgvc run … …`.

    Parameters
    ----------
    task : str
        What both know, such as `run` or `check`.
    contest : str, optional
        The contest file, or `…` where any is meant.
    options : str, optional
        More for the command line, such as `--only 30_ensemble`.
    """
    if by_make():
        named = [f"CONTEST={contest}"] if contest else []
        return " ".join(["make", task, *named, *([f"ARGS='{options}'"] if options else [])])
    return " ".join(filter(None, ["fgvc", task, contest, options]))
