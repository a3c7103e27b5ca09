"""The augmentation sheet: the strengths it shows, and what its tiles and texts look like."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import simplejpeg
import torch
from PIL import ImageColor
from small_jobs import small_job

from fgvc_utils.core.files import write_json
from fgvc_utils.looking import augment_sheet
from fgvc_utils.looking.augment_sheet import (
    DRAWS,
    HEAD,
    LABEL,
    LINE,
    TILE,
    lines_of,
    sheet,
    sheet_by_ranks,
)
from fgvc_utils.training.changes import CHANGES, MIXES, strengths

RECIPE = {
    "colour_jitter": 0.2, "flip_probability": 0.5, "quality_probability": 0.1,
    "quality_low": 0.4, "quality_high": 0.5, "jpeg_probability": 0.1, "jpeg_low": 30,
    "jpeg_high": 95, "paste_probability": 0.25, "paste_smallest": 0.4, "shuffle_probability": 0.0,
    "shuffle_most": 16,
}  # fmt: skip
ALONE = [
    "Random crop", "Random resized crop", "Shrink and paste", "Tile shuffle", "Colour jitter",
    "RandAugment", "AugMix", "Low resolution", "JPEG", "Erasing",
    "Mirror", "Quarter turn", "CutMix", "Mixup",
]  # fmt: skip
GRADED = 10
PLACE = {name: line for line, name in enumerate(ALONE)}
OFF = ["Random resized crop", "Tile shuffle", "RandAugment", "AugMix", "Erasing", "Quarter turn"]
OFF += ["Mixup"]


def recipe(folder, **changes):
    return small_job(folder, augmentation=RECIPE, mix="cutmix", mix_probability=0.5, **changes)


@pytest.fixture
def photos(tmp_path):
    """A grey ramp from the left to the right with noise on it, and a plain green photo."""
    noise = np.random.default_rng(0).integers(0, 40, (64, 64, 1))
    ramp = np.repeat(np.linspace(0, 210, 64)[None, :, None] + noise, 3, axis=2).astype(np.uint8)
    green = np.full((64, 64, 3), (0, 200, 0), np.uint8)
    files = [tmp_path / "ramp.jpg", tmp_path / "green.jpg"]
    for file, picture in zip(files, (ramp, green), strict=True):
        file.write_bytes(simplejpeg.encode_jpeg(picture, quality=95, colorsubsampling="444"))
    names = [str(file) for file in files]
    return pd.DataFrame({"image_id": names, "file": names})


class Sheet:
    """The parts of a drawn sheet."""

    def __init__(self, image):
        self.size = image.size
        self.pixels = np.asarray(image.convert("RGB"), int)

    def _top(self, line):
        heads = 1 + (line >= GRADED) + (line >= len(ALONE))
        return HEAD * heads + LINE * line

    def tile(self, line, column):
        """A tile, (TILE, TILE, 3); column -1 is the untouched photo."""
        x, y = augment_sheet._x(column), self._top(line) + 22
        return self.pixels[y : y + TILE, x : x + TILE]

    def change(self, line, column):
        """How far a tile is from the untouched one, on average."""
        return np.abs(self.tile(line, column) - self.tile(line, -1)).mean()

    def says_off(self, line):
        """Whether the texts of a line hold the colour of what is off."""
        texts = self.pixels[self._top(line) : self._top(line) + LINE, :LABEL]
        return bool((np.abs(texts - ImageColor.getrgb("#d55e00")).max(axis=2) < 20).any())


def slope(tile):
    """How much brighter the right is than the left, and the bottom than the top."""
    grey = tile.mean(axis=2)
    third = TILE // 3
    across = grey[:, -third:].mean() - grey[:, :third].mean()
    return across, grey[-third:].mean() - grey[:third].mean()


def test_strengths_are_half_own_and_double_within_the_range():
    assert strengths(0.2, 0, 1) == {0: 0.1, 1: 0.2, 2: 0.4}
    assert strengths(0.7, 0, 1) == {0: 0.35, 1: 0.7, 2: 1}
    # What the range makes equal to the own one is no other strength.
    assert strengths(1, 0, 1) == {0: 0.5, 1: 1}
    assert strengths(2, 2, 16) == {1: 2, 2: 4}
    assert strengths(0, 0, 1) == {1: 0}


def test_every_change_has_the_recipes_own_settings_in_the_middle(tmp_path):
    changes = lines_of(recipe(tmp_path))
    assert [change.name for change in changes] == ALONE
    labels = {change.name: [step.label for step in change.steps] for change in changes[:GRADED]}
    assert labels == {
        "Random crop": ["ratio 1.07", "ratio 1.15", "ratio 1.3"],
        "Random resized crop": [f"from {share}% of the area" for share in (68, 35, 5)],
        "Shrink and paste": [f"down to {share}% of a side" for share in (70, 40, 10)],
        # Off, so the usual four tiles and not the recipe's sixteen.
        "Tile shuffle": [f"up to {n} × {n} tiles" for n in (2, 4, 8)],
        "Colour jitter": ["strength 0.1", "strength 0.2", "strength 0.4"],
        "RandAugment": ["magnitude 4", "magnitude 7", "magnitude 14"],
        "AugMix": ["severity 2", "severity 3", "severity 6"],
        "Low resolution": [f"to {span}% of a side" for span in ("80–100", "40–50", "20–25")],
        "JPEG": ["quality 65–98", "quality 30–95", "quality 1–90"],
        "Erasing": [f"up to {share}% of the picture" for share in (16, 33, 66)],
    }
    own = {change.name: change.steps[1].settings for change in changes[:GRADED]}
    assert own["JPEG"] == {"jpeg_probability": 1, "jpeg_low": 30, "jpeg_high": 95}
    assert own["Low resolution"]["quality_low"] == pytest.approx(0.4)
    assert own["RandAugment"] == {"rand_augment_strength": 7, "rand_augment_operations": 2}
    often = {change.name: change.often for change in changes}
    assert often["Shrink and paste"] == "in 25% of the photos"
    assert often["CutMix"] == "in 50% of the batches" and often["Colour jitter"] == "always"
    off = [name for name, text in often.items() if not text]
    assert off == OFF


def test_kinds_of_mixing_that_take_turns_share_the_batches(tmp_path):
    job = small_job(
        tmp_path, mix="cutmix+mixup", mix_probability=0.8, mix_alpha=2.0, mixup_alpha=0.3
    )
    cutmix, mixup = lines_of(job)[-2:]
    assert cutmix.often == mixup.often == "in 40% of the batches"
    assert cutmix.steps[0].settings == {"mix": "cutmix", "mix_alpha": 2.0}
    assert mixup.steps[0].settings == {"mix": "mixup", "mix_alpha": 0.3}
    alone = lines_of(job.model_copy(update={"mix": "mixup"}))[-1]
    assert alone.often == "in 80% of the batches" and alone.steps[0].settings["mix_alpha"] == 2.0


def test_a_recipe_cuts_in_one_of_two_ways(tmp_path):
    resized = small_job(tmp_path, crop_smallest=0.5, crop_stretch=1.2)
    plain, random_size = lines_of(resized)[:2]
    assert not plain.often and random_size.often == "always"
    assert random_size.steps[1].settings == {"crop_smallest": 0.5, "crop_stretch": 1.2}
    centre = lines_of(small_job(tmp_path, random_crop=False))[:2]
    assert not any(line.often for line in centre)


def test_every_change_of_the_registry_is_on_the_sheet_and_says_whether_it_is_on(tmp_path):
    on = {change.switch: 0.5 for change in CHANGES} | {
        name: value for change in CHANGES for name, value in change.usual.items()
    }
    lines = {line.name: line for line in lines_of(small_job(tmp_path, augmentation=on))}
    off = {line.name: line for line in lines_of(small_job(tmp_path))}
    assert len(lines) == 2 + len(CHANGES) + len(MIXES), "two changes have one name"
    for change in CHANGES:
        assert lines[change.name].often and not off[change.name].often
        assert lines[change.name].graded == bool(change.strengths)
        assert {step.place for step in lines[change.name].steps} >= {1}
    for mix in MIXES:
        mixed = {line.name: line for line in lines_of(small_job(tmp_path, mix=mix.kind))}
        assert mixed[mix.name].often and not off[mix.name].often


def test_a_crop_without_margin_shows_what_the_usual_one_would_do(tmp_path):
    crop = lines_of(recipe(tmp_path, train_ratio=1.0))[0]
    assert [(step.place, step.label) for step in crop.steps] == [(1, "ratio 1"), (2, "ratio 1.15")]


def test_each_change_is_seen_alone_and_the_stronger_the_more(tmp_path, photos):
    drawn = Sheet(sheet(recipe(tmp_path), photos))
    # Fourteen changes alone, two photos and a batch with all of them.
    assert drawn.size == (977, 3 * HEAD + 17 * LINE) and drawn.size[0] < 1000
    assert slope(drawn.tile(0, -1))[0] > 80
    for name in ALONE[:GRADED]:
        half, own, double = (drawn.change(PLACE[name], column) for column in (1, 3, 5))
        # The shuffle's tiles get smaller, not the change larger; solarisation is as large anyway.
        if name not in ("Tile shuffle", "RandAugment", "AugMix"):
            assert half < own < double, name
    mirror, turn = PLACE["Mirror"], PLACE["Quarter turn"]
    assert slope(drawn.tile(mirror, 0))[0] < -80
    assert (drawn.tile(mirror, 1) == 255).all(), "there is but one mirror image"
    turned = sorted((drawn.tile(turn, column) for column in range(3)), key=lambda t: slope(t)[1])
    assert slope(turned[0])[1] < -80 and slope(turned[1])[0] < -80 and slope(turned[2])[1] > 80
    assert (drawn.tile(turn, 3) == 255).all()


def test_mixing_goes_from_little_to_much_of_the_second_photo(tmp_path, photos):
    drawn = Sheet(sheet(recipe(tmp_path), photos))
    for line in (PLACE["CutMix"], PLACE["Mixup"]):
        tiles = [drawn.tile(line, column) for column in range(DRAWS)]
        green = [(tile[..., 1] - tile[..., 0]).mean() for tile in tiles]
        change = [drawn.change(line, column) for column in range(DRAWS)]
        assert green[0] < 30 and green[-1] > 60, ALONE[line]
        assert change == sorted(change), ALONE[line]


def test_what_is_off_says_so(tmp_path, photos):
    drawn = Sheet(sheet(recipe(tmp_path), photos))
    off = [name for line, name in enumerate(ALONE) if drawn.says_off(line)]
    assert off == OFF


def test_pixels_are_looked_at_in_full_resolution(tmp_path, photos):
    drawn = Sheet(sheet(recipe(tmp_path, size=256), photos))
    # Of a ramp over 256 px the tile shows its middle, a hundred px wide.
    whole, part = slope(drawn.tile(0, -1))[0], slope(drawn.tile(PLACE["JPEG"], -1))[0]
    assert part == pytest.approx(whole * TILE / 256, abs=12)


def test_one_photo_alone_cannot_be_mixed_and_random_numbers_stay(tmp_path, photos):
    torch.manual_seed(1)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    drawn = Sheet(sheet(recipe(tmp_path), photos.head(1)))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert drawn.size[1] == 3 * HEAD + 15 * LINE
    assert (drawn.tile(PLACE["CutMix"], 0) == 255).all()


def test_rows_without_a_photo_are_refused(tmp_path, photos):
    for rows in (photos.head(0), photos.rename(columns={"file": "path"})):
        with pytest.raises(ValueError, match="rows holds no photo"):
            sheet(recipe(tmp_path), rows)


@pytest.mark.slow
def test_the_ranks_draw_the_same_sheet(photos, tmp_path):
    cfg = SimpleNamespace(
        folder=tmp_path / "run", processes=2, nodes=1, rendezvous="", threads=1, device="cpu",
        workers=0, warm_ranks=True,
    )  # fmt: skip
    drawn = sheet_by_ranks(recipe(tmp_path), photos, cfg, "10_train-mine")
    assert np.array_equal(np.asarray(drawn), np.asarray(sheet(recipe(tmp_path), photos)))
    times = tmp_path / "run" / "launches" / "10_train-mine-sheet" / "times.jsonl"
    sheet_by_ranks(recipe(tmp_path), photos, cfg, "10_train-mine")
    assert len(times.read_text().splitlines()) == 1, "what was drawn is shown again"
    sheet_by_ranks(recipe(tmp_path, size=96), photos, cfg, "10_train-mine")
    assert len(times.read_text().splitlines()) == 2
    with pytest.raises(ValueError, match="no photo to draw"):
        sheet_by_ranks(recipe(tmp_path), photos.head(0), cfg, "10_train-mine")


def test_a_sheet_is_that_of_its_recipe_and_photos_wherever_the_run_lies(tmp_path):
    def request(run, **changes):
        job = recipe(tmp_path / run / "mine", **changes).model_dump(mode="json")
        rows = {"image_id": ["a"], "file": [f"{tmp_path}/{run}/cache/132/ab/cd.jpg"]}
        return {"job": job, "rows": rows, "picture": f"{run}/sheet.png", "code": "x"}

    file = tmp_path / "request.json"
    write_json(request("first"), file)
    same = augment_sheet._same_request
    assert same(file, request("moved"))
    assert not same(file, request("moved", size=96))
    assert not same(file, request("moved") | {"code": "y"})
    other = request("moved")
    other["rows"]["file"] = [f"{tmp_path}/moved/cache/132/ab/ef.jpg"]
    assert not same(file, other)
    write_json({"job": 7}, file)
    assert not same(file, request("first"))
