"""The cleaned labels as a dataset that FiftyOne reads, written without it.

Its format is FiftyOneImageClassificationDataset: `labels.json` names each picture by its absolute
path and says what is known of it; the folder `data`, which FiftyOne asks for, stays empty. Copies
share a prepared picture, so of those there is a link for each image in `data`, and its name is key.
"""

import math
from pathlib import Path

from fgvc_utils.core.files import write_json
from fgvc_utils.sharing.folders import put
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
        Where it goes.

    Returns
    -------
    int
        How many images there are. Test images have no label.
    """
    table, inventory = run.table, run.inventory
    cached = inventory["file"].reindex(table.index).fillna("")
    table = table[cached != ""]
    (folder / "data").mkdir()
    if options.pictures == "raw":
        keys = [f"{run.root}/{path}" for path in table["path"]]
    else:
        keys = [f"{number:07d}" for number in range(len(table))]
        for key, place in zip(keys, cached[table.index], strict=True):
            put(place, folder / "data" / f"{key}.jpg", copy=options.copy)
    rows = table.assign(used_as=split_of(table, options.fold)).to_dict("records")
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
