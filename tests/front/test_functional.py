"""The main road on this machine: the public functions, with real worker processes, server and store."""

import importlib
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gridengine
import sheepdog
from gridengine.schedulers import ProcessScheduler
from sheepdog.errors import (
    ArgumentsError,
    ConfigError,
    HostError,
    NotRun,
    PortInUse,
    RequestNotFound,
    SchedulerError,
    SerialisationError,
    StorageError,
    TaskFailed,
)
from sheepdog.front.results import conclude, summary
from sheepdog.schedulers.archives import WORKER, worker_archive
from sheepdog.storage import Storage
from sheepdog.values.model import Kind
from tests.faults import fault
from tests.local import DB, errors
from tests.pythons import python_of
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("place")

NEVER = {"shell": "/bin/false", "poll_interval": 1}


# --- what is promised of map


def test_the_readme_s_first_line() -> None:
    code = "import sheepdog; print(sheepdog.map(lambda a, b: a + b, [(1, 1), (1, 2), (2, 2)]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[2, 3, 4]\n", f"sheepdog: request 1, in {os.path.abspath(DB)}\n")


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
    _, said = capfd.readouterr().err.splitlines()
    call = f"sheepdog.get_errors(1, {os.path.abspath(DB)!r})"
    what = "2 of 4 tasks failed, 2 alike: ZeroDivisionError: division by zero"
    assert said == f"sheepdog: {what}; their errors are in {call}"
    assert eval(said.partition("are in ")[2], {"sheepdog": sheepdog}) == sheepdog.get_errors(1, DB)


@pytest.mark.parametrize("verbose", [True, False])
def test_each_task_fails_in_its_own_way(verbose: bool, capfd: pytest.CaptureFixture[str]) -> None:
    def f(x: int) -> None:
        raise ValueError(x)

    assert sheepdog.map(f, [(1,), (2,)], verbose=verbose) == [None, None]
    said = [line.partition(";")[0] for line in capfd.readouterr().err.splitlines()]
    assert said[1:] == ["sheepdog: 2 of 2 tasks failed, the first: ValueError: 1"] * verbose


def test_a_task_that_is_cancelled_is_told_of(capfd: pytest.CaptureFixture[str]) -> None:
    request_id = sheepdog.map_async(time.sleep, [(300,)])
    assert sheepdog.cancel(request_id, DB) == 1
    with Storage(DB) as storage:
        causes = conclude(request_id, storage)
    call = f"sheepdog.get_errors({request_id}, {DB!r})"
    assert summary(1, causes, call) == f"1 of 1 task was cancelled: cancelled by its user; its error is in {call}"
    assert sheepdog.get_results(request_id, DB) == [((300,), None)]


DOORS: dict[str, Callable[[], object]] = {
    "map": lambda: sheepdog.map(abs, [(1,), (2,)], NEVER),
    "map_async, get_results": lambda: sheepdog.get_results(sheepdog.map_async(abs, [(1,)], NEVER), DB),
    "imap": lambda: next(sheepdog.imap(abs, [(1,)], NEVER)),
    "imap, return_exceptions": lambda: next(sheepdog.imap(abs, [(1,)], NEVER, return_exceptions=True)),
    "Executor": lambda: sheepdog.Executor(NEVER).submit(abs, 1).result(),
    "Job": lambda: job_result(sheepdog.Job(target=abs, args=(1,), config=NEVER)),
    "Job, reports": lambda: job_reports(sheepdog.Job(target=abs, args=(1,), config=NEVER)),
    "gridengine": lambda: gridengine.map(abs, [1], ProcessScheduler(config=NEVER)),
    "joblib": lambda: joblib_result(NEVER),
}


def job_result(job: sheepdog.Job) -> object:
    job.start()
    return job.result()


def job_reports(job: sheepdog.Job) -> object:
    job.start()
    return list(job.reports())


def joblib_result(config: dict[str, Any]) -> object:
    import joblib

    importlib.import_module("sheepdog.joblib")
    with joblib.parallel_config("sheepdog", config=config, workers=2):
        return joblib.Parallel()(joblib.delayed(abs)(x) for x in range(4))


@fault("no workers", "no task could be run", promise="every door raises NotRun, with the reason and what to do")
@pytest.mark.parametrize("door", DOORS)
def test_no_task_could_be_run(door: str) -> None:
    with pytest.raises(NotRun, match=r"the array job .* has ended") as caught:
        DOORS[door]()
    assert (caught.value.request, caught.value.kind) == (1, Kind.NOT_RUN)
    assert sheepdog.get_results(1, DB, block=False)[0][1] is None
    assert errors(1)[0].startswith("not run: ")
    with pytest.raises(NotRun, match=r"the array job .* has ended"):
        list(sheepdog.follow_reports(1, DB))
    with pytest.raises(NotRun, match=r"the array job .* has ended"):
        list(sheepdog.follow_reports(1, DB))
    if caught.value.task == 0:
        assert f"sheepdog.retry(1, {os.path.abspath(DB)!r})" in str(caught.value)
        assert sheepdog.retry(1, DB, config={"shell": sys.executable}) > 0
        assert sheepdog.get_results(1, DB)[0][1] == 1


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


