"""Whoever starts the workers: a scheduler submits an array job, says what became of it, and cancels it.

site     what the site calls what a job needs
avoid    the options that keep a job from some hosts
files    what to upload for a job, the script that submits it among them
submit   upload and submit, in one round trip; safe to repeat
job_id   the id in what submitting printed
status   what the host knows of some jobs
ends     how the elements of a job ended
hopeless why a job can never start
explain  why a job waits
cancel   take jobs away
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from ..config import Config
from ..config.registry import BATCH_SYSTEMS, SCHEDULERS
from ..deployment import Host
from ..errors import ConfigError
from ..values.model import ArrayJob, End, JobStatus
from .job_file import Job
from .site import Site

if TYPE_CHECKING:
    from .batch import BatchSystem


class Scheduler(Protocol):
    """The verbs. A job is known by the id that submit returned."""

    name: str
    interval: float
    """The shortest time between two questions for the status, in seconds."""
    notice: float
    """The seconds between a signal that warns a worker and the one that ends it, at least and in general."""

    def site(self, host: Host, config: Config) -> Site:
        """Return what the site calls what the options ask for; the host is asked only if they do not say it."""

    def avoid(self, config: Config, hosts: Sequence[str]) -> Config:
        """Return the options with which a job is on none of these hosts; unchanged if they cannot say so."""

    def files(self, job: Job, config: Config, site: Site | None = None) -> dict[str, bytes]:
        """Return the files to upload for a job, submit.sh among them. Without a site, the usual names are taken."""

    def submit(self, host: Host, job: Job, files: dict[str, bytes]) -> tuple[str, str]:
        """Upload the files and submit the job; return its id and its directory. Safe to repeat.

        Raises SchedulerError if it is refused: SchedulerBusy if it may be taken later, TooManyWorkers if fewer fit.
        """

    def job_id(self, text: str) -> str:
        """Return the id in what submitting printed."""

    def status(self, host: Host, jobs: Sequence[str]) -> dict[str, JobStatus]:
        """Return what the host says of these jobs. One of which it says nothing is left out: that is no end."""

    def ends(self, host: Host, job: str) -> Sequence[End]:
        """Return how elements of a job ended, as far as that is known. Raises HostError if it cannot be asked."""

    def hopeless(self, host: Host, job: str) -> str:
        """Return why a waiting job could not start if nothing else ran, or an empty text."""

    def explain(self, host: Host, job: str) -> str:
        """Return why a job waits, or an empty text."""

    def cancel(self, host: Host, jobs: Sequence[ArrayJob]) -> bool:
        """Take jobs away, whatever they are doing; those that are not there any more, or never were, are no error.

        Return whether any was there: what is taken away may take a while to end.

        Raises SchedulerBusy if it is not clear whether they are there. Nothing is taken away that is not theirs.
        """


def make_scheduler(name: str, interval: float = 30.0, directory: str = "", python: str = "python3") -> Scheduler:
    """Return the scheduler of that name.

    directory is where local workers run; python is the command of a Python there, quoted for a shell.
    """
    if name == "local":
        from .local import LocalScheduler

        return LocalScheduler(directory)
    if name not in BATCH_SYSTEMS:
        raise ConfigError(f"scheduler is {name!r}; it must be one of {', '.join(SCHEDULERS)}")
    return make_batch_system(name, interval, python)


def make_batch_system(name: str, interval: float = 30.0, python: str = "python3") -> BatchSystem:
    """Return the batch system of that name: its module is imported now. python is a command, as above."""
    module, _, kind = BATCH_SYSTEMS[name].partition(".")
    return cast("BatchSystem", getattr(importlib.import_module(f".{module}", __name__), kind)(interval, python))
