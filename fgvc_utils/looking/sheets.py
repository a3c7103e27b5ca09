"""Contact sheets: candidates as one picture, for the eye alone, that stays in a notebook."""

import zlib
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from fgvc_utils.contest.journal import Journal
from fgvc_utils.looking.review import check_candidates, is_rows
from fgvc_utils.looking.thumbnails import thumbnail

# The palette of Okabe and Ito (Color universal design, 2008), distinct for the colour-blind too.
COLOURS = {
    "keep": "#009e73",
    "normal": "#009e73",
    "drop": "#d55e00",
    "noise": "#d55e00",
    "relabel": "#0072b2",
}
# So far apart, in pixels, are rows that stand beside each other.
BETWEEN_ROWS = 16
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

    Args:
        candidates: as for `Gallery`; where `image` holds lists, a row of photos an item.
        columns: photos in a line (in the picture of rows: at most so many of an item).
        limit: at most so many photos, or rows.
        title: a line above; it also says how many of the candidates are shown.
        journal: where given, decided items are framed in the colour of their decision, which
            stands under them too.
        side: the longer side of a photo, in pixels.
        across: in the picture of rows so many items beside each other, each `columns` photos wide.

    Returns a picture of 256 colours (mode P: in a notebook a third of the bytes of true colour),
    columns × (side + 8) pixels wide and at least 320; with `across` so many times that and a gap.
    Photos that cannot be read are drawn as a named placeholder. Raises ValueError for wrong
    candidates.
    """
    candidates = check_candidates(candidates)
    sizes = {"columns": columns, "limit": limit, "side": side, "across": across}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; give 1 or more")
    decided = {} if journal is None else journal.latest()["decision"].to_dict()
    shown = candidates.head(limit)
    rows = is_rows(candidates)
    label_font = font(11)
    lines = 1 if rows else 2
    cell_width, cell_height = side + 8, side + 8 + 14 * lines + 4
    in_a_line, item_width = (across, cell_width * columns) if rows else (columns, cell_width)
    if rows and across > 1:
        item_width += BETWEEN_ROWS
    width = max(item_width * in_a_line, 320)
    heading = f"{title} " if title else ""
    heading += f"({len(shown)} of {len(candidates)})"
    top = 26
    height = top + cell_height * max(1, -(-len(shown) // in_a_line))
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((6, 5), fitted(heading, font(14), width - 12), fill="black", font=font(14))
    for place, row in enumerate(shown.itertuples()):
        x = (place % in_a_line) * item_width
        y = top + (place // in_a_line) * cell_height
        decision = decided.get(row.item, "")
        images = row.image[:columns] if rows else [row.image]
        for step, path in enumerate(images):
            _draw_photo(sheet, pen, path, (x + step * cell_width + 4, y + 4), side)
        box_width = cell_width * len(images) if rows else cell_width
        if decision:
            colour = decision_colour(decision)
            frame = [x + 1, y + 1, x + max(box_width, cell_width) - 2, y + side + 6]
            pen.rectangle(frame, outline=colour, width=3)
        suggestion = f"→ {row.suggested}" if row.suggested else ""
        under = " ".join(part for part in (decision, suggestion) if part)
        room = cell_width - 6
        if rows:
            room = (width if across == 1 else item_width) - 12
        texts = [f"{row.caption}  {under}".strip()] if rows else [row.caption, under]
        for line, text in enumerate(texts):
            fill = decision_colour(decision) if decision and (rows or line == 1) else "#333333"
            spot = (x + 4, y + side + 9 + 14 * line)
            pen.text(spot, fitted(text, label_font, room), fill=fill, font=label_font)
    return sheet.quantize(256)


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
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
