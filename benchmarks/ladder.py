"""What each part of the recipe gains: one rung a part, three seeds, on grocery-web.

`python benchmarks/ladder.py --work FOLDER [--rungs NAME ...] [--seeds 0 1 2] [--threads 0]` cleans
grocery-web by the kit's own 01 to 04 without a human, trains every rung of the ladder on what is
kept, and prints how each compares with the rung that it builds on. Some two hours on two cores. A
fit that is done is not done again, so the command may be cut off and repeated; two calls that name
different rungs may share a folder, and a last call without names prints the whole table.

A seed sets the fit's random numbers and the fold that is held out. Choices are made on the held-out
images alone, whose labels are web labels that passed the cleaning; `truth/test.csv` makes the last
columns and nothing else. Differences are paired: the same images under the same seeds, with a 95 %
bootstrap interval over seeds and images. The last line is JSON.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cleaning import half_widths

from fgvc_utils.contest import tables
from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.contest_file import notebook_defaults
from fgvc_utils.contest.inventory import read_inventory
from fgvc_utils.contest.places import PROJECT, data_root
from fgvc_utils.contest.presets import preset_values
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.rows import Rows, job_rows
from fgvc_utils.jobs.running import run_jobs
from fgvc_utils.pipeline.contest_file import Step, read_contest
from fgvc_utils.pipeline.running import execute
from fgvc_utils.pipeline.stages import STAGES
from fgvc_utils.training.changes import CHANGES
from fgvc_utils.training.recipes import as_trained, decode, ratio_job, training_job

CONTEST = "grocery-web"
CLEANING = ("01_noise", "02_coarse", "03_fine", "04_lowq")
RATIOS = (1.0, 1.15, 1.25, 1.35, 1.5)
DRAWS = 4000
# Every random change off; picture and test image show the object at the same size.
OFF = {
    "random_crop": False,
    "train_ratio": 1.15,
    "test_ratio": 1.15,
    "mix": "none",
    **{change.switch: 0.0 for change in CHANGES},
}
ALONE = {
    "random crop": {"random_crop": True},
    "flip": {"flip_probability": 0.5},
    "quarter turns": {"quarter_turn_probability": 0.75},
    "colour jitter": {"colour_jitter": 0.4},
    "random quality": {"quality_probability": 0.5},
    "lossy JPEG": {"jpeg_probability": 0.5},
    "scaled paste": {"paste_probability": 0.5},
    "grid shuffle": {"shuffle_probability": 0.2},
    "CutMix": {"mix": "cutmix"},
}
EVERY = {name: value for changes in ALONE.values() for name, value in changes.items()}
SAME_SIZE = {"test_ratio": 1.15}


@dataclass(frozen=True)
class Rung:
    """A recipe: what it is compared with, how it differs from the original recipe."""

    name: str
    against: str
    changes: dict[str, Any] = field(default_factory=dict)
    teachers: tuple[str, ...] = ()
    variant: str = ""
    # predicted by another rung's networks, at another size
    trained: str = ""


TEACHERS = ("default", "oversampled", "log prior")
RUNGS = [
    Rung("plain", "", OFF),
    *(Rung(name, "plain", OFF | changes) for name, changes in ALONE.items()),
    Rung("all nine", "plain", OFF | EVERY),
    Rung("default", "plain", SAME_SIZE),
    Rung("oversampled", "default", SAME_SIZE | {"balance": "oversample"}),
    Rung("log prior", "default", SAME_SIZE | {"balance": "prior"}),
    Rung("batch 256", "default", SAME_SIZE | {"global_batch": 256}),
    Rung(
        "batch 256, rates × √8",
        "default",
        SAME_SIZE | {"global_batch": 256, "base_lr": 0.085, "radam_lr": 0.0057},
    ),
    Rung("averaged weights", "default", SAME_SIZE | {"ema_decay": 0.99}),
    Rung("size trick", "default", {"test_ratio": 1.35}, trained="default"),
    Rung("distilled A", "default", SAME_SIZE, TEACHERS, "A"),
    Rung("distilled B", "default", SAME_SIZE, TEACHERS, "B"),
]


def cleaned(work: Path, contest: str, changes: dict[str, Any]) -> list[Step]:
    """Run 01 to 04 on a contest, where they are not done yet; returns its steps.

    `changes` are parameters that all its stages share.
    """
    path = PROJECT / "params" / f"{contest}.yaml"
    steps = read_contest(path)
    moved = {"outputs": str(work), **changes}
    steps = [Step(s.stage, s.name, s.cfg.model_copy(update=moved)) for s in steps]
    for step in steps:
        if step.stage in CLEANING and not step.stamp.is_file():
            execute(step)
    return steps


@dataclass
class Ladder:
    """The cleaned contest and how its fits are made."""

    shared: dict[str, Any]
    table: pd.DataFrame
    inventory: pd.DataFrame
    classes: list[str]
    size: int
    epochs: int

    def parameters(self, rung: Rung, seed: int, epochs: int) -> Any:
        """The checked parameters of a fit; a student's are those of 20_distill."""
        name = f"{rung.name}-{seed}".replace(" ", "-").replace(",", "")
        name = name.replace("×", "x").replace("√", "sqrt")
        own = {"name": name, "seed": seed, "size": self.size, "epochs": epochs}
        own |= {"held_out_fold": seed, **rung.changes}
        kind = "20_distill" if rung.teachers else "10_train"
        if rung.teachers:
            own["variant"] = rung.variant
        record = STAGES[kind].parameters
        original = preset_values("original", record.model_fields)
        return record(**(notebook_defaults(kind) | original | self.shared | own))

    def fit(self, rung: Rung, seed: int) -> Rows:
        """The job of a rung and seed, and its rows."""
        kept = tables.kept(self.table)
        held_out = kept & (self.table["fold"] == seed)
        test = self.table["split"] == "test"
        columns = {"fit": kept & ~held_out, "validate": held_out, "predict": held_out | test}
        epochs = self.epochs
        if rung.variant == "A":
            # As many steps as the others take, of which nearly half are on test images.
            epochs = round(epochs * columns["fit"].sum() / (columns["fit"] | test).sum())
            columns["fit"] |= test
        if rung.name in TEACHERS:
            columns["predict"] |= kept
        cfg = self.parameters(rung, seed, epochs)
        teachers = [self.fit(named(name), seed)[0] for name in rung.teachers]
        weight = {"A": 1.0, "B": 0.5, "": 0.0}[rung.variant]
        job = training_job(
            cfg,
            cfg.name,
            self.classes,
            teachers=[Path(job.folder) for job in teachers],
            teacher_weight=weight,
        )
        job = job.model_copy(update={"keep": ["logits"], "keep_weights": rung.name == "default"})
        if rung.trained:
            source, _ = self.fit(named(rung.trained), seed)
            job = job.model_copy(update=as_trained(source))
        rows = job_rows(self.inventory, target=self.table["label"], **columns)
        return job, rows

    def right(self, job: Job, answers: pd.Series) -> pd.Series:
        """Whether a job's top-1 is right, for the images of `answers` that it predicted."""
        store = Store(job.store)
        asked = answers[answers.index.isin(store.image_ids)]
        predicted = np.array(store.classes)[store.read("logits", asked.index).argmax(axis=1)]
        return pd.Series(predicted == asked.to_numpy(), index=asked.index)


