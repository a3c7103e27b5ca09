"""A person opens the notebooks in JupyterLab, decides in the galleries, and trains."""

import re
from pathlib import Path

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from playwright.sync_api import expect
from tiny_contest import PROJECT, TINY_CONTEST, copy_of, environment

from fgvc_utils.contest import tables
from fgvc_utils.contest.following import Copies
from fgvc_utils.contest.journal import Journal

CLEANING = ("01_noise", "02_coarse", "03_fine", "04_lowq")
SHARED = ("run", "data_root", "cache_side")
TRAINING = TINY_CONTEST["10_train"][0] | {"rate_sweep_steps": 0, "test_ratios": []}


@pytest.fixture(scope="module")
def lab_folder(finished_contest, tmp_path_factory):
    """The cleaning notebooks and 10 with the tiny contest's parameters, over a cleaned run."""
    contest = {
        name: part
        for name, part in TINY_CONTEST.items()
        if name in CLEANING or not isinstance(part, list | dict)
    }
    folder = tmp_path_factory.mktemp("review") / "copy"
    # No model is there yet, so that 10 trains.
    copy_of(finished_contest, folder, contest, ("models", "ensemble"))
    for stage, own in {**{name: contest[name] for name in CLEANING}, "10_train": TRAINING}.items():
        notebook = load_notebook_node(str(PROJECT / "notebooks" / f"{stage}.ipynb"))
        known = notebook.cells[2].source
        shared = {name: contest[name] for name in SHARED if f"\n{name}: " in f"\n{known}"}
        parameters = shared | own | {"contest": "", "outputs": str(folder / "outputs")}
        nbformat.write(parameterize_notebook(notebook, parameters), folder / f"{stage}.ipynb")
    return folder


@pytest.fixture(scope="module")
def lab_environment(lab_folder):
    return environment(lab_folder)


class Chair:
    """One stage's notebook, run up to its first gallery."""

    def __init__(self, open_notebook, folder: Path, stage: str):
        self.notebook = open_notebook(f"{stage}.ipynb")
        self.journal = Journal(folder / "outputs/tiny/decisions" / f"{stage}.csv")
        self.table_path = folder / "outputs/tiny/tables" / f"{stage}.parquet"
        sources = self.notebook.sources()
        self.gallery = next(i for i, text in enumerate(sources) if "review = Gallery(" in text)
        for number in range(self.gallery + 1):
            self.notebook.run_cell(number)
        self.tiles = self.notebook.cell(self.gallery).locator(".fgvc-tile")
        # The cell is done before the page has drawn what it shows.
        expect(self.tiles.first).to_be_visible()
        waiting = self.notebook.cell(self.gallery).locator(".fgvc-tile.fgvc-waiting")
        expect(waiting).to_have_count(0)

    def tile(self, place: int | str):
        """A tile by place or item."""
        if isinstance(place, int):
            place = self.tiles.nth(place).get_attribute("data-item")
        return self.notebook.cell(self.gallery).locator(f'.fgvc-tile[data-item="{place}"]')

    def press(self, place: int | str, key: str, decision: str) -> str:
        """Click a tile, press a key, wait for its mark; returns the item."""
        tile = self.tile(place)
        item = tile.get_attribute("data-item")
        tile.click()
        self.notebook.page.keyboard.press(key)
        expect(tile.locator(".fgvc-mark")).to_have_text(re.compile(rf"^{decision}"))
        return item

    def finish(self):
        """Run the cells after the gallery; returns the stage's table by image."""
        for number in range(self.gallery + 1, self.notebook.cell_count()):
            self.notebook.run_cell(number)
        return tables.read_table(self.table_path).set_index("image_id")


def test_picks_in_01_train_the_noise_model(open_notebook, lab_folder):
    chair = Chair(open_notebook, lab_folder, "01_noise")
    items = [tile.get_attribute("data-item") for tile in chair.tiles.all()]
    noise = {chair.press(item, "n", "noise") for item in items[:4]}
    # The last ones by the mouse alone, as one selection.
    chair.tile(items[-4]).click()
    chair.tile(items[-1]).click(modifiers=["Shift"])
    chair.notebook.cell(chair.gallery).locator(".fgvc-key", has_text="normal").click()
    expect(chair.tile(items[-1]).locator(".fgvc-mark")).to_have_text("normal")
    chair.notebook.page.keyboard.press("u")
    expect(chair.tile(items[-1]).locator(".fgvc-mark")).to_have_text("")
    chair.notebook.page.keyboard.press("Shift+U")
    expect(chair.tile(items[-1]).locator(".fgvc-mark")).to_have_text("normal")
    table = chair.finish()
    by_hand = table["by"] == "human"
    # A pick counts for the copies too.
    copies = Copies(table.reset_index())
    for cause, picked in (("noise", noise), ("normal", set(items[-4:]))):
        followed = {copy for item in picked for copy in copies.of(item)}
        decided = set(table.index[by_hand & (table["cause"] == cause)])
        assert picked <= decided <= picked | followed
    assert set(chair.journal.latest().index) == set(table.index[by_hand])
    by_rule = table[(table["by"] == "rule") & (table["cause"] == "noise")]
    assert by_rule["reason"].str.endswith("(picked by hand)").all()


