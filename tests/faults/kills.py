"""Kill a run again and again, resume it each time, and see whether it comes out as if left alone.

`python tests/faults/kills.py [--folder FOLDER] [--seed 0] [--kills 3]` draws a tiny contest, runs
it once to its end and then a second time, in another folder, with SIGKILLs at random moments of
every stage: of everything, of the pipeline alone, of a kernel alone, of a rank alone, of the rank
server alone. After each one the pipeline is called again. Prints a line a kill: stage, moment, what
was killed, and how much work was lost: the seconds since the last result that was on the disk.
The last line is JSON.

Moments are drawn uniformly over the work of a stage, in the CPU time that it took in the first run,
which other work on the machine does not stretch. A resumed call is killed when it has worked for
the difference to the moment before, so that it has not come to the stage's end by then. A rank is
waited for where there is none; a moment at which the stage is over all the same is left out and
told.
"""

import argparse
import json
import os
import queue
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from fgvc_utils.core.files import file_digest, remove_leftovers
from fgvc_utils.demo.drawing import TINY, draw_demo
from fgvc_utils.jobs.done import result_of

PROJECT = Path(__file__).resolve().parent.parent.parent
SMALL = {"global_batch": 8, "micro_batch": 8, "size": 64}
LEARNT = {**SMALL, "epochs": 3, "mix": "none", "backbone": "test_efficientnet", "weights": "none"}
CROSSED = {"folds": 2, "head_folds": 4, "further_backbones": [], "planted_share": 0.0}
CONTEST = {
    "run": "tiny",
    "data_root": "tiny",
    # Sums of floats depend on the number of threads.
    "threads": 1,
    "processes": 1,
    "device": "cpu",
    "cache_side": 88,
    "test_ratios": [],
    "feature_views": 1,
    "01_noise": {**SMALL, "epochs": 3, "max_rounds": 1, "train": "train.csv"},
    "02_coarse": {**SMALL, **CROSSED, "top": 2, "max_rounds": 1},
    "03_fine": {**SMALL, **CROSSED, "posterior_rounds": 1},
    "04_lowq": {"size": 64},
    "10_train": [{**LEARNT, "name": "one"}],
    "20_distill": [{**LEARNT, "name": "student", "variant": "B", "teacher_views": 1}],
    "30_ensemble": {"global_batch": 8, "micro_batch": 8, "plain_models": 0, "epochs": 3},
    "40_submit": {"known_count": 4},
}
WAYS = ("all", "pipeline", "kernel", "rank", "server")
# The module that the rank server runs.
SERVER = "fgvc_utils.hardware.server"
# 04 reads the features that 03 has left, and 40 only scores.
WITHOUT_RANKS = ("04_lowq", "40_submit")
# Marks every process of a run, so that none that is left can hide.
MARK = "FGVC_FAULTS"
# What is on the disk for good: what a resumed run need not do again.
RESULTS = ("done.json", "last.pt", "part-*.parquet", "shard-*.parquet", "0*.parquet", "inventory.*")
# Nothing is to be left after that.
ENDED_SECONDS = 90
LONGEST_SECONDS = 3600
BEGINS = re.compile(r"\[\d+/\d+\] (?P<step>\S+): (?P<what>.*)")


@dataclass
class Kill:
    """One kill: in which step, when, of what, and what it cost.

    `seconds` since the step's beginning, of which the processes worked for `cpu`; `lost` seconds
    since the last result; `gone` seconds until the last process had ended; `orphans` that did not.
    A kill was too late where the step's work was done, so that the pipeline went on.
    """

    step: str
    seconds: float
    cpu: float
    way: str
    lost: float
    gone: float
    orphans: list[str] = field(default_factory=list)
    too_late: bool = False

    def __str__(self) -> str:
        found = f", left behind: {', '.join(self.orphans)}" if self.orphans else ""
        cost = f"{self.lost:5.1f} s of work lost, all ended within {self.gone:.1f} s{found}"
        return (
            f"{self.step:20} after {self.seconds:5.1f} s ({self.cpu:5.1f} s CPU)  {self.way:9} "
            f"{'its work was done, the run goes on' if self.too_late else cost}"
        )


