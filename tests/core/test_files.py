"""Files that are written whole or not at all, and by nobody else."""

import ast
import os

import pytest

from fgvc_utils.contest.places import PROJECT
from fgvc_utils.core import files
from fgvc_utils.core.files import whole_file


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_a_block_that_raises_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["table.csv"]
    with whole_file(path) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".csv"
        temporary.write_text("new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["table.csv"]


@pytest.mark.usefixtures("umask")
def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path):
    with whole_file(tmp_path / "a" / "table.csv") as temporary:
        assert temporary.stat().st_mode & 0o777 == 0o640
        temporary.write_text("x")
    assert (tmp_path / "a" / "table.csv").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o750


def test_two_who_write_one_file_have_a_temporary_file_each(tmp_path):
    with whole_file(tmp_path / "t.csv") as one, whole_file(tmp_path / "t.csv") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "t.csv").read_text() == "one" and len(os.listdir(tmp_path)) == 1


def test_a_link_that_was_laid_there_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "guessed")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / f".t.{files._writer()}.part.csv").symlink_to(victim)
    with pytest.raises(FileExistsError), whole_file(tmp_path / "t.csv") as temporary:
        temporary.write_text("x")
    assert victim.read_text() == "mine"


@pytest.mark.parametrize(
    "path", sorted((PROJECT / "fgvc_utils").glob("*.py")), ids=lambda p: p.stem
)
def test_nothing_is_made_writable_by_all(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        name = node.func.attr if isinstance(getattr(node, "func", None), ast.Attribute) else ""
        assert name not in ("mktemp", "umask"), f"line {node.lineno}: {name}"
        if name in ("chmod", "fchmod"):
            modes = [one.value for one in node.args if isinstance(one, ast.Constant)]
            assert modes and not modes[-1] & 0o022, f"line {node.lineno}: {name}"
