"""A few candidates for reviews and galleries, each photo of one colour."""

from pathlib import Path

import pandas as pd
from PIL import Image


def photos(folder: Path) -> pd.DataFrame:
    """Seven photos, 200 x 100: `0000` is black, each further one is brighter by 30."""
    items = [f"{number:04d}" for number in range(7)]
    for number, item in enumerate(items):
        Image.new("RGB", (200, 100), (number * 30,) * 3).save(folder / f"{item}.jpg")
    return pd.DataFrame(
        {
            "item": items,
            "image": [folder / f"{item}.jpg" for item in items],
            "caption": [f"rose · p 0.{item[-1]}" for item in items],
            "suggested": ["0012", None, *["0007"] * 5],
        }
    )


def rows_of(candidates: pd.DataFrame) -> pd.DataFrame:
    """Two rows made of seven photos, of four and of three."""
    paths = candidates["image"].tolist()
    return pd.DataFrame(
        {
            "item": ["rosa", "lilium"],
            "image": [paths[:4], paths[4:]],
            "caption": ["rosa, 4 photos", "lilium, 3 photos"],
        }
    )
