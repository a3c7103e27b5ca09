"""The cleaning of 01 to 03 beside the original's loop, cleanlab's filters and the truth.

`python benchmarks/cleaning.py [--contests demo grocery-web] [--seeds 0 1 2] [--set
neighbour_votes=1 prototypes=0.5]` runs the kit's own rounds in this process, lets cleanlab judge
the same out-of-fold probabilities, and scores what each keeps: precision, recall and F1 of flagging
(a positive is an image whose `kind` is not ok, an image whose label is changed counts as flagged),
recall by kind, the share of good images lost, and the test top-1 of one small model trained on what
is kept, a logistic regression on frozen features; of ours also that of one that learns from the
posteriors, as 10 does with `soft_labels` (`top1_soft`). `--set` sets parameters of 01 to 03.

Truth scores, and it answers for the reviewer when an image is put before one; nothing else reads
it. A seed of the demo draws another demo; on grocery-web it cuts other folds. Last line: JSON.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from allocator import keep_memory
from soft_labels import soft_rows

from fgvc_utils.cleaning import contradictions, neighbours, noise, rules
from fgvc_utils.cleaning import posterior as posteriors
from fgvc_utils.cleaning.asking import review_order
from fgvc_utils.cleaning.crossing import Crossing, pull_back, within
from fgvc_utils.cleaning.deep_copies import with_deep_copies
from fgvc_utils.cleaning.fits import feature_jobs
from fgvc_utils.cleaning.judging import chosen_bars
from fgvc_utils.cleaning.params import CrossParams, NoiseParams, Round
from fgvc_utils.cleaning.planting import planted_check, planted_errors
from fgvc_utils.cleaning.rounds import Posteriors, posterior_rounds
from fgvc_utils.cleaning.verdicts import apply, decisions, judged_and_none
from fgvc_utils.contest import copies, decoding, images, listing, places, tables
from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.contest_file import notebook_defaults
from fgvc_utils.contest.inventory import cache_folder, cached_files
from fgvc_utils.contest.places import data_root
from fgvc_utils.core.processes import processors
from fgvc_utils.demo import drawing
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.done import is_done
from fgvc_utils.jobs.features import feature_job
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.reduction import Reduced
from fgvc_utils.jobs.results import read_features
from fgvc_utils.jobs.rows import Rows
from fgvc_utils.jobs.running import write_job
from fgvc_utils.pipeline.contest_file import read_contest

PROJECT = places.PROJECT
REVIEW_SHARE = 0.10
FILTERS = (
    "prune_by_class",
    "prune_by_noise_rate",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_normalized_margin",
    "low_self_confidence",
)
KINDS = ("noise", "coarse", "fine", "duplicate", "chaotic", "corrupt")


def in_this_process(jobs: list[Rows], cfg: Shared, name: str) -> None:
    """Carry jobs out without a launch: many short fits, one import of the training library."""
    from fgvc_utils.training.worker import carry_out

    for job, rows in jobs:
        write_job(job, rows)
        if not is_done(job):
            carry_out(job, Processes(), Progress(None))


@dataclass
class Contest:
    """One data set and seed: its label table after 01, features, parameters and truth."""

    name: str
    seed: int
    noise: NoiseParams
    coarse: CrossParams
    fine: CrossParams
    inventory: pd.DataFrame
    came: pd.DataFrame
    table: pd.DataFrame
    truth: pd.DataFrame
    test_truth: pd.Series
    features: list[Job]
    student: Job
    frozen: Job


def stage_parameters(
    name: str, outputs: Path, seed: int, data: Path, further: dict[str, Any] | None = None
) -> dict[str, Shared]:
    """The contest file's own parameters, with another seed and place for results.

    What the demo's file saves for the time, networks and rounds, is as in the notebooks. `further`
    holds more parameters, each for the stages that have it.
    """
    further = further or {}
    steps = read_contest(PROJECT / "params" / f"{name}.yaml")
    # Only the demo has other images with another seed; the others share their features.
    run = f"{name}-{seed}" if name == "demo" else name
    changed = {"outputs": str(outputs), "seed": seed, "run": run}
    changed["data_root"] = str(data)
    made = {step.stage: step.cfg.model_copy(update=changed) for step in steps}
    for name in ("02_coarse", "03_fine"):
        usual = notebook_defaults(name)
        saved = {key: usual[key] for key in ("further_backbones", "max_rounds")}
        made[name] = made[name].model_copy(update=saved)
    if strangers := set(further) - {*NoiseParams.model_fields, *CrossParams.model_fields}:
        raise ValueError(f"--set: neither 01, 02 nor 03 has {', '.join(sorted(strangers))}")
    for name in ("01_noise", "02_coarse", "03_fine"):
        own = {key: value for key, value in further.items() if key in type(made[name]).model_fields}
        made[name] = type(made[name])(**made[name].model_dump() | own)
    return made


def taken_in(cfg: NoiseParams, data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The inventory of a folder's images and their label table, with the groups of copies."""
    listed = listing.list_images(data, cfg.train, cfg.test)
    side = max(cfg.cache_side, 260)
    inventory = tables.by_image_id(images.take_in(listed, data, cache_folder(cfg), side))
    inventory["file"] = cached_files(cfg, inventory)
    table = tables.new_table(listed)
    table["group"] = copies.groups(inventory, cfg.copy_distance)
    return inventory, table


