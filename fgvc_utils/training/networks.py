"""The network of a job: how it starts, in which floats it works, which of its logits count."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from fgvc_utils.jobs.records import Job
from fgvc_utils.training import backbones, balance, starting
from fgvc_utils.training.angular import AngularClassifier, set_angular
from fgvc_utils.training.heads import Head
from fgvc_utils.training.lora import add_adapters
from fgvc_utils.training.material import Material

STANDARDISE_ROWS = 20_000
# The logit of a class that nothing was learnt of.
MASKED = -1e4


class PictureNetwork(nn.Module):
    """A timm network that takes pictures as they are stored: uint8 (batch, 3, size, size)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body.to(memory_format=torch.channels_last)
        mean, deviation = backbones.normalisation(body)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(deviation).view(3, 1, 1) * 255))

    def _normalised(self, pictures: torch.Tensor) -> torch.Tensor:
        floats = (pictures.float() - self.mean) * self.scale
        return floats.contiguous(memory_format=torch.channels_last)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, classes)."""
        return self.body(self._normalised(pictures))

    def features_and_logits(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return penultimate features (batch, width) and logits (batch, classes)."""
        return backbones.features_and_logits(self.body, self._normalised(pictures))

    def get_classifier(self) -> nn.Linear | AngularClassifier:
        """Return the last layer."""
        return self.body.get_classifier()


def new_network(job: Job, material: Material) -> nn.Module:
    """Return the network of a job before it learns: the same in every process, from its seed.

    Parameters
    ----------
    job : Job
        Names the backbone, its weights and their settings, or the stores that a head reads.
    material : Material
        Its rows: a head standardises by their features, and `balance` needs the class counts.

    Returns
    -------
    nn.Module
        A PictureNetwork, or for `fit: head` a Head.

    Raises
    ------
    ValueError
        Where the backbone or its weights cannot be had, its last layer cannot be that of `arcface`,
        or the weights of another job do not fit.

    References
    ----------
    Menon et al., Long-tail learning via logit adjustment, ICLR 2021, for `balance: prior`.
    """
    torch.manual_seed(job.seed)
    if job.fit != "head":
        network = PictureNetwork(
            backbones.create_network(
                job.backbone,
                job.weights,
                len(job.classes),
                size=job.size,
                dropout=job.dropout,
                drop_path=job.drop_path,
                gradient_checkpointing=job.gradient_checkpointing,
            )
        )
        if job.classifier == "arcface":
            set_angular(network.body, job.arcface_centres, job.arcface_scale)
        starting.begin(network, job)
        if job.trained:
            began = starting.copied(network) if job.tuned_share < 1 else {}
            starting.load_model(network, Path(job.trained), job)
            starting.interpolate(network, began, job.tuned_share)
        if job.fit == "full" and job.lora_rank:
            add_adapters(network, job.backbone, job.lora_rank, job.lora_alpha)
    else:
        widths = [store.read("features", material.ids[:1]).shape[1] for store in material.stores]
        rows = material.fit_rows[:: max(1, len(material.fit_rows) // STANDARDISE_ROWS)]
        ids = [material.ids[row] for row in rows]
        train = np.concatenate([store.read("features", ids) for store in material.stores], axis=1)
        network = Head(
            torch.from_numpy(train).float(),
            widths,
            len(job.classes),
            job.head,
            job.dropout,
            job.head_scale == "common",
        )
    if job.balance == "prior" and job.fit != "none":
        bias = torch.from_numpy(balance.log_prior(material.counts))
        backbones.freeze_bias(network.get_classifier(), bias)
    return network


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return what forward passes are computed in; None leaves them in float32.

    Parameters
    ----------
    precision : str
        Of the job; `auto` is bfloat16 on CUDA and float32 elsewhere, since a CPU without matrix
        units for bfloat16 takes twice as long.
    device : torch.device
        Where the network is.
    """
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" else "float32"
    return torch.bfloat16 if precision == "bfloat16" else None


def without_prior(logits: torch.Tensor, network: nn.Module, job: Job) -> torch.Tensor:
    """Return logits (batch, classes) without the frozen log prior, unless the job keeps it."""
    if job.balance == "prior" and not job.keep_prior:
        return logits - network.get_classifier().bias
    return logits
