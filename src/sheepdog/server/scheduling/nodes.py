"""The head nodes, and what the rooms of this package share: who decides, and where the server is."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from ...config.options import Options
from ...deployment import Host
from ...schedulers import Scheduler, submit
from ..decide.service import Service

FIRST = 10.0  # seconds after the submission in which a job in error shows
LONGEST = 600.0  # seconds between two tries to reach a head node that does not answer
AGAIN = 60.0  # seconds until a host is asked again that did not do what it was asked
PATIENCE = 60.0  # seconds with the service's thread

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


class Context:
    """What the rooms share. It decides nothing itself: that is done in the service's thread."""

    def __init__(self, writer: Submitter) -> None:
        self.writer = writer
        self.nodes: dict[tuple[Any, ...], HeadNode] = {}
        self.patience = PATIENCE
        self.questions = 0  # that have been put to schedulers
        self.port: Any = 0
        self.certificate = ""

    def locate(self) -> None:
        """Learn where the server is, as soon as it is known."""
        if not (self.port and self.certificate):
            self.port, self.certificate = self.decide(
                lambda service: [service.storage.get_setting(name) or "" for name in ("port", "certificate")]
            )

    def decide(self, decide: Callable[..., T], *arguments: Any) -> T:
        """Have something decided in the service's thread, and return that."""
        future: Future[T] = self.writer.submit(lambda service: decide(service, *arguments))
        return future.result(self.patience)

    def node(self, options: Options, now: float) -> HeadNode:
        """Return the head node of a request."""
        key = head_key(options)
        if key not in self.nodes:
            self.nodes[key] = HeadNode(options, now)
        return self.nodes[key]


def head_key(options: Options) -> tuple[Any, ...]:
    """Return what two requests on one head node have in common."""
    config = options.config
    return options.scheduler, config.host, config.ssh_port, config.ssh_user, config.ssh_keyfile
