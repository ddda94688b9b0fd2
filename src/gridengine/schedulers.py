"""Who runs jobs: processes of this machine, Grid Engine or Slurm. Each is a name for a configuration of Sheepdog's."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from sheepdog import Config, Job, cancel, dispatch_jobs, map_async
from sheepdog.config import make_config
from sheepdog.errors import ConfigError, JobError
from sheepdog.front.dispatch import choose
from sheepdog.front.results import results
from sheepdog.front.terminal import say_aloud, wait_aloud
from sheepdog.schedulers.submit import host_of
from sheepdog.storage import Storage

TimeoutError = builtins.TimeoutError


class Scheduler:
    """Runs jobs as the configuration says; config is what sheepdog.map takes."""

    def __init__(self, config: Mapping[str, Any] | str | Config | None = None) -> None:
        self.config = make_config(config)
        self.requests: list[tuple[int, str]] = []
        self.resources: dict[str, object] = {}

    def schedule(self, jobs: Iterable[Job]) -> tuple[int, str]:
        """Start jobs, all as one request; return its id and its database."""
        request = dispatch_jobs(jobs, self.config)
        self.requests.append(request)
        return request

    def map(self, f: Callable[[Any], Any], args: Iterable[Any]) -> tuple[int, str]:
        """Start a job for each of args, which f is to be called with; the function travels once."""
        request_id = map_async(f, ((each,) for each in args), self.config)
        request = (request_id, Storage(self.config.dbfile).dbfile)
        self.requests.append(request)
        return request

    def join(self, timeout: float | None = None) -> None:
        """Wait until the last jobs have ended. Raises TimeoutError if they have not after so many seconds."""
        join(self.scheduled, timeout)

    def results(self, reraise: bool = True) -> list[Any]:
        """Return the results of the last jobs in order; if reraise, raise the first error, else it is in the list."""
        return results(*self.scheduled, reraise)

    def killall(self, verbose: bool = False) -> None:
        """End all jobs that this scheduler has started and that have not ended; if verbose, say how many there were."""
        ended = sum(cancel(*request) for request in self.requests)
        if verbose:
            say_aloud(f"{ended} job{'s' * (ended != 1)} ended by killall")

    @property
    def scheduled(self) -> tuple[int, str]:
        """The id of the request of the last jobs, and its database. Raises RuntimeError if there is none."""
        if not self.requests:
            raise JobError("nothing has been scheduled: call schedule(jobs) first")
        return self.requests[-1]


class ProcessScheduler(Scheduler):
    """Runs jobs as processes of this machine: at most max_threads at once, or as many as there are cores."""

    def __init__(
        self, max_threads: int | None = None, *, config: Mapping[str, Any] | str | Config | None = None
    ) -> None:
        super().__init__(config)
        workers = self.config.workers if max_threads is None else max_threads
        self.config = replace(self.config, scheduler="local", host=None, workers=workers)


class GridEngineScheduler(Scheduler):
    """Runs jobs on Grid Engine. Each resource goes to `qsub -l`: GridEngineScheduler(h_vmem="2G", h_rt=3600).

    The site says what resources it has: one that it does not have raises an UnknownResource, a ValueError, with a list
    of those, when the first job is submitted.
    """

    def __init__(self, *, config: Mapping[str, Any] | str | Config | None = None, **resources: object) -> None:
        super().__init__(config)
        self.resources = dict(resources)
        wanted = tuple(f"-l {name}={as_option(name, value)}" for name, value in resources.items())
        self.config = replace(self.config, scheduler="gridengine", ge_opts=(*self.config.ge_opts, *wanted))


class SlurmScheduler(Scheduler):
    """Runs jobs on Slurm. Each option goes to sbatch: SlurmScheduler(partition="long", mem="2G", cpus_per_task=2)."""

    def __init__(self, *, config: Mapping[str, Any] | str | Config | None = None, **options: object) -> None:
        super().__init__(config)
        self.resources = dict(options)
        wanted = tuple(as_flag(name, value) for name, value in options.items())
        self.config = replace(self.config, scheduler="slurm", slurm_opts=(*self.config.slurm_opts, *wanted))


def join(request: tuple[int, str], timeout: float | None = None) -> None:
    """Wait until the jobs of a request have ended. Raises TimeoutError if they have not after so many seconds."""
    progress = wait_aloud(*request, timeout=timeout)
    if not progress.finished:
        left = progress.tasks - progress.ended
        raise TimeoutError(f"{left} of {progress.tasks} jobs have not ended after {timeout} seconds")


KINDS: Mapping[str, Callable[..., Scheduler]] = {
    "local": ProcessScheduler,
    "gridengine": GridEngineScheduler,
    "slurm": SlurmScheduler,
}


def best_available(config: Mapping[str, Any] | str | Config | None = None) -> Scheduler:
    """Return Grid Engine if it is there, else Slurm, else the processes of this machine; say which and why in the log.

    The log is that of the logger "sheepdog", at the level INFO. What the configuration says goes before; if it names a
    host, it is the host that is looked at.
    """
    settings = make_config(config)
    name = choose(settings, host_of(settings))
    if name not in KINDS or (name == "local" and settings.host is not None):
        return Scheduler(replace(settings, scheduler=name))  # such as DRMAA, or the processes of that host
    return KINDS[name](config=settings)


def as_scheduler(scheduler: object) -> Scheduler:
    """Return a scheduler that is given as one, as a class, or as a function such as best_available."""
    made = scheduler() if callable(scheduler) else scheduler
    if not isinstance(made, Scheduler):
        raise TypeError(
            f"scheduler is {scheduler!r}, a {type(scheduler).__name__}; it must be a scheduler, such as "
            "gridengine.schedulers.ProcessScheduler(), or a class of them, or best_available"
        )
    return made


def as_flag(name: str, value: object) -> str:
    """Return an option of sbatch. True is for one without a value, such as exclusive; a name of one letter is short."""
    flag = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
    if value is True:
        return flag
    if value is False:
        raise ConfigError(f"the option {name} is False; leave it out")
    return f"{flag}{'' if len(name) == 1 else '='}{as_option(name, value, ',')}"


def as_option(name: str, value: object, more: str = "") -> str:
    """Return a value as an option of a job file has it; more are characters that it may hold, too."""
    if value is None:
        raise ConfigError(f"the resource {name} is None; give a value, or leave it out")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not re.fullmatch(r"[^\s\"'\\#]+", text) or ("," in text and "," not in more):
        raise ConfigError(f"the resource {name} is {value!r}; it must be a number, or a text without spaces and commas")
    return text
