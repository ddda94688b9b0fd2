"""Copies of a database, made while it is in use and afterwards; and a database that is moved."""

import os
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

import sheepdog
from sheepdog.errors import NotOwnRequest
from sheepdog.server.life import Server
from sheepdog.storage import Storage
from tests.faults import fault
from tests.local import DB, servers_of, workers_of
from tests.waiting import until

pytestmark = pytest.mark.slow
LOCAL = {"scheduler": "local", "workers": 2}


def work(number: int, ran: str) -> int:
    time.sleep(0.02)
    with open(ran, "a") as file:
        file.write(f"{number}\n")
    return number


@fault(
    "other people",
    "a database in use is copied, and the copy is waited for, cancelled, retried and served",
    promise="the copy can be read at once; the original's workers go on, and no task runs twice",
)
@pytest.mark.parametrize("parts", [["", "-wal"], ["", "-wal", "-shm", "-server", "-server.log"]], ids=len)
def test_a_copy_takes_no_workers(place: Path, parts: list[str]) -> None:
    ran = place / "ran"
    request = sheepdog.map_async(work, [(number, str(ran)) for number in range(150)], {**LOCAL, "name": "herd"})
    until(lambda: ran.exists() and len(ran.read_text().split()) > 10, "some have run")
    for part in parts:
        shutil.copy(f"{DB}{part}", f"copy.sqlite{part}")
    with pytest.warns(UserWarning, match=r"has not ended \(.*copy.sqlite is a copy of the one that was made as"):
        found = sheepdog.get_results(request, "copy.sqlite")
    assert 0 < sum(result is not None for _, result in found) < 150
    assert sheepdog.get_errors(request, "copy.sqlite") == []
    for attempt in (sheepdog.cancel, sheepdog.retry):
        with pytest.raises(NotOwnRequest, match="is a copy of"):
            attempt(request, "copy.sqlite")
    with pytest.raises(NotOwnRequest, match="is a copy of"):
        Server(dbfile="copy.sqlite").start()
    config = {**LOCAL, "dbfile": "copy.sqlite"}
    assert sheepdog.map(abs, [(-1,), (-2,)], config) == [1, 2]  # its own server serves this, and nothing else
    sheepdog.remove(request, "copy.sqlite")
    assert [result for _, result in sheepdog.get_results(request, DB)] == list(range(150))
    assert set(Counter(ran.read_text().split()).values()) == {1}


@fault(
    "other people",
    "the database file alone is copied when its last request has ended, while its server lingers",
    promise="the copy is whole: the log has been moved into the file",
)
def test_a_copy_of_the_one_file_is_whole(place: Path) -> None:
    for attempt in range(3):
        results = sheepdog.map(abs, [(-number,) for number in range(200)], LOCAL)
        [server] = servers_of(place)  # it lingers
        shutil.copy(DB, f"copy{attempt}.sqlite")
        assert server in servers_of(place)
        with Storage(f"copy{attempt}.sqlite") as copy:
            assert copy.progress(attempt + 1).finished
        found = sheepdog.get_results(attempt + 1, f"copy{attempt}.sqlite")
        assert [result for _, result in found] == results
    until(lambda: os.path.getsize(f"{DB}-wal") == 0, "what came after the end has been moved, too")


@fault(
    "other people",
    "the database file alone is copied when an executor or an imap has been left",
    promise="the copy is whole: the log has been moved into the file",
)
def test_a_copy_is_whole_when_a_stream_has_been_left(place: Path) -> None:
    for attempt in range(3):
        with sheepdog.Executor({**LOCAL, "keep": "1d"}) as executor:
            assert executor.submit(abs, -1).result() == 1
        assert executor.request_id is not None
        with sheepdog.imap(abs, [(-1,), (-2,)], LOCAL) as results:
            next(results)
        shutil.copy(DB, f"copy{attempt}.sqlite")
        assert [result for _, result in sheepdog.get_results(executor.request_id, f"copy{attempt}.sqlite")] == [1]
        assert sheepdog.get_results(results.request_id, f"copy{attempt}.sqlite")[0] == ((-1,), 1)


