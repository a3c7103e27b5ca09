"""The one door to the hardware: input checks, progress, failures, interrupts, nothing left over."""

import json
import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import papermill
import psutil
import pytest
from jupyter_client import KernelManager
from nbclient import NotebookClient
from papermill.exceptions import PapermillExecutionError

from fgvc_utils.core import processes
from fgvc_utils.core.processes import memory_kills
from fgvc_utils.hardware import failures, progress
from fgvc_utils.hardware.failures import RankFailed
from fgvc_utils.hardware.join import join
from fgvc_utils.hardware.launch import SERVER, end, late_interrupt, launch, start
from fgvc_utils.hardware.plan import Hardware, Launch, read_launch
from fgvc_utils.hardware.progress import Follower, Progress, follow, line_for, read_events

HERE = Path(__file__).parents[1] / "support"
PLAIN = "launch_workers"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    file = tmp_path / "job.json"
    file.write_text(json.dumps({"rank": 1, "way": "SIGKILL"}))
    return file


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels and other processes find this folder's modules."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))


# --- input checks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"processes": 0}, "processes is 0"),
        ({"processes": 1.5}, "processes is 1.5"),
        ({"nodes": 0}, "nodes is 0"),
        ({"threads": -1}, "threads is -1"),
        ({"nodes": 2}, "rendezvous is ''"),
        ({"nodes": 2, "rendezvous": "somewhere"}, "host:port"),
        ({"nodes": 2, "rendezvous": "somewhere:70000"}, "host:port"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"timeout_minutes": 0}, "timeout_minutes is 0"),
        ({"hang_minutes": -1}, "hang_minutes is -1"),
    ],
)
def test_hardware_names_the_wrong_parameter(parameters: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Hardware(**parameters)


def test_threads_share_the_usable_cores():
    cores = len(os.sched_getaffinity(0))
    assert Hardware(processes=1).threads_per_rank() == cores
    assert Hardware(processes=10 * cores).threads_per_rank() == 1
    assert Hardware(processes=2, threads=7).threads_per_rank() == 7


def test_wrong_input_of_launch_is_told_before_anything_is_written(tmp_path: Path, job: Path):
    folder, one = tmp_path / "out", Hardware(device="cpu")
    absent = tmp_path / "absent.json"
    two = {"nodes": 2, "device": "cpu"}
    cases = [
        ([], one, {}, "job_files is empty"),
        (str(job), one, {}, "give a list of paths"),
        ([job, absent], one, {}, "absent.json does not exist"),
        ([job], one, {"entry": "no_function"}, "entry is 'no_function'"),
        ([job], Hardware(processes=10_000, device="cuda"), {}, "processes is 10000"),
        ([job], Hardware(rendezvous="127.0.0.1:29500", **two), {}, "loopback"),
        ([job], Hardware(rendezvous="no-such-host.invalid:29500", **two), {}, "not known"),
        # An address that is kept for documentation, so no machine has it.
        ([job], Hardware(rendezvous="192.0.2.1:29500", **two), {}, "no address of this machine"),
    ]
    for files, hardware, rest, message in cases:
        with pytest.raises(ValueError, match=message):
            launch(files, folder, hardware, **rest)
    assert not folder.exists()


def test_a_launch_file_is_read_back_and_a_wrong_one_is_named(tmp_path: Path):
    file = tmp_path / "launch.json"
    with pytest.raises(ValueError, match="launch.json does not exist"):
        read_launch(file)
    file.write_text('{"name": "x"}')
    with pytest.raises(ValueError, match="launch.json is not a launch file"):
        read_launch(file)
    hardware = {"processes": 2, "device": "cpu"}
    fields = {"name": "x", "jobs": ["/a"], "events": "/e", "logs": "/l", "entry": "m:f"}
    file.write_text(json.dumps({**fields, "hardware": hardware}))
    expected = Launch("x", ("/a",), "/e", "/l", "m:f", Hardware(processes=2, device="cpu"))
    assert read_launch(file) == expected
    with pytest.raises(ValueError, match="node_rank is 0"):
        join(tmp_path, 0)


def test_a_folder_takes_one_launch_at_a_time(tmp_path: Path, job: Path):
    holder = (
        "import fcntl, sys; lock = open(sys.argv[1], 'a'); fcntl.flock(lock, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(tmp_path / ".launch.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(RuntimeError, match="another launch is running"):
            launch([job], tmp_path, Hardware(device="cpu"))
    assert not (tmp_path / "launch.json").exists()


def test_importing_the_launcher_does_not_import_torch():
    code = "import fgvc_utils.hardware.launch, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- progress ----------------------------------------------------------------------------------


def test_events_become_lines_and_a_cut_last_line_waits(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    assert read_events(path) == ([], 0)
    writer = Progress(path)
    writer.note("fold-1", "1,200 images")
    writer.step("fold-1", 3, 10, "epoch 1/2")
    writer.figures("fold-1", "epoch 1/2", loss=1.23456, accuracy=0.5, images=12, bad=float("nan"))
    writer.finished("fold-1", 187.2)
    with open(path, "a") as file:
        file.write('not an event\n{"event": "note", "job": "fold-2", "text": "cu')
    events, offset = read_events(path)
    assert [line_for(event) for event in events] == [
        "fold-1: 1,200 images",
        None,
        "fold-1: epoch 1/2  loss 1.235  accuracy 0.5  images 12  bad nan",
        "fold-1: done in 3:07",
        f"progress: left out a broken line of {path}",
    ]
    with open(path, "a") as file:
        file.write('t"}\n')
    events, offset = read_events(path, offset)
    assert [line_for(event) for event in events] == ["fold-2: cut"]
    assert read_events(path, offset) == ([], path.stat().st_size)


def test_steps_are_throttled_but_the_last_is_written(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(progress, "STEP_SECONDS", 3600)
    writer = Progress(tmp_path / "events.jsonl")
    for done in range(1, 1001):
        writer.step("job", done, 1000)
    events, _ = read_events(writer.path)
    assert [event["done"] for event in events] == [1, 1000]


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    silent = Progress(None)
    silent.step("job", 1, 1)
    silent.finished("job", 1)
    assert list(tmp_path.iterdir()) == []


def test_the_follower_knows_how_far_the_launch_is(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    writer, follower = Progress(path), Follower(path, jobs=4)
    assert follower.fraction() == 0
    writer.finished("<a>", 1)
    Progress(path).step("<b>", 1, 2, "epoch 1/1")
    assert follower.new_lines() == ["<a>: done in 1.0 s"]
    assert follower.fraction() == pytest.approx(1.5 / 4)
    assert "1 of 4 jobs done · <b> epoch 1/1 · 1 of 2 steps" in follower.text()
    assert "&lt;b&gt;" in follower.html() and "<b>" not in follower.html()
    for job in "bcd":
        writer.finished(job, 1)
    follower.new_lines()
    assert follower.fraction() == 1
    assert follower.text("done").endswith("done")


def test_following_prints_every_line_once(tmp_path: Path, capsys):
    path = tmp_path / "events.jsonl"
    with follow(path, jobs=1):
        Progress(path).figures("job", "epoch 1/1", loss=2.0)
        Progress(path).step("job", 1, 1)
        Progress(path).finished("job", 0.5)
    assert capsys.readouterr().out == "job: epoch 1/1  loss 2\njob: done in 0.5 s\n"


# --- how a rank failed, by what it left ---------------------------------------------------------


CONNECTION = "RuntimeError: [pair.cc:561] Connection closed by peer [10.0.0.2]:1"


def test_a_lost_connection_is_the_echo_of_a_cause():
    assert failures.is_echo(CONNECTION)
    assert not failures.is_echo("KeyError: 'label'")


def test_a_failure_begins_with_the_last_line_of_its_traceback(tmp_path: Path):
    text = failures.of_traceback(3, "Traceback …\nKeyError: 'label'\n", tmp_path)
    assert text.startswith("rank 3 failed: KeyError: 'label'\n\nTraceback …")
    assert text.endswith(f"Its output: {tmp_path}")


def test_a_death_shows_the_end_of_what_was_printed(tmp_path: Path):
    (tmp_path / "stderr.log").write_text("\n".join(map(str, range(100))))
    there = failures.of_death(2, -signal.SIGKILL, tmp_path, None)
    assert "rank 2 was ended by SIGKILL" in there
    assert "\n99" in there and "\n50\n" not in there
    assert "exit code 3" in failures.of_death(2, 3, tmp_path, None)


def test_a_rank_that_was_killed_for_memory_is_told_so(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(processes, "memory_kills", lambda: 3)
    counted = failures.of_death(0, -signal.SIGKILL, tmp_path, kills=2)
    assert "rank 0 was ended by SIGKILL because memory ran out" in counted
    assert "lower micro_batch, workers or processes" in counted
    unknown = failures.of_death(0, -signal.SIGKILL, tmp_path, kills=3)
    assert "SIGKILL, perhaps because memory ran out; if so, lower micro_batch" in unknown
    assert "memory" not in failures.of_death(0, -signal.SIGTERM, tmp_path, kills=2)
    text = "Traceback …\ntorch.OutOfMemoryError: CUDA out of memory\n"
    assert "Memory ran out: lower micro_batch" in failures.of_traceback(0, text, tmp_path)


def test_the_system_counts_what_it_kills_for_memory():
    assert memory_kills() is None or memory_kills() >= 0


def test_an_interrupt_waits_for_the_end_of_the_block():
    seen = []
    with pytest.raises(KeyboardInterrupt):
        with late_interrupt():
            signal.raise_signal(signal.SIGINT)
            seen.append("the block went on")
    assert seen == ["the block went on"]
    with late_interrupt():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- real ranks --------------------------------------------------------------------------------


def _ranks_below(process: psutil.Process) -> list[psutil.Process]:
    """Ranks and loaders that are alive; the rank server stays, and so does the tracker.

    Other programs are not ours: the browser tests' driver lives as long as the test run.
    """
    found = []
    for child in process.children(recursive=True):
        try:
            alive = child.status() != psutil.STATUS_ZOMBIE
            command = child.cmdline()
            python = bool(command) and "python" in Path(command[0]).name
            server = "fgvc_utils.hardware.server" in command
            # A rank is forked from the server and bears its command.
            rank = server and "fgvc_utils.hardware.server" in child.parent().cmdline()
            if alive and python and (rank or not server) and "tracker" not in " ".join(command):
                found.append(child)
        except psutil.NoSuchProcess:
            pass
    return found


def _zombies_below(process: psutil.Process) -> list[psutil.Process]:
    browser = ("node", "chrom")
    return [
        child
        for child in process.children(recursive=True)
        if child.status() == psutil.STATUS_ZOMBIE and not child.name().startswith(browser)
    ]


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_for(condition, what: str, seconds: float = 120):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.1)
    return value


def _recorded(folder: Path) -> list[int]:
    """Ids of both ranks and their loader processes, once all have written them."""
    files = sorted(folder.glob("processes-*.json"))
    try:
        return sum((json.loads(file.read_text()) for file in files), []) if len(files) == 2 else []
    except ValueError:
        return []


@pytest.mark.slow
def test_two_processes_reduce_with_their_threads(tmp_path: Path, job: Path, capfd):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    variables = dict(os.environ)
    launch([job], tmp_path, Hardware(processes=2, threads=3, device="cpu"), entry=f"{PLAIN}:reduce")
    for rank in (0, 1):
        seen = json.loads((tmp_path / f"seen-{rank}.json").read_text())
        assert (seen["sum"], seen["world"], seen["node"]) == (3, 2, 0)
        assert (seen["threads"], seen["omp"], seen["loaders"]) == (3, "3", "fork")
    out, err = capfd.readouterr()
    assert out == "reduce: all-reduce  sum 3\nreduce: done in 0.0 s\n"
    assert "rank" not in err
    logs = Path(read_launch(tmp_path / "launch.json").logs)
    assert "the sum is 3" in (logs / "rank-1" / "stdout.log").read_text()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert {name for name in os.environ if name not in variables} <= {SERVER}
    _wait_for(lambda: not _ranks_below(psutil.Process()), "the ranks to end", 10)
    end()
    assert dict(os.environ) == variables


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_failing_rank_fails_the_launch_with_its_traceback(tmp_path: Path, rank: int):
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"rank": rank}))
    with pytest.raises(RankFailed) as caught:
        launch([job], tmp_path, Hardware(processes=2, device="cpu"), entry=f"{PLAIN}:fail")
    assert caught.value.rank == rank
    message = str(caught.value)
    assert f"ZeroDivisionError: thrown on purpose by rank {rank}" in message
    assert "Traceback (most recent call last)" in message
    assert "launch_workers.py" in message and ", in fail" in message
    assert _ranks_below(psutil.Process()) == [] and _zombies_below(psutil.Process()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("SIGKILL", ["rank 1 was ended by SIGKILL", "last words on stdout", "words on stderr"]),
        ("exit", ["rank 1 failed", "called sys.exit(None)", ", in leave"]),
    ],
)
def test_a_rank_that_dies_or_leaves_is_told(tmp_path: Path, way: str, says: list[str]):
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"rank": 1, "way": way}))
    with pytest.raises(RankFailed) as caught:
        launch([job], tmp_path, Hardware(processes=2, device="cpu"), entry=f"{PLAIN}:leave")
    for words in says:
        assert words in str(caught.value)
    assert _ranks_below(psutil.Process()) == []


