"""What stands on a plot can be read: no text lies on another one or hangs out of the picture."""

import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from fgvc_utils.contest import tables
from fgvc_utils.looking import bar_plots, figures, plots


def names(count: int) -> list[str]:
    """Long names that differ at their ends, longer ones than any contest has."""
    return [
        f"Lesser mountain fritillary of the far north, form {number:03d}" for number in range(count)
    ]


def label_table(classes: list[str], most: int = 60, dropped: int = 3) -> pd.DataFrame:
    """A table whose first class has `most` images and the last ones one; each lost some."""
    given = [n for k, n in enumerate(classes) for _ in range(max(1, most - k))]
    ids = [f"{place:06d}" for place in range(len(given))]
    listing = {"image_id": ids, "path": ids, "split": "train", "given": given}
    table = tables.new_table(pd.DataFrame(listing).astype(object))
    lost = table.groupby("given").cumcount() < dropped
    return tables.leave_out(table, lost, "02_coarse", "label")


def rounds(count: int, recipe: str) -> pd.DataFrame:
    numbers = range(count)
    frame = pd.DataFrame({"round": numbers, "recipe": recipe, "kept": 738, "left_out": 117})
    return frame.assign(returned=[70 // (number + 1) for number in numbers])


def judged(count: int) -> pd.DataFrame:
    return pd.DataFrame({"images": range(5, 5 + count), "agreement": 0.01}, names(count))


def matrix(count: int, value: float = 1.0) -> pd.DataFrame:
    return pd.DataFrame(np.full((count, count), value), names(count), names(count))


def sisters(count: int) -> pd.DataFrame:
    counts = pd.DataFrame(np.full((count, count), 100), names(count), names(count))
    return counts.assign(**{"(others)": 3})


def score_table(count: int) -> pd.DataFrame:
    top1 = np.linspace(0.9, 0.5, count)
    frame = pd.DataFrame({"top1": top1, "low": top1 - 0.04, "high": top1 + 0.04}, names(count))
    return frame.assign(n=1234)


def by_size(count: int) -> tuple[pd.Series, pd.Series, pd.Series]:
    classes = names(count)
    sizes = pd.Series([2 ** (number % 10) for number in range(count)], classes)
    return sizes, pd.Series(np.linspace(0, 1, count), classes), pd.Series(1000, classes)


def sized(count: int):
    sizes, accuracy, images = by_size(count)
    return plots.accuracy_by_size(sizes, accuracy, "held-out accuracy", images)


def ratios(*tried: float) -> pd.DataFrame:
    frame = pd.DataFrame({"ratio": tried, "top1": 0.7, "low": 0.65, "high": 0.75})
    return frame.assign(top1=np.linspace(0.66, 0.74, len(frame)))


def bars():
    """The curves of all bars, and of a fold that was held out."""
    tried = ["everything", "0.1", "0.3", "0.42", "0.5", "0.7", "0.9"]
    keep = pd.DataFrame({"keep_bar": [0.05, 0.95], "left_out": 0.1, "recall": 0.9})
    relabel = pd.DataFrame({"relabel_bar": [0.5, 0.95], "relabelled": 0.8, "right": 0.9})
    gained = {
        f"{name}_{end}": np.linspace(0, -0.4, len(tried)) + more
        for name in ("by_labels", "by_posterior")
        for end, more in (("more", 0), ("low", -0.05), ("high", 0.05))
    }
    held_out = pd.DataFrame(gained, tried).assign(in_force=[name == "0.42" for name in tried])
    return bar_plots.bar_curves(keep.assign(precision=0.5), relabel, 0.42, 0.7, held_out)


LONG_RECIPE = (
    "sgd, mirrored, tf_efficientnet_lite0, tf_efficientnet_lite1, rate 0.125, colour jitter 0.4"
)
EVENTS = [
    {"job": name, "text": f"epoch {epoch}/40", "numbers": {"train_loss": 2 / epoch, "top1": 0.5}}
    for name in names(7)
    for epoch in (1, 2)
]
DRAWN = {
    "class_sizes_of_many": lambda: plots.class_sizes(label_table(names(300)), "images a class"),
    "class_sizes_of_39": lambda: plots.class_sizes(label_table(names(39)), "images a class"),
    "class_sizes_of_two": lambda: plots.class_sizes(label_table(names(2)), "images a class"),
    "class_sizes_of_one": lambda: plots.class_sizes(label_table(names(1)), "images a class"),
    "class_losses_of_many": lambda: plots.class_losses(label_table(names(90)), "02_coarse", "lost"),
    "class_losses_of_one": lambda: plots.class_losses(label_table(names(1)), "02_coarse", "lost"),
    "ledger_of_seven": lambda: plots.ledger(rounds(7, "posteriors as targets"), "03_fine"),
    "ledger_of_seven_long": lambda: plots.ledger(rounds(7, LONG_RECIPE), "03_fine"),
    "ledger_of_one": lambda: plots.ledger(rounds(1, "plain"), "02_coarse"),
    "ledger_of_twenty": lambda: plots.ledger(rounds(20, LONG_RECIPE), "02_coarse"),
    "agreement_of_many": lambda: plots.agreement(judged(60), 0.1, "agreement"),
    "agreement_of_few": lambda: plots.agreement(judged(3), 0.1, "agreement"),
    "heat_map_of_nine": lambda: plots.heat_map(matrix(9, -0.97), "correlation"),
    "heat_map_of_two": lambda: plots.heat_map(matrix(2, 0.5), "correlation"),
    "sisters_of_thirty": lambda: plots.sisters(sisters(30), "sister classes"),
    "sisters_of_two": lambda: plots.sisters(sisters(2), "sister classes"),
    "scores_of_many": lambda: plots.scores(score_table(14), "each model alone"),
    "scores_of_one": lambda: plots.scores(score_table(1), "each model alone"),
    "accuracy_by_size_of_one": lambda: sized(1),
    "accuracy_by_size_of_many": lambda: sized(400),
    "ratios_of_five": lambda: plots.value_sweep(ratios(1, 1.15, 1.25, 1.35, 1.5), 1.35, "top-1"),
    "ratios_of_one": lambda: plots.value_sweep(ratios(1.35), 1.35, "top-1"),
    "bars": bars,
    "live_curves": lambda: plots.live_curves(EVENTS),
    "assigned": lambda: plots.assigned(np.arange(600) % 200, np.arange(600) % 200, 3, names(200)),
    "scores": lambda: plots.score_histogram(
        pd.Series(np.linspace(0, 1, 5000) ** 4), 0.9, "p(noise)", "train images by p(noise)"
    ),
}


def texts_of(figure) -> list[tuple[str, object]]:
    """The texts of a figure as they are drawn, with the rectangles that they take, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    ticks = [
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        for label in (tick.label1, tick.label2)
    ]
    # Of ticks only those within the limits are drawn; those outside are left where they were.
    drawn = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis._update_ticks()
        for label in (tick.label1, tick.label2)
    }
    hidden = {id(label) for label in ticks} - drawn
    texts = [
        text
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible() and id(text) not in hidden
    ]
    switched_off = {
        id(text)
        for axes in figure.axes
        if not axes.axison
        for axis in (axes.xaxis, axes.yaxis)
        for text in axis.findobj(Text)
    }
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in texts
        if id(text) not in switched_off
    ]


def overlaps(texts) -> list[tuple[str, str]]:
    """Pairs of texts whose rectangles meet by more than a pixel."""
    return [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(texts, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_lies_on_another_one_or_outside(name):
    figure = DRAWN[name]()
    if folder := os.environ.get("FGVC_SCREENSHOTS"):
        Path(folder, f"plot_{name}.png").write_bytes(figure._repr_png_())
    texts = texts_of(figure)
    assert texts and not overlaps(texts)
    for text, box in texts:
        inside = box.x0 >= -1 and box.y0 >= -1
        inside &= box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
        assert inside, f"{text!r} hangs out of the picture"


def test_the_check_sees_texts_that_overlap():
    figure, axes = figures.figure_of("t")
    axes.bar(range(40), 1)
    axes.set_xticks(range(40), names(40))
    assert overlaps(texts_of(figure))


def test_class_sizes_name_their_ends_and_their_number():
    table = label_table(["rose", "lily", "viola"], most=5, dropped=1)
    texts = [text for text, _ in texts_of(plots.class_sizes(table, "t"))]
    assert "rose: 5" in texts and "viola: 3" in texts and "lily: 4" not in texts
    assert "3 classes, largest first" in texts
    (axes,) = plots.class_sizes(label_table(["rose"], most=5), "t").axes
    assert axes.get_xlabel() == "1 class, largest first"


def test_assigned_names_its_ends():
    figure = plots.assigned(np.array([1, 1, 0]), np.array([1, 0, 0]), 2, ["rose", "lily"])
    texts = [text for text, _ in texts_of(figure)]
    assert "lily: 2" in texts and "rose: 1" in texts


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda: plots.value_sweep(pd.DataFrame(), 1.35, "t"), "no other value was tried"),
        (lambda: plots.scores(score_table(2).assign(top1=np.nan), "t"), "no image was held out"),
        (lambda: plots.heat_map(pd.DataFrame(), "t"), "nothing to compare"),
        (lambda: plots.sisters(pd.DataFrame(), "t"), "no class was taken"),
        (lambda: plots.score_histogram(pd.Series(dtype=float), 0.9, "p", "t"), "no image has a p"),
        (lambda: plots.class_sizes(label_table([]), "t"), "no train image"),
        (lambda: plots.class_losses(label_table([]), "02_coarse", "t"), "no train image"),
    ],
)
def test_where_there_is_nothing_to_draw_a_sentence_says_so(draw, said):
    texts = [text for text, _ in texts_of(draw())]
    assert len(texts) == 2 and any(said in text for text in texts)


def test_classes_below_the_bar_are_named_lowest_first_with_their_images():
    table = pd.DataFrame({"images": [9, 7, 5], "agreement": [0.5, 0.05, 0.0]}, [*"abc"])
    (text,) = plots.agreement(table, 0.1, "t").axes[0].texts
    assert text.get_text().splitlines() == ["below 0.1, and images:", "c: 5", "b: 7"]
    (text,) = plots.agreement(judged(20), 0.1, "t").axes[0].texts
    assert text.get_text().endswith("and 6 more")
    assert not plots.agreement(table, 0.0, "t").axes[0].texts


@pytest.mark.parametrize("most", [5, 6, 11, 40])
def test_a_long_name_keeps_both_ends(most):
    name = names(1)[0]
    cut = figures.shortened(name, most)
    assert len(cut) <= most and cut[0] == "L" and cut.endswith("0") and "…" in cut
    assert figures.shortened("short", 5) == "short"
