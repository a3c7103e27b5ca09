"""Weights as they are published, brought to timm's names and to the size of a network.

What is known of each family's layouts is timm's own: CLIP and open_clip (`visual.…`), the original
DINOv2 and DINOv3, SwinV2, ConvNeXt, EVA. It also resizes position embeddings and patches.
"""

from importlib import import_module
from typing import Any

import torch
from timm.models import model_entrypoint
from torch import nn

# Names under which files of weights keep them beside other things.
WITHIN = ("state_dict_ema", "model_ema", "state_dict", "model", "module", "teacher")
# What parallel training, torch.compile and DINOv2's training put before each name.
BEFORE = ("module.", "_orig_mod.", "backbone.")
ADVICE = "they are of another network, so name that one as backbone, or other weights"


def unwrapped(state: dict[str, Any]) -> dict[str, Any]:
    """Return the named tensors of a file that keeps them within a record, or under a prefix."""
    for name in WITHIN:
        if isinstance(state.get(name), dict):
            return unwrapped(state[name])
    for prefix in BEFORE:
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        # DINOv2 keeps the heads of its training beside the network.
        if own and (len(own) == len(state) or "backbone." == prefix):
            return unwrapped(own)
    return state


def fitting_body(
    network: nn.Module, architecture: str, state: dict[str, torch.Tensor], what: str
) -> dict[str, torch.Tensor]:
    """Return a network's own tensors from a file of any layout that timm knows.

    Parameters
    ----------
    network : nn.Module
        A timm network, which may be without memory for its weights.
    architecture : str
        timm's name of it.
    state : dict
        Named tensors as they were read.
    what : str
        What they are, for messages: names the file and the network.

    Returns
    -------
    dict
        All tensors of the network but its classifier's, in its names and of its shapes.

    Raises
    ------
    ValueError
        Naming the first tensor that differs, where they do not fit.
    """
    classifier = network.get_classifier()
    head = next(name for name, module in network.named_modules() if module is classifier) + "."
    own = {key: v for key, v in network.state_dict().items() if not key.startswith(head)}
    given = unwrapped(state)
    body = _converted(network, architecture, given, what)
    body = {key: value for key, value in body.items() if not key.startswith(head)}
    for key in own:
        if key in body and own[key].shape != body[key].shape:
            raise ValueError(
                f"{what} do not fit: the tensor {key} is of shape {tuple(body[key].shape)}, not "
                f"{tuple(own[key].shape)}; {ADVICE}"
            )
    missing = [key for key in own if key not in body]
    unexpected = [key for key in body if key not in own]
    if missing or unexpected:
        raise ValueError(
            f"{what} do not fit: {len(missing)} tensors missing, {len(unexpected)} unknown "
            f"(first: {(missing + unexpected)[0]}); {ADVICE}"
        )
    return body


def _converted(network: nn.Module, architecture: str, state: dict, what: str) -> dict:
    """The state as timm's own conversion for this family has it; as it is where there is none."""
    family = import_module(model_entrypoint(architecture).__module__)
    convert = getattr(family, "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return convert(dict(state), network)
    # A state of another network lacks what the conversion takes for granted.
    except (KeyError, RuntimeError, AttributeError, IndexError, AssertionError) as error:
        names = network.state_dict()
        strange = next((name for name in state if name not in names), next(iter(state), "none"))
        raise ValueError(
            f"{what} do not fit: they are in no layout that timm knows of this network (first "
            f"unknown: {strange}; {type(error).__name__}); {ADVICE}"
        ) from error
