"""What jobs predicted, read back by image id: logits, probabilities, features, scores."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from fgvc_utils.jobs.predictions import BLOCK, Store, softmax
from fgvc_utils.jobs.records import Job


def read_logits(jobs: Sequence[Job], image_ids: Sequence[str]) -> pd.DataFrame:
    """Logits of images out of the jobs that predicted them.

    Parameters
    ----------
    jobs
        Finished jobs that keep logits; where several predicted an image, each gives a row.
    image_ids
        The images asked for.

    Returns
    -------
    DataFrame, float16
        Indexed by image_id in the order of `image_ids`, a column a class.

    Raises
    ------
    KeyError
        Naming an image that no job predicted.
    """
    parts, wanted = [], pd.Index(image_ids, dtype=object)
    for job in jobs:
        store = Store(job.store)
        # Only what is asked for: all images under all classes may be larger than the memory.
        known = wanted[wanted.isin(store.image_ids)]
        logits = store.read("logits", known)
        parts.append(pd.DataFrame(logits, index=known, columns=store.classes))
    together = parts[0] if len(parts) == 1 else pd.concat(parts)
    missing = wanted[~wanted.isin(together.index)]
    if len(missing):
        names = " and ".join(f"job {job.name}" for job in jobs)
        raise KeyError(f"{names} did not predict image {missing[0]!r}")
    return together.loc[wanted]


def scores_of_all(
    store: Store,
    image_ids: pd.Series,
    classes: np.ndarray | None = None,
    *,
    unread: Collection[str] = (),
) -> np.ndarray:
    """Scores of images, zeros for those that could not be read.

    Parameters
    ----------
    store
        A store of `scores`.
    image_ids
        The images asked for.
    classes
        Boolean (classes,): the columns wanted; all by default.
    unread
        The images that the store may lack.

    Returns
    -------
    ndarray, float32 (images, classes)
        In the order of `image_ids`. A block of rows is read at a time, so that there is never more
        than one array of this size.

    Raises
    ------
    KeyError
        Naming an image that the store does not hold and that is not among `unread`.
    """
    chosen = np.ones(len(store.classes), dtype=bool) if classes is None else classes
    known = np.flatnonzero(image_ids.isin(store.image_ids) | ~image_ids.isin(unread))
    places = store.rows_of(image_ids.iloc[known])
    scores = np.zeros((len(image_ids), int(chosen.sum())), np.float32)
    for start in range(0, len(known), BLOCK):
        part = slice(start, start + BLOCK)
        scores[known[part]] = store.read_rows("scores", places[part])[:, chosen]
    return scores


def read_features(job: Job, image_ids: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """Features of the unmirrored pictures, in the order of `image_ids`.

    Returns
    -------
    features : np.ndarray
        float16 (images, width).
    image_ids : pd.Index
        The image ids of its rows.

    Raises
    ------
    KeyError
        Naming an image that the job did not predict.
    """
    return Store(job.store).read("features", image_ids), pd.Index(image_ids, dtype=object)


def read_probabilities(jobs: Sequence[Job], image_ids: Sequence[str]) -> pd.DataFrame:
    """Softmax of `read_logits`, float32; raises KeyError naming an image that no job predicted."""
    return as_probabilities(read_logits(jobs, image_ids))


def as_probabilities(logits: pd.DataFrame) -> pd.DataFrame:
    """Softmax of logits, float32: a row an image, a column a class."""
    values = softmax(logits.to_numpy(dtype=np.float32))
    return pd.DataFrame(values, index=logits.index, columns=logits.columns)
