"""The order of calls: in numbers; in whole conversations with workers; and whatever may happen, for a few calls."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

import pytest

from sheepdog.server.decide.order import DEEP, FETCH, FLOOD, LONG, SHORT, Order, is_held_up
from sheepdog.server.decide.queue import Queue
from sheepdog.storage import Storage
from sheepdog.values.model import Kind, Outcome
from tests.server.decide.farm import Farm


def ended(count: int, seconds: float = SHORT / 2) -> list[Outcome]:
    return [Outcome(task=1, kind=Kind.RESULT, value=b"", seconds=seconds)] * count


def in_flood() -> Order:
    order = Order()
    order.note(ended(FLOOD))
    return order


def portion(order: Order, ready: int, want: int, own: int = 0, others: Collection[int] = ()) -> int:
    """Return how many of the ready calls a worker gets; own and others: how many it and the others have."""
    queue = Queue([(1, ready + own + sum(others))], 60.0)
    for number, held in enumerate([own, *others]):
        queue.take(f"w{number}", held, 0.0)
    return order.portion(queue, "w0", queue.ready, want)


# --- the numbers


def test_one_call_at_a_time() -> None:
    """However many there are, and whatever a worker wants: nobody knows how long they take."""
    assert portion(Order(), 1000, 500, others=[0, 1]) == 1
    assert portion(Order(), 1000, 500, own=1, others=[0, 1]) == 0


def test_a_single_worker_gets_batches() -> None:
    """Its calls begin in their order anyway; but another may be about to ask."""
    assert portion(Order(), 1000, 500) == 500
    assert portion(Order(), 10, 500) == 5


def test_one_worker_gets_batches_of_short_calls() -> None:
    assert portion(in_flood(), 1000, 500, others=[0, 1]) == 500
    assert portion(in_flood(), 1000, 500, own=20, others=[0, 1]) == 500  # so that it need not wait


def test_few_workers_are_slower_together_up_to_longer_calls() -> None:
    order = Order()
    order.note(ended(FLOOD, FETCH / 3))
    assert portion(order, 1000, 500, others=[0, 1]) == 500
    assert portion(order, 1000, 500, others=[0, 1, 1, 1]) == 1


@pytest.mark.parametrize("order", [Order(), in_flood()])
def test_nobody_gets_a_call_while_another_has_some_that_it_has_perhaps_not_begun(order: Order) -> None:
    assert portion(order, 1000, 500, others=[2, 1]) == 0


@pytest.mark.parametrize("outcomes", [ended(FLOOD, 2 * FETCH), ended(1, FLOOD * FETCH)])
def test_no_batches_after_longer_calls(outcomes: list[Outcome]) -> None:
    order = in_flood()
    order.note(outcomes)
    assert portion(order, 1000, 500, others=[0]) == 1


def test_no_batches_of_few_calls() -> None:
    assert portion(in_flood(), DEEP, 500, others=[0]) == DEEP
    assert portion(in_flood(), DEEP - 1, 500, others=[0]) == 1


def test_nobody_gets_a_call_while_others_may_be_held_since_before_a_restart() -> None:
    queue = Queue([(1, 100)], 60.0, leased_before=10)
    assert is_held_up(queue)
    queue.release_doubtful()
    assert not is_held_up(queue)


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


def test_others_wait_for_a_batch_that_has_not_begun(farm: Farm) -> None:
    """They are woken when it comes back, also when no more calls come."""
    farm.live.order.note(ended(FLOOD))
    add(farm, 400)
    batch = farm.take("w1", 40)
    assert batch == [*range(1, 41)]
    assert farm.service.ready() == {farm.request: 0}
    farm.maker.close_request(farm.request)  # type: ignore[attr-defined]
    farm.service.look_again()
    reply = farm.exchange("w2", 40)
    assert (reply.header["tasks"], reply.hold > 0) == ([], True)
    farm.exchange("w1", 0, {1: b""}, holding=[2])
    assert farm.service.ready() == {farm.request: 398}
    assert farm.take("w2", 40)[0] == 3


# --- whatever may happen


class Hand(NamedTuple):
    """A worker. On its way to the server is what it has said that it holds, and on its way back what it gets."""

    view: tuple[int, ...] = ()
    """What it holds, as far as the server knows."""
    has: tuple[int, ...] = ()
    """What it holds. The first runs."""
    said: tuple[int, ...] | None = None
    reply: tuple[int, ...] | None = None

    @property
    def is_silent(self) -> bool:
        return self.said is None and self.reply is None

    def alone(self) -> "Hand":
        """Give back what has not begun."""
        return self._replace(has=self.has[:1])


State = tuple[frozenset[int], tuple[Hand, ...]]
"""The calls that have ended, and the workers."""

WANT = 3


def begun(state: State) -> set[int]:
    return {*state[0], *(hand.has[0] for hand in state[1] if hand.has)}


def served(calls: int, state: State, which: int, want: int, flood: bool) -> Hand:
    """Let the server answer a worker that wants so many."""
    over, hands = state
    name, view, said = f"w{which}", hands[which].view, hands[which].said
    assert said is not None
    known = over.difference(*(hand.view for hand in hands))  # to the server, as calls that have ended
    queue = Queue([(call, call) for call in range(1, calls + 1) if call not in known], 60.0)
    for number, hand in enumerate(hands):
        queue.hold(f"w{number}", dict.fromkeys(hand.view, 1), 0.0)
    queue.settle(over.intersection(view).difference(said))
    queue.hold(name, dict.fromkeys(said, 1), 0.0)
    order = Order()
    order._is_flood = lambda *_: flood  # type: ignore[method-assign]
    given = [index for index, _ in queue.take(name, order.portion(queue, name, queue.ready, want), 0.0)]
    return hands[which]._replace(view=tuple(queue.holders[name].held), said=None, reply=tuple(given))


def put(state: State, which: int, hand: Hand) -> State:
    hands = state[1]
    return state[0], (*hands[:which], hand, *hands[which + 1 :])


def talk(calls: int, state: State, which: int) -> Iterator[State]:
    """Let a worker's call go one step on; the first way is that of a worker that has been busy for long."""
    hand = state[1][which]
    if hand.said is not None:
        for want in (0, WANT) if hand.said else (WANT,):
            for flood in (True, False) if want else (False,):
                yield put(state, which, served(calls, state, which, want, flood))
    elif hand.reply is not None:
        yield put(state, which, hand._replace(has=hand.has + hand.reply, reply=None))
    else:
        yield put(state, which, hand._replace(said=hand.has))


