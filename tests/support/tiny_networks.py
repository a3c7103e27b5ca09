"""Tiny networks of the families that people use, made by timm's own arguments."""

import json
from pathlib import Path

SMALL_VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2}
# Architecture, its arguments and a size that its patches fill.
FAMILIES = {
    "clip": ("vit_base_patch32_clip_quickgelu_224", SMALL_VIT, 64),
    "siglip": ("vit_base_patch16_siglip_224", SMALL_VIT, 48),
    "dinov2": ("vit_small_patch14_dinov2", SMALL_VIT, 56),
    "dinov2 with registers": ("vit_small_patch14_reg4_dinov2", SMALL_VIT, 56),
    "dinov3": ("vit_small_patch16_dinov3", SMALL_VIT, 48),
    "dinov3 with biases": ("vit_small_patch16_dinov3_qkvb", SMALL_VIT, 48),
    "dinov3 convnext": ("convnext_tiny", {"depths": [1] * 4, "dims": [8, 16, 24, 32]}, 64),
    "eva02": ("eva02_base_patch14_224", SMALL_VIT, 56),
    "convnextv2": ("convnextv2_atto", {"depths": [1] * 4, "dims": [8, 16, 24, 32]}, 64),
    "beit": ("beit_base_patch16_224", SMALL_VIT, 32),
    "swinv2": (
        "swinv2_tiny_window8_256",
        {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
        64,
    ),
}


def tiny(folder: Path, family: str) -> tuple[str, int]:
    """A folder with timm's config.json of a tiny network of a family; its name and its size."""
    architecture, arguments, size = FAMILIES[family]
    folder.mkdir(exist_ok=True)
    config = {"architecture": architecture, "num_classes": 0, "model_args": arguments}
    (folder / "config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}", size
