"""When a scheduler is asked, what becomes of its answer, and what workers left behind."""

import json
import logging
import re
import subprocess
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sheepdog.client import RESULT, pack
from sheepdog.errors import HostError, SchedulerError
from sheepdog.server.scheduling import asking
from sheepdog.server.scheduling.asking import RARELY
from sheepdog.server.scheduling.nodes import FIRST, LONGEST
from sheepdog.storage import Storage
from sheepdog.values.model import End, Fate, JobStatus, RequestState
from tests.faults import fault
from tests.schedulers.head import Head
from tests.server.scheduling.fakes import INTERVAL, FakeScheduler, Farm

# When it asks


@fault("polite", "many requests at once", promise="one question to each head node answers for all")
def test_one_question_for_all_requests_of_a_head_node(farm: Farm) -> None:
    fake = farm.put(farm.request("1"), FakeScheduler())
    farm.request("2")
    farm.request("3")
    other = farm.put(farm.request("4", host="another"), FakeScheduler())
    farm.look()
    assert fake.asked == [["1", "2", "3"]]
    assert other.asked == [["4"]]
    assert [watcher.context.questions for watcher in farm.thread.watchers.values()] == [1, 1]


@fault("polite", "many requests at once", promise="one status query at most in an interval, counted in the log")
def test_not_more_often_than_the_interval(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fake = farm.put(farm.request("1"), FakeScheduler())
    for later in (0, 1, INTERVAL - 2, 1 / 2):
        farm.look(later)
    assert len(fake.asked) == 1
    farm.request("2")
    farm.look(1)
    assert fake.asked == [["1"], ["1", "2"]]
    assert "status query 2, for 2 requests on" in caplog.text


@fault("polite", "two servers of one user watch one head node", promise="one status query at most in an interval")
def test_two_servers_take_turns(tmp_path: Path, head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked, waits = 0, []
    for name in ("first", "second"):
        with Storage(tmp_path / name) as storage:
            (head.home / name).mkdir()
            farm = Farm(storage, head.home / name)
            request = farm.request("1")
            fake = farm.put(request, FakeScheduler())
            for _ in range(3):
                farm.look()
            asked += len(fake.asked)
            waits.append(farm.node(request).not_before - time.monotonic())
    assert asked == 1
    assert waits[1] == pytest.approx(INTERVAL, abs=2)


def test_more_rarely_while_the_workers_say_enough_themselves(farm: Farm) -> None:
    request = farm.request("1")
    fake = farm.put(request, FakeScheduler())
    for element in "12":
        farm.call(request, element, element)
    farm.look()
    assert len(fake.asked) == 1
    for _ in range(RARELY - 1):
        farm.look(INTERVAL)
    assert len(fake.asked) == 1
    farm.look(INTERVAL + 1)
    assert len(fake.asked) == 2


@pytest.mark.parametrize("why", ["a worker that was not heard", "a job that is gone"])
def test_not_more_rarely_if_one_request_needs_an_answer(farm: Farm, why: str) -> None:
    """What the scheduler says of a job that is gone must be said twice."""
    first, second = farm.request("1"), farm.request("2")
    fake = farm.put(first, FakeScheduler())
    for element in "12":
        farm.call(first, element, element)
        if why != "a worker that was not heard" or element == "1":
            farm.call(second, element, element)
    if why == "a job that is gone":
        fake.answers = {"2": JobStatus()}
    for _ in range(2):
        farm.look(INTERVAL + 1)
    assert len(fake.asked) == 2


@pytest.mark.parametrize(("poll_interval", "first"), [(30.0, FIRST), (2.0, 2.0)])
def test_the_first_question_waits_for_the_job_to_show(farm: Farm, poll_interval: float, first: float) -> None:
    request = farm.request("1", host="nowhere.invalid", poll_interval=poll_interval)
    farm.look()
    node = farm.node(request)
    assert node.asked + poll_interval - farm.now == pytest.approx(first)
    assert farm.thread.context.questions == 0


def test_a_request_that_was_not_submitted_yet_is_not_asked_about(farm: Farm) -> None:
    request = farm.request("")
    fake = farm.put(request, FakeScheduler())
    array = farm.array(request)
    farm.look()
    assert fake.asked == []
    farm.storage.set_submitted(request, replace(array, job="12"))
    farm.look()
    assert fake.asked == [["12"]]


@pytest.mark.slow
@fault(42, "the scheduler does not answer", promise="it is asked less and less often; running work is not touched")
@pytest.mark.parametrize("error", [HostError("head does not answer"), SchedulerError("no XML"), OSError("surprise")])
def test_a_head_node_that_does_not_answer_is_asked_less_and_less_often(
    farm: Farm, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    request = farm.request("1")
    fake = farm.put(request, FakeScheduler())
    node = farm.node(request)
    fake.error = error
    pauses = []
    for _ in range(8):
        farm.look(LONGEST)
        pauses.append(round(node.not_before - time.monotonic()))
    assert len(fake.asked) == 8
    assert pauses[0] > INTERVAL
    assert pauses == sorted(pauses)
    assert max(pauses) == pytest.approx(LONGEST, abs=1)
    assert str(error) in caplog.text
    fake.error = None
    farm.look(LONGEST)
    assert node.asked - time.monotonic() == pytest.approx(0, abs=1)
    farm.look(INTERVAL)
    assert len(fake.asked) == 10
    assert farm.errors(request) == []


@fault(
    "qmaster down", "the scheduler does not answer for long", promise="who waits for results reads so, and since when"
)
def test_a_scheduler_that_does_not_answer_is_told_to_who_waits(farm: Farm) -> None:
    request = farm.request("1")
    fake = farm.put(request, FakeScheduler())
    fake.error = SchedulerError("qmaster is down")
    farm.look()
    assert farm.note(request) == ""  # workers may come any moment
    farm.later(minutes=2)
    farm.look()
    assert re.fullmatch(r"the scheduler has not answered since \d\d:\d\d: qmaster is down", farm.note(request))
    fake.error = None
    farm.look(LONGEST)
    farm.join(request)
    farm.look()
    assert farm.note(request) == ""


@fault(42, "one head node of two does not answer", promise="the other is asked as before")
@pytest.mark.parametrize("error", [HostError("does not answer"), OSError("surprise")])
def test_what_is_wrong_on_one_head_node_does_not_stand_in_the_way_of_another(farm: Farm, error: Exception) -> None:
    first, second = (farm.put(farm.request(job, host=job), FakeScheduler()) for job in ("one", "two"))
    first.error = error
    farm.look()
    assert second.asked == [["two"]]


# What it makes of the answer


@fault("qdel all", "the array job is deleted before a worker has called", promise="the request ends, with the reason")
def test_what_the_scheduler_says_is_heeded(farm: Farm) -> None:
    request = farm.request("1")
    other = farm.request("2")
    fake = farm.put(request, FakeScheduler())
    farm.look()
    fake.answers = {"1": JobStatus(reason="it was deleted")}
    (farm.directory(request) / "herd.e1.1").write_text("  worker: no python here\n")
    farm.look(INTERVAL)
    assert farm.errors(request) == []  # it may be wrong once
    farm.look(2 * INTERVAL)
    assert farm.errors(request)[0].startswith("not run: ")
    assert "it was deleted; the last line of its output is: worker: no python here" in farm.errors(request)[0]
    assert farm.errors(other) == []


@fault(
    "silence", "the scheduler says nothing of a job that waits", promise="it goes on; who waits for results reads so"
)
def test_a_job_of_which_nothing_is_said_has_not_ended(farm: Farm) -> None:
    request, other = farm.request("1"), farm.request("2")
    fake = farm.put(request, FakeScheduler())
    fake.answers = dict.fromkeys("12", JobStatus(pending=2))
    farm.look()
    fake.silent = {"1"}
    for _ in range(5):
        farm.look(INTERVAL)
    assert len(fake.asked) == 6  # as often as before
    farm.later(minutes=2)
    farm.look(INTERVAL)
    assert farm.note(request).endswith("it neither lists the array job 1 nor says that there is none")
    assert farm.note(other) == "2 workers wait in the queue of head (array job 2)"
    fake.silent = set()
    fake.answers["1"] = JobStatus(reason="it was deleted")
    for _ in range(2):
        assert farm.errors(request) == []
        farm.look(INTERVAL)
    assert "the array job 1 was deleted" in farm.errors(request)[0]


@fault((38, "Eqw"), "the array job is in error", promise="the request ends with the scheduler's reason")
def test_a_job_in_error_ends_its_request(farm: Farm) -> None:
    request = farm.request("1")
    fake = farm.put(request, FakeScheduler())
    fake.answers = {"1": JobStatus(broken=True, reason="Eqw: can't chdir")}
    farm.look()
    assert farm.errors(request) == ["not run: Eqw: can't chdir"] * 2


@fault((44, "max_aj_instances"), "workers wait for ever", promise="the scheduler's reason is shown")
def test_workers_that_wait_for_long_are_explained(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    request = farm.request("1")
    fake = farm.put(request, FakeScheduler())
    fake.answers = {"1": JobStatus(pending=2)}
    fake.why = "All queues dropped because of overload or full"
    farm.look()
    assert fake.explained == []  # they have not waited for long
    monkeypatch.setattr(asking, "PUZZLING", 0)
    farm.look(INTERVAL)
    assert fake.explained == ["1"]
    farm.later(minutes=2)
    farm.look()
    assert farm.note(request) == f"2 workers wait in the queue of head (array job 1): {fake.why}"
    fake.answers = {"1": JobStatus(pending=1, running=frozenset("1"))}
    farm.look(INTERVAL)
    assert fake.explained == ["1"]


@fault(44, "workers that no host can ever run, on a full cluster", promise="the user hears why in the first minute")
def test_workers_that_can_never_start(farm: Farm) -> None:
    request = farm.request("1")
    fake = farm.put(request, FakeScheduler())
    fake.answers = {"1": JobStatus(pending=2)}
    fake.why, fake.never = "All queues dropped because of overload or full", "no host fits"
    farm.look()
    assert farm.note(request) == "2 workers wait in the queue of head (array job 1): no host fits"
    assert fake.explained == []


@fault("way home", "workers run, and cannot reach the server", promise="their own words, in the first minute")
def test_workers_that_cannot_reach_the_server_are_overheard(farm: Farm) -> None:
    request = farm.request("1")
    farm.put(request, FakeScheduler())
    farm.look()
    assert farm.note(request) == ""
    words = "worker a: cannot reach https://me:4000 ([Errno 113] No route to host); trying on"
    (farm.directory(request) / "herd.o1.1").write_text(f"Welcome\n{words}\nbye\n")
    farm.look(INTERVAL)
    assert farm.note(request).startswith("2 workers run, but none has reached https://me:4000")
    assert farm.note(request).endswith(f"They say: {words}")
    farm.join(request)
    farm.look(INTERVAL)
    assert farm.note(request) == ""


@fault(
    "another address",
    "workers do not reach this machine by an address that is its own still",
    promise="they are told the one that the head node sees, too, and try both in turn",
)
def test_workers_that_cannot_reach_the_server_are_told_another_address(farm: Farm, here: str) -> None:
    request = farm.request("1")
    first = "https://old-way-home.invalid:4000"
    farm.storage.set_urls(request, 1, [first])
    farm.put(request, FakeScheduler())
    farm.look()
    assert farm.storage.arrays(request)[0].urls == (first,)
    words = f"worker a: cannot reach {first} ([Errno 110] Connection timed out); trying on"
    (farm.directory(request) / "herd.o1.1").write_text(f"{words}\n")
    both = (first, f"https://{f'[{here}]' if ':' in here else here}:4000")
    for _ in range(3):  # and it stays so
        farm.look(INTERVAL)
        assert farm.storage.arrays(request)[0].urls == both
        assert json.loads((farm.directory(request) / "secret.json").read_text())["urls"] == [*both]


@fault("qdel all", "the array job is deleted while it waits", promise="nobody asks whether its Python is one")
def test_a_waiting_job_that_is_deleted(farm: Farm) -> None:
    request = farm.request("1")
    fake = farm.put(request, FakeScheduler())
    fake.answers = {"1": JobStatus(pending=2)}
    farm.look()
    fake.answers = {"1": JobStatus(reason="it was deleted")}
    for _ in range(2):
        farm.look(INTERVAL)
    assert farm.errors(request)[0].startswith("the array job 1 was deleted (qdel); `sheepdog.retry(")


@fault(
    "bad node",
    "workers end on a node before they have called",
    promise="where that was is known, also without accounting",
)
def test_where_workers_ended_before_they_called(farm: Farm) -> None:
    request = farm.request("1")
    fake = farm.put(request, FakeScheduler())
    end = End("exit status 127", Fate.OTHER, "2", "node2")
    fake.answers = {"1": JobStatus(running=frozenset("1"), ends=(end,))}
    farm.join(request)
    farm.look()
    hosts = farm.writer.service.live[request].hosts
    assert hosts.barren == {"node2": "exit status 127"}
    (farm.directory(request) / "herd.e1.2").write_text("sheepdog: on node3 there is no /opt/python3\n")
    fake.answers = {"1": JobStatus(reason="gone")}
    farm.look(RARELY * INTERVAL + 1)
    assert sorted(hosts.barren) == ["node2", "node3"]


@fault("hold", "the array job is on hold", promise="who waits for results reads so; nothing is given up")
def test_a_job_on_hold(farm: Farm) -> None:
    request = farm.request("1")
    fake = farm.put(request, FakeScheduler())
    fake.answers = {"1": JobStatus(pending=2, held=True)}
    for _ in range(3):
        farm.look(INTERVAL)
    assert farm.note(request) == "2 workers wait in the queue of head (array job 1, on hold)"
    assert farm.errors(request) == []


# What workers left behind


def left(farm: Farm, request: int, name: str, outcomes: Sequence[tuple[int, bytes]]) -> None:
    """Write the file of a worker that had to end before it could deliver its outcomes."""
    values = [part for _, value in outcomes for part in (value, b"")]
    header = {"worker": name.partition("-")[0], "host": "node", "pid": 1, "element": "1", "array": 1, "call": 7}
    header.update(want=0, holding=[], outcomes=[[task, 1, RESULT, 0.5] for task, _ in outcomes])
    spool = farm.directory(request) / "spool"
    spool.mkdir(exist_ok=True)
    (spool / name).write_bytes(pack(header, [len(value) for value in values]) + b"".join(values))


@fault(
    (45, 46), "a worker has to end while the server cannot be reached", promise="its outcomes are collected from there"
)
def test_outcomes_that_a_worker_could_not_deliver_are_collected(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    request = farm.request("1", tasks=4)
    fake = farm.put(request, FakeScheduler())
    left(farm, request, "ab12-1", [(1, b"one"), (2, b"two")])
    left(farm, request, "ab12-2", [(2, b"another"), (3, b"three")])
    left(farm, request, "cd34-1", [(9, b"no such task")])
    spool = farm.directory(request) / "spool"
    whole = (spool / "ab12-1").read_bytes()
    damaged = {
        "e0-1": b"",
        "e0-2": whole[:10],
        "e0-3": whole[:-2],
        "e0-4": pack({"outcomes": []}, []),
        "e0-5": b"\xff" * 100,
        "e0-6": pack({"worker": 1, "outcomes": 3, "want": "x", "call": 1, "holding": []}, []),
    }
    others = {"not ours": whole, "ab-1.new": whole}
    for name, content in (damaged | others).items():
        (spool / name).write_bytes(content)
    farm.look()
    assert farm.storage.progress(request).done == 0  # it runs: nothing is complete yet
    fake.answers = {"1": JobStatus(reason="gone")}
    farm.look(INTERVAL)
    assert list(farm.storage.results(request)) == [(1, b"one"), (2, b"two"), (3, b"three")]
    assert caplog.text.count("a file of outcomes is damaged") == 6
    assert {file.name for file in spool.iterdir()} == {*damaged, *others}  # what was not read is not thrown away


@fault((45, 46), "the outcomes that are collected are large", promise="they pass through files, not through memory")
@pytest.mark.slow
def test_large_outcomes_are_collected_in_little_memory(farm: Farm) -> None:
    request = farm.request("1", tasks=2)
    fake = farm.put(request, FakeScheduler())
    size = 100 << 20
    left(farm, request, "ab12-1", [(1, bytes(size))])
    fake.answers = {"1": JobStatus(reason="gone")}
    tracemalloc.start()
    try:
        farm.look(INTERVAL)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size // 2
    [(_, value)] = farm.storage.results(request)
    assert value == bytes(size)


def test_without_a_spool_and_without_a_directory_nothing_is_collected(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = farm.request("1"), farm.request("2")
    fake = farm.put(first, FakeScheduler())
    subprocess.run(["rm", "-r", farm.directory(second)], check=True)
    fake.answers = dict.fromkeys(("1", "2"), JobStatus(reason="gone"))
    for _ in range(2):
        farm.look(INTERVAL)
    assert [farm.state(request) for request in (first, second)] == [RequestState.ENDED] * 2
    assert f"request {first}: what its workers left" not in caplog.text
    assert f"request {second}: what its workers left cannot be collected" in caplog.text


def test_an_error_without_words_is_no_empty_reason(farm: Farm) -> None:
    request = farm.request("1")
    farm.put(request, FakeScheduler()).error = TimeoutError()
    farm.look()
    assert farm.writer.service.live[request].reasons.unanswered.endswith(": TimeoutError")
