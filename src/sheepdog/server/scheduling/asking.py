"""What a scheduler says: one question an interval, for all requests on its head node.

While the workers say enough themselves, it is put more rarely. What a job leaves that is gone is brought in with it.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import BinaryIO

from ...client import read_blob, unpack
from ...deployment import job_directory
from ...deployment.last_words import explains
from ...errors import SheepdogError, StorageError, words_of
from ...schedulers.local import LocalScheduler
from ...values.model import ArrayJob, End, JobStatus, Request
from ..calls import Call
from ..decide import clock, outcomes
from ..decide.clock import Watched
from .nodes import LONGEST, Context, HeadNode
from .submitting import tell_another_way
from .turns import take_turn

log = logging.getLogger(__name__)

RARELY = 10  # intervals between two questions while the workers say enough themselves
PUZZLING = 20  # intervals that workers wait before the scheduler is asked why, after the first time


def ask_in_time(context: Context, watched: list[Watched], now: float) -> None:
    """Ask the head node, if it is its turn."""
    if watched:
        node = context.node(watched[0].options, now)
        if now >= max(node.not_before, node.asked + interval(node, watched)):
            ask(context, node, watched)


def interval(node: HeadNode, watched: list[Watched]) -> float:
    """Return the seconds between two questions: the shortest that one of the requests needs."""
    if node.scheduler.name == "local":
        return node.scheduler.interval
    return min(each.options.config.poll_interval * (RARELY if each.calm else 1) for each in watched)


def ask(context: Context, node: HeadNode, watched: list[Watched]) -> None:
    """Put one question for all these requests."""
    if node.scheduler.interval > 1:
        interval = min(each.options.config.poll_interval for each in watched)
        pause = take_turn(repr(context.key), interval)
        if pause:
            node.not_before = time.monotonic() + pause
            return
        context.questions += 1
        log.info("status query %d, for %d requests on %s", context.questions, len(watched), node.host.name)
    asked = context.decide(lambda service: float(service.clock()))
    try:
        jobs = [array.job for each in watched for array in each.arrays]
        answer = node.scheduler.status(node.host, jobs)
    except Exception as error:
        node.failures += 1
        node.not_before = time.monotonic() + min(LONGEST, node.scheduler.interval * 2 ** min(node.failures, 10))
        log.warning("%s", error, exc_info=not isinstance(error, SheepdogError))
        for each in watched:
            context.decide(clock.unanswered, each.request.id, words_of(error))
        return
    node.failures = 0
    node.asked = time.monotonic()
    for each in watched:
        with context.apart(each.request.id):
            tell(context, node, each, answer, asked)


def tell(context: Context, node: HeadNode, each: Watched, answer: Mapping[str, JobStatus], asked: float) -> None:
    """Hand over what the scheduler says of one request's array jobs, and look for what it does not say."""
    told = [array for array in each.arrays if array.job in answer]
    statuses = {array.number: answer[array.job] for array in told}
    for array in told:
        if statuses[array.number].gone:
            statuses[array.number] = look_back(context, node, each.request, array, statuses[array.number])
    lost = context.decide(clock.heed, each.request.id, statuses, asked)
    if isinstance(node.scheduler, LocalScheduler):
        for array in each.arrays:
            if array.number in lost:
                node.scheduler.end_stopped(node.host, array.job, lost[array.number])
    mourn(context, node, each)
    wonder(context, node, each, statuses)
    listen(context, node, each, statuses)
    if untold := [array.job for array in each.arrays if array not in told]:
        text = f"it neither lists the array job {', '.join(untold)} nor says that there is none"
        log.warning("request %d: %s", each.request.id, text)
        context.decide(clock.unanswered, each.request.id, text)


def listen(context: Context, node: HeadNode, watched: Watched, statuses: dict[int, JobStatus]) -> None:
    """Read what workers write that run, and of which none has been heard: why they cannot reach the server."""
    for array in watched.arrays:
        if not watched.heard and array.number in statuses and statuses[array.number].running:
            words = job_directory.last_words(node.host, array.directory)
            if "cannot reach" in words:
                context.decide(clock.overhear, watched.request.id, words)
                tell_another_way(context, node, watched, array)


def look_back(context: Context, node: HeadNode, request: Request, array: ArrayJob, status: JobStatus) -> JobStatus:
    """Bring in what the workers of a job left that is gone: outcomes, and last words."""
    try:
        collected = []
        for name in job_directory.spooled(node.host, array.directory):
            with tempfile.TemporaryFile() as file:
                job_directory.fetch(node.host, array.directory, name, file)
                file.seek(0)
                if collect(context, request, file):
                    collected.append(name)
        if collected:
            job_directory.discard(node.host, array.directory, collected)
    except StorageError:  # what is there is collected when it can be stored
        raise
    except SheepdogError as error:
        log.warning("request %d: what its workers left cannot be collected: %s", request.id, error)
    words = job_directory.last_words(node.host, array.directory)
    if words and not any(end.host for end in status.ends):
        ends = [End(words, host=name) for name in job_directory.fallen(node.host, array.directory)]
        context.decide(clock.look_at_ends, request.id, array.number, ends)
    said = f"the last line of its output is: {words}" if words else ""
    reason = "; ".join(filter(None, (status.reason, said)))
    return replace(status, reason=reason, started=status.started or bool(words), explained=explains(words))


def mourn(context: Context, node: HeadNode, watched: Watched) -> None:
    """Ask where elements ended from which no worker has called, though others of their array job go on."""
    request = watched.request.id
    for array in context.decide(clock.fallen, request):
        try:
            ends = node.scheduler.ends(node.host, array.job)
        except (SheepdogError, OSError) as error:
            log.info("request %d: nobody says how workers of array job %s ended: %s", request, array.job, error)
            continue
        context.decide(clock.look_at_ends, request, array.number, ends)


def collect(context: Context, request: Request, stream: BinaryIO) -> bool:
    """Hand over outcomes that a worker could not deliver. Return False if they cannot be read."""
    try:
        header = unpack(stream)
        with ExitStack() as stack:
            blobs = []
            for length in header["blobs"]:
                blobs.append(read_blob(stream, length))
                if not isinstance(blobs[-1], bytes):
                    stack.callback(blobs[-1].close)
            context.decide(outcomes.collect, Call(request.id, "exchange", header, blobs))
    except (ValueError, TypeError, KeyError) as error:
        log.warning("request %d: a file of outcomes is damaged: %s", request.id, error)
        return False
    return True


def wonder(context: Context, node: HeadNode, watched: Watched, statuses: dict[int, JobStatus]) -> None:
    """Ask why a request's workers wait, at once and then if they have for long, and nothing of it runs.

    At once, it may say that they can never start; else they may start any moment, and why they wait is of no interest.
    """
    patience = PUZZLING * watched.options.config.poll_interval
    told = [array for array in watched.arrays if array.number in statuses]
    waiting = [array for array in told if statuses[array.number].pending and not statuses[array.number].reason]
    now = time.monotonic()
    if not waiting or any(status.running for status in statuses.values()):
        node.explained.pop(watched.request.id, None)
        return
    first = watched.request.id not in node.explained
    if first or now - node.explained[watched.request.id] >= patience:
        node.explained[watched.request.id] = now
        reason = node.scheduler.hopeless(node.host, waiting[0].job) if first else ""
        if not (first or reason):
            reason = node.scheduler.explain(node.host, waiting[0].job)
        if reason:
            count = sum(statuses[array.number].pending for array in waiting)
            log.info("request %d: %d workers wait: %s", watched.request.id, count, reason)
            context.decide(clock.puzzle, watched.request.id, reason)
