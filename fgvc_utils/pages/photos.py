"""Photos of a page: small JPEGs that stand in the page itself, each image once or as often."""

import base64
from collections.abc import Sequence
from typing import Any

from fgvc_utils.core.naming import shortened
from fgvc_utils.looking.thumbnails import Thumbnails
from fgvc_utils.pages.runs import Run

# Pixels of the longer side. At 88 a photo takes some 3 KB, two hundred of them 0.8 MB of a page.
SIDE = 88
LONGEST = 22


class Photos:
    """Makes the photos of runs for a page; those of one image are read once.

    Parameters
    ----------
    runs : sequence of Run
        A photo is looked for in the first one, then in the next.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = list(runs)
        self._made = Thumbnails(folders=[place for run in runs for place in run.picture_folders])

    def of(
        self, image_id: str, caption: Sequence[str] = (), fate: str = "", title: str = ""
    ) -> dict:
        """What the page's template shows of an image.

        Parameters
        ----------
        image_id : str
            The image.
        caption : sequence of str
            Lines below the photo.
        fate : str
            What became of it; colours the frame.
        title : str
            What is said of it beside its id where the pointer rests.

        Returns
        -------
        dict
            `source`, a data URI, empty where there is no picture; `missing`, why; `caption`, `fate`
            and `title`.
        """
        data, wrong = b"", "no picture"
        for run in self._runs:
            path = run.picture(image_id)
            if path is not None:
                data, wrong = self._made.jpeg(path, SIDE)
            if data:
                break
        source = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" if data else ""
        return {
            "source": source,
            "missing": wrong,
            "caption": [short(line) for line in caption if line],
            "fate": fate.replace(" ", "-"),
            "title": " · ".join(filter(None, [image_id, title])),
        }


def short(name: Any, most: int = LONGEST) -> str:
    """A name in one line, cut in its middle where it is long."""
    return shortened(str(name), most)
