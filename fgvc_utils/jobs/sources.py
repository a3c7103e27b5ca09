"""Which of the package's code a result depends on: a digest a definition, by name.

Counts in no digest.

How the digest of code is taken
-------------------------------
1. Start from what runs: the cells of a notebook, or `carry_out` for a job. Take every top-level
   definition of the package that is named there, and so on from each of them: through imports,
   re-exports, decorators, annotations and entry points in strings (`fgvc_utils.wing.module:name`).
2. What cannot be resolved counts whole: all of a module that is passed around, imported with a star
   or asked for a name that it does not define; and what a module does when it is imported.
3. A definition's digest is that of its syntax without docstrings, comments, layout, annotations,
   captions and messages: what raise, print, warnings, logging, display and `looking` are given.
4. Fields of parameter records are left out, since their values are compared themselves; so is each
   wing or module whose docstring says `Counts in no digest`, save for entry points that it names.
5. A result is stale where a definition came, went or changed.
"""

import ast
import functools
import hashlib
import json
import re
from collections.abc import Collection, Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from fgvc_utils.jobs.meaning import Meaning, chain, chains, is_text

PACKAGE = Path(__file__).resolve().parents[1]
NAME = PACKAGE.name
# Begins the line of a docstring that takes a wing or a module out of all digests.
MARK = "Counts in no digest"
# Its end where neither counts what the functions of the module are given.
SHOWS = ", nor does what it is given"
ENTRY = re.compile(rf"{NAME}\.([\w.]+):(\w+)")
# What a result depends on in its last digits; noted, but no reason to make it again.
PACKAGES = ("torch", "torchvision", "timm", "fastai", "numpy", "scipy", "scikit-learn", "pandas")
PACKAGES += ("pillow", "simplejpeg")


class Definition(NamedTuple):
    """A top-level name of a module, such as `("training.losses", "Objective")`.

    An empty name stands for what the module does when it is imported.
    """

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module


