"""A reviewer's work on a list of candidates, without a screen: order, decisions, undo, progress.

`check_candidates` says what a list of candidates is. A `Review` is a view over a journal: nothing
is decided before its line is on the disk, and what others decide meanwhile is taken up.
"""

import time
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from fgvc_utils.contest.journal import UNDO, Decision, Journal, majority, reviewer_name

RELABEL = "relabel"
UNSURE = "unsure"
# So many letters fit under the smallest photo: two scores must never be cut.
WIDEST_SCORES = 15
ORDER, CLASS = "order", "class"
EVERYTHING, UNDECIDED, DECIDED = "all", "undecided", "decided"
DISPUTED, NOT_MINE = "disputed", "not yet by me"
# A gap longer than this is a pause.
PAUSE_SECONDS = 60
DECISIONS_FOR_A_RATE = 5


class Standing(NamedTuple):
    """The decision that is shown for an item, or empty strings.

    `disputed` lists every reviewer's decision where they differ, else it is empty.
    """

    decision: str = ""
    label: str = ""
    disputed: str = ""


class Review:
    """Candidates, and one reviewer's decisions on them, each of which is in the journal first.

    The methods name items by their position in `candidates`.

    Parameters
    ----------
    candidates
        As `check_candidates` wants them.
    journal
        Where decisions are written, and where earlier ones are read.
    choices
        The decisions that can be made.
    reviewer
        Who decides; by default `journal.reviewer_name()`.
    classes
        The classes that an image may be given; where none are named, any suggestion is accepted.
    sorts
        Name → numeric column: orders besides the given one and the one by class.
    asked
        So many candidates, from the first on, are to be decided; the others are optional.

    Raises
    ------
    ValueError
        A column or a value is wrong.
    """

    def __init__(
        self,
        candidates: pd.DataFrame,
        journal: Journal,
        choices: Sequence[str],
        *,
        reviewer: str | None = None,
        classes: Sequence[str] = (),
        sorts: Mapping[str, str] | None = None,
        asked: int | None = None,
    ):
        self.candidates = check_candidates(candidates)
        self.journal = journal
        self.choices = list(choices)
        self.reviewer = reviewer_name() if reviewer is None else reviewer
        self.classes = list(classes)
        self._known_classes = set(self.classes)
        self._folded = [_folded(name) for name in self.classes]
        self._sorts = _checked_sorts(self.candidates, sorts or {})
        self.items: list[str] = self.candidates["item"].tolist()
        self.position = {item: place for place, item in enumerate(self.items)}
        self.asked = len(self.items) if asked is None else min(asked, len(self.items))
        self._made: list[tuple[float, int]] = []
        self._done: list[list[Decision]] = []
        self._undone: list[list[Decision]] = []
        self._voices: dict[str, dict[str, tuple[str, str]]] = {}
        self._size = -1
        self._changed: set[int] = set()
        self.changes()

    # Decisions so far.

    def changes(self) -> list[int]:
        """Positions whose decisions have changed since the last call, those of others included."""
        self._refresh()
        changed = sorted(self._changed)
        self._changed.clear()
        return changed

    def _refresh(self) -> None:
        size = self.journal.size()
        if size == self._size:
            return
        before, voices = self._voices, self.journal.voices()
        self._voices = {item: voices[item] for item in voices if item in self.position}
        self._size = size
        for item in before.keys() | self._voices.keys():
            if before.get(item) != self._voices.get(item):
                self._changed.add(self.position[item])

    def standing(self, place: int) -> Standing:
        """The decision shown for an item: the reviewer's own, else the one in force."""
        voices = self._voices.get(self.items[place], {})
        if not voices:
            return Standing()
        shown = voices.get(self.reviewer) or majority(list(voices.values())) or ("", "")
        differ = len(set(voices.values())) > 1
        each = [f"{who}: {' → '.join(filter(None, answer))}" for who, answer in voices.items()]
        return Standing(*shown, ", ".join(each) if differ else "")

    def is_decided(self, place: int) -> bool:
        """Whether anybody has decided on an item."""
        return self.items[place] in self._voices

    @property
    def decided(self) -> int:
        """How many of the candidates somebody has decided on."""
        return len(self._voices)

    @property
    def left(self) -> int:
        """How many of the candidates that are asked for are still undecided."""
        return sum(not self.is_decided(place) for place in range(self.asked))

    # Deciding.

    def decide(
        self, places: Sequence[int], decision: str, label: str = "", suggestion: int = 0
    ) -> list[int]:
        """Decide on the items at `places` in one action; returns `places`.

        Parameters
        ----------
        places
            Positions of candidates.
        decision
            One of the choices.
        label
            For `relabel`: the class.
        suggestion
            For `relabel` without a label: the number of each item's own suggestion, from 1; 0 is 1.

        Raises
        ------
        ValueError
            A place, the decision, a class or a suggestion is unknown; nothing was decided.
        OSError
            The journal cannot be written; nothing was decided.
        """
        if decision not in self.choices:
            raise ValueError(f"{decision!r} is not one of {sorted(set(self.choices))}")
        unknown = [place for place in places if not 0 <= place < len(self.items)]
        if unknown or not len(places):
            raise ValueError(f"there is no candidate {unknown[0]}" if unknown else "nothing chosen")
        made = [self._decision(place, decision, label, suggestion) for place in places]
        self._write(made)
        self._done.append(made)
        self._undone.clear()
        self._made.append((time.monotonic(), len(made)))
        return list(places)

    def undo(self) -> list[int]:
        """Take back the latest action of this review; returns its positions.

        The reviewer's earlier decisions on these items are in force again.

        Raises
        ------
        ValueError
            Nothing was decided since the review began; decide anew to change earlier decisions.
        """
        if not self._done:
            raise ValueError("nothing was decided in this gallery yet, so there is nothing to undo")
        made = self._done[-1]
        self.journal.append_all([Decision(one.item, UNDO) for one in made], self.reviewer)
        self._undone.append(self._done.pop())
        self._refresh()
        return [self.position[one.item] for one in made]

    def redo(self) -> list[int]:
        """Decide once more what was last taken back; returns its positions.

        Raises
        ------
        ValueError
            Nothing was taken back since the latest decision.
        """
        if not self._undone:
            raise ValueError("nothing was taken back, so there is nothing to redo")
        made = self._undone[-1]
        self._write(made)
        self._done.append(self._undone.pop())
        return [self.position[one.item] for one in made]

    def _decision(self, place: int, decision: str, label: str, suggestion: int) -> Decision:
        row = self.candidates.iloc[place]
        if decision != RELABEL:
            return Decision(row["item"], decision, "", row["shown"])
        if not label:
            names = [name for name, _ in row["suggestions"]]
            if max(suggestion, 1) > len(names):
                which = f"suggestion {suggestion}" if suggestion > 1 else "suggested label"
                raise ValueError(f"{row['item']!r} has no {which} to relabel it with")
            label = names[max(suggestion, 1) - 1]
        if self.classes and label not in self._known_classes:
            raise ValueError(f"{label!r} is no class of this contest")
        return Decision(row["item"], decision, label, row["shown"])

    def _write(self, made: list[Decision]) -> None:
        before, after = self.journal.append_all(made, self.reviewer)
        # Asked for under the journal's lock: else a line that came just before would never be read.
        if before != self._size:
            self._refresh()
            return
        for one in made:
            voices = self._voices.setdefault(one.item, {})
            voices.pop(self.reviewer, None)
            voices[self.reviewer] = (one.decision, one.label)
            self._changed.add(self.position[one.item])
        self._size = after

    # Order and search.

    @property
    def sorts(self) -> list[str]:
        """The names of the orders that `arranged` knows, the given one first."""
        by_class = [CLASS] if (self.candidates["label"] != "").any() else []
        return [ORDER, *self._sorts, *by_class]

    @property
    def shows(self) -> list[str]:
        """The names of what `arranged` can be narrowed to."""
        return [EVERYTHING, UNDECIDED, DECIDED, NOT_MINE, DISPUTED, *dict.fromkeys(self.choices)]

    def arranged(
        self, sort: str = ORDER, descending: bool = False, show: str = EVERYTHING, text: str = ""
    ) -> list[int]:
        """Positions of the candidates in an order, as `show` and `text` narrow them.

        The text is looked for in the label, the caption, the item and each suggested class; case
        and accents make no difference.

        Raises
        ------
        ValueError
            The order or what is to be shown is unknown.
        """
        if sort not in self.sorts or show not in self.shows:
            raise ValueError(f"sort by one of {self.sorts} and show one of {self.shows}")
        places = np.arange(len(self.items))
        if sort == CLASS:
            places = np.argsort(self.candidates["label"].to_numpy().astype(str), kind="stable")
        elif sort != ORDER:
            places = np.argsort(self.candidates[self._sorts[sort]].to_numpy(), kind="stable")
        chosen = places[::-1].tolist() if descending else places.tolist()
        if show != EVERYTHING:
            chosen = [place for place in chosen if self._shown(place, show)]
        if text.strip():
            found = self._found(text)
            chosen = [place for place in chosen if found[place]]
        return chosen

    def next_undecided(self, places: Sequence[int], start: int) -> int:
        """The first undecided one of `places` from number `start` on, then from the beginning.

        Where all are decided, `start`.
        """
        for number in [*range(start, len(places)), *range(min(start, len(places)))]:
            if not self.is_decided(places[number]):
                return number
        return min(start, max(len(places) - 1, 0))

    def search(self, text: str, limit: int = 20) -> list[str]:
        """Classes for a typed text: those that begin with it, then with a word in it, then others.

        Case and accents make no difference.
        """
        wanted = _folded(text)
        if not wanted:
            return self.classes[:limit]
        ranked: list[list[str]] = [[], [], []]
        for name, folded in zip(self.classes, self._folded, strict=True):
            at = folded.find(wanted)
            if at >= 0:
                ranked[0 if at == 0 else 1 if f" {wanted}" in folded else 2].append(name)
        return [name for names in ranked for name in names][:limit]

    def _shown(self, place: int, show: str) -> bool:
        if show == UNDECIDED:
            return not self.is_decided(place)
        if show == DECIDED:
            return self.is_decided(place)
        if show == NOT_MINE:
            return self.reviewer not in self._voices.get(self.items[place], {})
        standing = self.standing(place)
        return bool(standing.disputed) if show == DISPUTED else standing.decision == show

    def _found(self, text: str) -> np.ndarray:
        wanted, table = _folded(text), self.candidates
        named = table["suggestions"].map(lambda pairs: "".join(f"\n{name}" for name, _ in pairs))
        texts = table["label"] + "\n" + table["caption"] + "\n" + table["item"] + named
        return np.array([wanted in _folded(text) for text in texts], bool)

    # How far it has come.

    def decisions_a_minute(self) -> float | None:
        """Looks a minute in this review, pauses left out; None before there are some."""
        made = sum(count for _, count in self._made[1:])
        if made < DECISIONS_FOR_A_RATE:
            return None
        gaps = np.diff([when for when, _ in self._made])
        return 60 * made / max(float(gaps[gaps < PAUSE_SECONDS].sum()), 1e-3)

    @property
    def progress(self) -> str:
        """How far it has come, such as `decided 12 of 83 · 30 a minute · 3 min left`."""
        parts = [f"decided {self.decided} of {self.asked}"]
        if self.asked < len(self.items):
            parts = [f"decided {self.decided}, {self.asked} asked for, of {len(self.items)}"]
        rate = self.decisions_a_minute()
        if rate is not None:
            parts.append(f"{rate:.0f} a minute")
            if self.left:
                parts.append(f"{self.left / rate:.0f} min left")
        return " · ".join(parts)


