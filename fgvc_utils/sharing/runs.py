"""A run that others take from: found by its contest file or its folder, read and never changed."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.contest import tables
from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.contest_file import notebook_defaults, read_contest_file
from fgvc_utils.contest.inventory import raw_images, read_inventory
from fgvc_utils.contest.parameters import TABLES, ParameterError
from fgvc_utils.contest.places import expanded
from fgvc_utils.contest.runs import locate_run, stamped_parameters
from fgvc_utils.core.project import command_line

FIRST = "01_noise"


@dataclass(frozen=True)
class FinishedRun:
    """A run's tables, pictures and parameters.

    Attributes
    ----------
    cfg : Shared
        Names the run and where it lies.
    table_name : str
        The label table that is taken.
    """

    cfg: Shared
    table_name: str

    @property
    def folder(self) -> Path:
        """Where the run lies."""
        return self.cfg.folder

    @cached_property
    def table(self) -> pd.DataFrame:
        """The label table, by image_id."""
        return tables.read_table(self.cfg.table_path(self.table_name))

    @cached_property
    def inventory(self) -> pd.DataFrame:
        """What 01 noted of each file, by image_id, with `file`, its picture in the cache."""
        return read_inventory(self.cfg)

    @cached_property
    def classes(self) -> list[str]:
        """All classes; a class's place is its number in every stage."""
        return tables.classes_of(self.table)

    @cached_property
    def root(self) -> Path:
        """The folder of the raw images."""
        return raw_images(self.cfg)

    @property
    def journals(self) -> list[Path]:
        """The files of people's decisions, by their names."""
        return sorted(self.cfg.journal(FIRST).parent.glob("*.csv"))

    def parameters(self, stage: str) -> dict[str, Any]:
        """The values that a stage ran with; the notebook's own where it left no stamp."""
        return notebook_defaults(stage) | stamped_parameters(self.cfg.stamp(stage))


def find_run(named: str | Path, table: str = "", data_root: str = "") -> FinishedRun:
    """Find a run by its contest file, its folder or its name.

    Parameters
    ----------
    named : str or Path
        A contest file (.yaml), a run's folder, such as outputs/demo, or the name of one in
        outputs/; see `contest.runs.locate_run`.
    table : str
        The label table; empty for the last one that is there.
    data_root : str
        Of the raw images; empty for that of the contest file, or that the run was made with.

    Raises
    ------
    ParameterError
        There is no such run, contest file or table; says what to do.
    """
    folder, contest = locate_run(named)
    cfg = _from_contest(contest, data_root) if contest else _from_folder(folder, data_root)
    there = [name for name in TABLES if cfg.table_path(name).is_file()]
    if table and table not in TABLES:
        raise ParameterError(f"table {table!r}: the label tables are {', '.join(TABLES)}")
    if not there or (table and table not in there):
        missing = cfg.table_path(table or FIRST)
        raise ParameterError(
            f"{missing} is not there: run the contest as far as {missing.stem} first, by "
            f"`{command_line('run', '…')}`"
        )
    return FinishedRun(cfg, table or there[-1])


def _from_contest(path: Path, data_root: str) -> Shared:
    given = notebook_defaults(FIRST) | read_contest_file(path).shared
    fields = {name: given[name] for name in ("run", "outputs", "data_root", "seed")}
    return Shared(contest=str(path), **(fields | _moved(data_root)))


def _from_folder(folder: Path, data_root: str) -> Shared:
    folder = folder.resolve()
    stamp = folder / "stages" / f"{FIRST}.json"
    given = notebook_defaults(FIRST) | stamped_parameters(stamp)
    fields = {"data_root": given["data_root"], "seed": given["seed"]} | _moved(data_root)
    return Shared(contest="", run=folder.name, outputs=str(folder.parent), **fields)


def _moved(data_root: str) -> dict[str, str]:
    """A data root that the caller gives: where they stand, if it is there, else as it is named."""
    if not data_root:
        return {}
    here = expanded(data_root).absolute()
    return {"data_root": str(here) if here.is_dir() else data_root}
