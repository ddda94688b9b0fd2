"""What came of a task, for its user: results, errors, exit codes."""

import pickle

import pytest

from sheepdog.errors import TaskFailed, UntrustedResult
from sheepdog.front.results import describe, error_of, exit_code, harmless, load, opened, unreadable
from sheepdog.values.model import Kind, Outcome

GONE = b"csheepdog_no_such_module\nThing\n."


def raised(exception: bytes) -> Outcome:
    return outcome(value=b"KeyError: 'k'\0" + exception)


def outcome(kind: Kind = Kind.RAISED, value: bytes = b"ValueError: no\nTraceback ...\n", **more: object) -> Outcome:
    known = {"task": 2, "attempt": 1, "host": "node1", "seconds": 1.5, "output": b""}
    return Outcome(kind=kind, value=value, **{**known, **more})  # type: ignore[arg-type]


def test_an_error_in_words() -> None:
    said = describe(
        7, outcome(output=b"last \xff words\n"), [outcome(value=b"LostWorker: gone\nmore", attempt=0, host="")]
    )
    assert said.splitlines() == [
        "ValueError: no",
        "(task 2 of request 7, attempt 1, on node1, after 1.50 s)",
        "Traceback ...",
        "The end of its output:",
        "last \ufffd words",
        "Before: LostWorker: gone",
    ]
    assert "(task 2 of request 7, never run)" in describe(7, outcome(host="", attempts=0))


def test_a_result_that_cannot_be_loaded_is_an_error_of_its_own() -> None:
    value, problem = load(GONE)
    assert value is None
    assert problem is not None
    assert problem.startswith("the result cannot be loaded here: ModuleNotFoundError: ")
    assert opened(7, outcome(Kind.RESULT, pickle.dumps(3))) == (3, None)
    nothing, error = opened(7, outcome(Kind.RESULT, GONE))
    assert nothing is None
    assert isinstance(error, TaskFailed)


def test_what_is_not_trusted_is_not_loaded() -> None:
    nothing, error = opened(7, outcome(Kind.RESULT, pickle.dumps(pytest.raises)), trusted=False)
    assert nothing is None
    assert isinstance(error, UntrustedResult)
    assert unreadable(pickle.dumps(pytest.raises), trusted=False) == str(error)
    assert unreadable(pickle.dumps(1), trusted=False) is None


def test_an_exception_comes_back_with_where_as_its_cause() -> None:
    error = error_of(7, raised(pickle.dumps(KeyError("k"))))
    assert isinstance(error, KeyError)
    assert isinstance(error.__cause__, TaskFailed)
    for lost in (GONE, pickle.dumps("no exception"), b""):
        assert isinstance(error_of(7, raised(lost)), TaskFailed)
    assert isinstance(error_of(7, raised(pickle.dumps(KeyError("k"))), trusted=False), TaskFailed)


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(), KeyboardInterrupt()])
def test_an_exception_that_would_end_the_users_loop_is_not_raised(error: BaseException) -> None:
    error.__cause__ = cause = TaskFailed("so", 7, 2, Kind.RAISED)
    assert harmless(error) is cause
    assert harmless(ValueError("so")).args == ("so",)


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
