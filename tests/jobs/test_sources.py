"""Which definitions a result depends on, on a small package that is written here."""

import ast
import re

import pytest

from fgvc_utils.contest.places import PROJECT
from fgvc_utils.jobs import sources
from fgvc_utils.jobs.sources import Definition
from fgvc_utils.pipeline.stages import STAGES
from fgvc_utils.pipeline.stamps import code_of

SHOWS = '"""What people see.\n\nCounts in no digest, nor does what it is given.\n"""\n'
STARTS = '"""Starts things.\n\nCounts in no digest.\n"""\n'
MODULES = {
    "work.__init__": "",
    "work.stage": (
        '"""A module."""\n'
        "import warnings\n"
        "from fgvc_utils.hardware.launch import launch\n"
        "from fgvc_utils.looking import plots\n"
        "from fgvc_utils.work import losses\n"
        "from fgvc_utils.work.heads import Head as H\n"
        "def run(job):\n"
        "    'Run.'\n"
        "    plots.show(job, title='loss')\n"
        "    print(f'runs {job}')\n"
        "    if not job:\n"
        "        raise ValueError('no job')\n"
        "    launch('fast')\n"
        "    return helper(H())\n"
        "def helper(*_):\n    return 1  # one\n"
        "def other():\n    return losses.focal()\n"
    ),
    "work.losses": "import math\nWEIGHT = 2\ndef focal():\n    return WEIGHT * math.pi\n",
    "work.heads": (
        "class Head:\n    'A head.'\n    width = 3\n"
        "    def grow(self):\n        return self.width\n"
    ),
    "work.worker": "def run(file):\n    return file\n",
    "work.records": (
        "from pydantic import BaseModel\n"
        "class Base(BaseModel):\n    epochs: int = 1\n"
        "class Job(Base):\n    size: int = 224\n    def side(self):\n        return self.size\n"
        "def read(file):\n    return Job(size=file)\n"
    ),
    "looking.__init__": SHOWS,
    "looking.plots": (
        "from fgvc_utils.work import losses\ndef show(*_, title):\n    losses.focal()\n"
    ),
    "hardware.__init__": "",
    "hardware.launch": STARTS + (
        "from fgvc_utils.work import losses\n"
        "def launch(how, entry='fgvc_utils.work.worker:run'):\n    losses.focal()\n"
    ),
}  # fmt: skip
mark_of = sources.read_package(sources.PACKAGE).mark
NOTEBOOK = "from fgvc_utils.work import stage\n# a comment\nstage.run(1)\n"
REACHED = [
    "notebook",
    "work.heads.Head",
    "work.stage.helper",
    "work.stage.run",
    "work.worker.run",
]


@pytest.fixture
def package(tmp_path):
    """Write the modules, changed as asked; each call is a package of its own."""

    def write(changed=()):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, source in (MODULES | dict(changed)).items():
            file = folder.joinpath(*name.split(".")).with_suffix(".py")
            file.parent.mkdir(exist_ok=True)
            file.write_text(source)
        return folder

    return write


def edited(name, old, new):
    """A module with some of its text exchanged."""
    assert old in MODULES[name]
    return {name: MODULES[name].replace(old, new)}


def changes(package, changed, notebook=NOTEBOOK, before=NOTEBOOK):
    """Which definitions a change of the package, or of a notebook, makes others."""
    old = sources.reached_from(before, package=package())
    return sources.changed(old, sources.reached_from(notebook, package=package(changed)))


def test_definitions_are_followed_to_all_that_they_name(package):
    assert sorted(sources.reached_from(NOTEBOOK, package=package())) == REACHED


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("work.stage", "'Run.'", "'Run it.'"),
        ("work.stage", "# one", "# the least"),
        ("work.stage", "A module", "The module"),
        ("work.stage", "helper(H())", "helper(\n        H()\n    )"),
        ("work.heads", "    'A head.'\n", ""),
        ("work.stage", "'no job'", "f'give a job, not {job!r}'"),
        ("work.stage", "f'runs {job}'", "f'{job} runs: {len(job)}'"),
        ("work.stage", "    print(f'runs {job}')\n", ""),
        ("work.stage", "title='loss'", "title='the loss', size=9"),
        ("work.stage", "    plots.show(job, title='loss')\n", ""),
        ("work.stage", "    launch", "    warnings.warn('slow')\n    launch"),
        ("work.stage", "    launch", "    if len(job) > 9:\n        print('long')\n    launch"),
        ("work.stage", "def run(job)", "def run(job: 'str') -> int"),
        ("work.stage", "def helper", "def unused():\n    return 3\ndef helper"),
        ("looking.plots", "losses.focal()", "pass"),
        ("hardware.launch", "losses.focal()", "pass"),
        ("work.losses", "WEIGHT = 2", "WEIGHT = 3"),
    ],
)  # fmt: skip
def test_texts_pictures_and_what_is_not_run_make_nothing_stale(package, name, old, new):
    assert changes(package, edited(name, old, new)) == []


