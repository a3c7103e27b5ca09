"""A notebook's code cells, run in this process: seconds, where papermill takes a kernel."""

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import nbformat


def run_cells(
    notebook: Path, parameters: Mapping[str, object], again: bool = False
) -> tuple[str, SimpleNamespace]:
    """Run all code cells with some parameters set; what they printed, and the names they leave.

    Without a `contest` among the parameters none is read. With `again` the cells after the
    parameters are then run once more, the last one first: each may be run by hand after all others.
    """
    cells = [c for c in nbformat.read(notebook, as_version=4).cells if c.cell_type == "code"]
    names: dict = {}
    printed = io.StringIO()
    with redirect_stdout(printed):
        for number, cell in enumerate(cells):
            exec(cell.source, names)
            if number == 1:
                names.update({"contest": ""} | dict(parameters))
        for cell in reversed(cells[2:]) if again else ():
            exec(cell.source, names)
    return printed.getvalue(), SimpleNamespace(**names)
