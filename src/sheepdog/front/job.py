"""Another front door: a Job, with the methods of multiprocessing.Process and threading.Thread.

start ------------------> a request of one task, or of one for each of many jobs --> dispatch.py
join, result, exitcode <- the store
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..client import THERE, Call
from ..config import Config, make_config
from ..config.options import Options
from ..errors import JobError, StorageError
from ..server import Server
from ..storage import Storage
from ..values.model import Kind, Outcome
from ..values.serialisation import Arguments, name_of
from . import requests
from .dispatch import dispatch
from .results import exit_code, load, value_of
from .target import as_map, require_travels
from .terminal import notes, say_once
from .waiting import follow

_numbers = itertools.count(1)
_starting = threading.Lock()


class Job(Call):
    """A call on the cluster, with the API of multiprocessing.Process and threading.Thread; and its result.

    Give a target, or make a subclass with its own `run`. What either returns is the result. A subclass travels with
    its attributes; what `run` changes of them stays there, as it does with a process. config is what map takes, and is
    for `start` alone. That makes a request of one task, and so one array job: to start many jobs, dispatch them
    together with `dispatch_jobs`, which takes one config for all, and refuses a job that has one of its own.

    Raises TypeError for a target that cannot be called or cannot travel. What is done out of turn (started twice,
    waited for before the start, used after `close`) raises JobError, which is an AssertionError and a ValueError as a
    Process raises, and a RuntimeError as a Thread does.
    """

    stands_for = (THERE, "Call")

    _config: Mapping[str, Any] | str | None = None
    _place: tuple[str, int, int] | None = None  # database, request and task, once it has been started
    _call = ""  # in short, once it has been started
    _begun = False  # somebody starts it, or has started it
    _signal = 0  # which ended it, if its user wanted it to
    _closed = False
    _given: tuple[Any] | None = None  # its result, if the store may have let go of it

    def __init__(
        self,
        group: None = None,
        target: Callable[..., Any] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        config: Mapping[str, Any] | str | Config | None = None,
    ) -> None:
        if group is not None:
            hint = f": write target={name_of(group)}" if callable(group) else ", as it must for a process"
            raise JobError(f"group is {group!r}; it must be None{hint}")
        if target is not None:
            require_travels(target)
        self._target = target
        self._args = tuple(args)
        self._kwargs = dict(kwargs or {})
        self.name = name or f"{type(self).__name__}-{next(_numbers)}"
        self._daemon = bool(daemon)
        self._config = asdict(config) if isinstance(config, Config) else config

    def __str__(self) -> str:
        """The call in short."""
        if self._call:
            return self._call
        name = type(self).__name__ if self._target is None else name_of(self._target)
        return str(Arguments(self._args, self._kwargs, name))

    def __repr__(self) -> str:
        words = [f"name={self.name!r}"]
        if self._place is not None and not self._closed:
            words.append(f"ident={self._ident}")
        words.append(self._condition())
        if self.daemon:
            words.append("daemon")
        return f"<{type(self).__name__} {' '.join(words)}>"

    def _condition(self) -> str:
        if self._closed:
            return "closed"
        if self._place is None:
            return "initial"
        try:
            status = self.exitcode
        except Exception:  # a database that is no more is no reason not to be shown
            return "unknown"
        if status is None:
            return "started"
        names = {-number: f"-{number.name}" for number in signal.Signals}
        return f"stopped exitcode={names.get(status, status)}"

    def start(self) -> None:
        """Make a request of this job, and submit it. Returns as soon as the scheduler has it."""
        start_jobs([self], self._config)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the job has ended, or for so many seconds."""
        self._wait(timeout)

    def result(self, timeout: float | None = None) -> Any:
        """Wait, and return what the target or `run` returned.

        If that raised, raises the exception, or a TaskFailed that tells of it; the remote traceback is in its cause, or
        in its text. Raises TimeoutError if the job has not ended after so many seconds.
        """
        outcome = self._wait(timeout)
        if outcome is None:
            raise TimeoutError(f"{self!r} has not ended after {timeout} seconds")
        request = self._started("result")[1]
        if self._given is not None and outcome.kind == Kind.RESULT:
            return self._given[0]
        with self._store() as storage:
            return value_of(request, outcome, Options.read(storage.get_request(request).options).config.trusted)

    def reports(self) -> Iterator[Any]:
        """Yield what the job reports with `controller.report`, as it comes, until it has ended.

        It begins with what has been reported so far. Where one cannot be loaded here, a text in its place says why.
        Raises NotRun, with the reason, if the job could not be run.
        """
        _, request, task = self._started("reports")
        with self._store() as storage:
            trusted = Options.read(storage.get_request(request).options).config.trusted
            after = 0
            for _ in follow(request, storage):
                ended = self._outcome(storage)
                for report in storage.reports(request, task, after):
                    value, problem = load(report.value, trusted, "report")
                    yield value if problem is None else f"<{problem}>"
                    after = report.number
                if ended is not None:
                    if ended.kind == Kind.NOT_RUN and not ended.attempts:
                        value_of(request, ended, trusted)  # which raises
                    return

    def is_alive(self) -> bool:
        """Tell whether the job has been started, and has not ended. One that waits in the queue is alive."""
        self._require_open()
        if self._place is None:
            return False
        with self._store() as storage:
            if self._outcome(storage) is not None:
                return False
        server = Server(dbfile=self._place[0])
        if not server.running or server.outdated:
            server.start(make=False)
        return True

    def terminate(self) -> None:
        """End the job, at once. If it runs, its process gets a SIGTERM soon, and a SIGKILL some seconds later."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Do as terminate does; only the exitcode is another."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Have no more to do with the job. Its result stays in the database. JobError if it has not ended."""
        if not self._closed and self.is_alive():
            raise JobError(f"{self!r} cannot be closed while it runs: join() it first, or terminate() it")
        self._closed = True

    @property
    def daemon(self) -> bool:
        """What the caller said. It changes nothing: a job neither ends with its program nor keeps it from ending."""
        return self._daemon

    @daemon.setter
    def daemon(self, daemon: bool) -> None:
        self._require_open()
        if self._place is not None:
            raise JobError(f"{self!r} has been started: daemon cannot be changed any more")
        self._daemon = bool(daemon)

    @property
    def exitcode(self) -> int | None:
        """None until the job has ended; then 0, what it exited with, 1 if it raised, or -N if signal N ended it."""
        self._require_open()
        if self._place is None:
            return None
        with self._store() as storage:
            outcome = self._outcome(storage)
        return None if outcome is None else exit_code(outcome, self._signal)

    @property
    def ident(self) -> int | None:
        """The job's number in its database; None before the start."""
        self._require_open()
        return self._ident

    @property
    def _ident(self) -> int | None:
        return None if self._place is None else (self._place[1] << 32) + self._place[2]

    @property
    def request_id(self) -> int | None:
        """The request that the job is a task of, for get_results and the like; None before the start."""
        return None if self._place is None else self._place[1]

    def _require_open(self) -> None:
        if self._closed:
            raise JobError(f"{self!r} has been closed; its result is in the database still")
        if "_target" not in vars(self):
            raise JobError(f"{type(self).__name__}.__init__() must call super().__init__() before anything else")

    def _let_go(self) -> None:
        """Forget the target and the arguments, as a process does: they may be large, and are stored."""
        self._call = str(self)
        self._target, self._args, self._kwargs = None, (), {}

    def _started(self, what: str) -> tuple[str, int, int]:
        self._require_open()
        if self._place is None:
            raise JobError(f"{self!r} has not been started: start() it before {what}()")
        return self._place

    def _outcome(self, storage: Storage) -> Outcome | None:
        assert self._place is not None
        _, request, task = self._place
        storage.get_request(request)  # RequestNotFound, if this is another database by now
        if storage.ended_among(request, [(task, task)]):
            return next(storage.outcomes(request, [(task, task)]), Outcome(task))
        return None

    def _store(self) -> Storage:
        """Return the store of a job that has been started, which nobody makes again if it is gone."""
        assert self._place is not None
        if not os.path.exists(self._place[0]):
            raise StorageError(
                f"{self._place[0]} is gone, the database of the job {self.name!r}: so is what came of it"
            )
        return Storage(self._place[0], make=False)

    def _wait(self, timeout: float | None) -> Outcome | None:
        request = self._started("join")[1]
        show = notes(say_once(True))
        outcome = None
        with self._store() as storage:
            for progress in follow(request, storage, timeout):
                outcome = self._outcome(storage)
                if outcome is not None:
                    break
                show(progress)
        return outcome

    def _end(self, number: signal.Signals) -> None:
        database, request, task = self._started("terminate" if number == signal.SIGTERM else "kill")
        self._store()
        if requests.cancel(request, database, task):
            self._signal = number


