"""The decisions, over a real store and a clock that stands until it is moved."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sheepdog.client import PROTOCOL, describe_python
from sheepdog.model import JobStatus, StoredBlob
from sheepdog.serialisation import form
from sheepdog.service import ENOUGH_REFUSED, UNREACHED, Call, Reply, Service, heartbeat, mismatch
from sheepdog.storage import Storage

LEASE = 150.0
LONGEST_PAUSE = 60.0  # between two tries of a worker that cannot reach the server
GONE = JobStatus(reason="2 workers ended with exit status 1")
LARGE = 10_000_000
NOTHING: Mapping[int, Any] = {}


class Farm:
    """A service with one request, and workers that call it."""

    def __init__(self, storage: Storage, args: list[bytes], workers: int = 2, **options: Any) -> None:
        self.storage = storage
        self.now = 1000.0
        options = {"lease": LEASE, **options}
        self.request = storage.new_request(b"function", b"ns", args, form=form(), options=options)
        storage.set_submitted(self.request, "12", "dir", workers, ["https://here:1"])
        self.calls = 0
        self.restart()

    def restart(self) -> None:
        self.service = Service(self.storage, lambda: self.now)

    def call(self, verb: str, header: dict[str, Any], blobs: Sequence[Any] = ()) -> Reply:
        return self.service.handle(Call(self.request, verb, header, list(blobs)))

    def join(self, worker: str, **header: Any) -> Reply:
        about = {"worker": worker, "host": "node1", "element": worker[1:], "protocol": PROTOCOL}
        return self.call("join", {**about, "python": describe_python(), **header})

    def exchange(
        self,
        worker: str,
        want: int,
        outcomes: Mapping[int, Any] = NOTHING,
        holding: Sequence[int] = (),
        **header: Any,
    ) -> Reply:
        self.calls += 1
        about = {"worker": worker, "host": "node1", "element": worker[1:], "call": self.calls, "want": want}
        held = [[task, task, 1] for task in holding]
        entries = {"outcomes": [[task, 1, 0, 0.5] for task in outcomes], "holding": held}
        blobs = [blob for value in outcomes.values() for blob in (value, b"")]
        return self.call("exchange", {**about, **entries, **header}, blobs)

    def take(self, worker: str, want: int, holding: Sequence[int] = ()) -> list[int]:
        return [index for index, _ in self.exchange(worker, want, holding=holding).header["tasks"]]

    def heed(self, status: JobStatus, times: int = 1) -> None:
        for _ in range(times):
            self.now += 30
            self.service.heed(self.request, status, self.now)

    @property
    def note(self) -> str:
        return self.storage.progress(self.request).note

    @property
    def errors(self) -> list[str]:
        return [outcome.value.decode() for _, outcome in self.storage.errors(self.request)]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with Storage(tmp_path / "db") as storage:
        yield storage


@pytest.fixture
def farm(storage: Storage) -> Farm:
    return Farm(storage, [b"args %d" % index for index in range(1, 11)])


# join


def test_a_worker_that_joins_gets_the_function(farm: Farm) -> None:
    reply = farm.join("w1")
    assert (reply.status, reply.blobs) == (200, [b"function", b"ns"])
    assert reply.header["heartbeat"] == heartbeat(LEASE) < LEASE / 5


def test_a_worker_of_another_protocol_is_refused(farm: Farm) -> None:
    reply = farm.join("w1", protocol=PROTOCOL + 1)
    assert reply.status == 426
    assert f"protocol {PROTOCOL + 1}; this server {PROTOCOL}" in reply.text


def test_a_worker_of_another_python_is_told_what_would_fit(farm: Farm) -> None:
    theirs = {"implementation": "pypy", "version": "3.6.1", "magic": "00", "executable": "/opt/pypy"}
    reply = farm.join("w1", python=theirs)
    ours = describe_python()["version"]
    assert reply.status == 409
    assert "runs pypy 3.6.1 (/opt/pypy)" in reply.text
    assert ours in reply.text
    assert f"`shell` to a Python {'.'.join(ours.split('.')[:2])}" in reply.text
    assert farm.note == reply.text
    assert farm.errors == []


@pytest.mark.parametrize("python", [None, "3.11", [], 7])
def test_a_worker_that_does_not_say_its_python_is_refused(python: Any) -> None:
    assert mismatch(form(), python, "node") == "the worker does not say what Python it runs"


@pytest.mark.parametrize(("workers", "enough"), [(1, 1), (3, 3), (1000, ENOUGH_REFUSED)])
def test_when_enough_workers_do_not_fit_the_request_ends(storage: Storage, workers: int, enough: int) -> None:
    farm = Farm(storage, [b"1", b"2"], workers)
    for number in range(enough):
        assert farm.errors == []
        assert farm.join(f"w{number}", python={**describe_python(), "magic": "00"}).status == 409
    assert len(farm.errors) == 2
    assert "`shell`" in farm.errors[0]
    assert farm.join("w99").status == 410
    assert storage.unfinished() == []


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
    assert farm.exchange("w1", 3).header == {"stop": True, "stored": 0, "tasks": []}


def test_a_worker_gets_no_more_than_a_fair_share(farm: Farm) -> None:
    assert farm.take("w1", 20) == [1, 2, 3, 4, 5]
    assert farm.take("w2", 20) == [6, 7]
    assert farm.take("w3", 20) == [8]


def test_an_outcome_reported_twice_is_stored_once(farm: Farm) -> None:
    farm.exchange("w1", 1)
    assert farm.exchange("w1", 0, {1: b"first"}).header["stored"] == 1
    assert farm.exchange("w1", 0, {1: b"second"}).header["stored"] == 0
    assert farm.exchange("w2", 0, {1: b"third"}).header["stored"] == 0
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
    assert outcome[2:] == (b"ZeroDivisionError", 2, "node7", 0.25, b"printed")


def test_a_stale_call_is_refused_and_changes_nothing(farm: Farm) -> None:
    farm.exchange("w1", 1, call=7)
    for stale in (7, 6, 1):
        reply = farm.exchange("w1", 1, {1: b"late"}, call=stale)
        assert reply.status == 400
        assert f"call {stale} comes after call 7" in reply.text
    assert farm.storage.count_results(farm.request) == 0
    assert farm.service.herds[farm.request].queue.leased == 1


def test_a_worker_that_does_not_name_its_tasks_lost_the_reply(farm: Farm) -> None:
    assert farm.take("w1", 2) == [1, 2]
    assert sorted(farm.take("w1", 2)) == [1, 2]


def test_what_a_worker_holds_stays_its_own_when_it_wants_more(storage: Storage) -> None:
    farm = Farm(storage, [b"small", b"x" * 5_000_000, b"x" * 5_000_000, b"small"])
    assert farm.take("w1", 1) == [1]
    assert farm.take("w1", 3, holding=[1]) == [2]  # the next is too large to come along
    assert farm.take("w2", 1) != [1]


def test_a_lost_workers_tasks_come_back_after_the_lease(farm: Farm) -> None:
    farm.exchange("w1", 2)
    farm.now += LEASE / 2
    farm.exchange("w2", 1)  # 3
    farm.now += LEASE / 2 + 1
    farm.service.tick()
    reply = farm.exchange("w3", 2)
    assert sorted(reply.header["tasks"]) == [[1, 2], [2, 2]]


def test_heartbeats_keep_the_lease(farm: Farm) -> None:
    farm.exchange("w1", 2)
    for _ in range(20):
        farm.now += heartbeat(LEASE) * 1.2
        assert farm.exchange("w1", 0, holding=[1, 2]).header == {"stored": 0, "tasks": []}
        farm.service.tick()
    assert farm.take("w2", 2) == [3, 4]


def test_time_in_which_the_server_did_not_listen_is_no_silence(farm: Farm) -> None:
    farm.exchange("w1", 2)
    farm.now += 10 * LEASE
    farm.service.renew_all()
    farm.service.tick()
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
    farm.service.tick()
    assert farm.take("w3", 1) == [1]


def test_large_arguments_are_left_in_the_store(storage: Storage) -> None:
    farm = Farm(storage, [b"x" * LARGE, b"small", b"y" * LARGE])
    for index in (1, 2, 3):
        reply = farm.exchange("w1", 1, {index - 1: io.BytesIO(b"z" * LARGE)} if index > 1 else {})
        assert [task for task, _ in reply.header["tasks"]] == [index]
        [blob] = reply.blobs
        assert isinstance(blob, bytes if index == 2 else StoredBlob)
    assert [len(result) for _, result in storage.get_results(farm.request)] == [LARGE, LARGE]


def test_an_outcome_of_no_task_is_refused_and_stores_nothing(farm: Farm) -> None:
    for outcomes in ({1: b"x", 11: b"y"}, {1: io.BytesIO(b"x"), 0: b"y"}):
        reply = farm.exchange("w1", 1, outcomes)
        assert reply.status == 400
        assert "are 1 to 10" in reply.text
        assert farm.storage.get_results(farm.request) == []


# A server that took over from another


def drain(farm: Farm, workers: Sequence[str]) -> list[int]:
    """Have these workers take what there is."""
    return sorted(index for worker in workers for index in farm.take(worker, 9))


def test_after_a_restart_what_workers_hold_is_not_leased_again(storage: Storage) -> None:
    farm = Farm(storage, [b""] * 10, workers=9)
    assert farm.take("w1", 2) == [1, 2]
    assert farm.take("w2", 2) == [3, 4]
    farm.exchange("w1", 0, {1: b"r"}, [2])
    farm.restart()
    assert farm.take("w3", 9) == [5, 6, 7]
    farm.exchange("w1", 0, holding=[2])
    farm.exchange("w2", 0, holding=[4])  # 3 was given back meanwhile
    farm.now += LEASE / 2
    for worker, held in (("w1", [2]), ("w2", [4]), ("w3", [5, 6, 7])):
        farm.exchange(worker, 0, holding=held)
    farm.now += LEASE / 2 + 1
    farm.service.tick()
    assert drain(farm, ["w4", "w5", "w6", "w7"]) == [3, 8, 9, 10]


def test_a_worker_that_tried_for_long_finds_its_task_still_its_own(storage: Storage) -> None:
    """A worker that could not reach the server tries again after up to a minute (Line._wait_longer)."""
    farm = Farm(storage, [b""] * 10, workers=9)
    assert farm.take("w1", 1) == [1]
    assert farm.take("w2", 1) == [2]
    farm.restart()
    farm.exchange("w2", 0, holding=[2])
    farm.now += LONGEST_PAUSE - 1
    farm.service.tick()
    assert 1 not in drain(farm, ["w3", "w4", "w5"])
    farm.exchange("w1", 0, holding=[1])
    assert farm.service.herds[farm.request].queue.holders["w1"].held == {1: 1}


def test_when_all_workers_were_heard_nothing_is_doubtful(storage: Storage) -> None:
    farm = Farm(storage, [b"1", b"2", b"3"], workers=2)
    assert farm.take("w1", 1) + farm.take("w2", 2) == [1, 2]
    farm.restart()
    farm.exchange("w1", 0, holding=[1])
    assert farm.take("w2", 1) == [2]


# What the scheduler says


def test_a_job_that_is_gone_ends_its_tasks_with_the_reason(farm: Farm) -> None:
    farm.heed(JobStatus(running=frozenset({"1", "2"})))
    farm.exchange("w1", 1)
    farm.heed(GONE)
    farm.exchange("w1", 0, holding=[1])
    farm.heed(GONE)
    assert farm.errors == []  # the scheduler says so, but the worker was heard in between
    farm.heed(GONE)
    assert len(farm.errors) == 10
    assert "the array job 12 has ended" in farm.errors[0]
    assert GONE.reason in farm.errors[0]
    assert farm.storage.unfinished() == []


def test_a_job_that_was_never_listed_is_given_a_second_chance(farm: Farm) -> None:
    farm.heed(GONE)
    assert farm.errors == []
    farm.heed(JobStatus(pending=True))
    farm.heed(JobStatus(running=frozenset({"1"})))
    assert farm.errors == []


def test_a_job_that_is_never_listed_ends(farm: Farm) -> None:
    farm.heed(GONE, times=2)
    assert len(farm.errors) == 10


def test_a_worker_that_joined_and_died_before_the_job_was_listed_does_not_keep_the_request(farm: Farm) -> None:
    farm.join("w1")
    farm.heed(GONE, times=2)
    assert len(farm.errors) == 10


def test_a_job_whose_workers_came_after_the_question_goes_on(farm: Farm) -> None:
    asked = farm.now
    farm.service.heed(farm.request, JobStatus(pending=True), asked)
    farm.now += 5
    farm.exchange("w1", 1)
    farm.service.heed(farm.request, GONE, asked)
    assert farm.errors == []
    assert farm.take("w2", 1) == [2]


def test_a_broken_job_tells_its_user_and_ends_if_nothing_else_is_left(farm: Farm) -> None:
    broken = "the array job 12 is in error (Eqw): no such directory"
    farm.heed(JobStatus(running=frozenset({"1"}), broken=True, reason=broken))
    assert broken in farm.note
    assert farm.errors == []
    farm.heed(JobStatus(broken=True, reason=broken))
    assert farm.errors == [f"not run: {broken}"] * 10


def test_the_tasks_of_an_element_that_ended_are_ready_at_once(farm: Farm) -> None:
    farm.exchange("w1", 2)
    farm.exchange("w2", 1)
    farm.heed(JobStatus(running=frozenset({"2"})), times=2)
    assert sorted(farm.exchange("w2", 2, holding=[3]).header["tasks"]) == [[1, 2], [2, 2]]


def test_a_task_that_loses_three_workers_is_given_up_alone(farm: Farm) -> None:
    """The tasks that were leased along with it at first are done by others."""
    for attempt in (1, 2, 3):
        reply = farm.exchange(f"w{attempt}", 1000)
        assert [1, attempt] in reply.header["tasks"]
        assert (len(reply.header["tasks"]) == 1) == (attempt == 3)
        farm.now += 200
        farm.service.tick()
    assert [error.partition(":")[0] for error in farm.errors] == ["its worker was lost 3 times, the last one on node1"]
    assert 1 not in [index for index, _ in farm.exchange("w4", 1000).header["tasks"]]


def test_a_request_that_is_removed_while_its_tasks_are_lost(farm: Farm) -> None:
    for attempt in (1, 2, 3):
        farm.exchange(f"w{attempt}", 1000)
        if attempt == 3:
            farm.storage.remove_request(farm.request)
        farm.now += 200
        farm.service.tick()
    assert farm.service.herds == {}


def test_workers_that_run_and_reach_nothing_make_a_note_that_goes_when_one_does(farm: Farm) -> None:
    running = JobStatus(running=frozenset({"1", "2"}))
    farm.heed(running)
    assert farm.note == ""
    farm.now += UNREACHED
    farm.heed(running)
    assert "2 workers run, but none has reached https://here:1" in farm.note
    farm.join("w1")
    assert farm.note == ""


def test_what_ended_is_told_once(farm: Farm) -> None:
    farm.join("w1")
    farm.heed(GONE, times=2)
    [(request, how)] = farm.service.take_ended()
    assert (request.id, how.unstarted, how.given_up) == (farm.request, True, True)
    assert farm.service.take_ended() == []


# Whatever a worker says


def test_the_workers_of_a_request_that_was_removed_are_sent_away(farm: Farm) -> None:
    """As after Ctrl-C in a submission: the array job may have been submitted all the same."""
    farm.exchange("w1", 1)
    farm.storage.remove_request(farm.request)
    for reply in (farm.exchange("w1", 1, {1: b"x"}), farm.exchange("w2", 1), farm.join("w3")):
        assert reply.status != 200 or reply.header["stop"]
    farm.heed(GONE, times=3)
    farm.service.tick()
    farm.service.take_ended()


def test_the_token_of_no_request(farm: Farm) -> None:
    assert farm.service.token(farm.request) == farm.storage.get_request(farm.request).token
    for unknown in (0, 4711, 2**40, 2**63, 10**30):
        assert farm.service.token(unknown) is None


EXCHANGE = {"worker": "w", "host": "h", "element": "1", "call": 1, "want": 1, "holding": [], "outcomes": []}
JOIN = {"worker": "w", "host": "h", "element": "1", "protocol": PROTOCOL, "python": describe_python()}
NUMBERS = st.integers() | st.floats() | st.booleans() | st.sampled_from([1, 2, 10, 11, 0, -1, 2**31, 2**63, 10**400])
SCALARS = st.none() | NUMBERS | st.text(st.characters(exclude_categories=()), max_size=9)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
INDEXES = st.sampled_from([1, 2, 3, 10, 10, 11, 0, -1, True, 2.0, 2**63])
ATTEMPTS = st.sampled_from([1, 1, 1, 2, 0, 2**31, True, 1.0])
KINDS = st.sampled_from([0, 0, 1, 2, True, 1.0, "0"])
ENTRIES = st.lists(st.tuples(INDEXES, ATTEMPTS, KINDS, NUMBERS), max_size=2)
BLOBS = st.binary(max_size=5) | st.builds(io.BytesIO, st.binary(max_size=5))


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(verb=st.sampled_from(["join", "exchange"]), data=st.data())
def test_no_header_is_an_exception(storage: Storage, verb: str, data: st.DataObject) -> None:
    farm = Farm(storage, [b""] * 10)
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
    assert reply.status in (200, 400, 409, 410, 426)
    assert reply.text or reply.status == 200
    progress = farm.storage.progress(farm.request)
    results, errors = farm.storage.get_results(farm.request), farm.storage.get_errors(farm.request)
    assert (progress.done, progress.failed) == (len(results), len(errors))
    left = sum(last - first + 1 for first, last in farm.storage.pending(farm.request))
    herd = farm.service.herds.get(farm.request)
    assert left == (herd.queue.ready + herd.queue.leased if herd else left and 10)


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
    "an unknown kind": ("exchange", {"outcomes": [[1, 1, 2, 0.1]]}, [b"r", b""]),
    "a list for a kind": ("exchange", {"outcomes": [[1, 1, [], 0.1]]}, [b"r", b""]),
    "outcomes that are no list": ("exchange", {"outcomes": 7}, []),
    "outcomes of text": ("exchange", {"outcomes": ["abcd"]}, [b"r", b""]),
    "a text for want": ("exchange", {"want": "1"}, []),
    "less than no tasks": ("exchange", {"want": -1}, []),
    "true for want": ("exchange", {"want": True}, []),
    "the call before the first": ("exchange", {"call": 0}, []),
    "holding one number": ("exchange", {"holding": [1]}, []),
    "an attempt beyond all": ("exchange", {"holding": [[1, 2**31]]}, []),
    "no worker": ("exchange", {"worker": ""}, []),
    "a worker that is a number": ("join", {"worker": 7}, []),
    "a worker of many letters": ("join", {"worker": "w" * 65}, []),
}


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
