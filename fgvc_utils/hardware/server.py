"""The rank server of a run: holds its ranks warm and gives them launches, one after another.

A notebook's cell is its client (`launch`), other machines are its members (`join`). It is started
by the pipeline or by the first cell that needs it, and the system ends it with them.

Counts in no digest.
"""

import argparse
import dataclasses
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fgvc_utils.core.files import whole_file
from fgvc_utils.hardware.machine import LATE_SECONDS, Machine
from fgvc_utils.hardware.network import check_rendezvous
from fgvc_utils.hardware.plan import Hardware, Launch, code_stamp, read_launch
from fgvc_utils.hardware.wire import Closed, Door, Wire, listen

# How long the cause of an error that only echoes another one is waited for.
ECHO_SECONDS = 3.0
# Between two looks at heartbeats and deadlines while there is something to look at.
LOOK_SECONDS = 0.5
# Where a new server finds its key, which no process below it is told.
KEY = "FGVC_RANKS_KEY"
# What the server and its ranks print beside their launches, below the run's folder.
LOG = "ranks.log"
# Where other machines find this run's server, below its folder.
ADDRESS = "ranks.json"


@dataclasses.dataclass
class Running:
    """A launch that was asked for: by whom, what, and how far it is."""

    client: Wire
    file: str
    meet: str
    plan: Launch
    asked: float
    given: bool = False
    said_missing: bool = False
    done: set[int] = dataclasses.field(default_factory=set)
    echo: tuple[int, str, float] | None = None


@dataclasses.dataclass
class Member:
    """Another machine that has joined."""

    wire: Wire
    host: str