@pytest.mark.slow
def test_a_rank_that_hangs_is_ended_and_told_where_it_was(tmp_path: Path, job: Path):
    started = time.monotonic()
    hardware = Hardware(processes=2, device="cpu", hang_minutes=4 / 60)
    with pytest.raises(RankFailed, match="rank 1 hung: it showed no progress for") as caught:
        launch([job], tmp_path, hardware, entry=f"{PLAIN}:stall")
    assert caught.value.rank == 1 and time.monotonic() - started < 120
    assert "in _wait_for_a_lock_that_nobody_gives_back" in str(caught.value)
    assert "hang_minutes" in str(caught.value)
    assert _ranks_below(psutil.Process()) == [] and _zombies_below(psutil.Process()) == []


@pytest.mark.slow
def test_a_slow_rank_that_shows_progress_goes_on(tmp_path: Path, job: Path):
    hardware = Hardware(processes=1, device="cpu", hang_minutes=2 / 60)
    launch([job], tmp_path, hardware, entry=f"{PLAIN}:epochs")


def _cell(job: Path, folder: Path, entry: str, jobs: int = 1) -> str:
    return (
        "from fgvc_utils.hardware.launch import Hardware, launch\n"
        f"launch([{str(job)!r}] * {jobs}, {str(folder)!r}, Hardware(processes=2, device='cpu'),"
        f" entry='{PLAIN}:{entry}')"
    )


