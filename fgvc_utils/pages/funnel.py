"""What each stage left out and why: from all train images to those that are kept."""

import zlib
from collections.abc import Iterable

import pandas as pd

from fgvc_utils.contest.tables import CAUSES, HUMAN
from fgvc_utils.pages.runs import Run

# Who decided on an image, and why.
DECIDED = ("stage", "by", "cause")
# What became of a train image, as pages colour it.
KEPT, RELABELLED, LEFT_OUT = "kept", "relabelled", "left out"


def funnel(run: Run) -> list[dict]:
    """What came of the train images, stage by stage.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    list of dict
        A row a stage whose table is there: `stage`; `train`, all train images; `before` and
        `kept`, those that were and are kept; `left_out`, `returned` and `relabelled`, what the
        stage changed; `causes`, the rows of `causes` of what it left out; `others`, how many of
        these another stage left out by this table: it was made of an earlier state of the one
        before.
    """
    rows: list[dict] = []
    before: pd.DataFrame | None = None
    for stage in run.tables:
        table = run.table(stage)
        now = table.loc[table["split"] == "train", ["given", "label", "status", *DECIDED]]
        kept = now["status"] == "keep"
        was = kept | True if before is None else before["kept"].reindex(now.index, fill_value=True)
        label = now["given"] if before is None else before["label"].reindex(now.index)
        label = label.fillna(now["given"])
        out = now[was & ~kept]
        rows.append(
            {
                "stage": stage,
                "train": len(now),
                "before": int(was.sum()),
                "kept": int(kept.sum()),
                "left_out": len(out),
                "returned": int((kept & ~was).sum()),
                "relabelled": int((kept & (now["label"] != label)).sum()),
                "causes": causes(out),
                "others": int((out["stage"] != stage).sum()),
            }
        )
        before = pd.DataFrame({"kept": kept, "label": now["label"]})
    return rows


def causes(images: pd.DataFrame) -> list[dict]:
    """Count images by why they are as they are.

    Parameters
    ----------
    images : pd.DataFrame
        Rows of a label table.

    Returns
    -------
    list of dict
        A row a cause, the most frequent first: `cause`, `meaning`, `by_rule` and `by_human`, how
        many images, and `images`, all of them.
    """
    counted = []
    for cause, rows in images.groupby("cause", sort=True):
        by_human = int((rows["by"] == HUMAN).sum())
        counted.append(
            {
                "cause": cause,
                "meaning": CAUSES.get(cause, ""),
                "by_human": by_human,
                "by_rule": len(rows) - by_human,
                "images": len(rows),
            }
        )
    return sorted(counted, key=lambda row: (-row["images"], row["cause"]))


def fates(table: pd.DataFrame) -> pd.Series:
    """What became of each image: `KEPT`, `RELABELLED` or `LEFT_OUT`, by the table's index."""
    fate = pd.Series(KEPT, table.index, dtype=object)
    fate[(table["status"] == "keep") & (table["label"] != table["given"])] = RELABELLED
    fate[table["status"] != "keep"] = LEFT_OUT
    return fate


def drawn(image_ids: Iterable[str], most: int) -> list[str]:
    """Some of many images, drawn by their ids alone: the same ones each time, none picked."""
    return sorted(image_ids, key=lambda image: (zlib.crc32(str(image).encode()), image))[:most]


def most_changed(table: pd.DataFrame, most: int, least_images: int = 4) -> list[str]:
    """The classes of which the largest share is not as it came, of those with a few images.

    Parameters
    ----------
    table : pd.DataFrame
        The train images of a label table.
    most : int
        At most so many classes.
    least_images : int
        A class of fewer images says little.
    """
    changed = (fates(table) != KEPT).groupby(table["given"])
    share = changed.mean()[changed.size() >= least_images]
    share = share[share > 0]
    return share.sort_values(ascending=False, kind="stable").index[:most].tolist()
