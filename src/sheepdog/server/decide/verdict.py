"""What follows for a request as a whole from what its workers and the scheduler have said: one table, read from above.

Nothing is stored or changed here; clock.py does what the verdict says.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from .live import LiveRequest
from .shortage import shortage
from .words import last_words, never_joined, situation, words_of_deletion

UNREACHABLE = 600.0  # seconds that workers may run, and none of them call, before the request ends

NOT_HEARD = "nothing is heard of its workers, though the scheduler says that they run"


class Step(Enum):
    """What to do with a request."""

    RELEASE = "let its doubtful tasks be taken; then look again"
    CANCEL = "note that an array job is no more, and end the tasks that there are as cancelled"
    END_JOB = "note that an array job is no more; then look again"
    GIVE_UP = "end its tasks"
    NOTE = "tell its user"
    WAIT = "nothing"


class Verdict(NamedTuple):
    """What to do, the reason in the user's words, and the number of the array job if it is about one."""

    step: Step
    text: str = ""
    job: int = 0


class Row(NamedTuple):
    """A row of the table: if the first is true, the second says what follows."""

    applies: Callable[[LiveRequest, float], bool]
    follows: Callable[[LiveRequest, float], Verdict]


def verdict(live: LiveRequest, now: float) -> Verdict:
    """Return what the first row says that applies. The tasks whose time has come have been made ready before."""
    return next(row.follows(live, now) for row in TABLE if row.applies(live, now))


# --- the conditions


def nobody_can_hold_the_doubtful(live: LiveRequest, _: float) -> bool:
    """Tell whether there are tasks of which a worker might have spoken, and all workers have."""
    return live.queue.doubtful and live.all_heard()


def the_last_array_job_was_deleted(live: LiveRequest, _: float) -> bool:
    """Tell whether somebody has deleted an array job, and there are no others."""
    number = _ended_job(live)
    others = live.tries.under_way or len(live.jobs.there) > 1
    return number is not None and not others and live.is_deleted(number)


def an_array_job_is_no_more(live: LiveRequest, _: float) -> bool:
    """Tell whether the scheduler has nothing left of an array job, and no worker is of it."""
    return _ended_job(live) is not None


def none_can_start(live: LiveRequest, _: float) -> bool:
    """Tell whether elements cannot start, and there is nothing else."""
    return bool(live.jobs.broken) and not (live.running or live.jobs.pending or live.workers.known)


def some_cannot_start(live: LiveRequest, _: float) -> bool:
    """Tell whether elements cannot start."""
    return bool(live.jobs.broken)


def all_wait(live: LiveRequest, _: float) -> bool:
    """Tell whether there is no worker, and the scheduler says why."""
    statuses = live.jobs.statuses.values()
    return not live.workers.known and any(each.held or (each.pending and each.reason) for each in statuses)


def none_has_ever_come(live: LiveRequest, _: float) -> bool:
    """Tell whether all array jobs are no more, and no worker has called."""
    some = live.jobs.there or live.workers.known or live.workers.joined or live.jobs.anew
    return not (some or live.tries.under_way or live.may_go_elsewhere())


def workers_hold_tasks(live: LiveRequest, _: float) -> bool:
    """Tell whether outcomes may come, be it from workers that are leaving."""
    return live.queue.leased > 0


def none_may_be_submitted_again(live: LiveRequest, now: float) -> bool:
    """Tell whether no worker is left that can run what is left, and submitting again has been of no use too often."""
    lacking = shortage(live, now)
    return lacking is not None and lacking.all and not live.tries.affords(lacking.first)


def none_reaches_the_server(live: LiveRequest, now: float) -> bool:
    """Tell whether workers have run for long, and none has called."""
    return bool(live.running) and not live.workers.joined and now - live.since > UNREACHABLE


def always(_: LiveRequest, __: float) -> bool:
    """Tell that this is the last row."""
    return True


# --- what follows


def release(_: LiveRequest, __: float) -> Verdict:
    """Let doubtful tasks be taken."""
    return Verdict(Step.RELEASE)


def end_the_job(live: LiveRequest, _: float) -> Verdict:
    """Say how an array job has ended."""
    number = _ended_job(live) or 0
    if live.is_deleted(number):
        return Verdict(Step.END_JOB, words_of_deletion(live, number), number)
    job, reason = live.jobs.there[number].job, live.jobs.statuses[number].reason or NOT_HEARD
    return Verdict(Step.END_JOB, f"the array job {job} has ended before its tasks: {reason}", number)


def cancel(live: LiveRequest, _: float) -> Verdict:
    """Say who has ended it, and what runs the rest."""
    number = _ended_job(live) or 0
    return Verdict(Step.CANCEL, words_of_deletion(live, number), number)


def give_up_as_broken(live: LiveRequest, _: float) -> Verdict:
    """Say why no worker can start."""
    return Verdict(Step.GIVE_UP, f"not run: {live.jobs.broken}")


def tell_what_is_broken(live: LiveRequest, _: float) -> Verdict:
    """Say why some workers cannot start."""
    return Verdict(Step.NOTE, f"some workers cannot start: {live.jobs.broken}; the others go on")


def tell_the_situation(live: LiveRequest, _: float) -> Verdict:
    """Say why workers wait."""
    return Verdict(Step.NOTE, situation(live))


def give_up_as_never_joined(live: LiveRequest, _: float) -> Verdict:
    """Say why no worker has come."""
    return Verdict(Step.GIVE_UP, never_joined(live))


def wait(_: LiveRequest, __: float) -> Verdict:
    """Let it go on."""
    return Verdict(Step.WAIT)


def give_up_as_fruitless(live: LiveRequest, now: float) -> Verdict:
    """Say how the workers have ended, and how often."""
    lacking = shortage(live, now)
    why = lacking.why if lacking else ""
    times = f" {live.tries.fruitless + 1} times in a row" if live.tries.fruitless else ""
    text = f"not run: its workers have ended{times}; the last time {why}. {last_words(live)}"
    return Verdict(Step.GIVE_UP, text)


def give_up_as_unreachable(live: LiveRequest, _: float) -> Verdict:
    """Say what address the workers cannot reach."""
    return Verdict(Step.GIVE_UP, f"not run: for {UNREACHABLE:.0f} s {situation(live)}")


def _ended_job(live: LiveRequest) -> int | None:
    return live.jobs.ended({element.array for element in live.workers.elements})


TABLE = (
    Row(nobody_can_hold_the_doubtful, release),
    Row(the_last_array_job_was_deleted, cancel),
    Row(an_array_job_is_no_more, end_the_job),
    Row(none_can_start, give_up_as_broken),
    Row(some_cannot_start, tell_what_is_broken),
    Row(all_wait, tell_the_situation),
    Row(none_has_ever_come, give_up_as_never_joined),
    Row(workers_hold_tasks, wait),
    Row(none_may_be_submitted_again, give_up_as_fruitless),
    Row(none_reaches_the_server, give_up_as_unreachable),
    Row(always, wait),
)
