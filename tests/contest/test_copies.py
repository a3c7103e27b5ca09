"""Copies of pictures: what joins its source, what stays apart, the search beside brute force."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter, ImageOps
from scipy.sparse.csgraph import connected_components

from fgvc_utils.contest import copies


def photo(seed, side=(160, 120)):
    """A picture whose changes are the weaker the finer they are, as in photos."""
    random = np.random.default_rng(seed)
    total = np.full((side[1], side[0], 3), 128.0)
    for octave, strength in enumerate((110, 55, 27, 13, 6)):
        cells = random.uniform(-1, 1, (3 * 2**octave, 4 * 2**octave, 3)).astype(np.float32)
        planes = [Image.fromarray(plane).resize(side, 3) for plane in np.moveaxis(cells, 2, 0)]
        total += strength * np.stack([np.asarray(plane) for plane in planes], axis=2)
    return Image.fromarray(np.uint8(np.clip(total, 0, 255)))


def re_encoded(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=40)
    return Image.open(buffer).convert("RGB")


CHANGES = {
    "re-encoded": re_encoded,
    "half as large": lambda p: p.resize((p.width // 2, p.height // 2)),
    "mirrored": ImageOps.mirror,
    "mirrored and re-encoded": lambda p: re_encoded(ImageOps.mirror(p)),
    "cropped": lambda p: p.crop((1, 1, p.width - 2, p.height - 1)),
    "grey": lambda p: p.convert("L").convert("RGB"),
    "blurred": lambda p: p.filter(ImageFilter.GaussianBlur(1.5)),
}


def taken(pictures):
    rows = [copies.hashes(picture) for picture in pictures]
    return pd.DataFrame(rows).assign(image_id=[f"i{n:03d}" for n in range(len(rows))])


@pytest.mark.parametrize("name", CHANGES)
def test_a_copy_joins_its_source_and_no_other(name):
    sources = [photo(seed) for seed in range(30)]
    changed = [CHANGES[name](picture) for picture in sources]
    group = copies.groups(taken(sources + changed), 8)
    assert (group[30:].to_numpy() == group[:30].to_numpy()).mean() > 0.9
    assert group[:30].nunique() == 30


def test_other_pictures_stay_apart():
    assert copies.groups(taken([photo(seed) for seed in range(300)]), 8).nunique() == 300


def test_the_same_drawing_in_another_colour_is_another_picture():
    one = photo(1)
    red, green, blue = one.split()
    other = Image.merge("RGB", (ImageOps.invert(blue), green, red))
    assert copies.groups(taken([one, other]), 16).nunique() == 2


def test_unreadable_images_and_no_images_at_all():
    rows = taken([photo(0), photo(0)])
    broken = pd.DataFrame([dict.fromkeys(rows.columns, "") | {"image_id": f"b{n}"} for n in "01"])
    group = copies.groups(pd.concat([broken, rows], ignore_index=True), 6)
    assert group.tolist() == ["b0", "b1", "i000", "i000"]
    assert copies.groups(broken, 6).tolist() == ["b0", "b1"]


def test_thousands_of_white_pictures_are_one_group():
    white = copies.hashes(Image.new("RGB", (64, 64), "white"))
    rows = pd.DataFrame([white] * 5000).assign(image_id=[str(n) for n in range(5000)])
    assert set(copies.groups(rows, 6)) == {"0"}


@pytest.mark.parametrize("distance", [0, 1, 4, 7, 16])
def test_the_search_finds_what_brute_force_finds(distance):
    random = np.random.default_rng(distance)
    codes = random.integers(0, 2**63, 120, dtype=np.uint64)
    flips = [
        sum(1 << int(bit) for bit in random.choice(64, int(random.integers(0, 18)), replace=False))
        for _ in range(120)
    ]
    plain = np.concatenate([codes, codes ^ np.array(flips, dtype=np.uint64)])
    mirrored = random.integers(0, 2**63, 240, dtype=np.uint64)
    mirrored[:20] = plain[100:120]
    frame = pd.DataFrame(
        {
            "image_id": [str(n) for n in range(240)],
            "look": [f"{code:016x}" for code in plain],
            "look_mirrored": [f"{code:016x}" for code in mirrored],
            "colours": "40" * 48,
        }
    )
    straight = np.bitwise_count(plain[:, None] ^ plain[None]) <= distance
    turned = np.bitwise_count(plain[:, None] ^ mirrored[None]) <= distance
    _, expected = connected_components(straight | turned, directed=False)
    got = copies.groups(frame, distance)
    assert (pd.factorize(got)[0] == pd.factorize(expected)[0]).all()


TABLE = pd.DataFrame(
    {
        "image_id": [*"abcdef"],
        "path": [*"abcdef"],
        "split": ["train"] * 4 + ["test"] * 2,
        "given": ["x", "y", "z", "z", "", ""],
        "group": ["a", "a", "c", "c", "c", "f"],
    }
)


def test_conflicts_are_copies_under_two_labels():
    assert copies.conflicts(TABLE)["image_id"].tolist() == ["a", "b"]


def test_copies_across_train_and_test_are_listed():
    assert copies.across(TABLE)["image_id"].tolist() == ["c", "d", "e"]


def test_one_picture_in_thousands_of_forms_is_joined_without_comparing_all():
    random = np.random.default_rng(0)
    codes = np.full(2000, random.integers(0, 2**63, dtype=np.uint64))
    for _ in range(2):
        codes = codes ^ (np.uint64(1) << random.integers(0, 63, 2000).astype(np.uint64))
    others = random.integers(0, 2**63, 300, dtype=np.uint64)
    rows = pd.DataFrame(
        {
            "image_id": [f"{n:04d}" for n in range(2300)],
            "look": [f"{code:016x}" for code in [*codes, *others]],
            "look_mirrored": [f"{code ^ np.uint64(2**40 - 1):016x}" for code in [*codes, *others]],
            "colours": [
                random.integers(90, 96, 48, dtype=np.uint8).tobytes().hex() for _ in range(2300)
            ],
        }
    )
    group = copies.groups(rows, 8)
    assert set(group[:2000]) == {"0000"} and group[2000:].nunique() == 300
