"""What each part of the answer gains over the probe: a row an arm, three seeds, with intervals.

`python benchmarks/answer.py --work FOLDER [--contests grocery-web demo] [--seeds 0 1 2] [--arms …]`
cleans a contest by the kit's own 01 to 04 without a human, trains every arm, lets 30 and 40 answer,
and prints how each arm fares beside the joined probe, the floor. Some hours on two cores, minutes
on a GPU (`--device cuda`). A stage or fit that is done is not done again, so the command may be cut
off and repeated; calls that name arms make those alone, one without names prints the whole table.

A seed sets the random numbers of the cleaning and of the fits; the demo is drawn anew. Choices are
made on the held-out images, whose labels are web labels that passed the cleaning. Truth makes the
last column, and the arms whose labels it is: they say what the same recipe would reach with right
labels. Differences are paired: the same test images under the same seeds, with a 95 % bootstrap
interval over seeds and images. The last line is JSON.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from ladder import cleaned, interval

from fgvc_utils.answers import assignment, submission
from fgvc_utils.answers.assignment import Rule
from fgvc_utils.answers.label_shift import belief
from fgvc_utils.contest import presets, tables
from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.contest_file import notebook_defaults
from fgvc_utils.contest.inventory import read_inventory
from fgvc_utils.contest.places import data_root
from fgvc_utils.demo import drawing
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.results import read_probabilities
from fgvc_utils.jobs.rows import Rows, job_rows
from fgvc_utils.jobs.running import run_jobs
from fgvc_utils.pipeline.contest_file import Step
from fgvc_utils.pipeline.running import execute
from fgvc_utils.pipeline.stages import STAGES
from fgvc_utils.training.first_heads import begin_with_best, probe_jobs, probe_table
from fgvc_utils.training.probes import (
    best_decay,
    decay_jobs,
    probe_features,
    probe_job,
    read_decays,
)
from fgvc_utils.training.recipes import decode, share_job, training_job

NETWORKS = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"]
# Kinds of train images that truth gives no label to learn.
NO_LABEL = ("noise", "corrupt", "chaotic")
# The fold that judges.
FOLD = 0

Labels = Literal["everything", "cleaned", "truth"]


@dataclass(frozen=True)
class Arm:
    """A way to an answer: labels, a recipe, and what it is compared with.

    Attributes
    ----------
    name, against : str
        Its own name and that of the arm that it is compared with.
    labels : str
        As the images came, as the kit cleaned them, or the truth.
    fit : str
        A probe, a network, a student of `members`, the mean of `members`, or a share of the tuned
        weights of its one member.
    changes : Mapping[str, Any]
        Parameters of 10 or 20 that differ from the notebook's defaults.
    members : tuple of str
        Other arms.
    """

    name: str
    against: str = ""
    labels: Labels = "cleaned"
    fit: Literal["probe", "network", "student", "mean", "share"] = "probe"
    changes: Mapping[str, Any] = field(default_factory=dict)
    members: tuple[str, ...] = ()


def preset(name: str) -> dict[str, Any]:
    """The values of a preset that 10 and 20 both have."""
    return presets.preset_values(name, STAGES["20_distill"].parameters.model_fields)


def arms(size: int, small: int, epochs: int) -> list[Arm]:
    """All arms, those first that others need."""
    shape = {"size": size, "epochs": epochs, "test_ratios": [], "tuned_shares": []}
    tuned = shape | preset("light") | {
        "start_head": "probe",
        "optimiser": "adamw",
        "base_lr": 1e-4,
        "weight_decay": 0.05,
        "decay_norms": False,
        "warm_up": 0.1,
        "clip_norm": 1.0,
        "freeze_statistics": True,
    }  # fmt: skip
    layered = tuned | {"base_lr": 3e-4, "layer_decay": 0.75}
    strong = layered | preset("strong") | {"mix_probability": 0.5}
    joined = {"probe_backbones": NETWORKS}
    half = max(1, epochs // 2)
    larger = layered | {"start": "small", "start_head": "random", "epochs": half}
    return [
        Arm("everything-probe", "probe", "everything"),
        Arm("everything-probes", "probes", "everything", changes=joined),
        Arm("probe", "everything-probe"),
        Arm("probes", "probe", changes=joined),
        Arm("truth-probes", "probes", "truth", changes=joined),
        Arm("original", "probe", fit="network", changes=shape | preset("original")),
        Arm("lp-ft", "original", fit="network", changes=tuned),
        Arm("layer-decay", "lp-ft", fit="network", changes=layered),
        Arm("strong", "layer-decay", fit="network", changes=strong),
        Arm("ema", "layer-decay", fit="network", changes=layered | {"ema_decay": 0.99}),
        Arm("swa", "layer-decay", fit="network", changes=layered | {"swa_epochs": half}),
        Arm("wise-ft", "layer-decay", fit="share", members=("layer-decay",)),
        Arm("small", "layer-decay", fit="network", changes=layered | {"size": small}),
        Arm("ladder", "layer-decay", fit="network", changes=larger),
        Arm("teachers", "probes", fit="mean", members=("probes", "layer-decay", "strong")),
        Arm(
            "distilled",
            "layer-decay",
            fit="student",
            changes=layered | {"variant": "A", "epochs": half},
            members=("probes", "layer-decay", "strong"),
        ),
        Arm("truth-layer-decay", "layer-decay", "truth", "network", layered),
        Arm(
            "mean",
            "probes",
            fit="mean",
            members=("probes", "probe", "layer-decay", "strong", "ladder", "distilled"),
        ),
    ]


@dataclass
class Contest:
    """A cleaned contest of one seed."""

    name: str
    seed: int
    steps: dict[str, Step]
    table: pd.DataFrame
    inventory: pd.DataFrame
    classes: list[str]
    came: pd.Series
    true: pd.Series
    test: pd.Series
    device: str = "auto"

    @property
    def cfg(self) -> Shared:
        """The parameters of its last cleaning stage."""
        return self.steps["04_lowq"].cfg

    @property
    def held_out(self) -> pd.Series:
        """The held-out images' labels, by image_id."""
        judged = self.table[tables.kept(self.table) & (self.table["fold"] == FOLD)]
        return judged["label"]

    def rows(self, labels: Labels) -> dict[str, pd.Series]:
        """What an arm learns from: `target` and `fit` by image_id; no copy of a held-out image."""
        groups = set(self.table.loc[self.held_out.index, "group"])
        free = (self.table["split"] == "train") & ~self.table["group"].isin(groups)
        if labels == "cleaned":
            return {"target": self.table["label"], "fit": free & tables.kept(self.table)}
        source = self.came if labels == "everything" else self.true
        target = source.reindex(self.table.index).where(lambda label: label.isin(self.classes), "")
        readable = self.inventory["error"].reindex(self.table.index) == ""
        return {"target": target, "fit": free & readable & (target != "")}


