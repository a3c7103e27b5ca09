"""Cross-training on features whose classes are known: clusters of images, some mislabelled."""

from pathlib import Path

import numpy as np
import pandas as pd

from fgvc_utils.cleaning.crossing import Crossing
from fgvc_utils.cleaning.params import CrossParams
from fgvc_utils.cleaning.rounds import recut
from fgvc_utils.contest import tables
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs import predictions
from fgvc_utils.jobs.done import is_done
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training.worker import carry_out

CLASSES = ["ant", "bee", "cat", "dog"]
EACH, WIDTH = 30, 16
SETTINGS = {
    "contest": "", "run": "small", "data_root": ".", "seed": 0, "processes": 1, "nodes": 1,
    "warm_ranks": True, "rendezvous": "", "device": "cpu", "threads": 1, "workers": 0,
    "backbone": "drawn",
    "weights": "none", "size": 32, "test_ratio": 1.15, "fit": "head", "epochs": 12, "rate": 0.02,
    "optimiser": "lbfgs", "lbfgs_steps": 60,
    "sgd_rate": 0.05, "weight_decay": 0.05, "global_batch": 16, "micro_batch": 16,
}  # fmt: skip
CROSS = {
    "further_backbones": [], "top": 1, "rule": "rank", "folds": 3,
    "rounds": [{"optimiser": "sgd"}, {"optimiser": "adamw", "mirror": False}], "max_rounds": 4,
    "recheck_positives": False, "trust": 0.2, "sharpness": 1.5, "posterior_rounds": 2,
    "averaged_rounds": 1,
    "relabel": True, "relabel_bar": 0.7, "planted_share": 0.2, "look_share": 0.1,
    "require_review": False,
}  # fmt: skip


def here(jobs, cfg, name):
    """Carry jobs out in this process."""
    for job, rows in jobs:
        write_job(job, rows)
        if not is_done(job):
            carry_out(job, Processes(), Progress(None))


class Small:
    """Four clusters of images, every sixth under the next class, and a cloud of noise."""

    def __init__(self, folder: Path):
        random = np.random.default_rng(0)
        centres = random.normal(size=(len(CLASSES), WIDTH)) * 2
        true = np.repeat(np.arange(len(CLASSES)), EACH)
        given = np.where(np.arange(len(true)) % 6 == 5, (true + 1) % len(CLASSES), true)
        clouds = random.normal(size=(24, WIDTH)) + np.resize([4, -4], WIDTH)
        features = np.concatenate([centres[true] + random.normal(size=(len(true), WIDTH)), clouds])
        shown = [CLASSES[n] for n in true] + [""] * len(clouds)
        labels = [CLASSES[n] for n in given] + list(np.resize(CLASSES, len(clouds)))
        ids = [f"{n:03d}" for n in range(len(labels))]
        listed = pd.DataFrame({"image_id": ids, "path": ids, "split": "train", "given": labels})
        self.table = tables.new_table(listed.astype(object))
        self.inventory = pd.DataFrame({"image_id": ids, "file": ids, "cached": ids})
        # The class that each image shows, by image id; empty for noise.
        self.true = pd.Series(shown, ids)
        self.is_noise = self.true == ""
        self.outputs = folder
        self.features = Job(
            name="drawn", folder=str(folder / "drawn"), rows="", classes=[], fit="none",
            backbone="drawn",
        )  # fmt: skip
        writer = predictions.ShardWriter(self.features.store, 0, ids)
        for kind in ("features", "mirror"):
            jitter = random.normal(size=features.shape) * 0.1
            writer.write(kind, 0, (features + jitter).astype(np.float16))
        writer.close()
        predictions.finish_store(self.features.store, [], 1)

    def cross(self, table, asked, record=CrossParams, **changes):
        cfg = record(**{**SETTINGS, **CROSS, **changes}, outputs=str(self.outputs))
        made = Crossing(
            cfg, "03_fine", table, self.inventory, asked, asked.astype(int), [self.features], here
        )
        made.fold = recut(made, 0)
        return made

    @property
    def is_wrong(self):
        return (self.table["given"] != self.true) & ~self.is_noise
