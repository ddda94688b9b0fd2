"""Whoever starts the workers: a scheduler submits an array job, says what became of it, and cancels it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..deployment import Host
from ..errors import ConfigError
from ..job_file import Job
from ..model import JobStatus


class Scheduler(Protocol):
    """The three verbs. A job is known by the id that submit returned."""

    name: str
    interval: float
    """The shortest time between two questions for the status, in seconds."""

    def files(self, job: Job) -> dict[str, bytes]:
        """Return the files to upload for a job, submit.sh among them."""

    def submit(self, host: Host, job: Job, files: dict[str, bytes]) -> tuple[str, str]:
        """Upload the files and submit the job; return its id and its directory. Safe to repeat."""

    def status(self, host: Host, jobs: Sequence[str]) -> dict[str, JobStatus]:
        """Return what the host knows of these jobs."""

    def cancel(self, host: Host, job: str) -> None:
        """Take the job away, whatever it is doing."""


def make_scheduler(name: str, interval: float = 30.0, directory: str = "") -> Scheduler:
    """Return the scheduler of that name. directory is where local workers run."""
    if name == "local":
        from .local import LocalScheduler

        return LocalScheduler(directory)
    if name == "gridengine":
        from .gridengine import GridEngineScheduler

        return GridEngineScheduler(interval)
    raise ConfigError(f"scheduler is {name!r}; it must be 'local' or 'gridengine'")
