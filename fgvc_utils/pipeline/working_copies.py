"""Working copies of the notebooks in a run's folder, for a person to look, change and run.

    python -m fgvc_utils.pipeline.working_copies params/demo.yaml [options of JupyterLab]

The copies lie in `outputs/<run>/notebooks/`, each with `contest` set to the file, so the sources in
`notebooks/` stay as they are. A copy is brought up to date where its source changed; one that a
person edited is kept beside it under a name of its own. Then JupyterLab opens the first.
"""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from fgvc_utils.contest.contest_file import parameters_cell, shown_path
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.contest.places import NOTEBOOKS, PROJECT
from fgvc_utils.core.files import read_json, whole_file
from fgvc_utils.core.project import VARIABLE
from fgvc_utils.pipeline.contest_file import read_contest
from fgvc_utils.pipeline.stages import STAGES

# Under this name a copy's metadata hold the digest of its cells as they were written.
KEY = "working_copy_of"


def bring_up_to_date(contest: Path) -> tuple[list[Path], list[str]]:
    """Write the working copies of a contest, or leave those that are up to date.

    Parameters
    ----------
    contest : Path
        The contest file.

    Returns
    -------
    copies : list of Path
        A notebook a stage, those of the file's stages first.
    notes : list of str
        A line for each edited copy that was kept aside.

    Raises
    ------
    ParameterError
        Where the contest file is not right.
    """
    steps = read_contest(contest)
    folder = steps[0].cfg.folder / "notebooks"
    copies, notes = [], []
    for stage in dict.fromkeys([*(step.stage for step in steps), *STAGES]):
        copy = folder / f"{stage}.ipynb"
        copies.append(copy)
        fresh = with_contest(read_json(NOTEBOOKS / f"{stage}.ipynb"), shown_path(contest))
        digest = _digest(fresh)
        if copy.is_file():
            was, is_now = _digests_of(copy)
            if was == digest:
                continue
            if is_now != was:
                aside = _free_name(copy)
                os.rename(copy, aside)
                notes.append(f"{copy} is new; yours, which you edited, is {aside.name}")
        fresh["metadata"][KEY] = digest
        with whole_file(copy) as temporary:
            temporary.write_text(json.dumps(fresh, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return copies, notes


def with_contest(notebook: dict[str, Any], contest: str) -> dict[str, Any]:
    """A notebook whose parameters cell names a contest file."""
    cell = parameters_cell(notebook)
    lines = "".join(cell["source"]).splitlines(keepends=True)
    (number,) = [n for n, line in enumerate(lines) if line.startswith("contest: str = ")]
    comment = lines[number].partition("  #")[2]
    lines[number] = f"contest: str = {json.dumps(contest, ensure_ascii=False)}  #{comment}"
    cell["source"] = lines
    return notebook


def _digest(notebook: dict[str, Any]) -> str:
    """SHA-256 of what a person can edit of the cells; outputs do not count."""
    cells = [[cell["cell_type"], "".join(cell["source"])] for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def _digests_of(copy: Path) -> tuple[str, str]:
    """The digest of a copy as it was written, and as it is; they differ where it was edited."""
    try:
        notebook = read_json(copy)
        return notebook["metadata"].get(KEY, ""), _digest(notebook)
    except (ValueError, KeyError, TypeError, AttributeError):
        # No notebook at all, which is somebody's edit too.
        return "", "unreadable"


def _free_name(copy: Path) -> Path:
    number = 1
    while (aside := copy.with_name(f"{copy.stem}-edited-{number}.ipynb")).exists():
        number += 1
    return aside


def main(arguments: list[str] | None = None) -> int:
    """The command line; opens JupyterLab in place of this process, or returns 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m fgvc_utils.pipeline.working_copies", description=__doc__
    )
    parser.add_argument("contest", type=Path, help="the contest file, params/<contest>.yaml")
    parser.add_argument("--only-write", action="store_true", help="do not open JupyterLab")
    options, others = parser.parse_known_args(arguments)
    try:
        copies, notes = bring_up_to_date(options.contest)
    except ParameterError as error:
        print(error, file=sys.stderr)
        return 2
    folder = copies[0].parent
    print("\n".join([*notes, f"working copies: {folder}"]), flush=True)
    if options.only_write:
        return 0
    # JupyterLab shows files below one folder alone.
    root = PROJECT if folder.is_relative_to(PROJECT) else folder
    # A kernel works in the folder of its notebook, which may lie outside the project.
    os.environ[VARIABLE] = str(PROJECT)
    command = ["-m", "jupyterlab", str(copies[0]), f"--ServerApp.root_dir={root}", *others]
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    sys.exit(main())
