"""Texts about the classes: what a file must hold, what it says of images, how it is made."""

import json
from dataclasses import replace

import numpy as np
import pytest
from small_crossing import CROSS, SETTINGS, Small
from test_near_views import case_of, true_of

from fgvc_utils.cleaning import text_tower, views
from fgvc_utils.cleaning.params import CrossParams
from fgvc_utils.cleaning.texts import read_texts
from fgvc_utils.contest.parameters import ParameterError

CLASSES = ["ant", "bee", "cat", "dog"]


def written(path, names=CLASSES, vectors=None, **more):
    vectors = np.eye(len(names), 6, dtype=np.float32) if vectors is None else vectors
    np.savez(path, names=np.array(names), vectors=vectors, **more)
    return path


def test_vectors_come_in_the_order_of_the_classes(tmp_path):
    vectors = np.arange(10, dtype=np.float32).reshape(5, 2) + 1
    path = written(tmp_path / "t.npz", ["dog", "more", "ant", "cat", "bee"], vectors)
    texts = read_texts(path, CLASSES, 2)
    expected = vectors[[2, 4, 3, 0]]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(texts.vectors, expected, rtol=1e-6)
    features = np.array([[0, 3], [2, 0]], np.float16)
    cosines = texts.cosines_to(features)(np.array([1, 0]))
    np.testing.assert_allclose(cosines, expected.T, rtol=1e-6)
    turned = np.array([[0, 1], [1, 0], [0, 0]], np.float16)
    path = written(tmp_path / "p.npz", CLASSES, expected, projection=turned)
    with_third = np.concatenate([features[:, ::-1], np.ones((2, 1), np.float16)], axis=1)
    projected = read_texts(path, CLASSES, 3).cosines_to(with_third)(np.array([1, 0]))
    np.testing.assert_allclose(projected, cosines, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"names": ["ant", "bee", "cat", "elk"]}, "lacks 1 of 4 classes: dog; give each class"),
        ({"names": ["ant", "bee", "cat", "cat"]}, "class 'cat' is in it more than once"),
        ({"vectors": np.eye(3, 6)}, "it needs names, text"),
        ({"names": np.array(CLASSES, dtype="S3")}, "holds names |S3"),
        ({"vectors": np.eye(4, 5)}, "vectors of 5 values an image, and text_backbone has 6"),
        ({"vectors": np.diag([1.0, 0, 1, 1, 1, 1])[:4]}, "the vector of class 'bee' is all zeros"),
        ({"vectors": np.full((4, 6), np.nan)}, "the vector of class 'ant' is all zeros or holds"),
        ({"projection": np.zeros((9, 6))}, "projection of 9 values an image.* another network"),
        ({"projection": np.zeros((6, 5))}, "it needs names, text"),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_what_is_wrong(tmp_path, given, said):
    path = written(tmp_path / "texts.npz", **given)
    with pytest.raises(ValueError, match=f"texts.npz.*{said.replace('|', '.')}"):
        read_texts(path, CLASSES, 6)


def test_what_is_no_such_file_is_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="text_tower makes such a file"):
        read_texts(tmp_path / "gone.npz", CLASSES)
    (tmp_path / "note.npz").write_text("ant, bee")
    with pytest.raises(ValueError, match=r"note.npz is no npz file"):
        read_texts(tmp_path / "note.npz", CLASSES)
    # Objects would have to be unpickled, which runs what the file says.
    np.savez(tmp_path / "objects.npz", names=np.array(CLASSES, object), vectors=np.eye(4))
    with pytest.raises(ValueError, match=r"objects.npz is no npz file"):
        read_texts(tmp_path / "objects.npz", CLASSES)


