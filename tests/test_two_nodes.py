"""Two nodes as two network namespaces: one rank on each, and the failure of the far one."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import two_nodes


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if reason := two_nodes.unavailable():
        pytest.skip(f"two nodes are NOT tested: {reason}")


def _run(folder: Path, entry: str) -> tuple[int, str]:
    script = [sys.executable, two_nodes.__file__, "--folder", str(folder), "--entry", entry]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=900)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_two_nodes_reduce_together(tmp_path: Path):
    code, log = _run(tmp_path, "launch_workers:reduce")
    assert code == 0, log
    # Rank 0 is on node 0, and it alone reports progress, on node 0 alone.
    assert [
        json.loads((tmp_path / f"seen-{rank}.json").read_text())["node"] for rank in (0, 1)
    ] == [
        0,
        1,
    ]
    assert json.loads((tmp_path / "seen-1.json").read_text())["sum"] == 3
    assert re.findall(r"node (\d) \| reduce: all-reduce  sum 3", log) == ["0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("fail", "rank 1 failed: ZeroDivisionError: thrown on purpose by rank 1"),
        ("leave", "rank 1 was ended by SIGKILL"),
    ],
)
def test_a_failure_on_one_node_is_told_on_both(tmp_path: Path, entry: str, says: str):
    code, log = _run(tmp_path, f"launch_workers:{entry}")
    assert code != 0
    for node in (0, 1):
        assert re.search(rf"node {node} \| .*{re.escape(says)}", log), log
