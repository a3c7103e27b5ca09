"""The live picture of a launch: when it is drawn, and that nothing it does ends the work."""

import base64
import io
import logging
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import nbformat
import papermill
import pytest
from matplotlib.figure import Figure
from PIL import Image
from small_jobs import draw_pictures, small_job

from fgvc_utils.hardware import launch, progress
from fgvc_utils.hardware.progress import Progress, follow
from fgvc_utils.jobs.running import run_jobs
from fgvc_utils.looking import plots


class Handle:
    """What a notebook's display got, in order."""

    def __init__(self, first: dict):
        self.shown = [first]

    def update(self, data: dict, raw: bool) -> None:
        assert raw
        self.shown.append(data)


@pytest.fixture
def displays(monkeypatch):
    """The displays that are opened, as if the code ran in a notebook."""
    opened = []

    def display(data: dict) -> Handle:
        opened.append(Handle(data))
        return opened[-1]

    monkeypatch.setattr(progress, "_display", display)
    monkeypatch.setattr(progress, "STEP_SECONDS", 0.02)
    return opened


class Drawn:
    """A picture that remembers the events it was called with."""

    def __init__(self):
        self.calls: list[list[dict]] = []

    def __call__(self, events: list[dict]) -> Figure:
        self.calls.append(events)
        return Figure(figsize=(len(events), 1))


def wait_for(condition, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def test_the_picture_has_its_own_display_and_sees_all_epochs_at_the_end(tmp_path, displays):
    path, drawn = tmp_path / "events.jsonl", Drawn()
    with follow(path, 1, drawn):
        for epoch in (1, 2, 3):
            Progress(path).figures("job", f"epoch {epoch}/3", train_loss=1 / epoch)
            Progress(path).step("job", epoch, 3)
        Progress(path).finished("job", 1)
    bar, picture = displays
    assert "1 of 1 jobs done" in bar.shown[-1]["text/html"]
    assert picture.shown[0] == {"text/html": ""} and list(picture.shown[-1]) == ["image/png"]
    png = Image.open(io.BytesIO(base64.b64decode(picture.shown[-1]["image/png"])))
    assert png.size == (300, 100)
    assert [event["numbers"]["train_loss"] for event in drawn.calls[-1]] == [1, 1 / 2, 1 / 3]


def test_the_picture_is_drawn_for_new_epochs_alone_and_not_too_often(
    tmp_path, displays, monkeypatch
):
    path, drawn = tmp_path / "events.jsonl", Drawn()
    with follow(path, 1, drawn):
        Progress(path).figures("job", "epoch 1/3")
        wait_for(lambda: drawn.calls)
        Progress(path).figures("job", "epoch 2/3")
        wait_for(lambda: len(displays[0].shown) > 20)
        assert len(drawn.calls) == 1, "two seconds have not passed"
        monkeypatch.setattr(progress, "PICTURE_SECONDS", 0)
        wait_for(lambda: len(drawn.calls) == 2)
        seen = len(displays[0].shown)
        wait_for(lambda: len(displays[0].shown) > seen + 5)
    assert [len(events) for events in drawn.calls] == [1, 2]


def test_a_picture_that_fails_is_told_once_and_tried_again(tmp_path, displays, monkeypatch, capsys):
    monkeypatch.setattr(progress, "PICTURE_SECONDS", 0)
    path, calls = tmp_path / "events.jsonl", []

    def failing(events: list[dict]) -> Figure:
        calls.append(len(events))
        if len(events) < 3:
            raise ZeroDivisionError("no epoch")
        return Figure()

    with follow(path, 1, failing):
        for epoch in (1, 2, 3):
            Progress(path).figures("job", f"epoch {epoch}/3")
            wait_for(lambda epoch=epoch: calls and calls[-1] == epoch)
    out = capsys.readouterr().out
    assert calls == [1, 2, 3] and out.count("live picture failed") == 1
    assert "ZeroDivisionError('no epoch')" in out and "job: epoch 3/3" in out
    assert "image/png" in displays[1].shown[-1]


def test_outside_a_notebook_no_picture_is_drawn(tmp_path, capsys):
    path, drawn = tmp_path / "events.jsonl", Drawn()
    with follow(path, 1, drawn):
        Progress(path).figures("job", "epoch 1/1", loss=2.0)
    assert drawn.calls == []
    assert capsys.readouterr().out == "job: epoch 1/1  loss 2\n"


@pytest.mark.slow
def test_papermill_keeps_the_last_picture_and_logs_none(tmp_path: Path, caplog):
    cell = (
        "import time\n"
        "from fgvc_utils.looking import plots\n"
        "from fgvc_utils.hardware.progress import Progress, follow\n"
        "writer = Progress('events.jsonl')\n"
        "with follow('events.jsonl', 1, plots.live_curves):\n"
        "    for epoch in (1, 2):\n"
        "        writer.figures('job', f'epoch {epoch}/2', train_loss=1 / epoch)\n"
        "        time.sleep(3)\n"
    )
    kernel = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)], metadata=kernel)
    nbformat.write(notebook, tmp_path / "in.ipynb")
    with caplog.at_level(logging.INFO):
        papermill.execute_notebook(
            tmp_path / "in.ipynb",
            tmp_path / "out.ipynb",
            cwd=tmp_path,
            progress_bar=False,
            log_output=True,
        )
    (executed,) = nbformat.read(tmp_path / "out.ipynb", 4).cells
    displays = [out["data"] for out in executed.outputs if out.output_type == "display_data"]
    assert [list(data) for data in displays] == [["text/html"], ["image/png"]]
    events = [
        {"job": "job", "text": f"epoch {epoch}/2", "numbers": {"train_loss": 1 / epoch}}
        for epoch in (1, 2)
    ]
    assert base64.b64decode(displays[1]["image/png"]) == plots.live_curves(events)._repr_png_()
    lines = [record.getMessage() for record in caplog.records if record.name == "papermill"]
    printed = [line for line in lines if line.startswith("job:")]
    assert "".join(printed) == "job: epoch 1/2  train_loss 1\njob: epoch 2/2  train_loss 0.5\n"
    assert not any("png" in line or "Figure" in line or "html" in line for line in lines)


def test_the_picture_goes_from_a_stage_through_the_launch_to_the_follower(tmp_path, monkeypatch):
    drawn, seen = Drawn(), []

    @contextmanager
    def following(path, jobs, picture):
        seen.append((path.name, jobs, picture))
        yield

    monkeypatch.setattr(launch, "follow", following)
    monkeypatch.setattr(launch, "_server_wire", lambda *_: nullcontext())
    monkeypatch.setattr(launch, "_run", lambda *_: {"taken": None})
    settings = {"processes": 1, "nodes": 1, "rendezvous": "", "warm_ranks": True}
    settings |= {"threads": 1, "device": "cpu", "workers": 0, "folder": tmp_path}
    rows = draw_pictures(tmp_path / "pictures", 32)
    run_jobs([(small_job(tmp_path / "one"), rows)], SimpleNamespace(**settings), "10", drawn)
    assert seen == [("events.jsonl", 1, drawn)]
