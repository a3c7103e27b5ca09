"""Networks that people use load from the files in which their weights are published.

Each family is made tiny by timm's own arguments, with random weights; its state is then written in
the layout of the original, read as a user would have it read, and must give the same features.
"""

import json
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import save_file
from tiny_networks import tiny

from fgvc_utils.core.reading import UnreadableFile
from fgvc_utils.training import backbones, catalogue

pytestmark = pytest.mark.usefixtures("one_thread")


def renamed(state: dict, *pairs: tuple[str, str]) -> dict:
    out = {}
    for name, tensor in state.items():
        for ours, theirs in pairs:
            name = name.replace(ours, theirs)
        out[name] = tensor
    return out


def openai(state: dict) -> dict:
    """OpenAI's CLIP and open_clip: the image tower is `visual`, and a text tower is there too."""
    out = renamed(
        state,
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
        ("attn.proj", "attn.out_proj"),
        ("qkv.", "in_proj_"),
        ("norm_pre", "ln_pre"),
        ("norm1", "ln_1"),
        ("norm2", "ln_2"),
        ("blocks.", "transformer.resblocks."),
        ("patch_embed.proj", "conv1"),
        ("pos_embed", "positional_embedding"),
    )
    out = {k if not k.startswith("norm.") else f"ln_post.{k[5:]}": v for k, v in out.items()}
    out["class_embedding"] = out.pop("cls_token")[0, 0]
    out["positional_embedding"] = out["positional_embedding"][0]
    # The projection, which turns the features into 16 numbers that texts are compared with.
    out["proj"] = torch.randn(32, 16)
    out = {f"visual.{name}": tensor for name, tensor in out.items() if "head." not in name}
    return out | {"logit_scale": torch.ones(()), "token_embedding.weight": torch.ones(9, 4)}


def in_trunk(state: dict) -> dict:
    """open_clip around a network of timm, as SigLIP comes."""
    state = {f"visual.trunk.{k}": v for k, v in state.items() if not k.startswith("head.")}
    return state | {"text.token_embedding.weight": torch.ones(9, 4), "logit_bias": torch.ones(1)}


def dinov2(state: dict) -> dict:
    """The original's checkpoint of its training: the teacher's backbone beside its heads."""
    state = {k: v for k, v in state.items() if not k.startswith("head.")}
    state["mask_token"] = torch.zeros(1, 32)
    if "reg_token" in state:
        first = torch.randn(1, 1, 32)
        state["register_tokens"] = state.pop("reg_token")
        state["cls_token"] = state["cls_token"] - first
        state["pos_embed"] = torch.cat([first, state["pos_embed"]], dim=1)
        return state
    state = {f"backbone.{name}": tensor for name, tensor in state.items()}
    return {"teacher": state | {"dino_head.mlp.0.weight": torch.ones(4, 32)}}


def dinov3(state: dict) -> dict:
    state = {k: v for k, v in state.items() if not k.startswith("head.")}
    for name in [name for name in state if name.endswith("q_bias")]:
        q, v = state.pop(name), state.pop(name.replace("q_bias", "v_bias"))
        state[name.replace("q_bias", "qkv.bias")] = torch.cat([q, torch.zeros_like(q), v])
        state[name.replace("q_bias", "qkv.bias_mask")] = torch.ones(3 * len(q))
    pairs = (("gamma_", "ls"), ("reg_token", "storage_tokens"))
    state = renamed(state, *pairs)
    state = {k + ".gamma" if k.endswith(("ls1", "ls2")) else k: v for k, v in state.items()}
    return state | {"mask_token": torch.zeros(1, 32), "rope_embed.periods": torch.ones(4)}


def facebook(state: dict) -> dict:
    """ConvNeXt, its second version and DINOv3's: stages and downsampling apart."""
    out = {}
    for name, tensor in state.items():
        if name.startswith("head.fc"):
            continue
        parts = name.split(".")
        if parts[0] == "stem":
            parts[0] = "downsample_layers.0"
        elif "downsample" in parts:
            parts = [f"downsample_layers.{parts[1]}", *parts[3:]]
        elif "blocks" in parts:
            parts.remove("blocks")
        name = ".".join(parts).replace("head.norm", "norm").replace("conv_dw", "dwconv")
        name = name.replace("mlp.fc", "pwconv").replace("mlp.grn", "grn")
        if "grn" in name:
            name = name.replace("weight", "gamma").replace("bias", "beta")
            tensor = tensor.reshape(1, 1, 1, -1)
        out[name] = tensor
    return {"model": out}


