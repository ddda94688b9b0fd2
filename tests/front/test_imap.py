"""Results as they come: what imap promises, with real workers of this machine."""

import gc
import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sheepdog
from sheepdog.errors import ArgumentsError, ConfigError, SerialisationError, StorageError, TaskFailed, UntrustedResult
from sheepdog.storage import Storage
from sheepdog.values import serialisation
from sheepdog.values.model import Kind, RequestState
from tests.faults import fault
from tests.local import DB, errors, workers_of
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("place")
C = {"workers": 2}


class Drawn:
    """Items, and how many of them have been drawn."""

    def __init__(self, items: Iterator[object]) -> None:
        self.items = items
        self.count = 0

    def __iter__(self) -> "Drawn":
        return self

    def __next__(self) -> object:
        item = next(self.items)
        self.count += 1
        return item


def singles(numbers: Iterator[int] | range) -> Iterator[tuple[int]]:
    return ((number,) for number in numbers)


def state(request_id: int) -> RequestState:
    with Storage(DB) as storage:
        return storage.get_request(request_id).state


def done(request_id: int) -> int:
    with Storage(DB) as storage:
        return storage.progress(request_id).done


def has_ended(request_id: int) -> None:
    until(lambda: state(request_id) >= RequestState.ENDED, "the request ends")


def wait_for_file(i: int, waits: int, path: str, opens: int) -> int:
    """Task `waits` ends when task `opens` has run."""
    import pathlib
    import time

    if i == opens:
        pathlib.Path(path).touch()
    while i == waits and not pathlib.Path(path).exists():
        time.sleep(0.01)
    return i


# --- results


@pytest.mark.parametrize("args", [[(1, 1), (1, 2), {"a": 2, "b": 2}], []])
def test_results_in_order(args: list[object]) -> None:
    assert list(sheepdog.imap(lambda a, b: a + b, args, C)) == [2, 3, 4][: len(args)]


def test_many_from_a_generator(place: Path) -> None:
    results = sheepdog.imap(abs, singles(-n for n in range(20_000)), C)
    assert all(result == n for n, result in enumerate(results))
    has_ended(results.request_id)
    assert done(results.request_id) == 20_000
    until(lambda: not workers_of(place), "the workers end")


def test_what_was_yielded_stays_in_the_database() -> None:
    results = sheepdog.imap(abs, singles(range(-3, 0)), C)
    assert list(results) == [3, 2, 1]
    assert sheepdog.get_results(results.request_id, DB) == [((-3,), 3), ((-2,), 2), ((-1,), 1)]


def test_without_order_results_come_as_they_end(place: Path) -> None:
    args = [(i, 0, str(place / "go"), -1) for i in range(100)]
    results = sheepdog.imap(wait_for_file, args, C, ordered=False)
    assert sorted(next(results) for _ in range(99)) == list(range(1, 100))
    (place / "go").touch()
    assert list(results) == [0]


@fault(
    "calls that wait for others",
    "in imap, a call waits for a later one",
    promise="calls begin in the order of args: the later one runs, as long as there is a worker for it",
)
@pytest.mark.parametrize("ordered", [False, True])
def test_a_call_that_waits_for_a_later_one(place: Path, ordered: bool) -> None:
    short = [(i, -1, str(place / "go"), -1) for i in range(20)]
    block, later = (0, 0, str(place / "go"), -1), (1, -1, str(place / "go"), 1)
    results = sheepdog.imap(wait_for_file, [*short, block, later, *[block] * 8], C, ordered=ordered)
    found: list[int] = []
    drawing = threading.Thread(target=lambda: found.extend(results))
    drawing.start()
    try:
        until((place / "go").exists, "the later one runs", 30)
    finally:
        (place / "go").touch()
        drawing.join(60)
    assert sorted(found) == sorted([*range(20), 0, 1, *[0] * 8])