def prepare(name: str, seed: int, work: Path, further: dict[str, Any] | None = None) -> Contest:
    """Draw or find the images, compute their features, and run 01 without a human."""
    data = work / f"demo-{seed}" if name == "demo" else data_root(name)
    if name == "demo" and not data.is_dir():
        drawing.draw_demo(data, seed=seed)
    cfg = stage_parameters(name, work, seed, data, further)
    first, coarse, fine = cfg["01_noise"], cfg["02_coarse"], cfg["03_fine"]
    inventory, table = taken_in(first, data)
    broken = (inventory["error"] != "") & (table["split"] == "train")
    table = tables.leave_out(table, broken, "01_noise", "unreadable")
    features = feature_jobs(coarse, inventory)
    frozen = feature_job(first, inventory)
    small = feature_job(first.model_copy(update={"size": 224}), inventory)
    in_this_process([*features, frozen, small], first, "features")
    if first.deep_copy_similarity:
        table["group"] = with_deep_copies(table, frozen[0], first.deep_copy_similarity)
    came = table.copy()
    truth = pd.read_csv(data / "truth/train.csv", dtype=str, keep_default_na=False)
    tests = pd.read_csv(data / "truth/test.csv", dtype=str, keep_default_na=False)
    contest = Contest(
        name, seed, first, coarse, fine, inventory, came, came,
        truth.set_index("path"), tests.set_index("path").iloc[:, 0],
        [job for job, _ in features], small[0], frozen[0],
    )  # fmt: skip
    contest.table = without_noise(contest, came)
    return contest


def without_noise(contest: Contest, table: pd.DataFrame) -> pd.DataFrame:
    """01 without a human: leave out copies that say nothing and what is surely noise."""
    cfg, inventory = contest.noise, contest.inventory.loc[table["image_id"]]
    table, _ = contradictions.leave_out(
        table, inventory, tables.kept(table), cfg.copies_agree, "01_noise"
    )
    asked = tables.kept(table)
    vectors, order = read_features(contest.frozen, table.loc[asked, "image_id"])
    near = neighbours.nearest(vectors, table.loc[asked, "group"].to_numpy(), cfg.neighbours)
    disorder = pd.Series(
        neighbours.label_disorder(near, table.loc[asked, "given"].to_numpy()), index=order
    )
    odd = ~decoding.is_three_channel(inventory["stored_as"])[order]
    if not rules.bootstrap_set(odd, cfg.bootstrap_least, cfg.bootstrap_most)[1]:
        return table
    picks = rules.propose_picks(disorder, odd, cfg.propose_noise, cfg.propose_normal)
    probability, _ = noise.noise_rounds(
        cfg, "01_noise", table, inventory, contest.frozen, picks, in_this_process
    )
    agreement = neighbours.label_agreement(near, table.loc[asked, "given"].to_numpy())
    held = rules.confirm_noise(
        probability > cfg.threshold, pd.Series(agreement, order), cfg.noise_agreement, picks
    )
    flagged = held.reindex(table["image_id"], fill_value=False)
    return tables.leave_out(table, flagged, "01_noise", "noise")


