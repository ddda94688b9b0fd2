"""When a host is held back or set aside, and what follows for its workers, its tasks and later submissions."""

from collections.abc import Container, Iterable
from typing import Any

import pytest

from sheepdog.client import describe_python
from sheepdog.server.decide import arrays, clock
from sheepdog.server.decide.hosts import (
    ALONE,
    COMMON,
    ELSEWHERE,
    ENOUGH,
    LONGEST,
    MANY,
    MANY_SHUNNED,
    MOST,
    PAUSE,
    Change,
    Hosts,
)
from sheepdog.storage import Storage
from sheepdog.values.facts import What
from sheepdog.values.model import ArrayJob, End, Fate, JobStatus, Kind
from tests.faults import fault
from tests.server.decide.farm import LEASE, Farm
from tests.server.decide.lives import says

NO_MODULE = b"""ModuleNotFoundError: No module named 'wool'
Traceback (most recent call last):
  File "sim.py", line 3, in shear
ModuleNotFoundError: No module named 'wool'
"""


def make(*names: str, several: bool = True) -> Hosts:
    hosts = Hosts(several)
    for name in names:
        hosts.greet(name)
    return hosts


def fail(hosts: Hosts, host: str, times: int = 1, like: str = "no wool", now: float = 0.0) -> Change | None:
    found = [hosts.note(host, 0, [like], now) for _ in range(times)]
    return next(filter(None, found), None)


def bound(
    hosts: Hosts, host: str = "bad", own: int = 0, held: int = 0, now: float = 0.0, more: bool = False, here: str = ""
) -> int:
    return hosts.bound(host, own, held, here.split() or [*hosts.seen], more, now)


# How many tasks a host gets: what has happened on "bad", what on "good" -> the bound


@pytest.mark.parametrize(
    ("bad", "good", "expected"),
    [
        (0, 0, MANY),
        (1, 0, 1),  # wary
        (ENOUGH - 1, 0, 1),
        (ENOUGH, 0, 0),  # held back
        (ENOUGH, 10, 0),  # set aside
        (ENOUGH, -1, 0),  # another fails less often
        (ENOUGH, -ENOUGH, MANY),  # the function's fault
        (3 * ENOUGH, -ENOUGH, MANY),
    ],
)
def test_the_bound(bad: int, good: int, expected: int) -> None:
    """A negative number counts failures."""
    hosts = make("bad", "good")
    fail(hosts, "bad", bad)
    fail(hosts, "good", max(0, -good))
    hosts.note("good", max(0, good), (), 1.0)
    hosts.take("bad", 0.0)
    assert bound(hosts) == expected


def test_when_only_tasks_that_fail_are_left_no_host_waits_for_another() -> None:
    """Each has seen the other do well since its own first failure; now both fail."""
    hosts = make("bad", "good")
    for now in range(2 * ENOUGH):
        fail(hosts, "bad", now=float(now))
        if now < 2:
            hosts.note("good", 1, (), float(now))
    hosts.note("good", 1, (), 20.0)
    fail(hosts, "good", ENOUGH, "wolf", now=21.0)
    hosts.take("bad", 22.0)
    assert bound(hosts, now=23.0) == MANY


def test_one_that_has_proved_nothing_gets_no_second_task_in_advance() -> None:
    hosts = make("bad", "good")
    assert (bound(hosts), bound(hosts, own=1)) == (MANY, 0)
    hosts.note("bad", 1, (), 0.0)
    assert bound(hosts, own=1) == MANY


def test_one_that_is_wary_has_one_task_in_all() -> None:
    hosts = make("bad", "good")
    fail(hosts, "bad")
    assert (bound(hosts), bound(hosts, held=1), bound(hosts, held=3)) == (1, 0, 0)


def test_one_that_has_done_well_may_fail_a_few_times() -> None:
    hosts = make("bad", "good")
    hosts.note("bad", 1, (), 0.0)
    fail(hosts, "bad", ENOUGH - 1)
    assert bound(hosts, own=3, held=30) == MANY
    fail(hosts, "bad")
    assert bound(hosts, held=1) == 0


