"""What all plots share: figures that show themselves, colours, and names that never overprint."""

import io
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

from fgvc_utils.core import naming
from fgvc_utils.looking.sheets import font

BLUE, ORANGE, GREY, GREEN = "#0072b2", "#d55e00", "#9a9a9a", "#009e73"
# One after another for lines of one kind: the palette of Okabe and Ito (2008).
LINES = (BLUE, ORANGE, GREEN, "#cc79a7", "#e69f00", "#56b4e9", "#000000")
# Letters of a name that fit beside an axis; inches that a letter takes at most.
LONGEST_NAME, LONGEST_END, LETTER = 26, 36, 0.085
# Letters of a title, and bars that are drawn one by one.
LONGEST_TITLE, MOST_BARS = 100, 400
# How large small letters are beside the usual ones.
SMALL = 0.84


class _Plain(LogFormatter):
    """The marks that matplotlib would label on a logarithmic axis, as plain numbers: 0.6."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


class Picture(Figure):
    """A figure that a notebook shows as PNG by itself, without pyplot and its global state.

    Text is shown as it is: a class called `$x_1$` is no formula.
    """

    def draw(self, renderer: RendererBase) -> None:
        for axes in self.axes:
            # Their labels are made when they are first asked for.
            for axis in (axes.xaxis, axes.yaxis):
                axis.get_ticklabels(which="both")
        for text in self.findobj(Text):
            text.set_parse_math(False)
        with warnings.catch_warnings():
            # A sign that no font has is drawn as a box.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def figure_of(title: str, width: float = 8, height: float = 3) -> tuple[Figure, Axes]:
    """A figure with one panel, titled at its upper left; sizes in inches."""
    figure = Picture(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(shortened(title, LONGEST_TITLE), loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def panels_of(count: int, title: str, height: float = 3) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels side by side, titled at its upper left."""
    figure = Picture(figsize=(max(5, 4 * count), height), layout="constrained")
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(shortened(title, 24 * max(2, count)), x=0.01, ha="left", fontsize="large")
    return figure, panels


def square_of(values: pd.DataFrame, title: str, cell: float) -> tuple[Figure, Axes]:
    """A figure for a table of cells of `cell` inches, with its names down and across."""
    down, across = ([shortened(name) for name in names] for names in (values.index, values.columns))
    sides = [
        1 + cell * len(names) + max(LETTER * max(map(len, others)), SMALL * inches(others))
        for names, others in ((across, down), (down, across))
    ]
    figure, axes = figure_of(title, width=max(5, sides[0]), height=max(2.5, sides[1]))
    axes.set_xticks(range(len(across)), across, rotation=90, fontsize="small")
    axes.set_yticks(range(len(down)), down, fontsize="small")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    return figure, axes


def sentence(title: str, text: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure, axes = figure_of(title, height=1)
    axes.text(0, 0.5, text, va="center")
    axes.set_axis_off()
    return figure


def shortened(name: str, most: int = LONGEST_NAME) -> str:
    """The name in one line, cut in its middle where it is wider than `most` letters."""
    return naming.shortened(name, most)


def bars(axes: Axes, values: Sequence[float], colour: str, width: float, label: str = "") -> None:
    """A bar a value; of very many values one outline, which is drawn at once."""
    if len(values) <= MOST_BARS:
        axes.bar(range(len(values)), values, color=colour, width=width, label=label)
    else:
        edges = np.arange(len(values) + 1) - 0.5
        axes.stairs(values, edges, color=colour, fill=True, label=label)


def inches(names: Sequence[str]) -> float:
    """The room that the longest of some names takes once it is cut, in inches."""
    small = font(10)
    return max(small.getlength(shortened(name)) for name in names) / 72


def name_ends(axes: Axes, names: Sequence[str]) -> None:
    """Name the first and the last of many bars below the axis, and no others."""
    edge = len(names) - 0.5
    axes.set_xlim(-0.5, edge)
    if len(names) == 1:
        axes.set_xticks([0], [shortened(names[0], LONGEST_END)])
        return
    # At the panel's edges, where they have room even if there are but two bars.
    axes.set_xticks([-0.5, edge], [shortened(names[end], LONGEST_END) for end in (0, -1)])
    for label, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
        label.set_horizontalalignment(side)
    axes.tick_params(axis="x", length=0)


def legend_beside(axes: Axes) -> None:
    """A legend at the right of the panel, where it hides nothing."""
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis 0.001 and not by a formula, which a Picture does not set."""
    axis.set_major_formatter("{x:g}")
    # Between the powers of ten it says something only where there are few of them.
    axis.set_minor_formatter(_Plain())
