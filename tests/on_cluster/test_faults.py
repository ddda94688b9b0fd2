"""What goes wrong on a cluster, made to go wrong on a real Grid Engine."""

import re
import textwrap
import time
from collections.abc import Iterator

import pytest

from tests.cluster import Cluster
from tests.faults import fault
from tests.on_cluster.programs import log_of, ran_so_far, run, shown, start
from tests.user import User
from tests.waiting import until


@pytest.fixture(autouse=True)
def ran(cluster: Cluster) -> Iterator[list[list[str]]]:
    """What has run: the lines that the tasks leave. Filled by ran_so_far."""
    yield []
    (cluster.home_of("sheep") / "ran").unlink(missing_ok=True)


# --- the end of a worker's time


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


# --- what people and the scheduler do to the array job


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


@fault("qdel all", "qdel of the whole array job", promise="submitted again, a few times, and the user hears of it")
def test_all_is_deleted(user: User) -> None:
    code = """
        C.update(workers=3)
        def go(i):
            import os, time
            end = time.time() + 100
            while time.time() < end and not os.path.exists(os.path.expanduser("~/go")): time.sleep(0.1)
            return i
        request_id = sheepdog.map_async(go, [(i,) for i in range(3)], C)
        until(lambda: qstat().count(" r ") == 3)
        head("qdel", job())
        until(lambda: arrays() == 2)
        with Storage(DB) as storage: note = storage.progress(request_id).note
        head("touch", "go")
        show([results(), errors(), note])
        head("rm", "go")
    """
    results, errors, note = run(user, code)
    assert (results, errors) == ([0, 1, 2], [])
    assert "submitted again (1 of 3 times in a row)" in note


@fault("qdel all", "qdel of the whole array job, resubmissions off", promise="the tasks end, and say why")
def test_all_is_deleted_and_that_is_the_end(user: User) -> None:
    code = """
        C.update(workers=3, resubmissions=0)
        sheepdog.map_async(note, [(i, 300) for i in range(3)], C)
        until(lambda: qstat().count(" r ") == 3)
        head("qdel", job())
        show([results(), errors()])
    """
    results, errors = run(user, code)
    assert results == [None] * 3
    assert all("not run: its workers have ended" in error for error in errors)


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
        before = [results(), errors()]
        head("mkdir", "absent")
        count = sheepdog.retry(request_id, DB)
        show([before, count, results(), errors()])
        head("rmdir", "absent")
    """
    [before, errors], count, results, after = run(user, code)
    assert before == [None, None]
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


# --- limits of the site


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


@fault(44, "workers that no host can ever run", promise="the scheduler is asked why, and its reason is kept")
def test_pending_for_ever(user: User) -> None:
    """Who waits reads it as a note, a minute after the submission at the earliest."""
    code = """
        C.update(workers=2, ge_opts=["-l arch=nosuch"])
        request_id = sheepdog.map_async(f, [(1, 2), (3, 4)], C)
        until(lambda: "workers wait: " in open(DB + "-server.log").read())
        sheepdog.cancel(request_id, DB)
        until(lambda: not qstat())
        show(errors())
    """
    assert [error.split("\n")[0] for error in run(user, code)] == ["cancelled by its user"] * 2
    assert '(-l arch=nosuch) cannot run at host "node' in log_of(user)


@fault(
    "late accounting", "the array job is gone, and the accounting does not know", promise="the tasks end all the same"
)
def test_the_accounting_is_late(user: User, site: dict[str, str]) -> None:
    site["reporting_params"] = "accounting=true reporting=false flush_time=00:05:00 joblog=false sharelog=00:00:00"
    code = """
        C.update(workers=2, resubmissions=0)
        sheepdog.map_async(note, [(i, 8) for i in range(10)], C)
        until(lambda: qstat().count(" r ") == 2)
        head("qdel", job())
        found = results(), errors()
        show([*found, subprocess.run(["ssh", "head", "qacct", "-j", job()], capture_output=True).returncode])
    """
    results, errors, known = run(user, code)
    assert known == 1
    assert None in results
    assert len(errors) == results.count(None)
    assert all(error.startswith("not run: its workers have ended") for error in errors), errors


# --- parts of the cluster that fail


@fault(
    (7, "node down"),
    "a node loses its power",
    promise="its tasks run on another one, though the scheduler lists it as running",
)
def test_a_node_is_lost(user: User) -> None:
    code = """
        C.update(workers=8, lease=8)
        sheepdog.map_async(note, [(i, 4) for i in range(40)], C)
        show([results(), errors(), attempts()])
    """
    client = start(user, code)
    until(lambda: {node for _, _, node in ran_so_far(user)} == {"node1", "node2"}, "both nodes work", timeout=60)
    user.cluster.kill("node2")
    try:
        found = shown(client)
    finally:
        user.cluster.boot("node2")
    results, errors, attempts = found
    assert (results, errors) == ([i * i for i in range(40)], [])
    assert {kind for _, _, kind, _ in attempts} == {"LOST"}
    assert len(ran_so_far(user)) <= 40 + len(attempts)


@fault(8, "only the scheduler's daemon on a node dies", promise="nothing is noticed; the results come")
def test_a_node_s_daemon_is_killed(user: User) -> None:
    code = """
        C.update(workers=8)
        sheepdog.map_async(note, [(i, 1) for i in range(40)], C)
        show([results(), errors(), attempts(), arrays()])
    """
    client = start(user, code)
    until(lambda: len(ran_so_far(user)) >= 8, "tasks run", timeout=60)
    user.sh("node2", "kill -9 $(pidof sge_execd)", user="root")
    try:
        found = shown(client)
    finally:
        user.cluster.kill("node2")
        user.cluster.boot("node2")
    results, errors, attempts, _ = found
    assert (results, errors, attempts) == ([i * i for i in range(40)], [], [])


@fault(
    (42, "qmaster down"),
    "the master is down for a while",
    promise="running work is not affected; then all is as before",
)
def test_the_master_is_down(user: User) -> None:
    code = """
        C.update(workers=4)
        sheepdog.map_async(note, [(i, 1) for i in range(40)], C)
        show([results(), errors(), attempts(), arrays()])
    """
    client = start(user, code)
    until(lambda: len(ran_so_far(user)) >= 4, "tasks run", timeout=60)
    user.sh("head", "kill -9 $(pidof sge_qmaster)", user="root")
    try:
        found = shown(client)
    finally:
        user.sh("head", ". /etc/default/gridengine 2>/dev/null; sge_qmaster", user="root")
    assert found == [[i * i for i in range(40)], [], [], 1]
    assert "unable to send message to qmaster" in log_of(user) or "got select error" in log_of(user)


@fault(10, "a link is cut for longer than the lease", promise="the first outcome stays; the other twin is told to stop")
def test_a_link_is_cut_for_long(user: User) -> None:
    code = """
        C.update(workers=8, lease=5)
        sheepdog.map_async(note, [(i, 6) for i in range(8)], C)
        show([results(), errors(), attempts()])
    """
    client = start(user, code)
    until(lambda: len(ran_so_far(user)) >= 8, "all run", timeout=60)
    user.cluster.cut("node2")
    until(lambda: "is lost" in log_of(user), "its workers are lost")
    user.cluster.mend("node2")
    found = shown(client)
    results, errors, attempts = found
    assert (results, errors) == ([i * i for i in range(8)], [])
    assert attempts
    assert len(ran_so_far(user)) <= 8 + len(attempts)


@fault(
    ("port taken", 19), "the server's port is taken when it starts again", promise="its workers are told the new one"
)
def test_the_port_is_taken(user: User) -> None:
    code = """
        import socket
        C.update(workers=2, lease=8)
        sheepdog.map_async(note, [(i, 1) for i in range(30)], C)
        until(lambda: qstat().count(" r ") == 2)
        server = sheepdog.Server(dbfile=DB)
        before = server.port
        os.kill(server.pid, 9)
        while True:
            try: squatter = socket.create_server(("", before)); break
            except OSError: time.sleep(0.01)
        server.start()
        show([results(), errors(), server.port != before])
    """
    results, errors, moved = run(user, code)
    assert (results, errors, moved) == ([i * i for i in range(30)], [], True)


# --- the submitting host is away


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


# --- cancel


@fault("cancel", "the user cancels a request", promise="its tasks end, its workers are taken away, results stay")
def test_cancel(user: User) -> None:
    code = """
        C.update(workers=20)
        request_id = sheepdog.map_async(note, [(i, 0 if i < 5 else 300) for i in range(30)], C)
        def done():
            with Storage(DB) as storage: return storage.progress(request_id).done
        until(lambda: done() == 5)
        count = sheepdog.cancel(request_id, DB)
        until(lambda: not qstat())
        show([count, results(), errors()])
    """
    count, results, errors = run(user, code)
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


# --- tasks that leave checkpoints

SIMULATE = """
    def simulate(steps, controller):  # its first attempt stops at the middle
        import time
        begun = controller.restored(0)
        for step in range(begun, steps):
            controller.checkpoint(step + 1)
            controller.report([controller.attempt, controller.host, step])
            while controller.attempt == 1 and step == steps // 2: time.sleep(0.1)
        return begun, controller.attempt, controller.host
    def reports(): return [value for _, value in sheepdog.get_reports(1, DB)]
