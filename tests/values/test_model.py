import pytest

from sheepdog import client
from sheepdog.values.model import JobStatus, Kind, Progress, RequestState, State


def test_the_numbers_of_kinds_are_those_in_the_database() -> None:
    """They are stored: who changes one changes what old databases say."""
    names = ["RESULT", "RAISED", "DIED", "MEMORY", "TIMEOUT", "INTERRUPTED", "LOST", "NOT_RUN", "CANCELLED"]
    assert [kind.name for kind in sorted(Kind)] == names
    assert [int(kind) for kind in sorted(Kind)] == list(range(9))


def test_the_numbers_of_the_first_kinds_are_those_on_the_wire() -> None:
    for name in ("RESULT", "RAISED", "DIED", "MEMORY", "TIMEOUT", "INTERRUPTED"):
        assert Kind[name] == getattr(client, name)


def test_the_numbers_of_requests_states_are_those_in_the_database() -> None:
    assert {state.name: int(state) for state in RequestState} == {"NEW": 0, "SUBMITTED": 1, "ENDED": 2, "CLOSED": 3}


@pytest.mark.parametrize("kind", Kind)
def test_what_a_kind_of_outcome_makes_of_a_task(kind: Kind) -> None:
    assert kind.state == {Kind.RESULT: State.DONE, Kind.CANCELLED: State.CANCELLED}.get(kind, State.FAILED)


@pytest.mark.parametrize(
    ("tasks", "done", "failed", "finished", "text"),
    [
        (5, 2, 1, False, "3/5 results, 1 errors"),
        (5, 4, 1, True, "5/5 results, 1 errors"),
        (5, 0, 5, True, "5/5 results, 5 errors"),
        (5, 0, 0, False, "0/5 results, 0 errors"),
        (0, 0, 0, True, "0/0 results, 0 errors"),
    ],
)
def test_progress(tasks: int, done: int, failed: int, finished: bool, text: str) -> None:
    progress = Progress(tasks, done, failed)
    assert progress.finished is finished
    assert str(progress) == text


def test_what_was_cancelled_has_ended_and_is_told() -> None:
    progress = Progress(5, 2, 1, 2)
    assert (progress.ended, progress.finished) == (5, True)
    assert str(progress) == "5/5 results, 1 errors, 2 cancelled"


@pytest.mark.parametrize(
    ("progress", "summary"),
    [
        (Progress(100, 12, 0), "12/100 results, 0 errors; 88 wait"),
        (Progress(100, 12, 0, running=8, hosts=("a", "b", "c")), "12/100 results, 0 errors; 8 run on 3 hosts, 80 wait"),
        (Progress(5, 2, 1, 1, running=1, hosts=("a",)), "4/5 results, 1 errors, 1 cancelled; 1 run on 1 host"),
        (Progress(3, 2, 0, running=1), "2/3 results, 0 errors; 1 run"),
        (Progress(2, 2, 0, workers=1, hosts=("a",)), "2/2 results, 0 errors"),
    ],
)
def test_the_summary_tells_what_runs_and_what_waits(progress: Progress, summary: str) -> None:
    assert progress.summary == summary


@pytest.mark.parametrize(
    ("status", "gone"),
    [
        (JobStatus(), True),
        (JobStatus(reason="it was deleted"), True),
        (JobStatus(pending=1), False),
        (JobStatus(running=frozenset({"1"})), False),
        (JobStatus(broken=True), False),
    ],
)
def test_a_job_is_gone_when_nothing_of_it_is_left(status: JobStatus, gone: bool) -> None:
    assert status.gone is gone
