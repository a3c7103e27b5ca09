"""`fgvc init`: a folder for a contest of one's own, outside the kit.

What the kit lays out there and keeps in step with itself (notebooks, presets, pages) is listed with
its digest in a file of the folder, so that what a person has edited is known and left alone.
"""

import hashlib
import json
import os
import re
import shlex
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from fgvc_utils.command.texts import HEAD, IGNORED, NEXT, README
from fgvc_utils.contest.parameters import FolderName
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.core.files import read_json, whole_file, write_json
from fgvc_utils.core.naming import first_few
from fgvc_utils.core.project import IS_CHECKOUT, MARK, SHIPPED, SOURCE, project_above
from fgvc_utils.pipeline.working_copies import with_contest

PRESETS = "params/presets"
# The folders that come from the kit and follow it, and what of a checkout's is meant.
KEPT_IN_STEP = ("notebooks", PRESETS, "docs")
KINDS = {".ipynb", ".yaml", ".md", ".png", ".webp", ".svg"}
DEMO = "demo"


class CannotLayOut(ValueError):
    """The folder cannot be laid out as asked; nothing was written."""


@dataclass(frozen=True)
class Wanted:
    """What `fgvc init` was asked for.

    Attributes
    ----------
    name : str, optional
        What the contest is called; without one it is called as the folder.
    data : str, optional
        The folder of its images, where that is not below `data/`.
    demo : bool
        Draw the demo contest.
    tiny : bool
        Its smallest form.
    """

    name: str | None = None
    data: str | None = None
    demo: bool = False
    tiny: bool = False


def kit_version() -> str:
    """The version of the kit, as it is installed."""
    try:
        return version("fgvc-kit")
    except PackageNotFoundError:
        return "unknown"


def lay_out(folder: Path, wanted: Wanted) -> list[str]:
    """Lay out a folder for a contest, or complete one; what is there already stays as it is.

    Parameters
    ----------
    folder : Path
        A new folder, an empty one, one with other things, or one that was laid out before.
    wanted : Wanted
        The contest.

    Returns
    -------
    list of str
        Lines that say what was laid out, what stayed as it was, and what to do next.

    Raises
    ------
    CannotLayOut
        Naming what is wrong; nothing was written.
    """
    folder = Path(os.path.realpath(os.path.expanduser(folder)))
    name, data = _checked(folder, wanted)
    record = _record(folder)
    contest = f"params/{name}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    if wanted.demo:
        _draw(folder, wanted.tiny)
    elif not data:
        for side in ("train", "test"):
            (folder / "data" / name / side).mkdir(parents=True, exist_ok=True)
    images = data or f"data/{name}"
    texts = {contest: contest_text(name, data, wanted), ".gitignore": IGNORED}
    texts["README.md"] = README.format(name=name, images=images, version=kit_version())
    stayed = [place for place, text in texts.items() if not _written_new(folder / place, text)]
    record.setdefault("contest", contest)
    edited = _bring_up_to_date(folder, record)
    write_json(record | {"kit": kit_version()}, folder / MARK)
    return _said(folder, {contest: "the contest file", images: _holds(wanted)}, stayed, edited)


def _checked(folder: Path, wanted: Wanted) -> tuple[str, str]:
    """The contest's name and the absolute folder of its images (empty: below `data/`)."""
    above = project_above(folder)
    if folder.exists() and not folder.is_dir():
        raise CannotLayOut(f"{folder} is a file: name a folder")
    if IS_CHECKOUT and above == SOURCE:
        raise CannotLayOut(
            f"{folder} lies in the kit's own checkout, {SOURCE}: name a folder outside, or copy "
            "params/template.yaml there"
        )
    if above and above != folder:
        raise CannotLayOut(
            f"{folder} lies within {above}, which is laid out already; for a further contest "
            f"there: fgvc init {above} --name {_as_name(folder.name)}"
        )
    if wanted.tiny and not wanted.demo:
        raise CannotLayOut("--tiny is the demo's smallest form: give --demo too")
    if wanted.demo and (wanted.data or wanted.name):
        raise CannotLayOut("--demo draws its own images and is called demo: drop --data, --name")
    name = DEMO if wanted.demo else wanted.name or _as_name(folder.name)
    try:
        TypeAdapter(FolderName).validate_python(name)
    except ValidationError:
        raise CannotLayOut(
            f"--name {name!r} cannot be a folder's name: take letters, digits, '.', '_' and '-', "
            "and begin with a letter or a digit"
        ) from None
    return name, _data_folder(wanted.data)


def _data_folder(named: str | None) -> str:
    if not named:
        return ""
    data = Path(os.path.abspath(os.path.expanduser(named)))
    if not data.is_dir():
        raise CannotLayOut(f"--data {named}: there is no folder {data}")
    return str(data)


