"""Rows of jobs and the readers of results: what belongs to an image is found by its id."""

import numpy as np
import pandas as pd
import pytest
from small_jobs import small_job

from fgvc_utils.contest import tables
from fgvc_utils.contest.inventory import readable
from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store
from fgvc_utils.jobs.reduction import Reduced, read_reduced
from fgvc_utils.jobs.results import read_logits, scores_of_all
from fgvc_utils.jobs.rows import job_rows

IDS = ["a", "b", "c", "t"]


@pytest.fixture
def table():
    listed = pd.DataFrame({"image_id": IDS, "path": IDS, "split": ["train"] * 3 + ["test"]})
    return tables.new_table(listed.assign(given=["rose", "lily", "fern", ""]))


@pytest.fixture
def inventory():
    """Of image c there is no picture in the cache."""
    cached = ["a.jpg", "b.jpg", "", "t.jpg"]
    return tables.by_image_id(pd.DataFrame({"image_id": IDS, "file": cached, "cached": cached}))


def rows_of(table, inventory):
    return job_rows(
        inventory, target=table["label"], fit=tables.kept(table), predict=table["split"] == "test"
    )


@pytest.mark.parametrize(
    "turned",
    [
        lambda frame: frame.sort_values("given" if "given" in frame else "cached"),
        lambda frame: frame.iloc[::-1],
        lambda frame: frame.sample(frac=1, random_state=3),
    ],
    ids=["sorted", "reversed", "shuffled"],
)
def test_the_order_of_table_and_inventory_changes_no_row(table, inventory, turned):
    rows = rows_of(table, inventory).set_index("image_id")
    assert rows["target"].to_dict() == {"a": "rose", "b": "lily", "t": ""}
    assert rows["fit"].to_dict() == {"a": True, "b": True, "t": False}
    assert rows["file"].to_dict() == {"a": "a.jpg", "b": "b.jpg", "t": "t.jpg"}
    pd.testing.assert_frame_equal(rows_of(turned(table), inventory), rows_of(table, inventory))
    other = rows_of(table, turned(inventory)).set_index("image_id")
    pd.testing.assert_frame_equal(other.loc[rows.index], rows)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda s: s.drop("b"), "target has no value for image 'b'"),
        (lambda s: pd.concat([s, pd.Series("x", ["z"])]), "target names image 'z'"),
        (lambda s: pd.concat([s, s[:1]]), "target names image 'a' twice"),
        (lambda s: s.reset_index(drop=True), "target names image 0, .* index it by image_id"),
    ],
    ids=["missing", "strange", "doubled", "by place"],
)
def test_columns_that_do_not_name_each_image_once_are_refused(table, inventory, given, message):
    with pytest.raises(ValueError, match=message):
        job_rows(inventory, target=given(table["label"]), fit=True)


def test_an_unknown_column_of_rows_is_refused(inventory):
    with pytest.raises(TypeError, match="fitt"):
        job_rows(inventory, fitt=True)


def test_which_images_of_a_table_are_readable(table, inventory):
    found = readable(inventory, table.iloc[::-1])
    assert found.to_dict() == {"t": True, "c": False, "b": True, "a": True}
    with pytest.raises(KeyError, match="the inventory has no row of image 'b'"):
        readable(inventory.drop("b"), table)


def test_a_doubled_image_has_no_index():
    with pytest.raises(ValueError, match="image_id 'a' is in more than one row"):
        tables.by_image_id(pd.DataFrame({"image_id": ["a", "b", "a"]}))


def written(folder, kind, ids, values):
    """A store of one array under the classes x, y and z."""
    writer = ShardWriter(folder, 0, ids)
    writer.write(kind, 0, np.asarray(values, np.float32))
    writer.close()
    finish_store(folder, ["x", "y", "z"], 1)
    return Store(folder)


def test_logits_come_in_the_order_asked_for_and_a_stranger_is_named(tmp_path):
    jobs = [small_job(tmp_path / name) for name in ("one", "two")]
    written(jobs[0].store, "logits", ["a", "b"], [[1, 0, 0], [2, 0, 0]])
    written(jobs[1].store, "logits", ["t"], [[3, 0, 0]])
    assert read_logits(jobs, ["t", "a"])["x"].to_dict() == {"t": 3.0, "a": 1.0}
    with pytest.raises(KeyError, match="job one and job two did not predict image 'c'"):
        read_logits(jobs, ["a", "c"])


def test_scores_of_images_are_zero_only_where_that_is_allowed(tmp_path):
    store = written(tmp_path, "scores", ["a", "b"], [[1, 2, 3], [4, 5, 6]])
    ids = pd.Series(["b", "c", "a"])
    scores = scores_of_all(store, ids, unread=["c"])
    assert scores.tolist() == [[4, 5, 6], [0, 0, 0], [1, 2, 3]]
    with pytest.raises(KeyError, match="no row of image 'c'"):
        scores_of_all(store, ids)


@pytest.fixture
def reduced(tmp_path):
    """A store of reduced predictions of images a and b."""
    writer = ShardWriter(tmp_path / "reduced", 0, ["a", "b"])
    kinds = {"top_classes": np.int32, "top_probabilities": np.float16}
    for kind, dtype in kinds.items():
        writer.write(kind, 0, np.zeros((2, 1), dtype))
    writer.write("label_rank", 0, np.arange(2, dtype=np.int32))
    writer.write("label_probability", 0, np.zeros(2, np.float16))
    writer.close()
    finish_store(tmp_path / "reduced", ["x"], 1)
    return Store(tmp_path / "reduced")


def test_reduced_predictions_name_who_is_not_there(reduced):
    read = read_reduced([reduced], ["b", "a"])
    assert read.image_ids.tolist() == ["b", "a"] and read.label_rank.tolist() == [1, 0]
    with pytest.raises(KeyError, match="nobody predicted image 'c'"):
        read_reduced([reduced], ["a", "c"])
    with pytest.raises(KeyError, match="nobody predicted image 'c'"):
        read.of(["c"])
    stranger = Reduced(
        pd.Index(["c"]), read.classes, *(getattr(read, k)[:1] for k in (
            "top_classes", "top_probabilities", "label_rank", "label_probability"
        ))
    )  # fmt: skip
    with pytest.raises(KeyError, match="nobody predicted image 'c'"):
        read.updated(stranger)
