"""Clearing up: what is left on a head node of the requests that have ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from ...config.options import Options
from ...deployment import job_directory
from ...errors import StorageError
from ...values.model import ArrayJob, Request
from ..decide import arrays
from .nodes import LONGEST, Context

log = logging.getLogger(__name__)

CLEAR_TRIES = 4  # to take away what is left of a request
CLEAR_JOBS_TRIES = 150  # ... if workers may be left: about a day, for so long they would hold their slots


class Clearing:
    """What could not be taken away yet, and when to try again."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.tries: dict[int, tuple[int, float]] = {}  # ended requests -> failed tries, when to try again

    def clear_up(self, now: float) -> None:
        """Take away what is left of the requests that have ended."""
        for request, left, waiting in self.context.decide(arrays.left_over, self.context.mine):
            tries, due = self.tries.get(request.id, (0, 0.0))
            if now < due:
                continue
            try:
                remove(self.context, request, left, waiting)
            except (StorageError, TimeoutError):
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

    def disband(self, left: Iterable[tuple[Request, tuple[ArrayJob, ...]]]) -> None:
        """End the workers of requests that are no more: their database was removed."""
        for request, noted in left:
            try:
                remove(self.context, request, noted, True)
            except Exception as error:
                log.warning("request %d: its workers will find out themselves: %s", request.id, error)


def remove(context: Context, request: Request, left: tuple[ArrayJob, ...], waiting: bool) -> None:
    """Take away elements that never started, and the secrets; of local workers, the processes and the files.

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
    take_away = job_directory.remove if local and not request.gave_up else job_directory.close
    take_away(node.host, options.config.ssh_dir, [array.name for array in left])
