"""Submits the array job of a request: the first one for whoever dispatches it, others for the server.

What is to be submitted is decided beforehand and noted in the store; so a job can be found again, whatever happens
while it is submitted.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..config import Config
from ..deployment import Host, make_host
from ..errors import ConnectionLost, SchedulerBusy, TooManyWorkers
from ..values.model import ArrayJob, Request
from . import Scheduler, make_scheduler
from .job_file import Job, secret, worker_files

log = logging.getLogger("sheepdog")

CLUSTER_WORKERS = 1000
STANDING_WORKERS = 16  # that wait for tasks as they come
TRIES = 3  # when the connection breaks
PATIENCE = 60.0  # seconds with a scheduler that may take the job later
PAUSE = 5.0  # seconds between two tries


@dataclass(frozen=True, slots=True)
class Terms:
    """How a request is run: what its options say."""

    config: Config
    scheduler: str
    directory: str
    """Where the workers of this machine run; empty elsewhere."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Terms:
        """Return the terms of a request's options."""
        known = {field.name for field in fields(Config)}
        said = {key: value for key, value in options.items() if key in known and key != "scheduler"}
        return cls(Config(**said), options["scheduler"], options.get("directory", ""))

    @property
    def here(self) -> bool:
        """Whether the workers are processes of this machine."""
        return self.scheduler == "local" and self.config.host is None

    def make_host(self, interactive: bool) -> Host:
        """Return the host on which to submit."""
        config = self.config
        return make_host(config.host, config.ssh_port, config.ssh_user, config.ssh_keyfile, interactive)

    def make_scheduler(self) -> Scheduler:
        """Return the scheduler there."""
        return make_scheduler(self.scheduler, self.config.poll_interval, self.directory)

    def workers(self, tasks: int | None) -> int:
        """Return how many workers so many tasks should have; None is any number, as they come."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        local = max(1, cores // (self.config.cpus or 1))
        if tasks is None:
            return self.config.workers or (local if self.scheduler == "local" else STANDING_WORKERS)
        return min(self.config.workers or (local if self.scheduler == "local" else CLUSTER_WORKERS), tasks)

    def urls(self, port: int) -> tuple[str, ...]:
        """Return the addresses at which workers reach a server on this port."""
        address = "127.0.0.1" if self.here else self.config.localhost or socket.getfqdn()
        return (f"https://{f'[{address}]' if ':' in address else address}:{port}",)

    def plan(self, request: Request, workers: int, level: int, port: int) -> ArrayJob:
        """Return the next array job of a request, to be noted before it is submitted."""
        name = f"{self.config.name or 'sheepdog'}_{request.id:03d}_{secrets.token_hex(4)}"
        return ArrayJob(0, name, f"{self.config.ssh_dir}/{name}", workers, level, urls=self.urls(port))

    def secret(self, request: Request, array: ArrayJob, certificate: str) -> bytes:
        """Return what the workers of an array job must know."""
        config = self.config.raised(array.level)
        return secret(
            request.id,
            request.token,
            array.urls,
            certificate,
            array=array.number,
            patience=config.patience,
            memory_limit=config.memory_limit,
            time=config.walltime,
            notice=self.make_scheduler().notice,
        )

    def submit(self, host: Host, request: Request, array: ArrayJob, certificate: str) -> ArrayJob:
        """Submit an array job; return it as it is now. A broken connection and a busy scheduler are tried again."""
        scheduler = self.make_scheduler()
        config = self.config.raised(array.level)
        python = config.python(self.scheduler)
        job = Job(request.id, array.name, array.directory, python, array.workers)
        remaining = TRIES
        until = time.monotonic() + PATIENCE
        site = None
        while True:
            try:
                site = site or scheduler.site(host, config)
                files = {**worker_files(), **scheduler.files(job, config, site)}
                files["secret.json"] = self.secret(request, array, certificate)
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
                job = replace(job, workers=error.limit)
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
