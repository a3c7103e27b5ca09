"""Draw the pictures of the galleries: python docs/make_gallery_pictures.py.

Opens the cleaning notebooks over a finished demo run in a JupyterLab of their own, decides a little
in each gallery as a person would, and writes docs/gallery-*.png and the moving docs/gallery.webp.
The run's own journals stay as they are: the notebooks work on a copy of the run.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from PIL import Image, ImageDraw
from playwright.sync_api import Locator, sync_playwright

from fgvc_utils.contest import places
from fgvc_utils.looking.sheets import font
from fgvc_utils.pipeline.contest_file import read_contest

PROJECT = places.PROJECT
sys.path.insert(0, str(PROJECT / "tests/browser"))
from jupyterlab_driver import OpenNotebook, browser_page, find_browser, jupyterlab  # noqa: E402

# What is pressed before the picture is taken, after a click on the tile of that number.
ACTS = {
    "01_noise": [(0, "n"), (1, "n"), (2, "n"), (3, "n")],
    "03_fine": [(0, "1"), (1, "k"), (2, "2"), (3, None)],
    "04_lowq": [(0, "d"), (1, "k"), (2, None)],
}
MOVING = "03_fine"
WIDTH, MOVING_WIDTH = 900, 820
# The window that makes the moving picture's gallery about as wide as the picture.
MOVING_WINDOW = {"width": 1010, "height": 900}
BAR = 34


def copy_run(folder: Path) -> None:
    """The demo's run without its decisions; the cache of photos is linked."""
    run = PROJECT / "outputs" / "demo"
    if not (run / "report.json").is_file():
        sys.exit(f"{run} is not a finished run: make demo first")
    shutil.copytree(run, folder / "demo", ignore=shutil.ignore_patterns("decisions"))
    (folder / "cache").symlink_to(PROJECT / "outputs" / "cache")


def write_notebook(stage: str, folder: Path) -> None:
    """A stage's notebook with the demo's parameters, over the copy of the run."""
    notebook = load_notebook_node(str(PROJECT / "notebooks" / f"{stage}.ipynb"))
    steps = read_contest(PROJECT / "params" / "demo.yaml")
    (step,) = [step for step in steps if step.stage == stage]
    parameters = step.cfg.model_dump(mode="json") | {"contest": "", "outputs": str(folder)}
    nbformat.write(parameterize_notebook(notebook, parameters), folder / f"{stage}.ipynb")


def run_to_gallery(page, server, stage: str) -> tuple[OpenNotebook, Locator]:
    """Run a notebook up to its gallery; returns both once the first photos are drawn."""
    notebook = OpenNotebook(page, server, f"{stage}.ipynb")
    cell = next(i for i, text in enumerate(notebook.sources()) if "review = Gallery(" in text)
    for number in range(cell + 1):
        notebook.run_cell(number)
    gallery = notebook.cell(cell).locator(".fgvc-gallery")
    gallery.locator(".fgvc-drawn").first.wait_for()
    return notebook, gallery


def items_of(gallery: Locator) -> list[str]:
    return [one.get_attribute("data-item") for one in gallery.locator(".fgvc-tile").all()]


def draw(page, server, stage: str, acts: list[tuple[int, str | None]], target: Path) -> None:
    """Act in a stage's gallery and take its picture."""
    notebook, gallery = run_to_gallery(page, server, stage)
    items = items_of(gallery)
    for place, key in acts:
        gallery.locator(f'.fgvc-tile[data-item="{items[place]}"]').click()
        if key:
            page.keyboard.press(key)
            page.wait_for_timeout(400)
    page.wait_for_timeout(1500)
    gallery.screenshot(path=target)
    with Image.open(target) as picture:
        small = picture.convert("RGB")
    small.thumbnail((WIDTH, WIDTH))
    small.quantize(256).save(target, optimize=True)
    notebook.shut_down_kernel()


