"""The like cases of an image that was just decided on: what may be decided alike at a glance."""

from collections.abc import Sequence

import numpy as np

from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import Job

# So many images of one kind, in the order of the gallery, are compared at most.
MOST_COMPARED = 5000


class Likes:
    """Finds the nearest of some images in the feature space of a frozen network.

    Parameters
    ----------
    job
        The job whose store holds the features. It is opened when first asked.
    count
        At most so many images are found.
    """

    def __init__(self, job: Job, count: int):
        self.count = count
        self._job = job
        self._store: Store | None = None

    def nearest(self, item: str, others: Sequence[str]) -> list[str]:
        """The nearest of `others` to an image by cosine similarity, the nearest first.

        Images without features are left out; where the image itself has none, nothing is found.
        """
        if self._store is None:
            self._store = Store(self._job.store)
        rows = self._store.image_ids.get_indexer([item, *others[:MOST_COMPARED]])
        if rows[0] < 0:
            return []
        there = np.flatnonzero(rows >= 0)
        vectors = self._store.read_rows("features", rows[there]).astype(np.float32)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        order = np.argsort(-(vectors[1:] @ vectors[0]), kind="stable")[: self.count]
        return [others[number - 1] for number in there[1:][order]]


def likes_of(jobs: Sequence[tuple[Job, object]], count: int) -> Likes | None:
    """The like cases by the first of some feature jobs; None where there are none, or none asked.

    Parameters
    ----------
    jobs
        Jobs with their rows, as `cleaning.fits.feature_jobs` makes them.
    count
        At most so many like cases; 0 is none.
    """
    return Likes(jobs[0][0], count) if jobs and count else None
