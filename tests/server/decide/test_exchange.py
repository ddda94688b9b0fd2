"""What is decided when a worker calls, over a real store and a clock that stands until it is moved."""

import io
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sheepdog.client import PROTOCOL, describe_python
from sheepdog.server.calls import MAX_HELD, fitting
from sheepdog.server.decide import arrays, clock
from sheepdog.server.decide.exchange import ENOUGH_REFUSED, SHORT_LEASE, heartbeat
from sheepdog.server.writer import Clock
from sheepdog.storage import Storage
from sheepdog.values.model import JobStatus, Kind, Outcome, RequestState, StoredBlob
from sheepdog.values.serialisation import form
from tests.faults import fault
from tests.server.decide.farm import GONE, LARGE, LEASE, Farm

# join


def test_a_worker_that_joins_gets_the_function(farm: Farm) -> None:
    reply = farm.join("w1")
    assert (reply.status, reply.blobs) == (200, [b"function", b"ns"])
    assert reply.header["heartbeat"] == heartbeat(LEASE) < LEASE / 5


@fault(54, "a worker of another version of the library", promise="it is refused, and both versions are named")
def test_a_worker_of_another_protocol_is_refused(farm: Farm) -> None:
    reply = farm.join("w1", protocol=PROTOCOL + 1)
    assert reply.status == 426
    assert f"protocol {PROTOCOL + 1}; this server {PROTOCOL}" in reply.text


@fault(
    49,
    "a worker of another Python version",
    promise="it is refused before it loads anything, with the version that would fit",
)
def test_a_worker_of_another_python_is_told_what_would_fit(farm: Farm) -> None:
    theirs = {"implementation": "pypy", "version": "3.6.1", "magic": "00", "executable": "/opt/pypy"}
    reply = farm.join("w1", python=theirs)
    ours = describe_python()["version"]
    assert reply.status == 409
    assert "runs pypy 3.6.1 (/opt/pypy)" in reply.text
    assert ours in reply.text
    assert f"`python`, not `shell`, to '{'.'.join(ours.split('.')[:2])}'" in reply.text
    assert farm.note == reply.text
    assert farm.errors == []


@pytest.mark.parametrize("python", [None, "3.11", [], 7])
def test_a_worker_that_does_not_say_its_python_is_refused(python: Any) -> None:
    assert fitting(form(), python, "node") == "the worker does not say what Python it runs"


@pytest.mark.parametrize(("workers", "enough"), [(1, 1), (3, 3), (1000, ENOUGH_REFUSED)])
def test_when_enough_workers_do_not_fit_the_request_ends(storage: Storage, workers: int, enough: int) -> None:
    farm = Farm(storage, [b"1", b"2"], workers)
    for number in range(enough):
        assert farm.errors == []
        assert farm.join(f"w{number}", python={**describe_python(), "magic": "00"}).status == 409
    assert len(farm.errors) == 2
    assert "`shell`" in farm.errors[0]
    assert farm.join("w99").status == 410
    assert storage.requests(RequestState.NEW, RequestState.SUBMITTED) == []


