"""Draw the README's picture from a finished demo run: python docs/make_pictures.py."""

from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw, ImageOps

from fgvc_utils.contest import tables
from fgvc_utils.contest.places import PROJECT

SIDE, BORDER, COLUMNS, CLASSES = 84, 4, 12, 6
FRAMES = {"keep": "#009e73", "relabel": "#0072b2", "drop": "#d55e00"}


def tile(file: str, status: str) -> Image.Image:
    """A square thumbnail, framed in the colour of what the cleaning decided."""
    inner = ImageOps.fit(Image.open(file).convert("RGB"), (SIDE, SIDE))
    return ImageOps.expand(inner, BORDER, FRAMES[status])


def main() -> None:
    """Write docs/demo.png: a row a class, as it came, framed in what became of each image."""
    run = PROJECT / "outputs" / "demo"
    table = tables.read_table(run / "tables" / "04_lowq.parquet")
    inventory = pd.read_parquet(run / "tables" / "inventory.parquet").set_index("image_id")
    train = table[(table["split"] == "train") & (table["cause"] != "unreadable")]
    moved = (train["status"] == "keep") & (train["label"] != train["given"])
    train = train.assign(status=train["status"].mask(moved, "relabel"))
    largest = train["given"].value_counts().index[: CLASSES * 2 : 2]
    step = SIDE + 2 * BORDER
    sheet = Image.new("RGB", (COLUMNS * step, CLASSES * step + 22), "white")
    title = "Six classes as the web sent them. "
    title += "Green: kept. Blue: kept under another label. Orange: left out by 01 to 04."
    ImageDraw.Draw(sheet).text((6, 5), title, fill="black")
    for row, label in enumerate(largest):
        members = train[train["given"] == label].sample(COLUMNS, random_state=0)
        for column, (_, image) in enumerate(members.sort_values("status").iterrows()):
            file = run.parent / "cache" / inventory.loc[image["image_id"], "cached"]
            sheet.paste(tile(str(file), image["status"]), (column * step, row * step + 22))
    sheet.quantize(256).save(Path(__file__).with_name("demo.png"), optimize=True)


if __name__ == "__main__":
    main()
