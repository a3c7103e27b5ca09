"""What an ensemble gains over single models, and what balancing adds, on real and drawn photos.

`python benchmarks/ensemble.py --work FOLDER [--contests grocery-web demo] [--seeds 0 1 2]` cleans
each contest by the kit's own 01 to 04 without a human, trains eight networks a seed, and runs
30_ensemble on them through papermill, once with its defaults and once with each switch. The
networks differ in the version of the table they learn from (one of them after a stand-in reviewer
has looked), backbone, augmentation, balance and distillation; all networks of a seed hold out the
same fold, fold number = seed. Some two hours on two cores. What is done is not done again: the
command may be cut off and repeated, calls that name different seeds may share a folder, and a call
without `--only_work` prints the tables.

Members, their order, weights and soups are chosen by held-out images, whose labels are web labels.
`truth/train.csv` answers for the reviewer, for the images that are put in front of it, and
`truth/test.csv` makes the figures and nothing else. Every way and every rule that was tried is in
the table. Top-1 is of all test images, with the half-width of its 95 % interval over seeds
(Student's t); differences are paired, with a 95 % bootstrap interval over seeds and images. The
last line is JSON, of the first contest: best_single (the best by held-out images), mean_single,
final (the vote, cap), by_method; under by_contest the same of all.
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cleaning import half_widths
from ladder import cleaned, interval

from fgvc_utils.answers import assignment, ensembling, label_shift, ways
from fgvc_utils.answers.members import layer_jobs, view_stores
from fgvc_utils.answers.params import EnsembleParams
from fgvc_utils.contest import tables
from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.contest_file import notebook_defaults
from fgvc_utils.contest.inventory import read_inventory
from fgvc_utils.contest.places import data_root
from fgvc_utils.contest.presets import preset_values
from fgvc_utils.core.files import read_json, write_json
from fgvc_utils.demo import drawing
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.rows import Rows, job_rows
from fgvc_utils.jobs.running import run_jobs
from fgvc_utils.pipeline.contest_file import Step
from fgvc_utils.pipeline.running import execute
from fgvc_utils.pipeline.stages import STAGES
from fgvc_utils.training.recipes import decode, training_job

# Size in px and epochs of the fits: the class of a drawn picture is seen at a smaller size.
SCALE = {"grocery-web": (112, 6), "demo": (96, 4)}
REVIEW_SHARE = 0.10
LOOKED = "04_looked"
STAGE = "30_ensemble"


@dataclass(frozen=True)
class Member:
    """A network of the ensemble: what it learns from, and how it differs from the defaults."""

    name: str
    table: str
    changes: dict[str, Any] = field(default_factory=dict)
    variant: str = ""


LITE1 = {"backbone": "tf_efficientnet_lite1"}
LITE2 = {"backbone": "tf_efficientnet_lite2"}
MEMBERS = [
    Member("lite0-after-01", "01_noise"),
    Member("lite1-after-02-oversampled", "02_coarse", LITE1 | {"balance": "oversample"}),
    Member("lite0-after-03-prior", "03_fine", {"balance": "prior", "mix": "none"}),
    Member("lite2-after-04", "04_lowq", LITE2),
    Member(
        "lite1-after-04-turned",
        "04_lowq",
        LITE1 | {"quarter_turn_probability": 0.75, "mix": "mixup"},
    ),
    Member(
        "lite0-after-looks",
        LOOKED,
        {"mix": "none", "colour_jitter": 0.4, "paste_probability": 0.5, "shuffle_probability": 0.2},
    ),
]
STUDENTS = [
    Member("lite0-distilled-A", "04_lowq", variant="A"),
    Member("lite0-distilled-B", "04_lowq", variant="B"),
]
# What 30 is run with; the first is what its defaults give.
SWITCHES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "fitted weights": {"mean_weights": "fitted"},
    "convolution": {"plain_models": 5, "convolution_models": 5, "vote_convolution": True},
    "flipped views": {"test_views": "flip"},
    "ten crops": {"test_views": "crops"},
    "uniform soup": {"soup": "uniform"},
    "greedy soup": {"soup": "greedy"},
}
RULES = {
    "cap": assignment.Rule("cap"),
    "sinkhorn": assignment.Rule("sinkhorn"),
    "sinkhorn, half pull": assignment.Rule("sinkhorn", pull=0.5),
    "sinkhorn, repaired": assignment.Rule("sinkhorn", repair=True),
    "exact": assignment.Rule("exact"),
}
# Points of the original (WebFG-5000, leaderboard A): single models reached 62 to 65 %.
ORIGINAL = {
    "the vote, balanced, over the mean single": "+4.3 (63.5 → 67.8)",
    "convolution over features + layer, five models": "+.9 (62 → 62.88)",
    "the cap": "+.5 to +1",
}


@dataclass
class Contest:
    """A cleaned contest and one seed of it: its steps' parameters and how its fits are made."""

    name: str
    seed: int
    size: int
    epochs: int
    steps: list[Step]
    truth: Path

    @property
    def cfg(self) -> EnsembleParams:
        """The parameters of 30 in this seed's own run."""
        given = next(step.cfg for step in self.steps if step.stage == STAGE)
        run = f"{self.name}-seed-{self.seed}"
        return given.model_copy(update={"run": run, "seed": self.seed, "held_out_fold": self.seed})

    def table(self, name: str = "04_lowq") -> pd.DataFrame:
        """A version of the label table."""
        return tables.read_table(self.cfg.table_path(name))

    def test_labels(self) -> pd.Series:
        """The true class of each test image, by image id."""
        truth = pd.read_csv(self.truth / "test.csv", dtype=str, keep_default_na=False)
        table = self.table()
        return (
            table[table["split"] == "test"].merge(truth, on="path").set_index("image_id")["class"]
        )


