"""A run is found by its name, its folder or its contest file, wherever it is asked for."""

import pytest

from fgvc_utils.contest import runs
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.contest.runs import NoRun, locate_run


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the run mine, and another folder in which the caller stands."""
    (tmp_path / "project" / "outputs" / "mine" / "tables").mkdir(parents=True)
    (tmp_path / "project" / "params").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(runs, "PROJECT", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "project"


def test_a_name_a_folder_and_a_contest_file_name_the_same_run(project):
    mine, file = project / "outputs" / "mine", project / "params" / "mine.YAML"
    file.write_text("run: mine\n01_noise:\n")
    for named in ("mine", "outputs/mine", str(mine), mine, "../project/outputs/mine"):
        folder, contest = locate_run(named)
        assert folder.resolve() == mine and contest is None
    for named in ("params/mine.YAML", file):
        assert locate_run(named) == (mine, file)


def test_what_lies_where_the_caller_stands_goes_first(project, tmp_path):
    here = tmp_path / "here"
    (here / "outputs" / "mine").mkdir(parents=True)
    assert locate_run("mine").folder == project / "outputs" / "mine", "that is no run yet"
    (here / "outputs" / "mine" / "report.json").write_text("{}")
    assert locate_run("mine").folder == here / "outputs" / "mine"


def test_what_is_no_run_is_told_with_the_places_and_the_runs(project, tmp_path):
    with pytest.raises(NoRun) as caught:
        locate_run("mien")
    said = str(caught.value)
    assert "'mien' is no run" in said and "(mine)" in said
    assert f"{tmp_path}/here/mien\n" in said and f"{project}/outputs/mien\n" in said
    with pytest.raises(NoRun, match="the contest file x.yaml is not there"):
        locate_run("x.yaml")
    with pytest.raises(NoRun, match="NO_SUCH"):
        locate_run("$NO_SUCH_FOLDER/x")


def test_a_contest_file_that_is_wrong_or_has_no_run_yet_is_told(project):
    file = project / "params" / "later.yaml"
    file.write_text("run: later\n01_noise:\n")
    with pytest.raises(NoRun, match="outputs/later, which has left nothing yet: (make|fgvc) run"):
        locate_run(file)
    with pytest.raises(NoRun, match="later names the run .*nothing yet: .*later first"):
        locate_run("later")
    (project / "outputs" / "later" / "stages").mkdir(parents=True)
    file.rename(project / "params" / "other.yaml")
    assert locate_run("other") == (project / "outputs" / "later", file.with_name("other.yaml"))
    file.write_text("runn: later\n")
    with pytest.raises(ParameterError, match="'runn' is neither"):
        locate_run(file)
