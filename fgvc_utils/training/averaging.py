"""Average the weights of several finished models into one network's.

Stochastic weight averaging (Izmailov et al., Averaging weights leads to wider optima and better
generalization, UAI 2018) and model soups (Wortsman et al., ICML 2022): it costs one network when
predicting, and pays only where the models lie in one basin, such as fits from the same start.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from fgvc_utils.core.files import file_digest, whole_file, write_json
from fgvc_utils.core.reading import refused_by_name
from fgvc_utils.training.weights import in_order


def average_weights(files: Sequence[Path], into: Path) -> Path:
    """Write the mean of the weights of several models.

    Whole numbers, such as BatchNorm's count of batches, are the first file's. `done.json` beside
    the mean holds its digest, so that a job which reads it knows when it changed. The mean of
    BatchNorm statistics is not that of the averaged network: they are to be taken anew.

    Parameters
    ----------
    files : sequence of Path
        Each a weights.safetensors.
    into : Path
        The folder whose weights.safetensors is written.

    Returns
    -------
    Path
        The file of the mean.

    Raises
    ------
    ValueError
        Naming two files of other classes or other backbones, or the first tensor that differs in
        name or shape.
    """
    if not files:
        raise ValueError("an average of weights needs at least one file")
    metadata, mean = _read(files[0])
    floats = [name for name, tensor in mean.items() if np.issubdtype(tensor.dtype, np.floating)]
    kinds = {name: mean[name].dtype for name in floats}
    # Summed in float64, one file at a time: equal weights then stay as they are.
    mean |= {name: mean[name].astype(np.float64) for name in floats}
    for file in files[1:]:
        other_metadata, other = _read(file)
        for what in ("classes", "backbone"):
            if other_metadata.get(what) != metadata.get(what):
                raise ValueError(f"{files[0]} and {file} differ in their {what}")
        for name in sorted(set(mean) ^ set(other)) or mean:
            if name not in other or name not in mean or other[name].shape != mean[name].shape:
                raise ValueError(f"{files[0]} and {file} differ in the tensor {name!r}")
        for name in floats:
            mean[name] += other[name]
    averaged = mean | {name: (mean[name] / len(files)).astype(kinds[name]) for name in floats}
    target = Path(into) / "weights.safetensors"
    with whole_file(target) as temporary:
        temporary.write_bytes(in_order(save(averaged, metadata)))
    members = [str(file) for file in files]
    write_json({"members": members, "result": file_digest(target)}, Path(into) / "done.json")
    return target


def _read(file: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata of a file, and its tensors by name."""
    named = refused_by_name(file, "the weights of a model", "train that model again")
    with named, safe_open(file, framework="numpy") as opened:
        return opened.metadata() or {}, {name: opened.get_tensor(name) for name in opened.keys()}


def greedy_soup(ranked: Sequence[str], score: Callable[[tuple[str, ...]], float]) -> list[str]:
    """Return the members of a greedy soup: the best model, and each next that lowers no score.

    Parameters
    ----------
    ranked : sequence of str
        Models, the best first.
    score : callable
        Judges the average of some members on held-out images, higher is better. It is called once a
        model.

    References
    ----------
    Wortsman et al., Model soups, ICML 2022, recipe 1.
    """
    chosen = [ranked[0]]
    best = score(tuple(chosen))
    for name in ranked[1:]:
        now = score((*chosen, name))
        if now >= best:
            chosen, best = [*chosen, name], now
    return chosen
