"""What each image teaches a model of 10 that learns from 03's posteriors, for other benchmarks."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fgvc_utils.cleaning.rounds import Posteriors
from fgvc_utils.contest import tables
from fgvc_utils.contest.posteriors import ENDING, JUDGED, write_posteriors
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.soft_targets import CLASSES, PROBABILITIES
from fgvc_utils.training.soft_labels import what_teaches


@dataclass
class Parameters:
    """What `what_teaches` asks of 10's parameters, in a folder of its own."""

    folder: Path
    name: str = "soft"
    table: str = "04_lowq"
    soft_labels: bool = True
    reads_posteriors: bool = True

    def table_path(self, name: str) -> Path:
        """Where a table lies."""
        return self.folder / f"{name}.parquet"


def soft_rows(table: pd.DataFrame, learnt: Posteriors, judged: Sequence[str]) -> pd.DataFrame:
    """What teaches a model with `soft_labels`: a row an image and class.

    Parameters
    ----------
    table
        The label table after 03.
    learnt
        What its rounds learnt.
    judged
        The images that the stage judged.

    Returns
    -------
    pd.DataFrame
        Columns image_id, label and weight, the share of the class in what the image teaches.
    """
    with tempfile.TemporaryDirectory() as folder:
        cfg = Parameters(Path(folder))
        write_posteriors(learnt.named(judged), cfg.table_path(JUDGED + ENDING))
        teaching = what_teaches(cfg, table)
        store = Store(Path(teaching.store))
        columns, values = store.read(CLASSES), store.read(PROBABILITIES)
        image, place = np.nonzero(values)
        soft = pd.DataFrame(
            {
                "image_id": np.array(store.image_ids, object)[image],
                "label": np.array(store.classes, object)[columns[image, place]],
                "weight": values[image, place].astype(np.float64),
            }
        )
    kept = teaching.table[tables.kept(teaching.table)]
    by_label = kept.loc[~kept["image_id"].isin(soft["image_id"]), ["image_id", "label"]]
    return pd.concat([by_label.assign(weight=1.0), soft], ignore_index=True)