def check_candidates(candidates: pd.DataFrame) -> pd.DataFrame:
    """The candidates of a gallery or a sheet with all columns filled in.

    Parameters
    ----------
    candidates
        One row an item. Required: `item` (string, unique), `image` (the path of a file that Pillow
        reads; or a list of paths, then an item is a row of photos that is decided as one) and
        `caption` (one or two lines). Optional: `label` (the class), `suggestions` (a list of
        (class, score), the likeliest first) or `suggested` (one class), `full` (the path that
        zooming in shows; by default `image`) and `shown` (what the journal notes as shown; by
        default caption and suggestions).

    Raises
    ------
    ValueError
        A column is missing or holds wrong values; the message names it.
    """
    missing = [name for name in ("item", "image", "caption") if name not in candidates.columns]
    if missing:
        raise ValueError(f"candidates has no column {missing}; it has {list(candidates.columns)}")
    table = candidates.reset_index(drop=True)
    for name in ("suggested", "shown", "label"):
        given = table[name].astype(object) if name in table else pd.Series("", table.index)
        table[name] = given.where(given.notna(), "")
    for name in ("item", "caption", "suggested", "shown", "label"):
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
        raise ValueError(f"candidates: {twice.iloc[0]!r} appears twice in column `item`")
    _check_paths(table["image"])
    if "full" not in table:
        table["full"] = table["image"]
    table["suggestions"] = _suggestions(table)
    table["suggested"] = [found[0][0] if found else "" for found in table["suggestions"]]
    noted = [
        in_one_line(caption) + ", ".join(f" → {name}" for name, _ in found)
        for caption, found in zip(table["caption"], table["suggestions"], strict=True)
    ]
    table["shown"] = table["shown"].where(table["shown"] != "", pd.Series(noted, table.index))
    return table


