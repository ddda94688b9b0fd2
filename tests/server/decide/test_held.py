"""Calls that are held until there are tasks."""

from collections.abc import Callable

import pytest

from sheepdog.server.calls import Reply
from sheepdog.server.decide.held import HeldCall, HeldCalls
from sheepdog.storage import Storage
from tests.server.decide.farm import Farm


@pytest.fixture
def open_farm(storage: Storage) -> Farm:
    """A request that waits for tasks, and three workers without any."""
    farm = Farm(storage, [], open=True)
    for worker in ("w1", "w2", "w3"):
        farm.join(worker)
    return farm


def maker(farm: Farm) -> Storage:
    """Return the store as another program has it: what the service has committed itself it does not look at again."""
    return Storage(farm.storage.dbfile)


def held(farm: Farm, *workers: str, want: int = 1) -> tuple[HeldCalls, Callable[[], list[tuple[str, int]]]]:
    """Hold calls; return what answers them, and what says which workers got how many tasks, or which status."""
    calls = HeldCalls()
    for worker in workers:
        calls.hold(HeldCall(farm.request, worker, want, lambda _: None))

    def answers() -> list[tuple[str, int]]:
        farm.service.look_again()
        found = calls.answers(farm.service)
        return [
            (call.worker, len(reply.header["tasks"]) if reply.status == 200 else reply.status) for call, reply in found
        ]

    return calls, answers


def test_as_many_as_there_are_tasks(open_farm: Farm) -> None:
    """The longest first."""
    _, answers = held(open_farm, "w1", "w2", "w3")
    assert answers() == []
    maker(open_farm).add_tasks(open_farm.request, [b"1", b"2"])
    assert answers() == [("w1", 1), ("w2", 1)]
    assert answers() == []
    maker(open_farm).add_tasks(open_farm.request, [b"3"])
    assert answers() == [("w3", 1)]


def test_who_is_let_go_gets_nothing(open_farm: Farm) -> None:
    calls, answers = held(open_farm, "w1", "w2")
    first = calls.lines[open_farm.request][0]
    calls.let_go(first)
    calls.let_go(first)
    maker(open_farm).add_tasks(open_farm.request, [b"1", b"2"])
    assert answers() == [("w2", 1)]
    calls.let_go(first)


def test_who_may_not_have_it_does_not_keep_it_from_others(open_farm: Farm) -> None:
    """A worker that is leaving, or that nobody knows."""
    _, answers = held(open_farm, "unknown", "w1")
    maker(open_farm).add_tasks(open_farm.request, [b"1"])
    assert answers() == [("w1", 1)]


def test_a_request_that_takes_no_more_tasks(open_farm: Farm) -> None:
    """All that are held are answered."""
    _, answers = held(open_farm, "w1", "w2")
    maker(open_farm).close_request(open_farm.request)
    assert answers() == [("w1", 410), ("w2", 410)]


def test_a_request_that_was_removed(open_farm: Farm) -> None:
    _, answers = held(open_farm, "w1")
    maker(open_farm).remove_request(open_farm.request)
    assert answers() == [("w1", 410)]


def test_all_are_let_go(open_farm: Farm) -> None:
    calls, answers = held(open_farm, "w1", "w2")
    assert [call.worker for call in calls.let_all_go()] == ["w1", "w2"]
    maker(open_farm).add_tasks(open_farm.request, [b"1"])
    assert answers() == []


def test_an_answer_is_a_reply(open_farm: Farm) -> None:
    given: list[Reply] = []
    calls = HeldCalls()
    calls.hold(HeldCall(open_farm.request, "w1", 1, given.append))
    maker(open_farm).add_tasks(open_farm.request, [b"1"])
    open_farm.service.look_again()
    for call, reply in calls.answers(open_farm.service):
        call.answer(reply)
    assert [(reply.header["tasks"], list(reply.blobs)) for reply in given] == [([[1, 1]], [b"1"])]
