"""The files that a contest has beside its images, and their copies in a run.

A sample submission, a prior, a listing of names: a run keeps what it read of them, so that an
answer can be written again where the pictures are elsewhere.

Counts in no digest.
"""

from collections.abc import Iterable
from pathlib import Path

from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.inventory import raw_images
from fgvc_utils.contest.places import below_root
from fgvc_utils.core.files import file_digest, whole_file

FOLDER = "contest_files"


def copies(cfg: Shared) -> Path:
    """The folder of a run that keeps the files which were read."""
    return cfg.folder / FOLDER


def images_there(cfg: Shared) -> bool:
    """Whether the contest's folder of raw images is there."""
    try:
        root = raw_images(cfg)
    except FileNotFoundError:
        return False
    # `$FGVC_DATA` itself may be that folder, or it holds others and this one is elsewhere.
    kept = [file.relative_to(copies(cfg)) for file in copies(cfg).rglob("*") if file.is_file()]
    itself = root.name != Path(cfg.data_root).name
    return not (itself and kept and not any((root / name).is_file() for name in kept))


def files_folder(cfg: Shared) -> Path | None:
    """Where the contest's files lie: in the data root, else in the run; None where in neither."""
    if images_there(cfg):
        return raw_images(cfg)
    return copies(cfg) if copies(cfg).is_dir() else None


def keep_copies(cfg: Shared, names: Iterable[str]) -> None:
    """Copy files of the data root into the run, those that are there and changed."""
    if not images_there(cfg):
        return
    root = raw_images(cfg)
    for name in filter(None, names):
        source, copy = root / name, copies(cfg) / below_root(root, name)
        if not source.is_file() or not copy.resolve().is_relative_to(copies(cfg).resolve()):
            continue
        if not copy.is_file() or file_digest(copy) != file_digest(source):
            with whole_file(copy) as temporary:
                temporary.write_bytes(source.read_bytes())
