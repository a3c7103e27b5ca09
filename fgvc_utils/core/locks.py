"""One writer at a time: locks that the system lets go of when their holder ends.

Counts in no digest.
"""

import errno
import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

# What file systems without locks answer.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
# Folders of which it has been said.
_said: set[Path] = set()


class Held(RuntimeError):
    """Somebody else holds a lock; the message names the process, its machine and the time."""


@contextmanager
def only_one(path: Path, what: str, advice: str) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; missing parent folders are made.

    The lock is the system's (flock): it is free again once the holder has ended, also by SIGKILL or
    a power cut, and a file that is left behind holds nothing. It reaches other machines as far as
    their file system passes locks on: NFS does, Lustre when mounted with `flock`; where there are
    none, a note is printed and the block runs unguarded.

    Parameters
    ----------
    path
        The lock file.
    what
        What is going on where somebody else holds it, for the message.
    advice
        What to do about it, for the message.

    Raises
    ------
    Held
        Somebody else holds it: process, machine, since when, command; or the lock file is another
        user's, who keeps it for himself.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _opened(path) as lock:
        try:
            take(lock, path, wait=False)
        except BlockingIOError:
            raise Held(f"{what} ({_holder(lock)}); {advice}") from None
        lock.truncate(0)
        lock.write(_oneself())
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)


def take(file: IO, path: Path, *, wait: bool) -> None:
    """Lock an open file until it is closed; where there are no locks, that is said once a folder.

    Parameters
    ----------
    file
        The open file.
    path
        Its path, for the note.
    wait
        Whether another holder is waited for.

    Raises
    ------
    BlockingIOError
        Somebody else holds it, and is not waited for.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        folder = Path(path).parent
        if folder not in _said:
            _said.add(folder)
            print(
                f"{folder} lies on a file system without locks: see to it yourself that nothing "
                "else writes there",
                flush=True,
            )


def _opened(path: Path) -> IO[str]:
    try:
        return open(path, "a+", encoding="utf-8")
    except PermissionError as error:
        raise Held(
            f"{path} cannot be opened ({error.strerror}): another user works there, or has; set "
            "`outputs` or `run` to a folder of your own, or have that user share it"
        ) from None


def _oneself() -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    holder = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
    return json.dumps(holder | {"command": shlex.join(sys.orig_argv)})


def _holder(lock: IO[str]) -> str:
    lock.seek(0)
    try:
        holder = json.loads(lock.read())
        return "process {process} on {host} since {since}: {command}".format(**holder)
    except (ValueError, KeyError, TypeError):
        # It has just taken the lock and not yet written who it is.
        return "an unknown process"
