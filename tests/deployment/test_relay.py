"""The relay: connections to a host that come out here."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sheepdog.deployment import SSHHost
from sheepdog.deployment.relay import Relay
from tests.deployment.sshd import Sshd
from tests.waiting import until

MB = 1 << 20


class Echo:
    """A server that sends back what it is sent; of the connections that are held, it reads nothing."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.held = threading.Event()
        self.connections: list[socket.socket] = []
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            if not self.held.is_set():
                threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    def stop(self) -> None:
        if self.listener.fileno() < 0:
            return
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for each in self.connections:
            each.close()
        self.thread.join()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.stop()


@pytest.fixture
def relay(far: Callable[..., SSHHost], echo: Echo) -> Iterator[Relay]:
    made = Relay(far(), [sys.executable], echo.port, f"server on {echo.port}")
    made.start()
    until(lambda: made.works, "it is there")
    yield made
    made.leave()
    made.join()


def call(relay: Relay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.last_port), timeout=60)


def receive(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (piece := connection.recv(65536)):
        data += piece
    return bytes(data)


def test_bytes_go_there_and_back(relay: Relay) -> None:
    with call(relay) as one, call(relay) as other:
        one.sendall(b"one")
        other.sendall(b"other")
        assert receive(other, 5) == b"other"
        assert receive(one, 3) == b"one"


def test_much(relay: Relay) -> None:
    data = os.urandom(MB) * 30
    with call(relay) as connection:
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        assert receive(connection, len(data)) == data
        sender.join()


def test_one_that_nobody_reads_holds_up_no_other(relay: Relay, echo: Echo) -> None:
    echo.held.set()
    with call(relay) as stuck:
        stuck.settimeout(0.5)
        with pytest.raises(TimeoutError):
            stuck.sendall(bytes(200 * MB))
        echo.held.clear()
        with call(relay) as other:
            other.sendall(b"x" * MB)
            assert len(receive(other, MB)) == MB


def test_an_end_is_passed_on(relay: Relay, echo: Echo) -> None:
    with call(relay) as connection:
        connection.sendall(b"x")
        assert receive(connection, 1) == b"x"
        echo.connections[0].shutdown(socket.SHUT_RDWR)
        assert connection.recv(1) == b""
    with call(relay):
        until(lambda: len(echo.connections) == 2, "it has arrived")
    assert echo.connections[1].recv(1) == b""


def test_when_nobody_listens_here(relay: Relay, echo: Echo) -> None:
    echo.stop()
    with call(relay) as connection:
        assert connection.recv(1) == b""


def processes(relay: Relay) -> list[int]:
    """Return the processes of a relay on its host, which is this machine."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if relay.key.encode() in words and words[0] == sys.executable.encode():
            found.append(int(name))
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_is_killed_comes_again_at_the_same_place(relay: Relay, how: signal.Signals) -> None:
    [pid] = processes(relay)
    urls = relay.urls
    os.kill(pid, how)
    until(lambda: processes(relay) not in ([], [pid]), "there is another")
    until(lambda: relay.works, "it is there")
    assert relay.urls == urls
    with call(relay) as connection:
        connection.sendall(b"x")
        assert receive(connection, 1) == b"x"


def test_a_session_that_is_cut(relay: Relay) -> None:
    [pid] = processes(relay)
    relay.host.close()
    until(lambda: processes(relay) not in ([], [pid]), "there is another")


def test_the_one_before_gives_its_port_back(relay: Relay) -> None:
    """Its session may have been cut without its knowing."""
    [pid] = processes(relay)
    again = Relay(relay.host, relay.pythons, relay.port, f"server on {relay.port}", relay.urls)
    again.start()
    try:
        until(lambda: again.works, "it is there")
        assert again.last_port == relay.last_port
        assert pid not in processes(relay)
    finally:
        again.leave()
        again.join()


def test_a_port_that_is_taken(far: Callable[..., SSHHost], echo: Echo) -> None:
    with socket.create_server(("", 0)) as taken:
        before = f"relay://head:{taken.getsockname()[1]}"
        made = Relay(far(), [sys.executable], echo.port, f"server on {echo.port}", [before])
        made.start()
        until(lambda: made.works, "it is there")
        assert made.last_port != taken.getsockname()[1]
        made.leave()
        made.join()


def test_it_leaves_nothing(relay: Relay) -> None:
    assert len(processes(relay)) == 1
    relay.leave()
    relay.join()
    until(lambda: not processes(relay), "it has ended")


def test_one_that_cannot_begin_says_why(far: Callable[..., SSHHost], echo: Echo) -> None:
    made = Relay(far(), ["/nowhere/python3", "false"], echo.port, f"server on {echo.port}")
    made.start()
    until(lambda: made.trouble, "it has failed")
    assert made.trouble.endswith("none of these is a Python there, 3.6 or newer: /nowhere/python3, false")
    made.leave()
    made.join()


def test_the_first_python_that_will_do_is_taken(sshd: Sshd, far: Callable[..., SSHHost], echo: Echo) -> None:
    """Of commands, as the options have them: quoted for a shell."""
    (sshd.directory / "home/of mine").symlink_to(sys.executable)
    made = Relay(far(), ["/nowhere/python3", "\"$HOME\"/'of mine' -I"], echo.port, f"server on {echo.port}")
    made.start()
    until(lambda: made.works, "it is there")
    made.leave()
    made.join()


def test_workers_are_told_of_one_before_until_it_is_there(far: Callable[..., SSHHost], echo: Echo) -> None:
    before = ("relay://head:4000", "relay://10.0.0.1:4000")
    made = Relay(far(), [sys.executable], echo.port, f"server on {echo.port}", before)
    assert (made.urls, made.last_port) == (before, 4000)
