"""The main road on a real Grid Engine, reached over a real SSH from a host outside of it."""

import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from sheepdog.schedulers.batch import WORKER_MEMORY
from tests.cluster import Cluster, HostFailed
from tests.faults import fault
from tests.on_cluster.programs import SETUP, main_job, own_modules, what_is_left
from tests.user import PREFACE, PYTHON, User
from tests.waiting import until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def other_cluster(cluster_possible: None) -> Iterator[Cluster]:
    """A site with the other kind of queue. Its hosts have Sheepdog, and a Python of another version if there is one."""
    prefixes = Path(sys.base_prefix).parent.glob("3.*")
    others = (path for path in prefixes if not path.name.startswith(f"3.{sys.version_info.minor}."))
    pythons = {f"python{path.name}": path for path in others}
    library = {"sheepdog": ROOT / "src", "site-packages": Path(sysconfig.get_path("purelib"))}
    with Cluster(shell_start_mode="posix_compliant", pythons={**library, **pythons}) as cluster:
        yield cluster


# --- the main job


def test_the_main_job(user: User) -> None:
    assert main_job(user, ge_opts=["-l h=node1", "-l h_rt=600,h_vmem=2G"]) == [[2, 3, 4], [17, 20, 23], ["node1"] * 5]


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="Debian's Python is 3.11")
def test_with_the_cluster_s_own_python(user: User) -> None:
    assert user.run("show(sheepdog.map(f, [(1, 1)], {'host': 'head'}))") == [2]
    assert "scheduler: gridengine (head has qsub)" in user.said


def test_ten_thousand_tasks(user: User) -> None:
    """On eight slots they are one array job, both nodes work, and nothing is left in the queue."""
    code = """
        host = lambda i: (i, __import__("socket").gethostname())
        results = sheepdog.map(host, ((i,) for i in range(10000)), C)
        show([[i for i, _ in results] == list(range(10000)), sorted({name for _, name in results})])
    """
    assert user.run(code) == [True, ["node1", "node2"]]
    until(lambda: not user.queue(), "the elements that are not needed are deleted")


def test_a_thousand_short_tasks_are_few_elements_and_long_ones_more(user: User) -> None:
    code = """
        def workers(request_id):
            with Storage(DB) as storage: return [array.workers for array in storage.arrays(request_id)]
        short = sheepdog.map(abs, ((i,) for i in range(1000)), C) == list(range(1000))
        request_id = sheepdog.map_async(time.sleep, [(600,)] * 1000, C)
        end = time.monotonic() + 90
        while sum(workers(request_id)) < 24 and time.monotonic() < end: time.sleep(0.2)
        show([short, workers(1), workers(request_id)])
    """
    short, few, more = user.run(code)
    assert short
    assert few == more[:1] == [16]
    assert sum(more) >= 24


@fault("own modules", "own modules are nowhere on the cluster", promise="they come with the request, once")
def test_own_modules(user: User) -> None:
    own_modules(user)


def test_environment_of_a_task(user: User) -> None:
    """The scheduler's variables stay, ours come on top; the working directory is ssh_dir."""
    code = """
        names = ("JOB_ID", "SGE_TASK_ID", "SHEEPDOG_REQUEST_ID", "SHEEPDOG_TASK_INDEX", "SHEEPDOG_ATTEMPT")
        files = lambda: [[name, os.listdir(name)] for name in os.listdir(".") if name.startswith("lamb_001_")][0]
        look = lambda: [*map(os.environ.get, names), os.getcwd(), *files()]
        show(sheepdog.map(look, [()], {**C, "name": "lamb"}))
    """
    [[job, *rest, name, files]] = user.run(code)
    assert job.isdigit()
    assert rest == ["1", "1", "1", "1", "/home/sheep/.sheepdog"]
    assert [file for file in files if job in file] == [f"{name}.o{job}.1"]


@fault(
    "files left",
    "requests on Grid Engine go well, fail, are removed, or are too old",
    promise="nothing stays but the archives, and for a while what tells of failures",
)
def test_what_is_left(user: User) -> None:
    kept = ["array_job", "job_id", "keep", "sheepdog_002.sh"]
    assert what_is_left(user) == [[], kept, [], [*kept[:3], "sheepdog_003.sh"]]


def test_lines_and_variables_are_set_up_on_the_node(user: User) -> None:
    assert user.run(SETUP) == [["on a node", "for a task", "2"], True, False]


