"""Are classes found that are one, two, another's or swapped? Planted in the demo, counted.

`python benchmarks/classes.py [--seeds 0 1 2] [--work FOLDER]` draws the demo with fewer, larger
classes, computes the features of one frozen network, and then, for each seed, relabels whole
classes: a class gets two names, two classes get one name, images of a class are mixed under a small
one, two classes exchange a part of their images or all names. Of those that exchange all names a
person has confirmed some images, without which nothing could tell. 03 judges the labels by its
posterior, and `cleaning.classes.find` looks. Printed are recall by kind of plant (found is a row of
the right kind that names the right classes) and precision of all rows; then a person who knows the
truth decides on each row, and the share of labels in force that are right is printed before and
after. The noise of the demo stays in, so that some labels are wrong besides. Last line: JSON.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cleaning as benchmark
import numpy as np
import pandas as pd

from fgvc_utils.cleaning import classes
from fgvc_utils.cleaning.class_decisions import Decided, applied, in_force, with_items
from fgvc_utils.cleaning.verdicts import confirmed_classes, judged_and_none
from fgvc_utils.contest import tables
from fgvc_utils.contest.contest_file import notebook_defaults
from fgvc_utils.contest.journal import Journal
from fgvc_utils.core.intervals import wilson
from fgvc_utils.demo import drawing
from fgvc_utils.jobs.features import feature_job
from fgvc_utils.jobs.results import read_features

# Images that a person confirmed of each class that exchanged all names, and the share of names that
# two classes exchange in part.
CONFIRMED, EXCHANGED = 6, 0.4


def prepare(work: Path, train_images: int) -> SimpleNamespace:
    """The demo's images, features and table after 01, with what each image shows."""
    data = work / "drawn"
    if not data.is_dir():
        drawing.draw_demo(
            data, genera=5, train_images=train_images, test_images=40, processes=1, seed=0
        )
    cfg = benchmark.stage_parameters("demo", work, 0, data)
    first = cfg["01_noise"]
    fine = cfg["03_fine"].model_copy(
        update={"further_backbones": [], "posterior_rounds": 3, "averaged_rounds": 2}
    )
    inventory, table = benchmark.taken_in(first, data)
    features = feature_job(fine, inventory)
    benchmark.in_this_process([features], first, "features")
    table = table[(table["split"] == "train") & (inventory["error"] == "")]
    truth = pd.read_csv(data / "truth/train.csv", dtype=str, keep_default_na=False)
    true = truth.set_index("path").loc[table["path"], "true"].set_axis(table.index)
    # 01 is stood in for: what shows nothing living is left out.
    table = tables.leave_out(table, true == "", "01_noise", "noise")
    return SimpleNamespace(
        fine=fine,
        features=[features[0]],
        inventory=inventory.loc[table.index],
        table=table,
        true=true,
    )


