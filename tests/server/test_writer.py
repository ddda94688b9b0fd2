"""The thread that decides and commits for everyone."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sheepdog.errors import RequestNotFound, StorageError
from sheepdog.server.calls import Reply
from sheepdog.server.decide.held import HeldCall
from sheepdog.server.decide.service import Service
from sheepdog.server.writer import TICK, Clock, Writer
from sheepdog.storage import Storage
from sheepdog.values.model import ArrayJob, Kind, RequestState
from sheepdog.values.serialisation import form
from tests.faults import fault
from tests.server.decide.farm import Farm
from tests.waiting import until

LONG = 30.0


@pytest.fixture
def writer(storage: Storage) -> Iterator[Writer]:
    """A writer that is not started yet; it is stopped at the end."""
    storage.initdb()
    writer = Writer(storage.dbfile)
    yield writer
    if writer.is_alive():
        writer.stop()


def make(service: Service) -> int:
    return service.storage.new_request(b"f", b"", [b"x"], form=form(), options={})


def fail(service: Service) -> None:
    make(service)
    raise ZeroDivisionError


def ask(service: Service) -> Any:
    return service.storage.get_request(7)


def test_what_was_decided_is_stored_when_it_is_answered(writer: Writer, storage: Storage) -> None:
    writer.start()
    request = writer.submit(make).result(LONG)
    assert storage.requests(*RequestState) == [request]


def test_the_trouble_of_one_is_not_the_others(writer: Writer, storage: Storage) -> None:
    """All of them come in one group. What was begun and went wrong is undone."""
    futures = [writer.submit(decide) for decide in (make, ask, fail, make)]
    writer.start()
    assert [futures[0].result(LONG), futures[3].result(LONG)] == storage.requests(*RequestState)
    assert isinstance(futures[1].exception(LONG), RequestNotFound)
    assert isinstance(futures[2].exception(LONG), ZeroDivisionError)
    assert writer.submit(lambda _: 3).result(LONG) == 3


@pytest.mark.slow
def test_the_log_is_moved_into_the_file_when_nothing_runs(writer: Writer, storage: Storage) -> None:
    writer.start()
    request = writer.submit(make).result(LONG)
    writer.submit(lambda service: service.find(request)).result(LONG)
    assert not storage.log_is_empty()
    writer.submit(lambda service: service.storage.end_pending(request, Kind.CANCELLED, "over")).result(LONG)
    until(storage.log_is_empty, "the log has been moved")
    with Storage(shutil.copy(storage.dbfile, f"{storage.dbfile}-copy")) as copy:
        assert copy.progress(request).cancelled == 1


def test_what_it_remembers_is_made_anew_after_a_failure(writer: Writer) -> None:
    """It may not be what is stored."""
    writer.start()
    before = writer.submit(lambda service: service).result(LONG)
    assert writer.submit(lambda service: service).result(LONG) is before
    assert isinstance(writer.submit(fail).exception(LONG), ZeroDivisionError)
    after = writer.submit(lambda service: service).result(LONG)
    assert after is not before
    assert after.clock is before.clock


def test_held_calls_are_answered_after_a_failure(writer: Writer) -> None:
    """What they were to get may not have been stored: they ask again."""
    given: list[Reply] = []

    def hold(service: Service) -> None:
        request = service.storage.new_request(b"f", b"", [], form=form(), options={}, open=True)
        assert service.find(request)
        writer.held.hold(HeldCall(request, "w1", 1, given.append))

    writer.start()
    writer.submit(hold).result(LONG)
    assert not given
    assert isinstance(writer.submit(fail).exception(LONG), ZeroDivisionError)
    until(lambda: given, "the call has been answered")
    assert [(reply.status, reply.header["tasks"]) for reply in given] == [(200, [])]


def test_whether_anything_was_changed_is_told_before_the_answer(writer: Writer) -> None:
    told: list[bool] = []
    writer.done = lambda changed: told.append(changed)
    writer.start()
    writer.submit(lambda _: None).result(LONG)
    assert told == [False]
    writer.submit(make).result(LONG)
    assert told == [False, True]


def test_a_call_goes_out_without_a_commit_of_its_own(writer: Writer, storage: Storage) -> None:
    """That it did is stored a little later."""
    told: list[bool] = []
    writer.done = told.append
    writer.start()

    def begin(service: Service) -> Farm:
        farm = Farm(service.storage, [b"x"] * 3, open=True)
        farm.service = service
        for worker in ("w1", "w2"):
            farm.join(worker)
        farm.exchange("w1", 1)
        return farm

    farm = writer.submit(begin).result(LONG)
    assert storage.leased(farm.request) == 1
    told.clear()
    assert writer.submit(lambda _: farm.take("w2", 1)).result(LONG) == [2]
    assert not any(told)
    until(lambda: storage.leased(farm.request) == 2, "it is stored")


def test_it_finishes_what_it_was_given_and_then_takes_no_more(writer: Writer, storage: Storage) -> None:
    given = [writer.submit(make) for _ in range(100)]
    writer.start()
    writer.stop()
    assert sorted(future.result(0) for future in given) == storage.requests(*RequestState)
    with pytest.raises(StorageError, match="the server is ending"):
        writer.submit(make).result(LONG)


@fault(
    "database moved",
    "the database is moved while its server lives, without its log",
    promise="nothing that was stored is lost",
)
@pytest.mark.slow
def test_a_database_that_is_moved_takes_all_along(writer: Writer, storage: Storage, tmp_path: Path) -> None:
    writer.start()
    writer.submit(make).result(LONG)
    with Storage(storage.dbfile) as another:
        request = another.new_request(b"f", b"", [b"x"], form=form(), options={"host": "hive"})
    writer.submit(lambda service: service.find(request)).result(LONG)
    assert not storage.log_is_empty()
    moved = Path(storage.dbfile).rename(tmp_path / "moved")
    until(lambda: not writer.is_alive(), "it has ended")
    with Storage(moved) as there:
        assert there.get_request(request).tasks == 1


def test_it_ends_when_its_database_is_removed(writer: Writer, storage: Storage) -> None:
    """It knows what was removed with it: workers of what has ended, too, may wait in a queue still."""
    ended, runs = (storage.new_request(b"f", b"", [b"x"], form=form(), options={"host": "hive"}) for _ in range(2))
    array = storage.new_array(ended, ArrayJob(0, "herd_001_0badcafe", "d", 3))
    storage.set_submitted(ended, replace(array, job="7"))
    storage.store_result(ended, 1, b"r")
    writer.start()
    writer.submit(lambda service: service.find(runs)).result(LONG)
    for end in ("", "-wal", "-shm"):
        Path(f"{storage.dbfile}{end}").unlink(missing_ok=True)
    until(lambda: not writer.is_alive(), "it has ended")
    found = {removed.id: [left.job for left in arrays] for removed, arrays in writer.removed}
    assert found == {ended: ["7"], runs: []}


def test_a_pause_is_not_counted() -> None:
    clock = Clock()
    clock.looked -= 3600.0
    assert clock() == TICK
    begun = time.monotonic()
    time.sleep(0.05)
    assert TICK + 0.05 <= clock() <= TICK + (time.monotonic() - begun) + 1e-3
