"""The one door to the hardware: start, follow, interrupt and fail torch elastic from a cell.

`launch` starts the ranks of this node and returns when all of them are done. On several nodes
the notebook runs on node 0 and prints the command that every other node runs, on a shared file
system:

    python -m fgvc_utils.hardware.launch FOLDER/launch.json --node-rank 1

Counts in no digest.
"""

import argparse
import dataclasses
import multiprocessing
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from fgvc_utils.core.files import write_json
from fgvc_utils.core.locks import only_one
from fgvc_utils.core.processes import memory_kills
from fgvc_utils.hardware.plan import Hardware, Launch, read_launch
from fgvc_utils.hardware.progress import follow
from fgvc_utils.hardware.ranks import (
    SHUTDOWN_SECONDS,
    RankFailed,
    Watch,
    end_ranks,
    environment,
    import_torch,
    log_file,
    rank_failed,
    rank_logs,
    run_rank,
    signal_handlers,
)

# glibc gives large blocks back at once and asks for them again at the next step; kept, they save a
# fifth of a step's time on a CPU.
KEEPS_MEMORY = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**32))


def launch(
    job_files: Sequence[Path | str],
    folder: Path | str,
    hardware: Hardware,
    *,
    entry: str = "fgvc_utils.training.worker:run",
    picture: Callable[[list[dict]], Any] | None = None,
) -> None:
    """Run the jobs, one after another, on all ranks; return when every rank is done.

    Writes `folder/launch.json`, `folder/events.jsonl` (progress, written by rank 0) and
    `folder/logs/<launch>/rank-<n>/` (all that the ranks print). In the cell a bar moves in place
    and a line is printed at each end of an epoch or job; `picture`, where given, makes a matplotlib
    figure of the `figures` events so far, shown under the bar (`progress.follow`). Interrupting the
    cell, an error in a rank, a rank that hangs, or the end of this process ends all ranks.

    Parameters
    ----------
    job_files
        The jobs, in order.
    folder
        Where the launch writes.
    hardware
        What it runs on; node 0 of it.
    entry
        `module:function` that every rank calls with the path of `launch.json`.
    picture
        Makes a matplotlib figure of the `figures` events so far.

    Raises
    ------
    ValueError
        Wrong input, before anything is started.
    RuntimeError
        Another launch runs in the same folder.
    RankFailed
        With a failing rank's number and traceback.
    TimeoutError
        The other nodes do not come.
    KeyboardInterrupt
        The cell was interrupted.
    """
    jobs = _checked_jobs(job_files)
    if hardware.node_rank != 0:
        raise ValueError(
            f"node_rank is {hardware.node_rank}; the notebook runs on node 0, "
            "other nodes join with the command that its cell prints"
        )
    _checked_entry(entry)
    _local_interface(hardware)
    import_torch()
    hardware = dataclasses.replace(hardware, device=_device(hardware))
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
    with _only_launch(folder, node_rank=0):
        Path(plan.events).write_bytes(b"")
        write_json(dataclasses.asdict(plan), folder / "launch.json")
        for node in range(1, hardware.nodes):
            print(
                f"On node {node} run: python -m fgvc_utils.hardware.launch {folder / 'launch.json'}"
                f" --node-rank {node}",
                flush=True,
            )
        with follow(Path(plan.events), len(jobs), picture):
            _run_ranks(folder / "launch.json", plan, node_rank=0)


def join(launch_file: Path | str, node_rank: int) -> None:
    """Run another node's share of the launch that node 0 has started; see `launch`.

    Parameters
    ----------
    launch_file
        The `launch.json` that the cell on node 0 names.
    node_rank
        This node's number, from 1.
    """
    launch_file = Path(launch_file).absolute()
    hardware = dataclasses.replace(read_launch(launch_file).hardware, node_rank=node_rank)
    if node_rank == 0:
        raise ValueError("node_rank is 0; node 0 is the one that runs the notebook cell")
    _local_interface(hardware)
    import_torch()
    _device(hardware)
    with _only_launch(launch_file.parent, node_rank):
        _run_ranks(launch_file, None, node_rank)


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


