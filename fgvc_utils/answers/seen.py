"""Which models were trained on the images that are to judge them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from fgvc_utils.jobs.records import read_job
from fgvc_utils.jobs.rows import fitted_images


def seen_images(folder: Path, image_ids: Iterable[str]) -> tuple[int, int]:
    """Count the images that a model was trained on, and those that only its teachers were.

    Parameters
    ----------
    folder : Path
        The model's, with its job.json and rows.parquet.
    image_ids : iterable of str
        The images asked about.
    """
    asked = set(image_ids)
    own = asked & fitted_images(folder)
    by_teachers: set[str] = set()
    for teacher in read_job(folder / "job.json").teachers:
        rows = Path(teacher).parent / "rows.parquet"
        if rows.is_file():
            by_teachers |= asked & fitted_images(rows.parent)
    return len(own), len(by_teachers - own)


def require_unseen(folders: Mapping[str, Path], judged: Iterable[str]) -> None:
    """Make sure that no model was trained on the images that judge what is built on it.

    Parameters
    ----------
    folders : Mapping[str, Path]
        Model → its folder.
    judged : iterable of str
        Ids of the images that judge.

    Raises
    ------
    ValueError
        A model was; names the first one.
    """
    judged = list(judged)
    for name, folder in folders.items():
        seen, _ = seen_images(folder, judged)
        if seen:
            raise ValueError(
                f"model {name!r} was trained on {seen} of the {len(judged)} held-out images: its "
                "features remember them, so no layer that these images judge may read it"
            )


def who_saw(folders: Mapping[str, Path], judged: Iterable[str]) -> pd.DataFrame:
    """Count the held-out images that each model was trained on, and only its teachers.

    Teachers that saw them flatter a student a little; the held-out score of a model that did itself
    means nothing.

    Parameters
    ----------
    folders : Mapping[str, Path]
        Model → its folder.
    judged : iterable of str
        Ids of the held-out images.

    Returns
    -------
    pd.DataFrame
        By model: `trained on` and `teachers trained on`, whole numbers.
    """
    judged = list(judged)
    rows = {name: seen_images(folder, judged) for name, folder in folders.items()}
    columns = ["trained on", "teachers trained on"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def choose_members(saw: pd.DataFrame, admitted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Choose the members of an ensemble: those that held-out images may judge, and others by name.

    A model that was trained on held-out images is left out unless it is among `admitted`; one that
    was not is judged like all others, named or not.

    Parameters
    ----------
    saw : pd.DataFrame
        That of `who_saw`.
    admitted : sequence of str
        Names of models that enter although they saw held-out images.

    Returns
    -------
    tuple of list of str
        Members that are judged, and members that are admitted unjudged.

    Raises
    ------
    ValueError
        A name is no model's, or no model can be judged.
    """
    strangers = [name for name in admitted if name not in saw.index]
    if strangers:
        raise ValueError(f"seen_models names {strangers[0]!r}, which is no member")
    seen = saw["trained on"] > 0
    if seen.all():
        raise ValueError(
            f"all {len(saw)} models were trained on held-out images, {saw.index[0]!r} first: give "
            "the held_out_fold that they did not see, or -1 for no choice by held-out images"
        )
    return saw.index[~seen].tolist(), [name for name in saw.index[seen] if name in set(admitted)]