def contest_of(name: str, seed: int, work: Path, options: argparse.Namespace) -> Contest:
    """Clean a contest where it is not done, and give the seed a run with its tables."""
    data = work / "data" / "demo" if name == "demo" else data_root(name)
    if name == "demo" and not data.is_dir():
        drawing.draw_demo(data)
    moved = {"data_root": str(data), "threads": options.threads}
    steps = cleaned(work, name, moved)
    size, epochs = SCALE[name]
    size, epochs = options.size or size, options.epochs or epochs
    contest = Contest(name, seed, size, epochs, steps, data / "truth")
    source, own = steps[0].cfg.folder / "tables", contest.cfg.folder / "tables"
    if not (source / f"{LOOKED}.parquet").is_file():
        tables.write_table(looked(source, data / "truth"), source / f"{LOOKED}.parquet")
    if not own.is_dir():
        shutil.copytree(source, own)
    return contest


def looked(folder: Path, truth: Path) -> pd.DataFrame:
    """The last table after a stand-in reviewer saw a share of the negatives, drawn at random.

    Negatives are the images that 02 and 03 left out or relabelled. The truth of those images alone
    is looked up, and how many they were is printed.
    """
    table = tables.read_table(folder / "04_lowq.parquet")
    negative = table[table["stage"].isin(["02_coarse", "03_fine"])]
    seen = negative.sample(round(REVIEW_SHARE * len(negative)), random_state=0)
    answers = pd.read_csv(truth / "train.csv", dtype=str, keep_default_na=False)
    true = answers.set_index("path")["true"][seen["path"]].set_axis(seen.index)
    known = true.isin(tables.classes_of(table))
    print(
        f"{folder.parent.name}: {len(seen)} images were looked at, {known.sum()} of a known class"
    )
    table.loc[seen.index, "status"] = np.where(known, "keep", "drop")
    table.loc[seen.index, ["stage", "by"]] = ["03_fine", "human"]
    table.loc[seen.index, "reason"] = "the stand-in reviewer"
    table.loc[seen.index, "cause"] = np.where(known, "relabelled", "no_class")
    table.loc[known.index[known], "label"] = true[known]
    return table


