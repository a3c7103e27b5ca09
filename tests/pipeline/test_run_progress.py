"""How far a run has come: the estimate of what is left, the line in a terminal, the log."""

import fcntl
import io
import json
import os
import pty
import struct
import sys
import termios
import threading
import time
from contextlib import redirect_stderr, redirect_stdout, suppress

import pytest

from fgvc_utils.contest.places import PROJECT
from fgvc_utils.pipeline import progress as showing
from fgvc_utils.pipeline.contest_file import Step, read_contest
from fgvc_utils.pipeline.estimates import (
    TYPICAL,
    Took,
    expected,
    in_words,
    left,
    note_seconds,
    read_seconds,
    typical,
)
from fgvc_utils.pipeline.progress import LOG, RunProgress, say, shown
from fgvc_utils.pipeline.stages import STAGES


@pytest.fixture
def steps(tmp_path):
    """The steps of the demo, in another folder."""
    moved = {"outputs": str(tmp_path)}
    steps = read_contest(PROJECT / "params/demo.yaml")
    return [Step(s.stage, s.name, s.cfg.model_copy(update=moved)) for s in steps]


def other(step, **changes):
    return Step(step.stage, step.name, step.cfg.model_copy(update=changes))


def as_typical(steps, times=1.0):
    """What steps took on a machine that takes so many times what is typical."""
    took = {}
    for step in steps:
        took[step.name] = Took(times * typical(step), typical(step), "tf_efficientnet_lite0")
    return took


def test_every_stage_has_a_typical_time():
    assert TYPICAL.keys() == STAGES.keys()


def test_a_step_takes_what_it_took_last_time_stretched_to_its_parameters(steps):
    step = next(step for step in steps if step.name == "10_train-lite0-cutmix")
    known = {step.name: Took(30.0, typical(step), step.cfg.backbone)}
    assert expected(step, known) == pytest.approx(30)
    longer = other(step, epochs=2 * step.cfg.epochs, size=2 * step.cfg.size)
    assert expected(longer, known) == pytest.approx(8 * 30)


def test_a_new_step_takes_what_finished_ones_of_its_network_say(steps):
    first, *later = steps
    known = as_typical([first], times=3.0)
    assert expected(later[0], known) == pytest.approx(3 * TYPICAL["02_coarse"])
    # Nothing is known of how fast another network is here.
    assert expected(other(later[0], backbone="tf_efficientnet_b4"), known) is None
    # A step without a network goes by whatever there is.
    assert expected(steps[-1], known) == pytest.approx(3 * TYPICAL["40_submit"])
    assert expected(first, {}) is None


def test_what_is_left_is_all_that_is_to_come_or_unknown(steps):
    known, (second, third) = as_typical(steps[:1], times=2.0), steps[1:3]
    whole = 2 * (TYPICAL["02_coarse"] + TYPICAL["03_fine"])
    assert left(None, 0, [second, third], known) == pytest.approx(whole)
    assert left(second, 38.0, [third], known) == pytest.approx(whole - 38)
    # It takes longer than was expected: as long as that is likely nothing is left of it, and a
    # step that takes much longer says that the estimate is wrong.
    alone = 2 * TYPICAL["02_coarse"]
    assert left(second, 1.2 * alone, [third], known) == pytest.approx(2 * TYPICAL["03_fine"])
    assert left(second, 2.0 * alone, [third], known) is None
    assert left(second, 0, [other(third, backbone="tf_efficientnet_b4")], known) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (20, "less than a minute left"),
        (80, "about 1 min left"),
        (17 * 60, "about 15 min left"),
        (100 * 60, "about 1.7 h left"),
        (50 * 3600, "about 50 h left"),
    ],
)
def test_an_estimate_is_said_no_finer_than_it_is(seconds, words):
    assert in_words(seconds) == words


def test_seconds_are_kept_beside_the_stamps_and_a_spoilt_file_costs_nothing(steps, tmp_path):
    note_seconds(steps[1], 12.345)
    note_seconds(steps[0], 3.0)
    known = read_seconds(steps[0].cfg.folder)
    assert list(known) == ["01_noise", "02_coarse"] and known["02_coarse"].seconds == 12.35
    assert not steps[0].stamp.exists()
    for spoilt in ("{", "[1]", '{"01_noise": {"second": 1}}', '{"01_noise": 3}'):
        (steps[0].cfg.folder / "seconds.json").write_text(spoilt)
        assert read_seconds(steps[0].cfg.folder) == {}


def launch(step, name, jobs, events):
    """What a launch of a step leaves while it works."""
    folder = step.cfg.folder / "launches" / name
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "events.jsonl"
    file.write_text("".join(json.dumps({"time": 0.0, **event}) + "\n" for event in events))
    plan = {"events": str(file), "jobs": ["job.json"] * jobs}
    (folder / "launch.json").write_text(json.dumps(plan))


