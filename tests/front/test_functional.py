"""The main road on this machine: the public functions, with real worker processes, server and store."""

import enum
import functools
import operator
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import sheepdog
from sheepdog.errors import (
    ArgumentsError,
    ConfigError,
    HostError,
    PortInUse,
    RequestNotFound,
    SchedulerError,
    SerialisationError,
    StorageError,
)
from sheepdog.schedulers.archives import WORKER, worker_archive
from sheepdog.storage import Storage
from tests.faults import fault
from tests.local import DB, errors, parents_of, workers_of
from tests.tasks import sleepy
from tests.waiting import until
from tests.wire import wide_rows

pytestmark = pytest.mark.usefixtures("place")


# --- what is promised of map


def test_the_readme_s_first_line() -> None:
    code = "import sheepdog; print(sheepdog.map(lambda a, b: a + b, [(1, 1), (1, 2), (2, 2)]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[2, 3, 4]\n", "")


def test_each_form_of_arguments() -> None:
    def f(a: int, b: int = 2, *rest: int, c: int = 3) -> tuple[object, ...]:
        return a, b, rest, c

    args = (
        {"a": 1} if i == 0 else (1, 5) if i == 1 else [1, 2, 3, 4] if i == 2 else {"a": 0, "c": 9} for i in range(4)
    )
    assert sheepdog.map(f, args) == [(1, 2, (), 3), (1, 5, (), 3), (1, 2, (3, 4), 3), (0, 2, (), 9)]


def test_everything_can_be_named() -> None:
    results = sheepdog.map(f=lambda x: x + y, args=[(1,)], config={"workers": 1}, ns={"y": 2}, verbose=False)  # type: ignore[name-defined] # noqa: F821
    assert results == [3]
    request_id = sheepdog.map_async(f=abs, args=[(-1,)], config=None, ns=None)
    assert sheepdog.get_results(request_id=request_id, dbfile=DB, block=True, verbose=False) == [((-1,), 1)]
    assert sheepdog.get_errors(request_id=request_id, dbfile=DB) == []


def test_no_arguments_at_all() -> None:
    assert sheepdog.map(abs, []) == []
    request_id = sheepdog.map_async(abs, iter(()))
    assert sheepdog.get_results(request_id, DB) == []
    assert sheepdog.get_errors(request_id, DB) == []


def test_order_and_none_for_failures(capfd: pytest.CaptureFixture[str]) -> None:
    assert sheepdog.map(lambda x: 1 / x, [(1,), (0,), (2,), (0,)]) == [1.0, None, 0.5, None]
    said = capfd.readouterr().err
    call = f"sheepdog.get_errors(1, {os.path.abspath(DB)!r})"
    assert said == f"sheepdog: 2 of 4 tasks failed; their errors are in {call}\n"
    assert eval(said.partition("are in ")[2], {"sheepdog": sheepdog}) == sheepdog.get_errors(1, DB)


def test_quiet_when_not_verbose(capfd: pytest.CaptureFixture[str]) -> None:
    assert sheepdog.map(lambda: 1 / 0, [()], verbose=False) == [None]
    assert capfd.readouterr().err == ""


def test_an_error_tells_the_whole_story() -> None:
    def f(x: int) -> float:
        print("working on", x)
        os.write(2, b"and to the descriptor\n")
        return g(x)

    def g(x: int) -> float:
        return 1 / x

    sheepdog.map(f, [(1,), (0,)], verbose=False)
    [(args, error)] = sheepdog.get_errors(1, DB)
    assert args == (0,)
    summary, where, *rest = error.splitlines()
    assert summary == "ZeroDivisionError: division by zero"
    assert re.fullmatch(rf"\(task 2 of request 1, attempt 1, on {os.uname().nodename}, after \d+\.\d\d s\)", where)
    assert "return 1 / x" in error
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-3:] == ["The end of its output:", "and to the descriptor", "working on 0"] or rest[-2:] == [
        "working on 0",
        "and to the descriptor",
    ]
    assert WORKER not in error  # our own frames are of no interest


def test_results_while_it_runs(place: Path) -> None:
    def f(name: str) -> str:
        import pathlib

        while not pathlib.Path(name).exists():
            time.sleep(0.01)
        return name

    names = [str(place / str(i)) for i in range(2)]
    Path(names[0]).touch()
    request_id = sheepdog.map_async(f, [(name,) for name in names], {"workers": 2})
    until(lambda: sheepdog.get_results(request_id, DB, block=False)[0][1], "the first result")
    assert sheepdog.get_results(request_id, DB, block=False) == [((names[0],), names[0]), ((names[1],), None)]
    Path(names[1]).touch()
    assert sheepdog.get_results(request_id, DB) == [((name,), name) for name in names]


