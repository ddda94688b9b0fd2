"""More workers than a request began with, where its user left their number open.

It begins with a few, so that a thousand short tasks do not put a thousand elements into everybody's queue. It grows
when its tasks wait and are long, or when its first workers wait themselves: the others had better wait beside them.
"""

from __future__ import annotations

import math

from .live import LiveRequest
from .shortage import Shortage, coming

ENOUGH = 20.0  # seconds of work that may be left for each worker
SETTLED = 5.0  # seconds of work before anybody can tell how long tasks are: the first ones pay for what they import
QUEUED = 60.0  # seconds in the scheduler's queue after which the rest joins it


def growth(live: LiveRequest, now: float) -> Shortage | None:
    """Tell how many more workers a request should have; None if those that it has will do, or nobody knows yet."""
    if live.request.open or live.options.config.workers or not live.jobs.size or live.jobs.in_doubt or live.jobs.cut:
        return None
    tries = live.tries
    if live.in_question(now):
        return None
    if tries.failures or tries.fruitless or not tries.may_begin(now):  # the site takes no more, or they do not last
        return None
    there, tasks = coming(live, 0), live.queue.size
    if there < live.jobs.size:  # some have ended, or are about to: whether others follow is not for here
        return None
    most = live.options.workers(tasks)
    if not live.workers.known:
        if live.workers.joined or now - tries.latest < QUEUED:
            return None
        return _more(most - there, there, "its first workers wait in the queue")
    if now - live.pace.since < SETTLED:
        return None
    seconds = live.pace.mean(now)
    wanted = min(most, math.ceil(tasks * seconds / ENOUGH))
    return _more(wanted - there, there, f"{tasks} tasks of {seconds:.1f} s each are left")


def _more(workers: int, there: int, why: str) -> Shortage | None:
    """Return so many workers, unless they are few beside those that are there."""
    return Shortage(workers, 0, False, why, first=True) if workers >= max(1, there / 2) else None
