"""Decisions on whole classes: made by a person or stated in the contest file, put into the table.

- *merge*: two names stand for one subject. All images of both come under the name that is kept, and
  the other name has no image left. It keeps its place in the list of classes, and 40 gives it no
  test image. Where the contest counts both names, what is right under the other one is lost: no
  more than a coin would lose, since nothing in a picture tells which of the two is wanted. But a
  rule that knows how many test images a class has (`known_count`, `prior`) then has twice as many
  for the name that is kept, and moves what has no room there to wrong classes: for such a contest
  leave the two as they are, or give the kept name the sum in `prior` and the other one 0.
- *swap*: two names were exchanged. Each image comes under the other name.
- *split*: a name stands for two subjects. One part of its images is left out, or comes under
  another class of the contest; a new name would be of no use in a submission.
- *leave*: nothing is done, whatever the contest file says of these classes.

Decisions act one after another, those of the contest file first, then those of the journal by
their time; a person's decision takes the place of the contest file's on the same classes. Labels
that a person set image by image stay as they are: a swap and a split pass them by, and a merge
takes them to the name that is kept. The journal is only read here: to undo a decision, decide anew.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, model_validator

from fgvc_utils.contest import tables
from fgvc_utils.contest.decision import PAIR, PART, part_shown
from fgvc_utils.contest.parameters import near_name
from fgvc_utils.contest.tables import HUMAN, RULE

MERGE, SWAP, SPLIT, LEAVE = "merge", "swap", "split", "leave"
# In the gallery: the part stays, and the rest is left out.
SPLIT_REST = "split rest"
# A search in the gallery, which names the class that images come under.
RELABEL = "relabel"
CLASS_JOURNAL = "04_classes"
# The decisions of a journal that is empty.
NOBODY = pd.DataFrame(columns=["decision", "label", "time"], dtype=str)


class ClassDecision(BaseModel):
    """A decision of the contest file: `{merge: [a, b], into: a}`, `{swap: [a, b]}`, `{split: a}`.

    Parameters
    ----------
    merge
        Names of one subject, two or more.
    swap
        The two names that were exchanged.
    split
        The name of two subjects.
    into
        The name that a merge keeps; for a split the class that the part comes under, empty to leave
        it out.
    part
        For a split: an image_id of the part that goes; by default the smaller part goes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    merge: list[str] = []
    swap: list[str] = []
    split: str = ""
    into: str = ""
    part: str = ""

    @model_validator(mode="after")
    def _one_decision(self) -> "ClassDecision":
        if sum(map(bool, (self.merge, self.swap, self.split))) != 1:
            raise ValueError("give one of merge: [a, b] with into: a, swap: [a, b] and split: a")
        names = self.merge or self.swap
        if names and (len(set(names)) != len(names) or len(names) < 2):
            raise ValueError(f"{MERGE if self.merge else SWAP} needs two different classes")
        if len(self.swap) > 2:
            raise ValueError("swap exchanges two classes")
        if self.merge and self.into not in self.merge:
            raise ValueError(f"into must name the class that stays, one of {', '.join(self.merge)}")
        if self.swap and self.into:
            raise ValueError("into belongs to merge and split; swap exchanges both names")
        if self.split and self.into == self.split:
            raise ValueError("into must name another class than the one that is split")
        if self.part and not self.split:
            raise ValueError("part belongs to split: an image of the part that goes")
        return self


@dataclass(frozen=True)
class Decided:
    """A decision on classes as it is carried out.

    Parameters
    ----------
    what
        `merge`, `swap` or `split`.
    names
        The classes, one for a split.
    into
        The name that a merge keeps, or the class that a part comes under; else empty.
    part
        An image of the part that goes; empty for the smaller part.
    by
        Who decided, `rule` or `human`.
    rest
        Whether the part stays and the rest of the class goes.
    """

    what: str
    names: tuple[str, ...]
    into: str = ""
    part: str = ""
    by: str = RULE
    rest: bool = False

    @property
    def text(self) -> str:
        """The decision in words."""
        if self.what == MERGE:
            others = [name for name in self.names if name != self.into]
            return f"merge {', '.join(others)} into {self.into}"
        if self.what == SWAP:
            return f"swap {' and '.join(self.names)}"
        return f"split {self.names[0]}, a part {f'to {self.into}' if self.into else 'left out'}"


def pair_item(one: str, other: str, known: Iterable[str] = ()) -> str:
    """What the journal calls two classes; in the order of `known` where the pair is there."""
    item = json.dumps([PAIR, one, other], ensure_ascii=False)
    turned = json.dumps([PAIR, other, one], ensure_ascii=False)
    return turned if turned in set(known) else item


