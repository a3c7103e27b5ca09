"""The label table: one row an image, complete after every stage, indexed by image_id.

| column | meaning |
|---|---|
| image_id | the key, a string |
| path | where the raw image lies, relative to the data root |
| split | `train` or `test` |
| given | the label the image came with; empty for test rows |
| label | the label in force; empty for test rows |
| status | `keep` or `drop` |
| stage | the stage that decided last; empty where none did |
| by | who decided: `web` (the image is as it came), `rule` or `human` |
| cause | why, a code of `CAUSES`; empty where the image is as it came |
| reason | the same in words, for people alone: no code reads it |
| suggested, score | a better label where one is known, and how sure it is (0 to 1, or missing) |
| fold | the held-out fold, 0 … n-1, or -1 where none is cut |
| group | images that are copies of each other share one |
"""

from pathlib import Path

import pandas as pd

from fgvc_utils.core.files import whole_file
from fgvc_utils.core.reading import read_parquet, write_parquet

# Tables in notebooks show names as they are: a class called `$x_1$` is no formula.
pd.set_option("display.html.use_mathjax", False)

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
    "suggested",
    "score",
    "fold",
    "group",
)
TEXT_COLUMNS = tuple(column for column in COLUMNS if column not in ("score", "fold"))

WEB, RULE, HUMAN = "web", "rule", "human"
# Why an image is left out: code → what it means.
DROPPED = {
    "unreadable": "the file cannot be decoded",
    "noise": "it shows nothing of the contest's kind",
    "copies": "its copies came under many labels, of which none prevails",
    "no_class": "it shows none of the classes",
    "label": "its label is not believed",
    "dropped": "a person left it out",
    "small_class": "its class is small and shows no common subject",
    "split": "it shows the other subject of a class that shows two",
}
# Why an image is kept that a rule or a person decided on: code → what it means.
KEPT = {
    "normal": "it shows something of the contest's kind",
    "confirmed": "its label is right",
    "returned": "it had been left out, and its label is believed after all",
    "relabelled": "it shows another class than it came with",
    "merged": "its class and another are one, under whose name it stands",
    "swapped": "the names of its class and another were exchanged",
}
CAUSES = {"": "it is as it came", **DROPPED, **KEPT}


def by_image_id(frame: pd.DataFrame) -> pd.DataFrame:
    """The same rows with their image ids as index, the column image_id kept.

    Label tables and inventories are indexed so, and with them every mask and column taken from
    them: pandas then joins them by image, whatever the order of their rows.

    Raises
    ------
    ValueError
        Where an image is in more than one row.
    """
    repeated = frame["image_id"][frame["image_id"].duplicated()]
    if len(repeated):
        raise ValueError(f"image_id {repeated.iloc[0]!r} is in more than one row")
    return frame.set_axis(pd.Index(frame["image_id"].to_numpy(), dtype=object))


def new_table(images: pd.DataFrame) -> pd.DataFrame:
    """Make the first table from a listing: every image is kept, as it came.

    Parameters
    ----------
    images
        The listing, with the text columns image_id, path, split and given.

    Returns
    -------
    pd.DataFrame
        A label table, indexed by image_id. The label in force is the given one, and every image is
        its own group.
    """
    table = by_image_id(images[["image_id", "path", "split", "given"]].copy())
    table["label"] = table["given"]
    table["status"], table["by"] = "keep", WEB
    table["stage"] = table["cause"] = table["reason"] = table["suggested"] = ""
    table["score"] = float("nan")
    table["fold"] = -1
    table["group"] = table["image_id"]
    return table[list(COLUMNS)]


def check_table(table: pd.DataFrame, name: str) -> None:
    """Check that a table keeps the promises of a label table.

    Parameters
    ----------
    table
        The table, a row an image.
    name
        What the messages call it, such as its path.

    Raises
    ------
    ValueError
        A column is missing or holds a value that it may not. The message names `name`, the column
        or the image.
    """
    missing = [column for column in COLUMNS if column not in table]
    if missing and set(missing) <= {"by", "cause"}:
        raise ValueError(
            f"{name} lacks the column(s) {', '.join(missing)}: an earlier version of the kit wrote "
            "it; run all stages again, from 01_noise on"
        )
    if missing:
        raise ValueError(f"{name} lacks the column(s) {', '.join(missing)}; run its stage again")
    for column in TEXT_COLUMNS:
        odd = [value for value in table[column] if not isinstance(value, str)][:1]
        if odd:
            raise ValueError(
                f"{name}: column {column} holds {odd[0]!r}, which is not text; "
                "labels and ids are strings, so write the column as strings"
            )
    repeated = table["image_id"][table["image_id"].duplicated()]
    if len(repeated):
        raise ValueError(f"{name}: image_id {repeated.iloc[0]!r} is in more than one row")
    for column, allowed in (
        ("split", ("train", "test")),
        ("status", ("keep", "drop")),
        ("by", (WEB, RULE, HUMAN)),
        ("cause", tuple(CAUSES)),
    ):
        wrong = set(table[column]) - set(allowed)
        if wrong:
            raise ValueError(
                f"{name}: column {column} holds {sorted(wrong)[0]!r}, which is none of "
                f"{', '.join(map(repr, allowed))}"
            )
    test = table["split"] == "test"
    if (table.loc[test, "given"] != "").any():
        raise ValueError(f"{name}: a test row has a label in column given; test rows have none")
    if (table.loc[~test, "given"] == "").any():
        raise ValueError(f"{name}: a train row has an empty label in column given")
    _check_provenance(table, name)


