"""The executor on this machine: real workers, server and store."""

import asyncio
import concurrent.futures
import gc
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from pathlib import Path
from typing import Any

import pytest

import sheepdog
from sheepdog import Executor
from sheepdog.errors import SerialisationError, TaskFailed, UntrustedResult
from sheepdog.storage import Storage
from sheepdog.values import serialisation
from sheepdog.values.model import RequestState
from sheepdog.values.ranges import total
from tests.faults import fault
from tests.front.cpython_executor import CANNOT_APPLY, SHARED
from tests.local import DB, ROOT, workers_of
from tests.tasks import wait_for
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("place")


class Odd(Exception):
    """Pickled with two arguments, of which its message has one."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number

    def __reduce__(self) -> Any:
        return Odd, (self.args[0], self.number)


class Lost(Exception):
    """Cannot be rebuilt from what it keeps."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(one)


def note_and_wait(path: str, controller: Any) -> str:
    """The first attempt never ends."""
    import pathlib
    import time

    controller.report(controller.attempt)
    before = controller.restored()
    if before is not None:
        return f"from {before}"
    controller.checkpoint(controller.attempt)
    pathlib.Path(path).touch()
    while True:
        time.sleep(0.01)


class Exits:
    """Its loading ends the program."""

    def __reduce__(self) -> Any:
        return sys.exit, (3,)


def raise_exits() -> None:
    error = ValueError("so")
    error.args = (Exits(),)
    raise error


def raise_odd() -> None:
    raise Odd("is raised", 7)


def raise_lost() -> None:
    raise Lost(1, 2)


def work(executor: Executor) -> Any:
    """Return what the store says of the executor's request."""
    assert executor.request_id is not None
    with Storage(DB) as storage:
        return storage.get_request(executor.request_id)


def arrays(executor: Executor) -> int:
    assert executor.request_id is not None
    with Storage(DB) as storage:
        return len(storage.arrays(executor.request_id))


# --- CPython's own tests


@pytest.mark.parametrize("name", SHARED)
def test_cpythons_tests(name: str, cpython_tests: Path, place: Path) -> None:
    config = {"dbfile": DB, "scheduler": "local"}
    command = [sys.executable, "-m", "tests.front.cpython_executor", str(cpython_tests), json.dumps(config), name]
    paths = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = subprocess.run(command, env=paths, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr


def test_what_cannot_apply_is_there(cpython_tests: Path) -> None:
    """Those that are left out are tests of these classes still."""
    text = (cpython_tests / "test_concurrent_futures.py").read_text()
    assert all(f"def {name}(self)" in text for name in CANNOT_APPLY)


# --- calls


@pytest.fixture
def executor(place: Path) -> Iterator[Executor]:
    """One worker."""
    executor = Executor(workers=1)
    yield executor
    if executor.request_id:  # a test that fails may leave calls that wait
        sheepdog.cancel(executor.request_id, DB)
    executor.shutdown()


def test_submit(executor: Executor) -> None:
    assert executor.request_id is None
    assert executor.submit(pow, 2, 10).result() == 1024
    assert executor.submit(dict, [("a", 1)], b=2).result() == {"a": 1, "b": 2}
    assert executor.request_id == 1


def test_many_threads(executor: Executor) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda i: executor.submit(str, i).result(), range(200)))
    assert found == [str(i) for i in range(200)]
    assert arrays(executor) == 1


def test_many_calls(executor: Executor) -> None:
    assert list(executor.map(pow, range(5000), [2] * 5000, chunksize=7)) == [i**2 for i in range(5000)]


def test_large_values(executor: Executor) -> None:
    data = os.urandom(20_000_000)
    assert executor.submit(bytes.__add__, data, b"!").result() == data + b"!"


def test_exception(executor: Executor) -> None:
    """It is the original one, and its cause tells where it was raised."""
    error = executor.submit(divmod, 1, 0).exception()
    assert type(error) is ZeroDivisionError
    assert isinstance(error.__cause__, TaskFailed)
    assert "ZeroDivisionError" in str(error.__cause__)
    assert "task 1 of request 1, attempt 1, on " in str(error.__cause__)
    odd = executor.submit(raise_odd).exception()
    assert isinstance(odd, Odd)
    assert (str(odd), odd.number) == ("is raised", 7)
    assert 'in raise_odd\n    raise Odd("is raised", 7)' in str(odd.__cause__)
    assert type(executor.submit(sys.exit, 3).exception()) is SystemExit


