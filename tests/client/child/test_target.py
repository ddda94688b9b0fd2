"""What comes of a task: its result, or why there is none."""

import pickle

import pytest

from sheepdog.client import DIED, RAISED, RESULT
from sheepdog.client.child.target import Target, blame, enclose
from sheepdog.client.parent.child import Child
from sheepdog.client.wire.limits import MAX_EXCEPTION
from tests.client.children import Start, arguments, give, outcomes
from tests.client.shepherd import Shepherd
from tests.waiting import until


def test_a_value_that_is_too_large_is_an_error_that_says_so(start: Start) -> None:
    child = start(max_value=1000)
    give(child, ("large", 2000), ("large", 10))
    (_, kind, text), second = outcomes(child, 2)
    assert kind == RAISED
    assert text.startswith(b"the result has 20")
    assert text.endswith(b"bytes; at most 1000 can be stored: write it to a file and return its name")
    assert second[1] == RESULT


def test_a_result_that_cannot_travel_is_an_error_that_says_so(start: Start) -> None:
    child = start()
    give(child, ("unserialisable",))
    [(_, kind, text)] = outcomes(child, 1)
    assert kind == RAISED
    assert text.startswith(b"the result, a generator, cannot be serialised: TypeError: cannot pickle 'generator'")


def test_a_function_that_cannot_be_loaded_is_every_tasks_error() -> None:
    child = Child({"directory": "/nonexistent", "request": 1, "max_value": 10**6}, b"no pickle", b"")
    try:
        give(child, ("a",), ("b",))
        for _, kind, text in outcomes(child, 2):
            assert kind == RAISED
            assert text.startswith(b"the function cannot be loaded here: UnpicklingError: ")
    finally:
        child.kill()


def test_arguments_that_cannot_be_loaded_are_their_tasks_error(start: Start) -> None:
    child = start()
    child.give([(1, 1, b"no pickle"), (2, 1, arguments("a"))])
    (_, kind, text), second = outcomes(child, 2)
    assert kind == RAISED
    assert text.startswith(b"the arguments cannot be loaded here: UnpicklingError: ")
    assert second[1] == RESULT


def test_a_crash_leaves_its_traceback_in_the_output(shepherd: Shepherd) -> None:
    server = shepherd.serve(("import ctypes; ctypes.string_at(0)",), ("result = 1",))
    assert shepherd.work(server).wait(60) == 0
    assert server.results() == [
        (DIED, "the task's process was killed by signal 11 (SIGSEGV) before the function returned"),
        1,
    ]
    assert b"Fatal Python error: Segmentation fault" in server.outcomes[1].output


def test_processes_that_a_task_ends_with_sigterm_print_no_traceback(shepherd: Shepherd) -> None:
    source = "import multiprocessing\ncontext = multiprocessing.get_context('fork')\n"
    source += "with context.Pool(2) as pool: result = pool.map(abs, [-1, 2])"
    server = shepherd.serve((source,), (source,), (source,))
    assert shepherd.work(server).wait(60) == 0
    assert server.results() == [[1, 2]] * 3
    # A process that is ended at the very moment of its fork may still print: once in many times, on a busy machine.
    assert b"" in [server.outcomes[index].output for index in (1, 2, 3)]


def test_an_exception_follows_its_text(start: Start) -> None:
    child = start()
    give(child, ("raise", "what it says"))
    [(_, kind, value)] = outcomes(child, 1)
    assert kind == RAISED
    text, _, pickled = value.partition(b"\0")
    assert text.startswith(b"ValueError: what it says\n")
    error = pickle.loads(pickled)
    assert (type(error), str(error)) == (ValueError, "what it says")


@pytest.mark.parametrize("what", [(i for i in ""), "x" * MAX_EXCEPTION], ids=["no pickle", "too large"])
def test_an_exception_that_cannot_travel_is_left_out(what: object) -> None:
    assert enclose(ValueError(what)) == b""


def test_a_nul_ends_no_text() -> None:
    """What follows one is the exception."""
    _, value = blame(ValueError("before\0after"), 0)
    assert value.startswith(b"ValueError: before\\x00after\n")
    assert b"\0" not in value


def try_out(function: bytes, names: list[tuple[str, str]]) -> str:
    return Target(function, b"", lambda: None, lambda: None).try_out(names)  # type: ignore[arg-type, return-value]


def test_what_is_tried_before_there_is_a_task() -> None:
    """The function is loaded, and what the calls name is looked up."""
    fine = pickle.dumps(abs, 4)
    assert try_out(fine, [("pathlib", "Path"), ("pathlib._local", "PosixPath")]) == ""
    assert try_out(fine, [("no_such", "f")]) == "ModuleNotFoundError: No module named 'no_such'"
    assert try_out(fine.replace(b"abs", b"abz"), []).startswith("AttributeError: ")
    assert try_out(b"no pickle", []).startswith("UnpicklingError: ")


def test_the_child_says_what_came_of_it(start: Start) -> None:
    child = start()
    child.give([], {}, {b"": b'[["no_such", "f"]]'})
    until(lambda: child.collect(0.1) and child.tried is not None, "its word")
    assert child.tried == "ModuleNotFoundError: No module named 'no_such'"