def dispatch_jobs(jobs: Iterable[Job], config: Mapping[str, Any] | str | Config | None = None) -> tuple[int, str]:
    """Start jobs, all as one request. Return its id and its database. Raises as map does, and JobError.

    config is for all: a job that has been made with one of its own raises JobError.
    """
    jobs = list(jobs)
    for job in jobs:
        if isinstance(job, Job) and job._config is not None:
            raise JobError(
                f"{job!r} has a config of its own: start() it by itself, or give config for all jobs together"
            )
    return start_jobs(jobs, config)


def start_jobs(jobs: Sequence[Job], config: Mapping[str, Any] | str | Config | None) -> tuple[int, str]:
    """Start jobs as one request."""
    settings = make_config(config)
    with _starting:
        require_startable(jobs)
        for job in jobs:
            job._begun = True
    try:
        f, calls = as_map(jobs)
        request_id = dispatch(f, calls, settings, None)
    except BaseException:
        for job in jobs:
            job._begun = False
        raise
    database = Storage(settings.dbfile).dbfile
    for task, job in enumerate(jobs, 1):
        job._place = (database, request_id, task)
        job._let_go()
    return request_id, database


def require_startable(jobs: Sequence[Job]) -> None:
    """Raise an error that names what is no job, or a job that cannot be started."""
    for number, job in enumerate(jobs):
        if not isinstance(job, Job):
            raise TypeError(f"item {number} of the jobs is {job!r}, a {type(job).__name__}; it must be a Job")
        job._require_open()
        if job._begun:
            raise JobError(f"{job!r} has been started; a job can be started once")
    if len({id(job) for job in jobs}) < len(jobs):
        twice = next(job for number, job in enumerate(jobs) if any(job is other for other in jobs[:number]))
        raise JobError(f"{twice!r} is there twice; a job can be started once")
