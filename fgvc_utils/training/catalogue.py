"""What a network's name stands for: timm's names, ids of the hub, folders on this machine."""

import dataclasses
import difflib
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import timm
from timm.models import PretrainedCfg

from fgvc_utils.contest.places import network_folder
from fgvc_utils.core.reading import refused_by_name

CONFIG = "config.json"
OPEN_CLIP_CONFIG = "open_clip_config.json"
# Files that may hold the weights of a folder or of a repository of the hub, the first one counts.
WEIGHTS = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
    "model.pth",
)
# Width, layers and patch of the image tower of an open_clip configuration → timm's name for it.
TOWERS = {
    (768, 12, 32): "vit_base_patch32_clip",
    (768, 12, 16): "vit_base_patch16_clip",
    (1024, 24, 14): "vit_large_patch14_clip",
    (1280, 32, 14): "vit_huge_patch14_clip",
}
HUB = "hf-hub:"
CONNECT = "connect this machine once, or set weights to package or a file"


class Described(NamedTuple):
    """What a name stands for.

    Attributes
    ----------
    architecture : str
        timm's name of the network, without a tag.
    config : PretrainedCfg
        What timm knows of its weights: mean, deviation, size, interpolation, crop mode, head.
    arguments : dict
        By which the architecture is made.
    open_clip : bool
        Whether the name stands for files of open_clip, which timm does not load by itself.
    """

    architecture: str
    config: PretrainedCfg
    arguments: dict[str, Any]
    open_clip: bool = False


@lru_cache
def described(name: str) -> Described:
    """Return what a network's name stands for.

    Parameters
    ----------
    name : str
        A timm name, with or without a tag; `hf-hub:owner/name`; or `local-dir:folder`, with timm's
        config.json or open_clip's open_clip_config.json.

    Raises
    ------
    ValueError
        Where timm has no such network, or its configuration cannot be had; naming what is near, or
        what to do.
    """
    folder = network_folder(name)
    if folder is not None:
        return _of_folder(name, folder)
    if name.startswith(HUB):
        return _of_hub(name)
    return Described(_known(name).partition(".")[0], timm.get_pretrained_cfg(name), {})


def _known(name: str) -> str:
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 5)
        hint = f"some near it: {', '.join(near)}" if near else "timm.list_models() names them all"
        raise ValueError(f"backbone {name!r} is no timm network; {hint}")
    architecture, _, tag = name.partition(".")
    tagged = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in tagged:
        known = f"it knows {', '.join(tagged)}" if tagged else "leave out what follows the dot"
        raise ValueError(f"backbone {name!r}: timm knows no such weights of this network; {known}")
    return name


def _of_folder(name: str, folder: Path) -> Described:
    for file in (folder / CONFIG, folder / OPEN_CLIP_CONFIG):
        if file.is_file():
            return _of_config(name, file)
    raise ValueError(
        f"backbone {name!r}: {folder} holds neither {CONFIG} nor {OPEN_CLIP_CONFIG}; name the "
        "folder of a downloaded network"
    )


def _of_hub(name: str) -> Described:
    try:
        file = hub_file(name, CONFIG)
        # Repositories of open_clip may have one of another library.
        if file is None or "architecture" not in json.loads(file.read_text("utf-8")):
            file = hub_file(name, OPEN_CLIP_CONFIG)
    except OSError as error:
        raise ValueError(
            f"backbone {name!r}: its configuration could not be downloaded "
            f"({type(error).__name__}): {CONNECT}"
        ) from error
    if file is None:
        raise ValueError(f"backbone {name!r}: it has neither {CONFIG} nor {OPEN_CLIP_CONFIG}")
    return _of_config(name, file)


def hub_file(name: str, file: str) -> Path | None:
    """Return a file of a repository of the hub, downloaded once; None where it has none such.

    Raises
    ------
    OSError
        Where it cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, _, revision = name.removeprefix(HUB).partition("@")
    try:
        return Path(hf_hub_download(repository, file, revision=revision or None))
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError:
        return None


def on_this_machine(name: str) -> bool:
    """Whether the configuration that a name needs is here; true for all but ids of the hub."""
    known = not name.startswith(HUB)
    return known or in_cache(name.removeprefix(HUB), (CONFIG, OPEN_CLIP_CONFIG))


def in_cache(source: str, files: Iterable[str]) -> bool:
    """Whether one of some files of a repository of the hub, `owner/name@revision`, is here."""
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = source.partition("@")
    found = (try_to_load_from_cache(repository, file, revision=revision or None) for file in files)
    return any(isinstance(file, str) for file in found)


def _of_config(name: str, file: Path) -> Described:
    with refused_by_name(file, "the configuration of a network", "download the network anew"):
        content = json.loads(file.read_text("utf-8"))
        if file.name == OPEN_CLIP_CONFIG:
            return _of_open_clip(name, content)
        fields = content.get("pretrained_cfg", content)
        arguments = dict(content.get("model_args") or {})
        # At the root of the file, timm writes what the network is made with.
        for field in ("num_classes", "global_pool"):
            if content.get(field) is not None:
                fields = fields | {field: content[field]}
        if content.get("global_pool"):
            arguments.setdefault("global_pool", content["global_pool"])
        architecture = _known(content["architecture"])
        known = {field.name for field in dataclasses.fields(PretrainedCfg)}
        own = {key: value for key, value in fields.items() if key in known and value is not None}
        own |= {"source": "", "file": None, "hf_hub_id": None}
        config = dataclasses.replace(timm.get_pretrained_cfg(architecture), **own)
        return Described(architecture.partition(".")[0], config, arguments)


def _of_open_clip(name: str, content: dict) -> Described:
    """From open_clip's own description of a model, whose image tower timm can make."""
    vision = content["model_cfg"]["vision_cfg"]
    quick = "quickgelu_" if content["model_cfg"].get("quick_gelu") else ""
    size = vision.get("image_size", 224)
    tower = vision.get("timm_model_name")
    if not tower:
        shape = (vision.get("width", 768), vision.get("layers", 12), vision.get("patch_size", 16))
        if shape not in TOWERS:
            raise ValueError(
                f"backbone {name!r}: timm has no network of width, layers and patch {shape}"
            )
        tower = f"{TOWERS[shape]}_{quick}224"
    config = dataclasses.replace(
        timm.get_pretrained_cfg(_known(tower)),
        **of_preprocessing(content),
        input_size=(3, size, size),
        hf_hub_id=None,
    )
    return Described(tower.partition(".")[0], config, {}, open_clip=True)


def of_preprocessing(content: dict) -> dict[str, Any]:
    """The fields of timm's configuration that open_clip's says otherwise."""
    given = content.get("preprocess_cfg") or {}
    fields: dict[str, Any] = {}
    fields |= {name: tuple(given[name]) for name in ("mean", "std") if given.get(name)}
    fields |= {"interpolation": given["interpolation"]} if given.get("interpolation") else {}
    return fields | ({"crop_mode": "squash"} if given.get("resize_mode") == "squash" else {})


def beside(weights: Path) -> dict[str, Any]:
    """What an open_clip_config.json beside a file of weights says of mean and deviation."""
    file = weights.parent / OPEN_CLIP_CONFIG
    if not file.is_file():
        return {}
    with refused_by_name(file, "a configuration of open_clip", "download it anew, or remove it"):
        fields = of_preprocessing(json.loads(file.read_text("utf-8")))
    return {name: value for name, value in fields.items() if name in ("mean", "std")}


def weights_in(folder: Path) -> Path | None:
    """The file of weights in a folder of a network; None where there is none."""
    files = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    return files[0] if files else None
