"""Submissions: of workers that are lacking, and those that somebody began and nobody saw to the end."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ...config.options import Options
from ...deployment import Host, job_directory
from ...errors import (
    CommandFailed,
    ConfigError,
    HostError,
    SchedulerBusy,
    SchedulerError,
    SheepdogError,
    StorageError,
    words_of,
)
from ...schedulers import submit as submission
from ...schedulers.way_home import address_towards, is_own
from ...values import identity as process
from ...values.model import ArrayJob, Request
from ..decide import arrays
from ..decide.clock import Wanted, Watched
from .nodes import AGAIN, Context, HeadNode, direct

log = logging.getLogger(__name__)

LATE_ANSWER = 5.0  # seconds in which the answer to a submission that nobody heard may come
HIDDEN = 3600.0  # seconds that a request may take to be submitted whose maker cannot be seen from here


def submit(context: Context, wanted: Wanted) -> None:
    """Submit workers again."""
    request, options = wanted.request, wanted.options
    number = 0
    try:
        now = time.monotonic()
        node = context.node(options, now)
        host = node.host
        home = node.home([submission.own_name(options)], now) if options.calls else ""
        array = submission.plan(options, request, wanted.workers, wanted.level, context.port, home)
        array = replace(array, urls=(*array.urls, *context.relays(options)))
        array = context.decide(arrays.plan, request.id, array)
        number = array.number
        submitted = submit_elsewhere(context, wanted, host, array)
    except StorageError:
        raise
    except Exception as error:
        log.warning("request %d: %s", request.id, error, exc_info=not isinstance(error, SheepdogError))
        refused = isinstance(error, (SchedulerError, ConfigError)) and not isinstance(error, SchedulerBusy)
        context.decide(arrays.not_submitted, request.id, number, words_of(error), refused)
        return
    if not context.decide(arrays.submitted, request.id, submitted):
        submission.scheduler_of(options).cancel(host, [submitted])  # it has ended meanwhile


def submit_elsewhere(context: Context, wanted: Wanted, host: Host, array: ArrayJob) -> ArrayJob:
    """Submit workers to other hosts than those to be avoided; to any if there are no others, and some were of use."""
    uses = context.decide(lambda service: service.storage.uses(wanted.request.id))
    about = (wanted.options, host, wanted.request, array, context.certificate)
    try:
        return submission.submit(*about, wanted.avoid, uses)
    except SchedulerBusy:
        raise
    except SchedulerError as error:
        if not (wanted.avoid and wanted.joined):
            raise
        log.warning("request %d: workers may be on %s, too: %s", wanted.request.id, ", ".join(wanted.avoid), error)
        return submission.submit(*about, uses=uses)


def tell_way(context: Context, watched: Watched, now: float) -> None:
    """Tell workers where this machine is, if they have been told another port, or a name that leads here no more.

    Also those that are thought to have ended: they may only have lost their way.
    """
    request, options = watched.request, watched.options
    node = context.node(options, now)
    if now < node.tell_after:
        return
    try:
        for array in (*watched.arrays, *watched.past):
            urls = urls_now(context, node, options, direct(array.urls), now)
            moved = replace(array, urls=(*urls, *context.relays(options)))
            if moved.urls != array.urls:
                tell(context, node, request, options, moved)
    except StorageError:
        raise
    except SheepdogError as error:
        log.warning("request %d: its workers cannot be told where this machine is: %s", request.id, error)
        node.tell_after = now + AGAIN


def urls_now(context: Context, node: HeadNode, options: Options, known: Sequence[str], now: float) -> tuple[str, ...]:
    """Return the addresses of this machine that workers should call who have been told these."""
    if not options.calls:
        return submission.urls(options, context.port)
    told = [url.partition("://")[2].rpartition(":")[0].strip("[]") for url in known]
    said = options.config.localhost
    names = [said, *told] if said else [*told, submission.own_name(options)]
    home = node.home(names, now)
    others = [name for name in told[1:] if name != home and is_own(name)]
    return submission.urls(options, context.port, home, *others)


def tell_another_way(context: Context, node: HeadNode, watched: Watched, array: ArrayJob) -> None:
    """Tell workers that do not reach this machine its address as the head node sees it, too: they try both in turn."""
    own = direct(array.urls)
    if watched.options.here or len(own) != 1:
        return
    try:
        seen = address_towards(node.host)
        both = (*own, *submission.urls(watched.options, context.port, seen))
        if seen and both[0] != both[1]:
            urls = (*both, *context.relays(watched.options))
            tell(context, node, watched.request, watched.options, replace(array, urls=urls))
    except HostError as error:
        log.warning("request %d: its workers cannot be told another address: %s", watched.request.id, error)


def tell(context: Context, node: HeadNode, request: Request, options: Options, moved: ArrayJob) -> None:
    """Write the secret of an array job anew, which its workers read when they lose the server."""
    content = submission.secret(options, request, moved, context.certificate)
    try:
        job_directory.rewrite(node.host, moved.directory, "secret.json", content)
    except CommandFailed as error:  # the directory is gone
        log.warning("request %d: %s cannot be told where this machine is: %s", request.id, moved.name, error)
    else:
        log.info("request %d: its workers are told that the server is at %s", request.id, " or ".join(moved.urls))
        node.not_before, node.failures = 0.0, 0  # it answers
    context.decide(arrays.moved, request.id, moved)


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
