"""Tensors from files that may come from elsewhere: nothing that lies in a file is ever run."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from fgvc_utils.reading import UnreadableFile, refused_by_name


def read_state(path: Path, advice: str) -> dict[str, Any]:
    """Read a state dict: tensors of a .safetensors file, or of torch's own format with plain data.

    torch's format is a pickle, which can call any function when it is loaded; one that does more
    than to name tensors, numbers, text, lists and dicts is refused. All lands on the CPU.

    Raises UnreadableFile, a ValueError, naming the file and what is wrong, with `advice`, where it
    is refused, damaged or no dict; OSError where it cannot be opened.
    """
    path = Path(path)
    with refused_by_name(path, "a file of tensors", advice):
        if path.suffix == ".safetensors":
            return load_file(path)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            # PyTorch's own words advise to load it all the same.
            raise UnreadableFile(
                f"{path} was not loaded: it is damaged, or would run code; {advice}"
            ) from None
    if not isinstance(state, dict):
        raise UnreadableFile(f"{path} holds a {type(state).__name__}, not named tensors; {advice}")
    return state
