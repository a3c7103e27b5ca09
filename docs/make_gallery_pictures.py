"""Draw the README's pictures of the galleries: python docs/make_gallery_pictures.py.

Opens the cleaning notebooks over a finished demo run in a JupyterLab of their own, decides a little
in each gallery as a person would, and writes docs/gallery-*.png. The run's own journals stay as
they are: the notebooks work on a copy of the run.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from PIL import Image
from playwright.sync_api import sync_playwright

from fgvc_utils.contest import places
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
WIDTH = 900


def copy_run(folder: Path) -> None:
    """The demo's run without its decisions; the cache of photos is linked."""
    run = PROJECT / "outputs" / "demo"
    if not (run / "report.json").is_file():
        sys.exit(f"{run} is not a finished run: make demo first")
    shutil.copytree(run, folder / "demo", ignore=shutil.ignore_patterns("decisions"))
    (folder / "cache").symlink_to(PROJECT / "outputs" / "cache")


def write_notebook(stage: str, folder: Path) -> None:
    notebook = load_notebook_node(str(PROJECT / "notebooks" / f"{stage}.ipynb"))
    steps = read_contest(PROJECT / "params" / "demo.yaml")
    (step,) = [step for step in steps if step.stage == stage]
    parameters = step.cfg.model_dump(mode="json") | {"outputs": str(folder)}
    nbformat.write(parameterize_notebook(notebook, parameters), folder / f"{stage}.ipynb")


def draw(page, server, stage: str, acts: list[tuple[int, str | None]], target: Path) -> None:
    """Run a notebook up to its gallery, act in it, and take its picture."""
    notebook = OpenNotebook(page, server, f"{stage}.ipynb")
    cell = next(i for i, text in enumerate(notebook.sources()) if "review = Gallery(" in text)
    for number in range(cell + 1):
        notebook.run_cell(number)
    gallery = notebook.cell(cell).locator(".fgvc-gallery")
    gallery.locator(".fgvc-drawn").first.wait_for()
    items = [one.get_attribute("data-item") for one in gallery.locator(".fgvc-tile").all()]
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


def main() -> None:
    browser = find_browser()
    if browser is None:
        sys.exit("no Chromium is installed (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        folder = Path(name)
        copy_run(folder)
        for stage in ACTS:
            write_notebook(stage, folder)
        with jupyterlab(folder, folder / ".jupyter") as server:
            profile = folder / ".profile"
            with browser_page(driver, browser, profile) as page:
                for stage, acts in ACTS.items():
                    target = Path(__file__).with_name(f"gallery-{stage}.png")
                    draw(page, server, stage, acts, target)
                    print(target.name, flush=True)


if __name__ == "__main__":
    main()
