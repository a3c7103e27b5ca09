"""Memory of a head on the stored features of half a million images.

`python benchmarks/feature_blocks.py [--images 550000] [--width 1280] [--networks 1] [--classes 200]
[--steps 2]` writes synthetic features of each network into a store, fits a linear head on them by
so many steps of L-BFGS and predicts every image. Memory is the process's own (RssAnon); mapped
pages of the stores, which the system takes back, come on top. Last line: JSON.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.predictions import BLOCK, ShardWriter, finish_store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training.worker import carry_out


def own_megabytes() -> float:
    """Memory of this process without the mapped pages of files, MB."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise OSError("the system does not say how much memory is a process's own")


@contextmanager
def peak() -> Iterator[list[float]]:
    """The most memory within a block, MB: the list's one number, once the block has ended."""
    found, stop = [own_megabytes()], threading.Event()

    def look() -> None:
        while not stop.wait(0.02):
            found[0] = max(found[0], own_megabytes())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def write_features(folder: Path, ids: list[str], width: int, seed: int) -> None:
    """A store of features; one block of random numbers is shown again and again."""
    block = np.random.default_rng(seed).normal(size=(BLOCK, width)).astype(np.float16)
    writer = ShardWriter(folder, 0, ids)
    for start in range(0, len(ids), BLOCK):
        writer.write("features", start, block[: len(ids) - start])
    writer.close()
    finish_store(folder, [], 1)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Write the stores, carry the job out, and say what it took."""
    ids = [f"{number:07d}" for number in range(options.images)]
    stores = [folder / f"network-{n}" / "predictions" for n in range(options.networks)]
    for number, store in enumerate(stores):
        write_features(store, ids, options.width, number)
    classes = [f"class {number:04d}" for number in range(options.classes)]
    rows = pd.DataFrame({"image_id": ids, "file": "", "label": ""})
    rows["target"] = [classes[number % len(classes)] for number in range(len(ids))]
    job = Job(
        name="head",
        folder=str(folder / "head"),
        rows=str(folder / "head" / "rows.parquet"),
        classes=classes,
        fit="head",
        optimiser="lbfgs",
        epochs=options.steps,
        weight_decay=0.01,
        stores=[str(store) for store in stores],
        keep=["reduced"],
        keep_weights=False,
    )
    # Judged under their labels, as the crossed heads of the cleaning are.
    rows = rows.assign(label=rows["target"], fit=True, validate=False, predict=True)
    write_job(job, rows)
    del rows
    before, began = own_megabytes(), time.monotonic()
    with peak() as most:
        carry_out(job, Processes(), Progress(None))
    return {
        "images": options.images,
        "features_mb": round(options.images * options.width * options.networks * 2 / 2**20),
        "before_mb": round(before),
        "peak_mb": round(most[0]),
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=550_000)
    parser.add_argument("--width", type=int, default=1280, help="of each network's features")
    parser.add_argument("--networks", type=int, default=1, help="stores side by side")
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--steps", type=int, default=2, help="of L-BFGS")
    options = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(options, Path(temporary))
    for name, value in found.items():
        print(f"{name:<12}{value:>12,}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
