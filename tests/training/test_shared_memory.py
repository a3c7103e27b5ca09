"""Workers where there is little shared memory, as in a container: they do without it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_jobs import draw_pictures, small_job

from fgvc_utils.core import shared_memory
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training.feed import InTurn, as_arrays, from_arrays, stack
from fgvc_utils.training.loading import ThroughPipes, loader
from fgvc_utils.training.material import Material
from fgvc_utils.training.worker import carry_out

# Carries a job out with two workers; its pictures are more than the shared memory that it has.
CARRY_OUT = """
import sys
import torch
from fgvc_utils.core import shared_memory
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.records import read_job
from fgvc_utils.training.worker import carry_out

assert shared_memory.free_bytes() <= 2**20, shared_memory.free_bytes()
torch.set_num_threads(int(sys.argv[2]))
carry_out(read_job(sys.argv[1]), Processes(workers=2), Progress(None))
"""
SMALL = "mount -t tmpfs -o size=1m tmpfs /dev/shm"


def test_what_workers_need_is_held_against_what_is_free_for_each_rank(monkeypatch):
    assert shared_memory.needed_bytes(0, 1000) == 0
    assert shared_memory.needed_bytes(3, 1000) == 13_000
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: 20_000)
    assert shared_memory.suffices(3, 1000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert not shared_memory.suffices(3, 1000)
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: None)
    assert shared_memory.suffices(3, 10**12)


def test_arrays_keep_values_and_the_layout_in_memory():
    pictures = stack([torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8) for _ in range(4)])
    batch = (pictures, torch.tensor([[0, 1]] * 4), torch.rand(4, 5))
    arrays = as_arrays(batch)
    assert all(array.flags["C_CONTIGUOUS"] for array in arrays)
    for before, after in zip(batch, from_arrays(arrays), strict=True):
        assert torch.equal(before, after) and before.stride() == after.stride()


def test_batches_are_the_same_either_way(tmp_path, monkeypatch):
    rows = draw_pictures(tmp_path / "pictures", 40)
    job = small_job(tmp_path / "job")
    write_job(job, rows)
    pictures, turn = Material(job).test_pictures(), InTurn(np.arange(40), 16)
    shared = list(loader(pictures, turn, Processes(workers=1)))
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: 0)
    piped = loader(pictures, turn, Processes(workers=1))
    assert isinstance(piped, ThroughPipes)
    for one, other in zip(shared, piped, strict=True):
        for before, after in zip(one, other, strict=True):
            assert torch.equal(before, after) and before.stride() == after.stride()
    assert not isinstance(loader(pictures, turn, Processes(workers=0)), ThroughPipes)


@pytest.mark.slow
def test_a_job_with_workers_needs_no_shared_memory(tmp_path):
    if subprocess.run(["unshare", "--mount", "sh", "-c", SMALL], capture_output=True).returncode:
        pytest.skip("a small /dev/shm needs root and `unshare`")
    rows, made = draw_pictures(tmp_path / "pictures", 96), {}
    for name in ("plain", "small"):
        made[name] = small_job(tmp_path / name, size=64)
        write_job(made[name], rows)
    carry_out(made["plain"], Processes(), Progress(None))
    script = tmp_path / "carry_out.py"
    script.write_text(CARRY_OUT)
    command = f'{SMALL} && exec "$0" "$@"'
    # Sums of floats depend on the number of threads.
    arguments = [str(made["small"].job_file), str(torch.get_num_threads())]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = (load_file(Path(job.folder) / "weights.safetensors") for job in made.values())
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
