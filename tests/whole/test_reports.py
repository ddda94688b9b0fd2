"""What tasks say while they run: reports and checkpoints, from the service to whoever fetches them."""

import io
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sheepdog
from sheepdog.client import CHECKPOINT, IN_MEMORY, REPORT, Message, dump
from sheepdog.errors import StorageError, UntrustedResult
from sheepdog.server.decide import clock, outcomes
from sheepdog.server.decide.outcomes import LASTING, collect
from sheepdog.server.decide.policy import MAX_INTERRUPTIONS
from sheepdog.server.decide.service import Service
from sheepdog.storage import Storage
from sheepdog.values.model import Kind, RequestState, StoredBlob
from tests.faults import fault
from tests.local import DB, workers_of
from tests.server.decide.farm import LARGE, LEASE, Farm, gone_after_work, submit_again
from tests.waiting import until


def report(task: int, value: Any, number: int = 1, attempt: int = 1) -> Message:
    return Message(task, attempt, REPORT, number, value)


def checkpoint(task: int, value: Any, attempt: int = 1, number: int = 1) -> Message:
    return Message(task, attempt, CHECKPOINT, number, value)


def lease(farm: Farm, worker: str, want: int = 1) -> tuple[list[list[int]], dict[int, Any]]:
    """Have a worker take tasks. Return these, (index, attempt), and the checkpoints that come along."""
    reply = farm.exchange(worker, want)
    tasks = reply.header["tasks"]
    again = reply.header.get("checkpoints", [])
    assert len(reply.blobs) == len(tasks) + len(again)
    assert reply.blobs[: len(tasks)] == [b"args %d" % index for index, _ in tasks]
    return tasks, dict(zip(again, reply.blobs[len(tasks) :], strict=True))


def lose(farm: Farm, worker: str) -> None:
    """Let a worker be lost."""
    outcomes.lose(farm.service, farm.live, worker, "so")
    farm.now += 60


# The service


def test_reports_are_stored_in_the_order_in_which_they_come(farm: Farm) -> None:
    farm.exchange("w1", 2)
    farm.exchange("w1", 0, holding=[1, 2], messages=[report(1, b"a"), report(2, b"b")])
    farm.exchange("w1", 0, {2: b"r"}, holding=[1], messages=[report(1, b"c", 2), report(2, b"d", 2)])
    assert farm.reports == [(1, 1, b"a"), (2, 1, b"b"), (1, 1, b"c"), (2, 1, b"d")]


@fault((2, 12), "reports that are said twice, for the reply was lost", promise="each is stored once")
def test_a_report_that_is_repeated_is_stored_once(farm: Farm) -> None:
    farm.exchange("w1", 1)
    said = [report(1, b"a"), report(1, b"b", 2)]
    farm.exchange("w1", 0, holding=[1], messages=said)
    farm.restart()  # the server died between the commit and the reply
    farm.exchange("w1", 0, holding=[1], messages=[*said, report(1, b"c", 3)])
    farm.exchange("w1", 0, {1: b"r"}, messages=[report(1, b"d", 4)])
    farm.exchange("w1", 0, {1: b"r"}, messages=[report(1, b"d", 4)])
    assert farm.reports == [(1, 1, value) for value in (b"a", b"b", b"c", b"d")]


@fault(5, "the worker of a task with a checkpoint is lost", promise="the next attempt gets the latest checkpoint")
def test_a_checkpoint_goes_to_the_next_attempt(farm: Farm) -> None:
    assert lease(farm, "w1") == ([[1, 1]], {})
    farm.exchange("w1", 0, holding=[1], messages=[checkpoint(1, b"old"), checkpoint(1, b"new", number=2)])
    farm.now += LEASE + 1
    clock.tick(farm.service)
    assert lease(farm, "w2") == ([[1, 2]], {1: b"new"})
    farm.exchange("w2", 0, holding={1: 2}, messages=[checkpoint(1, b"newer", 2)])
    farm.restart()
    farm.exchange("w2", 0, holding={1: 2})
    lose(farm, "w2")
    assert lease(farm, "w3") == ([[1, 3]], {1: b"newer"})


