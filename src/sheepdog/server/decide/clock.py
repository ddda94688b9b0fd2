"""What the server decides when nobody calls: by the clock, and by what the scheduler says of the workers.

Plain functions over the service; the thread for the schedulers and the writer have them run in the writer's thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple, TypeVar

from ...config.options import Options
from ...errors import RequestNotFound, StorageError
from ...values.facts import What
from ...values.model import ArrayJob, End, Fate, JobStatus, Request, RequestState
from .arrays import Mine, anywhere, directories
from .growth import growth
from .live import LiveRequest
from .outcomes import lose, release_doubtful
from .service import Service
from .shortage import shortage
from .verdict import Step, verdict
from .words import no_relay, situation
from .workers import Element

log = logging.getLogger(__name__)

Head = TypeVar("Head", bound=Hashable)

UNREACHED = 60.0  # seconds without any worker after which the user hears of it


class Watched(NamedTuple):
    """A request with array jobs, for whoever asks the schedulers.

    calm: its workers say enough themselves; heard: there are some that have called. past are those of its array jobs
    that are thought to have ended.
    """

    request: Request
    options: Options
    arrays: tuple[ArrayJob, ...]
    calm: bool
    heard: bool = True
    past: tuple[ArrayJob, ...] = ()


class Wanted(NamedTuple):
    """Workers to be submitted: how many, with resources raised how often, and why."""

    request: Request
    options: Options
    workers: int
    level: int
    why: str
    avoid: tuple[str, ...] = ()
    """Hosts on which they are not to be."""
    joined: bool = True
    """Whether workers have been of use."""


# --- what time says


def tick(service: Service) -> None:
    """Look for new requests and for those that ended elsewhere; take back what silent workers held."""
    for request_id in service.open_requests():
        with service.apart(request_id):
            live = service.find(request_id)
            if live is not None:
                look_after(service, live)


def look_after(service: Service, live: LiveRequest) -> None:
    """Do what time demands for a request."""
    now = service.clock()
    if live.request.state == RequestState.NEW:
        service.grow(live, service.storage.get_request(live.request.id))
        return
    for worker in live.silent(now):
        lose(service, live, worker, f"nothing was heard of it for {live.queue.lease:.0f} s")
    if live.queue.doubtful and now - live.since > live.queue.lease:
        release_doubtful(service, live)
    if live.facts.unheard and now - live.since > live.queue.lease:
        live.facts.end_unheard("nothing was heard of it since the server was restarted")
    if live.workers.alone(now) > UNREACHED and (text := situation(live)):
        service.storage.set_note(live.request.id, text)
    if live.request.id in service.live:
        conclude(service, live)
    if live.request.id in service.live and live.facts.is_due(now):
        with suppress(StorageError):  # it can wait: whether tasks go on does not hang on it
            service.store_facts(live)


def unattended(service: Service) -> list[tuple[Request, Options]]:
    """Return the requests that are open: more tasks may come as long as their makers live."""
    return [(live.request, live.options) for live in service.live.values() if live.request.open]


def busy(service: Service, head: Callable[[Options], Head]) -> set[Head]:
    """Return the head nodes that something is to be done with. head says which one a request is on."""
    found = set()
    for request_id in [*service.live, *service.storage.requests(RequestState.ENDED)]:
        with service.apart(request_id):
            live = service.live.get(request_id)
            request = live.request if live else service.storage.get_request(request_id)
            found.add(head(live.options if live else Options.read(request.options)))
    return found | {head(Options.read(left.options)) for left in directories(service)}


def close(service: Service, request_id: int) -> None:
    """Let an open request end with the tasks that it has."""
    service.storage.close_request(request_id)
    live = service.live.get(request_id)
    if live is not None:
        live.request = live.request._replace(open=False)
        if live.queue.empty:
            service.retire(live)


# --- what the scheduler says


def watched(service: Service, mine: Mine = anywhere) -> list[Watched]:
    """Return the unfinished requests of which a scheduler knows; mine says whether one is on this head node."""
    now = service.clock()
    found = []
    for live in list(service.live.values()):
        with service.apart(live.request.id):
            submitted = tuple(array for array in live.jobs.there.values() if array.job)
            past = tuple(live.jobs.past.values())
            if (submitted or past) and mine(live.options):
                calm, heard = live.is_calm(now), bool(live.workers.known)
                found.append(Watched(live.request, live.options, submitted, calm, heard, past))
    return found


def heed(service: Service, request_id: int, statuses: Mapping[int, JobStatus], asked: float) -> dict[int, list[str]]:
    """Compare what the scheduler says of a request's array jobs, by number, with what the workers say.

    asked is when the question was put: of workers that came later the answer knows nothing. Return the elements by the
    number of their array job that are said to run, and whose workers are lost.
    """
    live = service.find(request_id)
    if live is None:
        return {}
    lost: dict[int, list[str]] = {}
    try:
        live.reasons.unanswered = ""
        for number, status in statuses.items():
            if number in live.jobs.there:
                bury(live, number, status.ends)
                for worker in live.hear(number, status, asked, max(live.queue.lease, UNREACHED)):
                    lose(service, live, worker, "the scheduler says that it has ended")
        for element in live.workers.lost & live.jobs.running:
            lost.setdefault(element.array, []).append(element.name)
        if request_id in service.live:
            conclude(service, live)
    except RequestNotFound:  # it was removed
        service.forget(request_id)
    return lost


def fallen(service: Service, request_id: int) -> list[ArrayJob]:
    """Return the array jobs of which nobody knows how elements have ended, while others go on."""
    live = service.live.get(request_id)
    return live.fallen(service.clock()) if live is not None else []


def look_at_ends(service: Service, request_id: int, number: int, ends: Iterable[End]) -> None:
    """Take note of how elements of an array job ended that is still there."""
    live = service.live.get(request_id)
    if live is not None:
        bury(live, number, ends)


def bury(live: LiveRequest, number: int, ends: Iterable[End]) -> None:
    """Take note of what did not end by itself, and of the hosts on which workers ended that have never called."""
    for end in ends:
        if end.fate == Fate.OTHER and end.element:
            live.jobs.failed.setdefault(number, set()).add(end.element)
        if end.fate == Fate.OTHER and Element(number, end.element) not in live.workers.called:
            live.hosts.bury(end.host, end.text)


def unanswered(service: Service, request_id: int, error: str) -> None:
    """Note that the scheduler does not answer."""
    live = service.live.get(request_id)
    if live is not None and not live.reasons.unanswered:
        live.reasons.unanswered = f"the scheduler has not answered since {time.strftime('%H:%M')}: {error}"


def puzzle(service: Service, request_id: int, reason: str) -> None:
    """Note why the scheduler lets workers wait."""
    live = service.live.get(request_id)
    if live is not None:
        live.reasons.waiting = reason
        if not live.workers.known and (text := situation(live)):
            service.storage.set_note(request_id, text)


def overhear(service: Service, request_id: int, words: str) -> None:
    """Tell the user what a worker has written that cannot reach the server."""
    live = service.live.get(request_id)
    if live is not None and not live.workers.known and live.reasons.overheard != words:
        live.reasons.overheard = words
        service.storage.set_note(request_id, situation(live))


def learn_relay(service: Service, requests: Iterable[int], why: str) -> None:
    """Note why there is no relay for the workers of these requests; empty if there is one.

    If they can call nothing else, their user hears of it at once, and otherwise when none of them calls.
    """
    for live in filter(None, map(service.live.get, requests)):
        if live.reasons.relay != why:
            live.reasons.relay = why
            if not (live.options.calls or live.workers.known):
                service.storage.set_note(live.request.id, no_relay(live))


def conclude(service: Service, live: LiveRequest) -> None:
    """Do what the verdict on a request says, until there is nothing to be looked at again."""
    request_id, now = live.request.id, service.clock()
    live.queue.wake(now)
    while True:
        found = verdict(live, now)
        match found.step:
            case Step.RELEASE:
                release_doubtful(service, live)
            case Step.END_JOB | Step.CANCEL:
                deleted = live.is_deleted(found.job)
                service.storage.end_array(request_id, found.job)
                live.end_array(found.job, found.text)
                if deleted:
                    live.jobs.cut_down()
                live.facts.end_unheard(found.text, found.job)
                live.facts.note(What.JOB_ENDED, found.text)
                if found.step == Step.CANCEL:
                    return service.cancel(live, found.text)
            case Step.GIVE_UP:
                return service.give_up(live, found.text)
            case Step.NOTE:
                return service.storage.set_note(request_id, found.text)
            case Step.WAIT:
                return None


# --- workers that are lacking


def wanted(service: Service, mine: Mine = anywhere) -> list[Wanted]:
    """Return the workers to submit again; arrays.submitted or arrays.not_submitted tells what came of it.

    mine says whether a request is on this head node.
    """
    found = []
    for live in list(service.live.values()):
        with service.apart(live.request.id):
            if mine(live.options) and (lacking := want(service, live)):
                found.append(lacking)
    return found


def want(service: Service, live: LiveRequest) -> Wanted | None:
    """Return the workers of a request to submit again; None if there are to be none, or not now."""
    now, tries = service.clock(), live.tries
    live.queue.wake(now)
    lacking = shortage(live, now)
    if lacking is None:
        lacking = growth(live, now)
    elif not (live.workers.joined or live.jobs.anew or live.may_go_elsewhere()):
        return None
    if lacking is None or not tries.affords(lacking.first):
        return None
    tries.begin(lacking.first)
    service.storage.set_fruitless(live.request.id, tries.fruitless)
    times = f"are submitted again ({tries.fruitless} of {tries.limit} times in a row)"
    if lacking.first:
        times = "with more are submitted" if lacking.level else "are submitted"
        times += "" if lacking.level or lacking.all else " beside the others"
    log.warning("request %d: %s; submitting %d workers", live.request.id, lacking.why, lacking.workers)
    live.hosts.planned = live.hosts.to_avoid()
    avoid = tuple(sorted(live.hosts.planned))
    times += f", elsewhere than on {', '.join(avoid)}" if avoid else ""
    service.storage.set_note(live.request.id, f"{lacking.why}; {lacking.workers} workers {times}")
    live.facts.note(What.SUBMITTING, f"{lacking.workers}: {lacking.why}")
    about = live.request, live.options, lacking.workers, lacking.level, lacking.why
    return Wanted(*about, avoid, live.workers.joined)