def test_progress_is_shown_each_second(capfd: pytest.CaptureFixture[str]) -> None:
    request_id = sheepdog.map_async(lambda x: __import__("time").sleep(x) or 1 / (x - 1.5), [(0,), (1.5,)])
    sheepdog.get_results(request_id, DB, verbose=True)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "sheepdog: 1/2 results, 0 errors"
    assert lines[-1] == "sheepdog: 2/2 results, 1 errors"


def test_environment_of_a_task(place: Path) -> None:
    def f() -> list[str | None]:
        import os

        names = ("SHEEPDOG_REQUEST_ID", "SHEEPDOG_TASK_INDEX", "SHEEPDOG_ATTEMPT")
        return [*map(os.environ.get, names), os.getcwd()]

    assert sheepdog.map(f, [(), ()]) == [["1", str(i), "1", str(place)] for i in (1, 2)]


# --- functions of every kind


class Colour(enum.Enum):
    RED = 1


class Lazy:
    def __init__(self, x: int) -> None:
        self.x = x

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.x


@functools.cache
def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


class Scaler:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, x: int) -> int:
        return self.factor * x

    scale = __call__


constant = 12


def helper(x: int) -> int:
    return x + constant


def of_this_module(x: int) -> int:
    return helper(x) if x < 100 else of_this_module(x // 2)


@pytest.mark.parametrize(
    ("function", "args", "result"),
    [
        (lambda x: x + constant, 1, 13),
        (of_this_module, 1, 13),
        (of_this_module, 150, 87),
        (functools.partial(operator.mul, 6), 7, 42),
        (functools.partial(functools.partial(of_this_module)), 1, 13),
        (Scaler(2), 3, 6),
        (Scaler(2).scale, 3, 6),
        (Scaler(4), 1, 4),
        (lambda c: c is Colour.RED and Colour.RED, Colour.RED, Colour.RED),
        (lambda n, f=helper: f(n), 1, 13),
        ((lambda y: lambda x: x * y)(7), 6, 42),
        (len, "abc", 3),
        (fibonacci, 50, 12586269025),
        (lambda lazy: lazy.double, Lazy(3), 6),
    ],
)
def test_kinds_of_function(function: Callable[..., object], args: object, result: object) -> None:
    [found] = sheepdog.map(function, [(args,)])
    assert found == result
    assert type(found) is type(result)


def test_functions_of_a_script() -> None:
    Path("local_module.py").write_text(
        "import local_helper\nfactor = 2\ndef double(x): return local_helper.times(x, factor)\n"
    )
    Path("local_helper.py").write_text("def times(x, y): return x * y\n")
    Path("script.py").write_text(
        "import sheepdog, local_module\n"
        "class Point:\n"
        "    def __init__(self, x): self.x = x\n"
        "def f(p, n=3): return Point(local_module.double(p.x) + g(n))\n"
        "def g(n): return 1 if n == 0 else n * g(n - 1)\n"
        "points = sheepdog.map(f, [(Point(1),), (Point(2),)])\n"
        "print([type(p) is Point and p.x for p in points])\n"
        "print(sheepdog.map(local_module.double, [(21,)]))\n"
    )
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[8, 10]\n[42]\n", "")


def test_the_namespace_wins_and_is_shared() -> None:
    def f(a: int, b: int) -> int:
        return a + g(b) + constant  # type: ignore[name-defined]

    def g(x: int) -> int:
        return h(x) * 2  # type: ignore[name-defined] # noqa: F821

    namespace = {"constant": 1, "g": g, "h": lambda x: x + constant}
    assert sheepdog.map(f, [(1, 2), (2, 3)], None, namespace) == [1 + 6 + 1, 2 + 8 + 1]


def test_import_made_global_inside_the_function() -> None:
    Path("script.py").write_text(
        "import sheepdog\n"
        "def f(a, b):\n"
        "    global np\n"
        "    import numpy as np\n"
        "    return g(a, b)\n"
        "def g(a, b):\n"
        "    return np.array((a, b)) ** 2\n"
        "print([list(map(int, r)) for r in sheepdog.map(f, [(1, 2), (3, 4)], None, {'g': g})])\n"
    )
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[[1, 4], [9, 16]]\n", "")


# --- tasks that misbehave

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
            sizes.append(os.fstat(1).st_size)
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
    [result] = sheepdog.map(lambda n: b"x" * n, [(200_000_000,)])
    assert len(result) == 200_000_000
    if not wide_rows():
        return  # this Python's sqlite3 cannot write it in pieces
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{sheepdog.Server(dbfile=DB).pid}/status").read_text())
    assert peak is not None
    assert int(peak[1]) < 150_000


# --- wrong input: the culprit is named, and nothing is left behind


@fault(
    26,
    "a function, an argument or a namespace that cannot be serialised",
    promise="an error that names the culprit; nothing is left behind",
)
@pytest.mark.parametrize(
    ("function", "args", "namespace", "kind", "words"),
    [
        (abs, [(1,), 3], None, ArgumentsError, ["item 1 of args is 3", "int"]),
        (abs, ["word"], None, ArgumentsError, ["item 0 of args is 'word'", "(x,)"]),
        (abs, [(1,), (threading.Lock(),)], None, SerialisationError, ["item 1 of args", "_thread.lock"]),
        (3, [(1,)], None, SerialisationError, ["f is 3"]),
        (lambda lock=threading.Lock(): 1, [()], None, SerialisationError, ["<lambda>", "_thread.lock"]),  # type: ignore[misc]
        (abs, [(1,)], {"a": 1, "b": threading.Lock()}, SerialisationError, ["ns['b']", "_thread.lock"]),
        (abs, [(1,)], {"not a name": 1}, SerialisationError, ["'not a name'"]),
        (abs, None, None, TypeError, ["NoneType"]),
    ],
)
def test_what_cannot_travel(
    function: Callable[..., object], args: list[object], namespace: dict[str, object], kind: type, words: list[str]
) -> None:
    with pytest.raises(kind) as caught:
        sheepdog.map(function, args, None, namespace)
    assert all(word in str(caught.value) for word in words)
    assert nothing_left()


def nothing_left() -> bool:
    with Storage(DB) as storage:
        requests = storage.db.execute("SELECT count(*) FROM request").fetchone()[0]
        tasks = storage.db.execute("SELECT count(*) FROM task").fetchone()[0]
    return requests == tasks == 0 and not list(Path("home").glob(".sheepdog/*"))


@fault(41, "a configuration that cannot work", promise="an error that names the key; nothing is left behind")
@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        ({"hots": "fear"}, ConfigError, ["hots", "host"]),
        ({"shell": "'unclosed"}, ConfigError, ["shell", "quoted as for a shell"]),
        ({"shell": "/nonexistent/python"}, SchedulerError, ["/nonexistent/python", "not found", "shell"]),
        ({"host": "no-such-host.invalid"}, HostError, ["no-such-host.invalid", "ssh"]),
    ],
)
def test_wrong_configuration(config: dict[str, object], kind: type, words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        sheepdog.map(abs, [(1,)], config)
    assert all(word in str(caught.value) for word in words)
    assert nothing_left()


@fault(
    19, "a port that is asked for and taken", promise="an error that says which key to change; nothing is left behind"
)
def test_port_in_use() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} .*option port"):
            sheepdog.map(abs, [(1,)], {"port": port})
    assert nothing_left()
    assert sheepdog.map(abs, [(-1,)], {"port": port}) == [1]
    assert sheepdog.Server(dbfile=DB).port == port


