"""The submitting host sleeps, or is away, while its array job runs on a real Grid Engine."""

import time

from tests.faults import fault
from tests.on_cluster.programs import ran_so_far, run
from tests.user import User
from tests.waiting import until


@fault(45, "the submitting host sleeps for longer than the lease", promise="it wakes, and nothing is lost or run twice")
def test_the_submitting_host_sleeps(user: User) -> None:
    cluster = user.cluster
    code = """
        C.update(workers=4, lease=5)
        sheepdog.map_async(note, [(i, 1) for i in range(60)], C)
        show(sheepdog.Server(dbfile=DB).pid)
    """
    server = run(user, code)
    until(lambda: len(ran_so_far(user)) >= 8, "tasks run")
    cluster.on("outside", ["kill", "-STOP", str(server)])
    cluster.cut("outside")
    try:
        time.sleep(12)  # the fault itself
    finally:
        cluster.mend("outside")
        cluster.on("outside", ["kill", "-CONT", str(server)])
    assert len(ran_so_far(user)) < 60
    results, errors, attempts = run(user, "show([results(), errors(), attempts()])")
    assert (results, errors, attempts) == ([i * i for i in range(60)], [], [])
    assert len(ran_so_far(user)) == 60


@fault(
    46,
    "the submitting host is away until all workers have ended",
    promise="their outcomes are collected later; none runs twice",
)
def test_the_submitting_host_is_away_for_days(user: User) -> None:
    code = """
        C.update(workers=2, time=20)
        sheepdog.map_async(note, [(i, 3) for i in range(10)], C)
    """
    run(user, code)
    until(lambda: len(ran_so_far(user)) >= 2, "each worker runs a task", timeout=60)
    stored = run(user, "sheepdog.Server(dbfile=DB).stop(); show(Storage(DB).count_results(1))")
    until(lambda: not user.queue(), "the workers have ended", timeout=60)
    before = ran_so_far(user)
    assert len(before) > stored
    assert user.sh("head", "ls .sheepdog/*/spool")
    results, errors, attempts = run(user, "show([results(), errors(), attempts()])")
    assert (results, errors) == ([i * i for i in range(10)], [])
    runs = [task for task, _, _ in ran_so_far(user)]
    assert sorted(runs, key=int) == [str(i) for i in range(10)]
    assert attempts == []
    assert user.sh("head", "ls .sheepdog/*/spool") == ""
