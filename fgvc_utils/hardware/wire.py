"""Messages between the processes of a run: a JSON object a line, over sockets that know a key.

Counts in no digest.
"""

import hmac
import json
import secrets
import select
import socket
import struct
import time
from typing import Any

# How long a new connection may take to prove that it knows the key.
PROOF_SECONDS = 10
# A peer that takes nothing for so long counts as lost.
SEND_SECONDS = 30
# The system asks a silent peer on another machine whether it is still there, and takes one that
# does not answer, as after a power cut, for lost after half a minute.
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}


class Closed(ConnectionError):
    """The other end is gone."""


class Wire:
    """One end of a connection that carries messages.

    Attributes
    ----------
    closed
        Whether the other end is gone. What it sent before can still be taken.
    """

    def __init__(self, connection: socket.socket):
        self.socket, self.closed = connection, False
        self._begun, self._whole = b"", []
        connection.settimeout(None)
        limit = struct.pack("ll", SEND_SECONDS, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def fileno(self) -> int:
        """For select and its like."""
        return self.socket.fileno()

    def send(self, **message: Any) -> None:
        """Send a message of plain data.

        Raises
        ------
        Closed
            The other end is gone, or has taken nothing for half a minute.
        """
        try:
            self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            self.closed = True
            raise Closed(f"the connection ended ({error})") from None

    def take(self) -> list[dict[str, Any]]:
        """The whole messages that have come, without waiting; sets `closed` at the end."""
        while not self.closed:
            try:
                received = self.socket.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                received = b""
            self.closed = not received
            *whole, self._begun = (self._begun + received).split(b"\n")
            self._whole += [json.loads(line) for line in whole]
        taken, self._whole = self._whole, []
        return taken

    def receive(self, seconds: float | None = None) -> dict[str, Any] | None:
        """Wait for the next message; None where none comes in time.

        Raises
        ------
        Closed
            The other end is gone and left no further message.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            if messages := self.take():
                self.put_back(messages[1:])
                return messages[0]
            if self.closed:
                raise Closed("the connection ended")
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            poll = select.poll()
            poll.register(self.socket, select.POLLIN)
            # In Python an interrupt is heard here, unlike inside torch.
            poll.poll(None if left is None else left * 1000)

    def put_back(self, messages: list[dict[str, Any]]) -> None:
        """Leave messages that were taken for the next one who takes."""
        self._whole = [*messages, *self._whole]

    def close(self) -> None:
        """Close this end; the other one notices."""
        self.closed = True
        self.socket.close()


def pair() -> tuple[Wire, Wire]:
    """Two ends of a connection within this machine."""
    one, other = socket.socketpair()
    return Wire(one), Wire(other)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on one address alone; port 0 is any free one.

    Raises
    ------
    RuntimeError
        The port cannot be opened.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # A port that was left a moment ago can be taken again.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise RuntimeError(
            f"rendezvous: port {port} of {host} cannot be opened; choose a free one ({error})"
        ) from None
    return listener


class Door:
    """Lets in, on a listening socket, those who know the key; waits for nobody."""

    def __init__(self, listener: socket.socket, key: str):
        self.listener, self.key = listener, key
        listener.setblocking(False)
        self._asked: dict[Wire, tuple[str, float]] = {}

    def sockets(self) -> list[Any]:
        """What to wait on before `admitted` is called."""
        return [self.listener, *self._asked]

    def admitted(self) -> list[tuple[Wire, dict[str, Any]]]:
        """New connections that have proved the key, with the rest of what they said of themselves.

        Those that are silent or wrong are closed, so that a stranger holds up nobody.
        """
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                break
            wire, nonce = Wire(_kept_alive(connection)), secrets.token_hex(16)
            try:
                wire.send(nonce=nonce)
            except Closed:
                wire.close()
                continue
            self._asked[wire] = nonce, time.monotonic() + PROOF_SECONDS
        admitted = []
        for wire, (nonce, deadline) in list(self._asked.items()):
            try:
                messages = wire.take()
            except ValueError:
                messages, deadline = [], 0.0
            if messages:
                first = messages[0]
                wire.put_back(messages[1:])
                proof = first.pop("proof", "") if isinstance(first, dict) else ""
                if hmac.compare_digest(str(proof), _proof(self.key, nonce)):
                    del self._asked[wire]
                    admitted.append((wire, first))
                    continue
            if messages or wire.closed or time.monotonic() > deadline:
                del self._asked[wire]
                wire.close()
        return admitted

    def close(self) -> None:
        """Stop listening."""
        for wire in self._asked:
            wire.close()
        self.listener.close()


def connect(host: str, port: int, key: str, seconds: float, /, **about: Any) -> Wire:
    """Connect to a `Door`, prove the key and say who this is.

    Parameters
    ----------
    host, port
        Where it listens.
    key
        What both ends know.
    seconds
        How long to wait for it; it may be busy with its imports.
    **about
        Plain data that the door gives with the connection.

    Raises
    ------
    OSError
        Nobody listens there, nobody answers in time, or the key is not theirs.
    """
    deadline = time.monotonic() + seconds
    connection = socket.create_connection((host, port), timeout=min(seconds, 10))
    wire = Wire(_kept_alive(connection))
    try:
        asked = wire.receive(deadline - time.monotonic())
        if asked is None:
            raise TimeoutError(f"{host}:{port} does not answer")
        wire.send(proof=_proof(key, asked["nonce"]), **about)
    except BaseException:
        wire.close()
        raise
    return wire


def _proof(key: str, nonce: str) -> str:
    return hmac.new(key.encode(), nonce.encode(), "sha256").hexdigest()


def _kept_alive(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection
