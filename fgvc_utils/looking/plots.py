"""Figures from tables and arrays. Each function returns a matplotlib figure for a cell to show."""

import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fgvc_utils.contest import tables
from fgvc_utils.looking import mistakes
from fgvc_utils.looking.class_names import name_of
from fgvc_utils.looking.figures import (
    BLUE,
    GREEN,
    GREY,
    LINES,
    ORANGE,
    bars,
    figure_of,
    inches,
    legend_beside,
    name_ends,
    panels_of,
    plain_numbers,
    sentence,
    shortened,
    square_of,
)

# Steps of a learning-rate sweep that weigh most in its smoothed loss.
SWEEP_SPAN = 10
# Classes that a plot names one by one.
MOST_NAMED = 30
# Classes that are named beside a plot of points.
MOST_BESIDE = 14


def class_sizes(table: pd.DataFrame, title: str) -> Figure:
    """Train images of each class, the largest class first: as they came, and those kept.

    The largest and the smallest class are named below.

    Parameters
    ----------
    table
        A label table.
    """
    train = table[table["split"] == "train"]
    given = train["given"].value_counts()
    if given.empty:
        return sentence(title, "no train image, so no class has a size")
    kept = table[tables.kept(table)]["label"].value_counts().reindex(given.index, fill_value=0)
    figure, axes = figure_of(title)
    bars(axes, given, GREY, 1, "came")
    bars(axes, kept, BLUE, 0.7, "kept")
    name_ends(axes, [f"{name_of(name)}: {count}" for name, count in given.items()])
    axes.set(xlabel=f"{_count(given, 'class', 'classes')}, largest first", ylabel="images")
    legend_beside(axes)
    return figure


def score_histogram(scores: pd.Series, threshold: float, name: str, title: str) -> Figure:
    """How many images have which score, on a logarithmic axis, with the threshold.

    Parameters
    ----------
    scores
        One score an image, 0 to 1.
    threshold
        Drawn as a line; the label counts the scores above it.
    name
        What the score is called.
    """
    if scores.empty:
        return sentence(title, f"no image has a {name}")
    figure, axes = figure_of(title)
    axes.hist(scores, bins=np.linspace(0, 1, 41), color=BLUE, log=True)
    plain_numbers(axes.yaxis)
    axes.axvline(threshold, color=ORANGE)
    over = int((scores > threshold).sum())
    axes.set(xlabel=f"{name}; {over} of {len(scores)} above {threshold}", ylabel="images (log)")
    return figure


def ledger(rounds: pd.DataFrame, title: str) -> Figure:
    """Images kept and left out after each round, and how many returned in it.

    Parameters
    ----------
    rounds
        One row a round: round, recipe (text), kept, returned, left_out (counts of images).
    """
    figure, axes = figure_of(title, height=1.1 + 0.36 * len(rounds))
    rows = range(len(rounds))
    axes.barh(rows, rounds["kept"], color=BLUE, label="kept")
    axes.barh(rows, rounds["left_out"], left=rounds["kept"], color=ORANGE, label="left out")
    for place, (kept, returned) in enumerate(zip(rounds["kept"], rounds["returned"], strict=True)):
        axes.annotate(
            f"+{returned} ",
            (kept, place),
            ha="right",
            va="center",
            color="white",
            annotation_clip=False,
        )
    numbered = zip(rounds["round"], rounds["recipe"], strict=True)
    axes.set_yticks(rows, [shortened(f"{number}: {recipe}", 44) for number, recipe in numbered])
    axes.invert_yaxis()
    axes.set_xlabel("images; + those that returned")
    legend_beside(axes)
    return figure


