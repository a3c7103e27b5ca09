"""A reviewer's work without a screen: decisions, undo and redo, order, search, progress."""

import pandas as pd
import pytest
from small_candidates import photos

from fgvc_utils.contest.following import Copies
from fgvc_utils.contest.journal import Journal
from fgvc_utils.looking import review as review_module
from fgvc_utils.looking.candidates import check_candidates, under_photo
from fgvc_utils.looking.review import Review, Standing

CHOICES = ["keep", "drop", "relabel"]


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "decisions" / "03_fine.csv")


@pytest.fixture
def candidates(tmp_path):
    table = photos(tmp_path).drop(columns="suggested")
    table["label"] = ["rosa", "lilium", "rosa", "viola", "lilium", "rosa", "viola"]
    table["sure"] = [0.5, 0.9, 0.1, 0.7, 0.3, 0.2, 0.8]
    table["suggestions"] = [[("0012", 0.6), ("0007", 0.3)], [], *[[("0007", 0.9)]] * 5]
    return table


def make(candidates, journal, **options):
    return Review(candidates, journal, CHOICES, **{"reviewer": "ann", **options})


def standing(review):
    return {
        item: review.standing(place)[:2]
        for item, place in review.position.items()
        if review.is_decided(place)
    }


def test_a_selection_is_one_action_of_several_lines(candidates, journal):
    review = make(candidates, journal)
    review.decide([0, 2, 3], "drop")
    review.decide([5], "keep")
    assert journal.read()["item"].tolist() == ["0000", "0002", "0003", "0005"]
    assert review.undo() == [5]
    assert review.undo() == [0, 2, 3]
    assert standing(review) == {} and journal.latest().empty
    assert review.redo() == [0, 2, 3]
    assert review.redo() == [5]
    with pytest.raises(ValueError, match="nothing to redo"):
        review.redo()
    assert standing(review) == dict.fromkeys(["0000", "0002", "0003"], ("drop", "")) | {
        "0005": ("keep", "")
    }
    review.undo()
    review.decide([6], "drop")
    with pytest.raises(ValueError, match="nothing to redo"):
        review.redo()
    # Nothing was ever taken out of the journal.
    assert len(journal.read()) == 4 + 4 + 4 + 1 + 1


def test_each_takes_its_own_suggestion(candidates, journal):
    review = make(candidates, journal)
    review.decide([0, 2], "relabel", suggestion=1)
    assert standing(review) == {"0000": ("relabel", "0012"), "0002": ("relabel", "0007")}
    review.decide([0], "relabel", suggestion=2)
    assert review.standing(0).label == "0007"
    assert journal.read()["shown"].iloc[0] == "rose · p 0.0 → 0012, → 0007"
    for places, number, named in [([0, 2], 2, "'0002' has no suggestion 2"), ([1], 1, "'0001'")]:
        before = len(journal.read())
        with pytest.raises(ValueError, match=named):
            review.decide(places, "relabel", suggestion=number)
        assert len(journal.read()) == before


def test_only_known_classes_and_places_and_decisions(candidates, journal):
    review = make(candidates, journal, classes=["rosa", "viola", "0007"])
    review.decide([1], "relabel", label="viola")
    for places, decision, label in [
        ([1], "relabel", "Viola"),
        ([0], "relabel", ""),  # its suggestion is no class
        ([7], "keep", ""),
        ([-1], "keep", ""),
        ([], "keep", ""),
        ([0], "maybe", ""),
    ]:
        with pytest.raises(ValueError):
            review.decide(places, decision, label)
    assert journal.read()["item"].tolist() == ["0001"]


def test_two_reviewers_see_each_other_and_replace_nothing(candidates, journal):
    ann, bob = make(candidates, journal), make(candidates, journal, reviewer="bob")
    ann.decide([0, 1], "keep")
    bob.decide([1, 2], "drop")
    assert ann.changes() == [0, 1, 2] and ann.changes() == []
    assert bob.changes() == [0, 1, 2]
    assert ann.standing(1)[:2] == ("keep", "") and bob.standing(1)[:2] == ("drop", "")
    assert ann.standing(1).disputed == "ann: keep, bob: drop"
    assert ann.arranged(show="disputed") == [1]
    assert ann.arranged(show="not yet by me") == [2, 3, 4, 5, 6]
    assert ann.arranged(show="undecided") == [3, 4, 5, 6]
    ann.undo()
    assert journal.latest()["decision"].to_dict() == {"0001": "drop", "0002": "drop"}
    assert bob.changes() == [0, 1]
    assert bob.standing(0) == Standing() and bob.standing(1).disputed == ""


def test_work_goes_on_after_a_new_start(candidates, journal):
    make(candidates, journal).decide([0, 1, 3], "keep")
    journal.append("of another set", "drop")
    again = make(candidates, journal)
    assert again.decided == 3 and again.left == 4
    assert again.next_undecided(again.arranged(), 0) == 2
    assert again.next_undecided(again.arranged(), 3) == 4
    with pytest.raises(ValueError, match="nothing was decided"):
        again.undo()