def test_exception_that_cannot_be_rebuilt(executor: Executor) -> None:
    error = executor.submit(raise_lost).exception()
    assert isinstance(error, TaskFailed)
    assert "Lost: 1" in str(error)
    assert (error.request, error.task) == (1, 1)


def test_process_that_dies(executor: Executor) -> None:
    """The call fails; the worker goes on with another process."""
    failed = executor.submit(os._exit, 3)
    after = executor.submit(pow, 2, 3)
    with pytest.raises(TaskFailed, match="exited with status 3 before the function returned"):
        failed.result()
    assert after.result() == 8


def test_what_ends_the_program_when_it_is_loaded(executor: Executor) -> None:
    """It ends this call, and no other."""
    with pytest.raises(TaskFailed, match="the result cannot be loaded here: SystemExit: 3"):
        executor.submit(Exits).result(60)
    with pytest.raises(TaskFailed, match="ValueError"):
        executor.submit(raise_exits).result(60)
    assert executor.submit(pow, 2, 3).result(60) == 8


def test_untrusted(place: Path) -> None:
    """Neither a result nor an exception is loaded that is more than plain data."""
    with Executor({"trusted": False}, workers=1) as executor:
        assert executor.submit(pow, 2, 3).result() == 8
        with pytest.raises(UntrustedResult):
            executor.submit(Path, "/").result()
        assert type(executor.submit(divmod, 1, 0).exception()) is TaskFailed


def test_bad_calls(executor: Executor) -> None:
    with pytest.raises(TypeError, match="fn is 3, a int; it must be something that can be called"):
        executor.submit(3)  # type: ignore[arg-type]
    with pytest.raises(SerialisationError, match=r"the call pow\(2, exp=<unlocked .*lock.*>\) cannot be serialised"):
        executor.submit(pow, 2, exp=threading.Lock())
    assert executor.request_id is None
    with pytest.raises(ValueError, match="workers"):
        Executor(workers=0)