def _notebook(*cells: str) -> nbformat.NotebookNode:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    return notebook


@pytest.mark.slow
@pytest.mark.usefixtures("importable")
def test_a_failing_rank_fails_a_papermill_notebook(tmp_path: Path, job: Path):
    source, executed = tmp_path / "in.ipynb", tmp_path / "out.ipynb"
    nbformat.write(_notebook(_cell(job, tmp_path, "fail"), "print('not reached')"), source)
    with pytest.raises(PapermillExecutionError) as caught:
        papermill.execute_notebook(source, executed, cwd=tmp_path, progress_bar=False)
    assert "rank 1 failed: ZeroDivisionError" in str(caught.value)
    assert ", in fail" in str(caught.value)
    cells = [cell for cell in nbformat.read(executed, 4).cells if cell.cell_type == "code"]
    failed = next(cell for cell in cells if "launch(" in cell.source)
    assert "thrown on purpose by rank 1" in json.dumps(failed.outputs)
    assert not any("not reached" in json.dumps(cell.outputs) for cell in cells)


@pytest.mark.slow
@pytest.mark.usefixtures("importable")
def test_progress_moves_in_place_and_prints_a_line_an_epoch(tmp_path: Path, job: Path):
    notebook = _notebook(_cell(job, tmp_path, "epochs", jobs=2))
    updates = []

    class Watching(NotebookClient):
        def process_message(self, message, *rest):
            if message["msg_type"] == "update_display_data":
                updates.append(message["content"]["data"]["text/html"])
            return super().process_message(message, *rest)

    Watching(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = notebook.cells[0].outputs
    displays = [output for output in outputs if output.output_type == "display_data"]
    assert len(displays) == 1
    assert "2 of 2 jobs done" in displays[0]["data"]["text/html"]
    # In between it has shown both jobs at work.
    assert any("job-0 epoch 1/2" in update for update in updates)
    assert any("1 of 2 jobs done" in update and "job-1 epoch" in update for update in updates)
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    assert text == "".join(
        f"job-{number}: epoch 1/2  loss 0.5\njob-{number}: epoch 2/2  loss 0.3333\n"
        f"job-{number}: done in 2.4 s\n"
        for number in (0, 1)
    )


class _Kernel:
    """A Jupyter kernel as JupyterLab drives it: run a cell, interrupt it, kill it."""

    def __init__(self, folder: Path):
        self.manager = KernelManager(kernel_name="python3")
        # Run by hand: no pipeline has told it of a rank server.
        own = {name: value for name, value in os.environ.items() if name != SERVER}
        self.manager.start_kernel(cwd=str(folder), env=own)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)
        self.process = psutil.Process(self.manager.provisioner.pid)

    def start(self, code: str) -> str:
        # Else the kernel answers `aborted` to what comes within a moment after a failed cell.
        return self.client.execute(code, stop_on_error=False)

    def reply(self, message_id: str) -> dict:
        while True:
            try:
                reply = self.client.get_shell_msg(timeout=120)
            except queue.Empty:
                raise AssertionError("the kernel did not answer") from None
            if reply["parent_header"]["msg_id"] == message_id:
                return reply["content"]

    def stop(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@pytest.fixture
def kernel(tmp_path: Path, importable: None):
    kernel = _Kernel(tmp_path)
    yield kernel
    kernel.stop()


@pytest.mark.slow
def test_an_interrupt_ends_all_ranks_and_the_kernel_launches_again(
    tmp_path: Path, job: Path, kernel: _Kernel
):
    cell = kernel.start(_cell(job, tmp_path, "load_for_ever"))
    pids = _wait_for(lambda: _recorded(tmp_path), "both ranks and their loaders")
    assert len(pids) == 6 and all(map(_alive, pids))
    with pytest.raises(RuntimeError, match=f"another launch .*process {kernel.process.pid}"):
        launch([job], tmp_path, Hardware(processes=2, device="cpu"), entry=f"{PLAIN}:reduce")
    kernel.manager.interrupt_kernel()
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert _ranks_below(kernel.process) == [] and _zombies_below(kernel.process) == []
    _wait_for(lambda: not any(map(_alive, pids)), "the loader processes to end")
    assert kernel.reply(kernel.start(_cell(job, tmp_path, "reduce")))["status"] == "ok"
    assert (tmp_path / "seen-1.json").exists()


@pytest.mark.slow
def test_an_interrupt_while_the_server_imports_leaves_a_kernel_that_launches(
    tmp_path: Path, job: Path, kernel: _Kernel
):
    cell = kernel.start(_cell(job, tmp_path, "load_for_ever"))
    _wait_for((tmp_path / "launch.json").exists, "the launch")
    kernel.manager.interrupt_kernel()
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    _wait_for(lambda: not _ranks_below(kernel.process), "the ranks to end")
    assert kernel.reply(kernel.start(_cell(job, tmp_path, "reduce")))["status"] == "ok"


@pytest.mark.slow
def test_an_interrupt_ends_a_rank_that_does_not_listen(tmp_path: Path, job: Path, kernel: _Kernel):
    cell = kernel.start(_cell(job, tmp_path, "hang"))
    pids = _wait_for(lambda: _recorded(tmp_path), "both ranks")
    kernel.manager.interrupt_kernel()
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert not any(map(_alive, pids))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "starting"),
    [
        pytest.param(signal.SIGKILL, True, id="SIGKILL-starting to load"),
        pytest.param(signal.SIGTERM, False, id="SIGTERM-loading"),
        pytest.param(signal.SIGKILL, False, id="SIGKILL-loading", marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, True, id="SIGTERM-starting to load", marks=pytest.mark.long),
    ],
)
def test_a_killed_kernel_leaves_no_rank_behind(
    tmp_path: Path, job: Path, kernel: _Kernel, number: signal.Signals, starting: bool
):
    job.write_text(json.dumps({"starting": starting}))
    kernel.start(_cell(job, tmp_path, "load_for_ever"))
    pids = _wait_for(lambda: _recorded(tmp_path), "both ranks and their loaders")
    assert len(pids) == 6 and all(map(_alive, pids))
    # The kernel alone, not its process group: nothing else tells the ranks.
    os.kill(kernel.process.pid, number)
    _wait_for(lambda: not _alive(kernel.process.pid), "the kernel to end")
    _wait_for(lambda: not any(map(_alive, pids)), "ranks and loader processes to end")


