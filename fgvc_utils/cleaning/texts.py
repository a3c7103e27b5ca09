"""Texts about the classes as vectors in the space of a network that knows pictures and texts."""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fgvc_utils.cleaning.vectors import Rows, unit_rows
from fgvc_utils.core.naming import first_few

MADE_BY = "python -m fgvc_utils.cleaning.text_tower makes such a file"


@dataclass(frozen=True)
class Texts:
    """Vectors of texts, a class each.

    Attributes
    ----------
    vectors
        Unit vectors, float32 (classes, width).
    projection
        What the network's features are multiplied by before they are compared, float32 (features,
        width); None where they are in the space of the texts already.
    """

    vectors: np.ndarray
    projection: np.ndarray | None

    def cosines_to(self, features: Rows) -> Callable[[np.ndarray], np.ndarray]:
        """The cosines of pictures to the texts: takes rows, returns float32 (rows, classes)."""

        def cosines(rows: np.ndarray) -> np.ndarray:
            pictures = features[rows].astype(np.float32)
            if self.projection is not None:
                pictures = pictures @ self.projection
            return unit_rows(pictures) @ self.vectors.T

        return cosines


def read_texts(path: Path, classes: Sequence[str], width: int = 0) -> Texts:
    """Read a file of texts as vectors.

    Parameters
    ----------
    path
        An npz file with the arrays `names`, text (classes,), each class once and in any order;
        `vectors`, float (classes, text width); and, where the network's features are not in the
        space of the texts themselves, `projection`, float (features, text width). Further classes
        may be in it.
    classes
        The classes that are needed, in the order of the vectors.
    width
        How wide the network's features are; 0 where it is not known.

    Raises
    ------
    FileNotFoundError
        The file is not there.
    ValueError
        It is no such file, lacks a class or names one twice, a vector is no direction, or the
        widths do not fit. Names the file and the class.
    """
    names, vectors, projection = _arrays(Path(path))
    place = {str(name): number for number, name in enumerate(names)}
    if len(place) < len(names):
        twice = next(name for number, name in enumerate(names) if place[str(name)] != number)
        raise ValueError(f"text_file {path}: class {str(twice)!r} is in it more than once")
    missing = [name for name in classes if name not in place]
    if missing:
        raise ValueError(
            f"text_file {path} lacks {len(missing)} of {len(classes)} classes: "
            f"{first_few(missing)}; give each class a text"
        )
    wide = vectors.shape[1] if projection is None else projection.shape[0]
    if width and wide != width:
        hint = (
            "features that are not in the space of the texts need the array projection, from one "
            "to the other"
            if projection is None
            else "is it of another network?"
        )
        what = "vectors" if projection is None else "projection"
        raise ValueError(
            f"text_file {path}: {what} of {wide} values an image, and text_backbone has {width} "
            f"features; {hint}"
        )
    vectors = vectors[[place[name] for name in classes]].astype(np.float32)
    wrong = np.flatnonzero(~(np.isfinite(vectors).all(axis=1) & (vectors != 0).any(axis=1)))
    if len(wrong):
        raise ValueError(
            f"text_file {path}: the vector of class {classes[wrong[0]]!r} is all zeros or holds "
            "what is no number"
        )
    return Texts(unit_rows(vectors), None if projection is None else projection.astype(np.float32))


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The arrays of a file of texts, their forms checked."""
    if not path.is_file():
        raise FileNotFoundError(f"text_file {path} is not there; {MADE_BY}")
    try:
        with np.load(path, allow_pickle=False) as file:
            there = {name: file[name] for name in file.files}
    except (ValueError, OSError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"text_file {path} is no npz file of arrays ({error}); {MADE_BY}"
        ) from None
    names, vectors = there.get("names"), there.get("vectors")
    projection = there.get("projection")
    fits = (
        names is not None
        and vectors is not None
        and names.dtype.kind == "U"
        and names.ndim == 1
        and vectors.dtype.kind == "f"
        and vectors.ndim == 2
        and len(names) == len(vectors)
        and (
            projection is None
            or (
                projection.dtype.kind == "f"
                and projection.ndim == 2
                and projection.shape[1] == vectors.shape[1]
            )
        )
    )
    if not fits:
        shapes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in there.items())
        raise ValueError(
            f"text_file {path} holds {shapes or 'nothing'}; it needs names, text (classes,), and "
            "vectors, float (classes, width), perhaps projection, float (features, width); "
            f"{MADE_BY}"
        )
    return names, vectors, projection