@pytest.fixture
def by_name(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Farm:
    """A request of which nothing goes by value."""
    monkeypatch.setattr("tests.server.decide.farm.form", lambda: form(False, [("sim", "step")]))
    return Farm(storage, [b"1", b"2"])


OTHER = {"implementation": "pypy", "version": "3.6.1", "magic": "00", "executable": "/opt/pypy"}


def test_another_python_tries_before_it_has_a_task_what_goes_by_name(by_name: Farm) -> None:
    assert "trial" not in by_name.join("w1").header
    reply = by_name.join("w2", python=OTHER)
    assert (reply.status, reply.header["trial"]) == (200, [["sim", "step"]])
    assert reply.header["made_by"] == describe_python()["version"]
    assert by_name.take("w2", 1) == [1]


def test_another_python_that_cannot_load_it_has_no_task_and_the_reason_is_the_requests(by_name: Farm) -> None:
    for name in ("w1", "w2"):
        assert by_name.errors == []
        by_name.join(name, python=OTHER)
        by_name.exchange(name, 0)  # a sign of life, or for its files
        assert by_name.exchange(name, 0, unfit="sim.py, line 3: SyntaxError").header["stop"]
    assert by_name.errors == ["sim.py, line 3: SyntaxError"] * 2
    assert by_name.join("w3").status == 410


def test_while_one_worker_fits_any_number_may_be_refused(farm: Farm) -> None:
    farm.join("w0")
    for number in range(1, 20):
        farm.join(f"w{number}", python={**describe_python(), "magic": "00"})
    assert farm.errors == []
    assert farm.take("w0", 1) == [1]


# exchange


def test_a_request_is_worked_off(farm: Farm) -> None:
    farm.join("w1")
    done: list[int] = []
    reply = farm.exchange("w1", 3)
    while not reply.header.get("stop"):
        tasks = [index for index, attempt in reply.header["tasks"] if attempt == 1]
        assert reply.blobs == [b"args %d" % index for index in tasks]
        done += tasks
        reply = farm.exchange("w1", 3, dict.fromkeys(tasks, b"result"))
        assert reply.header["stored"] == len(tasks)
    assert done == list(range(1, 11))
    assert farm.storage.count_results(farm.request) == 10
    assert reply.header["stop"]
    assert (farm.state, farm.exchange("w1", 3).status) == (RequestState.ENDED, 410)


def test_a_worker_gets_no_more_than_a_fair_share(farm: Farm) -> None:
    assert farm.take("w1", 20) == [1, 2, 3, 4, 5]
    assert farm.take("w2", 20) == [6, 7]
    assert farm.take("w3", 20) == [8]


@fault(
    (12, 2),
    "an outcome that is reported twice, alike or not",
    promise="the first stays; the worker is told that the second changed nothing",
)
def test_an_outcome_reported_twice_is_stored_once(farm: Farm) -> None:
    farm.exchange("w1", 1)
    assert farm.exchange("w1", 0, {1: b"first"}).header == {"stored": 1, "tasks": []}
    assert farm.exchange("w1", 0, {1: b"second"}).header == {"stored": 0, "tasks": [], "late": [1]}
    assert farm.exchange("w2", 0, {1: b"third"}).header == {"stored": 0, "tasks": [], "late": [1]}
    assert farm.storage.get_results(farm.request) == [(b"args 1", b"first")]


def test_an_error_is_stored_with_where_and_how_long(farm: Farm) -> None:
    farm.exchange("w1", 1)
    farm.call(
        "exchange",
        {"worker": "w1", "host": "node7", "call": 99, "want": 0, "holding": [], "outcomes": [[1, 2, 1, 0.25]]},
        [b"ZeroDivisionError", b"printed"],
    )
    [(args, outcome)] = farm.storage.errors(farm.request)
    assert args == b"args 1"
    assert outcome == Outcome(
        task=1,
        attempt=2,
        kind=Kind.RAISED,
        seconds=0.25,
        value=b"ZeroDivisionError",
        output=b"printed",
        host="node7",
        attempts=2,
    )


@fault((12, 21), "a call that is replayed", promise="it is refused and changes nothing")
def test_a_stale_call_is_refused_and_changes_nothing(farm: Farm) -> None:
    farm.exchange("w1", 1, call=7)
    for stale in (7, 6, 1):
        reply = farm.exchange("w1", 1, {1: b"late"}, call=stale)
        assert reply.status == 400
        assert f"call {stale} comes after call 7" in reply.text
    assert farm.storage.count_results(farm.request) == 0
    assert farm.service.live[farm.request].queue.leased == 1


@fault(3, "a reply with tasks that never arrives", promise="the worker gets the same tasks again")
def test_a_worker_that_does_not_name_its_tasks_lost_the_reply(farm: Farm) -> None:
    assert farm.take("w1", 2) == [1, 2]
    assert sorted(farm.take("w1", 2)) == [1, 2]


def test_what_a_worker_holds_stays_its_own_when_it_wants_more(storage: Storage) -> None:
    farm = Farm(storage, [b"small", b"x" * 5_000_000, b"x" * 5_000_000, b"small"])
    assert farm.take("w1", 1) == [1]
    assert farm.take("w1", 3, holding=[1]) == [2]  # the next is too large to come along
    assert farm.take("w2", 1) != [1]


@fault(5, "a worker that is silent", promise="its tasks go to others after the lease")
def test_a_lost_workers_tasks_come_back_after_the_lease(farm: Farm) -> None:
    farm.exchange("w1", 2)
    farm.now += LEASE / 2
    farm.exchange("w2", 1)  # 3
    farm.now += LEASE / 2 + 1
    clock.tick(farm.service)
    reply = farm.exchange("w3", 2)
    assert sorted(reply.header["tasks"]) == [[1, 2], [2, 2]]


def test_heartbeats_keep_the_lease(farm: Farm) -> None:
    farm.exchange("w1", 2)
    for _ in range(20):
        farm.now += heartbeat(LEASE) * 1.2
        assert farm.exchange("w1", 0, holding=[1, 2]).header == {"stored": 0, "tasks": []}
        clock.tick(farm.service)
    assert farm.take("w2", 2) == [3, 4]


@fault(
    (4, 45),
    "a server that is stopped for ten leases, then goes on",
    promise="no lease ends for want of a listening server",
)
def test_time_in_which_the_server_did_not_listen_is_no_silence(farm: Farm) -> None:
    seconds = farm.service.clock = Clock()
    farm.exchange("w1", 2)
    seconds.looked -= 10 * LEASE
    clock.tick(farm.service)
    assert farm.take("w2", 2) == [3, 4]


def test_surplus_workers_are_told_to_stop_but_one_stays_in_case(storage: Storage) -> None:
    farm = Farm(storage, [b"1", b"2"], workers=4)
    assert farm.take("w1", 1) == [1]
    assert farm.take("w2", 1) == [2]
    spare = farm.exchange("w3", 1)
    assert spare.header == {"stored": 0, "tasks": [], "wait": 1.0}
    assert farm.exchange("w4", 1).header.get("stop")
    assert "wait" in farm.exchange("w3", 1).header
    farm.now += LEASE + 1
    farm.exchange("w2", 0, holding=[2])
    farm.exchange("w3", 0)
    clock.tick(farm.service)
    assert farm.take("w3", 1) == [1]


def test_large_arguments_are_left_in_the_store(storage: Storage) -> None:
    farm = Farm(storage, [b"x" * LARGE, b"small", b"y" * LARGE])
    for index in (1, 2, 3):
        reply = farm.exchange("w1", 1, {index - 1: io.BytesIO(b"z" * LARGE)} if index > 1 else {})
        assert [task for task, _ in reply.header["tasks"]] == [index]
        [blob] = reply.blobs
        assert isinstance(blob, bytes if index == 2 else StoredBlob)
    assert [len(result) for _, result in storage.get_results(farm.request)] == [LARGE, LARGE]


@fault(52, "a worker that asks for tasks ten thousand times", promise="no task is charged, none withheld from others")
@pytest.mark.slow
def test_a_worker_that_only_takes(farm: Farm) -> None:
    mine = farm.take("w1", 5)
    for _ in range(10_000):
        assert not {*farm.take("w2", 1 << 20)} & {*mine}
    assert farm.history == []
    assert "drop" not in farm.exchange("w1", 0, holding=mine).header
    others = [index for index in range(1, 11) if index not in mine]
    farm.exchange("w2", 0)
    tasks = farm.exchange("w3", 10).header["tasks"]
    assert tasks
    assert all(index in others and attempt == 1 for index, attempt in tasks)
    assert len(farm.live.workers.known) == 3


@fault(
    52, "a worker that reports on other workers' tasks", promise="it ends none of them; those workers notice nothing"
)
@pytest.mark.parametrize("attempt", [1, 2, (1 << 31) - 1])
def test_a_worker_that_meddles(farm: Farm, attempt: int) -> None:
    mine = farm.take("w1", 5)
    for kind in (Kind.RAISED, Kind.DIED, Kind.TIMEOUT, Kind.INTERRUPTED):
        said = dict.fromkeys(mine, b"so")
        reply = farm.exchange("w2", 0, said, holding=dict.fromkeys(mine, attempt), kind=kind, attempt=attempt)
        assert reply.header["late"] == mine
    farm.exchange("w2", 0, leaving={"reason": "so", "seconds": 0})
    farm.now += LEASE - 1
    clock.tick(farm.service)
    reply = farm.exchange("w1", 0, dict.fromkeys(mine, b"mine"))
    assert (reply.header["stored"], "late" in reply.header) == (len(mine), False)
    assert farm.errors == []
    assert not any(counts for _, _, _, counts in farm.history)


@fault(13, "outcomes of tasks that do not exist", promise="the call is refused and nothing of it is stored")
def test_an_outcome_of_no_task_is_refused_and_stores_nothing(farm: Farm) -> None:
    for outcomes in ({1: b"x", 11: b"y"}, {1: io.BytesIO(b"x"), 0: b"y"}):
        reply = farm.exchange("w1", 1, outcomes)
        assert reply.status == 400
        assert "are 1 to 10" in reply.text
        assert farm.storage.get_results(farm.request) == []


# Workers that leave, and places


@fault(
    (35, "preemption"),
    "a worker says that it must leave",
    promise="it is given no task, and what it holds waits no longer than it may live",
)
def test_a_worker_that_is_leaving_is_given_nothing_and_lost_soon(farm: Farm) -> None:
    farm.take("w1", 2)
    reply = farm.exchange("w1", 3, holding=[1, 2], leaving={"reason": "SIGUSR1", "seconds": 20})
    assert reply.header == {"stored": 0, "tasks": []}
    farm.now += 20 + SHORT_LEASE
    clock.tick(farm.service)
    assert farm.history == []
    farm.now += 0.1
    clock.tick(farm.service)
    assert farm.history == [(1, 1, Kind.INTERRUPTED, True), (2, 1, Kind.INTERRUPTED, True)]
    [(first, _), _] = storage_history(farm)
    assert first.value == b"its worker on node1 was ended: SIGUSR1"


def storage_history(farm: Farm) -> list[tuple[Outcome, bool]]:
    return list(farm.storage.attempts(farm.request))


def test_a_leaving_worker_lives_no_longer_than_its_lease(farm: Farm) -> None:
    farm.take("w1", 1)
    farm.exchange("w1", 0, holding=[1], leaving={"reason": "later", "seconds": 1e8})
    farm.now += LEASE + 1
    clock.tick(farm.service)
    assert len(farm.history) == 1


def test_what_a_leaving_worker_still_holds_is_waited_for(storage: Storage) -> None:
    farm = Farm(storage, [b"1"], workers=1, resubmissions=0)
    farm.take("w1", 1)
    farm.heed(JobStatus(running=frozenset({"1"})))
    farm.exchange("w1", 0, holding=[1], leaving={"reason": "s_rt", "seconds": 60})
    farm.heed(JobStatus(running=frozenset({"1"})), times=1)
    clock.tick(farm.service)
    assert farm.exchange("w1", 0, {1: b"done in time"}).header["stop"]
    assert storage.count_results(farm.request) == 1


@fault(
    (37, "-r y"), "a worker is started in the place of another", promise="the tasks of the first go to others at once"
)
def test_a_worker_started_again_in_its_place_ends_the_one_before_it_at_once(farm: Farm) -> None:
    farm.take("w1", 1)
    reply = farm.exchange("x1", 1)  # the same element
    assert reply.header["tasks"] == [[1, 2]]
    [(attempt, _)] = storage_history(farm)
    assert attempt.value == b"its worker on node1 was lost: it was started again"


def test_one_that_was_replaced_does_not_end_its_successor(farm: Farm) -> None:
    farm.take("w1", 1)
    farm.take("x1", 2)
    for _ in range(5):
        farm.exchange("w1", 0)
        farm.exchange("x1", 0, holding={1: 2, 2: 1})
    assert farm.live.queue.holders["x1"].held == {1: 2, 2: 1}
    assert len(farm.history) == 1


def test_a_place_is_not_dead_while_another_worker_calls_from_it(farm: Farm) -> None:
    farm.take("w1", 1)
    farm.take("x1", 2)
    farm.exchange("w1", 0)
    farm.now += LEASE / 2
    farm.exchange("x1", 0, holding={1: 2, 2: 1})
    farm.now += LEASE / 2 + 1
    clock.tick(farm.service)
    assert list(farm.live.workers.known) == ["x1"]
    assert farm.live.workers.lost == set()


def test_workers_that_do_not_name_their_element_are_not_one(farm: Farm) -> None:
    farm.exchange("w1", 1, element=None)
    farm.exchange("w2", 1, element=None)
    assert farm.live.queue.leased == 2


@pytest.mark.parametrize("joins", [True, False])
def test_a_dead_place_is_alive_again_when_somebody_calls_from_it(farm: Farm, joins: bool) -> None:
    farm.take("w1", 1)
    farm.now += LEASE + 1
    clock.tick(farm.service)
    assert farm.live.workers.lost == {(1, "1")}
    farm.join("x1") if joins else farm.take("w1", 1)
    assert farm.live.workers.lost == set()


def test_a_worker_that_joined_and_was_never_heard_again_is_lost(storage: Storage) -> None:
    """Its node died: the scheduler says for ever that it runs."""
    farm = Farm(storage, [b"1"], workers=1)
    farm.join("w1")
    farm.heed(JobStatus(running=frozenset({"1"})))
    farm.now += LEASE + 1
    clock.tick(farm.service)
    assert farm.live.workers.known == {}
    farm.heed(JobStatus(running=frozenset({"1"})), times=2)
    assert [wanted.workers for wanted in clock.wanted(farm.service)] == [1]


@pytest.mark.parametrize("restarted", [False, True])
@fault(
    (7, "node down"),
    "a node is dead, and the scheduler says for ever that its job runs",
    promise="its tasks go to others; workers are submitted in its place",
)
def test_a_node_of_which_the_scheduler_says_for_ever_that_it_runs(storage: Storage, restarted: bool) -> None:
    farm = Farm(storage, [b"1"], workers=1)
    farm.take("w1", 1)
    status = JobStatus(running=frozenset({"1"}))
    farm.heed(status)
    if restarted:  # it does not know of the worker, nor that it died
        farm.restart()
        clock.tick(farm.service)
    farm.now += LEASE + 1
    clock.tick(farm.service)
    farm.heed(status, times=8)
    [wanted] = clock.wanted(farm.service)
    assert (wanted.workers, wanted.level) == (1, 0)


# Whatever a worker says


@fault(13, "outcomes for a request that was removed", promise="the worker is sent away; nothing is stored")
def test_the_workers_of_a_request_that_was_removed_are_sent_away(farm: Farm) -> None:
    """As after Ctrl-C in a submission: the array job may have been submitted all the same."""
    farm.exchange("w1", 1)
    farm.storage.remove_request(farm.request)
    for reply in (farm.exchange("w1", 1, {1: b"x"}), farm.exchange("w2", 1), farm.join("w3")):
        assert reply.status != 200 or reply.header["stop"]
    farm.heed(GONE, times=3)
    clock.tick(farm.service)
    assert arrays.left_over(farm.service) == []


def test_the_token_of_no_request(farm: Farm) -> None:
    assert farm.service.token(farm.request) == farm.storage.get_request(farm.request).token
    for unknown in (0, 4711, 2**40, 2**63, 10**30):
        assert farm.service.token(unknown) is None


EXCHANGE = {
    "worker": "w",
    "host": "h",
    "pid": 7,
    "element": "1",
    "array": 1,
    "call": 1,
    "want": 1,
    "holding": [],
    "outcomes": [],
    "leaving": None,
    "running": [1, 1, 0.5],
}
JOIN = {"worker": "w", "host": "h", "element": "1", "array": 1, "protocol": PROTOCOL, "python": describe_python()}
NUMBERS = st.integers() | st.floats() | st.booleans() | st.sampled_from([1, 2, 10, 11, 0, -1, 2**31, 2**63, 10**400])
SCALARS = st.none() | NUMBERS | st.text(st.characters(exclude_categories=()), max_size=9)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
INDEXES = st.sampled_from([1, 2, 3, 10, 10, 11, 0, -1, True, 2.0, 2**63])
ATTEMPTS = st.sampled_from([1, 1, 1, 2, 0, 2**31, True, 1.0])
KINDS = st.sampled_from([0, 0, 1, 2, 3, 4, 5, 6, -1, True, 1.0, "0"])
ENTRY = st.tuples(INDEXES, ATTEMPTS, KINDS, NUMBERS)
MEASURED = st.tuples(INDEXES, ATTEMPTS, KINDS, NUMBERS, NUMBERS, st.none() | NUMBERS, NUMBERS)
ENTRIES = st.lists(ENTRY | MEASURED, max_size=2)
OPTIONS: list[dict[str, Any]] = [{}, {"retries": 1}, {"on_oom": "2x"}]
BLOBS = st.binary(max_size=5) | st.builds(io.BytesIO, st.binary(max_size=5))


@pytest.mark.slow
@fault(23, "headers of any JSON", promise="400 or an answer, never an exception")
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(verb=st.sampled_from(["join", "exchange"]), data=st.data())
def test_no_header_is_an_exception(storage: Storage, verb: str, data: st.DataObject) -> None:
    farm = Farm(storage, [b""] * 10, **data.draw(st.sampled_from(OPTIONS)))
    header: dict[str, Any] = dict(EXCHANGE if verb == "exchange" else JOIN)
    blobs: list[Any] = []
    if verb == "exchange" and data.draw(st.booleans()):
        header["outcomes"] = [list(entry) for entry in data.draw(ENTRIES)]
        blobs = [data.draw(BLOBS) for _ in range(2 * len(header["outcomes"]))]
    for key in data.draw(st.sets(st.sampled_from([*header]), max_size=2)):
        header[key] = data.draw(SCALARS | JSON)
    if isinstance(header.get("python"), dict) and data.draw(st.booleans()):
        header["python"] = {**header["python"], data.draw(st.sampled_from([*describe_python()])): data.draw(SCALARS)}
    answer(farm, verb, header, blobs)


def answer(farm: Farm, verb: str, header: dict[str, Any], blobs: list[Any]) -> None:
    """Make a call; it must be answered, and the store must stay sound."""
    reply = farm.call(verb, header, blobs)
    if live := farm.service.live.get(farm.request):
        farm.service.store_facts(live)  # whatever it says of itself can be stored
    assert reply.status in (200, 400, 409, 410, 426)
    assert reply.text or reply.status == 200
    progress = farm.storage.progress(farm.request)
    results, errors = farm.storage.get_results(farm.request), farm.storage.get_errors(farm.request)
    assert (progress.done, progress.failed) == (len(results), len(errors))
    left = sum(last - first + 1 for first, last in farm.storage.pending(farm.request))
    live = farm.service.live.get(farm.request)
    assert left == (live.queue.size if live else left and 10)


MALFORMED: dict[str, tuple[str, dict[str, Any], list[Any]]] = {
    "a time that is no number": ("exchange", {"outcomes": [[1, 1, 0, float("nan")]]}, [b"r", b""]),
    "an infinite time": ("exchange", {"outcomes": [[1, 1, 0, float("inf")]]}, [b"r", b""]),
    "half a character in the host": ("exchange", {"host": "\ud800", "outcomes": [[1, 1, 0, 0.1]]}, [b"r", b""]),
    "half a character in the version": ("join", {"python": {"version": "\ud800"}}, []),
    "a large output": ("exchange", {"outcomes": [[1, 1, 0, 0.1]]}, [b"r", io.BytesIO(b"o")]),
    "a large value and no task": (
        "exchange",
        {"outcomes": [[1, 1, 0, 0.1], [11, 1, 0, 0.1]]},
        [io.BytesIO(b"r"), b""] * 2,
    ),
    "too few blobs": ("exchange", {"outcomes": [[1, 1, 0, 0.1]]}, [b"r"]),
    "an unknown kind": ("exchange", {"outcomes": [[1, 1, 6, 0.1]]}, [b"r", b""]),
    "a kind below all": ("exchange", {"outcomes": [[1, 1, -1, 0.1]]}, [b"r", b""]),
    "a list for a kind": ("exchange", {"outcomes": [[1, 1, [], 0.1]]}, [b"r", b""]),
    "outcomes that are no list": ("exchange", {"outcomes": 7}, []),
    "outcomes of text": ("exchange", {"outcomes": ["abcd"]}, [b"r", b""]),
    "a text for want": ("exchange", {"want": "1"}, []),
    "less than no tasks": ("exchange", {"want": -1}, []),
    "true for want": ("exchange", {"want": True}, []),
    "the call before the first": ("exchange", {"call": 0}, []),
    "holding one number": ("exchange", {"holding": [1]}, []),
    "holding no run": ("exchange", {"holding": [[1, 1]]}, []),
    "holding a run that goes down": ("exchange", {"holding": [[2, 1, 1]]}, []),
    "holding more than a worker can": ("exchange", {"holding": [[1, MAX_HELD + 1, 1]]}, []),
    "an attempt beyond all": ("exchange", {"holding": [[1, 1, 2**31]]}, []),
    "leaving without a time": ("exchange", {"leaving": {"reason": "qdel"}}, []),
    "leaving without a reason": ("exchange", {"leaving": {"seconds": 1}}, []),
    "leaving in no time": ("exchange", {"leaving": {"reason": "qdel", "seconds": float("nan")}}, []),
    "leaving before": ("exchange", {"leaving": {"reason": "qdel", "seconds": -1}}, []),
    "leaving as a number": ("exchange", {"leaving": 7}, []),
    "an array job that is a text": ("exchange", {"array": "1"}, []),
    "an array job that is true": ("exchange", {"array": True}, []),
    "an array job beyond all": ("exchange", {"array": 10**30}, []),
    "no worker": ("exchange", {"worker": ""}, []),
    "a worker that is a number": ("join", {"worker": 7}, []),
    "a worker of many letters": ("join", {"worker": "w" * 65}, []),
    "half a character in the worker": ("join", {"worker": "\ud800"}, []),
    "running one number": ("exchange", {"running": [1]}, []),
    "running for ever": ("exchange", {"running": [1, 1, float("inf")]}, []),
    "a signal beyond all": ("exchange", {"outcomes": [[1, 1, 2, 0.1, 1 << 62, None, 0]]}, [b"r", b""]),
    "a peak that is a text": ("exchange", {"outcomes": [[1, 1, 2, 0.1, 0, None, "1"]]}, [b"r", b""]),
}


@fault(23, "calls with wrong types, ranges or lengths", promise="400 with what was wrong; nothing is stored")
@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_malformed_is_refused(farm: Farm, case: str) -> None:
    verb, change, blobs = MALFORMED[case]
    answer(farm, verb, {**(EXCHANGE if verb == "exchange" else JOIN), **change}, blobs)
    reply = farm.exchange("other", 1, call=1)
    assert reply.status == 200
    assert reply.header["tasks"]


@pytest.mark.parametrize("missing", ["outcomes", "want", "call", "holding", "worker"])
def test_what_is_missing_is_named(farm: Farm, missing: str) -> None:
    reply = farm.call("exchange", {key: value for key, value in EXCHANGE.items() if key != missing})
    assert reply.status == 400
    assert missing in reply.text