def part_item(name: str, image: str, part: Iterable[str] = (), known: Iterable[str] = ()) -> str:
    """What the journal calls a part of a class: the one with a certain image.

    Parameters
    ----------
    name
        The class.
    image
        The image_id that stands for the part.
    part
        All images of the part.
    known
        The items of a journal: one that names an image of this part is taken as it is.
    """
    inside = set(part)
    for item in known:
        kind, of, *rest = _read(item)
        if kind == PART and of == name and rest[0] in inside:
            return item
    return json.dumps([PART, name, image], ensure_ascii=False)


def with_items(
    found: pd.DataFrame, known: Iterable[str], latest: pd.DataFrame = NOBODY
) -> pd.DataFrame:
    """Findings with what the journal calls them, column `item`.

    Parameters
    ----------
    found
        As from `classes.find`.
    known
        The items of the journal so far: what was decided on stays decided, also where a class has
        become the larger one since, or another image stands for a part.
    latest
        As from `Journal.latest`: where the image that a decision on a part names is in no part any
        more, the others that were shown say which part is meant.
    """
    known = list(known)
    inside = {image for part in found["part"] for image in part}
    items = [
        _item_of_shown(row.name, row.part, inside, latest)
        or part_item(row.name, row.part[0], row.part, known)
        if row.part
        else pair_item(row.name, row.other, known)
        for row in found.itertuples()
    ]
    return found.assign(item=pd.Series(items, found.index, dtype=object))


def _item_of_shown(name: str, part: Iterable[str], inside: set[str], latest: pd.DataFrame) -> str:
    """The item of a journal whose image is in no part, and whose shown images are mostly of one."""
    part = set(part)
    for item, shown in zip(latest.index, latest.get("shown", []), strict=False):
        kind, of, image = _read(item)
        if kind != PART or of != name or image in inside:
            continue
        there = [each for each in part_shown(shown) if each in inside]
        if there and 2 * len(part.intersection(there)) > len(there):
            return item
    return ""


def _read(item: str) -> list[str]:
    """A journal's item as its three parts; raises ValueError where it is none."""
    try:
        found = json.loads(item)
    except ValueError:
        found = None
    right = isinstance(found, list) and len(found) == 3 and all(isinstance(x, str) for x in found)
    if not right or found[0] not in (PAIR, PART):
        raise ValueError(f"{item!r} names neither two classes nor a part of one")
    return found


def from_journal(latest: pd.DataFrame) -> list[Decided]:
    """The decisions in force of a journal on classes, the earliest first; `leave` is among them.

    Parameters
    ----------
    latest
        As from `Journal.latest`. On two classes `merge` keeps the first name, `relabel` the class
        that it names. On a part `split` leaves it out, `split rest` all but it, and `relabel`
        names the class that it comes under.

    Raises
    ------
    ValueError
        An item or a decision is not one on classes.
    """
    found = []
    for item, row in latest.sort_values("time", kind="stable").iterrows():
        kind, name, other = _read(item)
        what, label = row["decision"], row["label"]
        if what == LEAVE or (kind == PART and what == RELABEL and label == name):
            found.append(Decided(LEAVE, (name, other) if kind == PAIR else (name,), by=HUMAN))
        elif kind == PAIR and what in (MERGE, RELABEL):
            kept = name if what == MERGE else label
            names = tuple(dict.fromkeys((name, other, kept)))
            found.append(Decided(MERGE, names, kept, by=HUMAN))
        elif kind == PAIR and what == SWAP:
            found.append(Decided(SWAP, (name, other), by=HUMAN))
        elif kind == PART and what in (SPLIT, SPLIT_REST, RELABEL):
            rest = what == SPLIT_REST
            found.append(Decided(SPLIT, (name,), label, other, HUMAN, rest))
        else:
            raise ValueError(
                f"{item} was decided with {what!r}, which does not fit: two classes are merged, "
                "swapped or left, a part of one is split off or left; decide anew"
            )
    return found


def in_force(stated: Sequence[ClassDecision], latest: pd.DataFrame) -> list[Decided]:
    """The decisions on classes that count, in the order in which they act.

    Parameters
    ----------
    stated
        Those of the contest file.
    latest
        Those of people, as from `Journal.latest`.
    """
    people = from_journal(latest)
    theirs = {frozenset(each.names) for each in people}
    rules = []
    for each in stated:
        what = next(name for name in (MERGE, SWAP, SPLIT) if getattr(each, name))
        names = (each.split,) if each.split else tuple(each.merge or each.swap)
        if frozenset(names) not in theirs:
            rules.append(Decided(what, names, each.into, each.part))
    return [each for each in [*rules, *people] if each.what != LEAVE]


