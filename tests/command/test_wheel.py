"""The kit as a package: what the wheel holds, and contests of one's own far from any checkout."""

import csv
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import nbformat
import pytest
import yaml
from installed_kit import build_wheel, environment, install, make_environment
from nbclient import NotebookClient
from tiny_contest import TINY_CONTEST

from fgvc_utils.contest.places import NOTEBOOKS, PROJECT
from fgvc_utils.demo.drawing import TINY, draw_demo

SIX = TINY | {"chaotic": 0, "chaotic_classes": 0, "corrupt": 0.02}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.mark.slow
def test_the_wheel_holds_all_that_is_not_code_too(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    files = [p for p in (PROJECT / "fgvc_utils").rglob("*") if p.is_file()]
    files = [p for p in files if "__pycache__" not in p.parts]
    assert {p.relative_to(PROJECT).as_posix() for p in files} <= held
    shipped = [*NOTEBOOKS.glob("*.ipynb"), *PROJECT.glob("params/**/*.yaml")]
    shipped += PROJECT.glob("docs/*.md")
    places = {p: f"fgvc_utils/shipped/{p.relative_to(PROJECT).as_posix()}" for p in shipped}
    assert set(places.values()) <= held
    with zipfile.ZipFile(wheel) as archive:
        assert all(archive.read(place) == path.read_bytes() for path, place in places.items())
        assert not [name for name in held if name.endswith(".py") and "/shipped/" in name]
        (entry,) = [name for name in held if name.endswith("entry_points.txt")]
        assert "fgvc = fgvc_utils.command.main:main" in archive.read(entry).decode()


def call(programs: Path, *words: str, at: Path, code: int = 0, **more: str) -> str:
    """Call the installed command; what it says."""
    command = [str(programs / "fgvc"), *words]
    options = {"cwd": at, "env": environment(**more), "capture_output": True, "text": True}
    done = subprocess.run(command, **options)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The programs of an environment in which the kit is installed as a wheel."""
    programs = make_environment(tmp_path_factory.mktemp("environment") / "fresh")
    install(programs, wheel)
    return programs


def photos_in_folders(folder: Path) -> None:
    """Photos of six classes as a first user has them: a folder a class, and those of the test."""
    drawn = folder.with_name("drawn")
    draw_demo(drawn, **SIX)
    with open(drawn / "train.csv", newline="") as file:
        for row in csv.DictReader(file):
            place = folder / "train" / row["label"] / Path(row["path"]).name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(drawn / row["path"], place)
    shutil.copytree(drawn / "test", folder / "test")


def small(contest: Path) -> None:
    """Let a contest that was laid out take small networks and few epochs."""
    values = yaml.safe_load(contest.read_text())
    tiny = TINY_CONTEST
    for stage in ("02_coarse", "03_fine", "04_lowq", "30_ensemble"):
        values[stage] = tiny[stage]
    usual = {"global_batch": 8, "micro_batch": 8, "size": 96, "epochs": 1}
    values |= {"cache_side": 132, "test_ratios": [], "01_noise": {**usual}}
    del values["01_noise"]["epochs"]
    values["10_train"] = [section | usual for section in values["10_train"]]
    values["20_distill"] = usual
    values["40_submit"] = {"columns": ["file", "kind"], "image_column": "name", "known_count": 4}
    contest.write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.mark.slow
@pytest.mark.long
def test_a_contest_of_six_classes_from_photos_to_a_submission(installed, tmp_path):
    home, photos = tmp_path / "zu Hause", tmp_path / "the photos"
    home.mkdir()
    photos_in_folders(photos)
    before = {p: p.read_bytes() for p in photos.rglob("*") if p.is_file()}
    assert "fgvc-kit" in call(installed, "--version", at=home)
    said = call(installed, "init", "six", "--data", str(photos), at=home)
    assert "params/six.yaml" in said
    assert "is not there" in call(installed, "check", "seven", at=home / "six", code=2)
    small(home / "six" / "params" / "six.yaml")
    # Where nothing is laid out, the folder that one works in is the project.
    shutil.copy(home / "six" / "params" / "six.yaml", tmp_path / "alone.yaml")
    told = call(installed, "check", "alone.yaml", at=tmp_path)
    assert f"below {tmp_path}/outputs" in told and "Nothing was found" in told
    assert "Nothing was found" in call(installed, "check", at=home / "six")
    kit = next(installed.parent.glob("lib/python3*/site-packages/fgvc_utils"))
    code = {p: p.read_bytes() for p in kit.rglob("*") if p.suffix != ".pyc" and p.is_file()}
    # From elsewhere: the file that is named decides on the project.
    call(installed, "run", "six/params/six.yaml", at=home)
    run = home / "six" / "outputs" / "six"
    with open(run / "submission.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["file"] for row in rows) == sorted(os.listdir(photos / "test"))
    assert {row["kind"] for row in rows} <= set(os.listdir(photos / "train"))
    assert {p: p.read_bytes() for p in before} == before
    assert {p: p.read_bytes() for p in kit.rglob("*") if p in code} == code
    assert sorted(os.listdir(home)) == ["six"]
    again = call(installed, "run", at=home / "six" / "notebooks")
    assert again.count("done before") == 9
    copies = call(installed, "lab", "six", "--only-write", at=home / "six")
    assert str(run / "notebooks") in copies


# VS Code.


def first_cells(path: Path) -> nbformat.NotebookNode:
    """A notebook up to the cell that reads its parameters."""
    notebook = nbformat.read(path, as_version=4)
    (last,) = [n for n, c in enumerate(notebook.cells) if "Params.read(globals()" in c.source]
    del notebook.cells[last + 1 :]
    show = "print('outputs in', cfg.folder)\nprint(cfg.data_root)"
    notebook.cells.append(nbformat.v4.new_code_cell(show))
    return notebook


@pytest.mark.slow
@pytest.mark.parametrize("at", ["notebooks", "."])
def test_a_notebook_finds_its_project_from_the_folder_of_its_kernel(tmp_path, monkeypatch, at):
    from fgvc_utils.command.laying_out import Wanted, lay_out

    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("FGVC_PROJECT", "")
    lay_out(tmp_path, Wanted("mine"))
    (tmp_path / at).mkdir(parents=True, exist_ok=True)
    notebook = first_cells(tmp_path / "notebooks" / "01_noise.ipynb")
    place = {"metadata": {"path": str(tmp_path / at)}}
    NotebookClient(notebook, kernel_name="python3", resources=place).execute()
    assert f"outputs in {tmp_path}/outputs/mine\nmine" in notebook.cells[-1].outputs[0].text


@pytest.mark.slow
def test_a_notebook_of_a_checkout_runs_in_whatever_folder_its_kernel_is(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    notebook = first_cells(NOTEBOOKS / "01_noise.ipynb")
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, kernel_name="python3", resources=place).execute()
    assert f"outputs in {PROJECT}/outputs/demo\ndemo" in notebook.cells[-1].outputs[0].text


# Kaggle and Colab.


@pytest.mark.slow
@pytest.mark.long
def test_the_notebook_for_kaggle_and_colab_installs_the_kit_and_runs_the_demo(wheel, tmp_path):
    programs = make_environment(tmp_path / "session")
    here = tmp_path / "working"
    here.mkdir()
    shutil.copy(wheel, here)
    shutil.copy(PROJECT / "docs" / "kaggle_colab.ipynb", here)
    run = [str(programs / "python"), "-m", "papermill", "kaggle_colab.ipynb", "out.ipynb"]
    run += ["-p", "tiny", "True", "-p", "offline", "True"]
    done = subprocess.run(run, cwd=here, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (programs / "fgvc").is_file()
    assert (here / "fgvc-demo" / "outputs" / "demo" / "submission.csv").is_file()
    cells = nbformat.read(here / "out.ipynb", as_version=4).cells
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    assert any("% of 24 test images are right" in output.get("text", "") for output in shown)
    assert any("image/png" in output.get("data", {}) for output in shown)
