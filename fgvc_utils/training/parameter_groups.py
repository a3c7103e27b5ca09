"""Which weights of a network an optimiser takes together: their share of the rate, their decay."""

from typing import Any

from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from fgvc_utils.jobs.records import Job

# What a group's rate is multiplied by, under the name that timm gives it.
SCALE = "lr_scale"


def parameter_groups(network: nn.Module, job: Job) -> list[Any]:
    """Return the trainable weights of a network as torch's optimisers take them.

    Parameters
    ----------
    network : nn.Module
        A network of pictures or a head on stored features, not wrapped.
    job : Job
        Of it count `layer_decay`, `head_lr_scale`, `decay_norms` and `weight_decay`.

    Returns
    -------
    list of Parameter or of dict
        The parameters themselves where all have one rate and one decay. Otherwise timm's groups,
        each with `params`, `weight_decay` and `lr_scale`: layer_decay to the power of the layers
        that lie between the group and the classifier, whose own is `head_lr_scale`.

    References
    ----------
    Bao et al., BEiT: BERT pre-training of image transformers, ICLR 2022, for layer-wise decay of
    the rate. Howard and Ruder, Universal language model fine-tuning for text classification, ACL
    2018, who began it.
    """
    if job.layer_decay == 1 and job.head_lr_scale == 1 and job.decay_norms:
        return [weight for weight in network.parameters() if weight.requires_grad]
    # The network of pictures only brings them to mean 0: its layers are those of its body.
    layers = getattr(network, "body", network)
    undecayed = set()
    if not job.decay_norms and hasattr(layers, "no_weight_decay"):
        undecayed = layers.no_weight_decay()
    settings = {
        "weight_decay": job.weight_decay,
        "weight_decay_exclude_1d": not job.decay_norms,
        "no_weight_decay_list": undecayed,
    }
    if job.layer_decay == 1:
        groups = param_groups_weight_decay(layers, **settings)
    else:
        groups = param_groups_layer_decay(layers, layer_decay=job.layer_decay, **settings)
    head = {id(weight) for weight in network.get_classifier().parameters()}
    return [part for group in groups for part in _without_head(group, head, job.head_lr_scale)]


def _without_head(group: dict, head: set[int], scale: float) -> list[dict]:
    """A group without the classifier's weights, and these as a group of their own rate."""
    own = [weight for weight in group["params"] if id(weight) in head]
    rest = [weight for weight in group["params"] if id(weight) not in head]
    parts = [
        {"params": rest, SCALE: group.get(SCALE, 1.0)},
        {"params": own, SCALE: scale},
    ]
    return [{"weight_decay": group["weight_decay"], **part} for part in parts if part["params"]]