@pytest.mark.parametrize(
    ("dbfile", "words"),
    [("/nonexistent/x.sqlite", "cannot be written"), ("/proc/x.sqlite", "cannot be written"), (__file__, "database")],
)
def test_database_that_cannot_be_used(dbfile: str, words: str) -> None:
    with pytest.raises(StorageError, match=words) as caught:
        sheepdog.map(abs, [(1,)], {"dbfile": dbfile})
    assert dbfile in str(caught.value)


@fault(
    (15, "disk full"), "the disk is full when the request is made", promise="an error that names the file and says so"
)
def test_full_disk(place: Path) -> None:
    """On a file system of 1 MiB, in a mount namespace of its own."""
    script = place / "full.py"
    script.write_text(
        "import sheepdog\n"
        "try: sheepdog.map(len, [(bytes(3_000_000),)], {'dbfile': 'small/x.sqlite'})\n"
        "except sheepdog.errors.StorageError as error: print(error)\n"
    )
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    Path("small").mkdir()
    command = 'mount -t tmpfs -o size=1m tmpfs small && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, "sh", sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert "small/x.sqlite" in done.stdout
    assert "the disk is full" in done.stdout


def test_unknown_request() -> None:
    sheepdog.map(abs, [(1,)])
    for call in (sheepdog.get_results, sheepdog.get_errors):
        with pytest.raises(RequestNotFound, match="no request 7"):
            call(7, DB)


