"""What the server decides when a worker calls: a call in, a reply out. No socket, no thread, no clock of its own.

A call is answered from the store and the queues. The caller commits before it sends the reply, so what a worker is
told has been stored is on the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...client import DELETED, IN_MEMORY, MAX_VALUE, PROTOCOL
from ...client.link.dial import DIRECT
from ...errors import RequestNotFound
from ...values.facts import What
from ...values.model import StoredBlob
from ..calls import Call, Reply, Said, clean, fitting, read_exchange, refuse
from . import packages
from .live import LiveRequest
from .order import LONG
from .outcomes import accept, keep, lose, release_doubtful, tell_of_host
from .service import Service
from .share import share
from .workers import Element, WorkerSeen

log = logging.getLogger(__name__)

MOST_WORDS = 100  # texts of a request's workers that are noted

MAX_WORKERS = 100_000  # of a request
MAX_ARRAYS = 1 << 31  # array jobs of a request
FIRST_CALLS = 4  # of a worker: after them it is known that it can run the function
SPARES = 1  # workers that stay when there is nothing to lease, in case another is lost
ENOUGH_REFUSED = 8  # workers of another Python: so many, and none that fits, end the request
SHORT_LEASE = 10.0  # seconds, beyond those that a worker says it has left
OPEN_BEAT = 5.0  # seconds between two signs of life, at most, of a worker whose tasks may be taken back


def heartbeat(lease: float) -> float:
    """Return the seconds between two signs of life: several may be lost before a lease ends."""
    return max(0.2, lease / 7.5)


def beat(live: LiveRequest) -> float:
    """Return the seconds between two signs of life of a request's workers."""
    usual = heartbeat(live.queue.lease)
    return min(usual, OPEN_BEAT) if live.ordered else usual


# --- the calls


def handle(service: Service, call: Call) -> Reply:
    """Answer a call whose token was right."""
    worker = call.header.get("worker")
    if not isinstance(worker, str) or not 0 < len(worker) <= 64 or clean(worker) != worker:
        return refuse(400, "worker must be a short text")
    try:
        service.look_again()
        live = service.find(call.request)
        if live is None:
            return refuse(410, "the request has ended")
        return (join if call.verb == "join" else exchange)(service, live, call, worker)
    except RequestNotFound:  # it was removed
        service.forget(call.request)
        return refuse(410, "there is no such request any more")


def heard(service: Service, request_id: int, worker: str) -> None:
    """Note that a worker is alive: a long call of it is under way."""
    live = service.live.get(request_id)
    if live is not None:
        live.queue.renew(worker, service.clock())


def join(service: Service, live: LiveRequest, call: Call, worker: str) -> Reply:
    """Give a worker the function, if it can load it."""
    if call.header.get("protocol") != PROTOCOL:
        return refuse(426, f"the worker speaks protocol {call.header.get('protocol')!r}; this server {PROTOCOL}")
    if len(live.workers.known) >= MAX_WORKERS and worker not in live.workers.known:
        return refuse(429, f"the request has {MAX_WORKERS} workers")
    seen = greet(service, live, worker, call.header)
    form = fitting(live.request.form, call.header.get("python"), seen.host)
    if isinstance(form, str):
        turn_away(service, live, worker, form)
        return refuse(409, form)
    wanted = packages.read(service.storage.wanted(call.request))
    brought = service.storage.brought(call.request)
    if any(map(call.header.get, ("lacking", "gone", "misfit"))):
        try:
            text = packages.lacking_words(wanted, call.header, seen.host, live.options)
        except (ValueError, TypeError) as error:
            return refuse(400, f"not packages: {error}")
        turn_away(service, live, worker, text)
        return refuse(409, text)
    seen.untried = not form.made_by(call.header["python"])
    if not (seen.untried or wanted or brought):  # else it looks first, or tries
        live.workers.take()
        live.hosts.welcome(seen.host)
    seen.python = clean(call.header["python"].get("version"))
    config = live.options.config
    settings: dict[str, Any] = {"heartbeat": beat(live), "max_value": MAX_VALUE}
    settings.update(timeout=config.timeout, tasks_per_child=config.tasks_per_child, max_output=config.max_output)
    settings["form"] = form.name
    if seen.untried:
        settings.update(trial=form.names, made_by=form.python.get("version"))
    if live.ordered:
        settings["stuck"] = LONG
    if brought:
        settings["brought"] = brought
    if wanted:
        settings["packages"] = [each.told(seen.untried) for each in wanted]
    return Reply(settings, service.storage.function_blobs(call.request))


