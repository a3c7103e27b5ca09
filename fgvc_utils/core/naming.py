"""Names as they are shown: in one line, cut where they are long, the first few of many.

Counts in no digest.
"""

import re
import unicodedata
from collections.abc import Sequence

# What ends a line or moves text about: controls, separators, and the direction of what follows.
MOVES_TEXT = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]+"
)


def first_few(names: Sequence[str], most: int = 3) -> str:
    """The first few of some names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def first_quoted(names: Sequence[str], most: int = 3) -> str:
    """The same for names that a person gave, in quotes."""
    return first_few([repr(name) for name in names], most)


def in_line(name: str) -> str:
    """The name in one line: a blank in place of what breaks a line, turns it or is no text."""
    return MOVES_TEXT.sub(" ", name).strip() if MOVES_TEXT.search(name) else name


def shortened(name: str, most: int) -> str:
    """The name in one line, cut in its middle where it is wider than `most` letters.

    Signs as wide as two letters, such as Chinese ones and pictures, count as two.
    """
    name = in_line(name)
    if _width(name) <= most:
        return name
    head = most // 2
    end = most - 1 - head
    return f"{_fitting(name, head).rstrip()}…{_fitting(name[::-1], end)[::-1].lstrip()}"


def _width(name: str) -> int:
    return sum(_width_of(sign) for sign in name)


def _width_of(sign: str) -> int:
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def _fitting(name: str, most: int) -> str:
    """The longest beginning of a name that is at most `most` letters wide."""
    width = 0
    for place, sign in enumerate(name):
        width += _width_of(sign)
        if width > most:
            return name[:place]
    return name
