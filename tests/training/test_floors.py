"""What networks have to beat: the probe of their own backbone, as a model or fitted in passing."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from small_jobs import CLASSES, small_job

from fgvc_utils.core.files import write_json
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.predictions import ShardWriter, finish_store
from fgvc_utils.jobs.records import Job, as_written
from fgvc_utils.jobs.rows import write_rows
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training.floors import floor_jobs, read_floors
from fgvc_utils.training.models import model_table, trained_models
from fgvc_utils.training.worker import carry_out

IDS = [f"image-{n:02d}" for n in range(80)]
LABELS = np.arange(80) % 4


@pytest.fixture
def cfg(tmp_path):
    """A run with a network that is right of one image in five, and one of another backbone."""
    rows = pd.DataFrame({"image_id": IDS, "file": "", "label": ""})
    rows["target"] = [CLASSES[label] for label in LABELS]
    rows = rows.assign(fit=np.arange(80) >= 20, validate=np.arange(80) < 20, predict=True)
    # A student's image without a label.
    rows.loc[79, "target"] = ""
    for name, backbone in (("weak", "net"), ("other", "unknown")):
        made = small_job(tmp_path / "models" / name, backbone=backbone)
        write_rows(rows, Path(made.rows))
        finished(made, {"top1": 0.2, "n": 20.0})
    return SimpleNamespace(folder=tmp_path, report=tmp_path / "report.json")


def finished(job: Job, figures: dict) -> None:
    write_json(as_written(job), job.job_file)
    write_json({"seconds": 1.0, "figures": figures}, Path(job.folder) / "done.json")


def stored(folder: Path, size: int, signal: float) -> None:
    """Features of IDS that tell the class, the more signal the better."""
    random = np.random.default_rng(size)
    job = Job(
        name="features", folder=str(folder), rows="", classes=[], fit="none", backbone="net",
        size=size,
    )  # fmt: skip
    writer = ShardWriter(job.store, 0, IDS)
    for view in ("features", "mirror"):
        values = signal * np.eye(4)[LABELS] + random.normal(0, 1, (80, 4))
        writer.write(view, 0, values.astype(np.float16))
    writer.close()
    finish_store(job.store, [], 1)
    finished(job, {})


def fit_floors(cfg) -> dict:
    jobs = floor_jobs(cfg, trained_models(cfg))
    for job, rows in jobs.values():
        write_job(job, rows)
        carry_out(job, Processes(), Progress(None))
    return jobs


def test_a_network_is_measured_by_a_probe_on_the_largest_features_of_its_backbone(cfg, capsys):
    stored(cfg.folder / "features/net-32", 32, 0.0)
    stored(cfg.folder / "features/net-64", 64, 6.0)
    jobs = fit_floors(cfg)
    assert list(jobs) == ["weak"] and jobs["weak"][0].size == 64
    assert jobs["weak"][1]["fit"].sum() == 59, "an image without a label teaches no probe"
    assert read_floors(cfg, trained_models(cfg)) == {"weak": (1.0, 20)}
    table = model_table(cfg).set_index("model")
    assert table.loc["weak", ["probe", "below probe"]].tolist() == [1.0, "yes"]
    assert table.loc["other", ["probe", "below probe"]].isna().all()
    said = capsys.readouterr().out
    assert "below the probe of its own backbone: weak (20.0% against 100.0% of 20); try" in said
    assert "no probe to measure other by" in said


def test_a_probe_that_is_a_model_is_the_floor_where_the_same_images_judge_it(cfg, capsys):
    stored(cfg.folder / "features/net-32", 32, 6.0)
    rows = floor_jobs(cfg, trained_models(cfg))["weak"][1]
    probe = Job(
        name="probe", folder=str(cfg.folder / "models/probe"), classes=CLASSES, fit="head",
        rows=str(cfg.folder / "models/probe/rows.parquet"), backbone="net",
    )  # fmt: skip
    write_rows(rows.assign(validate=rows["image_id"] == IDS[0]), Path(probe.rows))
    finished(probe, {"top1": 0.1, "n": 20.0})
    assert list(floor_jobs(cfg, trained_models(cfg))) == ["weak"], "another image judged it"
    write_rows(rows, Path(probe.rows))
    assert not floor_jobs(cfg, trained_models(cfg))
    table = model_table(cfg).set_index("model")
    assert table.loc["weak", ["probe", "below probe"]].tolist() == [0.1, "no"]
    assert "below the probe" not in capsys.readouterr().out
    assert pd.isna(table.loc["probe", "probe"]), "a probe is not measured by itself"
