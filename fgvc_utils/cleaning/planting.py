"""How far a judgement is to be trusted: errors are planted, and found again or not."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from fgvc_utils.cleaning import bars
from fgvc_utils.cleaning.crossing import Crossing
from fgvc_utils.cleaning.deciding import DecisionParams, decide
from fgvc_utils.cleaning.params import Round
from fgvc_utils.cleaning.posterior import SparsePosterior
from fgvc_utils.cleaning.rounds import Posteriors, of_judged, recut, targets_folder
from fgvc_utils.cleaning.views import label_posterior
from fgvc_utils.jobs.soft_targets import write_targets

EXPLAINED = """## How far to trust this

A known share of the labels was flipped, half of them to the likeliest other class, and judged
again. How many of them are found shows how well the method does on these images, where nobody knows
the truth. Errors of the web that are easier to find than the planted ones make the share of wrong
labels look larger and the number of fine ones smaller; the posteriors err the other way where the
networks are less sure than they are right.
"""


@dataclass(frozen=True)
class PlantedErrors:
    """Labels of which some were flipped on purpose, and what was made of them.

    Parameters
    ----------
    labels, before
        The labels that were judged and those that the images came with, int (images,).
    flipped
        Where they differ, boolean (images,).
    posterior
        A row an image.
    believed
        The posterior of the label that the image came with, before anything was planted, float
        (images,).
    wrong_share
        The share of wrong labels by the rounds: 1 less the trust; 0 to 1.
    classes
        The number of classes.
    """

    labels: np.ndarray
    before: np.ndarray
    flipped: np.ndarray
    posterior: SparsePosterior
    believed: np.ndarray
    wrong_share: float
    classes: int


def planted_errors(crossing: Crossing, learnt: Posteriors, none: pd.Series) -> PlantedErrors:
    """Plant errors among the labels and judge once more, by the same views.

    Parameters
    ----------
    crossing
        The cross-training of the stage; its folds are cut anew.
    learnt
        What the rounds learnt of the real labels.
    none
        The images that 01 left out as noise, boolean by image_id.
    """
    crossing = of_judged(crossing, learnt)
    cfg, table = crossing.cfg, crossing.table
    classes = learnt.predictions.classes
    count = len(classes) - 1
    everyone = table.loc[crossing.asked | none, "image_id"]
    number_of = {name: number for number, name in enumerate(classes)}
    given = table.loc[everyone.index, "given"].map(number_of).to_numpy()
    asked = crossing.asked[everyone.index].to_numpy()
    known = learnt.of(everyone[asked])
    planted = plant_errors(given[asked], known, count, cfg.planted_share, 0.5, cfg.seed)
    labels = given.copy()
    labels[asked] = planted.labels
    before = learnt.predictions.of(everyone)
    before = replace(before, label_probability=before.probability_of(labels))
    # Noise that 01 left out keeps teaching that it shows no class. Real and planted labels are
    # judged by the same measure.
    noise = np.where(asked, -1, count)
    targets = label_posterior(crossing.case(before, labels, noise, learnt.channel))
    teacher = targets_folder(crossing, "planted")
    write_targets(teacher, classes, everyone, targets.columns, targets.values)
    names = np.array(classes, object)
    taught, shown = pd.Series("", table.index), pd.Series("", table.index)
    taught[everyone.index], shown[everyone.index] = names[targets.best()], names[labels]
    crossing.fold = recut(crossing, len(learnt.rounds))
    predictions = crossing.judge(
        "planted",
        Round(seed=500),
        crossing.asked | none,
        crossed=True,
        by_head_folds=cfg.in_one_job,
        predict=crossing.asked,
        teacher=teacher,
        target=taught,
        label=shown,
        classes=classes,
    ).of(everyone[asked])
    nothing_known = np.full(len(planted.labels), -1)
    value = label_posterior(
        crossing.case(predictions, planted.labels, nothing_known, learnt.channel)
    )
    return PlantedErrors(
        labels=planted.labels,
        before=given[asked],
        flipped=np.isin(np.arange(asked.sum()), planted.rows),
        posterior=value,
        believed=known.of(given[asked]),
        wrong_share=1 - learnt.channel.trust,
        classes=count,
    )


def planted_check(errors: PlantedErrors, cfg: DecisionParams) -> tuple[pd.DataFrame, dict]:
    """Count how many planted errors are found, by the same decision as the real labels.

    Parameters
    ----------
    errors
        As from `planted_errors`.
    cfg
        The decision.

    Returns
    -------
    by_threshold : pd.DataFrame
        As from `planted_table`.
    figures : dict
        As from `planted_estimate`, for the decision itself.
    """
    by_threshold = planted_table(1 - errors.posterior.of(errors.labels), errors.flipped)
    verdict = decide(errors.posterior, errors.labels, errors.classes, cfg)["verdict"].to_numpy()
    wrong_share = float(by_threshold["wrong_share"].iloc[0])
    return by_threshold, planted_estimate(verdict != "keep", errors.flipped, wrong_share)


def planted_bars(errors: PlantedErrors) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each bar brings on these images: the curves of `bars.keep_curve` and `relabel_curve`.

    Parameters
    ----------
    errors
        As from `planted_errors`. Of the labels that were flipped, those that were believed before
        say which class an image shows.
    """
    own = errors.posterior.of(errors.labels)
    keep = bars.keep_curve(own, errors.flipped, errors.wrong_share)
    known = errors.flipped & (errors.believed > 0.5)
    sure, best = errors.posterior.values.max(axis=1), errors.posterior.best()
    relabel = bars.relabel_curve(
        sure[known], best[known], errors.labels[known], errors.before[known], errors.classes
    )
    return keep, relabel


