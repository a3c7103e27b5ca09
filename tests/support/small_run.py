"""A small finished run, made in this process: raw images, tables, models, an ensemble's answer."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from small_jobs import small_job

from fgvc_utils.answers.answered import write_answer
from fgvc_utils.answers.calibration import Calibration
from fgvc_utils.answers.ensembling import MemberOutputs, Part, write_scores
from fgvc_utils.answers.ways import Way
from fgvc_utils.contest import tables
from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.images import take_in
from fgvc_utils.contest.inventory import cache_folder, inventory_path, read_inventory
from fgvc_utils.contest.listing import list_images
from fgvc_utils.core.files import write_json
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.rows import job_rows
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training.worker import carry_out

# One has a name that no folder of a kind can have, one would be run by a spreadsheet.
CLASSES = ["=cat", "a/b", "bee", "dog", "empty"]
EACH, TESTS, SIDE = 6, 8, 40
VOTING = ("mean of 2", "layer")


def draw(number: int, label: int) -> Image.Image:
    """A picture whose stripes say its class."""
    random = np.random.default_rng(number)
    picture = random.integers(0, 120, (SIDE + 14, SIDE + 24, 3), dtype=np.uint8)
    picture[:, np.arange(SIDE + 24) // (3 + 2 * label) % 2 == 0] += 100
    return Image.fromarray(picture)


def draw_raw(root: Path) -> None:
    """Raw images under a listing, some of them odd, and what lies beside them."""
    rows, number = [], 0
    for label, name in enumerate(CLASSES[:4]):
        for place in range(EACH):
            # The same file name in several folders.
            path = root / "train" / str(place % 2) / f"{label}" / f"{place}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(number, label).save(path, quality=95)
            rows.append((str(path.relative_to(root)), name))
            number += 1
    odd = root / "train" / "0" / "2"
    draw(number, 2).save(odd / "moving", "GIF")
    draw(number + 1, 2).convert("RGBA").save(odd / "glass.png")
    (odd / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    for name in ("moving", "glass.png", "broken.jpg"):
        rows.append((f"train/0/2/{name}", "bee"))
    draw(99, 3).save(root / "train" / "last.webp", lossless=True)
    rows.append(("train/last.webp", "empty"))
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(root / "train.csv", index=False)
    (root / "test").mkdir()
    for number in range(TESTS):
        draw(200 + number, number % 4).save(root / "test" / f"{number}.jpg", quality=95)


def make_run(folder: Path) -> Shared:
    """Make the run below a folder; returns what names it."""
    torch.set_num_threads(1)
    root = folder / "data"
    root.mkdir(parents=True)
    draw_raw(root)
    cfg = Shared(
        contest="", run="small", outputs=str(folder / "outputs"), data_root=str(root), seed=0
    )
    listed = list_images(root, "train.csv", "test")
    inventory = take_in(listed, root, cache_folder(cfg), SIDE)
    inventory_path(cfg).parent.mkdir(parents=True)
    inventory.to_parquet(inventory_path(cfg))
    inventory = read_inventory(cfg)
    table = cleaned(tables.new_table(listed), inventory)
    for name in ("01_noise", "04_lowq"):
        tables.write_table(table, cfg.table_path(name))
    train_all(cfg, table, inventory)
    return cfg


def cleaned(table: pd.DataFrame, inventory: pd.DataFrame) -> pd.DataFrame:
    """What the stages might have left: one relabelled, some left out, two copies, a person's."""
    broken = inventory["error"].ne("").reindex(table.index)
    table = tables.leave_out(table, broken, "01_noise", "unreadable", "unreadable: a reason")
    is_train = table["split"] == "train"
    table.loc[is_train, "fold"] = np.arange(is_train.sum()) % 3
    table["score"] = np.where(is_train & ~broken, 0.9, np.nan)
    table["suggested"] = table["label"].where(is_train & ~broken, "")
    one, two, three, last = (
        "train/0/0/0.jpg",
        "train/0/0/2.jpg",
        "train/1/0/1.jpg",
        "train/last.webp",
    )
    table.loc[one, ["label", "suggested", "stage", "by", "cause"]] = [
        "dog", "dog", "03_fine", "rule", "relabelled",
    ]  # fmt: skip
    table.loc[[two, three], "group"] = two
    out = pd.Series(False, table.index)
    out[last] = True
    table = tables.leave_out(table, out, "03_fine", "label")
    noise = out & False
    noise["train/1/0/5.jpg"] = True
    table = tables.leave_out(table, noise, "01_noise", "noise", "noise: p > 0.9")
    by_hand = out & False
    by_hand["train/1/3/5.jpg"] = True
    return tables.leave_out(table, by_hand, "03_fine", "dropped", by="human")


