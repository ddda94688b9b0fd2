"""The table of verdicts, row by row: each can be reached, and the first that applies counts."""

from collections.abc import Callable

import pytest

from sheepdog.server.decide.live import LiveRequest
from sheepdog.server.decide.verdict import TABLE, UNREACHABLE, Step, Verdict, verdict
from tests.faults import fault
from tests.server.decide.lives import array, call, hear, lose, make_live, says

NOW = UNREACHABLE + 1
EQW = "the array job job1 is in error"


def fresh(**past: int) -> LiveRequest:
    return make_live(arrays=(array(workers=2),), **past)


def doubtful() -> LiveRequest:
    """A server has taken over, and each worker that runs has called."""
    live = fresh(leased_before=3)
    hear(live, says(1))
    call(live, 1)
    return live


def ended() -> LiveRequest:
    """The scheduler has said twice that it has nothing left of the array job."""
    live = fresh()
    hear(live, says(reason="exit status 1", started=True), times=2)
    return live


def deleted() -> LiveRequest:
    """The scheduler has said twice that it has nothing left of an array job that waited."""
    live = fresh()
    hear(live, says(pending=2))
    hear(live, says(reason="it was deleted"), times=2)
    return live


def broken() -> LiveRequest:
    """All elements are in error."""
    live = fresh()
    hear(live, says(broken=True, reason=EQW))
    return live


def partly_broken() -> LiveRequest:
    """Some elements are in error, and another runs."""
    live = fresh()
    hear(live, says(1, broken=True, reason=EQW))
    return live


def held() -> LiveRequest:
    """The elements are on hold."""
    live = fresh()
    hear(live, says(pending=2, held=True))
    return live


def explained() -> LiveRequest:
    """The elements wait, and the scheduler says why."""
    live = fresh()
    hear(live, says(pending=2, reason="no slots"))
    return live


def never_joined() -> LiveRequest:
    """The array job is no more, and no worker has called."""
    live = fresh()
    live.jobs.started = True
    live.end_array(1, "it ended")
    return live


def working() -> LiveRequest:
    """A worker that is leaving holds a task; there is nothing else."""
    live = fresh()
    live.workers.take()
    call(live, 1, leaving="qdel")
    live.queue.take("1.1", 1, 0.0)
    live.end_array(1, "it ended")
    spend(live)
    return live


def fruitless() -> LiveRequest:
    """Workers have come and ended, again and again."""
    live = fresh()
    live.workers.take()
    live.end_array(1, "it ended")
    spend(live)
    return live


def spend(live: LiveRequest) -> None:
    """Use up the submissions that a request may have."""
    while live.tries.affords(first=False):
        live.tries.begin(first=False)
        live.tries.succeed(0.0)


def unreached() -> LiveRequest:
    """Workers run, and none of them calls."""
    live = fresh()
    hear(live, says(1, 2))
    return live


WHERE = "What its workers said is in hive:d"
ROWS: list[tuple[Callable[[], LiveRequest], str, Verdict]] = [
    (doubtful, "nobody_can_hold_the_doubtful", Verdict(Step.RELEASE)),
    (deleted, "the_last_array_job_was_deleted", Verdict(Step.CANCEL, "the array job job1 was deleted", 1)),
    (
        ended,
        "an_array_job_is_no_more",
        Verdict(Step.END_JOB, "the array job job1 has ended before its tasks: exit status 1", 1),
    ),
    (broken, "none_can_start", Verdict(Step.GIVE_UP, f"not run: {EQW}")),
    (
        partly_broken,
        "some_cannot_start",
        Verdict(Step.NOTE, f"some workers cannot start: {EQW}; the others go on"),
    ),
    (held, "all_wait", Verdict(Step.NOTE, "2 workers wait in the queue of hive (array job job1, on hold)")),
    (explained, "all_wait", Verdict(Step.NOTE, "2 workers wait in the queue of hive (array job job1): no slots")),
    (
        never_joined,
        "none_has_ever_come",
        Verdict(
            Step.GIVE_UP,
            "not run: it ended; no worker has called. Is /usr/bin/python3 a Python there, and the option `shell` "
            f"right? {WHERE}",
        ),
    ),
    (working, "workers_hold_tasks", Verdict(Step.WAIT)),
    (
        fruitless,
        "none_may_be_submitted_again",
        Verdict(Step.GIVE_UP, f"not run: its workers have ended 4 times in a row; the last time it ended. {WHERE}"),
    ),
    (
        unreached,
        "none_reaches_the_server",
        Verdict(
            Step.GIVE_UP,
            "not run: for 600 s 2 workers run, but none has reached https://here:1: is that name known there, and the "
            "port open? (options localhost and port)",
        ),
    ),
    (fresh, "always", Verdict(Step.WAIT)),
]


