"""What is a look worth? Truth as the reviewer, and what its decisions change.

`python benchmarks/review_worth.py [--contests demo grocery-web] [--seeds 0 1 2] [--shares 0.05 0.1
0.2] [--work FOLDER]` runs the kit's cleaning without a human, then lets truth look at such shares
of the negatives (the images that were not kept as they came): in our order, at random, and in the
order of cleanlab's label-quality ranking of the same out-of-fold probabilities, which puts the
likeliest label errors first. In our order also where a look decides the image's copies, and where
besides the nearest like cases are offered, of which truth ticks those whose answer is the same;
what was decided in one of these ways is not looked at again, so that as many looks go further.

Counted are the images that were decided, the decisions that changed what an image teaches, and the
copies whose own answer is another. After the decisions the rounds go on, as in the notebook; the
score is the test top-1 of the small model of `cleaning.py`, trained on what is then kept. Gains
are paired differences in each contest and, as `all`, over all of them, with two 95 % intervals:
over seeds (`±`, Student's t), and over test images (`low`, `high`; bootstrap of the same images on
both sides, those of another seed resampled alike where they are the same images).

With `--work` each row is kept in `FOLDER/review_worth.jsonl` and not made again. Last line: JSON.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cleaning as benchmark
import numpy as np
import pandas as pd
from kept_rows import KeptRows

from fgvc_utils.cleaning.asking import review_order
from fgvc_utils.cleaning.rounds import Posteriors
from fgvc_utils.contest.following import Copies
from fgvc_utils.contest.journal import Decision
from fgvc_utils.looking.likes import Likes

SHARES = (0.05, 0.10, 0.20)
LIKE_CASES = 6
RESAMPLES = 2000
OURS, RANDOM, CLEANLAB = "our order", "random order", "cleanlab's order"
COPIES, LIKES = "our order, copies", "our order, copies, like cases"
WAYS = (OURS, RANDOM, CLEANLAB, COPIES, LIKES)
# What is compared with what, on the same images and seed.
PAIRS = ((OURS, RANDOM), (OURS, CLEANLAB), (COPIES, OURS), (LIKES, OURS))
KEYS = ["contest", "seed", "way", "share"]


@dataclass
class Desk:
    """What a reviewer knows, and what is offered.

    Parameters
    ----------
    given
        The label that each image came with, text by image_id.
    truth
        The answer about each image: its class, or empty where it shows none; by image_id.
    kind
        Images of one kind are like cases, text by image_id.
    copies
        The images whose copies a look decides; None where it decides the image alone.
    likes
        Finds like cases; None where none are offered.
    """

    given: pd.Series
    truth: pd.Series
    kind: pd.Series
    copies: Copies | None = None
    likes: Likes | None = None


@dataclass
class Session:
    """What came of a reviewer's looks: answers by image_id, and how many of them are wrong."""

    answers: dict[str, str]
    looks: int
    wrong: int


def session(desk: Desk, order: Sequence[str], looks: int) -> Session:
    """Look at images in an order until so many looks are made; what is decided is passed over."""
    done = Session({}, 0, 0)
    followed: set[str] = set()
    for image in order:
        if done.looks == looks:
            break
        if image in done.answers:
            continue
        done.looks += 1
        decide(desk, image, done, followed)
        for alike in like_cases(desk, order, image, done.answers):
            decide(desk, alike, done, followed)
    done.wrong = sum(done.answers[one] != desk.truth[one] for one in followed)
    return done


def decide(desk: Desk, image: str, done: Session, followed: set[str]) -> None:
    """Note the answer about an image, and what follows for its copies."""
    done.answers[image] = desk.truth[image]
    # A person's own decision outranks what followed.
    followed.discard(image)
    for copy, answer in of_copies(desk, image).items():
        if copy not in done.answers or copy in followed:
            done.answers[copy] = answer
            followed.add(copy)


def like_cases(desk: Desk, order: Sequence[str], image: str, decided: dict[str, str]) -> list[str]:
    """Of what is offered after a look, what truth decides alike."""
    if desk.likes is None:
        return []
    same = desk.kind[order]
    others = [one for one in same.index[same == desk.kind[image]] if one not in decided]
    offered = desk.likes.nearest(image, others)
    return [one for one in offered if desk.truth[one] == desk.truth[image]]


def of_copies(desk: Desk, image: str) -> dict[str, str]:
    """The answers that follow for the copies of an image."""
    if desk.copies is None:
        return {}
    answer = desk.truth[image]
    what = "drop" if not answer else "keep" if answer == desk.given[image] else "relabel"
    made = Decision(image, what, answer if what == "relabel" else "")
    return {
        one.item: {"drop": "", "keep": desk.given[one.item]}.get(one.decision, one.label)
        for one in desk.copies.following([made])
    }