def test_arrangements(candidates, journal):
    review = make(candidates, journal, sorts={"certainty": "sure"})
    assert review.sorts == ["order", "certainty", "class", "disputes first"]
    assert review.arranged("certainty") == [2, 5, 4, 0, 3, 6, 1]
    assert review.arranged("certainty", descending=True) == [1, 6, 3, 0, 4, 5, 2]
    assert review.arranged("class") == [1, 4, 0, 2, 5, 3, 6]
    assert review.arranged(text="VIOLA") == [3, 6]
    assert review.arranged("certainty", text="0012") == [0]
    # The second suggestion of the first one, the only one of the others that have any.
    assert review.arranged(text="0007") == [0, 2, 3, 4, 5, 6]
    review.decide([1, 3], "drop")
    assert review.arranged("class", show="undecided") == [4, 0, 2, 5, 6]
    assert review.arranged(show="drop") == [1, 3] and review.arranged(show="keep") == []
    assert review.arranged("certainty", show="decided") == [3, 1]
    for wrong in ({"sort": "beauty"}, {"show": "everything"}):
        with pytest.raises(ValueError, match="one of"):
            review.arranged(**wrong)
    for sorts in ({"x": "nope"}, {"x": "caption"}, {"order": "sure"}):
        with pytest.raises(ValueError, match="sorts"):
            make(candidates, journal, sorts=sorts)


def test_the_end_of_an_arrangement(candidates, journal):
    review = make(candidates, journal)
    review.decide(range(7), "keep")
    assert review.next_undecided(review.arranged(), 4) == 4
    assert review.next_undecided([], 0) == 0
    assert review.next_undecided([2, 3], 9) == 1


def test_search_finds_beginnings_first_whatever_the_case_and_accents(candidates, journal):
    classes = ["Sea rocket", "Rock rose", "Crocus", "rosa_canina", "Séneçon", "Viola"]
    review = make(candidates, journal, classes=classes)
    assert review.search("ROC") == ["Rock rose", "Sea rocket", "Crocus"]
    assert review.search("rosa c") == ["rosa_canina"]
    assert review.search("senec") == ["Séneçon"]
    assert review.search(" ", limit=2) == classes[:2] and review.search("zzz") == []


def test_rate_leaves_pauses_out(candidates, journal, monkeypatch):
    clock = iter([0.0, 2.0, 4.0, 1000.0, 1002.0, 1004.0, 1006.0])
    monkeypatch.setattr(review_module.time, "monotonic", lambda: next(clock))
    review = make(candidates, journal, asked=6)
    assert review.progress == "decided 0, 6 asked for, of 7"
    for place in range(5):
        review.decide([place], "keep")
    assert review.decisions_a_minute() is None
    review.decide([5], "keep")
    # Five looks after the first, 2 s each; the long gap does not count.
    assert review.decisions_a_minute() == pytest.approx(60 * 5 / 8)
    assert review.progress == "decided 6, 6 asked for, of 7 · 38 a minute"


def test_time_left(candidates, journal, monkeypatch):
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(review_module.time, "monotonic", lambda: next(clock))
    review = make(candidates, journal)
    review.decide([0], "keep")
    review.decide([1, 2, 3, 4, 5], "drop")
    assert review.progress == "decided 6 of 7 · 30 a minute · 0 min left"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda table: table.drop(columns="caption"), "caption"),
        (lambda table: table.assign(item=range(7)), "`item`"),
        (lambda table: table.assign(item=""), "`item`"),
        (lambda table: table.assign(item="same"), "twice in column `item`"),
        (lambda table: table.drop(columns="suggestions").assign(suggested=12), "`suggested`"),
        (lambda table: table.assign(label=12), "`label`"),
        (lambda table: table.assign(suggestions="0012"), "`suggestions`"),
        (lambda table: table.assign(image=7), "`image`"),
        (lambda table: table.assign(image=[["a"], *["b"] * 6]), "both paths and lists"),
    ],
)
def test_wrong_candidates_are_named(candidates, change, named):
    with pytest.raises(ValueError, match=named):
        check_candidates(change(candidates))


def test_defaults_of_candidates(tmp_path):
    table = check_candidates(photos(tmp_path))
    assert table["suggested"].tolist()[:3] == ["0012", "", "0007"]
    assert [name for name, _ in table["suggestions"][0]] == ["0012"]
    assert table["label"].eq("").all() and table["full"].equals(table["image"])
    assert table["shown"].tolist()[:2] == ["rose · p 0.0 → 0012", "rose · p 0.1"]
    assert check_candidates(photos(tmp_path).assign(shown="seen"))["shown"].eq("seen").all()


def test_the_journal_notes_a_caption_in_one_line(candidates):
    noted = check_candidates(candidates.assign(caption="rose\np 0.31"))["shown"]
    assert noted.tolist()[:2] == ["rose  p 0.31 → 0012,  → 0007", "rose  p 0.31"]