def test_a_task_that_fails_and_may_run_again_goes_on_from_its_checkpoint(storage: Storage) -> None:
    farm = Farm(storage, [b"args 1"], retries=1, retry_delay=0.0)
    farm.exchange("w1", 1)
    farm.exchange("w1", 0, {1: b"error"}, kind=Kind.RAISED, messages=[checkpoint(1, b"so far")])
    assert lease(farm, "w1") == ([[1, 2]], {1: b"so far"})


def test_a_task_that_gets_on_may_be_interrupted_without_end(storage: Storage) -> None:
    """But not one whose checkpoint stays the same; and a server that takes over counts as the one before."""
    farm = Farm(storage, [b"args 1", b"args 2"])
    for attempt in range(1, 3 * MAX_INTERRUPTIONS):
        assert lease(farm, "w1")[0] == [[1, attempt]]
        if attempt % MAX_INTERRUPTIONS == 0:
            farm.exchange("w1", 0, holding={1: attempt}, messages=[checkpoint(1, b"further", attempt)])
        farm.exchange("w1", 0, {1: b"s_rt is over"}, kind=Kind.INTERRUPTED, attempt=attempt)
        another = Service(storage, lambda: farm.now).find(farm.request)
        assert another is not None
        assert another.queue.past[1] == farm.live.queue.past[1]
    assert farm.errors == []
    last = 3 * MAX_INTERRUPTIONS
    assert lease(farm, "w1")[0] == [[1, last]]
    farm.exchange("w1", 0, {1: b"s_rt is over"}, kind=Kind.INTERRUPTED, attempt=last)
    assert farm.errors == ["s_rt is over"]


def test_workers_that_brought_a_task_on_were_worth_their_submission(farm: Farm) -> None:
    farm.take("w1", 1)
    gone_after_work(farm)
    assert submit_again(farm)
    assert farm.live.tries.fruitless == 1
    [[task, attempt]], _ = lease(farm, "w3")
    farm.now += LASTING + 1
    farm.exchange("w3", 0, holding={task: attempt}, messages=[report(task, b"busy", 1, attempt)])
    assert farm.live.tries.fruitless == 1
    farm.exchange("w3", 0, holding={task: attempt}, messages=[checkpoint(task, b"further", attempt, 2)])
    assert farm.live.tries.fruitless == 0


@fault(
    4,
    "a worker that was believed lost says something about a task that another has by now",
    promise="the reports and the checkpoint of the other stay alone",
)
def test_what_a_superseded_attempt_says_is_dropped(farm: Farm) -> None:
    farm.exchange("w1", 1)
    farm.exchange("w1", 0, holding=[1], messages=[report(1, b"a"), checkpoint(1, b"one", number=2)])
    lose(farm, "w1")
    assert lease(farm, "w2") == ([[1, 2]], {1: b"one"})
    farm.exchange("w2", 0, holding={1: 2}, messages=[checkpoint(1, b"two", 2)])
    farm.exchange("w1", 0, holding={1: 1}, messages=[report(1, b"late", 3), checkpoint(1, b"late", number=4)])
    farm.exchange("w3", 0, messages=[report(1, b"meddling", 9, 2), checkpoint(1, b"meddling", 2, 10)])
    assert farm.reports == [(1, 1, b"a")]
    lose(farm, "w2")
    assert lease(farm, "w4") == ([[1, 3]], {1: b"two"})


