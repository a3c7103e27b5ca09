"""Galleries: pages of photos on which a person decides, as a view over a journal.

`Gallery` is for JupyterLab, `contact_sheet` for the eye alone: a picture that stays in an executed
notebook. Both show one photo an item, or a row of photos an item where `image` holds lists.
"""

import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import pandas as pd
import traitlets
from IPython.display import DisplayHandle, display
from PIL import Image, ImageDraw, ImageFont, ImageOps

from fgvc_utils.journal import UNDO, Journal

RELABEL = "relabel"
UNDO_KEY = "u"
ITEMS_A_PAGE = 60
ROWS_A_PAGE = 10
IMAGES_A_ROW = 10
# The palette of Okabe and Ito (Color universal design, 2008), distinct for the colour-blind too.
COLOURS = {
    "keep": "#009e73",
    "normal": "#009e73",
    "drop": "#d55e00",
    "noise": "#d55e00",
    "relabel": "#0072b2",
}
OTHER_COLOURS = ["#cc79a7", "#e69f00", "#56b4e9", "#b0a000"]


class Grid(anywidget.AnyWidget):
    """The page of photos in the browser; it draws what it is told and sends what is pressed.

    `page` is heavy and changes when a page is turned: `number`, `tiles` (a list of dicts with
    `item`, `caption`, `suggested`, `images`), the JPEGs of all thumbnails one after another in
    `jpegs`, and `offsets`, where each begins and the last ends. `now` is light and changes with
    each decision: `decisions` by item, the `cursor` (position in the page), `time` (a counter),
    `answer` (the id of the message that led to it) and `error`.
    """

    _esm = Path(__file__).with_name("gallery.js")
    _css = Path(__file__).with_name("gallery.css")

    title = traitlets.Unicode().tag(sync=True)
    choices = traitlets.List().tag(sync=True)
    undo_key = traitlets.Unicode(UNDO_KEY).tag(sync=True)
    side = traitlets.Int(128).tag(sync=True)
    rows = traitlets.Bool(False).tag(sync=True)
    page = traitlets.Dict().tag(sync=True)
    now = traitlets.Dict().tag(sync=True)


