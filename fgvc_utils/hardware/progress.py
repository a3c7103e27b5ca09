"""Progress events: ranks append them to a file, the notebook follows that file live.

Counts in no digest, nor does what it is given.
"""

import base64
import contextvars
import html
import io
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fgvc_utils.core import heartbeat

STEP_SECONDS = 0.5
POLL_SECONDS = 0.25
PICTURE_SECONDS = 2.0


class Progress:
    """Writes progress events of a launch, a JSON object a line, to the file `path`.

    With `path` None nothing is written: give that to every rank but rank 0, so that the training
    code need not ask for its rank. On every rank each call is a sign of life. Every event has
    `time` (seconds since 1970), `event` (`note`, `step`, `figures` or `finished`) and `job` (a name
    shown to people).
    """

    def __init__(self, path: Path | str | None):
        self.path = None if path is None else Path(path)
        self._last_step = -math.inf

    def note(self, job: str, text: str) -> None:
        """One line for people, printed as it is: what a job does, why it is skipped."""
        self._append("note", job, text=text)

    def step(self, job: str, done: int, total: int, what: str = "") -> None:
        """One more step is done.

        Call it at every step: it writes at most two lines a second, and always the last step.

        Parameters
        ----------
        job
            The job's name.
        done, total
            Steps done, of all steps of the job.
        what
            Where the job is, such as "epoch 2/5".
        """
        heartbeat.beat()
        now = time.monotonic()
        if done >= total or now - self._last_step >= STEP_SECONDS:
            self._last_step = now
            self._append("step", job, done=int(done), total=int(total), what=what)

    def figures(self, job: str, text: str, **numbers: float) -> None:
        """The end of an epoch, printed as one line.

        Parameters
        ----------
        job
            The job's name.
        text
            Which epoch it was, such as "epoch 2/5".
        **numbers
            Python, NumPy or single-element torch values; one that is not finite is written as null
            and printed as nan.
        """
        values = {name: _plain(number) for name, number in numbers.items()}
        self._append("figures", job, text=text, numbers=values)

    def finished(self, job: str, seconds: float) -> None:
        """The end of a job, printed as one line; a job that was skipped takes 0 seconds."""
        self._append("finished", job, seconds=round(float(seconds), 3))

    def _append(self, event: str, job: str, **rest: Any) -> None:
        heartbeat.beat()
        if self.path is None:
            return
        line = json.dumps({"time": time.time(), "event": event, "job": job, **rest})
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def _plain(number: Any) -> int | float | None:
    if isinstance(number, int):
        return int(number)
    value = float(number)
    return value if math.isfinite(value) else None


def read_events(path: Path, offset: int = 0) -> tuple[list[dict], int]:
    """The events from byte `offset` on, and the offset to go on from.

    A last line without its line end is still being written (or was cut): it is left for the next
    call. A whole line that is no event comes back as a `note` that says so. A file that does not
    exist yet has no events.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            text = file.read()
    except FileNotFoundError:
        return [], offset
    whole = text[: text.rfind(b"\n") + 1]
    return [_event(line, path) for line in whole.splitlines()], offset + len(whole)


def _event(line: bytes, path: Path) -> dict:
    try:
        event = json.loads(line)
        if isinstance(event, dict) and {"event", "job"} <= event.keys():
            return event
    except ValueError:
        pass
    return {"event": "note", "job": "progress", "text": f"left out a broken line of {path}"}


def line_for(event: dict) -> str | None:
    """The line printed for an event, None for a step (steps only move the bar)."""
    kind, job = event["event"], event["job"]
    if kind == "note":
        return f"{job}: {event['text']}"
    if kind == "figures":
        numbers = (f"{name} {_short(value)}" for name, value in event["numbers"].items())
        return "  ".join([f"{job}: {event['text']}", *numbers])
    if kind == "finished":
        return f"{job}: done in {clock(event['seconds'])}"
    return None


def _short(value: float | None) -> str:
    if value is None:
        return "nan"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def clock(seconds: float) -> str:
    """Seconds as people read them: 4.2 s, 3:07, 2:03:07."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Follower:
    """How far a launch of `jobs` jobs has come, by the events read so far from `path`."""

    def __init__(self, path: Path, jobs: int):
        self.path, self.jobs = Path(path), jobs
        self.started = time.time()
        self.finished = 0
        self.step: dict | None = None
        self.figures: list[dict] = []
        self._offset = 0

    def new_lines(self) -> list[str]:
        """Take in what was appended since the last call; the lines to print for it."""
        events, self._offset = read_events(self.path, self._offset)
        for event in events:
            if event["event"] == "step":
                self.step = event
            elif event["event"] == "figures":
                self.figures.append(event)
            elif event["event"] == "finished":
                self.finished += 1
                self.step = None
        return [line for event in events if (line := line_for(event)) is not None]

    def fraction(self) -> float:
        """The share of the launch that is done, 0 to 1, jobs counted alike."""
        inside = self.step["done"] / max(self.step["total"], 1) if self.step else 0.0
        return min((self.finished + inside) / max(self.jobs, 1), 1.0)

    def where(self) -> str:
        """Jobs done, the job at work and its step."""
        parts = [f"{self.finished} of {self.jobs} jobs done"]
        if self.step:
            parts.append(" ".join(filter(None, [self.step["job"], self.step["what"]])))
            parts.append(f"{self.step['done']:,} of {self.step['total']:,} steps")
        return " · ".join(parts)

    def text(self, state: str = "") -> str:
        """One line: where it is, time so far and time left."""
        passed, share = time.time() - self.started, self.fraction()
        parts = [self.where(), clock(passed)]
        if 0 < share < 1 and not state:
            parts.append(f"about {clock(passed / share - passed)} left")
        return " · ".join([*parts, state] if state else parts)

    def html(self, state: str = "") -> str:
        """The same line behind a progress bar, as HTML."""
        return (
            f'<progress value="{self.fraction():.4f}" max="1" style="width:16em"></progress> '
            f"<code>{html.escape(self.text(state))}</code>"
        )