@fault(49, "a worker of another Python version", promise="the task's error names both versions and the key to change")
def test_another_python() -> None:
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    prefixes = sorted(Path(sys.base_prefix).parent.glob("3.*"))
    other = next((prefix / "bin/python" for prefix in prefixes if not prefix.name.startswith(f"{mine}.")), None)
    if other is None:
        pytest.skip("there is no Python of another version on this machine")
    assert sheepdog.map(abs, [(1,)], {"shell": str(other)}, verbose=False) == [None]
    [error] = errors(1)
    for word in (other.parts[-3], mine, "`shell`", str(other)):
        assert word in error


@pytest.fixture(scope="module")
def oldest_python() -> str:
    """The oldest Python that the worker is made for."""
    for python in [*map(str, Path(sys.base_prefix).parent.glob("3.6.*/bin/python")), shutil.which("python3.6")]:
        if python and subprocess.run([python, "-V"], capture_output=True).returncode == 0:
            return python
    pytest.skip("there is no Python 3.6 on this machine")


@fault(
    49, "a worker on Python 3.6 without packages", promise="it connects, and is told why it cannot have the function"
)
def test_the_worker_on_the_oldest_python(oldest_python: str) -> None:
    """It connects, says what it is, and is told why it cannot have the function; with a bare standard library."""
    assert sheepdog.map(abs, [(1,)], {"shell": f"{oldest_python} -I -S"}, verbose=False) == [None]
    [error] = errors(1)
    assert "runs cpython 3.6." in error


