"""The evidence about an image's class: which views there are, and what they say together.

A label from the web is evidence, not truth: it is right with some probability and any other class
otherwise. A view is a further source of evidence, such as the networks of other folds. Label and
views together give a posterior over the classes and over "none of them" by Bayes' rule.

A view is one entry of `VIEWS`. It names its parameters, which become fields of `ViewParams` and so
of the records of 02 and 03; a parameter with a value of its own there is neutral, and a notebook
need not name it. What rounds, decisions and the planted check know of the views comes from
`label_posterior` alone, so that no view can be forgotten in one of them.

How far a label is trusted, and the networks, is a setting or estimated: see `channel`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field, create_model

from fgvc_utils.cleaning.channel import Channel, estimate
from fgvc_utils.cleaning.posterior import SparsePosterior
from fgvc_utils.contest.parameters import NotNegative, Parameters
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.reduction import Reduced


@dataclass(frozen=True)
class Case:
    """The images whose class is asked for in one round, and all that a view may know of them.

    Parameters
    ----------
    cfg
        The stage's parameters, `ViewParams` among them.
    predictions
        Out-of-fold predictions of the images, with no prior of the classes in them; the last class
        is "none of them". Its `label_probability` is that of `labels`.
    labels
        The labels that the images are judged under, int (images,). The planted check judges under
        labels of which some were flipped; no view may read others.
    known
        The class of images about which nothing is asked, int (images,); -1 for the others.
    groups
        Images of one group are copies of each other, (images,).
    fold
        The fold of each image, int (images,). What is learnt from the labels must be learnt from
        other folds.
    features
        The jobs whose stores hold the images' features; none where whole networks are trained.
    channel
        How far labels and networks are trusted; None where that is to be found for these images.
    believed
        The class that each image was believed to show before these predictions, int (images,), -1
        where none was; None where nothing is known but the labels.
    """

    cfg: "ViewParams"
    predictions: Reduced
    labels: np.ndarray
    known: np.ndarray
    groups: np.ndarray
    fold: np.ndarray
    features: Sequence[Job]
    channel: Channel | None = None
    believed: np.ndarray | None = None


@dataclass(frozen=True)
class View:
    """A source of evidence about the class of each image.

    Parameters
    ----------
    weight
        The parameter that is the power of the view's likelihood. At 0 the view is switched off,
        but for the first one, the networks, whose power is then estimated.
    parameters
        Its parameters: name → (type with its range, neutral value); `...` in place of the value
        means that each notebook must give one.
    likelihood
        Takes a case and class numbers, int32 (images, width); returns how likely it is that an
        image of that class looks to this view as this one does, float32 (images, width), not
        negative, up to one factor a row. The number of classes stands for "none of them". The first
        line of its docstring is the view's caption, so rewording one makes nothing stale.
    needs_features
        Whether it reads `Case.features`.
    held_bytes
        Memory that it takes, in bytes for each value of a feature.
    """

    weight: str
    parameters: Mapping[str, tuple[Any, Any]]
    likelihood: Callable[[Case, np.ndarray], np.ndarray]
    needs_features: bool = False
    held_bytes: int = 0

    @property
    def caption(self) -> str:
        """What the view is: the first line of its likelihood's docstring."""
        return inspect.getdoc(self.likelihood).splitlines()[0].rstrip(".")


def predicted(case: Case, columns: np.ndarray) -> np.ndarray:
    """The networks that learnt from the other folds.

    Their probabilities of the classes in question; regularised networks are less sure than they are
    right, which a power above 1 mends. `columns` are the label and the likeliest classes, as
    `label_posterior` takes them from the predictions.
    """
    own = case.predictions.label_probability[:, None]
    top = case.predictions.top_probabilities
    return np.concatenate([own.astype(np.float32), top.astype(np.float32)], axis=1)


NETWORKS = View(
    weight="sharpness",
    parameters={"sharpness": (NotNegative, ...)},
    likelihood=predicted,
)
VIEWS = (NETWORKS,)