def exchange(service: Service, live: LiveRequest, call: Call, worker: str) -> Reply:
    """Store outcomes, renew leases, lease tasks."""
    try:
        said = read_exchange(call)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        return refuse(400, f"not an exchange: {error}")
    request_id = call.request
    known = live.workers.known.get(worker)
    if known is not None and said.number <= known.call:
        return refuse(400, f"call {said.number} comes after call {known.call}")
    named = said.tasks
    if named and not 1 <= min(named) <= max(named) <= live.request.tasks:
        return refuse(400, f"the tasks of request {request_id} are 1 to {live.request.tasks}")
    now = service.clock()
    seen = greet(service, live, worker, call.header)
    seen.call = said.number
    if said.unfit:
        turn_away(service, live, worker, said.unfit)
        return Reply({"stored": 0, "tasks": [], "stop": True})
    tried, seen.untried = seen.untried, seen.untried and not (said.want or said.held)  # while it tries, it wants none
    if not seen.untried:
        live.workers.take()
        if tried or said.number <= FIRST_CALLS:
            live.hosts.welcome(seen.host)
    if said.others:
        told = packages.other_words(packages.read(service.storage.wanted(request_id)), said.others)
        hear(service, live, worker, told)
    hear(service, live, worker, said.words)
    if any(said.way):
        learn_way(service, live, worker, said.way)
    keep(service, live, worker, said.messages)
    late = accept(service, live, worker, said.outcomes, now)
    live.order.note(said.outcomes)
    live.facts.run(worker, seen, *said.running)
    header: dict[str, Any] = {"stored": len(said.outcomes) - len(late), "tasks": []}
    if late:
        header["late"] = late
    if request_id not in service.live:  # that was its last task
        return Reply(dict(header, stop=True))
    drop = live.queue.hold(worker, said.held, now)
    if drop:
        header["drop"] = drop
    reply = answer(service, live, worker, said, header, now)
    if said.outcomes and live.facts.is_due(now):
        service.store_facts(live)  # with what has been leased now
    return reply


def answer(service: Service, live: LiveRequest, worker: str, said: Said, header: dict[str, Any], now: float) -> Reply:
    """Answer an exchange of which all has been stored: tasks, if there are any, or what else to do."""
    if said.functions:
        found = service.storage.read_files(live.request.id, said.functions, IN_MEMORY)
        return Reply(dict(header, functions=[name for name, _ in found]), [blob for _, blob in found])
    if said.leaving is not None:
        see_off(live, worker, said.leaving, said.reason, now)
        return Reply(header)
    if not said.want:
        return Reply(header)
    leased = lease(service, live, worker, said.want, now)
    if leased.tasks:
        return Reply({**header, **leased.header}, leased.blobs)
    seen = live.workers.known[worker]
    misplaced = is_misplaced(live, worker)
    if not said.held and (misplaced or is_surplus(live, worker, now)):
        live.queue.drop(worker)
        live.workers.remove(worker)
        live.facts.end(worker, seen, "its host is set aside" if misplaced else "there was no task for it", now)
        live.facts.note(What.DISMISSED, worker=worker)
        return Reply(dict(header, stop=True))
    if not said.held and not live.bound(worker, now):
        return Reply(dict(header, wait=1.0))  # whatever comes, it is not for this host yet
    if live.ordered and not said.held:
        return Reply(dict(header, wait=0.0), hold=beat(live))
    return Reply(dict(header, wait=1.0))


