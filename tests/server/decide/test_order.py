"""How many calls of an open request a worker gets, in numbers; and whole conversations with workers."""

from collections.abc import Iterator

import pytest

from sheepdog.server.decide import arrays, clock
from sheepdog.server.decide.order import DEEP, FLOOD, LONG, SILENCE, STILL, Order
from sheepdog.storage import Storage
from sheepdog.values.model import Kind, Outcome
from tests.server.decide.farm import Farm


def ended(count: int, seconds: float = 0.001) -> list[Outcome]:
    return [Outcome(task=1, kind=Kind.RESULT, value=b"", seconds=seconds)] * count


def in_flood() -> Order:
    order = Order()
    order.note(ended(FLOOD), empty=False)
    return order


# --- the numbers


def test_one_call_at_a_time() -> None:
    """However many there are, and whatever a worker wants: nobody knows how long they take."""
    assert Order().portion(1000, 0, [0, 1], 500) == 1


def test_a_single_worker_gets_batches() -> None:
    """Its calls begin in their order anyway."""
    assert Order().portion(1000, 0, [], 500) == 500


def test_nobody_begins_a_call_before_a_batch_of_another() -> None:
    order = Order()
    assert order.portion(10, 0, [1, 2], 1) == 0
    assert order.available(10, [0, 1, 2]) == 0
    assert order.available(10, [0, 1, 1]) == 10


def test_nothing_is_fetched_ahead() -> None:
    assert Order().portion(10, 1, [1], 1) == 0


def test_batches_in_a_flood() -> None:
    order = in_flood()
    assert order.portion(1000, 0, [20, 20], 100) == 100
    assert order.portion(1000, 5, [20, 20], 100) == 100
    assert order.available(1000, [0, 20, 20]) == 1000


def test_the_end_of_a_flood() -> None:
    """Too few calls wait: those in batches come first."""
    order = in_flood()
    assert order.portion(2 * DEEP, 0, [0], 100) > 1
    assert order.portion(2 * DEEP - 1, 0, [0], 100) == 1
    assert order.portion(2 * DEEP - 1, 0, [2], 100) == 0


@pytest.mark.parametrize(
    ("outcomes", "empty"), [(ended(1, 2 * LONG), False), ([*ended(9), *ended(1, 2 * LONG)], False), (ended(9), True)]
)
def test_no_flood_after_a_long_call_or_when_no_call_waits(outcomes: list[Outcome], empty: bool) -> None:
    order = in_flood()
    order.note(outcomes, empty)
    assert order.portion(1000, 0, [0], 100) == 1


# --- conversations


@pytest.fixture
def farm(storage: Storage) -> Iterator[Farm]:
    """An open request, and two workers that have asked for calls and want many."""
    farm = Farm(storage, [], open=True, lease=150.0)
    with Storage(storage.dbfile) as farm.maker:  # type: ignore[attr-defined]
        for worker in ("w1", "w2"):
            farm.join(worker)
            farm.exchange(worker, 400)
        yield farm


def add(farm: Farm, count: int) -> None:
    farm.maker.add_tasks(farm.request, [b"args"] * count)  # type: ignore[attr-defined]
    farm.service.look_again()


def flood(farm: Farm) -> None:
    """Let many calls have been short."""
    add(farm, FLOOD + 100 * DEEP)
    for _ in range(FLOOD):
        [task] = farm.take("w1", 1)
        farm.exchange("w1", 0, {task: b""})
    farm.live.order.note(ended(FLOOD), empty=False)


def test_workers_hear_what_a_long_call_is(farm: Farm, storage: Storage) -> None:
    assert farm.join("w3").header["stuck"] == LONG
    assert "stuck" not in Farm(storage, [b"args"]).join("w1").header


def test_each_worker_gets_the_next_call(farm: Farm) -> None:
    add(farm, 10)
    assert farm.service.ready() == {farm.request: 10}
    assert [farm.take(worker, 400) for worker in ("w1", "w2")] == [[1], [2]]
    reply = farm.exchange("w2", 400, {2: b""})
    assert reply.header["tasks"] == [[3, 1]]


