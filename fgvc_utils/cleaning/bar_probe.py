"""What each keep bar does to the next head, measured on images that no head learnt from.

A head learns from what stays at each bar, outside one fold, and predicts that fold. No truth is
read: the fold is judged by its labels and by its posteriors, which err in opposite directions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fgvc_utils.cleaning.crossing import Crossing
from fgvc_utils.cleaning.deciding import DecisionParams
from fgvc_utils.cleaning.fits import cleaning_job
from fgvc_utils.cleaning.params import Round
from fgvc_utils.cleaning.rounds import Posteriors, of_judged, recut
from fgvc_utils.cleaning.verdicts import confirmed_classes, decisions
from fgvc_utils.core.intervals import paired_difference
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.reduction import read_reduced
from fgvc_utils.jobs.rows import Rows, job_rows

EXPLAINED = """## What the bars do to a held-out fold

One fold is kept apart, its copies counted once. For each bar a head on the stored features learns
from what stays of the other folds, under the labels it has at that bar, and predicts that fold: the
same images for all bars, also those that the rule would leave out. Their truth is not known, so
there are two figures, which err in opposite directions.

- `by_labels`: top-1 against the labels that the images came with. About as many of these are wrong
  as of all others, so it moves less than the truth would; and a head that learnt from wrong labels
  of the same habit finds them. It favours **leaving nothing out**.
- `by_posterior`: expected top-1 among images that show a class, the mean posterior of the class
  that the head predicts. It comes from the rounds that also decided what stays. It favours **what
  the rounds believe**.

