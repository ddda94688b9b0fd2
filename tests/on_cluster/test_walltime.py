"""The end of a worker's time on a real Grid Engine."""

from tests.faults import fault
from tests.on_cluster.programs import ran_so_far, run
from tests.user import User


@fault(35, "the walltime ends, with a signal before", promise="the worker hands back what it has; others go on")
def test_a_request_outlives_the_walltime(user: User) -> None:
    code = """
        C.update(time=20, workers=2, resubmissions=20)
        request_id = sheepdog.map_async(note, [(i, 3) for i in range(20)], C)
        show([results(), errors(), arrays(), attempts()])
    """
    results, errors, arrays, attempts = run(user, code)
    assert results == [i * i for i in range(20)]
    assert errors == []
    assert arrays > 1
    runs = ran_so_far(user)
    assert len(runs) <= 20 + len(attempts)


@fault(
    "notify", "the walltime ends while a task runs", promise="the attempt is interrupted, and the next has more time"
)
def test_more_time_for_the_next_attempt(user: User) -> None:
    code = """
        C.update(time=10, workers=1, on_walltime="8x")
        sheepdog.map_async(note, [(3, 40)], C)
        show([results(), errors(), arrays(), attempts()])
    """
    results, errors, arrays, attempts = run(user, code)
    assert (results, errors, arrays) == ([9], [], 2)
    [[task, attempt, kind, text]] = attempts
    assert (task, attempt, kind) == (1, 1, "INTERRUPTED")
    assert "ended" in text


@fault("s_rt", "the soft limit of time", promise="SIGUSR1 warns the worker; its task goes to another")
def test_the_soft_limit(user: User) -> None:
    code = """
        C.update(ge_opts=["-l s_rt=8,h_rt=60"], workers=2, resubmissions=20)
        sheepdog.map_async(note, [(i, 2) for i in range(12)], C)
        show([results(), errors(), arrays()])
    """
    results, errors, arrays = run(user, code)
    assert results == [i * i for i in range(12)]
    assert errors == []
    assert arrays > 1
