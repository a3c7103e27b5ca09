"""Combine what several models say: means, votes, who adds what, and which members an ensemble has.

A way is a dict of member → weight, the weights summing to 1; what it says is the weighted mean of
its members' softmax. All that reads predictions goes through `blocks`, a few rows of all members
at a time, so that no member's predictions lie in memory as a whole.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fgvc_utils.core.files import require_space
from fgvc_utils.core.intervals import wilson
from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store, same_classes
from fgvc_utils.jobs.records import read_job
from fgvc_utils.jobs.rows import fitted_images

# Rows of a block: 15 members, 5,000 classes and float32 make 154 MB.
ROWS = 512
# What a member says of a label is taken for at least this, so that one zero makes no endless loss.
LEAST = 1e-7

Way = Mapping[str, float]
Block = dict[str, np.ndarray]


def best_first(held_out_top1: Mapping[str, float]) -> list[str]:
    """Model names by their held-out top-1, best first; equal ones by name."""
    return sorted(held_out_top1, key=lambda name: (-held_out_top1[name], name))


def member_sets(ranked: Sequence[str], sizes: Sequence[int]) -> list[tuple[str, ...]]:
    """The best models of each size, as many as there are; equal sets stand once."""
    sets = [tuple(ranked[:size]) for size in sizes]
    return list(dict.fromkeys(members for members in sets if members))


def equal_weights(members: Sequence[str]) -> dict[str, float]:
    """A way in which each member has the same say."""
    return dict.fromkeys(members, 1 / len(members))


def admit(way: Way, further: Sequence[str]) -> dict[str, float]:
    """A way with further members, each with the mean weight of the others."""
    count = len(way) + len(further)
    share = {name: weight * len(way) / count for name, weight in way.items()}
    return share | dict.fromkeys(further, 1 / count)


class Lab:
    """What several models said of images, by name; aligned, and asserted to be of one contest.

    `folders` name → a model's or job's folder; `stores` name → a store of logits, in place of the
    folder's own predictions (such as those of several test-time views). Raises ValueError naming
    two folders that differ in their classes, and the first class that one lacks.
    """

    def __init__(
        self, folders: Mapping[str, Path], stores: Mapping[str, Path] | None = None
    ) -> None:
        if not folders:
            raise ValueError("an ensemble needs at least one model: run 10_train first")
        self.folders = {name: Path(folder) for name, folder in folders.items()}
        stored = {name: folder / "predictions" for name, folder in self.folders.items()}
        self.stores = {name: Store(path) for name, path in (stored | dict(stores or {})).items()}
        self.classes = same_classes(list(self.stores.values()))

    def check(self, image_ids: Sequence[str]) -> None:
        """Raise KeyError naming the folder and the first image that a model said nothing of."""
        for store in self.stores.values():
            store.rows_of(image_ids)

    def logits(self, name: str, image_ids: Sequence[str]) -> np.ndarray:
        """A model's logits, float16 (images, classes), in the order of the ids."""
        return self.stores[name].read("logits", image_ids)

    def probabilities(self, name: str, image_ids: Sequence[str]) -> np.ndarray:
        """A model's softmax, float32 (images, classes), in the order of the ids."""
        return self.stores[name].probabilities(image_ids)

    def features(
        self, names: Sequence[str], image_ids: Sequence[str], judged: Iterable[str]
    ) -> np.ndarray:
        """Features before the classifier, models side by side, float16 (images, sum of widths).

        Each model's features are a space of its own: they are never pooled out of several folds'
        models as probabilities are. Raises ValueError naming a model that was trained on `judged`.
        """
        require_unseen({name: self.folders[name] for name in names}, judged)
        stores = [Store(self.folders[name] / "predictions") for name in names]
        return np.concatenate([store.read("features", image_ids) for store in stores], axis=1)

    def blocks(
        self, image_ids: Sequence[str], names: Sequence[str] | None = None, rows: int = ROWS
    ) -> Iterator[tuple[slice, Block]]:
        """The members' softmax, name → float32 (block, classes), and where the block stands.

        Members are all or `names`; a block has at most `rows` images. All ids are checked first.
        """
        names = list(self.stores) if names is None else list(names)
        places = {name: self.stores[name].rows_of(image_ids) for name in names}
        # Without images one empty block, so that every name is known.
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