def eva02(state: dict) -> dict:
    """EVA's pretraining by masked pictures, as its training wrote it."""
    state = {k: v for k, v in state.items() if not k.startswith("head.")}
    state = renamed(
        state,
        ("mlp.fc1_g", "mlp.w1"),
        ("mlp.fc1_x", "mlp.w2"),
        ("mlp.fc2", "mlp.w3"),
        ("mlp.norm", "mlp.ffn_ln"),
        ("attn.norm", "attn.inner_attn_ln"),
        ("fc_norm", "norm"),
    )
    state |= {"mask_token": torch.zeros(1, 1, 32), "lm_head.weight": torch.ones(4, 32)}
    return {"module": state | {"rope.freqs_cos": torch.ones(16, 16)}}


def microsoft(state: dict) -> dict:
    """SwinV2: pictures shrink at the end of a stage, not at the beginning of the next."""
    out = {}
    for name, tensor in state.items():
        if name.startswith("head."):
            continue
        parts = name.split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        out[".".join(parts)] = tensor
    return {"model": out | {"layers.0.blocks.0.attn.relative_position_index": torch.ones(2)}}


LAYOUTS: dict[str, Callable[[dict], dict]] = {
    "clip": openai,
    "siglip": in_trunk,
    "dinov2": dinov2,
    "dinov2 with registers": dinov2,
    "dinov3": dinov3,
    "dinov3 with biases": dinov3,
    "dinov3 convnext": facebook,
    "eva02": eva02,
    "convnextv2": facebook,
    "swinv2": microsoft,
}


def random_network(name: str, size: int, classes: int = 3) -> torch.nn.Module:
    """A network none of whose weights is zero or one, so that none may be lost."""
    torch.manual_seed(1)
    network = backbones.create_network(name, "none", classes, size=size).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def features(network: torch.nn.Module, size: int) -> torch.Tensor:
    torch.manual_seed(2)
    pictures = torch.randn(2, 3, size, size)
    with torch.no_grad():
        found, logits = backbones.features_and_logits(network, pictures)
        torch.testing.assert_close(logits, network(pictures))
    return found


@pytest.mark.parametrize("family", LAYOUTS)
def test_a_family_loads_from_the_file_of_its_original(family, tmp_path):
    name, size = tiny(tmp_path / "net", family)
    source = random_network(name, size)
    foreign = LAYOUTS[family](source.state_dict())
    file = tmp_path / "original.pth"
    torch.save(foreign, file)
    backbones.check_weights_file(name, str(file))
    loaded = backbones.create_network(name, str(file), 7, size=size).eval()
    expected = features(source, size)
    assert loaded.get_classifier().out_features == 7
    assert expected.std() > 0.01 and expected.shape[1] == loaded.num_features
    torch.testing.assert_close(features(loaded, size), expected)
    frozen = backbones.create_network(name, str(file), 0, size=size).eval()
    torch.testing.assert_close(features(frozen, size), expected)
    # Weights at another size than they were made for: positions are resized where there are any.
    larger = backbones.create_network(name, str(file), 7, size=2 * size).eval()
    assert features(larger, 2 * size).isfinite().all()
    # The last tensor of all but the classifier is lacking.
    inner = next((v for v in foreign.values() if isinstance(v, dict)), foreign)
    lost = [k for k in inner if k.endswith("bias") and "blocks" in k or "stages" in k][-1]
    del inner[lost]
    torch.save(foreign, file)
    with pytest.raises(ValueError, match=r"original.pth as weights of .* do not fit: .*first.*"):
        backbones.create_network(name, str(file), 7, size=size)