def crossing_of(
    contest: Contest, cfg: CrossParams, name: str, table: pd.DataFrame, asked: pd.Series
) -> Crossing:
    """A stage's cross-training on a table, carried out in this process."""
    fold = rules.cut_folds(
        table.loc[asked, "label"], table.loc[asked, "group"], cfg.folds, cfg.seed + cfg.top
    ).reindex(table.index, fill_value=-1)
    # cleanlab wants all classes' probabilities; the kit's own decisions need the largest alone.
    return Crossing(
        cfg, name, table, contest.inventory, asked, fold, contest.features, in_this_process,
        top=len(tables.classes_of(table)) + 1,
    )  # fmt: skip


def rank_stage(
    contest: Contest,
    cfg: CrossParams,
    name: str,
    table: pd.DataFrame,
    confirmed: pd.Series | None = None,
) -> tuple[pd.DataFrame, Reduced]:
    """A stage by the original's rule: the table after it and the out-of-fold predictions."""
    asked = tables.kept(table)
    confirmed = asked & False if confirmed is None else confirmed
    cross = crossing_of(contest, cfg, name, table, asked)
    predictions = cross.judge("fold", Round(), asked, crossed=True)
    positive = asked & (within(predictions, table, cfg.top) | confirmed)
    positive, *_ = pull_back(cross, positive, confirmed, predictions)
    return tables.leave_out(table, asked & ~positive, name, "label"), predictions


def posterior_stage(
    contest: Contest, table: pd.DataFrame, known: pd.Series, name: str = "03_fine"
) -> tuple[pd.DataFrame, pd.DataFrame, Crossing, Posteriors, pd.Series]:
    """03 by posterior: the table after it, the decisions, and what led to them."""
    asked, none = judged_and_none(table)
    cross = crossing_of(contest, contest.fine, name, table, asked)
    learnt = posterior_rounds(cross, tables.kept(table), none, known)
    cfg = contest.fine
    if cfg.bars == "planted":
        cfg = cfg.model_copy(update=chosen_bars(planted_errors(cross, learnt, none)))
    decided = decisions(cross, learnt, cfg)
    return apply(table, decided, name, contest.fine.relabel), decided, cross, learnt, none


def answer(contest: Contest, image_ids: list[str]) -> pd.Series:
    """A reviewer's answers about images: their true class, or empty where they show none."""
    paths = contest.table.set_index("image_id").loc[image_ids, "path"]
    classes = set(tables.classes_of(contest.table))
    true = contest.truth.loc[paths, "true"].set_axis(image_ids)
    return true.where(true.isin(classes), "")


def as_known(table: pd.DataFrame, answers: pd.Series) -> pd.Series:
    """A reviewer's answers (by image_id) as what is known of each row: a class, none, or empty."""
    known = answers.where(answers != "", posteriors.NONE).reindex(table["image_id"], fill_value="")
    return known.set_axis(table.index)


def with_answers(contest: Contest, table: pd.DataFrame, answers: pd.Series) -> pd.DataFrame:
    """A table with a reviewer's answers in force."""
    table = table.copy()
    rows = table.index[table["image_id"].isin(answers.index)]
    classes = answers[table.loc[rows, "image_id"]].to_numpy()
    table.loc[rows, "status"] = np.where(classes == "", "drop", "keep")
    table.loc[rows, ["stage", "by"]] = ["03_fine", "human"]
    table.loc[rows, "cause"] = np.where(classes == "", "no_class", "relabelled")
    table.loc[rows, "label"] = np.where(classes == "", table.loc[rows, "label"], classes)
    return table


