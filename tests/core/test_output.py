"""Output never ends a run: gone readers, closed streams, terminals of ASCII, full disks."""

import os
import subprocess
import sys

import pytest

from fgvc_utils.core import output

# Prints more than a pipe holds, and then makes a file that others must not write to.
SPEAKS = """
import os, sys
from contextlib import suppress
from fgvc_utils.core.output import make_output_last, use_utf8
use_utf8()
make_output_last()
for number in range(3000):
    print('Bäume 🌳 ' * 20, flush=True)
    print('Fehler é', file=sys.stderr)
with open(sys.argv[1], 'w') as file:
    with suppress(OSError):
        os.write(1, b'to nowhere')
    file.write(f'{sys.getfilesystemencoding()} {file.fileno() > 2}')
"""


@pytest.mark.parametrize(
    ("how", "variables"),
    [
        ('"$0" "$@" | head -n 1 >/dev/null', {}),
        ('"$0" "$@" 2>&1 >/dev/null | true', {}),
        ('"$0" "$@" >&- 2>&-', {}),
        ('"$0" "$@" <&- >&- 2>&-', {}),
        ('"$0" "$@" >/dev/full 2>/dev/full', {}),
        ('"$0" "$@" >/dev/null 2>&1', {"PYTHONIOENCODING": "ascii"}),
        (
            '"$0" "$@" >/dev/null 2>&1',
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        ),
    ],
)
def test_what_is_printed_is_lost_and_the_work_is_done(tmp_path, how, variables):
    left = tmp_path / "left"
    script = tmp_path / "speaks.py"
    script.write_text(SPEAKS, "utf-8")
    command = ["sh", "-c", how, sys.executable, str(script), str(left)]
    subprocess.run(command, env=os.environ | variables, timeout=60, check=False)
    assert left.read_text() == "utf-8 True"


def test_signs_that_a_terminal_lacks_are_spelt_out(tmp_path):
    code = "from fgvc_utils.core.output import *; make_output_last(); print('é', 'ok')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\\xe9 ok\n" and done.stderr == ""


@pytest.mark.parametrize(
    ("error", "told"),
    [(ValueError("no such run"), "no such run"), (KeyError("what"), "what"), (OSError("x"), "x")],
)
def test_bad_input_is_one_line_and_the_code_2(capsys, error, told):
    def work():
        raise error

    assert output.exit_code(work) == 2
    assert capsys.readouterr().err == f"error: {told}\n"
    assert output.exit_code(lambda: 1) == 0
    with pytest.raises(ZeroDivisionError):
        output.exit_code(lambda: 1 / 0)
