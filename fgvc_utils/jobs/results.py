"""What jobs predicted, read back by image id: logits, probabilities, features, scores."""

import numpy as np
import pandas as pd

from fgvc_utils.jobs.predictions import BLOCK, Store, softmax
from fgvc_utils.jobs.records import Job


def read_logits(jobs: list[Job], image_ids: pd.Series) -> pd.DataFrame:
    """Logits of the jobs that predicted each image, a row an image that any of them predicted.

    Indexed by image_id in the order of `image_ids`, a column a class.
    """
    parts, wanted = [], pd.Index(image_ids, dtype=object)
    for job in jobs:
        store = Store(job.store)
        # Only what is asked for: all images under all classes may be larger than the memory.
        known = wanted[wanted.isin(store.image_ids)]
        logits = store.read("logits", known)
        parts.append(pd.DataFrame(logits, index=known, columns=store.classes))
    together = parts[0] if len(parts) == 1 else pd.concat(parts)
    return together.loc[wanted[wanted.isin(together.index)]]


def scores_of_all(
    store: Store, image_ids: pd.Series, classes: np.ndarray | None = None
) -> np.ndarray:
    """Scores of the images, float32 (images, classes); zeros for those that nobody could read.

    `classes`, boolean, chooses columns. Read a block of rows at a time, so that there is never more
    than one array of this size.
    """
    chosen = np.ones(len(store.classes), dtype=bool) if classes is None else classes
    known = np.flatnonzero(image_ids.isin(store.image_ids))
    places = store.rows_of(image_ids.iloc[known])
    scores = np.zeros((len(image_ids), int(chosen.sum())), np.float32)
    for start in range(0, len(known), BLOCK):
        part = slice(start, start + BLOCK)
        scores[known[part]] = store.read_rows("scores", places[part])[:, chosen]
    return scores


def read_features(job: Job, image_ids: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """Plain features, float16 (images, width), and the image ids they belong to, in order."""
    return Store(job.store).read("features", image_ids), pd.Index(image_ids, dtype=object)


def read_probabilities(jobs: list[Job], image_ids: pd.Series) -> pd.DataFrame:
    """Softmax of `read_logits`."""
    return as_probabilities(read_logits(jobs, image_ids))


def as_probabilities(logits: pd.DataFrame) -> pd.DataFrame:
    """Softmax of logits, float32: a row an image, a column a class."""
    values = softmax(logits.to_numpy(dtype=np.float32))
    return pd.DataFrame(values, index=logits.index, columns=logits.columns)
