"""The last fit: a model's recipe once more on all images, the held-out ones too.

The model that did not see the held-out images stays the one that is judged; its refit answers for
test images in its place.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from fgvc_utils.jobs.records import DONE, PLACES, Job, read_job
from fgvc_utils.jobs.rows import Rows, job_rows
from fgvc_utils.training.models import taught_cleanly

FOLDER = "refit"
# What a refit and its model differ in, beside their images.
OWN = {"name", "keep", "augmented_views", "teachers", *PLACES}
# The note that a refit is done, where its model is to have none for now.
AWAY = "done-before.json"


def refit_job(
    job: Job, inventory: pd.DataFrame, table: pd.DataFrame, whole: pd.DataFrame, *, unlabelled: bool
) -> Rows:
    """Return the job that fits a model's recipe on all images and predicts the test images.

    Parameters
    ----------
    job : Job
        That of the model, whose epochs and regularisation are fixed by now.
    inventory : DataFrame
        What 01 noted of each file.
    table : DataFrame
        The label table that it learns from.
    whole : DataFrame
        That table's images where no fold is held out, as `tables.hold_out` gives them.
    unlabelled : bool
        Whether a student learns from test images too, from its teachers alone.
    """
    test = table["split"] == "test"
    fit = whole["fit"] | (test & unlabelled)
    if job.fold_clean:
        teachers = [Path(teacher).parent for teacher in job.teachers]
        fit &= taught_cleanly(teachers, table["image_id"])
    again = job.elsewhere(
        Path(job.folder) / FOLDER,
        f"{job.name}: refit on all images",
        keep=["logits"],
        augmented_views=0,
    )
    if not (Path(again.folder) / DONE).is_file():
        _rename(Path(again.folder), AWAY, DONE)
    return again, job_rows(inventory, target=whole["label"], fit=fit, predict=test)


def put_away(job: Job) -> None:
    """Let a model have no refit: one that was made before answers for nothing until asked for."""
    _rename(Path(job.folder) / FOLDER, DONE, AWAY)


def _rename(folder: Path, before: str, after: str) -> None:
    if (folder / before).is_file():
        (folder / before).replace(folder / after)


def refits_of(models: Mapping[str, Path]) -> dict[str, Path]:
    """Return the folders of the refits that are in force, by their model's name.

    One of another recipe than its model has by now is left out, and a line is printed.

    Parameters
    ----------
    models : mapping of str to Path
        Name → folder of each model.
    """
    found = {}
    for name, folder in models.items():
        again = folder / FOLDER
        if not (again / DONE).is_file():
            continue
        if other := _unlike(folder, again):
            print(f"the refit of {name} is left out: its {other} is another one; run its notebook")
        else:
            found[name] = again
    return found


def _unlike(model: Path, again: Path) -> str:
    """The first field in which a refit's recipe is not its model's, or empty."""
    made, refit = (read_job(folder / "job.json").model_dump() for folder in (model, again))
    return next((name for name in made if name not in OWN and made[name] != refit[name]), "")


def said_of_refits(names: Iterable[str]) -> str:
    """Return in words who answers for which images."""
    listed = ", ".join(names)
    return (
        f"refitted on all images, which answers for test images: {listed}; held-out figures and "
        "layers on features are of the model that did not see the held-out images"
        if listed
        else "no model was refitted on all images"
    )
