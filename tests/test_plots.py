"""Every figure is drawn and shown as a PNG."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fgvc_utils import plots, tables


def label_table() -> pd.DataFrame:
    names = [f"{n}" for n in range(6)]
    listing = {"image_id": names, "path": names, "split": ["train"] * 5 + ["test"]}
    table = tables.new_table(pd.DataFrame(listing | {"given": [*"aaabb", ""]}))
    return tables.leave_out(table, table["image_id"] == "0", "02_coarse", "label: far off")


ROUNDS = pd.DataFrame(
    {"round": [0, 1], "recipe": ["a", "b"], "kept": [5, 6], "returned": [0, 1], "left_out": [3, 2]}
)
LOG = pd.DataFrame(
    {"epoch": [1, 2], "train_loss": [2.0, 1.0], "loss": [2.0, 1.5], "top1": [0.1, 0.5], "top5": 0.9}
)
JUDGED = pd.DataFrame({"images": [3, 9], "agreement": [0.0, 0.7]}, index=["a", "b"])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.class_sizes(label_table(), "t"),
        lambda: plots.score_histogram(pd.Series([0.1, 0.95]), 0.9, "p", "t"),
        lambda: plots.rank_histogram(pd.Series([0, 3, 30]), 1, "t"),
        lambda: plots.ledger(ROUNDS, "t"),
        lambda: plots.class_losses(label_table(), "02_coarse", "t"),
        lambda: plots.agreement(JUDGED, 0.1, "t"),
        lambda: plots.learning_curve(LOG, "t"),
        lambda: plots.learning_curve(LOG[["epoch", "train_loss"]], "t"),
        lambda: plots.accuracy_by_size(pd.Series({"a": 3}), pd.Series({"a": 0.5}), "t"),
        lambda: plots.bars(pd.Series({"one": 0.5, "two": 0.7}), "t", "top-1"),
        lambda: plots.assigned(np.array([0, 0, 1]), np.array([0, 1, 1]), 2, ["a", "b"]),
    ],
)
def test_a_figure_shows_itself_as_png(draw):
    picture = Image.open(io.BytesIO(draw()._repr_png_()))
    assert picture.width > 400
    assert len(picture.convert("L").getcolors()) > 10


def test_class_losses_shows_the_share_left_out():
    heights = [
        bar.get_height()
        for bar in plots.class_losses(label_table(), "02_coarse", "t").axes[0].patches
    ]
    assert heights == [pytest.approx(1 / 3), 0]