class Gallery:
    """Pages of candidates, decided by key or click; each decision is in the journal first.

    Args:
        candidates: a row an item. Columns `item` (string, unique), `image` (the path of a JPEG or
            any file that Pillow reads, or a list of paths: then an item is a row of photos and is
            decided as one), `caption`; optional `suggested` (the label that a decision `relabel`
            takes) and `shown` (what the journal notes as shown; by default the caption and the
            suggestion).
        journal: where decisions go, and where earlier ones are read when the gallery is made.
        choices: key → decision, such as `{"k": "keep", "d": "drop", "r": "relabel"}`.
        title: what is decided here.
        page_size: items a page; by default 60 photos, or 10 rows.
        reviewer: who decides; the name of the user by default.
        thumbnail_side: the longer side of a thumbnail, in pixels.

    Raises ValueError where a column is missing or holds values it cannot, or a key cannot be used.
    The thumbnails of a page are read when it is first shown, so a gallery costs little where
    nobody looks at it.
    """

    def __init__(
        self,
        candidates: pd.DataFrame,
        journal: Journal,
        choices: Mapping[str, str],
        *,
        title: str,
        page_size: int | None = None,
        reviewer: str | None = None,
        thumbnail_side: int = 128,
    ):
        self._candidates = _checked(candidates)
        self._rows = _is_rows(self._candidates)
        if page_size is None:
            page_size = ROWS_A_PAGE if self._rows else ITEMS_A_PAGE
        if page_size < 1:
            raise ValueError(f"page_size is {page_size}; give 1 or more")
        _check_choices(choices)
        self.title = title
        self.page_size = page_size
        self._choices = dict(choices)
        self._journal = journal
        self._reviewer = reviewer
        self._side = thumbnail_side
        self._items = self._candidates["item"].tolist()
        self._position = {item: position for position, item in enumerate(self._items)}
        self._made: list[str] = []
        self._decisions: dict[str, dict[str, str]] = {}
        self._read_journal()
        self._cursor = self._next_undecided(0)
        self._shown = 0
        self._grid: Grid | None = None
        self._fallback: DisplayHandle | None = None

    def decide(self, item: str, decision: str) -> None:
        """Write a decision to the journal, then show it and move to the next undecided item.

        Raises ValueError where the item is not in this gallery, the decision is not among its
        choices, or `relabel` has no suggested label to take; OSError where it cannot be written.
        """
        if item not in self._position:
            raise ValueError(f"{item!r} is not among the {len(self._items)} candidates")
        if decision not in self._choices.values():
            raise ValueError(f"{decision!r} is not one of {sorted(set(self._choices.values()))}")
        row = self._candidates.iloc[self._position[item]]
        label = row["suggested"] if decision == RELABEL else ""
        if decision == RELABEL and not label:
            raise ValueError(f"{item!r} has no suggested label to relabel it with")
        self._journal.append(item, decision, label, row["shown"], self._reviewer)
        self._made.append(item)
        self._decisions[item] = {"decision": decision, "label": label}
        self._cursor = self._next_undecided(self._position[item])
        self._show()

    def undo(self) -> None:
        """Take back the latest decision made in this gallery and move to its item.

        What was in force before it is in force again. Raises ValueError where nothing was
        decided since the gallery was made: earlier decisions are changed by deciding anew.
        """
        if not self._made:
            raise ValueError("nothing was decided in this gallery yet, so there is nothing to undo")
        item = self._made[-1]
        self._journal.append(item, UNDO, "", "", self._reviewer)
        self._made.pop()
        self._read_journal()
        self._cursor = self._position[item]
        self._show()

    def turn(self, pages: int) -> None:
        """Move on by so many pages (back where negative), stopping at the first and the last."""
        page = min(max(self.page + pages, 0), self.pages - 1)
        if page != self.page:
            self._cursor = page * self.page_size
            self._show()

    def seek_undecided(self) -> None:
        """Move to the next undecided item; where all are decided, stay."""
        self._cursor = self._next_undecided(self._cursor)
        self._show()

    @property
    def page(self) -> int:
        """The number of the page in view, from 0."""
        return self._cursor // self.page_size

    @property
    def pages(self) -> int:
        """The number of pages, at least 1."""
        return max(1, -(-len(self._items) // self.page_size))

    @property
    def selected(self) -> str | None:
        """The item that the next key decides when no other was chosen in the browser."""
        return self._items[self._cursor] if self._items else None

    @property
    def decisions(self) -> dict[str, str]:
        """Item → decision in force, for the candidates that have one."""
        return {item: made["decision"] for item, made in self._decisions.items()}

    @property
    def progress(self) -> str:
        """How far it has come, such as `decided 12 of 83`."""
        return f"decided {len(self._decisions)} of {len(self._items)}"

    @property
    def grid(self) -> Grid:
        """The photos and keys alone; made when first asked for."""
        if self._grid is None:
            self._build()
        return self._grid

    @property
    def widget(self) -> ipywidgets.Widget:
        """The whole gallery as one widget, to be displayed or put beside others."""
        if self._grid is None:
            self._build()
        return self._shell

    def __repr__(self) -> str:
        cut = len(self._journal.cut_lines())
        ignored = f" {cut} cut lines of {self._journal.path} were ignored." if cut else ""
        if not self._items:
            return f"{self.title}: no candidates, so there is nothing to decide.{ignored}"
        return (
            f"{self.title}: {len(self._items)} candidates, {len(self._decisions)} of them "
            f"decided. To decide, open this notebook in JupyterLab and run this cell.{ignored}"
        )

    def _ipython_display_(self) -> None:
        # Where no browser is there to draw the widget (papermill, a printed notebook) this line
        # is what stays; a browser that drew it says so and the line goes.
        self._fallback = display({"text/plain": repr(self)}, raw=True, display_id=True)
        if self._items:
            display(self.widget)

    def _read_journal(self) -> None:
        latest = self._journal.latest()
        known = latest[latest.index.isin(self._position)]
        self._decisions = known[["decision", "label"]].to_dict("index")

    def _next_undecided(self, start: int) -> int:
        """The first undecided position from `start` on, then from the beginning, else `start`."""
        for position in [*range(start, len(self._items)), *range(start)]:
            if self._items[position] not in self._decisions:
                return position
        return start

    def _build(self) -> None:
        self._grid = Grid(
            title=self.title,
            side=self._side,
            rows=self._rows,
            choices=[
                {"key": key, "decision": decision, "colour": decision_colour(decision)}
                for key, decision in self._choices.items()
            ],
        )
        self._grid.on_msg(self._receive)
        self._progress = ipywidgets.Label()
        self._page_label = ipywidgets.Label()
        self._previous = _button("Previous page", "arrow-left", lambda: self.turn(-1))
        self._next = _button("Next page", "arrow-right", lambda: self.turn(1))
        undecided = _button("Next undecided", "forward", self.seek_undecided)
        turning = [self._previous, self._page_label, self._next, undecided, self._progress]
        heading = ipywidgets.Label(self.title, style={"font_weight": "bold", "font_size": "16px"})
        line = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
        self._shell = ipywidgets.VBox([heading, ipywidgets.HBox(turning, layout=line), self._grid])
        self._show()

    def _show(self, answer: str = "", error: str = "") -> None:
        if self._grid is None:
            return
        self._shown += 1
        begin = self.page * self.page_size
        shown = self._candidates.iloc[begin : begin + self.page_size]
        # One message for both, so that a cursor never points into the page before.
        with self._grid.hold_sync():
            if self._grid.page.get("number") != self.page:
                self._grid.page = {"number": self.page, **_page(shown, self._side)}
            self._grid.now = {
                "decisions": {i: self._decisions[i] for i in shown["item"] if i in self._decisions},
                "cursor": self._cursor - begin,
                "time": self._shown,
                "answer": answer,
                "error": error,
            }
        self._progress.value = self.progress
        self._page_label.value = f"page {self.page + 1} of {self.pages}"
        self._previous.disabled = self.page == 0
        self._next.disabled = self.page == self.pages - 1

    def _receive(self, _: Any, message: dict, __: Any) -> None:
        """Do what the browser asks for; what goes wrong is shown there and changes nothing."""
        kind = message.get("type")
        if kind == "drawn":
            if self._fallback is not None:
                self._fallback.update({"text/plain": ""}, raw=True)
            return
        # Held back so that the browser sees the outcome once, with the answer it waits for.
        with self._grid.hold_sync():
            error = ""
            try:
                if kind == "decide":
                    self.decide(message["item"], message["decision"])
                elif kind == "undo":
                    self.undo()
                elif kind == "turn":
                    self.turn(message["pages"])
            except (ValueError, OSError) as problem:
                error = str(problem)
                self._cursor = self._position.get(message.get("item"), self._cursor)
            self._show(message.get("id", ""), error)


def contact_sheet(
    candidates: pd.DataFrame,
    *,
    columns: int = 10,
    limit: int = 60,
    title: str = "",
    journal: Journal | None = None,
    side: int = 96,
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

    Returns a picture of 256 colours (mode P: in a notebook a third of the bytes of true colour),
    columns × (side + 8) pixels wide and at least 320. Photos that cannot be read are drawn as a
    named placeholder. Raises ValueError for wrong candidates.
    """
    candidates = _checked(candidates)
    for name, value in {"columns": columns, "limit": limit, "side": side}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; give 1 or more")
    decided = {} if journal is None else journal.latest()["decision"].to_dict()
    shown = candidates.head(limit)
    rows = _is_rows(candidates)
    font = _font(11)
    lines = 1 if rows else 2
    cell_width, cell_height = side + 8, side + 8 + 14 * lines + 4
    in_a_line = 1 if rows else columns
    width = max(cell_width * columns, 320)
    heading = f"{title} " if title else ""
    heading += f"({len(shown)} of {len(candidates)})"
    top = 26
    height = top + cell_height * max(1, -(-len(shown) // in_a_line))
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((6, 5), _fitted(heading, _font(14), width - 12), fill="black", font=_font(14))
    for place, row in enumerate(shown.itertuples()):
        x = (place % in_a_line) * cell_width
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
        room = width - 12 if rows else cell_width - 6
        texts = [f"{row.caption}  {under}".strip()] if rows else [row.caption, under]
        for line, text in enumerate(texts):
            fill = decision_colour(decision) if decision and (rows or line == 1) else "#333333"
            spot = (x + 4, y + side + 9 + 14 * line)
            pen.text(spot, _fitted(text, font, room), fill=fill, font=font)
    return sheet.quantize(256)


def _checked(candidates: pd.DataFrame) -> pd.DataFrame:
    """Candidates with all five columns, `suggested` and `shown` filled in; one photo or rows.

    Raises ValueError naming the column that is missing or holds what it cannot.
    """
    missing = [name for name in ("item", "image", "caption") if name not in candidates.columns]
    if missing:
        raise ValueError(f"candidates has no column {missing}; it has {list(candidates.columns)}")
    table = candidates.reset_index(drop=True)
    for name in ("suggested", "shown"):
        given = table[name].astype(object) if name in table else pd.Series("", table.index)
        table[name] = given.where(given.notna(), "")
    for name in ("item", "caption", "suggested", "shown"):
        wrong = [value for value in table[name] if not isinstance(value, str)]
        if wrong:
            raise ValueError(
                f"candidates: column `{name}` must hold strings, not {wrong[0]!r}; "
                "convert it where it is made"
            )
    if (table["item"] == "").any():
        raise ValueError("candidates: column `item` holds an empty string")
    twice = table["item"][table["item"].duplicated()]
    if len(twice):
        raise ValueError(f"candidates: {twice.iloc[0]!r} stands twice in column `item`")
    kinds = {isinstance(value, list | tuple) for value in table["image"]}
    if len(kinds) > 1:
        raise ValueError("candidates: column `image` holds both paths and lists of paths")
    for value in table["image"]:
        for path in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(path, str | Path):
                raise ValueError(f"candidates: column `image` must hold paths, not {path!r}")
    seen = table["caption"] + table["suggested"].map(lambda label: f" → {label}" if label else "")
    table["shown"] = table["shown"].where(table["shown"] != "", seen)
    return table


def decision_colour(decision: str) -> str:
    """The colour of a decision as `#rrggbb`, the same wherever it is shown."""
    other = OTHER_COLOURS[zlib.crc32(decision.encode()) % len(OTHER_COLOURS)]
    return COLOURS.get(decision, other)


def thumbnail(path: str | Path, side: int) -> Image.Image:
    """A photo as RGB, upright, its longer side at most `side` pixels.

    Raises OSError where the file is not there or Pillow cannot read it.
    """
    try:
        with Image.open(path) as image:
            # A JPEG can be decoded at a fraction of its size, which is most of the time saved.
            image.draft("RGB", (side * 2, side * 2))
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((side, side))
            return upright.convert("RGB")
    except OSError:
        raise
    # Pillow's readers raise many kinds of error on damaged files.
    except Exception as error:
        raise OSError(f"{path}: {error}") from error


def _is_rows(candidates: pd.DataFrame) -> bool:
    return len(candidates) > 0 and isinstance(candidates["image"].iloc[0], list | tuple)


def _check_choices(choices: Mapping[str, str]) -> None:
    if not choices:
        raise ValueError('choices is empty; give key → decision, such as {"k": "keep"}')
    for key, decision in choices.items():
        if not (isinstance(key, str) and len(key) == 1 and key.isprintable() and key.strip()):
            raise ValueError(f"choices: {key!r} is not a single character to press")
        if key != key.lower():
            raise ValueError(f"choices: use {key.lower()!r} in place of {key!r}")
        if key == UNDO_KEY:
            raise ValueError(f"choices: the key {UNDO_KEY!r} is taken by undo")
        if not isinstance(decision, str) or not decision.strip() or decision == UNDO:
            raise ValueError(f"choices: {decision!r} cannot be a decision")


def _page(shown: pd.DataFrame, side: int) -> dict[str, Any]:
    """The tiles of one page and the JPEGs of its thumbnails, one after another."""
    tiles, jpegs, offsets = [], [], [0]
    for row in shown.itertuples():
        paths = row.image[:IMAGES_A_ROW] if isinstance(row.image, list | tuple) else [row.image]
        images = []
        for path in paths:
            jpeg, problem = _jpeg(path, side)
            images.append({"name": Path(path).name, "problem": problem})
            jpegs.append(jpeg)
            offsets.append(offsets[-1] + len(jpeg))
        tile = {"item": row.item, "caption": row.caption, "suggested": row.suggested}
        tiles.append({**tile, "images": images})
    return {"tiles": tiles, "offsets": offsets, "jpegs": b"".join(jpegs)}


def _jpeg(path: str | Path, side: int) -> tuple[bytes, str]:
    """A thumbnail's bytes and an empty string, or no bytes and what is wrong with the file."""
    try:
        written = io.BytesIO()
        thumbnail(path, side).save(written, "JPEG", quality=85)
        return written.getvalue(), ""
    except FileNotFoundError:
        return b"", "missing"
    except OSError:
        return b"", "unreadable"


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
            pen.text(spot, _fitted(text, _font(11), side - 10), fill="#555555", font=_font(11))


def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and knows Latin, Greek and Cyrillic."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _button(description: str, icon: str, action: Any) -> ipywidgets.Button:
    button = ipywidgets.Button(description=description, icon=icon)
    button.layout.width = "auto"
    button.on_click(lambda _: action())
    return button