class Server:
    """Its state, and what it does when something comes.

    Parameters
    ----------
    door
        Where clients of this machine come in.
    modules
        What ranks import before their first launch.
    idle_seconds
        After so long without a launch it ends; 0 for never.
    trusted
        Whether a launcher gave the rendezvous, so that it is not checked.
    """

    def __init__(self, door: Door, modules: Sequence[str], idle_seconds: float, trusted: bool):
        self.door, self.idle_seconds, self.trusted = door, idle_seconds, trusted
        self.network: Door | None = None
        self.address: Path | None = None
        self.clients: list[Wire] = []
        self.members: dict[int, Member] = {}
        self.standing_by: list[Wire] = []
        self.machine = Machine(0, modules, self._close_in_rank)
        # What the ranks were started for; None where there are none that can be trusted.
        self.ranks_for: Hardware | None = None
        # What ranks shall be ready for once all its machines are here.
        self.wanted: Hardware | None = None
        self.waiting: list[Running] = []
        self.running: Running | None = None
        self.last_work = time.monotonic()
        self.over = False
        self.ended_well = False
        self.closes_by: float | None = None
        # The code that ranks run is imported once: where it changes, this process starts anew.
        self.code = code_stamp()
        self.log: Path | None = None
        self.outdated = False

    # --- the loop ------------------------------------------------------------------------------

    def serve(self, wake: socket.socket) -> None:
        """Work until it is over, or outdated; `wake` is readable when a signal came."""
        while not (self.over or self.outdated):
            self._wait(wake)
            self._admit()
            self._hear_clients()
            self._hear_members()
            for event in self.machine.events():
                self._on_event(0, event)
            self._go_on()
            self.over = self.over or self._idle() or self._may_close()
        self._close()

    def _may_close(self) -> bool:
        """Whether it was asked to, and those who come late have been told that all is done."""
        if self.closes_by is None:
            return False
        missing = self.wanted is not None and self._missing(self.wanted)
        return not missing or time.monotonic() > self.closes_by

    def _idle(self) -> bool:
        idle = self.idle_seconds and not self.running and not self.waiting
        return bool(idle) and time.monotonic() - self.last_work > self.idle_seconds

    def _wait(self, wake: socket.socket) -> None:
        sockets: list[Any] = [wake, *self.door.sockets(), *self.machine.sockets()]
        sockets += self.clients + self.standing_by + [each.wire for each in self.members.values()]
        sockets += self.network.sockets() if self.network else []
        wait(sockets, self._seconds(), wake)

    def _seconds(self) -> float | None:
        if self.running or self.waiting or self.network:
            return LOOK_SECONDS
        if not self.idle_seconds:
            return None
        return max(LOOK_SECONDS, self.idle_seconds - (time.monotonic() - self.last_work))

    def _close(self) -> None:
        if self.running:
            self._finish(failed="the rank server ended", rank=-1)
        self.machine.end()
        for wire in self._others():
            with suppress(Closed):
                wire.send(do="anew" if self.outdated else "bye", well=self.ended_well)
        if self.address is not None:
            self.address.unlink(missing_ok=True)

    def _close_in_rank(self) -> None:
        self.door.close()
        if self.network:
            self.network.close()
        for wire in [*self.clients, *self._others()]:
            wire.socket.close()

    def _others(self) -> list[Wire]:
        return [*self.standing_by, *(each.wire for each in self.members.values())]

    # --- who is there --------------------------------------------------------------------------

    def _admit(self) -> None:
        self.clients += [wire for wire, _ in self.door.admitted()]
        for wire, about in self.network.admitted() if self.network else []:
            node = int(about["node"])
            if about.get("stands_by"):
                self.standing_by.append(wire)
                continue
            with suppress(KeyError):
                # The same machine again: its former process is gone, even if nobody has noticed.
                self._lost(node)
            self.members[node] = Member(wire, str(about["host"]))
            self.ranks_for = None
            self._say(f"node {node} is here: {about['host']}")
            if self.wanted and not self.running:
                self._prepare_ranks(self.wanted)

    def _lost(self, node: int) -> None:
        member = self.members.pop(node)
        member.wire.close()
        self.ranks_for = None
        if self.running and self.running.given and node < self.running.plan.hardware.nodes:
            jobs = ", ".join(Path(job).parent.name for job in self.running.plan.jobs)
            self._fail(
                -1,
                f"node {node} ({member.host}) was lost: its connection ended while it worked on "
                f"{jobs}.\nStart its command there again, or the whole run without it "
                "(nodes), and run this again: what is done is kept, and a fit goes on after its "
                "last whole epoch.",
            )

    def _hear_clients(self) -> None:
        for client in list(self.clients):
            for message in client.take():
                self._on_request(client, message)
            if client.closed:
                self.clients.remove(client)
                self.waiting = [each for each in self.waiting if each.client is not client]
                if self.running and self.running.client is client:
                    self._stop("the cell that asked for this launch was ended")
                client.close()

    def _hear_members(self) -> None:
        for node, member in list(self.members.items()):
            for message in member.wire.take():
                self._on_event(node, message)
            if member.wire.closed and self.members.get(node) is member:
                self._lost(node)
        for wire in list(self.standing_by):
            wire.take()
            if wire.closed:
                self.standing_by.remove(wire)

    # --- what is asked -------------------------------------------------------------------------

    def _on_request(self, client: Wire, message: dict[str, Any]) -> None:
        if "code" in message and message["code"] != self.code and self.running is None:
            print("the package's code has changed: this server starts anew", flush=True)
            self.outdated = True
            _tell(client, again=True)
            return
        match message.get("do"):
            case "prepare":
                self._prepare(Hardware(**message["hardware"]), message["meet"])
            case "launch":
                file = message["file"]
                self._print_to(Path(message["meet"]) / LOG)
                plan = read_launch(file)
                now = time.monotonic()
                self.waiting.append(Running(client, file, message["meet"], plan, now))
            case "stop" if self.running and self.running.client is client:
                self._stop("the launch was interrupted")
            case "stop":
                self.waiting = [each for each in self.waiting if each.client is not client]
                _tell(client, stopped=True)
            case "close":
                self.ended_well = bool(message["well"])
                self.closes_by = time.monotonic() + (LATE_SECONDS if self.ended_well else 0)

    def _print_to(self, log: Path) -> None:
        """Send what this process and idle ranks print to a file, after what was printed so far."""
        if log == self.log:
            return
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        now = Path("/proc/self/fd/1")
        # A server that has started anew prints there already.
        printed = b"" if log.exists() and now.samefile(log) else now.read_bytes()
        with open(log, "ab") as file:
            file.write(printed)
            file.flush()
            for number in (1, 2):
                os.dup2(file.fileno(), number)

    def _prepare(self, hardware: Hardware, meet: str) -> None:
        """Have ranks ready before the first launch, where nothing else is at work."""
        self.last_work = time.monotonic()
        try:
            self._open_network(hardware, meet)
        except (RuntimeError, ValueError):
            # The launch will say it to whom it concerns.
            return
        if hardware.device == "cpu":
            self.machine.preload()
        self.wanted = hardware
        self._prepare_ranks(hardware)

    def _prepare_ranks(self, hardware: Hardware) -> None:
        if hardware.stays and not self.running and not self._missing(hardware):
            self._ready_ranks(hardware)

    def _go_on(self) -> None:
        """Begin the next launch when its machines are here, and judge what only echoed."""
        if self.running is None and self.waiting:
            self.running = self.waiting.pop(0)
        launch = self.running
        if launch is None:
            return
        self.last_work = time.monotonic()
        if not launch.given:
            self._begin(launch)
        elif launch.echo and time.monotonic() > launch.echo[2]:
            self._fail(*launch.echo[:2])

    def _begin(self, launch: Running) -> None:
        hardware = launch.plan.hardware
        try:
            self._open_network(hardware, launch.meet)
        except (RuntimeError, ValueError) as error:
            self._finish(refused=str(error))
            return
        if missing := self._missing(hardware):
            self._await(launch, missing)
            return
        if hardware.device == "cpu" and self.machine.preload():
            # That took seconds, in which the cell may have been interrupted.
            return
        self._ready_ranks(hardware)
        launch.given = True
        given = {"name": launch.plan.name, "launch_file": launch.file, "logs": launch.plan.logs}
        given["hang_minutes"] = hardware.hang_minutes
        self._all("give", **given)
        self.machine.give(**given)

    def _await(self, launch: Running, missing: list[int]) -> None:
        minutes = launch.plan.hardware.timeout_minutes
        if not launch.said_missing:
            launch.said_missing = True
            for node in missing:
                self._say(
                    f"On node {node} run: python -m fgvc_utils.hardware.join "
                    f"{Path(launch.meet)} --node-rank {node}"
                )
        if time.monotonic() - launch.asked > 60 * minutes:
            names = ", ".join(map(str, missing))
            text = f"node {names} did not join within timeout_minutes = {minutes}"
            self._finish(late=text)

    # --- ranks ---------------------------------------------------------------------------------

    def _missing(self, hardware: Hardware) -> list[int]:
        return [node for node in range(1, hardware.nodes) if node not in self.members]

    def _open_network(self, hardware: Hardware, meet: str) -> None:
        """Listen for other machines, and say where they find this one."""
        if hardware.nodes == 1 or self.network is not None:
            return
        if not self.trusted:
            check_rendezvous(hardware)
        host, port = hardware.endpoint()
        self.network = Door(listen(host, port), self.door.key)
        self.address = Path(meet) / ADDRESS
        port = self.network.listener.getsockname()[1]
        with whole_file(self.address) as temporary:
            # Whoever has the key can run code on these machines.
            temporary.chmod(0o600)
            found = {"host": host, "port": port, "key": self.door.key}
            temporary.write_text(json.dumps(found), "utf-8")

    def _ready_ranks(self, hardware: Hardware) -> None:
        if self.ranks_for is not None and self.ranks_for.same_ranks(hardware):
            return
        self.machine.end()
        store = self.machine.open_store(hardware)
        self._all("start", hardware=dataclasses.asdict(hardware), store=store)
        self.machine.start(hardware, store)
        self.ranks_for = hardware

    def _all(self, what: str, **rest: Any) -> None:
        """Tell the other machines that have ranks."""
        for member in self.members.values():
            with suppress(Closed):
                member.wire.send(do=what, **rest)

    # --- how it ends ---------------------------------------------------------------------------

    def _on_event(self, node: int, event: dict[str, Any]) -> None:
        launch = self.running
        # What another machine says of a launch that is over may come late.
        concerns = launch is not None and launch.given and event["launch"] == launch.plan.name
        if "failed" in event and not concerns:
            # Other ranks are made when there is work for them.
            self.ranks_for = None
        elif not concerns:
            return
        elif "failed" in event and event.get("echo"):
            deadline = time.monotonic() + ECHO_SECONDS
            launch.echo = launch.echo or (event["rank"], event["failed"], deadline)
        elif "failed" in event:
            self._fail(event["rank"], event["failed"])
        elif event.get("begun") and event["rank"] == 0:
            _tell(launch.client, begun=event["begun"])
        elif "done" in event:
            launch.done.add(event["rank"])
            if len(launch.done) == launch.plan.hardware.ranks:
                self._finish(done=True)
                self._let_go(launch.plan.hardware)

    def _let_go(self, hardware: Hardware) -> None:
        """Fresh ranks have had their launch."""
        if not hardware.stays:
            self.machine.release()
            self.ranks_for = None

    def _fail(self, rank: int, text: str) -> None:
        self._break_off(text, failed=text, rank=rank)

    def _stop(self, why: str) -> None:
        self._break_off(why, stopped=True)

    def _break_off(self, why: str, **answer: Any) -> None:
        """End all ranks of the launch; others take their place, so that the next one has some."""
        hardware = self.running.plan.hardware
        self._all("end", why=why)
        self.machine.end()
        self._finish(**answer)
        self.ranks_for = None
        if hardware.warm:
            self._prepare_ranks(hardware)

    def _finish(self, **answer: Any) -> None:
        client, self.running = self.running.client, None
        self.last_work = time.monotonic()
        _tell(client, **answer)

    def _say(self, text: str) -> None:
        """A line for people, in the cells that wait."""
        for launch in filter(None, [self.running, *self.waiting]):
            _tell(launch.client, line=text)


