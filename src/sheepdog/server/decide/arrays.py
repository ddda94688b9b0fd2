"""An array job's life as the server keeps it: planned, submitted, moved, found or forgotten, cleared up.

Plain functions over the service, as in clock.py. What they note lets another server go on from any point.
Those that look for something to do are asked about one head node: mine says whether a request is on it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable

from ...config.options import Options
from ...errors import ConfigError
from ...values.directories import LeftDirectory
from ...values.facts import What
from ...values.model import ArrayJob, Request, RequestState
from .service import Service

log = logging.getLogger(__name__)

Mine = Callable[[Options], bool]


def anywhere(_: Options) -> bool:
    """Take a request on any head node."""
    return True


def plan(service: Service, request_id: int, array: ArrayJob) -> ArrayJob:
    """Note an array job that is about to be submitted, and give it a number."""
    array = service.storage.new_array(request_id, array)
    live = service.live.get(request_id)
    if live is not None:
        live.jobs.plan(array)
    return array


def submitted(service: Service, request_id: int, array: ArrayJob) -> bool:
    """Note that an array job is in the scheduler's hands. Return whether its request still waits for workers."""
    waits = service.storage.set_submitted(request_id, array)
    live = service.live.get(request_id)
    if live is not None:
        live.tries.succeed(service.clock())
        live.hosts.avoided = live.hosts.planned
        live.add_array(array)
    return waits and live is not None


def not_submitted(service: Service, request_id: int, number: int, error: str, refused: bool) -> None:
    """Note that workers could not be submitted again. Unless the scheduler refused, that counts as no try."""
    service.storage.end_array(request_id, number)
    live = service.live.get(request_id)
    if live is None:
        return
    live.tries.fail(service.clock())
    if not (refused and live.hosts.planned and not live.workers.joined):  # else why the first ones ended says more
        live.reasons.ended = error
    live.facts.note(What.NOT_SUBMITTED, error)
    if refused:
        live.hosts.avoided = live.hosts.planned
        live.jobs.anew = False
    else:
        if not live.tries.forgive():
            live.jobs.forget_plan(number)
        service.storage.set_fruitless(request_id, live.tries.fruitless)
    service.storage.set_note(request_id, f"workers cannot be submitted again: {error}; trying on")


def unsubmitted(service: Service, mine: Mine = anywhere) -> list[tuple[Request, Options, tuple[ArrayJob, ...]]]:
    """Return the requests that are being submitted, and what has been noted of it so far."""
    found = []
    for request_id in service.storage.requests(RequestState.NEW):
        with service.apart(request_id):
            live = service.find(request_id)
            if live is not None and live.options.maker and mine(live.options):
                noted = (array for array in service.storage.arrays(request_id) if array.ended is None)
                found.append((live.request, live.options, tuple(noted)))  # the others are of an earlier attempt
    return found


def unseen(service: Service, mine: Mine = anywhere) -> list[tuple[Request, Options, ArrayJob]]:
    """Return array jobs of submitted requests whose submission nobody saw to its end: a server died meanwhile."""
    found = []
    for live in list(service.live.values()):
        with service.apart(live.request.id):
            seen_to = live.tries.under_way or live.request.state != RequestState.SUBMITTED
            if not seen_to and mine(live.options):
                noted = service.storage.arrays(live.request.id)
                lost = (array for array in noted if not array.job and array.ended is None)
                found += [(live.request, live.options, array) for array in lost]
    return found


def forget(service: Service, request_id: int, number: int) -> None:
    """Note that an array job was not submitted."""
    service.storage.end_array(request_id, number)


def moved(service: Service, request_id: int, array: ArrayJob) -> None:
    """Note the addresses that the workers of an array job have been told."""
    service.storage.set_urls(request_id, array.number, array.urls)
    live = service.live.get(request_id)
    if live is not None:
        for known in (live.jobs.there, live.jobs.past):
            if array.number in known:
                known[array.number] = array


def abandon(service: Service, request_id: int) -> None:
    """End a request whose maker has ended without submitting it."""
    live = service.find(request_id)
    if live is not None and live.request.state == RequestState.NEW:
        reason = "not run: the program that made the request ended before it was submitted"
        service.give_up(live, reason, kept=False)


def left_over(service: Service, mine: Mine = anywhere) -> list[tuple[Request, tuple[ArrayJob, ...], bool]]:
    """Return the ended requests of which something is left on a host, and whether workers may still wait there."""
    found = []
    for request_id in service.storage.requests(RequestState.ENDED):
        with service.apart(request_id):
            request = service.storage.get_request(request_id)
            if mine(Options.read(request.options)):
                left = tuple(service.storage.arrays(request_id))
                complete = service.complete.get(request_id, set())
                waiting = any(array.ended is None and array.number not in complete for array in left)
                found.append((request, left, waiting))
    return found


def clear(service: Service, request_id: int) -> None:
    """Note that nothing is left of a request but its directories: if none of its tasks failed, they are to go."""
    service.storage.step(request_id, "clear")
    service.storage.leave_directories(request_id, not service.storage.progress(request_id).failed)
    service.complete.pop(request_id, None)


def directories(service: Service, mine: Mine = anywhere) -> list[LeftDirectory]:
    """Return the directories with which something is to be done, but for those that have been put off."""
    found = []
    for left in service.storage.left_directories():
        if left.name in service.put_off:
            continue
        try:
            if mine(Options.read(left.options)):
                found.append(left)
        except ConfigError as error:  # an option that was taken once, and is not any more
            log.warning("the directory %s stays: %s", left.name, error)
            put_off(service, left)
    return found


def settle(service: Service, left: LeftDirectory) -> None:
    """Note that what was to be done with a directory has been done."""
    service.storage.settle_directory(left)


def not_swept_before(service: Service, place: Hashable) -> float:
    """Return when what is too old may be looked for again at a place on a host."""
    return service.swept.get(place, -math.inf)


def swept(service: Service, place: Hashable, until: float) -> None:
    """Note when what is too old may be looked for again at a place on a host."""
    service.swept[place] = until


def put_off(service: Service, left: LeftDirectory) -> None:
    """Leave a directory to the next server."""
    service.put_off.add(left.name)
