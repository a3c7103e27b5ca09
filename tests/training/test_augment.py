"""Each random change does what its name says."""

import numpy as np
import pytest
import torch
from small_jobs import WHOLE
from torchvision.transforms import v2

from fgvc_utils.training import augment
from fgvc_utils.training.augment import (
    GridShuffle,
    LossyJpeg,
    QuarterTurn,
    RandomErasing,
    RandomQuality,
    ScaledPaste,
    random_changes,
)
from fgvc_utils.training.changes import CHANGES
from fgvc_utils.training.policies import AugMix, RandAugment

# Each change alone, its switch first, always made.
ALONE = [{change.switch: 1.0} | change.usual for change in CHANGES]


@pytest.fixture
def picture():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 24, 24), dtype=np.uint8))


def distinct(size):
    """A picture in which every pixel differs from every other."""
    count = torch.arange(size * size).reshape(size, size)
    return torch.stack([count % 256, count // 256, count * 0]).to(torch.uint8)


def name(settings):
    return next(iter(settings))


def test_to_tensor_shares_the_memory():
    array = np.zeros((4, 5, 3), np.uint8)
    tensor = augment.to_tensor(array)
    array[1, 2, 0] = 9
    assert tensor.shape == (3, 4, 5) and tensor[0, 1, 2] == 9


def test_the_test_view_keeps_the_aspect_and_the_centre():
    # Horizontal position as grey: its slope after the view tells the scale along x.
    ramp = torch.arange(200, dtype=torch.float32).expand(3, 100, 200)
    view = augment.test_view(80, 1.35)(ramp)
    assert view.shape == (3, 80, 80)
    # 100 px high becomes 108, so a pixel is 100 / 108 of a raw one along both sides.
    slope = (view[0, 40, -1] - view[0, 40, 0]) / 79
    assert slope.item() == pytest.approx(100 / 108, rel=1e-3)
    assert view[0, 40].mean().item() == pytest.approx(99.5, abs=0.5)
    upright = augment.test_view(80, 1.35)(ramp.transpose(1, 2))
    torch.testing.assert_close(upright, view.transpose(1, 2))


def test_the_train_view_crops_at_random():
    picture = distinct(60)
    torch.manual_seed(0)
    view = augment.train_view(40, 1.15)
    views = [view(picture) for _ in range(4)]
    assert all(v.shape == (3, 40, 40) and v.dtype == torch.uint8 for v in views)
    assert any(not torch.equal(views[0], other) for other in views[1:])


@pytest.mark.parametrize("settings", ALONE, ids=name)
def test_size_and_type_stay_and_the_same_seed_gives_the_same(settings, picture):
    change = random_changes(settings)
    before = picture.clone()
    outs = []
    for seed in (7, 7, 1, 2, 3):
        torch.manual_seed(seed)
        outs.append(change(picture))
    assert all(out.shape == picture.shape and out.dtype == torch.uint8 for out in outs)
    assert torch.equal(outs[0], outs[1])
    assert any(not torch.equal(out, picture) for out in outs), "nothing changed"
    assert torch.equal(picture, before), "the picture itself must not change"


@pytest.mark.parametrize("settings", ALONE, ids=name)
def test_a_change_at_zero_is_off(settings, picture):
    assert torch.equal(random_changes({**settings, name(settings): 0})(picture), picture)


@pytest.mark.parametrize("settings", [*ALONE, WHOLE], ids=name)
@pytest.mark.parametrize("side", [24, 33])
def test_a_batch_is_changed_as_its_pictures_are_one_by_one(settings, side):
    change, random = random_changes(settings), np.random.default_rng(side)
    batch = torch.from_numpy(random.integers(0, 256, (24, 3, side, side), dtype=np.uint8))
    for memory in (torch.contiguous_format, torch.channels_last):
        pictures = batch.contiguous(memory_format=memory)
        one_by_one, drawn = [], []
        for number, picture in enumerate(pictures):
            torch.manual_seed(number)
            one_by_one.append(change(picture))
            torch.manual_seed(number)
            drawn.append(change.draw(side, side))
        found = change.apply_to_batch(pictures, drawn)
        assert torch.equal(pictures, batch), "the batch itself must not change"
        apart = (found.int() - torch.stack(one_by_one).int()).abs()
        # Sums of colours may be rounded the other way; all else is copied.
        assert apart.max() <= (1 if settings.get("colour_jitter") else 0)
        assert (apart > 0).float().mean() < 1e-4 and not torch.equal(found, batch)


def test_a_change_with_a_probability_is_made_in_that_share_of_a_batch():
    change, left = random_changes({"flip_probability": 0.25}), torch.zeros(400, 3, 2, 2).byte()
    left[..., 0] = 9
    torch.manual_seed(0)
    found = change.apply_to_batch(left, [change.draw(2, 2) for _ in left])
    assert 0.18 < (found[:, 0, 0, 1] == 9).float().mean() < 0.32


def test_the_flip_is_a_mirror(picture):
    assert torch.equal(random_changes({"flip_probability": 1.0})(picture), picture.flip(-1))


def test_quarter_turns_invert_and_all_three_come(picture):
    torch.manual_seed(0)
    seen = set()
    for _ in range(60):
        out = QuarterTurn()(picture)
        back = [k for k in range(4) if torch.equal(torch.rot90(out, -k, dims=(1, 2)), picture)]
        assert len(back) == 1
        seen.add(back[0])
    assert seen == {1, 2, 3}


@pytest.mark.parametrize("size", [24, 26])
def test_grid_shuffle_is_a_permutation_of_tiles(size):
    torch.manual_seed(1)
    picture = distinct(size)
    out, side = GridShuffle(2)(picture), size // 2
    cuts = [slice(0, side), slice(side, 2 * side)]
    places = [(rows, columns) for rows in cuts for columns in cuts]
    before, after = ([i[:, r, c].numpy().tobytes() for r, c in places] for i in (picture, out))
    assert sorted(after) == sorted(before)
    assert torch.equal(out[:, 2 * side :], picture[:, 2 * side :])
    # Whatever n is drawn, no pixel is lost and none appears twice.
    for _ in range(20):
        out = GridShuffle(4)(picture)
        code = out[0].int() + 256 * out[1].int()
        assert torch.equal(code.flatten().sort().values, torch.arange(size * size).int())


def test_scaled_paste_shows_the_whole_picture_smaller_on_grey():
    white = torch.full((3, 50, 40), 255, dtype=torch.uint8)
    torch.manual_seed(0)
    shares = []
    for _ in range(40):
        out = ScaledPaste(0.4)(white)
        assert set(out.unique().tolist()) <= {128, 255}
        rows, columns = (out[0] == 255).any(dim=1), (out[0] == 255).any(dim=0)
        assert (out[0] == 255).sum() == rows.sum() * columns.sum(), "a rectangle"
        shares.append(rows.sum().item() / 50)
        assert abs(rows.sum().item() / 50 - columns.sum().item() / 40) < 0.03
    assert 0.38 <= min(shares) < 0.6 < max(shares) <= 1


def test_random_quality_loses_detail(picture):
    torch.manual_seed(0)
    out = RandomQuality(0.3, 0.3)(picture).float()
    assert out.diff(dim=2).abs().mean() < picture.float().diff(dim=2).abs().mean() / 3


def test_a_larger_alpha_mixes_more_evenly():
    pictures, targets = torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.eye(2)
    torch.manual_seed(0)
    far = {}
    for alpha in (0.2, 8.0):
        mixed = [augment.mix_batch(pictures, targets, "mixup", 1.0, alpha)[1] for _ in range(200)]
        far[alpha] = (torch.stack(mixed)[:, 0, 0] - 0.5).abs().mean().item()
    assert far[8.0] < 0.2 < 0.3 < far[0.2]


def test_a_lossy_jpeg_differs_more_the_lower_its_quality(picture):
    smooth = torch.arange(64, dtype=torch.uint8).mul(3).expand(3, 64, 64).contiguous()
    noisy = (smooth + picture[:, :1, :1]).contiguous()
    torch.manual_seed(0)
    losses = [
        (LossyJpeg(quality, quality)(noisy).float() - noisy.float()).abs().mean().item()
        for quality in (95, 30, 5)
    ]
    assert losses[0] < losses[1] < losses[2]


def test_without_the_random_crop_the_centre_is_taken():
    picture = distinct(60)
    torch.manual_seed(0)
    views = [augment.train_view(60, 1.0, random_crop)(picture) for random_crop in (True, False)]
    assert torch.equal(views[0], views[1]) and torch.equal(views[0], picture)
    centre = augment.train_view(40, 1.5, random_crop=False)
    assert all(torch.equal(centre(picture), picture[:, 10:50, 10:50]) for _ in range(3))


def test_crops_of_a_random_size_keep_to_their_bounds():
    # Position as grey: the range that a crop holds tells its sides.
    across = torch.arange(200, dtype=torch.float32).expand(100, 200)
    picture = torch.stack([across, across.new_tensor(range(100))[:, None].expand(100, 200), across])
    view = augment.train_view(50, 2.0, smallest=0.25, stretch=1.5)
    torch.manual_seed(0)
    areas, shapes = [], []
    for _ in range(60):
        crop = view(picture)
        assert crop.shape == (3, 50, 50)
        width = (crop[0, 0, -1] - crop[0, 0, 0]).item() * 50 / 49
        height = (crop[1, -1, 0] - crop[1, 0, 0]).item() * 50 / 49
        areas.append(width * height / 20_000)
        shapes.append(width / height)
    assert 0.22 < min(areas) < 0.35 and 0.6 < max(areas) <= 1.02
    assert 1 / 1.6 < min(shapes) < 0.8 and 1.25 < max(shapes) < 2.1


def test_the_plain_crop_is_drawn_as_before_where_no_size_is():
    picture, drawn = distinct(60), []
    for arguments in ((), (True, 0.0, 3.0)):
        torch.manual_seed(5)
        drawn.append(augment.train_view(40, 1.15, *arguments)(picture))
    assert torch.equal(*drawn)


@pytest.mark.parametrize(
    ("ours", "torchvisions"),
    [
        (RandAugment(9, 3), v2.RandAugment(3, 9, interpolation="bilinear", fill=[128] * 3)),
        (AugMix(5), v2.AugMix(5, interpolation="bilinear", fill=[128] * 3)),
    ],
    ids=["RandAugment", "AugMix"],
)
def test_a_policy_is_torchvisions_with_a_seed_for_each_picture(ours, torchvisions, picture):
    for seed in range(8):
        torch.manual_seed(seed)
        drawn = ours.draw(24, 24)
        after = torch.random.get_rng_state()
        found = ours.apply(picture, drawn)
        assert torch.equal(torch.random.get_rng_state(), after), "nothing is drawn with the pixels"
        torch.manual_seed(drawn)
        assert torch.equal(found, torchvisions(picture))


def test_a_stronger_policy_changes_more(picture):
    def change_of(policy):
        torch.manual_seed(0)
        return sum((policy(picture).int() - picture.int()).abs().sum() for _ in range(15))

    assert change_of(RandAugment(2, 1)) < change_of(RandAugment(20, 1))
    assert change_of(RandAugment(9, 1)) < change_of(RandAugment(9, 4))
    assert change_of(AugMix(1)) < change_of(AugMix(10))


def test_erasing_covers_one_rectangle_of_at_most_the_share():
    white = torch.full((3, 60, 40), 255, dtype=torch.uint8)
    torch.manual_seed(0)
    shares = []
    for _ in range(60):
        out = RandomErasing(0.3)(white)
        assert set(out.unique().tolist()) == {128, 255}
        rows, columns = (out[0] == 128).any(dim=1), (out[0] == 128).any(dim=0)
        assert (out[0] == 128).sum() == rows.sum() * columns.sum(), "a rectangle"
        shares.append((out[0] == 128).float().mean().item())
    assert 0.015 < min(shares) < 0.08 and 0.2 < max(shares) <= 0.31


def test_cutmix_and_mixup_take_turns_each_with_its_own_alpha():
    # Mixed with black by Mixup white is grey everywhere, by CutMix it is white or black.
    pictures = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 32, 32)
    torch.manual_seed(0)
    cut, blended = [], []
    for _ in range(150):
        mixed, labels = augment.mix_batch(
            pictures.contiguous(), torch.eye(2), "cutmix+mixup", 1.0, 50.0, 0.05
        )
        greys = set(mixed.unique().tolist())
        even = (labels[0, 0] - 0.5).abs().item()
        (cut if greys <= {0, 255} and 0.01 < labels[0, 0] < 0.99 else blended).append(even)
    assert 50 < len(cut) < 100
    assert np.mean(cut) < 0.25 and np.mean(blended) > 0.4


@pytest.mark.parametrize("kind", ["cutmix", "mixup", "cutmix+mixup"])
def test_pictures_and_targets_are_mixed_in_the_same_proportion(kind):
    # Image k is grey of 60 k, its target is class k: a mean of grey tells the shares.
    grey = 60 * torch.arange(4, dtype=torch.uint8)
    pictures = grey.reshape(4, 1, 1, 1).expand(4, 3, 32, 32).contiguous()
    targets = torch.eye(4)
    torch.manual_seed(3)
    changed = 0
    for _ in range(10):
        mixed, labels = augment.mix_batch(pictures, targets, kind, 1.0)
        torch.testing.assert_close(labels.sum(dim=1), torch.ones(4))
        assert mixed.dtype == torch.uint8
        expected = labels @ grey.float()
        torch.testing.assert_close(mixed.float().mean(dim=(1, 2, 3)), expected, atol=0.51, rtol=0)
        changed += not torch.equal(labels, targets)
    assert changed > 5


@pytest.mark.parametrize(("kind", "probability"), [("none", 1.0), ("cutmix", 0.0)])
def test_no_mix_changes_nothing(kind, probability):
    pictures, targets = torch.rand(4, 3, 8, 8), torch.eye(4)
    mixed, labels = augment.mix_batch(pictures, targets, kind, probability)
    assert mixed is pictures and labels is targets


def test_a_strip_is_cut_before_it_is_enlarged_and_other_pictures_stay_as_they_were():
    strip = torch.zeros((3, 1, 30_000), dtype=torch.uint8)
    strip[:, :, 14_990:15_010] = 255
    resized = augment.resize(64, augment.PLAIN)(strip)
    assert resized.shape == (3, 64, 64 * 30)
    assert augment.test_view(56, 1.15)(strip).min() == 255
    assert augment.train_view(56, 1.15)(strip).shape == (3, 56, 56)
    picture = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8)
    assert augment.middle_of(picture) is picture
