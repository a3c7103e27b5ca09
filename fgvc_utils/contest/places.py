"""Where things lie: the project, a contest's raw images, a file of weights.

Counts in no digest.
"""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
NOTEBOOKS = PROJECT / "notebooks"


def weights_file(weights: str) -> Path | None:
    """The file that `weights` names, None where it names none; a relative one lies in the project.

    Notebooks and processes work in folders of their own, so a path must not depend on them.
    """
    named = weights in ("none", "hub", "package")
    return None if named else PROJECT / Path(weights).expanduser()


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
