"""What classes are called, and the groups that they fall into: read by 01, kept with the run.

Counts in no digest.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.contest import annotations
from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.listing import inside, is_text, spelt_out
from fgvc_utils.core.files import whole_file
from fgvc_utils.core.naming import first_quoted
from fgvc_utils.core.reading import UnreadableFile, read_csv

CLASS, NAME = "class", "name"
# Columns that name a class, the best first; others that tell classes apart come after them.
NAMES = (
    "name display_name class_name classname label_name title common_name scientific_name "
    "scientificname species breed variety disease caption description"
).split()
# Columns that group classes, the narrowest first.
LEVELS = (
    "genus tribe subfamily family order class phylum kingdom superclass supercategory manufacturer "
    "group"
).split()
LEVELS += [f"group {number}" for number in range(2, 7)]


def classes_path(cfg: Shared) -> Path:
    """Where 01 keeps what classes are called: class, name, and a column a level."""
    return cfg.folder / "tables" / "classes.csv"


def read_names(
    place: Path, classes: Sequence[str], levels: Sequence[str] = (), labels: str = "label"
) -> pd.DataFrame:
    """Read what classes are called, and their groups, from a file.

    Parameters
    ----------
    place
        CSV with a row a class (or an image), or JSON: class → name, name → class, class → record,
        a list of names (then a class is its number in it) or of records, or COCO's categories.
    classes
        The classes. Where a file writes their numbers otherwise (12 for 0012), they are found.
    levels
        The columns that group the classes; without any, those of `LEVELS` that do.
    labels
        The field of COCO's categories that names the classes.

    Returns
    -------
    pd.DataFrame
        A row a class of the file that is a class of the contest, in order: text columns class and
        name, and a column a level. A class without a name is called as it is.

    Raises
    ------
    ValueError
        Naming the file: it holds no such thing, none of the classes, two names for a class, or not
        the levels that are wanted.
    """
    records = _records(place, labels)
    column, own = _class_column(place, records, classes)
    rows = records.assign(**{column: own})[own != ""]
    values = _of_class(rows, column)
    name = _name_column(place, rows, values, column, levels)
    called = values[name] if name else pd.Series("", values.index)
    grouping = _levels(place, rows, values, [column, name], levels)
    found = pd.DataFrame({CLASS: values.index, NAME: called.where(called != "", values.index)})
    groups = values[grouping].rename(columns=_level_name)
    found = found.join(groups, on=CLASS)
    unwritable = [text for text in found.to_numpy().ravel() if not is_text(text)]
    if unwritable:
        raise UnreadableFile(f"{place}: {spelt_out(unwritable[0])!r} holds control characters")
    return found.sort_values(CLASS, ignore_index=True).astype(object)


def source_of(cfg: Any, root: Path) -> Path | None:
    """The file that says what classes are called: the parameter's, or a train listing in JSON."""
    if cfg.class_names:
        return inside(root, cfg.class_names)
    place = Path(root) / cfg.train
    is_json = place.suffix.lower() == ".json" and place.is_file()
    return place if is_json and annotations.categories(place) else None


def take_in(cfg: Any, root: Path, listed: pd.DataFrame) -> pd.DataFrame:
    """Keep what the classes of a contest are called with the run, if a file says it.

    Parameters
    ----------
    cfg
        The parameters of 01.
    root
        The data root.
    listed
        The images of the contest: columns split and given.

    Returns
    -------
    pd.DataFrame
        As from `read_names`; empty where nothing is known.

    Raises
    ------
    ValueError
        As for `read_names`.
    """
    place = source_of(cfg, root)
    if place is None:
        classes_path(cfg).unlink(missing_ok=True)
        return _nothing()
    classes = sorted(set(listed.loc[listed["split"] == "train", "given"]))
    found = read_names(place, classes, cfg.class_levels, cfg.label_column)
    with whole_file(classes_path(cfg)) as temporary:
        found.to_csv(temporary, index=False)
    return found


def known_names(cfg: Shared) -> pd.DataFrame:
    """What 01 kept of the classes, as from `read_names`; empty where it kept nothing."""
    place = classes_path(cfg)
    return read_csv(place) if place.is_file() else _nothing()


def levels_of(known: pd.DataFrame) -> pd.DataFrame:
    """The group of each class at each level, by class; a class without one is its own group."""
    table = known.set_index(CLASS).drop(columns=NAME)
    for level in table:
        table[level] = table[level].where(table[level] != "", known[NAME].to_numpy())
    return table


def told_apart(known: pd.DataFrame) -> dict[str, str]:
    """Class → what it is called, with the class beside it where two would be called the same."""
    names = known.set_index(CLASS)[NAME]
    taken = names.value_counts()
    return {
        # What another class is written as says that one, not this.
        one: name if taken[name] == 1 and (name == one or name not in names) else f"{name} ({one})"
        for one, name in names.items()
    }


def _nothing() -> pd.DataFrame:
    return pd.DataFrame({CLASS: [], NAME: []}, dtype=object)


def _records(place: Path, labels: str) -> pd.DataFrame:
    """The file as text columns, a row a class or an image."""
    if not place.is_file():
        raise FileNotFoundError(f"class_names: {place} is not there")
    kind = place.suffix.lower()
    if kind == ".csv":
        return read_csv(place)
    if kind != ".json":
        raise UnreadableFile(f"class_names: {place} is neither a .csv nor a .json file")
    data: Any = annotations.categories(place)
    if data:
        field = annotations.label_field(data, labels)
        # The field that names the classes comes first, so that it is taken among equals.
        data = [{field: each.get(field, "")} | each for each in data]
    found = _as_records(data or annotations.loaded(place))
    if not found:
        raise UnreadableFile(
            f"class_names: {place} says of no class what it is called; wanted is class → name, a "
            "list of names, a list of records, or COCO's categories"
        )
    return pd.DataFrame(found, dtype=object).map(_text)