def test_errors_that_are_not_alike_are_nobody_s_fault() -> None:
    hosts = make("bad", "good")
    hosts.note("good", 100, (), 1.0)
    for number in range(10 * ENOUGH):
        assert fail(hosts, "bad", like=f"KeyError: {number}") is None
    assert not hosts.seen["bad"].aside


def test_one_machine_alone_is_never_set_aside() -> None:
    hosts = make("bad", several=False)
    fail(hosts, "bad", 10 * ENOUGH)
    assert bound(hosts, own=3) == MANY
    hosts.bury("bad", "exit status 1")
    assert not hosts.to_avoid()
    assert not hosts.better_elsewhere()


def test_while_it_is_alone_it_waits_a_while_for_others() -> None:
    hosts = make("bad")
    fail(hosts, "bad", ENOUGH)
    hosts.take("bad", 0.0)
    assert [bound(hosts, more=True, now=now) for now in (0.0, ALONE - 1, ALONE)] == [0, 0, MANY]
    assert bound(hosts, more=False) == MANY


# Set aside


def test_it_is_said_once() -> None:
    hosts = make("bad", "good")
    hosts.note("good", 10, (), 0.0)
    change = fail(hosts, "bad", 3 * ENOUGH)
    assert change is not None
    assert (change.host, change.aside) == ("bad", True)
    assert change.text.startswith(
        f"the last {ENOUGH} tasks on bad failed alike, while others do well elsewhere: no wool"
    )
    assert fail(hosts, "bad", ENOUGH) is None


@pytest.mark.parametrize(
    ("rows", "good", "bad", "aside"),
    [
        (ENOUGH, 1, 0, False),  # that may be chance
        (ENOUGH, 2, 0, True),
        (ENOUGH, 100, 20, True),
        (ENOUGH, 100, 50, False),  # a third of all tasks fail so
        (10, 100, 50, True),
    ],
)
def test_it_must_be_unlikely_that_this_is_chance(rows: int, good: int, bad: int, aside: bool) -> None:
    hosts = make("bad", "good")
    fail(hosts, "good", bad)
    hosts.note("good", good, (), 0.0)
    fail(hosts, "bad", rows)
    assert bool(hosts.seen["bad"].aside) is aside


def test_what_others_did_before_is_no_proof() -> None:
    """Later tasks may all be faulty."""
    hosts = make("bad", "good")
    for host in ("bad", "good"):
        hosts.note(host, 1000, (), 0.0)
    fail(hosts, "bad", ENOUGH, now=1.0)
    assert not hosts.seen["bad"].aside
    assert bound(hosts, now=1.0) == 1
    fail(hosts, "good", ENOUGH, now=1.0)
    assert bound(hosts, now=1.0) == bound(hosts, "good", now=1.0) == MANY


def test_of_many_bad_ones_each_is_set_aside() -> None:
    hosts = make("bad", "worse", "good")
    hosts.note("good", 100, (), 0.0)
    fail(hosts, "worse", ENOUGH)
    fail(hosts, "bad", ENOUGH)
    assert hosts.to_avoid() == {"bad", "worse"}


def test_it_is_tried_again_and_ever_more_rarely() -> None:
    hosts = make("bad", "good")
    hosts.note("good", 10, (), 0.0)
    fail(hosts, "bad", ENOUGH)
    now, pauses = 0.0, []
    for _ in range(9):
        hosts.take("bad", now)
        pauses.append(next(pause for pause in range(10_000) if bound(hosts, now=now + pause)))
        assert bound(hosts, held=1, now=now + pauses[-1]) == 0
        now += pauses[-1]
        fail(hosts, "bad", now=now)
    assert pauses == [PAUSE * 2**n for n in range(6)] + [LONGEST] * 3


def test_one_that_is_well_again_gets_tasks_as_before() -> None:
    hosts = make("bad", "good")
    hosts.note("good", 10, (), 0.0)
    fail(hosts, "bad", ENOUGH)
    change = hosts.note("bad", 1, (), 100.0)
    assert change is not None
    assert (change.host, change.aside) == ("bad", False)
    assert bound(hosts, own=3) == MANY
    assert not hosts.to_avoid()