def prepare(name: str, seed: int, work: Path, device: str) -> Contest:
    """Draw or find the images, and run 01 to 04 where they are not done yet."""
    data = work / f"demo-{seed}" if name == "demo" else data_root(name)
    if name == "demo" and not data.is_dir():
        drawing.draw_demo(data, seed=seed)
    moved = {"run": f"{name}-{seed}", "seed": seed, "device": device, "data_root": str(data)}
    of_stage = {step.stage: step for step in cleaned(work, name, moved)}
    cfg = of_stage["04_lowq"].cfg
    table = tables.read_table(cfg.table_path("04_lowq")).set_index("image_id", drop=False)
    truth = pd.read_csv(data / "truth/train.csv", dtype=str, keep_default_na=False)
    truth = truth.set_index("path")
    true = truth["true"].where(~truth["kind"].isin(NO_LABEL), "")
    paths = table["path"]
    tests = pd.read_csv(data / "truth/test.csv", dtype=str, keep_default_na=False)
    of_test = paths[table["split"] == "test"].map(tests.set_index("path").iloc[:, 0])
    inventory = read_inventory(cfg).set_index("image_id", drop=False)
    classes = tables.classes_of(table)
    return Contest(
        name, seed, of_stage, table, inventory, classes,
        table["given"], paths.map(true).fillna(""), of_test, device,
    )  # fmt: skip


