"""The end of the server process, and what it writes."""

import signal
import subprocess
import sys

from sheepdog import client
from sheepdog.server.main import Seldom
from sheepdog.storage import Storage
from tests.faults import fault
from tests.wire import WORKER, Make, answer, ended


@fault(
    "SIGTERM",
    "SIGTERM to the server while a worker calls",
    promise="the call is answered and its outcome stored; then the server ends, with status 0",
)
def test_a_call_under_way_is_answered_before_the_end(make: Make) -> None:
    wire = make().start(own=True)
    silent = [wire.connect(tls=number % 2 == 0) for number in range(10)]
    kept, under_way = wire.connect(), wire.connect()
    assert wire.exchange(kept)[0] == 200
    header = {**WORKER, "worker": "u", "call": 1, "outcomes": [[1, 1, 0, 0.1]]}
    body = client.pack(header, [1, 0]) + b"r"
    under_way.sendall(wire.head(len(body)) + body[:-1])
    assert wire.exchange()[0] == 200  # so the other has been begun
    wire.process.terminate()
    assert all(ended(connection) for connection in [kept, *silent])
    assert wire.process.poll() is None
    assert answer(under_way, body[-1:])[0] == 200
    under_way.close()
    assert wire.process.wait(60) == 0
    with Storage(wire.dbfile) as storage:
        assert storage.get_results(wire.request) == [(b"args", b"r")]


@fault("SIGTERM", "SIGTERM to the server while somebody never ends a call", promise="the server ends in seconds")
def test_who_never_ends_its_call_does_not_delay_the_end_for_long(make: Make) -> None:
    wire = make().start(own=True)
    connection = wire.connect()
    connection.sendall(wire.head(100))
    assert wire.exchange()[0] == 200
    wire.process.send_signal(signal.SIGTERM)
    assert wire.process.wait(60) == 0
    assert "Traceback" not in wire.log(), wire.log()


def test_the_same_words_once_a_minute() -> None:
    import logging

    seldom = Seldom()

    def said(words: str) -> str:
        record = logging.LogRecord("name", logging.WARNING, "", 0, words, (), None)
        return record.getMessage() if seldom.filter(record) else ""

    assert said("baa") == "baa"
    assert said("moo") == "moo"
    assert [said("baa") for _ in range(9)] == [""] * 9
    when, count = seldom.passed["baa"]
    seldom.passed["baa"] = when - 61.0, count
    assert said("baa") == "baa (and 9 times since this was last said)"


def test_the_server_starts_without_what_its_first_worker_does_not_need() -> None:
    """The first result of a program waits for these imports: each of them takes milliseconds."""
    later = ("sheepdog.schedulers", "sheepdog.deployment", "sheepdog.server.scheduling", "starlette", "email.message")
    code = f"import sys, sheepdog.server.main; assert not {{*{later}}} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