def test_who_reads_keeps_nobody_from_going_on(place: Path) -> None:
    """The log cannot be moved then; it is a moment later."""
    request = sheepdog.map_async(abs, [(-1,)] * 50, LOCAL)
    sheepdog.get_results(request, DB)
    with Storage(DB) as storage:
        reading = storage.tasks(request)
        next(iter(reading))
        assert sheepdog.map(abs, [(-1,)], LOCAL) == [1]
        assert os.path.getsize(f"{DB}-wal") > 0
        del reading
    until(lambda: os.path.getsize(f"{DB}-wal") == 0, "the log has been moved")


@fault(
    (1, "other people"),
    "a backup is restored in the place of a database, and told to go on",
    promise="it is readable at once; take_over has its unfinished requests run, and their workers are there still",
)
def test_a_backup_is_restored(place: Path) -> None:
    ran = place / "ran"
    request = sheepdog.map_async(work, [(number, str(ran)) for number in range(100)], LOCAL)
    until(lambda: ran.exists() and len(ran.read_text().split()) > 10, "some have run")
    server = Server(dbfile=DB)
    os.kill(server.pid or 0, 9)
    until(lambda: not server.running, "the server has died")
    shutil.copy(DB, "backup")
    shutil.copy(f"{DB}-wal", "backup-wal")
    for part in ("", "-wal"):
        os.replace(f"backup{part}", f"{DB}{part}")  # the original's file is gone, the new one is another
    Path(f"{DB}-shm").unlink()
    with pytest.warns(UserWarning, match="is a copy of"):
        sheepdog.get_results(request, DB)
    assert servers_of(place) == []
    workers = workers_of(place)
    assert sheepdog.take_over(DB) == 1
    assert [result for _, result in sheepdog.get_results(request, DB)] == list(range(100))
    assert {*workers} & {*workers_of(place)} or not workers_of(place)
    assert set(Counter(ran.read_text().split()).values()) == {1}


def test_a_database_that_was_moved_goes_on(place: Path) -> None:
    ran = place / "ran"
    request = sheepdog.map_async(work, [(number, str(ran)) for number in range(60)], LOCAL)
    until(lambda: ran.exists() and len(ran.read_text().split()) > 5, "some have run")
    server = Server(dbfile=DB)
    os.kill(server.pid or 0, 9)
    until(lambda: not server.running, "the server has died")
    (place / "new").mkdir()
    for part in ("", "-wal"):
        os.rename(f"{DB}{part}", f"new/moved.sqlite{part}")
    try:
        assert [result for _, result in sheepdog.get_results(request, "new/moved.sqlite")] == list(range(60))
        assert set(Counter(ran.read_text().split()).values()) == {1}
    finally:
        Server(dbfile="new/moved.sqlite").stop()


@fault(
    "other people",
    "results are waited for with trusted=False, and the server has died",
    promise="no server is started: a warning says so, and what there is is returned",
)
def test_who_does_not_trust_starts_no_server(place: Path) -> None:
    gate = place / "gate"

    def wait(number: int) -> int:
        while number > 1 and not gate.exists():
            time.sleep(0.01)
        return number

    request = sheepdog.map_async(wait, [(number,) for number in range(4)], {**LOCAL, "lease": 5.0})
    until(
        lambda: sum(result is not None for _, result in sheepdog.get_results(request, DB, block=False)) == 2,
        "two ended",
    )
    server = Server(dbfile=DB)
    os.kill(server.pid or 0, 9)
    until(lambda: not server.running, "the server has died")
    with pytest.warns(UserWarning, match="With trusted=False no server is started for it: sheepdog.get_results"):
        found = sheepdog.get_results(request, DB, trusted=False)
    assert [result for _, result in found] == [0, 1, None, None]
    assert not server.running
    with pytest.warns(UserWarning, match="no server is started"):
        assert list(sheepdog.follow_reports(request, DB, trusted=False)) == []
    gate.touch()
    assert [result for _, result in sheepdog.get_results(request, DB)] == [0, 1, 2, 3]
    assert [result for _, result in sheepdog.get_results(request, DB, trusted=False)] == [0, 1, 2, 3]
