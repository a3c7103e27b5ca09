"""Two reviewers decide in one journal and are killed again and again: is any decision lost?

    python tests/faults/decisions.py [--seed 0] [--decisions 10000] [--kills 24]

Each reviewer is a process with a `Review`, as a gallery has one, over the same candidates and the
same journal. It makes the actions of a plan: single and grouped decisions, undo and redo, and
says after each how many decisions it has been told are kept. Half of the kills come from outside
at random moments; the other half hit in the middle of a write, with a part of the bytes in the
file. A reviewer that was killed is started again, looks at what stands, as a person does, and
goes on with the first decision that is not there.

Prints a short report; the last line is JSON. The exit status is 0 where nothing was lost.
"""

import argparse
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fgvc_utils.contest import journal as journal_module
from fgvc_utils.contest.journal import UNDO, Decision, Journal
from fgvc_utils.looking.review import RELABEL, Review

REVIEWERS = ("ann", "bob")
CHOICES = ("keep", "drop", RELABEL)
CLASSES = [f"class {number:03d}" for number in range(50)]
LARGEST_GROUP = 40
POLL_SECONDS = 0.01
SLOW_SECONDS = 0.001
# One acknowledgement: the number of decisions so far, of fixed width.
ACKNOWLEDGED = "%09d\n"

Line = tuple[str, str, str]


class Action(NamedTuple):
    """What a reviewer does at once: `kind` is decide, undo or redo; `lines` is what it writes."""

    kind: str
    lines: list[Line]


class Outcome(NamedTuple):
    """What a reviewer's lines come to; see `compare`."""

    lost: int
    doubled: int
    strange: int


# --- what is to be decided -----------------------------------------------------------------------


def candidates(count: int) -> pd.DataFrame:
    """Items to decide on, some with names that a CSV file must quote or escape."""
    forms = ("photo {}", 'photo {}, "é"', "=photo {}", "photo {}; -1")
    names = [forms[number % 7 % len(forms)].format(number) for number in range(count)]
    return pd.DataFrame({"item": names, "image": "nowhere.jpg", "caption": "p 0.50, a, b"})


def plan(seed: int, reviewer: str, decisions: int) -> list[Action]:
    """A reviewer's actions, which write `decisions` lines in all; the same for the same seed."""
    draw = random.Random(f"{seed} {reviewer}")
    items = candidates(decisions)["item"].tolist()
    actions: list[Action] = []
    done: list[list[Line]] = []
    undone: list[list[Line]] = []
    left, at = decisions, 0
    while left:
        kind = draw.choices(("decide", "undo"), (0.8, 0.2))[0]
        if undone and draw.random() < 0.4:
            kind = "redo"
        if kind == "undo" and done and len(done[-1]) <= left:
            undone.append(done.pop())
            actions.append(Action(kind, [(item, UNDO, "") for item, _, _ in undone[-1]]))
        elif kind == "redo" and undone and len(undone[-1]) <= left:
            done.append(undone.pop())
            actions.append(Action(kind, done[-1]))
        else:
            size = min(left, draw.choice((1, 1, 1, 2, 5, draw.randint(2, LARGEST_GROUP))))
            decision = draw.choice(CHOICES)
            label = draw.choice(CLASSES) if decision == RELABEL else ""
            lines = [(item, decision, label) for item in items[at : at + size]]
            at += size
            done.append(lines)
            undone.clear()
            actions.append(Action("decide", lines))
        left -= len(actions[-1].lines)
    return actions


# --- a reviewer ----------------------------------------------------------------------------------


class TornFile(io.FileIO):
    """A file that writes in pieces, and where it is told to, kills its process between two."""

    def __init__(self, path: Path, mode: str, draw: random.Random):
        super().__init__(path, mode)
        self.draw = draw

    def write(self, content: bytes) -> int:
        cut = self.draw.randrange(1, len(content))
        os.write(self.fileno(), content[:cut])
        if TornFile.killing:
            os.kill(os.getpid(), signal.SIGKILL)
        # The kill from outside can come here too.
        time.sleep(SLOW_SECONDS)
        os.write(self.fileno(), content[cut:])
        return len(content)

    killing = False


