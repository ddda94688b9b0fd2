"""What a site limits, on a real Grid Engine."""

import re
from collections.abc import Iterator

import pytest

from tests.faults import fault
from tests.on_cluster.programs import run
from tests.user import User


@pytest.fixture
def site(user: User) -> Iterator[dict[str, str]]:
    """Change the cluster's configuration, by `site[name] = value`; it is changed back."""
    before = user.sh("head", "qconf -sconf; qconf -ssconf", user="root")

    class Site(dict[str, str]):
        def __setitem__(self, name: str, value: str) -> None:
            script = (
                f"qconf -sconf global | sed 's/^{name} .*/{name} {value}/' >/tmp/conf/global && qconf -Mconf global"
            )
            user.sh("head", f"mkdir -p /tmp/conf && cd /tmp/conf && {script.replace('/tmp/conf/', '')}", user="root")
            super().__setitem__(name, value)

    site = Site()
    yield site
    for name in list(site):
        site[name] = re.findall(rf"^{name} +(.+)", before, re.MULTILINE)[0].strip()


@fault((43, "max_aj_tasks"), "an array larger than the site allows", promise="a smaller one does all the tasks")
def test_max_aj_tasks(user: User, site: dict[str, str]) -> None:
    site["max_aj_tasks"] = "2"
    code = """
        C.update(workers=5)
        request_id = sheepdog.map_async(note, [(i, 0) for i in range(20)], C)
        with Storage(DB) as storage: workers = storage.arrays(request_id)[0].workers
        show([results(), errors(), workers])
    """
    assert run(user, code) == [[i * i for i in range(20)], [], 2]


@fault("max_aj_instances", "few elements may run at once", promise="these do all the tasks")
def test_max_aj_instances(user: User, site: dict[str, str]) -> None:
    site["max_aj_instances"] = "1"
    code = """
        C.update(workers=5)
        sheepdog.map_async(note, [(i, 0.1) for i in range(20)], C)
        show([results(), errors()])
    """
    assert run(user, code) == [[i * i for i in range(20)], []]


@fault(("max_u_jobs", 41), "the user has too many jobs", promise="the submission is tried again until there is room")
def test_max_u_jobs(user: User, site: dict[str, str]) -> None:
    site["max_u_jobs"] = "1"
    code = """
        C.update(workers=1)
        first = sheepdog.map_async(note, [(3, 8)], C)
        second = sheepdog.map_async(f, [(1, 2)], C)
        show([results(first), results(second)])
    """
    assert run(user, code) == [[9], [3]]
    assert "only 1 jobs are allowed per user" in user.said


@fault(44, "workers that no host can ever run, on a full cluster", promise="the user hears the reason at once")
def test_pending_for_ever(user: User) -> None:
    """Who waits reads it as a note, in the first minute."""
    code = """
        C.update(workers=2, ge_opts=["-l arch=nosuch"])
        head("qsub", "-b", "y", "-t", "1-20", "-o", "/dev/null", "-j", "y", "sleep", "60")  # the cluster is full
        until(lambda: qstat().count(" r ") == 8)
        request_id = sheepdog.map_async(f, [(1, 2), (3, 4)], C)
        def note():
            with Storage(DB) as storage: return storage.progress(request_id).note
        until(note, 50)
        said = note()
        sheepdog.cancel(request_id, DB)
        head("qdel", "sleep")
        until(lambda: not qstat())
        show([said, errors()])
    """
    said, errors = run(user, code)
    assert [error.split("\n")[0] for error in errors] == ["cancelled by its user"] * 2
    assert 'no host fits: (-l arch=nosuch) cannot run at host "node' in said


@fault(
    ("late accounting", "qdel all"),
    "the array job is deleted, and the accounting does not know",
    promise="the tasks end all the same, and it does not come back",
)
def test_the_accounting_is_late(user: User, site: dict[str, str]) -> None:
    site["reporting_params"] = "accounting=true reporting=false flush_time=00:05:00 joblog=false sharelog=00:00:00"
    code = """
        C.update(workers=2)
        sheepdog.map_async(note, [(i, 8) for i in range(10)], C)
        until(lambda: qstat().count(" r ") == 2)
        head("qdel", job())
        found = results(), errors()
        show([*found, arrays(), subprocess.run(["ssh", "head", "qacct", "-j", job()], capture_output=True).returncode])
    """
    results, errors, arrays, known = run(user, code)
    assert (arrays, known) == (1, 1)
    assert None in results
    assert len(errors) == results.count(None)
    assert all("was deleted (qdel); `sheepdog.retry(" in error for error in errors), errors


@fault(
    (35, "late accounting"),
    "a queue's limit of time ends all workers, and the accounting does not know",
    promise="that is no deletion: others are submitted",
)
def test_a_limit_of_time_without_accounting(user: User, site: dict[str, str]) -> None:
    site["reporting_params"] = "accounting=true reporting=false flush_time=00:05:00 joblog=false sharelog=00:00:00"
    user.sh("head", "qconf -mattr queue h_rt 00:00:10 all.q", user="root")
    code = """
        C.update(workers=2)
        sheepdog.map_async(note, [(i, 4) for i in range(8)], C)
        show([results(), errors(), arrays()])
    """
    try:
        results, errors, arrays = run(user, code)
    finally:
        user.sh("head", "qconf -mattr queue h_rt INFINITY all.q", user="root")
    assert (results, errors) == ([i * i for i in range(8)], [])
    assert arrays > 1