@fault(
    (31, "memory"),
    "a task beyond the memory that the scheduler allows",
    promise="MemoryError is its error; the others have results",
)
@pytest.mark.parametrize("options", [{"memory": "300M"}, {"ge_opts": ["-l h_vmem=300M"]}])
def test_memory(user: User, options: dict[str, object]) -> None:
    code = f"show([sheepdog.map(lambda n: len(bytearray(n)), [(10,), (500 << 20,)], {{**C, **{options!r}}}), errors()])"
    results, [error] = user.run(code)
    assert results == [10, None]
    assert error.startswith("out of memory: its process had")
    assert "; MemoryError\n(task 2 of request 1, attempt 1, on node" in error


def test_resources(user: User) -> None:
    """The site says what they are called: slots of one host, a complex for GPUs, memory that counts for each slot."""
    code = """
        C.update(cpus=2, gpus=1, memory="1G", queue="all.q", time="1h", workers=1)
        def look():
            job = subprocess.run(["qstat", "-j", os.environ["JOB_ID"]], capture_output=True, text=True).stdout
            [name] = [name for name in os.listdir(".") if name != "archives"]
            file = open(f"{name}/sheepdog_001.sh").read().replace(name, "sheepdog_001_00000000")
            return [os.environ["NSLOTS"], os.environ["PE"], os.environ["QUEUE"], job, file]
        show([*sheepdog.map(look, [()], C), sheepdog.job_script(C, 1)])
    """
    [slots, environment, queue, job, submitted], script = user.run(code)
    assert (slots, environment, queue) == ("2", "smp", "all.q")
    assert "h_rt=3600" in job
    for line in ("-q all.q", "-pe smp 2", f"-l h_vmem={(2**30 + WORKER_MEMORY) // 2}", "-l gpu=1", "-l h_rt=3600"):
        assert f"#$ {line}\n" in script
    assert submitted == script


def test_memory_by_the_name_of_the_site(user: User) -> None:
    """The scheduler's own words show that the request was made by that name."""
    with pytest.raises(HostFailed, match='unknown resource "mem_here"'):
        user.run("sheepdog.map(f, [(1, 1)], {**C, 'memory': '1G', 'memory_resource': 'mem_here'})")


def test_results_as_they_come(user: User) -> None:
    """From a generator without an end: who has seen enough leaves, and so do the workers."""
    code = """
        results = sheepdog.imap(f, ((i, 1) for i in __import__("itertools").count()), {**C, "workers": 8})
        first = [next(results) for _ in range(5000)]
        results.close()
        show(first == list(range(1, 5001)))
    """
    assert user.run(code)
    until(lambda: not user.queue(), "the workers end", timeout=60)


def test_the_other_kind_of_queue(other_cluster: Cluster, tmp_path: Path) -> None:
    user = User(other_cluster, tmp_path)
    assert user.run("show(sheepdog.map(f, [(1, 1), (1, 2)], C)); sheepdog.Server(dbfile=DB).stop()") == [2, 3]


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        (None, "gridengine (qsub is on PATH and SGE_ROOT is set)"),
        ("drmaa", "drmaa (the configuration says so)"),
    ],
)
def test_on_the_head_node_itself(other_cluster: Cluster, scheduler: str | None, said: str) -> None:
    """Where qsub is at hand, no host need be given; so for DRMAA's library. Sheepdog is installed there for once."""
    code = PREFACE + f"C.update(host=None, localhost='head', scheduler={scheduler!r}, dbfile='/tmp/{scheduler}')\n"
    code += "show(sheepdog.map(f, [(1, 1), (1, 2)], C)); sheepdog.Server(dbfile=C['dbfile']).stop()"
    env = {"SGE_ROOT": "/var/lib/gridengine", "PYTHONPATH": "/opt/sheepdog:/opt/site-packages"}
    done = other_cluster.on("head", [PYTHON, "-c", code], user="sheep", env=env)
    assert done.stdout == "shown:[2, 3]\n"
    assert f"scheduler: {said}" in done.stderr


