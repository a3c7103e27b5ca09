"""Which classes are confused, and which wrong answers are the surest: known answers."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fgvc_utils.looking import mistakes
from fgvc_utils.looking.sheets import contact_sheet

CLASSES = ["ant", "bee", "cat", "dog", "elk"]


def answers(*said: tuple[str, str, float]) -> tuple[pd.DataFrame, pd.Series]:
    """Probabilities and labels of images by (label, predicted, probability of the predicted)."""
    table = pd.DataFrame(0.0, [f"{n:02d}" for n in range(len(said))], CLASSES)
    for image, (label, predicted, probability) in zip(table.index, said, strict=True):
        table.loc[image, label] = 1 - probability
        table.loc[image, predicted] = probability
    # The labels' own index says nothing: they go by the order of the rows.
    return table, pd.Series([label for label, *_ in said], [9] * len(said))


SAID = answers(
    ("ant", "ant", 0.9),
    ("ant", "bee", 0.8),
    ("bee", "ant", 0.7),
    ("bee", "ant", 0.6),
    ("cat", "dog", 0.95),
    ("cat", "cat", 0.85),
    ("cat", "cat", 0.99),
    ("dog", "dog", 0.55),
    ("elk", "elk", 0.6),
    ("elk", "ant", 0.65),
)


def test_pairs_count_both_ways_and_say_which_is_taken_for_which():
    pairs = mistakes.confused_pairs(*SAID)
    assert pairs.to_dict("records")[0] == {
        "class": "bee",
        "sister": "ant",
        "mistakes": 3,
        "share": 3 / 4,
        "class_as_sister": 2,
        "sister_as_class": 1,
        "images_of_class": 2,
        "images_of_sister": 2,
    }
    # One mistake each: the larger share comes first, equal ones by name.
    assert pairs[["class", "sister"]].values.tolist()[1:] == [["cat", "dog"], ["elk", "ant"]]
    assert len(mistakes.confused_pairs(*SAID, most=1)) == 1


def test_a_network_without_mistakes_has_no_pairs_and_no_sisters():
    right = answers(("ant", "ant", 0.9), ("bee", "bee", 0.9))
    assert mistakes.confused_pairs(*right).empty
    assert mistakes.worst(*right).empty
    assert mistakes.sisters(*right).shape == (0, 1)
    nothing = SAID[0].iloc[:0], SAID[1].iloc[:0]
    assert mistakes.confused_pairs(*nothing).empty and mistakes.worst(*nothing).empty


def test_the_matrix_has_the_classes_of_the_pairs_and_counts_the_rest_as_others():
    counts = mistakes.sisters(*SAID, most=2)
    assert set(counts.index) == {"ant", "bee", "cat", "dog"}
    assert counts.columns.tolist() == [*counts.index, mistakes.OTHERS]
    assert counts.loc["bee", "ant"] == 2 and counts.loc["cat", "cat"] == 2
    assert counts.loc["cat"].sum() == 3
    # Elk is not shown; a mistake that leads to it is one of others.
    led_away = answers(*[("ant", "bee", 0.9)] * 2, ("ant", "elk", 0.9))
    assert mistakes.sisters(*led_away, most=1).loc["ant"].to_dict() == {
        "ant": 0,
        "bee": 2,
        mistakes.OTHERS: 1,
    }


def test_sisters_stand_side_by_side_also_where_their_names_are_apart():
    said = [("ant", "dog", 0.9)] * 6 + [("bee", "elk", 0.9)] * 5 + [("cat", "ant", 0.9)]
    order = mistakes.sisters(*answers(*said)).index.tolist()
    assert abs(order.index("ant") - order.index("dog")) == 1
    assert abs(order.index("bee") - order.index("elk")) == 1


def test_the_worst_are_the_surest_wrong_answers():
    found = mistakes.worst(*SAID, most=2)
    assert found["image_id"].tolist() == ["04", "01"]
    assert found["label"].tolist() == ["cat", "ant"]
    assert found["predicted"].tolist() == ["dog", "bee"]
    assert found["probability_of_predicted"].tolist() == [0.95, 0.8]
    assert found["probability_of_label"].tolist() == pytest.approx([0.05, 0.2])


def test_wrong_labels_are_named():
    probabilities, labels = SAID
    with pytest.raises(ValueError, match="labels has 9 entries and probabilities 10 rows"):
        mistakes.worst(probabilities, labels[1:])
    with pytest.raises(ValueError, match="label 'elk' is no column"):
        mistakes.confused_pairs(probabilities.drop(columns="elk"), labels)


def test_a_typical_image_is_the_surest_right_one():
    assert mistakes.typical(*SAID).to_dict() == {"ant": "00", "cat": "06", "dog": "07", "elk": "08"}


def test_the_sheet_shows_the_photo_and_beside_it_an_example_of_the_predicted_class(tmp_path):
    probabilities, labels = SAID
    files = pd.Series({image: str(tmp_path / f"{image}.png") for image in probabilities.index})
    for grey, file in enumerate(files):
        Image.new("RGB", (96, 96), (grey * 20,) * 3).save(file)
    found = mistakes.worst(probabilities, labels, most=3)
    shown = mistakes.to_show(found, files, mistakes.typical(probabilities, labels))
    # Dog has a right image, bee has none, ant's is the first.
    assert [[file[-6:-4] for file in images] for images in shown["image"]] == [
        ["04", "07"],
        ["01"],
        ["02", "00"],
    ]
    assert shown["caption"][0] == "cat 0.05\n→ dog 0.95"
    sheet = np.asarray(contact_sheet(shown, columns=2, across=2).convert("L"), int)
    assert sheet.shape == (26 + 2 * 136, 2 * (2 * 104 + 16))
    middles = [sheet[26 + 52, x + 52] for x in (0, 104, 224, 328)]
    assert middles == pytest.approx([80, 140, 20, 255], abs=4)
    assert sheet[26 + 136 + 52, 52] == pytest.approx(40, abs=4)


def test_without_examples_a_mistake_is_its_photo_alone():
    found = mistakes.worst(*SAID, most=1)
    assert mistakes.to_show(found, pd.Series({"04": "/c/04.jpg"}))["image"][0] == ["/c/04.jpg"]


def test_sizes_are_binned_by_doubling_and_their_images_counted_together():
    sizes = pd.Series({"ant": 1, "bee": 2, "cat": 3, "dog": 4, "elk": 0})
    accuracy = pd.Series({"ant": 1.0, "bee": 0.5, "cat": 0.25, "dog": 0.0, "elk": 0.0})
    images = pd.Series({"ant": 1, "bee": 2, "cat": 8, "dog": 0, "elk": 3})
    binned = mistakes.by_size(sizes, accuracy, images)
    assert binned[["smallest", "largest", "classes", "n"]].values.tolist() == [
        [1, 1, 1, 1],
        [2, 3, 2, 10],
    ]
    assert binned["accuracy"].tolist() == [1, 0.3]
    # Wilson's interval of 3 in 10.
    assert binned.loc[1, ["low", "high"]].tolist() == pytest.approx([0.1078, 0.6032], abs=5e-4)
