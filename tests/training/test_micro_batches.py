"""micro_batch 0: the largest equal part of a step that fits, and the same steps."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small_jobs import draw_pictures, small_job

from fgvc_utils.contest.parameters import ParameterError, accumulation
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress, read_events
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training import micro_batches
from fgvc_utils.training.material import Material
from fgvc_utils.training.micro_batches import divisors, largest_micro_batch
from fgvc_utils.training.networks import new_network
from fgvc_utils.training.worker import carry_out

pytestmark = pytest.mark.usefixtures("one_thread")
CUDA = torch.device("cuda")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return draw_pictures(tmp_path_factory.mktemp("pictures"), 64)


def network_of(job, rows):
    write_job(job, rows)
    return new_network(job, Material(job))


def test_divisors_come_largest_first():
    assert divisors(12) == [12, 6, 4, 3, 2, 1] and divisors(7) == [7, 1] and divisors(1) == [1]


def test_a_step_is_checked_before_its_pieces_are_known():
    cut = accumulation(96, 0, 4)
    assert (cut.processes, cut.micro_batch, cut.steps) == (4, 24, 1)
    with pytest.raises(ParameterError, match="global_batch 30 is not a multiple of 4 processes"):
        accumulation(30, 0, 4)


@pytest.mark.parametrize(("fitting", "found"), [(100, 32), (31, 16), (12, 8), (1, 1)])
def test_on_a_gpu_sizes_are_tried_from_the_largest_on(tmp_path, monkeypatch, fitting, found):
    tried = []

    def fits(job, network, micro, device):
        tried.append(micro)
        return micro <= fitting

    monkeypatch.setattr(micro_batches, "_two_steps_fit", fits)
    job = small_job(tmp_path, micro_batch=0)
    assert largest_micro_batch(job, None, Processes(device=CUDA)) == found
    assert tried == [size for size in (32, 16, 8, 4, 2, 1) if size >= found]


@dataclass(frozen=True)
class WithPeer(Processes):
    """Two processes, of which the other one says how much it holds."""

    peer_holds: int = 0

    def total(self, values):
        sizes = micro_batches.tried_sizes
        return [values[0] + float(sizes[-1] <= self.peer_holds)]


@pytest.mark.parametrize(("own", "peer", "found"), [(16, 4, 4), (2, 16, 2), (16, 16, 16)])
def test_all_processes_take_what_the_smallest_holds(tmp_path, monkeypatch, own, peer, found):
    sizes = []
    monkeypatch.setattr(micro_batches, "tried_sizes", sizes, raising=False)

    def fits(job, network, micro, device):
        sizes.append(micro)
        return micro <= own

    monkeypatch.setattr(micro_batches, "_two_steps_fit", fits)
    job = small_job(tmp_path, micro_batch=0)
    processes = WithPeer(count=2, device=CUDA, peer_holds=peer)
    assert largest_micro_batch(job, None, processes) == found


def test_a_picture_that_does_not_fit_alone_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(micro_batches, "_two_steps_fit", lambda *_: False)
    with pytest.raises(MemoryError, match="a single picture of 32 px; lower size, or set gradient"):
        largest_micro_batch(small_job(tmp_path), None, Processes(device=CUDA))


@pytest.mark.parametrize("runs_out", [False, True])
def test_a_gpu_that_runs_out_of_memory_says_no_and_gets_its_limit_back(monkeypatch, runs_out):
    limits, emptied = [], []

    def steps(*_):
        assert limits == [micro_batches.SHARE_OF_GPU]
        if runs_out:
            raise torch.cuda.OutOfMemoryError("full")

    def limit(share, device):
        limits.append(share)

    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limit)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: torch.no_grad())
    monkeypatch.setattr(micro_batches, "_take_two_steps", steps)
    assert micro_batches._two_steps_fit(None, None, 4, CUDA) is not runs_out
    assert limits == [micro_batches.SHARE_OF_GPU, 1.0] and emptied == [True]


@pytest.mark.parametrize("backbone", ["test_convnext", "test_efficientnet"])
def test_the_trial_leaves_the_network_as_it_is(rows, tmp_path, backbone):
    job = small_job(tmp_path, backbone=backbone, teacher_weight=0.5, dropout=0.2)
    network = network_of(small_job(tmp_path, backbone=backbone), rows)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    micro_batches._take_two_steps(job, network, 4, torch.device("cpu"))
    torch.manual_seed(0)
    drawn = torch.get_rng_state()
    assert micro_batches.activation_bytes(job, network) > 0
    assert torch.equal(torch.get_rng_state(), drawn)
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_activations_grow_with_the_picture_and_not_with_the_weights(rows, tmp_path):
    sizes = {}
    for size in (32, 64):
        job = small_job(tmp_path, size=size, backbone="test_efficientnet")
        sizes[size] = micro_batches.activation_bytes(job, network_of(job, rows))
    assert 3.5 < sizes[64] / sizes[32] < 4.5
    # At least the normalised picture itself is kept.
    assert sizes[32] > 3 * 32 * 32 * 4


def test_on_a_cpu_free_memory_is_shared_out(rows, tmp_path, monkeypatch):
    job = small_job(tmp_path, micro_batch=0, backbone="test_efficientnet")
    network = network_of(job, rows)
    each = micro_batches.activation_bytes(job, network)
    for pictures, found in ((1000, 32), (20, 8), (0, 1)):
        monkeypatch.setattr(micro_batches, "free_memory", lambda n=pictures: 2 * n * each // 2)
        assert largest_micro_batch(job, network, Processes()) == found
    assert largest_micro_batch(job.model_copy(update={"fit": "head"}), None, Processes()) == 32


def test_free_memory_is_what_the_machine_has_or_its_container_leaves(monkeypatch):
    files = {
        "/sys/fs/cgroup/memory.max": "max\n",
        "/sys/fs/cgroup/memory.current": "1024\n",
    }
    machine = SimpleNamespace(available=600 * 1024)
    monkeypatch.setattr(micro_batches.psutil, "virtual_memory", lambda: machine)
    monkeypatch.setattr(Path, "read_text", lambda path, *_: files[str(path)])
    monkeypatch.setattr(Path, "is_file", lambda path: str(path) in files)
    assert micro_batches.free_memory() == 600 * 1024
    files["/sys/fs/cgroup/memory.max"] = str(300 * 1024)
    assert micro_batches.free_memory() == 299 * 1024
    del files["/sys/fs/cgroup/memory.max"]
    assert micro_batches.free_memory() == 600 * 1024


@pytest.mark.parametrize(("holds", "micro"), [(10**6, 32), (9, 8)])
def test_the_steps_are_those_of_the_size_that_was_found(rows, tmp_path, monkeypatch, holds, micro):
    def weights(job):
        write_job(job, rows)
        carry_out(job, Processes(), progress)
        return load_file(Path(job.folder) / "weights.safetensors")

    monkeypatch.setattr(micro_batches, "_most_on_cpu", lambda *_: holds)
    progress = Progress(tmp_path / "events.jsonl")
    found = small_job(tmp_path / "found", micro_batch=0, dropout=0.3, backbone="test_efficientnet")
    given = found.elsewhere(tmp_path / "given", "given", micro_batch=micro)
    one, other = weights(found), weights(given)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert read_events(progress.path)[0][0]["text"] == f"takes {micro} images at once"
    logs = [pd.read_csv(Path(job.folder) / "log.csv") for job in (found, given)]
    assert (logs[0]["micro_batch"] == micro).all() and "micro_batch" not in logs[1]
