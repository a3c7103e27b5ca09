"""The script for a GPU: a part that fails or hangs is named, and does not end the others."""

import argparse
import contextlib
import importlib.util
import json
import os
import re
import sys
import time
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    file = PROJECT / "benchmarks" / "on_gpu.py"
    spec = importlib.util.spec_from_file_location("on_gpu", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_last_line_of_a_part_is_what_it_found(script):
    found, seconds = script.in_time(python("print('a table'); print('{\"a\": 1}')"), 60)
    assert found == {"a": 1} and seconds > 0


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ValueError('no such thing')", "ended with 1: .*no such thing"),
        ("print('nothing to read')", "printed no JSON line; last: nothing to read"),
        ("pass", "printed no JSON line"),
    ],
)
def test_a_part_that_fails_says_why(script, code, said):
    found, _ = script.in_time(python(code), 60)
    assert list(found) == ["failed"]
    assert re.search(said, found["failed"].replace("\n", " "))


def test_a_part_that_hangs_is_ended_with_what_it_has_started(script, tmp_path):
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "print('so far', flush=True)\n"
        "time.sleep(600)\n"
    )
    found, _ = script.in_time(python(code), 3)
    assert found["failed"] == "took more than 3 s; last: so far"
    child = int((tmp_path / "child").read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        # Killed, it may stay a zombie until the system's first process takes it away.
        deadline = time.monotonic() + 30
        while psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "it goes on"
            time.sleep(0.05)


def test_the_other_parts_go_on_and_all_are_in_the_last_line(script, monkeypatch, capsys):
    commands = {"step-32": python("raise SystemExit(3)"), "feed": python("print('{\"x\": 2.5}')")}
    monkeypatch.setattr(script, "command_of", lambda part, options: commands[part])
    options = argparse.Namespace(only=None, device="cpu", parts=list(commands), data=None)
    monkeypatch.setattr(script, "arguments", lambda: options)
    script.main()
    lines = capsys.readouterr().out.splitlines()
    last = json.loads(lines[-1])
    assert last["step-32"]["failed"].startswith("ended with 3") and last["feed"]["x"] == 2.5
    assert "failed: ['step-32']" in lines[-2]


def test_each_part_has_a_limit_and_a_command(script):
    options = argparse.Namespace(device="cuda", data=Path("photos"), small=False)
    for part in script.LIMITS:
        command = script.command_of(part, options)
        assert os.path.isfile(command[1])
        batch = part.partition("-")[2]
        assert (command[command.index("--batch") + 1] == batch) if batch else part in script.PARTS
    assert sum(script.LIMITS[part] for part in script.DEFAULT) < 20 * 60
    assert "--compile" in script.command_of("compile-128", options)
    assert "--autotune" in script.command_of("autotune-128", options)
    assert "--compile" not in script.command_of("step-128", options)
