"""Random trees of rubbish end in a right listing or in errors that name something."""

import sys
from collections import Counter
from pathlib import Path

import pytest


@pytest.fixture
def trees(monkeypatch):
    """The module, whose imports lie beside it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import trees

    yield trees
    sys.modules.pop("trees")


def test_some_trees_are_each_used_or_listed(trees, tmp_path):
    ends = Counter()
    for number in range(40, 50):
        end = trees.take("tree", trees.make_tree(tmp_path / str(number), 3, number))
        assert end in ("used", "listed"), (number, end)
        ends[end] += 1
    assert len(ends) == 2


def test_what_is_wrong_with_a_listing_is_found(trees, tmp_path, monkeypatch):
    numbers = iter(range(100))
    used = next(
        contest
        for contest in (trees.make_tree(tmp_path / str(n), 3, n) for n in numbers if n % 3)
        if trees.take("tree", contest) == "used"
    )
    right = trees.list_images
    monkeypatch.setattr(trees, "list_images", lambda *a, **k: right(*a, **k).assign(given="x"))
    assert trees.take("tree", used).startswith("a row of another class")

    def less(*given, **columns):
        found = right(*given, **columns)
        return found[~found["path"].str.endswith("rose/whole.jpg")]

    monkeypatch.setattr(trees, "list_images", less)
    assert trees.take("tree", used).startswith("a whole image is missing")
