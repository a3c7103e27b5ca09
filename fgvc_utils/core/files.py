"""Files that are written whole or not at all.

Counts in no digest.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

# What stays free on a disk for all else that a run writes.
SPARE_BYTES = 512 * 2**20
# A temporary file of another machine that nobody wrote to for so long was left by a killed process.
LEFT_AFTER = 3600
TEMPORARY = re.compile(r"-(?P<process>\d+)-[0-9a-f]{16}\.part(\.[^.]+)?$")


class NotEnoughSpace(OSError):
    """A disk has not enough space for what is to be written."""


def nearest_existing(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    folder = Path(folder).absolute()
    # A folder that may not be looked into is as good as one that is not there.
    return next(place for place in (folder, *folder.parents) if os.path.exists(place))


def unusable(folder: Path) -> list[str]:
    """What keeps this user from writing a run's folder, or from reading what is there of it.

    Other users' files are the usual reason: their umask may have kept them for themselves.

    Parameters
    ----------
    folder
        The run's folder, in the folder `outputs`, which also holds the cache.

    Returns
    -------
    list of str
        A text a problem with what to do about it, empty where there is none.
    """
    folder = Path(folder).absolute()
    there = nearest_existing(folder)
    if not there.is_dir():
        return [f"outputs: {there} is a file; set `outputs` to a folder"]
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return [
            f"outputs: {there} cannot be written to ({error.strerror}{_owner(there)}); set "
            "`outputs` to a folder that can"
        ]
    found = []
    for place in _some_of(folder):
        wanted = os.R_OK | os.W_OK | (os.X_OK if place.is_dir() else 0)
        if not os.access(place, wanted):
            found.append(
                f"outputs: {place} cannot be read and written{_owner(place)}; set `outputs` or "
                "`run` to a folder of your own, or have its owner share it (chmod -R g+rwX, and "
                "umask 002 for later runs)"
            )
    return found[:1]


def _some_of(folder: Path) -> Iterator[Path]:
    """A run's lock, and all but pictures and arrays that lie in its folder and beside the cache."""
    yield from (place for place in (folder, folder.parent / "cache") if place.is_dir())
    for pattern in (".pipeline.lock", "*/", "*/*.parquet", "*/*.json", "*/*.csv"):
        yield from folder.glob(pattern)
    yield from (folder.parent / "cache").glob("*/")


def _owner(place: Path) -> str:
    """Whose a file is where it is another user's, in words."""
    with suppress(OSError, KeyError, ImportError):
        import pwd

        owner = place.stat().st_uid
        if owner != os.geteuid():
            return f", it belongs to {pwd.getpwuid(owner).pw_name}"
    return ""


def require_space(folder: Path, needed: int, what: str, advice: str) -> None:
    """Check that there is space on a disk, before the work starts.

    Parameters
    ----------
    folder
        Where the files will lie; it need not be there yet.
    needed
        How much will be written, bytes. SPARE_BYTES stay free besides.
    what
        What needs the space, for the message.
    advice
        What to do where there is too little, for the message.

    Raises
    ------
    NotEnoughSpace
        The disk has less.
    """
    folder = Path(folder).absolute()
    free = shutil.disk_usage(nearest_existing(folder)).free
    if needed and needed + SPARE_BYTES > free:
        raise NotEnoughSpace(
            f"{what} need {in_gigabytes(needed)} below {folder}, and {in_gigabytes(SPARE_BYTES)} "
            f"must stay free, but only {in_gigabytes(free)} are free there: free some, {advice}"
        )


# The disk is full, or the user's share of it, or the file is above what its process may write.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def full_disk_named(path: Path, needed: int = 0) -> Iterator[None]:
    """Turn the error of a full disk into NotEnoughSpace: which file, how much is needed and free.

    Parameters
    ----------
    path
        The file that is written in the block.
    needed
        Its size, bytes; 0 where it is not known.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or isinstance(error, NotEnoughSpace):
            raise
        there = nearest_existing(Path(path).parent)
        size = f" of {in_gigabytes(needed)}" if needed else ""
        raise NotEnoughSpace(
            f"{path}{size} could not be written ({error.strerror}), "
            f"{in_gigabytes(shutil.disk_usage(there).free)} are free there: free some space, or "
            "set `outputs` to a larger disk, and run again; what was finished before stays"
        ) from error


def in_gigabytes(count: int) -> str:
    """A number of bytes as text, such as `1.25 GB`."""
    return f"{count / 1e9:.2f} GB"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its name when the block ends well.

    A reader sees the old file or the new one, never half of one; where the block raises, the
    temporary file is removed and the old one stays. When it has ended, content and name are on the
    disk: what is written after it never outlasts it in a power cut. Missing parent folders are
    made.

    Raises
    ------
    NotEnoughSpace
        The disk is full.
    """
    path = Path(path)
    with full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    # The ending is kept last: some writers (numpy, pandas) choose the format by it.
    temporary = path.with_name(f".{path.stem}.{_writer()}.part{path.suffix}")
    # Made here and nowhere else: no link that somebody has laid there is followed, and two machines
    # that share the folder never meet. What others may do with it the umask says.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o666))
    try:
        with full_disk_named(path):
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Return when a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _writer() -> str:
    """Which process of which machine a temporary file is of, and what nobody can guess of it."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(8)}"


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the temporary files below a folder that killed processes have left; returns them.

    Those of this machine's dead processes go at once, those of its running ones stay. Those of
    other machines go when nobody has written to them for LEFT_AFTER seconds.
    """
    removed = []
    for file in sorted(Path(folder).rglob(".*.part*")):
        named = TEMPORARY.search(file.name)
        with suppress(OSError):
            if named and _was_left(file, int(named["process"])):
                file.unlink()
                removed.append(file)
    return removed


def time_in(folder: Path) -> float:
    """The present time by the clock that stamps files in a folder, in seconds.

    That of a file server may be another one than this machine's, and both may be set anew.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"0")
        file.flush()
        return os.fstat(file.fileno()).st_mtime


def _was_left(file: Path, process: int) -> bool:
    if f".{socket.gethostname()}-{process}-" in file.name:
        return not psutil.pid_exists(process)
    return time_in(file.parent) - file.stat().st_mtime > LEFT_AFTER


def write_json(value: Any, path: Path) -> None:
    """Write plain data as indented JSON, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; raises ValueError naming the file where it is not JSON."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); delete it and run again") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