def test_one_that_is_set_aside_does_not_do_all_when_the_others_go() -> None:
    hosts = make("bad", "good")
    hosts.note("good", 10, (), 0.0)
    fail(hosts, "bad", ENOUGH)
    hosts.take("bad", 1.0)
    hosts.seen["good"].latest = -1.0
    assert bound(hosts, now=2.0, here="bad") == 0


def test_one_that_has_done_well_keeps_its_workers_until_it_fails_again() -> None:
    hosts = make("bad", "good")
    hosts.note("bad", 100, (), 0.0)
    fail(hosts, "bad", ENOUGH - 1, now=1.0)
    hosts.note("good", 10, (), 2.0)
    fail(hosts, "bad", now=3.0)
    assert hosts.seen["bad"].aside
    assert not hosts.is_given_up("bad")
    hosts.take("bad", 70.0)
    assert not hosts.is_given_up("bad")
    fail(hosts, "bad", now=71.0)
    assert hosts.is_given_up("bad")


def test_hosts_that_all_fail_somehow_hold_back_none() -> None:
    hosts = make("bad", "good")
    fail(hosts, "bad", ENOUGH)
    fail(hosts, "good", ENOUGH, like="no loom")
    assert bound(hosts) == bound(hosts, "good") == MANY


def test_it_remembers_so_many_kinds_of_errors() -> None:
    hosts = make("bad")
    for number in range(2 * MOST):
        fail(hosts, "bad", like=str(number))
    assert len(hosts.seen["bad"].kinds) == MOST


# Workers that end before they have called


def test_hosts_from_which_none_has_called_are_avoided() -> None:
    hosts = make("good.cluster")
    hosts.bury("good", "exit status 1")
    hosts.bury("", "nobody knows where")
    assert not hosts.better_elsewhere()
    hosts.bury("bad.cluster", "exit status 127")
    assert hosts.to_avoid() == {"bad"}
    assert hosts.better_elsewhere()
    hosts.avoided = hosts.to_avoid()
    assert not hosts.better_elsewhere()  # it was of no use
    hosts.greet("bad")
    hosts.welcome("bad")
    assert not hosts.to_avoid()


def test_if_they_end_so_everywhere_it_is_not_the_hosts() -> None:
    hosts = make()
    for number in range(COMMON):
        hosts.bury(f"node{number}", "exit status 127")
        assert hosts.better_elsewhere() is (number + 1 < COMMON)


# A retry


def test_a_task_that_failed_waits_a_while_for_another_host() -> None:
    hosts = make("bad", "good")
    hosts.shun("bad", 7, 5.0, 0.0)
    hosts.shun("nobody", 7, 5.0, 0.0)
    assert hosts.shunned("bad", ["bad", "good"]) == {7: 5.0 + ELSEWHERE}
    assert hosts.shunned("good", ["bad", "good"]) == {}
    assert hosts.shunned("bad", ["bad"]) == {}
    for task in range(3 * MANY_SHUNNED):
        hosts.shun("bad", task, 1.0, 100.0)
    assert len(hosts.seen["bad"].shunned) < MANY_SHUNNED


def test_a_task_that_failed_everywhere_waits_for_none() -> None:
    hosts = make("bad", "good", "third")
    for host in ("bad", "good"):
        hosts.shun(host, 7, 5.0, 0.0)
    assert hosts.shunned("bad", ["bad", "good", "gone"]) == hosts.shunned("good", ["bad", "good"]) == {}
    assert hosts.shunned("bad", ["bad", "good", "third"]) == {7: 5.0 + ELSEWHERE}


def test_no_task_waits_for_a_host_that_is_held_back() -> None:
    """Else each host waits for the other: one for tasks, one to be tried again."""
    hosts = make("bad", "good")
    hosts.note("good", 1, (), 0.0)
    hosts.shun("bad", 7, 5.0, 1.0)
    fail(hosts, "good", ENOUGH, now=2.0)
    assert bound(hosts, "good", held=1) == 0
    assert hosts.shunned("bad", ["bad", "good"]) == {}


