"""Cut the README's picture of the recipe out of a finished demo run's 10.

`python docs/make_recipe_picture.py` takes the sheet of random changes from the executed notebook of
the demo's first model and keeps the changes that have a strength.
"""

import base64
import io
from pathlib import Path

import nbformat
from PIL import Image

from fgvc_utils.contest.places import PROJECT
from fgvc_utils.looking.augment_sheet import HEAD, LINE

NOTEBOOK = PROJECT / "outputs" / "demo" / "10_train-lite0-cutmix.ipynb"
GRADED = 10


def main() -> None:
    """Write docs/recipe.png."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    (cell,) = [cell for cell in cells if "augment_sheet.sheet_by_ranks(" in cell.source]
    (picture,) = [out.data["image/png"] for out in cell.outputs if "image/png" in out.data]
    sheet = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    graded = sheet.crop((0, 0, sheet.width, HEAD + GRADED * LINE))
    graded.quantize(256).save(Path(__file__).with_name("recipe.png"), optimize=True)


if __name__ == "__main__":
    main()
