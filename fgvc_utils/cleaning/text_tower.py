"""Make a file of class texts as vectors, by the text tower of a CLIP in a local folder.

`python -m fgvc_utils.cleaning.text_tower FOLDER CLASSES.csv OUT.npz [--template "a photo of {}."]`
needs transformers, which comes with peft (`pip install .[lora]`), and no connection: FOLDER holds a
CLIP as transformers saves it, with its tokenizer. The features must be of the same network, such as
timm's `vit_base_patch16_clip_224` with the weights of that CLIP.

References
----------
Radford et al., Learning transferable visual models from natural language supervision, ICML 2021:
zero-shot classification, the mean of several templates.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fgvc_utils.core.files import whole_file
from fgvc_utils.core.reading import read_csv

TEMPLATES = ("a photo of a {}.",)
BATCH = 256


def class_texts(path: Path) -> pd.DataFrame:
    """The texts of a CSV file, columns class and text; a class may have several.

    Raises
    ------
    ValueError
        A column is missing, or a class has no text. Names the file and the class.
    """
    frame = read_csv(path)
    lacking = {"class", "text"} - set(frame)
    if lacking or not len(frame):
        raise ValueError(f"{path} needs rows with the columns class and text")
    empty = frame.loc[frame["text"].str.strip() == "", "class"]
    if len(empty):
        raise ValueError(f"{path}: class {empty.iloc[0]!r} has an empty text")
    return frame


def encode(folder: Path, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Texts as vectors, and the projection of the pictures' features to them.

    Parameters
    ----------
    folder
        A CLIP as transformers saves it: config.json, safetensors, and the files of its tokenizer.
    texts
        The texts.

    Returns
    -------
    vectors : np.ndarray
        Unit vectors, float32 (texts, width).
    projection : np.ndarray
        float32 (features, width).

    Raises
    ------
    ModuleNotFoundError
        transformers is not there; says how to get it.
    """
    import torch

    try:
        from transformers import AutoTokenizer, CLIPModel
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "the text tower needs transformers, which comes with peft: pip install .[lora]"
        ) from None
    here = {"local_files_only": True}
    model = CLIPModel.from_pretrained(folder, use_safetensors=True, **here).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, **here)
    length = model.config.text_config.max_position_embeddings
    parts = []
    with torch.inference_mode():
        for start in range(0, len(texts), BATCH):
            tokens = tokenizer(
                list(texts[start : start + BATCH]),
                padding=True,
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
            pooled = model.text_model(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            ).pooler_output
            parts.append(torch.nn.functional.normalize(model.text_projection(pooled), dim=1))
        projection = model.visual_projection.weight.T.contiguous()
    return torch.cat(parts).float().numpy(), projection.float().numpy()


def make_texts(folder: Path, classes: Path, out: Path, templates: Sequence[str]) -> None:
    """Write the file of texts: of each class the mean over its texts and all templates.

    Parameters
    ----------
    folder
        As for `encode`.
    classes
        As for `class_texts`.
    out
        The npz file to write.
    templates
        Sentences with `{}` in the place of the text.

    Raises
    ------
    ValueError
        A template has no place for the text.
    """
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"the template {template!r} has no {{}} in the place of the text")
    frame = class_texts(classes)
    sentences = [template.replace("{}", text) for text in frame["text"] for template in templates]
    vectors, projection = encode(folder, sentences)
    owners = np.repeat(frame["class"].to_numpy(dtype=str), len(templates))
    names, owner = np.unique(owners, return_inverse=True)
    means = np.zeros((len(names), vectors.shape[1]), np.float32)
    np.add.at(means, owner, vectors)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    with whole_file(out) as temporary, open(temporary, "wb") as file:
        np.savez(file, names=names, vectors=means, projection=projection)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fgvc_utils.cleaning.text_tower",
        description="Write class texts as vectors for the parameter text_file of 02 and 03.",
    )
    parser.add_argument("folder", type=Path, help="a CLIP as transformers saves it")
    parser.add_argument("classes", type=Path, help="CSV file: columns class and text")
    parser.add_argument("out", type=Path, help="npz file to write, below the data root")
    parser.add_argument("--template", action="append", help="sentence with {} for the text")
    options = parser.parse_args(arguments)
    try:
        make_texts(options.folder, options.classes, options.out, options.template or TEMPLATES)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