def applying(live: LiveRequest, now: float = NOW) -> list[str]:
    return [row.applies.__name__ for row in TABLE if row.applies(live, now)]


@pytest.mark.parametrize(("make", "row", "expected"), ROWS, ids=[make.__name__ for make, _, _ in ROWS])
def test_a_row_is_reached_and_the_first_that_applies_counts(
    make: Callable[[], LiveRequest], row: str, expected: Verdict
) -> None:
    live = make()
    assert applying(live)[0] == row
    assert verdict(live, NOW) == expected
    assert verdict(live, NOW) == expected  # to ask changes nothing


def test_each_row_has_its_example_and_they_stand_in_the_order_of_the_table() -> None:
    rows = list(dict.fromkeys(row for _, row, _ in ROWS))
    assert rows == [row.applies.__name__ for row in TABLE]
    assert TABLE[-1].applies(fresh(), 0.0)


# Where the order matters: two rows apply, and the first is the one to follow


def doubtful_and_ended() -> LiveRequest:
    """What an ended array job may have held is known before its end is told."""
    live = fresh(leased_before=3)
    hear(live, says(started=True), times=2)
    return live


def ended_and_broken() -> LiveRequest:
    """One that is no more is not waited for when the other cannot start."""
    live = make_live(arrays=(array(1), array(2)))
    hear(live, says(started=True), 1, times=2)
    hear(live, says(broken=True, reason=EQW), 2)
    return live


def broken_and_held() -> LiveRequest:
    """What cannot start is told before why others wait."""
    live = fresh()
    hear(live, says(pending=1, held=True, broken=True, reason=EQW))
    return live


def leased_and_spent() -> LiveRequest:
    """As long as outcomes may come, nothing is given up."""
    live = working()
    live.workers.known["1.1"].leaving = "qdel"
    return live


def gone_and_spent() -> LiveRequest:
    """Who never had a worker hears of that, not of how often workers ended."""
    live = never_joined()
    spend(live)
    return live


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (doubtful_and_ended, ["nobody_can_hold_the_doubtful", "an_array_job_is_no_more"]),
        (ended_and_broken, ["an_array_job_is_no_more", "none_can_start", "some_cannot_start"]),
        (broken_and_held, ["some_cannot_start", "all_wait"]),
        (leased_and_spent, ["workers_hold_tasks", "none_may_be_submitted_again"]),
        (gone_and_spent, ["none_has_ever_come", "none_may_be_submitted_again"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_order_matters(make: Callable[[], LiveRequest], rows: list[str]) -> None:
    live = make()
    assert applying(live) == [*rows, "always"]
    [expected] = [row.follows(live, NOW) for row in TABLE if row.applies.__name__ == rows[0]]
    assert verdict(live, NOW) == expected


# What is not yet so


@pytest.mark.parametrize(
    ("change", "row"),
    [
        (lambda live: call(live, 2), "an_array_job_is_no_more"),
        (lambda live: hear(live, says(pending=1)), "an_array_job_is_no_more"),
    ],
)
def test_a_word_of_a_worker_or_of_the_scheduler_keeps_an_array_job(
    change: Callable[[LiveRequest], object], row: str
) -> None:
    live = ended()
    assert row in applying(live)
    change(live)
    assert row not in applying(live)


def test_none_is_unreachable_before_its_time_or_once_one_has_joined() -> None:
    live = unreached()
    assert applying(live, UNREACHABLE) == ["always"]
    live.workers.take()
    assert applying(live) == ["always"]
    lose(live, 1, 2)
    assert applying(live) == ["always"]


def test_workers_that_may_be_submitted_again_are_no_reason_to_give_up() -> None:
    live = fresh()
    live.workers.take()
    live.end_array(1, "it ended")
    assert verdict(live, NOW) == Verdict(Step.WAIT)


@fault(
    "another address",
    "workers are lost that the scheduler says to run",
    promise="the reason that their user reads says so",
)
def test_the_end_of_a_job_that_is_said_to_run_has_a_reason() -> None:
    live = fresh()
    lose(live, 1)
    live.workers.take()
    hear(live, says(1), times=2)
    found = verdict(live, NOW)
    assert found.step == Step.END_JOB
    assert found.text.endswith("tasks: nothing is heard of its workers, though the scheduler says that they run")
