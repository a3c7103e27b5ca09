"""Ctrl-C and SIGTERM end a run at once, with two lines and no process left.

Raising an exception wherever the program happens to be would not: libraries that are being imported
swallow it or print it, and a notebook's kernel and ranks would each print where they were. Nothing
is lost by an abrupt end, since results are written whole or not at all.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A process that the system is still taking down, such as one that holds a GPU, is waited for.
GONE_SECONDS = 10.0
STDERR = 2

# What goes on, for the message, such as "in 03_fine".
doing = ""
# Called first: what takes a progress line off the terminal.
before: list[Callable[[], None]] = []


def end_at_once() -> None:
    """From now on SIGINT and SIGTERM end this process and all that it has started."""
    owner = os.getpid()

    def end(number: int, _frame: FrameType | None) -> None:
        # A process that was just forked has the handler too.
        if os.getpid() == owner:
            for each in SIGNALS:
                signal.signal(each, signal.SIG_IGN)
            for call in before:
                with suppress(Exception):
                    call()
            with suppress(Exception):
                _end_children()
            _say(signal.Signals(number))
        os._exit(128 + number)

    for each in SIGNALS:
        signal.signal(each, end)


def _end_children() -> None:
    """Kill all processes below this one; all are stopped first, so that none reacts to another."""
    psutil = sys.modules.get("psutil")
    if not hasattr(psutil, "wait_procs"):
        # It is not imported yet, and so nothing was started.
        return
    found: list = []
    while new := [p for p in psutil.Process().children(recursive=True) if p not in found]:
        for child in new:
            with suppress(psutil.Error):
                child.suspend()
        found += new
    for child in found:
        with suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(found, timeout=GONE_SECONDS)


def _say(number: signal.Signals) -> None:
    """The two lines, past all buffers: the signal may have come in the middle of a print."""
    with suppress(Exception):
        sys.stdout.flush()
    why = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    where = f" {doing}" if doing else ""
    with suppress(OSError):
        os.write(
            STDERR,
            f"{why}{where}; what is done is kept\ncall again to go on where it stopped\n".encode(),
        )
