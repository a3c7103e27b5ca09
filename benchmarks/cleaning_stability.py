"""How far do verdicts depend on chance: on the seed, on one round more, on the order of the files?

`python benchmarks/cleaning_stability.py [--contests demo grocery-web] [--seeds 0 1 2] [--set
name=value ...]` runs 03 on the table that 01 and 02 left, and again with another seed, with one
round more, and with the images in another order, each change alone. An image agrees where its
verdict and the label that it teaches are the same. Last line: JSON.
"""

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
    """The share of images that teach the same; both as from `taught`."""
    return float((first == other.loc[first.index]).mean())


def shuffled(contest: Contest, coarse: pd.DataFrame) -> tuple[Contest, pd.DataFrame]:
    """The same images in another order."""
    order = np.random.default_rng(contest.seed).permutation(len(coarse))
    inventory = contest.inventory.loc[coarse["image_id"].iloc[order]]
    return replace(contest, inventory=inventory), coarse.iloc[order]


def agreements(contest: Contest) -> dict:
    """The share of train images with the same verdict, a column a change."""
    coarse, _ = benchmark.rank_stage(contest, contest.coarse, "02_coarse", contest.table)
    first = verdicts(contest, coarse, "stable")
    rounds = contest.fine.posterior_rounds + 1
    others = {
        "seed": verdicts(contest, coarse, "stable_seed", seed=contest.fine.seed + 500),
        "round": verdicts(contest, coarse, "stable_round", posterior_rounds=rounds),
        "order": verdicts(*shuffled(contest, coarse), "stable_order"),
    }
    row = {"contest": contest.name, "seed": contest.seed, "images": len(first)}
    for name, other in others.items():
        row[f"same_{name}"] = same(first, other)
    print(row, flush=True)
    return row


def main() -> None:
    given = benchmark.arguments(__doc__)
    table = pd.DataFrame([agreements(contest) for contest in benchmark.contests(given)])
    print(table.round(4).to_string())
    same = table.drop(columns="seed").groupby("contest").mean().round(4)
    print(json.dumps(same.T.to_dict() | {"seeds": len(given.seeds)}))


if __name__ == "__main__":
    main()
