"""What every notebook keeps to: its parameters are its stage's record, and nothing is hidden."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import nbformat
import pytest

from fgvc_utils.contest import machines
from fgvc_utils.pipeline.stages import STAGES

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NAMES = tuple(STAGES)
PAPERMILL_KEYS = "metadata.papermill cell.metadata.papermill cell.metadata.execution"
HEAVY = {"fastai", "timm"}
COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

every_notebook = pytest.mark.parametrize("name", NAMES)


@cache
def notebook(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(name: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook(name).cells if cell.cell_type == "code"]


def parsed(name: str) -> ast.Module:
    """All code of a notebook as one tree; escapes (`!`, `%`, `?`) are no Python and raise."""
    tree = ast.Module(body=[], type_ignores=[])
    for number, cell in enumerate(code_cells(name), start=1):
        try:
            tree.body += ast.parse(cell.source).body
        except SyntaxError as error:
            pytest.fail(f"{name}: code cell {number} is not plain Python ({error}):\n{cell.source}")
    return tree


def parameters(name: str) -> dict[str, tuple[str | None, Any]]:
    """Name → (annotation or None, value) of the parameters cell, which holds nothing else."""
    found: dict[str, tuple[str | None, Any]] = {}
    for node in ast.parse(code_cells(name)[1].source).body:
        if isinstance(node, ast.AnnAssign):
            target, annotation = node.target, ast.unparse(node.annotation)
        else:
            text = ast.unparse(node)
            assert isinstance(node, ast.Assign) and len(node.targets) == 1, f"{name}: {text}"
            target, annotation = node.targets[0], None
        assert isinstance(target, ast.Name), f"{name}: {ast.unparse(node)} sets no plain name"
        assert target.id not in found, f"{name}: {target.id} is set twice"
        assert node.value is not None, f"{name}: {target.id} has no value"
        try:
            value = ast.literal_eval(node.value)
        except ValueError:
            pytest.fail(f"{name}: the value of {target.id} is no literal")
        found[target.id] = (annotation, value)
    return found


def plain(kind: Any) -> str:
    """A field's type as a notebook writes it, its limits left out: `Share` is `float`."""
    origin = get_origin(kind)
    if origin is Annotated:
        return plain(get_args(kind)[0])
    if origin is Literal:
        (same,) = {type(choice).__name__ for choice in get_args(kind)}
        return same
    if origin in (Union, UnionType):
        return " | ".join(plain(part) for part in get_args(kind))
    if origin is not None:
        return f"{origin.__name__}[{', '.join(plain(part) for part in get_args(kind))}]"
    return "None" if kind is type(None) else kind.__name__


def fits(annotation: str | None, kind: str) -> bool:
    """A list's annotation may leave out of what; no annotation is one that papermill infers."""
    return annotation in (None, kind) or (annotation == "list" and kind.startswith("list["))


def test_plain_types():
    assert fits("list", "list[int]") and not fits("list[str]", "list[int]")
    assert plain(Annotated[float, "limits"]) == "float"
    assert plain(list[Annotated[int, "limits"]]) == "list[int]"
    assert plain(list[Literal["a", "b"]]) == "list[str]"
    assert plain(int | None) == "int | None"


def test_there_is_a_notebook_for_each_stage():
    assert tuple(sorted(path.stem for path in FOLDER.glob("*.ipynb"))) == NAMES


@every_notebook
def test_is_a_valid_notebook_for_any_python_kernel(name):
    nbformat.validate(notebook(name))
    assert notebook(name).metadata.kernelspec.name == "python3"


@every_notebook
def test_opens_with_a_title_and_imports(name):
    first = notebook(name).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    nodes = ast.parse(code_cells(name)[0].source).body
    assert nodes and all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in nodes)


@every_notebook
def test_only_the_second_code_cell_is_tagged_parameters(name):
    tagged = [
        number
        for number, cell in enumerate(code_cells(name), start=1)
        if "parameters" in cell.metadata.get("tags", [])
    ]
    assert tagged == [2]


