"""A head node, and what the rooms of this package share: who decides, and where the server is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from ...config.options import Options
from ...deployment import Host
from ...deployment.relay import Relay
from ...errors import ConfigError, StorageBusy, StorageError
from ...schedulers import Scheduler, submit
from ...schedulers.way_home import WayHome
from ..decide.service import Service

log = logging.getLogger(__name__)

FIRST = 10.0  # seconds after the submission in which a job in error shows
LONGEST = 600.0  # seconds between two tries to reach a head node that does not answer
HOME_SECONDS = 10.0  # between two looks whether workers are told the right name of this machine
AGAIN = 60.0  # seconds until a host is asked again that did not do what it was asked
PATIENCE = 60.0  # seconds with the service's thread

RELAY = "relay://"

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
        self.tell_after = 0.0  # when its workers may be told where this machine is
        self.failures = 0
        self.way_home = WayHome()
        self.homes: dict[tuple[str, ...], tuple[float, str]] = {}  # names of this machine -> when, which is right
        self.explained: dict[int, float] = {}  # when it was asked why a request's workers wait

    def home(self, names: Sequence[str], now: float) -> str:
        """Return by which of these names, or by which address, workers of this node reach this machine."""
        key = tuple(dict.fromkeys(names))
        when, found = self.homes.get(key, (-HOME_SECONDS, ""))
        if not found or now - when >= HOME_SECONDS:
            found = self.way_home.find(key, self.host)
            self.homes[key] = now, found
        return found


class Context:
    """What the rooms share for one head node. It decides nothing itself: that is done in the service's thread."""

    def __init__(self, writer: Submitter, key: tuple[Any, ...]) -> None:
        self.writer = writer
        self.key = key
        self.head: HeadNode | None = None
        self.patience = PATIENCE
        self.questions = 0  # that have been put to schedulers
        self.port: Any = 0
        self.certificate = ""
        self.relay: Relay | None = None

    def locate(self) -> None:
        """Learn where the server is, as soon as it is known."""
        if not (self.port and self.certificate):
            self.port, self.certificate = self.decide(
                lambda service: [service.storage.get_setting(name) or "" for name in ("port", "certificate")]
            )

    def relays(self, options: Options) -> tuple[str, ...]:
        """Return the addresses of the relay for workers of a request that may call one."""
        return self.relay.urls if self.relay is not None and options.relays else ()

    def decide(self, decide: Callable[..., T], *arguments: Any) -> T:
        """Have something decided in the service's thread, and return that.

        StorageError if it cannot be stored, StorageBusy if that takes too long: it may be decided later, then.
        """
        future: Future[T] = self.writer.submit(lambda service: decide(service, *arguments))
        try:
            return future.result(self.patience)
        except TimeoutError:
            raise StorageBusy(f"nothing has been decided for {self.patience:g} s") from None

    @contextmanager
    def apart(self, request_id: int) -> Iterator[None]:
        """Keep what is wrong with one request from the others. What is wrong with the store is everybody's."""
        try:
            yield
        except StorageError:
            raise
        except ConfigError as error:  # an option that was taken once, and is not any more
            self.decide(Service.end_unusable, request_id, str(error))
        except Exception as error:
            self.decide(Service.fail, request_id, error)

    def mine(self, options: Options) -> bool:
        """Tell whether a request is on this head node."""
        return head_key(options) == self.key

    def node(self, options: Options, now: float) -> HeadNode:
        """Return the head node, which is made of the options of a request on it."""
        if self.head is None:
            self.head = HeadNode(options, now)
        return self.head


def direct(urls: Sequence[str]) -> list[str]:
    """Return which of these addresses are this machine's."""
    return [url for url in urls if not url.startswith(RELAY)]


def relayed(urls: Sequence[str]) -> list[str]:
    """Return which of these addresses are a relay's."""
    return [url for url in urls if url.startswith(RELAY)]


def head_key(options: Options) -> tuple[Any, ...]:
    """Return what two requests on one head node have in common."""
    config = options.config
    return options.scheduler, config.host, config.ssh_port, config.ssh_user, config.ssh_keyfile
