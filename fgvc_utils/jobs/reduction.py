"""What cross-training remembers of an image, in bounded memory: top-k, rank, the label's share.

Probabilities of half a million images over thousands of classes are 11 GB; what the decisions of 02
and 03 ask of them fits in tens of bytes an image. Blocks of rows stream in, a store grows on disk.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store, same_classes

TOP = 10
KINDS = ("top_classes", "top_probabilities", "label_rank", "label_probability")


def reduce_block(probability: np.ndarray, labels: np.ndarray, top: int) -> dict[str, np.ndarray]:
    """Reduce probabilities to what the decisions need.

    Parameters
    ----------
    probability
        Float32 (images, classes).
    labels
        Int (images,), columns of the probabilities.
    top
        How many of the largest are kept.

    Returns
    -------
    dict of ndarray
        `top_classes` int32 and `top_probabilities` float16, both (images, top), the likeliest
        first; `label_rank` int32 (images,), how many other classes are as likely as the label or
        more, so that 0 means top-1; and `label_probability` float16 (images,). Half precision keeps
        a probability to one part in two thousand.
    """
    # Only the processes that predict come here; a notebook's kernel need not load torch.
    import torch

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
    top: int = TOP,
) -> Store:
    """Write a store of reduced predictions, block by block.

    Parameters
    ----------
    blocks
        Probabilities and labels as `reduce_block` takes them, in the order of the image ids.
    folder
        The store.
    image_ids
        The images.
    classes
        The columns of the probabilities.
    top
        How many of the largest are kept.

    Raises
    ------
    ValueError
        The blocks are not as many rows as there are image ids.
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


@dataclass(frozen=True)
class Reduced:
    """Out-of-fold predictions of images, reduced: a row an image.

    Attributes
    ----------
    image_ids
        The image of each row.
    classes
        All classes.
    top_classes
        Int32 (images, top), numbers of `classes`, the likeliest first.
    top_probabilities
        Float16 (images, top).
    label_rank
        Int32 (images,): the rank of the label that the image was judged under, 0 for top-1.
    label_probability
        Float16 (images,), of the same label.
    """

    image_ids: pd.Index
    classes: list[str]
    top_classes: np.ndarray
    top_probabilities: np.ndarray
    label_rank: np.ndarray
    label_probability: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def of(self, image_ids: Sequence[str]) -> "Reduced":
        """The rows of some images, in their order; raises KeyError naming one that is not there."""
        rows = self.rows_of(image_ids)
        return replace(
            self,
            image_ids=self.image_ids[rows],
            **{kind: getattr(self, kind)[rows] for kind in KINDS},
        )

    def rows_of(self, image_ids: Sequence[str]) -> np.ndarray:
        """The rows of some images, int64; raises KeyError naming one that is not there."""
        rows = self.image_ids.get_indexer(pd.Index(image_ids, dtype=object))
        if (rows < 0).any():
            raise KeyError(f"nobody predicted image {list(image_ids)[int((rows < 0).argmax())]!r}")
        return rows

    def updated(self, later: "Reduced") -> "Reduced":
        """The same images, some of them with later predictions in place of these.

        Raises
        ------
        KeyError
            Naming an image of `later` that is not among these.
        """
        rows = self.rows_of(later.image_ids)
        arrays = {kind: getattr(self, kind).copy() for kind in KINDS}
        for kind, array in arrays.items():
            array[rows] = getattr(later, kind)
        return replace(self, **arrays)

    def probability_of(self, labels: np.ndarray) -> np.ndarray:
        """The probability of other labels than the judged ones, float32 (images,).

        A class outside the top gets its share of what the top leaves, but never more than the least
        likely class of the top.

        Parameters
        ----------
        labels
            Int (images,), numbers of `classes`.
        """
        top = self.top_probabilities.astype(np.float32)
        rest = np.maximum(1 - top.sum(axis=1), 0)
        outside = max(1, len(self.classes) - top.shape[1])
        found = self.top_classes == labels[:, None]
        return np.where(
            found.any(axis=1), (top * found).sum(axis=1), np.minimum(rest / outside, top[:, -1])
        )

    def dense(self) -> np.ndarray:
        """Probabilities float32 (images, classes); classes outside the top are 0."""
        values = np.zeros((len(self), len(self.classes)), np.float32)
        np.put_along_axis(values, self.top_classes, self.top_probabilities, axis=1)
        return values


def read_reduced(stores: Sequence[Store], image_ids: Sequence[str]) -> Reduced:
    """Reduced predictions of some images out of several stores, in the order of `image_ids`.

    Raises
    ------
    KeyError
        Naming an image that none of the stores holds.
    ValueError
        Where the stores differ in their classes.
    """
    classes = same_classes(stores)
    parts = {kind: np.concatenate([store.read(kind) for store in stores]) for kind in KINDS}
    known = pd.Index(np.concatenate([store.image_ids for store in stores]), dtype=object)
    return Reduced(known, classes, **parts).of(image_ids)