def in_one_line(caption: str) -> str:
    """A caption of several lines as one, for a journal or a log."""
    return caption.replace("\n", "  ")


class UnderPhoto(NamedTuple):
    """The lines under a photo: its caption, the likeliest other class, and both scores."""

    caption: str
    suggested: str
    scores: str


def under_photo(caption: str, label: str, suggestions: Sequence[tuple[str, float]]) -> UnderPhoto:
    """The lines under a photo; empty strings for what there is not.

    Names and scores are on lines of their own, so that a long name takes no score's place. Where
    the likeliest class is the given label itself, the networks name no other one: `unsure`.

    Parameters
    ----------
    caption
        The first line is a name, further ones hold its score.
    label
        The class that the image came with, or empty.
    suggestions
        (class, score) pairs, the likeliest first; a score may be NaN.
    """
    first, *others = caption.split("\n")
    scores = "  ".join(others)
    if not suggestions:
        return UnderPhoto(first, "", scores)
    name, score = suggestions[0]
    if name == label:
        return UnderPhoto(first, UNSURE, scores)
    # The score of the caption may be the likeliest class's own, which need not be there twice.
    if score == score and not scores.endswith(f"{score:.2f}"):
        scores = f"{scores} → {score:.2f}".strip()
        if len(scores) > WIDEST_SCORES:
            # The number alone, without what it is called.
            scores = f"{others[-1].split()[-1]} → {score:.2f}"
    return UnderPhoto(first, f"→ {name}", scores)