# 02 is the same notebook as 03, with other parameters.
@pytest.mark.parametrize("stage", [pytest.param("02_coarse", marks=pytest.mark.long), "03_fine"])
def test_labels_are_kept_taken_and_searched_and_outlive_the_kernel(
    open_notebook, lab_folder, stage
):
    chair = Chair(open_notebook, lab_folder, stage)
    items = [tile.get_attribute("data-item") for tile in chair.tiles.all()]
    kept = chair.press(items[0], "k", "keep")
    taken = chair.press(items[1], "1", "relabel")
    chair.tile(items[2]).click()
    page = chair.notebook.page
    page.keyboard.press("/")
    wanted = tables.classes_of(tables.read_table(chair.table_path))[-1]
    page.locator(".fgvc-input").press_sequentially(wanted)
    expect(page.locator(".fgvc-search .fgvc-hit").first).to_have_text(wanted)
    page.keyboard.press("Enter")
    expect(chair.tile(items[2]).locator(".fgvc-mark")).to_have_text(f"relabel → {wanted}")

    kill_kernel(chair.notebook)
    again = Chair(open_notebook, lab_folder, stage)
    expect(again.tile(kept).locator(".fgvc-mark")).to_have_text("keep")
    expect(again.tile(items[2]).locator(".fgvc-mark")).to_have_text(f"relabel → {wanted}")
    assert again.notebook.cell(again.gallery).locator(".fgvc-selected").get_attribute(
        "data-item"
    ) not in {kept, taken, items[2]}
    table = again.finish()
    assert table.loc[kept, ["status", "by", "cause"]].tolist() == ["keep", "human", "confirmed"]
    assert table.loc[items[2], ["status", "label"]].tolist() == ["keep", wanted]
    row = table.loc[taken]
    assert (row["status"], row["by"], row["cause"]) == ("keep", "human", "relabelled")
    assert row["label"] == chair.journal.latest().loc[taken, "label"]
    assert chair.journal.read()["shown"].str.match("(drop|relabel): |↳ copy of ").all()


def kill_kernel(notebook):
    """End the kernel's process as a crash would, and wait until JupyterLab has seen it."""
    notebook.run_code("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    notebook.wait_until_idle()


def test_a_class_is_dropped_in_04(open_notebook, lab_folder):
    chair = Chair(open_notebook, lab_folder, "04_lowq")
    before = tables.read_table(chair.table_path.with_name("03_fine.parquet"))
    shown = [tile.get_attribute("data-item") for tile in chair.tiles.all()]
    living = set(before.loc[tables.kept(before), "label"])
    dropped = next(label for label in shown if label in living)
    chair.tile(dropped).click()
    page = chair.notebook.page
    page.keyboard.press("l")
    of_class = before[(before["given"] == dropped) & (before["stage"] != "01_noise")]
    expect(page.locator(".fgvc-zoom canvas")).to_have_count(len(of_class))
    page.keyboard.press("Escape")
    chair.press(dropped, "d", "drop")
    table = chair.finish()
    of_class = table[(table["label"] == dropped) & (table["split"] == "train")]
    assert (of_class["status"] == "drop").all()
    assert ("human", "small_class") in set(zip(of_class["by"], of_class["cause"], strict=True))


def test_the_curves_grow_while_10_trains(open_notebook):
    notebook = open_notebook("10_train.ipynb")
    sources = notebook.sources()
    training = next(i for i, text in enumerate(sources) if "plots.live_curves" in text)
    for number in range(training):
        notebook.run_cell(number)
    notebook.start_cell(training)
    cell = notebook.cell(training)
    expect(cell.locator("progress")).to_be_visible(timeout=60_000)
    picture = cell.locator("img")
    expect(picture).to_be_visible(timeout=120_000)
    first = picture.get_attribute("src")
    # Another picture in the same place, before the training is done.
    expect(picture).not_to_have_attribute("src", first, timeout=60_000)
    assert "done in" not in cell.inner_text()
    notebook.wait_until_idle()
    expect(cell).to_contain_text("one: done in")
    assert picture.count() == 1
    for number in range(training + 1, notebook.cell_count()):
        notebook.run_cell(number)
    expect(notebook.cell(len(sources) - 2).locator("table")).to_contain_text("one")
