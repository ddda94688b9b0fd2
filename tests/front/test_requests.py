"""What a user does with a request that is there: cancel, retry, remove; with local processes."""

import os
import pathlib
import re
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import sheepdog
from sheepdog.errors import (
    ConfigError,
    HostError,
    RequestNotFound,
    SchedulerError,
    SerialisationError,
    StorageError,
    UntrustedResult,
)
from sheepdog.storage import Storage
from sheepdog.values.model import RequestState
from tests.faults import fault
from tests.front.gated import results, start, state, token
from tests.local import DB, errors, workers_of
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("place")


def left(place: Path) -> list[str]:
    """The directories of array jobs that are there."""
    return sorted(path.name for path in (place / "home/.sheepdog").glob("sheepdog_*"))


# --- cancel


@fault("cancel", "the user cancels a request that runs", promise="its workers end; the results that are there stay")
def test_cancel(place: Path) -> None:
    request_id = start(place)
    assert sheepdog.cancel(request_id, DB) == 4
    assert results(request_id) == [0, 1, None, None, None, None]
    said = errors(request_id)
    assert [error.splitlines()[0] for error in said] == ["cancelled by its user"] * 4
    assert sheepdog.cancel(request_id, DB) == 0
    until(lambda: not workers_of(place), "the workers have ended")
    until(lambda: state(request_id) == RequestState.CLOSED, "nothing is left")
    until(lambda: left(place) == [], "its directory has gone")
    (place / "go").touch()
    assert results(request_id) == [0, 1, None, None, None, None]
    assert errors(request_id) == said


@fault("cancel", "the user cancels a request whose server is dead", promise="its workers end all the same")
def test_cancel_without_a_server(place: Path) -> None:
    request_id = start(place)
    server = sheepdog.Server(dbfile=DB)
    pid = server.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not server.running, "the server is dead")
    assert workers_of(place)
    assert sheepdog.cancel(request_id, DB) == 4
    until(lambda: not workers_of(place), "the workers have ended")


def test_cancel_wakes_whoever_waits(place: Path) -> None:
    request_id = start(place)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(results, request_id)
        sheepdog.cancel(request_id, DB)
        assert waiting.result(10) == [0, 1, None, None, None, None]


def test_cancel_of_what_has_ended_changes_nothing() -> None:
    sheepdog.map(lambda x: 1 / x, [(1,), (0,)], verbose=False)
    said = errors(1)
    assert sheepdog.cancel(1, DB) == 0
    assert (results(1), errors(1)) == ([1.0, None], said)


def test_cancel_of_one_request_leaves_the_others(place: Path) -> None:
    first, second = start(place), start(place)
    sheepdog.cancel(first, DB)
    (place / "go").touch()
    assert results(second) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("call", [sheepdog.cancel, sheepdog.retry])
def test_what_is_not_there_can_be_neither_cancelled_nor_tried_again(call: Callable[..., int]) -> None:
    with pytest.raises(StorageError, match="there is no database"):
        call(1, DB)
    assert not Path(DB).exists()
    sheepdog.map(abs, [])
    with pytest.raises(RequestNotFound, match="no request 7"):
        call(7, DB)


@pytest.mark.parametrize("another", [False, True])
def test_workers_end_with_their_database(place: Path, another: bool) -> None:
    start(place)
    server = sheepdog.Server(dbfile=DB)
    for file in place.glob(f"{Path(DB).name}*"):
        if not file.name.endswith(("-server", ".log")):
            file.unlink()
    if another:  # its server takes the place of the old one at once
        assert sheepdog.map(pow, [(2, 3)]) == [8]
    until(lambda: not workers_of(place), "the workers have ended")
    if not another:
        until(lambda: not server.running, "the server has ended")
    until(lambda: not list((place / "home" / ".sheepdog").glob("*/secret.json")), "no secret is left")


def test_what_a_request_says_of_trust_holds_for_who_fetches(place: Path) -> None:
    request_id = sheepdog.map_async(pathlib.PurePosixPath, [("a",)], {"trusted": False, "workers": 1})
    with pytest.raises(UntrustedResult):
        sheepdog.get_results(request_id, DB)
    [error] = errors(request_id)
    assert "plain data" in error
    assert sheepdog.get_results(request_id, DB, trusted=True) == [(("a",), pathlib.PurePosixPath("a"))]
    assert sheepdog.get_errors(request_id, DB, trusted=True) == []


# --- retry


def needs_file(i: int, directory: str) -> int:
    """Fail for odd numbers, until there is a file of that name."""
    import os

    if i % 2:
        with open(os.path.join(directory, f"file {i}")):
            pass
    return i


