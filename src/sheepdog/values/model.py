"""The values that pass between the rooms, and the two tables of states that everything about their lives comes from.

No I/O. The store guards its statements by the tables, the docs draw them, and a property-based test walks them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

from .. import client


class State(IntEnum):
    """What a task is doing, or how it ended."""

    PENDING = 0
    RUNNING = 1
    DONE = 2
    FAILED = 3
    CANCELLED = 4


class RequestState(IntEnum):
    """What a request is doing. The numbers are stored."""

    NEW = 0
    """Stored; its array job is being submitted."""
    SUBMITTED = 1
    ENDED = 2
    """Every task has ended; what is left on the host is to be taken away."""
    CLOSED = 3
    """Nothing is left there."""


class Kind(IntEnum):
    """How an attempt of a task ended. The first ones travel from the worker; all are stored."""

    RESULT = client.RESULT
    RAISED = client.RAISED
    DIED = client.DIED
    MEMORY = client.MEMORY
    TIMEOUT = client.TIMEOUT
    INTERRUPTED = client.INTERRUPTED
    LOST = 6
    """Its worker was lost."""
    NOT_RUN = 7
    """It was never run, or is not to run again, for a reason that is not its own."""
    CANCELLED = 8

    @property
    def state(self) -> State:
        """The state of a task whose outcome is of this kind."""
        return ENDS.get(self, State.FAILED)


ENDS = {Kind.RESULT: State.DONE, Kind.CANCELLED: State.CANCELLED}

S = TypeVar("S", State, RequestState)


class Transition(NamedTuple, Generic[S]):
    """A step in a life: what may happen in a state, where that leads, and what it means."""

    before: S
    event: str
    after: S
    meaning: str


TASK_STATES: tuple[Transition[State], ...] = (
    Transition(State.PENDING, "lease", State.RUNNING, "a worker takes it"),
    Transition(State.RUNNING, "give back", State.PENDING, "the worker has not begun it; no attempt is counted"),
    Transition(State.RUNNING, "lose", State.PENDING, "the worker is lost; it may have begun"),
    Transition(State.RUNNING, "repeat", State.PENDING, "the attempt failed, and its cause allows another"),
    Transition(State.RUNNING, "succeed", State.DONE, "the result is stored"),
    Transition(State.PENDING, "succeed", State.DONE, "the result of a worker that was believed lost is stored"),
    Transition(State.RUNNING, "fail", State.FAILED, "the error is stored"),
    Transition(State.PENDING, "fail", State.FAILED, "it is not run, or lost too many workers; the reason is stored"),
    Transition(State.RUNNING, "cancel", State.CANCELLED, "its user cancels the request"),
    Transition(State.PENDING, "cancel", State.CANCELLED, "its user cancels the request"),
    Transition(State.FAILED, "retry", State.PENDING, "its user wants it again; the error goes into the history"),
    Transition(State.CANCELLED, "retry", State.PENDING, "its user wants it again"),
)
"""The life of a task. There is no way out of DONE: the first result stays."""

REQUEST_STATES: tuple[Transition[RequestState], ...] = (
    Transition(RequestState.NEW, "submit", RequestState.SUBMITTED, "its array job is in the scheduler's hands"),
    Transition(RequestState.NEW, "end", RequestState.ENDED, "its tasks end without having been submitted"),
    Transition(RequestState.SUBMITTED, "end", RequestState.ENDED, "its last task ends"),
    Transition(RequestState.ENDED, "clear", RequestState.CLOSED, "what was left on the host is gone"),
    Transition(RequestState.ENDED, "retry", RequestState.NEW, "its user wants tasks again; it gets a new token"),
    Transition(RequestState.CLOSED, "retry", RequestState.NEW, "its user wants tasks again; it gets a new token"),
)
"""The life of a request."""


def before(table: Iterable[Transition[S]], event: str) -> list[S]:
    """Return the states in which something may happen."""
    return [step.before for step in table if step.event == event]


def after(table: Iterable[Transition[S]], event: str) -> S:
    """Return the state to which something leads."""
    [state] = {step.after for step in table if step.event == event}
    return state


class StoredBlob(NamedTuple):
    """A large blob in the store, to be read in pieces."""

    table: str
    column: str
    row: int
    length: int


class Outcome(NamedTuple):
    """How a task, or one attempt of it, ended. It is made by name; the first fields are those of the worker's.

    task is its index; value the serialised result, or the error as text in UTF-8, after which may come a NUL and the
    pickle of the exception; seconds its run time; attempts how many were begun until then, as far as is known.
    signal is what its process died of, status what it exited with, peak the bytes of memory that it had at
    most, if this task made it more; 0 if not, or if nobody knows.
    """

    task: int
    attempt: int = 1
    kind: Kind = Kind.RESULT
    seconds: float = 0.0
    value: Any = b""  # bytes, or a binary file if it is large
    output: bytes = b""
    host: str = ""
    attempts: int = 0
    signal: int = 0
    """0 if it died of none, or that is not known."""
    status: int | None = None
    """None if it is not known."""
    peak: int = 0
    """0 if it is not known."""

    @property
    def text(self) -> str:
        """The error as text."""
        if isinstance(self.value, bytes):
            return self.value.partition(b"\0")[0].decode("utf-8", "replace")
        return self.value if isinstance(self.value, str) else ""

    @property
    def exception(self) -> bytes:
        """The pickle of what the function raised; empty if there is none."""
        raised = self.kind in (Kind.RAISED, Kind.MEMORY) and isinstance(self.value, bytes)
        return self.value.partition(b"\0")[2] if raised else b""


class Cause(NamedTuple):
    """Why tasks have no result: how they ended, and the first line of their errors."""

    kind: Kind
    line: str
    tasks: int
    """How many there are."""
    begun: int = 0
    """How many of these may have been begun."""


ALIKE = "tasks failed alike: "
"""What the error of a task says that was not run because the first ones of its request failed for one cause."""


class Report(NamedTuple):
    """What a task said while it ran.

    number grows from each report of the database to the next; task is the task's index; value the serialised value;
    stored when it was, in Unix time.
    """

    number: int
    task: int
    attempt: int
    value: bytes
    stored: float


class Progress(NamedTuple):
    """How far a request is. note is what its user should know meanwhile, or empty."""

    tasks: int
    done: int
    failed: int
    cancelled: int = 0
    note: str = ""
    open: bool = False
    """Whether there may be more tasks."""
    running: int = 0
    """How many tasks workers run now."""
    workers: int = 0
    """How many workers are there now."""
    hosts: tuple[str, ...] = ()
    """Where they are."""

    @property
    def waiting(self) -> int:
        """How many tasks neither run nor have ended."""
        return self.tasks - self.ended - self.running

    @property
    def ended(self) -> int:
        """How many tasks have ended."""
        return self.done + self.failed + self.cancelled

    @property
    def finished(self) -> bool:
        """Whether every task has ended, and no other will come."""
        return self.ended >= self.tasks and not self.open

    def __str__(self) -> str:
        cancelled = f", {self.cancelled} cancelled" if self.cancelled else ""
        return f"{self.ended}/{self.tasks} results, {self.failed} errors{cancelled}"

    @property
    def summary(self) -> str:
        """The text that also tells how many tasks run, on how many hosts, and how many wait."""
        where = f" on {len(self.hosts)} host{'s' * (len(self.hosts) != 1)}" if self.hosts else ""
        now = [f"{self.running} run{where}"] * bool(self.running) + [f"{self.waiting} wait"] * bool(self.waiting)
        return "; ".join([str(self), *([", ".join(now)] if now else [])])


class Request(NamedTuple):
    """One call of map, without its tasks. token authenticates its workers; form says how the function travels."""

    id: int
    name: str
    state: RequestState
    token: str
    form: dict[str, Any]
    options: dict[str, Any]
    tasks: int
    created: float
    submitted: float | None
    leased: int
    """The highest index that was ever leased to a worker."""
    gave_up: bool
    """Its workers ended before its tasks: what they said is of interest."""
    fruitless: int = 0
    """Submissions of workers in a row that were of no use, or not for long."""
    open: bool = False
    """Whether there may be more tasks: its maker adds them as they come."""
    ended: float | None = None
    """When its last task ended."""

    def __repr__(self) -> str:
        """Return what it is, without its secret."""
        shown = (f"{name}={value!r}" for name, value in self._asdict().items() if name != "token")
        return f"Request({', '.join(shown)})"


@dataclass(frozen=True, slots=True)
class ArrayJob:
    """An array job of a request. There are several if workers are submitted again; number counts from 1."""

    number: int
    name: str
    directory: str
    """The directory of the job's files on the host."""
    workers: int
    level: int = 0
    """How often the resources were raised for it."""
    job: str = ""
    """The array job's id in the words of its scheduler; empty until it is known."""
    urls: tuple[str, ...] = ()
    """The addresses that its workers call."""
    ended: float | None = None
    """When the scheduler had nothing left of it."""


