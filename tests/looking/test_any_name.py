"""Names of any kind are shown in one line and cut; no plot and no sheet stops or collapses."""

import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from fgvc_utils.contest import tables
from fgvc_utils.core.naming import in_line, shortened
from fgvc_utils.looking import candidates, plots, sheets

NAMES = {
    "two hundred letters": "A" * 200,
    "the widest letters": "W" * 200,
    "lines": "one\ntwo\r\nthree\u2028four\tfive",
    "right to left": "שלום עולם " * 10 + "\u202e",
    "pictures": "👩‍🔬🌸" * 60,
    "wide signs": "深圳植物园" * 40,
    "formula": r"$x_1$ $\frac{a}$ _b_",
    "html": "<b>x</b><script>alert(1)</script>" * 5,
}


@pytest.mark.parametrize("kind", NAMES)
def test_every_plot_and_sheet_shows_it(kind, tmp_path):
    names = [f"{NAMES[kind]}{number}" for number in range(4)]
    ids = [f"{number}" for number in range(12)]
    listed = {"image_id": ids, "path": ids, "split": "train", "given": names * 3}
    table = tables.new_table(pd.DataFrame(listed).astype(object))
    table = tables.leave_out(table, table["image_id"] == "0", "02_coarse", "label")
    judged = pd.DataFrame({"images": [3.0] * 4, "agreement": 0.01}, names)
    counts = pd.DataFrame(np.full((4, 4), 9), names, names)
    scores = pd.DataFrame({"top1": [0.5] * 4, "low": 0.4, "high": 0.6, "n": 9}, names)
    first = np.arange(8) % 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in (
            plots.class_sizes(table, names[0]),
            plots.class_losses(table, "02_coarse", "lost"),
            plots.agreement(judged, 0.1, "agreement"),
            plots.sisters(counts, "sisters"),
            plots.scores(scores, "scores"),
            plots.assigned(first, first, 3, names),
        ):
            FigureCanvasAgg(figure).draw()
            room = figure.axes[0].get_position()
            assert room.width > 0.15 and room.height > 0.15
    picture = tmp_path / "x.jpg"
    Image.new("RGB", (60, 40), "red").save(picture)
    inventory = pd.DataFrame({"image_id": ids, "file": str(picture)}, table.index)
    likely = {image: [(names[1], 0.4)] for image in ids}
    shown = candidates.of_images(
        table, inventory, pd.Series(0.5, table.index), "p", suggestions=likely
    )
    assert (shown["caption"].str.count("\n") == 1).all() and (shown["label"] == names * 3).all()
    for rows in (
        shown,
        candidates.of_classes(table, inventory, judged),
        candidates.of_copies(table, inventory, table.assign(group="g")),
    ):
        sheets.contact_sheet(rows, limit=4)


def test_a_name_is_one_line_and_as_wide_as_it_may_be():
    assert in_line("Lesser fritillary") == "Lesser fritillary"
    assert in_line("one\r\ntwo\x1b[31m\u2028x") == "one two [31m x"
    assert shortened("a\nb", 26) == "a b"
    assert shortened("0123456789", 5) == "01…89"
    assert shortened("深" * 10, 9) == "深深…深深"


def test_bars_of_ten_thousand_classes_are_one_shape():
    table = tables.new_table(
        pd.DataFrame(
            {
                "image_id": [f"{n}" for n in range(2000)], "path": "x", "split": "train",
                "given": [f"c{n % 1000}" for n in range(2000)],
            }
        ).astype(object)
    )  # fmt: skip
    assert len(plots.class_sizes(table, "images").axes[0].patches) == 2
