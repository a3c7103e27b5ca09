"""A person opens the cleaning notebooks in JupyterLab and decides in each one's gallery."""

from pathlib import Path

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from playwright.sync_api import expect
from tiny_contest import PROJECT, TINY_CONTEST, environment, make_contest, run_pipeline

from fgvc_utils import tables
from fgvc_utils.journal import Journal

CLEANING = ("01_noise", "02_coarse", "03_fine", "04_lowq")
SHARED = ("run", "data_root", "cache_side")


@pytest.fixture(scope="module")
def lab_folder(tmp_path_factory):
    """The four notebooks with the tiny contest's parameters, over a run that is done."""
    contest = {
        name: part
        for name, part in TINY_CONTEST.items()
        if name in CLEANING or not isinstance(part, list | dict)
    }
    folder = make_contest(tmp_path_factory.mktemp("review"), contest)
    done = run_pipeline(folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for stage in CLEANING:
        notebook = load_notebook_node(str(PROJECT / "notebooks" / f"{stage}.ipynb"))
        known = notebook.cells[2].source
        shared = {name: contest[name] for name in SHARED if f"\n{name}: " in f"\n{known}"}
        parameters = shared | contest[stage] | {"outputs": str(folder / "outputs")}
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
        self.gallery = next(i for i, text in enumerate(sources) if text.startswith("Gallery("))
        for number in range(self.gallery + 1):
            self.notebook.run_cell(number)
        self.tiles = self.notebook.cell(self.gallery).locator(".fgvc-tile")

    def press(self, place: int | str, key: str, decision: str) -> str:
        """Click a tile (by place or item), press a key, wait for its mark; returns the item."""
        if isinstance(place, int):
            place = self.tiles.nth(place).get_attribute("data-item")
        tile = self.notebook.cell(self.gallery).locator(f'.fgvc-tile[data-item="{place}"]')
        tile.click()
        self.notebook.page.keyboard.press(key)
        expect(tile.locator(".fgvc-mark")).to_have_text(decision)
        return place

    def finish(self):
        """Run the cells after the gallery; returns the stage's table by image."""
        for number in range(self.gallery + 1, self.notebook.cell_count()):
            self.notebook.run_cell(number)
        return tables.read_table(self.table_path).set_index("image_id")


def test_picks_in_01_train_the_noise_model(open_notebook, lab_folder):
    chair = Chair(open_notebook, lab_folder, "01_noise")
    last = chair.tiles.count() - 1
    noise = {chair.press(place, "n", "noise") for place in range(4)}
    normal = {chair.press(last - place, "g", "normal") for place in range(4)}
    table = chair.finish()
    assert set(table.index[table["reason"] == "human: noise"]) == noise
    assert set(table.index[table["reason"] == "human: kept"]) == normal
    by_rule = table.loc[table["reason"].str.startswith("noise:"), "reason"]
    assert by_rule.str.contains("picked by hand").all()


@pytest.mark.parametrize("stage", ["02_coarse", "03_fine"])
def test_a_kept_label_returns_and_a_suggested_one_is_taken(open_notebook, lab_folder, stage):
    chair = Chair(open_notebook, lab_folder, stage)
    kept = chair.press(0, "k", "keep")
    relabelled = chair.press(1, "r", "relabel")
    table = chair.finish()
    assert table.loc[kept, ["status", "reason"]].tolist() == ["keep", "human: kept"]
    row = table.loc[relabelled]
    assert (row["status"], row["reason"]) == ("keep", "human: relabelled")
    assert row["label"] == chair.journal.latest().loc[relabelled, "label"] != row["given"]


def test_a_class_is_dropped_in_04(open_notebook, lab_folder):
    chair = Chair(open_notebook, lab_folder, "04_lowq")
    before = tables.read_table(chair.table_path.with_name("03_fine.parquet"))
    shown = [tile.get_attribute("data-item") for tile in chair.tiles.all()]
    living = set(before.loc[tables.kept(before), "label"])
    dropped = next(label for label in shown if label in living)
    chair.press(dropped, "d", "drop")
    table = chair.finish()
    of_class = table[(table["label"] == dropped) & (table["split"] == "train")]
    assert (of_class["status"] == "drop").all()
    assert "human: class dropped" in set(of_class["reason"])
