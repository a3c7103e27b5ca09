"""What a decision on an image says of its copies, and what of it stands in the journal."""

import pandas as pd
import pytest

from fgvc_utils.contest.following import Copies
from fgvc_utils.contest.journal import COPY_OF, SETTLES, Decision, followed_from, read_shown

TABLE = pd.DataFrame(
    [
        ("a", "train", "rose", "a"),
        ("same", "train", "rose", "a"),
        ("other", "train", "lily", "a"),
        ("test", "test", "", "a"),
        ("alone", "train", "rose", "alone"),
    ],
    columns=["image_id", "split", "given", "group"],
)


def following(*made):
    found = Copies(TABLE).following([Decision(*one) for one in made])
    assert all(followed_from(one.shown) for one in found)
    return {one.item: (one.decision, one.label) for one in found}


@pytest.mark.parametrize(
    ("made", "same", "other"),
    [
        (("a", "noise"), ("noise", ""), ("noise", "")),
        (("a", "normal"), ("normal", ""), ("normal", "")),
        (("a", "keep"), ("keep", ""), ("relabel", "rose")),
        (("a", "relabel", "lily"), ("relabel", "lily"), ("keep", "")),
        (("a", "relabel", "fern"), ("relabel", "fern"), ("relabel", "fern")),
        (("a", "relabel", "rose"), ("keep", ""), ("relabel", "rose")),
        # It may have been dropped for its label, which the other one does not have.
        (("a", "drop"), ("drop", ""), None),
        (("a", "unsure"), None, None),
    ],
)
def test_copies_take_the_class_that_the_photo_shows(made, same, other):
    expected = {"same": same, "other": other}
    assert following(made) == {item: answer for item, answer in expected.items() if answer}


def test_copies_that_are_decided_on_themselves_are_left_out():
    assert following(("alone", "drop")) == {}
    assert following(("a", "keep"), ("same", "drop")) == {"other": ("relabel", "rose")}
    assert Copies(TABLE).of("a") == ["same", "other"] and Copies(TABLE).of("no image") == []


def write(journal, who, *made):
    """Decisions of a reviewer with what follows from them."""
    made = [Decision(*one) for one in made]
    journal.append_all([*made, *Copies(TABLE).following(made)], who)


def in_force(journal):
    return journal.latest()["decision"].to_dict()


def test_what_followed_stands_as_long_as_its_source(journal):
    write(journal, "ann", ("a", "keep"))
    assert in_force(journal) == {"a": "keep", "same": "keep", "other": "relabel"}
    assert journal.latest().loc["other", "shown"] == COPY_OF + "a"
    assert [vote.follows for vote in journal.votes()["other"]] == ["a"]
    # A changed mind takes back what nothing follows for any more.
    write(journal, "ann", ("a", "drop"))
    assert in_force(journal) == {"a": "drop", "same": "drop"}
    journal.append("a", "undo", reviewer="ann")
    assert in_force(journal) == {"a": "keep", "same": "keep", "other": "relabel"}
    journal.append("a", "undo", reviewer="ann")
    assert journal.latest().empty


def test_a_persons_own_decision_on_a_copy_outranks(journal):
    journal.append("same", "drop", reviewer="ann")
    write(journal, "ann", ("a", "keep"))
    assert in_force(journal) == {"same": "drop", "a": "keep", "other": "relabel"}
    journal.append("other", "keep", reviewer="bob")
    assert in_force(journal)["other"] == "keep" and journal.disagreements().empty
    journal.append("same", "undo", reviewer="ann")
    assert in_force(journal)["same"] == "keep"


def test_the_latest_of_two_sources_counts_and_reviewers_may_differ_on_a_copy(journal):
    write(journal, "ann", ("a", "keep"))
    write(journal, "ann", ("same", "relabel", "fern"))
    assert journal.latest()["label"].to_dict() == {"a": "", "other": "fern", "same": "fern"}
    write(journal, "bob", ("a", "keep"))
    assert sorted(set(journal.disagreements()["item"])) == ["other"]
    journal.append("same", "undo", reviewer="ann")
    assert journal.disagreements().empty and journal.latest().loc["other", "label"] == "rose"


def test_an_id_with_spaces_is_found_again(journal):
    table = TABLE.replace("a", "a  b")
    made = [Decision("a  b", "noise")]
    journal.append_all([*made, *Copies(table).following(made)], "ann")
    assert in_force(journal) == {"a  b": "noise", "same": "noise", "other": "noise"}


def test_a_line_whose_source_is_missing_counts_for_nothing(journal):
    journal.append("same", "keep", shown=COPY_OF + "a", reviewer="ann")
    assert journal.latest().empty and journal.cut_lines() == []


def test_a_third_reviewer_settles(journal):
    journal.append("a", "keep", reviewer="ann")
    journal.append("a", "drop", reviewer="bob")
    assert journal.latest().empty
    settled = "drop: rose  p 0.4 → lily 0.5" + SETTLES + "ann: keep, bob: relabel → fern"
    # Also where it is a third answer, which no majority has.
    journal.append("a", "relabel", "lily", settled, "carla")
    assert journal.latest()["label"].to_dict() == {"a": "lily"}
    assert journal.disagreements().empty
    assert read_shown(settled) == ("drop", "lily 0.5")
    journal.append("a", "relabel", "lily", reviewer="dave")
    assert journal.disagreements().empty
    # Whoever decides otherwise later opens it again; then the commonest answer counts.
    journal.append("a", "keep", reviewer="dave")
    assert len(journal.disagreements()) == 4 and in_force(journal) == {"a": "keep"}
    journal.append("a", "undo", reviewer="dave")
    assert journal.disagreements().empty


def test_what_settles_a_source_settles_its_copies(journal):
    write(journal, "ann", ("a", "keep"))
    write(journal, "bob", ("a", "drop"))
    write(journal, "carla", ("a", "relabel", "fern", "drop: x" + SETTLES + "ann: keep"))
    assert journal.latest()["label"].to_dict() == dict.fromkeys(["a", "same", "other"], "fern")