def map_needs_file(place: Path, tasks: int = 4, **config: object) -> list[object]:
    return sheepdog.map(needs_file, [(i, str(place)) for i in range(tasks)], config, verbose=False)


@fault("retry", "tasks have failed", promise="retry runs them again, and them alone; errors stay in the history")
def test_retry(place: Path) -> None:
    assert map_needs_file(place) == [0, None, 2, None]
    before = token(1)
    (place / "file 1").touch()
    assert sheepdog.retry(1, DB) == 2
    assert token(1) != before
    assert results(1) == [0, 1, 2, None]
    [error] = errors(1)
    lines = error.splitlines()
    assert lines[0].startswith("FileNotFoundError: ")
    assert lines[1].startswith("(task 4 of request 1, attempt 2, on ")
    assert re.fullmatch(rf"Attempt 1, on {os.uname().nodename}: FileNotFoundError: .*", lines[-1])
    (place / "file 3").touch()
    assert sheepdog.retry(1, DB) == 1
    assert (results(1), errors(1)) == ([0, 1, 2, 3], [])
    assert sheepdog.retry(1, DB) == 0


@fault(
    "retry", "the function is mended, and its failed tasks run again", promise="with f, they run the function as it is"
)
def test_retry_with_the_function_as_it_is_now() -> None:
    def fit(x: int) -> float:
        return factor / x  # type: ignore[name-defined, no-any-return] # noqa: F821

    def mended(x: int) -> float:
        return factor / x if x else shift  # type: ignore[name-defined, no-any-return] # noqa: F821

    assert sheepdog.map(fit, [(1,), (0,)], None, {"factor": 2.0}, verbose=False) == [2.0, None]
    assert sheepdog.retry(1, DB) == 1
    assert results(1) == [2.0, None]
    with pytest.raises(ConfigError, match="request 1 was made with ns"):
        sheepdog.retry(1, DB, f=mended)
    with pytest.raises(ConfigError, match="ns comes with f"):
        sheepdog.retry(1, DB, ns={"factor": 3.0})
    with pytest.raises(SerialisationError, match="f is 3"):
        sheepdog.retry(1, DB, f=3, ns={})  # type: ignore[arg-type]
    assert sheepdog.retry(1, DB, f=mended, ns={"factor": 3.0, "shift": 7}) == 1
    assert results(1) == [2.0, 7]


def test_a_retry_with_a_function_that_cannot_be_submitted_changes_nothing() -> None:
    assert sheepdog.map(lambda x: 1 / x, [(0,)], verbose=False) == [None]
    with Storage(DB) as storage:
        before = storage.function(1)
    with pytest.raises(HostError):
        sheepdog.retry(1, DB, config={"host": "nobody.invalid", "scheduler": "gridengine"}, f=abs)
    with Storage(DB) as storage:
        assert storage.function(1) == before
    assert errors(1)[0].startswith("ZeroDivisionError")
    assert sheepdog.retry(1, DB, f=abs) == 1
    assert results(1) == [0]


def test_retry_of_jobs_with_another_target() -> None:
    """One that all have is replaced; what each brings along cannot be."""

    def inverse(x: int) -> float:
        return 1 / x

    jobs = [sheepdog.Job(target=inverse, args=(x,)) for x in (0, 1)]
    request_id, _ = sheepdog.dispatch_jobs(jobs)
    assert results(request_id) == [None, 1.0]
    assert sheepdog.retry(request_id, DB, f=lambda x: sys.exit(0) if x == 0 else x) == 1
    assert results(request_id) == [None, 1.0]
    mixed = [sheepdog.Job(target=lambda: 1 / 0), sheepdog.Job(target=len, args=(3,))]
    request_id, _ = sheepdog.dispatch_jobs(mixed)
    with sheepdog.Executor() as executor:
        assert executor.submit(lambda: 1 / 0).exception()
    for job in mixed:
        job.join()
    for each in (request_id, executor.request_id):
        assert each
        with pytest.raises(ConfigError, match="brings what it calls along"):
            sheepdog.retry(each, DB, f=abs)
    assert sheepdog.retry(request_id, DB) == 2


def test_retry_of_what_was_cancelled_alone(place: Path) -> None:
    def f(i: int, directory: str) -> int:
        import os
        import time

        if i == 1:
            raise ValueError("one")
        while i > 1 and not os.path.exists(os.path.join(directory, "go")):
            time.sleep(0.01)
        return i

    request_id = sheepdog.map_async(f, [(i, str(place)) for i in range(5)], {"workers": 2})
    with Storage(DB) as storage:
        until(lambda: storage.progress(request_id).ended == 2, "two have ended")
    assert sheepdog.cancel(request_id, DB) == 3
    (place / "go").touch()
    assert sheepdog.retry(request_id, DB, failed=False) == 3
    assert results(request_id) == [0, None, 2, 3, 4]
    assert [error.splitlines()[0] for error in errors(request_id)] == ["ValueError: one"]
    assert sheepdog.retry(request_id, DB, failed=False) == 0
    assert sheepdog.retry(request_id, DB, failed=True) == 1