def test_the_child_on_the_oldest_python(oldest_python: str, place: Path) -> None:
    """Tasks, a crash and a recall, with a function that any Python can load."""
    (place / "client.pyz").write_bytes(worker_archive())
    script = f"""
import os, pickle, sys
sys.path.insert(0, {str(place / "client.pyz")!r})
from _sheepdog_worker.parent.autopsy import autopsy
from _sheepdog_worker.parent.child import Child
secret = {{"request": 7, "directory": ".", "max_value": 1000}}
child = Child(secret, pickle.dumps(os.kill, 4), b"")
child.give([(1, 1, pickle.dumps(((0,), {{"x": 1}}))), (2, 1, pickle.dumps(((os.getpid(), 0), {{}})))])
found = []
while child.running:
    found += child.collect(1.0)[0]
print([(o.task, o.kind, pickle.loads(o.value) if o.kind == 0 else o.value.split(b":")[0]) for o in found])
child.give([(3, 1, pickle.dumps(((0, 9), {{}}))), (4, 1, b"")])  # its whole process group
while not child.collect(1.0)[1]:
    pass
how, _, outcome, left = autopsy(child)
print(how, outcome.task, [task[0] for task in left])
"""
    done = subprocess.run([oldest_python, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == "[(1, 1, b'TypeError'), (2, 0, None)]\nwas killed by signal 9 (SIGKILL) 3 [4]\n"


@fault(49, "a worker's Python that is not there", promise="the tasks' error says so, and where the worker's words are")
def test_worker_program_that_fails() -> None:
    assert sheepdog.map(abs, [(1,)], {"shell": "/usr/bin/env no-such-python"}, verbose=False) == [None]
    [error] = errors(1)
    assert "has ended before its tasks" in error.splitlines()[0]
    assert "no-such-python" in error
    directory = re.search(r"this machine:(\S+)", error)
    assert directory is not None
    assert "no-such-python" in (Path(directory[1]) / "worker.1.log").read_text()


# --- kill -9


def start_5000(place: Path, **options: int) -> int:
    args = [(i, str(place / "ran")) for i in range(5000)]
    request_id = sheepdog.map_async(sleepy, args, {"workers": 2, "lease": 2, **options})
    with Storage(DB) as storage:
        until(lambda: storage.progress(request_id).done > 300, "300 results")
    return request_id


def check_5000(request_id: int, place: Path, extra: int) -> None:
    """Every task has its own result, and hardly any ran twice: the most that two workers can hold."""
    results = [result for _, result in sheepdog.get_results(request_id, DB)]
    assert errors(request_id) == []
    assert results == [i * i for i in range(5000)]
    runs = (place / "ran").read_text().split()
    assert set(runs) == {str(i) for i in range(5000)}
    assert len(runs) <= 5000 + extra


@fault(
    1,
    "the server is killed with -9, and started again",
    promise="each task has one outcome, the right one, and ran once",
)
def test_kill_the_server(place: Path) -> None:
    request_id = start_5000(place)
    server = sheepdog.Server(dbfile=DB)
    port, pid = server.port, server.pid
    for _ in range(3):
        assert pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: not server.running, "the server is dead")
        before = sheepdog.get_results(request_id, DB, block=False)
        server.start()  # as any call that needs it does
        assert server.port == port
        with Storage(DB) as storage:
            done = sum(result is not None for _, result in before)
            until(lambda: storage.progress(request_id).done > done, "results go on")  # noqa: B023
        pid = server.pid
    check_5000(request_id, place, extra=0)


@fault(1, "the server is killed with -9 while a client waits", promise="the client starts it again; each task ran once")
def test_kill_the_server_and_wait(place: Path) -> None:
    request_id = start_5000(place)
    pid = sheepdog.Server(dbfile=DB).pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    check_5000(request_id, place, extra=0)


@fault(5, "a worker is killed with -9", promise="others run its tasks; each has one outcome, the right one")
def test_kill_a_worker(place: Path) -> None:
    request_id = start_5000(place)
    os.kill(parents_of(place)[0], signal.SIGKILL)
    check_5000(request_id, place, extra=1000)


@fault(6, "a child is killed with -9", promise="one task ends with that error, at most; all others have their results")
def test_kill_a_task_s_process(place: Path) -> None:
    """That is the outcome of the task, and of it alone."""
    request_id = start_5000(place)
    child = next(iter(set(workers_of(place)) - set(parents_of(place))))
    os.kill(child, signal.SIGKILL)
    results = [result for _, result in sheepdog.get_results(request_id, DB)]
    missing = [i for i, result in enumerate(results) if result is None]
    assert [result for result in results if result is not None] == [i * i for i in range(5000) if i not in missing]
    assert len(missing) <= 1
    assert all("killed by signal 9 (SIGKILL)" in error for error in errors(request_id))


def test_kill_every_worker(place: Path) -> None:
    """Others are submitted; what the lost ones held runs again, and is recorded."""
    request_id = start_5000(place)
    for pid in parents_of(place):
        os.kill(pid, signal.SIGKILL)
    with Storage(DB) as storage:
        until(lambda: len(storage.arrays(request_id)) == 2, "workers have been submitted again")
        sheepdog.get_results(request_id, DB)
        again = list(storage.attempts(request_id))
    assert again
    check_5000(request_id, place, extra=len(again))


def test_kill_every_worker_for_good(place: Path) -> None:
    """Then nobody is left to run the tasks, and each says so."""
    request_id = start_5000(place, resubmissions=0)
    for pid in parents_of(place):
        os.kill(pid, signal.SIGKILL)
    results = sheepdog.get_results(request_id, DB)
    missing = sum(result is None for _, result in results)
    assert missing == len(errors(request_id)) > 0
    assert all("its workers have ended" in error for error in errors(request_id))


@fault("client killed", "the client is killed with -9", promise="the request goes on; anybody can fetch the results")
def test_kill_the_client(place: Path) -> None:
    """The request goes on without it; anybody can fetch the results."""
    code = (
        "import sys, sheepdog\nsys.path.insert(0, sys.argv[1])\nfrom tests.tasks import sleepy\n"
        "sheepdog.map(sleepy, [(i, sys.argv[2]) for i in range(5000)], {'workers': 2})"
    )
    root = str(Path(__file__).parents[2])
    client = subprocess.Popen([sys.executable, "-c", code, root, str(place / "ran")])
    until(lambda: Path(DB).exists() and (place / "ran").exists(), "it runs")
    client.kill()
    client.wait()
    check_5000(1, place, extra=0)


def test_the_server_goes_when_there_is_nothing_left_to_do(place: Path) -> None:
    assert sheepdog.map(abs, [(-1,)]) == [1]
    until(lambda: not sheepdog.Server(dbfile=DB).running, "the server has gone", 40)
    assert sheepdog.map(abs, [(-2,)]) == [2]
    assert not list(Path("home/.sheepdog").glob("sheepdog_001*"))
