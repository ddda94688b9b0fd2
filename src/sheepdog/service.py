"""What the server decides: a worker's call in, a reply out. No socket, no thread, no clock of its own.

A call is answered from the store and the queues. The caller commits before it sends the reply, so what a worker is
told has been stored is on the disk.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .client import IN_MEMORY, MAX_BATCH, PROTOCOL
from .errors import RequestNotFound
from .model import JobStatus, Outcome, Request, State, StoredBlob
from .queue import Queue
from .storage import MAX_VALUE, Storage

log = logging.getLogger(__name__)

STATES = {int(state): state for state in State}
MAX_HELD = 1 << 16
MAX_ATTEMPTS = 3  # workers that a task may lose
SPARES = 1  # workers that stay when there is nothing to lease, in case another is lost
ENOUGH_REFUSED = 8  # workers of another Python: so many, and none that fits, end the request
UNREACHABLE = 600.0  # ... and that they end
UNREACHED = 60.0  # seconds that workers may run before their user hears that none has called


@dataclass(frozen=True, slots=True)
class Call:
    """A worker's call. verb is "join" or "exchange"; blobs are bytes, or files if they are large."""

    request: int
    verb: str
    header: dict[str, Any]
    blobs: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer: an HTTP status, and with 200 a header and blobs, else text."""

    header: dict[str, Any]
    blobs: list[bytes | StoredBlob] = field(default_factory=list)
    status: int = 200
    text: str = ""


def heartbeat(lease: float) -> float:
    """Return the seconds between two signs of life: several may be lost before a lease ends."""
    return max(0.2, lease / 7.5)


def refuse(status: int, text: str) -> Reply:
    """Return a reply that says no."""
    return Reply({}, [], status, text)


@dataclass(slots=True)
class WorkerSeen:
    """What a worker said of itself, when it was last heard, and the number of its latest call."""

    host: str
    element: str
    heard: float
    call: int = 0
    missed: float | None = None
    """Since when the scheduler does not list it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a request ended, for whoever clears up after it."""

    unstarted: bool
    """Elements of its array job never called: they may be waiting still."""
    given_up: bool
    """Its workers ended before its tasks: what they said is of interest."""


class Herd:
    """An unfinished request as the server sees it: its queue and its workers."""

    def __init__(self, request: Request, queue: Queue, now: float) -> None:
        self.request = request
        self.queue = queue
        self.since = now
        self.leased = request.leased  # the highest index that was ever leased
        self.workers: dict[str, WorkerSeen] = {}
        self.elements: set[str] = set()  # of the array job, that have called
        self.joined = False
        self.refused: dict[str, str] = {}  # element -> why
        self.missed = 0  # how often in a row the scheduler has not listed the job


class Service:
    """The decisions. clock is monotonic, in seconds."""

    def __init__(self, storage: Storage, clock: Callable[[], float], ended: Iterable[tuple[int, Ended]] = ()) -> None:
        self.storage = storage
        self.clock = clock
        self.herds: dict[int, Herd] = {}
        self.ended = list(ended)  # requests, until somebody asks

    def token(self, request_id: int) -> str | None:
        """Return the token of a request, None if there is no such request."""
        try:
            return self.storage.get_request(request_id).token
        except RequestNotFound:
            return None

    def handle(self, call: Call) -> Reply:
        """Answer a call whose token was right."""
        worker = call.header.get("worker")
        if not isinstance(worker, str) or not 0 < len(worker) <= 64:
            return refuse(400, "worker must be a short text")
        try:
            return self.join(call, worker) if call.verb == "join" else self.exchange(call, worker)
        except RequestNotFound:  # it was removed
            self.herds.pop(call.request, None)
            return refuse(410, "there is no such request any more")

    # --- the two calls

    def join(self, call: Call, worker: str) -> Reply:
        """Give a worker the function, if it can load it."""
        herd = self.herd(call.request)
        if herd is None:
            return refuse(410, "the request has ended")
        if call.header.get("protocol") != PROTOCOL:
            return refuse(426, f"the worker speaks protocol {call.header.get('protocol')!r}; this server {PROTOCOL}")
        seen = self.seen(herd, worker, call.header)
        problem = mismatch(herd.request.form, call.header.get("python"), seen.host)
        if problem:
            self.refuse_worker(herd, worker, seen, problem)
            return refuse(409, problem)
        herd.joined = True
        self.storage.set_note(call.request, "")
        settings = {"heartbeat": heartbeat(herd.queue.lease), "max_value": MAX_VALUE}
        return Reply(settings, self.storage.function_blobs(call.request))

    def refuse_worker(self, herd: Herd, worker: str, seen: WorkerSeen, problem: str) -> None:
        """Note a worker that cannot load the function; when none can, its tasks end with the reason."""
        log.warning("request %d: %s", herd.request.id, problem)
        herd.refused[seen.element or worker] = problem
        herd.workers.pop(worker, None)
        self.storage.set_note(herd.request.id, problem)
        enough = min(ENOUGH_REFUSED, herd.request.workers or ENOUGH_REFUSED)
        if not herd.joined and len(herd.refused) >= enough:
            self.give_up(herd, problem)

    def exchange(self, call: Call, worker: str) -> Reply:
        """Store outcomes, renew leases, lease tasks."""
        try:
            outcomes, held, want, number = read_exchange(call)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            return refuse(400, f"not an exchange: {error}")
        herd = self.herd(call.request)
        if herd is None:
            return Reply({"stop": True, "stored": 0, "tasks": []})
        seen = self.seen(herd, worker, call.header)
        if number <= seen.call:
            return refuse(400, f"call {number} comes after call {seen.call}")
        tasks = [outcome.task for outcome in outcomes]
        if tasks and not (min(tasks) >= 1 and max(tasks) <= herd.request.tasks):
            return refuse(400, f"the tasks of request {call.request} are 1 to {herd.request.tasks}")
        stored = self.storage.store_outcomes(call.request, outcomes) if outcomes else 0
        seen.call = number
        herd.joined = True
        now = self.clock()
        queue = herd.queue
        queue.settle(tasks)
        queue.hold(worker, held, now)
        header: dict[str, Any] = {"stored": stored, "tasks": []}
        if queue.empty:
            self.retire(herd)
            return Reply(dict(header, stop=True))
        if not want:
            return Reply(header)
        blobs = self.lease(herd, worker, want, now, header)
        if not blobs and not held and self.is_surplus(queue, worker):
            queue.drop(worker)
            herd.workers.pop(worker, None)
            return Reply(dict(header, stop=True))
        if not blobs:
            header["wait"] = 1.0
        return Reply(header, blobs)

    def lease(self, herd: Herd, worker: str, want: int, now: float, header: dict[str, Any]) -> list[Any]:
        """Lease a fair share of the ready tasks; return their arguments, their names go into the header."""
        queue = herd.queue
        if queue.doubtful and len(queue.holders) >= herd.request.workers > 0:  # all have been heard
            queue.release_doubtful()
        share = -(-queue.ready // (2 * max(1, len(queue.holders))))
        if queue.ready > MAX_BATCH:
            share = max(share, want // 50)  # a hundredth of a second's work is not worth a call of its own
        taken = dict(queue.take(worker, max(1, min(want, share, MAX_BATCH)), now))
        read = self.storage.read_tasks(herd.request.id, list(taken), IN_MEMORY)
        header["tasks"] = [[index, taken[index]] for index, _ in read]
        if read and read[-1][0] > herd.leased:
            herd.leased = read[-1][0]
            self.storage.set_leased(herd.request.id, herd.leased)
        if len(read) < len(taken):  # they are large: the rest is for somebody else
            sent = {index for index, _ in read}
            queue.put_back(worker, [index for index in taken if index not in sent])
        return [blob for _, blob in read]

    @staticmethod
    def is_surplus(queue: Queue, worker: str) -> bool:
        """Tell whether a worker without work may go: each task that is left has a worker, and there are spares."""
        busy = sum(1 for holder in queue.holders.values() if holder.held)
        if queue.ready or queue.doubtful or queue.leased > busy:
            return False
        idle = sum(1 for name, holder in queue.holders.items() if not holder.held and name != worker)
        return idle >= SPARES

    # --- requests

    def herd(self, request_id: int) -> Herd | None:
        """Return an unfinished request, from the store if need be; None if it has ended."""
        herd = self.herds.get(request_id)
        if herd is None:
            try:
                request = self.storage.get_request(request_id)
                pending = self.storage.pending(request_id)
            except RequestNotFound:
                return None
            if not pending:
                return None
            lease = float(request.options.get("lease", 150.0))
            herd = self.herds[request_id] = Herd(request, Queue(pending, lease, request.leased), self.clock())
        elif not herd.request.job:
            herd.request = self.storage.get_request(request_id)
        return herd

    def seen(self, herd: Herd, worker: str, header: dict[str, Any]) -> WorkerSeen:
        """Return what is known of a worker."""
        if worker not in herd.workers:
            host, element = clean(header.get("host")), clean(header.get("element"))
            herd.elements.add(element)
            herd.workers[worker] = WorkerSeen(host, element, self.clock())
        herd.workers[worker].heard = self.clock()
        return herd.workers[worker]

    def heard(self, request_id: int, worker: str) -> None:
        """Note that a worker is alive: a long call of it is under way."""
        herd = self.herds.get(request_id)
        if herd is not None:
            herd.queue.renew(worker, self.clock())

    def lose(self, herd: Herd, worker: str) -> None:
        """Take back a lost worker's tasks; end those that have lost so many workers that they may be the cause."""
        seen = herd.workers.pop(worker, None)
        host = seen.host if seen else "?"
        lost = herd.queue.drop(worker)
        if lost:
            log.warning(
                "request %d: worker %s on %s is lost, with %d tasks", herd.request.id, worker[:8], host, len(lost)
            )
        ended = [
            Outcome(
                index,
                State.FAILED,
                f"its worker was lost {attempt} times, the last one on {host}: the task may be the cause".encode(),
                attempt,
                host,
            )
            for index, attempt in lost
            if attempt >= MAX_ATTEMPTS
        ]
        if ended:
            self.storage.store_outcomes(herd.request.id, ended)
            herd.queue.settle([outcome.task for outcome in ended])
            if herd.queue.empty:
                self.retire(herd)

    def retire(self, herd: Herd, given_up: bool = False) -> None:
        """Forget a request whose tasks have all ended."""
        self.storage.set_note(herd.request.id, "")
        self.herds.pop(herd.request.id, None)
        self.ended.append((herd.request.id, Ended(len(herd.elements) < herd.request.workers, given_up)))

    def take_ended(self) -> list[tuple[Request, Ended]]:
        """Return the requests that have ended since the last time, once their submission has been noted."""
        ended = self.ended
        found, self.ended = [], []
        for request_id, how in ended:
            try:
                request = self.storage.get_request(request_id)
            except RequestNotFound:
                continue
            if request.job:
                found.append((request, how))
            else:
                self.ended.append((request_id, how))
        return found

    def give_up(self, herd: Herd, reason: str) -> None:
        """End all tasks of a request that have not ended, with this reason."""
        count = self.storage.fail_pending(herd.request.id, reason)
        log.warning("request %d: %d tasks ended: %s", herd.request.id, count, reason)
        self.retire(herd, given_up=True)

    # --- what time and the scheduler say

    def tick(self) -> None:
        """Take back what silent workers held, or was not claimed since a restart."""
        now = self.clock()
        for herd in list(self.herds.values()):
            try:
                for worker in herd.queue.silent(now):
                    self.lose(herd, worker)
            except RequestNotFound:  # it was removed
                self.herds.pop(herd.request.id, None)
            if herd.queue.doubtful and now - herd.since > herd.queue.lease:
                herd.queue.release_doubtful()

    def abandon(self, request_id: int) -> None:
        """End a request whose maker has ended without submitting it; unless workers call: then it did."""
        herd = self.herd(request_id)
        if herd is not None and not herd.workers:
            self.give_up(herd, "not run: the program that made the request ended before it was submitted")

    def renew_all(self) -> None:
        """Renew every lease, after a time in which the server could not listen."""
        for herd in self.herds.values():
            herd.queue.renew_all(self.clock())

    def heed(self, request_id: int, status: JobStatus, asked: float) -> None:
        """Compare what the scheduler says of a request's array job with what the workers say.

        asked is when the question was put: of workers that came later the answer knows nothing.
        """
        herd = self.herd(request_id)
        if herd is None:
            return
        try:
            self._compare(herd, status, asked)
        except RequestNotFound:  # it was removed
            self.herds.pop(request_id, None)

    def _compare(self, herd: Herd, status: JobStatus, asked: float) -> None:
        request_id = herd.request.id
        herd.missed = herd.missed + 1 if status.gone else 0
        for worker, seen in list(herd.workers.items()):
            if seen.element in status.running:
                seen.missed = None
            elif seen.missed is None or seen.heard >= seen.missed:
                seen.missed = asked  # the scheduler may be wrong, or late: it must say so twice
            else:
                self.lose(herd, worker)
        if request_id not in self.herds:
            return
        if status.running <= {seen.element for seen in herd.workers.values()}:  # all have been heard
            herd.queue.release_doubtful()
        if status.broken and not (status.running or status.pending or herd.workers):
            self.give_up(herd, f"not run: {status.reason}")
        elif status.broken:
            self.storage.set_note(request_id, f"some workers cannot start: {status.reason}; the others go on")
        elif herd.missed >= 2 and not herd.workers:
            why = next(iter(herd.refused.values()), "") or status.reason
            if not herd.joined and not herd.refused:
                shell = herd.request.options.get("shell") or "/usr/bin/python3"
                why += f"; no worker has called: is {shell} a Python there, and the option `shell` right?"
            place = f"{herd.request.options.get('host') or 'this machine'}:{herd.request.directory}"
            self.give_up(
                herd,
                f"not run: the array job {herd.request.job} has ended before its tasks: {why}. "
                f"What its workers said is in {place}",
            )
        elif status.running and not herd.joined and self.clock() - herd.since > UNREACHED:
            urls = " or ".join(herd.request.options.get("urls", ()))
            text = (
                f"{len(status.running)} workers run, but none has reached {urls}: is that name known there, and the "
                "port open? (options localhost and port)"
            )
            self.storage.set_note(request_id, text)
            if self.clock() - herd.since > UNREACHABLE:
                self.give_up(herd, f"not run: for {UNREACHABLE:.0f} s {text}")