@fault(
    "too large",
    "a call, its arguments or what its function uses have more bytes than can be stored",
    promise="submit says so, and what to do; other calls go on",
)
def test_calls_that_are_too_large(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    before = executor.submit(pow, 2, 3)
    monkeypatch.setattr(serialisation, "MAX_VALUE", 100_000)
    large = bytes(100_000)
    with pytest.raises(SerialisationError, match=r"the call of len has 100,\d+ bytes .* at most 100,000 .* a file"):
        executor.submit(len, large)
    with pytest.raises(SerialisationError, match=r"the call of .*lambda.* at most 100,000 can be stored"):
        executor.submit(lambda: large)
    with pytest.raises(SerialisationError, match="at most 100,000"):
        executor.map(len, [large])
    assert [before.result(60), executor.submit(pow, 2, 4).result(60)] == [8, 16]


@fault(
    "too large",
    "the database cannot be written any more",
    promise="calls end with the reason; a full disk or a lock is waited out",
)
def test_a_store_that_will_never_work_again_ends_calls(executor: Executor) -> None:
    assert executor.submit(len, b"").result() == 0
    executor._feeder.stream.storage.db.execute("PRAGMA query_only = 1")  # type: ignore[union-attr]
    with pytest.raises(BrokenExecutor, match="readonly"):
        executor.submit(len, b"").result(60)
    with pytest.raises(BrokenExecutor, match="readonly"):
        executor.submit(len, b"")


# --- their order


def touch(path: str, name: str) -> str:
    import pathlib

    pathlib.Path(path, name).touch()
    return name


def block(path: str, count: int) -> None:
    """Wait until there are so many files."""
    import os
    import time

    while len(os.listdir(path)) < count:
        time.sleep(0.005)


order_fault = fault(
    "calls that wait for others",
    "a call waits for one that was submitted later",
    promise="calls begin in the order of submit: the later one runs, as long as there is a worker for it",
)


@order_fault
@pytest.mark.parametrize("quick", [5, 60])
@pytest.mark.parametrize("workers", [2, 3])
def test_no_call_waits_behind_one_that_waits_for_it(tmp_path: Path, workers: int, quick: int) -> None:
    """Of all but one worker each has a call that waits, and others that wait come behind."""
    with Executor(workers=workers) as executor:
        for round in range(3):
            here = tmp_path / f"{round}"
            here.mkdir()
            assert [future.result(60) for future in [executor.submit(abs, -1) for _ in range(quick)]] == [1] * quick
            blocked = [executor.submit(block, str(here), 1) for _ in range(workers - 1)]
            later = executor.submit(touch, str(here), "1")
            blocked += [executor.submit(block, str(here), 1) for _ in range(8)]
            try:
                assert later.result(20) == "1"
            finally:
                (here / "1").touch()
            assert [future.result(60) for future in blocked] == [None] * (workers + 7)


@order_fault
@pytest.mark.parametrize("seed", range(6))
def test_mixtures_of_short_calls_and_calls_that_wait_for_all_of_them(tmp_path: Path, seed: int) -> None:
    """There is always a worker without a call that waits; what it does comes before more of these."""
    dice = random.Random(seed)
    workers, count = dice.choice([2, 3]), dice.choice([10, 40, 120])
    calls = [(touch, str(number)) for number in range(count)]
    for _ in range(workers - 1):
        calls.insert(dice.randrange(count), (block, count))  # type: ignore[arg-type]
    calls += [(block, count)] * 10  # type: ignore[list-item]
    with Executor(workers=workers) as executor:
        futures = [executor.submit(f, str(tmp_path), value) for f, value in calls]
        try:
            concurrent.futures.wait(futures, timeout=60)
            assert all(future.done() for future in futures), (workers, count)
        finally:
            for number in range(count):
                (tmp_path / str(number)).touch()


def touch_and_wait(path: str, name: int, other: int | None) -> None:
    import pathlib
    import time

    pathlib.Path(path, str(name)).touch()
    while other is not None and not pathlib.Path(path, str(other)).exists():
        time.sleep(0.005)


@order_fault
@pytest.mark.slow
def test_calls_that_wait_for_a_later_one_in_a_flood(tmp_path: Path) -> None:
    """Wherever batches begin: two of three workers have calls that wait for the same one, again and again."""
    waits = {number: first + 2 for first in range(60, 280, 15) for number in (first, first + 1)}
    with Executor(workers=3) as executor:
        assert [future.result(60) for future in [executor.submit(abs, -1) for _ in range(5)]] == [1] * 5
        futures = [executor.submit(touch_and_wait, str(tmp_path), i, waits.get(i)) for i in range(300)]
        try:
            concurrent.futures.wait(futures, timeout=60)
            assert [i for i, future in enumerate(futures) if not future.done()] == []
        finally:
            for number in range(300):
                (tmp_path / str(number)).touch()


# --- their functions


class Counted:
    """Tells how often it has been loaded in this process."""

    def __reduce__(self) -> Any:
        return eval, (
            "(lambda: globals().__setitem__('loads', globals().get('loads', 0) + 1) or globals()['loads'])()",
        )


def size_of_database() -> int:
    """Bytes, without those of this package's own files: other tests in this process may have added to them."""
    bundles = "SELECT sum(size) FROM file WHERE hash IN (SELECT hash FROM request_file WHERE path LIKE 'bundles/%')"
    with Storage(DB) as storage:
        [(own,)] = storage.db.execute(bundles)
    return sum(Path(DB + end).stat().st_size for end in ("", "-wal")) - (own or 0)


@pytest.mark.parametrize("size", [0, 3000, 10_000_000])
def test_a_function_travels_and_is_loaded_once(place: Path, size: int) -> None:
    """Small ones go along with each call, large ones are in the database once; neither is loaded again."""
    large, loads = os.urandom(size), Counted()

    def f(i: int) -> tuple[int, int, Any]:
        return i, len(large), loads

    with Executor({"keep": "1h"}, workers=1) as executor:
        assert [future.result(60) for future in [executor.submit(f, i) for i in range(12)]] == [
            (i, size, 1) for i in range(12)
        ]
    assert size_of_database() < 3 * size + 4_000_000
    assert [args[1:] for args, _ in sheepdog.get_results(1, DB, block=False)] == [(i,) for i in range(12)]
    assert sheepdog.get_results(1, DB, block=False)[3][0][0](5)[:2] == (5, size)


def test_a_function_whose_globals_have_changed_is_another(executor: Executor) -> None:
    names: dict[str, Any] = {"__name__": "__main__", "step": bytes(5000)}
    f = eval("lambda: len(step)", names)
    before = executor.submit(f)
    names["step"] = bytes(6000)
    assert (before.result(60), executor.submit(f).result(60)) == (5000, 6000)


@fault(
    "second call",
    "a global that an executor's call uses is what it was before it changed",
    promise="it counts again; what the call keeps in it stays as long as nothing changes here",
)
@pytest.mark.slow
def test_a_global_that_is_set_back_counts(place: Path) -> None:
    code = """
        import sheepdog
        count = [0]
        def add():
            count[0] += 1
            return count[0]
        with sheepdog.Executor({"workers": 1}) as executor:
            for count[0] in (0, 0, 0, 100, 100, 0, 0):
                print(executor.submit(add).result())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["1", "2", "3", "101", "102", "1", "2"], "")


def test_more_functions_than_a_worker_keeps(executor: Executor) -> None:
    makers = [eval(f"lambda large={bytes(3000)!r}: ({i}, len(large))") for i in range(130)]
    for _ in range(2):
        futures = [executor.submit(f) for f in makers]
        assert [future.result(60) for future in futures] == [(i, 3000) for i in range(130)]


def test_functions_of_calls_that_are_cancelled(executor: Executor, place: Path) -> None:
    """A later call has the function all the same."""
    large = bytes(5000)

    def f() -> int:
        return len(large)

    first = executor.submit(wait_for, place / "go")
    until(first.running, "the call runs")
    executor.submit(f).cancel()
    again = executor.submit(f)
    (place / "go").touch()
    assert again.result(60) == 5000


def test_functions_after_the_end_of_a_process_and_of_the_server(executor: Executor) -> None:
    large = bytes(100_000)

    def f(dies: bool) -> int:
        return os._exit(3) if dies else len(large)

    assert executor.submit(f, False).result(60) == 100_000
    with pytest.raises(TaskFailed, match="exited with status 3"):
        executor.submit(f, True).result(60)
    assert executor.submit(f, False).result(60) == 100_000
    os.kill(sheepdog.Server(dbfile=DB).pid or 0, signal.SIGKILL)
    assert executor.submit(f, False).result(60) == 100_000


def test_calls_are_run_again_with_their_functions(executor: Executor, place: Path) -> None:
    large = bytes(5000)

    def f(path: Path) -> int:
        return len(large) // path.exists()

    assert isinstance(executor.submit(f, place / "there").exception(60), ZeroDivisionError)
    executor.shutdown()
    (place / "there").touch()
    assert sheepdog.retry(1, DB) == 1
    assert [result for _, result in sheepdog.get_results(1, DB)] == [5000]


# --- what the database keeps of calls


def delivered() -> int:
    """How many tasks of the first request have been given to futures, and are not stored any more."""
    with Storage(DB) as storage:
        return total(storage.delivered(1))


def double(data: bytes) -> bytes:
    return data * 2


@fault(
    "database grows",
    "an executor runs for months",
    promise="what futures have been given goes, and its room is used again",
)
@pytest.mark.slow
def test_the_database_of_an_executor_stays_as_small_as_what_is_under_way(executor: Executor) -> None:
    for _ in range(10):  # 120 MB of arguments and results
        futures = [executor.submit(double, os.urandom(100_000)) for _ in range(40)]
        assert {len(future.result(60)) for future in futures} == {200_000}
        until(lambda: delivered() == work(executor).tasks, "it is let go of")
    assert work(executor).tasks == 400
    assert size_of_database() < 75_000_000  # the file has 12 at once, and the log of what is moved into it late


@pytest.mark.slow
def test_functions_that_no_call_needs_any_more_go_too(executor: Executor) -> None:
    def call(i: int) -> int:
        own = bytes([i % 256]) * 5000
        return executor.submit(lambda: len(own) + i).result(60)

    first = bytes(5000)
    f = lambda: len(first)
    assert executor.submit(f).result(60) == 5000
    assert [call(i) for i in range(130)] == [5000 + i for i in range(130)]
    until(lambda: delivered() == 131, "they are let go of")
    with Storage(DB) as storage:
        until(lambda: len(storage.files_of(1)) < 131, "so are functions")
    assert executor.submit(f).result(60) == 5000  # it is brought again


def use(chunk: bytes) -> Callable[[], int]:
    return lambda: len(chunk)


@pytest.mark.slow
@fault(
    "files left",
    "each call of an executor has a large function of its own",
    promise="the database is bounded in bytes; when the executor has ended, their room is given back",
)
def test_large_functions_go_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sheepdog.front.executor.FUNCTION_BYTES", 10_000_000)
    monkeypatch.setattr("sheepdog.front.executor.LET_GO", 0.0)
    with Executor(workers=1) as executor:
        often, failing = use(os.urandom(3_000_000)), use(os.urandom(1_000_000))
        failed = executor.submit(lambda: failing() // 0)  # it stays, with its function
        assert isinstance(failed.exception(60), ZeroDivisionError)
        for _ in range(40):
            assert executor.submit(often).result(60) == 3_000_000
            assert executor.submit(use(os.urandom(3_000_000))).result(60) == 3_000_000
        with Storage(DB) as storage:
            sizes = [size for (size,) in storage.db.execute("SELECT size FROM file")]
            assert sum(sizes) < 25_000_000
        assert size_of_database() < 100_000_000
    with Storage(DB) as storage:
        assert storage.db.execute("SELECT count(*) FROM file").fetchone() == (1,)
    sheepdog.remove(1, DB)
    with Executor(workers=1) as executor:  # one large function stays while it is called, whatever its size
        large = use(bytes(70_000_000))
        assert [executor.submit(large).result(60) for _ in range(3)] == [70_000_000] * 3
        with Storage(DB) as storage:
            assert storage.db.execute("SELECT size > 70000000 FROM file").fetchall() == [(1,)]
    assert size_of_database() < 40_000_000


def test_errors_stay_and_can_be_run_again(executor: Executor, place: Path) -> None:
    def f(path: Path) -> int:
        return 6 // path.exists()

    failing = executor.submit(f, place / "there")
    assert executor.submit(pow, 2, 3).result(60) == 8
    assert isinstance(failing.exception(60), ZeroDivisionError)
    executor.shutdown()
    assert delivered() == 1
    with pytest.warns(UserWarning, match="1 of 2 tasks of request 1 are left out: their futures have been given"):
        [((_, path), result)] = sheepdog.get_results(1, DB)
    assert (path, result) == (place / "there", None)
    [(_, error)] = sheepdog.get_errors(1, DB)
    assert error.startswith("ZeroDivisionError")
    assert error.task == 1
    with pytest.raises(ValueError, match="task 2 of request 1 is not stored any more"):
        sheepdog.get_output(1, DB, 2)
    (place / "there").touch()
    assert sheepdog.retry(1, DB) == 1
    with pytest.warns(UserWarning, match="1 of 2 tasks"):
        assert [result for _, result in sheepdog.get_results(1, DB)] == [6]


def test_the_option_keep_has_calls_and_results_stay(place: Path) -> None:
    with Executor({"keep": "1h"}, workers=1) as executor:
        assert executor.submit(pow, 2, 3).result(60) == 8
    assert [result for _, result in sheepdog.get_results(1, DB)] == [8]


# --- futures


def test_wait_and_as_completed(executor: Executor, place: Path) -> None:
    held = executor.submit(wait_for, place / "go")
    second = executor.submit(pow, 2, 3)
    done, left = concurrent.futures.wait([held, second], timeout=0)
    assert (done, left) == (set(), {held, second})
    (place / "go").touch()
    assert set(concurrent.futures.as_completed([held, second], timeout=60)) == {held, second}


def test_asyncio(executor: Executor) -> None:
    async def gather() -> list[int]:
        loop = asyncio.get_running_loop()
        futures = [loop.run_in_executor(executor, pow, i, 2) for i in range(10)]
        return [*await asyncio.gather(*futures), await asyncio.wrap_future(executor.submit(pow, 10, 2))]

    assert asyncio.run(gather()) == [i**2 for i in range(11)]


def test_running(executor: Executor, place: Path) -> None:
    first = executor.submit(wait_for, place / "go")
    second = executor.submit(pow, 2, 3)
    until(first.running, "the call runs")
    assert not second.done()
    (place / "go").touch()
    assert second.result() == 8
    assert not first.running()


# --- cancelling


def test_cancel_what_waits(executor: Executor, place: Path) -> None:
    """Its task is taken back: no worker runs it."""
    first = executor.submit(wait_for, place / "go")
    until(first.running, "the call runs")
    # The worker may hold a task ahead; the last of many is nobody's yet.
    others = [executor.submit(wait_for, place / "go", place / str(i)) for i in range(50)]
    with Storage(DB) as storage:
        until(lambda: storage.progress(1).tasks == 51, "all are in the store")
        assert others[-1].cancel()
        assert others[-1].cancelled()
        until(lambda: storage.progress(1).cancelled == 1, "the task is taken back")
    (place / "go").touch()
    concurrent.futures.wait(others[:-1])
    assert not (place / "49").exists()
    assert (place / "48").exists()


def test_cancel_what_runs(executor: Executor, place: Path) -> None:
    """The call is asked to stop: its process ends, and the worker goes on."""
    future = executor.submit(wait_for, place / "never", place / "pid")
    until((place / "pid").exists, "the call runs")
    until(lambda: future.running() and (place / "pid").read_text(), "its future says so")
    assert not future.cancel()
    with pytest.raises(CancelledError):
        future.result(60)
    pid = int((place / "pid").read_text())
    until(lambda: not Path(f"/proc/{pid}").exists(), "its process has ended")
    assert executor.submit(pow, 2, 3).result() == 8


def test_what_a_cancelled_call_had_printed_is_kept(executor: Executor, place: Path) -> None:
    def speak(path: Path) -> None:
        print("half of it is done", flush=True)
        path.touch()
        time.sleep(3600)

    future = executor.submit(speak, place / "said")
    until((place / "said").exists, "it has printed")
    future.cancel()
    with pytest.raises(CancelledError):
        future.result(60)
    until(lambda: sheepdog.get_output(1, DB, 1) == "half of it is done\n", "its output is there")


def test_shutdown_that_cancels(executor: Executor, place: Path) -> None:
    """What runs is waited for; the rest is cancelled."""
    futures = [executor.submit(wait_for, place / "go") for _ in range(50)]
    until(futures[0].running, "a call runs")
    executor.shutdown(wait=False, cancel_futures=True)
    (place / "go").touch()
    executor.shutdown()
    assert isinstance(futures[0].result(), int)
    cancelled = [future for future in futures if future.cancelled()]
    assert len(cancelled) > 20
    assert all(future.done() for future in futures)
    assert work(executor).state >= RequestState.ENDED


def test_cancelled_by_others(executor: Executor, place: Path) -> None:
    """sheepdog.cancel ends the executor's request: its calls are cancelled, and there can be no others."""
    future = executor.submit(wait_for, place / "never")
    until(future.running, "the call runs")
    sheepdog.cancel(1, DB)
    with pytest.raises(CancelledError):
        future.result(60)
    with pytest.raises(BrokenExecutor, match="it has been closed"):
        executor.submit(pow, 2, 3).result(60)


def test_cancelled_twice(executor: Executor, place: Path) -> None:
    """To take a call back again changes nothing."""
    first = executor.submit(wait_for, place / "go")
    until(first.running, "the call runs")
    others = [executor.submit(pow, 2, 3) for _ in range(20)]
    with Storage(DB) as storage:
        until(lambda: storage.progress(1).tasks == 21, "all are in the store")
    for future in others[10:] * 2:
        assert future.cancel()
    for _ in range(2):
        assert not first.cancel()
    assert [future.result(60) for future in others[:10]] == [8] * 10
    with pytest.raises(CancelledError):
        first.result(60)


def test_cancelled_and_run_again(executor: Executor, place: Path) -> None:
    """An attempt that was begun counts: the next one goes on from its checkpoint."""
    future = executor.submit(note_and_wait, str(place / "begun"))
    until((place / "begun").exists, "the call runs")
    until(future.running, "its future says so")
    with Storage(DB) as storage:
        until(lambda: storage.checkpointed(1), "the checkpoint is stored")
    assert not future.cancel()
    executor.shutdown()
    assert sheepdog.retry(1, DB) == 1
    assert [result for _, result in sheepdog.get_results(1, DB)] == ["from 1"]
    assert [value for _, value in sheepdog.get_reports(1, DB)] == [1, 2]


# --- its life


def test_one_array_job(place: Path) -> None:
    """The workers stay, and take one call after the other."""
    with Executor(workers=2) as executor:
        seen = set()
        for _ in range(5):
            seen |= set(executor.map(wait_for, [place] * 6))
            until(lambda: not any(executor._feeder.futures), "nothing is to be done")  # type: ignore[union-attr]
        assert len(seen) <= 2
        assert arrays(executor) == 1
        assert len(workers_of(place)) >= 2
    until(lambda: not workers_of(place), "the workers have ended")
    assert work(executor).state >= RequestState.ENDED


@pytest.mark.parametrize("resubmissions", [3, 0])
def test_idle_time(place: Path, resubmissions: int) -> None:
    """Workers that have had no call for so long end; the next call starts as many again."""
    with Executor({"idle_time": 0.5, "resubmissions": resubmissions}, workers=2) as executor:
        assert executor.submit(pow, 2, 3).result() == 8
        until(lambda: not workers_of(place), "the workers have ended")
        futures = [executor.submit(wait_for, place / "go", place / str(i)) for i in range(2)]
        until(lambda: all((place / str(i)).exists() for i in range(2)), "two workers run")
        (place / "go").touch()
        assert len({future.result() for future in futures}) == 2
        assert arrays(executor) == 2


def test_idle_workers_are_quiet(place: Path) -> None:
    """They wait at the server: some calls a minute, no busy loop in anybody."""
    with Executor(workers=2) as executor:
        assert executor.submit(pow, 2, 3).result() == 8
        server = sheepdog.Server(dbfile=DB)
        watched = [os.getpid(), server.pid, *workers_of(place)]
        before = sum(map(cpu_time, watched))
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 4, "some time has passed")
        # a busy loop of any of them would take most of that time
        assert sum(map(cpu_time, watched)) - before < 1.0