# --- ranks that are kept ------------------------------------------------------------------------

STAYING = pytest.mark.parametrize("stay", [False, True], ids=["forked", "staying"])


def _process(name: str, folder: Path) -> int:
    return json.loads((folder / f"{name}.json").read_text())["process"]


@pytest.mark.slow
@STAYING
def test_ranks_that_stay_are_the_same_ones_and_others_are_not(
    tmp_path: Path, job: Path, stay: bool
):
    hardware, seen = Hardware(processes=2, device="cpu", stay=stay), []
    for _ in range(3):
        launch([job], tmp_path, hardware, entry=f"{PLAIN}:reduce")
        seen.append(_process("seen-1", tmp_path))
    assert len(set(seen)) == (1 if stay else 3)
    with pytest.raises(RankFailed, match="thrown on purpose by rank 1"):
        launch([job], tmp_path, hardware, entry=f"{PLAIN}:fail")
    launch([job], tmp_path, hardware, entry=f"{PLAIN}:reduce")
    assert _process("seen-1", tmp_path) not in seen, "no job meets what an error has left"
    one = Hardware(processes=1, device="cpu", stay=stay)
    launch([job], tmp_path, one, entry=f"{PLAIN}:reduce")
    assert json.loads((tmp_path / "seen-0.json").read_text())["world"] == 1


