"""The command `fgvc`: one for all that is done by hand.

Each subcommand loads what it needs when it is called, so that `fgvc --help` answers at once.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from fgvc_utils.core.project import CALLED

ABOUT = "From a folder of noisy photos under look-alike classes to a contest submission."
MORE = """\
CONTEST is a contest file, or the name of one in params/. Without it the only one there is taken.

a contest of your own:
  fgvc init mine        then put the images into mine/data/mine/train/<class>/ and .../test/
  cd mine
  fgvc check            finds in seconds what would stop the contest hours later
  fgvc run              what is done is skipped; call it again after any interruption
  fgvc lab              to look and to decide by eye

`fgvc COMMAND --help` explains each; `python -m fgvc_utils` is the same command.
"""
# What each of these takes and says is up to its own module in the package.
PASSED_ON = {
    "predict": "classify new photos with a finished run",
    "export": "write a run's labels, decisions and models as other tools read them",
    "compare": "say what differs between two runs",
}
BAD_INPUT = 2


class NoContest(ValueError):
    """There is no contest file of the name that was given, or none was given."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0, 1 for a notebook that failed, 2 for bad input or a held run."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Messages then name this command.
    os.environ[CALLED] = "1"
    if not sys.platform.startswith("linux"):
        print(
            "fgvc runs on Linux alone. On Windows, install WSL (`wsl --install` in PowerShell) and "
            "install fgvc-kit there; elsewhere use a container: see docs/install.md",
            file=sys.stderr,
        )
        return BAD_INPUT
    if problem := _no_such_project():
        print(problem, file=sys.stderr)
        return BAD_INPUT
    if arguments and arguments[0] in PASSED_ON:
        return _pass_on(arguments[0], arguments[1:])
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    _help_with_misspelt(parser, arguments[0])
    # JupyterLab has options of its own.
    options, others = parser.parse_known_args(arguments)
    if others and options.command != "lab":
        parser.error(f"fgvc {options.command} knows no {' '.join(others)}")
    try:
        return options.call(options, others)
    except NoContest as error:
        print(error, file=sys.stderr)
        return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("fgvc", description=ABOUT, epilog=MORE, formatter_class=shape)
    parser.add_argument("--version", action=_Version, nargs=0, help="say which kit this is")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )

    def add(name: str, does: str, call: Callable, about: str = "") -> argparse.ArgumentParser:
        about = about or f"{does[0].upper()}{does[1:]}."
        one = commands.add_parser(name, help=does, description=about, formatter_class=shape)
        one.set_defaults(call=call)
        return one

    _add_init(add)
    one = add("check", "look for what would stop a contest, in seconds", _run)
    _add_contest(one)
    usual = {"first": None, "only": None, "dry_run": False, "accept_code": False}
    one.set_defaults(check=True, node_rank=None, **usual)
    one = add("run", "run a contest; what is done is skipped", _run, _about_run())
    _add_contest(one)
    from fgvc_utils.pipeline.options import add_run_options

    add_run_options(one)
    one = add("lab", "open working copies of the notebooks in JupyterLab", _lab)
    one.epilog = "Further options are JupyterLab's, such as --no-browser or --port=8889."
    _add_contest(one)
    one.add_argument("--only-write", action="store_true", help="do not open JupyterLab")
    for name, does in PASSED_ON.items():
        commands.add_parser(name, help=does)
    return parser


def _about_run() -> str:
    return (
        "Run a contest, stage after stage. It begins with the check. What is done is skipped, what "
        "is half done\nis continued; Ctrl-C ends it at once, and another call goes on. Results lie "
        "in outputs/<run>/."
    )


def _add_contest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "contest", nargs="?", help="a contest file, or its name in params/; else the only one there"
    )


def _add_init(add: Callable) -> None:
    one = add(
        "init",
        "lay out a folder for a contest of your own",
        _init,
        "Lay out a folder: notebooks, a contest file, a README. What is there already stays as it "
        "is;\nnotebooks of an older kit are brought up to date where nobody has edited them.",
    )
    one.add_argument(
        "folder", type=Path, metavar="DIR", help="a new folder, or one laid out before"
    )
    one.add_argument("--name", help="what the contest is called; otherwise as the folder")
    one.add_argument(
        "--data", help="the folder that holds train/ and test/, where it lies elsewhere"
    )
    one.add_argument(
        "--demo", action="store_true", help="draw the demo contest there, to try the kit on"
    )
    one.add_argument(
        "--tiny", action="store_true", help="with --demo: 6 classes, 120 and 24 small images"
    )


