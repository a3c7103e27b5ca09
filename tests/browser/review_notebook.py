"""The notebook with galleries that the browser tests work in, and a gallery as a person sees it."""

import os
from pathlib import Path

import nbformat
from PIL import Image, ImageDraw
from playwright.sync_api import expect

NASTY = "<img src=x onerror=\"document.title='broken'\"> & co"
LONG = "Lesser mountain fritillary of the far north"
CANDIDATES = """
import pandas as pd
from fgvc_utils.looking.gallery import Gallery
from fgvc_utils.contest.journal import Journal
from fgvc_utils.looking.sheets import contact_sheet
items = [f"{number:04d}" for number in range(14)]
captions = {"0001": NASTY, "0002": LONG + "\\np 0.31"}
suggestions = {"0002": [(LONG, 0.75), ("0007", 0.2)], "0003": []}
candidates = pd.DataFrame({
    "item": items,
    "image": [f"photos/{item}.jpg" for item in items],
    "caption": [captions.get(item, f"rose {item} · p 0.31") for item in items],
    "label": ["rose" if number % 2 else "0012" for number in range(14)],
    "suggestions": [
        suggestions.get(item, [("0012", 0.6), ("0007", 0.25), ("rose", 0.1)]) for item in items
    ],
    "sure": [number * 5 % 14 / 14 for number in range(14)],
})
names = ["rose", LONG, "0012", "0007", "Sea rocket", "Séneçon"]
names += [f"class {n}" for n in range(5000)]
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
OTHER = NASTY + " too"
nasty = pd.DataFrame({
    "item": [NASTY], "image": [f"photos/{NASTY}.jpg"], "caption": [NASTY], "label": [NASTY],
    "suggestions": [[(OTHER, 0.5)]],
})
for who in (NASTY, "bob"):
    Journal("decisions/nasty.csv").append(NASTY, "keep" if who == "bob" else NASTY, reviewer=who)
display(nasty, pd.DataFrame({"class": ["$x_1$"]}))
Gallery(nasty, Journal("decisions/nasty.csv"), {"k": "keep", "d": NASTY}, title=NASTY,
        reviewer=NASTY, classes=[OTHER], summary=lambda _: NASTY)
"""
LIKES = """
from types import SimpleNamespace
import numpy as np
from fgvc_utils.contest.following import Copies
from fgvc_utils.jobs.predictions import ShardWriter, finish_store
from fgvc_utils.looking.likes import Likes
table = candidates.assign(image_id=items, split="train", given="rose", group=items)
table.loc[3, "group"] = "0000"
turns = np.radians([0, 40, 10, 1, 30, 20, 50, 60, 70, 80, 90, 100, 110, 120])
writer = ShardWriter("features", 0, items)
writer.write("features", 0, np.stack([np.cos(turns), np.sin(turns)], 1).astype(np.float16))
writer.close()
finish_store("features", ["x"], 1)
Gallery(candidates, Journal("decisions/likes.csv"), choices, title="Like cases", reviewer="ann",
        classes=names, exemplars=exemplars, copies=Copies(table),
        likes=Likes(SimpleNamespace(store="features"), 3))
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


def write_review_notebook(folder: Path) -> None:
    """Write review.ipynb and its photos; two of the photos cannot be read."""
    (folder / "photos").mkdir()
    for number in range(14):
        photo = Image.new("RGB", (320, 240), f"hsl({number * 25}, 60%, 55%)")
        ImageDraw.Draw(photo).ellipse([60, 40, 260, 200], fill=f"hsl({number * 25}, 70%, 35%)")
        photo.save(folder / "photos" / f"{number:04d}.jpg")
    (folder / "photos" / "0005.jpg").unlink()
    (folder / "photos" / "0006.jpg").write_text("<html>gone</html>")
    cells = [f"NASTY, LONG = {NASTY!r}, {LONG!r}\n{CANDIDATES}", GALLERY, "1 + 1", ROWS]
    cells.append('contact_sheet(candidates, journal=Journal("decisions/02.csv"), title="So far")')
    cells.append(MANY)
    cells.append(LIKES)
    cells.append(NAMES)
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    nbformat.write(notebook, folder / "review.ipynb")


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

    def columns(self):
        tops = [
            tile.evaluate("tile => tile.getBoundingClientRect().top") for tile in self.tiles.all()
        ]
        return tops.count(tops[0])


def picture(notebook, name):
    """Keep a screenshot where the environment asks for it, to be looked at."""
    if folder := os.environ.get("FGVC_SCREENSHOTS"):
        notebook.page.screenshot(path=Path(folder) / f"{name}.png")
