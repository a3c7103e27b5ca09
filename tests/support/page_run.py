"""A small run's folder as the stages leave it, for tests of its page: 24 images, 3 classes."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fgvc_utils.answers.submission import keep_submission
from fgvc_utils.contest import tables
from fgvc_utils.core.files import write_json
from fgvc_utils.core.reading import write_parquet
from fgvc_utils.jobs.predictions import ShardWriter, finish_store

CLASSES = ["ant", "bee", "cat"]
TRAIN, TEST = 18, 6
COLOURS = {"ant": "#205080", "bee": "#d0a000", "cat": "#803030"}


def write_run(folder: Path, *, classes=CLASSES, **changes) -> Path:
    """Write a finished run; returns its folder.

    Parameters
    ----------
    folder : Path
        The run's; the cache is made beside it.
    classes : sequence of str
        Three class names.
    changes
        `seed` (0), a parameter of every stamp; `dropped` (two images), which train images 03 leaves
        out; `relabelled` (one), which it moves to the next class; `answers`, the class of each test
        image by number; `right` (15), how many of the held-out images model one hits.
    """
    folder = Path(folder)
    ids = [f"train/{n:02d}.jpg" for n in range(TRAIN)] + [f"test/{n:02d}.jpg" for n in range(TEST)]
    given = [classes[n % 3] for n in range(TRAIN)] + [""] * TEST
    _write_pictures(folder.parent / "cache", ids, given, classes)
    _write_tables(folder, ids, given, classes, changes)
    _write_models(folder, ids, classes, changes.get("right", 4))
    _write_stamps(folder, changes.get("seed", 0))
    named = ["train_images", "test_images", "files_left_out"]
    report = {"01_noise": dict(zip(named, (TRAIN, TEST, 2), strict=True))}
    report["10_train-one"] = {
        "held_out": 6,
        "top1": changes.get("right", 4) / 6,
        "table": "03_fine",
    }
    report["30_ensemble"] = {
        "single": {"one": changes.get("right", 4) / 6},
        "ensembles": {"vote": 5 / 6},
        "held_out": 6,
    }
    write_json(report, folder / "report.json")
    took = {"01_noise": 65.0, "03_fine": 5.0}
    write_json(
        {n: {"seconds": s, "typical": 1.0, "network": ""} for n, s in took.items()},
        folder / "seconds.json",
    )
    ledger = pd.DataFrame({"stage": ["03_fine"], "round": [1], "recipe": ["heads"], "kept": [16]})
    ledger.to_csv(folder / "ledger.csv", index=False)
    answers = changes.get("answers", [n % 3 for n in range(TEST)])
    names = pd.Series(ids[TRAIN:])
    rows = pd.DataFrame({"path": names, "class": [classes[n] for n in answers]})
    facts = {"rule": "cap", "scores": "vote", "images": TEST, "changed": 1}
    keep_submission(folder, rows.to_csv(index=False), facts)
    notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    for step in ("01_noise", "03_fine", "10_train-one"):
        (folder / f"{step}.ipynb").write_text(json.dumps(notebook))
    return folder


def _write_pictures(cache: Path, ids: list[str], given: list[str], classes: list[str]) -> None:
    (cache / "64").mkdir(parents=True, exist_ok=True)
    colours = dict(zip(classes, COLOURS.values(), strict=True))
    for number, label in enumerate(given):
        picture = Image.new("RGB", (64, 48), colours.get(label, "#888888"))
        picture.save(cache / "64" / f"{number:02d}.jpg")


def _write_tables(
    folder: Path, ids: list[str], given: list[str], classes: list[str], changes: dict
) -> None:
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    split = ["train"] * TRAIN + ["test"] * TEST
    listed = pd.DataFrame({"image_id": ids, "path": ids, "split": split, "given": given})
    cached = [f"64/{n:02d}.jpg" for n in range(len(ids))]
    error = [""] * len(ids)
    # The first file cannot be read.
    cached[0], error[0] = "", "empty file"
    inventory = listed[["image_id", "path"]].assign(
        stored_as=["", *["RGB"] * (len(ids) - 1)], cached=cached, error=error, note=""
    )
    write_parquet(inventory, folder / "tables" / "inventory.parquet")
    first = tables.new_table(listed)
    broken = first["image_id"] == ids[0]
    first = tables.leave_out(first, broken, "01_noise", "unreadable", "unreadable: empty file")
    tables.write_table(first, folder / "tables" / "01_noise.parquet")
    dropped = {ids[n] for n in changes.get("dropped", (3, 4))}
    third = tables.leave_out(first, first["image_id"].isin(dropped), "03_fine", "label")
    for number in changes.get("relabelled", (5,)):
        row = ids[number]
        label = classes[(number + 1) % 3]
        third.loc[row, ["label", "stage", "by", "cause"]] = [label, "03_fine", "rule", "relabelled"]
    tables.write_table(third, folder / "tables" / "03_fine.parquet")
    (folder / "tables" / "left_out.csv").write_text("path,reason\nnotes.txt,no image\n")


def _write_models(folder: Path, ids: list[str], classes: list[str], right: int) -> None:
    """Model one, which the last six train images judge, and the vote, which hits five of them."""
    held_out = ids[TRAIN - 6 : TRAIN]
    asked = [*held_out, *ids[TRAIN:]]
    truth = [n % 3 for n in range(TRAIN - 6, TRAIN)]
    for place, kind, hits in (
        (folder / "models" / "one" / "predictions", "logits", right),
        (folder / "ensemble" / "vote", "scores", 5),
    ):
        scores = np.zeros((len(asked), 3), np.float32)
        for number in range(len(asked)):
            best = truth[number] + (number >= hits) if number < 6 else number
            scores[number, best % 3] = 1
        writer = ShardWriter(place, 0, asked)
        writer.write(kind, 0, scores)
        writer.close()
        finish_store(place, classes, 1)
    model = folder / "models" / "one"
    fit = [True] * (TRAIN - 6) + [False] * 12
    rows = pd.DataFrame({"image_id": ids, "file": ids, "target": "", "label": "", "fit": fit})
    rows["validate"] = rows["image_id"].isin(held_out)
    rows["predict"] = rows["image_id"].isin(asked)
    rows.loc[rows["validate"], "target"] = [classes[n] for n in truth]
    write_parquet(rows, model / "rows.parquet")
    job = {"name": "one", "folder": ".", "rows": "rows.parquet", "classes": classes}
    write_json(job | {"fit": "full", "backbone": "small"}, model / "job.json")
    write_json({"result": "x"}, model / "done.json")


def _write_stamps(folder: Path, seed: int) -> None:
    shared = {"contest": "params/small.yaml", "data_root": "small", "seed": seed}
    own = {"01_noise": {"cache_side": 64}, "03_fine": {"relabel_bar": 0.9}, "10_train-one": {}}
    own |= {"30_ensemble": {"table": "03_fine"}, "40_submit": {"image_column": "path"}}
    for step, values in own.items():
        stamp = {"parameters": shared | values, "inputs": {}, "code": {}, "results": {}}
        write_json(stamp | {"versions": {"torch": "2.15.0"}}, folder / "stages" / f"{step}.json")