class _Module:
    """The definitions of one piece of source, and what its names stand for."""

    def __init__(self, name: str, source: str, package: "Package") -> None:
        self.name, self.package = name, package
        tree = ast.parse(source)
        self.mark = _mark(ast.get_docstring(tree) or "")
        # alias → a dotted name below the package, or one of another package
        self.ours: dict[str, str] = {}
        self.foreign: dict[str, str] = {}
        self.stars: list[str] = []
        # modules that are imported, whether or not they are named
        self.imported: set[str] = set()
        for node in ast.walk(tree):
            self._note_import(node)
        self.parts: dict[str, list[ast.stmt]] = {"": []}
        self.statements = [each for each in tree.body if not is_text(each)]
        for statement in self.statements:
            for defined in _defined(statement):
                self.parts.setdefault(defined, []).append(statement)
        for statement in self.statements:
            if self._is_registered(statement):
                self.parts[""].append(statement)
        # Names that are annotated as something that only shows what it is given.
        self.showing = {
            node.arg
            for node in ast.walk(tree)
            if isinstance(node, ast.arg) and node.annotation and self._shows(chain(node.annotation))
        }
        self.meaning = Meaning(self._named, self._shows, self._works, self.is_record)

    def _note_import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, _, below = alias.name.partition(".")
                if top != NAME:
                    self.foreign[alias.asname or top] = alias.name if alias.asname else top
                    continue
                # `import package.wing.module` binds the package, and `as` the module.
                self.ours[alias.asname or top] = below if alias.asname else ""
                self.imported.add(below)
        elif isinstance(node, ast.ImportFrom):
            top, _, place = (node.module or "").partition(".")
            for alias in node.names:
                if top != NAME:
                    self.foreign[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                    continue
                self.imported.add(place)
                if alias.name == "*":
                    self.stars.append(place)
                    continue
                taken = f"{place}.{alias.name}".strip(".")
                self.ours[alias.asname or alias.name] = taken
                if taken in self.package.files:
                    self.imported.add(taken)

    def _is_registered(self, statement: ast.stmt) -> bool:
        """Whether a decorator of the package takes a definition, so that others may find it."""
        taken = getattr(statement, "decorator_list", [])
        return any(
            names[0] in self.ours or names[0] in self.parts
            for decorator in taken
            for names in chains(decorator)
        )

    def resolve(self, names: list[str]) -> set[Definition]:
        """The definitions that a dotted name of this module may mean; none for a local name."""
        found = set()
        if names[0] in self.parts:
            found.add(Definition(self.name, names[0]))
        if names[0] in self.ours:
            below = self.ours[names[0]].split(".") if self.ours[names[0]] else []
            found |= self.package.meant(*below, *names[1:])
        elif names[0] not in self.parts and names[0] not in self.foreign:
            for star in self.stars:
                module = self.package.module(star)
                if names[0] in module.parts or names[0] in module.ours:
                    found |= self.package.meant(*star.split("."), *names)
        return found

    @functools.cache  # noqa: B019
    def references(self, name: str) -> frozenset[Definition]:
        """What a definition names of the package, in this module and in others."""
        found = set()
        for statement in self.parts[name]:
            if isinstance(statement, ast.ClassDef) and self.is_record(statement):
                found |= self._named_by_record(statement)
                continue
            for names in chains(statement):
                found |= self.resolve(names)
        if not name:
            found |= {Definition(module, "") for module in self.imported}
            for star in self.stars:
                found |= self.package.meant(*star.split("."))
        return frozenset(found)

    def _named_by_record(self, record: ast.ClassDef) -> set[Definition]:
        """What a record of parameters names; of its fields' types, classes alone."""
        found = set()
        for child in ast.iter_child_nodes(record):
            meant = {each for names in chains(child) for each in self.resolve(names)}
            if isinstance(child, ast.AnnAssign):
                meant = {each for each in meant if self.package.classes(each)}
            found |= meant
        return found

    @functools.cache  # noqa: B019
    def entries(self, name: str) -> frozenset[Definition]:
        """The entry points that a definition names in strings."""
        texts = (
            node.value
            for statement in self.parts[name]
            for node in ast.walk(statement)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        found = (match for text in texts for match in ENTRY.findall(text))
        return frozenset(
            meant
            for place, called in found
            for meant in self.package.meant(*place.split("."), called)
        )

    def is_record(self, node: ast.ClassDef) -> bool:
        """Whether a class is a record of parameters: a pydantic model."""
        for base in map(chain, node.bases):
            if not base:
                continue
            if ".".join([self.foreign.get(base[0], ""), *base[1:]]) == "pydantic.BaseModel":
                return True
            for meant in self.resolve(base):
                module = self.package.module(meant.module)
                others = [each for each in self.package.classes(meant) if each is not node]
                if any(map(module.is_record, others)):
                    return True
        return False

    def _named(self, name: str) -> str:
        return self.ours.get(name) or self.foreign.get(name, name)

    def _shows(self, names: list[str]) -> bool:
        if not names:
            return False
        if set(names[:-1]) & getattr(self, "showing", set()):
            return True
        meant = self.resolve(names) if names[0] in self.ours else set()
        return bool(meant) and all(self.package.mark(each.module) == "shows" for each in meant)

    def _works(self, names: list[str]) -> bool:
        return any(not self.package.mark(each.module) for each in self.resolve(names))

    @functools.cache  # noqa: B019
    def digest(self, name: str) -> str:
        """SHA-256 of what a definition means, 16 hexadecimal digits; empty without meaning."""
        return _hashed(self.meaning.of(self.parts[name]))

    def own_digest(self) -> str:
        """The same of everything that is defined in this source itself."""
        imports = (ast.Import, ast.ImportFrom)
        return _hashed(self.meaning.of(s for s in self.statements if not isinstance(s, imports)))


def _hashed(meaning: list) -> str:
    return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16] if meaning else ""


def _mark(docstring: str) -> str:
    """How a docstring takes its module out of the digests: `code`, `shows`, or empty."""
    found = re.search(rf"^{MARK}({SHOWS})?\.$", docstring, re.MULTILINE)
    return ("shows" if found[1] else "code") if found else ""


class Package:
    """The modules of a package as they are on the disk at one time."""

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        # Modules by their dotted names; a folder stands for its `__init__`.
        self.files: dict[str, Path] = {}
        self.folders = {""}
        for file in files:
            parts = list(file.relative_to(folder).with_suffix("").parts)
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            self.files[".".join(parts)] = file
            within = file.relative_to(folder).parent.parts
            self.folders |= {".".join(within[:n]) for n in range(1, len(within) + 1)}

    @functools.cache  # noqa: B019
    def module(self, name: str) -> _Module:
        file = self.files.get(name)
        return _Module(name, file.read_text("utf-8") if file else "", self)

    def classes(self, definition: Definition) -> list[ast.ClassDef]:
        """The classes of the name of a definition: one, or none."""
        parts = self.module(definition.module).parts[definition.name]
        return [each for each in parts if isinstance(each, ast.ClassDef)]

    @functools.cache  # noqa: B019
    def mark(self, module: str) -> str:
        """How a module, or a folder that it lies in, is taken out of all digests.

        `code` where its code does not count, `shows` where neither counts what its functions are
        given, and empty where it counts.
        """
        parts = module.split(".")
        marks = [self.module(".".join(parts[:n])).mark for n in range(1, len(parts) + 1)]
        return max(marks)

    @functools.cache  # noqa: B019
    def meant(self, *path: str) -> frozenset[Definition]:
        """The definitions that a dotted name below the package means.

        A name that is not found means all of the module, or all modules of the folder, that it
        leads to.
        """
        at = 0
        while at < len(path) and ".".join(path[: at + 1]) in self.files.keys() | self.folders:
            at += 1
        place, rest = ".".join(path[:at]), path[at:]
        module = self.module(place)
        if rest and rest[0] in module.parts:
            return frozenset([Definition(place, rest[0])])
        if rest and rest[0] in module.ours:
            taken = module.ours[rest[0]]
            below = (*(taken.split(".") if taken else ()), *rest[1:])
            return self.meant(*below) if below != path else frozenset()
        if rest and rest[0] in module.foreign:
            return frozenset([Definition(place, "")])
        inside = f"{place}." if place else ""
        names = [
            n for n in self.files if n == place or place in self.folders and n.startswith(inside)
        ]
        return frozenset(
            Definition(name, part) for name in names for part in self.module(name).parts
        )


def read_package(folder: Path) -> Package:
    """A package as it is now; read anew where a file changed, as a notebook's kernel lives long."""
    files = sorted(folder.rglob("*.py"))
    return _read_package(folder, tuple((file, file.stat().st_mtime_ns) for file in files))


@functools.lru_cache(maxsize=2)
def _read_package(folder: Path, files: tuple[tuple[Path, int], ...]) -> Package:
    return Package(folder, [file for file, _ in files])


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


def reached(
    roots: Iterable[Definition], *, without: Collection[Definition] = (), package: Path = PACKAGE
) -> dict[str, str]:
    """Digests of all definitions that some definitions reach.

    Parameters
    ----------
    roots
        Where work starts.
    without
        Definitions that are not run, and so not followed either.
    package
        The folder of the package.

    Returns
    -------
    dict
        By name, such as `training.losses.Objective`.

    Raises
    ------
    KeyError
        Naming a definition, of the roots or of `without`, that is not there.
    """
    todo, there = list(roots), read_package(package)
    for each in (*todo, *without):
        if each.name not in there.module(each.module).parts:
            raise KeyError(f"{NAME} has no {each}")
    return _digests(todo, without, there)


def reached_from(source: str, *, package: Path = PACKAGE) -> dict[str, str]:
    """Digests of what a piece of Python reaches, such as a notebook's cells.

    Its own digest is under `notebook`.
    """
    there = read_package(package)
    cells = _Module("notebook", source, there)
    named = {each for name in cells.parts for each in cells.references(name) | cells.entries(name)}
    others = [each for each in named if each.module != "notebook"]
    return {"notebook": cells.own_digest()} | _digests(others, (), there)


def _digests(
    todo: list[Definition], without: Collection[Definition], package: Package
) -> dict[str, str]:
    seen: set[Definition] = set()
    while todo:
        definition = todo.pop()
        module = package.module(definition.module)
        if definition in seen or definition in without or definition.name not in module.parts:
            continue
        seen.add(definition)
        follow = {*module.references(definition.name), Definition(definition.module, "")}
        if package.mark(definition.module):
            follow = {each for each in follow if package.mark(each.module)}
        todo += [*follow, *module.entries(definition.name)]
    counted = sorted(each for each in seen if not package.mark(each.module))
    digests = {str(each): package.module(each.module).digest(each.name) for each in counted}
    return {name: digest for name, digest in digests.items() if digest}


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Names of the definitions that came, went or changed, sorted."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on in its last digits, by name."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not there"
    return found
