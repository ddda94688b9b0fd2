"""Asks the schedulers what became of the array jobs, and takes away what is left of those that are over.

One question a head node and interval answers for all requests there. What follows from the answer is decided in
service.py.
"""

from __future__ import annotations

import logging
import os
import shlex
import socket
import threading
import time
from collections import defaultdict
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from .deployment import Host, make_host
from .errors import HostError, RequestNotFound, SheepdogError
from .model import Request
from .schedulers import Scheduler, make_scheduler
from .service import Ended

log = logging.getLogger(__name__)

FIRST = 10.0  # seconds after the submission in which a job in error shows
LONGEST = 600.0  # seconds between two tries to reach a head node that does not answer


class Submitter(Protocol):
    """What runs decisions in the service's thread."""

    unfinished: list[int]

    def submit(self, decide: Any) -> Future[Any]:
        """Have a decision made."""


class HeadNode:
    """A host and a scheduler there, and when to ask next."""

    def __init__(self, host: Host, scheduler: Scheduler) -> None:
        self.host = host
        self.scheduler = scheduler
        self.asked = float("inf")
        self.next = 0.0
        self.failures = 0


class Watcher(threading.Thread):
    """The thread that asks."""

    def __init__(self, writer: Submitter) -> None:
        super().__init__(name="watcher", daemon=True)
        self.writer = writer
        self.nodes: dict[tuple[Any, ...], HeadNode] = {}
        self.requests: dict[int, Request] = {}
        self.calls = 0
        self._over = threading.Event()

    def stop(self) -> None:
        """End the thread, without waiting for a host that does not answer; clear up once more."""
        self._over.set()
        self.join(2.0)
        if not self.is_alive():
            with suppress(TimeoutError, SheepdogError):
                self.clear_up(5.0)

    def run(self) -> None:
        """Ask, until stopped."""
        while not self._over.wait(0.5):
            try:
                self.look(time.monotonic())
            except Exception:
                log.exception("the watcher failed")

    def look(self, now: float) -> None:
        """Ask where it is time to."""
        unfinished = set(self.writer.unfinished)
        for request_id in unfinished - self.requests.keys():
            with suppress(RequestNotFound):  # its submission may have failed
                request = self.writer.submit(lambda service, id=request_id: service.storage.get_request(id)).result()
                if request.job:
                    self.requests[request_id] = request
        for request_id, (machine, pid) in self.writer.submit(lambda service: service.storage.unsubmitted()).result():
            if machine == socket.gethostname() and not is_alive(pid):
                self.writer.submit(lambda service, id=request_id: service.abandon(id)).result()
        self.clear_up()
        for request_id in self.requests.keys() - unfinished:
            del self.requests[request_id]
        groups: dict[tuple[Any, ...], list[Request]] = defaultdict(list)
        for request in self.requests.values():
            groups[head_key(request)].append(request)
        for key, requests in groups.items():
            if key not in self.nodes:
                self.nodes[key] = head_node(requests[0])
                self.nodes[key].next = now + min(FIRST, self.nodes[key].scheduler.interval)
            node = self.nodes[key]
            interval = self.interval(node, requests)
            node.next = min(node.next, node.asked + interval) if not node.failures else node.next
            if now >= node.next:
                self.ask(node, requests)

    @staticmethod
    def interval(node: HeadNode, requests: list[Request]) -> float:
        """Return the seconds between two questions: the shortest that one of the requests allows."""
        if node.scheduler.name == "local":
            return node.scheduler.interval
        return float(min(request.options["poll_interval"] for request in requests))

    def ask(self, node: HeadNode, requests: list[Request]) -> None:
        """Put one question for all these requests."""
        self.calls += 1
        if node.scheduler.interval > 1:
            log.info("status query %d, for %d requests on %s", self.calls, len(requests), node.host.name)
        asked = time.monotonic()
        try:
            answer = node.scheduler.status(node.host, [request.job for request in requests])
        except Exception as error:
            node.failures += 1
            node.next = time.monotonic() + min(LONGEST, node.scheduler.interval * 2 ** min(node.failures, 10))
            log.warning("%s", error, exc_info=not isinstance(error, SheepdogError))
            return
        node.failures = 0
        node.asked = time.monotonic()
        node.next = node.asked + self.interval(node, requests)
        for request in requests:
            status = answer[request.job]
            if status.gone:
                words = last_words(node.host, request.directory)
                status = replace(status, reason="; ".join(filter(None, (status.reason, words))))
            self.writer.submit(lambda service, id=request.id, status=status: service.heed(id, status, asked)).result()

    def clear_up(self, timeout: float | None = None) -> None:
        """Take away what is left of the requests that have ended since the last time."""
        for request, how in self.writer.submit(lambda service: service.take_ended()).result(timeout):
            self.remove(request, how)

    def remove(self, request: Request, how: Ended) -> None:
        """Take away elements that never started; of local workers, the processes and the files."""
        try:
            node = self.nodes.get(head_key(request)) or head_node(request)
            local = node.scheduler.name == "local"
            if how.unstarted or local:
                node.scheduler.cancel(node.host, request.job)
            if local and not how.given_up:
                node.host.run(["rm", "-rf", request.directory])
        except SheepdogError as error:
            log.warning("request %d: what is left of its job %s stays: %s", request.id, request.job, error)


def is_alive(pid: int) -> bool:
    """Tell whether a process of this machine lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def last_words(host: Host, directory: str) -> str:
    """Return the last line that a worker wrote into the scheduler's output files, for a job that ended too early."""
    script = f"cd {shlex.quote(directory)} && cat *.e*[0-9] *.o*[0-9] worker.*.log 2>/dev/null | grep . | tail -n 1"
    try:
        line = host.run(["sh", "-c", script]).decode(errors="replace").strip()
    except HostError:
        return ""
    return f"the last line of its output is: {line[-500:]}" if line else ""


def head_key(request: Request) -> tuple[Any, ...]:
    """Return what two requests on one head node have in common."""
    keys = ("scheduler", "host", "ssh_port", "ssh_user", "ssh_keyfile")
    return tuple(request.options.get(key) for key in keys)


def head_node(request: Request) -> HeadNode:
    """Return the head node of a request."""
    scheduler, name, port, user, keyfile = head_key(request)
    host = make_host(name, port, user, keyfile, interactive=False)
    return HeadNode(host, make_scheduler(scheduler, request.options["poll_interval"]))
