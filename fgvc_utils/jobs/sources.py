"""Which of the package's code a result hangs on: definitions, found by reading imports and names.

A result that was made by other code is not the same result. A whole module is too coarse a piece
for that: one notebook's helper would make all notebooks stale. So what is looked at are top-level
definitions, followed from where work starts to all that they name. Comments, docstrings and layout
do not count, nor do the rooms that only show, report or start things.
"""

import ast
import functools
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = Path(__file__).resolve().parents[1]
NAME = PACKAGE.name
# Rooms that cannot change a table, a fit or a submission: they show, report, start and name
# things. Parameters stand beside the code wherever it is kept, and decisions of a gallery come in
# by their journal.
SHOWS = ("looking", "pipeline", "contest.config", "contest.parameters", "contest.places")
SHOWS += ("cleaning.params", "training.params", "answers.params")
SHOWS += ("core.files", "core.heartbeat", "core.locks", "core.processes", "jobs.sources")
SHOWS += ("hardware.launch", "hardware.progress", "hardware.ranks")
# Its own code does not count either, but what it starts by name in other processes does.
STARTS = "hardware.launch"
# What else a result may hang on in its last digits; told, not taken for a reason to do it again.
PACKAGES = ("torch", "torchvision", "timm", "fastai", "numpy", "scipy", "scikit-learn", "pandas")
PACKAGES += ("pillow", "simplejpeg")


class Definition(NamedTuple):
    """A top-level name of a room; an empty name stands for what the room does when imported."""

    room: str
    name: str

    def __str__(self) -> str:
        return f"{self.room}.{self.name}" if self.name else self.room


