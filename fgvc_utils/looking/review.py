"""A reviewer's work on a list of candidates, without a screen: order, decisions, undo, progress.

`candidates.check_candidates` says what a list of candidates is. A `Review` is a view over a
journal: nothing is decided before its line is on the disk, and what others decide meanwhile is
taken up.
"""

import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from fgvc_utils.contest.contest_rules import refuse_closed
from fgvc_utils.contest.following import Copies
from fgvc_utils.contest.journal import (
    SETTLES,
    UNDO,
    Decision,
    Journal,
    Vote,
    differ,
    in_force,
    in_words,
    reviewer_name,
)
from fgvc_utils.looking.candidates import check_candidates
from fgvc_utils.looking.class_names import name_of, searched

RELABEL = "relabel"
ORDER, DISPUTES, CLASS = "order", "disputes first", "class"
EVERYTHING, UNDECIDED, DECIDED = "all", "undecided", "decided"
DISPUTED, NOT_MINE = "disputed", "not yet by me"
# A gap longer than this is a pause.
PAUSE_SECONDS = 60
DECISIONS_FOR_A_RATE = 5


class Standing(NamedTuple):
    """The decision that is shown for an item, or empty strings.

    `disputed` lists every reviewer's decision where they differ and nobody has settled it, else it
    is empty. `follows` names the copy that was decided on where nobody decided on the item itself.
    """

    decision: str = ""
    label: str = ""
    disputed: str = ""
    follows: str = ""


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
    copies
        The images whose copies a decision counts for too; none by default.

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
        copies: Copies | None = None,
    ):
        self.candidates = check_candidates(candidates)
        self.journal = journal
        self.choices = list(choices)
        self.reviewer = reviewer_name() if reviewer is None else reviewer
        self.classes = list(classes)
        self._known_classes = set(self.classes)
        self._folded = [_folded(searched(name)) for name in self.classes]
        self._sorts = _checked_sorts(self.candidates, sorts or {})
        self.items: list[str] = self.candidates["item"].tolist()
        self.position = {item: place for place, item in enumerate(self.items)}
        self.asked = len(self.items) if asked is None else min(asked, len(self.items))
        self._made: list[tuple[float, int]] = []
        self._done: list[list[Decision]] = []
        self._undone: list[list[Decision]] = []
        self._votes: dict[str, list[Vote]] = {}
        self._copies = copies
        self._kinds: dict[str, np.ndarray] | None = None
        self._size = -1
        self._changed: set[int] = set()
        self.changes()

    # Decisions so far.

    def changes(self) -> list[int]:
        """Positions whose decisions have changed since the last call, those of others included."""
        self.refresh()
        changed = sorted(self._changed)
        self._changed.clear()
        return changed

    def refresh(self) -> None:
        """Take up what others have decided meanwhile."""
        size = self.journal.size()
        if size == self._size:
            return
        before, votes = self._votes, self.journal.votes()
        self._votes = {item: votes[item] for item in votes if item in self.position}
        self._size = size
        for item in before.keys() | self._votes.keys():
            if before.get(item) != self._votes.get(item):
                self._changed.add(self.position[item])

    def standing(self, place: int) -> Standing:
        """The decision shown for an item: the reviewer's own, else the one in force."""
        votes = self._votes.get(self.items[place], [])
        if not votes:
            return Standing()
        mine = [vote.answer for vote in votes if vote.reviewer == self.reviewer]
        shown = mine[0] if mine and differ(votes) else in_force(votes) or ("", "")
        return Standing(*shown, _each(votes) if differ(votes) else "", votes[0].follows)

    def shown_standing(self, place: int) -> Standing:
        """The same with the names of the classes, for people."""
        found = self.standing(place)
        votes = self._votes.get(self.items[place], [])
        disputed = _each(votes, name_of) if found.disputed else ""
        return found._replace(label=name_of(found.label), disputed=disputed)

    def is_disputed(self, place: int) -> bool:
        """Whether reviewers differ on an item and nobody has settled it."""
        return differ(self._votes.get(self.items[place], []))

    def can_settle(self, place: int) -> bool:
        """Whether an item is disputed by others: then this reviewer's decision settles it."""
        votes = self._votes.get(self.items[place], [])
        return differ(votes) and self.reviewer not in {vote.reviewer for vote in votes}

    def is_decided(self, place: int) -> bool:
        """Whether anybody has decided on an item."""
        return self.items[place] in self._votes

    @property
    def decided(self) -> int:
        """How many of the candidates somebody has decided on."""
        return len(self._votes)

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
            A place, the decision, a class or a suggestion is unknown, or the contest's rules allow
            no decision by people; nothing was decided.
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

    @property
    def made(self) -> list[Decision]:
        """The decisions of the latest action that was not taken back."""
        return self._done[-1] if self._done else []

    def like(self, place: int) -> list[str]:
        """The undecided items of an item's kind, in the order of the candidates."""
        if self._kinds is None:
            self._kinds = self.candidates.groupby("kind").indices
        kind = self._kinds[self.candidates["kind"].iloc[place]]
        return [self.items[n] for n in kind if n != place and not self.is_decided(n)]

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
        self.refresh()
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
        shown = row["shown"]
        if self.can_settle(place):
            shown += SETTLES + _each(self._votes[row["item"]])
        if decision != RELABEL:
            return Decision(row["item"], decision, "", shown)
        if not label:
            names = [name for name, _ in row["suggestions"]]
            if max(suggestion, 1) > len(names):
                which = f"suggestion {suggestion}" if suggestion > 1 else "suggested label"
                raise ValueError(f"{row['item']!r} has no {which} to relabel it with")
            label = names[max(suggestion, 1) - 1]
        if self.classes and label not in self._known_classes:
            raise ValueError(f"{label!r} is no class of this contest")
        return Decision(row["item"], decision, label, shown)

    def _write(self, made: list[Decision]) -> None:
        refuse_closed(self.journal.path)
        following = self._copies.following(made) if self._copies else []
        before, after = self.journal.append_all([*made, *following], self.reviewer)
        # Asked for under the journal's lock: else a line that came just before would never be read.
        if before != self._size or self._copies and any(map(self._copies.of, _items(made))):
            self.refresh()
            return
        for one in made:
            votes = self._votes.get(one.item, [])
            others = [v for v in votes if v.reviewer != self.reviewer and not v.follows]
            answer, settles = (one.decision, one.label), SETTLES in one.shown
            self._votes[one.item] = [*others, Vote(self.reviewer, answer, "", settles)]
            self._changed.add(self.position[one.item])
        self._size = after

    # Order and search.

    @property
    def sorts(self) -> list[str]:
        """The names of the orders that `arranged` knows, the given one first."""
        by_class = [CLASS] if (self.candidates["label"] != "").any() else []
        return [ORDER, *self._sorts, *by_class, DISPUTES]

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
        if sort == DISPUTES:
            settled = [not self.is_disputed(place) for place in places]
            places = np.argsort(settled, kind="stable")
        elif sort == CLASS:
            labels = self.candidates["label"].map(name_of)
            places = np.argsort(labels.to_numpy().astype(str), kind="stable")
        elif sort != ORDER:
            places = np.argsort(self.candidates[self._sorts[sort]].to_numpy(), kind="stable")
        chosen = places[::-1].tolist() if descending else places.tolist()
        if show != EVERYTHING:
            chosen = [place for place in chosen if self._shown(place, show)]
        if text.strip():
            found = self._found(text)
            chosen = [place for place in chosen if found[place]]
        return chosen

    def next_undecided(self, places: Sequence[int], start: int, disputes: bool = False) -> int:
        """The first undecided one of `places` from number `start` on, then from the beginning.

        With `disputes` what this reviewer can settle counts as undecided. Where all are decided,
        `start`.
        """
        for number in [*range(start, len(places)), *range(min(start, len(places)))]:
            place = places[number]
            if not self.is_decided(place) or (disputes and self.can_settle(place)):
                return number
        return min(start, max(len(places) - 1, 0))

    def search(self, text: str, limit: int = 20) -> list[str]:
        """Classes for a typed text: those that begin with it, then with a word in it, then others.

        Case and accents make no difference; a class is found by its name too.
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
            return all(
                vote.reviewer != self.reviewer for vote in self._votes.get(self.items[place], [])
            )
        if show == DISPUTED:
            return self.is_disputed(place)
        return self.standing(place).decision == show

    def _found(self, text: str) -> np.ndarray:
        wanted, table = _folded(text), self.candidates
        suggested = table["suggestions"].map(
            lambda pairs: "".join(f"\n{searched(name)}" for name, _ in pairs)
        )
        labels = table["label"].map(searched)
        texts = labels + "\n" + table["caption"] + "\n" + table["item"] + suggested
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
        # Asked for with each decision: most items have one vote.
        if disputed := sum(len(votes) > 1 and differ(votes) for votes in self._votes.values()):
            parts.append(f"{disputed} disputed")
        return " · ".join(parts)


def _items(made: Sequence[Decision]) -> list[str]:
    return [one.item for one in made]


def _each(votes: Sequence[Vote], called: Callable[[str], str] = str) -> str:
    """What each reviewer decided, such as `ann: keep, bob: relabel → viola`."""
    answers = [(vote.answer[0], called(vote.answer[1])) for vote in votes]
    return ", ".join(
        f"{vote.reviewer}: {in_words(answer)}" for vote, answer in zip(votes, answers, strict=True)
    )


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