@pytest.mark.parametrize(
    ("label", "suggestions", "shown"),
    [
        ("rosa", [], ("rosa", "", "p 0.10")),
        ("rosa", [("viola", 0.756), ("rosa", 0.1)], ("rosa", "→ viola", "p 0.10 → 0.76")),
        ("rosa", [("viola", float("nan"))], ("rosa", "→ viola", "p 0.10")),
        ("rosa", [("rosa", 0.4), ("viola", 0.3)], ("rosa", "unsure", "p 0.10")),
        ("", [("rosa", 0.4)], ("rosa", "→ rosa", "p 0.10 → 0.40")),
    ],
)
def test_names_and_scores_have_lines_of_their_own(label, suggestions, shown):
    assert under_photo("rosa\np 0.10", label, suggestions) == shown


def test_caption_without_a_score():
    assert under_photo("rosa", "", []) == ("rosa", "", "")
    assert under_photo("rosa", "", [("viola", 0.5)]) == ("rosa", "→ viola", "→ 0.50")


def test_where_two_scores_are_too_wide_they_stand_without_their_name():
    assert under_photo("rosa\np(given) 0.31", "", [("viola", 0.5)]).scores == "0.31 → 0.50"
    assert under_photo("rosa\np(given) 0.31", "", []).scores == "p(given) 0.31"


def test_a_score_does_not_stand_there_twice():
    assert under_photo("rosa\np 0.50", "", [("viola", 0.5)]).scores == "p 0.50"


def test_decision_that_another_makes_at_the_same_moment_is_taken_up(candidates, journal):
    review = make(candidates, journal)
    review.decide([0], "keep")
    plain = journal.append_all

    def just_after_another(made, reviewer):
        Journal(journal.path).append("0005", "drop", reviewer="bob")
        return plain(made, reviewer)

    journal.append_all = just_after_another
    review.decide([1], "keep")
    assert standing(review)["0005"] == ("drop", "")


def copies_of(*pairs):
    """Train images `0000` to `0006` of class x; the images of a pair are copies."""
    table = pd.DataFrame({"image_id": [f"{n:04d}" for n in range(7)], "split": "train"})
    table["given"], table["group"] = "x", table["image_id"]
    for one, other in pairs:
        table.loc[table["image_id"] == other, "group"] = one
    return Copies(table)


def test_a_look_decides_the_copies(candidates, journal):
    review = make(candidates, journal, copies=copies_of(("0000", "0004"), ("0000", "0005")))
    review.decide([0], "drop")
    assert review.changes() == [0, 4, 5] and review.decided == 3
    assert review.standing(4) == ("drop", "", "", "0000") and review.standing(0).follows == ""
    assert review.next_undecided(review.arranged(), 0) == 1
    assert review.arranged(show="drop") == [0, 4, 5]
    review.decide([4], "keep")
    # What follows from the copy that was decided last.
    assert standing(review) == {"0000": ("drop", ""), "0004": ("keep", ""), "0005": ("keep", "")}
    assert review.undo() == [4]
    assert standing(review)["0005"] == standing(review)["0004"] == ("drop", "")
    assert review.undo() == [0]
    assert standing(review) == {} and journal.latest().empty
    review.redo()
    assert journal.latest()["decision"].to_dict() == dict.fromkeys(["0000", "0004", "0005"], "drop")
    make(candidates, journal, reviewer="bob").decide([5], "keep")
    assert review.changes() == [0, 4, 5] and review.standing(5) == ("keep", "", "", "")


def test_without_copies_a_decision_counts_for_itself(candidates, journal):
    make(candidates, journal).decide([0], "drop")
    assert journal.read()["item"].tolist() == ["0000"]


def test_disputes_come_first_and_a_third_decision_settles(candidates, journal):
    for who, decision in [("ann", "keep"), ("bob", "drop")]:
        make(candidates, journal, reviewer=who).decide([2, 5], decision)
    make(candidates, journal, reviewer="ann").decide([0], "keep")
    carla = make(candidates, journal, reviewer="carla")
    assert carla.arranged("disputes first") == [2, 5, 0, 1, 3, 4, 6]
    assert carla.progress == "decided 3 of 7 · 2 disputed"
    queue = carla.arranged(show="disputed")
    assert queue == [2, 5] and carla.can_settle(2)
    assert (
        carla.next_undecided(queue, 0) == 0 and carla.next_undecided(queue, 1, disputes=True) == 1
    )
    carla.decide([2], "relabel", label="viola")
    assert carla.standing(2) == ("relabel", "viola", "", "")
    assert carla.next_undecided(queue, 0, disputes=True) == 1
    assert journal.latest().loc["0002", "shown"].endswith("⚖ settles ann: keep, bob: drop")
    # Also for those who differed, who cannot settle it themselves.
    ann = make(candidates, journal)
    assert ann.standing(2) == ("relabel", "viola", "", "") and not ann.can_settle(5)
    assert ann.standing(5)[:2] == ("keep", "") and ann.is_disputed(5)
    ann.decide([5], "drop")
    assert not ann.is_disputed(5) and journal.disagreements().empty
    carla.undo()
    assert carla.standing(2).disputed == "ann: keep, bob: drop"
