"""Connections that are slow, or never say what they want."""

import io
import socket
import time
from contextlib import suppress

import pytest

from sheepdog import client
from tests.faults import fault
from tests.waiting import until
from tests.wire import WORKER, Make, answer, ended


@pytest.mark.parametrize("sent", ["nothing", "half a hello", "TLS alone", "half a head", "half a head, later"])
@fault(24, "connections that say nothing, or half of it", promise="they are dropped in time; others are served")
def test_who_does_not_say_in_time_what_it_wants_is_dropped(make: Make, sent: str) -> None:
    wire = make().start(connections={"HEAD_SECONDS": 1.0})
    began = time.monotonic()
    connection = wire.connect(tls="hello" not in sent and sent != "nothing")
    if sent == "half a hello":
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    if sent == "half a head, later":
        assert wire.exchange(connection)[0] == 200
    if "half a head" in sent:
        connection.sendall(wire.head(10)[:50])
    assert ended(connection)
    assert 0.9 < time.monotonic() - began < 10
    assert wire.exchange()[0] == 200


@fault(24, "a call that comes byte by byte", promise="it has no more time than others")
def test_bytes_that_trickle_in_do_not_prolong_the_time_for_a_head(make: Make) -> None:
    wire = make().start(connections={"HEAD_SECONDS": 1.0})
    connection = wire.connect()
    connection.settimeout(0.1)
    began = time.monotonic()
    with suppress(OSError):
        for byte in wire.head(10, Cookie="x" * 1000):
            connection.sendall(bytes([byte]))
            if ended(connection):
                break
    assert time.monotonic() - began > 0.9


@pytest.mark.parametrize("trickle", [b"", b" "])
@fault(24, "a call whose rest does not come", promise="it is dropped in time; others are served")
def test_a_body_that_does_not_come_is_dropped(make: Make, trickle: bytes) -> None:
    wire = make().start(connections={"PACE_SECONDS": 1.0})
    connection = wire.connect()
    connection.sendall(wire.head(1000) + (900).to_bytes(4, "big"))
    connection.settimeout(0.1)
    began = time.monotonic()
    with suppress(OSError):
        while not ended(connection):
            connection.sendall(trickle)
            assert time.monotonic() - began < 10
    assert time.monotonic() - began > 0.9
    assert wire.exchange()[0] == 200


def test_a_slow_body_that_comes_steadily_is_answered(make: Make) -> None:
    """Twice as fast as it must be, for longer than a moment without bytes may be."""
    wire = make().start(connections={"PACE_SECONDS": 0.5})
    header = {**WORKER, "call": 1, "outcomes": [[1, 1, 0, 0.1]]}
    body = client.pack(header, [32 << 10, 0]) + bytes(32 << 10)
    connection = wire.connect()
    connection.sendall(wire.head(len(body)))
    for start in range(0, len(body), 1 << 10):
        connection.sendall(body[start : start + (1 << 10)])
        time.sleep(1 / 16)
    assert answer(connection)[0] == 200


@fault(24, "somebody who does not read the reply", promise="the connection is dropped in time")
def test_who_does_not_read_its_reply_is_dropped(make: Make) -> None:
    wire = make(args=bytes(7 << 20)).start(connections={"PACE_SECONDS": 1.0})
    before = wire.sockets()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    raw.connect(("127.0.0.1", wire.port))
    with wire.context.wrap_socket(raw) as connection:
        body = client.pack({**WORKER, "call": 1, "want": 1}, [])
        connection.sendall(wire.head(len(body)) + body)
        until(lambda: wire.sockets() == before + 1, "the server has accepted it")
        until(lambda: wire.sockets() == before, "the server has dropped it")
    assert wire.exchange(worker="another", want=1)[0] == 200


def test_a_small_reply_comes_as_a_whole(make: Make) -> None:
    """In one record of TLS: the worker wakes once."""
    wire = make().start()
    connection = wire.connect()
    body = client.pack({**WORKER, "call": 1, "want": 1}, [])
    connection.sendall(wire.head(len(body)) + body)
    head, _, frame = connection.recv(1 << 16).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert client.unpack(io.BytesIO(frame))["tasks"] == [[1, 1]]


def test_a_kept_connection_may_be_idle(make: Make) -> None:
    wire = make().start(connections={"HEAD_SECONDS": 0.5, "PACE_SECONDS": 0.5})
    connection = wire.connect()
    assert wire.exchange(connection)[0] == 200
    assert ended(wire.connect())  # so long it takes another to be dropped
    connection.settimeout(1.0)
    assert not ended(connection)
    connection.settimeout(30)
    assert wire.exchange(connection)[0] == 200


def test_a_kept_connection_is_not_kept_for_ever(make: Make) -> None:
    wire = make().start(uvicorn_server={"IDLE_SECONDS": 1})
    connection = wire.connect()
    assert wire.exchange(connection)[0] == 200
    assert ended(connection)
