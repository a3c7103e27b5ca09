"""The rooms of the package: who may import whom, and what a kernel need not load."""

import ast
import json
import subprocess
import sys

import pytest

from fgvc_utils.config import PROJECT

PACKAGE = PROJECT / "fgvc_utils"
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))

# Level, then place within the level: an import goes from a higher pair to a lower one.
LEVELS = {
    "pipeline": (4, 0),
    "worker": (4, 0),
    "checking": (3, 1),
    "augment_sheet": (3, 1),
    "gallery": (3, 1),
    "gallery_messages": (3, 0),
    "sheets": (3, 0),
    "plots": (3, 0),
    "crossing": (3, 1),
    "noise": (3, 1),
    "stage": (3, 0),
    "demo": (2, 2),
    "predicting": (2, 2),
    "launch": (2, 1),
    "renewing": (2, 2),
    "fitting": (2, 1),
    "callbacks": (2, 0),
    "networks": (1, 5),
    "material": (1, 4),
    "cleaning": (2, 0),
    "review": (2, 0),
    "candidates": (2, 0),
    "posterior": (2, 0),
    "ensembling": (2, 0),
    "mistakes": (2, 0),
    "assignment": (2, 0),
    "label_shift": (2, 1),
    "submission": (2, 0),
    "jobs": (1, 3),
    "convex": (1, 1),
    "feed": (1, 3),
    "decoded": (1, 2),
    "reduction": (1, 1),
    "predictions": (1, 0),
    "images": (1, 1),
    "thumbnails": (1, 0),
    "copies": (1, 0),
    "listing": (1, 0),
    "augment": (1, 1),
    "colour": (1, 0),
    "balance": (1, 0),
    "averaging": (1, 0),
    "backbones": (1, 1),
    "heads": (1, 0),
    "losses": (1, 0),
    "distributed": (1, 0),
    "demo_art": (1, 0),
    "tables": (0, 1),
    "config": (0, 1),
    "journal": (0, 1),
    "progress": (0, 1),
    "ranks": (0, 1),
    "kernels": (1, 0),
    "heartbeat": (0, 0),
    "sources": (0, 0),
    "locks": (0, 0),
    "files": (0, 0),
    "spreadsheet": (0, 0),
    "weights": (0, 1),
    "reading": (0, 0),
    "intervals": (0, 0),
}


def rooms_imported(source):
    """Names of the package's rooms that a piece of Python imports, at any depth."""
    rooms = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            rooms |= {a.name.split(".")[1] for a in node.names if a.name.startswith("fgvc_utils.")}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where they go"
            if node.module == "fgvc_utils":
                rooms |= {alias.name for alias in node.names}
            elif node.module.startswith("fgvc_utils."):
                rooms.add(node.module.split(".")[1])
    return rooms


def test_the_reader_of_imports_sees_every_form():
    source = (
        "import fgvc_utils.files\nfrom fgvc_utils import tables, config as c\n"
        "def f():\n    from fgvc_utils.feed import InTurn\nimport fastai\n"
    )
    assert rooms_imported(source) == {"files", "tables", "config", "feed"}


def test_every_room_has_its_level():
    rooms = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert not rooms - set(LEVELS), "give the new room a level in this test"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_imports_point_downwards_only(path):
    own = LEVELS[path.stem]
    upwards = [room for room in rooms_imported(path.read_text("utf-8")) if LEVELS[room] >= own]
    assert not upwards, f"{path.stem} imports {upwards}, which do not lie below it"


def test_the_package_itself_is_empty():
    assert (PACKAGE / "__init__.py").read_bytes() == b""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_leave_the_heavy_imports_to_the_worker(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    source = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & {"fastai", "timm", "torch"}


def test_the_rooms_of_a_notebook_load_no_torch():
    rooms = [
        "assignment",
        "augment_sheet",
        "averaging",
        "candidates",
        "cleaning",
        "decoded",
        "ensembling",
        "gallery",
        "images",
        "journal",
        "label_shift",
        "launch",
        "listing",
        "mistakes",
    ]
    rooms += ["plots", "review", "sheets", "stage", "submission", "tables"]
    script = "import sys\n" + "\n".join(f"import fgvc_utils.{room}" for room in rooms)
    script += "\nprint(sorted({'torch', 'torchvision', 'fastai', 'timm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
