"""Temperature and class bias of a vote's scores, fitted on held-out images and judged crosswise.

What is calibrated are the scores as 40 takes them: brought to a sum of one, their logarithm. A
temperature keeps the order of an image's classes, so its top-1 stays; a bias may change it. A bias
also learns how frequent classes are among held-out images, of which a test set may have others.

References
----------
Guo et al., On calibration of modern neural networks, ICML 2017: the temperature.
Alexandari et al., Maximum likelihood with bias-corrected calibration is hard-to-beat at label shift
adaptation, ICML 2020: temperature and a bias a class.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from fgvc_utils.answers.transport import blocks, log_probabilities
from fgvc_utils.core.intervals import wilson

Kind = Literal["none", "temperature", "bias"]
KINDS: tuple[Kind, ...] = ("none", "temperature", "bias")
# Standard deviation of the class biases that is believed before an image is seen: with few images a
# class a bias stays small.
SPREAD = 0.5
# Bounds of 1 / temperature.
SHARPEST, SOFTEST = 100.0, 0.01
# A normal distribution has 95 % within so many standard deviations.
WITHIN = 1.96


class Calibration(NamedTuple):
    """How scores are changed: softmax of their log-probabilities / temperature + bias.

    Attributes
    ----------
    temperature : float
        Above 1 softens.
    bias : np.ndarray
        Float64 (classes,).
    """

    temperature: float
    bias: np.ndarray

    def logits(self, scores: np.ndarray) -> np.ndarray:
        """Return calibrated log-probabilities but for a constant, float64 (images, classes)."""
        return log_probabilities(scores).astype(np.float64) / self.temperature + self.bias

    def applied(self, scores: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities of scores, float32 (images, classes)."""
        return _softmax(self.logits(scores)).astype(np.float32)


class Crossed(NamedTuple):
    """A calibration of each part of the images, none of which is applied to what it was fitted on.

    Attributes
    ----------
    for_half, for_rest : Calibration
        Of the images of the second half, fitted on the others, and of these, fitted on those.
    for_test : Calibration
        Fitted on all held-out images.
    """

    for_half: Calibration
    for_rest: Calibration
    for_test: Calibration


def fit_calibration(scores: np.ndarray, labels: np.ndarray, kind: Kind) -> Calibration:
    """Fit a temperature, or a temperature and class biases, by the least mean log loss.

    Biases have a normal prior of deviation `SPREAD`. The problem is convex in 1 / temperature and
    the biases; it is solved by L-BFGS.

    Parameters
    ----------
    scores : np.ndarray
        Float (images, classes), not negative.
    labels : np.ndarray
        Int (images,), the number of each image's class; an image of none, -1, is left out.
    kind : str
        An entry of `KINDS`; `none` fits nothing.

    Raises
    ------
    ValueError
        There is no image, and something is to be fitted.
    """
    from scipy.optimize import minimize

    scores, labels = scores[labels >= 0], labels[labels >= 0]
    count, classes = scores.shape
    nothing = np.zeros(classes)
    if kind == "none":
        return Calibration(1.0, nothing)
    if not count:
        raise ValueError(
            f"calibration {kind!r} is fitted on one half of the held-out images and judged on the "
            "other, and a half is empty: set calibration to 'none'"
        )
    logs = log_probabilities(scores)

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        sharpness, bias = values[0], values[1:]
        loss, of_sharpness, of_bias = 0.0, 0.0, np.zeros(classes)
        for rows in blocks(logs):
            block = logs[rows].astype(np.float64)
            logits = sharpness * block + (bias if len(bias) else 0.0)
            own = np.arange(len(block)), labels[rows]
            shifted = logits - logits.max(axis=1, keepdims=True)
            exponentials = np.exp(shifted)
            sums = exponentials.sum(axis=1)
            loss += float((np.log(sums) - shifted[own]).sum())
            errors = exponentials / sums[:, None]
            errors[own] -= 1
            of_sharpness += float((errors * block).sum())
            of_bias += errors.sum(axis=0)
        loss += float((bias**2).sum()) / (2 * SPREAD**2)
        gradient = [of_sharpness, *(of_bias + bias / SPREAD**2)] if len(bias) else [of_sharpness]
        return loss / count, np.array(gradient) / count

    free = classes if kind == "bias" else 0
    bounds = [(SOFTEST, SHARPEST), *[(None, None)] * free]
    start = np.array([1.0, *np.zeros(free)])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Calibration(1 / float(found[0]), found[1:] if free else nothing)


def crossed(scores: np.ndarray, labels: np.ndarray, half: np.ndarray, kind: Kind) -> Crossed:
    """Fit a calibration on either half of the held-out images, and on all of them.

    Parameters
    ----------
    scores, labels
        As for `fit_calibration`.
    half : np.ndarray
        Boolean (images,): whether an image is in the second half.
    kind : str
        An entry of `KINDS`.
    """
    parts = (~half, half, np.ones(len(half), dtype=bool))
    return Crossed(*(fit_calibration(scores[part], labels[part], kind) for part in parts))


def compared(
    scores: np.ndarray, labels: np.ndarray, half: np.ndarray, fitted: Mapping[str, Crossed]
) -> pd.DataFrame:
    """Return what each calibration brings on held-out images that did not fit it.

    Parameters
    ----------
    scores, labels, half
        As for `crossed`.
    fitted : mapping of str to Crossed
        By kind.

    Returns
    -------
    DataFrame
        By kind: top1 with low and high, its 95 % interval (Wilson 1927); log loss with loss_low and
        loss_high, the 95 % interval of its mean; n, the number of images; and temperature, that for
        test images. No row where a half is empty.
    """
    scores, half, labels = scores[labels >= 0], half[labels >= 0], labels[labels >= 0]
    rows, names = [], []
    for kind, own in fitted.items():
        hits, losses = [], []
        for part, calibration in ((half, own.for_half), (~half, own.for_rest)):
            of_part, labels_of_part = scores[part], labels[part]
            for where in blocks(of_part):
                logits = calibration.logits(of_part[where])
                truth = labels_of_part[where]
                likely = _softmax(logits)[np.arange(len(truth)), truth]
                losses += (-np.log(np.maximum(likely, 1e-300))).tolist()
                hits += (logits.argmax(axis=1) == truth).tolist()
        n, right, loss = len(hits), int(np.sum(hits)), float(np.mean(losses))
        reach = WITHIN * float(np.std(losses, ddof=1)) / n**0.5 if n > 1 else np.nan
        rows.append((right / n, *wilson(right, n), loss, loss - reach, loss + reach, n))
        names.append((kind, own.for_test.temperature))
    columns = ["top1", "low", "high", "log loss", "loss_low", "loss_high", "n"]
    table = pd.DataFrame(rows, columns=columns, index=[name for name, _ in names])
    return table.assign(temperature=[temperature for _, temperature in names])


def tried(
    scores: np.ndarray, labels: np.ndarray, half: np.ndarray, wanted: Kind
) -> dict[str, Crossed]:
    """Fit all kinds of calibration, or none where a half of the held-out images is empty.

    Parameters
    ----------
    scores, labels, half
        As for `crossed`.
    wanted : str
        The kind that is to be used.

    Raises
    ------
    ValueError
        A half is empty, and a calibration is wanted.
    """
    kinds: Sequence[Kind] = KINDS
    if not half.any() or half.all():
        kinds = ["none"] if wanted == "none" else [wanted]
    found = {kind: crossed(scores, labels, half, kind) for kind in kinds}
    return found if len(kinds) > 1 else {}


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
