"""The one road: a function and its arguments become a request, the request an array job; then wait for its end.

    serialise -> Storage.new_request (safe from here) -> the server -> Scheduler.submit -> the store fills -> wait

Nothing calls back: whoever waits reads the store, and starts the server again if it has died meanwhile.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from .config import Config, choose_scheduler, make_config
from .deployment import make_host
from .errors import ConnectionLost, ServerError
from .job_file import Job, secret, worker_files
from .model import Progress
from .schedulers import make_scheduler
from .serialisation import form, name_of, serialise_arguments, serialise_function
from .server import Server, log_file
from .storage import Storage

log = logging.getLogger("sheepdog")
log.addHandler(logging.NullHandler())  # who wants to read it says so

CLUSTER_WORKERS = 1000
WORKER_MEMORY = 128 << 20  # bytes that a job needs beside its task: Grid Engine counts the sum
SUBMISSIONS = 3  # tries, when the connection breaks
RESTARTS = 3  # of a server that dies at once, before its user hears of it


def dispatch(f: Callable[..., Any], args: Iterable[Any], config: Any, ns: Mapping[str, Any] | None) -> int:
    """Make a request of a function and its arguments, submit it, and return its id.

    If anything fails before the array job is submitted, nothing is left behind.
    """
    settings = make_config(config)
    scheduler_name, why = choose_scheduler(settings)
    log.info("scheduler: %s (%s)", scheduler_name, why)
    function, namespace = serialise_function(f, ns)
    with Storage(settings.dbfile) as storage:
        server = Server(settings.port, dbfile=storage.dbfile, public=scheduler_name != "local" or bool(settings.host))
        submitter = [socket.gethostname(), os.getpid()]
        options = {**asdict(settings), "scheduler": scheduler_name, "submitter": submitter}
        request_id = storage.new_request(
            function,
            namespace,
            serialise_arguments(args),
            name=settings.name or name_of(f),
            form=form(),
            options=options,
        )
        try:
            if storage.count_tasks(request_id):
                server.start()
                submit(storage, request_id, settings, scheduler_name)
        except BaseException:
            storage.remove_request(request_id)
            raise
    return request_id


def submit(storage: Storage, request_id: int, config: Config, scheduler_name: str) -> None:
    """Submit the array job of a request."""
    request = storage.get_request(request_id)
    local = scheduler_name == "local"
    here = local and config.host is None
    name = f"{config.name or 'sheepdog'}_{request_id:03d}_{secrets.token_hex(4)}"
    limit = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(config.workers or (limit if local else CLUSTER_WORKERS), request.tasks)
    directory = f"{config.ssh_dir}/{name}"
    python = config.python(scheduler_name)
    address = "127.0.0.1" if here else config.localhost or socket.getfqdn()
    urls = [f"https://{f'[{address}]' if ':' in address else address}:{storage.get_setting('port')}"]
    job = Job(request_id, name, directory, python, workers, tuple(options_of(config, name, directory, workers)))
    scheduler = make_scheduler(scheduler_name, config.poll_interval, os.getcwd() if here else "")
    content = secret(
        request_id,
        request.token,
        urls,
        storage.get_setting("certificate"),
        patience=config.patience,
        memory_limit=config.memory_limit,
    )
    files = {**worker_files(), **scheduler.files(job), "secret.json": content}
    host = make_host(config.host, config.ssh_port, config.ssh_user, config.ssh_keyfile)
    for remaining in reversed(range(SUBMISSIONS)):
        try:
            job_id, where = scheduler.submit(host, job, files)
            break
        except ConnectionLost:
            if not remaining:
                raise
            log.warning("the connection to %s broke; looking whether the job was submitted", host.name)
    storage.set_submitted(request_id, job_id, where, workers, urls)
    log.info("request %d: array job %s, %d workers, %d tasks", request_id, job_id, workers, request.tasks)


def options_of(config: Config, name: str, directory: str, workers: int) -> Iterator[str]:
    """Yield the directives of a Grid Engine job file: the user's first, then ours."""
    yield from config.ge_opts
    home = "" if config.ssh_dir.startswith("/") else "$HOME/"
    if not config.gives("-wd", "-cwd"):
        yield f"-wd {home}{config.ssh_dir}"
    if not config.gives("-o"):
        yield f"-o {home}{directory}/"
    if not config.gives("-e", "-j"):
        yield f"-e {home}{directory}/"
    if config.memory_bytes is not None:
        yield f"-l {config.memory_resource}={config.memory_bytes + WORKER_MEMORY}"
    yield "-S /bin/sh"
    yield f"-N {name}"
    yield f"-t 1-{workers}"


def wait(request_id: int, dbfile: str | os.PathLike[str], show: Callable[[Progress], None]) -> Progress:
    """Wait until every task of a request has ended; show how far it is, whenever that has changed.

    A server that has died is started again.
    """
    with Storage(dbfile) as storage:
        server = Server(dbfile=storage.dbfile)
        progress = storage.progress(request_id)
        version, delay, checked, started = None, 0.001, time.monotonic(), []
        while not progress.finished:
            show(progress)
            now = time.monotonic()
            if now - checked > 1.0:
                checked = now
                if not server.running:
                    started.append(now)
                    if len([moment for moment in started if now - moment < 60]) > RESTARTS:
                        raise ServerError(f"the server of {storage.dbfile} dies: see {log_file(storage.dbfile)}")
                    log.warning("the server of %s has died; starting it again", storage.dbfile)
                    server.start()
            time.sleep(delay)
            latest = storage.version()
            if latest == version:
                delay = min(0.05, delay * 1.2)
                continue
            version, delay = latest, 0.002
            progress = storage.progress(request_id)
        show(progress)
        return progress