@fault(
    "abort", "a task dies, exits or needs much memory", promise="its signal, status and peak are numbers of its error"
)
def test_the_numbers_of_an_error() -> None:
    def f(how: str) -> None:
        held = bytearray(0 if how == "light" else 64 << 20)
        if how == "exit":
            os._exit(3)
        if how == "memory":
            raise MemoryError
        if how == "sys.exit":
            sys.exit(4)
        if how == "kill":
            os.kill(os.getpid(), 11)
        raise ValueError(len(held))

    ways = ["exit", "sys.exit", "kill", "raise", "raise", "memory", "light"]
    found = list(sheepdog.imap(f, [(how,) for how in ways], {"workers": 1}, return_exceptions=True))
    failed = [each if isinstance(each, TaskFailed) else each.__cause__ for each in found]
    texts = [error for _, error in sheepdog.get_errors(1, DB)]
    for each in (failed, texts):
        codes = [(error.signal, error.status) for error in each]
        assert codes == [(0, 3), (0, 4), (11, None), *[(0, None)] * 4]
        *heavy, light = (error.peak for error in each)  # the process of the light one has had more before
        assert min(heavy) > 64 << 20 > light > 1 << 20
        kinds = [Kind.DIED, Kind.RAISED, Kind.DIED, Kind.RAISED, Kind.RAISED, Kind.MEMORY, Kind.RAISED]
        assert [error.kind for error in each] == kinds
        assert [(error.request, error.task) for error in each] == [(1, task) for task in range(1, 8)]
    for error in pickle.loads(pickle.dumps([failed[0], texts[0]])):
        assert (error.status, str(error)) == (3, str(texts[0]))


@fault("stdout flooded", "a task prints, and succeeds", promise="the end of what it printed is kept, and can be read")
def test_what_tasks_print_is_kept() -> None:
    def f(x: int) -> int:
        print("line\n" * 10_000 * x, end=f"end {x}")
        os.write(2, b"")
        return 6 // x

    assert sheepdog.map(f, [(1,), (0,), (2,)], {"max_output": 40}, verbose=False) == [6, None, 3]
    assert sheepdog.map(lambda x: x, [(1,)], verbose=False) == [1]
    outputs = sheepdog.get_output(1, DB)
    assert [args for args, _ in outputs] == [(1,), (0,), (2,)]
    assert outputs[1][1] == "end 0"
    assert re.fullmatch(r"\.\.\. 49965 bytes left out \.\.\.\n(line|ine|ne|e)?\n(line\n)+end 1", outputs[0][1])
    assert [sheepdog.get_output(1, DB, task) for task in (1, 2, 3)] == [output for _, output in outputs]
    assert (sheepdog.get_output(2, DB, 1), sheepdog.get_output(2, DB)) == ("", [((1,), "")])
    with Storage(DB) as storage:
        [outcome] = storage.outcomes(2, [(1, 1)])
        assert outcome.output == b""
    for wrong in (0, 4):
        with pytest.raises(RequestNotFound):
            sheepdog.get_output(1, DB, wrong)


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
    assert re.match(r"sheepdog: [01]/2 results, 0 errors; [12] (run|wait)", lines[0])
    assert lines[-1] == "sheepdog: 2/2 results, 1 errors"


def test_environment_of_a_task(place: Path) -> None:
    def f() -> list[str | None]:
        import os

        names = ("SHEEPDOG_REQUEST_ID", "SHEEPDOG_TASK_INDEX", "SHEEPDOG_ATTEMPT")
        return [*map(os.environ.get, names), os.getcwd()]

    assert sheepdog.map(f, [(), ()]) == [["1", str(i), "1", str(place)] for i in (1, 2)]


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
        (lambda lock=threading.Lock(): 1, [()], None, SerialisationError, ["<lambda>", "_thread.lock"]),
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
    with pytest.raises(NotRun) as caught:
        sheepdog.map(lambda x: -x, [(1,)], {"shell": str(other)})
    [error] = errors(1)
    assert error.splitlines()[0] in str(caught.value)
    for word in (other.parts[-3], mine, "`shell`", str(other)):
        assert word in error
    assert sheepdog.map(abs, [(-1,)], {"shell": str(other)}) == [1]


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
    with pytest.raises(NotRun):
        sheepdog.map(lambda x: x, [(1,)], {"shell": f"{oldest_python} -I -S"})
    [error] = errors(1)
    assert "runs cpython 3.6." in error
    assert sheepdog.map(abs, [(-1,)], {"shell": f"{oldest_python} -I -S"}) == [1]


