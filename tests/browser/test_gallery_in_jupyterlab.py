"""A person decides in the gallery: by key, by mouse, over pages and kernel restarts."""

import os
import shutil
from pathlib import Path

import nbformat
import pytest
from jupyterlab_driver import WINDOW
from PIL import Image, ImageDraw
from playwright.sync_api import expect

from fgvc_utils.journal import Journal

NASTY = "<img src=x onerror=\"document.title='broken'\"> & co"
CANDIDATES = """
import pandas as pd
from fgvc_utils.gallery import Gallery, contact_sheet
from fgvc_utils.journal import Journal
items = [f"{number:04d}" for number in range(14)]
candidates = pd.DataFrame({
    "item": items,
    "image": [f"photos/{item}.jpg" for item in items],
    "caption": [NASTY if item == "0001" else f"rose {item} · p 0.31" for item in items],
    "suggested": ["0012" if item != "0003" else "" for item in items],
})
choices = {"k": "keep", "d": "drop", "r": "relabel"}
"""
GALLERY = """
gallery = Gallery(candidates, Journal("decisions/02.csv"), choices, title="Which stay?",
                  page_size=8, reviewer="ann")
gallery
"""
ROWS = """
classes = pd.DataFrame({
    "item": ["rosa", "lilium"],
    "image": [list(candidates["image"][:4]), list(candidates["image"][4:14])],
    "caption": ["rosa: 4 photos", "lilium: 10 photos"],
})
Gallery(classes, Journal("decisions/04.csv"), {"k": "keep", "d": "drop"},
        title="Which classes show one subject?", reviewer="ann", thumbnail_side=96)
"""


@pytest.fixture(scope="module")
def lab_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "photos").mkdir()
    for number in range(14):
        photo = Image.new("RGB", (320, 240), f"hsl({number * 25}, 60%, 55%)")
        ImageDraw.Draw(photo).ellipse([60, 40, 260, 200], fill=f"hsl({number * 25}, 70%, 35%)")
        photo.save(folder / "photos" / f"{number:04d}.jpg")
    (folder / "photos" / "0005.jpg").unlink()
    (folder / "photos" / "0006.jpg").write_text("<html>gone</html>")
    cells = [f"NASTY = {NASTY!r}\n{CANDIDATES}", GALLERY, "1 + 1", ROWS]
    cells.append('contact_sheet(candidates, journal=Journal("decisions/02.csv"), title="So far")')
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    nbformat.write(notebook, folder / "review.ipynb")
    return folder


@pytest.fixture
def journal(lab_folder):
    shutil.rmtree(lab_folder / "decisions", ignore_errors=True)
    return Journal(lab_folder / "decisions" / "02.csv")


@pytest.fixture(scope="module")
def opened(open_notebook):
    return open_notebook("review.ipynb")


@pytest.fixture
def notebook(opened, journal):
    """The notebook with a new gallery over an empty journal."""
    opened.run_cell(0)
    opened.run_cell(1)
    return opened


class Screen:
    """What a person sees of the gallery in one cell."""

    def __init__(self, notebook, cell=1):
        self.cell = notebook.cell(cell)
        self.keyboard = notebook.page.keyboard
        self.tiles = self.cell.locator(".fgvc-tile")
        self.selected = self.cell.locator(".fgvc-selected")
        self.status = self.cell.locator(".fgvc-status")

    def tile(self, item):
        return self.cell.locator(f'.fgvc-tile[data-item="{item}"]')

    def press(self, *keys):
        for key in keys:
            self.keyboard.press(key)

    def expect_selected(self, item):
        expect(self.selected).to_have_attribute("data-item", item)

    def expect_mark(self, item, decision):
        expect(self.tile(item).locator(".fgvc-mark")).to_have_text(decision)

    def expect_progress(self, text):
        expect(self.cell.get_by_text(text, exact=True)).to_be_visible()


def picture(notebook, name):
    """Keep a screenshot where the environment asks for it, to be looked at."""
    if folder := os.environ.get("FGVC_SCREENSHOTS"):
        notebook.page.screenshot(path=Path(folder) / f"{name}.png")


def test_first_page_is_drawn(notebook):
    screen = Screen(notebook)
    expect(screen.tiles).to_have_count(8)
    photos = screen.cell.locator("img.fgvc-photo")
    expect(photos).to_have_count(6)
    for photo in photos.all():
        assert photo.evaluate("async image => { await image.decode(); return image.naturalWidth; }")
    screen.expect_selected("0000")
    screen.expect_progress("decided 0 of 14")
    screen.expect_progress("page 1 of 2")
    for key in ("k", "d", "r", "u"):
        expect(screen.cell.locator("kbd", has_text=key)).to_be_visible()
    expect(screen.tile("0000")).to_contain_text("→ 0012")
    expect(screen.tile("0005").locator(".fgvc-missing")).to_have_text("missing0005.jpg")
    expect(screen.tile("0006").locator(".fgvc-missing")).to_have_text("unreadable0006.jpg")
    # The line for notebooks without a browser has gone.
    expect(screen.cell.get_by_text("open this notebook in JupyterLab")).to_have_count(0)


