"""The command `fgvc`: help, misspelt names, which contest is meant, what is passed on."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from fgvc_utils.command import main as command
from fgvc_utils.command.main import NoContest, chosen_contest, main
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.core import project


@pytest.fixture(autouse=True)
def called(monkeypatch):
    """What the command sets is taken back."""
    monkeypatch.setenv(project.CALLED, "")
    monkeypatch.delenv(project.CALLED)
    monkeypatch.delenv("MAKELEVEL", raising=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project of its own, in which the command is called."""
    (tmp_path / "params").mkdir()
    (tmp_path / project.MARK).write_text("{}")
    monkeypatch.chdir(tmp_path)
    # Set and deleted, so that what the command sets is taken back.
    monkeypatch.setenv(project.VARIABLE, "")
    monkeypatch.delenv(project.VARIABLE)
    return tmp_path


def test_without_a_word_it_says_what_it_can(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    for name in ("init", "check", "run", "lab", "predict", "export", "compare"):
        assert f"\n    {name} " in said
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize("name", ["init", "check", "run", "lab"])
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0 and f"usage: fgvc {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chekc"], "'chekc' is no command of fgvc .*near it is 'check'"),
        (["run", "x.yaml", "--dryrun"], "knows no --dryrun"),
        (["init"], "required: DIR"),
    ],
)
def test_what_is_misspelt_is_named(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert re.search(said, text), text


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_elsewhere_than_on_linux_it_says_the_way(system, monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", system)
    assert main(["run", "x"]) == 2
    assert "WSL" in capsys.readouterr().err


def test_a_contest_is_meant_by_path_by_name_or_by_being_the_only_one(folder, monkeypatch):
    mine = folder / "params" / "mine.yaml"
    mine.write_text("run: mine\n")
    (folder / "params" / "template.yaml").write_text("")
    assert chosen_contest("mine") == chosen_contest("mine.yaml") == chosen_contest(None) == mine
    (folder / "params" / "other.yaml").write_text("")
    with pytest.raises(NoContest, match="mine, other; name one"):
        chosen_contest(None)
    with pytest.raises(NoContest, match="mien is not there; contest files lie in params/.* other"):
        chosen_contest("mien")
    (folder / "deep").mkdir()
    monkeypatch.chdir(folder / "deep")
    assert chosen_contest("mine") == mine
    assert str(chosen_contest("../params/other.yaml")) == "../params/other.yaml"


def test_a_variable_that_names_no_folder_is_an_error(folder, monkeypatch, capsys):
    monkeypatch.setenv(project.VARIABLE, str(folder / "gone"))
    assert main(["check"]) == 2
    assert f"FGVC_PROJECT names {folder}/gone, which is no folder" in capsys.readouterr().err


def test_what_the_disk_refuses_is_said_without_a_traceback(folder, monkeypatch, capsys):
    monkeypatch.setattr("fgvc_utils.command.laying_out._checked", refuse)
    assert main(["init", "x"]) == 2
    assert capsys.readouterr().err == "fgvc init: [Errno 13] Permission denied: 'x'\n"


def refuse(*_):
    raise PermissionError(13, "Permission denied", "x")


def test_without_a_contest_file_it_says_how_to_get_one(folder, capsys):
    assert main(["check"]) == 2
    assert "fgvc init DIR" in capsys.readouterr().err


def test_a_file_that_is_named_decides_on_the_project(folder, tmp_path_factory, monkeypatch):
    (folder / "params" / "a.yaml").write_text("")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert project.find_project() == PROJECT, "the checkout, where nothing else is meant"
    chosen_contest(str(folder / "params" / "a.yaml"))
    assert project.find_project() == folder and os.environ[project.VARIABLE] == str(folder)


@pytest.mark.parametrize("words", [["outputs/x"], ["-o", "out.csv", "{}/outputs/x", "photos"]])
def test_so_does_a_folder_such_as_that_of_a_run(folder, tmp_path_factory, monkeypatch, words):
    (folder / "outputs" / "x").mkdir(parents=True)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(folder if len(words) == 1 else elsewhere)
    project.take_project_of([word.format(folder) for word in words])
    assert os.environ[project.VARIABLE] == str(folder)


def test_a_project_is_that_in_which_one_works(folder, monkeypatch):
    inner = folder / "outputs" / "run" / "notebooks"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert project.find_project() == folder
    script = "from fgvc_utils.contest import places; print(places.PROJECT, places.NOTEBOOKS)"
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=True)
    # It has no notebooks of its own, so those of the kit are taken.
    assert done.stdout.split() == [str(folder), str(PROJECT / "notebooks")]


def test_a_checkout_within_a_project_stays_itself(tmp_path, monkeypatch):
    (tmp_path / project.MARK).write_text("{}")
    (tmp_path / "kit" / "notebooks").mkdir(parents=True)
    monkeypatch.setattr(project, "SOURCE", tmp_path / "kit")
    assert project.project_above(tmp_path / "kit" / "notebooks") == tmp_path / "kit"
    assert project.project_above(tmp_path) == tmp_path


def test_commands_of_other_modules_get_their_arguments(monkeypatch):
    given = []
    for name in command.PASSED_ON:
        module = SimpleNamespace(main=given.append)
        monkeypatch.setitem(sys.modules, f"fgvc_utils.{name}", module)
        assert main([name, "outputs/x", "-o", "out.csv", "--help"]) == 0
        assert given.pop() == ["outputs/x", "-o", "out.csv", "--help"]


def test_run_and_check_hand_on_what_they_were_given(folder, monkeypatch):
    from fgvc_utils.pipeline import interrupts, running

    called = []
    monkeypatch.setattr(running, "carry_out", lambda options: called.append(options) or 0)
    monkeypatch.setattr(interrupts, "end_at_once", lambda: None)
    monkeypatch.setattr("fgvc_utils.core.output.make_output_last", lambda: None)
    (folder / "params" / "a.yaml").write_text("")
    assert main(["run", "a", "--from", "03_fine", "--dry-run"]) == 0
    assert (called[0].first, called[0].dry_run, called[0].check) == ("03_fine", True, False)
    assert main(["check"]) == 0
    assert called[1].check and called[1].contest == folder / "params" / "a.yaml"


def test_lab_opens_on_the_loopback_whatever_the_configuration(folder, monkeypatch):
    from fgvc_utils.pipeline import working_copies

    given = []
    monkeypatch.setattr(working_copies, "main", lambda arguments: given.append(arguments) or 0)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (folder / "params" / "a.yaml").write_text("")
    main(["lab", "--no-browser"])
    main(["lab", "a", "--ip=0.0.0.0", "--only-write"])
    mine = str(folder / "params" / "a.yaml")
    assert given[0] == [mine, "--ip=127.0.0.1", "--allow-root", "--no-browser"]
    assert given[1] == [mine, "--only-write", "--allow-root", "--ip=0.0.0.0"]


BY_MAKE, BY_FGVC = "make run CONTEST=a.yaml ARGS='--only 03_fine'", "fgvc run a.yaml --only 03_fine"


@pytest.mark.parametrize(
    ("checkout", "elsewhere", "called", "made", "said"),
    [
        (True, False, "", "", BY_MAKE),
        # make calls fgvc itself.
        (True, False, "1", "1", BY_MAKE),
        (True, False, "1", "", BY_FGVC),
        (True, True, "", "", BY_FGVC),
        (False, False, "", "1", BY_FGVC),
    ],
)
def test_a_message_names_the_command_that_the_user_has(
    monkeypatch, tmp_path, checkout, elsewhere, called, made, said
):
    monkeypatch.setattr(project, "IS_CHECKOUT", checkout)
    monkeypatch.setenv(project.VARIABLE, str(tmp_path if elsewhere else project.SOURCE))
    for name, value in ((project.CALLED, called), ("MAKELEVEL", made)):
        # The tests themselves are called by make.
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    assert project.command_line("run", "a.yaml", "--only 03_fine") == said
    assert project.command_line("check") == f"{said[:4]} check"


def test_what_fgvc_says_names_fgvc(folder, monkeypatch, capsys):
    (folder / "params" / "later.yaml").write_text(f"run: later\noutputs: {folder}\n01_noise:\n")
    for words in (["export"], ["predict"], ["compare", "params/later.yaml"]):
        photos = ["x.jpg"] if words == ["predict"] else []
        assert main([*words, "params/later.yaml", *photos]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and "nothing yet: fgvc run " in said
