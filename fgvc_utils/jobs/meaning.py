"""What of a piece of Python counts for a result, as plain data: its syntax without its texts.

Docstrings, comments, layout and annotations are left out, the fields of parameter records (their
values are compared themselves), the captions of entries, and what is given to those who only show
or report: print, display, warnings, logging, exceptions that are raised, assertions, and functions
of a module whose docstring says that nothing it is given counts. Calls of other functions of the
package among it stay.

Counts in no digest.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# Functions of Python and of other packages that take nothing but texts for people.
MESSAGES = {"print", "IPython.display.display", "warnings.warn", "sys.exit"}
LOGGERS = {"logging", "log", "logger", "LOGGER"}
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
# What an entry of a registry is called for people.
CAPTION = "caption"
# Versions of Python differ in which empty fields there are.
NO_MEANING = {"annotation", "returns", "ctx", "kind", "type_comment", "type_params"}


def chain(node: ast.AST) -> list[str]:
    """The names of `a.b.c`, outermost first; empty where it does not begin with a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return [node.id, *names] if isinstance(node, ast.Name) else []


def chains(node: ast.AST) -> Iterator[list[str]]:
    """All names and dotted names in a syntax tree, each as long as it is written."""
    if names := chain(node):
        yield names
        return
    for child in ast.iter_child_nodes(node):
        yield from chains(child)


def is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a text that nobody reads: a docstring."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


class Meaning:
    """The plain form of statements of one module.

    Parameters
    ----------
    named
        What a name stands for outside this module, as a dotted name; the name itself where it
        stands for nothing else.
    shows
        Whether a call of a dotted name, given as its parts, only shows what it is given.
    works
        Whether a call of a dotted name runs code of the package that counts.
    is_record
        Whether a class is a record of parameters.
    """

    def __init__(
        self,
        named: Callable[[str], str],
        shows: Callable[[list[str]], bool],
        works: Callable[[list[str]], bool],
        is_record: Callable[[ast.ClassDef], bool],
    ) -> None:
        self._named, self._shows, self._works = named, shows, works
        self._is_record = is_record

    def of(self, statements: Iterable[ast.stmt]) -> list[Any]:
        """The statements as plain data, those without meaning left out."""
        found = []
        for statement in statements:
            if not is_text(statement):
                found += self._statement(statement)
        return found

    def _statement(self, node: ast.stmt) -> list[Any]:
        if isinstance(node, ast.Expr) and self._only_shows(node.value):
            return self._work_in([node.value])
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            given = [*node.exc.args, *(each.value for each in node.exc.keywords)]
            return [["Raise", self._plain(node.exc.func), self._work_in(given)]]
        if isinstance(node, ast.Assert):
            return [["Assert", self._plain(node.test)]]
        if isinstance(node, ast.If | ast.For) and not self.of([*node.body, *node.orelse]):
            # It only chose or repeated messages.
            return self._work_in([node.test if isinstance(node, ast.If) else node.iter])
        return [self._plain(node)]

    def _only_shows(self, node: ast.expr) -> bool:
        """Whether an expression that stands alone is a message, or one of two, or none."""
        if isinstance(node, ast.IfExp):
            return all(self._only_shows(side) for side in (node.body, node.orelse))
        return isinstance(node, ast.Constant) or self._is_message(node)

    def _is_message(self, node: ast.AST) -> bool:
        """Whether an expression is a call that only shows or reports what it is given."""
        names = chain(node.func) if isinstance(node, ast.Call) else []
        if not names:
            return False
        dotted = ".".join([self._named(names[0]), *names[1:]])
        logs = names[0] in LOGGERS and names[-1] in LEVELS
        return dotted in MESSAGES or logs or self._shows(names)

    def _work_in(self, nodes: Iterable[ast.AST]) -> list[Any]:
        """The calls of functions of the package that count, in what is shown or reported."""
        found = []
        for node in nodes:
            names = chain(node.func) if isinstance(node, ast.Call) else []
            if names and not self._is_message(node) and self._works(names):
                found.append(self._plain(node))
            else:
                found += self._work_in(ast.iter_child_nodes(node))
        return found

    def _plain(self, node: Any) -> Any:
        if isinstance(node, list):
            if node and all(isinstance(each, ast.stmt) for each in node):
                return self.of(node)
            return [self._plain(each) for each in node]
        if not isinstance(node, ast.AST):
            return repr(node)
        if isinstance(node, ast.Name):
            return ["Name", self._named(node.id)]
        if self._is_message(node):
            return ["shown", self._work_in(ast.iter_child_nodes(node))]
        if isinstance(node, ast.ClassDef) and self._is_record(node):
            kept = [each for each in node.body if not isinstance(each, ast.AnnAssign)]
            node = ast.ClassDef(**{**dict(ast.iter_fields(node)), "body": kept})
        if isinstance(node, ast.Call):
            kept = [each for each in node.keywords if each.arg != CAPTION]
            node = ast.Call(node.func, node.args, kept)
        fields = {
            name: self._plain(value)
            for name, value in ast.iter_fields(node)
            if value not in (None, []) and name not in NO_MEANING
        }
        return [type(node).__name__, fields]
