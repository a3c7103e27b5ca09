"""Folders that are written whole, and replaced only where they hold nothing of anybody else's."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fgvc_utils.core.naming import first_few

# Names all files that were written into a folder, a line each.
LIST = ".written.txt"


def files_below(folder: Path) -> list[str]:
    """The names of all files and links below a folder, relative to it, in order."""
    found = []
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        below = os.path.relpath(place, folder)
        found += [os.path.normpath(os.path.join(below, name)) for name in (*names, *links)]
    return sorted(found)


def require_own(folder: Path) -> None:
    """Check that a folder may be written: it is new, empty, or holds what was written here alone.

    Parameters
    ----------
    folder : Path
        The folder.

    Raises
    ------
    FileExistsError
        Naming what lies there besides, and what to do.
    """
    folder = Path(folder)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FileExistsError(f"{folder} is no plain folder: move it away, or name another --to")
    there = files_below(folder) if folder.is_dir() else []
    listed = set()
    if (folder / LIST).is_file():
        listed = {LIST, *(folder / LIST).read_text("utf-8").splitlines()}
    others = [name for name in there if name not in listed]
    if others:
        raise FileExistsError(
            f"{folder} holds files that no export wrote: {first_few(others, 3)}; move them away, "
            "or name another --to"
        )


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder that takes the place of `folder` when the block ends well.

    Parameters
    ----------
    folder : Path
        What was written here before is replaced; where the block raises, it stays.

    Raises
    ------
    FileExistsError
        It holds anything else; see `require_own`.
    """
    folder = Path(folder)
    require_own(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = (folder.with_name(f".{folder.name}.{secrets.token_hex(6)}") for _ in range(2))
    new.mkdir()
    try:
        yield new
        names = files_below(new)
        (new / LIST).write_text("".join(f"{name}\n" for name in names), "utf-8")
        if folder.exists():
            # Asked again: it may have got a file while the new one was written.
            require_own(folder)
            folder.replace(old)
        new.replace(folder)
    finally:
        # Links are removed, what they lead to stays.
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
