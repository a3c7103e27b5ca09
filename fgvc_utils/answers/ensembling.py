"""What members, ways and their vote answer, a block of images at a time.

All that reads predictions goes through `MemberOutputs.blocks`, a few rows of all members at a time,
so that no member's predictions lie in memory as a whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from fgvc_utils.answers.calibration import Calibration
from fgvc_utils.answers.refitted import with_refits
from fgvc_utils.answers.ways import (
    Block,
    Way,
    answers,
    members_of,
    vote,
    voters,
    without,
)
from fgvc_utils.contest import tables
from fgvc_utils.contest.inventory import readable
from fgvc_utils.core.files import require_space
from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store, same_classes

# Rows of a block: 15 members, 5,000 classes and float32 make 154 MB.
ROWS = 512
# The column of the vote beside those of the ways.
VOTE = "vote"


class MemberOutputs:
    """The logits that several models stored, by name, aligned by image id.

    Parameters
    ----------
    folders : Mapping[str, Path]
        Name → the folder of a model or a job.
    stores : Mapping[str, Path], optional
        Name → a store of logits in place of the folder's own predictions, such as those of several
        test-time crops.
    refits : Mapping[str, Path], optional
        Name → the folder of the model's refit, which answers for the images that it predicts.
    refit_stores : Mapping[str, Path], optional
        Name → a store of logits in place of the refit's own predictions.

    Raises
    ------
    ValueError
        There is no model, or two differ in their classes; names both and the first class that one
        lacks.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        stores: Mapping[str, Path] | None = None,
        refits: Mapping[str, Path] | None = None,
        refit_stores: Mapping[str, Path] | None = None,
    ) -> None:
        if not folders:
            raise ValueError("an ensemble needs at least one model: run 10_train first")
        own = {name: Path(folder) / "predictions" for name, folder in folders.items()}
        found = {name: Store(path) for name, path in (own | dict(stores or {})).items()}
        self.stores = with_refits(found, refits or {}, refit_stores)
        self.classes = same_classes(list(self.stores.values()))

    def check(self, image_ids: Sequence[str]) -> None:
        """Make sure that every model predicted every image.

        Raises
        ------
        KeyError
            One did not; names the folder and the first image.
        """
        for store in self.stores.values():
            store.rows_of(image_ids)

    def blocks(
        self, image_ids: Sequence[str], names: Sequence[str] | None = None, rows: int = ROWS
    ) -> Iterator[tuple[slice, Block]]:
        """Read the members' softmax, a block of images at a time.

        Parameters
        ----------
        image_ids : sequence of str
            The images, in the order wanted.
        names : sequence of str, optional
            The members; all where none are given.
        rows : int
            The most images of a block.

        Yields
        ------
        tuple of slice and dict
            The place of the block among the images, and member → float32 (block, classes). Without
            images there is one empty block, so that every name is known.

        Raises
        ------
        KeyError
            A member did not predict an image; before the first block.
        """
        names = list(self.stores) if names is None else list(names)
        places = {name: self.stores[name].rows_of(image_ids) for name in names}
        for start in range(0, max(1, len(image_ids)), rows):
            part = slice(start, min(start + rows, len(image_ids)))
            yield part, {name: self._softmax(name, places[name][part]) for name in names}

    def _softmax(self, name: str, rows: np.ndarray) -> np.ndarray:
        values = self.stores[name].read_rows("logits", rows).astype(np.float32)
        # In place: three arrays of this size for each member would be most of the memory.
        values -= values.max(axis=1, keepdims=True)
        np.exp(values, out=values)
        values /= values.sum(axis=1, keepdims=True)
        return values


class Asked(NamedTuple):
    """The images that an ensemble answers for; see `asked_images`.

    Attributes
    ----------
    judged : list of str
        Ids of the held-out images, in the table's order.
    test : list of str
        Ids of the test images, in the table's order.
    truth : pd.Series
        The label in force of each held-out image, by its id.
    group : pd.Series
        The group of near duplicates of each held-out image, by its id.
    """

    judged: list[str]
    test: list[str]
    truth: pd.Series
    group: pd.Series


def asked_images(table: pd.DataFrame, inventory: pd.DataFrame, held_out_fold: int) -> Asked:
    """Find the readable images that judge an ensemble, and those it is for.

    Parameters
    ----------
    table : pd.DataFrame
        A label table (see `contest.tables`).
    inventory : pd.DataFrame
        That of `read_inventory`; its rows meet the table's by image_id.
    held_out_fold : int
        The fold whose kept images judge; -1 for none.

    Raises
    ------
    KeyError
        Naming an image of the table that the inventory does not know.
    """
    there = table[readable(inventory, table)]
    judged = there[tables.kept(there) & (there["fold"] == held_out_fold)].set_index("image_id")
    test = there.loc[there["split"] == "test", "image_id"].tolist()
    return Asked(judged.index.tolist(), test, judged["label"], judged["group"])


