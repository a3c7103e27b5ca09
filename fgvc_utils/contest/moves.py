"""What decisions that were made before mean now, where a run's images came, went or changed.

What `noticing` found of the images lies in `moves.csv` of the run. A decision is about a picture
under a label: where a file holds another picture since, the decision no longer counts; where it
only has another name, it follows; where the image came under another label since, it means what it
meant of the picture.
"""

import functools
import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fgvc_utils.contest.decision import (
    COPY_OF,
    PAIR,
    PART,
    UNDO,
    Decision,
    followed_from,
    of_copy,
    part_shown,
)
from fgvc_utils.core.reading import read_csv
from fgvc_utils.core.spreadsheet import unescaped

FILE = "moves.csv"
COLUMNS = ["time", "what", "image_id", "path", "before", "now"]
CAME, WENT, REPLACED, REWRITTEN = "came", "went", "replaced", "rewritten"
RENAMED, RELABELLED = "renamed", "relabelled"
CLASS_CAME, CLASS_WENT, CLASS_RENAMED = "class came", "class went", "class renamed"
# Journals whose items are classes.
CLASS_JOURNALS = ("04_lowq", "04_classes")
OTHER_PICTURE = "its file holds another picture since"
OTHER_LABEL = "it came under another label since, and may have been dropped for the one before"


class Event(NamedTuple):
    """A picture that was replaced (`before` and `now` are digests) or renamed (they are ids)."""

    time: str
    what: str
    before: str
    now: str


class Moves:
    """What became of a run's images, in the order in which it was noticed.

    Parameters
    ----------
    noticed
        Columns `COLUMNS`, all text; none by default.
    """

    def __init__(self, noticed: pd.DataFrame | None = None):
        rows = [] if noticed is None else noticed[COLUMNS].to_numpy().tolist()
        self._pictures: dict[str, list[Event]] = {}
        self._labels: dict[str, list[tuple[str, str, str]]] = {}
        self._classes: list[tuple[str, str, str]] = []
        self._new: list[str] = []
        gone: dict[str, str] = {}
        for time, what, image, _, before, now in rows:
            if what == WENT:
                gone[image] = before
            elif what == CAME and gone.get(image) and gone[image] != now:
                # It left, and another picture came under its name.
                self._add(image, Event(time, REPLACED, gone[image], now))
            if what in (REPLACED, RENAMED):
                of = before if what == RENAMED else image
                self._add(of, Event(time, what, before, now))
            elif what == RELABELLED:
                self._labels.setdefault(image, []).append((time, before, now))
            elif what == CLASS_RENAMED:
                self._classes.append((time, before, now))
            if what in (CAME, REPLACED):
                self._new.append(image)

    def _add(self, image: str, event: Event) -> None:
        self._pictures.setdefault(image, []).append(event)

    def __bool__(self) -> bool:
        return bool(self._pictures or self._labels or self._classes)

    @property
    def new(self) -> list[str]:
        """The images that came, or hold another picture, since the first run; each once."""
        return list(dict.fromkeys(self._new))

    def known_as(self, image: str, time: str) -> str:
        """What an image that was decided on at a time is called now.

        Parameters
        ----------
        image
            Its id then.
        time
            As a journal writes it. What is noticed in the same second comes after.

        Returns
        -------
        str
            Its id; where its file holds another picture since, the id it had last, a line feed and
            a number, which is no image's id. Where the picture came back, all is as it was.
        """
        return self._walk(image, time)[0]

    def meant(self, image: str, time: str, answer: tuple[str, str]) -> tuple[str, str] | None:
        """What a decision on an image means under the label that the image has now.

        Parameters
        ----------
        image, time
            As for `known_as`.
        answer
            The decision, and its label or an empty text.

        Returns
        -------
        tuple of str or None
            The same form; None where nothing follows from it under another label.
        """
        decision, label = answer
        label = self.class_now(label, time)
        labels = self._walk(image, time)[1]
        if not labels:
            return decision, label
        before, now = self.class_now(labels[0][1], time), labels[-1][2]
        if before == now:
            return decision, label
        return of_copy(Decision(image, decision, label), before, now)

    def _walk(self, image: str, time: str) -> tuple[str, list[tuple[str, str, str]]]:
        """What an image is called now, and how its label changed on the way."""
        labels: list[tuple[str, str, str]] = []
        since, begun = time, False
        while True:
            events = self._pictures.get(image, [])
            # The first one after a decision may be of the same second, others come after the last.
            following = [
                n
                for n, each in enumerate(events)
                if each.time > since or (each.time == since and not begun)
            ]
            first = events[following[0]] if following else None
            for each in self._labels.get(image, []):
                if each[0] >= since and (first is None or each[0] < first.time):
                    labels += [each] if each not in labels else []
            if first is None:
                return image, labels
            if first.what == RENAMED:
                image = first.now
            else:
                back = [n for n in following[1:] if events[n].now == first.before]
                if not back or events[back[0]].what != REPLACED:
                    return f"{image}\n{following[0]}", labels
                first = events[back[0]]
            since, begun = first.time, True

    def class_now(self, name: str, time: str) -> str:
        """What a class that was named at a time is called now."""
        for when, before, now in self._classes:
            if when >= time and name == before:
                name = now
        return name


