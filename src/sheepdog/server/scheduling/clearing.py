"""Clearing up: what is left on a head node of the requests that have ended, or are no more.

First the elements and the secret go. When the scheduler has nothing of an array job any more, its directory goes if all
is well; else what is needless in it. And what is too old goes, whoever left it there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from ...config.options import Options
from ...deployment import job_directory
from ...errors import HostError, StorageError
from ...values.directories import DirectoryState, LeftDirectory
from ...values.model import ArrayJob, Request
from ..decide import arrays
from .nodes import LONGEST, Context, HeadNode

log = logging.getLogger(__name__)

CLEAR_TRIES = 4  # to take away what is left of a request
CLEAR_JOBS_TRIES = 150  # ... if workers may be left: about a day, for so long they would hold their slots
LEAVING = 2.0  # seconds in which workers that hear that their request has ended are gone
SUBMITTING = 60.0  # seconds in which a submission has returned that its own workers were quicker than
GONE_TRIES = 8  # looks, with longer and longer pauses, whether a scheduler has nothing of an array job any more
SELDOM, SELDOM_MOST = 100, 3600.0  # times as long as it took, until the next look for what is too old; seconds at most


class Clearing:
    """What could not be taken away yet, and when to try again."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.tries: dict[int | str, tuple[int, float]] = {}  # requests and directories -> failed tries, when again
        self.unswept: dict[str, Options] = {}  # places on the host where requests have ended

    def clear_up(self, now: float) -> None:
        """Take away what is left of the requests that have ended, and their directories."""
        for request, left, waiting in self.context.decide(arrays.left_over, self.context.mine):
            tries, due = self.tries.get(request.id, (0, 0.0))
            if now < due:
                continue
            try:
                end(self.context, request, left, waiting)
                if left:
                    options = Options.read(request.options)
                    self.unswept[options.config.ssh_dir] = options
            except StorageError:
                raise
            except Exception as error:  # of this request alone: the others are cleared up after
                jobs = any(array.job for array in left)
                if tries + 1 < (CLEAR_JOBS_TRIES if jobs else CLEAR_TRIES):
                    self.tries[request.id] = tries + 1, now + min(LONGEST, 10.0 * 2 ** min(tries, 10))
                    if tries + 1 == CLEAR_TRIES:
                        log.warning("request %d: its array job is still there; trying on: %s", request.id, error)
                    continue
                log.warning("request %d: what is left of its array job stays: %s", request.id, error)
            self.tries.pop(request.id, None)
            self.context.decide(arrays.clear, request.id)
        for directory in self.context.decide(arrays.directories, self.context.mine):
            self.see_to(directory, now)
        for options in self.unswept.values():
            self.sweep(options, now)
        self.unswept.clear()

    def see_to(self, left: LeftDirectory, now: float) -> None:
        """Do what is to be done with a directory, if it is time to."""
        options = Options.read(left.options)  # it was read before
        here = 0.0 if left.removed or options.scheduler == "local" else LEAVING if left.job else SUBMITTING
        tries, due = self.tries.setdefault(left.name, (0, now + here))
        if now < due:
            return
        try:
            if take_away(self.context.node(options, now), options, left):
                self.tries.pop(left.name)
                self.context.decide(arrays.settle, left)
                return
            more, pause, why = tries + 1 < GONE_TRIES, 1.0, "its array job is still there"
        except StorageError:
            raise
        except Exception as error:
            more, pause, why = tries + 1 < CLEAR_TRIES, 10.0, str(error)
        self.tries[left.name] = tries + 1, now + min(LONGEST, pause * 2**tries)
        if not more:
            log.warning("the directory %s on %s stays for now: %s", left.name, options.config.host, why)
            self.context.decide(arrays.put_off, left)

    def sweep(self, options: Options, now: float) -> None:
        """Take away what is too old where array jobs have their directories, if it is time to; that may fail."""
        place = (*self.context.key, options.config.ssh_dir)
        if now < self.context.decide(arrays.not_swept_before, place):
            return
        begun = time.monotonic()
        try:
            job_directory.sweep(self.context.node(options, now).host, options.config.ssh_dir)
        except (HostError, OSError) as error:
            log.info("what is old on %s stays: %s", options.config.host, error)
        self.context.decide(arrays.swept, place, now + min(SELDOM_MOST, SELDOM * (time.monotonic() - begun)))

    def disband(self, left: Iterable[tuple[Request, tuple[ArrayJob, ...]]]) -> None:
        """End the workers of requests that are no more: their database was removed."""
        for request, noted in left:
            try:
                end(self.context, request, noted, True)
                options = Options.read(request.options)
                if noted and options.scheduler == "local":
                    node = self.context.node(options, time.monotonic())
                    job_directory.remove(node.host, options.config.ssh_dir, [array.name for array in noted])
            except Exception as error:
                log.warning("request %d: its workers will find out themselves: %s", request.id, error)


def end(context: Context, request: Request, left: tuple[ArrayJob, ...], waiting: bool) -> None:
    """Take away elements that never started, and the secrets; of local workers, the processes.

    Also of an array job that is thought to have ended: whether it has, its scheduler is asked by its name.
    """
    if not left:
        return
    options = Options.read(request.options)
    node = context.node(options, time.monotonic())
    local = node.scheduler.name == "local"
    parse = node.scheduler.job_id
    ending = [array for array in left if waiting or local or array.ended is not None]
    jobs = [array if array.job else job_directory.find(node.host, array, parse) or array for array in ending]
    if jobs:
        node.scheduler.cancel(node.host, jobs)
    job_directory.close(node.host, options.config.ssh_dir, [array.name for array in left])


def take_away(node: HeadNode, options: Options, left: LeftDirectory) -> bool:
    """Take away a directory, or what is needless in it. Return False, and leave it, if its array job is still there.

    That is deleted: its workers should have gone by themselves.
    """
    place = options.config.ssh_dir
    array = ArrayJob(0, left.name, f"{place}/{left.name}", 0, job=left.job)
    if node.scheduler.cancel(node.host, [array]):
        return False
    act = job_directory.remove if left.state == DirectoryState.TO_REMOVE else job_directory.tidy
    act(node.host, place, [left.name])
    return True
