"""Small jobs on pictures drawn here: what the tests of fitting and of two nodes train on."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import simplejpeg

from fgvc_utils.jobs.records import Job
from fgvc_utils.training.changes import CHANGES

# Every random change of the registry, half the time where it has a probability.
WHOLE = {
    name: value
    for change in CHANGES
    for name, value in ({change.switch: 0.5} | change.usual).items()
}
CLASSES = ["ant", "bee", "cat", "dog"]
SIDE = 48


def draw_pictures(folder: Path, count: int = 200) -> pd.DataFrame:
    """JPEGs whose stripes say the class; rows of a job in which all are fitted and predicted."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        label = number % len(CLASSES)
        picture = random.integers(0, 120, (SIDE, SIDE + 8, 3), dtype=np.uint8)
        stripes = np.arange(SIDE + 8) // (3 + 2 * label) % 2 == 0
        picture[:, stripes] += 100
        file = folder / f"{number:03d}.jpg"
        file.write_bytes(simplejpeg.encode_jpeg(picture, quality=90))
        rows.append({"image_id": file.stem, "file": str(file), "target": CLASSES[label]})
    return pd.DataFrame(rows).assign(label="", fit=True, validate=False, predict=True)


def small_job(folder: Path, **changes: Any) -> Job:
    """A full fit of a tiny network without BatchNorm, 32 images a step; nothing is written."""
    given: dict[str, Any] = {
        "name": folder.name,
        "folder": str(folder),
        "rows": str(folder / "rows.parquet"),
        "classes": CLASSES,
        "fit": "full",
        "backbone": "test_convnext",
        "size": 32,
        "epochs": 2,
        "optimiser": "radam+sgd",
        "base_lr": 0.01,
        "radam_lr": 0.002,
        "radam_share": 0.5,
        "global_batch": 32,
        "micro_batch": 16,
        "seed": 3,
    }
    return Job(**(given | changes))
