"""Stands in for the pipeline where a test is about `cluster/slurm.sbatch` alone: starts at once.

Machine 0 serves, machine 1 joins it, as the real ones do by the variables that they are given. Both
write what they got to `start-<n>-machine-<rank>.json`; machine 0 ends when there is a file `finish`
with its exit code, the other with it. A machine whose other end is gone exits with 1.
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def main() -> int:
    folder, rank = Path(os.environ["STAND_IN"]), int(os.environ["RANK"])
    start = int(os.environ.get("SLURM_RESTART_COUNT", 0))
    seen = {name: os.environ[name] for name in NAMES} | {"pid": os.getpid(), "given": sys.argv[1:]}
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    connection = serve(address) if rank == 0 else join(address)
    (folder / f"start-{start}-machine-{rank}.json").write_text(json.dumps(seen))
    connection.settimeout(0.1)
    while True:
        if rank == 0 and (folder / "finish").exists():
            connection.sendall(b"E")
            return int((folder / "finish").read_text())
        try:
            said = connection.recv(1)
        except TimeoutError:
            continue
        if said == b"":
            print(f"machine {1 - rank} is lost", flush=True)
        return 0 if said else 1


def serve(address: tuple[str, int]) -> socket.socket:
    with socket.create_server(address) as server:
        return server.accept()[0]


def join(address: tuple[str, int]) -> socket.socket:
    while True:
        try:
            return socket.create_connection(address)
        except ConnectionRefusedError:
            time.sleep(0.1)


if __name__ == "__main__":
    # Slurm's tasks may ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(130)
