"""The gallery in a real JupyterLab and Chromium, beside fastai's cleaner and a grid of ipywidgets.

`python benchmarks/gallery.py [--sizes 100 1000 10000]` measures, for each number of candidates: the
seconds from running the cell to the first screen of photos, the milliseconds from a key (a click
for the grid of widgets) to the line in the journal, what the server sends to the page, and what
the browser's memory grows by, after the first screen and after scrolling through all.

fastai's cleaner keeps its marks in the browser until code asks for them, so there is no line to
wait for; it shows `max_n` images of one class and set. The time to its first screen includes
predicting all images, which is listed apart as well. A grid of widgets is measured up to the size
that opens. Last line: JSON.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pandas as pd
import psutil
from playwright.sync_api import Error, Page, sync_playwright

from fgvc_utils.contest import images, listing
from fgvc_utils.contest.journal import Journal
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.demo.drawing import TINY, draw_demo

sys.path.insert(0, str(PROJECT / "tests/browser"))
from jupyterlab_driver import OpenNotebook, browser_page, find_browser, jupyterlab  # noqa: E402

# What each kind is tried with: more than this it could not hold when it was tried.
MOST = {"gallery": 10**9, "grid of widgets": 1000, "fastai cleaner": 1000}
KEYS = 20
MEGA = 2**20

LIST = """
import pandas as pd
from fgvc_utils.contest.journal import Journal
files = sorted(str(path) for path in __import__("pathlib").Path("photos").iterdir())[:COUNT]
candidates = pd.DataFrame({
    "item": [f"{n:05d}" for n in range(COUNT)], "image": files,
    "caption": [f"class {n % 500}  p 0.{n % 100:02d}" for n in range(COUNT)],
})
journal = Journal("decisions.csv")
"""
CELLS = {
    "gallery": [
        LIST + "from fgvc_utils.looking.gallery import Gallery",
        'Gallery(candidates, journal, {"k": "keep", "d": "drop"}, title="Which stay?")',
    ],
    "grid of widgets": [
        LIST
        + "import io, ipywidgets as widgets\nfrom fgvc_utils.looking.thumbnails import Thumbnails\n"
        "def tile(row):\n"
        "    jpeg = Thumbnails().jpeg(row.image, 128)[0]\n"
        "    button = widgets.ToggleButton(description='drop')\n"
        "    button.observe(lambda change: journal.append(row.item, 'drop'), 'value')\n"
        "    return widgets.VBox([widgets.Image(value=jpeg, format='jpeg', width=128), button])",
        "widgets.GridBox([tile(row) for row in candidates.itertuples()],\n"
        "    layout=widgets.Layout(grid_template_columns='repeat(5, 150px)', max_height='600px'))",
    ],
    "fastai cleaner": [
        LIST + "import time, torch\n"
        "from fastai.vision.all import *\n"
        "from fastai.vision.widgets import ImageClassifierCleaner\n"
        "block = DataBlock(blocks=(ImageBlock, CategoryBlock), get_items=lambda files: files,\n"
        "    get_y=lambda file: 'one', splitter=IndexSplitter([0]),\n"
        "    item_tfms=Resize(64))\n"
        "block.get_y = lambda file: 'one' if str(file)[-5] != '0' else 'two'\n"
        "loaders = block.dataloaders([Path(f) for f in files], bs=32, num_workers=0)\n"
        "net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))\n"
        "learn = Learner(loaders, net, loss_func=CrossEntropyLossFlat())\n"
        "begun = time.monotonic()\n"
        "with learn.no_bar():\n    learn.get_preds(ds_idx=0)\n"
        "print(time.monotonic() - begun)",
        "with learn.no_bar():\n    cleaner = ImageClassifierCleaner(learn, max_n=COUNT)\ncleaner",
    ],
}
# Photos in the cell's output that the browser has decoded.
READY = """count => {
  const cell = window.jupyterapp.shell.currentWidget.content.widgets[1].node;
  const photos = [...cell.querySelectorAll('.jp-OutputArea img')];
  const decoded = photos.filter((photo) => photo.complete && photo.naturalWidth > 0);
  return decoded.length + cell.querySelectorAll('.fgvc-drawn').length >= count;
}"""


def draw_photos(folder: Path, count: int) -> None:
    """As many files as there are candidates: the cache of a small drawn set, linked many times."""
    root = folder / "drawn"
    draw_demo(root, **TINY)
    listed = listing.list_images(root, "train", "test")
    taken = images.take_in(listed, root, folder / "cache", 260)
    files = [folder / "cache" / name for name in taken["cached"] if name]
    (folder / "photos").mkdir()
    for number in range(count):
        os.link(files[number % len(files)], folder / "photos" / f"{number:05d}.jpg")


def write_notebook(folder: Path, kind: str, count: int) -> str:
    cells = [nbformat.v4.new_code_cell(text.replace("COUNT", str(count))) for text in CELLS[kind]]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    name = f"{kind.replace(' ', '-')}-{count}.ipynb"
    nbformat.write(notebook, folder / name)
    return name


class Received:
    """Bytes that the page has got over its web sockets."""

    def __init__(self, page: Page):
        self.bytes = 0
        page.on("websocket", lambda socket: socket.on("framereceived", self._add))

    def _add(self, payload: str | bytes) -> None:
        self.bytes += len(payload)


def browser_memory(page: Page) -> dict[str, float]:
    """Memory after a collection, in MiB: all of the browser's processes, and JavaScript's heap."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = session.send("Performance.getMetrics")["metrics"]
    heap = {one["name"]: one["value"] for one in metrics}["JSHeapUsedSize"]
    session.detach()
    processes = [
        process
        for process in psutil.Process().children(recursive=True)
        if "chrom" in process.name()
    ]
    unique = sum(process.memory_full_info().uss for process in processes)
    return {"browser": unique / MEGA, "heap": heap / MEGA}


