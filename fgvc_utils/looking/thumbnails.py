"""Small JPEGs of photos, made when they are first asked for and kept while there is room."""

import io
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from PIL import Image, ImageOps

# Of 10,000 thumbnails of 128 px, about 4 KB each, this keeps all.
KEPT_BYTES = 64 * 2**20
OUTSIDE = "not shown: outside of the contest's folders"


def thumbnail(path: str | Path, side: int) -> Image.Image:
    """A photo as RGB, upright, its longer side at most `side` pixels.

    Raises
    ------
    OSError
        The file is not there, or Pillow cannot read it.
    """
    try:
        with Image.open(path) as image:
            # A JPEG can be decoded at a fraction of its size, which is most of the time saved.
            image.draft("RGB", (side * 2, side * 2))
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((side, side))
            return upright.convert("RGB")
    except OSError:
        raise
    # Pillow's readers raise many kinds of error on damaged files.
    except Exception as error:
        raise OSError(f"{path}: {error}") from error


class Thumbnails:
    """JPEGs by path and size, the latest ones kept in memory; safe for several threads.

    Parameters
    ----------
    kept_bytes
        At most so many bytes are kept.
    folders
        Only photos in these folders are read, symbolic links followed; by default any.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES, folders: Sequence[Path] | None = None):
        self._folders = None if folders is None else [Path(one).resolve() for one in folders]
        self._kept_bytes = kept_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, int], tuple[bytes, str]] = OrderedDict()
        self._lock = Lock()

    def jpeg(self, path: str | Path, side: int) -> tuple[bytes, str]:
        """The JPEG of a photo and an empty string, or no bytes and what is wrong with the file.

        Parameters
        ----------
        path
            The photo's file.
        side
            The longer side of the JPEG is at most so many pixels.

        Returns
        -------
        The bytes, and `""`, `missing`, `unreadable` or `not shown: outside of the contest's
        folders`.
        """
        key = (str(path), side)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = _jpeg(path, side) if self._may_be_read(path) else (b"", OUTSIDE)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += len(made[0])
            while self._bytes > self._kept_bytes and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1][0])
        return made

    def _may_be_read(self, path: str | Path) -> bool:
        if self._folders is None:
            return True
        try:
            place = Path(path).resolve()
        # A name that no file can have, or links that lead in a circle.
        except (OSError, ValueError, RuntimeError):
            return False
        return any(place.is_relative_to(folder) for folder in self._folders)


def _jpeg(path: str | Path, side: int) -> tuple[bytes, str]:
    try:
        written = io.BytesIO()
        thumbnail(path, side).save(written, "JPEG", quality=85)
        return written.getvalue(), ""
    except FileNotFoundError:
        return b"", "missing"
    except (OSError, ValueError):
        return b"", "unreadable"
