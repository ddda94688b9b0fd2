"""What the server decides: a worker's call in, a reply out. No socket, no thread, no clock of its own.

A call is answered from the store and the queues. The caller commits before it sends the reply, so what a worker is
told has been stored is on the disk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .calls import Call, Reply, clean, mismatch, read_exchange, refuse
from .client import IN_MEMORY, MAX_BATCH, PROTOCOL
from .config import Config
from .errors import RequestNotFound, StorageError
from .herd import Herd, WorkerSeen
from .model import JobStatus, Kind, Outcome, Request, RequestState, StoredBlob, Wave
from .policy import FRESH, Past, Policy
from .queue import Queue
from .storage import MAX_VALUE, Storage

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 600.0  # seconds before workers are submitted again after that has failed
MAX_WORKERS = 100_000  # of a request
LASTING = 600.0  # seconds after which an outcome shows that submitting workers again has been of use
SPARES = 1  # workers that stay when there is nothing to lease, in case another is lost
ENOUGH_REFUSED = 8  # workers of another Python: so many, and none that fits, end the request
UNREACHED = 60.0  # seconds without any worker after which the user hears of it
UNREACHABLE = 600.0  # seconds that workers may run, and none of them call, before the request ends
SHORT_LEASE = 10.0  # seconds, beyond those that a worker says it has left


@dataclass(frozen=True, slots=True)
class Watched:
    """A request with array jobs, for whoever asks the schedulers. calm: its workers say enough themselves."""

    request: Request
    waves: tuple[Wave, ...]
    calm: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Workers to be submitted: how many, with resources raised how often, and why."""

    request: Request
    workers: int
    level: int
    why: str


def heartbeat(lease: float) -> float:
    """Return the seconds between two signs of life: several may be lost before a lease ends."""
    return max(0.2, lease / 7.5)