@fault(
    20,
    "a worker is cut off for longer than its lease, and reports meanwhile",
    promise="nothing of it is lost, if no other has begun the task",
)
def test_what_the_latest_attempt_says_counts_though_its_worker_was_believed_lost(farm: Farm) -> None:
    farm.exchange("w1", 1)
    lose(farm, "w1")
    farm.exchange("w1", 0, holding=[1], messages=[report(1, b"a"), checkpoint(1, b"c", number=2)])
    lose(farm, "w1")
    farm.exchange("w1", 0, {1: b"r"}, messages=[report(1, b"b", 3)])  # it has ended meanwhile
    assert farm.reports == [(1, 1, b"a"), (1, 1, b"b")]
    assert farm.storage.count_results(farm.request) == 1


def test_after_a_result_nothing_more_is_taken_and_the_checkpoint_is_gone(farm: Farm) -> None:
    farm.exchange("w1", 2)
    said = [checkpoint(1, b"c"), checkpoint(2, b"c")]
    farm.exchange("w1", 0, {1: b"r"}, holding=[2], messages=said)
    farm.exchange("w1", 0, holding=[2], messages=[checkpoint(1, b"late"), report(1, b"late", 2)])
    assert farm.reports == []
    assert farm.storage.read_checkpoints(farm.request, [1, 2], 100) == ({2: b"c"}, set())


def test_a_retry_hands_on_what_a_failed_or_cancelled_task_had(storage: Storage) -> None:
    farm = Farm(storage, [b"args 1", b"args 2", b"args 3"], fail_fast=0)
    farm.exchange("w1", 1), farm.exchange("w2", 1), farm.exchange("w3", 1)
    farm.exchange("w1", 0, {1: b"error"}, kind=Kind.RAISED, messages=[checkpoint(1, b"one"), report(1, b"r", 2)])
    farm.exchange("w2", 0, holding=[2], messages=[checkpoint(2, b"two")])
    farm.exchange("w3", 0, {3: b"r"}, messages=[checkpoint(3, b"three")])
    storage.end_pending(farm.request, Kind.CANCELLED, "cancelled")
    assert storage.retry(farm.request, storage.get_request(farm.request).options, failed=True) == 2
    farm.submit(2)
    farm.restart()
    assert lease(farm, "w4") == ([[1, 2]], {1: b"one"})
    assert lease(farm, "w5") == ([[2, 2]], {2: b"two"})
    assert farm.reports == [(1, 1, b"r")]


