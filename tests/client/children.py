"""Children with real forks, tasks for them, and what comes of these."""

import io
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from sheepdog import client
from sheepdog.bundle.needs import Needs, everything, pickler_of
from sheepdog.client.parent.autopsy import autopsy
from sheepdog.client.parent.child import Child
from sheepdog.client.wire.records import taken_apart


def by_value(buffer: BinaryIO) -> Any:
    """Return a pickler by which the tests' own functions travel without their files."""
    return pickler_of(buffer, everything(), Needs())


def target(kind: str, *rest: Any) -> Any:
    """What a task may do."""
    if kind == "signal":
        os.kill(os.getpid(), rest[0])
    elif kind == "exit":
        os._exit(rest[0])
    elif kind == "sys.exit":
        sys.exit(rest[0])
    elif kind == "raise":
        raise ValueError(rest[0])
    elif kind == "print":
        print(rest[0])
        print(rest[1], file=sys.stderr)
        os.system(f"echo {rest[2]}")
    elif kind == "print and die":
        print("last words", flush=True)
        os.abort()
    elif kind == "close":
        sys.stdout.close()
        os.close(2)
    elif kind == "redirect":
        sys.stdout = sys.stderr = io.StringIO()
        print("into nowhere")
    elif kind == "wait for":
        for begun in rest[1:]:
            Path(begun).touch()
        while not os.path.exists(rest[0]):
            time.sleep(0.005)
    elif kind == "write":
        Path(rest[0]).write_text(str(os.getpid()))
    elif kind == "large":
        return b"x" * rest[0]
    elif kind == "length":
        return len(rest[0])
    elif kind == "unserialisable":
        return iter(x for x in "")
    elif kind == "environment":
        return {key: value for key, value in os.environ.items() if key.startswith("SHEEPDOG")}
    elif kind == "stdin":
        return os.read(0, 10)
    elif kind == "memory":
        return len(bytearray(rest[0]))
    elif kind == "orphan":
        if os.fork() == 0:
            Path(rest[0]).write_text(str(os.getpid()))
            time.sleep(60)
            os._exit(0)
        while not os.path.exists(rest[0]):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "slow to take the next":  # as one that the machine leaves waiting between two tasks
        read = os.read

        def profile(frame: Any, event: str, arg: Any) -> None:
            if event == "c_call" and arg is read:
                sys.setprofile(None)
                while not os.path.exists(rest[0]):
                    time.sleep(0.005)

        sys.setprofile(profile)
    return kind


Start = Callable[..., Child]


def arguments(*args: Any) -> bytes:
    return pickle.dumps((args, {}))


def give(child: Child, *calls: Any, first: int = 1) -> None:
    child.give([(index, 1, arguments(*call)) for index, call in enumerate(calls, first)])


def collect(child: Child, count: int, seconds: float = 20) -> list[client.Outcome]:
    """Wait for so many outcomes."""
    found: list[client.Outcome] = []
    end = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < end, f"{len(found)} outcomes of {count} in {seconds} s: {found}"
        new, ended = child.collect(0.5)
        found += taken_apart(new)
        assert not ended or len(found) == count, found
    assert len(found) == count
    return found


def outcomes(child: Child, count: int, seconds: float = 20) -> list[Any]:
    """Wait for so many outcomes; return (task, kind, value) of each."""
    return [(each.task, each.kind, read(each.value)) for each in collect(child, count, seconds)]


def read(value: Any) -> Any:
    if isinstance(value, bytes):
        return value
    with value:
        return b"".join(client.chunks_of(value))


def death(child: Child, seconds: float = 20) -> tuple[str, Any, list[Any], list[Any]]:
    """Wait for the child's end; return what its parent makes of it, and the outcomes before."""
    found: list[Any] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        new, ended = child.collect(0.5)
        found += taken_apart(new)
        if ended:
            how, rest, outcome, left = autopsy(child)
            return how, outcome, left, found + taken_apart(rest)
    raise AssertionError(f"the end of the child was not noticed in {seconds} s")


def printed(child: Child, *calls: Any) -> list[bytes]:
    give(child, *calls)
    return [outcome.output for outcome in collect(child, len(calls))]


def function_with(names: dict[str, Any], source: str = "def f(*x): return N") -> Any:
    exec(source, names)
    return names["f"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