def done(job: Job, rows: pd.DataFrame) -> Job:
    """Carry a job out in this process."""
    write_job(job, rows)
    carry_out(job, Processes(), Progress(None))
    return job


def train_all(cfg: Shared, table: pd.DataFrame, inventory: pd.DataFrame) -> None:
    """Two networks, of which one is refitted, a probe, a noise model, a layer, and their vote."""
    models, kept = cfg.folder / "models", tables.kept(table)
    held_out = kept & (table["fold"] == 0)
    test = table["split"] == "test"
    rows = job_rows(
        inventory, target=table["label"], fit=kept & ~held_out, validate=held_out,
        predict=held_out | test,
    )  # fmt: skip
    # A head reads the features of all its images.
    everything = rows.assign(predict=True)
    own = {"classes": CLASSES, "size": 32, "test_ratio": 1.2, "global_batch": 8, "micro_batch": 8}
    both: dict[str, Any] = {**own, "keep": ["logits", "features"]}
    done(small_job(models / "one", balance="prior", **both), everything)
    again = rows.assign(fit=rows["fit"] | rows["validate"], predict=rows["image_id"].isin(
        table.index[test]
    ))  # fmt: skip
    refit = small_job(models / "one" / "refit", balance="prior", **{**own, "keep": ["logits"]})
    done(refit, again)
    frozen = small_job(
        cfg.folder / "features" / "frozen", fit="none", classes=[], size=32, test_ratio=1.2,
        keep=["features", "mirror"], keep_weights=False,
    )  # fmt: skip
    done(frozen, job_rows(inventory, predict=True))
    head = {"fit": "head", "backbone": "", "classes": CLASSES, "optimiser": "lbfgs", "epochs": 20}
    head |= {"train_views": ["features", "mirror"], "test_views": ["features", "mirror"]}
    head |= {"weight_decay": 0.05, "stores": [str(frozen.store)]}
    done(small_job(models / "probe", keep=["logits", "features"], **head), everything)
    layer = small_job(
        cfg.folder / "work" / "30_ensemble" / "layer",
        **{**head, "stores": [str(models / name / "predictions") for name in ("one", "probe")]}
        | {"train_views": ["features"], "test_views": ["features"]},
    )  # fmt: skip
    done(layer, rows)
    noise_of(cfg, frozen, table, inventory)
    answered(cfg, layer, table.index[test].tolist())


def noise_of(cfg: Shared, frozen: Job, table: pd.DataFrame, inventory: pd.DataFrame) -> None:
    """01's noise model, which takes the class bee for noise, and the report that tells of it."""
    noise = small_job(
        cfg.folder / "work" / "01_noise" / "round-1", fit="head", backbone="", balance="prior",
        classes=["noise", "normal"], stores=[str(frozen.store)], optimiser="radam", base_lr=0.05,
        epochs=4, train_views=["features", "mirror"], test_views=["features", "mirror"],
        global_batch=8, micro_batch=8, keep_weights=False,
    )  # fmt: skip
    train = table["split"] == "train"
    target = table["given"].eq("bee").map({True: "noise", False: "normal"}).where(train, "")
    done(noise, job_rows(inventory, target=target, fit=train, predict=train))
    write_json({"01_noise": {"rounds": 1, "picks": "picked by hand"}}, cfg.report)


def answered(cfg: Shared, layer: Job, ids: list[str], view: str = "centre") -> None:
    """The vote of a mean and a layer, calibrated."""
    models = cfg.folder / "models"
    ways = [
        Way(VOTING[0], {"one": 0.7, "probe": 0.3}),
        Way(VOTING[1], {"layer": 1.0}, "features-layer-test-views"),
    ]
    members = {"one": models / "one", "probe": models / "probe", "layer": Path(layer.folder)}
    refits = {"one": models / "one" / "refit"}
    calibration = Calibration(1.5, np.linspace(-0.1, 0.1, len(CLASSES)))
    outputs = MemberOutputs(members, {}, refits)
    vote = cfg.folder / "ensemble" / "vote"
    write_scores(outputs, [Part(ids, ways)], VOTING, vote, [calibration])
    named = type("Cfg", (), {"folder": cfg.folder, "test_views": view})()
    write_answer(named, vote, ways, VOTING, members | refits, [calibration])


def lines_below(folder: Path) -> list[str]:
    """All files and links below a folder, by their names, in order."""
    return sorted(
        os.path.relpath(os.path.join(place, name), folder)
        for place, _, names in os.walk(folder)
        for name in names
    )
