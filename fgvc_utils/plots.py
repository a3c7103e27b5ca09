"""Figures from tables and arrays. Each function returns a matplotlib figure for a cell to show."""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fgvc_utils import tables

BLUE, ORANGE, GREY, GREEN = "#0072b2", "#d55e00", "#9a9a9a", "#009e73"


class Picture(Figure):
    """A figure that a notebook shows as PNG by itself, without pyplot and its global state."""

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


def learning_curve(log: pd.DataFrame, title: str) -> Figure:
    """Train loss and, where a fold is held out, its loss and top-1 by epoch."""
    figure = Picture(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(log["epoch"], log["train_loss"], color=GREY, label="train")
    left.set(xlabel="epoch", ylabel="loss")
    left.set_title(title, loc="left")
    if "top1" in log:
        left.plot(log["epoch"], log["loss"], color=BLUE, label="held out")
        right.plot(log["epoch"], log["top1"], color=BLUE, label="top-1")
        right.plot(log["epoch"], log["top5"], color=GREEN, label="top-5")
        right.set(xlabel="epoch", ylim=(0, 1))
        right.legend(frameon=False)
    left.legend(frameon=False)
    return figure


def accuracy_by_size(sizes: pd.Series, accuracy: pd.Series, title: str) -> Figure:
    """Held-out accuracy of each class against the number of its train images."""
    figure, axes = _figure(title)
    axes.scatter(sizes.reindex(accuracy.index), accuracy, color=BLUE, alpha=0.7)
    axes.set(xlabel="train images of the class", ylabel="held-out accuracy", ylim=(-0.03, 1.03))
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


def assigned(before: np.ndarray, after: np.ndarray, cap: int, classes: Sequence[str]) -> Figure:
    """Images a class before and after balancing, and the cap."""
    figure, axes = _figure("test images a class, by plain top-1 and as submitted")
    order = np.argsort(-np.bincount(before, minlength=len(classes)), kind="stable")
    x = range(len(classes))
    axes.bar(x, np.bincount(before, minlength=len(classes))[order], color=GREY, width=1)
    axes.step(x, np.bincount(after, minlength=len(classes))[order], color=BLUE, where="mid")
    if cap:
        axes.axhline(cap, color=ORANGE, linewidth=1)
    axes.set(xlabel="classes, fullest first (grey: plain, blue: submitted)", ylabel="images")
    return figure
