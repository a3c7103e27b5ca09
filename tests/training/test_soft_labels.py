"""Soft labels: who teaches what, and heads that learn from them to a known answer."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fgvc_utils.contest import tables
from fgvc_utils.contest.posteriors import write_posteriors
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.done import is_done
from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.running import write_job
from fgvc_utils.jobs.soft_targets import write_targets
from fgvc_utils.training.feed import Targets
from fgvc_utils.training.soft_labels import what_teaches
from fgvc_utils.training.worker import carry_out

POSTERIORS = {
    "sure": {"x": 0.6, "y": 0.3},
    "person": {"x": 0.9, "y": 0.1},
    "unsure": {"y": 0.5, "x": 0.4, "gone": 0.1},
    "nothing": {"y": 0.3},
    "merged": {"x": 0.9},
    "other stage": {"y": 0.6, "x": 0.4},
    "gone": {"gone": 0.9, "x": 0.1},
}


@pytest.fixture
def table():
    names = [*POSTERIORS, "never judged", "test"]
    listed = pd.DataFrame({"image_id": names, "path": names, "split": "train", "given": "x"})
    listed.loc[listed["image_id"] == "gone", "given"] = "gone"
    listed.loc[listed["image_id"] == "never judged", "given"] = "y"
    listed.loc[listed["image_id"] == "test", ["split", "given"]] = ["test", ""]
    table = tables.new_table(tables.by_image_id(listed))
    table.loc["person", ["stage", "by", "cause"]] = ["03_fine", "human", "confirmed"]
    table.loc["merged", ["stage", "by", "cause", "label"]] = ["04_lowq", "human", "merged", "y"]
    for image in ("unsure", "nothing"):
        table = tables.leave_out(table, table["image_id"] == image, "03_fine", "label")
    table = tables.leave_out(table, table["image_id"] == "other stage", "04_lowq", "small_class")
    return tables.leave_out(table, table["image_id"] == "gone", "04_lowq", "small_class")


@pytest.fixture
def cfg(tmp_path):
    rows = [
        (image, name, probability)
        for image, of in POSTERIORS.items()
        for name, probability in of.items()
    ]
    (tmp_path / "tables").mkdir()
    frame = pd.DataFrame(rows, columns=["image_id", "class", "probability"])
    write_posteriors(frame, tmp_path / "tables" / "03_fine-posteriors.parquet")
    return SimpleNamespace(
        soft_labels=True,
        reads_posteriors=True,
        table="04_lowq",
        folder=tmp_path,
        name="m",
        table_path=lambda name: tmp_path / "tables" / f"{name}.parquet",
    )


def taught(teaching):
    store = Store(teaching.store)
    dense = Targets(np.zeros(len(store.image_ids), int), 3)._soft_targets(
        store, np.arange(len(store.image_ids))
    )
    return {image: row.tolist() for image, row in zip(store.image_ids, dense, strict=True)}


def test_kept_images_teach_their_posterior_and_unsure_ones_what_they_may_be(table, cfg):
    before = table.copy()
    teaching = what_teaches(cfg, table)
    pd.testing.assert_frame_equal(table, before)
    # Classes in their order: gone, x, y. Class `gone` has no image left, so nobody teaches it.
    assert tables.classes_of(table) == ["gone", "x", "y"]
    soft = taught(teaching)
    assert set(soft) == {"sure", "unsure"}
    np.testing.assert_allclose(soft["sure"], [0, 2 / 3, 1 / 3], atol=1e-3)
    np.testing.assert_allclose(soft["unsure"], [0, 4 / 9, 5 / 9], atol=1e-3)
    kept = tables.kept(teaching.table)
    assert set(kept[kept].index) == {"sure", "person", "merged", "unsure", "never judged"}
    assert teaching.table.loc["unsure", "label"] == "y"
    assert teaching.table.loc["merged", "label"] == "y"
    assert teaching.said.startswith("1 images teach the posterior of their class, 3 their label")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"soft_labels": False}, "soft_labels is off"),
        ({"reads_posteriors": False, "table": "02_coarse"}, "not of 02_coarse"),
        ({"table_path": lambda name: SimpleNamespace(is_file=lambda: False, name=name)}, "left no"),
    ],
)
def test_without_posteriors_every_image_teaches_its_label(table, cfg, changes, said):
    vars(cfg).update(changes)
    teaching = what_teaches(cfg, table)
    assert teaching.table is table and teaching.store == "" and said in teaching.said


def test_where_a_person_decided_on_every_image_nothing_is_soft(table, cfg):
    table[["by", "stage"]] = ["human", "03_fine"]
    teaching = what_teaches(cfg, table)
    assert teaching.table is table and not teaching.store and "none has" in teaching.said


def test_posteriors_of_other_images_are_refused(table, cfg):
    with pytest.raises(ValueError, match="knows image 'sure', .* run the notebook 03_fine"):
        what_teaches(cfg, table.drop(index="sure"))


IDS = ["a", "b", "c", "d"]


def head(folder, soft_labels):
    """A head whose features are the same for all: it learns the mean of what is taught."""
    writer = ShardWriter(folder / "features" / "predictions", 0, IDS)
    writer.write("features", 0, np.tile(np.array([[1.0, -1.0]], np.float16), (4, 1)))
    writer.close()
    finish_store(folder / "features" / "predictions", [], 1)
    return Job(
        name="head",
        folder=str(folder / "head"),
        rows=str(folder / "head" / "rows.parquet"),
        classes=["x", "y"],
        fit="head",
        stores=[str(folder / "features" / "predictions")],
        optimiser="lbfgs",
        epochs=100,
        soft_labels=soft_labels,
        keep=["logits"],
    )


def test_a_head_learns_the_soft_labels_and_of_other_images_the_label(tmp_path):
    store = tmp_path / "soft" / "predictions"
    # c is held out: what it would teach is not learnt.
    half = np.array([[0, 1]] * 3), np.array([[0.5, 0.5], [0.2, 0.8], [1.0, 0.0]])
    write_targets(store, ["x", "y"], ["a", "b", "c"], *half)
    rows = pd.DataFrame({"image_id": IDS, "file": "", "target": ["x", "x", "x", "y"], "label": ""})
    rows = rows.assign(fit=[True, True, False, True], validate=False, predict=True)
    job = head(tmp_path, str(store))
    write_job(job, rows)
    carry_out(job, Processes(), Progress(None))
    found = Store(job.store).probabilities(IDS)
    np.testing.assert_allclose(found[:, 0], (0.5 + 0.2 + 0) / 3, atol=2e-3)
    assert is_done(job)
    # Other soft labels make it another job.
    write_targets(store, ["x", "y"], ["a", "b", "c"], half[0], half[1][::-1])
    assert not is_done(job)


def test_soft_labels_of_other_classes_are_refused(tmp_path):
    store = tmp_path / "soft" / "predictions"
    write_targets(store, ["x", "z"], ["a"], np.array([[0]]), np.array([[1.0]]))
    rows = pd.DataFrame({"image_id": IDS, "file": "", "target": "x", "label": ""})
    job = head(tmp_path, str(store))
    write_job(job, rows.assign(fit=True, validate=False, predict=True))
    with pytest.raises(ValueError, match="soft labels of job head know other classes"):
        carry_out(job, Processes(), Progress(None))
