"""Which calls are refused, and how."""

import http.client
import socket
import time
from contextlib import suppress

import pytest

from sheepdog import client
from sheepdog.server.http.connections import MAX_HEAD
from sheepdog.storage import Storage
from sheepdog.values.model import Kind
from tests.faults import fault
from tests.wire import WORKER, Make, Wire, answer, ended


@pytest.mark.parametrize("missing", [(), ("httptools",)], ids=["httptools", "h11"])
@fault(
    (21, 22, 25),
    "calls without a token, with lying lengths, of browsers, or no HTTP at all",
    promise="refused before a body is read; all 401 look alike",
)
def test_heads_that_are_refused(make: Make, missing: tuple[str, ...]) -> None:
    """And none of them has the server read a body: none is sent."""
    wire = make().start(missing, app={"REFUSE_SECONDS": 0.01}, tokens={"LOOK_SECONDS": 0.01})
    head = wire.head
    wrong = "0" * 64
    cases = [
        (401, head(9, token=wrong)),
        (401, head(9, Authorization=None)),
        (401, head(9, Authorization="Basic \xe9")),
        (401, head(9).replace(b"/requests/1/", b"/requests/2/")),
        (401, head(9).replace(b"/requests/1/", b"/requests/0/")),
        (401, head(9).replace(b"/requests/1/", b"/requests/%d/" % 10**40)),
        (401, head(9).replace(b"/requests/1/", b"/requests/1/../1/")),
        (401, head(9).replace(b"/requests/1/exchange", b"/")),
        (404, head(9, "steal")),
        (405, head(9).replace(b"POST", b"GET", 1)),
        (405, head(9).replace(b"POST", b"PUT", 1)),
        (405, head(9, token=wrong).replace(b"POST", b"OPTIONS", 1)),
        (403, head(9, Origin="https://evil")),
        (403, head(9, Sec_Fetch_Site="none")),
        (415, head(9, Content_Type=None)),
        (415, head(9, Content_Type="application/json")),
        (411, head(9, Content_Length=None)),
        (411, head(9, Content_Length=None, Transfer_Encoding="chunked")),
        (400, head(9, Transfer_Encoding="chunked")),
        (400, head(-1)),
        (400, head("9" * 30)),
        (400, head("nine")),
        (400, head(9, content_length="10")),
        (413, head(10**12)),
        (431, head(9, Cookie="x" * MAX_HEAD)),
        (400, b"no HTTP at all\r\n\r\n"),
        (400, head(9).replace(b"Host", b"Ho st")),
    ]
    texts = set()
    for expected, data in cases:
        status, text, headers = answer(wire.connect(), data)
        # Two parsers, two opinions: what h11 refuses as ambiguous is refused by the app with httptools, and so on.
        assert status == expected or {status, expected} <= {400, 411, 431}, (expected, status, text, data)
        assert headers.get("connection") == "close"
        if status == 401:
            texts.add(text)
    assert len(texts) == 1
    assert wire.exchange()[0] == 200


@fault(22, "headers without end", promise="the call is dropped; others are served")
def test_a_head_without_end_is_dropped(wire: Wire) -> None:
    connection = wire.connect()
    with suppress(OSError):
        connection.sendall(b"POST / HTTP/1.1\r\nCookie: ")
        for _ in range(64):
            connection.sendall(b"x" * MAX_HEAD)
        assert answer(connection)[0] == 400  # h11 says so before it hangs up
    assert ended(connection)
    assert wire.exchange()[0] == 200


@pytest.mark.parametrize("promised", [-1, 1])
@fault(22, "a body longer or shorter than it says", promise="400, or the connection ends; others are served")
def test_a_length_that_lies(wire: Wire, promised: int) -> None:
    """The rest is another call, a wrong one; or the end comes too soon."""
    body = client.pack({**WORKER, "call": 1}, [])
    connection = wire.connect()
    connection.sendall(wire.head(len(body) + promised) + body)
    if promised > 0:
        socket.socket.shutdown(connection, socket.SHUT_WR)
    try:
        assert answer(connection)[0] == 400
    except OSError:  # hung up: the server met the end before it saw that the lengths do not add up
        assert promised > 0
    assert wire.exchange()[0] == 200


@fault(
    21,
    "many calls with a wrong token",
    promise="refused slowly and a few at a time, one line in the log; workers do not wait",
)
def test_a_wrong_token_is_told_late_and_only_to_so_many(make: Make) -> None:
    wire = make().start(app={"MAX_REFUSED": 3, "REFUSE_SECONDS": 3.0})
    worker = wire.connect()
    assert wire.exchange(worker)[0] == 200
    began = time.monotonic()
    refused = [wire.connect() for _ in range(10)]
    for connection in refused:
        connection.sendall(wire.head(9, token="0" * 64))
    while time.monotonic() - began < 2:
        start = time.monotonic()
        assert wire.exchange(worker)[0] == wire.exchange()[0] == 200
        assert time.monotonic() - start < 2.5
    statuses = []
    for connection in refused:
        with suppress(OSError, http.client.HTTPException):
            statuses.append(answer(connection)[0])
    assert statuses == [401] * 3
    assert time.monotonic() - began > 2.9
    assert wire.log().count("was refused: the token") == 1


@fault((13, "cancel"), "a call for a request that has ended", promise="410 to its own workers; 401 to others")
def test_the_right_token_of_a_request_that_has_ended(wire: Wire) -> None:
    with Storage(wire.dbfile) as storage:
        storage.end_pending(wire.request, Kind.NOT_RUN, "enough")
    about = {"worker": "w", "protocol": client.PROTOCOL, "python": client.describe_python()}
    body = client.pack(about, [])
    assert answer(wire.connect(), wire.head(len(body), "join") + body)[0] == 410
    assert wire.exchange()[0] == 410
    assert answer(wire.connect(), wire.head(len(body), "join", token="0" * 64) + body)[0] == 401