class Planter:
    """Relabels whole classes of a table, each class in one plant."""

    def __init__(self, table: pd.DataFrame, true: pd.Series, seed: int) -> None:
        self.table, self.true = table.copy(), true
        self.random = np.random.default_rng(seed)
        self.planted: list[tuple[str, str, str]] = []
        self.right = tables.kept(table) & (table["given"] == true)
        self.sizes = table.loc[self.right, "given"].value_counts()
        self.free = list(self.random.permutation(self.sizes.index.to_numpy()))

    def take(self, fits: Callable[[str], bool] = bool) -> str:
        """A class that is in no plant yet."""
        name = next(name for name in self.free if fits(name))
        self.free.remove(name)
        return name

    def sister_of(self, name: str, wanted: bool = True) -> Callable[[str], bool]:
        """Whether a class is of the same genus, or of another."""
        return lambda other: (other.split()[-1] == name.split()[-1]) == wanted and other != name

    def draw(self, rows: pd.Index, count: int) -> pd.Index:
        """Some of the rows."""
        return pd.Index(self.random.choice(rows.to_numpy(), count, replace=False))

    def under(self, name: str) -> pd.Index:
        """What came under a class."""
        return self.table.index[tables.kept(self.table) & (self.table["given"] == name)]

    def rename(self, rows: pd.Index, name: str) -> None:
        """Let images come under a class."""
        self.table.loc[rows, ["given", "label"]] = name

    def another(self) -> None:
        """Two images of a large class under a small one for each of its own."""
        small = self.take(lambda name: self.sizes[name] < 25)
        large = self.take(lambda name: self.sizes[name] > 60)
        of_large = self.table.index[self.right & (self.table["given"] == large)]
        self.rename(self.draw(of_large, 2 * int(self.sizes[small])), small)
        self.planted.append((classes.ANOTHER, small, large))

    def one(self) -> None:
        """Half of a class under a second name."""
        name = self.take(lambda name: self.sizes[name] > 40)
        rows, again = self.under(name), f"{name} again"
        self.rename(self.draw(rows, len(rows) // 2), again)
        self.planted.append((classes.ONE, name, again))

    def two(self, sisters: bool) -> None:
        """Two classes under one name."""
        one = self.take(lambda name: any(map(self.sister_of(name, sisters), self.free)))
        other = self.take(self.sister_of(one, sisters))
        self.rename(self.under(other), one)
        self.planted.append((f"{classes.TWO}, {'sisters' if sisters else 'far'}", one, other))

    def swapped(self, share: float) -> None:
        """Two classes exchange a share of their images; of all, a person confirmed some."""
        one, other = self.take(), self.take()
        rows = {name: self.under(name) for name in (one, other)}
        for name, new in ((one, other), (other, one)):
            self.rename(self.draw(rows[name], round(share * len(rows[name]))), new)
        self.planted.append((f"{classes.SWAPPED}, {share:.0%}", one, other))
        if share == 1:
            for name in (one, other):
                shows = tables.kept(self.table) & (self.true == name)
                known = self.draw(self.table.index[shows], CONFIRMED)
                self.table.loc[known, "label"] = name
                self.table.loc[known, ["stage", "by", "cause"]] = ["03_fine", "human", "relabelled"]


def plant(table: pd.DataFrame, true: pd.Series, seed: int) -> Planter:
    """All plants of a seed."""
    planter = Planter(table, true, seed)
    planter.another()
    for _ in range(2):
        planter.one()
    for sisters in (False, True):
        planter.two(sisters)
    for share in (EXCHANGED, 1.0):
        planter.swapped(share)
    return planter


def is_of(row: Any, plant: tuple[str, str, str]) -> bool:
    """Whether a finding is of the kind of a plant and names its classes.

    A class of which two thirds show another is told from it little better than by chance, so it is
    found as the other's or as one with it.
    """
    kind, name, other = plant
    kind = kind.split(",")[0]
    if kind == classes.TWO:
        return row.kind == classes.TWO and row.name == name
    kinds = {classes.ANOTHER, classes.ONE} if kind == classes.ANOTHER else {kind}
    return row.kind in kinds and {row.name, row.other} == {name, other}


def is_right(row: Any, plant: tuple[str, str, str]) -> bool:
    """Whether a plant makes a finding true: a class with images of two subjects is also two."""
    mixed = not plant[0].startswith(classes.ONE) and row.name in plant[1:]
    return is_of(row, plant) or (row.kind == classes.TWO and mixed)


def run(contest: SimpleNamespace, seed: int, cfg: classes.ClassParams) -> list[dict[str, Any]]:
    """Plant, judge and look: a row a plant, and a row a finding that no plant makes true."""
    planter = plant(contest.table, contest.true, seed)
    known = confirmed_classes(planter.table)
    contest.fine = contest.fine.model_copy(update={"run": f"seed-{seed}"})
    table, *_ = benchmark.posterior_stage(contest, planter.table, known)
    judged = judged_and_none(table)[0]
    vectors, _ = read_features(contest.features[0], table.loc[judged, "image_id"])
    started = time.monotonic()
    found = classes.find(vectors, table[judged], cfg, seed)
    seconds = round(time.monotonic() - started, 1)
    decided = answers(with_items(found, []), planter.planted, planter.true)
    parts = classes.parts(vectors, table[judged], decided, seed)
    after, _ = applied(table, decided, parts, "04_lowq")
    before, after = (share_right(one, planter) for one in (table, after))
    print(
        f"  {len(decided)} decisions: {before:.1%} of the labels in force right, then {after:.1%}"
    )
    rows = scored(found, planter.planted, seed, seconds)
    return [{**row, "right_before": before, "right_after": after} for row in rows]


def answers(
    found: pd.DataFrame, planted: list[tuple[str, str, str]], true: pd.Series
) -> list[Decided]:
    """What a person who knows the truth decides on findings, by way of the journal."""
    exchanged = {frozenset(each[1:]) for each in planted if each[0].endswith("100%")}
    one = {frozenset(each[1:]) for each in planted if each[0] == classes.ONE}
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "04_classes.csv")
        for row in found.itertuples():
            pair, decision, label = frozenset([row.name, row.other]), "leave", ""
            if row.part:
                shows = true[row.part].mode().iloc[0]
                decision = "split rest" if shows == row.name else "split"
                if shows == row.other:
                    decision, label = "relabel", row.other
            elif row.kind == classes.ONE and pair in one:
                decision = "merge"
            elif row.kind == classes.SWAPPED and pair in exchanged:
                decision = "swap"
            journal.append(row.item, decision, label, reviewer="truth")
        return in_force([], journal.latest())


def share_right(table: pd.DataFrame, planter: Planter) -> float:
    """The share of the labels in force that name what the image shows, under either name."""
    subject = {again: name for kind, name, again in planter.planted if kind == classes.ONE}
    kept = table[tables.kept(table)]
    return float((kept["label"].replace(subject) == planter.true[kept.index]).mean())


def scored(
    found: pd.DataFrame, planted: list[tuple[str, str, str]], seed: int, seconds: float
) -> list[dict[str, Any]]:
    """A row a plant, and a row a finding that no plant makes true."""
    rows = []
    for each in planted:
        hits = [row for row in found.itertuples() if is_of(row, each)]
        print(f"  {'found' if hits else 'not found'}: {each[0]}: {each[1]} | {each[2]}")
        for row in hits:
            print(f"    {row.kind}: {row.why}")
        rows.append({"seed": seed, "plant": each[0], "found": bool(hits), "seconds": seconds})
    for row in found.itertuples():
        if not any(is_right(row, each) for each in planted):
            print(f"  not planted: {row.kind}: {row.name} | {row.other}: {row.why}")
            rows.append({"seed": seed, "plant": "", "found": True, "seconds": seconds})
    return rows


def summary(rows: pd.DataFrame) -> dict[str, Any]:
    """Recall by plant and over all, and precision, each with its interval."""
    plants, false = rows[rows["plant"] != ""], int((rows["plant"] == "").sum())
    hits = int(plants["found"].sum())
    by_plant = {
        name: f"{int(each.sum())} of {len(each)}" for name, each in plants.groupby("plant")["found"]
    }
    return {
        "recall": round(hits / len(plants), 3),
        "recall_interval": [round(end, 3) for end in wilson(hits, len(plants))],
        "precision": round(hits / max(hits + false, 1), 3),
        "precision_interval": [round(end, 3) for end in wilson(hits, max(hits + false, 1))],
        "plants": len(plants),
        "not_planted": false,
        "by_plant": by_plant,
        "right_before": round(float(plants["right_before"].mean()), 4),
        "right_after": round(float(plants["right_after"].mean()), 4),
        "seconds": float(plants["seconds"].max()),
    }


def main() -> None:
    """Plant and look, for each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=1000, help="train images that are drawn")
    parser.add_argument("--work", type=Path, help="where images and features are kept")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="classes-"))
    contest = prepare(work, options.images)
    usual = notebook_defaults("04_lowq")
    cfg = classes.ClassParams(**{name: usual[name] for name in classes.ClassParams.model_fields})
    rows = []
    for seed in options.seeds:
        print(f"seed {seed}")
        rows += run(contest, seed, cfg)
    figures = summary(pd.DataFrame(rows))
    for name, value in figures["by_plant"].items():
        print(f"{name:<16} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
