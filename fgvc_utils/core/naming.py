"""Several names in one line.

Counts in no digest.
"""

from collections.abc import Sequence


def first_few(names: Sequence[str], most: int = 3) -> str:
    """The first few of some names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def first_quoted(names: Sequence[str], most: int = 3) -> str:
    """The same for names that a person gave, in quotes."""
    return first_few([repr(name) for name in names], most)