def ask_again(service: Service, request_id: int, worker: str, want: int) -> Reply:
    """Answer a call that has waited for tasks, and whose outcomes have been stored."""
    service.look_again()
    live = service.find(request_id)
    if live is None:
        return refuse(410, "the request has ended")
    header: dict[str, Any] = {"tasks": [], "wait": 0.0}
    seen = live.workers.known.get(worker)
    if seen is None or seen.leaving is not None:
        return Reply(header)
    leased = lease(service, live, worker, want, service.clock())
    return Reply({**header, **leased.header}, leased.blobs)


# --- a worker comes, leaves, or does not fit


def greet(service: Service, live: LiveRequest, worker: str, header: Mapping[str, Any]) -> WorkerSeen:
    """Return what is known of a worker. One that is new in its element tells that the one before it has ended."""
    seen = live.workers.known.get(worker)
    if seen is None:
        number = header.get("array", header.get("wave"))  # wave: the word of an older worker
        number = number if type(number) is int and 0 < number < MAX_ARRAYS else 0
        element = Element(number, clean(header.get("element")))
        for other in live.workers.replace(worker, element):
            lose(service, live, other, "it was started again")
        service.storage.set_note(live.request.id, live.reasons.way)
        level = live.jobs.levels.get(number, 0)
        seen = WorkerSeen(clean(header.get("host")), element, service.clock(), level)
        live.workers.add(worker, seen)
        live.facts.join(worker, seen)
        live.hosts.greet(seen.host)
    seen.heard = service.clock()
    return seen


def hear(service: Service, live: LiveRequest, worker: str, words: Sequence[str]) -> None:
    """Note what a worker says of modules that it could not import: each text once."""
    for text in words:
        if text not in live.heard and len(live.heard) < MOST_WORDS:
            live.heard.add(text)
            live.facts.note(What.STOOD_IN, text, worker=worker)
            service.storage.set_note(live.request.id, text)


def learn_way(service: Service, live: LiveRequest, worker: str, said: tuple[str, str, str]) -> None:
    """Note by which way a worker calls. Of the first one for which it is not the best, the user reads why."""
    way, place, why = said
    host = live.workers.known[worker].host
    live.facts.note(What.CALLS, f"{way} at {place}", worker=worker)
    if way != DIRECT and not live.reasons.way:
        because = f", for {host} does not reach this machine itself ({why})" if why else ""
        live.reasons.way = f"workers call this machine by the {way} at {place}{because}"
        log.info("request %d: %s", live.request.id, live.reasons.way)
        service.storage.set_note(live.request.id, live.reasons.way)


def see_off(live: LiveRequest, worker: str, seconds: float, reason: str, now: float) -> None:
    """Note that a worker ends in so many seconds. It is to deliver what it has, and gets no more."""
    seen = live.workers.known[worker]
    if seen.leaving is None:
        log.info("request %d: worker %s on %s is leaving: %s", live.request.id, worker[:8], seen.host, reason)
        live.facts.note(What.LEAVING, reason, worker=worker)
    seen.leaving = reason
    if DELETED in reason:
        live.workers.warned.setdefault(seen.element, now)
    live.reasons.ended = f"they were ended: {reason}"
    live.queue.shorten(worker, now + min(live.queue.lease, seconds + SHORT_LEASE))


def turn_away(service: Service, live: LiveRequest, worker: str, problem: str) -> None:
    """Note a worker that cannot load the function; when none can, its tasks end with the reason."""
    log.warning("request %d: %s", live.request.id, problem)
    live.facts.end(worker, live.workers.known[worker], problem, service.clock())
    live.facts.note(What.REFUSED, problem, worker=worker)
    live.hosts.refuse(live.workers.known[worker].host, problem)
    live.workers.refuse(worker, problem)
    service.storage.set_note(live.request.id, problem)
    enough = min(ENOUGH_REFUSED, sum(array.workers for array in live.jobs.there.values()) or ENOUGH_REFUSED)
    if not live.workers.joined and len(live.workers.refused) >= enough and not live.may_go_elsewhere():
        service.give_up(live, problem)