def write(folder: Path, reviewer: str, seed: int, decisions: int) -> None:
    """Make the plan's actions from the first on that is not in the journal yet."""
    draw = random.Random(f"{seed} {reviewer} {time.time_ns()}")
    journal_module.open = lambda path, mode, buffering: TornFile(path, mode, draw)
    journal = Journal(folder / "decisions.csv")
    review = Review(candidates(decisions), journal, CHOICES, reviewer=reviewer, classes=CLASSES)
    person = Person(review)
    tears = _tears(folder, reviewer)
    there = len(own_lines(journal, reviewer))
    with open(folder / f"{reviewer}.ack", "ab", buffering=0) as acknowledged:
        start = 0
        for action in plan(seed, reviewer, decisions):
            end = start + len(action.lines)
            if end > there:
                if tears and tears[0] < end:
                    _forget_tear(folder, reviewer, tears)
                    TornFile.killing = True
                person.act(action.kind, action.lines[max(there - start, 0) :])
                acknowledged.write((ACKNOWLEDGED % end).encode())
            start = end


class Person:
    """Does a plan's actions in a review; what was done before a kill is no action of it."""

    def __init__(self, review: Review):
        self.review = review
        self.done: list[list[Line]] = []
        self.undone: list[list[Line]] = []

    def act(self, kind: str, lines: list[Line]) -> None:
        """Do an action, of which `lines` are what does not stand yet."""
        if kind == "decide":
            places = [self.review.position[item] for item, _, _ in lines]
            self.review.decide(places, lines[0][1], lines[0][2])
            self.done.append(lines)
            self.undone.clear()
        elif kind == "undo" and self.done and _items(self.done[-1]) == _items(lines):
            self.review.undo()
            self.undone.append(self.done.pop())
        elif kind == "redo" and self.undone and self.undone[-1] == lines:
            self.review.redo()
            self.done.append(self.undone.pop())
        else:
            made = [Decision(*line) for line in lines]
            self.review.journal.append_all(made, self.review.reviewer)


def _items(lines: list[Line]) -> list[str]:
    return [item for item, _, _ in lines]


def own_lines(journal: Journal, reviewer: str) -> list[Line]:
    """What a reviewer has in the journal, in the order of writing."""
    rows = journal.read()
    rows = rows[rows["reviewer"] == reviewer]
    return list(rows[["item", "decision", "label"]].itertuples(index=False, name=None))


def _tears(folder: Path, reviewer: str) -> list[int]:
    return json.loads((folder / f"{reviewer}.tears").read_text())


def _forget_tear(folder: Path, reviewer: str, tears: list[int]) -> None:
    """A reviewer that starts again would else be killed at the same line for ever."""
    (folder / f"{reviewer}.tears").write_text(json.dumps(tears[1:]))


# --- both, and who kills them --------------------------------------------------------------------


class Writer:
    """A reviewer's process, started again where it was killed; counts its kills."""

    def __init__(self, folder: Path, reviewer: str, seed: int, decisions: int, kills: list[int]):
        self.folder, self.reviewer = folder, reviewer
        script = [sys.executable, __file__, "--write", reviewer, "--folder", str(folder)]
        self.command = [*script, "--seed", str(seed), "--decisions", str(decisions)]
        self.kills, self.killed = sorted(kills), 0
        self.lost_after_a_kill = 0
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE)

    def acknowledged(self) -> int:
        """Decisions that this reviewer was told are kept."""
        path = self.folder / f"{self.reviewer}.ack"
        lines = path.read_bytes().split() if path.exists() else []
        return int(lines[-1]) if lines else 0

    def is_done(self, draw: random.Random) -> bool:
        """Kill the process where its time has come, start it again where it is dead."""
        if self.kills and self.acknowledged() >= self.kills[0]:
            self.kills.pop(0)
            time.sleep(draw.uniform(0, 0.02))
            self.process.kill()
            self.process.wait()
        code = self.process.poll()
        if code == -signal.SIGKILL:
            self.killed += 1
            self.process.stderr.close()
            self._look()
            self.start()
        elif code:
            raise RuntimeError(f"{self.reviewer} failed:\n{self.process.stderr.read().decode()}")
        return code == 0

    def _look(self) -> None:
        """What was acknowledged must stand at once, and not only in the end."""
        there = len(own_lines(Journal(self.folder / "decisions.csv"), self.reviewer))
        self.lost_after_a_kill += max(self.acknowledged() - there, 0)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


