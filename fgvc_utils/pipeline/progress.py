"""How far a whole run has come: a line at the foot of the terminal, and a log.

In a terminal one line is kept up to date in place, under all that is printed. The log,
`progress.log` in the run's folder, gets a line at the start and the end of each step and one every
few minutes between; where the output is no terminal, as under a queue, the latter are printed too.
"""

import io
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO

from fgvc_utils.core.files import read_json
from fgvc_utils.hardware.progress import Follower, clock
from fgvc_utils.pipeline import interrupts
from fgvc_utils.pipeline.contest_file import Step
from fgvc_utils.pipeline.estimates import in_words, left, note_seconds, read_seconds

LOG = "progress.log"
# How often the line in the terminal is renewed, and how often the log gets one.
SHOWN_SECONDS = 0.5
LOG_SECONDS = 300.0


class RunProgress:
    """What is done of a run, what runs, and what is to come.

    Parameters
    ----------
    steps
        All steps of the run, in order.
    to_run
        The names of those that will run as far as that is known.
    """

    def __init__(self, steps: Sequence[Step], to_run: Sequence[str]) -> None:
        self.steps, self.folder = list(steps), steps[0].cfg.folder
        self.to_run = set(to_run)
        self.began = self.step_began = time.monotonic()
        self.current: Step | None = None
        self.known = read_seconds(self.folder)
        self._before = self._launches()
        # The launch file that is followed and its time, and how far its launch has come.
        self._followed: tuple[tuple[Path, int], Follower] | None = None

    def begin(self, step: Step) -> None:
        """A step begins to run."""
        self.step_began, self._before = time.monotonic(), self._launches()
        self.current = step

    def end(self, step: Step, *, whole: bool) -> float:
        """A step is done; returns its seconds.

        They are noted for later runs where `whole`: the step was not one that had been cut off.
        """
        seconds = time.monotonic() - self.step_began
        self.current = None
        self.skip(step)
        if whole:
            note_seconds(step, seconds)
            self.known = read_seconds(self.folder)
        return seconds

    def skip(self, step: Step) -> None:
        """A step need not run."""
        self.to_run.discard(step.name)

    def left(self) -> str:
        """What is left of the run, in words; empty where nothing speaks for an estimate."""
        current = self.current
        later = [s for s in self.steps if s.name in self.to_run and s is not current]
        if not current and not later:
            return ""
        return in_words(left(current, time.monotonic() - self.step_began, later, self.known))

    def text(self) -> str:
        """One line: which step runs, what its jobs do, time so far, and what is left of the run."""
        now, parts = time.monotonic(), []
        if step := self.current:
            parts.append(f"[{self.steps.index(step) + 1}/{len(self.steps)}] {step.name}")
            parts += [clock(now - self.step_began), self._jobs()]
        parts += [f"run {clock(now - self.began)}", self.left()]
        return " · ".join(filter(None, parts))

    def _jobs(self) -> str:
        """How far the launch at work has come, by its events; empty between launches."""
        with suppress(OSError, ValueError, KeyError):
            newest = self._newest_launch()
            if newest and (not self._followed or self._followed[0] != newest):
                plan = read_json(newest[0])
                self._followed = newest, Follower(Path(plan["events"]), len(plan["jobs"]))
            if newest and self._followed:
                follower = self._followed[1]
                follower.new_lines()
                return follower.where() if follower.finished < follower.jobs else ""
        return ""

    def _newest_launch(self) -> tuple[Path, int] | None:
        """The file of the launch that the running step began last, and its time."""
        return max(self._launches() - self._before, key=lambda each: each[1], default=None)

    def _launches(self) -> set[tuple[Path, int]]:
        """The files of all launches, each with its time; what is new is told without a clock."""
        plans = self.folder.glob("launches/*/launch.json")
        found = set()
        for path in plans:
            with suppress(OSError):
                found.add((path, path.stat().st_mtime_ns))
        return found


class _Above(io.TextIOBase):
    """Passes whole lines on to a stream, above the line at the foot of the terminal."""

    def __init__(self, stream: TextIO, foot: "Foot") -> None:
        self.stream, self.foot, self._rest = stream, foot, ""

    def write(self, text: str) -> int:
        lines, end, self._rest = (self._rest + text).rpartition("\n")
        if end:
            self.foot.print(lines + end, self.stream)
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def end_line(self) -> None:
        """Pass on what came without its line end."""
        if self._rest:
            self.write("\n")


class Foot:
    """The last line of a terminal, which is renewed in place."""

    def __init__(self) -> None:
        import tqdm

        self._tqdm = tqdm.tqdm
        # Its own lock would be one of several processes.
        self._tqdm.set_lock(threading.RLock())
        self._bar = tqdm.tqdm(bar_format="{desc}", leave=False, file=sys.stderr)

    def show(self, text: str) -> None:
        """Put a text in the place of the last one; cut off where the terminal ends."""
        width = shutil.get_terminal_size().columns - 1
        self._bar.set_description_str(text[:width])

    def print(self, text: str, stream: TextIO) -> None:
        """Print above."""
        with self._tqdm.external_write_mode(file=self._bar.fp):
            stream.write(text)
            stream.flush()

    def close(self) -> None:
        """Take the line off the terminal."""
        self._bar.close()


@contextmanager
def shown(progress: RunProgress) -> Iterator[None]:
    """Show how far a run has come while the block runs."""
    stop, in_terminal = threading.Event(), sys.stderr.isatty() and sys.stdout.isatty()
    with ExitStack() as ended:
        foot = None
        if in_terminal:
            foot = Foot()
            ended.callback(foot.close)
            for redirect, stream in ((redirect_stdout, sys.stdout), (redirect_stderr, sys.stderr)):
                above = _Above(stream, foot)
                ended.enter_context(redirect(above))
                ended.callback(above.end_line)
            interrupts.before.append(foot.close)
            ended.callback(interrupts.before.remove, foot.close)

        def keep_up() -> None:
            logged = time.monotonic()
            while not stop.wait(SHOWN_SECONDS):
                text = progress.text()
                if foot:
                    foot.show(text)
                if time.monotonic() - logged >= LOG_SECONDS:
                    logged = time.monotonic()
                    log(progress.folder, text)
                    if not foot:
                        print(text, flush=True)

        thread = threading.Thread(target=keep_up, daemon=True)
        thread.start()
        ended.callback(thread.join)
        ended.callback(stop.set)
        yield


def say(folder: Path, text: str) -> None:
    """Print a line and put it into the run's log."""
    print(text, flush=True)
    log(folder, text)


def log(folder: Path, text: str) -> None:
    """Append a line with the time to the run's log; a full disk costs the line, and no run."""
    with suppress(OSError), open(folder / LOG, "a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
