"""Files whole or not at all: what a kill leaves, what outlasts a power cut, what is removed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fgvc_utils.core import files
from fgvc_utils.core.files import remove_leftovers, whole_file, write_json

WRITE = """
import sys, time
from pathlib import Path
from fgvc_utils.core.files import whole_file
with whole_file(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print(temporary, flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def writer(tmp_path):
    """A process that is in the middle of writing table.csv, and its temporary file."""
    command = [sys.executable, "-c", WRITE, str(tmp_path / "run" / "table.csv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_killed_writer_leaves_the_old_file_and_what_it_leaves_goes(writer, tmp_path):
    process, temporary = writer
    target = tmp_path / "run" / "table.csv"
    target.write_bytes(b"old")
    assert temporary.parent == target.parent and temporary.suffix == ".csv"
    assert remove_leftovers(tmp_path) == [], "it is being written"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert target.read_bytes() == b"old" and temporary.exists()
    assert remove_leftovers(tmp_path) == [temporary]
    assert [path.name for path in target.parent.iterdir()] == ["table.csv"]


def test_what_another_machine_writes_goes_only_once_it_is_old(tmp_path):
    old, young = (
        tmp_path / f".table.with.dots.far-off-{n}-0123456789abcdef.part.csv" for n in (1, 2)
    )
    others = [tmp_path / name for name in (".hidden.part.csv", "a-3.part.csv", ".apart-4.csv")]
    for path in (old, young, *others):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - 2 * files.LEFT_AFTER,) * 2)
    os.utime(young)
    assert remove_leftovers(tmp_path) == [old]
    assert young.exists() and all(path.exists() for path in others)


def test_a_name_is_on_the_disk_before_the_next_file_is_written(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def watched(descriptor):
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", watched)
    write_json({"a": 1}, tmp_path / "stages" / "01.json")
    # First the content under its temporary name, then the folder with the right name.
    assert len(synced) == 2 and synced[0].startswith(".01.") and synced[1] == "stages"


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="disk"):
        with whole_file(tmp_path / "a.json") as temporary:
            temporary.write_text("half")
            raise OSError("the disk is full")
    assert list(tmp_path.iterdir()) == []
