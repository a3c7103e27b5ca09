"""What balancing the answers brings, how near to exact assignment it comes, and what it costs.

    python benchmarks/balance.py [--seeds 8] [--images 100000 --classes 5000]

First small problems under known counts: the cap (slack 1) and Sinkhorn beside exact
assignment, by the likelihood of an image under the assignment as a share of exact's, and by how
many images get the same class. Then the top-1 of simulated classifiers on test sets of equal
classes, for several strengths, class biases and sharpnesses (1 is calibrated, 2 doubles all
logits), with 95 % intervals of the paired difference to plain over the seeds, and the same where
the test set has a long tail and the belief in equal classes is wrong. With `--images`, the
memory and time of each rule at that size, each in a process of its own, with one thread; the cap
also against a cap that sorts every image's classes first, on a tenth of the images.

A simulated classifier is the Bayes rule of points around class centres that lie in groups of five
sisters, so that its probabilities are calibrated before the bias is added. The last line is JSON:
top1_plain, top1_cap, top1_sinkhorn, top1_exact, and at size peak_gb and seconds of all rules but
exact, which does not fit there.
"""

import argparse
import heapq
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from fgvc_utils.answers.assignment import Rule, apportion, assign, assign_capped
from fgvc_utils.answers.label_shift import equal_prior, estimate_prior
from fgvc_utils.answers.transport import blocks, log_probabilities

