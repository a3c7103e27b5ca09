"""How far reviewers agree, and what they do not agree on."""

from collections.abc import Sequence
from itertools import combinations
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fgvc_utils.contest.journal import Journal, differ, in_force, in_words
from fgvc_utils.core.intervals import wilson
from fgvc_utils.looking.class_names import name_of

AGREEMENT = (
    "**How far reviewers agree**, over what both of two decided on themselves (`in common`): "
    "the share on which they decided alike, and Cohen's kappa with its 95 % interval. Kappa is 1 "
    "where they always decide alike, and 0 where they do so no more often than by chance."
)
DISPUTES = (
    "**Reviewers differ on these.** The gallery shows them first to whoever has not decided on "
    "them yet, and that decision settles them. Until then `counts today` is what most decided; "
    "where as many are for as against, no decision counts and the rule's verdict holds."
)
NOBODY = "no decision: the rule's verdict"


class Kappa(NamedTuple):
    """Cohen's kappa and the ends of its interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


def cohens_kappa(counts: np.ndarray, confidence: float = 0.95) -> Kappa:
    """Cohen's kappa of two reviewers, with its large-sample interval.

    Parameters
    ----------
    counts
        How many items one reviewer gave the answer of the row and the other that of the column,
        (answers, answers).
    confidence
        How often such an interval holds the true value, 0 to 1.

    Returns
    -------
    Kappa
        -1 to 1; NaN where both gave one and the same answer to everything, since chance would then
        do so too, and where there are no items. Where they always agree the large-sample error is
        0, whatever the number of items; then the low end is that of Wilson's interval of the share
        of agreement.

    References
    ----------
    Cohen, A coefficient of agreement for nominal scales, 1960.
    Fleiss, Cohen and Everitt, Large sample standard errors of kappa and weighted kappa, 1969:
    equation 13.
    """
    total = int(counts.sum())
    shares = counts / max(total, 1)
    first, second = shares.sum(axis=1), shares.sum(axis=0)
    agreed, by_chance = float(np.trace(shares)), float(first @ second)
    if not total or by_chance >= 1:
        return Kappa(*[float("nan")] * 3)
    kappa = (agreed - by_chance) / (1 - by_chance)
    if agreed >= 1:
        low = (wilson(total, total, confidence)[0] - by_chance) / (1 - by_chance)
        return Kappa(kappa, max(low, -1.0), 1.0)
    same = np.diag(shares) @ (1 - (first + second) * (1 - kappa)) ** 2
    others = shares - np.diag(np.diag(shares))
    other = (1 - kappa) ** 2 * (others * (second[:, None] + first[None, :]) ** 2).sum()
    variance = same + other - (kappa - by_chance * (1 - kappa)) ** 2
    error = np.sqrt(max(variance, 0.0) / total) / (1 - by_chance)
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * error
    return Kappa(kappa, float(max(kappa - reach, -1)), float(min(kappa + reach, 1)))


def agreement(journal: Journal) -> pd.DataFrame:
    """How far each two reviewers agree.

    What followed from a copy and what settled a disagreement is left out: the one is nobody's own
    look, and the other was decided knowing both.

    Returns
    -------
    pd.DataFrame
        A row each two reviewers who decided on an item in common, those with most in common first:
        in common (a count), alike (a share, 0 to 1), kappa, low and high (as from `cohens_kappa`).
        A relabelling is alike where the class is too.
    """
    by_reviewer: dict[str, dict[str, tuple[str, str]]] = {}
    for item, votes in journal.votes().items():
        for vote in votes:
            if not vote.follows and not vote.settles:
                by_reviewer.setdefault(vote.reviewer, {})[item] = vote.answer
    rows = []
    for one, other in combinations(sorted(by_reviewer), 2):
        both = [item for item in by_reviewer[one] if item in by_reviewer[other]]
        if both:
            counts = _counts([(by_reviewer[one][i], by_reviewer[other][i]) for i in both])
            alike = float(np.trace(counts)) / len(both)
            rows.append((f"{one}, {other}", len(both), alike, *cohens_kappa(counts)))
    names = ["reviewers", "in common", "alike", "kappa", "low", "high"]
    table = pd.DataFrame(rows, columns=names).set_index("reviewers")
    return table.sort_values("in common", ascending=False, kind="stable")


def disputes(journal: Journal) -> pd.DataFrame:
    """What reviewers differ on and nobody has settled.

    Returns
    -------
    pd.DataFrame
        A row an item, a column a reviewer with that one's decision, and `counts today`.
    """
    apart = {item: votes for item, votes in journal.votes().items() if differ(votes)}
    rows = {}
    for item, votes in apart.items():
        counts = in_force(votes)
        rows[item] = {vote.reviewer: _said(vote.answer) for vote in votes}
        rows[item]["counts today"] = _said(counts) if counts else NOBODY
    table = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    return table[sorted(table.columns, key=lambda name: name == "counts today")]


def shown(journal: Journal) -> list[Any]:
    """What a notebook displays of the reviewers of a journal; nothing where there is but one."""
    from IPython.display import Markdown

    parts: list[Any] = []
    for text, table in ((AGREEMENT, agreement(journal).round(2)), (DISPUTES, disputes(journal))):
        if len(table):
            parts += [Markdown(text), table]
    return parts


def _said(answer: tuple[str, str]) -> str:
    return in_words((answer[0], name_of(answer[1])))


def _counts(pairs: Sequence[tuple[Any, Any]]) -> np.ndarray:
    answers = sorted({answer for pair in pairs for answer in pair})
    place = {answer: number for number, answer in enumerate(answers)}
    counts = np.zeros((len(answers), len(answers)), dtype=np.int64)
    for one, other in pairs:
        counts[place[one], place[other]] += 1
    return counts
