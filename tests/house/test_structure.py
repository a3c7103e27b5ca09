"""The wings: who may import whom, how long a file is, what a kernel need not load."""

import ast
import json
import re
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

from fgvc_utils.contest.places import PROJECT

PACKAGE = PROJECT / "fgvc_utils"
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
WINGS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
LONGEST = 500
# The drawings of the demo contest, a list of shapes.
MAY_BE_LONG = {"demo.art"}
# Modules beside the wings: each a command, `python -m fgvc_utils.<name>`, thin by contract.
COMMANDS = {"compare", "export", "predict"}
LONGEST_COMMAND = 170


def imported(source):
    """The modules of the package that a piece of Python imports, at any depth, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {name.partition(".")[2] for name in names if name.startswith("fgvc_utils.")}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where they go"
            if f"{node.module}.".startswith("fgvc_utils."):
                place = node.module.partition(".")[2]
                for alias in node.names:
                    module = f"{place}.{alias.name}".strip(".")
                    found.add(module if module in FILES else place)
    return found


def may_import(wing):
    """The wings that the docstring of a wing's `__init__` allows it."""
    text = ast.get_docstring(ast.parse(FILES[f"{wing}.__init__"].read_text("utf-8")))
    allowed = re.search(r"^May import: (.*)\.$", text, re.MULTILINE)
    assert allowed, f"{wing}/__init__.py says no `May import: ….`"
    return set(re.split(r", | and ", allowed[1])) & set(WINGS)


def test_the_reader_of_imports_sees_every_form():
    source = (
        "import fgvc_utils.core.files\nfrom fgvc_utils.contest import tables, config as c\n"
        "def f():\n    from fgvc_utils.training.feed import InTurn\nimport fastai\n"
    )
    wanted = {"core.files", "contest.tables", "contest.config", "training.feed"}
    assert imported(source) == wanted


@pytest.mark.parametrize("module", [name for name in FILES if "." in name])
def test_a_wing_imports_what_its_docstring_allows(module):
    wing = module.split(".")[0]
    wings = {name.split(".")[0] for name in imported(FILES[module].read_text("utf-8"))}
    assert not wings - may_import(wing) - {wing}


def test_wings_point_one_way():
    order = list(TopologicalSorter({wing: may_import(wing) for wing in WINGS}).static_order())
    assert sorted(order) == WINGS


def test_modules_import_each_other_in_no_circle():
    graph = {name: imported(path.read_text("utf-8")) - {name} for name, path in FILES.items()}
    list(TopologicalSorter(graph).static_order())


def test_every_module_lies_in_a_wing_or_is_a_command():
    assert {name for name in FILES if "." not in name} == {"__init__", "__main__", *COMMANDS}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_is_thin_and_its_help_comes_at_once(name):
    assert len(FILES[name].read_text("utf-8").splitlines()) <= LONGEST_COMMAND
    heavy = {"torch", "timm", "pandas", "numpy", "pydantic", "yaml"}
    assert loaded_by(f"from fgvc_utils.{name} import parser\nparser()", heavy) == "[]"


@pytest.mark.parametrize("module", sorted(FILES.keys() - MAY_BE_LONG))
def test_no_file_is_too_long_to_be_read(module):
    assert len(FILES[module].read_text("utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", [*PACKAGE.glob("**/__init__.py")], ids=lambda p: p.parent.name)
def test_folders_hold_no_code_of_their_own(path):
    (docstring,) = ast.parse(path.read_text("utf-8")).body
    assert isinstance(docstring, ast.Expr)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_leave_the_heavy_imports_to_the_worker(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    source = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & {"fastai", "timm", "torch"}


def loaded_by(script, heavy):
    """Which of some packages a new Python has loaded after a script."""
    script = f"import sys\n{script}\nprint(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_notebooks_import_loads_nothing_heavy():
    modules = set()
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                modules |= imported("".join(cell["source"]))
    script = "\n".join(f"import fgvc_utils.{name}" for name in sorted(modules))
    heavy = {"torch", "torchvision", "fastai", "timm", "scipy", "sklearn", "nbformat"}
    assert loaded_by(script, heavy) == "[]"


def test_the_command_says_what_it_can_without_anything_that_takes_time():
    heavy = {"numpy", "pandas", "pydantic", "yaml", "torch", "papermill", "PIL"}
    assert loaded_by("from fgvc_utils.command.main import main; main([])", heavy).endswith("[]")


def test_the_pipeline_plans_without_anything_heavy():
    heavy = {"torch", "timm", "scipy", "sklearn", "papermill", "nbformat", "matplotlib"}
    assert loaded_by("import fgvc_utils.pipeline.running", heavy) == "[]"
