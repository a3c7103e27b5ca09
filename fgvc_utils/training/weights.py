"""Tensors from files that may come from elsewhere: nothing that lies in a file is ever run."""

import json
from pathlib import Path
from typing import Any

from fgvc_utils.core.reading import UnreadableFile


def read_state(path: Path, advice: str) -> dict[str, Any]:
    """Read a state dict: tensors of a .safetensors file, or of torch's own format with plain data.

    torch's format is a pickle, which can call any function when it is loaded; one that does more
    than to name tensors, numbers, text, lists and dicts is refused.

    Parameters
    ----------
    path : Path
        The file.
    advice : str
        What to do where it is refused.

    Returns
    -------
    dict
        Its tensors by name, on the CPU.

    Raises
    ------
    UnreadableFile
        A ValueError naming the file, what is wrong and the advice, where it is refused, damaged or
        no dict.
    OSError
        Where it cannot be opened.
    """
    # Notebooks, which read no weights, load no torch.
    import torch
    from safetensors.torch import load_file

    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    # Damaged files raise almost anything; torch's own messages advise to load them all the same.
    except Exception as error:
        raise UnreadableFile(
            f"{path} was not loaded: it is damaged, or would run code ({type(error).__name__}); "
            f"{advice}"
        ) from None
    if not isinstance(state, dict):
        raise UnreadableFile(f"{path} holds a {type(state).__name__}, not named tensors; {advice}")
    return state


def in_order(content: bytes) -> bytes:
    """Return the bytes of a safetensors file with its metadata sorted.

    The library writes metadata in an order that changes from call to call; the same weights would
    then have another digest each time they are written.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = {"__metadata__": dict(sorted(header.pop("__metadata__", {}).items()))}
    text = json.dumps(metadata | header, ensure_ascii=False, separators=(",", ":")).encode()
    # The tensors begin at a multiple of eight.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]
