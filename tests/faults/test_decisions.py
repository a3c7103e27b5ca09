"""The faults of two reviewers who are killed, on a small scale, and how they are counted."""

from faults import decisions
from faults.decisions import Outcome, compare, plan

KEEP, DROP, UNDONE = ("a", "keep", ""), ("b", "drop", ""), ("a", "undo", "")


def test_lost_doubled_and_strange_decisions_are_counted():
    planned = [KEEP, UNDONE, KEEP, DROP]
    assert compare(planned, planned) == Outcome(0, 0, 0)
    assert compare(planned, [KEEP, UNDONE, DROP]) == Outcome(1, 0, 0)
    assert compare(planned, [*planned, DROP, DROP]) == Outcome(0, 2, 0)
    assert compare(planned, [*planned, ("c", "keep", "")]) == Outcome(0, 0, 1)


def test_a_plan_has_its_length_and_single_grouped_undone_and_redone_decisions():
    actions = plan(0, "ann", 300)
    assert sum(len(action.lines) for action in actions) == 300
    assert {action.kind for action in actions} == {"decide", "undo", "redo"}
    assert min(len(action.lines) for action in actions) == 1
    assert max(len(action.lines) for action in actions) > 10
    assert plan(0, "ann", 300) == actions != plan(0, "bob", 300)


def test_no_decision_is_lost_or_doubled_over_kills_in_the_middle_of_a_write(tmp_path):
    told = decisions.run(tmp_path, seed=3, decisions=300, kills=4)
    assert (told["decisions"], told["decisions_lost"], told["decisions_doubled"]) == (300, 0, 0)
    # Two of the kills come from within a write, so they cannot come too late.
    assert told["kills"] >= 2 and told["cut_lines"] >= 1
