"""The worker's parts: frames, values, the child with real forks. (The road as a whole is tested elsewhere.)"""

import functools
import http.server
import io
import itertools
import json
import os
import pickle
import re
import resource
import signal
import ssl
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheepdog import client
from sheepdog.archives import WORKER, archive, cloudpickle_archive, worker_archive
from sheepdog.certificate import make_certificate
from sheepdog.client import DIED, IN_MEMORY, INTERRUPTED, MEMORY, RAISED, RESULT, TIMEOUT
from sheepdog.client.capture import Capture
from sheepdog.client.child import Child
from sheepdog.client.function import functions_behind, inject
from sheepdog.client.limits import MAX_OUTPUT, MAX_TEXT
from sheepdog.client.line import Line
from sheepdog.client.report import NO_PIPE
from sheepdog.client.signals import Signals
from sheepdog.client.words import explain, shorten
from sheepdog.serialisation import serialise_function

from .cluster import until
from .faults import fault

# Frames

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(header=st.dictionaries(st.text(max_size=5), JSON), blobs=st.lists(st.binary()))
def test_a_frame_comes_back(header: dict[str, Any], blobs: list[bytes]) -> None:
    stream = io.BytesIO(client.pack(header, [len(blob) for blob in blobs]) + b"".join(blobs))
    found = client.unpack(stream)
    assert [client.read_blob(stream, length) for length in found.pop("blobs")] == blobs
    assert found == {key: value for key, value in header.items() if key != "blobs"}
    assert stream.read() == b""


