"""The main road through Grid Engine's own DRMAA library, on the head node of the test cluster."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sheepdog.schedulers.archives import drmaa_archive
from tests.cluster import Cluster, HostFailed
from tests.faults import fault
from tests.on_cluster.programs import cancel_most, run
from tests.user import User
from tests.waiting import until

SGE_ROOT = {"SGE_ROOT": "/var/lib/gridengine"}  # Debian's commands find it themselves, its library does not
ENVIRONMENT = "export SGE_ROOT=/var/lib/gridengine\n"


GO = """
        def go(i):  # leaves a line, and waits for a word
            import os, time
            with open(os.path.expanduser("~/ran"), "a") as file: file.write(f"{i}\\n")
            end = time.time() + 100
            while time.time() < end and not os.path.exists(os.path.expanduser("~/go")): time.sleep(0.1)
            return i * i
        def begun(): return head("cat", "ran").split()
"""


class DRMAAUser(User):
    """Somebody who says that it is to be DRMAA."""

    def command(self, code: str) -> list[str]:
        *python, program = super().command(code)
        return [*python, program.replace("C = {", 'C = {"scheduler": "drmaa", ', 1)]

    def environment(self, text: str) -> None:
        """Write what the shell reads when its user logs in to head."""
        file = self.cluster.home_of("sheep") / ".bashrc"
        file.unlink(missing_ok=True)
        if text:
            file.write_text(text)
            file.chmod(0o644)


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> Iterator[DRMAAUser]:
    user = DRMAAUser(cluster, tmp_path)
    user.environment(ENVIRONMENT)
    yield user
    user.leave()
    user.environment("")


def test_the_main_job(user: DRMAAUser) -> None:
    code = """
        constant = 12
        def g(x): return x * 2
        def h(a, b): return a + g(b) + constant
        first = sheepdog.map(f, [(1, 1), (1, 2), (2, 2)], C)
        second = sheepdog.map(h, [(1, 2), (2, 3), (3, 4)], {**C, "ge_opts": ["-l h_rt=600"]}, {"g": g, "constant": 12})
        hosts = sheepdog.map(lambda: __import__("socket").gethostname(), [()] * 5, {**C, "ge_opts": ["-q *@node1"]})
        show([first, second, hosts])
    """
    assert run(user, code) == [[2, 3, 4], [17, 20, 23], ["node1"] * 5]
    assert "scheduler: drmaa (the configuration says so)" in user.said


def test_ten_thousand_tasks(user: DRMAAUser) -> None:
    """On eight slots they are one array job, both nodes work, and nothing is left in the queue."""
    code = """
        host = lambda i: (i, __import__("socket").gethostname())
        results = sheepdog.map(host, ((i,) for i in range(10000)), C)
        show([[i for i, _ in results] == list(range(10000)), sorted({name for _, name in results}), arrays()])
    """
    assert run(user, code) == [True, ["node1", "node2"], 1]
    until(lambda: not user.queue(), "the elements that are not needed are deleted", timeout=60)


def test_the_environment_and_the_resources_of_a_task(user: DRMAAUser) -> None:
    """The directory and the names are as without DRMAA; nothing that loading the library took is handed on."""
    code = """
        C.update(cpus=2, memory="1G", time="1h", gpus=2, name="lamb", workers=1)
        names = ("NSLOTS", "SGE_TASK_ID", "SHEEPDOG_REQUEST_ID", "JOB_NAME", "LD_PRELOAD", "SHEEPDOG_DRMAA")
        asked = lambda: subprocess.run(["qstat", "-j", os.environ["JOB_ID"]], capture_output=True, text=True).stdout
        look = lambda: [[*map(os.environ.get, names), os.getcwd()], asked(), os.listdir(os.environ["JOB_NAME"])]
        show(sheepdog.map(look, [()], {**C, "gpus": None}))
    """
    [[found, asked, files]] = run(user, code)
    name = found.pop(3)
    assert found == ["2", "1", "1", None, None, "/home/sheep/.sheepdog"]
    assert re.fullmatch("lamb_001_[0-9a-f]{8}", name)
    assert re.search(r"hard resource_list: +h_vmem=603979776,h_rt=3600$", asked, re.MULTILINE)
    assert f"{name}.o1" in files


def test_what_the_library_says(user: DRMAAUser) -> None:
    """Each question is a session of its own. A job that it does not know is gone; to cancel it is no error."""
    program = user.cluster.home_of("sheep") / "program"
    program.write_bytes(drmaa_archive() or b"")
    try:
        said = [
            user.cluster.on("head", ["python3", "-I", "program", *words], user="sheep", env=SGE_ROOT)
            for words in (["about"], ["states", "999.[1-2]"], ["cancel", "999.[1-2]"])
        ]
    finally:
        program.unlink()
    assert [done.stdout for done in said] == ["SGE 8.1.9\n", "SGE 8.1.9\n999.[1-2] 1 gone\n999.[1-2] 2 gone\n", ""]


@fault(40, "a submission by DRMAA whose answer was lost", promise="done again, it finds the job; there is one")
def test_a_submission_is_repeated(user: DRMAAUser) -> None:
    """DRMAA finds no job by its name: what was submitted is noted at once."""
    code = """
        sheepdog.map_async(f, [(1, 2)], {**C, "ge_opts": ["-h"]})
        print(head("sh", "-c", "'cd ~/.sheepdog/sheepdog_* && rm job_id && sh submit.sh'"), file=sys.stderr)
        show([job(), qstat().count(" hqw ")])
        sheepdog.cancel(1, DB)
    """
    job, count = run(user, code)
    assert f"sheepdog:job {job}\n" in user.said
    assert count == 1


# --- what is refused, or goes wrong over there


@fault(41, "a submission that DRMAA's library refuses", promise="an error with its words; nothing is left")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"queue": "nosuch.q"}, 'Job was rejected because job requests unknown queue "nosuch.q"(?s:.*)There are all.q'),
        ({"ge_opts": ["-l nosuch=1"]}, 'unknown resource "nosuch"(?s:.*)There are arch, '),
        ({"ge_opts": ["-nosuch"]}, 'invalid option argument "-nosuch"'),
    ],
)
def test_what_cannot_be_submitted(user: DRMAAUser, options: dict[str, object], words: str) -> None:
    with pytest.raises(
        HostFailed, match=f"(SchedulerError|UnknownResource): DRMAA library on head refused the job: .*{words}"
    ):
        run(user, f"sheepdog.map(f, [(1, 1)], {{**C, **{options!r}}})")
    assert not list(user.cluster.home_of("sheep").glob(".sheepdog/*"))
    assert user.queue() == ""


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ("", "SGE_ROOT.* belongs in the shell's start-up file there"),
        (
            ENVIRONMENT + "export DRMAA_LIBRARY_PATH=/no/libdrmaa.so\n",
            "there is no file /no/libdrmaa.so.* put `export DR",
        ),
        (ENVIRONMENT + "export DRMAA_LIBRARY_PATH=/etc/passwd\n", "/etc/passwd cannot be used: .*invalid ELF header"),
        (
            ENVIRONMENT + "export SGE_QMASTER_PORT=17\n",
            "SchedulerBusy: DRMAA's library on head does not reach its mast",
        ),
    ],
)
def test_a_head_node_without_what_it_takes(user: DRMAAUser, environment: str, words: str) -> None:
    """Nothing is submitted and nothing is left. What may be mended by waiting is waited for, a minute."""
    user.environment(environment)
    with pytest.raises(HostFailed, match=f"(?s){words}"):
        run(user, "from sheepdog.schedulers import submit; submit.PATIENCE = 1; sheepdog.map(f, [(1, 1)], C)")
    assert not list(user.cluster.home_of("sheep").glob(".sheepdog/*"))


@fault(39, "a job of DRMAA's that cannot start", promise="every task's error says how it ended, by the accounting")
def test_what_cannot_start(user: DRMAAUser) -> None:
    """Grid Engine keeps no such job in error (Eqw) if it came by DRMAA."""
    code = """
        C.update(ge_opts=["-wd /home/sheep/absent"], workers=2, resubmissions=0)
        try: sheepdog.map(f, [(1, 2), (3, 4)], C)
        except sheepdog.NotRun: show(errors())
    """
    errors = run(user, code)
    assert all("2 workers ended with exit status 0, failed 28" in error for error in errors), errors


@fault("cancel", "the user cancels a request, by DRMAA", promise="its tasks end, its workers are taken away")
def test_cancel(user: DRMAAUser) -> None:
    count, results, errors = cancel_most(user)
    assert count == 25
    assert results == [i * i for i in range(5)] + [None] * 25
    assert all(error.startswith("cancelled") for error in errors)
    until(lambda: user.sh("head", "ls .sheepdog/*/secret.json") == "", "no secret is left")


@fault("hold", "the array job is on hold, and DRMAA is asked", promise="the user is told; released, it runs")
def test_a_hold(user: DRMAAUser) -> None:
    code = """
        C.update(ge_opts=["-h"])
        request_id = sheepdog.map_async(f, [(1, 2)], C)
        def note():
            with Storage(DB) as storage: return storage.progress(request_id).note
        until(note)
        said = note()
        head("qrls", job().split(".")[0])
        show([said, results()])
    """
    said, results = run(user, code)
    assert "on hold" in said
    assert results == [3]


@fault(5, "a worker of DRMAA's job is killed with -9", promise="DRMAA says that it has ended; its task runs elsewhere")
def test_one_worker_is_lost(user: DRMAAUser) -> None:
    """Long before its lease ends."""
    code = """
        def kill(i):
            import os, signal, time
            if i == 0 and os.environ["SHEEPDOG_ATTEMPT"] == "1":
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(100)
            return i * i
        C.update(workers=3, lease=1000)
        show([sheepdog.map(kill, [(i,) for i in range(6)], C), errors(), attempts()])
    """
    results, errors, attempts = run(user, code)
    assert (results, errors) == ([i * i for i in range(6)], [])
    [[task, attempt, kind, why]] = attempts
    assert (task, attempt, kind) == (1, 1, "LOST")
    assert "the scheduler says that it has ended" in why


@fault("qdel all", "the whole array job of DRMAA's is deleted", promise="it does not come back, and that is said")
def test_all_is_deleted(user: DRMAAUser) -> None:
    code = (
        GO
        + """
        C.update(workers=3)
        sheepdog.map_async(go, [(i,) for i in range(3)], C)
        until(lambda: len(begun()) == 3)
        head("qdel", job().split(".")[0])
        show([results(), errors(), arrays()])
    """
    )
    results, errors, arrays = run(user, code)
    assert (results, arrays) == ([None] * 3, 1)
    assert all("was deleted; `sheepdog.retry(" in error for error in errors), errors


@fault(1, "the server is killed while DRMAA's job runs", promise="started again, it asks for the same job by its id")
def test_the_server_is_killed(user: DRMAAUser) -> None:
    """A session of DRMAA's ends with its process; the job does not."""
    code = (
        GO
        + """
        C.update(workers=2)
        sheepdog.map_async(go, [(i,) for i in range(4)], C)
        until(lambda: len(begun()) == 2)
        os.kill(int(open(DB + "-server.log").read().split("as process ")[-1].split()[0]), 9)
        sheepdog.Server(dbfile=DB).start()
        head("touch", "go")
        show([results(), arrays(), begun()])
    """
    )
    results, arrays, begun = run(user, code)
    assert (results, arrays) == ([0, 1, 4, 9], 1)
    assert sorted(begun) == ["0", "1", "2", "3"]