def of_run(folder: Path) -> Moves:
    """What became of the images of a run; nothing where nothing is noted.

    Parameters
    ----------
    folder
        The run's.

    Raises
    ------
    ValueError
        The file has other columns, or cannot be read.
    """
    path = folder / FILE
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return NOTHING
    return _read_moves(path, changed)


@functools.lru_cache(maxsize=8)
def _read_moves(path: Path, changed: int) -> Moves:
    return Moves(rows_of(path))


NOTHING = Moves()


def rows_of(path: Path) -> pd.DataFrame:
    """What is noted in a file of moves, `COLUMNS`, all text; empty where there is no file.

    Raises
    ------
    ValueError
        Its first line is another one.
    """
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS, dtype=object)
    found = read_csv(path)
    if list(found) != COLUMNS:
        raise ValueError(
            f"{path}: its first line must be {','.join(COLUMNS)}; move the file away, or bring it "
            "back as it was: it says which decisions are about earlier pictures"
        )
    return found.map(unescaped)


def brought_up_to_date(
    rows: list[list[str]], moves: Moves, of_classes: bool = False
) -> list[list[str]]:
    """The lines of a journal under the ids and names of today.

    Parameters
    ----------
    rows
        Lists of a journal's columns.
    moves
        What became of the images.
    of_classes
        Whether the journal is about classes, not images.

    Returns
    -------
    list of list of str
        As many rows. In a journal about images `item` is as from `Moves.known_as`, and a decision
        is empty where nothing follows from it any more.
    """
    if not moves:
        return rows
    bring = _on_class if of_classes else _on_image
    return [bring(moves, *row) for row in rows]


def _on_image(
    moves: Moves, item: str, decision: str, label: str, who: str, time: str, shown: str
) -> list[str]:
    if source := followed_from(shown):
        shown = COPY_OF + moves.known_as(source, time)
    now = (decision, label)
    if decision != UNDO:
        now = moves.meant(item, time, now) or ("", "")
    return [moves.known_as(item, time), *now, who, time, shown]


def _on_class(
    moves: Moves, item: str, decision: str, label: str, who: str, time: str, shown: str
) -> list[str]:
    try:
        named = json.loads(item)
    except ValueError:
        named = None
    if isinstance(named, list) and len(named) == 3 and named[0] in (PAIR, PART):
        kind, name, other = named
        if kind == PAIR:
            other = moves.class_now(other, time)
        else:
            known = [moves.known_as(image, time) for image in (other, *part_shown(shown))]
            other = next((image for image in known if "\n" not in image), known[0])
        item = json.dumps([kind, moves.class_now(name, time), other], ensure_ascii=False)
    else:
        item = moves.class_now(item, time)
    return [item, decision, moves.class_now(label, time), who, time, shown]