def frame(text: bytes) -> bytes:
    return struct.pack("!I", len(text)) + text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut off"),
        (b"\0\0\0", "cut off"),
        (frame(b'{"blobs":[]}')[:-1], "cut off"),
        (struct.pack("!I", client.MAX_HEADER + 1), "8388609 bytes; 8388608 are allowed"),
        (b"GET / HTTP/1.1\r\n\r\n", "are allowed"),
        (frame(b"\xff"), "utf-8"),
        (frame(b"{"), "Expecting"),
        (frame(b"[]"), "not an object"),
        (frame(b"[" * 100_000), "nested too deeply"),
        (frame(b'{"n":' + b"9" * 5000 + b"}"), "digits"),
        (frame(b"{}"), "list of lengths"),
        (frame(b'{"blobs":5}'), "list of lengths"),
        (frame(b'{"blobs":[-1]}'), "list of lengths"),
        (frame(b'{"blobs":[true]}'), "list of lengths"),
        (frame(b'{"blobs":[1.0]}'), "list of lengths"),
    ],
)
def test_what_is_no_frame_is_a_value_error(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        client.unpack(io.BytesIO(data))


@settings(deadline=None)
@given(data=st.binary())
def test_no_bytes_are_another_exception(data: bytes) -> None:
    for stream in (io.BytesIO(data), io.BytesIO(frame(data))):
        try:
            assert isinstance(client.unpack(stream), dict)
        except ValueError:
            pass


@pytest.mark.parametrize("length", [0, 1, IN_MEMORY, IN_MEMORY + 1, IN_MEMORY + client.CHUNK + 1])
def test_a_large_blob_is_a_file(length: int) -> None:
    data = b"x" * length
    blob = client.read_blob(io.BytesIO(data + b"rest"), length)
    try:
        assert isinstance(blob, bytes) == (length <= IN_MEMORY)
        assert client.size_of(blob) == length
        for _ in range(2):  # as a call that is tried again
            assert b"".join(client.chunks_of(blob)) == data
    finally:
        if not isinstance(blob, bytes):
            blob.close()


@pytest.mark.parametrize("length", [1, IN_MEMORY + 1])
def test_a_blob_that_is_cut_off_is_a_value_error(length: int) -> None:
    with pytest.raises(ValueError, match="cut off"):
        client.read_blob(io.BytesIO(b"x" * (length - 1)), length)


# Values and errors


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_values_come_back(value: Any) -> None:
    assert pickle.loads(client.dump(value)) == value


def test_what_cannot_be_pickled_is_said_by_cloudpickle() -> None:
    with pytest.raises(TypeError, match="cannot pickle 'generator' object"):
        client.dump(iter(x for x in ()))


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Quits(Exception):
    def __str__(self) -> str:
        sys.exit()


@pytest.mark.parametrize(
    ("error", "summary"),
    [
        (ValueError("so"), "ValueError: so"),
        (ValueError(), "ValueError"),
        (ValueError("two\nlines  and\ttabs"), "ValueError: two lines and tabs"),
        (KeyError("k"), "KeyError: 'k'"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (Mute(), "Mute (its message cannot be shown)"),
        (Quits(), "Quits (its message cannot be shown)"),
        (ValueError("\ud800"), "ValueError: \\ud800"),
        (ExceptionGroup("both", [ValueError("one"), KeyError("two")]), "ExceptionGroup: both (2 sub-exceptions)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@fault(
    33,
    "an exception without a message, with lines of it, or whose message cannot be shown",
    promise="one line that says what happened, then the traceback",
)
def test_an_error_begins_with_one_line_that_says_what_happened(error: BaseException, summary: str) -> None:
    first, second = explain(raised(error)).decode().splitlines()[:2]
    assert first == summary
    assert "Traceback" in second or 'File "' in second


def test_the_frames_of_the_worker_are_left_out() -> None:
    text = explain(raised(ValueError("so")), skip=1).decode()
    assert text == "ValueError: so\nValueError: so\n"
    assert explain(ValueError("never raised"), skip=5).decode().startswith("ValueError: never raised\n")


@fault(33, "an exception with a message of megabytes", promise="its beginning and its end are kept")
def test_a_long_error_is_cut_in_its_middle() -> None:
    text = explain(raised(ValueError("first" + "x" * 10**6 + "last"))).decode()
    assert len(text) < MAX_TEXT + 1000
    assert "characters left out" in text
    assert text.rstrip().endswith("last")


def test_the_summary_of_a_long_message_is_one_line() -> None:
    first, second = explain(raised(ValueError("first" + "x" * 1000 + "last"))).decode().splitlines()[:2]
    assert first.startswith("ValueError: first")
    assert second == "Traceback (most recent call last):"


@given(st.text(), st.integers(1, 100))
def test_shortening(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert short == text if len(text) <= limit else "characters left out" in short
    assert short[: limit // 2] == text[: limit // 2]


# Names for a function


def function_with(names: dict[str, Any], source: str = "def f(*x): return N") -> Any:
    exec(source, names)
    return names["f"]


class Bound:
    def method(self) -> None: ...

    def __call__(self) -> None: ...

    @classmethod
    def made(cls) -> None: ...


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (raised, True),
        (functools.partial(raised, 1), True),
        (functools.partial(functools.partial(raised)), True),
        (functools.lru_cache(raised), True),
        (Bound().method, True),
        (Bound.made, True),
        (Bound(), True),
        (Mute, False),
        (len, False),
        (7, False),
        (None, False),
        (int, False),
        (types.SimpleNamespace(func=7), False),
    ],
)
def test_the_globals_of_what_is_called_in_the_end(value: Any, found: bool) -> None:
    assert (globals() in [function.__globals__ for function in functions_behind(value)]) == found


def test_what_refers_to_itself_ends() -> None:
    loop = types.SimpleNamespace()
    loop.__wrapped__ = loop
    assert list(functions_behind(loop)) == []


def test_names_are_injected_into_the_function_and_those_in_the_namespace() -> None:
    f, g = function_with({}), function_with({})
    inject(f, {"N": 5, "g": g, "module": sys, "text": "x"})
    assert (f(), g()) == (5, 5)
    assert f.__globals__["g"] is g is g.__globals__["g"]


def test_really_imported_modules_stay_as_they_are() -> None:
    before = dict(vars(json))
    inject(function_with({}), {"dumps": json.dumps, "JSONEncoder": 7})
    assert vars(json) == before


# The child


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
        while not os.path.exists(rest[0]):
            time.sleep(0.005)
    elif kind == "write":
        Path(rest[0]).write_text(str(os.getpid()))
    elif kind == "large":
        return b"x" * rest[0]
    elif kind == "length":
        return len(rest[0])
    elif kind == "unserialisable":
        return iter(x for x in ())
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


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a child; all of them are ended at the end."""
    (tmp_path / "cloudpickle.zip").write_bytes(cloudpickle_archive())
    children: list[Child] = []

    def start(f: Any = target, ns: Any = None, **secret: Any) -> Child:
        secret = {"directory": str(tmp_path), "request": 12, "max_value": 10**9, **secret}
        children.append(Child(secret, *serialise_function(f, ns)))
        return children[-1]

    yield start
    for child in children:
        if not child.capture.file.closed:
            child.kill()


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
        found += new
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
        found += new
        if ended:
            how, rest, outcome, left = child.autopsy()
            return how, outcome, left, found + rest
    raise AssertionError(f"the end of the child was not noticed in {seconds} s")


def test_tasks_run_in_order(start: Start) -> None:
    child = start()
    give(child, ("a",), ("raise", "so"), ("b",))
    first, second, third = outcomes(child, 3)
    assert first == (1, RESULT, pickle.dumps("a", 4))
    assert second[:2] == (2, RAISED)
    assert second[2].decode().splitlines()[:2] == ["ValueError: so", "Traceback (most recent call last):"]
    assert b"/client/" not in second[2]
    assert third == (3, RESULT, pickle.dumps("b", 4))
    assert not child.running
    give(child, ("c",), first=7)
    assert outcomes(child, 1) == [(7, RESULT, pickle.dumps("c", 4))]


@pytest.mark.parametrize(
    ("call", "how"),
    [
        (("signal", signal.SIGSEGV), "was killed by signal 11 (SIGSEGV)"),
        (("signal", signal.SIGKILL), "was killed by signal 9 (SIGKILL)"),
        (("signal", 40), "was killed by signal 40 (?)"),
        (("exit", 0), "exited with status 0"),
        (("exit", 3), "exited with status 3"),
    ],
)
@fault(
    (6, 29),
    "a task's process is killed by a signal, or exits by itself",
    promise="its error names the signal or status; the tasks behind it run elsewhere",
)
def test_a_task_that_ends_its_process_is_named_and_the_others_are_left(start: Start, call: Any, how: str) -> None:
    child = start()
    give(child, ("a",), call, ("b",), ("c",))
    what, outcome, left, before = death(child)
    assert what == how
    assert [each.task for each in before] == [1]
    assert outcome is not None
    assert (outcome.task, outcome.kind) == (2, DIED)
    assert outcome.value.decode() == f"the task's process {how} before the function returned"
    assert [(index, attempt) for index, attempt, _ in left] == [(3, 1), (4, 1)]
    another = start()
    another.give(left)
    assert [task for task, _, _ in outcomes(another, 2)] == [3, 4]


@fault("stdout closed", "a task has closed all files of its process, the worker's too", promise="its error says so")
def test_a_child_that_cannot_report_any_more_is_said_to_have_closed_its_files(start: Start) -> None:
    child = start()
    give(child, ("exit", NO_PIPE))
    _, outcome, _, _ = death(child)
    assert outcome is not None
    text = "the task's process closed all its files, the worker's too: the outcome was lost"
    assert (outcome.kind, outcome.value.decode()) == (DIED, text)


def test_sys_exit_is_the_tasks_error_not_the_childs_end(start: Start) -> None:
    child = start()
    give(child, ("sys.exit", 3), ("sys.exit", "so"), ("a",))
    (_, kind, text), (_, _, other), last = outcomes(child, 3)
    assert (kind, text.splitlines()[0], other.splitlines()[0]) == (RAISED, b"SystemExit: 3", b"SystemExit: so")
    assert last[:2] == (3, RESULT)


def test_a_child_that_dies_before_any_task_leaves_them_all(start: Start) -> None:
    child = start()
    os.kill(child.pid, signal.SIGKILL)
    give(child, ("a",), ("length", b"x" * 10**6), ("b",))  # more than a pipe holds
    what, outcome, left, before = death(child)
    assert (what, outcome, before) == ("was killed by signal 9 (SIGKILL)", None, [])
    assert [index for index, _, _ in left] == [1, 2, 3]


@fault(
    (30, "processes left"),
    "a task's process is killed and leaves one that holds its pipes",
    promise="its end is noticed all the same",
)
def test_the_end_of_a_child_is_noticed_though_it_left_a_process_behind(start: Start, tmp_path: Path) -> None:
    """As when multiprocessing's parent is killed for its memory: its workers hold the pipes."""
    child = start()
    give(child, ("orphan", str(tmp_path / "orphan")))
    try:
        what, outcome, _, _ = death(child, seconds=5)
        assert what == "was killed by signal 9 (SIGKILL)"
        assert outcome is not None
    finally:
        until((tmp_path / "orphan").read_text, "the orphan has started")
        os.kill(int((tmp_path / "orphan").read_text()), signal.SIGKILL)


@fault((30, "processes left"), "a task's process is killed and leaves programs running", promise="they are ended too")
def test_what_a_dead_child_started_is_ended_too(start: Start, tmp_path: Path) -> None:
    script = "import os, signal, subprocess\ndef f():\n p = subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3)\n"
    script += " open({!r}, 'w').write(str(p.pid))\n os.kill(os.getpid(), signal.SIGKILL)".format(str(tmp_path / "pid"))
    child = start(function_with({}, script))
    give(child, ())
    death(child)
    pid = int((tmp_path / "pid").read_text())
    try:
        until(lambda: not alive(pid), "the process is gone", timeout=3)
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_tasks_not_started_can_be_recalled(start: Start, tmp_path: Path) -> None:
    child = start()
    go = tmp_path / "go"
    give(child, ("write", str(tmp_path / "here")), ("wait for", str(go)), ("a",), ("b",))
    assert [task for task, _, _ in outcomes(child, 1)] == [1]
    until(lambda: len(child.running) == 3 and (tmp_path / "here").exists(), "the first has run")
    time.sleep(0.05)  # the second begins; if it does not, all three come back, and the test is none
    back = child.recall()
    assert [index for index, _, _ in back] in ([3, 4], [2, 3, 4])
    assert child.recall() == []
    go.touch()
    rest = [2] if len(back) == 2 else []
    assert [task for task, _, _ in outcomes(child, len(rest))] == rest
    give(child, ("c",), first=9)
    assert [task for task, _, _ in outcomes(child, 1)] == [9]


def test_a_recalled_task_is_not_run_however_late_the_child_looks(start: Start, tmp_path: Path) -> None:
    child = start()
    begin, go = tmp_path / "begin", tmp_path / "go"
    give(child, ("wait for", str(begin)), ("slow to take the next", str(go)), ("recalled",), ("recalled",))
    begin.touch()
    assert [task for task, _, _ in outcomes(child, 2)] == [1, 2]
    assert [index for index, _, _ in child.recall()] == [3, 4]
    give(child, ("new",), first=9)
    go.touch()
    assert outcomes(child, 1, seconds=5) == [(9, RESULT, pickle.dumps("new", 4))]


def test_large_values_there_and_back(start: Start) -> None:
    child = start()
    size = 20_000_000
    give(child, ("length", b"x" * size), ("large", size), ("a",))
    first, second, third = outcomes(child, 3)
    assert pickle.loads(first[2]) == size
    assert pickle.loads(second[2]) == b"x" * size
    assert third == (3, RESULT, pickle.dumps("a", 4))


def test_a_value_that_is_too_large_is_an_error_that_says_so(start: Start) -> None:
    child = start(max_value=1000)
    give(child, ("large", 2000), ("large", 10))
    (_, kind, text), second = outcomes(child, 2)
    assert kind == RAISED
    assert text.startswith(b"the result has 20")
    assert text.endswith(b"bytes; at most 1000 can be stored: write it to a file and return its name")
    assert second[1] == RESULT


def test_a_result_that_cannot_travel_is_an_error_that_says_so(start: Start) -> None:
    child = start()
    give(child, ("unserialisable",))
    [(_, kind, text)] = outcomes(child, 1)
    assert kind == RAISED
    assert text.startswith(b"the result, a generator, cannot be serialised: TypeError: cannot pickle 'generator'")


def test_a_function_that_cannot_be_loaded_is_every_tasks_error() -> None:
    child = Child({"directory": "/nonexistent", "request": 1, "max_value": 10**6}, b"no pickle", b"")
    try:
        give(child, ("a",), ("b",))
        for _, kind, text in outcomes(child, 2):
            assert kind == RAISED
            assert text.startswith(b"the function cannot be loaded here: UnpicklingError: ")
    finally:
        child.kill()


def test_arguments_that_cannot_be_loaded_are_their_tasks_error(start: Start) -> None:
    child = start()
    child.give([(1, 1, b"no pickle"), (2, 1, arguments("a"))])
    (_, kind, text), second = outcomes(child, 2)
    assert kind == RAISED
    assert text.startswith(b"the arguments cannot be loaded here: UnpicklingError: ")
    assert second[1] == RESULT


def printed(child: Child, *calls: Any) -> list[bytes]:
    give(child, *calls)
    return [outcome.output for outcome in collect(child, len(calls))]


def test_each_task_has_its_own_output(start: Start) -> None:
    assert printed(start(), ("print", "one", "two", "three"), ("silent",), ("print", "\ud800", "ö", "end")) == [
        b"one\ntwo\nthree\n",
        b"",
        b"\\ud800\n\xc3\xb6\nend\n",
    ]


def test_of_a_long_output_the_end_is_kept(start: Start) -> None:
    [output] = printed(start(), ("print", "x" * 10**6, "y", "z"))
    assert output.startswith(b"... 983621 bytes left out ...\nxxx")
    assert output.endswith(b"x\ny\nz\n")
    assert len(output) < MAX_OUTPUT + 100


@fault("stdout closed", "a task that closes or replaces stdout and stderr", promise="the next task has its own again")
def test_streams_that_a_task_closed_or_took_away_are_back_for_the_next(start: Start) -> None:
    calls = [("print", "one", "two", "three"), ("close",), ("print", "one", "two", "three"), ("redirect",)]
    first, closed, third, redirected, last = printed(start(), *calls, ("print", "one", "two", "three"))
    assert first == third == last == b"one\ntwo\nthree\n"
    assert closed == redirected == b""


def test_the_last_words_of_a_task_that_died_are_kept(start: Start) -> None:
    child = start()
    give(child, ("print and die",))
    _, outcome, _, _ = death(child)
    assert outcome is not None
    assert outcome.output.startswith(b"last words\n")


def test_without_a_directory_for_temporary_files_there_is_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    capture = Capture()
    assert capture.file.name == os.devnull
    assert capture.end() == b""
    capture.file.close()


def test_what_surrounds_a_task(start: Start) -> None:
    child = start()
    child.give([(7, 3, arguments("environment")), (8, 1, arguments("environment")), (9, 1, arguments("stdin"))])
    (_, _, first), (_, _, second), (_, _, third) = outcomes(child, 3)
    assert pickle.loads(first) == {
        "SHEEPDOG_REQUEST_ID": "12",
        "SHEEPDOG_TASK_INDEX": "7",
        "SHEEPDOG_ATTEMPT": "3",
    }
    assert pickle.loads(second).items() >= {"SHEEPDOG_TASK_INDEX": "8", "SHEEPDOG_ATTEMPT": "1"}.items()
    assert pickle.loads(third) == b""


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_AS)[0] >= 0, reason="the address space is limited already")
def test_a_task_beyond_its_memory_is_an_error_and_the_next_one_runs(start: Start) -> None:
    child = start(memory_limit=1 << 30)
    give(child, ("memory", 2 << 30), ("memory", 1 << 20))
    (_, kind, text), second = outcomes(child, 2)
    assert kind == MEMORY
    assert re.match(
        rb"out of memory: its process had (\d+ MB|1\.\d GB) at most, the limit is 1.0 GB; MemoryError\n", text
    )
    assert second[:2] == (2, RESULT)


@pytest.mark.parametrize("when", ["at once", "in the midst of a task"])
@fault(5, "a worker is killed with -9 while a task runs", promise="the task's process ends with it")
def test_a_child_ends_with_its_parent(tmp_path: Path, when: str) -> None:
    script = """
import os, pickle, sys, time
from sheepdog.client.child import Child
from sheepdog.serialisation import serialise_function
def f(file):
    open(file, "w").close()
    time.sleep(60)
(when, file), zip = sys.argv[1:3], sys.argv[3]
child = Child({"directory": zip, "request": 1, "max_value": 1}, *serialise_function(f))
child.give([(1, 1, pickle.dumps(((file,), {})))])
print(child.pid, flush=True)
while when != "at once" and not os.path.exists(file):
    time.sleep(0.005)
os.kill(os.getpid(), 9)
"""
    (tmp_path / "cloudpickle.zip").write_bytes(cloudpickle_archive())
    command = [sys.executable, "-c", script, when, tmp_path / "file", tmp_path]
    pid = int(subprocess.run(command, stdout=subprocess.PIPE).stdout)
    try:
        until(lambda: not alive(pid), "the child is gone", timeout=5)
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_no_descriptor_is_left(start: Start) -> None:
    before = os.listdir("/proc/self/fd")
    killed, died = start(), start()
    give(died, ("exit", 1))
    death(died)
    killed.kill()
    assert os.listdir("/proc/self/fd") == before


def test_a_child_inherits_nothing_of_the_parents(start: Start) -> None:
    def f() -> list[str]:
        import os

        return [
            os.readlink(f"/proc/self/fd/{fd}")
            for fd in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{fd}")
        ]

    with open("/etc/passwd") as secret:
        child = start(f)
        give(child, ())
        [(_, _, data)] = outcomes(child, 1)
        assert secret.name not in pickle.loads(data)


# The worker, as a process of its own, and a server that does as the test likes


class FakeServer:
    """Leases tasks, and notes what it is told. What its replies say besides, and whether it replies, can be set."""

    def __init__(self, *tasks: tuple[Any, ...], **settings: Any) -> None:
        self.function: Callable[..., Any] = act
        self.settings = {"heartbeat": 0.5, "max_value": 10**9, **settings}
        self.tasks = {index: arguments(*task) for index, task in enumerate(tasks, 1)}
        self.ready = list(self.tasks)
        self.leased: list[int] = []
        self.dropped: list[int] = []
        self.calls: list[dict[str, Any]] = []  # the headers of exchanges
        self.times: list[float] = []
        self.outcomes: dict[int, client.Outcome] = {}
        self.stop_when_done = True
        self.extra: dict[str, Any] = {}  # in the next reply
        self.status = (200, {})  # type: tuple[int, dict[str, str]]
        self.answers = threading.Event()
        self.answers.set()
        self.waiting = 0  # calls that have no answer
        self.certificate, key = make_certificate()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(self.certificate + key)
            file.flush()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(file.name)
        self.context = context
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.server_port}"

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = io.BytesIO(self.rfile.read(int(self.headers["Content-Length"])))
                header = client.unpack(body)
                if not outer.answers.is_set():
                    outer.waiting += 1
                    outer.answers.wait(60)
                    self.close_connection = True
                    return
                status, headers = outer.status
                reply = b"no" if status != 200 else outer.answer(self.path, header, body)
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(reply))}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(reply)
                if self.path.endswith("exchange"):
                    outer.calls.append(header)
                    outer.times.append(time.monotonic())

            def log_message(self, *args: Any) -> None: ...

        return Handler

    def answer(self, path: str, header: dict[str, Any], body: io.BytesIO) -> bytes:
        if path.endswith("join"):
            blobs = serialise_function(self.function)
            return client.pack(self.settings, [len(blob) for blob in blobs]) + b"".join(blobs)
        blobs = [body.read(length) for length in header["blobs"]]
        for (task, attempt, kind, seconds), value, output in zip(
            header["outcomes"], blobs[::2], blobs[1::2], strict=True
        ):
            assert task not in self.outcomes, f"{task} was reported twice"
            self.outcomes[task] = client.Outcome(task, attempt, kind, seconds, value, output)
        held = [index for first, last, _ in header["holding"] for index in range(first, last + 1)]
        gone = {*held, *self.outcomes, *self.dropped}
        self.ready += [index for index in self.leased if index not in gone]
        taken, self.ready = self.ready[: header["want"]], self.ready[header["want"] :]
        self.leased = held + taken
        reply: dict[str, Any] = {"stored": len(header["outcomes"]), "tasks": [[index, 1] for index in taken]}
        if self.stop_when_done and len(self.outcomes) == len(self.tasks):
            reply["stop"] = True
        reply.update(self.extra, wait=0.1)
        self.dropped += self.extra.get("drop", [])
        self.extra = {}
        found = [self.tasks[index] for index in taken]
        return client.pack(reply, [len(blob) for blob in found]) + b"".join(found)

    def results(self) -> list[Any]:
        """Return the results; for what is none, its kind and its first line."""
        found: list[Any] = []
        for _, outcome in sorted(self.outcomes.items()):
            if outcome.kind == RESULT:
                found.append(pickle.loads(outcome.value))
            else:
                found.append((outcome.kind, outcome.value.decode().splitlines()[0]))
        return found

    def close(self) -> None:
        self.answers.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def act(source: str, *args: Any) -> Any:
    """What the workers of these tests do with a task: run its source."""
    names: dict[str, Any] = {"args": args}
    exec(source, names)
    return names.get("result")


