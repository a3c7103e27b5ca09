"""What classes are called wherever they are shown.

Tables, journals and submissions hold classes as the contest writes them. A notebook is one run, so
it says once where that run's names are; from then on all that is shown has them.
"""

from collections.abc import Mapping

import pandas as pd

from fgvc_utils.contest.class_names import known_names, told_apart
from fgvc_utils.contest.config import Shared
from fgvc_utils.core.naming import in_line

_names: dict[str, str] = {}


def use_names(cfg: Shared) -> None:
    """Show the classes of a run by their names from now on, where 01 has found some."""
    show_as(told_apart(known_names(cfg)))


def show_as(names: Mapping[str, str]) -> None:
    """Show classes by these names from now on; those without one as they are."""
    _names.clear()
    _names.update(names)


def name_of(label: str) -> str:
    """What a class is called, in one line."""
    return in_line(_names.get(label, label))


def with_class(label: str) -> str:
    """What a class is called, and the class itself where that is something else."""
    name = name_of(label)
    own = in_line(label)
    return name if own in name else f"{name} ({own})"


def searched(label: str) -> str:
    """What a class is found by: its name and itself."""
    return f"{_names[label]}\n{label}" if label in _names else label


def in_names(table: pd.DataFrame) -> pd.DataFrame:
    """A table to show, with names in the place of classes: in columns and in the index.

    A column counts as one of classes where all that it holds are classes with a name.
    """
    if not _names:
        return table
    shown = table.copy()
    for column in shown:
        if _all_named(shown[column]):
            shown[column] = shown[column].map(name_of)
    if isinstance(shown.index, pd.MultiIndex):
        levels = [
            [name_of(each) if isinstance(each, str) else each for each in level]
            if _all_named(level.to_series())
            else level
            for level in shown.index.levels
        ]
        shown.index = shown.index.set_levels(levels, verify_integrity=False)
    elif _all_named(shown.index.to_series()):
        shown = shown.rename(index=name_of)
    return shown.rename(columns=name_of) if _all_named(shown.columns.to_series()) else shown


def _all_named(values: pd.Series) -> bool:
    said = [value for value in values if not (value == "" or value is None or value != value)]
    return bool(said) and all(isinstance(value, str) and value in _names for value in said)
