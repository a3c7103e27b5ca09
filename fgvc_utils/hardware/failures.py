"""How a rank failed, in words: its traceback, or how it died and the end of what it printed.

Counts in no digest.
"""

import signal
from pathlib import Path

from fgvc_utils.core.processes import LESS_MEMORY, of_memory

TAIL_LINES = 30

# How tracebacks name it: CUDA, the CPU's allocator, Python, a loader process.
OUT_OF_MEMORY = ("OutOfMemoryError", "can't allocate memory", "MemoryError", "signal: Killed")
# What a rank raises whose peer went away: no cause, but the echo of one.
ECHOES = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "remote process exited",
)


class RankFailed(RuntimeError):
    """A rank failed; the message holds its number and its traceback, or how it died.

    Attributes
    ----------
    rank
        The global rank; -1 where it was no single one.
    """

    def __init__(self, message: str, rank: int):
        super().__init__(message)
        self.rank = rank


def is_echo(text: str) -> bool:
    """Whether an error only says that another rank went away."""
    return any(sign in text for sign in ECHOES)


def of_traceback(rank: int, traceback: str, place: Path) -> str:
    """The message for a rank that raised; `place` is the folder of its output."""
    hint = ""
    if any(sign in traceback for sign in OUT_OF_MEMORY):
        hint = f"\nMemory ran out: {LESS_MEMORY}."
    last_line = traceback.strip().splitlines()[-1]
    return f"rank {rank} failed: {last_line}\n\n{traceback}{hint}\nIts output: {place}"


def of_death(rank: int, code: int, place: Path | None, kills: int | None) -> str:
    """The message for a rank that ended without a word.

    Parameters
    ----------
    rank
        The global rank.
    code
        Its exit code; negative where a signal ended it.
    place
        The folder of its output; None where it had no work yet.
    kills
        `memory_kills` before it began.
    """
    tail = _tail(place) if place else "It had no work."
    return f"rank {rank} {_death(code, kills)}\n\n{tail}"


def of_hang(rank: int, seconds: float, stacks: dict[int, str]) -> str:
    """The message for ranks that show no progress, of which `rank` was the first to stop.

    Parameters
    ----------
    rank, seconds
        The first rank to stop, and since when.
    stacks
        Rank → where it was, empty where it did not answer.
    """
    parts = [
        f"rank {rank} hung: it showed no progress for {seconds:.0f} s, so all ranks were "
        "ended. Where it waits for something slow, give the launch more hang_minutes."
    ]
    for each, text in stacks.items():
        parts.append(f"Where rank {each} was:\n{text.strip() or '(it did not answer)'}")
    return "\n\n".join(parts)


def _death(code: int, kills: int | None) -> str:
    if code >= 0:
        return f"ended with exit code {code} and left no traceback."
    name = signal.Signals(-code).name
    return f"was ended by {name}{of_memory(kills) if name == 'SIGKILL' else ''}."


def _tail(place: Path) -> str:
    parts = []
    for name in ("stdout.log", "stderr.log"):
        file = place / name
        if not file.exists():
            continue
        lines = file.read_text("utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        parts.append("\n".join([f"The end of {file}:", *(lines or ["(empty)"])]))
    return "\n\n".join(parts)