def worker_with(limits: dict[str, float]) -> bytes:
    """Return the worker's archive, with some limits changed."""
    with zipfile.ZipFile(io.BytesIO(worker_archive())) as made:
        files = {name: made.read(name) for name in made.namelist()}
    file = f"{WORKER}/limits.py"
    for name, value in limits.items():
        files[file], count = re.subn(rb"(?m)^%s = [^#\n]+" % name.encode(), f"{name} = {value}  ".encode(), files[file])
        assert count == 1, name
    return archive(files)


class Shepherd:
    """Makes servers and workers, and ends them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.servers: list[FakeServer] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        directory.mkdir(mode=0o700)
        (directory / "cloudpickle.zip").write_bytes(cloudpickle_archive())

    def serve(self, *tasks: tuple[Any, ...], **settings: Any) -> FakeServer:
        self.servers.append(FakeServer(*tasks, **settings))
        return self.servers[-1]

    def tell(self, server: FakeServer, **secret: Any) -> None:
        """Write secret.json."""
        secret = {"request": 1, "token": "t", "urls": [server.url], "certificate": server.certificate, **secret}
        (self.directory / "secret.json").write_text(json.dumps({"patience": 100.0, "wave": 3, **secret}))

    def work(
        self,
        server: FakeServer,
        constants: dict[str, float] | None = None,
        first: str = "",
        python: str | Path = sys.executable,
        flags: str = "-I",
        **secret: Any,
    ) -> subprocess.Popen[bytes]:
        """Start a worker, with some of its limits as the test needs them."""
        (self.directory / "client.pyz").write_bytes(worker_with(constants or {}))
        self.tell(server, **secret)
        command = f'{first} exec "$0" {flags} "$1/client.pyz" "$1" 7 >>"$1/log" 2>&1'
        self.workers.append(subprocess.Popen(["/bin/sh", "-c", command, python, self.directory]))
        return self.workers[-1]

    def run(self, *tasks: tuple[Any, ...], constants: dict[str, float] | None = None, **settings: Any) -> list[Any]:
        """Have a worker do these tasks; return what came of each."""
        server = self.serve(*tasks, **settings)
        worker = self.work(server, constants)
        assert worker.wait(60) == 0, self.log()
        return server.results()

    def log(self) -> str:
        log = self.directory / "log"
        return log.read_text() if log.exists() else ""

    def spooled(self) -> dict[int, client.Outcome]:
        """Return the outcomes in the spool."""
        found = {}
        for path in (self.directory / "spool").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with path.open("rb") as file:
                header = client.unpack(file)
                assert (header["want"], header["holding"], header["wave"], header["element"]) == (0, [], 3, "7")
                assert path.name.startswith(header["worker"] + "-")
                assert header["call"] > 1
                for task, attempt, kind, seconds in header["outcomes"]:
                    value, output = (client.read_blob(file, header["blobs"].pop(0)) for _ in range(2))
                    found[task] = client.Outcome(task, attempt, kind, seconds, value, output)
                assert not file.read()
        return found

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        for server in self.servers:
            server.close()


@pytest.fixture
def shepherd(tmp_path: Path) -> Iterator[Shepherd]:
    shepherd = Shepherd(tmp_path / "job")
    yield shepherd
    shepherd.close()


WAIT_FOR = "import os, time\nwhile not os.path.exists(args[0]): time.sleep(0.005)\n"
"""The source of a task that waits for a file."""
BUSY = "import ctypes; print('busy', flush=True); ctypes.PyDLL(None).sleep(60)"
"""... of one that holds Python's lock in C."""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


