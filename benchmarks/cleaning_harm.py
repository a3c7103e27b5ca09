"""Does cleaning harm where the labels are nearly all right?

`python benchmarks/cleaning_harm.py [--contests demo grocery-web] [--seeds 0 1 2] [--set name=value
...]` takes the part of each data set whose labels are right, plants 0, 1, 3 and 5 % of errors, half
of them to the class that looks most alike and half to any other, and runs the kit's 01 to 03
without a human. The score is the test top-1 of a small model, a logistic regression on frozen
features, trained on everything, on what the cleaning keeps, and on the posteriors as 10 is with
`soft_labels`: beside it the shares of right images lost and of planted errors found, and what the
kit says of the labels. Other errors are planted with another seed. `--set` sets parameters of 01 to
03. Last line: JSON.
"""

import json
from dataclasses import replace

import cleaning as benchmark
import numpy as np
import pandas as pd
from cleaning import Contest

from fgvc_utils.contest import tables
from fgvc_utils.jobs.predictions import Store

SHARES = (0.0, 0.01, 0.03, 0.05)
GAINS = ["gain", "soft_gain"]


def look_alikes(contest: Contest) -> dict[str, str]:
    """The class whose mean is nearest to each class's, by the frozen network's features."""
    train = contest.came[tables.kept(contest.came)]
    vectors = Store(contest.student.store).read("features", train["image_id"]).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    means = pd.DataFrame(vectors).groupby(train["given"].to_numpy()).mean()
    unit = means.to_numpy() / np.linalg.norm(means, axis=1, keepdims=True)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    return dict(zip(means.index, means.index[likeness.argmax(axis=1)], strict=True))


def with_errors(contest: Contest, share: float) -> Contest:
    """The contest with a share of its labels wrong; truth knows which."""
    random = np.random.default_rng([contest.seed, round(share * 1000)])
    came, truth = contest.came.copy(), contest.truth.copy()
    train = came.index[tables.kept(came)]
    drawn = random.choice(train, round(len(train) * share), replace=False)
    classes, alike = tables.classes_of(came), look_alikes(contest)
    for number, row in enumerate(drawn):
        own = came.loc[row, "given"]
        others = [name for name in classes if name != own]
        came.loc[row, ["given", "label"]] = random.choice(others) if number % 2 else alike[own]
    truth.loc[came.loc[drawn, "path"], "kind"] = "fine"
    return replace(contest, came=came, table=came, truth=truth)


def rows_of(contest: Contest) -> list[dict]:
    """A row a share of errors."""
    right, rows = benchmark.right_part(contest), []
    for share in SHARES:
        part = with_errors(right, share)
        part.table = benchmark.without_noise(part, part.came)
        name = f"harm_{round(share * 100)}"
        coarse, _ = benchmark.rank_stage(part, part.coarse, f"{name}_02", part.table)
        nobody = pd.Series("", index=coarse.index)
        ours, _, _, learnt, _ = benchmark.posterior_stage(part, coarse, nobody, name)
        before = benchmark.scored(part, "everything", part.came)
        after = benchmark.scored(part, "cleaned", ours, learnt=learnt)
        row = {"contest": contest.name, "seed": contest.seed, "errors": share}
        row |= {"everything": before["top1"], "cleaned": after["top1"]}
        row["softly"] = after["top1_soft"]
        row |= {"right_lost": after["good_lost"], "found": after["recall"]}
        rows.append(row | {"trust": learnt.channel.trust})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    given = benchmark.arguments(__doc__)
    table = pd.DataFrame([row for contest in benchmark.contests(given) for row in rows_of(contest)])
    table["gain"] = table["cleaned"] - table["everything"]
    table["soft_gain"] = table["softly"] - table["everything"]
    groups = table.drop(columns="seed").groupby(["contest", "errors"])
    mean = groups.mean().join(benchmark.half_widths(groups[GAINS]))
    print(mean.round(4).to_string())
    line = {
        contest: mean.loc[contest][[*GAINS, "right_lost", "found", "trust"]].round(4).T.to_dict()
        for contest in given.contests
    }
    print(json.dumps(line | {"seeds": len(given.seeds)}))


if __name__ == "__main__":
    main()