# Through the service


def cluster(storage: Storage, tasks: int, workers: int = 8, **options: Any) -> Farm:
    farm = Farm(storage, [b""] * tasks, workers=workers, scheduler="gridengine", **options)
    farm.heed(says(*range(1, workers + 1)))
    return farm


def run_all(farm: Farm, bad: Iterable[str], seconds: float = 1.0, fail: Container[int] = ()) -> int:
    """Let four workers on each of two nodes run all tasks. On bad nodes, and if they are to fail, they fail at once.

    Return how many calls it took.
    """
    bad = [*bad]
    hosts = {f"w{number}": f"node{(number > 4) + 1}" for number in range(1, 9)}
    held: dict[str, dict[int, int]] = {worker: {} for worker in hosts}
    wants = dict.fromkeys(hosts, 1)
    for calls in range(1, 3000):
        for worker, host in hosts.items():
            ended = {task: NO_MODULE if host in bad or task in fail else b"wool" for task in held[worker]}
            kinds = {(held[worker][task], value) for task, value in ended.items()} or {(1, b"")}
            for attempt, value in kinds:  # a call brings outcomes of one kind and attempt
                those = {task: value for task, its in held[worker].items() if (its, ended[task]) == (attempt, value)}
                rest = {task: its for task, its in held[worker].items() if task not in those}
                held[worker], kind = rest, Kind.RAISED if value == NO_MODULE else Kind.RESULT
                last = not rest
                reply = farm.exchange(
                    worker, wants[worker] if last else 0, those, rest, kind, attempt, host=host, element=worker[1:]
                )
                if reply.status != 200:
                    return calls
            if reply.header.get("stop"):
                if farm.request not in farm.service.live:
                    return calls
                held[worker] = {}
                continue
            held[worker] = dict(reply.header["tasks"])
            wants[worker] = min(500, wants[worker] * (20 if NO_MODULE in ended.values() else 2))
        farm.now += seconds
        clock.tick(farm.service)
    raise AssertionError(farm.storage.progress(farm.request))


@fault(
    "bad node", "a module is missing on one of two nodes", promise="about five tasks fail; it is set aside, and said"
)
def test_a_module_is_missing_on_one_node(storage: Storage) -> None:
    farm = cluster(storage, 200)
    run_all(farm, ["node1"], 0.01)
    progress = farm.storage.progress(farm.request)
    assert progress.done + progress.failed == 200
    assert progress.failed <= ENOUGH + 3  # each of its workers has begun with one
    events = [event for event in farm.storage.events(farm.request) if event.what == What.SET_ASIDE]
    assert len(events) == 1
    assert "node1 failed alike, while others do well elsewhere: ModuleNotFoundError" in events[0].text


@fault("bad node", "... and tasks have retries", promise="each has its result from the other node")
def test_retries_go_elsewhere(storage: Storage) -> None:
    farm = cluster(storage, 200, retries=3)
    run_all(farm, ["node1"], 0.1)
    assert (farm.storage.progress(farm.request).done, farm.errors) == (200, [])


@fault("bad node", "as many workers as fail_fast takes begin on the bad node", promise="the others may show better")
def test_the_first_tasks_all_fail_on_one_node(storage: Storage) -> None:
    farm = cluster(storage, 200, workers=41)
    for number in range(40):
        assert farm.exchange(f"w{number}", 1, host="node1", element=str(number)).header["tasks"]
    for number in range(40):
        farm.exchange(f"w{number}", 1, {number + 1: NO_MODULE}, kind=Kind.RAISED, host="node1", element=str(number))
    assert farm.storage.progress(farm.request).failed == 40
    [[task, _]] = farm.exchange("good", 1, host="node2", element="41").header["tasks"]
    farm.exchange("good", 0, {task: b""}, host="node2", element="41")
    assert farm.live.breaker.limit == 0