def test_the_line_says_what_the_jobs_of_the_running_step_do(steps):
    progress = RunProgress(steps, [step.name for step in steps])
    finished = {"event": "finished", "job": "fold-0", "seconds": 1.0}
    at_work = {"event": "step", "job": "fold-1", "done": 3, "total": 40, "what": "epoch 1/2"}
    launch(steps[1], "02_coarse", 5, [finished])
    old = time.time() - 60
    os.utime(steps[1].cfg.folder / "launches/02_coarse/launch.json", (old, old))
    progress.begin(steps[2])
    assert "jobs done" not in progress.text(), "the launch of an earlier step"
    launch(steps[2], "03_fine", 5, [finished, at_work])
    text = progress.text()
    assert text.startswith("[3/10] 03_fine · ")
    assert "1 of 5 jobs done · fold-1 epoch 1/2 · 3 of 40 steps · run " in text
    assert "left" not in text, "nothing speaks for an estimate yet"
    launch(steps[2], "03_fine-views", 1, [finished])
    assert "jobs done" not in progress.text(), "all of this launch's jobs are done"


def test_an_estimate_comes_with_the_first_step_that_is_done(steps):
    progress = RunProgress(steps, [step.name for step in steps])
    assert progress.left() == ""
    progress.begin(steps[0])
    progress.step_began -= TYPICAL["01_noise"]
    assert progress.end(steps[0], whole=True) == pytest.approx(TYPICAL["01_noise"], abs=1)
    minutes = round(sum(map(typical, steps[1:])) / 60)
    assert progress.left() == f"about {minutes} min left"
    for step in steps[1:]:
        progress.skip(step)
    assert progress.left() == ""
    # A later run knows it from its beginning.
    assert RunProgress(steps, ["02_coarse"]).left() == in_words(TYPICAL["02_coarse"])


def test_a_step_that_had_been_cut_off_says_nothing_of_how_long_it_takes(steps):
    progress = RunProgress(steps, [step.name for step in steps])
    progress.begin(steps[0])
    progress.end(steps[0], whole=False)
    assert read_seconds(steps[0].cfg.folder) == {} and progress.left() == ""


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(showing, "SHOWN_SECONDS", 0.01)
    monkeypatch.setattr(showing, "LOG_SECONDS", 0.05)


def logged(steps):
    return [line[20:] for line in (steps[0].cfg.folder / LOG).read_text().splitlines()]


def test_without_a_terminal_there_is_a_line_now_and_then(steps, quick, capsys):
    steps[0].cfg.folder.mkdir(parents=True)
    progress = RunProgress(steps, [step.name for step in steps])
    with shown(progress):
        progress.begin(steps[0])
        say(steps[0].cfg.folder, "[1/10] 01_noise: not done yet")
        deadline = time.monotonic() + 20
        while len(logged(steps)) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == logged(steps)[0] == "[1/10] 01_noise: not done yet"
    assert printed[1].startswith("[1/10] 01_noise · ") and printed[1:] == logged(steps)[1:]


def test_in_a_terminal_the_line_stays_under_what_is_printed(steps, quick):
    steps[0].cfg.folder.mkdir(parents=True)
    progress = RunProgress(steps, [step.name for step in steps])
    above, below = pty.openpty()
    fcntl.ioctl(below, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    read: list[bytes] = []

    def reading():
        # It ends with an error when the other side is closed.
        with suppress(OSError):
            while True:
                read.append(os.read(above, 4096))

    reader = threading.Thread(target=reading, daemon=True)
    reader.start()
    with open(below, "w", encoding="utf-8") as terminal:
        with redirect_stdout(terminal), redirect_stderr(terminal), shown(progress):
            progress.begin(steps[0])
            time.sleep(0.2)
            print("a line of the notebook", flush=True)
            print("half a ", end="")
            print("line", file=sys.stderr)
            time.sleep(0.2)
    reader.join(20)
    os.close(above)
    said = b"".join(read).decode()
    # What a terminal that obeys carriage returns shows at the end.
    screen = []
    for line in said.split("\r\n"):
        shown_line = ""
        for part in line.split("\r"):
            shown_line = part + shown_line[len(part) :]
        screen.append(shown_line.rstrip())
    assert screen == ["a line of the notebook", "line", "half a", ""]
    assert said.count("[1/10] 01_noise") > 2


def test_a_text_stream_gets_whole_lines_alone():
    stream, printed = io.StringIO(), []
    foot = type("Foot", (), {"print": lambda self, text, to: printed.append((text, to))})()
    above = showing._Above(stream, foot)
    above.write("one\ntwo ")
    above.write("and three\n")
    above.write("rest")
    assert printed == [("one\n", stream), ("two and three\n", stream)]
    above.end_line()
    above.end_line()
    assert printed[2:] == [("rest\n", stream)]
