"""Weights are the same bytes whenever they are written."""

import torch
from safetensors import safe_open
from safetensors.torch import save

from fgvc_utils.training.weights import in_order, read_state


def test_the_same_weights_are_the_same_bytes_however_often_they_are_written(tmp_path):
    state = {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.float16)}
    told = {name: f"“{name}”\n" for name in ("classes", "backbone", "size", "seed")}
    written = {
        in_order(save(state, dict(order))) for order in (told.items(), [*told.items()][::-1])
    }
    written |= {in_order(save(state, told)) for _ in range(20)}
    assert len(written) == 1
    file = tmp_path / "w.safetensors"
    file.write_bytes(written.pop())
    with safe_open(file, framework="pt") as opened:
        assert opened.metadata() == told
    read = read_state(file, "")
    assert all(torch.equal(read[name], state[name]) for name in state)


def test_weights_without_metadata_stay_readable(tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(in_order(save({"a": torch.zeros(5)})))
    assert read_state(file, "")["a"].shape == (5,)
