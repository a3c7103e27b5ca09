"""Draw the pictures of docs/runs.md: python docs/make_run_pages.py [RUN OTHER].

Writes the page of a finished run and the comparison with another one, by default outputs/demo and
outputs/demo-2, and takes pictures of their heads in a browser: docs/run-page.png and
docs/compare-page.png. The pages are written to a folder of their own; the runs stay as they are.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from fgvc_utils.contest.places import PROJECT
from fgvc_utils.pages import run_page
from fgvc_utils.pages.compare_page import compare, write_comparison
from fgvc_utils.pages.runs import find_run
from fgvc_utils.pipeline.run_page import stage_facts

sys.path.insert(0, str(PROJECT / "tests/browser"))
from jupyterlab_driver import browser_page, find_browser  # noqa: E402

WINDOW = {"width": 1120, "height": 900}
# How much of each page is shown, in pixels: from its head, and where a part begins.
PARTS = {
    "run-page": [("h1", 2100), ("#models", 610)],
    "compare-page": [("h1", 1430), ("#models", 420)],
}
BETWEEN = 6


def pictures_of(page: Page, parts: list[tuple[str, int]]) -> Image.Image:
    """The parts of a page one below the other; each begins at an element and has a height."""
    shots = []
    for selector, height in parts:
        box = page.locator(selector).bounding_box()
        top = max(box["y"] - 24, 0)
        whole = page.evaluate("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": top, "width": WINDOW["width"], "height": min(height, whole - top)}
        shots.append(Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip))))
    height = sum(shot.height for shot in shots) + BETWEEN * (len(shots) - 1)
    sheet, y = Image.new("RGB", (WINDOW["width"], height), "#9aa4ad"), 0
    for shot in shots:
        sheet.paste(shot, (0, y))
        y += shot.height + BETWEEN
    return sheet


def main() -> None:
    """Write both pictures."""
    names = sys.argv[1:] or ["demo", "demo-2"]
    facts = stage_facts()
    one, other = (find_run(name, facts) for name in names)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        place = Path(folder)
        pages = {
            "run-page": run_page.write_page(one, path=place / "run.html"),
            "compare-page": write_comparison(
                one, other, compare(one, other), place / "compare.html"
            ),
        }
        with browser_page(driver, find_browser(), place / "profile") as page:
            page.set_viewport_size(WINDOW)
            for name, file in pages.items():
                page.goto(file.as_uri())
                picture = pictures_of(page, PARTS[name]).quantize(256)
                picture.save(PROJECT / "docs" / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