def member_job(contest: Contest, member: Member, inventory: pd.DataFrame) -> Rows:
    """The job of one network and its rows, as 10_train and 20_distill make them."""
    kind = "20_distill" if member.variant else "10_train"
    # A network of a later table is predicted where the held-out images look best to it.
    own = {"name": member.name, "seed": contest.seed, "size": contest.size, "test_ratio": 1.15}
    own |= {"held_out_fold": contest.seed, "epochs": contest.epochs, **member.changes}
    own |= {"variant": member.variant} if member.variant else {}
    shared = {name: getattr(contest.cfg, name) for name in Shared.model_fields}
    # Members as the original recipe trains them.
    original = preset_values("original", STAGES[kind].parameters.model_fields)
    given = notebook_defaults(kind) | original | shared | own
    table = contest.table(member.table)
    part = tables.hold_out(table, contest.table(), contest.seed)
    fit = part["fit"]
    if member.variant == "A":
        fit = fit | (table["split"] == "test")
        # As many steps as the others take.
        given["epochs"] = max(1, round(contest.epochs * part["fit"].sum() / fit.sum()))
    cfg = STAGES[kind].parameters(**given)
    teachers = [contest.cfg.folder / "models" / m.name for m in MEMBERS] if member.variant else []
    weight = {"A": 1.0, "B": 0.5, "": 0.0}[member.variant]
    classes = tables.classes_of(table)
    job = training_job(cfg, cfg.name, classes, teachers=teachers, teacher_weight=weight)
    rows = job_rows(
        inventory, target=part["label"], fit=fit, validate=part["held_out"], predict=True
    )
    return decode(cfg, [(job, rows)])[0]


def train(contest: Contest) -> None:
    """Fit the networks of a seed, then the students that learn from them; each in one launch."""
    inventory = read_inventory(contest.cfg)
    for number, members in enumerate((MEMBERS, STUDENTS)):
        jobs = [member_job(contest, member, inventory) for member in members]
        run_jobs(jobs, contest.cfg, f"members-{number}")


def measure(contest: Contest, switch: str) -> None:
    """Run 30 with a switch, then let the truth judge every way and every rule on the test images.

    Writes `benchmark/<switch>.parquet`, a row a test image and a column a way, whether it is right,
    and the report of 30 beside it.
    """
    place = contest.cfg.folder / "benchmark" / f"{switch.replace(' ', '-')}.parquet"
    if place.is_file():
        return
    place.parent.mkdir(exist_ok=True)
    cfg = contest.cfg.model_copy(update=SWITCHES[switch])
    execute(Step(STAGE, f"{STAGE}-{place.stem}", cfg))
    report = read_json(cfg.report)[STAGE]
    labels = contest.test_labels()
    hits = judged(cfg, report, labels)
    scores = {"vote": Store(cfg.folder / "ensemble" / "vote").read("scores", labels.index)}
    if switch == "defaults":
        largest = max(ways_of(report), key=lambda way: len(way.weights))
        stored = ensembling.MemberOutputs(
            {member: cfg.folder / "models" / member for member in report["members"]}
        )
        blocks = [block for _, block in stored.blocks(labels.index.tolist(), largest.weights)]
        mean = [ways.answers(block, [largest])[largest.name] for block in blocks]
        scores[largest.name] = np.concatenate(mean)
    for name, each in scores.items():
        hits = hits.join(balanced(contest, name, each, labels))
    write_json(report, place.with_suffix(".json"))
    hits.to_parquet(place)


def judged(cfg: EnsembleParams, report: Mapping[str, Any], labels: pd.Series) -> pd.DataFrame:
    """Whether each single model, each way and the vote is right, a row a test image."""
    places = {name: cfg.folder / "models" / name for name in report["members"]}
    places = {n: p if p.is_dir() else cfg.folder / "soups" / n for n, p in places.items()}
    views = view_stores(cfg, STAGE, places, asked_images(cfg))
    classes = Store(next(iter(places.values())) / "predictions").classes
    layers = layer_jobs(cfg, STAGE, places, report["members"], classes)
    stored = ensembling.MemberOutputs(
        places | {name: Path(job.folder) for name, job in layers.items()}, views
    )
    singles = [ways.single(name) for name in places]
    of_run = ways_of(report)
    asked = [*singles, *of_run]
    voting = ways.voters(of_run)
    found = ensembling.judge(stored, labels.index.tolist(), labels.tolist(), asked, voting)
    return found.hits


def ways_of(report: Mapping[str, Any]) -> list[ways.Way]:
    """The ways by which a run of 30 answered for the test images."""
    return [ways.Way(**way) for way in report["ways"]]


def asked_images(cfg: EnsembleParams) -> pd.Series:
    """The ids of the images that 30 asks its members about."""
    table = tables.read_table(cfg.table_path(cfg.table))
    asked = ensembling.asked_images(table, read_inventory(cfg), cfg.held_out_fold)
    return pd.Series([*asked.judged, *asked.test], dtype=object)


