"""Messages between processes: whole lines, ends that are noticed, and a key for strangers."""

import json
import socket
import threading
import time

import pytest

from fgvc_utils.hardware.wire import Closed, Door, Wire, connect, listen, pair


def test_messages_come_whole_and_in_order():
    one, other = pair()
    one.socket.sendall(b'{"a": 1}\n{"b"')
    assert other.take() == [{"a": 1}]
    one.socket.sendall(b': 2}\n{"c": 3}\n')
    assert other.receive(1) == {"b": 2}
    assert other.receive(1) == {"c": 3}
    assert other.receive(0.01) is None


def test_the_end_is_noticed_after_the_last_message():
    one, other = pair()
    one.send(last=True)
    one.close()
    assert other.receive() == {"last": True}
    with pytest.raises(Closed):
        other.receive()
    with pytest.raises(Closed):
        other.send(more=True)


@pytest.fixture
def door():
    door = Door(listen("127.0.0.1", 0), "the key")
    yield door
    door.close()


def _admitted(door: Door, count: int = 1, seconds: float = 5) -> list:
    found, deadline = [], time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        found += door.admitted()
        time.sleep(0.01)
    return found


def _connecting(door: Door, key: str, **about) -> list[Wire]:
    made: list[Wire] = []
    port = door.listener.getsockname()[1]
    thread = threading.Thread(
        target=lambda: made.append(connect("127.0.0.1", port, key, 5, **about))
    )
    thread.start()
    return made


def test_who_knows_the_key_is_let_in_with_what_it_says(door: Door):
    made = _connecting(door, "the key", node=3)
    ((wire, about),) = _admitted(door)
    assert about == {"node": 3}
    wire.send(hello=True)
    assert made[0].receive(5) == {"hello": True}


def test_who_does_not_know_the_key_is_shut_out(door: Door):
    made = _connecting(door, "another key")
    assert _admitted(door, seconds=0.3) == []
    with pytest.raises(Closed):
        made[0].receive(5)


def test_a_stranger_who_is_silent_or_rude_holds_up_nobody(door: Door):
    port = door.listener.getsockname()[1]
    silent = socket.create_connection(("127.0.0.1", port))
    for rude in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"proof": 1}\n', json.dumps({}).encode()):
        socket.create_connection(("127.0.0.1", port)).sendall(rude)
    _connecting(door, "the key", node=1)
    assert [about for _, about in _admitted(door)] == [{"node": 1}]
    silent.close()
