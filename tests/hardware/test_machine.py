"""The ranks of one machine without a server, started as on CUDA: processes of their own."""

import dataclasses
import json
import time
from pathlib import Path

import pytest

from fgvc_utils.core.files import write_json
from fgvc_utils.hardware import machine as supervising
from fgvc_utils.hardware.machine import Machine
from fgvc_utils.hardware.plan import Hardware, Launch


def _events(machine: Machine, wanted: int, key: str, seconds: float = 120) -> list[dict]:
    found, deadline = [], time.monotonic() + seconds
    while sum(key in event for event in found) < wanted:
        assert time.monotonic() < deadline, found
        found += machine.events()
        time.sleep(0.05)
    return found


def _launch(folder: Path, name: str, entry: str, hardware: Hardware) -> dict:
    job = folder / "job.json"
    job.write_text(json.dumps({"rank": 1}))
    logs = str(folder / "logs" / name)
    plan = Launch(name, (str(job),), str(folder / "events.jsonl"), logs, entry, hardware)
    file = folder / f"{name}.json"
    write_json(dataclasses.asdict(plan), file)
    return {"name": name, "launch_file": str(file), "logs": logs, "hang_minutes": 0}


@pytest.mark.slow
def test_ranks_that_are_processes_of_their_own_take_launch_after_launch(
    tmp_path: Path, monkeypatch
):
    here = Path(__file__).parents[1] / "support"
    monkeypatch.setenv("PYTHONPATH", str(here))
    hardware = Hardware(processes=2, device="cpu", stay=True, threads=1)
    machine = Machine(0, ["launch_workers"])
    monkeypatch.setattr(machine, "_forked", supervising._spawned)
    store = machine.open_store(hardware)
    machine.start(hardware, store)
    try:
        seen = []
        for name in ("first", "second"):
            machine.give(**_launch(tmp_path, name, "launch_workers:reduce", hardware))
            events = _events(machine, 2, "done")
            assert {event["launch"] for event in events if "done" in event} == {name}
            seen.append(json.loads((tmp_path / "seen-1.json").read_text()))
        assert seen[0] == seen[1] and seen[0]["sum"] == 3, "the same process and group"
        machine.give(**_launch(tmp_path, "third", "launch_workers:fail", hardware))
        failed = next(e for e in _events(machine, 1, "failed") if "failed" in e)
        assert failed["rank"] == 1 and "thrown on purpose by rank 1" in failed["failed"]
    finally:
        machine.end()
    assert machine.ranks == []