def _device(hardware: Hardware) -> str:
    """Say cpu or cuda, after the ranks were counted against the GPUs of this node."""
    if hardware.device == "cpu":
        return "cpu"
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus == 0 and hardware.device == "auto":
        return "cpu"
    if hardware.processes > gpus:
        raise ValueError(
            f"processes is {hardware.processes} but this machine has {gpus} CUDA GPUs; "
            f"set {f'processes to at most {gpus} or ' if gpus else ''}device to 'cpu'"
        )
    return "cuda"


def _local_interface(hardware: Hardware) -> str | None:
    """The network interface that this node talks to the others over, None where unknown.

    Raises ValueError where `rendezvous` names a host that cannot be used from this node.
    """
    host, port = hardware.endpoint()
    try:
        address = socket.gethostbyname(host)
    except OSError as error:
        raise ValueError(f"rendezvous: the host {host!r} is not known here ({error})") from None
    if hardware.nodes > 1 and address.startswith("127."):
        raise ValueError(
            f"rendezvous: {host!r} is the loopback address {address}, which no other node "
            "reaches; give the address of node 0 in the network that the nodes share"
        )
    if hardware.node_rank > 0:
        # No packet is sent: connecting a datagram socket only asks for the route.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
            try:
                route.connect((address, port))
            except OSError as error:
                raise ValueError(f"rendezvous: no route to {host!r} ({error})") from None
            address = route.getsockname()[0]
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return name
    if hardware.nodes > 1 and hardware.node_rank == 0:
        raise ValueError(
            f"rendezvous: {host!r} ({address}) is no address of this machine; "
            "node 0, which runs the notebook, gives one of its own addresses"
        )
    return None


def _only_launch(folder: Path, node_rank: int) -> AbstractContextManager[None]:
    """Hold the folder for one launch of this node."""
    return only_one(
        folder / f".launch-{node_rank}.lock",
        f"another launch is running in {folder}",
        "wait for it, interrupt it, or give this one another folder",
    )


def _run_ranks(launch_file: Path, plan: Launch | None, node_rank: int) -> None:
    """Meet the other nodes, run this node's ranks, and leave the process as it was.

    `plan` is None on a node that joins: it reads the launch that node 0 has opened.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    plan, store = _open(plan) if plan else _enter(launch_file, node_rank)
    hardware, logs = dataclasses.replace(plan.hardware, node_rank=node_rank), Path(plan.logs)
    host, _ = hardware.endpoint()
    arguments = (plan.entry, str(launch_file), hardware.threads_per_rank(), os.getpid())
    before = set(multiprocessing.active_children())
    failure: RuntimeError | None = None
    ended_by: signal.Signals | None = None
    kills = memory_kills()
    with (
        environment(_variables(hardware)),
        signal_handlers(),
        log_file(logs / f"node-{node_rank}.log"),
        Watch(logs, hardware.hang_minutes) as watch,
    ):
        config = LaunchConfig(
            min_nodes=hardware.nodes,
            max_nodes=hardware.nodes,
            nproc_per_node=hardware.processes,
            run_id=plan.name,
            role="rank",
            # The static rendezvous alone numbers the nodes as they are given: rank 0 is on node 0.
            rdzv_backend="static",
            rdzv_endpoint=f"{host}:{store.port}",
            rdzv_configs={"rank": node_rank, "timeout": round(hardware.timeout_minutes * 60)},
            max_restarts=0,
            start_method="spawn",
            logs_specs=rank_logs(logs),
        )
        try:
            elastic_launch(config, run_rank)(*arguments)
        except ChildFailedError as error:
            rank, death = error.get_first_failure()
            failure = rank_failed(rank, death.exitcode, logs, kills)
            if watch.message:
                failure = RankFailed(watch.message, watch.rank)
        except SignalException as error:
            ended_by = error.sigval
        finally:
            end_ranks(set(multiprocessing.active_children()) - before)
    # Raised out here: the launcher's own traceback would only bury that of the rank.
    if failure:
        raise failure
    if ended_by:
        _pass_on(ended_by)


def _variables(hardware: Hardware) -> dict[str, str]:
    """Environment of the ranks, which must be set before they import torch."""
    variables = {
        "OMP_NUM_THREADS": str(hardware.threads_per_rank()),
        # A thread that spins while it waits takes the core from whoever shares the machine.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        # What a rank printed shall be in its log even if it is killed.
        "PYTHONUNBUFFERED": "1",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_SECONDS),
    }
    for name, value in KEEPS_MEMORY.items():
        variables[name] = os.environ.get(name, value)
    if interface := _local_interface(hardware):
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            variables[name] = os.environ.get(name, interface)
    return variables


def _pass_on(number: signal.Signals) -> None:
    """Do with a signal what this process does without a launch, now that the ranks are gone."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.raise_signal(number)
    raise RuntimeError(f"the launch was ended by {number.name}")