def test_the_order_stays_when_no_more_calls_come(farm: Farm) -> None:
    add(farm, 20)
    assert farm.take("w1", 400) == [1]
    farm.maker.close_request(farm.request)  # type: ignore[attr-defined]
    farm.service.look_again()
    assert farm.take("w2", 400) == [2]
    assert farm.join("w3").header["stuck"] == LONG


def test_the_order_stays_for_a_server_that_takes_over(storage: Storage) -> None:
    """Or that hears of the request when it takes no more calls already."""
    farm = Farm(storage, [b"args"] * 20, ordered=True)
    for worker in ("w1", "w2"):
        farm.join(worker)
        farm.exchange(worker, 0)
    assert [farm.take(worker, 400) for worker in ("w1", "w2")] == [[1], [2]]


def test_what_two_workers_give_back_is_in_order(farm: Farm) -> None:
    """Whoever is the first to give back."""
    flood(farm)
    first, second = farm.take("w1", 5), farm.take("w2", 5)
    assert max(first) < min(second)
    farm.exchange("w1", 0, holding=first[:1])
    farm.exchange("w2", 0, holding=second[:1])
    farm.live.order.note(ended(1, 2 * LONG), empty=False)
    order = []
    for _ in range(8):
        [task] = farm.take("w3", 400)
        order.append(task)
        farm.exchange("w3", 0, {task: b""})
    assert order == [*first[1:], *second[1:]]


def test_others_wait_for_a_batch_that_has_not_begun(farm: Farm) -> None:
    """They are woken when it comes back."""
    flood(farm)
    batch = farm.take("w1", 400)
    farm.live.order.note(ended(1, 2 * LONG), empty=False)
    assert farm.service.ready() == {farm.request: 0}
    reply = farm.exchange("w2", 400)
    assert (reply.header["tasks"], reply.hold > 0) == ([], True)
    farm.exchange("w1", 0, holding=batch[:1])
    assert farm.service.ready()[farm.request] > 0
    assert farm.take("w2", 400) == [batch[1]]


@pytest.mark.slow
def test_one_more_worker_for_calls_that_were_overtaken(farm: Farm) -> None:
    """Two workers of a flood came upon long calls at once: those behind the first are taken by nobody."""
    flood(farm)
    first, second = farm.take("w1", 5), farm.take("w2", 5)
    farm.exchange("w1", 0, holding=first[:1])
    farm.exchange("w2", 0, holding=second[:1])
    assert clock.wanted(farm.service) == []
    farm.now += STILL + 1
    [wanted] = clock.wanted(farm.service)
    assert (wanted.workers, wanted.why) == (1, "calls run that overtook others, which they may wait for")
    arrays.submitted(farm.service, farm.request, farm.submit(1))
    farm.join("w3", element="1", array=2)
    assert farm.take("w3", 1) == [first[1]]
    farm.now += STILL + 1
    assert clock.wanted(farm.service) == []  # one at most
    while task := farm.take("w3", 400):
        farm.exchange("w3", 0, dict.fromkeys(task, b""))
    assert farm.exchange("w3", 1).header["stop"]  # when there is nothing for it


def test_no_worker_more_where_calls_are_in_order(farm: Farm) -> None:
    add(farm, 10)
    assert [farm.take(worker, 400) for worker in ("w1", "w2")] == [[1], [2]]
    farm.now += STILL + 1
    assert clock.wanted(farm.service) == []


def test_a_worker_that_says_nothing_holds_up_nobody(farm: Farm) -> None:
    flood(farm)
    batch = farm.take("w1", 400)
    farm.live.order.note(ended(1, 2 * LONG), empty=False)
    assert farm.take("w2", 400) == []
    farm.now += SILENCE
    assert farm.take("w2", 400) == [batch[-1] + 1]
