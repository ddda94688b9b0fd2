"""Submissions: of workers that are lacking, and those that somebody began and nobody saw to the end."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ...config.options import Options
from ...deployment import job_directory
from ...errors import ConfigError, SchedulerBusy, SchedulerError, SheepdogError
from ...schedulers import submit as submission
from ...values import identity as process
from ...values.model import ArrayJob, Request
from ..decide import arrays
from ..decide.clock import Wanted, Watched
from .nodes import AGAIN, Context

log = logging.getLogger(__name__)

LATE_ANSWER = 5.0  # seconds in which the answer to a submission that nobody heard may come
HIDDEN = 3600.0  # seconds that a request may take to be submitted whose maker cannot be seen from here


def submit(context: Context, wanted: Wanted) -> None:
    """Submit workers again."""
    request, options = wanted.request, wanted.options
    number = 0
    try:
        host = context.node(options, time.monotonic()).host
        array = submission.plan(options, request, wanted.workers, wanted.level, context.port)
        array = context.decide(arrays.plan, request.id, array)
        number = array.number
        submitted = submission.submit(options, host, request, array, context.certificate)
    except Exception as error:
        log.warning("request %d: %s", request.id, error, exc_info=not isinstance(error, SheepdogError))
        refused = isinstance(error, (SchedulerError, ConfigError)) and not isinstance(error, SchedulerBusy)
        context.decide(arrays.not_submitted, request.id, number, str(error), refused)
        return
    if not context.decide(arrays.submitted, request.id, submitted):
        submission.scheduler_of(options).cancel(host, [submitted])  # it has ended meanwhile


def tell_port(context: Context, watched: Watched, now: float) -> None:
    """Tell workers that call another port than this server's where it is now."""
    moved_on = [array for array in watched.arrays if not is_port(array, context.port)]
    request, options = watched.request, watched.options
    node = context.node(options, now)
    if not moved_on or now < node.not_before:
        return
    for array in moved_on:
        moved = replace(array, urls=submission.urls(options, context.port))
        try:
            content = submission.secret(options, request, moved, context.certificate)
            job_directory.rewrite(node.host, array.directory, "secret.json", content)
        except SheepdogError as error:
            log.warning("request %d: its workers do not know the new port: %s", request.id, error)
            node.not_before = now + AGAIN
            return
        log.info("request %d: its workers are told that the server is at %s", request.id, moved.urls[0])
        context.decide(arrays.moved, request.id, moved)


def is_port(array: ArrayJob, port: int) -> bool:
    """Tell whether the workers of an array job call this port."""
    return all(url.endswith(f":{port}") for url in array.urls)


class Adoption:
    """The submissions that nobody sees to the end."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._due: dict[tuple[int, ...], float] = {}  # submissions that nobody sees to the end -> when to look

    def adopt(self, now: float) -> None:
        """Find out what became of submissions that nobody sees to the end: their maker or their server has died."""
        context = self.context
        for request, options, noted in context.decide(arrays.unsubmitted, context.mine):
            with context.apart(request.id):
                alive = process.lives(options.maker)
                if not alive:
                    patience = HIDDEN if alive is None else LATE_ANSWER if noted else 0.0
                    abandon = functools.partial(context.decide, arrays.abandon, request.id)
                    self.look_for(request, options, noted, now, patience, abandon)
        for request, options, array in context.decide(arrays.unseen, context.mine):
            with context.apart(request.id):
                forget = functools.partial(context.decide, arrays.forget, request.id, array.number)
                self.look_for(request, options, (array,), now, LATE_ANSWER, forget)

    def look_for(
        self,
        request: Request,
        options: Options,
        noted: Sequence[ArrayJob],
        now: float,
        patience: float,
        none: Callable[[], object],
    ) -> None:
        """Look, after this many seconds, whether array jobs were submitted. none is called if no one was."""
        key = (request.id, *(array.number for array in noted))
        if now < self._due.setdefault(key, now + patience):
            return
        del self._due[key]
        try:
            node = self.context.node(options, now)
            seen = (job_directory.find(node.host, array, node.scheduler.job_id) for array in noted)
            found = [array for array in seen if array]
        except SheepdogError as error:
            log.warning("request %d: %s", request.id, error)
            self._due[key] = now + AGAIN
            return
        for array in found:
            log.info("request %d: its submission was left alone, but array job %s is there", request.id, array.job)
            self.context.decide(arrays.submitted, request.id, array)
        if not found:
            none()
