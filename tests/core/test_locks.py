"""Locks where the file system has none, or another user's file is in the way."""

import errno
import fcntl
import os

import pytest

from fgvc_utils.contest.journal import Journal
from fgvc_utils.core import files, locks, shared_memory


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_the_work_is_done_and_it_is_said_once(tmp_path, monkeypatch, capsys, number):
    def refuse(*given):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    journal = Journal(tmp_path / "of a person" / "01.csv")
    for item in ("a", "b"):
        journal.append(item, "keep", "", "shown", "Ann")
    assert len(journal.latest()) == 2
    with locks.only_one(tmp_path / "run" / ".lock", "another", "wait"):
        pass
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and all("file system without locks" in line for line in said)


def test_other_errors_of_locks_are_raised(tmp_path, monkeypatch):
    def refuse(*given):
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="no"), locks.only_one(tmp_path / "l", "another", "wait"):
        pass


def test_a_lock_file_of_another_user_is_told(tmp_path, monkeypatch):
    def refuse(*given, **more):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with (
        pytest.raises(locks.Held, match="another user works there"),
        locks.only_one(tmp_path / "l", "another", "wait"),
    ):
        pass


def test_what_another_user_keeps_for_himself_is_named_at_the_check(tmp_path, monkeypatch):
    run = tmp_path / "outputs" / "mine"
    (run / "tables").mkdir(parents=True)
    (run / "tables" / "01_noise.parquet").write_bytes(b"x")
    (tmp_path / "outputs" / "cache" / "96").mkdir(parents=True)
    assert files.unusable(run) == [] and files.unusable(tmp_path / "other" / "run") == []
    for hidden in (run / "tables" / "01_noise.parquet", tmp_path / "outputs" / "cache" / "96"):
        monkeypatch.setattr(os, "access", lambda place, mode, hidden=hidden: place != hidden)
        (said,) = files.unusable(run)
        assert str(hidden) in said and "umask 002" in said
    (tmp_path / "a file").write_bytes(b"")
    (said,) = files.unusable(tmp_path / "a file" / "run")
    assert "is a file" in said


def test_shared_memory_that_cannot_be_used_is_told(monkeypatch):
    assert shared_memory.lacks() == ""

    class Context:
        def Lock(self):  # noqa: N802
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shared_memory, "get_context", lambda way: Context())
    assert shared_memory.lacks() == "/dev/shm cannot be used (No space left on device)"


def test_a_clock_that_was_set_does_not_make_new_files_old(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 4e9)
    new = tmp_path / ".a.elsewhere-1-0123456789abcdef.part"
    new.write_bytes(b"x")
    old = tmp_path / ".b.elsewhere-1-0123456789abcdef.part"
    old.write_bytes(b"x")
    os.utime(old, (1e9, 1e9))
    assert files.remove_leftovers(tmp_path) == [old] and new.is_file()
