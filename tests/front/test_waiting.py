"""Waiting for a request, with what other programs write into the store meanwhile; no server is started here."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sheepdog.client import REPORT, Message
from sheepdog.errors import RequestNotFound, ServerError, StorageError
from sheepdog.front.waiting import RESTARTS, Keeper, follow, follow_reports, wait, wait_for_clearing
from sheepdog.server.life import lock_file
from sheepdog.storage import Storage
from sheepdog.values.model import Kind, Outcome, Progress
from sheepdog.values.serialisation import form
from tests.faults import fault


def new_request(storage: Storage, tasks: int = 2) -> int:
    return storage.new_request(b"f", b"", [b"args"] * tasks, form=form(), options={})


def end(storage: Storage, request: int, tasks: Sequence[int]) -> None:
    storage.store_outcomes(request, [Outcome(task=task, kind=Kind.RESULT, value=b"r") for task in tasks])


def test_what_has_ended_is_told_once(storage: Storage) -> None:
    request = new_request(storage)
    end(storage, request, [1, 2])
    assert [progress.done for progress in follow(request, storage)] == [2]


def test_each_change_is_seen_until_the_end(storage: Storage) -> None:
    request = new_request(storage)
    seen = []
    with Storage(storage.dbfile) as another:
        for progress in follow(request, storage, timeout=120):
            if progress.done not in seen:
                seen.append(progress.done)
                if progress.done < 2:
                    end(another, request, [progress.done + 1])
    assert seen == [0, 1, 2]


def test_who_waits_for_so_long_is_told_how_far_it_is(storage: Storage) -> None:
    request = new_request(storage)
    end(storage, request, [1])
    shown: list[Progress] = []
    begun = time.monotonic()
    progress = wait(request, storage.dbfile, shown.append, timeout=0.2)
    assert 0.2 <= time.monotonic() - begun < 10
    assert (progress.done, progress.finished) == (1, False)
    assert shown[-1] == progress


def test_what_is_not_there(storage: Storage) -> None:
    storage.initdb()
    with pytest.raises(RequestNotFound):
        wait(7, storage.dbfile, lambda _: None)


def test_the_reports_after_one(storage: Storage) -> None:
    """They come while tasks run, and those at the end are not missed."""
    request = new_request(storage)
    storage.store_messages(request, [Message(1, 1, REPORT, number, b"%d" % number) for number in (1, 2)])
    first = next(storage.reports(request)).number
    seen = []
    with Storage(storage.dbfile) as another:
        for report in follow_reports(request, storage, after=first):
            seen.append(report.value)
            if len(seen) == 1:
                another.store_messages(request, [Message(2, 1, REPORT, 1, b"last")])
                end(another, request, [1, 2])
    assert seen == [b"2", b"last"]


def test_nothing_is_done_in_the_first_second(tmp_path: Path) -> None:
    keeper = Keeper(str(tmp_path / "db"))
    assert keeper.look() == ""
    assert not lock_file(str(tmp_path / "db")).exists()


def test_a_server_that_dies_again_and_again_is_an_error(tmp_path: Path) -> None:
    """It is not started once more."""
    keeper = Keeper(str(tmp_path / "db"))
    keeper.looked -= 2
    keeper.started = [time.monotonic()] * RESTARTS
    with pytest.raises(ServerError, match=r"dies: see .*log"):
        keeper.look()
    assert not keeper.server.running


def test_what_has_not_ended_is_not_waited_for(storage: Storage) -> None:
    thread = threading.Thread(target=clearing, args=(storage.dbfile, new_request(storage)))
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert not lock_file(storage.dbfile).exists()


@fault(
    16,
    "a database is removed while somebody waits for a request in it",
    promise="an error says so; no other is made in its place",
)
def test_a_database_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    file = tmp_path / "db"
    Storage(file).initdb()
    keeper = Keeper(str(file))
    file.unlink()
    keeper.looked -= 2.0
    with pytest.raises(StorageError, match=r"there is no database .* any more"):
        keeper.look()
    assert not file.exists()


def clearing(dbfile: str, request: int) -> None:
    with Storage(dbfile) as storage:
        wait_for_clearing(storage, request)