What both say is likely so; where they differ, a person has to look. Each is compared with the head
that learnt from everything, image by image, with a 95 % interval. They cannot tell how another
network would fare, or test images of another kind, and the rounds saw this fold too, which flatters
them a little.
"""

EVERYTHING, LIKELIEST = "everything", "likeliest"
BARS = (0.1, 0.3, 0.5, 0.7, 0.9)
# The cut into folds, and what the heads are drawn from: no round comes that far.
CUT = 900
# Of fewer images features have no spread, by which a head scales them.
FEWEST = 2
FIGURES = ("by_labels", "by_posterior")


@dataclass(frozen=True)
class BarProbe:
    """How heads fare on a held-out fold that learnt from what stays at each bar.

    Parameters
    ----------
    curve
        A row a bar, by its name: `everything`, a number, or `likeliest` where that rule is in
        force. Columns in_force (boolean); learns (images the head learnt from), left_out and
        relabelled (shares of the images outside the fold); and for each of FIGURES its value,
        NaN where too little stays to learn from, and what it is more than that of `everything`,
        with a 95 % interval: `<figure>_more`, `_low` and `_high`, 0 to 1. No row where there is
        nothing to measure.
    images
        How many images are held out.
    reason
        Why there is nothing to measure; else empty.
    """

    curve: pd.DataFrame
    images: int = 0
    reason: str = ""

    def text(self) -> str:
        """What is measured, and what the bar in force does to the next head."""
        if self.reason:
            return f"What the bars do to a held-out fold is not measured: {self.reason}."
        return EXPLAINED + "\n" + self._in_force()

    def _in_force(self) -> str:
        row = self.curve.loc[self.curve["in_force"]].iloc[0]
        if np.isnan([row[f"{name}_more"] for name in FIGURES]).any():
            return "Too little stays at the bar in force, or is held out, to measure what it does."
        if not row["left_out"] and not row["relabelled"]:
            return "At the bar in force all that the heads may learn from stays as it is."
        labels, posteriors = (f"{row[name]:.1%} ({_points(*row[_ends(name)])})" for name in FIGURES)
        return (
            f"On {self.images} held-out images the head that learnt from what stays at the bar in "
            f"force has a top-1 of {labels} by their labels and of {posteriors} by their "
            "posteriors; in brackets what this is more than with everything, in points, and its "
            f"interval. {_conclusion(row)}"
        )

    def tables(self, keep: pd.DataFrame) -> list[pd.DataFrame]:
        """The curve for people, differences as text in points; none where there is no curve.

        Parameters
        ----------
        keep
            As from `bars.keep_curve`; its recall and precision of planted errors join the bars that
            it has.
        """
        if self.reason:
            return []
        rows = self.curve[["in_force", "learns", "left_out", "relabelled"]]
        planted = keep.set_index(keep["keep_bar"].map(name_of))[["recall", "precision"]]
        rows = rows.join(planted.add_prefix("planted "))
        for name in FIGURES:
            more = [_points(*ends) for ends in self.curve[_ends(name)].to_numpy()]
            rows = rows.assign(**{name: self.curve[name], f"{name}, points more": more})
        return [rows.round(3)]

    def figures(self) -> dict[str, Any]:
        """The curve as plain data for the report; empty where there is nothing to measure."""
        if self.reason:
            return {}
        rows = self.curve.round(4).astype(object)
        rows = rows.where(rows.notna(), None)
        return {"images": self.images, "bars": rows.to_dict("index")}


def bar_probe(crossing: Crossing, learnt: Posteriors, in_force: Mapping[str, float]) -> BarProbe:
    """Fit a head on what stays at each of a few keep bars, and measure it on a held-out fold.

    At most seven fits in one launch; bars at which the same stays share one.

    Parameters
    ----------
    crossing
        The cross-training of the stage; it stays as it is.
    learnt
        What its rounds learnt.
    in_force
        The parameters `keep_bar` and `relabel_bar` of the decision.
    """
    crossing = of_judged(crossing, learnt)
    cfg, table = crossing.cfg, crossing.table
    if cfg.fit == "full":
        return BarProbe(
            pd.DataFrame(),
            reason="with `fit: full` each bar would take the training of a whole network",
        )
    fold = recut(crossing, CUT, folds=cfg.folds)
    # A fold without any image asked, such as one of noise alone, would say nothing.
    inside = crossing.asked & (fold == fold[crossing.asked].mode().iloc[0])
    outside = crossing.asked & ~inside
    held_out = inside & ~table["group"].where(inside).duplicated()
    confirmed = confirmed_classes(table)
    labels = table["given"].mask(confirmed != "", confirmed)
    taught = {EVERYTHING: labels.where(outside, "")}
    for bar in bars_tried(in_force["keep_bar"]):
        settings = cfg.model_copy(update={**in_force, "keep_bar": bar})
        taught[name_of(bar)] = _taught(crossing, learnt, settings).where(outside, "")
    predicted = _predictions(crossing, learnt.predictions.classes[:-1], taught, held_out, labels)
    if predicted.get(EVERYTHING) is None:
        return BarProbe(
            pd.DataFrame(),
            reason="there are too few images to learn from beside a fold that is kept apart",
        )
    judge = _Judge.of(learnt, table.loc[held_out, "image_id"], labels[held_out])
    force = name_of(in_force["keep_bar"])
    rows = {}
    for name, target in taught.items():
        learns = (target != "")[outside]
        rows[name] = {
            "in_force": name == force,
            "learns": int(learns.sum()),
            "left_out": float(1 - learns.mean()),
            "relabelled": float((learns & (target != labels)[outside]).mean()),
            **judge.figures(predicted[name], predicted[EVERYTHING]),
        }
    curve = pd.DataFrame.from_dict(rows, orient="index").rename_axis("keep_bar")
    return BarProbe(curve, int(held_out.sum()))


def bars_tried(keep_bar: float) -> list[float]:
    """The keep bars that are tried, the one in force among them; 0, for likeliest, comes last."""
    return [*sorted({*BARS, keep_bar} - {0.0}), *([] if keep_bar else [0.0])]


def name_of(keep_bar: float) -> str:
    """What a bar of the decision is called; 0 means that the likeliest class decides."""
    return f"{keep_bar:g}" if keep_bar else LIKELIEST


def _taught(crossing: Crossing, learnt: Posteriors, settings: DecisionParams) -> pd.Series:
    """The class that each image teaches after a decision, empty where it is left out."""
    verdict = decisions(crossing, learnt, settings)
    target = verdict["given"].where(verdict["verdict"] == "keep", "")
    if settings.relabel:
        target = target.mask(verdict["verdict"] == "relabel", verdict["suggested"])
    image_ids = crossing.table["image_id"]
    return target.reindex(image_ids, fill_value="").set_axis(image_ids.index)


def _predictions(
    crossing: Crossing,
    classes: Sequence[str],
    taught: Mapping[str, pd.Series],
    held_out: pd.Series,
    labels: pd.Series,
) -> dict[str, np.ndarray | None]:
    """The class number that the head of each bar predicts, int32 (held out,); None without one."""
    jobs: dict[str, Rows] = {}
    same: dict[str, str] = {}
    for name, target in taught.items():
        twin = next((each for each in jobs if (target == taught[each]).all()), None)
        if twin is None and (made := _job(crossing, classes, name, target, held_out, labels)):
            jobs[name] = made
        same[name] = twin or name
    if jobs:
        crossing.run(list(jobs.values()), crossing.cfg, crossing.name)
    image_ids = crossing.table.loc[held_out, "image_id"]
    found = {
        name: read_reduced([Store(job.store)], image_ids).top_classes[:, 0]
        for name, (job, _) in jobs.items()
    }
    return {name: found.get(twin) for name, twin in same.items()}


def _job(
    crossing: Crossing,
    classes: Sequence[str],
    name: str,
    target: pd.Series,
    held_out: pd.Series,
    labels: pd.Series,
) -> Rows | None:
    """The fit of a bar; None where fewer images stay than a fit needs."""
    fit = target != ""
    job = cleaning_job(
        crossing.cfg,
        crossing.name,
        f"bar-probe-{name}",
        list(classes),
        crossing.features,
        recipe=Round(),
        seed=crossing.cfg.seed + CUT,
        reduce_to=crossing.top,
    )
    if fit.sum() < (FEWEST if job.whole_batch else max(FEWEST, job.global_batch)):
        return None
    return job, job_rows(crossing.inventory, target=target, label=labels, fit=fit, predict=held_out)


@dataclass(frozen=True)
class _Judge:
    """What is known of the held-out images.

    Parameters
    ----------
    learnt
        The posteriors of all images.
    image_ids
        The held-out images.
    labels
        Their labels as class numbers, int (images,).
    shows_a_class
        How many of them show a class, as the posteriors expect.
    """

    learnt: Posteriors
    image_ids: pd.Series
    labels: np.ndarray
    shows_a_class: float

    @classmethod
    def of(cls, learnt: Posteriors, image_ids: pd.Series, labels: pd.Series) -> "_Judge":
        names = learnt.predictions.classes
        none = learnt.of(image_ids).of(np.full(len(image_ids), len(names) - 1))
        numbers = pd.Index(names).get_indexer(labels)
        return cls(learnt, image_ids, numbers, float((1 - none).sum()))

    def figures(self, head: np.ndarray | None, everything: np.ndarray) -> dict[str, float]:
        """The figures of a head's predictions, and what they are more than another one's."""
        counted = (float(len(self.labels)), self.shows_a_class)
        found = {}
        for name, n in zip(FIGURES, counted, strict=True):
            keys = [name, *_ends(name)]
            if head is None or not n > 0:
                found |= dict.fromkeys(keys, float("nan"))
                continue
            one, other = (self._hits(name, each) for each in (head, everything))
            # Of a posterior these are the numbers that are expected.
            apart = head != everything
            more = paired_difference(float(one[apart].sum()), float(other[apart].sum()), n)
            # A head that learnt from everything is the same one: no chance is in that.
            more = (0.0, 0.0, 0.0) if head is everything else more
            found |= dict(zip(keys, (float(one.sum() / n), *more), strict=True))
        return found

    def _hits(self, figure: str, head: np.ndarray) -> np.ndarray:
        """Whether, or how likely, each prediction is right; float (images,)."""
        if figure == "by_labels":
            return (head == self.labels).astype(float)
        return self.learnt.of(self.image_ids).of(head).astype(float)


def _ends(name: str) -> list[str]:
    return [f"{name}_{end}" for end in ("more", "low", "high")]


def _points(more: float, low: float, high: float) -> str:
    if np.isnan(more) or more == low == high:
        return ""
    return f"{100 * more:+.1f}, {100 * low:+.1f} to {100 * high:+.1f}"


def _conclusion(row: pd.Series) -> str:
    """What two intervals say together."""
    signs = [int(row[f"{name}_low"] > 0) - int(row[f"{name}_high"] < 0) for name in FIGURES]
    match sorted(signs):
        case [1, 1]:
            return "Both say that cleaning at this bar helps."
        case [-1, -1]:
            return "Both say that cleaning at this bar harms: look at the other bars."
        case [0, 0]:
            return "Neither tells the two heads apart."
        case [-1, 1]:
            return "They contradict each other: only a person who looks can tell which is right."
    which = "labels" if signs[0] else "posteriors"
    does = "helps" if sum(signs) > 0 else "harms"
    return f"By the {which} alone cleaning at this bar {does}; the other figure leaves it open."
