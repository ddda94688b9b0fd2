"""Tasks that misbehave, and large values: the others have their results."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import sheepdog
from tests.faults import fault
from tests.local import DB, errors
from tests.wire import wide_rows

pytestmark = pytest.mark.usefixtures("place")


NEXT = "that is its error, and the next task is run"
LEFT = fault((29, "sys.exit"), "a task that calls sys.exit or os._exit, or raises KeyboardInterrupt", promise=NEXT)
CRASHED = fault(6, "a task that crashes by SIGSEGV", promise=NEXT + "; what it printed last is kept")
ABORTED = fault((31, "abort"), "C code that aborts", promise=NEXT)
UNFIT = fault(26, "a result that cannot be serialised", promise=NEXT)
TOO_LARGE = fault((31, "memory"), "a task beyond its limit of memory", promise=NEXT)


def kill_myself() -> None:
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("function", "summary"),
    [
        pytest.param(lambda: sys.exit(99), "SystemExit: 99", marks=LEFT),
        pytest.param(lambda: (_ for _ in ()).throw(KeyboardInterrupt), "KeyboardInterrupt", marks=LEFT),
        pytest.param(lambda: os._exit(0), "the task's process exited with status 0 before the", marks=LEFT),
        pytest.param(kill_myself, "the task's process was killed by signal 11 (SIGSEGV) before the", marks=CRASHED),
        pytest.param(os.abort, "the task's process was killed by signal 6 (SIGABRT) before the", marks=ABORTED),
        pytest.param(threading.Lock, "the result, a lock, cannot be serialised: TypeError: cannot", marks=UNFIT),
        pytest.param(lambda: bytearray(4 << 30), "out of memory: its process had", marks=TOO_LARGE),
    ],
)
def test_the_next_task_is_run_all_the_same(function: Callable[..., object], summary: str) -> None:
    def f(x: int) -> int:
        if x == 1:
            return function()  # type: ignore[return-value]
        return x

    assert sheepdog.map(f, [(i,) for i in range(4)], {"workers": 1, "memory": "2G"}, verbose=False) == [0, None, 2, 3]
    [error] = errors(1)
    assert error.splitlines()[0].startswith(summary)
    assert ("last words" in error) == (function is kill_myself)


@fault(27, "a result that cannot be loaded here", promise="that task's error; all other results are there")
def test_what_cannot_be_loaded_here_withholds_nothing_else() -> None:
    """A result, and arguments, whose class cannot be made again from its pickle."""

    class Odd(Exception):
        def __init__(self, code: int, text: str) -> None:
            super().__init__(text)

    def f(x: object) -> object:
        return Odd(1, "bad") if x == 1 else x

    assert sheepdog.map(f, [(0,), (1,), (2,), (Odd(2, "worse"),)], verbose=False) == [0, None, 2, None]
    results = sheepdog.get_results(1, DB)
    assert [result for _, result in results] == [0, None, 2, None]
    assert "cannot be loaded" in results[3][0]
    first, second = errors(1)
    assert first.startswith("the result cannot be loaded here: TypeError: ")
    assert second.startswith("the arguments cannot be loaded here: TypeError: ")


@fault(
    (30, "fork"), "a function that forks, and returns in both processes", promise="one outcome, and the worker goes on"
)
def test_a_function_that_forks_and_returns_twice() -> None:
    def f(x: int) -> int:
        if x % 50 == 0:
            os.fork()
        return x

    assert sheepdog.map(f, [(x,) for x in range(300)]) == list(range(300))


@fault(
    (28, "stdout flooded"),
    "a task that writes megabytes to descriptor 1",
    promise="the file that catches it stays small",
)
def test_output_without_end_does_not_fill_the_disk() -> None:
    def f() -> int:
        import os

        sizes = []
        for _ in range(25):
            os.write(1, b"x" * (1 << 20))
            time.sleep(0.1)
            sizes.append(os.fstat(1).st_blocks * 512)
        return min(sizes[10:])

    [smallest] = sheepdog.map(f, [()])
    assert smallest < 11 << 20


@fault(34, "a worker's own umask", promise="tasks have their user's")
def test_files_that_a_task_makes_have_the_user_s_mode(place: Path) -> None:
    before = os.umask(0o027)
    try:
        sheepdog.map(lambda: open("made", "w").close(), [()])
    finally:
        os.umask(before)
    assert (place / "made").stat().st_mode & 0o777 == 0o640


def test_a_slow_task_does_not_hold_quick_ones_back() -> None:
    """A batch is handed out by the time the tasks took so far; what waits behind a slow one goes to another worker."""

    def f(i: int, slow: int) -> tuple[float, int]:
        import os

        if i == slow:
            time.sleep(4)
        return time.time(), os.getpid()

    results = sheepdog.map(f, [(i, 500) for i in range(2000)], {"workers": 2})
    slow_end = results[500][0]
    assert sum(end > slow_end for end, _ in results) < 200
    assert len({pid for _, pid in results}) == 2


def test_large_arguments_and_results() -> None:
    blob = os.urandom(1 << 20) * 12
    assert sheepdog.map(lambda data: data[::-1], [(blob,), (blob[5:],)]) == [blob[::-1], blob[5:][::-1]]
    assert sheepdog.map(lambda: len(blob), [()]) == [len(blob)]  # it travels in the function


def test_a_result_of_200_megabytes_leaves_the_server_small() -> None:
    """Fetched by a process of its own: this one is to stay small, too."""
    code = "import sheepdog; [result] = sheepdog.map(lambda n: b'x' * n, [(200_000_000,)]); print(len(result))"
    assert subprocess.check_output([sys.executable, "-c", code], timeout=120) == b"200000000\n"
    if not wide_rows():
        return  # this Python's sqlite3 cannot write it in pieces
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{sheepdog.Server(dbfile=DB).pid}/status").read_text())
    assert peak is not None
    assert int(peak[1]) < 150_000
