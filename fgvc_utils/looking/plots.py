"""Figures from tables and arrays. Each function returns a matplotlib figure for a cell to show."""

import io
import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

from fgvc_utils.contest import tables
from fgvc_utils.looking import mistakes

BLUE, ORANGE, GREY, GREEN = "#0072b2", "#d55e00", "#9a9a9a", "#009e73"
# One after another for lines of one kind: the palette of Okabe and Ito (2008).
LINES = (BLUE, ORANGE, GREEN, "#cc79a7", "#e69f00", "#56b4e9", "#000000")

# Steps of a learning-rate sweep that weigh most in its smoothed loss.
SWEEP_SPAN = 10


class Picture(Figure):
    """A figure that a notebook shows as PNG by itself, without pyplot and its global state.

    Text stands as it is: a class called `$x_1$` is no formula.
    """

    def draw(self, renderer: RendererBase) -> None:
        for axes in self.axes:
            # Their labels are made when they are first asked for.
            for axis in (axes.xaxis, axes.yaxis):
                axis.get_ticklabels(which="both")
        for text in self.findobj(Text):
            text.set_parse_math(False)
        super().draw(renderer)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def _figure(title: str, width: float = 8, height: float = 3) -> tuple[Figure, object]:
    figure = Picture(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _plain_numbers(axis: Axis) -> None:
    """Have a logarithmic axis labelled 0.001 and not by a formula, which a Picture does not set."""
    axis.set_major_formatter("{x:g}")
    # Between the powers of ten it says something only where there are few of them.
    axis.set_minor_formatter(LogFormatter())


def class_sizes(table: pd.DataFrame, title: str) -> Figure:
    """Kept train images a class, largest first; what was left out stands on top."""
    train = table[table["split"] == "train"]
    given = train["given"].value_counts()
    kept = table[tables.kept(table)]["label"].value_counts().reindex(given.index, fill_value=0)
    figure, axes = _figure(title)
    axes.bar(range(len(given)), given, color=GREY, width=1, label="came")
    axes.bar(range(len(given)), kept, color=BLUE, width=0.7, label="kept")
    axes.set(xlabel=f"{len(given)} classes, largest first", ylabel="images")
    axes.legend(frameon=False)
    return figure


def score_histogram(scores: pd.Series, threshold: float, name: str, title: str) -> Figure:
    """How many images have which score, with the threshold."""
    figure, axes = _figure(title)
    axes.hist(scores, bins=np.linspace(0, 1, 41), color=BLUE, log=True)
    _plain_numbers(axes.yaxis)
    axes.axvline(threshold, color=ORANGE)
    over = int((scores > threshold).sum())
    axes.set(xlabel=f"{name}; {over} of {len(scores)} above {threshold}", ylabel="images (log)")
    return figure


def rank_histogram(ranks: pd.Series, top: int, title: str) -> Figure:
    """How many images have their label at which rank, and where the stage cuts."""
    figure, axes = _figure(title)
    last = min(20, int(ranks.max()) + 1)
    counts = np.bincount(np.minimum(ranks, last), minlength=last + 1)
    colours = [BLUE if rank < top else ORANGE for rank in range(last + 1)]
    axes.bar(range(last + 1), counts, color=colours)
    axes.axvline(top - 0.5, color=ORANGE)
    axes.set_xticks(range(last + 1), [*map(str, range(last)), f"≥{last}"])
    axes.set(xlabel="classes scored above the label", ylabel="images")
    return figure


def ledger(rounds: pd.DataFrame, title: str) -> Figure:
    """Kept and left-out images round by round, with what returned in each."""
    figure, axes = _figure(title)
    x = range(len(rounds))
    axes.bar(x, rounds["kept"], color=BLUE, label="kept")
    axes.bar(x, rounds["left_out"], bottom=rounds["kept"], color=ORANGE, label="left out")
    for place, (kept, returned) in enumerate(zip(rounds["kept"], rounds["returned"], strict=True)):
        axes.annotate(f"+{returned}", (place, kept), ha="center", va="top", color="white")
    axes.set_xticks(
        x, [f"{n}: {r}" for n, r in zip(rounds["round"], rounds["recipe"], strict=True)]
    )
    axes.set_ylabel("images")
    axes.legend(loc="lower right", framealpha=1)
    return figure


def planted(by_threshold: pd.DataFrame, title: str) -> Figure:
    """Precision, recall and right labels lost over the threshold, learnt from planted errors."""
    figure, axes = _figure(title)
    names = {"recall": BLUE, "precision": ORANGE, "right_lost": GREY}
    for name, colour in names.items():
        label = name.replace("_", " ")
        axes.plot(by_threshold["threshold"], by_threshold[name], "o-", color=colour, label=label)
    axes.set(xlabel="threshold", ylabel="share", ylim=(-0.02, 1.02))
    axes.legend(frameon=False)
    return figure


def class_losses(table: pd.DataFrame, stage: str, title: str) -> Figure:
    """The share of each class that a stage left out, the 30 that lost most."""
    train = table[table["split"] == "train"]
    lost = (train["stage"] == stage) & (train["status"] == "drop")
    share = lost.groupby(train["given"]).mean().sort_values(ascending=False).head(30)
    figure, axes = _figure(title)
    axes.bar(share.index, share, color=ORANGE)
    axes.tick_params(axis="x", rotation=90)
    axes.set(ylabel="share left out", ylim=(0, 1))
    return figure


def agreement(judged: pd.DataFrame, drop_below: float, title: str) -> Figure:
    """Agreement of each class against its size; dropped ones in orange."""
    figure, axes = _figure(title)
    low = judged["agreement"] < drop_below
    axes.scatter(judged["images"], judged["agreement"], c=np.where(low, ORANGE, BLUE))
    for label, row in judged[low].iterrows():
        axes.annotate(label, (row["images"], row["agreement"]))
    axes.axhline(drop_below, color=GREY, linewidth=1)
    axes.set(xlabel="images", ylabel="agreement", ylim=(-0.02, 1.02))
    return figure


def _panels(count: int, title: str, height: float = 3) -> tuple[Figure, list]:
    """A figure of `count` panels side by side, titled at its upper left."""
    figure = Picture(figsize=(max(5, 4 * count), height), layout="constrained")
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize="large")
    return figure, panels


