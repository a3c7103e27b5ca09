"""The store of predictions: shards in, aligned rows out."""

import numpy as np
import pytest

from fgvc_utils.jobs.predictions import (
    ShardWriter,
    Store,
    finish_store,
    label_ranks,
    same_classes,
    softmax,
)


def write(folder, parts, classes=("x", "y", "z"), finish=True):
    """A store whose logits say which image they belong to: image iN has N, 10 N, 100 N."""
    for number, ids in enumerate(parts):
        writer = ShardWriter(folder, number, ids)
        values = np.array([[int(i[1:])] for i in ids]) * np.array([[1, 10, 100]])
        for start in range(0, len(ids), 2):
            writer.write("logits", start, values[start : start + 2].astype(np.float16))
        writer.close()
    if finish:
        finish_store(folder, classes, len(parts))


def test_rows_come_aligned_from_any_shard(tmp_path):
    write(tmp_path, [["i1", "i2", "i3"], ["i4"], ["i5", "i6"]])
    store = Store(tmp_path)
    assert store.image_ids.tolist() == [f"i{n}" for n in range(1, 7)]
    assert store.kinds() == ["logits"] and store.classes == ["x", "y", "z"]
    wanted = ["i6", "i1", "i4", "i1", "i3"]
    rows = store.read("logits", wanted)
    assert rows.dtype == np.float16 and rows[:, 0].tolist() == [6, 1, 4, 1, 3]
    assert (rows[:, 2] == rows[:, 0] * 100).all()
    assert store.read("logits")[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    probabilities = store.probabilities(["i2"], temperature=100)
    np.testing.assert_allclose(probabilities, softmax(np.float32([[0.02, 0.2, 2]])), rtol=1e-5)


def test_strangers_and_missing_arrays_are_named(tmp_path):
    write(tmp_path, [["i1"], ["i2"]])
    store = Store(tmp_path)
    with pytest.raises(KeyError, match="no row of image 'i9'"):
        store.read("logits", ["i1", "i9"])
    with pytest.raises(KeyError, match="holds no features; it holds logits"):
        store.read("features")


def test_a_store_that_is_not_finished_or_holds_an_image_twice(tmp_path):
    write(tmp_path / "open", [["i1"]], finish=False)
    with pytest.raises(FileNotFoundError, match="open holds no finished predictions"):
        Store(tmp_path / "open")
    write(tmp_path / "twice", [["i1"], ["i2", "i1"]])
    with pytest.raises(ValueError, match="twice holds image 'i1' twice"):
        Store(tmp_path / "twice")


def test_ranks_count_ties_against_the_label():
    logits = np.array([[3.0, 2, 1], [3, 2, 1], [1, 1, 1], [2, 2, 1]])
    ranks = label_ranks(logits, np.array([0, 2, 1, 0]))
    assert ranks.tolist() == [0, 2, 2, 1] and ranks.dtype == np.int32


def test_softmax_is_safe_for_large_values():
    got = softmax(np.array([[1e4, 1e4, -1e4]]))
    assert got.tolist() == [[0.5, 0.5, 0]]


def test_same_classes(tmp_path):
    write(tmp_path / "a", [["i1"]])
    write(tmp_path / "b", [["i2"]])
    write(tmp_path / "c", [["i2"]], classes=("x", "y"))
    a, b, c = (Store(tmp_path / name) for name in "abc")
    assert same_classes([a, b]) == ["x", "y", "z"]
    with pytest.raises(ValueError, match=r"differ in their classes \(3 and 2\)"):
        same_classes([a, b, c])


def test_a_digest_tells_scores_from_others_but_not_their_shards(tmp_path):
    for name, parts in {"one": [["i1", "i2", "i3"]], "two": [["i1"], ["i2", "i3"]]}.items():
        write(tmp_path / name, parts)
    write(tmp_path / "other", [["i1", "i2", "i4"]])
    write(tmp_path / "named", [["i1", "i2", "i3"]], classes=("x", "y", "w"))
    digests = {n: Store(tmp_path / n).digest("logits") for n in ("one", "two", "other", "named")}
    assert digests["one"] == digests["two"] and len(digests["one"]) == 64
    assert len(set(digests.values())) == 3