def until(condition, seconds: float = 10) -> float:
    """Wait for a condition; returns the seconds it took."""
    begun = time.perf_counter()
    while not condition():
        if time.perf_counter() - begun > seconds:
            raise TimeoutError("nothing came")
        time.sleep(0.0005)
    return time.perf_counter() - begun


def key_to_journal(page: Page, journal: Journal, press) -> float:
    """Median milliseconds from a key or click to its line on the disk."""
    taken = []
    for number in range(KEYS):
        before = journal.size()
        begun = time.perf_counter()
        press(number)
        until(lambda size=before: journal.size() > size)
        taken.append(1000 * (time.perf_counter() - begun))
        page.wait_for_timeout(150)
    return statistics.median(taken)


def scroll_through(page: Page) -> None:
    """Scroll from the first to the last candidate, and wait for the photos at each stop."""
    scroller = page.locator(".fgvc-scroller")
    height = scroller.evaluate("one => one.scrollHeight")
    step = 4 * scroller.evaluate("one => one.clientHeight")
    for top in [*range(0, height, step), height]:
        scroller.evaluate("(one, top) => { one.scrollTop = top; }", top)
        page.wait_for_function("() => !document.querySelector('.fgvc-waiting')")


def measure(driver, browser: str, server, folder: Path, kind: str, count: int) -> dict:
    """One kind of gallery with one number of candidates, in a browser of its own."""
    journal = Journal(folder / "decisions.csv")
    journal.path.unlink(missing_ok=True)
    row = {"kind": kind, "candidates": count}
    with (
        tempfile.TemporaryDirectory() as profile,
        browser_page(driver, browser, Path(profile)) as page,
    ):
        received = Received(page)
        notebook = OpenNotebook(page, server, write_notebook(folder, kind, count))
        notebook.run_cell(0)
        before, sent = browser_memory(page), received.bytes
        begun = time.perf_counter()
        notebook.start_cell(1)
        wanted = min(10, count)
        page.wait_for_function(READY, arg=wanted, timeout=120_000, polling=20)
        row["first_screen_s"] = time.perf_counter() - begun
        notebook.wait_until_idle()
        page.wait_for_timeout(500)
        row["first_screen_mb_sent"] = (received.bytes - sent) / MEGA
        after = browser_memory(page)
        row["browser_mb"] = after["browser"] - before["browser"]
        row["heap_mb"] = after["heap"] - before["heap"]
        if kind == "fastai cleaner":
            row["of_it_predicting_s"] = float(notebook.outputs(0)[-1]["text"])
        elif kind == "gallery":
            page.locator(".fgvc-tile").first.click()
            press = lambda number: page.keyboard.press("kd"[number % 2])  # noqa: E731
            row["key_to_journal_ms"] = key_to_journal(page, journal, press)
            scroll_through(page)
            after = browser_memory(page)
            row["browser_mb_scrolled"] = after["browser"] - before["browser"]
            row["heap_mb_scrolled"] = after["heap"] - before["heap"]
            row["mb_sent"] = (received.bytes - sent) / MEGA
        else:
            buttons = page.locator(".jp-OutputArea button.jupyter-button")
            press = lambda number: buttons.nth(number).click()  # noqa: E731
            row["key_to_journal_ms"] = key_to_journal(page, journal, press)
        notebook.shut_down_kernel()
    return row


@contextmanager
def workplace(most: int):
    """A folder with photos and a JupyterLab on it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_photos(folder, most)
        private = folder / ".jupyter"
        private.mkdir()
        with jupyterlab(folder, private) as server:
            yield folder, server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[100, 1000, 10_000])
    given = parser.parse_args()
    browser = find_browser()
    if browser is None:
        sys.exit("no Chromium is installed (Debian: apt-get install chromium)")
    rows = []
    with workplace(max(given.sizes)) as (folder, server), sync_playwright() as driver:
        for kind in CELLS:
            for count in [size for size in given.sizes if size <= MOST[kind]]:
                try:
                    rows.append(measure(driver, browser, server, folder, kind, count))
                except (Error, TimeoutError, AssertionError) as problem:
                    rows.append({"kind": kind, "candidates": count, "failed": str(problem)[:60]})
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows).set_index(["kind", "candidates"])
    with pd.option_context("display.width", 250, "display.max_columns", 20):
        print(table.round(2).to_string())
    ours = table.loc["gallery"]
    names = ("first_screen_s", "key_to_journal_ms", "browser_mb", "browser_mb_scrolled")
    line = {name: {str(n): round(float(v), 2) for n, v in ours[name].items()} for name in names}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
