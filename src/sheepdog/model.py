"""The values that pass between the rooms: requests, outcomes, progress. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from .client import ERROR, RESULT


class State(IntEnum):
    """How a task ended. The numbers are stored, and travel from the worker."""

    DONE = RESULT
    FAILED = ERROR


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A large blob in the store, to be read in pieces."""

    table: str
    column: str
    row: int
    length: int


class Outcome(NamedTuple):
    """How a task ended.

    task is its index; value the serialised result, or the error as text in UTF-8; seconds its run time.
    """

    task: int
    state: State
    value: Any  # bytes, or a binary file if it is large
    attempt: int = 1
    host: str = ""
    seconds: float = 0.0
    output: bytes = b""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a request is. note is what its user should know meanwhile, or empty."""

    tasks: int
    done: int
    failed: int
    note: str = ""

    @property
    def finished(self) -> bool:
        """Whether every task has ended."""
        return self.done + self.failed >= self.tasks

    def __str__(self) -> str:
        return f"{self.done + self.failed}/{self.tasks} results, {self.failed} errors"


@dataclass(frozen=True, slots=True)
class Request:
    """One call of map, without its tasks. token authenticates its workers; form says how the function travels."""

    id: int
    name: str
    token: str
    form: dict[str, Any]
    options: dict[str, Any]
    tasks: int
    created: float
    submitted: float | None
    job: str
    """The array job's id in the words of its scheduler; empty before submission."""
    directory: str
    """The directory of the job's files on the host."""
    workers: int
    """The size of the array job."""
    leased: int
    """The highest index that was ever leased to a worker."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What a scheduler says of one array job: the names of its elements, by what they are doing.

    broken elements will not run unless somebody mends them; reason says why, in the scheduler's words.
    """

    pending: bool = False
    running: frozenset[str] = frozenset()
    broken: bool = False
    reason: str = ""

    @property
    def gone(self) -> bool:
        """Whether the scheduler has nothing left of this job."""
        return not (self.pending or self.running or self.broken)