@fault("retry", "the user wants a request again that runs", promise="an error says what to do; nothing is touched")
def test_retry_of_what_runs(place: Path) -> None:
    request_id = start(place)
    before = token(request_id)
    with pytest.raises(ConfigError, match=r"request 1 has not ended \(2/6 results.*get_results.*sheepdog.cancel"):
        sheepdog.retry(request_id, DB)
    assert token(request_id) == before
    (place / "go").touch()
    assert results(request_id) == [0, 1, 2, 3, 4, 5]


def test_retry_at_once_after_cancel(place: Path) -> None:
    """None of the workers that were cancelled meets those that follow."""
    request_id = start(place)
    old = set(workers_of(place))
    for _ in range(3):
        assert sheepdog.cancel(request_id, DB) == 4
        assert sheepdog.retry(request_id, DB) == 4
        assert not old & set(workers_of(place))
        old = set(workers_of(place))
    (place / "go").touch()
    assert results(request_id) == [0, 1, 2, 3, 4, 5]


def test_retry_with_other_options(place: Path) -> None:
    """They hold from then on; what is not said stays."""

    def f(i: int, directory: str) -> int:
        import os
        import time

        with open(os.path.join(directory, f"worker {os.getppid()}"), "w"):
            pass
        time.sleep(0.5)
        return i

    args = [(i, str(place)) for i in range(6)]
    assert sheepdog.map(f, args, {"workers": 1, "timeout": 0.1, "name": "herd"}, verbose=False) == [None] * 6
    assert len(list(place.glob("worker *"))) == 1
    assert sheepdog.retry(1, DB, config={"timeout": 30, "workers": 3}) == 6
    assert results(1) == list(range(6))
    assert len(list(place.glob("worker *"))) == 4
    with Storage(DB) as storage:
        options = storage.get_request(1).options
        assert [array.workers for array in storage.arrays(1)] == [1, 3]
    assert (options["timeout"], options["workers"], options["name"]) == (30, 3, "herd")


def test_retry_in_another_directory_runs_where_the_request_was_made(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def f() -> str:
        import os

        return open("input").read() + os.getcwd()

    assert sheepdog.map(f, [()], verbose=False) == [None]
    Path("input").write_text("in ")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert sheepdog.retry(1, place / DB) == 1
    assert sheepdog.get_results(1, place / DB) == [((), f"in {place}")]


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        ({"timout": 3}, ConfigError, "did you mean timeout"),
        ({"timeout": -3}, ConfigError, "timeout is -3"),
        ({"profile": "big"}, ConfigError, "retry takes no profile"),
    ],
)
def test_retry_with_wrong_options(place: Path, config: dict[str, object], kind: type, words: str) -> None:
    map_needs_file(place, 2)
    said, before = errors(1), token(1)
    with pytest.raises(kind, match=words):
        sheepdog.retry(1, DB, config=config)
    assert (errors(1), token(1)) == (said, before)
    (place / "file 1").touch()
    assert sheepdog.retry(1, DB) == 1
    assert results(1) == [0, 1]


@fault("retry", "the tasks cannot be submitted again", promise="the errors and the options are those from before")
def test_retry_that_cannot_be_submitted(place: Path) -> None:
    map_needs_file(place, 2)
    said = errors(1)
    with pytest.raises(SchedulerError, match="/nonexistent/python"):
        sheepdog.retry(1, DB, config={"shell": "/nonexistent/python"})
    assert errors(1) == said
    (place / "file 1").touch()
    assert sheepdog.retry(1, DB) == 1
    assert results(1) == [0, 1]


def test_retry_of_a_request_whose_server_has_gone(place: Path) -> None:
    map_needs_file(place, 2)
    sheepdog.Server(dbfile=DB).stop()
    (place / "file 1").touch()
    assert sheepdog.retry(1, DB) == 1
    assert results(1) == [0, 1]


# --- what runs again by itself


# --- remove


def test_remove(place: Path) -> None:
    """What runs is cancelled; when nothing is left of the request elsewhere, nothing is left here."""
    request_id = start(place)
    sheepdog.remove(request_id, DB)
    with pytest.raises(RequestNotFound):
        sheepdog.get_results(request_id, DB)
    assert not workers_of(place)
    assert not list((place / "home" / ".sheepdog").glob("sheepdog_*"))
    with pytest.raises(RequestNotFound):
        sheepdog.remove(request_id, DB)