def named(name: str) -> Rung:
    """A rung by its name."""
    return next(rung for rung in RUNGS if rung.name == name)


def climb(ladder: Ladder, rungs: Iterable[Rung], seeds: list[int], cfg: Shared) -> None:
    """Carry out the fits of the rungs, those of a rung in one launch."""
    for rung in rungs:
        jobs = [ladder.fit(rung, seed) for seed in seeds]
        jobs = decode(ladder.parameters(rung, seeds[0], ladder.epochs), jobs)
        run_jobs(jobs, cfg, "ladder-" + jobs[0][0].name)


def sweep(ladder: Ladder, held: dict[int, pd.Series], cfg: Shared) -> pd.DataFrame:
    """Held-out top-1 of the default's networks at several test ratios, a row a ratio and seed."""
    jobs = {
        (ratio, seed): ratio_job(*ladder.fit(named("default"), seed), ratio)
        for ratio in RATIOS
        for seed in held
    }
    run_jobs(list(jobs.values()), cfg, "ladder-ratios")
    return pd.DataFrame(
        {"ratio": ratio, "seed": seed, "top1": ladder.right(job, held[seed]).mean()}
        for (ratio, seed), (job, _) in jobs.items()
    )


def interval(differences: list[np.ndarray], shared: bool) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of paired differences, float arrays a seed.

    Seeds are drawn with replacement, and images within them; where the seeds judge the same images
    (`shared`), the same images are drawn for all.
    """
    random = np.random.default_rng(0)
    means = []
    for _ in range(DRAWS):
        drawn = random.integers(len(differences), size=len(differences))
        if shared:
            images = random.integers(len(differences[0]), size=len(differences[0]))
            means.append(np.mean([differences[seed][images].mean() for seed in drawn]))
        else:
            parts = [differences[seed] for seed in drawn]
            means.append(np.mean([random.choice(part, len(part)).mean() for part in parts]))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def compare(
    ladder: Ladder, rungs: list[Rung], seeds: list[int], answers: pd.Series, shared: bool
) -> pd.DataFrame:
    """Top-1 of each rung, and its paired difference from the rung that it is compared with."""
    right = {
        rung.name: [ladder.right(ladder.fit(rung, seed)[0], answers[seed]) for seed in seeds]
        for rung in rungs
    }
    rows = []
    for rung in rungs:
        each = [part.mean() for part in right[rung.name]]
        row = {"rung": rung.name, "against": rung.against, "n": sum(map(len, right[rung.name]))}
        spread = half_widths(pd.DataFrame({"rung": "", "top1": each}).groupby("rung"))
        row |= {"top1": np.mean(each), "±": spread["top1±"].iloc[0] if len(seeds) > 1 else np.nan}
        if rung.against in right:
            pairs = zip(right[rung.name], right[rung.against], strict=True)
            differences = [(own.astype(float) - other).to_numpy() for own, other in pairs]
            low, high = interval(differences, shared)
            row |= {"difference": np.mean([d.mean() for d in differences])}
            row |= {"low": low, "high": high}
        rows.append(row)
    return pd.DataFrame(rows).set_index("rung")


def verdict(row: pd.Series) -> str:
    """What a paired interval allows to say."""
    if np.isnan(row.get("low", np.nan)):
        return ""
    if row["low"] > 0:
        return "gains"
    return "loses" if row["high"] < 0 else "not distinguishable"


def report(held: pd.DataFrame, test: pd.DataFrame, ratios: pd.DataFrame) -> None:
    """Print the ladder: the held-out images, by which one chooses, then the test images."""
    print("\nIn points of top-1; ± over seeds, [ ] the paired 95 % interval of the difference")
    print("The verdict of the held-out images, then that of the test images")
    head = f"{'rung':<24}{'against':<10}{'held out':>14}{'difference':>22}"
    print(head + f"{'test':>16}{'difference':>22}")
    for name, row in held.iterrows():
        line = f"{name:<24}{row['against']:<10}"
        for frame in (held, test):
            own = frame.loc[name]
            line += f"{own['top1']:>8.1%} ±{own['±']:>5.1%}"
            paired = not np.isnan(own.get("difference", np.nan))
            text = (
                f"{100 * own['difference']:+.1f} [{100 * own['low']:+.1f} {100 * own['high']:+.1f}]"
                if paired
                else ""
            )
            line += f"{text:>22}"
        print(line, " | ".join(filter(None, (verdict(f.loc[name]) for f in (held, test)))))
    print("\nHeld-out top-1 of the default's networks by test ratio (train ratio 1.15)")
    print(ratios.groupby("ratio")["top1"].agg(["mean", "min", "max"]).to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="cleaned tables and fits go there")
    parser.add_argument("--rungs", nargs="+", choices=[r.name for r in RUNGS], help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threads", type=int, default=0, help="of a fit; 0: all cores")
    options = parser.parse_args()
    steps = cleaned(options.work.resolve(), CONTEST, {})
    last = next(step.cfg for step in steps if step.stage == "04_lowq")
    cfg = last.model_copy(update={"threads": options.threads})
    table = tables.read_table(cfg.table_path("04_lowq"))
    inventory = read_inventory(cfg)
    shared = {name: getattr(cfg, name) for name in Shared.model_fields}
    ladder = Ladder(
        shared, table, inventory, tables.classes_of(table), options.size, options.epochs
    )
    wanted = [rung for rung in RUNGS if not options.rungs or rung.name in options.rungs]
    climb(ladder, wanted, options.seeds, cfg)
    if options.rungs:
        return
    kept = table[tables.kept(table)].set_index("image_id")
    held = {seed: kept.loc[kept["fold"] == seed, "label"] for seed in options.seeds}
    truth = pd.read_csv(
        data_root(cfg.data_root) / "truth/test.csv", dtype=str, keep_default_na=False
    )
    test = table[table["split"] == "test"].merge(truth, on="path").set_index("image_id")["class"]
    on_held = compare(ladder, RUNGS, options.seeds, held, shared=False)
    on_test = compare(ladder, RUNGS, options.seeds, dict.fromkeys(options.seeds, test), shared=True)
    ratios = sweep(ladder, held, cfg)
    report(on_held, on_test, ratios)
    figures = {"size": options.size, "epochs": options.epochs, "seeds": options.seeds}
    figures |= {"n_test": int(len(test))}
    figures["held_out"] = json.loads(on_held.round(4).to_json(orient="index"))
    figures["test"] = json.loads(on_test.round(4).to_json(orient="index"))
    means = ratios.groupby("ratio")["top1"].mean().round(4)
    figures["test_ratio"] = {str(ratio): top1 for ratio, top1 in means.items()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