@fault(49, "own files in a syntax too new for the worker", promise="no task runs; the file, the line and what to do")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def f(x):\n    if (y := x):\n        return y\n", ", line 2: SyntaxError: invalid syntax"),
        (
            "import os\nfrom functools import cached_property\ndef f(x): return x\n",
            ", line 2: ImportError: cannot import name",
        ),
        ("def f(x: 'int') -> list[int]: return [x]\n", ", line 1: TypeError: 'type' object is not subscriptable"),
        ("import helper\ndef f(x): return x\n", "helper.py, line 3: SyntaxError: invalid syntax"),
    ],
)
def test_files_that_do_not_fit_another_python(
    oldest_python: str, place: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    (place / "mine").mkdir()
    (place / "mine/newer.py").write_text(text)
    (place / "mine/helper.py").write_text("import os\n\nmatch os:\n    case _: pass\n")
    monkeypatch.syspath_prepend(str(place / "mine"))
    for name in ("newer", "helper"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    newer = importlib.import_module("newer")
    with pytest.raises(NotRun) as caught:
        sheepdog.map(newer.f, [(1,)], {"shell": oldest_python})
    for words in ("which cannot load this: ", f"{place}/mine/", reason, "set the option `python`, not `shell`, to '3."):
        assert words in str(caught.value)


@fault(49, "an argument of a type that the worker's Python does not have", promise="no task runs; it is named")
def test_arguments_that_do_not_fit_another_python(oldest_python: str) -> None:
    with pytest.raises(NotRun, match="No module named 'zoneinfo': set the option `python`, not"):
        sheepdog.map(str, [(zoneinfo.ZoneInfo("UTC"),)], {"shell": oldest_python})


OLD = """
import multiprocessing
class Point(object):
    def __init__(self, x): self.x = x
class Wrong(ValueError): pass
def make(x):
    if x < 0: raise Wrong(x)
    return Point(x)
def closure(x): return lambda: x
def twice(x): return 2 * x
def in_pools(x):
    found = []
    for kind in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(kind).Pool(1) as pool:
            found.append(pool.map(twice, [x]) + [each.x for each in pool.map(Point, [x])])
    return found
"""


@pytest.fixture
def old(place: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the user's own that any Python can import."""
    (place / "mine").mkdir()
    (place / "mine/old.py").write_text(OLD)
    monkeypatch.syspath_prepend(str(place / "mine"))
    monkeypatch.delitem(sys.modules, "old", raising=False)
    return importlib.import_module("old")


@fault(49, "results and exceptions of the user's own classes, from Python 3.6", promise="they are of the very classes")
def test_what_comes_back_from_the_oldest_python(oldest_python: str, old: Any) -> None:
    """It has no cloudpickle: what has no name stays there, and is said to."""
    [found] = sheepdog.map(old.make, [(1,)], {"shell": oldest_python})
    assert type(found) is old.Point
    assert found.x == 1
    with pytest.raises(old.Wrong, match="-1"):
        next(iter(sheepdog.imap(old.make, [(-1,)], {"shell": oldest_python})))
    sheepdog.map(old.closure, [(1,)], {"shell": oldest_python})
    [error] = errors(3)
    assert error.startswith("the result, a function, cannot be serialised: ")


@fault(49, "a result that goes by value, from another Python", promise="it is not run here; its Python is named")
def test_a_closure_from_another_python(old: Any) -> None:
    other = next(
        (python for minor in range(8, 14) if minor != sys.version_info.minor and (python := python_of(minor))), ""
    )
    if other is None:
        pytest.skip("there is no Python of another version on this machine")
    with sheepdog.imap(old.closure, [(1,)], {"shell": other}, return_exceptions=True) as results:
        [error] = results
    assert "the result cannot be loaded here: OtherPython: it goes by value, as code that cpython 3." in str(error)


@fault(49, "a pool of processes inside a task, however they are started", promise="it finds the user's own modules")
def test_pools_in_a_task_find_own_modules(oldest_python: str, old: Any) -> None:
    for python in (oldest_python, sys.executable):
        assert sheepdog.map(old.in_pools, [(2,)], {"shell": python}) == [[[4, 2]] * 3]


def test_the_child_on_the_oldest_python(oldest_python: str, place: Path) -> None:
    """Tasks, a crash and a recall, with a function that any Python can load."""
    (place / "client.pyz").write_bytes(worker_archive())
    script = f"""
import os, pickle, sys
sys.path.insert(0, {str(place / "client.pyz")!r})
from _sheepdog_worker.parent.autopsy import autopsy
from _sheepdog_worker.parent.child import Child
from _sheepdog_worker.wire.records import taken_apart
secret = {{"request": 7, "directory": ".", "max_value": 1000}}
child = Child(secret, pickle.dumps(os.kill, 4), b"")
child.give([(1, 1, pickle.dumps(((0,), {{"x": 1}}))), (2, 1, pickle.dumps(((os.getpid(), 0), {{}})))])
found = []
while child.running:
    found += taken_apart(child.collect(1.0)[0])
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
    with pytest.raises(NotRun, match="no-such-python"):
        sheepdog.map(abs, [(1,)], {"shell": "/usr/bin/env no-such-python"})
    [error] = errors(1)
    assert "has ended before its tasks" in error.splitlines()[0]
    assert "no-such-python" in error
    directory = re.search(r"this machine:(\S+)", error)
    assert directory is not None
    assert "no-such-python" in (Path(directory[1]) / "worker.1.log").read_text()
