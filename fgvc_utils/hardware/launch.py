"""The one door to the hardware: run jobs on warm ranks from a cell; follow, interrupt, fail.

The ranks are those of this run's rank server (`server`): the pipeline starts one for all notebooks,
and where a notebook is run by hand its kernel starts its own.

Counts in no digest.
"""

import atexit
import dataclasses
import functools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from fgvc_utils.core.files import write_json
from fgvc_utils.core.locks import only_one
from fgvc_utils.core.processes import die_with
from fgvc_utils.hardware.failures import RankFailed
from fgvc_utils.hardware.machine import HERE, LATE_SECONDS, SHUTDOWN_SECONDS
from fgvc_utils.hardware.network import check_rendezvous
from fgvc_utils.hardware.plan import Hardware, Launch, code_stamp
from fgvc_utils.hardware.progress import follow, read_events
from fgvc_utils.hardware.server import KEY, LOG
from fgvc_utils.hardware.wire import Closed, Wire, connect, listen

ENTRY = "fgvc_utils.training.worker:run"
# What ranks import before their first launch.
PRELOADED = (ENTRY.partition(":")[0],)
# Tells kernels where the rank server of the pipeline is: its port on this machine, and its key.
SERVER = "FGVC_RANKS"
# How many GPUs there are, found out once for all kernels of a run.
GPUS = "FGVC_GPUS"
# What only a machine with a GPU has: NVIDIA's driver, the same under Windows, AMD's.
GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
# A server that a notebook has started ends after so long without a launch.
IDLE_SECONDS = 15 * 60
# A server that is to end hears it within this time, unless it is busy with its imports.
DEAF_SECONDS = 1
# A server that was asked answers at once, but for its imports.
ANSWER_SECONDS = 120
LOG_LINES = 30
# glibc gives large blocks back at once and asks for them again at the next step; kept, they save a
# fifth of a step's time on a CPU.
KEEPS_MEMORY = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**32))


def launch(
    job_files: Sequence[Path | str],
    folder: Path | str,
    hardware: Hardware,
    *,
    entry: str = ENTRY,
    picture: Callable[[list[dict]], Any] | None = None,
    meet: Path | str | None = None,
    shown: bool = True,
) -> None:
    """Run the jobs, one after another, on all ranks; return when every rank is done.

    Writes `folder/launch.json`, `folder/events.jsonl` (progress, written by rank 0), a line of
    `folder/times.jsonl`, and `folder/logs/<launch>/rank-<n>/` (all that the ranks print). In the
    cell a bar moves in place and a line is printed at each end of an epoch or job; `picture`, where
    given, makes a matplotlib figure of the `figures` events so far, shown under the bar
    (`progress.follow`). Interrupting the cell, an error in a rank, a rank that hangs, or the end of
    this process ends all ranks, and the next launch has other ones.

    Parameters
    ----------
    job_files
        The jobs, in order.
    folder
        Where the launch writes.
    hardware
        What it runs on.
    entry
        `module:function` that every rank calls with the path of `launch.json`.
    picture
        Makes a matplotlib figure of the `figures` events so far.
    meet
        The folder where other machines find this run, by default `folder`.
    shown
        Whether progress is shown.

    Raises
    ------
    ValueError
        Wrong input, before anything is started.
    RuntimeError
        Another launch runs in the same folder.
    RankFailed
        With a failing rank's number and traceback; or a machine was lost.
    TimeoutError
        The other nodes do not come.
    KeyboardInterrupt
        The cell was interrupted.
    """
    jobs = _checked_jobs(job_files)
    _checked_entry(entry)
    hardware = _checked_hardware(hardware)
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    plan = Launch(
        name=name,
        jobs=jobs,
        events=str(folder / "events.jsonl"),
        logs=str(folder / "logs" / name),
        entry=entry,
        hardware=hardware,
    )
    times = {"launch": name, "began": time.time()}
    with _only_launch(folder):
        Path(plan.events).write_bytes(b"")
        write_json(dataclasses.asdict(plan), folder / "launch.json")
        with follow(Path(plan.events), len(jobs), picture) if shown else nullcontext():
            place = Path(meet or folder).absolute()
            asked = {"file": str(folder / "launch.json"), "meet": str(place)}
            while "taken" not in times:
                with _server_wire(hardware, place) as wire:
                    times["server"] = time.time() - times["began"]
                    times |= _run(wire, asked | {"code": code_stamp()})
        _account(folder, plan, times)


