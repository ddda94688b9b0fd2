import pytest

from sheepdog.model import JobStatus, Progress, State


def test_the_numbers_of_states_are_those_in_the_database_and_on_the_wire() -> None:
    assert {state.name: int(state) for state in State} == {"DONE": 0, "FAILED": 1}


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


@pytest.mark.parametrize(
    ("status", "gone"),
    [
        (JobStatus(), True),
        (JobStatus(reason="it was deleted"), True),
        (JobStatus(pending=True), False),
        (JobStatus(running=frozenset({"1"})), False),
        (JobStatus(broken=True), False),
    ],
)
def test_a_job_is_gone_when_nothing_of_it_is_left(status: JobStatus, gone: bool) -> None:
    assert status.gone is gone
