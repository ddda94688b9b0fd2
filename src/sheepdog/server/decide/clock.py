"""What the server decides when nobody calls: by the clock, and by what the scheduler says of the workers.

Plain functions over the service; the watcher and the writer's clock have them run in the service's thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...config.options import Options
from ...errors import RequestNotFound, StorageError
from ...values.model import ArrayJob, JobStatus, Request, RequestState
from .exchange import Service
from .live import Herd

log = logging.getLogger(__name__)

UNREACHED = 60.0  # seconds without any worker after which the user hears of it
UNREACHABLE = 600.0  # seconds that workers may run, and none of them call, before the request ends


@dataclass(frozen=True, slots=True)
class Watched:
    """A request with array jobs, for whoever asks the schedulers. calm: its workers say enough themselves."""

    request: Request
    options: Options
    arrays: tuple[ArrayJob, ...]
    calm: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Workers to be submitted: how many, with resources raised how often, and why."""

    request: Request
    options: Options
    workers: int
    level: int
    why: str


# --- what time says


def tick(service: Service) -> None:
    """Look for new requests and for those that ended elsewhere; take back what silent workers held."""
    for request_id in service.open_requests():
        try:
            herd = service.herd(request_id)
            if herd is not None:
                look_after(service, herd)
        except RequestNotFound:  # it was removed
            service.herds.pop(request_id, None)
        except StorageError:  # what is remembered may not have been stored: it is made again from what was
            service.herds.pop(request_id, None)
            raise


def look_after(service: Service, herd: Herd) -> None:
    """Do what time demands for a request."""
    now = service.clock()
    if herd.request.state == RequestState.NEW:
        service.grow(herd, service.storage.get_request(herd.request.id))
        return
    for worker in herd.silent(now):
        service.lose(herd, worker, f"nothing was heard of it for {herd.queue.lease:.0f} s")
    if herd.queue.doubtful and now - herd.since > herd.queue.lease:
        service.release_doubtful(herd)
    if herd.workers:
        herd.alone_since = now
    elif now - herd.alone_since > UNREACHED and (situation := herd.situation()):
        service.storage.set_note(herd.request.id, situation)
    if herd.request.id in service.herds:
        conclude(service, herd)


def unattended(service: Service) -> list[tuple[Request, Options]]:
    """Return the requests that are open: more tasks may come as long as their makers live."""
    return [(herd.request, herd.options) for herd in service.herds.values() if herd.request.open]


def close(service: Service, request_id: int) -> None:
    """Let an open request end with the tasks that it has."""
    service.storage.close_request(request_id)
    herd = service.herds.get(request_id)
    if herd is not None:
        herd.request = replace(herd.request, open=False)
        if herd.queue.empty:
            service.retire(herd)


# --- what the scheduler says


def watched(service: Service) -> list[Watched]:
    """Return the unfinished requests of which a scheduler knows."""
    now = service.clock()
    return [
        Watched(
            herd.request,
            herd.options,
            tuple(array for array in herd.arrays.values() if array.job),
            herd.is_calm(now),
        )
        for herd in service.herds.values()
        if any(array.job for array in herd.arrays.values())
    ]


def heed(service: Service, request_id: int, statuses: Mapping[int, JobStatus], asked: float) -> None:
    """Compare what the scheduler says of a request's array jobs, by number, with what the workers say.

    asked is when the question was put: of workers that came later the answer knows nothing.
    """
    herd = service.herd(request_id)
    if herd is None:
        return
    try:
        herd.unanswered = ""
        for number, status in statuses.items():
            if number in herd.arrays:
                compare(service, herd, number, status, asked)
        if request_id in service.herds:
            conclude(service, herd)
    except RequestNotFound:  # it was removed
        service.herds.pop(request_id, None)


def unanswered(service: Service, request_id: int, error: str) -> None:
    """Note that the scheduler does not answer."""
    herd = service.herds.get(request_id)
    if herd is not None and not herd.unanswered:
        herd.unanswered = f"the scheduler has not answered since {time.strftime('%H:%M')}: {error}"


def puzzle(service: Service, request_id: int, reason: str) -> None:
    """Note why the scheduler lets workers wait."""
    herd = service.herds.get(request_id)
    if herd is not None:
        herd.because = reason


