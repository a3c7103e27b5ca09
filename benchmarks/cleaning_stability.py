"""How far do verdicts depend on chance: the seed, one round more, other files, their order?

`python benchmarks/cleaning_stability.py [--contests demo grocery-web] [--seeds 0 1 2] [--changes
seed round order part] [--set name=value ...]` runs 03 on the table that 01 and 02 left, and again
with another seed, with one round more, with the images in another order, and without one train
image in a hundred, each change alone. An image agrees where its verdict and the label that it
teaches are the same. Last line: JSON.
"""

import argparse
import json
from dataclasses import replace

import cleaning as benchmark
import numpy as np
import pandas as pd
from cleaning import Contest


def verdicts(contest: Contest, coarse: pd.DataFrame, name: str, **changes: int) -> pd.Series:
    """What 03 makes of each train image, text by image_id: the label it teaches, or nothing."""
    fine = contest.fine.model_copy(update=changes)
    nobody = pd.Series("", index=coarse.index)
    table, *_ = benchmark.posterior_stage(replace(contest, fine=fine), coarse, nobody, name)
    return taught(table)


def taught(table: pd.DataFrame) -> pd.Series:
    """The label that each train image teaches, text by image_id; empty where it is left out."""
    train = table[table["split"] == "train"].set_index("image_id")
    return train["label"].where(train["status"] == "keep", "")


def same(first: pd.Series, other: pd.Series) -> float:
    """The share of the other's images that teach what they taught first; both as from `taught`."""
    return float((first.loc[other.index] == other).mean())


def shuffled(contest: Contest, coarse: pd.DataFrame) -> tuple[Contest, pd.DataFrame]:
    """The same images in another order."""
    order = np.random.default_rng(contest.seed).permutation(len(coarse))
    inventory = contest.inventory.loc[coarse["image_id"].iloc[order]]
    return replace(contest, inventory=inventory), coarse.iloc[order]


def lessened(contest: Contest, coarse: pd.DataFrame) -> tuple[Contest, pd.DataFrame]:
    """All images but one train image in a hundred, drawn."""
    train = np.flatnonzero(coarse["split"] == "train")
    drawn = np.random.default_rng(contest.seed).permutation(train)[: len(train) // 100]
    stays = np.delete(np.arange(len(coarse)), drawn)
    inventory = contest.inventory.loc[coarse["image_id"].iloc[stays]]
    return replace(contest, inventory=inventory), coarse.iloc[stays]


def agreements(contest: Contest, changes: list[str]) -> dict:
    """The share of train images with the same verdict, a column a change."""
    coarse, _ = benchmark.rank_stage(contest, contest.coarse, "02_coarse", contest.table)
    first = verdicts(contest, coarse, "stable")
    row = {"contest": contest.name, "seed": contest.seed, "images": len(first)}
    for change in changes:
        row[f"same_{change}"] = same(first, CHANGES[change](contest, coarse))
    print(row, flush=True)
    return row


CHANGES = {
    "seed": lambda contest, coarse: verdicts(
        contest, coarse, "stable_seed", seed=contest.fine.seed + 500
    ),
    "round": lambda contest, coarse: verdicts(
        contest, coarse, "stable_round", posterior_rounds=contest.fine.posterior_rounds + 1
    ),
    "order": lambda contest, coarse: verdicts(*shuffled(contest, coarse), "stable_order"),
    "part": lambda contest, coarse: verdicts(*lessened(contest, coarse), "stable_part"),
}


def main() -> None:
    more = argparse.ArgumentParser(add_help=False)
    more.add_argument("--changes", nargs="+", default=[*CHANGES], choices=CHANGES)
    given = benchmark.arguments(__doc__, more)
    rows = [agreements(contest, given.changes) for contest in benchmark.contests(given)]
    table = pd.DataFrame(rows)
    print(table.round(4).to_string())
    means = table.drop(columns="seed").groupby("contest").mean().round(4)
    print(json.dumps(means.T.to_dict() | {"seeds": len(given.seeds)}))


if __name__ == "__main__":
    main()