def cleanlab_order(coarse: pd.DataFrame, learnt: Posteriors) -> list[str]:
    """All judged images, the likeliest label errors first, by cleanlab's self-confidence."""
    from cleanlab.rank import get_label_quality_scores

    predictions = learnt.predictions
    given = coarse.set_index("image_id")["given"]
    numbers, probability = benchmark.for_cleanlab(predictions, given)
    quality = get_label_quality_scores(numbers, probability, method="self_confidence")
    return predictions.image_ids[np.argsort(quality, kind="stable")].tolist()


def orders(
    seed: int, coarse: pd.DataFrame, decided: pd.DataFrame, learnt: Posteriors
) -> dict[str, list[str]]:
    """The negatives in the order of each way."""
    ours, _ = review_order(decided, [], 1.0)
    drawn = np.random.default_rng(seed).permutation(np.array(sorted(ours), object)).tolist()
    negatives = set(ours)
    ranked = [image for image in cleanlab_order(coarse, learnt) if image in negatives]
    return {OURS: ours, RANDOM: drawn, CLEANLAB: ranked, COPIES: ours, LIKES: ours}


def desks(contest: benchmark.Contest, coarse: pd.DataFrame, decided: pd.DataFrame) -> dict:
    """The reviewer of each way."""
    train = coarse[coarse["split"] == "train"].set_index("image_id")
    kind = decided["given"] + "\n" + decided["verdict"] + "\n" + decided["suggested"]
    truth = benchmark.answer(contest, train.index.tolist())
    known = train["given"], truth, kind
    copies, likes = Copies(coarse), Likes(contest.features[0], LIKE_CASES)
    plain = Desk(*known)
    with_copies, with_likes = Desk(*known, copies), Desk(*known, copies, likes)
    return {OURS: plain, RANDOM: plain, CLEANLAB: plain, COPIES: with_copies, LIKES: with_likes}


def run(contest: benchmark.Contest, shares: Sequence[float], done: set[tuple]) -> Iterator[dict]:
    """The rows of one data set and seed that are not done."""
    coarse, _ = benchmark.rank_stage(contest, contest.coarse, "02_coarse", contest.table)
    nobody = pd.Series("", index=coarse.index)
    ours, decided, _, learnt, _ = benchmark.posterior_stage(contest, coarse, nobody)
    if (contest.name, contest.seed, "nobody", 0.0) not in done:
        yield scored(contest, "nobody", 0.0, ours, Session({}, 0, 0), 0)
    at = desks(contest, coarse, decided)
    for way, order in orders(contest.seed, coarse, decided, learnt).items():
        for share in shares:
            if (contest.name, contest.seed, way, share) in done:
                continue
            looked = session(at[way], order, round(len(order) * share))
            answers = pd.Series(looked.answers, dtype=object)
            known = benchmark.as_known(coarse, answers)
            folder = f"03_worth_{WAYS.index(way)}_{share:.2f}"
            again, *_ = benchmark.posterior_stage(contest, coarse, known, folder)
            table = benchmark.with_answers(contest, again, answers)
            yield scored(contest, way, share, table, looked, changed_by(answers, ours))


def changed_by(answers: pd.Series, before: pd.DataFrame) -> int:
    """How many of the answers changed what an image teaches."""
    rows = before.set_index("image_id").loc[answers.index]
    taught = rows["label"].where(rows["status"] == "keep", "")
    return int((taught != answers).sum())


def scored(
    contest: benchmark.Contest,
    way: str,
    share: float,
    table: pd.DataFrame,
    looked: Session,
    changed: int,
) -> dict:
    row = benchmark.scored(contest, way, table, looked.looks)
    kept = {key: row[key] for key in ("contest", "seed", "looks", "f1", "top1", "right")}
    counts = {"decided": len(looked.answers), "changed": changed, "wrong_copies": looked.wrong}
    return {"way": way, "share": share, **kept, **counts}


def with_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of looks, each with its gain in top-1 over nobody's and that of each test image."""
    keys = ["contest", "seed"]
    nobody = rows[rows["way"] == "nobody"].set_index(keys)
    looked = rows[rows["way"] != "nobody"]
    before = nobody.loc[pd.MultiIndex.from_frame(looked[keys])]
    looked = looked.assign(gain=looked["top1"].to_numpy() - before["top1"].to_numpy())
    pairs = zip(looked["right"], before["right"], strict=True)
    return looked.assign(images=[digits(one) - digits(other) for one, other in pairs])


def digits(text: str) -> np.ndarray:
    """The digits of a text, a number each."""
    return np.array(list(text), dtype=np.int64)


