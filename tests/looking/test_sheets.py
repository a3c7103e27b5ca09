"""The contact sheet: what it shows, and how decided candidates look on it."""

import numpy as np
import pytest
from PIL import ImageColor, ImageDraw

from fgvc_utils.looking.sheets import contact_sheet, decision_colour, fitted, font


def shows_colour(sheet, colour):
    """Whether the picture holds the colour, give or take what its palette makes of it."""
    pixels = np.asarray(sheet.convert("RGB"), int)
    return bool((np.abs(pixels - ImageColor.getrgb(colour)).max(axis=2) <= 12).any())


def test_contact_sheet_frames_what_is_decided(candidates, journal):
    plain = contact_sheet(candidates, columns=4, side=96)
    # Two lines of cells: taller than one line, as wide as four cells.
    one_line = contact_sheet(candidates.head(4), columns=4, side=96)
    assert plain.width == one_line.width and plain.height > one_line.height
    assert not shows_colour(plain, decision_colour("drop"))
    journal.append("0001", "drop")
    decided = contact_sheet(candidates, columns=4, side=96, journal=journal)
    assert shows_colour(decided, decision_colour("drop"))
    assert not shows_colour(decided, decision_colour("keep"))
    changed = (
        np.abs(np.asarray(decided.convert("RGB"), int) - np.asarray(plain.convert("RGB"), int))
        .sum(axis=(0, 2))
        .nonzero()[0]
    )
    cell = plain.width // 4
    assert changed.min() >= cell and changed.max() < 2 * cell


def test_contact_sheet_shows_the_photos_up_to_the_limit(candidates):
    sheet = np.asarray(contact_sheet(candidates, columns=7, limit=3, side=64).convert("RGB"))
    cell = sheet.shape[1] // 7
    middles = [int(sheet[26 + 4 + 32, cell * place + cell // 2].mean()) for place in range(4)]
    assert np.allclose(middles, [0, 30, 60, 255], atol=3)


def test_contact_sheet_of_rows(rows, journal):
    journal.append("lilium", "keep")
    sheet = contact_sheet(rows, columns=4, side=96, title="Small classes", journal=journal)
    assert shows_colour(sheet, decision_colour("keep"))
    assert sheet.width == 4 * 104


def test_rows_stand_beside_each_other_where_there_is_room(rows):
    below = contact_sheet(rows, columns=4, side=96)
    beside = contact_sheet(rows, columns=4, side=96, across=2)
    assert beside.width == 2 * (below.width + 16) and beside.height < below.height
    below, beside = (np.asarray(sheet.convert("RGB"), int) for sheet in (below, beside))
    # The first row stays where it is, the second moves up to its right.
    lower, right = below[26 + 122 :], beside[26:, below.shape[1] + 16 : -16]
    assert np.abs(lower - right).max() <= 12
    with pytest.raises(ValueError, match="across is 0"):
        contact_sheet(rows, across=0)


def test_colours_are_stable_and_distinct():
    assert decision_colour("keep") != decision_colour("drop") != decision_colour("relabel")
    assert decision_colour("unsure") == decision_colour("unsure")


def texts_of(monkeypatch, *arguments, **options):
    """What a sheet writes, in order."""
    written = []
    plain = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda pen, spot, text, *a, **k: (written.append(text), plain(pen, spot, text, *a, **k)),
    )
    contact_sheet(*arguments, **options)
    return written


def test_sheet_without_candidates_says_so_in_one_line(candidates, monkeypatch):
    assert texts_of(monkeypatch, candidates.head(0), title="Nothing") == ["Nothing: none"]
    assert texts_of(monkeypatch, candidates.head(0)) == ["no candidates"]
    assert contact_sheet(candidates.head(0)).height < 30


def test_long_names_are_cut_in_the_middle_and_scores_stay_whole(candidates, monkeypatch):
    name = "Lesser mountain fritillary of the north"
    long = candidates.head(1).assign(caption=f"{name}\np(given) 0.31", label="rose")
    long["suggestions"] = [[(name, 0.875)]]
    head, label, suggestion, scores = texts_of(
        monkeypatch, long.drop(columns="suggested"), side=96, title="t"
    )
    assert head == "t (1 of 1)" and scores == "0.31 → 0.88"
    assert label.startswith("Lesser") and "…" in label and label.endswith("north")
    assert suggestion.startswith("→ Le") and suggestion.endswith("north")
    assert all(font(11).getlength(text) <= 98 for text in (label, scores, suggestion))


def test_best_suggestion_that_is_the_given_label_is_shown_as_unsure(candidates, monkeypatch):
    table = candidates.head(2).assign(label=["0012", "rose"], suggested="0012")
    assert texts_of(monkeypatch, table)[1:] == ["rose · p 0.0", "unsure", "rose · p 0.1", "→ 0012"]


@pytest.mark.parametrize("width", [20, 40, 60, 98, 200])
def test_cut_text_fits_and_keeps_its_end(width):
    cut = fitted("an exceedingly long name 0.98", font(11), width)
    assert font(11).getlength(cut) <= width
    assert cut.endswith("0.98") or width < 60
    assert fitted("short", font(11), 200) == "short"


def test_wrong_sizes(candidates):
    with pytest.raises(ValueError, match="side is 0"):
        contact_sheet(candidates, side=0)


def test_unreadable_photos_leave_the_others_in_place(candidates, tmp_path):
    whole = np.asarray(contact_sheet(candidates, columns=7, side=64).convert("RGB"), int)
    (tmp_path / "0003.jpg").unlink()
    (tmp_path / "0004.jpg").write_text("<html>not found</html>")
    broken = np.asarray(contact_sheet(candidates, columns=7, side=64).convert("RGB"), int)
    changed = (np.abs(whole - broken).max(axis=2) > 20).any(axis=0).nonzero()[0]
    cell = whole.shape[1] // 7
    assert changed.min() >= 3 * cell and changed.max() < 5 * cell