@dataclass(frozen=True)
class Judged:
    """How ways fare on images.

    Attributes
    ----------
    answers : pd.DataFrame
        Each way's best class, int32, a row an image (by id), a column a way.
    own : pd.DataFrame
        Each way's probability of the image's label, float32, of the same shape.
    left_out : pd.DataFrame
        The vote's best class without one voter or one member, int32, a row an image; columns of two
        levels, `voter` or `member` and its name.
    labels : np.ndarray
        The number of each image's label among the classes, int32 (images,); -1 for none.
    """

    answers: pd.DataFrame
    own: pd.DataFrame
    left_out: pd.DataFrame
    labels: np.ndarray

    @property
    def hits(self) -> pd.DataFrame:
        """Whether each answer is the label: boolean, a row an image, a column a way."""
        return self.answers.eq(self.labels, axis=0)

    @property
    def hits_left_out(self) -> pd.DataFrame:
        """Whether the vote without one is right: boolean, columns as those of `left_out`."""
        return self.left_out.eq(self.labels, axis=0)

    @property
    def top1(self) -> dict[str, float]:
        """Top-1 of each way by name; 0 where there is no image."""
        return self.hits.mean().fillna(0.0).to_dict()

    def join(self, other: "Judged") -> "Judged":
        """Append further images that the same ways answered for.

        What was left out on one side alone is dropped: it is not known for all images.
        """
        return Judged(
            pd.concat([self.answers, other.answers]),
            pd.concat([self.own, other.own]),
            pd.concat([self.left_out, other.left_out], join="inner"),
            np.concatenate([self.labels, other.labels]),
        )

    def beside(self, other: "Judged") -> "Judged":
        """Put further ways that answered for the same images beside these."""
        return Judged(
            self.answers.join(other.answers),
            self.own.join(other.own),
            self.left_out,
            self.labels,
        )


def judge(
    stored: MemberOutputs,
    image_ids: Sequence[str],
    labels: Sequence[str],
    ways: Sequence[Way],
    voting: Sequence[str] = (),
) -> Judged:
    """Let ways and their vote answer for images, a block at a time.

    Where there is a vote, it is also asked what it would be without each voter, and without each
    member of a combination: a way that loses its only member has no vote then, and ways that become
    identical vote once.

    Parameters
    ----------
    stored : MemberOutputs
        What the members predicted.
    image_ids : sequence of str
        The images.
    labels : sequence of str
        Their labels; one that is no class, such as an empty one, is always missed.
    ways : sequence of Way
        Those that answer.
    voting : sequence of str
        Names of the ways that vote; none means no vote.

    Returns
    -------
    Judged
        Its columns are the ways, and `vote` where there is one.

    Raises
    ------
    KeyError
        A member did not predict an image.
    """
    index = {name: number for number, name in enumerate(stored.classes)}
    truth = np.array([index.get(label, -1) for label in labels], dtype=np.int32)
    chosen = [way for way in ways if way.name in set(voting)]
    left_out = _votes_left_out(chosen)
    best: dict[str, np.ndarray] = {}
    own: dict[str, np.ndarray] = {}
    best_left_out = {key: np.zeros(len(truth), np.int32) for key in left_out}
    for where, block in stored.blocks(image_ids, members_of(ways)):
        results = answers(block, ways)
        # One result at a time: a block of a dozen of them is more than one of all members.
        for key, voting_then in left_out.items():
            changed = answers(block, [way for way in voting_then if way not in ways])
            votes = [changed.get(way.name, results[way.name]) for way in voting_then]
            best_left_out[key][where] = vote(votes).argmax(axis=1)
        if chosen:
            results[VOTE] = vote([results[way.name] for way in chosen])
        for name, scores in results.items():
            best.setdefault(name, np.zeros(len(truth), np.int32))[where] = scores.argmax(axis=1)
            of_label = scores[np.arange(len(scores)), np.maximum(truth[where], 0)]
            own.setdefault(name, np.zeros(len(truth), np.float32))[where] = of_label
    rows = pd.Index(image_ids, dtype=object)
    return Judged(
        pd.DataFrame(best, index=rows),
        pd.DataFrame(own, index=rows),
        _by_two_levels(best_left_out, rows),
        truth,
    )