def learning_curve(log: pd.DataFrame, title: str) -> Figure:
    """The epochs of a fit: its loss, how it does on held-out images, and its throughput.

    `log` has a row an epoch: epoch, train_loss; where a fold is held out top1, top5 and loss; in
    logs that recorded it images_per_second, and waiting (0 to 1), the share of the training time in
    which the loop waited for pictures. Panels without data are left out.
    """
    told = [name for name in ("top1", "images_per_second") if name in log]
    figure, (losses, *others) = _panels(1 + len(told), title)
    losses.plot(log["epoch"], log["train_loss"], "o-", ms=3, color=GREY, label="train")
    losses.set(xlabel="epoch", ylabel="loss")
    if "loss" in log:
        losses.plot(log["epoch"], log["loss"], "o-", ms=3, color=BLUE, label="held out")
    losses.legend(frameon=False)
    for name, axes in zip(told, others, strict=True):
        _held_out(axes, log) if name == "top1" else _throughput(axes, log)
    for axes in (losses, *others):
        axes.locator_params(axis="x", integer=True)
    return figure


def _held_out(axes: Axes, log: pd.DataFrame) -> None:
    """Top-1 and top-5 of the held-out images by epoch."""
    axes.plot(log["epoch"], log["top1"], "o-", ms=3, color=BLUE, label="top-1")
    axes.plot(log["epoch"], log["top5"], "o-", ms=3, color=GREEN, label="top-5")
    axes.set(xlabel="epoch", ylabel="share of held-out images", ylim=(0, 1.02))
    axes.legend(frameon=False)


