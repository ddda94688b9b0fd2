"""When an array job that is gone was deleted on purpose: a table, and what follows for its request."""

from dataclasses import replace
from typing import Any

import pytest

from sheepdog.client import DELETED
from sheepdog.server.decide import arrays, clock
from sheepdog.server.decide.deletion import is_deletion
from sheepdog.server.decide.live import ACCOUNTED
from sheepdog.storage import Storage
from sheepdog.values.model import ArrayJob, End, Fate, JobStatus, Kind, RequestState
from tests.faults import fault
from tests.server.decide.farm import GONE, Farm
from tests.server.decide.lives import says

NAMES = {"1", "2", "3"}
SIGNAL = {"reason": f"SIGUSR2 from the scheduler ({DELETED})", "seconds": 1.0}


def gone(ends: dict[int, Fate] | None = None, **other: Any) -> JobStatus:
    return JobStatus(ends=tuple(End("", fate, str(name)) for name, fate in (ends or {}).items()), **other)


CANCELLED = dict.fromkeys((1, 2, 3), Fate.DELETED)
WELL = dict.fromkeys((1, 2, 3), Fate.ITSELF)
TABLE: dict[str, tuple[bool, dict[str, Any]]] = {
    # Slurm says it of each
    "all run": (True, {"before": says(1, 2, 3), "gone": gone(CANCELLED)}),
    "all wait": (True, {"before": says(pending=3), "gone": gone(CANCELLED)}),
    "the rest of it": (True, {"before": says(1, 2), "gone": gone({**CANCELLED, 3: Fate.OTHER})}),
    "never listed": (True, {"before": None, "gone": gone(CANCELLED)}),
    "one of them": (False, {"before": says(1, 2), "gone": gone({1: Fate.OTHER, 2: Fate.OTHER, 3: Fate.DELETED})}),
    "one, and the others left in time": (False, {"before": says(1, 2), "gone": gone({**WELL, 3: Fate.DELETED})}),
    "one, while none was looking": (False, {"before": None, "gone": gone({**WELL, 3: Fate.DELETED})}),
    "some were told to end": (
        True,
        {"before": says(1, 2, 3), "gone": gone({**CANCELLED, 1: Fate.ITSELF}), "dismissed": {"1"}},
    ),
    # Grid Engine says only what else it was; the workers were warned
    "warned": (True, {"before": says(1, 2, 3), "gone": gone(WELL, unlimited=True), "warned": NAMES}),
    "warned at a limit": (
        False,
        {"before": says(1, 2, 3), "gone": gone(dict.fromkeys((1, 2, 3), Fate.OTHER), unlimited=True), "warned": NAMES},
    ),
    "warned, and no accounting": (True, {"before": says(1, 2, 3), "gone": gone(unlimited=True), "warned": NAMES}),
    "warned, and limits": (False, {"before": says(1, 2, 3), "gone": gone(), "warned": NAMES}),
    "one was not warned": (False, {"before": says(1, 2, 3), "gone": gone(unlimited=True), "warned": {"1", "2"}}),
    "seen to be deleted": (True, {"before": says(1, 2, 3, deleting=frozenset(NAMES)), "gone": gone()}),
    # of what waits nothing is known afterwards
    "all waited": (True, {"before": says(pending=3), "gone": gone()}),
    "one waited": (
        True,
        {"before": says(1, 2, pending=1), "gone": gone(WELL | {3: Fate.ITSELF}, unlimited=True), "warned": NAMES},
    ),
    "two waited": (
        True,
        {"before": says(1, pending=2), "gone": gone({1: Fate.ITSELF}, unlimited=True), "warned": {"1"}},
    ),
    "they waited, were started and fell": (False, {"before": says(pending=3), "gone": gone(started=True)}),
    "they waited, were started and called": (False, {"before": says(pending=3), "gone": gone(), "called": NAMES}),
    "fewer waited": (False, {"before": says(pending=1), "gone": gone()}),
    # nothing is known
    "killed": (False, {"before": says(1, 2, 3), "gone": gone()}),
    "failed": (False, {"before": says(1, 2, 3), "gone": gone(dict.fromkeys((1, 2, 3), Fate.OTHER))}),
    "nothing but that some have run": (False, {"before": None, "gone": gone(started=True)}),
    "it has never been seen": (True, {"before": None, "gone": gone()}),
}


@pytest.mark.parametrize("case", TABLE)
def test_the_table(case: str) -> None:
    expected, said = TABLE[case]
    assert is_deletion(NAMES, **said) is expected


def work(farm: Farm, *elements: str, array: int = 1) -> None:
    """Have workers call from these elements, and hold a task each."""
    for element in elements:
        assert farm.exchange(f"{array}.{element}", 1, element=element, array=array).header["tasks"]


def warn(farm: Farm, *elements: str, array: int = 1) -> None:
    for element in elements:
        farm.exchange(f"{array}.{element}", 0, element=element, array=array, leaving=SIGNAL)