def _votes_left_out(voting: Sequence[Way]) -> dict[tuple[str, str], list[Way]]:
    """Who votes where one voter, or one member of a combination, is left out."""
    found: dict[tuple[str, str], list[Way]] = {}
    for way in voting if len(voting) > 1 else ():
        found["voter", way.name] = [other for other in voting if other is not way]
    for member in members_of(voting):
        left = [rest for way in voting if (rest := without(way, member))]
        holding = sum(member in way.weights for way in voting)
        # A member that is a voter by itself and nothing else is left out above.
        if left and len(voting) - len(left) < holding:
            names = set(voters(left))
            found["member", member] = [way for way in left if way.name in names]
    return found


def _by_two_levels(columns: dict[tuple[str, str], np.ndarray], rows: pd.Index) -> pd.DataFrame:
    """A frame with columns of two levels, also where there is no column."""
    frame = pd.DataFrame(dict(enumerate(columns.values())), index=rows)
    levels = [[kind for kind, _ in columns], [name for _, name in columns]]
    return frame.set_axis(pd.MultiIndex.from_arrays(levels, names=["kind", "name"]), axis=1)


@dataclass(frozen=True)
class Part:
    """Some images, and the ways that answer for them.

    Attributes
    ----------
    image_ids : sequence of str
        The images.
    ways : sequence of Way
        The ways; of one name in all parts of an ensemble, though their weights may differ.
    """

    image_ids: Sequence[str]
    ways: Sequence[Way]


def judge_parts(
    stored: MemberOutputs, parts: Sequence[Part], truth: pd.Series, voting: Sequence[str]
) -> Judged:
    """Judge several parts, each by its own ways, as one; see `judge`.

    Parameters
    ----------
    stored : MemberOutputs
        What the members predicted.
    parts : sequence of Part
        One or more, of the same names of ways.
    truth : pd.Series
        The label of each image, by its id.
    voting : sequence of str
        Names of the ways that vote.
    """
    first, *others = (
        judge(stored, part.image_ids, truth[part.image_ids], part.ways, voting) for part in parts
    )
    for other in others:
        first = first.join(other)
    return first


def vote_scores(
    stored: MemberOutputs, parts: Sequence[Part], voting: Sequence[str], image_ids: Sequence[str]
) -> np.ndarray:
    """Return the vote's scores of images, as `write_scores` writes them.

    Parameters
    ----------
    stored, parts, voting
        As for `write_scores`.
    image_ids : sequence of str
        The images of the parts, in the order wanted.

    Returns
    -------
    np.ndarray
        Float32 (images, classes).
    """
    place = {image: number for number, image in enumerate(image_ids)}
    scores = np.zeros((len(image_ids), len(stored.classes)), np.float32)
    for part in parts:
        rows = np.array([place[image] for image in part.image_ids], dtype=np.int64)
        for where, block in _votes(stored, part, voting):
            scores[rows[where]] = block
    return scores


def _votes(
    stored: MemberOutputs, part: Part, voting: Sequence[str]
) -> Iterator[tuple[slice, np.ndarray]]:
    """The vote's scores of a part, a block at a time, with its place."""
    chosen = [way for way in part.ways if way.name in set(voting)]
    for where, block in stored.blocks(part.image_ids, members_of(chosen)):
        yield where, vote(list(answers(block, chosen).values()))


def write_scores(
    stored: MemberOutputs,
    parts: Sequence[Part],
    voting: Sequence[str],
    folder: Path,
    calibrations: Sequence[Calibration] = (),
) -> Store:
    """Write the vote's scores, part after part, a block at a time.

    Parameters
    ----------
    stored : MemberOutputs
        What the members predicted.
    parts : sequence of Part
        The images, each once.
    voting : sequence of str
        Names of the ways that vote.
    folder : Path
        Where the store is written: its array `scores` is float32 (images, classes), votes + mean
        probability, or calibrated probabilities.
    calibrations : sequence of Calibration
        One for each part; none leaves the scores as they are.

    Raises
    ------
    KeyError
        A member did not predict an image; names both, before anything is written.
    NotEnoughSpace
        The disk has no space for the scores.
    """
    ids = [image for part in parts for image in part.image_ids]
    for part in parts:
        for member in members_of(part.ways):
            stored.stores[member].rows_of(part.image_ids)
    needed = len(ids) * len(stored.classes) * np.dtype(np.float32).itemsize
    require_space(folder, needed, f"the scores of {len(ids)} images", "or name another folder")
    writer, start = ShardWriter(folder, 0, ids), 0
    for number, part in enumerate(parts):
        for where, scores in _votes(stored, part, voting):
            if calibrations:
                scores = calibrations[number].applied(scores)
            writer.write("scores", start + where.start, scores)
        start += len(part.image_ids)
    writer.close()
    finish_store(folder, stored.classes, 1)
    return Store(folder)
