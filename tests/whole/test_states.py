"""The two tables of states against the service and its store: whatever happens, each step is one of the tables.

A simulated cluster and simulated workers keep to the protocol. The rest is real: the store is a file, and every
decision goes through the writer's transaction.
"""

import runpy
import shutil
import tempfile
from collections import Counter
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sheepdog.client import CHECKPOINT, PROTOCOL, REPORT, Message, describe_python
from sheepdog.errors import StorageError
from sheepdog.server.calls import Call, Reply
from sheepdog.server.decide import arrays, clock, exchange
from sheepdog.server.decide.service import Service
from sheepdog.server.writer import Writer
from sheepdog.storage import Storage
from sheepdog.storage.schema import SPAN
from sheepdog.values.model import (
    REQUEST_STATES,
    TASK_STATES,
    ArrayJob,
    JobStatus,
    Kind,
    Outcome,
    RequestState,
    State,
    after,
    before,
)
from sheepdog.values.serialisation import form

pytestmark = pytest.mark.slow

LEASE = 150.0
OWN = [Kind.RAISED, Kind.DIED, Kind.TIMEOUT]
TASK_STEPS = {(step.before, step.after) for step in TASK_STATES}
REQUEST_STEPS = {(step.before, step.after) for step in REQUEST_STATES}
OPEN = (RequestState.NEW, RequestState.SUBMITTED)

# The tables themselves


@pytest.mark.parametrize("table", [TASK_STATES, REQUEST_STATES])
def test_an_event_leads_to_one_state(table: Any) -> None:
    for event in {step.event for step in table}:
        assert after(table, event) in {step.after for step in table}
        states = before(table, event)
        assert len(states) == len(set(states))


def test_a_result_stays() -> None:
    assert State.DONE not in {step.before for step in TASK_STATES}


@pytest.mark.parametrize(
    ("table", "first"), [(TASK_STATES, State.PENDING), (REQUEST_STATES, RequestState.NEW)], ids=["task", "request"]
)
def test_every_state_can_be_reached_and_from_each_an_end(table: Any, first: State | RequestState) -> None:
    reached = {first}
    for _ in table:
        reached |= {step.after for step in table if step.before in reached}
    assert reached == set(type(first))
    ends = {State.DONE} if first is State.PENDING else {RequestState.CLOSED}
    for _ in table:
        ends |= {step.before for step in table if step.after in ends}
    assert ends == set(type(first))


@pytest.mark.parametrize("event", sorted({step.event for step in REQUEST_STATES} - {"submit", "retry"}))
@pytest.mark.parametrize("state", RequestState)
def test_the_store_lets_happen_what_the_table_has(tmp_path: Path, event: str, state: RequestState) -> None:
    with Storage(tmp_path / "db") as storage:
        request = storage.new_request(b"", b"", [b""])
        storage.db.execute("UPDATE request SET state = ?", (state,))
        allowed = state in before(REQUEST_STATES, event)
        assert storage.step(request, event) is allowed
        assert storage.get_request(request).state == (after(REQUEST_STATES, event) if allowed else state)


@pytest.mark.parametrize("kind", Kind)
def test_the_store_retries_what_the_table_has(tmp_path: Path, kind: Kind) -> None:
    with Storage(tmp_path / "db") as storage:
        request = storage.new_request(b"", b"", [b""])
        storage.store_outcomes(request, [Outcome(task=1, kind=kind, value=b"")])
        again = kind.state in before(TASK_STATES, "retry")
        assert storage.retry(request, {}, failed=True) == again
        assert storage.pending(request) == [(1, 1)] * again


@pytest.mark.parametrize(("name", "table"), [("task", TASK_STATES), ("request", REQUEST_STATES)])
def test_the_docs_draw_the_table(name: str, table: Any) -> None:
    docs = Path(__file__).parents[2] / "docs"
    assert f".. states:: {name}\n" in (docs / "how-it-works.rst").read_text()
    drawn = list(runpy.run_path(str(docs / "conf.py"))["table"](table))
    for step in table:
        row = [f"     - {text}" for text in (step.event, step.after.name.lower(), step.meaning)]
        assert any(drawn[start : start + 3] == row for start in range(len(drawn))), step