def _throughput(axes: Axes, log: pd.DataFrame) -> None:
    """Images a second as bars, and where it is known the share of waiting on a second scale."""
    axes.bar(log["epoch"], log["images_per_second"], color=GREY, label="images a second")
    mean = f", {log['seconds'].mean():.3g} s each on average" if "seconds" in log else ""
    axes.set(xlabel=f"epoch{mean}", ylabel="images a second")
    if "waiting" in log:
        share = axes.twinx()
        share.plot(log["epoch"], log["waiting"], "o-", ms=3, color=ORANGE)
        share.set_ylim(0, 1.02)
        share.set_ylabel("share of time waiting for pictures", color=ORANGE)
        share.spines[["top"]].set_visible(False)


def _epochs_of(events: Sequence[dict]) -> pd.DataFrame:
    """The `figures` events of a launch as a table: a row an event, in order.

    Columns job, epoch, epochs (of how many; missing where the event tells of no epoch) and
    train_loss, loss and top1 as floats, missing where the event has none. The epoch is read from
    the event's text ("epoch 2/5"); an event that tells of none counts as the job's next.
    """
    rows = []
    for event in events:
        job, numbers = event["job"], event["numbers"]
        told = re.match(r"epoch (\d+)/(\d+)", event["text"])
        earlier = sum(row["job"] == job for row in rows)
        epoch, epochs = (int(told[1]), int(told[2])) if told else (earlier + 1, math.nan)
        values = {name: _number(numbers.get(name)) for name in ("train_loss", "loss", "top1")}
        rows.append({"job": job, "epoch": epoch, "epochs": epochs, **values})
    return pd.DataFrame(rows, columns=["job", "epoch", "epochs", "train_loss", "loss", "top1"])


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def live_curves(events: Sequence[dict]) -> Figure:
    """The epochs of a launch while it runs: train loss, held-out loss and top-1, a line a job.

    `events` are the `figures` events of `progress`, in order. The axes are as long as the longest
    job, so that one sees how much is left. Panels without data are left out.
    """
    told = _epochs_of(events)
    jobs = list(dict.fromkeys(told["job"]))
    panels = {"train_loss": "train loss", "loss": "held-out loss", "top1": "held-out top-1"}
    panels = {name: text for name, text in panels.items() if told[name].notna().any()}
    title = jobs[0] if len(jobs) == 1 else f"{len(jobs)} jobs so far"
    figure, axes = _panels(max(1, len(panels)), title)
    last = max(told[["epoch", "epochs"]].max().max(), 2) if len(told) else 2
    for panel, (name, text) in zip(axes, panels.items(), strict=False):
        for number, job in enumerate(jobs):
            of_job = told[told["job"] == job]
            colour = LINES[number % len(LINES)]
            panel.plot(of_job["epoch"], of_job[name], "o-", ms=3, color=colour, label=job)
        newest = told[name].dropna().iloc[-1]
        panel.set_title(f"{text}, now {newest:.3g}", loc="left", fontsize="medium")
        panel.set(xlabel="epoch", xlim=(0.5, last + 0.5))
        panel.locator_params(axis="x", integer=True)
        if name == "top1":
            panel.set_ylim(0, 1.02)
    if 1 < len(jobs) <= len(LINES):
        axes[0].legend(frameon=False, fontsize="small")
    return figure


def rate_sweep(sweep: pd.DataFrame, suggested: float, title: str) -> Figure:
    """The train loss while the learning rate rises step by step, and the rate that is suggested.

    `sweep` has a row a step: lr and loss as floats; steps without a finite loss are left out. The
    line is a mean of the steps so far that weighs the newest ones most (exponential, corrected for
    its start), as in the range test of Smith (2017, Cyclical learning rates).
    """
    shown = sweep[np.isfinite(sweep["loss"])]
    smooth = shown["loss"].ewm(span=SWEEP_SPAN).mean()
    figure, axes = _figure(title)
    axes.plot(shown["lr"], shown["loss"], ".", ms=3, color=GREY, label="each step")
    axes.plot(shown["lr"], smooth, color=BLUE, label="smoothed")
    axes.axvline(suggested, color=ORANGE, label=f"suggested: {suggested:.3g}")
    axes.set(xscale="log", xlabel="learning rate (log)", ylabel="train loss")
    _plain_numbers(axes.xaxis)
    if len(shown):
        # The end of a sweep is a loss that explodes; it would press all else to the floor.
        low, start = smooth.min(), smooth.iloc[0]
        spread = max(start - low, 0.05 * abs(start), 1e-6)
        axes.set_ylim(low - 0.3 * spread, start + 0.7 * spread)
    axes.legend(frameon=False)
    return figure


