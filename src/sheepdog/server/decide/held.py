"""Calls that are held until there are tasks of an open request: its workers are idle, and hear of a task at once.

They wait where it is decided: a task goes out with the commit in which it was seen.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from ...errors import RequestNotFound
from ..calls import Reply, refuse
from .exchange import ask_again
from .service import Service


class HeldCall(NamedTuple):
    """A call that would take tasks. answer is called once at most, by the service's thread, after the commit."""

    request: int
    worker: str
    want: int
    answer: Callable[[Reply], None]


class HeldCalls:
    """The held calls by request, in each line the longest first."""

    def __init__(self) -> None:
        self.lines: defaultdict[int, deque[HeldCall]] = defaultdict(deque)

    def hold(self, call: HeldCall) -> None:
        """Take a call in, at the end of its line."""
        self.lines[call.request].append(call)

    def let_go(self, call: HeldCall) -> None:
        """Leave a call alone, if it has not been answered."""
        with suppress(ValueError):
            self.lines[call.request].remove(call)

    def let_all_go(self) -> list[HeldCall]:
        """Return all calls; none is held any more."""
        calls = [call for line in self.lines.values() for call in line]
        self.lines.clear()
        return calls

    def answers(self, service: Service) -> list[tuple[HeldCall, Reply]]:
        """Return the answers to calls for which there are tasks, or whose requests wait for no others."""
        if not self.lines:
            return []
        found = []
        ready = service.ready()
        for number, line in list(self.lines.items()):
            left = ready.get(number, len(line))
            for _ in range(len(line)):
                if left <= 0:
                    break
                call = line.popleft()
                reply = again(service, call)
                if number in ready and reply.status == 200 and not reply.blobs:
                    line.append(call)
                else:
                    left -= max(1, len(reply.header.get("tasks", ())))
                    found.append((call, reply))
            if not line:
                del self.lines[number]
        return found


def again(service: Service, call: HeldCall) -> Reply:
    """Return what there is for a call now."""
    try:
        return ask_again(service, call.request, call.worker, call.want)
    except RequestNotFound:  # it was removed
        service.forget(call.request)
        return refuse(410, "there is no such request any more")
