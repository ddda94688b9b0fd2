"""What the store keeps of what happened."""

import pytest

from sheepdog.errors import RequestNotFound
from sheepdog.storage import Storage
from sheepdog.values.facts import Event, What
from sheepdog.values.model import Kind
from tests.storage.samples import request_of


def test_events_come_in_order_from_any_of_them_on(storage: Storage) -> None:
    request, other = request_of(storage, 3), request_of(storage, 3)
    storage.store_events(request, [Event(1.5, "submitted", text="job 4711"), Event(2.5, "lost", task=2, worker="a")])
    storage.store_events(other, [Event(2.5, "lost", task=2)])
    storage.store_events(request, iter([Event(0.5, "lost", task=3)]))
    earlier, first, second = storage.events(request)
    assert first == Event(1.5, "submitted", None, "", "job 4711", first.number)
    assert second == Event(2.5, "lost", 2, "a", "", second.number)
    assert first.number < second.number < earlier.number  # it was stored later
    assert [*storage.events(request, task=2)] == [second]
    assert [*storage.events(request, after=first.number)] == [earlier, second]
    assert [*storage.events(request, task=2, after=second.number)] == []


def test_events_of_no_request(storage: Storage) -> None:
    with pytest.raises(RequestNotFound):
        storage.store_events(1, [Event(1.5, "lost")])
    with pytest.raises(RequestNotFound):
        storage.events(1)


def test_events_stay_when_a_request_is_tried_again_and_go_with_it(storage: Storage) -> None:
    request, other = request_of(storage, 1), request_of(storage, 1)
    for each in (request, other):
        storage.store_events(each, [Event(1.5, "lost")])
    storage.end_pending(request, Kind.CANCELLED, "cancelled")
    storage.retry(request, {}, False)
    lost, event = storage.events(request)
    assert (lost.what, event.what) == ("lost", What.ENDED)
    storage.remove_request(request)
    assert storage.db.execute("SELECT request FROM event").fetchall() == [(other,)]
    storage.store_events(other, [Event(2.5, "found")])
    assert [later.what for later in storage.events(other, after=lost.number)] == ["lost", "found"]
