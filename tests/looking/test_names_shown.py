"""Wherever a class is shown it has its name; what is stored keeps the class itself."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from PIL import Image

from fgvc_utils.contest.journal import Journal
from fgvc_utils.looking import candidates, class_names, gallery, levels, mistakes, plots, reviewers
from fgvc_utils.looking.review import Review

NAMES = {"0007": "Rosa canina", "0012": "Tulipa sylvestris"}


@pytest.fixture(autouse=True)
def names():
    class_names.show_as(NAMES)
    yield
    class_names.show_as({})


@pytest.fixture
def table(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    return pd.DataFrame(
        {
            "image_id": ["a", "b", "c"],
            "path": ["a.jpg"] * 3,
            "split": ["train", "train", "train"],
            "given": ["0007", "0012", "0012"],
            "label": ["0007", "0012", "0012"],
            "status": ["keep", "keep", "drop"],
            "stage": ["", "", "02_coarse"],
            "group": ["a", "b", "b"],
            "suggested": ["0012", "", ""],
        }
    )


@pytest.fixture
def inventory(table, tmp_path):
    return pd.DataFrame({"image_id": table["image_id"], "file": str(tmp_path / "a.jpg")})


def shown(table, inventory, **more):
    return candidates.of_images(table, inventory, pd.Series(0.5, table["image_id"]), "p", **more)


def test_captions_have_names_and_the_journal_has_classes(table, inventory, tmp_path):
    rows = shown(table, inventory, given=True)
    assert rows["caption"].tolist()[:2] == ["Rosa canina\np 0.50", "Tulipa sylvestris\np 0.50"]
    checked = candidates.check_candidates(rows)
    under = candidates.under_photo(*checked.loc[0, ["caption", "label", "suggestions"]])
    assert under.suggested == "→ Tulipa sylvestris"
    journal = Journal(tmp_path / "j.csv")
    review = Review(rows, journal, ["keep", "relabel"], reviewer="ann", classes=list(NAMES))
    review.decide([0], "relabel", suggestion=1)
    assert journal.latest().loc["a", "label"] == "0012"
    assert review.standing(0).label == "0012"
    assert review.shown_standing(0).label == "Tulipa sylvestris"
    # What followed is told apart by classes, so a disputed one is said by name.
    other = Review(rows, journal, ["keep", "relabel"], reviewer="bob", classes=list(NAMES))
    other.decide([0], "keep")
    assert "relabel → Tulipa sylvestris" in other.shown_standing(0).disputed
    assert reviewers.disputes(journal).loc["a", "ann"] == "relabel → Tulipa sylvestris"


def test_a_class_is_found_by_name_and_by_itself(table, inventory, tmp_path):
    rows = shown(table, inventory)
    review = Review(rows, Journal(tmp_path / "j.csv"), ["relabel"], classes=list(NAMES))
    assert review.search("tulipa") == review.search("syl") == review.search("0012") == ["0012"]
    assert review.arranged(text="sylvestris") == [0, 1, 2]
    assert review.arranged(text="canina") == [0]


def test_the_browser_gets_names_and_sends_classes(table, inventory, tmp_path):
    made = gallery.Gallery(
        shown(table, inventory),
        Journal(tmp_path / "j.csv"),
        {"k": "keep"},
        title="?",
        classes=list(NAMES),
        exemplars={},
    )
    beside = made._answers._beside([], made.review.candidates.iloc[0])
    assert beside["given"]["label"] == "0007"
    assert beside["given"]["name"] == "Rosa canina (0007)"
    assert beside["suggestions"][0]["name"] == "Tulipa sylvestris (0012)"
    assert made._answers._found([], "rosa")["found"][0]["label"] == "0007"


def test_the_scripts_show_names():
    assert "shown.given.name" in gallery.Grid._esm and '"fgvc-name", one.name' in gallery.Grid._esm


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_sheets_of_copies_classes_and_findings(table, inventory):
    listed = pd.DataFrame({"image_id": ["a", "b"], "group": ["g", "g"]})
    copies = candidates.of_copies(table, inventory, listed)
    assert copies["caption"].tolist() == ["Rosa canina | Tulipa sylvestris"]
    judged = pd.DataFrame({"images": [1], "agreement": [0.5]}, index=["0007"])
    classes = candidates.of_classes(table, inventory, judged)
    assert classes["item"].tolist() == ["0007"]
    assert classes["caption"].iloc[0].startswith("Rosa canina\n")


def test_plots(table):
    assert "Tulipa sylvestris: 2" in texts(plots.class_sizes(table, "t"))
    assert "Tulipa sylvestris" in texts(plots.class_losses(table, "02_coarse", "t"))
    low = pd.DataFrame({"images": [3], "agreement": [0.0]}, index=["0007"])
    assert "Rosa canina: 3" in texts(plots.agreement(low, 0.1, "t"))
    zeros = np.zeros(2, int)
    assert "Rosa canina: 2" in texts(plots.assigned(zeros, zeros, 0, list(NAMES)))
    said = pd.DataFrame([[0.1, 0.9]], index=["a"], columns=list(NAMES))
    figure = plots.sisters(mistakes.sisters(said, ["0007"]), "t")
    assert "Rosa canina" in texts(figure) and "0012" not in texts(figure)
    worst = mistakes.to_show(mistakes.worst(said, ["0007"]), pd.Series({"a": "a.jpg"}))
    assert worst["caption"].iloc[0] == "Rosa canina 0.10\n→ Tulipa sylvestris 0.90"


def test_tables_to_show():
    pairs = pd.DataFrame({"class": ["0007"], "sister": ["0012"], "n": [3], "other": [None]})
    found = class_names.in_names(pairs)
    assert found.iloc[0].tolist()[:3] == ["Rosa canina", "Tulipa sylvestris", 3]
    assert pairs["class"].tolist() == ["0007"]
    by_pair = pd.DataFrame({"given": ["0007"], "label": ["0012"], "n": 1}).groupby(
        ["given", "label"]
    )
    assert class_names.in_names(by_pair.sum()).index.tolist() == [tuple(NAMES.values())]
    class_names.show_as({})
    assert class_names.in_names(pairs) is pairs


def test_a_run_without_names_is_shown_as_it_is(tmp_path):
    class_names.use_names(SimpleNamespace(folder=tmp_path))
    assert class_names.name_of("0007") == class_names.with_class("0007") == "0007"
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/classes.csv").write_text("class,name,genus\n0007,dog rose,Rosa\n")
    class_names.use_names(SimpleNamespace(folder=tmp_path))
    assert class_names.with_class("0007") == "dog rose (0007)"


# Levels.


@pytest.fixture
def cfg(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/classes.csv").write_text(
        "class,name,family,genus\n0,a,F,G\n1,b,F,G\n2,c,F,H\n3,d,E,\n"
    )
    return SimpleNamespace(folder=tmp_path, report=tmp_path / "report.json")


def test_groups_from_narrow_to_wide(cfg):
    groups = levels.groups_of(levels.known_names(cfg), ["0", "1", "2", "3", "new"])
    assert list(groups) == ["genus", "family"]
    assert groups["genus"].tolist() == ["G", "G", "H", "d", "new"]


def test_top1_at_each_level(cfg):
    groups = levels.groups_of(levels.known_names(cfg), ["0", "1", "2", "3"])
    answers, truth = np.array([0, 1, 2, 3, 0]), np.array([0, 0, 0, 0, -1])
    table = levels.level_scores(answers, truth, groups)
    assert table["top1"].to_dict() == {"class": 0.2, "genus": 0.4, "family": 0.6}
    assert table["groups"].to_dict() == {"class": 4, "genus": 3, "family": 2}
    # Of four wrong answers one is of the genus, two of the family.
    assert table["within"].tolist()[1:] == [0.25, 0.5]
    assert (table["low"] < table["top1"]).all() and (table["n"] == 5).all()


def test_a_group_may_have_more_than_its_likeliest_class(cfg):
    said = pd.DataFrame([[0.3, 0.3, 0.0, 0.4]], index=["x"], columns=["0", "1", "2", "3"])
    [table] = levels.of_model(cfg, "one", said, ["1"])
    assert table["top1"].tolist() == [0, 0, 0]
    assert table["top1 by sums"].tolist() == [0, 1, 1]
    answers = pd.DataFrame({"mean": [1], "vote": [0]}, index=["x"])
    alone = pd.DataFrame({"one": [3]}, index=["x"])
    of_vote, wide = levels.of_ways(
        cfg,
        SimpleNamespace(answers=answers),
        SimpleNamespace(answers=alone),
        ["0", "1", "2", "3"],
        pd.Series({"x": "1"}),
    )
    assert of_vote.index.name == "vote" and of_vote["top1"].tolist() == [0, 1, 1]
    assert wide.loc["mean"].tolist() == [1, 1, 1] and wide.loc["one"].tolist() == [0, 0, 0]
    report = levels.read_json(cfg.report)["levels"]
    assert report == {
        **{f"one {level}": 0.0 for level in ("class", "genus", "family")},
        **{"vote class": 0.0, "vote genus": 1.0, "vote family": 1.0},
    }


def test_without_groups_or_images_nothing_is_shown(cfg):
    nobody = pd.DataFrame(columns=["0", "1"], dtype=float)
    assert levels.of_model(cfg, "one", nobody, []) == []
    (cfg.folder / "tables/classes.csv").unlink()
    said = pd.DataFrame([[0.3, 0.7]], index=["x"], columns=["0", "1"])
    assert levels.of_model(cfg, "one", said, ["1"]) == []
    assert not cfg.report.exists()
