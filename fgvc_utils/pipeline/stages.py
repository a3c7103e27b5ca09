"""One record a stage: its parameters, what it reads, what it makes.

Plan, stamps, check, dry run and the table in the docs read these records. A new stage is one record
here, one notebook of the same name, and one record of parameters in its wing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fgvc_utils.answers.params import EnsembleParams, SubmitParams
from fgvc_utils.cleaning.params import CrossParams, LowQualityParams, NoiseParams
from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.posteriors import ENDING, JUDGED
from fgvc_utils.training.models import contest_models
from fgvc_utils.training.params import DistillParams, TrainParams

# The vote that 30 makes lies in a folder of this name.
VOTE = "vote"


@dataclass(frozen=True)
class Stage:
    """A stage as the pipeline sees it.

    Attributes
    ----------
    parameters : type
        The record of its parameters.
    does : str
        What it is for, in a line.
    makes : {"table", "model", "vote", "submission"}
        What it produces. A table is named after the stage, a model by the parameter `name`.
    table : str
        The stage whose table it reads, where that is fixed.
    table_parameters : tuple of str
        The parameters that name the tables it reads.
    posteriors : bool
        It learns from 03's posteriors where its parameters say so (`reads_posteriors`).
    journals : tuple of str
        The journals of human decisions it reads; its galleries write them.
    decides_on : {"", "images", "classes"}
        What a decision in its journals is about.
    lists_images : bool
        It reads the raw images and writes the inventory of the cached pictures.
    reads_pictures : bool
        Its result depends on the cached pictures, so on the inventory.
    model_parameters : tuple of str
        The parameters that name the models it reads; the first one, empty, takes all that the
        contest file makes.
    takes_students : bool
        Whether these are also those that learned from other models.
    start_parameter : str
        The parameter that names the model from which it begins; empty for none.
    vote_parameter : str
        The parameter that names the vote it reads.
    file_parameters : tuple of str
        The parameters that name files below the data root.
    """

    parameters: type[Shared]
    does: str
    makes: Literal["table", "model", "vote", "submission"]
    table: str = ""
    table_parameters: tuple[str, ...] = ()
    posteriors: bool = False
    journals: tuple[str, ...] = ()
    decides_on: Literal["", "images", "classes"] = ""
    lists_images: bool = False
    reads_pictures: bool = True
    model_parameters: tuple[str, ...] = ()
    takes_students: bool = False
    start_parameter: str = ""
    vote_parameter: str = ""
    file_parameters: tuple[str, ...] = ()

    def tables_read(self, cfg: Shared) -> list[str]:
        """The stages whose tables it reads, each once; none for the first stage."""
        fixed = [self.table] if self.table else []
        return list(dict.fromkeys([*fixed, *(getattr(cfg, n) for n in self.table_parameters)]))

    def posteriors_read(self, cfg: Shared) -> list[str]:
        """The stage whose posteriors it reads, if it reads any."""
        return [JUDGED] if self.posteriors and cfg.reads_posteriors else []

    def models_named(self, cfg: Shared) -> list[str]:
        """The models that its parameters name, or else that the contest file makes for it.

        Empty where it takes all.
        """
        if not self.model_parameters:
            return []
        first, *others = (list(getattr(cfg, name)) for name in self.model_parameters)
        if first or not (made := contest_models(cfg, students=self.takes_students)):
            return first
        return list(dict.fromkeys([*made, *(name for more in others for name in more)]))

    def start_named(self, cfg: Shared) -> str:
        """The model from which it begins; empty where there is none."""
        return getattr(cfg, self.start_parameter) if self.start_parameter else ""

    def files_named(self, cfg: Shared) -> list[str]:
        """The files below the data root that its parameters name."""
        return [name for name in (getattr(cfg, n) for n in self.file_parameters) if name]

    def reads_of(self, cfg: Shared, earlier: str, name: str) -> bool:
        """Whether it reads what an earlier stage makes.

        Parameters
        ----------
        cfg
            Its parameters.
        earlier
            The earlier stage.
        name
            The model's name, where the earlier stage makes one.
        """
        before = STAGES[earlier]
        if before.makes == "table":
            pictures = before.lists_images and self.reads_pictures
            return pictures or earlier in [*self.tables_read(cfg), *self.posteriors_read(cfg)]
        if before.makes == "model" and name == self.start_named(cfg):
            return True
        if before.makes == "model" and self.model_parameters:
            named = self.models_named(cfg)
            return name in named if named else self.takes_students or not before.is_student
        return before.makes == "vote" and bool(self.vote_parameter)

    @property
    def is_student(self) -> bool:
        """Whether its models learn from other models."""
        return self.makes == "model" and bool(self.model_parameters)


STAGES: dict[str, Stage] = {
    "01_noise": Stage(
        NoiseParams,
        "lists and decodes all files, finds copies, leaves out what cannot be read or is noise",
        makes="table",
        journals=("01_noise", "01_audit"),
        decides_on="images",
        lists_images=True,
        reads_pictures=False,
        file_parameters=("class_names",),
    ),
    "02_coarse": Stage(
        CrossParams,
        "leaves out labels not among the best five of networks that never saw the image",
        makes="table",
        table="01_noise",
        journals=("02_coarse",),
        decides_on="images",
        file_parameters=("text_file",),
    ),
    "03_fine": Stage(
        CrossParams,
        "keeps a label, puts another in its place, or leaves the image out",
        makes="table",
        table="02_coarse",
        journals=("03_fine",),
        decides_on="images",
        file_parameters=("text_file",),
    ),
    "04_lowq": Stage(
        LowQualityParams,
        "drops small classes whose images do not agree on a subject; merges, swaps and splits "
        "classes as decided",
        makes="table",
        table="03_fine",
        journals=("04_lowq", "04_classes"),
        decides_on="classes",
    ),
    "10_train": Stage(
        TrainParams,
        "trains one network, or a probe on stored features, and predicts all images",
        makes="model",
        table_parameters=("table", "fold_table"),
        posteriors=True,
        start_parameter="start",
    ),
    "20_distill": Stage(
        DistillParams,
        "trains one network on what other models predict",
        makes="model",
        table_parameters=("table", "fold_table"),
        start_parameter="start",
        model_parameters=("teachers",),
    ),
    "30_ensemble": Stage(
        EnsembleParams,
        "combines the models and lets the results vote",
        makes="vote",
        table_parameters=("table",),
        model_parameters=("models", "seen_models"),
        takes_students=True,
    ),
    "40_submit": Stage(
        SubmitParams,
        "gives each test image a class, balanced where something is known, and writes the file",
        makes="submission",
        table_parameters=("table",),
        reads_pictures=False,
        vote_parameter="ensemble",
        file_parameters=("sample", "names_file", "prior"),
    ),
}


def is_probe(cfg: Any) -> bool:
    """Whether a stage's parameters ask for a probe, which is shown no picture."""
    return getattr(cfg, "fit", "") == "probe"