def test_position_embeddings_of_the_own_size_stay_as_they_are(tmp_path):
    name, size = tiny(tmp_path, "clip")
    source = random_network(name, size)
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    loaded = backbones.create_network(name, "hub", 3, size=size)
    assert torch.equal(loaded.pos_embed, source.pos_embed)
    other = backbones.create_network(name, "hub", 3, size=2 * size)
    assert other.pos_embed.shape[1] == 1 + 16
    assert torch.equal(other.pos_embed[:, :1], source.pos_embed[:, :1])


def test_a_folder_of_open_clip_says_how_its_pictures_are_normalised(tmp_path):
    network = random_network("test_vit", 64)
    save_file(in_trunk(network.state_dict()), tmp_path / "open_clip_model.safetensors")
    described = {
        "model_cfg": {"vision_cfg": {"timm_model_name": "test_vit", "image_size": 160}},
        "preprocess_cfg": {
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "resize_mode": "squash",
        },
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
    name = f"local-dir:{tmp_path}"
    own = backbones.create_network(name, "hub", 3, size=64).eval()
    # The same file by its path, under timm's own name.
    by_path = str(tmp_path / "open_clip_model.safetensors")
    given = backbones.create_network("test_vit", by_path, 3, size=64).eval()
    for loaded in (own, given):
        assert backbones.normalisation(loaded) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
        torch.testing.assert_close(features(loaded, 64), features(network, 64))
    assert catalogue.described(name).config.crop_mode == "squash"


def test_the_image_tower_of_open_clip_is_known_by_its_shape(tmp_path):
    tower = {"image_size": 224, "layers": 24, "width": 1024, "patch_size": 14}
    described = {"model_cfg": {"embed_dim": 768, "vision_cfg": tower}, "preprocess_cfg": {}}
    for quick, name in (
        (False, "vit_large_patch14_clip_224"),
        (True, "vit_large_patch14_clip_quickgelu_224"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        described["model_cfg"]["quick_gelu"] = quick
        (folder / "open_clip_config.json").write_text(json.dumps(described))
        assert catalogue.described(f"local-dir:{folder}").architecture == name
    assert backbones.bare_network(f"local-dir:{folder}").num_features == 1024
    tower["width"] = 7
    (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
    with pytest.raises(UnreadableFile, match=r"width, layers and patch \(7, 24, 14\)"):
        catalogue.described(f"local-dir:{tmp_path}")


def test_weights_of_another_network_name_the_file_and_the_first_tensor(tmp_path):
    name, _ = tiny(tmp_path / "clip", "clip")
    other, size = tiny(tmp_path / "dinov3", "dinov3")
    save_file(random_network(other, size).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other.safetensors as weights of local-dir:.*do not fit"):
        backbones.check_weights_file(name, str(tmp_path / "other.safetensors"))
    hugging_face = {
        "embeddings.cls_token": torch.ones(1, 1, 32),
        "layernorm.weight": torch.ones(32),
    }
    save_file(hugging_face, tmp_path / "transformers.safetensors")
    for family in LAYOUTS:
        name, _ = tiny(tmp_path / family.replace(" ", "-"), family)
        with pytest.raises(ValueError, match=r"transformers.safetensors.*do not fit.*first.*name"):
            backbones.check_weights_file(name, str(tmp_path / "transformers.safetensors"))


def test_names_that_stand_for_nothing_say_what_to_do(tmp_path):
    (tmp_path / "empty").mkdir()
    cases = {
        f"local-dir:{tmp_path / 'empty'}": "holds neither config.json nor open_clip_config.json",
        "vit_base_patch32_clip_224.nobody": "timm knows no such weights .*, vit_base_patch32_clip",
        "test_vit.": "leave|timm knows|no timm network",
    }
    for name, text in list(cases.items())[:2]:
        with pytest.raises(ValueError, match=text):
            catalogue.described(name)
    name, _ = tiny(tmp_path / "net", "clip")
    with pytest.raises(ValueError, match="weights 'hub' of .* holds none of model.safetensors"):
        backbones.check_network(name, "hub")
    with pytest.raises(ValueError, match="not one fully connected layer but several; choose"):
        backbones.create_network("deit_tiny_distilled_patch16_224", "none", 3)
