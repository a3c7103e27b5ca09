"""What only shows is left out of a notebook's code; what acts stays, wherever it stands."""

import ast

import pytest

from fgvc_utils.contest.places import PROJECT
from fgvc_utils.pipeline.cells import acting

HEAD = """
from fgvc_utils.cleaning import rules
from fgvc_utils.contest.report import finish
from fgvc_utils.looking import plots
from fgvc_utils.looking.sheets import contact_sheet
"""


def left(source):
    """What is left of some code after the imports."""
    tree = ast.parse(acting([HEAD, source]))
    kept = [node for node in tree.body if not isinstance(node, ast.ImportFrom)]
    return "\n".join(ast.unparse(node) for node in kept)


@pytest.mark.parametrize(
    "source",
    [
        "print(f'{len(a)} images')",
        "display(table.head(10), plots.scores(a))",
        "plots.scores(a, 'a title')",
        "contact_sheet(a, limit=12)",
        "contact_sheet(a) if len(a) else 'nothing to see'",
        "if a:\n    print('b')",
        "for a in b:\n    if a:\n        plots.scores(a)",
    ],
)
def test_what_only_shows_is_left_out(source):
    assert left(source) == ""


@pytest.mark.parametrize(
    "source",
    [
        "table = rules.apply(table)",
        "review.require(True)",
        "lab.check(everyone)",
        "finish(cfg, STAGE, figures, table)",
        "reason = 'noise'",
        "rules.apply(a) if a else None",
        "shown[a] = 1 - b",
        "if a:\n    b = 1",
    ],
)
def test_what_may_act_stays_as_it_is(source):
    assert left(source) == source


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("display(rules.write(a, 3))", "display(rules.write(a, None))"),
        ("print(f'{rules.count(a)} of {b}: {c:.3f}')", "print((rules.count(a), b, c))"),
        ("b = plots.scores(a, title='A', size=3)", "b = plots.scores(a, title=None, size=None)"),
        ("if a:\n    print('b')\nelse:\n    c = 1", "if a:\n    pass\nelse:\n    c = 1"),
        ("if rules.ask(a):\n    print('b')", "if rules.ask(a):\n    pass"),
    ],
)
def test_captions_and_sizes_of_what_shows_do_not_count(source, kept):
    assert left(source) == kept


def test_a_table_s_reasons_of_the_notebooks_stay(notebook_code):
    assert "too little agreement" in notebook_code("04_lowq")
    assert "Do these images show one subject?" not in notebook_code("04_lowq")


@pytest.fixture
def notebook_code():
    import nbformat

    def of(stage):
        notebook = nbformat.read(PROJECT / "notebooks" / f"{stage}.ipynb", as_version=4)
        return acting([c.source for c in notebook.cells if c.cell_type == "code"])

    return of