def _as_records(data: Any) -> list[dict[str, Any]]:
    if isinstance(data, dict) and all(isinstance(each, dict) for each in data.values()):
        return [{"key": key} | each for key, each in data.items()]
    if isinstance(data, dict) and all(isinstance(each, str | int) for each in data.values()):
        return [{"key": key, "value": value} for key, value in data.items()]
    if isinstance(data, list) and all(isinstance(each, dict) for each in data):
        return data
    if isinstance(data, list) and all(isinstance(each, str) for each in data):
        return [{"key": number, "value": name} for number, name in enumerate(data)]
    return []


def _text(value: Any) -> str:
    value = annotations.as_text(value)
    # What is missing in some records, and lists and the like within them, says nothing.
    return value.strip() if isinstance(value, str) else ""


def _class_column(
    place: Path, records: pd.DataFrame, classes: Sequence[str]
) -> tuple[str, pd.Series]:
    """The column that has most of the classes, and each row's class; empty for another's."""
    wanted = set(classes)
    by_number = {int(name): name for name in classes if name.isdecimal()}
    if len(by_number) < len(classes):
        by_number = {}
    best: tuple[int, str, pd.Series] = (0, "", pd.Series(dtype=object))
    for column in records:
        texts = records[column]
        for own in (
            texts.where(texts.isin(wanted), ""),
            texts.map(lambda text: by_number.get(int(text), "") if text.isdecimal() else ""),
        ):
            count = own[own != ""].nunique()
            if count > best[0]:
                best = (count, str(column), own)
    if not best[0]:
        raise UnreadableFile(
            f"class_names: no column of {place} holds a class, such as {sorted(wanted)[0]!r}; it "
            f"has {', '.join(map(str, records))}, first {records.iloc[0].tolist()[:4]}"
        )
    return best[1], best[2]


def _of_class(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The first value of each column that says something, by class."""
    filled = rows.replace("", None).groupby(column, sort=True).first()
    return filled.astype(object).where(filled.notna(), "").rename_axis(None)


def _differing(rows: pd.DataFrame, column: str, of: str) -> str:
    """A class that has two values in a column; empty where none has."""
    said = rows[rows[of] != ""].groupby(column)[of].nunique()
    return str(said.index[said > 1][0]) if (said > 1).any() else ""


def _name_column(
    place: Path, rows: pd.DataFrame, values: pd.DataFrame, column: str, levels: Sequence[str]
) -> str:
    """The column that says what classes are called; empty where none does."""
    by_name = {str(each).lower(): each for each in values}
    for name in NAMES:
        found = by_name.get(name, "")
        # A column with few different texts groups classes, whatever it is called.
        if found and found not in levels and 2 * values[found].nunique() > len(values):
            if twice := _differing(rows, column, found):
                both = sorted(set(rows.loc[rows[column] == twice, found]) - {""})
                raise UnreadableFile(
                    f"class_names: {place} calls the class {twice!r} both {both[0]!r} and "
                    f"{both[1]!r} ({found}); give each class one name"
                )
            return found
    for each in values:
        known = str(each).lower() in LEVELS or each in levels
        tells = values[each].nunique() > min(1, len(values) - 1)
        if tells and not known and not _differing(rows, column, each):
            return each
    return ""


def _levels(
    place: Path,
    rows: pd.DataFrame,
    values: pd.DataFrame,
    taken: Sequence[str],
    wanted: Sequence[str],
) -> list[str]:
    """The columns that group the classes, in order."""
    for level in wanted:
        if level not in values:
            raise UnreadableFile(
                f"class_levels: {place} has no {level!r} beside its classes; it has "
                f"{', '.join(map(str, values))}"
            )
        if twice := _differing(rows, taken[0], level):
            raise UnreadableFile(
                f"class_levels: {place} has the class {twice!r} in two groups of {level!r}; give "
                "each class one"
            )
    if wanted:
        return list(wanted)
    by_name = {str(each).lower(): each for each in values if each not in taken}
    there = [by_name[level] for level in LEVELS if level in by_name]
    return [
        level
        for level in there
        if not _differing(rows, taken[0], level) and 1 < _groups(values[level]) < len(values)
    ]


def _level_name(level: str) -> str:
    """What a level is called here: biology's class is none of the contest's."""
    return f"{level} level" if level in (CLASS, NAME) else str(level)


def _groups(values: pd.Series) -> int:
    """How many groups a level has; a class without one is its own."""
    return values[values != ""].nunique() + int((values == "").sum())


def said_of(found: pd.DataFrame, classes: Sequence[str]) -> str:
    """What is known of the classes' names and groups, in words."""
    nameless = sorted(set(classes) - set(found[CLASS]))
    levels = [name for name in found if name not in (CLASS, NAME)]
    text = f"{len(found)} of {len(classes)} classes have a name"
    if nameless:
        text += f", not {first_quoted(nameless)}"
    groups = ", ".join(f"{found[level].nunique()} of {level}" for level in levels)
    return text + (f"; groups: {groups}" if groups else "")