def planted(by_threshold: pd.DataFrame, title: str) -> Figure:
    """How well a threshold finds planted errors: recall, precision and right labels lost.

    Parameters
    ----------
    by_threshold
        One row a threshold: threshold, recall, precision, right_lost (shares, 0 to 1).
    """
    figure, axes = figure_of(title)
    names = {"recall": BLUE, "precision": ORANGE, "right_lost": GREY}
    for name, colour in names.items():
        label = name.replace("_", " ")
        axes.plot(by_threshold["threshold"], by_threshold[name], "o-", color=colour, label=label)
    axes.set(xlabel="threshold", ylabel="share", ylim=(-0.02, 1.02))
    axes.legend(frameon=False)
    return figure


def class_losses(table: pd.DataFrame, stage: str, title: str) -> Figure:
    """The share of its train images that each class lost in a stage, the 30 highest.

    Parameters
    ----------
    table
        A label table.
    stage
        Such as `02_coarse`.
    """
    train = table[table["split"] == "train"]
    lost = (train["stage"] == stage) & (train["status"] == "drop")
    share = lost.groupby(train["given"]).mean().sort_values(ascending=False)
    if share.empty:
        return sentence(title, "no train image, so no class lost any")
    shown = share.head(MOST_NAMED).rename(name_of)
    figure, axes = figure_of(title, height=max(3.6, 1.7 + inches(shown.index)))
    axes.bar(range(len(shown)), shown, color=ORANGE)
    axes.set_xticks(range(len(shown)), map(shortened, shown.index), rotation=90)
    few = f"{len(shown)} of {len(share)} classes, those that lost most"
    axes.set(xlabel=few if len(shown) < len(share) else "", ylabel="share left out", ylim=(0, 1))
    return figure


def agreement(judged: pd.DataFrame, drop_below: float, title: str) -> Figure:
    """Agreement of each class against its size; classes below the bar are orange and named.

    Parameters
    ----------
    judged
        Indexed by class: images (a count), agreement (0 to 1).
    drop_below
        The bar.
    """
    figure, axes = figure_of(title)
    low = judged["agreement"] < drop_below
    axes.scatter(judged["images"], judged["agreement"], c=np.where(low, ORANGE, BLUE))
    axes.axhline(drop_below, color=GREY, linewidth=1)
    axes.set(xlabel="images", ylabel="agreement", ylim=(-0.02, 1.02))
    # Beside the plot: many of the low classes lie on top of each other.
    below = judged[low].sort_values(["agreement", "images"], kind="stable")
    first = below["images"].head(MOST_BESIDE).rename(name_of)
    names = [f"{shortened(name)}: {n:.0f}" for name, n in first.items()]
    if len(below) > MOST_BESIDE:
        names.append(f"and {len(below) - MOST_BESIDE} more")
    if names:
        text = "\n".join([f"below {drop_below:g}, and images:", *names])
        axes.text(1.02, 1, text, transform=axes.transAxes, va="top", fontsize="small", color=ORANGE)
    return figure


def learning_curve(log: pd.DataFrame, title: str) -> Figure:
    """The epochs of a fit: its loss, its accuracy on held-out images, and its throughput.

    Panels without data are left out.

    Parameters
    ----------
    log
        One row an epoch: epoch, train_loss; where a fold is held out top1, top5 and loss; in logs
        that recorded it images_per_second and waiting (0 to 1), the share of the training time in
        which the loop waited for pictures.
    """
    further = [name for name in ("top1", "images_per_second") if name in log]
    figure, (losses, *others) = panels_of(1 + len(further), title)
    losses.plot(log["epoch"], log["train_loss"], "o-", ms=3, color=GREY, label="train")
    losses.set(xlabel="epoch", ylabel="loss")
    if "loss" in log:
        losses.plot(log["epoch"], log["loss"], "o-", ms=3, color=BLUE, label="held out")
    losses.legend(frameon=False)
    for name, axes in zip(further, others, strict=True):
        _held_out(axes, log) if name == "top1" else _throughput(axes, log)
    for axes in (losses, *others):
        axes.locator_params(axis="x", integer=True)
    return figure


