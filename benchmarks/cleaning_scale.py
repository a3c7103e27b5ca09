"""The cleaning at the size of the original contest, and cleanlab beside it.

`python benchmarks/cleaning_scale.py [--images 550000] [--classes 5000] [--width 1280] [--parts
decisions features]` measures two parts, each in a process of its own whose peak memory is read at
its end. Decisions: blocks of synthetic out-of-fold probabilities stream into a reduced store, and
02 and 03 decide from it; cleanlab's `find_label_issues` then gets the largest number of rows that
it can hold in the memory given. Features: of synthetic ones in half precision, near copies are
joined and nearest images found, as 01 to 04 do. Last line: JSON.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

BLOCK = 4096
PATTERNS = 4
# Of synthetic features: how many directions their images differ in, and the share of near copies.
DIRECTIONS = 48
COPIES = 0.02


def probabilities(
    images: int, classes: int, block: int = BLOCK
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of probabilities, float32 (block, classes), with labels of which a third are wrong.

    A few blocks are drawn and shown again and again with other labels: drawing random numbers would
    take longer than what is measured.
    """
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(PATTERNS):
        values = random.random((block, classes), dtype=np.float32) ** 8
        true = random.integers(0, classes, block)
        values[np.arange(block), true] += random.random(block, dtype=np.float32) * classes / 4
        drawn.append((values / values.sum(axis=1, keepdims=True), true))
    for number, start in enumerate(range(0, images, block)):
        values, true = drawn[number % PATTERNS]
        count = min(block, images - start)
        wrong = random.random(block) < 1 / 3
        labels = np.where(
            wrong, random.integers(0, classes - 1, block), np.minimum(true, classes - 2)
        )
        yield values[:count], labels[:count]


def ours(images: int, classes: int, folder: str, answer: multiprocessing.Queue) -> None:
    """Reduce the stream, decide by top-5, top-1 and posterior, plant errors; answers figures."""
    from fgvc_utils.cleaning import planting, posterior
    from fgvc_utils.cleaning.asking import review_order
    from fgvc_utils.cleaning.deciding import decide
    from fgvc_utils.cleaning.params import CrossParams
    from fgvc_utils.cleaning.rounds import write_targets
    from fgvc_utils.cleaning.views import Case, label_posterior
    from fgvc_utils.contest.contest_file import notebook_defaults
    from fgvc_utils.jobs import reduction

    cfg = CrossParams(**notebook_defaults("03_fine"))
    started = time.monotonic()
    labels = np.empty(images, np.int64)

    def kept() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        done = 0
        for values, given in probabilities(images, classes):
            labels[done : done + len(given)] = given
            done += len(given)
            yield values, given

    ids = [f"{n:07d}" for n in range(images)]
    store = reduction.reduce_stream(kept(), Path(folder), ids, [str(c) for c in range(classes)])
    reduced = time.monotonic() - started
    predictions = reduction.read_reduced([store], ids)
    ranks = predictions.label_rank
    numbers = np.arange(images)
    case = Case(cfg, predictions, labels, np.full(images, -1), numbers, numbers, [])
    # As many rounds are averaged as in 03.
    learnt = posterior.mean([label_posterior(case)] * cfg.averaged_rounds)
    decided = decide(learnt, labels, classes - 1, cfg)
    decided.index = ids
    review_order(decided, [], cfg.look_share)
    write_targets(Path(folder) / "targets" / "predictions", store.classes, ids, learnt)
    planted = planting.plant_errors(labels, learnt, classes - 1, 0.1, 0.5, seed=0)
    doubt = 1 - learnt.of(planted.labels)
    planting.planted_table(doubt, np.isin(np.arange(images), planted.rows))
    figures = {
        "seconds": time.monotonic() - started,
        "reduce_seconds": reduced,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "top5": float((ranks < 5).mean()),
        "top1": float((ranks < 1).mean()),
        "posterior_keeps": float((decided["verdict"] == "keep").mean()),
        "store_mb": sum(f.stat().st_size for f in store.folder.rglob("*")) / 1e6,
    }
    answer.put(figures)


def theirs(rows: int, classes: int, answer: multiprocessing.Queue) -> None:
    """cleanlab on so many rows; answers its time and peak memory."""
    from cleanlab.filter import find_label_issues

    pieces = list(probabilities(rows, classes))
    values = np.concatenate([piece for piece, _ in pieces])
    labels = np.concatenate([given for _, given in pieces])
    del pieces
    # cleanlab wants every class at least once.
    labels[: min(rows, classes)] = np.arange(min(rows, classes))
    started = time.monotonic()
    issues = find_label_issues(labels, values, n_jobs=1)
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    answer.put({"rows": rows, "seconds": seconds, "peak_gb": peak, "issues": int(issues.sum())})


