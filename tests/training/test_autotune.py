"""cuDNN tries its ways only where that pays, and is left as it was found."""

import pytest
import torch

from fgvc_utils.training import autotune
from fgvc_utils.training.autotune import EARNED_BACK, pays, shapes_of


def test_a_trial_pays_from_so_many_batches_of_each_shape_on():
    assert not pays(0) and not pays(EARNED_BACK - 1) and pays(EARNED_BACK)
    assert not pays(EARNED_BACK, shapes=2) and pays(2 * EARNED_BACK, shapes=2)
    # The original: 550,000 images in batches of 25, 30 epochs; and the same seen once in 64s.
    assert pays(30 * 550_000 // 25) and not pays(550_000 // 64, shapes_of(550_000, 64))


@pytest.mark.parametrize(
    ("images", "batch", "shapes"),
    [(0, 64, 0), (10, 64, 1), (64, 64, 1), (128, 64, 1), (130, 64, 2)],
)
def test_a_last_batch_that_is_smaller_is_a_shape_of_its_own(images, batch, shapes):
    assert shapes_of(images, batch) == shapes


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("on", [True, False])
def test_it_is_switched_for_a_block_and_back_also_after_an_error(monkeypatch, before, on):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    with autotune.autotune(on):
        assert torch.backends.cudnn.benchmark is on
    assert torch.backends.cudnn.benchmark is before
    with pytest.raises(KeyError), autotune.autotune(on):
        raise KeyError
    assert torch.backends.cudnn.benchmark is before