class Film:
    """Pictures of a gallery, one after another, each with a line that says what is done."""

    def __init__(self, page, gallery: Locator):
        self._page = page
        self._gallery = gallery
        self._pictures: list[Image.Image] = []
        self._milliseconds: list[int] = []

    def take(self, text: str, milliseconds: int, wait: int = 400) -> None:
        """Take a picture after `wait` milliseconds; the film shows it for `milliseconds`."""
        self._page.wait_for_timeout(wait)
        shot = Image.open(io.BytesIO(self._gallery.screenshot())).convert("RGB")
        height = round(shot.height * MOVING_WIDTH / shot.width)
        made = Image.new("RGB", (MOVING_WIDTH, height + BAR), "#1a1a1a")
        made.paste(shot.resize((MOVING_WIDTH, height), Image.Resampling.LANCZOS))
        pen = ImageDraw.Draw(made)
        pen.text((12, height + BAR / 2), text, fill="white", font=font(16), anchor="lm")
        self._pictures.append(made)
        self._milliseconds.append(milliseconds)

    def save(self, target: Path) -> None:
        first, *others = self._pictures
        first.save(
            target,
            save_all=True,
            append_images=others,
            duration=self._milliseconds,
            loop=0,
            quality=72,
            method=6,
        )


def film(page, server, target: Path) -> None:
    """Choose, decide by key, take a suggestion, decide on several at once, and undo."""
    page.set_viewport_size(MOVING_WINDOW)
    notebook, gallery = run_to_gallery(page, server, MOVING)
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.wait_for_timeout(500)
    items = items_of(gallery)

    def tile(place: int) -> Locator:
        return gallery.locator(f'.fgvc-tile[data-item="{items[place]}"]')

    made = Film(page, gallery)
    made.take("03: is the given label right? The likeliest errors come first.", 1200, wait=1500)
    tile(0).click()
    made.take("A click or the arrows choose a photo. Right: what else it may be", 1200)
    page.keyboard.press("1")
    made.take("1  takes the first suggestion, and the next photo is chosen", 1100)
    page.keyboard.press("k")
    made.take("k  keeps the given label", 800)
    page.keyboard.press("2")
    made.take("2  takes the second suggestion", 800)
    page.keyboard.press("d")
    made.take("d  drops the photo", 800)
    _drag(page, tile(4), tile(6), lambda: made.take("The mouse chooses several", 350, wait=100))
    page.keyboard.press("d")
    made.take("d  drops them all", 1000)
    page.keyboard.press("u")
    made.take("u  takes it back; each decision is a line in the journal", 1500)
    made.save(target)
    notebook.shut_down_kernel()


def _drag(page, first: Locator, last: Locator, picture) -> None:
    """Drag from one tile to another; `picture` is called on the way."""
    begin, end = first.bounding_box(), last.bounding_box()
    page.mouse.move(begin["x"] + 30, begin["y"] + 30)
    page.mouse.down()
    for step in (0.4, 0.8, 1):
        x = begin["x"] + 30 + step * (end["x"] + 90 - begin["x"] - 30)
        y = begin["y"] + 30 + step * (end["y"] + 90 - begin["y"] - 30)
        page.mouse.move(x, y, steps=4)
        picture()
    page.mouse.up()


def main() -> None:
    browser = find_browser()
    if browser is None:
        sys.exit("no Chromium is installed (Debian: apt-get install chromium)")
    docs = Path(__file__).parent
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        folder = Path(name)
        copy_run(folder)
        for stage in ACTS:
            write_notebook(stage, folder)
        with jupyterlab(folder, folder / ".jupyter") as server:
            with browser_page(driver, browser, folder / ".profile") as page:
                for stage, acts in ACTS.items():
                    draw(page, server, stage, acts, docs / f"gallery-{stage}.png")
                    print(f"gallery-{stage}.png", flush=True)
                # The stills' decisions are not to be seen in the film.
                shutil.rmtree(folder / "demo" / "decisions")
                film(page, server, docs / "gallery.webp")
                print("gallery.webp", flush=True)


if __name__ == "__main__":
    main()