def _as_name(text: str) -> str:
    """A folder's name as the name of a contest; accents go, letters of other scripts too."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")
    return name[:60] or "mine"


def contest_text(name: str, data: str, wanted: Wanted) -> str:
    """The contest file: the kit's template, or the demo's file, with this name and these images."""
    source = SHIPPED / "params" / (f"{DEMO}.yaml" if wanted.demo else "template.yaml")
    text = source.read_text("utf-8")
    if wanted.demo:
        from fgvc_utils.demo.drawing import TINY

        classes = TINY["genera"] * TINY["species_per_genus"]
        tiny = f"known_count: {TINY['test_images'] // classes}"
        return re.sub(r"known_count: \d+", tiny, text) if wanted.tiny else text
    body = text[text.index("run: ") :]
    body = body.replace("run: template ", f"run: {_as_yaml(name)} ", 1)
    where = f"data_root: {_as_yaml(data or name)}"
    if data:
        body = re.sub(
            r"data_root: .*", lambda _: f"{where}  # holds train/ and test/", body, count=1
        )
    else:
        body = body.replace("data_root: template ", f"{where} ", 1).replace("<data_root>", name)
    return HEAD + body


def _as_yaml(text: str) -> str:
    """A text as YAML reads it back, in quotes where it would be taken for something else."""
    plain = re.fullmatch(r"[\w./-]+", text) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)


def _draw(folder: Path, tiny: bool) -> None:
    from fgvc_utils.demo.drawing import TINY, draw_demo

    try:
        draw_demo(folder / "data" / DEMO, **(TINY if tiny else {}))
    except FileExistsError as error:
        raise CannotLayOut(str(error)) from None


def _written_new(path: Path, text: str) -> bool:
    """Write a file that is not there yet; whether it is as it would be written."""
    if os.path.lexists(path):
        return path.is_file() and path.read_bytes() == text.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        temporary.write_text(text, "utf-8")
    return True


# What follows the kit


def _record(folder: Path) -> dict[str, Any]:
    """What the folder's own file says of it; empty where it is not laid out yet."""
    path = folder / MARK
    if not path.is_file():
        return {}
    try:
        record = read_json(path)
        return record if isinstance(record["files"], dict) else {}
    except (ValueError, KeyError, TypeError):
        # Then all that is there counts as edited.
        return {}


def _of_the_kit(contest: str) -> Iterator[tuple[str, bytes]]:
    """Each file that follows the kit: its place in the folder, and what it holds."""
    for home in KEPT_IN_STEP:
        for source in sorted((SHIPPED / home).glob("**/*.*" if home == PRESETS else "*.*")):
            if source.suffix not in KINDS:
                continue
            content = source.read_bytes()
            if home == "notebooks":
                notebook = with_contest(read_json(source), contest)
                content = (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode()
            yield source.relative_to(SHIPPED).as_posix(), content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _bring_up_to_date(folder: Path, record: dict[str, Any]) -> list[str]:
    """Write what follows the kit, but for what a person has edited; the places of that."""
    written, edited = record.setdefault("files", {}), []
    for place, content in _of_the_kit(record["contest"]):
        path, digest = folder / place, _digest(content)
        there = _digest(path.read_bytes()) if path.is_file() else ""
        if there not in ("", digest, written.get(place)):
            edited.append(place)
            continue
        if there != digest:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as temporary:
                temporary.write_bytes(content)
        written[place] = digest
    return edited


def outdated(folder: Path = PROJECT) -> list[str]:
    """Lines that say which notebooks of a folder are of another kit than this one."""
    record = _record(folder)
    if not record:
        return []
    of_kit = {place: _digest(text) for place, text in _of_the_kit(record["contest"])}
    old = [n for n in of_kit if n.startswith("notebooks/") and record["files"].get(n) != of_kit[n]]
    if not old:
        return []
    return [
        f"{first_few(old)}: of fgvc-kit {record.get('kit')}, and {kit_version()} has others; "
        f"`fgvc init {folder}` brings up to date those that nobody has edited"
    ]


def _holds(wanted: Wanted) -> str:
    return "the demo's photos" if wanted.demo else "the photos: train/<class>/… and test/…"


def _said(folder: Path, own: dict[str, str], stayed: list[str], edited: list[str]) -> list[str]:
    rows = own | {"notebooks/": "the eight stages", f"{PRESETS}/": "recipes to take by name"}
    rows |= {"docs/": "all that is to be read"}
    width = max(map(len, rows))
    lines = [f"{folder} is laid out:"]
    lines += [f"  {place:<{width}}  {what}" for place, what in rows.items()]
    if stayed:
        lines.append(f"There before, and left as it was: {', '.join(stayed)}")
    if edited:
        lines.append(
            f"Edited, so left as it is: {first_few(edited)}; to have the kit's, move it away and "
            "call this again"
        )
    name = Path(next(iter(own))).stem
    return [*lines, *NEXT.format(folder=shlex.quote(str(folder)), name=name).splitlines()]