def cpu_time(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_garbage_that_is_collected_at_any_moment(place: Path) -> None:
    """Also in the thread that holds the lock: an executor in a cycle is collected wherever memory is taken."""
    executor = Executor(workers=1)
    assert executor.submit(pow, 2, 3).result(60) == 8
    feeder = executor._feeder
    assert feeder is not None
    executor.myself = executor  # type: ignore[attr-defined]
    del executor
    with feeder.lock:
        gc.collect()
    feeder.join(60)
    assert not feeder.is_alive()


def test_what_keeps_calls_waiting_is_said(executor: Executor, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    future = executor.submit(wait_for, place / "go")
    until(future.running, "the call runs")
    with Storage(DB) as storage:
        storage.set_note(1, "the cluster is closed on Sundays")
    said: list[str] = []
    until(lambda: said.append(capsys.readouterr().err) or "closed on Sundays" in "".join(said), "it is said")
    (place / "go").touch()


def test_garbage(place: Path) -> None:
    """An executor that nobody has any more ends as if it had been shut down."""
    executor = Executor(workers=1)
    future = executor.submit(pow, 2, 3)
    del executor
    gc.collect()
    assert future.result(60) == 8
    with Storage(DB) as storage:
        until(lambda: storage.get_request(1).state >= RequestState.ENDED, "the request has ended")


@fault(1, "the server of an executor is killed again and again while calls go out", promise="no call begins twice")
@pytest.mark.slow
def test_no_call_begins_twice_when_the_server_is_killed(executor: Executor, place: Path) -> None:
    """It is stored a little later than they go out how far they have been leased."""

    def begin(number: int) -> int:
        with open(place / "begun", "a") as file:
            file.write(f"{number}\n")
        time.sleep(0.01)
        return number

    executor.submit(abs, -1).result(90)
    futures = [executor.submit(begin, number) for number in range(300)]
    for ended in (50, 120, 200):
        futures[ended].result(90)
        os.kill(sheepdog.Server(dbfile=DB).pid or 0, signal.SIGKILL)
    assert [future.result(90) for future in futures] == list(range(300))
    begun = [int(line) for line in (place / "begun").read_text().split()]
    assert sorted(begun) == list(range(300))


def test_server_that_is_killed(executor: Executor, place: Path) -> None:
    """Another one takes its place; no call is lost."""
    future = executor.submit(wait_for, place / "go")
    until(future.running, "the call runs")
    pid = sheepdog.Server(dbfile=DB).pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    others = [executor.submit(pow, i, 2) for i in range(10)]
    (place / "go").touch()
    assert [other.result(90) for other in others] == [i**2 for i in range(10)]
    assert isinstance(future.result(90), int)


def test_a_full_disk_is_waited_out(executor: Executor, capsys: pytest.CaptureFixture[str]) -> None:
    assert executor.submit(len, b"").result() == 0
    store = executor._feeder.stream.storage.db  # type: ignore[union-attr]
    store.execute("PRAGMA max_page_count = 1")  # of this connection: the file may not grow
    futures = [executor.submit(len, bytes(100_000)) for _ in range(3)]
    said: list[str] = []
    until(lambda: said.append(capsys.readouterr().err) or "the disk is full" in "".join(said), "it is said")
    assert not any(future.done() for future in futures)
    store.execute("PRAGMA max_page_count = 1000000000")
    assert [future.result(60) for future in futures] == [100_000] * 3


def test_no_workers(place: Path) -> None:
    """Python is not where the configuration says: calls fail with the reason, and so do later ones."""
    with Executor({"shell": "/no/python", "scheduler": "local"}, workers=1) as executor:
        with pytest.raises((TaskFailed, BrokenExecutor), match="/no/python"):
            executor.submit(pow, 2, 3).result(90)
        with pytest.raises(BrokenExecutor, match="/no/python"):
            executor.submit(pow, 2, 3).result(90)


def test_no_host(place: Path) -> None:
    """The workers cannot be submitted: the call fails, and the next one at once."""
    with Executor({"host": "nobody.invalid", "scheduler": "gridengine"}) as executor:
        with pytest.raises(BrokenExecutor, match=r"nobody\.invalid"):
            executor.submit(pow, 2, 3).result(90)
        with pytest.raises(BrokenExecutor, match=r"nobody\.invalid"):
            executor.submit(pow, 2, 3)


def test_shutdown(executor: Executor) -> None:
    executor.shutdown()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(pow, 2, 3)


# --- programs that end


def program(code: str) -> list[str]:
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + textwrap.dedent(code)]


def test_program_that_ends_without_shutdown(place: Path) -> None:
    """It waits for its calls, as with the standard library's executors."""
    code = """
        import os, pathlib, sheepdog
        def write(name): pathlib.Path(name).write_text("apple")
        executor = sheepdog.Executor(workers=1)
        executor.submit(write, os.path.abspath("said"))
    """
    subprocess.run(program(code), check=True, timeout=90)
    assert (place / "said").read_text() == "apple"
    with Storage(DB) as storage:
        assert storage.get_request(1).state >= RequestState.ENDED


def test_program_that_ends_after_a_shutdown_without_waiting(place: Path) -> None:
    code = """
        import os, pathlib, sheepdog
        def write(name): pathlib.Path(name).write_text("apple")
        executor = sheepdog.Executor(workers=1)
        executor.submit(write, os.path.abspath("said"))
        executor.shutdown(wait=False)
    """
    subprocess.run(program(code), check=True, timeout=90)
    assert (place / "said").read_text() == "apple"


def test_submit_when_the_program_has_ended(place: Path) -> None:
    code = """
        import atexit, sheepdog
        def late():
            try: executor.submit(pow, 2, 3)
            except RuntimeError as error: print(error)
        atexit.register(late)
        executor = sheepdog.Executor(workers=1)
        executor.submit(pow, 2, 3).result()
    """
    done = subprocess.run(program(code), check=True, timeout=90, capture_output=True, text=True)
    assert done.stdout.startswith("cannot schedule new futures after")


@fault(
    "database grows",
    "a program is killed when some of its futures have their results",
    promise="nothing is lost of those that have not",
)
def test_program_that_is_killed_between_two_results(place: Path) -> None:
    """What is stored of what it has submitted is run; then the request ends, and the workers with it."""
    code = """
        import os, pathlib, sheepdog
        from tests.tasks import wait_for
        executor = sheepdog.Executor(workers=1)
        go = pathlib.Path("go").absolute()
        first, *others = [executor.submit(pow, 2, 3)] + [executor.submit(wait_for, go) for _ in range(3)]
        print(first.result(), flush=True)
        others[-1].result()
    """
    child = subprocess.Popen(program(code), stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "8\n"
    with Storage(DB) as storage:
        until(lambda: storage.progress(1).tasks == 4, "all calls are stored")
        child.kill()
        child.wait()
        child.stdout.close()
        (place / "go").touch()
        until(lambda: storage.get_request(1).state >= RequestState.ENDED, "the request has ended")
        assert storage.progress(1).done == 4
        assert [task for task, _ in storage.results(1) if task > 1] == [2, 3, 4]
    until(lambda: not workers_of(place), "the workers have ended")
