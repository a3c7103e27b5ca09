"""Working copies: the contest's file is set, sources stay sources, nobody's edit is lost."""

import json
import os
import shutil
import subprocess

import nbformat
import pytest

from fgvc_utils.contest.places import NOTEBOOKS, PROJECT
from fgvc_utils.pipeline import working_copies
from fgvc_utils.pipeline.stages import STAGES
from fgvc_utils.pipeline.working_copies import bring_up_to_date, main


@pytest.fixture
def contest(tmp_path, monkeypatch):
    """A contest file, and a folder of sources that a test may change."""
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    monkeypatch.setattr(working_copies, "NOTEBOOKS", tmp_path / "notebooks")
    (tmp_path / "mine.yaml").write_text(f"run: mine\noutputs: {tmp_path / 'out'}\n40_submit:\n")
    return tmp_path / "mine.yaml"


def change(path, cell=0, text="\n\nMore.", outputs=False):
    """Add to the source of a cell, as a person does in JupyterLab, or give it an output."""
    notebook = nbformat.read(path, as_version=4)
    if outputs:
        cell = next(each for each in notebook.cells if each.cell_type == "code")
        cell.outputs, cell.execution_count = [nbformat.v4.new_output("stream", text="1")], 1
    else:
        notebook.cells[cell].source += text
    nbformat.write(notebook, path)


def test_each_copy_names_the_contest_and_is_the_source_otherwise(contest, tmp_path):
    copies, said = bring_up_to_date(contest)
    assert [copy.stem for copy in copies] == ["40_submit", *(s for s in STAGES if s[:2] != "40")]
    assert not said and copies[0].parent == tmp_path / "out/mine/notebooks"
    for copy in copies:
        nbformat.validate(nbformat.read(copy, as_version=4))
        ours, theirs = (
            nbformat.read(path, as_version=4).cells for path in (copy, NOTEBOOKS / copy.name)
        )
        (differing,) = [
            (mine.source, its.source)
            for mine, its in zip(ours, theirs, strict=True)
            if mine.source != its.source
        ]
        assert differing[0] == differing[1].replace('"params/demo.yaml"', f'"{contest}"')


def test_copies_that_are_up_to_date_are_left_alone(contest):
    copies, _ = bring_up_to_date(contest)
    change(copies[0], text="\n\nMine.")
    change(copies[1], outputs=True)
    before = [copy.read_bytes() for copy in copies]
    assert bring_up_to_date(contest) == (copies, [])
    assert [copy.read_bytes() for copy in copies] == before


def test_a_changed_source_reaches_the_copies_and_edits_are_kept_aside(contest, tmp_path):
    copies, _ = bring_up_to_date(contest)
    edited, looked_at = copies[0], copies[1]
    for number in (1, 2):
        change(edited, text=f"\n\nMine {number}.")
        change(looked_at, outputs=True)
        mine = edited.read_bytes()
        for copy in (edited, looked_at):
            change(tmp_path / "notebooks" / copy.name, text=f"\n\nFrom the source {number}.")
        _, (line,) = bring_up_to_date(contest)
        aside = edited.with_name(f"40_submit-edited-{number}.ipynb")
        assert aside.read_bytes() == mine and aside.name in line
        for copy in (edited, looked_at):
            text = copy.read_text()
            assert f"From the source {number}." in text and "Mine" not in text
    assert len(list(edited.parent.glob("*-edited-*"))) == 2


def test_what_is_no_notebook_any_more_is_kept_too(contest):
    copies, _ = bring_up_to_date(contest)
    copies[0].write_text("{")
    bring_up_to_date(contest)
    assert copies[0].with_name("40_submit-edited-1.ipynb").read_text() == "{"
    assert json.loads(copies[0].read_text())["cells"]


def test_another_contest_of_the_same_run_is_named_in_the_copies(contest, tmp_path):
    bring_up_to_date(contest)
    other = tmp_path / "other.yaml"
    other.write_text(contest.read_text())
    copies, said = bring_up_to_date(other)
    assert not said and all("other.yaml" in copy.read_text() for copy in copies)


def test_git_sees_no_copy(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    shutil.copy(PROJECT / ".gitignore", tmp_path)
    for name in ("01_noise.ipynb", "01_noise-edited-1.ipynb", ".ipynb_checkpoints/a.ipynb"):
        place = f"outputs/mine/notebooks/{name}"
        command = ["git", "-C", tmp_path, "check-ignore", "-q", place]
        assert subprocess.run(command).returncode == 0, place


def test_the_command_opens_jupyterlab_at_the_first_copy_or_only_writes(
    contest, tmp_path, monkeypatch, capsys
):
    opened = []
    monkeypatch.setenv("FGVC_PROJECT", "")
    monkeypatch.setattr(working_copies.os, "execv", lambda _, command: opened.append(command))
    assert main([str(contest), "--only-write"]) == 0
    assert not opened and "out/mine/notebooks" in capsys.readouterr().out
    main([str(contest), "--ip=127.0.0.1", "--no-browser"])
    folder = tmp_path / "out/mine/notebooks"
    ((_, *command),) = opened
    assert command == [
        "-m",
        "jupyterlab",
        str(folder / "40_submit.ipynb"),
        f"--ServerApp.root_dir={folder}",
        "--ip=127.0.0.1",
        "--no-browser",
    ]
    assert os.environ["FGVC_PROJECT"] == str(PROJECT)
    assert main([str(tmp_path / "gone.yaml")]) == 2
    assert "is not there; contest files lie in params/" in capsys.readouterr().err
