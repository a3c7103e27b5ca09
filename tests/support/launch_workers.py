"""Small entries for the tests of the launcher; ranks import them by name."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from fgvc_utils.hardware.distributed import joined
from fgvc_utils.hardware.plan import read_launch
from fgvc_utils.hardware.progress import Progress


def _rank() -> int:
    return int(os.environ["RANK"])


def _job(launch_file: str) -> dict:
    return json.loads(Path(read_launch(launch_file).jobs[0]).read_text())


def _sum_of_ranks() -> int:
    total = torch.tensor([_rank() + 1])
    if dist.is_initialized():
        dist.all_reduce(total)
    return int(total)


def reduce(launch_file: str) -> None:
    """Sum rank + 1 over all ranks; each rank writes what it saw to a file of its own."""
    with joined("cpu", 0, 30):
        total = _sum_of_ranks()
    seen = {
        "process": os.getpid(),
        "sum": total,
        "world": int(os.environ["WORLD_SIZE"]),
        "node": int(os.environ["GROUP_RANK"]),
        "threads": torch.get_num_threads(),
        "omp": os.environ["OMP_NUM_THREADS"],
        "loaders": torch.multiprocessing.get_start_method(),
    }
    print(f"rank {_rank()} of {seen['world']} on node {seen['node']}: the sum is {total}")
    out = Path(launch_file).parent / f"seen-{_rank()}.json"
    out.write_text(json.dumps(seen))
    launch = read_launch(launch_file)
    progress = Progress(launch.events if _rank() == 0 else None)
    progress.figures("reduce", "all-reduce", sum=total)
    progress.finished("reduce", 0)


def epochs(launch_file: str) -> None:
    """Steps and epochs at a pace that a display can follow."""
    launch = read_launch(launch_file)
    progress = Progress(launch.events if _rank() == 0 else None)
    for number, _ in enumerate(launch.jobs):
        job = f"job-{number}"
        for epoch in range(2):
            for step in range(60):
                time.sleep(0.02)
                progress.step(job, epoch * 60 + step + 1, 120, f"epoch {epoch + 1}/2")
            progress.figures(job, f"epoch {epoch + 1}/2", loss=1 / (epoch + 2))
        progress.finished(job, 2.4)
        print(f"this stays in the log: {job}")


def fail(launch_file: str) -> None:
    """The rank that the job names raises while the others wait for it."""
    with joined("cpu", 0, 30):
        if _rank() == _job(launch_file)["rank"]:
            raise ZeroDivisionError(f"thrown on purpose by rank {_rank()}")
        _sum_of_ranks()


def leave(launch_file: str) -> None:
    """The rank that the job names is ended, or leaves, while the others wait for it."""
    with joined("cpu", 0, 30):
        if _rank() == _job(launch_file)["rank"]:
            print("the last words on stdout")
            print("the last words on stderr", file=sys.stderr)
            if _job(launch_file)["way"] == "SIGKILL":
                os.kill(os.getpid(), signal.SIGKILL)
            sys.exit()
        _sum_of_ranks()


class _Slow(Dataset):
    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> torch.Tensor:
        time.sleep(0.05)
        return torch.tensor([index])


def _take_long(worker: int) -> None:
    time.sleep(5)


def load_for_ever(launch_file: str) -> None:
    """Train on a loader with worker processes until ended; writes the process ids when it runs.

    With `starting` in the job, the ids are there while the workers are still starting.
    """
    starting = _job(launch_file).get("starting", False)
    with joined("cpu", 0, 30):
        data = DataLoader(
            _Slow(), batch_size=4, num_workers=2, worker_init_fn=_take_long if starting else None
        )
        loader = iter(data)
        if not starting:
            next(loader)
        workers = [process.pid for process in loader._workers]
        out = Path(launch_file).parent / f"processes-{_rank()}.json"
        out.write_text(json.dumps([os.getpid(), *workers]))
        for _ in loader:
            _sum_of_ranks()


def hang(launch_file: str) -> None:
    """Deaf to interrupts, as a rank is that waits inside a library."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    (Path(launch_file).parent / f"processes-{_rank()}.json").write_text(json.dumps([os.getpid()]))
    time.sleep(3600)


def listen(launch_file: str) -> None:
    """Meet the other ranks; each writes the addresses that it and the launcher listen on."""
    with joined("cpu", 0, 30) as processes:
        processes.wait()
        own = psutil.Process()
        found = [listening(own), listening(own.parent())]
        # Nobody leaves, and closes what it has open, before all have looked.
        processes.wait()
    (Path(launch_file).parent / f"listening-{_rank()}.json").write_text(json.dumps(found))


def listening(process: psutil.Process) -> list[str]:
    """The network addresses on which a process waits for connections, without their ports."""
    connections = process.net_connections("inet")
    return sorted(one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN)


def stall(launch_file: str) -> None:
    """Both ranks show signs of life; then the one that the job names stops, deaf to interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    progress = Progress(None)
    with joined("cpu", 0, 30):
        for step in range(100_000):
            progress.step("job", step, 100_000)
            time.sleep(0.05)
            if step == 30 and _rank() == _job(launch_file)["rank"]:
                _wait_for_a_lock_that_nobody_gives_back()


def _wait_for_a_lock_that_nobody_gives_back() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