def seen_images(folder: Path, image_ids: Iterable[str]) -> tuple[int, int]:
    """How many of some images a model was trained on, and how many only its teachers were.

    `folder` holds the model's job.json and rows.parquet.
    """
    asked = set(image_ids)
    own = asked & fitted_images(folder)
    taught: set[str] = set()
    for teacher in read_job(folder / "job.json").teachers:
        rows = Path(teacher).parent / "rows.parquet"
        if rows.is_file():
            taught |= asked & fitted_images(rows.parent)
    return len(own), len(taught - own)


def require_unseen(folders: Mapping[str, Path], judged: Iterable[str]) -> None:
    """Raise ValueError naming the first model that was trained on images that judge it."""
    judged = list(judged)
    for name, folder in folders.items():
        seen, _ = seen_images(folder, judged)
        if seen:
            raise ValueError(
                f"model {name!r} was trained on {seen} of the {len(judged)} held-out images: its "
                "features remember them, so no layer that these images judge may read it"
            )


def who_saw(folders: Mapping[str, Path], judged: Iterable[str]) -> pd.DataFrame:
    """How many held-out images each model was trained on, and only its teachers, by model.

    Columns `trained on` and `teachers trained on`. Teachers that saw them flatter a student a
    little; a model that did itself says nothing true of them.
    """
    judged = list(judged)
    rows = {name: seen_images(folder, judged) for name, folder in folders.items()}
    columns = ["trained on", "teachers trained on"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def choose_members(saw: pd.DataFrame, admitted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the members that held-out images may judge, and of those that enter by their name.

    `saw` is that of `who_saw`. A model that was trained on held-out images is left out unless it is
    among `admitted`; one that was not is judged like all others. Raises ValueError where a name is
    unknown or no member can be judged.
    """
    strangers = [name for name in admitted if name not in saw.index]
    if strangers:
        raise ValueError(f"seen_models names {strangers[0]!r}, which is no member")
    seen = saw["trained on"] > 0
    if seen.all():
        raise ValueError(
            f"all {len(saw)} models were trained on held-out images, {saw.index[0]!r} first: give "
            "the held_out_fold that they did not see, or -1 for no choice by held-out images"
        )
    return saw.index[~seen].tolist(), [name for name in saw.index[seen] if name in set(admitted)]


def mean_of(probabilities: Sequence[np.ndarray], weights: Sequence[float] = ()) -> np.ndarray:
    """Mean of softmax outputs, weighted where weights are given, float32 (images, classes)."""
    total = np.zeros_like(probabilities[0], dtype=np.float32)
    for each, weight in zip(probabilities, weights or [1.0] * len(probabilities), strict=True):
        total += each if weight == 1 else np.float32(weight) * each
    return total / (sum(weights) if weights else len(probabilities))


def vote(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Votes of several results for the classes, ties broken by their mean probability.

    Each result gives one vote to its best class. The score is votes + mean probability, float32
    (images, classes), so its order is by votes first: a mean never reaches a whole vote unless all
    agree.
    """
    score = mean_of(probabilities)
    for each in probabilities:
        score[np.arange(len(each)), each.argmax(axis=1)] += 1
    return score


def top1(scores: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose best-scored class is their label."""
    return float((scores.argmax(axis=1) == labels).mean())


def of_ways(block: Block, ways: Mapping[str, Way]) -> Block:
    """What each way says of a block, name → float32 (block, classes)."""
    return {
        name: mean_of([block[member] for member in way], tuple(way.values()))
        for name, way in ways.items()
    }


def voters(ways: Mapping[str, Way], without: Callable[[str], bool] = lambda name: False) -> list:
    """Names of the ways that vote: `without` leaves some out; identical ones count once."""
    first: dict[frozenset, str] = {}
    for name, way in ways.items():
        if not without(name):
            first.setdefault(frozenset(way.items()), name)
    return list(first.values())


@dataclass(frozen=True)
class Part:
    """Some images and the ways that answer for them."""

    image_ids: Sequence[str]
    ways: Mapping[str, Way]
    voters: Sequence[str]


def write_scores(lab: Lab, parts: Sequence[Part], folder: Path) -> Store:
    """Write the vote's `scores`, float32 (images, classes), part after part, a block at a time.

    Raises KeyError naming a folder and an image before anything is written, NotEnoughSpace where
    the disk has no room for them.
    """
    ids = [image for part in parts for image in part.image_ids]
    for part in parts:
        for member in members_of(part.ways):
            lab.stores[member].rows_of(part.image_ids)
    needed = len(ids) * len(lab.classes) * np.dtype(np.float32).itemsize
    require_space(folder, needed, f"the scores of {len(ids)} images", "or name another folder")
    writer, start = ShardWriter(folder, 0, ids), 0
    for part in parts:
        chosen = {name: part.ways[name] for name in part.voters}
        for where, block in lab.blocks(part.image_ids, members_of(chosen)):
            scores = vote(list(of_ways(block, chosen).values()))
            writer.write("scores", start + where.start, scores)
        start += len(part.image_ids)
    writer.close()
    finish_store(folder, lab.classes, 1)
    return Store(folder)


def members_of(ways: Mapping[str, Way]) -> list[str]:
    """All members of some ways, each once, in order."""
    return list(dict.fromkeys(member for way in ways.values() for member in way))


@dataclass(frozen=True)
class Judged:
    """How names fare on images: each one's best class, and its probability of the label.

    Both are tables with a row an image and a column a name: `answers` int32, `own` float32.
    `labels` is int32 (images,).
    """

    answers: pd.DataFrame
    own: pd.DataFrame
    labels: np.ndarray

    @property
    def hits(self) -> pd.DataFrame:
        """Whether each answer is the label, boolean, a row an image, a column a name."""
        return self.answers.eq(self.labels, axis=0)

    def join(self, other: "Judged") -> "Judged":
        """Further images under the same names, behind these."""
        return Judged(
            pd.concat([self.answers, other.answers]),
            pd.concat([self.own, other.own]),
            np.concatenate([self.labels, other.labels]),
        )


def judge(
    lab: Lab,
    image_ids: Sequence[str],
    labels: Sequence[str],
    ways: Mapping[str, Way],
    voting: Sequence[str] = (),
) -> Judged:
    """Let ways, and with `voting` a `vote` of them, answer for images; a block at a time.

    Where there is a vote, `vote without …` tells what it would say without each voter, and
    `vote without member …` without each member of a mean: ways that lose their only one fall
    silent, those that become identical vote once. An empty label is no class and always missed.
    """
    index = {name: number for number, name in enumerate(lab.classes)}
    truth = np.array([index.get(label, -1) for label in labels], dtype=np.int32)
    answers: dict[str, np.ndarray] = {}
    own: dict[str, np.ndarray] = {}
    for where, block in lab.blocks(image_ids, members_of(ways)):
        for name, said in _spoken(block, ways, voting):
            answers.setdefault(name, np.zeros(len(truth), np.int32))[where] = said.argmax(axis=1)
            told = said[np.arange(len(said)), np.maximum(truth[where], 0)]
            own.setdefault(name, np.zeros(len(truth), np.float32))[where] = told
    rows = pd.Index(image_ids, dtype=object)
    return Judged(pd.DataFrame(answers, index=rows), pd.DataFrame(own, index=rows), truth)


def _spoken(
    block: Block, ways: Mapping[str, Way], voting: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and scores of all that `judge` asks, one after the other."""
    results = of_ways(block, ways)
    yield from results.items()
    if not voting:
        return
    yield "vote", vote([results[name] for name in voting])
    for name in voting if len(voting) > 1 else ():
        yield f"vote without {name}", vote([results[other] for other in voting if other != name])
    chosen = {name: ways[name] for name in voting}
    for member in members_of(chosen):
        left = {name: _without(way, member) for name, way in chosen.items()}
        left = {name: way for name, way in left.items() if way}
        silent = [chosen[name] for name in chosen if name not in left]
        held = sum(member in way for way in chosen.values())
        # What is a voter by itself and nothing else has been asked above.
        if left and len(silent) < held:
            rest = of_ways(block, {name: left[name] for name in voters(left)})
            yield f"vote without member {member}", vote(list(rest.values()))


def _without(way: Way, member: str) -> dict[str, float]:
    """A way without a member, its weights brought back to 1; empty where nobody has a say."""
    left = {name: weight for name, weight in way.items() if name != member}
    total = sum(left.values())
    return {name: weight / total for name, weight in left.items()} if total else {}


def score_table(hits: pd.DataFrame) -> pd.DataFrame:
    """Top-1 of each column with its 95 % interval (Wilson 1927), the best first.

    `hits` is boolean, a row an image. Returns top1, low, high and n, by name; without an image the
    first three are missing.
    """
    n, rows = len(hits), {}
    for name in hits:
        count = int(hits[name].sum())
        rows[name] = (count / n, *wilson(count, n)) if n else (np.nan,) * 3
    found = pd.DataFrame.from_dict(rows, orient="index", columns=["top1", "low", "high"])
    return found.assign(n=n).sort_values("top1", ascending=False, kind="stable")


def error_correlation(hits: pd.DataFrame) -> pd.DataFrame:
    """Correlation (phi) of the columns' mistakes, -1 to 1: the lower, the more two add together.

    `hits` is boolean, a row an image. A column that never or always errs has no correlation: NaN.
    """
    return (~hits).astype(float).corr()


def worth(hits: pd.DataFrame, of: str = "vote") -> pd.DataFrame:
    """What each voter and member brings: top-1 of `of` less its top-1 without that one.

    `hits` are those of `judge`. Returns by name: kind (voter or member), worth, and saved and
    lost, the images that are right only with it and only without it.
    """
    rows, names = [], []
    for column in hits:
        left = column.removeprefix(f"{of} without ")
        if left == column:
            continue
        saved = int((hits[of] & ~hits[column]).sum())
        lost = int((hits[column] & ~hits[of]).sum())
        kind = "member" if left.startswith("member ") else "voter"
        rows.append((kind, (saved - lost) / max(1, len(hits)), saved, lost))
        names.append(left.removeprefix("member "))
    found = pd.DataFrame(rows, index=names, columns=["kind", "worth", "saved", "lost"])
    return found.sort_values(["kind", "worth"], ascending=[True, False], kind="stable")


def halves(keys: Sequence[str]) -> np.ndarray:
    """Cut images in two by their keys alone, boolean (images,), as even as distinct keys allow.

    Images of one key, such as a group of near duplicates, are in one half. It does not hang on the
    order of the images.
    """
    distinct = sorted(set(keys), key=lambda key: (zlib.crc32(str(key).encode()), key))
    second = set(distinct[1::2])
    return np.array([key in second for key in keys], dtype=bool)


def fit_weights(own: np.ndarray, steps: int = 2000, least_gain: float = 1e-9) -> np.ndarray:
    """Weights of a mean, float64 (members,) on the simplex, that minimise the mean log loss.

    `own`, float (images, members), is what each member gives each image's label. The problem is
    convex; solved by expectation maximisation from equal weights, as in stacked density estimation
    (Smyth and Wolpert, Linearly combining density estimators via stacking, Machine Learning 36,
    1999). Ends when a step gains less than `least_gain`. Raises ValueError where there is no image.
    """
    if not len(own):
        raise ValueError("weights are found on held-out images, and there is none")
    given = np.maximum(np.asarray(own, dtype=np.float64), LEAST)
    weights = np.full(given.shape[1], 1 / given.shape[1])
    before = -np.inf
    for _ in range(steps):
        mixed = given @ weights
        now = np.log(mixed).mean()
        if now - before < least_gain:
            break
        before = now
        weights *= (given / mixed[:, None]).mean(axis=0)
        weights /= weights.sum()
    return weights


def weighted(members: Sequence[str], own: pd.DataFrame, rows: np.ndarray) -> dict[str, float]:
    """A way whose weights are fitted on the images that `rows`, boolean, chooses from `own`."""
    found = fit_weights(own.loc[rows, list(members)].to_numpy())
    return dict(zip(members, found.tolist(), strict=True))


def mean_ways(
    sets: Iterable[Sequence[str]], own: pd.DataFrame, rows: np.ndarray, weights: str
) -> dict[str, dict[str, float]]:
    """A mean of each member set, by the name `mean of …`.

    `weights` is `equal`, or `fitted`: on the images that `rows`, boolean, chooses from `own`, what
    each member gives each image's label.
    """
    return {
        f"mean of {len(members)}": (
            weighted(members, own, rows) if weights == "fitted" else equal_weights(members)
        )
        for members in sets
    }


def crossfitted_choice(hits: pd.DataFrame, half: np.ndarray) -> float:
    """Top-1 of choosing the best column on one half of the images and judging it on the other.

    The best of several on the images that chose it looks better than it is; this does not. Ties go
    to the first column. `hits` boolean (images, ways), `half` boolean (images,). NaN where a half
    is empty.
    """
    if not len(half) or half.all() or not half.any():
        return float("nan")
    right = 0
    for chooses in (half, ~half):
        best = hits.loc[chooses].mean().idxmax()
        right += int(hits.loc[~chooses, best].sum())
    return right / len(hits)