# A task that takes too long


@pytest.mark.parametrize(
    ("source", "traced"),
    [("import time; time.sleep(60)", True), (BUSY, True), (DEAF, False), ("while True: pass", True)],
    ids=["sleeps", "holds the lock in C", "ignores SIGTERM", "loops"],
)
@fault(
    (32, "timeout", "GIL"),
    "a task hangs: it sleeps, loops, ignores SIGTERM, or holds Python's lock in C",
    promise="it is ended after its timeout, with where it was; the tasks behind it run",
)
def test_a_task_beyond_its_timeout_is_ended_and_those_behind_it_run(
    shepherd: Shepherd, source: str, traced: bool
) -> None:
    server = shepherd.serve(*[("result = 1",)] * 40, (source,), *[("result = 2",)] * 40, timeout=0.5)
    assert shepherd.work(server, {"GRACE": 0.3}).wait(60) == 0
    sentence = "the task took longer than its timeout of 0.5 s and was ended"
    assert server.results() == [1] * 40 + [(TIMEOUT, sentence)] + [2] * 40
    outcome = server.outcomes[41]
    assert 0.5 <= outcome.seconds < 5
    assert (b'File "<string>", line 1 in <module>' in outcome.output) == traced


class Slow:
    """A function that takes long to load."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> None: ...

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("(__import__('time').sleep(seconds), abs)[1]", {"seconds": self.seconds})


def test_loading_the_function_is_no_part_of_a_timeout(shepherd: Shepherd) -> None:
    server = shepherd.serve((-3,), timeout=0.4)
    server.function = Slow(1.0)
    assert shepherd.work(server).wait(30) == 0
    assert server.results() == [3]


def test_loading_the_function_does_not_take_for_ever(shepherd: Shepherd) -> None:
    server = shepherd.serve((-3,), timeout=0.4)
    server.function = Slow(60.0)
    assert shepherd.work(server, {"LOADING": 0.6}).wait(30) == 0
    assert server.results() == [(TIMEOUT, "the function was not loaded within 1 s, and its process was ended")]


@fault("timeout", "tasks wait behind one that takes long", promise="they are given back, and run elsewhere")
def test_tasks_behind_one_that_takes_long_are_given_back_before_its_timeout(shepherd: Shepherd) -> None:
    server = shepherd.serve(("result = 1",), ("import time; time.sleep(60)",), *[("result = 2",)] * 9, timeout=2.5)
    server.settings["heartbeat"] = 20.0  # so that no other call says what it holds
    worker = shepherd.work(server)
    until(lambda: len(server.calls) >= 3, "a call after a second")
    assert [call["holding"] for call in server.calls][:3] == [[], [], [[2, 2, 1]]]
    assert worker.wait(30) == 0
    assert [kind for kind, _ in server.results()[1:2]] == [TIMEOUT]
    assert server.results()[2:] == [2] * 9


def test_a_timeout_is_each_tasks_own(shepherd: Shepherd) -> None:
    """Each sleeps for less than the timeout; together they take longer, and longer than STUCK."""
    assert shepherd.run(*[("import time; time.sleep(0.1); result = 1",)] * 25, timeout=0.6) == [1] * 25


@fault("timeout", "a task ends just when its time is over", promise="its result counts")
def test_a_result_that_comes_at_the_timeout_counts(shepherd: Shepherd) -> None:
    handle = "import signal, time\nsignal.signal(15, lambda *_: 0/0)\n"
    caught = handle + "try: time.sleep(60)\nexcept ArithmeticError: result = 7"
    raised = handle + "time.sleep(60)"
    first, second, third = shepherd.run((caught,), (raised,), ("result = 1",), timeout=0.5)
    assert first == 7
    assert second == (TIMEOUT, "the task took longer than its timeout of 0.5 s and was ended")
    assert third == 1


def test_a_crash_leaves_its_traceback_in_the_output(shepherd: Shepherd) -> None:
    server = shepherd.serve(("import ctypes; ctypes.string_at(0)",), ("result = 1",))
    assert shepherd.work(server).wait(30) == 0
    assert server.results() == [
        (DIED, "the task's process was killed by signal 11 (SIGSEGV) before the function returned"),
        1,
    ]
    assert b"Fatal Python error: Segmentation fault" in server.outcomes[1].output


def test_processes_that_a_task_ends_with_sigterm_print_no_traceback(shepherd: Shepherd) -> None:
    source = "import multiprocessing\ncontext = multiprocessing.get_context('fork')\n"
    source += "with context.Pool(2) as pool: result = pool.map(abs, [-1, 2])"
    server = shepherd.serve((source,), (source,), (source,))
    assert shepherd.work(server).wait(60) == 0
    assert server.results() == [[1, 2]] * 3
    # A process that is ended at the very moment of its fork may still print: once in many times, on a busy machine.
    assert b"" in [server.outcomes[index].output for index in (1, 2, 3)]


@fault(
    "preemption",
    "a job is stopped for longer than its task's timeout, then goes on",
    promise="that time does not count: the task ends as if nothing had been",
)
def test_a_task_is_not_charged_for_the_time_its_job_was_stopped(shepherd: Shepherd, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    source = f"import os; open({str(begun)!r}, 'w').write(str(os.getpid()))\n{WAIT_FOR}result = 1"
    server = shepherd.serve((source, str(go)), timeout=4.0)
    worker = shepherd.work(server)
    until(lambda: begun.exists() and begun.read_text(), "the task has begun")
    pids = [worker.pid, int(begun.read_text())]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(5)  # the fault itself
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)
    time.sleep(0.3)  # now it would be ended
    go.touch()
    assert worker.wait(10) == 0
    assert server.results() == [1]


# What a function leaves behind

PROBE = """
import os, signal, sys, threading, time
result = [os.getcwd(), os.umask(0o22), os.nice(0), signal.getitimer(0), signal.getsignal(10), threading.active_count()]
result += [{k: v for k, v in os.environ.items() if k != "SHEEPDOG_TASK_INDEX"}, sys.stdout is sys.__stdout__]
result += [os.readlink("/proc/self/fd/1"), os.readlink("/proc/self/fd/2")]
result += [open("/proc/self/task/%d/children" % os.getpid()).read()]
print("probe")
"""
START = "import subprocess; pid = subprocess.Popen(['sleep', '60']).pid; open(args[0], 'w').write(str(pid))"
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(args[0] + ".new", "w").write(str(os.getpid()))
        os.rename(args[0] + ".new", args[0])
        time.sleep(60)
    os._exit(0)
os.wait()
while not os.path.exists(args[0]): time.sleep(0.005)
"""
MESSES = {
    "directory": "import os; os.chdir('/')",
    "umask": "import os; os.umask(0o77)",
    "niceness": "import os; os.nice(3)",
    "alarm": "import signal; signal.setitimer(signal.ITIMER_REAL, 0.2)",
    "handler": "import signal; signal.signal(10, lambda *_: None)",
    "thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
    "process": START,
    "daemon": DAEMON,
    "both sides of a fork": "import os; os.fork(); result = None",
    "variables": "import os; os.environ['NEW'] = os.environ['PATH'] = 'x'; del os.environ['SHEEPDOG_REQUEST_ID']",
    "streams": "import io, sys; sys.stdout = sys.stderr = io.StringIO()",
    "descriptor of a stream": "import os; os.dup2(os.open(args[0], os.O_RDWR | os.O_CREAT), 1); print('mine')",
    "all files closed": "import os; os.closerange(0, 1024)",
}
CLEAN = "the next task finds a clean process"
SHOWN = {
    "directory": fault((34, "chdir"), "a task changes its directory", promise=CLEAN),
    "umask": fault(34, "a task changes its umask, niceness or environment", promise=CLEAN),
    "handler": fault((34, "signal handlers"), "a task installs a signal handler or an alarm", promise=CLEAN),
    "thread": fault("threads", "a task leaves a thread that goes on", promise=CLEAN),
    "process": fault((30, "processes left"), "a task leaves programs or a daemon running", promise=f"ended; {CLEAN}"),
    "both sides of a fork": fault((30, "fork"), "a task forks and returns twice", promise=f"one outcome; {CLEAN}"),
    "all files closed": fault((34, "stdout closed"), "a task closes all its files, or replaces stdout", promise=CLEAN),
}


