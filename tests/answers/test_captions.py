"""Captions are for people: rewording one makes no result stale, what an entry does does."""

import shutil
from pathlib import Path

import pytest

from fgvc_utils.jobs.sources import PACKAGE, Definition, changed, reached

# Where the results come from, the file of the registry, and a change of what an entry does.
REGISTRIES = {
    "ways": ("answers.ways", "answers", "answers/ways.py", ('head="linear"', 'head="convolution"')),
    "rules": ("answers.assignment", "assign", "answers/assignment.py", ("=1000", "=1001")),
    "views": ("training.predicting", "predict", "jobs/views.py", ("(0.5, 0.5)", "(0.5, 0.4)")),
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package that may be changed."""
    copy = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.mark.parametrize("registry", list(REGISTRIES))
def test_a_caption_is_reworded_and_nothing_is_stale(package: Path, registry: str):
    module, name, file, (old, new) = REGISTRIES[registry]
    roots = [Definition(module, name)]
    if registry == "ways":
        roots.append(Definition(module, "LAYERS"))
    before = reached(roots, package=package)
    text = (package / file).read_text("utf-8")
    reworded = text.replace('caption="', 'caption="Reworded: ')
    assert reworded != text
    (package / file).write_text(reworded, "utf-8")
    assert changed(before, reached(roots, package=package)) == []
    (package / file).write_text(text.replace(old, new), "utf-8")
    assert changed(before, reached(roots, package=package))
