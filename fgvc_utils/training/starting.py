"""Weights that go from one job to another: an earlier model's, at another size too, a probe's.

Further: how they are written, and what lies between two states of one network.
"""

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from fgvc_utils.core.files import whole_file
from fgvc_utils.core.naming import first_few
from fgvc_utils.jobs.records import WEIGHTS, Job
from fgvc_utils.training.weights import in_order, read_state

BODY = "body."


def begin(network: nn.Module, job: Job) -> None:
    """Give a network of pictures the weights that its job begins with, beside its pretrained ones.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    job : Job
        Its `start_weights` are all that an earlier model learned, its `probe` is a linear head on
        the features of the network as it is then.

    Raises
    ------
    ValueError
        Naming a file that does not fit.

    References
    ----------
    Kumar et al., Fine-tuning can distort pretrained features and underperform out-of-distribution,
    ICLR 2022, for the probe.
    """
    if job.start_weights:
        load_model(network, Path(job.start_weights), job)
    if job.probe:
        fold_probe(network.get_classifier(), Path(job.probe), job)


def load_model(network: nn.Module, file: Path, job: Job) -> None:
    """Give a network all that another job learned, at any size of pictures, its classifier too.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    file : Path
        The weights.safetensors of the other job.
    job : Job
        Which knows the same classes.

    Raises
    ------
    ValueError
        Naming the file, where it was trained for other classes, does not fit, or is spoilt.
    """
    state = read_state(file, "train the model again")
    _same_classes(file, job)
    try:
        network.load_state_dict(resized(state, network, f"{file} of {job.backbone}"))
    except RuntimeError as error:
        raise ValueError(
            f"{file} does not fit {job.backbone}: it is of another network ({error})"
        ) from error


def resized(
    state: dict[str, torch.Tensor], network: nn.Module, what: str
) -> dict[str, torch.Tensor]:
    """Return a state whose position embeddings have the sizes that a network has for its pictures.

    It is timm's own resampling, of embeddings and of tables of relative positions. What has the
    network's size already stays as it is.

    Parameters
    ----------
    state : dict
        Tensors of a network of pictures of the same kind by name.
    network : nn.Module
        The network that they are for.
    what : str
        The state, for messages.

    Raises
    ------
    ValueError
        Where timm cannot resize what differs.
    """
    own = network.state_dict()
    other = [name for name in state if name in own and state[name].shape != own[name].shape]
    if not other:
        return state
    body = getattr(network, "body", network)
    # timm keeps a family's resampling in the module of its class, beside its old names.
    convert = getattr(sys.modules[type(body).__module__], "checkpoint_filter_fn", None)
    tensors = {name.removeprefix(BODY): tensor for name, tensor in state.items()}
    made = convert(tensors, body) if convert else {}
    fitting = {name: made.get(name.removeprefix(BODY), state[name]) for name in other}
    left = [name for name in other if fitting[name].shape != own[name].shape]
    if left:
        raise ValueError(
            f"{what} does not fit at this size: {first_few(left)} cannot be resized; give the "
            "earlier model's own size and backbone"
        )
    return state | fitting


def fold_probe(classifier: nn.Module, file: Path, job: Job) -> None:
    """Give a classifier the weights of a linear head on the features that it sees.

    The head's standardising is folded into its layer, so that the logits are the head's.

    Parameters
    ----------
    classifier : nn.Module
        A linear layer, changed in place.
    file : Path
        The weights.safetensors of a job of `fit: head`.
    job : Job
        Which knows the same classes.

    Raises
    ------
    ValueError
        Naming the file, where it is of other classes, or of features of another width.
    """
    state = read_state(file, "fit the probe again")
    _same_classes(file, job)
    [last] = {name.rpartition(".")[0] for name in state} - {"0"}
    # A bias that is not centred away: `balance: prior` has its own.
    scale, mean, weight = state["0.scale"], state["0.mean"], state[f"{last}.weight"]
    own = getattr(classifier, "weight", None)
    if not isinstance(classifier, nn.Linear) or own.shape != weight.shape:
        raise ValueError(
            f"the probe {file} is a linear layer of {tuple(weight.shape)}, which is not what "
            f"{job.backbone} ends with; set start_head to random"
        )
    with torch.no_grad():
        classifier.weight.copy_(weight * scale)
        classifier.bias.copy_(state[f"{last}.bias"] - (weight * scale) @ mean)


def _same_classes(file: Path, job: Job) -> None:
    metadata = {}
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
    if "classes" not in metadata:
        raise ValueError(
            f"{file} does not say which classes it was trained for, so it is no model of "
            "this kit; give it as weights instead"
        )
    classes = metadata["classes"].split("\n")
    if classes != job.classes:
        raise ValueError(
            f"{file} was trained for {len(classes)} other classes than job {job.name} knows"
        )


def copied(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return a network's tensors by name, as they are now."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@torch.no_grad()
def interpolate(network: nn.Module, began: dict[str, torch.Tensor], share: float) -> None:
    """Bring all floats of a network to between what they were and what they are.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    began : dict
        Its tensors as they were, by name; what is missing stays.
    share : float
        0 to 1, of what they are now. 0 and 1 are the two ends exactly.

    References
    ----------
    Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022 (WiSE-FT).
    """
    for name, tensor in network.state_dict().items():
        if name in began and tensor.is_floating_point() and share < 1:
            tensor.copy_(share * tensor + (1 - share) * began[name] if share else began[name])


def keep_weights(job: Job, network: nn.Module, name: str = WEIGHTS) -> None:
    """Write a network's tensors, its classes and its backbone into the job's folder.

    Parameters
    ----------
    job : Job
        The job.
    network : nn.Module
        On any device.
    name : str
        Of the file.
    """
    state = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    metadata = {"classes": "\n".join(job.classes), "backbone": job.backbone}
    with whole_file(Path(job.folder) / name) as temporary:
        temporary.write_bytes(in_order(save(state, metadata)))