def making(kind: str) -> list[str]:
    """The stages that make a table, a model, a vote or a submission, in order."""
    return [name for name, stage in STAGES.items() if stage.makes == kind]


def vote_folder(folder: Path, name: str = VOTE) -> Path:
    """Where a vote lies in the folder of a run."""
    return folder / "ensemble" / name


def stage_table() -> str:
    """The stages as a table in Markdown: what each does, reads and writes, and who may decide."""
    rows = [
        ("stage", "does", "reads", "writes", "a person may decide in"),
        ("---",) * 5,
    ]
    for name, stage in STAGES.items():
        journals = ", ".join(f"`decisions/{journal}.csv`" for journal in stage.journals)
        rows.append((f"`{name}`", stage.does, _reads(stage), _writes(name, stage), journals))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _reads(stage: Stage) -> str:
    read: list[Any] = ["the raw images"] if stage.lists_images else []
    read += [f"`tables/{stage.table}`"] if stage.table else []
    read += [f"`tables/<{name}>`" for name in stage.table_parameters]
    read += [f"`tables/{JUDGED}{ENDING}`"] if stage.posteriors else []
    read += [f"`models/<{name}>`" for name in stage.model_parameters]
    read += [f"`models/<{stage.start_parameter}>`"] if stage.start_parameter else []
    read += [f"`ensemble/<{stage.vote_parameter}>`"] if stage.vote_parameter else []
    read += [f"the file `<{name}>`" for name in stage.file_parameters]
    return ", ".join(read + (["cached pictures"] if stage.reads_pictures else []))


def _writes(name: str, stage: Stage) -> str:
    written = {
        "table": f"`tables/{name}`",
        "model": "`models/<name>/`",
        "vote": f"`ensemble/{VOTE}/`",
        "submission": "`submission.csv` (`.csv.gz`, `.zip`), `contest_files/`",
    }[stage.makes]
    return written + (", `tables/inventory`, the cache" if stage.lists_images else "")