def ratio_sweep(frame: pd.DataFrame, used: float, title: str) -> Figure:
    """Held-out top-1 at several test ratios with their intervals, and the ratio in use.

    `frame` has a row a ratio: ratio, top1, low and high as floats.
    """
    ordered = frame.sort_values("ratio")
    figure, axes = _figure(title)
    below, above = ordered["top1"] - ordered["low"], ordered["high"] - ordered["top1"]
    axes.errorbar(
        ordered["ratio"], ordered["top1"], [below, above], fmt="o-", color=BLUE, capsize=3
    )
    for ratio, top1 in zip(ordered["ratio"], ordered["top1"], strict=True):
        axes.annotate(
            f"{top1:.3f}", (ratio, top1), (5, 5), textcoords="offset points", fontsize="small"
        )
    # Behind the interval of the ratio in use, which it would hide.
    axes.axvline(used, color=ORANGE, lw=8, alpha=0.4, zorder=0, label=f"in use: {used:g}")
    axes.set(xlabel="test ratio: shorter side / size before the centre crop", ylabel="top-1")
    axes.legend(frameon=False)
    return figure


def accuracy_by_size(
    sizes: pd.Series, accuracy: pd.Series, title: str, images: pd.Series | None = None
) -> Figure:
    """Held-out accuracy of each class against the number of its train images.

    All by class; with `images`, the held-out images of each class, a line shows the mean of classes
    of like size (`mistakes.by_size`) with its 95 % interval and the number of images. Classes
    without a train image have no place on the logarithmic axis; the label counts them.
    """
    figure, axes = _figure(title, height=3.6)
    of_class = sizes.reindex(accuracy.index).fillna(0)
    there = of_class > 0
    axes.scatter(of_class[there], accuracy[there], color=GREY, alpha=0.6, label="a class")
    if images is not None:
        binned = mistakes.by_size(sizes, accuracy, images)
        # The middle of a bin on the logarithmic axis.
        middle = np.sqrt(binned["smallest"] * binned["largest"])
        below, above = binned["accuracy"] - binned["low"], binned["high"] - binned["accuracy"]
        label = "classes of like size, 95 %"
        axes.errorbar(
            middle, binned["accuracy"], [below, above], fmt="o-", color=BLUE, capsize=3, label=label
        )
        for x, n in zip(middle, binned["n"], strict=True):
            axes.annotate(f"n {n}", (x, 1.06), ha="center", fontsize="small", color=BLUE)
    without = f"; {(~there).sum()} without any are not shown" if (~there).any() else ""
    axes.set(xlabel=f"train images of the class (log){without}", ylabel="held-out accuracy")
    axes.set(xscale="log", ylim=(-0.03, 1.14))
    _plain_numbers(axes.xaxis)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def sisters(counts: pd.DataFrame, title: str) -> Figure:
    """The confusion matrix of sister classes: labels down, predictions across, counts of images.

    `counts` is what `mistakes.sisters` returns. Right answers are blue, mistakes the more orange
    the larger their share of the class; empty cells are blank.
    """
    if counts.empty:
        figure, axes = _figure(title, height=1)
        axes.text(0, 0.5, "no class was taken for another one", va="center")
        axes.set_axis_off()
        return figure
    values = counts.to_numpy()
    share = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    side = 1.4 + 0.27 * len(counts)
    figure, axes = _figure(title, width=max(5, side + 0.5), height=max(2.5, side))
    own = np.zeros_like(share, dtype=bool)
    np.fill_diagonal(own, True)
    for shown, colours in ((own, "Blues"), (~own, "Oranges")):
        # Not the whole of the palette: the counts must be readable on its darkest.
        axes.imshow(np.where(shown & (values > 0), share, np.nan), cmap=colours, vmin=0, vmax=1.6)
    for row, column in zip(*np.nonzero(values), strict=True):
        text = str(values[row, column])
        axes.text(column, row, text, ha="center", va="center", fontsize="small")
    axes.set_xticks(range(len(counts.columns)), counts.columns, rotation=90, fontsize="small")
    axes.set_yticks(range(len(counts)), counts.index, fontsize="small")
    axes.set(xlabel="predicted", ylabel="label")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    return figure