def test_names_are_text_and_never_markup(notebook):
    screen = Screen(notebook)
    expect(screen.tile("0001").locator(".fgvc-caption")).to_have_text(NASTY)
    assert notebook.page.title() != "broken"


def test_keys_decide_and_stay_in_the_gallery(notebook, journal):
    screen = Screen(notebook)
    before = notebook.sources()
    screen.tile("0000").click()
    # In JupyterLab's command mode `d` `d` deletes the cell, `r` makes it raw, `k` goes up.
    screen.press("d", "d", "k", "r")
    screen.expect_mark("0002", "keep")
    # 0003 has no suggestion to relabel it with.
    expect(screen.status).to_contain_text("no suggested label")
    screen.expect_selected("0003")
    screen.press("ArrowRight", "r", "b", "a", "x", "Enter", "z")
    screen.expect_mark("0004", "relabel")
    screen.expect_progress("decided 4 of 14")
    assert notebook.sources() == before
    lines = journal.read()
    assert lines["item"].tolist() == ["0000", "0001", "0002", "0004"]
    assert lines["decision"].tolist() == ["drop", "drop", "keep", "relabel"]
    assert lines["label"].tolist() == ["", "", "", "0012"]
    assert set(lines["reviewer"]) == {"ann"}
    assert lines["shown"].iloc[0] == "rose 0000 · p 0.31 → 0012"
    picture(notebook, "decided_by_key")


def test_same_keys_outside_the_gallery_are_jupyterlabs(notebook):
    """Shows that the test above could fail: there, `d` `d` does delete a cell."""
    count = notebook.cell_count()
    notebook.cell(2).locator(".jp-InputPrompt").first.click()
    notebook.page.keyboard.press("d")
    notebook.page.keyboard.press("d")
    cells = "count => window.jupyterapp.shell.currentWidget.content.widgets.length === count"
    notebook.page.wait_for_function(cells, arg=count - 1)
    notebook.page.keyboard.press("z")
    notebook.page.wait_for_function(cells, arg=count)