@pytest.mark.slow
def test_a_rank_server_that_was_killed_is_replaced(tmp_path: Path, job: Path, kernel: _Kernel):
    assert kernel.reply(kernel.start(_cell(job, tmp_path, "reduce")))["status"] == "ok"
    server = _server_below(kernel.process)
    cell = kernel.start(_cell(job, tmp_path, "load_for_ever"))
    pids = _wait_for(lambda: _recorded(tmp_path), "both ranks and their loaders")
    server.kill()
    reply = kernel.reply(cell)
    assert reply["ename"] == "RankFailed" and "holds the ranks was ended" in reply["evalue"]
    _wait_for(lambda: not any(map(_alive, pids)), "ranks and loader processes to end")
    assert kernel.reply(kernel.start(_cell(job, tmp_path, "reduce")))["status"] == "ok"


@pytest.mark.slow
def test_a_rank_server_ends_when_a_notebook_is_left_open(
    tmp_path: Path, job: Path, kernel: _Kernel
):
    short = "import fgvc_utils.hardware.launch as l; l.IDLE_SECONDS = 3\n"
    assert kernel.reply(kernel.start(short + _cell(job, tmp_path, "reduce")))["status"] == "ok"
    assert _server_below(kernel.process)
    _wait_for(lambda: not _server_below(kernel.process), "the server to end", 30)
    assert kernel.reply(kernel.start(_cell(job, tmp_path, "reduce")))["status"] == "ok"