def _check_provenance(table: pd.DataFrame, name: str) -> None:
    """Raise ValueError naming an image whose status, stage, by and cause contradict each other."""
    drop, cause, web = table["status"] == "drop", table["cause"], table["by"] == WEB
    contradictions = {
        "is left out without a stage and a reason": drop
        & ((table["stage"] == "") | (table["reason"] == "")),
        "is left out, and its cause is one of kept images": drop & ~cause.isin(DROPPED),
        "is kept, and its cause is one of images left out": ~drop & cause.isin(DROPPED),
        "was decided on by nobody and has a cause, or by somebody and has none": web
        != (cause == ""),
    }
    for text, rows in contradictions.items():
        if rows.any():
            raise ValueError(f"{name}: image {table.loc[rows, 'image_id'].iloc[0]!r} {text}")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Check a label table and write it as parquet, whole or not at all.

    Raises
    ------
    ValueError
        The table breaks a promise (see `check_table`); then the old file stays.
    """
    check_table(table, str(path))
    with whole_file(Path(path)) as temporary:
        write_parquet(table.reset_index(drop=True), temporary)


def read_table(path: Path) -> pd.DataFrame:
    """Read and check a label table; it is indexed by image_id.

    Raises
    ------
    FileNotFoundError
        There is no such table; the message names the notebook to run.
    ValueError
        The table breaks a promise (see `check_table`).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: run the notebook {path.stem} first")
    table = read_parquet(path, f"run the notebook {path.stem} again")
    table = table.astype({c: object for c in TEXT_COLUMNS if c in table})
    check_table(table, str(path))
    return by_image_id(table)


def kept(table: pd.DataFrame) -> pd.Series:
    """Which rows train a model, boolean by image_id: train images that are kept."""
    return (table["split"] == "train") & (table["status"] == "keep")


def decided_by_person(table: pd.DataFrame) -> pd.Series:
    """Where a person set or confirmed the label, or left the image out; boolean by image_id.

    Who calls an image normal in 01 says that it is no noise, and nothing of its label.
    """
    return (table["by"] == HUMAN) & (table["cause"] != "normal")


def hold_out(table: pd.DataFrame, judging: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Part the images into those that train a model and those that judge it.

    Models of one ensemble learn from several versions of the table, and folds are cut anew in each:
    with one `judging` for all of them the same images judge all. What a held-out image has copies
    of trains nobody.

    Parameters
    ----------
    table
        The label table that the model learns from.
    judging
        The label table whose fold is held out, under the labels in force there.
    fold
        The number of the fold that is held out; -1 holds out nothing.

    Returns
    -------
    pd.DataFrame
        Columns image_id, fit and held_out (boolean) and label, with the index of `table`.

    Raises
    ------
    ValueError
        The tables list different images.
    """
    if set(table["image_id"]) != set(judging["image_id"]):
        odd = sorted(set(table["image_id"]) ^ set(judging["image_id"]))[0]
        raise ValueError(
            f"image {odd!r} is in one of the tables of labels and folds alone; run 01 to 04 again"
        )
    judging = judging.set_index("image_id").loc[table["image_id"]].set_axis(table.index)
    held_out = kept(judging) & (judging["fold"] == fold) & (fold >= 0)
    copies = table["group"].isin(set(table.loc[held_out, "group"]))
    label = judging["label"].where(held_out, table["label"])
    columns = {"fit": kept(table) & ~copies, "held_out": held_out, "label": label}
    return pd.DataFrame({"image_id": table["image_id"], **columns})


def leave_out(
    table: pd.DataFrame,
    images: pd.Series,
    stage: str,
    cause: str,
    reason: str | pd.Series = "",
    by: str = RULE,
) -> pd.DataFrame:
    """Leave images out, and note who did it and why.

    Parameters
    ----------
    table
        The label table; it stays as it is.
    images
        Which rows, boolean by image_id.
    stage
        The stage that leaves them out.
    cause
        Why, a code of `DROPPED`.
    reason
        The same in words, one text or one a row by image_id; by default what the code
        means.
    by
        Who decided, `rule` or `human`.

    Returns
    -------
    pd.DataFrame
        A copy of the table in which the images are dropped.

    Raises
    ------
    ValueError
        `images` lacks an image; the message names it.
    """
    missing = table.index[~table.index.isin(images.index)]
    if len(missing):
        raise ValueError(f"nothing says whether image {missing[0]!r} is left out")
    table = table.copy()
    reason = reason if isinstance(reason, pd.Series) else reason or DROPPED[cause]
    table.loc[images, "status"] = "drop"
    table.loc[images, ["stage", "by", "cause"]] = [stage, by, cause]
    table.loc[images, "reason"] = reason if isinstance(reason, str) else reason[images]
    return table


def classes_of(table: pd.DataFrame) -> list[str]:
    """All class names, sorted: a place in the list means the same class in every stage.

    Classes that lost all their images stay in it.
    """
    return sorted(set(table.loc[table["split"] == "train", "given"]))


def emptied_classes(table: pd.DataFrame) -> list[str]:
    """Classes that have no kept image left under the labels in force."""
    return sorted(set(classes_of(table)) - set(table.loc[kept(table), "label"]))


def dropped_by(table: pd.DataFrame) -> pd.DataFrame:
    """Count the train images by what was decided on them.

    Returns
    -------
    pd.DataFrame
        A row a combination that occurs, sorted: columns status, stage, by, cause and images.
    """
    train = table[table["split"] == "train"]
    counted = train.groupby(["status", "stage", "by", "cause"], sort=True).size()
    return counted.rename("images").reset_index()
