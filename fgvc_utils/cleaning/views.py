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
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field, create_model

from fgvc_utils.cleaning import near_views
from fgvc_utils.cleaning.channel import Channel, estimate
from fgvc_utils.cleaning.posterior import SparsePosterior
from fgvc_utils.cleaning.texts import read_texts
from fgvc_utils.cleaning.vectors import StoredRows, stored_vectors
from fgvc_utils.contest.config import networks_of
from fgvc_utils.contest.listing import inside
from fgvc_utils.contest.parameters import Count, NotNegative, Parameters
from fgvc_utils.contest.places import data_root
from fgvc_utils.jobs.predictions import Store
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
    apart
        Predictions of the images by each network alone, made as `predictions` were; none where no
        view asks for them.
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
    apart: Sequence[Reduced] = ()

    @property
    def classes(self) -> int:
        """How many classes there are; as a class number it stands for "none of them"."""
        return len(self.predictions.classes) - 1

    @property
    def taught(self) -> np.ndarray:
        """The class that each image teaches: what is known, else its label; int (images,)."""
        return np.where(self.known >= 0, self.known, self.labels)


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
    problem
        Takes a stage's parameters; says what is wrong with those of the view, or nothing.
    """

    weight: str
    parameters: Mapping[str, tuple[Any, Any]]
    likelihood: Callable[[Case, np.ndarray], np.ndarray]
    needs_features: bool = False
    held_bytes: int = 0
    problem: Callable[[Any], str] = lambda cfg: ""

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


def neighbours(case: Case, columns: np.ndarray) -> np.ndarray:
    """The nearest images in the features of all networks.

    Each votes for its class, and what 01 left out as noise for none. An image has no vote on
    itself or its copies, so nothing is learnt from its own label.
    """
    near = near_views.near_images(
        case.features, case.predictions.image_ids, case.groups, case.cfg.neighbour_count
    )
    return near_views.votes(near, case.taught, columns, case.classes)


def prototypes(case: Case, columns: np.ndarray) -> np.ndarray:
    """The cosine to the mean of each class, of the images of other folds.

    Images that are unlike their class count little for its mean. The likelihood is the softmax of
    the cosines at the temperature that fits the labels best.
    """
    stores = [Store(job.store) for job in case.features]
    vectors = stored_vectors(stores, case.predictions.image_ids, centred=True)
    cosines = near_views.cosines_to_means(vectors, case.taught, case.fold, case.classes)
    return near_views.calibrated(cosines, case.taught, columns, case.classes)


def networks_apart(case: Case, columns: np.ndarray) -> np.ndarray:
    """The heads of each network alone, where they agree.

    The head on the features of all networks may follow one of them; these were fitted apart, on
    the same folds.
    """
    return near_views.pooled(case.apart, columns)


def _lacks_networks(cfg: Any) -> str:
    several = len({network.backbone for network in networks_of(cfg)}) > 1
    return "" if several else "networks_apart needs more than one network; name further_backbones"


def text_scores(case: Case, columns: np.ndarray) -> np.ndarray:
    """The cosine to a text about each class, by a network that knows pictures and texts.

    Nothing is learnt from the labels but one temperature, so a class that is mislabelled
    throughout is seen as what it is.
    """
    features = _of_texts(case.cfg, case.features)
    rows = StoredRows(Store(features.store), case.predictions.image_ids)
    classes = case.predictions.classes[:-1]
    texts = read_texts(text_place(case.cfg), classes, rows[np.arange(1)].shape[1])
    return near_views.calibrated(texts.cosines_to(rows), case.taught, columns, case.classes)


def text_place(cfg: Any) -> Path:
    """Where the file of texts lies."""
    return inside(data_root(cfg.data_root), cfg.text_file)


def _of_texts(cfg: Any, features: Sequence[Job]) -> Job:
    """The job whose features are compared with the texts."""
    wanted = cfg.text_backbone or cfg.backbone
    return next(job for job in features if job.backbone == wanted)


def _lacks_texts(cfg: Any) -> str:
    if not cfg.text_file:
        return "text_scores needs text_file, a file of vectors of the classes' texts"
    names = [network.backbone for network in networks_of(cfg)]
    if cfg.text_backbone and cfg.text_backbone not in names:
        return (
            f"text_backbone {cfg.text_backbone!r} is neither backbone nor among further_backbones"
        )
    return ""


def _power(text: str) -> Any:
    """The type of a weight that is 0 where the view is off, with its help."""
    return Annotated[NotNegative, Field(description=f"posterior: power of {text}; 0: off")]


NETWORKS = View(
    weight="sharpness",
    parameters={"sharpness": (NotNegative, ...)},
    likelihood=predicted,
)
VIEWS = (
    NETWORKS,
    View(
        weight="neighbour_votes",
        parameters={
            "neighbour_votes": (_power("the nearest images' votes"), 0.0),
            "neighbour_count": (
                Annotated[
                    Count, Field(description="posterior: how many of the nearest images vote")
                ],
                10,
            ),
        },
        likelihood=neighbours,
        needs_features=True,
    ),
    View(
        weight="prototypes",
        parameters={"prototypes": (_power("the cosines to the classes' means"), 0.0)},
        likelihood=prototypes,
        needs_features=True,
    ),
    View(
        weight="networks_apart",
        parameters={"networks_apart": (_power("what each network's own head finds"), 0.0)},
        likelihood=networks_apart,
        needs_features=True,
        problem=_lacks_networks,
    ),
    View(
        weight="text_scores",
        parameters={
            "text_scores": (_power("the cosines to texts about the classes"), 0.0),
            "text_file": (
                Annotated[
                    str,
                    Field(description="posterior: npz file of the classes' texts, in data_root"),
                ],
                "",
            ),
            "text_backbone": (
                Annotated[
                    str,
                    Field(
                        description="posterior: the network that knows the texts; empty: backbone"
                    ),
                ],
                "",
            ),
        },
        likelihood=text_scores,
        needs_features=True,
        problem=_lacks_texts,
    ),
)


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
    cfg, labels, classes = case.cfg, case.labels, case.classes
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        raise ValueError(f"labels must lie in 0 to {classes - 1}")
    columns = _columns(case)
    channel = case.channel
    if channel is None and cfg.trust and cfg.sharpness:
        channel = Channel(cfg.trust, cfg.sharpness, classes)
    networks = NETWORKS.likelihood(case, columns)
    others = [view for view in views_in_use(cfg) if view is not NETWORKS]
    further = _evidence(case, columns, others)
    if channel is None:
        free = np.flatnonzero(case.known < 0)
        values = np.zeros(columns.shape, np.float32)
        channel, values[free] = estimate(
            labels[free],
            columns[free],
            lambda rows, power: networks[free[rows]] ** np.float32(power) * further[free[rows]],
            classes,
            cfg.trust or None,
            cfg.sharpness or None,
            None if case.believed is None else case.believed[free],
        )
    else:
        values = channel.of(columns, labels)
        values *= networks ** np.float32(channel.sharpness) * further
        values /= np.maximum(values.sum(axis=1, keepdims=True), 1e-30)
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
