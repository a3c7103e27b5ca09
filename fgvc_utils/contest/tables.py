"""The label table: one row an image, complete after every stage.

| column | meaning |
|---|---|
| image_id | the key, a string |
| path | where the raw image lies, relative to the data root |
| split | `train` or `test` |
| given | the label the image came with; empty for test rows |
| label | the label in force; empty for test rows |
| status | `keep` or `drop` |
| stage, reason | who left the image out or changed its label, and why; empty where nobody did |
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
    "reason",
    "suggested",
    "score",
    "fold",
    "group",
)
TEXT_COLUMNS = tuple(column for column in COLUMNS if column not in ("score", "fold"))


def new_table(images: pd.DataFrame) -> pd.DataFrame:
    """Make the first table from a listing.

    `images` has the string columns image_id, path, split, given. All images are kept, the label in
    force is the given one, every image is its own group.
    """
    table = images[["image_id", "path", "split", "given"]].copy()
    table["label"] = table["given"]
    table["status"] = "keep"
    table["stage"] = table["reason"] = table["suggested"] = ""
    table["score"] = float("nan")
    table["fold"] = -1
    table["group"] = table["image_id"]
    return table[list(COLUMNS)]


def check_table(table: pd.DataFrame, name: str) -> None:
    """Raise ValueError naming `name` and the column where the table breaks its promises."""
    missing = [column for column in COLUMNS if column not in table]
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
        raise ValueError(f"{name}: image_id {repeated.iloc[0]!r} stands in more than one row")
    for column, allowed in (("split", {"train", "test"}), ("status", {"keep", "drop"})):
        wrong = set(table[column]) - allowed
        if wrong:
            raise ValueError(f"{name}: column {column} holds {sorted(wrong)[0]!r}, not {allowed}")
    test = table["split"] == "test"
    if (table.loc[test, "given"] != "").any():
        raise ValueError(f"{name}: a test row has a label in column given; test rows have none")
    if (table.loc[~test, "given"] == "").any():
        raise ValueError(f"{name}: a train row has an empty label in column given")
    unsaid = (table["status"] == "drop") & ((table["stage"] == "") | (table["reason"] == ""))
    if unsaid.any():
        first = table.loc[unsaid, "image_id"].iloc[0]
        raise ValueError(f"{name}: image {first!r} is left out without a stage and a reason")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Check the table and write it as parquet, whole or not at all."""
    check_table(table, str(path))
    with whole_file(Path(path)) as temporary:
        write_parquet(table.reset_index(drop=True), temporary)


def read_table(path: Path) -> pd.DataFrame:
    """Read and check a label table.

    Raises FileNotFoundError naming the stage to run, or ValueError naming the column that is off.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: run the notebook {path.stem} first")
    table = read_parquet(path, f"run the notebook {path.stem} again")
    table = table.astype({c: object for c in TEXT_COLUMNS if c in table})
    check_table(table, str(path))
    return table


def kept(table: pd.DataFrame) -> pd.Series:
    """Which rows train a model: train images that are kept, as a boolean Series."""
    return (table["split"] == "train") & (table["status"] == "keep")


def hold_out(table: pd.DataFrame, judging: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Part the images into those that train a model and those that judge it.

    `table` is what the model learns from, `judging` the table whose fold number `fold` is held out
    under the labels in force there; -1 holds out nothing. Models of one ensemble learn from several
    versions of the table, and folds are cut anew in each: with one `judging` for all of them the
    same images judge all. What a held-out image has copies of trains nobody.

    Returns the columns image_id, fit and held_out (boolean) and label, in the order of `table`.
    Raises ValueError where the tables list different images.
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
    table: pd.DataFrame, images: pd.Series, stage: str, reason: str | pd.Series
) -> pd.DataFrame:
    """Mark the images of a boolean Series as dropped, each with its stage and its reason."""
    table = table.copy()
    table.loc[images, "status"] = "drop"
    table.loc[images, "stage"] = stage
    table.loc[images, "reason"] = reason if isinstance(reason, str) else reason[images]
    return table


def classes_of(table: pd.DataFrame) -> list[str]:
    """All class names, sorted: an index into it means the same class in every stage.

    Classes that lost all their images stay in it.
    """
    return sorted(set(table.loc[table["split"] == "train", "given"]))


def emptied_classes(table: pd.DataFrame) -> list[str]:
    """Classes that have no kept image left under the labels in force."""
    return sorted(set(classes_of(table)) - set(table.loc[kept(table), "label"]))


def dropped_by(table: pd.DataFrame) -> pd.DataFrame:
    """Count the train images by status, stage and reason (the part before a colon)."""
    train = table[table["split"] == "train"]
    short = train.assign(reason=train["reason"].str.split(":").str[0])
    return (
        short.groupby(["status", "stage", "reason"], sort=True)
        .size()
        .rename("images")
        .reset_index()
    )