def compare(service: Service, herd: Herd, number: int, status: JobStatus, asked: float) -> None:
    """Take the workers for lost that an array job no longer has."""
    herd.statuses[number] = status
    if herd.joined:  # else its user is to hear that none can
        herd.listen(number, status, asked, max(herd.queue.lease, UNREACHED))
    herd.missed[number] = herd.missed.get(number, 0) + 1 if herd.is_over(number, status) else 0
    for worker, seen in list(herd.workers.items()):
        if seen.array != number:
            continue
        if seen.element in status.running:
            seen.missed = None
        elif seen.missed is None or seen.heard >= seen.missed:
            seen.missed = asked  # the scheduler may be wrong, or late: it must say so twice
        else:
            service.lose(herd, worker, "the scheduler says that it has ended")


def conclude(service: Service, herd: Herd) -> None:
    """Decide what the scheduler's words mean for a request as a whole."""
    request_id, now = herd.request.id, service.clock()
    if herd.queue.doubtful and herd.all_heard():
        service.release_doubtful(herd)
    alive = {seen.array for seen in herd.workers.values()}
    for number in [number for number, missed in herd.missed.items() if missed >= 2 and number not in alive]:
        herd.gone = (
            f"the array job {herd.arrays[number].job} has ended before its tasks: {herd.statuses[number].reason}"
        )
        service.storage.end_array(request_id, number)
        herd.end_array(number)
    broken = "; ".join(status.reason for status in herd.statuses.values() if status.broken)
    pending = any(status.pending for status in herd.statuses.values())
    if broken and not (herd.running or pending or herd.workers):
        service.give_up(herd, f"not run: {broken}")
    elif broken:
        service.storage.set_note(request_id, f"some workers cannot start: {broken}; the others go on")
    elif not herd.workers and any(
        status.held or (status.pending and status.reason) for status in herd.statuses.values()
    ):
        service.storage.set_note(request_id, herd.situation())
    elif not herd.arrays and not herd.workers and not herd.joined:
        service.give_up(herd, never_joined(herd))
    elif herd.queue.leased:
        return  # also those that are leaving may still bring outcomes
    elif (shortage := herd.shortage(now)) and shortage.all and not herd.affords(shortage):
        times = f" {herd.fruitless + 1} times in a row" if herd.fruitless else ""
        service.give_up(
            herd, f"not run: its workers have ended{times}; the last time {shortage.why}. {words_of_workers(herd)}"
        )
    elif herd.running and not herd.joined and now - herd.since > UNREACHABLE:
        service.give_up(herd, f"not run: for {UNREACHABLE:.0f} s {herd.situation()}")


def never_joined(herd: Herd) -> str:
    """Return why no worker has ever called, as far as is known."""
    why = next(iter(herd.refused.values()), "")
    if not why:
        shell = herd.options.config.shell or "/usr/bin/python3"
        why = f"no worker has called. Is {shell} a Python there, and the option `shell` right?"
    end = "" if why.endswith("?") else "."
    return f"not run: {'; '.join(filter(None, (herd.gone, why)))}{end} {words_of_workers(herd)}"


def words_of_workers(herd: Herd) -> str:
    """Return where to read on."""
    return f"What its workers said is in {herd.options.config.host or 'this machine'}:{herd.place}"


def wanted(service: Service) -> list[Wanted]:
    """Return the workers to submit again; arrays.submitted or arrays.not_submitted tells what came of it."""
    found = []
    for herd in service.herds.values():
        shortage = herd.shortage(service.clock())
        if shortage is None or not herd.joined or not herd.affords(shortage):
            continue
        herd.begin_try(shortage)
        service.storage.set_fruitless(herd.request.id, herd.fruitless)
        times = f"are submitted again ({herd.fruitless} of {herd.resubmissions} times in a row)"
        if shortage.first:
            times = "with more are submitted"
        log.warning("request %d: %s; submitting %d workers", herd.request.id, shortage.why, shortage.workers)
        service.storage.set_note(herd.request.id, f"{shortage.why}; {shortage.workers} workers {times}")
        found.append(Wanted(herd.request, herd.options, shortage.workers, shortage.level, shortage.why))
    return found
