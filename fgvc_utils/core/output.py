"""Output that never ends a run: what cannot be printed is spelt out, what nobody reads is lost.

Counts in no digest.
"""

import io
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

# How long a reader that is slow is waited for before what it was to get is lost.
SLOW_SECONDS = 10.0


class _Lasting(io.FileIO):
    """A descriptor that takes all that is written, also where its reader or its disk is gone."""

    def write(self, data: bytes) -> int:
        view, begun = memoryview(data).cast("B"), time.monotonic()
        left = view
        with suppress(OSError, ValueError):
            while left and time.monotonic() - begun < SLOW_SECONDS:
                # None: it was set not to block, and is full.
                written = super().write(left)
                left = left[written or 0 :]
                if written is None:
                    time.sleep(0.05)
        return len(view)


def lasting(number: int, encoding: str = "utf-8") -> io.TextIOWrapper:
    """A text stream on a descriptor, whose `write` and `flush` never raise for what is beyond it.

    Signs that the encoding does not have are written as `\\xe9`.

    Parameters
    ----------
    number
        The descriptor, which stays open when the stream is closed.
    encoding
        Of the text.
    """
    raw = _Lasting(number, "wb", closefd=False)
    interactive = raw.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=interactive or number == 2,
    )


def make_output_last() -> None:
    """Have standard output and errors of this process last, whatever becomes of their reader.

    A broken pipe, a terminal that has gone, one that knows ASCII alone and a full disk cost the
    lines that are printed, and no run. A standard stream that was closed is opened to nowhere:
    otherwise the next file that is opened would take its number, and get what others print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one.
            os.open(os.devnull, os.O_RDWR)
    for number, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        with suppress(Exception):
            before.flush()
        setattr(sys, name, lasting(number, getattr(before, "encoding", None) or "utf-8"))


def use_utf8() -> None:
    """Begin this process anew where Python takes names of files for something else than UTF-8.

    So it is in an ASCII terminal where Python's own remedy is switched off, and in old locales:
    names with accents would then be other ones here than in a notebook.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" or sys.flags.ignore_environment:
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def exit_code(work: Callable[[], object]) -> int:
    """Do what a command line asks for; returns 0, or 2 where bad input ends it.

    What is wrong is told on standard error, after the word error.
    """
    try:
        work()
    except (ValueError, OSError, KeyError, ImportError) as error:
        print(f"error: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 2
    return 0