@pytest.mark.slow
def test_ranks_that_are_not_kept_leave_no_server(tmp_path: Path, job: Path, kernel: _Kernel):
    cell = _cell(job, tmp_path, "reduce").replace("device='cpu'", "device='cpu', warm=False")
    assert kernel.reply(kernel.start(cell))["status"] == "ok"
    assert _server_below(kernel.process) is None


def _server_below(process: psutil.Process) -> psutil.Process | None:
    for child in process.children():
        if _alive(child.pid) and "fgvc_utils.hardware.server" in child.cmdline():
            return child
    return None


@pytest.mark.slow
def test_ranks_get_ready_before_they_are_asked_for(tmp_path: Path, kernel: _Kernel):
    cell = (
        "from fgvc_utils.hardware.launch import Hardware, start\n"
        f"start(Hardware(processes=2, device='cpu', stay=True), {str(tmp_path)!r})"
    )
    assert kernel.reply(kernel.start(cell))["status"] == "ok"
    _wait_for(lambda: len(_ranks_below(kernel.process)) == 2, "two ranks that wait for work")


@pytest.mark.slow
def test_each_launch_notes_its_times(tmp_path: Path, job: Path):
    hardware = Hardware(processes=1, device="cpu")
    start(hardware, tmp_path)
    for _ in range(2):
        launch([job], tmp_path, hardware, entry=f"{PLAIN}:reduce")
    lines = (tmp_path / "times.jsonl").read_text().splitlines()
    times = [json.loads(line) for line in lines]
    assert len({each["launch"] for each in times}) == 2
    for each in times:
        assert each["began"] <= each["taken"] <= each["first_step"] <= each["ended"]
        assert (each["jobs"], each["jobs_seconds"]) == (1, 0)


@pytest.fixture
def saved_again():
    """A file of the package, to be touched; else runs of other tests would be of other code."""
    file = Path(progress.__file__)
    before = file.stat()
    yield file
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.slow
def test_ranks_run_the_code_as_it_is_when_they_are_asked(
    tmp_path: Path, job: Path, saved_again: Path
):
    end()
    hardware = Hardware(processes=1, device="cpu")
    launch([job], tmp_path, hardware, entry=f"{PLAIN}:reduce")
    launch([job], tmp_path, hardware, entry=f"{PLAIN}:reduce")
    assert "code has changed" not in (tmp_path / "ranks.log").read_text()
    # As an editor leaves it that saves a file as it was.
    os.utime(saved_again)
    launch([job], tmp_path, hardware, entry=f"{PLAIN}:reduce")
    assert (tmp_path / "ranks.log").read_text().count("code has changed") == 1
    launch([job], tmp_path, hardware, entry=f"{PLAIN}:reduce")
    assert (tmp_path / "ranks.log").read_text().count("code has changed") == 1
