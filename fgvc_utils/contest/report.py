"""A run's report, plain JSON with a section a notebook, and the end of every notebook.

Counts in no digest.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.contest import tables
from fgvc_utils.contest.config import Shared
from fgvc_utils.core.files import read_json, write_json
from fgvc_utils.core.naming import first_few, shortened


def update_report(path: Path, section: str, figures: Mapping[str, Any]) -> None:
    """Put one section's figures into a report, leaving the others as they are.

    Parameters
    ----------
    path : Path
        The report; made where it is not there.
    section : str
        Sections are kept in order of their names.
    figures : mapping
        Plain data by name.
    """
    report = read_json(path) if Path(path).is_file() else {}
    report[section] = dict(figures)
    write_json(dict(sorted(report.items())), path)


def finish(
    cfg: Shared, stage: str, figures: Mapping[str, Any], table: pd.DataFrame | None = None
) -> pd.DataFrame | None:
    """End a notebook: write its table, put its figures into the report, say what came out.

    Parameters
    ----------
    cfg : Shared
        The stage's parameters; a model's section of the report bears its `name` too.
    stage : str
        Such as `03_fine`.
    figures : mapping
        Plain data by name. With a table `kept` (train images) and `emptied_classes` join them.
    table : DataFrame, optional
        The label table, of a stage that makes one: checked, and written whole or not at all.

    Returns
    -------
    DataFrame or None
        The train images by status, stage and reason, where there is a table.

    Raises
    ------
    ValueError
        Naming the column in which the table breaks its promises.
    """
    name = getattr(cfg, "name", "")
    section = f"{stage}-{name}" if name else stage
    if table is None:
        update_report(cfg.report, section, figures)
        return None
    tables.write_table(table, cfg.table_path(stage))
    kept, emptied = int(tables.kept(table).sum()), tables.emptied_classes(table)
    update_report(cfg.report, section, {**figures, "kept": kept, "emptied_classes": emptied})
    empty = first_few([shortened(each, 60) for each in emptied], 20) or "none"
    print(
        f"tables/{stage}.parquet: {kept} of {(table['split'] == 'train').sum()} train images kept; "
        f"classes without any image: {empty}"
    )
    return tables.dropped_by(table)


def summary(path: Path) -> str:
    """The figures of a report in a few lines, a line a section; empty where there is no report."""
    if not Path(path).is_file():
        return ""
    lines = []
    for section, figures in read_json(path).items():
        shown = [
            f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
            for name, value in figures.items()
            if isinstance(value, int | float | str) and not isinstance(value, bool)
        ]
        lines.append(f"  {section}: {', '.join(shown)}")
    return "\n".join(lines)
