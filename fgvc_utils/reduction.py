"""What cross-training needs to remember of an image, in bounded memory: top-k, rank, label's share.

Probabilities of half a million images over thousands of classes are 11 GB; what the decisions of 02
and 03 ask of them fits in tens of bytes an image. Blocks of rows stream in, a store grows on disk.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from fgvc_utils.predictions import ShardWriter, Store, finish_store

KINDS = ("top_classes", "top_probabilities", "label_rank", "label_probability")


def reduce_block(probability: np.ndarray, labels: np.ndarray, top: int) -> dict[str, np.ndarray]:
    """Reduce probabilities (images, classes) to what the decisions need.

    `labels` int (images,) are columns. Returns `top_classes` int32 and `top_probabilities` float16,
    both (images, top), the likeliest first; `label_rank` int32 (images,), how many classes are as
    likely as the label or more (0 means top-1, ties count against it); and `label_probability`
    float16 (images,). Half precision keeps a probability to one part in two thousand.
    """
    values = torch.from_numpy(np.ascontiguousarray(probability))
    own = values.gather(1, torch.from_numpy(np.asarray(labels, dtype=np.int64))[:, None])
    best = torch.topk(values, min(top, values.shape[1]), dim=1)
    return {
        "top_classes": best.indices.to(torch.int32).numpy(),
        "top_probabilities": best.values.to(torch.float16).numpy(),
        "label_rank": ((values >= own).sum(dim=1) - 1).to(torch.int32).numpy(),
        "label_probability": own[:, 0].to(torch.float16).numpy(),
    }


def reduce_stream(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]],
    folder: Path,
    image_ids: Sequence[str],
    classes: Sequence[str],
    top: int = 10,
) -> Store:
    """Write a store from blocks of (probability, labels) in the order of the image ids.

    Raises ValueError where the blocks are not as many rows as there are image ids.
    """
    writer = ShardWriter(folder, 0, image_ids)
    done = 0
    for probability, labels in blocks:
        if done + len(labels) > len(writer.image_ids):
            raise ValueError(f"more than {len(writer.image_ids)} rows for so many image ids")
        for kind, array in reduce_block(probability, labels, top).items():
            writer.write(kind, done, array)
        done += len(labels)
    if done != len(writer.image_ids):
        raise ValueError(f"{done} rows for {len(writer.image_ids)} image ids")
    writer.close()
    finish_store(folder, classes, 1)
    return Store(folder)


def posterior_of_labels(
    store: Store, labels: np.ndarray, trust: float, sharpness: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`posterior.label_posterior` from a reduced store of classes and, last, "none of them".

    What lies under the top-k counts as nothing, which is exact where all classes were kept. Returns
    the posterior of the label, the likeliest column (int32) and its posterior, each (images,).
    """
    columns = store.read("top_classes")
    likelihood = store.read("top_probabilities").astype(np.float32) ** np.float32(sharpness)
    own = store.read("label_probability").astype(np.float32) ** np.float32(sharpness)
    none = len(store.classes) - 1
    likelihood *= np.where(columns == none, 1 / none, (1 - trust) / none).astype(np.float32)
    own *= trust
    is_own = columns == labels[:, None]
    likelihood[is_own] = np.broadcast_to(own[:, None], likelihood.shape)[is_own]
    outside = np.where(is_own.any(axis=1), 0, own)
    total = np.maximum(likelihood.sum(axis=1) + outside, 1e-30)
    place = likelihood.argmax(axis=1)
    best = columns[np.arange(len(columns)), place]
    sure = likelihood[np.arange(len(columns)), place]
    best = np.where(own > sure, labels, best).astype(np.int32)
    return own / total, best, np.maximum(own, sure) / total
