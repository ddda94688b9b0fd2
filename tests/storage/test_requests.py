"""Requests: what is known of them, and what becomes of them."""

from collections.abc import Iterator

import pytest

from sheepdog.errors import DamagedRequest, RequestNotFound
from sheepdog.storage import Storage, file
from sheepdog.values.model import Kind, RequestState
from tests.faults import fault
from tests.storage.samples import request_of, unfinished


def test_requests_do_not_mix(storage: Storage) -> None:
    first, second = request_of(storage, 2), request_of(storage, 3)
    storage.store_result(first, 2, b"of the first")
    storage.store_result(second, 1, b"of the second")
    assert storage.get_results(first) == [(b"args 2", b"of the first")]
    assert storage.get_results(second) == [(b"args 1", b"of the second")]
    storage.remove_request(first)
    with pytest.raises(RequestNotFound):
        storage.count_tasks(first)
    assert storage.count_tasks(second) == 3
    assert storage.get_results(second) == [(b"args 1", b"of the second")]
    assert request_of(storage, 1) > second  # an id is never used again


def test_args_that_raise_leave_nothing(storage: Storage) -> None:
    def args() -> Iterator[bytes]:
        yield b"one"
        raise KeyError("two")

    with pytest.raises(KeyError):
        storage.new_request(b"f", b"", args())
    assert unfinished(storage) == []
    assert request_of(storage, 1) == 1


def test_others_can_write_while_args_are_drawn(storage: Storage) -> None:
    def args() -> Iterator[bytes]:
        with Storage(storage.dbfile) as other:
            other.set_settings(drawn=1)
        yield b"one"

    storage.new_request(b"f", b"", args())
    assert storage.get_setting("drawn") == 1


def test_a_request_without_tasks_has_ended(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [])
    assert storage.progress(request).finished
    assert unfinished(storage) == []
    assert storage.pending(request) == []
    assert storage.get_tasks_with_results(request) == []


def test_what_is_known_of_a_request(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [b"1", b"2"], name="n", form={"magic": "x"}, options={"lease": 3.0})
    stored = storage.get_request(request)
    assert (stored.name, stored.form, stored.tasks) == ("n", {"magic": "x"}, 2)
    assert (stored.state, stored.submitted, stored.leased, stored.gave_up) == (RequestState.NEW, None, 0, False)
    storage.set_leased(request, 2)
    storage.set_gave_up(request)
    storage.set_fruitless(request, 3)
    stored = storage.get_request(request)
    assert (stored.leased, stored.gave_up, stored.fruitless, stored.options) == (2, True, 3, {"lease": 3.0})
    other = storage.get_request(request_of(storage, 1))
    assert len(stored.token) == 64
    assert stored.token != other.token


def test_the_note_is_part_of_the_progress(storage: Storage) -> None:
    request = request_of(storage, 1)
    storage.set_note(request, "none has called")
    assert storage.progress(request).note == "none has called"
    storage.set_note(request, "")
    assert storage.progress(request).note == ""


@pytest.mark.parametrize(("column", "value"), [("options", "{"), ("options", "[1]"), ("form", "7"), ("state", 77)])
def test_a_damaged_row_says_which_request(storage: Storage, column: str, value: object) -> None:
    request = request_of(storage, 1)
    with storage.transaction():
        storage.db.execute(f"UPDATE request SET {column} = ?", (value,))
    with pytest.raises(DamagedRequest, match=f"of request {request} cannot be read"):
        storage.get_request(request)


@fault("files left", "much of a database is free", promise="it is given back to the disk, unless something runs")
def test_room_is_given_back_when_it_is_much_and_nothing_runs(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def pages() -> int:
        return int(storage.db.execute("PRAGMA page_count").fetchone()[0])

    monkeypatch.setattr(file, "MUCH", 1_000_000)
    first, second = (storage.new_request(b"f", b"", [bytes(100_000)] * 20) for _ in range(2))
    small = storage.new_request(b"f", b"", [b"args"])
    before = pages()
    storage.end_pending(first, Kind.CANCELLED, "cancelled")
    storage.remove_request(first)
    storage.give_back()
    assert pages() == before  # something runs
    for request in (second, small):
        storage.end_pending(request, Kind.CANCELLED, "cancelled")
    storage.give_back()
    assert pages() == before  # it is not half of it
    storage.remove_request(second)
    storage.give_back()
    assert pages() < before / 10
    assert storage.arguments(small, 1) == b"args"
