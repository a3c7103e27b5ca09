"""A person decides in the gallery: by key, by mouse, in selections, over kernel restarts."""

from jupyterlab_driver import WINDOW
from playwright.sync_api import expect
from review_notebook import Screen, picture

from fgvc_utils.contest.journal import Journal


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
    expect(screen.tile("0000").locator(".fgvc-suggested")).to_have_text("unsure")
    expect(screen.tile("0001").locator(".fgvc-suggested")).to_have_text("→ 0012")
    expect(screen.tile("0001").locator(".fgvc-scores")).to_have_text("→ 0.60")
    expect(screen.tile("0005").locator(".fgvc-missing")).to_have_text("missing0005.jpg")
    expect(screen.tile("0006").locator(".fgvc-missing")).to_have_text("unreadable0006.jpg")
    # The sheet and the line for notebooks without a browser have gone.
    expect(screen.cell.get_by_text("open this notebook in JupyterLab")).to_have_count(0)
    expect(screen.cell.locator(".jp-RenderedImage")).to_have_count(0)


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
    screen.expect_progress("a minute")
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
    settled_and_decided_alike(notebook, Journal(journal.path.with_name("likes.csv")))


def settled_and_decided_alike(notebook, journal):
    """What others dispute comes first; copies follow; like cases are unticked, then decided."""
    journal.append("0009", "keep", reviewer="bob")
    journal.append("0009", "drop", reviewer="carla")
    cell = len(notebook.sources()) - 2
    notebook.run_cell(cell)
    screen = Screen(notebook, cell)
    likes = screen.cell.locator(".fgvc-like")
    expect(screen.tiles.first).to_have_attribute("data-item", "0009")
    screen.tile("0009").click()
    screen.press("d")
    screen.expect_mark("0009", "drop")
    # Of 0009 itself like cases are offered too; then 0000 is decided, whose copy is 0003.
    expect(likes).to_have_count(3)
    screen.tile("0000").click()
    screen.press("k")
    screen.expect_mark("0003", "↳ keep")
    expect(likes.nth(0)).to_have_attribute("data-item", "0002")
    expect(likes.nth(2)).to_have_attribute("data-item", "0004")
    # One photo of the three cannot be read, so it is not ticked.
    expect(screen.cell.locator(".fgvc-like canvas.fgvc-drawn")).to_have_count(2)
    expect(likes.nth(1)).to_have_attribute("aria-checked", "false")
    picture(notebook, "likes")
    likes.nth(0).click()
    expect(likes.nth(0)).to_have_attribute("aria-checked", "false")
    likes.nth(0).click()
    screen.cell.locator(".fgvc-take", has_text="keep: these 2").click()
    screen.expect_mark("0004", "keep")
    screen.expect_selected("0001")
    expect(likes).to_have_count(0)
    kept = dict.fromkeys(["0000", "0003", "0002", "0004"], "keep")
    assert journal.latest()["decision"].to_dict() == {"0009": "drop", **kept}
    assert journal.disagreements().empty
    screen.press("a")
    expect(screen.status).to_contain_text("nothing was decided")
    screen.press("u")
    screen.expect_mark("0004", "")
    screen.press("u")
    screen.expect_mark("0003", "")


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


def test_write_that_fails_is_shown(notebook, journal):
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
