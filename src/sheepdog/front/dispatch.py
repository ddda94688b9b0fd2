"""The one road to the cluster: a function and its arguments become a request, the request an array job.

serialise -> Storage.new_request (safe from here) -> the server -> Scheduler.submit -> the store fills
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import Any

from ..bundle.outgoing import Outgoing
from ..config import Config, make_config
from ..config.options import Options
from ..config.sources import TASK_VARIABLES
from ..deployment import Host, folders, job_directory
from ..errors import CommandFailed, ConfigError, NoMainGuard, SchedulerError, SheepdogError
from ..printable import make_printable
from ..schedulers import submit
from ..schedulers.detect import choose_scheduler, programs_on
from ..schedulers.job_file import Job
from ..schedulers.way_home import check_way_home, default_way_home
from ..server.certificate import ensure_certificate
from ..server.life import Server
from ..storage import Storage
from ..values import identity as process
from ..values.forms import Form
from ..values.model import ArrayJob
from ..values.serialisation import form, name_of, serialise_arguments, serialise_function
from . import pythons

log = logging.getLogger("sheepdog")
log.addHandler(logging.NullHandler())  # who wants to read it says so
log.addFilter(make_printable)


def dispatch(
    f: Callable[..., Any],
    args: Iterable[Any],
    config: Any,
    ns: Mapping[str, Any] | None,
    open: bool = False,
    outgoing: Outgoing | None = None,
    say: Callable[[str], object] = bool,
) -> int:
    """Make a request of a function and its arguments, submit it, and return its id. If open, tasks may be added to it.

    outgoing makes bytes of them, and of what is added. say is told what the user should know.

    If anything fails before the array job is submitted, nothing is left behind.
    """
    require_main_guard()
    settings = make_config(config)
    options = replace(options_of(settings), ordered=open)
    outgoing = outgoing or Outgoing(settings.ship)
    function, namespace = serialise_function(f, ns, outgoing.pickler)
    equipped(options, form(outgoing.needs.by_value))  # what is wrong is known before arguments are drawn
    with Storage(settings.dbfile) as storage:
        request_id = storage.new_request(
            function,
            namespace,
            serialise_arguments(args, outgoing.dump),
            name=settings.name or name_of(f),
            form=lambda: form(outgoing.needs.by_value, outgoing.needs.looked_up()),
            options=lambda: equipped(options, form(outgoing.needs.by_value)).stored(),
            open=open,
            needs=functools.partial(outgoing.look_first, f),
        )
        try:
            launch(storage, request_id, say)
        except BaseException:
            storage.remove_request(request_id)
            raise
    return request_id


def require_main_guard() -> None:
    """Raise NoMainGuard if a worker imports a module for a task, and the module calls this: each worker would do so."""
    if TASK_VARIABLES[0] not in os.environ:
        return
    frame: FrameType | None = sys._getframe()
    place = ""
    while frame is not None:
        if not place and frame.f_code.co_name == "<module>":
            place = f"{frame.f_globals.get('__name__')} (line {frame.f_lineno} of {frame.f_code.co_filename})"
        if place and frame.f_globals.get("__name__") == "importlib._bootstrap":
            raise NoMainGuard(
                f"the module {place} makes a request when it is imported, and a worker imports it for its tasks: that "
                'would go on without end. Write the call below `if __name__ == "__main__":`, or in a function'
            )
        frame = frame.f_back


def share_imports() -> None:
    """Let other threads have the modules that this one is importing, as far as they are made.

    A thread of ours names them when it makes bytes of an object, or loads one. CPython has whoever imports a module
    wait while its spec says that it is `_initializing`; the module may be waiting for the thread.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            spec: Any = frame.f_globals.get("__spec__")
            if getattr(spec, "_initializing", False):
                spec._initializing = False
        frame = frame.f_back


def options_of(settings: Config) -> Options:
    """Return the options of a request: a configuration, and where and by whom the request is made."""
    options = Options(replace(settings, scheduler=choose(settings, submit.host_of(settings))), maker=process.sign())
    return replace(options, directory=os.getcwd()) if options.here else options


def equipped(options: Options, made: Mapping[str, Any]) -> Options:
    """Return the options of a request with the Python of its workers, which can load its function.

    made is the function's form, as it is stored. What is wrong without asking a host is said first.
    """
    if options.config.localhost is not None and not options.here:
        check_way_home(options.config.localhost)
    return pythons.equip(options, Form.read(made).fits)


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
    workers = options.first_workers(tasks)
    job = Job(1, name, f"{settings.ssh_dir}/{name}", options.command, workers, options.setup)
    scheduler = submit.scheduler_of(options)
    files = scheduler.files(job, settings, scheduler.site(submit.host_of(settings, interactive=True), settings))
    return files.get(job.file, files["submit.sh"]).decode()


def launch(storage: Storage, request_id: int, say: Callable[[str], object] = bool) -> None:
    """Start the server of a request, and submit its first array job. say is told what its workers run on."""
    request = storage.get_request(request_id)
    pending = storage.progress(request_id)
    if pending.finished:
        return
    options = Options.read(request.options)
    host = submit.host_of(options.config, interactive=True)
    home = way_home(options, host) if options.calls else ""
    Server(options.config.port, dbfile=storage.dbfile, public=options.calls).start()
    ensure_certificate(storage)  # another program's server may be about to come up still
    pythons.put(options, host, say)
    put_bundles(storage, request_id, options, host)
    if options.config.packages is not None:
        from . import packages  # slow to import, and only some need it

        packages.put(storage, request_id, options, host, say)
    workers = options.first_workers(None if pending.open else pending.tasks - pending.ended)
    array = submit.plan(options, request, workers, 0, storage.get_setting("port"), home)
    array = storage.new_array(request_id, array)
    try:
        uses = storage.uses(request_id)
        array = submit.submit(options, host, request, array, storage.get_setting("certificate"), uses=uses)
    except BaseException:
        withdraw(options, host, array)
        raise
    if not storage.set_submitted(request_id, array):  # it was cancelled meanwhile
        submit.scheduler_of(options).cancel(host, [array])


def put_bundles(storage: Storage, request_id: int, options: Options, host: Host) -> None:
    """Put the user's own files that a request needs where its workers look for them. What comes later they fetch."""
    for name in storage.bundles_of(request_id):
        try:
            archive = functools.partial(storage.file, name)
            sent = folders.put(host, options.config.ssh_dir, folders.BUNDLES, name, archive)
        except CommandFailed as error:
            where = f"{options.config.ssh_dir}/{folders.BUNDLES} on {host.name}"
            raise SchedulerError(f"your own files cannot be put into {where}: {folders.why_not(error)}") from error
        log.info("request %d: bundle %s %s %s", request_id, name[:12], "sent to" if sent else "is on", host.name)


def way_home(options: Options, host: Host) -> str:
    """Return by which name or address workers elsewhere are to call this machine; empty if they can only by a relay."""
    given = options.config.localhost
    if given is None:
        try:
            return default_way_home(host)
        except ConfigError:
            if options.relays:
                return ""
            raise
    check_way_home(given)
    return given


def withdraw(options: Options, host: Host, array: ArrayJob) -> None:
    """Take away an array job that may have been submitted: the answer never came."""
    scheduler = submit.scheduler_of(options)
    with suppress(SheepdogError):
        found = job_directory.find(host, array, scheduler.job_id) or array
        try:
            scheduler.cancel(host, [found])
        finally:
            job_directory.remove(host, options.config.ssh_dir, [array.name])  # without its files, no worker starts