def test_mouse_decides(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0004").click()
    screen.expect_selected("0004")
    screen.cell.locator(".fgvc-key", has_text="drop").click()
    screen.expect_mark("0004", "drop")
    screen.expect_selected("0005")
    # The keys work right after a click.
    screen.press("k")
    screen.expect_mark("0005", "keep")
    screen.cell.locator(".fgvc-key", has_text="undo").click()
    screen.expect_mark("0005", "")
    screen.expect_selected("0005")
    assert journal.latest()["decision"].to_dict() == {"0004": "drop"}


def test_cursor_keys_move_over_the_grid(notebook):
    screen = Screen(notebook)
    screen.tile("0000").click()
    tops = [tile.evaluate("tile => tile.offsetTop") for tile in screen.tiles.all()]
    columns = tops.count(tops[0])
    assert 1 < columns < 8
    screen.press("ArrowDown")
    screen.expect_selected(f"{columns:04d}")
    screen.press("ArrowRight", "ArrowUp", "ArrowLeft", "ArrowLeft")
    screen.expect_selected("0000")


def test_selected_photo_is_in_sight(notebook):
    """Also where the gallery is higher than what the window shows of it."""
    screen = Screen(notebook)
    screen.tile("0000").click()
    notebook.page.set_viewport_size({"width": 1000, "height": 500})
    for number in range(7):
        screen.press("kd"[number % 2])
        screen.expect_selected(f"{number + 1:04d}")
        expect(screen.selected).to_be_in_viewport(ratio=0.95)
    notebook.page.set_viewport_size(WINDOW)


def test_undo_takes_back_what_the_journal_then_says(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0000").click()
    screen.press("k", "d")
    screen.expect_progress("decided 2 of 14")
    screen.press("u")
    screen.expect_mark("0001", "")
    screen.expect_mark("0000", "keep")
    screen.expect_selected("0001")
    screen.expect_progress("decided 1 of 14")
    assert journal.read()["decision"].tolist() == ["keep", "drop", "undo"]


def test_pages_turn_by_button_by_key_and_by_deciding(notebook, journal):
    screen = Screen(notebook)
    screen.cell.get_by_role("button", name="Next page").click()
    screen.expect_selected("0008")
    expect(screen.tiles).to_have_count(6)
    screen.expect_progress("page 2 of 2")
    expect(screen.cell.get_by_role("button", name="Next page")).to_be_disabled()
    screen.press("k")
    screen.expect_mark("0008", "keep")
    screen.press("PageUp")
    screen.expect_selected("0000")
    screen.tile("0007").click()
    screen.press("k")
    # The first undecided one from there on is behind the one decided already.
    screen.expect_selected("0009")
    screen.cell.get_by_role("button", name="Previous page").click()
    screen.expect_mark("0007", "keep")
    screen.cell.get_by_role("button", name="Next undecided").click()
    screen.expect_selected("0000")
    assert journal.read()["item"].tolist() == ["0008", "0007"]


def test_fast_keys_each_meet_their_own_photo(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0000").click()
    pressed = ["k", "d", "d", "k", "d", "k", "k"]
    screen.press(*pressed)
    screen.expect_progress("decided 7 of 14")
    lines = journal.read()
    assert lines["item"].tolist() == [f"{number:04d}" for number in range(7)]
    assert lines["decision"].str[0].tolist() == pressed


def test_restarted_kernel_shows_earlier_decisions(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0000").click()
    screen.press("k", "d")
    screen.expect_progress("decided 2 of 14")
    notebook.restart_kernel()
    notebook.run_cell(0)
    notebook.run_cell(1)
    screen = Screen(notebook)
    screen.expect_mark("0000", "keep")
    screen.expect_mark("0001", "drop")
    screen.expect_selected("0002")
    screen.expect_progress("decided 2 of 14")
    screen.tile("0002").click()
    screen.press("k")
    screen.expect_mark("0002", "keep")
    assert journal.read()["item"].tolist() == ["0000", "0001", "0002"]


def test_decision_without_a_kernel_is_not_shown(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0000").click()
    screen.press("k")
    screen.expect_mark("0000", "keep")
    notebook.restart_kernel()
    screen.press("d")
    expect(screen.status).to_contain_text("run this cell again")
    screen.expect_mark("0001", "")
    assert journal.read()["item"].tolist() == ["0000"]


def test_reloaded_browser_page_goes_on(notebook, journal):
    screen = Screen(notebook)
    screen.cell.get_by_role("button", name="Next page").click()
    screen.expect_selected("0008")
    screen.press("k", "d")
    screen.expect_progress("decided 2 of 14")
    notebook.save()
    notebook.reload()
    screen = Screen(notebook)
    screen.expect_mark("0009", "drop")
    screen.expect_selected("0010")
    expect(screen.cell.locator("img.fgvc-photo")).to_have_count(6)
    screen.tile("0011").click()
    screen.press("k")
    screen.expect_mark("0011", "keep")
    assert journal.read()["item"].tolist() == ["0008", "0009", "0011"]


def test_write_that_fails_is_told(notebook, journal):
    journal.path.parent.mkdir(exist_ok=True)
    journal.path.write_text("another,file\n")
    screen = Screen(notebook)
    screen.tile("0000").click()
    screen.press("k", "d")
    expect(screen.status).to_contain_text("is not a journal")
    screen.expect_mark("0000", "")
    screen.expect_progress("decided 0 of 14")
    assert journal.path.read_text() == "another,file\n"


def test_row_of_photos_is_decided_as_one(notebook, lab_folder):
    notebook.run_cell(3)
    screen = Screen(notebook, cell=3)
    expect(screen.tiles).to_have_count(2)
    expect(screen.tile("lilium").locator(".fgvc-photo")).to_have_count(10)
    screen.tile("rosa").click()
    screen.press("k")
    screen.expect_mark("rosa", "keep")
    screen.press("d")
    screen.expect_mark("lilium", "drop")
    picture(notebook, "rows")
    latest = Journal(lab_folder / "decisions" / "04.csv").latest()
    assert latest["decision"].to_dict() == {"rosa": "keep", "lilium": "drop"}


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_text_is_readable_in_both_themes(notebook, theme):
    screen = Screen(notebook)
    screen.tile("0000").click()
    screen.press("k", "d", "r")
    screen.expect_progress("decided 3 of 14")
    notebook.set_theme(theme)
    for name in (".fgvc-caption", ".fgvc-hint", ".fgvc-key span", ".fgvc-name", ".fgvc-suggested"):
        contrast = screen.cell.locator(name).last.evaluate(CONTRAST)
        assert contrast >= 4.5, f"{name} has contrast {contrast:.1f} in {theme}"
    picture(notebook, theme.replace(" ", "_"))
    notebook.run_cell(4)
    notebook.cell(4).scroll_into_view_if_needed()
    expect(notebook.cell(4).locator("img")).to_be_visible()
    picture(notebook, f"contact_sheet_{theme.split()[1]}")


# The contrast of an element's text to what lies behind it (WCAG 2.1; 4.5 is readable).
CONTRAST = """element => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = numbers(colour).slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  const clear = (colour) => numbers(colour)[3] === 0;
  while (clear(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
  // Over white, half-clear text is as light as its share.
  const paper = light(getComputedStyle(behind).backgroundColor);
  const [r, g, b, share = 1] = numbers(getComputedStyle(element).color);
  const under = numbers(getComputedStyle(behind).backgroundColor);
  const mixed = [r, g, b].map((value, i) => value * share + under[i] * (1 - share));
  const text = light(`rgb(${mixed.join(',')})`);
  return (Math.max(text, paper) + 0.05) / (Math.min(text, paper) + 0.05);
}"""