def test_captions_of_a_notebook_make_nothing_stale(package):
    before = NOTEBOOK + "from fgvc_utils.looking import plots\nplots.show(2, title='curve')\n"
    after = before.replace("'curve'", "'the curve'").replace("a comment", "another")
    assert changes(package, {}, after + "print(f'{3} images')\n", before) == []
    assert changes(package, {}, after.replace("run(1)", "run(2)"), before) == ["notebook"]


@pytest.mark.parametrize(
    "cell",
    [
        "print(f'{len(a)} images')",
        "display(table.head(10), plots.show(a))",
        "plots.show(a, 'a title')",
        "sheet(a, limit=12)",
        "sheet(a) if len(a) else 'nothing to see'",
        "if a:\n    print('b')",
        "for a in b:\n    if a:\n        plots.show(a)",
        "'a text'",
    ],
)
def test_a_cell_that_only_shows_is_as_if_it_were_not_there(package, cell):
    head = "from IPython.display import display\nfrom fgvc_utils.looking import plots\n"
    head += "from fgvc_utils.looking.plots import show as sheet\n"
    assert changes(package, {}, NOTEBOOK + head + cell) == []


@pytest.mark.parametrize(
    "cell",
    [
        "table = stage.run(table)",
        "review.require(True)",
        "reason = 'noise'",
        "stage.run(a) if a else None",
        "shown[a] = 1 - b",
        "if a:\n    b = 1",
        "for a in b:\n    c.append(a)",
        "print(stage.run(2))",
        "if stage.run(3):\n    print('b')",
    ],
)
def test_a_cell_that_may_act_counts(package, cell):
    assert changes(package, {}, NOTEBOOK + cell) == ["notebook"]


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("work.stage", "return 1", "return 2", ["work.stage.helper"]),
        ("work.stage", "ValueError", "KeyError", ["work.stage.run"]),
        ("work.stage", "'fast'", "'slow'", ["work.stage.run"]),
        ("work.heads", "width = 3", "width = 4", ["work.heads.Head"]),
        ("work.heads", "return self.width", "return 2 * self.width", ["work.heads.Head"]),
        ("work.worker", "return file", "return [file]", ["work.worker.run"]),
        ("work.stage", "H()", "H(), losses.WEIGHT", ["work.losses.WEIGHT", "work.stage.run"]),
        ("work.stage", "f'runs {job}'", "other()", [
            "work.losses.WEIGHT", "work.losses.focal", "work.stage.other", "work.stage.run",
        ]),
    ],
)  # fmt: skip
def test_changed_code_that_is_run_is_named(package, name, old, new, expected):
    assert changes(package, edited(name, old, new)) == expected


@pytest.mark.parametrize(
    "notebook",
    [
        "import fgvc_utils.work.losses\nfgvc_utils.work.losses.focal()\n",
        "import fgvc_utils.work.stage\nimport fgvc_utils.work.losses\n"
        "fgvc_utils.work.losses.focal()\n",
        "import fgvc_utils.work.losses as l\nl.focal()\n",
        "from fgvc_utils import work\nwork.losses.focal()\n",
        "from fgvc_utils.work.losses import focal as f\nf()\n",
        "from fgvc_utils.work.losses import *\nfocal()\n",
        "from fgvc_utils.work.stage import losses\nlosses.focal()\n",
        "from fgvc_utils.work import stage\nstage.losses.focal()\n",
        "from fgvc_utils.work import again\nagain.loss()\n",
        "def f():\n    from fgvc_utils.work import losses\n    return losses.focal()\n",
        "from fgvc_utils.work import losses\n@losses.focal\ndef f():\n    pass\n",
        "entry = 'fgvc_utils.work.losses:focal'\n",
        "from fgvc_utils.work import losses\ngetattr(losses, 'fo' + 'cal')()\n",
        "from fgvc_utils import work\ndo(work)\n",
        "from fgvc_utils.work import losses\nlosses.not_there()\n",
    ],
)  # fmt: skip
def test_a_function_is_found_however_it_is_named(package, notebook):
    again = {"work.again": "from fgvc_utils.work.losses import focal as loss\n"}
    before = sources.reached_from(notebook, package=package(again))
    assert {"work.losses.focal", "work.losses.WEIGHT"} <= before.keys()
    new = edited("work.losses", "math.pi", "math.tau")
    after = sources.reached_from(notebook, package=package(again | new))
    assert sources.changed(before, after) == ["work.losses.focal"]


