"""What surrounds a task, and what a function leaves behind."""

import itertools
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.children import Start, alive, arguments, outcomes
from tests.client.shepherd import Shepherd
from tests.faults import fault


def test_what_surrounds_a_task(start: Start) -> None:
    child = start()
    child.give([(7, 3, arguments("environment")), (8, 1, arguments("environment")), (9, 1, arguments("stdin"))])
    (_, _, first), (_, _, second), (_, _, third) = outcomes(child, 3)
    assert pickle.loads(first) == {
        "SHEEPDOG_REQUEST_ID": "12",
        "SHEEPDOG_TASK_INDEX": "7",
        "SHEEPDOG_ATTEMPT": "3",
    }
    assert pickle.loads(second).items() >= {"SHEEPDOG_TASK_INDEX": "8", "SHEEPDOG_ATTEMPT": "1"}.items()
    assert pickle.loads(third) == b""


def test_variables_that_change_often_keep_no_memory() -> None:
    """And programs that a task starts see them, also when the task before has changed them."""
    code = """
import os, subprocess
from sheepdog.client.child.surroundings import Variables
variables = Variables()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
for change in (lambda: None, lambda: os.environ.update(INDEX="x"), lambda: os.environ.pop("INDEX")):
    change()
    variables.put(b"INDEX", b"4294967295")
    variables.put(b"INDEX", b"12")
    assert subprocess.check_output("echo $INDEX", shell=True) == b"12\\n"
before = resident()
for number in range(300000):
    variables.put(b"INDEX", b"%d" % number)
print(resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1 << 20


def test_what_a_task_says_of_its_index_is_not_the_next_ones(shepherd: Shepherd) -> None:
    """Also if what it sets is what was there."""
    same = "import os; os.environ['SHEEPDOG_TASK_INDEX'] = os.environ['SHEEPDOG_TASK_INDEX']"
    gone = "import os; del os.environ['SHEEPDOG_TASK_INDEX']"
    look = "import subprocess; result = subprocess.check_output('echo $SHEEPDOG_TASK_INDEX', shell=True)"
    assert shepherd.run((same,), (look,), (gone,), (look,)) == [None, b"2\n", None, b"4\n"]


PROBE = """
import os, signal, sys, threading, time
result = [os.getcwd(), os.umask(0o22), os.nice(0), signal.getitimer(0), signal.getsignal(10), threading.active_count()]
result += [{k: v for k, v in os.environ.items() if k != "SHEEPDOG_TASK_INDEX"}, sys.stdout is sys.__stdout__]
result += [os.readlink("/proc/self/fd/1"), os.readlink("/proc/self/fd/2")]
result += [open("/proc/self/task/%d/children" % os.getpid()).read()]
result += [sys.path, len(sys.meta_path), len(sys.path_hooks), sys.getrecursionlimit()]
import tabnanny
print("probe")
"""
START = "import subprocess; pid = subprocess.Popen(['sleep', '60']).pid; open(args[0], 'w').write(str(pid))"
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(args[0] + ".new", "w").write(str(os.getpid()))
        os.rename(args[0] + ".new", args[0])
        time.sleep(60)
    os._exit(0)
os.wait()
while not os.path.exists(args[0]): time.sleep(0.005)
"""
MESSES = {
    "directory": "import os; os.chdir('/')",
    "umask": "import os; os.umask(0o77)",
    "niceness": "import os; os.nice(3)",
    "alarm": "import signal; signal.setitimer(signal.ITIMER_REAL, 0.2)",
    "handler": "import signal; signal.signal(10, lambda *_: None)",
    "thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
    "process": START,
    "daemon": DAEMON,
    "both sides of a fork": "import os; os.fork(); result = None",
    "variables": "import os; os.environ['NEW'] = os.environ['PATH'] = 'x'; del os.environ['SHEEPDOG_REQUEST_ID']",
    "sys.path": "import sys; sys.path = ['/nowhere']",
    "content of sys.path": "import sys; del sys.path[:]; sys.meta_path.clear()",
    "additions to sys.path": "import sys; sys.path.insert(0, '/nowhere'); sys.path_hooks.append(len)",
    "no sys.path": "import sys; del sys.path, sys.meta_path, sys.path_hooks",
    "no modules": "import sys; sys.modules.clear()",
    "other modules": "import sys; sys.modules = {}",
    "fewer modules": "import sys; del sys.modules['sys'], sys.modules['os'], sys.modules['pickle']",
    "no environment": "import os; del os.environ",
    "recursion limit": "import sys; sys.setrecursionlimit(77)",
    "environment": "import os; os.environ = {}",
    "streams": "import io, sys; sys.stdout = sys.stderr = io.StringIO()",
    "descriptor of a stream": "import os; os.dup2(os.open(args[0], os.O_RDWR | os.O_CREAT), 1); print('mine')",
    "all files closed": "import os; os.closerange(0, 1024)",
}
CLEAN = "the next task finds a clean process"
SHOWN = {
    "directory": fault((34, "chdir"), "a task changes its directory", promise=CLEAN),
    "umask": fault(34, "a task changes its umask, niceness or environment", promise=CLEAN),
    "sys.path": fault((34, "chdir"), "a task replaces sys.path, its finders or os.environ", promise=CLEAN),
    "no sys.path": fault((34, "chdir"), "a task deletes sys.path, os.environ or modules", promise=CLEAN),
    "handler": fault((34, "signal handlers"), "a task installs a signal handler or an alarm", promise=CLEAN),
    "thread": fault("threads", "a task leaves a thread that goes on", promise=CLEAN),
    "process": fault((30, "processes left"), "a task leaves programs or a daemon running", promise=f"ended; {CLEAN}"),
    "both sides of a fork": fault((30, "fork"), "a task forks and returns twice", promise=f"one outcome; {CLEAN}"),
    "all files closed": fault((34, "stdout closed"), "a task closes all its files, or replaces stdout", promise=CLEAN),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "mess", [pytest.param(mess, id=name, marks=SHOWN.get(name, ())) for name, mess in MESSES.items()]
)
def test_the_next_task_finds_a_clean_process(shepherd: Shepherd, tmp_path: Path, mess: str) -> None:
    file = tmp_path / "file"
    server = shepherd.serve((PROBE,), (mess, str(file)), ("import time; time.sleep(0.4)",), (PROBE,))
    server.settings["heartbeat"] = 20.0
    assert shepherd.work(server).wait(60) == 0
    before, nothing, _, after = server.results()
    assert nothing is None
    names = [name.rpartition("#")[0] for name in before[8:10]]  # of the files that capture the output
    assert [name.rpartition("#")[0] for name in after[8:10]] == names
    assert after[:8] + after[10:] == before[:8] + before[10:]
    assert server.outcomes[4].output == b"probe\n"
    if mess in (START, DAEMON):
        assert not alive(int(file.read_text()))
    if "dup2" in mess:
        assert file.read_text() == "mine\n"
    assert "Traceback" not in shepherd.log()