class Fate(StrEnum):
    """Why an element of an array job has ended."""

    DELETED = "somebody deleted it"
    ITSELF = "its worker ended, and said that all is well"
    OTHER = "anything else: a limit, a failure, its node"


class End(NamedTuple):
    """How an element of an array job ended, in the words of its scheduler. Its name and host are empty if not known."""

    text: str
    fate: Fate = Fate.OTHER
    element: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What a scheduler says of one array job.

    broken elements will not run unless somebody mends them; reason says why, in the scheduler's words.
    """

    pending: int = 0
    """How many elements wait."""
    running: frozenset[str] = frozenset()
    """The names of the elements that run."""
    broken: bool = False
    held: bool = False
    """Waiting elements are on hold."""
    reason: str = ""
    started: bool = False
    """Something of it is known to have run, though it is gone."""
    explained: bool = False
    """reason says why its workers have ended, and it is not their Python."""
    deleting: frozenset[str] = frozenset()
    """The elements that run and that somebody has deleted."""
    ends: tuple[End, ...] = ()
    """How its elements ended that is gone, as far as that is known."""
    unlimited: bool = False
    """It is gone, and none of its elements had come to a limit, but for those of which ends says so."""

    @property
    def gone(self) -> bool:
        """Whether the scheduler has nothing left of this job."""
        return not (self.pending or self.running or self.broken)
