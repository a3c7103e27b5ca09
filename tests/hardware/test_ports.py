"""What waits for connections does so on this machine's loopback alone."""

import json
import os
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
from jupyter_client import KernelManager
from launch_workers import listening

from fgvc_utils.contest.places import PROJECT
from fgvc_utils.hardware import wire
from fgvc_utils.hardware.launch import launch
from fgvc_utils.hardware.plan import Hardware


def is_loopback(addresses: list[str]) -> bool:
    """Whether there are addresses, and no other machine reaches any of them."""
    return bool(addresses) and all(ip_address(address).is_loopback for address in addresses)


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def test_a_socket_listens_on_its_address_alone():
    listener = wire.listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    ours = [
        one.laddr
        for one in psutil.Process().net_connections("inet")
        if one.status == psutil.CONN_LISTEN and one.laddr.port == port
    ]
    assert [address.ip for address in ours] == ["127.0.0.1"]
    with pytest.raises(RuntimeError, match=f"port {port} of 127.0.0.1 cannot be opened"):
        wire.listen("127.0.0.1", port)
    listener.close()
    wire.listen("127.0.0.1", port).close()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_launch_on_one_machine_listens_on_the_loopback_alone(tmp_path: Path, processes: int):
    before = listening(psutil.Process())
    job = tmp_path / "job.json"
    job.write_text("{}")
    hardware = Hardware(processes=processes, device="cpu")
    launch([job], tmp_path, hardware, entry="launch_workers:listen")
    for rank in range(processes):
        of_rank, of_launcher = json.loads((tmp_path / f"listening-{rank}.json").read_text())
        assert is_loopback(of_launcher)
        # A rank alone has nobody to wait for.
        assert is_loopback(of_rank) or (processes == 1 and not of_rank)
    assert listening(psutil.Process()) == before


@pytest.mark.slow
def test_a_kernel_listens_on_the_loopback_and_keeps_its_key_to_its_user(tmp_path: Path):
    manager = KernelManager(kernel_name="python3", connection_file=str(tmp_path / "kernel.json"))
    manager.start_kernel(cwd=str(tmp_path))
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=120)
        kernel = psutil.Process(manager.provisioner.pid)
        assert is_loopback(sum(map(listening, family(kernel)), []))
        assert json.loads((tmp_path / "kernel.json").read_text())["key"]
        assert (tmp_path / "kernel.json").stat().st_mode & 0o077 == 0
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def lab_command(contest: Path) -> list[str]:
    """What `make lab` runs for a contest file, with the Python of these tests."""
    dry = ["make", "--dry-run", "--no-print-directory", "--directory", str(PROJECT), "lab"]
    dry.append(f"CONTEST={contest}")
    lines = subprocess.run(dry, check=True, capture_output=True, text=True).stdout.splitlines()
    (line,) = [line for line in lines if "fgvc lab" in line]
    return [sys.executable, "-m", "fgvc_utils", *shlex.split(line)[1:]]


def ask(url: str, token: str = "", data: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of an answer."""
    headers = {"Authorization": f"token {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.slow
def test_jupyterlab_listens_on_the_loopback_and_asks_for_its_token(tmp_path: Path):
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
    own = {name: str(tmp_path / name) for name in places}
    contest = tmp_path / "mine.yaml"
    contest.write_text(f"run: mine\ndata_root: mine\noutputs: {tmp_path}/outputs\n40_submit:\n")
    command = [*lab_command(contest), "--no-browser", "--port=0"]
    log = open(tmp_path / "lab.log", "wb")
    process = subprocess.Popen(
        command, env={**os.environ, **own}, cwd=PROJECT, stdout=log, stderr=log
    )
    try:
        deadline = time.monotonic() + 120
        server = None
        while server is None and time.monotonic() < deadline:
            assert process.poll() is None, (tmp_path / "lab.log").read_text()
            files = list(tmp_path.glob("JUPYTER_RUNTIME_DIR/jpserver-*.json"))
            server = json.loads(files[0].read_text() or "null") if files else None
            time.sleep(0.2)
        kernels = f"{server['url']}api/kernels"
        _wait_until_it_answers(kernels, deadline)
        assert ask(kernels)[0] == 403 and ask(kernels, "guessed")[0] == 403
        assert len(server["token"]) >= 32
        status, body = ask(kernels, server["token"], data=b"{}")
        assert status == 201, body
        while len(found := family(psutil.Process(process.pid))) < 2:
            time.sleep(0.1)
        assert is_loopback(sum(map(listening, found), []))
        ask_to_stop = urllib.request.Request(
            f"{kernels}/{json.loads(body)['id']}",
            headers={"Authorization": f"token {server['token']}"},
            method="DELETE",
        )
        urllib.request.urlopen(ask_to_stop).close()
    finally:
        process.terminate()
        process.wait(60)
        log.close()


def _wait_until_it_answers(url: str, deadline: float) -> None:
    while time.monotonic() < deadline:
        try:
            ask(url)
            return
        except urllib.error.URLError:
            time.sleep(0.2)
    raise AssertionError(f"{url} did not answer")
