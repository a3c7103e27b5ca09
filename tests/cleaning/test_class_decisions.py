"""Decisions on whole classes: from journal and contest file into the table, and back again."""

import pandas as pd
import pytest
from pydantic import ValidationError

from fgvc_utils.cleaning import class_decisions as decisions
from fgvc_utils.cleaning.class_decisions import ClassDecision, Decided, applied, in_force
from fgvc_utils.contest import tables
from fgvc_utils.contest.decision import part_shown, with_part
from fgvc_utils.contest.journal import Journal

STAGE = "04_lowq"
PAIR, PART = '["pair", "bee", "ant"]', '["part", "ant", "a1"]'


@pytest.fixture
def table():
    """Three images a class, and test images."""
    ids = [f"{name}{n}" for name in "abc" for n in (1, 2, 3)] + ["t1"]
    given = [name for name in ("ant", "bee", "cat") for _ in range(3)] + [""]
    split = ["train"] * 9 + ["test"]
    listed = pd.DataFrame({"image_id": ids, "path": ids, "split": split, "given": given})
    return tables.new_table(listed.astype(object))


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "decisions/04_classes.csv")


def put(table, *decided, parts=None):
    after, told = applied(table, decided, parts or {}, STAGE)
    tables.check_table(after, "after")
    return after, told


def labels(table):
    kept = table[tables.kept(table)]
    return kept.groupby("label")["image_id"].agg("".join).to_dict()


def by_hand(table, image, label):
    values = [label, "03_fine", "human", "relabelled"]
    table.loc[image, ["label", "stage", "by", "cause"]] = values


# What a contest file may state


def test_what_a_contest_file_states_is_one_decision_with_its_classes():
    for right in (
        {"merge": ["a", "b", "c"], "into": "a"},
        {"swap": ["a", "b"]},
        {"split": "a"},
        {"split": "a", "into": "b", "part": "1"},
    ):
        assert ClassDecision(**right)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({}, "give one of merge"),
        ({"merge": ["a", "b"], "into": "a", "split": "c"}, "give one of merge"),
        ({"merge": ["a"], "into": "a"}, "merge needs two different classes"),
        ({"merge": ["a", "a"], "into": "a"}, "merge needs two different classes"),
        ({"merge": ["a", "b"]}, "into must name the class that stays, one of a, b"),
        ({"merge": ["a", "b"], "into": "c"}, "into must name"),
        ({"swap": ["a", "a"]}, "swap needs two different"),
        ({"swap": ["a", "b", "c"]}, "swap exchanges two"),
        ({"swap": ["a", "b"], "into": "a"}, "into belongs to"),
        ({"split": "a", "into": "a"}, "another class than the one"),
        ({"swap": ["a", "b"], "part": "1"}, "part belongs to split"),
        ({"join": ["a", "b"]}, "Extra inputs"),
    ],
)
def test_a_wrong_statement_says_what_is_wrong(wrong, text):
    with pytest.raises(ValidationError, match=text):
        ClassDecision(**wrong)


def test_an_unknown_class_is_named_with_one_that_is_near():
    decided = in_force([ClassDecision(swap=["ant", "been"])], decisions.NOBODY)
    with pytest.raises(ValueError, match="here: swap ant and been: .* 'been'; near it is 'bee'"):
        decisions.check_decisions(decided, ["ant", "bee"], "here")
    into = in_force([ClassDecision(split="ant", into="x")], decisions.NOBODY)
    with pytest.raises(ValueError, match="no class 'x'"):
        decisions.check_decisions(into, ["ant", "bee"], "here")
    decisions.check_decisions(decided, ["ant", "been"], "here")


# The journal


def test_what_people_decide_in_the_gallery_comes_back(journal):
    for item, decision, label in [
        (PAIR, "merge", ""),
        ('["pair", "cat", "dog"]', "swap", ""),
        ('["pair", "elk", "fox"]', "leave", ""),
        ('["pair", "gnu", "hen"]', "relabel", "hen"),
        (PART, "split", ""),
        ('["part", "cat", "c3"]', "relabel", "bee"),
        ('["part", "dog", "d3"]', "relabel", "dog"),
        ('["part", "gnu", "g3"]', "split rest", ""),
    ]:
        journal.append(item, decision, label, reviewer="eve")
    assert in_force([], journal.latest()) == [
        Decided("merge", ("bee", "ant"), "bee", by="human"),
        Decided("swap", ("cat", "dog"), by="human"),
        Decided("merge", ("gnu", "hen"), "hen", by="human"),
        Decided("split", ("ant",), "", "a1", "human"),
        Decided("split", ("cat",), "bee", "c3", "human"),
        Decided("split", ("gnu",), "", "g3", "human", rest=True),
    ]
    before = journal.path.read_bytes()
    journal.append(PAIR, "undo", reviewer="eve")
    journal.append(PART, "leave", reviewer="eve")
    assert len(in_force([], journal.latest())) == 4
    assert journal.path.read_bytes().startswith(before), "nothing is rewritten"


