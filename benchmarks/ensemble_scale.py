"""30_ensemble and 40_submit at the size of the original contest, and all in memory beside them.

`python benchmarks/ensemble_scale.py [--images 100000] [--classes 5000] [--models 15]` writes
synthetic logits of so many models, float16, then votes over the means of the best 15, 9, 8 and 6 in
a process of its own, block by block, and gives each image a class from the vote's scores: by a cap
of 1.25 × the mean count and by Sinkhorn. The same vote with all softmax outputs in memory runs
beside it on as many rows as `--memory_gb` holds. Needs 2 × images × classes × models bytes of disk
for the logits and twice a model's for the scores; `--disk` only prints how many.

own_gb is the most memory that is the process's own (RssAnon, looked at every 20 ms); peak_gb
counts pages of the mapped logits too, which the system takes back where memory is short. The cap is
also compared with a greedy walk over all sorted pairs, on `--greedy_rows` images: it must give
every image the same class. Last line: JSON.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
from cleaning_scale import apart

SIZES = (15, 9, 8, 6)
BLOCK = 4096


def image_ids(images: int) -> list[str]:
    """Names of the synthetic images."""
    return [f"{number:07d}" for number in range(images)]


def write_models(folder: Path, images: int, classes: int, models: int) -> dict[str, Path]:
    """Synthetic logits of the models, by name.

    One block is drawn and shown again, shifted: drawing would take longer than what is measured.
    """
    from fgvc_utils.jobs.predictions import ShardWriter, finish_store

    random = np.random.default_rng(0)
    drawn = (2 * random.standard_normal((BLOCK, classes), dtype=np.float32)).astype(np.float16)
    names = [str(number) for number in range(classes)]
    folders = {}
    for model in range(models):
        place = folder / f"model-{model:02d}"
        writer = ShardWriter(place / "predictions", 0, image_ids(images))
        for number, start in enumerate(range(0, images, BLOCK)):
            block = np.roll(drawn, 7 * model + number, axis=1)
            writer.write("logits", start, block[: images - start])
        writer.close()
        finish_store(place / "predictions", names, 1)
        folders[place.name] = place
    return folders


def streamed(
    folders: dict[str, Path],
    images: int,
    folder: str,
    greedy_rows: int,
    answer: multiprocessing.Queue,
) -> None:
    """The vote in blocks, written to a store, then cap and Sinkhorn; answers time and memory."""
    from fgvc_utils.answers import assignment, ensembling, label_shift, ways

    own, started, seconds = OwnMemory(), time.monotonic(), {}
    means = [
        ways.Way(f"mean of {len(members)}", dict.fromkeys(members, 1 / len(members)))
        for members in ways.member_sets(list(folders), SIZES)
    ]
    part = ensembling.Part(image_ids(images), means)
    stored = ensembling.MemberOutputs(folders)
    store = ensembling.write_scores(stored, [part], ways.voters(means), Path(folder))
    seconds["means and vote"] = time.monotonic() - started
    began = time.monotonic()
    scores = store.read_rows("scores", np.arange(images))
    seconds["reading scores"] = time.monotonic() - began
    prior = label_shift.equal_prior(scores.shape[1])
    for rule in ("cap", "sinkhorn"):
        began = time.monotonic()
        assignment.assign(scores, assignment.Rule(rule), prior)
        seconds[rule] = time.monotonic() - began
    found = figures(images, started) | {"own_gb": own.most_gb(), "parts": seconds}
    some = scores[:greedy_rows]
    caps = assignment.class_caps(prior, len(some), 1.25)
    same = (assignment.assign_capped(some, caps) == greedy(some, caps)).all()
    answer.put(found | {"first": scores[:8], "cap_equals_greedy": bool(same)})


class OwnMemory:
    """The most memory that was this process's own since it was made, looked at every 20 ms."""

    def __init__(self) -> None:
        self._most = 0
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    self._most = max(self._most, int(line.split()[1]))

    def most_gb(self) -> float:
        """Ends the watch; returns GB (2^30 bytes)."""
        self._ended.set()
        self._watch.join()
        return self._most / 2**20