@fault(
    "calls that wait for others",
    "in a flood of short calls of imap, two at a time wait for the same later one",
    promise="calls begin in the order of args: the later one runs, as long as there is a worker for it",
)
@pytest.mark.slow
def test_calls_that_wait_for_a_later_one_in_a_flood(place: Path) -> None:
    """Wherever batches begin: the file of each ten is opened by its third, and two before it wait for that."""
    calls = [(i, i if i % 10 < 2 and i > 800 else -1, str(place / str(i // 10)), i // 10 * 10 + 2) for i in range(1200)]
    results = sheepdog.imap(wait_for_file, calls, {"workers": 3}, ordered=False)
    found: list[int] = []
    drawing = threading.Thread(target=lambda: found.extend(results))
    drawing.start()
    drawing.join(150)
    stuck = drawing.is_alive()
    for name in range(120):
        (place / str(name)).touch()
    drawing.join(60)
    assert not stuck
    assert sorted(found) == list(range(1200))


def test_names_travel_in_ns() -> None:
    f = eval("lambda a: a + constant", {"__name__": "__main__"})
    assert list(sheepdog.imap(f, [(1,)], C, {"constant": 12})) == [13]


# --- how far ahead


def test_no_more_is_drawn_than_there_is_room_for() -> None:
    """Nobody takes results, so no more tasks come, until somebody does."""
    drawn = Drawn(singles(itertools.count()))
    with sheepdog.imap(abs, drawn, C) as results:
        until(lambda: drawn.count == done(results.request_id) == 8, "four tasks for each worker")
        time.sleep(0.2)
        assert drawn.count == 8
        assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
        until(lambda: drawn.count > 8, "more is drawn")


def test_the_window_grows_while_a_task_holds_up_the_others(place: Path) -> None:
    """The first task ends when the five-hundredth has run: in order, nothing is yielded before."""
    results = sheepdog.imap(wait_for_file, ((i, 0, str(place / "go"), 500) for i in range(1000)), C)
    assert list(results) == list(range(1000))


def test_large_arguments_are_not_piled_up() -> None:
    """Each is more than may be in memory, so one is drawn when the one before it is in the database."""
    drawn = Drawn((bytes(9 << 20),) for _ in range(12))
    assert list(sheepdog.imap(len, drawn, C)) == [9 << 20] * 12


def test_args_may_wait_for_results() -> None:
    """Each argument is the result before it: what is drawn is run, though args has not said that there is no more."""
    answers: queue.Queue[int] = queue.Queue()
    answers.put(1)
    args = ((answers.get(),) for _ in range(20))
    last = 1
    for result in sheepdog.imap(lambda x: 2 * x, args, C):
        assert result == 2 * last
        last = result
        answers.put(result)
    assert last == 2**20


@fault(
    "too large",
    "an item of imap's args has more bytes than can be stored",
    promise="the iteration ends with a sentence; the results before it come",
)
def test_an_item_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialisation, "MAX_VALUE", 100_000)
    results = sheepdog.imap(len, [(b"",), (bytes(100_000),), (b"",)], C)
    with pytest.raises(SerialisationError, match=r"item 1 of args has 100,\d+ bytes .* at most 100,000 can be stored"):
        list(results)
    has_ended(results.request_id)


def test_a_store_that_will_never_work_again_ends_the_iteration() -> None:
    items: queue.Queue[tuple[bytes]] = queue.Queue()
    items.put((b"",))
    results = sheepdog.imap(len, (items.get() for _ in range(2)), C)
    assert next(results) == 0
    results._feeder.stream.storage.db.execute("PRAGMA query_only = 1")
    items.put((b"",))
    with pytest.raises(StorageError, match="readonly"):
        next(results)
    sheepdog.cancel(results.request_id, DB)


# --- leaving


def endless(**config: object) -> "sheepdog.front.imap.Results":
    return sheepdog.imap(time.sleep, itertools.chain([(0,)] * 2, itertools.repeat((300,))), {**C, **config})


def check_left(results_id: int, place: Path) -> None:
    """Nothing runs any more; results that were there are still there."""
    has_ended(results_id)
    until(lambda: not workers_of(place), "the workers end")
    with Storage(DB) as storage:
        progress = storage.progress(results_id)
    assert (progress.done, progress.failed) == (2, 0)
    assert progress.cancelled == progress.tasks - 2 > 0


@pytest.mark.parametrize("error", ["StopIteration", "SystemExit", "BaseException"])
def test_what_would_end_the_loop_or_the_program(error: str) -> None:
    """It is an error as any other."""

    def f(i: int) -> int:
        if i == 1:
            raise {"StopIteration": StopIteration, "SystemExit": SystemExit}.get(error, BaseException)(error)
        return i

    results = sheepdog.imap(f, singles(range(3)), C)
    assert next(results) == 0
    with pytest.raises(TaskFailed, match=error):
        next(results)
    assert list(results) == [2]


def test_close(place: Path) -> None:
    results = endless()
    assert [next(results), next(results)] == [None, None]
    results.close()
    assert list(results) == []
    results.close()
    check_left(results.request_id, place)


def test_the_end_of_with_closes(place: Path) -> None:
    with endless() as results:
        assert [next(results), next(results)] == [None, None]
    with pytest.raises(StopIteration):
        next(results)
    check_left(results.request_id, place)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """What nobody has any more goes at once, or never."""
    gc.disable()
    yield
    gc.enable()


def test_a_loop_that_is_left_closes(place: Path, no_collection: None) -> None:
    for number, _ in enumerate(endless()):
        if number == 1:
            break
    check_left(1, place)


def test_a_loop_that_an_error_ends_closes(place: Path, no_collection: None) -> None:
    """Whatever becomes of the error."""
    caught = []
    try:
        for _ in sheepdog.imap(time.sleep, itertools.chain([(0,), ("x",)], itertools.repeat((300,))), C):
            pass
    except (TypeError, TaskFailed) as error:
        caught.append(error)
    has_ended(1)
    until(lambda: not workers_of(place), "the workers end")
    assert caught


def test_a_generator_that_waits_does_not_keep_the_iterator_from_closing(place: Path) -> None:
    never: queue.Queue[tuple[int]] = queue.Queue()
    results = sheepdog.imap(abs, itertools.chain([(-1,)], iter(never.get, None)), C)
    assert next(results) == 1
    results.close()
    has_ended(results.request_id)
    never.put((1,))  # lets the thread go


CODE = """
import itertools, time, sheepdog
results = sheepdog.imap(time.sleep, itertools.chain([(0,)] * 2, itertools.repeat((300,))), {"workers": 2})
print(next(results), next(results), flush=True)
"""


def test_interrupted(place: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CODE + "next(results)"], stdout=-1, stderr=-1, text=True) as program:
        assert program.stdout
        assert program.stdout.readline() == "None None\n"
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=60)
    assert said.rstrip().endswith("KeyboardInterrupt")
    check_left(1, place)


def test_a_program_that_ends(place: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    check_left(1, place)


def test_a_program_that_is_killed(place: Path) -> None:
    """What is out runs to its end, and can be fetched; then its server and its workers end."""
    code = CODE.replace("(300,)", "(0.01,)") + "time.sleep(300)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        assert program.stdout.readline() == "None None\n"
        program.kill()
    has_ended(1)
    assert errors(1) == []
    until(lambda: not workers_of(place), "the workers end")


def test_after_an_interrupt_the_iterator_goes_on() -> None:
    results = sheepdog.imap(lambda i: __import__("time").sleep(i == 1) or i, singles(range(4)), C)
    assert next(results) == 0
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert list(results) == [1, 2, 3]


# --- errors


def test_an_error_is_raised_at_its_place_and_the_next_result_follows() -> None:
    results = sheepdog.imap(lambda x: 1 / x, singles(range(-1, 3)), C)
    assert next(results) == -1
    with pytest.raises((ZeroDivisionError, TaskFailed), match="division by zero"):
        next(results)
    assert list(results) == [1, 0.5]


def test_exceptions_may_take_the_place_of_results() -> None:
    results = list(sheepdog.imap(lambda x: 1 / x, singles(range(-1, 3)), C, return_exceptions=True))
    assert isinstance(results.pop(1), ZeroDivisionError | TaskFailed)
    assert results == [-1, 1, 0.5]


def test_a_result_that_is_refused_withholds_no_other() -> None:
    results = sheepdog.imap(lambda i: i if i else len, singles(range(2)), {**C, "trusted": False})
    with pytest.raises(UntrustedResult):
        next(results)
    assert list(results) == [1]


@pytest.mark.parametrize("return_exceptions", [False, True])
@pytest.mark.parametrize("ordered", [False, True])
def test_an_error_of_args_comes_after_all_results(ordered: bool, return_exceptions: bool) -> None:
    def args() -> Iterator[tuple[int]]:
        yield from singles(range(3))
        raise LookupError("no more")

    results = sheepdog.imap(abs, args(), C, ordered=ordered, return_exceptions=return_exceptions)
    assert sorted(next(results) for _ in range(3)) == [0, 1, 2]
    with pytest.raises(LookupError, match="no more"):
        next(results)
    assert list(results) == []
    has_ended(results.request_id)


@pytest.mark.parametrize(
    ("item", "error", "words"),
    [
        (3, ArgumentsError, "item 1 of args is 3, a int"),
        ((sys._getframe(),), SerialisationError, "item 1 of args"),
    ],
)
def test_an_item_that_cannot_be_sent(item: object, error: type[Exception], words: str) -> None:
    results = sheepdog.imap(abs, [(-1,), item], C)
    assert next(results) == 1
    with pytest.raises(error, match=words):
        next(results)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: sheepdog.imap(3, [(1,)]), SerialisationError, "f is 3, a int"),  # type: ignore[arg-type]
        (lambda: sheepdog.imap(abs, 3), TypeError, "'int' object is not iterable"),  # type: ignore[arg-type]
        (lambda: sheepdog.imap(abs, [(1,)], {"worker": 2}), ConfigError, "workers"),
    ],
)
def test_what_is_refused_at_once(call: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
    assert not Path(DB).exists() or Storage(DB).requests(*RequestState) == []


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_no_workers(return_exceptions: bool) -> None:
    config = {**C, "shell": "/bin/false", "poll_interval": 1}
    results = sheepdog.imap(abs, singles(itertools.count()), config, return_exceptions=return_exceptions)
    with pytest.raises(TaskFailed, match="not run: the array job"):
        next(results)
    assert list(results) == []
    has_ended(results.request_id)


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_cancelled_by_another(return_exceptions: bool) -> None:
    results = sheepdog.imap(time.sleep, itertools.repeat((300,)), C, return_exceptions=return_exceptions)
    assert sheepdog.cancel(results.request_id, DB) >= 0
    with pytest.raises((TaskFailed, sheepdog.SheepdogError), match=r"cancelled by its user|takes no more tasks"):
        next(results)
    assert list(results) == []
    has_ended(results.request_id)


@fault("qdel all", "the workers of imap are deleted", promise="it ends; no others are submitted for the rest")
def test_deleted_by_another() -> None:
    """The request stays open, as an executor's does; but whoever maps has one work, and it was ended."""
    wait: queue.Queue[tuple[int]] = queue.Queue()
    wait.put((300,))
    results = sheepdog.imap(time.sleep, iter(wait.get, None), C)
    with Storage(DB) as storage:
        until(lambda: storage.leased(results.request_id), "it runs")
        storage.end_pending(results.request_id, Kind.CANCELLED, "the array job 5 was deleted", [1])
        wait.put((0,))
        with pytest.raises(TaskFailed, match="the array job 5 was deleted"):
            next(results)
        assert list(results) == []
        assert storage.get_request(results.request_id).tasks == 1
    wait.put((0,))
    has_ended(results.request_id)


def test_what_keeps_the_results_away_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    results = sheepdog.imap(time.sleep, [(300,)], {"workers": 1})
    with Storage(DB) as storage:
        until(lambda: storage.leased(results.request_id), "it runs, and nobody has more to say")
        storage.set_note(results.request_id, "the cluster is closed on Sundays")
    said: list[str] = []
    until(lambda: said.append(capsys.readouterr().err) or "closed on Sundays" in "".join(said), "it is said")
    results.close()


def test_a_full_disk_is_waited_out(capsys: pytest.CaptureFixture[str]) -> None:
    items: queue.Queue[tuple[bytes]] = queue.Queue()
    items.put((b"",))
    results = sheepdog.imap(len, (items.get() for _ in range(4)), C)
    assert next(results) == 0
    store = results._feeder.stream.storage.db
    store.execute("PRAGMA max_page_count = 1")  # of this connection: the file may not grow
    for _ in range(3):
        items.put((bytes(100_000),))
    said: list[str] = []
    until(lambda: said.append(capsys.readouterr().err) or "the disk is full" in "".join(said), "it is said")
    store.execute("PRAGMA max_page_count = 1000000000")
    assert list(results) == [100_000] * 3


def test_kill_the_server() -> None:
    results = sheepdog.imap(lambda i: __import__("time").sleep(0.001) or i, singles(range(3000)), {**C, "lease": 4})
    found = []
    for result in results:
        found.append(result)
        if result in (500, 1500):
            os.kill(sheepdog.Server(dbfile=DB).pid or 0, signal.SIGKILL)
    assert found == list(range(3000))
    assert errors(results.request_id) == []
