"""The queue: by examples, then against a model that holds every task one by one."""

import sys
from types import FrameType
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sheepdog.server.decide.policy import FRESH, Past, Policy
from sheepdog.server.decide.queue import SUSPECT, Queue
from sheepdog.values.model import Kind
from tests.faults import fault

LEASE = 10.0
POLICY = Policy(max_losses=1000)


def lose(queue: Queue, worker: str, due: float = 0.0) -> int:
    """Drop a worker, and let others have what it held; return how many tasks that were."""
    lost = queue.drop(worker)
    for index, attempt in lost:
        past, _ = POLICY.judge(queue.past.get(index, FRESH), Kind.LOST, attempt)
        queue.repeat(index, past, due)
    return len(lost)


def expire(queue: Queue, now: float) -> list[str]:
    """Lose the silent workers; return those that held tasks."""
    return [worker for worker in queue.silent(now) if lose(queue, worker)]


def indexes(taken: list[tuple[int, int]]) -> list[int]:
    return [index for index, _ in taken]


def test_tasks_are_taken_in_order_until_there_are_none() -> None:
    queue = Queue([(1, 3), (5, 6)], LEASE)
    assert queue.ready == 5
    assert queue.take("a", 2, 0) == [(1, 1), (2, 1)]
    assert queue.take("b", 9, 0) == [(3, 1), (5, 1), (6, 1)]
    assert queue.take("b", 9, 0) == []
    assert (queue.ready, queue.leased, queue.empty) == (0, 5, False)
    queue.settle([1, 2, 3, 5, 6])
    assert queue.empty


def test_a_queue_without_pending_tasks_is_empty() -> None:
    assert Queue([], LEASE).empty


def test_many_ready_tasks_cost_nothing() -> None:
    queue = Queue([(1, 10**12)], LEASE)
    queue.settle([10**9])
    assert indexes(queue.take("a", 2, 0)) == [1, 2]
    assert queue.ready == 10**12 - 3


