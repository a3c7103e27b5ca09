"""What is each setting of 03 worth: to the next model, and to the peace of its verdicts?

`python benchmarks/cleaning_settings.py --settings "" "trust=0.2 sharpness=1.5" "cuts=3" [--contests
demo grocery-web] [--seeds 0 1 2] [--work FOLDER]` runs 03 by posterior, without a human, on the
table that 01 and 02 left, once a setting; a setting is a line of `name=value` for parameters of 03,
and an empty one stands for the notebooks' defaults. With `--again` each is run once more with
another seed: `same` is the share of train images whose verdict and label stay as they were. Scored
as in `cleaning.py`; `gain` is the paired difference in top-1 from the first setting, and `gain±`
half its 95 % interval over contests and seeds (Student's t). `--set` holds for all settings and for
01 and 02 too.

With `--work` each row is kept in `FOLDER/cleaning_settings.jsonl` and not made again. Last line:
JSON.
"""

import argparse
import json
from dataclasses import replace

import cleaning as benchmark
import pandas as pd
from cleaning import Contest
from cleaning_stability import same, taught, verdicts
from kept_rows import KeptRows

KEYS = ["contest", "seed", "setting"]
FIGURES = [
    "precision",
    "recall",
    "f1",
    "good_lost",
    "relabelled",
    "trust",
    "top1",
    "top1_soft",
    "same",
]
ANOTHER_SEED = 500


def row_of(contest: Contest, coarse: pd.DataFrame, setting: str, again: bool) -> dict:
    """One setting's row."""
    changes = dict(part.split("=", 1) for part in setting.split())
    fine = type(contest.fine)(**contest.fine.model_dump() | changes)
    contest = replace(contest, fine=fine)
    nobody = pd.Series("", index=coarse.index)
    table, _, _, learnt, _ = benchmark.posterior_stage(contest, coarse, nobody, "setting")
    row = benchmark.scored(contest, "03", table, learnt=learnt) | {"setting": setting}
    row |= {"trust": learnt.channel.trust, "sharpness": learnt.channel.sharpness}
    row |= {"rounds": len(learnt.rounds), "same": float("nan")}
    if again:
        other = verdicts(contest, coarse, "setting", seed=fine.seed + ANOTHER_SEED)
        row["same"] = same(taught(table), other)
    return row


def all_rows(given: argparse.Namespace) -> pd.DataFrame:
    """A row a contest, seed and setting; what is kept in `given.work` is not made again."""
    kept = KeptRows(given.work, "cleaning_settings", KEYS)
    done = kept.done()
    for contest in benchmark.contests(given):
        coarse, _ = benchmark.rank_stage(contest, contest.coarse, "02_coarse", contest.table)
        for setting in given.settings:
            if (contest.name, contest.seed, setting) in done:
                continue
            row = row_of(contest, coarse, setting, given.again)
            print({key: row.get(key) for key in [*KEYS, *FIGURES]}, flush=True)
            kept.add(row)
    table = pd.DataFrame(kept.rows).astype({"same": float})
    return table[table["setting"].isin(given.settings) & table["seed"].isin(given.seeds)]


def summary(table: pd.DataFrame, first: str) -> pd.DataFrame:
    """Means a setting, over contests and seeds, and the paired gain over the first setting."""
    wide = table.pivot_table(index=["contest", "seed"], columns="setting", values="top1")
    gains = wide.sub(wide[first], axis=0).stack().rename("gain").reset_index()
    groups = gains.groupby("setting")[["gain"]]
    means = table.groupby("setting", sort=False)[[*FIGURES, "rounds"]].mean()
    return means.join(groups.mean()).join(benchmark.half_widths(groups))


def main() -> None:
    more = argparse.ArgumentParser(add_help=False)
    more.add_argument("--settings", nargs="+", default=["", "trust=0.2 sharpness=1.5"])
    more.add_argument("--again", action="store_true", help="run each with another seed too")
    given = benchmark.arguments(__doc__, more)
    table = all_rows(given)
    for contest in [*given.contests, "all"]:
        part = table if contest == "all" else table[table["contest"] == contest]
        print(contest, "\n", summary(part, given.settings[0]).round(4).to_string(), sep="")
    means = summary(table, given.settings[0])
    print(json.dumps(means.round(4).T.to_dict() | {"seeds": len(given.seeds)}))


if __name__ == "__main__":
    main()
