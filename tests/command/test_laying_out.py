"""`fgvc init`: what is laid out can be checked and run, and what a person has there stays."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from fgvc_utils.command import laying_out
from fgvc_utils.command.laying_out import CannotLayOut, Wanted, lay_out, outdated
from fgvc_utils.contest.contest_file import parameters_cell
from fgvc_utils.contest.places import NOTEBOOKS, PROJECT
from fgvc_utils.core.files import read_json
from fgvc_utils.core.project import MARK
from fgvc_utils.pipeline.contest_file import read_contest


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_has_all_that_a_contest_takes(tmp_path):
    said = "\n".join(lay_out(tmp_path / "mine", Wanted()))
    folder = tmp_path / "mine"
    steps = read_contest(folder / "params" / "mine.yaml")
    assert {step.cfg.run for step in steps} == {step.cfg.data_root for step in steps} == {"mine"}
    assert [step.stage for step in steps][::8] == ["01_noise", "40_submit"]
    assert (folder / "data/mine/train").is_dir() and (folder / "data/mine/test").is_dir()
    for source in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = read_json(folder / "notebooks" / source.name)["cells"]
        assert [c["cell_type"] for c in cells] == [
            c["cell_type"] for c in read_json(source)["cells"]
        ]
        source = "".join(parameters_cell({"cells": cells})["source"])
        assert 'contest: str = "params/mine.yaml"  #' in source
    presets = {p.relative_to(PROJECT) for p in PROJECT.glob("params/presets/**/*.yaml")}
    assert presets and all((folder / p).is_file() for p in presets)
    assert "template" not in (folder / "params" / "mine.yaml").read_text()
    assert "cd " in said and "fgvc check" in said
    assert "!outputs/*/decisions/" in (folder / ".gitignore").read_text()


def test_links_of_its_page_lead_somewhere(tmp_path):
    lay_out(tmp_path, Wanted("mine"))
    text = (tmp_path / "README.md").read_text()
    assert "{" not in text
    for link in re.findall(r"\]\(([^()\s]+)\)", text):
        place, _, anchor = link.partition("#")
        page = (tmp_path / place).read_text()
        assert not anchor or f"# {anchor.replace('-', ' ')}" in page.lower()


@pytest.mark.parametrize(
    ("folder", "name"),
    [("a b", "a-b"), ("Öl & Wein", "Ol-Wein"), ("猫", "mine"), ("007", "007"), ("no", "no")],
)
def test_a_contest_is_called_as_its_folder(tmp_path, folder, name):
    lay_out(tmp_path / folder, Wanted())
    (step, *_) = read_contest(tmp_path / folder / "params" / f"{name}.yaml")
    assert step.cfg.run == name and step.cfg.data_root == name


def test_images_may_lie_elsewhere(tmp_path, monkeypatch):
    images = tmp_path / 'photos: "all" #1'
    images.mkdir()
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path / "mine", Wanted(data=images.name))
    (step, *_) = read_contest(tmp_path / "mine" / "params" / "mine.yaml")
    assert step.cfg.data_root == str(images)
    assert not (tmp_path / "mine" / "data").exists()


def test_a_second_call_changes_nothing_and_a_further_contest_is_added(tmp_path):
    lay_out(tmp_path, Wanted("one"))
    (tmp_path / "params/one.yaml").write_text("run: one\n40_submit:\n  columns: [a, b]\n")
    before = contents(tmp_path)
    said = lay_out(tmp_path, Wanted("one"))
    assert contents(tmp_path) == before
    assert any("left as it was: params/one.yaml" in line for line in said)
    lay_out(tmp_path, Wanted("two"))
    assert contents(tmp_path).keys() - before.keys() == {Path("params/two.yaml")}
    # The notebooks still name the first.
    assert contents(tmp_path).items() >= before.items()


def test_what_a_person_has_there_is_never_written_over(tmp_path):
    own = {"README.md": "mine", "notebooks/01_noise.ipynb": "{}", "docs/method.md": "x", "a": "b"}
    for place, text in own.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(text)
    said = "\n".join(lay_out(tmp_path, Wanted("mine")))
    assert {place: (tmp_path / place).read_text() for place in own} == own
    assert "left as it was: README.md" in said
    assert "Edited, so left as it is: notebooks/01_noise.ipynb, docs/method.md" in said


def test_another_kit_brings_up_to_date_what_nobody_has_edited(tmp_path, monkeypatch):
    newer = tmp_path / "newer"
    for name in ("notebooks", "params", "docs"):
        shutil.copytree(PROJECT / name, newer / name)
    folder = tmp_path / "mine"
    lay_out(folder, Wanted())
    assert outdated(folder) == [] and outdated(tmp_path) == []
    edited = folder / "notebooks" / "03_fine.ipynb"
    edited.write_text(edited.read_text().replace("What is", "What was") + "\n")
    mine = edited.read_bytes()
    for stage in ("01_noise", "03_fine"):
        path = newer / "notebooks" / f"{stage}.ipynb"
        notebook = read_json(path)
        notebook["cells"][0]["source"].append("\nNew.")
        path.write_text(json.dumps(notebook))
    monkeypatch.setattr(laying_out, "SHIPPED", newer)
    monkeypatch.setattr(laying_out, "kit_version", lambda: "9.9")
    (line,) = outdated(folder)
    assert "01_noise" in line and "9.9" in line and f"fgvc init {folder}" in line
    said = "\n".join(lay_out(folder, Wanted()))
    assert "New." in (folder / "notebooks" / "01_noise.ipynb").read_text()
    assert edited.read_bytes() == mine and "Edited, so left as it is: notebooks/03_fine" in said
    # Moved away, as it says, the kit's takes its place.
    edited.rename(folder / "mine.ipynb")
    lay_out(folder, Wanted())
    assert "New." in edited.read_text() and outdated(folder) == []


@pytest.mark.parametrize("text", ["", "[]", '{"files": 3}'])
def test_a_spoilt_record_makes_nothing_lost(tmp_path, text):
    lay_out(tmp_path, Wanted("mine"))
    (tmp_path / "notebooks/01_noise.ipynb").write_text("mine")
    (tmp_path / MARK).write_text(text)
    lay_out(tmp_path, Wanted("mine"))
    assert (tmp_path / "notebooks/01_noise.ipynb").read_text() == "mine"
    assert read_json(tmp_path / MARK)["files"]


def test_what_cannot_be_laid_out_is_named_and_nothing_is_written(tmp_path):
    (tmp_path / "file").write_text("")
    lay_out(tmp_path / "there", Wanted())
    before = contents(tmp_path)
    for folder, wanted, said in (
        (tmp_path / "file", Wanted(), "is a file"),
        (PROJECT / "new", Wanted(), "the kit's own checkout"),
        (tmp_path / "there" / "x", Wanted(), "fgvc init .*there --name x"),
        (tmp_path / "new", Wanted(name="../x"), "--name '../x' cannot be"),
        (tmp_path / "new", Wanted(data="gone"), "--data gone: there is no folder"),
        (tmp_path / "new", Wanted(tiny=True), "give --demo too"),
        (tmp_path / "new", Wanted("x", demo=True), "drop --data, --name"),
    ):
        with pytest.raises(CannotLayOut, match=said):
            lay_out(folder, wanted)
    assert contents(tmp_path) == before and not (tmp_path / "new").exists()


def test_the_demo_is_drawn_and_its_file_is_the_kit_s(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("fgvc_utils.demo.drawing.draw_demo", lambda *a, **more: drawn.append(a))
    lay_out(tmp_path / "d", Wanted(demo=True))
    assert drawn == [(tmp_path / "d/data/demo",)]
    text = (tmp_path / "d/params/demo.yaml").read_text()
    assert text == (PROJECT / "params/demo.yaml").read_text()
    lay_out(tmp_path / "t", Wanted(demo=True, tiny=True))
    tiny = yaml.safe_load((tmp_path / "t/params/demo.yaml").read_text())
    assert tiny["40_submit"]["known_count"] == 4
