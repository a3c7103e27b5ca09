"""The largest micro-batch that fits in memory, found by trying."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from torch import nn

from fgvc_utils.core import heartbeat
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.jobs.records import Job
from fgvc_utils.training.autotune import autotune
from fgvc_utils.training.callbacks import RADAM, plain_network
from fgvc_utils.training.losses import objective_of
from fgvc_utils.training.networks import autocast_dtype

# A trial may take so much of a GPU's memory: the rest is for what a fit holds beside the trial,
# such as the batch to come and the gradients that travel between processes.
SHARE_OF_GPU = 0.9
# On a CPU, activations may take so much of the memory that is free: as much again comes and goes.
SHARE_OF_RAM = 0.5


def divisors(number: int) -> list[int]:
    """Return the whole numbers by which another one can be divided, the largest first."""
    return [each for each in range(number, 0, -1) if number % each == 0]


def largest_micro_batch(job: Job, network: nn.Module, processes: Processes) -> int:
    """Find the largest equal part of a process's share of the global batch that fits in memory.

    On CUDA two real steps are taken at each size, from the largest on, until no process runs out of
    memory. On a CPU, which would run out without a word, the size follows from the activations of
    two pictures and the memory that is free. Network and random numbers stay as they are.

    Parameters
    ----------
    job : Job
        Its `global_batch` is a multiple of the processes.
    network : nn.Module
        The job's, on the processes' device.
    processes : Processes
        This process and its peers, which all call this and get the same answer.

    Raises
    ------
    MemoryError
        Where not even one picture fits.
    """
    share = job.global_batch // processes.count
    if job.fit != "full":
        # A row of features is next to nothing.
        return share
    cuda = processes.device.type == "cuda"
    most = share if cuda else _most_on_cpu(job, network, processes.count)
    with autotune(False):
        for micro in divisors(share):
            fits = _two_steps_fit(job, network, micro, processes.device) if cuda else micro <= most
            if processes.total([float(fits)])[0] == processes.count:
                return micro
    raise MemoryError(
        f"job {job.name}: the memory does not hold the step of a single picture of {job.size} px; "
        "lower size, or set gradient_checkpointing"
    )


def _batch(job: Job, images: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Black pictures and empty targets as a fit of the job has them."""
    width = len(job.classes) * (2 if job.teacher_weight else 1)
    pictures = torch.zeros(images, job.size, job.size, 3, dtype=torch.uint8, device=device)
    return pictures.permute(0, 3, 1, 2), torch.zeros(images, width, device=device)


def trial_loss(job: Job, network: nn.Module, images: int, device: torch.device) -> torch.Tensor:
    """Return the loss of a network in training on so many black pictures, as a fit computes it.

    Parameters
    ----------
    job : Job
        The fit.
    network : nn.Module
        On `device`, set to training. Statistics of BatchNorm and random numbers move on.
    images : int
        How many.
    device : torch.device
        Where.
    """
    pictures, targets = _batch(job, images, device)
    dtype = autocast_dtype(job.precision, device)
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        logits = network(pictures)
        return objective_of(job, plain_network(network))(logits.float(), targets)


def _two_steps_fit(job: Job, network: nn.Module, micro: int, device: torch.device) -> bool:
    """Whether two steps of so many pictures, gradients and optimiser's state kept, fit on a GPU."""
    heartbeat.beat()
    fits = True
    torch.cuda.set_per_process_memory_fraction(SHARE_OF_GPU, device)
    try:
        with torch.random.fork_rng(devices=[device]):
            _take_two_steps(job, network, micro, device)
    except torch.cuda.OutOfMemoryError:
        fits = False
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    # Only here, where the error is gone, does nothing hold the trial's tensors any more.
    torch.cuda.empty_cache()
    return fits


def _take_two_steps(job: Job, network: nn.Module, micro: int, device: torch.device) -> None:
    # The network itself stays beside it, as an average of the weights would.
    trial = copy.deepcopy(network).train()
    # Of the kit's optimisers none holds more for a weight.
    optimiser = RADAM([each for each in trial.parameters() if each.requires_grad], lr=1e-6)
    for _ in range(2):
        trial_loss(job, trial, micro, device).backward()
        optimiser.step()


def _most_on_cpu(job: Job, network: nn.Module, processes: int) -> int:
    """How many pictures' activations fit in this process's share of the free memory."""
    each = max(1, activation_bytes(job, network))
    return max(1, int(SHARE_OF_RAM * free_memory() / processes / each))


def activation_bytes(job: Job, network: nn.Module) -> int:
    """Return what a forward pass in training keeps for the backward one, bytes a picture.

    Parameters
    ----------
    job : Job
        The fit.
    network : nn.Module
        On the CPU; it stays as it is.
    """
    trial = copy.deepcopy(network).train()
    own = {tensor.untyped_storage().data_ptr() for tensor in trial.state_dict().values()}
    with _kept_for_backward() as kept, torch.random.fork_rng(devices=[]):
        # One picture alone has no variance for BatchNorm to take.
        trial_loss(job, trial, 2, torch.device("cpu"))
    return sum(size for place, size in kept.items() if place not in own) // 2


@contextmanager
def _kept_for_backward() -> Iterator[dict[int, int]]:
    """Note the storages that autograd keeps within a block: address → bytes."""
    kept: dict[int, int] = {}
    held = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        # Held until the end, or its address would serve another tensor.
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield kept


def free_memory() -> int:
    """Return how many bytes a process may still take: of the machine, and of its container."""
    free = psutil.virtual_memory().available
    limit, used = (Path("/sys/fs/cgroup") / f"memory.{name}" for name in ("max", "current"))
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()) != "max":
        free = min(free, int(most) - int(used.read_text()))
    return max(0, free)
