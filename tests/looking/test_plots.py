"""Every figure is drawn and shown as a PNG, and its lines are the numbers it was given."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from PIL import Image

from fgvc_utils.contest import tables
from fgvc_utils.looking import bar_plots, plots


def label_table() -> pd.DataFrame:
    names = [f"{n}" for n in range(6)]
    listing = {"image_id": names, "path": names, "split": ["train"] * 5 + ["test"]}
    table = tables.new_table(pd.DataFrame(listing | {"given": [*"aaabb", ""]}))
    return tables.leave_out(table, table["image_id"] == "0", "02_coarse", "label")


ROUNDS = pd.DataFrame(
    {"round": [0, 1], "recipe": ["a", "b"], "kept": [5, 6], "returned": [0, 1], "left_out": [3, 2]}
)
LOG = pd.DataFrame(
    {"epoch": [1, 2], "train_loss": [2.0, 1.0], "loss": [2.0, 1.5], "top1": [0.1, 0.5], "top5": 0.9}
)
MEASURED = LOG.assign(images_per_second=[50.0, 80.0], waiting=[0.4, 0.1], seconds=[6.0, 4.0])
EVENTS = [
    {"job": "a", "text": "epoch 1/4", "numbers": {"train_loss": 2.0, "loss": 3.0, "top1": 0.25}},
    {"job": "a", "text": "epoch 2/4", "numbers": {"train_loss": 1.0, "loss": None, "top1": 0.5}},
    {"job": "b", "text": "7 evaluations", "numbers": {"train_loss": 0.5}},
]
SWEEP = pd.DataFrame({"lr": [0.001, 0.01, 0.1, 1.0, 10.0], "loss": [2.0, 1.5, 1.0, 90.0, np.nan]})
RATIOS = pd.DataFrame(
    {"ratio": [1.35, 1.0], "top1": [0.7, 0.6], "low": [0.65, 0.5], "high": [0.8, 0.65]}
)
SISTERS = pd.DataFrame({"a": [5, 2], "b": [0, 1], "others": [1, 0]}, index=["a", "b"])
SCORES = pd.DataFrame(
    {"top1": [1.0, 0.5], "low": [0.6, 0.2], "high": [1.0, 0.8], "n": 6}, index=["vote", "a"]
)
KEEP = pd.DataFrame(
    {"keep_bar": [0.1, 0.9], "left_out": [0.0, 0.3], "recall": [0.2, 0.8], "precision": [np.nan, 1]}
)
RELABEL = pd.DataFrame({"relabel_bar": [0.5, 0.9], "relabelled": [0.6, 0.1], "right": [0.8, 1.0]})
HELD_OUT = pd.DataFrame(
    {
        "in_force": [False, False, True],
        "by_labels_more": [0.0, 0.02, np.nan], "by_labels_low": [0.0, -0.01, np.nan],
        "by_labels_high": [0.0, 0.06, np.nan],
        "by_posterior_more": [0.0, 0.1, np.nan], "by_posterior_low": [0.0, 0.05, np.nan],
        "by_posterior_high": [0.0, 0.14, np.nan],
    },
    index=["everything", "0.1", "likeliest"],
)  # fmt: skip
JUDGED = pd.DataFrame({"images": [3, 9], "agreement": [0.0, 0.7]}, index=["a", "b"])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.class_sizes(label_table(), "t"),
        lambda: plots.scores(SCORES, "t"),
        lambda: plots.scores(SCORES.assign(top1=np.nan), "t"),
        lambda: plots.heat_map(pd.DataFrame([[1, np.nan], [np.nan, -0.5]], [*"ab"], [*"ab"]), "t"),
        lambda: plots.score_histogram(pd.Series([0.1, 0.95]), 0.9, "p", "t"),
        lambda: plots.ledger(ROUNDS, "t"),
        lambda: plots.class_losses(label_table(), "02_coarse", "t"),
        lambda: plots.agreement(JUDGED, 0.1, "t"),
        lambda: plots.learning_curve(LOG, "t"),
        lambda: plots.learning_curve(LOG[["epoch", "train_loss"]], "t"),
        lambda: plots.learning_curve(MEASURED, "t"),
        lambda: plots.live_curves(EVENTS),
        lambda: plots.live_curves([]),
        lambda: plots.rate_sweep(SWEEP, 0.01, "t"),
        lambda: plots.value_sweep(RATIOS, 1.35, "t"),
        lambda: plots.accuracy_by_size(pd.Series({"a": 3}), pd.Series({"a": 0.5}), "t"),
        lambda: plots.accuracy_by_size(
            pd.Series({"a": 3}), pd.Series({"a": 0.5}), "t", pd.Series({"a": 4})
        ),
        lambda: plots.sisters(SISTERS, "t"),
        lambda: bar_plots.bar_curves(KEEP, RELABEL, 0.0, 0.7),
        lambda: bar_plots.bar_curves(KEEP, RELABEL, 0.0, 0.7, HELD_OUT),
        lambda: plots.sisters(SISTERS.iloc[:0, 2:], "no mistakes at all"),
        lambda: plots.assigned(np.array([0, 0, 1]), np.array([0, 1, 1]), 2, ["a", "b"]),
        lambda: plots.assigned(
            np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([1, 2]), ["a", "b"]
        ),
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


def points(axes, line=0):
    """The points of a line of a panel, as a list of pairs."""
    return [tuple(map(float, point)) for point in axes.lines[line].get_xydata()]


def test_bar_curves_show_what_a_held_out_fold_gains_and_the_bar_in_force():
    *_, gained = bar_plots.bar_curves(KEEP, RELABEL, 0.0, 0.7, HELD_OUT).axes
    assert [label.get_text() for label in gained.get_xticklabels()] == list(HELD_OUT.index)
    by_labels, by_posterior = gained.containers
    assert by_labels.lines[0].get_ydata()[:2].tolist() == [0, 0.02]
    spans = by_posterior.lines[2][0].get_segments()
    assert [segment[:, 1].round(9).tolist() for segment in spans[:2]] == [[0, 0], [0.05, 0.14]]
    in_force = [line for line in gained.lines if line.get_label() == "in force"]
    assert [line.get_xdata()[0] for line in in_force] == [2]
    for nothing in (None, pd.DataFrame()):
        assert len(bar_plots.bar_curves(KEEP, RELABEL, 0.0, 0.7, nothing).axes) == 2


def test_the_learning_curve_shows_throughput_and_waiting_where_the_log_has_them():
    losses, held_out, speed, waiting = plots.learning_curve(MEASURED, "t").axes
    assert points(losses) == [(1, 2), (2, 1)] and points(losses, 1) == [(1, 2), (2, 1.5)]
    assert points(held_out) == [(1, 0.1), (2, 0.5)]
    assert [bar.get_height() for bar in speed.patches] == [50, 80]
    assert points(waiting) == [(1, 0.4), (2, 0.1)] and waiting.get_ylim()[0] == 0
    assert speed.get_xlabel() == "epoch, 5 s each on average"


def test_the_learning_curve_of_an_old_log_has_the_panels_it_has_data_for():
    assert len(plots.learning_curve(LOG, "t").axes) == 2
    assert len(plots.learning_curve(LOG[["epoch", "train_loss"]], "t").axes) == 1


def test_live_curves_are_a_line_a_job_and_as_long_as_the_longest_job():
    train, loss, top1 = plots.live_curves(EVENTS).axes
    assert points(train) == [(1, 2), (2, 1)] and points(train, 1) == [(1, 0.5)]
    assert [line.get_label() for line in train.lines] == ["a", "b"]
    assert points(loss)[0] == (1, 3) and np.isnan(points(loss)[1][1])
    assert points(top1) == [(1, 0.25), (2, 0.5)]
    assert train.get_xlim() == (0.5, 4.5)
    assert top1.get_title(loc="left") == "held-out top-1, now 0.5"


def test_live_curves_leave_out_what_nobody_measures():
    (train,) = plots.live_curves(EVENTS[2:]).axes
    assert points(train) == [(1, 0.5)]


def test_the_rate_sweep_marks_the_suggestion_and_keeps_the_explosion_from_the_scale():
    (axes,) = plots.rate_sweep(SWEEP, 0.01, "t").axes
    assert axes.get_xscale() == "log"
    # The step whose loss is no number is left out.
    assert points(axes) == [(0.001, 2), (0.01, 1.5), (0.1, 1), (1, 90)]
    # Two steps, weighed 1 and 9 / 11: a span of ten steps.
    assert points(axes, 1)[:2] == [(0.001, 2), (0.01, pytest.approx((1.5 + 2 * 9 / 11) * 11 / 20))]
    assert axes.lines[2].get_xdata()[0] == 0.01
    assert axes.get_legend().get_texts()[2].get_text() == "suggested: 0.01"
    assert axes.get_ylim()[1] < 10


def test_the_rate_sweep_of_a_loss_that_only_rises_is_drawn():
    rising = SWEEP.assign(loss=[1.0, 2.0, 3.0, 4.0, np.inf])
    low, high = plots.rate_sweep(rising, 0.001, "t").axes[0].get_ylim()
    assert low < 1 < high


def test_the_ratio_sweep_is_in_order_with_its_intervals():
    (axes,) = plots.value_sweep(RATIOS, 1.35, "t").axes
    assert points(axes) == [(1, 0.6), (1.35, 0.7)]
    bars = [segment[:, 1].tolist() for segment in axes.collections[0].get_segments()]
    assert bars == [pytest.approx([0.5, 0.65]), pytest.approx([0.65, 0.8])]
    assert [text.get_text() for text in axes.texts] == ["0.600", "0.700"]
    assert axes.get_legend().get_texts()[0].get_text() == "in use: 1.35"


def test_the_matrix_of_sisters_writes_every_count_that_is_not_nought():
    (axes,) = plots.sisters(SISTERS, "t").axes
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "5", (2, 0): "1", (0, 1): "2", (1, 1): "1"}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "others"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    right, wrong = (np.ma.filled(image.get_array().astype(float), -1) for image in axes.images)
    assert right.round(3).tolist() == [[0.833, -1, -1], [-1, 0.333, -1]]
    assert wrong.round(3).tolist() == [[-1, -1, 0.167], [0.667, -1, -1]]


def test_accuracy_by_size_shows_the_mean_of_like_sizes_with_its_interval():
    sizes = pd.Series({"a": 4, "b": 7, "c": 100})
    accuracy = pd.Series({"a": 0.5, "b": 1.0, "c": 0.9, "d": 0.0})
    images = pd.Series({"a": 6, "b": 2, "c": 10, "d": 1})
    (axes,) = plots.accuracy_by_size(sizes, accuracy, "t", images).axes
    assert axes.get_xscale() == "log"
    assert axes.collections[0].get_offsets().tolist() == [[4, 0.5], [7, 1], [100, 0.9]]
    # Five of the eight images of a and b are right; the bins are 4 to 7 and 64 to 127.
    assert points(axes) == [(pytest.approx(28**0.5), 5 / 8), (pytest.approx(8128**0.5), 0.9)]
    low, high = axes.collections[1].get_segments()[0][:, 1]
    assert (low, high) == (pytest.approx(0.3057, abs=5e-4), pytest.approx(0.8632, abs=5e-4))
    assert [text.get_text() for text in axes.texts] == ["n 8", "n 10"]
    assert "1 without any" in axes.get_xlabel()


def test_accuracy_by_size_without_counts_shows_the_classes_alone():
    (axes,) = plots.accuracy_by_size(pd.Series({"a": 3}), pd.Series({"a": 0.5}), "t").axes
    assert len(axes.lines) == 0 and axes.collections[0].get_offsets().tolist() == [[3, 0.5]]


def test_scores_are_drawn_best_first_with_their_intervals():
    axes = plots.scores(SCORES, "t").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "vote"]
    (bars,) = axes.collections
    ends = [segment[:, 0].tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[0.2, 0.8], [0.6, 1.0]])
    assert "n = 6" in axes.get_xlabel()


FORMULA, BROKEN = "$x_1$", r"$\frac{$ $"


def odd_table() -> pd.DataFrame:
    table = label_table()
    odd = {"a": FORMULA, "b": BROKEN, "": ""}
    return table.assign(given=table["given"].map(odd), label=table["label"].map(odd))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.class_losses(odd_table(), "02_coarse", BROKEN),
        lambda: plots.agreement(JUDGED.set_axis([FORMULA, BROKEN]), 1, BROKEN),
        lambda: plots.sisters(
            SISTERS.set_axis([FORMULA, BROKEN]).set_axis([FORMULA, BROKEN, "others"], axis=1), "t"
        ),
        lambda: plots.scores(SCORES.set_axis([FORMULA, BROKEN]), BROKEN),
        lambda: plots.heat_map(pd.DataFrame(np.eye(2), [FORMULA, "b"], ["a", BROKEN]), "t"),
        lambda: plots.live_curves([event | {"job": BROKEN} for event in EVENTS]),
        lambda: plots.live_curves([EVENTS[0] | {"job": FORMULA}, EVENTS[0] | {"job": BROKEN}]),
        lambda: plots.ledger(ROUNDS.assign(recipe=[FORMULA, BROKEN]), BROKEN),
        lambda: plots.learning_curve(LOG, BROKEN),
    ],
)
def test_names_are_text_and_no_formulas(draw):
    figure = draw()
    # A formula that is none would be an error here.
    figure._repr_png_()
    shown = [text for text in figure.findobj(Text) if "$" in text.get_text()]
    assert shown and not any(text.get_parse_math() for text in shown)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.rate_sweep(SWEEP, 0.01, "t"),
        lambda: plots.score_histogram(pd.Series([0.1, 0.95] * 500), 0.9, "p", "t"),
        lambda: plots.accuracy_by_size(
            pd.Series([3, 900], [*"ab"]), pd.Series([0, 1], [*"ab"]), "t"
        ),
    ],
)
def test_a_logarithmic_axis_is_labelled_by_plain_numbers(draw):
    figure = draw()
    figure._repr_png_()
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert any(text in ("0.001", "0.01", "100", "30", "40") for text in texts)
    assert not any("$" in text for text in texts)