@pytest.mark.parametrize(
    "mess", [pytest.param(mess, id=name, marks=SHOWN.get(name, ())) for name, mess in MESSES.items()]
)
def test_the_next_task_finds_a_clean_process(shepherd: Shepherd, tmp_path: Path, mess: str) -> None:
    file = tmp_path / "file"
    server = shepherd.serve((PROBE,), (mess, str(file)), ("import time; time.sleep(0.4)",), (PROBE,))
    server.settings["heartbeat"] = 20.0
    assert shepherd.work(server).wait(30) == 0
    before, nothing, _, after = server.results()
    assert nothing is None
    names = [name.rpartition("#")[0] for name in before[8:10]]  # of the files that capture the output
    assert [name.rpartition("#")[0] for name in after[8:10]] == names
    assert after[:8] + after[10:] == before[:8] + before[10:]
    assert server.outcomes[4].output == b"probe\n"
    if mess in (START, DAEMON):
        assert not alive(int(file.read_text()))
    if "dup2" in mess:
        assert file.read_text() == "mine\n"
    assert "Traceback" not in shepherd.log()


@fault(
    "stdout closed",
    "a task closes all files and opens its own in their place",
    promise="the worker writes into none of them",
)
def test_an_outcome_is_never_written_into_a_users_file(shepherd: Shepherd, tmp_path: Path) -> None:
    source = """
import os
for fd in range(3, 1024):
    try: os.close(fd)
    except OSError: pass
files = [os.open(os.path.join(args[0], str(n)), os.O_RDWR | os.O_CREAT) for n in range(1020)]
print("some output")
result = len(files)
"""
    (tmp_path / "files").mkdir()
    server = shepherd.serve((source, str(tmp_path / "files")), (PROBE,))
    worker = shepherd.work(server, first="ulimit -n 1024;")
    assert worker.wait(30) == 0
    assert server.results()[0] == 1020
    assert server.outcomes[1].output == b"some output\n"
    assert {path.stat().st_size for path in (tmp_path / "files").iterdir()} == {0}


