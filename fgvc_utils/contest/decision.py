"""One decision on an image, and what it says of the same picture under another label."""

import json
from collections.abc import Sequence
from typing import NamedTuple

KEEP, DROP, RELABEL, UNDO = "keep", "drop", "relabel", "undo"
# These say what a photo shows, whatever label it came with.
OF_THE_PHOTO = ("noise", "normal")
# What a line on classes is about: two of them, or a part of one that holds a certain image.
PAIR, PART = "pair", "part"
# In a journal's column `shown`: of a line that follows from a decision on a copy.
COPY_OF = "↳ copy of "
# In the same column: before the images of a part of a class that were shown.
PART_SHOWN = " ▦ part: "


class Decision(NamedTuple):
    """What is written of one item; see `Journal.append` for the meaning of each part."""

    item: str
    decision: str
    label: str = ""
    shown: str = ""


def followed_from(shown: str) -> str:
    """The copy whose decision a line followed from; empty where somebody decided on the item."""
    return shown[len(COPY_OF) :] if shown.startswith(COPY_OF) else ""


def of_copy(made: Decision, given: str, given_to_copy: str) -> tuple[str, str] | None:
    """The decision and label of a copy, or None where nothing follows for it.

    Parameters
    ----------
    made
        The decision on the source.
    given, given_to_copy
        The labels that the source and the copy came with.
    """
    if made.decision in OF_THE_PHOTO:
        return made.decision, ""
    if made.decision == DROP:
        return (DROP, "") if given == given_to_copy else None
    if made.decision not in (KEEP, RELABEL):
        return None
    shows = given if made.decision == KEEP else made.label
    return (KEEP, "") if shows == given_to_copy else (RELABEL, shows)


def with_part(shown: str, image_ids: Sequence[str]) -> str:
    """What a reviewer saw, with images of the part of a class that the decision is on.

    By these the part is found again where the image that stands for it left.
    """
    return shown + PART_SHOWN + json.dumps(list(image_ids), ensure_ascii=False)


def part_shown(shown: str) -> list[str]:
    """The images that `with_part` noted; none where it noted none, or the text was cut."""
    _, marker, listed = shown.partition(PART_SHOWN)
    try:
        found = json.JSONDecoder().raw_decode(listed)[0] if marker else []
    except ValueError:
        return []
    return [image for image in found if isinstance(image, str)] if isinstance(found, list) else []
