"""Whether a task runs again, by cause; and when a request is not worth going on with."""

import pytest

from sheepdog.client.words import explain
from sheepdog.config import Config
from sheepdog.server.decide.policy import (
    FAIL_FAST_TASKS,
    FAILURES,
    FRESH,
    LONGEST_DELAY,
    MAX_INTERRUPTIONS,
    MAX_LEVEL,
    Breaker,
    Past,
    Policy,
    factor,
    likeness,
)
from sheepdog.values.model import Kind, Outcome


def attempts(policy: Policy, kind: Kind, most: int = 100) -> tuple[Past, list[float]]:
    """Let every attempt of a task end in one way: its past when it is given up, and the delays until then."""
    past, delays = FRESH, list[float]()
    for attempt in range(1, most):
        past, delay = policy.judge(past, kind, attempt)
        assert past.attempts == attempt
        if delay is None:
            return past, delays
        delays.append(delay)
    raise AssertionError("it is never given up")


# By cause


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_is_an_answer(kind: Kind) -> None:
    past, delays = attempts(Policy(), kind)
    assert delays == []
    assert past == Past(attempts=1, failures=1)


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_is_tried_again_as_often_as_asked(kind: Kind) -> None:
    past, delays = attempts(Policy(retries=3), kind)
    assert len(delays) == 3
    assert past == Past(attempts=4, failures=4)


def test_the_delays_double_up_to_a_bound() -> None:
    for _ in range(20):  # they are random
        _, delays = attempts(Policy(retries=30, retry_delay=8.0), Kind.RAISED)
        for number, delay in enumerate(delays):
            longest = min(LONGEST_DELAY, 8.0 * 2**number)
            assert longest / 2 <= delay <= longest


def test_the_delays_differ() -> None:
    policy = Policy(retries=1)
    assert len({policy.judge(FRESH, Kind.RAISED, 1)[1] for _ in range(20)}) > 1


@pytest.mark.parametrize("most", [1, 3])
def test_a_lost_worker_is_free_up_to_a_bound(most: int) -> None:
    past, delays = attempts(Policy(max_losses=most), Kind.LOST)
    assert delays == [0.0] * (most - 1)
    assert past == Past(attempts=most, losses=most)


def test_an_interruption_is_free_up_to_a_bound() -> None:
    past, delays = attempts(Policy(), Kind.INTERRUPTED)
    assert delays == [0.0] * MAX_INTERRUPTIONS
    assert (past.interruptions, past.failures, past.losses) == (MAX_INTERRUPTIONS + 1, 0, 0)


def test_each_cause_has_its_own_count() -> None:
    policy = Policy(retries=1, max_losses=2)
    past, delay = policy.judge(FRESH, Kind.LOST, 1)
    assert delay == 0.0
    past, delay = policy.judge(past, Kind.INTERRUPTED, 2)
    assert delay == 0.0
    past, delay = policy.judge(past, Kind.RAISED, 3)
    assert delay is not None
    assert past == Past(attempts=3, failures=1, losses=1, interruptions=1)
    assert policy.judge(past, Kind.LOST, 4)[1] is None
    assert policy.judge(past, Kind.RAISED, 4)[1] is None


def test_an_older_attempt_does_not_lower_the_count() -> None:
    past, _ = Policy().judge(Past(attempts=4), Kind.LOST, 2)
    assert past.attempts == 4
    assert Past(attempts=4).counted(2).attempts == 4
    assert Past(attempts=4).counted(6) == Past(attempts=6)


# Resources


def test_out_of_memory_raises_the_level_at_no_cost_until_the_highest() -> None:
    past, delays = attempts(Policy(on_oom=2), Kind.MEMORY)
    assert delays == [0.0] * MAX_LEVEL
    assert past == Past(attempts=MAX_LEVEL + 1, failures=1, level=MAX_LEVEL)


def test_at_the_highest_level_out_of_memory_is_a_failure_like_others() -> None:
    past, delays = attempts(Policy(on_oom=2, retries=2), Kind.MEMORY)
    assert len(delays) == MAX_LEVEL + 2
    assert past.level == MAX_LEVEL