class Answers:
    """The arms of one contest and seed, made where they are asked for."""

    def __init__(self, contest: Contest, every: Sequence[Arm]) -> None:
        self.contest = contest
        self.every = {arm.name: arm for arm in every}
        self.made: dict[str, pd.DataFrame] = {}

    def probabilities(self, name: str) -> pd.DataFrame:
        """What an arm predicts of held-out and test images, a row an image, a column a class."""
        if name not in self.made:
            self.made[name] = self._make(self.every[name])
        return self.made[name]

    def _make(self, arm: Arm) -> pd.DataFrame:
        if arm.fit == "mean":
            return sum(map(self.probabilities, arm.members)) / len(arm.members)
        job, _ = self.fit(arm)
        asked = [*self.contest.held_out.index, *self.contest.test.index]
        return read_probabilities([job], asked)

    def fit(self, arm: Arm) -> Rows:
        """Carry out an arm's job and those that it needs."""
        if arm.fit == "probe":
            return self._probe(arm)
        if arm.fit == "share":
            return self._share(arm)
        return self._network(arm)

    def parameters(self, arm: Arm) -> Any:
        """The checked parameters of 10 or 20."""
        stage = "20_distill" if arm.fit == "student" else "10_train"
        record, cfg = STAGES[stage].parameters, self.contest.cfg
        given = notebook_defaults(stage) | {n: getattr(cfg, n) for n in Shared.model_fields}
        given |= {"held_out_fold": FOLD, "feature_views": 0, "fit": "network"}
        if arm.fit == "probe":
            # As 01 to 03 store features: nothing is computed.
            given |= {"fit": "probe", "size": 224, "test_ratio": 1.15}
        given |= arm.changes | {"name": arm.name}
        return record(**{name: given[name] for name in record.model_fields})

    def _rows(self, arm: Arm) -> pd.DataFrame:
        contest = self.contest
        own = contest.rows(arm.labels)
        held_out = contest.table["image_id"].isin(contest.held_out.index)
        test = contest.table["split"] == "test"
        if arm.fit == "student":
            own["fit"] = own["fit"] | test
        # Held-out images are judged by their cleaned labels, whatever an arm learns from.
        target = own["target"].where(~held_out, contest.table["label"])
        return job_rows(
            contest.inventory, target=target, fit=own["fit"], validate=held_out, predict=True
        )

    def _run(self, jobs: list[Rows], arm: Arm) -> None:
        run_jobs(jobs, self.contest.cfg, f"answer-{arm.name}")

    def _probe(self, arm: Arm) -> Rows:
        cfg, rows = self.parameters(arm), self._rows(arm)
        features = probe_features(cfg, self.contest.inventory)
        self._run(features, arm)
        job = probe_job(cfg, arm.name, self.contest.classes, features, cfg.probe_decays[0])
        tried = decay_jobs(cfg, job, rows, self.contest.table)
        self._run([fit for fits in tried.values() for fit in fits], arm)
        decay = best_decay(read_decays(tried))
        job = probe_job(cfg, arm.name, self.contest.classes, features, decay)
        self._run([(job, rows)], arm)
        return job, rows

    def _network(self, arm: Arm) -> Rows:
        cfg, rows = self.parameters(arm), self._rows(arm)
        if cfg.start:
            self.fit(self.every[cfg.start])
        teachers = [Path(self.fit(self.every[name])[0].folder) for name in arm.members]
        weight = 1.0 if arm.members else 0.0
        classes = self.contest.classes
        job = training_job(cfg, arm.name, classes, teachers=teachers, teacher_weight=weight)
        [(job, rows)] = decode(cfg, [(job, rows)])
        if cfg.start_head == "probe":
            first = probe_jobs(job, rows, cfg.start_head_decays)
            self._run(first, arm)
            job = begin_with_best(job, probe_table(first))
        self._run([(job, rows)], arm)
        return job, rows

    def _share(self, arm: Arm) -> Rows:
        job, rows = self.fit(self.every[arm.members[0]])
        shared, _ = share_job(job, rows, 0.5)
        self._run([(shared, rows)], arm)
        return shared, rows


def right(of_arm: pd.DataFrame, truth: pd.Series) -> np.ndarray:
    """Whether top-1 is right, an entry an image of `truth`."""
    return (of_arm.loc[truth.index].idxmax(axis=1) == truth).to_numpy()


def balanced(contest: Contest, scores: pd.DataFrame, rule: Rule) -> np.ndarray:
    """Whether a balancing rule, told the known count, is right about each test image."""
    known = contest.steps["40_submit"].cfg.known_count
    left = np.isin(contest.classes, tables.emptied_classes(contest.table), invert=True)
    prior = belief(contest.classes, left, known_count=known, file=None).prior
    of_test = scores.loc[contest.test.index].to_numpy()[:, left]
    chosen = assignment.assign(of_test, rule, prior)
    return np.array(contest.classes)[left][chosen] == contest.test.to_numpy()


