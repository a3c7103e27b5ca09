"""Where a run's images lie, raw and in the cache, and what the inventory says of them."""

from pathlib import Path

import pandas as pd

from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.places import data_root
from fgvc_utils.contest.tables import by_image_id
from fgvc_utils.core.reading import read_parquet


def raw_images(cfg: Shared) -> Path:
    """The contest's folder of raw images."""
    return data_root(cfg.data_root)


def cache_folder(cfg: Shared) -> Path:
    """Where decoded pictures are kept: beside the runs, so that several runs share them."""
    return cfg.folder.parent / "cache"


def picture_folders(cfg: Shared) -> list[Path]:
    """The folders that a gallery may show pictures from: the cache and the raw images."""
    return [cache_folder(cfg), raw_images(cfg)]


def inventory_path(cfg: Shared) -> Path:
    """Where 01 writes what each file is: stored form, digest, place in the cache, error."""
    return cfg.folder / "tables" / "inventory.parquet"


def left_out_path(cfg: Shared) -> Path:
    """Where 01 lists what lies beside the images and is none: a path and a reason a line."""
    return cfg.folder / "tables" / "left_out.csv"


def read_inventory(cfg: Shared) -> pd.DataFrame:
    """The inventory of all files with `file`, the absolute path in the cache; by image_id.

    Raises
    ------
    FileNotFoundError
        Naming the notebook to run, or the cache where it was cleared.
    ValueError
        The file is spoilt, names an image twice, or no image at all could be read.
    """
    path = inventory_path(cfg)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: run the notebook 01_noise first")
    inventory = read_parquet(path, "run the notebook 01_noise again")
    lacking = {"image_id", "cached"} - set(inventory)
    if lacking:
        raise ValueError(f"{path} lacks the column {min(lacking)}: run the notebook 01_noise again")
    try:
        inventory = by_image_id(inventory.astype({"image_id": object}))
    except ValueError as error:
        raise ValueError(f"{path}: {error}: run the notebook 01_noise again") from None
    inventory["file"] = cached_files(cfg, inventory)
    if not len(inventory) or (inventory["file"] == "").all():
        why = inventory["error"].iloc[0] if len(inventory) and "error" in inventory else "unknown"
        raise ValueError(
            f"{path}: none of its {len(inventory)} images could be read, the first one: {why}; "
            "look at the files below the data root, then run the notebook 01_noise again"
        )
    first = inventory.loc[inventory["file"] != "", "file"].iloc[0]
    if not Path(first).is_file():
        raise FileNotFoundError(f"{first} is gone from the cache: run the notebook 01_noise again")
    return inventory


def read_inventory_alone(cfg: Shared) -> pd.DataFrame | None:
    """The inventory as `read_inventory` reads it, whether or not its pictures are there.

    Returns
    -------
    pd.DataFrame or None
        In `file` the absolute path in the cache; None where 01 has left no inventory.

    Raises
    ------
    ValueError
        The file is spoilt, or names an image twice.
    """
    path = inventory_path(cfg)
    if not path.is_file():
        return None
    inventory = read_parquet(path, "run the notebook 01_noise again")
    inventory = by_image_id(inventory.astype({"image_id": object}))
    inventory["file"] = cached_files(cfg, inventory)
    return inventory


def cached_files(cfg: Shared, inventory: pd.DataFrame) -> pd.Series:
    """Each image's absolute path in the cache, empty where it could not be read."""
    cached = inventory["cached"]
    return (str(cache_folder(cfg)) + "/" + cached).where(cached != "", "")


def readable(inventory: pd.DataFrame, table: pd.DataFrame) -> pd.Series:
    """Which images of a table have a picture in the cache: boolean by image_id, in its order.

    Raises
    ------
    KeyError
        Naming an image of the table that the inventory does not know.
    """
    there = (inventory["cached"] != "").set_axis(inventory["image_id"])
    strangers = ~table["image_id"].isin(there.index)
    if strangers.any():
        first = table.loc[strangers, "image_id"].iloc[0]
        raise KeyError(f"the inventory has no row of image {first!r}: run 01_noise again")
    return there.loc[table["image_id"]].rename_axis(None)