STRENGTHS = (1.0, 1.5, 2.0)
BIASES = (0.0, 0.5, 1.5)
SHARPNESSES = (1.0, 2.0)
SMALL_CLASSES, PER_CLASS = 40, 20
# How unequal the classes are where the rules wrongly believe them equal.
TAIL = 0.7
WIDTH, SISTERS = 16, 5
# The width and strength at size: a plain top-1 of about two in three under 5,000 classes.
LARGE_WIDTH, LARGE_STRENGTH = 64, 1.75
RULES = {
    "plain": Rule("plain"),
    "cap": Rule("cap", slack=1.25),
    "cap, slack 1": Rule("cap", slack=1.0),
    "sinkhorn": Rule("sinkhorn"),
    "sinkhorn, half pull": Rule("sinkhorn", pull=0.5),
    "sinkhorn, repaired": Rule("sinkhorn", repair=True),
    "exact": Rule("exact"),
}
NEAR_EXACT = {
    "cap, slack 1": Rule("cap", slack=1.0),
    "sinkhorn, repaired": Rule("sinkhorn", repair=True),
    "sinkhorn 0.1, repaired": Rule("sinkhorn", regularisation=0.1, repair=True),
    "sinkhorn 0.1": Rule("sinkhorn", regularisation=0.1),
    "sinkhorn": Rule("sinkhorn"),
}
AT_SIZE = ("plain", "cap", "sinkhorn", "sinkhorn, repaired", "estimate")
SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Classifier:
    """Class centres, and a bias that the classifier adds for each class."""

    def __init__(
        self,
        classes: int,
        width: int,
        strength: float,
        bias: float,
        sharpness: float,
        random: np.random.Generator,
    ) -> None:
        groups = random.normal(size=(-(-classes // SISTERS), width))
        own = random.normal(size=(classes, width))
        # Sisters share most of what sets them apart from the others.
        centres = groups[np.arange(classes) // SISTERS] + 0.8 * own
        self.centres = (strength * centres / np.sqrt(width) * 2).astype(np.float32)
        self.bias = random.normal(0, bias, classes).astype(np.float32)
        self.sharpness, self.random = np.float32(sharpness), random

    def scores(self, labels: np.ndarray) -> np.ndarray:
        """Probabilities of new images of these classes, float32 (images, classes)."""
        noise = self.random.standard_normal((len(labels), self.centres.shape[1]), np.float32)
        logits = (self.centres[labels] + noise) @ self.centres.T
        logits += self.bias - (self.centres**2).sum(axis=1) / 2
        logits *= self.sharpness
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        return logits


def problem(
    strength: float, bias: float, sharpness: float, seed: int, tail: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of a small test set; its class of rank r has a share as 1 / r ** tail."""
    random = np.random.default_rng([seed, int(10 * strength), int(10 * bias)])
    shares = 1 / np.arange(1, SMALL_CLASSES + 1) ** tail
    labels = np.repeat(np.arange(SMALL_CLASSES), apportion(shares, SMALL_CLASSES * PER_CLASS))
    made = Classifier(SMALL_CLASSES, WIDTH, strength, bias, sharpness, random)
    return made.scores(labels), labels


def half_width(values: pd.Series) -> float:
    """Half the width of a mean's 95 % interval, by Student's t."""
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def against_exact(seeds: int) -> dict:
    """How near the other rules come to exact assignment under the same counts."""
    rows = []
    counts = apportion(equal_prior(SMALL_CLASSES), SMALL_CLASSES * PER_CLASS)
    for strength in STRENGTHS:
        for seed in range(seeds):
            scores, _ = problem(strength, BIASES[1], 1.0, seed)
            logs = log_probabilities(scores)
            images = np.arange(len(scores))
            exact = assign(scores, Rule("exact"), counts)
            for name, rule in NEAR_EXACT.items():
                got = assign(scores, rule, counts)
                missed = float((logs[images, got] - logs[images, exact]).mean())
                held = (np.bincount(got, minlength=SMALL_CLASSES) == counts).all()
                rows.append((strength, name, np.exp(missed), (got == exact).mean(), held))
    columns = ["strength", "rule", "likelihood", "agreement", "counts held"]
    found = pd.DataFrame(rows, columns=columns)
    mean = found.groupby(["strength", "rule"], sort=False).mean()
    size = f"{SMALL_CLASSES * PER_CLASS} images, {SMALL_CLASSES} classes, {seeds} seeds"
    print(f"Beside exact assignment ({size}, bias {BIASES[1]}): likelihood of an image as a share")
    print("of exact's (above 1 where the counts do not hold), share of images with the same class")
    print(mean.to_string(float_format="{:.4f}".format), end="\n\n")
    overall = found.groupby("rule", sort=False)[["likelihood", "agreement"]].mean()
    return {name: row.round(4).to_dict() for name, row in overall.iterrows()}


def top1_of_rules(seeds: int, tail: float = 0.0) -> pd.DataFrame:
    """Top-1 of each rule that believes in equal classes, a row a problem and rule.

    Columns strength, bias, sharpness, seed, rule and top1; `tail` is that of `problem`.
    """
    rows = []
    prior = equal_prior(SMALL_CLASSES)
    for strength in STRENGTHS:
        for bias in BIASES:
            for sharpness in SHARPNESSES:
                for seed in range(seeds):
                    scores, labels = problem(strength, bias, sharpness, seed, tail)
                    for name, rule in RULES.items():
                        right = (assign(scores, rule, prior) == labels).mean()
                        rows.append((strength, bias, sharpness, seed, name, right))
    columns = ["strength", "bias", "sharpness", "seed", "rule", "top1"]
    return pd.DataFrame(rows, columns=columns)


def in_points(gains: pd.Series) -> str:
    """A mean with its interval, in points."""
    return f"{100 * gains.mean():+.2f} ± {100 * half_width(gains):.2f}"


def report_wrong_belief(seeds: int) -> dict:
    """Print what the rules cost where they believe in equal classes and the test set has a tail."""
    wide = top1_of_rules(seeds, TAIL).pivot_table("top1", ["bias", "seed"], "rule")[list(RULES)]
    gains = wide.sub(wide["plain"], axis=0).drop(columns="plain")
    print(f"The same where the test set has a tail (shares as 1 / rank ** {TAIL}) and the rules")
    print("believe in equal classes, by class bias")
    print(gains.groupby("bias").agg(in_points).to_string(), end="\n\n")
    means = gains.groupby("bias").mean().round(4)
    return {"gains_of_a_wrong_belief": {str(bias): row.to_dict() for bias, row in means.iterrows()}}


def report_top1(found: pd.DataFrame) -> dict:
    """Print top-1 of plain and the other rules' differences to it; returns the means."""
    wide = found.set_index(["strength", "bias", "sharpness", "seed", "rule"])["top1"].unstack()
    wide = wide[list(RULES)]
    gains = wide.sub(wide["plain"], axis=0).drop(columns="plain")
    setting = ["strength", "bias", "sharpness"]
    shown = gains.groupby(setting).agg(in_points)
    shown.insert(0, "plain", wide.groupby(setting)["plain"].mean().map("{:.3f}".format))
    seeds = found["seed"].nunique()
    print(f"Top-1 on {SMALL_CLASSES} equal classes of {PER_CLASS} test images, {seeds} seeds:")
    print("plain, then the difference to it in points with its 95 % interval over the seeds")
    print(shown.to_string())
    # The seeds are what is drawn anew: a seed's mean over all settings is one value.
    overall = gains.groupby("seed").mean()
    print("all settings:", "; ".join(f"{name} {in_points(overall[name])}" for name in overall))
    below = gains.groupby(setting).mean().stack()
    below = below[below < 0]
    for (strength, bias, sharpness, name), gain in below.items():
        print(
            f"BELOW PLAIN: {name} at strength {strength}, bias {bias}, sharpness {sharpness}: "
            f"{100 * gain:+.2f} points"
        )
    print()
    means = wide.mean()
    figures = {f"top1_{n}": round(means[n], 4) for n in ("plain", "cap", "sinkhorn", "exact")}
    figures["gains"] = {
        name: [round(overall[name].mean(), 4), round(half_width(overall[name]), 4)]
        for name in overall
    }
    return figures | {"settings_below_plain": len(below)}


def write_scores(path: Path, images: int, classes: int) -> None:
    """Scores of a large test set, float32, written a block of rows at a time."""
    random = np.random.default_rng(0)
    made = Classifier(classes, LARGE_WIDTH, LARGE_STRENGTH, BIASES[1], 1.0, random)
    labels = np.arange(images) % classes
    array = np.lib.format.open_memmap(path, "w+", np.float32, (images, classes))
    for rows in blocks(array):
        array[rows] = made.scores(labels[rows])
    array.flush()


def sorted_cap(scores: np.ndarray, cap: int) -> np.ndarray:
    """The peer of `assign_capped`: the same greedy, with each image's classes sorted first."""
    order = np.argsort(-scores, axis=1, kind="stable")
    room, place = [cap] * scores.shape[1], [0] * len(scores)
    assigned = np.full(len(scores), -1)
    waiting = [(-float(scores[i, order[i, 0]]), i) for i in range(len(scores))]
    heapq.heapify(waiting)
    while waiting:
        _, image = waiting[0]
        label = order[image, place[image]]
        if room[label]:
            room[label] -= 1
            assigned[image] = label
            heapq.heappop(waiting)
            continue
        while not room[order[image, place[image]]]:
            place[image] += 1
        heapq.heapreplace(waiting, (-float(scores[image, order[image, place[image]]]), image))
    return assigned


def measure(what: str, file: Path) -> None:
    """One rule on the scores of a file, in this process; prints its figures as JSON."""
    scores = np.load(file, allow_pickle=False)
    labels = np.arange(len(scores)) % scores.shape[1]
    prior = equal_prior(scores.shape[1])
    cap = -(-5 * len(scores) // (4 * scores.shape[1]))
    started = time.perf_counter()
    found: dict = {}
    if what == "estimate":
        estimate = estimate_prior(scores, prior)
        found = {"steps": estimate.steps, "distance": np.abs(estimate.prior - prior).sum() / 2}
    elif what == "sorted cap":
        chosen = sorted_cap(scores, cap)
    elif what == "quick cap":
        chosen = assign_capped(scores, cap)
    else:
        try:
            chosen = assign(scores, RULES[what], prior)
        except ValueError as error:
            print(json.dumps({"refused": str(error)}))
            return
    found["seconds"] = time.perf_counter() - started
    if what != "estimate":
        found["top1"] = float((chosen == labels).mean())
    print(json.dumps(found | {"peak_gb": peak_gb()}))


def peak_gb() -> float:
    """The largest resident memory of this process so far, in GB.

    Not getrusage's ru_maxrss: on Linux a new process inherits there what its parent held.
    """
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    (kibibytes,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(kibibytes) * 1024 / 1e9


def in_a_process(what: str, file: Path) -> dict:
    """`measure` in a process of its own with one thread, so that its peak is its own."""
    command = [sys.executable, __file__, "--measure", what, "--scores", str(file)]
    done = subprocess.run(
        command, env=os.environ | SINGLE, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{what} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def at_size(images: int, classes: int) -> dict:
    """Print memory and time of each rule; returns the largest peak and the seconds in all."""
    with tempfile.TemporaryDirectory() as folder:
        file, part = Path(folder, "scores.npy"), Path(folder, "part.npy")
        write_scores(file, images, classes)
        found = pd.DataFrame({what: in_a_process(what, file) for what in AT_SIZE}).T
        exact = in_a_process("exact", file)
        np.save(part, np.load(file, mmap_mode="r", allow_pickle=False)[: images // 10])
        caps = pd.DataFrame({w: in_a_process(w, part) for w in ("quick cap", "sorted cap")}).T
    gigabytes = images * classes * 4 / 1e9
    shape = {"float_format": "{:.3f}".format, "na_rep": "-"}
    print(
        f"{images:,} images × {classes:,} classes, float32 scores of {gigabytes:.2f} GB, 1 thread"
    )
    print(found.to_string(**shape))
    print(exact.get("refused") or f"exact fits this size: {exact}")
    print(f"\nThe cap on {images // 10:,} of the images")
    print(caps.to_string(**shape))
    quick, slow = caps.loc["quick cap"], caps.loc["sorted cap"]
    ratios = {
        "sorted_seconds_ratio": round(slow["seconds"] / quick["seconds"], 2),
        "sorted_peak_ratio": round(slow["peak_gb"] / quick["peak_gb"], 2),
    }
    print(f"sorting takes {ratios['sorted_seconds_ratio']} × the time and ", end="")
    print(f"{ratios['sorted_peak_ratio']} × the memory")
    return {
        "images": images,
        "classes": classes,
        "peak_gb": round(found["peak_gb"].max(), 2),
        "seconds": round(found["seconds"].sum(), 1),
    } | ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8, help="three or more")
    parser.add_argument(
        "--images", type=int, default=0, help="measure memory and time at this size"
    )
    parser.add_argument("--classes", type=int, default=5000)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--scores", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.scores)
        return
    if options.seeds < 3:
        parser.error("--seeds: an interval needs three or more")
    figures: dict = {"near_exact": against_exact(options.seeds)}
    figures |= report_top1(top1_of_rules(options.seeds))
    figures |= report_wrong_belief(options.seeds)
    if options.images:
        figures |= at_size(options.images, options.classes)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