def compare(planned: list[Line], found: list[Line]) -> Outcome:
    """How many planned lines are not there, are there too often, and were never planned."""
    wanted, there = Counter(planned), Counter(found)
    doubled = there - wanted
    strange = sum(count for line, count in doubled.items() if line not in wanted)
    return Outcome((wanted - there).total(), doubled.total() - strange, strange)


def standing(lines: list[Line]) -> dict[str, tuple[str, str]]:
    """Item → (decision, label) after all of a reviewer's lines; undo takes the latest one back."""
    stacks: dict[str, list[tuple[str, str]]] = {}
    for item, decision, label in lines:
        stack = stacks.setdefault(item, [])
        if decision != UNDO:
            stack.append((decision, label))
        elif stack:
            stack.pop()
    return {item: stack[-1] for item, stack in stacks.items() if stack}


def run(folder: Path, seed: int, decisions: int = 10_000, kills: int = 24) -> dict[str, int]:
    """Let both reviewers write `decisions` lines in all, with so many kills; returns the counts.

    `decisions_lost` counts lines of the plan that the journal lacks, at the end or after any kill
    in spite of having been acknowledged; `decisions_doubled` those that it has too often or was
    never told. `kills` were meant to come and `killed` did; `cut_lines` is what the kills left.
    Raises RuntimeError where a reviewer fails, or where a line of the file is neither a decision
    nor listed as cut.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    started, draw, each = time.monotonic(), random.Random(seed), decisions // len(REVIEWERS)
    writers = []
    for number, reviewer in enumerate(REVIEWERS):
        own = kills // 2 + (kills % 2 if number == 0 else 0)
        moments = sorted(draw.sample(range(1, each), own))
        tears = moments[::2]
        (folder / f"{reviewer}.tears").write_text(json.dumps(tears))
        writers.append(Writer(folder, reviewer, seed, each, moments[1::2]))
    try:
        # Not `all` of a generator: it would look after the second only when the first is done.
        while not all([writer.is_done(draw) for writer in writers]):
            time.sleep(POLL_SECONDS)
    finally:
        for writer in writers:
            writer.end()
    journal = Journal(folder / "decisions.csv")
    told = {"decisions": each * len(REVIEWERS), "decisions_lost": 0, "decisions_doubled": 0}
    for writer in writers:
        planned = [line for one in plan(seed, writer.reviewer, each) for line in one.lines]
        found = own_lines(journal, writer.reviewer)
        outcome = compare(planned, found)
        told["decisions_lost"] += max(outcome.lost, writer.lost_after_a_kill)
        told["decisions_doubled"] += outcome.doubled + outcome.strange
        if not (told["decisions_lost"] or told["decisions_doubled"]):
            _check_standing(journal, writer.reviewer, planned)
    cut = journal.cut_lines()
    _check_every_line(journal, len(cut))
    told["kills"] = sum(writer.killed for writer in writers)
    told["cut_lines"] = len(cut)
    print(
        f"{told['decisions']} decisions by {len(REVIEWERS)} reviewers, {told['kills']} kills: "
        f"{told['decisions_lost']} lost, {told['decisions_doubled']} doubled, "
        f"{told['cut_lines']} cut lines listed, {time.monotonic() - started:.0f} s"
    )
    return told


def _check_standing(journal: Journal, reviewer: str, planned: list[Line]) -> None:
    voices = {
        item: answers[reviewer] for item, answers in journal.voices().items() if reviewer in answers
    }
    if voices != standing(planned):
        raise RuntimeError(f"{journal.path}: what stands of {reviewer} is not what was decided")


def _check_every_line(journal: Journal, cut: int) -> None:
    lines = [line for line in journal.path.read_bytes().split(b"\n") if line]
    if len(lines) != 1 + len(journal.read()) + cut:
        raise RuntimeError(f"{journal.path}: a line is neither a decision nor listed as cut")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--folder", type=Path, help="where to write; by default a new folder")
    parser.add_argument("--write", metavar="REVIEWER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(options.folder, options.write, options.seed, options.decisions)
        return 0
    with tempfile.TemporaryDirectory() as place:
        told = run(options.folder or Path(place), options.seed, options.decisions, options.kills)
    print(json.dumps(told))
    return int(bool(told["decisions_lost"] or told["decisions_doubled"]))


if __name__ == "__main__":
    sys.exit(main())
