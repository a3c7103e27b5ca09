"""A person decides in the gallery: by key, by mouse, in selections, over kernel restarts."""

import os
import shutil
from pathlib import Path

import nbformat
import pytest
from jupyterlab_driver import WINDOW
from PIL import Image, ImageDraw
from playwright.sync_api import expect

from fgvc_utils.contest.journal import Journal

NASTY = "<img src=x onerror=\"document.title='broken'\"> & co"
CANDIDATES = """
import pandas as pd
from fgvc_utils.looking.gallery import Gallery
from fgvc_utils.contest.journal import Journal
from fgvc_utils.looking.sheets import contact_sheet
items = [f"{number:04d}" for number in range(14)]
candidates = pd.DataFrame({
    "item": items,
    "image": [f"photos/{item}.jpg" for item in items],
    "caption": [NASTY if item == "0001" else f"rose {item} · p 0.31" for item in items],
    "label": ["rose" if number % 2 else "0012" for number in range(14)],
    "suggestions": [
        [("0012", 0.6), ("0007", 0.25), ("rose", 0.1)] if item != "0003" else [] for item in items
    ],
    "sure": [number * 5 % 14 / 14 for number in range(14)],
})
names = ["rose", "0012", "0007", "Sea rocket", "Séneçon", *(f"class {n}" for n in range(5000))]
exemplars = {"rose": candidates["image"].tolist()[7:12], "0012": candidates["image"].tolist()[:4]}
choices = {"k": "keep", "d": "drop"}
"""
GALLERY = """
gallery = Gallery(candidates, Journal("decisions/02.csv"), choices, title="Which stay?",
                  reviewer="ann", classes=names, exemplars=exemplars, sorts={"certainty": "sure"},
                  summary=lambda made: f"{sum(d == 'drop' for d in made.values())} dropped")
gallery
"""
ROWS = """
classes = pd.DataFrame({
    "item": ["rosa", "lilium"],
    "image": [list(candidates["image"][:4]), list(candidates["image"][2:14])],
    "caption": ["rosa: 4 photos", "lilium: 12 photos"],
})
Gallery(classes, Journal("decisions/04.csv"), {"k": "keep", "d": "drop"},
        title="Which classes show one subject?", reviewer="ann", thumbnail_side=72)
"""
NAMES = """
from IPython.display import display
from fgvc_utils.contest import tables
nasty = pd.DataFrame({
    "item": [NASTY], "image": [f"photos/{NASTY}.jpg"], "caption": [NASTY], "label": [NASTY],
    "suggestions": [[(NASTY, 0.5)]],
})
for who in (NASTY, "bob"):
    Journal("decisions/nasty.csv").append(NASTY, "keep" if who == "bob" else NASTY, reviewer=who)
display(nasty, pd.DataFrame({"class": ["$x_1$"]}))
Gallery(nasty, Journal("decisions/nasty.csv"), {"k": "keep", "d": NASTY}, title=NASTY,
        reviewer=NASTY, classes=[NASTY], summary=lambda _: NASTY)
"""
MANY = """
from PIL import Image
import pathlib
pathlib.Path("many").mkdir(exist_ok=True)
for number in range(40):
    Image.new("RGB", (260, 260), f"hsl({number * 9}, 60%, 55%)").save(f"many/{number}.jpg")
many = pd.DataFrame({
    "item": [f"m{number:05d}" for number in range(10_000)],
    "image": [f"many/{number % 40}.jpg" for number in range(10_000)],
    "caption": [f"photo {number}" for number in range(10_000)],
})
Gallery(many, Journal("decisions/many.csv"), choices, title="Many", reviewer="ann")
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
    cells.append(MANY)
    cells.append(NAMES)
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
        self.page = notebook.page
        self.keyboard = notebook.page.keyboard
        self.tiles = self.cell.locator(".fgvc-tile")
        self.selected = self.cell.locator(".fgvc-selected")
        self.picked = self.cell.locator(".fgvc-picked")
        self.status = self.cell.locator(".fgvc-status")
        self.scroller = self.cell.locator(".fgvc-scroller")
        self.panel = self.cell.locator(".fgvc-panel")
        self.progress = self.cell.locator(".fgvc-progress")

    def tile(self, item):
        return self.cell.locator(f'.fgvc-tile[data-item="{item}"]')

    def press(self, *keys):
        for key in keys:
            self.keyboard.press(key)

    def expect_selected(self, item):
        expect(self.selected).to_have_attribute("data-item", item)

    def expect_mark(self, item, decision):
        expect(self.tile(item).locator(".fgvc-mark")).to_have_text(decision)

    def expect_mark_contains(self, text):
        expect(self.cell.locator(".fgvc-mark").first).to_contain_text(text)

    def expect_progress(self, text):
        expect(self.progress).to_contain_text(text)

    def expect_saved(self):
        expect(self.status).not_to_contain_text("saving")

    def columns(self):
        tops = [
            tile.evaluate("tile => tile.getBoundingClientRect().top") for tile in self.tiles.all()
        ]
        return tops.count(tops[0])


def picture(notebook, name):
    """Keep a screenshot where the environment asks for it, to be looked at."""
    if folder := os.environ.get("FGVC_SCREENSHOTS"):
        notebook.page.screenshot(path=Path(folder) / f"{name}.png")


def test_first_screen_is_drawn(notebook):
    screen = Screen(notebook)
    expect(screen.tiles).to_have_count(14)
    photos = screen.cell.locator(".fgvc-canvas canvas.fgvc-drawn")
    expect(photos).to_have_count(12)
    for photo in photos.all():
        assert photo.evaluate("canvas => canvas.width") == 128
    screen.expect_selected("0000")
    screen.expect_progress("decided 0 of 14")
    expect(screen.cell.locator(".fgvc-note")).to_have_text("0 dropped")
    for key in ("k", "d", "1–5", "/", "z", "u", "U"):
        expect(screen.cell.locator(".fgvc-keys kbd", has_text=key).first).to_be_visible()
    expect(screen.tile("0000")).to_contain_text("→ 0012")
    expect(screen.tile("0005").locator(".fgvc-missing")).to_have_text("missing0005.jpg")
    expect(screen.tile("0006").locator(".fgvc-missing")).to_have_text("unreadable0006.jpg")
    # The sheet and the line for notebooks without a browser have gone.
    expect(screen.cell.get_by_text("open this notebook in JupyterLab")).to_have_count(0)
    expect(screen.cell.locator(".jp-RenderedImage")).to_have_count(0)


def test_names_are_text_and_never_markup(notebook):
    screen = Screen(notebook)
    expect(screen.tile("0001").locator(".fgvc-caption")).to_have_text(NASTY)
    assert notebook.page.title() != "broken"


def test_every_name_is_text_wherever_it_is_shown(notebook):
    cell = len(notebook.sources()) - 1
    notebook.run_cell(cell)
    screen = Screen(notebook, cell)
    # The image is not there, so its name stands in its place.
    for part in ("caption", "suggested", "name", "title", "note", "mark"):
        expect(screen.cell.locator(f".fgvc-{part}").first).to_contain_text(NASTY)
    screen.tiles.first.click()
    expect(screen.panel.locator(".fgvc-heading")).to_have_count(2)
    expect(screen.panel).to_contain_text(f"given: {NASTY}")
    screen.press("/")
    expect(notebook.page.locator(".fgvc-found .fgvc-name").first).to_have_text(NASTY)
    screen.press("Escape", "1")
    screen.expect_mark_contains(f"relabel → {NASTY}")
    screen.press("z")
    expect(notebook.page.locator(".fgvc-zoom .fgvc-caption")).to_contain_text(NASTY)
    screen.press("Escape")
    assert notebook.page.locator("img[src=x]").count() == 0
    assert notebook.page.title() != "broken"
    # Of tables too, and no formula is set of them.
    expect(screen.cell.locator("td", has_text=NASTY[:40])).to_have_count(4)
    expect(screen.cell.locator("td", has_text="$x_1$")).to_have_text("$x_1$")
    assert screen.cell.locator("mjx-container").count() == 0


def test_keys_decide_and_stay_in_the_gallery(notebook, journal):
    screen = Screen(notebook)
    before = notebook.sources()
    screen.tile("0000").click()
    # In JupyterLab's command mode `d` `d` deletes the cell, `k` goes up, `1` makes a heading.
    screen.press("d", "d", "k", "1")
    screen.expect_mark("0002", "keep")
    # 0003 has no suggestion to relabel it with.
    expect(screen.status).to_contain_text("no suggested label")
    screen.expect_selected("0003")
    screen.press("ArrowRight", "2", "b", "a", "x")
    screen.expect_mark("0004", "relabel → 0007")
    screen.expect_progress("decided 4 of 14")
    expect(screen.cell.locator(".fgvc-note")).to_have_text("2 dropped")
    assert notebook.sources() == before
    lines = journal.read()
    assert lines["item"].tolist() == ["0000", "0001", "0002", "0004"]
    assert lines["decision"].tolist() == ["drop", "drop", "keep", "relabel"]
    assert lines["label"].tolist() == ["", "", "", "0007"]
    assert set(lines["reviewer"]) == {"ann"}
    assert lines["shown"].iloc[0] == "rose 0000 · p 0.31 → 0012, → 0007, → rose"
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


def test_panel_shows_the_class_and_what_it_may_be_instead(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0001").click()
    expect(screen.panel.locator(".fgvc-heading").first).to_have_text("given: rose")
    suggestions = screen.panel.locator(".fgvc-suggestion")
    expect(suggestions).to_have_count(3)
    expect(suggestions.nth(0)).to_contain_text("10012")
    expect(suggestions.nth(0)).to_contain_text("0.60")
    expect(suggestions.nth(2)).to_contain_text("(given)")
    # Five of the class, three of each suggestion that has exemplars, and the photo itself.
    expect(screen.panel.locator("canvas.fgvc-drawn")).to_have_count(1 + 5 + 3 + 0 + 3)
    suggestions.nth(1).click()
    screen.expect_mark("0001", "relabel → 0007")
    screen.expect_selected("0002")
    expect(screen.panel.locator(".fgvc-heading").first).to_have_text("given: 0012")
    assert journal.latest().loc["0001", "label"] == "0007"
    picture(notebook, "panel")


def test_class_is_searched_by_typing(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0000").click()
    screen.press("/")
    found = notebook.page.locator(".fgvc-search .fgvc-hit")
    notebook.page.locator(".fgvc-input").press_sequentially("sene")
    expect(found).to_have_text(["Séneçon"])
    picture(notebook, "search")
    screen.press("Enter")
    screen.expect_mark("0000", "relabel → Séneçon")
    # Escape leaves, and typed letters were no decisions.
    screen.press("/")
    notebook.page.locator(".fgvc-input").press_sequentially("dk class 499")
    expect(found).to_have_text(["no class has this in its name"])
    screen.press("Escape")
    expect(notebook.page.locator(".fgvc-search")).to_have_count(0)
    screen.press("/")
    notebook.page.locator(".fgvc-input").press_sequentially("class 499")
    expect(found).to_have_count(11)
    screen.press("ArrowDown", "ArrowDown", "Enter")
    screen.expect_mark("0001", "relabel → class 4991")
    assert journal.read()["label"].tolist() == ["Séneçon", "class 4991"]


def test_selections_by_mouse_are_decided_at_once(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0001").click()
    screen.tile("0004").click(modifiers=["Shift"])
    expect(screen.picked).to_have_count(4)
    expect(screen.status).to_have_text("4 chosen")
    screen.press("d")
    screen.expect_mark("0004", "drop")
    screen.tile("0007").click()
    screen.tile("0009").click(modifiers=["Control"])
    expect(screen.picked).to_have_count(2)
    screen.press("k")
    screen.expect_mark("0009", "keep")
    screen.expect_mark("0008", "")
    assert journal.latest()["decision"].to_dict() == dict.fromkeys(
        ["0001", "0002", "0003", "0004"], "drop"
    ) | dict.fromkeys(["0007", "0009"], "keep")
    screen.press("u", "u")
    screen.expect_progress("decided 0 of 14")
    screen.press("Shift+U", "Control+Shift+Z")
    screen.expect_progress("decided 6 of 14")
    screen.press("Control+z")
    screen.expect_progress("decided 4 of 14")


def test_drag_chooses_what_it_covers(notebook, journal):
    screen = Screen(notebook)
    columns = screen.columns()
    assert 2 < columns < 14
    first, last = screen.tile("0001").bounding_box(), screen.tile("0002").bounding_box()
    mouse = notebook.page.mouse
    mouse.move(first["x"] + 30, first["y"] + 30)
    mouse.down()
    mouse.move(last["x"] + 20, last["y"] + 60, steps=4)
    mouse.move(last["x"] + 40, last["y"] + last["height"] + 40, steps=4)
    picture(notebook, "drag")
    mouse.up()
    expect(screen.picked).to_have_count(4)
    screen.press("d")
    screen.expect_progress("decided 4 of 14")
    below = [f"{columns + number:04d}" for number in (1, 2)]
    assert sorted(journal.latest().index) == sorted(["0001", "0002", *below])


def test_selections_by_key(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0000").click()
    screen.press("Shift+ArrowRight", "Shift+ArrowRight")
    expect(screen.picked).to_have_count(3)
    screen.press("Escape")
    expect(screen.picked).to_have_count(0)
    screen.press("Space", "ArrowRight")
    expect(screen.picked).to_have_count(0)
    screen.press("Control+a")
    expect(screen.picked).to_have_count(14)
    screen.press("d")
    screen.expect_progress("decided 14 of 14")
    screen.press("u")
    screen.expect_progress("decided 0 of 14")
    assert len(journal.read()) == 28


def test_zoom_shows_the_photo_and_keys_go_on(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0000").click()
    screen.press("z")
    zoomed = notebook.page.locator(".fgvc-zoom canvas.fgvc-drawn")
    expect(zoomed).to_have_attribute("aria-label", "0000.jpg")
    assert zoomed.evaluate("canvas => canvas.width") == 320
    picture(notebook, "zoom")
    screen.press("k")
    expect(zoomed).to_have_attribute("aria-label", "0001.jpg")
    screen.press("Escape")
    expect(notebook.page.locator(".fgvc-zoom")).to_have_count(0)
    screen.expect_mark("0000", "keep")
    screen.tile("0002").dblclick()
    expect(zoomed).to_have_attribute("aria-label", "0002.jpg")
    zoomed.click()
    expect(notebook.page.locator(".fgvc-zoom")).to_have_count(0)
    assert journal.read()["item"].tolist() == ["0000"]


def test_order_and_narrowing(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0000").click()
    screen.press("d", "k")
    screen.expect_progress("decided 2 of 14")
    screen.cell.get_by_label("show", exact=True).select_option("undecided")
    expect(screen.tiles).to_have_count(12)
    screen.expect_selected("0002")
    screen.cell.get_by_label("sort", exact=True).select_option("certainty")
    screen.expect_selected("0003")  # 0000 is decided, 0003 has the lowest but one
    screen.press("d")
    screen.expect_mark("0003", "drop")  # it stays in view until the order is applied again
    screen.cell.get_by_label("descending").check()
    expect(screen.tile("0003")).to_have_count(0)
    screen.expect_selected("0011")
    text = screen.cell.get_by_label("narrow to a text")
    text.fill("0012")
    text.press("Enter")
    expect(screen.tiles).to_have_count(11)
    screen.cell.get_by_label("show", exact=True).select_option("drop")
    text.fill("")
    text.press("Enter")
    expect(screen.tiles).to_have_count(2)
    screen.cell.get_by_label("show", exact=True).select_option("disputed")
    expect(screen.cell.get_by_text("nothing to show here")).to_be_visible()
    assert journal.read()["item"].tolist() == ["0000", "0001", "0003"]


def test_cursor_keys_move_over_the_grid(notebook):
    screen = Screen(notebook)
    screen.tile("0000").click()
    columns = screen.columns()
    assert 1 < columns < 8
    screen.press("ArrowDown")
    screen.expect_selected(f"{columns:04d}")
    screen.press("ArrowRight", "ArrowUp", "ArrowLeft", "ArrowLeft")
    screen.expect_selected("0000")
    screen.press("End")
    screen.expect_selected("0013")
    screen.press("Home")
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


def test_ten_thousand_candidates_in_one_grid(notebook, lab_folder):
    notebook.run_cell(5)
    screen = Screen(notebook, cell=5)
    expect(screen.tile("m00000").locator("canvas")).to_be_visible()
    assert screen.tiles.count() < 100
    screen.tile("m00000").click()
    screen.press("End")
    screen.expect_selected("m09999")
    expect(screen.tile("m09999").locator("canvas")).to_be_visible()
    assert screen.tiles.count() < 100
    screen.press("d")
    # The next undecided one is the first.
    screen.expect_selected("m00000")
    screen.press("End")
    screen.expect_mark("m09999", "drop")
    screen.scroller.evaluate("scroller => { scroller.scrollTop = scroller.scrollHeight / 2; }")
    expect(screen.tile("m05000").locator("canvas")).to_be_visible()
    expect(screen.cell.locator(".fgvc-waiting")).to_have_count(0)
    middle = [int(tile.get_attribute("data-item")[1:]) for tile in screen.tiles.all()]
    assert 4500 < min(middle) and max(middle) < 5500
    latest = Journal(lab_folder / "decisions" / "many.csv").latest()
    assert latest["decision"].to_dict() == {"m09999": "drop"}


def test_fast_keys_each_meet_their_own_photo(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0000").click()
    pressed = ["k", "d", "d", "k", "d", "k", "k"]
    screen.press(*pressed)
    screen.expect_progress("decided 7 of 14")
    screen.expect_progress("looks a minute")
    lines = journal.read()
    assert lines["item"].tolist() == [f"{number:04d}" for number in range(7)]
    assert lines["decision"].str[0].tolist() == pressed


def test_another_reviewer_at_the_same_time(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0000").click()
    screen.press("k")
    screen.expect_mark("0000", "keep")
    journal.append("0000", "drop", reviewer="bob")
    journal.append("0002", "drop", reviewer="bob")
    screen.press("k")
    screen.expect_mark("0001", "keep")
    screen.expect_mark("0000", "keep ≠")
    screen.expect_mark("0002", "drop")
    screen.cell.get_by_label("show", exact=True).select_option("disputed")
    expect(screen.tiles).to_have_count(1)
    assert journal.latest()["decision"].to_dict() == {"0001": "keep", "0002": "drop"}


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
    screen.tile("0008").click()
    screen.press("k", "d")
    screen.expect_progress("decided 2 of 14")
    notebook.save()
    notebook.reload()
    screen = Screen(notebook)
    screen.expect_mark("0009", "drop")
    screen.expect_selected("0010")
    expect(screen.cell.locator(".fgvc-canvas canvas.fgvc-drawn")).to_have_count(12)
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
    expect(screen.tile("lilium").locator(".fgvc-more")).to_have_text("+2")
    screen.tile("lilium").click()
    screen.press("l")
    expect(notebook.page.locator(".fgvc-zoom .fgvc-photo")).to_have_count(12)
    picture(notebook, "look_closer")
    screen.press("Escape")
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
    screen.press("k", "d", "1")
    screen.expect_progress("decided 3 of 14")
    notebook.set_theme(theme)
    names = (".fgvc-caption", ".fgvc-hint", ".fgvc-key span", ".fgvc-name", ".fgvc-suggested")
    for name in (*names, ".fgvc-heading", ".fgvc-progress", ".fgvc-note", ".fgvc-label"):
        contrast = contrast_of(screen.cell.locator(name).last)
        assert contrast >= 4.5, f"{name} has contrast {contrast:.1f} in {theme}"
    picture(notebook, theme.replace(" ", "_"))
    notebook.run_cell(4)
    notebook.cell(4).scroll_into_view_if_needed()
    expect(notebook.cell(4).locator("img")).to_be_visible()
    picture(notebook, f"contact_sheet_{theme.split()[1]}")


def contrast_of(text) -> float:
    """The contrast of a locator's text, asked again while JupyterLab draws the page anew."""
    for _ in range(100):
        contrast = text.evaluate(CONTRAST)
        if contrast is not None:
            return contrast
        text.page.wait_for_timeout(100)
    raise AssertionError("the text has no colour")


# The contrast of an element's text to what lies behind it (WCAG 2.1; 4.5 is readable).
CONTRAST = """element => {
  // Taken out of the page, an element has no colour.
  if (!element.isConnected || !getComputedStyle(element).color) return null;
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
