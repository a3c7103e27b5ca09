"""The human journal: one line a decision in a CSV file that is only ever appended to.

A journal is source, kept by git: a stage reads it before it decides anything itself, and a human
decision beats a rule. The lines stay in the order in which they were made, so a changed mind is
a further line and never a rewritten one. Several people may decide in one journal, also at the
same time: each has a vote on each item, and nobody's vote replaces another's. A decision may follow
from one on a copy of the image, and may settle what others disagree on.
"""

import csv
import getpass
import io
import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fgvc_utils.contest import moves
from fgvc_utils.contest.decision import COPY_OF as COPY_OF
from fgvc_utils.contest.decision import UNDO, Decision, followed_from
from fgvc_utils.core.files import sync
from fgvc_utils.core.locks import take
from fgvc_utils.core.spreadsheet import escaped, unescaped

COLUMNS = ["item", "decision", "label", "reviewer", "time", "shown"]
HEADER = ",".join(COLUMNS) + "\n"
REVIEWER = "FGVC_REVIEWER"
# In the column `shown`: of a line that settles.
SETTLES = " ⚖ settles "


class Vote(NamedTuple):
    """What stands of one reviewer on one item.

    `follows` is the copy whose decision this one followed from, else empty. `settles` says that
    the reviewer knew of a disagreement of others and settled it.
    """

    reviewer: str
    answer: tuple[str, str]
    follows: str
    settles: bool


class CutLine(NamedTuple):
    """A line that holds no decision: cut off while it was written, or of another width."""

    number: int
    text: str
    reason: str