def test_modules_and_their_variables_stay(shepherd: Shepherd, tmp_path: Path) -> None:
    """What an import sets in the environment is left, or each task that imports would need a fresh process."""
    (tmp_path / "sets_a_variable.py").write_text("import os\nos.environ['SET'] = '1'\n")
    source = (
        "import os, sys; sys.path.insert(0, args[0]); import sets_a_variable\nresult = os.getpid(), os.environ['SET']"
    )
    first, second, third = shepherd.run(*[(source, str(tmp_path))] * 3)
    assert first == second == third
    assert first[1] == "1"


def test_a_fresh_process_after_so_many_tasks(shepherd: Shepherd) -> None:
    pids = shepherd.run(*[("import os; result = os.getpid()",)] * 30, tasks_per_child=4)
    runs = [len(list(group)) for _, group in itertools.groupby(pids)]
    assert runs == [4] * 7 + [2]
    assert "process" not in shepherd.log()


def test_a_planned_end_is_logged_once(shepherd: Shepherd) -> None:
    assert shepherd.run(*[("import os; os.nice(1)",)] * 5) == [None] * 5
    assert shepherd.log().count("fresh process") == 1
    assert "its niceness" in shepherd.log()


@fault("binary output", "a task prints every byte there is", promise="its output comes as it is")
def test_binary_output_comes_as_it_is(shepherd: Shepherd) -> None:
    server = shepherd.serve(("import os; os.write(1, bytes(range(256)))",))
    assert shepherd.work(server).wait(30) == 0
    assert server.outcomes[1].output == bytes(range(256))


@fault(
    (28, "stdout flooded"), "a task prints a gigabyte", promise="the disk does not fill; the end of the output is kept"
)
def test_a_flood_of_output_does_not_fill_the_disk(shepherd: Shepherd, tmp_path: Path) -> None:
    flood = "import os\nfor _ in range(1024): os.write(1, b'x' * (1 << 20))\nprint('the end')"
    server = shepherd.serve((flood,), ("result = 1",))
    (tmp_path / "tmp").mkdir()
    most = 0
    worker = shepherd.work(server, first=f"TMPDIR={tmp_path / 'tmp'}; export TMPDIR;")
    while worker.poll() is None:
        most = max(most, *(size_of_unlinked(pid, tmp_path / "tmp") for pid in [worker.pid]))
        time.sleep(0.002)
    assert worker.wait() == 0
    assert server.results() == [None, 1]
    assert server.outcomes[1].output.endswith(b"the end\n")
    assert len(server.outcomes[1].output) < MAX_OUTPUT + 100
    assert 0 < most < 700 << 20


def size_of_unlinked(pid: int, directory: Path) -> int:
    """The bytes that a process has in deleted files of a directory."""
    found = 0
    try:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            if os.readlink(path).startswith(str(directory)):
                found += path.stat().st_blocks * 512
    except OSError:
        pass
    return found


# Memory


@fault(
    (31, "memory"),
    "the kernel kills a task for its memory",
    promise="its error says so, with what it had and what was allowed; the next task runs",
)
def test_a_task_that_the_kernel_ends_for_its_memory_is_said_to_be(shepherd: Shepherd) -> None:
    group = Path(f"/sys/fs/cgroup/memory/sheepdog-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no control group of version 1 can be made here")
    try:
        (group / "memory.limit_in_bytes").write_text(str(200 << 20))
        server = shepherd.serve(("x = bytearray(400 << 20)",), ("result = 1",))
        worker = shepherd.work(server, first=f"echo $$ >{group / 'cgroup.procs'} || exit 9;")
        assert worker.wait(60) == 0, shepherd.log()
        (kind, text), one = server.results()
        assert (kind, one) == (MEMORY, 1)
        assert re.fullmatch(r"out of memory: its process had 1\d\d MB at most, the limit is 200 MB", text)
    finally:
        shepherd.close()
        group.rmdir()


def test_a_task_that_fills_its_memory_bit_by_bit_says_so(shepherd: Shepherd) -> None:
    server = shepherd.serve(("x = []\nwhile True: x.append([0] * 9)",), ("result = 1",))
    assert shepherd.work(server, memory_limit=400 << 20).wait(60) == 0
    (kind, text), one = server.results()
    assert (kind, one) == (MEMORY, 1)
    assert text == "out of memory: its process had 399 MB at most, the limit is 400 MB; MemoryError"


# The end of the worker's time


def warned(shepherd: Shepherd, server: FakeServer, worker: subprocess.Popen[bytes], *numbers: int) -> dict[str, Any]:
    """Send signals, and wait until the worker has called; return that call."""
    before = len(server.calls)
    for number in numbers:
        worker.send_signal(number)
    until(lambda: any(call["leaving"] for call in server.calls[before:]), "the worker says that it leaves", 5)
    return next(call for call in server.calls if call["leaving"])


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([signal.SIGUSR1], "SIGUSR1 from the scheduler (to be suspended, or its time is nearly over)"),
        ([signal.SIGUSR2, signal.SIGUSR2], "SIGUSR2 from the scheduler (deleted, or its time was over)"),
        ([signal.SIGTERM], "SIGTERM (deleted, or its time was over)"),
        ([signal.SIGXCPU] * 5, "SIGXCPU (a soft limit of processor time or memory was passed)"),
        ([signal.SIGCONT, signal.SIGUSR1], "SIGUSR1 from the scheduler (to be suspended, or its time is nearly over)"),
    ],
)
@fault(
    (35, "notify", "s_rt", "preemption"),
    "the scheduler warns a worker: SIGUSR1, SIGUSR2, SIGTERM or SIGXCPU, once or often",
    promise="it hands back what has not begun, and delivers the rest",
)
def test_a_warned_worker_hands_back_what_has_not_begun_and_delivers_the_rest(
    shepherd: Shepherd, tmp_path: Path, numbers: list[int], reason: str
) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    wait = f"open({str(begun)!r}, 'w').close()\n{WAIT_FOR}result = 5"
    server = shepherd.serve(("result = 1",), (wait, str(go)), *[("result = 2",)] * 5)
    server.settings["heartbeat"] = 60.0
    worker = shepherd.work(server, notice=30)
    until(begun.exists, "the task has begun")
    call = warned(shepherd, server, worker, *numbers)
    assert call["want"] == 0
    assert call["leaving"]["reason"] == reason
    assert 20 < call["leaving"]["seconds"] <= 30
    assert call["holding"] in ([[2, 2, 1]], [])  # that it has ended may be news, too
    for number in numbers:
        worker.send_signal(number)
    go.touch()
    assert worker.wait(10) == 0
    assert server.results() == [1, 5]
    assert {call["want"] for call in server.calls if call["leaving"]} == {0}


