"""What is a cleaned table worth to a network that is fine-tuned on it?

`python benchmarks/cleaning_fine_tune.py [--contests demo grocery-web] [--seeds 0 1 2] [--size 112]
[--epochs 6] [--work FOLDER]` cleans as `cleaning.py` does: nothing at all, cleanlab's filters of
`--filters` on the same out-of-fold networks, the original's loop, the kit's default without a
human, and what truth would drop. On each table a whole network learns by the recipe of 10_train,
its classifier drawn at random, and answers the test images; beside it stands the logistic
regression of `cleaning.py`. Seeds are as there; that of a fit is the same for all tables. `gain` is
the paired difference from the kit's default, with a 95 % interval over seeds (Student's t).

With `--work` each row is kept in `FOLDER/cleaning_fine_tune.jsonl` and not made again. Last line:
JSON.
"""

import argparse
import json
from collections.abc import Iterator

import cleaning as benchmark
import numpy as np
import pandas as pd
from cleaning import Contest
from kept_rows import KeptRows

from fgvc_utils.contest import tables
from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.contest_file import notebook_defaults
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.rows import job_rows
from fgvc_utils.pipeline.stages import STAGES
from fgvc_utils.training.recipes import training_job

OURS = "our default"
KEYS = ["contest", "seed", "method"]


def cleaned(contest: Contest, filters: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The table of each method."""
    yield "everything", contest.came
    everyone = tables.kept(contest.came)
    cross = benchmark.crossing_of(contest, contest.coarse, "all", contest.came, everyone)
    predictions = cross.judge("fold", benchmark.Round(), everyone, crossed=True)
    for name in filters:
        table = benchmark.without_issues(contest.came, predictions, name)
        yield f"cleanlab {name}", table
    coarse, _ = benchmark.rank_stage(contest, contest.coarse, "02_coarse", contest.table)
    yield "original's loop", benchmark.rank_stage(contest, contest.fine, "03_rank", coarse)[0]
    nobody = pd.Series("", index=coarse.index)
    yield OURS, benchmark.posterior_stage(contest, coarse, nobody)[0]
    yield "truth drops", benchmark.truth_tables(contest)[0]


def fine_tuned(contest: Contest, table: pd.DataFrame, method: str, size: int, epochs: int) -> float:
    """Test top-1 of a network that learnt from a table; a picture that cannot be read is wrong."""
    shared = {name: getattr(contest.fine, name) for name in Shared.model_fields}
    name = method.replace(" ", "-").replace("'", "")
    own = {"name": name, "seed": contest.seed, "size": size, "epochs": epochs}
    own |= {"start_head": "random", "decoded_gb": 0.0}
    cfg = STAGES["10_train"].parameters(**notebook_defaults("10_train") | shared | own)
    job = training_job(cfg, name, tables.classes_of(contest.came))
    job = job.model_copy(update={"keep": ["logits"], "keep_weights": False})
    inventory = contest.inventory.loc[table["image_id"]]
    test = table["split"] == "test"
    rows = job_rows(inventory, target=table["label"], fit=tables.kept(table), predict=test)
    benchmark.in_this_process([(job, rows)], cfg, name)
    store = Store(job.store)
    ids = contest.table.set_index("path")["image_id"]
    asked = [path for path in contest.test_truth.index if ids[path] in set(store.image_ids)]
    answers = np.array(store.classes)[store.read("logits", ids[asked]).argmax(axis=1)]
    return float((answers == contest.test_truth[asked].to_numpy()).sum() / len(contest.test_truth))


def all_rows(given: argparse.Namespace) -> pd.DataFrame:
    """A row a contest, seed and method; what is kept in `given.work` is not made again."""
    kept = KeptRows(given.work, "cleaning_fine_tune", KEYS)
    done = kept.done()
    for contest in benchmark.contests(given):
        for method, table in cleaned(contest, given.filters):
            if (contest.name, contest.seed, method) in done:
                continue
            row = benchmark.scored(contest, method, table)
            row = {key: row[key] for key in [*KEYS, "f1", "good_lost"]} | {"probe": row["top1"]}
            row["network"] = fine_tuned(contest, table, method, given.size, given.epochs)
            print(row, flush=True)
            kept.add(row)
    table = pd.DataFrame(kept.rows)
    return table[table["contest"].isin(given.contests) & table["seed"].isin(given.seeds)]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means by method over contests and seeds, and the paired gains of the kit's default."""
    means = table.groupby("method", sort=False)[["f1", "good_lost", "probe", "network"]].mean()
    for figure in ("probe", "network"):
        wide = table.pivot_table(index=["contest", "seed"], columns="method", values=figure)
        lead = wide.rsub(wide[OURS], axis=0).stack().rename(f"{figure}_lead").reset_index()
        groups = lead.groupby("method")[[f"{figure}_lead"]]
        means = means.join(groups.mean()).join(benchmark.half_widths(groups))
    return means


def main() -> None:
    more = argparse.ArgumentParser(add_help=False)
    more.add_argument("--filters", nargs="*", default=["both", "prune_by_noise_rate"])
    more.add_argument("--size", type=int, default=112, help="side of the pictures, px")
    more.add_argument("--epochs", type=int, default=6)
    given = benchmark.arguments(__doc__, more)
    table = all_rows(given)
    parts = {name: table[table["contest"] == name] for name in given.contests} | {"all": table}
    with pd.option_context("display.width", 200, "display.max_columns", 20):
        for name, part in parts.items():
            print(name, "\n", summary(part).round(4).to_string(), sep="")
    print(json.dumps(summary(table).round(4).T.to_dict() | {"seeds": len(given.seeds)}))


if __name__ == "__main__":
    main()
