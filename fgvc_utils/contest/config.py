"""Typed parameters: one record a stage, and how a contest's folders are found.

The records have no defaults. A default lives once, in the notebook's parameters cell, so a notebook
that forgets a parameter or has one too many fails before it works.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fgvc_utils.contest.parameters import (
    Count,
    CountOrZero,
    FolderName,
    Parameters,
    Pixels,
)
from fgvc_utils.contest.places import PROJECT


class Shared(Parameters):
    """What all stages share."""

    run: FolderName
    outputs: str
    data_root: str
    seed: CountOrZero
    processes: Count
    nodes: Count
    node_rank: CountOrZero
    rendezvous: str
    device: Literal["auto", "cpu", "cuda"]
    threads: CountOrZero
    workers: Annotated[int, Field(ge=-1)]

    @property
    def folder(self) -> Path:
        """The folder of this run; a relative `outputs` lies in the project."""
        return PROJECT / Path(self.outputs).expanduser() / self.run

    def table_path(self, stage: str) -> Path:
        """Where a stage's label table lies."""
        return self.folder / "tables" / f"{stage}.parquet"

    def journal(self, stage: str) -> Path:
        """Where a stage's human decisions lie."""
        return self.folder / "decisions" / f"{stage}.csv"

    @property
    def report(self) -> Path:
        """The figures that tests and people read."""
        return self.folder / "report.json"


class Network(Parameters):
    """A network and the size of its images."""

    # Its features lie in a folder of this name.
    backbone: FolderName
    weights: str
    size: Pixels
