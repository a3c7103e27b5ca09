"""All paths that a person writes are found, from wherever notebooks and processes work."""

import os

import pytest
from test_config import DISTILL

from fgvc_utils.cleaning.params import NoiseParams
from fgvc_utils.contest import listing, places
from fgvc_utils.contest.contest_file import notebook_defaults, read_contest_file, shown_path
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.contest.places import PROJECT, below_root, data_root, expanded, weights_file
from fgvc_utils.training.params import DistillParams


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with blanks and accents in its name that holds a contest's images."""
    home = tmp_path / "zu Hause é"
    for name in ("ant", "bee"):
        (home / "pics" / "mine" / "train" / name).mkdir(parents=True)
        (home / "pics" / "mine" / "train" / name / "1 ü.jpg").write_bytes(b"x")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PICS", str(home / "pics"))
    monkeypatch.delenv("FGVC_DATA", raising=False)
    monkeypatch.delenv("NOT_SET", raising=False)
    return home


@pytest.mark.parametrize("name", ["~/pics/mine", "$PICS/mine", "${PICS}/mine", "$HOME/pics/mine"])
def test_a_data_root_knows_home_and_variables(home, name):
    assert data_root(name) == home / "pics" / "mine"


@pytest.mark.parametrize("moved", ["pics", "./pics", "pics/mine", "../zu Hause é/pics", "~/pics"])
def test_a_relative_fgvc_data_is_meant_from_where_it_is_first_asked_for(home, monkeypatch, moved):
    monkeypatch.setenv("FGVC_DATA", moved)
    monkeypatch.chdir(home)
    assert data_root("mine") == home / "pics" / "mine"
    monkeypatch.chdir(PROJECT / "notebooks")
    assert data_root("mine") == home / "pics" / "mine"
    assert os.path.isabs(os.path.expanduser(os.environ["FGVC_DATA"]))


def test_an_absolute_data_root_does_not_depend_on_fgvc_data(home, monkeypatch):
    monkeypatch.setenv("FGVC_DATA", str(home / "pics"))
    with pytest.raises(FileNotFoundError, match="/not/there"):
        data_root("/not/there")
    assert data_root(str(home / "pics" / "mine" / "train")).name == "train"


def test_what_is_not_there_is_named(home):
    with pytest.raises(FileNotFoundError, match="NOT_SET, which is not there"):
        data_root("$NOT_SET/mine")
    (home / "broken").symlink_to(home / "gone")
    with pytest.raises(FileNotFoundError, match="a link that leads nowhere"):
        data_root("~/broken")
    for name in ("~nobody-of-this-name/x", "${NOT_SET}", "a\0b"):
        with pytest.raises(ValueError, match="write the path in full|NUL byte"):
            expanded(name)
    # A folder that is called so literally is meant.
    (home / "$NOT_SET").mkdir()
    assert expanded("$NOT_SET", home) == home / "$NOT_SET"


@pytest.mark.parametrize("name", ["outputs", "weights"])
def test_parameters_that_are_paths_name_what_is_not_set(home, name):
    with pytest.raises(ParameterError, match=rf"{name} = .*variable NOT_SET"):
        DistillParams(**(DISTILL | {name: "$NOT_SET/x"}))
    given = DistillParams(**(DISTILL | {name: "~/x y"}))
    found = given.folder if name == "outputs" else weights_file(given.weights)
    assert found.is_relative_to(home / "x y")
    assert getattr(given, name) == "~/x y", "as it was written, so that no stamp changes"


def test_outputs_that_are_relative_lie_in_the_project(home, monkeypatch):
    monkeypatch.chdir(home)
    given = DistillParams(**(DISTILL | {"outputs": "some where"}))
    assert given.folder.parent == PROJECT / "some where"


def test_a_contest_file_is_found_by_home_and_variables(home):
    (home / "c é.yaml").write_text("run: mine\n01_noise: {}\n")
    assert read_contest_file("~/c é.yaml").path == home / "c é.yaml"
    assert shown_path("$HOME/c é.yaml") == str(home / "c é.yaml")
    with pytest.raises(ParameterError, match="NOT_SET"):
        read_contest_file("$NOT_SET/c.yaml")


def test_absolute_sides_are_those_below_the_root_by_whichever_way(home, tmp_path):
    link = tmp_path / "a link"
    link.symlink_to(home / "pics")
    root = data_root(str(link / "mine"))
    usual = listing.list_images(root, "train", "")
    for train in (link / "mine" / "train", root / "train", "~/pics/mine/train"):
        assert listing.list_images(root, str(train), "").equals(usual)
        assert listing.listing_digest(root, [str(train)]) == listing.listing_digest(root, ["train"])
    assert below_root(root, str(link / "mine")) == "." and below_root(root, "train") == "train"
    with pytest.raises(ValueError, match="outside the data root"):
        listing.list_images(root, str(tmp_path), "")


def test_a_side_that_names_no_variable_is_an_error_of_its_parameter(home):
    given = notebook_defaults("01_noise") | {"contest": "", "train": "$NOT_SET"}
    with pytest.raises(ParameterError, match="train = .*NOT_SET"):
        NoiseParams(**given)
    assert places.MOVED == "FGVC_DATA"