def test_large_checkpoints_do_not_come_many_at_a_time(storage: Storage) -> None:
    farm = Farm(storage, [b"args %d" % index for index in range(1, 5)], fail_fast=0)
    for index in range(1, 5):
        assert farm.take(f"w{index}", 1) == [index]
    value = {1: b"x" * (IN_MEMORY // 2), 2: b"y" * (IN_MEMORY // 2 + 1), 3: io.BytesIO(b"z" * LARGE)}
    for index in range(1, 5):
        said = [checkpoint(index, value[index])] if index in value else []
        farm.exchange(f"w{index}", 0, holding=[index], messages=said)
        lose(farm, f"w{index}")
    found: dict[int, Any] = {}
    for number in range(10, 14):
        tasks, checkpoints = lease(farm, f"w{number}", 4)
        assert len(checkpoints) <= 1
        found |= {index: checkpoints.get(index) for index, _ in tasks}
    assert found.keys() == {1, 2, 3, 4}
    assert (found[1], found[2], found[4]) == (value[1], value[2], None)
    assert isinstance(found[3], StoredBlob)
    assert b"".join(storage.chunks(found[3])) == b"z" * LARGE


BAD = [
    [[1, 1, REPORT]],
    [[1, 1, REPORT, 0]],
    [[1, 1, REPORT, 1 << 62]],
    [[1, 1, REPORT, True]],
    [[1, 0, REPORT, 1]],
    [["1", 1, REPORT, 1]],
    [[1, 1, Kind.RESULT, 1]],
    [[1, 1, None, 1]],
    [[11, 1, REPORT, 1]],
    [[0, 1, CHECKPOINT, 1]],
    [[1, 1, REPORT, 1]] * 2,
    [],
    7,
]


@pytest.mark.parametrize("said", BAD)
def test_what_is_no_message_is_refused_and_nothing_of_the_call_is_stored(farm: Farm, said: Any) -> None:
    farm.exchange("w1", 1)
    header = {"worker": "w1", "call": 9, "want": 0, "holding": [], "outcomes": [[1, 1, 0, 0.5]], "messages": said}
    assert farm.call("exchange", header, [b"r", b"", b"value"]).status == 400
    assert farm.storage.count_results(farm.request) == 0
    assert farm.reports == []


def test_messages_in_a_spool_are_collected(farm: Farm) -> None:
    from sheepdog.server.calls import Call

    farm.exchange("w1", 2)
    header = {"worker": "w1", "call": 9, "want": 0, "holding": [], "outcomes": [[1, 1, 0, 0.5]]}
    header["messages"] = [[1, 1, REPORT, 1], [2, 1, CHECKPOINT, 2], [99, 1, REPORT, 3]]
    collect(farm.service, Call(farm.request, "exchange", header, [b"result", b"", b"a", b"b", b"c"]))
    assert farm.reports == [(1, 1, b"a")]
    lose(farm, "w1")
    assert lease(farm, "w2") == ([[2, 2]], {2: b"b"})


# The road, on this machine


@pytest.fixture
def place(place: Path) -> Iterator[Path]:
    """Workers that end, as their requests are cancelled; then the server is stopped."""
    yield place
    for request_id in (1, 2):
        with Storage(DB) as storage:
            if request_id in storage.requests(*RequestState):
                sheepdog.cancel(request_id, DB)
    until(lambda: not workers_of(place), "the workers have ended")


def simulate(steps: int, gate: str, controller: Any = None) -> Any:
    """Count to steps; wait there for a file before the last one."""
    import os
    import time

    begun, state = controller.restored((0, 0))
    for step in range(begun, steps):
        state += step
        controller.report((controller.attempt, step))
        controller.checkpoint((step + 1, state))
        while step == steps - 2 and not os.path.exists(gate):
            time.sleep(0.005)
    return begun, state, controller.attempt


@fault(
    5,
    "a worker is killed with -9 while a task runs that leaves checkpoints",
    promise="the next attempt goes on from there",
)
def test_a_task_goes_on_from_its_checkpoint_after_its_worker_was_killed(place: Path) -> None:
    steps = 50
    request_id = sheepdog.map_async(
        simulate, [(steps, str(place / "gate"))], {"workers": 1, "lease": 3, "poll_interval": 1}
    )

    def last() -> bool:
        return [value for _, value in sheepdog.get_reports(request_id, DB)][-1:] == [(1, steps - 2)]

    until(last, "the first attempt has come to the gate", timeout=60)
    with Storage(DB) as storage:  # the checkpoint may come a moment later
        until(lambda: storage.db.execute("SELECT 1 FROM checkpoint").fetchone(), "its checkpoint is stored")
    for pid in workers_of(place):
        os.kill(pid, signal.SIGKILL)
    (place / "gate").touch()
    [(args, (begun, state, attempt))] = sheepdog.get_results(request_id, DB)
    assert args == (steps, str(place / "gate"))
    assert (begun, state, attempt) == (steps - 1, sum(range(steps)), 2)
    said = [value for _, value in sheepdog.get_reports(request_id, DB)]
    assert said == [*((1, step) for step in range(steps - 1)), (2, steps - 1)]
    with Storage(DB) as storage:
        assert storage.db.execute("SELECT count(*) FROM checkpoint").fetchone() == (0,)


@fault(1, "the server is killed with -9 while tasks report", promise="each report is there once")
def test_no_report_is_lost_with_the_server(place: Path) -> None:
    def count(n: int, controller: Any) -> int:
        import time

        for i in range(n):
            controller.report(i)
            time.sleep(0.002)
        return n

    request_id = sheepdog.map_async(count, [(1000,), (1000,)], {"workers": 2})
    for number in range(1, 4):
        until(lambda number=number: len(sheepdog.get_reports(request_id, DB)) > number * 300, "reports come")  # type: ignore[misc]
        server = sheepdog.Server(dbfile=DB)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        until(lambda server=server: not server.running, "it is dead")  # type: ignore[misc]
        server.start()
    assert sheepdog.get_results(request_id, DB) == [((1000,), 1000)] * 2
    with Storage(DB) as storage:
        for task in (1, 2):
            assert [each.value for each in storage.reports(request_id, task)] == [dump(i) for i in range(1000)]


def test_reports_are_seen_as_they_come(place: Path) -> None:
    def ask(x: int, controller: Any) -> int:
        import os
        import time

        for i in range(3):
            controller.report(x + i)
            while not os.path.exists(f"seen {x + i}"):
                time.sleep(0.002)
        return x

    request_id = sheepdog.map_async(ask, [(10,)], {"workers": 1})
    seen = []
    for args, value in sheepdog.follow_reports(request_id, DB):
        seen.append((args, value))
        (place / f"seen {value}").touch()
    assert seen == [((10,), 10), ((10,), 11), ((10,), 12)] == sheepdog.get_reports(request_id, DB)
    assert sheepdog.get_results(request_id, DB, block=False) == [((10,), 10)]


def test_a_failed_task_that_is_run_again_goes_on_from_its_checkpoint(place: Path) -> None:
    def fail_once(controller: Any) -> Any:
        before = controller.restored()
        controller.checkpoint("halfway")
        if before is None:
            raise ValueError("no")
        return before, controller.attempt, controller.restored()

    assert sheepdog.map(fail_once, [()], verbose=False) == [None]
    assert sheepdog.retry(1, DB) == 1
    assert sheepdog.get_results(1, DB) == [((), ("halfway", 2, "halfway"))]


class Point:
    """No plain data."""


def test_reports_that_are_more_than_plain_data_are_loaded_only_if_trusted(place: Path) -> None:
    def say(x: Any, controller: Any) -> None:
        controller.report(x)

    sheepdog.map(say, [([1, "a"],), (Point(),)], {"workers": 1, "trusted": False})
    with pytest.raises(UntrustedResult):
        sheepdog.get_reports(1, DB)
    reports = sheepdog.follow_reports(1, DB)
    assert next(reports) == (([1, "a"],), [1, "a"])
    with pytest.raises(UntrustedResult):
        next(reports)
    assert isinstance(sheepdog.get_reports(1, DB, trusted=True)[1][1], Point)


def test_a_report_that_cannot_be_loaded_here_withholds_no_other(place: Path) -> None:
    def say(controller: Any) -> None:
        import types

        module = sys.modules["only_there"] = types.ModuleType("only_there")
        module.Thing = type("Thing", (), {"__module__": "only_there"})  # type: ignore[attr-defined]
        controller.report(module.Thing())
        controller.report(2)

    sheepdog.map(say, [()])
    [(_, first), (_, second)] = sheepdog.get_reports(1, DB)
    assert re.match("<the report cannot be loaded here: ModuleNotFoundError", first)
    assert second == 2


def test_a_call_of_the_executor_gets_one_too(place: Path) -> None:
    def say(x: int, controller: Any) -> tuple[int, int]:
        controller.report(x)
        return x, controller.id

    with sheepdog.Executor({"workers": 1}) as executor:
        assert executor.submit(say, 7).result(60) == (7, 1)
        assert executor.submit(say, 8).result(60) == (8, 2)
        request_id = executor.request_id
    assert request_id is not None
    assert [value for _, value in sheepdog.get_reports(request_id, DB)] == [7, 8]


def test_what_is_not_there(place: Path) -> None:
    with pytest.raises(StorageError, match="there is no database"):
        sheepdog.get_reports(1, "nowhere")
    Storage(DB).initdb()
    for get in (sheepdog.get_reports, sheepdog.follow_reports):
        with pytest.raises(ValueError, match="there is no request 1"):
            list(get(1, DB))