def usable(latest: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The decisions of people on classes and images that the contest has.

    Parameters
    ----------
    latest
        As from `Journal.latest`.
    table
        The label table.

    Returns
    -------
    pd.DataFrame
        Rows of `latest`. Where the image that stands for a part left, the row names another one of
        that part, by what was shown with the decision. The others stay in the journal: a class
        that was renamed may come back.

    Raises
    ------
    ValueError
        As `from_journal` does.
    """
    there = _named_now(latest, table)
    found = latest[np.array([item in there for item in latest.index], bool)]
    return found.set_axis(pd.Index([there[i] for i in found.index], dtype=object, name="item"))


def unused(latest: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `latest` that are not `usable`."""
    there = _named_now(latest, table)
    return latest[np.array([item not in there for item in latest.index], bool)]


def _named_now(latest: pd.DataFrame, table: pd.DataFrame) -> dict[str, str]:
    """The items whose classes and images the contest has → the same by an image that is there."""
    classes, images = set(table["given"]), set(table["image_id"])
    found = {}
    for number, item in enumerate(latest.index):
        (each,) = from_journal(latest.iloc[[number]])
        kind, name, image = _read(item)
        if not {*each.names, *filter(None, [each.into])} <= classes:
            continue
        if kind == PAIR or image in images or each.what == LEAVE:
            found[item] = item
            continue
        shown = part_shown(latest["shown"].iloc[number]) if "shown" in latest else []
        if others := [other for other in shown if other in images]:
            found[item] = json.dumps([PART, name, others[0]], ensure_ascii=False)
    return found


def told_unused(latest: pd.DataFrame, table: pd.DataFrame) -> list[pd.DataFrame]:
    """The decisions that are not `usable` as tables to show, none or one; printed is how many."""
    left = unused(latest, table)
    if left.empty:
        return []
    print(
        f"{len(left)} of {len(latest)} decisions on classes change nothing, since the contest "
        "lacks a class or an image of theirs; they stay in the journal"
    )
    return [left[["decision", "label"]]]


def check_decisions(decided: Iterable[Decided], classes: Iterable[str], where: str) -> None:
    """Check that decisions name classes of the contest.

    Parameters
    ----------
    decided
        As from `in_force`.
    classes
        All classes.
    where
        What states them, for the message.

    Raises
    ------
    ValueError
        Naming the first unknown class.
    """
    known = set(classes)
    for each in decided:
        for name in [*each.names, *filter(None, [each.into])]:
            if name not in known:
                raise ValueError(
                    f"{where}: {each.text}: the contest has no class {name!r}"
                    f"{near_name(name, known)}"
                )


def applied(
    table: pd.DataFrame,
    decided: Sequence[Decided],
    parts: Mapping[Decided, Sequence[str]],
    stage: str,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put decisions on classes into the table.

    A merge also returns what a rule had left out because it could not tell the names apart: images
    that came under one of them and are likeliest to show the other.

    Parameters
    ----------
    table
        The label table; it stays as it is.
    decided
        As from `in_force`.
    parts
        For each split the image ids of the part that goes.
    stage
        The stage that puts them in.

    Returns
    -------
    table : pd.DataFrame
        A label table.
    told : pd.DataFrame
        A row a decision: columns decision, by and images (how many rows it changed).
    """
    table, rows = table.copy(), []
    stands_for: dict[str, str] = {}
    for each in decided:
        free = tables.kept(table) & ~tables.decided_by_person(table)
        before = table[["label", "status"]].copy()
        if each.what == MERGE:
            into = each.into
            while into in stands_for:
                into = stands_for[into]
            others = [name for name in each.names if name != into]
            stands_for |= dict.fromkeys(others, into)
            _merge(table, others, into, each.by, stage)
        elif each.what == SWAP:
            one, other = each.names
            for name, new in ((one, other), (other, one)):
                _relabel(table, free & before["label"].eq(name), new, each.by, stage, "swapped")
        else:
            goes = free & table["label"].eq(each.names[0])
            goes &= table["image_id"].isin(set(parts[each]))
            if each.into:
                _relabel(table, goes, each.into, each.by, stage, "relabelled")
            else:
                table = tables.leave_out(table, goes, stage, "split", by=each.by)
        changed = (before != table[["label", "status"]]).any(axis=1)
        rows.append((each.text, each.by, int(changed.sum())))
    return table, pd.DataFrame(rows, columns=["decision", "by", "images"])


def _merge(table: pd.DataFrame, others: Sequence[str], into: str, by: str, stage: str) -> None:
    names = [*others, into]
    doubted = (table["status"] == "drop") & (table["cause"] == "label") & (table["by"] != HUMAN)
    torn = doubted & table["given"].isin(names) & table["suggested"].isin(names)
    moved = tables.kept(table) & table["label"].isin(others)
    by_hand = moved & tables.decided_by_person(table)
    table.loc[by_hand, "label"] = into
    table.loc[torn, "status"] = "keep"
    _relabel(table, (moved & ~by_hand) | torn, into, by, stage, "merged")


def _relabel(
    table: pd.DataFrame, rows: pd.Series, label: str, by: str, stage: str, cause: str
) -> None:
    table.loc[rows, "label"] = label
    table.loc[rows, ["stage", "by", "cause"]] = [stage, by, cause]
    table.loc[rows, "reason"] = f"{'human' if by == HUMAN else 'class_decisions'}: {cause}"