def with_all(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows once more as a contest `all`, where there are several contests."""
    rows = rows.assign(set=rows["contest"])
    return pd.concat([rows, rows.assign(contest="all")] if rows["set"].nunique() > 1 else [rows])


def over_images(rows: pd.DataFrame) -> pd.Series:
    """The 95 % interval over test images of the mean of `images`, each seed of one weight."""
    parts = []
    for name, of_set in rows.groupby("set"):
        each = list(of_set["images"])
        # A seed of the demo draws other test images; those of other sets are the same.
        parts += [(1, one) for one in each] if name == "demo" else [(len(each), np.mean(each, 0))]
    draw = np.random.default_rng(0).integers
    means = [
        weight * one[draw(0, len(one), (RESAMPLES, len(one)))].mean(axis=1) for weight, one in parts
    ]
    low, high = np.quantile(np.sum(means, axis=0) / len(rows), [0.025, 0.975])
    return pd.Series({"low": low, "high": high})


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Means by contest, way and share; `low` and `high` are of the gain."""
    keys = ["contest", "way", "share"]
    groups = with_all(with_gains(rows)).groupby(keys, sort=False)
    means = groups[["looks", "decided", "changed", "wrong_copies", "f1", "top1", "gain"]].mean()
    means["changed/look"] = means["changed"] / means["looks"]
    means = means.join(benchmark.half_widths(groups[["top1", "gain"]]))
    return means.join(groups[["set", "images"]].apply(over_images))


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean paired differences between ways; `low` and `high` are of top-1."""
    looked = with_gains(rows).set_index(["contest", "seed", "share", "way"])
    parts = []
    for one, other in PAIRS:
        sides = [looked.xs(way, level="way") for way in (one, other)]
        apart = sides[0][["top1", "changed"]] - sides[1][["top1", "changed"]]
        apart["images"] = sides[0]["images"] - sides[1]["images"]
        parts.append(apart.reset_index().assign(pair=f"{one} less {other}"))
    keys = ["contest", "pair", "share"]
    groups = with_all(pd.concat(parts)).groupby(keys, sort=False)
    figures = groups[["top1", "changed"]]
    means = figures.mean().join(benchmark.half_widths(figures))
    return means.join(groups[["set", "images"]].apply(over_images))


def closing(means: pd.DataFrame, pairs: pd.DataFrame) -> dict:
    """The JSON line: gains, changes a look and paired differences by contest."""
    line: dict = {}
    for (contest, way, share), row in means.iterrows():
        part = line.setdefault(contest, {}).setdefault(way, {})
        names = ("looks", "decided", "changed", "wrong_copies", "top1", "gain", "gain±")
        names += ("low", "high")
        part[f"{share:.2f}"] = {name: rounded(row[name]) for name in names}
    for (contest, pair, share), row in pairs.iterrows():
        part = line.setdefault(contest, {}).setdefault(pair, {})
        part[f"{share:.2f}"] = {name: rounded(value) for name, value in row.items()}
    return line


def rounded(value: float) -> float | None:
    """Four digits; None where there is no interval, of one seed alone."""
    return None if value != value else round(float(value), 4)


def all_rows(given: argparse.Namespace, work: Path) -> list[dict]:
    """The rows of all data sets and seeds, those of earlier runs in this folder among them."""
    kept = KeptRows(work, "review_worth", KEYS)
    done = kept.done()
    for name in given.contests:
        wanted = {seed: wanted_rows(name, seed, given.shares) - done for seed in given.seeds}
        seeds = [seed for seed in given.seeds if wanted[seed]]
        part = argparse.Namespace(
            **vars(given) | {"contests": [name], "seeds": seeds, "work": work}
        )
        for contest in benchmark.contests(part):
            for row in run(contest, given.shares, done):
                kept.add(row)
    return [
        row for row in kept.rows if row["contest"] in given.contests and row["seed"] in given.seeds
    ]


def wanted_rows(name: str, seed: int, shares: Sequence[float]) -> set[tuple]:
    """The keys of the rows of one data set and seed."""
    ways = {(name, seed, way, share) for way in WAYS for share in shares}
    return ways | {(name, seed, "nobody", 0.0)}


def main() -> None:
    more = argparse.ArgumentParser(add_help=False)
    more.add_argument("--shares", nargs="+", type=float, default=SHARES, help="of the negatives")
    given = benchmark.arguments(__doc__, more)
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.work or Path(temporary)).resolve()
        rows = pd.DataFrame(all_rows(given, work))
    means, pairs = summary(rows), differences(rows)
    with pd.option_context("display.width", 200, "display.max_rows", 199):
        print(means.round(4).to_string())
        print(pairs.round(4).to_string())
    print(json.dumps(closing(means, pairs) | {"seeds": len(given.seeds)}))


if __name__ == "__main__":
    main()
