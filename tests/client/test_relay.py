"""The program on the head node, frame by frame."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sheepdog.client import relay
from sheepdog.client.relay import BEAT, CLOSE, DATA, HEAD, HELLO, OPEN, ROOM, WINDOW, own_addresses
from tests.waiting import until

KEY = "sheepdog-of-this-test"


class Program:
    """The relay, started by a Python, and the other end of its session."""

    def __init__(self, python: str, port: int = 0, key: str = KEY) -> None:
        command = [python, "-I", relay.__file__, str(port), f"{key}-{os.getpid()}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.hello = json.loads(self.receive(HELLO)[1])
        self.port: int = self.hello["port"]

    def receive(self, kind: int) -> tuple[int, bytes]:
        """Return the number and the bytes of the next frame of a kind; beats are passed over."""
        assert self.process.stdout is not None
        while True:
            found, number, length = HEAD.unpack(self.process.stdout.read(HEAD.size))
            data = self.process.stdout.read(length)
            if found != BEAT:
                assert found == kind
                return number, data

    def send(self, kind: int, number: int, data: bytes = b"") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(HEAD.pack(kind, number, len(data)) + data)
        self.process.stdin.flush()

    def call(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 60)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def program() -> Iterator[Program]:
    made = Program(sys.executable)
    yield made
    made.end()


def test_with_each_python(each_python: Path) -> None:
    program = Program(str(each_python))
    try:
        with program.call() as wire:
            number, _ = program.receive(OPEN)
            wire.sendall(b"there")
            assert program.receive(DATA) == (number, b"there")
            program.send(DATA, number, b"and back")
            assert wire.recv(100) == b"and back"
            program.send(CLOSE, number)
            assert wire.recv(1) == b""
    finally:
        program.end()


def test_standard_input_and_output_may_be_one_socket() -> None:
    """As some sshd have it."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as words:
        command = [sys.executable, "-I", relay.__file__, "0", f"{KEY}-{os.getpid()}"]
        process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno())
        try:
            kind, _, length = HEAD.unpack(words.read(HEAD.size))
            assert kind == HELLO
            port = json.loads(words.read(length))["port"]
            ours.sendall(HEAD.pack(BEAT, 0, 0))
            assert HEAD.unpack(words.read(HEAD.size)) == (BEAT, 0, 0)
            with socket.create_connection(("127.0.0.1", port), 60) as wire:
                kind, number, _ = HEAD.unpack(words.read(HEAD.size))
                assert kind == OPEN
                ours.sendall(HEAD.pack(DATA, number, 5) + b"there")
                assert wire.recv(100) == b"there"
            ours.shutdown(socket.SHUT_RDWR)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()


def test_it_says_by_which_names_it_can_be_called(program: Program) -> None:
    assert program.hello["names"] == own_addresses()
    assert not any(name.startswith(("127.", "localhost")) or name == "::1" for name in own_addresses())


def test_no_more_is_sent_than_the_other_side_takes(program: Program) -> None:
    with program.call() as wire:
        number, _ = program.receive(OPEN)
        wire.settimeout(1.0)
        with pytest.raises(TimeoutError):
            wire.sendall(bytes(64 * WINDOW))
        came = 0
        while came < WINDOW:
            came += len(program.receive(DATA)[1])
        program.send(ROOM, number, b"%d" % WINDOW)
        assert program.receive(DATA)[0] == number


@pytest.mark.parametrize(
    "data", [b"\xff" * 100, HEAD.pack(DATA, 1, 1 << 30), HEAD.pack(99, 1, 0), HEAD.pack(HELLO, 0, 1) + b"{"]
)
def test_what_is_no_frame_ends_it(program: Program, data: bytes) -> None:
    assert program.process.stdin is not None
    program.process.stdin.write(data)
    program.process.stdin.flush()
    assert program.process.wait(60) == 0


@pytest.mark.parametrize("how", ["input", "output", "SIGTERM", "SIGHUP"])
def test_it_ends_with_its_session(program: Program, how: str) -> None:
    if how.startswith("SIG"):
        os.kill(program.process.pid, getattr(signal, how))
    else:
        stream: Any = program.process.stdin if how == "input" else program.process.stdout
        stream.close()
    assert program.process.wait(60) == 0


def test_one_of_the_same_key_takes_its_place(program: Program) -> None:
    other = Program(sys.executable, program.port)
    try:
        assert other.port == program.port
        until(lambda: program.process.poll() is not None, "the first has ended")
    finally:
        other.end()


def test_one_of_another_key_does_not(program: Program) -> None:
    other = Program(sys.executable, program.port, "sheepdog-of-another")
    try:
        assert other.port != program.port
        assert program.process.poll() is None
    finally:
        other.end()
