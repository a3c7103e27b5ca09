"""Near copies that hashes miss: images whose features are nearly the same, joined into groups."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from fgvc_utils.cleaning.search import BLOCK, EXACT, Cells, cut_cells, sample_rows, whole
from fgvc_utils.cleaning.vectors import Rows, in_blocks, stored_vectors
from fgvc_utils.contest.copies import joined
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import Job

# The share of near copies that is to be compared, and the fewest cells: a sample holds few of them.
ENOUGH = 0.99
FEWEST_CELLS = 4


def with_deep_copies(table: pd.DataFrame, features: Job, least: float) -> pd.Series:
    """The groups of a label table, those joined whose images have nearly the same features.

    Copies of copies are one group, so a low threshold joins whole classes.

    Parameters
    ----------
    table
        The label table, train and test images, with its column group.
    features
        The job whose store holds the features of all images that could be read.
    least
        The cosine similarity of features from which on two images are copies.

    Returns
    -------
    pd.Series
        The group of each row: the image_id of its first image, or that of the group it had where
        nothing was joined to it. With the table's index.
    """
    store = Store(features.store)
    known = table["image_id"].isin(store.image_ids)
    codes, names = pd.factorize(table["group"])
    vectors = stored_vectors([store], table.loc[known, "image_id"])
    first = joined(len(names), linked(vectors, codes[known.to_numpy()], least))
    return pd.Series(np.asarray(names)[first[codes]], index=table.index, dtype=object, name="group")


def linked(
    vectors: Rows, codes: np.ndarray, least: float, exact: int = EXACT
) -> Iterator[np.ndarray]:
    """Pairs of groups that hold near copies, enough of them to join all that belong together.

    Parameters
    ----------
    vectors
        Unit vectors, float32 (images, width), read in blocks.
    codes
        The group of each image, int (images,).
    least
        The cosine similarity from which on two images are copies.
    exact
        Up to so many images all pairs are compared.

    Yields
    ------
    np.ndarray
        int64 (2, pairs) of group numbers.
    """
    cells, number = whole(len(vectors)), 1
    if len(vectors) > exact:
        cells = cut_cells(vectors)
        number = _cells_enough(cells, vectors, least)
    for members, chunks in cells.visits(number):
        block = vectors[members]
        for rows in chunks:
            one, other = np.nonzero(vectors[rows] @ block.T >= least)
            pairs = np.stack([codes[rows[one]], codes[members[other]]])
            pairs = pairs[:, pairs[0] != pairs[1]]
            if pairs.shape[1]:
                yield _spanning(pairs)


def _cells_enough(cells: Cells, vectors: Rows, least: float) -> int:
    """How many cells an image must be compared with, by the near copies of a sample."""
    sample = sample_rows(len(vectors))
    own, found = vectors[sample], [np.zeros((2, 0), np.int64)]
    for block, others in in_blocks(vectors, BLOCK):
        one, other = np.nonzero(own @ others.T >= least)
        found.append(np.stack([sample[one], other + block.start]))
    one, other = np.concatenate(found, axis=1)
    apart = one != other
    number, share = cells.enough(one[apart], other[apart], ENOUGH)
    number = min(max(number, FEWEST_CELLS), cells.nearest.shape[1])
    print(
        f"near copies among {len(vectors)} images: each is compared with {number} of {len(cells)} "
        f"cells, which hold {share:.1%} of the {apart.sum()} near copies of {len(sample)} images"
    )
    return number


def _spanning(pairs: np.ndarray) -> np.ndarray:
    """Fewer pairs that join the same: each number with the first of all that it is joined to."""
    numbers, places = np.unique(pairs, return_inverse=True)
    first = joined(len(numbers), [places.reshape(pairs.shape)])
    return np.stack([numbers, numbers[first]])
