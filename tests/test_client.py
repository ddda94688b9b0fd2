"""The worker's parts: frames, values, the child with real forks. (The road as a whole is tested elsewhere.)"""

import functools
import io
import json
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheepdog import client
from sheepdog.client import ERROR, IN_MEMORY, MAX_OUTPUT, MAX_TEXT, RESULT, Child, explain, functions_behind, inject
from sheepdog.serialisation import cloudpickle_archive, serialise_function

from .cluster import until

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
def test_an_error_begins_with_one_line_that_says_what_happened(error: BaseException, summary: str) -> None:
    first, second = explain(raised(error)).decode().splitlines()[:2]
    assert first == summary
    assert "Traceback" in second or 'File "' in second


def test_the_frames_of_the_worker_are_left_out() -> None:
    text = explain(raised(ValueError("so")), skip=1).decode()
    assert text == "ValueError: so\nValueError: so\n"
    assert explain(ValueError("never raised"), skip=5).decode().startswith("ValueError: never raised\n")


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
    short = client.shorten(text, limit)
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


def outcomes(child: Child, count: int, seconds: float = 20) -> list[Any]:
    """Wait for so many outcomes; return (task, kind, value) of each."""
    found: list[Any] = []
    end = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < end, f"{len(found)} outcomes of {count} in {seconds} s: {found}"
        new, ended = child.collect(0.5)
        found += [(outcome.task, outcome.kind, read(outcome.value)) for outcome in new]
        assert not ended, found
    assert len(found) == count
    return found


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
            return (*child.autopsy(), found)
    raise AssertionError(f"the end of the child was not noticed in {seconds} s")


def test_tasks_run_in_order(start: Start) -> None:
    child = start()
    give(child, ("a",), ("raise", "so"), ("b",))
    first, second, third = outcomes(child, 3)
    assert first == (1, RESULT, pickle.dumps("a", 4))
    assert second[:2] == (2, ERROR)
    assert second[2].decode().splitlines()[:2] == ["ValueError: so", "Traceback (most recent call last):"]
    assert b"/client.py" not in second[2]
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
def test_a_task_that_ends_its_process_is_named_and_the_others_are_left(start: Start, call: Any, how: str) -> None:
    child = start()
    give(child, ("a",), call, ("b",), ("c",))
    what, outcome, left, before = death(child)
    assert what == how
    assert [each.task for each in before] == [1]
    assert outcome is not None
    assert (outcome.task, outcome.kind) == (2, ERROR)
    assert outcome.value.decode() == f"the task's process {how} before the function returned"
    assert [(index, attempt) for index, attempt, _ in left] == [(3, 1), (4, 1)]
    another = start()
    another.give(left)
    assert [task for task, _, _ in outcomes(another, 2)] == [3, 4]


def test_sys_exit_is_the_tasks_error_not_the_childs_end(start: Start) -> None:
    child = start()
    give(child, ("sys.exit", 3), ("sys.exit", "so"), ("a",))
    (_, kind, text), (_, _, other), last = outcomes(child, 3)
    assert (kind, text.splitlines()[0], other.splitlines()[0]) == (ERROR, b"SystemExit: 3", b"SystemExit: so")
    assert last[:2] == (3, RESULT)


def test_a_child_that_dies_before_any_task_leaves_them_all(start: Start) -> None:
    child = start()
    os.kill(child.pid, signal.SIGKILL)
    give(child, ("a",), ("length", b"x" * 10**6), ("b",))  # more than a pipe holds
    what, outcome, left, before = death(child)
    assert (what, outcome, before) == ("was killed by signal 9 (SIGKILL)", None, [])
    assert [index for index, _, _ in left] == [1, 2, 3]


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
    assert kind == ERROR
    assert text.startswith(b"the result has 20")
    assert text.endswith(b"bytes; at most 1000 can be stored: write it to a file and return its name")
    assert second[1] == RESULT


def test_a_result_that_cannot_travel_is_an_error_that_says_so(start: Start) -> None:
    child = start()
    give(child, ("unserialisable",))
    [(_, kind, text)] = outcomes(child, 1)
    assert kind == ERROR
    assert text.startswith(b"the result, a generator, cannot be serialised: TypeError: cannot pickle 'generator'")


def test_a_function_that_cannot_be_loaded_is_every_tasks_error() -> None:
    child = Child({"directory": "/nonexistent", "request": 1, "max_value": 10**6}, b"no pickle", b"")
    try:
        give(child, ("a",), ("b",))
        for _, kind, text in outcomes(child, 2):
            assert kind == ERROR
            assert text.startswith(b"the function cannot be loaded here: UnpicklingError: ")
    finally:
        child.kill()


def test_arguments_that_cannot_be_loaded_are_their_tasks_error(start: Start) -> None:
    child = start()
    child.give([(1, 1, b"no pickle"), (2, 1, arguments("a"))])
    (_, kind, text), second = outcomes(child, 2)
    assert kind == ERROR
    assert text.startswith(b"the arguments cannot be loaded here: UnpicklingError: ")
    assert second[1] == RESULT


def printed(child: Child, *calls: Any) -> list[bytes]:
    give(child, *calls)
    found: list[Any] = []
    while len(found) < len(calls):
        new, ended = child.collect(10)
        assert new, "nothing more in 10 s"
        assert not ended
        found += new
    return [outcome.output for outcome in found]


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
    capture = client.Capture()
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
    assert (kind, text.splitlines()[0]) == (ERROR, b"MemoryError")
    assert second[:2] == (2, RESULT)


@pytest.mark.parametrize("when", ["at once", "in the midst of a task"])
def test_a_child_ends_with_its_parent(tmp_path: Path, when: str) -> None:
    script = """
import os, pickle, sys, time
from sheepdog.client import Child
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
