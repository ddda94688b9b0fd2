"""Submit the array job of a request: the first one for whoever dispatches it, others for the server.

What is to be submitted is decided beforehand and noted in the store; so a job can be found again, whatever happens
while it is submitted.
"""

from __future__ import annotations

import logging
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import replace

from ..config import Config
from ..config.options import Options
from ..deployment import Host, job_directory, kept, make_host
from ..errors import ConnectionLost, SchedulerBusy, TooManyWorkers
from ..values.model import ArrayJob, Request
from . import Scheduler, job_file, make_scheduler

log = logging.getLogger("sheepdog")

TRIES = 3  # when the connection breaks
PATIENCE = 60.0  # seconds with a scheduler that may take the job later
PAUSE = 5.0  # seconds between two tries


def host_of(config: Config, interactive: bool = False) -> Host:
    """Return the host that a configuration names. If interactive, ssh may ask the user for what it needs."""
    return make_host(config.host, config.ssh_port, config.ssh_user, config.ssh_keyfile, interactive)


def scheduler_of(options: Options) -> Scheduler:
    """Return the scheduler of a request."""
    return make_scheduler(options.scheduler, options.config.poll_interval, options.directory, python_of(options))


def python_of(options: Options) -> str:
    """Return the command of a Python of the head node, for what runs there."""
    return "python3" if options.interpreter.loads else options.interpreter.command or "python3"


def own_name(options: Options) -> str:
    """Return the name or address of this machine that workers are told, unless it is known to lead elsewhere."""
    return options.config.localhost or socket.getfqdn()


def urls(options: Options, port: int, *homes: str) -> tuple[str, ...]:
    """Return the addresses at which workers reach a server on this port. homes are this machine, if not as usual."""
    if not (options.here or options.calls):
        return ()
    found = ["127.0.0.1"] if options.here else [*filter(None, homes)] or [own_name(options)]
    return tuple(f"https://{f'[{address}]' if ':' in address else address}:{port}" for address in found)


def plan(options: Options, request: Request, workers: int, level: int, port: int, home: str = "") -> ArrayJob:
    """Return the next array job of a request, to be noted before it is submitted."""
    config = options.config
    name = f"{config.name or 'sheepdog'}_{request.id:03d}_{secrets.token_hex(4)}"
    return ArrayJob(0, name, f"{config.ssh_dir}/{name}", workers, level, urls=urls(options, port, home))


def secret(options: Options, request: Request, array: ArrayJob, certificate: str) -> bytes:
    """Return what the workers of an array job must know."""
    config = options.config.raised(array.level)
    return job_file.secret(
        request.id,
        request.token,
        array.urls,
        certificate,
        array=array.number,
        patience=config.patience,
        memory_limit=config.memory_limit,
        cpus=config.cpus,
        env=dict(config.env),
        time=config.walltime,
        notice=scheduler_of(options).notice,
    )


def submit(
    options: Options,
    host: Host,
    request: Request,
    array: ArrayJob,
    certificate: str,
    avoid: Sequence[str] = (),
    uses: Sequence[str] = (),
) -> ArrayJob:
    """Submit an array job; return it as it is now. A broken connection and a busy scheduler are tried again.

    avoid are hosts on which it is not to be, uses the folders below ssh_dir that its workers need.
    """
    scheduler = scheduler_of(options)
    config = scheduler.avoid(options.config.raised(array.level), avoid)
    job = job_file.Job(request.id, array.name, array.directory, options.command, array.workers, options.setup)
    remaining = TRIES
    until = time.monotonic() + PATIENCE
    site = None
    while True:
        try:
            site = site or scheduler.site(host, config)
            files = {**job_file.worker_files(), **scheduler.files(job, config, site)}
            files[job_directory.MARK] = f"{array.name}\n".encode()
            files[job_directory.KEEP] = b"%d\n" % -(-config.keep_seconds // 60)
            if uses:
                files[kept.USES] = "".join(f"{each}\n" for each in uses).encode()
            files["secret.json"] = secret(options, request, array, certificate)
            job_id, where = scheduler.submit(host, job, files)
        except ConnectionLost:
            remaining -= 1
            if not remaining:
                raise
            log.warning("the connection to %s broke; looking whether the job was submitted", host.name)
        except TooManyWorkers as error:
            if error.limit >= job.workers or error.limit < 1:
                raise
            log.warning("%s: fewer workers will do: %d", error, error.limit)
            job = job._replace(workers=error.limit)
            continue
        except SchedulerBusy as error:
            if time.monotonic() > until:
                raise
            log.warning("%s; trying again", error)
        else:
            break
        time.sleep(PAUSE)
    log.info("request %d: array job %s, %d workers, %d tasks", request.id, job_id, job.workers, request.tasks)
    return replace(array, job=job_id, directory=where, workers=job.workers)