def test_an_interruption_raises_the_level_if_that_is_asked() -> None:
    assert Policy().judge(FRESH, Kind.INTERRUPTED, 1)[0].level == 0
    past, delays = attempts(Policy(on_walltime=2), Kind.INTERRUPTED)
    assert past.level == MAX_LEVEL
    assert delays == [0.0] * MAX_INTERRUPTIONS


@pytest.mark.parametrize("kind", [Kind.RAISED, Kind.DIED, Kind.TIMEOUT, Kind.LOST])
def test_nothing_else_raises_the_level(kind: Kind) -> None:
    assert Policy(on_oom=2, on_walltime=2, retries=9).judge(FRESH, kind, 1)[0].level == 0


# Out of the options


def test_a_policy_comes_out_of_a_requests_configuration() -> None:
    config = Config(retries=2, max_losses=5, memory="1G", on_oom="1.5x", lease=3.0)
    assert Policy.of(config) == Policy(retries=2, max_losses=5, on_oom=1.5)
    assert Policy.of(Config()) == Policy()


@pytest.mark.parametrize(("text", "number"), [("2x", 2.0), ("1.5x", 1.5), (None, 0.0)])
def test_factors(text: str | None, number: float) -> None:
    assert factor(text) == number


# The breaker


def error(text: str = "ValueError: no", line: int = 7, kind: Kind = Kind.RAISED, task: int = 1) -> Outcome:
    trace = (
        f'{text}\nTraceback (most recent call last):\n  File "/home/me/study.py", line {line}, in simulate\n    x()\n'
    )
    return Outcome(task=task, kind=kind, value=trace.encode())


def told(breaker: Breaker, outcomes: list[Outcome]) -> list[str]:
    return [breaker.feed(outcome) for outcome in outcomes]


def test_when_the_first_tasks_fail_alike_the_rest_is_not_run() -> None:
    *before, last = told(Breaker(20, FAIL_FAST_TASKS), [error(f"ValueError: {n}") for n in range(20)])
    assert before == [""] * 19
    assert last == "the first 20 tasks failed alike: ValueError at line 7 of study.py, in simulate"


@pytest.mark.parametrize(
    "other",
    [
        Outcome(task=2, kind=Kind.RESULT, value=b""),
        error(line=8),
        error("TypeError: no"),
        error(kind=Kind.DIED, text="killed"),
        Outcome(task=1, kind=Kind.MEMORY, value=b"out of memory: 5 GB"),
    ],
    ids=["a result", "another line", "another type", "another cause", "memory"],
)
@pytest.mark.parametrize("position", [0, 1, 19])
def test_one_that_is_not_alike_switches_it_off(other: Outcome, position: int) -> None:
    outcomes = [error()] * 19
    outcomes.insert(position, other)
    assert told(Breaker(20, 1000), outcomes + [error()] * 100) == [""] * 120


@pytest.mark.parametrize(("limit", "tasks"), [(0, 1000), (20, FAIL_FAST_TASKS - 1)])
def test_it_is_off_when_asked_and_for_few_tasks(limit: int, tasks: int) -> None:
    assert told(Breaker(limit, tasks), [error()] * 50) == [""] * 50


def test_the_limit_is_the_users() -> None:
    assert told(Breaker(3, 100), [error()] * 3)[2].startswith("the first 3 tasks failed alike")


def test_tasks_out_of_memory_are_alike_however_much_they_had() -> None:
    assert likeness(Outcome(task=1, kind=Kind.MEMORY, value=b"out of memory: 4.1 GB")) == "out of memory"


def test_deaths_are_alike_by_their_sentence() -> None:
    text = b"the task's process was killed by signal 11 (SIGSEGV)\nwhat it said: x"
    assert (
        likeness(Outcome(task=1, kind=Kind.DIED, value=text)) == "the task's process was killed by signal 11 (SIGSEGV)"
    )


def fail_here(text: str) -> bytes:
    try:
        raise ValueError(text)
    except ValueError as error:
        return explain(error)


def test_what_the_worker_makes_of_an_exception_has_a_type_and_a_line() -> None:
    first, second = (
        likeness(Outcome(task=1, kind=Kind.RAISED, value=fail_here(text))) for text in ("one", "two\nlines")
    )
    line = fail_here.__code__.co_firstlineno + 2
    assert first == second == f"ValueError at line {line} of test_policy.py, in fail_here"