@every_notebook
def test_parameters_are_the_fields_of_the_record(name):
    """The cell may leave out what has a default and a help line in the record."""
    fields = STAGES[name].parameters.model_fields
    wanted = {field for field, about in fields.items() if about.is_required()}
    assert wanted <= set(parameters(name)) <= set(fields)
    unsaid = fields.keys() - parameters(name).keys()
    assert all(fields[field].description for field in unsaid), unsaid


@every_notebook
def test_parameters_are_grouped_and_the_contest_file_comes_first(name):
    lines = code_cells(name)[1].source.splitlines()
    heads = [line.removeprefix("# ").split(":")[0] for line in lines if line.startswith("# ")]
    groups = [head.split(" (")[0] for head in heads]
    order = ["run", "data", "model", "recipe", "review", "hardware"]
    assert lines[0] == "# run" and lines[1].startswith("contest: str = ")
    assert set(groups) <= set(order) and {"run", "recipe", "hardware"} <= set(groups)
    assert groups == sorted(groups, key=order.index)


@every_notebook
def test_no_cell_repeats_the_parameters_of_the_hardware(name):
    assert not set(parameters(name)) & machines.NAMES
    prose = [cell.source for cell in notebook(name).cells if cell.cell_type == "markdown"]
    repeated = {each for each in machines.NAMES for text in prose if f"`{each}`" in text}
    assert repeated <= {"workers"}, "where time waits for pictures, 10 says what helps"


@every_notebook
def test_each_parameter_has_a_help_comment(name):
    source = code_cells(name)[1].source
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    helped = {
        token.start[0]
        for token in tokens
        if token.type == tokenize.COMMENT and len(token.string.strip("# ")) > 2
    }
    unsaid = [
        ast.unparse(node)
        for node in ast.parse(source).body
        if helped.isdisjoint(range(node.lineno, node.end_lineno + 1))
    ]
    assert not unsaid


@every_notebook
def test_annotations_are_the_types_of_the_fields(name):
    fields = STAGES[name].parameters.model_fields
    wrong = {
        key: f"{annotation}, not {plain(fields[key].annotation)}"
        for key, (annotation, _) in parameters(name).items()
        if key in fields and not fits(annotation, plain(fields[key].annotation))
    }
    assert not wrong


@every_notebook
def test_defaults_make_a_record_as_they_are(name):
    defaults = {key: value for key, (_, value) in parameters(name).items()}
    record = STAGES[name].parameters(**defaults).model_dump(exclude_unset=True)
    assert record == defaults
    # A whole number may stand for a float; text for a number or a flag may not.
    turned = [
        key
        for key, value in defaults.items()
        if type(record[key]) is not type(value) and (type(value), type(record[key])) != (int, float)
    ]
    assert not turned


@every_notebook
def test_third_code_cell_reads_the_record_in_one_line(name):
    record = STAGES[name].parameters.__name__
    lines = code_cells(name)[2].source.splitlines()
    assert lines[1] == f"cfg = {record}.read(globals(), STAGE)"
    more = [line.partition("  #")[0] for line in lines[2:]]
    # 01 is the one that finds out what classes are called.
    names = [] if name == "01_noise" else ["use_names(cfg)"]
    assert more in (names, ["start_ranks(cfg)", *names])
    assert re.match(rf'STAGE(, BEFORE)? = "{name}"', lines[0])


def bound(tree: ast.AST) -> set[str]:
    """The names that code binds in its own scope, in whatever way Python has for it.

    What a function, a class or a comprehension binds inside stays there.
    """
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            found |= {node.name} - {None}
        elif isinstance(node, ast.MatchMapping):
            found |= {node.rest} - {None}
        elif isinstance(node, COMPREHENSIONS):
            # Its loop variables are its own, what `:=` binds is not.
            walrus = [n for n in ast.walk(node) if isinstance(n, ast.NamedExpr)]
            found |= {each.target.id for each in walrus}
            continue
        elif isinstance(node, ast.Lambda):
            continue
        found |= bound(node)
    return found


