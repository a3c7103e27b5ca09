"""Which definitions a result hangs on, on a small package that is written here."""

import pytest

from fgvc_utils.jobs import sources
from fgvc_utils.jobs.sources import Definition
from fgvc_utils.pipeline.stages import STAGES
from fgvc_utils.pipeline.stamps import code_of

ROOMS = {
    "work.stage": (
        '"""A room."""\n'
        "from fgvc_utils.work import losses\n"
        "from fgvc_utils.looking import plots\n"
        "from fgvc_utils.work.heads import Head as H\n"
        "def run(job):\n    'Run.'\n    plots.show()\n"
        "    return helper(H(), 'fgvc_utils.work.worker:run')\n"
        "def helper(*_):\n    return 1  # one\n"
        "def other():\n    return losses.focal()\n"
    ),
    "work.losses": "import math\nWEIGHT = 2\ndef focal():\n    return WEIGHT * math.pi\n",
    "work.heads": "class Head:\n    'A head.'\n    width = 3\n",
    "looking.plots": "from fgvc_utils.work import losses\ndef show():\n    losses.focal()\n",
    "work.worker": "def run(file):\n    print(file)\n",
}
NOTEBOOK = "from fgvc_utils.work import stage\n# a comment\nstage.run(1)\n"


@pytest.fixture
def package(tmp_path):
    """Write the rooms, changed as asked; each call is a package of its own."""

    def write(changed=()):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, source in (ROOMS | dict(changed)).items():
            file = folder.joinpath(*name.split(".")).with_suffix(".py")
            file.parent.mkdir(exist_ok=True)
            file.write_text(source)
        return folder

    return write


def test_definitions_are_followed_to_all_that_they_name(package):
    found = sources.reached_from(NOTEBOOK, package=package())
    assert sorted(found) == [
        "notebook",
        "work.heads.Head",
        "work.stage.helper",
        "work.stage.run",
        "work.worker.run",
    ]


def test_comments_docstrings_and_layout_do_not_count(package):
    before = sources.reached_from(NOTEBOOK, package=package())
    said = ROOMS["work.stage"].replace("'Run.'", "'Run it.'").replace("# one", "# the least")
    said = said.replace("A room", "The room").replace("(H(), ", "(\n        H(), ")
    heads = ROOMS["work.heads"].replace("    'A head.'\n", "")
    after = sources.reached_from(
        NOTEBOOK.replace("# a comment", "\n"),
        package=package({"work.stage": said, "work.heads": heads}),
    )
    assert sources.changed(before, after) == []


@pytest.mark.parametrize(
    ("room", "old", "new", "changes"),
    [
        ("work.stage", "return 1", "return 2", ["work.stage.helper"]),
        ("work.heads", "width = 3", "width = 4", ["work.heads.Head"]),
        ("work.worker", "print(file)", "pass", ["work.worker.run"]),
        ("work.stage", "H()", "H(), losses.WEIGHT", ["work.losses.WEIGHT", "work.stage.run"]),
        # What is not reached, and what only shows.
        ("work.losses", "WEIGHT = 2", "WEIGHT = 3", []),
        ("looking.plots", "losses.focal()", "pass", []),
    ],
)
def test_a_change_is_named(package, room, old, new, changes):
    before = sources.reached_from(NOTEBOOK, package=package())
    after = sources.reached_from(NOTEBOOK, package=package({room: ROOMS[room].replace(old, new)}))
    assert sources.changed(before, after) == changes


def test_another_library_under_the_same_name_is_a_change(package):
    root = [Definition("work.losses", "focal")]
    cmath = ROOMS["work.losses"].replace("import math", "import cmath as math")
    before = sources.reached(root, package=package())
    assert sources.changed(
        before, sources.reached(root, package=package({"work.losses": cmath}))
    ) == ["work.losses.focal"]


def test_what_ends_the_search_counts_itself_alone(package):
    root = [Definition("work.stage", "other")]
    assert sorted(sources.reached(root, stop=root, package=package())) == ["work.stage.other"]
    with pytest.raises(KeyError, match="work.stage.absent"):
        sources.reached([Definition("work.stage", "absent")], package=package())


def test_the_rooms_that_only_show_are_rooms():
    there = {
        path.relative_to(sources.PACKAGE).with_suffix("") for path in sources.PACKAGE.rglob("*")
    }
    assert {".".join(path.parts) for path in there} >= set(sources.SHOWS)


def test_balancing_is_code_of_40_alone_and_losses_of_all_that_launch_jobs():
    with_rule = {stage for stage in STAGES if "answers.assignment.assign" in code_of(stage)}
    assert with_rule == {"40_submit"}
    with_loss = {stage for stage in STAGES if "training.losses.Objective" in code_of(stage)}
    assert with_loss == set(STAGES) - {"40_submit"}
    assert "cleaning.rounds.recut" in code_of("03_fine") and "cleaning.rounds.recut" not in code_of(
        "04_lowq"
    )


def test_versions_name_what_fits_and_decodes():
    found = sources.versions()
    assert found["torch"][0].isdigit() and "not there" not in found.values()