def start(
    hardware: Hardware, meet: Path | str, *, idle: bool = True, trusted: bool = False
) -> None:
    """Have ranks made ready in the background, so that the first launch finds them warm.

    Does nothing where ranks are not to be kept (`hardware.warm`).

    Parameters
    ----------
    hardware
        Of the launches to come.
    meet
        The folder of the run, where other machines find it.
    idle
        Whether the server ends after a while without a launch.
    trusted
        Whether a launcher gave the rendezvous, which is then not checked.

    Raises
    ------
    ValueError
        The hardware is not there.
    """
    if not hardware.keeps:
        return
    hardware = _checked_hardware(hardware, trusted)
    meet = Path(meet).absolute()
    with suppress(OSError), _wire(meet, idle, trusted) as wire:
        asked = {"hardware": dataclasses.asdict(hardware), "meet": str(meet)}
        wire.send(do="prepare", code=code_stamp(), **asked)


def end(*, well: bool = True) -> None:
    """End the rank server that this process has started, and with it all ranks.

    Parameters
    ----------
    well
        Whether the run ended well, for the other machines.
    """
    global _own
    if _own is not None:
        _own.close(well)
        os.environ.pop(SERVER, None)
        _own = None


def terminate() -> None:
    """End the rank server that this process has started as a signal does, without asking it."""
    if _own is not None:
        _own.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            _own.process.wait(SHUTDOWN_SECONDS + 2)


# --- what was asked for ------------------------------------------------------------------------


def _checked_jobs(job_files: Sequence[Path | str]) -> tuple[str, ...]:
    if isinstance(job_files, str | Path):
        raise ValueError(f"job_files is the single path {job_files}; give a list of paths")
    jobs = tuple(str(Path(job).absolute()) for job in job_files)
    if not jobs:
        raise ValueError("job_files is empty; give at least one job file")
    if missing := [job for job in jobs if not Path(job).is_file()]:
        raise ValueError(
            f"job_files: {', '.join(missing)} does not exist; write the job files before launching"
        )
    return jobs


def _checked_entry(entry: str) -> None:
    module, _, function = entry.partition(":")
    if not module or not function.isidentifier():
        raise ValueError(f"entry is {entry!r}; give 'module:function'")


def _checked_hardware(hardware: Hardware, trusted: bool = False) -> Hardware:
    """The hardware with its device named, after it was seen to be there."""
    given = _own is None and SERVER in os.environ
    if not (trusted or given):
        # Whoever gave the server has checked it, or trusts the launcher that named the machines.
        check_rendezvous(hardware)
    return dataclasses.replace(hardware, device=_device(hardware))


def _device(hardware: Hardware) -> str:
    """Say cpu or cuda, after the ranks were counted against the GPUs of this node."""
    if hardware.device == "cpu":
        return "cpu"
    there = hardware.device == "cuda" or any(Path(file).exists() for file in GPU_FILES)
    gpus = _count_gpus() if there else 0
    if gpus == 0 and hardware.device == "auto":
        return "cpu"
    if hardware.processes > gpus:
        raise ValueError(
            f"processes is {hardware.processes} but this machine has {gpus} CUDA GPUs; "
            f"set {f'processes to at most {gpus} or ' if gpus else ''}device to 'cpu'"
        )
    return "cuda"


@functools.cache
def _count_gpus() -> int:
    """GPUs that torch can use. Asked in another process: this one shall load no torch."""
    if (known := os.environ.get(GPUS, "")).isdecimal():
        return int(known)
    code = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
    asked = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    count = int(asked.stdout) if asked.returncode == 0 and asked.stdout.strip().isdecimal() else 0
    os.environ[GPUS] = str(count)
    return count


def _only_launch(folder: Path) -> AbstractContextManager[None]:
    return only_one(
        folder / ".launch.lock",
        f"another launch is running in {folder}",
        "wait for it, interrupt it, or give this one another folder",
    )


# --- one launch --------------------------------------------------------------------------------


def _run(wire: Wire, asked: dict[str, str]) -> dict[str, float | None]:
    """Ask the server for a launch and wait for its end.

    Returns
    -------
    dict
        `taken`, when rank 0 began with it; empty where the server starts anew with the present
        code, to be asked again.
    """
    begun = None
    try:
        wire.send(do="launch", **asked)
        while True:
            message = wire.receive()
            if "line" in message:
                print(message["line"], flush=True)
            elif "begun" in message:
                begun = message["begun"]
            elif "done" in message:
                return {"taken": begun}
            elif "again" in message:
                return {}
            else:
                raise _error(message)
    except Closed:
        raise RankFailed(_server_ended(Path(asked["meet"]) / LOG), -1) from None
    except KeyboardInterrupt:
        with late_interrupt():
            _stop(wire)
        raise


def _error(message: dict[str, Any]) -> Exception:
    if "failed" in message:
        return RankFailed(message["failed"], message["rank"])
    if "late" in message:
        return TimeoutError(message["late"])
    return RuntimeError(message.get("refused", "the launch was stopped"))


def _stop(wire: Wire) -> None:
    """Return when the server has ended the ranks, or after the time that it has for that."""
    with suppress(Closed):
        wire.send(do="stop")
        deadline = time.monotonic() + SHUTDOWN_SECONDS + 5
        while (left := deadline - time.monotonic()) > 0:
            if "stopped" in (wire.receive(left) or {}):
                return