"""


@fault(
    (7, "node down"),
    "a node loses its power under a task that leaves checkpoints",
    promise="it goes on from the last one",
)
def test_a_node_is_lost_under_a_simulation(user: User) -> None:
    code = """
        C.update(workers=2, lease=8)
        sheepdog.map_async(simulate, [(100,)], C)
        until(lambda: [step for _, _, step in reports()][-1:] == [50])
        print("host:" + reports()[-1][1], flush=True)
        show([results(), errors(), attempts(), reports()])
    """
    client = start(user, textwrap.dedent(SIMULATE) + textwrap.dedent(code))
    assert client.stdout is not None
    node = client.stdout.readline().strip().removeprefix("host:")
    user.cluster.kill(node)
    try:
        found = shown(client)
    finally:
        user.cluster.boot(node)
    results, errors, attempts, reports = found
    other = {"node1": "node2", "node2": "node1"}[node]
    assert (results, errors) == ([[51, 2, other]], [])
    assert [kind for _, _, kind, _ in attempts] == ["LOST"]
    assert reports == [*([1, node, step] for step in range(51)), *([2, other, step] for step in range(51, 100))]


@fault((36, "qdel one"), "qdel of the element whose task leaves checkpoints", promise="it goes on from the last one")
def test_the_element_of_a_simulation_is_deleted(user: User) -> None:
    code = """
        C.update(workers=1)
        sheepdog.map_async(simulate, [(100,)], C)
        until(lambda: [step for _, _, step in reports()][-1:] == [50])
        head("qdel", job(), "-t", "1")
        show([results(), errors(), [step for _, _, step in reports()]])
    """
    results, errors, steps = run(user, textwrap.dedent(SIMULATE) + textwrap.dedent(code), 240)
    [[begun, attempt, _]] = results
    assert (begun, attempt, errors) == (51, 2, [])
    assert steps == list(range(100))