def test_texts_find_the_class_of_mislabelled_images(tmp_path):
    small = Small(tmp_path)
    true, shown = true_of(small), ~small.is_noise.to_numpy()
    rows = np.load(small.features.store / "shard-00000" / "features.npy").astype(np.float32)
    means = np.stack([rows[true == number].mean(axis=0) for number in range(4)])
    written(tmp_path / "texts.npz", CLASSES, means)
    case = case_of(small, text_scores=1.0, text_file="texts.npz", data_root=str(tmp_path))
    columns = case.predictions.top_classes
    found = views.text_scores(case, columns)
    assert (found.argmax(axis=1) == true)[shown].mean() > 0.98
    # A class whose images all lie under another one is still seen as what it is.
    swapped = np.where(case.labels < 2, 1 - case.labels, case.labels)
    found = views.text_scores(replace(case, labels=swapped), columns)
    assert (found.argmax(axis=1) == true)[shown].mean() > 0.98


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"text_scores": 1.0}, "text_scores needs text_file"),
        (
            {"text_scores": 1.0, "text_file": "t.npz", "text_backbone": "other"},
            "text_backbone 'other' is neither backbone nor among further_backbones",
        ),
        ({"networks_apart": 1.0}, "networks_apart needs more than one network"),
    ],
)
def test_parameters_that_lack_something_are_refused(given, said):
    with pytest.raises(ParameterError, match=said):
        CrossParams(**SETTINGS | CROSS | given, outputs="nowhere")


@pytest.fixture
def clip(tmp_path):
    """A tiny CLIP with random weights, and a tokenizer of single letters."""
    transformers = pytest.importorskip("transformers")
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    tower |= {"num_attention_heads": 2}
    letters = [chr(number) for number in range(97, 123)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [".</w>", "<|startoftext|>", "<|endoftext|>"]
    folder = tmp_path / "clip"
    config = transformers.CLIPConfig(
        text_config=tower
        | {"vocab_size": len(tokens), "max_position_embeddings": 20}
        | {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1},
        vision_config=tower | {"hidden_size": 24, "image_size": 8, "patch_size": 4},
        projection_dim=10,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return folder


def test_the_text_tower_makes_a_file_that_is_read(clip, tmp_path, capsys):
    rows = ["class,text", "ant,red ant", "bee,bee", "ant,an ant", 'cat,"a cat, asleep"', "dog,dog"]
    (tmp_path / "classes.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "texts.npz"
    given = [str(clip), str(tmp_path / "classes.csv"), str(out)]
    text_tower.main([*given, "--template", "a {}.", "--template", "the {}."])
    # Features of the vision tower are 24 wide, texts 10.
    texts = read_texts(out, CLASSES, 24)
    assert texts.vectors.shape == (4, 10) and texts.projection.shape == (24, 10)
    parts, projection = text_tower.encode(clip, ["a red ant.", "the red ant.", "a an ant."])
    more, _ = text_tower.encode(clip, ["the an ant."])
    mean = np.concatenate([parts, more]).mean(axis=0)
    np.testing.assert_allclose(texts.vectors[0], mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_array_equal(texts.projection, projection)
    # It is what the whole network makes of picture and text.
    import torch
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(clip).eval()
    with torch.inference_mode():
        seen = model.vision_model(torch.zeros(1, 3, 8, 8)).pooler_output
        embedded = model.visual_projection(seen).numpy()
    cosines = texts.cosines_to(seen.numpy())(np.array([0]))
    expected = embedded @ texts.vectors.T / np.linalg.norm(embedded)
    np.testing.assert_allclose(cosines, expected, atol=1e-5)


def test_the_text_tower_says_what_is_wrong(tmp_path):
    (tmp_path / "classes.csv").write_text("class,text\nant,\n")
    given = ["nowhere", str(tmp_path / "classes.csv"), str(tmp_path / "out.npz")]
    with pytest.raises(SystemExit, match="class 'ant' has an empty text"):
        text_tower.main(given)
    with pytest.raises(SystemExit, match="has no {} in the place of the text"):
        text_tower.main([*given, "--template", "a photo"])
    (tmp_path / "classes.csv").write_text("class,words\nant,ant\n")
    with pytest.raises(SystemExit, match="needs rows with the columns class and text"):
        text_tower.main(given)
