"""What is seen of a gallery: names, suggestions, the zoom, the keys, narrow windows, themes."""

import pytest
from jupyterlab_driver import WINDOW
from playwright.sync_api import expect
from review_notebook import LONG, NASTY, Screen, picture


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
    expect(notebook.page.locator(".fgvc-found .fgvc-name").first).to_have_text(f"{NASTY} too")
    screen.press("Escape", "1")
    screen.expect_mark_contains(f"relabel → {NASTY} too")
    screen.press("z")
    expect(notebook.page.locator(".fgvc-zoom .fgvc-caption")).to_contain_text(NASTY)
    screen.press("Escape")
    assert notebook.page.locator("img[src=x]").count() == 0
    assert notebook.page.title() != "broken"
    # Of tables too, and no formula is set of them.
    expect(screen.cell.locator("td", has_text=NASTY[:40])).to_have_count(4)
    expect(screen.cell.locator("td", has_text="$x_1$")).to_have_text("$x_1$")
    assert screen.cell.locator("mjx-container").count() == 0


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


def test_zoom_shows_the_photo_and_keys_go_on(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0000").click()
    screen.press("z")
    zoomed = notebook.page.locator(".fgvc-zoom .fgvc-one canvas.fgvc-drawn")
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


def test_long_names_are_cut_in_the_middle_and_scores_stay_whole(notebook):
    screen = Screen(notebook)
    tile = screen.tile("0002")
    lines = tile.locator(".fgvc-line")
    expect(lines).to_have_text([LONG, f"→ {LONG}", "p 0.31 → 0.75"])
    # The names' heads are cut; their ends and the scores are within the tile.
    for number in (0, 1):
        head = lines.nth(number).locator(".fgvc-head")
        assert head.evaluate("head => head.scrollWidth > head.clientWidth > 0")
    frame = tile.bounding_box()
    whole = [lines.nth(number).locator(".fgvc-tail") for number in (0, 1, 2)]
    for part in [*whole, lines.nth(2).locator(".fgvc-head")]:
        assert part.evaluate("part => part.scrollWidth <= part.clientWidth || !part.clientWidth")
        box = part.bounding_box()
        assert frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]
    picture(notebook, "long_names")


def test_best_suggestion_that_is_the_given_label_says_unsure(notebook):
    screen = Screen(notebook)
    screen.tile("0000").click()
    expect(screen.panel.locator(".fgvc-suggestion em")).to_have_text(["unsure"])
    screen.tile("0001").click()
    expect(screen.panel.locator(".fgvc-suggestion em")).to_have_text(["(given)"])


def test_text_finds_every_suggested_class(notebook):
    screen = Screen(notebook)
    text = screen.cell.get_by_label("narrow to a text")
    text.fill("0007")
    text.press("Enter")
    # The second suggestion of all but 0003, and the name of one of them.
    expect(screen.tiles).to_have_count(13)
    text.fill("far north")
    text.press("Enter")
    expect(screen.tiles).to_have_count(1)


def test_zoom_keeps_the_suggestions_and_their_keys(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0001").click()
    screen.press("z")
    zoomed = notebook.page.locator(".fgvc-zoom .fgvc-one canvas.fgvc-drawn")
    suggestions = notebook.page.locator(".fgvc-zoom .fgvc-suggestion")
    expect(zoomed).to_have_attribute("aria-label", "0001.jpg")
    expect(suggestions).to_have_count(3)
    expect(suggestions.first).to_contain_text("0012")
    picture(notebook, "zoom_with_suggestions")
    screen.press("2")
    screen.expect_mark("0001", "relabel → 0007")
    # It goes on to the next photo and stays open; a click takes a suggestion, too.
    expect(zoomed).to_have_attribute("aria-label", "0002.jpg")
    expect(suggestions).to_have_count(2)
    suggestions.first.click()
    screen.expect_mark("0002", f"relabel → {LONG}")
    expect(zoomed).to_have_attribute("aria-label", "0003.jpg")
    screen.press("Escape")
    assert journal.latest()["label"].to_dict() == {"0001": "0007", "0002": LONG}


def test_question_mark_lists_the_keys_and_decides_nothing(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0000").click()
    screen.press("?")
    listed = notebook.page.locator(".fgvc-help .fgvc-binding")
    buttons = screen.cell.locator(".fgvc-keys .fgvc-key")
    shown = [row.text_content() for row in listed.all()]
    # Buttons and the line of help are made of the same list.
    assert [button.text_content() for button in buttons.all()] == shown[: buttons.count()]
    hint = screen.cell.locator(".fgvc-keys .fgvc-hint").text_content()
    assert all(part.replace(" ", "") in "".join(shown).replace(" ", "") for part in hint.split("·"))
    assert {"arrowsmove", "zzoom", "?all keys", "ctrl achoose all"} <= set(shown)
    picture(notebook, "keys")
    screen.press("d")
    expect(listed).to_have_count(0)
    screen.press("?", "Escape", "k")
    screen.expect_mark("0000", "keep")
    assert journal.read()["decision"].tolist() == ["keep"]


def test_narrow_gallery_stacks(notebook, journal):
    screen = Screen(notebook)
    screen.tile("0001").click()
    expect(screen.panel.locator(".fgvc-suggestion")).to_have_count(3)
    grid, panel = screen.scroller.bounding_box(), screen.panel.bounding_box()
    assert panel["x"] >= grid["x"] + grid["width"] - 1
    notebook.page.set_viewport_size({"width": 1200, "height": 900})
    picture(notebook, "at_1200")
    notebook.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    notebook.page.set_viewport_size({"width": 420, "height": 900})
    notebook.page.wait_for_timeout(500)
    screen.tile("0001").scroll_into_view_if_needed()
    grid, panel = screen.scroller.bounding_box(), screen.panel.bounding_box()
    picture(notebook, "at_420")
    assert grid["width"] < 450
    assert panel["y"] >= grid["y"] + grid["height"] - 1
    # Nothing hangs out to the right, and a photo is as large as ever.
    frame = screen.cell.locator(".fgvc-gallery").bounding_box()
    for part in (".fgvc-top", ".fgvc-keys", ".fgvc-order", ".fgvc-body", ".fgvc-panel"):
        assert screen.cell.locator(part).evaluate("part => part.scrollWidth <= part.clientWidth")
        box = screen.cell.locator(part).bounding_box()
        assert box["x"] + box["width"] <= frame["x"] + frame["width"]
    screen.press("2")
    screen.expect_mark("0001", "relabel → 0007")
    screen.press("z")
    suggestions = notebook.page.locator(".fgvc-zoom .fgvc-suggestion")
    expect(suggestions.first).to_be_in_viewport()
    picture(notebook, "zoom_at_420")
    screen.press("Escape", "?")
    picture(notebook, "keys_at_420")
    screen.press("Escape")
    notebook.page.set_viewport_size(WINDOW)


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