def balanced(contest: Contest, name: str, scores: np.ndarray, labels: pd.Series) -> pd.DataFrame:
    """Whether each rule of 40 is right under the known count, a row a test image."""
    submit = next(step.cfg for step in contest.steps if step.stage == "40_submit")
    table = contest.table()
    classes = np.array(tables.classes_of(table))
    left = ~np.isin(classes, tables.emptied_classes(table))
    known = label_shift.belief(list(classes), left, known_count=submit.known_count)
    cap = assignment.caps_for(
        RULES["cap"]._replace(slack=submit.slack),
        known.prior,
        len(labels),
        classes=len(classes),
        known_count=submit.known_count,
    )
    answers = {
        f"{name}, {rule}": assignment.assign(scores[:, left], setting, known.prior, cap)
        for rule, setting in RULES.items()
    }
    right = {rule: classes[left][answer] == labels.to_numpy() for rule, answer in answers.items()}
    return pd.DataFrame(right, index=labels.index)


def row(
    name: str, hits: list[np.ndarray], against: list[np.ndarray] | None, kind: str
) -> dict[str, Any]:
    """A line of the table: top-1 over seeds, and the paired difference."""
    each = [part.mean() for part in hits]
    spread = half_widths(pd.DataFrame({"way": "", "top1": each}).groupby("way"))["top1±"].iloc[0]
    found = {"kind": kind, "name": name, "top1": np.mean(each), "±": spread}
    if against is not None:
        apart = [own.astype(float) - other for own, other in zip(hits, against, strict=True)]
        low, high = interval(apart, shared=True)
        found |= {"points": np.mean([part.mean() for part in apart]), "low": low, "high": high}
    return found


class Results:
    """What was measured on a contest: the hits by switch and seed, and 30's own reports."""

    def __init__(self, contests: list[Contest]) -> None:
        self.hits: dict[str, list[pd.DataFrame]] = {}
        self.reports: dict[str, list[dict]] = {}
        for switch in SWITCHES:
            places = [
                c.cfg.folder / "benchmark" / f"{switch.replace(' ', '-')}.parquet" for c in contests
            ]
            if all(place.is_file() for place in places):
                self.hits[switch] = [pd.read_parquet(place) for place in places]
                self.reports[switch] = [read_json(p.with_suffix(".json")) for p in places]

    def of(self, name: str, switch: str = "defaults") -> list[np.ndarray]:
        """Hits of a way, an array a seed."""
        return [hits[name].to_numpy(dtype=float) for hits in self.hits[switch]]

    def best_single(self) -> list[np.ndarray]:
        """Hits of the model that held-out images call the best, an array a seed."""
        pairs = zip(self.hits["defaults"], self.reports["defaults"], strict=True)
        return [hits[report["members"][0]].to_numpy(dtype=float) for hits, report in pairs]

    def mean_single(self) -> list[np.ndarray]:
        """Mean over the single models of being right, an array a seed."""
        pairs = zip(self.hits["defaults"], self.reports["defaults"], strict=True)
        return [hits[report["members"]].mean(axis=1).to_numpy() for hits, report in pairs]

    def common(self, switch: str) -> list[str]:
        """Names that every seed has, in order."""
        first, *others = self.hits[switch]
        return [name for name in first if all(name in other for other in others)]

    def table(self) -> pd.DataFrame:
        """Every single model, every way, every rule, and every switch."""
        best, mean, vote = self.best_single(), self.mean_single(), self.of("vote")
        members = set(self.reports["defaults"][0]["members"])
        rows = [row("best by held-out images", best, None, "single")]
        rows.append(row("mean of all", mean, best, "single"))
        for name in self.common("defaults"):
            base, _, rule = name.partition(", ")
            if name in members:
                rows.append(row(name, self.of(name), best, "single"))
            elif rule in RULES:
                rows.append(row(name, self.of(name), self.of(base), "rule, over plain"))
            else:
                rows.append(row(name, self.of(name), best, "way, over best single"))
        for switch in list(self.hits)[1:]:
            usual = self.common("defaults")
            for name in self.common(switch):
                if name.partition(", ")[2] in RULES:
                    continue
                if name in members and "views" not in switch and "crops" not in switch:
                    continue
                against = self.of(name) if name in usual else vote
                kind = f"{switch}, over {'the same without' if name in usual else 'the vote'}"
                rows.append(row(name, self.of(name, switch), against, kind))
            if members & set(self.common(switch)) and switch in ("flipped views", "ten crops"):
                each = [h[sorted(members)].mean(axis=1).to_numpy() for h in self.hits[switch]]
                rows.append(row("mean of all singles", each, mean, f"{switch}, over without"))
        return pd.DataFrame(rows)

    def gains(self) -> pd.DataFrame:
        """The original's gains beside ours, in points."""
        vote, mean, cap = self.of("vote"), self.mean_single(), self.of("vote, cap")
        layers = "features + layer, test views"
        pairs = {
            "the vote, balanced, over the mean single": (cap, mean),
            "the vote over the best single": (vote, self.best_single()),
            "the vote over the mean single": (vote, mean),
            "the cap": (cap, vote),
            "sinkhorn": (self.of("vote, sinkhorn"), vote),
        }
        if "convolution" in self.hits:
            five = self.of(layers, "convolution")
            convolved = self.of("convolution over models", "convolution")
            pairs["convolution over features + layer, five models"] = (convolved, five)
        rows = []
        for name, (own, other) in pairs.items():
            line = row(name, own, other, "")
            ours = (
                f"{100 * line['points']:+.1f} [{100 * line['low']:+.1f} {100 * line['high']:+.1f}]"
            )
            rows.append({"gain": name, "original": ORIGINAL.get(name, ""), "ours": ours})
        return pd.DataFrame(rows).set_index("gain")

    def closing(self) -> dict[str, Any]:
        """The figures of the JSON line."""
        table = self.table()
        usual = table[~table["kind"].str.contains("over the|over without")].set_index("name")[
            "top1"
        ]
        figures = {
            "best_single": usual["best by held-out images"],
            "mean_single": usual["mean of all"],
            "final": usual["vote, cap"],
        }
        figures = {name: round(float(value), 4) for name, value in figures.items()}
        by_method = {name: round(float(value), 4) for name, value in usual.items()}
        for kind, part in table[table["kind"].str.contains("over the|over without")].groupby(
            "kind"
        ):
            for name, top1 in part.set_index("name")["top1"].items():
                by_method[f"{kind.split(', over')[0]}: {name}"] = round(float(top1), 4)
        return figures | {"by_method": by_method, "n": len(self.hits["defaults"][0])}