@fault("qdel all", "the whole array job is deleted on purpose", promise="it does not come back; retry runs the rest")
@pytest.mark.parametrize("scheduler", ["gridengine", "slurm", "drmaa"])
def test_the_tasks_that_are_left_end_as_cancelled(storage: Storage, scheduler: str) -> None:
    farm = Farm(storage, [b""] * 10, scheduler=scheduler)
    farm.heed(says(1, 2))
    work(farm, "1", "2")
    farm.exchange("1.1", 0, {1: b"result"}, element="1")
    warn(farm, "1", "2")
    farm.heed(gone({1: Fate.ITSELF, 2: Fate.ITSELF}, unlimited=True), times=2)
    progress = farm.storage.progress(farm.request)
    assert (progress.done, progress.cancelled, progress.failed) == (1, 9, 0)
    command = {"gridengine": " (qdel)", "slurm": " (scancel)"}.get(scheduler, "")
    again = f"sheepdog.retry({farm.request}, {storage.dbfile!r})"
    assert {*farm.errors} == {f"the array job 12 was deleted{command}; `{again}` runs the rest"}
    assert clock.wanted(farm.service) == []
    assert farm.state == RequestState.ENDED


def test_one_that_waited_is_not_asked_for_its_python(farm: Farm) -> None:
    farm.heed(says(pending=2))
    farm.heed(JobStatus(reason="it was deleted"), times=2)
    assert farm.errors[0].startswith("the array job 12 was deleted; `sheepdog.retry(")
    assert farm.storage.progress(farm.request).cancelled == 10


@fault((36, "qdel one"), "the scheduler ends the workers for their time", promise="others are submitted, as ever")
def test_what_ended_otherwise_comes_back(farm: Farm) -> None:
    farm.heed(says(1, 2))
    work(farm, "1", "2")
    warn(farm, "1", "2")
    farm.heed(gone({1: Fate.OTHER, 2: Fate.OTHER}, unlimited=True), times=2)
    [wanted] = clock.wanted(farm.service)
    assert wanted.workers == 2


@fault("qdel all", "one of several array jobs is deleted", promise="it does not come back; the others do the tasks")
def test_the_others_go_on_with_what_is_left(farm: Farm) -> None:
    work(farm, "1", "2")
    array = arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d", 8))
    arrays.submitted(farm.service, farm.request, replace(array, job="13"))
    farm.heed(says(1, 2))
    farm.heed(says(pending=8), array=2)
    farm.heed(JobStatus(reason="gone"), times=2, array=2)
    assert farm.errors == []
    assert clock.wanted(farm.service) == []
    farm.live.pace.end([3600.0])
    assert clock.wanted(farm.service) == []  # nor does it grow again
    farm.heed(GONE, times=2)
    assert [wanted.workers for wanted in clock.wanted(farm.service)] == [2]  # what ends by itself comes back


@fault("qdel all", "several array jobs are deleted at once", promise="none comes back")
def test_all_of_several_are_deleted(farm: Farm) -> None:
    array = arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d", 2))
    arrays.submitted(farm.service, farm.request, replace(array, job="13"))
    for status in (says(pending=2), gone(), gone()):
        farm.heed(status)
        farm.heed(status, array=2)
    assert farm.storage.progress(farm.request).cancelled == 10
    assert clock.wanted(farm.service) == []


def look(farm: Farm, status: JobStatus, seconds: float = 2.0) -> list[int]:
    """Let the scheduler be asked soon after the last time; return how many workers are wanted then."""
    farm.now += seconds
    clock.heed(farm.service, farm.request, {1: status}, farm.now)
    return [wanted.workers for wanted in clock.wanted(farm.service)]


@pytest.fixture
def eight_of_twelve(storage: Storage) -> Farm:
    farm = Farm(storage, [b""] * 60, workers=12, scheduler="gridengine")
    farm.heed(says(*range(1, 9), pending=4))
    work(farm, *map(str, range(1, 9)))
    return farm


@fault(
    ("qdel all", "late accounting"),
    "all elements are deleted one by one, and the accounting does not know yet",
    promise="none is submitted meanwhile; it does not come back",
)
@pytest.mark.parametrize("order", [range(1, 13), range(12, 0, -1)], ids=["those that run first", "those that wait"])
def test_deleted_one_by_one(eight_of_twelve: Farm, order: range) -> None:
    farm, left = eight_of_twelve, [*order]
    for name in order:
        left.remove(name)
        if name <= 8:
            warn(farm, str(name))
        running = [each for each in left if each <= 8]
        if left:
            assert look(farm, says(*running, pending=len(left) - len(running)), 10.0) == []
    assert look(farm, gone(unlimited=True)) == look(farm, gone(unlimited=True)) == []
    assert farm.storage.progress(farm.request).cancelled == 60


