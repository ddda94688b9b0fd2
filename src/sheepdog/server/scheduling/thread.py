"""Does for the requests what takes a scheduler: asks what became of their array jobs, submits workers again, clears up.

One question a head node and interval answers for all requests there; while the workers say enough themselves, it is
asked more rarely. What is to be done is decided in server/decide.
"""

from __future__ import annotations

import functools
import io
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from ...client import read_blob, unpack
from ...config.options import Options
from ...deployment import Host, job_directory
from ...errors import SchedulerBusy, SchedulerError, SheepdogError, StorageError
from ...schedulers import Scheduler, submit
from ...values import identity as process
from ...values.model import ArrayJob, JobStatus, Request
from ..calls import Call
from ..decide import arrays, clock
from ..decide.clock import Wanted, Watched
from ..decide.outcomes import collect
from ..decide.service import Service
from .turns import take_turn

log = logging.getLogger(__name__)

FIRST = 10.0  # seconds after the submission in which a job in error shows
RARELY = 10  # intervals between two questions while the workers say enough themselves
LONGEST = 600.0  # seconds between two tries to reach a head node that does not answer
PUZZLING = 20  # intervals that workers wait before the scheduler is asked why
CLEAR_TRIES = 4  # to take away what is left of a request
CLEAR_JOBS_TRIES = 150  # ... if workers may be left: about a day, for so long they would hold their slots
PATIENCE = 60.0  # seconds with the service's thread
STOPPING = 5.0  # ... while the server ends
LATE_ANSWER = 5.0  # seconds in which the answer to a submission that nobody heard may come
HIDDEN = 3600.0  # seconds that a request may take to be submitted whose maker cannot be seen from here
AGAIN = 60.0  # seconds until a host is asked again that did not do what it was asked

T = TypeVar("T")


class Submitter(Protocol):
    """What runs decisions in the service's thread."""

    def submit(self, decide: Callable[[Service], Any]) -> Future[Any]:
        """Have a decision made."""


class HeadNode:
    """A host and a scheduler there, and when to ask next."""

    def __init__(self, options: Options, now: float) -> None:
        self.host: Host = submit.host_of(options.config)
        self.scheduler: Scheduler = submit.scheduler_of(options)
        self.asked = now + min(FIRST, self.scheduler.interval) - self.scheduler.interval
        self.not_before = 0.0
        self.failures = 0
        self.explained: dict[int, float] = {}  # when it was asked why a request's workers wait


