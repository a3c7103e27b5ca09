"""Copies under many labels are no evidence; those of which most agree stay as they are."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from fgvc_utils.cleaning import contradictions, noise, rules
from fgvc_utils.contest import copies, tables
from fgvc_utils.looking import candidates

CLASSES = [f"class {number:02d}" for number in range(12)]


def error_picture(side=(240, 180)):
    picture = Image.new("RGB", (240, 180), "#dddddd")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((80, 30, 160, 90), outline="#999999", width=3)
    pen.text((50, 110), "This photo is no longer available", fill="#777777")
    return picture.resize(side)


def label_table(groups, others=20):
    """A table with groups of copies, name → their labels, beside images of every class."""
    rows = [(f"{g}{n}", g, label) for g, labels in groups.items() for n, label in enumerate(labels)]
    rows += [(f"o{n:03d}", f"o{n:03d}", CLASSES[n % 12]) for n in range(12 * others)]
    ids, group, given = zip(*rows, strict=True)
    listed = pd.DataFrame({"image_id": ids, "path": ids, "split": "train", "given": given})
    table = tables.new_table(listed.astype(object))
    table["group"] = pd.Series(group, table.index, dtype=object)
    return table


def found_in(groups, least=0.5, **more):
    table = label_table(groups, **more)
    found = contradictions.contested(table, table["split"] == "train", least)
    return found["out"].to_dict()


def test_a_group_under_many_labels_is_out_and_one_with_a_stray_is_not():
    assert found_in(
        {
            "error": CLASSES * 3,
            "mostly": [CLASSES[0]] * 9 + [CLASSES[1]],
            "pair": CLASSES[:2],
            "sisters": CLASSES[:2] * 5,
            "triple": CLASSES[:3],
            "photo": [CLASSES[4]] * 7 + CLASSES[:2],
            "agreed": [CLASSES[3]] * 5,
        }
    ) == {
        "error": True,
        "triple": True,
        "sisters": False,
        "pair": False,
        "photo": False,
        "mostly": False,
    }


def test_nothing_is_out_where_it_is_switched_off():
    assert found_in({"error": CLASSES * 3}, least=0.0) == {"error": False}


def test_a_label_that_most_images_have_is_no_agreement():
    table = label_table({"error": [CLASSES[0]] * 57 + CLASSES[1:4], "one": [CLASSES[0]] * 9})
    table.loc[table["group"].str.startswith("o") & (table["group"] != "one"), "given"] = CLASSES[0]
    table.loc[table.index[-12:], "given"] = CLASSES
    found = contradictions.contested(table, table["split"] == "train", 0.5)
    assert found["out"].to_dict() == {"error": True}
    assert found.loc["error", ["copies", "labels", "mostly"]].tolist() == [60, 4, CLASSES[0]]


def test_of_two_classes_both_are_many():
    table = label_table({"error": CLASSES[:2] * 5, "pair": CLASSES[:2]})
    table["given"] = table["given"].where(table["given"] == CLASSES[0], CLASSES[1])
    found = contradictions.contested(table, table["split"] == "train", 0.5)
    assert found["out"].to_dict() == {"error": True, "pair": False}


@pytest.fixture
def drawn(tmp_path):
    """A table whose first group is an error picture, stored in many ways, and one other photo."""
    table = label_table({"error": CLASSES + CLASSES[:1]}, others=2)
    picture = error_picture()
    for number, item in enumerate(table["image_id"]):
        file = tmp_path / f"{item}.jpg"
        if item.startswith("error"):
            changed = picture.resize((240 - 6 * number, 180)).convert("L" if number % 2 else "RGB")
            changed.save(file, quality=60 + 3 * number)
        else:
            Image.effect_mandelbrot((60, 60), (-2, -1, 1, 1), 9).save(file)
    photo = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)
    Image.fromarray(photo).resize((240, 180)).save(tmp_path / "error12.jpg")
    files = [str(tmp_path / f"{item}.jpg") for item in table["image_id"]]
    inventory = pd.DataFrame({"image_id": table["image_id"], "file": files}, table.index)
    return table, inventory


def test_copies_without_evidence_are_left_out_with_their_reason(drawn):
    table, inventory = drawn
    train = table["split"] == "train"
    after, found = contradictions.leave_out(table, inventory, train, 0.5, "01_noise")
    tables.check_table(after, "after")
    out = after[after["status"] == "drop"]
    # Another photo that the hashes had joined to them stays.
    assert out["image_id"].tolist() == [f"error{number}" for number in range(12)]
    assert set(out["cause"]) == {"copies"} and set(out["by"]) == {"rule"}
    assert out["reason"].iloc[0] == "copies: 12 of one picture under 12 labels, 8% agree"
    assert "12 of them, in 1 groups, are left out" in contradictions.in_words(found)
    rows = candidates.check_candidates(
        candidates.of_contested(after, inventory, found[found["out"]], Path("/raw"))
    )
    assert rows["item"].tolist() == ["error0"]
    assert rows["caption"].tolist() == ["12 copies, 12 labels\n8% agree"]
    listed = contradictions.ordered(copies.conflicts(after), found)
    shown = candidates.of_copies(after, inventory, listed)
    assert shown["caption"].iloc[0].startswith("15% agree: class 00 (2) | class 01 | ")


def test_one_picture_everywhere_is_said_at_once(drawn):
    table, inventory = drawn
    table["group"] = "error0"
    with pytest.raises(ValueError, match="37 train images .* show one picture, such as 'error0"):
        contradictions.leave_out(table, inventory, table["split"] == "train", 0.5, "01_noise")


def test_blank_pictures_are_one_and_differing_ones_are_not(tmp_path):
    for number in range(6):
        Image.new("RGB", (50 + number, 40), "white").save(tmp_path / f"{number}.jpg")
    error_picture().save(tmp_path / "6.jpg")
    Image.new("RGB", (50, 40), "black").save(tmp_path / "7.jpg")
    same = contradictions.one_picture([str(tmp_path / f"{number}.jpg") for number in range(8)])
    assert same.tolist() == [True] * 6 + [False] * 2


def test_a_mirrored_copy_is_the_same_picture(tmp_path):
    picture = error_picture().rotate(8)
    for number in range(5):
        turned = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if number % 2 else picture
        turned.save(tmp_path / f"{number}.png")
    assert contradictions.one_picture([str(tmp_path / f"{n}.png") for n in range(5)]).all()


@pytest.mark.parametrize(
    ("odd", "images", "proposes"), [(0, 300, False), (19, 300, False), (30, 300, True),
                                    (150, 300, False), (300, 300, False)],
)  # fmt: skip
def test_the_odd_are_proposed_from_only_where_they_are_few(odd, images, proposes):
    marked = pd.Series(np.arange(images) < odd)
    bootstrap, says = rules.bootstrap_set(marked, 20, 0.25)
    assert says == proposes
    assert bootstrap.equals(marked) if proposes else bootstrap.all()


def test_flags_are_judged_by_images_that_were_not_proposed():
    flagged = pd.Series([True] * 10 + [False] * 90)
    agreement = pd.Series([0.0] * 5 + [0.7] * 5 + [0.8] * 90)
    picks = pd.Series(["noise"] * 5 + [""] * 85 + ["normal"] * 10)
    assert rules.confirm_noise(flagged, agreement, 0.5).sum() == 10
    assert not rules.confirm_noise(flagged, agreement, 0.5, picks).any()
    agreement[5:10] = 0.1
    assert rules.confirm_noise(flagged, agreement, 0.5, picks).sum() == 10
    # Nothing was flagged but what had been proposed.
    assert not rules.confirm_noise(flagged & (picks == "noise"), agreement, 0.5, picks).any()


def test_picks_of_copies_that_were_left_out_count():
    decided = pd.Series({"a": "noise", "z": "noise", "y": "confirm", "test": "normal"})
    picks = noise.hand_picks(decided, pd.Index(["a", "b"]), pd.Index(["x", "y", "z"]))
    assert picks.to_dict() == {"a": "noise", "b": "", "z": "noise"}
