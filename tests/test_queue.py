"""The queue: by examples, then against a model that holds every task one by one."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sheepdog.queue import SUSPECT, Queue

LEASE = 10.0


def expire(queue: Queue, now: float) -> list[str]:
    """Drop the silent workers; return those that held tasks."""
    return [worker for worker in queue.silent(now) if queue.drop(worker)]


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


def test_the_tasks_of_a_worker_that_ended_come_first_as_another_attempt() -> None:
    queue = Queue([(1, 9)], LEASE)
    queue.take("a", 3, 0)
    queue.settle([2])
    assert len(queue.drop("a")) == 2
    assert sorted(queue.take("b", 3, 0)) == [(1, 2), (3, 2), (4, 1)]
    queue.drop("b")
    assert [queue.take("c", 3, 0) for _ in range(3)] == [[(1, 3)], [(3, 3)], [(4, 2), (5, 1), (6, 1)]]
    assert queue.drop("never heard of") == []


def test_what_comes_back_is_taken_in_the_order_of_indices() -> None:
    queue = Queue([(1, 9)], LEASE)
    queue.take("a", 3, 0)
    queue.drop("a")
    assert indexes(queue.take("b", 5, 0)) == [1, 2, 3, 4, 5]


def test_what_a_worker_does_not_name_is_ready_again_as_the_same_attempt() -> None:
    queue = Queue([(1, 3)], LEASE)
    queue.take("a", 3, 0)
    queue.hold("a", {2: 1}, 1)
    assert sorted(queue.take("b", 3, 1)) == [(1, 1), (3, 1)]


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
    queue.renew_all(3 * LEASE)
    assert expire(queue, 4 * LEASE) == []


def test_a_late_worker_gets_its_task_back_if_nobody_else_has_it() -> None:
    queue = Queue([(1, 2)], LEASE)
    queue.take("late", 2, 0)
    expire(queue, LEASE + 1)
    [(other, _)] = queue.take("other", 1, LEASE + 1)
    queue.hold("late", {1: 1, 2: 1}, LEASE + 2)
    assert set(queue.holders["late"].held) == {1, 2} - {other}
    assert set(queue.holders["other"].held) == {other}
    assert queue.ready == 0


def test_an_outcome_counts_whoever_brings_it() -> None:
    queue = Queue([(1, 3)], LEASE)
    queue.take("a", 1, 0)
    queue.settle([1, 2, 2, 1, 99])
    assert queue.holders["a"].held == {}
    assert indexes(queue.take("b", 9, 0)) == [3]


def test_after_a_restart_tasks_once_leased_wait_until_the_workers_are_heard() -> None:
    queue = Queue([(2, 5), (7, 20)], LEASE, leased_before=8)
    assert queue.doubtful
    assert queue.ready == 12  # 9 to 20
    queue.hold("a", {3: 4, 7: 1}, 0)
    queue.settle([4])
    assert indexes(queue.take("b", 2, 0)) == [9, 10]
    queue.release_doubtful()
    assert not queue.doubtful
    assert queue.take("b", 4, 0) == [(2, 1), (5, 1), (8, 1), (11, 1)]
    queue.drop("a")
    assert queue.take("b", 2, 0) == [(3, 5)]  # it has lost so many workers that it goes alone
    assert queue.take("b", 2, 0) == [(7, 2), (12, 1)]


TASKS = st.integers(1, 12)
WORKERS = st.sampled_from("abc")


class QueueMachine(RuleBasedStateMachine):
    """Every task is in one place: ready, doubtful, leased to one worker, or ended."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.place: dict[int, str] = {}  # "ready", "doubtful", "ended" or a worker
        self.attempts: dict[int, int] = {}  # of what is leased
        self.lost: dict[int, int] = {}
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

    def give_back(self, worker: str) -> None:
        for index in self.where(worker):
            self.place[index] = "ready"
            self.lost[index] = self.attempts[index]
        self.heard.pop(worker)

    @rule(worker=WORKERS, want=st.integers(0, 5))
    def take(self, worker: str, want: int) -> None:
        taken = self.queue.take(worker, want, self.now)
        most = min(want, len(self.where("ready")))
        suspects = [index for index, _ in taken if self.lost.get(index, 0) >= SUSPECT]
        assert len(taken) == len(dict(taken)) == 1 if suspects else min(most, 1) <= len(taken) <= most
        if not any(self.lost.get(index, 0) >= SUSPECT for index in self.where("ready")):
            assert len(taken) == most
        for index, attempt in taken:
            assert self.place[index] == "ready"
            assert attempt == self.lost.get(index, 0) + 1
            self.place[index] = worker
            self.attempts[index] = attempt
        self.heard[worker] = self.now

    @rule(worker=WORKERS, named=st.dictionaries(TASKS, st.integers(1, 4)))
    def hold(self, worker: str, named: dict[int, int]) -> None:
        self.queue.hold(worker, named, self.now)
        for index in self.where(worker) - named.keys():
            self.place[index] = "ready"
        for index, attempt in named.items():
            if self.place.get(index) in ("ready", "doubtful"):
                self.place[index] = worker
                self.attempts[index] = attempt
                self.lost[index] = max(self.lost.get(index, 0), attempt - 1)
        self.heard[worker] = self.now

    @rule(ended=st.lists(st.integers(0, 14)))
    def settle(self, ended: list[int]) -> None:
        self.queue.settle(ended)
        for index in self.place.keys() & set(ended):
            self.place[index] = "ended"

    @rule(worker=WORKERS)
    def drop(self, worker: str) -> None:
        assert len(self.queue.drop(worker)) == len(self.where(worker))
        if worker in self.heard:
            self.give_back(worker)

    @rule(seconds=st.floats(0, 2 * LEASE))
    def expire(self, seconds: float) -> None:
        self.now += seconds
        silent = [worker for worker, heard in self.heard.items() if self.now - heard > LEASE]
        assert sorted(expire(self.queue, self.now)) == sorted(worker for worker in silent if self.where(worker))
        for worker in silent:
            self.give_back(worker)

    @rule()
    def renew_all(self) -> None:
        self.queue.renew_all(self.now)
        self.heard = dict.fromkeys(self.heard, self.now)

    @rule()
    def release_doubtful(self) -> None:
        self.queue.release_doubtful()
        for index in self.where("doubtful"):
            self.place[index] = "ready"

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "queue"):
            return
        held = {worker: set(holder.held) for worker, holder in self.queue.holders.items()}
        assert held == {worker: self.where(worker) for worker in self.heard}
        assert self.queue.ready == len(self.where("ready"))
        assert self.queue.leased == sum(map(len, held.values()))
        assert self.queue.doubtful == bool(self.where("doubtful"))
        assert self.queue.empty == (len(self.where("ended")) == len(self.place))

    def teardown(self) -> None:
        if hasattr(self, "queue"):  # whatever happened, nothing is lost
            left = {index for index, place in self.place.items() if place in ("ready", "doubtful")}
            self.queue.release_doubtful()
            while taken := self.queue.take("last", 99, self.now):
                left -= set(indexes(taken))
            assert not left


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
