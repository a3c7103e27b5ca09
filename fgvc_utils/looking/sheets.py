"""Contact sheets: candidates as one picture that stays in a notebook."""

import zlib
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from fgvc_utils.contest.journal import Journal
from fgvc_utils.core.naming import shortened
from fgvc_utils.looking.candidates import check_candidates, is_rows, under_photo
from fgvc_utils.looking.thumbnails import thumbnail

# The palette of Okabe and Ito (Color universal design, 2008), distinct for the colour-blind too.
COLOURS = {
    "keep": "#009e73",
    "normal": "#009e73",
    "drop": "#d55e00",
    "noise": "#d55e00",
    "relabel": "#0072b2",
}
# So far apart, in pixels, are rows that are side by side.
BETWEEN_ROWS = 16
# Pixels: the heading, and a line of text under a photo.
TOP, LINE = 26, 14
OTHER_COLOURS = ["#cc79a7", "#e69f00", "#56b4e9", "#b0a000"]


def contact_sheet(
    candidates: pd.DataFrame,
    *,
    columns: int = 10,
    limit: int = 60,
    title: str = "",
    journal: Journal | None = None,
    side: int = 96,
    across: int = 1,
) -> Image.Image:
    """Draw the first candidates as one picture that stays in the notebook.

    Under each photo are the lines of its caption, the decision and the best suggestion. Names
    that are too long are cut in the middle; scores stay whole.

    Parameters
    ----------
    candidates
        As for `Gallery`; where `image` holds lists, one row of photos an item.
    columns
        Photos in a line; in a picture of rows at most so many of an item.
    limit
        At most so many photos, or rows.
    title
        A line above, followed by how many of the candidates are shown.
    journal
        Where given, decided items are framed in the colour of their decision.
    side
        The longer side of a photo, in pixels.
    across
        In a picture of rows so many items beside each other, each `columns` photos wide.

    Returns
    -------
    A picture of 256 colours (mode P: in a notebook a third of the bytes of true colour), columns ×
    (side + 8) pixels wide and at least 320; with `across` so many times that and a gap. Photos that
    cannot be read are drawn as a named placeholder. Without candidates it is one line of text.

    Raises
    ------
    ValueError
        The candidates are wrong, or a number is below 1.
    """
    candidates = check_candidates(candidates)
    sizes = {"columns": columns, "limit": limit, "side": side, "across": across}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; give 1 or more")
    decided = {} if journal is None else journal.latest()["decision"].to_dict()
    shown = candidates.head(limit)
    rows = is_rows(candidates)
    texts = [_lines_under(row, decided.get(row.item, ""), rows) for row in shown.itertuples()]
    lines = max(map(len, texts), default=0)
    cell_width, cell_height = side + 8, side + 8 + LINE * lines + 4
    in_a_line, item_width = (across, cell_width * columns) if rows else (columns, cell_width)
    if rows and across > 1:
        item_width += BETWEEN_ROWS
    width = max(item_width * in_a_line, 320)
    height = TOP + cell_height * -(-len(shown) // in_a_line)
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    heading = _heading(title, len(shown), len(candidates))
    pen.text((6, 5), fitted(heading, font(14), width - 12), fill="black", font=font(14))
    for place, row in enumerate(shown.itertuples()):
        x = (place % in_a_line) * item_width
        y = TOP + (place // in_a_line) * cell_height
        images = row.image[:columns] if rows else [row.image]
        for step, path in enumerate(images):
            _draw_photo(sheet, pen, path, (x + step * cell_width + 4, y + 4), side)
        decision = decided.get(row.item, "")
        if decision:
            frame = [x + 1, y + 1, x + cell_width * max(len(images), 1) - 2, y + side + 6]
            pen.rectangle(frame, outline=decision_colour(decision), width=3)
        width_of_text = cell_width - 6
        if rows:
            width_of_text = (width if across == 1 else item_width) - 12
        for line, text in enumerate(texts[place]):
            last = line == len(texts[place]) - 1
            fill = decision_colour(decision) if decision and last else "#333333"
            spot = (x + 4, y + side + 9 + LINE * line)
            pen.text(spot, fitted(text, font(11), width_of_text), fill=fill, font=font(11))
    return sheet.quantize(256)


def _heading(title: str, shown: int, count: int) -> str:
    if not count:
        return f"{title}: none" if title else "no candidates"
    numbers = f"({shown} of {count})"
    return f"{title} {numbers}" if title else numbers


def _lines_under(row: tuple, decision: str, of_row: bool) -> list[str]:
    """The lines of text of an item; the last one holds its decision."""
    lines = [*filter(None, under_photo(row.caption, row.label, row.suggestions))] or [""]
    if decision and of_row:
        lines[-1] += f"  {decision}"
    elif decision:
        lines.append(decision)
    return lines


def decision_colour(decision: str) -> str:
    """The colour of a decision as `#rrggbb`, the same wherever it is shown."""
    other = OTHER_COLOURS[zlib.crc32(decision.encode()) % len(OTHER_COLOURS)]
    return COLOURS.get(decision, other)


def _draw_photo(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    path: str | Path,
    corner: tuple[int, int],
    side: int,
) -> None:
    x, y = corner
    try:
        photo = thumbnail(path, side)
        sheet.paste(photo, (x + (side - photo.width) // 2, y + (side - photo.height) // 2))
    except OSError as error:
        pen.rectangle([x, y, x + side - 1, y + side - 1], fill="#eeeeee", outline="#bbbbbb")
        problem = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        for line, text in enumerate((problem, Path(path).name)):
            spot = (x + 5, y + side // 2 - 14 + 14 * line)
            pen.text(spot, fitted(text, font(11), side - 10), fill="#555555", font=font(11))


def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and knows Latin, Greek and Cyrillic."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text in one line, cut in the middle where it is wider than `width` pixels.

    At least half of what fits is the text's end, so that a score after a long name stays whole.

    Parameters
    ----------
    text
        One line.
    font
        The font that it is drawn in.
    width
        The space there is, in px.
    """
    # No letter that is worth drawing is narrower than two pixels.
    text = shortened(text, max(width, 2))
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        head = kept // 2
        cut = f"{text[:head].rstrip()}…{text[head - kept :].lstrip()}"
        if font.getlength(cut) <= width:
            return cut
    return "…"
