"""Whether files are the ones that were read: by size, times and inode, by content where in doubt.

A file that was replaced by one of the same size, was mended in place or has swapped its name with
another one is told by its inode or by the time at which its entry changed (ctime), which no program
can set. A copy of the same content elsewhere, or another right to read it, is no other file.
"""

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd

# Size in bytes, times of the last change of content and of entry in ns, inode.
STATE = ["bytes", "mtime_ns", "ctime_ns", "inode"]
# When the state was taken, ns.
LOOKED = "looked_ns"
GONE = (-1, -1, -1, -1)
# What the first version of these did not have.
CLOCKS = ["ctime_ns", "inode", LOOKED]
# Within the steps of a file system's clock a file may change twice and show one time.
CLOCK_STEP_NS = 2_000_000_000

SAME, CAME, WENT, CHANGED, DOUBT = "same", "came", "went", "changed", "doubt"

State = tuple[int, int, int, int]
# Contents that were read in this process: place → state and SHA-256.
_read: dict[str, tuple[State, str]] = {}


def state_of(place: Path | str) -> State:
    """The state of a file, links followed; `GONE` where there is none."""
    try:
        return as_state(os.stat(place))
    except (OSError, ValueError):
        return GONE


def as_state(stat: os.stat_result) -> State:
    """What `STATE` names of an `os.stat`."""
    # Some file systems number their files beyond what a signed column holds.
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino & (2**63 - 1)


def states(root: Path, paths: pd.Series) -> pd.DataFrame:
    """The states of files now: columns `STATE` and `looked_ns`, int64, by the index of `paths`."""
    looked = time.time_ns()
    found = [state_of(os.path.join(root, path)) for path in paths]
    frame = pd.DataFrame(found, columns=STATE, index=paths.index, dtype="int64")
    return frame.assign(**{LOOKED: np.int64(looked)})


def compared(known: pd.DataFrame, now: pd.DataFrame) -> np.ndarray:
    """What became of files since they were read, as far as their states tell.

    Parameters
    ----------
    known
        Columns `STATE`, `looked_ns` and `digest` (SHA-256 of the content, empty where not known).
    now
        As from `states`, of the same rows.

    Returns
    -------
    np.ndarray
        Object (rows,): SAME, CAME (it had not been there), WENT, CHANGED, or DOUBT: its content
        must be read (see `settled`).
    """
    before, after = known[STATE].to_numpy(np.int64), now[STATE].to_numpy(np.int64)
    equal = (before == after).all(axis=1)
    age = np.abs(after[:, 2:3] - known[[LOOKED]].to_numpy(np.int64))[:, 0]
    young = (age < CLOCK_STEP_NS) & (after[:, 0] >= 0)
    codes = np.full(len(known), DOUBT, object)
    codes[(known["digest"] == "").to_numpy()] = CHANGED
    codes[before[:, 0] != after[:, 0]] = CHANGED
    codes[before[:, 0] < 0] = CAME
    codes[after[:, 0] < 0] = WENT
    same = equal & (~young | (known["digest"] == "").to_numpy())
    codes[same] = SAME
    return codes


def settled(
    root: Path,
    known: pd.DataFrame,
    now: pd.DataFrame,
    codes: np.ndarray,
    seconds: float | None = None,
) -> np.ndarray:
    """The codes of `compared` with each doubt settled by the content of its file.

    Parameters
    ----------
    root
        The folder of the files.
    known, now
        As for `compared`; `known` has a column path.
    codes
        As from `compared`.
    seconds
        Doubts that are not settled by then stay; None settles all.
    """
    from tqdm import tqdm

    codes, began = codes.copy(), time.monotonic()
    doubtful = np.flatnonzero(codes == DOUBT)
    paths, digests = known["path"].to_numpy(object), known["digest"].to_numpy(object)
    after = now[STATE].to_numpy(np.int64)
    bar = tqdm(doubtful, "comparing files", mininterval=5, delay=5, ncols=80, leave=False)
    for row in bar:
        if seconds is not None and time.monotonic() - began > seconds:
            break
        found = _content(os.path.join(root, paths[row]), tuple(after[row].tolist()))
        codes[row] = SAME if found == digests[row] else CHANGED
    return codes


def _content(place: str, state: State) -> str:
    """SHA-256 of a file's content; empty where it cannot be read."""
    known = _read.get(place)
    if known and known[0] == state:
        return known[1]
    try:
        with open(place, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
    if abs(time.time_ns() - state[2]) > CLOCK_STEP_NS:
        _read[place] = (state, digest)
    return digest