def test_decisions_act_in_the_order_of_their_time(journal):
    journal.append('["pair", "cat", "dog"]', "swap", reviewer="eve")
    later = journal.latest().assign(time="2999-01-01T00:00:00+00:00")
    journal.append(PAIR, "merge", reviewer="eve")
    latest = pd.concat([later, journal.latest().loc[[PAIR]]])
    assert [each.what for each in in_force([], latest)] == ["merge", "swap"]


def test_a_person_outranks_the_contest_file_on_the_same_classes_alone(journal):
    stated = [ClassDecision(swap=["ant", "bee"]), ClassDecision(split="ant")]
    assert [each.by for each in in_force(stated, decisions.NOBODY)] == ["rule", "rule"]
    journal.append(PAIR, "leave", reviewer="eve")
    assert [each.what for each in in_force(stated, journal.latest())] == ["split"]
    journal.append(PAIR, "merge", reviewer="eve")
    assert [each.what for each in in_force(stated, journal.latest())] == ["split", "merge"]
    journal.append(PAIR, "undo", reviewer="eve")
    journal.append(PAIR, "undo", reviewer="eve")
    assert [each.what for each in in_force(stated, journal.latest())] == ["swap", "split"]


@pytest.mark.parametrize(
    ("item", "decision", "text"),
    [
        ("ant", "merge", "'ant' names neither two classes nor a part"),
        ('["pair", "ant"]', "merge", "names neither"),
        ('["trio", "a", "b"]', "merge", "names neither"),
        ('["pair", "ant", 3]', "merge", "names neither"),
        (PAIR, "split", "decided with 'split', which does not fit"),
        (PART, "swap", "does not fit: two classes are merged, swapped or left"),
        (PAIR, "drop", "does not fit"),
    ],
)
def test_a_line_that_does_not_fit_is_an_error_that_says_what_to_do(journal, item, decision, text):
    journal.append(item, decision, reviewer="eve")
    with pytest.raises(ValueError, match=text):
        in_force([], journal.latest())


def test_what_was_decided_is_found_again_whatever_comes_first():
    """Which class is larger, and which image stands for a part, may change from run to run."""
    found = pd.DataFrame(
        {
            "name": ["ant", "ant", "cat"],
            "other": ["bee", "", ""],
            "part": [[], ["a2", "a1"], ["c1"]],
        }
    )
    items = decisions.with_items(found, [PAIR, PART, '["part", "cat", "c9"]'])["item"].tolist()
    assert items == [PAIR, PART, '["part", "cat", "c1"]']
    fresh = decisions.with_items(found, [])["item"].tolist()
    assert fresh[:2] == ['["pair", "ant", "bee"]', '["part", "ant", "a2"]']
    assert decisions.with_items(found[:0], [])["item"].tolist() == []
    odd = decisions.pair_item('a "b", c', "é=1")
    assert decisions.from_journal(
        pd.DataFrame({"decision": "swap", "label": "", "time": "1"}, index=[odd])
    ) == [Decided("swap", ('a "b", c', "é=1"), by="human")]


def test_a_part_whose_image_left_is_known_by_the_others_that_were_shown(journal, table):
    gone = '["part", "ant", "a9"]'
    journal.append(gone, "split", shown=with_part("two: ant", ["a9", "a2", "a3"]), reviewer="eve")
    journal.append('["part", "bee", "b9"]', "split", shown="two: bee", reviewer="eve")
    latest = journal.latest()
    (each,) = in_force([], decisions.usable(latest, table))
    assert (each.names, each.part) == (("ant",), "a2")
    assert decisions.unused(latest, table).index.tolist() == ['["part", "bee", "b9"]']
    found = pd.DataFrame({"name": ["ant"], "other": [""], "part": [["a3", "a2"]]})
    assert decisions.with_items(found, latest.index, latest)["item"].tolist() == [gone]
    other = pd.DataFrame({"name": ["ant"], "other": [""], "part": [["a1"]]})
    assert decisions.with_items(other, latest.index, latest)["item"].tolist() == [PART]


@pytest.mark.parametrize("cut", ["", " ▦ part: ", ' ▦ part: ["a', " ▦ part: {}", " ▦ part: [1, 2]"])
def test_a_note_of_a_part_that_was_cut_names_no_image(cut):
    assert part_shown("two: ant" + cut) == []
    assert part_shown(with_part("two", ["a", "b, c"]) + " ⚖ settles eve: split") == ["a", "b, c"]


