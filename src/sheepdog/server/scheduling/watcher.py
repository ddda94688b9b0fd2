"""The thread of one head node: asks there, submits workers again, clears up. No other node's silence delays it.

What is to be done is decided in server/decide, in the writer's thread.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import Any

from ...errors import SheepdogError, StorageError
from ..decide import clock
from .asking import ask_in_time
from .clearing import Clearing
from .nodes import Context, Submitter
from .relaying import keep_relay
from .submitting import Adoption, submit, tell_way

log = logging.getLogger(__name__)

PAUSE = 0.5  # seconds between two looks


class Watcher(threading.Thread):
    """The thread. leave() ends it, when it has done what it is doing."""

    def __init__(self, writer: Submitter, key: tuple[Any, ...]) -> None:
        super().__init__(name=f"watcher {key}", daemon=True)
        self.context = Context(writer, key)
        self.adoption = Adoption(self.context)
        self.clearing = Clearing(self.context)
        self._over = threading.Event()

    def leave(self) -> None:
        """Let the thread end."""
        self._over.set()

    def run(self) -> None:
        """Look, until told to leave."""
        while not self._over.is_set():
            try:
                self.look(time.monotonic())
            except StorageError:  # the writer has said so
                self._over.wait(1.0)
            except Exception:
                log.exception("the thread of a head node failed")
            self._over.wait(PAUSE)
        if self.context.relay is not None:
            self.context.relay.leave()

    def look(self, now: float) -> None:
        """Do what is to be done."""
        context = self.context
        context.locate()
        self.adoption.adopt(now)
        self.clearing.clear_up(now)
        watched = []
        known = context.decide(clock.watched, context.mine)
        keep_relay(context, known)
        for each in known:
            with context.apart(each.request.id):
                tell_way(context, each, now)
                if each.arrays:
                    watched.append(each)
        ask_in_time(context, watched, now)
        for wanted in context.decide(clock.wanted, context.mine):
            with context.apart(wanted.request.id):
                submit(context, wanted)

    def finish(self) -> None:
        """Clear up once more, when the thread has ended."""
        with suppress(SheepdogError):
            self.clearing.clear_up(time.monotonic())
