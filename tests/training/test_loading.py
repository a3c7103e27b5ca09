"""Batches come over whole and in order, the wait for them is measured, results lag by one."""

import numpy as np
import pytest
import torch
from small_jobs import WHOLE
from torch.utils.data import Dataset

from fgvc_utils.core import shared_memory
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.training import augment, loading
from fgvc_utils.training.feed import Changes, InTurn, Pictures
from fgvc_utils.training.loading import Fetched, OnDevice, loader, one_behind

CPU = torch.device("cpu")


class Clock:
    """A clock that stands until somebody works."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Slow(Dataset):
    """Batches of numbers that take their time."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds

    def __getitems__(self, items: list) -> tuple[torch.Tensor, torch.Tensor]:
        self.clock.now += self.seconds
        rows = torch.tensor([row for _, row in items])
        return rows, rows + 100


def test_batches_come_in_order_and_the_wait_is_the_loaders_alone(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("fgvc_utils.training.loading.time", clock)
    batches = OnDevice(loader(Slow(clock, 0.25), InTurn(np.arange(10), 4), Processes()), CPU)
    seen = []
    for pictures, targets in batches:
        clock.now += 4
        seen += list(zip(pictures.tolist(), targets.tolist(), strict=True))
    assert seen == [(row, row + 100) for row in range(10)] and len(batches) == 3
    assert batches.waited == 3 * 0.25
    assert len(list(batches)) == 3 and batches.waited == 6 * 0.25


def test_changes_are_made_to_the_batch_by_its_keys():
    changes = Changes(augment.random_changes(WHOLE), 3, "mixup", 1.0)
    pictures = torch.randint(0, 256, (4, 3, 24, 24), dtype=torch.uint8)
    keyed, targets = torch.tensor([[2, key] for key in range(4)]), torch.eye(4)
    (found,) = OnDevice([(pictures, keyed, targets)], CPU, changes)
    wanted = changes(list(pictures), targets, keyed.tolist())
    assert all(torch.equal(*each) for each in zip(found, wanted, strict=True))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_no_more_workers_start_than_there_are_batches(monkeypatch):
    monkeypatch.setattr(shared_memory, "suffices", lambda *_: True)
    monkeypatch.setattr(loading, "_batch_bytes", lambda *_: 0)
    pictures = Pictures([], None, None, 0)
    for images, count in ((300, 5), (65, 2), (3, 1)):
        loaded = loader(pictures, InTurn(np.arange(images), 64), Processes(workers=15))
        assert loaded.num_workers == count
    assert loader(pictures, InTurn(np.arange(9), 2), Processes()).num_workers == 0
    assert (
        loader(Slow(Clock(), 0), InTurn(np.arange(900), 2), Processes(workers=15)).num_workers == 0
    )
    assert loader(pictures, InTurn(np.arange(0), 64), Processes(workers=15)).num_workers == 0


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_each_item_is_given_after_the_next_was_begun(count):
    begun, given = [], []

    def items():
        for number in range(count):
            begun.append(number)
            yield number

    for number in one_behind(items()):
        given.append(number)
        assert begun[-1] == min(number + 1, count - 1)
    assert given == list(range(count))


def test_what_is_fetched_is_what_was_computed():
    values = torch.randn(5, 3)
    fetched = Fetched({"a": values, "b": values.half()})
    arrays = fetched.arrays()
    assert torch.equal(fetched.tensors()["a"], values)
    np.testing.assert_array_equal(arrays["a"], values.numpy())
    assert arrays["b"].dtype == np.float16


def test_half_floats_are_rounded_as_numpy_rounds_them():
    random = np.random.default_rng(0)
    # Any bits: large and tiny numbers, those halfway between two half floats, and infinities.
    values = random.integers(0, 2**32, 2_000_000, dtype=np.uint32).view(np.float32)
    halfway = (np.arange(4096, dtype=np.uint32) << 12 | 0x38000000).view(np.float32)
    values = np.concatenate([values[~np.isnan(values)], halfway, [-1e4, 65519, 65520, np.inf]])
    with np.errstate(over="ignore"):
        wanted = values.astype(np.float32).astype(np.float16)
    found = torch.from_numpy(values.astype(np.float32)).half().numpy()
    np.testing.assert_array_equal(found.view(np.uint16), wanted.view(np.uint16))