def _account(folder: Path, plan: Launch, times: dict[str, Any]) -> None:
    """Note when a launch was asked for, begun and over, for those who look for lost time."""
    events, _ = read_events(Path(plan.events))
    steps = [each["time"] for each in events if each["event"] in ("step", "figures")]
    seconds = [each["seconds"] for each in events if each["event"] == "finished"]
    times |= {"first_step": min(steps, default=None), "ended": time.time()}
    times |= {"jobs": len(plan.jobs), "jobs_seconds": round(sum(seconds), 3)}
    with open(folder / "times.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(times) + "\n")


@contextmanager
def late_interrupt() -> Iterator[None]:
    """Hold an interrupt back until the block has ended (in the main thread; others get none)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = []
    before = signal.signal(signal.SIGINT, lambda *_: came.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


# --- the server --------------------------------------------------------------------------------


class _Server:
    """The rank server as a process that the system ends with this one."""

    def __init__(self, idle_seconds: float, trusted: bool):
        listener, key = listen(HERE, 0), secrets.token_hex(16)
        self.address = f"{listener.getsockname()[1]}:{key}"
        # Nothing is written to the run's folder before there is a launch.
        self.log = tempfile.TemporaryFile()
        command = [sys.executable, "-m", "fgvc_utils.hardware.server", str(listener.fileno())]
        command += ["--idle-seconds", str(idle_seconds), *(["--trusted"] if trusted else [])]
        parent = os.getpid()
        with listener:
            self.process = subprocess.Popen(
                [*command, "--preload", *PRELOADED],
                env=os.environ | _variables() | {KEY: key},
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                # A Ctrl-C goes to the whole group: this process is told what to do by its client.
                start_new_session=True,
                preexec_fn=lambda: die_with(parent),
            )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def close(self, well: bool) -> None:
        """Return when it and its ranks have ended."""
        with suppress(OSError), _connected(self.address, DEAF_SECONDS) as wire:
            wire.send(do="close", well=well)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(LATE_SECONDS + 2 * SHUTDOWN_SECONDS)
        # One that still imports is deaf, and has no rank.
        self.process.kill()
        self.process.wait()
        self.log.close()


_own: _Server | None = None


@contextmanager
def _server_wire(hardware: Hardware, meet: Path) -> Iterator[Wire]:
    """A wire to the run's server, or to one that is only for this launch."""
    if hardware.keeps:
        with _wire(meet) as wire:
            yield wire
        return
    server = _Server(IDLE_SECONDS, SERVER in os.environ)
    try:
        with _connected(server.address, ANSWER_SECONDS) as wire:
            yield wire
    finally:
        server.close(well=True)


@contextmanager
def _wire(meet: Path, idle: bool = True, trusted: bool = False) -> Iterator[Wire]:
    """A wire to the run's server, which is started where there is none that answers."""
    global _own
    address = os.environ.get(SERVER)
    if _own is not None and not _own.alive:
        address, _own = None, None
    connection = None
    if address:
        with suppress(OSError):
            connection = _connected(address, ANSWER_SECONDS)
    if connection is None:
        _own = _Server(IDLE_SECONDS if idle else 0, trusted)
        os.environ[SERVER] = _own.address
        connection = _connected(_own.address, ANSWER_SECONDS)
    with connection as wire:
        yield wire


class _connected(AbstractContextManager):
    """A wire to a server of this machine, closed at the end; connects at once."""

    def __init__(self, address: str, seconds: float):
        port, _, key = address.partition(":")
        self.wire = connect(HERE, int(port), key, seconds)

    def __enter__(self) -> Wire:
        return self.wire

    def __exit__(self, *_: object) -> None:
        self.wire.close()


def _server_ended(log: Path) -> str:
    """The message for a server that ended while it was needed."""
    text = "the process that holds the ranks was ended, and the ranks with it; run this again"
    written = ""
    with suppress(OSError):
        written = log.read_text("utf-8", errors="replace")
    if _own is not None and not written:
        _own.log.seek(0)
        written = _own.log.read().decode("utf-8", errors="replace")
    lines = written.splitlines()[-LOG_LINES:]
    return "\n".join([f"{text}.\n\nThe end of {log}:", *(lines or ["(empty)"])])


def _variables() -> dict[str, str]:
    """Environment of the server and its ranks, which must be set before they import torch."""
    variables = {
        # A thread that spins while it waits takes the core from whoever shares the machine.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        # What a rank printed shall be in its log even if it is killed.
        "PYTHONUNBUFFERED": "1",
        # Entries are found as this process finds them.
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    for name, value in KEEPS_MEMORY.items():
        variables[name] = os.environ.get(name, value)
    return variables


atexit.register(end)
