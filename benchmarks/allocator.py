"""How the benchmarks that train hold memory: as the ranks of a launch do."""

import os
import sys

from fgvc_utils.hardware.launch import KEEPS_MEMORY


def keep_memory() -> None:
    """Start again with an allocator that keeps what it has: else pages are cleared for each fit.

    Its threads sleep while they wait, as those of a rank do, unless OMP_WAIT_POLICY says otherwise.
    Call it first: this process is replaced by one that runs the same command.
    """
    if not KEEPS_MEMORY.keys() & os.environ.keys():
        environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | KEEPS_MEMORY
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
