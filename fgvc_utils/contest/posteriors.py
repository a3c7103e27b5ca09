"""What 03 takes each train image for, as a file that later stages and other tools read.

A row an image and class: `image_id`, `class` and `probability` (float32, 0 to 1). The rows of an
image stand together, the likeliest class first; what they lack to 1 is the probability of showing
no class at all, and of classes that are hardly likely.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fgvc_utils.core.files import whole_file
from fgvc_utils.core.reading import read_parquet, write_parquet

# Beside the label tables, under the stage's name and this.
ENDING = "-posteriors"
# The stage whose posteriors later stages read, and the tables that rest on them.
JUDGED = "03_fine"
RESTING = (JUDGED, "04_lowq")
COLUMNS = ("image_id", "class", "probability")
# Smaller probabilities are not kept: there are many of them, and they teach nothing.
LEAST = 0.001


def posterior_rows(
    image_ids: Sequence[str], classes: Sequence[str], columns: np.ndarray, values: np.ndarray
) -> pd.DataFrame:
    """Sparse posteriors as rows.

    Parameters
    ----------
    image_ids
        The images.
    classes
        The names of the classes, by number; a number beyond them shows no class.
    columns, values
        Class numbers and their probabilities, int and float (images, width). A class that stands
        twice in a row counts once, its other value being 0.

    Returns
    -------
    pd.DataFrame
        Columns as in the file.
    """
    image, place = np.nonzero((values >= LEAST) & (columns < len(classes)))
    order = np.lexsort((-values[image, place], image))
    image, place = image[order], place[order]
    return pd.DataFrame(
        {
            "image_id": np.asarray(image_ids, object)[image],
            "class": np.asarray(classes, object)[columns[image, place]],
            "probability": values[image, place].astype(np.float32),
        }
    )


def write_posteriors(rows: pd.DataFrame, path: Path) -> None:
    """Write the rows of `posterior_rows`, whole or not at all."""
    with whole_file(path) as temporary:
        write_parquet(rows, temporary)


def read_posteriors(path: Path) -> pd.DataFrame:
    """Read what `write_posteriors` wrote.

    Raises
    ------
    ValueError
        Naming the file, where it is no such file or lacks a column.
    """
    return read_parquet(path, "run 03_fine again", list(COLUMNS))
