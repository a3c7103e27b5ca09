"""What galleries show, made of tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fgvc_utils.contest import tables
from fgvc_utils.looking import candidates
from fgvc_utils.looking.review import check_candidates


@pytest.fixture
def table():
    listed = pd.DataFrame(
        {
            "image_id": list("abcde"),
            "path": [f"train/x/{name}.jpg" for name in "abcde"],
            "split": ["train"] * 4 + ["test"],
            "given": ["rose", "rose", "lily", "lily", ""],
        }
    ).astype(object)
    made = tables.new_table(listed)
    made.loc["b", "label"] = "lily"
    made.loc["c", "suggested"] = "rose"
    return made


@pytest.fixture
def inventory():
    return pd.DataFrame({"image_id": list("abcde"), "file": [f"/cache/{n}.jpg" for n in "abcde"]})


def test_images_come_in_the_order_of_their_scores(table, inventory):
    scores = pd.Series({"c": 0.25, "b": 0.5, "a": np.nan})
    shown = candidates.of_images(table, inventory, scores, "p", limit=2)
    assert shown["item"].tolist() == ["c", "b"]
    assert shown["image"].tolist() == ["/cache/c.jpg", "/cache/b.jpg"]
    assert shown["caption"].tolist() == ["lily\np 0.25", "lily\np 0.50"]
    assert shown["suggested"].tolist() == ["rose", ""]
    given = candidates.of_images(table, inventory, scores, "p", given=True)
    assert given["caption"].tolist() == ["lily\np 0.25", "rose\np 0.50", "rose"]
    assert given["label"].tolist() == ["lily", "rose", "rose"]
    check_candidates(given)


def test_a_review_shows_raw_photos_and_suggestions_and_notes_the_rule(table, inventory):
    shown = candidates.of_images(
        table,
        inventory,
        pd.Series({"b": 0.5, "c": 0.25}),
        "p",
        given=True,
        raw=Path("/raw"),
        suggestions={"b": [("lily", 0.5), ("rose", 0.25)]},
        verdict=pd.Series({"b": "drop"}),
    )
    assert shown["full"].tolist() == [Path("/raw/train/x/b.jpg"), Path("/raw/train/x/c.jpg")]
    assert shown["suggestions"].tolist() == [[("lily", 0.5), ("rose", 0.25)], []]
    assert shown["shown"].tolist() == [
        "drop: rose  p 0.50 → lily 0.50, rose 0.25",
        ": lily  p 0.25",
    ]
    assert check_candidates(shown)["suggested"].tolist() == ["lily", ""]


def test_exemplars_are_the_surest_of_those_kept_as_they_came(table, inventory):
    surest = pd.Series({"a": 0.4, "b": 0.9, "c": 0.6, "d": 0.7, "e": 1.0})
    found = candidates.exemplars(table, inventory, surest)
    assert found == {"rose": ["/cache/a.jpg"], "lily": ["/cache/d.jpg", "/cache/c.jpg"]}
    dropped = tables.leave_out(table, table["image_id"] == "a", "03_fine", "label")
    found = candidates.exemplars(dropped, inventory, surest, count=1)
    assert found == {"lily": ["/cache/d.jpg"]}


def test_classes_a_row(table, inventory):
    judged = pd.DataFrame({"images": [2, 2], "agreement": [0.1, 0.5]}, index=["lily", "rose"])
    rows = candidates.of_classes(table[table["split"] == "train"], inventory, judged)
    assert rows["item"].tolist() == ["lily", "rose"]
    assert rows["image"].tolist() == [
        ["/cache/c.jpg", "/cache/d.jpg"],
        ["/cache/a.jpg", "/cache/b.jpg"],
    ]
    assert rows["caption"].tolist()[0] == "lily\n2 images, agreement 0.10"
    check_candidates(rows)


def test_groups_of_copies_a_row(table, inventory):
    listed = pd.DataFrame({"image_id": ["a", "c", "e"], "group": ["g", "g", "g"]})
    rows = candidates.of_copies(table, inventory, listed)
    assert rows["image"].tolist() == [["/cache/a.jpg", "/cache/c.jpg", "/cache/e.jpg"]]
    assert rows["caption"].tolist() == ["rose | lily | test"]
