"""Where things lie: the project, a contest's raw images, a file of weights, a folder of a network.

Counts in no digest.
"""

import hashlib
import os
import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
NOTEBOOKS = PROJECT / "notebooks"


def weights_file(weights: str) -> Path | None:
    """The file that `weights` names, None where it names none; a relative one lies in the project.

    Notebooks and processes work in folders of their own, so a path must not depend on them.
    """
    named = weights in ("none", "hub", "package")
    return None if named else PROJECT / Path(weights).expanduser()


def network_folder(backbone: str) -> Path | None:
    """The folder of `local-dir:folder`, in the project if relative; None for another name."""
    source, _, place = backbone.partition(":")
    return PROJECT / Path(place).expanduser() if source == "local-dir" else None


def as_folder_name(name: str) -> str:
    """A network's name, or a file's, as the name of a folder.

    Names with characters that no folder should have get a few signs of their digest, so that no two
    share a folder.
    """
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        return name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-60:].lstrip("-.")
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def data_root(name: str, project: Path = PROJECT) -> Path:
    """Find a contest's folder of images.

    An absolute path is taken as it is. A relative one is looked for in `$FGVC_DATA` (which may also
    be the contest's folder itself), then in `data/` of the project, then in `shared/data/` beside
    the project, where several checkouts can share one copy.

    Parameters
    ----------
    name : str
        The parameter `data_root`.
    project : Path
        The checkout.

    Raises
    ------
    FileNotFoundError
        Lists the places that were looked at.
    """
    moved = os.environ.get("FGVC_DATA")
    if Path(name).is_absolute():
        places = [Path(name)]
    elif moved:
        root = Path(moved).expanduser()
        places = [root / name] if (root / name).is_dir() else [root]
    else:
        places = [project / "data" / name, project.parent / "shared" / "data" / name]
    for place in places:
        if place.is_dir():
            return place.resolve()
    listed = "\n  ".join(str(place) for place in places)
    raise FileNotFoundError(
        f"data_root {name!r}: no such folder. Looked at\n  {listed}\n"
        "Put the images there, or set FGVC_DATA to the folder that holds them."
    )
