"""A run as its folder tells it: what steps left, read without the contest file or its images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fgvc_utils.contest.class_names import known_names, told_apart
from fgvc_utils.contest.contest_file import stage_names
from fgvc_utils.contest.parameters import TABLES
from fgvc_utils.contest.places import data_root
from fgvc_utils.contest.runs import locate_run
from fgvc_utils.core.files import read_json
from fgvc_utils.core.reading import read_parquet

# The page of a run, in its folder.
PAGE = "index.html"
# Of a label table, what pages show.
COLUMNS = (
    "image_id",
    "path",
    "split",
    "given",
    "label",
    "status",
    "stage",
    "by",
    "cause",
    "reason",
)
# What a reader may want to open beside the page.
PLACES_TO_LINK = (
    "report.json",
    "ledger.csv",
    "submissions.csv",
    "progress.log",
    "tables/left_out.csv",
    "tables/inventory.parquet",
    *(f"tables/{stage}.parquet" for stage in TABLES),
)


class StageFacts(NamedTuple):
    """What a page says of a stage: what it is for, in a line, and its usual parameters by name."""

    does: str
    usual: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A run by its folder; what it holds is read when it is first asked for.

    Attributes
    ----------
    folder : Path
        The run's folder, such as outputs/demo.
    stages : mapping of str to StageFacts
        What is known of the stages; a stage that is not there has no line and no usual parameters.
    """

    folder: Path
    stages: Mapping[str, StageFacts] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run's name: that of its folder."""
        return Path(self.folder).absolute().name

    @cached_property
    def report(self) -> dict[str, Any]:
        """The sections of report.json by name; empty where there is none."""
        path = self.folder / "report.json"
        report = read_json(path) if path.is_file() else {}
        if not isinstance(report, dict):
            raise ValueError(f"{path} holds no sections by name: move it away and run a stage")
        return report

    def figures(self, section: str) -> dict[str, Any]:
        """One section of the report; empty where it is not there."""
        found = self.report.get(section)
        return found if isinstance(found, dict) else {}

    @cached_property
    def stamps(self) -> dict[str, dict[str, Any]]:
        """What each step that is done read and wrote, by its name, in order of the stages."""
        files = sorted((self.folder / "stages").glob("[0-9][0-9]_*.json"))
        return {file.stem: read_json(file) for file in files}

    def parameters(self, step: str) -> dict[str, Any]:
        """The parameters that a step was done with; empty where its stamp is not there."""
        return self.stamps.get(step, {}).get("parameters", {})

    @cached_property
    def executed(self) -> list[str]:
        """The names of the executed notebooks, in order of the stages."""
        return sorted(file.stem for file in self.folder.glob("[0-9][0-9]_*.ipynb"))

    @cached_property
    def seconds(self) -> dict[str, float]:
        """How long each step took when it was last done as a whole, in seconds, by its name."""
        path = self.folder / "seconds.json"
        known = read_json(path) if path.is_file() else {}
        return {name: float(took["seconds"]) for name, took in known.items()}

    @cached_property
    def tables(self) -> list[str]:
        """The stages whose table is there, in order."""
        return [stage for stage in TABLES if self.table_path(stage).is_file()]

    def table_path(self, stage: str) -> Path:
        """Where a stage's label table lies."""
        return self.folder / "tables" / f"{stage}.parquet"

    def table(self, stage: str) -> pd.DataFrame:
        """A stage's label table, `COLUMNS`, indexed by image_id.

        It is read anew each time: of half a million images a few tables are all that memory should
        hold.
        """
        path = self.table_path(stage)
        table = read_parquet(path, f"run the notebook {stage} again", COLUMNS)
        return table.set_axis(pd.Index(table["image_id"], dtype=object))

    @cached_property
    def last_table(self) -> pd.DataFrame:
        """The table of the latest stage that has one; see `table`."""
        return self.table(self.tables[-1])

    @cached_property
    def inventory(self) -> pd.DataFrame:
        """What 01 found of each file, by image_id: stored_as, cached, error, note; may be empty."""
        path = self.folder / "tables" / "inventory.parquet"
        columns = ["image_id", "path", "stored_as", "cached", "error", "note"]
        if not path.is_file():
            return pd.DataFrame(columns=columns, dtype=str)
        found = read_parquet(path, "run the notebook 01_noise again")
        found = found[[name for name in columns if name in found]]
        return found.set_axis(pd.Index(found["image_id"], dtype=object))

    @cached_property
    def names(self) -> dict[str, str]:
        """What classes are called where that is not what they are, by class; may be empty."""
        # Of a contest's parameters it asks for the folder alone.
        known = known_names(self)  # type: ignore[arg-type]
        return told_apart(known)

    def called(self, label: str) -> str:
        """What a class is called for people."""
        return self.names.get(label, label)

    @cached_property
    def raw(self) -> Path | None:
        """The folder of the raw images, None where no stamp says so or it is not here."""
        try:
            name = self.parameters("01_noise").get("data_root", "")
            return data_root(name) if name else None
        # Its stamp may be spoilt too, which other parts of the page say.
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    @property
    def cache(self) -> Path:
        """Where decoded pictures are, beside the runs."""
        return self.folder.absolute().parent / "cache"

    @property
    def picture_folders(self) -> list[Path]:
        """The folders that a page may show pictures from, as a gallery."""
        return [self.cache, *([self.raw] if self.raw is not None else [])]

    def picture(self, image_id: str) -> Path | None:
        """Where a picture of an image lies, in the cache or raw; None where neither is there."""
        cached = str(self.inventory["cached"].get(image_id, ""))
        if cached:
            path = self.cache / cached
            if path.is_file():
                return path
        if self.raw is not None and "path" in self.inventory:
            path = self.raw / str(self.inventory["path"].get(image_id, ""))
            return path if path.is_file() else None
        return None

    def facts(self, step: str) -> StageFacts:
        """What is known of the stage of a step."""
        return self.stages.get(stage_of(step), StageFacts("", {}))

    def steps(self, named: Sequence[str] = ()) -> list[str]:
        """The names of the steps: those given, then others that left something, by stage."""
        found = [*self.stamps, *self.executed]
        return [*named, *sorted(set(found) - set(named))]


def stage_of(step: str) -> str:
    """The stage of a step: 10_train of 10_train-b0."""
    stages = [stage for stage in stage_names() if step == stage or step.startswith(f"{stage}-")]
    return max(stages, key=len, default=step)


def find_run(name: str, stages: Mapping[str, StageFacts] | None = None) -> Run:
    """Find a run by its folder, by its name or by its contest file; see `contest.runs.locate_run`.

    Parameters
    ----------
    name : str
        What names the run.
    stages : mapping of str to StageFacts
        As for `Run`.
    """
    return Run(locate_run(name).folder, stages or {})
