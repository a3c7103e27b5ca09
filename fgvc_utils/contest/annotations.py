"""Listings written as JSON: COCO's form, which iNaturalist's contests use, and plainer ones."""

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.contest.file_states import State, state_of
from fgvc_utils.core.reading import UnreadableFile, read_text

# Fields of COCO's images and categories that stand in for the columns of other listings.
FILE, ID = "file_name", "id"
PATH, LABEL = "path", "label"
FORMS = (
    "COCO's form (images, annotations, categories), a list of records, name → label, or label → "
    "list of names"
)


def read(
    place: Path, split: str, paths: str, labels: str, ids: str
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Read a listing in JSON, or in JSON Lines.

    In COCO's form an image's class is the `id` of its category as text, or the field of categories
    that `labels` names, such as `name`; its path is `file_name`, or the field that `paths` names.

    Parameters
    ----------
    place
        The file.
    split
        `train` or `test`, whose labels, if there are some, are not read.
    paths, labels, ids
        The fields that hold path, label and id.

    Returns
    -------
    frame : pd.DataFrame
        A row an image, text columns named as the parameters name them.
    left_out : list of (path, reason)
        Train images without any label, or with several.

    Raises
    ------
    ValueError
        Naming the file, and the field where one is wrong.
    """
    frame, left_out = _read(place, state_of(place), split, paths, labels, ids)
    return frame.copy(deep=False), list(left_out)


# A check and a plan read a listing several times; that of iNaturalist takes many seconds each.
@functools.lru_cache(maxsize=4)
def _read(
    place: Path, state: State, split: str, paths: str, labels: str, ids: str
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    data = loaded(place)
    if isinstance(data, dict) and isinstance(data.get("images"), list):
        return _coco(place, data, split, paths, labels, ids)
    if isinstance(data, dict) and data:
        return _mapping(place, data, paths, labels), []
    if isinstance(data, list) and data and all(isinstance(each, dict) for each in data):
        return _records(data, [paths, labels, ids]), []
    raise UnreadableFile(f"{place} is no listing: it holds neither {FORMS}")


def categories(place: Path) -> list[dict[str, Any]]:
    """The categories of a file in COCO's form; none where there are none."""
    return list(_categories(place, state_of(place)))


@functools.lru_cache(maxsize=4)
def _categories(place: Path, state: State) -> list[dict[str, Any]]:
    data = loaded(place)
    found = data.get("categories") if isinstance(data, dict) else None
    found = found if isinstance(found, list) else []
    return [each for each in found if isinstance(each, dict) and ID in each]


def label_field(records: Iterable[dict[str, Any]], labels: str) -> str:
    """The field of categories that names the classes: `labels` where they have it, else `id`."""
    return labels if any(labels in each for each in records) else ID


def loaded(place: Path) -> Any:
    """A file of JSON or JSON Lines as plain data; raises ValueError where it is none."""
    text = read_text(place)
    try:
        if place.suffix.lower() == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(
            f"{place} is no valid JSON ({error}); is it cut? Download or write it again"
        ) from None


def as_text(value: Any) -> Any:
    """A number or a text as text; anything else as it is, for the reader's own error."""
    whole = isinstance(value, float) and value.is_integer()
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(int(value) if whole else value) if number else value


def _records(data: list[dict[str, Any]], wanted: list[str]) -> pd.DataFrame:
    """Records as rows; of the fields that nobody asks for the first record's names alone."""
    fields = dict.fromkeys([*(name for name in wanted if name), *data[0]])
    there = [name for name in fields if any(name in each for each in data)]
    columns = {
        name: [as_text(each.get(name, "")) for each in data] if name in wanted else ""
        for name in there
    }
    return pd.DataFrame(columns, index=range(len(data)), dtype=object)


def _mapping(place: Path, data: dict[str, Any], paths: str, labels: str) -> pd.DataFrame:
    """Name → label, or label → names."""
    if all(isinstance(each, str | int) for each in data.values()):
        pairs = [(name, as_text(label)) for name, label in data.items()]
    elif all(isinstance(each, list) for each in data.values()):
        pairs = [(as_text(name), label) for label, names in data.items() for name in names]
    else:
        raise UnreadableFile(f"{place} is no listing: it holds neither {FORMS}")
    return pd.DataFrame(pairs, columns=[paths, labels], dtype=object)


def _coco(
    place: Path, data: dict[str, Any], split: str, paths: str, labels: str, ids: str
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    images = data["images"]
    key = paths if paths != PATH else FILE
    for number, image in enumerate(images):
        lacks = next((name for name in (key, ids) if name and name not in image), None)
        if lacks:
            has = ", ".join(image)
            parameter = "path_column" if lacks == key else "id_column"
            raise UnreadableFile(
                f"{place}: image {number + 1} of `images` has no {lacks!r}; it has {has}: name one "
                f"of them as {parameter}"
            )
    named = [as_text(image[key]) for image in images]
    frame = pd.DataFrame({paths: named}, dtype=object)
    if ids:
        frame[ids] = [as_text(image[ids]) for image in images]
    if split != "train":
        return frame, []
    found = _labels(place, data, labels)
    several = [found.get(image.get(_key_of(image)), ()) for image in images]
    frame[labels] = [next(iter(each)) if len(each) == 1 else "" for each in several]
    reasons = [_why(place, each) for each in several]
    left_out = [(name, why) for name, why in zip(named, reasons, strict=True) if why]
    return frame[frame[labels] != ""].reset_index(drop=True), left_out


def _key_of(image: dict[str, Any]) -> str:
    """What an image's id is called; some contests write image_id there too."""
    return ID if ID in image else "image_id"


def _why(place: Path, labels: tuple[str, ...]) -> str:
    if not labels:
        return f"has no label in {place.name}"
    if len(labels) == 1:
        return ""
    return f"has several labels in {place.name} ({', '.join(sorted(labels)[:5])})"


def _labels(place: Path, data: dict[str, Any], labels: str) -> dict[Any, tuple[str, ...]]:
    """The labels of each image by its id, each once."""
    names = _class_names(place, data, labels)
    found: dict[Any, tuple[str, ...]] = {}
    for number, each in enumerate(data.get("annotations") or []):
        if not isinstance(each, dict) or not {"image_id", "category_id"} <= each.keys():
            raise UnreadableFile(
                f"{place}: annotation {number + 1} lacks image_id or category_id; it has "
                f"{', '.join(each) if isinstance(each, dict) else repr(each)}"
            )
        category = each["category_id"]
        if names and category not in names:
            raise UnreadableFile(
                f"{place}: annotation {number + 1} names the category {category!r}, which is not "
                "among its categories; add it there"
            )
        label = names.get(category, as_text(category))
        before = found.get(each["image_id"], ())
        if label not in before:
            found[each["image_id"]] = (*before, label)
    return found


def _class_names(place: Path, data: dict[str, Any], labels: str) -> dict[Any, str]:
    """The class of each category by its id."""
    records = [each for each in data.get("categories") or [] if isinstance(each, dict)]
    field = label_field(records, labels)
    if field == ID and labels not in (LABEL, ID, "category_id"):
        has = ", ".join(records[0]) if records else "none"
        raise UnreadableFile(
            f"{place}: its categories have no {labels!r}; they have {has}: name one of them as "
            "label_column"
        )
    found: dict[Any, str] = {}
    taken: set[str] = set()
    for each in records:
        if ID not in each or each.get(field) in (None, ""):
            raise UnreadableFile(f"{place}: a category lacks {ID!r} or {field!r}: {each}")
        label = as_text(each[field])
        if label in taken:
            raise UnreadableFile(
                f"{place}: two categories have the {field} {label!r}; name another field as "
                "label_column, such as id"
            )
        taken.add(label)
        found[each[ID]] = label
    return found
