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


def finding(**values):
    usual = {"item": "i", "kind": "one", "name": "rose", "other": "lily", "images": 2}
    return usual | {"other_images": 2, "why": "alike", "part": []} | values


def test_a_finding_is_a_row_of_both_sides(table, inventory):
    found = pd.DataFrame([finding(), finding(item="j", kind="swapped", name="lily", other="rose")])
    shown = candidates.of_findings(table, inventory, found, each_side=1)
    assert shown["image"].tolist() == [["/cache/a.jpg", "/cache/c.jpg"]] + [
        ["/cache/c.jpg", "/cache/a.jpg"]
    ]
    assert shown["caption"][0] == "one: rose (2, 1 shown) | lily (2, 1 shown)\nalike"
    assert shown["suggestions"].tolist() == [[], []]
    check_candidates(shown)


def test_a_class_that_is_two_is_a_row_of_what_stays_and_of_the_part(table, inventory):
    """Of the images in force: b came as a rose and stands as a lily."""
    row = finding(kind="two", name="lily", other="rose", part=["d"])
    shown = candidates.of_findings(table, inventory, pd.DataFrame([row]))
    assert shown["image"][0] == ["/cache/b.jpg", "/cache/c.jpg", "/cache/d.jpg"]
    assert shown["caption"][0].startswith("two: lily (2, 2 shown) | a part of it (1, 1 shown)")
    assert check_candidates(shown)["suggested"].tolist() == ["rose"]


def test_rows_of_no_class_and_no_finding_have_numbers_to_sort_by(table, inventory):
    none = candidates.of_findings(table, inventory, pd.DataFrame([finding()])[:0])
    judged = pd.DataFrame({"images": [], "agreement": []})
    for shown in (none, candidates.of_classes(table, inventory, judged)):
        assert shown.empty and pd.api.types.is_numeric_dtype(shown["images"])
