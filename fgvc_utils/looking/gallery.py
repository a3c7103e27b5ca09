"""The gallery: one grid of photos in JupyterLab on which a person decides, a view over a journal.

The browser holds what is in sight and little more: it asks for tiles as it scrolls. What is
decided, in which order things stand and what a key means is settled here and in `review`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any

import anywidget
import pandas as pd
import traitlets
from IPython.display import DisplayHandle, display

from fgvc_utils.contest.journal import UNDO, Journal
from fgvc_utils.looking import gallery_messages as messages
from fgvc_utils.looking.review import EVERYTHING, ORDER, RELABEL, Review, is_rows
from fgvc_utils.looking.sheets import contact_sheet, decision_colour
from fgvc_utils.looking.thumbnails import Thumbnails

SUGGESTION_KEYS = "12345"
# Keys with a meaning of their own; the browser's side knows them too.
TAKEN_KEYS = {"u": "undo", "/": "search", "z": "zoom", **dict.fromkeys(SUGGESTION_KEYS, "suggest")}
IMAGES_A_ROW = 10
TILES_A_MESSAGE = 200
EXEMPLARS, EXEMPLARS_OF_A_SUGGESTION = 6, 3
LOOK_SIDE, ZOOM_SIDE, ZOOM_ROW_SIDE, ZOOM_ROW_IMAGES = 320, 1600, 240, 200
SHEET_LIMIT, SHEET_ROWS = 60, 20


class Grid(anywidget.AnyWidget):
    """The gallery in the browser; it draws what it is told and sends what is pressed.

    `setup` never changes: title, keys, orders, the side of a thumbnail in pixels. `now` changes
    with each decision: `view` (the number of the arrangement), `count` (its tiles), `cursor` (a
    place in it), `changes` (item → what stands), `progress`, `share` (decided, 0 to 1), `note`,
    `arranged`, `time` (a counter), `answer` (the id of the message that led to it) and `error`.
    Tiles, photos and classes go as messages, so that nothing heavy stays in the widget's state.
    """

    _esm = Path(__file__).with_name("gallery.js")
    _css = Path(__file__).with_name("gallery.css")

    setup = traitlets.Dict().tag(sync=True)
    now = traitlets.Dict().tag(sync=True)


class Gallery:
    """Candidates, decided by key or mouse; each decision is in the journal before it is shown.

    Args:
        candidates: as `review.check_candidates` wants them: item, image, caption; optional label,
            suggestions, full, shown.
        journal: where decisions go, and where earlier ones are read.
        choices: key → decision, such as `{"k": "keep", "d": "drop"}`. Where candidates have
            suggestions or `classes` are given, `relabel` is a decision too: keys 1 to 5 take a
            suggestion, `/` searches a class.
        title: what is decided here.
        reviewer: who decides; by default `FGVC_REVIEWER` or the name of the user.
        classes: the classes that can be searched, thousands if need be.
        exemplars: class → paths of images that surely show it, shown beside a candidate.
        sorts: name → numeric column of the candidates, further orders.
        asked: so many candidates, from the first on, are asked for; all by default.
        summary: what the decisions so far (item → decision) say, in a line under the gallery.
        thumbnail_side: the longer side of a thumbnail, in pixels.
        folders: photos are read from these folders alone, symbolic links followed; one that lies
            elsewhere, whatever a listing says, is shown as a placeholder. By default any.

    Raises ValueError where a column is missing or holds values it cannot, or a key cannot be used.
    Photos are read when they come into sight, so a gallery costs little where nobody looks at it.
    """

    def __init__(
        self,
        candidates: pd.DataFrame,
        journal: Journal,
        choices: Mapping[str, str],
        *,
        title: str,
        reviewer: str | None = None,
        classes: Sequence[str] = (),
        exemplars: Mapping[str, Sequence[str | Path]] | None = None,
        sorts: Mapping[str, str] | None = None,
        asked: int | None = None,
        summary: Callable[[dict[str, str]], str] | None = None,
        thumbnail_side: int = 128,
        folders: Sequence[Path] | None = None,
    ):
        _check_choices(choices)
        self.title = title
        self._choices = dict(choices)
        self.review = Review(
            candidates,
            journal,
            [*choices.values(), RELABEL],
            reviewer=reviewer,
            classes=classes,
            sorts=sorts,
            asked=asked,
        )
        self._candidates = self.review.candidates
        self._rows = is_rows(self._candidates)
        self._suggests = bool((self._candidates["suggested"] != "").any())
        if not (self._suggests or classes or RELABEL in choices.values()):
            self.review.choices.remove(RELABEL)
        self._exemplars = exemplars or {}
        self._summary = summary
        self._side = thumbnail_side
        self._photos = Thumbnails(folders=folders)
        # JupyterLab may hand messages over on another thread while a cell runs.
        self._lock = RLock()
        self._arranged = {"sort": ORDER, "descending": False, "show": EVERYTHING, "text": ""}
        self._places = self.review.arranged()
        self._view = 0
        self._time = 0
        self._cursor = self.review.next_undecided(self._places, 0)
        self._grid: Grid | None = None
        self._fallback: DisplayHandle | None = None

    def decide(
        self, items: str | Sequence[str], decision: str, label: str = "", suggestion: int = 0
    ) -> None:
        """Write decisions to the journal, then show them and move to the next undecided item.

        `relabel` takes the class `label`, or each item's suggestion of that number, from 1.

        Raises ValueError where an item is not in this gallery, the decision is not among its
        choices, the class is unknown or there is no suggestion; OSError where the journal cannot
        be written. Then nothing was decided.
        """
        wanted = [items] if isinstance(items, str) else list(items)
        unknown = [item for item in wanted if item not in self.review.position]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not among the {len(self._candidates)} candidates")
        with self._lock:
            places = [self.review.position[item] for item in wanted]
            self._decide(places, decision, label, suggestion)
            self._show()

    def undo(self) -> None:
        """Take back the latest action of this gallery and move to its first item.

        What was said before it stands again. Raises ValueError where nothing was decided since the
        gallery was made: earlier decisions are changed by deciding anew.
        """
        with self._lock:
            self._move_to(self.review.undo())
            self._show()

    def redo(self) -> None:
        """Decide again what was last taken back. Raises ValueError where nothing was."""
        with self._lock:
            self._move_to(self.review.redo())
            self._show()

    def arrange(
        self, sort: str = ORDER, descending: bool = False, show: str = EVERYTHING, text: str = ""
    ) -> None:
        """Sort the candidates and narrow them; see `Review.arranged`, which says what raises."""
        with self._lock:
            self._arrange(sort, descending, show, text)
            self._show()

    @property
    def selected(self) -> str | None:
        """The item that the next key decides when no other was chosen in the browser."""
        return self.review.items[self._places[self._cursor]] if self._places else None

    @property
    def decisions(self) -> dict[str, str]:
        """Item → decision that stands, for the candidates that have one."""
        standing = {item: self.review.standing(n) for n, item in enumerate(self.review.items)}
        return {item: one.decision for item, one in standing.items() if one.decision}

    @property
    def progress(self) -> str:
        """How far it has come, such as `decided 12 of 83`."""
        return self.review.progress

    @property
    def grid(self) -> Grid:
        """The widget; made when first asked for."""
        if self._grid is None:
            self._build()
        return self._grid

    def require(self, wanted: bool) -> None:
        """Where a review is wanted, raise RuntimeError if it is not done; else do nothing.

        Done it is when somebody has decided on each candidate that is asked for.
        """
        self.review.changes()
        if wanted and self.review.left:
            raise RuntimeError(
                f"{self.title} {self.review.left} of {self.review.asked} candidates wait for a "
                "look and `require_review` is on: decide them in this notebook in JupyterLab "
                f"(the journal is {self.review.journal.path}), or set require_review: false"
            )

    def __repr__(self) -> str:
        cut = len(self.review.journal.cut_lines())
        ignored = f" {cut} cut lines of {self.review.journal.path} were ignored." if cut else ""
        count = len(self._candidates)
        if not count:
            return f"{self.title}: no candidates, so there is nothing to decide.{ignored}"
        return (
            f"{self.title}: {count} candidates, {self.review.decided} of them decided. "
            f"To decide, open this notebook in JupyterLab and run this cell.{ignored}"
        )

    def sheet(self) -> Any:
        """What would be shown, as a contact sheet (see `sheets`), with the decisions so far."""
        return contact_sheet(
            self._candidates,
            title=self.title,
            limit=SHEET_ROWS if self._rows else SHEET_LIMIT,
            journal=self.review.journal,
        )

    def _ipython_display_(self) -> None:
        # Where no browser is there to draw the widget (papermill, a printed notebook, nbviewer)
        # the sheet and this line are what stays; a browser that drew it says so and they go.
        shown = {"text/plain": repr(self)}
        if len(self._candidates):
            shown["image/png"] = self.sheet()._repr_png_()
        self._fallback = display(shown, raw=True, display_id=True)
        if len(self._candidates):
            display(self.grid)

    def _build(self) -> None:
        review = self.review
        self._grid = Grid(
            setup={
                "title": self.title,
                "side": self._side,
                "rows": self._rows,
                "choices": [
                    {"key": key, "decision": decision, "colour": decision_colour(decision)}
                    for key, decision in self._choices.items()
                ],
                "relabel_colour": decision_colour(RELABEL),
                "suggests": self._suggests,
                "searches": len(review.classes),
                "panel": bool(self._exemplars) or self._suggests,
                "sorts": review.sorts,
                "shows": review.shows,
            }
        )
        self._grid.on_msg(self._receive)
        self._show()

    def _decide(self, places: list[int], decision: str, label: str, suggestion: int) -> None:
        self.review.decide(places, decision, label, suggestion)
        seen = {place: number for number, place in enumerate(self._places)}
        last = max((seen[place] for place in places if place in seen), default=self._cursor)
        self._cursor = self.review.next_undecided(self._places, last)

    def _arrange(self, sort: str, descending: bool, show: str, text: str) -> None:
        self._places = self.review.arranged(sort, descending, show, text)
        self._arranged = {"sort": sort, "descending": descending, "show": show, "text": text}
        self._view += 1
        self._cursor = self.review.next_undecided(self._places, 0)

    def _move_to(self, places: list[int]) -> None:
        if places[0] in self._places:
            self._cursor = self._places.index(places[0])

    def _show(self, answer: str = "", error: str = "") -> None:
        if self._grid is None:
            return
        review = self.review
        self._time += 1
        changed: list[int] = []
        try:
            changed = review.changes()
        except (ValueError, OSError) as problem:
            # A journal that cannot be read any more is told; what stood is still shown.
            error = error or str(problem)
        self._grid.now = {
            "view": self._view,
            "count": len(self._places),
            "cursor": self._cursor,
            "changes": {review.items[place]: self._standing(place) for place in changed},
            "arranged": self._arranged,
            "progress": review.progress,
            "share": min(review.decided / max(review.asked, 1), 1.0),
            "note": self._summary(self.decisions) if self._summary else "",
            "time": self._time,
            "answer": answer,
            "error": error,
        }

    def _standing(self, place: int) -> dict[str, str]:
        decision, label, disputed = self.review.standing(place)
        return {"decision": decision, "label": label, "disputed": disputed}

    def _receive(self, _: Any, content: Any, __: Any) -> None:
        """Do what the browser asks for; what goes wrong is shown there and changes nothing."""
        with self._lock:
            try:
                message = messages.read_message(content)
            except ValueError as problem:
                self._show(messages.id_of(content), str(problem))
                return
            if isinstance(message, messages.Drawn):
                if self._fallback is not None:
                    self._fallback.update({"text/plain": ""}, raw=True)
            elif hasattr(message, "ask"):
                getattr(self, f"_send_{message.type}")(message)
            else:
                self._act(message)

    def _act(self, message: Any) -> None:
        """Carry an action out and answer it, also where it fails."""
        error = ""
        # Held back so that the browser sees the outcome once, with the answer it waits for.
        with self._grid.hold_sync():
            try:
                self._carry_out(message)
            except (ValueError, OSError) as problem:
                error = str(problem)
                self._cursor = min(message.cursor, max(len(self._places) - 1, 0))
            self._show(message.id, error)

    def _carry_out(self, message: Any) -> None:
        if isinstance(message, messages.Decide):
            more = message.label, message.suggestion
            self._decide(self._chosen(message), message.decision, *more)
        elif message.type in ("undo", "redo"):
            self._move_to(getattr(self.review, message.type)())
        elif isinstance(message, messages.Seek):
            self._cursor = self.review.next_undecided(self._places, message.cursor)
        else:
            self._arrange(message.sort, message.descending, message.show, message.text)

    def _chosen(self, message: messages.Decide) -> list[int]:
        """Positions of what the browser means; it names places in the arrangement it saw."""
        if message.view != self._view:
            raise ValueError("the order has changed meanwhile; nothing was decided")
        if not all(number < len(self._places) for number in message.places):
            raise ValueError("there is no such candidate; nothing was decided")
        return [self._places[number] for number in dict.fromkeys(message.places)]

    # What the browser asks for and only shows.

    def _send_tiles(self, message: messages.Tiles) -> None:
        if message.view != self._view:
            return
        begin = message.begin
        places = self._places[begin : min(message.end, begin + TILES_A_MESSAGE)]
        tiles, jpegs = [], []
        for place in places:
            row = self._candidates.iloc[place]
            paths = row["image"][:IMAGES_A_ROW] if self._rows else [row["image"]]
            images = self._add_photos(jpegs, paths, self._side)
            more = len(row["image"]) - len(paths) if self._rows else 0
            tile = {name: row[name] for name in ("item", "caption", "suggested")}
            tiles.append(tile | {"images": images, "more": more, "now": self._standing(place)})
        self._send("tiles", message, jpegs, view=self._view, begin=begin, tiles=tiles)

    def _send_look(self, message: messages.Look) -> None:
        """A candidate beside what it should look like: its class and its suggestions."""
        row = self._row(message)
        if row is None:
            return
        jpegs: list[bytes] = []
        images = self._add_photos(jpegs, [row["image"]], LOOK_SIDE) if not self._rows else []
        given = self._add_class(jpegs, row["label"], EXEMPLARS, row["image"])
        suggestions = [
            self._add_class(jpegs, name, EXEMPLARS_OF_A_SUGGESTION, row["image"])
            | {"score": None if score != score else float(score)}
            for name, score in row["suggestions"][: len(SUGGESTION_KEYS)]
        ]
        told = {"item": row["item"], "caption": row["caption"]}
        told |= {"images": images, "given": given, "suggestions": suggestions}
        self._send("look", message, jpegs, **told)

    def _send_zoom(self, message: messages.Zoom) -> None:
        """The full picture of a candidate, or all pictures of a row."""
        row = self._row(message)
        if row is None:
            return
        jpegs: list[bytes] = []
        if self._rows:
            images = self._add_photos(jpegs, row["image"][:ZOOM_ROW_IMAGES], ZOOM_ROW_SIDE)
        else:
            images = self._add_photos(jpegs, [row["full"]], ZOOM_SIDE)
            if not jpegs[0]:
                jpegs.clear()
                images = self._add_photos(jpegs, [row["image"]], ZOOM_SIDE)
        told = {"item": row["item"], "caption": row["caption"], "images": images}
        self._send("zoom", message, jpegs, **told)

    def _send_search(self, message: messages.Search) -> None:
        jpegs: list[bytes] = []
        names = self.review.search(message.text)
        # Photos of a few are what tells look-alike names apart; of all they would be too slow.
        found = [
            self._add_class(jpegs, name, EXEMPLARS_OF_A_SUGGESTION if number < 8 else 0, "")
            for number, name in enumerate(names)
        ]
        self._send("search", message, jpegs, found=found)

    def _row(self, message: messages.Look | messages.Zoom) -> pd.Series | None:
        if message.view != self._view or message.place >= len(self._places):
            return None
        return self._candidates.iloc[self._places[message.place]]

    def _add_class(self, jpegs: list[bytes], name: str, count: int, but: Any) -> dict[str, Any]:
        """A class's exemplars, the candidate itself left out."""
        paths = [path for path in self._exemplars.get(name, ()) if path != but][:count]
        return {"label": name, "images": self._add_photos(jpegs, paths, self._side)}

    def _add_photos(
        self, jpegs: list[bytes], paths: Sequence[str | Path], side: int
    ) -> list[dict[str, str]]:
        """Add photos to a message; returns their file names and what is wrong with them."""
        images = []
        for path in paths:
            jpeg, problem = self._photos.jpeg(path, side)
            jpegs.append(jpeg)
            images.append({"name": Path(path).name, "problem": problem})
        return images

    def _send(self, kind: str, message: Any, jpegs: list[bytes], **content: Any) -> None:
        """Send JPEGs one after another in one buffer, with the sizes that take them apart."""
        sizes = [len(jpeg) for jpeg in jpegs]
        told = {"type": kind, "ask": message.ask, "sizes": sizes, **content}
        self._grid.send(told, buffers=[b"".join(jpegs)])


def _check_choices(choices: Mapping[str, str]) -> None:
    if not choices:
        raise ValueError('choices is empty; give key → decision, such as {"k": "keep"}')
    for key, decision in choices.items():
        if not (isinstance(key, str) and len(key) == 1 and key.isprintable() and key.strip()):
            raise ValueError(f"choices: {key!r} is not a single character to press")
        if key != key.lower():
            raise ValueError(f"choices: use {key.lower()!r} in place of {key!r}")
        if key in TAKEN_KEYS:
            raise ValueError(f"choices: the key {key!r} is taken by {TAKEN_KEYS[key]}")
        if not isinstance(decision, str) or not decision.strip() or decision == UNDO:
            raise ValueError(f"choices: {decision!r} cannot be a decision")