def write_features(folder: Path, images: int, classes: int, width: int) -> np.ndarray:
    """A store of features in half precision; returns the image that each is a near copy of, or -1.

    A class is a cloud around a point, classes of one family lie near each other, and all of them
    differ in few directions, as images do in a network's features. None is negative.
    """
    from fgvc_utils.jobs.predictions import ShardWriter, finish_store

    random = np.random.default_rng(0)
    spread = random.normal(size=(DIRECTIONS, width)).astype(np.float32) / np.sqrt(DIRECTIONS)
    families = random.normal(size=(max(1, classes // 20), DIRECTIONS))
    centres = families[random.integers(len(families), size=classes)]
    centres = centres + random.normal(size=centres.shape) * 0.7
    source = np.where(random.random(images) < COPIES, random.integers(images, size=images), -1)
    seeds = np.where(source >= 0, source, np.arange(images))
    # A copy of a copy would be nearer to no image than this.
    source[source[seeds] >= 0] = -1
    seeds = np.where(source >= 0, source, np.arange(images))
    latent = centres[random.integers(classes, size=images)].astype(np.float32)
    latent += random.normal(size=latent.shape).astype(np.float32) * 0.7
    writer = ShardWriter(folder, 0, [f"{n:07d}" for n in range(images)])
    for start in range(0, images, BLOCK):
        mine = seeds[start : start + BLOCK]
        block = latent[mine] @ spread
        block += random.normal(size=block.shape).astype(np.float32) * 0.1
        writer.write("features", start, np.maximum(block, 0).astype(np.float16))
    writer.close()
    finish_store(folder, [], 1)
    return source


def near(
    images: int, classes: int, width: int, exact: int, folder: str, answer: multiprocessing.Queue
) -> None:
    """Join near copies and find nearest images among features on the disk; answers figures."""
    from fgvc_utils.cleaning import deep_copies, search
    from fgvc_utils.cleaning.vectors import StoredRows, UnitVectors
    from fgvc_utils.jobs.predictions import Store

    source = write_features(Path(folder), images, classes, width)
    store = Store(Path(folder))
    vectors = UnitVectors([StoredRows(store, store.image_ids)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started = time.monotonic()
    codes = np.arange(images)
    groups = deep_copies.joined(images, deep_copies.linked(vectors, codes, 0.97, exact))
    copies_seconds = time.monotonic() - started
    copied = np.flatnonzero(source >= 0)
    started = time.monotonic()
    found = search.search(vectors, groups, 10, exact)
    answer.put(
        {
            "copies_seconds": copies_seconds,
            "copies_found": float((groups[copied] == groups[source[copied]]).mean()),
            "groups": len(np.unique(groups)),
            "neighbours_seconds": time.monotonic() - started,
            "recall": found.recall,
            "before_gb": before,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
    )


def apart(work: object, *arguments: object) -> dict | None:
    """Run a function in a process of its own; None where it dies, of too little memory first."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=work, args=(*arguments, answer))
    process.start()
    while process.is_alive() and answer.empty():
        process.join(1)
    figures = None if answer.empty() else answer.get()
    process.join()
    return figures


def decisions(given: argparse.Namespace) -> dict:
    """The part of the decisions: prints its figures and returns those of the last line."""
    with tempfile.TemporaryDirectory() as folder:
        mine = apart(ours, given.images, given.classes, f"{folder}/store")
    rows, lab = given.cleanlab_rows, None
    while lab is None and rows > given.classes:
        lab = apart(theirs, rows, given.classes)
        rows = rows if lab else rows // 2
    rate = given.images / mine["seconds"]
    print(f"{given.images} images × {given.classes} classes, blocks of {BLOCK}")
    print(f"{'':14}{'rows':>9}{'seconds':>9}{'peak GB':>9}{'rows/s':>9}")
    print(f"{'this kit':14}{given.images:9}{mine['seconds']:9.1f}{mine['peak_gb']:9.2f}{rate:9.0f}")
    if lab:
        pace = lab["rows"] / lab["seconds"]
        print(
            f"{'cleanlab':14}{lab['rows']:9}{lab['seconds']:9.1f}{lab['peak_gb']:9.2f}{pace:9.0f}"
        )
    print(
        f"top 5 keeps {mine['top5']:.1%}, top 1 {mine['top1']:.1%}, posterior "
        f"{mine['posterior_keeps']:.1%}; the store takes {mine['store_mb']:.0f} MB"
    )
    return {
        "peak_gb": round(mine["peak_gb"], 2),
        "seconds": round(mine["seconds"], 1),
        "cleanlab_rows": lab["rows"] if lab else 0,
        "cleanlab_peak_gb": round(lab["peak_gb"], 2) if lab else None,
        "cleanlab_seconds": round(lab["seconds"], 1) if lab else None,
    }


def features(given: argparse.Namespace) -> dict:
    """The part of the features: prints its figures and returns those of the last line."""
    with tempfile.TemporaryDirectory() as folder:
        found = apart(
            near, given.images, given.classes, given.width, given.exact, f"{folder}/store"
        )
    print(
        f"{given.images} images × {given.width} features: near copies joined in "
        f"{found['copies_seconds']:.0f} s, {found['copies_found']:.1%} of the planted ones found; "
        f"10 nearest images in {found['neighbours_seconds']:.0f} s, {found['recall']:.1%} of the "
        f"true ones found; peak {found['peak_gb']:.2f} GB with the pages of the store, "
        f"{found['before_gb']:.2f} GB once that was written"
    )
    return {f"features_{name}": round(value, 3) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=550_000)
    parser.add_argument("--classes", type=int, default=5_000)
    parser.add_argument("--cleanlab-rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=1280, help="of the features")
    parser.add_argument(
        "--exact", type=int, default=30_000, help="all pairs are compared up to so many images"
    )
    parser.add_argument("--parts", nargs="+", default=["decisions", "features"], choices=PARTS)
    given = parser.parse_args()
    line: dict = {}
    for part in given.parts:
        line |= PARTS[part](given)
    print(json.dumps(line))


PARTS = {"decisions": decisions, "features": features}


if __name__ == "__main__":
    main()
