"""What lies below a folder of images, and what of it is none by its name."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fgvc_utils.contest.rubbish import NO_IMAGE, is_other, rubbish, rubbish_folder


class Visited(NamedTuple):
    """One folder, which was entered.

    Attributes
    ----------
    folder : str
        The folder, as the top was named.
    below : str
        Its path below the top, with a slash at its end; empty for the top itself.
    files : list of (str, str)
        The names of its files in order, and why each is no image by its name: `NO_IMAGE` for a
        table, a text and so on, another reason for what a system left; empty for what may be one.
    left_out : list of (str, str)
        The names of the folders in it that are not entered by their names, and why.
    links : list of str
        The names of the links to folders in it, which are not entered: they may go round.
    """

    folder: str
    below: str
    files: list[tuple[str, str]]
    left_out: list[tuple[str, str]]
    links: list[str]


def walk(top: Path) -> Iterator[Visited]:
    """Enter a folder and all folders below it that may hold images, in order.

    Raises
    ------
    OSError
        A folder cannot be listed, and would otherwise look like an empty one; its `filename` says
        which.
    """
    for folder, folders, names in os.walk(top, onerror=_raise):
        below = os.path.relpath(folder, top)
        left_out = [(name, why) for name in sorted(folders) if (why := rubbish_folder(name))]
        inside = sorted(set(folders) - {name for name, _ in left_out})
        links = [name for name in inside if os.path.islink(os.path.join(folder, name))]
        # Changed in place, which tells `os.walk` where to go on.
        folders[:] = [name for name in inside if name not in links]
        files = [(name, why_none(name)) for name in sorted(names)]
        yield Visited(folder, "" if below == "." else f"{below}/", files, left_out, links)


def why_none(name: str) -> str:
    """Why a file is no image by its name; empty where it may be one."""
    return rubbish(name) or (NO_IMAGE if is_other(name) else "")


def _raise(error: OSError) -> None:
    raise error
