"""What the server decides when a worker calls: a call in, a reply out. No socket, no thread, no clock of its own.

A call is answered from the store and the queues. The caller commits before it sends the reply, so what a worker is
told has been stored is on the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ...client import CHECKPOINT, IN_MEMORY, MAX_BATCH, PROTOCOL, Message
from ...config import Config
from ...config.options import Options
from ...errors import RequestNotFound
from ...storage import Storage
from ...storage.schema import MAX_VALUE
from ...values.model import Kind, Outcome, Request, RequestState, StoredBlob
from ..calls import Call, Reply, clean, mismatch, read_exchange, refuse
from .live import Herd, WorkerSeen
from .policy import FRESH, Past, Policy
from .queue import Queue

log = logging.getLogger(__name__)

MAX_WORKERS = 100_000  # of a request
LASTING = 600.0  # seconds after which an outcome shows that submitting workers again has been of use
SPARES = 1  # workers that stay when there is nothing to lease, in case another is lost
ENOUGH_REFUSED = 8  # workers of another Python: so many, and none that fits, end the request
SHORT_LEASE = 10.0  # seconds, beyond those that a worker says it has left
OPEN_BEAT = 5.0  # seconds between two signs of life, at most, of a worker whose tasks may be taken back


def heartbeat(lease: float) -> float:
    """Return the seconds between two signs of life: several may be lost before a lease ends."""
    return max(0.2, lease / 7.5)


def beat(herd: Herd) -> float:
    """Return the seconds between two signs of life of a request's workers."""
    usual = heartbeat(herd.queue.lease)
    return min(usual, OPEN_BEAT) if herd.request.open else usual


def lasting(config: Config) -> float:
    """Return the seconds after which an outcome shows that workers are of use: with a short walltime, half of that."""
    return min(LASTING, config.walltime / 2) if config.walltime else LASTING