def bars(values: pd.Series, title: str, unit: str) -> Figure:
    """Named values as horizontal bars, the largest at the top."""
    ordered = values.sort_values()
    figure, axes = _figure(title, height=0.8 + 0.32 * len(ordered))
    axes.barh(ordered.index, ordered, color=BLUE)
    for place, value in enumerate(ordered):
        axes.annotate(f" {value:.3f}", (value, place), va="center")
    axes.set(xlabel=unit, xlim=(0, min(1.0, ordered.max() * 1.15)))
    return figure


def scores(table: pd.DataFrame, title: str) -> Figure:
    """Top-1 with its 95 % interval, a row a name, the first at the top.

    `table` is that of `ensembling.score_table`: top1, low, high and n, by name. Without held-out
    images the figure says so.
    """
    shown = table.dropna(subset="top1")[::-1]
    if shown.empty:
        figure, axes = _figure(title, height=1)
        axes.text(0, 0.5, "no image was held out, so nothing is judged", va="center")
        axes.set_axis_off()
        return figure
    figure, axes = _figure(title, height=0.9 + 0.32 * len(shown))
    # Rounding may put an end of the interval a hair on the wrong side of the share.
    reach = [(shown["top1"] - shown["low"]).clip(0), (shown["high"] - shown["top1"]).clip(0)]
    axes.errorbar(shown["top1"], shown.index, xerr=reach, fmt="o", color=BLUE, capsize=3)
    for place, (top1, high) in enumerate(zip(shown["top1"], shown["high"], strict=True)):
        axes.annotate(f"  {top1:.3f}", (high, place), va="center")
    axes.set(xlabel=f"held-out top-1 with its 95 % interval, n = {shown['n'].iloc[0]}")
    axes.margins(x=0.12)
    return figure


def heat_map(values: pd.DataFrame, title: str) -> Figure:
    """A square table of correlations: orange below 0, violet above, blank where missing."""
    side = 1.6 + 0.55 * len(values)
    figure, axes = _figure(title, width=max(5, side + 1.5), height=max(2.5, side))
    axes.imshow(values.to_numpy(dtype=float), cmap="PuOr", vmin=-1.4, vmax=1.4)
    for row, column in zip(*np.nonzero(values.notna().to_numpy()), strict=True):
        text = f"{values.iat[row, column]:.2f}"
        axes.text(column, row, text, ha="center", va="center", fontsize="small")
    axes.set_xticks(range(len(values.columns)), values.columns, rotation=90, fontsize="small")
    axes.set_yticks(range(len(values)), values.index, fontsize="small")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    return figure


def assigned(
    before: np.ndarray, after: np.ndarray, cap: int | np.ndarray, classes: Sequence[str]
) -> Figure:
    """Images a class before and after balancing, and the cap: one number, or one a class.

    A cap of 0 is none.
    """
    figure, axes = _figure("test images a class, by plain top-1 and as submitted")
    order = np.argsort(-np.bincount(before, minlength=len(classes)), kind="stable")
    x = range(len(classes))
    axes.bar(x, np.bincount(before, minlength=len(classes))[order], color=GREY, width=1)
    axes.step(x, np.bincount(after, minlength=len(classes))[order], color=BLUE, where="mid")
    if np.any(cap):
        caps = np.broadcast_to(cap, len(classes))[order]
        axes.step(x, caps, color=ORANGE, linewidth=1, where="mid")
    axes.set(xlabel="classes, fullest first (grey: plain, blue: submitted)", ylabel="images")
    return figure