@fault(
    (35, "notify", "preemption"),
    "a task lasts longer than the scheduler's warning",
    promise="it is interrupted, with the reason, and may run elsewhere",
)
def test_a_task_that_outlasts_the_notice_is_interrupted(shepherd: Shepherd, tmp_path: Path) -> None:
    server = shepherd.serve((f"open({str(tmp_path / 'begun')!r}, 'w')\n{WAIT_FOR}", "/nonexistent"))
    server.stop_when_done = False
    start = time.monotonic()
    worker = shepherd.work(server, {"LEAVING_BEAT": 0.3}, notice=3)
    until((tmp_path / "begun").exists, "the task has begun")
    warned(shepherd, server, worker, signal.SIGUSR2)
    assert worker.wait(10) == 0
    assert 1.5 < time.monotonic() - start < 6
    sentence = "the worker was ended while the task ran: SIGUSR2 from the scheduler (deleted, or its time was over)"
    assert server.results() == [(INTERRUPTED, sentence)]
    assert len([call for call in server.calls if call["leaving"]]) >= 5  # it called on meanwhile


def test_a_warned_worker_ends_at_once_if_the_server_says_so(shepherd: Shepherd, tmp_path: Path) -> None:
    server = shepherd.serve((f"open({str(tmp_path / 'begun')!r}, 'w')\n{WAIT_FOR}", "/nonexistent"))
    worker = shepherd.work(server, notice=60)
    until((tmp_path / "begun").exists, "the task has begun")
    server.extra = {"stop": True}
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(5) == 0


@fault(
    (45, 46),
    "a worker must end while the server does not answer",
    promise="its outcomes are left in files, to be collected",
)
def test_a_warning_is_not_lost_while_the_server_does_not_answer(shepherd: Shepherd, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    server = shepherd.serve((f"open({str(begun)!r}, 'w')\n{WAIT_FOR}result = 5", str(go)))
    worker = shepherd.work(server, notice=4)
    until(begun.exists, "the task has begun")
    server.answers.clear()
    until(lambda: server.waiting, "a call has no answer")
    worker.send_signal(signal.SIGUSR2)
    go.touch()
    assert worker.wait(6) == 0
    assert {task: pickle.loads(outcome.value) for task, outcome in shepherd.spooled().items()} == {1: 5}
    assert "1 outcomes wait for the server in" in shepherd.log()


def test_a_warning_before_the_server_has_been_found_ends_the_worker(shepherd: Shepherd) -> None:
    server = shepherd.serve()
    server.status = (503, {})
    worker = shepherd.work(server)
    until(lambda: "trying on" in shepherd.log(), "the server has refused")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(5) == 0


@fault(
    "preemption",
    "the scheduler ends the task's process before the worker",
    promise="it counts as interrupted, not as failed",
)
def test_a_scheduler_that_ends_the_task_first_interrupts_it(shepherd: Shepherd, tmp_path: Path) -> None:
    """As Slurm, which signals all processes of a job."""
    source = f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n{WAIT_FOR}"
    server = shepherd.serve((source, "/nonexistent"))
    worker = shepherd.work(server)
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the task has begun")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    assert server.results() == [
        (INTERRUPTED, "the worker was ended while the task ran: SIGTERM (deleted, or its time was over)")
    ]


@fault(
    (35, "no notify"),
    "the walltime ends, and no signal says so before",
    promise="the worker knows its time, and says why it leaves before it is killed",
)
def test_the_end_of_the_walltime_is_a_warning(shepherd: Shepherd) -> None:
    server = shepherd.serve((WAIT_FOR, "/nonexistent"))
    server.stop_when_done = False
    start = time.monotonic()
    worker = shepherd.work(server, time=5, notice=60)
    assert worker.wait(10) == 0
    assert 3.5 < time.monotonic() - start < 5.5
    assert server.results() == [(INTERRUPTED, "the worker was ended while the task ran: its walltime of 5 s was over")]
    reasons = {call["leaving"]["reason"] for call in server.calls if call["leaving"]}
    assert reasons == {"its walltime of 5 s was over"}


