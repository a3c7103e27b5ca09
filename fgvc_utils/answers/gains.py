"""Whether balancing the answers to a class prior would pay: each rule beside plain top-1."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from fgvc_utils.answers.assignment import RULES, Rule, assign
from fgvc_utils.answers.label_shift import MOST_IMAGES, among, draw
from fgvc_utils.answers.transport import blocks, top1

COLUMNS = ["target", "rule", "top1", "plain", "difference", "low", "high"]


def gain(
    scores: np.ndarray,
    held_out: np.ndarray,
    labels: np.ndarray,
    rules: Mapping[str, Rule],
    assumed: np.ndarray,
    targets: Mapping[str, np.ndarray],
    source: np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Estimate the gain of balancing, by held-out images or else by the probabilities alone.

    Parameters
    ----------
    scores : np.ndarray
        Float (test images, classes); `gain_by_probabilities` reads them where none is held out.
    held_out : np.ndarray
        Float (held-out images, classes); see `gain_on_held_out`.
    labels : np.ndarray
        Int (held-out images,): the classes.
    rules : Mapping[str, Rule]
        The rules that are compared, by name.
    assumed : np.ndarray
        Float (classes,): the prior that the rules believe.
    targets : Mapping[str, np.ndarray]
        What the test set may be, by name: priors, float (classes,).
    source : np.ndarray
        Float64 (classes,): the prior that the scores stand for.
    resamples : int
        Draws of held-out images; with 0 nothing is compared, and the table is empty.
    seed : int
        Of the draws.

    Returns
    -------
    pd.DataFrame
        A row a target and rule; see `gain_on_held_out`.
    """
    if not resamples:
        return pd.DataFrame(columns=COLUMNS)
    if len(labels):
        return gain_on_held_out(
            held_out, labels, rules, assumed, targets, resamples=resamples, seed=seed
        )
    return gain_by_probabilities(scores, rules, assumed, targets, source)


def gain_on_held_out(
    scores: np.ndarray,
    labels: np.ndarray,
    rules: Mapping[str, Rule],
    assumed: np.ndarray,
    targets: Mapping[str, np.ndarray],
    *,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Compare rules with plain top-1 on held-out images drawn as the test set may be.

    One sees what a rule brings where its belief holds and where it does not. Classes without a
    held-out image take no part. A resample has as many images as are held out, at most
    `MOST_IMAGES`; a rule is left out above its `most_compared`.

    Parameters
    ----------
    scores : np.ndarray
        Float (held-out images, classes).
    labels : np.ndarray
        Int (held-out images,): the classes.
    rules, assumed, targets, resamples, seed
        As in `gain`.

    Returns
    -------
    pd.DataFrame
        Target, rule, top1 and plain (means over the resamples), their difference, and low and high,
        between which 95 % of the resamples' paired differences lie.
    """
    there = np.bincount(labels, minlength=scores.shape[1]) > 0
    # Choosing columns copies, which thousands of classes had better be spared.
    scores = scores if there.all() else scores[:, there]
    labels = (np.cumsum(there) - 1)[labels]
    images = min(len(labels), MOST_IMAGES)
    compared = {k: r for k, r in rules.items() if images <= RULES[r.name].most_compared}
    random = np.random.default_rng(seed)
    rows = []
    for target, prior in targets.items():
        plain, gains = [], {name: [] for name in compared}
        for _ in range(resamples):
            drawn = draw(labels, among(prior, there), images, random)
            some, truth = scores[drawn], labels[drawn]
            plain.append((top1(some) == truth).mean())
            for name, rule in compared.items():
                right = assign(some, rule, among(assumed, there)) == truth
                gains[name].append(right.mean() - plain[-1])
        for name, gain in gains.items():
            low, high = np.percentile(gain, [2.5, 97.5])
            top = np.mean(plain) + np.mean(gain)
            rows.append((target, name, top, np.mean(plain), np.mean(gain), low, high))
    return pd.DataFrame(rows, columns=COLUMNS)


def gain_by_probabilities(
    scores: np.ndarray,
    rules: Mapping[str, Rule],
    assumed: np.ndarray,
    targets: Mapping[str, np.ndarray],
    source: np.ndarray,
) -> pd.DataFrame:
    """Compare rules with plain top-1 by the probabilities of the test images alone.

    An image is right with its probability, corrected from the prior `source` to the target. This
    trusts the model's calibration.

    Parameters
    ----------
    scores : np.ndarray
        Float (test images, classes).
    rules, assumed, targets, source
        As in `gain`.

    Returns
    -------
    pd.DataFrame
        As `gain_on_held_out`; low and high are the 95 % interval of the difference when the truth
        is drawn from these probabilities (normal approximation).

    References
    ----------
    Saerens, Latinne and Decaestecker, Adjusting the outputs of a classifier to new a priori
    probabilities, Neural Computation 14, 2002.
    """
    plain = top1(scores)
    everything = np.arange(len(scores))
    rows = []
    for name, rule in rules.items():
        if len(scores) > RULES[rule.name].most_compared:
            continue
        chosen = assign(scores, rule, assumed)
        moved = chosen != plain
        for target, prior in targets.items():
            weights = prior / source
            fits = np.concatenate([scores[r] @ weights.astype(np.float32) for r in blocks(scores)])
            # Where nothing is known of an image, the target is all there is.
            known = fits > 0
            fits = np.where(known, fits, 1)
            before, after = (
                np.where(known, scores[everything, own] * weights[own] / fits, prior[own])
                for own in (plain, chosen)
            )
            gain = float((after - before).mean())
            # One image brings 1, -1 or 0; one that did not move, nothing.
            spread = np.where(moved, after + before - (after - before) ** 2, 0)
            half = 1.96 * float(np.sqrt(spread.sum())) / len(scores)
            rows.append((target, name, after.mean(), before.mean(), gain, gain - half, gain + half))
    found = pd.DataFrame(rows, columns=COLUMNS)
    order = {target: place for place, target in enumerate(targets)}
    return found.sort_values("target", key=lambda t: t.map(order), kind="stable", ignore_index=True)


def verdict(table: pd.DataFrame, rule: str) -> str:
    """Put the gain of one rule into a sentence.

    Parameters
    ----------
    table : pd.DataFrame
        That of `gain`.
    rule : str
        A name of its column rule.
    """
    of_rule = table[table["rule"] == rule]
    if of_rule.empty:
        return f"Nothing is compared for the rule {rule}."
    parts = [
        f"{row.target}: {100 * row.difference:+.1f} points of top-1 "
        f"({100 * row.low:+.1f} to {100 * row.high:+.1f})"
        for row in of_rule.itertuples()
    ]
    better, worse = (of_rule["low"] > 0), (of_rule["high"] < 0)
    if better.all():
        end = "it pays in each case"
    elif better.any() and worse.any():
        end = f"it pays only where the test set is {of_rule.loc[better, 'target'].iloc[0]}"
    elif worse.any():
        end = "it does not pay"
    elif better.any():
        end = "it pays in one case; in the other these images show no difference"
    else:
        end = "these images show no difference"
    return f"{rule} against plain, if the test set is {'; '.join(parts)}: {end}."