# --- tasks


class Leased(NamedTuple):
    """Tasks for a worker, (index, attempt), and the tasks of which checkpoints follow; blobs are of these, in order."""

    tasks: list[list[int]]
    checkpoints: list[int]
    blobs: list[bytes | StoredBlob]

    @property
    def header(self) -> dict[str, Any]:
        """What of it stands in a reply's header."""
        header: dict[str, Any] = {"tasks": self.tasks}
        return {**header, "checkpoints": self.checkpoints} if self.checkpoints else header


def lease(service: Service, live: LiveRequest, worker: str, want: int, now: float) -> Leased:
    """Lease a fair share of the ready tasks; return their arguments, then the checkpoints that some of them have."""
    queue, request_id = live.queue, live.request.id
    seen = live.workers.known[worker]
    queue.wake(now)
    if queue.doubtful and live.jobs.there and live.all_called():
        release_doubtful(service, live)
    suspect = live.hosts.is_suspect(seen.host)
    if suspect:
        tell_of_host(service, live, live.hosts.judge(seen.host, now))  # others may have done well since
    batch = min(portion(live, worker, want), live.bound(worker, now))
    taken = dict(queue.take(worker, batch, now, seen.level, live.shunned(seen.host))) if batch else {}
    if taken and suspect:
        live.hosts.take(seen.host, now)
    if taken:
        live.busy_since = now
        live.pace.begin(now)
    read = service.storage.read_tasks(request_id, list(taken), IN_MEMORY)
    checkpoints: dict[int, bytes | StoredBlob] = {}
    if again := [index for index, _ in read if taken[index] > 1]:
        checkpoints, enough = service.storage.read_checkpoints(request_id, again, IN_MEMORY)
        read = [(index, blob) for index, blob in read if index not in enough]
    if read and read[-1][0] > live.reached:
        service.reach(live, read[-1][0])
    if len(read) < len(taken):  # they are large: the rest is for somebody else
        sent = {index for index, _ in read}
        queue.put_back(worker, [index for index in taken if index not in sent])
    tasks = [[index, taken[index]] for index, _ in read]
    if tasks and not seen.running.task:
        live.facts.run(worker, seen, *tasks[0])  # until it says itself what it runs
    return Leased(tasks, list(checkpoints), [*(blob for _, blob in read), *checkpoints.values()])


def portion(live: LiveRequest, worker: str, want: int) -> int:
    """Return how many tasks a worker gets now; of an open request perhaps none, for the sake of their order."""
    queue = live.queue
    ready = queue.ready_for(live.workers.known[worker].level)
    if live.ordered:
        return live.order.portion(queue, worker, ready, want)
    return share(ready, len(queue.holders), want)


def is_misplaced(live: LiveRequest, worker: str) -> bool:
    """Tell whether a worker without work is on a host that is given up: one there is enough to try it."""
    host = live.workers.known[worker].host
    return live.hosts.is_given_up(host) and sum(seen.host == host for seen in live.workers.known.values()) > 1


def is_surplus(live: LiveRequest, worker: str, now: float) -> bool:
    """Tell whether a worker without work may go: each task that is left has a worker, and there are spares.

    If there may be more tasks, it may go when there have been none for long.
    """
    queue = live.queue
    if live.request.open:
        return queue.empty and now - live.busy_since > live.options.config.idle_time
    busy = sum(1 for holder in queue.holders.values() if holder.held)
    level = live.workers.known[worker].level
    if queue.ready_for(level) or queue.doubtful or queue.waiting or queue.leased > busy:
        return False
    idle = sum(1 for name, holder in queue.holders.items() if not holder.held and name != worker)
    return idle >= SPARES
