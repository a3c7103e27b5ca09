"""torch.compile for a fit, where it works."""

import copy

import torch
from torch import nn

from fgvc_utils.core import heartbeat
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.records import Job
from fgvc_utils.training.autotune import autotune
from fgvc_utils.training.callbacks import batch_norms
from fgvc_utils.training.micro_batches import trial_loss

BACKEND = "inductor"


def compiled(
    job: Job, network: nn.Module, micro: int, processes: Processes, progress: Progress
) -> nn.Module:
    """Return a network compiled for the batches of a fit, or itself where that fails.

    It is compiled and tried here, forwards and backwards, so that a failure is found before the
    fit. All processes go the same way; a failure is told in a note.

    Parameters
    ----------
    job : Job
        The fit.
    network : nn.Module
        On the processes' device. It stays as it is, and whoever keeps or judges weights takes it:
        the compiled one shares its tensors, under other names.
    micro : int
        Pictures of a micro-batch: the one shape that is compiled.
    processes, progress
        This process and its peers, and where a failure is told.

    References
    ----------
    Ansel et al., PyTorch 2: faster machine learning through dynamic Python bytecode transformation
    and graph compilation, ASPLOS 2024.
    """
    # A rank takes many jobs; what was compiled for a few of them would reach the compiler's limit.
    torch._dynamo.reset()
    made, problem = torch.compile(network, backend=BACKEND, dynamic=False), ""
    try:
        _try_out(job, network, made, micro, processes.device)
    # Compilers raise almost anything; whatever it is, the fit can do without.
    except Exception as error:
        # Their first line names the compiler, the next one what is wrong.
        said = [line for line in str(error).splitlines() if line.strip()]
        problem = f"{type(error).__name__}: {' '.join(said[:2])}"
    failed = processes.total([float(bool(problem))])[0]
    if not failed:
        return made
    problem = problem or f"it failed on {failed:.0f} of {processes.count} processes"
    progress.note(job.name, f"goes on without compile, which failed ({problem[:300]})")
    torch._dynamo.reset()
    return network


def _try_out(
    job: Job, network: nn.Module, made: nn.Module, micro: int, device: torch.device
) -> None:
    """Compile by one pass of black pictures, and leave the network as it was."""
    kept = copy.deepcopy(network.state_dict())
    network.train()
    if job.freeze_statistics:
        # As in the fit, or it would be compiled a second time there.
        for norm in batch_norms(network):
            norm.eval()
    devices = [device] if device.type == "cuda" else []
    try:
        heartbeat.beat()
        with autotune(False), torch.random.fork_rng(devices=devices):
            trial_loss(job, made, micro, device).backward()
    finally:
        heartbeat.beat()
        network.zero_grad(set_to_none=True)
        network.load_state_dict(kept)
