"""A model's predictions, in which its refit answers for the images that it predicts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fgvc_utils.jobs.predictions import Store, same_classes
from fgvc_utils.jobs.rows import fitted_images


class RefittedStore:
    """A store read in part from another one: a model's, and for test images that of its refit.

    Parameters
    ----------
    own : Store
        What the model predicted.
    again : Store
        What its refit predicted; where both know an image, the refit answers.
    refit : Path
        The refit's folder, with its rows.

    Raises
    ------
    ValueError
        The two differ in their classes, or the refit predicted an image that it was fitted on,
        which is named: such a prediction would be no judgement of it.

    Attributes
    ----------
    folder : Path
        That of the model's own store.
    classes : list of str
        The classes of its logits, in the order of their columns.
    """

    def __init__(self, own: Store, again: Store, refit: Path) -> None:
        self.folder, self.classes = own.folder, same_classes([own, again])
        self._own, self._again = own, again
        known = fitted_images(refit)
        remembered = [image for image in again.image_ids if image in known]
        if remembered:
            raise ValueError(
                f"{refit} predicted image {remembered[0]!r}, on which it was fitted: delete that "
                "folder and run the model's notebook again"
            )

    def rows_of(self, image_ids: Sequence[str]) -> np.ndarray:
        """The rows of images, int64: those of the refit come after all of the model's own."""
        ids = pd.Index(image_ids, dtype=object)
        places = self._again.image_ids.get_indexer(ids)
        rows, own = places + len(self._own.image_ids), places < 0
        rows[own] = self._own.rows_of(ids[own])
        return rows

    def read_rows(self, kind: str, rows: np.ndarray) -> np.ndarray:
        """Some rows of one array, by their places."""
        count = len(self._own.image_ids)
        again = rows >= count
        parts = [
            self._own.read_rows(kind, rows[~again]),
            self._again.read_rows(kind, rows[again] - count),
        ]
        order = np.concatenate([np.flatnonzero(~again), np.flatnonzero(again)])
        return np.concatenate(parts)[np.argsort(order)]


def with_refits(
    stores: Mapping[str, Store],
    refits: Mapping[str, Path],
    views: Mapping[str, Path] | None = None,
) -> dict[str, Store | RefittedStore]:
    """Return stores of models, of which some are read from refits where these predict an image.

    Parameters
    ----------
    stores : mapping of str to Store
        Model → what it predicted.
    refits : mapping of str to Path
        Model → the folder of its refit; of some models.
    views : mapping of str to Path, optional
        Model → a store of its refit in place of the refit's own, such as that of several crops.
    """
    found: dict[str, Store | RefittedStore] = dict(stores)
    for name, folder in refits.items():
        again = Store(dict(views or {}).get(name, folder / "predictions"))
        found[name] = RefittedStore(stores[name], again, folder)
    return found
