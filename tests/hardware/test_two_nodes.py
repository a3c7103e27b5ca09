"""Two nodes as two network namespaces: one rank on each, a fit, and the failure of the far one."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_nodes
from safetensors.torch import load_file
from small_jobs import draw_pictures, small_job

from fgvc_utils.core.files import write_json
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.plan import Hardware, Launch
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.done import is_done
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training.worker import carry_out


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if reason := two_nodes.unavailable():
        pytest.skip(f"two nodes are NOT tested: {reason}")


def _run(folder: Path, *options: str) -> tuple[int, str]:
    script = [sys.executable, two_nodes.__file__, "--folder", str(folder), *options]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=900)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_two_nodes_reduce_together(tmp_path: Path):
    code, log = _run(tmp_path, "--entry", "launch_workers:reduce")
    assert code == 0, log
    # Rank 0 is on node 0, and it alone reports progress, on node 0 alone.
    assert [
        json.loads((tmp_path / f"seen-{rank}.json").read_text())["node"] for rank in (0, 1)
    ] == [
        0,
        1,
    ]
    assert json.loads((tmp_path / "seen-1.json").read_text())["sum"] == 3
    # Two launches, and one command on node 1.
    assert re.findall(r"node (\d) \| reduce: all-reduce  sum 3", log) == ["0", "0"]
    assert log.count("On node 1 run") == log.count("node 1 has joined") == 1
    assert not (tmp_path / "ranks.json").exists(), "the key goes with the run"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("fail", "rank 1 failed: ZeroDivisionError: thrown on purpose by rank 1"),
        # One machine's tests see such an end too; how the other machine hears of it is the same.
        pytest.param("leave", "rank 1 was ended by SIGKILL", marks=pytest.mark.long),
    ],
)
def test_a_failure_on_one_node_is_told_on_both(tmp_path: Path, entry: str, says: str):
    code, log = _run(tmp_path, "--entry", f"launch_workers:{entry}")
    assert code != 0
    for node in (0, 1):
        assert re.search(rf"node {node} \| .*{re.escape(says)}", log), log


@pytest.mark.slow
@pytest.mark.parametrize("way", ["process", pytest.param("cable", marks=pytest.mark.long)])
def test_a_node_that_is_lost_is_named_with_what_it_worked_on(tmp_path: Path, way: str):
    code, log = _run(tmp_path, "--entry", "launch_workers:load_for_ever", "--lose", way)
    assert code != 0
    assert re.search(
        rf"node 0 \| .*node 1 \(.+\) was lost: .* it worked on {tmp_path.name}", log
    ), log
    assert "a fit goes on after its last whole epoch" in log.replace("\nnode 0 | ", " ")


@pytest.mark.slow
def test_two_nodes_fit_one_network(tmp_path: Path):
    """Each node takes half of every batch; the weights are those of one process that takes all."""
    rows = draw_pictures(tmp_path / "pictures", 100)
    job, alone = (small_job(tmp_path / name) for name in ("job", "alone"))
    files = (str(write_job(job, rows)),)
    earlier = Launch(
        "earlier", files, "", "", "fgvc_utils.training.worker:run", Hardware(device="cpu")
    )
    write_json(dataclasses.asdict(earlier), tmp_path / "launch.json")
    code, log = _run(tmp_path / "run", "--jobs", str(tmp_path / "launch.json"))
    assert code == 0, log
    assert re.findall(r"node (\d) \| job: epoch (\d)/2", log) == [("0", "1"), ("0", "2")]
    assert is_done(job)
    store = Store(job.store)
    assert len(list(store.folder.glob("shard-*"))) == 2
    assert store.read("logits", rows["image_id"]).shape == (100, 4)
    write_job(alone, rows)
    carry_out(alone, Processes(), Progress(None))
    one, two = (load_file(Path(j.folder) / "weights.safetensors") for j in (alone, job))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=0)