def next_states(calls: int, state: State) -> Iterator[State]:
    for which, hand in enumerate(state[1]):
        yield from talk(calls, state, which)
        if hand.has:
            yield state[0] | {hand.has[0]}, put(state, which, hand._replace(has=hand.has[1:]))[1]
        if hand.is_silent:
            yield put(state, which, hand.alone())


def settled(calls: int, state: State) -> State:
    """Return what comes of it if no call that runs ever ends, and all workers have given back what has not begun."""
    while True:
        before = state
        for which in range(len(state[1])):
            state = put(state, which, state[1][which].alone())
            for _ in range(3):
                state = next(talk(calls, state, which))
        if state == before:
            return state


@pytest.mark.parametrize(
    ("workers", "calls"), [(1, 5), (2, 3), *[pytest.param(*size, marks=pytest.mark.slow) for size in [(2, 5), (3, 4)]]]
)
def test_as_if_begun_one_by_one(workers: int, calls: int) -> None:
    """Let any calls run for ever at any moment: those that have begun are the first ones, and no worker is idle.

    So what does not stand still when each call in turn is begun by the first worker that is free, does not here.
    """
    first: State = (frozenset(), (Hand(),) * workers)
    seen, ahead = {first}, [first]
    while ahead:
        state = ahead.pop()
        if all(hand.is_silent and len(hand.has) < 2 for hand in state[1]):
            over, hands = settled(calls, state)
            found = begun((over, hands))
            assert found == set(range(1, len(found) + 1)), (state, hands)
            assert len(found) == calls or all(hand.has for hand in hands), (state, hands)
        for over, hands in next_states(calls, state):
            then = over, tuple(sorted(hands, key=lambda hand: (hand.view, hand.has, hand.said or (), hand.reply or ())))
            if then not in seen:
                seen.add(then)
                ahead.append(then)
    assert len(seen) > calls
