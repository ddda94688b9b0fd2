"""The workers that a request lacks, so that they be submitted again."""

from __future__ import annotations

from typing import NamedTuple

from .live import LiveRequest


class Shortage(NamedTuple):
    """Workers that a request lacks. all: it has none that can run what is left, and none will come.

    first: nobody has submitted such workers yet, so that to submit them repeats nothing.
    """

    workers: int
    level: int
    all: bool
    why: str
    first: bool = False


def shortage(live: LiveRequest, now: float) -> Shortage | None:
    """Tell what workers to submit again. None while it is not clear, or while there are enough.

    The tasks whose time has come have been made ready before.
    """
    queue, jobs = live.queue, live.jobs
    if not live.tries.may_begin(now) or not jobs.size or jobs.in_doubt or live.in_question(now):
        return None
    level, waiting = max(queue.raised.items(), default=(0, 0))
    if level and not coming(live, level):
        stranded = sum(count for needed, count in queue.raised.items() if not coming(live, needed))
        nobody = stranded == queue.size or not coming(live, 0)
        first = level not in jobs.levels.values()
        return Shortage(min(jobs.size, waiting), level, nobody, "tasks need more than their workers had", first)
    there = coming(live, 0)
    free = queue.size - queue.held_by(live.workers.leaving)  # what they hold may still end well
    needed = min(jobs.size, live.options.workers(None if live.request.open and free else free))
    lacking = needed - there
    if lacking < (max(1, jobs.size // 2) if there else 1):
        return None
    why = live.reasons.ended or f"{lacking} workers have ended before the tasks"
    return Shortage(lacking, level, not there, why, first=jobs.anew)


def coming(live: LiveRequest, level: int) -> int:
    """Return how many workers of at least this level there are, or will be."""
    workers, jobs = live.workers, live.jobs
    count = workers.staying(level)
    for number, array in jobs.there.items():
        if array.level >= level:
            status = jobs.statuses.get(number)
            called = {element for element in workers.called if element.array == number}
            if status is None:
                count += max(0, array.workers - len(called))
            else:
                running = {element for element in live.running if element.array == number}
                count += status.pending + len(running - called)
    return count