def _tell(client: Wire, **message: Any) -> None:
    # One that is gone is noticed where clients are heard.
    with suppress(Closed):
        client.send(**message)


def wait(sockets: Sequence[Any], seconds: float | None, wake: socket.socket) -> None:
    """Wait until one of the sockets can be read; `wake`, one of them, is emptied."""
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
        selector.select(seconds)
    with suppress(BlockingIOError):
        wake.recv(4096)


def wakened() -> socket.socket:
    """A socket that is readable when a signal came, such as the end of a child."""
    here, there = socket.socketpair()
    for end in (here, there):
        end.setblocking(False)
    signal.set_wakeup_fd(there.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return here


def main(arguments: Sequence[str] | None = None) -> None:
    """The process; `launch.start` gives what it needs."""
    parser = argparse.ArgumentParser(prog="python -m fgvc_utils.hardware.server")
    parser.add_argument("listener", type=int, help="the number of the open socket")
    parser.add_argument("--preload", nargs="*", default=[])
    parser.add_argument("--idle-seconds", type=float, default=0)
    parser.add_argument("--trusted", action="store_true")
    options = parser.parse_args(arguments)
    # A Ctrl-C is for the one who started it, whose launch then says stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    key = os.environ.pop(KEY)
    door = Door(socket.socket(fileno=options.listener), key)
    server = Server(door, options.preload, options.idle_seconds, options.trusted)
    wake = wakened()

    def ended(*_: object) -> None:
        server.over = True

    signal.signal(signal.SIGTERM, ended)
    server.serve(wake)
    sys.stdout.flush()
    if server.outdated:
        os.set_inheritable(options.listener, True)
        command = [sys.executable, "-m", "fgvc_utils.hardware.server", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {KEY: key})
    os._exit(0)


if __name__ == "__main__":
    main()
