"""The one road: a function and its arguments become a request, the request an array job; then wait for its end.

    serialise -> Storage.new_request (safe from here) -> the server -> Scheduler.submit -> the store fills -> wait

Nothing calls back: whoever waits reads the store, and starts the server again if it has died meanwhile.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from ..config import Config, make_config
from ..config.options import Options
from ..deployment import Host, job_directory
from ..errors import ConfigError, ServerError, SheepdogError
from ..schedulers import submit
from ..schedulers.detect import choose_scheduler, programs_on
from ..schedulers.job_file import Job
from ..server.certificate import ensure_certificate
from ..server.life import Server, log_file
from ..storage import Storage
from ..values import identity as process
from ..values.model import ArrayJob, Kind, Progress, Report, Request, RequestState
from ..values.serialisation import form, name_of, serialise_arguments, serialise_function

log = logging.getLogger("sheepdog")
log.addHandler(logging.NullHandler())  # who wants to read it says so

RESTARTS = 3  # of a server that dies at once, before its user hears of it
CLEARING = 30.0  # seconds in which what is left of a request should be cleared up


def dispatch(
    f: Callable[..., Any], args: Iterable[Any], config: Any, ns: Mapping[str, Any] | None, open: bool = False
) -> int:
    """Make a request of a function and its arguments, submit it, and return its id. If open, tasks may be added to it.

    If anything fails before the array job is submitted, nothing is left behind.
    """
    settings = make_config(config)
    function, namespace = serialise_function(f, ns)
    options = options_of(settings)
    with Storage(settings.dbfile) as storage:
        request_id = storage.new_request(
            function,
            namespace,
            serialise_arguments(args),
            name=settings.name or name_of(f),
            form=form(),
            options=options.stored(),
            open=open,
        )
        try:
            launch(storage, request_id)
        except BaseException:
            storage.remove_request(request_id)
            raise
    return request_id


def options_of(settings: Config) -> Options:
    """Return the options of a request: a configuration, and where and by whom the request is made."""
    options = Options(replace(settings, scheduler=choose(settings, submit.host_of(settings))), maker=process.sign())
    return replace(options, directory=os.getcwd()) if options.here else options


def choose(settings: Config, host: Host) -> str:
    """Return the scheduler that a configuration comes to; log it, and why."""
    scheduler, why = choose_scheduler(settings, functools.partial(programs_on, host))
    log.info("scheduler: %s (%s)", scheduler, why)
    return scheduler


def standing_workers(settings: Config) -> int:
    """Return how many workers an open request would have."""
    return options_of(settings).workers(None)


def job_script(config: Any, tasks: int) -> str:
    """Return the job file that a request of so many tasks would have; of local processes, the script of their start."""
    settings = make_config(config)
    options = options_of(settings)
    name = f"{settings.name or 'sheepdog'}_001_00000000"
    python = settings.python(options.scheduler)
    job = Job(1, name, f"{settings.ssh_dir}/{name}", python, options.workers(tasks))
    scheduler = submit.scheduler_of(options)
    files = scheduler.files(job, settings, scheduler.site(submit.host_of(settings, interactive=True), settings))
    return files.get(job.file, files["submit.sh"]).decode()


def launch(storage: Storage, request_id: int) -> None:
    """Start the server of a request, and submit its first array job."""
    request = storage.get_request(request_id)
    pending = storage.progress(request_id)
    if pending.finished:
        return
    options = Options.read(request.options)
    Server(options.config.port, dbfile=storage.dbfile, public=not options.here).start()
    ensure_certificate(storage)  # another program's server may be about to come up still
    host = submit.host_of(options.config, interactive=True)
    workers = options.workers(None if pending.open else pending.tasks - pending.ended)
    array = storage.new_array(request_id, submit.plan(options, request, workers, 0, storage.get_setting("port")))
    try:
        array = submit.submit(options, host, request, array, storage.get_setting("certificate"))
    except BaseException:
        withdraw(options, host, array)
        raise
    if not storage.set_submitted(request_id, array):  # it was cancelled meanwhile
        submit.scheduler_of(options).cancel(host, [array.job])


def withdraw(options: Options, host: Host, array: ArrayJob) -> None:
    """Take away an array job that may have been submitted: the answer never came."""
    with suppress(SheepdogError):
        scheduler = submit.scheduler_of(options)
        found = job_directory.find(host, array, scheduler.job_id)
        if found is not None:
            scheduler.cancel(host, [found.job])
        host.run(["rm", "-rf", array.directory])  # without its files, no worker starts


def cancel(request_id: int, dbfile: str | os.PathLike[str], task: int | None = None) -> int:
    """End the tasks of a request that have not ended, or this one; return how many there were.

    The server ends the workers that have nothing else to do.
    """
    with Storage(dbfile) as storage:
        storage.get_request(request_id)
        if task is None:
            storage.close_request(request_id)
        count = storage.end_pending(
            request_id, Kind.CANCELLED, "cancelled by its user", None if task is None else [task]
        )
        if storage.get_request(request_id).state == RequestState.ENDED:
            Server(dbfile=storage.dbfile).start()
        return count


def remove(request_id: int, dbfile: str | os.PathLike[str]) -> None:
    """Remove a request and what is stored of it, when nothing of it is left elsewhere."""
    cancel(request_id, dbfile)
    with Storage(dbfile) as storage:
        wait_for_clearing(storage, request_id)
        if storage.get_request(request_id).state == RequestState.ENDED:
            raise ServerError(
                f"request {request_id} cannot be removed yet: the server has not cleared up after it on its host, see "
                f"{log_file(storage.dbfile)}. It has ended; try again later"
            )
        storage.remove_request(request_id)


def retry(request_id: int, dbfile: str | os.PathLike[str], failed: bool, config: Mapping[str, Any]) -> int:
    """Run tasks of an ended request again; return how many. If they cannot be submitted, all is as it was."""
    with Storage(dbfile) as storage:
        request = storage.get_request(request_id)
        if request.state in (RequestState.NEW, RequestState.SUBMITTED):
            raise ConfigError(
                f"request {request_id} has not ended ({storage.progress(request_id)}): wait for it with "
                "sheepdog.get_results, or stop it with sheepdog.cancel"
            )
        options = options_again(request, config)
        if not storage.count_retried(request_id, failed):
            return 0
        wait_for_clearing(storage, request_id)
        count = storage.retry(request_id, options.stored(), failed)
        if count:
            try:
                launch(storage, request_id)
            except BaseException:
                storage.undo_retry(request_id, request.options)
                raise
        return count


def options_again(request: Request, config: Mapping[str, Any]) -> Options:
    """Return the options of a request that is run again: the old ones, but for those given."""
    if not isinstance(config, Mapping):
        raise ConfigError(f"config is {config!r}; for retry it must be a dict of options, or left out")
    if "dbfile" in config:
        raise ConfigError("retry takes no option dbfile: a request stays in the database that it was made in")
    if "profile" in config:
        raise ConfigError("retry takes no profile: give the options in which this time differs from the last")
    before = Options.read(request.options)
    anew = {"scheduler": None} if "host" in config else {}
    options = options_of(make_config({**asdict(before.config), **anew, **config}, environ={}))
    if options.directory and before.directory:
        return replace(options, directory=before.directory)  # where it ran before
    return options


def wait_for_clearing(storage: Storage, request_id: int) -> None:
    """Wait until the workers of an ended request are gone, so that none of them meets those of the next attempt."""
    deadline = time.monotonic() + CLEARING
    while storage.get_request(request_id).state == RequestState.ENDED and time.monotonic() < deadline:
        Server(dbfile=storage.dbfile).start()
        time.sleep(0.05)


class Keeper:
    """Keeps the server of a database alive for whoever waits."""

    def __init__(self, dbfile: str) -> None:
        self.server = Server(dbfile=dbfile)
        self.looked = time.monotonic()
        self.started: list[float] = []

    def look(self) -> str:
        """Once a second, start a server that has died. Return what keeps a living one from its work, or nothing.

        One of an earlier version is replaced.
        """
        now = time.monotonic()
        if now - self.looked <= 1.0:
            return ""
        self.looked = now
        if self.server.outdated:
            log.warning("the server of %s is of an earlier version; replacing it", self.server.dbfile)
            self.server.start()
        if self.server.running:
            return self.server.trouble
        self.started = [moment for moment in self.started if now - moment < 60] + [now]
        if len(self.started) > RESTARTS:
            raise ServerError(f"the server of {self.server.dbfile} dies: see {log_file(self.server.dbfile)}")
        log.warning("the server of %s has died; starting it again", self.server.dbfile)
        self.server.start()
        return ""


def wait(
    request_id: int, dbfile: str | os.PathLike[str], show: Callable[[Progress], None], timeout: float | None = None
) -> Progress:
    """Wait until every task of a request has ended, or for so many seconds; return how far it is.

    Show how far it is, whenever that may have changed.
    """
    with Storage(dbfile) as storage:
        for progress in follow(request_id, storage, timeout):
            show(progress)
        return progress


def follow(request_id: int, storage: Storage, timeout: float | None = None) -> Iterator[Progress]:
    """Yield how far a request is, again and again, soon after each change, until every task has ended.

    Or for so many seconds. A server that has died is started again.
    """
    end = math.inf if timeout is None else time.monotonic() + timeout
    keeper = Keeper(storage.dbfile)
    progress = storage.progress(request_id)
    version, delay = None, 0.001
    while not progress.finished and time.monotonic() < end:
        yield progress
        if trouble := keeper.look():
            yield replace(progress, note=trouble)
        time.sleep(delay)
        latest = storage.version()
        if latest == version:
            delay = min(0.05, delay * 1.2)
            continue
        version, delay = latest, 0.002
        progress = storage.progress(request_id)
    yield progress


def follow_reports(request_id: int, storage: Storage, after: int = 0) -> Iterator[Report]:
    """Yield what the tasks of a request report, as it comes, until every task has ended. after is a report's number."""
    for _ in follow(request_id, storage):
        for report in storage.reports(request_id, after=after):
            yield report
            after = report.number
