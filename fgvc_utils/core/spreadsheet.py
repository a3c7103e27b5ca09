"""Text in CSV files that a spreadsheet would take for a formula, and run.

What begins a formula is from OWASP's page on CSV injection. A cell can also begin in the middle
of a value: where a spreadsheet takes the semicolon or the tab for the separator of the file.
"""

import re

# With their full-width forms, which some spreadsheets take for the same.
_STARTS = "=+\\-@＝＋－＠"
# Before each such place goes the `'`; a tab or a line end counts at the beginning alone.
_PLACE = "(?:^{0}(?=[\"' ]*[\t\r\n{1}])|(?<=[;\t]){0}(?=[\"' ]*[{1}]))"
_CELL = re.compile(_PLACE.format("", _STARTS))
_ESCAPED_CELL = re.compile(_PLACE.format("'", _STARTS))
_NUMBER = re.compile(r"[+-]\d+(\.\d+)?")


def is_formula(text: str) -> bool:
    """Whether a spreadsheet may take a text for a formula; a number with its sign is none."""
    return bool(_CELL.search(text)) and not _NUMBER.fullmatch(text)


def escaped(text: str) -> str:
    """The text as a spreadsheet shows and does not run it: with a `'` where a formula would begin.

    `unescaped` gives the text back, whatever it is.
    """
    return _CELL.sub("'", text)


def unescaped(text: str) -> str:
    """The text that `escaped` was given; text that was never escaped stays as it is.

    But for one that begins with a `'` and a formula behind it, which loses that `'`.
    """
    return _ESCAPED_CELL.sub("", text)
