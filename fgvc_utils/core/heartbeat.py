"""A sign of life: a file whose time of change says when a process last got on with its work.

Counts in no digest.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

EVERY_SECONDS = 1.0

_file: Path | None = None
_last = 0.0


def start(file: Path) -> None:
    """Make the file, which holds this process's id; from now on `beat` touches it."""
    global _file, _last
    file.write_text(str(os.getpid()), "ascii")
    _file, _last = file, time.monotonic()


def beat() -> None:
    """Say that the work goes on; touches the file at most once a second, where there is one."""
    global _last
    now = time.monotonic()
    if _file is not None and now - _last >= EVERY_SECONDS:
        _last = now
        # The logs may have been cleared meanwhile; that is no reason to end the work.
        with suppress(OSError):
            os.utime(_file)
