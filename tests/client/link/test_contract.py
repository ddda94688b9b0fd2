"""What every link must hold. Another link is one more entry in LINKS, with what is on its other side."""

import itertools
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sheepdog.client import PROTOCOL, RESULT, chunks_of, describe_python
from sheepdog.client.link import Later, Link, Over, Refused, make_link
from tests.client.link.other_sides import HttpsSide, OtherSide, large
from tests.faults import fault
from tests.waiting import until

pytestmark = pytest.mark.slow

LINKS = [HttpsSide]

ABOUT = {"worker": "w", "host": "here", "pid": 7, "element": "1", "array": 1}
FOREVER = float("inf")


@pytest.fixture(params=LINKS)
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OtherSide]:
    side = request.param(tmp_path)
    yield side
    side.close()


@pytest.fixture
def link(side: OtherSide) -> Iterator[Link]:
    link = make_link(side.secret)
    yield link
    link.close()


Exchange = Callable[..., tuple[dict[str, Any], list[bytes]]]


@pytest.fixture
def exchange(link: Link) -> Exchange:
    """Make a call as a worker does, each with its number; return the reply."""
    numbers = itertools.count(2)

    def exchange(*blobs: Any, seconds: float = FOREVER, **header: Any) -> tuple[dict[str, Any], list[bytes]]:
        header = {"want": 0, "holding": [], "outcomes": [], **header, **ABOUT, "call": next(numbers)}
        reply, found = link.exchange(header, blobs, time.monotonic() + seconds)
        return reply, [read(blob) for blob in found]

    return exchange


def join(link: Link) -> tuple[dict[str, Any], list[bytes]]:
    settings, blobs = link.join({**ABOUT, "protocol": PROTOCOL, "python": describe_python(), "call": 1})
    return settings, [read(blob) for blob in blobs]


def read(blob: Any) -> bytes:
    data = b"".join(chunks_of(blob))
    if not isinstance(blob, bytes):
        blob.close()
    return data


def outcome(task: int) -> list[Any]:
    return [task, 1, RESULT, 0.1, 0, None, 0]


def test_joining_gives_the_settings_and_the_function(link: Link) -> None:
    settings, blobs = join(link)
    assert blobs == [b"function", large()]
    assert settings["max_value"] > len(large())
    assert link.silence == 10.0  # of a lease of 75 s


def test_what_goes_there_and_back_is_unchanged(side: OtherSide, link: Link, exchange: Exchange) -> None:
    join(link)
    reply, arguments = exchange(want=2)
    assert (reply["tasks"], arguments) == ([[1, 1], [2, 1]], [b"one", b"two"])
    reply, arguments = exchange(want=1, holding=[[1, 2, 1]])
    assert (reply["tasks"], arguments) == ([[3, 1]], [large()])
    with tempfile.TemporaryFile() as file:
        file.write(large())
        reply, _ = exchange(b"small", b"said", file, b"", b"", b"", outcomes=[outcome(1), outcome(2), outcome(3)])
    assert reply["stored"] == 3
    assert side.results() == {1: b"small", 2: large(), 3: b""}


@fault(21, "a worker whose token is wrong", promise="it hears so at its first call")
def test_a_wrong_token_is_refused(side: OtherSide) -> None:
    link = make_link({**side.secret, "token": "another"})
    with pytest.raises(Refused, match="token"):
        join(link)
    link.close()


def test_a_request_that_has_ended_is_over(side: OtherSide, link: Link, exchange: Exchange) -> None:
    join(link)
    side.end()
    with pytest.raises(Over):
        exchange()


def test_a_server_that_is_busy_says_for_how_long(side: OtherSide) -> None:
    link = make_link(side.be_busy(7))
    with pytest.raises(Later) as caught:
        join(link)
    assert caught.value.seconds == 7
    link.close()


def test_a_server_that_is_away_may_come_back(side: OtherSide, link: Link, exchange: Exchange) -> None:
    join(link)
    side.go_away()
    for _ in range(2):
        with pytest.raises(Later) as caught:
            exchange()
        assert caught.value.seconds == 0


@fault((19, "port taken"), "a server goes on at another place", promise="the link finds it, and says where it is")
def test_a_server_that_has_moved_is_found(side: OtherSide, link: Link, exchange: Exchange) -> None:
    join(link)
    where = link.where
    side.move()
    with pytest.raises(Later):
        exchange()
    assert link.where != where
    assert exchange(want=1)[1] == [b"one"]


@fault(12, "the reply to a worker's call is lost", promise="it calls again; nothing is stored twice, or lost")
def test_a_call_that_is_repeated_after_a_lost_reply_does_no_harm(
    side: OtherSide, link: Link, exchange: Exchange
) -> None:
    join(link)
    exchange(want=1)
    side.lose_reply()
    with pytest.raises(Later):
        exchange(b"first", b"", outcomes=[outcome(1)], want=1)
    assert side.results() == {1: b"first"}
    side.mend()
    _, arguments = exchange(b"first", b"", outcomes=[outcome(1)], want=1)
    assert side.results() == {1: b"first"}
    assert arguments == [b"two"]


def test_a_call_that_stands_still_ends_at_its_deadline(side: OtherSide, link: Link, exchange: Exchange) -> None:
    join(link)
    side.hold_replies()
    start = time.monotonic()
    with pytest.raises(Later):
        exchange(seconds=0.3)
    assert time.monotonic() - start > 0.2


@pytest.mark.parametrize("by", ["a thread", "a signal"])
def test_a_call_under_way_is_interrupted(side: OtherSide, link: Link, exchange: Exchange, by: str) -> None:
    join(link)
    held = side.hold_replies()
    before = signal.signal(signal.SIGUSR1, lambda *_: link.interrupt())

    def interrupt() -> None:
        held()
        link.interrupt() if by == "a thread" else os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(Later):
            exchange()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    side.mend()
    assert exchange(want=1)[1] == [b"one"]


def test_an_interruption_between_two_calls_changes_nothing(link: Link, exchange: Exchange) -> None:
    link.interrupt()
    join(link)
    link.interrupt()
    assert exchange(want=1)[1] == [b"one"]


def test_what_is_closed_holds_nothing_and_can_be_used_again(link: Link, exchange: Exchange) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    join(link)
    assert descriptors() >= before
    link.close()
    link.close()
    until(lambda: descriptors() == before, "the other end is closed, too")  # it is in this process
    assert exchange(want=1)[1] == [b"one"]


@pytest.mark.parametrize("address", ["carrier-pigeon://loft", "here:1234", ""])
def test_an_address_of_no_link_says_what_to_do(address: str) -> None:
    with pytest.raises(Refused, match="submit the request again"):
        make_link({"urls": [address]})
