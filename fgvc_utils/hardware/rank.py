"""What runs in each rank: it takes launches from its machine's supervisor until that ends it.

Counts in no digest.
"""

import faulthandler
import gc
import importlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from fgvc_utils.core import heartbeat
from fgvc_utils.core.processes import die_with
from fgvc_utils.hardware.failures import is_echo
from fgvc_utils.hardware.plan import read_launch
from fgvc_utils.hardware.wire import Closed, Wire

BEAT = "beat"
STACKS = "stacks.txt"
# What a rank prints where it is when it gets this signal.
SHOW_STACKS = signal.SIGUSR1
INTERRUPTED = 130

# Held, so that it stays open: the handler writes to it, whatever state Python is in by then.
_stacks: TextIO | None = None


def place_of(logs: Path | str, rank: int) -> Path:
    """The folder of a rank's output in the logs of a launch."""
    return Path(logs) / f"rank-{rank}"


def preload(modules: Sequence[str]) -> None:
    """Import what a rank needs, and what torch imports late: no rank shall wait for it.

    A module that has a function `warm` has it called.
    """
    # The first group of processes and the first optimiser would import it, and a group that is
    # destroyed before that leaves its socket open.
    for name in ("torch", "torch._dynamo", *modules):
        module = importlib.import_module(name)
        if hasattr(module, "warm"):
            module.warm()


def serve(wire: Wire, settings: dict[str, Any]) -> int:
    """Be a rank: get ready, then carry out launches until the wire ends.

    Parameters
    ----------
    wire
        To the supervisor. A message names a launch file; the answers are `begun`, and `done` or
        `failed` with a traceback.
    settings
        `parent`, the process whose death ends this one; `environment`, variables; `threads` of
        torch; `preload`, modules to import; `store`, host and port where the ranks meet, None for
        one alone; `listener`, in rank 0 the number of the open socket there; `stays`, whether
        more than one launch comes; `device`.

    Returns
    -------
    int
        The exit code.
    """
    die_with(settings["parent"])
    signal.signal(signal.SIGINT, _interrupted)
    try:
        os.environ.update(settings["environment"])
        _bind_children()
        # A spawned process spawns in its turn: each loader process would import torch anew.
        multiprocessing.set_start_method("fork", force=True)
        _enter(settings)
        while True:
            message = wire.receive()
            wire.send(begun=time.time())
            wire.send(**_carry_out(message["launch"]))
            _give_back(settings["device"])
    except Closed:
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _enter(settings: dict[str, Any]) -> None:
    """Pay once for imports, threads and device."""
    preload(settings["preload"])
    import threadpoolctl
    import torch

    from fgvc_utils.hardware import distributed

    # NumPy's threads too: they were counted when the process that this one was forked from began.
    threadpoolctl.threadpool_limits(settings["threads"])
    torch.set_num_threads(settings["threads"])
    distributed.enter(settings["store"], settings["listener"], settings["stays"])
    if settings["device"] == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        torch.zeros(1, device=device)


def _give_back(device: str) -> None:
    """Give back memory that the launch took of a device which others use too."""
    if device == "cuda":
        import torch

        gc.collect()
        torch.cuda.empty_cache()


def _carry_out(launch_file: str) -> dict[str, Any]:
    """Call the entry of a launch; what to answer."""
    launch = read_launch(launch_file)
    place = place_of(launch.logs, int(os.environ["RANK"]))
    place.mkdir(parents=True, exist_ok=True)
    _print_to(place)
    _show_life(place)
    module, _, function = launch.entry.partition(":")
    try:
        getattr(importlib.import_module(module), function)(launch_file)
    except SystemExit as error:
        reason = RuntimeError(f"{launch.entry} called sys.exit({error.code!r})")
        reason.__cause__ = error
        return _failed(reason)
    except Exception as error:
        return _failed(error)
    return {"done": True}


def _failed(error: Exception) -> dict[str, Any]:
    text = "".join(traceback.format_exception(error))
    print(text, file=sys.stderr, flush=True)
    return {"failed": text, "echo": is_echo(repr(error))}


def _print_to(place: Path) -> None:
    """Send what this process and its libraries print to the launch's logs."""
    for number, name in ((1, "stdout.log"), (2, "stderr.log")):
        file = os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, number)
        os.close(file)


def _show_life(place: Path) -> None:
    """Begin the heartbeat, and say on a signal where this rank is, beside its logs."""
    global _stacks
    before, _stacks = _stacks, open(place / STACKS, "w", encoding="utf-8")
    faulthandler.register(SHOW_STACKS, file=_stacks, all_threads=True)
    if before is not None:
        before.close()
    heartbeat.start(place / BEAT)


def _bind_children() -> None:
    """Tie the loader processes that this rank will fork to it, as it is tied to its supervisor.

    torch has them look for their parent, but one that was still starting when its parent was
    killed takes process 1 for it and waits for ever.
    """
    forking: dict[str, int] = {}
    # The system means by a parent the thread that forked, and other threads end early.
    main = threading.main_thread().ident

    def before() -> None:
        forking["parent"] = os.getpid()

    def in_child() -> None:
        if threading.get_ident() == main:
            die_with(forking["parent"])

    os.register_at_fork(before=before, after_in_child=in_child)


def _interrupted(number: int, frame: object) -> None:
    """Interrupt once: a second KeyboardInterrupt would only break off what the first cleans up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """A rank as a process of its own; the argument is the number of its open wire."""
    wire = Wire(socket.socket(fileno=int(arguments[0])))
    try:
        settings = wire.receive()
    except Closed:
        return 0
    return serve(wire, settings)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    # A library's threads may hang at the end of Python; all that matters is on the disk.
    os._exit(code)