class Service:
    """The decisions. clock is monotonic, in seconds."""

    def __init__(self, storage: Storage, clock: Callable[[], float]) -> None:
        self.storage = storage
        self.clock = clock
        self.version = -1  # of the store, when it was last compared with what is remembered
        self.herds: dict[int, Herd] = {}
        self.complete: set[int] = set()  # ended requests of which no worker waits in a scheduler's queue

    def token(self, request_id: int) -> str | None:
        """Return the token of a request, None if there is no such request."""
        self.look_again()
        if request_id in self.herds:
            return self.herds[request_id].request.token
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
            self.look_again()
            herd = self.herd(call.request)
            if herd is None:
                return refuse(410, "the request has ended")
            return self.join(herd, call, worker) if call.verb == "join" else self.exchange(herd, call, worker)
        except RequestNotFound:  # it was removed
            self.herds.pop(call.request, None)
            return refuse(410, "there is no such request any more")

    # --- the two calls

    def join(self, herd: Herd, call: Call, worker: str) -> Reply:
        """Give a worker the function, if it can load it."""
        if call.header.get("protocol") != PROTOCOL:
            return refuse(426, f"the worker speaks protocol {call.header.get('protocol')!r}; this server {PROTOCOL}")
        if len(herd.workers) >= MAX_WORKERS and worker not in herd.workers:
            return refuse(429, f"the request has {MAX_WORKERS} workers")
        seen = self.seen(herd, worker, call.header)
        problem = mismatch(herd.request.form, call.header.get("python"), seen.host)
        if problem:
            self.refuse_worker(herd, worker, seen, problem)
            return refuse(409, problem)
        herd.joined = True
        config = herd.options.config
        settings: dict[str, Any] = {"heartbeat": beat(herd), "max_value": MAX_VALUE}
        settings.update(timeout=config.timeout, tasks_per_child=config.tasks_per_child)
        return Reply(settings, self.storage.function_blobs(call.request))

    def refuse_worker(self, herd: Herd, worker: str, seen: WorkerSeen, problem: str) -> None:
        """Note a worker that cannot load the function; when none can, its tasks end with the reason."""
        log.warning("request %d: %s", herd.request.id, problem)
        herd.refused[seen.element or worker] = problem
        herd.workers.pop(worker, None)
        self.storage.set_note(herd.request.id, problem)
        enough = min(ENOUGH_REFUSED, sum(array.workers for array in herd.arrays.values()) or ENOUGH_REFUSED)
        if not herd.joined and len(herd.refused) >= enough:
            self.give_up(herd, problem)

    def exchange(self, herd: Herd, call: Call, worker: str) -> Reply:
        """Store outcomes, renew leases, lease tasks."""
        try:
            said = read_exchange(call)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            return refuse(400, f"not an exchange: {error}")
        request_id = call.request
        known = herd.workers.get(worker)
        if known is not None and said.number <= known.call:
            return refuse(400, f"call {said.number} comes after call {known.call}")
        if any(not 1 <= task <= herd.request.tasks for task in said.tasks):
            return refuse(400, f"the tasks of request {request_id} are 1 to {herd.request.tasks}")
        now = self.clock()
        seen = self.seen(herd, worker, call.header)
        seen.call = said.number
        herd.joined = True
        self.keep(herd, worker, said.messages)
        late = self.accept(herd, worker, said.outcomes, now)
        header: dict[str, Any] = {"stored": len(said.outcomes) - len(late), "tasks": []}
        if late:
            header["late"] = late
        if request_id not in self.herds:  # that was its last task
            return Reply(dict(header, stop=True))
        queue = herd.queue
        drop = queue.hold(worker, said.held, now)
        if drop:
            header["drop"] = drop
        if said.leaving is not None:
            if seen.leaving is None:
                log.info("request %d: worker %s on %s is leaving: %s", request_id, worker[:8], seen.host, said.reason)
            seen.leaving = said.reason
            herd.gone = f"they were ended: {said.reason}"
            queue.shorten(worker, now + min(queue.lease, said.leaving + SHORT_LEASE))
            return Reply(header)
        if not said.want:
            return Reply(header)
        blobs = self.lease(herd, worker, seen.level, said.want, now, header)
        if not blobs and not said.held and self.is_surplus(herd, worker, seen.level):
            queue.drop(worker)
            herd.workers.pop(worker, None)
            return Reply(dict(header, stop=True))
        if blobs:
            return Reply(header, blobs)
        if herd.request.open and not said.held:
            return Reply(dict(header, wait=0.0), hold=beat(herd))
        return Reply(dict(header, wait=1.0))

    def ask_again(self, request_id: int, worker: str, want: int) -> Reply:
        """Answer a call that has waited for tasks, and whose outcomes have been stored."""
        self.look_again()
        herd = self.herd(request_id)
        if herd is None:
            return refuse(410, "the request has ended")
        header: dict[str, Any] = {"tasks": [], "wait": 0.0}
        seen = herd.workers.get(worker)
        if seen is None or seen.leaving is not None:
            return Reply(header)
        return Reply(header, self.lease(herd, worker, seen.level, want, self.clock(), header))

    def ready(self) -> dict[int, int]:
        """Return how many tasks of each open request are ready for any worker."""
        return {number: herd.queue.ready_for(0) for number, herd in self.herds.items() if herd.request.open}

    def keep(self, herd: Herd, worker: str, messages: list[Message]) -> None:
        """Store what tasks say; but nothing of an attempt that others follow."""
        latest = {
            (task, attempt): herd.queue.is_latest(worker, task, attempt)
            for task, attempt in {(message.task, message.attempt) for message in messages}
        }
        kept = [message for message in messages if latest[message.task, message.attempt]]
        if kept:
            self.storage.store_messages(herd.request.id, kept)
        advanced = {message.task for message in kept if message.kind == CHECKPOINT}
        for task in advanced & herd.queue.past.keys():
            herd.queue.past[task] = herd.queue.past[task].advanced()
        if advanced:
            self.note_use(herd)

    def accept(self, herd: Herd, worker: str, outcomes: list[Outcome], now: float) -> list[int]:
        """Take note of outcomes: as ends of their tasks, or as attempts that others follow.

        Return the tasks whose outcome changed nothing.
        """
        queue = herd.queue
        ends: list[Outcome] = []
        repeats: list[tuple[Outcome, Past, float]] = []
        late: list[int] = []
        for outcome in outcomes:
            if outcome.kind == Kind.RESULT:
                if queue.past or queue.doubtful:
                    outcome = outcome._replace(attempts=queue.may_have_begun(outcome.task))
                ends.append(outcome)
            elif queue.is_superseded(worker, outcome.task, outcome.attempt):
                if queue.has(outcome.task):
                    self.storage.store_attempts(herd.request.id, [outcome], counts=False)
                late.append(outcome.task)
            else:
                past, delay = herd.policy.judge(queue.past.get(outcome.task, FRESH), outcome.kind, outcome.attempt)
                if delay is None:
                    ends.append(outcome._replace(attempts=past.attempts))
                else:
                    repeats.append((outcome, past, now + delay))
        self.repeat(herd, repeats)
        if ends:
            late += self.end(herd, ends)
        return late

    def repeat(self, herd: Herd, attempts: list[tuple[Outcome, Past, float]]) -> None:
        """Store attempts after which their tasks may be tried again, each from a time on."""
        if attempts:
            self.storage.store_attempts(herd.request.id, [outcome for outcome, _, _ in attempts])
        for outcome, past, due in attempts:
            herd.queue.repeat(outcome.task, past, due)
        herd.queue.wake(self.clock())

    def end(self, herd: Herd, outcomes: list[Outcome]) -> list[int]:
        """Store outcomes that end their tasks. Return the tasks that had ended before."""
        late = self.storage.store_outcomes(herd.request.id, outcomes)
        herd.queue.settle(outcome.task for outcome in outcomes)
        if len(late) < len(outcomes):
            self.note_use(herd)
        for outcome in outcomes if herd.breaker.limit else ():
            if reason := herd.breaker.feed(outcome):
                herd.breaker.limit = 0
                self.give_up(herd, f"not run: {reason}", kept=False)
                return late
        if herd.queue.empty and not herd.request.open:
            self.retire(herd)
        return late

    def note_use(self, herd: Herd) -> None:
        """Note that workers have been of use; if for long, submitting them was worth it."""
        if herd.fruitless and self.clock() - herd.submitted > lasting(herd.options.config):
            herd.fruitless = 0
            self.storage.set_fruitless(herd.request.id, 0)

    def lease(
        self, herd: Herd, worker: str, level: int, want: int, now: float, header: dict[str, Any]
    ) -> list[bytes | StoredBlob]:
        """Lease a fair share of the ready tasks; return their arguments, then the checkpoints that some of them have.

        Their names go into the header.
        """
        queue = herd.queue
        queue.wake(now)
        if queue.doubtful and herd.arrays and herd.all_called():
            self.release_doubtful(herd)
        ready = queue.ready_for(level)
        share = -(-ready // (2 * max(1, len(queue.holders))))
        if ready > MAX_BATCH:
            share = max(share, want // 50)  # a hundredth of a second's work is not worth a call of its own
        taken = dict(queue.take(worker, max(1, min(want, share, MAX_BATCH)), now, level))
        if taken:
            herd.busy = now
        read = self.storage.read_tasks(herd.request.id, list(taken), IN_MEMORY)
        checkpoints: dict[int, bytes | StoredBlob] = {}
        if again := [index for index, _ in read if taken[index] > 1]:
            checkpoints, enough = self.storage.read_checkpoints(herd.request.id, again, IN_MEMORY)
            read = [(index, blob) for index, blob in read if index not in enough]
        if checkpoints:
            header["checkpoints"] = list(checkpoints)
        header["tasks"] = [[index, taken[index]] for index, _ in read]
        if read and read[-1][0] > herd.leased:
            herd.leased = read[-1][0]
            self.storage.set_leased(herd.request.id, herd.leased)
        if len(read) < len(taken):  # they are large: the rest is for somebody else
            sent = {index for index, _ in read}
            queue.put_back(worker, [index for index in taken if index not in sent])
        return [*(blob for _, blob in read), *checkpoints.values()]

    def is_surplus(self, herd: Herd, worker: str, level: int) -> bool:
        """Tell whether a worker without work may go: each task that is left has a worker, and there are spares.

        If there may be more tasks, it may go when there have been none for long.
        """
        queue = herd.queue
        if herd.request.open:
            return queue.empty and self.clock() - herd.busy > herd.options.config.idle_time
        busy = sum(1 for holder in queue.holders.values() if holder.held)
        if queue.ready_for(level) or queue.doubtful or queue.waiting or queue.leased > busy:
            return False
        idle = sum(1 for name, holder in queue.holders.items() if not holder.held and name != worker)
        return idle >= SPARES

    # --- requests

    def herd(self, request_id: int) -> Herd | None:
        """Return an unfinished request, from the store if need be; None if it has ended."""
        herd = self.herds.get(request_id)
        if herd is None:
            try:
                herd = self.take_over(self.storage.get_request(request_id))
            except RequestNotFound:
                return None
            if herd is not None:
                self.herds[request_id] = herd
        return herd

    def take_over(self, request: Request) -> Herd | None:
        """Make what the server remembers of a request from what is stored of it."""
        if request.state not in (RequestState.NEW, RequestState.SUBMITTED):
            return None
        options = Options.read(request.options)
        policy = Policy.of(options.config)
        past: dict[int, Past] = {}
        advanced = self.storage.checkpointed(request.id)
        for attempt, counts in self.storage.attempts(request.id, pending=True):
            before = past.get(attempt.task, FRESH)
            if counts:
                past[attempt.task], _ = policy.judge(before, attempt.kind, attempt.attempt)
            else:
                past[attempt.task] = before.counted(attempt.attempt)
            if attempt.attempt < advanced.get(attempt.task, 0):
                past[attempt.task] = past[attempt.task].advanced()
        queue = Queue(self.storage.pending(request.id), options.config.lease, request.leased, past)
        herd = Herd(request, options, queue, policy, self.clock())
        for array in self.storage.arrays(request.id):
            herd.add_array(array)
        herd.fruitless = request.fruitless
        herd.cancelled = self.storage.progress(request.id).cancelled
        if herd.breaker.limit:
            for outcome in self.storage.first_outcomes(request.id, herd.breaker.limit):
                herd.breaker.feed(outcome)
        return herd

    def seen(self, herd: Herd, worker: str, header: Mapping[str, Any]) -> WorkerSeen:
        """Return what is known of a worker. One that is new in its place tells that the one before it has ended."""
        seen = herd.workers.get(worker)
        if seen is None:
            array = header.get("array", header.get("wave"))  # wave: the word of an older worker
            array = array if type(array) is int else 0
            host, element = clean(header.get("host")), clean(header.get("element"))
            seen = WorkerSeen(host, element, self.clock(), array, herd.levels.get(array, 0))
            for other, before in list(herd.workers.items()):
                if element and before.place == seen.place and worker not in herd.replaced:
                    herd.replaced.add(other)
                    self.lose(herd, other, "it was started again")
            self.storage.set_note(herd.request.id, "")
            herd.workers[worker] = seen
            herd.elements.add(seen.place)
            herd.dead.discard(seen.place)
        seen.heard = self.clock()
        return seen

    def heard(self, request_id: int, worker: str) -> None:
        """Note that a worker is alive: a long call of it is under way."""
        herd = self.herds.get(request_id)
        if herd is not None:
            herd.queue.renew(worker, self.clock())

    def lose(self, herd: Herd, worker: str, why: str) -> None:
        """Take back a lost worker's tasks; end those that have lost so many workers that they may be the cause."""
        seen = herd.workers.pop(worker, None)
        if seen is not None and all(other.place != seen.place for other in herd.workers.values()):
            herd.dead.add(seen.place)
        host = seen.host if seen else "?"
        lost = herd.queue.drop(worker)
        if lost:
            log.warning(
                "request %d: worker %s on %s is lost (%s), with %d tasks",
                *(herd.request.id, worker[:8], host, why, len(lost)),
            )
        ends: list[Outcome] = []
        repeats: list[tuple[Outcome, Past, float]] = []
        for index, attempt in lost:
            before = herd.queue.past.get(index, FRESH)
            if attempt <= before.attempts:  # the worker came back with it: this end of the attempt has been counted
                herd.queue.repeat(index, before, 0.0)
                continue
            kind, text = Kind.LOST, f"its worker on {host} was lost: {why}"
            if seen is not None and seen.leaving is not None:
                kind, text = Kind.INTERRUPTED, f"its worker on {host} was ended: {seen.leaving}"
            past, delay = herd.policy.judge(before, kind, attempt)
            if delay is None and kind == Kind.LOST:
                times = f"its worker was lost {past.losses} times"
                text = f"{times}, the last one on {host} ({why}): the task may be the cause"
            elif delay is None:
                text = f"it was interrupted {past.interruptions} times; the last time {text}"
            outcome = Outcome(
                task=index, kind=kind, value=text.encode(), attempt=attempt, host=host, attempts=past.attempts
            )
            if delay is None:
                ends.append(outcome)
            else:
                repeats.append((outcome, past, 0.0))
        self.repeat(herd, repeats)
        if ends:
            self.end(herd, ends)

    def release_doubtful(self, herd: Herd) -> None:
        """Let tasks be taken that a worker may have begun of which nobody has heard since the server's restart."""
        text = b"it may have been begun: the server was restarted, and no worker has named the task since"
        found = [
            Outcome(task=index, kind=Kind.LOST, value=text, attempt=attempt)
            for index, attempt in herd.queue.release_doubtful()
        ]
        if found:
            self.storage.store_attempts(herd.request.id, found, counts=False)

    def retire(self, herd: Herd) -> None:
        """Forget a request whose tasks have all ended."""
        self.storage.set_note(herd.request.id, "")
        self.herds.pop(herd.request.id, None)
        if herd.all_called():
            self.complete.add(herd.request.id)

    def give_up(self, herd: Herd, reason: str, kept: bool = True) -> None:
        """End all tasks of a request that have not ended, with this reason. kept: its workers' words may tell more."""
        if kept:
            self.storage.set_gave_up(herd.request.id)
        if herd.request.open:
            self.storage.close_request(herd.request.id)
        count = self.storage.end_pending(herd.request.id, Kind.NOT_RUN, reason)
        log.warning("request %d: %d tasks ended: %s", herd.request.id, count, reason)
        self.retire(herd)
        if herd.request.open:
            self.storage.set_note(herd.request.id, reason)  # for its maker, who comes with other tasks

    def open_requests(self) -> list[int]:
        """Return the requests that have not ended; forget those that others cancelled, removed or began again."""
        found = self.storage.requests(RequestState.NEW, RequestState.SUBMITTED)
        for request_id, herd in list(self.herds.items()):
            latest = self.storage.get_request(request_id) if request_id in found else None
            if latest is None or latest.token != herd.request.token:
                del self.herds[request_id]
            else:
                if herd.request.open:
                    self.grow(herd, latest)
                self.withdraw(herd)
        return found

    def grow(self, herd: Herd, latest: Request) -> None:
        """Take in what the maker of a request has done: tasks added, or its first array job submitted."""
        if latest.tasks > herd.request.tasks:
            if herd.queue.empty:
                herd.busy = self.clock()
            if herd.queue.empty and herd.fruitless:
                herd.fruitless = 0
                self.storage.set_fruitless(latest.id, 0)
            herd.queue.extend(herd.request.tasks + 1, latest.tasks)
        was_new, herd.request = herd.request.state == RequestState.NEW, latest
        if was_new:
            for array in self.storage.arrays(latest.id):
                herd.add_array(array)

    def withdraw(self, herd: Herd) -> None:
        """Take tasks out of the queue that their maker has taken back."""
        cancelled = self.storage.progress(herd.request.id).cancelled
        if cancelled != herd.cancelled:
            herd.queue.settle(self.storage.ended_among(herd.request.id, herd.queue.ranges))
            herd.cancelled = cancelled

    def look_again(self) -> None:
        """See at once what another program has done to the requests."""
        version = self.storage.version()
        if version != self.version:
            self.open_requests()
            self.version = version

    def collect(self, call: Call) -> None:
        """Take note of outcomes that a worker left behind because it could not deliver them."""
        herd = self.herd(call.request)
        if herd is None:
            return
        said = read_exchange(call)
        outcomes = [outcome for outcome in said.outcomes if 1 <= outcome.task <= herd.request.tasks]
        messages = [message for message in said.messages if 1 <= message.task <= herd.request.tasks]
        self.keep(herd, str(call.header.get("worker")), messages)
        late = self.accept(herd, str(call.header.get("worker")), outcomes, self.clock())
        log.info("request %d: %d outcomes collected, %d of them late", call.request, len(outcomes), len(late))
