"""02 and 03 are one notebook in two names; `python tests/support/twin_notebooks.py` makes them so.

It takes every code cell of 03 over into 02, and new cells of prose; the stage, the defaults and the
prose of 02 stay. A parameter that 03 alone names is off in 02: its record has a neutral value.
"""

import ast
import json
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
SOURCE, COPY = "03_fine", "02_coarse"
# The third code cell names the stage and the one before it.
PARAMETERS, STAGE = 1, 2


def read(name: str, folder: Path = NOTEBOOKS) -> dict:
    return json.loads((folder / f"{name}.ipynb").read_text("utf-8"))


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def text(cell: dict) -> str:
    return "".join(cell["source"])


def without_stage(source: str) -> str:
    return "\n".join(line for line in source.split("\n") if not line.startswith("STAGE"))


def defaults(cell: dict) -> dict[str, str]:
    """Name → annotation and value of a parameters cell, as text."""
    lines = [node for node in ast.parse(text(cell)).body if isinstance(node, ast.AnnAssign)]
    return {node.target.id: ast.unparse(node) for node in lines}


def differences(source: dict, copy: dict) -> list[str]:
    """Where a notebook is not the same as another but for stage, defaults and prose."""
    kinds = [[cell["cell_type"] for cell in one["cells"]] for one in (source, copy)]
    if kinds[0] != kinds[1]:
        return [f"cells are {kinds[0]} and {kinds[1]}"]
    found = []
    for number, cells in enumerate(zip(code_cells(source), code_cells(copy), strict=True)):
        one, other = map(text, cells)
        if number == PARAMETERS:
            there, here = (list(defaults(cell)) for cell in cells)
            if [name for name in there if name in here] != here:
                found.append(f"parameters are {there} and {here}")
        elif number == STAGE:
            one, other = map(without_stage, (one, other))
        if number != PARAMETERS and one != other:
            found.append(f"code cell {number + 1}:\n{one}\n--- and\n{other}")
    return found


def brought_up_to_date(source: dict, copy: dict) -> dict:
    """The copy with the code cells of the source; its stage, defaults and prose stay."""
    own_name, name = (one["cells"][0]["id"].split("-")[0] for one in (copy, source))
    own = {cell["id"]: cell for cell in copy["cells"]}
    cells, number = [], 0
    for cell in source["cells"]:
        renamed = cell["id"].replace(f"{name}-", f"{own_name}-")
        kept = own.get(renamed, cell)
        is_code = cell["cell_type"] == "code"
        takes_own = not is_code or number in (PARAMETERS, STAGE)
        cells.append((kept if takes_own else cell) | {"id": renamed})
        number += is_code
    return copy | {"cells": cells}


def main() -> None:
    made = brought_up_to_date(read(SOURCE), read(COPY))
    written = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    (NOTEBOOKS / f"{COPY}.ipynb").write_text(written, "utf-8")


if __name__ == "__main__":
    main()