def greedy(scores: np.ndarray, caps: np.ndarray) -> np.ndarray:
    """The original's rule as written: all pairs in order of score, equal ones by image."""
    room, answer = caps.copy(), np.full(len(scores), -1)
    open_ = len(scores)
    for pair in np.argsort(-scores, axis=None, kind="stable"):
        image, label = divmod(int(pair), scores.shape[1])
        if answer[image] < 0 and room[label]:
            answer[image] = label
            room[label] -= 1
            open_ -= 1
            if not open_:
                break
    return answer


def at_once(folders: dict[str, Path], rows: int, answer: multiprocessing.Queue) -> None:
    """The same vote with every model's softmax in memory; answers its time and peak memory."""
    from fgvc_utils.answers import ways
    from fgvc_utils.jobs.predictions import Store

    started = time.monotonic()
    ids = image_ids(rows)
    softmax = {name: Store(f / "predictions").probabilities(ids) for name, f in folders.items()}
    sets = ways.member_sets(list(folders), SIZES)
    scores = ways.vote([ways.mean_of([softmax[n] for n in names]) for names in sets])
    answer.put(figures(rows, started) | {"first": scores[:8]})


def figures(rows: int, started: float) -> dict:
    """What a process took so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"rows": rows, "seconds": time.monotonic() - started, "peak_gb": peak}


def in_a_process(target: object, *arguments: object) -> dict:
    """Run one way in a process of its own; its memory is then nobody else's."""
    found = apart(target, *arguments)
    if found is None:
        raise RuntimeError(f"{target.__name__} ended with no figures")
    return found


def main() -> None:
    """Read the options, measure, print a table and JSON."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--images", type=int, default=100_000)
    options.add_argument("--classes", type=int, default=5_000)
    options.add_argument("--models", type=int, default=15)
    options.add_argument("--memory_gb", type=float, default=4.0, help="for the way at once")
    options.add_argument("--greedy_rows", type=int, default=2_000)
    options.add_argument("--folder", help="where the logits lie meanwhile; a temporary folder")
    options.add_argument("--disk", action="store_true", help="print the disk needed and end")
    given = options.parse_args()
    scores = 4 * given.images * given.classes
    disk = {
        "disk_logits_gb": 2 * given.images * given.classes * given.models / 1e9,
        "disk_scores_gb": scores / 1e9,
    }
    if given.disk:
        print(json.dumps(disk))
        return
    from fgvc_utils.core.files import require_space

    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        needed = 2 * given.images * given.classes * given.models + scores
        require_space(Path(place), needed, "the benchmark's logits and scores", "or take fewer")
        folders = write_models(Path(place), given.images, given.classes, given.models)
        ours = in_a_process(streamed, folders, given.images, f"{place}/vote", given.greedy_rows)
        # Each model's float32 softmax, and as much again while the last of them is made.
        each = 4 * given.classes * (given.models + 4)
        rows = min(given.images, max(8, int(given.memory_gb * 2**30 / each)))
        theirs = in_a_process(at_once, folders, rows)
    same = bool(np.allclose(ours.pop("first"), theirs.pop("first"), rtol=1e-5, atol=1e-6))
    parts = ours.pop("parts")
    print(pd.Series(parts, name="seconds").round(1).to_string())
    table = pd.DataFrame({"streamed": ours, "all in memory": theirs}).T
    # Of the vote alone: nothing but that is done in memory.
    table["seconds"] = [parts["means and vote"], theirs["seconds"]]
    table["rows_a_second"] = table["rows"] / table["seconds"]
    print(table.to_string(float_format="{:.2f}".format, na_rep=""))
    speed = table["rows_a_second"]
    closing = {
        **vars(given),
        **disk,
        "streamed": ours | {"parts": parts},
        "all_in_memory": theirs,
        "same_scores": same,
        "speed_ratio": speed["streamed"] / speed["all in memory"],
    }
    print(json.dumps(closing))


if __name__ == "__main__":
    main()