def test_outcomes_that_the_walltime_leaves_no_time_to_deliver_are_spooled(shepherd: Shepherd, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    server = shepherd.serve((f"open({str(begun)!r}, 'w')\n{WAIT_FOR}result = 5", str(go)))
    start = time.monotonic()
    worker = shepherd.work(server, time=6)
    until(begun.exists, "the task has begun")
    server.status = (507, {"Retry-After": "60"})
    go.touch()
    assert worker.wait(10) == 0
    assert 4.5 < time.monotonic() - start < 6.5
    assert pickle.loads(shepherd.spooled()[1].value) == 5


@fault(
    (35, "no notify"),
    "the rest of the walltime is shorter than a task",
    promise="the worker takes none, and leaves; no task is interrupted",
)
def test_no_task_is_taken_that_the_walltime_cannot_hold(shepherd: Shepherd) -> None:
    server = shepherd.serve(*[("import time; time.sleep(0.4); result = 1",)] * 40)
    worker = shepherd.work(server, time=5)
    assert worker.wait(10) == 0
    assert 5 <= len(server.outcomes) < 12
    assert set(server.results()) == {1}  # none was interrupted
    assert server.calls[-1]["leaving"]["reason"] == "its walltime ends before another task could"


# What replies say


def test_outcomes_that_came_too_late_are_logged_now_and_then(shepherd: Shepherd) -> None:
    server = shepherd.serve(*[("result = 1",)] * 3)
    server.extra = {"late": [1, 2]}
    assert shepherd.work(server).wait(30) == 0
    assert shepherd.log().count("came too late") == 1


@fault(10, "a worker runs a task that has ended elsewhere", promise="it is told, and stops running it")
def test_tasks_that_have_ended_elsewhere_are_dropped(shepherd: Shepherd, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    wait = f"import os; open({str(begun)!r}, 'w').write(str(os.getpid()))\n{WAIT_FOR}"
    server = shepherd.serve(("result = 1",), (wait, "/nonexistent"), ("result = 3",), ("result = 4",), ("result = 5",))
    server.stop_when_done = False
    worker = shepherd.work(server, {"STUCK": 100.0})
    until(lambda: begun.exists() and begun.read_text(), "the task has begun")
    server.extra = {"drop": [2, 3]}
    until(lambda: len(server.outcomes) == 3, "the others have ended")
    assert sorted(server.outcomes) == [1, 4, 5]
    assert not alive(int(begun.read_text()))
    server.extra = {"stop": True}
    assert worker.wait(10) == 0


@pytest.mark.parametrize("when", ["at join", "later"])
@fault("cancel", "a worker calls for a request that has ended", promise="it ends, with status 0")
def test_a_request_that_has_ended_is_no_failure(shepherd: Shepherd, tmp_path: Path, when: str) -> None:
    server = shepherd.serve((f"open({str(tmp_path / 'begun')!r}, 'w')\n{WAIT_FOR}", "/nonexistent"))
    if when == "at join":
        server.status = (410, {})
    worker = shepherd.work(server)
    if when == "later":
        until((tmp_path / "begun").exists, "the task has begun")
        server.status = (410, {})
    assert worker.wait(10) == 0
    assert "the server says 410" in shepherd.log()


@fault(21, "a worker whose token is wrong", promise="it ends at once, with one line in its log")
@pytest.mark.parametrize("status", [401, 403])
def test_a_worker_whose_token_is_wrong_ends_at_once(shepherd: Shepherd, status: int) -> None:
    server = shepherd.serve(("result = 1",))
    server.status = (status, {})
    worker = shepherd.work(server)
    assert worker.wait(10) == 1
    assert server.calls == []
    greeting, *rest = shepherd.log().splitlines()
    assert "request 1" in greeting
    assert [line.partition(": ")[2] for line in rest] == [f"ends: the server says {status}: no"]


def with_undelivered(shepherd: Shepherd, tmp_path: Path, status: int, **constants: float) -> subprocess.Popen[bytes]:
    """Return a worker that has the outcomes 2 to 7, which the server will not take."""
    begun, go = tmp_path / "begun", tmp_path / "go"
    wait = f"open({str(begun)!r}, 'w')\n{WAIT_FOR}result = b'7'"
    server = shepherd.serve(*[("result = b'x' * 400_000",)] * 6, (wait, str(go)), heartbeat=60.0)
    worker = shepherd.work(server, {"STUCK": 100.0, **constants}, notice=3)
    until(begun.exists, "the last task has begun")
    assert list(server.outcomes) == [1]
    server.status = (status, {})
    go.touch()
    return worker


@fault(
    21,
    "the server refuses a worker that has outcomes",
    promise="it ends at once, and leaves them in files, to be collected",
)
def test_a_worker_that_is_refused_leaves_its_outcomes_in_the_spool(shepherd: Shepherd, tmp_path: Path) -> None:
    assert with_undelivered(shepherd, tmp_path, 403).wait(10) == 1
    found = shepherd.spooled()
    assert sorted(found) == [2, 3, 4, 5, 6, 7]
    assert pickle.loads(found[7].value) == b"7"


def test_the_files_of_a_spool_are_of_the_size_of_a_call(shepherd: Shepherd, tmp_path: Path) -> None:
    worker = with_undelivered(shepherd, tmp_path, 507, MAX_CALL=1_000_000)
    worker.send_signal(signal.SIGUSR2)
    assert worker.wait(10) == 0
    assert sorted(shepherd.spooled()) == [2, 3, 4, 5, 6, 7]
    sizes = [path.stat().st_size for path in (shepherd.directory / "spool").iterdir()]
    assert len(sizes) == 3
    assert max(sizes) < 1_000_000


def test_a_spool_that_cannot_be_written_is_logged(shepherd: Shepherd, tmp_path: Path) -> None:
    (shepherd.directory / "spool").write_text("")
    worker = with_undelivered(shepherd, tmp_path, 507)
    worker.send_signal(signal.SIGUSR2)
    assert worker.wait(10) == 0
    assert "6 outcomes are lost: they cannot be written to" in shepherd.log()


@pytest.mark.parametrize(("after", "least", "most"), [("2", 2.0, 4.0), ("999", 0.0, 1.5), ("soon", 0.0, 1.5)])
@fault(50, "a server that is busy", promise="it says when to come again, and the worker comes then")
def test_a_server_that_is_busy_is_given_the_time_it_asks_for(
    shepherd: Shepherd, after: str, least: float, most: float
) -> None:
    server = shepherd.serve(("result = 1",))
    worker = shepherd.work(server)
    server.status = (503, {"Retry-After": after})
    until(lambda: len(server.times) >= 1 or "trying on" in shepherd.log(), "it has been refused")
    start = time.monotonic()
    server.status = (200, {})
    assert worker.wait(20) == 0
    assert least * 0.9 <= time.monotonic() - start < most
    assert server.results() == [1]


@fault(
    (19, "port taken"),
    "a worker has lost its server, which is at another port now",
    promise="it reads where, and goes on",
)
def test_a_server_that_has_moved_is_found_again(shepherd: Shepherd, tmp_path: Path) -> None:
    first = shepherd.serve(("result = 1",))
    second = shepherd.serve(("result = 1",))
    first.status = (500, {})
    worker = shepherd.work(first, certificate=first.certificate + second.certificate)
    until(lambda: "trying on" in shepherd.log(), "the first server fails")
    shepherd.tell(second)
    assert worker.wait(30) == 0
    assert second.results() == [1]
    assert f"the server is now at {second.url}" in shepherd.log()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"urls": []}', '{"urls": [7]}', '{"urls": "x"}', '{"urls": ["https://x"]}']
)
def test_addresses_that_cannot_be_read_are_left_as_they_are(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret.json").write_text(text)
    secret = {"directory": str(tmp_path), "urls": ["https://here:1"], "certificate": make_certificate()[0]}
    signals = Signals()
    line = Line(secret, {"worker": "w"}, signals)
    line.look_for_addresses()
    assert secret["urls"] == ["https://here:1"]
    for fd in (signals.woken, signals.wake):
        os.close(fd)


# The exit status


@fault("disk full", "the disk is full where a worker writes its log", promise="it works on")
def test_a_full_disk_under_the_log_does_not_end_the_worker(shepherd: Shepherd) -> None:
    server = shepherd.serve(("result = 1",))
    worker = shepherd.work(server, first="exec 3>/dev/full;")
    assert worker.wait(30) == 0
    assert server.results() == [1]


@pytest.mark.parametrize("number", [signal.SIGINT, None])
@fault(
    ("exit 99", "exit 100"),
    "a worker fails, whatever the reason",
    promise="its status is 1; the scheduler sees neither 99 nor 100",
)
def test_the_status_is_one_whatever_goes_wrong(shepherd: Shepherd, number: int | None) -> None:
    server = shepherd.serve()
    server.status = (503, {})
    if number is None:
        worker = shepherd.work(server, request="none")
    else:
        worker = shepherd.work(server)
        until(lambda: "trying on" in shepherd.log(), "the worker runs")
        worker.send_signal(number)
    assert worker.wait(10) == 1


# The archive


@pytest.mark.parametrize("flags", ["", "-I", "-I -S", "-E"])
def test_functions_do_not_find_the_workers_files(shepherd: Shepherd, flags: str) -> None:
    server = shepherd.serve(("import sys; result = sys.path, sys.argv, [*vars(sys.modules['__main__'])]",))
    assert shepherd.work(server, flags=flags).wait(30) == 0
    [(path, argv, names)] = server.results()
    assert path[0] == str(shepherd.directory / "cloudpickle.zip")
    assert not [place for place in path[1:] if place.startswith(str(shepherd.directory))]
    assert argv == [""]
    assert all(name.startswith("__") for name in names)


def test_modules_of_a_user_are_found_whatever_their_names(shepherd: Shepherd, tmp_path: Path) -> None:
    rooms = [path.stem for path in Path(client.__file__).parent.glob("[a-z]*.py")]
    assert "values" in rooms
    for name in ["client", *rooms]:
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    server = shepherd.serve(*[(f"import {name}; result = {name}.MINE",) for name in ["client", *rooms]])
    worker = shepherd.work(server, first=f"PYTHONPATH={tmp_path}; export PYTHONPATH;", flags="")
    assert worker.wait(30) == 0, shepherd.log()
    assert server.results() == [True] * (len(rooms) + 1)


# Other Pythons


@pytest.mark.parametrize("minor", range(6, 15))
@fault(49, "a compute node with a Python from 3.6 on", promise="the worker works there")
def test_it_works_on_this_python(shepherd: Shepherd, minor: int) -> None:
    pythons = sorted(Path(sys.base_prefix).parent.glob(f"3.{minor}.*/bin/python3"))
    if not pythons:
        pytest.skip(f"no Python 3.{minor} beside the one that runs the tests")
    server = shepherd.serve(
        ("abs(-3)",),
        ("__import__('os').chdir('/')",),
        ("__import__('os').getcwd() == '/'",),
        ("__import__('os').closerange(0, 1024)",),
        ("__import__('time').sleep(60)",),
        ("__import__('threading').Timer(60, print).start()",),
        ("__import__('threading').active_count()",),
        ("__import__('os')._exit(3)",),
        ("bytearray(1 << 40)",),
        ("1 + 1",),
        timeout=1.0,
    )
    server.function = eval
    worker = shepherd.work(server, python=pythons[-1], memory_limit=2 << 30)
    assert worker.wait(30) == 0, shepherd.log()
    results = server.results()
    assert results[:4] == [3, None, False, None]
    assert results[4] == (TIMEOUT, "the task took longer than its timeout of 1 s and was ended")
    assert results[5:7] == [None, 1]
    assert results[7] == (DIED, "the task's process exited with status 3 before the function returned")
    assert results[8][0] == MEMORY
    assert results[9] == 2
    assert b"most recent call first" in server.outcomes[5].output
    assert "Traceback" not in shepherd.log()
