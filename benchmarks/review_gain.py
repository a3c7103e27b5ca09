"""What does a review gain? Truth as the reviewer, three orders, and the next model's top-1.

`python benchmarks/review_gain.py [--contests demo grocery-web] [--seeds 0 1 2]` runs the kit's
cleaning without a human, then lets truth answer 5, 10 and 20 % of the negatives (the images that
were not kept as they came): in our order, at random, and in the order of cleanlab's
label-quality ranking of the same out-of-fold probabilities, which puts the likeliest label errors
first. After the decisions the rounds go on, as in the notebook. The score is the test top-1 of the
small model of `cleaning.py`, trained on what is then kept. Last line: JSON.
"""

import json

import cleaning as benchmark
import numpy as np
import pandas as pd

from fgvc_utils.cleaning.asking import review_order
from fgvc_utils.cleaning.rounds import Posteriors

SHARES = (0.05, 0.10, 0.20)
ORDERS = ("our order", "random order", "cleanlab's order")


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
    """The negatives in each order."""
    ours, _ = review_order(decided, [], 1.0)
    drawn = np.random.default_rng(seed).permutation(np.array(sorted(ours), object)).tolist()
    negatives = set(ours)
    ranked = [image for image in cleanlab_order(coarse, learnt) if image in negatives]
    return dict(zip(ORDERS, (ours, drawn, ranked), strict=True))


def run(contest: benchmark.Contest) -> list[dict]:
    """All orders and shares on one data set and seed."""
    coarse, _ = benchmark.rank_stage(contest, contest.coarse, "02_coarse", contest.table)
    nobody = pd.Series("", index=coarse.index)
    ours, decided, _, learnt, _ = benchmark.posterior_stage(contest, coarse, nobody)
    rows = [scored(contest, order, 0.0, ours, 0, 0) for order in ORDERS]
    for name, order in orders(contest.seed, coarse, decided, learnt).items():
        for share in SHARES:
            decisions = benchmark.answer(contest, order[: round(len(order) * share)])
            known = benchmark.as_known(coarse, decisions)
            folder = f"03_{ORDERS.index(name)}_{share:.2f}"
            again, *_ = benchmark.posterior_stage(contest, coarse, known, folder)
            table = benchmark.with_answers(contest, again, decisions)
            changed = changed_by(decisions, ours)
            rows.append(scored(contest, name, share, table, len(decisions), changed))
    return rows


def changed_by(decisions: pd.Series, before: pd.DataFrame) -> int:
    """How many of the decisions changed what an image teaches."""
    rows = before.set_index("image_id").loc[decisions.index]
    taught = rows["label"].where(rows["status"] == "keep", "")
    return int((taught != decisions).sum())


def scored(
    contest: benchmark.Contest,
    order: str,
    share: float,
    table: pd.DataFrame,
    reviewed: int,
    changed: int,
) -> dict:
    row = benchmark.scored(contest, order, table, reviewed)
    kept = {key: row[key] for key in ("contest", "seed", "f1", "top1", "looks")}
    return {"order": order, "share": share, "changed": changed, **kept}


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean top-1 and F1 by order and share, with 95 % half-widths over seeds (Student's t).

    `gain` is the mean of each seed's top-1 less its top-1 without a review: a paired difference.
    """
    keys = ["contest", "order", "share"]
    without = rows[rows["share"] == 0].set_index(["contest", "seed", "order"])["top1"]
    index = pd.MultiIndex.from_frame(rows[["contest", "seed", "order"]])
    rows = rows.assign(gain=rows["top1"].to_numpy() - without[index].to_numpy())
    groups = rows.groupby(keys, sort=False)
    mean = groups[["looks", "changed", "f1", "top1", "gain"]].mean()
    return mean.join(benchmark.half_widths(groups[["top1", "gain"]]))


def main() -> None:
    given = benchmark.arguments(__doc__)
    rows = []
    for contest in benchmark.contests(given):
        rows += run(contest)
    table = summary(pd.DataFrame(rows))
    with pd.option_context("display.width", 200, "display.max_rows", 99):
        print(table.round(4).to_string())
    print(json.dumps(closing(table) | {"seeds": len(given.seeds)}))


def closing(table: pd.DataFrame) -> dict:
    """Mean top-1 by contest, order and share reviewed."""
    line: dict = {}
    for (contest, order, share), top1 in table["top1"].items():
        line.setdefault(contest, {}).setdefault(order, {})[f"{share:.2f}"] = round(float(top1), 4)
    return line


if __name__ == "__main__":
    main()
