"""Features are read from their stores in blocks, and are what they would be if read whole."""

import numpy as np
import pytest
import torch

from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store
from fgvc_utils.training.feed import item_seed
from fgvc_utils.training.stored import AllViews, Resident, SideBySide, StoredFeatures

IDS = [f"i{number}" for number in range(30)]
CPU = torch.device("cpu")


@pytest.fixture
def stores(tmp_path):
    """Two stores of unlike width, in two shards and in other orders than the rows."""
    random, made = np.random.default_rng(0), []
    for number, width in enumerate((3, 5)):
        folder = tmp_path / str(number)
        order = random.permutation(IDS).tolist()
        for shard, ids in enumerate((order[:11], order[11:])):
            writer = ShardWriter(folder, shard, ids)
            for kind in ("features", "mirror"):
                writer.write(kind, 0, random.normal(size=(len(ids), width)).astype(np.float16))
            writer.close()
        finish_store(folder, [], 2)
        made.append(Store(folder))
    return made


def whole(stores, kind):
    return np.concatenate([store.read(kind, IDS) for store in stores], axis=1)


def test_rows_are_those_of_the_stores_read_whole(stores):
    features, rows = SideBySide(stores, "features", IDS), np.array([7, 29, 0, 7])
    assert len(features) == 30 and features[rows].dtype == np.float16
    np.testing.assert_array_equal(features[rows], whole(stores, "features")[rows])
    assert features[np.array([], int)].shape == (0, 8)


def test_what_a_store_does_not_hold_is_named_at_once(stores):
    with pytest.raises(KeyError, match="has no row of image 'other'"):
        SideBySide(stores, "features", [*IDS, "other"])
    with pytest.raises(KeyError, match="holds no augmented-0; it holds features, mirror"):
        SideBySide(stores, "augmented-0", IDS)


def test_nothing_is_read_but_the_rows_of_a_block(stores, monkeypatch):
    sizes = []
    read = Store.read_rows

    def counting(store, kind, places):
        sizes.append(len(places))
        return read(store, kind, places)

    monkeypatch.setattr(Store, "read", lambda *_: pytest.fail("read whole"))
    monkeypatch.setattr(Store, "read_rows", counting)
    views = [SideBySide(stores, kind, IDS) for kind in ("features", "mirror")]
    stored = StoredFeatures(views, torch.eye(30), seed=0)
    assert len(list(AllViews(stored, np.arange(30), size=8))) == 8
    stored.__getitems__([(0, row) for row in range(8)])
    assert max(sizes) == 8


def test_blocks_are_those_of_arrays_in_memory(stores):
    kinds = ("features", "mirror")
    from_disk = StoredFeatures([SideBySide(stores, k, IDS) for k in kinds], torch.eye(30), seed=4)
    in_memory = StoredFeatures([whole(stores, kind) for kind in kinds], torch.eye(30), seed=4)
    rows = np.random.default_rng(1).permutation(30)[:21]
    both = [AllViews(each, rows, size=8) for each in (from_disk, in_memory)]
    assert both[0].count == 42 == sum(len(features) for features, _ in both[0])
    for one, other in zip(*both, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert len(from_disk) == len(in_memory) == 30
    for epoch in range(3):
        items = [(epoch, int(row)) for row in rows]
        one, other = from_disk.__getitems__(items), in_memory.__getitems__(items)
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
        # Image by image, as the view is drawn.
        drawn = np.random.default_rng(item_seed(4, epoch, int(rows[0]))).integers(2, size=21)
        views = [whole(stores, kind) for kind in kinds]
        wanted = np.stack([views[view][row] for view, row in zip(drawn, rows, strict=True)])
        np.testing.assert_array_equal(one[0].numpy(), wanted)


@pytest.mark.parametrize(("most", "kept"), [(0, False), (10**6, True), (500, False)])
def test_blocks_stay_on_the_device_where_all_of_them_fit(stores, most, kept):
    stored = StoredFeatures([SideBySide(stores, "features", IDS)], torch.eye(30), seed=0)
    blocks = AllViews(stored, np.arange(30), size=8)
    there = Resident(blocks, CPU, most)
    passes = [list(there) for _ in range(3)]
    for blocks_again in passes:
        for one, other in zip(blocks_again, blocks, strict=True):
            assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert there.count == 30 and (passes[1][0][0] is passes[2][0][0]) is kept


@pytest.mark.parametrize(("most", "calls"), [(10**6, 4), (500, 12)])
def test_what_is_kept_is_prepared_once(stores, most, calls):
    stored, seen = StoredFeatures([SideBySide(stores, "features", IDS)], torch.eye(30), seed=0), []

    def double(features):
        seen.append(len(features))
        return 2 * features

    blocks = AllViews(stored, np.arange(30), size=8)
    there = Resident(blocks, CPU, most, prepare=double)
    for _ in range(3):
        for one, other in zip(there, blocks, strict=True):
            assert torch.equal(one[0], 2 * other[0])
    assert len(seen) == calls


def test_a_cpu_keeps_little_beside_the_files(stores):
    stored = StoredFeatures([SideBySide(stores, "features", IDS)], torch.eye(30), seed=0)
    assert Resident(AllViews(stored, np.arange(30)), Processes().device).most_bytes < 10**9


def test_stored_features_draw_a_view_of_the_right_image():
    one = np.arange(20, dtype=np.float32)[:, None]
    stored = StoredFeatures([one, one + 100], torch.eye(20), seed=0)
    items = [(0, row) for row in (7, 3, 3, 11, 12, 13, 14, 15, 16, 17)]
    features, targets = stored.__getitems__(items)
    assert (features[:, 0] % 100).tolist() == [row for _, row in items]
    assert set((features[:, 0] // 100).tolist()) == {0.0, 1.0}
    assert targets.argmax(dim=1).tolist() == [row for _, row in items]
