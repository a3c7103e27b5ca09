"""The cleaned labels as a dataset that FiftyOne reads, written without it.

Its format is FiftyOneImageClassificationDataset: `data.json` says where each picture lies,
`labels.json` what is known of it. FiftyOne takes what stands behind a dot in a picture's key for
the ending of a file, so the keys are numbers.
"""

import math
from pathlib import Path

from fgvc_utils.core.files import write_json
from fgvc_utils.sharing.pictures import Options, split_of
from fgvc_utils.sharing.runs import FinishedRun

# Columns of the table that go with each label.
NOTED = ("given", "status", "stage", "by", "cause", "suggested", "fold", "group")


def write_fiftyone(run: FinishedRun, options: Options, folder: Path) -> int:
    """Write all images that can be read, those that were left out too, with what is known of each.

    Parameters
    ----------
    run : FinishedRun
        The run.
    options : Options
        Of the export.
    folder : Path
        Where the two files go.

    Returns
    -------
    int
        How many images there are. Test images have no label.
    """
    table, inventory = run.table, run.inventory
    cached = inventory["file"].reindex(table.index).fillna("")
    table = table[cached != ""]
    raw = str(run.root) + "/" + table["path"]
    # A browser shows what Pillow may not: prepared pictures are what it surely shows.
    places = raw if options.pictures == "raw" else cached[table.index]
    used = split_of(table, options.fold)
    width = len(str(len(table)))
    keys = [f"{number:0{width}d}" for number in range(len(table))]
    write_json(dict(zip(keys, places, strict=True)), folder / "data.json")
    rows = table.assign(used_as=used).to_dict("records")
    labels = {key: _label(row) for key, row in zip(keys, rows, strict=True)}
    write_json({"classes": run.classes, "labels": labels}, folder / "labels.json")
    return len(table)


def _label(row: dict) -> dict | None:
    """What `labels.json` has of an image: nothing of a test image, which has no label."""
    if row["split"] == "test":
        return None
    known = {name: row[name] for name in NOTED}
    known |= {"image_id": row["image_id"], "used_as": row["used_as"], "tags": [row["status"]]}
    label = {"label": row["label"], "attributes": known}
    if isinstance(row["score"], float) and not math.isnan(row["score"]):
        known["score"] = row["score"]
        # How sure the label in force is, where it is the likeliest class.
        if row["suggested"] == row["label"]:
            label["confidence"] = row["score"]
    return label