@pytest.mark.parametrize(
    "source",
    [
        "size = 1",
        "size: int = 1",
        "size += 1",
        "a, (size, *b) = c",
        "[(size, a)] = b",
        "for size in range(3):\n    pass",
        "if (size := 3):\n    pass",
        "a = [size := b for b in c]",
        "with a as size:\n    pass",
        "def size():\n    pass",
        "class size:\n    pass",
        "import size",
        "import a.b as size",
        "from a import b as size",
        "try:\n    pass\nexcept ValueError as size:\n    pass",
        "match a:\n    case [size]:\n        pass",
        "match a:\n    case {'b': 1, **size}:\n        pass",
        "del size",
        "if a:\n    while b:\n        size = 1",
    ],
)
def test_every_way_to_bind_a_name_is_seen(source):
    assert "size" in bound(ast.parse(source))


def test_what_binds_no_name_of_a_cell_is_left_alone():
    source = "a = [size for size in b]\nc.size = 1\nc['size'] = 2\nd(size=3)\n"
    source += "def f(size):\n    size = 1\ng = lambda size: size\n"
    assert bound(ast.parse(source)) == {"a", "f", "g"}


@every_notebook
def test_no_cell_takes_the_name_of_a_parameter_for_something_else(name):
    """So that any cell, the one that reads the parameters too, can be run again."""
    parameters_cell = code_cells(name)[1]
    taken = {
        parameter: number
        for number, cell in enumerate(code_cells(name), start=1)
        if cell is not parameters_cell
        for parameter in bound(ast.parse(cell.source)) & set(STAGES[name].parameters.model_fields)
    }
    assert not taken, f"{name}: bound again in the code cells {taken}"


@every_notebook
def test_holds_no_output(name):
    for cell in code_cells(name):
        assert cell.outputs == [] and cell.execution_count is None


def test_stripping_would_change_nothing():
    paths = [str(FOLDER / f"{name}.ipynb") for name in NAMES]
    paths += map(str, FOLDER.parent.glob("docs/*.ipynb"))
    options = ["--verify", "--keep-id", "--extra-keys", PAPERMILL_KEYS]
    command = [sys.executable, "-m", "nbstripout", *options, *paths]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@every_notebook
def test_hides_nothing(name):
    """No escapes, no star import, no path games, no long function, nothing heavy in the kernel."""
    for node in ast.walk(parsed(name)):
        where = f"{name}: {ast.unparse(node)}" if isinstance(node, (ast.stmt, ast.expr)) else name
        if isinstance(node, ast.Import):
            modules = {alias.name.split(".")[0] for alias in node.names}
            assert not modules & HEAVY, where
        elif isinstance(node, ast.ImportFrom):
            assert node.module and node.module.split(".")[0] not in HEAVY, where
            assert all(alias.name != "*" for alias in node.names), where
            assert (node.module, node.names[0].name) != ("sys", "path"), where
        elif isinstance(node, ast.Attribute):
            assert ast.unparse(node) != "sys.path", where
        elif isinstance(node, ast.Name):
            assert node.id != "get_ipython", where
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 5, f"{where}\nis over five lines: package it"


@every_notebook
def test_is_short_and_told_in_prose(name):
    cells = notebook(name).cells
    prose = [cell for cell in cells if cell.cell_type == "markdown"]
    assert 15 <= len(cells) <= 40
    assert len(prose) >= len(cells) / 3, f"{len(prose)} of {len(cells)} cells are prose"
    assert all(cell.source.strip() for cell in cells)


def test_imports_are_light():
    """The first cells bring in neither fastai nor timm, through the package either."""
    lines = ["import sys"]
    for name in NAMES:
        lines.append(code_cells(name)[0].source)
        lines.append(f"heavy = {HEAVY!r} & set(sys.modules)")
        lines.append(f"assert not heavy, ({name!r}, heavy)")
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_parameter_is_read_somewhere():
    """As an attribute, in the package or a cell, or by its name in the entry of a registry."""
    package = [path for path in (FOLDER.parent / "fgvc_utils").rglob("*.py")]
    sources = [path.read_text("utf-8") for path in package if path.name != "params.py"]
    for name in NAMES:
        cells = code_cells(name)
        sources += [
            cell.source for cell in cells if "parameters" not in cell.metadata.get("tags", [])
        ]
    read = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Attribute):
            read.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            read.add(node.value)
    unread = {name: set(STAGES[name].parameters.model_fields) - read for name in NAMES}
    assert not any(unread.values()), unread
