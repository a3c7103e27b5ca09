"""What a gallery sends to the browser to show: tiles, a closer look, the full photo, found classes.

Nothing here decides or changes anything.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.looking import gallery_messages as messages
from fgvc_utils.looking.candidates import is_rows, under_photo
from fgvc_utils.looking.class_names import with_class
from fgvc_utils.looking.review import Review
from fgvc_utils.looking.thumbnails import Thumbnails

# So many suggestions of a candidate are shown, each with the key of its number.
SUGGESTIONS = 5
IMAGES_A_ROW = 10
TILES_A_MESSAGE = 200
EXEMPLARS, EXEMPLARS_OF_A_SUGGESTION = 6, 3
LOOK_SIDE, ZOOM_SIDE, ZOOM_ROW_SIDE, ZOOM_ROW_IMAGES = 320, 1600, 240, 200
# Of more found classes than this no exemplars are shown: reading them all would take too long.
FOUND_WITH_EXEMPLARS = 8

Content = dict[str, Any]


class Answers:
    """Answers to the browser's questions, as content and JPEGs.

    Parameters
    ----------
    review
        The candidates and what is decided on them.
    photos
        Reads the photos.
    exemplars
        Class → paths of images that surely show it.
    side
        The longer side of a thumbnail, in pixels.
    """

    def __init__(
        self,
        review: Review,
        photos: Thumbnails,
        exemplars: Mapping[str, Sequence[str | Path]],
        side: int,
    ):
        self._review = review
        self._candidates = review.candidates
        self._rows = is_rows(review.candidates)
        self._photos = photos
        self._exemplars = exemplars
        self._side = side

    def to(
        self, message: messages.Question, places: Sequence[int]
    ) -> tuple[Content, list[bytes]] | None:
        """The answer to a question; None where it asks for a candidate that is not there.

        `places` are the positions of the candidates in the order that the browser shows, or those
        of the like cases.
        """
        jpegs: list[bytes] = []
        if isinstance(message, messages.Tiles):
            return self._tiles(jpegs, message, places), jpegs
        if isinstance(message, messages.Search):
            return self._found(jpegs, message.text), jpegs
        if isinstance(message, messages.LikeCases):
            tiles = [self._tile(jpegs, place) for place in places]
            return {"offer": message.offer, "tiles": tiles}, jpegs
        if message.place >= len(places):
            return None
        row = self._candidates.iloc[places[message.place]]
        show = self._look if isinstance(message, messages.Look) else self._zoom
        return show(jpegs, row) | self._beside(jpegs, row), jpegs

    def _tiles(self, jpegs: list[bytes], message: messages.Tiles, places: Sequence[int]) -> Content:
        begin = message.begin
        end = min(message.end, begin + TILES_A_MESSAGE)
        tiles = [self._tile(jpegs, place) for place in places[begin:end]]
        return {"view": message.view, "begin": begin, "tiles": tiles}

    def _tile(self, jpegs: list[bytes], place: int) -> Content:
        row = self._candidates.iloc[place]
        paths = row["image"][:IMAGES_A_ROW] if self._rows else [row["image"]]
        lines = under_photo(row["caption"], row["label"], row["suggestions"])
        return {
            "item": row["item"],
            **lines._asdict(),
            "images": self._add_photos(jpegs, paths, self._side),
            "more": len(row["image"]) - len(paths) if self._rows else 0,
            "now": self._review.shown_standing(place)._asdict(),
        }

    def _look(self, jpegs: list[bytes], row: pd.Series) -> Content:
        """The photo at the size of the panel beside the grid; a row of photos has none."""
        paths = [] if self._rows else [row["image"]]
        return {"images": self._add_photos(jpegs, paths, LOOK_SIDE)}

    def _zoom(self, jpegs: list[bytes], row: pd.Series) -> Content:
        """The full photo, or all photos of a row."""
        if self._rows:
            paths = row["image"][:ZOOM_ROW_IMAGES]
            return {"images": self._add_photos(jpegs, paths, ZOOM_ROW_SIDE)}
        images = self._add_photos(jpegs, [row["full"]], ZOOM_SIDE)
        if not jpegs[0]:
            jpegs.clear()
            images = self._add_photos(jpegs, [row["image"]], ZOOM_SIDE)
        return {"images": images}

    def _beside(self, jpegs: list[bytes], row: pd.Series) -> Content:
        """The caption, and exemplars of the given class and of those suggested."""
        given = self._add_class(jpegs, row["label"], EXEMPLARS, row["image"])
        suggestions = [
            self._add_class(jpegs, name, EXEMPLARS_OF_A_SUGGESTION, row["image"])
            | {"score": None if score != score else float(score)}
            for name, score in row["suggestions"][:SUGGESTIONS]
        ]
        caption = {"item": row["item"], "caption": row["caption"]}
        return {**caption, "given": given, "suggestions": suggestions}

    def _found(self, jpegs: list[bytes], text: str) -> Content:
        found = []
        for number, name in enumerate(self._review.search(text)):
            count = EXEMPLARS_OF_A_SUGGESTION if number < FOUND_WITH_EXEMPLARS else 0
            found.append(self._add_class(jpegs, name, count, ""))
        return {"found": found}

    def _add_class(self, jpegs: list[bytes], name: str, count: int, but: Any) -> Content:
        """A class's exemplars, the candidate itself left out."""
        paths = [path for path in self._exemplars.get(name, ()) if path != but][:count]
        called = {"label": name, "name": with_class(name)}
        return called | {"images": self._add_photos(jpegs, paths, self._side)}

    def _add_photos(
        self, jpegs: list[bytes], paths: Sequence[str | Path], side: int
    ) -> list[dict[str, str]]:
        """Add photos to a message; returns their file names and what is wrong with them."""
        images = []
        for path in paths:
            jpeg, problem = self._photos.jpeg(path, side)
            jpegs.append(jpeg)
            images.append({"name": Path(path).name, "problem": problem})
        return images