# The table


def test_a_merge_empties_the_other_class_and_says_why(table):
    after, told = put(table, Decided("merge", ("ant", "bee"), "bee", by="human"))
    assert labels(after) == {"bee": "a1a2a3b1b2b3", "cat": "c1c2c3"}
    assert tables.emptied_classes(after) == ["ant"]
    assert tables.classes_of(after) == tables.classes_of(table)
    codes = after.loc["a1", ["given", "stage", "by", "cause", "reason"]].tolist()
    assert codes == ["ant", STAGE, "human", "merged", "human: merged"]
    assert after.loc[["b1", "c1", "t1"]].equals(table.loc[["b1", "c1", "t1"]])
    assert told.to_dict("records") == [
        {"decision": "merge ant into bee", "by": "human", "images": 3}
    ]


def test_a_merge_brings_back_what_could_not_be_told_apart_and_takes_all_along(table):
    table = tables.leave_out(table, table["image_id"].isin(["a1", "b1", "b2", "c1"]), "03", "label")
    table.loc[["a1", "b1", "b2", "c1"], "suggested"] = ["bee", "ant", "cat", "ant"]
    table.loc["b1", "by"] = "human"
    by_hand(table, "b3", "bee")
    by_hand(table, "c2", "bee")
    after, told = put(table, Decided("merge", ("ant", "bee"), "ant"))
    assert labels(after) == {"ant": "a1a2a3b3c2", "cat": "c3"}
    assert after.loc["a1", ["by", "cause"]].tolist() == ["rule", "merged"]
    assert after.loc["b3", ["stage", "by", "cause"]].tolist() == ["03_fine", "human", "relabelled"]
    assert told["images"].tolist() == [3]


def test_a_swap_exchanges_names_but_for_what_a_person_set(table):
    by_hand(table, "a3", "ant")
    table.loc["c3", "label"] = "bee"
    after, told = put(table, Decided("swap", ("ant", "bee")))
    assert labels(after) == {"ant": "a3b1b2b3c3", "bee": "a1a2", "cat": "c1c2"}
    assert after.loc["b1", ["stage", "by", "cause"]].tolist() == [STAGE, "rule", "swapped"]
    again, _ = put(after, Decided("swap", ("ant", "bee")))
    assert labels(again) == labels(table), "a swap undoes a swap"
    assert told["images"].tolist() == [6]


def test_a_swap_and_a_merge_take_what_is_no_noise_along(table):
    table.loc["a1", ["stage", "by", "cause"]] = ["01_noise", "human", "normal"]
    swapped, _ = put(table, Decided("swap", ("ant", "bee")))
    assert swapped.loc["a1", ["label", "by", "cause"]].tolist() == ["bee", "rule", "swapped"]
    merged, _ = put(table, Decided("merge", ("ant", "bee"), "bee"))
    assert merged.loc["a1", ["label", "by", "cause"]].tolist() == ["bee", "rule", "merged"]


def test_a_split_leaves_a_part_out_or_puts_it_under_another_class(table):
    by_hand(table, "a2", "ant")
    out, to = Decided("split", ("ant",)), Decided("split", ("ant",), "cat", by="human")
    after, _ = put(table, out, parts={out: ["a1", "a2", "c1"]})
    assert labels(after) == {"ant": "a2a3", "bee": "b1b2b3", "cat": "c1c2c3"}
    assert after.loc["a1", ["status", "by", "cause"]].tolist() == ["drop", "rule", "split"]
    after, told = put(table, to, parts={to: ["a1", "a2"]})
    assert labels(after)["cat"] == "a1c1c2c3"
    assert after.loc["a1", ["by", "cause"]].tolist() == ["human", "relabelled"]
    assert told.loc[0, "decision"] == "split ant, a part to cat"


def test_decisions_act_on_what_those_before_them_left(table):
    swap = Decided("swap", ("ant", "bee"))
    first = Decided("merge", ("ant", "cat"), "cat")
    second = Decided("merge", ("ant", "bee"), "ant")
    assert labels(put(table, first, second)[0]) == {"cat": "a1a2a3b1b2b3c1c2c3"}
    assert labels(put(table, second, first)[0]) == {"cat": "a1a2a3b1b2b3c1c2c3"}
    assert labels(put(table, swap, first)[0]) == {"bee": "a1a2a3", "cat": "b1b2b3c1c2c3"}


def test_without_decisions_the_table_stays(table):
    after, told = put(table)
    assert after.equals(table) and told.empty and list(told) == ["decision", "by", "images"]