def test_what_registers_itself_is_found_where_its_module_is_imported(package):
    registry = {
        "work.registry": "ALL = {}\ndef entry(f):\n    ALL[f.__name__] = f\n    return f\n",
        "work.entries": (
            "from fgvc_utils.work.registry import entry\n@entry\ndef cut():\n    return 1\n"
        ),
    }
    notebook = (
        "import fgvc_utils.work.entries\nfrom fgvc_utils.work.registry import ALL\nALL['cut']\n"
    )
    before = sources.reached_from(notebook, package=package(registry))
    registry["work.entries"] = registry["work.entries"].replace("return 1", "return 2")
    after = sources.reached_from(notebook, package=package(registry))
    assert sources.changed(before, after) == ["work.entries"]


def test_of_a_record_the_methods_count_and_the_fields_do_not(package):
    notebook = "from fgvc_utils.work import records\nrecords.read(3)\n"

    def after(old, new):
        return changes(package, edited("work.records", old, new), notebook, notebook)

    assert after("size: int = 224", "size: float = 256\n    cooling: int = 0") == []
    assert after("epochs: int = 1", "epochs: int = 1\n    warm: int = 0") == []
    assert after("return self.size", "return 2 * self.size") == ["work.records.Job"]
    assert after("Job(size=file)", "Job(epochs=file)") == ["work.records.read"]


def test_another_function_or_library_under_the_same_name_is_a_change(package):
    root = [Definition("work.losses", "focal")]
    before = sources.reached(root, package=package())
    other = package(edited("work.losses", "import math", "import cmath as math"))
    assert sources.changed(before, sources.reached(root, package=other)) == ["work.losses.focal"]


def test_what_is_not_run_is_not_followed(package):
    root, folder = [Definition("work.stage", "other")], package()
    idle = [Definition("work.losses", "focal")]
    assert sorted(sources.reached(root, without=idle, package=folder)) == ["work.stage.other"]
    with pytest.raises(KeyError, match="work.stage.absent"):
        sources.reached([Definition("work.stage", "absent")], package=folder)
    with pytest.raises(KeyError, match="work.losses.absent"):
        sources.reached(root, without=[Definition("work.losses", "absent")], package=folder)


def modules():
    """All modules of the real package with their docstrings, by dotted name."""
    for file in sorted(sources.PACKAGE.rglob("*.py")):
        parts = file.relative_to(sources.PACKAGE).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        yield ".".join(parts), ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""


def test_what_counts_in_no_digest_says_so_in_one_form_of_words():
    docstrings = dict(modules())
    for name, text in docstrings.items():
        line = re.search(rf"{sources.MARK}.*", text, re.IGNORECASE)
        # The module that explains the line quotes it.
        if line and name != "jobs.sources":
            assert re.fullmatch(rf"{sources.MARK}({sources.SHOWS})?\.", line[0]), name
    shows = {name for name in docstrings if mark_of(name) == "shows"}
    assert {name.split(".")[0] for name in shows} == {"looking", "hardware", "pages"}
    assert {name for name in shows if name.startswith("hardware")} == {"hardware.progress"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("looking.plots", "shows"),
        ("pipeline.checks.images", "code"),
        ("hardware.launch", "code"),
        ("training.params", "code"),
        ("jobs.sources", "code"),
        ("jobs.records", ""),
        ("training.fitting", ""),
        ("cleaning.rules", ""),
        ("answers.assignment", ""),
    ],
)
def test_what_works_counts_and_what_shows_or_starts_does_not(name, expected):
    assert mark_of(name) == expected


def test_stages_depend_on_the_code_that_they_run():
    codes = {stage: code_of(stage) for stage in STAGES}

    def stages_with(definition):
        return {stage for stage, code in codes.items() if definition in code}

    assert stages_with("answers.assignment.assign") == {"40_submit"}
    assert stages_with("training.losses.Objective") == set(STAGES) - {"40_submit"}
    assert stages_with("training.convex.fit_layer") == set(STAGES) - {"40_submit"}
    assert stages_with("cleaning.rounds.recut") == {"02_coarse", "03_fine"}
    assert "hardware.launch.launch" not in codes["10_train"]
    assert not [name for name in codes["10_train"] if name.startswith(("looking.", "pipeline."))]


def test_the_guide_for_developers_names_the_line_that_takes_code_out():
    assert sources.MARK in (PROJECT / "docs" / "develop.md").read_text("utf-8")


def test_versions_name_what_fits_and_decodes():
    found = sources.versions()
    assert found["torch"][0].isdigit() and "not there" not in found.values()