def _held_out(axes: Axes, log: pd.DataFrame) -> None:
    """Draw top-1 and top-5 of the held-out images by epoch."""
    axes.plot(log["epoch"], log["top1"], "o-", ms=3, color=BLUE, label="top-1")
    axes.plot(log["epoch"], log["top5"], "o-", ms=3, color=GREEN, label="top-5")
    axes.set(xlabel="epoch", ylabel="share of held-out images", ylim=(0, 1.02))
    axes.legend(frameon=False)


def _throughput(axes: Axes, log: pd.DataFrame) -> None:
    """Draw images a second as bars, and where known the share of waiting on a second scale."""
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
    """The `figures` events of a launch as a table: one row an event, in order.

    Columns job, epoch, epochs (of how many; missing where the event names no epoch) and
    train_loss, loss and top1 as floats, missing where the event has none. The epoch is read from
    the event's text ("epoch 2/5"); an event without one counts as the job's next.
    """
    rows = []
    for event in events:
        job, numbers = event["job"], event["numbers"]
        named = re.match(r"epoch (\d+)/(\d+)", event["text"])
        earlier = sum(row["job"] == job for row in rows)
        epoch, epochs = (int(named[1]), int(named[2])) if named else (earlier + 1, math.nan)
        values = {name: _number(numbers.get(name)) for name in ("train_loss", "loss", "top1")}
        rows.append({"job": job, "epoch": epoch, "epochs": epochs, **values})
    return pd.DataFrame(rows, columns=["job", "epoch", "epochs", "train_loss", "loss", "top1"])


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def live_curves(events: Sequence[dict]) -> Figure:
    """The epochs of a launch while it runs: train loss, held-out loss and top-1, one line a job.

    The axes are as long as the longest job, which shows how much is left. Panels without data are
    left out.

    Parameters
    ----------
    events
        The `figures` events of `progress`, in order.
    """
    epochs = _epochs_of(events)
    jobs = list(dict.fromkeys(epochs["job"]))
    panels = {"train_loss": "train loss", "loss": "held-out loss", "top1": "held-out top-1"}
    panels = {name: text for name, text in panels.items() if epochs[name].notna().any()}
    title = jobs[0] if len(jobs) == 1 else f"{len(jobs)} jobs so far"
    figure, axes = panels_of(max(1, len(panels)), title)
    last = max(epochs[["epoch", "epochs"]].max().max(), 2) if len(epochs) else 2
    for panel, (name, text) in zip(axes, panels.items(), strict=False):
        for number, job in enumerate(jobs):
            of_job = epochs[epochs["job"] == job]
            colour = LINES[number % len(LINES)]
            panel.plot(
                of_job["epoch"], of_job[name], "o-", ms=3, color=colour, label=shortened(job)
            )
        newest = epochs[name].dropna().iloc[-1]
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

    The line is an exponential moving average of the steps, corrected for its start.

    Parameters
    ----------
    sweep
        One row a step: lr and loss as floats; steps without a finite loss are left out.
    suggested
        The rate drawn as a line.

    References
    ----------
    Smith (2017), Cyclical learning rates for training neural networks.
    """
    shown = sweep[np.isfinite(sweep["loss"])]
    smooth = shown["loss"].ewm(span=SWEEP_SPAN).mean()
    figure, axes = figure_of(title)
    axes.plot(shown["lr"], shown["loss"], ".", ms=3, color=GREY, label="each step")
    axes.plot(shown["lr"], smooth, color=BLUE, label="smoothed")
    axes.axvline(suggested, color=ORANGE, label=f"suggested: {suggested:.3g}")
    axes.set(xscale="log", xlabel="learning rate (log)", ylabel="train loss")
    plain_numbers(axes.xaxis)
    if len(shown):
        # The end of a sweep is a loss that explodes; it would press all else to the floor.
        low, start = smooth.min(), smooth.iloc[0]
        spread = max(start - low, 0.05 * abs(start), 1e-6)
        axes.set_ylim(low - 0.3 * spread, start + 0.7 * spread)
    axes.legend(frameon=False)
    return figure


def value_sweep(frame: pd.DataFrame, used: float, title: str) -> Figure:
    """Held-out top-1 at several values of a setting with their intervals, and the one in use.

    Parameters
    ----------
    frame
        One row a value: ratio or share, top1, low and high (its 95 % interval). May be empty.
    used
        The value in use.
    """
    if frame.empty:
        return sentence(title, "no other value was tried on held-out images")
    ordered = frame.sort_values(name := frame.columns[0])
    figure, axes = figure_of(title)
    below = (ordered["top1"] - ordered["low"]).clip(0)
    above = (ordered["high"] - ordered["top1"]).clip(0)
    axes.errorbar(ordered[name], ordered["top1"], [below, above], fmt="o-", color=BLUE, capsize=3)
    for value, top1 in zip(ordered[name], ordered["top1"], strict=True):
        axes.annotate(
            f"{top1:.3f}", (value, top1), (5, 5), textcoords="offset points", fontsize="small"
        )
    # Behind the interval of the value in use, which it would hide.
    axes.axvline(used, color=ORANGE, lw=8, alpha=0.4, zorder=0, label=f"in use: {used:g}")
    captions = {"ratio": "test ratio: shorter side / size before the centre crop"}
    axes.set(xlabel=captions.get(name, "share of the tuned weights"), ylabel="top-1")
    axes.legend(frameon=False)
    return figure


def accuracy_by_size(
    sizes: pd.Series, accuracy: pd.Series, title: str, images: pd.Series | None = None
) -> Figure:
    """Held-out accuracy of each class against the number of its train images.

    Classes without a train image have no place on the logarithmic axis; the label counts them.

    Parameters
    ----------
    sizes
        Train images of each class.
    accuracy
        Share of each class's held-out images that are right, 0 to 1.
    images
        Held-out images of each class; with them a line shows the mean of classes of similar size
        (see `mistakes.by_size`) with its 95 % interval and the number of images.
    """
    figure, axes = figure_of(title, height=3.6)
    of_class = sizes.reindex(accuracy.index).fillna(0)
    there = of_class > 0
    axes.scatter(of_class[there], accuracy[there], color=GREY, alpha=0.6, label="a class")
    if images is not None:
        binned = mistakes.by_size(sizes, accuracy, images)
        # The middle of a bin on the logarithmic axis.
        middle = np.sqrt(binned["smallest"] * binned["largest"])
        below = (binned["accuracy"] - binned["low"]).clip(0)
        above = (binned["high"] - binned["accuracy"]).clip(0)
        label = "classes of similar size, 95 %"
        axes.errorbar(
            middle, binned["accuracy"], [below, above], fmt="o-", color=BLUE, capsize=3, label=label
        )
        for x, n in zip(middle, binned["n"], strict=True):
            axes.annotate(f"n {n}", (x, 1.06), ha="center", fontsize="small", color=BLUE)
    without = f"; {(~there).sum()} without any are not shown" if (~there).any() else ""
    axes.set(xlabel=f"train images of the class (log){without}", ylabel="held-out accuracy")
    axes.set(xscale="log", ylim=(-0.03, 1.14))
    if there.any():
        # At least a doubling to each side, so that one class alone has an axis too.
        axes.set_xlim(max(of_class[there].min() / 2, 0.7), of_class[there].max() * 2)
    plain_numbers(axes.xaxis)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    return figure


def sisters(counts: pd.DataFrame, title: str) -> Figure:
    """The confusion matrix of sister classes: labels down, predictions across, counts of images.

    Right answers are blue, mistakes the more orange the larger their share of the class; empty
    cells are blank.

    Parameters
    ----------
    counts
        What `mistakes.sisters` returns.
    """
    if counts.empty:
        return sentence(title, "no class was taken for another one")
    values = counts.to_numpy()
    share = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    figure, axes = square_of(counts.rename(name_of).rename(columns=name_of), title, cell=0.3)
    own = np.zeros_like(share, dtype=bool)
    np.fill_diagonal(own, True)
    for shown, colours in ((own, "Blues"), (~own, "Oranges")):
        # Not the whole of the palette: the counts must be readable on its darkest.
        axes.imshow(np.where(shown & (values > 0), share, np.nan), cmap=colours, vmin=0, vmax=1.6)
    for row, column in zip(*np.nonzero(values), strict=True):
        text = str(values[row, column])
        axes.text(column, row, text, ha="center", va="center", fontsize="small")
    axes.set(xlabel="predicted", ylabel="label")
    return figure


def scores(table: pd.DataFrame, title: str) -> Figure:
    """Top-1 with its 95 % interval, one row a name, the first at the top.

    Parameters
    ----------
    table
        What `ensembling.score_table` returns: top1, low, high and n, by name. Without held-out
        images the figure says so.
    """
    shown = table.dropna(subset="top1")[::-1]
    if shown.empty:
        return sentence(title, "no image was held out, so nothing is judged")
    figure, axes = figure_of(title, height=0.9 + 0.32 * len(shown))
    # Rounding may put an end of the interval a hair on the wrong side of the share.
    reach = [(shown["top1"] - shown["low"]).clip(0), (shown["high"] - shown["top1"]).clip(0)]
    rows = range(len(shown))
    axes.errorbar(shown["top1"], rows, xerr=reach, fmt="o", color=BLUE, capsize=3)
    axes.set_yticks(rows, [shortened(name, 44) for name in shown.index])
    for place, (top1, high) in enumerate(zip(shown["top1"], shown["high"], strict=True)):
        axes.annotate(f"  {top1:.3f}", (high, place), va="center")
    axes.set(xlabel=f"held-out top-1 with its 95 % interval, n = {shown['n'].iloc[0]}")
    axes.margins(x=0.12)
    return figure


def heat_map(values: pd.DataFrame, title: str) -> Figure:
    """A square table of correlations: orange below 0, violet above, blank where missing.

    Parameters
    ----------
    values
        Shape (names, names), -1 to 1.
    """
    if values.empty:
        return sentence(title, "nothing to compare")
    figure, axes = square_of(values, title, cell=0.55)
    axes.imshow(values.to_numpy(dtype=float), cmap="PuOr", vmin=-1.4, vmax=1.4)
    for row, column in zip(*np.nonzero(values.notna().to_numpy()), strict=True):
        value = values.iat[row, column]
        colour = "white" if abs(value) > 0.7 else "black"
        text = {"ha": "center", "va": "center", "fontsize": "small", "color": colour}
        axes.text(column, row, f"{value:.2f}", **text)
    return figure


def assigned(
    before: np.ndarray, after: np.ndarray, cap: int | np.ndarray, classes: Sequence[str]
) -> Figure:
    """Test images assigned to each class before and after balancing, and the cap.

    Parameters
    ----------
    before, after
        The class of each test image as a position in `classes`, int (images,).
    cap
        The most images of a class: one number, or one a class; 0 is none.
    classes
        Their names.
    """
    figure, axes = figure_of("test images of each class, by plain top-1 and as submitted")
    counts = np.bincount(before, minlength=len(classes))
    order = np.argsort(-counts, kind="stable")
    x = range(len(classes))
    bars(axes, counts[order], GREY, 1)
    axes.step(x, np.bincount(after, minlength=len(classes))[order], color=BLUE, where="mid")
    if np.any(cap):
        caps = np.broadcast_to(cap, len(classes))[order]
        axes.step(x, caps, color=ORANGE, linewidth=1, where="mid")
    name_ends(axes, [f"{name_of(classes[place])}: {counts[place]}" for place in order])
    several = _count(classes, "class", "classes")
    axes.set(xlabel=f"{several}, fullest first (grey: plain, blue: submitted)", ylabel="images")
    return figure


def _count(things: Sequence, one: str, several: str) -> str:
    return f"{len(things)} {one if len(things) == 1 else several}"