# Whatever happens


@dataclass
class Worker:
    """A worker that keeps to the protocol. held: what it has been given and not reported; begun: of that."""

    name: str
    array: int
    element: str
    calls: int = 0
    held: dict[int, int] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    unsent: list[tuple[int, int, Kind, bytes]] = field(default_factory=list)
    unsaid: list[Message] = field(default_factory=list)
    leaving: bool = False


FATES = ["", "", "", "the reply is lost", "the call is lost", "the disk is full"]
FROM_WORKERS = [Kind.RESULT] * 3 + [kind for kind in Kind if kind <= Kind.INTERRUPTED]
PENDING, RUNNING, AGAIN, STUCK = "pending", "running", "pending again", "running, says the scheduler"
PICK = st.integers(0, 1000)


class Requests(RuleBasedStateMachine):
    """One request, from its submission through all that can befall it."""

    storage: Storage

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.now = 1000.0
        self.workers: dict[str, Worker] = {}
        self.cluster: dict[int, dict[str, str]] = {}  # array job -> element -> state
        self.sent: list[Call] = []
        self.begun: Counter[int] = Counter()  # how often a task was begun
        self.failed: dict[int, set[tuple[str, int]]] = {}  # task -> its own failures, since the last retry
        self.seen: dict[int, tuple[State, bytes | None]] = {}
        self.seen_request = RequestState.NEW
        self.said: list[Message] = []
        self.checkpoints: dict[int, Message] = {}  # the latest that was stored of each task
        self.number = 0
        self.restart()

    @initialize(
        tasks=st.integers(1, 6),
        retries=st.integers(0, 2),
        max_losses=st.integers(1, 3),
        on_oom=st.sampled_from([None, "2x"]),
        on_walltime=st.sampled_from([None, "2x"]),
        resubmissions=st.integers(0, 3),
        workers=st.integers(1, 3),
        running=st.booleans(),
    )
    def dispatch(self, tasks: int, workers: int, running: bool, **options: Any) -> None:
        self.options = {"lease": LEASE, "retry_delay": 5.0, "fail_fast": 0, **options}
        self.tasks, self.size = tasks, workers
        self.request = self.storage.new_request(b"f", b"", [b"x"] * tasks, form=form(), options=self.options)
        self.seen = dict.fromkeys(range(1, tasks + 1), (State.PENDING, None))
        if running:
            self.submit()
            self.time_passes(1.0)
            for array, element in self.waiting():
                self.start(int(element) - 1, array)
            for worker in list(self.workers.values()):
                self.talk(worker, 3)

    def teardown(self) -> None:
        if hasattr(self, "request"):
            self.finish_all()
        self.storage.close()
        shutil.rmtree(self.folder)

    # --- the machinery

    def restart(self) -> None:
        if hasattr(self, "storage"):
            self.storage.close()
        self.storage = Storage(Path(self.folder) / "db")
        self.storage.db.execute("PRAGMA synchronous = OFF")  # the power does not fail here
        self.service = Service(self.storage, lambda: self.now)
        self.writer = Writer(self.storage.dbfile)

    def decide(self, decide: Any) -> Any:
        """Have something decided as the writer does it."""
        future: Future[Any] = Future()
        self.service = self.writer._decide(self.service, [(decide, future)])
        return future.result(0)

    def call(self, call: Call, full: bool = False) -> Reply | None:
        """Make a call; None if the disk was full."""

        def decide(service: Service) -> Reply:
            reply = exchange.handle(service, call)
            if full:
                raise StorageError("the disk is full")
            return reply

        try:
            reply: Reply = self.decide(decide)
        except StorageError:
            return None
        return reply

    def about(self, worker: Worker) -> dict[str, Any]:
        return {"worker": worker.name, "host": "node", "pid": 1, "element": worker.element, "array": worker.array}

    def pick(self, number: int) -> Worker:
        return list(self.workers.values())[number % len(self.workers)]

    @property
    def state(self) -> RequestState:
        return self.storage.get_request(self.request).state

    # --- the cluster

    @precondition(lambda self: self.state == RequestState.NEW)
    @rule()
    def submit(self) -> None:
        """Whoever dispatched the request submits its workers, from another process."""
        with Storage(self.storage.dbfile) as other:
            array = other.new_array(self.request, ArrayJob(0, "n", "d", self.size))
            assert other.set_submitted(self.request, replace(array, job=f"job{array.number}"))
        self.cluster[array.number] = dict.fromkeys(map(str, range(1, self.size + 1)), PENDING)

    @rule(outcome=st.sampled_from(["submitted", "submitted", "refused", "unreachable", "the server dies", "late"]))
    def resubmit(self, outcome: str) -> None:
        for wanted in self.decide(clock.wanted):
            planned = ArrayJob(0, "n", "d", wanted.workers, wanted.level)
            array = self.decide(lambda service, array=planned: arrays.plan(service, self.request, array))
            elements = dict.fromkeys(map(str, range(1, array.workers + 1)), PENDING)
            if outcome in ("refused", "unreachable"):
                self.decide(
                    lambda service, number=array.number: arrays.not_submitted(
                        service, self.request, number, "no", outcome == "refused"
                    )
                )
                continue
            self.cluster[array.number] = elements
            if outcome == "the server dies":  # ... before it has heard of the job
                self.restart()
                return
            if outcome == "late":  # a worker calls before the submission has returned
                self.start(0, array.number)
            array = replace(array, job=f"job{array.number}")
            if not self.decide(lambda service, array=array: arrays.submitted(service, self.request, array)):
                del self.cluster[array.number]

    @precondition(lambda self: self.waiting())
    @rule(number=PICK)
    def start_worker(self, number: int) -> None:
        array, element = self.waiting()[number % len(self.waiting())]
        self.start(int(element) - 1, array)

    def waiting(self) -> list[tuple[int, str]]:
        return [
            (array, one)
            for array, elements in self.cluster.items()
            for one in elements
            if elements[one] in (PENDING, AGAIN)
        ]

    def start(self, position: int, array: int) -> None:
        self.number += 1
        element = str(position + 1)
        self.cluster[array][element] = RUNNING
        worker = self.workers[f"w{self.number}"] = Worker(f"w{self.number}", array, element)
        about = {**self.about(worker), "protocol": PROTOCOL, "python": describe_python()}
        reply = self.call(Call(self.request, "join", about))
        if reply is None or reply.status == 410:
            self.end_worker(worker)

    def end_worker(self, worker: Worker, place: str | None = None) -> None:
        """It is no more. The scheduler may believe that it runs, for ever."""
        del self.workers[worker.name]
        others = [
            each for each in self.workers.values() if (each.array, each.element) == (worker.array, worker.element)
        ]
        if worker.array in self.cluster and not others:
            self.cluster[worker.array].pop(worker.element, None)
            if place:
                self.cluster[worker.array][worker.element] = place

    @precondition(lambda self: self.workers)
    @rule(number=PICK, place=st.sampled_from([None, None, AGAIN, STUCK]))
    def die(self, number: int, place: str | None) -> None:
        """Killed; or rescheduled; or with its node, which the scheduler does not notice."""
        self.end_worker(self.pick(number), place)

    @precondition(lambda self: self.workers)
    @rule(number=PICK)
    def start_another_in_its_place(self, number: int) -> None:
        """Its node is cut off, so the scheduler runs the element elsewhere; it lives on."""
        worker = self.pick(number)
        if worker.array in self.cluster:
            self.start(int(worker.element) - 1, worker.array)

    @rule()
    def ask_the_scheduler(self) -> None:
        for watched in self.decide(clock.watched):
            numbers = [array.number for array in watched.arrays]
            said = {number: self.status(self.cluster.get(number, {})) for number in numbers}
            self.decide(lambda service, said=said: clock.heed(service, self.request, said, self.now))

    @staticmethod
    def status(elements: dict[str, str]) -> JobStatus:
        running = frozenset(one for one, state in elements.items() if state not in (PENDING, AGAIN))
        return JobStatus(len(elements) - len(running), running, reason="" if elements else "it has ended")

    @rule(seconds=st.sampled_from([1.0, 20.0, 70.0, 151.0, 700.0]), full=st.sampled_from([False, False, True]))
    def time_passes(self, seconds: float, full: bool = False) -> None:
        self.now += seconds
        self.storage.db.execute(f"PRAGMA query_only = {full}")  # nothing can be written
        with suppress(StorageError):
            clock.tick(self.service)
        self.storage.db.execute("PRAGMA query_only = OFF")

    @rule()
    def restart_the_server(self) -> None:
        self.restart()

    # --- the workers

    @precondition(lambda self: self.workers)
    @rule(
        number=PICK,
        want=st.integers(0, 3),
        fate=st.sampled_from(FATES),
        leaving=st.sampled_from([False, False, False, True]),
    )
    def exchange(self, number: int, want: int, fate: str, leaving: bool) -> None:
        self.talk(self.pick(number), want, fate, leaving)

    def talk(self, worker: Worker, want: int, fate: str = "", leaving: bool = False) -> None:
        worker.calls += 1
        worker.leaving |= leaving
        sent, said = list(worker.unsent), list(worker.unsaid)
        header = {
            **self.about(worker),
            "call": worker.calls,
            "want": 0 if worker.leaving else want,
            "holding": [[task, task, attempt] for task, attempt in worker.held.items()],
            "outcomes": [[task, attempt, int(kind), 0.1] for task, attempt, kind, _ in sent],
            "messages": [[*message[:-1]] for message in said],
            "leaving": {"reason": "qdel", "seconds": 30} if worker.leaving else None,
        }
        blobs = [blob for *_, value in sent for blob in (value, b"")] + [message.value for message in said]
        call = Call(self.request, "exchange", header, blobs)
        if fate == "the call is lost":
            return
        self.sent.append(call)
        reply = self.call(call, fate == "the disk is full")
        if reply is None or fate == "the reply is lost":
            return
        if reply.status != 200:
            assert reply.status == 410, reply.text
            assert self.state not in OPEN
            self.end_worker(worker)
            return
        worker.unsent, worker.unsaid = worker.unsent[len(sent) :], worker.unsaid[len(said) :]
        assert reply.header["stored"] + len(reply.header.get("late", [])) == len(sent)
        for task in reply.header.get("drop", []):
            worker.begun.discard(task)
            del worker.held[task]
        for task, attempt in reply.header["tasks"]:
            assert task not in worker.held
            assert task not in self.outcomes(), "a task that has ended is not to be run"
            worker.held[task] = attempt
        again = reply.header.get("checkpoints", [])
        assert len(reply.blobs) == len(reply.header["tasks"]) + len(again)
        given = dict(zip(again, reply.blobs[len(reply.header["tasks"]) :], strict=True))
        stored = self.stored_checkpoints()
        assert given == {task: stored[task].value for task, _ in reply.header["tasks"] if task in stored}
        if reply.header.get("stop"):
            self.end_worker(worker)

    @precondition(lambda self: any(worker.held.keys() - worker.begun for worker in self.workers.values()))
    @rule(number=PICK)
    def begin(self, number: int) -> None:
        able = [worker for worker in self.workers.values() if worker.held.keys() - worker.begun]
        worker = able[number % len(able)]
        task = min(worker.held.keys() - worker.begun)
        worker.begun.add(task)
        self.begun[task] += 1

    @precondition(lambda self: any(worker.held for worker in self.workers.values()))
    @rule(number=PICK, kind=st.sampled_from(FROM_WORKERS), fate=st.sampled_from(FATES), want=st.integers(0, 3))
    def work(self, number: int, kind: Kind, fate: str, want: int) -> None:
        able = [worker for worker in self.workers.values() if worker.held]
        worker = able[number % len(able)]
        task = min(worker.begun or worker.held)
        if task not in worker.begun:
            self.begun[task] += 1
        self.report(worker, task, kind)
        self.talk(worker, want, fate)
        if fate == "the reply is lost":
            self.talk(worker, want)

    @precondition(lambda self: any(worker.begun for worker in self.workers.values()))
    @rule(number=PICK, kind=st.sampled_from([REPORT, CHECKPOINT]), fate=st.sampled_from(FATES))
    def say(self, number: int, kind: int, fate: str) -> None:
        able = [worker for worker in self.workers.values() if worker.begun]
        worker = able[number % len(able)]
        task = min(worker.begun)
        self.number += 1
        message = Message(task, worker.held[task], kind, self.number, b"%s %d" % (worker.name.encode(), self.number))
        worker.unsaid.append(message)
        self.said.append(message)
        self.talk(worker, 0, fate)

    def report(self, worker: Worker, task: int, kind: Kind) -> None:
        worker.begun.discard(task)
        attempt = worker.held.pop(task)
        self.number += 1
        worker.unsent.append((task, attempt, kind, b"%s %d" % (worker.name.encode(), self.number)))
        if kind not in (Kind.RESULT, Kind.INTERRUPTED):
            self.failed.setdefault(task, set()).add((worker.name, attempt))

    @precondition(lambda self: self.workers)
    @rule(number=PICK)
    def give_back(self, number: int) -> None:
        worker = self.pick(number)
        worker.held = {task: attempt for task, attempt in worker.held.items() if task in worker.begun}

    @precondition(lambda self: self.sent)
    @rule(number=PICK)
    def an_old_call_comes_again(self, number: int) -> None:
        call = self.sent[-1 - number % min(len(self.sent), 20)]
        reply = self.call(call)
        assert reply is not None
        if reply.status == 410:
            assert self.state not in OPEN

    # --- the user

    @precondition(lambda self: self.state in OPEN)
    @rule()
    def cancel(self) -> None:
        with Storage(self.storage.dbfile) as other:
            other.end_pending(self.request, Kind.CANCELLED, "cancelled")

    @precondition(lambda self: self.state not in OPEN)
    @rule(failed=st.booleans())
    def retry(self, failed: bool) -> None:
        with Storage(self.storage.dbfile) as other:
            if other.retry(self.request, self.options, failed):
                for task in self.failed.keys() - self.outcomes().keys():
                    del self.failed[task]
                self.workers.clear()  # their token is void
                self.sent.clear()
                self.cluster.clear()

    @precondition(lambda self: self.state == RequestState.ENDED)
    @rule()
    def clear(self) -> None:
        for request, left, waiting in self.decide(arrays.left_over):
            for array in left:
                elements = self.cluster.get(array.number, {})
                if array.job:
                    assert waiting or array.ended or PENDING not in elements.values()
                self.cluster.pop(array.number, None)
            self.decide(lambda service, request=request: arrays.clear(service, request.id))

    # --- what must be true

    def outcomes(self) -> dict[int, Outcome]:
        ended = [*self.storage.outcomes(self.request, [(1, self.tasks)])]
        found = {
            one.task: Outcome(task=one.task, kind=one.kind, value=one.value, attempt=one.attempt, attempts=one.attempts)
            for one in ended
        }
        assert len(found) == len(ended)
        return found

    def stored_checkpoints(self) -> dict[int, Message]:
        rows = self.storage.db.execute("SELECT id, value FROM checkpoint").fetchall()
        by_value = {message.value: message for message in self.said}
        found = {row % SPAN: by_value[value] for row, value in rows}
        assert all(task == message.task and message.kind == CHECKPOINT for task, message in found.items())
        return found

    @invariant()
    def agree_on_what_was_said(self) -> None:
        if not hasattr(self, "request"):
            return
        by_value = {message.value: message for message in self.said}
        reports = [by_value[each.value] for each in self.storage.reports(self.request)]
        assert len({*reports}) == len(reports), "a report is stored once"
        for task in range(1, self.tasks + 1):
            mine = [(message.attempt, message.number) for message in reports if message.task == task]
            assert mine == sorted(mine), "an attempt says nothing after another has begun to"
        stored, done = self.stored_checkpoints(), [o.task for o in self.outcomes().values() if o.kind == Kind.RESULT]
        assert not stored.keys() & {*done}
        for task, old in self.checkpoints.items():
            assert task in done or stored[task][1::2] >= old[1::2], "a checkpoint gives way to a later one"
        self.checkpoints = stored

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "request"):
            return
        outcomes = self.outcomes()
        pending = [index for index in range(1, self.tasks + 1) if index not in outcomes]
        state = self.state
        assert state == self.seen_request or (self.seen_request, state) in REQUEST_STEPS
        self.seen_request = state
        assert (state in OPEN) == bool(pending)

        self.service.open_requests()
        live = self.service.find(self.request)
        assert (live is None) == (not pending)
        held: dict[int, str] = {}
        if live is not None:
            queue = live.queue
            ranges = [each for tasks in (*queue._ready.values(), queue._doubtful) for each in tasks]
            places = [index for first, last in ranges for index in range(first, last + 1)]
            places += queue._due
            held = {index: worker for worker, holder in queue.holders.items() for index in holder.held}
            places += [index for holder in queue.holders.values() for index in holder.held]
            assert sorted(places) == pending, "each task without an outcome is in one place"
            assert held == queue._holder_of
            assert queue.size == len(pending)
            assert not queue.empty

        for index, (old, value) in self.seen.items():
            outcome = outcomes.get(index)
            new = outcome.kind.state if outcome else State.RUNNING if index in held else State.PENDING
            assert new == old or (old, new) in TASK_STEPS, f"task {index}: {old.name} -> {new.name}"
            if new == old and value is not None:
                assert outcome is not None
                assert outcome.value == value, "an outcome stays"
            self.seen[index] = new, outcome.value if outcome else None

        counts = Counter(outcome.kind.state for outcome in outcomes.values())
        progress = self.storage.progress(self.request)
        assert (progress.done, progress.failed, progress.cancelled) == tuple(
            counts[state] for state in (State.DONE, State.FAILED, State.CANCELLED)
        )
        recorded = dict(
            self.storage.db.execute("SELECT id % 4294967296, max(attempt) FROM attempt GROUP BY id").fetchall()
        )
        for index, outcome in outcomes.items():
            attempts = max(outcome.attempt, outcome.attempts, recorded.get(index, 0))
            assert attempts >= self.begun[index], f"task {index} was begun more often than is recorded"
            if outcome.kind in (*OWN, Kind.MEMORY):
                assert len(self.failed[index]) > self.options["retries"], "its last retry has not been used"

    def finish_all(self) -> None:
        """Whatever has happened: with time and workers, every task ends."""
        for _ in range(100):
            if self.state not in OPEN:
                break
            if self.state == RequestState.NEW:
                self.submit()
            for array, element in self.waiting():
                self.start(int(element) - 1, array)
            for worker in list(self.workers.values()):
                for task in list(worker.held):
                    if task not in worker.begun:
                        self.begun[task] += 1
                    self.report(worker, task, Kind.RESULT)
                self.talk(worker, 3)
                if worker.leaving and worker.name in self.workers and not (worker.held or worker.unsent):
                    self.end_worker(worker)
            self.time_passes(35.0)
            self.agree()
            self.ask_the_scheduler()
            self.agree()
            self.resubmit("submitted")
            self.agree()
        assert self.state not in OPEN, "the request does not end"
        self.clear()
        self.agree()


TestRequests = Requests.TestCase
TestRequests.settings = settings(max_examples=150, stateful_step_count=50, deadline=None, derandomize=True)
