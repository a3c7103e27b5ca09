"""The order of images does not depend on how a batch is cut up."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_jobs import WHOLE

from fgvc_utils.contest.decoded import Decoded, decode_once
from fgvc_utils.training import augment, feed
from fgvc_utils.training.balance import oversample
from fgvc_utils.training.feed import GlobalBatches, InTurn, Pictures, item_seed


def steps_of(rows, micro, accumulate, processes, epoch=0):
    """The micro-batches of each optimiser step, over all processes, as sorted tuples."""
    ranks = []
    for rank in range(processes):
        batches = GlobalBatches(rows, micro, accumulate, processes, rank, seed=5)
        batches.epoch = epoch
        own = [tuple(row for _, row in batch) for batch in batches]
        assert len(own) == len(batches) == batches.steps * accumulate
        ranks.append(own)
    count = len(ranks[0]) // accumulate
    return [
        sorted(b for own in ranks for b in own[s * accumulate : (s + 1) * accumulate])
        for s in range(count)
    ]


@pytest.mark.parametrize(("accumulate", "processes"), [(2, 2), (1, 4)])
def test_any_split_sees_the_same_micro_batches(accumulate, processes):
    rows = np.arange(100, 150)
    one = steps_of(rows, 3, 4, 1, epoch=2)
    assert len(one) == 4 and one == steps_of(rows, 3, accumulate, processes, epoch=2)
    seen = [row for step in one for batch in step for row in batch]
    assert len(set(seen)) == len(seen) == 48 and set(seen) <= set(rows.tolist())


def test_epochs_differ_and_all_rows_come_in_the_end():
    rows = np.arange(50)
    epochs = [steps_of(rows, 3, 4, 1, epoch=epoch) for epoch in range(6)]
    assert epochs[0] != epochs[1]
    assert {row for e in epochs for s in e for b in s for row in b} == set(range(50))


def test_oversampled_rows_come_as_often_as_they_stand():
    rows = oversample(np.repeat([0, 1], [30, 2]), 1 / 3, seed=0)
    seen = [row for step in steps_of(rows, 4, 1, 2) for batch in step for row in batch]
    assert len(rows) == 40 and Counter(seen) == Counter(rows.tolist())


def test_two_processes_share_an_epoch_of_oversampled_rows_in_equal_parts():
    rows = oversample(np.repeat([0, 1, 2], [30, 7, 2]), 1 / 2, seed=0)
    assert len(rows) == 60  # three steps of 16, and 12 rows left to the other epochs
    for epoch in range(3):
        shares = []
        for rank in range(2):
            batches = GlobalBatches(rows, 4, 2, 2, rank, seed=5)
            batches.epoch = epoch
            assert batches.steps == 3 and [len(batch) for batch in batches] == [4] * 6
            shares.append(Counter(row for batch in batches for _, row in batch))
        # A row may come once for each time it stands, whichever process gets it.
        both = shares[0] + shares[1]
        assert both.total() == 48 and both <= Counter(rows.tolist())
        alone = steps_of(rows, 4, 4, 1, epoch)
        assert both == Counter(row for step in alone for batch in step for row in batch)


def test_in_turn():
    batches = list(InTurn(np.array([5, 3, 9]), 2, epoch=4))
    assert batches == [[(4, 5), (4, 3)], [(4, 9)]] and len(InTurn(np.arange(5), 2)) == 3


def test_seeds_differ_by_image_and_epoch():
    seeds = {item_seed(0, epoch, row) for epoch in range(10) for row in range(100)}
    assert len(seeds) == 1000 and min(seeds) >= 0


@pytest.fixture
def files(tmp_path):
    random = np.random.default_rng(0)
    for number in range(4):
        array = random.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(array).save(tmp_path / f"{number}.jpg")
    return [str(tmp_path / f"{number}.jpg") for number in range(4)]


def test_a_picture_is_the_same_in_any_batch_and_another_in_the_next_epoch(files):
    pictures = Pictures(files, torch.eye(4), augment.train_view(12, 1.3), seed=1)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    batch, targets = pictures.__getitems__([(0, 2), (0, 0)])
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers stay"
    assert batch.shape == (2, 3, 12, 12) and batch.dtype == torch.uint8
    assert torch.equal(targets, torch.eye(4)[[2, 0]])
    alone, _ = pictures.__getitems__([(0, 0)])
    assert torch.equal(alone[0], batch[1])
    later = [pictures.__getitems__([(epoch, 0)])[0] for epoch in range(1, 5)]
    assert any(not torch.equal(other, alone) for other in later)


def changed(files, mix="none", **more):
    """Pictures with the whole recipe."""
    changes = feed.Changes(augment.random_changes(WHOLE), 1, mix, 1.0)
    view = augment.train_view(12, 1.3)
    return Pictures(files, torch.eye(4), view, 1, changes, **more)


def test_a_mixed_batch_mixes_its_targets(files):
    pictures = changed(files, "mixup")
    batch, targets = pictures.__getitems__([(0, row) for row in range(4)])
    again, _ = pictures.__getitems__([(0, row) for row in range(4)])
    assert batch.dtype == torch.uint8 and torch.equal(batch, again)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
    assert not torch.equal(targets, torch.eye(4))


@pytest.mark.parametrize("mix", ["none", "cutmix", "mixup"])
def test_changes_made_later_are_those_that_a_worker_makes(files, mix):
    items = [(3, row) for row in range(4)]
    now, now_targets = changed(files, mix).__getitems__(items)
    later = changed(files, mix, changes_later=True)
    plain, keyed, plain_targets = later.__getitems__(items)
    assert not torch.equal(plain, now), "nothing was changed"
    kept = plain.clone()
    after, targets = later.changes.of_batch(plain, plain_targets, keyed.tolist())
    assert torch.equal(plain, kept), "the batch itself must not change"
    assert torch.equal(after, now) and torch.equal(targets, now_targets)


def test_the_draws_of_an_image_follow_its_id_wherever_it_stands(files):
    ids = ["a.jpg", "0012", "b", "c"]
    keys = feed.image_keys(ids)
    assert len(set(keys)) == 4 and keys.dtype == np.int64 and (keys >= 0).all()
    there = changed(files, keys=keys)
    turned = changed(files[::-1], keys=feed.image_keys(ids[::-1]))
    one, _ = there.__getitems__([(0, 1)])
    other, _ = turned.__getitems__([(0, 2)])
    assert torch.equal(one, other)


def test_epochs_repeat_the_views_that_teachers_have_seen(files):
    class Word(torch.nn.Module):
        def of_view(self, rows, kind):
            return torch.full((len(rows), 4), float(kind.removeprefix("view-")))

    pictures = dataclasses.replace(changed(files), views=2, targets=Word())
    batches = [pictures.__getitems__([(epoch, 0), (epoch, 1)]) for epoch in range(4)]
    assert torch.equal(batches[0][0], batches[2][0]) and torch.equal(batches[1][0], batches[3][0])
    assert not torch.equal(batches[0][0], batches[1][0])
    assert [targets[0, 0].item() for _, targets in batches] == [0, 1, 0, 1]


@pytest.fixture
def reader(files, tmp_path):
    """The same pictures, decoded at the side that `changed` cuts from."""
    return Decoded(decode_once(files, tmp_path, round(12 * 1.3)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mix", ["none", "cutmix"])
def test_decoded_pictures_give_what_the_jpegs_give_but_for_rounding(files, reader, mix):
    items = [(3, 1), (3, 0), (3, 2)]
    view = augment.train_view(12, 1.3)
    plain, _ = Pictures(files, torch.eye(4), view, 1).__getitems__(items)
    read, _ = Pictures(files, torch.eye(4), view, 1, decoded=reader).__getitems__(items)
    assert (read.int() - plain.int()).abs().max() <= 1
    batch, targets = changed(files, mix, decoded=reader).__getitems__(items)
    wanted, wanted_targets = changed(files, mix).__getitems__(items)
    assert (batch.int() - wanted.int()).abs().float().mean() < 1
    assert torch.equal(targets, wanted_targets)


def test_no_jpeg_is_read_where_pictures_are_decoded_and_the_batch_is_a_copy(files, reader):
    pictures = Pictures(files, torch.eye(4), augment.test_view(12, 1.3), 1, decoded=reader)
    batch, _ = pictures.__getitems__([(0, 0), (0, 1)])
    for file in files:
        Path(file).unlink()
    kept = batch.clone()
    batch.zero_()
    assert torch.equal(pictures.__getitems__([(0, 0), (0, 1)])[0], kept)


def test_a_picture_that_is_not_decoded_is_read_from_its_jpeg(files, reader, tmp_path):
    late = tmp_path / "late.jpg"
    Image.new("RGB", (20, 20), (9, 99, 199)).save(late)
    pictures = Pictures([str(late), files[0]], None, augment.test_view(12, 1.3), 1, decoded=reader)
    assert pictures.picture(0, 0).float().mean(dim=(1, 2)).tolist() == pytest.approx(
        [9, 99, 199], abs=3
    )


def test_a_batch_lies_in_memory_as_the_network_takes_it(files):
    for pictures in (changed(files), changed(files, "cutmix", changes_later=True)):
        batch = pictures.__getitems__([(0, 0), (0, 1)])[0]
        assert batch.shape == (2, 3, 12, 12)
        assert batch.is_contiguous(memory_format=torch.channels_last)