def lasting(options: Mapping[str, Any]) -> float:
    """Return the seconds after which an outcome shows that workers are of use: with a short walltime, half of that."""
    said = {key: options[key] for key in ("time", "ge_opts") if options.get(key)}
    walltime = Config(**said).walltime
    return min(LASTING, walltime / 2) if walltime else LASTING


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
        options = herd.request.options
        settings: dict[str, Any] = {"heartbeat": heartbeat(herd.queue.lease), "max_value": MAX_VALUE}
        settings.update({key: options.get(key) for key in ("timeout", "tasks_per_child")})
        return Reply(settings, self.storage.function_blobs(call.request))

    def refuse_worker(self, herd: Herd, worker: str, seen: WorkerSeen, problem: str) -> None:
        """Note a worker that cannot load the function; when none can, its tasks end with the reason."""
        log.warning("request %d: %s", herd.request.id, problem)
        herd.refused[seen.element or worker] = problem
        herd.workers.pop(worker, None)
        self.storage.set_note(herd.request.id, problem)
        enough = min(ENOUGH_REFUSED, sum(wave.workers for wave in herd.waves.values()) or ENOUGH_REFUSED)
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
        if any(not 1 <= outcome.task <= herd.request.tasks for outcome in said.outcomes):
            return refuse(400, f"the tasks of request {request_id} are 1 to {herd.request.tasks}")
        now = self.clock()
        seen = self.seen(herd, worker, call.header)
        seen.call = said.number
        herd.joined = True
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
        if not blobs:
            header["wait"] = 1.0
        return Reply(header, blobs)

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
        if (
            herd.fruitless
            and len(late) < len(outcomes)
            and self.clock() - herd.submitted > lasting(herd.request.options)
        ):
            herd.fruitless = 0
        for outcome in outcomes if herd.breaker.limit else ():
            if reason := herd.breaker.feed(outcome):
                herd.breaker.limit = 0
                self.give_up(herd, f"not run: {reason}", kept=False)
                return late
        if herd.queue.empty:
            self.retire(herd)
        return late

    def lease(
        self, herd: Herd, worker: str, level: int, want: int, now: float, header: dict[str, Any]
    ) -> list[bytes | StoredBlob]:
        """Lease a fair share of the ready tasks; return their arguments, their names go into the header."""
        queue = herd.queue
        queue.wake(now)
        if queue.doubtful and herd.waves and herd.all_called():
            self.release_doubtful(herd)
        ready = queue.ready_for(level)
        share = -(-ready // (2 * max(1, len(queue.holders))))
        if ready > MAX_BATCH:
            share = max(share, want // 50)  # a hundredth of a second's work is not worth a call of its own
        taken = dict(queue.take(worker, max(1, min(want, share, MAX_BATCH)), now, level))
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
    def is_surplus(herd: Herd, worker: str, level: int) -> bool:
        """Tell whether a worker without work may go: each task that is left has a worker, and there are spares."""
        queue = herd.queue
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
        policy = Policy.of(request.options)
        past: dict[int, Past] = {}
        for attempt, counts in self.storage.attempts(request.id, pending=True):
            before = past.get(attempt.task, FRESH)
            if counts:
                past[attempt.task], _ = policy.judge(before, attempt.kind, attempt.attempt)
            else:
                past[attempt.task] = before.counted(attempt.attempt)
        lease = float(request.options.get("lease", 150.0))
        queue = Queue(self.storage.pending(request.id), lease, request.leased, past)
        herd = Herd(request, queue, policy, self.clock())
        for wave in self.storage.waves(request.id):
            herd.add_wave(wave)
        progress = self.storage.progress(request.id)
        if progress.ended:
            herd.breaker.limit = 0  # it has been decided before
        return herd

    def seen(self, herd: Herd, worker: str, header: Mapping[str, Any]) -> WorkerSeen:
        """Return what is known of a worker. One that is new in its place tells that the one before it has ended."""
        seen = herd.workers.get(worker)
        if seen is None:
            wave = header.get("wave")
            wave = wave if type(wave) is int else 0
            host, element = clean(header.get("host")), clean(header.get("element"))
            seen = WorkerSeen(host, element, self.clock(), wave, herd.levels.get(wave, 0))
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
            outcome = Outcome(index, kind, text.encode(), attempt, host, attempts=past.attempts)
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
        found = [Outcome(index, Kind.LOST, text, attempt) for index, attempt in herd.queue.release_doubtful()]
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
        count = self.storage.end_pending(herd.request.id, Kind.NOT_RUN, reason)
        log.warning("request %d: %d tasks ended: %s", herd.request.id, count, reason)
        self.retire(herd)

    # --- what time says

    def tick(self) -> None:
        """Look for new requests and for those that ended elsewhere; take back what silent workers held."""
        now = self.clock()
        for request_id in self.open_requests():
            try:
                herd = self.herd(request_id)
                if herd is not None:
                    self.look_after(herd, now)
            except RequestNotFound:  # it was removed
                self.herds.pop(request_id, None)
            except StorageError:  # what is remembered may not have been stored: it is made again from what was
                self.herds.pop(request_id, None)
                raise

    def open_requests(self) -> list[int]:
        """Return the requests that have not ended; forget those that others cancelled, removed or began again."""
        found = self.storage.requests(RequestState.NEW, RequestState.SUBMITTED)
        for request_id, herd in list(self.herds.items()):
            if request_id not in found or self.storage.get_request(request_id).token != herd.request.token:
                del self.herds[request_id]
        return found

    def look_again(self) -> None:
        """See at once what another program has done to the requests."""
        version = self.storage.version()
        if version != self.version:
            self.open_requests()
            self.version = version

    def look_after(self, herd: Herd, now: float) -> None:
        """Do what time demands for a request."""
        if herd.request.state == RequestState.NEW:
            herd.request = self.storage.get_request(herd.request.id)
            for wave in self.storage.waves(herd.request.id):
                herd.add_wave(wave)
            return
        for worker in herd.silent(now):
            self.lose(herd, worker, f"nothing was heard of it for {herd.queue.lease:.0f} s")
        if herd.queue.doubtful and now - herd.since > herd.queue.lease:
            self.release_doubtful(herd)
        if herd.workers:
            herd.alone_since = now
        elif now - herd.alone_since > UNREACHED and (situation := herd.situation()):
            self.storage.set_note(herd.request.id, situation)
        if herd.request.id in self.herds:
            self._conclude(herd)

    def renew_all(self) -> None:
        """Renew every lease, after a time in which the server could not listen."""
        for herd in self.herds.values():
            herd.queue.renew_all(self.clock())
            herd.since = self.clock()
            herd.quiet.clear()
            for seen in herd.workers.values():
                seen.heard = self.clock()

    # --- what the scheduler says

    def watched(self) -> list[Watched]:
        """Return the unfinished requests of which a scheduler knows."""
        now = self.clock()
        return [
            Watched(herd.request, tuple(wave for wave in herd.waves.values() if wave.job), herd.is_calm(now))
            for herd in self.herds.values()
            if any(wave.job for wave in herd.waves.values())
        ]

    def heed(self, request_id: int, statuses: Mapping[int, JobStatus], asked: float) -> None:
        """Compare what the scheduler says of a request's array jobs, by number, with what the workers say.

        asked is when the question was put: of workers that came later the answer knows nothing.
        """
        herd = self.herd(request_id)
        if herd is None:
            return
        try:
            herd.unanswered = ""
            for number, status in statuses.items():
                if number in herd.waves:
                    self._compare(herd, number, status, asked)
            if request_id in self.herds:
                self._conclude(herd)
        except RequestNotFound:  # it was removed
            self.herds.pop(request_id, None)

    def unanswered(self, request_id: int, error: str) -> None:
        """Note that the scheduler does not answer."""
        herd = self.herds.get(request_id)
        if herd is not None and not herd.unanswered:
            herd.unanswered = f"the scheduler has not answered since {time.strftime('%H:%M')}: {error}"

    def _compare(self, herd: Herd, number: int, status: JobStatus, asked: float) -> None:
        herd.statuses[number] = status
        if herd.joined:  # else its user is to hear that none can
            herd.listen(number, status, asked, max(herd.queue.lease, UNREACHED))
        herd.missed[number] = herd.missed.get(number, 0) + 1 if herd.is_over(number, status) else 0
        for worker, seen in list(herd.workers.items()):
            if seen.wave != number:
                continue
            if seen.element in status.running:
                seen.missed = None
            elif seen.missed is None or seen.heard >= seen.missed:
                seen.missed = asked  # the scheduler may be wrong, or late: it must say so twice
            else:
                self.lose(herd, worker, "the scheduler says that it has ended")

    def _conclude(self, herd: Herd) -> None:
        """Decide what the scheduler's words mean for a request as a whole."""
        request_id, now = herd.request.id, self.clock()
        if herd.queue.doubtful and herd.all_heard():
            self.release_doubtful(herd)
        alive = {seen.wave for seen in herd.workers.values()}
        for number in [number for number, missed in herd.missed.items() if missed >= 2 and number not in alive]:
            herd.gone = (
                f"the array job {herd.waves[number].job} has ended before its tasks: {herd.statuses[number].reason}"
            )
            self.storage.end_wave(request_id, number)
            herd.end_wave(number)
        broken = "; ".join(status.reason for status in herd.statuses.values() if status.broken)
        pending = any(status.pending for status in herd.statuses.values())
        if broken and not (herd.running or pending or herd.workers):
            self.give_up(herd, f"not run: {broken}")
        elif broken:
            self.storage.set_note(request_id, f"some workers cannot start: {broken}; the others go on")
        elif not herd.workers and any(status.held for status in herd.statuses.values()):
            self.storage.set_note(request_id, herd.situation())
        elif not herd.waves and not herd.workers and not herd.joined:
            self.give_up(herd, self._never_joined(herd))
        elif herd.queue.leased:
            return  # also those that are leaving may still bring outcomes
        elif (shortage := herd.shortage(now)) and shortage.all and herd.fruitless >= self._resubmissions(herd):
            times = f" {herd.fruitless + 1} times in a row" if herd.fruitless else ""
            where = f"What its workers said is in {herd.request.options.get('host') or 'this machine'}:{herd.place}"
            self.give_up(herd, f"not run: its workers have ended{times}; the last time {shortage.why}. {where}")
        elif herd.running and not herd.joined and now - herd.since > UNREACHABLE:
            self.give_up(herd, f"not run: for {UNREACHABLE:.0f} s {herd.situation()}")

    @staticmethod
    def _resubmissions(herd: Herd) -> int:
        return int(herd.request.options.get("resubmissions", 3))

    @staticmethod
    def _never_joined(herd: Herd) -> str:
        why = next(iter(herd.refused.values()), "")
        if not why:
            shell = herd.request.options.get("shell") or "/usr/bin/python3"
            why = f"no worker has called: is {shell} a Python there, and the option `shell` right?"
        place = f"{herd.request.options.get('host') or 'this machine'}:{herd.place}"
        return f"not run: {'; '.join(filter(None, (herd.gone, why)))}. What its workers said is in {place}"

    # --- what the watcher does for requests

    def wanted(self) -> list[Wanted]:
        """Return the workers to submit again; submitted or not_submitted tells what came of it."""
        found = []
        for herd in self.herds.values():
            shortage = herd.shortage(self.clock())
            limit = self._resubmissions(herd)
            if shortage is None or not herd.joined or herd.fruitless >= limit:
                continue
            herd.submitting = True
            herd.fruitless += 1
            log.warning("request %d: %s; submitting %d workers", herd.request.id, shortage.why, shortage.workers)
            self.storage.set_note(
                herd.request.id,
                f"{shortage.why}; {shortage.workers} workers are submitted again "
                f"({herd.fruitless} of {limit} times in a row)",
            )
            found.append(Wanted(herd.request, shortage.workers, shortage.level, shortage.why))
        return found

    def plan(self, request_id: int, wave: Wave) -> Wave:
        """Note an array job that is about to be submitted, and give it a number."""
        wave = self.storage.new_wave(request_id, wave)
        herd = self.herds.get(request_id)
        if herd is not None:
            herd.levels[wave.number] = wave.level  # its workers may call before its submission has returned
        return wave

    def submitted(self, request_id: int, wave: Wave) -> bool:
        """Note that an array job is in the scheduler's hands. Return whether its request still waits for workers."""
        waits = self.storage.set_submitted(request_id, wave)
        herd = self.herds.get(request_id)
        if herd is not None:
            herd.submitting = False
            herd.failures = 0
            herd.submitted = self.clock()
            herd.add_wave(wave)
        return waits and herd is not None

    def not_submitted(self, request_id: int, number: int, error: str, refused: bool) -> None:
        """Note that workers could not be submitted again. Unless the scheduler refused, that counts as no try."""
        self.storage.end_wave(request_id, number)
        herd = self.herds.get(request_id)
        if herd is None:
            return
        herd.submitting = False
        herd.failures += 1
        herd.not_before = self.clock() + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(herd.failures - 1, 10))
        herd.gone = error
        if not refused:
            herd.fruitless -= 1
        self.storage.set_note(request_id, f"workers cannot be submitted again: {error}; trying on")

    def unsubmitted(self) -> list[tuple[Request, tuple[str, int], tuple[Wave, ...]]]:
        """Return the requests that are being submitted, by which machine and process, and what it has noted so far."""
        found = []
        for request_id in self.storage.requests(RequestState.NEW):
            request = self.storage.get_request(request_id)
            if submitter := request.options.get("submitter"):
                found.append((request, (submitter[0], submitter[1]), tuple(self.storage.waves(request_id))))
        return found

    def unseen(self) -> list[tuple[Request, Wave]]:
        """Return array jobs of submitted requests whose submission nobody saw to its end: a server died meanwhile."""
        return [
            (herd.request, wave)
            for herd in self.herds.values()
            if not herd.submitting and herd.request.state == RequestState.SUBMITTED
            for wave in self.storage.waves(herd.request.id)
            if not wave.job and wave.ended is None
        ]

    def forget_wave(self, request_id: int, number: int) -> None:
        """Note that an array job was not submitted."""
        self.storage.end_wave(request_id, number)

    def moved(self, request_id: int, wave: Wave) -> None:
        """Note the addresses that the workers of an array job have been told."""
        self.storage.set_urls(request_id, wave.number, wave.urls)
        herd = self.herds.get(request_id)
        if herd is not None:
            herd.add_wave(wave)

    def puzzle(self, request_id: int, reason: str) -> None:
        """Note why the scheduler lets workers wait."""
        herd = self.herds.get(request_id)
        if herd is not None:
            herd.because = reason

    def abandon(self, request_id: int) -> None:
        """End a request whose maker has ended without submitting it."""
        herd = self.herd(request_id)
        if herd is not None and herd.request.state == RequestState.NEW:
            self.give_up(herd, "not run: the program that made the request ended before it was submitted", kept=False)

    def left_over(self) -> list[tuple[Request, tuple[Wave, ...], bool]]:
        """Return the ended requests of which something is left on a host, and whether workers may still wait there."""
        return [
            (
                self.storage.get_request(request_id),
                tuple(self.storage.waves(request_id)),
                request_id not in self.complete,
            )
            for request_id in self.storage.requests(RequestState.ENDED)
        ]

    def clear(self, request_id: int) -> None:
        """Note that nothing is left of a request."""
        self.storage.step(request_id, "clear")
        self.complete.discard(request_id)

    def collect(self, call: Call) -> None:
        """Take note of outcomes that a worker left behind because it could not deliver them."""
        herd = self.herd(call.request)
        if herd is None:
            return
        said = read_exchange(call)
        outcomes = [outcome for outcome in said.outcomes if 1 <= outcome.task <= herd.request.tasks]
        late = self.accept(herd, str(call.header.get("worker")), outcomes, self.clock())
        log.info("request %d: %d outcomes collected, %d of them late", call.request, len(outcomes), len(late))
