"""Facts: what a person may want to see of a request. Its workers, and what is rare and has happened.

The store keeps them; the server notes them, a second late at most.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class What(StrEnum):
    """Which kind of event."""

    SUBMITTED = "array job submitted"
    SUBMITTING = "workers submitted again"
    NOT_SUBMITTED = "workers not submitted"
    JOB_ENDED = "array job ended"
    JOINED = "worker joined"
    CALLS = "worker calls"
    REFUSED = "worker refused"
    LEAVING = "worker leaving"
    LOST = "worker lost"
    DISMISSED = "worker dismissed"
    SET_ASIDE = "host set aside"
    WELL_AGAIN = "host well again"
    STOOD_IN = "module stood in for"
    REPEATED = "task repeated"
    GIVEN_UP = "task given up"
    TAKEN_BACK = "tasks taken back"
    STOPPED = "request given up"
    ENDED = "request ended"


class WorkerFacts(NamedTuple):
    """What is known of a worker. Times are in Unix time."""

    name: str
    """Its own: a UUID."""
    array: int
    """The number of its array job."""
    element: str
    """Its element of that, in the scheduler's words."""
    host: str
    python: str
    """The version of its Python; empty if it is not known."""
    joined: float
    """When it called first."""
    heard: float
    """When it called last."""
    ended: float | None = None
    """Since when it is no more."""
    why: str = ""
    """Why it is no more, in words."""
    task: int = 0
    """The index of the task that it runs now; 0 if it runs none."""
    attempt: int = 0
    since: float | None = None
    """When that task was begun, or first reported to be."""


class Event(NamedTuple):
    """Something that happened to a request, to a task of it or to a worker."""

    at: float
    """When, in Unix time."""
    what: str
    """Which kind of event."""
    task: int | None = None
    """The index of the task; None if it is of none."""
    worker: str = ""
    """The worker's name; empty if it is of none."""
    text: str = ""
    """What there is to say of it."""
    number: int = 0
    """It grows from each event of the database to the next. The store gives it."""