def small_model(contest: Contest, train: pd.DataFrame, weight: Any = None) -> np.ndarray:
    """Which test images a logistic regression on frozen features of the kept images gets right.

    Boolean, in the order of `contest.test_truth`; an image that cannot be read counts as wrong. An
    image with soft labels has a row a class in `train`, and their probabilities in `weight`.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    store = Store(contest.student.store)
    paths = contest.table.set_index("path")["image_id"]
    test = [path for path in contest.test_truth.index if paths[path] in set(store.image_ids)]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    features = store.read("features", train["image_id"]).astype(np.float32)
    model.fit(features, train["label"], logisticregression__sample_weight=weight)
    predicted = model.predict(store.read("features", paths[test]).astype(np.float32))
    right = pd.Series(predicted == contest.test_truth[test].to_numpy(), test)
    return right.reindex(contest.test_truth.index, fill_value=False).to_numpy()


def softly(contest: Contest, table: pd.DataFrame, learnt: Posteriors) -> np.ndarray:
    """As `small_model`, learning as 10 does with `soft_labels`."""
    judged = table.loc[judged_and_none(table)[0], "image_id"]
    rows = soft_rows(table, learnt, judged[judged.isin(learnt.predictions.image_ids)])
    rows = rows[readable(contest, rows)]
    return small_model(contest, rows, rows["weight"])


def scored(
    contest: Contest,
    method: str,
    table: pd.DataFrame,
    reviewed: int = 0,
    learnt: Posteriors | None = None,
) -> dict:
    """A row of the table: what a method flagged, compared with the truth.

    With what the rounds learnt there is a second model, of `softly`.
    """
    train = table[table["split"] == "train"]
    kind = contest.truth.loc[train["path"], "kind"].to_numpy()
    flagged = ((train["status"] == "drop") | (train["label"] != train["given"])).to_numpy()
    wrong = kind != "ok"
    hits = int((flagged & wrong).sum())
    precision = hits / flagged.sum() if flagged.any() else float("nan")
    recall = hits / wrong.sum()
    row = {"contest": contest.name, "seed": contest.seed, "method": method, "looks": reviewed}
    row |= {"precision": precision, "recall": recall}
    row["f1"] = 2 * hits / (flagged.sum() + wrong.sum())
    row["good_lost"] = float(flagged[~wrong].mean())
    row |= {k: float(flagged[kind == k].mean()) for k in KINDS if (kind == k).any()}
    kept = train[(train["status"] == "keep").to_numpy() & readable(contest, train)]
    row["kept"] = len(kept)
    row["relabelled"] = int((kept["label"] != kept["given"]).sum())
    right = small_model(contest, kept)
    row["top1"] = float(right.mean())
    # A digit a test image, for paired differences.
    row["right"] = "".join(map(str, right.astype(int)))
    row["top1_soft"] = float("nan")
    if learnt is not None:
        right = softly(contest, table, learnt)
        row["top1_soft"] = float(right.mean())
        row["right_soft"] = "".join(map(str, right.astype(int)))
    return row


def readable(contest: Contest, train: pd.DataFrame) -> np.ndarray:
    """Which rows could be decoded."""
    files = contest.inventory.set_index("image_id")["file"]
    return (files[train["image_id"]] != "").to_numpy()


def for_cleanlab(predictions: Reduced, labels: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Label numbers and probabilities as cleanlab takes them; `labels` by image_id."""
    probability = predictions.dense().astype(np.float64)
    probability /= probability.sum(axis=1, keepdims=True)
    numbers = pd.Index(predictions.classes).get_indexer(labels[predictions.image_ids])
    return numbers, probability


def cleanlab_rows(
    contest: Contest, table: pd.DataFrame, predictions: Reduced, suffix: str
) -> list[dict]:
    """Every filter of cleanlab on the same out-of-fold probabilities."""
    return [
        scored(contest, f"cleanlab {name}{suffix}", without_issues(table, predictions, name))
        for name in FILTERS
    ]


def without_issues(table: pd.DataFrame, predictions: Reduced, name: str) -> pd.DataFrame:
    """A table without what a filter of cleanlab flags, by out-of-fold probabilities."""
    from cleanlab.filter import find_label_issues

    numbers, probability = for_cleanlab(predictions, table.set_index("image_id")["label"])
    issues = find_label_issues(numbers, probability, filter_by=name, n_jobs=1)
    flagged = table["image_id"].isin(predictions.image_ids[issues])
    return tables.leave_out(table, flagged, "cleanlab", "label", name)


