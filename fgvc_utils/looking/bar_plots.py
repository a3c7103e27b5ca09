"""Where the bars of a cleaning stage lie, as a picture."""

import pandas as pd
from matplotlib.figure import Figure

from fgvc_utils.looking.figures import BLUE, GREY, ORANGE, panels_of


def bar_curves(
    keep: pd.DataFrame, relabel: pd.DataFrame, keep_bar: float, relabel_bar: float
) -> Figure:
    """What leaving out and relabelling bring at each bar, by planted errors, and the bars in force.

    Parameters
    ----------
    keep, relabel
        As from `bars.keep_curve` and `bars.relabel_curve`.
    keep_bar, relabel_bar
        The bars in force. 0 means that the likeliest class decides, which is no line.
    """
    figure, (left, right) = panels_of(2, "what each bar brings, by planted errors")
    shown = {"recall": BLUE, "precision": ORANGE, "left_out": GREY}
    _lines(left, keep, "keep_bar", shown)
    left.set(xlabel="posterior below which a label is left out", ylabel="share")
    _lines(right, relabel, "relabel_bar", {"relabelled": BLUE, "right": ORANGE})
    right.set(xlabel="posterior above which a class is taken")
    for panel, bar in ((left, keep_bar), (right, relabel_bar)):
        panel.set_ylim(-0.02, 1.02)
        if bar:
            panel.axvline(bar, color=GREY, linestyle="--", label="in force")
        panel.legend(frameon=False, fontsize="small")
    return figure


def _lines(axes, curve: pd.DataFrame, bar: str, shown: dict[str, str]) -> None:
    for name, colour in shown.items():
        axes.plot(curve[bar], curve[name], "o-", color=colour, label=name.replace("_", " "))
