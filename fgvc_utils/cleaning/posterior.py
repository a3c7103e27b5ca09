"""What is an image's true class, given what networks that never saw it say and the label it has?

A label from the web is taken for evidence, not for truth: it is right with some probability and any
other class otherwise. Together with an out-of-fold prediction that gives a posterior over the
classes and over "none of them" (Bayes' rule with a symmetric noise channel, as in Bootkrajang and
Kabán, Label-noise robust logistic regression, 2012). The posteriors become the soft targets of the
next networks: expectation-maximisation with the expectation taken out of fold.

Arrays come in, arrays go out; nothing here trains.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fgvc_utils.jobs.reduction import Reduced

# The class of images that show no class of the contest. No folder can have this name.
NONE = "none/of the classes"


@dataclass(frozen=True)
class SparsePosterior:
    """The posterior of each image's class where it is more than nothing: a row an image.

    `columns` int32 and `values` float32, both (images, width), a class number and its posterior;
    the number of classes stands for "none of them". Values of a row add up to 1; a class that
    stands twice in a row counts once, its other values are 0.
    """

    columns: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.columns)

    def best(self) -> np.ndarray:
        """The likeliest class of each image, int32 (images,)."""
        return self.columns[np.arange(len(self)), self.values.argmax(axis=1)]

    def of(self, labels: np.ndarray) -> np.ndarray:
        """The posterior of one class an image, float32 (images,)."""
        return (self.values * (self.columns == labels[:, None])).sum(axis=1)

    def rows(self, which: np.ndarray) -> "SparsePosterior":
        """Some rows, by number or boolean."""
        return SparsePosterior(self.columns[which], self.values[which])

    def fixed(self, known: np.ndarray) -> "SparsePosterior":
        """With certainty where the class is known: `known` int (images,), -1 elsewhere.

        A person's word and the noise model's stand above what networks say.
        """
        columns, values = self.columns.copy(), self.values.copy()
        sure = np.flatnonzero(known >= 0)
        values[sure] = 0
        columns[sure, 0], values[sure, 0] = known[sure], 1
        return SparsePosterior(columns, values)


def label_posterior(
    said: Reduced,
    labels: np.ndarray,
    trust: float,
    sharpness: float,
    label_probability: np.ndarray | None = None,
) -> SparsePosterior:
    """Posterior of the likely classes, of the label first.

    `said` comes from networks that never saw the images, with no prior of the classes in it; its
    last class is "none of them". `labels` int (images,) are the labels the images came with, and
    `label_probability` float (images,) what the networks give them where those are not the labels
    that `said` was reduced with. `trust` is how often a label names the class that the picture
    shows, before anything is known of it; what is left is spread over all classes, and an image of
    none of them comes under any label. `sharpness` is the power that the probabilities are raised
    to: regularised networks are less sure than they are right. What lies under the top counts as
    nothing.

    Raises ValueError where a label is no class or trust is not between 0 and 1.
    """
    classes = len(said.classes) - 1
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        raise ValueError(f"labels must lie in 0 to {classes - 1}")
    if not 0 < trust < 1:
        raise ValueError(f"trust is {trust}; give a number between 0 and 1")
    power = np.float32(sharpness)
    own = said.label_probability if label_probability is None else label_probability
    channel = np.where(said.top_classes == classes, 1 / classes, (1 - trust) / classes)
    others = said.top_probabilities.astype(np.float32) ** power * channel.astype(np.float32)
    others[said.top_classes == labels[:, None]] = 0
    own = own.astype(np.float32)[:, None] ** power * np.float32(trust)
    values = np.concatenate([own, others], axis=1)
    columns = np.concatenate([labels[:, None].astype(np.int32), said.top_classes], axis=1)
    return SparsePosterior(columns, values / np.maximum(values.sum(axis=1, keepdims=True), 1e-30))


def mean(posteriors: Sequence[SparsePosterior]) -> SparsePosterior:
    """The mean of several posteriors of the same images, class by class.

    Rounds whose folds were cut in different ways err in different places; their mean errs less
    (bagging, Breiman, 1996). A row keeps as many classes as the widest of them, the likeliest.
    """
    columns = np.concatenate([one.columns for one in posteriors], axis=1)
    values = np.concatenate([one.values for one in posteriors], axis=1) / len(posteriors)
    order = np.argsort(columns, axis=1, kind="stable")
    columns = np.take_along_axis(columns, order, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    # A class that stands several times in a row gathers in its last place.
    for place in range(1, columns.shape[1]):
        same = columns[:, place] == columns[:, place - 1]
        values[same, place] += values[same, place - 1]
        values[same, place - 1] = 0
    width = max(one.columns.shape[1] for one in posteriors)
    largest = np.argsort(-values, axis=1, kind="stable")[:, :width]
    values = np.take_along_axis(values, largest, axis=1)
    return SparsePosterior(
        np.take_along_axis(columns, largest, axis=1),
        values / np.maximum(values.sum(axis=1, keepdims=True), 1e-30),
    )


def decide(
    posterior: SparsePosterior, labels: np.ndarray, classes: int, relabel_bar: float
) -> pd.DataFrame:
    """What becomes of each image: a row an image.

    `best` (int) is the likeliest class or `classes`, their number, for "none of them"; `sure` its
    posterior, `own` the posterior of the image's own label, `none` that of "none of them".
    `verdict` is `keep` where the own label is the likeliest, `relabel` where another class is, and
    surer than `relabel_bar`, else `drop`.
    """
    best = posterior.best()
    sure = posterior.values.max(axis=1)
    verdict = np.where((best < classes) & (sure > relabel_bar), "relabel", "drop").astype(object)
    verdict[best == labels] = "keep"
    own = posterior.of(labels)
    none = posterior.of(np.full(len(labels), classes))
    return pd.DataFrame({"best": best, "sure": sure, "own": own, "none": none, "verdict": verdict})


def worth(decision: pd.DataFrame) -> np.ndarray:
    """How much a person's look at each image is worth, float64 (images,), the larger the more.

    `decision` has the columns sure, none and verdict. It is how likely the look is to change what
    the image teaches: a dropped image teaches nothing, so if it shows any class; a relabelled one
    if it shows another than was taken. Among dropped ones, what the networks know half teaches
    them half as much (uncertainty sampling, Lewis and Gale, 1994).
    """
    shows_one = 1 - decision["none"].to_numpy(dtype=np.float64)
    sure = decision["sure"].to_numpy(dtype=np.float64)
    dropped = (decision["verdict"] == "drop").to_numpy()
    return np.where(dropped, shows_one * (1 - sure / 2), 1 - sure)


@dataclass(frozen=True)
class Planted:
    """Labels with planted errors: `labels` int (images,), `rows` the images that were flipped."""

    labels: np.ndarray
    rows: np.ndarray


def plant_errors(
    labels: np.ndarray,
    posterior: SparsePosterior,
    classes: int,
    share: float,
    sister_share: float,
    seed: int,
) -> Planted:
    """Flip a known share of the labels, to learn how errors of this kind are found.

    Images are drawn at random, right and wrong ones alike; of the drawn ones `sister_share` get the
    class that their posterior finds likeliest besides the label they have, the others any class.
    """
    random = np.random.default_rng(seed)
    rows = np.sort(random.choice(len(labels), round(len(labels) * share), replace=False))
    own, columns = labels[rows], posterior.columns[rows]
    values = posterior.values[rows]
    others = np.where((columns == own[:, None]) | (columns >= classes), -1.0, values)
    # The likeliest class is often the true one of a mislabelled image: no error to plant.
    at = np.arange(len(rows)), others.argmax(axis=1)
    likelier = others[at] > (values * (columns == own[:, None])).sum(axis=1)
    barred = np.where(likelier, columns[at], -1)
    others[columns == barred[:, None]] = -1.0
    sister = np.where(others.max(axis=1) > 0, columns[at[0], others.argmax(axis=1)], -1)
    wrong = np.where(
        (sister >= 0) & (random.random(len(rows)) < sister_share),
        sister,
        _any_but(own, barred, classes, random),
    )
    changed = labels.copy()
    changed[rows] = np.where(wrong >= 0, wrong, own)
    return Planted(changed, rows[changed[rows] != own])


def _any_but(
    own: np.ndarray, barred: np.ndarray, classes: int, random: np.random.Generator
) -> np.ndarray:
    """A class drawn for each row that is neither of two; -1 where there is no third one."""
    # Draw among the classes that are left, then step over the two that are not.
    two = barred >= 0
    left = classes - 1 - two
    drawn = np.floor(random.random(len(own)) * left).astype(np.int64)
    low = np.where(two, np.minimum(own, barred), own)
    high = np.where(two, np.maximum(own, barred), classes)
    drawn += drawn >= low
    drawn += drawn >= high
    return np.where(left > 0, drawn, -1)


def planted_table(
    doubt: np.ndarray, planted: np.ndarray, thresholds: np.ndarray | None = None
) -> pd.DataFrame:
    """Precision and recall of flagging by doubt, learnt from planted errors: a row a threshold.

    `doubt` float (images,) is 1 - the posterior of the label, `planted` bool (images,) tells the
    images whose label was flipped. Recall is the share of planted errors over the threshold. The
    web's own errors are among the other images in a share that is not known; it is estimated from
    the strictest threshold, which right labels hardly ever pass (the mixture proportion of positive
    and unlabelled data, Elkan and Noto, 2008). Columns: threshold, flagged (share of the images
    that were not planted), recall, precision, right_lost (share of right labels flagged) and
    wrong_share (the estimate, the same in all rows).

    Raises ValueError where nothing was planted.
    """
    if not planted.any():
        raise ValueError("no planted errors to learn from; raise planted_share")
    if thresholds is None:
        thresholds = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99])
    recall = np.array([(doubt[planted] > t).mean() for t in thresholds])
    flagged = np.array([(doubt[~planted] > t).mean() for t in thresholds])
    usable = recall > 0.1
    share = float((flagged[usable] / recall[usable]).min()) if usable.any() else 0.0
    share = min(share, 1.0)
    right_lost = np.clip((flagged - share * recall) / max(1 - share, 1e-9), 0, 1)
    precision = np.clip(share * recall / np.maximum(flagged, 1e-9), 0, 1)
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "flagged": flagged,
            "recall": recall,
            "precision": np.where(flagged > 0, precision, np.nan),
            "right_lost": right_lost,
            "wrong_share": share,
        }
    )


def planted_estimate(flagged: np.ndarray, planted: np.ndarray, wrong_share: float) -> dict:
    """Precision and recall of a decision (`flagged`, bool) by the same reasoning.

    Returns a dict of `recall`, `precision`, `right_lost`, `wrong_share` and `fine`, the number of
    flagged images, among those that were not planted, whose label was probably right.
    """
    recall = float(flagged[planted].mean())
    share = float(flagged[~planted].mean())
    right = max(share - wrong_share * recall, 0.0)
    return {
        "recall": round(recall, 4),
        "precision": round(1 - right / share, 4) if share else None,
        "right_lost": round(right / max(1 - wrong_share, 1e-9), 4),
        "wrong_share": round(wrong_share, 4),
        "fine": round(right * float((~planted).sum())),
    }
