"""The line to the server."""

import socket
import time
from pathlib import Path

import pytest

from sheepdog.client.link import Later, make_link
from sheepdog.client.link.https import Connection
from tests.client.shepherd import Shepherd
from tests.faults import fault
from tests.waiting import until


@pytest.mark.slow
@pytest.mark.parametrize(("after", "least"), [("2", 2.0), ("999", 0.0), ("soon", 0.0)])
@fault(50, "a server that is busy", promise="it says when to come again, and the worker comes then")
def test_a_server_that_is_busy_is_given_the_time_it_asks_for(shepherd: Shepherd, after: str, least: float) -> None:
    server = shepherd.serve(("result = 1",))
    worker = shepherd.work(server)
    server.status = (503, {"Retry-After": after})
    until(lambda: len(server.times) >= 1 or "trying on" in shepherd.log(), "it has been refused")
    start = time.monotonic()
    server.status = (200, {})
    assert worker.wait(60) == 0
    assert time.monotonic() - start >= least * 0.9
    assert server.results() == [1]


def test_a_small_call_goes_as_a_whole() -> None:
    """In one record of TLS: the server wakes once."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with here, there:
        connection = Connection("localhost")
        connection.sock = here
        connection.behind = b"body"
        connection.request("POST", "/", None, {"Content-Length": "4"})
        assert there.recv(1 << 16).endswith(b"\r\n\r\nbody")
        connection.close()


@fault(
    (19, "port taken"),
    "a worker has lost its server, which is at another port now",
    promise="it reads where, and goes on",
)
def test_a_server_that_has_moved_is_found_again(shepherd: Shepherd, tmp_path: Path) -> None:
    first = shepherd.serve(("result = 1",))
    second = shepherd.serve(("result = 1",))
    first.status = (500, {})
    worker = shepherd.work(first, certificate=first.certificate + second.certificate)
    until(lambda: "trying on" in shepherd.log(), "the first server fails")
    shepherd.tell(second)
    assert worker.wait(60) == 0
    assert second.results() == [1]
    assert f"the server is now at {second.url}" in shepherd.log()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"urls": []}', '{"urls": [7]}', '{"urls": "x"}', '{"urls": ["https://x"]}']
)
def test_addresses_that_cannot_be_read_are_left_as_they_are(shepherd: Shepherd, text: str) -> None:
    server = shepherd.serve()
    server.status = (500, {})
    link = make_link({**shepherd.secret(server), "directory": str(shepherd.directory)})
    (shepherd.directory / "secret.json").write_text(text)
    with pytest.raises(Later):
        link.join({})
    assert link.where == server.url


@pytest.mark.parametrize("runs", [False, True])
@fault(
    "another address",
    "a worker does not reach its server, and its secret has been taken away",
    promise="it ends within ten minutes, whatever it runs: the request has ended",
)
@pytest.mark.slow
def test_who_has_no_secret_any_more_and_no_server_ends(shepherd: Shepherd, tmp_path: Path, runs: bool) -> None:
    started = tmp_path / "started"
    server = shepherd.serve(("open(args[0], 'w').close(); import time; time.sleep(1000)", str(started)))
    if not runs:
        server.status = (503, {})
    worker = shepherd.work(server, {"GONE_PATIENCE": 0.5}, patience=86400.0)
    until(started.exists if runs else lambda: "trying on" in shepherd.log(), "it has begun")
    server.status = (503, {})
    until(lambda: "trying on" in shepherd.log(), "it does not reach its server")
    (shepherd.directory / "secret.json").rename(tmp_path / "secret.json")
    assert worker.wait(60) == 0
    assert "ends: the request has ended: its secret is gone" in shepherd.log()
    assert not (shepherd.directory / "spool").exists()


def test_a_secret_that_is_away_for_a_moment_is_no_end(shepherd: Shepherd, tmp_path: Path) -> None:
    server = shepherd.serve()
    server.status = (500, {})
    shepherd.tell(server)
    link = make_link({**shepherd.secret(server), "directory": str(shepherd.directory)})
    secret = shepherd.directory / "secret.json"
    for _ in range(2):
        secret.rename(tmp_path / "secret.json")
        with pytest.raises(Later):
            link.join({})
        assert link.gone_since  # type: ignore[attr-defined]
        (tmp_path / "secret.json").rename(secret)
        with pytest.raises(Later):
            link.join({})
        assert link.gone_since is None  # type: ignore[attr-defined]