def test_scikit_learn_on_the_cluster(other_cluster: Cluster, tmp_path: Path) -> None:
    """A cross-validation gives the same numbers as here; the Python that `shell` names has scikit-learn."""
    user = User(other_cluster, tmp_path)
    code = f"""
        import joblib, sheepdog.joblib, socket
        from sklearn.datasets import load_diabetes
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.model_selection import cross_val_score
        C["shell"] = "/usr/bin/env PYTHONPATH=/opt/site-packages {PYTHON}"
        x, y = load_diabetes(return_X_y=True)
        forest = RandomForestRegressor(n_estimators=5, random_state=1)
        here = cross_val_score(forest, x, y, cv=8)
        with joblib.parallel_config("sheepdog", config=C, workers=4):
            there = cross_val_score(forest, x, y, cv=8)
            hosts = joblib.Parallel()(joblib.delayed(socket.gethostname)() for _ in range(4))
        show([(here == there).all().item(), len(there), sorted({{host[:4] for host in hosts}})])
        leave(DB)
    """
    assert user.run(code) == [True, 8, ["node"]]


@fault(49, "a worker of another Python version", promise="the tasks' error names both versions and the key to change")
def test_another_python(other_cluster: Cluster, tmp_path: Path) -> None:
    name = next((name for name in other_cluster.pythons if name.startswith("python3")), "")
    if not name:
        pytest.skip("there is no Python of another version on this machine")
    user = User(other_cluster, tmp_path)
    code = f"""
        C["shell"] = "/opt/{name}/bin/python3"
        try: sheepdog.map(f, [(1, 1), (1, 2)], C)
        except sheepdog.NotRun as error: show([str(error), errors()])
        sheepdog.Server(dbfile=DB).stop()
    """
    reason, texts = user.run(code)
    assert "`shell`" in reason
    for word in (
        name.removeprefix("python"),
        f"{sys.version_info.major}.{sys.version_info.minor}",
        "`shell`",
        f"/opt/{name}/bin/python3",
    ):
        assert all(word in text for text in texts)


def test_defaults_of_qsub(user: User) -> None:
    """With which qsub would not read the job file's options."""
    file = user.cluster.home_of("sheep") / ".sge_request"
    file.write_text("-b y\n")
    try:
        assert user.run("show(sheepdog.map(f, [(1, 1), (1, 2)], {**C, 'cpus': 2}))") == [2, 3]
    finally:
        file.unlink()


# --- what is refused, or goes wrong over there


@fault(
    41,
    "a submission that is refused, or a host that cannot be reached",
    promise="an error with the words of whoever refused; nothing is left",
)
@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"ge_opts": ["-l nosuch=1"]}, ["UnknownResource", "qsub on head refused", 'unknown resource "nosuch"']),
        ({"queue": "nosuch.q"}, ["UnknownResource", 'unknown queue "nosuch.q"', "There are all.q"]),
        ({"cpus": 2, "parallel_environment": "nosuch"}, ["UnknownResource", '"nosuch" does not exist', "There are "]),
        ({"ssh_user": "other", "host": "10.99.0.1"}, ["HostError", "10.99.0.1"]),
        ({"host": "nowhere.invalid"}, ["HostError", "nowhere.invalid", "resolve"]),
        ({"host": "node1"}, ["HostError", "node1", "refused"]),
        ({"ssh_port": 1, "host": "outside"}, ["HostError", "outside", "refused"]),
    ],
)
def test_what_cannot_be_submitted(user: User, config: dict[str, object], words: list[str]) -> None:
    """The error has the words of whoever refused; no request and no file is left."""
    with pytest.raises(HostFailed) as caught:
        user.run(f"sheepdog.map(f, [(1, 1)], {{**C, **{config!r}}})")
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert user.run("show(Storage(DB).db.execute('SELECT count(*) FROM request').fetchone()[0])") == 0
    assert not list(user.cluster.home_of("sheep").glob(".sheepdog/*"))
    assert user.queue() == ""


@fault(47, "a key that is refused", promise="an error with ssh's words")
def test_refused_login(user: User) -> None:
    """The key is sheep's, not other's."""
    config = user.cluster.home / ".ssh" / "config"
    before = config.read_text()
    config.write_text(before.replace("User sheep", "User other"))
    try:
        with pytest.raises(HostFailed, match=r"HostError: cannot log in to head: .*Permission denied"):
            user.run("sheepdog.map(f, [(1, 1)], {**C, 'ssh_dir': '.sheepdog2'})")
    finally:
        config.write_text(before)


@fault(41, "a host without qsub", promise="an error that says so; nothing is left")
def test_no_qsub(user: User) -> None:
    home = user.cluster.home_of("sheep")
    tools = "sh tar mkdir chmod cat mv rm rmdir sed head tail sleep id ls grep"
    user.sh("head", f"mkdir -p ~/few; for tool in {tools}; do ln -sf $(command -v $tool) ~/few/; done")
    (home / ".bashrc").write_text("PATH=$HOME/few\n")
    try:
        with pytest.raises(HostFailed, match="SchedulerNotFound: there is no qsub on head, and no sbatch"):
            user.run("sheepdog.map(f, [(1, 1)], C)")
    finally:
        (home / ".bashrc").unlink()
    assert not list(home.glob(".sheepdog/*"))


