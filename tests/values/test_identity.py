"""Telling processes apart, and whether they live; with real ones."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from sheepdog.values import identity as process
from tests.waiting import until

WAITS = """
import json, sys
from sheepdog.values.identity import sign
print(json.dumps(sign()), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """Another process, and its signature."""
    with subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        yield other, json.loads(other.stdout.readline())
        other.kill()


def test_a_process_lives_until_it_ends(other: tuple[subprocess.Popen[bytes], dict[str, Any]]) -> None:
    program, signature = other
    assert signature["pid"] == program.pid
    assert process.lives(signature) is True
    program.kill()
    program.wait()
    assert process.lives(signature) is False


def test_what_has_the_same_number_is_another_process() -> None:
    signature = process.sign()
    assert process.lives(signature) is True
    assert process.lives({**signature, "started": "1"}) is False
    assert process.lives({**signature, "boot": "before the machine was started"}) is False


def test_what_lives_in_another_container_cannot_be_seen() -> None:
    assert process.lives({**process.sign(), "space": "pid:[1]"}) is None


def test_a_stopped_process(other: tuple[subprocess.Popen[bytes], dict[str, Any]]) -> None:
    program, _ = other
    assert not process.is_stopped(program.pid)
    os.kill(program.pid, signal.SIGSTOP)
    until(lambda: process.is_stopped(program.pid), "it is stopped")
    os.kill(program.pid, signal.SIGCONT)
    until(lambda: not process.is_stopped(program.pid), "it goes on")


def test_no_process_is_not_stopped() -> None:
    assert not process.is_stopped(2**22 + 1)
