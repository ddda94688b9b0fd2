"""An array job's life as the server keeps it: planned, submitted, moved, found or forgotten, cleared up.

Plain functions over the service, as in clock.py. What they note lets another server go on from any point.
"""

from __future__ import annotations

from ...config.options import Options
from ...values.facts import What
from ...values.model import ArrayJob, Request, RequestState
from .service import Service


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
        live.add_array(array)
    return waits and live is not None


def not_submitted(service: Service, request_id: int, number: int, error: str, refused: bool) -> None:
    """Note that workers could not be submitted again. Unless the scheduler refused, that counts as no try."""
    service.storage.end_array(request_id, number)
    live = service.live.get(request_id)
    if live is None:
        return
    live.tries.fail(service.clock())
    live.reasons.ended = error
    live.facts.note(What.NOT_SUBMITTED, error)
    if not refused:
        if not live.tries.forgive():
            live.jobs.forget_plan(number)
        service.storage.set_fruitless(request_id, live.tries.fruitless)
    service.storage.set_note(request_id, f"workers cannot be submitted again: {error}; trying on")


def unsubmitted(service: Service) -> list[tuple[Request, Options, tuple[ArrayJob, ...]]]:
    """Return the requests that are being submitted, and what has been noted of it so far."""
    found = []
    for request_id in service.storage.requests(RequestState.NEW):
        live = service.find(request_id)
        if live is not None and live.options.maker:
            noted = (array for array in service.storage.arrays(request_id) if array.ended is None)
            found.append((live.request, live.options, tuple(noted)))  # the others are of an earlier attempt
    return found


def unseen(service: Service) -> list[tuple[Request, Options, ArrayJob]]:
    """Return array jobs of submitted requests whose submission nobody saw to its end: a server died meanwhile."""
    return [
        (live.request, live.options, array)
        for live in service.live.values()
        if not live.tries.under_way and live.request.state == RequestState.SUBMITTED
        for array in service.storage.arrays(live.request.id)
        if not array.job and array.ended is None
    ]


def forget(service: Service, request_id: int, number: int) -> None:
    """Note that an array job was not submitted."""
    service.storage.end_array(request_id, number)


def moved(service: Service, request_id: int, array: ArrayJob) -> None:
    """Note the addresses that the workers of an array job have been told."""
    service.storage.set_urls(request_id, array.number, array.urls)
    live = service.live.get(request_id)
    if live is not None:
        live.add_array(array)


def abandon(service: Service, request_id: int) -> None:
    """End a request whose maker has ended without submitting it."""
    live = service.find(request_id)
    if live is not None and live.request.state == RequestState.NEW:
        reason = "not run: the program that made the request ended before it was submitted"
        service.give_up(live, reason, kept=False)


def left_over(service: Service) -> list[tuple[Request, tuple[ArrayJob, ...], bool]]:
    """Return the ended requests of which something is left on a host, and whether workers may still wait there."""
    return [
        (
            service.storage.get_request(request_id),
            tuple(service.storage.arrays(request_id)),
            request_id not in service.complete,
        )
        for request_id in service.storage.requests(RequestState.ENDED)
    ]


def clear(service: Service, request_id: int) -> None:
    """Note that nothing is left of a request."""
    service.storage.step(request_id, "clear")
    service.complete.discard(request_id)
