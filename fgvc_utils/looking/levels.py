"""Top-1 at each level of a hierarchy, such as genus and family: how far off are the mistakes?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fgvc_utils.contest.class_names import CLASS, known_names, levels_of
from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.report import update_report
from fgvc_utils.core.files import read_json
from fgvc_utils.core.intervals import wilson

# The section of the report.
LEVELS = "levels"


def groups_of(known: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """The group of each class at each level, the narrowest level first.

    Parameters
    ----------
    known
        As from `class_names.known_names`.
    classes
        The classes, in the order wanted; one that is not known is its own group.

    Returns
    -------
    pd.DataFrame
        Text, a row a class, a column a level.
    """
    table = levels_of(known).reindex(classes)
    for level in table:
        table[level] = table[level].where(table[level].notna(), table.index)
    order = sorted(table, key=lambda level: -table[level].nunique())
    return table[order]


def level_scores(answers: np.ndarray, truth: np.ndarray, groups: pd.DataFrame) -> pd.DataFrame:
    """Top-1 of the class and of its group at each level.

    Parameters
    ----------
    answers, truth
        Number of each image's answer and of its label among the classes, int (images,); a label of
        -1 is always missed.
    groups
        As from `groups_of`.

    Returns
    -------
    pd.DataFrame
        By level, the class first: groups (how many), top1 with low and high, its 95 % interval, n
        (images), and within (of the wrong answers, the share that is of the right group).

    References
    ----------
    Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    known = truth >= 0
    wrong = ~(known & (answers == truth))
    rows = {CLASS: (len(groups), *_share(~wrong), np.nan)}
    for level in groups:
        of_class = groups[level].to_numpy(object)
        right = known & (of_class[answers] == of_class[truth])
        within = right[wrong].mean() if wrong.any() else np.nan
        rows[level] = (groups[level].nunique(), *_share(right), within)
    columns = ["groups", "top1", "low", "high", "n", "within"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def summed_top1(probabilities: np.ndarray, truth: np.ndarray, groups: pd.DataFrame) -> pd.Series:
    """Top-1 at each level where a group's probability is the sum of its classes'.

    Parameters
    ----------
    probabilities
        Float (images, classes).
    truth, groups
        As for `level_scores`.
    """
    found = {CLASS: float((probabilities.argmax(axis=1) == truth).mean())}
    for level in groups:
        codes, _ = pd.factorize(groups[level])
        # A matrix of zeros and ones would be classes × groups.
        order = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        sums = np.add.reduceat(probabilities[:, order], starts, axis=1)
        found[level] = float(((sums.argmax(axis=1) == codes[truth]) & (truth >= 0)).mean())
    return pd.Series(found)


def of_model(
    cfg: Shared, name: str, probabilities: pd.DataFrame, labels: Sequence[str]
) -> list[pd.DataFrame]:
    """What a notebook displays of a model at each level; nothing where classes have no groups.

    The figures join the section `levels` of the report.

    Parameters
    ----------
    cfg
        The stage's parameters.
    name
        What the model is called there.
    probabilities
        Shape (images, classes): one row an image, one column a class.
    labels
        The class of each row, in the order of the rows.
    """
    classes = probabilities.columns
    groups = groups_of(known_names(cfg), classes)
    if not len(groups.columns) or not len(probabilities):
        return []
    values, truth = probabilities.to_numpy(), classes.get_indexer(labels)
    table = level_scores(values.argmax(axis=1), truth, groups)
    table["top1 by sums"] = summed_top1(values, truth, groups)
    _report(cfg, name, table)
    return [table.rename_axis("level").round(4)]


def of_ways(
    cfg: Shared, voting: Any, alone: Any, classes: Sequence[str], truth: pd.Series
) -> list[pd.DataFrame]:
    """What a notebook displays of several ways at each level; nothing without groups.

    Parameters
    ----------
    cfg
        The stage's parameters.
    voting, alone
        How ways and their vote, and how single models fared (`ensembling.Judged`): `answers` is the
        number of the best class, a row an image (by id), a column a way; the last one of `voting`
        is the vote.
    classes
        All classes, in the order of the numbers.
    truth
        The label of each image, by its id.

    Returns
    -------
    list of pd.DataFrame
        The table of the vote as from `level_scores`, which joins the report, and top-1 of all, a
        column a level.
    """
    answers, first = voting.answers.join(alone.answers), voting.answers.columns[-1]
    groups = groups_of(known_names(cfg), classes)
    if not len(groups.columns) or not len(answers):
        return []
    numbers = pd.Index(classes).get_indexer(truth.reindex(answers.index))
    tables = {way: level_scores(answers[way].to_numpy(), numbers, groups) for way in answers}
    _report(cfg, first, tables[first])
    wide = pd.DataFrame({way: table["top1"] for way, table in tables.items()}).T
    wide = wide.sort_values(CLASS, ascending=False, kind="stable")
    return [tables[first].rename_axis(first).round(4), wide.rename_axis("top-1").round(4)]


def _share(right: np.ndarray) -> tuple[float, float, float, int]:
    """A share with its interval, and of how many."""
    n, hits = len(right), int(right.sum())
    return (hits / n, *wilson(hits, n), n)


def _report(cfg: Shared, name: str, table: pd.DataFrame) -> None:
    """Put top-1 at each level into the report, beside that of others."""
    there = read_json(cfg.report).get(LEVELS, {}) if cfg.report.is_file() else {}
    figures = {f"{name} {level}": round(top1, 4) for level, top1 in table["top1"].items()}
    update_report(cfg.report, LEVELS, there | figures)
