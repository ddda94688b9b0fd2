"""The thread that has a watcher for each head node while there is something to be done with it."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from ...config.options import Options
from ...errors import SheepdogError, StorageError
from ...values import identity as process
from ...values.model import ArrayJob, Request
from ..decide import clock
from .nodes import Context, Submitter, head_key
from .watcher import PAUSE, Watcher

log = logging.getLogger(__name__)

STOPPING = 5.0  # seconds with the service's thread while the server ends
LEAVING = 2.0  # seconds in which watchers should have done what they are doing, when it ends


class Scheduling(threading.Thread):
    """The thread."""

    def __init__(self, writer: Submitter) -> None:
        super().__init__(name="scheduling", daemon=True)
        self.context = Context(writer, ())
        self.watchers: dict[tuple[Any, ...], Watcher] = {}
        self._over = threading.Event()

    def stop(self) -> None:
        """End the threads, without waiting for hosts that do not answer; clear up once more where they do."""
        self.context.patience = STOPPING
        end = time.monotonic() + LEAVING
        self._over.set()
        self.join(LEAVING)
        if self.is_alive():
            return
        with suppress(SheepdogError):
            self.look()
        watchers = [*self.watchers.values()]
        for each in watchers:
            each.context.patience = STOPPING
            each.leave()
        for each in watchers:
            if each.ident is not None:
                each.join(max(0.0, end - time.monotonic()))
        all_at_once(each.finish for each in watchers if not each.is_alive())

    def disband(self, left: Iterable[tuple[Request, tuple[ArrayJob, ...]]]) -> None:
        """End the workers of requests that are no more: their database was removed. For when the threads have ended."""
        there = defaultdict(list)
        for request, noted in left:
            there[repr(head_key(Options.read(request.options)))].append((request, noted))

        def clear(ones: list[tuple[Request, tuple[ArrayJob, ...]]]) -> Callable[[], None]:
            return lambda: Watcher(self.context.writer, ()).clearing.disband(ones)

        all_at_once(map(clear, there.values()))

    def run(self) -> None:
        """Look, until stopped."""
        while not self._over.wait(PAUSE):
            try:
                self.look()
                for each in self.watchers.values():
                    if each.ident is None:
                        each.start()
            except StorageError:  # the writer has said so
                self._over.wait(1.0)
            except Exception:
                log.exception("the thread for the schedulers failed")

    def look(self) -> None:
        """Find the head nodes that something is to be done with: each has a watcher, and no other has."""
        self.close()
        busy = self.context.decide(clock.busy, head_key)
        for key in self.watchers.keys() - busy:
            self.watchers.pop(key).leave()
        for key in busy - self.watchers.keys():
            self.watchers[key] = Watcher(self.context.writer, key)

    def close(self) -> None:
        """Let requests end to which nobody adds tasks any more: their makers have died."""
        for request, options in self.context.decide(clock.unattended):
            with self.context.apart(request.id):
                if options.maker and process.lives(options.maker) is False:
                    log.info("request %d: its maker has ended; it ends with the tasks that it has", request.id)
                    self.context.decide(clock.close, request.id)


def all_at_once(deeds: Iterable[Callable[[], None]]) -> None:
    """Do all of these, each in a thread, and wait for them."""
    threads = [threading.Thread(target=deed, daemon=True) for deed in deeds]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