def test_if_no_other_comes_the_rest_is_not_run(storage: Storage) -> None:
    farm = cluster(storage, 200, workers=41)
    for number in range(20):
        farm.exchange(f"w{number}", 1, host="node1", element=str(number))
    for number in range(20):
        farm.exchange(f"w{number}", 0, {number + 1: NO_MODULE}, kind=Kind.RAISED, host="node1", element=str(number))
    assert farm.storage.progress(farm.request).failed == 20
    farm.now += ALONE + 1
    farm.exchange("w0", 1, host="node1", element="0")
    farm.exchange("w0", 0, {21: NO_MODULE}, kind=Kind.RAISED, host="node1", element="0")
    assert farm.storage.progress(farm.request).failed == 200


@pytest.mark.parametrize("tasks", [50, 200])
def test_a_function_that_fails_everywhere_fails_as_ever(storage: Storage, tasks: int) -> None:
    farm = cluster(storage, tasks)
    calls = run_all(farm, ["node1", "node2"], 0.01)
    assert farm.storage.progress(farm.request).failed == tasks
    assert calls < 40


def test_tasks_that_fail_again_tell_nothing_of_their_hosts(storage: Storage) -> None:
    """At the end only those are left."""
    farm = cluster(storage, 400, retries=5)
    run_all(farm, [], 1.0, fail=range(10, 400, 10))
    progress = farm.storage.progress(farm.request)
    assert (progress.done, progress.failed) == (361, 39)
    assert not [event for event in farm.storage.events(farm.request) if event.what == What.SET_ASIDE]


def test_all_does_well(storage: Storage) -> None:
    farm = cluster(storage, 2000)
    run_all(farm, [], 0.01)
    assert farm.storage.progress(farm.request).done == 2000


def set_aside(farm: Farm) -> None:
    for worker, host in (("w1", "node1"), ("w2", "node1"), ("w3", "node2")):
        farm.exchange(worker, 0, host=host, element=worker[1:])
    [[task, _]] = farm.exchange("w3", 1, host="node2", element="3").header["tasks"]
    for number in range(ENOUGH):
        [[bad, _]] = farm.exchange("w1", 1, host="node1", element="1").header["tasks"]
        [[other, _]] = farm.exchange("w3", 1, {task: b""}, host="node2", element="3").header["tasks"]
        task = other
        farm.exchange("w1", 0, {bad: NO_MODULE}, kind=Kind.RAISED, host="node1", element="1")
        farm.now += 0.1 * (number + 1)
    farm.exchange("w3", 0, {task: b""}, host="node2", element="3")
    farm.now += 0.1


def test_its_workers_end_but_for_one_and_others_are_submitted_elsewhere(storage: Storage) -> None:
    farm = cluster(storage, 100, workers=3)
    set_aside(farm)
    if not farm.live.hosts.seen["node1"].aside:
        farm.exchange("w1", 1, host="node1", element="1")
    assert farm.live.hosts.seen["node1"].aside
    assert "node1 failed alike" in farm.note
    assert farm.exchange("w2", 1, host="node1", element="2").header.get("stop")
    reply = farm.exchange("w1", 1, host="node1", element="1").header
    assert "stop" not in reply
    farm.heed(says(1, 3))
    [wanted] = clock.wanted(farm.service)
    assert wanted.avoid == ("node1",)
    assert "elsewhere than on node1" in farm.note


@fault("bad node", "the server is restarted", promise="what is known of the hosts is known from their outcomes")
def test_what_is_known_of_hosts_outlives_the_server(storage: Storage) -> None:
    farm = cluster(storage, 100, workers=3, retries=1)
    set_aside(farm)
    before = farm.live.hosts.seen
    farm.restart()
    seen = farm.live.hosts.seen
    assert {host: (each.good, each.row, each.like, each.kinds) for host, each in seen.items()} == {
        host: (each.good, each.row, each.like, each.kinds) for host, each in before.items()
    }
    assert farm.live.hosts.is_suspect("node1")
    assert not farm.live.hosts.is_suspect("node2")
    for worker, host in (("w3", "node2"), ("w1", "node1")):
        farm.exchange(worker, 1, host=host, element=worker[1:])
    assert farm.live.hosts.seen["node1"].aside


