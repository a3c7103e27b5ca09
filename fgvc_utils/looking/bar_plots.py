"""Where the bars of a cleaning stage lie, as a picture."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fgvc_utils.looking.figures import BLUE, GREY, ORANGE, panels_of


def bar_curves(
    keep: pd.DataFrame,
    relabel: pd.DataFrame,
    keep_bar: float,
    relabel_bar: float,
    held_out: pd.DataFrame | None = None,
) -> Figure:
    """What leaving out and relabelling bring at each bar, by planted errors, and the bars in force.

    Where a held-out fold was measured, also what heads find there that learnt from what stays.

    Parameters
    ----------
    keep, relabel
        As from `bars.keep_curve` and `bars.relabel_curve`.
    keep_bar, relabel_bar
        The bars in force. 0 means that the likeliest class decides, which is no line.
    held_out
        As `bar_probe.BarProbe.curve`; None or empty where nothing was measured.
    """
    measured = held_out is not None and len(held_out) > 0
    also = ", and on a held-out fold" if measured else ""
    title = f"what each bar brings, by planted errors{also}"
    figure, (left, right, *further) = panels_of(2 + measured, title)
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
    if measured:
        _differences(further[0], held_out)
    return figure


def _differences(axes, held_out: pd.DataFrame) -> None:
    """What top-1 on the held-out fold is more than with everything, with intervals, bar by bar."""
    places = np.arange(len(held_out))
    axes.axhline(0, color=GREY, linewidth=0.8)
    for name, colour, beside in (("by_labels", BLUE, -0.1), ("by_posterior", ORANGE, 0.1)):
        more, low, high = (held_out[f"{name}_{end}"] for end in ("more", "low", "high"))
        label, spread = name.replace("_", " "), [more - low, high - more]
        axes.errorbar(places + beside, more, spread, fmt="o", color=colour, label=label)
    for place in places[held_out["in_force"]]:
        axes.axvline(place, color=GREY, linestyle="--", label="in force")
    axes.set_xticks(places, held_out.index, rotation=90)
    axes.set(xlabel="least posterior of a label that is kept", ylabel="top-1 gained")
    # Above the panel: within it an interval may lie anywhere.
    axes.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=3)


def _lines(axes, curve: pd.DataFrame, bar: str, shown: dict[str, str]) -> None:
    for name, colour in shown.items():
        axes.plot(curve[bar], curve[name], "o-", color=colour, label=name.replace("_", " "))