@fault(
    (38, "Eqw"),
    "workers without a Python, a directory or a place for their output",
    promise="every task's error says why; the job is deleted",
)
@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"shell": "/nonexistent/python"}, ["has ended before its tasks", "there is no /nonexistent/python"]),
        ({"shell": "/usr/bin/env nopython"}, ["has ended before its tasks", "nopython", "No such file"]),
        ({"ge_opts": ["-wd /nonexistent"]}, ["(Eqw)", "can't chdir to /nonexistent"]),
        ({"ge_opts": ["-o /nonexistent/"]}, ["(Eqw)", "/nonexistent"]),
    ],
)
def test_workers_that_cannot_start(user: User, config: dict[str, object], words: list[str]) -> None:
    """Every task ends, and its error says why; the job is taken away."""
    code = f"""
        try: sheepdog.map(f, [(1, 1), (2, 2)], {{**C, **{config!r}}})
        except sheepdog.NotRun as error: show([str(error), errors()])
    """
    reason, texts = user.run(code)
    assert [word for word in words if word not in reason] == [], reason
    for text in texts:
        assert text.startswith("not run: the array job ")
        assert all(word in text for word in words)
    until(lambda: not user.queue(), "the job is gone")


@fault(40, "the answer to a submission is lost", promise="one array job, found by its file or its name")
def test_submitted_once_however_often_it_is_tried(user: User) -> None:
    """When the answer was lost, the job is found by the file with its number, or by its unique name."""
    code = """
        from sheepdog.deployment import SSHHost
        from sheepdog.job_file import Job
        from sheepdog.schedulers.gridengine import GridEngineScheduler
        scheduler, host = GridEngineScheduler(), SSHHost("head")
        from sheepdog.config import Config
        job = Job(1, "lamb_001_abcd", ".sheepdog/lamb_001_abcd", "/bin/true", 3)
        files = scheduler.files(job, Config(ge_opts=["-h"]))
        ids = [scheduler.submit(host, job, files)]
        ids.append(scheduler.submit(host, job, files))
        host.run(["rm", ".sheepdog/lamb_001_abcd/job_id"])
        ids.append(scheduler.submit(host, job, files))
        show(ids)
    """
    first, *more = user.run(code)
    assert first[1] == "/home/sheep/.sheepdog/lamb_001_abcd"
    assert more == [first, first]
    assert len(user.sh("head", "qstat -u sheep | grep hqw").splitlines()) == 1


# --- kill -9

MANY = """
args = [(i, 0.005, "/home/sheep/tasks-run") for i in range(5000)]
request_id = sheepdog.map_async(nap, args, {**C, "lease": 4})
"""


@pytest.fixture
def many(user: User) -> Iterator[User]:
    """5,000 tasks, of which some hundreds have ended; each leaves a line in a file when it is run."""
    ran = user.cluster.home_of("sheep") / "tasks-run"
    user.run(MANY)
    until(lambda: ran.exists() and len(ran.read_text().split()) > 500, "500 tasks have run")
    yield user
    ran.unlink()


def check_many(user: User, extra: int) -> None:
    code = "show([[result for _, result in sheepdog.get_results(1, DB)] == [i * i for i in range(5000)], errors()])"
    assert user.run(code) == [True, []]
    runs = (user.cluster.home_of("sheep") / "tasks-run").read_text().split()
    assert set(runs) == {str(i) for i in range(5000)}
    assert len(runs) <= 5000 + extra


@fault(1, "the server is killed with -9, twice", promise="each task has one outcome, the right one, and ran once")
def test_kill_the_server(many: User) -> None:
    for _ in range(2):
        many.run("os.kill(sheepdog.Server(dbfile=DB).pid, 9); time.sleep(0.5); sheepdog.Server(dbfile=DB).start()")
    check_many(many, extra=0)


@fault("client killed", "the client is killed with -9", promise="the request goes on; anybody can fetch the results")
def test_kill_the_client(user: User) -> None:
    ran = user.cluster.home_of("sheep") / "tasks-run"
    client = user.start(MANY + "\nsheepdog.get_results(request_id, DB)")
    until(lambda: ran.exists() and len(ran.read_text().split()) > 500, "500 tasks have run")
    client.kill()
    client.wait()
    check_many(user, extra=0)
    ran.unlink()


