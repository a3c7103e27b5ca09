"""Where things lie: the project, a contest's raw images, a file of weights, a folder of a network.

Counts in no digest.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from fgvc_utils.core.project import SHIPPED, find_project

# A relative path lies here, whoever asks and wherever they work.
PROJECT = find_project()
# The project's own, which a person may edit; where it has none, those that came with the kit.
NOTEBOOKS = next(
    (home / "notebooks" for home in (PROJECT, SHIPPED) if any(home.glob("notebooks/01_*.ipynb"))),
    SHIPPED / "notebooks",
)
# The variable that names the folder of all contests' images.
MOVED = "FGVC_DATA"


# What Linux takes as one name, and of its 4,096 bytes of a path what leaves room for names below.
LONGEST_NAME, LONGEST_PATH = 255, 3500
# A variable of the environment, as a shell writes it.
VARIABLE = re.compile(r"\$([A-Za-z_]\w*)|\$\{([A-Za-z_]\w*)\}")


def expanded(name: str, below: Path | None = None) -> Path:
    """The path that a parameter names: with `~`, `~user`, `$NAME` and `${NAME}` filled in.

    All paths that a person writes pass through here, so each of them knows the same signs.

    Parameters
    ----------
    name : str
        As it is written.
    below : Path, optional
        Where it lies if it is relative.

    Raises
    ------
    ValueError
        It names a variable that is not set or a user that is not there, where no file or folder is
        called so literally; or it holds a NUL byte.
    """
    name, below = str(name), Path(below or "")
    if "\0" in name:
        raise ValueError(f"{name!r} holds a NUL byte, which no path can")
    filled = os.path.expanduser(os.path.expandvars(name))
    unset = VARIABLE.search(filled) if VARIABLE.search(name) else None
    strange = filled.startswith("~") and filled.partition("/")[0]
    if (unset or strange) and not os.path.exists(below / name):
        what = f"user {strange[1:]!r}" if strange else f"variable {unset[1] or unset[2]}"
        raise ValueError(f"{name!r} names the {what}, which is not there: write the path in full")
    return below / filled


def _is_absolute(name: str) -> bool:
    return os.path.isabs(os.path.expanduser(os.path.expandvars(name)))


def _named_path(name: str) -> str:
    path = os.fsencode(expanded(name, PROJECT))
    longest = max(len(part) for part in path.split(b"/"))
    if longest > LONGEST_NAME or len(path) > LONGEST_PATH:
        raise ValueError(
            f"no folder can be called so: a path of {len(path)} bytes with a name of {longest}; at "
            f"most {LONGEST_PATH} and {LONGEST_NAME} will do, so shorten it"
        )
    return name


# A parameter that is a path; one that cannot be filled in is an error of that parameter.
NamedPath = Annotated[str, AfterValidator(_named_path)]


def weights_file(weights: str) -> Path | None:
    """The file that `weights` names, None where it names none; a relative one lies in the project.

    Notebooks and processes work in folders of their own, so a path must not depend on them.
    """
    named = weights in ("none", "hub", "package")
    return None if named else expanded(weights, PROJECT)


def network_folder(backbone: str) -> Path | None:
    """The folder of `local-dir:folder`, in the project if relative; None for another name."""
    source, _, place = backbone.partition(":")
    return expanded(place, PROJECT) if source == "local-dir" else None


def as_folder_name(name: str) -> str:
    """A network's name, or a file's, as the name of a folder.

    Names with characters that no folder should have get a few signs of their digest, so that no two
    share a folder.
    """
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        return name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-60:].lstrip("-.")
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def settle() -> None:
    """Make `$FGVC_DATA` absolute for this process and all that it starts.

    A relative one is meant from where the user stands, and notebooks work elsewhere. The first who
    asks for it still stands there.
    """
    moved = os.environ.get(MOVED)
    if moved and not _is_absolute(moved):
        # One that is not there from here may come from a process that stands elsewhere.
        places = [expanded(moved, above) for above in (Path.cwd(), PROJECT)]
        os.environ[MOVED] = str(next((p for p in places if os.path.isdir(p)), places[0]))


def data_root(name: str, project: Path = PROJECT) -> Path:
    """Find a contest's folder of images.

    An absolute path is taken as it is. A relative one is looked for in `$FGVC_DATA` (which may also
    be the contest's folder itself), then in `data/` of the project, then in `shared/data/` beside
    the project, where several checkouts can share one copy.

    Parameters
    ----------
    name : str
        The parameter `data_root`; see `expanded`.
    project : Path
        The checkout.

    Raises
    ------
    FileNotFoundError
        Lists the places that were looked at.
    """
    try:
        settle()
        moved = os.environ.get(MOVED)
        if moved:
            place = expanded(name, expanded(moved))
            # It may be the contest's folder itself; an absolute name has nothing to do with it.
            places = [place] if os.path.isdir(place) or _is_absolute(name) else [expanded(moved)]
        else:
            homes = (project / "data", project.parent / "shared" / "data")
            places = list(dict.fromkeys(expanded(name, home) for home in homes))
    except ValueError as error:
        raise FileNotFoundError(f"data_root {name!r} or {MOVED}: {error}") from None
    for place in places:
        if os.path.isdir(place):
            return place.resolve()
    listed = "\n  ".join(str(place) for place in places)
    raise FileNotFoundError(
        f"data_root {name!r}: no such folder{_link_or_file(places)}. Looked at\n  {listed}\n"
        f"Put the images there, or set {MOVED} to the folder that holds them."
    )


def _link_or_file(places: list[Path]) -> str:
    """What is there in a folder's place, in words."""
    for place in places:
        if os.path.islink(place) and not os.path.exists(place):
            return f" ({place} is a link that leads nowhere)"
        if os.path.isfile(place):
            return f" ({place} is a file)"
    return ""


def below_root(root: Path, name: str) -> str:
    """The name of a side or a file as it is below the data root; also an absolute path's.

    An absolute path counts as below the root by whichever way it leads there, as through a link.
    One that does not is given back as it is, for the reader's own error.

    Parameters
    ----------
    root : Path
        The data root.
    name : str
        The parameter, such as `train`.

    Raises
    ------
    ValueError
        As for `expanded`.
    """
    place = expanded(name, root)
    for above in (place, *place.parents) if _is_absolute(name) else ():
        if os.path.exists(above) and os.path.samefile(above, root):
            return place.relative_to(above).as_posix()
    return name if place == Path(root) / name else str(place)