def truth_tables(contest: Contest) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What truth would drop, and what it would relabel."""
    table = contest.came
    train = table["split"] == "train"
    kind = contest.truth["kind"].reindex(table["path"]).set_axis(table.index)
    drops = tables.leave_out(table, train & (kind != "ok"), "truth", "label")
    true = contest.truth["true"].reindex(table["path"]).set_axis(table.index)
    known = train & true.isin(tables.classes_of(table)) & (table["status"] == "keep")
    relabels = tables.leave_out(table, train & ~known, "truth", "label")
    relabels.loc[known, "label"] = true[known]
    return drops, relabels


def run_contest(contest: Contest) -> list[dict]:
    """All methods on one data set and seed."""
    drops, relabels = truth_tables(contest)
    rows = [scored(contest, "everything", contest.came)]
    rows.append(scored(contest, "truth drops", drops))
    rows.append(scored(contest, "truth relabels", relabels))
    everyone = tables.kept(contest.came)
    cross = crossing_of(contest, contest.coarse, "all", contest.came, everyone)
    predictions = cross.judge("fold", Round(), everyone, crossed=True)
    rows += cleanlab_rows(contest, contest.came, predictions, "")

    coarse, predictions = rank_stage(contest, contest.coarse, "02_coarse", contest.table)
    rows += cleanlab_rows(contest, contest.table, predictions, " after 01")
    by_rank, _ = rank_stage(contest, contest.fine, "03_rank", coarse)
    rows.append(scored(contest, "original's loop", by_rank))
    rows.append(human_rank_row(contest, coarse, by_rank))

    nobody = pd.Series("", index=coarse.index)
    ours, decided, cross, learnt, none = posterior_stage(contest, coarse, nobody)
    rows.append(scored(contest, "our default", ours, learnt=learnt))
    _, planted = planted_check(planted_errors(cross, learnt, none), contest.fine)
    rows[-1] |= {f"planted_{key}": value for key, value in planted.items()}
    order, wanted = review_order(decided, [], REVIEW_SHARE)
    answers = answer(contest, order[:wanted])
    known = as_known(coarse, answers)
    again, _, _, learnt, _ = posterior_stage(contest, coarse, known, "03_looks")
    looked = with_answers(contest, again, answers)
    rows.append(scored(contest, "our default + looks", looked, len(answers), learnt))
    return rows


def right_part(contest: Contest) -> Contest:
    """The part of a contest that truth calls ok; the test images stay as they are."""
    kind = contest.truth["kind"].reindex(contest.came["path"]).to_numpy()
    right = (contest.came["split"] == "test").to_numpy() | (kind == "ok")
    came = contest.came[right]
    inventory = contest.inventory.loc[came["image_id"]]
    return replace(contest, inventory=inventory, came=came, table=came)


def on_right_labels(contest: Contest) -> dict:
    """The share of images left out or relabelled where every label is right, by 01 and by 01 to 03.

    See `right_part`.
    """
    part = right_part(contest)
    part.table = without_noise(part, part.came)
    coarse, _ = rank_stage(part, part.coarse, "clean_02", part.table)
    by_rank, _ = rank_stage(part, part.fine, "clean_03", coarse)
    nobody = pd.Series("", index=coarse.index)
    ours, *_ = posterior_stage(part, coarse, nobody, "clean_posterior")
    train = part.came["split"] == "train"
    lost = {"after 01": part.table, "original's loop": by_rank, "our default": ours}
    return {
        name: float(
            ((table["status"] == "drop") | (table["label"] != table["given"]))[train].mean()
        )
        for name, table in lost.items()
    }


def human_rank_row(contest: Contest, coarse: pd.DataFrame, by_rank: pd.DataFrame) -> dict:
    """The original's loop with a review of negatives drawn at random, and once more from there."""
    negative = by_rank[
        (by_rank["status"] == "drop") & by_rank["stage"].isin(["02_coarse", "03_rank"])
    ]
    seen = negative.sample(round(len(negative) * REVIEW_SHARE), random_state=contest.seed)
    answers = answer(contest, seen["image_id"].tolist())
    good = answers.index[answers == seen.set_index("image_id")["given"]]
    confirmed = coarse["image_id"].isin(good)
    back = coarse.copy()
    columns = ["status", "stage", "by", "cause"]
    back.loc[confirmed, columns] = ["keep", "02_coarse", "human", "confirmed"]
    again, _ = rank_stage(contest, contest.fine, "03_rank_human", back, confirmed)
    return scored(contest, "original's loop + human share", again, len(answers))


