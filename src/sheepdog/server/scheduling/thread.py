"""The thread that does for the requests what takes a scheduler: asks, submits workers again, clears up.

What is to be done is decided in server/decide, in the writer's thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

from ...errors import SheepdogError, StorageError
from ...values.model import ArrayJob, Request
from ..decide import clock
from .asking import ask_all
from .clearing import Clearing
from .nodes import Context, Submitter
from .submitting import Adoption, submit, tell_port

log = logging.getLogger(__name__)

STOPPING = 5.0  # seconds with the service's thread while the server ends


class Scheduling(threading.Thread):
    """The thread."""

    def __init__(self, writer: Submitter) -> None:
        super().__init__(name="scheduling", daemon=True)
        self.context = Context(writer)
        self.adoption = Adoption(self.context)
        self.clearing = Clearing(self.context)
        self._over = threading.Event()

    def stop(self) -> None:
        """End the thread, without waiting for a host that does not answer; clear up once more."""
        self.context.patience = STOPPING
        self._over.set()
        self.join(2.0)
        if not self.is_alive():
            with suppress(TimeoutError, SheepdogError):
                self.clearing.clear_up(time.monotonic())

    def disband(self, left: Iterable[tuple[Request, tuple[ArrayJob, ...]]]) -> None:
        """End the workers of requests that are no more: their database was removed. For when the thread has ended."""
        self.clearing.disband(left)

    def run(self) -> None:
        """Look, until stopped."""
        while not self._over.wait(0.5):
            try:
                self.look(time.monotonic())
            except StorageError:  # the writer has said so
                self._over.wait(1.0)
            except Exception:
                log.exception("the thread for the schedulers failed")

    def look(self, now: float) -> None:
        """Do what is to be done."""
        context = self.context
        context.locate()
        self.adoption.adopt(now)
        self.adoption.close()
        self.clearing.clear_up(now)
        watched = context.decide(clock.watched)
        for each in watched:
            tell_port(context, each, now)
        ask_all(context, watched, now)
        for wanted in context.decide(clock.wanted):
            submit(context, wanted)
