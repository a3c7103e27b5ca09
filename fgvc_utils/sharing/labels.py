"""The cleaned labels as tables: a CSV file of all images, cleanlab's issues, people's decisions."""

from pathlib import Path

import numpy as np
import pandas as pd

from fgvc_utils.contest import tables
from fgvc_utils.contest.journal import COLUMNS, Journal
from fgvc_utils.core.files import whole_file
from fgvc_utils.core.reading import read_parquet
from fgvc_utils.core.spreadsheet import escaped, is_formula
from fgvc_utils.sharing.pictures import Options, split_of
from fgvc_utils.sharing.runs import FIRST, FinishedRun

# Causes that speak against the label that an image came with.
AGAINST_LABEL = ("label", "no_class", "relabelled", "swapped", "split", "dropped")
# What the inventory adds to an image.
OF_FILE = ["width", "height", "stored_as", "error", "note", "digest"]


def write_labels(run: FinishedRun, options: Options, folder: Path) -> int:
    """Write `labels.csv`: every image with its label, what was decided, by whom and why.

    Parameters
    ----------
    run : FinishedRun
        The run.
    options : Options
        Of the export.
    folder : Path
        Where it goes.

    Returns
    -------
    int
        How many images are in it.
    """
    number = {name: place for place, name in enumerate(run.classes)}
    labels = run.table.copy()
    labels.insert(5, "class_index", labels["label"].map(number).fillna(-1).astype(int))
    labels["used_as"] = split_of(run.table, options.fold)
    there = [name for name in OF_FILE if name in run.inventory]
    labels = labels.join(run.inventory[there])
    return write_csv(labels, folder / "labels.csv", formulas=options.formulas)


def label_issues(run: FinishedRun) -> pd.DataFrame:
    """Return the train images in the columns of cleanlab's Datalab, a row an image.

    Returns
    -------
    DataFrame
        By image_id: image_id, path; is_label_issue with label_score, given_label, predicted_label;
        is_outlier_issue with outlier_score; is_near_duplicate_issue with near_duplicate_score and
        near_duplicate_sets, the rows of its copies. Scores are 0 to 1, the lower the worse, and
        missing where nothing is known. label_score is the probability of the given label where no
        class is likelier, else the most that is left to it beside the likeliest one. outlier_score
        is 1 - p(noise) of 01. near_duplicate_score is 0 for an image that has copies, else 1.

    References
    ----------
    Northcutt et al., Confident learning: estimating uncertainty in dataset labels, JAIR 2021.
    """
    table = run.table[run.table["split"] == "train"]
    judged = ~table["stage"].eq(FIRST) | table["status"].eq("keep")
    # The scores of 01 are of noise.
    sure = table["score"].where(judged & (run.table_name != FIRST))
    agrees = table["suggested"] == table["given"]
    copies = table.groupby("group")["image_id"].transform("size") > 1
    rows = pd.Series(np.arange(len(table)), table.index)
    sets = rows.groupby(table["group"]).agg(list)
    noise = _noise(run).reindex(table.index)
    issues = pd.DataFrame(
        {
            "image_id": table["image_id"],
            "path": table["path"],
            "is_label_issue": table["cause"].isin(AGAINST_LABEL),
            "label_score": sure.where(agrees, 1 - sure),
            "given_label": table["given"],
            "predicted_label": table["suggested"].where(sure.notna(), ""),
            "is_outlier_issue": table["cause"] == "noise",
            "outlier_score": 1 - noise,
            "is_near_duplicate_issue": copies,
            "near_duplicate_score": np.where(copies, 0.0, 1.0),
        }
    )
    others = zip(table["group"], rows, strict=True)
    issues["near_duplicate_sets"] = [[r for r in sets[group] if r != own] for group, own in others]
    return issues


def _noise(run: FinishedRun) -> pd.Series:
    """The p(noise) that 01 gave, by image_id; missing where it scored none."""
    path = run.cfg.table_path(FIRST)
    if not path.is_file():
        return pd.Series(dtype=float)
    first = read_parquet(path, "run the notebook 01_noise again")
    return first.set_index("image_id")["score"].astype(float)


def write_issues(run: FinishedRun, options: Options, folder: Path) -> int:
    """Write `issues.csv`, the frame of `label_issues`; returns how many images have an issue."""
    issues = label_issues(run)
    flags = [name for name in issues if name.startswith("is_")]
    write_csv(issues, folder / "issues.csv", formulas=options.formulas)
    return int(issues[flags].any(axis=1).sum())


def write_decisions(run: FinishedRun, options: Options, folder: Path) -> int:
    """Write all decisions of people, and beside them those in force.

    `decisions.csv` has every line of every journal with its stage, `decisions_in_force.csv` what
    counts of them, an item a line.

    Returns
    -------
    int
        How many lines there are in all.
    """
    written, counting = [], []
    for file in run.journals:
        journal = Journal(file)
        written.append(journal.read().assign(stage=file.stem))
        counting.append(journal.latest().reset_index().assign(stage=file.stem))
    none = pd.DataFrame(columns=["stage", *COLUMNS], dtype=str)
    together = [pd.concat([none, *frames])[["stage", *COLUMNS]] for frames in (written, counting)]
    for frame, name in zip(together, ("decisions", "decisions_in_force"), strict=True):
        write_csv(frame, folder / f"{name}.csv", formulas=options.formulas)
    return len(together[0])


def decided_since(run: FinishedRun) -> list[str]:
    """Return the journals in which people have decided since the label table was written."""
    made = run.cfg.table_path(run.table_name).stat().st_mtime
    last = run.table_name.split("_")[0]
    return [
        file.stem
        for file in run.journals
        if file.stat().st_mtime > made and file.stem.split("_")[0] <= last
    ]


def write_csv(frame: pd.DataFrame, path: Path, *, formulas: bool) -> int:
    """Write a frame as UTF-8, with a `'` before what a spreadsheet would run; returns its rows.

    Parameters
    ----------
    frame : DataFrame
        The table.
    path : Path
        The file.
    formulas : bool
        Write such texts as they are.
    """
    texts = [name for name in frame if frame[name].dtype == object or name in tables.TEXT_COLUMNS]
    if not formulas:
        found = 0
        for name in texts:
            odd = frame[name].map(lambda value: isinstance(value, str) and is_formula(value))
            if odd.any():
                found += int(odd.sum())
                frame = frame.assign(**{name: frame[name].where(~odd, frame[name].map(_safe))})
        if found:
            print(
                f"{path.name}: {found} texts that a spreadsheet would run begin with a ' there; "
                "--allow-formulas writes them as they are"
            )
    with whole_file(path) as temporary:
        frame.to_csv(temporary, index=False)
    return len(frame)


def _safe(value: object) -> object:
    return escaped(value) if isinstance(value, str) else value