def report(name: str, results: Results) -> None:
    """Print the tables of a contest."""
    table = results.table()
    for column in ("top1", "±", "points", "low", "high"):
        table[column] = (100 * table[column]).round(1)
    print(f"\n{name}: top-1 in %, differences in points; n = {len(results.hits['defaults'][0])}")
    with pd.option_context("display.width", 200, "display.max_rows", 200):
        print(table.to_string(index=False, na_rep=""))
        print(f"\n{results.gains().to_string()}")
    for seed, run in enumerate(results.reports["defaults"]):
        held = " ".join(f"{n} {t:.3f}" for n, t in run["single"].items())
        print(f"held-out images {run['held_out']}, run {seed}: {held}")
        print("   ", " ".join(f"{n} {t:.3f}" for n, t in run["ensembles"].items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="everything lies there")
    parser.add_argument("--contests", nargs="+", choices=list(SCALE), default=list(SCALE))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--switches", nargs="*", choices=list(SWITCHES), default=list(SWITCHES))
    parser.add_argument("--size", type=int, default=0, help="px; 0: the contest's own")
    parser.add_argument("--epochs", type=int, default=0, help="0: the contest's own")
    parser.add_argument("--threads", type=int, default=0, help="of a fit; 0: all cores")
    parser.add_argument("--only_work", action="store_true", help="print no table")
    options = parser.parse_args()
    work, figures = options.work.resolve(), {}
    for name in options.contests:
        contests = [contest_of(name, seed, work, options) for seed in options.seeds]
        for contest in contests:
            train(contest)
            for switch in options.switches:
                measure(contest, switch)
        if not options.only_work:
            results = Results(contests)
            report(name, results)
            scale = {"size": contests[0].size, "epochs": contests[0].epochs}
            figures[name] = results.closing() | scale
    if figures:
        first = figures[options.contests[0]]
        print(json.dumps({"seeds": options.seeds} | first | {"by_contest": figures}))


if __name__ == "__main__":
    main()
