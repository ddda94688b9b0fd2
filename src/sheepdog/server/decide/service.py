"""The unfinished requests as the server remembers them: taken over from the store, watched, given up, forgotten.

No socket, no thread, no clock of its own. What is remembered can be made again from the store at any moment.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress

from ...config.options import Options
from ...errors import ConfigError, NotOwnRequest, RequestNotFound, StorageError
from ...storage import Storage
from ...values.facts import What
from ...values.model import Kind, Outcome, Request, RequestState
from .facts import Facts
from .live import LiveRequest
from .order import is_held_up
from .policy import FRESH, Past, Policy
from .queue import Queue
from .shortage import coming

log = logging.getLogger(__name__)

LATEST = 1000  # attempts that tell, after a restart, what is known of the hosts
FAULTS = 3  # in a row, after which a request ends
FAULT_SECONDS = 60.0  # from one fault to the next that is in a row with it
AHEAD = 64  # calls of an open request that may have been leased beyond what is stored of it


class Service:
    """What the decisions are made over. clock is monotonic, in seconds."""

    def __init__(self, storage: Storage, clock: Callable[[], float]) -> None:
        self.storage = storage
        self.clock = clock
        self.live: dict[int, LiveRequest] = {}
        self.unmarked: set[int] = set()  # requests of which more has been leased than is stored
        self.complete: dict[int, set[int]] = {}  # ended requests -> array jobs of which no worker waits in a queue
        self.faults: dict[int, tuple[int, float]] = {}  # how many in a row requests had, and when the last one was
        self.put_off: set[str] = set()  # directories that the next server has to see to
        self.swept: dict[Hashable, float] = {}  # places on hosts -> when what is old there may be looked for again
        self._version = -1  # of the store, when it was last compared with what is remembered

    def token(self, request_id: int) -> str | None:
        """Return the token of a request, None if there is no such request."""
        self.look_again()
        if request_id in self.live:
            return self.live[request_id].request.token
        try:
            request = self.storage.get_request(request_id)
        except RequestNotFound:
            return None
        return request.token if self.storage.is_made_here(request_id) else None

    def find(self, request_id: int) -> LiveRequest | None:
        """Return an unfinished request, from the store if need be; None if it has ended."""
        live = self.live.get(request_id)
        if live is None:
            try:
                request = self.storage.get_request(request_id)
            except RequestNotFound:
                return None
            unended = request.state in (RequestState.NEW, RequestState.SUBMITTED)
            if unended and self.storage.is_made_here(request_id):
                live = self.live[request_id] = take_over(self.storage, request, self.clock())
                self.unmarked.add(request_id)
        return live

    def forget(self, request_id: int) -> None:
        """Forget a request: it is no more, or what is remembered of it may not be what is stored."""
        self.live.pop(request_id, None)

    # --- a request whose row or options are of no use

    @contextmanager
    def apart(self, request_id: int) -> Iterator[None]:
        """Keep what is wrong with one request from the others. What is wrong with the store is everybody's."""
        try:
            yield
        except RequestNotFound:  # it was removed
            self.forget(request_id)
        except (ConfigError, NotOwnRequest) as error:
            self.end_unusable(request_id, str(error))
        except StorageError:  # what is remembered may not have been stored: it is made again from what was
            self.forget(request_id)
            raise
        except Exception as error:
            self.fail(request_id, error)

    def fail(self, request_id: int, error: Exception) -> None:
        """Note a fault that only this request has; what is remembered of it is made again. After some, it ends."""
        self.forget(request_id)
        count, latest = self.faults.get(request_id, (0, -FAULT_SECONDS))
        count = 1 + (count if self.clock() - latest <= FAULT_SECONDS else 0)
        self.faults[request_id] = count, self.clock()
        log.warning("request %d cannot be dealt with: %s", request_id, error, exc_info=error)
        if count >= FAULTS:
            words = f"{type(error).__name__}: {error}"
            text = f"this version of Sheepdog cannot deal with what is stored of it ({words})"
            self.end_unusable(request_id, f"{text}; the server's log says more")

    def end_unusable(self, request_id: int, why: str) -> None:
        """End a request of which no more can be used than its number; if it has ended, let what is left of it be."""
        log.warning("request %d: %s", request_id, why)
        self.forget(request_id)
        self.faults.pop(request_id, None)
        with suppress(RequestNotFound):
            if request_id in self.storage.requests(RequestState.ENDED):
                self.storage.step(request_id, "clear")
                return
            self.storage.close_request(request_id)
            self.storage.end_pending(request_id, Kind.NOT_RUN, f"not run: {why}")
            self.storage.step(request_id, "end")

    def ready(self) -> dict[int, int]:
        """Return how many tasks workers without any may have now, of each request that lets them wait."""
        return {
            number: 0 if is_held_up(live.queue) else live.queue.ready_for(0)
            for number, live in self.live.items()
            if live.ordered
        }

    # --- how far tasks have been leased

    def reach(self, live: LiveRequest, index: int) -> None:
        """Note the highest index that was leased of a request.

        It is stored before the reply is sent. But calls of an open request wait anyway, after a restart, until the
        workers have named what they hold: once it is known that there are workers, so many may be ahead of what is
        stored, and nobody waits for a commit of it alone.
        """
        live.reached = index
        self.unmarked.add(live.request.id)
        if not (live.ordered and live.marked) or index > live.marked + AHEAD:
            self.mark()

    def mark(self) -> None:
        """Store how far tasks have been leased."""
        for request_id in self.unmarked & self.live.keys():
            live = self.live[request_id]
            if live.reached > live.marked:
                self.storage.set_leased(request_id, live.reached)
                live.marked = live.reached
        self.unmarked.clear()

    # --- what other programs do

    def look_again(self) -> None:
        """See at once what another program has done to the requests."""
        version = self.storage.version()
        if version != self._version:
            self.open_requests()
            self._version = version

    def open_requests(self) -> list[int]:
        """Return the requests that have not ended; forget those that others cancelled, removed or began again."""
        found = self.storage.unended()
        for request_id, live in list(self.live.items()):
            with self.apart(request_id):
                latest = found.get(request_id)
                if latest is None or latest.token != live.request.token:
                    self.drop(live)
                    continue
                if live.request.open:
                    same = latest.state == live.request.state
                    request = live.request if same else self.storage.get_request(request_id)
                    self.grow(live, request._replace(tasks=latest.tasks, open=latest.open))
                self.withdraw(live, latest.cancelled)
        return list(found)

    def grow(self, live: LiveRequest, latest: Request) -> None:
        """Take in what the maker of a request has done: tasks added, or its first array job submitted."""
        was_new, tasks = live.request.state == RequestState.NEW, live.request.tasks
        live.request = latest
        if latest.tasks > tasks:
            if live.queue.empty:
                live.busy_since = self.clock()
                live.jobs.anew = live.jobs.anew or not coming(live, 0)  # its workers had nothing to do, and have left
                if live.tries.fruitless:
                    live.tries.begin_anew()
                    self.storage.set_fruitless(latest.id, 0)
            live.queue.extend(tasks + 1, latest.tasks)
        if was_new:
            for array in self.storage.arrays(latest.id):
                live.add_array(array)

    def withdraw(self, live: LiveRequest, cancelled: int) -> None:
        """Take tasks out of the queue that their maker has taken back; cancelled is how many there are by now."""
        if cancelled != live.cancelled:
            ended = self.storage.ended_among(live.request.id, live.queue.ranges)
            begun = [
                Outcome(task=index, kind=Kind.CANCELLED, value=b"", attempt=live.queue.may_have_begun(index))
                for index in ended
                if live.marked < index <= live.reached
            ]
            if begun:  # their maker could not know
                self.storage.store_outcomes(live.request.id, begun)
            live.queue.settle(ended)
            live.facts.note(What.TAKEN_BACK, f"{cancelled - live.cancelled} tasks")
            live.cancelled = cancelled

    def store_facts(self, live: LiveRequest) -> None:
        """Store what there is to see of a request; in vain if it was removed."""
        with suppress(RequestNotFound):
            live.facts.store(self.storage, live.request.id, live.workers.known, self.clock())

    # --- the end

    def retire(self, live: LiveRequest) -> None:
        """Forget a request whose tasks have all ended."""
        self.storage.set_note(live.request.id, "")
        self.forget(live.request.id)
        self._end_facts(live)
        self.store_facts(live)
        if live.all_called():
            self.complete[live.request.id] = {*live.jobs.there}

    def drop(self, live: LiveRequest) -> None:
        """Forget a request that another program has ended, removed or begun again."""
        self.forget(live.request.id)
        with suppress(StorageError, RequestNotFound):
            if self.storage.get_request(live.request.id).token == live.request.token:
                self._end_facts(live)
                self.store_facts(live)

    def _end_facts(self, live: LiveRequest) -> None:
        why = "the request has ended"
        for name, seen in live.workers.known.items():
            live.facts.end(name, seen, why, self.clock())
        live.facts.end_unheard(why)

    def cancel(self, live: LiveRequest, reason: str) -> None:
        """End the tasks of a request whose workers somebody has deleted. An open one goes on with those that come."""
        if live.request.open:
            self._end_calls(live, reason)
        else:
            reason += f"; `sheepdog.retry({live.request.id}, {self.storage.dbfile!r})` runs the rest"
            self.give_up(live, reason, kept=False, kind=Kind.CANCELLED)

    def _end_calls(self, live: LiveRequest, reason: str) -> None:
        self.mark()
        tasks = [index for first, last in live.queue.ranges for index in range(first, last + 1)]
        count = self.storage.end_pending(live.request.id, Kind.CANCELLED, reason, tasks)
        live.queue.settle(tasks)
        live.jobs.begin_anew()
        live.cancelled += count
        log.warning("request %d: %d tasks ended: %s", live.request.id, count, reason)
        self.storage.set_note(live.request.id, reason)

    def give_up(self, live: LiveRequest, reason: str, kept: bool = True, kind: Kind = Kind.NOT_RUN) -> None:
        """End all tasks of a request that have not ended, with this reason. kept: its workers' words may tell more."""
        self.mark()
        if kept:
            self.storage.set_gave_up(live.request.id)
        if live.request.open:
            self.storage.close_request(live.request.id)
        count = self.storage.end_pending(live.request.id, kind, reason)
        log.warning("request %d: %d tasks ended: %s", live.request.id, count, reason)
        live.facts.note(What.STOPPED, reason)
        self.retire(live)
        if live.request.open:
            self.storage.set_note(live.request.id, reason)  # for its maker, who comes with other tasks