def submitted(contest: Contest, models: Sequence[str]) -> dict[str, Any]:
    """Let 30 and 40 answer with some arms as models: the vote's and the submission's top-1."""
    vote, submit = contest.steps["30_ensemble"], contest.steps["40_submit"]
    vote = Step(vote.stage, vote.name, vote.cfg.model_copy(update={"models": list(models)}))
    for step in (vote, submit):
        if not step.stamp.is_file():
            execute(step)
    scores = Store(contest.cfg.folder / "ensemble" / "vote")
    table = pd.DataFrame(
        scores.read("scores", list(contest.test.index)).astype(float),
        index=contest.test.index,
        columns=scores.classes,
    )
    file = submission.current_submission(contest.cfg.folder)
    answer = pd.read_csv(file, dtype=str, keep_default_na=False)
    named = answer.set_index(answer.columns[0]).iloc[:, 0]
    names = contest.table.loc[contest.test.index, "path"]
    return {
        "final": right(table, contest.test),
        "final_balanced": (names.map(named) == contest.test).to_numpy(),
    }


def measure(contest: Contest, every: Sequence[Arm], wanted: Iterable[str], final: bool) -> dict:
    """Arm → whether it is right about each held-out and each test image."""
    answers, found = Answers(contest, every), {}
    for name in wanted:
        made = answers.probabilities(name)
        found[name] = {
            "held": right(made, contest.held_out), "test": right(made, contest.test)
        }  # fmt: skip
        held = found[name]["held"].mean()
        print(f"{contest.name} {contest.seed} {name}: held-out top-1 {held:.4f}", flush=True)
    if not final:
        return found
    for name in ("probes", "mean"):
        made = answers.probabilities(name)
        for rule in ("cap", "sinkhorn"):
            own = assignment.rule_of(contest.steps["40_submit"].cfg, rule)
            found[f"{name} + {rule}"] = {"test": balanced(contest, made, own)}
    chosen = submitted(contest, answers.every["mean"].members)
    return found | {name: {"test": hits} for name, hits in chosen.items()}


def table_of(found: Mapping[int, Mapping[str, dict]], against: Mapping[str, str]) -> pd.DataFrame:
    """A row an arm: means over the seeds, and the paired difference on test images."""
    rows = []
    for name in next(iter(found.values())):
        per_seed = [of_seed[name] for of_seed in found.values()]
        row: dict[str, Any] = {"arm": name, "against": against.get(name, "probes")}
        if "held" in per_seed[0]:
            row |= {"held out": np.mean([each["held"].mean() for each in per_seed])}
        row |= {"test": np.mean([each["test"].mean() for each in per_seed])}
        row["n"] = len(per_seed[0]["test"])
        other = [of_seed.get(row["against"]) for of_seed in found.values()]
        if all(other):
            pairs = zip(per_seed, other, strict=True)
            differences = [a["test"].astype(float) - b["test"] for a, b in pairs]
            low, high = interval(differences, shared=True)
            row |= {"difference": np.mean(differences), "low": low, "high": high}
        rows.append(row)
    return pd.DataFrame(rows).set_index("arm")


SINGLE = ("original", "lp-ft", "layer-decay", "strong", "ema", "swa", "wise-ft", "small")
SINGLE += ("ladder", "distilled")


def closing(table: pd.DataFrame, contest: str, seeds: Sequence[int]) -> dict[str, Any]:
    """The figures that others read; the best network is the best on held-out images."""
    test = table["test"].round(4)
    single = table.loc[[name for name in SINGLE if name in table.index], "held out"].idxmax()
    return {
        "contest": contest,
        "probe": test["probes"],
        "best_single": test[single],
        "best_single_arm": single,
        "own_probe": test["probe"],
        "final": test["final"],
        "final_balanced": test["final_balanced"],
        "everything": test["everything-probes"],
        "truth": test["truth-probes"],
        "seeds": list(seeds),
        "n": int(table["n"].iloc[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="runs and fits go there")
    parser.add_argument("--contests", nargs="+", default=["grocery-web", "demo"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", help="only these, and what they need")
    parser.add_argument("--size", type=int, default=224, help="of the networks, px")
    parser.add_argument("--small", type=int, default=160, help="of the ladder's first step, px")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    every = arms(options.size, options.small, options.epochs)
    names = [arm.name for arm in every]
    if strange := set(options.arms or ()) - set(names):
        parser.error(f"no arm {sorted(strange)[0]!r}; there are {', '.join(names)}")
    closings = []
    for contest in options.contests:
        found = {}
        for seed in options.seeds:
            of_seed = prepare(contest, seed, options.work.resolve(), options.device)
            whole = not options.arms
            found[seed] = measure(of_seed, every, options.arms or names, whole)
        table = table_of(found, {arm.name: arm.against for arm in every})
        print(f"\n{contest}, seeds {options.seeds}; top-1, paired difference with 95 % interval")
        print(table.round(4).to_string())
        if not options.arms:
            closings.append(closing(table, contest, options.seeds))
    for figures in closings:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
