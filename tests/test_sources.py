"""Which definitions a result hangs on, on a small package that is written here."""

import pytest

from fgvc_utils import config, sources
from fgvc_utils.pipeline import code_of
from fgvc_utils.sources import Definition

ROOMS = {
    "stage": (
        '"""A room."""\n'
        "from fgvc_utils import losses, plots\n"
        "from fgvc_utils.heads import Head as H\n"
        "def run(job):\n    'Run.'\n    plots.show()\n"
        "    return helper(H(), 'fgvc_utils.worker:run')\n"
        "def helper(*_):\n    return 1  # one\n"
        "def other():\n    return losses.focal()\n"
    ),
    "losses": "import math\nWEIGHT = 2\ndef focal():\n    return WEIGHT * math.pi\n",
    "heads": "class Head:\n    'A head.'\n    width = 3\n",
    "plots": "from fgvc_utils import losses\ndef show():\n    losses.focal()\n",
    "worker": "def run(file):\n    print(file)\n",
}
NOTEBOOK = "from fgvc_utils import stage\n# a comment\nstage.run(1)\n"


@pytest.fixture
def package(tmp_path):
    """Write the rooms, changed as asked; each call is a package of its own."""

    def write(**changed):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, source in (ROOMS | changed).items():
            (folder / f"{name}.py").write_text(source)
        return folder

    return write


def test_definitions_are_followed_to_all_that_they_name(package):
    found = sources.reached_from(NOTEBOOK, package=package())
    assert sorted(found) == ["heads.Head", "notebook", "stage.helper", "stage.run", "worker.run"]


def test_comments_docstrings_and_layout_do_not_count(package):
    before = sources.reached_from(NOTEBOOK, package=package())
    said = ROOMS["stage"].replace("'Run.'", "'Run it.'").replace("# one", "# the least")
    said = said.replace("A room", "The room").replace("(H(), ", "(\n        H(), ")
    heads = ROOMS["heads"].replace("    'A head.'\n", "")
    after = sources.reached_from(
        NOTEBOOK.replace("# a comment", "\n"), package=package(stage=said, heads=heads)
    )
    assert sources.changed(before, after) == []


@pytest.mark.parametrize(
    ("room", "old", "new", "changes"),
    [
        ("stage", "return 1", "return 2", ["stage.helper"]),
        ("heads", "width = 3", "width = 4", ["heads.Head"]),
        ("worker", "print(file)", "pass", ["worker.run"]),
        ("stage", "H()", "H(), losses.WEIGHT", ["losses.WEIGHT", "stage.run"]),
        # What is not reached, and what only shows.
        ("losses", "WEIGHT = 2", "WEIGHT = 3", []),
        ("plots", "losses.focal()", "pass", []),
    ],
)
def test_a_change_is_named(package, room, old, new, changes):
    before = sources.reached_from(NOTEBOOK, package=package())
    after = sources.reached_from(NOTEBOOK, package=package(**{room: ROOMS[room].replace(old, new)}))
    assert sources.changed(before, after) == changes


def test_another_library_under_the_same_name_is_a_change(package):
    root = [Definition("losses", "focal")]
    cmath = ROOMS["losses"].replace("import math", "import cmath as math")
    before = sources.reached(root, package=package())
    assert sources.changed(before, sources.reached(root, package=package(losses=cmath))) == [
        "losses.focal"
    ]


def test_what_ends_the_search_counts_itself_alone(package):
    root = [Definition("stage", "other")]
    assert sorted(sources.reached(root, stop=root, package=package())) == ["stage.other"]
    with pytest.raises(KeyError, match="stage.absent"):
        sources.reached([Definition("stage", "absent")], package=package())


def test_the_rooms_that_only_show_are_rooms():
    rooms = {path.stem for path in sources.PACKAGE.glob("*.py")}
    assert rooms >= sources.SHOWS


def test_balancing_is_code_of_40_alone_and_losses_of_all_that_launch_jobs():
    with_rule = {stage for stage in config.STAGES if "assignment.assign" in code_of(stage)}
    assert with_rule == {"40_submit"}
    with_loss = {stage for stage in config.STAGES if "losses.Objective" in code_of(stage)}
    assert with_loss == set(config.STAGES) - {"40_submit"}
    assert "crossing.recut" in code_of("03_fine") and "crossing.recut" not in code_of("04_lowq")


def test_versions_name_what_fits_and_decodes():
    found = sources.versions()
    assert found["torch"][0].isdigit() and "not there" not in found.values()
