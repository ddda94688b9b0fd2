"""Dialling: which of several addresses is taken, and what is said of the others."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sheepdog.client.link import dial as dial_module
from sheepdog.client.link import make_link
from sheepdog.client.link.dial import Address, Dialling, Unreachable, addresses, named
from sheepdog.client.link.https import pinned
from sheepdog.server.certificate import ensure_certificate
from sheepdog.server.http.tls import make_context
from sheepdog.storage import Storage
from tests.client.shepherd import Shepherd
from tests.faults import fault
from tests.waiting import until

NOWHERE = 1  # a port at which nobody listens


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Those of a server and of its workers."""
    dbfile = str(tmp_path_factory.mktemp("server") / "database.sqlite")
    with Storage(dbfile) as storage:
        storage.initdb()
        ensure_certificate(storage)
        certificate = storage.get_setting("certificate")
    return make_context(dbfile), pinned(certificate)


class Place:
    """Somewhere at which something answers: TLS with a context, or nothing at all."""

    def __init__(self, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.context = context
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self.listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        self.thread = threading.Thread(target=self.answer)
        self.thread.start()

    def answer(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            if self.context is not None:
                with suppress(OSError):
                    self.connections.append(self.context.wrap_socket(connection, server_side=True))

    def stop(self) -> None:
        if self.listener.fileno() < 0:
            return
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        for each in (self.listener, *self.connections):
            each.close()


Make = Callable[..., Place]


@pytest.fixture
def place() -> Iterator[Make]:
    made: list[Place] = []

    def make(context: ssl.SSLContext | None = None, port: int = 0) -> Place:
        made.append(Place(context, port))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def direct(port: int) -> Address:
    return Address("direct", "127.0.0.1", port)


def relay(port: int) -> Address:
    return Address("relay", "127.0.0.1", port)


def dial(context: ssl.SSLContext, *wanted: Address, timeout: float = 60.0) -> tuple[Address, dict[Address, str]]:
    dialling = Dialling(context, wanted, timeout)
    sock, address = dialling.run(lambda: wanted, lambda: False)
    sock.close()
    return address, dialling.reasons


def test_addresses() -> None:
    urls = [
        "relay://head:2",
        "https://laptop:1",
        "https://[fe80::1]:3",
        "ftp://laptop:4",
        "relay://",
        "nonsense",
        "relay://x:y",
    ]
    found = addresses(urls)
    assert [named(each) for each in found] == ["laptop:1", "[fe80::1]:3", "head:2"]
    assert [each.way for each in found] == ["direct", "direct", "relay"]


def test_the_better_way_is_taken(contexts: tuple[ssl.SSLContext, ssl.SSLContext], place: Make) -> None:
    here, there = place(contexts[0]), place(contexts[0])
    for _ in range(5):
        assert dial(contexts[1], relay(there.port), direct(here.port))[0] == direct(here.port)


def test_one_that_refuses(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], place: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = place(contexts[0])
    monkeypatch.setattr(dial_module, "HEAD_START", 1000.0)  # it is not waited for
    found, reasons = dial(contexts[1], direct(NOWHERE), relay(there.port))
    assert (found, reasons) == (relay(there.port), {direct(NOWHERE): "Connection refused"})


@fault(
    "way home",
    "somebody else answers at the port of the server or of the relay, or something that never says anything",
    promise="the worker refuses it, and takes another way",
)
@pytest.mark.parametrize("stranger", [True, False])
def test_somebody_else_answers(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], place: Make, tmp_path: Path, stranger: bool
) -> None:
    with Storage(tmp_path / "other.sqlite") as storage:
        storage.initdb()
        ensure_certificate(storage)
    other = place(make_context(str(tmp_path / "other.sqlite")) if stranger else None)
    there = place(contexts[0])
    found, reasons = dial(contexts[1], direct(other.port), relay(there.port))
    assert found == relay(there.port)
    if stranger:
        assert "its certificate is not the server's" in reasons[direct(other.port)]


def test_no_address_answers(contexts: tuple[ssl.SSLContext, ssl.SSLContext], place: Make) -> None:
    silent = place(None)
    unknown = Address("direct", "no-such-host.invalid", 1)
    with pytest.raises(Unreachable) as caught:
        dial(contexts[1], direct(NOWHERE), unknown, relay(silent.port), timeout=2.0)
    reasons = caught.value.reasons
    assert reasons[direct(NOWHERE)] == "Connection refused"
    assert reasons[unknown]
    assert reasons[relay(silent.port)].startswith("no answer for ")
    assert sorted(str(caught.value).split("; ")) == sorted(f"{named(each)}: {why}" for each, why in reasons.items())
    with pytest.raises(Unreachable, match="has told no address yet"):
        dial(contexts[1])


def test_a_name_server_that_does_not_answer_holds_up_no_other_address(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], place: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, over, look_up = place(contexts[0]), threading.Event(), socket.getaddrinfo

    def silent(host: str, *rest: Any) -> Any:
        if host == "laptop":
            over.wait()
            raise socket.gaierror("Temporary failure in name resolution")
        return look_up(host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    laptop = Address("direct", "laptop", 1)
    assert dial(contexts[1], laptop, relay(there.port))[0] == relay(there.port)
    with pytest.raises(Unreachable, match="laptop:1: its name has not been found for "):
        dial(contexts[1], laptop, timeout=0.5)
    over.set()


def test_an_address_that_is_told_meanwhile(contexts: tuple[ssl.SSLContext, ssl.SSLContext], place: Make) -> None:
    silent, there = place(None), place(contexts[0])
    dialling = Dialling(contexts[1], [direct(silent.port)], 60.0)
    sock, found = dialling.run(lambda: [relay(there.port)], lambda: False)
    sock.close()
    assert found == relay(there.port)


def test_one_that_comes_again_meanwhile(contexts: tuple[ssl.SSLContext, ssl.SSLContext], place: Make) -> None:
    """As a relay does, while another address says nothing."""
    silent, gone = place(None), place(contexts[0])
    gone.stop()
    dialling = Dialling(contexts[1], [direct(silent.port), relay(gone.port)], 60.0)

    def more() -> list[Address]:
        if relay(gone.port) in dialling.reasons:
            place(contexts[0], gone.port)
        return []

    sock, found = dialling.run(more, lambda: False)
    sock.close()
    assert found == relay(gone.port)


def test_all_that_a_name_means_is_called(contexts: tuple[ssl.SSLContext, ssl.SSLContext], place: Make) -> None:
    """localhost is ::1, where nobody listens, and 127.0.0.1."""
    here = place(contexts[0])
    assert dial(contexts[1], Address("direct", "localhost", here.port))[0].port == here.port


def test_it_can_be_stopped(contexts: tuple[ssl.SSLContext, ssl.SSLContext], place: Make) -> None:
    silent = place(None)
    stopped = threading.Event()
    threading.Timer(0.2, stopped.set).start()
    with pytest.raises(Unreachable):
        Dialling(contexts[1], [direct(silent.port)], 1000.0).run(list, stopped.is_set)


def test_a_link_says_which_way_it_took_and_why(shepherd: Shepherd) -> None:
    server = shepherd.serve()
    port = server.url.rpartition(":")[2]
    both = ["https://127.0.0.1:1", f"relay://127.0.0.1:{port}"]
    link = make_link({**shepherd.secret(server), "urls": both, "directory": str(shepherd.directory)})
    link.join({"worker": "w"})
    link.close()
    assert link.way == ("relay", f"127.0.0.1:{port}", "127.0.0.1:1: Connection refused")


def test_a_link_looks_for_a_better_way_now_and_then(shepherd: Shepherd) -> None:
    server = shepherd.serve()
    url = f"relay://127.0.0.1:{server.url.rpartition(':')[2]}"
    link = make_link({**shepherd.secret(server), "urls": [url], "directory": str(shepherd.directory)})
    link.join({"worker": "w"})
    assert link.way[0] == "relay"
    link.urls = [server.url, url]  # type: ignore[attr-defined]
    link.join({"worker": "w"})
    assert link.way[0] == "relay"  # it has looked just now
    link.next_look = 0.0  # type: ignore[attr-defined]
    link.join({"worker": "w"})
    assert link.way[0] == "direct"
    link.close()
    until(lambda: link.connection is None, "it is closed")  # type: ignore[attr-defined]