class Pipeline:
    """A call of the pipeline that runs, followed by its lines."""

    def __init__(self, contest: Path, data: Path) -> None:
        self.mark = uuid.uuid4().hex
        environment = os.environ | {
            "FGVC_DATA": str(data),
            MARK: self.mark,
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }
        self.lines: list[str] = []
        self._new: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fgvc_utils.pipeline", str(contest)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=PROJECT,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._new.put(line.rstrip())
        self._new.put(None)

    def next_line(self, seconds: float) -> str | None:
        """The next line, empty when none comes in time, None when there will be no more."""
        try:
            line = self._new.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return ""
        if line is not None:
            self.lines.append(line)
        return line

    def put_back(self, line: str | None) -> None:
        """Have `next_line` return this line next, once nothing else is to come."""
        self._new.put(line)

    def cpu_seconds(self) -> float:
        """CPU time of this call and of all that it has started and ended or that still runs."""
        total = 0.0
        with suppress(psutil.NoSuchProcess):
            pipeline = psutil.Process(self.process.pid)
            for process in (pipeline, *pipeline.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    total += times.user + times.system
                    total += times.children_user + times.children_system
        return total

    def marked(self) -> list[psutil.Process]:
        """All processes that this call has started and that run, wherever they hang by now."""
        found = []
        for process in psutil.process_iter():
            try:
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and _variable(process, MARK) == self.mark:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def kernels(self) -> list[psutil.Process]:
        """The kernel of the notebook that runs, if there is one by now."""
        return [p for p in self.marked() if "ipykernel_launcher" in " ".join(_command(p))]

    def servers(self) -> list[psutil.Process]:
        """The rank server of the run, if there is one by now."""
        return [p for p in self._of_server() if "pipeline" in " ".join(_command(_parent(p)))]

    def ranks(self) -> list[psutil.Process]:
        """The ranks that run: what was forked from the rank server, and bears its command."""
        return [p for p in self._of_server() if SERVER in _command(_parent(p))]

    def _of_server(self) -> list[psutil.Process]:
        return [p for p in self.marked() if SERVER in _command(p)]

    def left(self) -> list[psutil.Process]:
        """Processes that do not end by themselves once the pipeline has."""
        deadline = time.monotonic() + ENDED_SECONDS
        while (left := self.marked()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left


def _variable(process: psutil.Process, name: str) -> str:
    """A variable of the environment that a process was started with, or empty."""
    try:
        return process.environ().get(name, "")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def _parent(process: psutil.Process) -> psutil.Process | None:
    try:
        return process.parent()
    except psutil.NoSuchProcess:
        return None


def _command(process: psutil.Process | None) -> list[str]:
    if process is None:
        return []
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def write_contest(folder: Path, name: str) -> Path:
    """Write the tiny contest's file with an outputs folder of its own; returns the file."""
    file = folder / f"{name}.yaml"
    contest = CONTEST | {"outputs": str(folder / name)}
    file.write_text(yaml.safe_dump(contest, sort_keys=False), "utf-8")
    return file


def run_through(contest: Path, data: Path) -> dict[str, float]:
    """Run a contest without a kill; CPU seconds of each step. Raises RuntimeError on a failure."""
    call, seconds, step, began = Pipeline(contest, data), {}, "", 0.0
    while (line := call.next_line(LONGEST_SECONDS)) is not None:
        begins = BEGINS.match(line)
        if begins and begins["step"] != step:
            step, began = begins["step"], call.cpu_seconds()
        elif begins:
            seconds[step] = call.cpu_seconds() - began
    if call.process.wait():
        raise RuntimeError("the run without a kill failed:\n" + "\n".join(call.lines[-40:]))
    return seconds


class Chain:
    """A run that is killed and resumed until every step had its kills and it is at its end.

    `outputs` is its folder of runs, `expected` the CPU seconds of each step.
    """

    def __init__(
        self,
        contest: Path,
        data: Path,
        outputs: Path,
        expected: dict[str, float],
        kills: int,
        seed: int,
    ) -> None:
        self.contest, self.data, self.outputs = contest, data, outputs
        self.random = random.Random(seed)
        self.kills: list[Kill] = []
        self.over = False
        # CPU seconds that each call still works in a step before it is killed, the next one last.
        self.waits = {step: self._waits(seconds, kills) for step, seconds in expected.items()}
        # Each way comes as often as the others, but for what a step has no process of.
        self.ways = {step: self._ways(step, kills) for step in expected}

    def _waits(self, work: float, count: int) -> list[float]:
        """Differences of moments that are drawn uniformly, the first one last."""
        moments = sorted(self.random.uniform(0, work) for _ in range(count))
        return [now - before for before, now in zip([0.0, *moments], moments, strict=False)][::-1]

    def _ways(self, step: str, count: int) -> list[str]:
        ways = [way for way in WAYS if way not in ("rank", "server") or step not in WITHOUT_RANKS]
        drawn: list[str] = []
        while len(drawn) < count:
            drawn += self.random.sample(ways, len(ways))
        return drawn[:count]

    def run(self) -> Iterator[Kill]:
        """Kill and resume to the end; yields each kill. Raises RuntimeError where a call fails."""
        while not self.over:
            for kill in self._call():
                self.kills.append(kill)
                yield kill

    def _call(self) -> Iterator[Kill]:
        """One call of the pipeline, up to a kill that ends it or to its end."""
        call, step, began, at = Pipeline(self.contest, self.data), "", (0.0, 0.0), None
        deadline = time.monotonic() + LONGEST_SECONDS
        while time.monotonic() < deadline:
            line = call.next_line(0.1)
            if line is None:
                if call.process.wait():
                    raise RuntimeError("a resumed run failed:\n" + "\n".join(call.lines[-60:]))
                self.over = True
                return
            begins = BEGINS.match(line) if line else None
            if begins and begins["what"] != "done before" and begins["step"] != step:
                step, began = begins["step"], (time.monotonic(), call.cpu_seconds())
                at = self.waits[step][-1] if self.waits[step] else None
            elif begins:
                # Its last line: the moment did not come.
                at = None
            if at is not None and call.cpu_seconds() - began[1] >= at:
                kill = self._kill(call, step, began)
                if kill is None:
                    continue
                at = None
                yield kill
                if not kill.too_late:
                    return
        raise RuntimeError("a resumed run hangs:\n" + "\n".join(call.lines[-60:]))

    def _kill(self, call: Pipeline, step: str, began: tuple[float, float]) -> Kill | None:
        """Kill what is due; None while there is no such process yet.

        `began` are the clock and the call's CPU time at the step's beginning.
        """
        way = self.ways[step][len(self.waits[step]) - 1]
        victims = {
            "all": call.marked,
            "pipeline": lambda: [psutil.Process(call.process.pid)],
            "kernel": call.kernels,
            "rank": call.ranks,
            "server": call.servers,
        }[way]()
        if not victims:
            return None
        seconds, now = time.monotonic() - began[0], time.time()
        cpu = call.cpu_seconds() - began[1]
        for victim in victims:
            try:
                victim.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                # A rank that was just done.
                return None
        lost = max(0.0, min(seconds, now - self._last_result()))
        self.waits[step].pop()
        if self._goes_on(call):
            return Kill(step, seconds, cpu, way, 0.0, 0.0, too_late=True)
        left = call.left()
        gone = time.time() - now
        names = [f"{p.pid} {' '.join(_command(p))[:80]}" for p in left]
        for process in left:
            process.kill()
        return Kill(step, seconds, cpu, way, lost, gone, names)

    def _goes_on(self, call: Pipeline) -> bool:
        """Whether the pipeline goes on after a kill: a kernel may die when its work is done."""
        deadline = time.monotonic() + ENDED_SECONDS
        while time.monotonic() < deadline:
            line = call.next_line(1)
            if line is None:
                if call.process.wait():
                    return False
                # The last line was read; there is nothing to come.
                call.put_back(None)
                return True
            if BEGINS.match(line):
                return True
        raise RuntimeError("the pipeline neither ends nor goes on:\n" + "\n".join(call.lines[-60:]))

    def _last_result(self) -> float:
        """When the last result came onto the disk, in seconds since 1970; 0 where there is none."""
        times = [0.0]
        for pattern in RESULTS:
            for file in self.outputs.rglob(pattern):
                try:
                    times.append(file.stat().st_mtime)
                except FileNotFoundError:
                    continue
        return max(times)


def outcome(run: Path) -> dict[str, str]:
    """Digests of what a run is for: tables, models, the vote, the report, the submission."""
    files = [*sorted((run / "tables").glob("*.parquet")), run / "submission.csv"]
    files += [run / "report.json", run / "ensemble" / "vote" / "index.json"]
    told = {file.relative_to(run).as_posix(): file_digest(file) for file in files}
    models = sorted(done.parent for done in (run / "models").glob("*/done.json"))
    return told | {f"models/{model.name}": result_of(model) for model in models}


def run(folder: Path, seed: int = 0, kills: int = 3) -> dict:
    """Kill a tiny contest's run `kills` times in each step and compare it with one left alone.

    Prints a line a kill. Returns `kills`, `same_submission`, `same_tables`, `orphans` (processes
    that were left), `leftovers` (temporary files that the last call did not remove), `differences`
    (names of results that are not the same to the byte) and `seconds_lost`, all work done again.
    """
    folder = Path(folder)
    draw_demo(folder / "data" / "tiny", **TINY)
    alone, killed = write_contest(folder, "alone"), write_contest(folder, "killed")
    began = time.monotonic()
    expected = run_through(alone, folder / "data")
    whole = time.monotonic() - began
    work = ", ".join(f"{step} {seconds:.0f}" for step, seconds in expected.items())
    print(f"left alone: {whole:.0f} s; s of CPU: {work}", flush=True)
    began = time.monotonic()
    chain = Chain(killed, folder / "data", folder / "killed", expected, kills, seed)
    for kill in chain.run():
        print(kill, flush=True)
    took = time.monotonic() - began
    stages = Counter(kill.step.partition("-")[0] for kill in chain.kills)
    if missed := [step for step, waits in chain.waits.items() if waits]:
        print(f"over before a moment that was drawn: {', '.join(missed)}")
    print(f"kills a stage: {', '.join(f'{stage} {n}' for stage, n in sorted(stages.items()))}")
    lost = sum(kill.lost for kill in chain.kills)
    print(
        f"{took:.0f} s with {len(chain.kills)} kills against {whole:.0f} s left alone; "
        f"{lost:.0f} s of work lost, {lost / max(1, len(chain.kills)):.1f} s a kill, the most "
        f"{max((kill.lost for kill in chain.kills), default=0):.1f} s"
    )
    one, other = outcome(folder / "alone" / "tiny"), outcome(folder / "killed" / "tiny")
    differences = sorted(name for name in one | other if one.get(name) != other.get(name))
    return {
        "kills": len(chain.kills),
        "same_submission": "submission.csv" not in differences,
        "same_tables": not any(name.startswith("tables/") for name in differences),
        "stages_killed_twice": sum(count >= 2 for count in stages.values()),
        "orphans": sum(len(kill.orphans) for kill in chain.kills),
        "leftovers": len(remove_leftovers(folder / "killed" / "tiny")),
        "differences": differences,
        "seconds_lost": round(lost, 1),
    }


def main() -> int:
    """The command line; returns 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="an empty folder; else a temporary one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=3, help="kills in each step")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = run(given.folder or Path(temporary), given.seed, given.kills)
    print(json.dumps(figures))
    return int(bool(figures["differences"] or figures["orphans"] or figures["leftovers"]))


if __name__ == "__main__":
    sys.exit(main())