class _Version(argparse.Action):
    """Print the version; it is asked for only here, since finding it takes a while."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from fgvc_utils.command.laying_out import kit_version

        print(f"fgvc-kit {kit_version()}")
        parser.exit()


def _no_such_project() -> str:
    """What is wrong with the variable that names the project, in words; empty where nothing is."""
    from fgvc_utils.core.project import VARIABLE, find_project

    if not os.environ.get(VARIABLE) or find_project().is_dir():
        return ""
    return f"{VARIABLE} names {find_project()}, which is no folder: mend it, or unset it"


def _help_with_misspelt(parser: argparse.ArgumentParser, name: str) -> None:
    """End with an error that names what is near, where the first word is no command."""
    commands = ("init", "check", "run", "lab", *PASSED_ON)
    if name.startswith("-") or name in commands:
        return
    near = get_close_matches(name, commands, 1)
    hint = f"; near it is {near[0]!r}" if near else ""
    parser.error(f"{name!r} is no command of fgvc ({', '.join(commands)}){hint}")


def chosen_contest(named: str | None) -> Path:
    """The contest file that a command line means, and with it the project.

    Parameters
    ----------
    named : str, optional
        A path, or the name of a contest file in `params/`, with or without its ending; without one
        the only one of the project is taken.

    Raises
    ------
    NoContest
        It is not there, or there are several to choose from.
    """
    from fgvc_utils.core.project import find_project, take_project_of

    take_project_of([named] if named else [])
    if named and os.path.isfile(os.path.expanduser(os.path.expandvars(named))):
        return Path(named)
    folder = find_project() / "params"
    files = [file for file in sorted(folder.glob("*.yaml")) if file.stem != "template"]
    if named:
        found = [file for file in files if named in (file.name, file.stem)]
    else:
        found = files
    if len(found) == 1:
        return found[0]
    there = ", ".join(file.stem for file in files) or "none"
    if named:
        raise NoContest(
            f"{named} is not there; contest files lie in params/, and {folder} has: {there}"
        )
    advice = "name one" if files else "`fgvc init DIR` lays out a folder with one"
    raise NoContest(f"No contest is named, and {folder} has: {there}; {advice}")


def _run(options: argparse.Namespace, _: list[str]) -> int:
    options.contest = chosen_contest(options.contest)
    # Before what takes a second to load.
    from fgvc_utils.core.output import make_output_last, use_utf8
    from fgvc_utils.pipeline.interrupts import end_at_once

    end_at_once()
    use_utf8()
    make_output_last()
    _say_what_is_outdated()
    from fgvc_utils.pipeline.running import carry_out

    return carry_out(options)


def _lab(options: argparse.Namespace, others: list[str]) -> int:
    contest = chosen_contest(options.contest)
    _say_what_is_outdated()
    from fgvc_utils.pipeline.working_copies import main as open_copies

    given = [str(contest)] + (["--only-write"] if options.only_write else [])
    if not any(text.startswith(("--ip", "--ServerApp.ip")) for text in others):
        given.append("--ip=127.0.0.1")
    if os.geteuid() == 0 and "--allow-root" not in others:
        # Jupyter refuses root without this option; containers often are root.
        given.append("--allow-root")
    return open_copies([*given, *others])


def _init(options: argparse.Namespace, _: list[str]) -> int:
    from fgvc_utils.command.laying_out import CannotLayOut, Wanted, lay_out

    wanted = Wanted(options.name, options.data, options.demo, options.tiny)
    try:
        print("\n".join(lay_out(options.folder, wanted)))
    except (CannotLayOut, OSError) as error:
        print(f"fgvc init: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


def _pass_on(name: str, arguments: list[str]) -> int:
    """Call the module of the package that has this name; it reads its arguments itself."""
    from fgvc_utils.core.project import take_project_of

    take_project_of(arguments)
    return import_module(f"fgvc_utils.{name}").main(arguments) or 0


def _say_what_is_outdated() -> None:
    from fgvc_utils.command.laying_out import outdated

    for line in outdated():
        print(line, file=sys.stderr)
