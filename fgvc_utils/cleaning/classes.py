"""Whole classes that are not what their names say: one under two names, two under one, exchanged.

Found from frozen features and the labels in the table; nothing is decided here. What can be known:

- *one*: images of two classes that a classifier cannot tell apart when it has not seen them. Among
  the images that show one of the two, whatever label they have, so that what 03 made of the labels
  does not decide.
- *two*: a class whose images lie in two clusters, parted more like two real classes that are
  thrown together and cut without their names than like one class. A cut through one cloud is no
  finding, and each part must be a fair share of the class.
- *another*: most images of a class show another class, which has its own images too: by what 03
  suggests, or since the larger of its two parts cannot be told from the other class.
- *swapped*: two names that were exchanged. From images and names alone this is not to be seen: with
  all names of two classes exchanged, every image still agrees with all others of its name. It takes
  images whose class somebody knows. Where the images that a person confirmed or relabelled in 01 to
  03 lie among those of the other name, both ways, the names were exchanged. An exchange of a part
  can be seen, but not which part has the right names: 03 takes that of the majority. Where that is
  wrong, a swap mends it.

A finding is a proposal, made for a person to look at.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from fgvc_utils.cleaning.class_decisions import SPLIT, Decided
from fgvc_utils.cleaning.class_images import Seen, likely_pairs
from fgvc_utils.cleaning.telling import (
    CLOUD,
    FOLDS,
    MOST,
    SAMPLE,
    Apart,
    Cut,
    cut_in_two,
    like_first,
    once,
    space_of,
    tell_apart,
)
from fgvc_utils.contest.parameters import CountOrZero, Parameters, Share
from fgvc_utils.core.intervals import wilson

ONE, TWO, SWAPPED, ANOTHER = "one", "two", "swapped", "another"
COLUMNS = ["kind", "name", "other", "images", "other_images", "share", "low", "high", "why", "part"]
# Fewer images of a class than this say nothing.
FEWEST = 10
# Pairs of classes that show how clearly two classes part; more would tell little.
TOGETHER = 100
# More images of two classes than this share under each other's names are an exchange.
EXCHANGED = 0.2


class ClassParams(Parameters):
    """The parameters of `find`."""

    compared_classes: CountOrZero
    one_below: Share
    two_above: Share
    least_part: Share


# Settings that compare nothing.
NOTHING = ClassParams(compared_classes=0, one_below=0, two_above=1, least_part=0)


def find(
    features: np.ndarray, table: pd.DataFrame, cfg: ClassParams, seed: int = 0
) -> pd.DataFrame:
    """Find classes that are one, two, another's or swapped.

    Parameters
    ----------
    features
        Frozen features of the images, float (images, width).
    table
        The rows of the label table of the same images, in their order: train images whose label was
        judged.
    cfg
        The settings: how many nearest classes each class is compared with (0 finds nothing), and
        the bars.
    seed
        What is drawn follows from it.

    Returns
    -------
    pd.DataFrame
        A row a finding, the clearest of a kind first. Columns `kind`; `name` and `other`, the
        classes (other is empty where there is none); `images` and `other_images`, how many images
        came under each; `share` with its interval `low` and `high`, the figure that `why` puts in
        words; and `part`, the image ids of the part of `name` that a split would take away. Two
        classes are in one row at most.
    """
    seen = Seen.of(features, table)
    if not cfg.compared_classes or len(seen.names) < 2 or (seen.label < 0).all():
        return pd.DataFrame(columns=COLUMNS)
    look = _Look(seen, cfg, seed)
    rows = [found for pair in look.pairs for found in look.of_pair(*pair)]
    rows += [found for name in range(len(seen.names)) for found in look.of_class(name)]
    return _each_once(pd.DataFrame(rows, columns=COLUMNS))


def parts(
    features: np.ndarray, table: pd.DataFrame, decided: Iterable[Decided], seed: int = 0
) -> dict[Decided, list[str]]:
    """The part of a class that each split takes away.

    Parameters
    ----------
    features, table, seed
        As for `find`.
    decided
        Decisions on classes, of which those that split are answered.

    Returns
    -------
    dict
        Decision → image ids: the part with the image that the decision names, or the smaller part
        where it names none or one that is no longer in force, or what is left beside that part;
        none where the class has too few images to be cut.
    """
    splits = [each for each in decided if each.what == SPLIT]
    if not splits:
        return {}
    look = _Look(Seen.of(features, table), NOTHING, seed)
    return {each: look.part(each) for each in splits}


class _Shows(NamedTuple):
    """How many images of a class show another one, with the interval, and the share that show it.

    By what was suggested of them.
    """

    hits: int
    images: int
    low: float
    high: float
    own: float


class _Look:
    """What the search for findings shares."""

    def __init__(self, seen: Seen, cfg: ClassParams, seed: int) -> None:
        self.seen, self.cfg, self.seed = seen, cfg, seed
        # Labels that are not believed would make what parts classes look like scatter within them.
        rows = stands = np.flatnonzero(seen.label >= 0)
        if len(rows) > SAMPLE:
            rows = np.sort(np.random.default_rng(seed).choice(rows, SAMPLE, replace=False))
        share = len(rows) / max(len(stands), 1)
        self.space = space_of(seen.features[rows], seen.label[rows], share)
        self.known = np.flatnonzero(seen.by_hand)
        self.pairs = self._likely() if cfg.compared_classes else []
        self.apart = {pair: self._tell(*pair) for pair in self.pairs}
        self.cuts = self._cuts() if cfg.compared_classes else {}
        self.clear_when_two = self._thrown_together()

    def _likely(self) -> list[tuple[int, int]]:
        """The nearest classes, and those between which images moved."""
        seen = self.seen
        centres = [seen.features[r].mean(axis=0, dtype="f4") for r in seen.came_under]
        pairs = set(likely_pairs(np.stack(centres), self.cfg.compared_classes))
        moved = seen.by_hand & (seen.given != seen.label)
        for given, label in zip(seen.given[moved], seen.label[moved], strict=True):
            pairs.add((int(min(given, label)), int(max(given, label))))
        for name, rows in enumerate(seen.came_under):
            shown = seen.suggested[rows][seen.suggested[rows] >= 0]
            most = int(np.bincount(shown).argmax()) if len(shown) else name
            if most != name:
                pairs.add((min(name, most), max(name, most)))
        # Nothing is found of a pair with fewer images, so thousands of small classes cost nothing.
        enough = [len(rows) >= FOLDS for rows in seen.came_under]
        return sorted(pair for pair in pairs if enough[pair[0]] and enough[pair[1]])

    def _tell(self, one: int, other: int) -> Apart | None:
        seen, rows = self.seen, self.seen.of_pair(one, other)
        return self._tell_rows(rows[seen.given[rows] == one], rows[seen.given[rows] == other])

    def _tell_rows(self, one: np.ndarray, other: np.ndarray) -> Apart | None:
        rows = np.concatenate([one, other])
        side = np.arange(len(rows)) < len(one)
        return tell_apart(self.seen.features[rows], side, self.seen.groups[rows], self.seed)

    def _cut(self, rows: np.ndarray) -> Cut:
        points = self.space.of(self.seen.features[rows], self.seen.label[rows])
        return cut_in_two(points, self.seed)

    def _once(self, rows: np.ndarray) -> np.ndarray:
        """A row a group of copies."""
        return once(rows, self.seen.groups)

    def _thrown_together(self) -> float:
        """How clearly pairs of real classes part when they are cut without their names.

        The lower quartile of some pairs of nearest classes; 0 where there are too few of them.
        """
        random, clear = np.random.default_rng(self.seed), []
        told = [p for p, found in self.apart.items() if found and found.low > self.cfg.one_below]
        for pair in random.permutation(np.array(told).reshape(-1, 2))[:TOGETHER].tolist():
            both = [self._once(self.seen.stands_under[name]) for name in pair]
            fewest = min(map(len, both))
            if fewest * 2 < FEWEST:
                continue
            # As uneven as a part may be at most.
            most = int(fewest * (1 - self.cfg.least_part) / max(self.cfg.least_part, 0.1))
            both = [
                rows if len(rows) <= most else random.choice(rows, most, False) for rows in both
            ]
            clear.append(self._cut(np.concatenate(both)).clear)
        return float(np.quantile(clear, 0.25)) if len(clear) >= 4 else 0.0

    def _cuts(self) -> dict[int, Cut]:
        """A cut through each class that has enough images."""
        once = [self._once(rows) for rows in self.seen.stands_under]
        return {name: self._cut(rows) for name, rows in enumerate(once) if len(rows) >= FEWEST}

    def _is_two(self, cut: Cut) -> bool:
        """Whether a cut parts two subjects: fairly, clearly, and more like it parts classes."""
        fair = cut.smaller.mean() >= self.cfg.least_part
        clear = cut.clear >= self.cfg.two_above and cut.low > CLOUD
        usual = float(np.median([each.clear for each in self.cuts.values()])) if self.cuts else 0
        return bool(fair and clear and cut.clear >= (usual + self.clear_when_two) / 2)

    def of_pair(self, one: int, other: int) -> list[dict]:
        """What is found of two classes, at most one finding."""
        seen = self.seen
        if len(seen.came_under[one]) < len(seen.came_under[other]):
            one, other = other, one
        found = self._by_people(one, other) or self._as_one(one, other)
        return [row for row in [found or self._by_suggestions(one, other)] if row]

    def _by_people(self, one: int, other: int) -> dict | None:
        """Exchanged names, by images whose class a person knows."""
        seen, rows = self.seen, self.seen.of_pair(one, other)
        known = self.known[np.isin(seen.label[self.known], [one, other])]
        rows = rows[~seen.by_hand[rows]]
        first = seen.given[rows] == one
        if set(seen.label[known]) != {one, other} or min(first.sum(), (~first).sum()) < FOLDS:
            return None
        theirs = like_first(seen.features[rows], first, seen.features[known])
        wrong = int((theirs != (seen.label[known] == one)).sum())
        low, high = wilson(wrong, len(known))
        if low <= 0.5:
            return None
        why = (
            f"{wrong} of {len(known)} images whose class a person knows lie among those of the "
            f"other name ({low:.0%} to {high:.0%})"
        )
        return self._row(SWAPPED, one, other, (wrong / len(known), low, high), why)

    def _as_one(self, one: int, other: int) -> dict | None:
        """Two names for one subject; or of two subjects whose names are well mixed."""
        seen, rows = self.seen, self.seen.of_pair(one, other)
        for name in (one, other):
            fits = (seen.given[rows] == name).sum()
            # Else few of its images are what is compared, and the others something else.
            if fits < FEWEST or fits * 2 < len(seen.came_under[name]):
                return None
        apart, once = self.apart[min(one, other), max(one, other)], self._once(rows)
        # Names that tell images apart are no mixture, whatever else parts the images.
        if apart is None or apart.share >= self.cfg.one_below:
            return None
        cut = self._cut(once)
        if self._is_two(cut):
            return self._mixed(one, other, once, cut)
        # Where features hardly tell any near classes apart, they say nothing of these two either.
        if apart.high >= min(self.cfg.one_below, self._usual):
            return None
        drawn = np.random.default_rng(self.seed).integers(0, len(seen.ids), 4 * MOST)
        others = np.setdiff1d(drawn[seen.given[drawn] >= 0], rows)
        subject = self._tell_rows(rows, others)
        if subject and subject.low <= self.cfg.one_below:
            return None
        why = (
            "given one image of each, a held-out classifier tells which is which in "
            f"{apart.share:.0%} of cases ({apart.low:.0%} to {apart.high:.0%}; chance is 50%"
            f", near classes here {self._usual:.0%})"
        )
        return self._row(ONE, one, other, (apart.share, apart.low, apart.high), why)

    @cached_property
    def _usual(self) -> float:
        """How well near classes are told apart here: the median."""
        return float(np.median([found.share for found in self.apart.values() if found]))

    def _mixed(self, one: int, other: int, rows: np.ndarray, cut: Cut) -> dict | None:
        """Two subjects, both of which come under both names."""
        first, named = cut.along > 0, self.seen.given[rows] == one
        if (first != named).sum() * 2 > len(rows):
            first = ~first
        moved = [int((first[named == side] != side).sum()) for side in (True, False)]
        ends = [wilson(*each) for each in zip(moved, (named.sum(), (~named).sum()), strict=True)]
        exchanged = sum(moved)
        low, high = wilson(exchanged, len(rows))
        # Else one of the two names alone is that of two subjects.
        if low <= EXCHANGED or min(each for each, _ in ends) <= EXCHANGED / 2:
            return None
        why = (
            f"together they show two subjects, and {exchanged} of {len(rows)} images came under "
            f"the other one's name ({low:.0%} to {high:.0%}), if most names are right"
        )
        return self._row(SWAPPED, one, other, (exchanged / len(rows), low, high), why)

    def _by_suggestions(self, one: int, other: int) -> dict | None:
        """What the labels that 02 and 03 suggested say of two classes."""
        there, back = self._shows(one, other), self._shows(other, one)
        if min(there.images, back.images) < FEWEST:
            return None
        if min(there.low, back.low) > EXCHANGED:
            hits, images = there.hits + back.hits, there.images + back.images
            why = (
                f"{there.hits} of {there.images} images of the one show the other, and "
                f"{back.hits} of {back.images} the other way, if most names are right"
            )
            return self._row(SWAPPED, one, other, (hits / images, *wilson(hits, images)), why)
        for name, another, shows, own in ((one, other, there, back), (other, one, back, there)):
            if shows.low > 0.5 and own.own > 0.5:
                why = (
                    f"{shows.hits} of its {shows.images} images show {self.seen.names[another]} by "
                    f"what the label stages suggest ({shows.low:.0%} to {shows.high:.0%})"
                )
                figures = (shows.hits / shows.images, shows.low, shows.high)
                return self._row(ANOTHER, name, another, figures, why)
        return None

    def _shows(self, name: int, another: int) -> "_Shows":
        suggested = self.seen.suggested[self.seen.came_under[name]]
        hits, images = int((suggested == another).sum()), len(suggested)
        own = float((suggested == name).mean()) if images else 0.0
        return _Shows(hits, images, *(wilson(hits, images) if images else (0.0, 1.0)), own)

    def of_class(self, name: int) -> list[dict]:
        """What is found of a class by itself, at most one finding."""
        cut = self.cuts.get(name)
        if cut is None or not self._is_two(cut):
            return []
        rows = self._once(self.seen.stands_under[name])
        small, names = cut.smaller, self.seen.names
        together = self.clear_when_two
        usual = f", most pairs of classes {together:.0%} or more" if together else ""
        why = (
            f"two clusters: a cut takes away {cut.clear:.0%} of the scatter between them "
            f"({cut.low:.0%} to {cut.high:.0%}; one cloud {CLOUD:.0%}{usual})"
        )
        figures = (cut.clear, cut.low, cut.high)
        larger = self._same_as(name, rows[~small])
        part = self._with_copies(name, rows[small])
        if larger is not None:
            other, apart = larger
            part = self._with_copies(name, rows[~small])
            why = (
                f"the larger of its two parts, {(~small).sum()} of {len(rows)} images, is told "
                f"from {names[other]} in {apart.share:.0%} of cases ({apart.low:.0%} to "
                f"{apart.high:.0%}; chance is 50%); {why}"
            )
            return [self._row(ANOTHER, name, other, figures, why, part)]
        smaller = self._same_as(name, rows[small])
        if smaller is not None:
            other, apart = smaller
            why += (
                f"; the smaller part, {small.sum()} of {len(rows)} images, is told from "
                f"{names[other]} in {apart.share:.0%} of cases"
            )
            return [self._row(TWO, name, other, figures, why, part)]
        why += f"; the smaller part has {small.sum()} of {len(rows)} images"
        return [self._row(TWO, name, None, figures, why, part)]

    def _same_as(self, name: int, part: np.ndarray) -> tuple[int, Apart] | None:
        """The class among the nearest that a part of another cannot be told from."""
        far = np.linalg.norm(
            self.centres - self.seen.features[part].mean(axis=0, dtype="f4"), axis=1
        )
        far[name] = np.inf
        for other in np.argsort(far)[:2].tolist():
            apart = self._tell_rows(part, self.seen.stands_under[other])
            if apart and apart.high < self.cfg.one_below:
                return other, apart
        return None

    @cached_property
    def centres(self) -> np.ndarray:
        """The mean of the images in force of each class, float32; endless where it has none."""
        rows, features = self.seen.stands_under, self.seen.features
        nowhere = np.full(features.shape[1], np.inf, np.float32)
        return np.stack([features[r].mean(axis=0, dtype="f4") if len(r) else nowhere for r in rows])

    def _with_copies(self, name: int, rows: np.ndarray) -> list[str]:
        """Image ids of a part of a class, copies of its images among them."""
        of_class = self.seen.stands_under[name]
        inside = np.isin(self.seen.groups[of_class].astype(str), self.seen.groups[rows].astype(str))
        return self.seen.ids[of_class[inside]].tolist()

    def part(self, decided: Decided) -> list[str]:
        """The image ids that a split takes away; see `parts`."""
        name = self.seen.names.index(decided.names[0])
        rows = self._once(self.seen.stands_under[name])
        if len(rows) < FOLDS:
            return []
        small = self._cut(rows).smaller
        part, rest = self._with_copies(name, rows[small]), self._with_copies(name, rows[~small])
        if decided.part in rest:
            part, rest = rest, part
        return rest if decided.rest else part

    def _row(
        self,
        kind: str,
        name: int,
        other: int | None,
        figures: tuple[float, float, float],
        why: str,
        part: list[str] | None = None,
    ) -> dict:
        seen, numbers = self.seen, dict(zip(("share", "low", "high"), figures, strict=True))
        return {
            "kind": kind,
            "name": seen.names[name],
            "other": "" if other is None else seen.names[other],
            "images": len(seen.came_under[name]),
            "other_images": 0 if other is None else len(seen.came_under[other]),
            **numbers,
            "why": why,
            "part": part or [],
        }


def _each_once(found: pd.DataFrame) -> pd.DataFrame:
    """Each pair once, by the kind that comes first here; the clearest of a kind first."""
    rank = found["kind"].map({SWAPPED: 0, ONE: 1, ANOTHER: 2, TWO: 3})
    clear = found["share"].where(found["kind"] == ONE, -found["share"].astype(float))
    found = found.assign(rank=rank, clear=clear).sort_values(["rank", "clear"], kind="stable")
    about = [
        (name,) if kind == TWO else tuple(sorted((name, other)))
        for kind, name, other in zip(found["kind"], found["name"], found["other"], strict=True)
    ]
    return found[~pd.Series(about, found.index).duplicated()][COLUMNS].reset_index(drop=True)
