"""Soft targets on disk: what images teach, a few probabilities each, as a job reads them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fgvc_utils.core.files import write_json
from fgvc_utils.jobs.predictions import ShardWriter, finish_store
from fgvc_utils.jobs.records import DONE

CLASSES, PROBABILITIES = "target_classes", "target_probabilities"


def write_targets(
    store: Path,
    classes: Sequence[str],
    image_ids: Sequence[str],
    columns: np.ndarray,
    values: np.ndarray,
) -> None:
    """Store soft targets, as the predictions of a teacher or the soft labels of a job.

    What a job learns depends on the `done.json` beside the store, so that file names the content.

    Parameters
    ----------
    store
        The folder of the store: arrays `target_classes`, int32, and `target_probabilities`,
        float16, both (images, width).
    classes
        The classes, by number.
    image_ids
        The images, in the order of the targets.
    columns, values
        Class numbers and their probabilities, int32 and float (images, width). A class that stands
        twice in a row counts once, its other value being 0.
    """
    columns, values = columns.astype(np.int32), values.astype(np.float16)
    (store.parent / DONE).unlink(missing_ok=True)
    writer = ShardWriter(store, 0, image_ids)
    writer.write(CLASSES, 0, columns)
    writer.write(PROBABILITIES, 0, values)
    writer.close()
    finish_store(store, classes, 1)
    digest = hashlib.sha256("\n".join(image_ids).encode())
    digest.update(columns.tobytes() + values.tobytes())
    write_json({"result": digest.hexdigest()}, store.parent / DONE)
