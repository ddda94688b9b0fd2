"""What people and the scheduler do to an array job, on a real Grid Engine."""

import re

import pytest

from tests.faults import fault
from tests.on_cluster.programs import cancel_most, log_of, ran_so_far, run
from tests.user import User
from tests.waiting import until


@fault((36, "qdel one"), "qdel of one element", promise="its task runs elsewhere, once more")
def test_one_element_is_deleted(user: User) -> None:
    code = """
        C.update(workers=3)
        sheepdog.map_async(note, [(i, 6) for i in range(6)], C)
        until(lambda: qstat().count(" r ") == 3)
        time.sleep(2)
        head("qdel", job(), "-t", "2")
        show([results(), errors(), attempts()])
    """
    results, errors, attempts = run(user, code)
    assert (results, errors) == ([i * i for i in range(6)], [])
    assert len(ran_so_far(user)) <= 6 + len(attempts)


@fault((36, "qdel all"), "qdel of the whole array job", promise="it does not come back; retry runs the rest")
def test_all_is_deleted(user: User) -> None:
    """Eight of its elements run, and four wait."""
    code = """
        C.update(workers=12)
        request_id = sheepdog.map_async(note, [(i, 0 if i < 4 else 300) for i in range(24)], C)
        until(lambda: qstat().count(" r ") == 8)
        deleted = job()
        head("qdel", deleted)
        left = results(), errors(), deleted, arrays()
        show([*left, sheepdog.retry(request_id, DB), arrays()])
        sheepdog.cancel(request_id, DB)
    """
    results, errors, job, arrays, again, arrays_then = run(user, code)
    assert [result for result in results if result is not None] == [0, 1, 4, 9]
    assert len(errors) == again == 20
    assert {error.split("\n")[0].partition(" runs")[0] for error in errors} == {
        f"the array job {job} was deleted (qdel); `sheepdog.retry(1, '{user.place}/sheepdog.sqlite')`"
    }
    assert (arrays, arrays_then) == (1, 2)


@fault(("qdel all", "late accounting"), "qdel of one element after the other", promise="it does not come back")
@pytest.mark.parametrize("order", ["1 12", "12 -1 1"], ids=["those that run first", "those that wait first"])
def test_all_is_deleted_one_by_one(user: User, order: str) -> None:
    """The accounting knows of none before the last is gone."""
    code = f"""
        C.update(workers=12)
        sheepdog.map_async(note, [(i, 3) for i in range(60)], C)
        until(lambda: len(head("cat", "ran").splitlines()) >= 8 and qstat().count(" r ") == 8)
        head(f"for i in $(seq {order}); do qdel {{job()}} -t $i; sleep 0.5; done")
        show([results(), errors(), job(), arrays()])
    """
    results, errors, job, arrays = run(user, code)
    assert arrays == 1
    assert len(errors) == results.count(None) > 0
    assert all(f"the array job {job} was deleted (qdel); `sheepdog.retry(" in error for error in errors), errors


@fault("hold", "the array job is on hold", promise="the user is told; released, it runs")
def test_a_hold(user: User) -> None:
    code = """
        C.update(ge_opts=["-h"])
        request_id = sheepdog.map_async(f, [(1, 2)], C)
        def note():
            with Storage(DB) as storage: return storage.progress(request_id).note
        until(note)
        said = note()
        head("qrls", job())
        show([said, results()])
    """
    said, results = run(user, code)
    assert "on hold" in said
    assert results == [3]


@fault("Eqw", "an array job in error, its cause mended", promise="retry runs what was not run")
def test_an_error_is_mended(user: User) -> None:
    code = """
        C.update(ge_opts=["-wd /home/sheep/absent"], workers=2)
        request_id = sheepdog.map_async(f, [(1, 2), (3, 4)], C)
        try: before = results()
        except sheepdog.NotRun as error: before = [str(error), errors()]
        head("mkdir", "absent")
        count = sheepdog.retry(request_id, DB)
        show([before, count, results(), errors()])
        head("rmdir", "absent")
    """
    [reason, errors], count, results, after = run(user, code)
    assert "Eqw" in reason
    assert all("absent" in error and "Eqw" in error for error in errors)
    assert (count, results, after) == (2, [3, 7], [])


@fault((37, "-r y"), "the scheduler starts a worker again (-r y)", promise="its old tasks are released at once")
def test_a_rescheduled_worker(user: User) -> None:
    code = """
        C.update(workers=1, lease=600)
        sheepdog.map_async(note, [(i, 5) for i in range(3)], C)
        until(lambda: " r " in qstat())
        time.sleep(1)
        head("qmod", "-rj", job())
        show([results(), errors(), attempts()])
    """
    results, errors, attempts = run(user, code)
    assert (results, errors) == ([0, 1, 4], [])
    assert len(ran_so_far(user)) <= 3 + len(attempts)


@fault(
    ("exit 99", "exit 100"),
    "a function ends with status 99",
    promise="an error of that task; the scheduler never sees 99",
)
def test_statuses_that_mean_something_to_the_scheduler(user: User) -> None:
    code = """
        def leave(status, hard):
            import os, sys
            (os._exit if hard else sys.exit)(status)
        C.update(workers=1)
        sheepdog.map_async(leave, [(99, True), (100, True), (99, False), (100, False)], C)
        show([results(), errors(), job()])
    """
    results, errors, job = run(user, code)
    assert results == [None] * 4
    assert [re.findall("exited with status [0-9]+|SystemExit: [0-9]+", error)[0] for error in errors] == [
        "exited with status 99",
        "exited with status 100",
        "SystemExit: 99",
        "SystemExit: 100",
    ]
    until(lambda: "exit_status" in user.sh("head", f"qacct -j {job}"), "accounting knows it", timeout=60)
    assert re.findall(r"exit_status +(\d+)", user.sh("head", f"qacct -j {job}")) == ["0"]


# --- cancel


@fault("cancel", "the user cancels a request", promise="its tasks end, its workers are taken away, results stay")
def test_cancel(user: User) -> None:
    count, results, errors = cancel_most(user)
    assert count == 25
    assert results == [i * i for i in range(5)] + [None] * 25
    assert all(error.startswith("cancelled") for error in errors)
    assert user.sh("head", "ls .sheepdog/*/secret.json") == ""


# --- politeness


@fault("polite", "ten requests at once", promise="one status query an interval for all of them")
def test_one_question_for_all(user: User) -> None:
    code = """
        C.update(workers=1, poll_interval=5)
        begin = time.monotonic()
        ids = [sheepdog.map_async(note, [(i, 20)], C) for i in range(10)]
        found = [results(request_id) for request_id in ids]
        show([found, time.monotonic() - begin])
    """
    found, seconds = run(user, code)
    assert found == [[i * i] for i in range(10)]
    queries = re.findall(r"status query \d+, for (\d+) requests", log_of(user))
    assert 1 <= len(queries) <= seconds / 5 + 1
    assert max(map(int, queries)) > 1