@fault("bad node", "Python is missing on one node", promise="workers are submitted elsewhere before the request ends")
def test_workers_that_never_called_are_submitted_elsewhere(storage: Storage) -> None:
    farm = Farm(storage, [b""] * 10, scheduler="slurm")
    ends = tuple(End("FAILED, exit status 127", Fate.OTHER, name, "node1") for name in "12")
    farm.heed(JobStatus(reason="2 workers ended with FAILED, exit status 127", started=True, ends=ends), times=2)
    assert farm.errors == []
    [wanted] = clock.wanted(farm.service)
    assert (wanted.workers, wanted.avoid, wanted.joined) == (2, ("node1",), False)
    assert "2 workers are submitted again (1 of 3 times in a row), elsewhere than on node1" in farm.note
    clock.tick(farm.service)
    array = arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d", 2))
    arrays.not_submitted(farm.service, farm.request, array.number, "there are no other hosts", True)
    clock.tick(farm.service)
    assert farm.errors[0].startswith(
        "not run: the array job 12 has ended before its tasks: 2 workers ended with FAILED"
    )


def test_elements_that_fell_while_others_go_on_are_looked_into_once(storage: Storage) -> None:
    farm = cluster(storage, 100, workers=4)
    farm.exchange("w1", 1)
    farm.heed(says(1, pending=1))
    [array] = clock.fallen(farm.service, farm.request)
    clock.look_at_ends(farm.service, farm.request, array.number, [End("exit status 127", Fate.OTHER, "2", "node9")])
    assert farm.live.hosts.to_avoid() == {"node9"}
    assert clock.fallen(farm.service, farm.request) == []
    farm.heed(says(1))
    assert len(clock.fallen(farm.service, farm.request)) == 1


def test_a_call_that_raises_makes_an_executor_no_slower(storage: Storage) -> None:
    """A worker that waits for the next call is told of it at once, as before."""
    farm = Farm(storage, [b""], open=True, scheduler="gridengine")
    for worker in ("w1", "w2"):
        farm.join(worker, host=f"node{worker[1:]}")
    assert farm.take("w1", 1) == [1]
    reply = farm.exchange("w1", 1, {1: NO_MODULE}, kind=Kind.RAISED, host="node1")
    assert reply.hold > 0


def test_workers_that_are_lost_on_one_host_alone(storage: Storage) -> None:
    """A lease that ends says little, several that end one after the other much."""
    farm = cluster(storage, 100, max_losses=100)
    for number in range(ENOUGH):
        assert not farm.live.hosts.to_avoid()
        assert farm.exchange(f"w1{number}", 1, host="node1", element="1").header["tasks"]
        for _ in range(2):
            farm.now += LEASE / 2 + 1
            [[task, attempt]] = farm.exchange("w2", 1, host="node2", element="2").header["tasks"]
            farm.exchange("w2", 0, {task: b""}, attempt=attempt, host="node2", element="2")
        clock.tick(farm.service)
    farm.exchange("w3", 1, host="node1", element="3")
    assert farm.live.hosts.to_avoid() == {"node1"}


def test_a_python_that_does_not_fit_on_one_node(storage: Storage) -> None:
    farm = cluster(storage, 10, workers=2)
    python = {**describe_python(), "version": "3.6.9", "magic": "other"}
    for worker in ("w1", "w2"):
        assert farm.join(worker, python=python).status == 409
    assert farm.errors == []
    farm.heed(JobStatus(reason="gone", started=True), times=2)
    [wanted] = clock.wanted(farm.service)
    assert wanted.avoid == ("node1",)
    array = arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d", 2))
    arrays.not_submitted(farm.service, farm.request, array.number, "there are no other hosts", True)
    clock.tick(farm.service)
    assert "3.6.9" in farm.errors[0]