def take_over(storage: Storage, request: Request, now: float) -> LiveRequest:
    """Make what the server remembers of a request from what is stored of it."""
    options = Options.read(request.options)
    options.require_kinds()
    storage.require_function(request.id)
    policy = Policy.of(options.config)
    past = pasts(storage, request, policy)
    reached = request.leased
    if reached and (request.open or options.ordered):
        reached = max(reached, min(reached + AHEAD, request.tasks))
    queue = Queue(storage.pending(request.id), options.config.lease, reached, past)
    live = LiveRequest(request, options, queue, policy, now)
    live.reached = reached
    live.facts = Facts(worker for worker in storage.workers(request.id) if worker.ended is None)
    for array in storage.arrays(request.id):
        live.add_array(array)
    live.jobs.anew = request.open and not live.jobs.there  # else it would have ended with its workers
    live.cancelled = storage.progress(request.id).cancelled
    for outcome, age in storage.latest_ends(request.id, LATEST) if live.hosts.several else ():
        well = outcome.kind == Kind.RESULT
        live.note_host(outcome.host, well, [] if well else [outcome], now - age)
        if not well:
            live.hosts.shun(outcome.host, outcome.task, now - age, now)
    if live.breaker.limit:
        for outcome in storage.first_outcomes(request.id, live.breaker.limit):
            live.breaker.feed(outcome)
    return live


def pasts(storage: Storage, request: Request, policy: Policy) -> dict[int, Past]:
    """Return what the pending tasks have behind them, from the history."""
    found: dict[int, Past] = {}
    advanced = storage.checkpointed(request.id)
    for attempt, counts in storage.attempts(request.id, pending=True):
        past = found.get(attempt.task, FRESH)
        if counts:
            past, _ = policy.judge(past, attempt.kind, attempt.attempt)
        else:
            past = past.counted(attempt.attempt)
        if attempt.attempt < advanced.get(attempt.task, 0):
            past = past.advanced()
        found[attempt.task] = past
    return found