def test_modules_and_their_variables_stay(shepherd: Shepherd, tmp_path: Path) -> None:
    """What an import sets in the environment is left, or each task that imports would need a fresh process."""
    (tmp_path / "sets_a_variable.py").write_text("import os\nos.environ['SET'] = '1'\n")
    source = (
        "import os, sys; sys.path.insert(0, args[0]); import sets_a_variable\nresult = os.getpid(), os.environ['SET']"
    )
    first, second, third = shepherd.run(*[(source, str(tmp_path))] * 3)
    assert first == second == third
    assert first[1] == "1"


def test_where_modules_are_found_stays_with_them(shepherd: Shepherd, tmp_path: Path) -> None:
    """What comes with an import is in sys.path still; what was there before cannot go."""
    (tmp_path / "adds_a_place.py").write_text(f"import sys\nsys.path[:] = [{str(tmp_path / 'more')!r}]\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "found_there.py").write_text("")
    source = "import sys; sys.path.insert(0, args[0]); import adds_a_place"
    after = "import found_there, colorsys, sys; result = sys.path"
    first, _, found, again = shepherd.run(
        ("import sys; result = sys.path",), (source, str(tmp_path)), (after,), (after,)
    )
    assert found == again == [*first, str(tmp_path / "more")]


@pytest.mark.slow
def test_a_fresh_process_after_so_many_tasks(shepherd: Shepherd) -> None:
    pids = shepherd.run(*[("import os; result = os.getpid()",)] * 30, tasks_per_child=4)
    runs = [len(list(group)) for _, group in itertools.groupby(pids)]
    assert runs == [4] * 7 + [2]
    assert "process" not in shepherd.log()


def test_a_planned_end_is_logged_once(shepherd: Shepherd) -> None:
    assert shepherd.run(*[("import os; os.nice(1)",)] * 5) == [None] * 5
    assert shepherd.log().count("fresh process") == 1
    assert "its niceness" in shepherd.log()
