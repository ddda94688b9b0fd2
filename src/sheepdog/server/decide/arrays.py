"""An array job's life as the server keeps it: planned, submitted, moved, found or forgotten, cleared up.

Plain functions over the service, as in foreman.py. What they note lets another server go on from any point.
"""

from __future__ import annotations

from ...config.options import Options
from ...values.model import ArrayJob, Request, RequestState
from .exchange import Service

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 600.0  # seconds before workers are submitted again after that has failed


def plan(service: Service, request_id: int, array: ArrayJob) -> ArrayJob:
    """Note an array job that is about to be submitted, and give it a number."""
    array = service.storage.new_array(request_id, array)
    herd = service.herds.get(request_id)
    if herd is not None:
        herd.levels[array.number] = array.level  # its workers may call before its submission has returned
    return array


def submitted(service: Service, request_id: int, array: ArrayJob) -> bool:
    """Note that an array job is in the scheduler's hands. Return whether its request still waits for workers."""
    waits = service.storage.set_submitted(request_id, array)
    herd = service.herds.get(request_id)
    if herd is not None:
        herd.submitting = False
        herd.failures = 0
        herd.submitted = service.clock()
        herd.add_array(array)
    return waits and herd is not None


def not_submitted(service: Service, request_id: int, number: int, error: str, refused: bool) -> None:
    """Note that workers could not be submitted again. Unless the scheduler refused, that counts as no try."""
    service.storage.end_array(request_id, number)
    herd = service.herds.get(request_id)
    if herd is None:
        return
    herd.submitting = False
    herd.failures += 1
    herd.not_before = service.clock() + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(herd.failures - 1, 10))
    herd.gone = error
    if not refused:
        herd.forget_try(number)
        service.storage.set_fruitless(request_id, herd.fruitless)
    service.storage.set_note(request_id, f"workers cannot be submitted again: {error}; trying on")


def unsubmitted(service: Service) -> list[tuple[Request, Options, tuple[ArrayJob, ...]]]:
    """Return the requests that are being submitted, and what has been noted of it so far."""
    found = []
    for request_id in service.storage.requests(RequestState.NEW):
        herd = service.herd(request_id)
        if herd is not None and herd.options.maker:
            noted = (array for array in service.storage.arrays(request_id) if array.ended is None)
            found.append((herd.request, herd.options, tuple(noted)))  # the others are of an earlier attempt
    return found


def unseen(service: Service) -> list[tuple[Request, Options, ArrayJob]]:
    """Return array jobs of submitted requests whose submission nobody saw to its end: a server died meanwhile."""
    return [
        (herd.request, herd.options, array)
        for herd in service.herds.values()
        if not herd.submitting and herd.request.state == RequestState.SUBMITTED
        for array in service.storage.arrays(herd.request.id)
        if not array.job and array.ended is None
    ]


def forget(service: Service, request_id: int, number: int) -> None:
    """Note that an array job was not submitted."""
    service.storage.end_array(request_id, number)


def moved(service: Service, request_id: int, array: ArrayJob) -> None:
    """Note the addresses that the workers of an array job have been told."""
    service.storage.set_urls(request_id, array.number, array.urls)
    herd = service.herds.get(request_id)
    if herd is not None:
        herd.add_array(array)


def abandon(service: Service, request_id: int) -> None:
    """End a request whose maker has ended without submitting it."""
    herd = service.herd(request_id)
    if herd is not None and herd.request.state == RequestState.NEW:
        reason = "not run: the program that made the request ended before it was submitted"
        service.give_up(herd, reason, kept=False)


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
