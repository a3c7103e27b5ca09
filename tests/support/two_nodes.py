"""Two nodes on one machine: two network namespaces joined by a pair of virtual interfaces.

    sudo python tests/two_nodes.py                             an all-reduce over both nodes
    sudo python tests/two_nodes.py --jobs FOLDER/launch.json   the jobs of an earlier launch

Node 0 calls `launch` twice as notebook cells do; node 1 runs, once, the command that node 0 prints.
What both print is shown, line by line, with the node in front; the exit status is 0 when both are.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fgvc_utils.hardware.plan import read_launch

NODE_0 = """
import sys
from fgvc_utils.hardware.launch import end, launch
from fgvc_utils.hardware.plan import Hardware
folder, entry, processes, *jobs = sys.argv[1:]
hardware = Hardware(processes=int(processes), nodes=2, rendezvous="10.213.77.1:29511",
                    device="cpu", timeout_minutes=2)
try:
    for _ in range(2):
        launch(jobs, folder, hardware, entry=entry)
finally:
    end(well=sys.exc_info()[0] is None)
"""
SECONDS = 900


def ip(*arguments: str) -> None:
    """Run iproute2's `ip`; raises CalledProcessError with its message where that is refused."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def two_namespaces() -> Iterator[list[str]]:
    """Names of two network namespaces that reach each other as 10.213.77.1 and 10.213.77.2."""
    mark = uuid.uuid4().hex[:6]
    names = [f"fgvc-{mark}-{node}" for node in (0, 1)]
    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        ends = [f"fgvc{mark}{node}" for node in (0, 1)]
        ip("link", "add", ends[0], "netns", names[0], "type", "veth",
           "peer", "name", ends[1], "netns", names[1])  # fmt: skip
        for node, (name, end) in enumerate(zip(names, ends, strict=True), start=1):
            ip("-n", name, "address", "add", f"10.213.77.{node}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in made:
            # The pair of interfaces goes with its namespaces.
            subprocess.run(["ip", "netns", "delete", name], check=False)


def unavailable() -> str | None:
    """Why namespaces cannot be made here, None where they can."""
    if shutil.which("ip") is None:
        return "the command 'ip' (iproute2) is not installed"
    try:
        with two_namespaces():
            return None
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not permitted here: {error.stderr.strip()}"


class Node:
    """A process in a namespace whose lines are shown as they come."""

    def __init__(self, node: int, namespace: str, command: list[str]):
        self.node, self.lines = node, []
        self.joining = threading.Event()
        # `ip netns exec` becomes the command itself: the process is the node's launcher.
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            print(f"node {self.node} | {line.rstrip()}", flush=True)
            if line.startswith("On node 1 run: "):
                self.joining.set()
        self.joining.set()

    def joining_command(self) -> list[str]:
        self.joining.wait(SECONDS)
        command = next(line for line in self.lines if line.startswith("On node 1 run: "))
        return [sys.executable, *shlex.split(command.removeprefix("On node 1 run: "))[1:]]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(30)
        self.reader.join()


def lose(node: Node, namespace: str, way: str, folder: Path) -> None:
    """Lose node 1 once its rank works: its `process` is killed, or its `cable` is pulled."""
    deadline = time.monotonic() + SECONDS
    while not (folder / "processes-1.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    if way == "process":
        node.process.kill()
        return
    for link in json.loads(_links(namespace)):
        if link["ifname"] != "lo":
            ip("-n", namespace, "link", "set", link["ifname"], "down")


def _links(namespace: str) -> str:
    shown = ["ip", "-json", "-n", namespace, "link", "show"]
    return subprocess.run(shown, check=True, capture_output=True, text=True).stdout


def run(folder: Path, jobs: list[str], entry: str, processes: int, loses: str = "") -> int:
    """Run the jobs on two nodes of `processes` ranks each; 0 where both nodes end well."""
    started: list[Node] = []
    arguments = [str(folder), entry, str(processes), *jobs]
    with two_namespaces() as names:
        try:
            program = ["env", f"PYTHONPATH={Path(__file__).parent}", sys.executable, "-c", NODE_0]
            started.append(Node(0, names[0], [*program, *arguments]))
            joining = ["env", f"PYTHONPATH={Path(__file__).parent}"]
            started.append(Node(1, names[1], joining + started[0].joining_command()))
            if loses:
                lose(started[1], names[1], loses, folder)
                started[0].process.wait(SECONDS)
                started[1].end()
            codes = [node.process.wait(SECONDS) for node in started]
        finally:
            for node in started:
                node.end()
    print(f"exit codes: node 0 {codes[0]}, node 1 {codes[1]}")
    for log in sorted(Path(read_launch(folder / "launch.json").logs).glob("rank-*/stdout.log")):
        for line in log.read_text().splitlines():
            print(f"{log.parent.name} | {line}")
    return max(codes, key=abs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=Path, help="a launch.json whose jobs and worker to run")
    parser.add_argument("--folder", type=Path, help="where to launch; by default a new one")
    parser.add_argument("--processes", type=int, default=1, help="ranks a node")
    parser.add_argument("--entry", default="launch_workers:reduce", help="without --jobs")
    parser.add_argument("--lose", choices=("process", "cable"), default="", help="lose node 1")
    options = parser.parse_args()
    if reason := unavailable():
        parser.error(reason)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="two-nodes-"))
    folder.mkdir(parents=True, exist_ok=True)
    if options.jobs:
        earlier = read_launch(options.jobs)
        return run(folder, list(earlier.jobs), earlier.entry, options.processes)
    job = folder / "job.json"
    job.write_text('{"rank": 1, "way": "SIGKILL"}')
    return run(folder, [str(job)], options.entry, options.processes, options.lose)


if __name__ == "__main__":
    sys.exit(main())