class _LabelParams(Parameters):
    """The parameter of the label's own evidence."""

    trust: Annotated[float, Field(ge=0, lt=1)]


ViewParams = create_model(
    "ViewParams",
    __base__=_LabelParams,
    **{name: kind for view in VIEWS for name, kind in view.parameters.items()},
)


def views_in_use(cfg: "ViewParams") -> list[View]:
    """The networks, and the other views that have a weight."""
    return [view for view in VIEWS if view is NETWORKS or getattr(cfg, view.weight)]


def described(cfg: "ViewParams") -> pd.DataFrame:
    """The sources of evidence in use, for the notebook: columns source, parameter and value."""
    rows = [("The label that the image came with", "trust", cfg.trust or "estimated")]
    for view in views_in_use(cfg):
        rows.append((view.caption, view.weight, getattr(cfg, view.weight) or "estimated"))
    return pd.DataFrame(rows, columns=["source", "parameter", "value"]).set_index("source")


def held_bytes(cfg: Any) -> int:
    """The most memory that a view in use takes, in bytes for each value of a feature."""
    return max((v.held_bytes for v in VIEWS if getattr(cfg, v.weight, 0)), default=0)


def label_posterior(case: Case) -> SparsePosterior:
    """The posterior of the likely classes of each image, of the label first; see `judged`."""
    return judged(case)[0]


def judged(case: Case) -> tuple[SparsePosterior, Channel]:
    """The posterior of the likely classes of each image, and how labels and networks were trusted.

    A label names the class that the picture shows with the probability that is trusted to it,
    before anything is known of the picture; what is left is spread over the other classes, and an
    image of none of them comes under any label. Each view's likelihood counts to the power of its
    weight. What lies under the top of the predictions counts as nothing. Where `case.known` names a
    class, it is certain.

    Parameters
    ----------
    case
        The images, their labels and their predictions. Without a channel, it is as the parameters
        `trust` and `sharpness` say, and estimated where these are 0; what is known of an image
        already, by a person or by 01, then says nothing of the other labels.

    Returns
    -------
    posterior : SparsePosterior
        A row an image of the case, 1 + top wide.
    channel : Channel
        The case's, or what was found.

    Raises
    ------
    ValueError
        A label is no class.
    """
    cfg, labels, classes = case.cfg, case.labels, len(case.predictions.classes) - 1
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        raise ValueError(f"labels must lie in 0 to {classes - 1}")
    columns = _columns(case)
    channel, found = case.channel, None
    if channel is None and cfg.trust and cfg.sharpness:
        channel = Channel(cfg.trust, cfg.sharpness, classes)
    networks = NETWORKS.likelihood(case, columns)
    others = [view for view in views_in_use(cfg) if view is not NETWORKS]
    further = _evidence(case, columns, others)
    if channel is None:
        free = np.flatnonzero(case.known < 0)
        channel, found = estimate(
            labels[free],
            columns[free],
            lambda rows, power: networks[free[rows]] ** np.float32(power) * further[free[rows]],
            classes,
            cfg.trust or None,
            cfg.sharpness or None,
            None if case.believed is None else case.believed[free],
        )
    values = channel.of(columns, labels)
    values *= networks ** np.float32(channel.sharpness) * further
    values /= np.maximum(values.sum(axis=1, keepdims=True), 1e-30)
    if found is not None:
        values[free] = found
    return SparsePosterior(columns, values).fixed(case.known), channel


def _columns(case: Case) -> np.ndarray:
    """The classes in question: the label, and the likeliest by the networks."""
    label = case.labels[:, None].astype(np.int32)
    return np.concatenate([label, case.predictions.top_classes], axis=1)


def _evidence(case: Case, columns: np.ndarray, views: Sequence[View]) -> np.ndarray:
    """The product of the views' likelihoods, each to the power of its weight."""
    values = np.ones(columns.shape, np.float32)
    for view in views:
        values *= view.likelihood(case, columns) ** np.float32(getattr(case.cfg, view.weight))
    return values