class Watcher(threading.Thread):
    """The thread that asks."""

    def __init__(self, writer: Submitter) -> None:
        super().__init__(name="watcher", daemon=True)
        self.writer = writer
        self.nodes: dict[tuple[Any, ...], HeadNode] = {}
        self.calls = 0
        self.port: Any = 0
        self.certificate = ""
        self._unseen: dict[tuple[int, ...], float] = {}  # submissions that nobody sees to the end -> when to look
        self._clearing: dict[int, tuple[int, float]] = {}  # ended requests -> failed tries, when to try again
        self._over = threading.Event()
        self._patience = PATIENCE

    def stop(self) -> None:
        """End the thread, without waiting for a host that does not answer; clear up once more."""
        self._patience = STOPPING
        self._over.set()
        self.join(2.0)
        if not self.is_alive():
            with suppress(TimeoutError, SheepdogError):
                self.clear_up(time.monotonic())

    def disband(self, left: Iterable[tuple[Request, tuple[ArrayJob, ...]]]) -> None:
        """End the workers of requests that are no more: their database was removed. For when the thread has ended."""
        for request, noted in left:
            try:
                self.remove(request, noted, True)
            except SheepdogError as error:
                log.warning("request %d: its workers will find out themselves: %s", request.id, error)

    def run(self) -> None:
        """Look, until stopped."""
        while not self._over.wait(0.5):
            try:
                self.look(time.monotonic())
            except StorageError:  # the writer has said so
                self._over.wait(1.0)
            except Exception:
                log.exception("the watcher failed")

    def look(self, now: float) -> None:
        """Do what is to be done."""
        if not (self.port and self.certificate):
            self.port, self.certificate = self.decide(
                lambda service: [service.storage.get_setting(name) or "" for name in ("port", "certificate")]
            )
        self.adopt(now)
        self.close()
        self.clear_up(now)
        watched = self.decide(clock.watched)
        groups: dict[tuple[Any, ...], list[Watched]] = defaultdict(list)
        for each in watched:
            self.tell_port(each, now)
            groups[head_key(each.options)].append(each)
        for key, there in groups.items():
            node = self.node(there[0].options, now)
            if now >= max(node.not_before, node.asked + self.interval(node, there)):
                self.ask(key, node, there)
        for wanted in self.decide(clock.wanted):
            self.submit(wanted)

    def decide(self, decide: Callable[..., T], *arguments: Any) -> T:
        """Have something decided in the service's thread, and return that."""
        future: Future[T] = self.writer.submit(lambda service: decide(service, *arguments))
        return future.result(self._patience)

    def node(self, options: Options, now: float) -> HeadNode:
        """Return the head node of a request."""
        key = head_key(options)
        if key not in self.nodes:
            self.nodes[key] = HeadNode(options, now)
        return self.nodes[key]

    # --- asking

    @staticmethod
    def interval(node: HeadNode, watched: list[Watched]) -> float:
        """Return the seconds between two questions: the shortest that one of the requests needs."""
        if node.scheduler.name == "local":
            return node.scheduler.interval
        return min(each.options.config.poll_interval * (RARELY if each.calm else 1) for each in watched)

    def ask(self, key: tuple[Any, ...], node: HeadNode, watched: list[Watched]) -> None:
        """Put one question for all these requests."""
        if node.scheduler.interval > 1:
            interval = min(each.options.config.poll_interval for each in watched)
            pause = take_turn(repr(key), interval)
            if pause:
                node.not_before = time.monotonic() + pause
                return
            self.calls += 1
            log.info("status query %d, for %d requests on %s", self.calls, len(watched), node.host.name)
        asked = self.decide(lambda service: float(service.clock()))
        try:
            jobs = [array.job for each in watched for array in each.arrays]
            answer = node.scheduler.status(node.host, jobs)
        except Exception as error:
            node.failures += 1
            node.not_before = time.monotonic() + min(LONGEST, node.scheduler.interval * 2 ** min(node.failures, 10))
            log.warning("%s", error, exc_info=not isinstance(error, SheepdogError))
            for each in watched:
                self.decide(clock.unanswered, each.request.id, str(error))
            return
        node.failures = 0
        node.asked = time.monotonic()
        for each in watched:
            statuses = {array.number: answer[array.job] for array in each.arrays}
            for array in each.arrays:
                if statuses[array.number].gone:
                    statuses[array.number] = self.look_back(node, each.request, array, statuses[array.number])
            self.wonder(node, each, statuses)
            self.decide(clock.heed, each.request.id, statuses, asked)

    def look_back(self, node: HeadNode, request: Request, array: ArrayJob, status: JobStatus) -> JobStatus:
        """Bring in what the workers of a job left that is gone: outcomes, and last words."""
        try:
            names = job_directory.spooled(node.host, array.directory)
            for name in names:
                self.collect(request, job_directory.fetch(node.host, array.directory, name))
            if names:
                job_directory.discard(node.host, array.directory, names)
        except SheepdogError as error:
            log.warning("request %d: what its workers left cannot be collected: %s", request.id, error)
        words = job_directory.last_words(node.host, array.directory)
        return replace(status, reason="; ".join(filter(None, (status.reason, words))))

    def collect(self, request: Request, data: bytes) -> None:
        """Hand over outcomes that a worker could not deliver."""
        stream = io.BytesIO(data)
        try:
            header = unpack(stream)
            blobs = [read_blob(stream, length) for length in header["blobs"]]
            self.decide(collect, Call(request.id, "exchange", header, blobs))
        except (ValueError, TypeError, KeyError) as error:
            log.warning("request %d: a file of outcomes is damaged: %s", request.id, error)

    def wonder(self, node: HeadNode, watched: Watched, statuses: dict[int, JobStatus]) -> None:
        """Ask why a request's workers wait, if they have for long and nothing of it runs."""
        patience = PUZZLING * watched.options.config.poll_interval
        waiting = [
            array for array in watched.arrays if statuses[array.number].pending and not statuses[array.number].reason
        ]
        now = time.monotonic()
        if not waiting or any(status.running for status in statuses.values()):
            node.explained.pop(watched.request.id, None)
        elif now - node.explained.setdefault(watched.request.id, now) >= patience:
            node.explained[watched.request.id] = now
            reason = node.scheduler.explain(node.host, waiting[0].job)
            if reason:
                count = sum(statuses[array.number].pending for array in waiting)
                log.info("request %d: %d workers wait: %s", watched.request.id, count, reason)
                self.decide(clock.puzzle, watched.request.id, reason)

    # --- submitting

    def submit(self, wanted: Wanted) -> None:
        """Submit workers again."""
        request, options = wanted.request, wanted.options
        number = 0
        try:
            host = self.node(options, time.monotonic()).host
            array = submit.plan(options, request, wanted.workers, wanted.level, self.port)
            array = self.decide(arrays.plan, request.id, array)
            number = array.number
            submitted = submit.submit(options, host, request, array, self.certificate)
        except Exception as error:
            log.warning("request %d: %s", request.id, error, exc_info=not isinstance(error, SheepdogError))
            refused = isinstance(error, SchedulerError) and not isinstance(error, SchedulerBusy)
            self.decide(arrays.not_submitted, request.id, number, str(error), refused)
            return
        if not self.decide(arrays.submitted, request.id, submitted):
            submit.scheduler_of(options).cancel(host, [submitted.job])  # it has ended meanwhile

    def adopt(self, now: float) -> None:
        """Find out what became of submissions that nobody sees to the end: their maker or their server has died."""
        for request, options, noted in self.decide(arrays.unsubmitted):
            alive = process.lives(options.maker)
            if not alive:
                patience = HIDDEN if alive is None else LATE_ANSWER if noted else 0.0
                abandon = functools.partial(self.decide, arrays.abandon, request.id)
                self.look_for(request, options, noted, now, patience, abandon)
        for request, options, array in self.decide(arrays.unseen):
            forget = functools.partial(self.decide, arrays.forget, request.id, array.number)
            self.look_for(request, options, (array,), now, LATE_ANSWER, forget)

    def close(self) -> None:
        """Let requests end to which nobody adds tasks any more: their makers have died."""
        for request, options in self.decide(clock.unattended):
            if options.maker and process.lives(options.maker) is False:
                log.info("request %d: its maker has ended; it ends with the tasks that it has", request.id)
                self.decide(clock.close, request.id)

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
        if now < self._unseen.setdefault(key, now + patience):
            return
        del self._unseen[key]
        try:
            node = self.node(options, now)
            seen = (job_directory.find(node.host, array, node.scheduler.job_id) for array in noted)
            found = [array for array in seen if array]
        except SheepdogError as error:
            log.warning("request %d: %s", request.id, error)
            self._unseen[key] = now + AGAIN
            return
        for array in found:
            log.info("request %d: its submission was left alone, but array job %s is there", request.id, array.job)
            self.decide(arrays.submitted, request.id, array)
        if not found:
            none()

    def tell_port(self, watched: Watched, now: float) -> None:
        """Tell workers that call another port than this server's where it is now."""
        moved_on = [array for array in watched.arrays if not is_port(array, self.port)]
        request, options = watched.request, watched.options
        node = self.node(options, now)
        if not moved_on or now < node.not_before:
            return
        for array in moved_on:
            moved = replace(array, urls=submit.urls(options, self.port))
            try:
                content = submit.secret(options, request, moved, self.certificate)
                job_directory.rewrite(node.host, array.directory, "secret.json", content)
            except SheepdogError as error:
                log.warning("request %d: its workers do not know the new port: %s", request.id, error)
                node.not_before = now + AGAIN
                return
            log.info("request %d: its workers are told that the server is at %s", request.id, moved.urls[0])
            self.decide(arrays.moved, request.id, moved)

    # --- clearing up

    def clear_up(self, now: float) -> None:
        """Take away what is left of the requests that have ended."""
        for request, left, waiting in self.decide(arrays.left_over):
            tries, due = self._clearing.get(request.id, (0, 0.0))
            if now < due:
                continue
            try:
                self.remove(request, left, waiting)
            except SheepdogError as error:
                jobs = any(array.job and array.ended is None for array in left)
                if tries + 1 < (CLEAR_JOBS_TRIES if jobs else CLEAR_TRIES):
                    self._clearing[request.id] = tries + 1, now + min(LONGEST, 10.0 * 2 ** min(tries, 10))
                    if tries + 1 == CLEAR_TRIES:
                        log.warning("request %d: its array job is still there; trying on: %s", request.id, error)
                    continue
                log.warning("request %d: what is left of its array job stays: %s", request.id, error)
            self._clearing.pop(request.id, None)
            self.decide(arrays.clear, request.id)

    def remove(self, request: Request, left: tuple[ArrayJob, ...], waiting: bool) -> None:
        """Take away elements that never started, and the secrets; of local workers, the processes and the files."""
        if not left:
            return
        node = self.node(Options.read(request.options), time.monotonic())
        local = node.scheduler.name == "local"
        unended = [array for array in left if array.ended is None]
        parse = node.scheduler.job_id
        seen = (array if array.job else job_directory.find(node.host, array, parse) for array in unended)
        jobs = [array.job for array in seen if array]
        if jobs and (waiting or local):
            node.scheduler.cancel(node.host, jobs)
        directories = [array.directory for array in left]
        if local and not request.gave_up:
            node.host.run(["rm", "-rf", *directories])
        else:
            job_directory.close(node.host, directories)


def is_port(array: ArrayJob, port: int) -> bool:
    """Tell whether the workers of an array job call this port."""
    return all(url.endswith(f":{port}") for url in array.urls)


def head_key(options: Options) -> tuple[Any, ...]:
    """Return what two requests on one head node have in common."""
    config = options.config
    return options.scheduler, config.host, config.ssh_port, config.ssh_user, config.ssh_keyfile