class LivePicture:
    """A figure of the `figures` events so far, in a display of its own that is updated in place.

    `picture` takes those events and returns a matplotlib figure. It is called when new ones came,
    at most every PICTURE_SECONDS. A picture that cannot be drawn never ends what it shows: the
    first error is printed as a note, and the next events get another try.
    """

    def __init__(self, picture: Callable[[list[dict]], Any]):
        self.picture = picture
        # Shown at once, so that it is under the bar and above the lines that will be printed.
        self._handle = _display({"text/html": ""})
        self._drawn, self._last, self._failed = 0, -math.inf, False

    def show(self, events: list[dict], *, at_once: bool = False) -> None:
        """Draw the events where there are new ones; `at_once` without waiting for the time."""
        waited = time.monotonic() - self._last
        if self._handle is None or len(events) == self._drawn:
            return
        if waited < PICTURE_SECONDS and not at_once:
            return
        self._drawn = len(events)
        try:
            buffer = io.BytesIO()
            self.picture(list(events)).savefig(buffer, format="png", dpi=100)
            image = base64.b64encode(buffer.getvalue()).decode("ascii")
            self._handle.update({"image/png": image}, raw=True)
        except Exception as error:
            if not self._failed:
                print(f"the live picture failed, the work goes on: {error!r}", flush=True)
            self._failed = True
        self._last = time.monotonic()


@contextmanager
def follow(
    path: Path, jobs: int, picture: Callable[[list[dict]], Any] | None = None
) -> Iterator[Follower]:
    """Show the events appended to `path` while the block runs.

    One line is printed for each note, end of an epoch and end of a job. In IPython one display is
    updated in place with a progress bar as well, at most twice a second, and with `picture` a
    second one with a figure; an executed notebook keeps only the last state of each.

    Parameters
    ----------
    path
        The file of events, as `Progress` writes it.
    jobs
        How many jobs the launch has.
    picture
        Makes a figure of the `figures` events so far (see `LivePicture`).

    Yields
    ------
    Follower
        What was read of the events.
    """
    follower, stop = Follower(path, jobs), threading.Event()
    handle = _display({"text/html": follower.html()})
    live = LivePicture(picture) if picture and handle else None

    def show(state: str = "") -> None:
        for line in follower.new_lines():
            print(line, flush=True)
        if handle:
            handle.update({"text/html": follower.html(state)}, raw=True)
        if live:
            live.show(follower.figures, at_once=bool(state))

    def run() -> None:
        while not stop.wait(STEP_SECONDS if handle else POLL_SECONDS):
            show()

    # The kernel keeps in context variables which cell an output belongs to.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    thread.start()
    state = "stopped"
    try:
        yield follower
        state = "done"
    finally:
        stop.set()
        thread.join()
        show(state)


def _display(data: dict[str, str]) -> Any:
    """A display handle of the data by MIME type where the code runs in a notebook, else None."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    # Terminal IPython cannot update what it has shown.
    if shell is None or not hasattr(shell, "kernel"):
        return None
    # No plain text: papermill would log that of every display as a line of its own.
    return ipython.display.display(data, raw=True, display_id=True)
