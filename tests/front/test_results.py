"""What came of a task: the exit code of a process that ended so."""

import pytest

from sheepdog.front.results import exit_code
from sheepdog.values.model import Kind, Outcome


@pytest.mark.parametrize(
    ("kind", "words", "code"),
    [
        (Kind.RAISED, "ZeroDivisionError: division by zero", 1),
        (Kind.RAISED, "ValueError: killed by signal 9", 1),
        (Kind.RAISED, "ValueError: it exited with status 3", 1),
        (Kind.RAISED, "ValueError: SystemExit: 3", 1),
        (Kind.RAISED, "SystemExit: 7", 7),
        (Kind.DIED, "the task's process was killed by signal 9 (SIGKILL) before the function returned", -9),
        (Kind.DIED, "the task's process closed all its files, the worker's too: the outcome was lost", 1),
        (Kind.MEMORY, "out of memory: its process had 1.0 GB at most, the limit is 1.0 GB", -9),
        (Kind.MEMORY, "out of memory: its process had 1.0 GB at most; MemoryError", 1),
        (Kind.TIMEOUT, "it took longer than its timeout", -15),
        (Kind.INTERRUPTED, "the worker was ended while the task ran: SIGTERM", -15),
        (Kind.LOST, "its worker was lost", -9),
        (Kind.NOT_RUN, "the first 20 tasks failed alike", 1),
        (Kind.CANCELLED, "cancelled by its user", -15),
    ],
)
def test_exit_codes_of_outcomes_that_are_stored_in_words_only(kind: Kind, words: str, code: int) -> None:
    assert exit_code(Outcome(task=1, kind=kind, value=words.encode())) == code


@pytest.mark.parametrize(
    ("kind", "signal", "status", "code"),
    [
        (Kind.DIED, 11, None, -11),
        (Kind.DIED, 0, 3, 3),
        (Kind.DIED, 0, 0, 0),
        (Kind.MEMORY, 9, None, -9),
        (Kind.RAISED, 0, 4, 4),
        (Kind.TIMEOUT, 9, None, -15),  # what its user is to see, whatever it took
        (Kind.CANCELLED, 0, None, -15),
    ],
)
def test_exit_codes_of_outcomes_that_are_stored_as_numbers(
    kind: Kind, signal: int, status: int | None, code: int
) -> None:
    assert exit_code(Outcome(task=1, kind=kind, value=b"in other words", signal=signal, status=status)) == code