def is_rows(candidates: pd.DataFrame) -> bool:
    """Whether an item of checked candidates is a row of photos."""
    return len(candidates) > 0 and isinstance(candidates["image"].iloc[0], list | tuple)


def _check_paths(images: pd.Series) -> None:
    kinds = {isinstance(value, list | tuple) for value in images}
    if len(kinds) > 1:
        raise ValueError("candidates: column `image` holds both paths and lists of paths")
    for value in images:
        for path in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(path, str | Path):
                raise ValueError(f"candidates: column `image` must hold paths, not {path!r}")


def _suggestions(table: pd.DataFrame) -> pd.Series:
    """(class, score) pairs of each row, the likeliest first; a lone suggestion has no score."""
    if "suggestions" not in table:
        lone = [[(name, float("nan"))] if name else [] for name in table["suggested"]]
        return pd.Series(lone, table.index, dtype=object)
    for pairs in table["suggestions"]:
        for pair in pairs if isinstance(pairs, list | tuple) else [pairs]:
            if not (isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                raise ValueError(
                    f"candidates: column `suggestions` must hold lists of (class, score), not "
                    f"{pairs!r}"
                )
    return table["suggestions"]


def _checked_sorts(candidates: pd.DataFrame, sorts: Mapping[str, str]) -> dict[str, str]:
    for name, column in sorts.items():
        if name in (ORDER, CLASS) or column not in candidates:
            raise ValueError(f"sorts: {name!r} → {column!r} is no column of the candidates")
        if not pd.api.types.is_numeric_dtype(candidates[column]):
            raise ValueError(f"sorts: column {column!r} must hold numbers")
    return dict(sorts)


def _folded(text: str) -> str:
    """Text as it is compared: no case, no accents, single spaces."""
    plain = unicodedata.normalize("NFKD", text)
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return " ".join(letters.casefold().replace("_", " ").replace("-", " ").split())