def test_workers_that_came_to_a_limit_are_not_waited_for(eight_of_twelve: Farm) -> None:
    farm = eight_of_twelve
    warn(farm, *map(str, range(1, 8)))
    assert look(farm, says(8, pending=4)) == []
    assert len(clock.fallen(farm.service, farm.request)) == 1
    ends = [End("failed 37", Fate.OTHER, "1", "node1")]
    clock.look_at_ends(farm.service, farm.request, 1, ends)
    assert look(farm, says(8, pending=4)) == [7]


def test_without_accounting_they_are_waited_for_but_for_a_while(eight_of_twelve: Farm) -> None:
    farm = eight_of_twelve
    warn(farm, *map(str, range(1, 8)))
    assert look(farm, says(8, pending=4)) == []
    assert look(farm, says(8, pending=4), ACCOUNTED) == [7]


def test_workers_that_are_lost_without_a_warning_are_not_waited_for(eight_of_twelve: Farm) -> None:
    farm = eight_of_twelve
    assert look(farm, says(8, pending=4)) == []
    assert look(farm, says(8, pending=4)) == [7]


@fault("qdel all", "an executor's workers are deleted", promise="its calls end; later ones have new workers")
@pytest.mark.parametrize("calls", [0, 1, 5])
@pytest.mark.parametrize("joined", [False, True], ids=["they wait", "they run"])
def test_the_calls_of_an_executor_end_and_later_ones_have_new_workers(
    storage: Storage, joined: bool, calls: int
) -> None:
    farm = Farm(storage, [b""] * calls, open=True, resubmissions=0)
    farm.heed(says(1, 2) if joined else says(pending=2))
    for element in "12" if joined else "":
        farm.join(f"1.{element}", element=element)
        farm.exchange(f"1.{element}", 1, element=element)
    warn(farm, *("12" if joined else ""))
    farm.heed(gone(unlimited=True), times=2)
    assert farm.errors == ["the array job 12 was deleted"] * calls
    assert farm.state == RequestState.SUBMITTED
    assert clock.wanted(farm.service) == []
    for again in (calls + 1, calls + 2):  # as often as they are deleted, and also by another server
        farm.storage.add_tasks(farm.request, [b""])
        clock.tick(farm.service)
        assert [wanted.workers for wanted in clock.wanted(farm.service)] == [2]
        farm.restart()
        clock.tick(farm.service)
        assert [wanted.workers for wanted in clock.wanted(farm.service)] == [2]
        array = arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d", 2))
        arrays.submitted(farm.service, farm.request, replace(array, job="13"))
        farm.heed(says(pending=2), array=array.number)
        farm.heed(gone(), times=2, array=array.number)
        assert len(farm.errors) == again
    assert farm.state == RequestState.SUBMITTED


def test_an_executor_ends_if_its_new_workers_are_refused(storage: Storage) -> None:
    farm = Farm(storage, [b""], open=True)
    farm.heed(says(pending=2))
    farm.heed(gone(), times=2)
    farm.storage.add_tasks(farm.request, [b""])
    clock.tick(farm.service)
    [_] = clock.wanted(farm.service)
    array = arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d", 2))
    arrays.not_submitted(farm.service, farm.request, array.number, "no such queue", refused=True)
    clock.tick(farm.service)
    assert "no such queue" in farm.errors[-1]


def test_what_is_under_way_elsewhere_is_no_work_of_theirs(storage: Storage) -> None:
    """A call that was stored before the deletion is seen, and that the server has not read, is a later one."""
    farm = Farm(storage, [b""], open=True)
    farm.heed(says(pending=2))
    farm.heed(gone())
    farm.storage.add_tasks(farm.request, [b""])
    farm.heed(gone())
    assert len(farm.errors) == 1
    clock.tick(farm.service)
    assert [wanted.workers for wanted in clock.wanted(farm.service)] == [2]


def test_all_workers_come_again_after_the_last_array_job(storage: Storage) -> None:
    farm = Farm(storage, [b""], workers=4, open=True)
    array = arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d", 2))
    farm.live  # noqa: B018
    arrays.submitted(farm.service, farm.request, replace(array, job="13"))
    for number, workers in ((1, 4), (2, 2)):
        farm.heed(says(pending=workers), array=number)
        farm.heed(gone(), times=2, array=number)
    farm.storage.add_tasks(farm.request, [b""])
    clock.tick(farm.service)
    assert [wanted.workers for wanted in clock.wanted(farm.service)] == [4]


def test_an_attempt_that_a_deletion_ended_is_told(farm: Farm) -> None:
    farm.heed(says(1))
    work(farm, "1")
    farm.exchange("1.1", 0, element="1", holding=[1], leaving=SIGNAL)
    farm.heed(gone(unlimited=True), times=2)
    assert farm.history == [(1, 1, Kind.INTERRUPTED, True)]


def test_the_scheduler_is_asked_soon_after_a_warning(farm: Farm) -> None:
    farm.heed(says(1))
    work(farm, "1")
    assert clock.watched(farm.service)[0].calm
    warn(farm, "1")
    assert not clock.watched(farm.service)[0].calm
