"""Low-rank adapters of attention and MLP layers: a large network is tuned by few weights.

The layers' own weights stay as they came; beside each, two thin matrices are trained, and so is the
classifier. Norms, embeddings and biases are not. In the end the product of the two is added to the
layer's weights, so that what predicts and what is written is a plain network.

References
----------
Hu et al., LoRA: low-rank adaptation of large language models, ICLR 2022.
"""

import copy
import importlib.util
import re

from torch import nn

# The layers of attention and MLPs, in timm's names.
ADAPTED = re.compile(r"(^|\.)(attn|attn_pool|mlp)\.[^.]+$")
# Where it is False, timm takes the layer's weights past what stands in its place (EVA, SwinV2,
# BEiT); where it is True, it adds the bias later, which is the same sum.
SEPARATE = "qkv_bias_separate"
# Counts as True, and is told from it when the adapters go.
_BORROWED = 2


def adapted_layers(network: nn.Module) -> list[str]:
    """Return the names of the fully connected layers of attention and MLPs, but the classifier."""
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and ADAPTED.search(name)
    ]


def check_adapters(network: nn.Module, backbone: str) -> None:
    """Raise ValueError where a network has no layer to adapt, or peft is not installed."""
    if not adapted_layers(network):
        raise ValueError(
            f"lora_rank: {backbone!r} has no fully connected layers of attention or an MLP; set "
            "lora_rank to 0"
        )
    if importlib.util.find_spec("peft") is None:
        raise ValueError("lora_rank needs the package peft: install it, or set lora_rank to 0")


def add_adapters(network: nn.Module, backbone: str, rank: int, alpha: float) -> None:
    """Put adapters beside all layers of attention and MLPs; only they and the classifier learn.

    They change nothing before the first step. The same random numbers give the same adapters.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    backbone : str
        Its name, for messages.
    rank : int
        Inner width of an adapter, at least 1.
    alpha : float
        The adapter's product is multiplied by alpha / rank.

    Raises
    ------
    ValueError
        Where there is nothing to adapt, or peft is not installed.
    """
    check_adapters(network, backbone)
    # It takes seconds, and other fits need nothing of it.
    from peft import LoraConfig, inject_adapter_in_model

    for module in network.modules():
        if getattr(module, SEPARATE, True) is False:
            setattr(module, SEPARATE, _BORROWED)
    learns = {n for n, each in network.get_classifier().named_parameters() if each.requires_grad}
    layers = adapted_layers(network)
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers, lora_dropout=0.0), network
    )
    for name, parameter in network.get_classifier().named_parameters():
        parameter.requires_grad_(name in learns)


def merged(network: nn.Module) -> nn.Module:
    """Return a network with its adapters added to its weights: a plain one, in its own names.

    Parameters
    ----------
    network : nn.Module
        It stays as it is; what comes back shares no weights with it. One without adapters comes
        back itself.
    """
    if not any(".lora_A." in name for name, _ in network.named_parameters()):
        return network
    from peft.tuners.lora import LoraLayer

    plain = copy.deepcopy(network)
    for name, module in list(plain.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge(safe_merge=False)
            parent, _, own = name.rpartition(".")
            setattr(plain.get_submodule(parent), own, module.get_base_layer())
        if getattr(module, SEPARATE, None) == _BORROWED:
            setattr(module, SEPARATE, False)
    return plain.requires_grad_(True)
