"""What of a notebook's cells its results depend on: all but what only shows.

A call of `print`, of `display` or of the wing `looking` only shows. Such a call on its own is left
out; where it stands among others, or calls something of the package itself, its captions and sizes
are. So other pictures, captions and messages leave a stage done.
"""

import ast
from collections.abc import Sequence

NAME = __name__.partition(".")[0]
SHOWING = f"{NAME}.looking"


def acting(cells: Sequence[str]) -> str:
    """The code of some cells without what only shows, as one piece of Python.

    Parameters
    ----------
    cells : sequence of str
        The sources of code cells, in order.
    """
    tree = ast.parse("\n".join(cells))
    return ast.unparse(_WithoutShows(tree).visit(tree))


class _WithoutShows(ast.NodeTransformer):
    def __init__(self, tree: ast.Module) -> None:
        self.shows, self.package = {"print", "display"}, set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    place = f"{node.module}.{alias.name}."
                    if place.startswith(f"{SHOWING}."):
                        self.shows.add(alias.asname or alias.name)
                    elif place.startswith(f"{NAME}."):
                        self.package.add(alias.asname or alias.name)

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        if self._only_shows(node.value):
            return None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.If | None:
        return self._block(node, node.test)

    def visit_For(self, node: ast.For) -> ast.For | None:
        return self._block(node, node.iter)

    def _block(self, node: ast.If | ast.For, head: ast.expr) -> ast.If | ast.For | None:
        self.generic_visit(node)
        if not node.body and not node.orelse and not self._named(head, self.package):
            return None
        node.body = node.body or [ast.Pass()]
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        if _root(node) in self.shows:
            for place, value in enumerate(node.args):
                node.args[place] = _Blank().visit(value)
            for keyword in node.keywords:
                keyword.value = _Blank().visit(keyword.value)
            return node
        return self.generic_visit(node)

    def _only_shows(self, value: ast.expr) -> bool:
        if isinstance(value, ast.IfExp):
            sides = (value.body, value.orelse)
            return all(isinstance(s, ast.Constant) or self._only_shows(s) for s in sides)
        shows = isinstance(value, ast.Call) and _root(value) in self.shows
        return shows and not self._named(value, self.package)

    def _named(self, node: ast.expr, names: set[str]) -> bool:
        return any(isinstance(each, ast.Name) and each.id in names for each in ast.walk(node))


class _Blank(ast.NodeTransformer):
    """Constants become empty: captions, sizes, limits, the words around a message's values."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant(None)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Tuple:
        values = [self.visit(v.value) for v in node.values if isinstance(v, ast.FormattedValue)]
        return ast.Tuple(values, ast.Load())


def _root(call: ast.Call) -> str:
    """The name that a call begins with, such as `plots` of `plots.scores(…)`."""
    node = call.func
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