@fault(5, "a worker is killed with -9", promise="others run its tasks; each has one outcome, the right one")
def test_kill_a_worker(many: User) -> None:
    """Its tasks go to the others."""
    many.sh("node1", "kill -9 $(pgrep -o -u sheep -f client.pyz)")
    check_many(many, extra=1000)


# --- a stranger on the cluster


@fault(51, "another user who reads files, process lists and qstat", promise="no token and no certificate is found")
def test_a_stranger_finds_nothing(user: User) -> None:
    """As another user: files, the spooled job script, qstat -j, process lists and environments."""
    user.run("sheepdog.map_async(nap, [(i, 60, '/dev/null') for i in range(8)], C)")
    until(lambda: len(user.sh("head", "qstat -u sheep -s r | grep ' r '").splitlines()) == 8, "eight workers run")
    content = json.loads(next((user.cluster.home_of("sheep") / ".sheepdog").glob("*/secret.json")).read_text())
    needles = [content["token"], content["certificate"].splitlines()[3]]

    find = "find /home/sheep/.sheepdog/ -readable 2>/dev/null; ls -d /home/sheep/.sheepdog/* 2>/dev/null"
    assert user.sh("head", find, "other") == ""
    for host in ("head", "node1", "node2"):
        look = (
            "{ cd /var/spool/gridengine/execd; cat */job_scripts/* */active_jobs/*/*; "
            "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; ps -ef e; qstat -j '*'; qstat -xml -j '*'; "
            "find /tmp /var/spool/gridengine /home /run -readable -type f -exec cat {} +; } 2>/dev/null "
            "| tr -cd '[:print:]'"
        )
        seen = user.sh(host, look, "other")
        assert ("client.pyz" if host != "head" else "sshd") in seen  # it did look
        assert not [needle for needle in needles if needle in seen]
    script = user.sh("node1", "cat /var/spool/gridengine/execd/*/job_scripts/*", "other")
    assert "#$ -t 1-8" in script  # Grid Engine shows it to everybody


@fault(21, "calls without the token, or with another request's", promise="401 or 403; the right one goes on")
def test_a_stranger_is_refused(user: User) -> None:
    """Calls without the token, with another request's, or with one of the wrong length."""
    nap = "sheepdog.map_async(nap, [(i, 60, '/dev/null') for i in range(2)], C)"
    user.run(f"{nap}; {nap}")
    with_tokens = "show([[Storage(DB).get_request(i).token, *Storage(DB).arrays(i)[0].urls] for i in (1, 2)])"
    [token, url], [other_token, _] = user.run(with_tokens)
    host, port = url.removeprefix("https://").split(":")
    code = """
import http.client, json, ssl, struct, sys
host, port, *tokens = sys.argv[1:]
def call(path, headers):
    line = http.client.HTTPSConnection(host, int(port), timeout=20, context=ssl._create_unverified_context())
    text = json.dumps({"worker": "x", "call": 1, "want": 1, "holding": [], "outcomes": [], "blobs": []}).encode()
    headers["Content-Type"] = "application/x-sheepdog"
    line.request("POST", path, struct.pack("!I", len(text)) + text, headers)
    return line.getresponse().status
found = [call("/requests/1/exchange", {"Authorization": "Bearer " + token}) for token in tokens]
found.append(call("/requests/1/exchange", {}))
found.append(call("/requests/99/join", {"Authorization": "Bearer " + tokens[0]}))
found.append(call("/requests/1/exchange", {"Authorization": "Bearer " + tokens[-1], "Origin": "http://example.com"}))
print(found)
"""
    tokens = [other_token, "", token[:-1], token + "0", token.upper() + "x", token]
    command = [PYTHON, "-c", code, host, port, *tokens]
    statuses = json.loads(user.cluster.on("node2", command, user="other").stdout)
    assert statuses == [401] * 5 + [200] + [401, 401, 403]


def test_nothing_but_a_bare_python_is_needed_there(user: User) -> None:
    """No site-packages, no environment, no user's files on the path."""
    code = f"""
        bare = lambda: ["site" in sys.modules, "cloudpickle" in sys.modules, *sys.flags[7:9]]
        show(sheepdog.map(bare, [()], {{**C, "shell": "{PYTHON} -I -S"}}))
    """
    [[site, cloudpickle, *flags]] = user.run(code)
    assert (site, cloudpickle) == (False, True)
    assert 1 in flags
