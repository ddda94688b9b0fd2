"""What jobs call: one function for many of them, and targets that can travel."""

import threading
from typing import Any

import pytest

from sheepdog.client import Call, run_any
from sheepdog.errors import SerialisationError
from sheepdog.front.target import as_map, require_travels
from sheepdog.job import Job


class Overrides(Job):
    def run(self) -> str:
        return "baa"


def test_jobs_of_one_target_are_calls_of_it() -> None:
    """The target travels once."""
    function, calls = as_map([Job(target=divmod, args=(17, 5)), Job(target=divmod, args=(9, 2))])
    found = list(calls)
    assert [function(*call.args, **call.kwargs) for call in found] == [(3, 2), (4, 1)]
    assert [str(call) for call in found] == ["divmod(17, 5)", "divmod(9, 2)"]


@pytest.mark.parametrize(
    ("jobs", "results"),
    [
        ([Job(target=divmod, args=(17, 5)), Job(target=pow, args=(2, 3))], [(3, 2), 8]),
        ([Job(target=divmod, args=(17, 5)), Overrides(target=divmod)], [(3, 2), "baa"]),
        ([Job()], [None]),
        ([], []),
    ],
)
def test_other_jobs_travel_themselves(jobs: list[Call], results: list[Any]) -> None:
    function, calls = as_map(jobs)
    found = list(calls)
    assert [call.args for call in found] == [(job,) for job in jobs]
    assert [function(*call.args, **call.kwargs) for call in found] == results
    assert getattr(function, "__wrapped__", None) is run_any


def test_what_cannot_be_called() -> None:
    with pytest.raises(SerialisationError, match="target is 3, a int; it must be something to call"):
        require_travels(3)


def test_what_cannot_be_serialised() -> None:
    lock = threading.Lock()
    with pytest.raises(SerialisationError, match=r"^the target .*lock"):
        require_travels(lambda: lock)


class Counts:
    """How often one is serialised."""

    def __init__(self, times: list[int]) -> None:
        self.times = times

    def __call__(self) -> None: ...

    def __reduce__(self) -> tuple[Any, ...]:
        self.times.append(1)
        return int, ()


def test_a_target_is_tried_once() -> None:
    target = Counts([])
    require_travels(target)
    tried = len(target.times)
    assert tried
    require_travels(target)
    assert len(target.times) == tried
    require_travels(Counts(target.times))
    assert len(target.times) == 2 * tried


class Slotted:
    __slots__ = ()

    def __call__(self) -> None: ...


def test_a_target_that_takes_no_weak_reference() -> None:
    require_travels(Slotted())