def test_a_step_costs_the_same_if_the_tasks_that_are_left_are_scattered() -> None:
    """As after many attempts: every second task is left, and each has a past."""

    def steps(tasks: int) -> int:
        scattered = [2 * index for index in range(1, tasks + 1)]
        past = {index: Past(1, level=index // 2 % 2) for index in scattered}
        queue = Queue([(index, index) for index in scattered], LEASE, tasks, past)
        counted = 0

        def count(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal counted
            counted += 1  # a line
            return count

        before = sys.gettrace()
        sys.settrace(count)
        try:
            for index in scattered[::2]:
                queue.hold("a", {index: 2}, 0)
                queue.repeat(index, past[index].counted(2), 0)
            queue.settle(scattered[1::2])
            while taken := indexes(queue.take("b", 10, 0, level=1)):
                queue.settle(taken)
        finally:
            sys.settrace(before)
        assert queue.empty
        return counted

    assert steps(4000) < 10 * steps(500)


def test_the_tasks_of_a_worker_that_ended_come_first_as_another_attempt() -> None:
    queue = Queue([(1, 9)], LEASE)
    queue.take("a", 3, 0)
    queue.settle([2])
    assert lose(queue, "a") == 2
    assert sorted(queue.take("b", 3, 0)) == [(1, 2), (3, 2), (4, 1)]
    assert lose(queue, "b") == 3
    assert [queue.take("c", 3, 0) for _ in range(3)] == [[(1, 3)], [(3, 3)], [(4, 2), (5, 1), (6, 1)]]
    assert queue.drop("never heard of") == []


def test_what_comes_back_is_taken_in_the_order_of_indices() -> None:
    queue = Queue([(1, 9)], LEASE)
    queue.take("a", 3, 0)
    lose(queue, "a")
    assert indexes(queue.take("b", 5, 0)) == [1, 2, 3, 4, 5]


@fault(3, "a reply with tasks that never arrives", promise="the tasks are leased again, as the same attempt")
def test_what_a_worker_does_not_name_is_ready_again_as_the_same_attempt() -> None:
    queue = Queue([(1, 3)], LEASE)
    queue.take("a", 3, 0)
    queue.hold("a", {2: 1}, 1)
    assert sorted(queue.take("b", 3, 1)) == [(1, 1), (3, 1)]


@fault(5, "a worker that is silent", promise="it is lost when its lease has ended, and not before")
def test_a_silent_worker_is_lost_after_the_lease_and_not_before() -> None:
    queue = Queue([(1, 2)], LEASE)
    queue.take("a", 1, 0)
    queue.take("idle", 0, 0)
    assert expire(queue, LEASE) == []
    assert expire(queue, LEASE + 0.1) == ["a"]
    assert queue.holders == {}
    assert sorted(queue.take("b", 2, LEASE)) == [(1, 2), (2, 1)]


def test_a_heartbeat_renews_the_lease() -> None:
    queue = Queue([(1, 2)], LEASE)
    queue.take("a", 1, 0)
    queue.take("b", 1, 0)
    queue.hold("a", {1: 1}, LEASE)
    assert expire(queue, LEASE + 1) == ["b"]


@fault(10, "a worker that is heard again after its lease", promise="it keeps what nobody else was given meanwhile")
def test_a_late_worker_gets_its_task_back_if_nobody_else_has_it() -> None:
    queue = Queue([(1, 2)], LEASE)
    queue.take("late", 2, 0)
    expire(queue, LEASE + 1)
    [(other, _)] = queue.take("other", 1, LEASE + 1)
    queue.hold("late", {1: 1, 2: 1}, LEASE + 2)
    assert set(queue.holders["late"].held) == {1, 2} - {other}
    assert set(queue.holders["other"].held) == {other}
    assert queue.ready == 0


@fault(10, "an outcome from a worker that has lost its lease", promise="it counts: work is never thrown away")
def test_an_outcome_counts_whoever_brings_it() -> None:
    queue = Queue([(1, 3)], LEASE)
    queue.take("a", 1, 0)
    queue.settle([1, 2, 2, 1, 99])
    assert queue.holders["a"].held == {}
    assert indexes(queue.take("b", 9, 0)) == [3]


@fault(
    1,
    "a server that takes over from one that died",
    promise="what workers may hold is not given to others before they were heard",
)
def test_after_a_restart_tasks_once_leased_wait_until_the_workers_are_heard() -> None:
    queue = Queue([(2, 5), (7, 20)], LEASE, leased_before=8)
    assert queue.doubtful
    assert queue.ready == 12  # 9 to 20
    queue.hold("a", {3: 4, 7: 1}, 0)
    queue.settle([4])
    assert indexes(queue.take("b", 2, 0)) == [9, 10]
    queue.release_doubtful()
    assert not queue.doubtful
    assert queue.take("b", 4, 0) == [(2, 2), (5, 2), (8, 2), (11, 1)]  # those may have been begun before
    lose(queue, "a")
    assert queue.take("b", 2, 0) == [(3, 5), (7, 2)]


def test_released_doubtful_tasks_are_named_with_the_attempt_that_may_have_been_begun() -> None:
    queue = Queue([(1, 4)], LEASE, 3, {2: Past(attempts=4)})
    assert queue.release_doubtful() == [(1, 1), (2, 5), (3, 1)]
    assert queue.release_doubtful() == []
    assert queue.take("a", 9, 0) == [(1, 2), (2, 6), (3, 2), (4, 1)]


def test_a_task_that_lost_workers_goes_alone() -> None:
    queue = Queue([(1, 3)], LEASE, past={2: Past(2, losses=SUSPECT)})
    assert [queue.take("a", 9, 0) for _ in range(3)] == [[(1, 1)], [(2, 3)], [(3, 1)]]


def test_a_suspect_does_not_join_others() -> None:
    queue = Queue([(1, 3)], LEASE)
    queue.take("a", 2, 0)
    queue.repeat(1, Past(1), 0)
    queue.repeat(2, Past(2, losses=SUSPECT), 0)
    assert queue.take("b", 9, 0) == [(1, 2)]
    assert queue.take("b", 9, 0) == [(2, 3)]


def test_a_task_is_not_taken_again_before_its_time() -> None:
    queue = Queue([(1, 2)], LEASE)
    queue.take("a", 1, 0)
    queue.repeat(1, Past(1, failures=1), due=5)
    assert (queue.waiting, queue.size, queue.empty) == (1, 2, False)
    assert queue.take("a", 9, 4.9) == [(2, 1)]
    assert queue.take("a", 9, 5.0) == [(1, 2)]
    assert queue.waiting == 0


def test_a_task_that_waits_can_end() -> None:
    queue = Queue([(1, 2)], LEASE)
    queue.take("a", 2, 0)
    queue.repeat(1, Past(1), due=5)
    queue.settle([1, 2])
    assert queue.empty
    assert queue.take("a", 9, 10) == []


def test_a_task_that_needs_more_goes_to_workers_that_have_it() -> None:
    queue = Queue([(1, 3)], LEASE)
    queue.take("a", 2, 0)
    queue.repeat(1, Past(1, level=1), 0)
    queue.repeat(2, Past(1, level=2), 0)
    assert queue.take("a", 9, 0) == [(3, 1)]
    assert queue.raised == {1: 1, 2: 1}
    assert [queue.ready_for(level) for level in (0, 1, 2, 3)] == [0, 1, 2, 2]
    assert queue.take("b", 9, 0, level=1) == [(1, 2)]
    assert queue.take("c", 9, 0, level=2) == [(2, 2)]
    assert (queue.raised, queue.ready, queue.leased) == ({}, 0, 3)


def test_raised_workers_take_what_needs_them_first() -> None:
    queue = Queue([(1, 2)], LEASE, past={2: Past(1, level=1)})
    assert queue.take("b", 1, 0, level=3) == [(2, 2)]
    assert queue.take("b", 1, 0, level=3) == [(1, 1)]


def test_a_past_is_kept_whichever_way_a_task_comes_back() -> None:
    queue = Queue([(1, 3)], LEASE, past={1: Past(3, failures=2), 2: Past(1, level=1)})
    assert queue.take("a", 9, 0) == [(1, 4), (3, 1)]
    queue.hold("a", {}, 0)
    assert queue.take("a", 9, 0) == [(1, 4), (3, 1)]
    queue.put_back("a", [3, 1])
    assert queue.take("a", 9, 0, level=1) == [(2, 2), (1, 4), (3, 1)]


def test_what_has_ended_elsewhere_is_named() -> None:
    queue = Queue([(1, 3)], LEASE)
    queue.take("a", 3, 0)
    queue.settle([2])
    assert queue.hold("a", {1: 1, 2: 1, 3: 1}, 0) == [2]
    queue.take("b", 0, 0)
    assert queue.hold("b", {1: 1}, 0) == []  # it runs, at another worker
    assert queue.hold("b", {99: 1}, 0) == [99]


def test_an_attempt_is_superseded_when_it_was_given_up_or_another_has_the_task() -> None:
    queue = Queue([(1, 2)], LEASE)
    queue.take("a", 1, 0)
    assert not queue.is_superseded("a", 1, 1)
    assert queue.is_superseded("b", 1, 1)
    lose(queue, "a")
    assert queue.is_superseded("a", 1, 1)
    queue.take("b", 1, 0)
    assert queue.is_superseded("a", 1, 1)
    assert not queue.is_superseded("b", 1, 2)
    queue.hold("a", {2: 1}, 0)  # after a restart a worker may name what this server did not give it
    assert not queue.is_superseded("a", 2, 1)


def test_an_attempt_is_superseded_when_its_own_worker_has_another() -> None:
    """Its report is repeated: the reply was lost in which it was given the task again."""
    queue = Queue([(1, 1)], LEASE)
    queue.take("a", 1, 0)
    queue.repeat(1, Past(1, failures=1), 0)
    assert queue.take("a", 1, 0) == [(1, 2)]
    assert queue.is_superseded("a", 1, 1)
    assert not queue.is_superseded("a", 1, 2)


def test_an_attempt_of_a_task_that_has_ended_is_superseded() -> None:
    queue = Queue([(1, 2)], LEASE)
    queue.take("a", 1, 0)
    queue.settle([1])
    assert queue.is_superseded("a", 1, 1)
    assert not queue.is_superseded("a", 2, 1)


def test_attempts_count_the_one_under_way() -> None:
    queue = Queue([(1, 1)], LEASE)
    assert queue.attempts(1) == 0
    queue.take("a", 1, 0)
    assert queue.attempts(1) == 1
    lose(queue, "a")
    assert queue.attempts(1) == 1
    queue.take("b", 1, 0)
    assert queue.attempts(1) == 2


def test_a_worker_that_is_about_to_end_is_lost_sooner() -> None:
    queue = Queue([(1, 2)], LEASE)
    queue.take("a", 1, 0)
    queue.shorten("a", 3)
    assert expire(queue, 3) == []
    assert expire(queue, 3.1) == ["a"]


def test_renewing_a_worker_without_leases_makes_none() -> None:
    queue = Queue([(1, 1)], LEASE)
    queue.renew("a", 0)
    assert queue.holders == {}


TASKS = st.integers(1, 12)
WORKERS = st.sampled_from("abc")


class QueueMachine(RuleBasedStateMachine):
    """Every task is in one place: ready, waiting, doubtful, leased to one worker, or ended."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.place: dict[int, str] = {}  # "ready", "waiting", "doubtful", "ended" or a worker
        self.attempts: dict[int, int] = {}  # of what is leased
        self.due: dict[int, float] = {}  # of what is "waiting"
        self.past: dict[int, Past] = {}
        self.heard: dict[str, float] = {}

    @initialize(pending=st.sets(TASKS), leased_before=st.integers(0, 13))
    def start(self, pending: set[int], leased_before: int) -> None:
        self.place = {index: "doubtful" if index <= leased_before else "ready" for index in pending}
        ranges: list[tuple[int, int]] = []
        for index in sorted(pending):
            if ranges and ranges[-1][1] == index - 1:
                ranges[-1] = (ranges[-1][0], index)
            else:
                ranges.append((index, index))
        self.queue = Queue(ranges, LEASE, leased_before)

    def where(self, place: str) -> set[int]:
        return {index for index, found in self.place.items() if found == place}

    def given_back(self, worker: str) -> None:
        """It was lost, and what it held is to be had at once."""
        for index in self.where(worker):
            self.place[index], self.due[index] = "waiting", 0.0
            self.past[index], _ = POLICY.judge(self.past.get(index, FRESH), Kind.LOST, self.attempts[index])
        self.heard.pop(worker)

    def level(self, index: int) -> int:
        return self.past.get(index, FRESH).level

    def is_suspect(self, index: int) -> bool:
        return self.past.get(index, FRESH).losses >= SUSPECT

    @rule(worker=WORKERS, want=st.integers(0, 5), level=st.integers(0, 2))
    def take(self, worker: str, want: int, level: int) -> None:
        taken = self.queue.take(worker, want, self.now, level)
        for index in self.where("waiting"):
            if self.due[index] <= self.now:
                self.place[index] = "ready"
        fitting = {index for index in self.where("ready") if self.level(index) <= level}
        most = min(want, len(fitting))
        suspects = [index for index, _ in taken if self.is_suspect(index)]
        assert len(taken) == len(dict(taken)) == 1 if suspects else min(most, 1) <= len(taken) <= most
        if not any(map(self.is_suspect, fitting)):
            assert len(taken) == most
        for index, attempt in taken:
            assert index in fitting
            assert attempt == self.past.get(index, FRESH).attempts + 1
            self.place[index] = worker
            self.attempts[index] = attempt
        self.heard[worker] = self.now

    @rule(worker=WORKERS, named=st.dictionaries(TASKS, st.integers(1, 4)))
    def hold(self, worker: str, named: dict[int, int]) -> None:
        ended = self.queue.hold(worker, named, self.now)
        assert sorted(ended) == sorted(index for index in named if self.place.get(index, "ended") == "ended")
        for index in self.where(worker) - named.keys():
            self.place[index] = "ready"
        for index, attempt in named.items():
            if self.place.get(index) in ("ready", "waiting", "doubtful"):
                self.place[index] = worker
                self.attempts[index] = attempt
        self.heard[worker] = self.now

    @rule(
        index=TASKS,
        kind=st.sampled_from([Kind.RAISED, Kind.MEMORY, Kind.LOST, Kind.INTERRUPTED]),
        seconds=st.floats(0, LEASE),
    )
    def repeat(self, index: int, kind: Kind, seconds: float) -> None:
        if self.place.get(index, "ended") == "ended":
            return  # an attempt of a task that has ended is superseded
        attempt = self.attempts.get(index, 1) if self.place[index] in self.heard else 1
        past, _ = Policy(on_oom=2).judge(self.past.get(index, FRESH), kind, attempt)
        self.queue.repeat(index, past, self.now + seconds)
        self.place[index], self.past[index], self.due[index] = "waiting", past, self.now + seconds

    @rule(worker=WORKERS, index=TASKS, attempt=st.integers(1, 4))
    def ask(self, worker: str, index: int, attempt: int) -> None:
        place = self.place.get(index, "ended")
        begun = self.past.get(index, FRESH).attempts
        held = place in self.heard
        over = place != worker or attempt < self.attempts[index] if held else place == "ended" or attempt <= begun
        assert self.queue.is_superseded(worker, index, attempt) == over
        if place != "ended":
            under_way = self.attempts[index] if place in self.heard else 0
            assert self.queue.attempts(index) == max(begun, under_way)

    @rule(ended=st.lists(st.integers(0, 14)))
    def settle(self, ended: list[int]) -> None:
        self.queue.settle(ended)
        for index in self.place.keys() & set(ended):
            self.place[index] = "ended"

    @rule(worker=WORKERS)
    def lose(self, worker: str) -> None:
        assert lose(self.queue, worker) == len(self.where(worker))
        if worker in self.heard:
            self.given_back(worker)

    @rule(seconds=st.floats(0, 2 * LEASE))
    def expire(self, seconds: float) -> None:
        self.now += seconds
        silent = [worker for worker, heard in self.heard.items() if self.now > heard + LEASE]
        assert sorted(expire(self.queue, self.now)) == sorted(worker for worker in silent if self.where(worker))
        for worker in silent:
            self.given_back(worker)

    @rule()
    def release_doubtful(self) -> None:
        found = dict(self.queue.release_doubtful())
        assert found.keys() == self.where("doubtful")
        for index in self.where("doubtful"):
            before = self.past.get(index, FRESH)
            assert found[index] == before.attempts + 1
            self.place[index], self.past[index] = "ready", before.counted(found[index])

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "queue"):
            return
        held = {worker: set(holder.held) for worker, holder in self.queue.holders.items()}
        assert held == {worker: self.where(worker) for worker in self.heard}
        assert self.queue.ready == len(self.where("ready"))
        assert sum(self.queue.raised.values()) == sum(1 for index in self.where("ready") if self.level(index))
        assert self.queue.waiting == len(self.where("waiting"))
        assert self.queue.size == len(self.place) - len(self.where("ended"))
        assert self.queue.leased == sum(map(len, held.values()))
        assert self.queue.doubtful == bool(self.where("doubtful"))
        assert self.queue.empty == (len(self.where("ended")) == len(self.place))

    def teardown(self) -> None:
        if hasattr(self, "queue"):  # whatever happened, nothing is lost
            left = self.where("ready") | self.where("doubtful") | self.where("waiting")
            self.queue.release_doubtful()
            while taken := self.queue.take("last", 99, self.now + 2 * LEASE, level=99):
                left -= set(indexes(taken))
            assert not left


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_an_attempt_that_nobody_has_named_yet() -> None:
    """After a restart, a task whose first attempt was given up may have been begun a second time."""
    queue = Queue([(1, 2)], LEASE, leased_before=2, past={1: Past(attempts=1)})
    assert [queue.may_have_begun(index) for index in (1, 2)] == [2, 1]
    queue.hold("a", {1: 2}, 0.0)
    assert [queue.may_have_begun(index) for index in (1, 2)] == [2, 1]
    queue.release_doubtful()
    assert queue.may_have_begun(2) == 1
