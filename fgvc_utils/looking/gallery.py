"""The gallery: one grid of photos in JupyterLab on which a person decides, a view over a journal.

The browser holds what is in sight and little more: it asks for tiles as it scrolls. What is
decided, in which order candidates are shown and what a key decides is settled here and in `review`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

import anywidget
import pandas as pd
import traitlets
from IPython import get_ipython
from IPython.display import DisplayHandle, display

from fgvc_utils.contest.following import Copies
from fgvc_utils.contest.journal import UNDO, Journal
from fgvc_utils.looking import gallery_messages as messages
from fgvc_utils.looking.candidates import is_rows, under_photo
from fgvc_utils.looking.class_names import name_of
from fgvc_utils.looking.gallery_answers import SUGGESTIONS, Answers
from fgvc_utils.looking.likes import Likes
from fgvc_utils.looking.review import DISPUTED, DISPUTES, EVERYTHING, ORDER, RELABEL, Review
from fgvc_utils.looking.sheets import contact_sheet, decision_colour
from fgvc_utils.looking.thumbnails import Thumbnails

# Keys with a meaning of their own; `bindings` in gallery.js says what they do.
TAKEN_KEYS = {"u": "undo", "/": "search", "z": "zoom", "?": "the list of keys"}
TAKEN_KEYS |= {str(number): "suggest" for number in range(1, SUGGESTIONS + 1)}
LIKE_KEY = "a"
SHEET_LIMIT, SHEET_ROWS = 60, 20
SCRIPTS = [
    f"gallery_{part}" for part in ("parts", "keys", "order", "mouse", "panel", "overlays", "likes")
]
SCRIPTS.append("gallery")


class Offer(NamedTuple):
    """A decision whose like cases may be decided alike, and those that were shown for it."""

    number: int
    item: str
    decision: str
    label: str
    shown: tuple[str, ...] = ()

    def content(self) -> dict[str, Any]:
        """What the browser is told of it; empty where nothing is offered."""
        if not self.number:
            return {}
        return {"id": self.number, "decision": self.decision, "label": name_of(self.label)}


NO_OFFER = Offer(0, "", "", "")


class Grid(anywidget.AnyWidget):
    """The gallery in the browser: it draws what the kernel sends and sends what is pressed.

    `setup` never changes: title, keys, orders, the side of a thumbnail in pixels. `now` changes
    with each decision: `view` (the number of the arrangement), `count` (its tiles), `cursor` (a
    place in it), `changes` (item → its decision), `progress`, `share` (decided, 0 to 1), `note`,
    `arranged`, `offer` (the decision whose like cases can be asked for), `time` (a counter),
    `answer` (the id of the message that led to it) and `error`.
    Tiles, photos and classes go as messages, so that nothing heavy stays in the widget's state.

    `reading` is the state as one sentence, for whatever cannot draw a widget.
    """

    # One module, as the browser gets a widget's code in one piece.
    _esm = "\n".join(Path(__file__).with_name(f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    _css = Path(__file__).with_name("gallery.css")

    setup = traitlets.Dict().tag(sync=True)
    now = traitlets.Dict().tag(sync=True)
    reading: Callable[[], str] | None = None

    def __repr__(self) -> str:
        return self.reading() if self.reading else "A gallery; open it in JupyterLab."


class Gallery:
    """Candidates, decided by key or mouse; each decision is in the journal before it is shown.

    As the last line of a cell it shows itself: the gallery in JupyterLab, a contact sheet where a
    notebook is executed without anybody there. Photos are read when they come into sight, so a
    gallery that nobody opens costs little.

    Parameters
    ----------
    candidates
        As `candidates.check_candidates` wants them: item, image, caption; optional label,
        suggestions, full, shown.
    journal
        Where decisions are written, and where earlier ones are read.
    choices
        Key → decision, such as `{"k": "keep", "d": "drop"}`. Where candidates have suggestions or
        `classes` are given, `relabel` is a decision too: keys 1 to 5 take a suggestion, `/`
        searches a class.
    title
        What is decided here.
    reviewer
        Who decides; by default `FGVC_REVIEWER` or the name of the user.
    classes
        The classes that can be searched, thousands if need be.
    exemplars
        Class → paths of images that surely show it, shown beside a candidate.
    sorts
        Name → numeric column of the candidates: further orders.
    asked
        So many candidates, from the first on, are to be decided; all by default.
    summary
        Makes the line under the gallery from the decisions so far (item → decision).
    thumbnail_side
        The longer side of a thumbnail, in pixels.
    copies
        The images whose copies a decision counts for too; none by default.
    likes
        Finds like cases: after a decision on one image the nearest undecided ones of its kind are
        shown, to be decided alike by key `a` or a click. None by default.
    folders
        Photos are read from these folders alone, symbolic links followed; one that lies elsewhere,
        whatever a listing says, is shown as a placeholder. By default from anywhere.

    Raises
    ------
    ValueError
        A column is missing or holds wrong values, or a key cannot be used.
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
        copies: Copies | None = None,
        likes: Likes | None = None,
        folders: Sequence[Path] | None = None,
    ):
        _check_choices(choices)
        if likes and LIKE_KEY in choices:
            raise ValueError(f"choices: the key {LIKE_KEY!r} is taken by like cases")
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
            copies=copies,
        )
        self._candidates = self.review.candidates
        self._rows = is_rows(self._candidates)
        self._suggests = bool((self._candidates["suggested"] != "").any())
        if not (self._suggests or classes or RELABEL in choices.values()):
            self.review.choices.remove(RELABEL)
        self._summary = summary
        self._side = thumbnail_side
        self._likes = likes
        self._offer = NO_OFFER
        self._panel = bool(exemplars) or self._suggests
        photos = Thumbnails(folders=folders)
        self._answers = Answers(self.review, photos, exemplars or {}, thumbnail_side)
        # JupyterLab may hand messages over on another thread while a cell runs.
        self._lock = RLock()
        # Disputes wait for a third person.
        places = range(len(self.review.items))
        sort = DISPUTES if any(map(self.review.can_settle, places)) else ORDER
        self._view = 0
        self._time = 0
        self._arrange(sort, False, EVERYTHING, "")
        self._grid: Grid | None = None
        self._fallback: DisplayHandle | None = None

    @property
    def decisions(self) -> dict[str, str]:
        """Item → decision in force, for the candidates that have one."""
        standing = {item: self.review.standing(n) for n, item in enumerate(self.review.items)}
        return {item: one.decision for item, one in standing.items() if one.decision}

    @property
    def grid(self) -> Grid:
        """The widget; made when first asked for."""
        if self._grid is None:
            self._build()
        return self._grid

    def require(self, wanted: bool) -> None:
        """Stop the notebook where a review is wanted and is not done.

        It is done when somebody has decided on each candidate that is asked for.

        Raises
        ------
        RuntimeError
            `wanted`, and candidates are left.
        """
        self.review.changes()
        if wanted and self.review.left:
            raise RuntimeError(
                f"{self.title} {self.review.left} of {self.review.asked} candidates are not "
                "decided yet and `require_review` is on: decide them in this notebook in "
                f"JupyterLab (the journal is {self.review.journal.path}), or set "
                "require_review: false"
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
        """The candidates as a contact sheet (see `sheets`), with the decisions so far."""
        return contact_sheet(
            self._candidates,
            title=self.title,
            limit=SHEET_ROWS if self._rows else SHEET_LIMIT,
            journal=self.review.journal,
        )

    def _ipython_display_(self) -> None:
        # The sheet and the sentence are what is seen where nothing draws the widget (an executed
        # copy, a printed notebook, nbviewer). A browser that drew it says so, and they go.
        shown = {"text/plain": repr(self)}
        if len(self._candidates):
            shown["image/png"] = self.sheet()._repr_png_()
        self._fallback = display(shown, raw=True, display_id=True)
        if len(self._candidates) and _somebody_is_there():
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
                "panel": self._panel,
                "likes": self._likes is not None,
                "lines": self._lines(),
                "sorts": review.sorts,
                "shows": review.shows,
            }
        )
        self._grid.reading = self.__repr__
        self._grid.on_msg(self._receive)
        self._show()

    def _lines(self) -> int:
        """Lines of text under a tile; those of a row of photos are side by side."""
        if self._rows:
            return 1
        columns = (self._candidates[name] for name in ("caption", "label", "suggestions"))
        texts = [under_photo(*row) for row in zip(*columns, strict=True)]
        return sum(map(any, zip(*texts, strict=True)))

    def _decide(self, places: list[int], decision: str, label: str, suggestion: int) -> None:
        self.review.decide(places, decision, label, suggestion)
        seen = {place: number for number, place in enumerate(self._places)}
        last = max((seen[place] for place in places if place in seen), default=self._cursor)
        self._cursor = self._next(last)

    def _arrange(self, sort: str, descending: bool, show: str, text: str) -> None:
        self._places = self.review.arranged(sort, descending, show, text)
        self._arranged = {"sort": sort, "descending": descending, "show": show, "text": text}
        self._view += 1
        self._cursor = self._next(0)

    def _next(self, start: int) -> int:
        """The next place to decide on: where disputes are shown, those that others have too."""
        disputes = self._arranged["sort"] == DISPUTES or self._arranged["show"] == DISPUTED
        return self.review.next_undecided(self._places, start, disputes)

    def _move_to(self, places: list[int]) -> None:
        if places[0] in self._places:
            self._cursor = self._places.index(places[0])

    def _show(self, answer: str = "", error: str = "") -> None:
        review = self.review
        self._time += 1
        changed: list[int] = []
        try:
            changed = review.changes()
        except (ValueError, OSError) as problem:
            # Where the journal cannot be read any more, earlier decisions are still shown.
            error = error or str(problem)
        self._grid.now = {
            "view": self._view,
            "count": len(self._places),
            "cursor": self._cursor,
            "changes": {review.items[place]: self._standing(place) for place in changed},
            "arranged": self._arranged,
            "offer": self._offer.content(),
            "progress": review.progress,
            "share": min(review.decided / max(review.asked, 1), 1.0),
            "note": self._summary(self.decisions) if self._summary else "",
            "time": self._time,
            "answer": answer,
            "error": error,
        }

    def _standing(self, place: int) -> dict[str, str]:
        return self.review.shown_standing(place)._asdict()

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
                self._answer(message)
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
        elif isinstance(message, messages.Alike):
            self.review.decide(self._ticked(message), self._offer.decision, self._offer.label)
            self._cursor = self._next(message.cursor)
        elif message.type in ("undo", "redo"):
            self._move_to(getattr(self.review, message.type)())
        elif isinstance(message, messages.Seek):
            self._cursor = self._next(message.cursor)
        else:
            self._arrange(message.sort, message.descending, message.show, message.text)
        if message.type != "seek":
            self._offer = self._new_offer(message)

    def _chosen(self, message: messages.Decide) -> list[int]:
        """Positions of what the browser means; it names places in the arrangement it saw."""
        if message.view != self._view:
            raise ValueError("the order has changed meanwhile; nothing was decided")
        if not all(number < len(self._places) for number in message.places):
            raise ValueError("there is no such candidate; nothing was decided")
        return [self._places[number] for number in dict.fromkeys(message.places)]

    def _new_offer(self, message: Any) -> Offer:
        """What may be decided alike after an action: a decision on one image."""
        made = self.review.made if isinstance(message, messages.Decide) else []
        if self._likes is None or len(made) != 1:
            return NO_OFFER
        return Offer(self._time + 1, made[0].item, made[0].decision, made[0].label)

    def _like_cases(self, number: int) -> list[int]:
        """Positions of what is offered; nothing where something else was decided meanwhile."""
        if number != self._offer.number or self._offer == NO_OFFER:
            return []
        place = self.review.position[self._offer.item]
        found = self._likes.nearest(self._offer.item, self.review.like(place))
        self._offer = self._offer._replace(shown=tuple(found))
        return [self.review.position[item] for item in found]

    def _ticked(self, message: messages.Alike) -> list[int]:
        """Positions of the like cases that were ticked, but for those decided on meanwhile."""
        shown = self._offer.shown if message.offer == self._offer.number else ()
        if not set(message.items) <= set(shown):
            raise ValueError("these like cases are no longer offered; nothing was decided")
        self.review.refresh()
        places = [self.review.position[item] for item in dict.fromkeys(message.items)]
        places = [place for place in places if not self.review.is_decided(place)]
        if not places:
            raise ValueError("somebody has decided on these meanwhile; nothing was decided")
        return places

    def _answer(self, message: Any) -> None:
        """Send what the browser asks for, unless the order has changed meanwhile.

        JPEGs go one after another in one buffer, with the sizes that take them apart.
        """
        in_places = not isinstance(message, messages.Search | messages.LikeCases)
        if in_places and message.view != self._view:
            return
        places = self._places
        if isinstance(message, messages.LikeCases):
            places = self._like_cases(message.offer)
        answer = self._answers.to(message, places)
        if answer is not None:
            content, jpegs = answer
            sizes = [len(jpeg) for jpeg in jpegs]
            content = {"type": message.type, "ask": message.ask, "sizes": sizes, **content}
            self._grid.send(content, buffers=[b"".join(jpegs)])


def _somebody_is_there() -> bool:
    """Whether a person may be at the screen: papermill and nbconvert say that nobody can be asked.

    They do so with each cell they execute; the kernel keeps it for its `input`.
    """
    return getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", True)


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