def read_exchange(call: Call) -> tuple[list[Outcome], dict[int, int], int, int]:
    """Return the outcomes, what the worker holds, how many tasks it wants, and the number of its call."""
    header = call.header
    entries, want, number = header["outcomes"], header["want"], header["call"]
    if len(call.blobs) != 2 * len(entries):
        raise ValueError(f"{len(entries)} outcomes need {2 * len(entries)} blobs, not {len(call.blobs)}")
    if type(want) is not int or type(number) is not int or not 0 <= want <= 1 << 20 or number < 1:
        raise ValueError("want and call must be numbers")
    host = clean(header.get("host"))
    outcomes = []
    for (index, attempt, kind, seconds), value, output in zip(entries, call.blobs[::2], call.blobs[1::2], strict=True):
        if type(index) is not int or type(attempt) is not int or not 0 < attempt < 1 << 31:
            raise ValueError("an outcome needs the numbers of its task and attempt")
        if not math.isfinite(seconds) or not isinstance(output, bytes):
            raise ValueError("an outcome needs its run time, and an output that is not large")
        outcomes.append(Outcome(index, STATES[kind], value, attempt, host, float(seconds), output))
    held: dict[int, int] = {}
    for first, last, attempt in header["holding"]:
        if not type(first) is type(last) is type(attempt) is int or not 0 < attempt < 1 << 31:
            raise ValueError("holding must be runs: the first task, the last, the attempt")
        if not 0 <= last - first < MAX_HELD - len(held):
            raise ValueError(f"a worker holds {MAX_HELD} tasks at most")
        held.update(dict.fromkeys(range(first, last + 1), attempt))
    return outcomes, held, want, number


def clean(text: Any) -> str:
    """Return what a worker says of itself as a short text that can be stored and shown."""
    return str("" if text is None else text)[:255].encode("utf-8", "replace").decode()


def mismatch(form: dict[str, Any], python: Any, host: str) -> str:
    """Return why a worker's Python cannot load a function of this form, or an empty text."""
    if not isinstance(python, dict):
        return "the worker does not say what Python it runs"
    if all(python.get(key) == form.get(key) for key in ("implementation", "magic")):
        return ""
    theirs = "{} {} ({})".format(*(clean(python.get(key)) for key in ("implementation", "version", "executable")))
    minor = ".".join(str(form.get("version")).split(".")[:2])
    return (
        f"the worker on {host} runs {theirs}, the function was made by {form.get('implementation')} "
        f"{form.get('version')}: set the option `shell` to a Python {minor} there"
    )