def half_widths(groups: Any) -> pd.DataFrame:
    """Half-width of the 95 % interval of each group's mean (Student's t), columns `name±`."""
    from scipy.stats import t

    n = groups.size()
    return groups.std().mul(t.ppf(0.975, n - 1) / np.sqrt(n), axis=0).add_suffix("±")


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds with the half-width of a 95 % interval (Student's t) of f1 and top1."""
    figures = [
        "looks",
        "precision",
        "recall",
        "f1",
        "good_lost",
        *KINDS,
        "kept",
        "relabelled",
        "top1",
        "top1_soft",
    ]
    groups = rows.groupby(["contest", "method"], sort=False)
    mean = groups[figures].mean()
    return mean.join(half_widths(groups[["f1", "top1", "top1_soft"]]))


def closing(rows: pd.DataFrame, contest: str) -> dict:
    """The JSON line of one contest."""
    of = (
        rows[rows["contest"] == contest]
        .groupby("method")[["f1", "top1", "top1_soft", "looks"]]
        .mean()
    )
    lower, upper = of.loc["everything", "top1"], of.loc["truth drops", "top1"]
    labs = [name for name in of.index if name.startswith("cleanlab")]
    gap = lambda name, what="top1": (of.loc[name, what] - lower) / (upper - lower)  # noqa: E731
    figures = {
        "f1": of.loc["our default", "f1"],
        "best_cleanlab_f1": of.loc[labs, "f1"].max(),
        "f1_original": of.loc["original's loop", "f1"],
        "top1_everything": lower,
        "top1_original": of.loc["original's loop", "top1"],
        "top1_ours": of.loc["our default", "top1"],
        "top1_truth_drops": upper,
        "gap_closed": gap("our default"),
        "gap_closed_with_looks": gap("our default + looks"),
        "gap_closed_softly": gap("our default", "top1_soft"),
        "gap_closed_softly_with_looks": gap("our default + looks", "top1_soft"),
        "looks": of.loc["our default + looks", "looks"],
    }
    return {key: round(float(value), 4) for key, value in figures.items()}


def setting(text: str) -> tuple[str, Any]:
    """A parameter's name and value from `name=value`; a list is JSON."""
    name, value = text.split("=", 1)
    return name, json.loads(value) if value.startswith("[") else value


def arguments(description: str, more: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """The command line: contests, seeds and the folder of the work; starts again where it must."""
    keep_memory()
    parser = argparse.ArgumentParser(
        description=description.splitlines()[0], parents=[more] if more else []
    )
    parser.add_argument("--contests", nargs="+", default=["demo", "grocery-web"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--work", type=Path, help="keep the work there, to go on later")
    parser.add_argument(
        "--set", nargs="+", default=[], type=setting, help="name=value, a list as JSON"
    )
    return parser.parse_args()


def contests(given: argparse.Namespace) -> Iterator[Contest]:
    """Each contest and seed in turn; says how long each took."""
    torch.set_num_threads(processors())
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.work or Path(temporary)).resolve()
        for name in given.contests:
            for seed in given.seeds:
                started = time.monotonic()
                yield prepare(name, seed, work, dict(given.set))
                print(f"{name}, seed {seed}: {time.monotonic() - started:.0f} s", flush=True)


def main() -> None:
    given = arguments(__doc__)
    rows, right = [], []
    for contest in contests(given):
        rows += run_contest(contest)
        lost = on_right_labels(contest)
        right.append({"contest": contest.name, "seed": contest.seed, **lost})
        print(pd.DataFrame(right).round(4).to_string(), flush=True)
    table = pd.DataFrame(rows)
    with pd.option_context("display.width", 250, "display.max_columns", 40, "display.max_rows", 99):
        print(summary(table).round(3).to_string())
        asked = [name for name in ["planted_precision"] if name in table]
        planted = table.dropna(subset=asked)
        print(planted.filter(regex="contest|seed|precision|recall$|planted").round(3).to_string())
    line = closing(table, given.contests[-1]) | {"seeds": len(given.seeds)}
    print(json.dumps(line | {"by_contest": {c: closing(table, c) for c in given.contests}}))


if __name__ == "__main__":
    main()
