"""Another machine of a run: joins its rank server once and works for it until the run ends.

    python -m fgvc_utils.hardware.join outputs/RUN --node-rank 1

Where the server is, and with what key, it reads from the run's folder, which all machines share.

Counts in no digest.
"""

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fgvc_utils.core.files import read_json
from fgvc_utils.hardware import launch
from fgvc_utils.hardware.launcher import taken
from fgvc_utils.hardware.machine import Machine
from fgvc_utils.hardware.plan import Hardware
from fgvc_utils.hardware.server import ADDRESS, LOOK_SECONDS, wait, wakened
from fgvc_utils.hardware.wire import Closed, Wire, connect

# Between two looks for the server's address.
ASK_SECONDS = 0.5
# How long node 0 has to end after a run that failed.
FIRST_SECONDS = 10


def join(
    folder: Path | str, node_rank: int, minutes: float = 30, *, stands_by: bool = False
) -> bool:
    """Work for a run as another of its machines, until it ends.

    Where the server goes away without a word, as when its run was killed, it is waited for: the
    run may be started again.

    Parameters
    ----------
    folder
        The run's folder.
    node_rank
        This machine's number, from 1.
    minutes
        How long to wait for the server.
    stands_by
        Wait for the run's end and offer no ranks: for a further process that a launcher starts on
        a machine, where the first one starts all ranks.

    Returns
    -------
    bool
        Whether the run ended well.

    Raises
    ------
    ValueError
        `node_rank` is 0.
    TimeoutError
        The server was not there in time.
    """
    if node_rank == 0 and not stands_by:
        raise ValueError("node_rank is 0; node 0 is the one that runs the pipeline or the notebook")
    folder = Path(folder).absolute()
    machine = Machine(node_rank, launch.PRELOADED)
    wake = wakened()
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    try:
        while True:
            wire = _server(folder, node_rank, minutes, stands_by, lambda: bool(ended))
            if wire is None:
                return False
            _say(node_rank, stands_by, f"has joined {folder.name}")
            how = _member(wire, machine, wake, lambda: bool(ended))
            if how is not None:
                return how
            _say(node_rank, stands_by, "has lost node 0; it waits for the run to be started again")
    finally:
        machine.end()


def _say(node: int, stands_by: bool, text: str) -> None:
    if not stands_by:
        print(f"node {node} {text}", flush=True)


def _server(
    folder: Path, node: int, minutes: float, stands_by: bool, ended: Callable[[], bool]
) -> Wire | None:
    """A wire to the run's server, once it is there; None where this process shall end."""
    deadline = time.monotonic() + 60 * minutes
    about = {"node": node, "host": socket.gethostname(), "stands_by": stands_by}
    while time.monotonic() < deadline:
        if ended():
            return None
        # Read anew each time: it may be the last server's until this one writes it.
        with suppress(OSError, ValueError, KeyError):
            found = read_json(folder / ADDRESS)
            return connect(found["host"], found["port"], found["key"], 60, **about)
        time.sleep(ASK_SECONDS)
    raise TimeoutError(
        f"no run was there to join in {folder} within {minutes:g} minutes; start it on node 0, "
        "and see that both machines share this folder"
    )


def _member(
    wire: Wire, machine: Machine, wake: socket.socket, ended: Callable[[], bool]
) -> bool | None:
    """Do what the server says; whether the run ended well, None where the server was lost."""
    try:
        while True:
            wait([wake, wire, *machine.sockets()], LOOK_SECONDS, wake)
            if ended():
                return False
            for message in wire.take():
                if message["do"] == "bye":
                    machine.end()
                    if not message["well"]:
                        _let_node_0_end_first()
                    return bool(message["well"])
                if message["do"] == "anew":
                    machine.end()
                    start_anew()
                _obey(machine, message)
            for event in machine.events():
                wire.send(**event)
            if wire.closed:
                return None
    except Closed:
        return None
    finally:
        machine.end()
        wire.close()


def _let_node_0_end_first() -> None:
    """Wait a little, or until this process is told to end.

    Launchers end all machines when the first one fails. That shall be node 0, which says why and
    has the exit code that counts.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    time.sleep(FIRST_SECONDS)


def start_anew() -> None:
    """Become a new process with the same command: the package's code was changed."""
    print("the package's code has changed: this process starts anew", flush=True)
    os.execve(sys.executable, sys.orig_argv, os.environ | taken)


def _obey(machine: Machine, message: dict[str, Any]) -> None:
    what = message.pop("do")
    if what == "start":
        machine.end()
        machine.start(Hardware(**message["hardware"]), message["store"])
    elif what == "give":
        machine.give(**message)
    elif what == "end":
        machine.end()
        print(message["why"], flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; ends with 1 where the run did not end well."""
    parser = argparse.ArgumentParser(
        prog="python -m fgvc_utils.hardware.join",
        description="Work for a run as another of its machines, until the run ends.",
    )
    parser.add_argument("folder", type=Path, help="the run's folder, outputs/<run>")
    parser.add_argument("--node-rank", type=int, required=True, help="this node's number, from 1")
    parser.add_argument("--minutes", type=float, default=30, help="how long to wait for node 0")
    options = parser.parse_args(arguments)
    try:
        sys.exit(not join(options.folder, options.node_rank, options.minutes))
    except ValueError as error:
        parser.error(str(error))
    except TimeoutError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(f"node {options.node_rank} was interrupted")


if __name__ == "__main__":
    main()
