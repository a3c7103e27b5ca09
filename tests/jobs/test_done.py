"""When a job is done: moved runs, changed code, results that were cut, two launches on one job."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from pydantic import BaseModel
from small_jobs import CLASSES, draw_pictures, small_job

from fgvc_utils.core import locks
from fgvc_utils.core.files import read_json, write_json
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs import running
from fgvc_utils.jobs.done import (
    accept_job_code,
    changed_fields,
    fields_of,
    is_done,
    job_code,
    job_digest,
    result_of,
    why_not_done,
)
from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store
from fgvc_utils.jobs.records import Job, read_job
from fgvc_utils.jobs.rows import ROW_COLUMNS, read_rows
from fgvc_utils.jobs.running import run_jobs, write_job
from fgvc_utils.training.worker import carry_out


@pytest.fixture
def rows(tmp_path):
    """Rows over a few pictures of a cache beside a run."""
    return draw_pictures(tmp_path / "out" / "cache" / "48" / "ab", count=12)


def features(folder: Path) -> Job:
    return small_job(folder, fit="none", keep=["features"], keep_weights=False)


def head(folder: Path, *stores: Path, **changes) -> Job:
    given = {"fit": "head", "backbone": "", "optimiser": "lbfgs", "epochs": 3}
    return small_job(folder, **(given | {"stores": [str(s) for s in stores]} | changes))


def carried_out(job: Job, rows: pd.DataFrame, folder: Path) -> Job:
    """Carry a job out in this process; its events are in events.jsonl of the folder."""
    write_job(job, rows)
    carry_out(job, Processes(), Progress(folder / "events.jsonl"))
    return job


@pytest.fixture
def finished(rows, tmp_path):
    """The features of a frozen network and a head on them, both done."""
    run = tmp_path / "out" / "mine"
    first = carried_out(features(run / "features"), rows, tmp_path)
    return first, carried_out(head(run / "head", first.store), rows, tmp_path)


def test_a_run_that_is_moved_stays_done_and_finds_its_pictures(finished, tmp_path):
    shutil.move(tmp_path / "out", tmp_path / "elsewhere" / "deeper" / "out")
    run = tmp_path / "elsewhere" / "deeper" / "out" / "mine"
    for name in ("features", "head"):
        job = read_job(run / name / "job.json")
        assert job.folder == str(run / name)
        assert is_done(job), why_not_done(job)
        assert all(map(os.path.isfile, read_rows(job)["file"]))
    assert job.stores == [str(run / "features" / "predictions")]
    # The notebook of the new place makes the same job.
    there = read_rows(job)
    write_job(head(run / "head", run / "features" / "predictions"), there)
    assert is_done(read_job(run / "head" / "job.json"))


def test_rows_come_back_as_they_were_written(rows, tmp_path):
    job = features(tmp_path / "a")
    cases = {
        "below one folder": rows["file"],
        "below the root alone": [f"/{n}/x.jpg" for n in range(len(rows))],
        "no pictures": [""] * len(rows),
        "one has none": ["", *rows["file"][1:]],
    }
    for what, files in cases.items():
        given = rows.assign(file=files)
        write_job(job, given)
        pd.testing.assert_frame_equal(read_rows(job), given[list(ROW_COLUMNS)], obj=what)
    write_job(job, rows)
    assert pd.read_parquet(job.rows)["file"].str.startswith("../out/cache/48/ab/").all()


def test_other_rows_or_pictures_are_another_job_and_another_place_is_not(rows, tmp_path):
    job = features(tmp_path / "a")
    write_job(job, rows)
    before = job_digest(job)
    write_job(job, rows.assign(file="/there/" + rows["file"].str.slice(len(str(tmp_path)) + 1)))
    assert job_digest(job) == before
    for changed in (
        rows.assign(file=rows["file"].str.replace("/48/", "/64/")),
        rows.assign(target=CLASSES[0]),
        rows.assign(predict=rows.index > 0),
        rows[1:],
    ):
        write_job(job, changed)
        assert job_digest(job) != before


class Schedule(BaseModel):
    """A record within a record; the field `warm` came later."""

    epochs: int = 1
    warm: int = 0


class LaterJob(Job):
    """The job record of a later version: with one more field, and one more record."""

    cooling: float = 0.0
    schedule: Schedule = Schedule()


def test_a_new_field_at_its_default_makes_no_job_stale(finished):
    _, job = finished
    given = job.model_dump()
    later = LaterJob(**given)
    assert job_digest(later) == job_digest(job) and not why_not_done(later)
    assert why_not_done(LaterJob(**given, cooling=0.5)) == "changed: cooling"
    warm = LaterJob(**given, schedule=Schedule(warm=2))
    assert why_not_done(warm) == "changed: schedule.warm"
    assert job_digest(warm) != job_digest(later)


def test_changed_fields_are_named(finished):
    _, job = finished
    other = job.model_copy(update={"epochs": 7, "seed": 9})
    assert why_not_done(other) == "changed: epochs, seed"
    assert job_digest(other) != job_digest(job)


def test_a_default_that_is_another_now_makes_no_job_pass_for_done():
    """Digests leave defaults out: a job of the old default and one of the new have the same."""

    class Earlier(BaseModel):
        size: int = 224

    class Now(BaseModel):
        size: int = 256

    assert changed_fields(fields_of(Earlier()), Earlier()) == []
    assert changed_fields(fields_of(Earlier()), Now()) == ["size"]
    assert changed_fields(fields_of(Earlier()), Now(size=224)) == []


def test_weights_of_a_file_count_by_their_content(rows, tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"1")
    job = features(tmp_path / "a").model_copy(update={"weights": str(file)})
    write_job(job, rows)
    before = job_digest(job)
    file.write_bytes(b"2")
    assert job_digest(job) != before


def test_changed_code_makes_a_job_stale_until_it_is_accepted(finished, tmp_path, capsys):
    first, second = finished
    done = Path(second.folder) / "done.json"
    code = read_json(done)["code"]
    assert code == job_code(second)
    write_json(read_json(done) | {"code": code | {"losses.Objective": "0"}}, done)
    assert why_not_done(second) == "changed code: losses.Objective"
    assert accept_job_code(tmp_path / "out") == [second.name]
    assert is_done(second) and is_done(first)
    write_json(read_json(done) | {"code": {}}, done)
    write_job(second, read_rows(second))
    assert "head: is done anew, changed code: " in capsys.readouterr().out
    assert not done.exists()


def test_a_job_depends_on_the_code_of_its_own_kind_alone(finished):
    first, second = finished
    assert "training.convex.fit_layer" in job_code(second)
    assert "training.convex.fit_layer" not in job_code(first)
    assert "training.predicting.predict" in job_code(first)
    assert (
        not {"hardware.progress.Progress", "looking.plots.scores", "cleaning.rounds.recut"}
        & job_code(second).keys()
    )


def test_results_that_are_gone_or_cut_are_made_again_and_alike(rows, finished, tmp_path):
    first, second = finished
    before = result_of(Path(first.folder))
    array = first.store / "shard-00000" / "features.npy"
    array.write_bytes(array.read_bytes()[:-10])
    assert why_not_done(first) == "predictions is gone or was cut"
    assert result_of(Path(first.folder)) == "", "nobody takes it for what it was"
    with pytest.raises(ValueError, match="features.npy is gone or has not the size it was written"):
        Store(first.store)
    carried_out(first, rows, tmp_path)
    assert result_of(Path(first.folder)) == before
    # The same content once more: what reads it stays done.
    assert is_done(second)
    weights = Path(second.folder) / "weights.safetensors"
    weights.unlink()
    assert why_not_done(second) == "weights.safetensors is gone or was cut"


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        ("{}", "its done.json lacks digest"),
        ('{"digest": ""', "its done.json is not valid JSON"),
        ("7", "its done.json holds no values by name"),
        ('{"digest": "", "left": [], "code": []}', "its done.json holds no values by name in code"),
    ],
)
def test_what_notes_that_a_job_is_done_may_be_spoilt(rows, finished, tmp_path, spoilt, why):
    first, second = finished
    file = Path(first.folder) / "done.json"
    file.write_text(spoilt)
    assert why_not_done(first).startswith(why)
    assert result_of(file.parent) == "" and not is_done(second)
    assert accept_job_code(tmp_path / "out") == [] and file.read_text() == spoilt
    carried_out(first, rows, tmp_path)
    assert is_done(first) and is_done(second)


def test_a_file_of_which_nothing_is_noted_counts_as_cut(finished):
    first, _ = finished
    file = Path(first.folder) / "done.json"
    for left in ({"predictions/index.json": {}}, {"predictions/index.json": 3}):
        write_json(read_json(file) | {"left": left}, file)
        assert why_not_done(first) == "predictions/index.json is gone or was cut"


def test_a_store_that_is_written_to_is_not_whole(finished):
    first, _ = finished
    writer = ShardWriter(first.store, 0, ["a"])
    with pytest.raises(FileNotFoundError, match="no finished predictions"):
        Store(first.store)
    with pytest.raises(FileNotFoundError, match="shard-00001"):
        writer.close()
        finish_store(first.store, [], 2)


def test_a_broken_state_of_a_fit_is_left_out_and_noted(rows, tmp_path):
    settings = {"epochs": 1, "global_batch": 4, "micro_batch": 4}
    through = carried_out(small_job(tmp_path / "a", **settings), rows, tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "last.pt").write_bytes(b"PK\x03\x04 half a file")
    again = carried_out(small_job(tmp_path / "b", **settings), rows, tmp_path)
    events = (tmp_path / "events.jsonl").read_text()
    assert "last.pt was not loaded: " in events and "the fit starts anew" in events
    weights = [Path(j.folder, "weights.safetensors").read_bytes() for j in (through, again)]
    assert weights[0] == weights[1]


def test_two_launches_do_not_work_on_one_job(rows, tmp_path, monkeypatch):
    run, launched = tmp_path / "out" / "mine", []
    monkeypatch.setattr(running, "launch", lambda files, *_, **__: launched.append(files))
    cfg = SimpleNamespace(folder=run, processes=1, nodes=1, rendezvous="")
    cfg.threads, cfg.device, cfg.workers, cfg.warm_ranks = 1, "cpu", 0, True
    job = features(run / "features")
    with locks.only_one(run / "features" / ".job.lock", "", ""):
        with pytest.raises(locks.Held, match=f"job features: .* works on it in .*{os.getpid()}"):
            run_jobs([(job, rows)], cfg, "02_coarse")
    assert not launched and not Path(job.rows).exists(), "what the other one reads stays"
    run_jobs([(job, rows)], cfg, "02_coarse")
    assert launched == [[job.job_file]]