class Journal:
    """Decisions of people on items (an image id, or a class name), as a CSV file.

    The file and its folder are made with the first decision. Any number of processes may append
    at the same time. All values are strings and come back as they were given: `0012` stays
    `0012`. In the file a `'` is put before what a spreadsheet would take for a formula.

    Parameters
    ----------
    path
        The file; it need not be there yet.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def append(
        self,
        item: str,
        decision: str,
        label: str = "",
        shown: str = "",
        reviewer: str | None = None,
    ) -> None:
        """Write one decision and return when it is on the disk.

        Parameters
        ----------
        item
            What is decided on: an image id or a class name.
        decision
            The decision, such as `keep`; `undo` takes back the reviewer's latest one on this item.
        label
            The new label where the decision gives one, else empty.
        shown
            What the reviewer saw, such as `shown_text` writes it; runs of white space become one
            space.
        reviewer
            Who decided; by default `reviewer_name()`.

        Raises
        ------
        TypeError
            A value is not a string.
        ValueError
            The item or the decision is empty, a value holds a control character, or the file has
            other columns.
        OSError
            The line could not be written; the decision does not count.
        """
        self.append_all([Decision(item, decision, label, shown)], reviewer)

    def append_all(
        self, decisions: Sequence[Decision], reviewer: str | None = None
    ) -> tuple[int, int]:
        """Write several decisions at once, all or none, and return when they are on the disk.

        A power cut in the middle leaves the first ones, each whole.

        Returns
        -------
        before, now : int
            The journal's size in bytes. Where `before` is not the size that one last read, others
            have decided meanwhile.

        Raises
        ------
        TypeError, ValueError, OSError
            As from `append`.
        """
        time = datetime.now(UTC).isoformat(timespec="seconds")
        who = reviewer_name() if reviewer is None else reviewer
        lines = []
        for item, decision, label, shown in decisions:
            values = {"item": item, "decision": decision, "label": label, "reviewer": who}
            values["time"] = time
            values["shown"] = _in_one_line(shown) if isinstance(shown, str) else shown
            _check_values(values, self.path)
            lines.append(_csv_line(list(values.values())))
        if not lines:
            return self.size(), self.size()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b", buffering=0) as file:
            # Closing the file gives the lock back, also where this process is killed.
            take(file, self.path, wait=True)
            size = file.seek(0, os.SEEK_END)
            beginning, ending = _edges(file, size)
            _check_header(beginning, self.path)
            content = (_missing_end(beginning, ending) + "".join(lines)).encode("utf-8")
            written = 0
            try:
                written = file.write(content)
                if written != len(content):
                    raise OSError(f"{self.path}: the line was cut short; is the disk full?")
                os.fsync(file.fileno())
            except OSError:
                if len(lines) > 1 or written == len(content):
                    # Half a selection would pass for the reviewer's choice, and a whole line for a
                    # decision; what is cut away here was never confirmed as written.
                    file.truncate(size)
                raise
        if not size:
            sync(self.path.parent)
        return size, size + written

    def read(self) -> pd.DataFrame:
        """Every line in the order of writing, `undo` lines too.

        Lines that were cut are left out and listed by `cut_lines`.

        Returns
        -------
        pd.DataFrame
            Columns `COLUMNS`, all text; no rows where there is no file yet.

        Raises
        ------
        ValueError
            The file has other columns.
        """
        rows, _ = self._parse()
        return pd.DataFrame(rows, columns=COLUMNS, dtype=str)

    def latest(self) -> pd.DataFrame:
        """The decision in force for each item.

        Of a reviewer's lines on an item the last one counts; `undo` takes back their decision
        before it, so that the one before that counts again. Where reviewers differ, what most of
        them decided is in force; where no decision has the most votes, none is, and the item is
        in `disagreements`. A decision that settles is in force until somebody decides otherwise
        after it. What followed from a copy counts as long as that decision stands and nobody has
        decided on the item itself. A decision on an image counts as long as its picture is the
        same, also under another id (see `moves`).

        Returns
        -------
        pd.DataFrame
            Index `item`, the other `COLUMNS`, all text: the latest line with the decision that is
            in force.
        """
        standing = []
        for votes in self._lines().values():
            chosen = in_force(list(votes))
            standing += [row for vote, row in votes.items() if vote.answer == chosen][-1:]
        return pd.DataFrame(standing, columns=COLUMNS, dtype=str).set_index("item")

    def disagreements(self) -> pd.DataFrame:
        """Where reviewers differ: each one's decision, a row an item and reviewer, `COLUMNS`.

        What was settled is no longer among them.
        """
        lines = self._lines().values()
        apart = [row for votes in lines if differ(list(votes)) for row in votes.values()]
        return pd.DataFrame(apart, columns=COLUMNS, dtype=str)

    def voices(self) -> dict[str, dict[str, tuple[str, str]]]:
        """Item → reviewer → (decision, label) for what stands, in the order of writing."""
        return {
            item: {vote.reviewer: vote.answer for vote in votes}
            for item, votes in self.votes().items()
        }

    def votes(self) -> dict[str, list[Vote]]:
        """Each item's standing votes, one a reviewer, in the order in which they were written."""
        return {item: list(votes) for item, votes in self._lines().items()}

    def outdated(self) -> pd.DataFrame:
        """The decisions that stood and no longer count, since the picture or the label is another.

        Returns
        -------
        pd.DataFrame
            Index `item`, columns decision, label and why; without items that somebody has decided
            on since.
        """
        known, found = moves.of_run(self.path.parent.parent), []
        now = self._lines()
        before = self._lines(today=False) if known and not self._of_classes else {}
        for item, votes in before.items():
            row = list(votes.values())[-1]
            name = known.known_as(item, row[4])
            why = moves.OTHER_PICTURE if "\n" in name else moves.OTHER_LABEL
            if item not in now and name not in now:
                found.append((item, row[1], row[2], why))
        columns = ["item", "decision", "label", "why"]
        return pd.DataFrame(found, columns=columns, dtype=str).set_index("item")

    @property
    def _of_classes(self) -> bool:
        return self.path.stem in moves.CLASS_JOURNALS

    def _lines(self, today: bool = True) -> dict[str, dict[Vote, list[str]]]:
        """Each item's standing votes with their lines; by default as they count today."""
        rows, _ = self._parse()
        if today:
            # A journal lies in the folder `decisions` of its run.
            known = moves.of_run(self.path.parent.parent)
            rows = moves.brought_up_to_date(rows, known, self._of_classes)
        own, followed = _lines_by_item(rows)
        found: dict[str, dict[Vote, list[str]]] = {}
        for item in dict.fromkeys(row[0] for row in rows):
            lines = {who: (made[-1], made[-1], "") for who, made in own[item].items() if made}
            if not lines:
                lines = _standing_copies(followed.get(item, {}), own)
            for number, cause, source in sorted(lines.values()):
                row, settles = rows[number], SETTLES in rows[cause][5]
                # An empty decision, or one on an item that is none, no longer counts.
                if row[1] and "\n" not in item:
                    vote = Vote(row[3], _answer(row), source, settles)
                    found.setdefault(item, {})[vote] = row
        return found

    def size(self) -> int:
        """Bytes on the disk; a size that one did not write oneself means that others decided."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut_lines(self) -> list[CutLine]:
        """The lines that were ignored, with their number in the file and why."""
        _, cut = self._parse()
        return cut

    def _parse(self) -> tuple[list[list[str]], list[CutLine]]:
        content = self.path.read_bytes() if self.path.exists() else b""
        _check_header(content, self.path)
        rows: list[list[str]] = []
        cut: list[CutLine] = []
        if _is_cut_header(content):
            if content:
                cut.append(CutLine(1, content.decode("utf-8"), "the header was cut"))
            return rows, cut
        *lines, rest = content.split(b"\n")
        for number, line in enumerate(lines[1:], start=2):
            if not line.strip():
                continue
            try:
                rows.append(_fields(line))
            except ValueError as error:
                cut.append(CutLine(number, line.decode("utf-8", "replace"), str(error)))
        if rest:
            text = rest.decode("utf-8", "replace")
            cut.append(CutLine(len(lines) + 1, text, "the line has no end"))
        return rows, cut


# Item → reviewer → the numbers of their lines that were not taken back.
_Own = dict[str, dict[str, list[int]]]
# (reviewer, copy, number of the decision on it) → the number of the line that followed.
_Followed = dict[tuple[str, str, int], int]


def _lines_by_item(rows: Sequence[list[str]]) -> tuple[_Own, dict[str, _Followed]]:
    """The lines on each item itself, and those that followed from copies of it."""
    own: _Own = {}
    followed: dict[str, _Followed] = {}
    for number, (item, decision, _, who, _, shown) in enumerate(rows):
        lines = own.setdefault(item, {})
        if source := followed_from(shown):
            # Without its source, cut off by a crash, a line says nothing.
            if cause := own.get(source, {}).get(who):
                followed.setdefault(item, {})[who, source, cause[-1]] = number
        elif decision != UNDO:
            lines.setdefault(who, []).append(number)
        elif lines.get(who):
            lines[who].pop()
    return own, followed


def _standing_copies(followed: _Followed, own: _Own) -> dict[str, tuple[int, int, str]]:
    """Reviewer → line, its cause and the copy: the latest whose cause is still in force."""
    lines: dict[str, tuple[int, int, str]] = {}
    for (who, source, cause), number in followed.items():
        if own[source][who][-1:] == [cause] and (number,) > lines.get(who, ()):
            lines[who] = (number, cause, source)
    return lines


def _answer(row: list[str]) -> tuple[str, str]:
    """A line's decision and label."""
    return row[1], row[2]