class _Room:
    """The definitions of one piece of source, and what its names mean."""

    def __init__(self, name: str, source: str, package: Path) -> None:
        self.name, self.package = name, package
        tree = ast.parse(source)
        self.parts: dict[str, list[ast.stmt]] = {"": []}
        self._references: dict[str, set[Definition]] = {}
        self._digests: dict[str, str] = {}
        # alias → a room, or a definition of one
        self.rooms: dict[str, str] = {}
        self.taken: dict[str, Definition] = {}
        # alias → what it means outside the package
        self.foreign: dict[str, str] = {}
        for node in ast.walk(tree):
            self._note_import(node)
        self.statements = [each for each in tree.body if not _is_text(each)]
        for statement in self.statements:
            for defined in _defined(statement):
                self.parts.setdefault(defined, []).append(statement)

    def _note_import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == NAME and len(parts) > 1:
                    # `import package.wing.room` binds the package; then all of the room is named.
                    self.rooms[alias.asname or parts[0]] = ".".join(parts[1:])
                else:
                    self.foreign[alias.asname or parts[0]] = alias.name
        elif isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{NAME}."):
            place = node.module.split(".")[1:]
            for alias in node.names:
                room = ".".join([*place, alias.name])
                if _file(room, self.package).is_file():
                    self.rooms[alias.asname or alias.name] = room
                else:
                    taken = Definition(".".join(place), alias.name)
                    self.taken[alias.asname or alias.name] = taken
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                self.foreign[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def references(self, name: str) -> set[Definition]:
        """What a definition names of the package, in this room and in others."""
        if name not in self._references:
            statements = self.parts[name]
            self._references[name] = {d for each in statements for d in self._named(each)}
        return self._references[name]

    def _named(self, statement: ast.stmt) -> Iterator[Definition]:
        attributes = set()
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                room = self.rooms.get(node.value.id)
                if room is not None and node.attr in _room(room, self.package).parts:
                    attributes.add(node.value)
                    yield Definition(room, node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                # Entries that another process imports by name.
                for room, called in re.findall(rf"{NAME}\.([\w.]+):(\w+)", node.value):
                    yield Definition(room, called)
        for node in ast.walk(statement):
            if not isinstance(node, ast.Name) or node in attributes:
                continue
            if node.id in self.parts:
                yield Definition(self.name, node.id)
            if node.id in self.taken:
                yield self.taken[node.id]
            if node.id in self.rooms:
                room = self.rooms[node.id]
                yield from (Definition(room, other) for other in _room(room, self.package).parts)

    def digest(self, name: str) -> str:
        """SHA-256 of a definition's meaning, 16 hexadecimal digits."""
        if name not in self._digests:
            self._digests[name] = self._digest(self.parts[name])
        return self._digests[name]

    def own_digest(self) -> str:
        """The same of everything that stands in this source itself."""
        return self._digest(self.statements)

    def _digest(self, statements: list[ast.stmt]) -> str:
        named = {n.id for s in statements for n in ast.walk(s) if isinstance(n, ast.Name)}
        foreign = {alias: self.foreign[alias] for alias in sorted(named & self.foreign.keys())}
        plain = json.dumps([foreign, [_plain(statement) for statement in statements]])
        return hashlib.sha256(plain.encode()).hexdigest()[:16]


def _room(name: str, package: Path) -> _Room:
    file = _file(name, package)
    # Read anew where it was changed: a notebook's kernel lives for days.
    return _read_room(name, package, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _read_room(name: str, package: Path, changed: int) -> _Room:
    return _Room(name, _file(name, package).read_text("utf-8"), package)


def _file(room: str, package: Path) -> Path:
    """The file of a room, such as `cleaning/rules.py` for `cleaning.rules`."""
    return package.joinpath(*room.split(".")).with_suffix(".py")


def _shows(room: str) -> bool:
    """Whether a room, or the wing that it lies in, only shows, reports or starts."""
    return any(f"{room}.".startswith(f"{place}.") for place in SHOWS)


def _defined(statement: ast.stmt) -> list[str]:
    """The names that a top-level statement defines; the empty name where it only does something."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return []
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    stored = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return stored or [""]


def _plain(node: Any) -> Any:
    """A syntax tree as plain data without docstrings and captions, the same on every Python."""
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {}
    for field, value in ast.iter_fields(node):
        if field == "body" and isinstance(value, list):
            value = [each for each in value if not _is_text(each)]
        if field == "keywords":
            # What an entry of a registry is called for people changes no result.
            value = [each for each in value if each.arg != "caption"]
        # Versions differ in which empty fields there are.
        if value not in (None, []) and field not in ("ctx", "kind", "type_comment"):
            fields[field] = _plain(value)
    return [type(node).__name__, fields]


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is text that nobody reads: a docstring."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def reached(
    roots: Iterable[Definition], *, stop: Collection[Definition] = (), package: Path = PACKAGE
) -> dict[str, str]:
    """Digests of all definitions that some definitions reach, by name such as `losses.Objective`.

    What `stop` names counts itself but is not followed. Raises KeyError naming a root that is not
    there.
    """
    todo = list(roots)
    for root in todo:
        if root.name not in _room(root.room, package).parts:
            raise KeyError(f"{NAME} has no {root}")
    return _digests(todo, stop, package)


def reached_from(source: str, *, package: Path = PACKAGE) -> dict[str, str]:
    """The same from a piece of Python, such as a notebook's cells; its own digest is `notebook`."""
    cells = _Room("notebook", source, package)
    named = {each for name in cells.parts for each in cells.references(name)}
    others = [each for each in named if each.room != "notebook"]
    return {"notebook": cells.own_digest()} | _digests(others, (), package)


def _digests(todo: list[Definition], stop: Collection[Definition], package: Path) -> dict[str, str]:
    seen: set[Definition] = set()
    while todo:
        definition = todo.pop()
        room = _room(definition.room, package)
        # Names that a room takes from elsewhere, and attributes that are no definitions.
        if definition in seen or definition.name not in room.parts:
            if definition.name in room.taken and definition not in seen:
                seen.add(definition)
                todo.append(room.taken[definition.name])
            continue
        seen.add(definition)
        if definition not in stop and (definition.room == STARTS or not _shows(definition.room)):
            todo += [*room.references(definition.name), Definition(definition.room, "")]
    told = {each for each in seen if not _shows(each.room)}
    return {
        str(each): _room(each.room, package).digest(each.name)
        for each in sorted(told)
        if _room(each.room, package).parts.get(each.name)
    }


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Names of the definitions that came, went or changed, sorted."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def versions() -> dict[str, str]:
    """Versions of the packages that a result hangs on in its last digits, by name."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not there"
    return found
