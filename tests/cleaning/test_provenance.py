"""Who decided on a row and why stand in codes: no text that a file or a person brings is read."""

import pandas as pd
import pytest
from small_crossing import Small

from fgvc_utils.cleaning import rules
from fgvc_utils.cleaning.rounds import posterior_rounds
from fgvc_utils.cleaning.verdicts import apply, confirmed_classes, judged_and_none
from fgvc_utils.contest import images, tables
from fgvc_utils.contest.decision import COPY_OF

STAGE = "01_noise"


@pytest.fixture
def small(tmp_path):
    return Small(tmp_path)


def test_an_unreadable_file_that_says_noise_is_no_noise(small, tmp_path):
    """A web page saved as a picture: its first bytes come back in the error that 01 notes."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "page.jpg").write_bytes(b"<title>noise complaints</title>" * 9)
    listed = small.table.iloc[:1][["image_id", "split", "given"]].assign(path="page.jpg")
    (error,) = images.take_in(listed, tmp_path / "raw", tmp_path / "cache", 64)["error"]
    assert "noise" in error
    broken = small.table["image_id"] == "000"
    small.inventory.loc[0, "cached"] = ""
    table = tables.leave_out(small.table, broken, STAGE, "unreadable", error)
    table = tables.leave_out(table, small.is_noise, STAGE, "noise", "p > 0.9")
    asked, none = judged_and_none(table)
    cross = small.cross(table, asked, rule="posterior", posterior_rounds=1)
    learnt = posterior_rounds(cross, tables.kept(table), none, pd.Series("", table.index))
    assert none.equals(small.is_noise) and not asked["000"]
    assert "000" not in learnt.predictions.image_ids


def after_a_person(table, *rows, stage="02_coarse"):
    decisions = pd.DataFrame(rows, columns=["image_id", "decision", "label"])
    return rules.apply_decisions(table, decisions.set_index("image_id"), stage)


def test_each_decision_of_a_person_has_its_code(small):
    rows = [("000", "keep", ""), ("001", "drop", ""), ("002", "relabel", "dog")]
    rows += [("003", "noise", ""), ("004", "normal", ""), ("005", "undecided", "")]
    table = after_a_person(small.table, *rows)
    assert table["by"].head(6).tolist() == ["human"] * 5 + ["web"]
    assert table["cause"].head(6).tolist() == [
        "confirmed", "dropped", "relabelled", "noise", "normal", "",
    ]  # fmt: skip
    assert table["status"].head(5).tolist() == ["keep", "drop", "keep", "drop", "keep"]
    tables.check_table(table, "decided")


def test_what_teaches_none_and_what_is_confirmed_go_by_codes(small):
    """The words of a reason may be any: all rows have the same here."""
    ids = small.table["image_id"]
    table = tables.leave_out(small.table, ids == "000", STAGE, "unreadable", "noise")
    table = tables.leave_out(table, ids == "001", STAGE, "noise")
    table = tables.leave_out(table, ids == "002", "02_coarse", "label")
    table = after_a_person(table, ("003", "noise", ""), stage=STAGE)
    table = after_a_person(table, ("004", "drop", ""), ("005", "relabel", "cat"))
    table["reason"] = "human: noise"
    judged, none = judged_and_none(table)
    assert ids[none].tolist() == ["001", "003"]
    assert ids[~judged].tolist() == ["000", "001", "003", "004"]
    # That an image is no noise says nothing of its label.
    table = after_a_person(table, ("006", "normal", ""), stage=STAGE)
    assert table.loc["006", ["status", "by"]].tolist() == ["keep", "human"]
    confirmed = confirmed_classes(table)
    assert confirmed[confirmed != ""].to_dict() == {"005": "cat"}


def decided(suggested, verdict):
    """A decision of the rule on image 000."""
    values = {"suggested": suggested, "sure": 0.9, "verdict": verdict}
    return pd.DataFrame(values, index=["000"])


@pytest.mark.parametrize("relabel", [True, False])
def test_what_a_person_relabelled_stays_theirs_in_the_next_stage(small, relabel):
    table = after_a_person(small.table, ("000", "relabel", "cat"))
    after = apply(table, decided("cat", "relabel"), "03_fine", relabel)
    names = ["status", "label", "stage", "by", "cause"]
    assert after.loc["000", names].tolist() == ["keep", "cat", "02_coarse", "human", "relabelled"]


@pytest.mark.parametrize(
    ("suggested", "verdict", "codes"),
    [
        ("ant", "keep", ["keep", "ant", "01_noise", "human", "normal"]),
        ("cat", "relabel", ["keep", "cat", "03_fine", "rule", "relabelled"]),
        ("cat", "drop", ["drop", "ant", "03_fine", "rule", "label"]),
        # The networks took what shows no class from noise, and a person saw that this is none.
        ("", "drop", ["keep", "ant", "01_noise", "human", "normal"]),
    ],
)
def test_that_an_image_is_no_noise_leaves_its_label_to_the_rule(small, suggested, verdict, codes):
    table = after_a_person(small.table, ("000", "normal", ""), stage=STAGE)
    assert table.loc["000", "label"] == "ant"
    after = apply(table, decided(suggested, verdict), "03_fine", relabel=True)
    assert after.loc["000", ["status", "label", "stage", "by", "cause"]].tolist() == codes
    tables.check_table(after, "after")


def test_a_decision_on_the_label_follows_to_a_copy_that_is_no_noise(small):
    table = after_a_person(small.table, ("000", "normal", ""), ("001", "keep", ""), stage=STAGE)
    columns = ["image_id", "decision", "label", "shown"]
    rows = [(image, "relabel", "cat", f"{COPY_OF}002") for image in ("000", "001")]
    decisions = pd.DataFrame(rows, columns=columns).set_index("image_id")
    after = rules.apply_decisions(table, decisions, "02_coarse")
    assert after.loc[["000", "001"], "label"].tolist() == ["cat", table.loc["001", "given"]]


@pytest.mark.parametrize(
    ("before", "suggested", "verdict", "codes"),
    [
        ("keep", "ant", "keep", ["keep", "", "web", ""]),
        ("drop", "ant", "keep", ["keep", "03_fine", "rule", "returned"]),
        ("keep", "cat", "relabel", ["keep", "03_fine", "rule", "relabelled"]),
        ("keep", "cat", "drop", ["drop", "03_fine", "rule", "label"]),
        ("keep", "", "drop", ["drop", "03_fine", "rule", "no_class"]),
    ],
)
def test_each_verdict_of_the_rule_has_its_code(small, before, suggested, verdict, codes):
    table = small.table
    if before == "drop":
        table = tables.leave_out(table, table["image_id"] == "000", "02_coarse", "label")
    after = apply(table, decided(suggested, verdict), "03_fine", relabel=True)
    assert after.loc["000", ["status", "stage", "by", "cause"]].tolist() == codes
    tables.check_table(after, "after")
