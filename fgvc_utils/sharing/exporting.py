"""What a run found, in the formats of other tools: one entry a format."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.core.files import write_json
from fgvc_utils.core.naming import first_few
from fgvc_utils.sharing.fiftyone import write_fiftyone
from fgvc_utils.sharing.folders import write_folders
from fgvc_utils.sharing.labels import (
    decided_since,
    write_decisions,
    write_issues,
    write_labels,
)
from fgvc_utils.sharing.parquet import write_parquet_pictures
from fgvc_utils.sharing.pictures import Options
from fgvc_utils.sharing.runs import FinishedRun
from fgvc_utils.sharing.written import require_own, whole_folder

Writer = Callable[[FinishedRun, Options, Path], int]
# Says in the export's folder what is in it.
REPORT = "export.json"


class Format(NamedTuple):
    """An entry of `FORMATS`.

    Attributes
    ----------
    caption : str
        What it is, for people.
    write : Callable
        Writes it into a folder of its own and returns how many things are in it.
    counted : str
        What these things are.
    read : str
        How the other tool reads it, `{}` for its folder.
    """

    caption: str
    write: Writer
    counted: str
    read: str


FORMATS = {
    "csv": Format(
        "all images with label, cause and reason",
        write_labels,
        "images",
        'pandas.read_csv("{}/labels.csv", keep_default_na=False)',
    ),
    "issues": Format(
        "train images in the columns of cleanlab's Datalab",
        write_issues,
        "images with an issue",
        'pandas.read_csv("{}/issues.csv")',
    ),
    "decisions": Format(
        "what people decided, every line and what is in force",
        write_decisions,
        "lines",
        'pandas.read_csv("{}/decisions_in_force.csv", keep_default_na=False)',
    ),
    "imagefolder": Format(
        "links to the kept images, a folder a class",
        write_folders,
        "pictures",
        'torchvision.datasets.ImageFolder("{}/train")',
    ),
    "fiftyone": Format(
        "all images with what is known of them, for FiftyOne",
        write_fiftyone,
        "images",
        'fiftyone.Dataset.from_dir("{}", '
        "dataset_type=fiftyone.types.FiftyOneImageClassificationDataset)",
    ),
    "huggingface": Format(
        "Parquet with the kept pictures, for Hugging Face datasets",
        write_parquet_pictures,
        "pictures",
        'datasets.load_dataset("{}")',
    ),
}


def export_run(
    run: FinishedRun,
    formats: Sequence[str] = (),
    to: Path | None = None,
    options: Options | None = None,
) -> dict[str, int]:
    """Write a run's cleaned labels in the formats of other tools, each in a folder of its own.

    A format that was exported before is replaced, whole or not at all. Nothing of the run itself is
    touched. A line is printed of each.

    Parameters
    ----------
    run : FinishedRun
        The run.
    formats : sequence of str
        Names of `FORMATS`; none for all of them.
    to : Path, optional
        The folder that gets them; by default `export` in the run's folder.
    options : Options, optional
        What is the same for all of them.

    Returns
    -------
    dict of str to int
        Format → how many things it counted.

    Raises
    ------
    ParameterError
        There is no such format.
    FileExistsError
        A folder of a format holds files that no export wrote; before anything is written.
    """
    strangers = [name for name in formats if name not in FORMATS]
    if strangers:
        raise ParameterError(
            f"no format is called {strangers[0]!r}; there are {', '.join(FORMATS)}"
        )
    chosen = list(dict.fromkeys(formats)) or list(FORMATS)
    folder = Path(to) if to else run.folder / "export"
    for name in chosen:
        require_own(folder / name)
    print(f"{run.folder}: labels of {run.table_name}, to {folder}")
    if late := decided_since(run):
        print(
            f"people have decided since in {first_few(late)}: run the contest again, so that the "
            "labels follow"
        )
    counts, options = {}, options or Options()
    for name in chosen:
        entry = FORMATS[name]
        with whole_folder(folder / name) as new:
            counts[name] = entry.write(run, options, new)
        print(f"  {name}: {counts[name]} {entry.counted}; {entry.read.format(folder / name)}")
    _note(folder / REPORT, run, counts)
    return counts


def _note(file: Path, run: FinishedRun, counts: dict[str, int]) -> None:
    """Keep in a file what each format of a folder is of, also those of earlier exports."""
    before = {}
    if file.is_file():
        try:
            before = json.loads(file.read_text("utf-8"))
        except ValueError:
            before = {}
    of = {"run": run.cfg.run, "table": run.table_name}
    own = {name: {**of, "count": count} for name, count in counts.items()}
    write_json(before | own, file)