# --- meeting the other nodes -------------------------------------------------------------------


def _open(plan: Launch) -> tuple[Launch, Any]:
    """Open the rendezvous on node 0 and wait until every other node has entered.

    Polled from Python: inside torch the wait could not be interrupted.
    """
    store = _store(*plan.hardware.endpoint())
    store.set(f"{plan.name}/open", "1")
    deadline = time.monotonic() + plan.hardware.timeout_minutes * 60
    missing = set(range(1, plan.hardware.nodes))
    while missing:
        for node in sorted(missing):
            if store.check([f"{plan.name}/node-{node}"]):
                missing.remove(node)
                print(f"node {node} is here", flush=True)
        if missing and time.monotonic() > deadline:
            raise TimeoutError(
                f"node {', '.join(map(str, sorted(missing)))} did not join within "
                f"timeout_minutes = {plan.hardware.timeout_minutes}"
            )
        time.sleep(0.1 if missing else 0)
    return plan, store


def _store(host: str, port: int) -> Any:
    """Serve a store on one address, and with port 0 on any free port of it.

    By itself torch listens on all addresses of the machine, whatever host it is given.
    """
    from torch.distributed import TCPStore

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # A port that was left a moment ago can be taken again.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        address, port = listener.getsockname()
        listener.listen()
    except OSError as error:
        listener.close()
        raise RuntimeError(
            f"rendezvous: port {port} of {host} cannot be opened; choose a free one ({error})"
        ) from None
    # From here on the socket is the store's, which closes it.
    return TCPStore(
        address,
        port,
        is_master=True,
        wait_for_workers=False,
        multi_tenant=True,
        master_listen_fd=listener.detach(),
    )


def _enter(launch_file: Path, node_rank: int) -> tuple[Launch, Any]:
    """Wait on another node until node 0 has opened its rendezvous, then enter.

    The file is read anew each time: it may be the last launch's until node 0 rewrites it.
    """
    from torch.distributed import TCPStore

    deadline = None
    while True:
        plan = read_launch(launch_file)
        deadline = deadline or time.monotonic() + plan.hardware.timeout_minutes * 60
        host, port = plan.hardware.endpoint()
        if _listens(host, port):
            try:
                store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=10))
                if store.check([f"{plan.name}/open"]):
                    store.set(f"{plan.name}/node-{node_rank}", "1")
                    print(f"node {node_rank} has joined {plan.name}", flush=True)
                    return plan, store
            except RuntimeError:
                pass  # Node 0 has just closed a rendezvous; it may open the next one.
        if time.monotonic() > deadline:
            raise TimeoutError(f"node 0 did not open {host}:{port}; is its cell running?")
        time.sleep(0.5)


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of a node that joins."""
    parser = argparse.ArgumentParser(
        prog="python -m fgvc_utils.hardware.launch",
        description="Join, as another node, the launch that a notebook cell on node 0 has started.",
    )
    parser.add_argument("launch_file", type=Path, help="the launch.json that the cell names")
    parser.add_argument("--node-rank", type=int, required=True, help="this node's number, from 1")
    options = parser.parse_args(arguments)
    try:
        join(options.launch_file, options.node_rank)
    except ValueError as error:
        parser.error(str(error))
    except (RankFailed, RuntimeError, TimeoutError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