def in_words(answer: tuple[str, str]) -> str:
    """A decision and its label for people, such as `relabel → viola`."""
    return " → ".join(filter(None, answer))


def majority(answers: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """The commonest of some answers (decision, label); None where two are as common."""
    counted = Counter(answers).most_common(2)
    if not counted or (len(counted) > 1 and counted[0][1] == counted[1][1]):
        return None
    return counted[0][0]


def in_force(votes: Sequence[Vote]) -> tuple[str, str] | None:
    """The answer (decision, label) that counts: what settled, else what most decided, or None."""
    return _settled(votes) or majority([vote.answer for vote in votes])


def differ(votes: Sequence[Vote]) -> bool:
    """Whether reviewers decided differently, and nobody has settled it since."""
    return len({vote.answer for vote in votes}) > 1 and _settled(votes) is None


def _settled(votes: Sequence[Vote]) -> tuple[str, str] | None:
    """The answer of the latest vote that settles, unless a later one differs from it."""
    settling = [place for place, vote in enumerate(votes) if vote.settles]
    since = {vote.answer for vote in votes[settling[-1] :]} if settling else set()
    return since.pop() if len(since) == 1 else None


def shown_text(verdict: str, caption: str, likely: str) -> str:
    """What a reviewer saw of an image, for the journal's column `shown`.

    Parameters
    ----------
    verdict
        What the rule had decided: `keep`, `drop` or `relabel`; empty where there was no rule.
    caption
        The caption under the image.
    likely
        The suggested classes with their probabilities, the likeliest first; may be empty.
    """
    text = f"{verdict}: {caption}"
    return f"{text} → {likely}" if likely else text


def read_shown(text: str) -> tuple[str, str]:
    """The verdict and the suggested classes of a `shown_text`; empty where it has none."""
    seen = text.partition(SETTLES)[0]
    return seen.partition(":")[0], seen.partition("→ ")[2]


def reviewer_name() -> str:
    """Who decides here: `FGVC_REVIEWER` where it is set, else the user who runs this process."""
    if os.environ.get(REVIEWER, "").strip():
        return os.environ[REVIEWER].strip()
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _check_values(values: dict[str, str], path: Path) -> None:
    for name, value in values.items():
        if not isinstance(value, str):
            raise TypeError(f"{path}: `{name}` must be a string, not {value!r}")
        # One line a decision is what makes a cut line recognisable.
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            raise ValueError(f"{path}: `{name}` holds a control character: {value!r}")
    for name in ("item", "decision"):
        if not values[name].strip():
            raise ValueError(f"{path}: `{name}` is empty; give one")


def _in_one_line(shown: str) -> str:
    # The id of an image may hold several spaces.
    return shown if followed_from(shown) else " ".join(shown.split())


def _csv_line(fields: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(escaped, fields))
    return text.getvalue()


def _is_cut_header(content: bytes) -> bool:
    """Whether the file is empty or holds only the beginning of the header."""
    return len(content) < len(HEADER) and HEADER.encode().startswith(content)


def _check_header(content: bytes, path: Path) -> None:
    if _is_cut_header(content):
        return
    header = content.split(b"\n", 1)[0].decode("utf-8-sig", "replace").rstrip("\r")
    found = header.split(",")
    if found == COLUMNS:
        return
    missing = [column for column in COLUMNS if column not in found]
    foreign = [column for column in found if column not in COLUMNS]
    raise ValueError(
        f"{path} is not a journal: its first line must be {HEADER.strip()!r}, "
        f"missing columns {missing}, unknown columns {foreign}; "
        "move the file away or give another path"
    )


def _edges(file: io.RawIOBase, size: int) -> tuple[bytes, bytes]:
    """The first bytes of an open file, enough for a header, and its last one."""
    file.seek(0)
    beginning = file.read(4 * len(HEADER))
    file.seek(max(size - 1, 0))
    return beginning, file.read(1)


def _missing_end(beginning: bytes, ending: bytes) -> str:
    """What must be written before the next line can begin."""
    if _is_cut_header(beginning):
        return HEADER[len(beginning) :]
    if ending == b"\n":
        return ""
    # Enough commas that the cut line never has the right number of fields, wherever it was cut:
    # it was ignored while it had no end and must not begin to count when it is given one.
    return "," * len(COLUMNS) + "\n"


def _fields(line: bytes) -> list[str]:
    """The fields of one whole line; raises ValueError saying what is wrong with it."""
    text = line.decode("utf-8").rstrip("\r")
    try:
        (fields,) = csv.reader([text], strict=True)
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if len(fields) != len(COLUMNS):
        raise ValueError(f"{len(fields)} fields instead of {len(COLUMNS)}")
    if not fields[0] or not fields[1]:
        raise ValueError("item or decision is empty")
    return [unescaped(field) for field in fields]