def planted_text(figures: dict, verdict: pd.DataFrame) -> str:
    """What the planted errors say of a stage's decisions, in a sentence.

    Parameters
    ----------
    figures
        As from `planted_check`.
    verdict
        The decisions on the real labels, as from `verdicts.decisions`.
    """
    changed = verdict[verdict["verdict"] != "keep"]
    return (
        f"Of planted errors {figures['recall']:.0%} are found. Of the {len(changed)} images not "
        f"kept as they are about {figures['fine']} by the planted errors and "
        f"{changed['own'].sum():.0f} by the posteriors had the right label."
    )


@dataclass(frozen=True)
class Planted:
    """Labels with planted errors.

    Parameters
    ----------
    labels
        All labels, the flipped ones flipped, int (images,).
    rows
        The images whose label was flipped, as row numbers.
    """

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
    """Flip a known share of the labels, to learn how many errors of this kind are found.

    Images are drawn at random, right and wrong ones alike.

    Parameters
    ----------
    labels
        The labels as they came, int (images,).
    posterior
        What is known of the same images.
    classes
        The number of classes.
    share
        The share of the images that are drawn, 0 to 1.
    sister_share
        The share of the drawn images that get the class that their posterior finds likeliest
        besides the label they have; the others get any class.
    seed
        What the draws follow from.
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
    """Precision and recall of flagging by doubt, learnt from planted errors.

    The web's own errors are among the other images in a share that is not known. It is estimated
    from the strictest threshold, which right labels hardly ever pass.

    Parameters
    ----------
    doubt
        1 - the posterior of the label, float (images,), 0 to 1.
    planted
        The images whose label was flipped, boolean (images,).
    thresholds
        Doubts over which an image is flagged; by default ten of them from 0.05 to 0.99.

    Returns
    -------
    pd.DataFrame
        A row a threshold. Columns threshold, flagged (share of the images that were not planted),
        recall (share of planted errors that are flagged), precision, right_lost (share of right
        labels that are flagged) and wrong_share (the estimate, the same in all rows).

    Raises
    ------
    ValueError
        Nothing was planted.

    References
    ----------
    Elkan and Noto, Learning classifiers from only positive and unlabeled data, 2008: the mixture
    proportion.
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
    right = bars.right_share(flagged, recall, share)
    precision = 1 - right / np.maximum(flagged, 1e-9)
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "flagged": flagged,
            "recall": recall,
            "precision": np.where(flagged > 0, precision, np.nan),
            "right_lost": np.minimum(right / max(1 - share, 1e-9), 1),
            "wrong_share": share,
        }
    )


def planted_estimate(flagged: np.ndarray, planted: np.ndarray, wrong_share: float) -> dict:
    """Precision and recall of a decision, by the same reasoning as `planted_table`.

    Parameters
    ----------
    flagged
        The images that the decision does not keep as they came, boolean (images,).
    planted
        The images whose label was flipped, boolean (images,).
    wrong_share
        The share of the web's own errors, 0 to 1.

    Returns
    -------
    dict
        `recall`, `precision` (None where nothing is flagged), `right_lost`, `wrong_share`, and
        `fine`: how many of the flagged images that were not planted probably had the right label.
    """
    recall = float(flagged[planted].mean())
    share = float(flagged[~planted].mean())
    right = float(bars.right_share(share, recall, wrong_share))
    return {
        "recall": round(recall, 4),
        "precision": round(1 - right / share, 4) if share else None,
        "right_lost": round(right / max(1 - wrong_share, 1e-9), 4),
        "wrong_share": round(wrong_share, 4),
        "fine": round(right * float((~planted).sum())),
    }
