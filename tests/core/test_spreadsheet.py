"""Text that a spreadsheet would run: found, escaped, and given back as it was."""

import random
from types import SimpleNamespace

import pytest

from fgvc_utils.cleaning.ledger import write_ledger
from fgvc_utils.core.spreadsheet import escaped, is_formula, unescaped

FORMULAS = [
    "=1+1", "=cmd|' /C calc'!A0", "+cmd|'/C calc'!A0", "-2+3+cmd|' /C calc'!A0", "@SUM(1+1)",
    "＝1+1", "＋1", "－1+1", "＠SUM(A1)", "\t=1", "\r=1", "\n=1", '"=1"', "'=1", " =1",
    "rose;=1+1", 'rose;"=1+1', "rose\t@x", "-", "-DSC_01.jpg", "+46", "+x",
]  # fmt: skip
PLAIN = [
    "", "rose", "0012", "a=1", "a-b", "a + b", "x@y", "a, -b", "'tis", '"rose"', "test/-1.jpg",
    "1;2", "Séneçon; wild", "（＝", "'", ";",
]  # fmt: skip


@pytest.mark.parametrize("text", sorted(set(FORMULAS) - {"+46"}))
def test_a_formula_is_found_and_escaped(text):
    assert is_formula(text)
    assert escaped(text) != text and unescaped(escaped(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_stays_as_it_is(text):
    assert not is_formula(text)
    assert escaped(text) == text and unescaped(text) == text


def test_numbers_with_a_sign_are_no_formulas():
    assert not is_formula("-12") and not is_formula("+0.5")
    assert is_formula("-12-1") and is_formula("-12\n")


def test_a_formula_in_the_middle_is_escaped_where_its_cell_would_begin():
    assert escaped("=a;=b; x;-c") == "'=a;'=b; x;'-c"


def test_every_text_comes_back():
    draw = random.Random(0)
    for _ in range(20_000):
        text = "".join(draw.choices("='\"; \t\n-＝a1", k=draw.randint(0, 8)))
        assert unescaped(escaped(text)) == text
        assert not is_formula(text) or escaped(text) != text


def test_the_ledger_is_escaped_and_its_other_stages_stay_as_they_are(tmp_path):
    cfg = SimpleNamespace(folder=tmp_path)
    write_ledger(cfg, "02_coarse", [{"round": 1, "recipe": "=1+1", "gain": -0.5}])
    ledger = write_ledger(cfg, "03_fine", [{"round": 1, "recipe": "-x", "gain": -1.0}])
    assert ledger["recipe"].tolist() == ["-x"]
    written = (tmp_path / "ledger.csv").read_text()
    assert ",'=1+1," in written and ",'-x," in written and ",-0.5" in written
